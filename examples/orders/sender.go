package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// maxInFlight bounds the records that wait for their acknowledgement, and so
// the memory a slow broker costs.
const maxInFlight = 10_000

// Sender is one deployment's way to Kafka. The first record that fails ends
// the run through fail; later acknowledgements are still written down.
//
// It keeps a deadline of its own. The client cannot give up on a record that
// it has sent and heard nothing of: Kafka may have stored it, and a gap in the
// idempotent sequence would block the partition. Such a record would wait for
// ever, so the Sender ends the run when no answer at all comes for too long.
type Sender struct {
	client   *kgo.Client
	timeout  time.Duration // without any answer, while some are due
	slots    chan struct{} // one taken for each record in flight
	progress atomic.Int64  // when the last answer came, or sending resumed: Unix ns
	manifest *Manifest
	tally    *Tally
	fail     context.CancelCauseFunc
}

func newSender(client *kgo.Client, timeout time.Duration, manifest *Manifest, tally *Tally, fail context.CancelCauseFunc) *Sender {
	return &Sender{
		client: client, timeout: timeout, slots: make(chan struct{}, maxInFlight),
		manifest: manifest, tally: tally, fail: fail,
	}
}

// send hands a record to the client, waiting for a free slot first. It gives
// up the wait when ctx ends, or when Kafka has been silent for too long: then
// this record was never sent.
func (s *Sender) send(ctx context.Context, event Event, record *kgo.Record) {
	if len(s.slots) == 0 {
		s.progress.Store(time.Now().UnixNano())
	}
	if !s.takeSlot(ctx) {
		return
	}
	// Not with ctx: a signal must not fail records that are under way already.
	s.client.Produce(context.Background(), record, func(r *kgo.Record, err error) {
		s.progress.Store(time.Now().UnixNano())
		s.settle(event, r, err)
		<-s.slots
	})
}

func (s *Sender) takeSlot(ctx context.Context) bool {
	for {
		patience := s.timeout - time.Since(time.Unix(0, s.progress.Load()))
		if patience <= 0 {
			s.fail(fmt.Errorf("Kafka has not answered for %s; %d records may or may not be stored", s.timeout, len(s.slots)))
			return false
		}
		select {
		case s.slots <- struct{}{}:
			return true
		case <-ctx.Done():
			return false
		case <-time.After(patience):
		}
	}
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

// stop waits, for as long as patience, until every record has its answer, then
// closes the client. It does nothing on a nil Sender.
func (s *Sender) stop(patience time.Duration) error {
	if s == nil {
		return nil
	}
	defer s.client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.client.Flush(ctx); err != nil {
		return fmt.Errorf("%d records had no answer from Kafka within %s and may or may not be stored", len(s.slots), patience)
	}
	return nil
}
