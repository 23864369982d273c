package console

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"ebb/stream/event"
)

// Limits of what the book remembers besides the open alerts, which are never cut.
const (
	closedKept  = 5_000 // alerts that are over
	stepsKept   = 20    // steps of one alert
	departKept  = 256   // alerts that left lately, to say why a row is gone
	closedShown = 20    // past alerts of one customer
	mergeAfter  = 4_096 // changes that wait for somebody to look, beyond as many as there are open alerts
)

// Alert is one episode: its latest step and those before.
type Alert struct {
	*Step
	// Steps are the latest steps in order, at most 20. They never change once the alert was handed out.
	Steps []*Step
}

// SnoozedAt reports whether somebody has put the alert off beyond event time now.
func (a *Alert) SnoozedAt(now time.Time) bool { return a.Snoozed.After(now) }

// Departure is an open alert that is no longer.
type Departure struct {
	AlertID, Customer, Reason string
}

// Book holds the open alerts in the order of the queue, and the latest of those that are over. It is fed with the steps of the
// alert topics and may be read from many goroutines.
//
// Memory is that of the open alerts (about 1.5 KB each, with their evidence) and a bounded number of closed ones.
type Book struct {
	mu      sync.RWMutex
	open    map[string]*Alert // by alert id
	sorted  []*Alert          // open ones by money at risk, as of the last merge
	newest  []*Alert          // the same, what fired last first
	added   []*Alert          // opened or changed since; at most as many as are open, and mergeAfter
	stale   int               // entries of sorted that are no longer the open alert of their id
	by      map[string][]string
	closed  []*Alert // ring
	closeAt int
	past    map[string][]*Alert // customer -> closed ones still in the ring, oldest first
	ops     map[string]*Step
	loaded  bool

	version   uint64
	left      []Departure // the last departures; leftAt counts all of them
	leftAt    uint64
	changed   chan struct{}
	totals    Totals
	totalsAt  uint64
	totalsDay int64
}

// NewBook returns an empty book.
func NewBook() *Book {
	return &Book{
		open: map[string]*Alert{}, by: map[string][]string{}, past: map[string][]*Alert{}, ops: map[string]*Step{},
		changed: make(chan struct{}), totalsAt: ^uint64(0),
	}
}

// Apply takes a step of the alert topic or of the table of open alerts. Steps of one alert may come repeatedly and in any
// order of revisions: what is older than what is known, or equal to it, changes nothing. It reports whether the step was news.
func (b *Book) Apply(s *Step) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.Customer == "" {
		return b.operate(s)
	}
	old := b.open[s.AlertID]
	if old != nil && old.Revision >= s.Revision {
		return false
	}
	if old == nil && b.isClosed(s) {
		return false
	}
	a := &Alert{Step: s}
	if old != nil {
		a.Steps = old.Steps[max(0, len(old.Steps)-stepsKept+1):]
		b.stale++
	}
	a.Steps = append(slices.Clip(a.Steps), s)
	if s.Resolved {
		b.close(a, old != nil)
	} else {
		b.open[s.AlertID] = a
		if old == nil {
			b.by[s.Customer] = append(b.by[s.Customer], s.AlertID)
		}
		b.added = append(b.added, a)
	}
	if len(b.added)+b.stale > len(b.open)+mergeAfter { // nobody looks at the queue: what is over must not stay for that
		b.merge()
	}
	b.touch()
	return true
}

// Loaded says that the table of open alerts was read to its end: from now on an empty queue is an empty queue.
func (b *Book) Loaded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.loaded {
		b.loaded = true
		b.touch()
	}
}

func (b *Book) operate(s *Step) bool {
	if old := b.ops[s.AlertID]; old != nil && old.Revision >= s.Revision {
		return false
	}
	if s.Resolved {
		if b.ops[s.AlertID] == nil {
			return false
		}
		delete(b.ops, s.AlertID)
	} else {
		b.ops[s.AlertID] = s
	}
	b.touch()
	return true
}

func (b *Book) isClosed(s *Step) bool {
	for _, a := range b.past[s.Customer] {
		if a.AlertID == s.AlertID && a.Revision >= s.Revision {
			return true
		}
	}
	return false
}

func (b *Book) close(a *Alert, wasOpen bool) {
	if wasOpen {
		delete(b.open, a.AlertID)
		ids := b.by[a.Customer]
		ids = slices.Delete(ids, slices.Index(ids, a.AlertID), slices.Index(ids, a.AlertID)+1)
		if len(ids) == 0 {
			delete(b.by, a.Customer)
		} else {
			b.by[a.Customer] = ids
		}
		b.left = append(b.left, Departure{AlertID: a.AlertID, Customer: a.Customer, Reason: a.Reason})
		if len(b.left) > 2*departKept {
			b.left = slices.Clone(b.left[len(b.left)-departKept:])
		}
		b.leftAt++
	}
	b.past[a.Customer] = append(b.past[a.Customer], a)
	if len(b.closed) < closedKept {
		b.closed = append(b.closed, a)
		return
	}
	old := b.closed[b.closeAt]
	b.closed[b.closeAt] = a
	b.closeAt = (b.closeAt + 1) % closedKept
	if rest := b.past[old.Customer][1:]; len(rest) == 0 {
		delete(b.past, old.Customer)
	} else {
		b.past[old.Customer] = slices.Clone(rest)
	}
}

func (b *Book) touch() {
	b.version++
	close(b.changed)
	b.changed = make(chan struct{})
}

// byNewest has what fired last first, then as byRisk.
func byNewest(x, y *Alert) int { return cmp.Or(-x.FirstFired.Compare(y.FirstFired), byRisk(x, y)) }

// byRisk has most money at risk first, what is not known last; then severity, then the newest.
func byRisk(x, y *Alert) int {
	return cmp.Or(
		-event.CompareBool(x.HasRisk, y.HasRisk),
		-cmp.Compare(x.AtRisk, y.AtRisk),
		-cmp.Compare(x.Severity, y.Severity),
		-x.FirstFired.Compare(y.FirstFired),
		strings.Compare(x.AlertID, y.AlertID),
	)
}

// merge brings the sorted lists up to date: O(n) for n open alerts however many have changed, so that a burst of steps costs one pass.
func (b *Book) merge() {
	if len(b.added) == 0 && b.stale == 0 && len(b.sorted) == len(b.open) {
		return
	}
	fresh := slices.DeleteFunc(b.added, func(a *Alert) bool { return b.open[a.AlertID] != a })
	b.sorted = b.merged(b.sorted, fresh, byRisk)
	b.newest = b.merged(b.newest, fresh, byNewest)
	b.added, b.stale = nil, 0
}

// merged is a new list of those of a sorted one that are still current, and of the fresh ones, which it sorts.
func (b *Book) merged(list, fresh []*Alert, order func(x, y *Alert) int) []*Alert {
	slices.SortFunc(fresh, order)
	out := make([]*Alert, 0, len(b.open))
	i := 0
	for _, a := range list {
		if b.open[a.AlertID] != a {
			continue
		}
		for i < len(fresh) && order(fresh[i], a) < 0 {
			out = append(out, fresh[i])
			i++
		}
		out = append(out, a)
	}
	return append(out, fresh[i:]...)
}

// list is the open alerts in an order. The slice is not changed afterwards.
func (b *Book) list(order Order) (alerts []*Alert, version uint64, loaded bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.merge()
	if order == Newest {
		return b.newest, b.version, b.loaded
	}
	return b.sorted, b.version, b.loaded
}

// View is a window of the queue.
type View struct {
	// Total is how many open alerts the filter leaves, Open how many there are. Snoozed is how many of those that are as it asks are
	// snoozed, shown or not.
	Total, Open, Snoozed int
	// From is the place of the first row in the filtered queue.
	From    int
	Rows    []*Alert
	Version uint64
	// Loaded is false while the table of open alerts is still being read.
	Loaded bool
}

// View returns at most n rows of the filtered queue from a place on, as it is at event time now.
func (b *Book) View(f Filter, now time.Time, from, n int) View {
	alerts, version, loaded := b.list(f.Order)
	v := View{Open: len(alerts), From: from, Version: version, Loaded: loaded}
	for _, a := range alerts {
		if !f.match(a) {
			continue
		}
		if a.SnoozedAt(now) {
			v.Snoozed++
		}
		if !f.Snoozed.admits(a, now) {
			continue
		}
		if v.Total >= from && len(v.Rows) < n {
			v.Rows = append(v.Rows, a)
		}
		v.Total++
	}
	return v
}

// Facets counts the open alerts by the values of what can be filtered, leaving out what a list does that treats snoozed ones so.
func (b *Book) Facets(snoozed Snoozed, now time.Time) map[string][]Facet {
	alerts, _, _ := b.list(ByRisk)
	counts := map[string]map[string]int{}
	for _, name := range facetNames() {
		counts[name] = map[string]int{}
	}
	for _, a := range alerts {
		if !snoozed.admits(a, now) {
			continue
		}
		for name, m := range counts {
			if v := facetValue(a, name); v != "" {
				m[v]++
			}
		}
	}
	out := map[string][]Facet{}
	for name, m := range counts {
		for v, n := range m {
			out[name] = append(out[name], Facet{Value: v, Count: n})
		}
		slices.SortFunc(out[name], func(x, y Facet) int { return strings.Compare(x.Value, y.Value) })
	}
	return out
}

// Of returns the open alerts of one customer in the order of the queue, and the past ones, latest first, as far as they are
// remembered.
func (b *Book) Of(customer string) (open, past []*Alert) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, id := range b.by[customer] {
		open = append(open, b.open[id])
	}
	slices.SortFunc(open, byRisk)
	past = slices.Clone(b.past[customer])
	slices.Reverse(past)
	return open, past[:min(len(past), closedShown)]
}

// Operational returns the open operational alerts, worst first.
func (b *Book) Operational() []*Step {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make([]*Step, 0, len(b.ops))
	for _, s := range b.ops {
		out = append(out, s)
	}
	slices.SortFunc(out, func(x, y *Step) int {
		return cmp.Or(-cmp.Compare(x.Severity, y.Severity), x.Since.Compare(y.Since), strings.Compare(x.AlertID, y.AlertID))
	})
	return out
}

// Amount is a sum of money in one currency.
type Amount struct {
	Sum      event.Money
	Currency string
}

// Totals are sums over all open alerts, and over those that are over as far as they are remembered.
type Totals struct {
	Firing     int
	Customers  int
	BySeverity [3]int
	AtRisk     []Amount // a customer counts once, with the greatest of his alerts
	// ThisWeek counts the alerts, open or over, that fired first within the last seven days.
	ThisWeek int
	// ByDetector has a line for each detector that fires or was seen to.
	ByDetector []DetectorTotals
}

// DetectorTotals are the sums of one detector.
type DetectorTotals struct {
	Detector   string
	Firing     int
	BySeverity [3]int
	AtRisk     []Amount
	ThisWeek   int
	// Closed counts those that are over, by reason, as far as they are remembered.
	Closed []Facet
}

const week = 7 * 24 * time.Hour

// Totals are counted at event time now.
func (b *Book) Totals(now time.Time) Totals {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Within one hour of event time the count of the week hardly moves; what is new raises the version anyway.
	if hour := now.Unix() / 3600; b.totalsAt != b.version || b.totalsDay != hour {
		b.merge()
		b.totals, b.totalsAt, b.totalsDay = b.count(now), b.version, hour
	}
	return b.totals
}

func (b *Book) count(now time.Time) Totals {
	t := Totals{Firing: len(b.sorted), Customers: len(b.by)}
	index := map[string]int{}
	reasons := map[string]map[string]int{}
	line := func(detector string) *DetectorTotals {
		i, ok := index[detector]
		if !ok {
			i = len(t.ByDetector)
			index[detector] = i
			reasons[detector] = map[string]int{}
			t.ByDetector = append(t.ByDetector, DetectorTotals{Detector: detector})
		}
		return &t.ByDetector[i]
	}
	from := now.Add(-week)
	for _, a := range b.sorted {
		d := line(a.Detector)
		d.Firing++
		d.BySeverity[a.Severity]++
		t.BySeverity[a.Severity]++
		if a.HasRisk {
			all, his := b.greatest(a)
			if all {
				t.AtRisk = addAmount(t.AtRisk, a.AtRisk, a.Currency)
			}
			if his {
				d.AtRisk = addAmount(d.AtRisk, a.AtRisk, a.Currency)
			}
		}
		if a.FirstFired.After(from) {
			t.ThisWeek++
			d.ThisWeek++
		}
	}
	for _, a := range b.closed {
		d := line(a.Detector)
		reasons[a.Detector][a.Reason]++
		if a.FirstFired.After(from) {
			t.ThisWeek++
			d.ThisWeek++
		}
	}
	for i := range t.ByDetector {
		d := &t.ByDetector[i]
		for r, n := range reasons[d.Detector] {
			d.Closed = append(d.Closed, Facet{Value: r, Count: n})
		}
		slices.SortFunc(d.Closed, func(x, y Facet) int { return cmp.Or(-cmp.Compare(x.Count, y.Count), strings.Compare(x.Value, y.Value)) })
	}
	slices.SortFunc(t.ByDetector, func(x, y DetectorTotals) int { return strings.Compare(x.Detector, y.Detector) })
	return t
}

// greatest reports whether no other alert of the same customer has more money at risk, over all detectors and for the alert's own:
// what a customer spends can be lost only once. Of equal ones it is the one with the least id.
func (b *Book) greatest(a *Alert) (all, ofDetector bool) {
	all, ofDetector = true, true
	for _, id := range b.by[a.Customer] {
		o := b.open[id]
		if !o.HasRisk || o.Currency != a.Currency || cmp.Or(cmp.Compare(o.AtRisk, a.AtRisk), strings.Compare(a.AlertID, o.AlertID)) <= 0 {
			continue
		}
		all = false
		ofDetector = ofDetector && o.Detector != a.Detector
	}
	return all, ofDetector
}

func addAmount(sums []Amount, m event.Money, currency string) []Amount {
	for i := range sums {
		if sums[i].Currency == currency {
			sums[i].Sum += m
			return sums
		}
	}
	return append(sums, Amount{Sum: m, Currency: currency})
}

// Changes returns the book's version and a channel that is closed at the next change.
func (b *Book) Changes() (version uint64, next <-chan struct{}) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.version, b.changed
}

// Departures returns the alerts that left after the given mark, as far as they are remembered, and the next mark.
func (b *Book) Departures(mark uint64) ([]Departure, uint64) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	n := int(min(b.leftAt-min(mark, b.leftAt), uint64(len(b.left)), departKept))
	return slices.Clone(b.left[len(b.left)-n:]), b.leftAt
}
