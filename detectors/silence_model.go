package detectors

import (
	"math"
	"strconv"

	"ebb/detectors/population"
	"ebb/state/customer"
	"ebb/stream/event"
)

// silenceModel is silence by the model of the population. It fires at the beginning of the first local day at which the customer is overdue by his own rhythm
// and the model gives at least LeastProbability to his doing nothing for another horizon, and the budget has room for him. What counts, purchases or any
// activity, the population decides. It ends with the next day that counts, or as churned, and begins again only after one.
//
// Scores are costly beside a comparison, and nobody becomes a likelier leaver by what he does. So nothing is computed for who was active just now: he is looked
// at when he becomes overdue, then on the day on which the model's probability will be high enough, and when another model has come into force.
//
// Where nothing is learnt yet, because the group has too few customers or the record was kept before rhythms were, the plain rule judges: somebody who runs
// ebb for a handful of customers would else never hear of any.
type silenceModel struct {
	cfg      SilenceConfig
	plain    *silence
	critical int64 // ms
	lapse    int64 // ms
}

func newSilenceModel(cfg SilenceConfig, horizon, lapse Duration) *silenceModel {
	return &silenceModel{cfg: cfg, plain: newSilence(cfg, horizon, lapse), critical: cfg.CriticalAfter.Ms(), lapse: lapse.Ms()}
}

var _ Detector = (*silenceModel)(nil)

func (*silenceModel) Name() string    { return SilenceName }
func (*silenceModel) Version() string { return "3" }

// Evaluate is asked at each event, and then only compares.
func (d *silenceModel) Evaluate(r *customer.Record, env *Env, trigger *event.Event, out []Signal) ([]Signal, int64) {
	if d.unlearnt(r, env) {
		out, next := d.plain.Evaluate(r, env, trigger, out)
		if h := r.Rhythms(); next != 0 && h != nil && h.Activity.Count >= population.LeastDays {
			next = min(next, nextModel(env.Now))
		}
		return out, next
	}
	if len(r.Lifecycles) != 0 {
		if open := r.Lifecycle(SilenceName, ""); open >= 0 {
			return d.goesOn(r, env, &r.Lifecycles[open], out)
		}
	}
	if r.Lapsed || r.Cancelled != 0 {
		return out, 0
	}
	if plan := r.SilencePlan(); plan.Ask != 0 && env.Now < plan.Ask && plan.Model == env.Population.Epoch() {
		return out, asked(plan.Ask)
	}
	was := len(out)
	out, ask := d.begins(r, env, out)
	if len(out) == was && len(env.Stalls) == 0 && r.Closing(SilenceName, "") < 0 { // stalls are not for ever, and an outcome may be taken back
		r.PlanSilence(customer.Plan{Ask: planned(ask), Model: env.Population.Epoch()})
	}
	return out, ask
}

// unlearnt is true where there is nothing that the model could say.
func (d *silenceModel) unlearnt(r *customer.Record, env *Env) bool {
	return env.Population == nil || r.Rhythms() == nil
}

// begins judges a customer without an open alert.
func (d *silenceModel) begins(r *customer.Record, env *Env, out []Signal) ([]Signal, int64) {
	m := env.Population
	h := m.Rhythm(r)
	if h == nil || h.Count < population.LeastDays {
		return out, 0
	}
	known := min(env.Now, max(0, d.known(env, m)))
	today := env.Calendar.DayOf(r, known) // the newest day before which all is known
	from := d.lastSeen(r, env, h)
	patience := int32(population.Patience(h))
	if ripe := from + patience + 1; today < ripe {
		return d.waits(r, env, ripe, known, out)
	}
	silent := d.silence(r, env, from, today)
	if silent >= int32(m.Horizon()) { // gone, and not asked about while he was going: a restart of his own rhythm is needed first
		if anew := d.toldAnew(r, env, h); anew == 0 || env.Now < anew {
			return out, anew
		}
		silent = int32(m.Horizon()) - 1 // as far as the model was taught: longer makes him no likelier to come back
	}
	if silent < patience {
		return d.waits(r, env, today+patience-silent, known, out)
	}
	begun := env.Calendar.StartOf(r, today, env.Now)
	first, until := d.crosses(r, env, h, today, silent, env.Now-known)
	switch {
	case first == never:
		return out, until
	case first > today:
		return d.waits(r, env, first, known, out)
	}
	v := m.Judge(h, population.LabelsOf(r), today-1, int(silent))
	day := int32(h.Last)
	at := max(begun, int64(population.InForceFrom(m.Epoch()))*Day.Ms())
	since := d.since(r, env, h)
	return append(out, Signal{
		Detector: SilenceName, State: Firing, At: at, Since: since, Severity: silenceSeverity(since, at, d.critical), Day: day, AtRisk: d.atRisk(r, env, h, v),
		Probability: v.P, HorizonDays: v.Horizon,
	}), d.next(since, at, int64(v.Horizon)*Day.Ms(), at)
}

// waits is when to ask again about a customer who cannot be told of before a local day: when that begins, or, where it has begun and the feeds are not known so far, when they may be.
func (d *silenceModel) waits(r *customer.Record, env *Env, day int32, known int64, out []Signal) ([]Signal, int64) {
	begins := env.Calendar.StartOf(r, day, env.Now)
	if begins > env.Now {
		return out, begins
	}
	return append(out, Signal{Detector: SilenceName, State: Hold, At: begins}), env.again(begins, known)
}

// tells reports whether a verdict is worth an alert.
func (d *silenceModel) tells(m *population.Model, v population.Verdict) bool {
	return v.Overdue && v.P >= d.cfg.LeastProbability && (d.cfg.BudgetPercent == 0 || v.Rank >= m.Bar())
}

// toldAnew is from when on a silence is told again of which an alert was closed by a person: the quiet after an outcome is over then, or the outcome was taken back. It is 0 if it is
// not to be told again.
func (d *silenceModel) toldAnew(r *customer.Record, env *Env, h *customer.Rhythm) int64 {
	i := r.Closing(SilenceName, "")
	if i < 0 || r.Closings()[i].At < d.since(r, env, h) {
		return 0
	}
	return r.Closings()[i].Until
}

// lastSeen is the local day from which the silence is counted: the last that counts, or one on which something could not be read.
func (d *silenceModel) lastSeen(r *customer.Record, env *Env, h *customer.Rhythm) int32 {
	from := int32(h.Last)
	if at := max(r.Blind(event.Usage).Last, r.Blind(event.Payments).Last); at != 0 {
		from = max(from, env.Calendar.DayOf(r, at))
	}
	return from
}

// silence is how many days have passed at the beginning of today since a day, without those in which a feed stood still.
func (d *silenceModel) silence(r *customer.Record, env *Env, from, today int32) int32 {
	silent := today - 1 - from
	if len(env.Stalls) == 0 {
		return silent
	}
	stalled := env.stalledWithin(env.Calendar.StartOf(r, from+1, env.Now), env.Calendar.StartOf(r, today, env.Now), d.feeds(env.Population)...)
	return silent - int32((stalled+Day.Ms()-1)/Day.Ms())
}

// feeds are those whose silence could be taken for the customer's.
func (d *silenceModel) feeds(m *population.Model) []event.Feed {
	if m != nil && m.Purchases() {
		return paymentsOnly[:]
	}
	return usageAndPayments[:]
}

// Feeds as lists that need no memory of their own. Nobody writes into them.
var (
	paymentsOnly     = [...]event.Feed{event.Payments}
	usageAndPayments = [...]event.Feed{event.Usage, event.Payments}
)

// known is up to when what counts would have been seen.
func (d *silenceModel) known(env *Env, m *population.Model) int64 {
	known := int64(math.MaxInt64)
	for _, f := range d.feeds(m) {
		known = min(known, env.KnownUntil[f])
	}
	return known
}

// since is the time of the last activity that counts: exactly where it is the newest of all, else the beginning of its day.
func (d *silenceModel) since(r *customer.Record, env *Env, h *customer.Rhythm) int64 {
	if env.Calendar.DayOf(r, r.LastActivity) == int32(h.Last) {
		return r.LastActivity
	}
	return env.Calendar.StartOf(r, int32(h.Last), env.Now)
}

// nextModel is the next time after now at which another model may come into force.
func nextModel(now int64) int64 {
	day := int32(now / Day.Ms())
	at := population.InForceFrom(population.Epoch(day))
	if at <= day {
		at += population.EpochDays
	}
	return int64(at) * Day.Ms()
}

// crosses is the first local day from today on on which the model in force will tell of a customer who is overdue and stays silent. It is never if the model will
// not, or not while it is in force, or before he is gone; then it is when to look again because another may have come, 0 if he will be gone by then. Most are not
// told of, and the last of the days says so. Of a feed that is complete late, lag in ms, no later day is judged by that model than is known while it is in force.
func (d *silenceModel) crosses(r *customer.Record, env *Env, h *customer.Rhythm, today, silent int32, lag int64) (first int32, until int64) {
	m := env.Population
	until = nextModel(env.Now)
	last := env.Calendar.DayOf(r, until-1-lag)
	if end := today + int32(m.Horizon()) - 1 - silent; end <= last {
		last, until = end, 0
	}
	last = max(last, today)
	of := population.LabelsOf(r)
	told := func(day int32) bool { return d.tells(m, m.Judge(h, of, day-1, int(silent+day-today))) }
	if !told(last) {
		return never, until
	}
	low, high := today-1, last // not told at low, told at high
	for high-low > 1 {
		mid := low + (high-low)/2
		if low < today {
			mid = today // most of those who are told of are so at once
		}
		if told(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high, 0
}

// next is when an open alert changes by itself: it becomes critical, or the customer counts as churned.
func (d *silenceModel) next(since, fired, horizon, after int64) int64 {
	churned := d.churned(since, fired, horizon)
	if at := since + d.critical; d.critical != 0 && at > after {
		return min(at, churned)
	}
	return churned
}

// churned is when a customer whose alert is open counts as gone: when the time to lapse is over, and the horizon of what was told.
func (d *silenceModel) churned(since, fired, horizon int64) int64 {
	return max(since+d.lapse, fired+horizon)
}

// goesOn judges a customer whose alert is open. One without a horizon was told by the plain rule while nothing was learnt, and ends by that.
func (d *silenceModel) goesOn(r *customer.Record, env *Env, l *customer.Lifecycle, out []Signal) ([]Signal, int64) {
	if l.HorizonDays == 0 {
		out, next := d.plain.goesOn(r, env, l, out)
		if h := env.Population.Rhythm(r); h != nil && out[len(out)-1].State == Clear && out[len(out)-1].Reason != Churned { // from now on the model judges
			next = earlier(next, max(env.Calendar.StartOf(r, int32(h.Last)+int32(population.Patience(h))+1, env.Now), env.Now))
		}
		return out, next
	}
	s := Signal{
		Detector: SilenceName, State: Clear, At: max(env.Now, l.FiredAt), Since: l.Since, AtRisk: l.AtRisk, Day: l.Day,
	}
	h := d.rhythm(r, env)
	if h != nil && int32(h.Last) > l.Day {
		s.Reason, s.Day = Recovered, int32(h.Last)
		if d.since(r, env, h) < l.FiredAt {
			s.Reason = CorrectedByLateData
		}
		if r.Cancelled != 0 {
			return append(out, s), 0
		}
		return append(out, s), env.Calendar.StartOf(r, int32(h.Last)+int32(population.Patience(h))+1, env.Now)
	}
	if r.Cancelled != 0 {
		s.Reason = Churned
		if r.Cancelled < l.FiredAt {
			s.Reason = CorrectedByLateData
		}
		return append(out, s), 0
	}
	horizon := d.horizon(env, h)
	due := d.churned(l.Since, l.FiredAt, horizon)
	if env.Now >= due {
		if known := d.known(env, env.Population); known < due {
			return append(out, Signal{Detector: SilenceName, State: Hold, At: due}), env.again(due, known)
		}
		s.Reason, s.At = Churned, due
		return append(out, s), 0
	}
	s.State, s.Severity, s.At, s.Probability = Firing, Warning, env.Now, float64(l.Probability)/1000
	next := d.next(l.Since, l.FiredAt, horizon, env.Now)
	if at := l.Since + d.critical; d.critical != 0 && env.Now >= at && Severity(l.Severity) < Critical {
		if known := d.known(env, env.Population); known < at {
			next = earlier(next, env.again(at, known))
		} else {
			s.Severity, s.At = Critical, max(at, l.FiredAt)
		}
	}
	return append(out, s), next
}

// rhythm is the one that counts, that of any activity while no model tells.
func (d *silenceModel) rhythm(r *customer.Record, env *Env) *customer.Rhythm {
	switch {
	case env.Population != nil:
		return env.Population.Rhythm(r)
	case r.Rhythms() != nil:
		return &r.Rhythms().Activity
	}
	return nil
}

// horizon is that of what was told, in ms, as far as the model says.
func (d *silenceModel) horizon(env *Env, h *customer.Rhythm) int64 {
	if env.Population == nil || h == nil {
		return 0
	}
	return int64(env.Population.HorizonFor(h)) * Day.Ms()
}

// atRisk is what the customer would spend in the horizon as he did in the days up to his last purchase, times the probability that he will not. The days are
// those of about three of his gaps, four weeks at least, as far as the windows hold them.
func (d *silenceModel) atRisk(r *customer.Record, env *Env, h *customer.Rhythm, v population.Verdict) event.Money {
	days := min(max(int32(3*h.MeanGap()+0.5), baselineDays), customer.MinKeptDays)
	last := int32(h.Last)
	_, spent := spendOf(r, env.Rates, last-days+1, last-days+1, last+1)
	permille := int64(math.Round(v.P * 1000))
	return env.Rates.round(max(0, scaled(spent, int64(v.Horizon)*permille, int64(days)*1000)))
}

// Explain writes the customer's own rhythm, the probability and what it was held against, and the model that told it.
func (d *silenceModel) Explain(r *customer.Record, env *Env, sig *Signal, to *Object) {
	if d.unlearnt(r, env) {
		d.plain.Explain(r, env, sig, to)
		return
	}
	if sig.State == Clear && sig.Since != 0 {
		to.TimeIf("silent_since", sig.Since)
	}
	to.Time("last_activity", r.LastActivity)
	h := d.rhythm(r, env)
	if h == nil {
		return
	}
	to.Date("last_day", int32(h.Last))
	to.Int("days_active", int64(h.Count))
	to.Number("mean_gap_days", h.MeanGap(), 1)
	to.Int("longest_gap_days", int64(h.LongestGap()))
	m := env.Population
	if m == nil {
		return
	}
	to.Text("counts", counted(m))
	today := env.Calendar.DayOf(r, sig.At)
	if sig.State != Clear {
		silent := d.silence(r, env, d.lastSeen(r, env, h), today)
		to.Int("silent_days", int64(silent))
		if v := m.Judge(h, population.LabelsOf(r), today-1, int(silent)); v.Overdue && d.cfg.BudgetPercent != 0 {
			to.Number("rank", v.Rank, 3)
			to.Number("rank_needed", max(m.Bar(), -99), 3)
		}
	}
	to.Number("least_probability", d.cfg.LeastProbability, 3)
	if stalled := env.stalledWithin(sig.Since, sig.At, d.feeds(m)...); stalled != 0 {
		to.Duration("not_counted", stalled)
	}
	if at := max(r.Blind(event.Usage).Last, r.Blind(event.Payments).Last); at > sig.Since {
		to.Time("unreadable_record", at)
	}
	to.TimeIf("cancelled", r.Cancelled)
	to.Object("model", func(to *Object) {
		to.Text("version", m.Version())
		to.Int("customers", int64(m.Customers()))
		to.Number("evidence", m.Evidence(), 2)
	})
	explainRates(r, env.Rates, to)
}

func counted(m *population.Model) string {
	if m.Purchases() {
		return "purchases"
	}
	return "activity"
}

// Summarize tells how long nothing was seen, what is usual, and what is likely.
func (d *silenceModel) Summarize(dst []byte, r *customer.Record, env *Env, sig *Signal) []byte {
	if d.unlearnt(r, env) {
		return d.plain.Summarize(dst, r, env, sig)
	}
	if sig.State != Firing {
		return ended(dst, r, sig, d.lapse)
	}
	what := "activity"
	if m := env.Population; m != nil && m.Purchases() {
		what = "purchase"
	}
	dst = append(append(append(dst, "No "...), what...), " since "...)
	dst = appendDate(dst, int64(sig.Day))
	dst = append(dst, ", for "...)
	dst = appendSpan(dst, sig.At-sig.Since)
	if h := d.rhythm(r, env); h != nil && h.Count > 1 {
		dst = append(dst, "; usually one every "...)
		dst = appendDays(dst, int64(math.Round(max(h.MeanGap(), 1))))
	}
	dst = append(dst, '.')
	if sig.Probability == 0 {
		return dst
	}
	dst = append(dst, " With a probability of "...)
	dst = strconv.AppendInt(dst, min(int64(math.Round(sig.Probability*100)), 99), 10) // nothing is certain
	dst = append(dst, " % there is none for another "...)
	return append(appendDays(dst, int64(sig.HorizonDays)), '.')
}
