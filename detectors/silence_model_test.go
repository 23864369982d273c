package detectors

import (
	"math"
	"testing"
	"time"

	"ebb/detectors/population"
	"ebb/detectors/population/populationtest"
	"ebb/state/customer"
	"ebb/stream/event"
)

// silenceWorld is a customer who buys every seventh day, and his detector.
type silenceWorld struct {
	r   *customer.Record
	env Env
	p   customer.Params
	d   *silenceModel
}

func newSilenceWorld(t *testing.T, purchases int) *silenceWorld {
	t.Helper()
	cfg := DefaultSilence()
	cfg.Method, cfg.BudgetPercent = Model, 0
	w := &silenceWorld{r: &customer.Record{ID: "c"}, p: customer.DefaultParams(customer.NewCalendar(nil)), d: newSilenceModel(cfg, 60*Day, 180*Day)}
	w.p.Horizon = 60
	w.env = Env{Calendar: w.p.Calendar, Rates: MustRates("EUR", nil), Population: populationtest.Weekly(population.Config{Horizon: 60, Floor: 0.35}, int32(t0/dayMs))}
	for i := range purchases {
		w.buy(t0 + int64(i)*7*dayMs)
	}
	return w
}

func (w *silenceWorld) buy(at int64) {
	w.r.Apply(&event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: at, Amount: 20 * event.MoneyUnit}, &w.p)
}

func (w *silenceWorld) ask(at int64) ([]Signal, int64) {
	w.env.Now = at
	for f := range w.env.KnownUntil {
		w.env.KnownUntil[f] = at
	}
	return w.d.Evaluate(w.r, &w.env, nil, nil)
}

// run asks whenever it wants to be asked, until a signal comes or it does not want to be asked any more.
func (w *silenceWorld) run(t *testing.T, at int64) (Signal, int64) {
	t.Helper()
	for range 100 {
		out, next := w.ask(at)
		if len(out) != 0 {
			return out[0], next
		}
		if next == 0 {
			return Signal{}, 0
		}
		if next <= at {
			t.Fatalf("at %v it wants to be asked at %v", time.UnixMilli(at).UTC(), time.UnixMilli(next).UTC())
		}
		at = next
	}
	t.Fatal("asked a hundred times")
	return Signal{}, 0
}

// It is asked the first time when he is overdue by his own rhythm, and tells when the probability is high enough, at the beginning of a day.
func TestSilenceModelFires(t *testing.T) {
	w := newSilenceWorld(t, 12)
	last := w.r.LastActivity
	out, next := w.ask(last)
	day := last / dayMs * dayMs
	if len(out) != 0 || next != day+8*dayMs {
		t.Fatalf("%v, asked again %v days after the day of the last purchase", out, float64(next-day)/float64(dayMs))
	}
	s, next := w.run(t, last)
	if s.State != Firing || s.Since != last || s.At%dayMs != 0 || s.Severity != Warning || s.HorizonDays != 60 {
		t.Fatalf("%+v", s)
	}
	silent := (s.At - day) / dayMs
	if s.Probability < 0.35 || silent < 8 || silent > 40 {
		t.Errorf("after %d days, probability %.2f", silent, s.Probability)
	}
	if next != last+180*dayMs {
		t.Errorf("next %v", time.UnixMilli(next).UTC())
	}
	// On the day before it was not so: every day gives the same answer as the days that it asked for.
	if out, _ := w.ask(s.At - dayMs); len(out) != 0 {
		t.Errorf("a day earlier: %+v", out)
	}
	// 60 days at 20 EUR a week, that is 171.43 if he stayed as he was.
	if want := 20 * 4 * 60 / 28. * s.Probability; math.Abs(float64(s.AtRisk)/float64(event.MoneyUnit)-want) > 1 {
		t.Errorf("at risk %v, want about %.2f", s.AtRisk, want)
	}
}

// Who came twice, or when nothing is known of the population, or who has been silent for longer than the horizon, is not judged.
func TestSilenceModelIsQuiet(t *testing.T) {
	if s, next := newSilenceWorld(t, 2).run(t, t0+8*dayMs); s.State != Hold || next != 0 {
		t.Errorf("two purchases: %+v, %d", s, next)
	}
	w := newSilenceWorld(t, 12)
	model := w.env.Population
	w.env.Population = nil
	out, next := w.ask(w.r.LastActivity)
	if day := int32(next / dayMs); len(out) != 0 || day != population.InForceFrom(population.Epoch(day)) {
		t.Errorf("no model: %v, asked again at %v", out, time.UnixMilli(next).UTC())
	}
	w.env.Population = model
	if s, next := w.run(t, w.r.LastActivity+100*dayMs); s.State != Hold || next != 0 {
		t.Errorf("long gone: %+v, %d", s, next)
	}
	w.r.Lapsed = true
	if out, next := w.ask(w.r.LastActivity + 20*dayMs); len(out) != 0 || next != 0 {
		t.Errorf("lapsed: %v, %d", out, next)
	}
}

// A person closed an alert: the silence goes on beyond the horizon, and is told again once that is due, not before, and not if he came back meanwhile and is gone again.
func TestSilenceIsToldAnewAfterAnOutcome(t *testing.T) {
	for name, c := range map[string]struct {
		quiet, back int64 // days after the closing; 0: never
		reopened    bool  // 90 days after it
		told        bool
	}{
		"after the quiet":              {quiet: 100, told: true},
		"reopened":                     {quiet: 100, reopened: true, told: true},
		"closed for good":              {},
		"back, and gone again, unseen": {quiet: 100, back: 20},
	} {
		w := newSilenceWorld(t, 12)
		fired, _ := w.run(t, w.r.LastActivity)
		closing := customer.Closing{Detector: SilenceName, At: fired.At + dayMs}
		if c.quiet != 0 {
			closing.Until = closing.At + c.quiet*dayMs
		}
		w.r.Close(closing)
		if c.back != 0 {
			w.buy(closing.At + c.back*dayMs)
		}
		if c.reopened {
			if out, next := w.ask(closing.At + 80*dayMs); len(out) != 0 || next != closing.Until {
				t.Errorf("%s: %v, asked again at %v before that is done", name, out, next)
			}
			closing.Until = closing.At + 90*dayMs
			w.r.ReopenClosing(0, closing.Until)
		}
		s, next := w.run(t, closing.At+90*dayMs)
		switch {
		case !c.told && (s.State == Firing || next != 0):
			t.Errorf("%s: %+v, asked again at %v", name, s, next)
		case c.told && (s.State != Firing || s.At < closing.Until-dayMs || s.At > closing.Until):
			t.Errorf("%s: %+v, want one of the day of %v", name, s, time.UnixMilli(closing.Until).UTC())
		}
	}
}

// A feed that stands still holds the judgement, and the time is not counted against the customer.
func TestSilenceModelHolds(t *testing.T) {
	w := newSilenceWorld(t, 12)
	s, _ := w.run(t, w.r.LastActivity)
	w.env.Now = s.At
	for f := range w.env.KnownUntil {
		w.env.KnownUntil[f] = s.At - 2*dayMs
	}
	if out, next := w.d.Evaluate(w.r, &w.env, nil, nil); len(out) != 1 || out[0].State != Hold || next <= s.At {
		t.Errorf("%+v, %d", out, next)
	}
	w.env.Stalls = []Interval{{event.Payments, s.At - 5*dayMs, s.At - 2*dayMs}}
	later, _ := w.run(t, w.r.LastActivity)
	if later.State != Firing || later.At != s.At+3*dayMs {
		t.Errorf("fires at %v, want three days after %v", time.UnixMilli(later.At).UTC(), time.UnixMilli(s.At).UTC())
	}
	w.env.Stalls = nil
	w.r.MarkBlind(event.Payments, w.r.LastActivity+2*dayMs)
	if later, _ = w.run(t, w.r.LastActivity); later.State != Firing || later.At != s.At+2*dayMs {
		t.Errorf("fires at %v, want two days after %v", time.UnixMilli(later.At).UTC(), time.UnixMilli(s.At).UTC())
	}
}

// An alert ends with the next purchase, with one that had been late, with a cancellation, or when the customer counts as gone.
func TestSilenceModelEnds(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *silenceWorld, fired int64)
		at     int64 // days after it fired
		reason Reason
	}{
		"bought again": {func(w *silenceWorld, fired int64) { w.buy(fired + dayMs + 5) }, 1, Recovered},
		"late record":  {func(w *silenceWorld, fired int64) { w.buy(fired - 3*dayMs) }, 1, CorrectedByLateData},
		"cancelled":    {func(w *silenceWorld, fired int64) { w.r.Cancelled = fired + 5 }, 1, Churned},
		"gone":         {func(*silenceWorld, int64) {}, 200, Churned},
	} {
		w := newSilenceWorld(t, 12)
		s, _ := w.run(t, w.r.LastActivity)
		w.r.Lifecycles = []customer.Lifecycle{{Detector: SilenceName, FiredAt: s.At, Since: s.Since, Day: s.Day, Severity: uint8(s.Severity), Probability: 400, HorizonDays: 60}}
		if out, _ := w.ask(s.At + 1); len(out) != 1 || out[0].State != Firing {
			t.Errorf("%s: %+v while nothing has changed", name, out)
		}
		c.change(w, s.At)
		out, _ := w.ask(s.At + c.at*dayMs + 10)
		if len(out) != 1 || out[0].State != Clear || out[0].Reason != c.reason {
			t.Errorf("%s: %+v", name, out)
		}
	}
}

// Asking costs no memory while nothing is told.
func TestSilenceModelDoesNotAllocate(t *testing.T) {
	w := newSilenceWorld(t, 12)
	out := make([]Signal, 0, 4)
	w.env.Now = w.r.LastActivity + 10*dayMs
	for f := range w.env.KnownUntil {
		w.env.KnownUntil[f] = w.env.Now
	}
	if n := testing.AllocsPerRun(100, func() { out, _ = w.d.Evaluate(w.r, &w.env, nil, out[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
