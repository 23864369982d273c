package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"unsafe"

	"ebb/state/customer"
)

// image is the newest value of each customer in a stretch of a changelog, in memory: entries one after the other in a few large
// buffers, and an index of their places. It has no pointers for the collector to follow and needs about 25 bytes a customer beside
// the ids and values, so that a million of them is a matter of some 150 MB and of a second.
//
// While it is filled it belongs to one goroutine; after that it does not change, and any may read it.
type image struct {
	seed   maphash.Seed
	slots  []place
	n      int // customers, tombstones included
	chunks [][]byte
	size   int64 // capacity of the chunks
	live   int64 // bytes of the entries that count
	dead   int64 // bytes of those that were replaced
	timers []imageTimer
}

// place says where an entry lies; chunk is one more than its index, 0 for nowhere.
type place struct{ hash, chunk, off uint32 }

// imageTimer is the armed time of an entry.
type imageTimer struct {
	at         int64
	chunk, off uint32
}

const (
	placeBytes = int64(unsafe.Sizeof(place{}))
	minChunk   = 16 << 10
	maxChunk   = 1 << 20
)

func newImage() *image { return &image{seed: maphash.MakeSeed(), slots: make([]place, 64)} }

// bytes is the memory that the image takes.
func (m *image) bytes() int64 {
	return m.size + int64(len(m.slots))*placeBytes + int64(len(m.timers))*int64(unsafe.Sizeof(imageTimer{}))
}

// get finds a customer's value; nil is a tombstone.
func (m *image) get(id []byte) (value []byte, ok bool) {
	i := m.find(id)
	if m.slots[i].chunk == 0 {
		return nil, false
	}
	_, value = m.at(m.slots[i].chunk, m.slots[i].off)
	return value, true
}

// find is the slot of a customer, or the free one where he belongs.
func (m *image) find(id []byte) int {
	hash := uint32(maphash.Bytes(m.seed, id))
	mask := len(m.slots) - 1
	for i := int(hash) & mask; ; i = (i + 1) & mask {
		s := &m.slots[i]
		if s.chunk == 0 {
			return i
		}
		if s.hash == hash {
			if got, _ := m.at(s.chunk, s.off); bytes.Equal(got, id) {
				return i
			}
		}
	}
}

// at reads an entry.
func (m *image) at(chunk, off uint32) (id, value []byte) {
	id, value, _ = entry(m.chunks[chunk-1][off:])
	return id, value
}

// entry takes the first entry off: the length of the id, the id, the length of the value, the value. No record is empty, so that
// length 0 means a tombstone.
func entry(b []byte) (id, value, rest []byte) {
	n, w := binary.Uvarint(b)
	b = b[w:]
	id, b = b[:n:n], b[n:]
	n, w = binary.Uvarint(b)
	b = b[w:]
	if n > 0 {
		value = b[:n:n]
	}
	return id, value, b[n:]
}

// set keeps a copy of a value, in place of an older one of the same customer; an empty one is a tombstone.
func (m *image) set(id, value []byte) {
	i := m.find(id)
	if s := m.slots[i]; s.chunk != 0 {
		_, old := m.at(s.chunk, s.off)
		if len(old) == len(value) {
			copy(old, value)
			return
		}
		m.retire(int64(entrySize(len(id), len(old))))
		m.slots[i].chunk, m.slots[i].off = m.put(id, value)
		return
	}
	if (m.n+1)*4 > len(m.slots)*3 {
		m.grow()
		i = m.find(id)
	}
	m.n++
	chunk, off := m.put(id, value)
	m.slots[i] = place{uint32(maphash.Bytes(m.seed, id)), chunk, off}
}

func (m *image) retire(n int64) {
	m.live -= n
	m.dead += n
}

func entrySize(id, value int) int {
	return uvarintSize(id) + id + uvarintSize(value) + value
}

func uvarintSize(n int) (size int) {
	for size = 1; n >= 0x80; size++ {
		n >>= 7
	}
	return size
}

// put appends an entry.
func (m *image) put(id, value []byte) (chunk, off uint32) {
	n := entrySize(len(id), len(value))
	last := len(m.chunks) - 1
	if last < 0 || cap(m.chunks[last])-len(m.chunks[last]) < n {
		c := make([]byte, 0, max(min(max(int(m.size/4), minChunk), maxChunk), n))
		m.chunks = append(m.chunks, c)
		m.size += int64(cap(c))
		last++
	}
	b := m.chunks[last]
	off = uint32(len(b))
	b = append(binary.AppendUvarint(b, uint64(len(id))), id...)
	m.chunks[last] = append(binary.AppendUvarint(b, uint64(len(value))), value...)
	m.live += int64(n)
	return uint32(last + 1), off
}

// grow doubles the slots. The hashes are in them, so no entry is touched.
func (m *image) grow() {
	old := m.slots
	m.slots = make([]place, 2*len(old))
	mask := len(m.slots) - 1
	for _, s := range old {
		if s.chunk == 0 {
			continue
		}
		i := int(s.hash) & mask
		for m.slots[i].chunk != 0 {
			i = (i + 1) & mask
		}
		m.slots[i] = s
	}
}

// wasteful says that most of the memory is of replaced entries.
func (m *image) wasteful() bool { return m.dead > m.live && m.dead > minChunk }

// compacted is the same without replaced entries.
func (m *image) compacted() *image {
	c := newImage()
	m.each(func(id, value []byte) bool {
		c.set(id, value)
		return true
	})
	return c
}

// each calls fn for every customer until it returns false, and says whether it never did. A nil value is a tombstone.
func (m *image) each(fn func(id, value []byte) bool) bool {
	return m.places(func(_, _ uint32, id, value []byte) bool { return fn(id, value) })
}

// places goes through the entries that count in the order of memory.
func (m *image) places(fn func(chunk, off uint32, id, value []byte) bool) bool {
	for c, b := range m.chunks {
		for rest := b; len(rest) > 0; {
			off := uint32(len(b) - len(rest))
			var id, value []byte
			id, value, rest = entry(rest)
			if m.dead > 0 {
				if s := m.slots[m.find(id)]; s.chunk != uint32(c+1) || s.off != off {
					continue
				}
			}
			if !fn(uint32(c+1), off, id, value) {
				return false
			}
		}
	}
	return true
}

// arm lists the armed times, in order.
func (m *image) arm() {
	m.timers = make([]imageTimer, 0, m.n)
	m.places(func(chunk, off uint32, _, value []byte) bool {
		if at := customer.EncodedDeadline(value); at != 0 {
			m.timers = append(m.timers, imageTimer{at, chunk, off})
		}
		return true
	})
	slices.SortFunc(m.timers, func(a, b imageTimer) int { return cmp.Compare(a.at, b.at) })
}

// sortKey is the place of an entry with eight bytes of its id: what differs early is compared without touching the entry.
type sortKey struct {
	head       uint64
	chunk, off uint32
}

// sorted lists the entries in the order of the ids.
func (m *image) sorted() []sortKey {
	skip := m.commonPrefix()
	keys := make([]sortKey, 0, m.n)
	m.places(func(chunk, off uint32, id, _ []byte) bool {
		var head [8]byte
		copy(head[:], id[skip:])
		keys = append(keys, sortKey{binary.BigEndian.Uint64(head[:]), chunk, off})
		return true
	})
	slices.SortFunc(keys, func(a, b sortKey) int {
		if a.head != b.head {
			return cmp.Compare(a.head, b.head)
		}
		x, _ := m.at(a.chunk, a.off)
		y, _ := m.at(b.chunk, b.off)
		return bytes.Compare(x, y)
	})
	return keys
}

// commonPrefix is the number of bytes with which all ids begin.
func (m *image) commonPrefix() int {
	var first []byte
	n := -1
	m.each(func(id, _ []byte) bool {
		if n < 0 {
			first, n = id, len(id)
			return true
		}
		n = min(n, len(id))
		for i := range n {
			if id[i] != first[i] {
				n = i
				break
			}
		}
		return true
	})
	return max(n, 0)
}
