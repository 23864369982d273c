package stream

import (
	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/state/customer"
	"ebb/stream/event"
)

// CohortCount counts customers for what is told of cohorts: who begins to leave, how many active ones each cohort has at the end of each day (UTC), what they do with their money, and
// what became of the new ones. A task has one for the customers of its partition; a history that is read as a whole has one for each part of its customers. It belongs to one goroutine.
type CohortCount struct {
	cfg       *cohorts.Config // nil: nothing is counted
	census    *census
	leavers   []cohorts.Leaver // that are told to nobody yet
	newcomers []newcomerTold   // likewise
	whole     bool             // all sizes were told once
}

// NewCohortCount counts from nobody on, nothing where cfg is nil.
func NewCohortCount(cfg *cohorts.Config) *CohortCount {
	c := &CohortCount{cfg: cfg, census: &census{}}
	c.census.begin(c.by(), true)
	return c
}

// by are the dimensions that are counted, nil for none.
func (c *CohortCount) by() []cohorts.Dimension {
	if c.cfg == nil {
		return nil
	}
	return append([]cohorts.Dimension{cohorts.Everybody}, c.cfg.By...)
}

// Out takes a customer out of the sizes before he changes, and In puts him in after.
func (c *CohortCount) Out(r *customer.Record) { c.census.out(r) }

// In puts a customer in.
func (c *CohortCount) In(r *customer.Record) { c.census.in(r) }

// At tells the event time of the decision that is made next, ms: what changes with it counts for its day.
func (c *CohortCount) At(ms int64) { c.census.today = dayOf(ms) }

// Spent adds what a customer did with his money by an event that was applied.
func (c *CohortCount) Spent(e *event.Event, rates *detectors.Rates) {
	if c.cfg != nil && c.cfg.Totals && e.Feed == event.Payments {
		c.census.spent(e, rates)
	}
}

// Leaves notes that a customer begins to leave, by the decision that is being made. l is the alert that says so.
func (c *CohortCount) Leaves(r *customer.Record, l *customer.Lifecycle) {
	if c.cfg == nil {
		return
	}
	c.leavers = append(c.leavers, cohorts.Leaver{Day: c.census.open(), Customer: r.ID, Detector: l.Detector, AtRisk: l.AtRisk, Of: c.Cohorts(r)})
}

// Newcomer notes what became of a customer some weeks after he came, if the decision is that of a deadline when that is due. It returns when he is to be looked at for that,
// ms, 0 for never.
func (c *CohortCount) Newcomer(r *customer.Record, at int64, deadline bool) int64 {
	if c.cfg == nil || !c.cfg.Intakes || r.First == 0 {
		return 0
	}
	due := newcomerDue(r)
	switch {
	case at < due:
		return due
	case deadline && at == due && r.Latest < due: // else he was looked at before what came since
		c.Came(c.lookAt(r, due))
	}
	return 0
}

// Before looks at a customer some weeks after he came, before something that happens to him so shortly after that is applied that the deadline for it is not decided yet; day is 0 if there is nothing to
// look at. If it is applied, Came has to be told. Without it nobody would be counted who came in that time: of histories that tell dates only, all who came on that day.
func (c *CohortCount) Before(r *customer.Record, at int64) (day int32, x cohorts.Newcomer) {
	if c.cfg == nil || !c.cfg.Intakes || r.First == 0 {
		return 0, x
	}
	due := newcomerDue(r)
	if at < due || r.Latest >= due || r.Deadline == 0 || r.Deadline > due {
		return 0, x
	}
	return c.lookAt(r, due)
}

// newcomerDue is when it is looked at what became of a customer since he came, ms.
func newcomerDue(r *customer.Record) int64 {
	return int64(dayOf(r.First)+cohorts.IntakeDays) * dayMs
}

// lookAt is what became of a customer by that time, and the day for which it counts.
func (c *CohortCount) lookAt(r *customer.Record, due int64) (day int32, x cohorts.Newcomer) {
	x.Week = cohorts.IntakeWeek(dayOf(r.First))
	if p := r.Profile(); p != nil {
		x.Source = p.Source
	}
	x.Active = !r.Closed() && r.Cancelled == 0 && r.LastActivity >= due-cohorts.IntakeRecent*dayMs
	return max(dayOf(due), c.census.day+1), x
}

// Came notes what became of a customer, unless day is 0.
func (c *CohortCount) Came(day int32, x cohorts.Newcomer) {
	if day != 0 {
		c.newcomers = append(c.newcomers, newcomerTold{day, x})
	}
}

// Cohorts are the watched cohorts to which a customer belongs, without everybody.
func (c *CohortCount) Cohorts(r *customer.Record) []cohorts.Key { return c.census.keys(r) }

// waits is how many are told to nobody yet.
func (c *CohortCount) waits() int { return len(c.leavers) + len(c.newcomers) }

// part is what waits, of days of which more follows.
func (c *CohortCount) part() *cohortsTold { return c.with(&cohortsTold{}) }

// days is what is to be told once all deadlines up to an event time are decided, ms, and no earlier event is to come: the days that are over, nil if there are no more than before. All
// sizes are told with the first of them, and then every week: whoever folds them may have lost something.
func (c *CohortCount) days(until int64) *cohortsTold {
	if c.cfg == nil || until <= 0 {
		return nil
	}
	before := c.census.day
	day := max(before, dayOf(until+1)-1)
	if day == before {
		return nil
	}
	f := &cohortsTold{whole: !c.whole || day/7 != before/7, sizes: c.census.close(day), totals: c.census.closeTotals(day), day: day}
	if f.whole {
		f.sizes = append(f.sizes, c.census.whole()...)
	}
	c.whole = true
	return c.with(f)
}

// with adds who waits to a fact, which is used before anybody else is noted.
func (c *CohortCount) with(f *cohortsTold) *cohortsTold {
	f.leavers, f.newcomers = c.leavers, c.newcomers
	c.leavers, c.newcomers = c.leavers[:0], c.newcomers[:0]
	return f
}

// CohortWatch is what the second stage does with what is counted, for a history that is read as a whole.
type CohortWatch struct {
	w     *watching
	parts int32
}

// NewCohortWatch watches cohorts whose customers are counted in so many parts.
func NewCohortWatch(cfg cohorts.Config, policy *alerts.Policy, parts int) *CohortWatch {
	return &CohortWatch{newWatching(cfg, policy), int32(parts)}
}

// Standing is which alerts about cohorts are open by now. It changes with what is told next: nobody may read it while Tell runs.
func (w *CohortWatch) Standing() *cohorts.Standing { return &w.w.told }

// Tell takes in what one part has counted, all of whose deadlines up to an event time are decided, ms. It returns the steps of the days that all parts have told by now. These do not depend on
// the order of the parts, nor on how many days are told at a time.
func (w *CohortWatch) Tell(part int, c *CohortCount, until int64) []alerts.Wide {
	f := c.days(until)
	if f == nil {
		return nil
	}
	return w.w.take(int32(part), f, w.parts, 0, 0)
}
