//! The switches of `/control`.

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Delivery, Folder, Service, kinds};

#[test]
fn lost_answers_come_again_and_are_repeats() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &["--fault-seed", "42"]);
    let mut connection = service.connect();
    connection.switch(json!({"error_rate": 0.5}));
    let mut errors = 0;
    for number in 0..200 {
        let delivery = Delivery::of(&format!("o-{number}"));
        loop {
            let answer = connection.deliver(&delivery);
            if answer.status == 200 {
                break;
            }
            assert_eq!((answer.status, answer.problem_code().as_str()), (503, "overloaded"));
            errors += 1;
        }
    }
    let kinds = kinds(&folder.log());
    let repeats = kinds.iter().filter(|kind| *kind == "repeat").count();
    assert_eq!(kinds.len() - repeats, 200, "one effect an order");
    assert!(errors > 100, "{errors} errors");
    assert!(
        repeats * 10 > errors * 3 && repeats * 10 < errors * 7,
        "{repeats} of {errors} came after the effect"
    );
}

#[test]
fn switches_are_shown_and_left_alone_unless_named() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &["--accept-declined"]);
    let mut connection = service.connect();
    let expected = json!({"latency_ms": 60, "error_rate": 0.0, "accept_declined": true});
    assert_eq!(connection.switch(json!({"latency_ms": 60})).json(), expected);
    assert_eq!(connection.get("/control").json(), expected);
    let start = Instant::now();
    assert_eq!(connection.deliver(&Delivery::of("o-1")).status, 200);
    assert!(start.elapsed() >= Duration::from_millis(60));

    for (wrong, field) in [
        (json!({"error_rate": 1.5}), "error_rate"),
        (json!({"latency_ms": 3_600_000}), "latency_ms"),
        (json!({"latency_ms": -1}), "body"),
        (json!({"latncy_ms": 1}), "body"),
    ] {
        let answer = connection.switch(wrong);
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some(field)));
    }
    assert_eq!(connection.get("/control").json(), expected);
}
