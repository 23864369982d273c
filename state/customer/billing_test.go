package customer

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"ebb/stream/event"
)

// owe is something that happens to what a customer owes.
func owe(rng *rand.Rand, at int64) *event.Event {
	kind := [...]event.Kind{
		event.KindChargeFailed, event.KindInvoiceIssued, event.KindInvoiceOverdue, event.KindPaymentMethodExpiring, event.KindPurchase, event.KindCharge,
	}[rng.IntN(6)]
	e := pay(at, kind, event.Money(rng.IntN(1000)*tensInt(rng)), []string{"EUR", "USD", ""}[rng.IntN(3)])
	e.Recurring, e.Attempt = rng.IntN(2) == 0, uint16(rng.IntN(4))
	if rng.IntN(2) == 0 {
		e.NextAttempt, e.Due, e.FailureCode = at+rng.Int64N(9*dayMs), at+rng.Int64N(30*dayMs), []byte("a reason that is longer than what is kept of it")
	}
	return e
}

// bill is one step of a course that a test tells.
type bill struct {
	kind             event.Kind
	day              int64
	amount           event.Money
	next             int64 // day
	attempt          uint16
	recurring, other bool // another currency
}

func billed(list []bill) *Record {
	p := testParams()
	p.Bills = true
	r := &Record{}
	for _, b := range list {
		e := pay(t0+b.day*dayMs, b.kind, b.amount, "EUR")
		if b.other {
			e.Currency = event.Currency{'U', 'S', 'D'}
		}
		e.Attempt, e.Recurring = b.attempt, b.recurring
		if b.next != 0 {
			e.NextAttempt, e.Due = t0+b.next*dayMs, t0+b.next*dayMs
		}
		r.Apply(e, &p)
	}
	return r
}

func TestBilling(t *testing.T) {
	const failed, invoice, overdue, bought, charged = event.KindChargeFailed, event.KindInvoiceIssued, event.KindInvoiceOverdue, event.KindPurchase, event.KindCharge
	day := func(n int64) int64 { return t0 + n*dayMs }
	const giveUp = 90 * dayMs
	for _, c := range []struct {
		rule      string
		steps     []bill
		failing   bool
		attempts  int
		exhausted bool
		open      []event.Money
		owed      []Stretch
	}{
		{"the customer's own try is no trouble", []bill{{kind: failed, day: 1, amount: 5}}, false, 0, false, nil, nil},
		{"one that belongs to a series is", []bill{{kind: failed, day: 1, amount: 5, recurring: true}}, true, 1, false, nil, []Stretch{{day(1), day(91)}}},
		{"it will be tried again", []bill{{kind: failed, day: 1, amount: 5, attempt: 1, next: 4}}, true, 1, false, nil, []Stretch{{day(1), day(94)}}},
		{
			"again in vain, and not once more",
			[]bill{{kind: failed, day: 1, amount: 5, attempt: 1, next: 4}, {kind: failed, day: 4, amount: 5, attempt: 2}},
			true, 2, true, nil,
			[]Stretch{{day(1), day(94)}},
		},
		{
			"paid after all",
			[]bill{{kind: failed, day: 1, amount: 5, attempt: 1, next: 4}, {kind: bought, day: 4, amount: 5}},
			false, 0, false, nil,
			[]Stretch{{day(1), day(4)}},
		},
		{
			"a purchase beside the series does not settle it",
			[]bill{{kind: failed, day: 1, amount: 5, recurring: true}, {kind: bought, day: 4, amount: 5}},
			true, 1, false, nil,
			[]Stretch{{day(1), day(91)}},
		},
		{
			"the failure comes behind what made up for it",
			[]bill{{kind: bought, day: 4, amount: 5}, {kind: failed, day: 1, amount: 5, attempt: 1}},
			false, 0, false, nil, nil,
		},
		{
			"that of a series comes behind its retry",
			[]bill{{kind: charged, day: 4, amount: 5}, {kind: failed, day: 1, amount: 5, recurring: true}},
			false, 0, false, nil,
			[]Stretch{{day(1), day(4)}},
		},
		{
			"the newest charge of a series counts",
			[]bill{{kind: charged, day: 4, amount: 5}, {kind: charged, day: 64, amount: 5}, {kind: charged, day: 34, amount: 5}, {kind: failed, day: 60, amount: 5, recurring: true}},
			false, 0, false, nil,
			[]Stretch{{day(60), day(64)}},
		},
		{
			"and what fails after it is not made up for",
			[]bill{{kind: charged, day: 4, amount: 5}, {kind: failed, day: 34, amount: 5, recurring: true}},
			true, 1, false, nil,
			[]Stretch{{day(34), day(124)}},
		},
		{
			"a charge of its own does not push out what settled something",
			[]bill{
				{kind: invoice, day: 1, amount: 10, next: 2},
				{kind: invoice, day: 1, amount: 20, next: 3},
				{kind: charged, day: 4, amount: 10},
				{kind: charged, day: 5, amount: 20},
				{kind: charged, day: 35, amount: 5},
				{kind: charged, day: 65, amount: 5},
			},
			false, 0, false, nil,
			[]Stretch{{day(2), day(4)}, {day(3), day(5)}},
		},
		{
			"the payment comes out of order",
			[]bill{{kind: failed, day: 1, amount: 5, attempt: 1}, {kind: failed, day: 9, amount: 5, attempt: 1}, {kind: charged, day: 4, amount: 5}},
			true, 1, false, nil,
			[]Stretch{{day(1), day(4)}, {day(9), day(99)}},
		},
		{
			"given up, and failing anew a year later",
			[]bill{{kind: failed, day: 1, amount: 5, attempt: 1}, {kind: failed, day: 300, amount: 5, attempt: 1}},
			true, 1, false, nil,
			[]Stretch{{day(1), day(91)}, {day(300), day(390)}},
		},
		{
			"money settles what is oldest",
			[]bill{{kind: invoice, day: 1, amount: 10, next: 30}, {kind: invoice, day: 2, amount: 20, next: 31}, {kind: charged, day: 40, amount: 15}},
			false, 0, false,
			[]event.Money{15},
			[]Stretch{{day(30), day(40)}, {day(31), day(121)}},
		},
		{
			"what another currency is worth is not known: it settles one",
			[]bill{{kind: invoice, day: 1, amount: 10, next: 30}, {kind: invoice, day: 2, amount: 20, next: 31}, {kind: charged, day: 25, amount: 5, other: true}},
			false, 0, false,
			[]event.Money{20},
			[]Stretch{{day(31), day(121)}},
		},
		{
			"a reminder is of the invoice that is known",
			[]bill{{kind: invoice, day: 1, amount: 10, next: 30}, {kind: overdue, day: 33, amount: 10}},
			false, 0, false,
			[]event.Money{10},
			[]Stretch{{day(30), day(120)}},
		},
		{"an invoice that charges itself has no date", []bill{{kind: invoice, day: 1, amount: 10}}, false, 0, false, nil, nil},
	} {
		b, _ := billed(c.steps).Billing(giveUp)
		var open []event.Money
		for _, v := range b.Invoices {
			open = append(open, v.Amount)
		}
		if b.Failing.Since != 0 != c.failing || b.Failing.Attempts != c.attempts || b.Failing.Exhausted() != c.exhausted ||
			!reflect.DeepEqual(open, c.open) || !reflect.DeepEqual(b.Owed, c.owed) {
			t.Errorf("%s: %+v", c.rule, b)
		}
	}
}

// Two records of one attempt are one attempt, and what either says of the next one counts.
func TestOneAttemptIsToldTwice(t *testing.T) {
	r := &Record{bills: &bills{}}
	r.bills.add(billStep{at: t0, kind: BillFailed, attempt: 1, next: t0 + dayMs})
	r.bills.add(billStep{at: t0 + 5000, kind: BillFailed, attempt: 1})
	if b, _ := r.Billing(dayMs); b.Failing.Attempts != 1 || b.Failing.Next != t0+dayMs || b.Failing.Exhausted() {
		t.Errorf("%+v", b.Failing)
	}
}

// What is owed is bounded, and given back when nobody needs it any more.
func TestBillsAreBounded(t *testing.T) {
	p := testParams()
	p.Bills = true
	r := &Record{}
	for i := range int64(100) {
		e := pay(t0+i*dayMs, event.KindChargeFailed, 5, "EUR")
		e.Attempt = uint16(i + 1)
		r.Apply(e, &p)
	}
	b, _ := r.Billing(dayMs * 400)
	if n := len(r.bills.steps); n != maxBills || b.Failing.Since != t0 || b.Failing.Told != 100 {
		t.Errorf("%d steps, %+v", n, b.Failing)
	}
	r.Apply(pay(t0+100*dayMs, event.KindCharge, 5, "EUR"), &p)
	for i := range int64(20) { // nothing is owed any more: of these the newest is kept
		r.Apply(pay(t0+(101+i)*dayMs, event.KindPurchase, 5, "EUR"), &p)
		r.Apply(pay(t0+(101+i)*dayMs, event.KindCharge, 5, "EUR"), &p)
	}
	if s := r.bills.steps; s[len(s)-1].at != t0+120*dayMs || s[len(s)-2].at != t0+100*dayMs {
		t.Errorf("%d steps, the newest at %d", len(s), s[len(s)-1].at)
	}
	r.Apply(use(t0+120*dayMs+billsKept+1, 1), &p)
	if r.bills != nil {
		t.Error("kept for ever")
	}
}

// Whoever is merged owes what both did.
func TestJoinBills(t *testing.T) {
	p := testParams()
	a := billed([]bill{{kind: event.KindChargeFailed, day: 1, amount: 5, attempt: 1}})
	b := billed([]bill{{kind: event.KindInvoiceIssued, day: 2, amount: 7, next: 20}})
	a.Join(b, &p)
	if x, _ := a.Billing(90 * dayMs); x.Failing.Since == 0 || len(x.Invoices) != 1 {
		t.Errorf("%+v", x)
	}
	c := &Record{}
	c.Join(a, &p)
	if c.bills == a.bills || !reflect.DeepEqual(c.bills, a.bills) {
		t.Error("the bills of one are those of both, in memory of their own")
	}
}
