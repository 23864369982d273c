package backtest

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/event"
)

// Rules are what decides: the same pieces that a task works with.
type Rules struct {
	Detectors *detectors.Set
	Policy    *alerts.Policy
	Feeds     []stream.FeedConfig
	Customer  customer.Params // without a calendar: each shard has its own
	Rates     *detectors.Rates
	Zone      *time.Location
	// MaxOutOfOrder is how long deadlines wait for events that come late, in ms of event time.
	MaxOutOfOrder  int64
	MaxRecordBytes int
}

// Alert is one alert from its beginning to its end.
type Alert struct {
	ID         [16]byte
	Customer   string
	Detector   string
	Subject    string
	At         int64 // event time at which it fired, ms
	Since      int64
	Severity   alerts.Severity // at which it fired
	Highest    alerts.Severity // that it reached
	AtRisk     event.Money
	Expected   event.Money
	Observed   event.Money
	ResolvedAt int64 // 0: open at the end of the history
	Reason     alerts.Reason
}

// Outcome is what a replay said.
type Outcome struct {
	Alerts     []Alert // in the order of time, customer, id
	Duplicates int     // events of an id that was applied before
	Refused    int     // events that no record could take: a sum would overflow
}

// replay is one run over a history.
type replay struct {
	rules  *Rules
	shards [shards]*shard
	p      *Progress
}

// shard replays the customers of one part. It belongs to one goroutine at a time.
type shard struct {
	rules     *Rules
	entries   []entry
	next      int
	decoders  [event.NumFeeds]*event.Decoder
	params    customer.Params
	env       detectors.Env
	decider   alerts.Decider
	customers map[string]*subject
	timers    timers
	clock     int64
	ev        event.Event

	alerts     []Alert
	open       map[[16]byte]int
	duplicates int
	refused    int
}

// subject is a customer with his record.
type subject struct {
	rec customer.Record
}

// Run replays a history by the rules.
func Run(ctx context.Context, h *History, rules *Rules, what string, p *Progress) (*Outcome, error) {
	r := &replay{rules: rules, p: p}
	for i := range r.shards {
		s, err := newShard(rules, h.shards[i])
		if err != nil {
			return nil, err
		}
		r.shards[i] = s
	}
	p.Begin(what, int64(h.Events))
	defer p.End()
	for _, to := range moments(h) {
		if err := r.each(ctx, func(s *shard) error { return s.advance(to, h.To) }); err != nil {
			return nil, err
		}
	}
	return r.outcome(), nil
}

// moments are the event times at which all shards wait for each other: the beginnings of days.
func moments(h *History) []int64 {
	var out []int64
	for day := dayOf(h.From) + 1; day <= dayOf(h.To); day += 7 {
		out = append(out, int64(day)*dayMs)
	}
	return append(out, h.To+1)
}

// each has every shard do something, on all cores.
func (r *replay) each(ctx context.Context, f func(*shard) error) error {
	var wg sync.WaitGroup
	var next atomic.Int32
	var errs [shards]error
	for range min(runtime.GOMAXPROCS(0), shards) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= shards || ctx.Err() != nil {
					return
				}
				before := r.shards[i].next
				errs[i] = f(r.shards[i])
				r.p.Add(int64(r.shards[i].next - before))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (r *replay) outcome() *Outcome {
	out := &Outcome{}
	for _, s := range r.shards {
		out.Alerts = append(out.Alerts, s.alerts...)
		out.Duplicates += s.duplicates
		out.Refused += s.refused
	}
	slices.SortFunc(out.Alerts, func(a, b Alert) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Customer, b.Customer), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return out
}

func newShard(rules *Rules, entries []entry) (*shard, error) {
	s := &shard{
		rules: rules, entries: entries, params: rules.Customer, customers: map[string]*subject{}, open: map[[16]byte]int{},
		decider: alerts.Decider{Detectors: rules.Detectors, Policy: rules.Policy},
	}
	s.params.Calendar = customer.NewCalendar(rules.Zone)
	s.env.Calendar, s.env.Rates = s.params.Calendar, rules.Rates
	var err error
	s.decoders, err = decoders(rules.Feeds, rules.MaxRecordBytes)
	return s, err
}

// advance applies what happened before a moment, and decides the deadlines up to it, as far as timers run behind the clock. At the end of
// the history nothing can come late any more.
func (s *shard) advance(to, end int64) error {
	for ; s.next < len(s.entries) && s.entries[s.next].time < to; s.next++ {
		if err := s.apply(&s.entries[s.next]); err != nil {
			return err
		}
	}
	s.clock = min(to, end)
	limit := s.clock
	if to <= end {
		limit -= s.rules.MaxOutOfOrder
	}
	s.runTimers(limit)
	return nil
}

// apply is what task.applyTo does with an event: what was due before it is decided before it.
func (s *shard) apply(e *entry) error {
	ev := &s.ev
	if err := s.decoders[e.feed].Decode(event.Position{Topic: "history", Offset: int64(s.next), Timestamp: -1}, nil, e.value, ev); err != nil {
		return fmt.Errorf("a record that could be decoded before cannot be decoded again: %w", err)
	}
	c := s.customers[string(ev.Customer)]
	if c == nil {
		c = &subject{rec: customer.Record{ID: string(ev.Customer)}}
		s.customers[c.rec.ID] = c
	}
	s.clock = max(s.clock, ev.Time)
	at := ev.Time
	if e.feed == event.Customers {
		at = max(0, at-s.rules.MaxOutOfOrder)
	} else {
		alerts.Settle(&c.rec, ev.Time-s.rules.MaxOutOfOrder, func(at int64) { s.decide(c, at, nil) })
	}
	outcome := c.rec.Apply(ev, &s.params)
	switch {
	case outcome.Has(customer.SumOverflow):
		s.refused++
		return nil
	case outcome.Has(customer.Duplicate):
		s.duplicates++
		return nil
	}
	s.decide(c, max(at, c.rec.Decided), ev)
	return nil
}

// runTimers decides every deadline up to a time.
func (s *shard) runTimers(limit int64) {
	for len(s.timers) > 0 && s.timers[0].at <= limit {
		t := heap.Pop(&s.timers).(timer)
		r := &t.c.rec
		if r.Armed != t.at { // it was armed for an earlier time meanwhile
			continue
		}
		r.Armed = 0
		switch {
		case r.Deadline == 0:
		case r.Deadline > t.at:
			s.arm(t.c, r.Deadline)
		default:
			s.decide(t.c, r.Deadline, nil)
		}
	}
}

// decide asks the detectors about one customer at event time at, and notes what they say.
func (s *shard) decide(c *subject, at int64, trigger *event.Event) {
	s.know(at)
	d := s.decider.Decide(&c.rec, &s.env, trigger, alerts.Publish, s.clock)
	for i := range d.Steps {
		s.note(&c.rec, &d.Steps[i])
	}
	if d.Forget {
		c.rec = customer.Record{ID: c.rec.ID}
		return
	}
	s.arm(c, d.Next)
}

// know says up to where each feed is complete for a decision at event time at: a replay has seen everything, but treats the last stretch
// of a feed that is late by nature as not yet known, as a task does.
func (s *shard) know(at int64) {
	s.env.Now = at
	for f := range s.env.KnownUntil {
		s.env.KnownUntil[f] = at
	}
	for _, f := range s.rules.Feeds {
		s.env.KnownUntil[f.Feed] = max(0, at-f.Completeness.Milliseconds())
	}
}

func (s *shard) note(r *customer.Record, st *alerts.Step) {
	switch i, known := s.open[st.AlertID]; {
	case st.Kind == alerts.StepFired:
		sig := st.Signal()
		s.open[st.AlertID] = len(s.alerts)
		s.alerts = append(s.alerts, Alert{
			ID: st.AlertID, Customer: r.ID, Detector: st.Detector, Subject: st.Subject, At: st.At, Since: st.Since,
			Severity: st.Severity, Highest: st.Severity, AtRisk: sig.AtRisk, Expected: sig.Expected, Observed: sig.Observed,
		})
	case !known:
	case st.Kind == alerts.StepResolved:
		s.alerts[i].ResolvedAt, s.alerts[i].Reason = st.At, st.Reason
		delete(s.open, st.AlertID)
	default:
		s.alerts[i].Highest = max(s.alerts[i].Highest, st.Severity)
	}
}

// arm sets when a customer is looked at next, as state.Table does: an earlier timer stays and is passed over.
func (s *shard) arm(c *subject, deadline int64) {
	r := &c.rec
	r.Deadline = deadline
	if deadline == 0 || r.Armed != 0 && r.Armed <= deadline {
		return
	}
	r.Armed = deadline
	heap.Push(&s.timers, timer{deadline, c})
}

// timers are deadlines, the earliest first; of equal ones the smaller customer id.
type timers []timer

type timer struct {
	at int64
	c  *subject
}

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	return t[i].at < t[j].at || t[i].at == t[j].at && t[i].c.rec.ID < t[j].c.rec.ID
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)   { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}
