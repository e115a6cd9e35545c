//! Topics are looked up before they are used: a client that subscribes to one that is not there yet only gets an error
//! later, and may be the one that creates it with the wrong number of partitions.

use std::time::Duration;

use rdkafka::client::{Client, ClientContext};

use crate::Failure;

const LOOK_UP_LIMIT: Duration = Duration::from_secs(10);

/// Number of partitions of a topic that must exist.
pub fn partitions<C: ClientContext>(client: &Client<C>, brokers: &str, topic: &str) -> Result<u32, Failure> {
    let metadata = client
        .fetch_metadata(Some(topic), LOOK_UP_LIMIT)
        .map_err(|error| Failure::new(format!("Kafka at {brokers} does not answer: {error}")))?;
    match metadata.topics().first() {
        Some(found) if found.error().is_none() => Ok(found.partitions().len() as u32),
        _ => Err(Failure::new(format!(
            "topic {topic} does not exist; create it with its partition count first"
        ))),
    }
}
