package customer

import (
	"slices"

	"ebb/stream/event"
)

// newest is the newest day of the windows, or -1 if they are empty.
func (r *Record) newest() int32 {
	day := int32(-1)
	if n := len(r.Usage); n != 0 {
		day = r.Usage[n-1].Day
	}
	if n := len(r.Spend); n != 0 {
		day = max(day, r.Spend[n-1].Day())
	}
	return day
}

// roll moves the windows on so that they hold the day, and reports whether the day lies in them.
func (r *Record) roll(day int32, p *Params) bool {
	newest := r.newest()
	if day <= newest {
		return day > newest-int32(p.KeptDays)
	}
	if p.Drop != nil {
		r.learnDrops(day, p.Drop)
	}
	r.trim(day - int32(p.KeptDays) + 1)
	return true
}

// trim drops the days before oldest.
func (r *Record) trim(oldest int32) {
	if len(r.Usage) != 0 && r.Usage[0].Day < oldest {
		n := 1
		for n < len(r.Usage) && r.Usage[n].Day < oldest {
			n++
		}
		r.Usage = append(r.Usage[:0], r.Usage[n:]...)
	}
	if len(r.Spend) != 0 && r.Spend[0].Day() < oldest {
		n := 1
		for n < len(r.Spend) && r.Spend[n].Day() < oldest {
			n++
		}
		r.Spend = append(r.Spend[:0], r.Spend[n:]...)
	}
}

// addUsage adds uses to a day.
func (r *Record) addUsage(day int32, count uint32, quantity event.Money, p *Params) Outcome {
	r.forgetPlan(event.Usage)
	r.forgetTendency(day)
	if !r.roll(day, p) {
		return TooOld
	}
	u := r.usageDay(day)
	sum, ok := u.Quantity.Add(quantity)
	if !ok {
		return SumOverflow
	}
	u.Quantity = sum
	u.Count += min(count, ^uint32(0)-u.Count)
	return Applied
}

// usageDay returns the entry of a day, made if there is none. Most events belong to the newest day.
func (r *Record) usageDay(day int32) *UsageDay {
	n := len(r.Usage)
	i := n
	for i > 0 && r.Usage[i-1].Day > day {
		i--
	}
	if i > 0 && r.Usage[i-1].Day == day {
		return &r.Usage[i-1]
	}
	if n == cap(r.Usage) {
		r.Usage = grown(r.Usage)
	}
	if i == n {
		r.Usage = append(r.Usage, UsageDay{Day: day})
	} else {
		r.Usage = slices.Insert(r.Usage, i, UsageDay{Day: day})
	}
	return &r.Usage[i]
}

// addSpend adds a purchase or a refund to a day.
func (r *Record) addSpend(day int32, e *event.Event, p *Params) Outcome {
	r.forgetPlan(event.Payments)
	r.forgetTendency(day)
	if !r.roll(day, p) {
		return TooOld
	}
	cur := r.currency(e.Currency, p)
	if cur < 0 {
		r.rarely().overflows.Currencies++
		return CurrencyOverflow
	}
	amount := e.Amount
	if e.Kind == event.KindRefund {
		amount = -amount
	}
	s := r.spendDay(day, cur)
	sum, ok := s.Amount.Add(amount)
	if !ok {
		return SumOverflow
	}
	s.Amount = sum
	if e.Kind == event.KindRefund {
		s.Refunds += min(1, ^uint16(0)-s.Refunds)
	} else {
		s.Purchases += min(1, ^uint16(0)-s.Purchases)
	}
	return Applied
}

// spendDay returns the entry of a day and currency, made if there is none.
func (r *Record) spendDay(day int32, cur int) *SpendDay {
	key := uint32(day)<<8 | uint32(cur)
	n := len(r.Spend)
	i := n
	for i > 0 && r.Spend[i-1].key > key {
		i--
	}
	if i > 0 && r.Spend[i-1].key == key {
		return &r.Spend[i-1]
	}
	if n == cap(r.Spend) {
		r.Spend = grown(r.Spend)
	}
	if i == n {
		r.Spend = append(r.Spend, SpendDay{key: key})
	} else {
		r.Spend = slices.Insert(r.Spend, i, SpendDay{key: key})
	}
	return &r.Spend[i]
}

// currency returns the index of a currency, or -1 if there is no room for it. A place whose days have all left the
// windows is used again.
func (r *Record) currency(c event.Currency, p *Params) int {
	for i := range r.Currencies {
		if r.Currencies[i] == c {
			return i
		}
	}
	if len(r.Currencies) < p.MaxCurrencies {
		if len(r.Currencies) == cap(r.Currencies) {
			r.Currencies = append(make([]event.Currency, 0, len(r.Currencies)+1), r.Currencies...)
		}
		r.Currencies = append(r.Currencies, c)
		return len(r.Currencies) - 1
	}
	var used [256]bool
	for i := range r.Spend {
		used[r.Spend[i].Currency()] = true
	}
	for i := range r.Currencies {
		if !used[i] {
			r.Currencies[i] = c
			return i
		}
	}
	return -1
}

// addAggregate spreads a total over the local days of its period, in proportion to the time that each has in it. The parts
// add up to the total: each is the difference of two rounded running totals.
func (r *Record) addAggregate(e *event.Event, p *Params) Outcome {
	start, end := max(e.PeriodStart, 0), e.PeriodEnd
	if end <= start {
		return r.addUsage(r.localDay(max(e.Time, 1), p), 1, e.Quantity, p)
	}
	last := r.localDay(end-1, p)
	oldest := max(last, r.newest()) - int32(p.KeptDays) + 1
	if !r.roomFor(e.Quantity, max(r.localDay(start, p), oldest), last) {
		return SumOverflow
	}
	var out Outcome
	var told event.Money
	for from := start; from < end; {
		day := r.localDay(from, p) // not the one after the last: a zone change repeats or skips days
		to := min(p.Calendar.StartOf(r, day+1, from), end)
		if to <= from { // of a day that comes twice, because the clock is set back shortly after midnight
			to = min(from+hourMs, end)
		}
		upTo, _ := e.Quantity.MulDiv(to-start, end-start) // at most the total: cannot overflow
		if day < oldest {
			out = TooOld
		} else if to > from {
			r.addUsage(day, 1, upTo-told, p)
		}
		from, told = to, upTo
	}
	return out
}

// roomFor reports whether a quantity could be added to any one of the days without overflow.
func (r *Record) roomFor(quantity event.Money, from, to int32) bool {
	for i := range r.Usage {
		if u := &r.Usage[i]; u.Day >= from && u.Day <= to {
			if _, ok := u.Quantity.Add(quantity); !ok {
				return false
			}
		}
	}
	return true
}

// grown makes room by a quarter, at least two: records are many, and most stay small.
func grown[T any](s []T) []T {
	t := make([]T, len(s), len(s)+max(2, len(s)/4))
	copy(t, s)
	return t
}
