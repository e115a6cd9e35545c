//! How long an Avro body is, by walking it under its schema, before any value is built from it.
//!
//! `apache-avro`'s `Value` reader takes the end of the input for Null where a string or a union index should be, and
//! does not look at bytes left over. A body is therefore decoded only if the walk ends exactly at its last byte. The
//! walk also refuses what would cost more memory than the bytes suggest: deep nesting, and long runs of items that take
//! no bytes. The binary encoding is that of the Avro specification 1.12, "Binary Encoding".

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, NamesRef, ResolvedSchema, UuidSchema};

use crate::error::WireError;

/// Deepest nesting that is followed.
const MAX_DEPTH: usize = 64;

/// Fails unless `body` is one whole value of this schema, no byte less and no byte more.
pub fn require_exact(schema: &Schema, body: &[u8]) -> Result<(), WireError> {
    let resolved = ResolvedSchema::new(schema).map_err(|error| WireError::contract(error.to_string()))?;
    let mut walk = Walk { rest: body, names: resolved.get_names() };
    walk.value(schema, 0)?;
    match walk.rest.len() {
        0 => Ok(()),
        left => Err(WireError::malformed(format!("{left} bytes after the end of the value"))),
    }
}

struct Walk<'b, 's> {
    rest: &'b [u8],
    names: &'s NamesRef<'s>,
}

impl Walk<'_, '_> {
    fn value(&mut self, schema: &Schema, depth: usize) -> Result<(), WireError> {
        if depth > MAX_DEPTH {
            return Err(WireError::malformed(format!("nested deeper than {MAX_DEPTH}")));
        }
        match schema {
            Schema::Null => Ok(()),
            Schema::Boolean => self.boolean(),
            Schema::Int | Schema::Date | Schema::TimeMillis => self.int(),
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => self.long().map(drop),
            Schema::Float => self.skip(4),
            Schema::Double => self.skip(8),
            Schema::Bytes | Schema::String | Schema::BigDecimal => self.length_and_bytes(),
            Schema::Uuid(UuidSchema::Bytes | UuidSchema::String) => self.length_and_bytes(),
            Schema::Uuid(UuidSchema::Fixed(fixed)) | Schema::Fixed(fixed) | Schema::Duration(fixed) => {
                self.skip(fixed.size)
            }
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => self.length_and_bytes(),
                InnerDecimalSchema::Fixed(fixed) => self.skip(fixed.size),
            },
            Schema::Enum(symbols) => self.index(symbols.symbols.len(), "enum symbol").map(drop),
            Schema::Union(union) => {
                let index = self.index(union.variants().len(), "union branch")?;
                self.value(&union.variants()[index], depth + 1)
            }
            Schema::Record(record) => {
                record.fields.iter().try_for_each(|field| self.value(&field.schema, depth + 1))
            }
            Schema::Array(array) => self.blocks(|walk| walk.value(&array.items, depth + 1)),
            Schema::Map(map) => self.blocks(|walk| {
                walk.length_and_bytes()?;
                walk.value(&map.types, depth + 1)
            }),
            Schema::Ref { name } => match self.names.get(name) {
                Some(named) => self.value(named, depth + 1),
                None => {
                    Err(WireError::contract(format!("the schema refers to {name}, which it does not define")))
                }
            },
        }
    }

    fn boolean(&mut self) -> Result<(), WireError> {
        match self.rest.first() {
            Some(0 | 1) => self.skip(1),
            Some(other) => Err(WireError::malformed(format!("{other:#04x} is not a boolean"))),
            None => self.skip(1),
        }
    }

    fn int(&mut self) -> Result<(), WireError> {
        let number = self.long()?;
        i32::try_from(number).map(drop).map_err(|_| WireError::malformed(format!("{number} is not an int")))
    }

    /// A zig-zag variable-length number of at most ten bytes.
    fn long(&mut self) -> Result<i64, WireError> {
        let mut unsigned = 0u64;
        for shift in (0..64).step_by(7) {
            let Some((&byte, rest)) = self.rest.split_first() else { return Err(truncated()) };
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            unsigned |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((unsigned >> 1) as i64 ^ -((unsigned & 1) as i64));
            }
        }
        Err(WireError::malformed("a number longer than 64 bits"))
    }

    fn length_and_bytes(&mut self) -> Result<(), WireError> {
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| WireError::malformed(format!("length {length}")))?;
        self.skip(length)
    }

    fn index(&mut self, count: usize, what: &str) -> Result<usize, WireError> {
        let index = self.long()?;
        let known = usize::try_from(index).ok().filter(|index| *index < count);
        known.ok_or_else(|| WireError::malformed(format!("{what} {index} of {count}")))
    }

    /// Arrays and maps: blocks of items; a negative count is followed by the block's size in bytes; a count of 0 ends.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), WireError>) -> Result<(), WireError> {
        loop {
            let count = self.long()?;
            let size = if count < 0 { Some(self.long()?) } else { None };
            let before = self.rest.len();
            match count.unsigned_abs() {
                0 => return Ok(()),
                items if items > before as u64 => {
                    return Err(WireError::malformed(format!("{items} items in {before} bytes")));
                }
                items => (0..items).try_for_each(|_| item(self))?,
            }
            let taken = (before - self.rest.len()) as i64;
            if size.is_some_and(|size| size != taken) {
                return Err(WireError::malformed(format!("a block of {taken} bytes says {size:?}")));
            }
        }
    }

    fn skip(&mut self, bytes: usize) -> Result<(), WireError> {
        self.rest = self.rest.get(bytes..).ok_or_else(truncated)?;
        Ok(())
    }
}

fn truncated() -> WireError {
    WireError::malformed("the body ends in the middle of a value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &str, body: &[u8]) -> Result<(), WireError> {
        require_exact(&Schema::parse_str(schema).unwrap(), body)
    }

    #[test]
    fn blocks_with_and_without_a_size() {
        let array = r#"{"type":"array","items":"int"}"#;
        for good in [&[0][..], &[4, 2, 4, 0], &[3, 4, 2, 4, 0], &[2, 2, 2, 4, 0]] {
            assert_eq!(check(array, good), Ok(()), "{good:?}");
        }
        for bad in [&[][..], &[4, 2, 0], &[4, 2, 4], &[3, 6, 2, 4, 0], &[0, 0]] {
            assert_eq!(check(array, bad).unwrap_err().code, "avro_malformed", "{bad:?}");
        }
    }

    #[test]
    fn items_without_bytes_do_not_multiply() {
        let nulls = r#"{"type":"array","items":"null"}"#;
        assert!(check(nulls, &[0x80, 0xb4, 0x89, 0x13, 0]).unwrap_err().detail.contains("20000000 items"));
    }

    #[test]
    fn ranges_are_kept() {
        for (schema, bad) in [
            (r#"["null","int"]"#, &[4][..]),
            (r#"["null","int"]"#, &[1]),
            (r#"{"type":"enum","name":"E","symbols":["A"]}"#, &[2]),
            (r#""boolean""#, &[2]),
            (r#""int""#, &[0x80, 0x80, 0x80, 0x80, 0x20]),
            (r#""long""#, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]),
            (r#""string""#, &[1]),
        ] {
            assert_eq!(check(schema, bad).unwrap_err().code, "avro_malformed", "{schema} {bad:?}");
        }
        let lowest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(check(r#""long""#, &lowest), Ok(()));
    }

    #[test]
    fn recursion_is_bounded() {
        let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
        assert_eq!(check(list, &[2, 2, 0]), Ok(()));
        assert!(check(list, &[2; 10_000]).unwrap_err().detail.contains("nested deeper"));
    }
}
