package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/twmb/avro"
)

// question is one line of the conformance kit: what this program's codec is to
// do. Which members there are depends on Do.
type question struct {
	ID           int64           `json:"id"`
	Do           string          `json:"do"`
	SchemaID     int32           `json:"schema_id"`
	Subject      string          `json:"subject"`
	Version      int             `json:"version"`
	Schema       string          `json:"schema"`
	ReaderSchema string          `json:"reader_schema"`
	Hex          string          `json:"hex"`
	Value        json.RawMessage `json:"value"`
	KeyHex       string          `json:"key_hex"`
	Partitions   int             `json:"partitions"`
}

func defineConformance(*flag.FlagSet) func(context.Context, streams) error {
	return func(_ context.Context, io streams) error {
		return newConformance().serve(os.Stdin, io.out)
	}
}

// conformance answers questions with the codec that the other commands use.
type conformance struct {
	parsed map[string]*avro.Schema // by their texts
}

func newConformance() conformance { return conformance{parsed: map[string]*avro.Schema{}} }

// serve answers each line of in with one on out.
func (c conformance) serve(in io.Reader, out io.Writer) error {
	reader := bufio.NewReader(in)
	for {
		line, err := reader.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var asked question
		if err := json.Unmarshal(line, &asked); err != nil {
			return fmt.Errorf("a question that is no JSON: %w", err)
		}
		answer, err := c.answer(asked)
		if err != nil {
			answer = map[string]any{"error": err.Error()}
		}
		answer["id"] = asked.ID
		text, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		if _, err := out.Write(append(text, '\n')); err != nil {
			return err
		}
	}
}

func (c conformance) answer(asked question) (map[string]any, error) {
	switch asked.Do {
	case "decode":
		value, err := c.decode(asked)
		return map[string]any{"value": value}, err
	case "encode":
		framed, err := c.encode(asked)
		return map[string]any{"hex": hex.EncodeToString(framed)}, err
	case "partition":
		key, err := hex.DecodeString(asked.KeyHex)
		return map[string]any{"partition": partitionOf(string(key), asked.Partitions)}, err
	}
	return map[string]any{"skip": "not known here: " + asked.Do}, nil
}

func (c conformance) schema(text string) (*avro.Schema, error) {
	if known, ok := c.parsed[text]; ok {
		return known, nil
	}
	parsed, err := avro.Parse(text)
	if err == nil {
		c.parsed[text] = parsed
	}
	return parsed, err
}

func (c conformance) decode(asked question) (any, error) {
	framed, err := hex.DecodeString(asked.Hex)
	if err != nil {
		return nil, err
	}
	written, err := c.schema(asked.Schema)
	if err != nil {
		return nil, err
	}
	writer := &Schema{ID: asked.SchemaID, Subject: asked.Subject, Version: asked.Version, avro: written}
	catalog := &Catalog{byID: map[int32]*Schema{asked.SchemaID: writer}}
	if asked.ReaderSchema == "" {
		_, value, err := decode(catalog, framed)
		if err != nil {
			return nil, err
		}
		return newJSONForm(written).toJSON(value)
	}
	read, err := c.schema(asked.ReaderSchema)
	if err != nil {
		return nil, err
	}
	value, err := decodeAs(catalog, &Schema{avro: read}, framed)
	if err != nil {
		return nil, err
	}
	return newJSONForm(read).toJSON(value)
}

func (c conformance) encode(asked question) ([]byte, error) {
	schema, err := c.schema(asked.Schema)
	if err != nil {
		return nil, err
	}
	value, err := newJSONForm(schema).fromJSON(asked.Value)
	if err != nil {
		return nil, err
	}
	return encode(&Schema{ID: asked.SchemaID, Subject: asked.Subject, Version: asked.Version, avro: schema}, value)
}
