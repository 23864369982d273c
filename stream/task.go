package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/state"
	"ebb/state/customer"
	"ebb/stream/event"
	"ebb/stream/fetch"
	"ebb/stream/txn"
)

// task owns partition p of all feeds: its customers, clock and timers. Everything below "owned" is touched by its one
// goroutine only; there are no locks on the path of a record.
//
// A task outlives group generations: a generation only lends it the right to commit (lease). Between generations it may
// apply, but not cut.
type task struct {
	owner
	partitions   int32
	claims       *claims
	giveUp       func(error)     // ends the instance
	after        <-chan struct{} // closed when nobody else here has the local copy open; nil: nobody had
	slots        chan struct{}
	throttle     *throttle
	stateMetrics *state.TaskMetrics
	m            *taskMetrics
	random       func() float64
	status       atomic.Pointer[TaskStatus]
	durable      atomic.Int64 // changelog offset behind the last cut, 0 before the first is known

	// owned
	sources   []*source
	merged    []*source       // in merge order
	profiles  []*source       // of customers
	controls  []*source       // acts of people
	marked    map[string]bool // customers who were merged into others, as far as they are known
	byFeed    [event.NumFeeds]*source
	views     []view
	feeds     *[event.NumFeeds]feedRecord
	health    [event.NumFeeds]ratio
	rec       *taskRecord
	store     state.Store
	table     *state.Table
	clock     int64
	ready     bool
	live      bool
	held      map[string]struct{} // customers with alerts that the quiet history keeps back
	ending    bool                // the next cut ends the quiet history
	diskHeld  int64               // event time since when the disk is down to its reserve, ms; 0 when it is not
	told      told
	sampling  sampling
	judging   waiting // for cohorts
	headcount CohortCount
	poisoned  map[poison]bool // records that failed inside ebb, in this life of the process
	cursed    map[string]bool // customers on whom a timer's decision failed
	deaf      time.Time       // when last no feed at all could be read
	waiting   bool            // that was said
	current   struct {
		feed  *source
		slot  *slot
		timer *state.Entry
	}
	consumed   [event.NumFeeds]int                     // since the last report
	taken      [event.NumFeeds]int64                   // before it
	late       [event.NumFeeds]int64                   // decaying maximum of arrival after event time, ms
	letters    [event.NumFeeds]map[event.Reason]int64  // dead letters since the task was made
	examples   [event.NumFeeds]map[event.Reason]string // where the latest of them lies
	rate       [event.NumFeeds]float64                 // records a second, lately
	reported   time.Time
	reportedAt int64 // wall clock of it, ms
	timersDone int64 // event time up to which all deadlines are decided, ms; 0 before the first look in this life
	overdue    bool  // the last look left some that are due
	position   event.Position

	params  customer.Params
	env     detectors.Env
	decider alerts.Decider
	policy  *alerts.Policy
	steps   []alerts.Step

	reroute  *reroute // nil where nothing is forwarded
	outbox   outbox
	commits  chan cutResult
	inFlight bool
	broken   error // why the memory of the task is worth nothing any more
	moved    bool  // a position moved since the last cut
	cutNow   bool
	sinceCut int // records and deadlines
	since    time.Time
	age      time.Duration
	lastCut  time.Time
	safe     safePoint
	progress progress
	restored time.Time
}

// poison names a record that failed inside ebb.
type poison struct {
	feed      event.Feed
	partition int32
	offset    int64
}

func poisonOf(s *source, sl *slot) poison {
	at := whereOf(s, sl)
	return poison{s.feed, at.Partition, at.Offset}
}

// poisonError ends a run of the task: its uncommitted state is dropped and computed again from the last cut, this time with
// the record passed to the dead letters.
type poisonError struct {
	poison poison
	timer  string // the customer, if it was not a record but a deadline that failed
	cause  any
}

func (e *poisonError) Error() string {
	if e.timer != "" {
		return fmt.Sprintf("a deadline failed inside ebb: %v", e.cause)
	}
	return fmt.Sprintf("%s offset %d failed inside ebb: %v", e.poison.feed, e.poison.offset, e.cause)
}

// run opens the task and serves it until it is closed.
func (t *task) run() {
	t.owner.run(t)
}

// recoverable decides what a fault means and says it once.
func (t *task) recoverable(err error) bool {
	var p *poisonError
	switch {
	case errors.As(err, &p) && p.timer != "":
		t.cursed[p.timer] = true
		t.log.Error("a deadline failed inside ebb and its customer is quarantined", "cause", fmt.Sprint(p.cause))
		return true
	case errors.As(err, &p):
		t.poisoned[p.poison] = true
		t.log.Error("a record failed inside ebb and goes to the dead letters", "feed", p.poison.feed, "offset", p.poison.offset, "cause", fmt.Sprint(p.cause))
		return true
	case errors.Is(err, state.ErrDiskReserve):
		t.log.Warn("the disk has no room for the local state; trying on", "err", err)
		return true
	case errors.Is(err, state.ErrCorrupt):
		return setAside(t.deps.State, t.partition, err, t.m.metrics, t.log)
	}
	return t.owner.recoverable(err)
}

// setAside puts a local copy out of the way that turned out to be damaged while it was read, so that the next opening rebuilds it.
// Its store must be closed.
func setAside(d Directory, p int32, cause error, m *metrics, log *slog.Logger) bool {
	keeper, ok := d.(interface {
		SetAside(partition int32, cause error) error
	})
	if !ok {
		return false
	}
	if err := keeper.SetAside(p, cause); err != nil {
		log.Error("a damaged local state cannot be set aside; mend the state directory, or remove it", "err", err)
		return false
	}
	m.setAside.Inc()
	log.Warn("local state was damaged and set aside; it is rebuilt from the changelog", "err", cause)
	return true
}

// stop ends a task for a fault that somebody has to mend. The other tasks go on.
func (t *task) stop(err error) {
	t.log.Error("task stopped; the other partitions go on", "err", err)
	t.m.stopped.Set(1)
	t.publish("stopped", err)
	if errors.Is(err, ErrForeignChangelog) {
		t.giveUp(err)
	}
	t.stand(func() bool { return t.announceStop(err) })
}

// serve is one life of the task: open, then loop until a fault or the end.
func (t *task) serve() error {
	t.publish("restoring", nil)
	t.refused = nil
	if err := t.open(t.ctx); err != nil {
		return err
	}
	t.publish("running", nil)
	t.opened.Store(true)
	defer t.opened.Store(false)
	for {
		n, err := t.step()
		if err != nil {
			t.keep(err)
			return err
		}
		if err := t.collect(n == 0 || t.blocked()); err != nil {
			return err
		}
	}
}

// keep commits what was applied before a feed could not be read on, so that whoever mends it gives up nothing else.
func (t *task) keep(cause error) {
	var f *feedError
	if !errors.As(cause, &f) {
		return
	}
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.Cut.Timeout)
	defer cancel()
	if err := t.finish(ctx); err != nil {
		t.log.Warn("the last cut before the stop did not succeed; the next start computes it again", "err", err)
	}
}

// blocked is true while applying waits for the running cut, or for Badger to take in what is committed: memory is bounded.
func (t *task) blocked() bool {
	return t.table.Pressure() == state.PressureStore || t.full() && (t.inFlight || t.lease == nil)
}

// step applies one round and takes a cut if one is due. A panic on the way is bound to the record or customer that caused it.
func (t *task) step() (n int, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = t.blame(cause)
		}
	}()
	if !t.blocked() {
		if n, err = t.round(); err != nil {
			return n, err
		}
		t.sinceCut += n
		t.dirtyAt()
		if err := t.endQuiet(); err != nil {
			return n, err
		}
	}
	t.maybeCut()
	now := t.tick()
	t.report(now)
	return n, t.table.Maintain(now)
}

func (t *task) blame(cause any) error {
	t.log.Error("panic on the path of a record", "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
	switch cur := t.current; {
	case cur.feed != nil:
		return &poisonError{poison: poisonOf(cur.feed, cur.slot), cause: cause}
	case cur.timer != nil:
		return &poisonError{timer: cur.timer.Record.ID, cause: cause}
	}
	return fmt.Errorf("panic outside of a record: %v", cause)
}

// collect takes in what others have for the task: results of cuts, commands, news. It sleeps if there is nothing to do.
func (t *task) collect(sleep bool) error {
	timeout := time.Duration(0)
	if sleep {
		timeout = t.untilDue()
	}
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-t.ctx.Done():
			return t.ctx.Err()
		case r := <-t.commits:
			return t.committed(r)
		case err := <-t.fault:
			return err
		case f := <-t.commands:
			f()
		case <-t.wake:
		case <-timer.C:
		}
	}
	select {
	case <-t.ctx.Done():
		return t.ctx.Err()
	case r := <-t.commits:
		return t.committed(r)
	case err := <-t.fault:
		return err
	case f := <-t.commands:
		f()
	default:
	}
	t.lease = t.leased.Load()
	return t.broken
}

// untilDue is how long the task may sleep: until a waiting alert is due to be cut, else idle.
func (t *task) untilDue() time.Duration {
	if !t.inFlight && t.lease != nil && !t.outbox.alertSince.IsZero() && t.live {
		return min(idle, max(0, t.cfg.Cut.Linger-t.tick().Sub(t.outbox.alertSince)))
	}
	rest := idle
	if t.since.IsZero() && !t.inFlight && t.outbox.empty() {
		rest = restful
	}
	if in, ok := t.promiseDue(); ok && !t.inFlight && t.lease != nil {
		rest = min(rest, max(in, time.Millisecond))
	}
	if since := t.outbox.forwardSince; !since.IsZero() && !t.inFlight && t.lease != nil {
		rest = min(rest, max(time.Millisecond, forwardLinger-t.tick().Sub(since)))
	}
	return rest
}

// restful bounds the sleep of a task with nothing to commit: every answer of a broker wakes it, so that it need only notice their absence.
const restful = time.Second

// advance moves the clock.
func (t *task) advance() {
	views := t.views
	if r := t.reroute; r != nil && r.clock != never {
		views = append(views, view{buffered: true, head: r.clock})
	}
	t.clock = nextClock(t.clock, views, t.cfg.Time.Grace.Milliseconds())
	for i, s := range t.merged {
		switch v := t.views[i]; {
		case v.out:
			s.seen = 1 // of what is missing nothing is known; 0 would be waited for
		case v.atEnd, v.absent, v.buffered && v.head >= t.clock:
			s.seen = max(t.clock, 1)
		case v.buffered: // what was missing, or is late, is being read
			s.seen = max(s.seen, 1)
		}
	}
	t.live = true
	for _, s := range t.merged {
		if s.behind() > liveBehind {
			t.live = false
		}
	}
}

// liveBehind is how many records a feed may be behind for the task to count as live: alerts are then cut at once.
const liveBehind = 2000

// unreachable is true for a feed that gave no answer for so long that it must not hold the others any more. Time in which no feed
// answered does not count: then it is the cluster or the process that stood still, there is nothing to hold, and the clock
// stands.
func (t *task) unreachable(s *source) bool {
	return s.fetch != nil && s.n == 0 && t.unanswered(&s.status)
}

// unanswered is true of a partition that gave answers, and none for so long.
func (t *task) unanswered(st *fetch.Status) bool {
	since := st.Answered
	if t.deaf.After(since) {
		since = t.deaf
	}
	return st.Trouble != nil && !st.Answered.IsZero() && t.now().Sub(since) > t.cfg.Time.FeedUnreachableAfter
}

// hear notes when no feed gives an answer, and says when that begins and ends.
func (t *task) hear() {
	now := t.now()
	trouble := error(nil)
	for _, s := range t.merged {
		if s.fetch == nil {
			continue
		}
		if now.Sub(s.status.Answered) <= t.cfg.Time.FeedUnreachableAfter/2 {
			if t.waiting {
				t.waiting = false
				t.log.Info("the cluster answers again", "feed", s.feed)
			}
			return
		}
		if !s.status.Answered.IsZero() && s.n == 0 {
			trouble = cmp.Or(trouble, s.status.Trouble)
		}
	}
	t.deaf = now
	if trouble != nil && !t.waiting {
		t.waiting = true
		t.log.Warn("the cluster gives no answer to any feed; waiting", "err", trouble)
	}
}

// shut gives back what one life of the task held.
func (t *task) shut() {
	for _, s := range t.sources {
		s.shut()
	}
	if t.reroute != nil {
		t.reroute.fetch.Close()
		t.reroute = nil
	}
	if t.inFlight { // the next life reads what became of it; a stop has to know
		r := <-t.commits
		t.inFlight = false
		switch {
		case r.err == nil && r.cut.record != nil:
			t.safe = safePoint{record: r.cut.record, offsets: r.cut.offsets}
		case errors.Is(r.err, txn.ErrUnknownOutcome):
			t.safe = safePoint{}
		}
	}
	if t.table != nil {
		t.table.Close()
	}
	if t.store != nil {
		if err := t.store.Close(); err != nil {
			t.log.Warn("closing the local state", "err", err)
		}
	}
	t.current.feed, t.current.slot, t.current.timer = nil, nil, nil
	t.table, t.store, t.restored = nil, nil, time.Time{}
	t.outbox = outbox{}
	t.moved, t.cutNow, t.ending, t.sinceCut, t.since = false, false, false, 0, time.Time{}
	t.sampling = newSampling(t.sampling.on, t.sampling.models)
	t.judging = newJudging()
	t.health = [event.NumFeeds]ratio{}
	t.broken = nil
}

// revoke takes the right to commit back after a last cut.
func (t *task) revoke(ctx context.Context) {
	if !t.opened.Load() {
		t.leased.Store(nil)
		return
	}
	t.do(ctx, func() {
		if err := t.finish(ctx); err != nil {
			t.log.Warn("the last cut did not succeed; the next owner computes it again", "err", err)
		}
		t.lease = nil
		t.leased.Store(nil) // at once: the task must not take it up again
	})
	t.leased.Store(nil)
}

// catchUp writes to Badger what is committed, after the last cut.
func (t *task) catchUp(ctx context.Context) error {
	if !t.opened.Load() {
		return nil
	}
	var err error
	t.do(ctx, func() {
		if t.table != nil {
			err = t.table.Drain(ctx)
		}
	})
	return err
}
