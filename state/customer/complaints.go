package customer

import (
	"slices"

	"ebb/stream/event"
)

// applyComplaint takes one step of a complaint.
func (r *Record) applyComplaint(e *event.Event, p *Params) Outcome {
	at := max(e.Time, 1)
	if len(e.ComplaintID) == 0 {
		if e.Kind == event.KindContactFailed || e.Kind == event.KindInquiry {
			return Applied // it counts for its day: see noteContact
		}
		return ComplaintUnknown
	}
	i := r.complaint(e.ComplaintID)
	var out Outcome
	switch e.Kind {
	case event.KindInquiry:
		out = r.ask(i, e, at, p)
	case event.KindOpened:
		out = r.open(i, e, at, p)
	case event.KindReopened:
		out = r.reopen(i, e, at, p)
	case event.KindNote, event.KindContactFailed: // no clock starts or stops
	case event.KindAssigned, event.KindReassigned, event.KindPromised, event.KindCustomerReplied, event.KindRated:
		if i >= 0 {
			r.course(&r.Complaints[i], e, at)
		}
	default:
		out = r.handle(i, e, at, p)
	}
	if i = r.complaint(e.ComplaintID); i >= 0 {
		r.label(&r.Complaints[i], e, at)
	}
	return out
}

// handle takes a step of those who deal with a complaint.
func (r *Record) handle(i int, e *event.Event, at int64, p *Params) Outcome {
	if i < 0 || r.Complaints[i].Opened == 0 || r.Complaints[i].Resolved != 0 && at > r.Complaints[i].Resolved {
		return r.unknownStep(i, e, at, p)
	}
	c := &r.Complaints[i]
	switch e.Kind {
	case event.KindResolved, event.KindClosed, event.KindMerged:
		if at < c.Opened && c.again() { // it ended what came before
			return r.unknownStep(i, e, at, p)
		}
		r.end(c, at)
	case event.KindResponded:
		r.respond(c, e, at)
	case event.KindPaused:
		r.log(c, Step{At: at, Kind: StepPaused})
	case event.KindResumed:
		r.log(c, Step{At: at, Kind: StepResumed})
	case event.KindEscalated, event.KindDeescalated:
		c.rank(e)
	}
	c.settle()
	return Applied
}

// again reports whether something came before the complaint's opening: it was opened before, or was an inquiry.
func (c *Complaint) again() bool {
	return c.Reopened != 0 || !c.Case.Inquiry && slices.ContainsFunc(c.Case.Steps, func(s Step) bool { return s.Kind == StepAsked })
}

// end resolves a complaint. Of several ends, however they arrive, the earliest counts. One that comes behind the reopening that followed it ends only what came before that.
func (r *Record) end(c *Complaint, at int64) {
	at = max(at, c.Opened)
	if again := c.reopenedLater(); again > at {
		r.log(c, Step{At: at, Kind: StepResolved})
		if c.Resolved < again {
			c.Resolved = 0
		}
		if c.Case.Due <= again {
			c.Case.Due = 0
		}
		c.anew(again)
		return
	}
	if c.Resolved != 0 {
		c.begin()
		c.Case.Steps = slices.DeleteFunc(c.Case.Steps, func(s Step) bool { return s.Kind == StepResolved && s.At == c.Resolved })
	}
	r.log(c, Step{At: at, Kind: StepResolved})
	c.Resolved = at
}

// reopenedLater is when a complaint that counted as open was told to be opened again, 0 for never.
func (c *Complaint) reopenedLater() int64 {
	for i := len(c.Case.Steps) - 1; i >= 0; i-- {
		if s := &c.Case.Steps[i]; s.Pending(c) {
			return s.At
		}
	}
	return 0
}

// anew starts the clocks of a complaint that was opened again.
func (c *Complaint) anew(at int64) {
	c.Opened, c.Muted = at, false
	c.Reopened += min(1, ^uint16(0)-c.Reopened)
	c.Case.Weighed, c.Case.Judged, c.Case.Told = false, false, false
}

// respond takes a response. One by the customer himself is a reply; what answers an inquiry ends it.
func (r *Record) respond(c *Complaint, e *event.Event, at int64) {
	if e.Actor == event.ActorCustomer {
		r.log(c, Step{At: at, Kind: StepReplied})
		return
	}
	r.log(c, Step{At: at, Kind: StepAnswered})
	if c.Case.Inquiry && at >= c.Opened {
		r.end(c, at)
	}
}

// course takes a step that starts or stops no clock of the complaint as a whole. Of a complaint that has ended it counts if it came before the end, but a
// rating always does.
func (r *Record) course(c *Complaint, e *event.Event, at int64) {
	rated := e.Kind == event.KindRated && e.Scored
	if c.Opened == 0 || c.Resolved != 0 && at > c.Resolved && !rated {
		return
	}
	switch e.Kind {
	case event.KindCustomerReplied:
		r.log(c, Step{At: at, Kind: StepReplied})
	case event.KindReassigned:
		r.log(c, Step{At: at, Kind: StepReassigned, Arg: hashOf(e.Group)})
	case event.KindPromised:
		if e.Due > at {
			r.log(c, Step{At: at, Kind: StepPromised, Arg: e.Due})
		}
	case event.KindRated:
		if rated {
			const most = 1 << argBits
			r.log(c, Step{At: at, Kind: StepRated, Arg: min(max(int64(e.Score), -most), most)})
		}
	}
	c.settle()
}

// label takes over who has the complaint, what it is about, and until when it is to be resolved.
func (r *Record) label(c *Complaint, e *event.Event, at int64) {
	if len(e.Group) != 0 && at >= c.Case.GroupAt {
		c.Case.Group, c.Case.GroupAt = cutTo(string(e.Group), maxGroup), at
	}
	if len(e.Group) != 0 && c.Opened != 0 && e.Kind != event.KindReassigned {
		r.log(c, Step{At: at, Kind: StepAssigned, Arg: hashOf(e.Group)})
	}
	if e.Due != 0 && e.Kind != event.KindPromised {
		c.Case.Due = e.Due
	}
	if len(e.Category) != 0 && c.Case.Category == 0 {
		c.Case.Category = uint32(Hash(e.Category))
		c.Case.Before = r.endedBefore(c.Case.Category, c.Opened)
	}
}

// hashOf is the hash of a name, 0 for none.
func hashOf(name []byte) int64 {
	if len(name) == 0 {
		return 0
	}
	return Hash(name)
}

// ask follows an inquiry, until somebody answers. Within a complaint it is one more word of the customer.
func (r *Record) ask(i int, e *event.Event, at int64, p *Params) Outcome {
	if i >= 0 {
		c := &r.Complaints[i]
		if c.Opened != 0 && (c.Resolved == 0 || at <= c.Resolved) {
			r.log(c, Step{At: at, Kind: StepReplied})
		}
		return Applied
	}
	out := r.follow(e, at, p)
	r.Complaints[len(r.Complaints)-1].Case.Inquiry = true
	return out
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
	case c.Case.Inquiry:
		return r.complain(c, e, at)
	case c.Resolved == 0:
		if at < c.Opened && c.Reopened == 0 { // the first opening comes late
			if len(c.Case.Steps) != 0 {
				c.Case.Steps = slices.DeleteFunc(c.Case.Steps, func(s Step) bool { return s.Kind == StepOpened && s.At == c.Opened })
				r.log(c, Step{At: at, Kind: StepOpened})
			}
			c.Opened = at
			c.settle()
		}
		return ComplaintRepeated
	case at <= c.Resolved: // its resolution came first, or it is told again after its end
		return ComplaintRepeated
	}
	r.drop(i)
	return r.follow(e, at, p)
}

// complain makes a complaint of an inquiry. Its cycle goes on, its clocks begin.
func (r *Record) complain(c *Complaint, e *event.Event, at int64) Outcome {
	at = max(at, c.Opened)
	c.begin()
	c.Case.Inquiry, c.Case.Weighed, c.Case.Judged, c.Case.Told = false, false, false, false
	c.Opened, c.Resolved, c.Priority, c.Level, c.Muted = at, 0, e.Priority, e.Level, false
	r.log(c, Step{At: at, Kind: StepOpened})
	c.settle()
	return Applied
}

// reopen starts a new clock for a complaint that was resolved.
func (r *Record) reopen(i int, e *event.Event, at int64, p *Params) Outcome {
	if i < 0 {
		out := r.follow(e, at, p)
		r.Complaints[len(r.Complaints)-1].Reopened = 1
		return out
	}
	c := &r.Complaints[i]
	if c.Resolved == 0 && at > c.Opened { // its end may come late; of several the newest is kept
		if last := c.reopenedLater(); at > last {
			c.Case.Steps = slices.DeleteFunc(c.Case.Steps, func(s Step) bool { return s.Pending(c) })
			r.log(c, Step{At: at, Kind: StepReopened})
		}
		return ComplaintRepeated
	}
	if c.Resolved == 0 || at < c.Resolved {
		return ComplaintRepeated
	}
	c.begin()
	c.Resolved, c.Case.Due = 0, 0
	c.Priority, c.Level = max(c.Priority, e.Priority), max(c.Level, e.Level)
	c.anew(at)
	r.log(c, Step{At: at, Kind: StepReopened})
	c.settle()
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
	r.drop(oldest)
	if !lost {
		return Applied
	}
	r.rarely().overflows.Complaints++
	return ComplaintOverflow
}

// drop forgets a complaint, but for what outlives it.
func (r *Record) drop(i int) {
	r.retire(&r.Complaints[i])
	r.Complaints = slices.Delete(r.Complaints, i, i+1)
}

// prune drops complaints that have ended for good: those with an open alert stay until it is resolved, so that its
// evidence still has the timeline. One whose opening was not seen is remembered as long as the others, so that an opening that comes
// late does not start a clock that nobody stops.
func (r *Record) prune(now int64) {
	for i := len(r.Complaints) - 1; i >= 0; i-- {
		c := &r.Complaints[i]
		switch {
		case c.Resolved == 0, r.hasSubject(c.ID):
		case !c.Case.Told && now-c.Resolved < SatisfiedAfter:
		default:
			r.drop(i)
		}
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
