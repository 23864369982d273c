package customer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ebb/stream/event"
)

var update = flag.Bool("update", false, "write testdata again")

// randomRecord is a record that a random history makes, with some of everything.
func randomRecord(rng *rand.Rand) *Record {
	p := testParams()
	p.KeptDays = MinKeptDays + rng.IntN(30)
	r := &Record{ID: "c-42"}
	span := int64(1+rng.IntN(200)) * dayMs
	for range rng.IntN(200) {
		at := t0 + rng.Int64N(span)
		var e *event.Event
		switch rng.IntN(6) {
		case 0:
			e = pay(at, event.KindPurchase, event.Money(rng.IntN(1000)*tensInt(rng)), []string{"EUR", "USD", ""}[rng.IntN(3)])
		case 1:
			e = pay(at, event.KindRefund, event.Money(rng.IntN(1000)*tensInt(rng)), "EUR")
		case 2:
			kind := event.KindOpened + event.Kind(rng.IntN(int(event.KindMerged-event.KindOpened)))
			e = complain(at, kind, fmt.Sprintf("T-%d", rng.IntN(10)), event.Priority(1+rng.IntN(5)))
		case 3:
			e = &event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: at, Profile: &event.Profile{
				Tier: "gold", TimeZone: []string{"", "Europe/Berlin", "Asia/Tokyo"}[rng.IntN(3)], Since: rng.Int64N(t0), Margin: -3,
			}}
		case 4:
			r.MarkBlind(event.Feed(rng.IntN(3)), at)
			continue
		default:
			e = use(at, event.Money(rng.IntN(1000)*tensInt(rng)))
		}
		r.Apply(e, &p)
	}
	if rng.IntN(2) == 0 {
		r.Deadline = t0 + rng.Int64N(span)
	}
	if r.Armed = t0 + rng.Int64N(span); rng.IntN(2) == 0 {
		r.Armed = r.Deadline
	}
	r.Lapsed, r.Quarantined, r.Poison = rng.IntN(3) == 0, rng.IntN(9) == 0, uint8(rng.IntN(3))
	if rng.IntN(3) == 0 {
		r.Decided, r.Cancelled = t0+rng.Int64N(span), t0+rng.Int64N(span)
	}
	for i := range rng.IntN(4) {
		l := Lifecycle{
			Detector: []string{"silence", "spend_drop", "own"}[i%3], Subject: strings.Repeat("x", rng.IntN(3)), FiredAt: t0 + rng.Int64N(span),
			Since: t0 + rng.Int64N(span), ChangedAt: t0 + rng.Int64N(span), Revision: rng.Uint32(), Severity: uint8(rng.IntN(4)),
			Cause: uint8(rng.IntN(3)), Unpublished: rng.IntN(2) == 0, Day: int32(rng.IntN(30000)),
			Observed: event.Money(rng.Int64()), Expected: -event.Money(rng.Int64()), AtRisk: math.MinInt64,
		}
		l.AlertID[3] = byte(i)
		if l.Unpublished && rng.IntN(3) == 0 {
			l.Host[3] = byte(1 + rng.IntN(4))
		}
		if rng.IntN(4) == 0 {
			l.Cohort = &Cohort{By: uint8(rng.IntN(5)), Value: strings.Repeat("y", rng.IntN(9)), Opened: t0 + rng.Int64N(span)}
		}
		r.Lifecycles = append(r.Lifecycles, l)
	}
	return r
}

// eventful is a random record with complaints of which everything is told.
func eventful(rng *rand.Rand) *Record {
	r, p := randomRecord(rng), testParams()
	at := r.Latest
	for range rng.IntN(60) {
		at += rng.Int64N(3*dayMs) - dayMs
		e := complain(at, event.KindInquiry+event.Kind(rng.IntN(int(event.KindMerged-event.KindInquiry))), fmt.Sprintf("T-%d", rng.IntN(5)), event.Priority(1+rng.IntN(5)))
		if rng.IntN(2) == 0 {
			e.Group, e.Category, e.Due = []byte{byte('a' + rng.IntN(3))}, []byte{byte('a' + rng.IntN(3))}, at+rng.Int64N(dayMs)
			e.Score, e.Scored = event.Money(rng.IntN(50_000)), true
		}
		r.Apply(e, &p)
		p.Bills, p.Accounts, p.Habits, p.Tiers = true, true, true, []string{"gold", "silver"}
		if rng.IntN(20) == 0 {
			r.Apply(&event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: at, Profile: &event.Profile{Tier: p.Tiers[rng.IntN(2)]}}, &p)
		}
		e = owe(rng, at)
		if rng.IntN(3) == 0 {
			e.Promotion, e.PromotionEnds = []byte{byte('a' + rng.IntN(3))}, at+rng.Int64N(30*dayMs)
		}
		r.Apply(e, &p)
		e = pay(at, event.KindDeposit+event.Kind(rng.IntN(5)), event.Money(rng.IntN(1000)*tensInt(rng)), "EUR")
		e.Balance, e.Balanced = event.Money(rng.Int64N(2000)-1000), rng.IntN(2) == 0
		r.Apply(e, &p)
		e = use(at, 1)
		e.Outcome = event.Outcome(rng.IntN(8))
		r.Apply(e, &p)
	}
	return r
}

func tensInt(rng *rand.Rand) int { return int(tens[rng.IntN(len(tens))]) }

// same compares records but for the room in their slices.
func same(t *testing.T, got, want *Record) {
	t.Helper()
	norm := func(r *Record) Record {
		c := *r
		c.Usage, c.Spend, c.Currencies = append([]UsageDay(nil), c.Usage...), append([]SpendDay(nil), c.Spend...), append([]event.Currency(nil), c.Currencies...)
		c.Seen, c.Complaints = append([]SeenID(nil), c.Seen...), append([]Complaint(nil), c.Complaints...)
		c.Lifecycles = append([]Lifecycle(nil), c.Lifecycles...)
		return c
	}
	if g, w := norm(got), norm(want); !reflect.DeepEqual(g, w) {
		t.Fatalf("got  %+v\nwant %+v", g, w)
	}
}

func TestCodecRoundTrip(t *testing.T) {
	var into Record
	into.ID = "c-42"
	for seed := range uint64(500) {
		r := eventful(rand.New(rand.NewPCG(seed, 3)))
		b := AppendRecord(nil, r)
		if err := DecodeRecord(b, &into); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		same(t, &into, r)
		if again := AppendRecord([]byte("before"), &into); !bytes.Equal(again[6:], b) {
			t.Fatalf("seed %d: the stored form is not canonical", seed)
		}
		if got := EncodedDeadline(b); got != r.Armed {
			t.Fatalf("seed %d: armed %d, want %d", seed, got, r.Armed)
		}
	}
}

func TestCodecDamage(t *testing.T) {
	var into Record
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 4))
		b := AppendRecord(nil, eventful(rng))
		for n := range b {
			if err := DecodeRecord(b[:n], &into); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("seed %d: cut at %d of %d: %v", seed, n, len(b), err)
			}
		}
		if err := DecodeRecord(append(bytes.Clone(b), 0), &into); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("seed %d: a byte too many: %v", seed, err)
		}
		for range 300 {
			c := bytes.Clone(b)
			c[1+rng.IntN(len(c)-1)] ^= byte(1 + rng.IntN(255))
			if err := DecodeRecord(c, &into); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerVersion) {
				t.Fatal(err)
			}
			EncodedDeadline(c)
		}
		b[0] = codecVersion + 1
		if err := DecodeRecord(b, &into); !errors.Is(err, ErrNewerVersion) {
			t.Fatalf("a newer version: %v", err)
		}
		if into.First != 0 || len(into.Usage) != 0 {
			t.Fatal("a record that could not be read is empty")
		}
	}
}

// TestCodecStaysReadable: what version 1 wrote once is read for ever, and means the same.
func TestCodecStaysReadable(t *testing.T) {
	path := filepath.Join("testdata", "record-v1.hex")
	nextHash = 1_000_000
	want := randomRecord(rand.New(rand.NewPCG(77, 77)))
	want.desk = nil // not kept at that time
	if *update {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(AppendRecord(nil, want))+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	got := Record{ID: "c-42"}
	if err := DecodeRecord(b, &got); err != nil {
		t.Fatal(err)
	}
	same(t, &got, want)
}

// TestCodecBound: a record whose every cap is reached, with the longest numbers, is not larger than promised.
func TestCodecBound(t *testing.T) {
	r := &Record{First: 1, Latest: math.MaxInt64 / 2, LastActivity: 1, Decided: 1, Cancelled: 1, Deadline: 1, Armed: 2, Poison: 3, rare: &rare{
		zone: strings.Repeat("z", maxText), nextZone: strings.Repeat("z", maxText), nextFrom: math.MaxInt64, profileAt: math.MaxInt64,
		overflows: Overflows{math.MaxUint32, math.MaxUint32, math.MaxUint32, math.MaxUint32, math.MaxUint32},
		blind:     new([event.NumFeeds]Blind),
	}}
	for _, s := range profileTexts(&r.rare.profile) {
		*s = strings.Repeat("p", maxText)
	}
	for i := range r.rare.blind {
		r.rare.blind[i] = Blind{Since: math.MaxInt64, Last: 1, Until: math.MaxInt64}
	}
	for i := range MaxKeptDays {
		day := int32(maxDay - MaxKeptDays + i)
		r.Usage = append(r.Usage, UsageDay{Day: day, Count: math.MaxUint32, Quantity: math.MinInt64 + 1})
		for cur := range MaxCurrencies {
			r.Spend = append(r.Spend, SpendDay{key: uint32(day)<<8 | uint32(cur), Purchases: math.MaxUint16, Refunds: math.MaxUint16, Amount: math.MinInt64 + 1})
		}
	}
	r.Currencies = make([]event.Currency, MaxCurrencies)
	for i := range MaxSeen {
		r.Seen = append(r.Seen, SeenID{Hash: uint64(i), Minute: 0})
	}
	id := strings.Repeat("i", event.MaxCustomerBytes)
	for range MaxComplaints {
		c := Complaint{ID: id, Opened: math.MaxInt64, Responded: 1, Resolved: 1, PausedAt: 1, PausedFor: math.MaxInt64, Reopened: math.MaxUint16}
		const newest = 253_402_300_799_999 // the last time that a record may have
		c.Case = Case{Group: strings.Repeat("g", maxGroup), GroupAt: newest, Category: math.MaxUint32, Before: newest, Due: newest, Reassigned: 255}
		for i := range int64(MaxAllSteps / MaxComplaints) {
			c.Case.Steps = append(c.Case.Steps, Step{At: i % 2 * newest, Arg: 1 << argBits, Kind: StepRated})
		}
		r.Complaints = append(r.Complaints, c)
	}
	for i := range troubleDays {
		n := uint16(math.MaxUint16)
		r.desked().days = append(r.desk.days, Trouble{Day: int32(maxDay - troubleDays + i), Failed: [numFailures]uint16{n, n, n, n, n, n}, Unreached: n, Complaints: n})
	}
	r.desk.broken, r.desk.ends = slices.Repeat([]int64{math.MinInt64}, maxBroken), slices.Repeat([]ended{{math.MinInt64, math.MaxUint32}}, maxEnds)
	const detector = 32 // bytes: the longest name that a detector may have
	for range MaxLifecycles {
		r.Lifecycles = append(r.Lifecycles, Lifecycle{
			Detector: strings.Repeat("d", detector), Subject: id, FiredAt: math.MaxInt64, Since: 1, ChangedAt: 1, Revision: math.MaxUint32,
			Observed: math.MinInt64, Expected: math.MinInt64, AtRisk: math.MinInt64, Day: math.MaxInt32,
			Work: &Work{
				AcknowledgedAt: 1, AcknowledgedBy: id[:MaxActor], Assignee: id[:MaxActor], ContactedAt: 1, ContactedBy: id[:MaxActor], SnoozedUntil: 1, RemindedAt: 1, Note: id[:MaxNote],
			},
		})
	}
	for range MaxClosings {
		a := r.acts()
		a.closings = append(a.closings, Closing{Detector: strings.Repeat("d", detector), Subject: id, At: math.MaxInt64, Until: 1})
	}
	for range MaxPredictions {
		r.Predict(Prediction{Detector: strings.Repeat("d", detector), At: math.MaxInt64, Due: 1, Probability: math.MaxUint16, Expected: math.MinInt64, Habit: math.MaxUint8})
	}
	r.bills = &bills{}
	for i := range int64(maxBills) {
		r.bills.steps = append(r.bills.steps, billStep{
			at: (i + 1) * (math.MaxInt64 / (maxBills + 1)), next: 1, amount: math.MinInt64, kind: BillFailed, attempt: math.MaxUint16, code: id[:maxBillCode],
		})
	}
	r.habits = &habits{}
	for i := range r.habits.at {
		r.habits.at[i] = Habit{Kind: lastHabit, Name: id[:maxHabitName], Rhythm: Rhythm{
			SumGapSquares: math.MaxUint64, Spent: math.MaxInt64, SumLnGap: math.MaxUint32, Last: maxRhythmDay, Count: math.MaxUint16,
			Gap: math.MaxUint16, GapBefore: math.MaxUint16, LongestBefore: math.MaxUint16, LastAmount: 1, DecayedSpend: 1, LnGap: 1,
		}}
	}
	r.account = &account{at: math.MaxInt64, balance: math.MinInt64, moved: math.MinInt64}
	for i := range int32(accountWeeks + 2) {
		r.account.weeks = append(r.account.weeks, accountWeek{maxDay - 100 + i, math.MinInt64, math.MinInt64, math.MinInt64, math.MinInt64})
	}
	r.tierFall = &TierFall{id[:maxText], math.MaxInt64}
	r.offers = &Offers{math.MaxUint32, math.MaxUint32, math.MaxInt64, id[:maxOffer]}
	for i := range int64(maxFired + 1) {
		r.RememberFired("d", id, (i+1)*(math.MaxInt64/(maxFired+2)))
	}
	if n := len(AppendRecord(nil, r)); n > MaxEncoded {
		t.Fatalf("%d bytes, promised are %d", n, MaxEncoded)
	} else {
		t.Logf("%d of %d bytes", n, MaxEncoded)
	}
}

// FuzzDecodeRecord: no input makes the decoder panic, and what it takes for a record has a stored form that means the same.
func FuzzDecodeRecord(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(AppendRecord(nil, eventful(rand.New(rand.NewPCG(seed, 9)))))
	}
	over := randomRecord(rand.New(rand.NewPCG(1, 9)))
	over.RememberFired("d", "", t0)
	over.RememberFired("d", "", t0+5)
	f.Add(AppendRecord(nil, over))
	f.Add([]byte{})
	f.Add([]byte{2, 0})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again Record
		EncodedDeadline(b)
		if err := DecodeRecord(b, &r); err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerVersion) {
				t.Fatal(err)
			}
			return
		}
		if n := r.Size(); n > 4096+64*len(b) {
			t.Fatalf("%d bytes take %d in memory", len(b), n)
		}
		c := AppendRecord(nil, &r)
		if err := DecodeRecord(c, &again); err != nil {
			t.Fatalf("%v: %x", err, c)
		}
		same(t, &again, &r)
		if !bytes.Equal(c, AppendRecord(nil, &again)) {
			t.Fatal("not canonical")
		}
	})
}

// typical is a customer of the benchmark: 60 days, some twenty events, mostly use.
func typical() *Record {
	p := testParams()
	rng := rand.New(rand.NewPCG(8, 8))
	r := &Record{ID: "c-000042"}
	for i := range int64(60) {
		at := t0 + i*dayMs + rng.Int64N(dayMs)
		if i%3 == 0 {
			r.Apply(use(at, event.Money(1+rng.IntN(600))*1000), &p)
		}
		if i%20 == 7 {
			r.Apply(pay(at, event.KindPurchase, event.Money(1000+rng.IntN(7000))*100, "EUR"), &p)
		}
	}
	r.Deadline = r.LastActivity + 14*dayMs
	r.Armed = r.Deadline
	return r
}

func TestTypicalSizes(t *testing.T) {
	r := typical()
	t.Logf("stored %d bytes, in memory %d", len(AppendRecord(nil, r)), r.Size())
}

func BenchmarkAppendRecord(b *testing.B) {
	r := typical()
	buf := AppendRecord(nil, r)
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		buf = AppendRecord(buf[:0], r)
	}
}

func BenchmarkDecodeRecord(b *testing.B) {
	buf := AppendRecord(nil, typical())
	var r Record
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if err := DecodeRecord(buf, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodedDeadline(b *testing.B) {
	buf := AppendRecord(nil, typical())
	for b.Loop() {
		EncodedDeadline(buf)
	}
}

func BenchmarkApply(b *testing.B) {
	for _, kind := range []string{"usage", "purchase"} {
		b.Run(kind, func(b *testing.B) {
			p := testParams()
			r := typical()
			e := *use(r.Latest, 125000)
			if kind == "purchase" {
				e = *pay(r.Latest, event.KindPurchase, 499000, "EUR")
			}
			b.ReportAllocs()
			for b.Loop() {
				e.Time += 8 * hourMs
				e.IDHash += 0x9e3779b97f4a7c15
				r.Apply(&e, &p)
			}
		})
	}
}

// A rewound record keeps the alerts that were told, through the stored form and through another rewind, and nothing else.
func TestRewind(t *testing.T) {
	r := typical()
	told := Lifecycle{Detector: "silence", AlertID: [16]byte{7}, FiredAt: 5 * dayMs, Since: dayMs, Revision: 3, Severity: 2}
	kept := Lifecycle{Detector: "spend_drop", FiredAt: 6 * dayMs, Unpublished: true}
	r.Lifecycles = []Lifecycle{kept, told}
	if !r.Rewind() {
		t.Fatal("nothing is left")
	}
	want := []Lifecycle{told}
	for range 2 {
		got := &Record{ID: r.ID}
		if err := DecodeRecord(AppendRecord(nil, r), got); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Recalled(), want) || len(got.Lifecycles) != 0 || got.First != 0 || len(got.Usage) != 0 || !got.HasUnpublished() {
			t.Errorf("got %+v, recalled %+v", got, got.Recalled())
		}
		got.Lifecycles = []Lifecycle{kept}
		if !got.Rewind() {
			t.Fatal("nothing is left after another rewind")
		}
		r = got
	}
	r.DropRecalled(0)
	if r.Rewind() || r.Recalled() != nil || r.HasUnpublished() {
		t.Errorf("something is left: %+v", r)
	}
}
