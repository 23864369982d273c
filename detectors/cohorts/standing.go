package cohorts

import (
	"cmp"

	"ebb/stream/event"
)

// Standing is which alerts about cohorts were open at the end of each of the last days, up to the newest that is judged. It is not changed.
type Standing struct {
	Day   int32 // newest judged day, 0: none is
	Spans []Span
}

// Span is the life of an alert about a cohort that was told to somebody, in days whose ends were judged.
type Span struct {
	Key    Key
	Opened int64 // event time at which it fired, ms
	From   int32 // the day with whose judgement it was told first
	Until  int32 // the day with whose judgement it ended, 0: it has not
}

func (s *Span) open(day int32) bool { return s.From <= day && (s.Until == 0 || day < s.Until) }

// Has reports whether a customer belongs to the cohort. p may be nil.
func (k Key) Has(p *event.Profile) bool {
	return k.By == Everybody || k.Value != "" && k.By.Of(p) == k.Value
}

// Within is the alert that is open at the end of a day about a cohort to which a customer belongs, of several the one that fired first; nil: there is none.
func (s *Standing) Within(p *event.Profile, day int32) (found *Span) {
	if s == nil {
		return nil
	}
	for i := range s.Spans {
		x := &s.Spans[i]
		if x.open(day) && x.Key.Has(p) && (found == nil || cmp.Or(cmp.Compare(x.Opened, found.Opened), x.Key.Compare(found.Key)) < 0) {
			found = x
		}
	}
	return found
}

// Open reports whether an alert is open at the end of a day.
func (s *Standing) Open(k Key, opened int64, day int32) bool {
	if s == nil {
		return false
	}
	for i := range s.Spans {
		if x := &s.Spans[i]; x.Key == k && x.Opened == opened && x.open(day) {
			return true
		}
	}
	return false
}
