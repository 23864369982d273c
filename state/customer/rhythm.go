package customer

import (
	"math"

	"ebb/stream/event"
)

// Rhythm is how often a customer does something, counted in local days on which he did: what the lapse model knows of him. Its size does not depend on the
// length of his history. The zero value is a customer who never did.
//
// Days may come in any order. The integers do not depend on it as long as the windows hold the days beside a late one; beyond, its gaps are estimated. The
// decayed sums do not depend on it but for rounding.
type Rhythm struct {
	// SumGapSquares is the sum of the squares of the gaps between one day and the next, in days².
	SumGapSquares uint64
	// Spent is what he paid on all of these days, in the currencies' own units.
	Spent event.Money
	// SumLnGap is the sum of ln(gap in days), in units of 1/LnUnit.
	SumLnGap uint32
	// First and Last are local day numbers; the last representable one is in the year 2149.
	First, Last uint16
	// Count is the number of days; it saturates.
	Count uint16
	// Gap, GapBefore and LongestBefore are days: the newest gap, the one before it, and the longest of all but the newest, 0 for none.
	Gap, GapBefore, LongestBefore uint16
	// LastAmount is what he paid on Last.
	LastAmount float32
	// Decayed counts days with half-lives of a quarter of the horizon, the horizon, and four times the horizon, as of Last.
	Decayed [3]float32
	// DecayedSpend is Spent with the half-life of the horizon, as of Last.
	DecayedSpend float32
	// LnGap is the sum of ln(gap) in which each newer gap lowers the weight of all older ones by LnGapDecay.
	LnGap float32
}

const (
	// LnUnit is the number of units of SumLnGap in 1.
	LnUnit = 4096
	// LnGapDecay is the weight of a gap in LnGap relative to the one after it.
	LnGapDecay = 0.7

	maxRhythmDay = math.MaxUint16
)

// Rhythms are the two rhythms of a customer: of his purchases with an amount, and of anything that he did himself, complaints included.
type Rhythms struct {
	Purchases, Activity Rhythm
}

// Rhythms returns the customer's rhythms, nil if none are kept. They must not be changed.
func (r *Record) Rhythms() *Rhythms {
	if r.rhythms == nil {
		return nil
	}
	return &r.rhythms.Rhythms
}

// Gaps is the number of gaps between days.
func (h *Rhythm) Gaps() int { return max(int(h.Count)-1, 0) }

// MeanGap is the mean of the gaps in days, 0 if there are none.
func (h *Rhythm) MeanGap() float64 {
	if h.Count < 2 {
		return 0
	}
	return float64(h.Last-h.First) / float64(h.Count-1)
}

// LongestGap is the longest of the gaps in days, 0 if there are none.
func (h *Rhythm) LongestGap() uint16 { return max(h.LongestBefore, h.Gap) }

// LnGapWeight is the sum of the weights that LnGap holds.
func (h *Rhythm) LnGapWeight() float64 {
	return (1 - math.Pow(LnGapDecay, float64(h.Gaps()))) / (1 - LnGapDecay)
}

// neighbours are the days before and after a late one, -1 where they are not known.
type neighbours struct {
	before, after int32
	known         bool // the day itself counted before
}

// decay is the weight of something that is days old under a half-life.
func decay(days, halfLife float64) float64 { return math.Exp2(-days / halfLife) }

// halfLives of Decayed for a horizon in days.
func halfLives(horizon int) [3]float64 {
	h := float64(horizon)
	return [3]float64{h / 4, h, 4 * h}
}

// lnDays is ln(gap) in units of 1/LnUnit.
func lnDays(gap int32) uint32 { return uint32(ln(max(gap, 1))*LnUnit + 0.5) }

// shortGaps are told apart in tables: most gaps are that short, and a logarithm costs more than all else that an event changes.
const shortGaps = 64

var lnShort = func() (t [shortGaps]float64) {
	for gap := range t {
		t[gap] = math.Log(float64(gap))
	}
	return t
}()

func ln(gap int32) float64 {
	if gap >= 0 && gap < shortGaps {
		return lnShort[gap]
	}
	return math.Log(float64(gap))
}

// left is what is left of each Decayed after a gap in days.
func left(gap int32, horizon int) (l [3]float32) {
	for j, half := range halfLives(horizon) {
		l[j] = float32(decay(float64(gap), half))
	}
	return l
}

// add counts what was paid, 0 for nothing, on a day. near tells the neighbours of a day before Last; it is not asked for others.
func (h *Rhythm) add(day int32, amount event.Money, horizon int, near func() neighbours) {
	day = min(day, maxRhythmDay)
	paid := float32(amount) / float32(event.MoneyUnit)
	if sum, ok := h.Spent.Add(amount); ok {
		h.Spent = sum
	}
	switch last := int32(h.Last); {
	case h.Count == 0:
		*h = Rhythm{First: uint16(day), Last: uint16(day), Count: 1, Spent: h.Spent, LastAmount: paid, Decayed: [3]float32{1, 1, 1}, DecayedSpend: paid}
	case day > last:
		h.advance(day, horizon)
		h.LastAmount = paid
		h.DecayedSpend += paid
	case day == last:
		h.LastAmount += paid
		h.DecayedSpend += paid
	default:
		h.DecayedSpend += paid * left(last-day, horizon)[1]
		if n := near(); !n.known {
			h.insert(day, n, horizon)
		}
	}
}

// advance begins a day after Last.
func (h *Rhythm) advance(day int32, horizon int) {
	gap := day - int32(h.Last)
	h.countGap(gap)
	h.LongestBefore = h.LongestGap()
	h.Gap, h.GapBefore = uint16(gap), h.Gap
	h.LnGap = h.LnGap*LnGapDecay + lnGap(gap)
	l := left(gap, horizon)
	for j := range h.Decayed {
		h.Decayed[j] = h.Decayed[j]*l[j] + 1
	}
	h.DecayedSpend *= l[1] // the half-life of money too
	h.Last = uint16(day)
	h.Count += min(1, math.MaxUint16-h.Count)
}

// countGap adds a gap to the sums.
func (h *Rhythm) countGap(gap int32) {
	h.SumGapSquares += uint64(gap) * uint64(gap)
	h.SumLnGap += lnDays(gap)
}

// dropGap takes a gap out of the sums, but no more than is in them: where days are not known that lie in it, it was counted in pieces.
func (h *Rhythm) dropGap(gap int32) {
	h.SumGapSquares -= min(uint64(gap)*uint64(gap), h.SumGapSquares)
	h.SumLnGap -= min(lnDays(gap), h.SumLnGap)
}

// insert counts a day before Last that did not count yet.
func (h *Rhythm) insert(day int32, n neighbours, horizon int) {
	first, last := int32(h.First), int32(h.Last)
	if day == first {
		return // it counts, whatever the windows still hold
	}
	l := left(last-day, horizon)
	for j := range h.Decayed {
		h.Decayed[j] += l[j]
	}
	if day < first {
		h.countGap(first - day)
		h.older(first - day)
		h.First = uint16(day)
	} else {
		before, after := h.around(day, n)
		h.dropGap(after - before)
		h.countGap(after - day)
		h.countGap(day - before)
		h.split(before, day, after)
	}
	h.Count += min(1, math.MaxUint16-h.Count)
}

// around are the days that count before and after one that is between First and Last. Where the windows do not tell, the newest gaps do, else the mean gap.
func (h *Rhythm) around(day int32, n neighbours) (before, after int32) {
	first, last := int32(h.First), int32(h.Last)
	before, after = n.before, n.after
	if after < 0 || after > last {
		after = last
	}
	if before >= first {
		return before, after
	}
	before = after - int32(h.MeanGap()+0.5)
	switch {
	case after == last:
		before = last - int32(h.Gap)
	case after == last-int32(h.Gap) && h.GapBefore != 0:
		before = after - int32(h.GapBefore)
	}
	return max(first, min(before, day-1)), after
}

// older notes a gap before the first day, as one of the newest two where there are no others.
func (h *Rhythm) older(gap int32) {
	switch h.Count {
	case 1:
		h.Gap, h.LnGap = uint16(gap), lnGap(gap)
		return
	case 2:
		h.GapBefore = uint16(gap)
		h.LnGap += LnGapDecay * lnGap(gap)
	}
	h.LongestBefore = max(h.LongestBefore, uint16(gap))
}

// split corrects what is known of single gaps when one of them turns out to be two. Of a gap that is none of the newest two it is too late: there LnGap keeps
// what little weight it had, and LongestBefore the whole.
func (h *Rhythm) split(before, day, after int32) {
	a, b, whole := lnGap(day-before), lnGap(after-day), lnGap(after-before)
	switch after {
	case int32(h.Last):
		h.LnGap = (max(h.LnGap-whole, 0)+a)*LnGapDecay + b
		h.Gap, h.GapBefore = uint16(after-day), uint16(day-before)
		h.LongestBefore = max(h.LongestBefore, uint16(day-before))
	case int32(h.Last) - int32(h.Gap):
		newest := lnGap(int32(h.Gap))
		h.LnGap = ((max((h.LnGap-newest)/LnGapDecay-whole, 0)+a)*LnGapDecay+b)*LnGapDecay + newest
		h.GapBefore = uint16(after - day)
	}
}

func lnGap(gap int32) float32 { return float32(ln(gap)) }
