package state

import "hash/maphash"

// index finds an entry by the customer's id. It is open addressing with linear probing, at most three
// quarters full, kept free of gaps at removal.
//
// A map would do, at twice the time: every event looks one customer up, nearly always one
// that is in no processor cache, and what counts is the number of memory lines touched. Here that is
// one for the slot and one for the entry, which holds short ids beside its flags.
type index struct {
	seed  maphash.Seed
	slots []indexSlot
	n     int
}

type indexSlot struct {
	hash uint64
	e    *Entry // nil: free
}

// shortID is the length up to which an id is compared without leaving the entry's first memory line.
const shortID = 24

func newIndex() *index {
	return &index{seed: maphash.MakeSeed(), slots: make([]indexSlot, 64)}
}

func (x *index) get(id []byte) *Entry {
	hash := maphash.Bytes(x.seed, id)
	mask := uint64(len(x.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &x.slots[i]
		if s.e == nil {
			return nil
		}
		if s.hash == hash && s.e.is(id) {
			return s.e
		}
	}
}

// is compares the id.
func (e *Entry) is(id []byte) bool {
	if len(id) <= shortID {
		return int(e.idLen) == len(id) && string(e.idCopy[:e.idLen]) == string(id)
	}
	return e.Record.ID == string(id)
}

// name gives an entry its id.
func (e *Entry) name(id string) {
	e.Record.ID = id
	e.idLen = shortID + 1
	if len(id) <= shortID {
		e.idLen = uint8(copy(e.idCopy[:], id))
	}
}

// add takes an entry up that is not in the index.
func (x *index) add(e *Entry) {
	if (x.n+1)*4 > len(x.slots)*3 {
		x.grow()
	}
	x.n++
	x.place(indexSlot{maphash.String(x.seed, e.Record.ID), e})
}

func (x *index) place(s indexSlot) {
	mask := uint64(len(x.slots) - 1)
	i := s.hash & mask
	for x.slots[i].e != nil {
		i = (i + 1) & mask
	}
	x.slots[i] = s
}

// grow doubles the slots. The hashes are in them, so no entry is touched.
func (x *index) grow() {
	old := x.slots
	x.slots = make([]indexSlot, 2*len(old))
	for _, s := range old {
		if s.e != nil {
			x.place(s)
		}
	}
}

// remove takes an entry out and moves up those behind it that it kept from their place.
func (x *index) remove(e *Entry) {
	mask := uint64(len(x.slots) - 1)
	i := maphash.String(x.seed, e.Record.ID) & mask
	for x.slots[i].e != e {
		i = (i + 1) & mask
	}
	x.n--
	for j := i; ; {
		j = (j + 1) & mask
		s := x.slots[j]
		if s.e == nil {
			x.slots[i] = indexSlot{}
			return
		}
		if home := s.hash & mask; (j-home)&mask >= (j-i)&mask {
			x.slots[i] = s
			i = j
		}
	}
}
