#[derive(Debug, PartialEq, Eq, Clone, serde::Deserialize, serde::Serialize)]
pub struct OrderLine {
    /// The article's number.
    pub sku: String,
    /// Pieces of it.
    pub quantity: i32,
}

/// A customer placed an order; money is in minor units of the currency.
#[derive(Debug, PartialEq, Eq, Clone, serde::Deserialize, serde::Serialize)]
pub struct OrderPlaced {
    /// Unique for ever; also the event's ce_id.
    pub order_id: String,
    /// The record key: orders of one customer stay in order.
    pub customer_id: String,
    /// Sum of the order, in minor units of the currency.
    pub amount_cents: i64,
    /// OTHER stands for what this version does not know.
    pub currency: Currency,
    /// When the customer placed it.
    pub placed_at: i64,
    /// What the customer wrote.
    #[serde(default = "default_orderplaced_note")]
    pub note: Option<String>,
    /// What was ordered, in the customer's order.
    pub lines: Vec<OrderLine>,
    /// Where it was placed; added in version 2.
    #[serde(default = "default_orderplaced_channel")]
    pub channel: String,
}

#[inline(always)]
fn default_orderplaced_note() -> Option<String> {
    None
}

#[inline(always)]
fn default_orderplaced_channel() -> String {
    "web".to_owned()
}

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Clone, Copy, serde::Deserialize, serde::Serialize)]
pub enum Currency {
    #[serde(rename = "EUR")]
    Eur,
    #[serde(rename = "USD")]
    Usd,
    #[serde(rename = "GBP")]
    Gbp,
    #[serde(rename = "OTHER")]
    Other,
}
