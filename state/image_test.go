package state

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"ebb/state/customer"
)

func TestImageAgainstAMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, prefix := range []string{"", "c-", "a-rather-long-common-beginning-"} {
		m, want := newImage(), map[string]string{}
		for i := range 20_000 {
			id := fmt.Sprintf("%s%d", prefix, rng.IntN(3000))
			var value []byte
			if rng.IntN(10) > 0 {
				value = bytes.Repeat([]byte{byte(1 + i%250)}, 1+rng.IntN(300))
			}
			if i == 7000 {
				value = make([]byte, maxChunk+5)
			}
			m.set([]byte(id), value)
			want[id] = string(value)
			if m.wasteful() {
				m = m.compacted()
			}
		}
		if m.n != len(want) {
			t.Errorf("%d customers, want %d", m.n, len(want))
		}
		got := 0
		m.each(func(id, value []byte) bool {
			if got++; want[string(id)] != string(value) || (value == nil) != (want[string(id)] == "") {
				t.Errorf("%s has a value of %d bytes, want %d", id, len(value), len(want[string(id)]))
			}
			return true
		})
		if got != len(want) {
			t.Errorf("went through %d customers of %d", got, len(want))
		}
		var ids []string
		for _, k := range m.sorted() {
			id, _ := m.at(k.chunk, k.off)
			ids = append(ids, string(id))
		}
		if !slices.IsSorted(ids) || len(ids) != len(want) {
			t.Errorf("%d ids, in order: %v", len(ids), slices.IsSorted(ids))
		}
		if _, ok := m.get([]byte(prefix + "nobody")); ok {
			t.Error("found a customer who is not there")
		}
		if m.bytes() > 4*m.live {
			t.Errorf("%d bytes for %d that count", m.bytes(), m.live)
		}
	}
}

// restoredOf replays customers a to b, each armed in an hour of his own, and keeps them.
func restoredOf(t *testing.T, s Store, from, to, next int64) *Restored {
	t.Helper()
	r := NewRestorer(s)
	for i := from; i < to; i++ {
		must(t, r.Apply(fmt.Appendf(nil, "c-%05d", i), encodedRecord(i), i))
	}
	must(t, r.Apply([]byte("\x00task"), fmt.Appendf(nil, "task at %d", next), next-1))
	kept, err := r.Keep(next)
	must(t, err)
	return kept
}

// contents are all customers of a store and all timer entries, read in portions.
func contents(t *testing.T, s Store) (customers map[string]string, timers map[string]bool) {
	t.Helper()
	customers, timers = map[string]string{}, map[string]bool{}
	must(t, s.Scan(func(id, value []byte) error {
		if _, twice := customers[string(id)]; twice {
			t.Errorf("%s twice", id)
		}
		customers[string(id)] = string(value)
		return nil
	}))
	for hour := int64(0); hour != NoHour; {
		next, err := s.Due(hour, 7, func(at int64, id []byte) error {
			if Hour(at) < hour {
				t.Errorf("%s at hour %d was asked for from %d on", id, Hour(at), hour)
			}
			timers[fmt.Sprint(at, string(id))] = true
			return nil
		})
		must(t, err)
		if next <= hour {
			t.Fatalf("next hour after %d is %d", hour, next)
		}
		hour = next
	}
	return customers, timers
}

func sameStore(t *testing.T, what string, s Store, n int64) {
	t.Helper()
	customers, timers := contents(t, s)
	if len(customers) != int(n) || len(timers) != int(n) {
		t.Errorf("%s: %d customers and %d timers, want %d", what, len(customers), len(timers), n)
	}
	for i := range n {
		id := fmt.Sprintf("c-%05d", i)
		v := customers[id]
		if v != string(encodedRecord(i)) {
			t.Fatalf("%s: %s differs", what, id)
		}
		if !timers[fmt.Sprint(customer.EncodedDeadline([]byte(v)), id)] {
			t.Fatalf("%s: %s has no timer", what, id)
		}
		got, err := s.Get(nil, []byte(id))
		if err != nil || string(got) != v {
			t.Fatalf("%s: get %s: %v", what, id, err)
		}
	}
	if _, err := s.Get(nil, []byte("c-nobody")); err != ErrNotFound {
		t.Errorf("%s: get of nobody: %v", what, err)
	}
}

// What a restore keeps in memory reads the same before, after, and beside what the store has already.
func TestARestoreIsReadBeforeItIsWritten(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() Store) {
		s := open()
		defer s.Close()
		over := newOverlay(s, restoredOf(t, s, 0, 400, 500))
		sameStore(t, "in memory", over, 400)
		must(t, over.Write(&Batch{}))
		sameStore(t, "written", over, 400)
		sameStore(t, "the store itself", s, 400)
		if _, waits := over.waits(); waits {
			t.Error("the restore is kept after it was written")
		}
		over = newOverlay(s, restoredOf(t, s, 300, 700, 900))
		sameStore(t, "tail in memory", over, 700)
		must(t, over.Write(&Batch{}))
		sameStore(t, "tail written", s, 700)
		if p, err := s.Position(); err != nil || p != 900 {
			t.Errorf("position %d: %v", p, err)
		}
		if m, _ := s.Meta(MetaTask); string(m) != "task at 900" {
			t.Errorf("task record %q", m)
		}
	})
}

// A restored tail whose deadlines all lie before where a portion of the store's ends hides none of those behind it.
func TestARestoredTailHidesNoDeadlineBehindIt(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() Store) {
		s := open()
		defer s.Close()
		must(t, restoredOf(t, s, 10, 400, 500).writeTo(s, nil))
		sameStore(t, "tail in memory", newOverlay(s, restoredOf(t, s, 0, 10, 600)), 400)
	})
}

// A bulk write that was cut off is no harm: the store has no position, and the next one starts from nothing.
func TestABulkWriteThatWasCutOffIsBegunAnew(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenBadger(dir, Options{})
	must(t, err)
	r := restoredOf(t, s, 0, 5000, 6000)
	enough := 0
	err = s.(*localStore).db.bulk(func(add func(key, value []byte) error) error {
		return s.(*localStore).fillCustomers(r.img, func(key, value []byte) error {
			if enough++; enough > 3000 {
				return ErrClosed
			}
			return add(append(key, "-stale"...), value)
		})
	})
	if err == nil {
		t.Fatal("the bulk write went through")
	}
	must(t, s.Close())
	s, err = OpenBadger(dir, Options{})
	must(t, err)
	if p, err := s.Position(); p != 0 || err != nil {
		t.Fatalf("position %d: %v", p, err)
	}
	must(t, restoredOf(t, s, 0, 5000, 6000).writeTo(s, nil))
	sameStore(t, "anew", s, 5000)
	must(t, s.Write(&Batch{customers: []customerOp{{"c-00007", nil}}, position: 6001, moved: true}))
	must(t, s.Close())
	s, err = OpenBadger(dir, Options{})
	must(t, err)
	defer s.Close()
	if _, err := s.Get(nil, []byte("c-00007")); err != ErrNotFound {
		t.Errorf("a customer who was forgotten after the bulk write: %v", err)
	}
	if p, err := s.Position(); p != 6001 || err != nil {
		t.Errorf("position %d: %v", p, err)
	}
}
