package stream_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/state"
	"ebb/stream"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
	"ebb/stream/txn"
)

// sharedFeed is a group of two instances in virtual time, with some uses in each of its four partitions.
func sharedFeed(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 4)
	w.group = "group"
	w.adjust = func(c *stream.Config) { c.Time.FeedUnreachableAfter, c.Stall.Expected = time.Second, 1e9 }
	var events []happening
	for i := range 40 {
		at := time.Now().Add(-time.Hour).UnixMilli() + int64(i)
		events = append(events, happening{feed: "usage", customer: fmt.Sprintf("c-%03d", i), at: at, kind: "session", id: fmt.Sprint(i)})
	}
	w.produce(events)
	return w
}

// within waits in virtual time until ok.
func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for range d / (100 * time.Millisecond) {
		if ok() {
			return
		}
		nap(100 * time.Millisecond)
	}
	t.Fatalf("%s: not within %v", what, d)
}

func partitionsOf(r *running) (ps []int32) {
	for _, s := range r.Status() {
		ps = append(ps, s.Partition)
	}
	return ps
}

// stalledIn is how many partitions see the usage feed stalled.
func stalledIn(all ...*running) (n int) {
	for _, r := range all {
		for _, s := range r.Status() {
			for _, f := range s.Feeds {
				if f.Feed == event.Usage && !f.Stalled.IsZero() {
					n++
				}
			}
		}
	}
	return n
}

// silence lets the broker give nothing of partitions of a topic, all if none are named.
func (w *world) silence(topic string, partitions ...int32) *kfake.FaultHandle {
	return w.broker.Fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: w.topic(topic), Partitions: partitions, Err: kerr.NotLeaderForPartition, Count: -1})
}

// A feed that stalls in all partitions of two instances is one alert of the group, visible within two seconds, also if the instance that
// publishes it leaves meanwhile; its evidence names every partition. It is resolved with the last of them, be it that of an instance that had no
// reason to say anything since.
func TestOneAlertForTheGroup(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := sharedFeed(t)
		all := []*running{w.start(), w.twin().start()}
		within(t, time.Minute, "both at work", func() bool { return len(all[0].Status()) == 2 && len(all[1].Status()) == 2 })
		nap(2 * time.Second)
		elected, other := all[0], all[1]
		if elected.SecondStage() == nil {
			elected, other = other, elected
		}
		if elected.SecondStage() == nil || other.SecondStage() != nil {
			t.Fatalf("second stage: %+v, %+v", elected.SecondStage(), other.SecondStage())
		}
		stays := w.silence("usage", partitionsOf(other)...)
		moves := w.silence("usage", partitionsOf(elected)...)
		within(t, time.Minute, "a stall", func() bool { return stalledIn(all...) > 0 })
		nap(2 * time.Second)
		fired := w.operations()
		w.sameAlert(fired, "fired")
		if n := stalledIn(all...); n != 4 {
			t.Errorf("stalled in %d partitions", n)
		}
		if got := elected.metric("ebb_operational_alerts_firing", "kind", "feed_stalled"); got != 1 {
			t.Errorf("ebb_operational_alerts_firing is %v", got)
		}
		if err := elected.stop(); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, "the other has all", func() bool {
			s := other.SecondStage()
			return len(other.Status()) == 4 && s != nil && s.State == "running" && s.Firing == 1
		})
		nap(11 * time.Minute) // what a partition told last counts, however long ago
		moves.Remove()
		within(t, time.Minute, "no stall where another owner was", func() bool { return stalledIn(other) == 2 })
		nap(2 * time.Second)
		w.sameAlert(w.operations(), "fired")
		stays.Remove()
		within(t, time.Minute, "no stall", func() bool { return stalledIn(other) == 0 })
		nap(2 * time.Second)
		steps := w.operations()
		w.sameAlert(steps, "fired", "resolved")
		if got := steps[1].Evidence.Partitions; fmt.Sprint(got) != "[0 1 2 3]" || steps[1].Evidence.PartitionCount != 4 {
			t.Errorf("the evidence names partitions %v", got)
		}
		if since := steps[1].Since; since.After(fired[0].Since) {
			t.Errorf("since %v, and then since %v", fired[0].Since, since)
		}
		if got := other.metric("ebb_operational_alerts_firing", "kind", "feed_stalled"); got != 0 {
			t.Errorf("ebb_operational_alerts_firing is %v after the resolution", got)
		}
	})
}

// The instance that publishes the group's alerts dies at every step of the transaction that fires one, and of that which resolves it.
func TestTheElectedInstanceDies(t *testing.T) {
	long(t)
	steps := append([]txn.Step{txn.StepInit}, insideSteps...)
	for _, phase := range []string{"fired", "resolved"} {
		for _, at := range steps {
			t.Run(fmt.Sprintf("%s, before %s", phase, at), func(t *testing.T) {
				bubble(t, func(t *testing.T) { diesWithTheStage(t, phase, at) })
			})
		}
	}
}

func diesWithTheStage(t *testing.T, phase string, at txn.Step) {
	w := sharedFeed(t)
	var armed atomic.Bool
	dying := make(chan *power, 1)
	instance := func(w *world) (*running, *power) {
		p := newPower(w)
		w.step = func(task int32, s txn.Step) error {
			select {
			case <-p.off:
				return errKilled
			default:
			}
			if task == stream.SecondStage && s == at && armed.CompareAndSwap(true, false) {
				dying <- p
				return p.cut()
			}
			return nil
		}
		return w.start(), p
	}
	first, power := instance(w)
	second, _ := instance(w.twin())
	within(t, time.Minute, "both at work", func() bool { return len(first.Status()) == 2 && len(second.Status()) == 2 })
	nap(2 * time.Second)
	if phase == "fired" {
		armed.Store(true)
	}
	fault := w.silence("usage")
	if phase == "resolved" {
		within(t, time.Minute, "fired", func() bool { return len(w.operations()) > 0 })
		nap(10 * time.Second)
		armed.Store(true)
		fault.Remove()
	}
	if at == txn.StepInit { // nothing but a new owner initialises
		nap(5 * time.Second)
		elected := first
		if elected.SecondStage() == nil {
			elected = second
		}
		_ = elected.stop()
	}
	var died *running
	select {
	case p := <-dying:
		if died = second; p == power {
			died = first
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("nobody died")
	}
	died.kill()
	again := w.twin()
	again.disk = state.NewMemDisk()
	_ = again.start()
	nap(time.Minute)
	if phase == "fired" {
		w.sameAlert(w.operations(), "fired")
		fault.Remove()
		nap(time.Minute)
	}
	w.sameAlert(w.operations(), "fired", "resolved")
}

// A partition that is between two owners keeps its word: what it told last is not taken back by a rebalance, only by its new owner.
func TestADeadInstanceKeepsItsWord(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.group = "group"
		w.adjust = func(c *stream.Config) { c.Time.FeedUnreachableAfter, c.Stall.Expected = time.Second, 1e9 }
		at := time.Now().Add(-time.Hour).UnixMilli()
		w.produce([]happening{{feed: "usage", customer: w.customerOf(1, "c"), at: at, kind: "session", id: "1"}})
		r := w.start()
		nap(5 * time.Second)
		fault := w.silence("usage")
		within(t, time.Minute, "fired", func() bool { return len(w.operations()) == 1 })
		r.kill()
		fault.Remove()
		// An hour without anybody, and then the partition that reported it is still to come.
		nap(time.Hour)
		w.sameAlert(w.operations(), "fired")
		w.start()
		within(t, time.Minute, "resolved", func() bool { return len(w.operations()) == 2 })
		w.sameAlert(w.operations(), "fired", "resolved")
	})
}

// What the second stage cannot read stops it with the cause, and nothing else; facts of kinds that it does not know are passed over.
func TestFactsThatCannotBeRead(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	w.broker.Produce(t, w.topic("facts"), kafkatest.Record{Key: []byte("cohorts/0"), Value: []byte("whatever")})
	r := w.start()
	w.awaitStage(r, "running")
	kafkatest.Eventually(t, "the fact is passed over", func() error {
		if n := w.broker.GroupOffsets(t, w.group, w.topic("facts"))[0]; n < 1 {
			return fmt.Errorf("at %d", n)
		}
		return nil
	})
	for name, c := range map[string]struct {
		value []byte
		want  string
	}{
		"newer":   {[]byte{99, 1, 2}, "newer ebb"},
		"damaged": {append(append([]byte{1, byte(len(w.group))}, w.group...), 200), "kafka-delete-records.sh"},
	} {
		t.Run(name, func(t *testing.T) {
			end := w.broker.EndOffsets(t, w.topic("facts"))[0]
			w.broker.Produce(t, w.topic("facts"), kafkatest.Record{Key: []byte("conditions/0"), Value: c.value})
			s := w.awaitStage(r, "stopped")
			for _, part := range []string{c.want, w.topic("facts"), fmt.Sprintf("offset %d", end)} {
				if !strings.Contains(s.Error, part) {
					t.Errorf("the error does not tell %q: %s", part, s.Error)
				}
			}
			if w.awaitState(r, 0, "running"); r.metric("ebb_task_stopped", "partition", "facts") != 1 {
				t.Error("ebb_task_stopped does not show that the second stage stopped")
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			if err := w.broker.Fake.DeleteRecords(w.topic("facts"), 0, end+1); err != nil {
				t.Fatal(err)
			}
			r = w.start()
			w.awaitStage(r, "running")
		})
	}
}

// The changelog of another group's second stage is refused.
func TestForeignFacts(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	r := w.start()
	kafkatest.Eventually(t, "a first fact is folded", func() error {
		if len(w.broker.ReadCommitted(t, w.topic("facts-changelog"))) == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	other := w.otherGroup(w.broker.Name("other"))
	other.facts = w.facts
	w.broker.CreateTopic(t, w.topic("changelog-other"), 1, map[string]string{"cleanup.policy": "compact"})
	other.adjust = func(c *stream.Config) { c.Topics.Changelog = w.topic("changelog-other") }
	err := other.start().end()
	if !errors.Is(err, stream.ErrForeignChangelog) || !strings.Contains(err.Error(), "topics.facts") || !strings.Contains(err.Error(), w.group) {
		t.Errorf("the other group ended with %v, which is to tell whose it is", err)
	}
}

// awaitStage waits until the second stage is in a state.
func (w *world) awaitStage(r *running, state string) *stream.StageStatus {
	w.t.Helper()
	var s *stream.StageStatus
	kafkatest.Eventually(w.t, "second stage "+state, func() error {
		if s = r.SecondStage(); s == nil || s.State != state {
			return fmt.Errorf("it is %+v", s)
		}
		return nil
	})
	return s
}
