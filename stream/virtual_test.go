package stream_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"ebb/state"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
	"ebb/stream/partition"
)

// seeds runs f in virtual time with n seeds, or with as many as EBB_SIMULATION_SEEDS says, beginning at EBB_SIMULATION_FROM.
func seeds(t *testing.T, n int, f func(t *testing.T, seed uint64)) { //nolint:thelper // f is the test
	t.Helper()
	from := number(t, "EBB_SIMULATION_FROM", 1)
	for seed := from; seed < from+number(t, "EBB_SIMULATION_SEEDS", uint64(n)); seed++ {
		ok := t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { f(t, seed) })
		})
		if !ok {
			t.Logf("again: EBB_SIMULATION_FROM=%d EBB_SIMULATION_SEEDS=1 go test ./stream -run '^%s$'", seed, t.Name())
		}
	}
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// unhurried are settings with which hours pass without much to do.
func unhurried(cfg *stream.Config) {
	cfg.Fetch.MaxWait = 30 * time.Second
	cfg.Membership = stream.GroupConfig{Session: 2 * time.Minute, Rebalance: 2 * time.Minute, Heartbeat: 30 * time.Second, Drain: 2 * time.Second}
}

// lifeWorld is a crowd of which days lie behind and the rest ahead: its past is in the topics, its future happens by itself.
func lifeWorld(t *testing.T, events []happening) (w *world, done <-chan struct{}) {
	t.Helper()
	w = newWorld(t, kafkatest.Virtual(t, kafkatest.Options{Brokers: 3}), 2)
	w.group, w.adjust = "group", unhurried
	return w, w.live(events)
}

// live produces what lies in the past, and then every event at its time.
func (w *world) live(events []happening) <-chan struct{} {
	w.t.Helper()
	now := time.Now().UnixMilli()
	n, _ := slices.BinarySearchFunc(events, now+1, func(e happening, at int64) int { return int(min(max(e.at-at, -1), 1)) })
	w.produce(events[:n])
	return w.happen(events[n:])
}

// happen produces every event at its time.
func (w *world) happen(events []happening) <-chan struct{} {
	cl := w.broker.Client(w.t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, e := range events {
			until(e.at)
			r := &kgo.Record{
				Topic: w.topic(e.feed), Partition: partition.Murmur2([]byte(e.customer), w.parts), Key: []byte(e.customer), Value: e.json(),
				Timestamp: time.UnixMilli(e.at),
			}
			if err := cl.ProduceSync(context.Background(), r).FirstErr(); err != nil {
				w.t.Errorf("produce: %v", err)
				return
			}
		}
	}()
	return done
}

func until(ms int64) { nap(time.Until(time.UnixMilli(ms))) }

// lives is a crowd with two months behind it and half a day ahead.
func lives(seed uint64, n int) (events []happening, end int64) {
	start := time.Now().AddDate(0, 0, -60)
	events = crowd(seed, n, 61, start)
	end = time.Now().Add(12 * time.Hour).UnixMilli()
	for i := range 11 {
		// Two whose fortnight ends in an hour of their own; one of them is back a minute before.
		due := time.Now().Add(time.Duration(i+1) * time.Hour).UnixMilli()
		gone, back := fmt.Sprintf("gone-%d", i), fmt.Sprintf("back-%d", i)
		events = append(
			events, happening{feed: "usage", customer: gone, at: due - 14*dayMs, kind: "session", id: gone},
			happening{feed: "usage", customer: back, at: due - 14*dayMs, kind: "session", id: back},
			happening{feed: "payments", customer: back, at: due - 60_000, kind: "purchase", cents: 1000, id: back + "-again"},
		)
	}
	slices.SortStableFunc(events, func(a, b happening) int { return int(min(max(a.at-b.at, -1), 1)) })
	return slices.DeleteFunc(events, func(e happening) bool { return e.at > end }), end
}

// judged compares all that was due by the end with the reference, after giving the last deadlines the time they need.
func (w *world) judged(events []happening, end int64, all ...*running) {
	w.t.Helper()
	until(end + time.Minute.Milliseconds())
	w.virtuallyCaughtUp()
	for _, r := range all {
		if err := r.stop(); err != nil {
			w.t.Error(err)
		}
	}
	want := reference(events, end)
	compareSteps(w.t, w.steps(end), want)
	born := end - (12 * time.Hour).Milliseconds()
	live := 0
	for _, s := range want {
		if s.at > born && s.detector == "silence" && s.status == "firing" {
			live++
		}
	}
	if live < 11 {
		w.t.Errorf("%d fell silent in half a day", live)
	}
}

// Deadlines pass by the clock alone, at their own times, although nothing happens then.
func TestACrowdLivesForDays(t *testing.T) {
	long(t)
	seeds(t, 2, func(t *testing.T, seed uint64) {
		events, end := lives(seed, 80)
		w, done := lifeWorld(t, events)
		r := w.start()
		<-done
		w.judged(events, end, r)
	})
}

// Instances are killed and come back after up to two hours and a half, with their local copy or without it.
func TestACrowdLivesOnWhileNobodyLooks(t *testing.T) {
	long(t)
	seeds(t, 2, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 3))
		events, end := lives(seed, 80)
		w, done := lifeWorld(t, events)
		for {
			p := newPower(w)
			r := w.start()
			awake := time.Duration(1+rng.IntN(200)) * time.Minute
			if time.Now().Add(awake).UnixMilli() >= end {
				<-done
				w.judged(events, end, r)
				return
			}
			nap(awake)
			_ = p.cut()
			r.kill()
			if w.disk.Crash(); rng.IntN(2) == 0 {
				w.disk = state.NewMemDisk()
			}
			nap(time.Duration(rng.IntN(150)) * time.Minute)
		}
	})
}

// What happened while the process was frozen, or while it could not reach the broker, is seen before any deadline of that time is
// decided.
func TestTheWorldGoesOnWithoutUs(t *testing.T) {
	long(t)
	for _, how := range []string{"frozen", "cut off"} {
		t.Run(how, func(t *testing.T) {
			seeds(t, 1, func(t *testing.T, seed uint64) {
				events, end := lives(seed, 80)
				w, done := lifeWorld(t, events)
				net := newWire(w.broker.Dial)
				w.dial, w.now, w.tick = net.open, net.now, net.now
				r := w.start()
				for range 3 {
					nap(time.Hour)
					if how == "frozen" {
						net.freeze()
						nap(3 * time.Hour)
						net.thaw()
						continue
					}
					net.pull()
					nap(3 * time.Hour)
					net.plug()
				}
				<-done
				w.judged(events, end, r)
			})
		})
	}
}

// An answer that was on its way for seconds says that a feed was read to its end when it was asked for, not when it came: what happened in between is
// read before a deadline of that time is decided.
func TestALateAnswerProvesNoSilence(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.group = "group"
		net := newWire(w.broker.Dial)
		w.dial, w.now, w.tick = net.open, net.now, net.now
		due := time.Now().Add(time.Minute).UnixMilli()
		done := w.live([]happening{
			{feed: "usage", customer: "c", at: due - 14*dayMs, kind: "session", id: "before"},
			{feed: "usage", customer: "c", at: due - 1000, kind: "session", id: "just in time"},
		})
		r := w.start()
		until(due - 2000)
		net.freeze()
		until(due + 2500)
		net.thaw()
		<-done
		w.settled(r)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		for _, a := range w.alerts() {
			t.Errorf("told was %s %s of %s at %s", a.Detector, a.Step, a.Customer, a.Time)
		}
	})
}

// The same events give the same alerts, with the same ids, however they are cut into batches and spread over partitions and instances.
func TestTheSameEventsGiveTheSameAlerts(t *testing.T) {
	long(t)
	type variant struct {
		name      string
		parts     int32
		portion   int
		instances int
		restarts  int
		adjust    func(*stream.Config)
	}
	all := []variant{
		{name: "all at once", parts: 1, instances: 1},
		{name: "small batches", parts: 1, portion: 7, instances: 1, adjust: smallCuts},
		{name: "every few events a cut", parts: 2, portion: 3, instances: 1, adjust: func(c *stream.Config) { smallCuts(c); c.Cut.MaxEvents = 5 }},
		{name: "small memory", parts: 2, portion: 50, instances: 1, adjust: func(c *stream.Config) { c.Cache, c.Cut.MaxBytes = 4<<10, 8<<10 }},
		{name: "five partitions", parts: 5, instances: 1, restarts: 3, adjust: smallCuts},
		{name: "two instances", parts: 5, portion: 20, instances: 2, adjust: smallCuts},
		{name: "three instances, restarted", parts: 5, portion: 20, instances: 3, restarts: 2, adjust: smallCuts},
	}
	seeds(t, 2, func(t *testing.T, seed uint64) {
		events := settled(seed, 40)
		now := time.Now().UnixMilli()
		var want []string
		for _, v := range all {
			w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), v.parts)
			w.group, w.adjust, w.portion = "group", v.adjust, v.portion
			w.produce(events)
			first, others := w.start(), []*running(nil)
			for range v.instances - 1 {
				others = append(others, w.twin().start())
			}
			for range v.restarts {
				nap(700 * time.Millisecond)
				first.kill()
				w.disk.Crash()
				first = w.start()
			}
			w.virtuallyCaughtUp()
			for _, r := range append(others, first) {
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			}
			compareSteps(t, w.steps(now), reference(events, now))
			ids := slices.Sorted(maps.Keys(w.outcome().alerts))
			if want == nil {
				want = ids
			}
			if !slices.Equal(ids, want) {
				t.Errorf("%s: %d alert steps with other ids than %d of the first way", v.name, len(ids), len(want))
			}
		}
	})
}

// A profile is applied on arrival, but what it makes ebb ask is answered at the task's clock: the other feeds are not known any further.
func TestAProfileDoesNotRunAhead(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.broker.CreateTopic(t, w.topic("customers"), 1, nil)
		w.adjust = func(cfg *stream.Config) {
			unhurried(cfg)
			cfg.Feeds = append(cfg.Feeds, stream.FeedConfig{Feed: event.Customers, Topic: w.topic("customers")})
		}
		r := w.start()
		w.joined(r)
		use := func(from int64, days int) (events []happening) {
			for i := range days * 500 {
				events = append(events, happening{
					feed: "usage", customer: fmt.Sprintf("c-%d", i%3), at: from + int64(i)*dayMs/500, kind: "session", id: fmt.Sprintf("%d-%d", from, i),
				})
			}
			return events
		}
		now := time.Now().UnixMilli()
		w.produce(use(now-dayMs, 1))
		nap(time.Minute)
		w.virtuallyCaughtUp()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		nap(30 * 24 * time.Hour)
		w.produce(use(now, 30))
		var profiles []kafkatest.Record
		for i := range 1000 {
			at := time.Now().UnixMilli()
			id := fmt.Sprintf("c-%d", i%3)
			profiles = append(profiles, kafkatest.Record{
				Key: []byte(id), Timestamp: at,
				Value: fmt.Appendf(nil, `{"id":"f-%d","customer_id":%q,"time":%q,"tier":"gold"}`, i, id, time.UnixMilli(at).UTC().Format(time.RFC3339)),
			})
		}
		w.broker.Produce(t, w.topic("customers"), profiles...)
		r = w.start()
		nap(time.Minute)
		w.virtuallyCaughtUp()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		for _, s := range w.steps(time.Now().UnixMilli()) {
			t.Errorf("of customers who were there every hour: %s", s)
		}
	})
}

// Who comes back in a history, longer after his last event than customers are remembered, is a new customer. What forgets him is decided on the way
// to that very event, which must not go with him.
func TestWhoWasForgottenComesBack(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.group, w.adjust = "group", unhurried
		now := time.Now().UnixMilli()
		back := now - 60_000
		w.produce([]happening{
			{feed: "usage", customer: "c", at: now - 900*dayMs, kind: "session", id: "long ago"},
			{feed: "usage", customer: "c", at: back, kind: "session", id: "back"},
		})
		w.livesOn()
		rec := customer.Record{ID: "c"}
		for _, r := range w.broker.ReadCommitted(t, w.topic("changelog")) {
			if string(r.Key) != "c" {
				continue
			}
			if r.Value == nil {
				rec = customer.Record{ID: "c"}
			} else if err := customer.DecodeRecord(r.Value, &rec); err != nil {
				t.Fatal(err)
			}
		}
		if rec.First != back || rec.LastActivity != back {
			t.Errorf("he is known from %s to %s, want one event at %s", rfc3339(rec.First), rfc3339(rec.LastActivity), rfc3339(back))
		}
	})
}
