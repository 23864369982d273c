package txn_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"ebb/stream/batch"
	"ebb/stream/conn"
	"ebb/stream/group"
	"ebb/stream/kafkatest"
	"ebb/stream/txn"
)

// world is a cluster with the topics of one task and a member of the group.
type world struct {
	*kafkatest.Broker
	faults    *kafkatest.Faults
	cluster   *conn.Cluster
	changelog string
	alerts    string
	feed      string
	group     string
}

func newWorld(t testing.TB, b *kafkatest.Broker) *world {
	t.Helper()
	w := &world{Broker: b, faults: &kafkatest.Faults{}, changelog: b.Name("changelog"), alerts: b.Name("alerts"), feed: b.Name("usage"), group: b.Name("group")}
	b.CreateTopic(t, w.changelog, 2, nil)
	b.CreateTopic(t, w.alerts, 2, nil)
	b.CreateTopic(t, w.feed, 2, nil)
	var err error
	w.cluster, err = conn.New(conn.Config{Brokers: b.Addrs, Dial: w.faults.Dial(b.Dial)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.cluster.Close)
	return w
}

// direct takes the faults out of the way.
func (w *world) direct(t testing.TB) {
	t.Helper()
	c, err := conn.New(conn.Config{Brokers: w.Addrs, Dial: w.Dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w.cluster = c
}

// everywhere runs a test on the embedded broker in virtual time and on a real one.
func everywhere(t *testing.T, f func(t *testing.T, w *world)) {
	t.Run("virtual", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}))) })
	})
	t.Run("real", func(t *testing.T) { f(t, newWorld(t, kafkatest.Real(t))) })
}

// membership follows one member of the group.
type membership struct {
	generations chan group.Generation
	latest      atomic.Pointer[group.Generation]
	cancel      context.CancelFunc
}

func (m *membership) Assigned(_ context.Context, g group.Generation) {
	m.latest.Store(&g)
	select {
	case m.generations <- g:
	default: // a test that does not follow them
	}
}

func (m *membership) Revoked(group.Generation, error) {}

// join adds a member to the group, and returns its generations.
func (w *world) join(t testing.TB) *membership {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m := &membership{generations: make(chan group.Generation, 16), cancel: cancel}
	cl, err := conn.New(conn.Config{Brokers: w.Addrs, Dial: w.Dial})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := group.Run(ctx, group.Config{Cluster: cl, Group: w.group, Topics: []string{w.feed}, Log: slog.New(slog.DiscardHandler)}, m); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done; cl.Close() })
	return m
}

func (m *membership) next(t testing.TB) group.Generation {
	t.Helper()
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	select {
	case g := <-m.generations:
		return g
	case <-timer.C:
		t.Fatal("no generation")
		return group.Generation{}
	}
}

func (w *world) producer(t *testing.T, change func(*txn.Config)) *txn.Producer {
	t.Helper()
	cfg := txn.Config{TransactionalID: w.Name("task-0"), Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	p := txn.New(w.cluster, cfg)
	t.Cleanup(p.Close)
	return p
}

func initialised(t *testing.T, p *txn.Producer) *txn.Producer {
	t.Helper()
	if err := p.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// content makes a transaction of three records in three partitions, named after what.
func (w *world) content(t *testing.T, g group.Generation, what string, position int64) *txn.Transaction {
	t.Helper()
	tx := &txn.Transaction{Group: w.group, Generation: g.ID, MemberID: g.MemberID, Offsets: map[string]map[int32]int64{w.feed: {0: position}}}
	wr := tx.Writer(batch.LZ4)
	for _, r := range []struct {
		topic     string
		partition int32
	}{{w.changelog, 0}, {w.alerts, 0}, {w.alerts, 1}} {
		tp := txn.TopicPartition{Topic: r.topic, Partition: r.partition}
		if err := wr.Add(tp, []byte("k"), []byte(what), []batch.Header{{Key: "h", Value: []byte("x")}}, 1700000000000); err != nil {
			t.Fatal(err)
		}
	}
	return tx
}

// visible lists the values that a read_committed reader sees, by topic, e.g. "a b | a b a b".
func (w *world) visible(t *testing.T) string {
	t.Helper()
	var out []string
	for _, topic := range []string{w.changelog, w.alerts} {
		var values []string
		for _, r := range w.ReadCommitted(t, topic) {
			values = append(values, string(r.Value))
		}
		out = append(out, strings.Join(values, " "))
	}
	return strings.Join(out, " | ")
}

func (w *world) mustSee(t *testing.T, want string) {
	t.Helper()
	var got string
	kafkatest.Eventually(t, "what a reader sees", func() error { // the markers are written after the answer
		if got = w.visible(t); got != want {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

func (w *world) mustHaveCommitted(t *testing.T, want map[int32]int64) {
	t.Helper()
	kafkatest.Eventually(t, "committed offsets", func() error {
		if got := w.GroupOffsets(t, w.group, w.feed); !maps.Equal(got, want) {
			return fmt.Errorf("%v, want %v", got, want)
		}
		return nil
	})
}

const nothing = " | "

// mustSeeNothing waits until no transaction is open, and then looks.
func (w *world) mustSeeNothing(t *testing.T) {
	t.Helper()
	w.mustBeStable(t)
	if got := w.visible(t); got != nothing {
		t.Errorf("visible: %q, want nothing", got)
	}
	if got := w.GroupOffsets(t, w.group, w.feed); len(got) != 0 {
		t.Errorf("committed offsets: %v, want none", got)
	}
}

func (w *world) mustBeStable(t *testing.T) {
	t.Helper()
	for _, topic := range []string{w.changelog, w.alerts} {
		kafkatest.Eventually(t, "the transaction ends", func() error {
			if end, stable := w.EndOffsets(t, topic), w.StableOffsets(t, topic); fmt.Sprint(end) != fmt.Sprint(stable) {
				return fmt.Errorf("last stable offset %v, end %v", stable, end)
			}
			return nil
		})
	}
}

func TestCommitIsAtomic(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		m := w.join(t)
		g := m.next(t)
		var before string
		var offsets map[int32]int64
		looked := false
		p := initialised(t, w.producer(t, func(c *txn.Config) {
			c.Step = func(s txn.Step) error {
				if s == txn.StepEnd && !looked {
					looked = true
					before, offsets = w.visible(t), w.GroupOffsets(t, w.group, w.feed)
				}
				return nil
			}
		}))
		res, err := p.Commit(t.Context(), w.content(t, g, "a", 7))
		if err != nil {
			t.Fatal(err)
		}
		if before != nothing || len(offsets) != 0 {
			t.Errorf("before EndTxn a reader saw %q and offsets %v", before, offsets)
		}
		w.mustSee(t, "a | a a")
		w.mustHaveCommitted(t, map[int32]int64{0: 7})
		if got := res.Next[txn.TopicPartition{Topic: w.changelog, Partition: 0}]; got != 1 {
			t.Errorf("next changelog offset %d, want 1", got)
		}
		if res, err = p.Commit(t.Context(), w.content(t, g, "b", 8)); err != nil {
			t.Fatal(err)
		}
		w.mustSee(t, "a b | a b a b")
		if got := res.Next[txn.TopicPartition{Topic: w.changelog, Partition: 0}]; got != 3 { // behind a marker
			t.Errorf("next changelog offset %d, want 3", got)
		}
		r := w.ReadCommitted(t, w.alerts)[0]
		if string(r.Key) != "k" || r.Headers["h"] != "x" || r.Timestamp != 1700000000000 {
			t.Errorf("record %+v", r)
		}
	})
}

func TestOffsetsAlone(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		g := w.join(t).next(t)
		p := initialised(t, w.producer(t, nil))
		tx := &txn.Transaction{Group: w.group, Generation: g.ID, MemberID: g.MemberID, Offsets: map[string]map[int32]int64{w.feed: {0: 3, 1: 4}}}
		if _, err := p.Commit(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
		w.mustHaveCommitted(t, map[int32]int64{0: 3, 1: 4})
	})
}

// TestManyBatches: a transaction larger than any batch keeps its order, and the sequence numbers go on after it.
func TestManyBatches(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		g := w.join(t).next(t)
		p := initialised(t, w.producer(t, nil))
		for _, codec := range []batch.Codec{batch.None, batch.LZ4, batch.Zstd} {
			tx := &txn.Transaction{Group: w.group, Generation: g.ID, MemberID: g.MemberID, Offsets: map[string]map[int32]int64{w.feed: {0: 1}}}
			wr := tx.Writer(codec)
			value := []byte(strings.Repeat("x", 1000))
			const n = 5000
			for i := range n {
				for _, tp := range []txn.TopicPartition{{Topic: w.changelog, Partition: int32(i % 2)}, {Topic: w.alerts, Partition: 0}} {
					if err := wr.Add(tp, fmt.Append(nil, i), value, nil, 0); err != nil {
						t.Fatal(err)
					}
				}
			}
			res, err := p.Commit(t.Context(), tx)
			if err != nil {
				t.Fatalf("%v: %v", codec, err)
			}
			w.mustBeStable(t)
			records := w.ReadCommitted(t, w.alerts)
			last := records[len(records)-n:]
			for i, r := range last {
				if string(r.Key) != fmt.Sprint(i) {
					t.Fatalf("%v: record %d has key %s", codec, i, r.Key)
				}
			}
			if got, want := res.Next[txn.TopicPartition{Topic: w.alerts, Partition: 0}], last[n-1].Offset+1; got != want {
				t.Errorf("%v: next offset %d, want %d", codec, got, want)
			}
		}
	})
}

// TestRefusedContent: what the broker refuses in one partition becomes visible in none.
func TestRefusedContent(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		small := w.Name("small")
		w.CreateTopic(t, small, 1, map[string]string{"max.message.bytes": "2000"})
		g := w.join(t).next(t)
		p := initialised(t, w.producer(t, nil))
		tx := w.content(t, g, "a", 7)
		value := make([]byte, 5000)
		for i := range value { // does not compress
			value[i] = byte(i * i >> 3)
		}
		if err := tx.Writer(batch.None).Add(txn.TopicPartition{Topic: small, Partition: 0}, nil, value, nil, 0); err != nil {
			t.Fatal(err)
		}
		_, err := p.Commit(t.Context(), tx)
		if !errors.Is(err, txn.ErrRefused) || !strings.Contains(fmt.Sprint(err), "max.message.bytes") || !strings.Contains(fmt.Sprint(err), small) {
			t.Errorf("Commit: %v, want ErrRefused that names topic and setting", err)
		}
		w.mustSeeNothing(t)
		if _, err := p.Commit(t.Context(), w.content(t, g, "b", 8)); !errors.Is(err, txn.ErrReinit) {
			t.Errorf("Commit without Init after a failure: %v, want ErrReinit", err)
		}
		initialised(t, p)
		if _, err := p.Commit(t.Context(), w.content(t, g, "c", 9)); err != nil {
			t.Fatal(err)
		}
		w.mustSee(t, "c | c c")
	})
}

func TestIncompleteTransactionsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}))
		p := initialised(t, w.producer(t, nil))
		for _, c := range []struct {
			rule   string
			change func(*txn.Transaction)
		}{
			{"no group", func(tx *txn.Transaction) { tx.Group = "" }},
			{"no member", func(tx *txn.Transaction) { tx.MemberID = "" }},
			{"no offsets", func(tx *txn.Transaction) { tx.Offsets = nil }},
		} {
			tx := w.content(t, group.Generation{ID: 1, MemberID: "m"}, "a", 1)
			c.change(tx)
			if _, err := p.Commit(t.Context(), tx); err == nil {
				t.Errorf("%s: committed", c.rule)
			}
		}
		w.mustSeeNothing(t)
	})
}

// TestNewOwnerFencesTheOld: from the new owner's Init on, the old one writes nothing.
func TestNewOwnerFencesTheOld(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		g := w.join(t).next(t)
		var successor *txn.Producer
		var takeOver atomic.Int32 // two goroutines ask at once
		takeOver.Store(int32(txn.StepDone))
		old := initialised(t, w.producer(t, func(c *txn.Config) {
			c.Step = func(s txn.Step) error {
				if s != txn.StepDone && takeOver.CompareAndSwap(int32(s), int32(txn.StepDone)) {
					successor = initialised(t, w.producer(t, nil))
				}
				return nil
			}
		}))
		for _, at := range []txn.Step{txn.StepAddPartitions, txn.StepProduce, txn.StepEnd} {
			initialised(t, old)
			takeOver.Store(int32(at))
			_, err := old.Commit(t.Context(), w.content(t, g, "old", 5))
			// The embedded broker answers the Produce of a former epoch with 48 where Kafka has 47.
			if !errors.Is(err, txn.ErrFenced) && !(w.Fake != nil && at == txn.StepProduce && errors.Is(err, txn.ErrReinit)) {
				t.Errorf("taken over at %v: %v, want ErrFenced", at, err)
			}
			w.mustSeeNothing(t)
		}
		if _, err := successor.Commit(t.Context(), w.content(t, g, "new", 6)); err != nil {
			t.Fatal(err)
		}
		w.mustSee(t, "new | new new")
	})
}

// TestLateInitOfAnOldOwner: one that lost its partition and initialises late does fence the new owner, but cannot commit itself.
func TestLateInitOfAnOldOwner(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		first := w.join(t)
		stale := first.next(t)
		w.join(t)
		current := first.next(t)
		if current.ID <= stale.ID {
			t.Fatalf("generation %d after %d", current.ID, stale.ID)
		}
		owner := initialised(t, w.producer(t, nil))
		late := initialised(t, w.producer(t, nil))
		if _, err := late.Commit(t.Context(), w.content(t, stale, "late", 5)); !errors.Is(err, txn.ErrFenced) {
			t.Errorf("commit under a former generation: %v, want ErrFenced", err)
		}
		w.mustSeeNothing(t)
		if _, err := owner.Commit(t.Context(), w.content(t, current, "owner", 6)); !errors.Is(err, txn.ErrFenced) {
			t.Errorf("commit of the fenced owner: %v, want ErrFenced", err)
		}
		w.mustSeeNothing(t)
		initialised(t, owner)
		if _, err := owner.Commit(t.Context(), w.content(t, current, "owner", 6)); err != nil {
			t.Fatal(err)
		}
		w.mustSee(t, "owner | owner owner")
	})
}

// TestRebalanceWithinTheTransaction: the group goes on while the content is being produced.
func TestRebalanceWithinTheTransaction(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		first := w.join(t)
		g := first.next(t)
		var once sync.Once
		p := initialised(t, w.producer(t, func(c *txn.Config) {
			c.Step = func(s txn.Step) error {
				if s == txn.StepCommitOffsets {
					once.Do(func() {
						w.join(t)
						first.next(t)
					})
				}
				return nil
			}
		}))
		if _, err := p.Commit(t.Context(), w.content(t, g, "a", 5)); !errors.Is(err, txn.ErrFenced) {
			t.Errorf("Commit: %v, want ErrFenced", err)
		}
		w.mustSeeNothing(t)
	})
}

// TestRebalanceDuringEnd: once the offsets are in the transaction, a rebalance does not undo it, and the whole becomes visible.
func TestRebalanceDuringEnd(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		first := w.join(t)
		g := first.next(t)
		p := initialised(t, w.producer(t, func(c *txn.Config) {
			c.Step = func(s txn.Step) error {
				if s == txn.StepEnd {
					w.join(t)
					first.next(t)
				}
				return nil
			}
		}))
		if _, err := p.Commit(t.Context(), w.content(t, g, "a", 5)); err != nil {
			t.Fatal(err)
		}
		w.mustSee(t, "a | a a")
		w.mustHaveCommitted(t, map[int32]int64{0: 5})
	})
}

// TestExpired: a transaction that stays open beyond its timeout is aborted by the broker, and its late commit refused.
func TestExpired(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		g := w.join(t).next(t)
		p := initialised(t, w.producer(t, func(c *txn.Config) {
			c.Timeout = time.Second
			c.Step = func(s txn.Step) error {
				if s == txn.StepEnd {
					w.mustBeStable(t)
				}
				return nil
			}
		}))
		if _, err := p.Commit(t.Context(), w.content(t, g, "a", 5)); !errors.Is(err, txn.ErrFenced) {
			t.Errorf("Commit: %v, want ErrFenced", err)
		}
		w.mustSeeNothing(t)
	})
}

// TestLostAnswersAndRequests: each request in turn is carried out without its answer arriving, or does not arrive itself. What is sent again
// leaves no duplicate.
func TestLostAnswersAndRequests(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		g := w.join(t).next(t)
		p := initialised(t, w.producer(t, nil))
		var changelog, alerts []string
		for i, key := range []int16{
			kafkatest.KeyAddPartitionsToTxn, kafkatest.KeyProduce, kafkatest.KeyAddOffsetsToTxn, kafkatest.KeyTxnOffsetCommit, kafkatest.KeyEndTxn,
		} {
			for j, lose := range []func(int16, int){w.faults.LoseAnswers, w.faults.LoseRequests} {
				lose(key, 2)
				name := fmt.Sprint(i, ".", j)
				if _, err := p.Commit(t.Context(), w.content(t, g, name, int64(10*i+j))); err != nil {
					t.Fatalf("api key %d, case %d: %v", key, j, err)
				}
				changelog, alerts = append(changelog, name), append(alerts, name)
			}
		}
		w.mustSee(t, strings.Join(changelog, " ")+" | "+strings.Join(slices.Concat(alerts, alerts), " "))
		w.faults.LoseAnswers(kafkatest.KeyInitProducerID, 2)
		initialised(t, p)
	})
}

// TestEndNeverAnswered: then nobody says that it was committed, or not; durable state does.
func TestEndNeverAnswered(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		g := w.join(t).next(t)
		p := initialised(t, w.producer(t, func(c *txn.Config) { c.Timeout = 2 * time.Second }))
		w.faults.LoseAnswers(kafkatest.KeyEndTxn, 1<<30)
		if _, err := p.Commit(t.Context(), w.content(t, g, "a", 5)); !errors.Is(err, txn.ErrUnknownOutcome) {
			t.Errorf("Commit: %v, want ErrUnknownOutcome", err)
		}
		if got := w.faults.Seen(kafkatest.KeyEndTxn); got < 3 {
			t.Errorf("EndTxn was tried %d times only", got)
		}
		w.faults.LoseAnswers(kafkatest.KeyEndTxn, 0)
		initialised(t, p)
		w.mustSee(t, "a | a a")
	})
}

// TestFencedWhileEndIsNotAnswered: no request for the commit arrives before a successor takes over, which aborts the transaction. The producer hears
// that it is fenced, and may not take silence for consent.
func TestFencedWhileEndIsNotAnswered(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		g := w.join(t).next(t)
		p := initialised(t, w.producer(t, nil))
		successor := w.producer(t, nil)
		w.faults.LoseRequests(kafkatest.KeyEndTxn, 1<<30)
		var takeOver sync.WaitGroup
		takeOver.Go(func() {
			err := kafkatest.Poll(t.Context(), func() error {
				if w.faults.Seen(kafkatest.KeyEndTxn) == 0 {
					return errors.New("the commit is not asked for")
				}
				return nil
			})
			if err = cmp.Or(err, successor.Init(t.Context())); err != nil {
				t.Error(err)
			}
			w.faults.LoseRequests(kafkatest.KeyEndTxn, 0)
		})
		if _, err := p.Commit(t.Context(), w.content(t, g, "a", 5)); !errors.Is(err, txn.ErrFenced) {
			t.Errorf("Commit: %v, want ErrFenced", err)
		}
		takeOver.Wait()
		w.mustSeeNothing(t)
	})
}

// TestCallerGivesUp: before the commit is asked for, the end of the caller's context aborts; the request under way is not cut off.
func TestCallerGivesUp(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		g := w.join(t).next(t)
		ctx, cancel := context.WithCancel(t.Context())
		p := initialised(t, w.producer(t, func(c *txn.Config) {
			c.Step = func(s txn.Step) error {
				if s == txn.StepCommitOffsets {
					cancel()
				}
				return nil
			}
		}))
		if _, err := p.Commit(ctx, w.content(t, g, "a", 5)); !errors.Is(err, context.Canceled) || errors.Is(err, txn.ErrUnknownOutcome) {
			t.Errorf("Commit: %v, want the context's error", err)
		}
		w.mustSeeNothing(t)
	})
}

var errKilled = errors.New("killed")

// TestKilledAtEachStep: after a death anywhere, a successor finds the transaction whole or not at all, and no step of it lingers.
func TestKilledAtEachStep(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		g := w.join(t).next(t)
		var want []string
		for at := txn.StepAddPartitions; at <= txn.StepDone; at++ {
			var dead atomic.Bool
			p := initialised(t, w.producer(t, func(c *txn.Config) {
				c.Step = func(s txn.Step) error {
					if s == at || dead.Load() {
						dead.Store(true)
						return errKilled
					}
					return nil
				}
			}))
			name := "killed-at-" + at.String()
			if _, err := p.Commit(t.Context(), w.content(t, g, name, int64(at))); !errors.Is(err, errKilled) {
				t.Fatalf("%v: %v", at, err)
			}
			next := initialised(t, w.producer(t, nil))
			w.mustBeStable(t)
			if at == txn.StepDone {
				want = append(want, name)
			}
			if got := w.visible(t); got != strings.Join(want, " ")+" | "+strings.Join(slices.Concat(want, want), " ") {
				t.Errorf("after a kill at %v: %q, want %q", at, got, want)
			}
			again := "after-" + name
			if _, err := next.Commit(t.Context(), w.content(t, g, again, int64(at))); err != nil {
				t.Fatal(err)
			}
			want = append(want, again)
			w.mustSee(t, strings.Join(want, " ")+" | "+strings.Join(slices.Concat(want, want), " "))
		}
	})
}

// TestReinit: the broker has forgotten the producer. The same transaction goes through after another Init.
func TestReinit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}))
		m := w.join(t)
		g := m.next(t)
		p := initialised(t, w.producer(t, nil))
		for _, c := range []struct {
			key  int16
			code int16
		}{{kafkatest.KeyAddPartitionsToTxn, 49}, {kafkatest.KeyProduce, 59}, {kafkatest.KeyProduce, 45}} {
			tx := w.content(t, g, fmt.Sprint(c.code), 5)
			h := w.Fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Key(c.key)}, Err: kerr.TypedErrorForCode(c.code), Count: 1})
			_, err := p.Commit(t.Context(), tx)
			h.Remove()
			if !errors.Is(err, txn.ErrReinit) {
				t.Errorf("code %d: %v, want ErrReinit", c.code, err)
			}
			initialised(t, p)
			if _, err := p.Commit(t.Context(), tx); err != nil {
				t.Errorf("code %d, second attempt: %v", c.code, err)
			}
		}
		w.mustSee(t, "49 59 45 | 49 59 45 49 59 45")

		// A task that lost its partition meanwhile does not initialise again.
		h := w.Fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.UnknownProducerID, Count: 1})
		if _, err := p.Commit(t.Context(), w.content(t, g, "x", 5)); !errors.Is(err, txn.ErrReinit) {
			t.Errorf("Commit: %v, want ErrReinit", err)
		}
		h.Remove()
		w.join(t)
		m.next(t)
		before := w.faults.Seen(kafkatest.KeyInitProducerID)
		if err := p.Init(t.Context()); !errors.Is(err, txn.ErrFenced) {
			t.Errorf("Init under a former generation: %v, want ErrFenced", err)
		}
		if w.faults.Seen(kafkatest.KeyInitProducerID) != before {
			t.Error("a former owner initialised")
		}
	})
}

// TestAccidentInTheBroker: an answer that says no more than that something went wrong says nothing of the content. It is sent again, and after EndTxn it is not
// known what became of it before that is answered.
func TestAccidentInTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}))
		g := w.join(t).next(t)
		p := initialised(t, w.producer(t, nil))
		for _, key := range []int16{kafkatest.KeyAddPartitionsToTxn, kafkatest.KeyProduce, kafkatest.KeyAddOffsetsToTxn, kafkatest.KeyTxnOffsetCommit} {
			tx := w.content(t, g, fmt.Sprint(key), 5)
			h := w.Fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Key(key)}, Err: kerr.UnknownServerError, Count: 1})
			_, err := p.Commit(t.Context(), tx)
			h.Remove()
			if !errors.Is(err, txn.ErrReinit) {
				t.Errorf("%v: %v, want ErrReinit", kmsg.Key(key).Name(), err)
			}
			initialised(t, p)
			if _, err := p.Commit(t.Context(), tx); err != nil {
				t.Errorf("%v, second attempt: %v", kmsg.Key(key).Name(), err)
			}
		}
		h := w.Fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError, Count: 1})
		if _, err := p.Commit(t.Context(), w.content(t, g, "end", 5)); err != nil {
			t.Errorf("EndTxn: %v", err)
		}
		h.Remove()
		w.mustSee(t, "24 0 25 28 end | 24 0 25 28 end 24 0 25 28 end")
	})
}

// TestMarkersHeldUp: while the leader of a partition is away, the markers of the transaction before cannot be written. The coordinator is not asked hundreds of times a
// second meanwhile.
func TestMarkersHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}))
		h := w.Fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ConcurrentTransactions, Count: -1})
		time.AfterFunc(10*time.Second, h.Remove)
		began := time.Now()
		initialised(t, w.producer(t, nil))
		if d := time.Since(began); d > 11*time.Second {
			t.Errorf("initialised %v after the markers were written", d-10*time.Second)
		}
		if n := w.faults.Seen(kafkatest.KeyInitProducerID); n > 100 {
			t.Errorf("asked %d times in ten seconds", n)
		}
	})
}

// TestBrokerWithoutGenerations: before 2.5 brokers cannot be told the generation of a commit, so that nothing refuses that of a former owner.
func TestBrokerWithoutGenerations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{Kfake: []kfake.Opt{kfake.MaxVersions(kversion.V2_4_0())}}))
		g := w.join(t).next(t)
		g.ID += 7
		p := initialised(t, w.producer(t, nil))
		_, err := p.Commit(t.Context(), w.content(t, g, "late", 5))
		if !errors.Is(err, txn.ErrRefused) || !errors.Is(err, conn.ErrUnsupported) {
			t.Errorf("commit of another generation: %v, want ErrRefused and ErrUnsupported", err)
		}
		w.mustSeeNothing(t)
	})
}

// TestIdleConnectionsDied: after a quiet time in which the broker closed what lay idle, a commit does not try one dead connection after another.
func TestIdleConnectionsDied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}))
		var mu sync.Mutex
		var open []net.Conn
		cl, err := conn.New(conn.Config{Brokers: w.Addrs, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			time.Sleep(time.Millisecond) // so that each producer opens its own
			c, err := w.Dial(ctx, network, addr)
			mu.Lock()
			defer mu.Unlock()
			open = append(open, c)
			return c, err
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		w.cluster = cl
		pool := txn.NewPool(cl)
		t.Cleanup(pool.Close)
		g := w.join(t).next(t)
		var producers []*txn.Producer
		for i := range 8 {
			producers = append(producers, w.producer(t, func(c *txn.Config) { c.Pool, c.TransactionalID = pool, fmt.Sprint("busy-", i) }))
		}
		var wg sync.WaitGroup
		for _, p := range producers {
			wg.Go(func() {
				if err := p.Init(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		began := time.Now()
		if _, err := producers[0].Commit(t.Context(), w.content(t, g, "alert", 5)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 100*time.Millisecond {
			t.Errorf("the commit took %v", d)
		}
	})
}

// TestMoves: leaders and coordinators change places; the commit follows them.
func TestMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{Brokers: 3}))
		g := w.join(t).next(t)
		p := initialised(t, w.producer(t, func(c *txn.Config) {
			c.Step = func(s txn.Step) error {
				switch s {
				case txn.StepProduce:
					w.Fake.ShufflePartitionLeaders()
				case txn.StepCommitOffsets, txn.StepEnd:
					w.Fake.RehashCoordinators()
				}
				return nil
			}
		}))
		var want []string
		for i := range 20 {
			name := fmt.Sprint(i)
			for {
				_, err := p.Commit(t.Context(), w.content(t, g, name, int64(i)))
				if err == nil {
					break
				}
				if !errors.Is(err, txn.ErrReinit) {
					t.Fatal(err)
				}
				initialised(t, p)
			}
			want = append(want, name)
		}
		w.mustSee(t, strings.Join(want, " ")+" | "+strings.Join(slices.Concat(want, want), " "))
	})
}

// TestConfiguredBrokerIsGone: the only broker that is configured went away, and the others do without it.
func TestConfiguredBrokerIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{Brokers: 3}))
		id := w.Name("task")
		for _, key := range []*string{&w.group, &id} {
			for w.Fake.CoordinatorFor(*key) == 0 {
				*key += "x"
			}
		}
		for _, topic := range []string{w.changelog, w.alerts, w.feed} {
			for p := range int32(2) {
				if err := w.Fake.MoveTopicPartition(topic, p, 1); err != nil {
					t.Fatal(err)
				}
			}
		}
		var gone atomic.Bool
		var err error
		w.cluster, err = conn.New(conn.Config{Brokers: w.Addrs[:1], Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == w.Addrs[0] && gone.Load() {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
			}
			c, err := w.Dial(ctx, network, addr)
			if err == nil && addr == w.Addrs[0] {
				c = fleeting{c, &gone}
			}
			return c, err
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.cluster.Close)
		if _, _, err := w.cluster.Topics(t.Context(), w.alerts); err != nil {
			t.Fatal(err)
		}
		g := w.join(t).next(t)
		gone.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p := w.producer(t, func(c *txn.Config) { c.TransactionalID = id })
		if err := p.Init(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Commit(ctx, w.content(t, g, "a", 1)); err != nil {
			t.Fatal(err)
		}
		w.mustSee(t, "a | a a")
	})
}

// fleeting is a connection to a broker that may be gone.
type fleeting struct {
	net.Conn
	gone *atomic.Bool
}

func (c fleeting) Write(b []byte) (int, error) {
	if c.gone.Load() {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: errors.New("connection reset")}
	}
	return c.Conn.Write(b)
}

// TestMissingTopicAndRights: what no retry mends is said in words that help.
func TestMissingTopicAndRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}))
		g := w.join(t).next(t)
		p := initialised(t, w.producer(t, nil))
		tx := w.content(t, g, "a", 1)
		if err := tx.Writer(batch.None).Add(txn.TopicPartition{Topic: "nowhere"}, nil, []byte("v"), nil, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Commit(t.Context(), tx); !errors.Is(err, txn.ErrRefused) || !errors.Is(err, conn.ErrTopicMissing) {
			t.Errorf("Commit: %v, want ErrRefused for a missing topic", err)
		}
		w.mustSeeNothing(t)
	})
	b := kafkatest.Real(t).Limited(t, "SCRAM-SHA-512")
	cl, err := conn.New(conn.Config{Brokers: b.Addrs, TLS: b.TLS, SASL: &conn.SASL{Mechanism: "scram-sha-512", Username: b.Login.Username, Password: b.Login.Password}})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	p := txn.New(cl, txn.Config{TransactionalID: b.Name("x"), Log: slog.New(slog.DiscardHandler)})
	defer p.Close()
	err = p.Init(t.Context())
	if !errors.Is(err, txn.ErrRefused) || !strings.Contains(err.Error(), "transactional id") {
		t.Errorf("Init without rights: %v, want ErrRefused that names the right", err)
	}
}

// TestBrokerKilled: the broker dies in the middle of a transaction, and comes back. Whatever Commit says is true.
func TestBrokerKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("kills and restarts a broker")
	}
	w := newWorld(t, kafkatest.Own(t, nil))
	m := w.join(t)
	g := m.next(t)
	var want []string
	for _, at := range []txn.Step{txn.StepProduce, txn.StepEnd} {
		var once sync.Once
		p := initialised(t, w.producer(t, func(c *txn.Config) {
			c.Step = func(s txn.Step) error {
				if s == at {
					once.Do(func() {
						w.Kill(t)
						go w.Restart(t)
					})
				}
				return nil
			}
		}))
		name := at.String()
		_, err := p.Commit(t.Context(), w.content(t, g, name, 1))
		t.Logf("killed at %v: %v", at, err)
		switch {
		case err == nil:
			want = append(want, name)
		case errors.Is(err, txn.ErrFenced), errors.Is(err, txn.ErrReinit):
			g = m.next(t)
		default:
			t.Fatal(err)
		}
		initialised(t, p)
		w.mustSee(t, strings.Join(want, " ")+" | "+strings.Join(slices.Concat(want, want), " "))
		for len(m.generations) > 0 {
			g = <-m.generations
		}
	}
}
