package main

import (
	"encoding/json"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestRecordsArePrintedWithoutLoss(t *testing.T) {
	catalog := testCatalog(t)
	_, framed := testOrder(t, catalog, 2)
	cases := map[string]struct {
		record kgo.Record
		want   string
	}{
		"order": {
			kgo.Record{Topic: "t", Partition: 1, Offset: 2, Key: []byte("k"), Value: framed},
			`{"topic":"t","partition":1,"offset":2,"key":"k","headers":[],"schema_id":2,"subject":"shop.OrderPlaced","version":2,
			"value":{"order_id":"o-0000001","customer_id":"customer-1","amount_cents":1299,"currency":"EUR","placed_at":1790000000000,
			"note":null,"lines":[{"sku":"SKU-1","quantity":2}],"channel":"app"}}`,
		},
		"tombstone": {
			kgo.Record{Topic: "t", Key: []byte("k")},
			`{"topic":"t","partition":0,"offset":0,"key":"k","headers":[],"value":null}`,
		},
		"poison with odd headers": {
			kgo.Record{Topic: "t", Value: []byte{1, 2}, Headers: []kgo.RecordHeader{
				{Key: "null"}, {Key: "empty", Value: []byte{}}, {Key: "twice", Value: []byte("ü")}, {Key: "twice", Value: []byte{0xff}},
			}},
			`{"topic":"t","partition":0,"offset":0,"key":null,
			"headers":[["null",null],["empty",""],["twice","ü"],["twice",{"base64":"/w=="}]],
			"error":"value does not begin with the frame's magic byte 0x00 (first byte is 0x01)","value_base64":"AQI="}`,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			text, err := json.Marshal(describeRecord(catalog, &c.record))
			if err != nil {
				t.Fatal(err)
			}
			if err := differJSON("line", []byte(c.want), text); err != nil {
				t.Error(err)
			}
		})
	}
}
