package stream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ebb/stream/event"
	"ebb/stream/txn"

	"ebb/state"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/kafkatest"
	"ebb/stream/partition"
)

// rerouting is a world in which misplaced records are forwarded.
func rerouting(t *testing.T, b *kafkatest.Broker, parts int32) *world {
	t.Helper()
	w := newWorld(t, b, parts)
	b.CreateTopic(t, w.topic("reroute"), parts, nil)
	w.group, w.portion = "group", 25
	w.adjust = func(cfg *stream.Config) {
		smallCuts(cfg)
		w.reroutes(cfg)
	}
	return w
}

func (w *world) reroutes(cfg *stream.Config) {
	cfg.Topics.Reroute = w.topic("reroute")
	cfg.Reroute = stream.RerouteConfig{Interval: time.Second}
}

// underWay is how many forwarded records are not applied yet.
func (w *world) underWay() int {
	w.t.Helper()
	committed := w.broker.GroupOffsets(w.t, w.group, w.topic("reroute"))
	n := 0
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("reroute")) {
		if r.Headers["ebb_reroute"] != "promise" && r.Offset >= committed[r.Partition] {
			n++
		}
	}
	return n
}

// delivered waits in virtual time until all is read and nothing is under way between tasks.
func (w *world) delivered(all ...*running) {
	w.t.Helper()
	began := time.Now()
	for range 240 {
		nap(500 * time.Millisecond)
		if w.lag() == 0 && w.underWay() == 0 && w.clocksPast(began, all) {
			return
		}
	}
	w.t.Fatalf("%d records to go, %d under way, after two minutes", w.lag(), w.underWay())
}

// clocksPast is true when the clocks of all tasks are past a moment, so that all deadlines before it are decided.
func (w *world) clocksPast(at time.Time, all []*running) bool {
	past := 0
	for _, r := range all {
		for _, s := range r.Status() {
			if s.State == "running" && s.Clock.After(at) {
				past++
			}
		}
	}
	return past == int(w.parts)
}

// twoProducers puts payments where librdkafka puts them, and all else where Java does.
func (w *world) twoProducers() {
	w.place = func(h happening) int32 {
		if h.feed == "payments" {
			return partition.CRC32([]byte(h.customer), w.parts)
		}
		return w.partitionOf(h.customer)
	}
}

// The same events give the same alerts, with the same ids, and the same customers, whichever producer put them where.
func TestMisplacedRecordsAreForwarded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const parts = 3
		run := func(misplace bool) (outcome, float64) {
			w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), parts)
			if misplace {
				w.twoProducers()
			}
			events := settled(3, 40)
			w.produce(events)
			r := w.start()
			w.delivered(r)
			forwarded := r.metric("ebb_records_rerouted_total", "feed", "payments")
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			compareSteps(t, w.steps(time.Now().UnixMilli()), reference(events, time.Now().UnixMilli()))
			return w.outcome(), forwarded
		}
		want, none := run(false)
		got, some := run(true)
		if none != 0 || some == 0 {
			t.Errorf("%v and %v records were forwarded, want none and some", none, some)
		}
		sameEntries(t, "customer", unarmed(t, got.customers), unarmed(t, want.customers))
		sameKeys(t, got.alerts, want.alerts)
	})
}

// unarmed are the records of customers without the time under which the timers hold them: it may be any before the deadline.
func unarmed(t *testing.T, customers map[string]string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for id, v := range customers {
		var r customer.Record
		if err := customer.DecodeRecord([]byte(v), &r); err != nil {
			t.Fatalf("customer %s: %v", id, err)
		}
		r.Armed = 0
		out[id] = string(customer.AppendRecord(nil, &r))
	}
	return out
}

// sameKeys compares ids of alert steps; their evidence names other partitions.
func sameKeys(t *testing.T, got, want map[string]string) {
	t.Helper()
	for id := range want {
		if _, ok := got[id]; !ok {
			t.Errorf("alert step %s is missing", id)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d alert steps, want %d", len(got), len(want))
	}
}

// Whatever step a process dies before, each record is forwarded once and applied once.
func TestKilledWhileRecordsAreForwarded(t *testing.T) {
	long(t)
	for _, at := range killPoints() {
		t.Run(at.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
				w.twoProducers()
				events := settled(5, 30)
				w.produce(events)
				for life := range 2 {
					w.diesAt(at.in(life))
					w.disk.Crash()
					if life == 1 {
						w.disk = state.NewMemDisk()
					}
				}
				r := w.start()
				w.delivered(r)
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				now := time.Now().UnixMilli()
				compareSteps(t, w.steps(now), reference(events, now))
				w.forwardedOnce()
			})
		})
	}
}

// forwardedOnce checks that no record of a feed was forwarded twice.
func (w *world) forwardedOnce() {
	w.t.Helper()
	seen := map[string]bool{}
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("reroute")) {
		h := r.Headers
		if h["ebb_reroute"] == "promise" {
			continue
		}
		from := fmt.Sprint(h["ebb_reroute"], " ", h["ebb_reroute_task"], " ", h["ebb_reroute_customer"], " ", h["ebb_reroute_path"], " ", r.Headers["ebb_source_topic"], "/", r.Headers["ebb_source_partition"], "/", r.Headers["ebb_source_offset"])
		if seen[from] {
			w.t.Errorf("%s was forwarded twice", from)
		}
		seen[from] = true
	}
	if len(seen) == 0 {
		w.t.Error("nothing was forwarded")
	}
}

// rekeyed makes payments a feed of n partitions whose key is the payment, not the customer.
func (w *world) rekeyed(n int32) {
	w.t.Helper()
	w.broker.DeleteTopic(w.t, w.topic("payments"))
	w.broker.CreateTopic(w.t, w.topic("payments"), n, nil)
	w.key = func(h happening) []byte {
		if h.feed == "payments" {
			return []byte(h.id)
		}
		return []byte(h.customer)
	}
	w.place = func(h happening) int32 {
		if h.feed == "payments" {
			return partition.Murmur2([]byte(h.id), n)
		}
		return w.partitionOf(h.customer)
	}
	before := w.adjust
	w.adjust = func(cfg *stream.Config) {
		before(cfg)
		cfg.Feeds[1].Reroute, cfg.Feeds[1].Mapping = true, &event.Mapping{Key: "ignore"}
	}
}

// A feed with another key and any number of partitions is divided among the tasks, and its records come where their customers are.
func TestAFeedWithAnotherKey(t *testing.T) {
	for _, n := range []int32{2, 3, 7} {
		t.Run(fmt.Sprintf("%d partitions", n), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), 3)
				w.rekeyed(n)
				events := settled(uint64(n), 30)
				w.produce(events)
				w.diesAt(beforeStep(txn.StepEnd), 5)
				w.disk.Crash()
				r := w.start()
				w.delivered(r)
				for _, s := range r.Status() {
					for _, f := range s.Feeds {
						if !f.Stalled.IsZero() {
							t.Errorf("partition %d: %s is stalled", s.Partition, f.Feed)
						}
					}
				}
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				now := time.Now().UnixMilli()
				compareSteps(t, w.steps(now), reference(events, now))
				w.forwardedOnce()
			})
		})
	}
}

// A feed with another count names the setting that allows it.
func TestAFeedWithAnotherCount(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 2)
	w.broker.DeleteTopic(t, w.topic("payments"))
	w.broker.CreateTopic(t, w.topic("payments"), 3, nil)
	r := w.start()
	err := <-r.done
	r.done <- err
	if !errors.Is(err, stream.ErrPartitionCount) || !strings.Contains(err.Error(), "reroute: true") {
		t.Errorf("%v", err)
	}
}
