package alerts_test

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
)

// pipeline is the naive reference of a task: all customers in a map, timers by looking at everybody.
type pipeline struct {
	customers  map[string]*customer.Record
	params     customer.Params
	set        *detectors.Set
	policy     *alerts.Policy
	policyOf   alerts.Config
	env        detectors.Env
	outOfOrder int64
	known      func(at int64) [event.NumFeeds]int64
	mode       alerts.Mode
	emit       func(r *customer.Record, s *alerts.Step, alert, open alerts.Message)
	judged     func(r *customer.Record, v alerts.Verdict)
	outcomes   customer.Outcome // of all events together
	codec      bool             // every record goes through its stored form after every change
	checks     func(r *customer.Record)

	sigs     []detectors.Signal
	findings []detectors.Finding // all of them
	steps    []alerts.Step
	src      event.Position
	msgs     bool
}

// remindAfter turns reminders on.
func (p *pipeline) remindAfter(d detectors.Duration) {
	p.policyOf.RemindAfter = d
	p.policy = alerts.New(p.policyOf)
}

// together makes one alert of a complaint and a drop at the same time.
func (p *pipeline) together() {
	p.policyOf.Together = true
	p.policy = alerts.New(p.policyOf)
}

func newPipeline(tb testing.TB, cfg detectors.Config, loc *time.Location) *pipeline {
	tb.Helper()
	set, err := detectors.NewSet(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	cal := customer.NewCalendar(loc)
	policyOf := alerts.Config{
		Group: "test", Detectors: set, Horizon: cfg.Horizon, MaxAlertAge: 30 * detectors.Day, ForgetAfter: 800 * detectors.Day,
		Currency: event.Currency{'E', 'U', 'R'}, ConfigHash: "c0ffee",
	}
	p := &pipeline{
		customers: map[string]*customer.Record{}, params: customer.DefaultParams(cal), set: set,
		policy: alerts.New(policyOf), policyOf: policyOf,
		env: detectors.Env{Calendar: cal, Rates: detectors.MustRates("EUR", map[string]string{"USD": "0.92"})}, msgs: true,
	}
	set.Keep(&p.params, &p.env)
	p.known = func(at int64) (k [event.NumFeeds]int64) {
		for i := range k {
			k[i] = at
		}
		return k
	}
	return p
}

func (p *pipeline) record(id string) *customer.Record {
	r := p.customers[id]
	if r == nil {
		r = &customer.Record{ID: id}
		p.customers[id] = r
	}
	return r
}

// apply decides what was due before the event, applies it, and decides what it means.
func (p *pipeline) apply(e *event.Event) customer.Outcome {
	r := p.record(string(e.Customer))
	if e.Feed != event.Customers {
		p.settle(r, e.Time-p.outOfOrder)
	}
	out := r.Apply(e, &p.params)
	p.outcomes |= out
	if out == customer.Duplicate || out == customer.SumOverflow {
		return out
	}
	p.decide(r, max(e.Time, r.Decided), e)
	return out
}

// act carries out what a person does.
func (p *pipeline) act(e *event.Event) customer.Outcome {
	r := p.record(string(e.Customer))
	p.settle(r, e.Time-p.outOfOrder)
	out := r.Act(e, &p.params)
	if out == customer.Duplicate {
		return out
	}
	at := max(e.Time, r.Decided)
	p.know(at)
	var what customer.Outcome
	p.steps, what = p.policy.Act(r, e, p.mode, p.steps[:0])
	p.publish(r, e)
	p.steps = p.steps[:0]
	p.decide(r, max(at, r.Decided), nil)
	return out | what
}

// know says what is known for a decision at an event time: of the cohorts, the day before.
func (p *pipeline) know(at int64) {
	p.env.Now, p.env.KnownUntil = at, p.known(at)
	day := at / detectors.Day.Ms()
	p.env.CohortsDay, p.env.CohortsNext = int32(day-1), (day+1)*detectors.Day.Ms()
}

func (p *pipeline) settle(r *customer.Record, upTo int64) {
	for range 100_000 {
		d := r.Deadline
		if d == 0 || d > upTo {
			return
		}
		p.decide(r, d, nil)
		if r.Deadline != 0 && r.Deadline <= d {
			return
		}
	}
}

// tick runs every timer up to now, the earliest first.
func (p *pipeline) tick(now int64) {
	now -= p.outOfOrder
	for {
		var due *customer.Record
		for _, r := range p.customers {
			if r.Deadline != 0 && r.Deadline <= now && (due == nil || cmp.Or(cmp.Compare(r.Deadline, due.Deadline), cmp.Compare(r.ID, due.ID)) < 0) {
				due = r
			}
		}
		if due == nil {
			return
		}
		p.decide(due, due.Deadline, nil)
	}
}

// tickAll is tick for many customers: each by itself, in the order of their ids.
func (p *pipeline) tickAll(now int64) {
	ids := make([]string, 0, len(p.customers))
	for id := range p.customers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		p.settle(p.customers[id], now-p.outOfOrder)
	}
}

func (p *pipeline) decide(r *customer.Record, at int64, trigger *event.Event) {
	p.know(at)
	sigs, next := p.set.Evaluate(r, &p.env, trigger, p.sigs[:0])
	p.sigs = sigs
	if len(sigs) != 0 || len(r.Lifecycles) != 0 {
		p.steps = p.policy.Decide(r, sigs, &p.env, p.mode, p.steps[:0])
		p.publish(r, trigger)
	}
	p.findings = p.set.Settle(r, &p.env, p.findings)
	for _, v := range p.policy.Judge(r, &p.env, nil) {
		if p.judged != nil {
			p.judged(r, v)
		}
	}
	if next != 0 && next <= at && len(p.steps) == 0 {
		next = at + 60_000
	}
	due := p.policy.Due(r, &p.env)
	for _, x := range r.Predictions() {
		if x.Due <= at { // it could not be judged
			due = at + 6*3_600_000
		}
	}
	if due != 0 && (next == 0 || due < next) {
		next = due
	}
	if p.policy.Forget(r, at) {
		delete(p.customers, r.ID)
		return
	}
	if f := p.policy.ForgetAt(r); next == 0 || f < next {
		next = f
	}
	r.Deadline, r.Armed = next, next
	if p.codec {
		again := &customer.Record{ID: r.ID}
		if err := customer.DecodeRecord(customer.AppendRecord(nil, r), again); err != nil {
			panic(err)
		}
		*r = *again
	}
	if p.checks != nil {
		p.checks(r)
	}
	p.steps = p.steps[:0]
}

func (p *pipeline) publish(r *customer.Record, trigger *event.Event) {
	for i := range p.steps {
		s := &p.steps[i]
		src := event.Position{}
		if trigger != nil {
			src = p.src
		}
		var alert, open alerts.Message
		if p.msgs {
			alert, open = p.policy.Message(s, r, &p.env, src)
		}
		if p.emit != nil {
			p.emit(r, s, alert, open)
		}
	}
}

// endQuiet publishes what the quiet history kept.
func (p *pipeline) endQuiet(now int64) {
	p.mode = alerts.Publish
	ids := make([]string, 0, len(p.customers))
	for id := range p.customers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		r := p.customers[id]
		p.know(now)
		p.steps = p.policy.PublishHeld(r, &p.env, p.steps[:0])
		p.publish(r, nil)
		p.steps = p.steps[:0]
		if due := p.policy.Due(r, &p.env); due != 0 && due < r.Deadline {
			r.Deadline, r.Armed = due, due
		}
	}
}

// contract is the configuration of the reference implementations that ebb is compared with.
func contract() detectors.Config {
	cfg := detectors.Defaults()
	cfg.SpendDrop.Method = detectors.Plain
	d := &cfg.SpendDrop
	d.RecentDays, d.BaselineDays, d.MinHistoryDays, d.FiresBelowPercent, d.RecoversAtPercent, d.CriticalBelowPercent = 7, 28, 28, 50, 70, 0
	cfg.Silence = detectors.SilenceConfig{Enabled: true, Method: detectors.Plain, After: 14 * detectors.Day}
	cfg.ComplaintUnresolved.FirstResponse, cfg.ComplaintUnresolved.Warn = detectors.Targets{}, detectors.WarnConfig{}
	cfg.Friction.Enabled, cfg.PaymentTrouble.Enabled = false, false
	cfg.ComplaintUnresolved.Resolution = detectors.AllPriorities(detectors.Within(48 * detectors.Hour))
	cfg.ComplaintUnresolved.Resolution.Critical = detectors.Within(0)
	return cfg
}
