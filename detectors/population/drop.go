package population

import (
	"math"

	"ebb/state/customer"
	"ebb/stream/event"
)

// This file is what the drop tests learn of the population: how busy it is from week to week, and how much evidence for a drop there is by chance.

// DropSample is what a customer adds to that at an epoch.
type DropSample struct {
	// Days is on how many days of the week before the epoch he paid.
	Days uint8
	// Alive: he paid in the five weeks before that one, so that it can be expected of him.
	Alive bool
	// Told: a block of customer.DropBlock days has ended a week ago; Peaks are then the highest excess of the spend test and the usage test in it, in
	// 1/peakUnit, peakNone where there was none.
	Told  bool
	Peaks [2]int16
}

const (
	peakUnit = 8
	peakNone = math.MinInt16
	// peakLeast and peakMost bound what is counted, in 1/peakUnit.
	peakLeast, peakMost = -20 * peakUnit, 14 * peakUnit
	peakBins            = peakMost - peakLeast + 1

	aliveDays = 35
)

func dropSampleOf(r *customer.Record, epoch int32) DropSample {
	week := epoch - EpochDays
	s := DropSample{
		Days: uint8(min(r.DaysPaid(week, epoch), EpochDays)), Alive: r.DaysPaid(week-aliveDays, week) != 0,
		Told: (epoch-EpochDays)%customer.DropBlock == 0, Peaks: [2]int16{peakNone, peakNone},
	}
	if d := r.Drops(); d != nil && s.Told {
		for i, test := range [2]*customer.Drop{&d.Spend, &d.Usage} {
			if peak, ok := test.Peak(epoch - 1); ok {
				s.Peaks[i] = int16(min(max(math.Round(peak*peakUnit), peakLeast), peakMost))
			}
		}
	}
	return s
}

func (s *DropSample) append(w *writer) {
	w.b = append(w.b, s.Days)
	w.bool(s.Alive)
	w.bool(s.Told)
	if s.Told {
		w.varint(int64(s.Peaks[0]))
		w.varint(int64(s.Peaks[1]))
	}
}

func readDropSample(r *reader) DropSample {
	s := DropSample{Days: r.byte(), Alive: r.bool(), Told: r.bool(), Peaks: [2]int16{peakNone, peakNone}}
	if s.Told {
		for i := range s.Peaks {
			v := r.day()
			s.Peaks[i] = int16(v)
			r.bad = r.bad || v != peakNone && (v < peakLeast || v > peakMost)
		}
	}
	r.bad = r.bad || s.Days > EpochDays
	return s
}

const (
	// shownWeeks is how many weeks of the index a model holds: more than any gap between payments that counts.
	shownWeeks = 60
	// steadyWeeks is over how many weeks the index is told where nothing is known of a single one.
	steadyWeeks = 4
	// indexCustomers is how many must be alive for an index.
	indexCustomers = 30
	// indexShrink is the number of expected payments that shrink the index of a week towards that of four.
	indexShrink = 20.0
	// indexLeast and indexMost bound the index.
	indexLeast, indexMost = 0.3, 3.0

	// leastBlocks is how many blocks of days are counted before the population sets a threshold.
	leastBlocks = 6
	// leastPeaks is how many peaks must be above a threshold that it sets.
	leastPeaks = 5
	// blockFade is the weight of a block relative to the one after it: about a year is remembered.
	blockFade = 0.95
	// tailsADecade is how many quantiles of the peaks a model holds for each factor ten of their probability.
	tailsADecade  = 6
	tailQuantiles = 3*tailsADecade + 1
)

// dropFold collects what the drop tests learn.
type dropFold struct {
	epoch   int32        // of the newest week, neverClosed before
	recent  [2][]float64 // days with payments, and days to be expected, of the newest steadyWeeks weeks
	index   []float32    // of the newest shownWeeks weeks, the newest last
	blocks  int          // that were counted
	weights [2][]float64 // of peaks, by bin; nil for none
}

// close takes the samples of an epoch, in the order of their customers.
func (d *dropFold) close(samples []Sample, epoch int32, horizon int) {
	for ; d.epoch != neverClosed && d.epoch+EpochDays < epoch; d.epoch += EpochDays { // a week of which nothing is known
		d.week(0, 0, 0)
	}
	paid, usual, alive := 0.0, 0.0, 0
	counted := false
	for i := range samples {
		s := &samples[i]
		if s.Drop.Alive {
			if rate := slowRate(&s.Rhythms.Purchases, epoch, 4*float64(horizon)); rate > 0 {
				alive++
				paid += float64(s.Drop.Days)
				usual += rate * EpochDays
			}
		}
		counted = counted || s.Drop.Told
	}
	d.week(paid, usual, alive)
	d.epoch = epoch
	if counted {
		d.count(samples)
	}
}

// slowRate is on how many days a day a customer paid over the long run, as of a local day, by the slowest of his decayed counts with its half-life in days; 0 for
// one who is not known for long enough.
func slowRate(h *customer.Rhythm, day int32, halfLife float64) float64 {
	known := float64(day - int32(h.First))
	if h.Count < 3 || known < slowKnown {
		return 0
	}
	since := max(float64(day-int32(h.Last)), 0)
	count := float64(h.Decayed[2])*math.Exp2(-since/halfLife) - math.Exp2(-known/halfLife) // the first day is where it begins
	return max(count, 0) * math.Ln2 / (halfLife * (1 - math.Exp2(-known/halfLife)))
}

// slowKnown is for how many days a customer is known from whom the index is made.
const slowKnown = 60

func (d *dropFold) week(paid, usual float64, alive int) {
	if alive < indexCustomers {
		paid, usual = 0, 0
	}
	d.recent[0] = newest(append(d.recent[0], paid), steadyWeeks)
	d.recent[1] = newest(append(d.recent[1], usual), steadyWeeks)
	now := d.now()
	d.index = newest(append(d.index, float32(bounded((paid+indexShrink*now)/(usual+indexShrink)))), shownWeeks)
}

// now is the index of the newest steadyWeeks weeks, 1 where nothing is known.
func (d *dropFold) now() float64 {
	paid, usual := 0.0, 0.0
	for i := range d.recent[0] {
		paid += d.recent[0][i]
		usual += d.recent[1][i]
	}
	if usual == 0 {
		return 1
	}
	return bounded(paid / usual)
}

func bounded(index float64) float64 { return min(max(index, indexLeast), indexMost) }

func newest[T any](s []T, n int) []T { return s[max(len(s)-n, 0):] }

// count takes the peaks of a block.
func (d *dropFold) count(samples []Sample) {
	d.blocks++
	for i := range d.weights {
		for b := range d.weights[i] {
			d.weights[i][b] *= blockFade
		}
		for j := range samples {
			if s := &samples[j].Drop; s.Told && s.Peaks[i] != peakNone {
				if d.weights[i] == nil {
					d.weights[i] = make([]float64, peakBins)
				}
				d.weights[i][s.Peaks[i]-peakLeast]++
			}
		}
	}
}

// told is what a model says of it.
func (d *dropFold) told() dropModel {
	m := dropModel{epoch: d.epoch, now: float32(d.now()), index: append([]float32(nil), d.index...)}
	if d.blocks >= leastBlocks {
		for i := range m.tails {
			m.tails[i] = tailsOf(d.weights[i])
		}
	}
	return m
}

// tailsOf are the excesses that a peak is above with the probabilities 10^(-i/tailsADecade), for as many as are known well enough.
func tailsOf(weights []float64) (tails []float32) {
	all := 0.0
	for _, w := range weights {
		all += w
	}
	above, bin := 0.0, len(weights)
	for i := tailQuantiles - 1; i >= 0; i-- { // the rarest first
		share := math.Pow(10, -float64(i)/tailsADecade) * all
		if share < leastPeaks {
			continue
		}
		for bin > 0 && above+weights[bin-1] <= share {
			bin--
			above += weights[bin]
		}
		if tails == nil {
			tails = make([]float32, i+1)
		}
		tails[i] = float32(bin+peakLeast) / peakUnit
	}
	return tails
}

// dropModel is what the drop tests use of a model.
type dropModel struct {
	epoch int32
	now   float32      // 0 while nothing is known
	index []float32    // of the weeks up to the epoch, the newest last
	tails [2][]float32 // see tailsOf; of spend and of usage
}

// Elapsed is how many days passed between two local days in the time of the population, which goes slower while all customers pay less often than they do over
// the long run: the days times the index of their weeks, 0.3 to 3. Before what the model knows it is 1, and after it that of the newest four weeks.
func (m *Model) Elapsed(from, to int32) float64 {
	d := &m.drop
	switch {
	case d.now == 0:
		return float64(to - from)
	case from >= d.epoch:
		return float64(to-from) * float64(d.now)
	}
	sum := 0.0
	first := d.epoch - int32(len(d.index))*EpochDays
	for day := from; day < to; {
		end, index := to, float64(d.now)
		switch {
		case day < first:
			end, index = min(to, first), 1
		case day < d.epoch:
			week := (day - first) / EpochDays
			end, index = min(to, first+(week+1)*EpochDays), float64(d.index[week])
		}
		sum += float64(end-day) * index
		day = end
	}
	return sum
}

// DropExcess is how far above its threshold of one false alarm a year a drop test of a feed has to be, in ln, so that it would have raised no more than so many
// alarms per customer and year in this population, right or wrong. It is false while nothing is known.
func (m *Model) DropExcess(f event.Feed, perYear float64) (float64, bool) {
	tails := m.drop.tails[0]
	if f == event.Usage {
		tails = m.drop.tails[1]
	}
	at := -tailsADecade * math.Log10(perYear*customer.DropBlock/365.25)
	last := len(tails) - 1
	switch {
	case last < 0:
		return 0, false
	case at >= float64(last): // rarer than what is known: a factor e in the probability is 1 in ln, as it is by the theory
		return float64(tails[last]) + (at-float64(last))*math.Ln10/tailsADecade, true
	case at <= 0:
		return float64(tails[0]), true
	}
	i := int(at)
	return float64(tails[i]) + (at-float64(i))*float64(tails[i+1]-tails[i]), true
}

// withDrops is the model with what the drop tests know by an epoch.
func (m *Model) withDrops(d dropModel) *Model {
	n := *m
	n.drop = d
	n.name()
	return &n
}

func (d *dropModel) append(w *writer) {
	w.varint(int64(d.epoch))
	w.float32(d.now)
	for _, list := range [...][]float32{d.index, d.tails[0], d.tails[1]} {
		w.float32s(list)
	}
}

func readDropModel(r *reader) (d dropModel) {
	d.epoch, d.now = r.epoch(), r.float32()
	d.index, d.tails[0], d.tails[1] = r.float32s(shownWeeks), r.float32s(tailQuantiles), r.float32s(tailQuantiles)
	for _, v := range append([]float32{d.now}, d.index...) {
		r.bad = r.bad || v < 0 || v > indexMost
	}
	return d
}

func (d *dropFold) append(w *writer) {
	w.varint(int64(d.epoch))
	w.uvarint(uint64(d.blocks))
	w.float32s(d.index)
	w.uvarint(uint64(len(d.recent[0])))
	for i := range d.recent[0] {
		w.floats(d.recent[0][i], d.recent[1][i])
	}
	for _, weights := range d.weights {
		n := 0
		for _, v := range weights {
			if v != 0 {
				n++
			}
		}
		w.uvarint(uint64(n))
		for b, v := range weights {
			if v != 0 {
				w.uvarint(uint64(b))
				w.floats(v)
			}
		}
	}
}

func readDropFold(r *reader) (d dropFold) {
	d.epoch = r.day()
	r.bad = r.bad || d.epoch != neverClosed && d.epoch%EpochDays != 0
	d.blocks = int(r.uvarint(math.MaxInt32))
	d.index = r.float32s(shownWeeks)
	for range r.uvarint(steadyWeeks) {
		d.recent[0] = append(d.recent[0], r.float())
		d.recent[1] = append(d.recent[1], r.float())
	}
	for i := range d.weights {
		if n := r.uvarint(peakBins); n != 0 {
			d.weights[i] = make([]float64, peakBins)
			for range n {
				d.weights[i][r.uvarint(peakBins-1)] = r.float()
			}
		}
	}
	return d
}

func (w *writer) float32s(list []float32) {
	w.uvarint(uint64(len(list)))
	for _, v := range list {
		w.float32(v)
	}
}

func (r *reader) float32s(most uint64) []float32 {
	n := r.uvarint(most)
	if n == 0 {
		return nil
	}
	list := make([]float32, n)
	for i := range list {
		list[i] = r.float32()
	}
	return list
}

// DropEpoch is the epoch up to which the drop tests know the population.
func (m *Model) DropEpoch() int32 { return m.drop.epoch }
