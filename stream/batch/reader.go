package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// Where the fields of a batch lie.
const (
	atLength    = 8
	atMagic     = 16
	atCRC       = 17
	atAttrs     = 21
	atLastDelta = 23
	atBaseTime  = 27
	atMaxTime   = 35
	atProducer  = 43
	atEpoch     = 51
	atSequence  = 53
	atCount     = 57
	headerSize  = 61
	lengthFrom  = 12 // the length counts from here
	minRecord   = 7  // bytes of a record without key, value and headers, its length included

	attrCodec         = 0x07
	attrLogAppend     = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
)

var (
	// ErrCorrupt is what a CorruptError is.
	ErrCorrupt = errors.New("corrupt record batch")
	// ErrFormat: a batch of a format before version 2.
	ErrFormat = errors.New("record format too old")
)

// CorruptError is a batch that cannot be believed. Nothing at or after Offset was handed out.
type CorruptError struct {
	Offset int64 // first offset of the batch, or the position at which it was expected
	Err    error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v at offset %d: %v", ErrCorrupt, e.Offset, e.Err)
}

// Unwrap gives ErrCorrupt and the cause.
func (e *CorruptError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }

// checksum is CRC-32C.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Aborted names a transaction within a fetch answer that was aborted.
type Aborted struct{ ProducerID, FirstOffset int64 }

// Scan walks over batch headers only. It answers how many bytes hold whole batches and the offset after the last of them
// (from, if there is none). An error is a header that cannot be believed; what stands before it is answered nevertheless.
func Scan(b []byte, from int64) (whole int, next int64, err error) {
	next = from
	for {
		size, err := frame(b[whole:], next)
		if err != nil || size == 0 {
			return whole, next, err
		}
		h := b[whole:]
		next = max(next, int64At(h, 0)+int64(int32At(h, atLastDelta))+1)
		whole += size
	}
}

// frame is the size of the batch that b begins with; 0 if it is not all there.
func frame(b []byte, at int64) (int, error) {
	if len(b) <= atMagic {
		return 0, nil
	}
	if magic := b[atMagic]; magic < 2 {
		return 0, &CorruptError{Offset: max(int64At(b, 0), at), Err: fmt.Errorf("%w: version %d, only 2 is read; it was written by a producer or kept by a topic from before Kafka 0.11 (message.format.version)", ErrFormat, magic)}
	} else if magic > 2 {
		return 0, &CorruptError{Offset: at, Err: fmt.Errorf("unknown record format %d", magic)}
	}
	n := int(int32At(b, atLength))
	if n < headerSize-lengthFrom {
		return 0, &CorruptError{Offset: at, Err: fmt.Errorf("batch of %d bytes", n)}
	}
	if len(b)-lengthFrom < n {
		return 0, nil
	}
	if d, c := int32At(b, atLastDelta), int32At(b, atCount); d < 0 || c < 0 || int64(c) > int64(d)+1 {
		return 0, &CorruptError{Offset: max(int64At(b, 0), at), Err: fmt.Errorf("%d records over %d offsets", c, int64(d)+1)}
	}
	return lengthFrom + n, nil
}

func int64At(b []byte, i int) int64 { return int64(binary.BigEndian.Uint64(b[i:])) }
func int32At(b []byte, i int) int32 { return int32(binary.BigEndian.Uint32(b[i:])) }

// Reader takes the batches of one fetch answer apart. The zero value is an empty one. Not safe for concurrent use.
type Reader struct {
	pool    *Pool
	buf     *Buffer
	rest    []byte
	next    int64
	aborted []Aborted // not yet begun, by first offset
	ended   []int64   // producers within an aborted transaction
	commit  bool
	err     error
}

// Reset begins a new answer: buf holds its records (the Reader takes over the caller's reference), from is the offset that
// was asked for, records before it are left out. With committed, the records of the aborted transactions, as the answer
// lists them, are left out too.
func (r *Reader) Reset(pool *Pool, buf *Buffer, from int64, committed bool, aborted []Aborted) {
	r.Close()
	r.pool, r.buf, r.rest, r.next, r.err = pool, buf, buf.B, from, nil
	r.commit = committed
	r.aborted = append(r.aborted[:0], aborted...)
	slices.SortFunc(r.aborted, func(a, b Aborted) int {
		switch {
		case a.FirstOffset < b.FirstOffset:
			return -1
		case a.FirstOffset > b.FirstOffset:
			return 1
		}
		return 0
	})
	r.ended = r.ended[:0]
}

// Close gives back what the Reader holds; records handed out stay valid. Next then answers io.EOF.
func (r *Reader) Close() {
	if r.buf != nil {
		r.buf.Release()
	}
	r.buf, r.rest, r.err = nil, nil, io.EOF
}

// Position is the offset after everything that was passed so far: the one to fetch next once Next has answered io.EOF.
func (r *Reader) Position() int64 { return r.next }

// Next gives the next batch that has records to hand out, io.EOF when the answer is used up, or a CorruptError, which stays.
func (r *Reader) Next() (*Records, error) {
	if r.err != nil || r.buf == nil {
		if r.err == nil {
			r.err = io.EOF
		}
		return nil, r.err
	}
	for {
		size, err := frame(r.rest, r.next)
		if err != nil {
			r.err = err
			return nil, err
		}
		if size == 0 {
			r.Close()
			return nil, io.EOF
		}
		b := r.rest[:size]
		r.rest = r.rest[size:]
		recs, err := r.open(b)
		if err != nil {
			r.err = &CorruptError{Offset: max(int64At(b, 0), r.next), Err: err}
			return nil, r.err
		}
		r.next = max(r.next, int64At(b, 0)+int64(int32At(b, atLastDelta))+1)
		if recs != nil {
			return recs, nil
		}
	}
}

// open judges one batch; nil if it has nothing to hand out.
func (r *Reader) open(b []byte) (*Records, error) {
	base, delta := int64At(b, 0), int32At(b, atLastDelta)
	last := base + int64(delta)
	if base < 0 || last < base {
		return nil, fmt.Errorf("offsets %d to %d", base, last)
	}
	if last < r.next {
		return nil, nil
	}
	if got, want := checksum(b[atAttrs:]), binary.BigEndian.Uint32(b[atCRC:]); got != want {
		return nil, fmt.Errorf("CRC-32C is %08x, the batch says %08x", got, want)
	}
	attrs := binary.BigEndian.Uint16(b[atAttrs:])
	producer := int64At(b, atProducer)
	r.begin(last)
	if attrs&attrControl != 0 {
		return nil, r.control(b, producer)
	}
	if attrs&attrTransactional != 0 && slices.Contains(r.ended, producer) {
		return nil, nil
	}
	if int32At(b, atCount) == 0 {
		return nil, nil
	}
	return r.decode(b, attrs, base, last)
}

// begin notes the aborted transactions that have begun by the offset last.
func (r *Reader) begin(last int64) {
	if !r.commit {
		return
	}
	for len(r.aborted) > 0 && r.aborted[0].FirstOffset <= last {
		r.ended = append(r.ended, r.aborted[0].ProducerID)
		r.aborted = r.aborted[1:]
	}
}

// control reads a marker: an abort marker ends the aborted transaction of its producer.
func (r *Reader) control(b []byte, producer int64) error {
	if int32At(b, atCount) == 0 {
		return nil // a marker whose time is over leaves an empty batch behind
	}
	var e entry
	body := b[headerSize:]
	if _, err := e.parse(body, 0); err != nil {
		return fmt.Errorf("control record: %w", err)
	}
	if e.keyLen < 4 {
		return errors.New("control record without a type")
	}
	const abort = 0
	if kind := binary.BigEndian.Uint16(body[e.key+2:]); kind == abort {
		if i := slices.Index(r.ended, producer); i >= 0 {
			r.ended = slices.Delete(r.ended, i, i+1)
		}
	}
	return nil
}

func (r *Reader) decode(b []byte, attrs uint16, base, last int64) (*Records, error) {
	buf, data := r.buf, b[headerSize:]
	if codec := Codec(attrs & attrCodec); codec != None {
		expanded, err := r.pool.expand(codec, data)
		if err != nil {
			return nil, err
		}
		buf, data = expanded, expanded.B
	} else {
		buf.Retain()
	}
	recs, _ := r.pool.records.Get().(*Records)
	if recs == nil {
		recs = &Records{}
	}
	*recs = Records{
		pool: r.pool, buf: buf, data: data, base: base, last: last, time: int64At(b, atBaseTime),
		maxTime: int64At(b, atMaxTime), logAppend: attrs&attrLogAppend != 0, index: recs.index[:0],
	}
	if err := recs.parse(int(int32At(b, atCount)), r.next); err != nil {
		recs.Release()
		return nil, err
	}
	if len(recs.index) == 0 {
		recs.Release()
		return nil, nil
	}
	return recs, nil
}
