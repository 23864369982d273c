package demo

import (
	"maps"
	"slices"
	"time"

	"ebb/cmd/ebb/internal/simulate"
)

// usualRule is what most companies use: the last 7 days against the mean week of the 28 before, and an alert below half of it. It
// is looked at once a day for everybody with 35 days behind him.
type usualRule struct {
	start     time.Time
	day       int // the day that is going on
	customers map[string]*usualCustomer
	fired     func(customer string, at time.Time)
	over      func(customer string, at time.Time)
}

const usualText = "The last 7 days against the mean week of the 28 days before, an alert below 50 %. Looked at once a day."

type usualCustomer struct {
	first  int
	last   int       // latest day with a payment
	spend  [36]int64 // cents by day, a ring: 35 days and the one that is going on
	firing bool
}

func newUsualRule(start time.Time, fired, over func(string, time.Time)) *usualRule {
	return &usualRule{start: start, customers: map[string]*usualCustomer{}, fired: fired, over: over}
}

func (u *usualRule) dayOf(t time.Time) int { return int(t.Sub(u.start) / oneDay) }

// see takes an event as it arrives, after the days that have ended by then.
func (u *usualRule) see(e *simulate.Event) {
	u.until(e.At)
	if e.Spend == 0 {
		return
	}
	day := u.dayOf(e.Time)
	c := u.customers[e.Key]
	if c == nil {
		c = &usualCustomer{first: day, last: day}
		u.customers[e.Key] = c
	}
	c.last = max(c.last, day)
	if day > u.day-35 && day <= u.day {
		c.spend[day%36] += e.Spend
	}
}

// until lets the days before t end.
func (u *usualRule) until(t time.Time) {
	for now := u.dayOf(t); u.day < now; {
		u.judge(u.start.Add(time.Duration(u.day+1) * oneDay))
		u.day++
		for _, c := range u.customers {
			c.spend[u.day%36] = 0
		}
	}
}

func (u *usualRule) judge(at time.Time) {
	// In the order of ids, so that the same seed gives the same log.
	for _, id := range slices.Sorted(maps.Keys(u.customers)) {
		c := u.customers[id]
		if u.day-c.last > 120 {
			delete(u.customers, id) // long gone; nothing in the windows, nothing firing
			continue
		}
		if u.day-c.first < 35 {
			continue
		}
		var recent, base int64
		for i := range 7 {
			recent += c.spend[(u.day-i)%36]
		}
		for i := 7; i < 35; i++ {
			base += c.spend[(u.day-i)%36]
		}
		drop := base > 0 && recent*8 < base
		switch {
		case drop && !c.firing:
			u.fired(id, at)
		case !drop && c.firing:
			u.over(id, at)
		}
		c.firing = drop
	}
}
