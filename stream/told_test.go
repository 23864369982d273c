package stream

import (
	"ebb/detectors/cohorts"
	"ebb/stream/event"
)

// CohortsTold is what a fact tells of cohorts, for tests outside of the package.
type CohortsTold struct {
	Partition, Day int32
	Whole          bool
	Active, Spent  int64 // customers at the end of the day; purchases of all days in it, in 1/10000
}

// CohortsFact reads a fact of cohorts; it is false for any other.
func CohortsFact(key, value []byte) (x CohortsTold, ok bool) {
	kind, p, ok := splitFactKey(key)
	if !ok || kind != factCohorts {
		return x, false
	}
	f, err := decodeCohorts(value)
	if err != nil {
		return x, false
	}
	x.Partition, x.Day, x.Whole = p, f.day, f.whole
	for _, s := range f.sizes {
		if s.key == (cohorts.Key{}) {
			x.Active = s.n
		}
	}
	var sum event.Money
	for _, t := range f.totals {
		sum += t.totals[cohorts.Spend]
	}
	x.Spent = int64(sum)
	return x, true
}
