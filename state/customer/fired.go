package customer

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"unsafe"
)

// An alert is named by what it is about and by when it fired. Input that comes late can take an alert back and later bring about another that is due at the
// very same time; it must not bear the name of the one that somebody was told is over. So the record remembers when such alerts fired.

// maxFired is how many alerts are remembered one by one. Of those before them only the newest time is, and nothing fires at or before it again.
const maxFired = 32

// fired are the times of alerts that were told and are over.
type fired struct {
	floor int64 // newest time that is not remembered for itself any more, ms; 0 for none
	list  []firing
}

// firing is when an alert fired, ms, and a hash of its detector and subject. Two that share a hash cost a millisecond.
type firing struct {
	at    int64
	about uint32
}

func (f firing) compare(o firing) int {
	return cmp.Or(cmp.Compare(f.at, o.at), cmp.Compare(f.about, o.about))
}

// aboutOf is FNV-1a of both names.
func aboutOf(detector, subject string) uint32 {
	h := uint32(2166136261)
	for _, s := range [...]string{detector, "\x00", subject} {
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * 16777619
		}
	}
	return h
}

// RememberFired notes that an alert of the detector and subject that somebody was told of fired at a time.
func (r *Record) RememberFired(detector, subject string, at int64) {
	f := r.fired
	if f == nil {
		f = &fired{}
		r.fired = f
	}
	x := firing{max(at, 0), aboutOf(detector, subject)}
	i, known := slices.BinarySearchFunc(f.list, x, firing.compare)
	if known || x.at <= f.floor && f.floor != 0 {
		return
	}
	if f.list = slices.Insert(f.list, i, x); len(f.list) > maxFired {
		f.floor = f.list[0].at
		f.list = slices.Delete(f.list, 0, 1)
	}
}

// UnusedTime is the first time from at on at which no alert of the detector and subject fired that somebody was told of.
func (r *Record) UnusedTime(detector, subject string, at int64) int64 {
	f := r.fired
	if f == nil {
		return at
	}
	if f.floor != 0 {
		at = max(at, f.floor+1)
	}
	about := aboutOf(detector, subject)
	for {
		if _, used := slices.BinarySearchFunc(f.list, firing{at, about}, firing.compare); !used {
			return at
		}
		at++
	}
}

// LastFired is the newest time at which an alert fired that was told and is over, 0 if there is none.
func (r *Record) LastFired() int64 {
	if r.fired == nil {
		return 0
	}
	return r.fired.list[len(r.fired.list)-1].at
}

// firedPart keeps the times in the record.
type firedPart struct{}

func (firedPart) has(r *Record) bool { return r.fired != nil }

// append writes the number of times, the floor, and for each time how much later it is than the one before and what it is about.
func (firedPart) append(dst []byte, r *Record) []byte {
	f := r.fired
	dst = appendUvarint(dst, uint64(len(f.list)))
	dst = appendUvarint(dst, uint64(f.floor))
	last := f.floor
	for _, x := range f.list {
		dst = appendUvarint(dst, uint64(x.at-last))
		dst = binary.LittleEndian.AppendUint32(dst, x.about)
		last = x.at
	}
	return dst
}

func (firedPart) decode(d *decoder, r *Record) {
	n := d.count(d.uvarint(), 5)
	floor := d.uvarint()
	if d.bad = d.bad || n == 0 || n > maxFired || floor > math.MaxInt64; d.bad {
		return
	}
	f := &fired{floor: int64(floor), list: make([]firing, 0, n)}
	before := firing{at: f.floor}
	for i := range n {
		gap := d.uvarint()
		if d.bad = d.bad || gap > uint64(math.MaxInt64-before.at) || len(d.b)-d.at < 4; d.bad {
			return
		}
		x := firing{before.at + int64(gap), binary.LittleEndian.Uint32(d.b[d.at:])}
		d.at += 4
		if d.bad = i > 0 && before.compare(x) >= 0; d.bad {
			return
		}
		f.list, before = append(f.list, x), x
	}
	r.fired = f
}

// join leaves both as they are: the name of an alert names the customer too.
func (firedPart) join(*Record, *Record, *Params) {}

func (firedPart) size(r *Record) int {
	return int(unsafe.Sizeof(fired{})) + cap(r.fired.list)*int(unsafe.Sizeof(firing{}))
}
