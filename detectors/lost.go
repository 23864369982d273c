package detectors

import (
	"ebb/state/customer"
	"ebb/stream/event"
)

// costly is a detector of whose alerts it can be told what the customer would have spent since their condition began, and did not.
type costly interface {
	// lost is the area under the baseline since the condition of an alert began, at an event time, 0 where it is not known.
	lost(r *customer.Record, env *Env, l *customer.Lifecycle, at int64) event.Money
}

// Lost is the money lost so far by what an alert is about, at an event time: what was usual for the days since its condition began, less what was spent on them. It is in the
// reporting currency, never negative, and 0 where it is not known: for other detectors, and once the windows do not hold the days any more.
func (s *Set) Lost(r *customer.Record, env *Env, l *customer.Lifecycle, at int64) event.Money {
	d, ok := s.Detector(l.Detector).(costly)
	if !ok {
		return 0
	}
	return max(0, env.Rates.round(d.lost(r, env, l, at)))
}

const (
	// usualDays is how many days up to the last one of activity say what was usual, as far as the windows hold them: three months of any length have a month's bills three times.
	usualDays = 84
	// leastUsualDays is the least of them; a shorter history counts as if there had been nothing before, as in every baseline.
	leastUsualDays = 28
)

// lostSince is what was usual up to a local day, for the days after it to before that of a time, less what was spent on those.
func lostSince(r *customer.Record, env *Env, last int32, at int64) event.Money {
	held := env.Calendar.DayOf(r, r.LastActivity) - customer.MinKeptDays + 1
	from := max(last-usualDays+1, env.Calendar.DayOf(r, r.First), held)
	span := last - from + 1
	switch {
	case span >= leastUsualDays:
	case last-leastUsualDays+1 >= held:
		span = leastUsualDays
	default:
		return 0
	}
	to := env.Calendar.DayOf(r, at)
	if to <= last+1 {
		return 0
	}
	usual, spent := spendOf(r, env.Rates, from, last+1, to)
	return add(scaled(max(0, usual), int64(to-last-1), int64(span)), -spent)
}

func (*silence) lost(r *customer.Record, env *Env, l *customer.Lifecycle, at int64) event.Money {
	return lostSince(r, env, l.Day, at)
}

func (*silenceModel) lost(r *customer.Record, env *Env, l *customer.Lifecycle, at int64) event.Money {
	return lostSince(r, env, l.Day, at)
}

// lost goes on from what was usual, and was spent, when the alert began.
func (d *drop) lost(r *customer.Record, env *Env, l *customer.Lifecycle, at int64) event.Money {
	from, to := env.Calendar.DayOf(r, l.Since), env.Calendar.DayOf(r, at)
	if d.feed != event.Payments || from >= l.Day {
		return 0
	}
	if to <= l.Day {
		return add(l.Expected, -l.Observed)
	}
	if l.Day < env.Calendar.DayOf(r, r.LastActivity)-customer.MinKeptDays+1 {
		return 0
	}
	expected := d.usual(r, env, l, env.elapsed(r, d.feed, from, to))
	return add(expected, -add(l.Observed, d.sum(r, env, l.Day, to)))
}
