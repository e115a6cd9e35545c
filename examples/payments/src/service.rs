//! The HTTP surface: `POST /payments`, `GET|POST /control`, `GET /health`.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;

use crate::batch::{self, EventResult, Received};
use crate::delivery::Delivery;
use crate::faults::{Change, Failure, Fate, Faults};
use crate::group_commit::GroupCommit;
use crate::ledger::{Ledger, Outcome, Refusal, Rules, STALE_TOKEN};
use crate::order::OrderPlaced;
use crate::payment::PaymentCaptured;
use crate::problem::Problem;

/// Largest body of a single delivery.
pub const BODY_LIMIT_BYTES: usize = 64 * 1024;

/// Largest body of a batch; the bridge adds no further event to one of 1 MiB.
pub const BATCH_LIMIT_BYTES: usize = 2 * 1024 * 1024;

/// What all requests share.
pub struct Service {
    pub ledger: Mutex<Ledger>,
    pub faults: Faults,
    pub dedupe: bool,
    /// None: the page cache is durable enough.
    pub group_commit: Option<GroupCommit>,
}

/// The routes. Connections must carry their peer's address ([`ConnectInfo`]).
pub fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/payments", post(take_payment))
        .route("/control", get(show_switches).post(set_switches))
        .route("/health", get(health))
        .fallback(async || {
            Problem::new(StatusCode::NOT_FOUND, "not_found", "No such resource", "see README.md")
        })
        .method_not_allowed_fallback(async || {
            let detail = "this resource does not take this method";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Wrong method", detail)
        })
        .layer(DefaultBodyLimit::max(BATCH_LIMIT_BYTES))
        .with_state(service)
}

async fn take_payment(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    if batch::is_batch(&headers) {
        let results = take_batch(&service, batch::read(&within_limit(body, BATCH_LIMIT_BYTES)?)?).await?;
        return Ok(json(&results));
    }
    let delivery = Delivery::from_headers(&headers)?;
    let order = OrderPlaced::from_json(&within_limit(body, BODY_LIMIT_BYTES)?)?;
    let fate = service.faults.draw();

    pause(fate.half_latency).await;
    let outcome = service.apply(&delivery, &order, fate)?;
    service.settle().await?;
    pause(fate.half_latency).await;
    Ok(json(&answer(outcome, fate, &delivery, &order)?))
}

/// Each event is taken, or not, as if it had come alone; they wait together.
async fn take_batch(service: &Service, events: Vec<Received>) -> Result<Vec<EventResult>, Problem> {
    let half_latency = service.faults.half_latency();
    pause(half_latency).await;
    let mut results = Vec::with_capacity(events.len());
    for Received { key, content } in events {
        let outcome = content.and_then(|(delivery, order)| {
            let fate = service.faults.draw();
            let outcome = service.apply(&delivery, &order, fate)?;
            answer(outcome, fate, &delivery, &order)
        });
        results.push(EventResult::new(key, outcome));
    }
    service.settle().await?;
    pause(half_latency).await;
    Ok(results)
}

impl Service {
    /// One step from decision to line; an error means that nothing happened. The lock is held for one `write(2)` to the
    /// page cache (microseconds), so it is taken on the runtime's own threads. The line is durable when
    /// [`Service::settle`] has returned.
    fn apply(&self, delivery: &Delivery, order: &OrderPlaced, fate: Fate) -> Result<Outcome, Problem> {
        if fate.failure == Failure::BeforeEffect {
            return Err(overloaded());
        }
        let rules = Rules { dedupe: self.dedupe, accept_declined: fate.accept_declined };
        let mut ledger = self.ledger.lock().expect("no panic under this lock");
        ledger.deliver(delivery, order, rules, now_ms()).map_err(|error| log_failed(&error))
    }

    /// Returns once every line written before is durable.
    async fn settle(&self) -> Result<(), Problem> {
        match &self.group_commit {
            Some(commit) if !commit.settled().await => Err(log_failed(&io::Error::other("fdatasync failed"))),
            _ => Ok(()),
        }
    }
}

/// What is told of an outcome.
fn answer(
    outcome: Outcome,
    fate: Fate,
    delivery: &Delivery,
    order: &OrderPlaced,
) -> Result<PaymentCaptured, Problem> {
    match outcome {
        _ if fate.failure == Failure::AfterEffect => Err(overloaded()),
        Outcome::Applied(captured) | Outcome::Repeated(captured) => Ok(captured),
        Outcome::Refused(refusal) => Err(refused(refusal, order, delivery)),
        Outcome::Fenced { highest_token } => Err(fenced(delivery, highest_token)),
    }
}

/// Sleeps, but not for nothing: a sleep of zero still waits for the timer's next millisecond.
async fn pause(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

async fn show_switches(State(service): State<Arc<Service>>) -> Response {
    json(&service.faults.switches())
}

async fn set_switches(
    State(service): State<Arc<Service>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    if !peer.ip().is_loopback() {
        let detail = "the switches can only be set from this machine";
        return Err(Problem::new(StatusCode::FORBIDDEN, "loopback_only", "Not from there", detail));
    }
    let change: Change = serde_json::from_slice(&within_limit(body, BODY_LIMIT_BYTES)?)
        .map_err(|error| Problem::invalid("body", format!("body: {error}")))?;
    let switches =
        service.faults.change(&change).map_err(|(field, detail)| Problem::invalid(field, detail))?;
    Ok(json(&switches))
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    applied: u64,
}

async fn health(State(service): State<Arc<Service>>) -> Response {
    let applied = service.ledger.lock().expect("no panic under this lock").applied();
    json(&Health { status: "ok", applied })
}

fn json(value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("plain structs always serialize");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn within_limit(body: Result<Bytes, BytesRejection>, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is larger than {limit} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "Body is too large", detail)
    };
    match body {
        Ok(body) if body.len() > limit => Err(too_large()),
        Ok(body) => Ok(body),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large()),
        Err(rejection) => Err(Problem::invalid("body", format!("body: {}", rejection.body_text()))),
    }
}

fn overloaded() -> Problem {
    let detail = "the payment service cannot answer now; send the same request again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded", detail)
}

fn log_failed(error: &io::Error) -> Problem {
    let detail =
        format!("the effect log cannot be written: {error}; free the disk, then start the service again");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "log_failed", "Effect log failed", detail)
}

fn refused(refusal: Refusal, order: &OrderPlaced, delivery: &Delivery) -> Problem {
    let (title, detail) = match refusal {
        Refusal::CardDeclined => {
            ("Card declined", format!("the card for order {} was declined", order.order_id))
        }
        Refusal::KeyConflict => {
            let detail = format!("idempotency key {:?} was used for another order or amount", delivery.key);
            ("Key used twice", detail)
        }
    };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, refusal.code(), title, detail)
}

fn fenced(delivery: &Delivery, highest_token: u64) -> Problem {
    let detail = format!("token {} is stale: this key was delivered with {highest_token}", delivery.token);
    let field = Some("bridge-token".into());
    Problem { field, ..Problem::new(StatusCode::CONFLICT, STALE_TOKEN, "Stale token", detail) }
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_millis() as u64
}
