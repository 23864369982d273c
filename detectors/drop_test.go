package detectors

import (
	"testing"

	"ebb/state/customer"
	"ebb/stream/event"
)

// When a drop is told follows from the payments alone: a customer who is looked at twice a day, for whatever reason, is told of on the same day as one whom nobody
// looks at before he is due.
func TestADropIsToldOnTheSameDayHoweverOftenSomebodyLooks(t *testing.T) {
	cfg := Defaults()
	cfg.SpendDrop.FalseAlarms = 0.1
	cfg.Silence.Enabled, cfg.ComplaintUnresolved.Enabled, cfg.Friction.Enabled, cfg.PaymentTrouble.Enabled = false, false, false, false
	fires := func(begin, every int64, history int, often bool) int32 {
		cfg := cfg
		cfg.SpendDrop.MinHistoryDays = history
		set, err := NewSet(cfg)
		if err != nil {
			t.Fatal(err)
		}
		env := &Env{Calendar: customer.NewCalendar(nil), Rates: MustRates("EUR", nil)}
		p := customer.DefaultParams(env.Calendar)
		set.Keep(&p, env)
		r := &customer.Record{ID: "c"}
		look := func(at int64, trigger *event.Event) (day int32, next int64) {
			env.Now = at
			for i := range env.KnownUntil {
				env.KnownUntil[i] = at
			}
			signals, next := set.Evaluate(r, env, trigger, nil)
			for i := range signals {
				if signals[i].State == Firing {
					day = signals[i].Day
				}
			}
			return day, next
		}
		due, seen := int64(0), begin
		for i := range int64(120) {
			at := begin + i*every*dayMs + dayMs/2
			if often {
				for seen += dayMs / 2; seen < at; seen += dayMs / 2 {
					if day, _ := look(seen, nil); day != 0 {
						return day
					}
				}
				seen = at
			}
			for due != 0 && due <= at {
				day, next := look(due, nil)
				if day != 0 {
					return day
				}
				due = next
			}
			e := event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: at, IDHash: uint64(i + 1), Amount: 30 * event.MoneyUnit, Currency: event.Currency{'E', 'U', 'R'}}
			if i >= 60 {
				e.Amount = 3 * event.MoneyUnit
			}
			r.Apply(&e, &p)
			day, next := look(at, &e)
			if day != 0 {
				return day
			}
			due = next
		}
		return 0
	}
	for every := int64(1); every <= 5; every++ {
		for phase := range int64(3) { // of the days on which silence is priced
			begin := t0 - t0%dayMs + phase*dayMs
			known := int(60*every) + 30 // the drop is plain for long before he is known for long enough
			for _, history := range []int{cfg.SpendDrop.MinHistoryDays, known} {
				seldom, often := fires(begin, every, history, false), fires(begin, every, history, true)
				if seldom == 0 || seldom != often {
					t.Errorf("a payment every %d days, phase %d, %d days of history: told as of day %d, and of day %d when he is looked at often", every, phase, history, seldom, often)
				}
				if first := int32(begin/dayMs) + int32(history); seldom < first {
					t.Errorf("a payment every %d days, phase %d: told as of day %d, before day %d", every, phase, seldom, first)
				}
			}
		}
	}
}
