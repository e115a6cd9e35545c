//! `registry-produce` and `registry-consume`: ids and schemas from a schema registry, with the library that Rust services
//! use for it, instead of the schema directory.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use schema_registry_converter::blocking::avro::{AvroDecoder, AvroEncoder};
use schema_registry_converter::blocking::schema_registry::SrSettings;
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{SchemaType, SubjectNameStrategy, SuppliedSchema};
use serde_json::{Value as Json, json};
use shop_wire::contracts::Contracts;
use shop_wire::golden::{self, Vector};
use shop_wire::{codec, framing};

use crate::command_line::{RegistryConsumeOptions, RegistryProduceOptions};
use crate::{Failure, topics};

const EXIT_TIMEOUT: u8 = 3;
const POLL: Duration = Duration::from_millis(100);
const DELIVERY_LIMIT: Duration = Duration::from_secs(30);

/// Writes the golden vectors of one contract under the ids that the registry gives its versions as `<topic>-value`.
pub fn produce(options: &RegistryProduceOptions) -> Result<(), Failure> {
    let contracts = Contracts::open(&options.schemas)?;
    let mut vectors = golden::load(&options.schemas)?;
    vectors.retain(|vector| vector.subject == options.subject);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &options.brokers)
        .set("partitioner", "murmur2_random")
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .create()?;
    let partitions = topics::partitions(producer.client(), &options.brokers, &options.topic)?;
    for vector in &vectors {
        // An encoder keeps one schema a subject for as long as it lives; a service has one version anyway.
        let value = encode(vector, &contracts, options)?;
        println!("{}", json!({"schema_id": framing::parse(&value)?.schema_id, "partitions": partitions}));
        let record = BaseRecord::to(&options.topic).key(&vector.key).payload(&value);
        producer.send(record).map_err(|(error, _)| Failure::from(error))?;
    }
    producer.flush(DELIVERY_LIMIT)?;
    match vectors.len() {
        0 => Err(Failure::new(format!("no golden vector is of {}", options.subject))),
        _ => Ok(()),
    }
}

fn encode(
    vector: &Vector,
    contracts: &Contracts,
    options: &RegistryProduceOptions,
) -> Result<Vec<u8>, Failure> {
    let text = schema_text(&options.schemas, vector)?;
    let schema = SuppliedSchema::new(Some(vector.subject.clone()), SchemaType::Avro, text);
    let subject = SubjectNameStrategy::TopicNameStrategyWithSchema(options.topic.clone(), false, schema);
    let contract = contracts.by_version(&vector.subject, vector.version)?;
    let fields = codec::fields(&contract.schema, &vector.value)?;
    let fields = fields.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    AvroEncoder::new(settings(&options.registry)?).encode(fields, &subject).map_err(said)
}

fn schema_text(schemas: &Path, vector: &Vector) -> Result<String, Failure> {
    Ok(fs::read_to_string(schemas.join(&vector.subject).join(format!("v{}.avsc", vector.version)))?)
}

/// A JSON object a record: the schema's id and the value.
pub fn consume(options: &RegistryConsumeOptions) -> Result<(), Failure> {
    let decoder = AvroDecoder::new(settings(&options.registry)?);
    let consumer = start(options)?;
    let deadline = Instant::now() + options.timeout;
    let mut seen = 0;
    while seen < options.max {
        if Instant::now() > deadline {
            let message = format!("{seen} of {} records after {} s", options.max, options.timeout.as_secs());
            return Err(Failure { message, exit_code: EXIT_TIMEOUT });
        }
        match consumer.poll(POLL) {
            None => {}
            Some(Err(error)) => eprintln!("payments-kafka: {error}"),
            Some(Ok(record)) => {
                println!("{}", line(record.payload(), &decoder)?);
                seen += 1;
            }
        }
    }
    Ok(())
}

fn line(value: Option<&[u8]>, decoder: &AvroDecoder) -> Result<Json, Failure> {
    let decoded = decoder.decode_with_schema(value).map_err(said)?;
    let decoded = decoded.ok_or_else(|| Failure::new("the record has no value"))?;
    let value = Json::try_from(decoded.value).map_err(|error| Failure::new(error.to_string()))?;
    Ok(json!({"schema_id": decoded.schema.id, "value": value}))
}

fn start(options: &RegistryConsumeOptions) -> Result<BaseConsumer, Failure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &options.brokers)
        .set("group.id", "payments-kafka")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut everything = TopicPartitionList::new();
    for partition in 0..topics::partitions(consumer.client(), &options.brokers, &options.topic)? {
        everything.add_partition_offset(&options.topic, partition as i32, Offset::Beginning)?;
    }
    consumer.assign(&everything)?;
    Ok(consumer)
}

fn settings(url: &str) -> Result<SrSettings, Failure> {
    SrSettings::new_builder(url.to_string()).no_proxy().build().map_err(said)
}

/// Its errors' own text leaves out the cause, which is what the registry said.
fn said(error: SRCError) -> Failure {
    Failure::new(format!("schema registry: {} ({})", error.error, error.cause.unwrap_or_default()))
}
