package cohorts

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math"
	"slices"
)

// This file judges customers who are too new to be judged one by one: all of a week and a source together, by how many of them are still active IntakeDays after they came.
//
// Of an intake of n customers k are still active; of those of the source's earlier intakes K of N were. k is then beta-binomially distributed with the shapes a = K + 1/2 and b = N - K + 1/2,
// made smaller together to at most MostIntakes, because no share is taken to be known better than that. The intake is alerted if k or fewer are too unlikely: below FalseAlarms / 52 /
// sources, so that in a year there are at most FalseAlarms false ones in all.
//
// Where a history begins, those who seem to be new were there before: who came in its first oldWeeks weeks is left out.

// The numbers of the test.
const (
	// IntakeDays is how many days after his first event a customer is looked at.
	IntakeDays = 56
	// IntakeRecent is how many days before that he must have been there at least once.
	IntakeRecent = 28
	// MostIntakes bounds what earlier intakes count, in customers.
	MostIntakes = 200
	// leastIntake is how large an intake must be, and leastEarlier how many customers and weeks there must be to compare with.
	leastIntake, leastEarlier, leastWeeks = 10, 50, 6
	// keptIntakes is how many weeks of a source are kept.
	keptIntakes = 26
	oldWeeks    = 13
	// MaxSources bounds how many sources are watched.
	MaxSources = 256
)

// Newcomer is what became of a customer IntakeDays after he came.
type Newcomer struct {
	Week   int32 // in which he came; see IntakeWeek
	Source string
	Active bool
}

// IntakeWeek is the week (UTC, from Monday) of a day.
func IntakeWeek(day int32) int32 { return weekOf(day) }

// intake is what is known of the customers of a source who came in a week.
type intake struct {
	week      int32
	n, active int64
}

// Intake is what is to be said of one.
type Intake struct {
	Source   string
	Day      int32 // when it was judged
	From, To int32 // days in which its customers came
	Firing   bool
	Clear    bool
	Size     int64 // customers
	Active   int64 // of them
	// Share is the share that is still active of earlier intakes, of Earlier customers in Weeks weeks.
	Share   float64
	Earlier int64
	Weeks   int
	Chance  float64 // that so few, or fewer, are active although nothing is wrong
	Limit   float64
}

// CloseIntakes takes in who was looked at in the newest day that is over, and judges the intakes of which everybody has been by then.
func (f *Fold) CloseIntakes(came []Newcomer) (out []Intake) {
	for _, c := range came {
		if f.oldest == 0 || c.Week < f.oldest {
			f.oldest = c.Week
		}
		if c.Week < f.oldest+oldWeeks {
			continue
		}
		all, known := f.intakes[c.Source]
		if !known && len(f.intakes) >= MaxSources {
			continue
		}
		i, known := slices.BinarySearchFunc(all, c.Week, func(x intake, week int32) int { return cmp.Compare(x.week, week) })
		if !known {
			all = slices.Insert(all, i, intake{week: c.Week})
		}
		all[i].n++
		if c.Active {
			all[i].active++
		}
		if len(all) > keptIntakes {
			all = slices.Delete(all, 0, len(all)-keptIntakes)
		}
		f.intakes[c.Source] = all
	}
	over := f.day - IntakeDays // who came up to this day has been looked at
	if weekOf(over) == weekOf(over+1) {
		return nil
	}
	for _, source := range slices.Sorted(maps.Keys(f.intakes)) {
		all := f.intakes[source]
		i, known := slices.BinarySearchFunc(all, weekOf(over), func(x intake, week int32) int { return cmp.Compare(x.week, week) })
		if !known {
			continue
		}
		out = append(out, f.intake(source, all[:i], all[i]))
	}
	return out
}

func (f *Fold) intake(source string, earlier []intake, x intake) Intake {
	r := Intake{
		Source: source, Day: f.day, From: x.week*weekDays - firstMonday, Size: x.n, Active: x.active, Weeks: len(earlier), Limit: f.cfg.FalseAlarms / 52 / float64(len(f.intakes)),
	}
	r.To = r.From + weekDays - 1
	k, n := 0.5, 1.0
	for _, e := range earlier {
		k, n = k+float64(e.active), n+float64(e.n)
		r.Earlier += e.n
	}
	r.Share = k / n
	known := min(n, MostIntakes)
	r.Chance = fewer(x.active, x.n, r.Share*known, (1-r.Share)*known)
	enough := r.Earlier >= leastEarlier && r.Weeks >= leastWeeks && r.Size >= leastIntake
	r.Firing = enough && r.Chance < r.Limit
	r.Clear = enough && r.Chance >= recovered
	return r
}

// fewer is the probability of k or fewer of n by a beta-binomial distribution.
func fewer(k, n int64, a, b float64) float64 {
	beta := func(a, b float64) float64 {
		x, _ := math.Lgamma(a)
		y, _ := math.Lgamma(b)
		z, _ := math.Lgamma(a + b)
		return x + y - z
	}
	term := math.Exp(beta(a, b+float64(n)) - beta(a, b))
	sum := 0.0
	for i := range k + 1 {
		sum += term
		x := float64(i)
		term *= (float64(n) - x) / (x + 1) * (a + x) / (b + float64(n) - x - 1)
	}
	return min(sum, 1)
}

func (f *Fold) appendIntakes(b []byte) []byte {
	b = binary.AppendUvarint(binary.AppendVarint(b, int64(f.oldest)), uint64(len(f.intakes)))
	for _, source := range slices.Sorted(maps.Keys(f.intakes)) {
		b = binary.AppendUvarint(appendText(b, source), uint64(len(f.intakes[source])))
		for _, x := range f.intakes[source] {
			b = binary.AppendVarint(binary.AppendVarint(binary.AppendVarint(b, int64(x.week)), x.n), x.active)
		}
	}
	return b
}

func (d *decoder) intakes() map[string][]intake {
	out := map[string][]intake{}
	for range d.count(2) {
		source := d.text()
		var all []intake
		for range d.count(3) {
			x := intake{d.day(), d.varint(), d.varint()}
			d.bad = d.bad || len(all) != 0 && all[len(all)-1].week >= x.week || x.active > x.n
			all = append(all, x)
		}
		out[source] = all
	}
	return out
}
