package detectors

import (
	"testing"

	"ebb/state/customer"
	"ebb/stream/event"
)

// Somebody who spends 10 a day for 60 days and then less: what is lost is the area between, to the cent.
func TestLostIsTheAreaUnderTheBaseline(t *testing.T) {
	s := mustSet(t)
	p := customer.DefaultParams(customer.NewCalendar(nil))
	const day = 86_400_000
	pay := func(r *customer.Record, from, to int64, m event.Money) {
		for d := from; d < to; d++ {
			r.Apply(&event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: d*day + 1, Amount: m}, &p)
		}
	}
	rates, err := NewRates("EUR", nil)
	if err != nil {
		t.Fatal(err)
	}
	env := &Env{Calendar: p.Calendar, Rates: rates}
	for _, c := range []struct {
		name          string
		before, after event.Money // a day
		known         int64       // days before
		at            int64       // days since
		want          string
	}{
		{"nothing at all", 10, 0, 60, 20, "190.00"}, // the day of the decision is not over
		{"a tenth", 10, 1, 60, 20, "171.00"},
		{"more than before", 10, 12, 60, 20, "0.00"},
		{"known for a week: as if there had been nothing before", 28, 0, 7, 11, "70.00"},
		{"the next day", 10, 0, 60, 1, "0.00"},
	} {
		r := &customer.Record{ID: "c"}
		pay(r, 1000, 1000+c.known, c.before*event.MoneyUnit)
		last := int32(1000 + c.known - 1)
		if c.after != 0 {
			pay(r, int64(last)+1, int64(last)+c.at+5, c.after*event.MoneyUnit)
		}
		l := &customer.Lifecycle{Detector: SilenceName, Day: last, Since: int64(last) * day, FiredAt: int64(last+1) * day}
		if got := s.Lost(r, env, l, (int64(last)+c.at)*day); got.String() != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if got := s.Lost(r, env, &customer.Lifecycle{Detector: FrictionName, Day: last}, (int64(last)+c.at)*day); got != 0 {
			t.Errorf("friction lost %s", got)
		}
	}
}

func mustSet(t *testing.T) *Set {
	t.Helper()
	s, err := NewSet(Defaults())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
