package detectors

import (
	"math"

	"ebb/state/customer"
	"ebb/stream/event"
)

// OutflowName is the name of the detector of customers who move their money away while the account stays open.
const OutflowName = "outflow"

// OutflowConfig holds the numbers of outflow.
//
// It is looked at when a week begins. It fires when the highest balance of the last RecentWeeks is at least FellPercent below the usual, which is the mean of the
// highest balances of the BaselineWeeks before them, and less than DepositsBelowPercent of what used to come in comes in. The highest balance of five weeks
// holds a pay day, so that living from one to the next is no outflow; and whoever has paid one big bill goes on being paid. It ends when the
// balance is back at half of what was usual.
//
// It is off unless it is asked for: a balance runs down for many reasons, and beside the other detectors it would tell of more customers who stay than all
// of them together may.
type OutflowConfig struct {
	Enabled bool `yaml:"enabled"`
	// The weeks that are judged, 2 to 8; fewer than five need not hold a pay day.
	RecentWeeks int `yaml:"recent_weeks"`
	// The weeks before them that say what is usual, 8 to 16.
	BaselineWeeks int `yaml:"baseline_weeks"`
	// How far below the usual the highest balance must lie, in percent, 20 to 99.
	FellPercent int `yaml:"fell_percent"`
	// What comes in must be below so much of the usual, in percent, 0 to 100. 100: deposits do not matter.
	DepositsBelowPercent int `yaml:"deposits_below_percent"`
	// What the usual balance must be at least, 0 or more, in the reporting currency.
	MinBalance Amount `yaml:"min_balance"`
	// At how much less than the usual it is critical, in percent, FellPercent to 100. 0: never.
	CriticalFellPercent int `yaml:"critical_fell_percent"`
}

// DefaultOutflow returns the documented defaults. On the accounts of a bank that nobody left, berka_1993_94, they give 1.7 alerts in 1000 customer-months: of nine
// balances that fell so far four came back within the year. spend_drop gives 1.9 more.
func DefaultOutflow() OutflowConfig {
	return OutflowConfig{
		RecentWeeks: 5, BaselineWeeks: 13, FellPercent: 85, DepositsBelowPercent: 50, MinBalance: Amount(100 * event.MoneyUnit),
		CriticalFellPercent: 95,
	}
}

func (c *OutflowConfig) validate(f *faults) {
	const at = OutflowName + "."
	f.number(at+"recent_weeks", c.RecentWeeks, 2, 8)
	f.number(at+"baseline_weeks", c.BaselineWeeks, leastBaselineWeeks, 16)
	f.number(at+"fell_percent", c.FellPercent, 20, 99)
	f.number(at+"deposits_below_percent", c.DepositsBelowPercent, 0, 100)
	if c.MinBalance < 0 {
		f.add(at+"min_balance", "is %s; allowed is 0 or more", c.MinBalance)
	}
	if c.CriticalFellPercent != 0 {
		f.number(at+"critical_fell_percent", c.CriticalFellPercent, c.FellPercent, 100)
	}
}

const (
	// leastBaselineWeeks is how many weeks must be known at least before those that are judged.
	leastBaselineWeeks = 8
	// outflowOver is what the balance must be of the usual again, in percent, for an alert to end.
	outflowOver = 50
)

type outflow struct {
	cfg     OutflowConfig
	horizon Duration
	lapse   int64 // ms
}

func newOutflow(cfg OutflowConfig, horizon, lapse Duration) *outflow {
	return &outflow{cfg: cfg, horizon: horizon, lapse: lapse.Ms()}
}

var _ Detector = (*outflow)(nil)

func (*outflow) Name() string    { return OutflowName }
func (*outflow) Version() string { return "1" }

// ledger is an account by its two windows, in its own currency.
type ledger struct {
	currency    event.Currency
	balance     event.Money // the newest
	peak        event.Money // of the recent weeks and the one that lasts
	usual       event.Money // mean of the highest balances of the weeks before
	in, usualIn event.Money // of the recent weeks, and what is usual for as many
	out         event.Money // of the recent weeks
	usualOut    event.Money
	high        event.Money // of all weeks
	weeks       int         // of the baseline
	from        int32       // first local day of the recent weeks
	low         int32       // first local day since which the balance is as low as is told
}

// ledger sums the weeks of an account as of the beginning of one, and, with begun, of what is known of that one already. It is false where too little is known.
func (d *outflow) ledger(r *customer.Record, week int32, begun bool) (ledger, bool) {
	last, recent := week-1, d.cfg.RecentWeeks
	if begun {
		last, recent = week, recent+1
	}
	a, ok := r.Account(last, recent+d.cfg.BaselineWeeks)
	before := len(a.Weeks) - recent
	if !ok || before < leastBaselineWeeks {
		return ledger{}, false
	}
	x := ledger{currency: a.Currency, balance: a.Balance, peak: math.MinInt64, weeks: before, from: customer.FirstDayOf(last - int32(recent) + 1)}
	for _, w := range a.Weeks[:before] {
		x.usual = add(x.usual, max(w.Peak, 0))
		x.usualIn, x.usualOut = add(x.usualIn, w.In), add(x.usualOut, w.Out)
	}
	for _, w := range a.Weeks[before:] {
		x.peak = max(x.peak, w.Peak)
		x.in, x.out = add(x.in, w.In), add(x.out, w.Out)
	}
	x.usual = scaled(x.usual, 1, int64(before))
	x.usualIn, x.usualOut = scaled(x.usualIn, int64(d.cfg.RecentWeeks), int64(before)), scaled(x.usualOut, int64(d.cfg.RecentWeeks), int64(before))
	first := last - int32(len(a.Weeks)) + 1
	x.low = customer.FirstDayOf(first)
	for i, w := range a.Weeks {
		x.high = max(x.high, w.Peak)
		if !x.below(w.Peak, d.cfg.FellPercent) {
			x.low = customer.FirstDayOf(first + int32(i) + 1)
		}
	}
	return x, true
}

// below reports whether an amount is at least a percentage below the usual.
func (x *ledger) below(m event.Money, percent int) bool {
	return !less(x.usual, int64(100-percent), max(m, 0), 100)
}

// fires tells the condition.
func (d *outflow) fires(env *Env, x *ledger) bool {
	return x.below(x.peak, d.cfg.FellPercent) && d.dries(env, x)
}

// dries tells the condition, but for how far the balance has fallen.
func (d *outflow) dries(env *Env, x *ledger) bool {
	usual, rated := env.Rates.Convert(x.currency, x.usual)
	return rated && x.usual > 0 && usual >= event.Money(d.cfg.MinBalance) &&
		(d.cfg.DepositsBelowPercent == 100 || x.usualIn == 0 || less(x.in, 100, x.usualIn, int64(d.cfg.DepositsBelowPercent)))
}

// Fall says by how many percent the highest balance of the recent weeks lies below the usual, and what is usual in the reporting currency, where all else holds that
// makes an alert of outflow. It is false where something does not, or outflow is switched off.
func (s *Set) Fall(r *customer.Record, env *Env) (percent float64, usual event.Money, ok bool) {
	for _, d := range s.list {
		if d, is := d.(*outflow); is {
			week := customer.WeekOf(env.Calendar.DayOf(r, env.Now))
			if x, known := d.ledger(r, week, true); known && r.Cancelled == 0 && d.dries(env, &x) {
				return 100 - 100*float64(max(x.peak, 0))/float64(x.usual), d.value(env, x.currency, x.usual), true
			}
		}
	}
	return 0, 0, false
}

// Evaluate costs a comparison for whoever has no account.
func (d *outflow) Evaluate(r *customer.Record, env *Env, trigger *event.Event, out []Signal) ([]Signal, int64) {
	open := r.Lifecycle(OutflowName, "")
	week := customer.WeekOf(env.Calendar.DayOf(r, env.Now))
	x, ok := d.ledger(r, week, true)
	switch {
	case open >= 0:
		return d.goesOn(r, env, trigger, &x, ok, &r.Lifecycles[open], out)
	case !ok || r.Cancelled != 0:
		return out, d.waits(r, env, week, ok)
	case less(x.high, int64(100-d.cfg.FellPercent), x.balance, 100):
		return out, 0 // as long as nothing happens the balance is high enough
	}
	begun := env.Calendar.StartOf(r, customer.FirstDayOf(week), env.Now)
	next := d.nextWeek(r, env, week)
	if !d.fires(env, &x) {
		return out, next
	}
	if known := env.KnownUntil[event.Payments]; known < begun {
		return append(out, Signal{Detector: OutflowName, State: Hold, At: begun}), env.again(begun, known)
	}
	if b := r.Blind(event.Payments); b.Since != 0 && (b.Until == 0 || env.Calendar.DayOf(r, b.Last) >= x.from) {
		return out, next // what came in may not have been readable
	}
	s := Signal{
		Detector: OutflowName, State: Firing, At: begun, Since: env.Calendar.StartOf(r, x.low, env.Now), Day: customer.FirstDayOf(week), Severity: Warning,
		Observed: d.value(env, x.currency, x.peak), Expected: d.value(env, x.currency, x.usual),
	}
	s.AtRisk, _ = d.atRisk(r, env, &x)
	if d.cfg.CriticalFellPercent != 0 && x.below(x.peak, d.cfg.CriticalFellPercent) {
		s.Severity = Critical
	}
	return append(out, s), s.At + d.lapse
}

// waits is when to look again at a customer of whom too little is known: when a week more is, if he has an account.
func (d *outflow) waits(r *customer.Record, env *Env, week int32, known bool) int64 {
	if _, has := r.Account(week, 1); !has || known {
		return 0
	}
	return d.nextWeek(r, env, week)
}

func (d *outflow) nextWeek(r *customer.Record, env *Env, week int32) int64 {
	return env.Calendar.StartOf(r, customer.FirstDayOf(week+1), env.Now)
}

// value is an amount in the reporting currency.
func (d *outflow) value(env *Env, c event.Currency, m event.Money) event.Money {
	v, _ := env.Rates.Convert(c, m)
	return env.Rates.round(v)
}

// atRisk is what the customer spent in as long as the horizon before the balance fell, or, where nothing is known of that, the balance that is left: the second result.
func (d *outflow) atRisk(r *customer.Record, env *Env, x *ledger) (event.Money, bool) {
	if spent := baselineOf(r, env.Rates, x.from-1, d.horizon); spent > 0 {
		return spent, false
	}
	return d.value(env, x.currency, max(x.balance, 0)), true
}

// goesOn judges a customer whose alert is open.
func (d *outflow) goesOn(r *customer.Record, env *Env, trigger *event.Event, x *ledger, ok bool, l *customer.Lifecycle, out []Signal) ([]Signal, int64) {
	s := Signal{
		Detector: OutflowName, State: Clear, At: max(env.Now, l.FiredAt), Since: l.Since, Day: l.Day, Severity: Severity(l.Severity),
		Observed: l.Observed, Expected: l.Expected, AtRisk: l.AtRisk,
	}
	ends := l.FiredAt + d.lapse
	switch balance := d.value(env, x.currency, x.balance); {
	case r.Cancelled != 0:
		s.Reason = Churned
	case trigger != nil && trigger.Feed == event.Payments && trigger.Time < l.FiredAt && !d.holds(r, env, l):
		s.Reason = CorrectedByLateData
	case ok && !less(balance, 100, l.Expected, outflowOver):
		s.Reason, s.Observed = Recovered, balance
	case env.Now >= ends:
		if known := env.KnownUntil[event.Payments]; known < ends {
			return append(out, Signal{Detector: OutflowName, State: Hold, At: ends}), env.again(ends, known)
		}
		s.Reason, s.At = Expired, ends
	default:
		s.State, s.At = Firing, env.Now
		return append(out, s), ends
	}
	return append(out, s), 0
}

// holds reports whether an alert would have fired, had all been known that is known now. What has left the windows is taken as it was.
func (d *outflow) holds(r *customer.Record, env *Env, l *customer.Lifecycle) bool {
	x, ok := d.ledger(r, customer.WeekOf(l.Day), false)
	if !ok {
		return true
	}
	return d.fires(env, &x)
}

// Explain writes the balance and what came in, then and now.
func (d *outflow) Explain(r *customer.Record, env *Env, sig *Signal, to *Object) {
	x, ok := d.ledger(r, customer.WeekOf(sig.Day), true)
	to.Text("account_currency", x.currency.String())
	if !ok {
		return
	}
	to.Int("recent_weeks", int64(d.cfg.RecentWeeks))
	to.Int("baseline_weeks", int64(x.weeks))
	to.Money("highest_balance", x.peak)
	to.Money("usual_balance", env.Rates.round(x.usual))
	to.Money("balance_left", x.balance)
	to.Money("deposits", x.in)
	to.Money("usual_deposits", env.Rates.round(x.usualIn))
	to.Money("withdrawals", x.out)
	to.Money("usual_withdrawals", env.Rates.round(x.usualOut))
	to.Int("fell_percent", int64(d.cfg.FellPercent))
	to.Int("deposits_below_percent", int64(d.cfg.DepositsBelowPercent))
	to.Date("low_since", x.low)
	if a, ok := r.Account(customer.WeekOf(sig.Day), d.cfg.RecentWeeks+1+d.cfg.BaselineWeeks); ok {
		peaks := make([]event.Money, len(a.Weeks))
		for i := range a.Weeks {
			peaks[i] = a.Weeks[i].Peak
		}
		to.Moneys("highest_by_week", peaks)
	}
	if sig.State == Firing && sig.AtRisk != 0 {
		at := "spend"
		if _, balance := d.atRisk(r, env, &x); balance {
			at = "balance_left"
		}
		to.Text("at_risk_is", at)
	}
	explainRates(r, env.Rates, to)
}

// Summarize tells the balance and what came in, then and now.
func (d *outflow) Summarize(dst []byte, r *customer.Record, env *Env, sig *Signal) []byte {
	switch {
	case sig.State == Clear && sig.Reason == Churned:
		return append(dst, "Cancelled the subscription: counted as gone."...)
	case sig.State == Clear && sig.Reason == Expired:
		return append(appendSpan(append(dst, "The balance has been low for "...), d.lapse), ": that is the usual from now on."...)
	case sig.State == Clear && sig.Reason == CorrectedByLateData:
		return append(dst, "The money had not gone: a record that came late shows it."...)
	case sig.State == Clear:
		dst = appendMoney(append(dst, "The balance is "...), sig.Observed, env.Rates)
		return append(appendMoney(append(dst, " again; usual were "...), sig.Expected, env.Rates), '.')
	}
	dst = appendMoney(append(dst, "The balance was "...), sig.Observed, env.Rates)
	dst = appendDays(append(dst, " at most in the last "...), int64(7*d.cfg.RecentWeeks))
	dst = appendMoney(append(dst, "; usual were "...), sig.Expected, env.Rates)
	x, ok := d.ledger(r, customer.WeekOf(sig.Day), true)
	if !ok || x.usualIn == 0 {
		return append(dst, '.')
	}
	dst = appendMoney(append(dst, ". Came in: "...), d.value(env, x.currency, x.in), env.Rates)
	return append(appendMoney(append(dst, ", usually "...), d.value(env, x.currency, x.usualIn), env.Rates), '.')
}
