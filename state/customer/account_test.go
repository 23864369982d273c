package customer

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"ebb/stream/event"
)

// onAccount is a payment that tells the balance after it, or not.
func onAccount(day int64, kind event.Kind, amount, balance event.Money, balanced bool) *event.Event {
	e := pay(t0+day*dayMs, kind, amount, "EUR")
	e.Balance, e.Balanced = balance, balanced
	return e
}

func TestAccount(t *testing.T) {
	p := testParams()
	p.Accounts = true
	r := &Record{}
	if _, ok := r.Account(0, 5); ok {
		t.Error("an account of nobody")
	}
	week := WeekOf(r.localDay(t0, &p))
	first := int64(FirstDayOf(week+1)) - int64(r.localDay(t0, &p)) // a day on which a week begins
	for _, e := range []*event.Event{
		onAccount(first, event.KindDeposit, 100, 0, false),         // nothing is known of the account yet
		onAccount(first+1, event.KindBalance, 0, 1000, true),       // now it is
		onAccount(first+2, event.KindWithdrawal, 300, 700, true),   // as told
		onAccount(first+14, event.KindPurchase, 100, 0, false),     // without a balance
		onAccount(first+15, event.KindTransferOut, 200, 900, true), // 500 came that nobody told of
		onAccount(first+21, event.KindCharge, 50, 250, true),       // and 600 went
		onAccount(first+8, event.KindDeposit, 40, 5000, true),      // comes late
	} {
		r.Apply(e, &p)
	}
	usd := onAccount(first+22, event.KindDeposit, 1, 1, true)
	usd.Currency = event.Currency{'U', 'S', 'D'}
	r.Apply(usd, &p)
	got, _ := r.Account(week+6, 8)
	want := Account{
		Currency: event.Currency{'E', 'U', 'R'}, Balance: 250, At: t0 + (first+21)*dayMs,
		Weeks: []Week{{1000, 0, 300}, {5000, 40, 0}, {900, 500, 300}, {900, 0, 650}, {Peak: 250}, {Peak: 250}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got, _ := r.Account(week+3, 2); !reflect.DeepEqual(got.Weeks, want.Weeks[1:3]) {
		t.Errorf("of earlier weeks %+v", got.Weeks)
	}
}

// The weeks that are kept are bounded, whatever comes in whatever order; the balance before them is not forgotten.
func TestAccountIsBounded(t *testing.T) {
	p := testParams()
	p.Accounts = true
	r := &Record{}
	rng := rand.New(rand.NewPCG(5, 5))
	for i := range int64(400) {
		r.Apply(onAccount(max(0, i*7-rng.Int64N(200)), event.KindBalance, 0, event.Money(i), true), &p)
		if n := len(r.account.weeks); n > accountWeeks+1 {
			t.Fatalf("%d weeks", n)
		}
		if !slices.IsSortedFunc(r.account.weeks, func(a, b accountWeek) int { return int(a.week - b.week) }) {
			t.Fatal("out of order")
		}
	}
	r = &Record{}
	r.Apply(onAccount(0, event.KindBalance, 0, 7, true), &p)
	r.Apply(onAccount(400, event.KindBalance, 0, 9, true), &p)
	a, _ := r.Account(WeekOf(r.localDay(t0+399*dayMs, &p)), 3)
	if len(a.Weeks) != 3 || a.Weeks[0].Peak != 7 {
		t.Errorf("%+v", a)
	}
}

// Of two accounts that turn out to be one customer's the one goes on that was heard of last.
func TestJoinAccounts(t *testing.T) {
	p := testParams()
	p.Accounts = true
	a, b := &Record{}, &Record{}
	a.Apply(onAccount(1, event.KindBalance, 0, 7, true), &p)
	b.Apply(onAccount(5, event.KindBalance, 0, 9, true), &p)
	a.Join(b, &p)
	if a.account.balance != 9 || &a.account.weeks[0] == &b.account.weeks[0] {
		t.Errorf("%+v", a.account)
	}
	b.Join(a, &p)
	c := &Record{}
	c.Apply(onAccount(2, event.KindBalance, 0, 5, true), &p)
	b.Join(c, &p)
	if b.account.balance != 9 {
		t.Errorf("%+v", b.account)
	}
}
