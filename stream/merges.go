package stream

import (
	"fmt"
	"slices"

	"ebb/alerts"
	"ebb/state"
	"ebb/state/customer"
	"ebb/stream/event"
)

// This file is about customers who are merged: two ids turn out to be one person. A merge is a record of the control feed, applied
// by the task of the customer who goes. His alerts are resolved, what is known of him goes through the reroute topic to
// the one who goes on, also within one task, and a mark stays that sends his later records after it. What follows from merges keeps
// its order: it is one lane of its task.
//
// A merge of somebody who has a mark is passed on like any record of his, so that chains need nothing of their own. A loop gives
// way at its oldest merge: who gets back what he had sent away takes it in and goes on by himself.

// leave applies a merge to the customer who goes.
func (t *task) leave(e *state.Entry, s *source, sl *slot) error {
	ev, rec := &sl.ev, &e.Record
	into := ev.Control.Into
	if into == rec.ID {
		sl.reject = &event.Reject{Reason: event.ReasonMergedIntoSelf, Message: "into is the customer himself"}
		return t.refuse(s, sl)
	}
	t.rec.tally.out(rec)
	t.settleBefore(e, ev.Time)
	t.readable(s, sl)
	rec.Mark(into)
	t.know(max(ev.Time, rec.Decided))
	t.steps = t.policy.Decide(rec, nil, &t.env, t.mode(), t.steps[:0])
	for i := range t.steps {
		t.emit(rec, &t.steps[i], nil)
	}
	rec.Return()
	known := customer.AppendRecord(nil, rec)
	rec.Leave(into)
	rec.Latest = max(rec.Latest, ev.Time)
	if !rec.HasUnpublished() {
		delete(t.held, rec.ID)
	}
	t.rec.tally.in(rec)
	t.rec.reroute.marked, t.marked[rec.ID] = true, true
	t.table.Changed(e)
	t.table.Arm(e, t.policy.ForgetAt(rec))
	t.export(into, known, envelope{feed: event.Control, at: whereOf(s, sl), path: []string{rec.ID}, time: ev.Time})
	return nil
}

// findMarked looks for the customers whose records are passed on, if there may be any.
func (t *task) findMarked() error {
	t.marked = map[string]bool{}
	if !t.rec.reroute.marked {
		return nil
	}
	err := t.table.Scan(func(e *state.Entry) error {
		if e.Record.MergedInto() != "" {
			t.marked[e.Record.ID] = true
		}
		return nil
	})
	t.rec.reroute.marked = len(t.marked) != 0
	return err
}

// export sends what is known of a customer to who goes on.
func (t *task) export(into string, known []byte, env envelope) {
	env.kind, env.task = parcelCustomer, t.partition
	to := t.cfg.Check([]byte(into), t.partitions)
	t.outbox.addTo(t.reroute.topic, to, alerts.Message{Key: []byte(into), Value: known, Headers: appendEnvelope(nil, env)})
	t.sent(to, env.time)
}

// sent notes what is on its way because of a merge.
func (t *task) sent(to int32, at int64) {
	t.moved = true
	if to == t.partition {
		t.reroute.own = append(t.reroute.own, at)
		t.lookAtLanes()
	}
	if t.outbox.forwardSince.IsZero() {
		t.outbox.forwardSince = t.tick()
	}
}

// passOn gives a record of a customer who was merged to who goes on in his place: at once if that is one of this task, and nothing
// that comes before it is on its way.
func (t *task) passOn(e *state.Entry, s *source, sl *slot) error {
	ev, rec := &sl.ev, &e.Record
	if t.reroute == nil {
		return noWay(s, sl)
	}
	if ev.Feed == event.Customers {
		t.m.note(s.feed, ev.Notes, customer.Merged)
		return nil
	}
	into := rec.MergedInto()
	if ev.Kind == event.KindMerge && ev.Control.Into == into {
		t.m.note(s.feed, ev.Notes, customer.MergedAgain)
		return nil
	}
	if rec.Latest < ev.Time {
		rec.Latest = ev.Time
		t.table.Changed(e)
	}
	if len(t.reroute.own) == 0 && t.cfg.Check([]byte(into), t.partitions) == t.partition {
		ev.Customer = []byte(into)
		return t.apply(s, sl)
	}
	t.sendOn(s, sl, into, ev.Time)
	return nil
}

// noWay stops a task that is to pass a record on and cannot.
func noWay(s *source, sl *slot) error {
	return fmt.Errorf("%s offset %d is of a customer who was merged into another: set topics.reroute, through which his records go", s.topic, sl.rec.Offset)
}

// sendOn forwards a record to who goes on in its customer's place.
func (t *task) sendOn(s *source, sl *slot, into string, at int64) {
	to := t.cfg.Check([]byte(into), t.partitions)
	t.forwardAs(s, sl, to, into)
	t.sent(to, at)
}

// rename makes the record one of the customer to whom it counts.
func (p *parcel) rename() {
	switch {
	case p.as == "":
	case p.reject != nil:
		p.reject.Customer = p.as
	default:
		p.ev.Customer = []byte(p.as)
	}
}

// join takes in what was known of a customer who was merged.
func (t *task) join(p *parcel) error {
	if t.cfg.Check([]byte(p.as), t.partitions) != t.partition { // the feeds have grown meanwhile
		t.exportOn(p, p.as, p.path)
		return nil
	}
	e, err := t.table.Get([]byte(p.as))
	if err != nil {
		return fmt.Errorf("customer into whom another was merged: %w", err)
	}
	rec := &e.Record
	switch {
	case rec.Quarantined:
		p.reject = &event.Reject{Reason: event.ReasonQuarantined, Message: "this customer is quarantined; the value is what was known of the one who was merged into him", Customer: p.as}
	case t.poisoned[poisonOf(p.feed, &p.slot)]:
		p.reject = &event.Reject{Reason: event.ReasonInternalError, Message: "merging failed; the value is what was known of the customer who was merged", Customer: p.as}
	}
	if p.reject != nil {
		return t.refuse(p.feed, &p.slot)
	}
	var outcome customer.Outcome
	if on := rec.MergedInto(); on != "" {
		if !slices.Contains(p.path, on) {
			t.exportOn(p, on, append(p.path, rec.ID))
			return nil
		}
		rec.Return()
		delete(t.marked, rec.ID)
		outcome = customer.MergeLoop
		t.log.Warn("customers were merged in a circle; the oldest merge is undone")
	}
	other := customer.Record{ID: p.path[0]}
	if err := customer.DecodeRecord(p.rec.Value, &other); err != nil {
		return fmt.Errorf("%s partition %d offset %d, what was known of a customer who was merged: %w", t.reroute.topic, t.partition, p.at, err)
	}
	t.rec.tally.out(rec)
	t.settleBefore(e, p.ev.Time)
	outcome |= rec.Join(&other, &t.params)
	t.m.note(event.Control, 0, outcome)
	t.table.Changed(e)
	if t.decide(e, max(p.ev.Time, rec.Decided), nil) {
		t.rec.tally.in(rec)
	}
	return nil
}

// exportOn sends on what was known of a customer.
func (t *task) exportOn(p *parcel, into string, path []string) {
	t.export(into, p.rec.Value, envelope{feed: event.Control, at: whereOf(p.feed, &p.slot), path: path, time: p.ev.Time})
}

// toMove is the event time of the first decoded record that will go to another task when it is applied, which is later than it is
// decoded: a merge, or a record of somebody who was merged. A promise must not go beyond it.
func (t *task) toMove() int64 {
	first := never
	for _, s := range t.controls {
		if at, ok := s.nextTime(); ok {
			first = min(first, at)
		}
	}
	if len(t.marked) == 0 {
		return first
	}
	for _, s := range t.merged {
		for sl := range s.decoded() {
			if sl.timed() && t.marked[string(sl.ev.Customer)] {
				first = min(first, sl.ev.Time)
				break
			}
		}
	}
	return first
}
