package stream

import (
	"encoding/binary"
	"fmt"

	"ebb/alerts"
	"ebb/state"
	"ebb/state/customer"
	"ebb/stream/event"
)

// This file carries out what people do about alerts and customers: records of the control feed, but for merges. They are taken in the order of their times among
// the records of the other feeds, as far as those are read, and hold nobody. So a history that is read again finds each alert as it was when somebody acted on it.

// act carries out one act. One on an alert that is over, or on a customer of whom nothing is known, changes nothing and is counted: it is what happens when a
// customer comes back while somebody writes.
func (t *task) act(s *source, sl *slot) error {
	ev := &sl.ev
	t.feeds[s.feed].rhythm.observe(ev.Time) // it is shown; nobody waits for acts
	t.readable(s, sl)
	switch {
	case ev.Kind == event.KindErase:
		sl.reject = &event.Reject{Reason: event.ReasonUnsupportedType, Message: "this version of ebb does not erase customers"}
		return t.refuse(s, sl)
	case len(ev.Customer) == 0 && ev.Kind != event.KindMaintenance:
		t.passAct(ev)
		return nil
	case len(ev.Customer) == 0:
		sl.reject = &event.Reject{Reason: event.ReasonUnsupportedType, Message: "this version of ebb carries out maintenance of single customers only: name one"}
		return t.refuse(s, sl)
	}
	e, ok, err := t.table.Lookup(ev.Customer)
	switch {
	case err != nil:
		return fmt.Errorf("customer of %s offset %d: %w", s.topic, sl.rec.Offset, err)
	case !ok:
		t.m.note(s.feed, ev.Notes, customer.AlertNotOpen)
		return nil
	case e.Record.Quarantined:
		sl.reject = &event.Reject{Reason: event.ReasonQuarantined, Message: "this customer is quarantined", Customer: string(ev.Customer)}
		return t.refuse(s, sl)
	case e.Record.MergedInto() != "":
		return t.passOn(e, s, sl)
	}
	t.rec.tally.out(&e.Record)
	if t.actOn(e, s, sl) {
		t.rec.tally.in(&e.Record)
	}
	return nil
}

// factActs is the kind of the facts that carry what people decided about alerts of many customers, which are the second stage's:
//
//	value   version (1 byte), group (text), kind (1 byte), time (varint, ms), alert, by, note, assignee (texts), until (varint, ms), result and cause (1 byte each)
const factActs = "acts"

// passAct passes an act that names no customer on to the second stage.
func (t *task) passAct(e *event.Event) {
	t.outbox.add(t.cfg.Topics.Facts, alerts.Message{Key: factKey(factActs, t.partition), Value: appendAct(nil, t.cfg.Group, e)})
	t.cutNow = true // a person waits
}

func appendAct(b []byte, group string, e *event.Event) []byte {
	a := e.Control
	b = append(appendString(append(b, factVersion), group), byte(e.Kind))
	b = binary.AppendVarint(b, e.Time)
	for _, s := range []string{a.AlertID, a.By, a.Note, a.Assignee} {
		b = appendString(b, s)
	}
	return append(binary.AppendVarint(b, a.Until), byte(a.Result), byte(a.Cause))
}

func decodeAct(b []byte) (*event.Event, error) {
	d, _, err := openFact(b)
	if err != nil {
		return nil, err
	}
	e := &event.Event{Feed: event.Control, Kind: event.Kind(d.byte()), Time: d.varint()}
	e.Control = &event.Act{AlertID: d.str(), By: d.str(), Note: d.str(), Assignee: d.str(), Until: d.varint(), Result: event.Result(d.byte()), Cause: event.Cause(d.byte())}
	if err := d.closeFact(); err != nil {
		return nil, err
	}
	return e, nil
}

// actOn is act once the customer is found. It is false if he was forgotten.
func (t *task) actOn(e *state.Entry, s *source, sl *slot) bool {
	ev, rec := &sl.ev, &e.Record
	if due := t.dueBefore(ev.Time); rec.Deadline != 0 && rec.Deadline <= due {
		t.settle(e, due)
	}
	t.table.Changed(e)
	outcome := rec.Act(ev, &t.params)
	if outcome.Has(customer.Duplicate) {
		t.m.note(s.feed, ev.Notes, outcome)
		return true
	}
	t.position = whereOf(s, sl)
	at := max(ev.Time, rec.Decided)
	t.know(at)
	steps, what := t.policy.Act(rec, ev, t.mode(), t.steps[:0])
	t.steps = steps
	for i := range steps {
		t.emit(rec, &steps[i], ev)
	}
	if outcome |= what; ev.Notes != 0 || outcome != customer.Applied {
		t.m.note(s.feed, ev.Notes, outcome)
	}
	kept := t.decide(e, max(at, rec.Decided), nil)
	if kept && !rec.HasUnpublished() {
		delete(t.held, rec.ID)
	}
	return kept
}
