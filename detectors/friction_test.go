package detectors

import (
	"math"
	"math/rand/v2"
	"testing"

	"ebb/state/customer"
	"ebb/stream/event"
)

func TestBetaBinomialTail(t *testing.T) {
	// With a = b = 1 every number of 0 to n is as likely.
	for k := range 12 {
		if got, want := betaBinomialTail(k, 11, 1, 1), float64(12-k)/12; math.Abs(got-want) > 1e-9 {
			t.Errorf("%d or more of 11: %v, want %v", k, got, want)
		}
	}
	// With a and b large it is the binomial distribution: 3 or more of 10 at one half.
	if got, want := betaBinomialTail(3, 10, 1e6, 1e6), 1-56.0/1024; math.Abs(got-want) > 1e-5 {
		t.Errorf("%v, want %v", got, want)
	}
	if betaBinomialTail(5, 4, 1, 1) != 0 || betaBinomialTail(0, 0, 1, 1) != 1 {
		t.Error("more than all, or nothing of nothing")
	}
}

// frictionYears lives through some customers, and counts how often each is alerted, and after how many days from the change on.
func frictionYears(t *testing.T, customers, days int, uses float64, failing func(day int) float64, change int) (alarms int, delays []int) {
	t.Helper()
	d := newFriction(DefaultFriction(), 60*Day)
	p := customer.DefaultParams(customer.NewCalendar(nil))
	env := regularEnvUnknown(&p, 0)
	start := int64(1_767_225_600_000)
	hash := uint64(0)
	for c := range customers {
		rng := rand.New(rand.NewPCG(uint64(c), 7))
		r := &customer.Record{ID: "c"}
		open, found := false, false
		for day := range days {
			for n := poisson(rng, uses); n > 0; n-- {
				hash++
				e := event.Event{Feed: event.Usage, Kind: event.KindUsage, Time: start + int64(day)*Day.Ms() + rng.Int64N(Day.Ms()), IDHash: hash, Outcome: event.OutcomeOK}
				if rng.Float64() < failing(day) {
					e.Outcome = event.OutcomeDropped
				}
				r.Apply(&e, &p)
				env.Now = e.Time
				sigs, _ := d.Evaluate(r, env, &e, nil)
				for _, s := range sigs {
					switch {
					case s.State == Firing && !open:
						open = true
						r.Lifecycles = []customer.Lifecycle{{Detector: FrictionName, FiredAt: s.At, Since: s.Since, Severity: uint8(s.Severity), Cause: s.Cause}}
						if alarms++; day >= change && !found {
							found = true
							delays = append(delays, day-change)
						}
					case s.State == Clear:
						open, r.Lifecycles = false, nil
					}
				}
			}
		}
	}
	return alarms, delays
}

func poisson(rng *rand.Rand, mean float64) int {
	n, p := 0, math.Exp(-mean)
	for u := rng.Float64(); u > p; u *= rng.Float64() {
		n++
	}
	return n
}

// TestFrictionFalseAlarms: customers whose uses fail as they always did are alerted no more often than the configuration says.
func TestFrictionFalseAlarms(t *testing.T) {
	for _, c := range []struct{ uses, failing float64 }{{0.5, 0.02}, {3, 0.02}, {3, 0.1}, {12, 0.05}, {1, 0.3}} {
		const customers, days = 30, 730
		alarms, _ := frictionYears(t, customers, days, c.uses, func(int) float64 { return c.failing }, days)
		rate := float64(alarms) / (customers * days / 365)
		t.Logf("%.1f uses a day of which %.0f %% fail: %.3f alarms a customer-year", c.uses, 100*c.failing, rate)
		if rate > DefaultFriction().FalseAlarms {
			t.Errorf("%.1f uses a day of which %.0f %% fail: %.3f alarms a customer-year", c.uses, 100*c.failing, rate)
		}
	}
}

// TestFrictionIsFound: a customer whose failures rise from 3 % to 30 % is found within two weeks, most within one.
func TestFrictionIsFound(t *testing.T) {
	const customers, change = 40, 100
	_, delays := frictionYears(t, customers, change+28, 3, func(day int) float64 {
		if day >= change {
			return 0.3
		}
		return 0.03
	}, change)
	within := 0
	for _, d := range delays {
		if d <= 7 {
			within++
		}
	}
	if within < customers/2 || len(delays) < customers*9/10 {
		t.Errorf("of %d customers %d are found, %d within a week", customers, len(delays), within)
	}
}
