package stream_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"ebb/state"
	"ebb/stream"
	"ebb/stream/kafkatest"
)

// left is a history of which half of the customers left long ago and a few lately. It ends now.
func left(n int) (events []happening, gone, lately map[string]int64) {
	now := time.Now().UnixMilli()
	gone, lately = map[string]int64{}, map[string]int64{}
	for c := range n {
		id := fmt.Sprintf("c-%03d", c)
		last := now - int64(c%40)*3_600_000
		switch {
		case c%2 == 0:
			last = now - (50+int64(c%60))*dayMs
			gone[id] = last
		case c%50 == 1:
			last = now - 20*dayMs - int64(c)*60_000
			lately[id] = last
		}
		for at := last; at > now-150*dayMs; at -= 4 * dayMs {
			events = append(events, happening{feed: "usage", customer: id, at: at, kind: "session", id: fmt.Sprintf("u-%s-%d", id, at)})
		}
	}
	slices.SortStableFunc(events, func(a, b happening) int { return int(min(max(a.at-b.at, -1), 1)) })
	return events, gone, lately
}

func quietly(c *stream.Config) { c.Quiet = true }

// firedOnce checks that exactly the silences of the given customers are published, each once and at the time at which it began to be one.
func (w *world) firedOnce(want map[string]int64) {
	w.t.Helper()
	got := map[string]bool{}
	for _, a := range w.alerts() {
		last, ok := want[a.Customer]
		if !ok || a.Detector != "silence" || a.Step != "fired" || got[a.Customer] {
			w.t.Errorf("published %s %s of %s", a.Detector, a.Step, a.Customer)
			continue
		}
		got[a.Customer] = true
		if a.Time.UnixMilli() != last+14*dayMs {
			w.t.Errorf("the alert of %s bears %s, want %s", a.Customer, a.Time, rfc3339(last+14*dayMs))
		}
	}
	for id := range want {
		if !got[id] {
			w.t.Errorf("nothing published of %s", id)
		}
	}
}

// A first start on history publishes who left lately, once and at the time it was, and not who left long ago, whatever is killed on the way.
func TestQuietHistory(t *testing.T) {
	long(t)
	events, gone, lately := left(300)
	for _, c := range []struct {
		name  string
		kills int
	}{{"undisturbed", 0}, {"killed on the way", 4}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 2)
			w.adjust = quietly
			w.produceInOrder(events)
			total := w.lag()
			for k := range int64(c.kills) {
				r := w.start()
				kafkatest.Eventually(t, "some progress", func() error {
					if n := w.lag(); n > total*(int64(c.kills)-k)/int64(c.kills+1) {
						return fmt.Errorf("%d of %d", n, total)
					}
					return nil
				})
				r.kill()
				w.disk.Crash()
				if k == 2 {
					w.disk = state.NewMemDisk()
				}
			}
			r := w.start()
			w.settled(r)
			loud := func() error {
				for p := range w.parts {
					if r.task(p).Quiet {
						return fmt.Errorf("partition %d is quiet", p)
					}
				}
				return nil
			}
			kafkatest.Eventually(t, "end of the quiet history", loud)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			w.firedOnce(lately)

			r = w.start() // a second start is no first one
			w.settled(r)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			w.firedOnce(lately)

			// Who comes back after all is no news either, but is watched again.
			now := time.Now().UnixMilli()
			var back []happening
			for id := range gone {
				back = append(back, happening{feed: "usage", customer: id, at: now, kind: "session", id: "back-" + id})
			}
			w.produceInOrder(back)
			ck := &clock{}
			w.now = ck.now
			w.adjust = func(c *stream.Config) { quietly(c); c.Stall.Expected = 1e9 }
			r = w.start()
			w.settled(r)
			w.firedOnce(lately)
			ck.skip(15 * 24 * time.Hour)
			w.settled(r)
			again := map[string]bool{}
			for _, a := range w.alerts() {
				if a.Step == "fired" && a.Time.UnixMilli() > now {
					again[a.Customer] = true
				}
			}
			for id := range gone {
				if !again[id] {
					t.Errorf("%s came back and left again unnoticed", id)
				}
			}
		})
	}
}

// What is published at the end of a quiet history is cut into bounded transactions.
func TestQuietHistoryEndsInBoundedCuts(t *testing.T) {
	events, _, lately := left(600)
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	w.adjust = func(c *stream.Config) {
		quietly(c)
		c.Cut.MaxBytes = 4096
	}
	w.produceInOrder(events)
	r := w.start()
	kafkatest.Eventually(t, "end of the quiet history", func() error {
		if s := r.task(0); s.State != "running" || s.Quiet {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.firedOnce(lately)
}

// With history: publish everything is news.
func TestPublishedHistory(t *testing.T) {
	events, gone, lately := left(60)
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	w.produceInOrder(events)
	r := w.start()
	w.settled(r)
	maps.Copy(gone, lately)
	w.firedOnce(gone)
}

// The end of a history is durable, though nothing else may change with it: who was the last to be looked at has been forgotten.
func TestTheEndOfAQuietHistoryIsDurable(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.adjust = func(cfg *stream.Config) {
			cfg.Quiet, cfg.Stall.Expected = true, 1e9
			cfg.Cut.MaxBytes = 1 // a cut for each alert that is told
		}
		now := time.Now().UnixMilli()
		var events []happening
		for c := range 21 {
			at := now - 1100*dayMs
			if c == 20 {
				at = now - 20*dayMs
			}
			events = append(events, happening{feed: "usage", customer: fmt.Sprintf("c-%02d", c), at: at + int64(c), kind: "session", id: fmt.Sprint(c)})
		}
		w.produce(events)
		r := w.start()
		w.joined(r)
		nap(5 * time.Minute)
		r.kill()
		w.firedOnce(map[string]int64{"c-20": events[20].at})
		var at stream.TaskRecord
		for _, rec := range w.broker.ReadCommitted(t, w.topic("changelog")) {
			if string(rec.Key) != stream.TaskKey {
				continue
			}
			var err error
			if at, err = stream.ReadTaskRecord(rec.Value); err != nil {
				t.Fatal(err)
			}
		}
		if at.Quiet {
			t.Errorf("the history has no end: %+v", at)
		}
	})
}
