package demo

import (
	"slices"
	"time"

	"ebb/cmd/ebb/internal/console"
	"ebb/cmd/ebb/internal/simulate"
)

// stepLog checks what the engine promises of the alert topic: every step once, and none left out. Revisions of an alert count up
// from its first step by one.
type stepLog struct {
	revisions map[string]uint32 // alert id -> latest revision, of those not yet resolved or resolved lately
	resolved  []string          // ring of resolved ids, to be forgotten in turn
	next      int

	total, twice, missing int

	// latencies are a ring of the latest, in the time of the process.
	latencies []time.Duration
	latest    int
}

const (
	resolvedKept  = 50_000
	latenciesKept = 20_000
)

func newStepLog() stepLog { return stepLog{revisions: map[string]uint32{}} }

// see takes a step and says whether it is news.
func (l *stepLog) see(s *console.Step) bool {
	last, known := l.revisions[s.AlertID]
	if known && s.Revision <= last {
		l.twice++
		return false
	}
	l.total++
	l.missing += int(s.Revision - last - 1)
	l.revisions[s.AlertID] = s.Revision
	if s.Resolved {
		l.forget(s.AlertID)
	}
	return true
}

// forget drops the resolved alert that was resolved the longest ago, once there are enough of them.
func (l *stepLog) forget(id string) {
	if len(l.resolved) < resolvedKept {
		l.resolved = append(l.resolved, id)
		return
	}
	delete(l.revisions, l.resolved[l.next])
	l.resolved[l.next] = id
	l.next = (l.next + 1) % resolvedKept
}

func (l *stepLog) measured(d time.Duration) {
	if len(l.latencies) < latenciesKept {
		l.latencies = append(l.latencies, d)
		return
	}
	l.latencies[l.latest] = d
	l.latest = (l.latest + 1) % latenciesKept
}

// quantile is of the latencies; 0 of none.
func (l *stepLog) quantile(q float64) time.Duration {
	if len(l.latencies) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(l.latencies))
	return v[min(len(v)-1, int(q*float64(len(v))))]
}

// untimed are the customers whose steps say nothing about how fast ebb is: a record of theirs came late, so that a decision bears a
// time at which ebb could not know of it yet. It also covers everybody for a while after a feed was without its records.
type untimed struct {
	customers map[string]time.Time // customer -> simulated arrival of his latest late record
	feed      time.Time            // simulated arrival of the latest record of a feed that had been without
}

// settles is how long a late record's steps take to be through, generously.
const settles = 3 * oneDay

func (u *untimed) late(e *simulate.Event) {
	u.customers[e.Key] = e.At
	if e.Feed == simulate.Usage {
		u.feed = e.At // usage is late only after an outage, or after the feed was stopped
	}
}

func (u *untimed) covers(customer string, now time.Time) bool {
	at, late := u.customers[customer]
	return late && now.Sub(at) < settles || !u.feed.IsZero() && now.Sub(u.feed) < settles
}

func (u *untimed) forget(now time.Time) {
	for id, at := range u.customers {
		if now.Sub(at) >= settles {
			delete(u.customers, id)
		}
	}
}
