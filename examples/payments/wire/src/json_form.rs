//! Avro values as the JSON of the wire contract, and back: decimals are texts ("12.30"), bytes and fixed base64, dates and
//! times the integers that are on the wire, unions the bare value.
//!
//! `apache-avro`'s own conversion has bytes as arrays of numbers and decimals without their point. It also writes what
//! others cannot read: a decimal of more digits than its schema allows. That is refused here, and so is a record that
//! lacks a field or has one too many.

use std::collections::HashMap;

use apache_avro::schema::{DecimalSchema, NamesRef, RecordSchema, ResolvedSchema, UnionSchema};
use apache_avro::types::Value;
use apache_avro::{Decimal, Duration, Schema, Uuid};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Number, Value as Json};

use crate::error::WireError;

const DAY_MICROS: i64 = 86_400_000_000;
/// The first and the last day of the years 1 to 9999, counted from 1970-01-01: what every language has.
const DAYS: (i64, i64) = (-719_162, 2_932_896);
const MICROS: (i64, i64) = (DAYS.0 * DAY_MICROS, (DAYS.1 + 1) * DAY_MICROS - 1);
const MILLIS: (i64, i64) = (DAYS.0 * (DAY_MICROS / 1000), (DAYS.1 + 1) * (DAY_MICROS / 1000) - 1);
/// Digits of the longest decimal that an `i128` holds.
const MAX_DIGITS: usize = 38;

/// A value of this schema as JSON.
pub fn to_json(schema: &Schema, value: Value) -> Result<Json, WireError> {
    let resolved = ResolvedSchema::new(schema).map_err(|error| WireError::contract(error.to_string()))?;
    Form { names: resolved.get_names() }.render(schema, value)
}

/// JSON as a value of this schema.
pub fn from_json(schema: &Schema, json: &Json) -> Result<Value, WireError> {
    let resolved = ResolvedSchema::new(schema).map_err(|error| WireError::contract(error.to_string()))?;
    Form { names: resolved.get_names() }.build(schema, json)
}

struct Form<'s> {
    names: &'s NamesRef<'s>,
}

impl Form<'_> {
    fn definition<'a>(&'a self, schema: &'a Schema) -> Result<&'a Schema, WireError> {
        let Schema::Ref { name } = schema else { return Ok(schema) };
        let found = self.names.get(name).copied();
        found.ok_or_else(|| WireError::contract(format!("the schema does not define {name}")))
    }

    fn render(&self, schema: &Schema, value: Value) -> Result<Json, WireError> {
        Ok(match (self.definition(schema)?, value) {
            (Schema::Union(union), Value::Union(index, value)) => {
                self.render(&union.variants()[index as usize], *value)?
            }
            (Schema::Record(record), Value::Record(values)) => {
                let mut entries = Map::new();
                for (field, (name, value)) in record.fields.iter().zip(values) {
                    entries.insert(name, self.render(&field.schema, value)?);
                }
                Json::Object(entries)
            }
            (Schema::Array(array), Value::Array(items)) => {
                let items = items.into_iter().map(|item| self.render(&array.items, item));
                Json::Array(items.collect::<Result<_, _>>()?)
            }
            (Schema::Map(map), Value::Map(values)) => {
                let mut entries = Map::new();
                for (key, value) in values {
                    entries.insert(key, self.render(&map.types, value)?);
                }
                Json::Object(entries)
            }
            (Schema::Decimal(decimal), Value::Decimal(value)) => Json::String(decimal_text(decimal, &value)?),
            (_, value) => render_scalar(value)?,
        })
    }

    fn build(&self, schema: &Schema, json: &Json) -> Result<Value, WireError> {
        match (self.definition(schema)?, json) {
            (Schema::Union(union), json) => self.build_branch(union, json),
            (Schema::Record(record), Json::Object(entries)) => self.build_record(record, entries),
            (Schema::Array(array), Json::Array(items)) => {
                let items = items.iter().map(|item| self.build(&array.items, item));
                Ok(Value::Array(items.collect::<Result<_, _>>()?))
            }
            (Schema::Map(map), Json::Object(entries)) => {
                let mut values = HashMap::new();
                for (key, entry) in entries {
                    values.insert(key.clone(), self.build(&map.types, entry)?);
                }
                Ok(Value::Map(values))
            }
            (schema, json) => build_scalar(schema, json),
        }
    }

    /// The first branch that the value fits.
    fn build_branch(&self, union: &UnionSchema, json: &Json) -> Result<Value, WireError> {
        let built = union.variants().iter().map(|branch| self.build(branch, json));
        let found = (0u32..).zip(built).find_map(|(index, built)| Some((index, built.ok()?)));
        let (index, value) =
            found.ok_or_else(|| WireError::value(format!("{json} fits no branch of its union")))?;
        Ok(Value::Union(index, Box::new(value)))
    }

    fn build_record(&self, record: &RecordSchema, entries: &Map<String, Json>) -> Result<Value, WireError> {
        if let Some(unknown) = entries.keys().find(|key| !record.lookup.contains_key(*key)) {
            return Err(WireError::value(format!("{} has no field {unknown}", record.name)));
        }
        let mut values = Vec::new();
        for field in &record.fields {
            let entry = entries.get(&field.name);
            let entry = entry.ok_or_else(|| WireError::value(format!("{} is missing", field.name)))?;
            values.push((field.name.clone(), self.build(&field.schema, entry)?));
        }
        Ok(Value::Record(values))
    }
}

fn render_scalar(value: Value) -> Result<Json, WireError> {
    Ok(match value {
        Value::Bytes(octets) | Value::Fixed(_, octets) => Json::String(BASE64.encode(octets)),
        Value::Duration(duration) => Json::String(BASE64.encode(<[u8; 12]>::from(duration))),
        Value::Float(number) => float_json(number.into()),
        Value::Double(number) => float_json(number),
        other => Json::try_from(other).map_err(|error| WireError::malformed(error.to_string()))?,
    })
}

fn float_json(number: f64) -> Json {
    let word = if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    Number::from_f64(number).map_or_else(|| word.into(), Json::Number)
}

fn build_scalar(schema: &Schema, json: &Json) -> Result<Value, WireError> {
    let wrong = || WireError::value(format!("{json} is no {schema:?}"));
    Ok(match schema {
        Schema::Null if json.is_null() => Value::Null,
        Schema::Boolean => Value::Boolean(json.as_bool().ok_or_else(wrong)?),
        Schema::Float => Value::Float(float(json).ok_or_else(wrong)? as f32),
        Schema::Double => Value::Double(float(json).ok_or_else(wrong)?),
        Schema::String => Value::String(json.as_str().ok_or_else(wrong)?.to_owned()),
        Schema::Enum(symbols) => {
            let text = json.as_str().ok_or_else(wrong)?;
            let index = symbols.symbols.iter().position(|symbol| symbol == text).ok_or_else(wrong)?;
            Value::Enum(index as u32, text.to_owned())
        }
        Schema::Bytes => Value::Bytes(octets(json).ok_or_else(wrong)?),
        Schema::Fixed(fixed) => {
            let octets = octets(json).filter(|octets| octets.len() == fixed.size).ok_or_else(wrong)?;
            Value::Fixed(fixed.size, octets)
        }
        Schema::Duration(_) => {
            let octets =
                octets(json).and_then(|octets| <[u8; 12]>::try_from(octets).ok()).ok_or_else(wrong)?;
            Value::Duration(Duration::from(octets))
        }
        Schema::Uuid(_) => {
            let text = json.as_str().filter(|text| text.len() == 36).ok_or_else(wrong)?;
            Value::Uuid(Uuid::parse_str(text).map_err(|_| wrong())?)
        }
        Schema::Decimal(decimal) => {
            let unscaled = json.as_str().and_then(|text| unscaled(decimal, text)).ok_or_else(wrong)?;
            Value::Decimal(Decimal::from(shortest(unscaled)))
        }
        _ => build_integer(schema, json).ok_or_else(wrong)?,
    })
}

/// Numbers, also those that stand for dates and times, within what every language reads.
fn build_integer(schema: &Schema, json: &Json) -> Option<Value> {
    let number = json.as_i64()?;
    let within = |(low, high): (i64, i64)| (low..=high).contains(&number);
    let int = i32::try_from(number).ok();
    match schema {
        Schema::Int => int.map(Value::Int),
        Schema::Long => Some(Value::Long(number)),
        Schema::Date if within(DAYS) => int.map(Value::Date),
        Schema::TimeMillis if within((0, DAY_MICROS / 1000 - 1)) => int.map(Value::TimeMillis),
        Schema::TimeMicros if within((0, DAY_MICROS - 1)) => Some(Value::TimeMicros(number)),
        Schema::TimestampMillis if within(MILLIS) => Some(Value::TimestampMillis(number)),
        Schema::TimestampMicros if within(MICROS) => Some(Value::TimestampMicros(number)),
        Schema::LocalTimestampMillis if within(MILLIS) => Some(Value::LocalTimestampMillis(number)),
        Schema::LocalTimestampMicros if within(MICROS) => Some(Value::LocalTimestampMicros(number)),
        _ => None,
    }
}

fn float(json: &Json) -> Option<f64> {
    match json.as_str() {
        None => json.as_f64(),
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
    }
}

fn octets(json: &Json) -> Option<Vec<u8>> {
    BASE64.decode(json.as_str()?).ok()
}

/// All digits of the scale; more digits than the precision are refused, which the library reads.
fn decimal_text(schema: &DecimalSchema, value: &Decimal) -> Result<String, WireError> {
    let malformed = || WireError::malformed(format!("a decimal of more than {} digits", schema.precision));
    let octets = Vec::<u8>::try_from(value).map_err(|error| WireError::malformed(error.to_string()))?;
    let unscaled = from_octets(&octets).ok_or_else(malformed)?;
    let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = schema.scale + 1);
    if digits.trim_start_matches('0').len() > schema.precision.min(MAX_DIGITS) {
        return Err(malformed());
    }
    let sign = if unscaled < 0 { "-" } else { "" };
    let (whole, rest) = digits.split_at(digits.len() - schema.scale);
    Ok(if rest.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest}") })
}

/// A text such as "-12.30" without its point; None where it is no such text or has too many digits.
fn unscaled(schema: &DecimalSchema, text: &str) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{rest:0<width$}", width = schema.scale);
    let significant = all.trim_start_matches('0').len();
    let is_number = !whole.is_empty() && all.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number || rest.len() > schema.scale || significant > schema.precision.min(MAX_DIGITS) {
        return None;
    }
    all.parse::<i128>().ok().map(|number| if negative { -number } else { number })
}

/// Two's complement, most significant byte first, without bytes that only repeat the sign.
fn shortest(number: i128) -> Vec<u8> {
    let octets = number.to_be_bytes();
    let fits = |from: &usize| from_octets(&octets[*from..]) == Some(number);
    let from = (0..octets.len()).rev().find(fits).unwrap_or(0);
    octets[from..].to_vec()
}

/// None where the number does not fit an `i128`. No bytes are 0, as in every other library.
fn from_octets(octets: &[u8]) -> Option<i128> {
    let sign = if octets.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
    let extra = octets.len().saturating_sub(16);
    let mut all = [sign; 16];
    all[16 - (octets.len() - extra)..].copy_from_slice(&octets[extra..]);
    let number = i128::from_be_bytes(all);
    let fits = octets[..extra].iter().all(|octet| *octet == sign) && (number < 0) == (sign != 0);
    fits.then_some(number)
}

#[cfg(test)]
mod tests {
    use apache_avro::writer::datum::GenericDatumWriter;
    use serde_json::json;

    use super::*;

    fn decimal(precision: usize, scale: usize) -> Schema {
        let schema =
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale});
        Schema::parse(&schema).unwrap()
    }

    #[test]
    fn decimals_keep_every_digit() {
        let largest = "9".repeat(28) + "." + &"9".repeat(10);
        for (precision, scale, texts) in [
            (9, 2, &["0.00", "0.01", "-0.01", "-1.28", "1.28", "9999999.99", "-9999999.99"][..]),
            (4, 0, &["0", "-128", "128", "9999"]),
            (2, 2, &["0.99", "-0.01"]),
            (38, 10, &[&largest]),
        ] {
            let schema = decimal(precision, scale);
            for text in texts {
                let value = from_json(&schema, &json!(text)).unwrap();
                assert_eq!(to_json(&schema, value).unwrap(), json!(text));
            }
        }
    }

    #[test]
    fn decimals_are_as_short_as_they_can_be() {
        for (number, octets) in
            [(0, &[0][..]), (127, &[127]), (128, &[0, 128]), (-128, &[128]), (-129, &[255, 127])]
        {
            assert_eq!(shortest(number), octets);
            assert_eq!(from_octets(octets), Some(number));
        }
        assert_eq!(from_octets(&[0xff; 20]), Some(-1));
        assert_eq!(from_octets(&[1; 17]), None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let money = decimal(4, 2);
        for wrong in ["1.234", "123.45", "1,2", "", "-", ".5", "1e2", "+1", "١"] {
            assert_eq!(from_json(&money, &json!(wrong)).unwrap_err().code, "value_invalid", "{wrong}");
        }
        let too_long = Value::Decimal(Decimal::from([1, 0, 0, 0]));
        let writer = GenericDatumWriter::builder(&money).build().unwrap();
        assert!(writer.write_value_to_vec(too_long.clone()).is_ok(), "fixed upstream: the guard could go");
        assert_eq!(to_json(&money, too_long).unwrap_err().code, "avro_malformed");
        let uuid = Schema::parse_str(r#"{"type":"string","logicalType":"uuid"}"#).unwrap();
        for wrong in ["hello", "12345678123456781234567812345678"] {
            assert_eq!(from_json(&uuid, &json!(wrong)).unwrap_err().code, "value_invalid", "{wrong}");
        }
    }
}
