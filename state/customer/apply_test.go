package customer

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"ebb/stream/event"
)

// t0 is the beginning of most tests, a Monday.
var t0 = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC).UnixMilli()

func testParams() Params { return DefaultParams(NewCalendar(nil)) }

var nextHash uint64

// hash gives every event of the tests an id of its own.
func hash() uint64 {
	nextHash++
	return nextHash * 0x9e3779b97f4a7c15
}

func use(at int64, quantity event.Money) *event.Event {
	return &event.Event{Feed: event.Usage, Kind: event.KindUsage, Time: at, IDHash: hash(), Quantity: quantity}
}

func pay(at int64, kind event.Kind, amount event.Money, cur string) *event.Event {
	c, _ := event.ParseCurrency(cur)
	return &event.Event{Feed: event.Payments, Kind: kind, Time: at, IDHash: hash(), Amount: amount, Currency: c}
}

func complain(at int64, kind event.Kind, id string, p event.Priority) *event.Event {
	return &event.Event{Feed: event.Complaints, Kind: kind, Time: at, IDHash: hash(), ComplaintID: []byte(id), Priority: p}
}

func TestActivity(t *testing.T) {
	for _, c := range []struct {
		rule     string
		e        *event.Event
		activity bool
		spend    event.Money
	}{
		{"a use is activity, not spend", use(t0, 5), true, 0},
		{"a purchase is activity and spend", pay(t0, event.KindPurchase, 499000, "EUR"), true, 499000},
		{"a refund is activity and lowers spend", pay(t0, event.KindRefund, 499000, "EUR"), true, -499000},
		{"a failed charge is neither", pay(t0, event.KindChargeFailed, 499000, "EUR"), false, 0},
		{"a charge of the company is neither", pay(t0, event.KindCharge, 499000, "EUR"), false, 0},
		{"a purchase that the company started is neither", func() *event.Event {
			e := pay(t0, event.KindPurchase, 499000, "EUR")
			e.Initiator = event.InitiatorCompany
			return e
		}(), false, 0},
		{"a purchase that the customer is said to have started is both", func() *event.Event {
			e := pay(t0, event.KindPurchase, 499000, "EUR")
			e.Initiator = event.InitiatorCustomer
			return e
		}(), true, 499000},
		{"a complaint is neither", complain(t0, event.KindOpened, "T-1", event.PriorityNormal), false, 0},
	} {
		t.Run(c.rule, func(t *testing.T) {
			var r Record
			p := testParams()
			if out := r.Apply(c.e, &p); out != Applied {
				t.Fatalf("outcome %v", out)
			}
			if got := r.LastActivity != 0; got != c.activity {
				t.Errorf("activity %v", got)
			}
			sum := event.Money(0)
			for _, s := range r.Spend {
				sum += s.Amount
			}
			if sum != c.spend {
				t.Errorf("spend %v, want %v", sum, c.spend)
			}
			if r.First != t0 || r.Latest != t0 {
				t.Errorf("first %d, latest %d", r.First, r.Latest)
			}
		})
	}
}

func TestRepeatedIDs(t *testing.T) {
	p := testParams()
	var r Record
	e := use(t0, 10000)
	r.Apply(e, &p)
	if out := r.Apply(e, &p); out != Duplicate {
		t.Fatalf("the same event again: %v", out)
	}
	r.Apply(use(t0+47*hourMs, 10000), &p)
	if out := r.Apply(e, &p); out != Duplicate {
		t.Fatalf("the same event within 48 h: %v", out)
	}
	r.Apply(use(t0+49*hourMs, 10000), &p)
	before := len(r.Seen)
	if out := r.Apply(e, &p); out != Applied {
		t.Fatalf("an id is forgotten after 48 h of event time: %v", out)
	}
	if len(r.Seen) != before {
		t.Fatal("the id of an event older than the memory was remembered")
	}
	if r.Usage[0].Count != 2 {
		t.Fatalf("counted %d times", r.Usage[0].Count)
	}
	var q Record
	for i := range 70 {
		if out := q.Apply(use(t0+int64(i), 1), &p); out.Has(SeenOverflow) != (i >= 64) {
			t.Fatalf("event %d: %v", i, out)
		}
	}
	if len(q.Seen) != 64 || q.Overflows().Seen != 6 {
		t.Fatalf("%d remembered, %d forgotten before their time", len(q.Seen), q.Overflows().Seen)
	}
	no := use(t0, 1)
	no.IDHash = 0
	if first, again := q.Apply(no, &p), q.Apply(no, &p); first == Duplicate || again == Duplicate {
		t.Fatal("hash 0 is no id")
	}
}

// TestWindowsAgainstNaive: in whatever order events come, the windows hold exactly the days that a map by day holds.
func TestWindowsAgainstNaive(t *testing.T) {
	type key struct {
		day int32
		cur string
	}
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := testParams()
		p.MaxSeen = 0
		p.KeptDays = 91 + rng.IntN(40)
		span := int64(20+rng.IntN(250)) * dayMs
		var r Record
		usage, quantity := map[int32]uint32{}, map[int32]event.Money{}
		spend := map[key]event.Money{}
		newest, tooOld := int32(-1), 0
		for range 400 {
			at := t0 + rng.Int64N(span)
			day := int32(at / dayMs)
			var e *event.Event
			if rng.IntN(2) == 0 {
				e = use(at, event.Money(rng.IntN(100000)))
			} else {
				kind := event.KindPurchase
				if rng.IntN(5) == 0 {
					kind = event.KindRefund
				}
				e = pay(at, kind, event.Money(rng.IntN(100000)), []string{"EUR", "USD", "GBP"}[rng.IntN(3)])
			}
			old := newest >= 0 && day <= newest-int32(p.KeptDays)
			if out := r.Apply(e, &p); out.Has(TooOld) != old {
				t.Fatalf("seed %d: day %d, newest %d: %v", seed, day, newest, out)
			}
			if old {
				tooOld++
				continue
			}
			newest = max(newest, day)
			switch e.Kind {
			case event.KindUsage:
				usage[day]++
				quantity[day] += e.Quantity
			case event.KindRefund:
				spend[key{day, e.Currency.String()}] -= e.Amount
			default:
				spend[key{day, e.Currency.String()}] += e.Amount
			}
		}
		oldest := newest - int32(p.KeptDays) + 1
		for day := range usage {
			if day < oldest {
				delete(usage, day)
			}
		}
		for k := range spend {
			if k.day < oldest {
				delete(spend, k)
			}
		}
		// What is left of days that have gone leaves with the next roll; no detector looks there.
		for _, u := range r.Usage {
			if u.Day >= oldest && (usage[u.Day] != u.Count || quantity[u.Day] != u.Quantity) {
				t.Fatalf("seed %d: usage of day %d: %+v, want %d", seed, u.Day, u, usage[u.Day])
			}
			delete(usage, u.Day)
		}
		for _, s := range r.Spend {
			k := key{s.Day(), r.Currencies[s.Currency()].String()}
			if k.day >= oldest && spend[k] != s.Amount {
				t.Fatalf("seed %d: spend of %v: %v, want %v", seed, k, s.Amount, spend[k])
			}
			delete(spend, k)
		}
		if len(usage) != 0 || len(spend) != 0 || int(r.Overflows().TooOld) != tooOld {
			t.Fatalf("seed %d: days are missing: %v %v; %d too old, want %d", seed, usage, spend, r.Overflows().TooOld, tooOld)
		}
		if !slices.IsSortedFunc(r.Usage, func(a, b UsageDay) int { return int(a.Day - b.Day) }) ||
			!slices.IsSortedFunc(r.Spend, func(a, b SpendDay) int { return int(int64(a.key) - int64(b.key)) }) {
			t.Fatalf("seed %d: windows are not sorted", seed)
		}
	}
}

func TestSumOverflowChangesNothing(t *testing.T) {
	p := testParams()
	var r Record
	r.Apply(pay(t0, event.KindPurchase, math.MaxInt64-5, "EUR"), &p)
	r.Apply(use(t0, math.MaxInt64-5), &p)
	before := AppendRecord(nil, &r)
	total := use(t0+hourMs, 2*dayMs)
	total.Aggregate, total.PeriodStart, total.PeriodEnd = true, t0, t0+dayMs
	for _, e := range []*event.Event{pay(t0+1, event.KindPurchase, 6, "EUR"), use(t0+1, 6), total} {
		if out := r.Apply(e, &p); out != SumOverflow {
			t.Fatalf("%v: %v", e.Kind, out)
		}
		if !slices.Equal(before, AppendRecord(nil, &r)) {
			t.Fatal("the record has changed")
		}
		if out := r.Apply(e, &p); out == Duplicate {
			t.Fatal("the id of a refused event was remembered")
		}
	}
}

func TestAggregates(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		rule     string
		loc      *time.Location
		from, to time.Time
		quantity event.Money
		want     []event.Money
	}{
		{"a total of a day is that day's", nil, time.UnixMilli(t0), time.UnixMilli(t0 + dayMs), 70000, []event.Money{70000}},
		{
			"a week is spread evenly, to the last ten-thousandth", nil, time.UnixMilli(t0), time.UnixMilli(t0 + 7*dayMs), 100000,
			[]event.Money{14286, 14285, 14286, 14286, 14286, 14285, 14286},
		},
		{"half days count half", nil, time.UnixMilli(t0 + dayMs/2), time.UnixMilli(t0 + 2*dayMs), 30000, []event.Money{10000, 20000}},
		{
			"the day of the change to summer time has 23 hours", berlin, time.Date(2026, 3, 28, 0, 0, 0, 0, berlin),
			time.Date(2026, 3, 31, 0, 0, 0, 0, berlin), 710000,
			[]event.Money{240000, 230000, 240000},
		},
	} {
		t.Run(c.rule, func(t *testing.T) {
			p := testParams()
			p.Calendar = NewCalendar(c.loc)
			e := use(c.to.UnixMilli()+hourMs, c.quantity)
			e.Aggregate, e.PeriodStart, e.PeriodEnd = true, c.from.UnixMilli(), c.to.UnixMilli()
			var r Record
			if out := r.Apply(e, &p); out != Applied {
				t.Fatal(out)
			}
			var got []event.Money
			for _, u := range r.Usage {
				got = append(got, u.Quantity)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if r.LastActivity != c.to.UnixMilli()-1 {
				t.Errorf("the last activity is %v, not the end of the period", time.UnixMilli(r.LastActivity).UTC())
			}
		})
	}
	t.Run("a total of nothing is no activity", func(t *testing.T) {
		p := testParams()
		e := use(t0+dayMs, 0)
		e.Aggregate, e.PeriodStart, e.PeriodEnd = true, t0, t0+dayMs
		var r Record
		if out := r.Apply(e, &p); out != Applied || r.LastActivity != 0 || len(r.Usage) != 0 {
			t.Fatal(out, r.LastActivity, r.Usage)
		}
	})
	t.Run("the parts of any total that lies in the windows add up to it", func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 5))
		zones := []string{"UTC", "Europe/Berlin", "America/Havana", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe"}
		for range 500 {
			loc, err := time.LoadLocation(zones[rng.IntN(len(zones))])
			if err != nil {
				t.Fatal(err)
			}
			p := testParams()
			p.Calendar = NewCalendar(loc)
			start := rng.Int64N(50 * 365 * dayMs)
			e := use(0, event.Money(rng.Int64N(1_000_000)+1))
			e.Aggregate, e.PeriodStart, e.PeriodEnd = true, start, start+1+rng.Int64N(89*dayMs)
			e.Time = e.PeriodEnd
			var r Record
			if out := r.Apply(e, &p); out != Applied {
				t.Fatal(out, loc, start)
			}
			sum := event.Money(0)
			for _, u := range r.Usage {
				if u.Quantity < 0 {
					t.Fatal(u)
				}
				sum += u.Quantity
			}
			if sum != e.Quantity {
				t.Fatalf("sum %v of %v in %v from %v", sum, e.Quantity, loc, time.UnixMilli(start))
			}
		}
	})
	t.Run("a total lies on the days on which single uses would lie, where somebody moves and where a day is skipped", func(t *testing.T) {
		apia, err := time.LoadLocation("Pacific/Apia")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			loc   *time.Location
			start int64
			zones []string // of profiles, a day apart
		}{
			{nil, t0, []string{"Asia/Tokyo", "America/Los_Angeles"}},
			{nil, t0, []string{"America/Los_Angeles", "Asia/Tokyo"}},
			{apia, time.Date(2011, 12, 27, 0, 0, 0, 0, apia).UnixMilli(), nil},
		} {
			p := testParams()
			p.Calendar = NewCalendar(c.loc)
			var total, single Record
			for i, zone := range c.zones {
				e := use(c.start+int64(i)*dayMs, 0)
				e.Feed, e.Kind, e.Profile = event.Customers, event.KindProfile, &event.Profile{TimeZone: zone}
				for _, r := range []*Record{&total, &single} {
					r.Apply(use(c.start-dayMs+int64(i)*dayMs, 0), &p)
					r.Apply(e, &p)
				}
			}
			const hours = 9 * 24
			e := use(c.start+hours*hourMs, hours*event.MoneyUnit)
			e.Aggregate, e.PeriodStart, e.PeriodEnd = true, c.start, c.start+hours*hourMs
			total.Apply(e, &p)
			for i := range int64(hours) {
				single.Apply(use(c.start+i*hourMs, event.MoneyUnit), &p)
			}
			days := func(r *Record) map[int32]event.Money {
				m := map[int32]event.Money{}
				for _, u := range r.Usage {
					m[u.Day] = u.Quantity
				}
				return m
			}
			if got, want := days(&total), days(&single); !maps.Equal(got, want) {
				t.Errorf("%v %v: got %v, want %v", c.loc, c.zones, got, want)
			}
		}
	})
	t.Run("what reaches back before the windows is left out and counted", func(t *testing.T) {
		p := testParams()
		e := use(t0, 366*10000)
		e.Aggregate, e.PeriodStart, e.PeriodEnd = true, t0-366*dayMs, t0
		var r Record
		if out := r.Apply(e, &p); out != TooOld {
			t.Fatal(out)
		}
		if len(r.Usage) != 91 || r.Usage[0].Quantity != 10000 || r.Usage[90].Quantity != 10000 {
			t.Fatal(len(r.Usage), r.Usage[0])
		}
	})
}

func TestCurrencies(t *testing.T) {
	p := testParams()
	p.MaxCurrencies = 2
	var r Record
	r.Apply(pay(t0, event.KindPurchase, 10000, "EUR"), &p)
	r.Apply(pay(t0, event.KindPurchase, 20000, "USD"), &p)
	if out := r.Apply(pay(t0+1, event.KindPurchase, 30000, "GBP"), &p); out != CurrencyOverflow || r.LastActivity != t0+1 || r.Overflows().Currencies != 1 {
		t.Fatalf("no room for a third currency: %v, last activity %d", out, r.LastActivity-t0)
	}
	at := t0 + 200*dayMs
	r.Apply(pay(at, event.KindPurchase, 10000, "EUR"), &p)
	if out := r.Apply(pay(at, event.KindPurchase, 30000, "GBP"), &p); out != Applied || r.Currencies[1].String() != "GBP" {
		t.Fatalf("a currency that has left the windows makes room: %v %v", out, r.Currencies)
	}
}

func TestCancelled(t *testing.T) {
	p := testParams()
	var r Record
	r.Apply(use(t0, 1), &p)
	r.Apply(pay(t0+dayMs, event.KindSubscriptionCancelled, 0, ""), &p)
	if r.Cancelled != t0+dayMs || r.LastActivity != t0 {
		t.Fatal("a cancellation is noted and is no activity")
	}
	r.Apply(use(t0+2*dayMs, 1), &p)
	if r.Cancelled == 0 {
		t.Fatal("a cancelled subscription may be used to its end")
	}
	r.Apply(pay(t0, event.KindSubscriptionStarted, 0, ""), &p)
	if r.Cancelled == 0 {
		t.Fatal("an older start does not undo a cancellation")
	}
	r.Apply(pay(t0+3*dayMs, event.KindPurchase, 1, "EUR"), &p)
	if r.Cancelled != 0 {
		t.Fatal("who buys is back")
	}
}

func TestComplaints(t *testing.T) {
	const h = hourMs
	step := func(at int64, kind event.Kind, p event.Priority) *event.Event {
		return complain(t0+at*h, kind, "T-1", p)
	}
	none, low, normal, high := event.PriorityNone, event.PriorityLow, event.PriorityNormal, event.PriorityHigh
	_ = none
	for _, c := range []struct {
		rule  string
		steps []*event.Event
		want  []Complaint
		out   Outcome // of all
	}{
		{"it is opened", []*event.Event{step(1, event.KindOpened, high)}, []Complaint{{ID: "T-1", Opened: t0 + h, Priority: high}}, Applied},
		{
			"the first opening counts",
			[]*event.Event{step(1, event.KindOpened, high), step(2, event.KindOpened, low)},
			[]Complaint{{ID: "T-1", Opened: t0 + h, Priority: high}},
			ComplaintRepeated,
		},
		{
			"the first response counts",
			[]*event.Event{step(1, event.KindOpened, high), step(3, event.KindResponded, normal), step(2, event.KindResponded, normal), step(5, event.KindResponded, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + h, Responded: t0 + 2*h, Priority: high}},
			Applied,
		},
		{"what the customer says is no response", []*event.Event{step(1, event.KindOpened, high), func() *event.Event {
			e := step(2, event.KindResponded, normal)
			e.Actor = event.ActorCustomer
			return e
		}()}, []Complaint{{ID: "T-1", Opened: t0 + h, Priority: high}}, Applied},
		{
			"it ends with its resolution",
			[]*event.Event{step(1, event.KindOpened, high), step(2, event.KindResolved, normal), step(9, event.KindCustomerReplied, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + h, Resolved: t0 + 2*h, Priority: high}},
			Applied,
		},
		{
			"and is dropped when the customer has been content for a week",
			[]*event.Event{step(1, event.KindOpened, high), step(2, event.KindResolved, normal), step(2+7*24, event.KindCustomerReplied, normal)},
			nil, Applied,
		},
		{
			"a merged one ends: the other goes on",
			[]*event.Event{step(1, event.KindOpened, high), step(2, event.KindMerged, normal), step(9, event.KindNote, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + h, Resolved: t0 + 2*h, Priority: high}},
			Applied,
		},
		{
			"closed after resolved is nothing",
			[]*event.Event{step(1, event.KindOpened, high), step(2, event.KindResolved, normal), step(3, event.KindClosed, normal), step(80, event.KindNote, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + h, Resolved: t0 + 2*h, Priority: high}},
			Applied,
		},
		{"an inquiry is followed", []*event.Event{step(1, event.KindInquiry, low)}, []Complaint{{ID: "T-1", Opened: t0 + h, Priority: low}}, Applied},
		{
			"an answer ends it",
			[]*event.Event{step(1, event.KindInquiry, low), step(3, event.KindResponded, none)},
			[]Complaint{{ID: "T-1", Opened: t0 + h, Responded: t0 + 3*h, Resolved: t0 + 3*h, Priority: low}},
			Applied,
		},
		{
			"it becomes a complaint, whose clocks begin then",
			[]*event.Event{step(1, event.KindInquiry, low), step(3, event.KindResponded, none), step(9, event.KindOpened, high)},
			[]Complaint{{ID: "T-1", Opened: t0 + 9*h, Priority: high}},
			Applied,
		},
		{
			"which an end of the inquiry that is told afterwards does not end",
			[]*event.Event{step(1, event.KindInquiry, low), step(9, event.KindOpened, high), step(3, event.KindResolved, none)},
			[]Complaint{{ID: "T-1", Opened: t0 + 9*h, Priority: high}},
			ComplaintUnknown,
		},
		{
			"a pause that is told after its end",
			[]*event.Event{step(1, event.KindOpened, high), step(5, event.KindResumed, normal), step(2, event.KindPaused, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + h, PausedFor: 3 * h, Priority: high}},
			Applied,
		},
		{
			"a response that is told after the end",
			[]*event.Event{step(1, event.KindOpened, high), step(5, event.KindResolved, normal), step(2, event.KindResponded, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + h, Responded: t0 + 2*h, Resolved: t0 + 5*h, Priority: high}},
			Applied,
		},
		{
			"of two ends the earlier counts",
			[]*event.Event{step(1, event.KindOpened, high), step(5, event.KindClosed, normal), step(4, event.KindResolved, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + h, Resolved: t0 + 4*h, Priority: high}},
			Applied,
		},
		{
			"a pause is taken off",
			[]*event.Event{step(1, event.KindOpened, high), step(2, event.KindPaused, normal), step(3, event.KindPaused, normal), step(5, event.KindResumed, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + h, PausedFor: 3 * h, Priority: high}},
			Applied,
		},
		{
			"an escalation raises the priority, and never lowers it",
			[]*event.Event{step(1, event.KindOpened, normal), step(2, event.KindEscalated, high), step(3, event.KindEscalated, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + h, Priority: high}},
			Applied,
		},
		{
			"a reopened one starts anew",
			[]*event.Event{step(1, event.KindOpened, normal), step(2, event.KindResolved, normal), step(50, event.KindReopened, high)},
			[]Complaint{{ID: "T-1", Opened: t0 + 50*h, Priority: high, Reopened: 1}},
			Applied,
		},
		{
			"an end of before that is told afterwards does not end it",
			[]*event.Event{step(1, event.KindOpened, normal), step(2, event.KindResolved, normal), step(50, event.KindReopened, high), step(49, event.KindClosed, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + 50*h, Priority: high, Reopened: 1}},
			Applied,
		},
		{
			"an end that comes behind the reopening that followed it ends only what was before",
			[]*event.Event{step(1, event.KindOpened, normal), step(51, event.KindReopened, normal), step(50, event.KindResolved, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + 51*h, Priority: normal, Reopened: 1}},
			ComplaintRepeated,
		},
		{
			"and leaves an end of what came after it",
			[]*event.Event{step(1, event.KindOpened, normal), step(51, event.KindReopened, normal), step(60, event.KindResolved, normal), step(50, event.KindResolved, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + 51*h, Resolved: t0 + 60*h, Priority: normal, Reopened: 1}},
			ComplaintRepeated,
		},
		{
			"of one that is told to be opened again and has not ended nothing changes",
			[]*event.Event{step(1, event.KindOpened, normal), step(2, event.KindPaused, normal), step(4, event.KindReopened, normal), step(5, event.KindResumed, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + h, PausedFor: 3 * h, Priority: normal}},
			ComplaintRepeated,
		},
		{
			"the first opening of one that was opened again may come last",
			[]*event.Event{step(50, event.KindResolved, normal), step(51, event.KindReopened, normal), step(1, event.KindOpened, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + 51*h, Priority: normal, Reopened: 1}},
			ComplaintUnknown | ComplaintRepeated,
		},
		{
			"or before its end",
			[]*event.Event{step(51, event.KindReopened, normal), step(1, event.KindOpened, normal), step(50, event.KindResolved, normal)},
			[]Complaint{{ID: "T-1", Opened: t0 + 51*h, Priority: normal, Reopened: 1}},
			ComplaintUnknown | ComplaintRepeated,
		},
		{
			"a resolution without an opening is counted, and stops an opening that comes late",
			[]*event.Event{step(5, event.KindResolved, normal), step(1, event.KindOpened, high)},
			[]Complaint{{ID: "T-1", Resolved: t0 + 5*h}},
			ComplaintUnknown | ComplaintRepeated,
		},
		{
			"so it does days later, while the customer goes on",
			[]*event.Event{step(5, event.KindResolved, normal), step(165, event.KindNote, normal), step(1, event.KindOpened, high)},
			[]Complaint{{ID: "T-1", Resolved: t0 + 5*h}},
			ComplaintUnknown | ComplaintRepeated,
		},
		{"a response to nothing is counted", []*event.Event{step(5, event.KindResponded, normal)}, nil, ComplaintUnknown},
		{"a resolution without an opening is forgotten in time", []*event.Event{step(5, event.KindResolved, normal), step(174, event.KindNote, normal)}, nil, ComplaintUnknown},
	} {
		t.Run(c.rule, func(t *testing.T) {
			p := testParams()
			var r Record
			out := Applied
			for _, e := range c.steps {
				out |= r.Apply(e, &p)
			}
			if out != c.out {
				t.Errorf("outcome %v, want %v", out, c.out)
			}
			if len(r.Complaints) == 0 && len(c.want) == 0 {
				return
			}
			for i := range r.Complaints {
				r.Complaints[i].Case = Case{} // see TestCourse
			}
			if !reflect.DeepEqual(r.Complaints, c.want) {
				t.Errorf("got  %+v\nwant %+v", r.Complaints, c.want)
			}
		})
	}
}

func TestComplaintCaps(t *testing.T) {
	p := testParams()
	var r Record
	for i := range 70 {
		out := r.Apply(complain(t0+int64(i), event.KindOpened, fmt.Sprintf("T-%d", i), event.PriorityNormal), &p)
		if out.Has(ComplaintOverflow) != (i >= 64) {
			t.Fatalf("complaint %d: %v", i, out)
		}
	}
	if len(r.Complaints) != 64 || r.Complaint("T-5") >= 0 || r.Complaint("T-6") < 0 || r.Overflows().Complaints != 6 {
		t.Fatalf("%d complaints, %d forgotten", len(r.Complaints), r.Overflows().Complaints)
	}
}

func TestProfile(t *testing.T) {
	p := testParams()
	profile := func(at int64, zone, tier string) *event.Event {
		return &event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: at, Profile: &event.Profile{TimeZone: zone, Tier: tier}}
	}
	var r Record
	if out := r.Apply(profile(t0, "America/New_York", "gold"), &p); out != Applied || r.Profile().Tier != "gold" {
		t.Fatal(out)
	}
	if r.Zone(0) != "America/New_York" {
		t.Fatal("a zone known before the first event holds from the beginning")
	}
	r.Apply(use(t0+2*hourMs, 1), &p) // 4 January, 21:00 in New York
	if want := int32(t0/dayMs) - 1; r.Usage[0].Day != want {
		t.Fatalf("day %d, want %d", r.Usage[0].Day, want)
	}
	if out := r.Apply(profile(t0-1, "UTC", "lead"), &p); out != StaleProfile || r.Profile().Tier != "gold" {
		t.Fatalf("an older profile is ignored: %v", out)
	}
	if out := r.Apply(profile(t0+3*hourMs, "Asia/Tokyo", "gold"), &p); out != Applied {
		t.Fatal(out)
	}
	nextDay := time.Date(2026, 1, 5, 5, 0, 0, 0, time.UTC).UnixMilli() // midnight in New York
	if r.Zone(nextDay-1) != "America/New_York" || r.Zone(nextDay) != "Asia/Tokyo" {
		t.Fatalf("a changed zone acts from the next day: %q, %q", r.Zone(nextDay-1), r.Zone(nextDay))
	}
	if out := r.Apply(profile(t0+4*hourMs, "Mars/Olympus", "gold"), &p); out != UnknownZone || r.Zone(nextDay) != "" {
		t.Fatalf("an unknown zone is counted and is the default: %v %q", out, r.Zone(nextDay))
	}
	if r.LastActivity != t0+2*hourMs || r.Latest != t0+2*hourMs {
		t.Fatal("a profile is no event of the customer")
	}
	if r.Apply(&event.Event{Feed: event.Control, Kind: event.KindSnooze, Time: t0}, &p) != NotForRecords {
		t.Fatal("acts of people say nothing about the record")
	}
}

func TestBlind(t *testing.T) {
	p := testParams()
	var r Record
	r.MarkBlind(event.Usage, t0)
	r.MarkBlind(event.Usage, t0+hourMs)
	if !r.IsBlind() || r.Blind(event.Usage) != (Blind{Since: t0, Last: t0 + hourMs}) || r.Blind(event.Payments).Since != 0 {
		t.Fatalf("%+v", r.Blind(event.Usage))
	}
	r.Apply(use(t0+hourMs-1, 1), &p)
	if !r.IsBlind() {
		t.Fatal("an older record does not end it")
	}
	r.Apply(use(t0+2*hourMs, 1), &p)
	if r.IsBlind() || r.Blind(event.Usage).Until != t0+2*hourMs {
		t.Fatalf("a record that can be read ends it: %+v", r.Blind(event.Usage))
	}
	r.Apply(use(t0+100*dayMs, 1), &p)
	if r.Blind(event.Usage).Since != 0 {
		t.Fatal("it is forgotten in time")
	}
}

func TestLapsedEndsWithNewActivity(t *testing.T) {
	p := testParams()
	var r Record
	r.Apply(use(t0, 1), &p)
	r.Lapsed = true
	r.Apply(use(t0-1, 1), &p)
	r.Apply(complain(t0+1, event.KindOpened, "T", event.PriorityNormal), &p)
	if !r.Lapsed {
		t.Fatal("only new activity ends it")
	}
	r.Apply(use(t0+1, 1), &p)
	if r.Lapsed {
		t.Fatal("new activity ends it")
	}
}

// TestSteadyStateDoesNotAllocate: a customer that is there already costs no memory by his next event.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	p := testParams()
	var r Record
	day := int64(0)
	e, q := *use(t0, 125000), *pay(t0, event.KindPurchase, 499000, "EUR")
	step := func() {
		day++
		e.Time, e.IDHash = t0+day*dayMs, uint64(2*day)
		q.Time, q.IDHash = t0+day*dayMs, uint64(2*day+1)
		r.Apply(&e, &p)
		r.Apply(&q, &p)
	}
	for range 200 {
		step()
	}
	if n := testing.AllocsPerRun(500, step); n != 0 {
		t.Fatalf("%v allocations for two events", n)
	}
}

func TestParamsValidate(t *testing.T) {
	good := testParams()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []func(*Params){
		func(p *Params) { p.KeptDays = 90 }, func(p *Params) { p.KeptDays = MaxKeptDays + 1 }, func(p *Params) { p.MaxComplaints = 0 },
		func(p *Params) { p.MaxSeen = -1 }, func(p *Params) { p.Calendar = nil }, func(p *Params) { p.SeenFor = -1 },
		func(p *Params) { p.MaxCurrencies = 9 }, func(p *Params) { p.MaxLifecycles = 1 },
	} {
		p := testParams()
		spoil(&p)
		if p.Validate() == nil {
			t.Errorf("%+v was allowed", p)
		}
	}
}
