package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"ebb/detectors"
	"ebb/state"
	"ebb/state/customer"
	"ebb/stream/admin"
	"ebb/stream/batch"
	"ebb/stream/conn"
	"ebb/stream/tail"
	"ebb/stream/txn"
)

// Errors of Upkeep. Their messages say what to do.
var (
	// ErrMembers says that instances of the group are running.
	ErrMembers = errors.New("the group has members")
	// ErrInterfered says that an instance was started, or another command, while one was at work.
	ErrInterfered = errors.New("somebody else took the state over")
)

// Upkeep changes the durable state of a group none of whose instances runs: over more partitions, from another time on, to another
// cluster.
//
// Each of its commands keeps to one order. It waits until the group has no members; it takes over the transactional id of every task, so that
// an instance that was forgotten, and every earlier run of a command, is fenced; then it reads. Before it changes anything it marks the
// task record of every partition: no task runs on a marked state. It changes the state in transactions that each leave every customer whole, and takes the
// marks away in one last transaction for all partitions. Killed anywhere and run again, it finishes.
//
// The local copies of the instances follow the changelog, as they follow a task: nothing has to be removed.
type Upkeep struct {
	cfg   Config
	deps  Deps
	log   *slog.Logger
	codec batch.Codec
	pool  *txn.Pool

	cluster   string
	counts    map[string]int32 // partitions of every topic that is read
	feeds     int32            // partitions of the feeds that are keyed by customer: so many tasks there are
	count     int32            // partitions of the changelog
	producers []*txn.Producer
}

// NewUpkeep prepares the upkeep of a group. Of deps it needs Cluster, Now, Log and Policy. It asks the cluster for the topics and changes nothing.
func NewUpkeep(ctx context.Context, cfg Config, deps Deps) (*Upkeep, error) {
	codec, err := parseCodec(cfg.Cut.Codec)
	if err != nil {
		return nil, fmt.Errorf("cut.compression: %w", err)
	}
	u := &Upkeep{cfg: cfg, deps: deps, log: deps.Log, codec: codec, pool: txn.NewPool(deps.Cluster)}
	if err := u.look(ctx); err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

// Close gives the connections back.
func (u *Upkeep) Close() { u.pool.Close() }

// look finds out how many partitions there are.
func (u *Upkeep) look(ctx context.Context) error {
	names := []string{u.cfg.Topics.Changelog}
	if t := u.cfg.Topics.Reroute; t != "" {
		names = append(names, t)
	}
	for _, f := range u.cfg.Feeds {
		names = append(names, f.Topic)
	}
	topics, cluster, err := u.deps.Cluster.Topics(ctx, names...)
	if err != nil {
		return fmt.Errorf("describe topics: %w", err)
	}
	u.cluster, u.counts = cluster, map[string]int32{}
	var faults []error
	for _, name := range names {
		tp := topics[name]
		if tp.Err != nil {
			faults = append(faults, fmt.Errorf("topic %s: %w", name, tp.Err))
		}
		u.counts[name] = int32(len(tp.Partitions))
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	u.newest(ctx, names)
	return u.tasks()
}

// newest asks every broker how many partitions there are: of those that were added a moment ago the first may not have known, and none is ever taken away.
func (u *Upkeep) newest(ctx context.Context, names []string) {
	for _, b := range u.deps.Cluster.Members() {
		topics, err := u.deps.Cluster.TopicsAt(ctx, b.Addr, names...)
		if err != nil {
			u.log.Debug("a broker does not say how many partitions there are", "broker", b.ID, "err", err)
			continue
		}
		for _, name := range names {
			u.counts[name] = max(u.counts[name], int32(len(topics[name].Partitions)))
		}
	}
}

// tasks finds out how many tasks there are, and how many the changelog is made for.
func (u *Upkeep) tasks() error {
	u.feeds, u.count = 0, u.counts[u.cfg.Topics.Changelog]
	var counts []string
	same := true
	for _, f := range u.cfg.Feeds {
		if f.Reroute {
			continue
		}
		n := u.counts[f.Topic]
		same = same && (u.feeds == 0 || u.feeds == n)
		u.feeds = n
		counts = append(counts, fmt.Sprintf("%s has %d", f.Topic, n))
	}
	if !same {
		return fmt.Errorf("%w: %s; alter them all to the same count first: kafka-topics.sh --alter --topic TOPIC --partitions COUNT", ErrPartitionCount, strings.Join(counts, ", "))
	}
	return nil
}

// Members are the instances that run, as far as the brokers know.
func (u *Upkeep) Members(ctx context.Context) ([]admin.Member, error) {
	return admin.Members(ctx, u.deps.Cluster, u.cfg.Group)
}

// alone waits until the group has no members. The last instance of a group that stops does not leave it, so that a restart is quick: its session has
// to end first.
func (u *Upkeep) alone(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, u.cfg.Membership.Session+5*time.Second)
	defer cancel()
	for said := false; ; said = true {
		members, err := u.Members(within)
		switch {
		case err == nil && len(members) == 0:
			return nil
		case within.Err() != nil && ctx.Err() == nil && members == nil:
			return fmt.Errorf("%w: they did not leave in time", ErrMembers)
		case err != nil && !conn.Retriable(err):
			return err
		}
		if !said {
			u.log.Info("waiting for the group to be empty; the session of an instance that has just stopped still runs", "members", len(members))
		}
		timer := time.NewTimer(500 * time.Millisecond)
		select {
		case <-timer.C:
		case <-within.Done():
			timer.Stop()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var who []string
			for _, m := range members {
				who = append(who, m.String())
			}
			return fmt.Errorf("%w (%s): stop all instances of group %s first", ErrMembers, strings.Join(who, ", "), u.cfg.Group)
		}
	}
}

// fence takes the transactional ids of n tasks over. Whoever had them cannot write any more, and what they left open is ended.
func (u *Upkeep) fence(ctx context.Context, n int32) error {
	for p := int32(len(u.producers)); p < n; p++ {
		prod := txn.New(u.deps.Cluster, txn.Config{
			TransactionalID: transactionalID(u.cfg.Group, p), Timeout: u.cfg.Cut.Timeout, Pool: u.pool, Log: u.log, Step: u.stepSeam(p),
		})
		if err := prod.Init(ctx); err != nil {
			return fmt.Errorf("take over the transactions of partition %d: %w", p, err)
		}
		u.producers = append(u.producers, prod)
	}
	return nil
}

func (u *Upkeep) stepSeam(p int32) func(txn.Step) error {
	if u.deps.TxnStep == nil {
		return nil
	}
	return func(s txn.Step) error { return u.deps.TxnStep(p, s) }
}

// transactionalID is the id of the task of a partition.
func transactionalID(group string, p int32) string { return fmt.Sprintf("%s-%d", group, p) }

// take is the beginning of every command that writes. The second stage is fenced as the tasks are: none of the commands touches what it holds, because every task tells
// it what it knows again when it is opened, but a stage that was forgotten would tell people what is not so any more.
func (u *Upkeep) take(ctx context.Context) error {
	if err := u.alone(ctx); err != nil {
		return err
	}
	stage := txn.New(u.deps.Cluster, txn.Config{TransactionalID: u.cfg.Group + "-" + stageName, Timeout: u.cfg.Cut.Timeout, Pool: u.pool, Log: u.log, Step: u.stepSeam(SecondStage)})
	if err := stage.Init(ctx); err != nil {
		return fmt.Errorf("take over the transactions of the second stage: %w", err)
	}
	return u.fence(ctx, max(u.feeds, u.count))
}

// image is what a partition of the changelog holds: the offset of the newest value of every customer, and the task record.
type image struct {
	newest map[string]int64
	record *taskRecord // nil: no task ever committed there
}

// image reads one partition of the changelog. Only ids and offsets are kept, so that it fits into memory.
func (u *Upkeep) image(ctx context.Context, p int32) (*image, error) {
	img := &image{newest: map[string]int64{}}
	var last []byte
	err := u.read(ctx, p, func(r *tail.Record) error {
		switch {
		case len(r.Key) == 0:
			return fmt.Errorf("offset %d: record without a key", r.Offset)
		case string(r.Key) == taskKey:
			last = append(last[:0], r.Value...)
		case r.Key[0] == state.Reserved:
		case len(r.Value) == 0:
			delete(img.newest, string(r.Key))
		default:
			img.newest[string(r.Key)] = r.Offset
		}
		return nil
	})
	if err != nil || len(last) == 0 {
		return img, err
	}
	img.record, err = decodeTaskRecord(last)
	topic := u.cfg.Topics.Changelog
	if err != nil {
		return nil, fmt.Errorf("task record of %s partition %d: %w", topic, p, err)
	}
	if r := img.record; r.group != u.cfg.Group || r.cluster != u.cluster {
		return nil, fmt.Errorf("%w: %s partition %d was written by group %q on cluster %q, this is group %q on cluster %q",
			ErrForeignChangelog, topic, p, r.group, r.cluster, u.cfg.Group, u.cluster)
	}
	return img, nil
}

// images reads all partitions, one after the other, and keeps of each the task record and what f makes of it.
func (u *Upkeep) records(ctx context.Context, f func(p int32, img *image) error) ([]*taskRecord, error) {
	records := make([]*taskRecord, u.count)
	for p := range u.count {
		img, err := u.image(ctx, p)
		if err == nil && f != nil {
			err = f(p, img)
		}
		if err != nil {
			return nil, err
		}
		records[p] = img.record
	}
	return records, nil
}

// read passes the committed records of one partition of the changelog to f.
func (u *Upkeep) read(ctx context.Context, p int32, f func(r *tail.Record) error) error {
	err := tail.Read(ctx, u.deps.Cluster, tail.Options{Topic: u.cfg.Topics.Changelog, Partitions: []int32{p}, UntilEnd: true}, func(r tail.Record) error { return f(&r) })
	if err != nil {
		return fmt.Errorf("partition %d: %w", p, err)
	}
	return nil
}

// customers passes every customer of an image to f, in the order of the offsets. value is valid during the call.
func (u *Upkeep) customers(ctx context.Context, p int32, img *image, f func(id string, value []byte) error) error {
	if len(img.newest) == 0 {
		return nil
	}
	return u.read(ctx, p, func(r *tail.Record) error {
		if at, ok := img.newest[string(r.Key)]; !ok || at != r.Offset {
			return nil
		}
		return f(string(r.Key), r.Value)
	})
}

// spool gathers changes into transactions of a bounded size under the transactional id of one partition.
type spool struct {
	u       *Upkeep
	p       int32
	tx      *txn.Transaction
	w       txn.Writer
	bytes   int
	written int // records, in all transactions
}

// spoolBytes is the content of a transaction, before compression.
const spoolBytes = 4 << 20

func (u *Upkeep) spool(p int32) *spool {
	s := &spool{u: u, p: p}
	s.begin()
	return s
}

func (s *spool) begin() {
	s.tx = s.u.producers[s.p].NewTransaction()
	s.tx.Group, s.tx.Alone = s.u.cfg.Group, true
	s.w, s.bytes = s.tx.Writer(s.u.codec), 0
}

// add puts a record into the transaction; a nil value is a tombstone.
func (s *spool) add(topic string, p int32, key, value []byte, headers []batch.Header) error {
	s.bytes += len(key) + len(value) + 64
	s.written++
	return s.w.Add(txn.TopicPartition{Topic: topic, Partition: p}, key, value, headers, s.u.deps.Now().UnixMilli())
}

// changelog is add to the changelog.
func (s *spool) changelog(p int32, key, value []byte) error {
	return s.add(s.u.cfg.Topics.Changelog, p, key, value, nil)
}

// room commits if the transaction is large enough. It is called where what was added so far may stand alone.
func (s *spool) room(ctx context.Context) error {
	if s.bytes < spoolBytes {
		return nil
	}
	return s.flush(ctx)
}

// flush commits what was added.
func (s *spool) flush(ctx context.Context) error {
	if s.bytes == 0 && len(s.tx.Offsets) == 0 {
		return nil
	}
	if _, err := s.u.producers[s.p].Commit(ctx, s.tx); err != nil {
		if errors.Is(err, txn.ErrFenced) {
			return fmt.Errorf("%w: an instance of the group was started, or this command a second time; stop it and run the command again: %w", ErrInterfered, err)
		}
		return err
	}
	s.begin()
	return nil
}

// mark writes the mark into the task record of each partition that records names; nil records get one that holds nothing else.
func (u *Upkeep) mark(ctx context.Context, records []*taskRecord, from int32, was int32, m mark) error {
	for i, r := range records {
		p := from + int32(i)
		if r == nil {
			r = &taskRecord{group: u.cfg.Group, cluster: u.cluster, partitions: was}
		}
		marked := *r
		marked.mark = m
		s := u.spool(p)
		if err := errors.Join(s.changelog(p, []byte(taskKey), marked.append(nil)), s.flush(ctx)); err != nil {
			return fmt.Errorf("mark partition %d: %w", p, err)
		}
	}
	return nil
}

// finish writes the task record of every partition and the offsets that follow from them, in one transaction: with it the work is done.
func (u *Upkeep) finish(ctx context.Context, records []*taskRecord) error {
	s := u.spool(0)
	s.tx.Offsets = map[string]map[int32]int64{}
	for p, r := range records {
		if r == nil {
			continue
		}
		if err := s.changelog(int32(p), []byte(taskKey), r.append(nil)); err != nil {
			return err
		}
		for _, f := range u.cfg.Feeds {
			if r.feeds[f.Feed].topic != f.Topic {
				continue
			}
			for part, in := range r.feeds[f.Feed].inputs(int32(p)) {
				if in.begun {
					setOffset(s.tx.Offsets, txn.TopicPartition{Topic: f.Topic, Partition: part}, in.position)
				}
			}
		}
		if r.reroute.topic != "" {
			setOffset(s.tx.Offsets, txn.TopicPartition{Topic: r.reroute.topic, Partition: int32(p)}, r.reroute.position)
		}
	}
	if err := s.flush(ctx); err != nil {
		return fmt.Errorf("last transaction: %w", err)
	}
	return nil
}

// offsets asks for an offset of every partition of a topic.
func (u *Upkeep) offsets(ctx context.Context, topic string, at conn.At) (map[int32]int64, error) {
	ids := make([]int32, u.counts[topic])
	for p := range ids {
		ids[p] = int32(p)
	}
	patient, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	backoff := conn.Backoff{Min: 50 * time.Millisecond, Max: time.Second}
	for {
		found, err := u.deps.Cluster.Offsets(ctx, topic, ids, at, conn.ReadUncommitted)
		if err == nil || !conn.Retriable(err) && !errors.Is(err, conn.ErrTopicMissing) || backoff.Wait(patient) != nil {
			return found, err
		}
	}
}

// settleWithin bounds how long is waited for partitions that were added a moment ago: not every broker knows them at once, nor serves them.
const settleWithin = 10 * time.Second

// tallied fills in the sums over the customers of every partition, which count from nothing.
func (u *Upkeep) tallied(ctx context.Context, records []*taskRecord) error {
	env := &detectors.Env{Calendar: customer.NewCalendar(u.cfg.Time.Zone), Rates: u.cfg.Rates}
	for p, r := range records {
		r.tally = tally{basis: stageBasis(&u.cfg), env: env, census: &r.census}
		r.census.anew()
		img, err := u.image(ctx, int32(p))
		if err != nil {
			return err
		}
		err = u.customers(ctx, int32(p), img, func(id string, value []byte) error {
			rec, err := decodeCustomer(id, value)
			if err == nil {
				r.tally.in(rec)
			}
			return err
		})
		if err != nil {
			return err
		}
		r.census.counted()
		if r.tally.stages[countedQuarantined] == 0 { // they are elsewhere
			r.quarantined = 0
		}
	}
	return nil
}
