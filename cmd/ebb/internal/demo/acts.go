package demo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"ebb/cmd/ebb/internal/console"
	"ebb/cmd/ebb/internal/simulate"
)

// Names of the buttons.
const (
	actFeed  = "feed"
	actKill  = "kill"
	actLate  = "late"
	actSpeed = "speed"
	actTruth = "truth"
)

func speeds() []float64 { return []float64{0, 0.25, 1, 3} }

// press is a button on its way to the driver, which alone touches the crowd and the engine.
type press struct {
	name, value string
	done        chan error
}

// acts are the buttons and what came of them.
type acts struct {
	feed feedAct
	kill killAct
	late lateAct
}

// Act implements console.Demo.
func (d *Demo) Act(name, value string) error {
	switch name {
	case actTruth:
		d.mu.Lock()
		d.truth = value == "on"
		d.mu.Unlock()
		return nil
	case actSpeed:
		s, err := strconv.ParseFloat(value, 64)
		if err != nil || !(s >= 0 && s <= 10) { // NaN is neither
			return fmt.Errorf("speed %q: give days a second, 0 to 10", value)
		}
		d.clock.setSpeed(s)
		return nil
	case actFeed, actKill, actLate:
	default:
		return fmt.Errorf("there is no button %q", name)
	}
	d.mu.Lock()
	live := d.phase == console.PhaseLive
	d.mu.Unlock()
	if !live {
		return errors.New("the simulated time does not run")
	}
	p := press{name: name, value: value, done: make(chan error, 1)}
	wait := time.NewTimer(5 * time.Second)
	defer wait.Stop()
	select {
	case d.presses <- p:
	case <-wait.C:
		return errors.New("the simulation is busy or has ended")
	}
	select {
	case err := <-p.done:
		return err
	case <-wait.C:
		return nil // it is being done; the page tells what comes of it
	}
}

func (d *Demo) press(ctx context.Context, p press) error {
	switch p.name {
	case actFeed:
		return d.toggleFeed(ctx)
	case actKill:
		return d.killEngine(ctx)
	default:
		return d.latePayment(ctx)
	}
}

// feedAct withholds the usage feed.
type feedAct struct {
	stopped    bool
	at, back   time.Time // simulated
	withheld   []simulate.Event
	overflow   bool
	silences   []silenceFired
	noticed    time.Duration // simulated time until the stalled-feed line; 0: not yet
	accused    int
	everPushed bool
}

// silenceFired is a silence alert that fired while the feed was stopped.
type silenceFired struct {
	customer  string
	since, at time.Time
}

// withheldMax bounds what waits for the feed; at two thousand events a day it is some months.
const withheldMax = 250_000

// withhold keeps an event back if its feed is stopped. The caller holds crowdMu.
func (d *Demo) withhold(e *simulate.Event) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := &d.acts.feed
	if !f.stopped || e.Feed != simulate.Usage {
		return false
	}
	if len(f.withheld) >= withheldMax { // it would grow for ever
		f.overflow = true
		return false
	}
	f.withheld = append(f.withheld, *e)
	return true
}

func (d *Demo) toggleFeed(ctx context.Context) error {
	d.mu.Lock()
	f := &d.acts.feed
	if !f.stopped {
		*f = feedAct{stopped: true, at: d.clock.now(), everPushed: true}
		d.mu.Unlock()
		return nil
	}
	f.stopped, f.back = false, d.clock.now()
	held := f.withheld
	f.withheld = nil
	f.accused = accused(f.silences, held)
	d.mu.Unlock()
	d.crowdMu.Lock()
	defer d.crowdMu.Unlock()
	for i := range held {
		e := &held[i]
		e.At = d.clock.now()
		if err := d.produce(ctx, e); err != nil {
			return fmt.Errorf("send what was withheld: %w", err)
		}
	}
	if err := d.o.Producer.Flush(ctx); err != nil {
		return fmt.Errorf("send what was withheld: %w", err)
	}
	return nil
}

// accused counts who was called silent though he was there: his usage before the alert was withheld.
func accused(fired []silenceFired, withheld []simulate.Event) int {
	if len(fired) == 0 {
		return 0
	}
	by := map[string]*silenceFired{}
	for i := range fired {
		by[fired[i].customer] = &fired[i]
	}
	n := 0
	for i := range withheld {
		e := &withheld[i]
		if s := by[e.Key]; s != nil && e.Time.After(s.since) && e.Time.Before(s.at) {
			n++
			delete(by, e.Key)
		}
	}
	return n
}

// killAct kills the engine and starts it again.
type killAct struct {
	at              time.Time     // simulated; zero: never pressed
	real            time.Time     // of the process
	back            time.Duration // until it had caught up; 0: not yet
	twice, missing  int           // as of the kill
	total           int
	failed          error
	caughtUp, again bool
}

// disturbs says that alerts are late because the engine was killed on purpose.
func (k *killAct) disturbs() bool { return !k.at.IsZero() && !k.caughtUp }

func (d *Demo) killEngine(ctx context.Context) error {
	d.mu.Lock()
	if d.acts.kill.disturbs() && d.acts.kill.failed == nil {
		d.mu.Unlock()
		return errors.New("the engine is just coming back")
	}
	l := &d.steps
	d.acts.kill = killAct{at: d.clock.now(), real: d.o.Tick(), twice: l.twice, missing: l.missing, total: l.total}
	d.mu.Unlock()
	d.o.Engine.Kill()
	if err := d.o.Engine.Start(ctx); err != nil {
		d.mu.Lock()
		d.acts.kill.failed = err
		d.mu.Unlock()
		return fmt.Errorf("start the engine again: %w", err)
	}
	d.mu.Lock()
	d.acts.kill.again = true
	d.mu.Unlock()
	return nil
}

// lateAct sends a payment that should withdraw an alert.
type lateAct struct {
	sent              time.Time // of the process; zero: never pressed
	alert, customer   string
	happened, arrived time.Time // simulated
	took              time.Duration
	reason            string
	tick              func() time.Time
}

// latePayment takes a silence alert, for choice one of somebody who stays, and sends a payment that happened before it fired.
func (d *Demo) latePayment(ctx context.Context) error {
	a := d.pickSilence()
	if a == nil {
		return errors.New("no silence alert is open that a late payment could refute; try again when there is one")
	}
	now := d.clock.now()
	at := a.FirstFired.Add(-12 * time.Hour)
	if !at.After(a.Since) {
		at = a.Since.Add(a.FirstFired.Sub(a.Since) / 2)
	}
	d.crowdMu.Lock()
	defer d.crowdMu.Unlock()
	e, ok := d.o.Crowd.LatePayment(a.Customer, at, now)
	if !ok {
		return errors.New("the customer of that alert is gone; try again")
	}
	d.mu.Lock()
	d.acts.late = lateAct{sent: d.o.Tick(), alert: a.AlertID, customer: a.Customer, happened: at, arrived: now, tick: d.o.Tick}
	d.mu.Unlock()
	if err := d.produce(ctx, &e); err != nil {
		return fmt.Errorf("send the late payment: %w", err)
	}
	if err := d.o.Producer.Flush(ctx); err != nil {
		return fmt.Errorf("send the late payment: %w", err)
	}
	return nil
}

func (d *Demo) pickSilence() *console.Alert {
	var other *console.Alert
	now := d.clock.now()
	v := d.o.Book.View(console.Filter{Detector: "silence"}, now, 0, 200)
	for _, a := range v.Rows {
		if now.Sub(a.FirstFired) > 45*oneDay {
			continue // too old: a payment of that day would hardly come now
		}
		t, ok := d.Truth(a.Customer)
		if ok && !t.Leaves {
			return a
		}
		if other == nil && ok {
			other = a
		}
	}
	return other
}

// observe looks for what the buttons wait for. The caller holds mu.
func (a *acts) observe(s *console.Step) {
	if a.feed.stopped && s.Detector == "silence" && s.Kind == "fired" && s.FirstFired.After(a.feed.at) {
		a.feed.silences = append(a.feed.silences, silenceFired{customer: s.Customer, since: s.Since, at: s.FirstFired})
	}
	if l := &a.late; !l.sent.IsZero() && l.reason == "" && s.Resolved && s.AlertID == l.alert {
		l.reason = s.Reason
		l.took = l.tick().Sub(l.sent)
	}
}

// watch looks after what takes its time: the stalled-feed line, and the engine's coming back.
func (d *Demo) watch(now time.Time) {
	noticed := false
	for _, op := range d.o.Book.Operational() {
		about := op.Detector + " " + op.SubjectID + " " + op.AlertID
		noticed = noticed || strings.Contains(about, "stalled") && strings.Contains(about, string(simulate.Usage))
	}
	behind, ok := d.o.Engine.Behind()
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := &d.acts.feed; f.stopped && noticed && f.noticed == 0 {
		f.noticed = max(now.Sub(f.at), time.Second)
	}
	if k := &d.acts.kill; k.again && !k.caughtUp && ok && behind == 0 {
		k.caughtUp = true
		k.back = d.o.Tick().Sub(k.real)
	}
}

// list is how the buttons stand. The caller holds mu.
func (a *acts) list(live bool, now time.Time, l *stepLog) []console.Act {
	out := []console.Act{a.feed.act(now), a.kill.act(l), a.late.act()}
	if !live {
		for i := range out {
			out[i].Disabled = "when the simulated time runs"
		}
	}
	return out
}

func days(d time.Duration) string {
	if h := int(d.Hours()); h < 48 {
		return strconv.Itoa(h) + " simulated hours"
	}
	return strconv.Itoa(int(d.Hours()/24)) + " simulated days"
}

func (f *feedAct) act(now time.Time) console.Act {
	a := console.Act{
		Name: actFeed, Label: "Stop the usage feed", Active: f.stopped,
		Should: "Should give one line about a stalled feed, and accuse no customer of silence.",
	}
	if f.stopped {
		a.Label = "Start the usage feed"
	}
	if !f.everPushed {
		return a
	}
	line := "no line yet"
	if f.noticed > 0 {
		line = "the line came after " + days(f.noticed)
	}
	switch {
	case f.overflow && f.stopped:
		a.Did = "Stopped so long that nothing more can be withheld: start it again."
	case f.stopped:
		a.Did = fmt.Sprintf("Stopped for %s: %s; %s called silent who were there.", days(now.Sub(f.at)), line, plural(f.accused, "customer", "customers"))
		a.Good = f.accused == 0 && f.noticed > 0
	default:
		a.Did = fmt.Sprintf("Was stopped for %s: %s; %s called silent who were there.", days(f.back.Sub(f.at)), line, plural(f.accused, "customer", "customers"))
		a.Good = f.accused == 0 && f.noticed > 0
	}
	return a
}

func (k *killAct) act(l *stepLog) console.Act {
	a := console.Act{
		Name: actKill, Label: "Kill the engine", Active: k.disturbs() && k.failed == nil,
		Should: "Should come back by itself: no alert step lost, none twice.",
	}
	switch {
	case k.at.IsZero():
	case k.failed != nil:
		a.Did = "Did not come back: " + k.failed.Error()
	case !k.caughtUp:
		a.Did, a.Disabled = "Killed; coming back.", "the engine is coming back"
	default:
		text, good := k.proof(l)
		a.Did, a.Good = fmt.Sprintf("Back and caught up after %.1f s.", k.back.Seconds())+text, good
	}
	return a
}

// proof says what the alert topic shows since the kill. The caller holds mu.
func (k *killAct) proof(l *stepLog) (text string, good bool) {
	twice, missing := l.twice-k.twice, l.missing-k.missing
	return fmt.Sprintf(" %s read since: %d twice, %d missing.", plural(l.total-k.total, "step", "steps"), twice, missing), twice+missing == 0
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func (l *lateAct) act() console.Act {
	a := console.Act{
		Name: actLate, Label: "Send a late payment",
		Should: "Should withdraw a silence alert that the payment refutes.",
	}
	if l.sent.IsZero() {
		return a
	}
	at := l.happened.Format("2 Jan")
	switch l.reason {
	case "":
		a.Did = fmt.Sprintf("%s: a payment of %s has been sent; the alert stands so far.", l.customer, at)
	case "corrected_by_late_data":
		a.Did = fmt.Sprintf("%s: a payment of %s came late; the alert was withdrawn after %d ms as corrected by late data.", l.customer, at, l.took.Milliseconds())
		a.Good = true
	default:
		a.Did = fmt.Sprintf("%s: a payment of %s came late; the alert ended as %s.", l.customer, at, strings.ReplaceAll(l.reason, "_", " "))
	}
	return a
}
