package detectors

import (
	"ebb/state/customer"
	"ebb/stream/event"
)

// This file says what alerts foretell, and what became of it. An alert about the customer as a whole is a statement about the horizon behind it, whichever method made
// it: silence says that he will do nothing, spend_drop that he will spend less than half of what he used to, outflow that the balance stays below half of what
// was usual, partial_lapse that nothing is paid for what had stopped. An alert about a complaint, a payment, grievances or a tier tells what is, and
// foretells nothing.

// Verdict is what became of a prediction.
type Verdict uint8

// The verdicts.
const (
	// Pending: it cannot be told yet.
	Pending Verdict = iota
	// Right: it came as foretold.
	Right
	// Wrong: it did not.
	Wrong
	// Unknown: it cannot be told any more, because records of the time are gone, or were never readable.
	Unknown
)

var verdictNames = [...]string{"pending", "right", "wrong", "unknown"}

func (v Verdict) String() string { return enumName(verdictNames[:], uint8(v), "verdict") }

// CohortDropName is the detector of alerts about a cohort of customers.
const CohortDropName = "cohort_drop"

// ForetellOfCohort is what an alert about a cohort foretells of a customer who begins to leave while it is open, and of whom nobody is told by himself: what the alert about him would have
// foretold, of silence or of falling spend. The id is that of the alert about the cohort. It is false where nothing could be checked.
func (s *Set) ForetellOfCohort(r *customer.Record, env *Env, l *customer.Lifecycle, horizon Duration, id [16]byte) (customer.Prediction, bool) {
	if l.Detector != SilenceName && l.Detector != SpendDropName {
		return customer.Prediction{}, false
	}
	p, ok := s.Foretell(r, env, l, horizon)
	p.Detector, p.AlertID = CohortDropName, id
	return p, ok
}

// about is the detector whose statement a prediction is held to. That of a cohort's alert about a customer is one of silence unless it says what he would have spent.
func about(p *customer.Prediction) string {
	switch {
	case p.Detector != CohortDropName:
		return p.Detector
	case p.Expected != 0:
		return SpendDropName
	}
	return SilenceName
}

// leastReference is how many local days before a fall say what was usual.
const leastReference = 28

// Foretell is what an alert foretells for the horizon behind it. It is false for one of which nothing could be checked. Detector, AlertID, Since, Severity and
// Probability are those of the lifecycle.
func (s *Set) Foretell(r *customer.Record, env *Env, l *customer.Lifecycle, horizon Duration) (customer.Prediction, bool) {
	if l.HorizonDays != 0 {
		horizon = Duration(l.HorizonDays) * Day
	}
	p := customer.Prediction{
		Detector: l.Detector, AlertID: l.AlertID, At: l.FiredAt, Since: l.Since, Due: l.FiredAt + horizon.Ms(), Severity: l.Severity,
		Probability: l.Probability,
	}
	switch l.Detector {
	case SilenceName:
		return p, true
	case SpendDropName:
		p.Expected = s.usual(r, env, l.Since, horizon)
		return p, p.Expected > 0
	case OutflowName:
		p.Expected = l.Expected
		return p, true
	case PartialLapseName:
		p.Habit = l.Cause
		return p, true
	}
	return p, false
}

// usual is what the customer spends in a horizon by what he spent in the one before a time, as far back as is known; 0 where that are less than leastReference days.
func (s *Set) usual(r *customer.Record, env *Env, before int64, horizon Duration) event.Money {
	day := env.Calendar.DayOf(r, before)
	from := max(day-int32(horizon/Day), env.Calendar.DayOf(r, r.First))
	if env.WindowsFrom != 0 {
		from = max(from, env.Calendar.DayOf(r, env.WindowsFrom))
	}
	from = max(from, env.Calendar.DayOf(r, r.LastActivity)-s.kept+1)
	if day-from < leastReference {
		return 0
	}
	_, spent := spendOf(r, env.Rates, from, from, day)
	return env.Rates.round(max(0, scaled(spent, horizon.Ms(), int64(day-from)*Day.Ms())))
}

// Judge says what became of a prediction, at env.Now. A customer who has cancelled or whose relation has ended within the horizon has left, as was foretold.
func (s *Set) Judge(r *customer.Record, env *Env, p *customer.Prediction) Verdict {
	switch {
	case r.Cancelled > p.At && r.Cancelled <= p.Due, r.Closed() && r.Profile() != nil && r.Profile().Status == customer.StatusClosed:
		return Right
	case r.Quarantined, r.Closed(), r.First == 0, r.First > p.At: // the last two after a rewind to a later time
		return Unknown
	case env.Now < p.Due, env.KnownUntil[event.Payments] < p.Due:
		return Pending
	}
	if blindWithin(r, p, event.Payments) {
		return Unknown
	}
	from, to := env.Calendar.DayOf(r, p.At)+1, env.Calendar.DayOf(r, p.Due)
	held := env.Calendar.DayOf(r, r.LastActivity)-from < s.kept // the windows reach back to the first day of the horizon
	kind := about(p)
	if kind == OutflowName {
		a, ok := r.Account(customer.WeekOf(to), 2)
		if !ok || len(a.Weeks) == 0 {
			return Unknown
		}
		balance, _ := env.Rates.Convert(a.Currency, a.Weeks[len(a.Weeks)-1].Peak)
		return verdict(less(max(balance, 0), 100, p.Expected, outflowOver))
	}
	if kind == PartialLapseName {
		return missed(r, env, p)
	}
	if kind == SpendDropName {
		if !held {
			return Unknown
		}
		_, spent := spendOf(r, env.Rates, from, from, to+1)
		return verdict(less(spent, 2, p.Expected, 1))
	}
	purchases := p.Probability != 0 && env.Population != nil && env.Population.Purchases() // what the model's rhythm is of
	switch {
	case !purchases && env.KnownUntil[event.Usage] < p.Due:
		return Pending
	case !purchases && blindWithin(r, p, event.Usage):
		return Unknown
	case r.LastActivity <= p.At:
		return Right
	case !purchases && r.LastActivity <= p.Due:
		return Wrong
	case !held:
		return Unknown
	}
	first := env.Calendar.DayOf(r, p.At-1) + 1 // the day of the alert is known as a whole where it was told when that began, as the model does
	return verdict(!activeOn(r, first, to, purchases))
}

// missed says whether nothing was paid for a habit between an alert about it and the end of its horizon. The rhythm tells its last days only: that is not known where two of them lie behind the
// horizon, nor where another habit has taken its place.
func missed(r *customer.Record, env *Env, p *customer.Prediction) Verdict {
	all := r.Habits()
	place := int(p.Habit) - 1
	if place < 0 || place >= len(all) || all[place].Kind == 0 || int32(all[place].Rhythm.First) > env.Calendar.DayOf(r, p.Since) {
		return Unknown
	}
	h := &all[place].Rhythm
	fired, due := env.Calendar.DayOf(r, p.At), env.Calendar.DayOf(r, p.Due)
	day := int32(h.Last)
	for _, gap := range [...]uint16{h.Gap, h.GapBefore, 0} {
		switch {
		case day < fired:
			return Right
		case day <= due:
			return Wrong
		case gap == 0:
			return Unknown
		}
		day -= int32(gap)
	}
	return Unknown
}

func verdict(right bool) Verdict {
	if right {
		return Right
	}
	return Wrong
}

// blindWithin reports whether records of the customer within the horizon could not be read: what they said is not known.
func blindWithin(r *customer.Record, p *customer.Prediction, f event.Feed) bool {
	b := r.Blind(f)
	return b.Since != 0 && b.Last > p.At && b.Since <= p.Due
}

// activeOn reports whether the windows hold an activity on the local days [from, to), or a purchase.
func activeOn(r *customer.Record, from, to int32, purchases bool) bool {
	for i := range r.Spend {
		if d := r.Spend[i].Day(); d >= from && d < to && (!purchases || r.Spend[i].Purchases != 0) {
			return true
		}
	}
	for i := range r.Usage {
		if d := r.Usage[i].Day; d >= from && d < to && !purchases {
			return true
		}
	}
	return false
}
