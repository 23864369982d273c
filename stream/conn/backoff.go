package conn

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff spaces out repeated attempts: each delay is drawn evenly from the upper half of a bound that doubles from Min to
// Max, so that many clients of one broken broker do not come back in step. The zero value waits 50 ms to 2 s. Not safe
// for concurrent use.
type Backoff struct {
	Min, Max time.Duration
	Rand     func() float64 // in [0,1); nil: math/rand/v2

	bound time.Duration
}

// Next is the delay before the next attempt.
func (b *Backoff) Next() time.Duration {
	lo, hi := b.Min, b.Max
	if lo <= 0 {
		lo = 50 * time.Millisecond
	}
	if hi <= 0 {
		hi = 2 * time.Second
	}
	if b.bound < lo {
		b.bound = lo
	}
	random := b.Rand
	if random == nil {
		random = rand.Float64
	}
	d := b.bound/2 + time.Duration(random()*float64(b.bound/2))
	b.bound = min(2*b.bound, hi)
	return d
}

// Reset is called after a success: the next delay is a short one again.
func (b *Backoff) Reset() { b.bound = 0 }

// Wait sleeps for Next, or until ctx ends, whose error it then returns.
func (b *Backoff) Wait(ctx context.Context) error {
	t := time.NewTimer(b.Next())
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
