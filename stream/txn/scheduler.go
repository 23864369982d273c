package txn

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Priority is how long the content of a transaction has been waiting to be visible. A zero time is: nothing of that kind.
type Priority struct {
	Alert  time.Time // the oldest alert step in it
	Change time.Time // the oldest change in it
}

// before orders transactions: the oldest alert first, then the oldest change.
func (p Priority) before(q Priority) bool {
	if p.Alert.IsZero() != q.Alert.IsZero() {
		return q.Alert.IsZero()
	}
	if !p.Alert.Equal(q.Alert) {
		return p.Alert.Before(q.Alert)
	}
	return p.Change.Before(q.Change)
}

// Scheduler bounds the transactions in flight of one instance. More of them at once would only wait for each other in the broker, each with
// its locks held: 64 tasks in step take ten times as long as 64 that are spread out.
//
// One place is kept for transactions with alerts, if there is more than one, so that a long commit of plain changes never holds up an alert.
type Scheduler struct {
	mu      sync.Mutex
	free    int
	kept    int // of free, not for transactions without alerts
	waiting waiters
	count   uint64 // order of arrival, among equals
}

// NewScheduler allows n transactions in flight, at least 1.
func NewScheduler(n int) *Scheduler {
	n = max(n, 1)
	return &Scheduler{free: n, kept: min(n-1, 1)}
}

// waiter is a task that waits for its place.
type waiter struct {
	priority Priority
	order    uint64
	ready    chan struct{} // closed when the place is given
	at       int           // index in the heap, -1 when out of it
}

// Acquire waits for a place, in order of priority. release gives it back; calling it again does nothing. The error is that of ctx.
func (s *Scheduler) Acquire(ctx context.Context, p Priority) (release func(), err error) {
	s.mu.Lock()
	s.count++
	w := &waiter{priority: p, order: s.count, ready: make(chan struct{})}
	heap.Push(&s.waiting, w)
	s.grant()
	s.mu.Unlock()
	select {
	case <-w.ready:
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		if w.at >= 0 {
			heap.Remove(&s.waiting, w.at)
			return nil, ctx.Err()
		}
		// The place came at the same moment.
	}
	var once sync.Once
	return func() { once.Do(s.release) }, nil
}

func (s *Scheduler) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	s.grant()
}

// grant gives free places to the first in line. Alerts are always first, so that whoever is there without one may leave the kept place be.
func (s *Scheduler) grant() {
	for len(s.waiting) > 0 {
		need := 1
		if s.waiting[0].priority.Alert.IsZero() {
			need += s.kept
		}
		if s.free < need {
			return
		}
		s.free--
		close(heap.Pop(&s.waiting).(*waiter).ready)
	}
}

// waiters is a heap.
type waiters []*waiter

func (h waiters) Len() int { return len(h) }

func (h waiters) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.priority.before(b.priority) {
		return true
	}
	return !b.priority.before(a.priority) && a.order < b.order
}

func (h waiters) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *waiters) Push(x any) {
	w := x.(*waiter)
	w.at = len(*h)
	*h = append(*h, w)
}

// Pop implements heap.Interface.
func (h *waiters) Pop() any {
	old := *h
	w := old[len(old)-1]
	w.at = -1
	*h = old[:len(old)-1]
	return w
}

// Spread returns when, within a period, the periodic cut of a task is due, so that those of all tasks lie evenly apart, however many
// there are: multiples of the golden ratio.
func Spread(task int32, period time.Duration) time.Duration {
	const golden = 0x9E3779B9 // 2^32 / golden ratio
	return time.Duration(float64(uint32(task)*golden) / (1 << 32) * float64(period))
}
