package cohorts

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"ebb/stream/event"
)

// company lets days pass in which all customers together spend by a factor, day by day, and move money away, with the scatter of a shop of some hundred customers.
type company struct {
	rng    *rand.Rand
	f      *Fold
	active int64
	day    int32
	tails  bool // days scatter with heavy tails
	fired  []Weekly
	last   []Weekly
}

func newCompany(seed uint64) *company {
	return &company{rng: rand.New(rand.NewPCG(seed, 2)), f: NewFold(usual), active: 500, day: 18_000}
}

// pass lets days pass.
func (c *company) pass(days int, spend, outflow func(day int32) float64) {
	for range days {
		c.f.Size(0, Key{}, c.active)
		c.f.Close(c.day, nil, nil)
		scatter := func() float64 {
			x := 0.2 * c.rng.NormFloat64()
			if c.tails { // Student's t
				x /= math.Sqrt(c.chi2(4) / 4)
			}
			return math.Exp(x)
		}
		each := func(by float64) event.Money {
			return event.Money(float64(c.active) * 30_000 * by * scatter())
		}
		out := c.f.CloseTotals(Totals{each(spend(c.day)), each(outflow(c.day))})
		for _, x := range out {
			if x.Firing {
				c.fired = append(c.fired, x)
			}
		}
		if len(out) != 0 {
			c.last = out
		}
		c.day++
	}
}

func (c *company) chi2(df int) float64 {
	sum := 0.0
	for range df {
		x := c.rng.NormFloat64()
		sum += x * x
	}
	return sum
}

func steady(int32) float64 { return 1 }

// Where the totals only scatter, with heavy tails, a season and growth, there are no more false alarms than are stated.
func TestNullTotals(t *testing.T) {
	const years, companies = 5, 8
	n := 0
	for seed := range uint64(companies) {
		c := newCompany(seed)
		c.tails = true
		season := func(day int32) float64 {
			return (1 + 0.25*math.Sin(2*math.Pi*float64(day)/365)) * math.Pow(1.2, float64(day-18_000)/365)
		}
		for range years * 12 {
			c.pass(30, season, season)
			c.active += 4
		}
		n += len(c.fired)
	}
	if stated := 0.2 * years * companies * NumSeries; float64(n) > stated {
		t.Errorf("%d false alarms in %d years, stated are at most %.0f", n, years*companies, stated)
	}
}

// Everybody spends a third of what he used to, or moves three times as much away, and nobody leaves: told at the end of the first whole week.
func TestTotalsLeaveTheirRange(t *testing.T) {
	for seed := range uint64(4) {
		c := newCompany(20 + seed)
		c.pass(400, steady, steady)
		if len(c.fired) != 0 {
			t.Fatalf("seed %d: %+v", seed, c.fired)
		}
		c.pass(21, func(int32) float64 { return 0.35 }, func(int32) float64 { return 3 })
		got := map[Series]Weekly{}
		for i := len(c.fired) - 1; i >= 0; i-- {
			got[c.fired[i].Series] = c.fired[i]
		}
		if len(got) != 2 || got[Spend].Day > 18_414 || got[Outflow].Day > 18_414 {
			t.Fatalf("seed %d: %+v", seed, c.fired)
		}
		if x := got[Spend]; x.Change > -30 || x.Observed >= x.Expected || x.Active != 500 || x.Expected < event.Money(7*500*20_000) {
			t.Errorf("seed %d: %+v", seed, x)
		}
		if x := got[Outflow]; x.Change < 40 || x.Observed <= x.Expected {
			t.Errorf("seed %d: %+v", seed, x)
		}
	}
}

// Fewer customers who spend as much as ever are no matter of the total: others tell of those who leave.
func TestFewerCustomersSpendLess(t *testing.T) {
	c := newCompany(30)
	c.pass(400, steady, steady)
	c.active = 250
	c.pass(21, steady, steady)
	if len(c.fired) != 0 {
		t.Errorf("%+v", c.fired)
	}
}

// Who closes at the turn of the year is told of it once; and where there is nothing in most weeks nothing is usual.
func TestWeeksWithoutAnything(t *testing.T) {
	for seed := range uint64(4) {
		c := newCompany(50 + seed)
		closes := func(day int32) float64 {
			if day%365 > 350 {
				return 0
			}
			return 1
		}
		seldom := func(day int32) float64 {
			if weekOf(day)%3 == 0 {
				return 1
			}
			return 0
		}
		first := 0
		for year := range 4 {
			c.pass(365, closes, seldom)
			if year == 1 {
				first = len(c.fired)
			}
		}
		for _, x := range c.fired {
			if x.Series != Spend || x.Day%365 < 350 && x.Day%365 > 7 {
				t.Errorf("seed %d: %+v", seed, x)
			}
		}
		if first == 0 || len(c.fired) != first {
			t.Errorf("seed %d: %d in the first two years, %d in all", seed, first, len(c.fired))
		}
	}
}

// The weeks are stored with the rest, and a week without any spend is the worst there is.
func TestTotalsAreStored(t *testing.T) {
	c := newCompany(40)
	c.pass(300, steady, steady)
	again, err := DecodeFold(usual, c.f.Chunks())
	if err != nil || !reflect.DeepEqual(again.weeks, c.f.weeks) {
		t.Fatal(err)
	}
	c.f = again
	c.pass(14, func(int32) float64 { return 0 }, steady)
	if len(c.fired) == 0 || c.fired[0].Series != Spend || c.fired[len(c.fired)-1].Observed != 0 {
		t.Errorf("%+v", c.fired)
	}
	for range 20 {
		c.pass(30, steady, steady)
	}
	if n := len(c.f.weeks); n != keptWeeks {
		t.Errorf("%d weeks are kept", n)
	}
	if Spend.String() != "spend" || Outflow.String() != "outflow" || Series(9).String() != "unknown" {
		t.Error("names")
	}
}
