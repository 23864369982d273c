package stream_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"ebb/detectors"
	"ebb/stream"
	"ebb/stream/kafkatest"
)

// buyer spends an amount every other day; since a day, a tenth of it.
func buyer(id string, from, to, less int64, cents int64) (events []happening) {
	for at := from; at < to; at += 2 * dayMs {
		h := happening{feed: "payments", customer: id, at: at, kind: "purchase", cents: cents, id: fmt.Sprintf("p-%s-%d", id, at)}
		if at >= less {
			h.cents /= 10
		}
		events = append(events, h)
	}
	return events
}

// keeping sets the length of the windows, and of the two that spend_drop compares.
func (w *world) keeping(kept, baseline int) {
	w.adjust = func(cfg *stream.Config) {
		patient(cfg)
		cfg.Customer.KeptDays = kept
	}
	w.rules = func(c *detectors.Config) { c.KeptDays, c.SpendDrop.BaselineDays = kept, baseline }
}

// Windows that are made longer hold less than they should at first: the rule that needs them neither ends an alert nor begins one until they are filled, or the state is
// computed anew. Windows that are made shorter are cut, and what fits into them goes on.
func TestWindowsOfAnotherLength(t *testing.T) {
	t.Parallel()
	long(t)
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.group = "group"
		now := time.Now()
		w.now = func() time.Time { return now }
		at := func(day int64) int64 { return now.UnixMilli() + day*dayMs }
		run := func(until int64, loud bool) map[string]alert {
			now = time.UnixMilli(until)
			if loud {
				w.runsUntilLoud()
			} else {
				w.livesOn()
			}
			open := map[string]alert{}
			newest, _ := w.newest()
			for _, a := range newest {
				if a.Status == "firing" {
					open[a.Customer+" "+a.Detector] = a
				}
			}
			return open
		}
		// The first buys less before the windows change, the second while they are filled, the third never does.
		start, first := at(-160), at(0)
		all := slices.Concat(buyer("c-0", start, at(160), at(-12), 20_00), buyer("c-1", start, at(160), at(10), 20_00), buyer("c-2", start, at(160), at(900), 20_00))
		slices.SortStableFunc(all, func(a, b happening) int { return int(min(max(a.at-b.at, -1), 1)) })
		part := func(from, to int64) (out []happening) {
			for _, e := range all {
				if e.at >= from && e.at < to {
					out = append(out, e)
				}
			}
			return out
		}
		day := func(n int64) int64 { return first + n*dayMs }

		w.keeping(91, 28)
		w.produce(part(start, day(0)))
		if open := run(day(0), false); len(open) != 1 || open["c-0 spend_drop"].AlertID == "" {
			t.Fatalf("open at first: %v", open)
		}
		w.keeping(200, 150)
		w.produce(part(day(0), day(20)))
		open := run(day(20), false)
		if len(open) != 1 || open["c-0 spend_drop"].AlertID == "" {
			t.Errorf("while the longer windows are filled: %v", open)
		}
		told := open["c-0 spend_drop"]
		if err := w.upkeep(rewindTo(time.UnixMilli(start))); err != nil {
			t.Fatal(err)
		}
		open = run(day(20), true)
		if len(open) != 2 || open["c-0 spend_drop"] != told || open["c-1 spend_drop"].AlertID == "" {
			t.Errorf("computed anew: %v, want c-0 as it was and c-1", open)
		}
		w.keeping(91, 28)
		w.produce(part(day(20), day(40)))
		if open = run(day(40), false); len(open) > 2 || open["c-2 spend_drop"].AlertID != "" {
			t.Errorf("with shorter windows: %v", open)
		}
		w.countsDays(91)
	})
}

// countsDays checks that no customer keeps more days than the windows hold.
func (w *world) countsDays(kept int32) {
	w.t.Helper()
	r := w.start()
	defer func() { _ = r.stop() }()
	kafkatest.Eventually(w.t, "tasks at work", func() error {
		for p := range w.parts {
			if s := r.task(p); s.State != "running" {
				return fmt.Errorf("partition %d is %s", p, s.State)
			}
		}
		return nil
	})
	for i := range 3 {
		rec, err := r.Customer(w.t.Context(), fmt.Sprintf("c-%d", i))
		if err != nil {
			w.t.Fatal(err)
		}
		if n := len(rec.Spend); n == 0 || rec.Spend[n-1].Day()-rec.Spend[0].Day() >= kept {
			w.t.Errorf("c-%d keeps %d days of spend", i, n)
		}
	}
}
