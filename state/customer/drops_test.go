package customer

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"ebb/stream/event"
)

func dropParams() Params {
	p := DefaultParams(NewCalendar(nil))
	p.Drop = &DropParams{Usage: true}
	return p
}

func session(day, quantity int, id uint64) *event.Event {
	return &event.Event{Feed: event.Usage, Kind: event.KindUsage, Time: int64(day)*dayMs + 2*hourMs, Quantity: event.Money(quantity) * event.MoneyUnit, IDHash: id}
}

// busy is what somebody does from a day on, in the order of time.
func busy(seed uint64, from, n int) []*event.Event {
	g := rand.New(rand.NewPCG(seed, 3))
	var out []*event.Event
	for i := range n {
		id := uint64(2*i + 1)
		if g.IntN(3) != 0 {
			out = append(out, purchase(from+i, event.Money(g.IntN(50)+1)*event.MoneyUnit, id))
		}
		if g.IntN(2) == 0 {
			out = append(out, session(from+i, g.IntN(20), id+1))
		}
	}
	return out
}

// What comes no later than DropSettles days after its time counts as if it had come in time; what comes later is in the windows only.
func TestDropsOfLateEvents(t *testing.T) {
	const from = 20000
	play := func(events []*event.Event) *Record {
		p := dropParams()
		r := &Record{}
		for _, e := range events {
			r.Apply(e, &p)
		}
		return r
	}
	for seed := range uint64(50) {
		events := busy(seed, from, 200)
		want := play(events)
		mixed := make([]*event.Event, len(events))
		copy(mixed, events)
		g := rand.New(rand.NewPCG(seed, 4))
		for i := len(mixed) - 1; i > 0; i-- { // nothing moves over more than DropSettles days
			j := i - 1
			if mixed[i].Time-mixed[j].Time < DropSettles*dayMs && g.IntN(2) == 0 && (i+1 == len(mixed) || mixed[i+1].Time-mixed[j].Time < DropSettles*dayMs) {
				mixed[i], mixed[j] = mixed[j], mixed[i]
			}
		}
		// The newest event decides how far the tests are.
		p := dropParams()
		last := purchase(from+400, event.MoneyUnit, 1)
		last.IDHash = 99_999
		got := play(mixed)
		want.Apply(last, &p)
		got.Apply(last, &p)
		if *got.Drops() != *want.Drops() {
			t.Fatalf("seed %d:\n got %+v\nwant %+v", seed, *got.Drops(), *want.Drops())
		}
	}
	p := dropParams()
	r := play(busy(1, from, 60))
	before := *r.Drops()
	r.Apply(purchase(from+30, 500*event.MoneyUnit, 77_777), &p)
	if *r.Drops() != before {
		t.Error("a purchase of weeks ago changed the test")
	}
	if _, day := r.spendOn(from + 30); day < 500*event.MoneyUnit {
		t.Error("it is not in the windows either")
	}
}

// spendOn is what the windows hold of a day.
func (r *Record) spendOn(day int32) (purchases int, sum event.Money) {
	for i := range r.Spend {
		if r.Spend[i].Day() == day {
			purchases, sum = purchases+int(r.Spend[i].Purchases), sum+r.Spend[i].Amount
		}
	}
	return purchases, sum
}

// A record that was kept before there were tests begins them with what the windows hold, and whoever stays away for longer than those loses nothing.
func TestDropsBeginFromWindows(t *testing.T) {
	const from = 20000
	old := DefaultParams(NewCalendar(nil))
	p := dropParams()
	was, is := &Record{}, &Record{}
	for i := range 40 {
		e := purchase(from+2*i, 10*event.MoneyUnit, uint64(i+1))
		was.Apply(e, &old)
		is.Apply(e, &p)
	}
	if was.Drops() != nil {
		t.Fatal("tests are kept that nobody wants")
	}
	back := purchase(from+300, 10*event.MoneyUnit, 500)
	was.Apply(back, &p)
	is.Apply(back, &p)
	if *was.Drops() != *is.Drops() || is.Drops().Spend.Last() != from+78 || !is.Drops().Spend.Ready() {
		t.Errorf("\n got %+v\nwant %+v", *was.Drops(), *is.Drops())
	}
	d, _ := is.Drop(event.Payments, from+301, p.Drop)
	if d.Last() != from+300 || d.Statistic() != oddsLeast {
		t.Errorf("the return after an absence counts as a drop: %v", d.Statistic())
	}
}

// The stored form holds a test bit for bit, takes no more than it may, and anything else is refused.
func TestDropsStored(t *testing.T) {
	p := dropParams()
	most := 0
	for seed := range uint64(100) {
		r := &Record{ID: "c"}
		for _, e := range busy(seed, 20000, int(seed)*2) {
			r.Apply(e, &p)
		}
		r.BeginDrop(event.Payments, 20050)
		b := AppendRecord(nil, r)
		again := &Record{ID: "c"}
		if err := DecodeRecord(b, again); err != nil {
			t.Fatal(seed, err)
		}
		if (again.Drops() == nil) != (r.Drops() == nil) || r.Drops() != nil && *again.Drops() != *r.Drops() {
			t.Fatalf("seed %d: %+v became %+v", seed, r.Drops(), again.Drops())
		}
		if r.Drops() == nil {
			continue
		}
		if !bytes.Equal(AppendRecord(nil, again), b) {
			t.Fatal("another form")
		}
		r.drops.Usage = Drop{}
		most = max(most, len(dropsPart{}.append(nil, r)))
		for cut := 1; cut < 20; cut++ {
			if DecodeRecord(b[:len(b)-cut], again) == nil {
				t.Fatal("a cut record is read")
			}
		}
	}
	if most > 60 {
		t.Errorf("a test takes %d bytes", most)
	}
	t.Logf("a test takes up to %d bytes", most)
}

// Of two customers who become one, the one of whom more is known is what is usual, and nothing was less than that yet.
func TestDropsJoined(t *testing.T) {
	p := dropParams()
	a, b, c := &Record{ID: "a"}, &Record{ID: "b"}, &Record{ID: "c"}
	for _, e := range busy(1, 20000, 200) {
		a.Apply(e, &p)
	}
	for _, e := range busy(2, 20100, 150) {
		e.IDHash += 100_000
		b.Apply(e, &p)
	}
	weight := a.Drops().Spend.weight
	b.Join(a, &p)
	if d := &b.Drops().Spend; d.weight != weight || d.Statistic() != oddsLeast || d.Last() < 20240 {
		t.Errorf("%+v", d)
	}
	c.Join(a, &p)
	if d := c.Drops(); d == nil || d == a.Drops() || d.Spend.weight != weight {
		t.Errorf("%+v", d)
	}
	a.Join(&Record{ID: "d"}, &p)
	if a.Drops().Spend.weight != weight {
		t.Errorf("%+v", a.Drops())
	}
}

// Refunds are no payments, and what cannot be converted is a visit of unknown worth.
func TestDropObservations(t *testing.T) {
	p := dropParams()
	p.Drop.Value = func(c event.Currency, m event.Money) (event.Money, bool) {
		return m / 2, c == event.Currency{'U', 'S', 'D'}
	}
	pay := func(r *Record, kind event.Kind, day int, amount event.Money, currency string) {
		e := purchase(day, amount*event.MoneyUnit, uint64(day)<<8+uint64(kind))
		e.Kind, e.Currency = kind, event.Currency([]byte(currency))
		r.Apply(e, &p)
	}
	r := &Record{}
	for i := range 6 {
		pay(r, event.KindPurchase, 20000+10*i, 30, "USD")
		pay(r, event.KindRefund, 20005+10*i, 30, "USD")
	}
	d, _ := r.Drop(event.Payments, 20100, p.Drop)
	if d.Gap() != 10 || math.Abs(d.Amount()-15) > 1e-5 {
		t.Errorf("every %v days %v", d.Gap(), d.Amount())
	}
	pay(r, event.KindPurchase, 20070, 1000, "CHF")
	e, _ := r.Drop(event.Payments, 20100, p.Drop)
	if e.Last() != 20070 || math.Abs(e.Amount()-15) > 1e-5 || e.Gap() <= 10 {
		t.Errorf("every %v days %v", e.Gap(), e.Amount())
	}
}

// The highest excess of a block is that of all its days.
func TestDropPeak(t *testing.T) {
	p := dropParams()
	r := &Record{}
	from := 28 * 700
	for i := range 100 {
		amount := event.Money(10)
		if i >= 84 {
			amount = 1
		}
		r.Apply(purchase(from+i, amount*event.MoneyUnit, uint64(i+1)), &p)
	}
	settled := &r.Drops().Spend
	if _, ok := settled.Peak(int32(from + 83 - 56)); ok {
		t.Error("a block before the newest two is known")
	}
	calm, ok := settled.Peak(int32(from + 90))
	if !ok || calm > -3 {
		t.Errorf("the calm block: %v %v", calm, ok)
	}
	fell, ok := settled.Peak(int32(from + 112))
	if !ok || fell < 5 {
		t.Errorf("the block of the fall: %v %v", fell, ok)
	}
	if _, ok := settled.Peak(int32(from + 200)); ok {
		t.Error("a block in which nothing was")
	}
}

// That of the block in which a test begins is of the days since then, whether or not the record was stored meanwhile.
func TestDropPeakOfTheFirstBlock(t *testing.T) {
	p := dropParams()
	for _, from := range []int{28*700 + 1, 28*700 + 27} { // it is ready in the block of its first day, or in the next one
		kept, stored := &Record{}, &Record{}
		for i := range 50 {
			for _, r := range []*Record{kept, stored} {
				r.Apply(purchase(from+i, 10*event.MoneyUnit, uint64(i+1)), &p)
			}
			b := AppendRecord(nil, stored)
			if !bytes.Equal(b, AppendRecord(nil, kept)) {
				t.Fatalf("day %d: stored and read %+v, else %+v", i, stored.Drops(), kept.Drops())
			}
			if err := DecodeRecord(b, stored); err != nil {
				t.Fatal(err)
			}
		}
		for block := range 2 {
			if calm, ok := kept.Drops().Spend.Peak(28 * int32(701+block)); ok && calm > -3 {
				t.Errorf("from day %d: a block in which nothing fell has the peak %v", from-28*700, calm)
			}
		}
	}
}

// The tail of the gamma distribution is that of closed forms.
func TestGammaTail(t *testing.T) {
	for _, x := range []float64{0.001, 0.3, 1, 2.5, 7, 30, 49} {
		for _, c := range []struct{ a, want float64 }{
			{1, math.Exp(-x)},
			{2, math.Exp(-x) * (1 + x)},
			{5, math.Exp(-x) * (1 + x + x*x/2 + x*x*x/6 + x*x*x*x/24)},
			{0.5, math.Erfc(math.Sqrt(x))},
		} {
			if got := gammaTail(c.a, x); math.Abs(got-c.want) > 1e-10*c.want+1e-15 {
				t.Errorf("Q(%v, %v) = %v, want %v", c.a, x, got, c.want)
			}
		}
	}
	if gammaTail(3, 0) != 1 || gammaTail(3, -1) != 1 {
		t.Error("below 0")
	}
}

func BenchmarkDrop(b *testing.B) {
	d := Drop{}
	for i := range 60 {
		d.Take(float64(1+i%3), float64(10+i%7))
	}
	b.Run("Take", func(b *testing.B) {
		for i := range b.N {
			d.Take(float64(1+i%3), float64(10+i%7))
		}
	})
	b.Run("Silent", func(b *testing.B) {
		for range b.N {
			d.Silent(9)
		}
	})
	b.Run("Threshold", func(b *testing.B) {
		for range b.N {
			d.Threshold(0.1)
		}
	})
}

// A plan counts from when the record begins: what shows that it begins earlier makes it void, of whatever feed.
func TestPlansOfAnEarlierBeginning(t *testing.T) {
	const from = 20000
	p := dropParams()
	begun := func() *Record {
		r := &Record{}
		for i := range 20 {
			r.Apply(purchase(from+i, event.MoneyUnit, uint64(i+1)), &p)
		}
		if r.Drops() == nil {
			t.Fatal("no test is kept")
		}
		r.PlanDrop(event.Payments, Plan{Ask: math.MaxInt64})
		return r
	}
	r := begun()
	r.Apply(session(from+20, 1, 100), &p)
	if r.DropPlan(event.Payments) == (Plan{}) {
		t.Error("a use of today makes the plan of payments void")
	}
	r.Apply(session(from-1, 1, 101), &p)
	if r.DropPlan(event.Payments) != (Plan{}) {
		t.Error("the record begins a day earlier, and the plan stands")
	}
	r, o := begun(), &Record{}
	o.Apply(session(from-1, 1, 102), &p)
	if r.Join(o, &p); r.DropPlan(event.Payments) != (Plan{}) {
		t.Error("joined with who came a day earlier, and the plan stands")
	}
}

// No threshold is below the least one: what does not reach that need not be weighed against its own.
func TestLeastThreshold(t *testing.T) {
	g := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		d, perYear := Drop{}, math.Exp(g.Float64()*7-4.5)
		least := LeastThreshold(perYear)
		usual, spread := math.Exp(g.Float64()*11), g.Float64()*3
		for range 3 + g.IntN(80) {
			d.Take(max(1, math.Round(math.Min(usual*math.Exp(spread*g.NormFloat64()), 1<<16-1))), math.Exp(g.Float64()*spread))
			if got := d.Threshold(perYear); got < least {
				t.Fatalf("%v with a usual gap of %.1f days: %v, below %v", perYear, d.Gap(), got, least)
			}
		}
	}
}
