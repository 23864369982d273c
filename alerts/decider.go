package alerts

import (
	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
)

// Decider asks the detectors about one customer at one moment and takes the answer into the life of his alerts. It is the way
// of every decision, whether the moment is that of an event or of a deadline, and whether the clock is that of a live task or
// of a history that is read again.
//
// It reuses its memory, so it belongs to one goroutine.
type Decider struct {
	Detectors *detectors.Set
	Policy    *Policy
	// OutOfOrder is by how much events may come out of the order of their times, ms. What ran out so shortly before an event is not decided with it: the event
	// that refutes it may come next.
	OutOfOrder int64

	signals  []detectors.Signal
	steps    []Step
	findings []detectors.Finding
	verdicts []Verdict
}

// Decision is what came of asking.
type Decision struct {
	// Steps are what is to be published, in the order of their event times. They are valid until the next decision.
	Steps []Step
	// Signals are what the detectors said, of what is told and of what is not. They are valid until the next decision.
	Signals []detectors.Signal
	// Findings are what was learnt of his complaints. They are valid until the next decision.
	Findings []detectors.Finding
	// Verdicts are what became of earlier alerts. They are valid until the next decision.
	Verdicts []Verdict
	// Leaves is the alert that began to tell that the customer does less, or nothing, if none told so before; nil: there is none. It may be one that is not published.
	Leaves *customer.Lifecycle
	// Touched: the lifecycles of the customer may have changed.
	Touched bool
	// Next is when he wants to be looked at again, in event time; never 0 unless Forget is true.
	Next int64
	// Forget: nothing of him is needed any more.
	Forget bool
}

// earlier is the earlier of two times, of which 0 is never.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// undecidedMs is the least time after which an undecidable deadline is looked at again.
const undecidedMs = 60_000

// closedMs is the same for a customer of whom a person closed an alert: what is past due may be what nobody wants to hear of again, perhaps for weeks.
const closedMs = 60 * undecidedMs

func undecidedFor(r *customer.Record) int64 {
	if len(r.Closings()) != 0 {
		return closedMs
	}
	return undecidedMs
}

// Decide decides at event time env.Now. trigger is the event that was just applied, nil for a deadline. clock is how far the
// task has come in event time: a deadline that cannot be decided yet is asked again when as much more is known as the clock is
// ahead of it.
func (d *Decider) Decide(r *customer.Record, env *detectors.Env, trigger *event.Event, mode Mode, clock int64) Decision {
	at := env.Now
	sigs, next := d.Detectors.Evaluate(r, env, trigger, d.signals[:0])
	d.signals = sigs
	sigs, rash := d.postponed(sigs, trigger, at)
	out := Decision{Signals: sigs}
	if len(sigs) != 0 || len(r.Lifecycles) != 0 {
		before := d.leaving(r)
		d.steps = d.Policy.Decide(r, sigs, env, mode, d.steps[:0])
		out.Steps, out.Touched = d.steps, true
		if after := d.leaving(r); before == nil {
			out.Leaves = after
		}
	}
	if d.findings = d.findings[:0]; rash == 0 { // what is found out is noted, and what has yet to be decided must not be
		d.findings = d.Detectors.Settle(r, env, d.findings)
	}
	out.Findings = d.findings
	if len(r.Predictions()) != 0 {
		d.verdicts = d.Policy.Judge(r, env, d.verdicts[:0])
		out.Verdicts = d.verdicts
	}
	if next != 0 && next <= at { // not decidable yet: a feed is not complete up to the deadline
		next = at + max(undecidedFor(r), clock-at)
	}
	next = earlier(next, rash)
	next = earlier(next, d.Policy.Due(r, env))
	if wait := unjudged(r, env); wait != 0 {
		next = earlier(next, at+max(wait, clock-at))
	}
	if out.Forget = d.Policy.Forget(r, at); out.Forget {
		return out
	}
	if forget := d.Policy.ForgetAt(r); next == 0 || forget < next {
		next = forget
	}
	out.Next = next
	return out
}

// leaving is the open alert that tells that the customer does less, or nothing, the first if there are several; nil if none does.
func (d *Decider) leaving(r *customer.Record) *customer.Lifecycle {
	for i := range r.Lifecycles {
		if d.Detectors.Leaving(r.Lifecycles[i].Detector) {
			return &r.Lifecycles[i]
		}
	}
	return nil
}

// postponed leaves out what fires because a time has run out that lies before the event by no more than may be out of order. It is decided at its own time, as
// it would be had the event come alone: that time is the second result, 0 if there is none.
func (d *Decider) postponed(sigs []detectors.Signal, trigger *event.Event, at int64) (now []detectors.Signal, due int64) {
	if trigger == nil || d.OutOfOrder == 0 || trigger.Feed >= event.Customers {
		return sigs, 0
	}
	now = sigs[:0]
	for i := range sigs {
		s := &sigs[i]
		if s.State == detectors.Firing && s.At < at && s.At != trigger.Time && s.At > trigger.Time-d.OutOfOrder {
			due = earlier(due, s.At)
			continue
		}
		now = append(now, *s)
	}
	return now, due
}

// maxSettle bounds the deadlines that are decided in one go for one customer: an open complaint has a dozen or so, and at most 128 are open.
const maxSettle = 2048

// Settle has the deadlines of one customer up to a time decided, each at its own moment. decide decides at the moment that it
// is given, and arms the next deadline.
func Settle(r *customer.Record, upTo int64, decide func(at int64)) {
	for range maxSettle {
		due := r.Deadline
		if due == 0 || due > upTo {
			return
		}
		decide(due)
		if r.Deadline <= due && r.Deadline != 0 { // undecided: a feed is not known so far
			return
		}
	}
}

// Signal is what the detector said when it made the step. It must not be changed.
func (s *Step) Signal() *detectors.Signal { return &s.signal }
