package state

import "fmt"

// Reserved is the first byte of changelog keys that are no customer's.
const Reserved = 0x00

// Restorer replays the tail of a changelog into a store, the newest value of a customer only. The
// position goes along, so that a restore that was interrupted continues.
//
// What fits in memory need not wait for the store: Keep hands it to the table, which writes
// it behind. So a task is open as soon as its changelog is read.
//
// A restore that is given up may leave a write behind; closing the store ends it.
type Restorer struct {
	// MemoryBytes is how much is gathered before it goes to the store; 0 is 16 MiB.
	MemoryBytes int64

	store   Store
	w       *waiting
	buf     []byte
	next    int64
	writing chan error // the write under way, nil if there is none
}

// Restored are replayed changes that are in memory only; see TableOptions.
type Restored struct{ changes *waiting }

// restoreBytes is the default of Restorer.MemoryBytes.
const restoreBytes = 16 << 20

// NewRestorer returns a restorer for a store. Replay from the store's Position.
func NewRestorer(store Store) *Restorer {
	return &Restorer{store: store, w: newWaiting()}
}

// Apply takes one committed record of the changelog, in the order of the offsets; a nil or empty
// value is a tombstone. Keys that begin with Reserved hold the task record. The slices are copied.
func (r *Restorer) Apply(key, value []byte, offset int64) error {
	if len(key) == 0 {
		return fmt.Errorf("changelog offset %d: record without a key", offset)
	}
	r.next = offset + 1
	if key[0] == Reserved {
		r.w.task = append([]byte{}, value...)
		return nil
	}
	value = r.keep(value)
	if i, ok := r.w.index[string(key)]; ok {
		r.w.replace(i, value)
	} else {
		r.w.insert(string(key), value)
	}
	if max(r.w.bytes, r.w.pinned) < r.limit() {
		return nil
	}
	r.w.compact()
	if r.w.bytes < r.limit() {
		return nil
	}
	return r.spill()
}

func (r *Restorer) limit() int64 {
	if r.MemoryBytes > 0 {
		return r.MemoryBytes
	}
	return restoreBytes
}

// keep copies a value into the buffer; a full one is left to the values that lie in it.
func (r *Restorer) keep(value []byte) []byte {
	if len(value) == 0 {
		return nil
	}
	if cap(r.buf)-len(r.buf) < len(value) {
		r.buf = make([]byte, 0, max(256<<10, len(value)))
		r.w.pinned += int64(cap(r.buf))
	}
	from := len(r.buf)
	r.buf = append(r.buf, value...)
	return r.buf[from:len(r.buf):len(r.buf)]
}

// spill hands what was gathered to a goroutine, after the one before is done.
func (r *Restorer) spill() error {
	if err := r.wait(); err != nil {
		return err
	}
	w := r.close()
	r.w, r.buf = newWaiting(), nil
	r.writing = make(chan error, 1)
	go func(done chan<- error) { done <- r.store.Write(w.batch(nil)) }(r.writing)
	return nil
}

// close completes what was gathered.
func (r *Restorer) close() *waiting {
	w := r.w
	w.timersOfValues()
	w.next, w.moved = r.next, true
	return w
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

// Finish writes what is left to the store: the store then is at the offset end.
func (r *Restorer) Finish(end int64) error {
	r.next = max(r.next, end)
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
	return &Restored{r.close()}, nil
}
