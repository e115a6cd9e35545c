//! What cannot be understood is told, field by field, and leaves no trace in the log.

mod support;

use serde_json::json;
use support::{Delivery, Folder, Service, lines};

#[test]
fn a_missing_or_wrong_header_is_named() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &[]);
    let mut connection = service.connect();
    let required = [
        "content-type",
        "ce-specversion",
        "ce-id",
        "ce-source",
        "ce-type",
        "idempotency-key",
        "bridge-attempt",
        "bridge-crashes",
        "bridge-token",
        "bridge-origin",
    ];
    let missing = required.map(|name| (name, Delivery::of("o-1").without(name)));
    let wrong = [
        ("content-type", "text/plain"),
        ("ce-specversion", "0.3"),
        ("ce-type", "shop.OrderCancelled"),
        ("ce-id", "%zz"),
        ("ce-id", ""),
        ("idempotency-key", &"k".repeat(1025)),
        ("bridge-attempt", "0"),
        ("bridge-crashes", "-1"),
        ("bridge-token", "seven"),
        ("bridge-origin", "orders.placed/41"),
        ("bridge-origin", "/0/41"),
    ]
    .map(|(name, value)| (name, Delivery::of("o-1").header(name, value)));
    let mut twice = Delivery::of("o-1");
    twice.headers.push(("idempotency-key".into(), "another".into()));

    for (name, delivery) in missing.into_iter().chain(wrong).chain([("idempotency-key", twice)]) {
        let answer = connection.deliver(&delivery);
        assert_eq!((answer.status, answer.problem_code().as_str()), (400, "request_invalid"), "{name}");
        assert_eq!(answer.json()["field"], name, "{answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(name), "{answer:?}");
    }
    assert!(lines(&folder.log()).is_empty());
}

#[test]
fn a_missing_or_wrong_body_field_is_named() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &[]);
    let mut connection = service.connect();
    for (field, value) in [
        ("order_id", json!("")),
        ("order_id", json!(5)),
        ("amount_cents", json!("12.99")),
        ("amount_cents", json!(9_223_372_036_854_775_808_u64)),
        ("currency", json!("DOGE")),
        ("placed_at", json!("2026-09-21T14:13:20Z")),
        ("note", json!([])),
        ("lines", json!({})),
    ] {
        let answer = connection.deliver(&Delivery::of("o-1").order(field, value.clone()));
        assert_eq!(answer.status, 400, "{field} = {value}");
        assert_eq!(answer.json()["field"], field, "{answer:?}");
    }
    let usual = Delivery::of("o-1");
    for body in ["", "not json", "[]", "{}"] {
        let answer = connection.post("/payments", &usual.headers, body.as_bytes());
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some("body")), "{body:?}");
    }
    assert!(lines(&folder.log()).is_empty());
}

#[test]
fn bodies_above_the_limit_unknown_paths_and_methods_are_problems_too() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &[]);
    let fits = Delivery::of("o-1").order("note", json!("x".repeat(60_000)));
    assert_eq!(service.connect().deliver(&fits).status, 200);
    let large = service.connect().deliver(&Delivery::of("o-2").order("note", json!("x".repeat(65_536))));
    assert_eq!((large.status, large.problem_code().as_str()), (413, "body_too_large"));
    let unknown = service.connect().get("/nowhere");
    assert_eq!((unknown.status, unknown.problem_code().as_str()), (404, "not_found"));
    let method = service.connect().get("/payments");
    assert_eq!((method.status, method.problem_code().as_str()), (405, "method_not_allowed"));
}
