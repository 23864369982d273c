package state

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ebb/state/customer"
)

const year2026 = 1_767_225_600_000

// bump gives a record the content number n.
func bump(e *Entry, n int64) {
	r := &e.Record
	if r.First == 0 {
		r.First = year2026
	}
	r.Latest = max(r.Latest, year2026+n)
	r.Decided = year2026 + n
}

func content(r *customer.Record) int64 {
	if r.Decided == 0 {
		return 0
	}
	return r.Decided - year2026
}

// changelog is the durable truth of a simulated task.
type changelog struct {
	keys   []string
	values [][]byte
	task   []byte
}

// append takes a cut in, task record last, and returns the offset behind it.
func (l *changelog) append(c *Cut, task string) int64 {
	c.Each(func(id string, value []byte) {
		l.keys, l.values = append(l.keys, id), append(l.values, slices.Clone(value))
	})
	l.keys, l.values = append(l.keys, "\x00task"), append(l.values, []byte(task))
	l.task = []byte(task)
	return int64(len(l.keys))
}

// sim is a task without Kafka: what it believes of every customer is kept in plain maps.
type sim struct {
	t     *testing.T
	rng   *rand.Rand
	disk  *MemDisk
	log   changelog
	store Store
	full  atomic.Bool  // the disk is below its reserve
	fills atomic.Int64 // after so many transactions it is, in the middle of a write; 0: it is not going to be
	table *Table
	o     TableOptions
	now   time.Time
	clock int64
	ids   int // customers there may be
	hours int // in which their deadlines lie

	live, committed map[string]naive
	inCut           map[string]naive
	cut             *Cut
	counter         int64
}

// naive is what the reference knows of a customer.
type naive struct{ content, deadline int64 }

func newSim(t *testing.T, seed uint64, o TableOptions) *sim {
	s := &sim{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), disk: NewMemDisk(), o: o, ids: 200, hours: 15 * 24,
		now: time.Unix(0, 0), clock: year2026,
		live: map[string]naive{}, committed: map[string]naive{},
	}
	s.open()
	return s
}

// id is a customer, one of a few more often than not: what is replayed after a crash is then of few, and the store has the others.
func (s *sim) id() []byte {
	n := s.ids
	if s.rng.IntN(2) == 0 {
		n = min(n, 5)
	}
	return fmt.Appendf(nil, "c-%03d", s.rng.IntN(n))
}

// event changes a customer and moves his deadline, as every event of a real task does.
func (s *sim) event() error {
	id := s.id()
	e, err := s.table.Get(id)
	if err != nil {
		return err
	}
	if got, want := content(&e.Record), s.live[string(id)].content; got != want {
		s.t.Fatalf("%s has content %d, want %d", id, got, want)
	}
	s.counter++
	bump(e, s.counter)
	deadline := s.clock + int64(s.rng.IntN(s.hours))*HourMillis + 1
	if s.rng.IntN(10) == 0 {
		deadline = 0
	}
	s.table.Arm(e, deadline)
	s.table.Changed(e)
	s.live[string(id)] = naive{s.counter, deadline}
	return nil
}

func (s *sim) forget() error {
	id := s.id()
	e, ok, err := s.table.Lookup(id)
	if err != nil {
		return err
	}
	if _, want := s.live[string(id)]; ok != want {
		s.t.Fatalf("%s is known %v, want %v", id, ok, want)
	}
	if ok {
		s.table.Forget(e)
		s.table.Changed(e) // of no effect: nobody asked for the customer since
		delete(s.live, string(id))
	}
	return nil
}

// timers moves the clock and compares what comes up with what the reference says is due.
func (s *sim) timers() error {
	s.clock += int64(s.rng.IntN(12)) * HourMillis / 3
	var want []dueEntry
	for id, n := range s.live {
		if n.deadline != 0 && n.deadline <= s.clock {
			want = append(want, dueEntry{n.deadline, id})
		}
	}
	slices.SortFunc(want, func(a, b dueEntry) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id)) })
	for _, w := range want {
		e, at, ok, err := s.table.PopDue(s.clock)
		if err != nil {
			return err
		}
		if !ok || at != w.at || e.Record.ID != w.id {
			s.t.Fatalf("due is %v, popped %v %d %+v", w, ok, at, e)
		}
		deadline := int64(0)
		if s.rng.IntN(2) == 0 {
			deadline = s.clock + 24*HourMillis
		}
		s.table.Arm(e, deadline)
		s.table.Changed(e)
		s.live[w.id] = naive{s.live[w.id].content, deadline}
	}
	_, _, ok, err := s.table.PopDue(s.clock)
	if err == nil && ok {
		s.t.Fatalf("popped more than is due")
	}
	return err
}

func (s *sim) beginCut() {
	if s.cut == nil {
		s.cut, s.inCut = s.table.BeginCut(), maps.Clone(s.live)
	}
}

func (s *sim) commit() {
	if s.cut == nil {
		return
	}
	s.committed = s.inCut
	task := fmt.Sprint(s.clock)
	next := s.log.append(s.cut, task)
	s.table.Commit(s.cut, next, []byte(task))
	s.cut = nil
}

// step does one random thing.
func (s *sim) step() error {
	switch n := s.rng.IntN(100); {
	case n < 60:
		return s.event()
	case n < 63:
		return s.forget()
	case n < 70:
		return s.timers()
	case n < 78:
		s.beginCut()
		return nil
	case n < 86:
		s.commit()
		return nil
	default:
		s.now = s.now.Add(time.Duration(s.rng.IntN(3000)) * time.Millisecond)
		if err := s.table.Maintain(s.now); err != nil {
			return err
		}
		s.full.Store(s.rng.IntN(4) == 0)
		s.disk.Fill(s.rng.IntN(4) == 0)
		s.fills.Store(s.rng.Int64N(12))
		return s.settle()
	}
}

// settle waits now and then for the flusher, so that its progress depends on the seed rather than on
// the machine.
func (s *sim) settle() error {
	if s.table.flushing == nil || s.rng.IntN(2) == 0 {
		return nil
	}
	return s.table.landed(<-s.table.flushed)
}

// rest waits for the flusher, so that a crash is not taken for the next one that is planned.
func (s *sim) rest() {
	if s.table.flushing != nil {
		if err := s.table.landed(<-s.table.flushed); err != nil && !errors.Is(err, ErrClosed) {
			s.t.Fatal(err)
		}
	}
	if s.disk.Crashed() {
		s.crash()
	}
}

// drain writes everything out: the disk has room again.
func (s *sim) drain() {
	if s.table.flushing != nil {
		must(s.t, s.table.landed(<-s.table.flushed))
	}
	s.room()
	must(s.t, s.table.Drain(s.t.Context()))
}

// fill is called before each transaction.
func (s *sim) fill() {
	if s.fills.Load() > 0 && s.fills.Add(-1) == 0 {
		s.disk.Fill(true)
	}
}

// room gives the disk room again.
func (s *sim) room() {
	s.fills.Store(0)
	s.full.Store(false)
	s.disk.Fill(false)
}

// open restores: the store as it is, then the changelog from its position on.
func (s *sim) open() {
	s.store = &refusing{Store: NewMemory(s.disk), full: &s.full}
	s.room()
	from, err := s.store.Position()
	must(s.t, err)
	if from > int64(len(s.log.keys)) {
		s.t.Fatalf("the store is at %d, the changelog ends at %d", from, len(s.log.keys))
	}
	r := NewRestorer(s.store)
	r.MemoryBytes = int64(200 + s.rng.IntN(20_000))
	for i := from; i < int64(len(s.log.keys)); i++ {
		must(s.t, r.Apply([]byte(s.log.keys[i]), s.log.values[i], i))
	}
	o := s.o
	if s.rng.IntN(2) == 0 {
		must(s.t, r.Finish(int64(len(s.log.keys))))
	} else {
		o.Restored, err = r.Keep(int64(len(s.log.keys)))
		must(s.t, err)
	}
	s.table = NewTable(s.store, o)
	s.live, s.cut = maps.Clone(s.committed), nil
	s.compare()
}

// compare checks every customer, by Scan and by Lookup.
func (s *sim) compare() {
	got := map[string]naive{}
	must(s.t, s.table.Scan(func(e *Entry) error {
		if _, twice := got[e.Record.ID]; twice {
			s.t.Fatalf("Scan gives %s twice", e.Record.ID)
		}
		got[e.Record.ID] = naive{content(&e.Record), e.Record.Deadline}
		return nil
	}))
	if !maps.Equal(got, s.live) {
		s.t.Fatalf("customers %v\nwant %v", got, s.live)
	}
}

func (s *sim) crash() {
	s.disk.Crash()
	s.table.Close()
	if s.cut != nil && s.rng.IntN(2) == 0 { // its transaction may have succeeded all the same
		s.committed = s.inCut
		s.log.append(s.cut, "crashed")
	}
	s.open()
}

// small budgets: nothing fits, so everything that the table can do happens.
func smallTable() TableOptions {
	return TableOptions{CacheBytes: 20_000, PendingBytes: 4000, FlushAge: 2 * time.Second, Timers: 40}
}

// Random operations and crashes at random transactions: every customer and every deadline is as the
// plain maps say, at any time.
func TestTableAgainstPlainMaps(t *testing.T) {
	for seed := range uint64(40) {
		o := smallTable()
		if seed%4 == 0 {
			o.CacheBytes, o.Timers = 1<<20, 1000 // all fits
		}
		s := newSim(t, seed, o)
		s.ids = []int{200, 200, 20}[seed%3]
		s.hours = []int{15 * 24, 5}[seed/9%2]
		s.disk.Shape([]int{txnKeys, 1, 7}[seed/3%3], s.fill)
		for i := range 3000 {
			err := s.step()
			switch {
			case errors.Is(err, ErrClosed) && s.disk.Crashed():
				s.crash()
			case err != nil:
				t.Fatalf("seed %d step %d: %v", seed, i, err)
			}
			if i%[]int{500, 60}[seed/18%2] == 0 {
				s.rest()
				s.disk.CrashIn(1+s.rng.IntN(20), s.rng.IntN(2) == 0)
			}
		}
		s.disk.CrashIn(1<<30, false)
		if _, err := s.store.Position(); err != nil {
			s.crash()
		}
		s.compare()
		s.commit()
		s.beginCut()
		s.commit()
		s.drain()
		s.table.Close()
		if p, _ := s.store.Position(); p != int64(len(s.log.keys)) {
			t.Errorf("seed %d: after Drain position %d of %d", seed, p, len(s.log.keys))
		}
		if m, _ := s.store.Meta(MetaTask); string(m) != string(s.log.task) {
			t.Errorf("seed %d: task record %q, want %q", seed, m, s.log.task)
		}
		s.open()
		s.clock += 40 * 24 * HourMillis
		must(t, s.timers())
	}
}

// Stale timer entries and tombstones do not pile up on the disk.
func TestTimerBucketsAreCleanedUp(t *testing.T) {
	s := newSim(t, 5, smallTable())
	for range 30_000 {
		must(t, s.step())
	}
	s.clock += 40 * 24 * HourMillis
	for range 3 {
		must(t, s.timers())
		s.commit()
		s.beginCut()
		s.commit()
		s.drain()
	}
	if left, _ := due(t, s.store, 0, 1<<30); len(left) > 2*len(s.live) {
		t.Errorf("%d timer entries for %d customers", len(left), len(s.live))
	}
	if n := s.table.timers.n; n > 4*len(s.live) {
		t.Errorf("%d entries in memory for %d customers", n, len(s.live))
	}
}

func TestTableMemoryIsBounded(t *testing.T) {
	disk := NewMemDisk()
	store := NewMemory(disk)
	o := TableOptions{CacheBytes: 1 << 20, PendingBytes: 1 << 18, FlushAge: time.Hour, Timers: 500}
	tab := NewTable(store, o)
	defer tab.Close()
	now, next := time.Unix(0, 0), int64(0)
	peak, peakWaiting := int64(0), int64(0)
	cut := func() {
		c := tab.BeginCut()
		next += int64(c.Len())
		tab.Commit(c, next, nil)
	}
	for i := range 60_000 { // far more customers than fit
		e, err := tab.Get([]byte(fmt.Sprintf("customer-%06d", i%20_000)))
		must(t, err)
		if want := int64(i - 20_000 + 1); i >= 20_000 && content(&e.Record) != want {
			t.Fatalf("customer %d has content %d, want %d", i, content(&e.Record), want)
		}
		bump(e, int64(i+1))
		tab.Arm(e, int64(i%400)*HourMillis+year2026)
		tab.Changed(e)
		switch tab.Pressure() {
		case PressureCut:
			cut()
		case PressureStore:
			if tab.flushing != nil {
				must(t, tab.landed(<-tab.flushed))
			}
			must(t, tab.Maintain(now))
		}
		if i%100 == 0 {
			must(t, tab.Maintain(now))
		}
		peak, peakWaiting = max(peak, tab.bytes), max(peakWaiting, tab.waitingBytes())
	}
	if peak > o.CacheBytes*3/2 || peakWaiting > 5*o.PendingBytes {
		t.Errorf("peak of the cache %d of %d bytes, of what waits %d of %d", peak, o.CacheBytes, peakWaiting, o.PendingBytes)
	}
	if tab.timers.n > 30_000 {
		t.Errorf("%d timers in memory", tab.timers.n)
	}
}

// An entry may leave memory only when its newest form can be read again.
func TestEvictionSparesWhatIsNotCommitted(t *testing.T) {
	tab := NewTable(NewMemory(NewMemDisk()), TableOptions{CacheBytes: 1, FlushAge: time.Hour})
	defer tab.Close()
	get := func(id string) *Entry {
		e, err := tab.Get([]byte(id))
		must(t, err)
		return e
	}
	maintain := func() {
		for range 5 {
			must(t, tab.Maintain(time.Unix(0, 0)))
		}
	}
	bump(get("dirty"), 1)
	tab.Changed(get("dirty"))
	maintain()
	if tab.entries.get([]byte("dirty")) == nil {
		t.Fatal("a changed customer was evicted")
	}
	c := tab.BeginCut()
	maintain()
	if tab.entries.get([]byte("dirty")) == nil {
		t.Fatal("a customer of the cut under way was evicted")
	}
	tab.Commit(c, 1, nil)
	get("other") // never changed
	maintain()
	if tab.entries.n != 0 {
		t.Fatalf("%d entries are left above the budget", tab.entries.n)
	}
	if got := content(&get("dirty").Record); got != 1 {
		t.Fatalf("read again from what waits for the store: content %d", got)
	}
	if _, ok, _ := tab.Lookup([]byte("other")); ok {
		t.Fatal("a customer of whom nothing is known was created")
	}
}

func TestForgottenCustomers(t *testing.T) {
	tab := NewTable(NewMemory(NewMemDisk()), TableOptions{})
	defer tab.Close()
	next := int64(0)
	cut := func() (ids []string) {
		c := tab.BeginCut()
		c.Each(func(id string, v []byte) { ids = append(ids, fmt.Sprintf("%s:%v", id, v != nil)) })
		next += 10
		tab.Commit(c, next, nil)
		return ids
	}
	get := func() *Entry {
		e, err := tab.Get([]byte("a"))
		must(t, err)
		return e
	}
	e := get()
	bump(e, 1)
	tab.Changed(e)
	tab.Forget(e)
	if ids := cut(); len(ids) != 0 {
		t.Errorf("a customer that never left memory needs no tombstone: %v", ids)
	}
	e = get()
	bump(e, 2)
	tab.Changed(e)
	if ids := cut(); !slices.Equal(ids, []string{"a:true"}) {
		t.Errorf("back again: %v", ids)
	}
	tab.Forget(e)
	tab.Changed(e)
	if _, ok, _ := tab.Lookup([]byte("a")); ok {
		t.Error("a forgotten customer is not there")
	}
	if ids := cut(); !slices.Equal(ids, []string{"a:false"}) {
		t.Errorf("forgotten: %v", ids)
	}
	e = get()
	if e.Record.Latest != 0 {
		t.Error("nothing is known of a forgotten customer")
	}
	must(t, tab.Drain(t.Context()))
	bump(e, 3)
	tab.Changed(e)
	if ids := cut(); !slices.Equal(ids, []string{"a:true"}) {
		t.Errorf("asked for while the tombstone was on its way, then changed: %v", ids)
	}
	tab.Forget(e)
	cut()
	must(t, tab.Drain(t.Context()))
	if tab.entries.n != 0 {
		t.Errorf("%d entries are left after the tombstone was written", tab.entries.n)
	}
}

// Below the reserve nothing is written and nothing is lost: the changes wait.
func TestTableWaitsWhileTheReserveIsInForce(t *testing.T) {
	store := &refusing{Store: NewMemory(NewMemDisk()), full: &atomic.Bool{}}
	store.full.Store(true)
	tab := NewTable(store, TableOptions{FlushAge: time.Second})
	defer tab.Close()
	now := time.Unix(100, 0)
	change := func(id string, n int64) {
		e, err := tab.Get([]byte(id))
		must(t, err)
		bump(e, n)
		tab.Changed(e)
		tab.Commit(tab.BeginCut(), n, nil)
	}
	flush := func() {
		must(t, tab.Maintain(now))
		now = now.Add(time.Minute)
		must(t, tab.Maintain(now))
		if tab.flushing == nil {
			t.Fatal("no flush was started")
		}
		must(t, tab.landed(<-tab.flushed))
	}
	change("a", 1)
	change("b", 2)
	flush()
	if !errors.Is(tab.Held(), ErrDiskReserve) {
		t.Fatalf("held by %v", tab.Held())
	}
	change("a", 3)
	store.full.Store(false)
	flush()
	if tab.Held() != nil {
		t.Errorf("still held: %v", tab.Held())
	}
	if p, _ := store.Position(); p != 3 {
		t.Errorf("position %d", p)
	}
	for id, want := range map[string]int64{"a": 3, "b": 2} {
		v, err := store.Get(nil, []byte(id))
		must(t, err)
		var r customer.Record
		must(t, customer.DecodeRecord(v, &r))
		if content(&r) != want {
			t.Errorf("%s has content %d in the store, want %d", id, content(&r), want)
		}
	}
}

// refusing is a store that fails to write.
type refusing struct {
	Store
	err  error
	full *atomic.Bool
}

func (s *refusing) refuses() error {
	if s.err != nil {
		return s.err
	}
	if s.full != nil && s.full.Load() {
		return ErrDiskReserve
	}
	return nil
}

func (s *refusing) Write(b *Batch) error {
	if err := s.refuses(); err != nil {
		return err
	}
	return s.Store.Write(b)
}

func (s *refusing) fill(r *Restored, quit <-chan struct{}) error {
	if err := s.refuses(); err != nil {
		return err
	}
	return s.Store.(filler).fill(r, quit)
}

func TestABrokenStoreEndsTheTable(t *testing.T) {
	broken := errors.New("broken")
	tab := NewTable(&refusing{Store: NewMemory(NewMemDisk()), err: broken}, TableOptions{})
	defer tab.Close()
	e, err := tab.Get([]byte("a"))
	must(t, err)
	tab.Changed(e)
	tab.Commit(tab.BeginCut(), 1, nil)
	if err := tab.Drain(t.Context()); !errors.Is(err, broken) {
		t.Errorf("Drain says %v", err)
	}
}

// Whatever order the entries were armed in, and wherever they lie, they come up by (time, id).
func TestTimersComeUpInOneOrder(t *testing.T) {
	var first []string
	for _, o := range []TableOptions{{}, {Timers: 1, CacheBytes: 1}, {Timers: 16, CacheBytes: 1, FlushAge: time.Nanosecond}} {
		for seed := range uint64(3) {
			tab := NewTable(NewMemory(NewMemDisk()), o)
			rng := rand.New(rand.NewPCG(seed, 0))
			for n, i := range rng.Perm(500) {
				e, err := tab.Get([]byte(fmt.Sprintf("c%03d", i)))
				must(t, err)
				bump(e, int64(i+1))
				tab.Arm(e, year2026+int64(i%50)*HourMillis/2)
				tab.Changed(e)
				if n%37 == 0 {
					tab.Commit(tab.BeginCut(), int64(n), nil)
					must(t, tab.Maintain(time.Unix(int64(n), 0)))
					if tab.flushing != nil {
						must(t, tab.landed(<-tab.flushed))
					}
				}
			}
			var got []string
			for upTo := int64(year2026); upTo < year2026+30*HourMillis; upTo += rng.Int64N(HourMillis) {
				for {
					e, at, ok, err := tab.PopDue(upTo)
					must(t, err)
					if !ok {
						break
					}
					got = append(got, fmt.Sprintf("%d %s", at, e.Record.ID))
				}
			}
			if first == nil {
				first = got
			}
			if len(got) != 500 || !slices.Equal(got, first) {
				t.Fatalf("options %+v seed %d: %d entries in another order", o, seed, len(got))
			}
			tab.Close()
		}
	}
}

// Entries that were popped take no memory, though there is always one left when the next hour is opened.
func TestPoppedTimersTakeNoMemory(t *testing.T) {
	const hourly = 10
	q := newTimers(NewMemory(NewMemDisk()), 1000)
	most := 0
	for i := range int64(5000) {
		at := year2026 + i*HourMillis/hourly
		q.add(at+HourMillis, "c", 1)
		if (i+1)%hourly == 0 {
			continue // the last of an hour comes up after the next one was opened
		}
		for ok := true; ok; {
			var err error
			_, ok, err = q.pop(at)
			must(t, err)
		}
		most = max(most, cap(q.due))
	}
	if most > 10*hourly {
		t.Errorf("room for %d entries that are due, with %d an hour", most, hourly)
	}
}

// A deadline that every event moves later costs one entry, not one an event.
func TestALaterDeadlineAddsNoEntry(t *testing.T) {
	tab := NewTable(NewMemory(NewMemDisk()), TableOptions{})
	defer tab.Close()
	e, err := tab.Get([]byte("a"))
	must(t, err)
	for i := range int64(1000) {
		tab.Arm(e, year2026+i)
		tab.Changed(e)
	}
	if tab.timers.n != 1 {
		t.Errorf("%d entries", tab.timers.n)
	}
	if _, _, ok, _ := tab.PopDue(year2026 + 998); ok {
		t.Error("came up before its deadline")
	}
	if _, at, ok, _ := tab.PopDue(year2026 + 999); !ok || at != year2026+999 {
		t.Errorf("came up %v at %d", ok, at)
	}
}

// A deadline that moves earlier makes an entry; the one it replaces is dropped when it comes up.
func TestStaleEntriesAreDropped(t *testing.T) {
	tab := NewTable(NewMemory(NewMemDisk()), TableOptions{})
	defer tab.Close()
	e, err := tab.Get([]byte("a"))
	must(t, err)
	for i := range int64(100) {
		tab.Arm(e, year2026+1000-i)
		tab.Changed(e)
	}
	tab.Arm(e, year2026+5000)
	if _, _, ok, err := tab.PopDue(year2026 + 4000); ok || err != nil {
		t.Errorf("came up before its deadline: %v", err)
	}
	if tab.timers.n != 1 || e.Record.Armed != year2026+5000 {
		t.Errorf("%d entries, armed at %d", tab.timers.n, e.Record.Armed)
	}
}

// After Close nobody writes to the store any more, and a flush that waits for its turn gives up.
func TestCloseEndsTheFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := make(chan struct{}, 1)
		store := NewMemory(NewMemDisk())
		tab := NewTable(store, TableOptions{Slots: slots, FlushAge: time.Second})
		e, err := tab.Get([]byte("a"))
		must(t, err)
		tab.Changed(e)
		tab.Commit(tab.BeginCut(), 1, nil)
		slots <- struct{}{} // another task is flushing
		must(t, tab.Maintain(time.Now()))
		time.Sleep(2 * time.Second)
		must(t, tab.Maintain(time.Now()))
		synctest.Wait()
		if tab.flushing == nil {
			t.Error("no flush was started")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := tab.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain waits as long as it may: %v", err)
		}
		tab.Close()
		synctest.Wait()
		if p, _ := store.Position(); p != 0 || len(tab.flushed) != 0 {
			t.Errorf("position %d, %d results not taken", p, len(tab.flushed))
		}
	})
}

func TestDamagedRecordIsAnErrorNotANewCustomer(t *testing.T) {
	store := NewMemory(NewMemDisk())
	b := &Batch{}
	b.Set("a", []byte{0xff, 1, 2})
	must(t, store.Write(b))
	tab := NewTable(store, TableOptions{})
	defer tab.Close()
	if _, err := tab.Get([]byte("a")); err == nil {
		t.Error("a record that cannot be read passed as a new customer")
	}
	if _, err := tab.Get([]byte("b")); err != nil {
		t.Errorf("another customer: %v", err)
	}
}

// Customers who come with nearly every cut wait for the store once: what the cuts before held of them takes no room from what waits.
func TestWhatIsReplacedDoesNotCallForAFlush(t *testing.T) {
	const n = 10_000
	tab := NewTable(NewMemory(NewMemDisk()), TableOptions{CacheBytes: 1 << 30, PendingBytes: 2_400_000, FlushAge: time.Hour})
	defer tab.Close()
	ids := make([][]byte, n)
	for i := range ids {
		ids[i] = fmt.Appendf(nil, "c-%06d", i)
	}
	for round := range 5 {
		for i := range ids {
			if round != 0 && i%10 >= 6 {
				continue
			}
			e, err := tab.Get(ids[i])
			must(t, err)
			if round == 0 {
				fill(&e.Record, i)
			}
			e.Record.Latest++
			tab.Changed(e)
		}
		tab.Commit(tab.BeginCut(), int64((round+1)*n), nil)
		must(t, tab.Maintain(time.Unix(int64(round), 0)))
		if tab.pending.bytes >= tab.o.PendingBytes || tab.pending.bytes < tab.o.PendingBytes/2 {
			t.Fatalf("%d of %d bytes wait: nothing is put to the test", tab.pending.bytes, tab.o.PendingBytes)
		}
		if tab.flushing != nil {
			t.Fatalf("after cut %d all is written, of which %d bytes count", round+1, tab.pending.bytes)
		}
		if w := tab.waitingBytes(); w > tab.o.PendingBytes {
			t.Errorf("after cut %d what waits holds %d bytes, of %d", round+1, w, tab.o.PendingBytes)
		}
		for i, id := range ids {
			e, err := tab.Get(id)
			must(t, err)
			if value, ok := tab.pending.get(id); !ok || !bytes.Equal(value, customer.AppendRecord(nil, &e.Record)) {
				t.Fatalf("customer %d waits with another record", i)
			}
		}
	}
}
