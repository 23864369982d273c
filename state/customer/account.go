package customer

import (
	"math"
	"unsafe"

	"ebb/stream/event"
)

const (
	// accountWeeks is how many weeks of an account are kept, seen from the newest with a record, and the newest before them.
	accountWeeks = 26
	weekDays     = 7
	// firstMonday is how many days before the first of 1970 a week began.
	firstMonday = 3
)

// account is what is known of a customer's balance: by weeks of local days. A customer has one; a record in another
// currency is not of it.
type account struct {
	currency event.Currency
	at       int64       // of the newest record with a balance, ms
	balance  event.Money // then
	moved    event.Money // what records without a balance moved since
	weeks    []accountWeek
}

// accountWeek is one week with records.
type accountWeek struct {
	week    int32
	peak    event.Money // the highest balance that was told
	last    event.Money // the newest
	in, out event.Money // what came, and what went
}

// Week is one week of an account.
type Week struct {
	Peak    event.Money // the highest balance in it
	In, Out event.Money // what came, and what went
}

// Account is what is known of a customer's balance as of some week.
type Account struct {
	Currency event.Currency
	Balance  event.Money // the newest
	At       int64       // when that was told, ms
	// Weeks are those up to the asked one, the newest last. What is not told of a week stays as it was before.
	Weeks []Week
}

// WeekOf is the week of a local day. Weeks begin on Monday.
func WeekOf(day int32) int32 { return (day + firstMonday) / weekDays }

// FirstDayOf is the first local day of a week.
func FirstDayOf(week int32) int32 { return week*weekDays - firstMonday }

// moves is what a payment does to the balance of an account: above 0 it comes, below it goes.
func moves(e *event.Event) event.Money {
	switch e.Kind {
	case event.KindDeposit, event.KindTransferIn, event.KindTopUp, event.KindRefund:
		return e.Amount
	case event.KindWithdrawal, event.KindTransferOut, event.KindPurchase, event.KindCharge:
		return -e.Amount
	}
	return 0
}

// noteAccount takes a record of the payments feed into the account. A record that comes late counts in the week to which it belongs.
func (r *Record) noteAccount(e *event.Event, p *Params) {
	a := r.account
	switch {
	case a == nil && !e.Balanced:
		return
	case a == nil:
		a = &account{currency: e.Currency}
		r.account = a
	case a.currency != e.Currency:
		return
	}
	at, moved := max(e.Time, 1), moves(e)
	w := a.week(WeekOf(r.localDay(at, p)))
	if w == nil {
		return
	}
	w.flow(moved)
	switch {
	case !e.Balanced:
		if at >= a.at {
			a.moved = sum(a.moved, moved)
		}
		return
	case at < a.at:
		if w.peak = max(w.peak, e.Balance); w.last == -maxMoney {
			w.last = e.Balance
		}
		return
	case a.at != 0: // what is not told by records of its own shows in the balance
		w.flow(sum(sum(e.Balance, -a.balance), -sum(a.moved, moved)))
	}
	w.peak, w.last = max(w.peak, e.Balance), e.Balance
	a.at, a.balance, a.moved = at, e.Balance, 0
}

// sum is a sum that stops at the largest amount.
func sum(a, b event.Money) event.Money {
	v, ok := a.Add(b)
	switch {
	case ok:
		return v
	case a > 0:
		return maxMoney
	}
	return -maxMoney
}

func (w *accountWeek) flow(m event.Money) {
	if m > 0 {
		w.in = sum(w.in, m)
	} else {
		w.out = sum(w.out, -max(m, -maxMoney))
	}
}

// week is the entry of a week, made if there is none, nil for one that is too long ago.
func (a *account) week(n int32) *accountWeek {
	i := len(a.weeks)
	for i > 0 && a.weeks[i-1].week > n {
		i--
	}
	if i > 0 && a.weeks[i-1].week == n {
		return &a.weeks[i-1]
	}
	fresh := accountWeek{week: n, peak: -maxMoney, last: -maxMoney}
	if i > 0 {
		fresh.peak, fresh.last = a.weeks[i-1].last, a.weeks[i-1].last
	}
	if i < len(a.weeks) {
		if n <= a.weeks[len(a.weeks)-1].week-accountWeeks {
			return nil
		}
		a.weeks = append(a.weeks, accountWeek{})
		copy(a.weeks[i+1:], a.weeks[i:])
		a.weeks[i] = fresh
		return &a.weeks[i]
	}
	old := 0
	for old+1 < len(a.weeks) && a.weeks[old+1].week <= n-accountWeeks {
		old++
	}
	a.weeks = append(a.weeks[:0], a.weeks[old:]...)
	if len(a.weeks) == cap(a.weeks) {
		a.weeks = grown(a.weeks)
	}
	a.weeks = append(a.weeks, fresh)
	return &a.weeks[len(a.weeks)-1]
}

// Account returns what is known of the customer's account up to a week, of which at most n are told, false if none is kept. What lies before the first balance
// is left out.
func (r *Record) Account(week int32, n int) (Account, bool) {
	a := r.account
	if a == nil || a.at == 0 {
		return Account{}, false
	}
	out := Account{Currency: a.currency, Balance: a.balance, At: a.at}
	i, last := 0, -maxMoney
	from := week - int32(n) + 1
	for ; i < len(a.weeks) && a.weeks[i].week < from; i++ {
		last = a.weeks[i].last
	}
	for k := from; k <= week; k++ {
		x := Week{Peak: last}
		if i < len(a.weeks) && a.weeks[i].week == k {
			w := &a.weeks[i]
			x, last = Week{Peak: max(w.peak, last), In: w.in, Out: w.out}, w.last
			i++
		}
		if x.Peak != -maxMoney {
			out.Weeks = append(out.Weeks, x)
		}
	}
	return out, true
}

// accountPart keeps the account in the record.
type accountPart struct{}

var _ part = accountPart{}

func (accountPart) has(r *Record) bool { return r.account != nil }

// append writes the currency, the newest balance, and for each week how much later it is than the one before and its sums.
func (accountPart) append(dst []byte, r *Record) []byte {
	a := r.account
	dst = append(dst, a.currency[:]...)
	dst = appendVarint(appendVarint(appendUvarint(dst, uint64(a.at)), int64(a.balance)), int64(a.moved))
	dst = appendUvarint(dst, uint64(len(a.weeks)))
	before := int32(0)
	for i := range a.weeks {
		w := &a.weeks[i]
		dst = appendUvarint(dst, uint64(w.week-before))
		before = w.week
		for _, m := range w.sums() {
			dst = appendVarint(dst, int64(*m))
		}
	}
	return dst
}

func (w *accountWeek) sums() [4]*event.Money {
	return [...]*event.Money{&w.peak, &w.last, &w.in, &w.out}
}

func (accountPart) decode(d *decoder, r *Record) {
	a := &account{}
	if len(d.b)-d.at < len(a.currency) {
		d.bad = true
		return
	}
	d.at += copy(a.currency[:], d.b[d.at:])
	at := d.uvarint()
	a.at, a.balance, a.moved = int64(at), event.Money(d.varint()), event.Money(d.varint())
	n := d.count(d.uvarint(), 5)
	if d.bad = d.bad || at > math.MaxInt64 || n == 0 || n > accountWeeks+2; d.bad {
		return
	}
	a.weeks = make([]accountWeek, 0, n)
	week := int64(0)
	for i := range n {
		step := d.uvarint()
		if d.bad = d.bad || step > maxDay || i > 0 && step == 0; d.bad {
			return
		}
		week += int64(step)
		w := accountWeek{week: int32(week)}
		for _, m := range w.sums() {
			*m = event.Money(d.varint())
		}
		if d.bad = d.bad || week > maxDay; d.bad {
			return
		}
		a.weeks = append(a.weeks, w)
	}
	r.account = a
}

// join keeps the account that was heard of last: the balances of two are not that of one.
func (accountPart) join(r, o *Record, _ *Params) {
	if o.account == nil || r.account != nil && r.account.at >= o.account.at {
		return
	}
	own := *o.account
	own.weeks = append([]accountWeek(nil), own.weeks...)
	r.account = &own
}

func (accountPart) size(r *Record) int {
	return int(unsafe.Sizeof(account{})) + cap(r.account.weeks)*int(unsafe.Sizeof(accountWeek{}))
}
