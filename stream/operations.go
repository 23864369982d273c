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
// published exactly once with the state that it speaks of. Every task keeps in its record since when the alert counts, so
// that whoever clears it after a restart resolves the alert that was fired.
//
// It is shared by the tasks of an instance; all methods are safe for concurrent use.
type operations struct {
	mu      sync.Mutex
	active  map[condition]*report
	opening map[int32]bool // tasks whose records are not restored yet
}

type report struct {
	since   int64           // event time since when, ms; part of the alert's id
	members map[int32]bool  // partitions that report it
	told    alerts.Severity // the severity that a committed cut has told; SeverityNone: no step was committed
	telling alerts.Severity // the same with what is on its way
	teller  int32           // partition whose cut is on its way
}

func newOperations() *operations {
	return &operations{active: map[condition]*report{}, opening: map[int32]bool{}}
}

// revisions of an operational alert follow from its steps: it fires once, its severity can rise once, and it is resolved. So a
// step that a restart makes again has the id that it had.
var revisions = map[alerts.StepKind]uint32{alerts.StepFired: 1, alerts.StepChanged: 2, alerts.StepResolved: 3}

func (c condition) step(kind alerts.StepKind, r *report) *alerts.Operational {
	return &alerts.Operational{Kind: c.kind, Subject: c.subject, Step: kind, Since: r.since, Severity: r.telling, Revision: revisions[kind]}
}

// raise reports a condition of a partition. It returns the step to publish, nil when another partition's cut carries it or
// nothing changed, and since when the alert counts. It may be repeated for as long as the condition lasts.
func (o *operations) raise(c condition, p int32, since int64, severity alerts.Severity) (*alerts.Operational, int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.active[c]
	if r == nil {
		r = &report{since: since, members: map[int32]bool{}}
		o.active[c] = r
	}
	r.members[p] = true
	if severity <= r.telling || r.telling != r.told && r.teller != p { // nothing overtakes a step that is on its way in another cut
		return nil, r.since
	}
	kind := alerts.StepChanged
	if r.telling == 0 {
		kind = alerts.StepFired
	}
	r.telling, r.teller = severity, p
	return c.step(kind, r), r.since
}

// tells is true when a step of at least this severity is committed, or on its way.
func (o *operations) tells(c condition, severity alerts.Severity) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.active[c]
	return r != nil && r.telling >= severity
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
	if r.telling == 0 {
		return nil
	}
	op := c.step(alerts.StepResolved, r)
	op.Reason = alerts.ReasonRecovered
	return op
}

// restore takes over a condition that the task record of a partition says was published.
func (o *operations) restore(c condition, p int32, since int64, severity alerts.Severity) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.active[c]
	if r == nil {
		r = &report{since: since, members: map[int32]bool{}}
		o.active[c] = r
	}
	r.since = min(r.since, since)
	r.members[p] = true
	r.told, r.telling = max(r.told, severity), max(r.telling, severity)
}

// confirm says that a step is committed.
func (o *operations) confirm(op *alerts.Operational) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r := o.active[condition{op.Kind, op.Subject}]; r != nil && r.since == op.Since {
		r.told = max(r.told, op.Severity)
		r.telling = max(r.telling, r.told)
	}
}

// lost says that what a partition had on its way is not committed: the next report carries it.
func (o *operations) lost(p int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.revert(p)
}

func (o *operations) revert(p int32) {
	for _, r := range o.active {
		if r.teller == p {
			r.telling = r.told
		}
	}
}

// leave forgets what a partition reported: its task begins anew, or is gone. No step follows from it.
func (o *operations) leave(p int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.revert(p)
	for c, r := range o.active {
		if delete(r.members, p); len(r.members) == 0 {
			delete(o.active, c)
		}
	}
	delete(o.opening, p)
}

// expect says that tasks of these partitions are about to open, and arrived that the record of one is restored or that it
// will not be. Until all have arrived nobody knows whether a condition is over everywhere: settled is false.
func (o *operations) expect(ps []int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range ps {
		o.opening[p] = true
	}
}

func (o *operations) arrived(p int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.opening, p)
}

func (o *operations) settled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.opening) == 0
}
