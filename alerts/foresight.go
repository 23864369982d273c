package alerts

import (
	"math"
	"slices"

	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
)

// This file holds alerts to what they said. Each alert that is told and foretells something is judged once its horizon has passed; what a person said became of it
// counts instead of what ebb computes.

// Verdict is what became of an alert's prediction.
type Verdict struct {
	AlertID  [16]byte
	Detector string
	Severity Severity // at which it fired
	Result   Result
	// Probability is what was foretold, in 1/1000; 0 where the alert named none.
	Probability uint16
	// LeadMs is how long before the end of a horizon that begins with the condition the alert came: what was gained over waiting until it is plain, at least 0.
	LeadMs int64
}

// Result is what became of a prediction.
type Result uint8

// The results. The first three are computed, the others are what people said.
const (
	ResultRight Result = iota
	ResultWrong
	ResultUnknown
	ResultSaved
	ResultLost
	ResultFalseAlarm

	NumResults = 6
)

var predictionResultNames = [NumResults]string{"right", "wrong", "unknown", "saved", "lost", "false_alarm"}

// String is the result's name in metrics.
func (r Result) String() string {
	if r < NumResults {
		return predictionResultNames[r]
	}
	return "unknown"
}

// Came reports whether what was foretold is true, and whether that is known: of a customer who was saved nobody knows what would have been. A saved customer
// was at risk, so Founded is true for him too.
func (r Result) Came() (came, known bool) {
	switch r {
	case ResultRight, ResultLost:
		return true, true
	case ResultWrong, ResultFalseAlarm:
		return false, true
	}
	return false, false
}

// Founded reports whether the alert was worth its while, and whether that is known: precision is the part of those for which it is.
func (r Result) Founded() (founded, known bool) {
	if r == ResultSaved {
		return true, true
	}
	return r.Came()
}

// unjudged is for how long predictions that are due, and could not be judged because a feed is not known so far, are best left alone, ms; 0 if there are none. Nobody
// waits for a verdict, so it is asked for when as much more is known as is missing now, but at least once a day.
func unjudged(r *customer.Record, env *detectors.Env) int64 {
	wait := int64(0)
	known := min(env.KnownUntil[event.Usage], env.KnownUntil[event.Payments])
	for _, x := range r.Predictions() {
		if x.Due <= env.Now {
			wait = max(wait, min(max(x.Due-known, againLeastMs), againMostMs))
		}
	}
	return wait
}

// Bounds of such a time.
const (
	againLeastMs = 3_600_000
	againMostMs  = 24 * againLeastMs
)

// foretell remembers what an alert that is told just now foretells, unless that is known from before a rewind. One whose horizon has passed already is not
// remembered: it may have been judged before.
func (p *Policy) foretell(r *customer.Record, env *detectors.Env, l *customer.Lifecycle) {
	known := slices.ContainsFunc(r.Predictions(), func(x customer.Prediction) bool { return x.AlertID == l.AlertID })
	x, ok := p.cfg.Detectors.Foretell(r, env, l, p.cfg.Horizon)
	if !ok || known || x.Due <= env.Now {
		return
	}
	r.Predict(x)
}

// foretellOfCohort remembers what the alert about a cohort foretells of a customer whose own alert is held back for it. Of one customer it foretells one thing.
func (p *Policy) foretellOfCohort(r *customer.Record, env *detectors.Env, l *customer.Lifecycle) {
	id := p.cohortID(l.Cohort)
	known := slices.ContainsFunc(r.Predictions(), func(x customer.Prediction) bool { return x.AlertID == id })
	if x, ok := p.cfg.Detectors.ForetellOfCohort(r, env, l, p.cfg.Horizon, id); ok && !known && x.Due > env.Now {
		r.Predict(x)
	}
}

// permille is a probability as it is stored: at least 1 if there is one.
func permille(p float64) uint16 {
	if !(p > 0) {
		return 0
	}
	return uint16(max(1, math.Round(1000*min(p, 1))))
}

// Judge takes what can be judged out of a customer's predictions, at env.Now, and appends the verdicts.
func (p *Policy) Judge(r *customer.Record, env *detectors.Env, out []Verdict) []Verdict {
	for i := 0; i < len(r.Predictions()); {
		x := r.Predictions()[i]
		result, known := p.result(r, env, &x)
		if !known {
			i++
			continue
		}
		v := Verdict{
			AlertID: x.AlertID, Detector: x.Detector, Severity: Severity(x.Severity), Result: result, Probability: x.Probability,
			LeadMs: max(0, x.Since+x.Due-2*x.At),
		}
		if v.Detector == CohortDropName { // it tells none: that of silence is kept for what counts as activity
			v.Probability = 0
		}
		out = append(out, v)
		r.DropPrediction(i)
	}
	return out
}

// result is what became of a prediction. It is not known before its horizon has passed, whoever said what: an outcome may be taken back.
func (p *Policy) result(r *customer.Record, env *detectors.Env, x *customer.Prediction) (Result, bool) {
	if x.Result != event.ResultNone {
		return ResultSaved + Result(x.Result-event.ResultSaved), env.Now >= x.Due
	}
	switch p.cfg.Detectors.Judge(r, env, x) {
	case detectors.Right:
		return ResultRight, true
	case detectors.Wrong:
		return ResultWrong, true
	case detectors.Unknown:
		return ResultUnknown, true
	}
	return 0, false
}
