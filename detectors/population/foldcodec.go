package population

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"math"
	"slices"

	"ebb/state/customer"
)

const (
	foldVersion = 2 // version 1 did not keep what was told of a snapshot
	// maxChunk is the most that one piece of a fold's state takes, in bytes.
	maxChunk = 200_000
	// chunkHead is the most that stands before the content of a piece.
	chunkHead = 32
)

// Chunks is the state of a fold in pieces of at most 200 KB, each of which says its place among them. The same state always gives the same bytes, whatever the
// order in which samples came.
func (f *Fold) Chunks() [][]byte {
	all := f.append(nil)
	sum := fnv.New64a()
	_, _ = sum.Write(all)
	const most = maxChunk - chunkHead
	total := (len(all) + most - 1) / most
	chunks := make([][]byte, 0, total)
	for i := range total {
		w := writer{append(make([]byte, 0, maxChunk), foldVersion)}
		w.uvarint(uint64(i))
		w.uvarint(uint64(total))
		w.uint64(sum.Sum64())
		chunks = append(chunks, append(w.b, all[i*most:min((i+1)*most, len(all))]...))
	}
	return chunks
}

// DecodeFold reads what Chunks returned, in any order. The error is ErrDamaged, also where a piece is missing or belongs to another state, or ErrNewerVersion.
// A state that was made for another horizon is not used: the fold is then new.
func DecodeFold(cfg Config, chunks [][]byte) (*Fold, error) {
	parts := make([][]byte, len(chunks))
	var digest uint64
	var version byte
	for i, c := range chunks {
		r := reader{b: c}
		v := r.byte()
		if v > foldVersion {
			return nil, ErrNewerVersion
		} else if v == 0 || i > 0 && v != version {
			return nil, ErrDamaged
		}
		version = v
		at, total, sum := r.uvarint(math.MaxInt32), r.uvarint(math.MaxInt32), r.uint64()
		if r.bad || total != uint64(len(chunks)) || at >= total || parts[at] != nil || i > 0 && sum != digest {
			return nil, ErrDamaged
		}
		parts[at], digest = r.b, sum
	}
	all := bytes.Join(parts, nil)
	sum := fnv.New64a()
	_, _ = sum.Write(all)
	if len(chunks) == 0 || sum.Sum64() != digest {
		return nil, ErrDamaged
	}
	return readFold(cfg, all, version)
}

// append writes the state: horizon, epoch, which rhythm counts, the limit of the sample, the model, and the samples, sightings, steps and
// snapshots.
func (f *Fold) append(dst []byte) []byte {
	w := writer{dst}
	w.uvarint(uint64(f.cfg.Horizon))
	w.varint(int64(f.epoch))
	w.bool(f.purchases)
	w.uint64(f.limit)
	var model []byte
	if f.model != nil {
		model = AppendModel(nil, f.model)
	}
	w.text(string(model))
	var waiting []Sample
	for _, at := range f.waiting {
		waiting = slices.AppendSeq(waiting, maps.Values(at))
	}
	slices.SortFunc(waiting, func(a, b Sample) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Customer, b.Customer))
	})
	w.uvarint(uint64(len(waiting)))
	for i := range waiting {
		w.text(string(AppendSample(nil, &waiting[i])))
	}
	w.uvarint(uint64(len(f.seen)))
	for _, c := range slices.Sorted(maps.Keys(f.seen)) {
		w.uint64(c)
		w.uvarint(uint64(f.seen[c].count))
		w.uvarint(uint64(f.seen[c].last))
		w.float32(f.seen[c].best)
	}
	w.uvarint(uint64(len(f.steps)))
	for _, steps := range f.steps {
		w.uvarint(uint64(len(steps)))
		for _, s := range steps {
			w.float32(s.from)
			w.float32(s.to)
		}
	}
	w.snapshots(f.pending)
	w.snapshots(f.matured)
	f.drops.append(&w)
	w.text(string(f.groups.Append(nil)))
	return w.b
}

func (w *writer) snapshots(all []snapshot) {
	w.uvarint(uint64(len(all)))
	for i := range all {
		s := &all[i]
		w.uint64(s.customer)
		w.varint(int64(s.day))
		w.varint(int64(s.next))
		w.bool(s.judged)
		w.float32(s.told)
		w.text(s.tier)
		w.text(s.segment)
		w.b = customer.AppendRhythms(w.b, &customer.Rhythms{Purchases: s.rhythm, Activity: s.rhythm})
	}
}

func readFold(cfg Config, b []byte, version byte) (*Fold, error) {
	f := NewFold(cfg)
	r := reader{b: b}
	if horizon := int(r.uvarint(customer.MaxHorizon)); horizon != cfg.Horizon && !r.bad {
		return f, nil
	}
	if f.epoch = r.day(); f.epoch != neverClosed && f.epoch%EpochDays != 0 {
		return nil, ErrDamaged
	}
	f.purchases, f.limit = r.bool(), r.uint64()
	if model := r.bytes(); len(model) != 0 {
		m, err := DecodeModel(model)
		if err != nil {
			return nil, err
		}
		f.model = m
	}
	for range r.count(12) {
		s, err := DecodeSample(r.bytes())
		if err != nil {
			return nil, err
		}
		f.Observe(s)
	}
	for range r.count(14) {
		c := r.uint64()
		f.seen[c] = sighting{count: uint16(r.uvarint(math.MaxUint16)), last: uint16(r.uvarint(math.MaxUint16)), best: r.float32()}
	}
	for range r.count(1) {
		steps := make([]step, r.count(8))
		for i := range steps {
			steps[i] = step{r.float32(), r.float32()}
		}
		f.steps = append(f.steps, steps)
	}
	f.pending, f.matured = r.snapshots(version), r.snapshots(version)
	f.drops = readDropFold(&r)
	groups, err := DecodeGroups(r.bytes())
	if err != nil {
		return nil, err
	}
	f.groups = groups
	if r.bad || len(r.b) != 0 {
		return nil, ErrDamaged
	}
	return f, nil
}

func (r *reader) snapshots(version byte) []snapshot {
	all := make([]snapshot, r.count(14))
	for i := range all {
		s := &all[i]
		s.customer, s.day, s.next = r.uint64(), r.day(), r.day()
		if version > 1 {
			s.judged, s.told = r.bool(), r.float32()
		}
		s.tier, s.segment = r.text(), r.text()
		s.rhythm = r.rhythms().Purchases
	}
	return all
}

// bytes reads something behind its length.
func (r *reader) bytes() []byte {
	n, k := binary.Uvarint(r.b)
	if k <= 0 || n > uint64(len(r.b)-k) {
		r.fail()
		return nil
	}
	r.b = r.b[k:]
	return r.take(int(n))
}
