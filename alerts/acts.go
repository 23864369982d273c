package alerts

import (
	"cmp"
	"encoding/hex"

	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
)

// This file takes what people do about alerts into their lifecycles. An act is applied to an alert that is open; what it leads to is a step like any other:
// acknowledged once, changed for the rest, resolved for an outcome, reminded when a snooze has ended or nobody has acknowledged for long.

// Act carries out what a person decided, and appends the steps to publish. A step that nobody was told of (quiet history) is not one: the alert bears the
// mark when it is published. The result is customer.Applied; or AlertNotOpen, for an alert that is over or that was never there; or ActRepeated, for an act
// that says what is so already. It changes nothing in the last two.
func (p *Policy) Act(r *customer.Record, e *event.Event, mode Mode, out []Step) ([]Step, customer.Outcome) {
	begin := len(out)
	result := customer.AlertNotOpen
	switch e.Kind {
	case event.KindMaintenance:
		result = customer.ActRepeated
		if r.Hold(e.Time, e.Control.Until) {
			result = customer.Applied
		}
	case event.KindContacted:
		if e.Control.AlertID == "" {
			out, result = p.contacted(r, e, mode, out)
			break
		}
		fallthrough
	default:
		id, ok := ParseID(e.Control.AlertID)
		if !ok {
			break
		}
		if i := openAlert(r, id); i >= 0 {
			out, result = p.actOn(r, i, e, mode, out)
		} else {
			result = actOnClosed(r, id, e)
		}
	}
	for i := begin; i < len(out); i++ {
		r.Decided = max(r.Decided, out[i].At)
	}
	return out, result
}

// ParseID reads an alert's id as events tell it: 32 hexadecimal digits.
func ParseID(s string) (id [16]byte, ok bool) {
	if len(s) != hex.EncodedLen(len(id)) {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(s))
	return id, err == nil
}

func openAlert(r *customer.Record, id [16]byte) int {
	for i := range r.Lifecycles {
		if r.Lifecycles[i].AlertID == id {
			return i
		}
	}
	return -1
}

// contacted notes that somebody spoke with the customer, about whatever is open.
func (p *Policy) contacted(r *customer.Record, e *event.Event, mode Mode, out []Step) ([]Step, customer.Outcome) {
	result := customer.AlertNotOpen
	for i := range r.Lifecycles {
		var one customer.Outcome
		if out, one = p.actOn(r, i, e, mode, out); result != customer.Applied {
			result = one
		}
	}
	return out, result
}

// actOn carries out an act on an open alert.
func (p *Policy) actOn(r *customer.Record, i int, e *event.Event, mode Mode, out []Step) ([]Step, customer.Outcome) {
	l, a := &r.Lifecycles[i], e.Control
	at := max(e.Time, l.ChangedAt, l.FiredAt)
	if e.Kind == event.KindOutcome {
		return p.closeBy(r, i, a, at, out), customer.Applied
	}
	w := customer.Work{}
	if l.Work != nil {
		w = *l.Work
	}
	kind, changed := work(&w, e.Kind, a, at)
	if !changed {
		return out, customer.ActRepeated
	}
	if a.Note != "" {
		w.Note = customer.Clip(a.Note, customer.MaxNote)
	}
	l.Work, l.ChangedAt = &w, at
	if l.Unpublished || mode == Quiet {
		return out, customer.Applied
	}
	l.Revision++
	s := p.held(l)
	s.At = at
	st := step(kind, l, &s)
	st.By = customer.Clip(a.By, customer.MaxActor)
	return append(out, st), customer.Applied
}

// work changes what is known of the work on an alert by one act. It is false for an act that changes nothing.
func work(w *customer.Work, kind event.Kind, a *event.Act, at int64) (StepKind, bool) {
	by := customer.Clip(a.By, customer.MaxActor)
	was := *w
	switch kind {
	case event.KindAcknowledge:
		if w.AcknowledgedAt == 0 {
			w.AcknowledgedAt, w.AcknowledgedBy = at, by
		}
		return StepAcknowledged, *w != was
	case event.KindAssign:
		w.Assignee = cmp.Or(customer.Clip(a.Assignee, customer.MaxActor), by)
	case event.KindUnassign:
		w.Assignee = ""
	case event.KindSnooze:
		if a.Until > at {
			w.SnoozedUntil = a.Until
		}
	case event.KindUnsnooze:
		w.SnoozedUntil = 0
	case event.KindContacted:
		w.ContactedAt, w.ContactedBy = at, by
	}
	return StepChanged, *w != was
}

// closeBy ends an alert with what a person says became of it. It is remembered, so that the same condition is not told again before there is something new.
func (p *Policy) closeBy(r *customer.Record, i int, a *event.Act, at int64, out []Step) []Step {
	l := r.Lifecycles[i]
	c := customer.Closing{Detector: l.Detector, Subject: l.Subject, AlertID: l.AlertID, At: at, Result: a.Result}
	if l.Subject == "" {
		c.Until = at + p.quietAfter
	}
	r.Close(c)
	closed(r, &c)
	r.SettlePrediction(l.AlertID, a.Result)
	p.closeGuests(r, c)
	i = openAlert(r, l.AlertID)
	s := p.held(&l)
	s.State, s.Reason, s.At = detectors.Clear, detectors.ClosedByOutcome, at
	begin := len(out)
	out = p.resolve(r, i, &s, out)
	for k := begin; k < len(out); k++ {
		st := &out[k]
		st.By, st.Result, st.LossCause = customer.Clip(a.By, customer.MaxActor), a.Result, a.Cause
		st.Note = customer.Clip(a.Note, customer.MaxNote)
	}
	return out
}

// closed does what follows from an outcome for the customer: a complaint is not followed any more, and who is lost is not judged before he comes back.
func closed(r *customer.Record, c *customer.Closing) {
	if c.Subject != "" {
		mute(r, c.Subject)
	}
	if c.Result == event.ResultLost {
		r.Lapsed = true
	}
}

// actOnClosed carries out an act on an alert that is not open: an outcome still says whether it was right, and reopening takes an outcome back.
func actOnClosed(r *customer.Record, id [16]byte, e *event.Event) customer.Outcome {
	switch e.Kind {
	case event.KindOutcome:
		settled := r.SettlePrediction(id, e.Control.Result)
		for _, c := range r.Closings() {
			if c.AlertID == id && c.Result == e.Control.Result { // read again after a rewind, or said again
				closed(r, &c)
				settled = true
			}
		}
		if settled {
			return customer.Applied
		}
	case event.KindReopen:
		result := customer.AlertNotOpen
		for i, c := range r.Closings() { // with an alert were closed those that were told within it
			if c.AlertID == id {
				reopen(r, i, &c, e.Time)
				result = customer.Applied
			}
		}
		return result
	}
	return customer.AlertNotOpen
}

// reopen takes an outcome back: what still holds is told again at once, as a new alert.
func reopen(r *customer.Record, i int, c *customer.Closing, at int64) {
	r.ReopenClosing(i, max(at, c.At))
	r.SettlePrediction(c.AlertID, event.ResultNone)
	if c.Result == event.ResultLost {
		r.Lapsed = false
	}
	if k := r.Complaint(c.Subject); c.Subject != "" && k >= 0 {
		r.Complaints[k].Muted = false
	}
}

// hushed reports whether a condition is one that a person closed, and nothing is new: it began before, and the time for which that holds has not passed. One
// that is told again is told as of then, under an id of its own.
func hushed(r *customer.Record, s *detectors.Signal, now int64) bool {
	i := r.Closing(s.Detector, s.Subject)
	if i < 0 {
		return false
	}
	c := r.Closings()[i]
	if s.Since <= c.At {
		if c.Until == 0 || now < c.Until {
			return true
		}
		s.At = max(s.At, c.Until)
	}
	r.DropClosing(i)
	return false
}

// remind appends the reminders that are due: of alerts whose snooze has ended, and of those that nobody has acknowledged.
func (p *Policy) remind(r *customer.Record, now int64, mode Mode, out []Step) []Step {
	for i := range r.Lifecycles {
		l := &r.Lifecycles[i]
		due := p.remindAt(l)
		if due == 0 || now < due || l.Unpublished || mode == Quiet {
			continue
		}
		w := customer.Work{}
		if l.Work != nil {
			w = *l.Work
		}
		w.SnoozedUntil, w.RemindedAt = 0, due
		if p.remindAfter != 0 && due+p.remindAfter <= now {
			w.RemindedAt = now // of several that nobody was told of one is enough
		}
		l.Work, l.ChangedAt = &w, max(due, l.ChangedAt)
		l.Revision++
		s := p.held(l)
		s.At = l.ChangedAt
		out = append(out, step(StepReminded, l, &s))
	}
	return out
}

// wake lets an alert that is told now count from now: a snooze that has ended meanwhile is over, and nobody can have acknowledged it before.
func (p *Policy) wake(l *customer.Lifecycle, now int64) {
	w := customer.Work{}
	if l.Work != nil {
		w = *l.Work
	}
	if w.SnoozedUntil != 0 && w.SnoozedUntil <= now {
		w.SnoozedUntil = 0
	}
	if p.remindAfter != 0 && w.AcknowledgedAt == 0 {
		w.RemindedAt = now
	}
	if w != (customer.Work{}) {
		l.Work = &w
	}
}

// remindAt is when the alert is due for a reminder, 0 for never.
func (p *Policy) remindAt(l *customer.Lifecycle) int64 {
	w := l.Work
	if w == nil {
		w = &customer.Work{}
	}
	return p.remindWhen(w, l.FiredAt)
}

// remindWhen is when an alert that fired at an event time is due for a reminder after what people did, 0 for never.
func (p *Policy) remindWhen(w *customer.Work, firedAt int64) int64 {
	switch {
	case w.SnoozedUntil != 0:
		return w.SnoozedUntil
	case p.remindAfter != 0 && w.AcknowledgedAt == 0:
		return max(firedAt, w.RemindedAt) + p.remindAfter
	}
	return 0
}

// Due is when the policy wants to be asked again about a customer, whatever the detectors say: the first time after the decision at which a reminder is due, a closed
// alert may be told again, the cohort of one that is held back is judged anew, or a prediction can be judged. 0 is never.
func (p *Policy) Due(r *customer.Record, env *detectors.Env) int64 {
	next := int64(0)
	at := func(t int64) {
		if t > env.Now && (next == 0 || t < next) {
			next = t
		}
	}
	for i := range r.Lifecycles {
		switch l := &r.Lifecycles[i]; {
		case !l.Unpublished:
			at(p.remindAt(l))
		case l.HeldBack():
			at(max(env.CohortsNext, env.Now+1))
		}
	}
	for _, c := range r.Closings() {
		at(c.Until)
	}
	for _, p := range r.Predictions() {
		at(p.Due)
	}
	return next
}
