package detectors

import (
	"ebb/state/customer"
	"ebb/stream/event"
)

// plainSpendDrop is spend_drop by the plain method.
type plainSpendDrop struct {
	cfg              SpendDropConfig
	recent, baseline int64 // days
	horizon          Duration
	lapse            int64 // ms
}

func newPlainSpendDrop(cfg SpendDropConfig, horizon, lapse Duration) *plainSpendDrop {
	return &plainSpendDrop{cfg: cfg, recent: int64(cfg.RecentDays), baseline: int64(cfg.BaselineDays), horizon: horizon, lapse: lapse.Ms()}
}

var _ Detector = (*plainSpendDrop)(nil)

func (*plainSpendDrop) Name() string    { return SpendDropName }
func (*plainSpendDrop) Version() string { return "1" }

// Evaluate judges the newest day whose windows are known: the day of the newest activity, or an earlier one while payments
// are incomplete up to it. A late event is no reason to judge an old day again; it can only end an alert.
func (d *plainSpendDrop) Evaluate(r *customer.Record, env *Env, trigger *event.Event, out []Signal) ([]Signal, int64) {
	open := r.Lifecycle(SpendDropName, "")
	ask := int64(0)
	if open >= 0 {
		ask = r.LastActivity + d.lapse
		if env.Now >= ask {
			if known := env.KnownUntil[event.Payments]; known < ask {
				return out, env.again(ask, known)
			}
			l := &r.Lifecycles[open]
			return append(out, Signal{
				Detector: SpendDropName, State: Clear, Reason: Churned, At: max(ask, l.FiredAt), Since: l.Since,
				Day: d.judgedDay(r, env), Observed: l.Observed, Expected: l.Expected, AtRisk: l.AtRisk,
			}), 0
		}
	}
	if trigger == nil || !trigger.IsActivity() || r.LastActivity == 0 || len(r.Spend) == 0 && open < 0 {
		return out, ask
	}
	if open < 0 && trigger.Time < r.LastActivity {
		return out, 0
	}
	day := d.judgedDay(r, env)
	if !d.windowsHold(r, env, day) {
		return out, ask // neither begins nor ends
	}
	if open < 0 && !d.knownLongEnough(r, env, day) {
		return out, 0
	}
	w := d.windows(r, env, day)
	if open >= 0 {
		return append(out, d.goesOn(r, env, trigger, &r.Lifecycles[open], day, w)), ask
	}
	if !d.fires(r, env, day, w) || r.Lapsed || d.blind(r, env, day) {
		return out, 0
	}
	s := d.signal(Firing, env, r, day, w)
	s.Since = env.Calendar.StartOf(r, day-int32(d.recent), env.Now)
	s.Severity = d.severity(w)
	return append(out, s), r.LastActivity + d.lapse
}

// judgedDay is the newest day before which all payments are known, as far as the newest activity goes. What is missing for less
// than a minute does not count: it is the grace of a clock that runs live, and a replay would not see it.
func (d *plainSpendDrop) judgedDay(r *customer.Record, env *Env) int32 {
	missing := env.Now - max(0, env.KnownUntil[event.Payments])
	if missing < graceMs {
		missing = 0
	}
	return env.Calendar.DayOf(r, r.LastActivity-missing)
}

const graceMs = 60_000

// goesOn judges a customer whose alert is open.
func (d *plainSpendDrop) goesOn(r *customer.Record, env *Env, trigger *event.Event, l *customer.Lifecycle, day int32, w window) Signal {
	s := d.signal(Firing, env, r, day, w)
	s.Since, s.Severity = l.Since, d.severity(w)
	switch {
	case w.known() && !less(w.recent, d.baseline*100*wholeShare, w.baseline, int64(d.cfg.RecoversAtPercent)*d.recent*w.share):
		s.State, s.Reason = Clear, Recovered
		if trigger.Time < l.FiredAt && d.refuted(r, env, l) {
			s.Reason = CorrectedByLateData
		}
	case trigger.Time < l.FiredAt && d.refuted(r, env, l) && !d.fires(r, env, day, w):
		s.State, s.Reason = Clear, CorrectedByLateData
	}
	if s.State == Clear {
		s.AtRisk = l.AtRisk // what it was about
	}
	return s
}

// refuted reports whether the alert would not have fired, had everything been known that is known now.
func (d *plainSpendDrop) refuted(r *customer.Record, env *Env, l *customer.Lifecycle) bool {
	day := env.Calendar.DayOf(r, l.Since) + int32(d.recent)
	return !d.fires(r, env, day, d.windows(r, env, day))
}

// window is what a customer spent before a day.
type window struct {
	recent, baseline event.Money // sums in the reporting currency
	share            int64       // of the recent window in which the payments feed did not stand still, in 1/wholeShare
}

const wholeShare = 1000

func (d *plainSpendDrop) windows(r *customer.Record, env *Env, day int32) window {
	mid := day - int32(d.recent)
	w := window{share: wholeShare}
	w.baseline, w.recent = spendOf(r, env.Rates, mid-int32(d.baseline), mid, day)
	if len(env.Stalls) != 0 {
		from, to := env.Calendar.StartOf(r, mid, env.Now), env.Calendar.StartOf(r, day, env.Now)
		if to > from {
			w.share = wholeShare - env.stalledWithin(from, to, event.Payments)*wholeShare/(to-from)
		}
	}
	return w
}

// known reports whether enough of the recent window could be seen. What the customer would have to spend shrinks with that, so of less than half nothing is said: in the end
// he would spend as usual who spends nothing.
func (w *window) known() bool { return w.share*2 >= wholeShare }

// fires tells the condition. Stalled time is not counted against the customer.
func (d *plainSpendDrop) fires(r *customer.Record, env *Env, day int32, w window) bool {
	return d.below(w, d.cfg.FiresBelowPercent) && w.known() &&
		!less(w.baseline, 7, event.Money(d.cfg.MinWeekly), d.baseline) &&
		d.knownLongEnough(r, env, day)
}

func (d *plainSpendDrop) knownLongEnough(r *customer.Record, env *Env, day int32) bool {
	return int(day-env.Calendar.DayOf(r, r.First)) >= d.cfg.MinHistoryDays
}

// windowsHold reports whether both windows of a day are kept from their first day on. They are not for a while after the windows of the records were made longer.
func (d *plainSpendDrop) windowsHold(r *customer.Record, env *Env, day int32) bool {
	return env.WindowsFrom == 0 || day-int32(d.recent+d.baseline) >= env.Calendar.DayOf(r, env.WindowsFrom)
}

// below reports whether recent spend a day is less than percent of the baseline's.
func (d *plainSpendDrop) below(w window, percent int) bool {
	return less(w.recent, d.baseline*100*wholeShare, w.baseline, int64(percent)*d.recent*w.share)
}

// blind reports whether money may be missing in the recent window because records of the customer could not be read.
func (d *plainSpendDrop) blind(r *customer.Record, env *Env, day int32) bool {
	b := r.Blind(event.Payments)
	return b.Since != 0 && (b.Until == 0 || env.Calendar.DayOf(r, b.Last) >= day-int32(d.recent))
}

func (d *plainSpendDrop) severity(w window) Severity {
	if d.cfg.CriticalBelowPercent > 0 && d.below(w, d.cfg.CriticalBelowPercent) {
		return Critical
	}
	return Warning
}

// signal tells the numbers: observed is the recent sum, expected what the baseline makes of as many days, and at risk the
// baseline's spend of the horizon less the recent one's, never negative.
func (d *plainSpendDrop) signal(state State, env *Env, r *customer.Record, day int32, w window) Signal {
	horizon := d.horizon.Ms()
	risk := scaled(w.baseline, horizon, d.baseline*Day.Ms()) - max(0, scaled(w.recent, horizon, d.recent*Day.Ms()))
	return Signal{
		Detector: SpendDropName, State: state, At: max(env.Now, r.LastActivity), Day: day, Observed: w.recent,
		Expected: env.Rates.round(scaled(w.baseline, d.recent, d.baseline)), AtRisk: env.Rates.round(max(0, risk)),
	}
}

// Explain writes both windows with their daily sums, and the thresholds.
func (d *plainSpendDrop) Explain(r *customer.Record, env *Env, sig *Signal, to *Object) {
	mid := sig.Day - int32(d.recent)
	from := mid - int32(d.baseline)
	w := d.windows(r, env, sig.Day)
	to.Date("judged_day", sig.Day)
	to.Money("recent", w.recent)
	to.Int("recent_days", d.recent)
	to.Money("baseline", w.baseline)
	to.Int("baseline_days", d.baseline)
	to.Money("weekly_mean", scaled(w.baseline, 7, d.baseline))
	to.Date("series_from", from)
	series := make([]event.Money, 0, sig.Day-from)
	for day := from; day < sig.Day; day++ {
		_, m := spendOf(r, env.Rates, day, day, day+1)
		series = append(series, m)
	}
	to.Moneys("series", series)
	to.Int("fires_below_percent", int64(d.cfg.FiresBelowPercent))
	to.Int("recovers_at_percent", int64(d.cfg.RecoversAtPercent))
	to.Money("min_weekly", event.Money(d.cfg.MinWeekly))
	to.Time("first_event", r.First)
	to.Time("last_activity", r.LastActivity)
	if w.share != wholeShare {
		to.Int("recent_known_permille", w.share)
	}
	explainRates(r, env.Rates, to)
}

// Summarize tells both windows in one sentence.
func (d *plainSpendDrop) Summarize(dst []byte, _ *customer.Record, env *Env, sig *Signal) []byte {
	if sig.State == Clear && sig.Reason == Churned {
		return append(appendSpan(append(dst, "No activity for "...), d.lapse), ": counted as gone."...)
	}
	if sig.State == Clear {
		if sig.Reason == CorrectedByLateData {
			dst = append(dst, "Had not dropped, as records show that came late: "...)
		} else {
			dst = append(dst, "Spends again: "...)
		}
		dst = appendMoney(dst, sig.Observed, env.Rates)
		dst = append(dst, " in the last "...)
		dst = appendDays(dst, d.recent)
		dst = append(dst, ", "...)
		dst = appendMoney(dst, sig.Expected, env.Rates)
		return append(dst, " expected."...)
	}
	if sig.Observed < 0 { // "spent -65 EUR" is nothing that people say
		dst = appendMoney(append(dst, "Got "...), -sig.Observed, env.Rates)
		dst = appendDays(append(dst, " more back than was spent in the last "...), d.recent)
		dst = appendMoney(append(dst, "; usual for that time were "...), sig.Expected, env.Rates)
		return append(dst, '.')
	}
	dst = append(dst, "Spent "...)
	if d.recent != 7 && d.recent != 1 { // "a week for 8 weeks" is how people say it; "in 5 weeks for 8 weeks" is not
		dst = appendMoney(dst, sig.Observed, env.Rates)
		dst = append(dst, " in the last "...)
		dst = appendDays(dst, d.recent)
		dst = append(dst, "; usual for that time were "...)
		dst = appendMoney(dst, sig.Expected, env.Rates)
		return append(dst, '.')
	}
	dst = appendMoney(dst, sig.Expected, env.Rates)
	dst = appendEvery(dst, d.recent)
	dst = append(dst, " for "...)
	dst = appendCount(dst, d.baseline)
	dst = append(dst, ", "...)
	dst = appendMoney(dst, sig.Observed, env.Rates)
	dst = append(dst, " in the last "...)
	dst = appendDays(dst, d.recent)
	return append(dst, '.')
}
