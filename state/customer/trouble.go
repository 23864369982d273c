package customer

import (
	"math/bits"
	"slices"

	"ebb/stream/event"
)

// numFailures is how many outcomes of a use are failures.
const numFailures = int(event.OutcomeAbandoned - event.OutcomeFailed + 1)

// troubleDays is for how many days trouble is remembered, seen from the newest day with some.
const troubleDays = 91

// Trouble is what went wrong for a customer on one local day. The counts saturate.
type Trouble struct {
	Day        int32
	Failed     [numFailures]uint16 // uses by outcome, from event.OutcomeFailed on
	Unreached  uint16              // contacts that did not get through
	Complaints uint16              // inquiries and complaints, opened or reopened
}

// Uses is the number of uses that failed in whatever way.
func (t *Trouble) Uses() int {
	n := 0
	for _, f := range t.Failed {
		n += int(f)
	}
	return n
}

// Troubles are the days of the last three months on which something went wrong, oldest first. They must not be changed.
func (r *Record) Troubles() []Trouble {
	if r.desk == nil {
		return nil
	}
	return r.desk.days
}

// noteContact takes from a step of a complaint that the customer turned to the company, or did not get through.
func (r *Record) noteContact(e *event.Event, p *Params) {
	t := Trouble{}
	switch e.Kind {
	case event.KindContactFailed:
		t.Unreached = 1
	case event.KindInquiry, event.KindOpened, event.KindReopened:
		t.Complaints = 1
	default:
		return
	}
	t.Day = r.localDay(max(e.Time, 1), p)
	r.desked().addTrouble(&t)
}

// noteFailure counts a use that failed.
func (d *desk) noteFailure(day int32, how event.Outcome) {
	t := Trouble{Day: day}
	t.Failed[how-event.OutcomeFailed] = 1
	d.addTrouble(&t)
}

// addTrouble adds up what happened on a day. What is older than troubleDays is dropped.
func (d *desk) addTrouble(t *Trouble) {
	if n := len(d.days); n != 0 && t.Day <= d.days[n-1].Day-troubleDays {
		return
	}
	i, found := slices.BinarySearchFunc(d.days, t.Day, func(x Trouble, day int32) int { return int(x.Day) - int(day) })
	if !found {
		d.days = slices.Insert(d.days, i, Trouble{Day: t.Day})
		oldest := d.days[len(d.days)-1].Day - troubleDays
		gone := 0
		for gone < i && d.days[gone].Day <= oldest {
			gone++
		}
		d.days = slices.Delete(d.days, 0, gone)
		i -= gone
	}
	to := &d.days[i]
	for k := range to.Failed {
		to.Failed[k] = saturated(to.Failed[k], t.Failed[k])
	}
	to.Unreached, to.Complaints = saturated(to.Unreached, t.Unreached), saturated(to.Complaints, t.Complaints)
}

func saturated(a, b uint16) uint16 { return a + min(b, ^uint16(0)-a) }

// The stored form: for each day the step from the one before, which of the counts are there, and those.
func appendTrouble(dst []byte, days []Trouble) []byte {
	dst = appendUvarint(dst, uint64(len(days)))
	day := int32(0)
	for i := range days {
		t := &days[i]
		dst = appendUvarint(dst, uint64(t.Day-day))
		day = t.Day
		counts, set := t.counts(), uint64(0)
		for k, n := range counts {
			if *n != 0 {
				set |= 1 << k
			}
		}
		dst = appendUvarint(dst, set)
		for _, n := range counts {
			if *n != 0 {
				dst = appendUvarint(dst, uint64(*n))
			}
		}
	}
	return dst
}

// counts lists the counts in the order of the stored form; new ones are added at the end.
func (t *Trouble) counts() [numFailures + 2]*uint16 {
	f := &t.Failed
	return [...]*uint16{&f[0], &f[1], &f[2], &f[3], &f[4], &f[5], &t.Unreached, &t.Complaints}
}

// trouble reads n days.
func (d *decoder) trouble(to *desk, n int) {
	day := int64(0)
	for i := 0; i < n && !d.bad; i++ {
		step := d.uvarint()
		set := d.uvarint()
		d.bad = d.bad || step > maxDay || i > 0 && step == 0 || set == 0 || bits.Len64(set) > numFailures+2
		day += int64(step)
		t := Trouble{Day: int32(day)}
		for k, c := range t.counts() {
			if set&(1<<k) != 0 && !d.bad {
				v := d.uvarint()
				d.bad = v == 0 || v > 1<<16-1 || d.bad
				*c = uint16(v)
			}
		}
		to.days = append(to.days, t)
		d.bad = d.bad || day > maxDay || day-int64(to.days[0].Day) >= troubleDays
	}
}
