package stream

import (
	"encoding/binary"
	"errors"
)

const (
	hourMs     = int64(3_600_000)
	dayMs      = 24 * hourMs
	weekHours  = 168
	rhythmUnit = 64 // stored rates are multiples of 1/64 arrival an hour
)

// rhythm is what one feed of one task usually brings: arrivals an hour, by hour of the week (UTC), each an exponentially
// weighted mean over weeks with weight 0.3 for the newest. It tells a feed that fell silent from customers that did.
//
// It is a function of the event times alone, so that a replay learns the same.
type rhythm struct {
	rate  [weekHours]uint32 // arrivals an hour in units of 1/rhythmUnit
	hour  int64             // hour (since the epoch) that is being counted; 0 before the first arrival
	count uint32            // arrivals in that hour
	first int64             // hour of the first arrival
	last  int64             // event time of the newest arrival, ms
}

// observe counts one arrival at event time t (ms). Arrivals of hours that are already folded move nothing.
func (r *rhythm) observe(t int64) {
	h := t / hourMs
	if h == r.hour {
		r.count++
		r.last = max(r.last, t)
		return
	}
	if h < r.hour {
		return
	}
	if r.hour == 0 {
		r.first = h
	} else {
		r.fold(h)
	}
	r.hour, r.count, r.last = h, 1, t
}

// fold closes the counted hour and the empty ones up to h. Emptiness of more than a week is learnt as one empty week.
func (r *rhythm) fold(h int64) {
	r.learn(r.hour, r.count)
	from := max(r.hour+1, h-weekHours)
	for x := from; x < h; x++ {
		r.learn(x, 0)
	}
}

func (r *rhythm) learn(hour int64, n uint32) {
	i := hour % weekHours
	sample := n * rhythmUnit
	if hour-r.first < weekHours {
		r.rate[i] = sample
		return
	}
	r.rate[i] = uint32((7*uint64(r.rate[i]) + 3*uint64(sample) + 5) / 10)
}

// resume forgets the silence since the last arrival: a stall is not what the feed usually does.
func (r *rhythm) resume(t int64) {
	h := t / hourMs
	if h <= r.hour || r.hour == 0 {
		return
	}
	r.learn(r.hour, r.count)
	r.hour, r.count, r.last = h, 0, t
}

// learnt is true once every hour of the week was seen.
func (r *rhythm) learnt() bool { return r.hour != 0 && r.hour-r.first >= weekHours }

// usual is the usual number of arrivals an hour at event time t.
func (r *rhythm) usual(t int64) float64 {
	return float64(r.rate[(t/hourMs)%weekHours]) / rhythmUnit
}

// expected is the number of arrivals that the rhythm promises between two event times (ms).
func (r *rhythm) expected(from, to int64) float64 {
	var sum float64
	if to-from > weekHours*hourMs {
		var week uint64
		for _, x := range r.rate {
			week += uint64(x)
		}
		weeks := (to - from) / (weekHours * hourMs)
		sum = float64(weeks) * float64(week) / rhythmUnit
		from += weeks * weekHours * hourMs
	}
	for from < to {
		end := min((from/hourMs+1)*hourMs, to)
		sum += r.usual(from) * float64(end-from) / float64(hourMs)
		from = end
	}
	return sum
}

// silent says whether the feed has fallen silent at event time now: nothing came for at least after, in which enough
// arrivals were due. A Poisson feed stays silent for 30 expected arrivals with probability 1e-13.
func (r *rhythm) silent(now, afterMs int64, enough float64) bool {
	if !r.learnt() || now-r.last < afterMs {
		return false
	}
	return r.expected(r.last, now) >= enough
}

// append encodes the rhythm: varints, runs of equal rates are not worth a codec at one record a cut.
func (r *rhythm) append(b []byte) []byte {
	b = binary.AppendVarint(b, r.hour)
	b = binary.AppendUvarint(b, uint64(r.count))
	b = binary.AppendVarint(b, r.first)
	b = binary.AppendVarint(b, r.last)
	if r.hour == 0 {
		return b
	}
	for _, x := range r.rate {
		b = binary.AppendUvarint(b, uint64(x))
	}
	return b
}

func (r *rhythm) decode(d *decoder) {
	r.hour = d.varint()
	r.count = uint32(d.uvarint())
	r.first = d.varint()
	r.last = d.varint()
	if r.hour == 0 {
		return
	}
	for i := range r.rate {
		r.rate[i] = uint32(d.uvarint())
	}
}

// decoder reads varints and remembers the first fault, so that a record is checked once at its end.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = errors.New(what)
		d.b = nil
	}
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("truncated number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("truncated number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail("truncated")
		return 0
	}
	b := d.b[0]
	d.b = d.b[1:]
	return b
}

func (d *decoder) str() string {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail("truncated text")
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}
