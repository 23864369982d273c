package backtest

import (
	"slices"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/state/customer"
)

// This file follows the alerts of a customer from decision to decision. What a detector says of him begins and ends an alert; the policy decides who is told of it, and when: at once, within
// another alert, once one about his cohort is over, or not at all.

// note takes in what a decision has changed, at an event time.
func (s *shard) note(c *subject, d *alerts.Decision, at int64) {
	for i := range d.Steps {
		if st := &d.Steps[i]; st.Kind == alerts.StepFired && s.openAlert(c, st.AlertID) == nil {
			s.begin(c, st.Detector, st.Subject, st.AlertID, st.FiredAt, st.Since, firing(d.Signals, st.Detector, st.Subject, st.Signal()))
		}
	}
	for i := range c.rec.Lifecycles {
		if l := &c.rec.Lifecycles[i]; s.openAlert(c, l.AlertID) == nil {
			s.begin(c, l.Detector, l.Subject, l.AlertID, l.FiredAt, l.Since, firing(d.Signals, l.Detector, l.Subject, &detectors.Signal{}))
		}
	}
	for i := range d.Signals {
		s.said(c, &d.Signals[i])
	}
	for i := range d.Steps {
		if a := s.openAlert(c, d.Steps[i].AlertID); a != nil {
			a.step(&d.Steps[i])
		}
	}
	s.hidden(c, d.Steps)
	s.end(c, d, at)
}

// firing is what a detector said of a subject that fires, or a signal that stands for it where it did not say so: an alert that begins and ends in one decision has been heard of at least by its step.
func firing(all []detectors.Signal, detector, about string, instead *detectors.Signal) *detectors.Signal {
	for i := range all {
		if x := &all[i]; x.State == detectors.Firing && x.Detector == detector && x.Subject == about {
			return x
		}
	}
	return instead
}

// begin notes an alert that has begun.
func (s *shard) begin(c *subject, detector, about string, id [16]byte, at, since int64, x *detectors.Signal) {
	c.open = append(c.open, len(s.alerts))
	if detector == detectors.PartialLapseName {
		s.foretold[id] = len(s.alerts)
	}
	s.alerts = append(s.alerts, Alert{
		ID: id, Customer: c.rec.ID, Detector: detector, Subject: about, At: at, Since: since, Severity: x.Severity, Highest: x.Severity, AtRisk: x.AtRisk, Expected: x.Expected,
		Observed: x.Observed, Horizon: int32(x.HorizonDays), Probability: x.Probability, of: s.headcount.Cohorts(&c.rec),
	})
}

// openAlert is the open alert of an id, nil if there is none.
func (s *shard) openAlert(c *subject, id [16]byte) *Alert {
	for _, i := range c.open {
		if a := &s.alerts[i]; a.ID == id {
			return a
		}
	}
	return nil
}

// said notes what a detector says of an alert that goes on, or is over: after its end it may speak of another one.
func (s *shard) said(c *subject, x *detectors.Signal) {
	for _, i := range c.open {
		a := &s.alerts[i]
		switch {
		case a.Detector != x.Detector || a.Subject != x.Subject || a.ResolvedAt != 0:
			continue
		case x.State == detectors.Firing:
			a.Highest = max(a.Highest, x.Severity)
		case x.State == detectors.Clear:
			a.ResolvedAt = x.At
		}
		return
	}
}

// step notes a step by which people were told of an alert of its own.
func (a *Alert) step(st *alerts.Step) {
	switch {
	case st.Kind == alerts.StepFired:
		a.Alone, a.ToldAs = st.At, st.Severity
		if a.Told == 0 {
			a.Told = st.At
		}
	case st.Kind == alerts.StepChanged:
		a.Changes++
	}
}

// hidden notes of the open alerts that are not told by themselves why that is.
func (s *shard) hidden(c *subject, steps []alerts.Step) {
	for i := range c.rec.Lifecycles {
		l := &c.rec.Lifecycles[i]
		switch a := s.openAlert(c, l.AlertID); {
		case a == nil || !l.Unpublished:
		case l.HeldBack():
			k := alerts.CohortKey(l.Cohort)
			a.HeldFor = &k
		case l.Guest() && a.Told == 0:
			a.Told, a.Within = toldWith(steps, &c.rec, i)
		}
	}
}

// toldWith is when the alert of an index was told within another, and of which detector that is.
func toldWith(steps []alerts.Step, r *customer.Record, i int) (at int64, detector string) {
	host := r.Lifecycles[i].Host
	for k := range steps {
		if st := &steps[k]; st.AlertID == host {
			at, detector = max(at, st.At), st.Detector
		}
	}
	return at, detector
}

// end forgets the open alerts that are over. What no detector has ended ended by the step that tells it or, of one that nobody knows of, with the decision, at an event time.
func (s *shard) end(c *subject, d *alerts.Decision, at int64) {
	c.open = slices.DeleteFunc(c.open, func(i int) bool {
		a := &s.alerts[i]
		if slices.ContainsFunc(c.rec.Lifecycles, func(l customer.Lifecycle) bool { return l.AlertID == a.ID }) {
			return false
		}
		if a.ResolvedAt != 0 {
			return true
		}
		a.ResolvedAt = at
		for k := range d.Steps {
			if st := &d.Steps[k]; st.Kind == alerts.StepResolved && st.AlertID == a.ID {
				a.ResolvedAt = st.At
			}
		}
		return true
	})
}

// judged notes what became of an alert of which the history itself does not tell.
func (s *shard) judged(v *alerts.Verdict) {
	i, known := s.foretold[v.AlertID]
	if !known {
		return
	}
	delete(s.foretold, v.AlertID)
	switch v.Result {
	case alerts.ResultRight:
		s.alerts[i].came = right
	case alerts.ResultWrong:
		s.alerts[i].came = wrong
	}
}
