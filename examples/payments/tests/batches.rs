//! Many deliveries in one request: each is taken, refused or found wrong by itself.

mod support;

use serde_json::{Value, json};
use support::{Answer, Connection, Delivery, Folder, Service, kinds, lines};

const BATCH: &str = "application/cloudevents-batch+json";

fn event(order_id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": order_id, "source": "/shop/orders", "type": "shop.OrderPlaced",
        "time": "2026-09-21T14:13:20.000Z", "subject": "customer-17", "datacontenttype": "application/json",
        "idempotencykey": format!("/shop/orders#{order_id}"), "bridgeattempt": 1, "bridgecrashes": 0,
        "bridgetoken": "1790000000000007", "bridgeorigin": "orders.placed/2/41", "data": Delivery::of(order_id).order,
    })
}

fn with(mut event: Value, field: &str, value: Value) -> Value {
    event[field] = value;
    event
}

fn send(connection: &mut Connection, events: &[Value]) -> Answer {
    let headers = [("content-type".into(), BATCH.into())];
    connection.post("/payments", &headers, json!(events).to_string().as_bytes())
}

fn statuses(answer: &Answer) -> Vec<u64> {
    let results = answer.json();
    results.as_array().expect("an array").iter().map(|result| result["status"].as_u64().unwrap()).collect()
}

#[test]
fn every_event_is_applied_once_and_answered_under_its_key() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &["--fsync"]);
    let mut connection = service.connect();
    let events = [event("o-1"), event("o-2"), event("o-1")];
    let answer = send(&mut connection, &events);

    assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/json"));
    let results = answer.json();
    let keys: Vec<_> = results.as_array().unwrap().iter().map(|result| &result["idempotencykey"]).collect();
    assert_eq!(keys, ["/shop/orders#o-1", "/shop/orders#o-2", "/shop/orders#o-1"]);
    assert_eq!(statuses(&answer), [200, 200, 200]);
    assert_eq!(results[0]["result"]["payment_id"], "p-o-1");
    assert_eq!(results[2]["result"], results[0]["result"], "a repeat gets the stored answer");
    assert_eq!(kinds(&folder.log()), ["applied", "applied", "repeat"]);
    assert_eq!(lines(&folder.log())[1]["token"], 1_790_000_000_000_007_u64);

    // One that comes again by itself is known all the same.
    assert_eq!(
        connection.deliver(&Delivery::of("o-2").header("bridge-token", "1790000000000008")).status,
        200
    );
    assert_eq!(kinds(&folder.log())[3], "repeat");
}

#[test]
fn what_is_wrong_with_one_event_is_told_of_that_one() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &[]);
    let mut connection = service.connect();
    let mut no_lines = event("o-3");
    no_lines["data"]["lines"] = json!("two");
    let mut declined = event("o-4");
    declined["data"]["note"] = json!("card-declined");
    let events = [
        event("o-1"),
        with(event("o-2"), "type", json!("shop.OrderCancelled")),
        no_lines,
        declined,
        with(event("o-1"), "bridgetoken", json!("3")),
        with(event("o-5"), "bridgetoken", json!(7)),
        with(event("o-6"), "data", Value::Null),
        with(event("o-7"), "idempotencykey", json!(7)),
        json!("no event"),
        event("o-8"),
    ];
    let answer = send(&mut connection, &events);
    assert_eq!(statuses(&answer), [200, 400, 400, 422, 409, 400, 400, 400, 400, 200]);
    let results = answer.json();
    for (place, field) in [(1, "type"), (2, "data.lines"), (4, "bridge-token"), (5, "bridgetoken")] {
        assert_eq!(results[place]["problem"]["field"], field, "{}", results[place]);
    }
    let refused = &results[3]["problem"];
    assert_eq!((&refused["code"], &refused["status"]), (&json!("card_declined"), &json!(422)));
    assert!(results[7].get("idempotencykey").is_none() && results[8].get("idempotencykey").is_none());
    assert_eq!(kinds(&folder.log()), ["applied", "refused", "fenced", "applied"]);
}

#[test]
fn a_body_that_is_no_batch_is_refused_as_a_whole() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &[]);
    let mut connection = service.connect();
    let headers = [("content-type".into(), BATCH.into())];
    for body in ["", "{}", "[", "7"] {
        let answer = connection.post("/payments", &headers, body.as_bytes());
        assert_eq!((answer.status, answer.problem_code().as_str()), (400, "request_invalid"), "{body}");
    }
    let mut large = event("o-1");
    large["data"]["note"] = json!("x".repeat(2 * 1024 * 1024));
    let answer = send(&mut connection, &[large]);
    assert_eq!((answer.status, answer.problem_code().as_str()), (413, "body_too_large"));
    assert_eq!(statuses(&send(&mut service.connect(), &[])), [0_u64; 0]);
    assert!(lines(&folder.log()).is_empty());
}

#[test]
fn errors_on_demand_strike_single_events() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &[]);
    let mut connection = service.connect();
    connection.switch(json!({"error_rate": 0.5, "latency_ms": 2}));
    let events: Vec<_> = (0..100).map(|number| event(&format!("o-{number}"))).collect();
    let statuses = statuses(&send(&mut connection, &events));
    let failed = statuses.iter().filter(|status| **status == 503).count();
    assert!((20..80).contains(&failed), "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 100 - failed);
    assert!(kinds(&folder.log()).len() > 100 - failed, "half of the failures are after the effect");
}
