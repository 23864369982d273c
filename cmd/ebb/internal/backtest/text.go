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
	fmt.Fprintf(t, "%d events of %d customers, %s to %s\n", h.Events, h.Customers, h.From, h.To)
	if h.Bad > 0 {
		fmt.Fprintf(t, "%d rows could not be used\n", h.Bad)
	}
	if r.Activity != "none" {
		fmt.Fprintf(t, "%d departures (%d days without %s), %d of them stated; %.0f customer-months of active customers\n",
			r.Lapses.Lapses, r.HorizonDays, article(r.Activity), r.Lapses.Stated, r.ActiveMonths)
	}
	for i := range r.Methods {
		m := &r.Methods[i]
		fmt.Fprintf(t, "\n%s\talerts\ta week\tper 1,000 and month\tright\twrong\topen\tprecision\trecall\tlead\n", m.Name)
		for j := range m.Detectors {
			d := &m.Detectors[j]
			textRow(t, d.Detector, &d.Score)
			if d.Warnings > 0 {
				fmt.Fprintf(t, "  %d warnings, %d right; %d came with the miss\n", d.Warnings, d.WarningsRight, d.Unwarned)
			}
			if d.Alerts > 0 {
				for k := range d.Tiers {
					textRow(t, "  "+d.Tiers[k].Tier, &d.Tiers[k].Score)
				}
			}
		}
	}
	return t.Flush()
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
