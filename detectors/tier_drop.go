package detectors

import (
	"fmt"
	"slices"

	"ebb/state/customer"
	"ebb/stream/event"
)

// TierDropName is the name of the detector of customers who move down, out of one of the best tiers.
const TierDropName = "tier_drop"

// TierDropConfig holds the numbers of tier_drop.
//
// It fires when a customer who was in one of the two best tiers (tiers, by the profiles of the customers feed) has been in a lower one for Wait: one step down is a warning, more are
// critical. It ends when he is back in the tier that he left, or in a better one, or after alerts.lapse_after in the lower one. It does not fire for the first profile of a customer, for
// moves up, for moves below the two best tiers, and for tiers that are not in the list. Without the list of tiers it says nothing. A company that draws its tiers anew is told of everybody who
// comes out lower.
type TierDropConfig struct {
	Enabled bool `yaml:"enabled"`
	// How long the customer must be in the lower tier, so that a mistake that is corrected is no alert, 0s to 90d.
	Wait Duration `yaml:"wait"`
}

// DefaultTierDrop returns the documented defaults: a wrong nightly file is corrected within three days.
func DefaultTierDrop() TierDropConfig { return TierDropConfig{Enabled: true, Wait: 3 * Day} }

func (c *TierDropConfig) validate(f *faults) {
	f.duration(TierDropName+".wait", c.Wait, 0, 90*Day)
}

const (
	// maxTiers bounds the list: metrics tell as many tiers apart.
	maxTiers = 32
	// maxTierName is the longest name, in bytes: as much of it is kept.
	maxTierName = 256
)

// validateTiers checks the list of tiers that all detectors share.
func validateTiers(f *faults, tiers []string) {
	if len(tiers) == 1 || len(tiers) > maxTiers {
		f.add("tiers", "has %d; allowed is none, or 2 to %d", len(tiers), maxTiers)
	}
	for i, name := range tiers {
		switch {
		case name == "" || len(name) > maxTierName:
			f.add(fmt.Sprintf("tiers[%d]", i), "has %d bytes; allowed is 1 to %d", len(name), maxTierName)
		case slices.Index(tiers, name) < i:
			f.add(fmt.Sprintf("tiers[%d]", i), "%q stands twice; allowed is each tier once, the best first", name)
		}
	}
}

type tierDrop struct {
	wait    int64    // ms
	tiers   []string // the best first
	horizon Duration
	lapse   int64 // ms
}

func newTierDrop(cfg TierDropConfig, tiers []string, horizon, lapse Duration) *tierDrop {
	return &tierDrop{wait: cfg.Wait.Ms(), tiers: tiers, horizon: horizon, lapse: lapse.Ms()}
}

var _ Detector = (*tierDrop)(nil)

func (*tierDrop) Name() string    { return TierDropName }
func (*tierDrop) Version() string { return "1" }

// steps is by how many tiers a customer is below the one that he left, 0 if he is not. It is false for one of whom that is not known, because one of the tiers is not in the list.
func (d *tierDrop) steps(r *customer.Record) (int, bool) {
	f, p := r.TierFall(), r.Profile()
	if f == nil || p == nil {
		return 0, false
	}
	from, is := slices.Index(d.tiers, f.From), slices.Index(d.tiers, p.Tier)
	return max(0, is-from), from >= 0 && is >= 0
}

// Evaluate costs a comparison for whoever never moved down.
func (d *tierDrop) Evaluate(r *customer.Record, env *Env, _ *event.Event, out []Signal) ([]Signal, int64) {
	if open := r.Lifecycle(TierDropName, ""); open >= 0 {
		return d.goesOn(r, env, &r.Lifecycles[open], out)
	}
	steps, known := d.steps(r)
	if !known || steps == 0 || r.First == 0 || r.Lapsed || r.Cancelled != 0 {
		return out, 0
	}
	f := r.TierFall()
	due := f.At + d.wait
	switch {
	case env.Now < due:
		return out, due
	case env.Now >= due+d.lapse: // nothing was known of the customer so far: no news
		return out, 0
	}
	s := Signal{Detector: TierDropName, State: Firing, At: due, Since: f.At, Severity: severityOf(steps), Day: env.Calendar.DayOf(r, f.At)}
	s.AtRisk = d.expected(r, env, s.Day)
	return append(out, s), due + d.lapse
}

// severityOf is critical for a fall past a tier.
func severityOf(steps int) Severity {
	if steps > 1 {
		return Critical
	}
	return Warning
}

// expected is what the customer would spend in the horizon by what was usual before a local day.
func (d *tierDrop) expected(r *customer.Record, env *Env, day int32) event.Money {
	from, ok := reference(r, env, day-1)
	if !ok {
		return 0
	}
	_, spent := spendOf(r, env.Rates, from, from, day)
	return env.Rates.round(max(0, scaled(spent, d.horizon.Ms(), int64(day-from)*Day.Ms())))
}

// goesOn judges a customer whose alert is open.
func (d *tierDrop) goesOn(r *customer.Record, env *Env, l *customer.Lifecycle, out []Signal) ([]Signal, int64) {
	s := Signal{Detector: TierDropName, State: Clear, At: max(env.Now, l.FiredAt), Since: l.Since, Day: l.Day, AtRisk: l.AtRisk}
	steps, known := d.steps(r)
	ends := l.FiredAt + d.lapse
	switch {
	case r.Cancelled != 0:
		s.Reason = Churned
	case known && steps == 0:
		s.Reason, s.At = Recovered, max(r.ProfileAt(), l.FiredAt)
	case env.Now >= ends:
		s.Reason, s.At = Expired, ends
	case !known: // his tier is not told any more, or is not in the list: it may be again
		return out, ends
	default:
		s.State, s.Severity, s.At = Firing, severityOf(steps), max(r.ProfileAt(), l.FiredAt)
		return append(out, s), ends
	}
	return append(out, s), 0
}

// Remember keeps in the record that an alert is over: what a person closed may be told again, as every condition that still holds.
func (*tierDrop) Remember(r *customer.Record, sig *Signal) {
	if sig.State == Clear && sig.Reason != ClosedByOutcome {
		r.EndTierFall()
	}
}

// Explain writes both tiers, and what the customer spent before he moved and since.
func (d *tierDrop) Explain(r *customer.Record, env *Env, sig *Signal, to *Object) {
	if f := r.TierFall(); f != nil {
		to.Text("from_tier", f.From)
	}
	if p := r.Profile(); p != nil {
		to.TextIf("to_tier", p.Tier)
	}
	to.Time("moved", sig.Since)
	if steps, known := d.steps(r); known && steps > 0 {
		to.Int("steps", int64(steps))
	}
	to.Texts("tiers", d.tiers)
	to.Duration("wait", d.wait)
	if from, ok := reference(r, env, sig.Day-1); ok {
		before, since := spendOf(r, env.Rates, from, sig.Day, env.Calendar.DayOf(r, sig.At)+1)
		to.Money("spent_before", before)
		to.Int("days_before", int64(sig.Day-from))
		to.Money("spent_since", since)
	}
	to.TimeIf("last_activity", r.LastActivity)
	explainRates(r, env.Rates, to)
}

// Summarize tells from which tier to which.
func (d *tierDrop) Summarize(dst []byte, r *customer.Record, env *Env, sig *Signal) []byte {
	tier := ""
	if p := r.Profile(); p != nil {
		tier = p.Tier
	}
	switch {
	case sig.State == Clear && sig.Reason == Churned:
		return append(dst, "Cancelled the subscription: counted as gone."...)
	case sig.State == Clear && sig.Reason == Expired:
		dst = appendSpan(append(dst, "Has been in a lower tier for "...), d.lapse)
		return append(dst, ": that is the usual from now on."...)
	case sig.State == Clear:
		dst = append(append(dst, "Is in the tier "...), tier...)
		return append(appendSpan(append(dst, " again, after "...), sig.At-sig.Since), '.')
	}
	dst = append(append(dst, "Moved down to "...), tier...)
	if f := r.TierFall(); f != nil {
		dst = append(append(dst, "; was "...), f.From...)
		dst = appendDate(append(dst, " until "...), int64(sig.Day))
	}
	if from, ok := reference(r, env, sig.Day-1); ok {
		if before, _ := spendOf(r, env.Rates, from, sig.Day, sig.Day); before > 0 {
			dst = appendMoney(append(dst, " and spent "...), before, env.Rates)
			dst = appendDays(append(dst, " in the "...), int64(sig.Day-from))
			dst = append(dst, " before"...)
		}
	}
	return append(dst, '.')
}
