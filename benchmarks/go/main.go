// Command peer is what one would write in Go instead of running broker_bridge:
// the whole job as one batch loop, or a forwarder to an HTTP service.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
)

// job is where to work: the same for both loops.
type job struct {
	bootstrap, redis, source, results, name, schemas, url string
	records, concurrency                                  int
}

func main() {
	var j job
	mode := flag.String("mode", "loop", "loop or forward")
	flag.StringVar(&j.bootstrap, "bootstrap", "", "")
	flag.StringVar(&j.redis, "redis", "", "")
	flag.StringVar(&j.source, "source", "", "")
	flag.StringVar(&j.results, "results", "", "")
	flag.StringVar(&j.name, "name", "", "")
	flag.StringVar(&j.schemas, "schemas", "", "")
	flag.StringVar(&j.url, "url", "", "")
	flag.IntVar(&j.records, "records", 0, "")
	flag.IntVar(&j.concurrency, "concurrency", 16, "")
	flag.Parse()
	work := map[string]func(context.Context, job) (*stopwatch, error){"loop": loop, "forward": forward}[*mode]
	if work == nil {
		fail(fmt.Errorf("no mode %q", *mode))
	}
	watch, err := work(context.Background(), j)
	if err != nil {
		fail(err)
	}
	json.NewEncoder(os.Stdout).Encode(watch.report())
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "peer:", err)
	os.Exit(1)
}

// client is one for all: a group member that commits when told to, and an
// idempotent producer with acks=all (franz-go's default).
func (j job) client() (*kgo.Client, error) {
	return kgo.NewClient(
		kgo.SeedBrokers(j.bootstrap),
		kgo.ConsumerGroup(j.name),
		kgo.ConsumeTopics(j.source),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	)
}

func (j job) schema(subject string, version int) (*avro.Schema, error) {
	text, err := os.ReadFile(filepath.Join(j.schemas, subject, fmt.Sprintf("v%d.avsc", version)))
	if err != nil {
		return nil, err
	}
	return avro.Parse(string(text))
}

func header(record *kgo.Record, name string) string {
	for _, one := range record.Headers {
		if one.Key == name {
			return string(one.Value)
		}
	}
	return ""
}
