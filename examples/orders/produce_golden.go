package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func defineProduceGolden(flags *flag.FlagSet) func(context.Context, streams) error {
	brokers, schemas := brokersFlag(flags), schemasFlag(flags)
	topic := flags.String("topic", "", "`TOPIC` to write to; it must exist")
	return func(ctx context.Context, io streams) error {
		if *topic == "" {
			return badUsage("--topic is needed")
		}
		return produceGolden(ctx, *brokers, *topic, *schemas, io)
	}
}

// produceGolden writes one record per golden vector, in the order of their
// file names, and prints where each went.
func produceGolden(ctx context.Context, brokers, topic, schemas string, io streams) error {
	if err := checkBrokers(brokers); err != nil {
		return err
	}
	catalog, vectors, err := loadGolden(schemas)
	if err != nil {
		return err
	}
	var records []*kgo.Record
	for _, vector := range vectors {
		record, err := vector.record(catalog, topic)
		if err != nil {
			return badUsage("golden vector %s: %s", vector.Name, err)
		}
		records = append(records, record)
	}
	client, err := newProducer(brokers, 30*time.Second)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := requireTopics(ctx, client, brokers, topic); err != nil {
		return err
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("Kafka did not acknowledge a golden vector: %w", err)
	}
	lines := json.NewEncoder(io.out)
	for i, record := range records {
		line := map[string]any{"name": vectors[i].Name, "partition": record.Partition, "offset": record.Offset}
		if err := lines.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// record builds the vector's record from its JSON value and its envelope, as
// the service would: none of its bytes are copied from the vector.
func (g GoldenVector) record(catalog *Catalog, topic string) (*kgo.Record, error) {
	schema, err := catalog.Version(g.Subject, g.Version)
	if err != nil {
		return nil, err
	}
	value, err := g.encode(schema)
	if err != nil {
		return nil, err
	}
	envelope, err := parseEnvelope(g.Headers)
	if err != nil {
		return nil, err
	}
	return &kgo.Record{Topic: topic, Key: []byte(g.Key), Value: value, Headers: envelope.headers()}, nil
}
