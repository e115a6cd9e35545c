//! Confluent framing: `0x00`, the schema id as a big-endian int32, the Avro body.

use crate::error::WireError;

const MAGIC: u8 = 0;
const HEAD_BYTES: usize = 5;

/// A value taken apart.
#[derive(Debug, PartialEq)]
pub struct Framed<'v> {
    pub schema_id: i32,
    pub body: &'v [u8],
}

/// Takes a record's value apart.
pub fn parse(value: &[u8]) -> Result<Framed<'_>, WireError> {
    match value {
        [MAGIC, a, b, c, d, body @ ..] => {
            Ok(Framed { schema_id: i32::from_be_bytes([*a, *b, *c, *d]), body })
        }
        [MAGIC, ..] | [] => {
            Err(WireError::malformed(format!("{} bytes are too few for a framed value", value.len())))
        }
        [first, ..] => {
            Err(WireError::malformed(format!("first byte is {first:#04x}, not the framing's 0x00")))
        }
    }
}

/// Puts a record's value together.
pub fn frame(schema_id: i32, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD_BYTES + body.len());
    value.push(MAGIC);
    value.extend(schema_id.to_be_bytes());
    value.extend(body);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_framed_is_parsed_back() {
        let value = frame(258, b"body");
        assert_eq!(value, [0, 0, 0, 1, 2, b'b', b'o', b'd', b'y']);
        assert_eq!(parse(&value).unwrap(), Framed { schema_id: 258, body: b"body" });
        assert_eq!(parse(&frame(i32::MAX, b"")).unwrap(), Framed { schema_id: i32::MAX, body: b"" });
    }

    #[test]
    fn what_is_not_framed_is_refused() {
        for value in [&b""[..], b"\0", b"\0\0\0\0", b"{\"order_id\":1}", b"\x01\0\0\0\x01"] {
            assert_eq!(parse(value).unwrap_err().code, "avro_malformed", "{value:?}");
        }
    }
}
