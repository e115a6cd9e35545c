//! `conformance`: answers the questions of `broker-bridge schemas conformance`, one JSON object a line, with the codec that
//! the other commands use.

use std::collections::HashMap;
use std::io::{BufRead, Write};

use serde::Deserialize;
use serde_json::{Value as Json, json};
use shop_wire::codec::Schema;
use shop_wire::error::WireError;
use shop_wire::{codec, framing, partitioner};

use crate::Failure;

/// What is asked; which members there are depends on `action`.
#[derive(Deserialize)]
struct Question {
    id: u64,
    #[serde(rename = "do")]
    action: String,
    #[serde(default)]
    schema_id: i32,
    #[serde(default)]
    schema: String,
    reader_schema: Option<String>,
    #[serde(default)]
    hex: String,
    #[serde(default)]
    value: Json,
    #[serde(default)]
    key_hex: String,
    #[serde(default)]
    partitions: u32,
}

pub fn run() -> Result<(), Failure> {
    let mut schemas = Schemas::default();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let asked: Question = serde_json::from_str(&line?)?;
        let mut answer = schemas.answer(&asked).unwrap_or_else(|error| json!({"error": error.to_string()}));
        answer["id"] = asked.id.into();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// Parsed schemas, by their texts.
#[derive(Default)]
struct Schemas(HashMap<String, Schema>);

impl Schemas {
    fn parsed(&mut self, text: &str) -> Result<Schema, WireError> {
        if let Some(known) = self.0.get(text) {
            return Ok(known.clone());
        }
        let schema = Schema::parse_str(text).map_err(|error| WireError::contract(error.to_string()))?;
        self.0.insert(text.to_owned(), schema.clone());
        Ok(schema)
    }

    fn answer(&mut self, asked: &Question) -> Result<Json, WireError> {
        Ok(match &*asked.action {
            "decode" => json!({"value": self.decode(asked)?}),
            "encode" => {
                let body = codec::encode(&self.parsed(&asked.schema)?, &asked.value)?;
                json!({"hex": to_hex(&framing::frame(asked.schema_id, &body))})
            }
            "partition" => {
                json!({"partition": partitioner::partition(&from_hex(&asked.key_hex)?, asked.partitions)})
            }
            other => json!({"skip": format!("not known here: {other}")}),
        })
    }

    fn decode(&mut self, asked: &Question) -> Result<Json, WireError> {
        let value = from_hex(&asked.hex)?;
        let framed = framing::parse(&value)?;
        if framed.schema_id != asked.schema_id {
            return Err(WireError::unknown(format!("no schema has id {}", framed.schema_id)));
        }
        let writer = self.parsed(&asked.schema)?;
        match &asked.reader_schema {
            None => codec::decode(&writer, framed.body),
            Some(text) => codec::decode_as(&writer, &self.parsed(text)?, framed.body),
        }
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>, WireError> {
    let pair = |pair| str::from_utf8(pair).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let octets = text.as_bytes().chunks(2).map(pair).collect::<Option<_>>();
    octets.ok_or_else(|| WireError::malformed("not hexadecimal"))
}

fn to_hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
