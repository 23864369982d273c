package detectors

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"ebb/state/customer"
	"ebb/stream/event"
)

// banker is a simulated account: a salary once a month, and money spent on most days.
type banker struct {
	salary  float64
	saved   float64 // balance at the beginning
	share   float64 // of the salary that is spent
	bill    int     // day of one big bill, 0 for none
	leaves  int     // day from which the salary no longer comes, 0 for never
	empties int     // day on which the account is emptied, 0 for never
}

// fired runs an account for so many days, and returns the day on which outflow first fired, -1 for never.
func (b *banker) fired(t *testing.T, seed uint64, days int) int {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 77))
	cfg := Defaults()
	cfg.Outflow.Enabled = true
	d := newOutflow(cfg.Outflow, cfg.Horizon, cfg.LapseAfter)
	cal := customer.NewCalendar(time.UTC)
	p := customer.DefaultParams(cal)
	p.Accounts = true
	env := &Env{Calendar: cal, Rates: MustRates("EUR", nil)}
	r := &customer.Record{ID: "c"}
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	balance, id := b.saved, uint64(0)
	move := func(at int64, kind event.Kind, amount float64) {
		if kind == event.KindDeposit {
			balance += amount
		} else {
			balance -= amount
		}
		id++
		e := &event.Event{
			Feed: event.Payments, Kind: kind, Time: at, IDHash: id, Amount: event.Money(math.Round(amount * 10_000)),
			Balance: event.Money(math.Round(balance * 10_000)), Balanced: true,
		}
		r.Apply(e, &p)
	}
	for day := range days {
		at := start.AddDate(0, 0, day)
		if at.Day() == 25 && (b.leaves == 0 || day < b.leaves) {
			move(at.UnixMilli(), event.KindDeposit, b.salary)
		}
		if spend := b.share * b.salary / 30 * rng.ExpFloat64(); rng.IntN(3) != 0 && balance > spend*1.5 {
			move(at.UnixMilli()+1000, event.KindPurchase, spend*1.5)
		}
		if b.bill != 0 && day == b.bill {
			move(at.UnixMilli()+2000, event.KindWithdrawal, 0.85*balance)
		}
		if b.empties != 0 && day == b.empties {
			move(at.UnixMilli()+2000, event.KindTransferOut, 0.98*balance)
		}
		env.Now = at.Add(12 * time.Hour).UnixMilli()
		for f := range env.KnownUntil {
			env.KnownUntil[f] = env.Now
		}
		out, _ := d.Evaluate(r, env, nil, nil)
		if len(out) != 0 && out[0].State == Firing {
			return day
		}
	}
	return -1
}

// Who lives from one pay day to the next, saves, or pays one big bill does not move his money away.
func TestOutflowOfThoseWhoStay(t *testing.T) {
	for _, c := range []struct {
		rule string
		banker
	}{
		{"from pay day to pay day", banker{salary: 2500, saved: 200, share: 1}},
		{"with savings", banker{salary: 2500, saved: 20_000, share: 0.97}},
		{"one big bill", banker{salary: 2500, saved: 20_000, share: 0.97, bill: 200}},
		{"a big bill and little left", banker{salary: 2500, saved: 60_000, share: 0.9, bill: 200}},
	} {
		for seed := range uint64(20) {
			if day := c.fired(t, seed, 540); day >= 0 {
				t.Errorf("%s, seed %d: fired on day %d", c.rule, seed, day)
			}
		}
	}
}

// Who has his salary paid elsewhere is found once a pay day is missing and the money is spent, who empties his account five weeks after.
func TestOutflowOfThoseWhoLeave(t *testing.T) {
	for _, c := range []struct {
		rule string
		banker
		within int // days
	}{
		{"the salary comes no more", banker{salary: 2500, saved: 500, share: 1, leaves: 200}, 105},
		{"the account is emptied, the salary goes elsewhere", banker{salary: 2500, saved: 8000, share: 1, leaves: 200, empties: 200}, 50},
	} {
		late := 0
		for seed := range uint64(20) {
			day := c.fired(t, seed, 400)
			if day < 200 {
				t.Errorf("%s, seed %d: fired on day %d", c.rule, seed, day)
			} else {
				late = max(late, day-200)
			}
		}
		t.Logf("%s: %d days after the last salary at most", c.rule, late)
		if late > c.within {
			t.Errorf("%s: %d days", c.rule, late)
		}
	}
}
