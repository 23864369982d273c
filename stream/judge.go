package stream

import (
	"errors"
	"fmt"
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

// judge looks for feeds that fell silent against their own rhythm or came back, and announces retention gaps.
func (t *task) judge() {
	for _, s := range t.merged {
		t.judgeStall(s)
		t.mendBlind(s)
	}
	if t.rec.stopped != 0 {
		t.rec.stopped = 0
		t.clear(t.stoppedCondition())
	}
	t.judgeDisk()
	for _, f := range t.gaps {
		t.raise(t.condition(alerts.RetentionGap, f), t.clock, alerts.Critical)
	}
	t.gaps = t.gaps[:0]
}

func (t *task) judgeStall(s *source) {
	f := &t.feeds[s.feed]
	c := t.condition(alerts.FeedStalled, s.feed)
	switch {
	case f.stalled == 0 && t.silent(s):
		f.stalled = max(f.rhythm.last, 1)
		t.raise(c, f.stalled, alerts.Critical)
		t.m.stalled[s.feed].Set(1)
	case f.stalled != 0 && f.rhythm.last > f.stalled:
		t.excuse(s.feed, f.stalled, f.rhythm.last)
		f.stalled = 0
		t.clear(c)
		t.m.stalled[s.feed].Set(0)
	case f.stalled != 0:
		t.raise(c, f.stalled, alerts.Critical)
	}
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
	if t.unreachable(s) {
		return f.rhythm.last != 0
	}
	return s.n == 0 && s.drained && s.status.AtEnd && f.rhythm.silent(t.clock, t.cfg.Stall.After.Milliseconds(), t.cfg.Stall.Expected)
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
	if t.rec.stopped != 0 {
		t.ops.restore(t.stoppedCondition(), t.partition, t.rec.stopped)
	}
	for _, s := range t.sources {
		f := &t.feeds[s.feed]
		if f.stalled != 0 {
			t.ops.restore(t.condition(alerts.FeedStalled, s.feed), t.partition, f.stalled)
		}
		if f.blind != 0 {
			t.ops.restore(t.condition(alerts.FeedBlind, s.feed), t.partition, f.blind)
		}
	}
}

// judgeDeadLetters compares the unreadable part of a feed with what is borne.
func (t *task) judgeDeadLetters(s *source, at int64) error {
	h := &t.health[s.feed]
	f := &t.feeds[s.feed]
	share := h.share()
	c := t.condition(alerts.FeedBlind, s.feed)
	if f.blind == 0 && h.bads >= t.cfg.Letters.BlindMin && share > t.cfg.Letters.BlindRatio {
		f.blind = max(h.firstB, 1)
		t.m.blind[s.feed].Set(1)
		t.raise(c, f.blind, alerts.Warning)
	}
	if h.bads >= t.cfg.Letters.StopMin && share >= t.cfg.Letters.StopRatio {
		t.raise(c, f.blind, alerts.Critical)
		return fmt.Errorf("%w: %.0f %% of the last records of %s (partition %d) are dead letters, newest reason %s; mend the producer or the mapping of feed %s, then restart",
			ErrUnreadable, 100*share, s.topic, s.part, s.first().reject.Reason, s.feed)
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
	if h.goods == 0 || h.share() > t.cfg.Letters.BlindRatio {
		return
	}
	t.excuse(s.feed, f.blind, t.clock)
	f.blind = 0
	t.m.blind[s.feed].Set(0)
	t.clear(t.condition(alerts.FeedBlind, s.feed))
}

func (t *task) raise(c condition, since int64, severity alerts.Severity) {
	t.operational(t.ops.raise(c, t.partition, since, severity))
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
		if s.position < t.feeds[s.feed].quietEnd || !t.views[i].atEnd {
			return nil
		}
	}
	if t.timersDone < t.clock-t.cfg.Time.maxOutOfOrderMs() {
		return nil
	}
	for id := range t.held {
		e, ok, err := t.table.Lookup([]byte(id))
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		t.know(t.clock)
		t.rec.tally.out(&e.Record)
		t.steps = t.policy.PublishHeld(&e.Record, &t.env, t.steps[:0])
		t.rec.tally.in(&e.Record)
		for i := range t.steps {
			t.emit(&e.Record, &t.steps[i], nil)
		}
		t.table.Changed(e)
	}
	clear(t.held)
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
// computed again when the fault is mended.
func (t *task) announceStop(cause error, pending []*alerts.Operational) {
	r, err := decodeTaskRecord(t.safe.record)
	if err != nil || t.lease == nil {
		return // never opened, or no right to write: the log and ebb_task_stopped say it
	}
	now := max(r.clock, t.clock)
	c := &cut{lease: t.lease, offsets: t.safe.offsets, began: t.tick()}
	if !errors.Is(cause, ErrUnreadable) {
		r.stopped = now
		pending = []*alerts.Operational{t.ops.raise(t.stoppedCondition(), t.partition, now, alerts.Critical)}
	}
	for _, op := range pending {
		if op == nil {
			continue
		}
		op.At, op.Detail = now, cause.Error()
		if op.Kind == alerts.FeedBlind {
			for i := range r.feeds {
				if t.condition(alerts.FeedBlind, event.Feed(i)).subject == op.Subject {
					r.feeds[i].blind = op.Since
				}
			}
		}
		c.out.add(t.cfg.Topics.Operations, t.policy.OperationalMessage(op))
	}
	c.record = r.append(nil)
	if _, err := t.commit(c); err != nil {
		t.log.Warn("the stop could not be published as an operational alert", "err", err)
	}
}
