package population

import (
	"bytes"
	"math"
	"testing"

	"ebb/state/customer"
)

// known is a fold of which every outcome was told as an even chance, customers bought every ten days, and have been silent for some days: stopped of 100 stopped by tier and
// segment, of 1000 each.
func known(silent int, told float32, stopped map[Labels]int) *Fold {
	f := NewFold(Config{Horizon: 60})
	f.epoch = 700 * EpochDays
	day := f.epoch - 61
	at := uint64(0)
	for of, share := range stopped {
		for i := range 1000 {
			h := customer.Rhythm{First: uint16(day - int32(silent) - 90), Last: uint16(day - int32(silent)), Count: 10}
			s := snapshot{customer: at, day: day, rhythm: h, told: told, judged: true, tier: of.Tier, segment: of.Segment}
			if i >= 10*share {
				s.next = day + 5
			}
			f.matured = append(f.matured, s)
			at++
		}
	}
	return f
}

func TestLabelsAreCorrected(t *testing.T) {
	m := &Model{}
	f := known(0, 0, map[Labels]int{
		{"gold", "shops"}: 30, {"gold", "banks"}: 50, {"iron", "shops"}: 60, {"iron", "banks"}: 80, {"", ""}: 50,
	})
	few := known(0, 0, map[Labels]int{{"new", "shops"}: 95}).matured
	f.matured = append(f.matured, few[len(few)-68:]...)
	f.labels(m)
	p := func(tier, segment string) float64 { return probability(m.shift(Labels{tier, segment})) }
	if gold, iron := p("gold", ""), p("iron", ""); gold > 0.4 || iron < 0.6 {
		t.Errorf("gold %.2f, iron %.2f", gold, iron)
	}
	if shops, banks := p("", "shops"), p("", "banks"); shops >= banks {
		t.Errorf("shops %.2f, banks %.2f", shops, banks)
	}
	if _, ok := m.tiers["new"]; ok {
		t.Error("a tier of whom 18 stopped is corrected")
	}
	if p("", "") != 0.5 || p("unheard of", "") != 0.5 {
		t.Error("who has no label, or one of which nothing is known, is corrected")
	}
	alone := &Model{}
	known(0, 0, map[Labels]int{{"gold", ""}: 30}).labels(alone)
	if alone.tiers != nil || alone.segments != nil {
		t.Errorf("one label for all is corrected: %v", alone)
	}
	r := reader{b: AppendModel(nil, withLabels(t, m))}
	got, err := DecodeModel(r.b)
	if err != nil || got.shift(Labels{"gold", "shops"}) != m.shift(Labels{"gold", "shops"}) {
		t.Errorf("read again: %v", err)
	}
}

// withLabels is a model that can be stored, with the corrections of another.
func withLabels(t *testing.T, of *Model) *Model {
	t.Helper()
	samples := crowd(5, 60, 6, 60)
	m := *learnt(60, samples)
	m.tiers, m.segments = of.tiers, of.segments
	m.late, m.lateGate = of.late, of.lateGate
	return &m
}

func TestOverdueIsCorrected(t *testing.T) {
	const told = 1.4 // 80 %
	m := &Model{horizon: 60}
	f := known(30, told, map[Labels]int{{}: 50})
	f.matured = append(f.matured, known(12, told, map[Labels]int{{}: 80}).matured...)
	f.learnOverdue(m)
	h := &customer.Rhythm{First: 1000, Last: 1090, Count: 10}
	late, soon := probability(m.corrected(told, h, 30)), probability(m.corrected(told, h, 12))
	if math.Abs(late-.5) > .15 || math.Abs(soon-.8) > .15 || late >= soon {
		t.Errorf("%.2f after three gaps, %.2f after one; of these 50 and 80 %% stopped", late, soon)
	}
	if v := m.corrected(told, &customer.Rhythm{First: 1000, Last: 1090, Count: 10}, 30); v != m.corrected(told, h, 30) {
		t.Error("not the same again")
	}
	none := &Model{horizon: 60}
	known(5, told, map[Labels]int{{}: 50}).learnOverdue(none)
	if none.late != nil {
		t.Error("who is not overdue teaches of those who are")
	}
	got, err := DecodeModel(AppendModel(nil, withLabels(t, m)))
	if err != nil || got.corrected(told, h, 30) != m.corrected(told, h, 30) {
		t.Errorf("read again: %v", err)
	}
}

// Models and folds of version 1 are still read.
func TestOlderForms(t *testing.T) {
	b := AppendModel(nil, withLabels(t, &Model{}))
	old := bytes.Clone(b[:len(b)-3]) // no correction for the overdue, by tier, by segment
	old[0] = 1
	m, err := DecodeModel(old)
	if err != nil || !bytes.Equal(AppendModel(nil, m), b) {
		t.Errorf("a model of version 1: %v", err)
	}
	w := writer{}
	w.uvarint(1)
	w.uint64(7)
	w.varint(4900)
	w.varint(4910)
	w.text("gold")
	w.text("shops")
	h := customer.Rhythm{First: 4000, Last: 4890, Count: 10}
	w.b = customer.AppendRhythms(w.b, &customer.Rhythms{Purchases: h, Activity: h})
	r := reader{b: w.b}
	all := r.snapshots(1)
	if r.end() != nil || len(all) != 1 || all[0].judged || all[0].tier != "gold" || all[0].next != 4910 || all[0].rhythm.Count != 10 {
		t.Errorf("snapshots of version 1: %+v", all)
	}
}

// Half of those stop who were told to stay, almost for certain: so much is to be added that half are told to stop.
func TestLabelsOfAShock(t *testing.T) {
	for _, told := range []float64{-2, -5, -7, -13, 7} {
		all := make([]outcome, 1000)
		for i := range all {
			all[i] = outcome{told: told, stopped: float64(i % 2), weight: 0.5}
		}
		if p := probability(told + shifted(all, 0, .1)); math.Abs(p-.5) > .1 {
			t.Errorf("log-odds of %v were told, and half stopped: %.3f are told after the correction", told, p)
		}
	}
}
