// Command publish sends one event of docs/guides/evolve-an-event.md with stock
// clients: franz-go for Kafka, its sr for the schema registry, twmb/avro.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

// StockCounted is the event. A field that the schema does not have is not
// written, so that one type serves while both versions are in use.
type StockCounted struct {
	SKU    string `avro:"sku"`
	Pieces int32  `avro:"pieces"`
	Shelf  string `avro:"shelf"` // since version 2
}

func main() {
	brokers := flag.String("brokers", "127.0.0.1:9092", "Kafka")
	registry := flag.String("registry", "http://127.0.0.1:8081", "schema registry")
	topic := flag.String("topic", "stock.counted", "where to")
	file := flag.String("schema", "", "the schema to write under")
	id := flag.String("id", "", "the event's id, the same whenever it is sent again")
	var event StockCounted
	flag.StringVar(&event.SKU, "sku", "", "which article")
	pieces := flag.Int("pieces", 0, "how many")
	flag.StringVar(&event.Shelf, "shelf", "", "where they are")
	flag.Parse()
	event.Pieces = int32(*pieces)

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	value, err := encode(ctx, *registry, *file, event)
	if err != nil {
		log.Fatal(err)
	}
	if err := publish(ctx, *brokers, *topic, *id, event.SKU, value); err != nil {
		log.Fatal(err)
	}
}

// encode registers the schema, which a registry that has it answers with the
// same id, and frames the event with that id.
func encode(ctx context.Context, registry, file string, event StockCounted) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	schema, err := avro.Parse(string(text))
	if err != nil {
		return nil, err
	}
	client, err := sr.NewClient(sr.URLs(registry))
	if err != nil {
		return nil, err
	}
	known, err := client.CreateSchema(ctx, "shop.StockCounted", sr.Schema{Schema: string(text), Type: sr.TypeAvro})
	if err != nil {
		return nil, err
	}
	var serde sr.Serde
	serde.Register(known.ID, StockCounted{}, sr.EncodeFn(func(v any) ([]byte, error) { return schema.Encode(v) }))
	return serde.Encode(event)
}

// publish sends one record and waits until Kafka has it. The key decides the
// partition, and so what stays in order; ce_source and ce_id together are what
// duplicates are told by.
func publish(ctx context.Context, brokers, topic, id, key string, value []byte) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.RequiredAcks(kgo.AllISRAcks()))
	if err != nil {
		return err
	}
	defer client.Close()
	header := func(name, value string) kgo.RecordHeader { return kgo.RecordHeader{Key: name, Value: []byte(value)} }
	return client.ProduceSync(ctx, &kgo.Record{
		Topic: topic,
		Key:   []byte(key),
		Value: value,
		Headers: []kgo.RecordHeader{
			header("ce_specversion", "1.0"), header("ce_id", id), header("ce_source", "/shop/stock-go"),
			header("ce_type", "shop.StockCounted"), header("content-type", "application/avro"),
		},
	}).FirstErr()
}
