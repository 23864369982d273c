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
	"ebb/stream/batch"
	"ebb/stream/conn"
	"ebb/stream/event"
	"ebb/stream/fetch"
	"ebb/stream/group"
	"ebb/stream/txn"
)

// task owns partition p of all feeds: its customers, clock and timers. Everything below "owned" is touched by its one
// goroutine only; there are no locks on the path of a record.
//
// A task outlives group generations: a generation only lends it the right to commit (lease). Between generations it may
// apply, but not cut.
type task struct {
	partition    int32
	partitions   int32
	cfg          *Config
	deps         *Deps
	cluster      string
	partitionsOf map[string]int32
	ops          *operations
	fetcher      *fetch.Fetcher
	scheduler    *txn.Scheduler
	slots        chan struct{}
	stateMetrics *state.TaskMetrics
	producer     *txn.Producer
	codec        batch.Codec
	m            *taskMetrics
	log          *slog.Logger
	now, tick    func() time.Time
	random       func() float64

	ctx      context.Context // ends when the task is closed
	cancel   context.CancelFunc
	leased   atomic.Pointer[group.Generation]
	status   atomic.Pointer[TaskStatus]
	opened   atomic.Bool // the loop runs: commands are heard at once
	fault    chan error  // from outside: stop the task
	commands chan func()
	wake     chan struct{}
	done     chan struct{}

	// owned
	sources  []*source
	merged   []*source // in merge order
	byFeed   [event.NumFeeds]*source
	views    []view
	feeds    *[event.NumFeeds]feedRecord
	health   [event.NumFeeds]ratio
	rec      *taskRecord
	store    state.Store
	table    *state.Table
	clock    int64
	ready    bool
	live     bool
	held     map[string]struct{} // customers with alerts that the quiet history keeps back
	ending   bool                // the next cut ends the quiet history
	diskHeld bool
	poisoned map[poison]bool // records that failed inside ebb, in this life of the process
	cursed   map[string]bool // customers on whom a timer's decision failed
	deaf     time.Time       // when last no feed at all could be read
	waiting  bool            // that was said
	current  struct {
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
	timersDone int64
	position   event.Position

	params    customer.Params
	env       detectors.Env
	detectors *detectors.Set
	policy    *alerts.Policy
	sigs      []detectors.Signal
	steps     []alerts.Step

	outbox   outbox
	lease    *group.Generation
	commits  chan cutResult
	inFlight bool
	refused  *group.Generation // of the last cut that failed
	broken   error             // why the memory of the task is worth nothing any more
	moved    bool              // a position moved since the last cut
	cutNow   bool
	sinceCut int
	since    time.Time
	age      time.Duration
	lastCut  time.Time
	safe     safePoint
	restored time.Time
}

// poison names a record that failed inside ebb.
type poison struct {
	feed   event.Feed
	offset int64
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

// run opens the task and serves it until it is closed. A fault that another attempt can mend leads to a new attempt from
// durable state; any other stops the task, with the partition kept and an operational alert.
func (t *task) run() {
	defer close(t.done)
	defer t.cancel()
	defer t.ops.leave(t.partition)
	wait := firstRetry
	for t.ctx.Err() == nil {
		if !t.awaitLease() {
			return
		}
		began := t.tick()
		err := t.serve()
		t.shut()
		if t.ctx.Err() != nil {
			return
		}
		if t.tick().Sub(began) > time.Minute {
			wait = firstRetry
		}
		if !t.recoverable(err) {
			t.stop(err)
			return
		}
		t.ops.lost(t.partition)
		t.pause(wait)
		wait = min(2*wait, slowestRetry)
	}
}

const (
	firstRetry   = 100 * time.Millisecond
	slowestRetry = 10 * time.Second
)

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
	case errors.Is(err, txn.ErrFenced):
		t.log.Warn("another owner has taken this partition, or the group moved on; joining again", "err", err)
		t.giveUpLease(err)
		return true
	case errors.Is(err, txn.ErrUnknownOutcome), errors.Is(err, txn.ErrReinit), conn.Retriable(err):
		t.log.Warn("task starts again from its last cut", "err", err)
		return true
	}
	return false
}

// giveUpLease ends the generation under which the task was refused, unless the group has gone on to another already.
func (t *task) giveUpLease(why error) {
	refused := t.refused
	if refused == nil { // at the opening
		refused = t.lease
	}
	if refused != nil && t.leased.CompareAndSwap(refused, nil) {
		refused.Rejoin(why)
	}
}

// stop ends a task for a fault that somebody has to mend. The other tasks go on.
func (t *task) stop(err error) {
	t.log.Error("task stopped; the other partitions go on", "err", err)
	t.m.stopped.Set(1)
	t.publish("stopped", err)
	t.ops.arrived(t.partition)
	pause := firstRetry
	for told := false; ; pause = min(2*pause, slowestRetry) {
		if t.lease = t.leased.Load(); !told && t.lease != nil {
			told = t.announceStop(err)
		}
		wait := time.NewTimer(pause)
		select {
		case <-t.ctx.Done():
		case <-t.wake:
		case <-wait.C:
		case f := <-t.commands:
			f()
		}
		wait.Stop()
		if t.ctx.Err() != nil {
			return
		}
	}
}

// awaitLease waits until a generation lends the right to commit.
func (t *task) awaitLease() bool {
	t.publish("waiting", nil)
	for {
		if t.lease = t.leased.Load(); t.lease != nil {
			return true
		}
		if err := t.await(t.ctx); err != nil {
			return false
		}
	}
}

// await sleeps until there is news from the fetcher, a command, or a short time has passed.
func (t *task) await(ctx context.Context) error {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.wake:
	case f := <-t.commands:
		f()
	case <-timer.C:
	}
	return nil
}

// idle bounds the sleep of a task that nothing wakes: wall-clock timers and ages are looked at so often.
const idle = 100 * time.Millisecond

func (t *task) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.ctx.Done():
	case <-timer.C:
	}
}

// serve is one life of the task: open, then loop until a fault or the end.
func (t *task) serve() error {
	t.publish("restoring", nil)
	t.ops.expect([]int32{t.partition})
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
		return &poisonError{poison: poison{cur.feed.feed, cur.slot.rec.Offset}, cause: cause}
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
	if t.since.IsZero() && !t.inFlight && len(t.outbox.messages) == 0 {
		return restful
	}
	return idle
}

// restful bounds the sleep of a task with nothing to commit: every answer of a broker wakes it, so that it need only notice their absence.
const restful = time.Second

// advance moves the clock.
func (t *task) advance() {
	t.clock = nextClock(t.clock, t.views, t.cfg.Time.Grace.Milliseconds())
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
	since := s.status.Answered
	if t.deaf.After(since) {
		since = t.deaf
	}
	return s.n == 0 && s.status.Trouble != nil && !s.status.Answered.IsZero() && t.now().Sub(since) > t.cfg.Time.FeedUnreachableAfter
}

// hear notes when no feed gives an answer, and says when that begins and ends.
func (t *task) hear() {
	now := t.now()
	trouble := error(nil)
	for _, s := range t.merged {
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

// close ends the task without another cut.
func (t *task) close() {
	t.cancel()
	<-t.done
}

// shut gives back what one life of the task held.
func (t *task) shut() {
	for _, s := range t.sources {
		s.shut()
	}
	if t.inFlight { // the next life reads what became of it; a stop has to know
		r := <-t.commits
		t.inFlight = false
		switch {
		case r.err == nil:
			t.safe = safePoint{record: r.cut.record, offsets: r.cut.offsets}
			t.confirm(r.cut)
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
	t.health = [event.NumFeeds]ratio{}
	t.broken = nil
}

// do runs f on the task's goroutine. It returns false when ctx ended first.
func (t *task) do(ctx context.Context, f func()) bool {
	ran := make(chan struct{})
	select {
	case t.commands <- func() { f(); close(ran) }:
	case <-ctx.Done():
		return false
	case <-t.done:
		return false
	}
	select {
	case <-ran:
		return true
	case <-t.done:
		return false
	}
}

// lend gives the task the right to commit in a generation, and take takes it back after a last cut.
func (t *task) lend(g *group.Generation) {
	t.leased.Store(g)
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *task) revoke(ctx context.Context) {
	if !t.opened.Load() {
		t.leased.Store(nil)
		return
	}
	t.do(ctx, func() {
		if err := t.finish(ctx); err != nil {
			t.log.Warn("the last cut before a rebalance did not succeed; the next owner computes it again", "err", err)
		}
		t.lease = nil
		t.leased.Store(nil) // at once: the task must not take it up again
	})
	t.leased.Store(nil)
}

// drain is the clean end: a last cut, and Badger caught up with it.
func (t *task) drain(ctx context.Context) error {
	if !t.opened.Load() {
		return nil
	}
	var err error
	t.do(ctx, func() {
		if t.table == nil {
			return
		}
		if err = t.finish(ctx); err == nil {
			err = t.table.Drain(ctx)
		}
	})
	return err
}
