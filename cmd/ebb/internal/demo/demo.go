package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"ebb/cmd/ebb/internal/console"
	"ebb/cmd/ebb/internal/simulate"
)

// Producer writes records to topics. t is the record's timestamp.
type Producer interface {
	// Produce may return before the record is written; a failure then comes from Flush.
	Produce(ctx context.Context, topic string, key, value []byte, t time.Time) error
	// Flush returns when all records are acknowledged.
	Flush(ctx context.Context) error
}

// Engine is what the demo starts, kills and stops: the same engine that `ebb run` runs.
type Engine interface {
	// Start starts it on its state as it lies. It returns when the engine runs, not when it has caught up.
	Start(ctx context.Context) error
	// Kill ends it as kill -9 would: when it returns, nothing is written any more, and nothing was put in order.
	Kill()
	// Stop ends it in order.
	Stop(ctx context.Context) error
	// Behind is how many records of the feeds it has not yet read; false while it cannot tell, such as before it has its
	// partitions.
	Behind() (records int64, ok bool)
}

// Options are what a demo consists of. Crowd, Topics, Producer, Engine, Book and Tick are required.
type Options struct {
	// Seed is shown, so that a run can be repeated; the crowd was made with it.
	Seed  uint64
	Crowd *simulate.Crowd
	// Topics are the topics of the crowd's feeds.
	Topics   map[simulate.Feed]string
	Producer Producer
	Engine   Engine
	// Book holds the open alerts; the demo reads it to choose one for the late payment.
	Book *console.Book
	// Speed is simulated days a second; default 1.
	Speed float64
	// For ends Run after that much time of the process; 0: when its context ends.
	For time.Duration
	// Tick is the clock of the process.
	Tick func() time.Time
	// Config is the configuration file for commands of other terminals, which the page names; empty: it names none.
	Config string
}

// MaxStep is by how much the simulated clock steps at most, so how far ahead of the engine's wall clock an event's time may be.
const MaxStep = 45 * time.Minute

// Demo runs the demo. It implements console.Demo.
type Demo struct {
	o     Options
	clock *clock
	live  time.Time

	// crowdMu guards the crowd and the rule that goes with it: the driver has it while it lives a step.
	crowdMu sync.Mutex
	usual   *usualRule

	mu         sync.Mutex // guards what follows
	phase      string
	progress   float64
	truth      bool
	truths     map[string]simulate.Truth
	ebb, naive *ledger
	ebbScore   console.Score
	naiveScore console.Score
	leavers    int
	days       []console.ScoreDay
	steps      stepLog
	untimed    untimed
	acts       acts

	presses chan press
}

var _ console.Demo = (*Demo)(nil)

// New makes a demo. It panics if something required is missing.
func New(o Options) *Demo {
	if o.Crowd == nil || o.Producer == nil || o.Engine == nil || o.Book == nil || o.Tick == nil {
		panic("demo: Crowd, Producer, Engine, Book and Tick are required")
	}
	for _, f := range simulate.Feeds() {
		if o.Topics[f] == "" {
			panic("demo: the topic of the " + string(f) + " feed is missing")
		}
	}
	if o.Speed <= 0 {
		o.Speed = 1
	}
	live := o.Crowd.LiveStart()
	d := &Demo{
		o: o, live: live, clock: newClock(live, o.Speed, o.Tick), phase: console.PhaseFilling, truth: true,
		ebb: newLedger(live), naive: newLedger(live), steps: newStepLog(), untimed: untimed{customers: map[string]time.Time{}}, presses: make(chan press),
	}
	d.usual = newUsualRule(o.Crowd.Start(), func(id string, at time.Time) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.naive.fire(id, episode{customer: id, detector: "usual", fired: at})
	}, func(id string, at time.Time) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.naive.resolve(id, at)
	})
	return d
}

// Now is the simulated time: the engine's wall clock, and the page's.
func (d *Demo) Now() time.Time { return d.clock.now() }

// Run fills the topics with the history, starts the engine, and lets the time run until ctx or Options.For ends. It then stops the
// engine in order. The error is nil after an orderly end.
func (d *Demo) Run(ctx context.Context) error {
	if d.o.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.o.For)
		defer cancel()
	}
	err := d.run(ctx)
	d.setPhase(console.PhaseEnded, 1)
	// The end of the demo's time is the end of the demo; the engine still has time to leave in order.
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = errors.Join(err, d.o.Engine.Stop(stop))
	d.rescore(d.Now())
	return err
}

func (d *Demo) run(ctx context.Context) error {
	err := d.fill(ctx)
	if err == nil {
		if err = d.o.Engine.Start(ctx); err != nil {
			err = fmt.Errorf("start the engine: %w", err)
		}
	}
	if err == nil {
		err = d.read(ctx)
	}
	if err == nil {
		err = d.drive(ctx)
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the demo's time is over: what was cut short by that is no failure
	}
	return err
}

func (d *Demo) setPhase(phase string, progress float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.phase, d.progress = phase, progress
}

// fill produces the history, a day at a time so that progress shows.
func (d *Demo) fill(ctx context.Context) error {
	d.crowdMu.Lock()
	defer d.crowdMu.Unlock()
	start := d.o.Crowd.Start()
	whole := d.live.Sub(start)
	for at := start.Add(oneDay); ; at = at.Add(oneDay) {
		if at.After(d.live) {
			at = d.live
		}
		if err := d.emit(ctx, at); err != nil {
			return fmt.Errorf("write the history: %w", err)
		}
		d.setPhase(console.PhaseFilling, float64(at.Sub(start))/float64(whole))
		if at.Equal(d.live) {
			break
		}
	}
	if err := d.o.Producer.Flush(ctx); err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	d.remember()
	return nil
}

// emit produces everything that arrives before t. The caller holds crowdMu.
func (d *Demo) emit(ctx context.Context, t time.Time) error {
	err := d.o.Crowd.Until(t, func(e simulate.Event) error {
		if d.withhold(&e) {
			return nil
		}
		return d.produce(ctx, &e)
	})
	if err != nil {
		return err
	}
	d.usual.until(t)
	return nil
}

func (d *Demo) produce(ctx context.Context, e *simulate.Event) error {
	d.usual.see(e)
	if e.At.Sub(e.Time) > time.Hour && !e.At.Before(d.live) {
		d.mu.Lock()
		d.untimed.late(e)
		d.mu.Unlock()
	}
	return d.o.Producer.Produce(ctx, d.o.Topics[e.Feed], []byte(e.Key), e.Value, e.At)
}

// read waits until the engine has read the history.
func (d *Demo) read(ctx context.Context) error {
	d.setPhase(console.PhaseReading, 0)
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	most := int64(1)
	for {
		if n, ok := d.o.Engine.Behind(); ok {
			if n == 0 {
				return nil
			}
			most = max(most, n)
			d.setPhase(console.PhaseReading, 1-float64(n)/float64(most))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// drive lets the simulated time run, step by step.
func (d *Demo) drive(ctx context.Context) error {
	d.setPhase(console.PhaseLive, 1)
	d.clock.start()
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	day := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p := <-d.presses:
			p.done <- d.press(ctx, p)
			continue
		case <-pace.C:
		}
		if err := d.step(ctx); err != nil {
			return err
		}
		now := d.Now()
		d.watch(now)
		if today := now.Truncate(oneDay); today.After(day) {
			day = today
			d.rescore(now)
		}
	}
}

// step lets the clock catch up with where it should be, in steps of at most MaxStep: first the events, then the time.
func (d *Demo) step(ctx context.Context) error {
	for range 16 { // then somebody else's turn: buttons, the end
		at := d.clock.target(MaxStep)
		if !at.After(d.Now()) {
			return nil
		}
		d.crowdMu.Lock()
		err := d.emit(ctx, at)
		d.crowdMu.Unlock()
		if err == nil {
			err = d.o.Producer.Flush(ctx)
		}
		if err != nil {
			return fmt.Errorf("write events: %w", err)
		}
		d.clock.show(at)
	}
	return nil
}

// remember copies the truth for those who ask while the crowd is busy. The caller holds crowdMu.
func (d *Demo) remember() {
	all := d.o.Crowd.Truth()
	byID := make(map[string]simulate.Truth, len(all))
	for _, t := range all {
		byID[t.Customer] = t
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.truths = byID
}

// daysKept bounds the growing pictures; older days are thinned out.
const daysKept = 240

func (d *Demo) rescore(now time.Time) {
	d.crowdMu.Lock()
	truths := d.o.Crowd.Truth()
	d.remember()
	d.crowdMu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.untimed.forget(now)
	if f := &d.acts.feed; f.stopped {
		f.accused = accused(f.silences, f.withheld)
	}
	d.ebbScore, d.leavers = d.ebb.score(now, truths)
	d.naiveScore, _ = d.naive.score(now, truths)
	d.days = append(d.days, console.ScoreDay{
		Day: now, Leavers: d.leavers, Found: d.ebbScore.Found, FalseAlarms: d.ebbScore.FalseAlarms,
		UsualFound: d.naiveScore.Found, UsualFalse: d.naiveScore.FalseAlarms,
	})
	if len(d.days) > daysKept {
		thin := d.days[:0]
		for i, day := range d.days {
			if i%2 == 0 || i == len(d.days)-1 {
				thin = append(thin, day)
			}
		}
		d.days = thin
	}
}

// Observe takes every step of the alert topic, in the order of the topic, as a read_committed subscriber gets it: once for each
// time that it is there. It is safe for concurrent use.
func (d *Demo) Observe(s *console.Step) {
	if s.Customer == "" {
		return
	}
	latency, timed := d.clock.ago(s.Time)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.steps.see(s) {
		return
	}
	if timed && d.phase == console.PhaseLive && !d.acts.kill.disturbs() && !d.untimed.covers(s.Customer, d.clock.now()) {
		d.steps.measured(latency)
	}
	switch {
	case s.Resolved:
		d.ebb.resolve(s.AlertID, s.Time)
	case s.Revision <= 1 || s.Kind == "fired":
		d.ebb.fire(s.AlertID, episode{customer: s.Customer, detector: s.Detector, fired: s.FirstFired})
	}
	d.acts.observe(s)
}

// Truth implements console.Demo.
func (d *Demo) Truth(customer string) (console.Truth, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t, ok := d.truths[customer]
	if !ok {
		return console.Truth{}, false
	}
	return console.Truth{
		Leaves: t.Leaves(), Shape: string(t.Shape), Begins: t.Begins, Left: t.Left, Habit: t.Habit, Case: t.Case,
	}, true
}

// State implements console.Demo.
func (d *Demo) State() console.DemoState {
	now, speed := d.Now(), d.clock.currentSpeed()
	d.mu.Lock()
	defer d.mu.Unlock()
	return console.DemoState{
		Seed: d.o.Seed, Phase: d.phase, Progress: d.progress, Start: d.o.Crowd.Start(), LiveStart: d.live, Now: now,
		Speed: speed, Speeds: speeds(), ShowTruth: d.truth, Leavers: d.leavers, Ebb: d.ebbScore, Usual: d.naiveScore,
		UsualRule: usualText, HorizonDays: horizonDays, Currency: d.o.Crowd.Currency(), Days: slices.Clone(d.days),
		Config: d.o.Config, Acts: d.acts.list(d.phase == console.PhaseLive, now, &d.steps),
	}
}
