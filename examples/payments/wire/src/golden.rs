//! The golden vectors: records that Python, Go and Rust must write and read alike.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::contracts::Contracts;
use crate::error::WireError;
use crate::{codec, framing, headers, partitioner};

/// One vector, as its file states it.
#[derive(Debug, Deserialize)]
pub struct Vector {
    pub name: String,
    pub subject: String,
    pub version: u32,
    pub schema_id: i32,
    pub key: String,
    pub partition_of_4: u32,
    pub partition_of_12: u32,
    pub headers: Vec<(String, String)>,
    pub value: Json,
    /// The framed bytes.
    pub hex: String,
    /// The same bytes as a reader of another version sees them.
    pub read_as: Option<ReadAs>,
}

#[derive(Debug, Deserialize)]
pub struct ReadAs {
    pub version: u32,
    pub value: Json,
}

/// All vectors of a schema directory, by name.
pub fn load(schemas: &Path) -> Result<Vec<Vector>, WireError> {
    let folder = schemas.join("golden");
    let said = |error: &dyn std::fmt::Display| WireError::contract(format!("{}: {error}", folder.display()));
    let mut vectors: Vec<Vector> = Vec::new();
    for file in fs::read_dir(&folder).map_err(|error| said(&error))? {
        let path = file.map_err(|error| said(&error))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = fs::read_to_string(&path).map_err(|error| said(&error))?;
            let vector = serde_json::from_str(&text)
                .map_err(|error| WireError::contract(format!("{}: {error}", path.display())))?;
            vectors.push(vector);
        }
    }
    if vectors.is_empty() {
        return Err(said(&"no vectors there"));
    }
    vectors.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(vectors)
}

impl Vector {
    /// The record's value, encoded here from the vector's JSON.
    pub fn encode(&self, contracts: &Contracts) -> Result<Vec<u8>, WireError> {
        let contract = contracts.by_version(&self.subject, self.version)?;
        Ok(framing::frame(contract.id, &codec::encode(&contract.schema, &self.value)?))
    }

    /// Everything in which this implementation differs from the vector; empty is what it should be.
    pub fn differences(&self, contracts: &Contracts) -> Vec<String> {
        [
            ("decode", self.check_decode(contracts)),
            ("encode", self.check_encode(contracts)),
            ("read_as", self.check_read_as(contracts)),
            ("cut bodies", self.check_cut_bodies(contracts)),
            ("headers", headers::check(&self.headers, &self.subject).map_err(|error| error.to_string())),
            ("partition_of_4", same(&partitioner::partition(self.key.as_bytes(), 4), &self.partition_of_4)),
            (
                "partition_of_12",
                same(&partitioner::partition(self.key.as_bytes(), 12), &self.partition_of_12),
            ),
        ]
        .into_iter()
        .filter_map(|(what, result)| result.err().map(|difference| format!("{what}: {difference}")))
        .collect()
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        let pairs = self.hex.as_bytes().chunks(2);
        let parse = |pair| str::from_utf8(pair).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
        pairs.map(|pair| parse(pair).ok_or_else(|| "hex: not hexadecimal".to_string())).collect()
    }

    fn check_decode(&self, contracts: &Contracts) -> Result<(), String> {
        let bytes = self.bytes()?;
        let framed = framing::parse(&bytes).map_err(|error| error.to_string())?;
        same(&framed.schema_id, &self.schema_id)?;
        let contract = contracts.by_id(framed.schema_id).map_err(|error| error.to_string())?;
        same(&(&*contract.subject, contract.version), &(&*self.subject, self.version))?;
        let value = codec::decode(&contract.schema, framed.body).map_err(|error| error.to_string())?;
        same(&value, &self.value)
    }

    fn check_encode(&self, contracts: &Contracts) -> Result<(), String> {
        same(&self.encode(contracts).map_err(|error| error.to_string())?, &self.bytes()?)
    }

    fn check_read_as(&self, contracts: &Contracts) -> Result<(), String> {
        let Some(read_as) = &self.read_as else { return Ok(()) };
        let bytes = self.bytes()?;
        let resolved = || {
            let framed = framing::parse(&bytes)?;
            let writer = contracts.by_id(framed.schema_id)?;
            let reader = contracts.by_version(&self.subject, read_as.version)?;
            codec::decode_as(&writer.schema, &reader.schema, framed.body)
        };
        same(&resolved().map_err(|error: WireError| error.to_string())?, &read_as.value)
    }

    /// No shorter body and no longer one may pass for this value.
    fn check_cut_bodies(&self, contracts: &Contracts) -> Result<(), String> {
        let mut bytes = self.bytes()?;
        bytes.push(0);
        let framed = framing::parse(&bytes).map_err(|error| error.to_string())?;
        let contract = contracts.by_id(framed.schema_id).map_err(|error| error.to_string())?;
        let whole = framed.body.len() - 1;
        match (0..=whole + 1)
            .find(|end| *end != whole && codec::decode(&contract.schema, &framed.body[..*end]).is_ok())
        {
            Some(end) => Err(format!("{end} bytes of {whole} were taken for a value")),
            None => Ok(()),
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(got: &T, expected: &T) -> Result<(), String> {
    match got == expected {
        true => Ok(()),
        false => Err(format!("got {got:?}, expected {expected:?}")),
    }
}
