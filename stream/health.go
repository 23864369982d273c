package stream

// ratio counts records and rejects over the last ten minutes of event time in one-minute cells: how much of a feed ebb
// cannot read.
type ratio struct {
	minute int64 // newest minute
	good   [10]uint32
	bad    [10]uint32
	goods  uint64 // sums over the cells
	bads   uint64
	firstB int64  // event time of the oldest counted reject, ms; 0 when none
	streak uint64 // records since the newest reject, however old
}

// at moves the window to event time t (ms). Time that goes back counts into the newest cell.
func (r *ratio) at(t int64) int {
	m := t / 60_000
	if m > r.minute {
		for x := max(r.minute+1, m-9); x <= m; x++ {
			i := int(x % 10)
			r.goods -= uint64(r.good[i])
			r.bads -= uint64(r.bad[i])
			r.good[i], r.bad[i] = 0, 0
		}
		r.minute = m
		if r.bads == 0 {
			r.firstB = 0
		}
	}
	return int(r.minute % 10)
}

func (r *ratio) accept(t int64) {
	i := r.at(t)
	r.good[i]++
	r.goods++
	r.streak++
}

func (r *ratio) reject(t int64) {
	i := r.at(t)
	r.bad[i]++
	r.bads++
	r.streak = 0
	if r.firstB == 0 {
		r.firstB = t
	}
}

// share is the part of the records of the window that were rejects, 0 to 1.
func (r *ratio) share() float64 {
	if r.bads == 0 {
		return 0
	}
	return float64(r.bads) / float64(r.bads+r.goods)
}
