//! Errors as problem details (RFC 9457), with a stable `code` that callers may act on.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};

/// An answer other than success.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub status: StatusCode,
    /// Stable, machine-readable: `card_declined`, `stale_token`, `overloaded`, …
    pub code: &'static str,
    pub title: &'static str,
    /// What happened here and what to do about it.
    pub detail: String,
    /// The header or body field at fault, where there is one.
    pub field: Option<String>,
}

impl Problem {
    pub fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, code, title, detail: detail.into(), field: None }
    }

    /// 400: the request cannot be understood; `field` is the header or body field at fault.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let field = Some(field.into());
        Self {
            field,
            ..Self::new(StatusCode::BAD_REQUEST, "request_invalid", "Request is not valid", detail)
        }
    }
}

#[derive(Serialize)]
struct ProblemJson<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let json = ProblemJson {
            r#type: format!("urn:shop:payments:error:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            field: self.field.as_deref(),
        };
        json.serialize(to)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).expect("strings and numbers always serialize");
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}
