package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"ebb/state/customer"
	"ebb/stream/event"
)

// ErrNotHere is returned for a customer whose partition another instance owns.
var ErrNotHere = errors.New("customer is held by another instance")

// ErrUnknownCustomer is returned for a customer of whom nothing is known.
var ErrUnknownCustomer = errors.New("no such customer")

// TaskStatus is how one task stands. It is a snapshot, made by the task itself.
type TaskStatus struct {
	Partition int32
	State     string // waiting, restoring, running, stopped
	Error     string // why it stopped
	Waiting   string // for what it has been waiting for a while, though it runs; empty if for nothing
	Clock     time.Time
	Quiet     bool // history is being applied without publishing
	LastCut   time.Time
	Remaining int64            // changelog offsets still to replay
	Replay    int64            // of so many
	Customers int64            // known to the task
	Stages    map[string]int64 // the same, by stage
	Open      []OpenSum        // alerts that are open
	Live      bool             // read to the ends of the feeds, or nearly
	Looked    bool             // the broker has told where the feeds end: Lag can be believed
	Feeds     []FeedStatus

	verdicts verdicts // see VerdictsOf
}

// FeedStatus is how one feed stands, in one task.
type FeedStatus struct {
	Feed        event.Feed
	Topic       string
	Lag         int64         // records
	LastEvent   time.Time     // event time of the newest applied record
	Usual       float64       // arrivals an hour at this hour of the week, -1 while not known
	Rate        float64       // records a second of the wall clock, lately
	Consumed    int64         // records since the task was opened
	Lateness    time.Duration // decaying maximum of arrival after event time
	Stalled     time.Time     // zero when live
	Blind       time.Time     // zero when it can be trusted
	DeadLetters map[event.Reason]int64
	Examples    map[event.Reason]string // where the latest lies, and its message
}

// publish makes the present state visible to others.
func (t *task) publish(state string, err error) {
	st := &TaskStatus{Partition: t.partition, State: state, LastCut: t.lastCut}
	if t.clock != 0 {
		st.Clock = time.UnixMilli(t.clock).UTC()
	}
	if err != nil {
		st.Error = err.Error()
	}
	if what := t.waitsFor(); state == "running" && what != "" {
		st.Waiting = what + ", before it reads history on"
	}
	if p := &t.progress; state == "restoring" {
		st.Remaining, st.Replay = max(0, p.end-p.at), p.end-p.from
	}
	if t.rec != nil && (state == "running" || state == "stopped") { // a stopped task still owns its partition
		st.Quiet, st.Live = t.rec.quiet, t.live
		st.Looked = true
		st.Open = t.rec.tally.sums()
		st.verdicts = t.rec.verdicts.copied()
		st.Stages = t.rec.tally.byStage()
		for _, n := range t.rec.tally.stages {
			st.Customers += n
		}
		for _, s := range t.sources {
			if t.byFeed[s.feed] == s {
				st.Feeds = append(st.Feeds, t.feedStatus(s))
			}
			st.Looked = st.Looked && (s.fetch == nil || !s.status.Answered.IsZero())
		}
	}
	t.status.Store(st)
}

func (t *task) feedStatus(s *source) FeedStatus {
	f := &t.feeds[s.feed]
	fs := FeedStatus{Feed: s.feed, Topic: s.topic, Lag: t.behind(s.feed), Usual: -1, Rate: t.rate[s.feed], Consumed: t.taken[s.feed], Lateness: time.Duration(t.late[s.feed]) * time.Millisecond}
	if f.rhythm.learnt() {
		fs.Usual = f.rhythm.usual(t.clock)
	}
	if f.rhythm.last != 0 {
		fs.LastEvent = time.UnixMilli(f.rhythm.last).UTC()
	}
	if f.stalled != 0 {
		fs.Stalled = time.UnixMilli(f.stalled).UTC()
	}
	if f.blind != 0 {
		fs.Blind = time.UnixMilli(f.blind).UTC()
	}
	if len(t.letters[s.feed]) > 0 {
		fs.DeadLetters = make(map[event.Reason]int64, len(t.letters[s.feed]))
		for r, n := range t.letters[s.feed] {
			fs.DeadLetters[r] = n
		}
		fs.Examples = maps.Clone(t.examples[s.feed])
	}
	return fs
}

// report brings metrics and the visible status up to date, at most every reportEvery.
func (t *task) report(now time.Time) {
	if now.Sub(t.reported) < reportEvery {
		return
	}
	t.reported = now
	wall := t.now().UnixMilli()
	for _, s := range t.sources {
		if t.byFeed[s.feed] != s { // another partition of the same feed
			continue
		}
		if passed := float64(wall-t.reportedAt) / 1000; t.reportedAt != 0 && passed > 0 {
			t.rate[s.feed] += (float64(t.consumed[s.feed])/passed - t.rate[s.feed]) * rateWeight
		}
		t.reportFeed(s.feed, wall)
	}
	t.reportedAt = wall
	if r := t.reroute; r != nil {
		t.m.rerouteHeld.Set(float64(r.bytes))
		t.m.rerouteLag.Set(float64(max(0, r.status.HighWatermark-r.position())))
	}
	t.m.clock.Set(float64(t.clock) / 1000)
	t.publish("running", nil)
}

// behind is the number of offsets between what is applied of a feed and its end, in all partitions of it that the task reads.
func (t *task) behind(f event.Feed) (n int64) {
	for _, s := range t.sources {
		if s.feed == f {
			n += s.behind()
		}
	}
	return n
}

const (
	reportEvery = 500 * time.Millisecond
	rateWeight  = 0.2 // of the newest half second in the shown rate
)

func (t *task) reportFeed(f event.Feed, wall int64) {
	t.m.consumed[f].Add(float64(t.consumed[f]))
	t.taken[f] += int64(t.consumed[f])
	t.consumed[f] = 0
	behind := t.behind(f)
	t.m.lag[f].Set(float64(behind))
	seconds := 0.0
	if last := t.feeds[f].rhythm.last; behind > 0 && last != 0 {
		seconds = max(0, float64(wall-last)/1000)
	}
	t.m.lagSeconds[f].Set(seconds)
	t.late[f] -= t.late[f] / 100
}

// Status is how every task of the instance stands, in the order of the partitions.
func (e *Engine) Status() []TaskStatus {
	var all []TaskStatus
	for _, t := range e.all() {
		if st := t.status.Load(); st != nil {
			all = append(all, *st)
		}
	}
	return all
}

// Customer returns a copy of a customer's record as it is now, and the day numbers' calendar. The task that owns the customer makes it
// between two records.
func (e *Engine) Customer(ctx context.Context, id string) (*customer.Record, error) {
	e.mu.Lock()
	n := e.partitions
	e.mu.Unlock()
	if n == 0 {
		return nil, ErrNotHere
	}
	for _, t := range e.candidates(id, n) {
		var rec *customer.Record
		var err error
		if !t.do(ctx, func() { rec, err = t.copyOf(id) }) {
			return nil, fmt.Errorf("ask partition %d: %w", t.partition, context.Cause(ctx))
		}
		if rec != nil || err != nil {
			return rec, err
		}
	}
	return nil, ErrUnknownCustomer
}

// candidates are the tasks that may hold a customer: one where the partitioning is known, else all.
func (e *Engine) candidates(id string, n int32) []*task {
	all := e.all()
	if e.cfg.Check == nil {
		return all
	}
	p := e.cfg.Check([]byte(id), n)
	for _, t := range all {
		if t.partition == p {
			return []*task{t}
		}
	}
	return nil
}

// copyOf encodes and decodes the record, so that the copy shares nothing with the task's own.
func (t *task) copyOf(id string) (*customer.Record, error) {
	if t.table == nil {
		return nil, fmt.Errorf("partition %d is %s", t.partition, t.status.Load().State)
	}
	e, ok, err := t.table.Lookup([]byte(id))
	if err != nil || !ok {
		return nil, err
	}
	c := &customer.Record{ID: id}
	if err := customer.DecodeRecord(customer.AppendRecord(nil, &e.Record), c); err != nil {
		return nil, fmt.Errorf("copy record: %w", err)
	}
	return c, nil
}
