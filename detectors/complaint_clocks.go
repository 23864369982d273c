package detectors

import (
	"math"

	"ebb/detectors/hours"
	"ebb/state/customer"
)

// clock is one time limit that runs for a complaint. Times are Unix milliseconds; noMoment is later than all of them.
type clock struct {
	cause uint8
	start int64
	early int64 // a quarter, or as configured, of the target has passed; noMoment where it is not asked
	late  int64 // most of it has
	due   int64
}

// noMoment is a moment that does not come.
const noMoment = math.MaxInt64

// clocks are those that run for one complaint. A complaint has at most one of each kind, and as many promises as it has steps.
type clocks struct {
	list [4 + customer.MaxSteps]clock
	n    int
}

func (k *clocks) add(c clock) {
	if k.n < len(k.list) {
		k.list[k.n] = c
		k.n++
	}
}

func (k *clocks) all() []clock { return k.list[:k.n] }

// run is a stretch [from, to) in which the clock of the resolution runs.
type run struct{ from, to int64 }

// courseOf are the steps of a complaint, those that it has none of included.
func courseOf(c *customer.Complaint) []customer.Step {
	if len(c.Case.Steps) != 0 {
		return c.Case.Steps
	}
	return c.FirstSteps()
}

// clocksOf reckons the clocks of an open complaint, from those of its steps that happened up to a time.
func (d *complaintUnresolved) clocksOf(r *customer.Record, c *customer.Complaint, upTo int64, k *clocks) {
	k.n = 0
	t := d.targetsOf(r, c)
	responded := c.Responded != 0 && c.Responded <= upTo
	if t.first.on && !responded {
		k.add(d.plainClock(causeOf(c), c.Opened, t.first.ms, t.calendar))
	}
	if c.Case.Inquiry {
		return
	}
	d.resolutionClock(c, &t, upTo, k)
	if len(c.Case.Steps) == 0 {
		return // nobody wrote, nothing was promised
	}
	if at := repliedAt(c, upTo); t.next.on && responded && at != 0 {
		k.add(d.plainClock(causeNextReply, at, t.next.ms, t.calendar))
	}
	var buf [customer.MaxSteps]customer.Promise
	for _, p := range c.Promises(buf[:0]) {
		if p.At <= upTo && p.At >= c.Opened && (p.Kept == 0 || p.Kept > upTo) {
			k.add(d.absoluteClock(causePromise, p.At, p.Due))
		}
	}
}

func causeOf(c *customer.Complaint) uint8 {
	if c.Case.Inquiry {
		return causeInquiry
	}
	return causeFirstResponse
}

// repliedAt is when the customer wrote first since the last answer, 0 if nobody has to answer.
func repliedAt(c *customer.Complaint, upTo int64) int64 {
	at := int64(0)
	for i := range c.Case.Steps {
		s := &c.Case.Steps[i]
		if s.At > upTo {
			break
		}
		if s.Pending(c) {
			continue
		}
		switch s.Kind {
		case customer.StepAnswered, customer.StepResolved, customer.StepReopened, customer.StepOpened:
			at = 0
		case customer.StepReplied:
			if at == 0 {
				at = s.At
			}
		}
	}
	return at
}

// plainClock is one that is never paused.
func (d *complaintUnresolved) plainClock(cause uint8, start, ms int64, cal *hours.Calendar) clock {
	return clock{cause: cause, start: start, early: noMoment, late: cal.Add(start, d.share(ms, d.cfg.Warn.Late)), due: cal.Add(start, ms)}
}

// absoluteClock is one whose end was said.
func (d *complaintUnresolved) absoluteClock(cause uint8, start, due int64) clock {
	due = max(due, start)
	return clock{cause: cause, start: start, early: noMoment, late: start + d.share(due-start, d.cfg.Warn.Late), due: due}
}

// share is a part of a length of time in whole milliseconds.
func (d *complaintUnresolved) share(ms int64, part float64) int64 {
	if part == 0 {
		return ms
	}
	return min(int64(math.Ceil(float64(ms)*part)), ms)
}

// resolutionClock is that of the complaint as a whole. It stands while the customer is asked.
func (d *complaintUnresolved) resolutionClock(c *customer.Complaint, t *targets, upTo int64, k *clocks) {
	if due := c.Case.Due; due != 0 {
		x := d.absoluteClock(causeResolution, c.Opened, due)
		if d.cfg.Warn.Early != 0 {
			x.early = x.start + d.share(x.due-x.start, d.cfg.Warn.Early)
		}
		k.add(x)
		return
	}
	if !t.resolution.on {
		return
	}
	var buf [customer.MaxSteps + 1]run
	runs := d.runs(c, upTo, buf[:0])
	ms := t.resolution.ms
	x := clock{
		cause: causeResolution, start: c.Opened, early: noMoment,
		late: advance(runs, t.calendar, d.share(ms, d.cfg.Warn.Late)), due: advance(runs, t.calendar, ms),
	}
	if d.cfg.Warn.Early != 0 {
		x.early = advance(runs, t.calendar, d.share(ms, d.cfg.Warn.Early))
	}
	k.add(x)
}

// runs are the stretches since the opening in which the complaint did not wait for the customer, appended to out.
func (d *complaintUnresolved) runs(c *customer.Complaint, upTo int64, out []run) []run {
	if len(c.Case.Steps) == 0 && c.PausedAt == 0 && c.PausedFor == 0 {
		return append(out, run{c.Opened, noMoment})
	}
	from, paused, answered := c.Opened, false, false
	for _, s := range courseOf(c) {
		if s.At > upTo {
			break
		}
		if s.Pending(c) {
			continue
		}
		waited := paused || answered
		switch s.Kind {
		case customer.StepPaused:
			paused = true
		case customer.StepResumed:
			paused = false
		case customer.StepAnswered:
			answered = d.cfg.RespondedWaits
		case customer.StepReplied:
			answered = false
		case customer.StepOpened, customer.StepReopened:
			paused, answered = false, false
		}
		at := max(s.At, c.Opened)
		switch waits := paused || answered; {
		case waits && !waited:
			out = append(out, run{from, at})
		case waited && !waits:
			from = at
		}
	}
	if paused || answered {
		return out
	}
	return append(out, run{from, noMoment})
}

// advance is when ms of working time have passed within the runs, noMoment if they do not hold so much.
func advance(runs []run, cal *hours.Calendar, ms int64) int64 {
	for _, x := range runs {
		if x.to == noMoment {
			return cal.Add(x.from, ms)
		}
		did := cal.Between(x.from, x.to)
		if did >= ms && (ms != 0 || x.from < x.to) {
			return cal.Add(x.from, ms)
		}
		ms -= did
	}
	return noMoment
}
