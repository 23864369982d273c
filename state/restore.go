package state

import (
	"errors"
	"fmt"
	"unsafe"

	"ebb/state/customer"
)

// Reserved is the first byte of changelog keys that are no customer's.
const Reserved = 0x00

// TaskKey is the changelog key of the task record. Other keys that begin with Reserved are not part of the local copy.
const TaskKey = "\x00task"

// Restorer replays a changelog, or its tail, into a store: the newest value of a customer only. The position goes along, so
// that a restore that was interrupted continues.
//
// What fits in memory need not wait for the store: Keep hands it to the table, which works with it at once and writes it
// behind. So a task is open as soon as its changelog is read. What exceeds MemoryBytes goes to the store on the way. The first
// portion that an empty store gets is written in bulk, as sorted tables, at many times the speed of transactions.
//
// A restore that is given up may leave a write behind; closing the store ends it.
type Restorer struct {
	// MemoryBytes is how much is gathered before it goes to the store; 0 is 16 MiB. While that is written as
	// much again may be gathered.
	MemoryBytes int64
	// Slots limits the writes of an instance that run at a time; nil does not.
	Slots chan struct{}

	store   Store
	img     *image
	next    int64
	task    []byte
	bad     map[string]*UnreadableError // by customer
	scratch customer.Record
	known   bool // whole is
	whole   bool // the store is empty: what was gathered is all there is
	current bool // it has come to the end once
	writing chan error
}

// Restored are replayed changes that are in memory only; see TableOptions.
type Restored struct {
	img   *image
	next  int64
	task  []byte
	whole bool
	// behind: more of the changelog was yet to be read, so that the copy does not become younger by it. What was forgotten is told by tombstones, which are kept for a while only.
	behind bool
}

// Len is the number of customers in it.
func (r *Restored) Len() int { return r.img.n }

// Bytes is the memory that it takes until it is in the store.
func (r *Restored) Bytes() int64 { return r.img.bytes() }

// restoreBytes is the default of Restorer.MemoryBytes.
const restoreBytes = 16 << 20

// NewRestorer returns a restorer for a store. Replay from the store's Position.
func NewRestorer(store Store) *Restorer {
	return &Restorer{store: store, img: newImage()}
}

// UnreadableError is a customer's record in a changelog that this version cannot decode, and that no later record replaces.
type UnreadableError struct {
	Offset int64 // of the record
	Err    error // customer.ErrNewerVersion or customer.ErrCorrupt
}

func (e *UnreadableError) Error() string {
	mend := "restore the topic from a replica, or write a tombstone for the key of this record, which forgets the customer"
	if errors.Is(e.Err, customer.ErrNewerVersion) {
		mend = "run that version or a newer one"
	}
	return fmt.Sprintf("changelog offset %d: %v; %s", e.Offset, e.Err, mend)
}

func (e *UnreadableError) Unwrap() error { return e.Err }

// maxUnreadable is how many records that cannot be read are remembered, until later ones replace them.
const maxUnreadable = 1000

// check decodes a value, so that nothing is built on a changelog that cannot be read.
func (r *Restorer) check(key, value []byte, offset int64) bool {
	if len(r.bad) > 0 {
		delete(r.bad, string(key))
	}
	if len(value) == 0 {
		return true
	}
	err := customer.DecodeRecord(value, &r.scratch)
	if err == nil {
		return true
	}
	if r.bad == nil {
		r.bad = map[string]*UnreadableError{}
	}
	r.bad[string(key)] = &UnreadableError{Offset: offset, Err: err}
	return false
}

// firstBad is the first record that counts and cannot be read, nil if there is none.
func (r *Restorer) firstBad() (first *UnreadableError) {
	for _, e := range r.bad {
		if first == nil || e.Offset < first.Offset {
			first = e
		}
	}
	return first
}

// unreadable is firstBad as an error.
func (r *Restorer) unreadable() error {
	if first := r.firstBad(); first != nil {
		return first
	}
	return nil
}

// Apply takes one committed record of the changelog, in the order of the offsets; a nil or empty
// value is a tombstone. The slices are copied. A record that cannot be decoded is an UnreadableError of a later call unless another one replaces it; the
// store's position stays before it.
func (r *Restorer) Apply(key, value []byte, offset int64) error {
	if len(key) == 0 {
		return fmt.Errorf("changelog offset %d: record without a key", offset)
	}
	r.next = offset + 1
	if key[0] == Reserved {
		if string(key) == TaskKey {
			r.task = append([]byte{}, value...)
		}
		return nil
	}
	if !r.check(key, value, offset) {
		if len(r.bad) > maxUnreadable {
			return r.unreadable()
		}
		return nil
	}
	r.img.set(key, value)
	if r.img.bytes() < r.limit() {
		return nil
	}
	if r.img.wasteful() {
		if r.img = r.img.compacted(); r.img.bytes() < r.limit()/4*3 {
			return nil
		}
	}
	return r.spill()
}

func (r *Restorer) limit() int64 {
	if r.MemoryBytes > 0 {
		return r.MemoryBytes
	}
	return restoreBytes
}

// isWhole says whether the store holds nothing that counts, so that what was gathered is everything.
func (r *Restorer) isWhole() (bool, error) {
	if r.known {
		return r.whole, nil
	}
	position, err := r.store.Position()
	if err != nil {
		return false, fmt.Errorf("restore: %w", err)
	}
	r.known, r.whole = true, position == 0
	return r.whole, nil
}

// take completes what was gathered and begins anew.
func (r *Restorer) take() (*Restored, error) {
	whole, err := r.isWhole()
	if err != nil {
		return nil, err
	}
	got := &Restored{img: r.img, next: r.next, task: r.task, whole: whole}
	if bad := r.firstBad(); bad != nil { // nothing has replaced it yet: after a restart it has to be met again
		got.next = min(got.next, bad.Offset)
	}
	got.img.arm()
	r.img, r.task, r.whole = newImage(), nil, false
	return got, nil
}

// spill hands what was gathered to a goroutine, after the one before is done.
func (r *Restorer) spill() error {
	if err := r.wait(); err != nil {
		return err
	}
	got, err := r.take()
	if err != nil {
		return err
	}
	got.behind = !r.current
	r.writing = make(chan error, 1)
	go func(done chan<- error) {
		if r.Slots != nil {
			r.Slots <- struct{}{}
			defer func() { <-r.Slots }()
		}
		done <- got.writeTo(r.store, nil)
	}(r.writing)
	return nil
}

func (r *Restorer) wait() error {
	if r.writing == nil {
		return nil
	}
	err := <-r.writing
	r.writing = nil
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// Checkpoint begins to write what was gathered so far, so that a restore that is interrupted goes on from the offset at, below which
// everything was applied. After Finish the copy counts as current with it. It waits for the write before, and does nothing while there is a record that cannot be read.
func (r *Restorer) Checkpoint(at int64) error {
	r.next = max(r.next, at)
	if len(r.bad) > 0 {
		return nil
	}
	return r.spill()
}

// Finish writes what is left to the store: the store then is at the offset end.
func (r *Restorer) Finish(end int64) error {
	r.next = max(r.next, end)
	if err := r.unreadable(); err != nil {
		return err
	}
	r.current = true
	if err := r.spill(); err != nil {
		return err
	}
	return r.wait()
}

// Keep hands what is left to a table instead: it counts as committed up to the offset end.
func (r *Restorer) Keep(end int64) (*Restored, error) {
	if err := r.wait(); err != nil {
		return nil, err
	}
	r.next = max(r.next, end)
	if err := r.unreadable(); err != nil {
		return nil, err
	}
	return r.take()
}

// filler is a store that takes a whole changelog in bulk.
type filler interface {
	fill(r *Restored, quit <-chan struct{}) error
}

// portion is how many customers of a tail are written at a time.
const portion = 20_000

// writeTo writes everything to the store, the position last. Writing again what was written in part is safe.
func (r *Restored) writeTo(store Store, quit <-chan struct{}) error {
	if f, ok := store.(filler); ok && r.whole {
		return f.fill(r, quit)
	}
	b := &Batch{quit: quit, arms: true}
	for _, k := range r.img.sorted() {
		id, value := r.img.at(k.chunk, k.off)
		b.Set(unsafeString(id), value)
		if len(b.customers) == portion {
			if err := store.Write(b); err != nil {
				return err
			}
			b = &Batch{quit: quit, arms: true}
		}
	}
	if r.task != nil {
		b.SetMeta(MetaTask, r.task)
	}
	b.SetPosition(r.next)
	b.behind = r.behind
	return store.Write(b)
}

// unsafeString is a view of bytes that do not change any more.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
