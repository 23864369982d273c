package stream

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/state"
	"ebb/state/customer"
	"ebb/stream/event"
)

// noStage is that of an empty record.
const noStage = -1

// Customers are counted by the stages that alerts name, and by these, of whom nothing is told.
const (
	countedBlind = detectors.NumStages + iota
	countedQuarantined
	numStages
)

// countedName is the name under which customers are counted.
func countedName(i int) string {
	switch i {
	case countedBlind:
		return "blind"
	case countedQuarantined:
		return "quarantined"
	}
	return detectors.Stage(i).String()
}

// StageNames lists the names under which customers are counted.
func StageNames() []string {
	return append(detectors.StageNames(), countedName(countedBlind), countedName(countedQuarantined))
}

// countedAs is the stage that a customer is counted by: quarantined when his records fail inside ebb, blind while records of his cannot be read, else where he stood at his
// newest event or at the newest step of an alert of his. It is noStage for an empty record. env tells the rates and the calendar.
func countedAs(r *customer.Record, env *detectors.Env) int {
	switch {
	case r.Quarantined:
		return countedQuarantined
	case r.First == 0:
		return noStage
	case r.IsBlind():
		return countedBlind
	}
	return int(detectors.NewestStageOf(r, env))
}

// StageOf is the name of the stage that a customer is counted by, "" for one of whom no event is known.
func StageOf(r *customer.Record, env *detectors.Env) string {
	if i := countedAs(r, env); i != noStage {
		return countedName(i)
	}
	return ""
}

// stageBasis is a digest of what a stage depends on beside the record: the rates and the zone of those who have none. It is never 0.
func stageBasis(cfg *Config) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s", cfg.Time.Zone, cfg.Rates)
	return max(h.Sum64(), 1)
}

// tally sums a pure function of every customer record of a task: who stands where, and what is open. It is kept by taking a
// record out before it changes and putting it back after, and is part of the task record: so it is exact after any crash and
// never needs a scan, but for the stages when the rates or the zone have changed.
type tally struct {
	stages [numStages]int64 // by their number
	basis  uint64           // what they were counted by; 0: they are not counted
	env    *detectors.Env   // by which they are
	tiers  []string         // at most maxTiers; further ones count as other
	open   map[tallyKey]tallySum
	census *census // of the same records, nil where none is kept
}

type tallyKey struct {
	detector string
	severity uint8
	tier     int // index into tiers, otherTier for those beyond
}

type tallySum struct {
	count  int64
	atRisk event.Money
}

const (
	maxTiers  = 32 // bounds the metric labels
	otherTier = -1
)

// out takes a record out of the sums, and in puts it in.
func (t *tally) out(r *customer.Record) {
	t.add(r, -1)
	if t.census != nil {
		t.census.out(r)
	}
}

func (t *tally) in(r *customer.Record) {
	t.add(r, 1)
	if t.census != nil {
		t.census.in(r)
	}
}

func (t *tally) add(r *customer.Record, sign int64) {
	t.addStage(r, sign)
	greatest := greatestRisk(r)
	for i := range r.Lifecycles {
		l := &r.Lifecycles[i]
		if l.Unpublished {
			continue
		}
		if t.open == nil {
			t.open = map[tallyKey]tallySum{}
		}
		k := tallyKey{detector: l.Detector, severity: l.Severity, tier: t.tier(r)}
		s := t.open[k]
		s.count += sign
		if i == greatest {
			s.atRisk += event.Money(sign) * l.AtRisk
		}
		if s.count == 0 {
			delete(t.open, k)
			continue
		}
		t.open[k] = s
	}
}

func (t *tally) addStage(r *customer.Record, sign int64) {
	if i := countedAs(r, t.env); i != noStage {
		t.stages[i] += sign
	}
}

// byStage is how many customers there are of each stage, nil where they are not counted.
func (t *tally) byStage() map[string]int64 {
	if t.basis == 0 {
		return nil
	}
	all := make(map[string]int64, numStages)
	for i, n := range t.stages {
		all[countedName(i)] = n
	}
	return all
}

// greatestRisk is the published alert with the most money at risk: what a customer spends can be lost only once. -1 for none.
func greatestRisk(r *customer.Record) int {
	greatest := -1
	for i := range r.Lifecycles {
		if l := &r.Lifecycles[i]; !l.Unpublished && (greatest < 0 || l.AtRisk > r.Lifecycles[greatest].AtRisk) {
			greatest = i
		}
	}
	return greatest
}

func (t *tally) tier(r *customer.Record) int {
	name := ""
	if p := r.Profile(); p != nil {
		name = p.Tier
	}
	if i := slices.Index(t.tiers, name); i >= 0 {
		return i
	}
	if len(t.tiers) == maxTiers {
		return otherTier
	}
	t.tiers = append(t.tiers, name)
	return len(t.tiers) - 1
}

// knownTier is the name under which a tier is counted.
func (t *tally) knownTier(name string) string {
	if slices.Contains(t.tiers, name) {
		return name
	}
	return t.tierName(otherTier)
}

func (t *tally) tierName(i int) string {
	if i == otherTier {
		return "other"
	}
	return t.tiers[i]
}

// beginTally counts the customers of a task that opens by their stages, unless they were counted by the same rates and zone.
func (t *task) beginTally(fresh bool) error {
	y := &t.rec.tally
	y.env = &t.env
	basis := stageBasis(t.cfg)
	was := y.basis
	y.basis = basis
	if fresh || was == basis {
		return nil
	}
	t.log.Info("customers are counted by stage anew")
	clear(y.stages[:])
	return t.table.Scan(func(e *state.Entry) error {
		y.addStage(&e.Record, 1)
		return nil
	})
}

// OpenSum is what is open of one detector, severity and tier.
type OpenSum struct {
	Detector string
	Severity alerts.Severity
	Tier     string
	Count    int64
	AtRisk   event.Money // reporting currency
}

// sums lists what is open.
func (t *tally) sums() []OpenSum {
	all := make([]OpenSum, 0, len(t.open))
	for k, s := range t.open {
		all = append(all, OpenSum{k.detector, alerts.Severity(k.severity), t.tierName(k.tier), s.count, s.atRisk})
	}
	return all
}

func (t *tally) append(b []byte) []byte {
	b = binary.AppendUvarint(b, t.basis)
	for _, n := range t.stages {
		b = binary.AppendVarint(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(t.tiers)))
	for _, name := range t.tiers {
		b = appendString(b, name)
	}
	b = binary.AppendUvarint(b, uint64(len(t.open)))
	for k, s := range t.open {
		b = appendString(b, k.detector)
		b = append(b, k.severity)
		b = binary.AppendVarint(b, int64(k.tier))
		b = binary.AppendVarint(b, s.count)
		b = binary.AppendVarint(b, int64(s.atRisk))
	}
	return b
}

// earlierStages is how many stages records before version 8 hold. They are counted anew.
const earlierStages = 5

func (t *tally) decode(d *decoder, version byte) {
	if version < 8 {
		for range earlierStages {
			d.varint()
		}
	} else {
		t.basis = d.uvarint()
		for i := range t.stages {
			t.stages[i] = d.varint()
		}
	}
	n := d.uvarint()
	if n > maxTiers {
		d.fail("too many tiers")
		return
	}
	for range n {
		t.tiers = append(t.tiers, d.str())
	}
	n = d.uvarint()
	if n > maxTallies {
		d.fail("too many sums")
		return
	}
	t.open = make(map[tallyKey]tallySum, n)
	for range n {
		k := tallyKey{detector: d.str(), severity: uint8(d.uvarint()), tier: int(d.varint())}
		if k.tier < otherTier || k.tier >= len(t.tiers) {
			d.fail("tier out of range")
			return
		}
		t.open[k] = tallySum{count: d.varint(), atRisk: event.Money(d.varint())}
	}
}

// maxTallies bounds what is decoded: detectors times severities times tiers, with room.
const maxTallies = 1 << 14
