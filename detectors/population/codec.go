package population

import (
	"encoding/binary"
	"errors"
	"math"

	"ebb/state/customer"
)

// Errors of the decoders.
var (
	// ErrDamaged: the bytes are no sample, no model, or no state of a fold.
	ErrDamaged = errors.New("population: damaged bytes")
	// ErrNewerVersion: the bytes were written by a newer ebb.
	ErrNewerVersion = errors.New("population: written by a newer version of ebb")
)

// writer appends numbers: varints, and little-endian where the size is fixed.
type writer struct{ b []byte }

func (w *writer) uvarint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) varint(v int64)   { w.b = binary.AppendVarint(w.b, v) }
func (w *writer) uint64(v uint64)  { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) text(s string)    { w.b = append(binary.AppendUvarint(w.b, uint64(len(s))), s...) }
func (w *writer) float32(v float32) {
	w.b = binary.LittleEndian.AppendUint32(w.b, math.Float32bits(v))
}

func (w *writer) bool(v bool) {
	b := byte(0)
	if v {
		b = 1
	}
	w.b = append(w.b, b)
}

func (w *writer) floats(all ...float64) {
	for _, v := range all {
		w.uint64(math.Float64bits(v))
	}
}

// reader reads numbers from the front of b; once something is wrong it reads zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.bad, r.b = true, nil }

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	head := r.b[:n]
	r.b = r.b[n:]
	return head
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) bool() bool {
	b := r.byte()
	r.bad = r.bad || b > 1
	return b == 1
}

func (r *reader) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > most {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) day() int32 {
	v, n := binary.Varint(r.b)
	if n <= 0 || v < math.MinInt32 || v > math.MaxInt32 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return int32(v)
}

func (r *reader) epoch() int32 {
	d := r.day()
	r.bad = r.bad || d%EpochDays != 0
	return d
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// float reads a finite number.
func (r *reader) float() float64 {
	v := math.Float64frombits(r.uint64())
	if math.IsNaN(v) || math.IsInf(v, 0) {
		r.bad = true
		return 0
	}
	return v
}

func (r *reader) floats(to []float64) {
	for i := range to {
		to[i] = r.float()
	}
}

func (r *reader) float32() float32 {
	b := r.take(4)
	if b == nil {
		return 0
	}
	v := math.Float32frombits(binary.LittleEndian.Uint32(b))
	if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
		r.bad = true
		return 0
	}
	return v
}

// count reads how many things of at least size bytes follow.
func (r *reader) count(size int) int { return int(r.uvarint(uint64(len(r.b) / size))) }

func (r *reader) text() string { return string(r.take(int(r.uvarint(maxLabel)))) }

func (r *reader) rhythms() customer.Rhythms {
	s, rest, err := customer.DecodeRhythms(r.b)
	if err != nil {
		r.fail()
		return s
	}
	r.b = rest
	return s
}

func (m *ridge) append(w *writer) {
	w.floats(m.mean[:]...)
	w.floats(m.scale[:]...)
	w.floats(m.weights[:]...)
}

func readRidge(r *reader) *ridge {
	m := &ridge{}
	r.floats(m.mean[:])
	r.floats(m.scale[:])
	r.floats(m.weights[:])
	return m
}

func (m *trees) append(w *writer) {
	for _, e := range m.edges {
		w.uvarint(uint64(len(e)))
		for _, v := range e {
			w.float32(v)
		}
	}
	w.uvarint(uint64(len(m.each)))
	for i := range m.each {
		t := &m.each[i]
		w.b = append(append(w.b, t.feature[:]...), t.least[:]...)
		for _, v := range t.leaves {
			w.float32(v)
		}
	}
}

func readTrees(r *reader) *trees {
	m := &trees{}
	for j := range m.edges {
		n := r.count(4)
		if n > treeBins-2 {
			r.fail()
		}
		for i := 0; i < n && !r.bad; i++ {
			v := r.float32()
			r.bad = r.bad || i > 0 && v <= m.edges[j][i-1]
			m.edges[j] = append(m.edges[j], v)
		}
	}
	const size = 2*(1<<treeDepth-1) + 4<<treeDepth
	for range r.count(size) {
		var t tree
		copy(t.feature[:], r.take(len(t.feature)))
		copy(t.least[:], r.take(len(t.least)))
		for i := range t.leaves {
			t.leaves[i] = r.float32()
		}
		for _, f := range t.feature {
			r.bad = r.bad || f >= numSplit
		}
		r.bad = r.bad || !m.prepare(&t)
		m.each = append(m.each, t)
	}
	return m
}
