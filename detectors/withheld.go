package detectors

import (
	"ebb/detectors/population"
	"ebb/state/customer"
)

// Withheld is why silence does not fire for a customer, the least reason first: the further, the nearer he is to being told of.
type Withheld uint8

// The reasons.
const (
	// NotWithheld: it fires, or there is nothing that it could say of him any more.
	NotWithheld Withheld = iota
	// TooNew: he came on too few days for anything to be usual for him.
	TooNew
	// NotOverdue: he has not been silent for longer than is usual for him, or, by the method plain, for the limit.
	NotOverdue
	// Unlikely: the probability that he does nothing within the horizon is below the least that is told.
	Unlikely
	// NoRoom: others are likelier, and the budget has room for these only.
	NoRoom
)

var withheldNames = [...]string{"", "too_new", "not_overdue", "below_threshold", "budget"}

// String is the reason's name in tables, empty for none.
func (w Withheld) String() string { return enumName(withheldNames[:], uint8(w), "withheld") }

// Withheld says why silence does not fire for a customer at env.Now, whether or not an alert is open. It is NotWithheld where the detector is switched off.
func (s *Set) Withheld(r *customer.Record, env *Env) Withheld {
	if d, ok := s.Detector(SilenceName).(interface {
		withheld(r *customer.Record, env *Env) Withheld
	}); ok && r.Cancelled == 0 && !r.Closed() {
		return d.withheld(r, env)
	}
	return NotWithheld
}

func (d *silenceModel) withheld(r *customer.Record, env *Env) Withheld {
	if d.unlearnt(r, env) {
		return d.plain.withheld(r, env)
	}
	m := env.Population
	h := m.Rhythm(r)
	if h == nil || h.Count < population.LeastDays {
		return TooNew
	}
	today := env.Calendar.DayOf(r, env.Now)
	silent := d.silence(r, env, d.lastSeen(r, env, h), today)
	switch {
	case silent < int32(population.Patience(h)):
		return NotOverdue
	case silent >= int32(m.Horizon()):
		return NotWithheld
	}
	switch v := m.Judge(h, population.LabelsOf(r), today-1, int(silent)); {
	case v.P < d.cfg.LeastProbability:
		return Unlikely
	case !d.tells(m, v):
		return NoRoom
	}
	return NotWithheld
}

func (d *silence) withheld(r *customer.Record, env *Env) Withheld {
	limit, _, _ := d.limit(r)
	switch {
	case r.LastActivity == 0:
		return TooNew
	case env.Now < r.LastActivity+limit:
		return NotOverdue
	}
	return NotWithheld
}
