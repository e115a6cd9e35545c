//! The answer: `shop.PaymentCaptured` as JSON.

use serde::Serialize;

use crate::effect_log::Entry;
use crate::order::Currency;

/// The money for one order was taken. Field by field the contract `shop.PaymentCaptured`, so that the caller can publish
/// it as it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PaymentCaptured {
    pub payment_id: String,
    pub order_id: String,
    pub customer_id: String,
    pub amount_cents: i64,
    pub currency: Currency,
    /// Number of the line of the effect in this service's log.
    pub sequence: u64,
    /// Milliseconds since the epoch.
    pub captured_at: u64,
}

impl From<&Entry> for PaymentCaptured {
    /// The answer follows from the logged line alone: after a restart a repeat gets the same bytes.
    fn from(entry: &Entry) -> Self {
        Self {
            payment_id: format!("p-{}", entry.order_id),
            order_id: entry.order_id.clone(),
            customer_id: entry.customer_id.clone(),
            amount_cents: entry.amount_cents,
            currency: entry.currency,
            sequence: entry.seq,
            captured_at: entry.at_ms,
        }
    }
}
