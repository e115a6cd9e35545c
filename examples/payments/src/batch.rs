//! Many deliveries in one request, and what became of each: CloudEvents HTTP binding, batched content mode.
//!
//! An event that cannot be read, or that is refused, says so in its own result; the others are taken all the same.

use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::delivery::{self, Delivery, EVENT_TYPE};
use crate::order::OrderPlaced;
use crate::payment::PaymentCaptured;
use crate::problem::Problem;

/// The media type that tells a batch from a single delivery.
pub const CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// One event; the bridge's attributes are extensions of CloudEvents, whose integers have 32 bits: the token is text.
#[derive(Deserialize)]
struct Event {
    specversion: String,
    id: String,
    r#type: String,
    idempotencykey: String,
    bridgeattempt: u64,
    bridgecrashes: u64,
    bridgetoken: String,
    bridgeorigin: String,
}

/// What is known of an event when it was read: the key to answer it by, if there is one, and the delivery.
pub struct Received {
    pub key: Option<String>,
    pub content: Result<(Delivery, OrderPlaced), Problem>,
}

/// What became of one event.
#[derive(Debug, PartialEq, Serialize)]
pub struct EventResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotencykey: Option<String>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<PaymentCaptured>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

impl EventResult {
    pub fn new(key: Option<String>, outcome: Result<PaymentCaptured, Problem>) -> Self {
        let status = outcome.as_ref().map_or_else(|problem| problem.status.as_u16(), |_| 200);
        let (result, problem) = match outcome {
            Ok(captured) => (Some(captured), None),
            Err(problem) => (None, Some(problem)),
        };
        Self { idempotencykey: key, status, result, problem }
    }
}

/// Whether the request carries a batch.
pub fn is_batch(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case(CONTENT_TYPE)
}

/// The events of a batch. Only a body that is no array is refused as a whole.
pub fn read(body: &[u8]) -> Result<Vec<Received>, Problem> {
    let events: Vec<Value> =
        serde_json::from_slice(body).map_err(|error| Problem::invalid("body", format!("body: {error}")))?;
    let received = |event: Value| Received {
        key: event.get("idempotencykey").and_then(Value::as_str).map(String::from),
        content: read_event(event),
    };
    Ok(events.into_iter().map(received).collect())
}

fn read_event(mut event: Value) -> Result<(Delivery, OrderPlaced), Problem> {
    let data = event.get_mut("data").map(Value::take).unwrap_or_default();
    let event: Event = serde_path_to_error::deserialize(event)
        .map_err(|error| Problem::invalid(error.path().to_string(), error.to_string()))?;
    let unexpected = |field: &str, expected: &str, found: &str| {
        Problem::invalid(field, format!("{field}: expected {expected}, got {found:?}"))
    };
    if event.specversion != "1.0" {
        return Err(unexpected("specversion", "\"1.0\"", &event.specversion));
    }
    if event.r#type != EVENT_TYPE {
        return Err(unexpected("type", EVENT_TYPE, &event.r#type));
    }
    for (field, value) in [("id", &event.id), ("idempotencykey", &event.idempotencykey)] {
        if value.is_empty() || value.len() > delivery::MAX_VALUE_BYTES {
            let detail = format!("{field}: expected 1 to {} bytes", delivery::MAX_VALUE_BYTES);
            return Err(Problem::invalid(field, detail));
        }
    }
    if !delivery::is_origin(&event.bridgeorigin) {
        return Err(unexpected("bridgeorigin", "topic/partition/offset", &event.bridgeorigin));
    }
    let Ok(token) = event.bridgetoken.parse() else {
        return Err(unexpected("bridgetoken", "a whole number as text", &event.bridgetoken));
    };
    let delivery = Delivery {
        key: event.idempotencykey,
        ce_id: event.id,
        attempt: event.bridgeattempt,
        crashes: event.bridgecrashes,
        token,
        replay_id: None, // a replay is never in a batch
        origin: event.bridgeorigin,
    };
    Ok((delivery, OrderPlaced::from_value(data)?))
}
