package customer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"ebb/stream/event"
)

// anything is a random event of any kind.
func anything(rng *rand.Rand, at int64, id uint64) *event.Event {
	e := &event.Event{Time: max(at, 0), IDHash: id}
	word := func() []byte { return []byte{byte('a' + rng.IntN(8))} }
	amount := func() event.Money {
		if rng.IntN(200) == 0 {
			return event.Money(rng.Int64())
		}
		return event.Money(rng.IntN(1000) * tensInt(rng))
	}
	switch rng.IntN(10) {
	case 0, 1, 2:
		e.Feed, e.Kind, e.Quantity, e.Outcome = event.Usage, event.KindUsage, amount(), event.Outcome(rng.IntN(8))
		if rng.IntN(10) == 0 {
			e.Aggregate, e.PeriodStart = true, max(0, e.Time-rng.Int64N(20*dayMs))
			e.PeriodEnd = e.PeriodStart + 1 + rng.Int64N(20*dayMs)
		}
	case 3, 4, 5, 6:
		e.Feed, e.Kind = event.Payments, event.KindPurchase
		if rng.IntN(2) == 0 {
			e.Kind += event.Kind(rng.IntN(21))
		}
		e.Amount, e.Currency = amount(), []event.Currency{{}, {'E', 'U', 'R'}, {'U', 'S', 'D'}, {'J', 'P', 'Y'}}[rng.IntN(4)]
		e.Initiator, e.Recurring, e.Attempt = event.Initiator(rng.IntN(4)), rng.IntN(3) == 0, uint16(rng.IntN(4))
		e.Balance, e.Balanced = amount(), rng.IntN(3) == 0
		e.Balance -= amount()
		if rng.IntN(2) == 0 {
			e.Product, e.Category, e.NextAttempt, e.Due = word(), word(), e.Time+rng.Int64N(9*dayMs), e.Time+rng.Int64N(9*dayMs)
			e.FailureCode, e.Promotion, e.PromotionEnds = word(), word(), e.Time+rng.Int64N(30*dayMs)
		}
	case 7, 8:
		e.Feed, e.Kind = event.Complaints, event.KindInquiry+event.Kind(rng.IntN(18))
		e.ComplaintID, e.Priority, e.Level, e.Actor = word(), event.Priority(1+rng.IntN(5)), uint8(rng.IntN(4)), event.Actor(rng.IntN(3))
		if rng.IntN(2) == 0 {
			e.Group, e.Category, e.Due, e.Score, e.Scored = word(), word(), max(1, e.Time+rng.Int64N(4*dayMs)-dayMs), amount(), true
		}
	default:
		e.Feed, e.Kind = event.Customers, event.KindProfile
		e.Profile = &event.Profile{Tier: []string{"gold", "silver", "bronze", ""}[rng.IntN(4)], TimeZone: []string{"", "Europe/Berlin", "Asia/Tokyo", "Pacific/Apia"}[rng.IntN(4)]}
	}
	return e
}

// A record that is stored and read again after every event goes on as one that is not, whatever happens to it; and what is counted in it stays within reason.
func TestAStoredRecordGoesOn(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 9))
		zone, err := time.LoadLocation([]string{"UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia"}[rng.IntN(4)])
		if err != nil {
			t.Fatal(err)
		}
		p := DefaultParams(NewCalendar(zone))
		p.Horizon, p.Drop, p.Bills, p.Habits, p.Accounts, p.Tiers = 60, &DropParams{Usage: true}, true, true, true, []string{"gold", "silver", "bronze"}
		p.MaxSeen, p.MaxComplaints, p.MaxCurrencies = rng.IntN(10), 1+rng.IntN(6), 1+rng.IntN(3)
		late, step := []int64{1, dayMs, 10 * dayMs, 120 * dayMs}[rng.IntN(4)], []int64{hourMs, dayMs / 2, 3 * dayMs}[rng.IntN(3)]
		kept, stored := &Record{ID: "c"}, &Record{ID: "c"}
		at := int64(t0) * int64(rng.IntN(5)) / 4 // some begin in 1970
		for i := range 400 {
			at += rng.Int64N(step)
			e := anything(rng, at-rng.Int64N(late), uint64(i+1))
			other := &Record{ID: "o"}
			if rng.IntN(40) == 0 {
				for k := range rng.IntN(60) {
					other.Apply(anything(rng, at-rng.Int64N(100*dayMs), uint64(100_000*(i+1)+k)), &p)
				}
			}
			settles, armed := rng.IntN(30) == 0, at+rng.Int64N(dayMs)
			var out [2]Outcome
			for k, r := range []*Record{kept, stored} {
				out[k] = r.Apply(e, &p)
				if other.First != 0 {
					out[k] |= r.Join(other, &p)
				}
				if settles {
					r.EndDrop(event.Payments, i%2 == 0)
				}
				r.Armed, r.Deadline = armed, at
			}
			what := fmt.Sprintf("seed %d event %d, %v", seed, i, e.Kind)
			b := AppendRecord(nil, stored)
			if out[0] != out[1] || !bytes.Equal(b, AppendRecord(nil, kept)) {
				t.Fatalf("%s: stored meanwhile %v %+v\nelse %v %+v", what, out[1], stored, out[0], kept)
			}
			if EncodedDeadline(b) != armed {
				t.Fatalf("%s: armed at %d, not %d", what, EncodedDeadline(b), armed)
			}
			if err := DecodeRecord(b, stored); err != nil {
				t.Fatalf("%s: %v, of %+v", what, err, kept)
			}
			for _, h := range rhythmsOf(kept) {
				if days := uint64(h.Last - h.First); h.SumGapSquares > 2*days*days || h.SumLnGap > LnUnit*uint32(2*days+1) || h.LnGap < 0 {
					t.Fatalf("%s: %+v", what, h)
				}
			}
		}
	}
}

// rhythmsOf are all rhythms of a record.
func rhythmsOf(r *Record) (all []*Rhythm) {
	if s := r.Rhythms(); s != nil {
		all = append(all, &s.Purchases, &s.Activity)
	}
	for i := range r.Habits() {
		all = append(all, &r.Habits()[i].Rhythm)
	}
	return all
}
