package cohorts

import (
	"encoding/binary"
	"math"
	"slices"

	"ebb/stream/event"
)

// This file watches what all customers together spend, and move away from their accounts, week by week (UTC, from Monday). A total can leave its range although nobody leaves: many
// spend a little less, which no test of a single customer tells from chance.
//
// With y the total of a week for each active customer, ln y is held against the median of the totalLevel weeks before. What is left is a residual; the scale of residuals is 1.4826
// times the median of their sizes over up to totalHistory weeks, and at least leastScale. A week is out of its range if its residual is more than mostDeviations
// scales on the bad side, and a quarter worse than any residual of those weeks: a season that is known is no news. Where residuals scatter like Student's t of four
// degrees of freedom, which has heavy tails, that is one false alarm in five years.
//
// A week without any spend is as far off as anything can be, by mostOff. Where that happens, at the turn of the year or while there are few customers, it is known from then on.

// Series is a total that is watched.
type Series uint8

// The series. The numbers are stored.
const (
	// Spend is what customers spend by their own doing, less refunds: too little is bad.
	Spend Series = iota
	// Outflow is what is withdrawn and transferred away: too much is bad.
	Outflow

	NumSeries = 2
)

var seriesNames = [NumSeries]string{"spend", "outflow"}

// String is the name of the series in alerts.
func (s Series) String() string {
	if s < NumSeries {
		return seriesNames[s]
	}
	return "unknown"
}

// bad is the sign of a residual that is bad.
func (s Series) bad() float64 {
	if s == Outflow {
		return 1
	}
	return -1
}

// Totals are sums over customers, in the reporting currency.
type Totals [NumSeries]event.Money

// Add adds another.
func (t *Totals) Add(o Totals) {
	for i := range t {
		if sum, ok := t[i].Add(o[i]); ok {
			t[i] = sum
		}
	}
}

const (
	totalLevel     = 8
	totalHistory   = 56                            // a year, and the weeks by which a feast moves
	keptWeeks      = totalHistory + totalLevel + 2 // and the first, which is not looked at, and the newest
	leastResiduals = 12
	leastScale     = 0.05
	mostDeviations = 5
	mostOff        = 3.9 // a factor of 50: what is less is as good as nothing
	worseThanEver  = 1.25
	weekDays       = 7
	firstMonday    = 3 // day 4 of 1970 was a Monday
)

// weekOf is the week of a day.
func weekOf(day int32) int32 { return (day + firstMonday) / weekDays }

// weekly is what is known of a week.
type weekly struct {
	week   int32
	active int64 // customers at its end, 0: it is not over
	totals Totals
}

// Weekly is what the end of a week says of a series.
type Weekly struct {
	Series   Series
	Day      int32 // the last of the week
	Firing   bool
	Active   int64
	Observed event.Money
	Expected event.Money // for as many active customers
	// Each is the total for each active customer, and Usual what it was before.
	Each, Usual float64
	Deviations  float64 // how many scales it is off, above 0 for the bad side
	Change      float64 // in percent of what was to be expected
	Weeks       int     // of history
}

// Total adds what the customers did in a day to its week.
func (f *Fold) total(day int32, t Totals) {
	week := weekOf(day)
	if n := len(f.weeks); n == 0 || f.weeks[n-1].week != week {
		f.weeks = append(f.weeks, weekly{week: week})
		if len(f.weeks) > keptWeeks {
			f.weeks = slices.Delete(f.weeks, 0, len(f.weeks)-keptWeeks)
		}
	}
	f.weeks[len(f.weeks)-1].totals.Add(t)
}

// CloseTotals adds the totals of the newest day that is over and, where a week ends with it, says what that is to be thought of.
func (f *Fold) CloseTotals(t Totals) (out []Weekly) {
	f.total(f.day, t)
	if weekOf(f.day) == weekOf(f.day+1) {
		return nil
	}
	w := &f.weeks[len(f.weeks)-1]
	if all := f.cohorts[Key{}]; all != nil {
		w.active = all.active
	}
	for s := range Series(NumSeries) {
		if x, ok := f.weekly(s); ok {
			out = append(out, x)
		}
	}
	return out
}

// logs are the logarithms of the totals of a series for each active customer, minus infinity where there was nothing, from the first week on in which there was something. Weeks
// without active customers are left out, and so is the first: it was not whole.
func (f *Fold) logs(s Series) (all []float64) {
	for i := 1; i < len(f.weeks); i++ {
		if w := &f.weeks[i]; w.active > 0 && (w.totals[s] > 0 || len(all) != 0) {
			all = append(all, math.Log(float64(max(0, w.totals[s]))/float64(w.active)))
		}
	}
	return all
}

// off is by how much the logarithm of a week lies above a level.
func off(log, level float64) float64 { return min(max(log-level, -mostOff), mostOff) }

// weekly judges the newest week. It is false while too little is known.
func (f *Fold) weekly(s Series) (Weekly, bool) {
	now := &f.weeks[len(f.weeks)-1]
	if now.active == 0 {
		return Weekly{}, false
	}
	logs := f.logs(s)
	each := float64(max(0, now.totals[s])) / float64(now.active)
	if len(logs) < totalLevel+leastResiduals+1 {
		return Weekly{}, false
	}
	last := len(logs) - 1
	residuals := make([]float64, 0, last)
	worst := 0.0
	for i := totalLevel; i < last; i++ {
		if level := median(logs[i-totalLevel : i]); !math.IsInf(level, -1) {
			r := off(logs[i], level)
			residuals = append(residuals, math.Abs(r))
			worst = max(worst, r*s.bad())
		}
	}
	level := median(logs[last-totalLevel : last])
	if len(residuals) < leastResiduals || math.IsInf(level, -1) { // nothing is usual
		return Weekly{}, false
	}
	scale := max(leastScale, 1.4826*median(residuals))
	bad := s.bad() * off(logs[last], level)
	x := Weekly{
		Series: s, Day: f.day, Active: now.active, Observed: cents(float64(now.totals[s])), Each: each, Usual: math.Exp(level), Deviations: bad / scale,
		Expected: cents(math.Exp(level) * float64(now.active)), Weeks: last,
	}
	x.Change = 100 * (each/x.Usual - 1)
	x.Firing = x.Deviations > mostDeviations && bad > worseThanEver*worst
	return x, true
}

// cents is an amount in 1/10000, rounded to hundredths: a total is no bill.
func cents(m float64) event.Money { return event.Money(math.Round(m/100)) * 100 }

// median of values, which stay as they are.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

func (f *Fold) appendWeeks(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(f.weeks)))
	for i := range f.weeks {
		w := &f.weeks[i]
		b = binary.AppendVarint(binary.AppendVarint(b, int64(w.week)), w.active)
		for _, m := range w.totals {
			b = binary.AppendVarint(b, int64(m))
		}
	}
	return b
}

func (d *decoder) weeks() (all []weekly) {
	for range d.count(4) {
		w := weekly{week: d.day(), active: d.varint()}
		for i := range w.totals {
			w.totals[i] = event.Money(d.varint())
		}
		all = append(all, w)
	}
	return all
}
