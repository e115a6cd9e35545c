package main

import (
	"encoding/json"
	"fmt"

	"github.com/twmb/avro"
)

// resolve reads an Avro body, written with one version of a contract, as
// another version: fields that are new to it take their defaults, fields it
// does not know are skipped. It returns the value as JSON.
func resolve(writer, reader *Schema, body []byte) (json.RawMessage, error) {
	value, err := readAs(writer, reader, body)
	if err != nil {
		return nil, err
	}
	return reader.avro.EncodeJSON(value)
}

// decodeAs reads a framed value as reader has it.
func decodeAs(catalog *Catalog, reader *Schema, framed []byte) (any, error) {
	schemaID, body, err := unframe(framed)
	if err != nil {
		return nil, err
	}
	writer, known := catalog.ByID(schemaID)
	if !known {
		return nil, fmt.Errorf("%w: %d (known: %s)", errUnknownSchema, schemaID, catalog.ids())
	}
	return readAs(writer, reader, body)
}

func readAs(writer, reader *Schema, body []byte) (any, error) {
	resolved, err := avro.Resolve(writer.avro, reader.avro)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read as %s: %w", writer, reader, err)
	}
	var value any
	rest, err := resolved.Decode(body, &value)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", errBadBody, writer, err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d after %s", errTrailingBytes, len(rest), writer)
	}
	return value, nil
}

// hasMap reports whether a map occurs anywhere in a schema.
func hasMap(schema *Schema) bool { return nodeHasMap(schema.avro.Root()) }

func nodeHasMap(node *avro.SchemaNode) bool {
	if node == nil {
		return false
	}
	if node.Type == "map" || nodeHasMap(node.Items) {
		return true
	}
	for i := range node.Branches {
		if nodeHasMap(&node.Branches[i]) {
			return true
		}
	}
	for i := range node.Fields {
		if nodeHasMap(&node.Fields[i].Type) {
			return true
		}
	}
	return false
}
