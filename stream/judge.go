package stream

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/stream/event"
)

// ErrUnreadable stops a task whose feed is mostly dead letters, instead of draining a topic into them.
var ErrUnreadable = errors.New("too much of the feed cannot be read")

// This file judges the health of the feeds. Stalls are judged before timers run on them.

func (t *task) condition(kind alerts.OperationalKind, f event.Feed) condition {
	return condition{kind: kind, subject: "feed/" + f.String()}
}

// judge looks at what is wrong with the feeds and with the task itself. It runs before the timers, which decide by what it finds.
func (t *task) judge() {
	for _, s := range t.merged {
		if t.byFeed[s.feed] == s {
			t.judgeStall(s)
			t.mendBlind(s)
		}
	}
	for _, s := range t.sources {
		if t.byFeed[s.feed] == s {
			t.judgeGap(s.feed.String(), &t.feeds[s.feed].gap)
		}
	}
	if t.reroute != nil {
		t.judgeGap(rerouteName, &t.rec.reroute.gap)
	}
	t.judgeStopped()
	t.judgeDisk()
}

func (t *task) judgeStall(s *source) {
	f := &t.feeds[s.feed]
	c := t.condition(alerts.FeedStalled, s.feed)
	silent := t.silent(s)
	switch {
	case f.stalled == 0 && silent:
		f.stalled = max(f.rhythm.last, 1)
		f.stallAlert = t.raise(c, f.stalled, alerts.Critical)
		t.moved = true
	case f.stalled != 0 && !silent && t.exhausted(s): // it could not be read, and nothing had come meanwhile
		t.returns(s, t.clock)
	case f.stallAlert == 0:
	case f.stalled == 0 && t.ops.settled():
		f.stallAlert = 0
		t.clear(c)
		t.moved = true
	default:
		t.raise(c, f.stallAlert, alerts.Critical)
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

// judgeGap tells of records that were deleted before they were read. The loss is not undone, but after a day it is no news any more.
func (t *task) judgeGap(feed string, gap *int64) {
	c := gapCondition(feed)
	switch {
	case *gap == 0:
	case t.clock-*gap > gapShownMs && t.ops.settled():
		*gap = 0
		t.clear(c)
	default:
		*gap = t.raise(c, *gap, alerts.Critical)
	}
}

func gapCondition(feed string) condition {
	return condition{kind: alerts.RetentionGap, subject: "feed/" + feed}
}

// gapShownMs is how long the alert of a retention gap stays open, in event time.
const gapShownMs = 24 * hourMs

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
	t.clear(t.stoppedCondition())
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
	c := condition{kind: alerts.DiskReserve, subject: "instance/" + t.cfg.Instance}
	held := t.table.Held() != nil
	switch {
	case held:
		t.raise(c, max(t.clock, 1), alerts.Critical)
	case t.diskHeld:
		t.clear(c)
	}
	t.diskHeld = held
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
	t.env.Stalls = t.env.Stalls[:0]
	for i := range t.feeds {
		t.env.Stalls = append(t.env.Stalls, t.feeds[i].stalls...)
	}
}

func (t *task) stoppedCondition() condition {
	return condition{kind: alerts.TaskStopped, subject: fmt.Sprintf("partition/%d", t.partition)}
}

// takeOverHealth tells the instance what the restored task record says is going on.
func (t *task) takeOverHealth() {
	t.gatherStalls()
	t.ops.leave(t.partition)
	restore := func(c condition, since int64, severity alerts.Severity) {
		if since != 0 {
			t.ops.restore(c, t.partition, since, severity)
		}
	}
	restore(t.stoppedCondition(), t.rec.stopped, alerts.Critical)
	restore(t.quarantineCondition(), t.rec.quarantined, alerts.Warning)
	if t.rec.reroute.gap != 0 {
		restore(gapCondition(rerouteName), t.rec.reroute.gap, alerts.Critical)
	}
	for _, s := range t.sources {
		f := &t.feeds[s.feed]
		restore(t.condition(alerts.FeedStalled, s.feed), f.stallAlert, alerts.Critical)
		restore(t.condition(alerts.FeedBlind, s.feed), f.blindAlert, max(alerts.Warning, alerts.Severity(f.blindSeverity)))
		restore(t.condition(alerts.RetentionGap, s.feed), f.gap, alerts.Critical)
	}
}

func (t *task) quarantineCondition() condition {
	return condition{kind: alerts.CustomerQuarantined, subject: fmt.Sprintf("partition/%d", t.partition)}
}

// judgeDeadLetters compares the unreadable part of a feed with what is borne.
func (t *task) judgeDeadLetters(s *source, sl *slot, at int64) error {
	h := &t.health[s.feed]
	f := &t.feeds[s.feed]
	share := h.share()
	c := t.condition(alerts.FeedBlind, s.feed)
	if f.blind == 0 && h.bads >= t.cfg.Letters.BlindMin && share > t.cfg.Letters.BlindRatio {
		f.blind = max(h.firstB, 1)
		f.blindAlert = t.raise(c, f.blind, alerts.Warning)
	}
	if h.bads >= t.cfg.Letters.StopMin && share >= t.cfg.Letters.StopRatio {
		f.blind = max(f.blind, 1)
		f.blindAlert, f.blindSeverity = t.raise(c, max(f.blindAlert, f.blind), alerts.Critical), int64(alerts.Critical)
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
	if h.streak == 0 || h.share() > t.cfg.Letters.BlindRatio || !t.ops.settled() {
		t.raise(t.condition(alerts.FeedBlind, s.feed), f.blindAlert, alerts.Warning)
		return
	}
	t.excuse(s.feed, f.blind, max(f.blind, t.clock))
	f.blind, f.blindAlert, f.blindSeverity = 0, 0, 0
	t.moved = true
	t.clear(t.condition(alerts.FeedBlind, s.feed))
}

// raise reports a condition and returns since when its alert counts, which is part of the alert's id.
func (t *task) raise(c condition, since int64, severity alerts.Severity) int64 {
	op, since := t.ops.raise(c, t.partition, since, severity)
	t.operational(op)
	return since
}

func (t *task) clear(c condition) { t.operational(t.ops.clear(c, t.partition)) }

// operational puts an operational step into the next cut, which is then due at once.
func (t *task) operational(op *alerts.Operational) {
	if op == nil {
		return
	}
	op.At = t.clock
	if op.At == 0 {
		op.At = t.now().UnixMilli()
	}
	t.outbox.add(t.cfg.Topics.Operations, t.policy.OperationalMessage(op))
	t.outbox.operations = append(t.outbox.operations, op)
	t.cutNow = true
	t.log.Warn("operational alert", "about", op.Subject, "kind", op.Kind, "step", op.Step, "since", time.UnixMilli(op.Since).UTC())
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
		t.rec.tally.in(&e.Record)
		t.table.Changed(e)
	}
	t.ending, t.cutNow = true, true
	return nil
}

// mode says whether alert steps are published or kept.
func (t *task) mode() alerts.Mode {
	if t.rec.quiet && !t.ending {
		return alerts.Quiet
	}
	return alerts.Publish
}

// announceStop publishes that the task stopped: a transaction of its own with nothing but the operational step, the task
// record of the last cut that now remembers the stop, and the offsets of that cut. What was applied since is dropped; it is
// computed again when the fault is mended. A feed that cannot be read has its own alert. It returns false if it has to be
// tried again in another generation.
func (t *task) announceStop(cause error) bool {
	r, err := decodeTaskRecord(t.safe.record)
	if err != nil {
		return true // there is no state yet, or none that may be written to: the log and ebb_task_stopped say it
	}
	if t.lease == nil {
		return false
	}
	now := max(r.clock, t.clock)
	if now == 0 {
		now = t.now().UnixMilli()
	}
	c := &cut{lease: t.lease, offsets: t.safe.offsets, began: t.tick()}
	t.ops.lost(t.partition) // what was pending is raised again, here or when the task runs again
	if errors.Is(cause, ErrUnreadable) {
		ops, told := t.tellBlind(r)
		if !told {
			return false
		}
		c.out.operations = ops
	} else {
		op, since := t.ops.raise(t.stoppedCondition(), t.partition, now, alerts.Critical)
		if op == nil {
			return true // it was stopped before, and never got further
		}
		r.stopped = since
		c.out.operations = []*alerts.Operational{op}
	}
	for _, op := range c.out.operations {
		op.At, op.Detail = now, cause.Error()
		c.out.add(t.cfg.Topics.Operations, t.policy.OperationalMessage(op))
	}
	c.record = r.append(nil)
	if _, err := t.commit(c); err != nil {
		t.log.Warn("the stop could not be published as an operational alert", "err", err)
		return false
	}
	t.safe.record = c.record
	for _, op := range c.out.operations {
		t.ops.confirm(op)
	}
	t.ops.lost(t.partition)
	return true
}

// tellBlind takes the blindness of the feeds into the record that the stop leaves, and returns the steps about it that nobody else tells.
// told is false while a step of another partition has to be committed first.
func (t *task) tellBlind(r *taskRecord) (steps []*alerts.Operational, told bool) {
	for _, s := range t.sources {
		f := &t.feeds[s.feed]
		if f.blind == 0 {
			continue
		}
		c := t.condition(alerts.FeedBlind, s.feed)
		for _, severity := range []alerts.Severity{alerts.Warning, alerts.Severity(f.blindSeverity)} {
			op, since := t.ops.raise(c, t.partition, f.blindAlert, severity)
			if f.blindAlert = since; op != nil {
				steps = append(steps, op)
			} else if !t.ops.tells(c, severity) {
				t.ops.lost(t.partition)
				return nil, false
			}
		}
		to := &r.feeds[s.feed]
		to.blind, to.blindAlert, to.blindSeverity = f.blind, f.blindAlert, f.blindSeverity
	}
	return steps, true
}
