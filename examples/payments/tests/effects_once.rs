//! One effect a key: applied, repeated, refused, fenced.

mod support;

use serde_json::json;
use support::{Delivery, Folder, Service, kinds, lines};

#[test]
fn an_order_is_applied_logged_and_answered_with_the_contract() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &[]);
    let delivery = Delivery::of("o-1").header("bridge-attempt", "3").header("bridge-replay-id", "r-9");
    let answer = service.connect().deliver(&delivery);

    assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/json"));
    let line = lines(&folder.log()).remove(0);
    let at_ms = line["at_ms"].clone();
    assert!(at_ms.as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(
        answer.json(),
        json!({"payment_id": "p-o-1", "order_id": "o-1", "customer_id": "customer-17", "amount_cents": 1299,
            "currency": "EUR", "sequence": 1, "captured_at": at_ms})
    );
    assert_eq!(
        line,
        json!({"seq": 1, "kind": "applied", "key": "/shop/orders#o-1", "ce_id": "o-1", "order_id": "o-1",
            "customer_id": "customer-17", "amount_cents": 1299, "currency": "EUR", "attempt": 3, "crashes": 0,
            "token": 7, "replay_id": "r-9", "origin": "orders.placed/2/41", "at_ms": at_ms})
    );
}

#[test]
fn a_repeat_gets_the_stored_answer() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &[]);
    let mut connection = service.connect();
    let first = connection.deliver(&Delivery::of("o-1"));
    connection.deliver(&Delivery::of("o-2"));
    let again =
        connection.deliver(&Delivery::of("o-1").header("bridge-attempt", "2").header("bridge-token", "8"));

    assert_eq!((again.status, again.body), (200, first.body));
    assert_eq!(kinds(&folder.log()), ["applied", "applied", "repeat"]);
    assert_eq!(connection.get("/health").json(), json!({"status": "ok", "applied": 2}));
}

#[test]
fn keys_are_taken_as_they_are_and_event_ids_are_percent_decoded() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &[]);
    let delivery = Delivery::of("o-1").header("idempotency-key", "/a%23b#ü").header("ce-id", "%C3%BC%20%25");
    assert_eq!(service.connect().deliver(&delivery).status, 200);
    let line = lines(&folder.log()).remove(0);
    assert_eq!((line["key"].as_str(), line["ce_id"].as_str()), (Some("/a%23b#ü"), Some("ü %")));
}

#[test]
fn without_dedupe_every_delivery_is_an_effect() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &["--no-dedupe"]);
    let mut connection = service.connect();
    for token in ["7", "8", "6"] {
        assert_eq!(connection.deliver(&Delivery::of("o-1").header("bridge-token", token)).status, 200);
    }
    assert_eq!(kinds(&folder.log()), ["applied", "applied", "applied"]);
}

#[test]
fn a_key_used_for_another_order_is_refused_not_answered() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &[]);
    let mut connection = service.connect();
    connection.deliver(&Delivery::of("o-1"));
    let other = connection.deliver(&Delivery::of("o-1").order("amount_cents", json!(1)));

    assert_eq!((other.status, other.problem_code().as_str()), (422, "key_conflict"));
    assert_eq!(lines(&folder.log())[1]["code"], "key_conflict");
}

#[test]
fn a_declined_card_is_refused_until_it_is_accepted() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &[]);
    let mut connection = service.connect();
    let declined = Delivery::of("o-1").order("note", json!("card-declined"));
    let refused = connection.deliver(&declined);
    assert_eq!((refused.status, refused.problem_code().as_str()), (422, "card_declined"));

    connection.switch(json!({"accept_declined": true}));
    assert_eq!(connection.deliver(&declined).status, 200);
    assert_eq!(kinds(&folder.log()), ["refused", "applied"]);
    drop(service);

    let fixed = Service::start(&folder.log(), &["--accept-declined"]);
    assert_eq!(
        fixed.connect().deliver(&Delivery::of("o-2").order("note", json!("card-declined"))).status,
        200
    );
}

#[test]
fn a_worker_that_lost_the_key_is_fenced() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &[]);
    let mut connection = service.connect();
    let declined =
        |token| Delivery::of("o-1").order("note", json!("card-declined")).header("bridge-token", token);
    // The token counts even where nothing was applied under it.
    assert_eq!(connection.deliver(&declined("9")).status, 422);
    let stale = connection.deliver(&Delivery::of("o-1").header("bridge-token", "8"));
    assert_eq!((stale.status, stale.problem_code().as_str()), (409, "stale_token"));
    assert_eq!(connection.deliver(&Delivery::of("o-1").header("bridge-token", "9")).status, 200);
    assert_eq!(
        connection.deliver(&Delivery::of("o-2").header("bridge-token", "1")).status,
        200,
        "another key"
    );
    assert_eq!(kinds(&folder.log()), ["refused", "fenced", "applied", "applied"]);
    assert_eq!(lines(&folder.log())[1]["code"], "stale_token");
}

#[test]
fn the_same_key_at_the_same_time_is_one_effect() {
    let folder = Folder::new();
    let service = Service::start(&folder.log(), &["--fsync"]);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut connection = service.connect();
                for number in 0..20 {
                    let answer = connection.deliver(&Delivery::of(&format!("o-{number}")));
                    assert_eq!(
                        (answer.status, answer.json()["order_id"].as_str()),
                        (200, Some(&*format!("o-{number}")))
                    );
                }
            });
        }
    });
    let kinds = kinds(&folder.log());
    assert_eq!(kinds.len(), 64 * 20);
    assert_eq!(kinds.iter().filter(|kind| *kind == "applied").count(), 20);
}
