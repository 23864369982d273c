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

// The plain rule goes on from its baseline: 10 a day for 90 days, then a tenth. What the windows of the rule were when the severity rose does not change since when it is lost.
func TestLostByThePlainRule(t *testing.T) {
	const day = 86_400_000
	cfg := Defaults()
	cfg.SpendDrop.Method, cfg.SpendDrop.RecentDays, cfg.SpendDrop.BaselineDays = Plain, 7, 28
	s, err := NewSet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := customer.DefaultParams(customer.NewCalendar(nil))
	r := &customer.Record{ID: "c"}
	for d := int64(1000); d < 1130; d++ {
		e := &event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: d*day + 1, Amount: 10 * event.MoneyUnit}
		if d >= 1090 {
			e.Amount = event.MoneyUnit
		}
		r.Apply(e, &p)
	}
	first := customer.Lifecycle{Detector: SpendDropName, Since: 1090 * day, FiredAt: 1097*day + 1, Day: 1097, Observed: 7 * event.MoneyUnit, Expected: 70 * event.MoneyUnit}
	risen := first
	risen.Day = 1104
	forgotten := first
	forgotten.Day = 1030
	env := &Env{Calendar: p.Calendar, Rates: MustRates("EUR", nil)}
	for _, c := range []struct {
		name    string
		l       *customer.Lifecycle
		at      int64
		stalled int64 // days from the 1100th on
		want    string
	}{
		{"when it fires", &first, 1097, 0, "63.00"},
		{"three weeks later", &first, 1118, 0, "252.00"},
		{"its severity rose in between", &risen, 1118, 0, "252.00"},
		{"for three days nothing could be seen", &first, 1118, 3, "222.00"},
		{"longer ago than the windows hold", &forgotten, 1118, 0, "0.00"},
	} {
		env.Now = c.at * day
		env.SetStalls(nil)
		if c.stalled != 0 {
			env.SetStalls([]Interval{{Feed: event.Payments, From: 1100 * day, To: (1100 + c.stalled) * day}})
		}
		if got := s.Lost(r, env, c.l, c.at*day+2); got.String() != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Who uses the product less may go on to pay: only what he pays less than before is lost, and a bill that is not due yet is not.
func TestLostByADropInUsage(t *testing.T) {
	const day = 86_400_000
	cfg := Defaults()
	cfg.UsageDrop.Enabled = true
	s, err := NewSet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := customer.DefaultParams(customer.NewCalendar(nil))
	env := &Env{Calendar: p.Calendar, Rates: MustRates("EUR", nil)}
	const onset = 1100
	for _, c := range []struct {
		name  string
		every int64
		after event.Money // paid each time since the onset, 10 before
		at    int64       // days since the onset
		want  string
	}{
		{"pays as before", 1, 10, 30, "0.00"},
		{"pays half", 1, 5, 30, "150.00"},
		{"pays nothing", 1, 0, 30, "300.00"},
		{"never paid", 0, 0, 30, "0.00"},
		{"the bill of every four weeks is not due", 28, 10, 11, "0.00"},
		{"it was due, and was paid", 28, 10, 20, "0.00"},
		{"it was due, and was not paid", 28, 0, 28, "8.89"}, // 28 days at the 20 of the 63 days before the onset that are held
	} {
		r := &customer.Record{ID: "c"}
		for d := int64(1000); d < onset+c.at; d++ {
			r.Apply(&event.Event{Feed: event.Usage, Kind: event.KindUsage, Time: d*day + 1}, &p)
			m := event.Money(10)
			if d >= onset {
				m = c.after
			}
			if c.every != 0 && (d-1000)%c.every == 0 && m != 0 {
				r.Apply(&event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: d*day + 2, Amount: m * event.MoneyUnit}, &p)
			}
		}
		l := &customer.Lifecycle{Detector: UsageDropName, Since: onset * day, FiredAt: (onset + 10) * day, Day: onset + 10, Observed: event.MoneyUnit, Expected: 10 * event.MoneyUnit}
		if got := s.Lost(r, env, l, (onset+c.at)*day+3); got.String() != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
