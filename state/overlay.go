package state

import (
	"errors"
	"sort"
	"sync/atomic"
)

// overlay is a store beneath changes of its changelog that are in memory only. Reading looks at both; the first Write takes the
// changes over into the store, after which they are forgotten and the overlay stands for the store alone.
//
// A store that is being filled in bulk cannot be read. Nobody needs to: the changes are then all there is.
type overlay struct {
	Store
	over    atomic.Pointer[Restored]
	writing turn
}

func newOverlay(store Store, r *Restored) *overlay {
	o := &overlay{Store: store, writing: newTurn()}
	o.over.Store(r)
	return o
}

// waits says that there are changes which the store does not have, and how much memory they take.
func (o *overlay) waits() (bytes int64, ok bool) {
	r := o.over.Load()
	if r == nil {
		return 0, false
	}
	return r.Bytes(), true
}

// Get appends the record of a customer to dst, or returns ErrNotFound.
func (o *overlay) Get(dst, id []byte) ([]byte, error) {
	r := o.over.Load()
	if r == nil {
		return o.Store.Get(dst, id)
	}
	value, ok := r.img.get(id)
	switch {
	case value != nil:
		return append(dst, value...), nil
	case ok || r.whole:
		return dst, ErrNotFound
	}
	return o.Store.Get(dst, id)
}

// Write takes over what waits, and then the batch.
func (o *overlay) Write(b *Batch) error {
	o.writing.take()
	defer o.writing.give()
	if r := o.over.Load(); r != nil {
		if err := r.writeTo(o.Store, b.quit); err != nil {
			return err
		}
		o.over.Store(nil)
	}
	return o.Store.Write(b)
}

// Due goes through the timer entries of both.
func (o *overlay) Due(hour int64, limit int, fn func(at int64, id []byte) error) (int64, error) {
	r := o.over.Load()
	if r == nil {
		return o.Store.Due(hour, limit, fn)
	}
	timers := r.img.timers
	from := sort.Search(len(timers), func(i int) bool { return Hour(timers[i].at) >= hour })
	next := int64(NoHour)
	if to := from + limit; to < len(timers) {
		next = Hour(timers[to].at) + 1
	}
	if !r.whole {
		n, err := o.Store.Due(hour, limit, func(at int64, id []byte) error {
			if Hour(at) >= next {
				return errEnough
			}
			return fn(at, id)
		})
		if err != nil && !errors.Is(err, errEnough) {
			return 0, err
		}
		if err == nil {
			next = min(next, n)
		}
	}
	for _, t := range timers[from:] {
		if Hour(t.at) >= next {
			return next, nil
		}
		id, _ := r.img.at(t.chunk, t.off)
		if err := fn(t.at, id); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// Scan calls fn for every customer, first for those in memory.
func (o *overlay) Scan(fn func(id, value []byte) error) (err error) {
	r := o.over.Load()
	if r == nil {
		return o.Store.Scan(fn)
	}
	if !r.img.each(func(id, value []byte) bool {
		if value != nil {
			err = fn(id, value)
		}
		return err == nil
	}) || r.whole {
		return err
	}
	return o.Store.Scan(func(id, value []byte) error {
		if _, ok := r.img.get(id); ok {
			return nil
		}
		return fn(id, value)
	})
}
