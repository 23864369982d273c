package customer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"ebb/stream/event"
)

// Two records that are joined hold what one would, to whom all had happened.
func TestJoinedRecordsAreOne(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 9))
		p := DefaultParams(NewCalendar(nil))
		p.MaxSeen = 256
		a, b, one := &Record{ID: "a"}, &Record{ID: "b"}, &Record{ID: "b"}
		for i := range 150 {
			e := someEvent(rng, i)
			to := a
			if rng.IntN(2) == 0 {
				to = b
			}
			to.Apply(e, &p)
			one.Apply(e, &p)
		}
		b.Join(a, &p)
		for _, r := range []*Record{b, one} {
			slices.SortFunc(r.Seen, func(x, y SeenID) int { return int(x.Hash) - int(y.Hash) })
			slices.SortFunc(r.Complaints, func(x, y Complaint) int { return bytes.Compare([]byte(x.ID), []byte(y.ID)) })
			r.prune(t0 + 400*dayMs)
		}
		// The place of a currency follows from which came first.
		if got, want := contents(b), contents(one); got != want {
			t.Fatalf("seed %d:\n got %s\nwant %s", seed, got, want)
		}
	}
}

func someEvent(rng *rand.Rand, i int) *event.Event {
	at := t0 + int64(i)*dayMs/2 + rng.Int64N(dayMs/2)
	e := &event.Event{Time: at, IDHash: uint64(i + 1)}
	switch rng.IntN(4) {
	case 0:
		e.Feed, e.Kind, e.Quantity = event.Usage, event.KindUsage, event.Money(rng.IntN(1000))
	case 1:
		e.Feed, e.Kind, e.ComplaintID, e.Priority = event.Complaints, event.KindOpened, fmt.Appendf(nil, "T-%d", i), event.PriorityNormal
	default:
		e.Feed, e.Kind, e.Amount = event.Payments, event.KindPurchase, event.Money(1+rng.IntN(100000))
		e.Currency = [...]event.Currency{{'E', 'U', 'R'}, {'U', 'S', 'D'}, {'C', 'H', 'F'}}[rng.IntN(3)]
		if rng.IntN(5) == 0 {
			e.Kind = event.KindRefund
		}
	}
	return e
}

// contents is what a record says, whatever the places of its currencies.
func contents(r *Record) string {
	var spend []string
	for _, s := range r.Spend {
		spend = append(spend, fmt.Sprint(s.Day(), r.Currencies[s.Currency()], s.Purchases, s.Refunds, s.Amount))
	}
	slices.Sort(spend)
	return fmt.Sprint(r.First, r.Latest, r.LastActivity, r.Cancelled, r.Usage, spend, r.Seen, r.Complaints, r.Overflows())
}

// What the caps of a record do not hold is counted, and never makes it larger than they allow.
func TestJoinKeepsTheCaps(t *testing.T) {
	p := DefaultParams(NewCalendar(nil))
	p.MaxComplaints, p.MaxSeen, p.MaxCurrencies = 4, 8, 2
	fill := func(name string, cur [2]event.Currency, late int64) *Record {
		r := &Record{ID: name}
		for i := range 40 {
			at := t0 + late + int64(i)*60_000
			r.Apply(&event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: at, Amount: 5, Currency: cur[i%2], IDHash: uint64(i) + uint64(name[0])*1000}, &p)
		}
		for i := range 3 {
			r.Apply(&event.Event{Feed: event.Complaints, Kind: event.KindOpened, Time: t0 + late + int64(i), ComplaintID: fmt.Appendf(nil, "%s-%d", name, i)}, &p)
		}
		return r
	}
	eur, usd, chf, gbp := event.Currency{'E', 'U', 'R'}, event.Currency{'U', 'S', 'D'}, event.Currency{'C', 'H', 'F'}, event.Currency{'G', 'B', 'P'}
	a, b := fill("a", [2]event.Currency{eur, usd}, 0), fill("b", [2]event.Currency{chf, gbp}, 0)
	before := b.Overflows()
	out := b.Join(a, &p)
	if len(b.Seen) != 8 || len(b.Complaints) != 4 || len(b.Currencies) != 2 {
		t.Errorf("%d ids, %d complaints, %d currencies", len(b.Seen), len(b.Complaints), len(b.Currencies))
	}
	if !out.Has(SeenOverflow | ComplaintOverflow | CurrencyOverflow) {
		t.Errorf("outcome %s", out)
	}
	after := b.Overflows()
	if after.Currencies-before.Currencies != 40 || after.Complaints != before.Complaints+2 || after.Seen <= before.Seen {
		t.Errorf("overflows %+v after %+v", after, before)
	}
	old := fill("c", [2]event.Currency{chf, gbp}, -200*dayMs)
	if out := b.Join(old, &p); !out.Has(TooOld) || b.Overflows().TooOld != 40 {
		t.Errorf("outcome %s, overflows %+v", out, b.Overflows())
	}
	big := &Record{ID: "big"}
	big.Apply(&event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: t0, Amount: maxMoney, Currency: chf, IDHash: 7}, &p)
	if out := b.Join(big, &p); !out.Has(SumOverflow) || b.Spend[0].Amount != maxMoney {
		t.Errorf("outcome %s, amount %v", out, b.Spend[0].Amount)
	}
}

// A mark survives its stored form, which older versions refuse as newer; a record without one is as it was.
func TestMarkIsStored(t *testing.T) {
	r := &Record{ID: "a", First: t0, Latest: t0, LastActivity: t0}
	plain := AppendRecord(nil, r)
	r.Mark("b")
	if !r.Closed() || r.MergedInto() != "b" {
		t.Error("a marked customer is not closed")
	}
	r.Leave("b")
	stored := AppendRecord(nil, r)
	if plain[0] != 1 || stored[0] != codecVersionMerged {
		t.Errorf("versions %d and %d", plain[0], stored[0])
	}
	var got Record
	if err := DecodeRecord(stored, &got); err != nil || got.MergedInto() != "b" || got.First != 0 || got.Latest != t0 {
		t.Errorf("%+v, %v", got, err)
	}
	got.Return()
	if again := AppendRecord(nil, &got); again[0] != 1 {
		t.Errorf("version %d without a mark", again[0])
	}
	for n := range stored {
		if err := DecodeRecord(stored[:n], &got); err == nil {
			t.Fatalf("cut to %d of %d bytes: no error", n, len(stored))
		}
	}
}
