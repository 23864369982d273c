package backtest

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"ebb/cmd/ebb/internal/svg"
	"ebb/detectors"
	"ebb/stream/event"
)

//go:embed report.html
var reportTemplate string

// unknown stands where nothing is known.
const unknown = "–"

// widths of the pictures: two beside each other on a desk, one on a telephone.
const (
	wide, half, narrow = 1120.0, 540.0, 350.0
)

// HTML writes the report as one page that needs nothing else: no script, no other file, no other host.
func (r *Report) HTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"count":    func(n int) string { return svg.Thousands(int64(n)) },
		"known":    func(n *int) string { return knownCount(n) },
		"share":    share,
		"figure":   func(v *float64) string { return number(v, "%.1f") },
		"day":      func(at string) string { return at[:len(time.DateOnly)] },
		"days":     func(v *float64) string { return number(v, "%.0f d") },
		"one":      func(v float64) string { return fmt.Sprintf("%.1f", v) },
		"whole":    func(v float64) string { return fmt.Sprintf("%.0f", v) },
		"percent":  func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) },
		"three":    func(v float64) string { return fmt.Sprintf("%.3f", v) },
		"money":    amount,
		"found":    foundShare,
		"hasMoney": func(s *Score) bool { return foundShare(s) != unknown },
		"over": func(i int, w float64) template.HTML {
			return overTime(r.Methods[i].Weeks, names(r.Shown(i)), r.colour, w)
		},
		"colour":   r.colour,
		"predicts": predicts,
		"calibration": func(w float64) template.HTML {
			return calibration(r.Model, w)
		},
		"curve":   r.silenceCurve,
		"falls":   r.outflowCurve,
		"wide":    func() float64 { return wide },
		"half":    func() float64 { return half },
		"narrow":  func() float64 { return narrow },
		"article": article,
		"words":   words,
		"sorted":  sortedCounts,
	}).Parse(reportTemplate)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := t.Execute(w, r); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// colour is the number of a detector's colour, the same in every picture.
func (r *Report) colour(detector string) int {
	return max(0, slices.Index(names(r.Methods[0].Detectors), detector)) % 10
}

func names(list []DetectorReport) []string {
	var out []string
	for i := range list {
		out = append(out, list[i].Detector)
	}
	return out
}

func (m *MethodReport) detector(name string) *DetectorReport {
	for i := range m.Detectors {
		if m.Detectors[i].Detector == name {
			return &m.Detectors[i]
		}
	}
	return nil
}

// Silence is the detector whose findings the headline tells; nil where it is switched off.
func (m *MethodReport) Silence() *DetectorReport { return m.detector(detectors.SilenceName) }

// Judged reports whether departures can be found at all in this history.
func (r *Report) Judged() bool { return r.Activity != "none" }

func knownCount(n *int) string {
	if n == nil {
		return unknown
	}
	return svg.Thousands(int64(*n))
}

func share(v *float64) string { return number(v, "%.2f") }

// foundShare is how much of the spend of those who left was found, or of the balances that ran down, as a percentage.
func foundShare(s *Score) string {
	found, _, err := event.ParseMoney(cmp.Or(s.MoneyFound, s.BalanceFound))
	lost, _, err2 := event.ParseMoney(cmp.Or(s.MoneyLost, s.BalanceLost))
	if err != nil || err2 != nil || lost <= 0 {
		return unknown
	}
	return fmt.Sprintf("%.0f %%", 100*float64(found)/float64(lost))
}

// amount writes whole units with their thousands apart.
func amount(s string) string {
	m, _, err := event.ParseMoney(s)
	if err != nil {
		return unknown
	}
	return svg.Thousands(int64(m) / int64(event.MoneyUnit))
}

// words is a detector's name as people say it.
func words(detector string) string {
	return strings.ReplaceAll(detector, "_", " ")
}

// named is a count under a name.
type named struct {
	Name  string
	Count string
}

// sortedCounts are the counts of a map by name.
func sortedCounts(m map[string]int) []named {
	var out []named
	for name, n := range m {
		out = append(out, named{name, svg.Thousands(int64(n))})
	}
	slices.SortFunc(out, func(a, b named) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}
