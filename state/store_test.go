package state

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ebb/state/customer"
)

// eachStore runs a test on both engines. reopen closes the store and opens it again.
func eachStore(t *testing.T, test func(t *testing.T, open func() Store)) {
	t.Run("memory", func(t *testing.T) {
		disk := NewMemDisk()
		test(t, func() Store { return NewMemory(disk) })
	})
	t.Run("badger", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "p")
		test(t, func() Store {
			s, err := OpenBadger(dir, Options{MemtableBytes: 2 << 20})
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type dueEntry struct {
	at int64
	id string
}

func due(t *testing.T, s Store, from int64, limit int) ([]dueEntry, int64) {
	t.Helper()
	var got []dueEntry
	next, err := s.Due(from, limit, func(at int64, id []byte) error {
		got = append(got, dueEntry{at, string(id)})
		return nil
	})
	must(t, err)
	return got, next
}

func TestStoreKeepsWhatItIsGiven(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() Store) {
		s := open()
		if p, err := s.Position(); p != 0 || err != nil {
			t.Fatalf("an empty store is at 0, got %d, %v", p, err)
		}
		if m, err := s.Meta(MetaTask); m != nil || err != nil {
			t.Fatalf("an empty store has no task record, got %q, %v", m, err)
		}
		b := &Batch{}
		b.Set("a", []byte("one"))
		b.Set("b", []byte("two"))
		b.SetMeta(MetaTask, []byte("task"))
		b.SetPosition(7)
		must(t, s.Write(b))
		b = &Batch{}
		b.Set("a", nil)
		b.Set("c", []byte("three"))
		must(t, s.Write(b))
		must(t, s.Close())
		s = open()
		defer s.Close()
		if _, err := s.Get(nil, []byte("a")); !errors.Is(err, ErrNotFound) {
			t.Errorf("a removed customer is not found, got %v", err)
		}
		if v, err := s.Get([]byte("x"), []byte("b")); string(v) != "xtwo" || err != nil {
			t.Errorf("Get appends: %q, %v", v, err)
		}
		if p, _ := s.Position(); p != 7 {
			t.Errorf("a batch without a position leaves it, got %d", p)
		}
		if m, _ := s.Meta(MetaTask); string(m) != "task" {
			t.Errorf("task record %q", m)
		}
		var all []string
		must(t, s.Scan(func(id, value []byte) error {
			all = append(all, string(id)+"="+string(value))
			return nil
		}))
		if want := []string{"b=two", "c=three"}; !slices.Equal(all, want) {
			t.Errorf("Scan gives customers in order and nothing else: %q, want %q", all, want)
		}
	})
}

func TestStoreTimerBuckets(t *testing.T) {
	const h = HourMillis
	eachStore(t, func(t *testing.T, open func() Store) {
		s := open()
		b := &Batch{}
		b.Arm(5*h+2, "b")
		b.Arm(9*h, "far")
		b.Arm(5*h+1, "c")
		b.Arm(5*h+2, "a")
		must(t, s.Write(b))
		got, next := due(t, s, 0, 1)
		slices.SortFunc(got, func(a, b dueEntry) int { return cmp.Compare(a.id, b.id) })
		if want := []dueEntry{{5*h + 2, "a"}, {5*h + 2, "b"}, {5*h + 1, "c"}}; !slices.Equal(got, want) || next != 9 {
			t.Errorf("whole buckets up to the limit: %v next %d, want %v next 9", got, next, want)
		}
		if got, next = due(t, s, 6, 10); len(got) != 1 || next != NoHour {
			t.Errorf("buckets from an hour on: %v next %d", got, next)
		}
		// Dropping a bucket leaves what the same batch adds to it, under keys of its own.
		b = &Batch{}
		b.Arm(5*h+7, "d")
		b.DropDue(6)
		must(t, s.Write(b))
		must(t, s.Close())
		s = open()
		if got, _ = due(t, s, 0, 10); !slices.Equal(got, []dueEntry{{5*h + 7, "d"}, {9 * h, "far"}}) {
			t.Errorf("after dropping hours before 6: %v", got)
		}
		// A bucket before the floor is found again.
		b = &Batch{}
		b.DropDue(8)
		must(t, s.Write(b))
		b = &Batch{}
		b.Arm(3*h, "late")
		must(t, s.Write(b))
		must(t, s.Close())
		s = open()
		defer s.Close()
		if got, _ = due(t, s, 0, 10); !slices.Equal(got, []dueEntry{{3 * h, "late"}, {9 * h, "far"}}) {
			t.Errorf("after an entry before the floor: %v", got)
		}
	})
}

func TestStoreWritesBatchesLargerThanATransaction(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() Store) {
		s := open()
		rng := rand.New(rand.NewPCG(1, 2))
		b := &Batch{}
		want := map[string][]byte{}
		for i := range 3000 {
			id := fmt.Sprintf("customer-%05d", i)
			v := make([]byte, 1+rng.IntN(200))
			if i%500 == 0 {
				v = make([]byte, 256<<10) // the largest record there is
			}
			v[0] = byte(i)
			want[id] = v
			b.Set(id, v)
			b.Arm(int64(rng.IntN(50))*HourMillis, id)
		}
		b.SetPosition(3000)
		must(t, s.Write(b))
		must(t, s.Close())
		s = open()
		defer s.Close()
		n := 0
		must(t, s.Scan(func(id, value []byte) error {
			n++
			if !bytes.Equal(want[string(id)], value) {
				t.Errorf("%s: %d bytes, want %d", id, len(value), len(want[string(id)]))
			}
			return nil
		}))
		timers, _ := due(t, s, 0, 1<<30)
		if p, _ := s.Position(); n != len(want) || len(timers) != 3000 || p != 3000 {
			t.Errorf("%d customers, %d timers, position %d", n, len(timers), p)
		}
	})
}

// Killed at any transaction of a batch, before or after its sync: the position stays behind, timer
// pieces of the next opening do not replace those that are there, and writing again repairs everything.
func TestStoreCrashInTheMiddleOfABatch(t *testing.T) {
	batch := func(from int) *Batch {
		b := &Batch{}
		for i := from; i < from+2500; i++ {
			id := fmt.Sprintf("c%05d", i)
			b.Set(id, []byte("v"))
			b.Arm(int64(i%3)*HourMillis, id)
		}
		b.SetPosition(int64(from + 2500))
		return b
	}
	for n := 1; n <= 3; n++ { // the batch takes three transactions
		for _, synced := range []bool{false, true} {
			disk := NewMemDisk()
			s := NewMemory(disk)
			disk.CrashIn(n, synced)
			if err := s.Write(batch(0)); !errors.Is(err, ErrClosed) {
				t.Fatalf("crash at %d: %v", n, err)
			}
			s = NewMemory(disk)
			p, err := s.Position()
			must(t, err)
			count := 0
			must(t, s.Scan(func(_, _ []byte) error { count++; return nil }))
			if p != 0 && count != 2500 {
				t.Errorf("crash at %d synced %v: position %d with %d of 2500 customers", n, synced, p, count)
			}
			before, _ := due(t, s, 0, 1<<30)
			must(t, s.Write(batch(10_000)))
			after, _ := due(t, s, 0, 1<<30)
			if len(after) != len(before)+2500 {
				t.Errorf("crash at %d synced %v: %d timer entries before the second batch, %d after", n, synced, len(before), len(after))
			}
		}
	}
}

func TestStoreRefusesToTouchTheReserve(t *testing.T) {
	free := int64(10 << 30)
	s, err := OpenBadger(filepath.Join(t.TempDir(), "p"), Options{
		MemtableBytes: 2 << 20, ReserveBytes: 1 << 30,
		Free: func(string) (int64, error) { return free, nil },
	})
	must(t, err)
	defer s.Close()
	b := &Batch{}
	b.Set("a", []byte("v"))
	b.SetPosition(1)
	free = 1<<30 - 1
	if err := s.Write(b); !errors.Is(err, ErrDiskReserve) {
		t.Fatalf("below the reserve: %v", err)
	}
	if _, err := s.Get(nil, []byte("a")); !errors.Is(err, ErrNotFound) {
		t.Fatalf("nothing was written: %v", err)
	}
	free = 1 << 30
	must(t, s.Write(b))
	if p, _ := s.Position(); p != 1 {
		t.Fatalf("the same batch goes through later: position %d", p)
	}
}

// What is written after a write that the reserve refused is not written over by the next opening.
func TestTimersAfterARefusedWriteAreNotWrittenOver(t *testing.T) {
	disk := NewMemDisk()
	write := func(s Store, id string, next int64) error {
		b := &Batch{}
		b.Arm(year2026, id)
		b.SetPosition(next)
		return s.Write(b)
	}
	s := NewMemory(disk)
	disk.Fill(true)
	if err := write(s, "a", 1); !errors.Is(err, ErrDiskReserve) {
		t.Fatal(err)
	}
	disk.Fill(false)
	must(t, write(s, "a", 1))
	disk.Crash()
	s = NewMemory(disk)
	must(t, write(s, "b", 2))
	must(t, write(s, "c", 3))
	if got, _ := due(t, s, 0, 10); len(got) != 3 {
		t.Errorf("due are %v, want all three customers", got)
	}
}

func TestOpenRefusesADiskWithoutRoom(t *testing.T) {
	_, err := OpenBadger(filepath.Join(t.TempDir(), "p"), Options{
		ReserveBytes: 1 << 30, Free: func(string) (int64, error) { return 1 << 20, nil },
	})
	if !errors.Is(err, ErrDiskReserve) {
		t.Fatalf("a full disk ends the process inside Badger, so opening must not begin: %v", err)
	}
}

func TestCloseEndsAWriteAtItsNextTransaction(t *testing.T) {
	e := &slowEngine{engine: &memEngine{disk: NewMemDisk()}, entered: make(chan struct{}), release: make(chan struct{})}
	e.engine.(*memEngine).disk.stores[0] = &memFile{data: map[string][]byte{}}
	s, err := openStore(e, nil)
	must(t, err)
	b := &Batch{}
	for i := range 2500 {
		b.Set(fmt.Sprint(i), []byte("v"))
	}
	b.SetPosition(1)
	written := make(chan error)
	go func() { written <- s.Write(b) }()
	<-e.entered
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	for !s.stop.Load() {
		select {
		case <-closed:
			t.Fatal("Close returned during a transaction")
		default:
		}
	}
	e.release <- struct{}{}
	if err := <-written; !errors.Is(err, ErrClosed) {
		t.Errorf("the write ends early: %v", err)
	}
	must(t, <-closed)
	must(t, s.Close())
}

// Who waits for a write to end lets virtual time go on, or the write would never end: simulated disks are slow.
func TestWhoWaitsForAWriteDoesNotHoldUpTheTime(t *testing.T) {
	for name, wait := range map[string]func(s, same Store) error{
		"a write":   func(s, _ Store) error { b := &Batch{}; b.Set("b", []byte("v")); return s.Write(b) },
		"an end":    func(s, _ Store) error { return s.Close() },
		"a restore": func(_, over Store) error { b := &Batch{}; b.Set("b", []byte("v")); return over.Write(b) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := NewMemDisk()
				disk.Shape(1, func() { time.Sleep(time.Second) })
				s := NewMemory(disk)
				r := NewRestorer(s)
				must(t, r.Apply([]byte("a"), encodedRecord(1), 0))
				replayed, err := r.Keep(1)
				must(t, err)
				over := newOverlay(s, replayed)
				written := make(chan error)
				go func() { b := &Batch{}; b.Set("c", []byte("v")); written <- over.Write(b) }()
				time.Sleep(time.Second / 2)
				must(t, wait(s, over))
				if err := <-written; err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				must(t, s.Close())
			})
		})
	}
}

// slowEngine stops in the middle of every transaction.
type slowEngine struct {
	engine
	entered, release chan struct{}
}

func (e *slowEngine) commit(ops []op) error {
	e.entered <- struct{}{}
	<-e.release
	return e.engine.commit(ops)
}

// Badger must run in a virtual-time bubble: simulated hours of a whole task rely on it.
func TestBadgerInVirtualTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := OpenBadger(dir, Options{})
		must(t, err)
		tab := NewTable(s, TableOptions{FlushAge: time.Minute})
		begin := time.Now()
		for i := range 120 {
			e, err := tab.Get([]byte(fmt.Sprintf("c%d", i%7)))
			must(t, err)
			bump(e, int64(i+1))
			tab.Arm(e, int64(i+1)*HourMillis)
			tab.Changed(e)
			tab.Commit(tab.BeginCut(), int64(i+1), []byte("task"))
			must(t, tab.Maintain(time.Now()))
			time.Sleep(time.Minute)
		}
		if p, err := s.Position(); p < 100 || err != nil {
			t.Errorf("written behind every minute: position %d of 120, %v", p, err)
		}
		must(t, tab.Drain(t.Context()))
		if p, _ := s.Position(); p != 120 {
			t.Errorf("after Drain the store is caught up: position %d", p)
		}
		if d := time.Since(begin); d < 2*time.Hour {
			t.Errorf("%v of virtual time", d)
		}
		tab.Close()
		must(t, s.Close())
	})
}

func FuzzTimerBucket(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(appendTimer(nil, 3, Timer{3*HourMillis + 17, "c-1"}))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		err := eachTimer(3, b, func(at int64, id []byte) error {
			if Hour(at) != 3 {
				t.Errorf("entry at %d in bucket 3", at)
			}
			again = appendTimer(again, 3, Timer{at, string(id)})
			return nil
		})
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("error %v", err)
		}
		if err == nil && len(again) > len(b) {
			t.Errorf("%d bytes decode into what takes %d", len(b), len(again))
		}
	})
}

// What a power cut would show: every transaction is synced, and the largest record stays beside its
// key and fits in a transaction, with the smallest buffers too.
func TestBadgerOptionsThatDurabilityRestsOn(t *testing.T) {
	for _, size := range []int64{1, 0, 1 << 40} {
		o := Options{MemtableBytes: size}
		o.setDefaults()
		b := badgerOptions(t.TempDir(), &o)
		if !b.SyncWrites || b.NumCompactors < 2 {
			t.Errorf("memtables of %d: sync %v, %d compactors", b.MemTableSize, b.SyncWrites, b.NumCompactors)
		}
		if largest := int64(customer.MaxEncoded); b.ValueThreshold <= largest || b.MemTableSize*15/100*9/10 <= largest+1024 {
			t.Errorf("memtables of %d: a record of %d bytes has no place", b.MemTableSize, largest)
		}
	}
}
