package console

import (
	"encoding/json"
	"slices"
	"time"

	"ebb/detectors"
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

// gap reports whether one of the days from the first to the last lies between what an alert's evidence tells and what the record still covers.
func (c *Customer) gap(first, last Date) bool { return first < c.gapTo && last >= c.gapFrom }

// An alert is shown with at least so many weeks before its condition began, and after it fired.
const (
	weeksBefore = 4
	weeksAfter  = 4
	weeksMost   = 26 // more than these are not drawn: the alert is in sight, its begin may not be
)

// outOfSight reports whether the latest n weeks do not show what was usual before an alert's condition began.
func outOfSight(a *Alert, now time.Time, n int) bool {
	begin := began(a)
	return !begin.IsZero() && now.Sub(begin) > time.Duration(n-weeksBefore)*week
}

func began(a *Alert) time.Time {
	if a.Since.IsZero() || a.Since.After(a.FirstFired) {
		return a.FirstFired
	}
	return a.Since
}

// weeksAround is the last day of the weeks that show an alert, and how many these are: what was usual before, its begin, and the weeks after it fired, as far as they are over
// by the given last day.
func weeksAround(a *Alert, end Date, zone *time.Location) (last Date, n int) {
	last = min(end, dateOf(a.FirstFired, zone)+7*weeksAfter)
	first := dateOf(began(a), zone) - 7*weeksBefore
	return last, min(weeksMost, int(last-first+7)/7)
}

// around is a customer with what an alert's evidence adds to him, the last day and the number of weeks, at least n, that show the alert, and what is not known of them. The day is 0 if
// nothing is known of them any more.
func around(c *Customer, a *Alert, end Date, n int) (v *Customer, last Date, weeks int, gone string) {
	v = withSeries(c, a)
	last, weeks = weeksAround(a, end, zoneOf(c))
	weeks = max(n, weeks)
	first := last - Date(7*weeks) + 1
	if v.Window > last-7*weeksBefore {
		last = 0
	}
	return v, last, weeks, goneText(v, first, max(last, first))
}

// withSeries adds to a copy of a customer the days that his record does not cover any more and the evidence of an alert still tells: what was spent on each.
func withSeries(c *Customer, a *Alert) *Customer {
	if a.Detector != detectors.SpendDropName { // others have no series, or one of something else
		return c
	}
	for _, s := range a.Steps { // the earliest tells of the earliest days
		from, series, ok := evidenceSeries(s.Evidence)
		if !ok || from >= c.Window {
			continue
		}
		out := *c
		out.Window, out.Days = from, nil
		for i, m := range series {
			if d := from + Date(i); m != 0 && d < c.Window {
				out.Days = append(out.Days, Day{Date: d, Spend: m})
			}
		}
		out.Days = append(out.Days, c.Days...)
		out.gapFrom, out.gapTo = from+Date(len(series)), c.Window
		out.spendOnly = c.Window
		return &out
	}
	return c
}

// evidenceSeries reads what was spent on each day from a day on, where an alert's evidence tells it.
func evidenceSeries(evidence json.RawMessage) (from Date, series []event.Money, ok bool) {
	var e struct {
		From   string   `json:"series_from"`
		Series []string `json:"series"`
	}
	if len(evidence) == 0 || json.Unmarshal(evidence, &e) != nil || len(e.Series) == 0 {
		return 0, nil, false
	}
	day, err := time.Parse(time.DateOnly, e.From)
	if err != nil {
		return 0, nil, false
	}
	for _, text := range e.Series {
		m, _, err := event.ParseMoney(text)
		if err != nil {
			return 0, nil, false
		}
		series = append(series, m)
	}
	return dateOf(day, time.UTC), series, true
}

// goneText says which of the days from the first to the last are not known any more, empty if they all are.
func goneText(c *Customer, first, last Date) string {
	const kept = " any more; state.kept_days says how many are."
	switch {
	case c.spendOnly > first && c.gapFrom < c.gapTo:
		return "Of the days before " + dayYear(c.gapTo) + " only the spend until " + dayYear(c.gapFrom-1) + " is known, from the alert's evidence: the days themselves are not kept" + kept
	case c.spendOnly > first:
		return "Of the days before " + dayYear(c.spendOnly) + " only the spend is known, from the alert's evidence: the days themselves are not kept" + kept
	case c.Window > last:
		return "The days around the alert are not kept" + kept
	case c.Window > first && dateOf(c.First, zoneOf(c)) < c.Window:
		return "The days before " + dayYear(c.Window) + " are not kept" + kept
	}
	return ""
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
		out[i] = span{From: to - 6, To: to, Known: to-6 >= known && !c.gap(to-6, to)}
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
		out[i] = span{From: d, To: d, Known: d >= known && !c.gap(d, d)}
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
