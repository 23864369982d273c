package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"ebb/state"
	"ebb/stream/batch"
	"ebb/stream/fetch"
	"ebb/stream/offsets"
	"ebb/stream/txn"
)

// ErrForeignChangelog is returned when a changelog was written by another group or cluster. It ends the instance.
var ErrForeignChangelog = errors.New("changelog of another group or cluster")

// errChangelogBehind is returned when a changelog ends before the local copy of it.
var errChangelogBehind = errors.New("changelog was truncated, or deleted and created again")

// OffsetsError says that the group's committed offset and the task record disagree in a way that no crash explains, because
// both are written in one transaction.
type OffsetsError struct {
	Group, Topic        string
	Partition           int32
	Committed, Recorded int64
}

func (e *OffsetsError) Error() string {
	return fmt.Sprintf("committed offset of group %s on %s partition %d is %d, but the state was computed up to %d: somebody reset the group's offsets. "+
		"To go on where the state is: kafka-consumer-groups.sh --bootstrap-server BROKER --group %s --topic %s:%d --reset-offsets --to-offset %d --execute (with ebb stopped)",
		e.Group, e.Topic, e.Partition, e.Committed, e.Recorded, e.Group, e.Topic, e.Partition, e.Recorded)
}

// BeyondEndError says that a feed ends before the position of the state: it was truncated or deleted and created again.
type BeyondEndError struct {
	Group, Topic  string
	Partition     int32
	Position, End int64
}

func (e *BeyondEndError) Error() string {
	return fmt.Sprintf("%s partition %d ends at offset %d, but the state was computed up to %d: the topic was truncated or created again. "+
		"Events may be missing. To start anew on the topic as it is: stop ebb, delete the topic of the changelog and the group "+
		"(kafka-topics.sh --delete, kafka-consumer-groups.sh --bootstrap-server BROKER --group %s --delete), run `ebb topics create`, and start with `history: quiet`",
		e.Topic, e.Partition, e.End, e.Position, e.Group)
}

// open takes the partition over: fence the predecessor, then replay the changelog to its end, then find the positions in
// the feeds. The order is invariant 4: nothing is read before InitProducerID has ended the predecessor's transaction.
func (t *task) open(ctx context.Context) error {
	began := t.tick()
	if err := t.producer.Init(ctx); err != nil {
		return fmt.Errorf("take over the transactions of partition %d: %w", t.partition, err)
	}
	t.safe = safePoint{} // what an earlier life knew may be out of date: it must never be written again
	if t.after != nil {
		select {
		case <-t.after:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	store, aside, err := t.deps.State.Task(t.partition)
	if err != nil {
		return fmt.Errorf("local state of partition %d: %w", t.partition, err)
	}
	if aside != nil {
		t.m.setAside.Inc()
		t.log.Warn("local state did not open and was set aside; it is rebuilt from the changelog", "err", aside)
	}
	t.store = store
	record, restored, err := t.replay(ctx)
	if err != nil {
		return err
	}
	t.table = state.NewTable(store, t.tableOptions(restored))
	if err := t.begin(ctx, record); err != nil {
		return err
	}
	if record == nil {
		if err := t.claim(ctx); err != nil {
			return err
		}
	}
	t.restored = t.tick()
	if record == nil {
		t.log.Info("task is open, for the first time", "took", t.restored.Sub(began).Round(time.Millisecond))
		return nil
	}
	t.log.Info("task is open", "took", t.restored.Sub(began).Round(time.Millisecond), "clock", time.UnixMilli(t.clock).UTC())
	return nil
}

// replay reads the changelog from where the local copy stands to its end and returns the last task record, nil at a first
// start. What it read and the copy does not have yet is written behind, like any cut.
func (t *task) replay(ctx context.Context) (*taskRecord, *state.Restored, error) {
	topic := t.cfg.Topics.Changelog
	start, end, err := t.bounds(ctx, topic)
	if err != nil {
		return nil, nil, fmt.Errorf("changelog: %w", err)
	}
	from, err := t.store.Position()
	if err != nil {
		return nil, nil, fmt.Errorf("position of the local state: %w", err)
	}
	if from > end {
		return nil, nil, fmt.Errorf("%w: the local state is at offset %d, %s partition %d ends at %d; if the changelog was deleted on purpose, remove the state directory too",
			errChangelogBehind, from, topic, t.partition, end)
	}
	last, err := t.store.Meta(state.MetaTask)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return nil, nil, fmt.Errorf("task record of the local state: %w", err)
	}
	where := "the local state"
	restorer := state.NewRestorer(t.store)
	restorer.MemoryBytes = t.share(t.cfg.Restore.Memory)
	t.beginProgress(max(from, start), end)
	t.replayed = func(at int64, records, bytes int) error { return t.advanced(ctx, restorer, at, records, bytes) }
	defer func() { t.replayed = nil }()
	err = t.read(ctx, topic, max(from, start), end, func(rec *batch.Record) error {
		if string(rec.Key) == taskKey {
			last = bytes.Clone(rec.Value)
			where = fmt.Sprintf("offset %d", rec.Offset)
		}
		return restorer.Apply(rec.Key, rec.Value, rec.Offset)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("replay of %s partition %d: %w", topic, t.partition, err)
	}
	restored, err := restorer.Keep(end)
	if err != nil {
		return nil, nil, fmt.Errorf("replay of %s partition %d: %w", topic, t.partition, err)
	}
	t.m.restoreRemaining.Set(0)
	t.durable.Store(end)
	if len(last) == 0 {
		return nil, restored, nil
	}
	r, err := t.checkRecord(t.partition, last)
	if err != nil {
		return nil, nil, fmt.Errorf("task record at %s: %w", where, err)
	}
	return r, restored, nil
}

// checkRecord decodes the task record of a partition of the changelog and refuses one of another group or cluster.
func (t *task) checkRecord(partition int32, b []byte) (*taskRecord, error) {
	topic := t.cfg.Topics.Changelog
	r, err := decodeTaskRecord(b)
	if errors.Is(err, errNewerRecord) {
		return nil, fmt.Errorf("%s partition %d: %w", topic, partition, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s partition %d is damaged, or not ebb's: %w; restore the topic, or give the group a new name and start it with `history: quiet`", topic, partition, err)
	}
	if r.group != t.cfg.Group || r.cluster != t.cluster {
		return nil, fmt.Errorf("%w: %s partition %d was written by group %q on cluster %q, this is group %q on cluster %q; give every group its own changelog",
			ErrForeignChangelog, topic, partition, r.group, r.cluster, t.cfg.Group, t.cluster)
	}
	if err := r.runnable(t.partitions); err != nil {
		return nil, fmt.Errorf("%s partition %d: %w", topic, t.partition, err)
	}
	return r, nil
}

// tableOptions divides the budgets of the instance by the partitions that it owns.
func (t *task) tableOptions(r *state.Restored) state.TableOptions {
	return state.TableOptions{
		CacheBytes: t.share(t.cfg.Cache), PendingBytes: t.share(t.cfg.Pending), FlushAge: t.cfg.FlushAge,
		Slots: t.slots, Restored: r, Metrics: t.stateMetrics, Tick: t.tick,
	}
}

// share is the part of a budget of the instance that falls to one of its partitions.
func (t *task) share(budget int64) int64 {
	if t.lease == nil { // it may have been taken back during the replay
		return budget
	}
	return budget / int64(max(1, len(t.lease.Partitions)))
}

// begin sets clock, health and positions, from the task record or for a first start.
func (t *task) begin(ctx context.Context, r *taskRecord) error {
	fresh := r == nil
	if fresh {
		if err := t.sameCount(ctx); err != nil {
			return err
		}
		r = &taskRecord{group: t.cfg.Group, cluster: t.cluster, quiet: t.cfg.Quiet}
	}
	r.partitions = t.partitions
	r.keep(t.params.KeptDays)
	t.env.WindowsFrom = r.windowsFrom
	t.rec = r
	t.feeds = &r.feeds
	t.clock = r.clock
	t.ready, t.timersDone, t.overdue = false, 0, false
	t.held = map[string]struct{}{}
	t.told = told{}
	t.gatherStalls()
	committed, err := t.committedOffsets(ctx)
	if err != nil {
		return fmt.Errorf("committed offsets of group %s: %w", t.cfg.Group, err)
	}
	if !fresh { // a stop before the next cut is told with what the group and the changelog say now
		t.safe = safePoint{record: r.append(nil), offsets: map[string]map[int32]int64{}}
		for tp, o := range committed {
			setOffset(t.safe.offsets, tp, o)
		}
	}
	for _, s := range t.sources {
		if err := t.place(ctx, s, fresh, committed); err != nil {
			return err
		}
	}
	if err := t.placeReroute(ctx, committed); err != nil {
		return err
	}
	if err := t.findMarked(); err != nil {
		return err
	}
	if err := t.beginTally(fresh); err != nil {
		return err
	}
	if err := t.beginCensus(fresh); err != nil {
		return err
	}
	if fresh {
		t.safe = safePoint{record: r.append(nil), offsets: map[string]map[int32]int64{}}
		for _, s := range t.sources {
			if s.fetch != nil {
				setOffset(t.safe.offsets, txn.TopicPartition{Topic: s.topic, Partition: s.part}, s.position)
			}
		}
	}
	if r.quiet {
		if err := t.findHeld(); err != nil {
			return err
		}
	}
	return nil
}

// place decides where a feed is read from. The offsets that the group handed out are never used: they were read before
// the predecessor was fenced.
func (t *task) place(ctx context.Context, s *source, fresh bool, committed map[txn.TopicPartition]int64) error {
	f := &t.feeds[s.feed]
	if s.part < 0 {
		f.topic = s.topic
		return nil
	}
	start, end, err := t.boundsOf(ctx, s.topic, s.part)
	if err != nil {
		return fmt.Errorf("feed %s: %w", s.feed, err)
	}
	if f.topic != s.topic { // first start, or a feed that is new to this group
		*f = feedRecord{topic: s.topic}
	}
	s.in = f.input(s.part, t.partition)
	tp := txn.TopicPartition{Topic: s.topic, Partition: s.part}
	known := s.in.begun
	if !known {
		if c, ok := committed[tp]; ok && s.rekeyed && !fresh {
			return fmt.Errorf("%s: this group has read it up to offset %d, but partition %d knows nothing of that: the number of tasks has changed", tp, c, t.partition)
		}
		*s.in = inputRecord{begun: true, position: start, quietEnd: end}
		if !fresh {
			s.in.quietEnd = 0
		}
	}
	if err := t.placed(s.in, tp, known, end, committed); err != nil {
		return err
	}
	if s.in.position < start {
		t.gap(s, s.in.position, start)
		s.in.position = start
	}
	s.open(t.fetcher, s.in.position, t.wake)
	return nil
}

// placed compares a recorded position with what the group and the broker say.
func (t *task) placed(in *inputRecord, tp txn.TopicPartition, known bool, end int64, committed map[txn.TopicPartition]int64) error {
	if c, ok := committed[tp]; known && ok && c != in.position {
		return &OffsetsError{Group: t.cfg.Group, Topic: tp.Topic, Partition: tp.Partition, Committed: c, Recorded: in.position}
	}
	if in.position > end {
		return &BeyondEndError{Group: t.cfg.Group, Topic: tp.Topic, Partition: tp.Partition, Position: in.position, End: end}
	}
	return nil
}

// input is the part of the record about one partition of the feed. That of the task's own number has a place of its own, because most
// feeds have no other.
func (f *feedRecord) input(partition, own int32) *inputRecord {
	if partition == own {
		return &f.inputRecord
	}
	for i := range f.parts {
		if f.parts[i].partition == partition {
			return &f.parts[i].inputRecord
		}
	}
	p := &partRecord{partition: partition}
	f.parts = append(f.parts, p)
	return &p.inputRecord
}

// placeReroute decides where the reroute topic is read from.
func (t *task) placeReroute(ctx context.Context, committed map[txn.TopicPartition]int64) error {
	rec, topic := &t.rec.reroute, t.cfg.Topics.Reroute
	if topic == "" {
		return nil
	}
	start, end, err := t.bounds(ctx, topic)
	if err != nil {
		return fmt.Errorf("topic %s: %w", topic, err)
	}
	known := rec.topic == topic
	if !known {
		*rec = rerouteRecord{topic: topic, position: start, read: start, marked: true} // perhaps: of customers who came here with a growth nothing is known
	}
	if err := t.placed(&inputRecord{position: rec.position}, txn.TopicPartition{Topic: topic, Partition: t.partition}, known, end, committed); err != nil {
		return err
	}
	if rec.position < start {
		t.rerouteGap(rec.position, start)
		rec.position, rec.own = start, nil // what was deleted is not waited for
	}
	t.reroute = t.newReroute(rec)
	t.reroute.fetch = t.fetcher.Open(topic, t.partition, rec.position, t.wake)
	return nil
}

// gap records that the topic's retention removed records before they were read: a named kind of loss that pages somebody.
func (t *task) gap(s *source, from, start int64) {
	t.lost(s.feed.String(), s.topic, from, start, &t.feeds[s.feed].gap)
}

// rerouteGap is gap for records that other tasks forwarded.
func (t *task) rerouteGap(from, start int64) {
	t.lost(rerouteName, t.cfg.Topics.Reroute, from, start, &t.rec.reroute.gap)
}

func (t *task) lost(feed, topic string, from, start int64, since *int64) {
	t.m.gap(feed, start-from)
	t.log.Error("retention gap: the topic deleted records that were never read; lengthen its retention.ms", "topic", topic, "from", from, "start", start, "records", start-from)
	if *since == 0 {
		*since = max(t.clock, 1)
	}
	t.moved = true
}

// findHeld scans for the alerts that a quiet history still keeps back.
func (t *task) findHeld() error {
	return t.table.Scan(func(e *state.Entry) error {
		if e.Record.HasUnpublished() {
			t.held[e.Record.ID] = struct{}{}
		}
		return nil
	})
}

// open starts fetching a feed.
func (s *source) open(f *fetch.Fetcher, position int64, wake chan struct{}) {
	s.position = position
	s.head, s.n, s.cur, s.status, s.drained, s.fault = 0, 0, nil, fetch.Status{}, false, nil
	s.ahead, s.front = s.in.ahead, front{}
	s.fetch = f.Open(s.topic, s.part, position, wake)
}

// shut ends fetching and gives back what was fetched.
func (s *source) shut() {
	if s.fetch == nil {
		return
	}
	for s.n > 0 {
		s.pop()
	}
	if s.cur != nil {
		s.cur.Release()
		s.cur = nil
	}
	s.fetch.Close()
	s.fetch = nil
}

// committedOffsets are the group's offsets of what this task reads; partitions without one are absent.
func (t *task) committedOffsets(ctx context.Context) (map[txn.TopicPartition]int64, error) {
	committed := map[txn.TopicPartition]int64{}
	load := func(topic string, partition int32) error {
		all, err := offsets.New(t.deps.Cluster, t.cfg.Group, topic).Load(ctx)
		if o, ok := all[partition]; ok {
			committed[txn.TopicPartition{Topic: topic, Partition: partition}] = o
		}
		return err
	}
	for _, s := range t.sources {
		if s.part < 0 {
			continue
		}
		if err := load(s.topic, s.part); err != nil {
			return nil, err
		}
	}
	if topic := t.cfg.Topics.Reroute; topic != "" {
		if err := load(topic, t.partition); err != nil {
			return nil, err
		}
	}
	return committed, nil
}

func setOffset(all map[string]map[int32]int64, tp txn.TopicPartition, offset int64) {
	if all[tp.Topic] == nil {
		all[tp.Topic] = map[int32]int64{}
	}
	all[tp.Topic][tp.Partition] = offset
}
