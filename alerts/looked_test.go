package alerts_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/population/populationtest"
	"ebb/state/customer"
	"ebb/stream/event"
)

// busyCrowd is crowd with everything else that may happen to customers.
func busyCrowd(seed uint64, customers, days int) []event.Event {
	rng := rand.New(rand.NewPCG(seed, 17))
	var out []event.Event
	eur := event.Currency{'E', 'U', 'R'}
	for c := range customers {
		id := []byte(fmt.Sprintf("c-%03d", c))
		every := []float64{1, 2, 4, 7, 14}[rng.IntN(5)]
		stops, drops := days, days
		switch rng.IntN(4) {
		case 0:
			stops = days/3 + rng.IntN(days*2/3)
		case 1:
			drops = days/3 + rng.IntN(days*2/3)
		}
		add := func(e event.Event) {
			e.Customer = id
			e.Feed = e.Kind.Feed()
			out = append(out, e)
		}
		at := t0 + rng.Int64N(10*dayMs)
		next := 0.0
		balance := 2000.0
		for d := 0.0; ; {
			gap := every * (0.5 + rng.Float64())
			if rng.IntN(15) == 0 {
				gap *= 4
			}
			d += gap
			if int(d) >= days || int(d) >= stops {
				break
			}
			now := at + int64(d*float64(dayMs))
			amount := 20 + 20*rng.Float64()
			if int(d) >= drops {
				amount /= 6
			}
			e := event.Event{Kind: event.KindPurchase, Time: now, Amount: event.Money(amount * 10000), Currency: eur}
			e.Category = []byte([]string{"bread", "coffee", "tea"}[rng.IntN(3)])
			if int(d) > days/2 && c%3 == 0 {
				e.Category = []byte("bread")
			}
			balance -= amount
			if d > next {
				next = d + 30
				if int(d) < drops {
					balance += 1000
					add(event.Event{Kind: event.KindDeposit, Time: now + 1000, Amount: 1000 * 10000, Currency: eur, Category: []byte("salary"), Balance: event.Money(balance * 10000), Balanced: true})
				} else {
					balance = 10
				}
			}
			e.Balance, e.Balanced = event.Money(max(balance, 0)*10000), c%2 == 0
			add(e)
			if rng.IntN(2) == 0 {
				add(event.Event{Kind: event.KindUsage, Time: now + 3_600_000*int64(rng.IntN(40)), Quantity: event.Money(rng.IntN(90)) * 1000, Outcome: event.Outcome(rng.IntN(4))})
			}
			switch rng.IntN(25) {
			case 0:
				f := event.Event{Kind: event.KindChargeFailed, Time: now + 5*3_600_000, Recurring: true, Amount: 90000, Currency: eur, Attempt: uint16(rng.IntN(3))}
				if rng.IntN(2) == 0 {
					f.NextAttempt = f.Time + 3*dayMs
				}
				add(f)
				if rng.IntN(2) == 0 {
					add(event.Event{Kind: event.KindCharge, Time: f.Time + rng.Int64N(20*dayMs), Recurring: true, Amount: 90000, Currency: eur})
				}
			case 1:
				add(event.Event{Kind: event.KindInvoiceIssued, Time: now, Amount: 90000, Currency: eur, Due: now + 10*dayMs})
			case 2:
				add(event.Event{Kind: event.KindContactFailed, Time: now + 7000})
			case 3:
				add(event.Event{Kind: event.KindProfile, Time: now + 3000, Profile: &event.Profile{Tier: []string{"gold", "silver", "iron"}[rng.IntN(3)]}})
			case 4:
				if rng.IntN(3) == 0 {
					add(event.Event{Kind: event.KindSubscriptionCancelled, Time: now + 3000})
				}
			}
		}
		for k := range rng.IntN(5) {
			ticket := []byte(fmt.Sprintf("T-%d-%d", c, k))
			now := t0 + rng.Int64N(int64(days)*dayMs)
			kind := event.KindOpened
			if rng.IntN(4) == 0 {
				kind = event.KindInquiry
			}
			prio := event.Priority(1 + rng.IntN(5))
			add(event.Event{Kind: kind, Time: now, ComplaintID: ticket, Priority: prio, Group: []byte("desk"), Category: []byte([]string{"a", "b"}[rng.IntN(2)])})
			for range rng.IntN(9) {
				now += rng.Int64N(3 * dayMs)
				x := event.Event{Time: now, ComplaintID: ticket, Priority: prio}
				x.Kind = []event.Kind{event.KindResponded, event.KindCustomerReplied, event.KindPromised, event.KindPaused, event.KindResumed, event.KindReassigned, event.KindEscalated, event.KindResolved, event.KindReopened, event.KindOpened}[rng.IntN(10)]
				switch x.Kind {
				case event.KindPromised:
					x.Due = now + rng.Int64N(4*dayMs)
				case event.KindEscalated:
					x.Level = uint8(1 + rng.IntN(3))
				case event.KindReassigned:
					x.Group = []byte([]string{"lab", "desk"}[rng.IntN(2)])
				}
				add(x)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b event.Event) int { return int(a.Time - b.Time) })
	for i := range out {
		out[i].IDHash = uint64(i+1) * 0x9e3779b97f4a7c15
		if i > 0 && out[i].Time <= out[i-1].Time {
			out[i].Time = out[i-1].Time + 1
		}
	}
	return out
}

// TestLookedAtInBetween: a customer who is looked at more often than the detectors asked for is told of the same at the same times.
func TestLookedAtInBetween(t *testing.T) {
	model := detectors.Defaults()
	model.Silence.CriticalAfter = 80 * detectors.Day
	model.Tiers = []string{"gold", "silver", "iron"}
	model.Outflow.Enabled, model.PartialLapse.Enabled, model.UsageDrop.Enabled = true, true, true
	plain := model
	plain.Silence.Method, plain.SpendDrop.Method = detectors.Plain, detectors.Plain
	for name, cfg := range map[string]detectors.Config{"model": model, "plain": plain} {
		for _, late := range []int64{0, 26 * 3_600_000} {
			for _, seed := range []uint64{0, 1, 9} {
				t.Run(fmt.Sprintf("%s late %d %d", name, late, seed), func(t *testing.T) {
					events := busyCrowd(seed, 25, 200)
					end := events[len(events)-1].Time + 30*dayMs
					want := lookedAt(t, cfg, events, end, late, 0)
					if len(want) < 200 {
						t.Fatalf("only %d steps: the crowd is too quiet", len(want))
					}
					if got := lookedAt(t, cfg, events, end, late, 7*3_600_000+1_234_567); !slices.Equal(got, want) {
						t.Errorf("%d steps, want %d; %s", len(got), len(want), firstDifference(got, want))
					}
				})
			}
		}
	}
}

// lookedAt are the steps that come of events where payments and complaints are known so late, and everybody is looked at every so often, 0 for never, beside what the detectors ask for.
func lookedAt(t *testing.T, cfg detectors.Config, events []event.Event, end, late, every int64) (lines []string) {
	p := newPipeline(t, cfg, time.UTC)
	if learns := p.set.Population(); learns != nil {
		p.env.Population = populationtest.Weekly(*learns, int32(t0/dayMs))
	}
	p.env.Misses = missRates{customer.Hash([]byte("lab")): 0.9}
	p.known = func(at int64) (k [event.NumFeeds]int64) {
		for i := range k {
			k[i] = at
		}
		k[event.Payments] -= late
		k[event.Complaints] -= late
		return k
	}
	p.emit = func(r *customer.Record, s *alerts.Step, _, _ alerts.Message) {
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s at %s %s revision %d", r.ID, s.Detector, s.Subject, s.Kind, s.Severity, time.UnixMilli(s.At).UTC().Format(time.DateTime), s.Reason, s.Revision))
	}
	now := t0
	look := func(upTo int64) {
		for ; every != 0 && now <= upTo; now += every {
			p.tickAll(now)
			for _, r := range p.customers {
				p.decide(r, now, nil)
			}
		}
	}
	for i := range events {
		look(events[i].Time - 1)
		p.apply(&events[i])
	}
	look(end)
	p.tickAll(end)
	slices.Sort(lines)
	return lines
}
