package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"time"
)

const schemasDir = "../../schemas"

func testCatalog(t *testing.T) *Catalog {
	t.Helper()
	catalog, err := loadCatalog(schemasDir)
	if err != nil {
		t.Fatal(err)
	}
	return catalog
}

// testOrder returns an order and its frame under the given schema version.
func testOrder(t *testing.T, catalog *Catalog, version int) (OrderPlaced, []byte) {
	t.Helper()
	schema, err := catalog.Version(orderSubject, version)
	if err != nil {
		t.Fatal(err)
	}
	order := OrderPlaced{
		OrderID: "o-0000001", CustomerID: "customer-1", AmountCents: 1299, Currency: "EUR",
		PlacedAt: time.UnixMilli(1_790_000_000_000), Lines: []OrderLine{{SKU: "SKU-1", Quantity: 2}}, Channel: "app",
	}
	framed, err := encode(schema, &order)
	if err != nil {
		t.Fatal(err)
	}
	return order, framed
}

func TestDecodeReturnsWhatWasEncoded(t *testing.T) {
	catalog := testCatalog(t)
	_, framed := testOrder(t, catalog, 2)
	schema, text, err := decodeToJSON(catalog, framed)
	if err != nil {
		t.Fatal(err)
	}
	if schema.Subject != orderSubject || schema.Version != 2 {
		t.Errorf("decoded with %s", schema)
	}
	want := `{"order_id":"o-0000001","customer_id":"customer-1","amount_cents":1299,"currency":"EUR",
		"placed_at":1790000000000,"note":null,"lines":[{"sku":"SKU-1","quantity":2}],"channel":"app"}`
	if err := differJSON("value", []byte(want), text); err != nil {
		t.Error(err)
	}
}

func TestVersion1LeavesTheChannelOut(t *testing.T) {
	catalog := testCatalog(t)
	_, framed := testOrder(t, catalog, 1)
	if bytes.Contains(framed, []byte("app")) {
		t.Errorf("version 1 carries the channel: %x", framed)
	}
}

func TestDecodeRefusesPoison(t *testing.T) {
	catalog := testCatalog(t)
	_, framed := testOrder(t, catalog, 2)
	wrongMagic := bytes.Clone(framed)
	wrongMagic[0] = 0x01
	cases := []struct {
		name  string
		value []byte
		want  error
	}{
		{"empty value", nil, errShortFrame},
		{"magic byte alone", framed[:1], errShortFrame},
		{"short frame", framed[:4], errShortFrame},
		{"wrong magic", wrongMagic, errWrongMagic},
		{"text", []byte("{}"), errWrongMagic},
		{"unknown id", frame(unknownSchema, framed[5:]), errUnknownSchema},
		{"negative id", frame(-1, framed[5:]), errUnknownSchema},
		{"no body", framed[:5], errBadBody},
		{"last byte cut", framed[:len(framed)-1], errBadBody},
		{"trailing byte", append(bytes.Clone(framed), 0), errTrailingBytes},
		{"version 2 body under the id of version 1", frame(1, framed[5:]), errTrailingBytes},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, _, err := decode(catalog, c.value); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestEveryCutOfABodyIsRefused(t *testing.T) {
	catalog := testCatalog(t)
	for _, version := range []int{1, 2} {
		_, framed := testOrder(t, catalog, version)
		for length := range len(framed) {
			if _, value, err := decode(catalog, framed[:length]); err == nil {
				t.Errorf("v%d cut to %d of %d bytes was read as %v", version, length, len(framed), value)
			}
		}
	}
}

func TestHostileBodiesAreRefused(t *testing.T) {
	catalog := testCatalog(t)
	for name, body := range map[string]string{
		"string of 2^62 bytes":    "feffffffffffffffff01",
		"string of negative size": "01",
		"varint without an end":   "ffffffffffffffffffffffffff",
	} {
		raw, err := hex.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := decode(catalog, frame(1, raw)); !errors.Is(err, errBadBody) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
