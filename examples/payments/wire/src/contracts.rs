//! The schema directory: `<subject>/v<N>.avsc`, and `ids.jsonl` with the id and the fingerprint of each.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use apache_avro::Schema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::WireError;

/// One version of one subject.
#[derive(Debug)]
pub struct Contract {
    pub id: i32,
    pub subject: String,
    pub version: u32,
    pub schema: Schema,
}

/// All of them.
#[derive(Debug)]
pub struct Contracts(Vec<Contract>);

#[derive(Deserialize)]
struct IdLine {
    id: i32,
    subject: String,
    version: u32,
    /// SHA-256 of the schema's parsing canonical form.
    sha256: String,
}

impl Contracts {
    /// Reads the directory; a schema that is not the one its id was given to is refused.
    pub fn open(directory: &Path) -> Result<Self, WireError> {
        let ids = directory.join("ids.jsonl");
        let mut contracts = Vec::new();
        for (index, line) in read(&ids)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let line: IdLine = serde_json::from_str(line).map_err(|error| {
                WireError::contract(format!("{} line {}: {error}", ids.display(), index + 1))
            })?;
            contracts.push(load(directory, line)?);
        }
        Ok(Self(contracts))
    }

    pub fn by_id(&self, id: i32) -> Result<&Contract, WireError> {
        let found = self.0.iter().find(|contract| contract.id == id);
        found.ok_or_else(|| WireError::unknown(format!("no schema has id {id}")))
    }

    pub fn by_version(&self, subject: &str, version: u32) -> Result<&Contract, WireError> {
        let found = self.0.iter().find(|contract| contract.subject == subject && contract.version == version);
        found.ok_or_else(|| WireError::unknown(format!("no schema {subject} version {version}")))
    }
}

fn load(directory: &Path, line: IdLine) -> Result<Contract, WireError> {
    let path = directory.join(&line.subject).join(format!("v{}.avsc", line.version));
    let schema = Schema::parse_str(&read(&path)?)
        .map_err(|error| WireError::contract(format!("{}: {error}", path.display())))?;
    let sha256 = fingerprint(&schema);
    if sha256 != line.sha256 {
        let detail = format!("{} is not the schema that id {} was given to", path.display(), line.id);
        return Err(WireError::contract(format!("{detail} (sha256 {sha256}, expected {})", line.sha256)));
    }
    Ok(Contract { id: line.id, subject: line.subject, version: line.version, schema })
}

/// SHA-256 of the parsing canonical form, in hex.
///
/// `apache-avro` 0.22 leaves `{"type":"long"}` where it has taken a logical type away; the specification's rule
/// PRIMITIVES (and every other library) makes that `"long"`. Names hold no braces or quotes, so text is safe to mend.
fn fingerprint(schema: &Schema) -> String {
    let mut canonical = schema.canonical_form();
    for primitive in ["null", "boolean", "int", "long", "float", "double", "bytes", "string"] {
        canonical = canonical.replace(&format!(r#"{{"type":"{primitive}"}}"#), &format!(r#""{primitive}""#));
    }
    Sha256::digest(canonical).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn read(path: &Path) -> Result<String, WireError> {
    fs::read_to_string(path)
        .map_err(|error| WireError::contract(format!("cannot read {}: {error}", path.display())))
}
