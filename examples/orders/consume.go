package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type consumeOptions struct {
	brokers string
	topics  stringList
	schemas string
	max     int
	timeout time.Duration
	group   string
}

func defineConsume(flags *flag.FlagSet) func(context.Context, streams) error {
	var o consumeOptions
	var timeoutSeconds float64
	brokers, schemas := brokersFlag(flags), schemasFlag(flags)
	flags.Var(&o.topics, "topic", "`TOPIC` to read; may be given more than once")
	flags.IntVar(&o.max, "max", 1, "stop after `N` records, over all topics")
	flags.Float64Var(&timeoutSeconds, "timeout-s", 30, "give up after `S` seconds, with exit status 3")
	flags.StringVar(&o.group, "group", "", "consumer `GROUP`: go on where it stopped, and commit what was printed")
	return func(ctx context.Context, io streams) error {
		o.brokers, o.schemas = *brokers, *schemas
		o.timeout = time.Duration(timeoutSeconds * float64(time.Second))
		return consume(ctx, o, io)
	}
}

func (o consumeOptions) validate() error {
	switch {
	case len(o.topics) == 0:
		return badUsage("--topic is needed")
	case o.max < 1:
		return badUsage("--max must be 1 or more, not %d", o.max)
	case o.timeout <= 0:
		return badUsage("--timeout-s must be more than 0")
	}
	return checkBrokers(o.brokers)
}

// consume prints o.max records and returns nil, or errTimeout if they did not
// come in time.
func consume(ctx context.Context, o consumeOptions, io streams) error {
	if err := o.validate(); err != nil {
		return err
	}
	catalog, err := loadCatalog(o.schemas)
	if err != nil {
		return err
	}
	client, err := newConsumer(o)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := requireTopics(ctx, client, o.brokers, o.topics...); err != nil {
		return err
	}
	return printRecords(ctx, o, catalog, client, io.out)
}

func newConsumer(o consumeOptions) (*kgo.Client, error) {
	options := []kgo.Opt{
		kgo.ConsumeTopics(o.topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}
	if o.group != "" {
		// Range and round robin are what clients in other languages offer too.
		options = append(options, kgo.ConsumerGroup(o.group), kgo.DisableAutoCommit(),
			kgo.Balancers(kgo.RangeBalancer(), kgo.RoundRobinBalancer()))
	}
	return newClient(o.brokers, options...)
}

func printRecords(ctx context.Context, o consumeOptions, catalog *Catalog, client *kgo.Client, w io.Writer) error {
	limited, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	out := bufio.NewWriter(w)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	for printed := 0; printed < o.max; {
		fetches := client.PollRecords(limited, o.max-printed)
		records := fetches.Records()
		for _, record := range records {
			if err := lines.Encode(describeRecord(catalog, record)); err != nil {
				return err
			}
		}
		printed += len(records)
		if err := out.Flush(); err != nil {
			return err
		}
		if err := commitPrinted(o, client, records); err != nil {
			return err
		}
		switch err := fetches.Err(); {
		case ctx.Err() != nil:
			return errInterrupted
		case printed >= o.max:
		case limited.Err() != nil:
			return fmt.Errorf("%w: %d of %d records within %s", errTimeout, printed, o.max, o.timeout)
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			return err
		}
	}
	return nil
}

// commitPrinted moves the group past records that are printed. Not with the
// reading deadline: a record that was printed should not come again.
func commitPrinted(o consumeOptions, client *kgo.Client, records []*kgo.Record) error {
	if o.group == "" || len(records) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	if err := client.CommitRecords(ctx, records...); err != nil {
		return fmt.Errorf("cannot commit for group %q: %w", o.group, err)
	}
	return nil
}
