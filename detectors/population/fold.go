package population

import (
	"bytes"
	"math"
	"slices"

	"ebb/state/customer"
)

// Config is what a fold needs to know.
type Config struct {
	// Horizon is the time in days that the models look ahead, 1 to customer.MaxHorizon. The samples' rhythms are kept for the same.
	Horizon int
	// Sample is how many customers of whom something can be learnt the sample aims at; 0 is 5000.
	Sample int
	// Floor is the least probability of an alert, and Budget how many alerts there may be in a month for 100 customers who are active: both for Model.Bar. A
	// Budget of 0 is no limit.
	Floor, Budget float64
}

const (
	defaultSample = 5000
	mostSampled   = 8     // customers of all kinds for each of whom something can be learnt, at most
	fitCustomers  = 3000  // of the sample, those with the smallest hashes, that the label-free models are fitted to
	leastFit      = 15    // customers without whom there is no model
	mostExamples  = 20000 // whose outcome is known
	leastOutcomes = 5     // examples of either outcome without which nothing is learnt from them
	firstRounds   = 40    // of EM
	laterRounds   = 8
	gateEvidence  = 100.0 // weight of the rarer outcome at which the corrections count by half
	memoryOf      = 4.0   // horizons after which an outcome counts half
	forgetAfter   = 16.0  // horizons after which it is forgotten
	weightOfTwo   = 0.3   // of an example of somebody who came twice: too little is known of him to decide anything, but there are many
	refitsOf      = 6.0   // refits a horizon, as near as epochs allow
)

// Fold makes models of samples. It belongs to one goroutine.
type Fold struct {
	cfg   Config
	epoch int32 // of the newest Close, neverClosed before
	model *Model

	waiting   map[int32]map[uint64]Sample // by epoch, those that were not closed yet
	seen      map[uint64]sighting         // by customer, as of the epoch
	pending   []snapshot                  // outcome not known yet
	matured   []snapshot                  // outcome known
	purchases bool
	limit     uint64 // the largest hash of the sample
	steps     [][]step
	drops     dropFold
	groups    *Groups
}

const neverClosed = math.MinInt32

// sighting is how far a customer was known at an epoch. best is the highest rank that his silence has had, 0 for none.
type sighting struct {
	count, last uint16
	best        float32
}

// snapshot is a customer on a day.
type snapshot struct {
	customer uint64
	day      int32
	next     int32 // first day on which he came again, 0 while he did not
	rhythm   customer.Rhythm
	told     float32 // log-odds of the model in force, without what is added for labels, if judged
	judged   bool    // there was a model
	tier     string
	segment  string
}

// key is what stands for a snapshot where chance is needed.
func (s *snapshot) key() uint64 { return mix(s.customer ^ mix(uint64(s.day))) }

// stopped reports whether he did not come within the horizon.
func (s *snapshot) stopped(horizon int32) bool { return s.next == 0 || s.next > s.day+horizon }

// example is a snapshot as the learners see it.
type example struct {
	prior   float64 // log-odds
	stopped float64 // 0 or 1
	weight  float64
	key     uint64
	linear  [numLinear]float64
	split   [numSplit]float32
}

// NewFold returns a fold that knows nothing.
func NewFold(cfg Config) *Fold {
	if cfg.Sample == 0 {
		cfg.Sample = defaultSample
	}
	return &Fold{cfg: cfg, groups: NewGroups(), epoch: neverClosed, waiting: map[int32]map[uint64]Sample{}, seen: map[uint64]sighting{}, purchases: true, limit: math.MaxUint64, drops: dropFold{epoch: neverClosed}}
}

// Observe takes a sample. Samples of several epochs may come in any order; one of an epoch that was closed is left out, and of two of a customer at an epoch
// one counts, whichever comes first.
func (f *Fold) Observe(s Sample) {
	if s.Epoch <= f.epoch {
		return
	}
	at := f.waiting[s.Epoch]
	if at == nil {
		at = map[uint64]Sample{}
		f.waiting[s.Epoch] = at
	}
	if before, ok := at[s.Customer]; ok && bytes.Compare(AppendSample(nil, &before), AppendSample(nil, &s)) >= 0 {
		return
	}
	at[s.Customer] = s
}

// ObserveOutcome takes whether a complaint met its target. See Groups.Observe.
func (f *Fold) ObserveOutcome(o Outcome) { f.groups.Observe(o) }

// Epoch is that of the newest Close, false if there was none.
func (f *Fold) Epoch() (int32, bool) { return f.epoch, f.epoch != neverClosed }

// Model is the newest model, nil while there is none.
func (f *Fold) Model() *Model { return f.model }

// Close ends an epoch: all samples of it are there, and none of it will count from now on. It returns the newest model, nil while too few customers are known;
// the models of lapse in it are new only where the epoch is one of those at which they are fitted, a sixth of the horizon apart. Epochs must be closed in their
// order; samples of an epoch that is left out are not used.
func (f *Fold) Close(epoch int32) *Model {
	if epoch <= f.epoch {
		return f.model
	}
	f.epoch = epoch
	rates := f.groups.Close(epoch)
	samples := f.take(epoch)
	f.choose(samples)
	f.follow(samples)
	f.rate(samples)
	if epoch/EpochDays%f.every() == 0 || f.model == nil {
		if m := f.fit(samples); m != nil {
			f.model = m
		}
	}
	f.remember(samples)
	f.drops.close(samples, epoch, f.cfg.Horizon)
	if f.model != nil {
		f.model = f.model.withDrops(f.drops.told())
		f.model = f.model.withMisses(rates)
	}
	return f.model
}

// every is the number of epochs from one fit to the next.
func (f *Fold) every() int32 {
	return max(1, int32(math.Round(float64(f.cfg.Horizon)/(refitsOf*EpochDays))))
}

// take returns the samples of an epoch in the order of their customers, no more than the sample aims at by much.
func (f *Fold) take(epoch int32) []Sample {
	waiting := f.waiting[epoch]
	customers := make([]uint64, 0, len(waiting))
	for c := range waiting {
		if c <= f.limit {
			customers = append(customers, c)
		}
	}
	slices.Sort(customers)
	all := make([]Sample, len(customers))
	for i, c := range customers {
		all[i] = waiting[c]
	}
	for e := range f.waiting {
		if e <= epoch {
			delete(f.waiting, e)
		}
	}
	f.narrow(all)
	n := 0
	for n < len(all) && all[n].Customer <= f.limit {
		n++
	}
	return all[:n]
}

// narrow lowers the limit of the sample where it has become too large: where it holds many more than Sample customers of whom something can be learnt, or
// mostSampled times as many of all. It never rises, so that who is in the sample was in it before.
func (f *Fold) narrow(all []Sample) {
	teach, last, n := 0, 0, 0
	for ; n < len(all) && all[n].Customer <= f.limit; n++ {
		if h := f.counts(&all[n]); f.teaches(h) {
			if teach++; teach == f.cfg.Sample {
				last = n
			}
		}
	}
	switch {
	case teach > f.cfg.Sample+f.cfg.Sample/5:
		f.limit = all[last].Customer
	case n > mostSampled*f.cfg.Sample:
		f.limit = all[mostSampled*f.cfg.Sample-1].Customer
	}
}

// teaches reports whether something may be learnt from what becomes of a customer: he came at least twice, and not longer ago than the horizon.
func (f *Fold) teaches(h *customer.Rhythm) bool {
	return h.Count >= 2 && f.epoch-1-int32(h.Last) < int32(f.cfg.Horizon)
}

// choose decides which rhythm counts: that of purchases where more than half of what customers do are purchases. What was learnt of the other is forgotten.
func (f *Fold) choose(samples []Sample) {
	purchases, all := 0, 0
	for i := range samples {
		purchases += int(samples[i].Rhythms.Purchases.Count)
		all += int(samples[i].Rhythms.Activity.Count)
	}
	if by := 2*purchases > all; by != f.purchases && all > 0 {
		f.purchases = by
		f.seen, f.pending, f.matured, f.model, f.steps = map[uint64]sighting{}, nil, nil, nil, nil
	}
}

func (f *Fold) counts(s *Sample) *customer.Rhythm {
	if f.purchases {
		return &s.Rhythms.Purchases
	}
	return &s.Rhythms.Activity
}

// follow notes who came since the epoch before, and which outcomes are known by that.
func (f *Fold) follow(samples []Sample) {
	day, horizon := f.epoch-1, int32(f.cfg.Horizon)
	came := make(map[uint64]int32, len(samples))
	seen := make(map[uint64]sighting, len(samples))
	for i := range samples {
		c := samples[i].Customer
		h := f.counts(&samples[i])
		came[c] = firstSince(h, f.seen[c])
		now := sighting{count: h.Count, last: h.Last}
		if before := f.seen[c]; before.last == h.Last {
			now.best = before.best
		}
		seen[c] = now
	}
	f.seen = seen
	open := f.pending[:0]
	for i := range f.pending {
		s := &f.pending[i]
		next, known := came[s.customer]
		if !known {
			continue // he was forgotten, erased, or left the sample
		}
		if s.next == 0 && next > s.day {
			s.next = next
		}
		if s.day+horizon <= day {
			f.matured = append(f.matured, *s)
		} else {
			open = append(open, *s)
		}
	}
	f.pending = open
	f.forget(day)
}

// firstSince is the first day on which a customer came after he was last seen, 0 if he did not. Of more than three days the first are not known any more, and
// the third newest stands for them.
func firstSince(h *customer.Rhythm, before sighting) int32 {
	if h.Count <= before.count || h.Last <= before.last {
		return 0
	}
	first := int32(h.Last)
	for i, gap := range [...]uint16{h.Gap, h.GapBefore} {
		if i+1 >= int(h.Count-before.count) || gap == 0 || first-int32(gap) <= int32(before.last) {
			break
		}
		first -= int32(gap)
	}
	return first
}

// forget keeps as many outcomes as are used: none that is too old, and of too many those that the hash chooses.
func (f *Fold) forget(day int32) {
	oldest := float64(day) - (forgetAfter+1)*float64(f.cfg.Horizon)
	f.matured = slices.DeleteFunc(f.matured, func(s snapshot) bool { return float64(s.day) < oldest })
	if len(f.matured) <= mostExamples {
		return
	}
	keys := make([]uint64, len(f.matured))
	for i := range f.matured {
		keys[i] = f.matured[i].key()
	}
	slices.Sort(keys)
	most := keys[mostExamples-1]
	f.matured = slices.DeleteFunc(f.matured, func(s snapshot) bool { return s.key() > most })
}

// remember takes snapshots of those of whom an outcome may be learnt: who came at least twice, and not longer ago than the horizon. Of each of them there is one
// for each fit on average, at an epoch that the hash chooses, so that examples are from all weeks of the year.
func (f *Fold) remember(samples []Sample) {
	day := f.epoch - 1
	every := uint64(f.every())
	for i := range samples {
		s := &samples[i]
		h := f.counts(s)
		if !f.teaches(h) {
			continue
		}
		if one := (snapshot{customer: s.Customer, day: day, rhythm: *h, tier: s.Tier, segment: s.Segment}); one.key()%every == 0 {
			if f.model != nil {
				v := f.model.view(&one.rhythm, day, float64(f.cfg.Horizon))
				one.told, one.judged = float32(f.model.logOdds(&v, weekOf(day))), true
			}
			f.pending = append(f.pending, one)
		}
	}
}

// fit makes a model, nil if too few customers are known.
func (f *Fold) fit(samples []Sample) *Model {
	day := f.epoch - 1
	var all []history
	for i := range samples {
		h := f.counts(&samples[i])
		if c := historyOf(h, day); h.Count != 0 && c.t > 0 && len(all) < fitCustomers {
			all = append(all, c)
		}
	}
	if len(all) < leastFit {
		return nil
	}
	horizon := float64(f.cfg.Horizon)
	m := &Model{
		epoch: f.epoch, horizon: f.cfg.Horizon, purchases: f.purchases, customers: len(samples), medianGap: f.medianGap(samples), below: f.limit, bar: f.bar(samples),
		one: newRenewal(horizon, memoryless()), shaped: newRenewal(horizon, regular()),
	}
	rounds, warm := firstRounds, BGNBD{}
	if old := f.model; old != nil {
		rounds, warm = laterRounds, old.bg
		copy(m.one.weights, old.one.weights)
		copy(m.shaped.weights, old.shaped.weights)
	}
	m.bg = fitBGNBD(all, warm)
	m.one.fit(all, rounds)
	m.shaped.fit(all, rounds)
	f.learn(m)
	f.learnOverdue(m)
	f.labels(m)
	m.name()
	return m
}

// medianGap is the median of the newest gaps of all who came at least twice, in days.
func (f *Fold) medianGap(samples []Sample) int {
	var gaps []uint16
	for i := range samples {
		if h := f.counts(&samples[i]); h.Count >= 2 {
			gaps = append(gaps, h.Gap)
		}
	}
	if len(gaps) == 0 {
		return 0
	}
	slices.Sort(gaps)
	return int(gaps[len(gaps)/2])
}

// learn teaches the model what became of the customers that it would have judged.
func (f *Fold) learn(m *Model) {
	examples := f.examples(m)
	var stopped, all, weightStopped, weight float64
	for i := range examples {
		e := &examples[i]
		stopped += e.stopped
		all++
		weightStopped += e.stopped * e.weight
		weight += e.weight
	}
	if min(stopped, all-stopped) < leastOutcomes {
		return
	}
	rarer := min(weightStopped, weight-weightStopped)
	m.gate = rarer / (rarer + gateEvidence)
	m.linear, m.trees = fitRidge(examples), fitTrees(examples)
	p, days := make([]float64, len(examples)), make([]int32, len(examples))
	for i := range examples {
		e := &examples[i]
		p[i], days[i] = probability(e.prior+m.gate*m.learnt(&e.linear, &e.split)), f.matured[i].day
	}
	m.season = fitSeason(examples, days, p)
}

// overlap is the part of a horizon that each refit stands for: those of one horizon tell of the same outcomes.
func (f *Fold) overlap() float64 { return min(1, float64(f.every()*EpochDays)/float64(f.cfg.Horizon)) }

// fade is the weight of a snapshot by the time since its outcome is known.
func (f *Fold) fade(s *snapshot) float64 {
	horizon := float64(f.cfg.Horizon)
	return math.Exp2(-(float64(f.epoch-1-s.day) - horizon) / (memoryOf * horizon))
}

// examples are the outcomes that are known, with the label-free models as they are by now.
func (f *Fold) examples(m *Model) []example {
	horizon, overlap := float64(f.cfg.Horizon), f.overlap()
	all := make([]example, len(f.matured))
	for i := range f.matured {
		s := &f.matured[i]
		v := m.view(&s.rhythm, s.day, horizon)
		d := v.derive(horizon)
		e := &all[i]
		*e = example{prior: v.prior, weight: overlap * f.fade(s), key: s.key(), linear: v.linear(&d), split: v.split(&d)}
		if s.rhythm.Count < 3 {
			e.weight *= weightOfTwo
		}
		if s.stopped(int32(f.cfg.Horizon)) {
			e.stopped = 1
		}
	}
	return all
}
