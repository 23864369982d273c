package state

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"ebb/state/customer"
)

// Entry is a customer in memory. It is valid until the next call of Table.Maintain, the record's
// slices as well.
type Entry struct {
	// What a lookup and a change need, in one memory line with the record's id.
	flags   uint8
	idLen   uint8 // more than shortID: see Record.ID
	slot    int32 // place in Table.ring
	size    int32 // bytes accounted for
	encoded int32 // bytes of the newest encoded form
	carried int64 // Armed of the newest encoded form: the timer entry that is in the store or on its way
	idCopy  [shortID]byte

	Record customer.Record
}

const (
	flagDirty   uint8 = 1 << iota // changed since the last cut
	flagInCut                     // in the cut under way
	flagGone                      // forgotten
	flagRevived                   // forgotten, but asked for again since
	flagDurable                   // an encoded form exists: a cut had it, or it was read
	flagUsed                      // asked for since the clock hand came by
)

// entryBytes is what an entry takes beside its record: the rest of it, its slots in the index, its places
// in the lists of the table.
const entryBytes = int64(unsafe.Sizeof(Entry{})-unsafe.Sizeof(customer.Record{})) + 48

// TableOptions bound a table's memory and say when it writes behind. Budgets are per task.
type TableOptions struct {
	// CacheBytes is the estimated size of the decoded customers to keep; 0 is 32 MiB.
	CacheBytes int64
	// PendingBytes is the size of the values that wait for the store at which they are written
	// at once; 0 is half of CacheBytes, at least 1 MiB. At most about twice as much waits.
	PendingBytes int64
	// FlushAge is how long committed changes wait at most before they are written; 0 is 30 s.
	// What waits is replayed from the changelog after a crash, so it bounds the time of a restart.
	FlushAge time.Duration
	// Timers is the number of armed deadlines to hold in memory; 0 is 65536 (about 4 MiB).
	Timers int
	// Slots limits the flushes of an instance that run at a time; nil does not.
	Slots chan struct{}
	// Restored are changes of the changelog that a Restorer kept in memory.
	Restored *Restored
	// Metrics may be nil.
	Metrics *TaskMetrics
	// Tick is a clock for durations of flushes; nil measures none.
	Tick func() time.Time
}

func (o *TableOptions) setDefaults() {
	if o.CacheBytes <= 0 {
		o.CacheBytes = 32 << 20
	}
	if o.PendingBytes <= 0 {
		o.PendingBytes = max(o.CacheBytes/2, 1<<20)
	}
	if o.FlushAge <= 0 {
		o.FlushAge = 30 * time.Second
	}
	if o.Timers <= 0 {
		o.Timers = 1 << 16
	}
	if o.Metrics == nil {
		o.Metrics = newTaskMetrics()
	}
}

// Table is the customers of one task. It belongs to the task's goroutine and takes no locks; only
// writing to the store happens elsewhere, on values that nobody changes.
type Table struct {
	store Store
	over  *overlay // the same while a restore is taken over, else nil
	o     TableOptions

	entries *index
	ring    []*Entry // every entry, for the clock hand
	hand    int
	free    []*Entry // evicted, to be used again
	bytes   int64    // of all entries
	arrived int      // entries that came since the last Maintain

	// whole: every customer there is has an entry; a lookup that misses need not go on.
	whole bool

	dirty      []*Entry
	dirtyBytes int64

	cut   Cut
	inCut bool
	gen   uint32 // the cut that the next BeginCut makes

	pending  *waiting // committed, not handed to the flusher
	flushing *waiting // in the hands of the flusher, else nil
	flushed  chan error
	quit     chan struct{}
	since    time.Time // when Maintain first saw what is pending
	began    time.Time // of the flush under way
	retryAt  time.Time
	held     error // why the store takes nothing at present
	closed   bool

	timers *timers
	warmed uint64 // means nothing: see Warm
	buf    []byte
}

// NewTable returns the table of a store. The table does not close the store.
func NewTable(store Store, o TableOptions) *Table {
	o.setDefaults()
	restored := o.Restored
	o.Restored = nil
	var over *overlay
	if restored != nil && restored.Len() > 0 {
		over = newOverlay(store, restored)
		store = over
	}
	t := &Table{
		store:   store,
		over:    over,
		o:       o,
		entries: newIndex(),
		whole:   isEmpty(store),
		gen:     1,
		pending: newWaiting(),
		flushed: make(chan error, 1),
		quit:    make(chan struct{}),
		timers:  newTimers(store, o.Timers),
	}
	if restored != nil && over == nil {
		t.pending.next, t.pending.moved, t.pending.task = restored.next, true, restored.task
	}
	return t
}

// isEmpty says that a store has no customers. If it cannot be read, the next Get says so.
func isEmpty(store Store) bool {
	return store.Scan(func(_, _ []byte) error { return errEnough }) == nil
}

// Get returns a customer, a new one if there is none yet. It does not keep id. The error is that of
// the store or of decoding; the customer is then unknown, not new.
func (t *Table) Get(id []byte) (*Entry, error) {
	if e := t.entries.get(id); e != nil {
		if e.flags&flagGone != 0 {
			e.flags |= flagRevived
		}
		e.flags |= flagUsed
		return e, nil
	}
	e, err := t.load(id)
	if err != nil || e != nil {
		return e, err
	}
	e = t.fresh()
	e.name(string(id))
	t.insert(e)
	return e, nil
}

// Lookup returns a customer that exists. It never creates one.
func (t *Table) Lookup(id []byte) (*Entry, bool, error) {
	e := t.entries.get(id)
	if e == nil {
		var err error
		if e, err = t.load(id); err != nil || e == nil {
			return nil, false, err
		}
	}
	if e.flags&flagGone != 0 || e.flags&(flagDurable|flagDirty) == 0 {
		return nil, false, nil
	}
	e.flags |= flagUsed
	return e, true, nil
}

// load brings a customer in from the newest encoded form, nil if there is none.
func (t *Table) load(id []byte) (*Entry, error) {
	if t.whole {
		return nil, nil
	}
	value, ok := t.pending.get(id)
	if !ok {
		value, ok = t.flushing.get(id)
	}
	if !ok {
		buf, err := t.store.Get(t.buf[:0], id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		t.buf = buf[:0]
		if err == nil {
			value = buf
		}
		t.o.Metrics.loads.Inc()
	}
	if value == nil {
		return nil, nil
	}
	e := t.fresh()
	e.name(string(id))
	if err := decode(value, &e.Record); err != nil {
		return nil, err
	}
	e.flags = flagDurable
	e.encoded = int32(len(value))
	e.carried = e.Record.Armed
	t.insert(e)
	return e, nil
}

func decode(value []byte, r *customer.Record) error {
	err := customer.DecodeRecord(value, r)
	switch { // the id is none of a log's business
	case err == nil:
		return nil
	case errors.Is(err, customer.ErrNewerVersion):
		return fmt.Errorf("a customer in the local state: %w; run that version or a newer one", err)
	}
	return fmt.Errorf("a customer in the local state: %w: %w", ErrCorrupt, err)
}

// fresh returns an empty entry, one that was evicted if possible: its slices fit.
func (t *Table) fresh() *Entry {
	n := len(t.free)
	if n == 0 {
		return &Entry{}
	}
	e := t.free[n-1]
	t.free[n-1] = nil
	t.free = t.free[:n-1]
	return e
}

func (t *Table) insert(e *Entry) {
	t.entries.add(e)
	e.slot = int32(len(t.ring))
	e.flags |= flagUsed
	t.ring = append(t.ring, e)
	t.arrived++
	t.resize(e)
}

func (t *Table) resize(e *Entry) {
	n := int64(e.Record.Size()) + entryBytes
	t.bytes += n - int64(e.size)
	e.size = int32(n)
}

// Changed marks a customer for the next cut. A customer that was forgotten stays so, unless Get was
// asked for him since.
func (t *Table) Changed(e *Entry) {
	t.touch(e)
	if e.flags&flagRevived != 0 {
		e.flags &^= flagGone | flagRevived
	}
}

func (t *Table) touch(e *Entry) {
	if e.flags&flagDirty != 0 {
		return
	}
	e.flags |= flagDirty
	t.dirty = append(t.dirty, e)
	t.dirtyBytes += int64(len(e.Record.ID)) + max(int64(e.encoded), newRecordBytes)
}

// newRecordBytes is the size at which the encoded form of a new customer is estimated.
const newRecordBytes = 64

// Forget removes a customer with the next cut.
func (t *Table) Forget(e *Entry) {
	e.Record = customer.Record{ID: e.Record.ID}
	e.flags |= flagGone
	e.flags &^= flagRevived
	t.touch(e)
}

// Revive takes back that a customer was forgotten since Get was asked for him: what comes now begins his record anew. It counts with Changed.
func (t *Table) Revive(e *Entry) {
	if e.flags&flagGone != 0 {
		e.flags |= flagRevived
	}
}

// Dirty returns how many customers changed since the last cut, and about how many bytes they take
// in it.
func (t *Table) Dirty() (records int, bytes int64) { return len(t.dirty), t.dirtyBytes }

// Arm sets when a customer is to be looked at, 0 for never. A timer entry is made only if
// there is none at an earlier time: that one finds out about the later deadline.
func (t *Table) Arm(e *Entry, deadline int64) {
	r := &e.Record
	if r.Deadline == deadline && (r.Armed != 0 || deadline == 0) {
		return
	}
	r.Deadline = deadline
	t.touch(e)
	if deadline == 0 || r.Armed != 0 && r.Armed <= deadline {
		return
	}
	r.Armed = deadline
	t.timers.add(deadline, r.ID, t.gen)
}

// PopDue returns the next customer whose deadline is not after upTo, in the order of (deadline,
// customer id), and takes the deadline from the timers: unless Arm is called, the customer does not
// come up again. ok is false when nothing is due. After a run of deadlines that have moved it
// returns no entry though ok is true: their customers have changed, so that it may be time for a cut. It ends the life of
// entries, as Maintain does.
func (t *Table) PopDue(upTo int64) (e *Entry, deadline int64, ok bool, err error) {
	for moved := 0; ; {
		if due := t.timers.ahead(); len(due) != 0 {
			t.warmed += t.warmDue(due)
		}
		tm, ok, err := t.timers.pop(upTo)
		if err != nil || !ok {
			return nil, 0, false, err
		}
		e, ok, err := t.Lookup(unsafeBytes(tm.id))
		if err != nil {
			return nil, 0, false, err
		}
		if !ok || e.Record.Armed != tm.at {
			if t.arrived >= staleRun { // many in a row may be stale, and each has brought a customer in
				t.evict()
			}
			continue // stale
		}
		// Whatever comes of it, the entry is used up, and the stored record must not rely on it.
		r := &e.Record
		t.touch(e)
		r.Armed = 0
		if r.Deadline > tm.at {
			r.Armed = r.Deadline
			t.timers.add(r.Armed, r.ID, t.gen)
			if moved++; moved == staleRun {
				return nil, 0, true, nil
			}
			continue
		}
		if r.Deadline != 0 {
			return e, r.Deadline, true, nil
		}
	}
}

// NoneBefore is a time before which no customer is to be looked at, ms; math.MaxInt64 if nobody is to be looked at. It may be earlier than the first deadline,
// and is 0 before PopDue was asked for the first time.
func (t *Table) NoneBefore() int64 { return t.timers.next }

// staleRun is how many customers PopDue brings in before it evicts, and how many it changes before it returns.
const staleRun = 64

// unsafeBytes is a view of a string for calls that only read.
func unsafeBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// Scan calls fn for every customer, changes that are not yet committed included. The entry is valid
// during the call and must not be changed.
func (t *Table) Scan(fn func(e *Entry) error) error {
	for _, e := range t.ring {
		if e.flags&flagGone != 0 || e.flags&(flagDurable|flagDirty) == 0 {
			continue
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	var scratch Entry
	visit := func(id, value []byte) error {
		scratch.Record.ID = string(id)
		if err := decode(value, &scratch.Record); err != nil {
			return err
		}
		return fn(&scratch)
	}
	for _, w := range []*waiting{t.pending, t.flushing} {
		if w == nil {
			continue
		}
		for _, o := range w.ops {
			id := unsafeBytes(o.id)
			if o.value == nil || t.entries.get(id) != nil || w == t.flushing && has(t.pending, id) {
				continue
			}
			if err := visit(id, o.value); err != nil {
				return err
			}
		}
	}
	return t.store.Scan(func(id, value []byte) error {
		if t.entries.get(id) != nil || has(t.pending, id) || has(t.flushing, id) {
			return nil
		}
		return visit(id, value)
	})
}

func has(w *waiting, id []byte) bool {
	_, ok := w.get(id)
	return ok
}

// Close drops the table. Changes that are not in the store are in the changelog, or not committed.
func (t *Table) Close() {
	if t.closed {
		return
	}
	t.closed = true
	close(t.quit)
	if t.flushing != nil {
		t.held = <-t.flushed
	}
	t.o.Metrics.close()
}

// Drain writes everything committed to the store and waits for it. What ctx cuts short is replayed
// from the changelog at the next start.
func (t *Table) Drain(ctx context.Context) error {
	for {
		if t.flushing != nil {
			select {
			case err := <-t.flushed:
				if err := t.landed(err); err != nil {
					return err
				}
				if t.held != nil {
					return t.held
				}
			case <-ctx.Done():
				return fmt.Errorf("write local state: %w", ctx.Err())
			}
		}
		if _, behind := t.behind(); t.pending.empty() && !behind {
			return nil
		}
		t.startFlush(time.Time{})
	}
}
