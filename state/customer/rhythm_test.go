package customer

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ebb/stream/event"
)

func rhythmParams() Params {
	p := DefaultParams(NewCalendar(nil))
	p.Horizon = 60
	return p
}

func purchase(day int, amount event.Money, id uint64) *event.Event {
	return &event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: int64(day)*dayMs + hourMs, Amount: amount, IDHash: id}
}

// The sums are those of their definitions.
func TestRhythmOfDays(t *testing.T) {
	p := rhythmParams()
	r := &Record{}
	days := []int{10000, 10007, 10007, 10010, 10040}
	for i, day := range days {
		r.Apply(purchase(day, event.MoneyUnit*event.Money(i+1), uint64(i+1)), &p)
	}
	h := &r.Rhythms().Purchases
	if h.Count != 4 || h.First != 10000 || h.Last != 10040 || h.Gap != 30 || h.GapBefore != 3 || h.LongestGap() != 30 {
		t.Errorf("%+v", h)
	}
	if h.SumGapSquares != 7*7+3*3+30*30 || h.Spent != 15*event.MoneyUnit || h.LastAmount != 5 {
		t.Errorf("%+v", h)
	}
	near := func(name string, got, want, by float64) {
		t.Helper()
		if math.Abs(got-want) > by {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	near("sum of ln", float64(h.SumLnGap)/LnUnit, math.Log(7*3*30), 1e-3)
	for j, half := range []float64{15, 60, 240} {
		near("decayed", float64(h.Decayed[j]), 1+math.Exp2(-30/half)+math.Exp2(-33/half)+math.Exp2(-40/half), 1e-5)
	}
	near("decayed spend", float64(h.DecayedSpend), 5+4*math.Exp2(-30./60)+5*math.Exp2(-33./60)+1*math.Exp2(-40./60), 1e-4)
	near("decayed ln", float64(h.LnGap), math.Log(30)+.7*math.Log(3)+.49*math.Log(7), 1e-5)
	near("weight", h.LnGapWeight(), 1+.7+.49, 1e-9)
	if h.MeanGap() != 40./3 || h.Gaps() != 3 {
		t.Errorf("mean gap %v of %d", h.MeanGap(), h.Gaps())
	}
}

// What is no purchase of his own is none, and what he did about a complaint is activity.
func TestRhythmCountsOwnDoing(t *testing.T) {
	p := rhythmParams()
	r := &Record{}
	at := func(day int, feed event.Feed, kind event.Kind, change func(*event.Event)) {
		e := &event.Event{Feed: feed, Kind: kind, Time: int64(day) * dayMs, IDHash: uint64(day), Amount: event.MoneyUnit, ComplaintID: []byte("T")}
		if change != nil {
			change(e)
		}
		r.Apply(e, &p)
	}
	at(10000, event.Payments, event.KindPurchase, nil)
	at(10001, event.Payments, event.KindChargeFailed, nil)
	at(10002, event.Payments, event.KindPurchase, func(e *event.Event) { e.Initiator = event.InitiatorBank })
	at(10003, event.Payments, event.KindPurchase, func(e *event.Event) { e.Amount = 0 })
	at(10004, event.Payments, event.KindRefund, nil)
	at(10005, event.Usage, event.KindUsage, func(e *event.Event) { e.Quantity = 1 })
	at(10006, event.Complaints, event.KindOpened, nil)
	at(10007, event.Complaints, event.KindAssigned, nil)
	at(10008, event.Complaints, event.KindCustomerReplied, nil)
	if h := r.Rhythms().Purchases; h.Count != 1 || h.Last != 10000 {
		t.Errorf("purchases %+v", h)
	}
	if h := r.Rhythms().Activity; h.Count != 6 || h.Last != 10008 || h.Gap != 2 {
		t.Errorf("activity %+v", h)
	}
}

// Days that come late count where they belong: exactly in the sums that are integers, and in all else but for rounding where they are among the newest.
func TestRhythmOfLateDays(t *testing.T) {
	p := rhythmParams()
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 4))
		var events []*event.Event
		day := 10000
		for i := range 12 {
			day += 1 + rng.IntN(6)
			events = append(events, purchase(day, event.Money(1+rng.IntN(100))*event.MoneyUnit, uint64(i+1)))
			if rng.IntN(3) == 0 {
				events = append(events, purchase(day, event.MoneyUnit, uint64(i+100)))
			}
		}
		apply := func(events []*event.Event) *Rhythm {
			r := &Record{}
			for _, e := range events {
				r.Apply(e, &p)
			}
			return &r.Rhythms().Purchases
		}
		want := *apply(events)
		swapped := slices.Clone(events) // the newest come in another order
		n := len(swapped)
		swapped[n-2], swapped[n-1] = swapped[n-1], swapped[n-2]
		got := *apply(swapped)
		if diff := distance(&got, &want); diff > 1e-4 {
			t.Fatalf("seed %d: differ by %v\n got %+v\nwant %+v", seed, diff, got, want)
		}
		rng.Shuffle(n, func(i, j int) { swapped[i], swapped[j] = swapped[j], swapped[i] })
		got = *apply(swapped)
		if got.Count != want.Count || got.First != want.First || got.Last != want.Last || got.SumGapSquares != want.SumGapSquares ||
			got.SumLnGap != want.SumLnGap || got.Spent != want.Spent {
			t.Fatalf("seed %d:\n got %+v\nwant %+v", seed, got, want)
		}
		for j := range got.Decayed {
			if math.Abs(float64(got.Decayed[j]-want.Decayed[j])) > 1e-4 {
				t.Fatalf("seed %d: decayed %v, want %v", seed, got.Decayed, want.Decayed)
			}
		}
	}
}

// Of complaints the windows know nothing. What comes late between days of complaints takes no more out of the sums than is in them.
func TestRhythmOfLateDaysBesideComplaints(t *testing.T) {
	p := rhythmParams()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 5))
		r := &Record{}
		at := func(day int, feed event.Feed, kind event.Kind) {
			r.Apply(&event.Event{Feed: feed, Kind: kind, Time: int64(day) * dayMs, ComplaintID: []byte("T"), Quantity: 1}, &p)
		}
		at(10000, event.Usage, event.KindUsage)
		for day := 10001; day < 10020; day++ {
			at(day, event.Complaints, event.KindCustomerReplied)
		}
		at(10020, event.Usage, event.KindUsage)
		for range 1 + rng.IntN(5) {
			at(10001+rng.IntN(19), event.Usage, event.KindUsage)
		}
		if h := r.Rhythms().Activity; h.SumGapSquares > 20*20 || h.SumLnGap > 20*LnUnit || h.LnGap < 0 {
			t.Fatalf("seed %d: %+v", seed, h)
		}
	}
}

// distance is the largest difference of two rhythms, infinite where what is exact differs.
func distance(a, b *Rhythm) float64 {
	x, y := *a, *b
	d := 0.0
	for _, v := range [][2]*float32{
		{&x.LastAmount, &y.LastAmount},
		{&x.Decayed[0], &y.Decayed[0]},
		{&x.Decayed[1], &y.Decayed[1]},
		{&x.Decayed[2], &y.Decayed[2]},
		{&x.DecayedSpend, &y.DecayedSpend},
		{&x.LnGap, &y.LnGap},
	} {
		d = max(d, math.Abs(float64(*v[0]-*v[1]))/max(1, math.Abs(float64(*v[1]))))
		*v[0], *v[1] = 0, 0
	}
	if x != y {
		return math.Inf(1)
	}
	return d
}

// A record that was kept without rhythms has those of its windows from its next event on.
func TestRhythmsOfAnOlderRecord(t *testing.T) {
	p := rhythmParams()
	old := p
	old.Horizon = 0
	a, b := &Record{}, &Record{}
	for i := range 20 {
		e := purchase(10000+3*i, event.MoneyUnit, uint64(i+1))
		before := &old
		if i == 19 {
			before = &p
		}
		a.Apply(e, before)
		b.Apply(e, &p)
	}
	if *a.Rhythms() != *b.Rhythms() {
		t.Errorf("%+v\nwant %+v", a.Rhythms(), b.Rhythms())
	}
}

func TestRhythmsAreStored(t *testing.T) {
	p := rhythmParams()
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 5))
		r := &Record{ID: "a"}
		for i := range 40 {
			r.Apply(someEvent(rng, i), &p)
		}
		if seed%2 == 0 {
			r.Mark("b")
		}
		stored := AppendRecord(nil, r)
		var got Record
		if err := DecodeRecord(stored, &got); err != nil {
			t.Fatal(err)
		}
		if *got.Rhythms() != *r.Rhythms() || got.MergedInto() != r.MergedInto() {
			t.Fatalf("%+v\nwant %+v", got.Rhythms(), r.Rhythms())
		}
		for n := range stored {
			if DecodeRecord(stored[:n], &got) == nil {
				t.Fatalf("cut to %d of %d bytes: no error", n, len(stored))
			}
		}
		b := AppendRhythms(nil, r.Rhythms())
		again, rest, err := DecodeRhythms(append(b, 7))
		if err != nil || len(rest) != 1 || again != *r.Rhythms() {
			t.Fatalf("%+v, %d left, %v", again, len(rest), err)
		}
	}
}

// A part that is not known is one of a newer version, not damage.
func TestUnknownPartIsNewer(t *testing.T) {
	b := AppendRecord(nil, &Record{First: t0, Latest: t0, rhythms: &keptRhythms{}})
	at := len(b) - 3 // the bit set, then what the two empty rhythms share
	if b[at] != 1 {
		t.Fatalf("parts %x", b[at:])
	}
	newer := append(appendUvarint(bytes.Clone(b[:at]), 1<<40|1), b[at+1:]...)
	if err := DecodeRecord(newer, &Record{}); !errors.Is(err, ErrNewerVersion) {
		t.Errorf("%v", err)
	}
	b[at] = 0
	if err := DecodeRecord(b, &Record{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

// Two customers who turn out to be one have the first and the last day of both, the days of both, and money that adds up.
func TestRhythmsOfJoinedRecords(t *testing.T) {
	p := rhythmParams()
	a, b, one := &Record{ID: "a"}, &Record{ID: "b"}, &Record{}
	for i := range 60 {
		e := purchase(10000+7*i, event.MoneyUnit, uint64(i+1))
		to := a
		if i%3 == 0 {
			to = b
		}
		to.Apply(e, &p)
		one.Apply(e, &p)
	}
	before := *a.Rhythms()
	b.Join(a, &p)
	if *a.Rhythms() != before {
		t.Error("the other was changed")
	}
	got, want := b.Rhythms().Purchases, one.Rhythms().Purchases
	if got.Count != want.Count || got.First != want.First || got.Last != want.Last || got.Spent != want.Spent || got.Gap != want.Gap {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	for j := range got.Decayed {
		if math.Abs(float64(got.Decayed[j]-want.Decayed[j])) > 1e-4 {
			t.Errorf("decayed %v, want %v", got.Decayed, want.Decayed)
		}
	}
	if r := float64(got.SumLnGap) / float64(want.SumLnGap); r < .9 || r > 1.1 {
		t.Errorf("ln gaps %v of %v", got.SumLnGap, want.SumLnGap)
	}
	if r := float64(got.SumGapSquares) / float64(want.SumGapSquares); r < .8 || r > 1.3 {
		t.Errorf("squares %v of %v", got.SumGapSquares, want.SumGapSquares)
	}
	alone := &Record{ID: "c"}
	alone.Join(a, &p)
	if *alone.Rhythms() != before || alone.Rhythms() == a.Rhythms() {
		t.Error("a customer without rhythms does not have those of the other")
	}
}

// Counting a day does not allocate.
func TestRhythmsDoNotAllocate(t *testing.T) {
	p := rhythmParams()
	r := &Record{}
	for i := range 200 {
		r.Apply(purchase(10000+i, event.MoneyUnit, 0), &p)
	}
	day := 10200
	if n := testing.AllocsPerRun(200, func() {
		r.Apply(purchase(day, event.MoneyUnit, 0), &p)
		r.Apply(purchase(day-5, event.MoneyUnit, 0), &p)
		day++
	}); n > 0.1 {
		t.Errorf("%v allocations", n)
	}
}

// The logarithms of short gaps are looked up, and are those that longer ones are worked out by.
func TestShortGaps(t *testing.T) {
	for _, gap := range []int32{1, 2, shortGaps - 1, shortGaps, 400} {
		if got := lnGap(gap); got != float32(math.Log(float64(gap))) {
			t.Errorf("ln %d: %v", gap, got)
		}
	}
}
