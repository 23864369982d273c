package backtest

import (
	"cmp"
	"slices"
	"sort"

	"ebb/detectors"
	"ebb/detectors/population"
	"ebb/state/customer"
	"ebb/stream/event"
)

// This file says what became of customers' accounts, by the balances that records name: whose money went away and stayed away. It is judged apart from the
// detector's own windows, so that these can be held against it.

const (
	// usualWeeks are the weeks whose mean highest balance is usual, and leastUsual how many of them must be known.
	usualWeeks, leastUsual = 13, 8
	// emptied is the part of the usual below which an account is as good as empty.
	emptied = 10
)

// balance is what was on an account.
type balance struct {
	at       int64 // ms
	amount   event.Money
	currency event.Currency
}

// closeAccount puts the balances into order, in the reporting currency. A customer has one account, in the currency of the first balance.
func (p *person) closeAccount(rates *detectors.Rates) {
	if len(p.balances) == 0 {
		return
	}
	slices.SortFunc(p.balances, func(a, b balance) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.amount, b.amount), slices.Compare(a.currency[:], b.currency[:]))
	})
	of := p.balances[0].currency
	out := p.balances[:0]
	for _, b := range p.balances {
		amount, known := rates.Convert(b.currency, b.amount)
		if b.currency == of && known {
			b.amount = amount
			out = append(out, b)
		}
	}
	p.balances = slices.Clip(out)
}

// highest is the highest balance of a stretch of time, with the one that was there when it began; false while none is known.
func (p *person) highest(from, to int64) (most event.Money, known bool) {
	i := sort.Search(len(p.balances), func(i int) bool { return p.balances[i].at > from })
	for i = max(i-1, 0); i < len(p.balances) && p.balances[i].at <= to; i++ {
		if b := p.balances[i].amount; !known || b > most {
			most, known = b, true
		}
	}
	return most, known
}

// usualBalance is the mean highest balance of the weeks before that of a time, 0 where too few are known or there was nothing.
func (p *person) usualBalance(at int64) event.Money {
	week, sum, n := customer.WeekOf(dayOf(at)), event.Money(0), event.Money(0)
	for w := week - usualWeeks; w < week; w++ {
		if most, known := p.highest(weekStart(w), weekStart(w+1)-1); known {
			sum, _ = sum.Add(max(most, 0))
			n++
		}
	}
	if n < leastUsual {
		return 0
	}
	return sum / n / 100 * 100 // no finer than a hundredth: a mean is no bill
}

// weekStart is when a week (UTC) begins, ms.
func weekStart(week int32) int64 { return int64(customer.FirstDayOf(week)) * dayMs }

// findDrains finds the accounts that ran down and stayed so for longer than the horizon.
func (s *scorer) findDrains(least event.Money) {
	for _, p := range s.t.list {
		week, usual := int32(-1), event.Money(0)
		for i := 0; i < len(p.balances); i++ {
			from := p.balances[i].at
			if w := customer.WeekOf(dayOf(from)); w != week {
				week, usual = w, p.usualBalance(from)
			}
			empty := func(i int) bool { return emptied*max(p.balances[i].amount, 0) < usual }
			if usual <= 0 || usual < least || !empty(i) || i > 0 && empty(i-1) { // or it was so while nobody could tell what is usual
				continue
			}
			end := i + 1
			for end < len(p.balances) && empty(end) {
				end++
			}
			until := s.h.To
			if end < len(p.balances) {
				until = p.balances[end].at
			}
			if until-from > s.ms {
				s.drains = append(s.drains, lapse{
					p: p, from: from, stated: p.cancelledWithin(from-s.ms, from+s.ms), money: usual, tier: s.tiers.of(p, dayOf(from)),
				})
			}
			i = end - 1
		}
	}
}

// outflow judges an alert that a balance has run down: it was right if the balance was still below half of what had been usual in the week in which the horizon was over, or if
// the customer cancelled within it. That is what the alert foretells, and what it is held to in operation.
func (s *scorer) outflow(p *person, at int64, usual event.Money) verdict {
	to := at + s.ms
	switch {
	case to > s.h.To:
		return undecided
	case p.cancelledWithin(at, to):
		return right
	}
	most, known := p.highest(weekStart(customer.WeekOf(dayOf(to))), to)
	switch {
	case !known:
		return undecided
	case 2*max(most, 0) < usual:
		return right
	}
	return wrong
}

// fall is how far a balance lay below the usual when a day began.
type fall struct {
	person  int32
	day     int32
	percent float64
	usual   event.Money
}

// fallPercents are the falls for which it is told what alerts at them would have been.
var fallPercents = [...]int{50, 60, 70, 75, 80, 85, 90, 95, 99}

// lookAtAccounts notes whose balance lies far below the usual when a day begins.
func (s *shard) lookAtAccounts(day int32) {
	if !slices.Contains(s.rules.Detectors.Names(), detectors.OutflowName) {
		return
	}
	s.know(int64(day) * dayMs)
	for _, c := range s.list {
		if percent, usual, ok := s.rules.Detectors.Fall(&c.rec, &s.env); ok && percent >= float64(fallPercents[0]) {
			s.falls = append(s.falls, fall{c.person, day, percent, usual})
		}
	}
}

// outflows says what became of the accounts, nil where there are none.
func (s *scorer) outflows(o *Outcome) *OutflowReport {
	if s.t.Accounts == 0 {
		return nil
	}
	r := &OutflowReport{Accounts: s.t.Accounts, RanDown: len(s.drains)}
	for i := range s.drains {
		if s.drains[i].stated {
			r.Stated++
		}
	}
	if len(o.falls) == 0 {
		return r
	}
	r.LookDays = population.EpochDays
	for _, percent := range fallPercents {
		x := s.detector(detectors.OutflowName, s.alertsAt(percent, o.falls))
		n := x.Alerts
		if x.Learning != nil {
			n -= x.Learning.Alerts
		}
		r.Thresholds = append(r.Thresholds, FallThreshold{percent, Cost{n, ratio(float64(n)*1000, s.tiers.judgedMonths), x.Precision, x.Recall, x.LeadDays}})
	}
	return r
}

// alertsAt are the alerts that there would have been at a fall: of each customer the first look at which the balance had fallen so far, and then the next after it was back
// at half of what had been usual. Looks are in the order of customers and days.
func (s *scorer) alertsAt(percent int, looks []fall) (all []*Alert) {
	var open *Alert
	for i := range looks {
		l := &looks[i]
		p, at := s.t.list[l.person], int64(l.day)*dayMs
		if l.percent < float64(percent) || open != nil && open.Customer == p.id && (open.ResolvedAt == 0 || open.ResolvedAt > at) {
			continue
		}
		open = &Alert{Customer: p.id, Detector: detectors.OutflowName, At: at, Told: at, Alone: at, Expected: l.usual, ResolvedAt: p.backAt(at, l.usual)}
		all = append(all, open)
	}
	return all
}

// backAt is when the balance was back at half of an amount after a time, 0 if it never was.
func (p *person) backAt(after int64, usual event.Money) int64 {
	for i := sort.Search(len(p.balances), func(i int) bool { return p.balances[i].at > after }); i < len(p.balances); i++ {
		if 2*max(p.balances[i].amount, 0) >= usual {
			return p.balances[i].at
		}
	}
	return 0
}

// FallsDrawn reports whether there are thresholds of outflow of which both precision and recall are known.
func (r *Report) FallsDrawn() bool {
	return r.Outflow != nil && slices.ContainsFunc(r.Outflow.Thresholds, func(t FallThreshold) bool { return t.Precision != nil && t.Recall != nil })
}
