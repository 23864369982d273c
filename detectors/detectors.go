package detectors

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"ebb/detectors/cohorts"
	"ebb/detectors/hours"
	"ebb/detectors/population"
	"ebb/state/customer"
	"ebb/stream/event"
)

// Detector is one rule. Implementations are immutable and may be used by several goroutines, as long as each has its own
// records and Env.
type Detector interface {
	// Name is the detector's name in configuration, alerts and metrics.
	Name() string
	// Version changes with the meaning of the detector, not with its configuration.
	Version() string
	// Evaluate says what is true of r at env.Now. trigger is the event that was just applied, nil for a timer. At most one
	// signal for a subject is appended to out. The second result is when the detector wants to be asked again in event time,
	// 0 for never; it may lie at or before env.Now where a decision just made changed what is due.
	Evaluate(r *customer.Record, env *Env, trigger *event.Event, out []Signal) ([]Signal, int64)
	// Explain writes the numbers that made the decision, so that a person can check it by hand.
	Explain(r *customer.Record, env *Env, sig *Signal, to *Object)
	// Summarize appends the sentence that tells the decision.
	Summarize(dst []byte, r *customer.Record, env *Env, sig *Signal) []byte
}

// Env is what is true of the task when a detector is asked. It belongs to the task's goroutine.
type Env struct {
	// Now is the event time of the decision, in milliseconds.
	Now int64
	// KnownUntil says up to when each feed is complete: the smallest of Now (not the clock: what lies before a triggering
	// event has been applied), the clock less the feed's completeness, the onset of a stall and the onset of blindness.
	KnownUntil [event.NumFeeds]int64
	// Stalls are stretches in which a feed stood still, in any order, and behind them those that are excused for the customer who is judged.
	Stalls []Interval
	// excused is how many of Stalls are the customer's.
	excused int
	// WindowsFrom is the time since which the windows of every customer hold all days, as long as they are kept: it is not 0 once they were made longer, and
	// what lies before it is not known, rather than nothing.
	WindowsFrom int64
	// Calendar tells local days.
	Calendar *customer.Calendar
	// Rates converts to the reporting currency.
	Rates *Rates
	// Population is what is known of all customers by the time of the decision; nil while too few are known.
	Population *population.Model
	// Cohorts are the alerts about cohorts of customers as of the days that are judged by the time of the decision, CohortsDay is the newest of these, and CohortsNext
	// the event time from which the next one counts, ms. nil: no cohorts are watched.
	Cohorts     *cohorts.Standing
	CohortsDay  int32
	CohortsNext int64
	// Misses is how often groups miss their targets; nil: nothing is known of that yet.
	Misses MissRates

	giveUp int64 // how long what a customer owes excuses him, ms; of the detector of that

	drop *customer.DropParams // made when it is asked for
	self *Env                 // for whom
}

// MissRates tells how often complaints miss the target of their resolution. It does not change while a customer is judged.
type MissRates interface {
	// MissRate is the share of those that missed it among the complaints of a group (customer.Hash of its name, 0 for none) that were still open when the
	// early moment of their target had come. It is false while too little is known.
	MissRate(group int64) (float64, bool)
	// Version names what it was learnt from, in evidence.
	Version() string
}

// DropParams is what the drop tests of a record need to know. It follows the Env as it changes.
func (e *Env) DropParams() *customer.DropParams {
	if e.self != e {
		e.self = e
		e.drop = &customer.DropParams{
			Value:   func(c event.Currency, m event.Money) (event.Money, bool) { return e.Rates.Convert(c, m) },
			Elapsed: e.elapsed,
		}
	}
	return e.drop
}

// elapsed is how many days passed for the drop tests from one local day to a later one: not those in which the feed stood still, and, of payments, as many as
// are told by how busy the whole population was. It is above 0.
func (e *Env) elapsed(r *customer.Record, f event.Feed, from, to int32) float64 {
	days := float64(to - from)
	passed := days
	if e.Population != nil && f == event.Payments {
		passed = e.Population.Elapsed(from, to)
	}
	e.Excuse(r) // a record may be changed before its customer is judged
	if len(e.Stalls) != 0 && days > 0 {
		stalled := e.stalledWithin(e.Calendar.StartOf(r, from, e.Now), e.Calendar.StartOf(r, to, e.Now), f)
		passed *= 1 - float64(stalled)/(days*float64(Day.Ms()))
	}
	return max(passed, leastElapsed)
}

// leastElapsed is how many days pass at least between two payments, or uses.
const leastElapsed = 0.25

// Interval is a stretch of one feed, [From, To) in milliseconds of event time.
type Interval struct {
	Feed     event.Feed
	From, To int64
}

// SetStalls says in which stretches a feed stood still, for all customers. Env keeps a copy.
func (e *Env) SetStalls(stalls []Interval) {
	e.Stalls, e.excused = append(e.Stalls[:0], stalls...), 0
}

// Excuse adds the stretches in which r's silence does not count, in place of those of the customer before: because people said so, or because it is known that
// he did not pay and why. They may end in the future.
func (e *Env) Excuse(r *customer.Record) {
	e.Stalls, e.excused = e.Stalls[:len(e.Stalls)-e.excused], 0
	if from, until := r.Held(); until != 0 {
		e.Stalls, e.excused = append(e.Stalls, Interval{event.Usage, from, until}, Interval{event.Payments, from, until}), 2
	}
	if e.giveUp == 0 {
		return
	}
	if b, kept := r.Billing(e.giveUp); kept {
		for _, x := range b.Owed {
			e.Stalls, e.excused = append(e.Stalls, Interval{event.Payments, x.From, x.To}), e.excused+1
		}
	}
}

// Signal is what one detector says of one subject.
type Signal struct {
	Detector string
	Subject  string // complaint id, or "" for the customer as a whole
	State    State
	Reason   Reason   // why it is clear
	At       int64    // event time of the decision
	Since    int64    // when the condition began
	Severity Severity // of a firing one
	Cause    uint8    // the detector's own: which of its conditions holds
	Day      int32    // local day that was judged
	Observed event.Money
	Expected event.Money
	AtRisk   event.Money // in the reporting currency; 0 is not known
	// Probability is that what the signal foretells for the horizon comes true, 0 to 1; 0 for a rule that reckons with none.
	Probability float64
	// HorizonDays is the horizon of this signal, 0 for the configured one.
	HorizonDays int
}

// State is what a signal says.
type State uint8

// The states of a signal.
const (
	// Hold: it cannot be told now; nothing changes.
	Hold State = iota
	// Firing: the condition holds.
	Firing
	// Clear: the condition has ended.
	Clear
)

var stateNames = [...]string{"hold", "firing", "clear"}

func (s State) String() string { return enumName(stateNames[:], uint8(s), "state") }

// Severity is how bad an alert is. Severities compare by <.
type Severity uint8

// The severities.
const (
	SeverityNone Severity = iota
	Info
	Warning
	Critical
)

var severityNames = [...]string{"none", "info", "warning", "critical"}

func (s Severity) String() string { return enumName(severityNames[:], uint8(s), "severity") }

// Severities lists the severities that alerts have, for metric labels.
func Severities() []Severity { return []Severity{Info, Warning, Critical} }

func enumName(names []string, i uint8, what string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%s(%d)", what, i)
}

// Reason is why an alert was resolved. The list is closed, but subscribers must tolerate new ones.
type Reason string

// The reasons.
const (
	Recovered           Reason = "recovered"
	ComplaintResolved   Reason = "complaint_resolved"
	CorrectedByLateData Reason = "corrected_by_late_data"
	Churned             Reason = "churned"
	Expired             Reason = "expired"
	RuleRemoved         Reason = "rule_removed"
	CustomerClosed      Reason = "customer_closed"
	CustomerMerged      Reason = "customer_merged"
	CustomerErased      Reason = "customer_erased"
	ClosedByOutcome     Reason = "closed_by_outcome"
)

// Config holds every number of the detectors.
type Config struct {
	SpendDrop           SpendDropConfig           `yaml:"spend_drop"`
	UsageDrop           UsageDropConfig           `yaml:"usage_drop"`
	Silence             SilenceConfig             `yaml:"silence"`
	ComplaintUnresolved ComplaintUnresolvedConfig `yaml:"complaint_unresolved"`
	Friction            FrictionConfig            `yaml:"friction"`
	PaymentTrouble      PaymentTroubleConfig      `yaml:"payment_trouble"`
	Outflow             OutflowConfig             `yaml:"outflow"`
	PartialLapse        PartialLapseConfig        `yaml:"partial_lapse"`
	TierDrop            TierDropConfig            `yaml:"tier_drop"`

	// Horizon is the time for which money at risk is told. It belongs to the alerts' configuration.
	Horizon Duration `yaml:"-"`
	// LapseAfter is when a customer without activity counts as churned. It belongs to the alerts' configuration.
	LapseAfter Duration `yaml:"-"`
	// Calendars are the calendars by name that working time is told by. They belong to the configuration as a whole.
	Calendars map[string]*hours.Calendar `yaml:"-"`
	// Tiers are the tiers of customers, the best first; none: their order is not known. They belong to the configuration as a whole.
	Tiers []string `yaml:"-"`
	// KeptDays is the length of the record's windows. It belongs to the state's configuration.
	KeptDays int `yaml:"-"`
}

// The methods by which a detector judges.
const (
	// Plain: by limits that are the same for everybody, or a multiple of what is usual for the customer.
	Plain = "plain"
	// Model: by what is to be expected of the customer, and of customers like him, with a stated rate of error.
	Model = "model"
)

// Defaults returns the documented defaults.
func Defaults() Config {
	return Config{
		SpendDrop: DefaultSpendDrop(), UsageDrop: DefaultUsageDrop(), Silence: DefaultSilence(), ComplaintUnresolved: DefaultComplaintUnresolved(), Friction: DefaultFriction(),
		PaymentTrouble: DefaultPaymentTrouble(), Outflow: DefaultOutflow(), PartialLapse: DefaultPartialLapse(), TierDrop: DefaultTierDrop(),
		Horizon: 60 * Day, LapseAfter: 180 * Day, KeptDays: customer.MinKeptDays,
	}
}

// population is what has to be learnt of all customers, nil for nothing.
func (c *Config) population() *population.Config {
	if !c.Silence.Enabled || c.Silence.Method != Model {
		return nil
	}
	return &population.Config{Horizon: int(c.Horizon / Day), Floor: c.Silence.LeastProbability, Budget: c.Silence.BudgetPercent}
}

// FieldError is a configured value that is not allowed. Field is its path below the detectors' configuration.
type FieldError struct {
	Field, Message string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// Validate returns every fault, joined, each a *FieldError.
func (c *Config) Validate() error {
	f := faults{}
	c.SpendDrop.validate(&f, c.KeptDays)
	c.UsageDrop.validate(&f)
	c.Silence.validate(&f, c.LapseAfter)
	c.ComplaintUnresolved.validate(&f, c.Calendars, c.Tiers)
	c.Friction.validate(&f)
	c.PaymentTrouble.validate(&f)
	c.Outflow.validate(&f)
	c.PartialLapse.validate(&f)
	c.TierDrop.validate(&f)
	validateTiers(&f, c.Tiers)
	f.duration("horizon", c.Horizon, Day, 3660*Day)
	f.duration("lapse_after", c.LapseAfter, Day, 3660*Day)
	return errors.Join(f...)
}

// faults collects what is wrong with a configuration.
type faults []error

func (f *faults) add(field, format string, args ...any) {
	*f = append(*f, &FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
}

func (f *faults) number(field string, v, low, high int) {
	if v < low || v > high {
		f.add(field, "is %d; allowed is %d to %d", v, low, high)
	}
}

func (f *faults) method(field, v string, allowed ...string) {
	if !slices.Contains(allowed, v) {
		f.add(field, "is %q; allowed is %s", v, strings.Join(allowed, " or "))
	}
}

func (f *faults) share(field string, v, low, high float64) {
	if !(v >= low && v <= high) {
		hint := ""
		if v >= 2 && v/100 >= low && v/100 <= high {
			hint = fmt.Sprintf(" (%v %% is %v)", v, v/100)
		}
		f.add(field, "is %v; allowed is %v to %v%s", v, low, high, hint)
	}
}

func (f *faults) duration(field string, v, low, high Duration) {
	if v < low || v > high {
		f.add(field, "is %s; allowed is %s to %s", v, low, high)
	}
}

// Set is the list of detectors that are asked about every customer.
type Set struct {
	list       []Detector
	population *population.Config
	kept       int32 // days that the windows of a record hold
}

// NewSet makes the enabled detectors of a configuration. The error is that of Config.Validate.
func NewSet(cfg Config) (*Set, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Set{kept: int32(cfg.KeptDays), population: cfg.population()}
	if cfg.SpendDrop.Enabled {
		s.list = append(s.list, newSpendDrop(cfg.SpendDrop, cfg.Horizon, cfg.LapseAfter))
	}
	if cfg.UsageDrop.Enabled {
		s.list = append(s.list, newUsageDrop(cfg.UsageDrop, cfg.Horizon, cfg.LapseAfter))
	}
	if cfg.Silence.Enabled {
		if cfg.Silence.Method == Model {
			s.list = append(s.list, newSilenceModel(cfg.Silence, cfg.Horizon, cfg.LapseAfter))
		} else {
			s.list = append(s.list, newSilence(cfg.Silence, cfg.Horizon, cfg.LapseAfter))
		}
	}
	if cfg.ComplaintUnresolved.Enabled {
		s.list = append(s.list, newComplaintUnresolved(cfg.ComplaintUnresolved, cfg.Calendars, cfg.Horizon))
	}
	if cfg.Friction.Enabled {
		s.list = append(s.list, newFriction(cfg.Friction, cfg.Horizon))
	}
	if cfg.PaymentTrouble.Enabled {
		s.list = append(s.list, newPaymentTrouble(cfg.PaymentTrouble, cfg.Horizon))
	}
	if cfg.Outflow.Enabled {
		s.list = append(s.list, newOutflow(cfg.Outflow, cfg.Horizon, cfg.LapseAfter))
	}
	if cfg.PartialLapse.Enabled {
		s.list = append(s.list, newPartialLapse(cfg.PartialLapse, cfg.Horizon, cfg.LapseAfter))
	}
	if cfg.TierDrop.Enabled && len(cfg.Tiers) != 0 {
		s.list = append(s.list, newTierDrop(cfg.TierDrop, cfg.Tiers, cfg.Horizon, cfg.LapseAfter))
	}
	return s, nil
}

// Keep sets what the records have to keep for these detectors, as far as an Env tells what that needs to know. The parameters must not be used beyond the Env.
func (s *Set) Keep(p *customer.Params, env *Env) {
	s.Know(env)
	if s.population != nil {
		p.Horizon = s.population.Horizon
	}
	for _, x := range s.list {
		switch d := x.(type) {
		case *drop:
			p.Drop = env.DropParams()
			p.Drop.Usage = p.Drop.Usage || d.feed == event.Usage
		case *paymentTrouble:
			p.Bills = true
		case *outflow:
			p.Accounts = true
		case *partialLapse:
			p.Habits = true
		case *tierDrop:
			p.Tiers = d.tiers
		}
	}
}

// Know tells env what the explanations of these detectors need to know beside what is kept.
func (s *Set) Know(env *Env) {
	if d, ok := s.Detector(PaymentTroubleName).(*paymentTrouble); ok {
		env.giveUp = d.giveUp
	}
}

// rememberer is a detector that keeps in the record that an alert of its began or ended.
type rememberer interface {
	Remember(r *customer.Record, sig *Signal)
}

// Remember tells the detector of a signal that it became an alert, or ended one.
func (s *Set) Remember(r *customer.Record, sig *Signal) {
	if d, ok := s.Detector(sig.Detector).(rememberer); ok {
		d.Remember(r, sig)
	}
}

// Ended tells the detectors that an alert ended by what its detector said at env.Now.
func (s *Set) Ended(r *customer.Record, sig *Signal, env *Env) {
	if sig.Detector != SilenceName {
		return
	}
	for _, x := range s.list {
		if d, ok := x.(*drop); ok {
			d.returned(r, env)
		}
	}
}

// Names lists every detector that can be configured, enabled or not, for metric labels.
func Names() []string {
	return []string{SpendDropName, UsageDropName, SilenceName, ComplaintUnresolvedName, FrictionName, PaymentTroubleName, OutflowName, PartialLapseName, TierDropName}
}

// Population is what has to be learnt of all customers for these detectors, nil for nothing.
func (s *Set) Population() *population.Config { return s.population }

// Names lists the enabled detectors.
func (s *Set) Names() []string {
	names := make([]string, len(s.list))
	for i, d := range s.list {
		names[i] = d.Name()
	}
	return names
}

// Detector returns the enabled detector of a name, or nil.
func (s *Set) Detector(name string) Detector {
	for _, d := range s.list {
		if d.Name() == name {
			return d
		}
	}
	return nil
}

// Evaluate asks all detectors, and returns their signals and the earliest time at which one wants to be asked again, 0 for
// never. A customer whose profile says that the relation has ended is not judged.
func (s *Set) Evaluate(r *customer.Record, env *Env, trigger *event.Event, out []Signal) ([]Signal, int64) {
	env.Excuse(r)
	if r.Closed() {
		return out, 0
	}
	next := int64(0)
	for _, d := range s.list {
		var at int64
		out, at = d.Evaluate(r, env, trigger, out)
		next = earlier(next, at)
	}
	return out, next
}

// earlier is the earlier of two times, of which 0 is never.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Bounds of the time after which something that cannot be told yet is looked at again.
const (
	recheckLeastMs = 60_000
	recheckMostMs  = 15 * 60_000
)

// again is when something due at a time, but known only up to an earlier one, is looked at again: when as much more is known
// as is missing, but never late, because nobody knows when a feed that stands still comes back.
func (e *Env) again(due, known int64) int64 {
	return e.Now + min(max(due-known, recheckLeastMs), recheckMostMs)
}
