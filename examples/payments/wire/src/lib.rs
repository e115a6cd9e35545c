//! The wire contract of the shop's Kafka records, as a Rust service with its own Kafka client needs it.
//!
//! [`framing`] (schema id and body), [`contracts`] (the schema directory), [`codec`] with [`body_length`],
//! [`json_form`] and [`aliases`] (Avro bodies, read strictly), [`headers`], [`partitioner`] (where a key goes), and [`golden`]: the vectors that every language
//! reads and writes alike.

pub mod aliases;
pub mod body_length;
pub mod codec;
pub mod contracts;
pub mod error;
pub mod framing;
pub mod golden;
pub mod headers;
pub mod json_form;
pub mod partitioner;
