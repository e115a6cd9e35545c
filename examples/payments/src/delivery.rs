//! What the headers of a delivery say: which event this is, and which try of which worker.
//!
//! The event's own headers follow the CloudEvents HTTP binding (binary mode, values percent-encoded); the
//! `bridge-` ones are the buffer's.

use axum::http::{HeaderMap, header};

use crate::problem::Problem;

/// The one kind of event this service takes.
pub const EVENT_TYPE: &str = "shop.OrderPlaced";

/// Longest header value that is kept (bytes): keys live in memory and in the log.
pub const MAX_VALUE_BYTES: usize = 1024;

/// One try to deliver one event.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Two deliveries with one key are the same piece of work.
    pub key: String,
    pub ce_id: String,
    /// Tries of this message, from 1.
    pub attempt: u64,
    /// Workers that died while they held this message.
    pub crashes: u64,
    /// Fencing token: grows each time another worker takes over the key.
    pub token: u64,
    /// Set on a replay from the dead letters.
    pub replay_id: Option<String>,
    /// `topic/partition/offset` of the record.
    pub origin: String,
}

impl Delivery {
    /// Reads the headers; the problem names the one that is missing or wrong.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Problem> {
        require_json(headers)?;
        expect(headers, "ce-specversion", "1.0")?;
        expect(headers, "ce-type", EVENT_TYPE)?;
        required(headers, "ce-source")?;
        Ok(Self {
            key: required(headers, "idempotency-key")?.into(),
            ce_id: percent_decoded("ce-id", required(headers, "ce-id")?)?,
            attempt: number(headers, "bridge-attempt", 1)?,
            crashes: number(headers, "bridge-crashes", 0)?,
            token: number(headers, "bridge-token", 0)?,
            replay_id: optional(headers, "bridge-replay-id")?.map(String::from),
            origin: origin(headers)?,
        })
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let name = header::CONTENT_TYPE.as_str();
    let media_type = required(headers, name)?.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::invalid(name, format!("{name}: expected application/json, got {media_type:?}")))
}

fn optional<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid(name, format!("{name}: given more than once")));
    }
    match str::from_utf8(value.as_bytes()) {
        Ok("") => Err(Problem::invalid(name, format!("{name}: is empty"))),
        Ok(text) if text.len() > MAX_VALUE_BYTES => {
            Err(Problem::invalid(name, format!("{name}: longer than {MAX_VALUE_BYTES} bytes")))
        }
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Problem::invalid(name, format!("{name}: is not UTF-8"))),
    }
}

fn required<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, Problem> {
    optional(headers, name)?.ok_or_else(|| Problem::invalid(name, format!("{name}: header is missing")))
}

fn expect(headers: &HeaderMap, name: &str, expected: &str) -> Result<(), Problem> {
    match required(headers, name)? {
        value if value == expected => Ok(()),
        other => Err(Problem::invalid(name, format!("{name}: expected {expected:?}, got {other:?}"))),
    }
}

fn number(headers: &HeaderMap, name: &str, least: u64) -> Result<u64, Problem> {
    let text = required(headers, name)?;
    match text.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => {
            Err(Problem::invalid(name, format!("{name}: expected a whole number from {least}, got {text:?}")))
        }
    }
}

fn origin(headers: &HeaderMap) -> Result<String, Problem> {
    let name = "bridge-origin";
    let text = required(headers, name)?;
    match is_origin(text) {
        true => Ok(text.into()),
        false => {
            Err(Problem::invalid(name, format!("{name}: expected topic/partition/offset, got {text:?}")))
        }
    }
}

/// Whether this is `topic/partition/offset`.
pub fn is_origin(text: &str) -> bool {
    let mut parts = text.rsplitn(3, '/');
    let offset = parts.next().and_then(|part| part.parse::<u64>().ok());
    let partition = parts.next().and_then(|part| part.parse::<u32>().ok());
    offset.is_some() && partition.is_some() && parts.next().is_some_and(|topic| !topic.is_empty())
}

fn percent_decoded(name: &str, text: &str) -> Result<String, Problem> {
    let malformed = || Problem::invalid(name, format!("{name}: {text:?} is not percent-encoded UTF-8"));
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return Err(malformed()) };
        rest = tail;
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(malformed);
        decoded.push((digit(*high)? * 16 + digit(*low)?) as u8);
    }
    String::from_utf8(decoded).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_of_the_cloudevents_http_binding() {
        assert_eq!(percent_decoded("ce-id", "o-1").unwrap(), "o-1");
        assert_eq!(percent_decoded("ce-id", "%C3%BC%20%25").unwrap(), "ü %");
        for broken in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(
                percent_decoded("ce-id", broken).unwrap_err().field.as_deref(),
                Some("ce-id"),
                "{broken}"
            );
        }
    }
}
