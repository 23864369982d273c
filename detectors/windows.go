package detectors

import (
	"math/bits"

	"ebb/state/customer"
	"ebb/stream/event"
)

// spendOf sums what a customer spent on two stretches of local days, the newer [mid, to) and the older [from, mid), in the
// reporting currency. Currencies without a rate are left out.
func spendOf(r *customer.Record, t *Rates, from, mid, to int32) (older, newer event.Money) {
	for cur := range r.Currencies {
		var o, n event.Money
		for i := len(r.Spend) - 1; i >= 0; i-- {
			s := &r.Spend[i]
			day := s.Day()
			if day < from {
				break
			}
			if day >= to || s.Currency() != cur {
				continue
			}
			if day >= mid {
				n = add(n, s.Amount)
			} else {
				o = add(o, s.Amount)
			}
		}
		if o == 0 && n == 0 {
			continue
		}
		o, _ = t.Convert(r.Currencies[cur], o)
		n, _ = t.Convert(r.Currencies[cur], n)
		older, newer = add(older, o), add(newer, n)
	}
	return older, newer
}

// baselineDays is the length of the window from which the spend of the horizon is told for a customer whose detector has no
// baseline of its own.
const baselineDays = 28

// baselineOf is what a customer would spend in the horizon at the pace of the 28 local days that end with day: their spend
// times horizon / 28 days, never negative. Shorter histories count as if the days before had been without spend.
func baselineOf(r *customer.Record, t *Rates, day int32, horizon Duration) event.Money {
	_, spent := spendOf(r, t, day-baselineDays+1, day-baselineDays+1, day+1)
	return max(0, scaled(spent, horizon.Ms(), baselineDays*Day.Ms()))
}

// scaled is m*num/den rounded half to even, or the largest amount.
func scaled(m event.Money, num, den int64) event.Money {
	v, ok := m.MulDiv(num, den)
	if !ok {
		return saturated(m > 0)
	}
	return v
}

// less reports whether a*ka < b*kb, exactly. ka and kb must not be negative.
func less(a event.Money, ka int64, b event.Money, kb int64) bool {
	const small = 1 << 31
	if a < small && a > -small && b < small && b > -small && ka < small && kb < small {
		return int64(a)*ka < int64(b)*kb
	}
	ah, al := mul(a, ka)
	bh, bl := mul(b, kb)
	return ah < bh || ah == bh && al < bl
}

// mul is the 128-bit product as high and low word.
func mul(a event.Money, k int64) (high int64, low uint64) {
	neg := a < 0
	u := uint64(a)
	if neg {
		u = -u
	}
	h, l := bits.Mul64(u, uint64(k))
	if neg {
		l, h = -l, ^h
		if l == 0 {
			h++
		}
	}
	return int64(h), l
}

// stalledWithin is how many milliseconds of [from, to) at least one of the feeds stood still.
func (e *Env) stalledWithin(from, to int64, feeds ...event.Feed) int64 {
	sum, done := int64(0), from
	for i := range e.Stalls {
		s := &e.Stalls[i]
		if !among(s.Feed, feeds) {
			continue
		}
		a, b := max(s.From, done), min(s.To, to)
		if a < b {
			sum += b - a
			done = b
		}
	}
	return sum
}

// afterStalls is the time at which limit milliseconds have passed since from, not counting those in which at least one of
// the feeds stood still.
func (e *Env) afterStalls(from, limit int64, feeds ...event.Feed) int64 {
	at, done := from+limit, from
	for i := range e.Stalls {
		s := &e.Stalls[i]
		if !among(s.Feed, feeds) {
			continue
		}
		a := max(s.From, done)
		if a < at && a < s.To {
			at += s.To - a
			done = s.To
		}
	}
	return at
}

func among(f event.Feed, feeds []event.Feed) bool {
	for _, g := range feeds {
		if f == g {
			return true
		}
	}
	return false
}
