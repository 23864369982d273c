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

// reference is the stretch of local days up to one that says what was usual until then, [from, last]. It is false where the windows do not hold enough.
func reference(r *customer.Record, env *Env, last int32) (from int32, ok bool) {
	held := windowsHeld(r, env)
	from = max(last-usualDays+1, env.Calendar.DayOf(r, r.First), held)
	if last-from+1 >= leastUsualDays {
		return from, true
	}
	return last - leastUsualDays + 1, last-leastUsualDays+1 >= held
}

// windowsHeld is the first local day that the windows hold for certain.
func windowsHeld(r *customer.Record, env *Env) int32 {
	return env.Calendar.DayOf(r, r.LastActivity) - customer.MinKeptDays + 1
}

// lostSince is what was usual up to a local day, for the days after it to before that of a time, less what was spent on those.
func lostSince(r *customer.Record, env *Env, last int32, at int64) event.Money {
	from, ok := reference(r, env, last)
	to := env.Calendar.DayOf(r, at)
	if !ok || to <= last+1 {
		return 0
	}
	return lostBetween(r, env, from, last, to)
}

func lostBetween(r *customer.Record, env *Env, from, last, to int32) event.Money {
	usual, spent := spendOf(r, env.Rates, from, last+1, to)
	return add(scaled(max(0, usual), int64(to-last-1), int64(last-from+1)), -spent)
}

// lostBeside is lostSince for a customer who may go on to pay as before: the days since he last paid count once another payment is overdue by what was usual.
func lostBeside(r *customer.Record, env *Env, last int32, at int64) event.Money {
	from, ok := reference(r, env, last)
	if !ok {
		return 0
	}
	to := env.Calendar.DayOf(r, at)
	paid, times := int32(0), int32(0)
	for i := range r.Spend {
		day := r.Spend[i].Day()
		if r.Spend[i].Purchases == 0 || day < from || day >= to {
			continue
		}
		if day <= last && day != paid {
			times++
		}
		paid = day
	}
	if times == 0 {
		return 0
	}
	if gap := (last - from + 1) / times; to-1-paid <= gap {
		to = paid + 1
	}
	if to <= last+1 {
		return 0
	}
	return lostBetween(r, env, from, last, to)
}

func (*silence) lost(r *customer.Record, env *Env, l *customer.Lifecycle, at int64) event.Money {
	return lostSince(r, env, l.Day, at)
}

func (*silenceModel) lost(r *customer.Record, env *Env, l *customer.Lifecycle, at int64) event.Money {
	return lostSince(r, env, l.Day, at)
}

// lost of a drop in spend goes on from what was usual, and was spent, when the alert began. That of a drop in usage is what less is paid since then.
func (d *drop) lost(r *customer.Record, env *Env, l *customer.Lifecycle, at int64) event.Money {
	from, to := env.Calendar.DayOf(r, l.Since), env.Calendar.DayOf(r, at)
	switch {
	case d.feed != event.Payments:
		return lostBeside(r, env, from-1, at)
	case from >= l.Day:
		return 0
	case to <= l.Day:
		return add(l.Expected, -l.Observed)
	case l.Day < windowsHeld(r, env):
		return 0
	}
	expected := d.usual(r, env, l, env.elapsed(r, d.feed, from, to))
	return add(expected, -add(l.Observed, d.sum(r, env, l.Day, to)))
}

// lost of the plain rule takes the mean day of its baseline for usual. Time in which payments could not be seen does not count. When the severity of an alert rises, its window is
// a later one, but it began with the first.
func (d *plainSpendDrop) lost(r *customer.Record, env *Env, l *customer.Lifecycle, at int64) event.Money {
	from, window := env.Calendar.DayOf(r, l.Since), l.Day-int32(d.recent)
	to, held := max(env.Calendar.DayOf(r, at), l.Day), windowsHeld(r, env)
	if from < window && from < held || l.Day < to && l.Day < held {
		return 0
	}
	seen := int64(to-from)*Day.Ms() - env.stalledWithin(l.Since, env.Calendar.StartOf(r, to, at), event.Payments)
	usual := scaled(l.Expected, max(0, seen), d.recent*Day.Ms())
	_, before := spendOf(r, env.Rates, from, from, window)
	_, after := spendOf(r, env.Rates, l.Day, l.Day, to)
	return add(usual, -add(add(before, l.Observed), after))
}
