package state

import (
	"errors"
	"time"

	"ebb/state/customer"
)

// retryAfter is how long a write waits after the disk's reserve refused it.
const retryAfter = 5 * time.Second

// Pressure is what bounds a table's memory at present.
type Pressure uint8

const (
	// NoPressure: within the budgets.
	NoPressure Pressure = iota
	// PressureCut: changed customers fill the cache and cannot be evicted; a cut is due.
	PressureCut
	// PressureStore: more waits for the store than twice PendingBytes; nothing should be applied
	// until Maintain has got rid of it.
	PressureStore
)

// Pressure says whether the task has to cut or to wait in order to stay within memory.
func (t *Table) Pressure() Pressure {
	if t.waitingBytes() > 2*t.o.PendingBytes {
		return PressureStore
	}
	if t.bytes > t.o.CacheBytes && t.evictable() <= len(t.ring)/8 {
		return PressureCut
	}
	return NoPressure
}

// Held is the reason why the store takes no writes at present (ErrDiskReserve), nil if it does. The
// changes wait, and nothing is lost.
func (t *Table) Held() error { return t.held }

// Maintain does what is due beside the records: takes in the result of a flush, starts the next one, and
// evicts. It belongs between records, because it ends the life of entries. An error
// means that the store is unusable: the table has to be closed and the task reopened.
func (t *Table) Maintain(now time.Time) error {
	if t.flushing != nil {
		select {
		case err := <-t.flushed:
			if err := t.landed(err); err != nil {
				return err
			}
			if t.held != nil {
				t.retryAt = now.Add(retryAfter)
			}
		default:
		}
	}
	if t.flushDue(now) {
		t.startFlush(now)
	}
	t.evict()
	restored, _ := t.behind()
	t.o.Metrics.set(len(t.ring), t.bytes, t.waitingBytes()+restored)
	return nil
}

// behind says whether a restore is in memory that the store does not have yet. It has a budget of its own, and what is
// committed meanwhile waits for it.
func (t *Table) behind() (bytes int64, ok bool) {
	if t.over == nil {
		return 0, false
	}
	return t.over.waits()
}

// waitingBytes is the memory of the values that are not in the store yet.
func (t *Table) waitingBytes() int64 {
	n := max(t.pending.bytes, t.pending.pinned)
	if t.flushing != nil {
		n += max(t.flushing.bytes, t.flushing.pinned)
	}
	return n
}

func (t *Table) flushDue(now time.Time) bool {
	if _, behind := t.behind(); behind {
		return t.flushing == nil && !now.Before(t.retryAt)
	}
	if t.pending.empty() {
		return false
	}
	if t.since.IsZero() {
		t.since = now
	}
	if t.flushing != nil || now.Before(t.retryAt) {
		return false
	}
	return max(t.pending.bytes, t.pending.pinned) >= t.o.PendingBytes || now.Sub(t.since) >= t.o.FlushAge
}

// startFlush hands what is pending to a goroutine; there is one at a time.
func (t *Table) startFlush(now time.Time) {
	w := t.pending
	t.pending, t.flushing = newWaiting(), w
	t.since = time.Time{}
	if t.o.Tick != nil {
		t.began = t.o.Tick()
	}
	batch := w.batch(t.quit)
	go func() { t.flushed <- t.write(batch) }()
}

func (t *Table) write(b *Batch) error {
	if t.o.Slots != nil {
		select {
		case t.o.Slots <- struct{}{}:
			defer func() { <-t.o.Slots }()
		case <-t.quit:
			return ErrClosed
		}
	}
	return t.store.Write(b)
}

// landed takes in the result of a flush.
func (t *Table) landed(err error) error {
	w := t.flushing
	t.flushing = nil
	switch {
	case err == nil:
		t.held = nil
		t.stored(w)
		return nil
	case errors.Is(err, ErrDiskReserve):
		t.held = err
		t.pending.under(w)
		return nil
	default:
		t.pending.under(w)
		return err
	}
}

// stored says goodbye to changes that are in the store now.
func (t *Table) stored(w *waiting) {
	if w.tombstones { // else spare the walk: it would hold up the next record
		t.bury(w)
	}
	t.timers.stored(w.gen)
	m := t.o.Metrics
	m.flushedKeys.Add(float64(len(w.ops)))
	if t.o.Tick != nil {
		m.flushSeconds.Observe(t.o.Tick().Sub(t.began).Seconds())
	}
	m.storeBytes.Set(float64(t.store.Size()))
}

// bury removes the entries of customers whose tombstones are in the store.
func (t *Table) bury(w *waiting) {
	for _, o := range w.ops {
		if o.value != nil {
			continue
		}
		e := t.entries.get(unsafeBytes(o.id))
		if e != nil && e.flags&(flagGone|flagDirty|flagInCut|flagRevived) == flagGone {
			t.remove(e)
		}
	}
}

// evictable is how many entries may leave memory.
func (t *Table) evictable() int {
	n := len(t.ring) - len(t.dirty)
	if t.inCut {
		n -= len(t.cut.items)
	}
	return n
}

// evict lets the clock hand pass a bounded number of entries, in step with those that arrive, and
// removes the ones that were not asked for since it came by last.
func (t *Table) evict() {
	steps := 64 + 4*t.arrived
	t.arrived = 0
	if t.bytes <= t.o.CacheBytes || t.evictable() <= 0 {
		return
	}
	if t.bytes > 2*t.o.CacheBytes { // a burst came while everything was changed, and could not be evicted then
		steps += len(t.ring) / 8
	}
	for ; steps > 0 && t.bytes > t.o.CacheBytes && len(t.ring) > 0; steps-- {
		if t.hand >= len(t.ring) {
			t.hand = 0
		}
		e := t.ring[t.hand]
		switch {
		case e.flags&(flagDirty|flagInCut) != 0:
			t.hand++
		case e.flags&flagUsed != 0:
			e.flags &^= flagUsed
			t.hand++
		default: // remove puts another entry in its place
			t.whole = t.whole && e.flags&flagDurable == 0
			t.remove(e)
			t.o.Metrics.evictions.Inc()
		}
	}
}

// keptFree bounds the evicted entries that are kept to be filled again.
const keptFree = 64

// remove takes an entry out of memory.
func (t *Table) remove(e *Entry) {
	t.entries.remove(e)
	last := len(t.ring) - 1
	moved := t.ring[last]
	t.ring[e.slot], moved.slot = moved, e.slot
	t.ring[last] = nil
	t.ring = t.ring[:last]
	t.bytes -= int64(e.size)
	if len(t.free) < keptFree && e.size < 8<<10 {
		*e = Entry{Record: recycled(&e.Record)}
		t.free = append(t.free, e)
	}
}

// recycled is an empty record with the memory of an old one.
func recycled(r *customer.Record) customer.Record {
	return customer.Record{
		Usage: r.Usage[:0], Spend: r.Spend[:0], Currencies: r.Currencies[:0], Seen: r.Seen[:0],
		Complaints: r.Complaints[:0], Lifecycles: r.Lifecycles[:0],
	}
}
