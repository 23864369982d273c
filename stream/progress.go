package stream

import (
	"context"
	"sync"
	"time"

	"ebb/state"
)

// throttle spaces out what the restores and copies of an instance read together, so that they do not starve the tasks that are at work.
type throttle struct {
	rate float64 // bytes a second, 0: no limit
	tick func() time.Time

	mu   sync.Mutex
	free time.Time // from when on the next byte may be read
}

// take accounts for bytes that were read, and says how long to wait before reading on.
func (l *throttle) take(n int) time.Duration {
	if l.rate <= 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.tick()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	return l.free.Sub(now)
}

const (
	// progressEvery is how often a restore says how far it is.
	progressEvery = 5 * time.Second
	// checkpointEvery bounds what a crash in the middle of a long restore has to read again.
	checkpointEvery = 30 * time.Second
)

// progress is how far a replay has come.
type progress struct {
	from, at, end int64 // changelog offsets
	records       int64 // that were read so far
	began, told   time.Time
	saved         time.Time // when the store was last told of it
}

func (t *task) beginProgress(from, end int64) {
	now := t.tick()
	t.progress = progress{from: from, at: from, end: end, began: now, told: now, saved: now}
	t.remaining(max(0, end-from))
	t.publish("restoring", nil)
}

// advanced notes that the replay stands at an offset, tells everybody now and then, and waits for as long as the throttle wants.
func (t *task) advanced(ctx context.Context, r *state.Restorer, at int64, records, bytes int) error {
	p := &t.progress
	p.at = at
	p.records += int64(records)
	t.m.restored.Add(float64(records))
	now := t.tick()
	if now.Sub(t.reported) >= reportEvery {
		t.reported = now
		t.publish("restoring", nil)
	}
	if now.Sub(p.told) >= progressEvery {
		p.told = now
		rate := int64(float64(p.records) / now.Sub(p.began).Seconds())
		t.log.Info("restoring from the changelog", "done", at-p.from, "of", p.end-p.from, "records_per_second", rate)
	}
	if p.checkpointDue(now) {
		if err := r.Checkpoint(at); err != nil {
			return err
		}
	}
	return hold(ctx, t.throttle.take(bytes))
}

// checkpointDue says, once for each, that the store should be told how far the replay is.
func (p *progress) checkpointDue(now time.Time) bool {
	if now.Sub(p.saved) < checkpointEvery {
		return false
	}
	p.saved = now
	return true
}

// hold waits out what the throttle asks for.
func hold(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
