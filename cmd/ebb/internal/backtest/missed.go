package backtest

import (
	"cmp"
	"fmt"

	"ebb/cmd/ebb/internal/svg"
	"ebb/detectors"
)

// This file says why nobody was told of a departure in time.

// Reasons beside those that the detector gives.
const (
	// heldBack: an alert was there, but was told too late or not at all.
	heldBackReason = "held_back"
	// openBefore: an alert was open already when the customer was active last, and went on.
	openBefore = "open_before"
)

// pause is a departure while a history is replayed: what is asked about the customer from his last activity on, until the horizon is over.
type pause struct {
	from, to int64              // event time, ms
	asked    int64              // the beginning of the last day that was passed, ms
	why      detectors.Withheld // the furthest reason of all days
}

// mostLooks bounds how often silence is asked about a departure.
const mostLooks = 60

// pauses are the departures that somebody should have been told of, by customer (index into Truth.list), each in the order of time.
func (s *scorer) pauses() map[int32][]*pause {
	all := map[int32][]*pause{}
	for i := range s.lapses {
		if l := &s.lapses[i]; !l.stated {
			l.pause = &pause{from: l.from, to: l.from + s.ms, asked: l.from}
			all[l.p.index] = append(all[l.p.index], l.pause)
		}
	}
	return all
}

// ask asks silence, of a customer who has done nothing since, why it did not fire, at the beginnings of days up to a time. Nothing of the time after may have been applied.
func (s *shard) ask(c *subject, until int64) {
	for len(c.pauses) != 0 {
		p := c.pauses[0]
		s.askOf(c, p, min(until, p.to))
		if until <= p.to {
			return
		}
		c.pauses = c.pauses[1:]
	}
}

func (s *shard) askOf(c *subject, p *pause, until int64) {
	step := max(1, int32((p.to-p.from)/dayMs)/mostLooks)
	for day := dayOf(p.asked) + 1; int64(day)*dayMs <= until && p.why < detectors.NoRoom; day++ {
		p.asked = int64(day) * dayMs
		if last := dayOf(p.to); day%step != 0 && day != last {
			continue
		}
		s.know(p.asked)
		p.why = max(p.why, s.rules.Detectors.Withheld(&c.rec, &s.env))
	}
}

// reason is why no alert named a departure, empty where that is not known. The alerts are those of the detector about the customer.
func (s *scorer) reason(l *lapse, list []*Alert) string {
	if l.pause == nil {
		return ""
	}
	for _, a := range list {
		switch open := a.ResolvedAt == 0 || a.ResolvedAt > l.from; {
		case a.At > l.from && a.At <= l.from+s.ms:
			return heldBackReason
		case a.At <= l.from && open && a.Told != 0:
			return openBefore
		}
	}
	return l.pause.why.String()
}

// missed counts the reasons why departures were not named since ebb is not only learning.
func (m *MethodReport) missed(all []Departure) {
	d := m.Silence()
	if d == nil {
		return
	}
	for i := range all {
		x := &all[i]
		if x.Detector != detectors.SilenceName || x.Learning {
			continue
		}
		if d.Missed == nil {
			d.Missed = map[string]int{}
		}
		d.Missed[cmp.Or(x.Reason, "other")]++
	}
}

// reasonWords say of the customers of departures that nobody was told of why that is, in the order in which they are told.
var reasonWords = [...]struct{ name, words string }{
	{"too_new", "had been there on too few days"},
	{"not_overdue", "were not overdue by what is usual for them"},
	{"below_threshold", "were thought likely to come back: less than least_probability"},
	{"budget", "were less likely to leave than those for whom the budget had room"},
	{heldBackReason, "were held back for an alert about many, or told too late"},
	{openBefore, "had an alert that was open already"},
	{"other", "for another reason"},
}

// WhyMissed says why the departures that no alert named were not told, empty where there are none.
func (d *DetectorReport) WhyMissed() string {
	var all []string
	n := 0
	for _, x := range reasonWords {
		if c := d.Missed[x.name]; c != 0 {
			n += c
			all = append(all, fmt.Sprintf("%s %s", svg.Thousands(int64(c)), x.words))
		}
	}
	if all == nil {
		return ""
	}
	return fmt.Sprintf("of the customers of %s departures that no alert named in time, %s", svg.Thousands(int64(n)), list(all, "and"))
}
