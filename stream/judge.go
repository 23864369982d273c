package stream

import (
	"errors"
	"fmt"
	"slices"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/stream/event"
)

// ErrUnreadable stops a task whose feed is mostly dead letters, instead of draining a topic into them.
var ErrUnreadable = errors.New("too much of the feed cannot be read")

// This file judges the health of the feeds. Stalls are judged before timers run on them.

// judge looks at what is wrong with the feeds and with the task itself. It runs before the timers, which decide by what it finds.
func (t *task) judge() {
	for _, s := range t.merged {
		if t.byFeed[s.feed] == s {
			t.judgeStall(s)
		}
	}
	for _, s := range t.sources {
		if t.byFeed[s.feed] == s {
			t.mendBlind(s)
			t.judgeGap(&t.feeds[s.feed].gap)
		}
	}
	if t.reroute != nil {
		t.judgeGap(&t.rec.reroute.gap)
	}
	t.judgeStopped()
	t.judgeDisk()
}

func (t *task) judgeStall(s *source) {
	f := &t.feeds[s.feed]
	silent := t.silent(s)
	switch {
	case f.stalled == 0 && silent:
		f.stalled = max(f.rhythm.last, 1)
		t.moved = true
	case f.stalled != 0 && !silent && t.exhausted(s): // it could not be read, and nothing had come meanwhile
		t.returns(s, t.clock)
	}
}

// returns ends a stall at event time at. It is told at the first record that comes, not when the task gets to judge: what is
// not counted against a customer must not depend on how much is applied at a time.
func (t *task) returns(s *source, at int64) {
	f := &t.feeds[s.feed]
	t.excuse(s.feed, f.stalled, at)
	f.stalled = 0
	t.moved = true
}

// exhausted is true while the feed is read to its end, as far as that can be known.
func (t *task) exhausted(s *source) bool {
	if s.rekeyed {
		if t.reroute.clock != never {
			return false
		}
		for _, o := range t.sources {
			if o != s && o.feed == s.feed && !o.exhausted() {
				return false
			}
		}
	}
	return s.exhausted()
}

func (s *source) exhausted() bool {
	return s.fetch == nil || s.n == 0 && s.drained && s.status.AtEnd && s.status.Trouble == nil
}

// judgeGap ends the condition of records that were deleted before they were read. The loss is not undone, but after a day it is no news any
// more.
func (t *task) judgeGap(gap *int64) {
	if *gap != 0 && t.clock-*gap > gapShownMs {
		*gap = 0
	}
}

// gapShownMs is how long the alert of a retention gap stays open, in event time.
const gapShownMs = dayMs

// judgeStopped ends the alert about a stop once the task is past what stopped it: every feed can be read.
func (t *task) judgeStopped() {
	if t.rec.stopped == 0 || !t.ready {
		return
	}
	for _, v := range t.views {
		if !v.known() || v.out {
			return
		}
	}
	t.rec.stopped = 0
	t.moved = true
}

// excuse remembers a stretch in which a feed said nothing of its customers: it is not counted against any of them.
func (t *task) excuse(feed event.Feed, from, to int64) {
	f := &t.feeds[feed]
	f.stalls = append(f.stalls, detectors.Interval{Feed: feed, From: from, To: to})
	if len(f.stalls) > maxStalls {
		f.stalls = f.stalls[1:]
	}
	t.gatherStalls()
}

// judgeDisk tells when the disk is down to its reserve: nothing is written to the local copy until there is room. The
// changelog holds everything, so nothing is at stake but the time of a restart.
func (t *task) judgeDisk() {
	switch held := t.table.Held() != nil; {
	case !held:
		t.diskHeld = 0
	case t.diskHeld == 0:
		t.diskHeld = max(t.clock, 1)
	}
}

// silent is true for a feed that cannot be read, or whose next record is not there although its rhythm promised many.
func (t *task) silent(s *source) bool {
	f := &t.feeds[s.feed]
	if t.unreachable(s) || s.rekeyed && t.partlyUnreachable(s.feed) {
		return f.rhythm.last != 0
	}
	return t.exhausted(s) && f.rhythm.silent(t.clock, t.cfg.Stall.After.Milliseconds(), t.cfg.Stall.Expected)
}

// partlyUnreachable is true when some of a feed that is divided among the tasks cannot be read, here or by another task.
func (t *task) partlyUnreachable(f event.Feed) bool {
	for _, s := range t.sources {
		if s.feed == f && t.unreachable(s) {
			return true
		}
	}
	return slices.ContainsFunc(t.reroute.senders, func(s *sender) bool { return s.out })
}

// gatherStalls shows the detectors every stretch that must not be counted against a customer.
func (t *task) gatherStalls() {
	var all []detectors.Interval
	for i := range t.feeds {
		all = append(all, t.feeds[i].stalls...)
	}
	t.env.SetStalls(all)
}

// judgeDeadLetters compares the unreadable part of a feed with what is borne.
func (t *task) judgeDeadLetters(s *source, sl *slot, at int64) error {
	h := &t.health[s.feed]
	f := &t.feeds[s.feed]
	share := h.share()
	if f.blind == 0 && h.bads >= t.cfg.Letters.BlindMin && share > t.cfg.Letters.BlindRatio {
		f.blind = max(h.firstB, 1)
	}
	if h.bads >= t.cfg.Letters.StopMin && share >= t.cfg.Letters.StopRatio {
		f.blind, f.blindSeverity = max(f.blind, 1), int64(alerts.Critical)
		return fmt.Errorf("%w: %.0f %% of the last records of %s (partition %d) are dead letters, newest reason %s; mend the producer or the mapping of feed %s, then restart",
			ErrUnreadable, 100*share, s.topic, s.part, sl.reject.Reason, s.feed)
	}
	return nil
}

// mendBlind ends the blindness of a feed once its dead letters are few again.
func (t *task) mendBlind(s *source) {
	f := &t.feeds[s.feed]
	if f.blind == 0 {
		return
	}
	h := &t.health[s.feed]
	h.at(t.clock)
	if h.streak == 0 || h.share() > t.cfg.Letters.BlindRatio {
		return
	}
	if s.feed < event.Customers { // no customer is silent because of profiles, or of what people do
		t.excuse(s.feed, f.blind, max(f.blind, t.clock))
	}
	f.blind, f.blindSeverity = 0, 0
	t.moved = true
}

// endQuiet publishes what still fires when the history of a first start is applied and the clock stands at now.
func (t *task) endQuiet() error {
	if !t.rec.quiet || t.ending || !t.ready {
		return nil
	}
	for i, s := range t.merged {
		if s.fetch != nil && (s.position < s.in.quietEnd || !t.views[i].atEnd) {
			return nil
		}
	}
	if t.reroute != nil && (!t.reroute.ended || t.reroute.clock != never) { // other tasks may have something to tell
		return nil
	}
	if t.timersDone < t.clock-t.cfg.Time.maxOutOfOrderMs() {
		return nil
	}
	for id := range t.held {
		if t.outbox.bytes >= t.cfg.Cut.MaxBytes { // the rest with the next cut
			t.cutNow = true
			return nil
		}
		delete(t.held, id)
		e, ok, err := t.table.Lookup([]byte(id))
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if t.cursed[id] {
			t.rec.tally.out(&e.Record)
			t.quarantine(e, t.clock)
			t.rec.tally.in(&e.Record)
			t.table.Changed(e)
			continue
		}
		t.current.timer = e
		t.know(t.clock)
		t.rec.tally.out(&e.Record)
		t.steps = t.policy.PublishHeld(&e.Record, &t.env, t.steps[:0])
		for i := range t.steps {
			t.emit(&e.Record, &t.steps[i], nil)
		}
		t.current.timer = nil
		if t.policy.Forget(&e.Record, t.clock) { // it was there for an alert that was told before a rewind
			t.table.Forget(e)
			continue
		}
		if due := t.policy.Due(&e.Record, &t.env); due != 0 && (e.Record.Deadline == 0 || due < e.Record.Deadline) {
			t.table.Arm(e, due) // what is told from now on may have to be told again
		}
		if e.Record.First == 0 { // nothing else has him looked at
			t.table.Arm(e, t.policy.ForgetAt(&e.Record))
		}
		t.rec.tally.in(&e.Record)
		t.table.Changed(e)
	}
	t.ending, t.cutNow = true, true
	t.moved = true // the end of the history is to be told, even if nothing else is
	return nil
}

// mode says whether alert steps are published or kept.
func (t *task) mode() alerts.Mode {
	if t.rec.quiet && !t.ending {
		return alerts.Quiet
	}
	return alerts.Publish
}

// announceStop tells that the task stopped: a transaction of its own with nothing but the fact, the task record of the last cut that
// now remembers the stop, and the offsets of that cut. What was applied since is dropped; it is computed again when the fault is
// mended. A feed that cannot be read has its own condition. It returns false if it has to be tried again in another generation. Into the changelog of another group
// nothing is written, the less so before the claim has said whose it is.
func (t *task) announceStop(cause error) bool {
	if errors.Is(cause, ErrForeignChangelog) {
		return true
	}
	r, err := decodeTaskRecord(t.safe.record)
	if err != nil {
		return true // there is no state yet, or none that may be written to: the log and ebb_task_stopped say it
	}
	now := max(r.clock, t.clock)
	if now == 0 {
		now = t.now().UnixMilli()
	}
	if errors.Is(cause, ErrUnreadable) {
		for _, s := range t.sources {
			f := &t.feeds[s.feed]
			r.feeds[s.feed].blind, r.feeds[s.feed].blindSeverity = f.blind, f.blindSeverity
		}
	} else if r.stopped == 0 {
		r.stopped = now
	}
	c := &cut{lease: t.lease, offsets: t.safe.offsets, record: r.append(nil), began: t.tick()}
	c.priority.Alert = c.began
	c.out.add(t.cfg.Topics.Facts, t.fact(now, t.conditions(r, cause.Error(), nil)))
	if _, err := t.commit(c); err != nil {
		t.log.Warn("the stop could not be told to the group", "err", err)
		return false
	}
	t.safe.record = c.record
	return true
}
