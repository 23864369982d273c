package detectors

import (
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
		want          Stage
	}{
		{name: "came last week", known: 7, newer: 10, want: WarmingUp},
		{name: "came two months ago", known: 60, older: 1, newer: 10, want: Mature},
		{name: "the same", known: 200, older: 10, newer: 10, want: Mature},
		{name: "half", known: 200, older: 10, newer: 5, want: Declining},
		{name: "nothing any more", known: 200, older: 10, want: Declining},
		{name: "a little more than half", known: 200, older: 100, newer: 51, want: Mature},
		{name: "half as much again", known: 200, older: 10, newer: 15, want: Growing},
		{name: "uses it half as often", known: 200, older: 4, newer: 2, uses: true, want: Declining},
		{name: "is gone", known: 200, older: 10, newer: 10, lapsed: true, want: LapsedStage},
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
		if got := StageOf(r, env, today*day); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
