package customer

import (
	"math"
	"slices"

	"ebb/stream/event"
)

// MergedInto is the customer who goes on in place of this one, "" where there is none.
func (r *Record) MergedInto() string {
	if r.rare == nil {
		return ""
	}
	return r.rare.mergedInto
}

// Leave makes the record a mark that says who goes on, and nothing else but what was recalled. What it held is lost: it was encoded
// before. Its open alerts must have been resolved.
func (r *Record) Leave(into string) {
	*r = Record{
		ID: r.ID, Latest: r.Latest, Decided: r.Decided, Deadline: r.Deadline, Armed: r.Armed,
		rare: &rare{mergedInto: into, recalled: r.Recalled()},
	}
}

// Mark says that another goes on, and keeps all else: the record's alerts are then to be resolved as merged.
func (r *Record) Mark(into string) { r.rarely().mergedInto = into }

// Return takes the mark away: the customer goes on by himself.
func (r *Record) Return() {
	if r.rare != nil {
		r.rare.mergedInto = ""
	}
}

// Join folds the record of another into this one, as if the events of both had been this one's: windows are added day by day, open
// complaints and remembered ids joined, first and last times taken from both. What the caps do not hold is counted as usual. The
// profile stays, unless there is none; a cancellation stays only if both have one. The other must have no open alerts; it is not
// changed.
func (r *Record) Join(o *Record, p *Params) Outcome {
	r.tendency = tendency{}
	r.joinTimes(o)
	out := r.joinSeen(o, p) | r.joinUsage(o, p) | r.joinSpend(o, p)
	for i := range o.Complaints {
		out |= r.joinComplaint(o.Complaints[i], p)
	}
	r.Poison = max(r.Poison, o.Poison)
	if o.rare != nil {
		r.joinRare(o.rare)
	}
	r.joinParts(o, p)
	return out
}

// maxMoney is what a sum stays at that would be more.
const maxMoney = event.Money(math.MaxInt64)

// joinTimes is Join for what stands beside the windows.
func (r *Record) joinTimes(o *Record) {
	r.Decided = max(r.Decided, o.Decided)
	switch {
	case o.First == 0:
		return
	case r.First == 0:
		r.beginAt(o.First)
		r.Cancelled, r.Lapsed = o.Cancelled, o.Lapsed
	default:
		r.beginAt(min(r.First, o.First))
		if both := r.Cancelled != 0 && o.Cancelled != 0; both {
			r.Cancelled = max(r.Cancelled, o.Cancelled)
		} else {
			r.Cancelled = 0
		}
		r.Lapsed = r.Lapsed && o.Lapsed
	}
	r.Latest = max(r.Latest, o.Latest)
	r.LastActivity = max(r.LastActivity, o.LastActivity)
}

// joinSeen is Join for the remembered ids; of too many those of the oldest events go.
func (r *Record) joinSeen(o *Record, p *Params) Outcome {
	for _, s := range o.Seen {
		if !r.seen(s.Hash) {
			r.Seen = append(r.Seen, s)
		}
	}
	oldest := minute(r.Latest - p.SeenFor)
	r.Seen = slices.DeleteFunc(r.Seen, func(s SeenID) bool { return s.Minute < oldest })
	over := len(r.Seen) - p.MaxSeen
	if over <= 0 {
		return Applied
	}
	r.rarely().overflows.Seen += uint32(over)
	r.forgetSeen(over)
	return SeenOverflow
}

func (r *Record) joinUsage(o *Record, p *Params) Outcome {
	var out Outcome
	for i := len(o.Usage) - 1; i >= 0; i-- { // the newest first: it moves the windows
		u := &o.Usage[i]
		switch one := r.addUsage(u.Day, u.Count, u.Quantity, p); one {
		case TooOld:
			r.rarely().overflows.TooOld += u.Count
			out |= TooOld
		case SumOverflow:
			day := r.usageDay(u.Day)
			day.Quantity, day.Count = maxMoney, day.Count+min(u.Count, ^uint32(0)-day.Count)
			out |= SumOverflow
		}
	}
	return out
}

func (r *Record) joinSpend(o *Record, p *Params) Outcome {
	var out Outcome
	for i := len(o.Spend) - 1; i >= 0; i-- {
		s := &o.Spend[i]
		uses := uint32(s.Purchases) + uint32(s.Refunds)
		if !r.roll(s.Day(), p) {
			r.rarely().overflows.TooOld += uses
			out |= TooOld
			continue
		}
		cur := r.currency(o.Currencies[s.Currency()], p)
		if cur < 0 {
			r.rarely().overflows.Currencies += uses
			out |= CurrencyOverflow
			continue
		}
		to := r.spendDay(s.Day(), cur)
		sum, ok := to.Amount.Add(s.Amount)
		if !ok {
			sum = maxMoney
			if s.Amount < 0 {
				sum = -maxMoney
			}
			out |= SumOverflow
		}
		to.Amount = sum
		to.Purchases += min(s.Purchases, ^uint16(0)-to.Purchases)
		to.Refunds += min(s.Refunds, ^uint16(0)-to.Refunds)
	}
	return out
}

// joinComplaint follows a complaint of the other. One that both know is told together: first opened, first answered, resolved if either
// says so.
func (r *Record) joinComplaint(c Complaint, p *Params) Outcome {
	i := r.Complaint(c.ID)
	if i < 0 {
		out := r.makeRoom(p)
		c.Case.Steps = slices.Clone(c.Case.Steps)
		r.addComplaint(c)
		return out
	}
	to := &r.Complaints[i]
	to.Opened, to.Responded = earlier(to.Opened, c.Opened), earlier(to.Responded, c.Responded)
	to.Resolved = max(to.Resolved, c.Resolved)
	to.PausedAt, to.PausedFor = max(to.PausedAt, c.PausedAt), max(to.PausedFor, c.PausedFor)
	to.Priority, to.Level, to.Reopened = max(to.Priority, c.Priority), max(to.Level, c.Level), max(to.Reopened, c.Reopened)
	to.Muted = to.Muted && c.Muted
	to.join(&c)
	return ComplaintRepeated
}

// earlier is the smaller of two times of which 0 is none.
func earlier(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// joinRare is Join for what few customers have.
func (r *Record) joinRare(o *rare) {
	if o.profileAt == 0 && o.overflows == (Overflows{}) && o.blind == nil {
		return
	}
	x := r.rarely()
	if x.profileAt == 0 && o.profileAt != 0 {
		x.profile, x.profileAt = o.profile, o.profileAt
		x.profile.Status = "" // it was said of the other
		x.zone, x.nextZone, x.nextFrom = o.zone, o.nextZone, o.nextFrom
	}
	x.overflows.Seen += o.overflows.Seen
	x.overflows.Complaints += o.overflows.Complaints
	x.overflows.Currencies += o.overflows.Currencies
	x.overflows.Lifecycles += o.overflows.Lifecycles
	x.overflows.TooOld += o.overflows.TooOld
	if o.blind == nil {
		return
	}
	if x.blind == nil {
		x.blind = new([event.NumFeeds]Blind)
	}
	for f := range o.blind {
		x.blind[f] = x.blind[f].join(o.blind[f])
	}
}

func (b Blind) join(o Blind) Blind {
	if b.Since == 0 || o.Since == 0 {
		return Blind{max(b.Since, o.Since), max(b.Last, o.Last), max(b.Until, o.Until)}
	}
	j := Blind{Since: min(b.Since, o.Since), Last: max(b.Last, o.Last)}
	if b.Until != 0 && o.Until != 0 {
		j.Until = max(b.Until, o.Until)
	}
	return j
}
