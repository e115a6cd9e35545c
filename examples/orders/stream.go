package main

import (
	"iter"
	"math"
	"math/rand/v2"
)

// Kind says what is to become of an event.
type Kind string

// The kinds, as the manifest names them.
const (
	KindOrder          Kind = "order"            // payments captures it
	KindRejected       Kind = "rejected"         // valid, but payments refuses it
	KindPoisonBytes    Kind = "poison-bytes"     // the value is not a framed Avro record
	KindPoisonSchemaID Kind = "poison-schema-id" // framed, under an id nobody knows
)

// Event is one step of the stream: an order to send, or to send again.
type Event struct {
	Sequence  int // from 1, over the whole stream
	Kind      Kind
	Version   int  // of the schema it is written with
	Repeat    bool // the second sending of an earlier event, unchanged
	Repeated  bool // it will be sent a second time later
	Order     OrderPlaced
	Malformed Malformation // how KindPoisonBytes is broken
}

// Malformation describes a value that no reader can decode.
type Malformation struct {
	Garbage []byte  // the value, if not empty
	Cut     float64 // else: the share of the frame's body that is kept, below 1
}

// Plan describes a stream. Equal plans give equal streams.
type Plan struct {
	Count          int     // distinct events, poison and rejected ones included
	Customers      int     // number of different keys
	Seed           uint64  //
	IDPrefix       string  // of every order id
	DeployV2After  float64 // share of the stream written under schema version 1
	Duplicates     float64 // share of the events that are sent twice
	PoisonBytes    int
	PoisonSchemaID int
	Rejected       int
}

const (
	maxCount = 9_999_999 // what seven digits can number

	// A second sending follows this many events after the first.
	minRepeatDelay = 10
	maxRepeatDelay = 200
)

// repeats is the number of events that are sent twice.
func (p Plan) repeats() int { return int(math.Round(float64(p.Count) * p.Duplicates)) }

// records is the number of records the whole stream makes.
func (p Plan) records() int { return p.Count + p.repeats() }

func (p Plan) validate() error {
	special := p.PoisonBytes + p.PoisonSchemaID + p.Rejected
	switch {
	case p.Count < 1 || p.Count > maxCount:
		return badUsage("--count must be from 1 to %d, not %d", maxCount, p.Count)
	case p.Customers < 1:
		return badUsage("--customers must be 1 or more, not %d", p.Customers)
	case !(p.DeployV2After >= 0 && p.DeployV2After <= 1):
		return badUsage("--deploy-v2-after is a share of the stream, from 0 to 1, not %v", p.DeployV2After)
	case !(p.Duplicates >= 0 && p.Duplicates <= 1):
		return badUsage("--duplicates is a share of the events, from 0 to 1, not %v", p.Duplicates)
	case p.PoisonBytes < 0 || p.PoisonSchemaID < 0 || p.Rejected < 0:
		return badUsage("--poison-bytes, --poison-schema-id and --rejected must not be negative")
	case special > p.Count:
		return badUsage("--poison-bytes, --poison-schema-id and --rejected ask for %d events, but --count is %d", special, p.Count)
	case p.repeats() > max(0, p.Count-minRepeatDelay):
		return badUsage("--duplicates asks for %d second sendings, but only %d of %d events have %d others after them",
			p.repeats(), max(0, p.Count-minRepeatDelay), p.Count, minRepeatDelay)
	}
	return nil
}

// events yields the stream of a valid plan, in the order it is to be sent.
//
// Each concern draws from a random source of its own, so that asking for more
// poison does not change which customer orders what.
func (p Plan) events() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		kinds := p.placeKinds(p.source(1))
		repeats := p.placeRepeats(p.source(2))
		orders, damage := p.source(3), p.source(4)
		due := map[int][]Event{} // second sendings, by the event they follow
		for sequence := 1; sequence <= p.Count; sequence++ {
			event := Event{Sequence: sequence, Kind: KindOrder, Version: 1, Order: p.drawOrder(orders, sequence)}
			if float64(sequence-1) >= p.DeployV2After*float64(p.Count) {
				event.Version = 2
			}
			if kind, special := kinds[sequence]; special {
				event.Kind = kind
			}
			applyKind(&event, damage)
			if delay, twice := repeats[sequence]; twice {
				event.Repeated = true
				again := event
				again.Repeat, again.Repeated = true, false
				due[sequence+delay] = append(due[sequence+delay], again)
			}
			if !yield(event) {
				return
			}
			for _, again := range due[sequence] {
				if !yield(again) {
					return
				}
			}
			delete(due, sequence)
		}
	}
}

func (p Plan) source(concern uint64) *rand.Rand { return rand.New(rand.NewPCG(p.Seed, concern)) }
