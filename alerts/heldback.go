package alerts

import (
	"encoding/hex"

	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/state/customer"
)

// While an alert about a cohort of customers is open, what tells of one of them that he leaves is held back: it lives on in the record, is worse or over, and nobody
// is told. What still fires when the cohort's alert is over is told then, by itself, and names what it was held back for. What was told before the cohort's alert began
// goes on, and so does a drop that is told within a complaint: that is no case among many.
//
// The cohort's alert stands for what is held back, so it is held to that: of each customer it foretells what his own alert would have, whether that is told later or not.

// holdBack holds the alert of index i back, which fires just now, if one is open about a cohort of the customer. It is false if there is none.
func (p *Policy) holdBack(r *customer.Record, i int, env *detectors.Env) bool {
	l := &r.Lifecycles[i]
	if env.Cohorts == nil || !p.cfg.Detectors.Leaving(l.Detector) {
		return false
	}
	x := env.Cohorts.Within(r.Profile(), env.CohortsDay)
	if x == nil {
		return false
	}
	l.Cohort, l.Unpublished = &customer.Cohort{By: uint8(x.Key.By), Value: x.Key.Value, Opened: x.Opened}, true
	p.foretellOfCohort(r, env, l)
	return true
}

// letGo tells what was held back for an alert about a cohort that is over: within a complaint if there is one by now, else by itself.
func (p *Policy) letGo(r *customer.Record, env *detectors.Env, mode Mode, out []Step) []Step {
	for i := range r.Lifecycles {
		l := &r.Lifecycles[i]
		if mode == Quiet || !l.HeldBack() || env.Cohorts.Open(CohortKey(l.Cohort), l.Cohort.Opened, env.CohortsDay) {
			continue
		}
		out = p.comesOut(r, i, env, mode, out)
		p.foretell(r, env, l)
	}
	return out
}

// CohortKey is the cohort within whose alert one is held back.
func CohortKey(c *customer.Cohort) cohorts.Key {
	return cohorts.Key{By: cohorts.Dimension(c.By), Value: c.Value}
}

// cohortID is the id of the alert within which one is held back.
func (p *Policy) cohortID(c *customer.Cohort) [16]byte {
	return p.alertID("", CohortDropName, CohortKey(c).String(), c.Opened)
}

// cohort writes within which alert about a cohort an alert was held back.
func (p *Policy) cohort(o *detectors.Object, c *customer.Cohort) {
	if c == nil {
		return
	}
	name := CohortKey(c).String()
	o.Object("held_back_for", func(o *detectors.Object) {
		o.Text("id", name)
		id := p.cohortID(c)
		o.TextWith("alert_id", func(dst []byte) []byte { return hex.AppendEncode(dst, id[:]) })
	})
}

// whyLate appends why an alert that was held back is told only now.
func whyLate(dst []byte, s *Step) []byte {
	c := s.episode.Cohort
	if c == nil || s.Kind != StepFired {
		return dst
	}
	dst = append(dst, " It was held back while an alert was open about "...)
	return append(append(dst, cohortOf(CohortKey(c))...), '.')
}
