//! `produce-golden`: the record of each vector, written as a Rust producer should write.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use shop_wire::contracts::Contracts;
use shop_wire::golden::{self, Vector};

use crate::command_line::ProduceOptions;
use crate::{Failure, topics};

const DELIVERY_LIMIT: Duration = Duration::from_secs(30);

/// Where each vector's record went, by the vector's number.
type Delivered = Result<(i32, i64), KafkaError>;

#[derive(Default)]
struct Deliveries(Mutex<Vec<(usize, Delivered)>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<usize>) {
        let delivered = match result {
            Ok(record) => Ok((record.partition(), record.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock().expect("no panic under this lock").push((*number, delivered));
    }
}

pub fn run(options: &ProduceOptions) -> Result<(), Failure> {
    let contracts = Contracts::open(&options.schemas)?;
    let vectors = golden::load(&options.schemas)?;
    let producer: BaseProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", &options.brokers)
        // librdkafka's own default would put keys elsewhere than the Java client does.
        .set("partitioner", "murmur2_random")
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", DELIVERY_LIMIT.as_millis().to_string())
        .create_with_context(Deliveries::default())?;
    let partitions = topics::partitions(producer.client(), &options.brokers, &options.topic)?;

    for (number, vector) in vectors.iter().enumerate() {
        let value = vector.encode(&contracts)?;
        let record = BaseRecord::with_opaque_to(&options.topic, Box::new(number))
            .key(&vector.key)
            .payload(&value)
            .headers(headers(vector));
        producer.send(record).map_err(|(error, _)| Failure::from(error))?;
    }
    producer.flush(DELIVERY_LIMIT)?;
    report(&vectors, partitions, producer.context())
}

fn headers(vector: &Vector) -> OwnedHeaders {
    vector
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// A line a record; fails if one was not acknowledged, or is not on the partition where every other language puts it.
fn report(vectors: &[Vector], partitions: u32, deliveries: &Deliveries) -> Result<(), Failure> {
    let mut deliveries = deliveries.0.lock().expect("no panic under this lock");
    deliveries.sort_by_key(|(number, _)| *number);
    if deliveries.len() != vectors.len() {
        return Err(Failure::new(format!("{} of {} records acknowledged", deliveries.len(), vectors.len())));
    }
    for (number, delivered) in deliveries.iter() {
        let vector = &vectors[*number];
        let (partition, offset) = delivered.clone()?;
        let line = serde_json::json!({"vector": vector.name, "partition": partition, "offset": offset});
        println!("{line}");
        let expected = match partitions {
            4 => vector.partition_of_4,
            12 => vector.partition_of_12,
            _ => continue,
        };
        if partition as u32 != expected {
            let detail = format!("went to partition {partition} of {partitions}, expected {expected}");
            return Err(Failure::new(format!("{} {detail}", vector.name)));
        }
    }
    Ok(())
}
