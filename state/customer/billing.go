package customer

import (
	"cmp"
	"slices"
	"unsafe"

	"ebb/stream/event"
)

// BillKind is what happened to a payment that is owed.
type BillKind uint8

// The steps. The numbers are stored, and order those of the same time: what succeeds at the time at which it failed was tried again.
const (
	BillFailed   BillKind = iota + 1 // a payment failed that is not the customer's own single try
	BillIssued                       // an invoice with a date until when it is to be paid
	BillOverdue                      // an invoice is overdue, says who issued it
	BillExpiring                     // what the customer pays with will expire
	BillPaid                         // a payment succeeded

	lastBill = BillPaid
)

// billStep is one step of what a customer owes.
type billStep struct {
	at        int64 // ms
	next      int64 // of a failure: when it will be tried again; of others: the date until when; 0 for none
	amount    event.Money
	currency  event.Currency
	attempt   uint16 // as was told, 0 where it was not
	kind      BillKind
	recurring bool
	code      string // why it failed, at most maxBillCode bytes
}

func (s *billStep) compare(o *billStep) int {
	return cmp.Or(cmp.Compare(s.at, o.at), cmp.Compare(s.kind, o.kind), cmp.Compare(s.next, o.next), cmp.Compare(s.amount, o.amount),
		slices.Compare(s.currency[:], o.currency[:]), cmp.Compare(s.attempt, o.attempt), cmp.Compare(s.code, o.code), event.CompareBool(s.recurring, o.recurring))
}

// bills is the course of what a customer owes, in the order of time, whatever the order of arrival. It is there while something is owed, and for billsKept
// after that, or after the newest payment of a series.
type bills struct {
	steps []billStep
}

const (
	// maxBills is how many steps are kept.
	maxBills = 24
	// maxBillCode is the longest reason of a failure that is kept, in bytes.
	maxBillCode = 32
	// billsKept is how long steps are kept after all is paid: as long as the time in which something was owed must not count as a drop.
	billsKept = 91 * dayMs
	// givenUp is the longest time after which somebody gives up on what he is owed, ms.
	givenUp = 366 * dayMs
	// sameAttempt is how far apart two records of a failure are at most that are of the same attempt, ms: the charge and its invoice both tell of it.
	sameAttempt = 10 * 60_000
	// expiresIn is when a means of payment expires of which it is only told that it will, ms.
	expiresIn = 31 * dayMs
)

// Billing is what a customer owes, as far as it was told.
type Billing struct {
	Failing  Failing
	Invoices []Invoice // that are open, the one due first in front
	// Expiring is when it was told that what he pays with expires, and Expires when that is; 0 if it does not, or a payment has succeeded since.
	Expiring, Expires int64
	// Paid is when a payment last settled something of the above, 0 for never.
	Paid int64
	// Owed are the stretches [from, to) in which payments failed or invoices were overdue, the oldest first.
	Owed []Stretch
}

// Stretch is a stretch of time in ms.
type Stretch struct{ From, To int64 }

// Failing is a payment that failed and was not made up for.
type Failing struct {
	Since    int64  // first failure, 0 if nothing fails
	Last     int64  // newest failure
	Next     int64  // when it will be tried again, 0 if that is not announced
	Attempts int    // how often it failed
	Told     uint16 // the number of the newest attempt as its source counts, 0 if it does not
	Amount   event.Money
	Currency event.Currency
	Code     string
	repeats  bool // one of a series
}

// Exhausted reports whether it failed again, and no other attempt is announced.
func (f *Failing) Exhausted() bool { return f.Next == 0 && (f.Attempts > 1 || f.Told > 1) }

// Invoice is one that is not paid.
type Invoice struct {
	Issued   int64 // 0 where only that it is overdue was told
	Due      int64 // until when it is to be paid
	Told     int64 // when it was told to be overdue, 0 for never
	Amount   event.Money
	Currency event.Currency
}

// noteBill takes a record of the payments feed into what the customer owes.
func (r *Record) noteBill(e *event.Event, p *Params) {
	s := billStep{at: max(e.Time, 1), amount: e.Amount, currency: e.Currency}
	switch e.Kind {
	case event.KindChargeFailed:
		// A single payment that fails is the customer's own try, which he repeats or not. Of others it is told that they belong to a series, or are tried by somebody.
		if !e.Recurring && e.Attempt == 0 && e.NextAttempt == 0 {
			return
		}
		if !e.Recurring && s.at < r.Latest && r.boughtSince(r.localDay(s.at, p)) {
			return // it comes late, and was made up for
		}
		s.kind, s.recurring, s.attempt = BillFailed, e.Recurring, e.Attempt
		if e.NextAttempt > s.at {
			s.next = e.NextAttempt
		}
		s.code = Clip(string(e.FailureCode), maxBillCode)
	case event.KindInvoiceIssued:
		if e.Due <= 0 {
			return // it is charged by itself
		}
		s.kind, s.next = BillIssued, e.Due
	case event.KindInvoiceOverdue:
		s.kind, s.next = BillOverdue, max(e.Due, 0)
	case event.KindPaymentMethodExpiring:
		s.kind, s.next, s.amount = BillExpiring, max(e.Due, 0), 0
	case event.KindPurchase, event.KindCharge:
		s.kind, s.recurring = BillPaid, e.Recurring || e.Kind == event.KindCharge
		if s.amount == 0 || (r.bills == nil || !r.bills.owed()) && !s.recurring {
			return
		}
		if r.bills != nil && !r.bills.owed() && !r.bills.makeWay(&s) {
			return
		}
	default:
		return
	}
	if r.bills == nil {
		r.bills = &bills{}
	}
	r.bills.add(s)
	r.forgetPlan(event.Payments) // the time in which something is owed does not count
}

// boughtSince reports whether the windows hold a purchase on a day or later.
func (r *Record) boughtSince(day int32) bool {
	for i := len(r.Spend) - 1; i >= 0 && r.Spend[i].Day() >= day; i-- {
		if r.Spend[i].Purchases != 0 {
			return true
		}
	}
	return false
}

// makeWay drops the newest payment of a series that settled nothing, for a newer one; it is false for one that is not newer. The newest is kept because a failure that it made up for may be
// told after it.
func (b *bills) makeWay(s *billStep) bool {
	n := len(b.steps) - 1
	switch last := &b.steps[n]; {
	case s.at <= last.at:
		return false
	case last.kind != BillPaid:
	case n == 0 || !(&bills{b.steps[:n]}).owed():
		b.steps = b.steps[:n]
	}
	return true
}

// add inserts a step. Where there is no room the second oldest failure goes, else the oldest step.
func (b *bills) add(s billStep) {
	i, found := slices.BinarySearchFunc(b.steps, &s, func(x billStep, want *billStep) int { return x.compare(want) })
	if found {
		return
	}
	b.steps = slices.Insert(b.steps, i, s)
	if len(b.steps) > maxBills {
		drop := 0
		for k := 1; k < len(b.steps)-1; k++ {
			if b.steps[k].kind == BillFailed && b.steps[k-1].kind == BillFailed {
				drop = k
				break
			}
		}
		b.steps = slices.Delete(b.steps, drop, drop+1)
	}
}

// forgetBills gives back what is of no use any more, as of the newest event.
func (r *Record) forgetBills() {
	b := r.bills
	n := len(b.steps)
	if b.steps[n-1].at >= r.Latest-billsKept {
		return
	}
	if !b.owed() || b.steps[n-1].at < r.Latest-givenUp {
		r.bills = nil
	}
}

// owed reports whether anything is open.
func (b *bills) owed() bool {
	x := b.fold(givenUp)
	return x.Failing.Since != 0 || len(x.Invoices) != 0 || x.Expiring != 0
}

// Billing is what the customer owes, false if nothing is kept of it. For giveUp, ms and at most a year, after the last attempt, or after it was due, a payment
// counts as owed.
func (r *Record) Billing(giveUp int64) (Billing, bool) {
	if r.bills == nil {
		return Billing{}, false
	}
	return r.bills.fold(giveUp), true
}

// fold goes through the steps.
func (b *bills) fold(giveUp int64) Billing {
	var x Billing
	for i := range b.steps {
		s := &b.steps[i]
		switch s.kind {
		case BillFailed:
			x.fail(s, giveUp)
		case BillIssued:
			x.Invoices = append(x.Invoices, Invoice{Issued: s.at, Due: s.next, Amount: s.amount, Currency: s.currency})
		case BillOverdue:
			x.overdue(s)
		case BillExpiring:
			x.Expiring, x.Expires = s.at, s.next
			if s.next == 0 {
				x.Expires = s.at + expiresIn
			}
		case BillPaid:
			x.pay(s, giveUp)
		}
	}
	if f := &x.Failing; f.Since != 0 {
		x.owed(f.Since, f.Until(giveUp))
	}
	for i := range x.Invoices {
		x.owed(x.Invoices[i].Due, x.Invoices[i].Due+giveUp)
	}
	slices.SortFunc(x.Invoices, func(a, b Invoice) int { return cmp.Or(cmp.Compare(a.Due, b.Due), cmp.Compare(a.Issued, b.Issued)) })
	slices.SortFunc(x.Owed, func(a, b Stretch) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return x
}

// Until is when a payment that fails is given up.
func (f *Failing) Until(giveUp int64) int64 { return max(f.Last, f.Next) + giveUp }

func (x *Billing) owed(from, to int64) {
	if from < to {
		x.Owed = append(x.Owed, Stretch{from, to})
	}
}

func (x *Billing) fail(s *billStep, giveUp int64) {
	f := &x.Failing
	if f.Since != 0 && s.at >= f.Until(giveUp) {
		x.owed(f.Since, f.Until(giveUp))
		*f = Failing{}
	}
	if f.Since == 0 {
		f.Since = s.at
	}
	again := f.Last != 0 && s.at-f.Last <= sameAttempt
	if !again {
		f.Attempts++
	}
	if !again || s.next != 0 {
		f.Next = s.next
	}
	f.Last, f.Told = s.at, max(f.Told, s.attempt)
	f.Amount, f.Currency, f.repeats = s.amount, s.currency, f.repeats || s.recurring
	if s.code != "" {
		f.Code = s.code
	}
}

// overdue marks the open invoice that is told to be overdue: the first that is due, or else it is one of which nothing was known.
func (x *Billing) overdue(s *billStep) {
	for i := range x.Invoices {
		if v := &x.Invoices[i]; v.Told == 0 && v.Due <= s.at {
			v.Told = s.at
			return
		}
	}
	due := s.at
	if s.next != 0 {
		due = min(s.next, s.at)
	}
	x.Invoices = append(x.Invoices, Invoice{Due: due, Told: s.at, Amount: s.amount, Currency: s.currency})
}

// pay settles what failed, if the payment is of its kind, and invoices as a ledger does: the oldest first, as far as the money reaches.
func (x *Billing) pay(s *billStep, giveUp int64) {
	if f := &x.Failing; f.Since != 0 && (s.recurring || !f.repeats) {
		x.owed(f.Since, min(s.at, f.Until(giveUp)))
		*f, x.Paid = Failing{}, s.at
	}
	if x.Expiring != 0 && s.at >= x.Expires {
		x.Expiring, x.Expires, x.Paid = 0, 0, s.at
	}
	left := s.amount
	for len(x.Invoices) != 0 && left > 0 {
		v := &x.Invoices[0]
		if v.Currency == s.currency && v.Amount > left {
			v.Amount -= left
			return
		}
		if v.Currency == s.currency {
			left -= v.Amount
		} else {
			left = 0 // what it is worth there is not known: it settles one
		}
		x.owed(v.Due, min(s.at, v.Due+giveUp))
		x.Paid = s.at
		x.Invoices = x.Invoices[1:]
	}
}

// billsPart keeps what is owed in the record.
type billsPart struct{}

var _ part = billsPart{}

// What is said of a step in one byte: its kind, and which of its fields follow.
const (
	billKindBits = 7
	billRepeats  = 1 << (iota + 2)
	billAttempt
	billNext
	billAmount
	billCode
)

func (billsPart) has(r *Record) bool { return r.bills != nil }

// append writes the number of steps, and each: its head, how much later it is than the one before, and what it has.
func (billsPart) append(dst []byte, r *Record) []byte {
	dst = appendUvarint(dst, uint64(len(r.bills.steps)))
	last := int64(0)
	for i := range r.bills.steps {
		s := &r.bills.steps[i]
		head := byte(s.kind)
		for _, f := range [...]struct {
			has bool
			bit byte
		}{
			{s.recurring, billRepeats},
			{s.attempt != 0, billAttempt},
			{s.next != 0, billNext},
			{s.amount != 0 || s.currency != event.Currency{}, billAmount},
			{s.code != "", billCode},
		} {
			if f.has {
				head |= f.bit
			}
		}
		dst = appendUvarint(append(dst, head), uint64(s.at-last))
		last = s.at
		if s.attempt != 0 {
			dst = appendUvarint(dst, uint64(s.attempt))
		}
		if s.next != 0 {
			dst = appendVarint(dst, s.next-s.at)
		}
		if head&billAmount != 0 {
			dst = append(appendVarint(dst, int64(s.amount)), s.currency[:]...)
		}
		if s.code != "" {
			dst = appendText(dst, s.code)
		}
	}
	return dst
}

func (billsPart) decode(d *decoder, r *Record) {
	n := d.count(d.uvarint(), 2)
	if d.bad = d.bad || n == 0 || n > maxBills; d.bad {
		return
	}
	b := &bills{steps: make([]billStep, 0, n)}
	last := int64(0)
	for i := range n {
		head := d.byte()
		last += int64(d.uvarint())
		s := billStep{at: last, kind: BillKind(head & billKindBits), recurring: head&billRepeats != 0}
		d.billFields(head, &s)
		d.bad = d.bad || s.at < 0 || s.kind == 0 || s.kind > lastBill || len(s.code) > maxBillCode || i > 0 && b.steps[i-1].compare(&s) >= 0
		if d.bad {
			return
		}
		b.steps = append(b.steps, s)
	}
	r.bills = b
}

// billFields reads what a head says that follows; a field that is there says something.
func (d *decoder) billFields(head byte, s *billStep) {
	if head&billAttempt != 0 {
		s.attempt = d.short()
		d.bad = d.bad || s.attempt == 0
	}
	if head&billNext != 0 {
		s.next = s.at + d.varint()
		d.bad = d.bad || s.next <= 0
	}
	if head&billAmount != 0 {
		s.amount = event.Money(d.varint())
		if len(d.b)-d.at < len(s.currency) {
			d.bad = true
			return
		}
		d.at += copy(s.currency[:], d.b[d.at:])
		d.bad = d.bad || s.amount == 0 && s.currency == event.Currency{}
	}
	if head&billCode != 0 {
		s.code = d.text()
		d.bad = d.bad || s.code == ""
	}
}

func (billsPart) join(r, o *Record, _ *Params) {
	if o.bills == nil {
		return
	}
	if r.bills == nil {
		r.bills = &bills{}
	}
	for i := range o.bills.steps {
		r.bills.add(o.bills.steps[i])
	}
}

func (billsPart) size(r *Record) int {
	n := int(unsafe.Sizeof(bills{})) + cap(r.bills.steps)*int(unsafe.Sizeof(billStep{}))
	for i := range r.bills.steps {
		n += len(r.bills.steps[i].code)
	}
	return n
}
