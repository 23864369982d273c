package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"ebb/alerts"
	"ebb/state/customer"
	"ebb/stream/batch"
	"ebb/stream/fetch"
	"ebb/stream/group"
	"ebb/stream/txn"
)

// secondStage folds the facts that the tasks of the whole group tell within their cuts, or ahead of them, and owns what concerns more than one customer:
// the operational alerts, those about cohorts of customers, and the model of the population. It runs on one member of the group, the owner of electedBy, and keeps the rules of a task: a transactional id of
// its own (GROUP-facts), fence before replay, position from its own record, and every transaction under generation and member id.
//
//	facts ──▶ report of a partition ──▶ fold ──▶ ONE transaction: reports and record to the changelog of facts, steps to the
//	                                             topics of operations and alerts, offset of facts
//
// Its changelog is a topic of its own (compacted, one partition), not a key space in the changelog of a partition: a task would
// restore it with its customers, wait at a take-over for the other's open transaction, and a fold would have to read a million customers to
// find it. What it holds is small, so there is no local copy: it is read from the beginning at every take-over.
//
// A model is fitted on its goroutine: meanwhile operational alerts wait, for a second or so once an epoch.
//
// It reads facts only as fast as it commits them: nothing is applied while the group lends no generation.
type secondStage struct {
	owner
	partitions int32 // of the feeds: who reports
	policy     *alerts.Policy
	giveUp     func(error) // ends the instance
	m          *metrics
	status     atomic.Pointer[StageStatus]

	// owned
	ops    *operations
	learn  *learning // nil where nothing is learnt
	watch  *watching // nil where no cohorts are watched
	rec    stageRecord
	facts  *fetch.Partition
	out    stageOutput
	unread []byte // of its record: what was learnt while something was
}

// electedBy is the partition of the feeds whose owner runs the second stage. The group leaves a partition where it is if it can, and
// with it the stage.
const electedBy = 0

// SecondStage is what the second stage is called where tasks have the number of their partition.
const SecondStage = -1

// stageKey is the key of the stage's own record in its changelog.
const stageKey = "\x00stage"

// stageVersion is the first byte of an encoded stageRecord. Older versions stay readable.
const stageVersion = 2

// stageRecord is what is true of the second stage as a whole; with it are stored the open alerts.
type stageRecord struct {
	group, cluster string
	position       int64 // next fact to fold
	began          int64 // when the first fact was written, ms of the wall clock; 0 before
}

// stageOutput is what the next transaction of the stage holds.
type stageOutput struct {
	reports map[string][]byte // changed since the last, nil: gone
	steps   []*alerts.Operational
	wide    []alerts.Wide // about cohorts and totals
	since   time.Time     // process time of the oldest step
}

// StageStatus is how the second stage stands on this instance.
type StageStatus struct {
	State  string // waiting, restoring, running, stopped
	Error  string // why it stopped
	Firing int    // operational alerts that are open, of the whole group
}

// SecondStage is how the second stage stands, nil where another instance runs it.
func (e *Engine) SecondStage() *StageStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.second == nil {
		return nil
	}
	return e.second.status.Load()
}

// elect runs the second stage under a generation, if it is this member's, and ends it if not.
func (e *Engine) elect(g *group.Generation, follows bool) {
	mine := slices.Contains(g.Partitions, electedBy)
	e.mu.Lock()
	s := e.second
	if s != nil && (!mine || !follows) {
		e.second = nil
	}
	e.mu.Unlock()
	if s != nil && mine && follows {
		s.lend(g)
		return
	}
	if s != nil {
		s.close()
		e.m.dropStage()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !mine || e.killed.Load() || e.stopping.Load() {
		return
	}
	s = &secondStage{partitions: e.partitions, policy: e.deps.Policy, giveUp: e.giveUp, m: e.m}
	e.equip(&s.owner, 0, stageName, SecondStage)
	s.log = e.log.With("stage", "facts")
	s.remaining = func(int64) {}
	s.leased.Store(g)
	e.second = s
	go s.run(s)
}

// revokeSecond takes the right to commit back from the second stage, if it runs here.
func (e *Engine) revokeSecond(ctx context.Context) {
	e.mu.Lock()
	s := e.second
	e.mu.Unlock()
	if s != nil {
		s.revoke(ctx)
	}
}

// endSecond closes the second stage.
func (e *Engine) endSecond() {
	e.mu.Lock()
	s := e.second
	e.second = nil
	e.mu.Unlock()
	if s != nil {
		s.close()
		e.m.dropStage()
	}
}

// serve is one life of the stage. It sleeps without a timer: only facts, and a generation, give it something to do.
func (s *secondStage) serve() error {
	s.publish("restoring", nil)
	s.refused = nil
	if err := s.open(); err != nil {
		return err
	}
	s.publish("running", nil)
	s.opened.Store(true)
	defer s.opened.Store(false)
	for {
		more, err := s.step()
		if err != nil {
			return err
		}
		if more {
			continue
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case f := <-s.commands:
			f()
		case <-s.wake:
		}
	}
}

// shut gives back what one life of the stage held.
func (s *secondStage) shut() {
	if s.facts != nil {
		s.facts.Close()
	}
	s.facts, s.ops, s.learn, s.watch, s.out = nil, nil, nil, nil, stageOutput{}
}

// stop ends the stage for a fault that somebody has to mend. The tasks go on; what they tell is folded later.
func (s *secondStage) stop(err error) {
	s.log.Error("second stage stopped: no operational alerts are published; the tasks go on", "err", err)
	s.m.stageStopped()
	s.publish("stopped", err)
	if errors.Is(err, ErrForeignChangelog) {
		s.giveUp(err)
	}
	s.stand(func() bool { return true })
}

// revoke takes the right to commit back. What is folded is committed; the next owner folds what comes.
func (s *secondStage) revoke(ctx context.Context) {
	if s.opened.Load() {
		s.do(ctx, func() {
			s.lease = nil
			s.leased.Store(nil)
		})
	}
	s.leased.Store(nil)
}

func (s *secondStage) publish(state string, err error) {
	st := &StageStatus{State: state}
	if err != nil {
		st.Error = err.Error()
	}
	if s.ops != nil {
		st.Firing = len(s.ops.alerts)
	}
	s.status.Store(st)
}

// open takes the stage over, in the order in which a task is: fence, replay, position.
func (s *secondStage) open() error {
	if err := s.producer.Init(s.ctx); err != nil {
		return fmt.Errorf("take over the transactions of the second stage: %w", err)
	}
	if err := s.replay(); err != nil {
		return err
	}
	topic := s.cfg.Topics.Facts
	start, end, err := s.bounds(s.ctx, topic)
	if err != nil {
		return fmt.Errorf("topic %s: %w", topic, err)
	}
	// Nothing is lost for good by either: every report is a complete set, and every partition tells its own again.
	switch {
	case s.rec.position > end:
		s.log.Error("facts end before the position of the second stage: the topic was truncated or created again; folding it from its beginning",
			"topic", topic, "position", s.rec.position, "end", end)
		s.rec.position = start
	case s.rec.position < start:
		s.gap(start)
	}
	for _, p := range slices.Sorted(maps.Keys(s.ops.reports)) {
		if p >= s.partitions { // the feeds were created again with fewer
			s.tell(s.ops.forget(p))
			s.out.reports[string(factKey(factConditions, p))] = nil
		}
	}
	if err := s.relearn(topic, start); err != nil {
		return err
	}
	s.facts = s.fetcher.Open(topic, s.partition, s.rec.position, s.wake)
	s.m.firing(s.ops.firing())
	s.log.Info("second stage is open", "alerts", len(s.ops.alerts), "partitions", len(s.ops.reports), "position", s.rec.position)
	return nil
}

// relearn makes what is watched and what is learnt whole again: the stored folds, and what came after they were stored.
func (s *secondStage) relearn(topic string, start int64) error {
	w, l := s.watch, s.learn
	watched, learnt := never, never // from where on facts are to be taken in again
	if w != nil && w.stored >= 0 {
		watched = w.stored
	}
	if l != nil {
		if l.levels.forget(s.partitions); l.unsaved >= 0 {
			learnt = l.unsaved
		}
	}
	return s.read(s.ctx, topic, max(min(watched, learnt), start), s.rec.position, func(rec *batch.Record) error {
		switch kind, p, ok := splitFactKey(rec.Key); {
		case !ok:
		case kind == factCohorts && rec.Offset >= watched && p < s.partitions:
			return w.again(rec, p, s.cfg.Group)
		case kind == factSamples && rec.Offset >= learnt:
			return l.again(rec, s.cfg.Group)
		}
		return nil
	})
}

// gap goes on behind facts that the topic has deleted unread.
func (s *secondStage) gap(start int64) {
	if s.rec.position != 0 {
		s.log.Error("facts were deleted before they were folded; the partitions tell theirs again within a day", "topic", s.cfg.Topics.Facts, "from", s.rec.position, "start", start)
	}
	s.rec.position = start
}

// replay restores reports, alerts and position from the changelog.
func (s *secondStage) replay() error {
	s.ops, s.out = newOperations(), stageOutput{reports: map[string][]byte{}}
	if s.cfg.Population != nil {
		s.learn = newLearning(*s.cfg.Population)
	}
	if s.cfg.Cohorts != nil {
		s.watch = newWatching(*s.cfg.Cohorts, s.policy)
	}
	s.rec = stageRecord{group: s.cfg.Group, cluster: s.cluster}
	topic := s.cfg.Topics.FactsChangelog
	start, end, err := s.bounds(s.ctx, topic)
	if err != nil {
		return fmt.Errorf("topic %s: %w", topic, err)
	}
	err = s.read(s.ctx, topic, start, end, func(rec *batch.Record) error {
		err := s.restore(rec)
		if err != nil {
			return fmt.Errorf("offset %d: %w", rec.Offset, err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("replay of %s: %w", topic, err)
	}
	if s.watch != nil {
		if err := s.watch.restored(s.partitions); err != nil {
			return fmt.Errorf("replay of %s: %w", topic, err)
		}
	}
	if s.learn == nil {
		return nil
	}
	if err := s.learn.restored(); err != nil {
		return fmt.Errorf("replay of %s: %w", topic, err)
	}
	return nil
}

// restore takes in one record of the changelog.
func (s *secondStage) restore(rec *batch.Record) error {
	if string(rec.Key) == stageKey {
		return s.decode(rec.Value)
	}
	if strings.HasPrefix(string(rec.Key), cohortsPrefix) {
		if s.watch == nil { // none are watched any more; it stays for when they are again
			return nil
		}
		return s.watch.restore(string(rec.Key), rec.Value)
	}
	if strings.HasPrefix(string(rec.Key), learntPrefix) || strings.HasPrefix(string(rec.Key), modelPrefix) {
		if s.learn == nil { // nothing is learnt any more; it stays for when it is again
			return nil
		}
		return s.learn.restore(string(rec.Key), rec.Value)
	}
	kind, p, ok := splitFactKey(rec.Key)
	switch {
	case !ok || kind != factConditions:
		return fmt.Errorf("key %q is not ebb's, or of a newer ebb; give the topic back its content, or delete it and create it anew (`ebb topics create`): "+
			"the tasks tell what they know again when they are started", rec.Key)
	case rec.Value == nil:
		delete(s.ops.reports, p)
		return nil
	}
	r, err := decodeReport(rec.Value)
	s.ops.reports[p] = r
	return err
}

func (s *secondStage) encode() []byte {
	b := appendString([]byte{stageVersion}, s.rec.group)
	b = appendString(b, s.rec.cluster)
	b = binary.AppendVarint(b, s.rec.position)
	b = binary.AppendVarint(b, s.rec.began)
	b = s.ops.append(b)
	if s.learn == nil {
		return append(b, s.unread...)
	}
	return s.learn.append(b)
}

func (s *secondStage) decode(b []byte) error {
	if len(b) == 0 {
		return errors.New("record of the second stage is empty")
	}
	if b[0] > stageVersion {
		return fmt.Errorf("format %d: %w", b[0], errNewerRecord)
	}
	d := &decoder{b: b[1:]}
	rec := stageRecord{group: d.str(), cluster: d.str(), position: d.varint(), began: d.varint()}
	clear(s.ops.alerts)
	s.ops.decode(d)
	s.unread = nil
	switch {
	case d.err != nil || b[0] < 2:
	case s.learn == nil:
		s.unread, d.b = slices.Clone(d.b), nil
	default:
		s.learn.decode(d)
	}
	if d.err == nil && len(d.b) != 0 {
		d.fail("bytes left over")
	}
	if d.err != nil {
		return fmt.Errorf("record of the second stage: %w", d.err)
	}
	if rec.group != s.cfg.Group || rec.cluster != s.cluster {
		return fmt.Errorf("%w: it was written by group %q on cluster %q, this is group %q on cluster %q; give every group its own topics.facts",
			ErrForeignChangelog, rec.group, rec.cluster, s.cfg.Group, s.cluster)
	}
	s.rec = rec
	return nil
}

// stageRound bounds the facts folded in one transaction.
const stageRound = 500

// step folds the facts that are there and commits what follows from them. It returns true when there may be more at once.
func (s *secondStage) step() (more bool, err error) {
	if s.lease = s.leased.Load(); s.lease == nil {
		return false, nil
	}
	from := s.rec.position
	for n := 0; n < stageRound; {
		b, st := s.facts.Poll()
		if b == nil {
			if err := s.end(&st); err != nil {
				return false, err
			}
			break
		}
		n += b.Len()
		more = n >= stageRound
		for i := 0; i < b.Len() && err == nil; i++ {
			rec := b.At(i)
			err = s.fold(&rec)
		}
		s.rec.position = b.NextOffset()
		b.Release()
		if err != nil {
			return false, err
		}
	}
	if s.rec.position == from && len(s.out.reports) == 0 && (s.learn == nil || len(s.learn.out) == 0) {
		return more, nil
	}
	return more, s.commit()
}

// end takes in what is known at the end of what was fetched.
func (s *secondStage) end(st *fetch.Status) error {
	s.rec.position = max(s.rec.position, st.Delivered)
	if st.HighWatermark >= 0 {
		s.m.factsLag(st.HighWatermark - s.rec.position)
	}
	var gap *fetch.ErrRetentionGap
	if errors.As(st.Err, &gap) {
		s.gap(gap.Start)
		s.facts.SeekTo(gap.Start)
		return nil
	}
	if st.Err != nil {
		return fmt.Errorf("topic %s: %w", s.cfg.Topics.Facts, st.Err)
	}
	return nil
}

// fold takes in one fact.
func (s *secondStage) fold(rec *batch.Record) error {
	_, group, err := openFact(rec.Value)
	switch kind, p, ok := splitFactKey(rec.Key); {
	case !ok || kind != factConditions && kind != factSamples && kind != factCohorts && kind != factActs:
		s.log.Debug("a fact of a kind that this version does not know is passed over", "offset", rec.Offset)
		return nil
	case kind == factSamples && s.learn == nil, (kind == factCohorts || kind == factActs) && s.watch == nil:
		return nil
	case err != nil:
	case group != s.cfg.Group: // that group ends, as soon as it sees whose the changelog is
		s.log.Error("a fact of another group is passed over; give every group its own topics.facts", "group", group, "offset", rec.Offset)
	case kind == factConditions:
		err = s.foldReport(rec, p)
	case p >= s.partitions:
	case kind == factSamples:
		err = s.foldSamples(rec, p)
	case kind == factCohorts:
		err = s.foldCohorts(rec, p)
	default:
		err = s.foldAct(rec)
	}
	if err != nil {
		return fmt.Errorf("topic %s offset %d: %w; to give it up: kafka-delete-records.sh to the offset behind it, then restart", s.cfg.Topics.Facts, rec.Offset, err)
	}
	return nil
}

// foldReport takes in what is wrong in a partition.
func (s *secondStage) foldReport(rec *batch.Record, p int32) error {
	r, err := decodeReport(rec.Value)
	if err != nil {
		return err
	}
	if s.rec.began == 0 {
		s.rec.began = rec.Timestamp
	}
	s.tell(s.ops.apply(p, r, s.complete(p, rec.Timestamp)))
	s.out.reports[string(rec.Key)] = slices.Clone(rec.Value)
	return nil
}

// foldSamples takes in samples of a partition.
func (s *secondStage) foldSamples(rec *batch.Record, p int32) error {
	f, err := decodeSamples(rec.Value)
	if err != nil {
		return err
	}
	return s.learn.take(p, f, s.partitions, rec.Offset, rec.Timestamp)
}

// foldCohorts takes in what a partition tells of cohorts.
func (s *secondStage) foldCohorts(rec *batch.Record, p int32) error {
	f, err := decodeCohorts(rec.Value)
	if err != nil {
		return err
	}
	s.tellWide(s.watch.take(p, f, s.partitions, rec.Offset, rec.Timestamp)...)
	return nil
}

// foldAct carries out what a person decided about an alert of many customers.
func (s *secondStage) foldAct(rec *batch.Record) error {
	e, err := decodeAct(rec.Value)
	if err != nil {
		return err
	}
	step, result := s.watch.act(e)
	if step != nil {
		s.tellWide(step)
	}
	if result != customer.Applied {
		s.log.Info("an act changed nothing", "type", e.Kind, "alert_id", e.Control.AlertID, "because", result)
	}
	return nil
}

// tellWide puts steps about many customers into the next transaction.
func (s *secondStage) tellWide(steps ...alerts.Wide) {
	if len(steps) != 0 && s.out.since.IsZero() {
		s.out.since = s.tick()
	}
	s.out.wide = append(s.out.wide, steps...)
}

// complete is true once every partition has told something, p with it. One whose task cannot even open never does: after a while it
// is not waited for any more.
func (s *secondStage) complete(p int32, now int64) bool {
	if now-s.rec.began > completeWithin.Milliseconds() {
		return true
	}
	for q := range s.partitions {
		if q != p && s.ops.reports[q] == nil {
			return false
		}
	}
	return true
}

// completeWithin is for how long the first report of every partition is waited for before an alert is resolved.
const completeWithin = 10 * time.Minute

// tell puts steps into the next transaction.
func (s *secondStage) tell(steps []*alerts.Operational) {
	if len(steps) != 0 && s.out.since.IsZero() {
		s.out.since = s.tick()
	}
	s.out.steps = append(s.out.steps, steps...)
}

// levelOf is how loud a step is told: what begins or changes as a warning, the end as information.
func levelOf(step alerts.StepKind) slog.Level {
	if step == alerts.StepResolved {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// announce writes a step to the log.
func (s *secondStage) announce(op *alerts.Operational) {
	args := []any{"about", op.Key(), "step", op.Step, "severity", op.Severity, "since", time.UnixMilli(op.Since).UTC(), "partitions", len(op.Partitions)}
	if op.Detail != "" {
		args = append(args, "detail", op.Detail)
	}
	s.log.Log(context.Background(), levelOf(op.Step), "operational alert", args...)
}

// commit makes what was folded durable and its steps visible, at once. After an error the stage has to be opened anew.
func (s *secondStage) commit() error {
	began := s.tick()
	tx, err := s.transaction()
	if err != nil {
		return err
	}
	if _, err := s.transact(tx, txn.Priority{Alert: s.out.since, Change: began}); err != nil {
		s.m.transaction("failed", s.tick().Sub(began))
		s.refused = s.lease
		return err
	}
	s.m.transaction("committed", s.tick().Sub(began))
	for _, op := range s.out.steps {
		s.m.operations.WithLabelValues(string(op.Kind), op.Step.String()).Inc()
		s.announce(op)
	}
	for _, x := range s.out.wide {
		detector, severity, step := x.What()
		s.m.steps.WithLabelValues(detector, severity.String(), step.String()).Inc()
		s.log.Log(context.Background(), levelOf(step), "alert about many customers", "detector", detector, "step", step, "severity", severity)
	}
	s.out = stageOutput{reports: map[string][]byte{}}
	if s.learn != nil {
		s.learn.out = nil
	}
	if s.watch != nil {
		s.watch.written()
	}
	s.m.firing(s.ops.firing())
	s.publish("running", nil)
	return nil
}

func (s *secondStage) transaction() (*txn.Transaction, error) {
	topics := &s.cfg.Topics
	tx := s.newTransaction(s.lease, map[string]map[int32]int64{topics.Facts: {s.partition: s.rec.position}})
	w := tx.Writer(s.codec)
	nowMs := s.now().UnixMilli()
	changelog := txn.TopicPartition{Topic: topics.FactsChangelog, Partition: s.partition}
	var err error
	for _, key := range slices.Sorted(maps.Keys(s.out.reports)) {
		err = errors.Join(err, w.Add(changelog, []byte(key), s.out.reports[key], nil, nowMs))
	}
	if s.learn != nil {
		err = errors.Join(err, s.learn.write(func(key, value []byte) error { return w.Add(changelog, key, value, nil, nowMs) }))
	}
	if s.watch != nil {
		err = errors.Join(err, s.watch.write(func(key, value []byte) error { return w.Add(changelog, key, value, nil, nowMs) }))
	}
	err = errors.Join(err, w.Add(changelog, []byte(stageKey), s.encode(), nil, nowMs))
	for _, x := range s.out.wide {
		alert, open := s.policy.WideMessage(x)
		err = errors.Join(err, s.send(w, &message{topic: topics.Alerts, Message: alert}, nowMs), s.send(w, &message{topic: topics.OpenAlerts, Message: open}, nowMs))
	}
	for _, op := range s.out.steps {
		err = errors.Join(err, s.send(w, &message{topic: topics.Operations, Message: s.policy.OperationalMessage(op)}, nowMs))
	}
	return tx, err
}
