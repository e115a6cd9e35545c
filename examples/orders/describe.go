package main

import (
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// RecordLine is one record as consume prints it. A record has either a schema
// and a value, or an error and its raw bytes. A tombstone has a null value and
// no schema.
type RecordLine struct {
	Topic     string          `json:"topic"`
	Partition int32           `json:"partition"`
	Offset    int64           `json:"offset"`
	Key       any             `json:"key"`     // as textOrBase64
	Headers   [][2]any        `json:"headers"` // name, then as textOrBase64
	SchemaID  int32           `json:"schema_id,omitempty"`
	Subject   string          `json:"subject,omitempty"`
	Version   int             `json:"version,omitempty"`
	Value     json.RawMessage `json:"value,omitempty"`
	Error     string          `json:"error,omitempty"`
	Raw       string          `json:"value_base64,omitempty"`
}

// describeRecord decodes a record for printing. What does not decode becomes
// a line with an error: one bad record must not hide the next.
func describeRecord(catalog *Catalog, record *kgo.Record) RecordLine {
	line := RecordLine{
		Topic: record.Topic, Partition: record.Partition, Offset: record.Offset,
		Key: textOrBase64(record.Key), Headers: [][2]any{},
	}
	for _, header := range record.Headers {
		line.Headers = append(line.Headers, [2]any{header.Key, textOrBase64(header.Value)})
	}
	if record.Value == nil {
		line.Value = json.RawMessage("null")
		return line
	}
	schema, value, err := decodeToJSON(catalog, record.Value)
	if schema != nil {
		line.SchemaID, line.Subject, line.Version = schema.ID, schema.Subject, schema.Version
	}
	if err != nil {
		line.Error, line.Raw = err.Error(), base64.StdEncoding.EncodeToString(record.Value)
		return line
	}
	line.Value = value
	return line
}

// decodeToJSON decodes a framed value to JSON: unions bare, timestamps as
// integers in the unit of their schema.
func decodeToJSON(catalog *Catalog, framed []byte) (*Schema, json.RawMessage, error) {
	schema, value, err := decode(catalog, framed)
	if err != nil {
		return schema, nil, err
	}
	text, err := schema.avro.EncodeJSON(value)
	return schema, text, err
}

// textOrBase64 renders bytes for JSON without loss: null, a string, or, where
// they are not UTF-8, {"base64": ...}.
func textOrBase64(b []byte) any {
	switch {
	case b == nil:
		return nil
	case utf8.Valid(b):
		return string(b)
	}
	return map[string]string{"base64": base64.StdEncoding.EncodeToString(b)}
}
