package stream

import (
	"sync"

	"ebb/alerts"
)

// condition identifies what an operational alert is about, such as feed/usage/stalled. It is the alert's key.
type condition struct {
	kind    alerts.OperationalKind
	subject string
}

// operations folds what the tasks of one instance report into one operational alert each: a feed that stalls on 64
// partitions is one alert. The step itself travels in the cut of the task that reports first (or clears last), so it is
// published exactly once with the state that it speaks of.
//
// It is shared by the tasks of an instance; all methods are safe for concurrent use.
type operations struct {
	mu     sync.Mutex
	active map[condition]*report
}

type report struct {
	since    int64          // event time since when, ms; part of the alert's id
	members  map[int32]bool // partitions that report it
	emitter  int32          // partition whose cut carries the fired step
	emitted  bool           // a step is on its way or committed
	severity alerts.Severity
	revision uint32
}

func newOperations() *operations { return &operations{active: map[condition]*report{}} }

// raise reports a condition of a partition and returns the step to publish, nil when another partition's cut carries it or
// nothing changed. It may be repeated for as long as the condition lasts.
func (o *operations) raise(c condition, p int32, since int64, severity alerts.Severity) *alerts.Operational {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.active[c]
	if r == nil {
		r = &report{since: since, members: map[int32]bool{}}
		o.active[c] = r
	}
	r.members[p] = true
	switch {
	case !r.emitted:
		r.emitted, r.emitter, r.severity = true, p, severity
		r.revision++
		return &alerts.Operational{Kind: c.kind, Subject: c.subject, Step: alerts.StepFired, Since: r.since, Severity: severity, Revision: r.revision}
	case severity > r.severity:
		r.severity = severity
		r.revision++
		return &alerts.Operational{Kind: c.kind, Subject: c.subject, Step: alerts.StepChanged, Since: r.since, Severity: severity, Revision: r.revision}
	}
	return nil
}

// clear reports that a condition of a partition is over and returns the resolved step when it was the last.
func (o *operations) clear(c condition, p int32) *alerts.Operational {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.active[c]
	if r == nil || !r.members[p] {
		return nil
	}
	delete(r.members, p)
	if len(r.members) != 0 {
		return nil
	}
	delete(o.active, c)
	if !r.emitted {
		return nil
	}
	return &alerts.Operational{Kind: c.kind, Subject: c.subject, Step: alerts.StepResolved, Reason: alerts.ReasonRecovered, Since: r.since, Severity: r.severity, Revision: r.revision + 1}
}

// restore takes over a condition that the task record of a partition says was published.
func (o *operations) restore(c condition, p int32, since int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.active[c]
	if r == nil {
		r = &report{since: since, members: map[int32]bool{}, revision: 1}
		o.active[c] = r
	}
	r.since = min(r.since, since)
	r.members[p] = true
	r.emitted, r.emitter = true, p
}

// forget drops all that a partition reported, when its task closes or reopens. A step that its lost cut carried is carried
// by the next report of another partition.
func (o *operations) forget(p int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c, r := range o.active {
		if !r.members[p] {
			continue
		}
		delete(r.members, p)
		if r.emitter == p {
			r.emitted = false
			r.revision = 0
		}
		if len(r.members) == 0 {
			delete(o.active, c)
		}
	}
}
