package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const connectTimeout = 15 * time.Second

// newProducer connects a client that loses nothing silently: acks=all and
// idempotence are franz-go's defaults, named here because this service relies
// on them. Its default partitioner places keys as Java's murmur2 does.
func newProducer(brokers string, deliveryTimeout time.Duration, extra ...kgo.Opt) (*kgo.Client, error) {
	return newClient(brokers, append([]kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.RecordDeliveryTimeout(deliveryTimeout),
		// Every reader in every language can read uncompressed batches.
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	}, extra...)...)
}

func newClient(brokers string, options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(options, seedBrokers(brokers), kgo.ClientID("orders"))...)
}

func seedBrokers(brokers string) kgo.Opt { return kgo.SeedBrokers(strings.Split(brokers, ",")...) }

// checkBrokers checks the form of --brokers before anything is begun.
func checkBrokers(brokers string) error {
	if brokers == "" {
		return badUsage("--brokers must not be empty")
	}
	if err := kgo.ValidateOpts(seedBrokers(brokers)); err != nil {
		return badUsage("--brokers %q is not HOST:PORT,...: %s", brokers, err)
	}
	return nil
}

// requireTopics fails unless Kafka answers and has every one of the topics.
// Topics are never created here: their partition count is the operator's.
func requireTopics(ctx context.Context, client *kgo.Client, brokers string, topics ...string) error {
	connecting, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	found, err := kadm.NewClient(client).ListTopics(connecting, topics...)
	if ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return fmt.Errorf("cannot reach Kafka at %s: %w; check --brokers and that it is running", brokers, err)
	}
	for _, topic := range topics {
		if err := found[topic].Err; err != nil {
			return fmt.Errorf("topic %q: %w; create it first", topic, err)
		}
	}
	return nil
}
