package backtest

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/stream/event"
)

// Judged is an alert with what came of it.
type Judged struct {
	*Alert
	// Verdict is right, wrong, open (its horizon goes beyond the end of the history, or there is nothing to compare with), few_days (the customer had less than three
	// active days) or held_back (nobody was told before its horizon was over); empty for alerts that tell what is, not what will be.
	Verdict string
	// LeadDays is how many days before the horizon of a departure was over it came, for the first alert that named it.
	LeadDays *float64
	Learning bool // it fired while ebb was learning, and does not count in the report
}

// Departure is one that no alert named in time, and that was not stated: a silence, or an account that ran down.
type Departure struct {
	Customer string
	Detector string      // whose alerts should have named it
	Last     int64       // time of the last activity, or since when the account was as good as empty, ms
	Money    event.Money // what was spent in the horizon up to it, or what had been usual on the account
	Learning bool
	Reason   string // why none did: a detectors.Withheld, held_back or open_before; empty where that is not known, as of an account
}

// judge holds every alert against what happened, and finds the departures that none names whose detector is switched on.
func (s *scorer) judge(list []Alert, on []string) (judged []Judged, missed []Departure) {
	leads := map[*Alert]float64{}
	type whose struct {
		p        *person
		detector string
	}
	of := map[whose][]*Alert{}
	for i := range list {
		a := &list[i]
		k := whose{s.t.people[a.Customer], a.Detector}
		of[k] = append(of[k], a)
	}
	for _, detector := range on {
		owed := s.owed(detector)
		for i := range owed {
			l := &owed[i]
			switch a := s.namedBy(l, of[whose{l.p, detector}]); {
			case l.stated:
			case a != nil:
				leads[a] = s.lead(l, a)
			default:
				missed = append(missed, Departure{
					Customer: l.p.id, Detector: detector, Last: l.from, Money: l.money, Learning: l.from < s.from, Reason: s.reason(l, of[whose{l.p, detector}]),
				})
			}
		}
	}
	slices.SortFunc(missed, func(a, b Departure) int {
		return cmp.Or(cmp.Compare(a.Last, b.Last), cmp.Compare(a.Customer, b.Customer), cmp.Compare(a.Detector, b.Detector))
	})
	for i := range list {
		a := &list[i]
		j := Judged{Alert: a, Verdict: s.word(a), Learning: a.At < s.from}
		if lead, ok := leads[a]; ok {
			lead = round(lead, 1)
			j.LeadDays = &lead
		}
		judged = append(judged, j)
	}
	return judged, missed
}

// word is what came of an alert.
func (s *scorer) word(a *Alert) string {
	if !predicts(a.Detector) {
		return ""
	}
	v, few, _ := s.verdict(a, s.t.people[a.Customer])
	switch {
	case few:
		return "few_days"
	case !s.inTime(a):
		return "held_back"
	}
	return verdictWords[v]
}

var verdictWords = [...]string{undecided: "open", right: "right", wrong: "wrong"}

// WriteAlerts writes every alert with what came of it, those about many customers among them, and then every departure that was missed, as CSV. Times are in RFC 3339, amounts in the given currency. What is not
// known is empty.
func WriteAlerts(w io.Writer, d *Detail, currency string) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "customer_id,detector,severity,fired,resolved,probability,at_risk,currency,verdict,lead_days,since,learning,subject,told,within,changes,reason")
	wide := d.Wide
	upTo := func(ms int64) {
		for ; len(wide) != 0 && wide[0].At <= ms; wide = wide[1:] {
			x := &wide[0]
			fmt.Fprintf(b, ",%s,%s,%s,%s,,%s,%s,,,%s,%t,%s,%s,,%d,\n", x.Detector, x.Severity, timeText(x.At), timeText(x.ResolvedAt), amountText(x.AtRisk), currency, timeText(x.Since),
				x.At < d.JudgedFrom, field(x.Subject), timeText(x.At), x.Changes)
		}
	}
	for i := range d.Alerts {
		j := &d.Alerts[i]
		upTo(j.At)
		probability, lead := "", ""
		if j.Probability != 0 {
			probability = strconv.FormatFloat(j.Probability, 'f', 3, 64)
		}
		if j.LeadDays != nil {
			lead = strconv.FormatFloat(*j.LeadDays, 'f', 1, 64)
		}
		fmt.Fprintf(b, "%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%t,%s,%s,%s,%d,\n", field(j.Customer), j.Detector, j.severity(), timeText(j.At), timeText(j.ResolvedAt), probability,
			amountText(j.AtRisk), currency, j.Verdict, lead, timeText(j.Since), j.Learning, field(j.Subject), timeText(j.Told), field(j.toldIn()), j.Changes)
	}
	upTo(math.MaxInt64)
	for i := range d.Departures {
		m := &d.Departures[i]
		detector := m.Detector
		if detector == detectors.SilenceName { // who left is a departure, whichever detector should have told
			detector = ""
		}
		fmt.Fprintf(b, "%s,%s,,,,,%s,%s,missed,,%s,%t,,,,,%s\n", field(m.Customer), detector, amountText(m.Money), currency, timeText(m.Last), m.Learning, m.Reason)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("alerts: %w", err)
	}
	return nil
}

// severity is that as which people were told of an alert first or, of one that is none of its own, what its detector said.
func (a *Alert) severity() alerts.Severity {
	if a.Alone != 0 {
		return a.ToldAs
	}
	return a.Severity
}

// toldIn names the alert within which one was told first, or the cohort for whose alert it was held back; empty: neither.
func (a *Alert) toldIn() string {
	if a.Within == "" && a.HeldFor != nil {
		return alerts.CohortDropName + " " + a.HeldFor.String()
	}
	return a.Within
}

// amountText is an amount, empty for 0.
func amountText(m event.Money) string {
	if m == 0 {
		return ""
	}
	return m.String()
}

// timeText is a time in ms, empty for 0.
func timeText(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339)
}
