package detectors

import (
	"math"

	"ebb/detectors/population"
	"ebb/state/customer"
	"ebb/stream/event"
)

// PartialLapseName is the name of the detector of customers who go on, but without something that they used to pay for, or be paid.
const PartialLapseName = "partial_lapse"

// PartialLapseConfig holds the numbers of partial_lapse.
//
// The rhythms of the four largest categories, products or recurring payments of a customer are followed, those of what comes in (the salary) among them. It fires when one of them
// is overdue by its own rhythm while the customer goes on: three days of purchases since it was last seen, of anything for what comes in, and none of his usual gaps of silence. How long
// is waited follows from the usual gap, its regularity, and FalseAlarms, and is half as long again as the longest gap at least. It does not fire for who is silent as a whole, and the time in which
// something is owed does not count. It ends with the next payment of the kind; when the customer falls silent; or after alerts.lapse_after.
//
// An alert says that nothing is paid for it within alerts.horizon, or half as long again as its mean gap, and is judged by that afterwards. It names no probability: that of the lapse
// model, asked about the rhythm of a category, is right over all categories, but far too high for those that are overdue enough to be told of, and these are too few to correct it by.
//
// It is off unless it is asked for: people change what they buy far more often than where. On the accounts of a bank that nobody left, told apart by the purpose and the kind of each payment,
// it gives 2.2 alerts in 1000 customer-months; of the seven that could be judged within the 15 months none was right: what had stopped came back within 60 days.
type PartialLapseConfig struct {
	Enabled bool `yaml:"enabled"`
	// How many false alarms there may be for each category and year, if its gaps go on as they were, 0.001 to 1.
	FalseAlarms float64 `yaml:"false_alarms"`
	// How often it must have been paid, 4 to 100 days.
	LeastRepeats int `yaml:"least_repeats"`
	// Which share of all that the customer ever paid it must have, 1 to 90 percent. What comes in has none.
	LeastSharePercent int `yaml:"least_share_percent"`
}

// DefaultPartialLapse returns the documented defaults.
func DefaultPartialLapse() PartialLapseConfig {
	return PartialLapseConfig{FalseAlarms: 0.01, LeastRepeats: 6, LeastSharePercent: 10}
}

func (c *PartialLapseConfig) validate(f *faults) {
	const at = PartialLapseName + "."
	f.share(at+"false_alarms", c.FalseAlarms, 0.001, 1)
	f.number(at+"least_repeats", c.LeastRepeats, 4, 100)
	f.number(at+"least_share_percent", c.LeastSharePercent, 1, 90)
}

const (
	// mostHabits is how many habits of a customer are judged: the largest.
	mostHabits = 4
	// activeBeside is on how many days the customer must have done something else since.
	activeBeside = 3
	// Regularity is known by few gaps: it is shrunk as if there had been as many more, as irregular as this (the square of the coefficient of variation).
	habitPriorGaps, habitPriorSpread = 1.0, 0.5
	// What is more regular than the calendar of months is taken as that.
	mostRegular = 50.0
	// aLongestGap is how many of the longest gaps are waited at least.
	aLongestGap = 1.5
)

type partialLapse struct {
	cfg     PartialLapseConfig
	horizon Duration
	lapse   int64 // ms
}

func newPartialLapse(cfg PartialLapseConfig, horizon, lapse Duration) *partialLapse {
	return &partialLapse{cfg: cfg, horizon: horizon, lapse: lapse.Ms()}
}

var _ Detector = (*partialLapse)(nil)

func (*partialLapse) Name() string    { return PartialLapseName }
func (*partialLapse) Version() string { return "1" }
func (*partialLapse) Kin() Kin        { return Leaving }

// patience is for how many days a habit may be silent. Its gaps are taken for those of a gamma renewal process with the mean and the spread that they had; the mean two standard
// errors higher, because it is not known exactly. A gap is longer with a probability such that there are FalseAlarms a year (Wilson and Hilferty 1931 for the gamma
// distribution, Abramowitz and Stegun 26.2.22 for the normal one; both are good to a percent here).
func (d *partialLapse) patience(h *customer.Rhythm) int32 {
	n, mean := float64(h.Gaps()), h.MeanGap()
	spread := max(float64(h.SumGapSquares)/n/(mean*mean)-1, 0)
	spread = (n*spread + habitPriorGaps*habitPriorSpread) / (n + habitPriorGaps)
	shape := min(1/spread, mostRegular)
	const year = 365.25
	t := math.Sqrt(-2 * math.Log(min(d.cfg.FalseAlarms*mean/year, 0.1)))
	z := t - (2.30753+0.27061*t)/(1+0.99229*t+0.04481*t*t)
	root := 1 - 1/(9*shape) + z/(3*math.Sqrt(shape))
	days := mean * (1 + 2/math.Sqrt(shape*n)) * root * root * root
	return int32(math.Ceil(max(days, aLongestGap*float64(h.LongestGap()))))
}

// judged reports whether the habit at a place is one of the largest, known well enough, and large enough.
func (d *partialLapse) judged(r *customer.Record, all []customer.Habit, place int) bool {
	h := &all[place]
	if h.Kind == 0 || int(h.Rhythm.Count) < d.cfg.LeastRepeats {
		return false
	}
	larger := 0
	for i := range all {
		if o := &all[i]; o.Kind != 0 && (o.Rhythm.Spent > h.Rhythm.Spent || o.Rhythm.Spent == h.Rhythm.Spent && i < place) {
			larger++
		}
	}
	if larger >= mostHabits {
		return false
	}
	return h.Kind == customer.HabitIncome || d.share(r, h) >= d.cfg.LeastSharePercent
}

// share is the share of a habit in all that the customer ever paid, in percent: in his purchases, or in what his habits hold, whichever is more.
func (d *partialLapse) share(r *customer.Record, h *customer.Habit) int {
	paid := event.Money(0)
	for _, o := range r.Habits() {
		if o.Kind != customer.HabitIncome {
			paid = add(paid, o.Rhythm.Spent)
		}
	}
	if all := r.Rhythms(); all != nil {
		paid = max(paid, all.Purchases.Spent)
	}
	return int(scaled(h.Rhythm.Spent, 100, int64(max(paid, 1))))
}

// Evaluate costs a comparison for whoever has no habits.
func (d *partialLapse) Evaluate(r *customer.Record, env *Env, _ *event.Event, out []Signal) ([]Signal, int64) {
	if open := r.Lifecycle(PartialLapseName, ""); open >= 0 {
		return d.goesOn(r, env, &r.Lifecycles[open], out)
	}
	return d.begins(r, env, out)
}

// silent reports whether the customer does nothing at all any more, by what silence, which is asked before, says at the same moment, and since when that is so.
func (d *partialLapse) silent(r *customer.Record, env *Env, said []Signal) (bool, int64) {
	for i := range said {
		if s := &said[i]; s.Detector == SilenceName && s.State != Hold {
			return s.State == Firing || s.Reason == Churned, s.At
		}
	}
	return r.Lapsed || r.Lifecycle(SilenceName, "") >= 0, env.Now
}

// begins judges a customer without an open alert.
func (d *partialLapse) begins(r *customer.Record, env *Env, out []Signal) ([]Signal, int64) {
	all := r.Habits()
	if all == nil || r.Lapsed || r.Cancelled != 0 {
		return out, 0
	}
	if silent, _ := d.silent(r, env, out); silent {
		return out, 0
	}
	known := min(env.Now, max(0, env.KnownUntil[event.Payments]))
	today := env.Calendar.DayOf(r, known) // the newest day before which all is known
	next, lost := int64(0), -1
	for i := range all {
		if !d.judged(r, all, i) {
			continue
		}
		h := &all[i].Rhythm
		patience := d.patience(h)
		silent := today - 1 - int32(h.Last)
		if silent >= patience && len(env.Stalls) != 0 {
			stalled := env.stalledWithin(env.Calendar.StartOf(r, int32(h.Last)+1, env.Now), env.Calendar.StartOf(r, today, env.Now), event.Payments)
			silent -= int32((stalled + Day.Ms() - 1) / Day.Ms())
		}
		switch {
		case int64(patience)*Day.Ms() >= d.lapse, env.Now-env.Calendar.StartOf(r, int32(h.Last), env.Now) >= d.lapse: // too rare to be told of, or no news
		case silent < patience:
			due := env.Calendar.StartOf(r, today+patience-silent, env.Now)
			if due <= env.Now {
				due = env.again(due, known)
			}
			next = earlier(next, due)
		case d.goesOnOtherwise(r, env, &all[i], today) && (lost < 0 || h.Spent > all[lost].Rhythm.Spent):
			lost = i
		}
	}
	if lost < 0 {
		return out, next
	}
	h := &all[lost]
	since := env.Calendar.StartOf(r, int32(h.Rhythm.Last), env.Now)
	s := Signal{Detector: PartialLapseName, State: Firing, At: env.Now, Since: since, Severity: Warning, Cause: uint8(lost) + 1, Day: int32(h.Rhythm.Last)}
	if env.Calendar.DayOf(r, env.Now) != today {
		s.At = env.Calendar.StartOf(r, today, env.Now)
	}
	if v, ok := env.Rates.Convert(h.Currency, h.Rhythm.Spent); ok {
		s.Expected = env.Rates.round(scaled(v, 1, int64(h.Rhythm.Count)))
		if h.Kind != customer.HabitIncome {
			days := h.Rhythm.MeanGap() * float64(h.Rhythm.Count)
			s.AtRisk = env.Rates.round(scaled(v, int64(d.horizonOf(&h.Rhythm)), max(int64(math.Round(days)), 1)))
		}
	}
	if days := d.horizonOf(&h.Rhythm); days != int(d.horizon/Day) {
		s.HorizonDays = days
	}
	return append(out, s), since + d.lapse
}

// horizonOf is for how many days an alert says that nothing will be paid: as long as is configured, and at least half as long again as the mean gap, because what is paid once a year says nothing within two
// months.
func (d *partialLapse) horizonOf(h *customer.Rhythm) int {
	const gaps = 1.5
	return max(int(d.horizon/Day), int(math.Ceil(gaps*h.MeanGap())))
}

// goesOnOtherwise reports whether the customer does other things as before: on days since the habit was last seen, and lately.
func (d *partialLapse) goesOnOtherwise(r *customer.Record, env *Env, h *customer.Habit, today int32) bool {
	last, income := int32(h.Rhythm.Last), h.Kind == customer.HabitIncome
	recent := int32(14)
	if all := r.Rhythms(); all != nil {
		recent = max(int32(population.Patience(&all.Activity)), 7)
	}
	if today-env.Calendar.DayOf(r, r.LastActivity) > recent {
		return false
	}
	return d.daysSince(r, last, income) >= activeBeside
}

// daysSince is on how many days after one there were purchases, or any activity; it stops to count where there are enough.
func (d *partialLapse) daysSince(r *customer.Record, last int32, uses bool) int {
	n, day := 0, int32(-1)
	for i := len(r.Spend) - 1; i >= 0 && r.Spend[i].Day() > last && n < activeBeside; i-- {
		if r.Spend[i].Purchases != 0 && r.Spend[i].Day() != day {
			n, day = n+1, r.Spend[i].Day()
		}
	}
	if !uses || n >= activeBeside {
		return n
	}
	used := 0
	for i := len(r.Usage) - 1; i >= 0 && r.Usage[i].Day > last && used < activeBeside; i-- {
		used++
	}
	return max(n, used)
}

// goesOn judges a customer whose alert is open.
func (d *partialLapse) goesOn(r *customer.Record, env *Env, l *customer.Lifecycle, out []Signal) ([]Signal, int64) {
	s := Signal{
		Detector: PartialLapseName, State: Clear, At: max(env.Now, l.FiredAt), Since: l.Since, Cause: l.Cause, Day: l.Day, Expected: l.Expected, AtRisk: l.AtRisk,
	}
	h := d.habit(r, l.Cause)
	switch silent, at := d.silent(r, env, out); {
	case r.Cancelled != 0:
		s.Reason = Churned
	case h == nil || int32(h.Rhythm.First) > l.Day: // another took its place
		s.Reason = Expired
	case int32(h.Rhythm.Last) > l.Day && int32(h.Rhythm.Last) < env.Calendar.DayOf(r, l.FiredAt):
		s.Reason = CorrectedByLateData
	case int32(h.Rhythm.Last) > l.Day:
		s.Reason = Recovered
	case silent:
		s.Reason, s.At = Expired, max(at, l.ChangedAt, l.FiredAt)
	case env.Now >= l.Since+d.lapse:
		s.Reason, s.At = Expired, max(l.Since+d.lapse, l.FiredAt)
	default:
		s.State, s.Severity, s.At = Firing, Warning, env.Now
		return append(out, s), max(l.Since+d.lapse, l.FiredAt)
	}
	was := len(out)
	out, next := d.begins(r, env, out)
	if len(out) != was { // another habit has stopped too: it is told next
		out, next = out[:was], env.Now
	}
	return append(out, s), next
}

// habit is the one at the place that a cause names, nil if there is none.
func (d *partialLapse) habit(r *customer.Record, cause uint8) *customer.Habit {
	all := r.Habits()
	if i := int(cause) - 1; i >= 0 && i < len(all) && all[i].Kind != 0 {
		return &all[i]
	}
	return nil
}

// Explain writes the habit's own rhythm, and that the customer goes on.
func (d *partialLapse) Explain(r *customer.Record, env *Env, sig *Signal, to *Object) {
	to.Time("last_activity", r.LastActivity)
	h := d.habit(r, sig.Cause)
	if h == nil || int32(h.Rhythm.First) > sig.Day {
		return
	}
	to.Text("kind", h.Kind.String())
	to.TextIf("name", h.Name)
	to.Date("last_day", int32(h.Rhythm.Last))
	to.Int("days_paid", int64(h.Rhythm.Count))
	to.Number("mean_gap_days", h.Rhythm.MeanGap(), 1)
	to.Int("longest_gap_days", int64(h.Rhythm.LongestGap()))
	if h.Kind != customer.HabitIncome {
		to.Int("share_percent", int64(d.share(r, h)))
	}
	if sig.Expected != 0 {
		to.Money("usual_amount", sig.Expected)
	}
	if sig.State == Clear {
		return
	}
	to.Int("silent_days", int64(env.Calendar.DayOf(r, sig.At)-1-int32(h.Rhythm.Last)))
	to.Int("patience_days", int64(d.patience(&h.Rhythm)))
	to.Number("false_alarms", d.cfg.FalseAlarms, 3)
	to.Int("foretold_days", int64(d.horizonOf(&h.Rhythm)))
	explainRates(r, env.Rates, to)
}

// Summarize tells what has stopped, and that the rest has not.
func (d *partialLapse) Summarize(dst []byte, r *customer.Record, env *Env, sig *Signal) []byte {
	h := d.habit(r, sig.Cause)
	if sig.State == Clear {
		switch {
		case sig.Reason == Churned:
			return append(dst, "Cancelled the subscription: counted as gone."...)
		case sig.Reason == CorrectedByLateData:
			return append(dst, "Was paid in time: a record that came late shows it."...)
		case sig.Reason == Recovered && h != nil:
			dst = named(append(dst, "Paid again"...), h, " for ")
			return append(appendSpan(append(dst, ", after "...), sig.At-sig.Since), '.')
		case r.Lapsed || r.Lifecycle(SilenceName, "") >= 0:
			return append(dst, "Does nothing at all any more."...)
		}
		return append(dst, "Has given it up: no news any more."...)
	}
	if h == nil {
		return append(dst, "Something that was paid again and again is not any more."...)
	}
	what, rest := "No payment", "; the customer still buys other things."
	if h.Kind == customer.HabitIncome {
		what, rest = "No income", "; the account is still used."
	}
	dst = named(append(dst, what...), h, " for ")
	dst = appendDate(append(dst, " since "...), int64(sig.Day))
	dst = appendSpan(append(dst, ", for "...), sig.At-sig.Since)
	dst = append(dst, "; usually one every "...)
	dst = appendDays(dst, int64(math.Round(max(h.Rhythm.MeanGap(), 1))))
	return append(dst, rest...)
}

// named appends what a habit is called, behind a word.
func named(dst []byte, h *customer.Habit, word string) []byte {
	switch {
	case h.Kind == customer.HabitIncome && h.Name != "":
		return append(append(append(dst, " ("...), h.Name...), ')')
	case h.Name != "":
		return append(append(dst, word...), h.Name...)
	case h.Kind == customer.HabitRecurring:
		return append(dst, " of the series"...)
	}
	return dst
}
