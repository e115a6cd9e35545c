//! Sends one event of docs/guides/evolve-an-event.md with stock clients: rdkafka for Kafka, schema_registry_converter for
//! the schema registry.
//!
//! publish BROKERS REGISTRY TOPIC SCHEMA.avsc ID SKU PIECES [SHELF]

use std::error::Error;
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use schema_registry_converter::blocking::avro::AvroEncoder;
use schema_registry_converter::blocking::schema_registry::SrSettings;
use schema_registry_converter::schema_registry_common::{SchemaType, SubjectNameStrategy, SuppliedSchema};
use serde::Serialize;

/// The event in its first version.
#[derive(Serialize)]
struct StockCounted {
    sku: String,
    pieces: i32,
}

/// The event in its second version. apache-avro takes the fields of the schema and no others: a type for each version.
#[derive(Serialize)]
#[serde(rename = "StockCounted")]
struct StockCountedV2 {
    sku: String,
    pieces: i32,
    shelf: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, registry, topic, schema, id, sku, pieces, shelf @ ..] = given.as_slice() else {
        return Err("publish BROKERS REGISTRY TOPIC SCHEMA.avsc ID SKU PIECES [SHELF]".into());
    };
    let (key, pieces) = (sku.clone(), pieces.parse()?);
    let value = match shelf.first().cloned() {
        None => encode(registry, schema, StockCounted { sku: key, pieces })?,
        Some(shelf) => encode(registry, schema, StockCountedV2 { sku: key, pieces, shelf })?,
    };
    publish(brokers, topic, id, sku, &value)
}

/// Registers the schema, which a registry that has it answers with the same id, and frames the event with that id.
fn encode(registry: &str, schema: &str, event: impl Serialize) -> Result<Vec<u8>, Box<dyn Error>> {
    let text = std::fs::read_to_string(schema)?;
    let schema = SuppliedSchema::new(Some("shop.StockCounted".into()), SchemaType::Avro, text);
    let settings = SrSettings::new_builder(registry.into()).no_proxy().build()?;
    let subject = SubjectNameStrategy::RecordNameStrategyWithSchema(schema);
    Ok(AvroEncoder::new(settings).encode_struct(event, &subject)?)
}

/// What Kafka refused, if it did.
#[derive(Default)]
struct Refused(OnceLock<KafkaError>);

impl ClientContext for Refused {}

impl ProducerContext for Refused {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let _ = self.0.set(error.clone());
        }
    }
}

/// Sends one record and waits until Kafka has it. The key decides the partition, and so what stays in order; `ce_source`
/// and `ce_id` together are what duplicates are told by.
fn publish(brokers: &str, topic: &str, id: &str, key: &str, value: &[u8]) -> Result<(), Box<dyn Error>> {
    let producer: BaseProducer<Refused> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("message.timeout.ms", "30000")
        .set("partitioner", "murmur2_random") // librdkafka's own default puts keys elsewhere than Go and Java do
        .set("enable.idempotence", "true")
        .create_with_context(Refused::default())?;
    let mut headers = OwnedHeaders::new();
    for (key, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", "/shop/stock-rust"),
        ("ce_type", "shop.StockCounted"),
        ("content-type", "application/avro"),
    ] {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let record = BaseRecord::to(topic).key(key).payload(value).headers(headers);
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(Duration::from_secs(40))?;
    producer.context().0.get().map_or(Ok(()), |error| Err(error.clone().into()))
}
