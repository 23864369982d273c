package customer

import (
	"slices"

	"ebb/stream/event"
)

// closedKept is how long a complaint whose opening was not seen is remembered as resolved, so that an opening that comes
// late does not start a clock that nobody stops.
const closedKept = 48 * hourMs

// applyComplaint takes one step of a complaint.
func (r *Record) applyComplaint(e *event.Event, p *Params) Outcome {
	at := max(e.Time, 1)
	if len(e.ComplaintID) == 0 {
		return ComplaintUnknown
	}
	i := r.complaint(e.ComplaintID)
	switch e.Kind {
	case event.KindOpened:
		return r.open(i, e, at, p)
	case event.KindReopened:
		return r.reopen(i, e, at, p)
	case event.KindInquiry, event.KindAssigned, event.KindNote, event.KindPromised, event.KindReassigned, event.KindContactFailed,
		event.KindRated, event.KindCustomerReplied:
		return Applied // no clock starts or stops
	}
	if i < 0 || r.Complaints[i].Resolved != 0 {
		return r.unknownStep(i, e, at, p)
	}
	c := &r.Complaints[i]
	switch e.Kind {
	case event.KindResponded:
		if e.Actor != event.ActorCustomer && (c.Responded == 0 || at < c.Responded) && at >= c.Opened {
			c.Responded = at
		}
	case event.KindPaused:
		if c.PausedAt == 0 {
			c.PausedAt = max(at, c.Opened)
		}
	case event.KindResumed:
		c.resume(at)
	case event.KindEscalated, event.KindDeescalated:
		c.rank(e)
	case event.KindResolved, event.KindClosed, event.KindMerged:
		c.resume(at)
		c.Resolved = max(at, c.Opened)
	}
	return Applied
}

// resume ends a pause.
func (c *Complaint) resume(at int64) {
	if c.PausedAt != 0 {
		c.PausedFor += max(0, at-c.PausedAt)
		c.PausedAt = 0
	}
}

// rank takes over level and priority of an escalation, and the level of its reverse. The decoder gives a record that names no
// priority PriorityNormal, so an escalation never lowers the priority, and its reverse leaves it alone.
func (c *Complaint) rank(e *event.Event) {
	if e.Level != 0 {
		c.Level = e.Level
	}
	if e.Kind == event.KindEscalated {
		c.Priority = max(c.Priority, e.Priority)
	}
}

// open starts the clock of a complaint. The first opening counts.
func (r *Record) open(i int, e *event.Event, at int64, p *Params) Outcome {
	if i < 0 {
		return r.follow(e, at, p)
	}
	switch c := &r.Complaints[i]; {
	case c.Resolved == 0:
		if at < c.Opened { // the first opening comes late
			c.Opened = at
		}
		return ComplaintRepeated
	case at <= c.Resolved: // its resolution came first, or it is told again after its end
		return ComplaintRepeated
	}
	r.Complaints = slices.Delete(r.Complaints, i, i+1)
	return r.follow(e, at, p)
}

// reopen starts a new clock for a complaint that was resolved.
func (r *Record) reopen(i int, e *event.Event, at int64, p *Params) Outcome {
	if i < 0 {
		out := r.follow(e, at, p)
		r.Complaints[len(r.Complaints)-1].Reopened = 1
		return out
	}
	c := &r.Complaints[i]
	if c.Resolved == 0 || at < c.Resolved {
		return ComplaintRepeated
	}
	priority, reopened := max(c.Priority, e.Priority), c.Reopened
	*c = Complaint{ID: c.ID, Opened: at, Priority: priority, Level: max(c.Level, e.Level), Reopened: reopened + min(1, ^uint16(0)-reopened)}
	return Applied
}

// follow adds an open complaint. Where there is no room the oldest goes: a source that never resolves anything must not make
// ebb deaf for what is opened today.
func (r *Record) follow(e *event.Event, at int64, p *Params) Outcome {
	out := r.makeRoom(p)
	r.addComplaint(Complaint{ID: string(e.ComplaintID), Opened: at, Priority: e.Priority, Level: e.Level})
	return out
}

// unknownStep counts a step of a complaint that is not open. A resolution is remembered for a while.
func (r *Record) unknownStep(i int, e *event.Event, at int64, p *Params) Outcome {
	var out Outcome
	switch e.Kind {
	case event.KindResolved:
		out = ComplaintUnknown
	case event.KindClosed, event.KindMerged: // usual some days after the resolution
	default:
		return ComplaintUnknown
	}
	if i >= 0 {
		if c := &r.Complaints[i]; c.Opened == 0 {
			c.Resolved = max(c.Resolved, at)
		}
		return out
	}
	out |= r.makeRoom(p)
	r.addComplaint(Complaint{ID: string(e.ComplaintID), Resolved: at})
	return out
}

func (r *Record) addComplaint(c Complaint) {
	if len(r.Complaints) == cap(r.Complaints) {
		r.Complaints = grownBy(r.Complaints, 1)
	}
	r.Complaints = append(r.Complaints, c)
}

// makeRoom drops the closed complaint, else the open one, whose clock is the oldest.
func (r *Record) makeRoom(p *Params) Outcome {
	if len(r.Complaints) < p.MaxComplaints {
		return Applied
	}
	oldest := 0
	for i := range r.Complaints {
		a, b := &r.Complaints[i], &r.Complaints[oldest]
		if a.Open() != b.Open() {
			if b.Open() {
				oldest = i
			}
			continue
		}
		if max(a.Opened, a.Resolved) < max(b.Opened, b.Resolved) {
			oldest = i
		}
	}
	lost := r.Complaints[oldest].Open()
	r.Complaints = slices.Delete(r.Complaints, oldest, oldest+1)
	if !lost {
		return Applied
	}
	r.rarely().overflows.Complaints++
	return ComplaintOverflow
}

// prune drops complaints that are closed and told of: those with an open alert stay until it is resolved, so that its
// evidence still has the timeline.
func (r *Record) prune(now int64) {
	for i := len(r.Complaints) - 1; i >= 0; i-- {
		c := &r.Complaints[i]
		if c.Resolved == 0 || r.hasSubject(c.ID) || c.Opened == 0 && now-c.Resolved < closedKept {
			continue
		}
		r.Complaints = slices.Delete(r.Complaints, i, i+1)
	}
}

func (r *Record) hasSubject(id string) bool {
	for i := range r.Lifecycles {
		if r.Lifecycles[i].Subject == id {
			return true
		}
	}
	return false
}

func (r *Record) complaint(id []byte) int {
	for i := range r.Complaints {
		if r.Complaints[i].ID == string(id) {
			return i
		}
	}
	return -1
}

// Complaint returns the index of the complaint of the id, open or closed, or -1.
func (r *Record) Complaint(id string) int {
	for i := range r.Complaints {
		if r.Complaints[i].ID == id {
			return i
		}
	}
	return -1
}

// grownBy makes room for n more.
func grownBy[T any](s []T, n int) []T {
	t := make([]T, len(s), len(s)+n)
	copy(t, s)
	return t
}
