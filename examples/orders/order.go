package main

// The types of an order are generated from the newest version of its schema.
// Written under version 1, which has no channel, that field is left out.
//
//go:generate go run github.com/hamba/avro/v2/cmd/avrogen@v2.31.0 -pkg main -strict-types -initialisms SKU -o order_placed_gen.go ../../schemas/shop.OrderPlaced/v2.avsc

// Names of the order contract.
const (
	orderSubject  = "shop.OrderPlaced"
	orderSource   = "/shop/orders"
	noteDeclined  = "card-declined" // payments refuses an order with this note
	unknownSchema = 999999          // an id no registry hands out
)
