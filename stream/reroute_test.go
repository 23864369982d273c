package stream_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ebb/stream/event"
	"ebb/stream/txn"

	"ebb/detectors/cohorts"
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
	t.Parallel()
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

// What was forwarded goes before a record of the task's own that waits for the cohorts of a day to be judged: the clock waits for it, and with that the day would never be over.
func TestForwardedRecordsGoBeforeWhatWaitsForTheSecondStage(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		const parts, days = 2, 20
		w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), parts)
		w.adjust = func(cfg *stream.Config) {
			w.reroutes(cfg)
			cfg.Cohorts = &cohorts.Config{FalseAlarms: 0.5, LeastMembers: 5, HoldBack: true}
		}
		w.place = func(h happening) int32 {
			if h.feed == "payments" {
				return (w.partitionOf(h.customer) + 1) % parts
			}
			return w.partitionOf(h.customer)
		}
		var events []happening
		begin := time.Now().Truncate(24*time.Hour).UnixMilli() - days*dayMs
		for d := range int64(days) {
			for c := range 8 {
				id, at := fmt.Sprintf("c-%d", c), begin+d*dayMs+int64(c)
				events = append(events,
					happening{feed: "usage", customer: id, at: at + dayMs/12, kind: "session", id: fmt.Sprintf("%s-u%d", id, d)},
					happening{feed: "payments", customer: id, at: at + dayMs - dayMs/48, kind: "purchase", cents: 1000, id: fmt.Sprintf("%s-p%d", id, d)})
			}
		}
		w.produce(events)
		r := w.start()
		w.delivered(r)
		if n := r.metric("ebb_models_missed_total"); n != 0 {
			t.Errorf("%v times the second stage was waited for in vain", n)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
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

// A task that stands still holds the others no longer than a feed that cannot be read, and holds their live records not at all.
func TestNobodyWaitsForAStoppedTaskForEver(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		events := settled(11, 40)
		w.produce(events)
		w.step = func(p int32, _ txn.Step) error {
			if p == 1 {
				return errKilled
			}
			return nil
		}
		r := w.start()
		nap(20 * time.Second)
		if n := len(w.alerts()); n != 0 {
			t.Errorf("%d alert steps before the other task was given up", n)
		}
		nap(20 * time.Second)
		if n := r.metric("ebb_reroute_given_up_total"); n != 1 {
			t.Errorf("%v tasks were given up, want the one that stopped", n)
		}
		mine := slices.DeleteFunc(events, func(h happening) bool { return w.partitionOf(h.customer) != 0 })
		now := time.Now().UnixMilli()
		compareSteps(t, w.steps(now), reference(mine, now))

		before := len(w.alerts())
		w.produce([]happening{{feed: "complaints", customer: w.customerOf(0, "late"), at: now, kind: "opened", ticket: "T", priority: "critical", id: "now"}})
		nap(300 * time.Millisecond)
		if n := len(w.alerts()); n != before+1 {
			t.Errorf("%d alert steps after a live event, want %d", n, before+1)
		}
		if err := r.stop(); err != nil {
			t.Log(err) // the stopped task has nothing to commit
		}
	})
}

// Who was silent and comes back while another task is held up is told of: his record waits until what others forward is known up to his deadline.
func TestASilenceThatEndsWhileATaskIsHeldUp(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.adjust = func(cfg *stream.Config) {
			smallCuts(cfg)
			w.reroutes(cfg)
			cfg.Time.MaxOutOfOrder, cfg.Time.FeedUnreachableAfter = time.Minute, 20*time.Minute
		}
		who, last := w.customerOf(0, "who"), time.Now().Add(-14*24*time.Hour+5*time.Minute).UnixMilli()
		event := func(at int64, id string) happening {
			return happening{feed: "usage", customer: who, at: at, kind: "session", id: id}
		}
		events := []happening{event(last-2*dayMs, "a"), event(last-dayMs, "b"), event(last, "c")}
		w.produce(events)
		r := w.start()
		nap(2 * time.Minute)
		var held atomic.Bool
		held.Store(true)
		w.step = func(p int32, _ txn.Step) error {
			if p == 1 && held.Load() {
				return errKilled
			}
			return nil
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r = w.start()
		nap(8 * time.Minute) // his deadline is over
		events = append(events, event(time.Now().UnixMilli(), "d"))
		w.produce(events[3:])
		nap(10 * time.Second)
		if n := len(w.alerts()); n != 0 {
			t.Errorf("%d alert steps before it is known what the other task forwards", n)
		}
		nap(30 * time.Minute) // it is given up
		now := time.Now().UnixMilli()
		compareSteps(t, w.steps(now), reference(events, now))
		if n := len(w.alerts()); n != 2 {
			t.Errorf("%d alert steps, want one that fires and one that resolves", n)
		}
		if err := r.stop(); err != nil {
			t.Log(err) // the stopped task has nothing to commit
		}
	})
}

// With no room for what is forwarded, records are applied before their turn, and counted; none is lost and none counts twice.
func TestNoRoomForForwardedRecords(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), 3)
		w.twoProducers()
		before := w.adjust
		w.adjust = func(cfg *stream.Config) {
			before(cfg)
			cfg.Reroute.Buffer = 1
		}
		events := settled(13, 30)
		w.produce(events)
		w.diesAt(beforeStep(txn.StepEnd), 7)
		w.disk.Crash()
		r := w.start()
		w.delivered(r)
		if r.metric("ebb_reroute_forced_total") == 0 {
			t.Error("no record was applied before its turn")
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		w.countedOnce(events)
		w.forwardedOnce()
	})
}

// A forwarded record that cannot be read is a dead letter that names where it first lay, and makes its customer blind where he is.
func TestBadRecordsAreForwarded(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		who, good := uses(w, 1, 20)
		w.produce(good)
		r := w.start()
		w.delivered(r) // a record without a time that can be trusted has no place among others: he has to be known before it comes
		w.broker.Produce(t, w.topic("usage"), kafkatest.Record{Partition: 0, Key: []byte(who), Value: []byte("{"), Headers: map[string]string{"ebb_source_offset": "17", "own": "kept"}})
		w.delivered(r)
		if !known(t, r, who).IsBlind() {
			t.Error("the customer of a bad record is not blind")
		}
		letters := w.broker.ReadCommitted(t, w.topic("dlq"))
		if len(letters) != 1 {
			t.Fatalf("%d dead letters: %+v", len(letters), letters)
		}
		for k, want := range map[string]string{"ebb_error_reason": "truncated", "ebb_source_topic": w.topic("usage"), "ebb_source_partition": "0", "ebb_source_offset": "0", "own": "kept"} {
			if got := letters[0].Headers[k]; got != want {
				t.Errorf("header %s is %q, want %q", k, got, want)
			}
		}
		if string(letters[0].Value) != "{" || string(letters[0].Key) != who {
			t.Errorf("the letter is %q of %q", letters[0].Value, letters[0].Key)
		}
	})
}

// A live record takes a moment to its task, and its alert with it.
func TestLiveRecordsAreForwardedAtOnce(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		r := w.start()
		w.joined(r)
		nap(5 * time.Second)
		w.place = func(happening) int32 { return 0 }
		at := time.Now().UnixMilli()
		w.produce([]happening{{feed: "complaints", customer: w.customerOf(1, "live"), at: at, kind: "opened", ticket: "T", priority: "critical", id: "now"}})
		nap(400 * time.Millisecond)
		if n := len(w.alerts()); n != 1 {
			t.Errorf("%d alert steps 400 ms after the event", n)
		}
		if n := r.metric("ebb_reroute_given_up_total"); n != 0 {
			t.Errorf("%v tasks were given up", n)
		}
	})
}

// Of a feed of profiles that is divided among the tasks every partition is applied, also where a task reads several.
func TestProfilesOfManyPartitions(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		const tasks, parts, customers = 2, 5, 300
		w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), tasks)
		w.broker.CreateTopic(t, w.topic("customers"), parts, nil)
		before := w.adjust
		w.adjust = func(cfg *stream.Config) {
			before(cfg)
			cfg.Feeds = append(cfg.Feeds, stream.FeedConfig{Feed: event.Customers, Topic: w.topic("customers"), Reroute: true})
		}
		at := time.Now().UnixMilli() - dayMs
		var profiles []kafkatest.Record
		var events []happening
		for c := range customers {
			id := fmt.Sprintf("c-%03d", c)
			profiles = append(profiles, kafkatest.Record{
				Partition: partition.Murmur2([]byte(id), parts), Key: []byte(id), Timestamp: at,
				Value: fmt.Appendf(nil, `{"id":"f-%d","customer_id":%q,"time":%q,"tier":"gold"}`, c, id, rfc3339(at)),
			})
			events = append(events, happening{feed: "usage", customer: id, at: at + int64(c), kind: "session", id: fmt.Sprint("u", c)})
		}
		w.broker.Produce(t, w.topic("customers"), profiles...)
		w.produce(events)
		r := w.start()
		w.delivered(r)
		nap(5 * time.Second)
		without := 0
		for _, e := range events {
			if p := known(t, r, e.customer).Profile(); p == nil || p.Tier != "gold" {
				without++
			}
		}
		if without != 0 {
			t.Errorf("%d of %d customers have no profile", without, customers)
		}
	})
}

// Partitions that are added to a feed which is divided among the tasks are not passed over: the tasks stop and name the mend, and after a restart read them too.
func TestAFeedWithAnotherKeyGrows(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.rekeyed(3)
		at := time.Now().UnixMilli() - dayMs
		w.produce([]happening{
			{feed: "payments", customer: "a", at: at, kind: "purchase", cents: 100, id: "p1"},
			{feed: "usage", customer: "a", at: at, kind: "session", id: "u1"},
		})
		r := w.start()
		w.delivered(r)
		w.addTo("payments", 5)
		w.place = func(happening) int32 { return 4 }
		w.produce([]happening{{feed: "payments", customer: "a", at: at + 1000, kind: "purchase", cents: 100, id: "p2"}})
		nap(time.Minute)
		for p := range w.parts {
			if s := r.task(p); s.State != "stopped" || !strings.Contains(s.Error, "5 partitions") || !strings.Contains(s.Error, "restart") {
				t.Errorf("task %d is %s: %s", p, s.State, s.Error)
			}
		}
		if err := r.stop(); err != nil {
			t.Log(err)
		}
		r = w.start()
		w.delivered(r)
		if got := spend(t, r, "a", "EUR"); got != 2*event.MoneyUnit {
			t.Errorf("spend is %s, want 2", got)
		}
		within(t, time.Minute, "an end of the stop", func() bool { return len(w.operations("task_stopped")) == 4 })
	})
}

// Where a feed that is divided among the tasks has none of its partitions for a task, that task commits none either, not even when it is the first that claims the changelog.
func TestATaskWithoutAPartitionOfAFeedClaimsTheChangelog(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.rekeyed(1)
		w.step = func(p int32, _ txn.Step) error {
			if p == 0 {
				return errKilled
			}
			return nil
		}
		r := w.start()
		within(t, time.Minute, "the other task at work", func() bool { return r.task(1).State == "running" })
		for p := range w.broker.GroupOffsets(t, w.group, w.topic("payments")) {
			if p > 0 {
				t.Errorf("an offset of partition %d is committed, and there is one partition", p)
			}
		}
		if err := r.stop(); err != nil {
			t.Log(err) // the stopped task has nothing to commit
		}
	})
}

// How far a task is behind with a feed counts all partitions that it reads of it, and a feed is shown once.
func TestLagOfADividedFeed(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		const records = 3000
		w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.rekeyed(2)
		w.place = func(h happening) int32 { return 0 }
		at := time.Now().UnixMilli() - dayMs
		var events []happening
		for i := range int64(records) {
			events = append(events, happening{feed: "payments", customer: "a", at: at + i, kind: "purchase", cents: 1, id: fmt.Sprint(i)})
		}
		w.produce(events)
		released, claimed := make(chan struct{}), false
		w.step = func(p int32, s txn.Step) error {
			if p == 0 && s == txn.StepEnd {
				if claimed {
					<-released
				}
				claimed = true
			}
			return nil
		}
		r := w.start()
		nap(20 * time.Second)
		if lag := r.metric("ebb_consumer_lag_records", "feed", "payments"); lag < records/2 {
			t.Errorf("the lag is shown as %v while no cut succeeds", lag)
		}
		shown := 0
		for _, f := range r.task(0).Feeds {
			if f.Feed == event.Payments {
				shown++
				if f.Lag < records/2 {
					t.Errorf("the status shows a lag of %d", f.Lag)
				}
			}
		}
		if shown != 1 {
			t.Errorf("the feed is shown %d times", shown)
		}
		close(released)
		w.delivered(r)
	})
}
