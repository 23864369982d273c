package backtest

import (
	"cmp"
	"math"
	"slices"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/stream/event"
)

// daysPerMonth is the mean length of a month.
const daysPerMonth = 30.4375

// scorer holds alerts against what happened.
type scorer struct {
	h       *History
	t       *Truth
	horizon int32 // days
	ms      int64 // the horizon in ms
	from    int64 // event time before which ebb is learning, ms: alerts and departures before are told apart
	tiers   *tiering
	lapses  []lapse // silences
	drains  []lapse // accounts that ran down
}

// lapse is what a detector had to name in time: a silence of at least the horizon after at least three active days, or an account that was as good as empty for so long.
type lapse struct {
	p      *person
	from   int64       // the last activity, or since when the account was empty, ms
	last   *activeDay  // the last activity before a silence, nil for an account
	stated bool        // the customer said that he leaves
	money  event.Money // spent in the horizon up to the last activity, or the usual balance of the account
	tier   int
	pause  *pause // what was asked about it, nil for nothing
}

// newScorer prepares a history for being held against alerts. Accounts of which less than a balance was usual are left out.
func newScorer(h *History, horizon int32, leastBalance event.Money) *scorer {
	s := &scorer{h: h, t: h.Truth, horizon: horizon, ms: int64(horizon) * dayMs}
	s.from = learningUntil(h, horizon)
	s.tiers = newTiering(h.Truth, horizon, dayOf(s.from))
	s.findLapses()
	s.findDrains(leastBalance)
	return s
}

// owed are the lapses that a detector should have named, nil for one that names none.
func (s *scorer) owed(detector string) []lapse {
	switch detector {
	case detectors.SilenceName:
		return s.lapses
	case detectors.OutflowName:
		return s.drains
	}
	return nil
}

// finds reports whether there are lapses in a history that a detector could name.
func (s *scorer) finds(detector string) bool {
	return detector == detectors.SilenceName && !s.t.None || detector == detectors.OutflowName && s.t.Accounts > 0
}

// learningUntil is when a history has shown enough to be judged by: two horizons after its beginning, of which the first is not shorter than 90 days, so that outcomes
// of one horizon are known; in a short history, one horizon.
func learningUntil(h *History, horizon int32) int64 {
	const least = 90
	days := horizon
	if (h.To-h.From)/dayMs > int64(3*horizon+least) {
		days = max(horizon, least) + horizon
	}
	return int64(dayOf(h.From)+days) * dayMs
}

func (s *scorer) findLapses() {
	if s.t.None {
		return
	}
	for _, p := range s.t.list {
		for i := leastDays - 1; i < len(p.days); i++ {
			d := &p.days[i]
			next := s.t.EndDay + 1 // nothing is known of the days behind the end
			if i+1 < len(p.days) {
				next = p.days[i+1].day
			}
			if next-d.day <= s.horizon {
				continue
			}
			s.lapses = append(s.lapses, lapse{
				p: p, from: d.last, last: d, stated: p.cancelledWithin(d.first-s.ms, d.last+s.ms),
				money: p.spent(d.day-s.horizon, d.day), tier: s.tiers.of(p, d.day),
			})
		}
	}
}

// verdict is what became of an alert.
type verdict uint8

const (
	undecided verdict = iota
	right
	wrong
)

// silence judges a silence alert: it was right if no activity followed within its horizon (which is longer than the configured one for who comes rarely), or if the customer cancelled within it. less is
// true if he spent less than half of what he had spent in the horizon before his last activity.
func (s *scorer) silence(a *Alert, p *person) (v verdict, less bool) {
	horizon := cmp.Or(a.Horizon, s.horizon)
	to := a.At + int64(horizon)*dayMs
	if to > s.h.To {
		return undecided, false
	}
	day := dayOf(a.At)
	if i := p.upTo(day); i > 0 {
		last := p.days[i-1].day
		less = 2*p.spent(day, day+horizon) < p.spent(last-horizon, last)
	}
	if !p.active(a.At, to) || p.cancelledWithin(a.At, to) {
		return right, true
	}
	return wrong, less
}

// drop judges an alert of falling spend: it was right if the spend of the next horizon stayed below half of the horizon before the fall
// began, or if the customer cancelled within it.
func (s *scorer) drop(a *Alert, p *person) verdict {
	to := a.At + s.ms
	if to > s.h.To || len(p.days) == 0 {
		return undecided
	}
	if p.cancelledWithin(a.At, to) {
		return right
	}
	day, since := dayOf(a.At), dayOf(a.Since)
	known := min(s.horizon, since-p.days[0].day)
	if known < leastReference {
		return undecided
	}
	before := p.spent(since-1-known, since-1)
	after := p.spent(day, day+s.horizon)
	if 2*float64(after)*float64(known) < float64(before)*float64(s.horizon) {
		return right
	}
	return wrong
}

// leastReference is how many days of history before a fall are needed to say what was usual.
const leastReference = 28

// tally gathers a Score.
type tally struct {
	Score
	leads        []float64
	hours        []float64
	verdicts     [3]int
	early        Learning
	held         HeldBack
	less         int
	lapses       int
	found        int
	lost, money  event.Money
	scored       bool // verdicts are given
	lapsesScored bool
	balances     bool // money is what was on accounts
}

func (s *scorer) detector(name string, list []*Alert) DetectorReport {
	all := &tally{}
	by := make([]*tally, len(s.tiers.names))
	for i := range by {
		by[i] = &tally{}
	}
	firsts := map[*person][]*Alert{}
	for _, a := range list {
		p := s.t.people[a.Customer]
		tier := s.tiers.of(p, dayOf(a.At))
		firsts[p] = append(firsts[p], a)
		for _, to := range []*tally{all, by[tier]} {
			s.count(to, name, a, p)
		}
	}
	owed := s.owed(name)
	for i := range owed {
		l := &owed[i]
		if l.stated {
			continue
		}
		found, lead := s.found(l, firsts[l.p])
		for _, to := range []*tally{all, by[l.tier]} {
			if l.from < s.from {
				to.early.lapse(found)
				continue
			}
			to.lapse(l, found, lead)
		}
	}
	weeks := float64(s.t.EndDay-s.t.FirstDay+1) / 7
	for _, t := range append(by, all) {
		t.scored, t.lapsesScored, t.balances = predicts(name), s.finds(name), name == detectors.OutflowName
	}
	out := DetectorReport{Detector: name, Score: all.score(weeks, s.tiers.activeMonths())}
	for i, t := range by {
		out.Tiers = append(out.Tiers, TierReport{Tier: s.tiers.names[i], ActiveMonths: round(s.tiers.months[i], 1), Score: t.score(weeks, s.tiers.months[i])})
	}
	return out
}

// predicts reports whether a detector's alerts foretell something that the history can confirm or refute.
func predicts(detector string) bool {
	switch detector {
	case detectors.SilenceName, detectors.SpendDropName, detectors.OutflowName, detectors.PartialLapseName:
		return true
	}
	return false
}

// verdict judges an alert of a detector that predicts. few is true where the customer had less than three active days, so that nothing can be said of his rhythm; less
// where he spent less than half of before.
func (s *scorer) verdict(a *Alert, p *person) (v verdict, few, less bool) {
	switch a.Detector {
	case detectors.OutflowName:
		return s.outflow(p, a.At, a.Expected), false, false
	case detectors.PartialLapseName: // what a payment is for is known to the record alone
		return a.came, false, false
	}
	if p.upTo(dayOf(a.At)) < leastDays {
		return undecided, true, false
	}
	if a.Detector == detectors.SpendDropName {
		return s.drop(a, p), false, false
	}
	v, less = s.silence(a, p)
	return v, false, less
}

func (s *scorer) count(to *tally, name string, a *Alert, p *person) {
	learning := a.At < s.from
	switch {
	case a.Alone != 0:
		to.Alerts++
		if learning {
			to.early.Alerts++
		}
		if a.ResolvedAt != 0 {
			to.Resolved++
		}
	case a.Told != 0:
		to.Together++
	}
	v, few, less := undecided, false, false
	if predicts(name) {
		v, few, less = s.verdict(a, p)
	}
	if a.HeldFor != nil && !learning {
		to.held.count(a, v)
	}
	switch {
	case name == detectors.ComplaintUnresolvedName:
		s.complaint(to, a)
		return
	case !predicts(name) || !s.inTime(a):
		return
	}
	if less && !learning {
		to.less++
	}
	switch {
	case few:
		to.FewDays++
		if learning {
			to.early.FewDays++
		}
	case !learning:
		to.verdicts[v]++
	case v == right:
		to.early.Right++
	case v == wrong:
		to.early.Wrong++
	}
}

// inTime reports whether somebody was told of an alert before the horizon that it foretells was over: then it counts.
func (s *scorer) inTime(a *Alert) bool {
	return a.Told != 0 && a.Told < a.At+int64(cmp.Or(a.Horizon, s.horizon))*dayMs
}

func (h *HeldBack) count(a *Alert, v verdict) {
	h.Alerts++
	if a.Told != 0 {
		h.ToldLater++
	}
	switch v {
	case right:
		h.Right++
	case wrong:
		h.Wrong++
	default:
		h.Undecided++
	}
}

// complaint counts an alert that has a clock instead of a prediction. One that began as info was a warning, and right if the breach came.
func (s *scorer) complaint(to *tally, a *Alert) {
	if a.ResolvedAt != 0 {
		to.hours = append(to.hours, float64(a.ResolvedAt-a.At)/3_600_000)
	}
	if a.Severity != alerts.Info {
		to.Unwarned++
		return
	}
	to.Warnings++
	if a.Highest > alerts.Info {
		to.WarningsRight++
	}
}

// found reports whether a lapse was alerted before the horizon was over, and how many days before.
func (s *scorer) found(l *lapse, list []*Alert) (bool, float64) {
	if a := s.namedBy(l, list); a != nil {
		return true, s.lead(l, a)
	}
	return false, 0
}

// namedBy is the alert of a lapse of which somebody was told first, before the horizon was over; nil if there is none.
func (s *scorer) namedBy(l *lapse, list []*Alert) (first *Alert) {
	for _, a := range list { // in the order of time
		if s.about(l, a) && a.Told != 0 && a.Told <= l.from+s.ms && (first == nil || a.Told < first.Told) {
			first = a
		}
	}
	return first
}

// about reports whether an alert is about a lapse: it fired after the last activity. A balance falls before it is gone.
func (s *scorer) about(l *lapse, a *Alert) bool {
	return a.At > l.from || l.last == nil && (a.ResolvedAt == 0 || a.ResolvedAt > l.from)
}

// lead is how many days before the horizon was over somebody was told.
func (s *scorer) lead(l *lapse, a *Alert) float64 { return float64(l.from+s.ms-a.Told) / dayMs }

func (e *Learning) lapse(found bool) {
	e.Lapses++
	if found {
		e.Found++
	}
}

func (t *tally) lapse(l *lapse, found bool, lead float64) {
	t.lapses++
	t.lost, _ = t.lost.Add(l.money)
	if found {
		t.found++
		t.money, _ = t.money.Add(l.money)
		t.leads = append(t.leads, lead)
	}
}

func (t *tally) score(weeks, months float64) Score {
	s := t.Score
	if t.early != (Learning{}) {
		s.Learning = &t.early
	}
	if t.held != (HeldBack{}) {
		s.HeldBack = &t.held
	}
	s.PerWeek = round(float64(s.Alerts)/weeks, 2)
	if months > 0 {
		s.PerThousand = ratio(float64(s.Alerts)*1000, months)
	}
	s.LeadDays, s.ComplaintHours = median(t.leads), median(t.hours)
	if t.scored {
		v := t.verdicts
		s.Right, s.Wrong, s.Undecided = &v[right], &v[wrong], &v[undecided]
		decided := float64(v[right] + v[wrong])
		s.Precision = ratio(float64(v[right]), decided)
		if t.less > 0 {
			s.RightOrLess = ratio(float64(t.less), decided)
		}
	}
	if t.lapsesScored {
		s.Lapses, s.Found = &t.lapses, &t.found
		s.Recall = ratio(float64(t.found), float64(t.lapses))
		lost, found := &s.MoneyLost, &s.MoneyFound
		if t.balances {
			lost, found = &s.BalanceLost, &s.BalanceFound
		}
		*lost, *found = t.lost.String(), t.money.String()
	}
	return s
}

// ratio is a/b to four decimals, nil where b is 0.
func ratio(a, b float64) *float64 {
	if b == 0 {
		return nil
	}
	v := round(a/b, 4)
	return &v
}

func round(v float64, decimals int) float64 {
	p := math.Pow(10, float64(decimals))
	return math.Round(v*p) / p
}

func median(v []float64) *float64 {
	if len(v) == 0 {
		return nil
	}
	slices.Sort(v)
	m := v[len(v)/2]
	if len(v)%2 == 0 {
		m = (m + v[len(v)/2-1]) / 2
	}
	m = round(m, 1)
	return &m
}

// method scores what one set of rules said.
func (s *scorer) method(name string, names []string, o *Outcome) MethodReport {
	m := MethodReport{Name: name}
	by := map[string][]*Alert{}
	for i := range o.Alerts {
		a := &o.Alerts[i]
		by[a.Detector] = append(by[a.Detector], a)
	}
	for _, n := range names {
		m.Detectors = append(m.Detectors, s.detector(n, by[n]))
	}
	m.Weeks = s.weeks(names, o.Alerts)
	return m
}

func (s *scorer) weeks(names []string, list []Alert) []Week {
	n := int(s.t.EndDay-s.t.FirstDay)/7 + 1
	out := make([]Week, n)
	for i := range out {
		out[i] = Week{From: date(s.t.FirstDay + int32(7*i)), Alerts: map[string]int{}}
		for _, name := range names {
			out[i].Alerts[name] = 0
		}
	}
	for i := range list {
		at := list[i].Alone
		if w := int(dayOf(at)-s.t.FirstDay) / 7; at != 0 && w >= 0 && w < n {
			out[w].Alerts[list[i].Detector]++
		}
	}
	return out
}

func date(day int32) string { return time.UnixMilli(int64(day) * dayMs).UTC().Format(time.DateOnly) }

// tiering puts customers into tiers: by their profiles where these name tiers, else into thirds by what they spent in the horizon up to their
// last activity.
type tiering struct {
	t       *Truth
	horizon int32
	source  string
	names   []string // the smallest first
	of3     [2]int64 // bounds of the thirds
	byName  map[string]int
	months  []float64 // of active customers
	// judgedMonths are those of all tiers since ebb is not only learning.
	judgedMonths float64
	spend        bool
}

func newTiering(t *Truth, horizon, judgedFrom int32) *tiering {
	g := &tiering{t: t, horizon: horizon, byName: map[string]int{}}
	spent := map[string]event.Money{}
	heads := map[string]int64{}
	for _, p := range t.list {
		if n := len(p.cum); n > 0 {
			g.spend = g.spend || p.cum[n-1] != 0
			spent[p.tier], _ = spent[p.tier].Add(p.cum[n-1])
		}
		heads[p.tier]++
	}
	switch {
	case len(heads) > 1 || len(heads) == 1 && heads[""] == 0:
		g.source = "profile"
		for name := range heads {
			g.names = append(g.names, name)
		}
		slices.SortFunc(g.names, func(a, b string) int {
			return cmp.Or(cmp.Compare(float64(spent[a])/float64(heads[a]), float64(spent[b])/float64(heads[b])), cmp.Compare(a, b))
		})
		for i, name := range g.names {
			g.byName[name] = i
			if name == "" {
				g.names[i] = "none"
			}
		}
	default:
		g.source = "thirds by spend"
		if !g.spend {
			g.source = "thirds by activity"
		}
		g.names = []string{"small", "middle", "large"}
		g.bounds()
	}
	g.months = make([]float64, len(g.names))
	const step = 7
	g.sweep(step, func(p *person, day int32, _ int) {
		g.months[g.of(p, day)] += step / daysPerMonth
		if day >= judgedFrom {
			g.judgedMonths += step / daysPerMonth
		}
	})
	return g
}

// sweep shows every customer on every step-th day on which he is active: at least three active days, the last less than a horizon ago.
// n is how many active days there are up to then.
func (g *tiering) sweep(step int32, f func(p *person, day int32, n int)) {
	for _, p := range g.t.list {
		n := leastDays
		for day := g.t.FirstDay; day <= g.t.EndDay && n <= len(p.days); {
			for n < len(p.days) && p.days[n].day <= day {
				n++
			}
			last := p.days[n-1].day
			if last <= day && day-last < g.horizon {
				f(p, day, n)
				day += step
				continue
			}
			target := last // on to the next active day
			if last <= day {
				if n >= len(p.days) {
					break
				}
				target = p.days[n].day
			}
			day += (target - day + step - 1) / step * step
		}
	}
}

func (g *tiering) bounds() {
	const step = 28
	var values []int64
	g.sweep(step, func(p *person, day int32, _ int) { values = append(values, g.value(p, day)) })
	if len(values) == 0 {
		return
	}
	slices.Sort(values)
	g.of3 = [2]int64{values[len(values)/3], values[2*len(values)/3]}
}

// value is what a customer is worth on a day: what he spent in the horizon up to his last activity.
func (g *tiering) value(p *person, day int32) int64 {
	i := p.upTo(day)
	if i == 0 {
		return 0
	}
	last := p.days[i-1].day
	if !g.spend {
		return int64(i - p.upTo(last-g.horizon))
	}
	return int64(p.spent(last-g.horizon, last))
}

func (g *tiering) of(p *person, day int32) int {
	if g.source == "profile" {
		return g.byName[p.tier]
	}
	v := g.value(p, day)
	switch {
	case v < g.of3[0]:
		return 0
	case v < g.of3[1]:
		return 1
	}
	return 2
}

func (g *tiering) activeMonths() float64 {
	sum := 0.0
	for _, m := range g.months {
		sum += m
	}
	return sum
}
