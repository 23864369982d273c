package cohorts

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

// office lets customers come from some sources, and judges what became of them.
type office struct {
	rng   *rand.Rand
	f     *Fold
	day   int32
	fired []Intake
	all   int
}

func newOffice(seed uint64) *office {
	return &office{rng: rand.New(rand.NewPCG(seed, 3)), f: NewFold(usual), day: 18_000}
}

// pass lets days pass in which those are looked at who came IntakeDays before, each with the probability to be active of his source and of the day on which he came.
func (o *office) pass(days int, shares map[string]func(came int32) float64) {
	for range days {
		var came []Newcomer
		for _, source := range []string{"ads", "fair", "shop"} {
			share, is := shares[source]
			for range o.rng.IntN(12) {
				p := o.rng.Float64()
				if is {
					came = append(came, Newcomer{IntakeWeek(o.day - IntakeDays), source, p < share(o.day-IntakeDays)})
				}
			}
		}
		o.f.Close(o.day, nil, nil)
		for _, x := range o.f.CloseIntakes(came) {
			o.all++
			if x.Firing {
				o.fired = append(o.fired, x)
			}
		}
		o.day++
	}
}

func always(p float64) func(int32) float64 { return func(int32) float64 { return p } }

// Where as many stay as always, with seasons, there are no more alerts than are stated.
func TestNullIntakes(t *testing.T) {
	const years, offices = 6, 4
	n, all := 0, 0
	for seed := range uint64(offices) {
		o := newOffice(seed)
		o.pass(365*years, map[string]func(int32) float64{
			"ads": always(0.35), "fair": func(day int32) float64 { return 0.6 + 0.05*math.Sin(2*math.Pi*float64(day)/365) }, "shop": always(0.85),
		})
		n, all = n+len(o.fired), all+o.all
	}
	t.Logf("%d of %d intakes", n, all)
	if stated := usual.FalseAlarms * years * offices; float64(n) > stated || all < 3*50*years*offices {
		t.Errorf("%d false alarms of %d intakes, stated are at most %.0f", n, all, stated)
	}
}

// A campaign brings customers who do not stay: that is told of their week and source, as soon as all of them can be judged.
func TestPoorIntake(t *testing.T) {
	for seed := range uint64(4) {
		o := newOffice(10 + seed)
		poor := IntakeWeek(18_300)
		o.pass(400, map[string]func(int32) float64{
			"ads": func(day int32) float64 {
				if IntakeWeek(day) == poor {
					return 0.15
				}
				return 0.6
			}, "shop": always(0.85),
		})
		n := len(o.fired) - 1
		if n < 0 || n > 1 || o.fired[n].Source != "ads" || IntakeWeek(o.fired[n].From) != poor || o.fired[n].To != o.fired[n].From+6 || o.fired[n].Day != o.fired[n].To+IntakeDays {
			t.Fatalf("seed %d: %+v", seed, o.fired)
		}
		if x := o.fired[n]; math.Abs(x.Share-0.6) > 0.1 || x.Size < 20 || x.Weeks != keptIntakes-1 && x.Weeks < leastWeeks {
			t.Errorf("seed %d: %+v", seed, x)
		}
	}
}

// The intakes are stored with the rest.
func TestIntakesAreStored(t *testing.T) {
	o := newOffice(20)
	o.pass(300, map[string]func(int32) float64{"ads": always(0.5), "": always(0.2)})
	again, err := DecodeFold(usual, o.f.Chunks())
	if err != nil || !reflect.DeepEqual(again.intakes, o.f.intakes) || len(again.intakes["ads"]) != keptIntakes {
		t.Errorf("%v: %v, want %v", err, again.intakes, o.f.intakes)
	}
}

// The beta-binomial distribution is the binomial one where the share is known, and sums to one.
func TestFewer(t *testing.T) {
	if got := fewer(10, 10, 3, 4); math.Abs(got-1) > 1e-12 {
		t.Errorf("all of them: %v", got)
	}
	if got := fewer(2, 5, 1, 1); math.Abs(got-0.5) > 1e-12 { // every number is as likely
		t.Errorf("half of them: %v", got)
	}
	if got, want := fewer(3, 20, 5e7, 5e7), 1351/math.Exp2(20); math.Abs(got/want-1) > 1e-3 { // 1 + 20 + 190 + 1140
		t.Errorf("3 of 20 coins: %v, want %v", got, want)
	}
}
