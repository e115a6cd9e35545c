//! Avro bodies to and from JSON values; timestamps are integer milliseconds.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::Value as Json;

use crate::body_length;
use crate::error::WireError;

/// Reads a body under the schema that wrote it.
pub fn decode(writer: &Schema, body: &[u8]) -> Result<Json, WireError> {
    to_json(read(writer, None, body)?)
}

/// Reads a body under the schema that wrote it, as a reader of another version sees it.
pub fn decode_as(writer: &Schema, reader: &Schema, body: &[u8]) -> Result<Json, WireError> {
    to_json(read(writer, Some(reader), body)?)
}

/// Writes a value. One that would not be read back equal (a field missing or unknown, a number out of range) is refused.
pub fn encode(schema: &Schema, json: &Json) -> Result<Vec<u8>, WireError> {
    let invalid = |error: apache_avro::Error| WireError::value(error.to_string());
    let value = resolved(schema, json)?;
    let writer = GenericDatumWriter::builder(schema).build().map_err(invalid)?;
    let body = writer.write_value_to_vec(value).map_err(invalid)?;
    match decode(schema, &body)? {
        same if same == *json => Ok(body),
        other => Err(WireError::value(format!("{json} would be read back as {other}"))),
    }
}

/// The fields of a record, as libraries that write Avro by themselves take them.
pub fn fields(schema: &Schema, json: &Json) -> Result<Vec<(String, Value)>, WireError> {
    match resolved(schema, json)? {
        Value::Record(fields) => Ok(fields),
        other => Err(WireError::value(format!("{other:?} is no record"))),
    }
}

fn resolved(schema: &Schema, json: &Json) -> Result<Value, WireError> {
    let invalid = |error: apache_avro::Error| WireError::value(error.to_string());
    Value::try_from(json.clone()).map_err(invalid)?.resolve(schema).map_err(invalid)
}

fn read(writer: &Schema, reader: Option<&Schema>, body: &[u8]) -> Result<Value, WireError> {
    body_length::require_exact(writer, body)?;
    let as_written = GenericDatumReader::builder(writer).build().map_err(incompatible)?;
    let value =
        as_written.read_value(&mut &*body).map_err(|error| WireError::malformed(error.to_string()))?;
    match reader {
        None => Ok(value),
        Some(reader) => value.resolve(reader).map_err(incompatible),
    }
}

fn to_json(value: Value) -> Result<Json, WireError> {
    Json::try_from(value).map_err(|error| WireError::malformed(error.to_string()))
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
    fn only_a_value_that_reads_back_equal_is_written() {
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
