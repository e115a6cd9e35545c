package main

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func demoPlan() Plan {
	return Plan{
		Count: 20_000, Customers: 500, Seed: 7, IDPrefix: "o", DeployV2After: 0.5,
		Duplicates: 0.01, PoisonBytes: 20, PoisonSchemaID: 20, Rejected: 40,
	}
}

// render makes the records of a stream, with a clock and traces that stand still.
func render(t *testing.T, plan Plan) ([]Event, []*kgo.Record) {
	t.Helper()
	if err := plan.validate(); err != nil {
		t.Fatal(err)
	}
	maker, err := newRecordMaker("orders.placed", testCatalog(t))
	if err != nil {
		t.Fatal(err)
	}
	tick := time.UnixMilli(1_790_000_000_000)
	maker.now = func() time.Time { tick = tick.Add(time.Millisecond); return tick }
	maker.traceparent = func() string { return "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" }
	events := slices.Collect(plan.events())
	var records []*kgo.Record
	for _, event := range events {
		record, err := maker.record(event)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, record)
	}
	if len(maker.repeated) != 0 {
		t.Errorf("%d records were kept for a second sending that never came", len(maker.repeated))
	}
	return events, records
}

func sameRecord(a, b *kgo.Record) bool {
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) &&
		slices.EqualFunc(a.Headers, b.Headers, func(x, y kgo.RecordHeader) bool {
			return x.Key == y.Key && bytes.Equal(x.Value, y.Value)
		})
}

func TestEqualSeedsGiveEqualRecords(t *testing.T) {
	_, first := render(t, demoPlan())
	_, second := render(t, demoPlan())
	if !slices.EqualFunc(first, second, sameRecord) {
		t.Error("two runs of one plan differ")
	}
	other := demoPlan()
	other.Seed = 8
	_, third := render(t, other)
	if slices.EqualFunc(first, third, sameRecord) {
		t.Error("the seed changes nothing")
	}
}

func TestStreamHoldsWhatThePlanAsksFor(t *testing.T) {
	plan := demoPlan()
	kinds, ids := map[Kind]int{}, map[string]bool{}
	repeats, lastSequence := 0, 0
	for event := range plan.events() {
		if event.Repeat {
			repeats++
			continue
		}
		kinds[event.Kind]++
		ids[event.Order.OrderID] = true
		if event.Sequence != lastSequence+1 {
			t.Fatalf("event %d follows %d", event.Sequence, lastSequence)
		}
		lastSequence = event.Sequence
		if want := map[bool]int{true: 1, false: 2}[event.Sequence <= 10_000]; event.Version != want {
			t.Fatalf("event %d has schema version %d", event.Sequence, event.Version)
		}
	}
	want := map[Kind]int{KindOrder: 19_920, KindRejected: 40, KindPoisonBytes: 20, KindPoisonSchemaID: 20}
	for kind, count := range want {
		if kinds[kind] != count {
			t.Errorf("%d events of kind %s, want %d", kinds[kind], kind, count)
		}
	}
	if len(ids) != plan.Count || repeats != 200 {
		t.Errorf("%d ids and %d second sendings", len(ids), repeats)
	}
}

func TestSpecialEventsAreSpreadOverTheStream(t *testing.T) {
	tenths := map[int]int{}
	for event := range demoPlan().events() {
		if !event.Repeat && event.Kind != KindOrder {
			tenths[(event.Sequence-1)/2_000]++
		}
	}
	for tenth := range 10 {
		if tenths[tenth] != 8 { // 80 in all, one from each eightieth
			t.Errorf("%d special events in tenth %d of the stream", tenths[tenth], tenth)
		}
	}
}

func TestSecondSendingIsTheSameRecordALittleLater(t *testing.T) {
	events, records := render(t, demoPlan())
	firstAt := map[int]int{}
	latest := 0 // highest sequence sent so far
	for i, event := range events {
		if !event.Repeat {
			firstAt[event.Sequence], latest = i, event.Sequence
			continue
		}
		first, sent := firstAt[event.Sequence]
		if !sent {
			t.Fatalf("event %d is repeated before it is sent", event.Sequence)
		}
		if later := latest - event.Sequence; later < minRepeatDelay || later > maxRepeatDelay {
			t.Errorf("event %d is repeated %d events later", event.Sequence, later)
		}
		if !sameRecord(records[first], records[i]) {
			t.Errorf("the second sending of event %d differs from the first", event.Sequence)
		}
	}
}

func TestKindsDecodeAsTheirNameSays(t *testing.T) {
	plan := demoPlan()
	plan.PoisonBytes, plan.PoisonSchemaID, plan.Rejected = 400, 400, 400
	events, records := render(t, plan)
	catalog := testCatalog(t)
	reasons := map[error]int{}
	for i, event := range events {
		_, value, err := decode(catalog, records[i].Value)
		switch event.Kind {
		case KindOrder, KindRejected:
			if err != nil {
				t.Fatalf("event %d: %v", event.Sequence, err)
			}
			declined := value.(map[string]any)["note"] == noteDeclined
			if declined != (event.Kind == KindRejected) {
				t.Errorf("event %d of kind %s: declined is %t", event.Sequence, event.Kind, declined)
			}
		case KindPoisonSchemaID:
			if !errors.Is(err, errUnknownSchema) {
				t.Errorf("event %d: %v", event.Sequence, err)
			}
		case KindPoisonBytes:
			for _, reason := range []error{errWrongMagic, errBadBody} {
				if errors.Is(err, reason) {
					reasons[reason]++
				}
			}
			if err == nil {
				t.Errorf("event %d is readable: %v", event.Sequence, value)
			}
		}
	}
	if reasons[errWrongMagic] < 100 || reasons[errBadBody] < 100 {
		t.Errorf("poison is of one sort: %v", reasons)
	}
}

func TestPlanRefusesWhatCannotBe(t *testing.T) {
	cases := map[string]func(*Plan){
		"--count":           func(p *Plan) { p.Count = 0 },
		"--customers":       func(p *Plan) { p.Customers = 0 },
		"--deploy-v2-after": func(p *Plan) { p.DeployV2After = 1.1 },
		"--duplicates":      func(p *Plan) { p.Duplicates = -0.1 },
		"--rejected":        func(p *Plan) { p.Rejected = 20_000 },
		"must not be negat": func(p *Plan) { p.PoisonBytes = -1 },
		"second sendings":   func(p *Plan) { p.Duplicates = 1 },
	}
	for want, spoil := range cases {
		plan := demoPlan()
		spoil(&plan)
		err := plan.validate()
		if exitStatus(err) != exitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

func TestSmallestPlans(t *testing.T) {
	for _, plan := range []Plan{
		{Count: 1, Customers: 1},
		{Count: 1, Customers: 1, PoisonBytes: 1},
		{Count: 11, Customers: 2, Duplicates: 1.0 / 11, DeployV2After: 1},
	} {
		events, _ := render(t, plan)
		if len(events) != plan.records() {
			t.Errorf("%+v gave %d records, want %d", plan, len(events), plan.records())
		}
	}
}
