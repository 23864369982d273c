package detectors

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"ebb/detectors/hours"
	"ebb/detectors/population"
	"ebb/state/customer"
	"ebb/stream/event"
)

// Finding is something that was learnt of a complaint when it was decided, and that others want to know: exactly one of its pointers is set.
type Finding struct {
	// Outcome is whether a complaint that was still open at its early moment met the target of its resolution.
	Outcome *population.Outcome
	// Cycle is of a matter that is over.
	Cycle *Cycle
}

// Cycle is how a customer's matter went, from his first question to his content. From to To is the sum of the four parts.
type Cycle struct {
	Priority   event.Priority // PriorityNone for an inquiry that stayed one
	Tier       string
	From, To   int64
	Customer   int64 // ms in which it waited for the customer, whatever the hour, or was resolved until it was opened again
	Agent      int64 // ms of working time in which the group had it that got it first
	Other      int64 // ms of working time in which another group had it
	OutOfHours int64 // ms in which nobody worked
}

// Settle notes in the record what has been found out about its complaints at env.Now, and appends it to out. It is to be called after each decision, so that everything is
// found exactly once, and changes nothing that a decision at the same moment depends on.
func (s *Set) Settle(r *customer.Record, env *Env, out []Finding) []Finding {
	if len(r.Complaints) == 0 || r.Closed() {
		return out
	}
	for _, x := range s.list {
		if d, ok := x.(*complaintUnresolved); ok {
			for i := range r.Complaints {
				out = d.settle(r, &r.Complaints[i], env, out)
			}
		}
	}
	return out
}

func (d *complaintUnresolved) settle(r *customer.Record, c *customer.Complaint, env *Env, out []Finding) []Finding {
	if c.Opened == 0 {
		return out
	}
	if !c.Case.Weighed || !c.Case.Judged {
		out = d.settleTarget(r, c, env, out)
	}
	if end, ok := d.content(c, env.Now); ok && !c.Case.Told {
		c.Case.Told = true
		cycle := d.cycle(r, c, end)
		out = append(out, Finding{Cycle: &cycle})
	}
	return out
}

// settleTarget notes that the early moment has passed, and tells whether the target was met.
func (d *complaintUnresolved) settleTarget(r *customer.Record, c *customer.Complaint, env *Env, out []Finding) []Finding {
	upTo := env.Now
	if c.Resolved != 0 {
		upTo = c.Resolved
	}
	var k clocks
	d.clocksOf(r, c, upTo, &k)
	for _, x := range k.all() {
		if x.cause != causeResolution || x.early == noMoment || d.cfg.Warn.Early == 0 {
			continue
		}
		known := min(env.Now, env.KnownUntil[event.Complaints])
		open := c.Resolved == 0 || x.early < c.Resolved
		if open && x.early <= known {
			c.Case.Weighed = true
		}
		missed := x.due < upTo && c.Resolved != 0 || c.Resolved == 0 && x.due <= known
		if c.Case.Judged || c.Resolved == 0 && !missed {
			return out
		}
		if c.Case.Judged = true; open {
			known := min(x.due, upTo)
			out = append(out, Finding{Outcome: &population.Outcome{
				Key: outcomeKey(r, c), Group: c.GroupAtTime(x.early), Day: int32(known / Day.Ms()), Missed: missed,
			}})
		}
		return out
	}
	return out
}

// outcomeKey stands for one clock of one complaint.
func outcomeKey(r *customer.Record, c *customer.Complaint) uint64 {
	h := xxhash.New()
	_, _ = h.WriteString(r.ID)
	_, _ = h.Write([]byte{0})
	_, _ = h.WriteString(c.ID)
	var at [8]byte
	binary.LittleEndian.PutUint64(at[:], uint64(c.Opened))
	_, _ = h.Write(at[:])
	return h.Sum64()
}

// content is when a matter was over for the customer; false while that is not known.
func (d *complaintUnresolved) content(c *customer.Complaint, now int64) (int64, bool) {
	if c.Resolved == 0 {
		return 0, false
	}
	score, at := c.Rated()
	good := at >= c.Opened && at != 0 && score >= event.Money(d.cfg.ContentFrom)
	return c.Resolved, good || now >= c.Resolved+customer.SatisfiedAfter
}

// cycle splits the time of a matter up to a moment.
func (d *complaintUnresolved) cycle(r *customer.Record, c *customer.Complaint, to int64) Cycle {
	y := Cycle{Priority: c.Priority, To: to}
	if c.Case.Inquiry {
		y.Priority = event.PriorityNone
	}
	if p := r.Profile(); p != nil {
		y.Tier = p.Tier
	}
	cal := d.targetsOf(r, c).calendar
	steps := courseOf(c)
	y.From = min(steps[0].At, to)
	home, group := int64(0), int64(0)
	paused, answered, ended := false, false, false
	from := y.From
	for i := 0; i <= len(steps); i++ {
		end := to
		if i < len(steps) {
			end = min(max(steps[i].At, from), to)
		}
		y.add(from, end, cal, paused || answered || ended, group != home)
		if from = end; i == len(steps) || from >= to {
			break
		}
		if steps[i].Pending(c) {
			continue
		}
		switch s := &steps[i]; s.Kind {
		case customer.StepPaused:
			paused = true
		case customer.StepResumed:
			paused = false
		case customer.StepReplied:
			answered = false
		case customer.StepAnswered:
			answered = d.cfg.RespondedWaits
		case customer.StepResolved:
			ended = true
		case customer.StepOpened, customer.StepReopened:
			paused, answered, ended = false, false, false
		case customer.StepAssigned, customer.StepReassigned:
			if group = s.Arg; home == 0 {
				home = group
			}
		}
	}
	return y
}

func (y *Cycle) add(from, to int64, cal *hours.Calendar, waits, away bool) {
	worked := cal.Between(from, to)
	switch {
	case waits:
		y.Customer += to - from
		return
	case away:
		y.Other += worked
	default:
		y.Agent += worked
	}
	y.OutOfHours += to - from - worked
}

// explainCycle writes where the time went up to a moment, where it went to more than one place.
func (d *complaintUnresolved) explainCycle(r *customer.Record, c *customer.Complaint, at int64, to *Object) {
	if c.Opened == 0 {
		return
	}
	y := d.cycle(r, c, at)
	if y.Agent == y.To-y.From && y.From == c.Opened {
		return
	}
	to.Object("cycle", func(o *Object) {
		o.Time("since", y.From)
		for _, part := range [...]struct {
			name string
			ms   int64
		}{{"waited_for_customer", y.Customer}, {"agent", y.Agent}, {"other_group", y.Other}, {"out_of_hours", y.OutOfHours}} {
			if part.ms != 0 {
				o.Duration(part.name, part.ms)
			}
		}
	})
}
