//! `src/events.rs` is generated; the newest schema is what it must say. These tests need no generator.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use payments::events::OrderPlaced;
use serde_json::{Value, json};

fn newest_schema() -> Value {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/shop.OrderPlaced"));
    let version = |path: &PathBuf| path.file_stem()?.to_str()?.strip_prefix('v')?.parse::<u32>().ok();
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let newest = files.max_by_key(version).unwrap();
    serde_json::from_str(&std::fs::read_to_string(newest).unwrap()).unwrap()
}

/// A value of a schema, an enum's at one of its symbols.
fn sample(schema: &Value, symbol: usize) -> Value {
    match schema {
        Value::Array(branches) => sample(branches.last().unwrap(), symbol),
        Value::Object(of) => match of["type"].as_str().unwrap() {
            "record" => {
                let fields = of["fields"].as_array().unwrap().iter();
                fields.map(|field| (name(field), sample(&field["type"], symbol))).collect()
            }
            "array" => json!([sample(&of["items"], symbol)]),
            "enum" => of["symbols"][symbol % of["symbols"].as_array().unwrap().len()].clone(),
            plain => sample(&json!(plain), symbol),
        },
        plain => match plain.as_str().unwrap() {
            "string" => json!("text"),
            "boolean" => json!(true),
            "int" => json!(i32::MAX),
            "long" => json!(i64::MIN),
            other => panic!("this test knows no {other}"),
        },
    }
}

fn name(field: &Value) -> String {
    field["name"].as_str().unwrap().into()
}

/// Why the generated types are not those of the schema.
fn difference(schema: &Value) -> Option<String> {
    for symbol in 0..8 {
        let value = sample(schema, symbol);
        let again = match serde_json::from_value::<OrderPlaced>(value.clone()) {
            Ok(order) => serde_json::to_value(order).unwrap(),
            Err(error) => return Some(error.to_string()),
        };
        if again != value {
            return Some(format!("{value} comes back as {again}"));
        }
    }
    None
}

#[test]
fn they_are_those_of_the_newest_schema() {
    let hint = "generate src/events.rs again, as README.md says";
    assert_eq!(difference(&newest_schema()), None, "{hint}");
}

#[test]
fn every_way_to_drift_is_noticed() {
    let changed = |change: fn(&mut Value)| {
        let mut schema = newest_schema();
        change(&mut schema);
        difference(&schema)
    };
    let noticed: BTreeSet<_> = [
        changed(|schema| {
            schema["fields"].as_array_mut().unwrap().push(json!({"name": "gift", "type": "boolean"}))
        }),
        changed(|schema| schema["fields"][0]["name"] = json!("id")),
        changed(|schema| schema["fields"][2]["type"] = json!("string")),
        changed(|schema| schema["fields"][3]["type"]["symbols"] = json!(["EUR", "CHF"])),
        changed(|schema| schema["fields"][6]["type"]["items"]["fields"][1]["type"] = json!("long")),
    ]
    .into_iter()
    .collect();
    assert!(!noticed.contains(&None), "{noticed:?}");
    assert_eq!(noticed.len(), 5, "{noticed:?}");
}
