package stream_test

import (
	"testing"
	"time"

	"ebb/state"
	"ebb/stream"
	"ebb/stream/kafkatest"
)

// A restore that is slowed says how far it is, and one that is cut off goes on near where it was.
func TestASlowRestoreKeepsItsPlace(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.group, w.adjust = "group", smallCuts
		events := settled(8, 150)
		w.produce(events)
		r := w.start()
		w.virtuallyCaughtUp()
		w.stopAll(r)

		w.disk = state.NewMemDisk()
		w.adjust = func(cfg *stream.Config) {
			smallCuts(cfg)
			cfg.Restore.BytesPerSecond = 1000
		}
		r = w.start()
		var before stream.TaskStatus
		virtually(t, "it restores", func() bool {
			before = r.task(0)
			return before.State == "restoring" && before.Replay > 0 && before.Remaining < before.Replay
		})
		nap(50 * time.Second)
		after := r.task(0)
		if after.State != "restoring" || after.Remaining >= before.Remaining || after.Replay != before.Replay {
			t.Fatalf("after 50 s it is %s, %d of %d to go; it was %d", after.State, after.Remaining, after.Replay, before.Remaining)
		}
		if n := r.log.count("restoring from the changelog"); n < 3 || n > 12 {
			t.Errorf("progress was told %d times in 50 s", n)
		}
		if n := r.metric("ebb_restore_remaining_records"); int64(n) > before.Remaining || n == 0 {
			t.Errorf("the metric says that %v are to go", n)
		}
		first := r.metric("ebb_restored_records_total")
		r.kill()
		w.disk.Crash()
		r = w.start()
		began := time.Now()
		virtually(t, "it is at work", func() bool { return len(r.working()) == 1 })
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("the rest took %v: it is not slowed", took)
		}
		if n := r.metric("ebb_restored_records_total"); int64(n) >= after.Replay-int64(first)/3 {
			t.Errorf("%v of %d records were read again after %v had been read", n, after.Replay, first)
		}
		events = append(events, visits(150, "after")...)
		w.produce(events[len(events)-150:])
		w.virtuallyCaughtUp()
		w.stopAll(r)
		now := time.Now().UnixMilli()
		compareSteps(t, w.steps(now), reference(events, now))
	})
}
