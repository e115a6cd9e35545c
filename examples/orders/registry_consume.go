package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

func defineRegistryConsume(flags *flag.FlagSet) func(context.Context, streams) error {
	var o consumeOptions
	var timeoutSeconds float64
	brokers, registry := brokersFlag(flags), registryFlag(flags)
	flags.Var(&o.topics, "topic", "`TOPIC` to read; may be given more than once")
	flags.IntVar(&o.max, "max", 1, "stop after `N` records, over all topics")
	flags.Float64Var(&timeoutSeconds, "timeout-s", 30, "give up after `S` seconds, with exit status 3")
	return func(ctx context.Context, io streams) error {
		o.brokers = *brokers
		o.timeout = time.Duration(timeoutSeconds * float64(time.Second))
		if err := o.validate(); err != nil {
			return err
		}
		client, err := newRegistry(*registry)
		if err != nil {
			return err
		}
		return consumeRegistered(ctx, o, registryReader{client, map[int]*avro.Schema{}}, io)
	}
}

// registryReader decodes values with the schemas of a registry.
type registryReader struct {
	client  *sr.Client
	schemas map[int]*avro.Schema
}

func (r registryReader) schema(ctx context.Context, id int) (*avro.Schema, error) {
	if known, ok := r.schemas[id]; ok {
		return known, nil
	}
	found, err := r.client.SchemaByID(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("the registry does not tell schema %d: %w", id, err)
	}
	parsed, err := avro.Parse(found.Schema)
	if err != nil {
		return nil, fmt.Errorf("schema %d: %w", id, err)
	}
	r.schemas[id] = parsed
	return parsed, nil
}

// line is what is printed of a record.
func (r registryReader) line(ctx context.Context, record *kgo.Record) (map[string]any, error) {
	id, body, err := new(sr.ConfluentHeader).DecodeID(record.Value)
	if err != nil {
		return nil, err
	}
	schema, err := r.schema(ctx, id)
	if err != nil {
		return nil, err
	}
	var value any
	rest, err := schema.Decode(body, &value)
	if err != nil {
		return nil, fmt.Errorf("%w %d: %w", errBadBody, id, err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d after schema %d", errTrailingBytes, len(rest), id)
	}
	text, err := schema.EncodeJSON(value)
	return map[string]any{"schema_id": id, "value": json.RawMessage(text)}, err
}

func consumeRegistered(ctx context.Context, o consumeOptions, reader registryReader, io streams) error {
	client, err := newConsumer(o)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := requireTopics(ctx, client, o.brokers, o.topics...); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	lines := json.NewEncoder(io.out)
	for printed := 0; printed < o.max; {
		fetches := client.PollRecords(limited, o.max-printed)
		for _, record := range fetches.Records() {
			line, err := reader.line(limited, record)
			if err := errors.Join(err, lines.Encode(line)); err != nil {
				return err
			}
			printed++
		}
		if ctx.Err() != nil {
			return errInterrupted
		}
		if limited.Err() != nil && printed < o.max {
			return fmt.Errorf("%w: %d of %d records within %s", errTimeout, printed, o.max, o.timeout)
		}
		if err := fetches.Err(); err != nil && printed < o.max {
			return err
		}
	}
	return nil
}
