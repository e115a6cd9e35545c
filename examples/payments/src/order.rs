//! The order that arrives: `shop.OrderPlaced` as JSON.

use serde_json::Value;

use crate::problem::Problem;

/// `shop.OrderPlaced`, versions 1 and 2. Fields that this service does not know are ignored: a later version of the
/// contract may add some. `placed_at` is milliseconds since the epoch.
pub use crate::events::{Currency, OrderLine, OrderPlaced};

impl OrderPlaced {
    /// Reads an order; the problem names the field at fault, such as `lines[0].quantity`.
    pub fn from_json(body: &[u8]) -> Result<Self, Problem> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let order: Self = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { "body".into() } else { path };
            Problem::invalid(field, error.to_string())
        })?;
        json.end().map_err(|error| Problem::invalid("body", error.to_string()))?;
        order.with_names()
    }

    /// The same from JSON that is parsed already: the data of an event in a batch.
    pub fn from_value(data: Value) -> Result<Self, Problem> {
        let order: Self = serde_path_to_error::deserialize(data)
            .map_err(|error| Problem::invalid(format!("data.{}", error.path()), error.to_string()))?;
        order.with_names()
    }

    fn with_names(self) -> Result<Self, Problem> {
        for (field, value) in [("order_id", &self.order_id), ("customer_id", &self.customer_id)] {
            if value.is_empty() {
                return Err(Problem::invalid(field, format!("{field} is empty")));
            }
        }
        Ok(self)
    }

    /// Whether the card company says no to this order (in this example the note tells).
    pub fn is_declined(&self) -> bool {
        self.note.as_deref() == Some("card-declined")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION_1: &str = r#"{"order_id":"o-1","customer_id":"c-1","amount_cents":1299,"currency":"EUR",
        "placed_at":1790000000000,"note":null,"lines":[{"sku":"SKU-1","quantity":2}]}"#;

    #[test]
    fn version_1_gets_the_default_of_version_2() {
        assert_eq!(OrderPlaced::from_json(VERSION_1.as_bytes()).unwrap().channel, "web");
    }

    #[test]
    fn a_field_at_fault_is_named() {
        for (from, to, field) in [
            (r#""quantity":2"#, r#""quantity":"two""#, "lines[0].quantity"),
            (r#""quantity":2"#, r#""quantity":3000000000"#, "lines[0].quantity"),
            ("1299", "12.5", "amount_cents"),
            ("EUR", "DOGE", "currency"),
            (r#""o-1""#, r#""""#, "order_id"),
            (r#"2}]}"#, r#"2}]} {}"#, "body"),
            (r#"2}]}"#, "", "lines[0].quantity"),
        ] {
            let problem = OrderPlaced::from_json(VERSION_1.replace(from, to).as_bytes()).expect_err(to);
            assert_eq!(problem.field.as_deref(), Some(field), "{to}: {problem:?}");
        }
        let missing =
            OrderPlaced::from_json(VERSION_1.replace(r#""order_id":"o-1","#, "").as_bytes()).unwrap_err();
        assert!(missing.detail.contains("order_id"), "{missing:?}");
    }
}
