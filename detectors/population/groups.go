package population

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Outcome is whether one complaint met the target of its resolution, of those that were still open when the early moment of their target came.
type Outcome struct {
	Key    uint64 // of the complaint and the time at which it was opened: the same outcome told twice counts once
	Group  int64  // customer.Hash of the name of the group that had it at that moment, 0 for none
	Day    int32  // UTC day number on which it was known
	Missed bool
}

// How the rates are learnt: an outcome counts half after rateHalfLife days, and a group is shrunk towards all groups together as if it had had shrinkBy more
// complaints like theirs. Figures of a real service desk (11,771 tickets) are behind both; neither was searched for.
const (
	rateHalfLife = 14.0
	shrinkBy     = 5.0
	// leastOutcomesOfAll is how many outcomes, weighted, must be known before anything is said.
	leastOutcomesOfAll = 20.0
	// maxGroups bounds the groups that are remembered: those with the most complaints lately.
	maxGroups = 2000
	// faded is the weight below which a group is forgotten.
	faded = 1.0 / 64
)

// Groups learns how often groups miss their targets. Outcomes may be told in any order and by any number of partitions: what is learnt by an epoch is the same. It
// belongs to one goroutine.
type Groups struct {
	epoch   int32 // of the newest Close, neverClosed before
	waiting map[uint64]Outcome
	sums    map[int64]missSum
}

// missSum is a decayed count of outcomes as of the day before an epoch.
type missSum struct{ all, missed float64 }

// NewGroups returns one that knows nothing.
func NewGroups() *Groups {
	return &Groups{epoch: neverClosed, waiting: map[uint64]Outcome{}, sums: map[int64]missSum{}}
}

// Observe takes an outcome. One that was known before the newest closed epoch is left out.
func (g *Groups) Observe(o Outcome) {
	if o.Day < g.epoch {
		return
	}
	if before, ok := g.waiting[o.Key]; ok && before.compare(o) <= 0 {
		return
	}
	g.waiting[o.Key] = o
}

func (o Outcome) compare(p Outcome) int {
	missed := func(x Outcome) int {
		if x.Missed {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(o.Day, p.Day), cmp.Compare(o.Key, p.Key), cmp.Compare(o.Group, p.Group), cmp.Compare(missed(o), missed(p)))
}

// Close ends an epoch: all outcomes that were known before it are there. It returns the rates as of then, nil while too little is known.
func (g *Groups) Close(epoch int32) *MissRates {
	if epoch <= g.epoch {
		return g.rates()
	}
	if g.epoch != neverClosed {
		fade := decayed(epoch - g.epoch)
		for group, s := range g.sums {
			s = missSum{s.all * fade, s.missed * fade}
			if s.all < faded {
				delete(g.sums, group)
				continue
			}
			g.sums[group] = s
		}
	}
	g.epoch = epoch
	for _, o := range slices.SortedFunc(maps.Values(g.waiting), Outcome.compare) {
		if o.Day >= epoch {
			break
		}
		delete(g.waiting, o.Key)
		w := decayed(epoch - 1 - o.Day)
		s := g.sums[o.Group]
		s.all += w
		if o.Missed {
			s.missed += w
		}
		g.sums[o.Group] = s
	}
	g.narrow()
	return g.rates()
}

// decayed is what an outcome counts after so many days.
func decayed(days int32) float64 { return math.Exp2(-float64(days) / rateHalfLife) }

// narrow forgets the groups with the fewest complaints where there are too many.
func (g *Groups) narrow() {
	if len(g.sums) <= maxGroups {
		return
	}
	groups := slices.SortedFunc(maps.Keys(g.sums), func(a, b int64) int {
		return cmp.Or(cmp.Compare(g.sums[b].all, g.sums[a].all), cmp.Compare(a, b))
	})
	for _, group := range groups[maxGroups:] {
		delete(g.sums, group)
	}
}

// rates are those as of the newest closed epoch.
func (g *Groups) rates() *MissRates {
	all := missSum{}
	m := &MissRates{epoch: g.epoch}
	for _, group := range slices.Sorted(maps.Keys(g.sums)) {
		s := g.sums[group]
		all.all, all.missed = all.all+s.all, all.missed+s.missed
		m.groups = append(m.groups, groupRate{group: group})
	}
	if all.all < leastOutcomesOfAll {
		return nil
	}
	m.all = float32(all.missed / all.all)
	for i := range m.groups {
		x := &m.groups[i]
		s := g.sums[x.group]
		x.rate = float32((s.missed + shrinkBy*float64(m.all)) / (s.all + shrinkBy))
	}
	return m
}

// MissRates are the shares of complaints that miss their targets, as they were learnt by an epoch. It is immutable and safe for concurrent use.
type MissRates struct {
	epoch  int32
	all    float32
	groups []groupRate // by group
}

type groupRate struct {
	group int64
	rate  float32
}

// Epoch is the epoch at which the rates were learnt, its UTC day number.
func (m *MissRates) Epoch() int32 { return m.epoch }

// MissRate is the share of a group, that of all groups for one of which nothing is known. It is false for nil rates.
func (m *MissRates) MissRate(group int64) (float64, bool) {
	if m == nil {
		return 0, false
	}
	i, ok := slices.BinarySearchFunc(m.groups, group, func(x groupRate, group int64) int { return cmp.Compare(x.group, group) })
	if !ok {
		return float64(m.all), true
	}
	return float64(m.groups[i].rate), true
}

// Version names the rates in evidence.
func (m *MissRates) Version() string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf("outcomes-%d", m.epoch)
}

const (
	outcomeVersion = outcomeMark | 1
	outcomeMark    = 0x80 // no sample begins so: both may stand side by side
	ratesVersion   = 1
	groupsVersion  = 1
)

// AppendOutcome appends the stored form: version, key in eight bytes little-endian, day and group as varints, and whether it was missed.
func AppendOutcome(dst []byte, o Outcome) []byte {
	w := writer{append(dst, outcomeVersion)}
	w.outcome(o)
	return w.b
}

func (w *writer) outcome(o Outcome) {
	w.uint64(o.Key)
	w.varint(int64(o.Day))
	w.varint(o.Group)
	w.bool(o.Missed)
}

func (r *reader) outcome() Outcome {
	return Outcome{Key: r.uint64(), Day: r.day(), Group: r.varint(), Missed: r.bool()}
}

// varint reads a signed number of 64 bits.
func (r *reader) varint() int64 {
	v := r.uvarint(math.MaxUint64)
	return int64(v>>1) ^ -int64(v&1)
}

// IsOutcome reports whether AppendOutcome wrote something, rather than AppendSample.
func IsOutcome(b []byte) bool { return len(b) != 0 && b[0]&outcomeMark != 0 }

// DecodeOutcome reads what AppendOutcome wrote, all of b. The error is ErrDamaged or ErrNewerVersion.
func DecodeOutcome(b []byte) (Outcome, error) {
	r := reader{b: b}
	if !IsOutcome(b) {
		return Outcome{}, ErrDamaged
	}
	if err := r.version(outcomeVersion); err != nil {
		return Outcome{}, err
	}
	o := r.outcome()
	return o, r.end()
}

func (r *reader) version(newest byte) error {
	switch v := r.byte(); {
	case v > newest:
		return ErrNewerVersion
	case v == 0:
		return ErrDamaged
	}
	return nil
}

func (r *reader) end() error {
	if r.bad || len(r.b) != 0 {
		return ErrDamaged
	}
	return nil
}

// AppendMissRates appends the stored form of rates that are not nil.
func AppendMissRates(dst []byte, m *MissRates) []byte {
	w := writer{append(dst, ratesVersion)}
	w.varint(int64(m.epoch))
	w.float32(m.all)
	w.uvarint(uint64(len(m.groups)))
	for _, x := range m.groups {
		w.varint(x.group)
		w.float32(x.rate)
	}
	return w.b
}

// DecodeMissRates reads what AppendMissRates wrote, all of b. The error is ErrDamaged or ErrNewerVersion.
func DecodeMissRates(b []byte) (*MissRates, error) {
	r := reader{b: b}
	if err := r.version(ratesVersion); err != nil {
		return nil, err
	}
	m := &MissRates{epoch: r.epoch(), all: r.share()}
	m.groups = make([]groupRate, r.count(5))
	for i := range m.groups {
		m.groups[i] = groupRate{group: r.varint(), rate: r.share()}
		r.bad = r.bad || i > 0 && m.groups[i].group <= m.groups[i-1].group
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return m, nil
}

// share reads a number from 0 to 1.
func (r *reader) share() float32 {
	v := r.float32()
	r.bad = r.bad || !(v >= 0 && v <= 1)
	return v
}

// Append appends the state, so that Close gives the same afterwards; the same state always gives the same bytes.
func (g *Groups) Append(dst []byte) []byte {
	w := writer{append(dst, groupsVersion)}
	w.varint(int64(g.epoch))
	w.uvarint(uint64(len(g.sums)))
	for _, group := range slices.Sorted(maps.Keys(g.sums)) {
		w.varint(group)
		w.floats(g.sums[group].all, g.sums[group].missed)
	}
	w.uvarint(uint64(len(g.waiting)))
	for _, o := range slices.SortedFunc(maps.Values(g.waiting), Outcome.compare) {
		w.outcome(o)
	}
	return w.b
}

// DecodeGroups reads what Append wrote, all of b. The error is ErrDamaged or ErrNewerVersion.
func DecodeGroups(b []byte) (*Groups, error) {
	r := reader{b: b}
	if err := r.version(groupsVersion); err != nil {
		return nil, err
	}
	g := NewGroups()
	if g.epoch = r.day(); g.epoch != neverClosed && g.epoch%EpochDays != 0 {
		return nil, ErrDamaged
	}
	for range r.count(17) {
		group := r.varint()
		s := missSum{r.float(), r.float()}
		r.bad = r.bad || s.missed < 0 || s.all < s.missed
		g.sums[group] = s
	}
	for range r.count(11) {
		o := r.outcome()
		g.waiting[o.Key] = o
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return g, nil
}
