package txn_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ebb/stream/batch"
	"ebb/stream/kafkatest"
	"ebb/stream/txn"
)

// owner is a task reduced to its core: its state is a counter, and each cut writes the next number to the changelog and to an alert topic.
type owner struct {
	w       *world
	m       *membership
	rand    *rand.Rand
	resend  bool // after ErrReinit send the same cut again, else go back to durable state
	goal    int
	outcome map[string]int
}

// run works until the goal is visible in the changelog. Whatever happens to it, it goes on from durable state.
func (o *owner) run(t *testing.T) {
	for t.Context().Err() == nil {
		kill := &killer{}
		p := txn.New(o.w.cluster, txn.Config{
			TransactionalID: o.w.Name("task-0"), Log: slog.New(slog.DiscardHandler), Timeout: 3 * time.Second, Step: kill.step,
		})
		err := o.own(t, p, kill)
		p.Close()
		if err == nil {
			return
		}
	}
}

// killer ends the process at a step, as far as the producer is concerned. The zero value does not.
type killer struct {
	at   atomic.Int32 // a txn.Step but StepInit
	dead atomic.Bool
}

func (k *killer) step(s txn.Step) error {
	if at := k.at.Load(); at != 0 && txn.Step(at) == s {
		k.dead.Store(true)
	}
	if k.dead.Load() {
		return errKilled
	}
	return nil
}

// own takes over, and commits until it fails or is done.
func (o *owner) own(t *testing.T, p *txn.Producer, kill *killer) error {
	if err := p.Init(t.Context()); err != nil {
		return err
	}
	for n := o.durable(t) + 1; n <= o.goal; n++ {
		o.mischief()
		tx := o.cut(t, n)
		for {
			if o.rand.IntN(10) == 0 {
				kill.at.Store(1 + o.rand.Int32N(int32(txn.StepDone)))
			}
			_, err := p.Commit(t.Context(), tx)
			o.count(err)
			if err == nil {
				break
			}
			if !o.resend || !errors.Is(err, txn.ErrReinit) {
				return err
			}
			if err := p.Init(t.Context()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *owner) count(err error) {
	for kind, sentinel := range map[string]error{"fenced": txn.ErrFenced, "again": txn.ErrReinit, "unknown": txn.ErrUnknownOutcome, "killed": errKilled} {
		if errors.Is(err, sentinel) {
			o.outcome[kind]++
		}
	}
	if err == nil {
		o.outcome["committed"]++
	}
}

// durable is the last number of the changelog.
func (o *owner) durable(t *testing.T) int {
	records := o.w.ReadCommitted(t, o.w.changelog)
	if len(records) == 0 {
		return 0
	}
	n, err := strconv.Atoi(string(records[len(records)-1].Value))
	if err != nil {
		t.Error(err)
	}
	return n
}

func (o *owner) cut(t *testing.T, n int) *txn.Transaction {
	g := o.m.latest.Load() // coordinators that move end generations, too
	tx := &txn.Transaction{Group: o.w.group, Generation: g.ID, MemberID: g.MemberID, Offsets: map[string]map[int32]int64{o.w.feed: {0: int64(n)}}}
	wr := tx.Writer(batch.LZ4)
	for _, tp := range []txn.TopicPartition{{Topic: o.w.changelog}, {Topic: o.w.alerts, Partition: 0}, {Topic: o.w.alerts, Partition: 1}} {
		if err := wr.Add(tp, []byte("k"), fmt.Append(nil, n), nil, 0); err != nil {
			t.Error(err)
		}
	}
	return tx
}

// mischief prepares the network and the cluster for the next cut.
func (o *owner) mischief() {
	keys := []int16{
		kafkatest.KeyInitProducerID, kafkatest.KeyAddPartitionsToTxn, kafkatest.KeyProduce, kafkatest.KeyAddOffsetsToTxn,
		kafkatest.KeyTxnOffsetCommit, kafkatest.KeyEndTxn,
	}
	key := keys[o.rand.IntN(len(keys))]
	switch o.rand.IntN(8) {
	case 0:
		o.w.faults.LoseAnswers(key, 1+o.rand.IntN(3))
	case 1:
		o.w.faults.LoseRequests(key, 1+o.rand.IntN(3))
	case 2:
		o.w.faults.LoseAnswers(kafkatest.KeyEndTxn, 20) // longer than anybody tries
	case 3:
		o.w.faults.LoseAnswers(kafkatest.KeyEndTxn, 0)
		if o.w.Fake != nil {
			o.w.Fake.ShufflePartitionLeaders()
			o.w.Fake.RehashCoordinators()
		}
	}
}

// TestExactlyOnceUnderFaults: answers and requests get lost, leaders and coordinators move, owners die at any step or take the task from each
// other. Each number is there once, in order, in every topic, and the committed offset is that of the last.
func TestExactlyOnceUnderFaults(t *testing.T) {
	check := func(t *testing.T, w *world, seed uint64, owners, goal int) {
		m := w.join(t)
		m.next(t)
		var wg sync.WaitGroup
		all := make([]*owner, owners)
		for i := range all {
			all[i] = &owner{
				w: w, m: m, rand: rand.New(rand.NewPCG(seed, uint64(i))), resend: owners == 1, goal: goal, outcome: map[string]int{},
			}
			wg.Go(func() { all[i].run(t) })
		}
		wg.Wait()
		w.mustBeStable(t)
		for _, topic := range []string{w.changelog, w.alerts} {
			last := map[int32]int{}
			for _, r := range w.ReadCommitted(t, topic) {
				if want := fmt.Sprint(last[r.Partition] + 1); string(r.Value) != want {
					t.Errorf("seed %d: %s/%d offset %d: %s, want %s", seed, r.Topic, r.Partition, r.Offset, r.Value, want)
				}
				last[r.Partition]++
			}
			for p, n := range last {
				if n != goal {
					t.Errorf("seed %d: %s/%d has %d records, want %d", seed, topic, p, n, goal)
				}
			}
		}
		w.mustHaveCommitted(t, map[int32]int64{0: int64(goal)})
		for i, o := range all {
			t.Logf("seed %d, owner %d: %v", seed, i, o.outcome)
		}
	}
	for owners := 1; owners <= 2; owners++ {
		t.Run(fmt.Sprintf("virtual, %d owners", owners), func(t *testing.T) {
			for seed := range uint64(10) {
				synctest.Test(t, func(t *testing.T) {
					check(t, newWorld(t, kafkatest.Virtual(t, kafkatest.Options{Brokers: 3})), seed, owners, 40)
				})
			}
		})
	}
	t.Run("real", func(t *testing.T) {
		if testing.Short() {
			t.Skip("takes half a minute")
		}
		check(t, newWorld(t, kafkatest.Real(t)), 1, 1, 20)
	})
}
