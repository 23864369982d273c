package backtest

import (
	"cmp"
	"fmt"
	"slices"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/stream/event"
)

// This file is about alerts of more than one customer: what they were, and what became of those whom they are about.

// Wide is one alert about more than one customer, from its beginning to its end.
type Wide struct {
	ID         string
	Detector   string
	Subject    string      // such as owner=kim, everybody, source=web
	Key        cohorts.Key // of an alert about a cohort
	At         int64       // event time at which it fired, ms
	Since      int64
	ResolvedAt int64 // 0: open at the end of the history
	Reason     string
	Severity   string // at which it fired
	AtRisk     event.Money
	Summary    string // as it fired
	Changes    int    // how often it was told anew
}

// open reports whether the alert was open at some time of a stretch.
func (w *Wide) open(from, to int64) bool {
	return w.At <= to && (w.ResolvedAt == 0 || w.ResolvedAt > from)
}

// wides gathers the steps of such alerts.
type wides struct {
	list []Wide
	of   map[string]int // open ones, by id
}

// note takes in a step, as subscribers would read it.
func (x *wides) note(step alerts.Wide, policy *alerts.Policy) error {
	m, _ := policy.WideMessage(step)
	a, err := alerts.Parse(m.Value)
	if err != nil {
		return fmt.Errorf("an alert about many customers: %w", err)
	}
	i, known := x.of[a.AlertID]
	switch {
	case !known:
		w := Wide{ID: a.AlertID, Detector: a.Detector, At: a.Time.UnixMilli(), Since: a.Since.UnixMilli(), Severity: a.Severity, Summary: a.Summary, Subject: a.Subject.ID}
		if a.MoneyAtRisk != nil {
			w.AtRisk, _, _ = event.ParseMoney(a.MoneyAtRisk.Amount)
		}
		if c, is := step.(*alerts.Cohort); is {
			w.Key = c.Key
		}
		if x.of == nil {
			x.of = map[string]int{}
		}
		x.of[a.AlertID] = len(x.list)
		x.list = append(x.list, w)
	case !a.Firing():
		x.list[i].ResolvedAt, x.list[i].Reason = a.Time.UnixMilli(), a.Reason
		delete(x.of, a.AlertID)
	case a.Step == alerts.StepChanged.String():
		x.list[i].Changes++
	}
	return nil
}

// wideDetectors are the detectors of such alerts that are switched on.
func wideDetectors(cfg *cohorts.Config) []string {
	on := []string{alerts.CohortDropName}
	if cfg.Totals {
		on = append(on, alerts.TotalSpendName, alerts.TotalOutflowName)
	}
	if cfg.Intakes {
		on = append(on, alerts.PoorIntakeName)
	}
	return on
}

// cohortsReport says what was told of more than one customer, and how much of what customers did was told so. Alerts are the single ones; leaving tells of a detector whether its alerts
// say that a customer does less, or nothing.
func (s *scorer) cohortsReport(cfg *cohorts.Config, o *Outcome, leaving func(detector string) bool) *CohortReport {
	if cfg == nil {
		return nil
	}
	r := &CohortReport{Values: map[string]int{}, Detectors: map[string]int{}, HoldBack: cfg.HoldBack}
	for _, d := range cfg.By {
		r.Values[d.String()] = s.t.values(d)
	}
	for _, name := range wideDetectors(cfg) {
		r.Detectors[name] = 0
	}
	for i := range o.Wide {
		w := &o.Wide[i]
		r.Detectors[w.Detector]++
		x := WideAlert{
			Detector: w.Detector, Subject: w.Subject, Severity: w.Severity, Fired: timeText(w.At), Since: timeText(w.Since), Resolved: timeText(w.ResolvedAt), Reason: w.Reason,
			Summary: w.Summary, AtRisk: amountText(w.AtRisk),
		}
		if w.Detector == alerts.CohortDropName {
			x.Members = s.members(w, o.Alerts, leaving)
		}
		r.Alerts = append(r.Alerts, x)
	}
	s.within(r, o, leaving)
	return r
}

// members are the single alerts about customers of a cohort, from the beginning of what the cohort's alert tells to its end, with what came of them.
func (s *scorer) members(w *Wide, list []Alert, leaving func(string) bool) *Members {
	m := &Members{}
	for i := range list {
		a := &list[i]
		if !leaving(a.Detector) || !a.within(w) || a.At < w.Since || w.ResolvedAt != 0 && a.At >= w.ResolvedAt {
			continue
		}
		m.Alerts++
		if !predicts(a.Detector) {
			continue
		}
		switch v, few, _ := s.verdict(a, s.t.people[a.Customer]); {
		case few:
		case v == right:
			m.Right++
		case v == wrong:
			m.Wrong++
		default:
			m.Undecided++
		}
	}
	for i := range s.lapses {
		if l := &s.lapses[i]; l.has(w.Key) && w.open(l.from, l.from+s.ms) {
			m.Departures++
		}
	}
	return m
}

// within reports whether an alert about a customer concerns the cohort that another is about.
func (a *Alert) within(w *Wide) bool { return w.Key == cohorts.Key{} || slices.Contains(a.of, w.Key) }

// within counts the departures that an alert about a cohort was open for in time, and the single alerts that fell into one.
func (s *scorer) within(r *CohortReport, o *Outcome, leaving func(string) bool) {
	var drops []*Wide
	for i := range o.Wide {
		if w := &o.Wide[i]; w.Detector == alerts.CohortDropName {
			drops = append(drops, w)
		}
	}
	s.stoodFor(r, o.Alerts, drops)
	var leads []float64
	for i := range s.lapses {
		l := &s.lapses[i]
		if l.stated || l.from < s.from {
			continue
		}
		r.Departures++
		if j := slices.IndexFunc(drops, func(w *Wide) bool { return l.has(w.Key) && w.open(l.from, l.from+s.ms) }); j >= 0 {
			r.Within++
			leads = append(leads, float64(l.from+s.ms-drops[j].At)/dayMs)
		}
	}
	r.LeadDays = median(leads)
	for i := range o.Alerts {
		a := &o.Alerts[i]
		if a.HeldFor != nil {
			if r.HeldBack++; a.Told != 0 {
				r.ToldLater++
			}
		}
		if leaving(a.Detector) && slices.ContainsFunc(drops, func(w *Wide) bool { return a.within(w) && w.open(a.At, a.At) }) {
			r.AlertsWithin++
		}
	}
}

// stoodFor judges what the alerts about cohorts foretold of those whose own alerts were held back for them, as a live group does: of a customer one thing each.
func (s *scorer) stoodFor(r *CohortReport, list []Alert, drops []*Wide) {
	if !r.HoldBack {
		return
	}
	type said struct {
		by       *Wide
		customer string
	}
	known := map[said]bool{}
	var n [3]int
	for i := range list {
		a := &list[i]
		if a.HeldFor == nil || a.At < s.from || a.Detector != detectors.SilenceName && a.Detector != detectors.SpendDropName {
			continue
		}
		// It was in force for the alert, so it fired before; of several about one cohort the newest.
		var by *Wide
		for _, w := range drops {
			if w.Key == *a.HeldFor && w.At <= a.At {
				by = w
			}
		}
		if x := (said{by, a.Customer}); !known[x] {
			known[x] = true
			v, _, _ := s.verdict(a, s.t.people[a.Customer])
			n[v]++
		}
	}
	r.Right, r.Wrong, r.Undecided = &n[right], &n[wrong], &n[undecided]
	r.Precision = ratio(float64(n[right]), float64(n[right]+n[wrong]))
}

// has reports whether the customer belonged to a cohort when the lapse began.
func (l *lapse) has(k cohorts.Key) bool {
	return k.By == cohorts.Everybody || l.p.placeAt(l.from)[k.By] == k.Value
}

// place is where a customer belongs: the value of each dimension.
type place [cohorts.NumDimensions]string

// moved is from when on a customer belonged somewhere.
type moved struct {
	at int64
	to *place
}

// placeOf is the place that a profile names, the same for all who share it.
func (t *Truth) placeOf(p *event.Profile) *place {
	var x place
	for d := range cohorts.Dimension(cohorts.NumDimensions) {
		x[d] = d.Of(p)
	}
	if t.places == nil {
		t.places = map[place]*place{}
	}
	known := t.places[x]
	if known == nil {
		known = &x
		t.places[x] = known
	}
	return known
}

// values is how many values of a dimension there are.
func (t *Truth) values(d cohorts.Dimension) int {
	all := map[string]bool{}
	for x := range t.places {
		if x[d] != "" {
			all[x[d]] = true
		}
	}
	return len(all)
}

// closePlaces puts the places of a customer into order.
func (p *person) closePlaces() {
	slices.SortStableFunc(p.places, func(a, b moved) int { return cmp.Compare(a.at, b.at) })
	p.places = slices.CompactFunc(p.places, func(a, b moved) bool { return a.to == b.to })
}

// placeAt is where the customer belonged at a time; before his first profile, where that puts him.
func (p *person) placeAt(ms int64) place {
	found := place{}
	for i, m := range p.places {
		if i == 0 || m.at <= ms {
			found = *m.to
		}
	}
	return found
}
