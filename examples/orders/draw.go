package main

import (
	"fmt"
	"math/rand/v2"
)

// placeKinds says which events are not plain orders, by sequence.
func (p Plan) placeKinds(random *rand.Rand) map[int]Kind {
	special := make([]Kind, 0, p.Rejected+p.PoisonBytes+p.PoisonSchemaID)
	for range p.Rejected {
		special = append(special, KindRejected)
	}
	for range p.PoisonBytes {
		special = append(special, KindPoisonBytes)
	}
	for range p.PoisonSchemaID {
		special = append(special, KindPoisonSchemaID)
	}
	random.Shuffle(len(special), func(i, j int) { special[i], special[j] = special[j], special[i] })
	kinds := make(map[int]Kind, len(special))
	for i, sequence := range spread(random, len(special), p.Count) {
		kinds[sequence] = special[i]
	}
	return kinds
}

// placeRepeats says which events are sent twice, and how many events later.
func (p Plan) placeRepeats(random *rand.Rand) map[int]int {
	delays := make(map[int]int, p.repeats())
	for _, sequence := range spread(random, p.repeats(), p.Count-minRepeatDelay) {
		longest := min(maxRepeatDelay, p.Count-sequence)
		delays[sequence] = minRepeatDelay + random.IntN(longest-minRepeatDelay+1)
	}
	return delays
}

// spread picks n different numbers from 1 to limit, ascending: one at random
// from each of n stretches of nearly equal length. It needs n <= limit.
func spread(random *rand.Rand, n, limit int) []int {
	picked := make([]int, n)
	for i := range n {
		from, to := i*limit/n, (i+1)*limit/n
		picked[i] = 1 + from + random.IntN(to-from)
	}
	return picked
}

var (
	currencies = []string{"EUR", "EUR", "EUR", "USD", "GBP", "OTHER"}
	channels   = []string{"web", "app", "shop"}
	notes      = []string{"", "", "", "leave at the door", "z życzeniami 🎁"}
)

// drawOrder makes up one order. Its placed_at is set when it is sent.
func (p Plan) drawOrder(random *rand.Rand, sequence int) OrderPlaced {
	order := OrderPlaced{
		OrderID:     fmt.Sprintf("%s-%07d", p.IDPrefix, sequence),
		CustomerID:  fmt.Sprintf("customer-%d", random.IntN(p.Customers)),
		AmountCents: int64(100 + random.IntN(50_000)),
		Currency:    pick(random, currencies),
		Channel:     pick(random, channels),
	}
	if note := pick(random, notes); note != "" {
		order.Note = &note
	}
	for range 1 + random.IntN(3) {
		order.Lines = append(order.Lines, OrderLine{
			SKU:      fmt.Sprintf("SKU-%03d", random.IntN(1000)),
			Quantity: int32(1 + random.IntN(5)),
		})
	}
	return order
}

func pick(random *rand.Rand, from []string) string { return from[random.IntN(len(from))] }

// applyKind adds to an event what its kind needs.
func applyKind(event *Event, random *rand.Rand) {
	switch event.Kind {
	case KindRejected:
		note := noteDeclined
		event.Order.Note = &note
	case KindPoisonBytes:
		event.Malformed = drawMalformation(random)
	}
}

// drawMalformation picks one of two ways to break a value: bytes that never
// were a frame, or a frame cut short.
func drawMalformation(random *rand.Rand) Malformation {
	if random.IntN(2) == 0 {
		return Malformation{Cut: random.Float64()}
	}
	garbage := make([]byte, 1+random.IntN(64))
	for i := range garbage {
		garbage[i] = byte(random.IntN(256))
	}
	garbage[0] = byte(1 + random.IntN(255)) // never the frame's magic byte
	return Malformation{Garbage: garbage}
}
