package state

// waiting is a set of committed changes on their way to the store: of each customer the newest
// encoded record, the timer entries that go with them, and the position that they reach. While
// the flusher writes it nobody changes it.
type waiting struct {
	index  map[string]int32 // customer -> ops
	ops    []customerOp
	timers []Timer
	below  int64  // timer buckets before this hour are not needed any more
	next   int64  // changelog offset behind the changes
	moved  bool   // next counts
	task   []byte // newest task record, nil: none
	gen    uint32 // newest cut in it

	tombstones bool // some of the values are

	bytes  int64 // of the values that count, with an allowance for each
	pinned int64 // of all buffers that the values lie in
}

// opBytes is the memory that an entry takes beside its value.
const opBytes = 80

func newWaiting() *waiting { return &waiting{index: map[string]int32{}} }

// empty says that there is nothing to write.
func (w *waiting) empty() bool {
	return len(w.ops) == 0 && len(w.timers) == 0 && !w.moved
}

// get finds the newest value of a customer; a nil value is a tombstone.
func (w *waiting) get(id []byte) (value []byte, ok bool) {
	if w == nil {
		return nil, false
	}
	i, ok := w.index[string(id)]
	if !ok {
		return nil, false
	}
	return w.ops[i].value, true
}

// set keeps a value, in place of an older one of the same customer. It does not copy.
func (w *waiting) set(id string, value []byte) {
	if i, ok := w.index[id]; ok {
		w.replace(i, value)
		return
	}
	w.insert(id, value)
}

func (w *waiting) replace(i int32, value []byte) {
	w.bytes += int64(len(value) - len(w.ops[i].value))
	w.ops[i].value = value
	w.tombstones = w.tombstones || value == nil
}

func (w *waiting) insert(id string, value []byte) {
	w.index[id] = int32(len(w.ops))
	w.ops = append(w.ops, customerOp{id, value})
	w.bytes += int64(len(id) + len(value) + opBytes)
	w.tombstones = w.tombstones || value == nil
}

// compact copies the values that count into one buffer when most of what the buffers hold has been
// replaced: hot customers come with every cut, and one cold customer would keep a whole cut alive. It does so too when the buffers reach the budget of what waits, and
// what counts does not: to copy that costs a hundredth of writing it to the store before its time.
func (w *waiting) compact(budget int64) {
	live := w.bytes - int64(len(w.ops))*opBytes
	full := w.pinned >= budget && w.bytes < budget && 4*live <= 3*budget
	if w.pinned < 1<<20 || w.pinned < 2*live && !full {
		return
	}
	buf := make([]byte, 0, live)
	for i := range w.ops {
		if v := w.ops[i].value; v != nil {
			from := len(buf)
			buf = append(buf, v...)
			w.ops[i].value = buf[from:len(buf):len(buf)]
		}
	}
	w.pinned = int64(cap(buf))
}

// under puts older changes beneath the set: what a failed flush could not write.
func (w *waiting) under(old *waiting) {
	for _, o := range old.ops {
		if _, newer := w.index[o.id]; !newer {
			w.insert(o.id, o.value)
		}
	}
	w.timers = append(old.timers, w.timers...)
	w.below = max(w.below, old.below)
	w.pinned += old.pinned
	if !w.moved && old.moved {
		w.next, w.moved = old.next, true
	}
	if w.task == nil {
		w.task = old.task
	}
	w.gen = max(w.gen, old.gen)
}

// batch is the set as the store wants it.
func (w *waiting) batch(quit <-chan struct{}) *Batch {
	b := &Batch{customers: w.ops, timers: w.timers, quit: quit}
	b.DropDue(w.below)
	if w.task != nil {
		b.SetMeta(MetaTask, w.task)
	}
	if w.moved {
		b.SetPosition(w.next)
	}
	return b
}
