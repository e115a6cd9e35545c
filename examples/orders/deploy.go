package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// service sends the stream through one deployment after another. Each
// deployment has a Kafka client of its own and writes one schema version.
type service struct {
	options  produceOptions
	maker    *recordMaker
	manifest *Manifest
	tally    *Tally
	log      io.Writer

	deployed *Sender // nil before the first deployment
	version  int     // that it writes
}

// partingTimeout is how long a run that failed, or was asked to stop, waits
// for the answers that are still due.
const partingTimeout = 10 * time.Second

// sendAll sends the stream. It returns once every record that was sent has
// its answer from Kafka: nil if all were acknowledged, errInterrupted if ctx
// ended first and what had been sent was acknowledged.
func (s *service) sendAll(ctx context.Context) error {
	// running ends with the first failure, or with ctx.
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	pace := pacer{rate: s.options.rate}
	for event := range s.options.plan.events() {
		pace.wait(running)
		if running.Err() != nil {
			break
		}
		if err := s.sendOne(running, event, fail); err != nil {
			fail(err)
			break
		}
	}
	patience := s.options.deliveryTimeout
	if running.Err() != nil {
		patience = min(patience, partingTimeout)
	}
	flushed := s.deployed.stop(patience)
	if ctx.Err() != nil {
		return firstError(flushed, errInterrupted)
	}
	return firstError(context.Cause(running), flushed)
}

// firstError returns the first of its arguments that is an error.
func firstError(candidates ...error) error {
	for _, err := range candidates {
		if err != nil {
			return err
		}
	}
	return nil
}

// sendOne sends an event, after deploying the schema version it asks for. A
// second sending keeps its old bytes and needs no deployment.
func (s *service) sendOne(running context.Context, event Event, fail context.CancelCauseFunc) error {
	if !event.Repeat && event.Version != s.version {
		if err := s.deploy(running, event.Version, fail); err != nil {
			return err
		}
	}
	record, err := s.maker.record(event)
	if err != nil {
		return err
	}
	s.deployed.send(running, event, record)
	return nil
}

// deploy replaces the running client as a rolling update would: the old one
// flushes and closes before the new one connects.
func (s *service) deploy(running context.Context, version int, fail context.CancelCauseFunc) error {
	err := s.deployed.stop(s.options.deliveryTimeout)
	s.deployed = nil
	if err != nil {
		return err
	}
	o := s.options
	client, err := newProducer(o.brokers, o.deliveryTimeout, kgo.MaxBufferedRecords(2*maxInFlight))
	if err != nil {
		return err
	}
	if err := requireTopics(running, client, o.brokers, o.topic); err != nil {
		client.Close()
		return err
	}
	s.deployed = newSender(client, o.deliveryTimeout, s.manifest, s.tally, fail)
	s.version = version
	fmt.Fprintf(s.log, "deployed orders with schema %s\n", s.maker.schemas[version])
	return nil
}
