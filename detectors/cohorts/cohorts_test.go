package cohorts

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"ebb/stream/event"
)

var usual = Config{FalseAlarms: 0.5, LeastMembers: 5, By: []Dimension{Segment, Region, Product, Owner}}

// base is a company of customers in cohorts, of whom some begin to leave every day.
type base struct {
	rng   *rand.Rand
	f     *Fold
	of    [][]Key
	rate  float64 // of each customer and day
	open  map[Key]bool
	fired []Finding
}

func newBase(seed uint64, customers int, rate float64) *base {
	b := &base{rng: rand.New(rand.NewPCG(seed, 1)), f: NewFold(usual), rate: rate, open: map[Key]bool{}}
	sizes := map[Key]int64{}
	for range customers {
		of := []Key{
			{Segment, fmt.Sprint(b.rng.IntN(4))},
			{Region, fmt.Sprint(int(12 * math.Pow(b.rng.Float64(), 2)))},
			{Owner, fmt.Sprint(b.rng.IntN(customers / 50))},
		}
		b.of = append(b.of, of)
		for _, k := range append(of[:3:3], Key{}) {
			sizes[k]++
		}
	}
	for k, n := range sizes {
		b.f.Size(0, k, n)
	}
	return b
}

// day lets a day pass. extra are customers who leave besides.
func (b *base) day(day int32, factor float64, extra ...int) {
	var out []Leaver
	for i := range b.of {
		if b.rng.Float64() < b.rate*factor || slices.Contains(extra, i) {
			out = append(out, Leaver{Day: day, Customer: fmt.Sprintf("c-%05d", i), Detector: "silence", AtRisk: 100, Of: b.of[i]})
		}
	}
	for _, x := range b.f.Close(day, out, b.open) {
		switch {
		case x.Firing && !b.open[x.Key]:
			b.open[x.Key] = true
			b.fired = append(b.fired, x)
		case x.Clear:
			delete(b.open, x.Key)
		}
	}
}

// Where customers leave as they always did, with seasons that come and go for all of them, there are no more alerts than are stated.
func TestNullCohorts(t *testing.T) {
	const years = 6
	alerts := 0
	for seed := range uint64(3) {
		b := newBase(seed, 1500, 0.02/28*float64(1+seed*2))
		for day := range int32(years * 365) {
			b.day(1000+day, 1+0.3*math.Sin(2*math.Pi*float64(day)/365))
		}
		alerts += len(b.fired)
		for _, x := range b.fired {
			t.Logf("seed %d: %v on day %d: %d leavers, %.1f expected, chance %.2g", seed, x.Key, x.Day, x.Leavers, x.Expected, x.Chance)
		}
	}
	if most := int(3 * years * usual.FalseAlarms); alerts > most {
		t.Errorf("%d alerts in %d years, stated are at most %d", alerts, 3*years, most)
	}
}

// An account owner who leaves takes a third of his customers along within three weeks: that is one alert, of his cohort alone, and it ends by itself.
func TestOwnerTakesCustomersAlong(t *testing.T) {
	for seed := range uint64(4) {
		b := newBase(10+seed, 1500, 0.02/28)
		var his []int
		for i, of := range b.of {
			if of[2] == (Key{Owner, "7"}) {
				his = append(his, i)
			}
		}
		for day := range int32(500) {
			var extra []int
			if day >= 300 && day < 321 && int(day-300)*len(his)/63 < len(his)/3 {
				extra = append(extra, his[int(day-300)*len(his)/63])
			}
			b.day(1000+day, 1, extra...)
		}
		if len(b.fired) == 0 || b.fired[0].Key != (Key{Owner, "7"}) || b.fired[0].Day < 1300 || b.fired[0].Day > 1321 {
			t.Fatalf("seed %d: %+v", seed, b.fired)
		}
		x := b.fired[0]
		t.Logf("seed %d: %d customers, day %d: %d leavers in %d days, %.2f expected, chance %.2g below %.2g; %d alerts in all", seed, x.Active, x.Day-1300, x.Leavers, x.Days, x.Expected, x.Chance, x.Limit, len(b.fired))
		if x.Leavers != int64(len(x.Members)) || x.AtRisk != event.Money(100*x.Leavers) || x.Since < 1300-28 || len(b.fired) > 2 || len(b.open) != 0 {
			t.Errorf("seed %d: %+v, open %v", seed, x, b.open)
		}
	}
}

// When everybody begins to leave at three times the usual rate, that is one alert about everybody, and none about his cohorts: they do as all others.
func TestMarketShock(t *testing.T) {
	b := newBase(20, 3000, 0.02/28)
	for day := range int32(400) {
		factor := 1.0
		if day >= 300 && day < 330 {
			factor = 5
		}
		b.day(1000+day, factor)
	}
	if len(b.fired) != 1 || b.fired[0].Key != (Key{}) || b.fired[0].Day < 1300 || b.fired[0].Day > 1330 {
		t.Fatalf("%+v", b.fired)
	}
	t.Logf("day %d: %d leavers in %d days, %.1f expected", b.fired[0].Day-1300, b.fired[0].Leavers, b.fired[0].Days, b.fired[0].Expected)
	if len(b.fired[0].Members) > MaxMembers {
		t.Error("too many members are listed")
	}
}

// The stored form is that of what was stored: a fold that is read back goes on as the first.
func TestStoredFold(t *testing.T) {
	b := newBase(30, 600, 0.03/28)
	for day := range int32(150) {
		b.day(1000+day, 1)
		if day%37 != 0 {
			continue
		}
		again, err := DecodeFold(usual, b.f.Chunks())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again.Chunks(), b.f.Chunks()) || again.Day() != b.f.Day() {
			t.Fatal("another fold was read back")
		}
		b.f = again
	}
	whole := b.f.Chunks()[0]
	for n := range len(whole) / 7 {
		if f, err := DecodeFold(usual, [][]byte{whole[:n*7]}); err == nil && len(f.cohorts) == len(b.f.cohorts) {
			t.Fatalf("%d of %d bytes were taken for the whole", n*7, len(whole))
		}
	}
	if _, err := DecodeFold(usual, [][]byte{{foldVersion, 0, 0, 0, 0, 0, byte(NumDimensions), 0}}); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if _, err := DecodeFold(usual, [][]byte{{foldVersion + 1}}); err == nil {
		t.Error("a newer format was read")
	}
}

// Sizes are those of the partitions together, and what a partition does not tell any more is gone.
func TestSizes(t *testing.T) {
	f := NewFold(usual)
	kim, lee := Key{Owner, "kim"}, Key{Owner, "lee"}
	f.Size(0, kim, 5)
	f.Size(1, kim, 7)
	f.Size(1, lee, 2)
	f.Size(0, kim, 4)
	f.Keep(1, map[Key]bool{kim: true})
	if f.cohorts[kim].active != 11 || f.cohorts[lee].active != 0 {
		t.Errorf("%+v, %+v", f.cohorts[kim], f.cohorts[lee])
	}
	f.Forget(1)
	if f.cohorts[kim].active != 4 {
		t.Errorf("%+v", f.cohorts[kim])
	}
}

// The tail of the negative binomial distribution against its sum from below, and against the Poisson distribution that it comes to.
func TestTail(t *testing.T) {
	for _, shape := range []float64{0.5, 1, 7.3, 25} {
		for _, mean := range []float64{0.01, 0.8, 5, 60} {
			for _, k := range []int64{1, 2, 5, 20, 90} {
				want := 1 - below(k, shape, mean/(shape+mean))
				if got := tail(k, shape, mean); math.Abs(got-want) > 1e-9 {
					t.Errorf("shape %v, mean %v: %v or more %v, want %v", shape, mean, k, got, want)
				}
			}
		}
	}
	if got := tail(10, 1e9, 2); math.Abs(got/4.65e-5-1) > 0.01 { // P(Poisson(2) >= 10)
		t.Errorf("10 or more where 2 are expected: %v", got)
	}
	if tail(0, 1, 1) != 1 || tail(3, 1, 0) != 0 {
		t.Error("the ends")
	}
}

// Dimensions are named as the configuration names them.
func TestDimensions(t *testing.T) {
	p := &event.Profile{Segment: "s", Region: "r", Product: "p", Owner: "o"}
	for d, want := range map[Dimension]string{Segment: "s", Region: "r", Product: "p", Owner: "o", Everybody: ""} {
		if d.Of(p) != want || d.Of(nil) != "" {
			t.Errorf("%v of the profile is %q", d, d.Of(p))
		}
		if again, ok := ParseDimension(d.String()); ok != (d != Everybody) || ok && again != d {
			t.Errorf("%v is read as %v", d, again)
		}
	}
	if (Key{Owner, "kim"}).String() != "owner=kim" || (Key{}).String() != "everybody" || Dimension(9).String() != "unknown" {
		t.Error("names")
	}
}
