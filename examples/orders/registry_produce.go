package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

// registryFlag registers --registry: a server that speaks the Confluent API.
func registryFlag(flags *flag.FlagSet) *string {
	return flags.String("registry", "http://127.0.0.1:8081", "schema registry `URL`")
}

func newRegistry(url string) (*sr.Client, error) {
	client, err := sr.NewClient(sr.URLs(url))
	if err != nil {
		return nil, badUsage("--registry %q: %s", url, err)
	}
	return client, nil
}

func defineRegistryProduce(flags *flag.FlagSet) func(context.Context, streams) error {
	brokers, schemas, registry := brokersFlag(flags), schemasFlag(flags), registryFlag(flags)
	topic := flags.String("topic", "", "`TOPIC` to write to; it must exist")
	subject := flags.String("subject", "shop.OrderPlaced", "contract `SUBJECT` whose golden vectors are written")
	return func(ctx context.Context, io streams) error {
		if *topic == "" {
			return badUsage("--topic is needed")
		}
		if err := checkBrokers(*brokers); err != nil {
			return err
		}
		client, err := newRegistry(*registry)
		if err != nil {
			return err
		}
		records, ids, err := registeredRecords(ctx, client, *topic, *schemas, *subject)
		if err != nil {
			return err
		}
		return sendRegistered(ctx, *brokers, records, ids, io)
	}
}

// registeredRecords makes a record of each golden vector of a contract, under
// the id that the registry gives its schema as <topic>-value.
func registeredRecords(ctx context.Context, client *sr.Client, topic, schemas, subject string) ([]*kgo.Record, []int, error) {
	catalog, vectors, err := loadGolden(schemas)
	if err != nil {
		return nil, nil, err
	}
	var records []*kgo.Record
	var ids []int
	for _, vector := range vectors {
		if vector.Subject != subject {
			continue
		}
		record, err := vector.record(catalog, topic)
		if err != nil {
			return nil, nil, badUsage("golden vector %s: %s", vector.Name, err)
		}
		id, err := register(ctx, client, topic, schemas, vector)
		if err != nil {
			return nil, nil, err
		}
		body := record.Value[frameHeaderSize:]
		framed, err := new(sr.ConfluentHeader).AppendEncode(nil, id, nil)
		if err != nil {
			return nil, nil, err
		}
		record.Value = append(framed, body...)
		records, ids = append(records, record), append(ids, id)
	}
	if len(records) == 0 {
		return nil, nil, badUsage("no golden vector is of %s", subject)
	}
	return records, ids, nil
}

// register makes sure that the registry has the vector's schema, and returns
// its id there.
func register(ctx context.Context, client *sr.Client, topic, schemas string, vector GoldenVector) (int, error) {
	text, err := os.ReadFile(filepath.Join(schemas, vector.Subject, "v"+strconv.Itoa(vector.Version)+".avsc"))
	if err != nil {
		return 0, badUsage("cannot read the schema: %s", err)
	}
	found, err := client.CreateSchema(ctx, topic+"-value", sr.Schema{Schema: string(text), Type: sr.TypeAvro})
	if err != nil {
		return 0, fmt.Errorf("the registry does not take %s v%d: %w", vector.Subject, vector.Version, err)
	}
	return found.ID, nil
}

func sendRegistered(ctx context.Context, brokers string, records []*kgo.Record, ids []int, io streams) error {
	client, err := newProducer(brokers, 30*time.Second)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := requireTopics(ctx, client, brokers, records[0].Topic); err != nil {
		return err
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("Kafka did not acknowledge a record: %w", err)
	}
	lines := json.NewEncoder(io.out)
	var failed error
	for i, record := range records {
		failed = errors.Join(failed, lines.Encode(map[string]any{"schema_id": ids[i], "partition": record.Partition}))
	}
	return failed
}
