package main

import (
	"fmt"
	"io"
	"maps"
	"sync"
	"time"
)

// Tally counts what Kafka acknowledged. It is safe for concurrent use.
type Tally struct {
	plan    Plan
	started time.Time

	mu      sync.Mutex
	events  int // first sendings
	repeats int // second sendings
	kinds   map[Kind]int
	version map[int]int
	amount  int64
}

// Summary is the final report of a run. It counts acknowledged records only.
type Summary struct {
	Topic            string       `json:"topic"`
	Events           int          `json:"events"`          // different ids
	Duplicates       int          `json:"duplicates"`      // second sendings
	Records          int          `json:"records"`         // both
	Kinds            map[Kind]int `json:"kinds"`           // of the different ids
	SchemaVersions   map[int]int  `json:"schema_versions"` // of the different ids
	AmountCents      int64        `json:"amount_cents"`    // of the different ids of kind order
	PlannedRecords   int          `json:"planned_records"` // what Records is to be
	ElapsedS         float64      `json:"elapsed_s"`       //
	RecordsPerSecond float64      `json:"records_per_s"`   //
	Interrupted      bool         `json:"interrupted"`     // by a signal
	Seed             uint64       `json:"seed"`            //
}

func newTally(plan Plan) *Tally {
	return &Tally{plan: plan, started: time.Now(), kinds: map[Kind]int{}, version: map[int]int{}}
}

// acknowledged counts one record.
func (t *Tally) acknowledged(event Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if event.Repeat {
		t.repeats++
		return
	}
	t.events++
	t.kinds[event.Kind]++
	t.version[event.Version]++
	if event.Kind == KindOrder {
		t.amount += event.Order.AmountCents
	}
}

func (t *Tally) summary(topic string, interrupted bool) Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	elapsed := time.Since(t.started).Seconds()
	records := t.events + t.repeats
	return Summary{
		Topic: topic, Events: t.events, Duplicates: t.repeats, Records: records,
		Kinds: maps.Clone(t.kinds), SchemaVersions: maps.Clone(t.version), AmountCents: t.amount,
		PlannedRecords: t.plan.records(), ElapsedS: elapsed, RecordsPerSecond: float64(records) / elapsed,
		Interrupted: interrupted, Seed: t.plan.Seed,
	}
}

// reportEverySecond writes a line of progress to w each second, and a last
// one when the function it returns is called.
func (t *Tally) reportEverySecond(w io.Writer) (stop func()) {
	ticker := time.NewTicker(time.Second)
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-ticker.C:
				fmt.Fprintln(w, t.progress())
			case <-stopping:
				fmt.Fprintln(w, t.progress())
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(stopping)
		<-stopped
	}
}

func (t *Tally) progress() string {
	s := t.summary("", false)
	return fmt.Sprintf("produced %d/%d (+%d duplicates, %.0f records/s)", s.Events, t.plan.Count, s.Duplicates, s.RecordsPerSecond)
}
