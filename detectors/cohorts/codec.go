package cohorts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"ebb/stream/event"
)

// foldVersion is the first byte of the first chunk of a stored fold. Older versions stay readable.
const foldVersion = 3

// chunkBytes is from which size on a chunk of a stored fold is closed.
const chunkBytes = 256 << 10

// ErrCorrupt is returned for bytes that are no stored fold.
var ErrCorrupt = errors.New("stored cohorts are damaged")

// Chunks is the stored form, in pieces for records of their own. The same content gives the same bytes.
//
//	first chunk: version, day, begun, weeks (n; week, active customers, spend, outflow), week of the first customers, intakes (n; source, n; week, customers, active ones); then in every chunk, for each cohort: dimension, value, first, sizes (n; partition, size), counts (n; day, leavers, money at risk),
//	members (n; day, customer, detector, money at risk), k and e (8 bytes each, IEEE 754)
func (f *Fold) Chunks() [][]byte {
	b := binary.AppendVarint(binary.AppendVarint([]byte{foldVersion}, int64(f.day)), int64(f.begun))
	b = f.appendIntakes(f.appendWeeks(b))
	var out [][]byte
	for _, k := range slices.SortedFunc(maps.Keys(f.cohorts), Key.Compare) {
		if len(b) >= chunkBytes {
			out, b = append(out, b), nil
		}
		b = f.cohorts[k].append(appendText(append(b, byte(k.By)), k.Value))
	}
	return append(out, b)
}

func (c *cohort) append(b []byte) []byte {
	b = binary.AppendVarint(b, int64(c.first))
	b = binary.AppendUvarint(b, uint64(len(c.sizes)))
	for _, p := range slices.Sorted(maps.Keys(c.sizes)) {
		b = binary.AppendVarint(binary.AppendUvarint(b, uint64(p)), c.sizes[p])
	}
	b = binary.AppendUvarint(b, uint64(len(c.counts)))
	for _, x := range c.counts {
		b = binary.AppendVarint(binary.AppendVarint(binary.AppendVarint(b, int64(x.day)), x.leavers), int64(x.atRisk))
	}
	b = binary.AppendUvarint(b, uint64(len(c.members)))
	for _, m := range c.members {
		b = binary.AppendVarint(appendText(appendText(binary.AppendVarint(b, int64(m.Day)), m.Customer), m.Detector), int64(m.AtRisk))
	}
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(c.k))
	return binary.BigEndian.AppendUint64(b, math.Float64bits(c.e))
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// DecodeFold is the inverse of Chunks.
func DecodeFold(cfg Config, chunks [][]byte) (*Fold, error) {
	f := NewFold(cfg)
	for i, b := range chunks {
		d := &decoder{b: b}
		if i == 0 {
			if len(b) == 0 || b[0] == 0 {
				return nil, ErrCorrupt
			}
			if b[0] > foldVersion {
				return nil, fmt.Errorf("cohorts of format %d were stored by a newer ebb; run that version or newer", b[0])
			}
			d.b = b[1:]
			f.day, f.begun = d.day(), d.day()
			if b[0] >= 2 {
				f.weeks = d.weeks()
			}
			if b[0] >= 3 {
				f.oldest, f.intakes = d.day(), d.intakes()
			}
		}
		for len(d.b) != 0 && !d.bad {
			k := Key{Dimension(d.byte()), d.text()}
			d.bad = d.bad || k.By >= NumDimensions || f.cohorts[k] != nil
			f.cohorts[k] = d.cohort()
		}
		if d.bad {
			return nil, ErrCorrupt
		}
	}
	return f, nil
}

func (d *decoder) cohort() *cohort {
	c := &cohort{sizes: map[int32]int64{}, first: d.day()}
	for range d.count(2) {
		p := d.uvarint()
		n := d.varint()
		d.bad = d.bad || p > math.MaxInt32 || n <= 0
		c.sizes[int32(p)] = n
		c.active += n
	}
	for range d.count(3) {
		c.counts = append(c.counts, count{d.day(), d.varint(), event.Money(d.varint())})
	}
	for range d.count(4) {
		c.members = append(c.members, Member{d.day(), d.text(), d.text(), event.Money(d.varint())})
	}
	c.k, c.e = d.float(), d.float()
	return c
}

// decoder reads a chunk from its beginning. bad is true once something did not fit.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) took(n int) {
	if n <= 0 {
		d.bad, d.b = true, nil
		return
	}
	d.b = d.b[n:]
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	d.took(n)
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	d.took(n)
	return v
}

func (d *decoder) day() int32 {
	v := d.varint()
	d.bad = d.bad || v < math.MinInt32 || v > math.MaxInt32
	return int32(v)
}

// count is the number of things that follow, each of at least the given bytes.
func (d *decoder) count(least int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/least) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) text() string {
	n := d.count(1)
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) float() float64 {
	if len(d.b) < 8 {
		d.bad, d.b = true, nil
		return 0
	}
	v := math.Float64frombits(binary.BigEndian.Uint64(d.b))
	d.b = d.b[8:]
	d.bad = d.bad || math.IsNaN(v) || math.IsInf(v, 0) || v < 0
	return v
}
