//! The golden vectors of the project, read and written in Rust; and a damaged one, which must be noticed.

use std::path::Path;

use payments::order::OrderPlaced;
use serde_json::{Value, json};
use shop_wire::contracts::Contracts;
use shop_wire::golden::{self, Vector};

fn schemas() -> &'static Path {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas").as_ref()
}

#[test]
fn every_vector_is_read_and_written_byte_for_byte() {
    let contracts = Contracts::open(schemas()).unwrap();
    let vectors = golden::load(schemas()).unwrap();
    assert!(vectors.len() >= 5, "{}", vectors.len());
    for vector in vectors {
        assert_eq!(vector.differences(&contracts), Vec::<String>::new(), "{}", vector.name);
    }
}

#[test]
fn a_damaged_vector_is_noticed() {
    let contracts = Contracts::open(schemas()).unwrap();
    let file = schemas().join("golden/order-placed-v1.json");
    let whole: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    for (pointer, damaged, noticed) in [
        ("/value/amount_cents", json!(1300), &["decode", "encode"][..]),
        ("/partition_of_4", json!(3), &["partition_of_4"]),
        ("/partition_of_12", json!(3), &["partition_of_12"]),
        ("/read_as/value/channel", json!("shop"), &["read_as"]),
        ("/headers/3/1", json!("shop.PaymentCaptured"), &["headers"]),
        ("/schema_id", json!(2), &["decode"]),
        ("/hex", json!("0000000001"), &["decode", "encode", "read_as"]),
    ] {
        let mut vector = whole.clone();
        *vector.pointer_mut(pointer).expect(pointer) = damaged;
        let vector: Vector = serde_json::from_value(vector).unwrap();
        let differences = vector.differences(&contracts);
        let names: Vec<_> = differences.iter().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(names, noticed, "{pointer}: {differences:?}");
    }
}

#[test]
fn the_service_takes_every_order_of_the_vectors() {
    for vector in golden::load(schemas()).unwrap() {
        let named = vector.value["order_id"] != "" && vector.subject == "shop.OrderPlaced";
        let body = vector.value.to_string();
        assert_eq!(OrderPlaced::from_json(body.as_bytes()).is_ok(), named, "{}", vector.name);
    }
}

#[test]
fn a_schema_that_was_changed_under_its_id_is_refused() {
    let folder = std::env::temp_dir().join(format!("payments-schemas-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("shop.OrderPlaced")).unwrap();
    let ids = std::fs::read_to_string(schemas().join("ids.jsonl")).unwrap();
    let first = ids.lines().find(|line| line.contains("OrderPlaced")).unwrap();
    let schema = std::fs::read_to_string(schemas().join("shop.OrderPlaced/v1.avsc")).unwrap();
    std::fs::write(folder.join("ids.jsonl"), first).unwrap();
    let opened = [schema.clone(), schema.replace("sku", "article")].map(|text| {
        std::fs::write(folder.join("shop.OrderPlaced/v1.avsc"), text).unwrap();
        Contracts::open(&folder)
    });
    std::fs::remove_dir_all(&folder).unwrap();
    let [same, changed] = opened;
    assert!(same.is_ok(), "{same:?}");
    let error = changed.unwrap_err();
    assert!(error.detail.contains("v1.avsc is not the schema that id 1 was given to"), "{error}");
}
