package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Record is one record of a batch. Its slices are those of the batch: valid until Records.Release. A nil Key or Value was
// null on the wire, an empty one was empty.
type Record struct {
	Offset    int64
	Timestamp int64 // Unix milliseconds; -1 if the producer gave none
	Key       []byte
	Value     []byte
	LogAppend bool   // the timestamp is the broker's and not the producer's
	headers   []byte // count and headers, as on the wire
}

// Header is one header of a record; a nil Value was null.
type Header struct {
	Key   string
	Value []byte
}

// Headers yields the record's headers in order; for use in a for-range.
func (r Record) Headers(yield func(Header) bool) {
	b := r.headers
	n, w := binary.Varint(b)
	for b = b[max(w, 0):]; n > 0; n-- {
		var h Header
		l, w := binary.Varint(b)
		h.Key = string(b[w : w+int(l)])
		b = b[w+int(l):]
		l, w = binary.Varint(b)
		b = b[w:]
		if l >= 0 {
			h.Value, b = b[:l:l], b[l:]
		}
		if !yield(h) {
			return
		}
	}
}

// Records are the records of one batch, all checked. They belong to whoever got them, until Release.
type Records struct {
	pool      *Pool
	buf       *Buffer
	data      []byte
	index     []entry
	base      int64
	last      int64
	time      int64
	maxTime   int64
	logAppend bool
	at        int // of Next
	released  func(bytes int)
}

// entry says where in the data a record lies.
type entry struct {
	time     int64 // delta
	offset   int32 // delta
	key      uint32
	keyLen   int32 // -1: null
	value    uint32
	valueLen int32 // -1: null
	end      uint32
}

// Len is the number of records, at least 1.
func (r *Records) Len() int { return len(r.index) }

// Next fills rec with the record after the one of the call before, false at the end. It cannot fail: all records were
// checked before the batch was handed out.
func (r *Records) Next(rec *Record) bool {
	if r.at == len(r.index) {
		return false
	}
	*rec = r.At(r.at)
	r.at++
	return true
}

// At is the i-th record.
func (r *Records) At(i int) Record {
	e := &r.index[i]
	rec := Record{Offset: r.base + int64(e.offset), Timestamp: r.time + e.time, LogAppend: r.logAppend}
	if r.logAppend {
		rec.Timestamp = r.maxTime
	}
	if e.keyLen >= 0 {
		k := int(e.key)
		rec.Key = r.data[k : k+int(e.keyLen) : k+int(e.keyLen)]
	}
	at := int(e.value)
	if e.valueLen >= 0 {
		rec.Value = r.data[at : at+int(e.valueLen) : at+int(e.valueLen)]
		at += int(e.valueLen)
	}
	rec.headers = r.data[at:e.end]
	return rec
}

// NextOffset is the offset after the batch, which may lie beyond that of its last record: where reading goes on once all of
// it was used.
func (r *Records) NextOffset() int64 { return r.last + 1 }

// Size is the memory that the records hold, in bytes.
func (r *Records) Size() int { return len(r.data) }

// OnRelease has f called with Size at Release.
func (r *Records) OnRelease(f func(bytes int)) { r.released = f }

// Release gives the memory back. The records and all slices taken from them must not be touched any more.
func (r *Records) Release() {
	if r.buf == nil {
		panic("batch: records released twice")
	}
	if r.released != nil {
		r.released(len(r.data))
	}
	r.buf.Release()
	index := r.index[:0]
	if cap(index) > 1<<16 {
		index = nil // one odd batch does not pin megabytes
	}
	pool := r.pool
	*r = Records{index: index}
	pool.records.Put(r)
}

// parse indexes count records and leaves out those before the offset from. It checks everything that At and Headers rely on.
func (r *Records) parse(count int, from int64) error {
	if count > len(r.data)/minRecord {
		return fmt.Errorf("%d records in %d bytes", count, len(r.data))
	}
	if int64(len(r.data)) > 1<<31-1 {
		return fmt.Errorf("batch of %d bytes", len(r.data))
	}
	index := slices.Grow(r.index, count)[:count]
	at, kept, before := 0, 0, int32(-1)
	for range count {
		e := &index[kept]
		n, err := e.parse(r.data, at)
		if err != nil {
			return fmt.Errorf("record at byte %d: %w", at, err)
		}
		if e.offset <= before || int64(e.offset) > r.last-r.base {
			return fmt.Errorf("record at byte %d: offset delta %d after %d, batch ends at %d", at, e.offset, before, r.last-r.base)
		}
		before, at = e.offset, n
		if r.base+int64(e.offset) >= from {
			kept++
		}
	}
	if at != len(r.data) {
		return fmt.Errorf("%d bytes left over after %d records", len(r.data)-at, count)
	}
	r.index = index[:kept]
	return nil
}

var (
	errCut    = errors.New("cut off")
	errVarint = errors.New("number too long")
)

// varint reads a zigzag number at b[i]; the index after it is negative if there is none.
func varint(b []byte, i int) (int64, int) {
	// Nearly all numbers in a record fit one or two bytes.
	if i+1 < len(b) {
		c := b[i]
		if c < 0x80 {
			return int64(c>>1) ^ -int64(c&1), i + 1
		}
		if d := b[i+1]; d < 0x80 {
			u := uint64(c&0x7f) | uint64(d)<<7
			return int64(u>>1) ^ -int64(u&1), i + 2
		}
	}
	v, w := binary.Varint(b[i:])
	if w <= 0 {
		return 0, -1
	}
	return v, i + w
}

// parse reads the record at b[at] and gives the index after it.
func (e *entry) parse(b []byte, at int) (int, error) {
	size, i := varint(b, at)
	if i < 0 {
		return 0, errVarint
	}
	if size < 0 || size > int64(len(b)-i) {
		return 0, errCut
	}
	end := i + int(size)
	rec := b[:end]
	i++ // attributes: unused
	var off, n int64
	if i > end {
		return 0, errCut
	}
	if e.time, i = varint(rec, i); i < 0 {
		return 0, errVarint
	}
	if off, i = varint(rec, i); i < 0 || off < 0 || off > 1<<31-1 {
		return 0, errVarint
	}
	e.offset = int32(off)
	if n, i = varint(rec, i); i < 0 {
		return 0, errVarint
	}
	if n > int64(end-i) {
		return 0, errCut
	}
	e.key, e.keyLen = uint32(i), int32(max(n, -1))
	i += max(int(n), 0)
	if n, i = varint(rec, i); i < 0 {
		return 0, errVarint
	}
	if n > int64(end-i) {
		return 0, errCut
	}
	e.value, e.valueLen = uint32(i), int32(max(n, -1))
	i += max(int(n), 0)
	e.end = uint32(end)
	return end, checkHeaders(rec, i)
}

// checkHeaders walks over the headers that begin at b[i] and must fill the rest of b.
func checkHeaders(b []byte, i int) error {
	n, i := varint(b, i)
	if i < 0 || n < 0 {
		return errVarint
	}
	for ; n > 0; n-- {
		l, j := varint(b, i)
		if j < 0 || l < 0 {
			return errVarint
		}
		if l > int64(len(b)-j) {
			return errCut
		}
		if l, j = varint(b, j+int(l)); j < 0 {
			return errVarint
		}
		if l > int64(len(b)-j) {
			return errCut
		}
		i = j + int(max(l, 0))
	}
	if i != len(b) {
		return fmt.Errorf("%d bytes left over", len(b)-i)
	}
	return nil
}
