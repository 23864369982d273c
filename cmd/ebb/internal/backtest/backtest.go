package backtest

import (
	"context"
	"slices"

	"ebb/stream/event"
)

// Variant is a set of rules under a name.
type Variant struct {
	Name  string
	Rules *Rules
	// Methods are the ways in which its detectors work, by name, for the report.
	Methods map[string]string
}

// Options are what a backtest works with.
type Options struct {
	// Variants are replayed one after another over the same history. The first is what the report is about, the others stand beside it.
	Variants []Variant
	// HorizonDays is how long a silence has to last to be a departure.
	HorizonDays int
	// LeastBalance is what must have been usual on an account for it to be worth watching, in the reporting currency.
	LeastBalance event.Money
	Config       string // hash of the configuration
	Currency     string
	ScoreAt      []int32 // UTC days at whose end every customer is scored, rising
	Progress     *Progress
}

// Detail is what a report leaves out: it names customers.
type Detail struct {
	Rows       []Row       // customers scored at the dates that were asked for
	Alerts     []Judged    // of the first variant, in the order of time, customer, id
	Wide       []Wide      // alerts about more than one customer, in the order of time
	JudgedFrom int64       // event time before which ebb was learning, ms
	Departures []Departure // that its alerts missed, in the order of time, customer and detector; none for detectors that are switched off
}

// Backtest replays the history by every variant and reports on all of them.
func Backtest(ctx context.Context, h *History, o *Options) (r *Report, d *Detail, err error) {
	s := newScorer(h, int32(o.HorizonDays), o.LeastBalance)
	d = &Detail{JudgedFrom: s.from}
	r = &Report{
		Format: Format, Config: o.Config, HorizonDays: o.HorizonDays, Currency: o.Currency, JudgedFrom: date(dayOf(s.from)), Activity: "any event", Tiers: s.tiers.source,
		ActiveMonths: round(s.tiers.activeMonths(), 1), History: historyReport(h), Lapses: s.lapseReport(),
	}
	switch {
	case h.Truth.None:
		r.Activity = "none"
	case h.Truth.Purchases:
		r.Activity = "purchase"
	}
	r.Migration = h.Truth.migration()
	var known learnt
	for i, v := range o.Variants {
		task := Task{What: "replaying " + v.Name, Horizon: o.HorizonDays, Learn: i == 0, Model: !h.Truth.None, learnt: known, Progress: o.Progress}
		if i == 0 {
			task.ScoreAt, task.pauses = o.ScoreAt, s.pauses()
		}
		out, err := Run(ctx, h, v.Rules, &task)
		if err != nil {
			return nil, nil, err
		}
		names := slices.Sorted(slices.Values(v.Rules.Detectors.Names()))
		m := s.method(v.Name, names, out)
		m.Rules = v.Methods
		r.Methods = append(r.Methods, m)
		if i > 0 {
			continue
		}
		known, d.Rows = out.learnt, out.Rows
		d.Alerts, d.Departures = s.judge(out.Alerts, names)
		r.Methods[0].missed(d.Departures)
		r.History.Duplicate, r.History.Refused = out.Duplicates, out.Refused
		r.Model, r.Outflow = s.model(out), s.outflows(out)
		r.Cohorts, d.Wide = s.cohortsReport(v.Rules.Cohorts, out, v.Rules.Detectors.Leaving), out.Wide
	}
	return r, d, nil
}

func historyReport(h *History) HistoryReport {
	r := HistoryReport{
		From: date(dayOf(h.From)), To: date(dayOf(h.To)), Events: h.Events, Customers: len(h.Truth.list), Feeds: map[string]int{}, Types: h.Types,
		Notes: h.Notes, Thousands: h.Thousands, Ignored: h.Ignored, Outside: h.Outside, Acts: h.Acts, Bad: h.Bad, BadBy: h.BadBy, BadRows: h.BadRows,
	}
	for f, n := range h.ByFeed {
		if n > 0 {
			r.Feeds[feedName(f)] = n
		}
	}
	return r
}

func (s *scorer) lapseReport() LapseReport {
	r := LapseReport{Lapses: len(s.lapses)}
	people := map[*person]bool{}
	for i := range s.lapses {
		l := &s.lapses[i]
		people[l.p] = true
		if l.last != &l.p.days[len(l.p.days)-1] {
			r.Returned++
		}
		if l.stated {
			r.Stated++
			continue
		}
		r.Money, _ = r.Money.Add(l.money)
	}
	r.Customers, r.Spend = len(people), r.Money.String()
	return r
}
