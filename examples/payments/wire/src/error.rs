//! What can be wrong with a record or with a contract.

use std::fmt;

/// A stable code, the same in every language of the project, and a sentence for a person.
#[derive(Clone, Debug, PartialEq)]
pub struct WireError {
    pub code: &'static str,
    pub detail: String,
}

impl WireError {
    /// The bytes do not decode under the schema they name.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self { code: "avro_malformed", detail: detail.into() }
    }

    /// No schema has this id, or this subject and version.
    pub fn unknown(detail: impl Into<String>) -> Self {
        Self { code: "schema_unknown", detail: detail.into() }
    }

    /// The value does not fit the schema; nothing was written.
    pub fn value(detail: impl Into<String>) -> Self {
        Self { code: "value_invalid", detail: detail.into() }
    }

    /// Writer's and reader's schema do not resolve.
    pub fn incompatible(detail: impl Into<String>) -> Self {
        Self { code: "schema_incompatible", detail: detail.into() }
    }

    /// The schema directory itself is at fault.
    pub fn contract(detail: impl Into<String>) -> Self {
        Self { code: "contract_invalid", detail: detail.into() }
    }

    /// The record's headers are not those of the contract.
    pub fn headers(detail: impl Into<String>) -> Self {
        Self { code: "headers_invalid", detail: detail.into() }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for WireError {}
