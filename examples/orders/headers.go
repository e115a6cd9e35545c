package main

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Envelope is what the headers of a record say about it: CloudEvents 1.0 in
// the Kafka binding's binary mode, then the optional headers of the contract.
type Envelope struct {
	ID      string
	Source  string // a URI reference, for example /shop/orders
	Type    string // full name of the record schema
	Time    time.Time
	Subject string

	Traceparent    string // W3C Trace Context; the optional ones are left out when empty
	Tracestate     string
	CorrelationID  string
	CausationID    string
	IdempotencyKey string
	Deadline       string
}

// timeLayout is RFC 3339 in UTC with milliseconds, always all three digits.
const timeLayout = "2006-01-02T15:04:05.000Z"

// headers renders e in the order the golden vectors fix.
func (e Envelope) headers() []kgo.RecordHeader {
	headers := make([]kgo.RecordHeader, 0, 8)
	add := func(key, value string) {
		headers = append(headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	add("ce_specversion", "1.0")
	add("ce_id", e.ID)
	add("ce_source", e.Source)
	add("ce_type", e.Type)
	add("ce_time", e.Time.UTC().Format(timeLayout))
	add("ce_subject", e.Subject)
	add("content-type", "application/avro")
	for _, optional := range [][2]string{
		{"traceparent", e.Traceparent},
		{"tracestate", e.Tracestate},
		{"correlation-id", e.CorrelationID},
		{"causation-id", e.CausationID},
		{"idempotency-key", e.IdempotencyKey},
		{"deadline", e.Deadline},
	} {
		if optional[1] != "" {
			add(optional[0], optional[1])
		}
	}
	return headers
}

// parseEnvelope reads headers back. It refuses names the contract does not
// have, and a ce_time that is not in its one layout.
func parseEnvelope(headers [][2]string) (Envelope, error) {
	var e Envelope
	fields := map[string]*string{
		"ce_id": &e.ID, "ce_source": &e.Source, "ce_type": &e.Type, "ce_subject": &e.Subject,
		"traceparent": &e.Traceparent, "tracestate": &e.Tracestate,
		"correlation-id": &e.CorrelationID, "causation-id": &e.CausationID,
		"idempotency-key": &e.IdempotencyKey, "deadline": &e.Deadline,
		"ce_specversion": new(string), "content-type": new(string), // always the same
	}
	for _, header := range headers {
		name, value := header[0], header[1]
		if name == "ce_time" {
			at, err := time.Parse(timeLayout, value)
			if err != nil {
				return e, fmt.Errorf("header ce_time: %w", err)
			}
			e.Time = at
			continue
		}
		field, known := fields[name]
		if !known {
			return e, fmt.Errorf("header %q is not in the contract", name)
		}
		*field = value
	}
	return e, nil
}

// newTraceparent starts a new sampled trace: version 00, random ids.
func newTraceparent() string {
	var ids [24]byte
	rand.Read(ids[:]) // never fails: the program would end first
	return fmt.Sprintf("00-%x-%x-01", ids[:16], ids[16:])
}
