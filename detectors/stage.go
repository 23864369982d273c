package detectors

import (
	"slices"

	"ebb/state/customer"
	"ebb/stream/event"
)

// Stage is where in his life as a customer somebody stands.
type Stage uint8

// The stages.
const (
	// WarmingUp: he is known for less than 28 days, too short for a rhythm.
	WarmingUp Stage = iota
	// New: he is known for less than the 84 days that are compared.
	New
	// Growing: he does half as much again as in the six weeks before, or more.
	Growing
	// Mature: none of the others.
	Mature
	// Declining: he does half as much as in the six weeks before, or less.
	Declining
	// LapsedStage: he has gone: he cancelled, counts as churned, or the relation has ended.
	LapsedStage

	NumStages = 6
)

var stageNames = [NumStages]string{"warming_up", "new", "growing", "mature", "declining", "lapsed"}

// StageNames lists the names of the stages, in the order of a customer's life.
func StageNames() []string { return slices.Clone(stageNames[:]) }

// Active reports whether a customer of the stage is at work as a customer, and long enough for a rhythm.
func (s Stage) Active() bool { return s != WarmingUp && s != LapsedStage }

// String is the stage's name in alerts and metrics.
func (s Stage) String() string { return enumName(stageNames[:], uint8(s), "stage") }

const (
	// WarmingUpDays is how long a customer is warming up.
	WarmingUpDays = 28
	// stageDays is how long each of the two stretches is that are compared: together they are held by every window.
	stageDays = 42
	// leastStageDays is on how many days of the two he must have done something: less says nothing of a tendency.
	leastStageDays = 4
)

// StageOf is the stage of a customer at an event time, by what he paid in twice 42 local days up to the day before, and by how often he used the product where he
// paid nothing.
func StageOf(r *customer.Record, env *Env, at int64) Stage {
	if s, plain := plainStage(r, at); plain {
		return s
	}
	return tendency(r, env, env.Calendar.DayOf(r, at))
}

// NewestStageOf is the stage of a customer as of his newest event or the newest step of an alert of his, whichever is later. So it follows from the record and from
// the rates and the zone of env alone, and it is the stage that the newest of his alerts named, unless something has happened since.
func NewestStageOf(r *customer.Record, env *Env) Stage {
	at := max(r.Latest, r.Decided)
	if s, plain := plainStage(r, at); plain {
		return s
	}
	today := env.Calendar.DayOf(r, at)
	if i, known := r.Tendency(today); known {
		return Stage(i)
	}
	s := tendency(r, env, today)
	r.KeepTendency(today, uint8(s))
	return s
}

// plainStage is a stage that follows from a few times. It is false for a customer whose windows have to be compared.
func plainStage(r *customer.Record, at int64) (Stage, bool) {
	switch {
	case r.Lapsed || r.Cancelled != 0 || r.Closed():
		return LapsedStage, true
	case at-r.First < WarmingUpDays*Day.Ms():
		return WarmingUp, true
	}
	return 0, false
}

// tendency compares the two stretches before a local day.
func tendency(r *customer.Record, env *Env, today int32) Stage {
	from, mid := today-2*stageDays, today-stageDays
	if env.Calendar.DayOf(r, r.First) > from {
		return New
	}
	days := 0
	older, newer := spendOf(r, env.Rates, from, mid, today)
	for i := range r.Spend {
		if d := r.Spend[i].Day(); d >= from && d < today && r.Spend[i].Purchases != 0 {
			days++
		}
	}
	if days == 0 {
		older, newer, days = usesOf(r, from, mid, today)
	}
	switch {
	case days < leastStageDays, older <= 0 && newer <= 0:
		return Mature
	case !less(older, 1, newer, 2): // newer is half of older, or less
		return Declining
	case !less(newer, 2, older, 3):
		return Growing
	}
	return Mature
}

// usesOf is how often the product was used on the local days from a day to before mid, and from there to before another, and on how many days.
func usesOf(r *customer.Record, from, mid, to int32) (older, newer event.Money, days int) {
	for i := range r.Usage {
		u := &r.Usage[i]
		switch {
		case u.Day < from || u.Day >= to:
			continue
		case u.Day < mid:
			older += event.Money(u.Count)
		default:
			newer += event.Money(u.Count)
		}
		days++
	}
	return older, newer, days
}
