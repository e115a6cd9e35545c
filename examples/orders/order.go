package main

import "time"

// Names of the order contract.
const (
	orderSubject  = "shop.OrderPlaced"
	orderSource   = "/shop/orders"
	noteDeclined  = "card-declined" // payments refuses an order with this note
	unknownSchema = 999999          // an id no registry hands out
)

// OrderPlaced is the event, in its newest version. Written under version 1,
// which has no channel, that field is left out.
type OrderPlaced struct {
	OrderID     string      `avro:"order_id"`
	CustomerID  string      `avro:"customer_id"`
	AmountCents int64       `avro:"amount_cents"`
	Currency    string      `avro:"currency"`
	PlacedAt    time.Time   `avro:"placed_at"`
	Note        *string     `avro:"note"`
	Lines       []OrderLine `avro:"lines"`
	Channel     string      `avro:"channel"` // since version 2
}

// OrderLine is one article of an order.
type OrderLine struct {
	SKU      string `avro:"sku"`
	Quantity int32  `avro:"quantity"`
}
