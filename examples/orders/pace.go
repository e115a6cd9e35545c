package main

import (
	"context"
	"time"
)

// pacer spaces calls of wait evenly, rate a second; 0 is without limit.
type pacer struct {
	rate float64
	next time.Time
}

// maxCatchUp bounds the burst after a pause: a deployment or a slow broker
// must not be followed by everything that was missed, all at once.
const maxCatchUp = 100 * time.Millisecond

// wait returns when the next event is due, or early when ctx ends.
func (p *pacer) wait(ctx context.Context) {
	if p.rate <= 0 {
		return
	}
	now := time.Now()
	if p.next.IsZero() {
		p.next = now
	}
	if earliest := now.Add(-maxCatchUp); p.next.Before(earliest) {
		p.next = earliest
	}
	if delay := p.next.Sub(now); delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	p.next = p.next.Add(time.Duration(float64(time.Second) / p.rate))
}
