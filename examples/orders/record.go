package main

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recordMaker turns the events of a stream into Kafka records.
type recordMaker struct {
	topic       string
	schemas     map[int]*Schema // by version of the order contract
	now         func() time.Time
	traceparent func() string

	repeated map[int]kgo.Record // sent once, to be sent again, by sequence
}

func newRecordMaker(topic string, catalog *Catalog) (*recordMaker, error) {
	m := &recordMaker{
		topic: topic, schemas: map[int]*Schema{}, now: time.Now, traceparent: newTraceparent,
		repeated: map[int]kgo.Record{},
	}
	for _, version := range []int{1, 2} {
		schema, err := catalog.Version(orderSubject, version)
		if err != nil {
			return nil, err
		}
		m.schemas[version] = schema
	}
	return m, nil
}

// record renders one event. A second sending has the key, value and headers
// of the first, byte for byte: the same event, not a new one with equal data.
func (m *recordMaker) record(event Event) (*kgo.Record, error) {
	if event.Repeat {
		first := m.repeated[event.Sequence]
		delete(m.repeated, event.Sequence)
		return &first, nil
	}
	placedAt := m.now().UTC().Truncate(time.Millisecond)
	event.Order.PlacedAt = placedAt
	value, err := m.value(event)
	if err != nil {
		return nil, err
	}
	record := kgo.Record{
		Topic:   m.topic,
		Key:     []byte(event.Order.CustomerID),
		Value:   value,
		Headers: m.envelope(event.Order).headers(),
	}
	if event.Repeated {
		m.repeated[event.Sequence] = record
	}
	return &record, nil
}

func (m *recordMaker) envelope(order OrderPlaced) Envelope {
	return Envelope{
		ID:          order.OrderID,
		Source:      orderSource,
		Type:        orderSubject,
		Time:        order.PlacedAt,
		Subject:     order.CustomerID,
		Traceparent: m.traceparent(),
	}
}

// value encodes the order, and breaks it where the event asks for poison.
func (m *recordMaker) value(event Event) ([]byte, error) {
	if event.Kind == KindPoisonBytes && len(event.Malformed.Garbage) > 0 {
		return event.Malformed.Garbage, nil
	}
	value, err := encode(m.schemas[event.Version], &event.Order)
	if err != nil {
		return nil, err
	}
	switch event.Kind {
	case KindPoisonBytes:
		kept := int(event.Malformed.Cut * float64(len(value)-frameHeaderSize))
		value = value[:frameHeaderSize+kept]
	case KindPoisonSchemaID:
		value = frame(unknownSchema, value[frameHeaderSize:])
	}
	return value, nil
}
