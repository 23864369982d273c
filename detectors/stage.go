package detectors

import (
	"ebb/state/customer"
	"ebb/stream/event"
)

// Stage is where in his life as a customer somebody stands.
type Stage string

// The stages.
const (
	// WarmingUp: he is new, known for less than 28 days.
	WarmingUp Stage = "warming_up"
	// Growing: he does half as much again as in the six weeks before, or more.
	Growing Stage = "growing"
	// Mature: none of the others.
	Mature Stage = "mature"
	// Declining: he does half as much as in the six weeks before, or less.
	Declining Stage = "declining"
	// LapsedStage: he has gone: he cancelled, or counts as churned.
	LapsedStage Stage = "lapsed"
)

const (
	warmingUpDays = 28
	// stageDays is how long each of the two stretches is that are compared: together they are held by every window.
	stageDays = 42
	// leastStageDays is on how many days of the two he must have done something: less says nothing of a tendency.
	leastStageDays = 4
)

// StageOf is the stage of a customer at an event time, by what he paid in twice 42 local days up to the day before, and by how often he used the product where he
// paid nothing.
func StageOf(r *customer.Record, env *Env, at int64) Stage {
	today := env.Calendar.DayOf(r, at)
	known := today - env.Calendar.DayOf(r, r.First)
	switch {
	case r.Lapsed || r.Cancelled != 0:
		return LapsedStage
	case at-r.First < warmingUpDays*Day.Ms():
		return WarmingUp
	case known < 2*stageDays:
		return Mature
	}
	from, mid := today-2*stageDays, today-stageDays
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
