package customer

import (
	"math"
	"unsafe"

	"ebb/stream/event"
)

// maxOffer is the longest id of an offer that is kept, in bytes.
const maxOffer = 48

// Offers is how a customer buys under offers.
type Offers struct {
	// Under is the number of purchases under an offer, Plain that of all others that are known.
	Under, Plain uint32
	// Ends is when the offer ends that lasts longest of those he bought under, ms; 0 if that was not told of any. Last is its id, cut to 48 bytes.
	Ends int64
	Last string
}

// Only reports whether the customer has never bought without an offer.
func (o *Offers) Only() bool { return o.Plain == 0 }

// Offers is how the customer buys under offers, nil if he never did. It must not be changed.
func (r *Record) Offers() *Offers { return r.offers }

// noteOffer counts a purchase. Those before the first under an offer are counted as far as they are known.
func (r *Record) noteOffer(e *event.Event) {
	switch {
	case len(e.Promotion) == 0 && e.PromotionEnds == 0:
		if r.offers != nil {
			r.offers.Plain = saturatedCount(r.offers.Plain, 1)
		}
		return
	case r.offers == nil:
		known := r.bought() // with this one
		r.offers = &Offers{Plain: known - min(known, 1)}
	}
	o := r.offers
	o.Under = saturatedCount(o.Under, 1)
	o.last(e.PromotionEnds, Clip(string(e.Promotion), maxOffer))
}

// last keeps the offer that ends last; of two the one whose id is greater, so that their order does not matter.
func (o *Offers) last(ends int64, id string) {
	if ends > o.Ends || ends == o.Ends && id > o.Last {
		o.Ends, o.Last = ends, id
	}
}

// bought is how many purchases are known: those of the windows, or, if they are more, the days of all purchases.
func (r *Record) bought() uint32 {
	n := uint32(0)
	for i := range r.Spend {
		n = saturatedCount(n, uint32(r.Spend[i].Purchases))
	}
	if r.rhythms != nil {
		n = max(n, uint32(r.rhythms.Purchases.Count))
	}
	return n
}

func saturatedCount(a, b uint32) uint32 { return a + min(b, math.MaxUint32-a) }

// offersPart keeps Offers in the record.
type offersPart struct{}

var _ part = offersPart{}

func (offersPart) has(r *Record) bool { return r.offers != nil }

func (offersPart) append(dst []byte, r *Record) []byte {
	o := r.offers
	dst = appendUvarint(appendUvarint(dst, uint64(o.Under)), uint64(o.Plain))
	return appendText(appendUvarint(dst, uint64(o.Ends)), o.Last)
}

func (offersPart) decode(d *decoder, r *Record) {
	under, plain, ends := d.uvarint(), d.uvarint(), d.uvarint()
	o := &Offers{Under: uint32(under), Plain: uint32(plain), Ends: int64(ends), Last: d.text()}
	if d.bad = d.bad || under == 0 || under > math.MaxUint32 || plain > math.MaxUint32 || ends > math.MaxInt64 || len(o.Last) > maxOffer; !d.bad {
		r.offers = o
	}
}

// join adds up. Who bought under no offer so far has bought without.
func (offersPart) join(r, o *Record, _ *Params) {
	if both := r.offers != nil && o.offers != nil; both {
		x := r.offers
		x.Under, x.Plain = saturatedCount(x.Under, o.offers.Under), saturatedCount(x.Plain, o.offers.Plain)
		x.last(o.offers.Ends, o.offers.Last)
		return
	}
	if r.offers == nil {
		own := *o.offers
		r.offers = &own
	}
	// What is known by now is of both.
	known, x := r.bought(), r.offers
	x.Plain = max(x.Plain, known-min(known, x.Under))
}

func (offersPart) size(r *Record) int { return int(unsafe.Sizeof(Offers{})) + len(r.offers.Last) }
