package state

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ebb/state/customer"
)

func encodedRecord(n int64) []byte {
	var e Entry
	bump(&e, n)
	e.Record.Deadline, e.Record.Armed = year2026+n*HourMillis, year2026+n*HourMillis
	return customer.AppendRecord(nil, &e.Record)
}

// A deadline earlier than all that the store held is found after a crash at any transaction of the write that brings it, when the changelog is
// replayed: the record may be there already, and say that its entry is too.
func TestAnEarlierDeadlineSurvivesAWriteCutOff(t *testing.T) {
	for n := 1; n <= 6; n++ {
		for _, synced := range []bool{false, true} {
			disk := NewMemDisk()
			disk.Shape(1, nil)
			s := NewMemory(disk)
			b := &Batch{}
			b.Set("far", encodedRecord(90))
			b.Arm(customer.EncodedDeadline(encodedRecord(90)), "far")
			b.DropDue(Hour(year2026) + 50)
			b.SetPosition(1)
			must(t, s.Write(b))
			replay := func(s Store) error {
				r := NewRestorer(s)
				must(t, r.Apply([]byte("near"), encodedRecord(3), 1))
				return r.Finish(2)
			}
			disk.CrashIn(n, synced)
			if err := replay(s); err != nil && !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
			disk.Crash()
			s = NewMemory(disk)
			must(t, replay(s))
			if got, _ := due(t, s, 0, 10); len(got) < 2 || got[0].id != "near" || got[len(got)-1].id != "far" {
				t.Errorf("crash at %d synced %v: due are %v", n, synced, got)
			}
		}
	}
}

// The same holds without a crash, when the disk runs down to its reserve in the middle of that write and has room again later.
func TestAnEarlierDeadlineSurvivesAWriteThatWaits(t *testing.T) {
	for n := 1; n <= 6; n++ {
		disk := NewMemDisk()
		s := NewMemory(disk)
		b := &Batch{}
		b.Set("far", encodedRecord(90))
		b.Arm(customer.EncodedDeadline(encodedRecord(90)), "far")
		b.DropDue(Hour(year2026) + 50)
		b.SetPosition(1)
		must(t, s.Write(b))
		r := NewRestorer(s)
		must(t, r.Apply([]byte("near"), encodedRecord(3), 1))
		kept, err := r.Keep(2)
		must(t, err)
		o := newOverlay(s, kept)
		left := n
		disk.Shape(1, func() {
			left--
			disk.Fill(left == 0)
		})
		if err := o.Write(&Batch{}); err != nil && !errors.Is(err, ErrDiskReserve) {
			t.Fatal(err)
		}
		disk.Shape(1, nil)
		disk.Fill(false)
		must(t, o.Write(&Batch{}))
		if got, _ := due(t, o, 0, 10); len(got) < 2 || got[0].id != "near" || got[len(got)-1].id != "far" {
			t.Errorf("refused after %d transactions: due are %v", n, got)
		}
	}
}

// Nor does a floor that a refused write had raised already hide what the next write brings, wherever that is cut off.
func TestAFloorThatARefusedWriteRaisedHidesNothing(t *testing.T) {
	for refused := range 8 {
		for crash := range 8 {
			disk := NewMemDisk()
			s := NewMemory(disk)
			far := func(below, next int64) *Batch {
				b := &Batch{}
				b.Set("far", encodedRecord(90))
				b.Arm(customer.EncodedDeadline(encodedRecord(90)), "far")
				b.DropDue(Hour(year2026) + below)
				b.SetPosition(next)
				return b
			}
			must(t, s.Write(far(40, 1)))
			left := refused + 1
			disk.Shape(1, func() {
				left--
				disk.Fill(left == 0)
			})
			if err := s.Write(far(50, 2)); err != nil && !errors.Is(err, ErrDiskReserve) {
				t.Fatal(err)
			}
			disk.Shape(1, nil)
			disk.Fill(false)
			b := far(50, 3)
			b.Set("near", encodedRecord(45))
			b.Arm(customer.EncodedDeadline(encodedRecord(45)), "near")
			disk.CrashIn(crash+1, true)
			if err := s.Write(b); err != nil && !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
			disk.Crash()
			s = NewMemory(disk)
			r := NewRestorer(s)
			must(t, r.Apply([]byte("near"), encodedRecord(45), 2))
			must(t, r.Finish(3))
			if got, _ := due(t, s, 0, 10); len(got) < 2 || got[0].id != "near" {
				t.Errorf("refused after %d, crash at %d: due are %v", refused+1, crash+1, got)
			}
		}
	}
}

// Killed at any transaction, a restore goes on where it was and ends with what the changelog says.
func TestRestoreIsResumable(t *testing.T) {
	const records, customers = 4000, 600
	key := func(i int) []byte { return []byte(fmt.Sprintf("c%04d", i*7%customers)) }
	value := func(i int) []byte {
		if i%13 == 0 {
			return nil
		}
		return encodedRecord(int64(i + 1))
	}
	for kill := 1; kill < 40; kill += 3 {
		disk := NewMemDisk()
		disk.CrashIn(kill, kill%2 == 0)
		for {
			store := NewMemory(disk)
			from, err := store.Position()
			must(t, err)
			r := NewRestorer(store)
			r.MemoryBytes = 20_000
			for i := from; i < records && err == nil; i++ {
				err = r.Apply(key(int(i)), value(int(i)), i)
			}
			if err == nil {
				err = r.Apply([]byte("\x00task"), []byte("task"), records)
			}
			if err == nil {
				err = r.Finish(records + 5)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, ErrClosed) || !disk.Crashed() {
				t.Fatal(err)
			}
		}
		want := map[string]string{}
		for i := range records {
			want[string(key(i))] = string(value(i))
		}
		store := NewMemory(disk)
		if p, _ := store.Position(); p != records+5 {
			t.Fatalf("position %d", p)
		}
		if m, _ := store.Meta(MetaTask); string(m) != "task" {
			t.Errorf("task record %q", m)
		}
		armed := map[string]bool{}
		_, err := store.Due(0, 1<<30, func(at int64, id []byte) error {
			armed[fmt.Sprint(at, string(id))] = true
			return nil
		})
		must(t, err)
		must(t, store.Scan(func(id, v []byte) error {
			if want[string(id)] != string(v) {
				t.Errorf("%s differs from the changelog", id)
			}
			delete(want, string(id))
			if at := customer.EncodedDeadline(v); !armed[fmt.Sprint(at, string(id))] {
				t.Errorf("%s is armed at %d without a timer entry", id, at)
			}
			return nil
		}))
		for id, v := range want {
			if v != "" {
				t.Errorf("%s is missing", id)
			}
		}
	}
}

// A record that cannot be read stops nobody who has written a tombstone for its key, however much lies between, and is not passed over before.
func TestATombstoneMendsARecordThatCannotBeRead(t *testing.T) {
	for _, mended := range []bool{false, true} {
		disk := NewMemDisk()
		replay := func() error {
			s := NewMemory(disk)
			r := NewRestorer(s)
			r.MemoryBytes = 20_000
			from, err := s.Position()
			must(t, err)
			if from > 100 {
				t.Fatalf("the store is at %d, beyond the record that cannot be read", from)
			}
			for i := from; i < 3000; i++ {
				key, value := fmt.Appendf(nil, "c-%d", i), encodedRecord(i)
				if i == 100 {
					key, value = []byte("bad"), []byte{255}
				}
				if err := r.Apply(key, value, i); err != nil {
					return err
				}
			}
			if mended {
				must(t, r.Apply([]byte("bad"), nil, 3000))
			}
			return r.Finish(3001)
		}
		for life := range 2 {
			var bad *UnreadableError
			switch err := replay(); {
			case mended:
				must(t, err)
				if p, _ := NewMemory(disk).Position(); p != 3001 {
					t.Errorf("the store is at %d", p)
				}
				if ids, _ := contents(t, NewMemory(disk)); len(ids) != 2999 {
					t.Errorf("%d customers", len(ids))
				}
			case !errors.As(err, &bad) || bad.Offset != 100:
				t.Errorf("life %d: %v", life, err)
			}
			disk.Crash()
			if mended {
				break
			}
		}
	}
}

func TestRestoreRefusesARecordWithoutKey(t *testing.T) {
	if err := NewRestorer(NewMemory(NewMemDisk())).Apply(nil, []byte("v"), 3); err == nil {
		t.Error("a changelog record without a key was passed over")
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	tab := NewTable(NewMemory(NewMemDisk()), TableOptions{Metrics: m.Task(3)})
	e, err := tab.Get([]byte("a"))
	must(t, err)
	tab.Changed(e)
	tab.Commit(tab.BeginCut(), 1, nil)
	must(t, tab.Drain(t.Context()))
	if n := testutil.CollectAndCount(m.entries); n != 1 {
		t.Errorf("%d series of one task", n)
	}
	if n := testutil.ToFloat64(m.flushedKeys); n != 1 {
		t.Errorf("%v customers flushed", n)
	}
	o := dirOptions()
	o.Metrics, o.Store.ReserveBytes, o.Store.Free = m, 10, func(string) (int64, error) { return 5, nil }
	d, err := OpenDir(t.TempDir(), o)
	must(t, err)
	const shown = "# HELP ebb_disk_reserve_active 1 while the local store is not written because free space is below the reserve.\n" +
		"# TYPE ebb_disk_reserve_active gauge\nebb_disk_reserve_active 1\n"
	must(t, testutil.GatherAndCompare(reg, strings.NewReader(shown), "ebb_disk_reserve_active"))
	problems, err := testutil.GatherAndLint(reg)
	must(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	must(t, d.Close())
	tab.Close()
	if n, _ := testutil.GatherAndCount(reg, "ebb_disk_free_bytes"); n != 0 {
		t.Error("the disk is watched after its directory was closed")
	}
	if n := testutil.CollectAndCount(m.entries); n != 0 {
		t.Errorf("%d series after the task is gone", n)
	}
}
