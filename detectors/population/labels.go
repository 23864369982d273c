package population

import (
	"cmp"
	"maps"
	"slices"

	"ebb/state/customer"
)

// Labels are what customers are told apart by beside their rhythms.
type Labels struct {
	Tier, Segment string // at most 64 bytes each, "" for none
}

// LabelsOf are those of a customer's profile.
func LabelsOf(r *customer.Record) Labels {
	p := r.Profile()
	if p == nil {
		return Labels{}
	}
	return Labels{label(p.Tier), label(p.Segment)}
}

const (
	// mostLabels bounds the tiers, and the segments, that are corrected: those of whom most is known.
	mostLabels = 32
	// leastOfLabel is how many outcomes of either kind must be known of a label.
	leastOfLabel = 20
	// labelPenalty is the evidence, as that of outcomes of even odds at a quarter each, at which a correction is halved.
	labelPenalty  = 10.0
	labelSteps    = 8   // of Newton's method
	mostLabelStep = 4.0 // by how much one of them moves the log-odds at most
)

// shifts is what is added to the log-odds for a label, by its name.
type shifts map[string]float64

// of is the shift of a customer.
func (m *Model) shift(of Labels) float64 { return m.tiers[of.Tier] + m.segments[of.Segment] }

// outcome is an outcome that is known, with the log-odds that the model in force told of it beforehand.
type outcome struct{ told, stopped, weight float64 }

// shifted is by how much the log-odds of all are wrong: the maximum of the likelihood, less a penalty. Of outcomes that were told almost for certain the curvature says next to
// nothing, and a whole step would end far beyond the best.
func shifted(all []outcome, from, penalty float64) float64 {
	s := 0.0
	for range labelSteps {
		gradient, curve := -penalty*s, penalty
		for i := range all {
			p := probability(all[i].told + from + s)
			gradient += all[i].weight * (all[i].stopped - p)
			curve += all[i].weight * p * (1 - p)
		}
		s += min(max(gradient/curve, -mostLabelStep), mostLabelStep)
	}
	return s
}

// labels learns by how much the outcomes of each tier, and then of each segment, differ from those of all. What was told before the outcome was known is held against it: what
// a model says of outcomes that it was taught is right in the mean of every group that it can tell apart, and says nothing.
//
// That all outcomes together were other than told is not corrected: the base rate moves with the seasons, and is the business of the models.
func (f *Fold) labels(m *Model) {
	var all []outcome
	var of []Labels
	overlap := f.overlap()
	for i := range f.matured {
		s := &f.matured[i]
		if !s.judged {
			continue
		}
		o := outcome{told: float64(s.told), weight: overlap * f.fade(s)}
		if s.stopped(int32(f.cfg.Horizon)) {
			o.stopped = 1
		}
		all, of = append(all, o), append(of, Labels{s.tier, s.segment})
	}
	if len(all) == 0 {
		return
	}
	whole := shifted(all, 0, labelPenalty)
	for i := range all {
		all[i].told += whole
	}
	m.tiers = shiftsOf(all, func(i int) string { return of[i].Tier })
	for i := range all {
		all[i].told += m.tiers[of[i].Tier]
	}
	m.segments = shiftsOf(all, func(i int) string { return of[i].Segment })
}

// shiftsOf are the shifts of the labels of which enough is known, nil where there are no two of them: one alone is the whole.
func shiftsOf(all []outcome, name func(int) string) shifts {
	by := map[string][]outcome{}
	for i := range all {
		by[name(i)] = append(by[name(i)], all[i])
	}
	if len(by) < 2 {
		return nil
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(by)), func(name string) bool { return name == "" || rarer(by[name]) < leastOfLabel })
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(rarer(by[b]), rarer(by[a])) })
	var out shifts
	for _, name := range names[:min(len(names), mostLabels)] {
		if out == nil {
			out = shifts{}
		}
		out[name] = shifted(by[name], 0, labelPenalty)
	}
	return out
}

// rarer is how many outcomes there are of the rarer kind.
func rarer(all []outcome) int {
	stopped := 0
	for i := range all {
		if all[i].stopped == 1 {
			stopped++
		}
	}
	return min(stopped, len(all)-stopped)
}

func (s shifts) append(w *writer) {
	w.uvarint(uint64(len(s)))
	for _, name := range slices.Sorted(maps.Keys(s)) {
		w.text(name)
		w.floats(s[name])
	}
}

func readShifts(r *reader) shifts {
	var s shifts
	last := ""
	for range r.count(9) {
		name := r.text()
		r.bad = r.bad || name <= last
		if s == nil {
			s = shifts{}
		}
		s[name], last = r.float(), name
	}
	return s
}
