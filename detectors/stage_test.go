package detectors

import (
	"math/rand/v2"
	"testing"

	"ebb/state/customer"
	"ebb/stream/event"
)

func TestStages(t *testing.T) {
	const day = 86_400_000
	p := customer.DefaultParams(customer.NewCalendar(nil))
	rates, err := NewRates("EUR", nil)
	if err != nil {
		t.Fatal(err)
	}
	env := &Env{Calendar: p.Calendar, Rates: rates}
	for _, c := range []struct {
		name          string
		known         int64 // days
		older, newer  int64 // paid each week of the six weeks before the last six, and of these
		uses          bool  // and used, not paid
		lapsed, ended bool
		closed        bool
		want          Stage
	}{
		{name: "came last week", known: 7, newer: 10, want: WarmingUp},
		{name: "came two months ago", known: 60, older: 1, newer: 10, want: New},
		{name: "came twelve weeks ago", known: 84, older: 10, newer: 10, want: Mature},
		{name: "the same", known: 200, older: 10, newer: 10, want: Mature},
		{name: "half", known: 200, older: 10, newer: 5, want: Declining},
		{name: "nothing any more", known: 200, older: 10, want: Declining},
		{name: "a little more than half", known: 200, older: 100, newer: 51, want: Mature},
		{name: "half as much again", known: 200, older: 10, newer: 15, want: Growing},
		{name: "uses it half as often", known: 200, older: 4, newer: 2, uses: true, want: Declining},
		{name: "is gone", known: 200, older: 10, newer: 10, lapsed: true, want: LapsedStage},
		{name: "the relation has ended", known: 200, older: 10, newer: 10, closed: true, want: LapsedStage},
		{name: "cancelled", known: 200, older: 10, newer: 10, ended: true, want: LapsedStage},
	} {
		r := &customer.Record{ID: "c"}
		const today = 2000
		do := func(day, n int64) {
			e := &event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: day*86_400_000 + 1, Amount: event.Money(n) * event.MoneyUnit}
			if !c.uses {
				r.Apply(e, &p)
				return
			}
			e.Feed, e.Kind, e.Amount = event.Usage, event.KindUsage, 0
			for range n {
				r.Apply(e, &p)
			}
		}
		do(today-c.known, 1)
		for week := int64(12); week > 0; week-- {
			n := c.newer
			if week > 6 {
				n = c.older
			}
			if n > 0 && week*7 <= c.known {
				do(today-week*7, n)
			}
		}
		r.Lapsed = c.lapsed
		if c.ended {
			r.Cancelled = 1
		}
		if c.closed {
			r.Apply(&event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: 1, Profile: &event.Profile{Status: customer.StatusClosed}}, &p)
		}
		if got := StageOf(r, env, today*day); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// What a record remembers of its stage is what is reckoned anew, whatever came late, moved to another zone, or was joined.
func TestStageRemembered(t *testing.T) {
	const day, start = 86_400_000, 20_000 * 86_400_000
	p := customer.DefaultParams(customer.NewCalendar(nil))
	env := &Env{Calendar: p.Calendar, Rates: MustRates("EUR", map[string]string{"USD": "0.9"})}
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[Stage]int{}
	remembered := 0
	for c := range 60 {
		r := &customer.Record{ID: "c"}
		for at := int64(start); at < start+250*day; at += rng.Int64N(2 * day) {
			e := &event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: at, Amount: event.Money(1+rng.IntN(50)) * event.MoneyUnit}
			if at > start+150*day && c%3 != 0 {
				e.Amount *= event.Money(c % 3)
				e.Amount /= 4
			}
			if c%5 == 0 {
				e.Feed, e.Kind, e.Amount = event.Usage, event.KindUsage, 0
			}
			switch rng.IntN(12) {
			case 0:
				e.Time = max(start, at-rng.Int64N(90*day))
			case 1:
				e.Currency = event.Currency{'U', 'S', 'D'}
			case 2:
				zone := []string{"", "Asia/Tokyo", "America/New_York"}[rng.IntN(3)]
				e = &event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: at, Profile: &event.Profile{TimeZone: zone}}
			case 3:
				r.Decided = at + rng.Int64N(5*day)
			case 4:
				if rng.IntN(10) == 0 {
					o := &customer.Record{ID: "o"}
					o.Apply(e, &p)
					r.Join(o, &p)
				}
			}
			r.Apply(e, &p)
			if _, known := r.Tendency(env.Calendar.DayOf(r, max(r.Latest, r.Decided))); known {
				remembered++
			}
			got := NewestStageOf(r, env)
			if want := StageOf(r, env, max(r.Latest, r.Decided)); got != want {
				t.Fatalf("customer %d on day %d: %s, want %s", c, (at-start)/day, got, want)
			}
			seen[got]++
		}
	}
	for _, s := range []Stage{WarmingUp, New, Growing, Mature, Declining} {
		if seen[s] == 0 {
			t.Errorf("nobody was ever %s", s)
		}
	}
	if remembered == 0 {
		t.Error("nothing was remembered from one event to the next")
	}
}

func BenchmarkNewestStage(b *testing.B) {
	const day = 86_400_000
	p := customer.DefaultParams(customer.NewCalendar(nil))
	env := &Env{Calendar: p.Calendar, Rates: MustRates("EUR", nil)}
	r := &customer.Record{ID: "c"}
	for d := int64(20_000); d < 20_091; d += 2 {
		r.Apply(&event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: d * day, Amount: event.MoneyUnit}, &p)
	}
	r.First -= 100 * day
	b.Run("remembered", func(b *testing.B) {
		for b.Loop() {
			NewestStageOf(r, env)
		}
	})
	b.Run("reckoned", func(b *testing.B) {
		for b.Loop() {
			StageOf(r, env, r.Latest)
		}
	})
}
