package state

import "ebb/state/customer"

// Cut is what changed in a table since the cut before, encoded. It is valid until its Commit.
type Cut struct {
	items  []cutItem
	timers []Timer
	buf    []byte
	below  int64
	gen    uint32
}

type cutItem struct {
	e        *Entry
	id       string
	from, to int
	value    []byte // nil: tombstone
}

// Len is the number of customers in the cut.
func (c *Cut) Len() int { return len(c.items) }

// Each calls fn for every customer in the order in which they changed first; a nil value is a
// tombstone. It may be called from another goroutine than the table's.
func (c *Cut) Each(fn func(id string, value []byte)) {
	for i := range c.items {
		fn(c.items[i].id, c.items[i].value)
	}
}

// BeginCut encodes every changed customer; changes made from now on belong to the next cut. One cut
// is under way at a time: it ends with Commit, or with the table when its transaction failed, because
// what was applied on top of it cannot be taken back.
func (t *Table) BeginCut() *Cut {
	if t.inCut {
		panic("state: BeginCut before Commit of the cut before")
	}
	c := &t.cut
	*c = Cut{items: c.items[:0], timers: c.timers[:0], buf: make([]byte, 0, t.dirtyBytes+t.dirtyBytes/8), gen: t.gen}
	t.gen++
	for _, e := range t.dirty {
		e.flags &^= flagDirty
		t.take(c, e)
	}
	clear(t.dirty)
	t.dirty, t.dirtyBytes = t.dirty[:0], 0
	for i := range c.items { // only now: the buffer may have moved while it grew
		if it := &c.items[i]; it.to > it.from {
			it.value = c.buf[it.from:it.to:it.to]
		}
	}
	c.below = t.timers.floor()
	t.inCut = true
	return c
}

// take puts one customer into the cut.
func (t *Table) take(c *Cut, e *Entry) {
	r := &e.Record
	from := len(c.buf)
	if e.flags&flagGone != 0 {
		if e.flags&flagDurable == 0 {
			return // never left this memory: nothing to take back
		}
		e.carried, e.encoded = 0, 0
	} else {
		c.buf = customer.AppendRecord(c.buf, r)
		e.encoded = int32(len(c.buf) - from)
		if r.Armed != 0 && r.Armed != e.carried {
			c.timers = append(c.timers, Timer{r.Armed, r.ID})
		}
		e.carried = r.Armed
	}
	e.flags |= flagInCut | flagDurable
	t.resize(e)
	c.items = append(c.items, cutItem{e: e, id: r.ID, from: from, to: len(c.buf)})
}

// Commit says that the cut is durable in the changelog: next is the changelog offset behind it, task
// the task record that it carried. Its values wait for the store from now on.
func (t *Table) Commit(c *Cut, next int64, task []byte) {
	w := t.pending
	for i := range c.items {
		it := &c.items[i]
		it.e.flags &^= flagInCut
		w.set(it.id, it.value)
	}
	clear(c.items)
	w.pinned += int64(cap(c.buf))
	w.compact(t.o.PendingBytes)
	w.timers = append(w.timers, c.timers...)
	w.below = max(w.below, c.below)
	w.next, w.moved = next, true
	w.task = task
	w.gen = c.gen
	c.buf = nil
	t.inCut = false
}
