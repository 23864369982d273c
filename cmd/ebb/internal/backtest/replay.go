package backtest

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/detectors/population"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/event"
)

// Rules are what decides: the same pieces that a task works with.
type Rules struct {
	Detectors *detectors.Set
	Policy    *alerts.Policy
	Feeds     []stream.FeedConfig
	Customer  customer.Params // without a calendar: each shard has its own
	Rates     *detectors.Rates
	Zone      *time.Location
	Cohorts   *cohorts.Config // what is told of cohorts of customers, nil: nothing
	// MaxOutOfOrder is how long deadlines wait for events that come late, in ms of event time.
	MaxOutOfOrder  int64
	MaxRecordBytes int
}

// Alert is one alert from its beginning to its end, as its detector said it, and what people were told of it: within another alert it is told in the other's steps, and while it is held back
// within one about a cohort nobody is told.
type Alert struct {
	ID       [16]byte
	Customer string
	Detector string
	Subject  string
	At       int64 // event time at which it fired, ms
	Since    int64
	Severity alerts.Severity // at which it fired
	Highest  alerts.Severity // that it reached
	AtRisk   event.Money
	Expected event.Money
	Observed event.Money
	Horizon  int32 // days that it foretells, 0 for the configured horizon
	// Probability that came with it, 0 to 1; 0 for a rule that reckons with none.
	Probability float64
	ResolvedAt  int64 // 0: open at the end of the history

	Told    int64           // event time at which somebody was told first, ms; 0: nobody was
	Alone   int64           // at which it was told as an alert of its own, ms; 0: it never was
	ToldAs  alerts.Severity // of the step by which it was; that of two alerts at once is higher than that of each
	Changes int             // how often it was told anew as an alert of its own
	Within  string          // detector of the alert within which it was told first; empty: of none
	HeldFor *cohorts.Key    // the cohort for whose alert it was held back; nil: it was not

	came verdict       // what ebb itself found became of it, as it would live
	of   []cohorts.Key // cohorts of the customer when it fired, without everybody
}

// Outcome is what a replay said.
type Outcome struct {
	Alerts     []Alert // in the order of time, customer, id
	Wide       []Wide  // about more than one customer, in the order of time
	Duplicates int     // events of an id that was applied before
	Refused    int     // events that no record could take: a sum would overflow
	Rows       []Row   // customers scored at the dates that were asked for, by date and customer

	looks  []look
	falls  []fall
	learnt learnt
}

// Task is what a replay has to do beside raising alerts.
type Task struct {
	What     string // for the progress
	Horizon  int    // days that the models look ahead
	Learn    bool   // learn from the population; otherwise learnt holds what was
	Model    bool   // with Learn: make models of who stops, and look at all customers
	learnt   learnt
	pauses   map[int32][]*pause // departures of whom it is asked why nobody is told, by customer
	ScoreAt  []int32            // UTC days at whose end every customer is scored, rising
	Progress *Progress
}

// replay is one run over a history.
type replay struct {
	rules  *Rules
	task   *Task
	shards [shards]*shard
	fold   *population.Fold
	groups *population.Groups
	learnt learnt
	watch  *stream.CohortWatch // nil: cohorts are not watched
	wide   wides
}

// shard replays the customers of one part. It belongs to one goroutine at a time.
type shard struct {
	rules     *Rules
	truth     *Truth
	entries   []entry
	next      int
	decoders  [event.NumFeeds]*event.Decoder
	params    customer.Params
	env       detectors.Env
	decider   alerts.Decider
	customers map[string]*subject
	timers    timers
	list      []*subject // in the order in which they came
	known     *learnt    // so far
	headcount *stream.CohortCount
	clock     int64
	decided   int64 // all deadlines up to it are decided, ms
	ev        event.Event

	outcomes []population.Outcome // of complaints, since the newest epoch
	samples  []population.Sample
	looks    []look
	falls    []fall
	rows     []Row

	standing *cohorts.Standing // nil: nothing is held back
	pauses   map[int32][]*pause
	learns   bool // the rules decide by what is learnt of all customers

	alerts     []Alert
	foretold   map[[16]byte]int // alerts whose prediction is judged by the record, by their places among the alerts
	duplicates int
	refused    int
}

// subject is a customer with his record.
type subject struct {
	rec    customer.Record
	hash   uint64 // population.Hash of his id
	person int32  // index into Truth.list
	pauses []*pause
	open   []int // his open alerts, by their places among those of the shard
}

// Run replays a history by the rules.
func Run(ctx context.Context, h *History, rules *Rules, task *Task) (*Outcome, error) {
	cfg := population.Config{}
	if of := rules.Detectors.Population(); of != nil {
		cfg = *of
	}
	cfg.Horizon = task.Horizon
	r := &replay{rules: rules, task: task, learnt: task.learnt, groups: population.NewGroups(), fold: population.NewFold(cfg)}
	if rules.Cohorts != nil {
		r.watch = stream.NewCohortWatch(*rules.Cohorts, rules.Policy, shards)
	}
	for i := range r.shards {
		s, err := newShard(rules, h, i)
		if err != nil {
			return nil, err
		}
		s.pauses = task.pauses
		if r.holdsBack() {
			s.standing = r.watch.Standing()
		}
		r.shards[i] = s
	}
	task.Progress.Begin(task.What, int64(h.Events))
	defer task.Progress.End()
	for _, m := range r.moments(h) {
		if err := r.advance(ctx, m.at, h.To); err != nil {
			return nil, err
		}
		if !m.begins {
			continue
		}
		if err := r.stop(ctx, dayOf(m.at)); err != nil {
			return nil, err
		}
	}
	if err := r.advance(ctx, h.To+1, h.To); err != nil {
		return nil, err
	}
	if err := r.stop(ctx, dayOf(h.To)+1); err != nil {
		return nil, err
	}
	if err := r.scoreBehind(ctx, dayOf(h.To)+1); err != nil {
		return nil, err
	}
	return r.outcome(), nil
}

// scoreBehind scores the customers at days from the given one on, on which nothing happened because the history is over. What is learnt by then is for their scores alone.
func (r *replay) scoreBehind(ctx context.Context, from int32) error {
	if !r.task.Learn || len(r.task.ScoreAt) == 0 {
		return nil
	}
	known := r.learnt
	defer func() { r.learnt = known }()
	for day := from + 1; day <= slices.Max(r.task.ScoreAt)+1; day++ {
		if m := r.learnt.model(int64(day) * dayMs); m != nil && slices.Contains(r.task.ScoreAt, day-1) {
			if err := r.each(ctx, func(s *shard) error { s.score(day-1, m, r.task.Horizon); return nil }); err != nil {
				return err
			}
		}
		if day == population.Epoch(day) {
			if err := r.learn(ctx, day); err != nil {
				return err
			}
		}
	}
	return nil
}

// moment is when all shards wait for each other, in event time, ms: when a day begins, or when the judgement of one comes into force.
type moment struct {
	at     int64
	begins bool
}

// moments are those of a history, in the order of time.
func (r *replay) moments(h *History) (all []moment) {
	for day := dayOf(h.From) + 1; day <= dayOf(h.To); day++ {
		if r.task.wants(day) {
			all = append(all, moment{int64(day) * dayMs, true})
		}
	}
	if r.holdsBack() {
		_, at := stream.JudgedDay(h.From, r.rules.MaxOutOfOrder)
		for ; at <= h.To; _, at = stream.JudgedDay(at, r.rules.MaxOutOfOrder) {
			all = append(all, moment{at, false})
		}
	}
	slices.SortFunc(all, func(a, b moment) int { return cmp.Or(cmp.Compare(a.at, b.at), event.CompareBool(a.begins, b.begins)) })
	return all
}

// holdsBack reports whether alerts are held back within those about cohorts: then what is decided depends on what was told of all customers on the day before.
func (r *replay) holdsBack() bool { return r.watch != nil && r.rules.Cohorts.HoldBack }

// wants reports whether all shards have to wait for each other when a day begins: an epoch is closed, a model comes into force, or
// customers are scored.
func (t *Task) wants(day int32) bool {
	epoch := population.Epoch(day)
	return day == epoch || day == population.InForceFrom(epoch) || slices.Contains(t.ScoreAt, day-1)
}

// advance has every shard go on to a moment, with the models that are known by then, and judges the days that are over for all of them.
func (r *replay) advance(ctx context.Context, to, end int64) error {
	err := r.each(ctx, func(s *shard) error {
		s.known = &r.learnt
		return s.advance(to, end)
	})
	if err != nil || r.watch == nil {
		return err
	}
	for i, s := range r.shards {
		for _, step := range r.watch.Tell(i, s.headcount, s.decided) {
			if err := r.wide.note(step, r.rules.Policy); err != nil {
				return err
			}
		}
	}
	return nil
}

// stop is what happens when a day has begun, and all that was before it is applied.
func (r *replay) stop(ctx context.Context, day int32) error {
	if !r.task.Learn {
		return nil
	}
	m := r.learnt.model(int64(day) * dayMs)
	if m != nil && slices.Contains(r.task.ScoreAt, day-1) {
		if err := r.each(ctx, func(s *shard) error { s.score(day-1, m, r.task.Horizon); return nil }); err != nil {
			return err
		}
	}
	if day != population.Epoch(day) {
		return nil
	}
	if err := r.each(ctx, func(s *shard) error { s.lookAtAccounts(day); return nil }); err != nil {
		return err
	}
	if m != nil && day/population.EpochDays%lookEvery(r.task.Horizon) == 0 {
		if err := r.each(ctx, func(s *shard) error { s.lookAt(day-1, m, r.task.Horizon); return nil }); err != nil {
			return err
		}
	}
	return r.learn(ctx, day)
}

// each has every shard do something, on all cores.
func (r *replay) each(ctx context.Context, f func(*shard) error) error {
	var wg sync.WaitGroup
	var next atomic.Int32
	var errs [shards]error
	for range min(runtime.GOMAXPROCS(0), shards) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= shards || ctx.Err() != nil {
					return
				}
				before := r.shards[i].next
				errs[i] = f(r.shards[i])
				r.task.Progress.Add(int64(r.shards[i].next - before))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (r *replay) outcome() *Outcome {
	out := &Outcome{Wide: r.wide.list}
	for _, s := range r.shards {
		out.Alerts = append(out.Alerts, s.alerts...)
		out.Duplicates += s.duplicates
		out.Refused += s.refused
	}
	r.gather(out)
	slices.SortFunc(out.Alerts, func(a, b Alert) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Customer, b.Customer), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return out
}

func newShard(rules *Rules, h *History, i int) (*shard, error) {
	s := &shard{
		rules: rules, truth: h.Truth, entries: h.shards[i], params: rules.Customer, customers: map[string]*subject{}, foretold: map[[16]byte]int{},
		decider:   alerts.Decider{Detectors: rules.Detectors, Policy: rules.Policy, OutOfOrder: rules.MaxOutOfOrder},
		headcount: stream.NewCohortCount(rules.Cohorts), learns: rules.Detectors.Population() != nil,
	}
	s.params.Calendar = customer.NewCalendar(rules.Zone)
	s.env.Calendar, s.env.Rates = s.params.Calendar, rules.Rates
	rules.Detectors.Keep(&s.params, &s.env)
	var err error
	s.decoders, err = decoders(rules.Feeds, rules.MaxRecordBytes)
	return s, err
}

// advance applies what happened before a moment, and decides the deadlines up to it, as far as timers run behind the clock. At the end of
// the history nothing can come late any more.
func (s *shard) advance(to, end int64) error {
	for ; s.next < len(s.entries) && s.entries[s.next].time < to; s.next++ {
		if err := s.apply(&s.entries[s.next]); err != nil {
			return err
		}
	}
	s.clock = min(to, end)
	limit := s.clock
	if to <= end {
		limit -= s.rules.MaxOutOfOrder
	}
	s.runTimers(limit)
	s.decided = limit
	for _, c := range s.list {
		s.ask(c, s.clock)
	}
	return nil
}

// apply is what task.applyTo does with an event: what was due before it is decided before it.
func (s *shard) apply(e *entry) error {
	ev := &s.ev
	if err := s.decoders[e.feed].Decode(event.Position{Topic: "history", Offset: int64(s.next), Timestamp: e.time}, e.key, e.value, ev); err != nil {
		return fmt.Errorf("a record that could be decoded before cannot be decoded again: %w", err)
	}
	c := s.customers[string(ev.Customer)]
	if c == nil {
		id := string(ev.Customer)
		c = &subject{rec: customer.Record{ID: id}, hash: population.Hash(id), person: s.truth.people[id].index}
		c.pauses = s.pauses[c.person]
		s.customers[id] = c
		s.list = append(s.list, c)
	}
	s.clock = max(s.clock, ev.Time)
	s.ask(c, ev.Time)
	s.headcount.Out(&c.rec)
	s.applyTo(c, e, ev)
	s.headcount.In(&c.rec)
	return nil
}

// applyTo is apply once the customer is found.
func (s *shard) applyTo(c *subject, e *entry, ev *event.Event) {
	at := ev.Time
	var day int32 // of the newcomer, if he is one
	var newcomer cohorts.Newcomer
	if e.feed == event.Customers {
		at = max(0, at-s.rules.MaxOutOfOrder)
	} else {
		alerts.Settle(&c.rec, ev.Time-s.rules.MaxOutOfOrder, func(at int64) { s.decide(c, at, nil) })
		day, newcomer = s.headcount.Before(&c.rec, ev.Time)
	}
	s.env.Now, s.env.Population = ev.Time, s.population(max(ev.Time, c.rec.Decided)) // what the record learns of the event depends on it
	outcome := c.rec.Apply(ev, &s.params)
	switch {
	case outcome.Has(customer.SumOverflow):
		s.refused++
		return
	case outcome.Has(customer.Duplicate):
		s.duplicates++
		return
	}
	s.headcount.Came(day, newcomer)
	s.headcount.Spent(ev, s.rules.Rates)
	s.decide(c, max(at, c.rec.Decided), ev)
}

// runTimers decides every deadline up to a time.
func (s *shard) runTimers(limit int64) {
	for len(s.timers) > 0 && s.timers[0].at <= limit {
		t := heap.Pop(&s.timers).(timer)
		r := &t.c.rec
		if r.Armed != t.at { // it was armed for an earlier time meanwhile
			continue
		}
		r.Armed = 0
		switch {
		case r.Deadline == 0:
		case r.Deadline > t.at:
			s.arm(t.c, r.Deadline)
		default:
			s.headcount.Out(r)
			s.decide(t.c, r.Deadline, nil)
			s.headcount.In(r)
		}
	}
}

// decide asks the detectors about one customer at event time at, and notes what they say.
func (s *shard) decide(c *subject, at int64, trigger *event.Event) {
	s.know(at)
	s.headcount.At(at)
	d := s.decider.Decide(&c.rec, &s.env, trigger, alerts.Publish, s.clock)
	if d.Touched {
		s.note(c, &d, at)
	}
	for i := range d.Verdicts {
		s.judged(&d.Verdicts[i])
	}
	for i := range d.Findings {
		if o := d.Findings[i].Outcome; o != nil {
			s.outcomes = append(s.outcomes, *o)
		}
	}
	if d.Leaves != nil {
		s.headcount.Leaves(&c.rec, d.Leaves)
	}
	if d.Forget {
		c.rec = customer.Record{ID: c.rec.ID}
		return
	}
	next := s.epochAfter(c, at, d.Next)
	if due := s.headcount.Newcomer(&c.rec, at, trigger == nil); due != 0 {
		next = min(next, due)
	}
	s.arm(c, next)
}

// epochAfter is when a customer is looked at next, who is to be looked at again at a time: at the next epoch at the latest where he is sampled then, because that asks the detectors too.
func (s *shard) epochAfter(c *subject, at, next int64) int64 {
	if !s.learns || c.rec.Closed() || c.rec.Rhythms() == nil || !s.env.Population.Sampled(c.hash) {
		return next
	}
	return min(next, int64(population.Epoch(dayOf(at))+population.EpochDays)*dayMs)
}

// population is what decisions at an event time know of all customers, nil while that is nothing.
func (s *shard) population(at int64) *population.Model {
	if !s.learns {
		return nil
	}
	return s.known.model(at)
}

// know says up to where each feed is complete for a decision at event time at: a replay has seen everything, but treats the last stretch
// of a feed that is late by nature as not yet known, as a task does.
func (s *shard) know(at int64) {
	s.env.Now, s.env.Population, s.env.Misses = at, s.population(at), nil
	if rates := s.known.missRates(at); rates != nil && s.learns {
		s.env.Misses = rates
	}
	if s.standing != nil {
		s.env.Cohorts = s.standing
		s.env.CohortsDay, s.env.CohortsNext = stream.JudgedDay(at, s.rules.MaxOutOfOrder)
	}
	for f := range s.env.KnownUntil {
		s.env.KnownUntil[f] = at
	}
	for _, f := range s.rules.Feeds {
		s.env.KnownUntil[f.Feed] = max(0, at-f.Completeness.Milliseconds())
	}
}

// arm sets when a customer is looked at next, as state.Table does: an earlier timer stays and is passed over.
func (s *shard) arm(c *subject, deadline int64) {
	r := &c.rec
	r.Deadline = deadline
	if deadline == 0 || r.Armed != 0 && r.Armed <= deadline {
		return
	}
	r.Armed = deadline
	heap.Push(&s.timers, timer{deadline, c})
}

// timers are deadlines, the earliest first; of equal ones the smaller customer id.
type timers []timer

type timer struct {
	at int64
	c  *subject
}

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	return t[i].at < t[j].at || t[i].at == t[j].at && t[i].c.rec.ID < t[j].c.rec.ID
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)   { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}
