package stream_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/state"
	"ebb/stream"
	"ebb/stream/conn"
	"ebb/stream/kafkatest"
	"ebb/stream/txn"
)

const (
	faultSeed      = 21
	faultCustomers = 30
	faultParts     = 2
)

// faultWorld is an embedded broker in virtual time with the crowd of the fault tests, and what an undisturbed run makes of it.
func faultWorld(t *testing.T) (*world, []happening) {
	t.Helper()
	w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), faultParts)
	w.group, w.adjust, w.portion = "group", smallCuts, 25
	events := settled(faultSeed, faultCustomers)
	w.produce(events)
	return w, events
}

var undisturbed struct {
	once sync.Once
	o    outcome
}

// calm is the outcome of the undisturbed run.
func calm(t *testing.T) outcome {
	t.Helper()
	undisturbed.once.Do(func() {
		bubble(t, func(t *testing.T) {
			w, _ := faultWorld(t)
			w.livesOn()
			undisturbed.o = w.outcome()
		})
	})
	if len(undisturbed.o.alerts) == 0 {
		t.Fatal("the undisturbed run failed")
	}
	return undisturbed.o
}

// ends waits for the end of the feeds and compares with the undisturbed run and with the reference.
func (w *world) ends(want outcome, events []happening, all ...*running) {
	w.t.Helper()
	w.virtuallyCaughtUp()
	for _, r := range all {
		if err := r.stop(); err != nil {
			w.t.Error(err)
		}
	}
	w.outcome().equals(w.t, want)
	now := time.Now().UnixMilli()
	compareSteps(w.t, w.steps(now), reference(events, now))
}

// virtuallyCaughtUp waits in virtual time, in which looking is what costs.
func (w *world) virtuallyCaughtUp() {
	w.t.Helper()
	for range 1200 {
		nap(500 * time.Millisecond)
		if w.lag() == 0 {
			return
		}
	}
	w.t.Fatalf("%d records to go after ten minutes", w.lag())
}

// joined waits until an instance is a member of the group: what it checks before that it checks once.
func (w *world) joined(r *running) {
	w.t.Helper()
	for range 600 {
		if r.Member() {
			return
		}
		nap(100 * time.Millisecond)
	}
	w.t.Fatal("the group was not joined")
}

// twin is another instance of the group, with a disk of its own.
func (w *world) twin() *world {
	v := *w
	v.disk, v.member, v.step, v.dial, v.now, v.tick = state.NewMemDisk(), noMember(), nil, w.broker.Dial, time.Now, time.Now
	return &v
}

// once calls f at the n-th time that a transaction of a task comes to the step.
func once(s txn.Step, n int, f func(p int32)) func(int32, txn.Step) error {
	now := counter(n)
	return func(p int32, at txn.Step) error {
		if p != stream.SecondStage && at == s && now() {
			f(p)
		}
		return nil
	}
}

var insideSteps = []txn.Step{txn.StepAddPartitions, txn.StepProduce, txn.StepAddOffsets, txn.StepCommitOffsets, txn.StepEnd, txn.StepDone}

func TestAnOldOwnerInitialisesLate(t *testing.T) {
	want := calm(t)
	for _, s := range insideSteps {
		t.Run("before "+s.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w, events := faultWorld(t)
				cluster, err := conn.New(conn.Config{Brokers: w.broker.Addrs, Dial: w.broker.Dial})
				if err != nil {
					t.Fatal(err)
				}
				defer cluster.Close()
				came := false
				w.step = once(s, 5, func(p int32) {
					came = true
					old := txn.New(cluster, txn.Config{TransactionalID: fmt.Sprintf("%s-%d", w.group, p)})
					defer old.Close()
					if err := old.Init(context.Background()); err != nil {
						t.Errorf("the old owner: %v", err)
					}
				})
				w.ends(want, events, w.start())
				if !came {
					t.Error("the old owner did not come")
				}
			})
		})
	}
}

func TestATransactionExpires(t *testing.T) {
	long(t)
	want := calm(t)
	for _, s := range insideSteps {
		t.Run("before "+s.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w, events := faultWorld(t)
				w.adjust = func(cfg *stream.Config) {
					smallCuts(cfg)
					cfg.Cut.Timeout = 5 * time.Second
				}
				w.step = once(s, 5, func(int32) { nap(30 * time.Second) })
				w.ends(want, events, w.start())
			})
		})
	}
}

// A second instance joins while a transaction of the first is held, and the transaction goes on before, or after, somebody else has
// the partition.
func TestARebalanceDuringATransaction(t *testing.T) {
	long(t)
	want := calm(t)
	for _, s := range insideSteps {
		for _, hold := range []time.Duration{time.Second, 20 * time.Second} {
			t.Run(fmt.Sprintf("held %v before %s", hold, s), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w, events := faultWorld(t)
					held := make(chan struct{})
					w.step = once(s, 4, func(int32) {
						close(held)
						nap(hold)
					})
					first := w.start()
					<-held
					second := w.twin().start()
					w.ends(want, events, first, second)
				})
			})
		}
	}
}

func TestAProcessIsPausedWhileAnotherTakesOver(t *testing.T) {
	want := calm(t)
	for _, s := range insideSteps {
		t.Run("before "+s.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w, events := faultWorld(t)
				net := newWire(w.broker.Dial)
				held := make(chan struct{})
				w.dial, w.now, w.tick = net.open, net.now, net.now
				w.step = once(s, 4, func(int32) {
					net.freeze()
					close(held)
					net.wait()
				})
				first := w.start()
				<-held
				second := w.twin().start()
				w.virtuallyCaughtUp()
				ends := w.broker.EndOffsets(t, w.topic("alerts"))
				net.thaw()
				nap(time.Minute)
				if now := w.broker.EndOffsets(t, w.topic("alerts")); fmt.Sprint(now) != fmt.Sprint(ends) {
					t.Errorf("alerts ended at %v when the paused process went on, and then at %v", ends, now)
				}
				w.ends(want, events, first, second)
			})
		})
	}
}

func TestAnswersAndRequestsAreLost(t *testing.T) {
	want := calm(t)
	keys := map[string]int16{
		"InitProducerId": kafkatest.KeyInitProducerID, "AddPartitionsToTxn": kafkatest.KeyAddPartitionsToTxn, "Produce": kafkatest.KeyProduce,
		"AddOffsetsToTxn": kafkatest.KeyAddOffsetsToTxn, "TxnOffsetCommit": kafkatest.KeyTxnOffsetCommit, "EndTxn": kafkatest.KeyEndTxn, "Fetch": kafkatest.KeyFetch,
	}
	for name, key := range keys {
		for _, answer := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, answer %v", name, answer), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w, events := faultWorld(t)
					net := newWire(w.broker.Dial)
					w.dial = net.open
					var n atomic.Int32
					net.on(func(k int16, answered bool) fate {
						if k == key && answered == answer {
							if n.Add(1)%3 != 0 {
								return cutOff
							}
						}
						return passes
					})
					w.ends(want, events, w.start())
					if n.Load() == 0 {
						t.Error("nothing was lost")
					}
				})
			})
		}
	}
}

// Connections are cut at random, and now and then all of them.
func TestConnectionsAreCutAtRandom(t *testing.T) {
	want := calm(t)
	seeds(t, 4, func(t *testing.T, seed uint64) {
		w, events := faultWorld(t)
		rng := rand.New(rand.NewPCG(seed, 7))
		var mu sync.Mutex
		net := newWire(w.broker.Dial)
		w.dial = net.open
		share := 0.1 * rng.Float64()
		r := w.start()
		w.joined(r)
		cuts := 0
		net.on(func(_ int16, answered bool) fate {
			mu.Lock()
			defer mu.Unlock()
			if !answered { // without a network that takes its time all would be over in a moment
				pause := time.Duration(rng.IntN(100)) * time.Millisecond
				mu.Unlock()
				nap(pause)
				mu.Lock()
			}
			if rng.Float64() < share {
				cuts++
				return cutOff
			}
			return passes
		})
		for range 5 {
			mu.Lock()
			pause := time.Duration(rng.IntN(2000)) * time.Millisecond
			mu.Unlock()
			nap(pause)
			net.cut()
		}
		w.ends(want, events, r)
		nap(time.Second) // for who still waits for the slow network
		t.Logf("%d cuts", cuts)
	})
}

// The last cut before a rebalance fails, and the same instance keeps the partition: nothing may be built on the memory that the cut left.
func TestTheLastCutBeforeARebalanceFails(t *testing.T) {
	t.Parallel()
	want := calm(t)
	bubble(t, func(t *testing.T) {
		w, events := faultWorld(t)
		cluster, err := conn.New(conn.Config{Brokers: w.broker.Addrs, Dial: w.broker.Dial})
		if err != nil {
			t.Fatal(err)
		}
		defer cluster.Close()
		var mu sync.Mutex
		fenced := map[int32]bool{}
		held := make(chan struct{}, faultParts)
		w.step = func(p int32, s txn.Step) error {
			mu.Lock()
			first := p != stream.SecondStage && s == txn.StepCommitOffsets && !fenced[p]
			fenced[p] = fenced[p] || first
			mu.Unlock()
			if !first {
				return nil
			}
			held <- struct{}{}
			nap(time.Second) // meanwhile the generation ends
			old := txn.New(cluster, txn.Config{TransactionalID: fmt.Sprintf("%s-%d", w.group, p)})
			defer old.Close()
			return old.Init(context.Background())
		}
		first := w.start()
		<-held
		<-held
		second := w.twin().start()
		w.ends(want, events, first, second)
	})
}

// A task that is refused for good tells of its stop in a transaction of its own. What it had applied since its last cut is in no cut, so the
// positions that go with the news are those of that cut, and whoever goes on computes the rest again.
func TestATaskIsRefusedAndStops(t *testing.T) {
	t.Parallel()
	want := calm(t)
	bubble(t, func(t *testing.T) {
		w, events := faultWorld(t)
		w.step = once(txn.StepProduce, 4, func(int32) {
			w.broker.Fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: 1, When: func(req kmsg.Request) bool {
				return slices.ContainsFunc(req.(*kmsg.ProduceRequest).Topics, func(x kmsg.ProduceRequestTopic) bool { return x.Topic == w.topic("changelog") })
			}})
		})
		r := w.start()
		virtually(t, "the stop is told", func() bool { return len(w.operations("task_stopped")) != 0 })
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		w.step = nil
		w.ends(want, events, w.start())
	})
}
