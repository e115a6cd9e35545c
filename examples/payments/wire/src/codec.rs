//! Avro bodies to and from the JSON of the wire contract ([`crate::json_form`]).

pub use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::Value as Json;

use crate::error::WireError;
use crate::{aliases, body_length, json_form};

/// Reads a body under the schema that wrote it.
pub fn decode(writer: &Schema, body: &[u8]) -> Result<Json, WireError> {
    json_form::to_json(writer, read(writer, None, body)?)
}

/// Reads a body under the schema that wrote it, as a reader of another version sees it.
pub fn decode_as(writer: &Schema, reader: &Schema, body: &[u8]) -> Result<Json, WireError> {
    json_form::to_json(reader, read(writer, Some(reader), body)?)
}

/// Writes a value. One that does not fit (a field missing or unknown, a number out of range) is refused.
pub fn encode(schema: &Schema, json: &Json) -> Result<Vec<u8>, WireError> {
    let invalid = |error: apache_avro::Error| WireError::value(error.to_string());
    let value = json_form::from_json(schema, json)?;
    let writer = GenericDatumWriter::builder(schema).build().map_err(invalid)?;
    writer.write_value_to_vec(value).map_err(invalid)
}

/// The fields of a record, as libraries that write Avro by themselves take them.
pub fn fields(schema: &Schema, json: &Json) -> Result<Vec<(String, Value)>, WireError> {
    match json_form::from_json(schema, json)? {
        Value::Record(fields) => Ok(fields),
        other => Err(WireError::value(format!("{other:?} is no record"))),
    }
}

fn read(writer: &Schema, reader: Option<&Schema>, body: &[u8]) -> Result<Value, WireError> {
    body_length::require_exact(writer, body)?;
    let as_written = GenericDatumReader::builder(writer).build().map_err(incompatible)?;
    let value =
        as_written.read_value(&mut &*body).map_err(|error| WireError::malformed(error.to_string()))?;
    match reader {
        None => Ok(value),
        Some(reader) => aliases::follow(reader, value)?.resolve(reader).map_err(incompatible),
    }
}

fn incompatible(error: apache_avro::Error) -> WireError {
    WireError::incompatible(error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RECORD: &str = r#"{"type":"record","name":"R","fields":[
        {"name":"n","type":"int"},{"name":"s","type":["null","string"],"default":null}]}"#;

    #[test]
    fn only_a_value_that_fits_is_written() {
        let schema = Schema::parse_str(RECORD).unwrap();
        let body = encode(&schema, &json!({"n": -1, "s": "ü"})).unwrap();
        assert_eq!(body, [1, 2, 4, 0xc3, 0xbc]);
        for wrong in [
            json!({"n": 1}),
            json!({"n": 1, "s": null, "more": 1}),
            json!({"n": 2_147_483_648_i64, "s": null}),
            json!({"n": "1", "s": null}),
            json!([]),
        ] {
            assert_eq!(encode(&schema, &wrong).unwrap_err().code, "value_invalid", "{wrong}");
        }
    }

    #[test]
    fn the_library_alone_would_take_a_cut_body() {
        let schema = Schema::parse_str(RECORD).unwrap();
        let bare = GenericDatumReader::builder(&schema).build().unwrap();
        assert!(bare.read_value(&mut &[2][..]).is_ok(), "fixed upstream: the guard could go");
        assert_eq!(decode(&schema, &[2]).unwrap_err().code, "avro_malformed");
    }

    #[test]
    fn a_reader_that_cannot_resolve_says_so() {
        let writer = Schema::parse_str(r#""string""#).unwrap();
        let reader = Schema::parse_str(r#""int""#).unwrap();
        assert_eq!(decode_as(&writer, &reader, &[2, b'x']).unwrap_err().code, "schema_incompatible");
    }
}
