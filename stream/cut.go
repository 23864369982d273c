package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ebb/alerts"
	"ebb/state"
	"ebb/stream/batch"
	"ebb/stream/group"
	"ebb/stream/txn"
)

// taskKey is the changelog key of the task record. No customer id begins with a zero byte.
const taskKey = state.TaskKey

// message is one record on its way out.
type message struct {
	topic     string
	partition int32 // of the reroute topic; of others the key decides
	alerts.Message
}

// stepSeen is what the metrics want to know of an alert step once it is committed.
type stepSeen struct {
	detector string
	severity fmt.Stringer
	kind     fmt.Stringer
	at       int64 // event time of the decision
	live     bool  // triggered by an event while live: its latency counts
}

// outbox collects what the next cut publishes besides the customers.
type outbox struct {
	messages []message
	// ahead are facts that may be told before the cut, because telling them again changes nothing.
	ahead      []message
	steps      []stepSeen
	bytes      int64
	alertSince time.Time // process time of the oldest alert step in it
	// forwardSince is the process time of the oldest live record in it that goes to another task.
	forwardSince time.Time
}

func (o *outbox) add(topic string, m alerts.Message) { o.addTo(topic, 0, m) }

func (o *outbox) addTo(topic string, partition int32, m alerts.Message) {
	msg := message{topic: topic, partition: partition, Message: m}
	o.messages = append(o.messages, msg)
	o.bytes += msg.room()
}

func (o *outbox) addAhead(topic string, m alerts.Message) {
	msg := message{topic: topic, Message: m}
	o.ahead = append(o.ahead, msg)
	o.bytes += msg.room()
}

// takeAhead takes out what may be told before the cut.
func (o *outbox) takeAhead() outbox {
	taken := outbox{ahead: o.ahead}
	for i := range o.ahead {
		taken.bytes += o.ahead[i].room()
	}
	o.ahead = nil
	o.bytes -= taken.bytes
	return taken
}

func (o *outbox) empty() bool { return len(o.messages)+len(o.ahead) == 0 }

// room is about how much memory a message takes.
func (m *message) room() int64 { return int64(len(m.Key) + len(m.Value) + 256) }

// cut is one transaction of a task: everything that changed since the cut before, or facts ahead of it. It is encoded before its
// transaction opens, and belongs to the committing goroutine from then on.
type cut struct {
	customers *state.Cut
	record    []byte // nil: there are only facts in it
	out       outbox
	offsets   map[string]map[int32]int64
	lease     *group.Generation
	priority  txn.Priority
	ends      bool // ends the quiet history
	began     time.Time
	events    int
}

func (c *cut) offset(topic string, partition int32, offset int64) {
	if c.offsets[topic] == nil {
		c.offsets[topic] = map[int32]int64{}
	}
	c.offsets[topic][partition] = offset
}

// cutResult comes back to the task's goroutine.
type cutResult struct {
	cut  *cut
	next int64 // changelog offset behind the cut
	err  error
}

// safePoint is the last committed cut: what another life of the task would begin with.
type safePoint struct {
	record  []byte
	offsets map[string]map[int32]int64
}

// dirtyAt notes the moment of the first change since the last cut.
func (t *task) dirtyAt() {
	if t.since.IsZero() && t.moved {
		t.since = t.tick()
	}
}

// due says whether a cut should be taken now. When nothing changed there is none.
func (t *task) due() bool {
	in, promise := t.promiseDue()
	promise = promise && in <= 0
	if !t.moved && t.outbox.empty() && !promise {
		if n, _ := t.table.Dirty(); n == 0 {
			return false
		}
	}
	_, bytes := t.table.Dirty()
	now := t.tick()
	switch {
	case t.cutNow, promise, t.sampling.due && !t.tellsAhead():
	case !t.outbox.forwardSince.IsZero() && now.Sub(t.outbox.forwardSince) >= forwardLinger:
	case t.table.Pressure() == state.PressureCut:
	case !t.outbox.alertSince.IsZero() && t.live && now.Sub(t.outbox.alertSince) >= t.cfg.Cut.Linger:
	case bytes+t.outbox.bytes >= t.cfg.Cut.MaxBytes:
	case t.sinceCut >= t.cfg.Cut.MaxEvents:
	case !t.since.IsZero() && now.Sub(t.since) >= t.age:
	default:
		return false
	}
	return true
}

// full says that no more may be applied before the running cut is done: what lies between cuts is bounded.
func (t *task) full() bool {
	return t.sinceCut >= 2*t.cfg.Cut.MaxEvents || t.heavy()
}

// heavy says that what has changed since the last cut takes as much memory as it may.
func (t *task) heavy() bool {
	_, bytes := t.table.Dirty()
	return t.table.Pressure() == state.PressureCut || bytes+t.outbox.bytes >= 2*t.cfg.Cut.MaxBytes
}

// maybeCut takes a cut if one is due, none is under way and the group lends its generation. Facts that are waited for go ahead of a cut that is not due yet.
func (t *task) maybeCut() {
	switch {
	case t.inFlight || t.lease == nil:
	case t.due():
		t.startCut()
	case t.sampling.due:
		t.startTelling()
	}
}

// startTelling commits the facts that the second stage waits for, with the positions of the last cut: while history is read it waits at every epoch, and a cut
// there would encode and write nearly every customer each time. A replay of what the next cut would have held tells them again, and the second stage knows them already.
func (t *task) startTelling() {
	c := &cut{out: t.outbox.takeAhead(), offsets: t.safe.offsets, lease: t.lease, began: t.tick()}
	c.priority.Change = c.began
	t.sampling.due = false
	t.start(c)
}

// tellsAhead reports whether there is a cut ahead of which facts can be told. Where records are forwarded, cuts also carry what the other tasks wait for.
func (t *task) tellsAhead() bool {
	return t.reroute == nil && !t.lastCut.IsZero() && len(t.safe.offsets) != 0
}

func (t *task) startCut() {
	if t.reroute != nil {
		t.give()
	}
	t.tellSamples(false)
	t.tellWaiting(1)
	c := &cut{
		customers: t.table.BeginCut(),
		out:       t.outbox,
		offsets:   make(map[string]map[int32]int64, len(t.sources)),
		lease:     t.lease,
		priority:  txn.Priority{Alert: t.outbox.alertSince, Change: t.since},
		began:     t.tick(),
		events:    t.sinceCut,
		ends:      t.ending,
	}
	if t.ending {
		t.rec.quiet = false
		t.ending = false
	}
	for _, s := range t.sources {
		if s.fetch == nil {
			continue
		}
		s.in.position, s.in.end, s.in.ahead = s.position, s.status.HighWatermark, s.forwarded()
		c.offset(s.topic, s.part, s.position)
	}
	if t.reroute != nil {
		t.reroute.record(&t.rec.reroute)
		c.offset(t.reroute.topic, t.partition, t.rec.reroute.position)
	}
	t.rec.clock = t.clock
	c.record = t.rec.append(nil)
	t.outbox = outbox{}
	t.moved, t.cutNow, t.sampling.due, t.sinceCut, t.since = false, false, false, 0, time.Time{}
	t.age = t.cutAge()
	t.start(c)
}

// start commits on a goroutine of its own. The result comes back to the task.
func (t *task) start(c *cut) {
	t.inFlight = true
	go func() {
		next, err := t.commit(c)
		t.commits <- cutResult{cut: c, next: next, err: err}
	}()
}

// cutAge spreads the periodic cuts of many tasks over time: 64 tasks in step cost ten times the latency of 64 spread out.
func (t *task) cutAge() time.Duration {
	return time.Duration((0.75 + 0.5*t.random()) * float64(t.cfg.Cut.MaxAge))
}

// commit runs the transaction of one cut. It does not touch the task's state.
func (t *task) commit(c *cut) (int64, error) {
	for {
		tx, changelog, err := t.transaction(c)
		if err != nil {
			return 0, err
		}
		res, err := t.transact(tx, c.priority)
		if err == nil || !txn.TooLarge(err) {
			return res.Next[changelog], err
		}
		n := c.shorten(t.cfg.Topics.DeadLetters)
		if n == 0 {
			return 0, err
		}
		t.log.Warn("dead letters are too large for their topic and go without the value; raise its max.message.bytes above that of the feeds", "letters", n)
	}
}

// transaction builds the content of a cut: customers and the task record to the changelog, the task record last; alert
// steps, the table of open alerts and dead letters to their topics. Records bear the time at which they are written, not the event
// time: a topic's retention would else delete an alert about last year before anybody has read it.
func (t *task) transaction(c *cut) (*txn.Transaction, txn.TopicPartition, error) {
	changelog := txn.TopicPartition{Topic: t.cfg.Topics.Changelog, Partition: t.partition}
	tx := t.newTransaction(c.lease, c.offsets)
	w := tx.Writer(t.codec)
	nowMs := t.now().UnixMilli()
	var err error
	if c.customers != nil {
		c.customers.Each(func(id string, value []byte) {
			if err == nil {
				err = w.Add(changelog, []byte(id), value, nil, nowMs)
			}
		})
	}
	if c.record != nil {
		err = errors.Join(err, w.Add(changelog, []byte(taskKey), c.record, nil, nowMs))
	}
	for _, all := range [...][]message{c.out.ahead, c.out.messages} {
		for i := range all {
			err = errors.Join(err, t.send(w, &all[i], nowMs))
		}
	}
	return tx, changelog, err
}

// committed takes the result of a cut back into the task.
func (t *task) committed(r cutResult) error {
	t.inFlight = false
	took := t.tick().Sub(r.cut.began)
	if r.err != nil {
		t.m.transaction("failed", took)
		// What the cut held is in memory only, and not counted as changed any more: without it no later cut is complete.
		t.refused, t.broken = r.cut.lease, r.err
		return r.err
	}
	t.m.transaction("committed", took)
	if r.cut.record == nil {
		return nil
	}
	t.safe = safePoint{record: r.cut.record, offsets: r.cut.offsets}
	t.table.Commit(r.cut.customers, r.next, r.cut.record)
	t.durable.Store(r.next)
	t.lastCut = t.now()
	nowMs := t.now().UnixMilli()
	for _, s := range r.cut.out.steps {
		t.m.step(s)
		if s.live {
			t.m.eventToAlert.Observe(float64(max(0, nowMs-s.at)) / 1000)
		}
	}
	if r.cut.ends {
		t.log.Info("history is applied; alerts are published from now on", "published", len(r.cut.out.steps))
	}
	return nil
}

// finish takes a last cut and waits for it, for a hand-over or a stop. It returns early when ctx ends.
func (t *task) finish(ctx context.Context) error {
	for {
		if t.inFlight {
			select {
			case r := <-t.commits:
				if err := t.committed(r); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		if t.broken != nil {
			return t.broken
		}
		if t.lease == nil || t.restored.IsZero() {
			return nil
		}
		t.cutNow = true
		if !t.due() {
			t.cutNow = false
			return nil
		}
		t.startCut()
	}
}

func wireHeaders(hs []alerts.Header) []batch.Header {
	out := make([]batch.Header, len(hs))
	for i, h := range hs {
		out[i] = batch.Header{Key: h.Key, Value: h.Value}
	}
	return out
}
