package customer

import (
	"encoding/binary"
	"math"
	"unsafe"

	"ebb/stream/event"
)

// Drops are the tests that look for a customer who is still there but does less: of what he spends, and of how much he uses the product.
type Drops struct {
	Spend, Usage Drop
}

// DropParams is what the drop tests need to know of the world.
type DropParams struct {
	// Value is an amount in the reporting currency, false for a currency without a rate. nil takes every amount as it is.
	Value func(c event.Currency, m event.Money) (event.Money, bool)
	// Elapsed is how many days pass for a test from one local day of the customer to a later one, above 0: not those in which the feed stood still, and
	// fewer than the calendar's while the whole population is slow. nil is the calendar.
	Elapsed func(r *Record, f event.Feed, from, to int32) float64
	// Usage: the test of usage is kept too.
	Usage bool
}

// keptDrops are the tests of a record, and what saves work.
type keptDrops struct {
	Drops
	plans [2]Plan // of spend and of usage; not stored: it follows from the rest
}

// Plan says when a detector is due, so that it need not work that out at every event of another kind. It is not stored: it follows from the record.
type Plan struct {
	// Ask is the event time before which nothing changes, 0 if it is not known.
	Ask int64
	// Model names the population's model by which it was planned.
	Model int32
}

// DropPlan returns the plan of a test. It is void once the customer does something of its kind, an alert of its begins or ends, or the
// record begins earlier than was known.
func (r *Record) DropPlan(f event.Feed) Plan {
	if r.drops == nil {
		return Plan{}
	}
	return *r.drops.plan(f)
}

// PlanDrop notes when a test is due.
func (r *Record) PlanDrop(f event.Feed, p Plan) {
	if r.drops != nil {
		*r.drops.plan(f) = p
	}
}

func (s *keptDrops) plan(f event.Feed) *Plan {
	if f == event.Usage {
		return &s.plans[1]
	}
	return &s.plans[0]
}

// forgetPlan makes the plan of a test void: something of its kind happened.
func (r *Record) forgetPlan(f event.Feed) {
	if r.drops != nil {
		*r.drops.plan(f) = Plan{}
	}
}

// beginAt sets when the record begins.
func (r *Record) beginAt(at int64) {
	r.First = at
	r.forgetPlan(event.Usage)
	r.forgetPlan(event.Payments)
}

const (
	// DropSettles is for how many days a payment or a use may come late and still count in the tests on the day to which it belongs. What comes later is
	// in the windows only.
	DropSettles = 3
	// DropBlock is the length in days of the blocks of which the highest excess of a test is kept.
	DropBlock = 28
)

// Drops returns the customer's drop tests as of DropSettles days before his newest event, nil if none are kept. They must not be changed.
func (r *Record) Drops() *Drops {
	if r.drops == nil {
		return nil
	}
	return &r.drops.Drops
}

// Drop returns a test of the customer as of the end of the day before a given one, which is not known to the test otherwise. It is false if none is kept.
// f is Payments or Usage. What Peak tells is as of Drops.
func (r *Record) Drop(f event.Feed, before int32, p *DropParams) (Drop, bool) {
	if r.drops == nil {
		return Drop{}, false
	}
	d := *r.drops.Of(f)
	r.ExtendDrop(&d, f, before, p)
	return d, true
}

// ExtendDrop takes what Drop returned on to the end of the day before a later one.
func (r *Record) ExtendDrop(d *Drop, f event.Feed, before int32, p *DropParams) {
	r.observations(f, d.last, before, p, func(day int32, amount float64) { r.take(d, f, day, amount, p) })
}

// DropLast is the newest local day on which something was bought, or used: one that a test has taken in, or a later one of the windows. 0 is none.
func (r *Record) DropLast(f event.Feed, d *Drop, p *DropParams) int32 {
	last := int32(d.last)
	r.observations(f, d.last, math.MaxInt32, p, func(day int32, _ float64) { last = day })
	return last
}

// DropRuns reports whether a test can run once it has taken in all that the windows hold.
func (r *Record) DropRuns(f event.Feed, p *DropParams) bool {
	if r.drops == nil {
		return false
	}
	d := r.drops.Of(f)
	weight := d.weight
	if weight < dropReady { // each day adds 1 at most
		r.observations(f, d.last, math.MaxInt32, p, func(int32, float64) { weight++ })
	}
	return weight >= dropReady
}

// BeginDrop notes that an alert of a drop began on a local day: another one has to wait.
func (r *Record) BeginDrop(f event.Feed, day int32) {
	if r.drops != nil {
		r.drops.Of(f).fired = dropDay(day)
		r.forgetPlan(f)
	}
}

// HoldDrop lets another alert of a drop wait as if one had begun on a local day.
func (r *Record) HoldDrop(f event.Feed, day int32) {
	if r.drops != nil {
		d := r.drops.Of(f)
		d.fired = max(d.fired, dropDay(day))
	}
}

// EndDrop notes that an alert of a drop ended: the evidence counts from now on. If the customer has settled at what he does now, the baseline is learned anew.
func (r *Record) EndDrop(f event.Feed, settled bool) {
	if r.drops == nil {
		return
	}
	r.forgetPlan(f)
	d := r.drops.Of(f)
	d.restart()
	if settled {
		d.fade(dropFaded)
	}
}

// Of is the test of a feed, Payments or Usage.
func (s *Drops) Of(f event.Feed) *Drop {
	if f == event.Usage {
		return &s.Usage
	}
	return &s.Spend
}

func dropDay(day int32) uint16 { return uint16(min(max(day, 0), math.MaxUint16)) }

// learnDrops takes the days of the windows into the tests that have settled when something happens on a day, before they leave the windows.
func (r *Record) learnDrops(day int32, p *DropParams) {
	var s Drops
	if r.drops != nil {
		s = r.drops.Drops
	}
	r.learn(&s.Spend, event.Payments, day-DropSettles, p)
	if p.Usage {
		r.learn(&s.Usage, event.Usage, day-DropSettles, p)
	}
	switch {
	case r.drops != nil:
		r.drops.Drops = s
	case s != Drops{}:
		r.drops = &keptDrops{Drops: s}
	}
}

// learn takes the days of the windows before a given one into a test that does not have them yet. A day before one that it has is too late.
func (r *Record) learn(d *Drop, f event.Feed, before int32, p *DropParams) {
	r.observations(f, d.last, before, p, func(day int32, amount float64) {
		if d.last != 0 {
			d.watch(dropDay(day), p.elapsed(r, f, int32(d.last), day))
		}
		if r.take(d, f, day, amount, p) {
			d.mark()
		}
	})
}

// observations calls yield for each day of the windows after one, 0 being none, and before another, on which something was bought or used.
func (r *Record) observations(f event.Feed, after uint16, before int32, p *DropParams, yield func(day int32, amount float64)) {
	if f == event.Usage {
		for i := firstAfter(len(r.Usage), after, func(i int) int32 { return r.Usage[i].Day }); i < len(r.Usage) && r.Usage[i].Day < before; i++ {
			u := &r.Usage[i]
			amount := float64(u.Quantity) / float64(event.MoneyUnit)
			if u.Quantity <= 0 {
				amount = float64(u.Count)
			}
			yield(u.Day, amount)
		}
		return
	}
	for i := firstAfter(len(r.Spend), after, func(i int) int32 { return r.Spend[i].Day() }); i < len(r.Spend) && r.Spend[i].Day() < before; {
		day, sum, paid := r.Spend[i].Day(), 0.0, false
		for ; i < len(r.Spend) && r.Spend[i].Day() == day; i++ {
			s := &r.Spend[i]
			paid = paid || s.Purchases != 0
			m, ok := s.Amount, true
			if p.Value != nil {
				m, ok = p.Value(r.Currencies[s.Currency()], m)
			}
			if ok {
				sum += float64(m) / float64(event.MoneyUnit)
			}
		}
		if paid { // a refund alone is no visit; one that takes back all of the day leaves the visit
			yield(day, sum)
		}
	}
}

// DropOnset is the local day on which a drop began that a test tells of, as of the end of the day before a given one: that after the last payment, or use, that
// was as usual. It is no earlier than the windows.
func (r *Record) DropOnset(f event.Feed, d *Drop, before int32, p *DropParams) int32 {
	var days []int32
	var gaps, amounts []float64
	r.observations(f, 0, before, p, func(day int32, amount float64) {
		if n := len(days); n != 0 {
			gaps = append(gaps, p.elapsed(r, f, days[n-1], day))
			if amount <= 0 {
				amount = d.Amount()
			}
			amounts = append(amounts, amount)
		}
		days = append(days, day)
	})
	if len(days) == 0 {
		return before
	}
	silent := 0.0
	if last := days[len(days)-1]; before-1 > last {
		silent = p.elapsed(r, f, last, before-1)
	}
	return days[d.onset(gaps, amounts, silent)] + 1
}

func (p *DropParams) elapsed(r *Record, f event.Feed, from, to int32) float64 {
	if p.Elapsed == nil {
		return float64(to - from)
	}
	return p.Elapsed(r, f, from, to)
}

// firstAfter is the index of the first of n days in ascending order that is after last, 0 being none. It is looked for from the end.
func firstAfter(n int, last uint16, day func(i int) int32) int {
	for n > 0 && (last == 0 || day(n-1) > int32(last)) {
		n--
	}
	return n
}

// take takes one day into a test. It is false for the first, which only begins a gap.
func (r *Record) take(d *Drop, f event.Feed, day int32, amount float64, p *DropParams) bool {
	known := d.last != 0
	if known {
		d.Take(p.elapsed(r, f, int32(d.last), day), amount)
	}
	d.last = dropDay(day)
	return known
}

// watch begins a new block of days if a day lies in one, and notes what the days since the last one were worth.
func (d *Drop) watch(day uint16, gap float64) {
	if was, is := d.last/DropBlock, day/DropBlock; is != was {
		d.peaked = oddsLeast * oddsUnit
		if is == was+1 {
			d.peaked = d.peak
		}
		d.peak = oddsLeast * oddsUnit
	}
	if d.Ready() && gap > 2*d.Gap() && !d.Absent(gap) { // before that it is less than it was, or hardly more
		d.peak = max(d.peak, odds(d.Excess(gap-1)))
	}
}

func (d *Drop) mark() {
	if d.Ready() {
		d.peak = max(d.peak, odds(d.Excess(0)))
	}
}

// Last is the local day of the newest payment or use that the test knows, 0 for none.
func (d *Drop) Last() int32 { return int32(d.last) }

// Fired is the local day on which an alert began last, or such that another one waits as if it had, 0 for never.
func (d *Drop) Fired() int32 { return int32(d.fired) }

// Peak is the highest excess of the block of DropBlock days before the one that a local day lies in; it is false if there was none, or the customer was not there.
func (d *Drop) Peak(day int32) (float64, bool) {
	peak := int16(oddsLeast * oddsUnit)
	switch was, is := int32(d.last)/DropBlock, day/DropBlock; {
	case is == was:
		peak = d.peaked
	case is == was+1:
		peak = d.peak
	}
	return float64(peak) / oddsUnit, d.Ready() && peak > oddsLeast*oddsUnit
}

// dropFaded is the weight that is left of the baseline of a customer who settled: it is enough for the test to go on.
const dropFaded = 6.0

// fade lowers the weight of what is known so far.
func (d *Drop) fade(to float64) {
	if w := float64(d.weight); w > to {
		for _, v := range [...]*float32{&d.weight, &d.gaps, &d.gaps2, &d.amounts, &d.amounts2} {
			*v = float32(float64(*v) * to / w)
		}
	}
}

// dropsPart keeps Drops in the record. The stored form is which of the two tests follow (1 spend, 2 usage), and of each: last, fired as varints; weight, gaps,
// gaps2, amounts, amounts2 as little-endian float32; and, once the weight is enough, the odds, peak and peaked as varints.
type dropsPart struct{}

var _ part = dropsPart{}

func (dropsPart) has(r *Record) bool { return r.drops != nil && r.drops.Drops != Drops{} }
func (dropsPart) size(*Record) int   { return int(unsafe.Sizeof(keptDrops{})) }

func (dropsPart) append(dst []byte, r *Record) []byte {
	both := [...]*Drop{&r.drops.Spend, &r.drops.Usage}
	set := byte(0)
	for i, d := range both {
		if *d != (Drop{}) {
			set |= 1 << i
		}
	}
	dst = append(dst, set)
	for i, d := range both {
		if set&(1<<i) != 0 {
			dst = d.append(dst)
		}
	}
	return dst
}

func (d *Drop) append(dst []byte) []byte {
	dst = appendUvarint(dst, uint64(d.last))
	dst = appendUvarint(dst, uint64(d.fired))
	for _, v := range [...]float32{d.weight, d.gaps, d.gaps2, d.amounts, d.amounts2} {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
	}
	if d.Ready() {
		for _, v := range d.odds {
			dst = appendVarint(dst, int64(v))
		}
		dst = appendVarint(dst, int64(d.peak))
		dst = appendVarint(dst, int64(d.peaked))
	}
	return dst
}

func (dropsPart) decode(d *decoder, r *Record) {
	r.drops = &keptDrops{}
	set := d.byte()
	d.bad = d.bad || set == 0 || set > 3
	for i, x := range [...]*Drop{&r.drops.Spend, &r.drops.Usage} {
		if set&(1<<i) != 0 && !d.bad {
			*x = d.drop()
		}
	}
}

func (d *decoder) drop() (x Drop) {
	x.last, x.fired = d.uint16(), d.uint16()
	for _, v := range [...]*float32{&x.weight, &x.gaps, &x.gaps2, &x.amounts, &x.amounts2} {
		*v = d.float32()
		d.bad = d.bad || *v < 0
	}
	if x.Ready() {
		for i := range x.odds {
			x.odds[i] = d.int16()
		}
		x.peak, x.peaked = d.int16(), d.int16()
	}
	d.bad = d.bad || x == Drop{}
	return x
}

func (d *decoder) int16() int16 {
	v := d.varint()
	d.bad = d.bad || v < math.MinInt16 || v > math.MaxInt16
	return int16(v)
}

// join keeps of each test the one that knows more, without its evidence: what one of two spent says little of what both spend, and less than usual it is not.
func (dropsPart) join(r, o *Record, _ *Params) {
	switch {
	case o.drops == nil:
		return
	case r.drops == nil:
		r.drops = &keptDrops{Drops: o.drops.Drops}
	default:
		r.drops.Spend.join(&o.drops.Spend)
		r.drops.Usage.join(&o.drops.Usage)
		r.drops.plans = [2]Plan{}
	}
	r.drops.Spend.restart()
	r.drops.Usage.restart()
}

func (d *Drop) join(o *Drop) {
	last, fired := max(d.last, o.last), max(d.fired, o.fired)
	if o.weight > d.weight {
		*d = *o
	}
	d.last, d.fired = last, fired
}

// restart is Restart for a test that may not be ready.
func (d *Drop) restart() {
	if d.Ready() {
		d.Restart()
	}
}

// DaysPaid is on how many of the local days [from, to) that the windows hold the customer bought something.
func (r *Record) DaysPaid(from, to int32) int {
	n, seen := 0, int32(-1)
	for i := len(r.Spend) - 1; i >= 0 && r.Spend[i].Day() >= from; i-- {
		if s := &r.Spend[i]; s.Day() < to && s.Purchases != 0 && s.Day() != seen {
			n++
			seen = s.Day()
		}
	}
	return n
}
