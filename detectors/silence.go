package detectors

import (
	"ebb/state/customer"
	"ebb/stream/event"
)

// SilenceName is the name of the detector of customers that have stopped doing anything.
const SilenceName = "silence"

// SilenceConfig holds the numbers of silence.
//
// By the method model it fires when the customer has been silent for longer than is usual for him, and the model of the population gives at least
// LeastProbability to his doing nothing for another horizon (alerts.horizon, or longer for who comes less often). Of these it tells the likeliest: in a month
// BudgetPercent of the customers who are active. Whoever came on fewer than three days is not judged, and before 15 customers are known the method plain judges.
//
// By the method plain it fires when the limit has passed since the last activity: a use, a purchase or a refund. The limit is After, or, where
// GapMultiple is not 0 and the windows hold at least MinGaps gaps between days of activity, GapMultiple times the median of
// these gaps (of two middle ones the longer), but not less than MinAfter and not more than MaxAfter. Time in which usage or
// payments stood still does not count. It ends with the next activity, or as churned.
type SilenceConfig struct {
	Enabled       bool     `yaml:"enabled"`
	Method        string   `yaml:"method" enum:"plain|model"`
	After         Duration `yaml:"after"`          // 1h to 365d
	GapMultiple   float64  `yaml:"gap_multiple"`   // 0 (off), or 1 to 100
	MinGaps       int      `yaml:"min_gaps"`       // 1 to 90
	MinAfter      Duration `yaml:"min_after"`      // 1h to MaxAfter
	MaxAfter      Duration `yaml:"max_after"`      // MinAfter to 365d
	CriticalAfter Duration `yaml:"critical_after"` // 0s (never), or longer than After and MaxAfter, up to 3660d

	LeastProbability float64 `yaml:"least_probability"` // 0.05 to 0.99; of the method model
	BudgetPercent    float64 `yaml:"budget_percent"`    // 0 (no limit) to 100; of the method model
}

// DefaultSilence returns two weeks, and longer for who comes less often: three times his usual gap, 75 days at most.
func DefaultSilence() SilenceConfig {
	return SilenceConfig{
		Enabled: true, Method: Model, After: 14 * Day, GapMultiple: 3, MinGaps: 2, MinAfter: 14 * Day, MaxAfter: 75 * Day,
		LeastProbability: 0.35, BudgetPercent: 5,
	}
}

func (c *SilenceConfig) validate(f *faults, lapse Duration) {
	const at, longest = SilenceName + ".", 365 * Day
	f.method(at+"method", c.Method, Plain, Model)
	if c.Method == Model {
		f.share(at+"least_probability", c.LeastProbability, 0.05, 0.99)
		f.share(at+"budget_percent", c.BudgetPercent, 0, 100)
	}
	f.duration(at+"after", c.After, Hour, longest)
	longestLimit := c.After
	if c.GapMultiple != 0 {
		if !(c.GapMultiple >= 1 && c.GapMultiple <= 100) {
			f.add(at+"gap_multiple", "is %v; allowed is 0 (off) or 1 to 100", c.GapMultiple)
		}
		f.number(at+"min_gaps", c.MinGaps, 1, 90)
		f.duration(at+"min_after", c.MinAfter, Hour, longest)
		f.duration(at+"max_after", c.MaxAfter, c.MinAfter, longest)
		longestLimit = max(longestLimit, c.MaxAfter)
	}
	if c.CriticalAfter != 0 {
		f.duration(at+"critical_after", c.CriticalAfter, longestLimit, 3660*Day)
	}
	if c.Enabled && lapse <= longestLimit {
		f.add("lapse_after", "is %s; allowed is more than silence takes to fire, %s", lapse, longestLimit)
	}
}

type silence struct {
	cfg      SilenceConfig
	after    int64 // ms, as all below
	least    int64 // the shortest limit that any customer can have
	minAfter int64
	maxAfter int64
	multiple int64 // in 1/1000
	critical int64
	lapse    int64
	horizon  Duration
}

func newSilence(cfg SilenceConfig, horizon, lapse Duration) *silence {
	d := &silence{
		cfg: cfg, after: cfg.After.Ms(), least: cfg.After.Ms(), minAfter: cfg.MinAfter.Ms(), maxAfter: cfg.MaxAfter.Ms(),
		multiple: int64(cfg.GapMultiple*1000 + 0.5), critical: cfg.CriticalAfter.Ms(), lapse: lapse.Ms(), horizon: horizon,
	}
	if d.multiple != 0 {
		d.least = min(d.after, d.minAfter)
	}
	return d
}

var _ Detector = (*silence)(nil)

func (*silence) Name() string    { return SilenceName }
func (*silence) Version() string { return "1" }

// Evaluate costs a comparison for who was active just now: his own limit is worked out only when the shortest one that
// anybody can have has passed.
func (d *silence) Evaluate(r *customer.Record, env *Env, _ *event.Event, out []Signal) ([]Signal, int64) {
	last := r.LastActivity
	if last == 0 {
		return out, 0
	}
	if len(r.Lifecycles) != 0 {
		if open := r.Lifecycle(SilenceName, ""); open >= 0 {
			return d.goesOn(r, env, &r.Lifecycles[open], out)
		}
	}
	if r.Lapsed || r.Cancelled != 0 {
		return out, 0
	}
	if due := last + d.least; env.Now < due {
		return out, due
	}
	return d.begins(r, env, out)
}

// begins judges a customer who may have been silent for long enough.
func (d *silence) begins(r *customer.Record, env *Env, out []Signal) ([]Signal, int64) {
	// A record that could not be read may have been an activity: the silence is counted from there.
	from := max(r.LastActivity, r.Blind(event.Usage).Last, r.Blind(event.Payments).Last)
	limit, _, _ := d.limit(r)
	due := env.afterStalls(from, limit, event.Usage, event.Payments)
	if env.Now < due {
		return out, due
	}
	if known := d.known(env); known < due {
		return append(out, Signal{Detector: SilenceName, State: Hold, At: due}), env.again(due, known)
	}
	day := env.Calendar.DayOf(r, r.LastActivity)
	return append(out, Signal{
		Detector: SilenceName, State: Firing, At: due, Since: r.LastActivity, Severity: silenceSeverity(r.LastActivity, due, d.critical), Day: day,
		AtRisk: baselineOf(r, env.Rates, day, d.horizon),
	}), d.next(r.LastActivity, due)
}

// silenceSeverity is that of a silence that is told at a time: where much of it did not count, or the customer comes rarely, it may be critical by then.
func silenceSeverity(since, at, critical int64) Severity {
	if critical != 0 && at >= since+critical {
		return Critical
	}
	return Warning
}

// known is up to when an activity would have been seen.
func (d *silence) known(env *Env) int64 {
	return min(env.KnownUntil[event.Usage], env.KnownUntil[event.Payments])
}

// next is when an open alert changes by itself: it becomes critical, or the customer counts as churned.
func (d *silence) next(last, after int64) int64 {
	if at := last + d.critical; d.critical != 0 && at > after {
		return min(at, last+d.lapse)
	}
	return last + d.lapse
}

// goesOn judges a customer whose alert is open.
func (d *silence) goesOn(r *customer.Record, env *Env, l *customer.Lifecycle, out []Signal) ([]Signal, int64) {
	s := Signal{
		Detector: SilenceName, State: Clear, At: max(env.Now, l.FiredAt), Since: l.Since, AtRisk: l.AtRisk,
		Day: env.Calendar.DayOf(r, r.LastActivity),
	}
	if last := r.LastActivity; last > l.Since {
		s.Reason = Recovered
		if last < l.FiredAt {
			s.Reason = CorrectedByLateData
		}
		if r.Cancelled != 0 {
			return append(out, s), 0
		}
		return append(out, s), last + d.least
	}
	if r.Cancelled != 0 {
		s.Reason = Churned
		if r.Cancelled < l.FiredAt {
			s.Reason = CorrectedByLateData
		}
		return append(out, s), 0
	}
	due := max(l.Since+d.lapse, l.FiredAt)
	if env.Now >= due {
		if known := d.known(env); known < due {
			return append(out, Signal{Detector: SilenceName, State: Hold, At: due}), env.again(due, known)
		}
		s.Reason, s.At = Churned, due
		return append(out, s), 0
	}
	s.State, s.Severity, s.At = Firing, Warning, env.Now
	next := d.next(l.Since, env.Now)
	if at := l.Since + d.critical; d.critical != 0 && env.Now >= at && Severity(l.Severity) < Critical {
		if known := d.known(env); known < at {
			next = earlier(next, env.again(at, known))
		} else {
			s.Severity, s.At = Critical, max(at, l.FiredAt)
		}
	}
	return append(out, s), next
}

// limit is how long the customer may be silent, in milliseconds, and his usual gap in days with the number of gaps it is the
// median of.
func (d *silence) limit(r *customer.Record) (ms int64, gap, gaps int) {
	if d.multiple == 0 {
		return d.after, 0, 0
	}
	gap, gaps = usualGap(r)
	if gaps < d.cfg.MinGaps {
		return d.after, gap, gaps
	}
	return min(max(d.multiple*int64(gap)*Day.Ms()/1000, d.minAfter), d.maxAfter), gap, gaps
}

// usualGap is the median of the days between one day of activity and the next, of two middle ones the longer.
func usualGap(r *customer.Record) (gap, gaps int) {
	var count [customer.MaxKeptDays + 1]uint16
	before := int32(-1)
	step := func(day int32) {
		if before >= 0 && day > before {
			count[min(int(day-before), len(count)-1)]++
			gaps++
		}
		before = max(before, day)
	}
	u, s := r.Usage, r.Spend
	for len(u) != 0 || len(s) != 0 {
		if len(s) == 0 || len(u) != 0 && u[0].Day <= s[0].Day() {
			step(u[0].Day)
			u = u[1:]
		} else {
			step(s[0].Day())
			s = s[1:]
		}
	}
	for seen := 0; gap < len(count); gap++ {
		if seen += int(count[gap]); seen > gaps/2 {
			return gap, gaps
		}
	}
	return 0, gaps
}

// Explain writes the last activity, the limit and where it comes from.
func (d *silence) Explain(r *customer.Record, env *Env, sig *Signal, to *Object) {
	limit, gap, gaps := d.limit(r)
	last := r.LastActivity
	if sig.State == Clear && sig.Since != 0 {
		to.TimeIf("silent_since", sig.Since)
	}
	to.Time("last_activity", last)
	to.Duration("limit", limit)
	if gaps >= max(d.cfg.MinGaps, 1) && d.multiple != 0 {
		to.Int("usual_gap_days", int64(gap))
		to.Int("gaps", int64(gaps))
	}
	if stalled := env.stalledWithin(last, sig.At, event.Usage, event.Payments); stalled != 0 {
		to.Duration("not_counted", stalled)
	}
	if at := max(r.Blind(event.Usage).Last, r.Blind(event.Payments).Last); at > last {
		to.Time("unreadable_record", at)
	}
	if n := len(r.Usage); n != 0 {
		to.Date("last_usage_day", r.Usage[n-1].Day)
	}
	if n := len(r.Spend); n != 0 {
		to.Date("last_payment_day", r.Spend[n-1].Day())
	}
	to.TimeIf("cancelled", r.Cancelled)
	day := env.Calendar.DayOf(r, last)
	_, spent := spendOf(r, env.Rates, day-baselineDays+1, day-baselineDays+1, day+1)
	to.Money("baseline", spent)
	to.Int("baseline_days", baselineDays)
	explainRates(r, env.Rates, to)
}

// Summarize tells how long nothing was seen.
func (d *silence) Summarize(dst []byte, r *customer.Record, _ *Env, sig *Signal) []byte {
	switch {
	case sig.State == Firing:
		// The day stays true for as long as the alert is open; how long he was silent is as of the decision.
		dst = append(dst, "No use and no purchase since "...)
		dst = appendDate(dst, int64(sig.Day))
		dst = append(dst, ", for "...)
		dst = appendSpan(dst, sig.At-sig.Since)
		if limit, gap, gaps := d.limit(r); d.multiple != 0 && gaps >= d.cfg.MinGaps && limit != d.after {
			dst = append(dst, "; usually active every "...)
			dst = appendDays(dst, int64(gap))
		}
		return append(dst, '.')
	default:
		return ended(dst, r, sig, d.lapse)
	}
}

// ended tells why silence is over.
func ended(dst []byte, r *customer.Record, sig *Signal, lapse int64) []byte {
	switch {
	case sig.Reason == Churned && r.Cancelled != 0:
		return append(dst, "Cancelled the subscription: counted as gone."...)
	case sig.Reason == Churned:
		return append(appendSpan(append(dst, "No activity for "...), lapse), ": counted as gone."...)
	case sig.Reason == CorrectedByLateData && r.Cancelled != 0:
		return append(dst, "Had cancelled the subscription before: a record that came late shows it."...)
	case sig.Reason == CorrectedByLateData:
		return append(dst, "Was not silent: a record that came late shows it."...)
	default:
		dst = append(dst, "Active again after "...)
		return append(appendSpan(dst, r.LastActivity-sig.Since), '.')
	}
}
