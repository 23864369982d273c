package backtest

import (
	_ "embed"
	"fmt"
	"io"
	"text/tabwriter"
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
					textRow(t, "  "+d.Tiers[k].Tier, &d.Tiers[k].Score)
				}
			}
		}
		for j := range list {
			if d := &list[j]; d.Warnings > 0 {
				fmt.Fprintf(t, "%s: %d were warnings, %d of them right; %d came with the miss\n", d.Detector, d.Warnings, d.WarningsRight, d.Unwarned)
			}
		}
	}
	r.Migration.text(t)
	fmt.Fprintf(t, "\nVerdicts are told from %s on; before, ebb was learning. What each figure means: docs/backtest.md\n", r.JudgedFrom)
	return t.Flush()
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
		return "silence: no alert at all"
	}
	s := fmt.Sprintf("silence: %.1f alerts a week", d.PerWeek)
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
