package customer

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"ebb/stream/event"
)

func payFor(day int, category string, euros int) *event.Event {
	return &event.Event{
		Feed: event.Payments, Kind: event.KindPurchase, Time: int64(day) * dayMs, Amount: event.Money(euros) * event.MoneyUnit,
		Currency: event.Currency{'E', 'U', 'R'}, Category: []byte(category),
	}
}

func habitParams() Params {
	p := DefaultParams(NewCalendar(nil))
	p.Habits, p.MaxSeen = true, 0
	return p
}

// known names the habits of a record with the days on which they were paid.
func known(r *Record) string {
	var b strings.Builder
	for _, h := range r.Habits() {
		if h.Kind != 0 {
			fmt.Fprintf(&b, "%s %s %d; ", h.Kind, h.Name, h.Rhythm.Count)
		}
	}
	return b.String()
}

func TestHabitsKeepWhatIsPaidAgain(t *testing.T) {
	p := habitParams()
	r := &Record{ID: "c"}
	for i := range 10 {
		r.Apply(payFor(1000+7*i, "bread", 10), &p)
		r.Apply(payFor(1001+14*i, "coffee", 30), &p)
		r.Apply(payFor(1002+30*i, fmt.Sprintf("once %d", i), 500), &p)
	}
	got := known(r)
	if !strings.Contains(got, "category bread 10; category coffee 10; ") || strings.Count(got, "once") != MaxHabits-2 {
		t.Errorf("kept are %s", got)
	}
	if h := r.Habits()[0].Rhythm; h.MeanGap() != 7 || h.Spent != 100*event.MoneyUnit || h.LongestGap() != 7 {
		t.Errorf("bread %+v", h)
	}
	// Six habits, and something large: the one that was worth least lately goes.
	r = &Record{ID: "c"}
	for i := range 5 {
		for k := range MaxHabits {
			r.Apply(payFor(1000+7*i, fmt.Sprint("h", k), 10+k), &p)
		}
	}
	r.Apply(payFor(1030, "small", 1), &p)
	if got := known(r); strings.Contains(got, "small") || !strings.Contains(got, "h0") {
		t.Errorf("a single small payment takes a place: %s", got)
	}
	r.Apply(payFor(1031, "car", 10_000), &p)
	if got := known(r); !strings.Contains(got, "category car 1; category h1 5") || strings.Contains(got, "h0") {
		t.Errorf("after a large one: %s", got)
	}
}

func TestHabitKinds(t *testing.T) {
	e := payFor(1, "", 1)
	if kind, _ := habitOf(e); kind != 0 {
		t.Errorf("a purchase of nothing known is %v", kind)
	}
	e.Recurring = true
	if kind, name := habitOf(e); kind != HabitRecurring || len(name) != 0 {
		t.Errorf("%v %s", kind, name)
	}
	e.Product = []byte(strings.Repeat("ä", 30))
	if kind, name := habitOf(e); kind != HabitProduct || len(name) != maxHabitName {
		t.Errorf("%v %s", kind, name)
	}
	e.Kind = event.KindDeposit
	if kind, _ := habitOf(e); kind != HabitIncome {
		t.Errorf("a deposit of a series is %v", kind)
	}
	e.Initiator = event.InitiatorBank
	if kind, _ := habitOf(e); kind != 0 {
		t.Errorf("interest is %v", kind)
	}
	e.Kind, e.Initiator, e.Recurring = event.KindCharge, event.InitiatorCompany, false
	if kind, _ := habitOf(e); kind != 0 {
		t.Errorf("what the company charges once is %v", kind)
	}
}

// What comes late, between days of which a habit does not know any more, changes its sums little.
func TestLatePaymentsOfHabits(t *testing.T) {
	p := habitParams()
	for _, gap := range []int{1, 7, 30} {
		for late := 1; late < 20; late++ {
			r, inTime := &Record{ID: "c"}, &Record{ID: "c"}
			for i := range 40 {
				e := payFor(1000+gap*i, "bread", 10)
				inTime.Apply(e, &p)
				if i != 39-late {
					r.Apply(e, &p)
				}
			}
			for _, at := range []int{39 - late, 38 - late} { // one that had not come, and another one of a day that is known
				r.Apply(payFor(1000+gap*at, "bread", 10), &p)
			}
			got, want := &r.Habits()[0].Rhythm, &inTime.Habits()[0].Rhythm
			if got.SumGapSquares < want.SumGapSquares/2 || got.SumGapSquares > 2*want.SumGapSquares || got.SumLnGap > 2*want.SumLnGap+2*LnUnit {
				t.Errorf("every %d days, the %d. before the newest comes late: %+v, in time %+v", gap, late, got, want)
			}
		}
	}
}

func TestHabitsAreStored(t *testing.T) {
	p := habitParams()
	r, other := &Record{ID: "c"}, &Record{ID: "d"}
	for i := range 8 {
		r.Apply(payFor(1000+7*i, "bread", 10), &p)
		other.Apply(payFor(1003+7*i, "bread", 10), &p)
		other.Apply(payFor(1003+7*i, "tea", 5), &p)
	}
	b := AppendRecord(nil, r)
	var got Record
	if err := DecodeRecord(b, &got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(AppendRecord(nil, &got), b) || known(&got) != "category bread 8; " {
		t.Errorf("read again: %s", known(&got))
	}
	none := &Record{ID: "c"}
	bare := payFor(1000, "", 10)
	none.Apply(bare, &p)
	if none.habits != nil {
		t.Error("who names nothing has habits")
	}
	r.Join(other, &p)
	if got := known(r); got != "category bread 16; category tea 8; " {
		t.Errorf("merged: %s", got)
	}
	e := payFor(1100, "bread", 10)
	r.Apply(e, &p)
	if n := testing.AllocsPerRun(20, func() { e.Time += 0; r.Apply(e, &p) }); n != 0 {
		t.Errorf("%v allocations for a payment", n)
	}
}

// An alert names the place of a habit: who is merged brings nothing that takes it.
func TestJoinLeavesTheHabitOfAnAlert(t *testing.T) {
	p := habitParams()
	of := func(name string, euros int) *Record {
		r := &Record{ID: "c"}
		for i := range 5 {
			for k := range MaxHabits {
				r.Apply(payFor(1000+7*i, fmt.Sprint(name, k), euros+k), &p)
			}
		}
		return r
	}
	for what, name := range map[string]func(r *Record){
		"an open alert":     func(r *Record) { r.Lifecycles = []Lifecycle{{Detector: "partial_lapse", Cause: 1, Day: 1028}} },
		"what was foretold": func(r *Record) { r.Predict(Prediction{Detector: "partial_lapse", Habit: 1, Due: 1100 * dayMs}) },
	} {
		r := of("a", 10)
		name(r)
		r.Join(of("b", 20), &p)
		if got := r.Habits()[0]; got.Name != "a0" || got.Rhythm.Count != 5 {
			t.Errorf("%s is about a0, whose place has %s now", what, got.Name)
		}
		if !strings.Contains(known(r), " b5 5") {
			t.Errorf("%s: kept are %s", what, known(r))
		}
	}
}
