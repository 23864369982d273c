package stream_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"ebb/stream"
	"ebb/stream/kafkatest"
)

// backed are settings with standby copies, and with small ones that count as behind.
func backed(standby int) func(*stream.Config) {
	return func(cfg *stream.Config) {
		smallCuts(cfg)
		cfg.Membership.Standby, cfg.Membership.AcceptableLag = standby, 20
	}
}

// working are the partitions that an instance is at work with.
func (r *running) working() (parts []int32) {
	for _, s := range r.Status() {
		if s.State == "running" {
			parts = append(parts, s.Partition)
		}
	}
	return parts
}

// virtually waits in virtual time until cond holds, and says how long that took.
func virtually(t *testing.T, what string, cond func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for range 6000 {
		if cond() {
			return time.Since(began)
		}
		nap(50 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
	return 0
}

// served says that every partition is at work somewhere.
func (w *world) served(all ...*running) func() bool {
	return func() bool {
		n := 0
		for _, r := range all {
			n += len(r.working())
		}
		return n == int(w.parts)
	}
}

// shared says that every instance has its part of the work, and that there are so many copies of each partition, all current.
func (w *world) shared(standby int, all ...*running) func() bool {
	return func() bool {
		copies := 0.0
		for _, r := range all {
			if copies += r.metric("ebb_standby_partitions"); len(r.working()) != int(w.parts)/len(all) || r.metric("ebb_standby_lag_records") != 0 {
				return false
			}
		}
		return copies == float64(standby)*float64(w.parts)
	}
}

func (w *world) stopAll(all ...*running) {
	w.t.Helper()
	for _, r := range all {
		if err := r.stop(); err != nil {
			w.t.Error(err)
		}
	}
}

// visits are signs of life of every customer of a crowd, now.
func visits(n int, what string) (events []happening) {
	now := time.Now().UnixMilli()
	for i := range n {
		id := fmt.Sprintf("c-%03d", i)
		events = append(events, happening{feed: "usage", customer: id, at: now + int64(i), kind: "session", id: what + "-" + id})
	}
	return events
}

// backedUp is a world with copies and customers, an instance of it that dies with its power, and what the customers did.
func backedUp(t *testing.T, parts int32) (w, dies *world, p *power, events []happening) {
	t.Helper()
	w = newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), parts)
	w.group, w.adjust = "group", backed(1)
	events = settled(5, 60)
	w.produce(events)
	other := *w
	other.disk, other.member = w.twin().disk, noMember()
	return w, &other, newPower(&other), events
}

// The copy of a dead instance's partitions takes over by replaying what it has not yet: not the whole changelog.
func TestAStandbyTakesOver(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w, dies, p, events := backedUp(t, 4)
		a, b := dies.start(), w.start()
		virtually(t, "both have work and copies", w.shared(1, a, b))
		w.virtuallyCaughtUp()
		nap(10 * time.Second)
		before := b.metric("ebb_restored_records_total")
		_ = p.cut()
		a.kill()
		took := virtually(t, "all is served", w.served(b))
		if session := w.config().Membership.Session; took > session+2*time.Second {
			t.Errorf("served again after %v, the session is %v", took, session)
		}
		if n := b.metric("ebb_restored_records_total") - before; n > 20 {
			t.Errorf("%v records were replayed for a take-over by a copy that was current", n)
		}
		if n := b.metric("ebb_standby_partitions"); n != 0 {
			t.Errorf("%v copies are left at the only member", n)
		}
		events = append(events, visits(60, "after")...)
		w.produce(events[len(events)-60:])
		w.virtuallyCaughtUp()
		w.stopAll(b)
		now := time.Now().UnixMilli()
		compareSteps(t, w.steps(now), reference(events, now))
	})
}

// The disk hangs while a copy is written, and meanwhile the partition comes to the instance of the copy. The task opens the store when the copy has
// closed it: two that have it open would write over each other's values.
func TestACopyIsClosedBeforeATaskOpensIt(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w, dies, p, events := backedUp(t, 2)
		var hangs atomic.Bool
		w.disk.Shape(1000, func() {
			if hangs.Load() {
				nap(20 * time.Second)
			}
		})
		a, b := dies.start(), w.start()
		virtually(t, "both have work and copies", w.shared(1, a, b))
		w.virtuallyCaughtUp()
		hangs.Store(true)
		events = append(events, visits(60, "news")...)
		w.produce(events[len(events)-60:])
		nap(6 * time.Second) // within five a copy begins to write what is new
		_ = p.cut()
		a.kill()
		virtually(t, "all is served", w.served(b))
		hangs.Store(false)
		w.virtuallyCaughtUp()
		w.stopAll(b)
		if n := w.disk.Overlaps(); n != 0 {
			t.Errorf("%d stores were opened while they were open", n)
		}
		now := time.Now().UnixMilli()
		compareSteps(t, w.steps(now), reference(events, now))
	})
}

// A new instance gets partitions once it has made itself a copy of them; until then they are served where they are, and the tasks that
// stay are never opened anew.
func TestAJoinMovesWhatIsWarm(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 4)
		w.group, w.adjust = "group", backed(0)
		events := settled(6, 60)
		w.produce(events)
		a := w.start()
		virtually(t, "all is served", w.served(a))
		w.virtuallyCaughtUp()
		slow := w.twin()
		slow.adjust = func(cfg *stream.Config) {
			backed(0)(cfg)
			cfg.Restore.BytesPerSecond = 200
		}
		b := slow.start()
		virtually(t, "it makes itself copies", func() bool { return b.metric("ebb_standby_partitions") == 2 && b.metric("ebb_standby_lag_records") > 0 })
		for range 20 {
			if !w.served(a)() {
				t.Fatalf("served are %v while the copies are made", a.working())
			}
			nap(100 * time.Millisecond)
		}
		took := virtually(t, "the work is shared", func() bool { return len(b.working()) == 2 && len(a.working()) == 2 })
		if took < 10*time.Second {
			t.Errorf("the copies were made within %v: the reading is not slowed", took)
		}
		if n := a.log.count("task is open"); n != 4 {
			t.Errorf("tasks were opened %d times where there were 4 all the time", n)
		}
		w.stopAll(a, b)
		now := time.Now().UnixMilli()
		compareSteps(t, w.steps(now), reference(events, now))
	})
}

// Three instances are exchanged one after the other. No partition is without an owner for longer than a hand-over takes, each comes back to
// work, and nothing is lost or doubled.
func TestARollingRestart(t *testing.T) {
	long(t)
	for _, standby := range []int{0, 1} {
		t.Run(fmt.Sprintf("standby %d", standby), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 6)
				w.group, w.adjust = "group", backed(standby)
				events := settled(7, 60)
				w.produce(events)
				worlds := []*world{w, w.twin(), w.twin()}
				var all []*running
				for _, v := range worlds {
					all = append(all, v.start())
				}
				virtually(t, "all have work", w.shared(standby, all...))
				for i, v := range worlds {
					events = append(events, visits(60, fmt.Sprint("before ", i))...)
					w.produce(events[len(events)-60:])
					rest := slices.Delete(slices.Clone(all), i, i+1)
					w.stopAll(all[i])
					if took := virtually(t, "the others serve all", w.served(rest...)); took > 2*time.Second {
						t.Errorf("partitions of instance %d were handed over within %v", i, took)
					}
					all[i] = v.start()
					virtually(t, "all have work again", w.shared(standby, all...))
				}
				w.virtuallyCaughtUp()
				w.stopAll(all...)
				now := time.Now().UnixMilli()
				compareSteps(t, w.steps(now), reference(events, now))
			})
		})
	}
}
