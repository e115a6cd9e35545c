package main

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/twmb/avro"
)

// order is shop.OrderPlaced, in Avro and as the JSON that payments takes.
type order struct {
	OrderID     string  `avro:"order_id" json:"order_id"`
	CustomerID  string  `avro:"customer_id" json:"customer_id"`
	AmountCents int64   `avro:"amount_cents" json:"amount_cents"`
	Currency    string  `avro:"currency" json:"currency"`
	PlacedAt    int64   `avro:"placed_at" json:"placed_at"`
	Note        *string `avro:"note" json:"note"`
	Lines       []line  `avro:"lines" json:"lines"`
	Channel     string  `avro:"channel" json:"channel"`
}

type line struct {
	SKU      string `avro:"sku" json:"sku"`
	Quantity int32  `avro:"quantity" json:"quantity"`
}

// payment is shop.PaymentCaptured.
type payment struct {
	PaymentID   string    `avro:"payment_id"`
	OrderID     string    `avro:"order_id"`
	CustomerID  string    `avro:"customer_id"`
	AmountCents int64     `avro:"amount_cents"`
	Currency    string    `avro:"currency"`
	Sequence    int64     `avro:"sequence"`
	CapturedAt  time.Time `avro:"captured_at"`
}

// answer is the handler: the same pure work in every contender.
func answer(o *order) payment {
	return payment{"p-" + o.OrderID, o.OrderID, o.CustomerID, o.AmountCents, o.Currency, o.AmountCents,
		time.UnixMilli(1_790_000_000_000)}
}

const frameSize = 5

// orders reads framed orders of either version.
type orders map[int32]*avro.Schema

func (j job) orders() (orders, error) {
	found := orders{}
	for version := 1; version <= 2; version++ {
		schema, err := j.schema("shop.OrderPlaced", version)
		if err != nil {
			return nil, err
		}
		found[int32(version)] = schema
	}
	return found, nil
}

func (s orders) decode(value []byte, into *order) error {
	if len(value) < frameSize {
		return fmt.Errorf("a value of %d bytes", len(value))
	}
	schema := s[int32(binary.BigEndian.Uint32(value[1:frameSize]))]
	if schema == nil {
		return fmt.Errorf("unknown schema in % x", value[:frameSize])
	}
	_, err := schema.Decode(value[frameSize:], into)
	return err
}
