package detectors

import (
	"math"
	"math/bits"
	"slices"

	"ebb/state/customer"
	"ebb/stream/event"
)

// spendOf sums what a customer spent on two stretches of local days, the newer [mid, to) and the older [from, mid), in the
// reporting currency. Currencies without a rate are left out.
func spendOf(r *customer.Record, t *Rates, from, mid, to int32) (older, newer event.Money) {
	for cur := range r.Currencies {
		o, n := spendIn(r, cur, from, mid, to)
		if o == 0 && n == 0 {
			continue
		}
		o, _ = t.Convert(r.Currencies[cur], o)
		n, _ = t.Convert(r.Currencies[cur], n)
		older, newer = add(older, o), add(newer, n)
	}
	return older, newer
}

// usageOf sums how much a customer used on the local days [from, to); a day on which uses have no quantity counts those.
func usageOf(r *customer.Record, from, to int32) event.Money {
	sum := event.Money(0)
	for i := len(r.Usage) - 1; i >= 0 && r.Usage[i].Day >= from; i-- {
		switch u := &r.Usage[i]; {
		case u.Day >= to:
		case u.Quantity > 0:
			sum = add(sum, u.Quantity)
		default:
			sum = add(sum, event.Money(u.Count)*event.MoneyUnit)
		}
	}
	return sum
}

// spendIn is spendOf for one currency, not converted.
func spendIn(r *customer.Record, cur int, from, mid, to int32) (older, newer event.Money) {
	for i := len(r.Spend) - 1; i >= 0; i-- {
		s := &r.Spend[i]
		switch day := s.Day(); {
		case day < from:
			return older, newer
		case day >= to || s.Currency() != cur:
		case day >= mid:
			newer = add(newer, s.Amount)
		default:
			older = add(older, s.Amount)
		}
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
	return t.round(max(0, scaled(spent, horizon.Ms(), baselineDays*Day.Ms())))
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
	sum := int64(0)
	for from < to {
		a, b := e.nextStall(from, feeds)
		if a >= to {
			break
		}
		b = min(b, to)
		sum, from = sum+b-a, b
	}
	return sum
}

// afterStalls is the time at which limit milliseconds have passed since from, not counting those in which at least one of
// the feeds stood still.
func (e *Env) afterStalls(from, limit int64, feeds ...event.Feed) int64 {
	at := from + limit
	for len(e.Stalls) != 0 {
		a, b := e.nextStall(from, feeds)
		if a >= at {
			break
		}
		at, from = at+b-a, b
	}
	return at
}

// nextStall is the first stretch [a, b) at or after from that one of the feeds stood still; stretches of several feeds may
// overlap, and stand in any order.
func (e *Env) nextStall(from int64, feeds []event.Feed) (a, b int64) {
	a, b = math.MaxInt64, math.MaxInt64
	for i := range e.Stalls {
		s := &e.Stalls[i]
		if s.To > from && s.From < s.To && max(s.From, from) < a && slices.Contains(feeds, s.Feed) {
			a, b = max(s.From, from), s.To
		}
	}
	return a, b
}
