//! The id of a kind of failure, as every reporter of dead letters makes it: codes only, never messages.

use serde_json::Value;
use sha2::{Digest, Sha256};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../schemas/failure-fingerprints.json");

fn failure_fingerprint(code: &str, target_code: &str) -> String {
    let digest = Sha256::digest(format!("v1\n{code}\n{target_code}"));
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_vectors() {
    let file: Value = serde_json::from_str(&std::fs::read_to_string(VECTORS).unwrap()).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert!(!vectors.is_empty());
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        assert_eq!(failure_fingerprint(text("code"), text("target_code")), text("fingerprint"), "{vector}");
    }
}
