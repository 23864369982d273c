package stream

import (
	"time"
)

// levels is up to where each partition has told everything, in steps of its owner's: epochs, or days. What all of them have told can be closed. A partition whose
// task stands still is waited for only so long, and then not again before it tells something.
type levels struct {
	patience time.Duration   // for how long a step is waited for that some have told
	told     map[int32]int64 // by partition; 0: nothing
	late     map[int32]bool  // who is not waited for. Not stored
	began    int64           // when the first partition had told more than is closed, ms of the wall clock; 0: none has
}

func newLevels(patience time.Duration) levels {
	return levels{patience: patience, told: map[int32]int64{}, late: map[int32]bool{}}
}

// tell notes up to where a partition has told everything, by a fact written at the given wall clock; 0: it told a part. It is false if that is nothing new.
func (l *levels) tell(p int32, to, closed, now int64) bool {
	delete(l.late, p)
	if to <= l.told[p] {
		return false
	}
	if to > closed && (l.began == 0 || !l.ahead(closed)) { // what somebody had told beyond it was deleted before it could be read again
		l.began = now
	}
	l.told[p] = to
	return true
}

// ahead reports whether anybody has told more than is closed.
func (l *levels) ahead(closed int64) bool {
	for _, to := range l.told {
		if to > closed {
			return true
		}
	}
	return false
}

// whole is up to where everybody who is waited for has told everything.
func (l *levels) whole(partitions int32, closed, now int64) int64 {
	low, high := l.span(partitions)
	switch {
	case high <= closed: // what somebody had told beyond it may have been deleted before a take-over
		return closed
	case low > closed, l.began == 0, now-l.began <= l.patience.Milliseconds():
		return low
	}
	for p := range partitions {
		if l.told[p] <= closed {
			l.late[p] = true
		}
	}
	low, _ = l.span(partitions)
	return low
}

// closed notes that everything up to there is closed: the next step is waited for from now on, if somebody has told it.
func (l *levels) closed(partitions int32, to, now int64) {
	l.began = 0
	if _, high := l.span(partitions); high > to {
		l.began = now
	}
}

// span is the lowest and the highest level of those who are waited for.
func (l *levels) span(partitions int32) (low, high int64) {
	low = never
	for p := range partitions {
		if !l.late[p] {
			low, high = min(low, l.told[p]), max(high, l.told[p])
		}
	}
	return low, high
}

// forget drops partitions that do not exist any more.
func (l *levels) forget(partitions int32) {
	for p := range l.told {
		if p >= partitions {
			delete(l.told, p)
			delete(l.late, p)
		}
	}
}
