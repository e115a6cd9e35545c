package main

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A framed value is 0x00, the schema id as four bytes, most significant
// first, then the Avro body: the framing Confluent's registry introduced.
const (
	frameMagic      = 0x00
	frameHeaderSize = 5
)

// Why a value could not be read. Each is poison: the same bytes will fail
// again, on every reader that knows the same schemas.
var (
	errShortFrame    = errors.New("value is shorter than the 5-byte frame header")
	errWrongMagic    = errors.New("value does not begin with the frame's magic byte 0x00")
	errUnknownSchema = errors.New("schema id is not known")
	errBadBody       = errors.New("Avro body does not match its schema")
	errTrailingBytes = errors.New("bytes left over after the Avro body")
)

// frame puts the header for schemaID before an Avro body.
func frame(schemaID int32, body []byte) []byte {
	framed := make([]byte, 0, frameHeaderSize+len(body))
	return append(appendFrameHeader(framed, schemaID), body...)
}

func appendFrameHeader(dst []byte, schemaID int32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, frameMagic), uint32(schemaID))
}

// unframe splits a value into the writer's schema id and the Avro body.
// The body shares memory with value.
func unframe(value []byte) (schemaID int32, body []byte, err error) {
	if len(value) > 0 && value[0] != frameMagic {
		return 0, nil, fmt.Errorf("%w (first byte is 0x%02x)", errWrongMagic, value[0])
	}
	if len(value) < frameHeaderSize {
		return 0, nil, fmt.Errorf("%w (%d bytes)", errShortFrame, len(value))
	}
	return int32(binary.BigEndian.Uint32(value[1:frameHeaderSize])), value[frameHeaderSize:], nil
}

// encode writes v with the given schema, framed. v is a struct with avro tags
// or a value as decode returns it.
func encode(schema *Schema, v any) ([]byte, error) {
	framed, err := schema.avro.AppendEncode(appendFrameHeader(nil, schema.ID), v)
	if err != nil {
		return nil, fmt.Errorf("encode as %s: %w", schema, err)
	}
	return framed, nil
}

// decode reads a framed value with the schema it was written with, and
// returns that schema too. It demands that the body is used up exactly.
func decode(catalog *Catalog, value []byte) (*Schema, any, error) {
	schemaID, body, err := unframe(value)
	if err != nil {
		return nil, nil, err
	}
	writer, known := catalog.ByID(schemaID)
	if !known {
		return nil, nil, fmt.Errorf("%w: %d (known: %s)", errUnknownSchema, schemaID, catalog.ids())
	}
	var decoded any
	rest, err := writer.avro.Decode(body, &decoded)
	if err != nil {
		return writer, nil, fmt.Errorf("%w %s: %w", errBadBody, writer, err)
	}
	if len(rest) > 0 {
		return writer, nil, fmt.Errorf("%w: %d after %s", errTrailingBytes, len(rest), writer)
	}
	return writer, decoded, nil
}
