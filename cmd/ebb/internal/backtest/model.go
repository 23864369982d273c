package backtest

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"ebb/stream/event"
)

// calibrationBins is how many points the calibration curve has.
const calibrationBins = 10

// thresholds are the probabilities for which it is told what alerts at them would have been.
func thresholds() []float64 {
	var out []float64
	for p := 10; p <= 95; p += 5 {
		out = append(out, float64(p)/100)
	}
	return out
}

// judged is a look with what came of it.
type judged struct {
	p       float64
	stopped bool
}

// model scores the probabilities; nil where none was told whose horizon is over.
func (s *scorer) model(o *Outcome) *ModelReport {
	if len(o.learnt.models) == 0 || s.t.None {
		return nil
	}
	var list []judged
	stopped := 0
	for i := range o.looks {
		l := &o.looks[i]
		end := int64(l.day+1)*dayMs - 1
		if end+s.ms > s.h.To {
			continue
		}
		j := judged{float64(l.p), !s.t.list[l.person].active(end, end+s.ms)}
		if j.stopped {
			stopped++
		}
		list = append(list, j)
	}
	if len(list) == 0 {
		return nil
	}
	slices.SortFunc(list, func(a, b judged) int {
		return cmp.Or(cmp.Compare(a.p, b.p), event.CompareBool(a.stopped, b.stopped))
	})
	base := float64(stopped) / float64(len(list))
	r := &ModelReport{
		From: date(dayOf(o.learnt.models[0].from)), LookDays: int(lookEvery(int(s.horizon))) * 7, Looks: len(list), BaseRate: round(base, 4),
	}
	newest := o.learnt.models[len(o.learnt.models)-1].what
	r.MedianGap = newest.MedianGap()
	if fits := newest.FittingHorizon(); fits > int(s.horizon) {
		r.FittingDays = fits
	}
	r.Brier, r.Skill = brier(list, base)
	r.Calibration, r.ECE = calibrate(list)
	r.High = calibrateHigh(list)
	r.AP = averagePrecision(list, stopped)
	for _, p := range thresholds() {
		r.Thresholds = append(r.Thresholds, s.threshold(p, o.looks))
	}
	return r
}

// brier is the mean squared distance of what was told from what came, and by how much that is better than telling everybody the base rate.
func brier(list []judged, base float64) (float64, *float64) {
	sum := 0.0
	for _, j := range list {
		d := j.p
		if j.stopped {
			d--
		}
		sum += d * d
	}
	sum /= float64(len(list))
	if base == 0 || base == 1 {
		return round(sum, 4), nil
	}
	skill := round(1-sum/(base*(1-base)), 4)
	return round(sum, 4), &skill
}

// calibrate divides a list that rises by probability into bins of as many looks each. The error is the mean distance of the bins.
func calibrate(list []judged) (bins []Bin, ece float64) {
	n := len(list)
	for b := range calibrationBins {
		part := list[b*n/calibrationBins : (b+1)*n/calibrationBins]
		if len(part) == 0 {
			continue
		}
		told, stopped := 0.0, 0.0
		for _, j := range part {
			told += j.p
			if j.stopped {
				stopped++
			}
		}
		m := float64(len(part))
		bins = append(bins, Bin{Looks: len(part), Told: round(told/m, 4), Stopped: round(stopped/m, 4)})
		ece += max(told-stopped, stopped-told) / float64(n)
	}
	return bins, round(ece, 4)
}

// calibrateHigh divides the looks at which an alert was possible: they are few, and lie all in the last bin of the others.
func calibrateHigh(list []judged) (bins []Bin) {
	edges := [...]float64{.35, .5, .65, .8}
	for i, from := range edges {
		told, stopped, n := 0.0, 0.0, 0
		for _, j := range list {
			if j.p < from || i+1 < len(edges) && j.p >= edges[i+1] {
				continue
			}
			told, n = told+j.p, n+1
			if j.stopped {
				stopped++
			}
		}
		if n != 0 {
			bins = append(bins, Bin{Looks: n, Told: round(told/float64(n), 4), Stopped: round(stopped/float64(n), 4)})
		}
	}
	return bins
}

// averagePrecision is the area under the steps of precision and recall, of a list that rises by probability; equal ones share a step.
func averagePrecision(list []judged, stopped int) *float64 {
	if stopped == 0 {
		return nil
	}
	hits, seen, area := 0.0, 0.0, 0.0
	for i := len(list) - 1; i >= 0; {
		up, p := 0.0, list[i].p
		for ; i >= 0 && list[i].p == p; i-- {
			seen++
			if list[i].stopped {
				up++
			}
		}
		hits += up
		area += up / float64(stopped) * hits / seen
	}
	area = round(area, 4)
	return &area
}

// threshold is what alerts at a fixed probability would have been: the first look in each silence at which the customer is overdue and the
// probability is reached. Looks are in the order of customers and days.
func (s *scorer) threshold(p float64, looks []look) Threshold {
	t := Threshold{Probability: p}
	alerts, right, decided := 0, 0, 0
	var leads []float64
	found := map[*activeDay]bool{}
	var last *activeDay
	for i := range looks {
		l := &looks[i]
		if float64(l.alert) < p {
			continue
		}
		who := s.t.list[l.person]
		n := who.upTo(l.day)
		if n == 0 || &who.days[n-1] == last {
			continue
		}
		last = &who.days[n-1]
		if int64(l.day)*dayMs < s.from {
			continue // alerted while learning
		}
		alerts++
		end := int64(l.day+1)*dayMs - 1
		if end <= last.last+s.ms {
			found[last] = true
		}
		if end+s.ms > s.h.To {
			continue
		}
		decided++
		if !who.active(end, end+s.ms) || who.cancelledWithin(end, end+s.ms) {
			right++
		}
		if found[last] {
			leads = append(leads, float64(last.last+s.ms-end)/dayMs)
		}
	}
	lapses, hits := 0, 0
	for i := range s.lapses {
		if l := &s.lapses[i]; !l.stated && l.last.last >= s.from {
			lapses++
			if found[l.last] {
				hits++
			}
		}
	}
	t.Alerts = alerts
	t.PerThousand = ratio(float64(alerts)*1000, s.tiers.judgedMonths)
	t.Precision, t.Recall, t.LeadDays = ratio(float64(right), float64(decided)), ratio(float64(hits), float64(lapses)), median(leads)
	return t
}

// WriteScores writes the customers that were scored at the dates that were asked for, as CSV. expected_value is what a customer would spend in the horizon at his own
// pace, value_at_risk that times p_stop; who never did anything that counts is left out.
func WriteScores(w io.Writer, rows []Row) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "customer_id,at,p_stop,expected_value,value_at_risk")
	for i := range rows {
		r := &rows[i]
		fmt.Fprintf(b, "%s,%s,%s,%.2f,%.2f\n", field(r.Customer), date(r.Day), strconv.FormatFloat(r.PStop, 'f', 6, 64), r.Expected, r.Expected*r.PStop)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("scores: %w", err)
	}
	return nil
}

// field is a text as a field of CSV.
func field(s string) string {
	if !strings.ContainsAny(s, "\",\r\n") && s == strings.TrimSpace(s) {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}
