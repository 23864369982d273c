package backtest

import (
	_ "embed"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"ebb/detectors/cohorts"
)

//go:embed default.yaml
var defaultConfig []byte

// DefaultConfig is the configuration that holds where none is named.
func DefaultConfig() []byte { return append([]byte(nil), defaultConfig...) }

// Text writes the report for a terminal.
func (r *Report) Text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	h := &r.History
	fmt.Fprintf(t, "%d events of %d customers, %s to %s; %.0f customer-months of active customers\n", h.Events, h.Customers, h.From, h.To, r.ActiveMonths)
	if h.Bad > 0 {
		fmt.Fprintf(t, "%d rows could not be used\n", h.Bad)
	}
	if h.Notes > 0 {
		fmt.Fprintf(t, "%d complaint records are of a type that ebb does not know: they count as notes, which start no clock\n", h.Notes)
	}
	if h.Thousands != nil {
		fmt.Fprintln(t, h.Thousands.Hint())
	}
	if h.Acts > 0 {
		fmt.Fprintf(t, "%d acts of people were not carried out\n", h.Acts)
	}
	if r.Activity != "none" {
		fmt.Fprintln(t, r.departures())
	}
	if line := r.headline(); line != "" {
		fmt.Fprintf(t, "\n%s\n", line)
	}
	for i := range r.Methods {
		fmt.Fprintf(t, "\n%s\talerts\ta week\tper 1,000 and month\tright\twrong\tnot over yet\tprecision\trecall\tlead\n", r.Methods[i].Name)
		list := r.Shown(i)
		for j := range list {
			d := &list[j]
			textRow(t, d.Detector, &d.Score)
			if d.Alerts > 0 {
				for k := range d.Tiers {
					textRow(t, "  "+printable(d.Tiers[k].Tier), &d.Tiers[k].Score)
				}
			}
		}
		for j := range list {
			for _, s := range []string{list[j].notJudged(), list[j].ToldOtherwise(), list[j].WhyMissed()} {
				if s != "" {
					fmt.Fprintf(t, "%s: %s\n", list[j].Detector, s)
				}
			}
			if d := &list[j]; d.Warnings > 0 {
				fmt.Fprintf(t, "%s: %d were warnings, %d of them right; %d came with the miss\n", d.Detector, d.Warnings, d.WarningsRight, d.Unwarned)
			}
		}
	}
	if line := r.HorizonHint(); line != "" {
		fmt.Fprintf(t, "\n%s\n", line)
	}
	r.cohortText(t)
	r.Migration.text(t)
	var read []string
	for _, x := range sortedCounts(h.Types) {
		read = append(read, x.Name+" "+x.Count)
	}
	fmt.Fprintf(t, "\nRead: %s\n", strings.Join(read, ", "))
	fmt.Fprintf(t, "Verdicts are told from %s on; before, ebb was learning. What each figure means: docs/backtest.md\n", r.JudgedFrom)
	return t.Flush()
}

// printable is s without anything that a terminal, or the table, would act on. What stands in a history was written by others.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '\uFFFD'
		}
		return r
	}, s)
}

// HorizonHint says that the horizon is short for these customers, nothing where it is not.
func (r *Report) HorizonHint() string {
	if r.Model == nil || r.Model.FittingDays == 0 {
		return ""
	}
	what := "a horizon of three times that"
	if r.Model.FittingDays < 3*r.Model.MedianGap {
		what = "the longest horizon that can be configured"
	}
	return fmt.Sprintf("Half of these customers stay away for %d days or more as a rule: %s, %d days, suits them better than one of %d (--horizon, alerts.horizon).",
		r.Model.MedianGap, what, r.Model.FittingDays, r.HorizonDays)
}

// cohortText writes what was told of many customers at once.
func (r *Report) cohortText(w io.Writer) {
	c := r.Cohorts
	if c == nil {
		return
	}
	fmt.Fprintf(w, "\nAbout many customers at once. %s\n", r.WatchedCohorts())
	for i := range c.Alerts {
		a := &c.Alerts[i]
		until := "open at the end"
		if a.Resolved != "" {
			until = "until " + a.Resolved[:len(time.DateOnly)]
		}
		fmt.Fprintf(w, "%s %s, %s: %s", a.Fired[:len(time.DateOnly)], a.Detector, until, printable(a.Summary))
		if m := a.Members; m != nil {
			fmt.Fprintf(w, " Of %d single alerts about them %d were right, %d wrong.", m.Alerts, m.Right, m.Wrong)
		}
		fmt.Fprintln(w)
	}
	if len(c.Alerts) != 0 {
		fmt.Fprintln(w, r.WithinCohorts())
	}
}

// WatchedCohorts says which cohorts there were to be watched.
func (r *Report) WatchedCohorts() string {
	var with, without []string
	for d := range cohorts.Dimension(cohorts.NumDimensions) {
		switch n, watched := r.Cohorts.Values[d.String()]; {
		case !watched:
		case n == 0:
			without = append(without, d.String())
		case n == 1:
			with = append(with, "1 "+d.String())
		default:
			with = append(with, fmt.Sprintf("%d %ss", n, d))
		}
	}
	total := 0
	for _, n := range r.Cohorts.Detectors {
		total += n
	}
	s := "No cohort of customers could be watched but all of them together"
	if len(with) != 0 {
		s = "The customers of " + list(with, "and") + " were watched, and all of them together"
	}
	if len(without) != 0 {
		s += "; no record names the " + list(without, "or") + " of a customer"
	}
	if total == 0 {
		s += ". Nothing was to be told"
	}
	return s + "."
}

// list joins words as in a sentence.
func list(words []string, last string) string {
	n := len(words) - 1
	if n == 0 {
		return words[0]
	}
	return strings.Join(words[:n], ", ") + " " + last + " " + words[n]
}

// WithinCohorts says how much of what happened an alert about a cohort was open for.
func (r *Report) WithinCohorts() string {
	c := r.Cohorts
	s := fmt.Sprintf("Of %d departures that are judged, %d were under way while an alert about a cohort of the customer was open", c.Departures, c.Within)
	if c.LeadDays != nil {
		s += fmt.Sprintf(", half of these %.0f days or more before the %d days were over", *c.LeadDays, r.HorizonDays)
	}
	s += fmt.Sprintf(". %d alerts about single customers fell into one", c.AlertsWithin)
	if c.HoldBack {
		s += fmt.Sprintf("; %d were held back, and %d of these told when it was over", c.HeldBack, c.ToldLater)
		if c.Precision != nil {
			s += fmt.Sprintf(". Of the customers for whom cohort drop stood then, %.0f %% left as it said (%d of %d)", 100**c.Precision, *c.Right, *c.Right+*c.Wrong)
		}
	}
	return s + "."
}

// text writes where the customers of each level of the first period are in the second.
func (m *Migration) text(w io.Writer) {
	if m == nil {
		return
	}
	rows := m.Rows()
	fmt.Fprintf(w, "\nby spend, %d days from %s to the %d from %s", m.Days, m.First, m.Days, m.Second)
	for _, level := range m.Levels() {
		fmt.Fprintf(w, "\t%s", level)
	}
	fmt.Fprint(w, "\tspend before\tafter\n")
	for i := range rows {
		fmt.Fprint(w, rows[i].From)
		for _, n := range rows[i].Cells {
			fmt.Fprintf(w, "\t%d", n)
		}
		fmt.Fprintf(w, "\t%s\t%s\n", rows[i].Before, rows[i].After)
	}
}

// departures says who left, by the history itself.
func (r *Report) departures() string {
	l := &r.Lapses
	s := fmt.Sprintf("%d of the customers left: %d departures, each of them %d days without %s after at least three active days; after %d of these the customer came back later, after %d he stayed away to the end",
		l.Customers, l.Lapses, r.HorizonDays, article(r.Activity), l.Returned, l.Lapses-l.Returned)
	if l.Stated > 0 {
		s += fmt.Sprintf("; %d were stated by a cancelled subscription", l.Stated)
	}
	return s
}

// headline is what the silence alerts of the first method would have been worth, empty where nothing is to be said of that.
func (r *Report) headline() string {
	d := r.Methods[0].Silence()
	if d == nil || r.Activity == "none" {
		return ""
	}
	if d.Alerts == 0 {
		return "no silence alert at all"
	}
	s := d.HowMany()
	if d.Precision != nil {
		s += fmt.Sprintf(", %.0f %% of them right", 100**d.Precision)
	}
	if d.Recall != nil {
		s += fmt.Sprintf("; they name %.0f %% of the departures", 100**d.Recall)
	}
	if d.LeadDays != nil {
		s += fmt.Sprintf(", half of them %.0f days or more before the %d days were over", *d.LeadDays, r.HorizonDays)
	}
	return s
}

// HowMany says how many alerts there were: a week, or in all where that would be nearly none.
func (d *DetectorReport) HowMany() string {
	switch {
	case d.Alerts == 1:
		return "1 " + words(d.Detector) + " alert in all"
	case d.PerWeek < 0.1:
		return fmt.Sprintf("%d %s alerts in all", d.Alerts, words(d.Detector))
	}
	return fmt.Sprintf("%.1f %s alerts a week", d.PerWeek, words(d.Detector))
}

// notJudged says which alerts of a detector that predicts are neither right nor wrong nor not over yet; empty where there are none.
func (d *DetectorReport) notJudged() string {
	if !predicts(d.Detector) {
		return ""
	}
	few := d.FewDays
	var all []string
	if l := d.Learning; l != nil {
		few -= l.FewDays
		if l.Alerts > 0 {
			all = append(all, fmt.Sprintf("%d raised while ebb was learning", l.Alerts))
		}
	}
	if few > 0 {
		all = append(all, fmt.Sprintf("%d of customers with less than three active days", few))
	}
	if all == nil {
		return ""
	}
	return "not judged: " + list(all, "and") + " (alerts, a week and per 1,000 count them)"
}

// ToldOtherwise says which alerts of the detector were not told by themselves, or not at once; empty where there are none.
func (d *DetectorReport) ToldOtherwise() string {
	var all []string
	if d.Together > 0 {
		all = append(all, fmt.Sprintf("%d more were told only within another alert of the same customer", d.Together))
	}
	if h := d.HeldBack; h != nil {
		s := fmt.Sprintf("%d were held back while an alert about many customers was open, %d of these told when it was over", h.Alerts, h.ToldLater)
		if h.Right+h.Wrong > 0 {
			s += fmt.Sprintf("; of all held back %d were right and %d wrong", h.Right, h.Wrong)
		}
		all = append(all, s)
	}
	return strings.Join(all, "; ")
}

// Shown are the detectors of a method that are worth a row: all of the first, and of the others those that work in another way there.
func (r *Report) Shown(i int) []DetectorReport {
	m := &r.Methods[i]
	if i == 0 {
		return m.Detectors
	}
	var own []DetectorReport
	for j := range m.Detectors {
		if name := m.Detectors[j].Detector; m.Rules[name] != r.Methods[0].Rules[name] {
			own = append(own, m.Detectors[j])
		}
	}
	return own
}

func article(activity string) string {
	if activity == "purchase" {
		return "a purchase"
	}
	return activity
}

func textRow(w io.Writer, name string, s *Score) {
	fmt.Fprintf(w, "%s\t%d\t%.1f\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, s.Alerts, s.PerWeek, number(s.PerThousand, "%.1f"), number(s.Right, "%d"),
		number(s.Wrong, "%d"), number(s.Undecided, "%d"),
		number(s.Precision, "%.2f"), number(s.Recall, "%.2f"), number(s.LeadDays, "%.0f d"))
}

// number is a figure, or a dash where it is not known.
func number[T int | float64](v *T, format string) string {
	if v == nil {
		return unknown
	}
	return fmt.Sprintf(format, *v)
}
