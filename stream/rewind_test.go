package stream_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/kafkatest"
)

func rewindTo(to time.Time) func(context.Context, *stream.Upkeep) error {
	return func(ctx context.Context, u *stream.Upkeep) error {
		_, err := u.Rewind(ctx, to)
		return err
	}
}

// runsUntilLoud runs until the quiet history has ended everywhere.
func (w *world) runsUntilLoud() {
	w.t.Helper()
	r := w.start()
	w.caughtUp()
	kafkatest.Eventually(w.t, "end of the quiet history", func() error {
		for p := range w.parts {
			if s := r.task(p); s.State != "running" || s.Quiet {
				return fmt.Errorf("partition %d is %s, quiet %v", p, s.State, s.Quiet)
			}
		}
		return nil
	})
	if err := r.stop(); err != nil {
		w.t.Fatal(err)
	}
}

// Computed anew from the same history, everything is as it was, and nobody hears of it, although the command and the replay are killed on the way.
func TestRewind(t *testing.T) {
	t.Parallel()
	long(t)
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.group, w.adjust, w.portion = "group", patient, 25
		events := settled(41, 40)
		w.produce(events)
		w.livesOn()
		want := w.outcome()
		if len(want.open) < 10 {
			t.Fatalf("%d open alerts do not show much", len(want.open))
		}
		from := time.UnixMilli(events[0].at)
		if deaths := w.killedAtEachStep(rewindTo(from), 10); deaths < 15 {
			t.Errorf("killed %d times only", deaths)
		}
		w.diesAt(beforeStep(0), 2) // in the replay
		w.disk.Crash()
		w.runsUntilLoud()
		got := w.outcome()
		sameEntries(t, "alert step", got.alerts, want.alerts)
		sameEntries(t, "open alert", got.open, want.open)
		sameEntries(t, "customer", readable(t, got.customers), readable(t, want.customers))
		compareSteps(t, w.steps(time.Now().UnixMilli()), reference(events, time.Now().UnixMilli()))
	})
}

// readable are customers without the timers' own business, an entry may be armed earlier than its deadline, and without the time of the last step, which a
// quiet history does not count.
func readable(t *testing.T, customers map[string]string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for id, value := range customers {
		var r customer.Record
		if err := customer.DecodeRecord([]byte(value), &r); err != nil {
			t.Fatal(err)
		}
		r.Armed, r.Decided = 0, 0
		out[id] = string(customer.AppendRecord(nil, &r)) + fmt.Sprint(r.Deadline, r.Lifecycles)
	}
	return out
}

// newest is the last step of every alert, and how many steps it has.
func (w *world) newest() (map[string]alert, map[string]int) {
	w.t.Helper()
	newest, steps := map[string]alert{}, map[string]int{}
	for _, a := range w.alerts() {
		steps[a.AlertID]++
		if a.Revision > newest[a.AlertID].Revision {
			newest[a.AlertID] = a
		}
	}
	return newest, steps
}

// After a rewind with other rules, what was told and does not fire by them is resolved as refuted, what goes on stays as it was told, and what is new is told once.
func TestRewindWithOtherRules(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.group, w.adjust, w.portion = "group", patient, 25
		w.rules = func(c *detectors.Config) { c.SpendDrop.Enabled = false }
		events := settled(43, 60)
		w.produce(events)
		w.livesOn()
		before, _ := w.newest()
		w.rules = func(c *detectors.Config) { c.Silence.After, c.ComplaintUnresolved.Enabled = 30*detectors.Day, false }
		if err := w.upkeep(rewindTo(time.UnixMilli(events[0].at))); err != nil {
			t.Fatal(err)
		}
		w.runsUntilLoud()
		after, steps := w.newest()
		now := time.Now().UnixMilli()
		silent := map[string]bool{} // by the new rule
		last := map[string]int64{}
		for _, e := range events {
			if isActivity(e) {
				last[e.customer] = e.at
			}
		}
		for id, at := range last {
			silent[id] = now-at >= 30*dayMs
		}
		counts := map[string]int{}
		for id, a := range after {
			old, told := before[id]
			switch {
			case told && old.Status == "resolved":
				if a != old {
					t.Errorf("a resolved alert has another step: %+v", a)
				}
			case told && a.Detector == "complaint_unresolved":
				counts["removed"]++
				if a.Status != "resolved" || a.Reason != "rule_removed" {
					t.Errorf("%+v", a)
				}
			case told && silent[a.Customer]:
				counts["goes on"]++
				if a != old {
					t.Errorf("%+v was told as %+v", a, old)
				}
			case told:
				counts["refuted"]++
				if a.Status != "resolved" || a.Reason != "corrected_by_late_data" {
					t.Errorf("%+v", a)
				}
			default:
				counts["new "+a.Detector]++
				if steps[id] != 1 || a.Step != "fired" {
					t.Errorf("%+v in %d steps", a, steps[id])
				}
			}
		}
		for _, kind := range []string{"removed", "goes on", "refuted", "new spend_drop"} {
			if counts[kind] == 0 {
				t.Errorf("no alert of kind %s: %v", kind, counts)
			}
		}
		if counts["new silence"] != 0 {
			t.Errorf("%d silences were told again under another id", counts["new silence"])
		}
		w.tableIs(after)
	})
}

// tableIs checks that the table of open alerts holds the alerts that are firing.
func (w *world) tableIs(newest map[string]alert) {
	w.t.Helper()
	want, got := map[string]bool{}, map[string]bool{}
	for id, a := range newest {
		if a.Status == "firing" {
			want[id] = true
		}
	}
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("open")) {
		var a alert
		if r.Value == nil {
			delete(got, string(r.Key))
		} else if err := json.Unmarshal(r.Value, &a); err != nil || a.AlertID != string(r.Key) {
			w.t.Errorf("%s: %s %v", r.Key, r.Value, err)
		} else {
			got[a.AlertID] = true
		}
	}
	if !maps.Equal(got, want) {
		w.t.Errorf("the table holds %v, want %v", got, want)
	}
}

// Who is not in the history any more is forgotten, and his alert expires.
func TestRewindToALaterTime(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.group, w.adjust, w.portion = "group", patient, 25
		events := settled(44, 60)
		w.produce(events)
		w.livesOn()
		before, _ := w.newest()
		to := time.UnixMilli(events[len(events)*3/4].at)
		err := w.upkeep(func(ctx context.Context, u *stream.Upkeep) error {
			p, err := u.PlanRewind(ctx, to)
			if err == nil && (p.Open == 0 || p.Older == 0 || p.Older >= p.Open || p.Records == 0 || p.Changed) {
				t.Errorf("planned %+v", p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.upkeep(rewindTo(to)); err != nil {
			t.Fatal(err)
		}
		w.runsUntilLoud()
		seen := map[string]bool{}
		for _, e := range events {
			if e.at >= to.UnixMilli() {
				seen[e.customer] = true
			}
		}
		after, _ := w.newest()
		expired := 0
		for id, old := range before {
			if a := after[id]; old.Status == "firing" && !seen[old.Customer] {
				expired++
				if a.Status != "resolved" || a.Reason != "expired" || a.Revision != old.Revision+1 {
					t.Errorf("%+v after %+v", a, old)
				}
			}
		}
		if expired == 0 {
			t.Error("nobody was forgotten")
		}
		for id, value := range w.outcome().customers {
			var rec customer.Record
			if err := customer.DecodeRecord([]byte(value), &rec); err != nil {
				t.Fatal(err)
			}
			if !seen[id] && (rec.First != 0 || rec.LastFired() == 0 || rec.Deadline != rec.LastFired()+800*dayMs) {
				t.Errorf("of %s more is known than when alerts fired, or for longer: %+v", id, rec)
			}
		}
		w.tableIs(after)
	})
}

// A second stage that was forgotten somewhere cannot tell anything any more, as little as a task.
func TestTheSecondStageIsFencedToo(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.group, w.adjust, w.portion = "group", patient, 25
		events := settled(45, 5)
		w.produce(events)
		w.livesOn()
		cl := w.broker.Client(t, kgo.TransactionalID("group-facts"))
		defer cl.Close()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: w.topic("operations"), Value: []byte(`{"detector":"feed_stalled"}`)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := w.upkeep(rewindTo(time.UnixMilli(events[0].at))); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err == nil {
			t.Error("it could still commit")
		}
		if got := w.operations(); len(got) != 0 {
			t.Errorf("told was %v", got)
		}
	})
}
