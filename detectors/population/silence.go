package population

import (
	"cmp"
	"math"
	"slices"

	"ebb/state/customer"
)

// LeastDays is on how many days a customer must have come before anything is decided about him: two purchases tell next to nothing.
const LeastDays = 3

// Verdict is what a model says of a customer's silence.
type Verdict struct {
	// Overdue: he has been silent for as long as he usually is, or longer, but not for as long as the model's horizon: then he is gone, and late news. Without it
	// nothing else is told; so nobody is judged whose usual gap is as long as the horizon.
	Overdue bool
	// P is the probability that he does nothing within the horizon.
	P float64
	// Horizon is the time that P is about, in days.
	Horizon int
	// Rank orders verdicts where there is room for few: see Model.Bar. It is the log-odds of his doing nothing within the model's own horizon, the same for
	// everybody: by P, who comes rarely would be behind others who are no likelier to have left, because more is asked of him. What the customer pays is no part
	// of it: weighed by that, the budget goes to customers who come often and pay much, of whom few leave.
	Rank float64
}

// HorizonFor is the time in days that is told about a customer: the model's horizon, or one and a half times what is usual for him if that is longer. A horizon
// within the usual gap would call everybody lost on the day of his purchase.
func (m *Model) HorizonFor(h *customer.Rhythm) int {
	return max(m.horizon, int(math.Ceil(1.5*h.MeanGap())))
}

// Patience is for how many days of silence nothing is decided about a customer: his own mean gap, and a day at least.
func Patience(h *customer.Rhythm) int { return max(int(math.Ceil(h.MeanGap())), 1) }

// Judge says what the silence of a customer means at the end of a day, when silent days have passed since he came last, or less where some do not count.
func (m *Model) Judge(h *customer.Rhythm, of Labels, day int32, silent int) Verdict {
	v := Verdict{Horizon: m.HorizonFor(h)}
	if !m.overdue(h, silent) {
		return v
	}
	v.Overdue = true
	v.Rank = m.silentOdds(h, of, day, silent, m.horizon)
	told := v.Rank
	if v.Horizon != m.horizon {
		told = m.silentOdds(h, of, day, silent, v.Horizon)
	}
	v.P = probability(told)
	return v
}

// silentOdds are the log-odds that a customer who is overdue does nothing within a number of days.
func (m *Model) silentOdds(h *customer.Rhythm, of Labels, day int32, silent, horizon int) float64 {
	seen := m.view(h, int32(h.Last)+int32(silent), float64(horizon))
	return m.corrected(m.logOdds(&seen, weekOf(day)), h, silent) + m.shift(of)
}

// Bar is the least Rank that the budget has room for. It is the lowest possible where there is room for all.
func (m *Model) Bar() float64 { return m.bar }

// seenWeekly is which share of those who pass a bar is seen to do so at epochs: the others have come again by then. It was measured on the customers of a shop: half of
// their gaps are longer than nine weeks.
const seenWeekly = 0.8

// noBar is below every rank.
const noBar = -1e6

// step is how a customer's rank rose from one epoch to the next, the highest within his silence.
type step struct{ from, to float32 }

// rate notes how the ranks of all who are silent have changed since the epoch before, as the model in force had it. The samples are in the order of customers.
func (f *Fold) rate(samples []Sample) {
	const kept = 4 // epochs: about a month
	if len(f.steps) == kept {
		f.steps = slices.Delete(f.steps, 0, 1)
	}
	var steps []step
	for i := range samples {
		c, h := samples[i].Customer, f.counts(&samples[i])
		now, before := f.seen[c], float32(noBar)
		if f.model == nil {
			continue
		}
		if now.best != 0 {
			before = now.best
		}
		day := f.epoch - 1
		v := f.model.Judge(h, Labels{samples[i].Tier, samples[i].Segment}, day, max(int(day)-int(h.Last), 0))
		if r := float32(v.Rank); v.Overdue && v.P >= f.cfg.Floor && r > before {
			steps = append(steps, step{before, r})
			now.best = r
			f.seen[c] = now
		}
	}
	f.steps = append(f.steps, steps)
}

// bar is the lowest rank such that, of the customers who are active, no more than the budget would have passed it in the epochs that are remembered. Where the
// budget is too small for those of the highest rank, one or more of whom there may be, it is just below that: they are told nevertheless. A bar above all would
// keep a small group, or one in which many are lost beyond doubt, from ever being told of anybody.
func (f *Fold) bar(samples []Sample) float64 {
	if f.cfg.Budget == 0 || len(f.steps) == 0 {
		return noBar
	}
	active := 0
	for i := range samples {
		if h := f.counts(&samples[i]); h.Count >= LeastDays && f.teaches(h) {
			active++
		}
	}
	const month = 30.44
	room := int(seenWeekly * f.cfg.Budget / 100 * float64(active) * float64(len(f.steps)*EpochDays) / month)
	// A bar between from and to is passed. Going down, passing begins at to and ends at from.
	type edge struct {
		at     float32
		passes int
	}
	var edges []edge
	for _, steps := range f.steps {
		for _, s := range steps {
			edges = append(edges, edge{s.to, 1}, edge{s.from, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(a.passes, b.passes)) })
	passing, lowest := 0, 0.0
	if len(edges) != 0 { // ranks are told as float32; the one that the highest was rounded from must pass
		lowest = float64(math.Nextafter32(edges[0].at, noBar))
	}
	for i, e := range edges {
		if passing += e.passes; passing > room {
			return lowest
		}
		if i+1 == len(edges) || edges[i+1].at < e.at {
			lowest = float64(e.at)
		}
	}
	return noBar
}
