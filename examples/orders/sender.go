package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// maxInFlight bounds the records that wait for their acknowledgement, and so
// the memory a slow broker costs.
const maxInFlight = 10_000

// Sender is one deployment's way to Kafka. The first record that fails ends
// the run through fail; later acknowledgements are still written down.
type Sender struct {
	client       *kgo.Client
	flushTimeout time.Duration
	slots        chan struct{} // one taken for each record in flight
	manifest     *Manifest
	tally        *Tally
	fail         context.CancelCauseFunc
}

func newSender(client *kgo.Client, flushTimeout time.Duration, manifest *Manifest, tally *Tally, fail context.CancelCauseFunc) *Sender {
	return &Sender{
		client: client, flushTimeout: flushTimeout, slots: make(chan struct{}, maxInFlight),
		manifest: manifest, tally: tally, fail: fail,
	}
}

// send hands a record to the client, waiting for a free slot first. It gives
// up the wait when ctx ends: then the record was never sent.
func (s *Sender) send(ctx context.Context, event Event, record *kgo.Record) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	// Not with ctx: a signal must not fail records that are under way already.
	s.client.Produce(context.Background(), record, func(r *kgo.Record, err error) {
		s.settle(event, r, err)
		<-s.slots
	})
}

// settle takes Kafka's answer for one record. The client calls it for one
// record at a time, so the manifest needs no lock.
func (s *Sender) settle(event Event, record *kgo.Record, err error) {
	if err != nil {
		s.fail(fmt.Errorf("Kafka did not acknowledge order %s: %w", event.Order.OrderID, err))
		return
	}
	if err := s.manifest.append(manifestLine(event, record)); err != nil {
		s.fail(fmt.Errorf("cannot write the manifest: %w", err))
		return
	}
	s.tally.acknowledged(event)
}

// stop waits until every record has its answer, then closes the client.
// It does nothing on a nil Sender.
func (s *Sender) stop() error {
	if s == nil {
		return nil
	}
	defer s.client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), s.flushTimeout)
	defer cancel()
	if err := s.client.Flush(ctx); err != nil {
		return fmt.Errorf("%d records are without an answer from Kafka and may or may not be stored: %w", len(s.slots), err)
	}
	return nil
}
