package customer

import "ebb/stream/event"

// Apply changes the record by one event and says what that did. It keeps nothing of the event's memory. In the steady state
// it does not allocate.
//
// Events may come in any order. The record after a set of events differs by their order only in what a cap has cost, and in
// complaints whose steps arrive before their opening.
func (r *Record) Apply(e *event.Event, p *Params) Outcome {
	switch e.Feed {
	case event.Customers:
		return r.applyProfile(e, p)
	case event.Control:
		return NotForRecords
	}
	if r.seen(e.IDHash) {
		return Duplicate
	}
	if len(r.Complaints) != 0 {
		r.prune(e.Time)
	}
	var out Outcome
	switch {
	case e.Feed == event.Complaints:
		out = r.applyComplaint(e, p)
		r.noteContact(e, p)
		r.beatComplaint(e, p)
	case e.IsActivity():
		if out = r.applyActivity(e, p); out == SumOverflow {
			return out
		}
	default:
		r.applySubscription(e)
	}
	if p.Bills && e.Feed == event.Payments {
		r.noteBill(e, p)
	}
	if p.Accounts && e.Feed == event.Payments {
		r.noteAccount(e, p)
	}
	if p.Habits && e.Feed == event.Payments {
		r.noteHabit(e, p)
	}
	at := max(e.Time, 1)
	if r.First == 0 || at < r.First {
		r.beginAt(at)
		r.tendency = tendency{}
	}
	r.Latest = max(r.Latest, at)
	if r.bills != nil {
		r.forgetBills()
	}
	r.sighted(e.Feed, at)
	return out | r.remember(e.IDHash, at, p)
}

// seen reports whether an id was remembered. Hash 0 is no id.
func (r *Record) seen(hash uint64) bool {
	for i := range r.Seen {
		if r.Seen[i].Hash == hash {
			return hash != 0
		}
	}
	return false
}

// remember keeps an event id until its event is older than SeenFor, seen from the newest event.
func (r *Record) remember(hash uint64, at int64, p *Params) Outcome {
	oldest := minute(r.Latest - p.SeenFor)
	keep := r.Seen[:0]
	for _, s := range r.Seen {
		if s.Minute >= oldest {
			keep = append(keep, s)
		}
	}
	r.Seen = keep
	if hash == 0 || minute(at) < oldest {
		return Applied
	}
	var out Outcome
	if len(r.Seen) >= p.MaxSeen {
		if r.rarely().overflows.Seen++; p.MaxSeen == 0 {
			return SeenOverflow
		}
		out = SeenOverflow
		r.forgetSeen(len(r.Seen) - p.MaxSeen + 1)
	}
	if len(r.Seen) == cap(r.Seen) {
		r.Seen = grown(r.Seen)
	}
	r.Seen = append(r.Seen, SeenID{Hash: hash, Minute: minute(at)})
	return out
}

// forgetSeen drops n ids, those of the oldest events first.
func (r *Record) forgetSeen(n int) {
	for ; n > 0; n-- {
		oldest := 0
		for i := range r.Seen {
			if r.Seen[i].Minute < r.Seen[oldest].Minute {
				oldest = i
			}
		}
		r.Seen = append(r.Seen[:oldest], r.Seen[oldest+1:]...)
	}
}

func minute(ms int64) uint32 {
	const minuteMs = 60_000
	return uint32(max(ms, 0) / minuteMs)
}

// applyActivity adds a use, a purchase or a refund to the windows.
func (r *Record) applyActivity(e *event.Event, p *Params) Outcome {
	at := max(e.Time, 1)
	var out Outcome
	day := r.localDay(at, p)
	switch {
	case e.Kind != event.KindUsage:
		out = r.addSpend(day, e, p)
	case e.Aggregate:
		if e.Quantity == 0 {
			return Applied // a total of nothing is the absence of use, not a use
		}
		// The use lies within the period, whenever the total was told.
		at = max(min(at, e.PeriodEnd-1), 1)
		day = r.localDay(at, p)
		out = r.addAggregate(e, p)
	default:
		out = r.addUsage(day, 1, e.Quantity, p)
	}
	if out == SumOverflow {
		return out
	}
	if !out.Has(TooOld) {
		r.beat(e, day, p)
	}
	if e.Kind == event.KindPurchase {
		r.noteOffer(e)
	}
	if at > r.LastActivity {
		r.LastActivity = at
		r.Lapsed = false
	}
	if e.Kind == event.KindPurchase && r.Cancelled != 0 && at > r.Cancelled {
		r.Cancelled = 0 // money flows again: he came back
	}
	if out.Has(TooOld) {
		r.rarely().overflows.TooOld++
	}
	if e.Outcome > event.OutcomeOK && !e.Aggregate && e.Kind == event.KindUsage {
		r.desked().noteFailure(day, e.Outcome)
	}
	return out
}

// applySubscription notes stated churn. A cancelled customer is not silent but gone, until a subscription starts or money flows
// again; use alone does not count, as a cancelled subscription may be used to its end.
func (r *Record) applySubscription(e *event.Event) {
	at := max(e.Time, 1)
	switch {
	case e.Kind == event.KindSubscriptionCancelled:
		r.Cancelled = max(r.Cancelled, at)
	case e.Kind == event.KindSubscriptionStarted && at >= r.Cancelled:
		r.Cancelled = 0
	}
}

func (r *Record) localDay(ms int64, p *Params) int32 { return max(p.Calendar.DayOf(r, ms), 0) }
