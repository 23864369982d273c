package stream_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"ebb/state"
	"ebb/stream"
	"ebb/stream/kafkatest"
)

// exports writes the state of a world into memory.
func (w *world) exports() []byte {
	w.t.Helper()
	var file bytes.Buffer
	err := w.upkeep(func(ctx context.Context, u *stream.Upkeep) error {
		x, err := u.Export(ctx, &file, func() error { return nil })
		if err == nil && (x.Customers == 0 || x.Tasks != int(w.parts) || x.Group != w.group) {
			w.t.Errorf("exported %+v", x)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return file.Bytes()
}

func imports(file []byte, at stream.Positions) func(context.Context, *stream.Upkeep) error {
	return func(ctx context.Context, u *stream.Upkeep) error {
		_, err := u.Import(ctx, bytes.NewReader(file), at)
		return err
	}
}

// openAlerts are the ids in the table of open alerts.
func (w *world) openAlerts() map[string]bool {
	w.t.Helper()
	open := map[string]bool{}
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("open")) {
		if open[string(r.Key)] = true; r.Value == nil {
			delete(open, string(r.Key))
		}
	}
	return open
}

// Moving to another cluster in the middle of a history changes no alert, whatever the numbers of partitions, and although the import is killed at each of its steps.
func TestMoveToAnotherCluster(t *testing.T) {
	long(t)
	for _, c := range []struct {
		name  string
		parts int32
		at    stream.From
	}{{"end", 3, stream.FromEnd}, {"more partitions", 5, stream.FromEnd}, {"fewer, with an overlap", 2, stream.FromTime}} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				before, after := halves(51, 40)
				ck := &clock{}
				old := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 3)
				old.group, old.adjust, old.now = "group", patient, ck.now
				old.produce(before)
				ck.set(before[len(before)-1].at)
				old.livesOn()
				file := old.exports()
				old.refusesToRun()

				w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), c.parts)
				w.group, w.adjust, w.now = "group", patient, ck.now
				overlap := before[len(before)-20:]
				w.produce(overlap) // the mirror has been running for a while
				at := stream.Positions{From: c.at, Time: time.UnixMilli(overlap[0].at)}
				if deaths := w.killedAtEachStep(imports(file, at), 10); deaths < 15 {
					t.Errorf("killed %d times only", deaths)
				}
				if want, got := old.openAlerts(), w.openAlerts(); !maps.Equal(want, got) || len(want) == 0 {
					t.Errorf("%d open alerts in the table, want %d", len(got), len(want))
				}
				w.produce(after)
				until := after[len(after)-1].at
				ck.set(until + dayMs)
				w.livesOn()
				compareSteps(t, append(old.steps(until), w.steps(until)...), reference(append(before, after...), until))
				w.inTheirPartitions()
				w.countedOnce(append(before, after...))
			})
		})
	}
}

// A move that is called off: the export is imported where it came from, and everything goes on. Nothing else is ever overwritten.
func TestMoveCalledOff(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		before, after := halves(52, 30)
		ck := &clock{}
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.group, w.adjust, w.now = "group", patient, ck.now
		w.produce(before)
		ck.set(before[len(before)-1].at)
		w.livesOn()
		older := w.exports()
		file := w.exports()
		same := stream.Positions{From: stream.FromSame}
		if err := w.upkeep(imports(older, same)); err == nil || !strings.Contains(err.Error(), "holds a state already") {
			t.Errorf("another export: %v", err)
		}
		if err := w.upkeep(imports(file, same)); err != nil {
			t.Fatal(err)
		}
		written := w.broker.EndOffsets(t, w.topic("changelog"))
		if err := w.upkeep(imports(file, same)); err != nil {
			t.Errorf("a second time: %v", err)
		}
		if now := w.broker.EndOffsets(t, w.topic("changelog")); !maps.Equal(now, written) {
			t.Errorf("the second import wrote: the changelog ends at %v, before at %v", now, written)
		}
		w.produce(after)
		until := after[len(after)-1].at
		ck.set(until + dayMs)
		w.livesOn()
		compareSteps(t, w.steps(until), reference(append(before, after...), until))
	})
}

// A file that is cut off, changed or no export at all is refused before anything is written; so is one of another group.
func TestImportRefuses(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		before, _ := halves(53, 10)
		old := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		old.group, old.adjust = "group", patient
		old.produce(before)
		old.livesOn()
		file := old.exports()
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.group, w.adjust, w.disk = "group", patient, state.NewMemDisk()
		plan := func(file []byte) error {
			return w.upkeep(func(ctx context.Context, u *stream.Upkeep) error {
				_, err := u.PlanImport(ctx, bytes.NewReader(file), stream.Positions{From: stream.FromEnd})
				return err
			})
		}
		if err := plan(file); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 5, 9, 40, len(file) / 2, len(file) - 33, len(file) - 1} {
			if err := plan(file[:n]); !errors.Is(err, stream.ErrExport) {
				t.Errorf("cut off at %d of %d: %v", n, len(file), err)
			}
		}
		for at := 200; at < len(file); at += len(file) / 40 {
			broken := bytes.Clone(file)
			broken[at] ^= 0x10
			if err := plan(broken); err == nil {
				t.Errorf("byte %d of %d was changed and nobody saw it", at, len(file))
			}
		}
		if err := plan(append(bytes.Clone(file), 0)); !errors.Is(err, stream.ErrExport) {
			t.Errorf("a byte too many: %v", err)
		}
		w.group = "other"
		if err := plan(file); err == nil || !strings.Contains(err.Error(), `set `+"`group: group`") {
			t.Errorf("another group: %v", err)
		}
		if n := len(w.broker.ReadAll(t, w.topic("changelog"))); n != 0 {
			t.Errorf("%d records were written", n)
		}
	})
}
