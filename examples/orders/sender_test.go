package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestManifestHoldsAcknowledgedRecordsOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "manifest.jsonl")
	manifest, err := createManifest(path)
	if err != nil {
		t.Fatal(err)
	}
	running, fail := context.WithCancelCause(t.Context())
	tally := newTally(demoPlan())
	sender := newSender(nil, time.Second, manifest, tally, fail)
	order := OrderPlaced{OrderID: "o-0000001", CustomerID: "customer-1", AmountCents: 1299}

	sender.settle(Event{Kind: KindOrder, Version: 1, Order: order}, &kgo.Record{Partition: 3, Offset: 41}, nil)
	sender.settle(Event{Kind: KindPoisonBytes, Version: 2, Order: order, Repeat: true}, &kgo.Record{Partition: 3, Offset: 42}, nil)
	if running.Err() != nil {
		t.Fatal("an acknowledgement ended the run")
	}
	refused := errors.New("refused")
	sender.settle(Event{Kind: KindOrder, Order: order}, &kgo.Record{}, refused)
	if !errors.Is(context.Cause(running), refused) {
		t.Errorf("a refused record did not end the run: %v", context.Cause(running))
	}
	if err := manifest.close(); err != nil {
		t.Fatal(err)
	}

	want := []string{
		`{"id":"o-0000001","source":"/shop/orders","kind":"order","duplicate":false,"key":"customer-1","partition":3,"offset":41,"schema_version":1,"amount_cents":1299}`,
		`{"id":"o-0000001","source":"/shop/orders","kind":"poison-bytes","duplicate":true,"key":"customer-1","partition":3,"offset":42,"schema_version":2,"amount_cents":0}`,
	}
	if got := readLines(t, path); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %s", strings.Join(got, "\n"))
	}
	if s := tally.summary("t", false); s.Records != 2 || s.Events != 1 || s.Duplicates != 1 || s.AmountCents != 1299 {
		t.Errorf("summary %+v", s)
	}
}

func readLines(t *testing.T, path string) (lines []string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		if !json.Valid(scanner.Bytes()) {
			t.Errorf("not JSON: %s", scanner.Text())
		}
		lines = append(lines, scanner.Text())
	}
	return lines
}

func TestManifestThatCannotBeWrittenEndsTheRun(t *testing.T) {
	manifest, err := createManifest(filepath.Join(t.TempDir(), "manifest.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	manifest.close() // as a full disk would, this makes every write fail
	running, fail := context.WithCancelCause(t.Context())
	sender := newSender(nil, time.Second, manifest, newTally(demoPlan()), fail)
	sender.settle(Event{Kind: KindOrder}, &kgo.Record{}, nil)
	if running.Err() == nil {
		t.Error("a lost manifest line did not end the run")
	}
}

func TestSilentKafkaEndsTheRun(t *testing.T) {
	running, fail := context.WithCancelCause(t.Context())
	sender := newSender(nil, time.Millisecond, &Manifest{}, newTally(demoPlan()), fail)
	for range maxInFlight {
		sender.slots <- struct{}{}
	}
	sender.progress.Store(time.Now().UnixNano())
	if sender.takeSlot(running) {
		t.Error("took a slot where none was free")
	}
	if cause := context.Cause(running); cause == nil || !strings.Contains(cause.Error(), "has not answered") {
		t.Errorf("cause %v", cause)
	}
}

func TestPacerCatchesUpOnlyALittle(t *testing.T) {
	p := pacer{rate: 1000, next: time.Now().Add(-time.Hour)}
	p.wait(t.Context())
	if behind := time.Since(p.next); behind > 2*maxCatchUp {
		t.Errorf("still %s behind: a burst would follow", behind)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	slow := pacer{rate: 0.001, next: time.Now().Add(time.Hour)}
	slow.wait(ended) // returns at once
}

func TestTraceparentsAreWellFormedAndDiffer(t *testing.T) {
	a, b := newTraceparent(), newTraceparent()
	if a == b || len(a) != 55 || !strings.HasPrefix(a, "00-") || !strings.HasSuffix(a, "-01") {
		t.Errorf("%s, %s", a, b)
	}
}
