//! The event headers of a record: CloudEvents 1.0 Kafka binding (binary mode), W3C trace context, and the contract's own.

use crate::error::WireError;

/// Content type of an Avro body.
pub const CONTENT_TYPE_AVRO: &str = "application/avro";

/// Every name, in the order in which a producer writes them; the first seven are always there.
pub const ORDER: [&str; 13] = [
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "ce_subject",
    "content-type",
    "traceparent",
    "tracestate",
    "correlation-id",
    "causation-id",
    "idempotency-key",
    "deadline",
];
const REQUIRED: usize = 7;

/// Fails unless these are the headers of an event of this type, in order.
pub fn check(headers: &[(String, String)], event_type: &str) -> Result<(), WireError> {
    let value_of =
        |name: &str| headers.iter().find(|(present, _)| present == name).map(|(_, value)| &**value);
    if let Some(missing) = ORDER[..REQUIRED].iter().find(|name| value_of(name).is_none()) {
        return Err(WireError::headers(format!("{missing} is missing")));
    }
    for (name, expected) in
        [("ce_specversion", "1.0"), ("ce_type", event_type), ("content-type", CONTENT_TYPE_AVRO)]
    {
        if value_of(name) != Some(expected) {
            return Err(WireError::headers(format!("{name} is {:?}, expected {expected:?}", value_of(name))));
        }
    }
    let mut order = ORDER.iter();
    match headers.iter().find(|(name, _)| !order.any(|known| known == name)) {
        Some((name, _)) => Err(WireError::headers(format!("{name} is unknown, repeated or out of order"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers = Vec<(String, String)>;
    type Damage = fn(&mut Headers);

    fn event() -> Headers {
        let mut headers: Vec<_> = ORDER.iter().map(|name| (String::from(*name), String::from("x"))).collect();
        headers[0].1 = "1.0".into();
        headers[3].1 = "shop.OrderPlaced".into();
        headers[6].1 = CONTENT_TYPE_AVRO.into();
        headers
    }

    #[test]
    fn missing_wrong_repeated_and_misplaced_headers_are_named() {
        assert_eq!(check(&event(), "shop.OrderPlaced"), Ok(()));
        assert_eq!(check(&event()[..7], "shop.OrderPlaced"), Ok(()));
        let broken: [(&str, Damage); 4] = [
            ("ce_id", |headers| drop(headers.remove(1))),
            ("ce_specversion", |headers| headers[0].1 = "0.3".into()),
            ("deadline", |headers| headers.push(("deadline".into(), "again".into()))),
            ("ce_id", |headers| headers.swap(1, 2)),
        ];
        for (named, damage) in broken {
            let mut headers = event();
            damage(&mut headers);
            let error = check(&headers, "shop.OrderPlaced").expect_err(named);
            assert!(error.detail.starts_with(named), "{error}");
        }
    }
}
