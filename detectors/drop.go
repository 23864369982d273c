package detectors

import (
	"math"

	"ebb/state/customer"
	"ebb/stream/event"
)

// drop detects customers that are still there and do less than they used to, by the sequential test of customer.Drop: of spend (feed Payments) or of usage.
//
// A day counts once it is over, so that the order of a day's records does not matter. The time since the newest payment is priced on every third
// day, the same days for everybody.
type drop struct {
	name           string
	feed           event.Feed
	falseAlarms    float64     // per customer and year
	least          float64     // of all thresholds: customer.LeastThreshold
	leastFall      float64     // share of the usual
	critical       float64     // of the usual is left, at most; 0 for never
	criticalAtRisk event.Money // 0 for never
	minWeekly      event.Money // of the usual
	minHistory     int32       // days
	horizon        Duration
	lapse          int64 // ms
}

var _ Detector = (*drop)(nil)

const (
	// pricedEvery is the distance in days of the days on which the time since the newest payment is priced.
	pricedEvery = 3
	// pendingDays is how many days that are not over are looked through for what they will show.
	pendingDays = 4
	// leastDropDays is how long a drop lasts at least that is told: a small purchase or two are nothing to act on.
	leastDropDays = 7
	// mostRaised is by how much the population raises the threshold at most, in ln: a factor of 20 in the false alarms.
	mostRaised = 3
	// rearmDays is how long after the beginning of an alert another one may begin.
	rearmDays = 30
	// The window of what counts as recent when an alert may end: so many usual gaps, within bounds in days.
	recoveryGaps, recoveryLeast, recoveryMost = 3, 28, 84
)

func (d *drop) Name() string  { return d.name }
func (*drop) Version() string { return "2" }

// Evaluate costs a comparison for whoever has nothing due: when that can change is remembered in the record.
func (d *drop) Evaluate(r *customer.Record, env *Env, trigger *event.Event, out []Signal) ([]Signal, int64) {
	if r.Drops() == nil {
		return out, 0
	}
	if open := r.Lifecycle(d.name, ""); open >= 0 {
		return d.goesOn(r, env, trigger, &r.Lifecycles[open], out)
	}
	if r.Cancelled != 0 {
		return out, 0
	}
	if plan := r.DropPlan(d.feed); plan.Ask != 0 && env.Now < plan.Ask && plan.Model == modelOf(env) {
		return out, asked(plan.Ask)
	}
	return d.begins(r, env, out)
}

// modelOf names the model in force, -1 if there is none.
func modelOf(env *Env) int32 {
	if env.Population == nil {
		return -1
	}
	return env.Population.DropEpoch()
}

// planned and asked turn a time, of which 0 is never, into one of a plan, of which 0 is not known, and back.
func planned(ask int64) int64 {
	if ask == 0 {
		return math.MaxInt64
	}
	return ask
}

func asked(plan int64) int64 {
	if plan == math.MaxInt64 {
		return 0
	}
	return plan
}

// judgedDay is the newest local day before which all of the feed is known. What is missing for less than a minute does not count: it is the grace of a clock
// that runs live, and a replay would not see it.
func (d *drop) judgedDay(r *customer.Record, env *Env) int32 {
	return env.Calendar.DayOf(r, env.Now-d.missing(env))
}

func (d *drop) missing(env *Env) int64 {
	missing := env.Now - max(0, env.KnownUntil[d.feed])
	if missing < graceMs {
		return 0
	}
	return missing
}

// begins judges a customer without an open alert, and says when the answer can change without another record.
func (d *drop) begins(r *customer.Record, env *Env, out []Signal) ([]Signal, int64) {
	if !r.DropRuns(d.feed, env.DropParams()) {
		r.PlanDrop(d.feed, customer.Plan{Ask: planned(0), Model: modelOf(env)})
		return out, 0
	}
	day := d.judgedDay(r, env)
	if from := d.armed(r, env); day < from { // nothing is weighed before it can be told
		ask := d.lookOn(r, env, from)
		r.PlanDrop(d.feed, customer.Plan{Ask: planned(ask), Model: modelOf(env)})
		return out, ask
	}
	test, _ := r.Drop(d.feed, day, env.DropParams())
	w := d.weigh(r, env, &test, day)
	if w.over && d.mayFire(r) {
		v := d.value(r, env, &test, day)
		if d.matters(v) && !d.blind(r, env, v.from) && env.Calendar.DayOf(r, r.LastActivity) >= v.from { // else it is silence
			s := d.signal(Firing, env, r, day, v)
			s.Since = env.Calendar.StartOf(r, v.from, env.Now)
			s.Severity = d.severity(&s)
			return append(out, s), r.LastActivity + d.lapse
		}
	}
	ask := d.nextLook(r, env, &test, day, w.over)
	if !w.over { // else anything that happens may let it be told
		r.PlanDrop(d.feed, customer.Plan{Ask: planned(ask), Model: modelOf(env)})
	}
	return out, ask
}

// mayFire reports whether an alert may begin: nothing says that he is gone.
func (d *drop) mayFire(r *customer.Record) bool {
	return !r.Lapsed && r.Lifecycle(SilenceName, "") < 0
}

// returned keeps an alert from beginning before the local day on which a silence ends is known: what he does on that day says whether he is back. It was not told as long as the
// silence was, and whether it is told on that day must not depend on whether something else has him looked at again.
func (d *drop) returned(r *customer.Record, env *Env) {
	if r.Drops() != nil && r.Drops().Of(d.feed).Last() != 0 {
		r.HoldDrop(d.feed, env.Calendar.DayOf(r, env.Now)+1-rearmDays)
	}
}

// armed is the first judged day on which an alert may begin: he is known for long enough, and the alert before is long enough ago.
func (d *drop) armed(r *customer.Record, env *Env) int32 {
	from := env.Calendar.DayOf(r, r.First) + d.minHistory
	if fired := r.Drops().Of(d.feed).Fired(); fired != 0 {
		from = max(from, fired+rearmDays)
	}
	return from
}

// nextLook is when the test can reach its threshold if nothing more is heard of the customer. Where it is over already and something else holds it, such as that it did not last long
// enough, that may end on any day: it is looked at on each, so that an alert does not depend on what else has the customer looked at. They are few.
func (d *drop) nextLook(r *customer.Record, env *Env, test *customer.Drop, day int32, over bool) int64 {
	next := day + 1
	if !over {
		if next = d.nextDay(r, env, test, day); next == never {
			return 0
		}
	}
	return d.lookOn(r, env, next)
}

// lookOn is when a local day can be the judged one.
func (d *drop) lookOn(r *customer.Record, env *Env, day int32) int64 {
	due := env.Calendar.StartOf(r, day, env.Now)
	if due <= env.Now {
		return env.again(due, env.Now-d.missing(env))
	}
	return due
}

const never = math.MaxInt32

// nextDay is the first local day after the judged one on which the test can be over its threshold, never if it will not be.
func (d *drop) nextDay(r *customer.Record, env *Env, test *customer.Drop, day int32) int32 {
	last := r.DropLast(d.feed, test, env.DropParams())
	if last-day > pendingDays { // a feed that stands still, or is complete late
		return day + 1
	}
	ahead := *test
	for next := day + 1; next <= last+1; next++ { // what is known already of days that are not over
		r.ExtendDrop(&ahead, d.feed, next, env.DropParams())
		if d.weigh(r, env, &ahead, next).over {
			return next
		}
	}
	quiet := ahead.Quiet(d.threshold(env, &ahead))
	if quiet >= customer.DropNever {
		return never
	}
	next := max(last+1, day) + 1
	next += (pricedEvery - next%pricedEvery) % pricedEvery
	for ; ; next += pricedEvery {
		silent := env.elapsed(r, d.feed, last, next-1) // the day before is the last one that is priced
		if ahead.Absent(silent) {
			return never
		}
		if silent >= quiet {
			return next
		}
	}
}

// weighed is the evidence of a test on a day.
type weighed struct {
	statistic float64
	over      bool // it is more than the threshold
}

// threshold is the larger of two: that which is fitted to simulated customers, and that which the population sets by its own peaks. The latter cannot tell false
// alarms from true ones, so it does not raise the threshold without bounds.
func (d *drop) threshold(env *Env, test *customer.Drop) float64 {
	limit := test.Threshold(d.falseAlarms)
	if env.Population == nil {
		return limit
	}
	own, ok := env.Population.DropExcess(d.feed, d.falseAlarms)
	if !ok {
		return limit
	}
	return limit + min(max(own+math.Log(d.falseAlarms), 0), mostRaised)
}

// weigh prices what is known before a day.
func (d *drop) weigh(r *customer.Record, env *Env, test *customer.Drop, day int32) weighed {
	if !test.Ready() {
		return weighed{}
	}
	w := weighed{statistic: test.Statistic()}
	if to := day - day%pricedEvery - 1; to > test.Last() {
		silent := env.elapsed(r, d.feed, test.Last(), to) // days without a payment that are priced
		w.statistic = test.Silent(silent)
		if test.Absent(silent) {
			w.statistic = math.Inf(-1)
		}
	}
	w.over = w.statistic > d.least && w.statistic > d.threshold(env, test) // most is far below
	return w
}

// valued is what a drop comes to.
type valued struct {
	from               int32       // local day on which it began
	days               float64     // that count since then
	observed, expected event.Money // or quantities of usage
}

// value compares what was done since the drop began with what is usual.
func (d *drop) value(r *customer.Record, env *Env, test *customer.Drop, day int32) valued {
	from := r.DropOnset(d.feed, test, day, env.DropParams())
	v := valued{from: from}
	if to := min(test.Last()+1, day); to > from {
		v.days = env.elapsed(r, d.feed, from, to)
	}
	// The time since the newest payment counts once another one is overdue.
	if open := day - max(test.Last()+1, from); float64(open) >= test.Gap() {
		v.days += env.elapsed(r, d.feed, day-open, day)
	}
	v.observed = d.sum(r, env, from, day)
	v.expected = d.expected(env, test.Amount()/test.Gap()*v.days)
	return v
}

// sum is what was spent, or used, on the local days from a day to before another.
func (d *drop) sum(r *customer.Record, env *Env, from, to int32) event.Money {
	if d.feed == event.Payments {
		_, m := spendOf(r, env.Rates, from, from, to)
		return m
	}
	return usageOf(r, from, to)
}

func (d *drop) expected(env *Env, units float64) event.Money {
	m := units * float64(event.MoneyUnit)
	if !(m < math.MaxInt64/2) {
		return saturated(true)
	}
	if d.feed != event.Payments {
		const cent = event.MoneyUnit / 100
		return event.Money(math.Round(m/float64(cent))) * cent
	}
	return env.Rates.round(event.Money(math.Round(m)))
}

// matters reports whether a drop is deep enough, and from high enough, to be told.
func (d *drop) matters(v valued) bool {
	return v.days >= leastDropDays && float64(v.observed) < (1-d.leastFall)*float64(v.expected) &&
		float64(v.expected)*7 >= float64(d.minWeekly)*v.days
}

// blind reports whether something may be missing since a day because records of the customer could not be read.
func (d *drop) blind(r *customer.Record, env *Env, from int32) bool {
	b := r.Blind(d.feed)
	return b.Since != 0 && (b.Until == 0 || env.Calendar.DayOf(r, b.Last) >= from)
}

func (d *drop) severity(s *Signal) Severity {
	if float64(s.Observed) < d.critical*float64(s.Expected) || d.criticalAtRisk != 0 && s.AtRisk >= d.criticalAtRisk {
		return Critical
	}
	return Warning
}

// signal tells the numbers. At risk is what is missing of the usual, for as long as the horizon.
func (d *drop) signal(state State, env *Env, r *customer.Record, day int32, v valued) Signal {
	s := Signal{
		Detector: d.name, State: state, At: env.Calendar.StartOf(r, day, env.Now), Day: day,
		Observed: v.observed, Expected: v.expected,
	}
	if missing := float64(v.expected) - max(0, float64(v.observed)); d.feed == event.Payments && v.days > 0 && missing > 0 {
		s.AtRisk = d.expected(env, missing/float64(event.MoneyUnit)*float64(d.horizon)/float64(Day)/v.days)
	}
	return s
}

// goesOn judges a customer whose alert is open.
func (d *drop) goesOn(r *customer.Record, env *Env, trigger *event.Event, l *customer.Lifecycle, out []Signal) ([]Signal, int64) {
	reason, ask := d.over(r, env, l)
	if reason != "" {
		if known := env.KnownUntil[d.feed]; known < ask {
			return out, env.again(ask, known)
		}
		return append(out, Signal{
			Detector: d.name, State: Clear, Reason: reason, At: max(ask, l.FiredAt), Since: l.Since,
			Day: d.judgedDay(r, env), Observed: l.Observed, Expected: l.Expected, AtRisk: l.AtRisk,
		}), 0
	}
	if trigger == nil || !trigger.IsActivity() {
		return out, ask
	}
	day := d.judgedDay(r, env)
	test, _ := r.Drop(d.feed, day, env.DropParams())
	if trigger.Time < l.FiredAt {
		if v, refuted := d.refuted(r, env, l); refuted {
			return append(out, d.ends(CorrectedByLateData, env, r, l, v, l.Day)), 0
		}
	}
	w := d.weigh(r, env, &test, day)
	if v, back := d.back(r, env, &test, l, day); back && !w.over {
		return append(out, d.ends(Recovered, env, r, l, v, day)), 0
	}
	return out, ask
}

// over is why an alert ends without anything being as it was, and when it does or did: the customer has gone, or stays at what he does now. If it does not end yet, it is
// when to look again.
func (d *drop) over(r *customer.Record, env *Env, l *customer.Lifecycle) (Reason, int64) {
	gone, settled := r.LastActivity+d.lapse, l.FiredAt+d.lapse
	switch {
	case r.Cancelled != 0: // stated churn: the drop was the beginning of it
		return Churned, r.Cancelled
	case env.Now >= gone:
		return Churned, gone
	case env.Now < settled:
		return "", min(gone, settled)
	case r.LastActivity >= settled-d.lapse/3:
		return Expired, settled
	}
	return "", gone
}

// ends is the signal that an alert ends.
func (d *drop) ends(reason Reason, env *Env, r *customer.Record, l *customer.Lifecycle, v valued, day int32) Signal {
	s := d.signal(Clear, env, r, day, v)
	s.Reason, s.Since, s.AtRisk = reason, l.Since, l.AtRisk
	s.At = max(env.Now, l.FiredAt)
	return s
}

// usual is what is usual for so many days, as it was when an alert began.
func (d *drop) usual(r *customer.Record, env *Env, l *customer.Lifecycle, days float64) event.Money {
	whole := env.elapsed(r, d.feed, env.Calendar.DayOf(r, l.Since), l.Day)
	return d.expected(env, float64(l.Expected)/float64(event.MoneyUnit)*days/whole)
}

// back compares what was done lately, at most since the drop began, with what was usual before it.
func (d *drop) back(r *customer.Record, env *Env, test *customer.Drop, l *customer.Lifecycle, day int32) (valued, bool) {
	window := int32(min(max(recoveryGaps*test.Gap(), recoveryLeast), recoveryMost))
	v := valued{from: max(day-window, env.Calendar.DayOf(r, l.Since))}
	if v.from >= day {
		return v, false
	}
	v.days = env.elapsed(r, d.feed, v.from, day)
	v.observed, v.expected = d.sum(r, env, v.from, day), d.usual(r, env, l, v.days)
	return v, float64(v.observed) >= (1-d.leastFall)*float64(v.expected)
}

// refuted reports whether the alert would not have begun, had everything been known that is known now: what was done until then is near enough to the usual, or
// the days that came late take the evidence away.
func (d *drop) refuted(r *customer.Record, env *Env, l *customer.Lifecycle) (valued, bool) {
	from := env.Calendar.DayOf(r, l.Since)
	v := valued{from: from, days: env.elapsed(r, d.feed, from, l.Day), expected: l.Expected, observed: d.sum(r, env, from, l.Day)}
	if v.observed > l.Observed && float64(v.observed) >= (1-d.leastFall)*float64(v.expected) {
		return v, true
	}
	test, _ := r.Drop(d.feed, l.Day, env.DropParams())
	if test.Last() >= l.Day {
		return v, false // the test has gone on since
	}
	w := d.weigh(r, env, &test, l.Day)
	return v, v.observed > l.Observed && !w.over
}

// Remember keeps in the record when an alert began, and that the evidence of one that ended counts no more.
func (d *drop) Remember(r *customer.Record, sig *Signal) {
	if sig.State == Firing {
		r.BeginDrop(d.feed, sig.Day)
		return
	}
	r.EndDrop(d.feed, sig.Reason == Expired)
}

// Explain writes what is usual, what was observed, the evidence and what it took.
func (d *drop) Explain(r *customer.Record, env *Env, sig *Signal, to *Object) {
	to.Text("method", Model)
	to.Date("judged_day", sig.Day)
	to.TimeIf("since", sig.Since)
	d.explainTest(r, env, sig, to)
	from := max(sig.Day-seriesDays, 0)
	to.Date("series_from", from)
	series := make([]event.Money, 0, seriesDays)
	for day := from; day < sig.Day; day++ {
		series = append(series, d.sum(r, env, day, day+1))
	}
	to.Moneys("series", series)
	to.Number("false_alarms_a_year", d.falseAlarms, 2)
	to.Int("least_fall_percent", int64(math.Round(d.leastFall*100)))
	if d.feed == event.Payments {
		to.Money("min_weekly", d.minWeekly)
	}
	to.Time("first_event", r.First)
	to.Time("last_activity", r.LastActivity)
	if d.feed == event.Payments {
		explainRates(r, env.Rates, to)
	}
}

// seriesDays is how many days before the judged one are shown.
const seriesDays = 90

func (d *drop) explainTest(r *customer.Record, env *Env, sig *Signal, to *Object) {
	test, ok := r.Drop(d.feed, sig.Day, env.DropParams())
	if !ok || test.Last() >= sig.Day || !test.Ready() {
		return // the test has gone on since the decision
	}
	from := env.Calendar.DayOf(r, sig.Since)
	if sig.State == Firing && sig.Day > from {
		days := float64(sig.Day - from)
		to.Money("observed_weekly", scaled(sig.Observed, 7, int64(sig.Day-from)))
		to.Money("expected_weekly", scaled(sig.Expected, 7, int64(sig.Day-from)))
		to.Int("days", int64(days))
		if sig.Expected > 0 {
			to.Int("change_percent", int64(math.Round(100*(float64(sig.Observed)/float64(sig.Expected)-1))))
		}
	}
	w := d.weigh(r, env, &test, sig.Day)
	to.Number("usual_gap_days", test.Gap(), 1)
	to.Money("usual_amount", d.expected(env, test.Amount()))
	if !math.IsInf(w.statistic, 0) {
		to.Number("log_evidence", w.statistic, 2)
	}
	to.Number("log_evidence_needed", d.threshold(env, &test), 2)
	if env.Population != nil {
		to.Object("model", func(to *Object) { to.Text("version", env.Population.Version()) })
	}
	if test.Last() != 0 {
		to.Date("last_day", test.Last())
	}
}

// Summarize tells what was observed since the drop began, and what is usual.
func (d *drop) Summarize(dst []byte, r *customer.Record, env *Env, sig *Signal) []byte {
	from := env.Calendar.DayOf(r, sig.Since)
	switch {
	case sig.State == Clear && sig.Reason == Churned && r.Cancelled != 0:
		return append(dst, "Cancelled the subscription: counted as gone."...)
	case sig.State == Clear && sig.Reason == Churned:
		return append(appendSpan(append(dst, "No activity for "...), d.lapse), ": counted as gone."...)
	case sig.State == Clear && sig.Reason == Expired:
		dst = append(append(dst, d.word("Has spent", "Has used the product")...), " less for "...)
		return append(appendSpan(dst, d.lapse), ": that is the usual from now on."...)
	case sig.State == Clear && sig.Reason == CorrectedByLateData:
		dst = append(dst, "Had not dropped, as records show that came late: "...)
		return append(d.appendBoth(dst, env, sig), " expected."...)
	case sig.State == Clear:
		dst = append(append(dst, d.word("Spends", "Uses the product")...), " again: "...)
		return append(d.appendBoth(dst, env, sig), " expected."...)
	}
	if sig.Observed < 0 { // "spent -65 EUR" is nothing that people say
		dst = d.appendAmount(append(dst, "Got "...), env, -sig.Observed)
		dst = append(dst, " more back than was spent in the "...)
	} else {
		dst = d.appendAmount(append(dst, d.word("Spent ", "Used ")...), env, sig.Observed)
		dst = append(dst, " in the "...)
	}
	dst = appendDays(dst, max(int64(sig.Day-from), 1))
	dst = append(dst, " from "...)
	dst = appendDate(dst, int64(from))
	dst = append(dst, " on; usual for that time were "...)
	return append(d.appendAmount(dst, env, sig.Expected), '.')
}

func (d *drop) word(spend, usage string) string {
	if d.feed == event.Payments {
		return spend
	}
	return usage
}

func (d *drop) appendBoth(dst []byte, env *Env, sig *Signal) []byte {
	return d.appendAmount(append(d.appendAmount(dst, env, sig.Observed), " lately, "...), env, sig.Expected)
}

func (d *drop) appendAmount(dst []byte, env *Env, m event.Money) []byte {
	if d.feed == event.Payments {
		return appendMoney(dst, m, env.Rates)
	}
	return append(append(dst, m.String()...), " units"...)
}
