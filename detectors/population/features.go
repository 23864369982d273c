package population

import (
	"math"

	"ebb/state/customer"
	"ebb/stream/event"
)

// view is a customer on a day, as the models see him.
type view struct {
	rhythm *customer.Rhythm
	history
	// The log-odds of the label-free models, the chance that he left among them, and their mean.
	bg, one, shaped, left, prior float64
	lnRate, lnShape              float64
	days                         float64 // expected number of days of purchase
}

// historyOf is what a rhythm says at the end of a day. A day before the newest one counts as that.
func historyOf(h *customer.Rhythm, day int32) history {
	return history{
		x: float64(h.Gaps()), tx: float64(h.Last - h.First), t: float64(max(day, int32(h.Last)) - int32(h.First)),
		since: float64(max(day-int32(h.Last), 0)), sumLn: float64(h.SumLnGap) / customer.LnUnit,
	}
}

// logOdds of a probability, which is kept a millionth away from 0 and 1.
func logOdds(p float64) float64 {
	p = min(max(p, 1e-6), 1-1e-6)
	return math.Log(p / (1 - p))
}

func probability(logOdds float64) float64 { return 1 / (1 + math.Exp(-logOdds)) }

// view is the label-free part of a score for the next h days.
func (m *Model) view(h *customer.Rhythm, day int32, horizon float64) view {
	v := view{rhythm: h, history: historyOf(h, day)}
	left, quiet := m.bg.predict(&v.history, horizon)
	ln := outlookAt{now: lnTime(v.since), then: lnTime(v.since + horizon)}
	one, shaped := m.one.predict(&v.history, horizon, ln), m.shaped.predict(&v.history, horizon, ln)
	v.left, v.bg, v.one, v.shaped = logOdds(left), logOdds(quiet), logOdds(one.quiet), logOdds(shaped.quiet)
	v.prior = (v.bg + v.one + v.shaped) / 3
	v.lnRate, v.lnShape, v.days = shaped.lnRate, shaped.lnShape, shaped.days
	return v
}

// derived are the quantities that both learners are fed with.
type derived struct {
	n, meanGap, sdGap, meanLn float64
	decayed                   [3]float64
	decayedSpend              float64
	meanAmount, lastAmount    float64
	overdue                   float64 // silence in mean gaps
	overdueNew                float64 // ln of silence in newer gaps
	overdueMost               float64 // silence in longest gaps
}

func (v *view) derive(horizon float64) derived {
	h, m := v.rhythm, max(v.x, 1)
	d := derived{n: float64(h.Count), meanGap: v.tx / m, meanLn: v.sumLn / m}
	d.sdGap = math.Sqrt(max(float64(h.SumGapSquares)/m-d.meanGap*d.meanGap, 0))
	half := math.Exp2(-v.since / horizon)
	root := math.Sqrt(math.Sqrt(half))
	for j, by := range [...]float64{half * half * half * half, half, root} {
		d.decayed[j] = float64(h.Decayed[j]) * by
	}
	d.decayedSpend = float64(h.DecayedSpend) * half
	d.meanAmount, d.lastAmount = float64(h.Spent)/float64(event.MoneyUnit)/max(d.n, 1), float64(h.LastAmount)
	d.overdue = v.since / max(d.meanGap, 1)
	newer := 0.0
	if w := h.LnGapWeight(); w > 0 {
		newer = float64(h.LnGap) / w
	}
	d.overdueNew = math.Log(v.since+1) - newer
	d.overdueMost = v.since / max(float64(h.LongestGap()), 1)
	return d
}

// ln keeps away from 0.
func ln(v float64) float64 { return math.Log(max(v, 1e-3)) }

const (
	numLinear = 20
	numSplit  = 23
)

// linear are the features of the logistic regression.
func (v *view) linear(d *derived) [numLinear]float64 {
	h := v.rhythm
	return [numLinear]float64{
		v.bg, v.one, v.shaped, min(max(v.left, -6), 6), ln(d.n), ln(v.since + 1), ln(d.meanGap), ln(v.t), ln(d.sdGap + 1), d.meanLn - ln(d.meanGap),
		ln(d.decayed[0] + .05), ln(d.decayed[1] + .05), ln(d.decayed[2] + .05), math.Tanh(d.overdueNew), min(d.overdue, 10), min(d.overdueMost, 5),
		ln(d.meanAmount), ln(float64(h.Gap) + 1), ln(float64(h.GapBefore) + 1), ln(d.lastAmount + 1),
	}
}

// split are the features of the trees.
func (v *view) split(d *derived) [numSplit]float32 {
	h := v.rhythm
	var f [numSplit]float32
	for i, x := range [numSplit]float64{
		d.n, d.meanGap, d.sdGap, d.meanLn, float64(h.LongestGap()), v.tx, v.t, v.since, d.decayed[0], d.decayed[1], d.decayed[2], d.decayedSpend,
		d.meanAmount, d.lastAmount, float64(h.Gap), d.overdue, d.overdueNew, d.overdueMost, v.bg, v.one, v.shaped, v.lnRate, v.lnShape,
	} {
		f[i] = float32(x)
	}
	return f
}
