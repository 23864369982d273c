package customer

import (
	"encoding/binary"
	"errors"
	"math"
	"unsafe"

	"ebb/stream/event"
)

// keptRhythms are the rhythms of a record, and what saves work.
type keptRhythms struct {
	Rhythms
	plan Plan // not stored: it follows from the rest
}

// SilencePlan returns when the customer can be too silent. It is void once he does something.
func (r *Record) SilencePlan() Plan {
	if r.rhythms == nil {
		return Plan{}
	}
	return r.rhythms.plan
}

// PlanSilence notes when the customer can be too silent.
func (r *Record) PlanSilence(p Plan) {
	if r.rhythms != nil {
		r.rhythms.plan = p
	}
}

// beat takes an event that the windows hold by now into the rhythms.
func (r *Record) beat(e *event.Event, day int32, p *Params) {
	if p.Horizon == 0 {
		return
	}
	if r.rhythms == nil {
		r.rhythms = &keptRhythms{}
		if r.First != 0 {
			r.recallRhythms(p.Horizon)
			return
		}
	}
	r.rhythms.plan = Plan{}
	paid := event.Money(0)
	if e.Kind == event.KindPurchase && e.Amount > 0 {
		paid = e.Amount
		r.rhythms.Purchases.add(day, paid, p.Horizon, func() neighbours { return r.purchasesAround(day) })
	}
	r.rhythms.Activity.add(day, paid, p.Horizon, func() neighbours { return r.activityAround(day) })
}

// beatComplaint takes what the customer himself did about a complaint into the rhythm of his activity.
func (r *Record) beatComplaint(e *event.Event, p *Params) {
	if p.Horizon == 0 || !bySelf(e) {
		return
	}
	if r.rhythms == nil {
		r.rhythms = &keptRhythms{}
		r.recallRhythms(p.Horizon)
	}
	r.rhythms.plan = Plan{}
	day := r.localDay(max(e.Time, 1), p)
	r.rhythms.Activity.add(day, 0, p.Horizon, func() neighbours { return r.activityAround(day) })
}

// bySelf reports whether a step of a complaint is the customer's own doing.
func bySelf(e *event.Event) bool {
	switch e.Kind {
	case event.KindInquiry, event.KindOpened, event.KindReopened, event.KindRated:
		return e.Actor == event.ActorNone || e.Actor == event.ActorCustomer
	case event.KindCustomerReplied:
		return true
	}
	return false
}

// recallRhythms begins the rhythms from what the windows hold: of a record that was kept before there were any.
func (r *Record) recallRhythms(horizon int) {
	u, s := r.Usage, r.Spend
	for len(u) != 0 || len(s) != 0 {
		if len(s) == 0 || len(u) != 0 && u[0].Day < s[0].Day() {
			r.rhythms.Activity.add(u[0].Day, 0, horizon, nil)
			u = u[1:]
			continue
		}
		paid := event.Money(0)
		if s[0].Purchases != 0 && s[0].Amount > 0 {
			paid = s[0].Amount
			r.rhythms.Purchases.add(s[0].Day(), paid, horizon, nil)
		}
		r.rhythms.Activity.add(s[0].Day(), paid, horizon, nil)
		s = s[1:]
	}
}

// purchasesAround finds the days with purchases beside one that the windows hold. The event in question is in them already.
func (r *Record) purchasesAround(day int32) neighbours {
	n := neighbours{before: -1, after: -1}
	count := 0
	for i := range r.Spend {
		s := &r.Spend[i]
		if s.Purchases == 0 {
			continue
		}
		count += n.see(s.Day(), day, int(s.Purchases))
	}
	n.known = count > 1
	return n
}

// activityAround is purchasesAround for days on which anything was done. Of complaints the windows know nothing: a day on which there was nothing else is not
// found.
func (r *Record) activityAround(day int32) neighbours {
	n := neighbours{before: -1, after: -1}
	count := 0
	for i := range r.Usage {
		count += n.see(r.Usage[i].Day, day, int(r.Usage[i].Count))
	}
	for i := range r.Spend {
		s := &r.Spend[i]
		count += n.see(s.Day(), day, int(s.Purchases)+int(s.Refunds))
	}
	n.known = count > 1
	return n
}

// see takes a day of the windows into account, and returns count if it is the one in question.
func (n *neighbours) see(seen, day int32, count int) int {
	switch {
	case seen == day:
		return count
	case seen < day:
		n.before = max(n.before, seen)
	case n.after < 0 || seen < n.after:
		n.after = seen
	}
	return 0
}

// rhythmsPart keeps Rhythms in the record.
type rhythmsPart struct{}

var _ part = rhythmsPart{}

func (rhythmsPart) has(r *Record) bool { return r.rhythms != nil }
func (rhythmsPart) append(dst []byte, r *Record) []byte {
	return AppendRhythms(dst, &r.rhythms.Rhythms)
}

func (rhythmsPart) size(*Record) int { return int(unsafe.Sizeof(keptRhythms{})) }

func (rhythmsPart) decode(d *decoder, r *Record) { r.rhythms = &keptRhythms{Rhythms: *d.rhythms()} }

func (rhythmsPart) join(r, o *Record, p *Params) {
	switch {
	case r.rhythms == nil:
		r.rhythms = &keptRhythms{Rhythms: o.rhythms.Rhythms}
	case o.rhythms == nil || p.Horizon == 0:
	default:
		r.rhythms.plan = Plan{}
		r.rhythms.Purchases.join(&o.rhythms.Purchases, p.Horizon)
		r.rhythms.Activity.join(&o.rhythms.Activity, p.Horizon)
	}
}

// join makes one rhythm of two whose days are not known any more: all days of both count, at even distances in so far as the sums do not tell otherwise. Days
// that both have are counted twice, unless one is the other's last.
func (h *Rhythm) join(o *Rhythm, horizon int) {
	if o.Count == 0 {
		return
	}
	if h.Count == 0 {
		*h = *o
		return
	}
	a, b := *h, *o
	if a.Last < b.Last {
		a, b = b, a
	}
	older := int32(a.Last - b.Last)
	same := uint16(0)
	if older == 0 {
		same = 1
	}
	j := a
	j.First = min(a.First, b.First)
	j.Count = a.Count + min(b.Count-same, math.MaxUint16-a.Count)
	j.Spent = max(a.Spent, b.Spent)
	if sum, ok := a.Spent.Add(b.Spent); ok {
		j.Spent = sum
	}
	if same == 1 {
		j.LastAmount += b.LastAmount
	} else if older < int32(a.Gap) || a.Gap == 0 {
		j.GapBefore = a.Gap - min(uint16(older), a.Gap)
		j.Gap = uint16(older)
		if j.GapBefore == 0 {
			j.GapBefore = b.Gap
		}
	}
	for i, half := range halfLives(horizon) {
		j.Decayed[i] += (b.Decayed[i] - float32(same)) * float32(decay(float64(older), half))
	}
	j.DecayedSpend += b.DecayedSpend * float32(decay(float64(older), float64(horizon)))
	j.interleave(&a, &b)
	*h = j
}

// interleave sets the sums over the gaps of a joined rhythm: gaps that are as irregular as those of the two on average, and as long as their number and the
// time between the first and the last day say.
func (h *Rhythm) interleave(a, b *Rhythm) {
	gaps := float64(h.Gaps())
	if gaps == 0 {
		return
	}
	mean := h.MeanGap()
	square, ln, weight := 0.0, 0.0, 0.0
	for _, x := range [...]*Rhythm{a, b} {
		if n := float64(x.Gaps()); n > 0 {
			m := x.MeanGap()
			square += float64(x.SumGapSquares) / (m * m)
			ln += float64(x.SumLnGap)/LnUnit - n*math.Log(m)
			weight += n
		}
	}
	if weight == 0 { // two days of two: one gap
		square, weight = 1, 1
	}
	perGap := max(math.Log(mean)+ln/weight, 0)
	h.SumGapSquares = uint64(gaps * mean * mean * square / weight)
	h.SumLnGap = uint32(gaps * perGap * LnUnit)
	h.LnGap = float32(perGap * h.LnGapWeight())
	h.LongestBefore = max(min(a.LongestGap(), b.LongestGap()), uint16(mean))
}

// ErrRhythms: the bytes are no rhythms.
var ErrRhythms = errors.New("rhythms are damaged")

// AppendRhythms appends the stored form: 1 if both rhythms are the same, else 0, and one or two of them. An empty one is a 0. The others are Count, First,
// Last - First, Gap, GapBefore, LongestBefore, SumLnGap, SumGapSquares and Spent as varints, LastAmount, Decayed, DecayedSpend and LnGap as little-endian
// float32, without those of money where Spent is 0.
func AppendRhythms(dst []byte, s *Rhythms) []byte {
	if s.Purchases == s.Activity {
		return s.Purchases.append(append(dst, 1))
	}
	return s.Activity.append(s.Purchases.append(append(dst, 0)))
}

// DecodeRhythms reads what AppendRhythms wrote, and returns what follows. The error is ErrRhythms.
func DecodeRhythms(b []byte) (s Rhythms, rest []byte, err error) {
	d := decoder{b: b}
	p := d.rhythms()
	if d.bad {
		return Rhythms{}, nil, ErrRhythms
	}
	return *p, b[d.at:], nil
}

func (h *Rhythm) append(dst []byte) []byte {
	dst = appendUvarint(dst, uint64(h.Count))
	if h.Count == 0 {
		return dst
	}
	for _, v := range [...]uint64{
		uint64(h.First), uint64(h.Last - h.First), uint64(h.Gap), uint64(h.GapBefore), uint64(h.LongestBefore), uint64(h.SumLnGap), h.SumGapSquares,
		uint64(h.Spent),
	} {
		dst = appendUvarint(dst, v)
	}
	for _, v := range [...]float32{h.Decayed[0], h.Decayed[1], h.Decayed[2], h.LnGap} {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
	}
	if h.Spent == 0 {
		return dst
	}
	dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(h.LastAmount))
	return binary.LittleEndian.AppendUint32(dst, math.Float32bits(h.DecayedSpend))
}

func (d *decoder) rhythms() *Rhythms {
	s := &Rhythms{}
	same := d.byte()
	d.bad = d.bad || same > 1
	d.rhythm(&s.Purchases)
	if same == 1 {
		s.Activity = s.Purchases
	} else {
		d.rhythm(&s.Activity)
	}
	return s
}

func (d *decoder) rhythm(h *Rhythm) {
	if h.Count = d.uint16(); h.Count == 0 {
		return
	}
	h.First = d.uint16()
	last := d.uvarint() + uint64(h.First)
	d.bad = d.bad || last > maxRhythmDay
	h.Last = uint16(last)
	h.Gap, h.GapBefore, h.LongestBefore = d.uint16(), d.uint16(), d.uint16()
	ln := d.uvarint()
	d.bad = d.bad || ln > math.MaxUint32
	h.SumLnGap, h.SumGapSquares = uint32(ln), d.uvarint()
	h.Spent = event.Money(d.uvarint())
	d.bad = d.bad || h.Spent < 0
	for _, v := range [...]*float32{&h.Decayed[0], &h.Decayed[1], &h.Decayed[2], &h.LnGap} {
		*v = d.float32()
	}
	if h.Spent != 0 {
		h.LastAmount, h.DecayedSpend = d.float32(), d.float32()
	}
}

func (d *decoder) uint16() uint16 {
	v := d.uvarint()
	d.bad = d.bad || v > math.MaxUint16
	return uint16(v)
}

// float32 reads a finite number.
func (d *decoder) float32() float32 {
	if len(d.b)-d.at < 4 {
		d.bad, d.at = true, len(d.b)
		return 0
	}
	v := math.Float32frombits(binary.LittleEndian.Uint32(d.b[d.at:]))
	d.at += 4
	if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
		d.bad = true
		return 0
	}
	return v
}
