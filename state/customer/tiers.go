package customer

import (
	"math"
	"slices"
	"unsafe"

	"ebb/stream/event"
)

// topTiers is how many of the best tiers are followed.
const topTiers = 2

// TierFall is that a customer moved down, out of one of the two best tiers.
type TierFall struct {
	From string // the best tier that he has left since
	At   int64  // time of the profile that told so, ms
}

// TierFall is how the customer last moved down, nil if he did not. Whether he still is below that tier is told by his profile. It must not be changed.
func (r *Record) TierFall() *TierFall { return r.tierFall }

// EndTierFall forgets it: where he is now counts from now on.
func (r *Record) EndTierFall() { r.tierFall = nil }

// noteTier compares the tier of a newer profile with that of the one before. A tier that is not listed, or not told, is neither above nor below another.
func (r *Record) noteTier(was, is string, at int64, p *Params) {
	before, now := slices.Index(p.Tiers, was), slices.Index(p.Tiers, is)
	if f := r.tierFall; f != nil && before >= 0 && before <= slices.Index(p.Tiers, f.From) {
		r.tierFall = nil // he had come back
	}
	if r.tierFall == nil && before >= 0 && before < topTiers && now > before {
		r.tierFall = &TierFall{From: was, At: at}
	}
}

// tierPart keeps a TierFall in the record.
type tierPart struct{}

var _ part = tierPart{}

func (tierPart) has(r *Record) bool { return r.tierFall != nil }

func (tierPart) append(dst []byte, r *Record) []byte {
	return appendUvarint(appendText(dst, r.tierFall.From), uint64(r.tierFall.At))
}

func (tierPart) decode(d *decoder, r *Record) {
	f := &TierFall{From: d.text()}
	at := d.uvarint()
	if d.bad = d.bad || f.From == "" || len(f.From) > maxText || at == 0 || at > math.MaxInt64; !d.bad {
		f.At = int64(at)
		r.tierFall = f
	}
}

// join takes over how the other moved down where his profile is taken over too: a tier belongs to a profile.
func (tierPart) join(r, o *Record, _ *Params) {
	if r.tierFall == nil && o.tierFall != nil && r.ProfileAt() == o.ProfileAt() && tierOf(r) == tierOf(o) {
		own := *o.tierFall
		r.tierFall = &own
	}
}

func tierOf(r *Record) string {
	p := r.Profile()
	if p == nil {
		p = &event.Profile{}
	}
	return p.Tier
}

func (tierPart) size(r *Record) int { return int(unsafe.Sizeof(TierFall{})) + len(r.tierFall.From) }
