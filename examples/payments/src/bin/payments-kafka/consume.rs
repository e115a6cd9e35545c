//! `consume`: records as one JSON object a line, decoded under the contract; what does not decode is said in its place.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::Serialize;
use serde_json::{Value as Json, json};
use shop_wire::contracts::Contracts;
use shop_wire::error::WireError;
use shop_wire::{codec, framing};

use crate::command_line::ConsumeOptions;
use crate::{Failure, topics};

const EXIT_TIMEOUT: u8 = 3;
const POLL: Duration = Duration::from_millis(100);

/// One record. Text that is not UTF-8 is `{"hex": …}`.
#[derive(Serialize)]
struct Line<'r> {
    topic: &'r str,
    partition: i32,
    offset: i64,
    key: Json,
    headers: Vec<(String, Json)>,
    #[serde(flatten)]
    value: Decoded,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Decoded {
    Value { schema_id: i32, subject: String, version: u32, value: Json },
    Tombstone { value: () },
    Error { error: &'static str, detail: String },
}

pub fn run(options: &ConsumeOptions) -> Result<(), Failure> {
    let contracts = Contracts::open(&options.schemas)?;
    let consumer = start(options)?;
    let deadline = Instant::now() + options.timeout;
    let mut seen = 0;
    while seen < options.max && Instant::now() < deadline {
        match consumer.poll(POLL) {
            None => {}
            // A broker that is away for a moment comes back; the deadline bounds the wait.
            Some(Err(error)) => eprintln!("payments-kafka: {error}"),
            Some(Ok(record)) => {
                print(&record, &contracts)?;
                seen += 1;
            }
        }
    }
    if options.group.is_some() && seen > 0 {
        consumer.commit_consumer_state(CommitMode::Sync)?;
    }
    if seen < options.max {
        let message = format!("{seen} of {} records after {} s", options.max, options.timeout.as_secs());
        return Err(Failure { message, exit_code: EXIT_TIMEOUT });
    }
    Ok(())
}

/// A consumer at the beginning of every partition, or at the group's offsets.
fn start(options: &ConsumeOptions) -> Result<BaseConsumer, Failure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &options.brokers)
        .set("group.id", options.group.as_deref().unwrap_or("payments-kafka"))
        .set("auto.offset.reset", "earliest")
        // Offsets are committed when the lines are out, not by a timer.
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()?;
    let mut everything = TopicPartitionList::new();
    for topic in &options.topics {
        for partition in 0..topics::partitions(consumer.client(), &options.brokers, topic)? {
            everything.add_partition_offset(topic, partition as i32, Offset::Beginning)?;
        }
    }
    match options.group {
        Some(_) => consumer.subscribe(&options.topics.iter().map(String::as_str).collect::<Vec<_>>())?,
        None => consumer.assign(&everything)?,
    }
    Ok(consumer)
}

fn print(record: &BorrowedMessage<'_>, contracts: &Contracts) -> Result<(), Failure> {
    let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
    let line = Line {
        topic: record.topic(),
        partition: record.partition(),
        offset: record.offset(),
        key: text(record.key()),
        headers: headers.map(|header| (header.key.to_string(), text(header.value))).collect(),
        value: match record.payload() {
            None => Decoded::Tombstone { value: () },
            Some(value) => decode(value, contracts)
                .unwrap_or_else(|error| Decoded::Error { error: error.code, detail: error.detail }),
        },
    };
    writeln!(io::stdout(), "{}", serde_json::to_string(&line)?)?;
    Ok(())
}

fn decode(value: &[u8], contracts: &Contracts) -> Result<Decoded, WireError> {
    let framed = framing::parse(value)?;
    let contract = contracts.by_id(framed.schema_id)?;
    Ok(Decoded::Value {
        schema_id: contract.id,
        subject: contract.subject.clone(),
        version: contract.version,
        value: codec::decode(&contract.schema, framed.body)?,
    })
}

fn text(bytes: Option<&[u8]>) -> Json {
    let Some(bytes) = bytes else { return Json::Null };
    match str::from_utf8(bytes) {
        Ok(text) => Json::from(text),
        Err(_) => json!({"hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()}),
    }
}
