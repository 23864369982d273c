package state

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// timers holds the armed deadlines of a task: the near ones in memory, the others in the hour
// buckets of the store.
//
// A customer has one armed entry that counts: the one at his record's Armed time. Entries that
// are stale (the record was armed elsewhere since) or repeated are dropped when they come up. So
// a deadline that moves later, which every event does to it, costs nothing here.
//
//	due       hours up to opened: in order of (time, id), what came into them since they were opened in heap
//	later     hours after it, unordered lists
//	horizon   memory knows all entries of the hours before it; of those from there on only the
//	          ones that are not in the store yet
//
// The horizon goes as far as a fixed number of entries allows, so that a task with few
// customers reads the store once, and replaying months in seconds does not mean a
// search in the store for every hour.
type timers struct {
	store   Store
	max     int // entries that memory is meant to hold
	shrink  int // number of entries at which to move the horizon nearer
	n       int
	due     []timer
	popped  int // of due
	told    int // of due, by ahead
	heap    []timer
	opened  int64
	later   map[int64][]timer
	hours   []int64 // heap of the keys of later
	horizon int64
	flushed uint32 // entries of this cut and older are in the store
	next    int64  // no entry is earlier: the fast way out
}

// timer is an entry; gen is the cut that carries it to the store, 0 if it came from there.
type timer struct {
	at  int64
	id  string
	gen uint32
}

func (a timer) before(b timer) bool { return a.at < b.at || a.at == b.at && a.id < b.id }

func (a timer) compare(b timer) int {
	if a.at != b.at { // cmp.Or would compare the ids all the same
		return cmp.Compare(a.at, b.at)
	}
	return strings.Compare(a.id, b.id)
}

const never = math.MaxInt64

func newTimers(store Store, maxEntries int) *timers {
	return &timers{store: store, max: maxEntries, shrink: 2 * maxEntries, opened: -1, later: map[int64][]timer{}}
}

// add takes an entry up.
func (q *timers) add(at int64, id string, gen uint32) {
	q.put(timer{at, id, gen})
	if q.n >= q.shrink {
		q.narrow()
	}
}

func (q *timers) put(t timer) {
	q.n++
	q.next = min(q.next, t.at)
	h := Hour(t.at)
	if h <= q.opened {
		q.heap = push(q.heap, t, timer.before)
		return
	}
	list, ok := q.later[h]
	if !ok {
		q.hours = push(q.hours, h, earlier)
	}
	q.later[h] = append(list, t)
}

// pop takes the earliest entry that is not after upTo.
func (q *timers) pop(upTo int64) (timer, bool, error) {
	if upTo < q.next {
		return timer{}, false, nil
	}
	if err := q.open(Hour(upTo)); err != nil {
		return timer{}, false, err
	}
	first := q.first()
	if first == nil || first.at > upTo {
		q.next = q.earliest()
		return timer{}, false, nil
	}
	t := *first
	if len(q.heap) > 0 && first == &q.heap[0] {
		_, q.heap = pull(q.heap, timer.before)
	} else {
		*first = timer{}
		q.popped++
	}
	q.n--
	q.next = q.earliest()
	return t, true, nil
}

// first is the earliest entry of the hours that are open, nil if there is none.
func (q *timers) first() *timer {
	switch {
	case q.popped == len(q.due) && len(q.heap) == 0:
		return nil
	case q.popped == len(q.due), len(q.heap) > 0 && q.heap[0].before(q.due[q.popped]):
		return &q.heap[0]
	}
	return &q.due[q.popped]
}

// ahead is the next entries of due, as many as are warmed at a time, once each.
func (q *timers) ahead() []timer {
	if q.popped < q.told || q.popped == len(q.due) {
		return nil
	}
	q.told = min(q.popped+WarmBatch, len(q.due))
	return q.due[q.popped:q.told]
}

// open moves the hours up to the given one into due. They are sorted once: a heap would compare the ids of thousands of customers with the same deadline, which is
// midnight for most, at every one of them.
func (q *timers) open(hour int64) error {
	for q.horizon <= hour {
		next, err := q.store.Due(q.horizon, max(q.max/2, 1), func(at int64, id []byte) error {
			q.put(timer{at, string(id), 0})
			return nil
		})
		if err != nil {
			return err
		}
		q.horizon = next
	}
	q.opened = max(q.opened, hour)
	if len(q.hours) > 0 && q.hours[0] <= q.opened { // what was popped gives its room to what comes in: something is always left where deadlines are many
		q.due = slices.Delete(q.due, 0, q.popped)
		q.popped, q.told = 0, max(0, q.told-q.popped)
	}
	for len(q.hours) > 0 && q.hours[0] <= q.opened {
		var h int64
		h, q.hours = pull(q.hours, earlier)
		from := len(q.due)
		q.due = append(q.due, q.later[h]...)
		slices.SortFunc(q.due[from:], timer.compare)
		delete(q.later, h)
	}
	return nil
}

// earliest is a time before which there is nothing.
func (q *timers) earliest() int64 {
	t := int64(never)
	if first := q.first(); first != nil {
		t = first.at
	}
	if len(q.hours) > 0 {
		t = min(t, q.hours[0]*HourMillis)
	}
	if q.horizon < never/HourMillis {
		t = min(t, q.horizon*HourMillis)
	}
	return t
}

// floor is the first hour whose bucket in the store may hold an entry that counts.
func (q *timers) floor() int64 {
	f := q.horizon
	if first := q.first(); first != nil {
		f = min(f, Hour(first.at))
	}
	if len(q.hours) > 0 {
		f = min(f, q.hours[0])
	}
	if f == NoHour {
		f = q.opened + 1
	}
	return f
}

// narrow moves the horizon nearer, so that memory holds about max entries again, and forgets those beyond
// it that are in the store.
func (q *timers) narrow() {
	hours := slices.Sorted(func(yield func(int64) bool) {
		for h := range q.later {
			if !yield(h) {
				return
			}
		}
	})
	n := len(q.heap) + len(q.due) - q.popped
	for _, h := range hours {
		if n += len(q.later[h]); n > q.max {
			q.horizon = min(q.horizon, h)
			break
		}
	}
	q.forget()
	q.shrink = max(2*q.max, q.n+q.max)
}

// stored says that the entries of a cut and of those before it are in the store now.
func (q *timers) stored(gen uint32) {
	q.flushed = max(q.flushed, gen)
	if q.horizon != NoHour {
		q.forget()
	}
	q.shrink = max(2*q.max, q.n+q.max)
}

// forget drops the entries from the horizon on that the store has.
func (q *timers) forget() {
	changed := false
	for h, list := range q.later {
		if h < q.horizon {
			continue
		}
		kept := slices.DeleteFunc(list, func(t timer) bool { return t.gen <= q.flushed })
		q.n -= len(list) - len(kept)
		if len(kept) == 0 {
			delete(q.later, h)
			changed = true
			continue
		}
		q.later[h] = kept
	}
	if changed {
		q.hours = q.hours[:0]
		for h := range q.later {
			q.hours = push(q.hours, h, earlier)
		}
	}
}

func earlier(a, b int64) bool { return a < b }

// push and pull keep a binary heap. container/heap would box every entry.
func push[T any](h []T, x T, less func(a, b T) bool) []T {
	h = append(h, x)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !less(h[i], h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
	return h
}

func pull[T any](h []T, less func(a, b T) bool) (T, []T) {
	top, last := h[0], len(h)-1
	h[0] = h[last]
	var zero T
	h[last] = zero
	h = h[:last]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if less(h[c], h[least]) {
				least = c
			}
		}
		if least == i {
			return top, h
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
