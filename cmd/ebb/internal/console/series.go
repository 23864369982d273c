package console

import (
	"slices"
	"time"

	"ebb/stream/event"
)

// span is what a customer did in one or more days of his calendar.
type span struct {
	From, To  Date // inclusive
	Spend     event.Money
	Purchases int
	Refunds   int
	Usage     int
	// Known is false for days that the record does not cover, or before the customer's first event.
	Known bool
	// Partial is true for a span whose last day is not over yet.
	Partial bool
	// Low, Mean and High are the expected range; Band says whether there is one.
	Low, Mean, High event.Money
	Band            bool
}

// bandWeeks is how many weeks make the expected range's mean, bandMin how many of them have to be known.
const (
	bandWeeks = 4
	bandMin   = 3
)

// dateOf is the calendar day of an instant in a zone.
func dateOf(t time.Time, zone *time.Location) Date {
	t = t.In(zone)
	_, offset := t.Zone()
	sec := t.Unix() + int64(offset)
	return Date((sec - ((sec%86400)+86400)%86400) / 86400)
}

// zoneOf is a customer's zone, UTC if it is absent or unknown here.
func zoneOf(c *Customer) *time.Location {
	if c.Zone != "" {
		if l, err := time.LoadLocation(c.Zone); err == nil {
			return l
		}
	}
	return time.UTC
}

// firstKnown is the first day of which the series says something: the customer's first, or the record's.
func firstKnown(c *Customer, zone *time.Location) Date {
	first := c.Window
	if !c.First.IsZero() {
		first = max(first, dateOf(c.First, zone))
	}
	return first
}

// weeks cuts the n weeks that end with the given day into spans, oldest first, and draws the expected range into them. From
// the instant freeze on (if it is not zero) the range stays what it was before: a customer who is leaving is held against what
// he did before he began to.
func weeks(c *Customer, last Date, n int, freeze time.Time) []span {
	zone := zoneOf(c)
	known := firstKnown(c, zone)
	all := n + bandWeeks
	out := make([]span, all)
	for i := range out {
		to := last - Date(7*(all-1-i))
		out[i] = span{From: to - 6, To: to, Known: to-6 >= known}
	}
	fill(out, c.Days, out[0].From, 7)
	var frozen *span
	freezeAt := Date(1 << 30)
	if !freeze.IsZero() {
		freezeAt = dateOf(freeze, zone)
	}
	for i := range out {
		s := &out[i]
		if s.To >= freezeAt && frozen != nil {
			s.Low, s.Mean, s.High, s.Band = frozen.Low, frozen.Mean, frozen.High, true
			continue
		}
		if expect(s, out[:i]); s.Band {
			frozen = s
		}
	}
	return out[bandWeeks:]
}

// days are the single days from the first to the last.
func days(c *Customer, first, last Date) []span {
	known := firstKnown(c, zoneOf(c))
	out := make([]span, max(0, int(last-first)+1))
	for i := range out {
		d := first + Date(i)
		out[i] = span{From: d, To: d, Known: d >= known}
	}
	fill(out, c.Days, first, 1)
	return out
}

func fill(out []span, days []Day, first Date, width int) {
	for i := range days {
		d := &days[i]
		at := int(d.Date - first)
		if at < 0 || at/width >= len(out) {
			continue
		}
		s := &out[at/width]
		s.Spend += d.Spend
		s.Purchases += d.Purchases
		s.Refunds += d.Refunds
		s.Usage += d.Usage
	}
}

// expect draws the range for one week from those before it: the mean of the last four, give or take twice a robust spread (1.4826
// times the median absolute deviation, over up to twelve weeks), and never narrower than a tenth of the mean to either side. Of
// somebody who buys in fewer than half of his weeks the median says nothing; his spread is 1.2533 times the mean deviation.
func expect(s *span, before []span) {
	var sum event.Money
	n := 0
	for i := len(before) - 1; i >= max(0, len(before)-bandWeeks); i-- {
		if before[i].Known {
			sum += before[i].Spend
			n++
		}
	}
	if n < bandMin || sum <= 0 {
		return
	}
	mean := sum / event.Money(n)
	var amounts []event.Money
	for i := max(0, len(before)-12); i < len(before); i++ {
		if before[i].Known {
			amounts = append(amounts, before[i].Spend)
		}
	}
	middle := median(amounts)
	for i, a := range amounts {
		amounts[i] = max(a-middle, middle-a)
	}
	spread := median(amounts) * 14826 / 10000
	if middle == 0 {
		spread = average(amounts) * 12533 / 10000
	}
	spread = max(spread, mean/20)
	s.Low, s.Mean, s.High, s.Band = max(0, mean-2*spread), mean, mean+2*spread, true
}

func average(v []event.Money) event.Money {
	var sum event.Money
	for _, a := range v {
		sum += a
	}
	return sum / event.Money(max(1, len(v)))
}

func median(v []event.Money) event.Money {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	if n == 0 {
		return 0
	}
	return (v[(n-1)/2] + v[n/2]) / 2
}
