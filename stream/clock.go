package stream

import (
	"math"

	"ebb/stream/event"
)

// never is a time later than any event: the bound that an absent constraint sets.
const never = int64(math.MaxInt64)

// view is what the task clock has to know of one feed at one moment.
type view struct {
	// head is the smallest event time among the feed's next buffered records (at most lookahead of them), in ms; valid if buffered, never if none of them has one.
	head     int64
	buffered bool
	// atEnd is true when the last answer of the broker showed that nothing is left to read; provenMs is the wall clock
	// when that fetch was sent, so nothing that was in the topic before it is unseen.
	atEnd    bool
	provenMs int64
	// out is true for a feed that cannot be read for too long. It neither holds the merge nor moves the clock.
	out bool
	// absent is true for a feed of which this task reads no partition: what it holds comes from other tasks.
	absent bool
}

// known says whether the next record of the feed, or its absence, is known. A feed that is not known holds the merge.
func (v view) known() bool { return v.buffered || v.atEnd || v.out || v.absent }

// complete is the event time up to which everything that the feed holds has been seen, in ms. A feed with buffered
// records is complete up to whatever is applied now, because the merge applies the smallest head first; so its bound is the
// clock itself and complete returns never.
func (v view) complete(graceMs int64) int64 {
	switch {
	case v.buffered, v.absent:
		return never
	case v.atEnd:
		return v.provenMs - graceMs
	default:
		return 0
	}
}

// nextClock advances the task clock (ms of event time). While catching up it is the smallest head over the feeds; a feed
// that is read to its end contributes the wall clock at which that was proven, minus the grace; a feed of which nothing is
// known, or only what has no time, holds the clock. It never goes back.
func nextClock(clock int64, views []view, graceMs int64) int64 {
	lowest := never
	for _, v := range views {
		switch {
		case v.out, v.absent:
			continue
		case v.buffered && v.head == never: // nothing that can be applied: what lies behind may have any time
			return clock
		case v.buffered:
			lowest = min(lowest, v.head)
		case v.atEnd:
			lowest = min(lowest, v.provenMs-graceMs)
		default:
			return clock
		}
	}
	if lowest == never {
		return clock
	}
	return max(clock, lowest)
}

// mergeOrder are the feeds that carry event time, in the order in which equal times are applied. Profiles and acts of
// people are applied on arrival and never hold or move the clock.
var mergeOrder = [...]event.Feed{event.Usage, event.Payments, event.Complaints}
