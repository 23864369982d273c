package demo

import (
	"slices"
	"time"

	"ebb/cmd/ebb/internal/console"
	"ebb/cmd/ebb/internal/simulate"
)

// The numbers of the scoring rule; the package documentation says what they are for.
const (
	horizonDays = 60
	early       = 7 * oneDay
	patience    = 21 * oneDay
	before      = 21 * oneDay
	// episodesKept bounds the alerts that are scored one by one. At a busy demo's fifty a day they last for years.
	episodesKept = 100_000
)

// episode is one alert, of ebb or of the usual rule.
type episode struct {
	customer, detector string
	fired              time.Time
	over               time.Time // zero while open
}

// ledger holds the alerts of one of the two.
type ledger struct {
	live     time.Time // the beginning of the live part
	episodes []*episode
	open     map[string]*episode // by alert id, or by customer
}

func newLedger(live time.Time) *ledger { return &ledger{live: live, open: map[string]*episode{}} }

func (l *ledger) fire(key string, e episode) {
	if l.open[key] != nil {
		return
	}
	p := &e
	l.open[key] = p
	l.episodes = append(l.episodes, p)
	if len(l.episodes) > episodesKept {
		l.episodes = slices.Clone(l.episodes[episodesKept/10:])
	}
}

func (l *ledger) resolve(key string, at time.Time) {
	if e := l.open[key]; e != nil {
		e.over = at
		delete(l.open, key)
	}
}

// counts says whether an episode is within what is scored.
func (l *ledger) counts(e *episode) bool {
	if !e.fired.Before(l.live) {
		return true
	}
	return !e.fired.Before(l.live.Add(-before)) && (e.over.IsZero() || !e.over.Before(l.live))
}

// verdict is what the truth says of one alert.
type verdict uint8

const (
	wrong verdict = iota
	right
	neither
)

func judge(e *episode, t *simulate.Truth, known bool) verdict {
	if !known || !t.Leaves() || e.fired.Before(t.Begins.Add(-early)) {
		return wrong
	}
	if t.Stated() {
		return neither
	}
	return right
}

// score counts a ledger against the truth at simulated time now. truths are everybody that the crowd remembers; leavers are those
// of them who have begun to leave, unannounced, within the scored time: found, missed, or too early to say.
func (l *ledger) score(now time.Time, truths []simulate.Truth) (s console.Score, leavers int) {
	byID := make(map[string]*simulate.Truth, len(truths))
	for i := range truths {
		byID[truths[i].Customer] = &truths[i]
	}
	lines := map[string]*console.DetectorScore{}
	first := map[string]time.Time{} // customer -> first right alert
	for _, e := range l.episodes {
		if !l.counts(e) {
			continue
		}
		t, known := byID[e.customer]
		v := judge(e, t, known)
		if v == neither {
			continue
		}
		line := lines[e.detector]
		if line == nil {
			line = &console.DetectorScore{Detector: e.detector}
			lines[e.detector] = line
		}
		s.Alerts++
		line.Alerts++
		if v == wrong {
			s.FalseAlarms++
			line.FalseAlarms++
			continue
		}
		s.Right++
		line.Right++
		if at, ok := first[e.customer]; !ok || e.fired.Before(at) {
			first[e.customer] = e.fired
		}
	}
	var ahead []float64
	for i := range truths {
		t := &truths[i]
		if !t.Leaves() || t.Stated() || t.Left.Before(l.live.Add(-before)) {
			continue
		}
		at, found := first[t.Customer]
		switch {
		case found:
			s.Found++
			ahead = append(ahead, t.Left.Add(horizonDays*oneDay).Sub(at).Hours()/24)
			s.MoneyFound += t.Weekly * horizonDays / 7
		case t.Begins.After(now):
			continue
		case t.Left.Add(patience).Before(now):
			s.Missed++
		default:
			s.Pending++
		}
	}
	s.DaysAhead = median(ahead)
	for _, line := range lines {
		s.ByDetector = append(s.ByDetector, *line)
	}
	slices.SortFunc(s.ByDetector, func(x, y console.DetectorScore) int { return y.Alerts - x.Alerts })
	return s, s.Found + s.Missed + s.Pending
}

// median is 0 of nothing.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}
