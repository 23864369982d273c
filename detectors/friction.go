package detectors

import (
	"math"
	"strconv"

	"ebb/state/customer"
	"ebb/stream/event"
)

// FrictionName is the name of the detector of customers for whom things go wrong.
const FrictionName = "friction"

// FrictionConfig holds the numbers of friction.
//
// It fires when a customer's uses fail, drop, are busy, blocked, degraded or abandoned far more often than he is used to; when small grievances, each of which
// nobody would alert, add up; and, as critical, when somebody who used to complain does not any more though things go wrong. It ends when uses succeed
// again as usual and the grievances have faded.
type FrictionConfig struct {
	Enabled bool `yaml:"enabled"`
	// How many of the last days are compared with those before, 1 to 28.
	RecentDays int `yaml:"recent_days"`
	// How many uses must have failed in them, at least 2.
	MinFailures int `yaml:"min_failures"`
	// How many false alarms a year are borne of a customer whose uses fail as they always did, 0.001 to 10.
	FalseAlarms float64 `yaml:"false_alarms"`
	// From how many points on grievances are alerted: 1 for a use that failed beyond what is usual, 2 for a contact that did not get through, 3 for an
	// inquiry or complaint, 4 for a broken promise. A point counts half after two weeks. 0: never.
	Grievances float64 `yaml:"grievances"`
}

// DefaultFriction returns the documented defaults.
func DefaultFriction() FrictionConfig {
	return FrictionConfig{Enabled: true, RecentDays: 7, MinFailures: 3, FalseAlarms: 0.1, Grievances: 12}
}

func (c *FrictionConfig) validate(f *faults) {
	const at = FrictionName + "."
	f.number(at+"recent_days", c.RecentDays, 1, 28)
	f.number(at+"min_failures", c.MinFailures, 2, 10_000)
	f.share(at+"false_alarms", c.FalseAlarms, 0.001, 10)
	f.share(at+"grievances", c.Grievances, 0, 1000)
}

// Why friction fires: the cause of a signal. The numbers are stored.
const (
	causeFailing uint8 = iota + 1
	causeGrievances
	causeResigned
)

var frictionNames = [...]string{causeFailing: "failing", causeGrievances: "grievances", causeResigned: "resigned"}

const (
	frictionDays = 91 // that are looked at: trouble is remembered for so long
	// Of a customer of whom nothing is known one use in twenty fails, as sure as if ten had been seen. Beyond baselineWeight more of them make it no surer: things
	// change, and failures come in clusters.
	priorFailed    = 0.5
	priorWorked    = 9.5
	baselineWeight = 200.0
	// overlap is how many tests that do not overlap tell as much as the tests of all days: found by simulation, on the safe side.
	overlap = 6.0
	// resignedDays is for how long somebody who used to complain must not have, and resignedWas how often he must have before.
	resignedDays = 28
	resignedWas  = 2
	// resignedTimes is how much likelier than otherwise it may be that the failures of somebody who resigned are chance.
	resignedTimes = 20.0
	// usualAgain is how likely failures as many as the recent ones must be for the alert to end.
	usualAgain = 0.2
	// frictionOver is how many days after the last trouble an alert ends of a customer who uses nothing any more.
	frictionOver = 28

	grievanceHalfLife = 14.0
	pointsUnreached   = 2
	pointsComplaint   = 3
	pointsBroken      = 4
)

type friction struct {
	cfg     FrictionConfig
	chance  float64 // below which failures are no chance
	horizon Duration
}

func newFriction(cfg FrictionConfig, horizon Duration) *friction {
	return &friction{cfg: cfg, chance: cfg.FalseAlarms * float64(cfg.RecentDays) / (365 * overlap), horizon: horizon}
}

var _ Detector = (*friction)(nil)

func (*friction) Name() string    { return FrictionName }
func (*friction) Version() string { return "1" }

// Evaluate judges a customer to whom something happened that is a trouble, and one who is alerted.
func (d *friction) Evaluate(r *customer.Record, env *Env, trigger *event.Event, out []Signal) ([]Signal, int64) {
	open := r.Lifecycle(FrictionName, "")
	if open < 0 && (trigger == nil || !troubles(trigger)) {
		return out, 0
	}
	day := env.Calendar.DayOf(r, env.Now)
	w := d.weigh(r, env, day)
	cause := d.cause(&w)
	if open >= 0 {
		return d.goesOn(r, env, &w, cause, &r.Lifecycles[open], out)
	}
	if cause == 0 {
		return out, 0
	}
	return append(out, Signal{
		Detector: FrictionName, State: Firing, At: env.Now, Since: min(env.Calendar.StartOf(r, w.since, env.Now), env.Now), Severity: frictionSeverity(cause),
		Cause: cause, Day: day, Observed: share(w.failed, w.uses), Expected: event.Money(math.Round(w.usual * float64(event.MoneyUnit))),
		AtRisk: baselineOf(r, env.Rates, day, d.horizon),
	}), tomorrow(r, env, day)
}

// troubles reports whether an event is one that can make a customer's friction worse.
func troubles(e *event.Event) bool {
	switch e.Kind {
	case event.KindUsage:
		return e.Outcome > event.OutcomeOK
	case event.KindContactFailed, event.KindInquiry, event.KindOpened, event.KindReopened:
		return true
	}
	return false
}

func share(part, of int) event.Money {
	if of == 0 {
		return 0
	}
	return event.Money(part) * event.MoneyUnit / event.Money(of)
}

func tomorrow(r *customer.Record, env *Env, day int32) int64 {
	return env.Calendar.StartOf(r, day+1, env.Now)
}

func frictionSeverity(cause uint8) Severity {
	if cause == causeResigned {
		return Critical
	}
	return Warning
}

// goesOn judges a customer who is alerted, day by day.
func (d *friction) goesOn(r *customer.Record, env *Env, w *balance, cause uint8, l *customer.Lifecycle, out []Signal) ([]Signal, int64) {
	day := env.Calendar.DayOf(r, env.Now)
	s := Signal{
		Detector: FrictionName, State: Firing, At: env.Now, Since: l.Since, Severity: Severity(l.Severity), Cause: l.Cause, Day: day,
		Observed: l.Observed, Expected: l.Expected, AtRisk: l.AtRisk,
	}
	calm := w.chance > usualAgain && w.points < d.cfg.Grievances/2 || w.chance > usualAgain && d.cfg.Grievances == 0
	switch {
	case calm && w.uses > 0:
		s.State, s.Reason = Clear, Recovered
	case day-w.last > frictionOver:
		s.State, s.Reason = Clear, Expired
	case cause != 0 && frictionSeverity(cause) > s.Severity:
		s.Cause, s.Severity, s.Observed = cause, frictionSeverity(cause), share(w.failed, w.uses)
	}
	if s.State == Clear {
		return append(out, s), 0
	}
	return append(out, s), tomorrow(r, env, day)
}

// balance is what went wrong for a customer, as of a day.
type balance struct {
	uses, failed   int // in the recent days
	before, misses int // uses, and those that failed, in the days before
	usual          float64
	chance         float64 // that so many fail though nothing has changed
	points         float64
	unreached      int // contacts in the last month
	complaints     int // in the last month
	complained     int // in the two months before
	broken         int // promises in the last month
	since          int32
	last           int32 // the last day with trouble
}

// weigh reckons from the windows, whose days count whenever they were told.
func (d *friction) weigh(r *customer.Record, env *Env, day int32) balance {
	w := balance{since: day, last: math.MinInt32 / 2}
	recent := day - int32(d.cfg.RecentDays)
	oldest := max(day-frictionDays, recent-frictionDays+int32(d.cfg.RecentDays))
	usesSince, failedSince := 0.0, 0.0 // decayed
	for i := range r.Usage {
		switch u := &r.Usage[i]; {
		case u.Day <= oldest || u.Day > day:
		case u.Day > recent:
			w.uses += int(u.Count)
			usesSince += float64(u.Count) * faded(day-u.Day)
		default:
			w.before += int(u.Count)
			usesSince += float64(u.Count) * faded(day-u.Day)
		}
	}
	troubles := r.Troubles()
	for i := range troubles {
		t := &troubles[i]
		if t.Day <= oldest || t.Day > day {
			continue
		}
		w.last = t.Day
		n := t.Uses()
		failedSince += float64(n) * faded(day-t.Day)
		w.points += float64(pointsUnreached*int(t.Unreached)+pointsComplaint*int(t.Complaints)) * faded(day-t.Day)
		if t.Day > recent {
			w.failed += n
			w.since = min(w.since, t.Day)
		} else {
			w.misses += n
		}
		if day-t.Day < resignedDays {
			w.unreached += int(t.Unreached)
			w.complaints += int(t.Complaints)
		} else {
			w.complained += int(t.Complaints)
		}
	}
	w.uses, w.before = max(w.uses, w.failed), max(w.before, w.misses)
	w.broken = r.BrokenPromises(env.Calendar.StartOf(r, day-resignedDays+1, env.Now), env.Now) // by days, as all else that fades: it is looked at when one begins
	w.points += float64(pointsBroken * w.broken)
	scale := 1.0
	if w.before > baselineWeight {
		scale = baselineWeight / float64(w.before)
	}
	a, b := priorFailed+scale*float64(w.misses), priorWorked+scale*float64(w.before-w.misses)
	w.usual = a / (a + b)
	w.chance = betaBinomialTail(w.failed, w.uses, a, b)
	if expected := w.usual * usesSince; failedSince > expected {
		w.points += max(0, failedSince-expected-2*math.Sqrt(expected))
	}
	return w
}

// faded is what something counts after so many days.
func faded(days int32) float64 { return math.Exp2(-float64(days) / grievanceHalfLife) }

// cause is why the detector fires, 0 if it does not.
func (d *friction) cause(w *balance) uint8 {
	failing := w.failed >= d.cfg.MinFailures
	switch {
	case failing && w.chance < min(d.chance*resignedTimes, usualAgain/2) && w.complained >= resignedWas && w.complaints == 0:
		return causeResigned
	case failing && w.chance < d.chance:
		return causeFailing
	case d.cfg.Grievances != 0 && w.points >= d.cfg.Grievances:
		return causeGrievances
	}
	return 0
}

// betaBinomialTail is the probability of k or more in n where the chance of each is drawn from a beta distribution with a and b.
func betaBinomialTail(k, n int, a, b float64) float64 {
	if k <= 0 {
		return 1
	}
	if k > n {
		return 0
	}
	lgamma := func(x float64) float64 {
		v, _ := math.Lgamma(x)
		return v
	}
	x, m := float64(k), float64(n)
	p := math.Exp(lgamma(m+1) - lgamma(x+1) - lgamma(m-x+1) + lgamma(x+a) + lgamma(m-x+b) - lgamma(m+a+b) + lgamma(a+b) - lgamma(a) - lgamma(b))
	sum := p
	for x < m && p > 1e-18*sum {
		p *= (m - x) * (x + a) / ((x + 1) * (m - x - 1 + b))
		x++
		sum += p
	}
	return min(sum, 1)
}

// Explain writes what went wrong.
func (d *friction) Explain(r *customer.Record, env *Env, sig *Signal, to *Object) {
	if sig.Cause != 0 {
		to.Text("friction", frictionNames[sig.Cause])
	}
	w := d.weigh(r, env, sig.Day)
	to.Int("recent_days", int64(d.cfg.RecentDays))
	to.Int("uses", int64(w.uses))
	to.Int("failed", int64(w.failed))
	to.Int("uses_before", int64(w.before))
	to.Int("failed_before", int64(w.misses))
	to.Number("usual_share", w.usual, 4)
	to.Number("chance", w.chance, 8)
	to.Number("limit", d.chance, 8)
	to.Number("grievances", w.points, 2)
	to.Number("grievances_limit", d.cfg.Grievances, 2)
	to.Object("failures", func(o *Object) {
		var sums [len(customer.Trouble{}.Failed)]int64
		for _, t := range r.Troubles() {
			for i, n := range t.Failed {
				if t.Day > sig.Day-int32(d.cfg.RecentDays) && t.Day <= sig.Day {
					sums[i] += int64(n)
				}
			}
		}
		for i, n := range sums {
			if n != 0 {
				o.Int((event.OutcomeFailed + event.Outcome(i)).String(), n)
			}
		}
	})
	if w.unreached != 0 {
		to.Int("contacts_failed", int64(w.unreached))
	}
	if w.complaints != 0 {
		to.Int("complaints", int64(w.complaints))
	}
	if w.complained != 0 {
		to.Int("complaints_before", int64(w.complained))
	}
	if w.broken != 0 {
		to.Int("broken_promises", int64(w.broken))
	}
}

// Summarize tells what goes wrong.
func (d *friction) Summarize(dst []byte, r *customer.Record, env *Env, sig *Signal) []byte {
	switch {
	case sig.State == Clear && sig.Reason == Expired:
		return append(dst, "Nothing has gone wrong for four weeks."...)
	case sig.State == Clear:
		return append(dst, "Things go as usual again."...)
	}
	w := d.weigh(r, env, sig.Day)
	count := func(dst []byte) []byte {
		dst = strconv.AppendInt(dst, int64(w.failed), 10)
		dst = append(appendPlural(append(dst, " of "...), int64(w.uses), "use"), " failed in the last "...)
		dst = appendDays(dst, int64(d.cfg.RecentDays))
		dst = append(dst, "; usual are "...)
		return append(strconv.AppendFloat(dst, math.Round(w.usual*1000)/10, 'f', -1, 64), " %"...)
	}
	switch sig.Cause {
	case causeResigned:
		return append(appendPlural(append(count(dst), ". There were "...), int64(w.complained), "complaint"), " in the two months before, and none since."...)
	case causeGrievances:
		dst = append(dst, "Many small things went wrong lately: "...)
		dst = appendPlural(dst, int64(w.failed), "failed use")
		dst = appendPlural(append(dst, ", "...), int64(w.unreached), "contact")
		dst = append(dst, " that did not get through, "...)
		dst = appendPlural(dst, int64(w.complaints), "complaint")
		return append(appendPlural(append(dst, ", "...), int64(w.broken), "broken promise"), '.')
	}
	return append(count(dst), '.')
}
