package population

import (
	"fmt"
	"hash/fnv"

	"ebb/state/customer"
)

// Model is what was learnt of a population up to an epoch. It is immutable, and safe for concurrent use.
type Model struct {
	epoch     int32
	horizon   int  // days
	purchases bool // the rhythm of purchases counts, not that of any activity
	customers int  // in the sample
	medianGap int  // days, of the sampled customers' newest gaps
	below     uint64
	bar       float64

	bg          BGNBD
	one, shaped *Renewal

	gate   float64 // weight of the corrections, 0 to 1
	linear *ridge
	trees  *trees
	season *season

	late     *ridge // for who is overdue
	lateGate float64
	tiers    shifts
	segments shifts

	drop dropModel

	misses *MissRates // nil while too little is known

	version string
}

// Score is what a model says of a customer on a day.
type Score struct {
	// PStop is the probability that he does nothing within the horizon.
	PStop float64
	// Prior is PStop before any outcome is taken into account.
	Prior float64
	// Days is on how many days he is to be expected within the horizon.
	Days float64
}

// Epoch is the epoch that the model was made at, its UTC day number.
func (m *Model) Epoch() int32 { return m.epoch }

// Version names the model: its epoch and a digest of its content.
func (m *Model) Version() string { return m.version }

// Horizon is the time in days that the model was taught to look ahead.
func (m *Model) Horizon() int { return m.horizon }

// MedianGap is the median of the newest gaps of the sampled customers, in days, 0 where nobody has come twice.
func (m *Model) MedianGap() int { return m.medianGap }

// gapsAhead is how many of the population's median gaps a horizon should hold: within less, too many are silent because it is not yet their time.
const gapsAhead = 3

// longestHorizon is the longest that can be configured, in days.
const longestHorizon = 366

// FittingHorizon is the shortest horizon that suits how often the population comes, in days: three times its median gap, as far as one can be configured. It is 0 where nobody has
// come twice. With a shorter one, whoever comes as rarely as that is never judged: see Verdict.Overdue.
func (m *Model) FittingHorizon() int { return min(gapsAhead*m.medianGap, longestHorizon) }

// Customers is how many customers the model was made of.
func (m *Model) Customers() int { return m.customers }

// Evidence is how far outcomes count beside what is known without them: 0 for not at all, up to 1.
func (m *Model) Evidence() float64 { return m.gate }

// Purchases reports whether it is purchases that count, rather than any activity.
func (m *Model) Purchases() bool { return m.purchases }

// Sampled reports whether a customer of this hash belongs to the sample of the next epochs. Without a model everybody does.
func (m *Model) Sampled(hash uint64) bool { return m == nil || hash <= m.below }

// Rhythm is the one of a customer's rhythms that counts, nil if he has none.
func (m *Model) Rhythm(r *customer.Record) *customer.Rhythm {
	h := r.Rhythms()
	if h == nil {
		return nil
	}
	if c := m.counts(h); c.Count != 0 {
		return c
	}
	return nil
}

func (m *Model) counts(h *customer.Rhythms) *customer.Rhythm {
	if m.purchases {
		return &h.Purchases
	}
	return &h.Activity
}

// Score is what is to be expected of a customer in the horizon days after a local day, when he did nothing more up to the end of that day. It is false for
// a customer who never did anything. A horizon of 0 is the model's own.
func (m *Model) Score(r *customer.Record, day int32, horizon int) (Score, bool) {
	h := m.Rhythm(r)
	if h == nil {
		return Score{}, false
	}
	if horizon == 0 {
		horizon = m.horizon
	}
	return m.score(h, LabelsOf(r), day, float64(horizon)), true
}

func (m *Model) score(h *customer.Rhythm, of Labels, day int32, horizon float64) Score {
	v := m.view(h, day, horizon)
	return Score{PStop: probability(m.logOdds(&v, weekOf(day)) + m.shift(of)), Prior: probability(v.prior), Days: v.days}
}

// logOdds are those of a view in a week of the year, of a customer of whom no more is known.
func (m *Model) logOdds(v *view, week int) float64 {
	p := v.prior
	if m.linear != nil && m.gate > 0 && v.t > 0 {
		d := v.derive(float64(m.horizon))
		l, s := v.linear(&d), v.split(&d)
		p += m.gate * (m.learnt(&l, &s) + m.season[week])
	}
	return p
}

// linearShare is the weight of the regression beside the trees.
const linearShare = 0.5

// learnt is what the two learners together would add to the log-odds.
func (m *Model) learnt(l *[numLinear]float64, s *[numSplit]float32) float64 {
	return linearShare*m.linear.correct(l) + (1-linearShare)*m.trees.correct(s)
}

// name sets the version.
func (m *Model) name() {
	sum := fnv.New32a()
	_, _ = sum.Write(AppendModel(nil, m))
	m.version = fmt.Sprintf("%d-%08x", m.epoch, sum.Sum32())
}

// modelVersion is that of the stored form. Version 1 had no corrections for who is overdue, and none by tier and segment.
const modelVersion = 2

// AppendModel appends the stored form; the same model always gives the same bytes. It takes less than 20 KB,
// at most 80 bytes more for each tier and segment that is corrected, and 13 bytes more for each group of people whose complaints are known.
func AppendModel(dst []byte, m *Model) []byte {
	w := writer{append(dst, modelVersion)}
	w.varint(int64(m.epoch))
	w.uvarint(uint64(m.horizon))
	w.bool(m.purchases)
	w.uvarint(uint64(m.customers))
	w.uvarint(uint64(m.medianGap))
	w.uint64(m.below)
	w.floats(m.bar, m.bg.R, m.bg.Alpha, m.bg.A, m.bg.B)
	w.floats(m.one.weights...)
	w.floats(m.shaped.weights...)
	w.floats(m.gate)
	w.bool(m.linear != nil)
	if m.linear != nil {
		m.linear.append(&w)
		m.trees.append(&w)
		w.floats(m.season[:]...)
	}
	m.drop.append(&w)
	w.bool(m.misses != nil)
	if m.misses != nil {
		w.text(string(AppendMissRates(nil, m.misses)))
	}
	w.bool(m.late != nil)
	if m.late != nil {
		m.late.append(&w)
		w.floats(m.lateGate)
	}
	m.tiers.append(&w)
	m.segments.append(&w)
	return w.b
}

// DecodeModel reads what AppendModel wrote, all of b. The error is ErrDamaged or ErrNewerVersion.
func DecodeModel(b []byte) (*Model, error) {
	r := reader{b: b}
	version := r.byte()
	if version > modelVersion {
		return nil, ErrNewerVersion
	} else if version == 0 {
		return nil, ErrDamaged
	}
	m := &Model{
		epoch: r.epoch(), horizon: int(r.uvarint(customer.MaxHorizon)), purchases: r.bool(), customers: int(r.uvarint(1 << 40)),
		medianGap: int(r.uvarint(1 << 20)), below: r.uint64(),
	}
	if m.horizon == 0 {
		return nil, ErrDamaged
	}
	m.bar = r.float()
	m.bg = BGNBD{r.float(), r.float(), r.float(), r.float()}
	m.one, m.shaped = newRenewal(float64(m.horizon), memoryless()), newRenewal(float64(m.horizon), regular())
	r.floats(m.one.weights)
	r.floats(m.shaped.weights)
	m.one.prepare()
	m.shaped.prepare()
	m.gate = r.float()
	if r.bool() {
		m.linear, m.trees, m.season = readRidge(&r), readTrees(&r), new(season)
		r.floats(m.season[:])
	}
	m.drop = readDropModel(&r)
	if r.bool() {
		rates, err := DecodeMissRates(r.bytes())
		if err != nil {
			return nil, err
		}
		m.misses = rates
	}
	if version > 1 {
		if r.bool() {
			m.late, m.lateGate = readRidge(&r), r.float()
		}
		m.tiers, m.segments = readShifts(&r), readShifts(&r)
	}
	if r.bad || len(r.b) != 0 || min(m.bg.R, m.bg.Alpha, m.bg.A, m.bg.B) <= 0 {
		return nil, ErrDamaged
	}
	m.name()
	return m, nil
}

// Misses is how often groups miss their targets, nil while too little is known of that, or without a model.
func (m *Model) Misses() *MissRates {
	if m == nil {
		return nil
	}
	return m.misses
}

// withMisses is the model with other rates.
func (m *Model) withMisses(rates *MissRates) *Model {
	if rates == nil && m.misses == nil {
		return m
	}
	other := *m
	other.misses = rates
	other.name()
	return &other
}
