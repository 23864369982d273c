package customer

import (
	"errors"
	"fmt"
)

// Params are the sizes of a record, the same for all customers of a task. Calendar is not safe for concurrent use, so each
// task has its own.
type Params struct {
	// KeptDays is the length of the windows in local days, MinKeptDays to MaxKeptDays.
	KeptDays int
	// MaxSeen is how many event ids are remembered, 0 to MaxSeen; SeenFor for how long in milliseconds of event time.
	MaxSeen int
	SeenFor int64
	// MaxComplaints is how many complaints are followed at a time, 1 to MaxComplaints.
	MaxComplaints int
	// MaxLifecycles is how many alerts may be open at a time, 4 to MaxLifecycles.
	MaxLifecycles int
	// MaxCurrencies is how many currencies the windows hold, 1 to MaxCurrencies.
	MaxCurrencies int
	// Horizon is the time in days that the lapse model looks ahead, 1 to MaxHorizon: the half-lives of the rhythms follow from it. 0: no rhythms are kept.
	Horizon int
	// Drop is what the drop tests need; nil: none are kept.
	Drop *DropParams
	// Bills: what customers owe is followed.
	Bills bool
	// Habits: the rhythms of what customers pay for, and are paid, are followed.
	Habits bool
	// Accounts: balances are kept.
	Accounts bool
	// Tiers are the tiers of customers, the best first; nil: who moves down is not followed.
	Tiers []string
	// Calendar tells local days.
	Calendar *Calendar
}

// The limits of Params. Together they keep a stored record below MaxEncoded.
const (
	MinKeptDays   = 91
	MaxKeptDays   = 400
	MaxSeen       = 256
	MaxComplaints = 128
	MaxLifecycles = 160
	MaxCurrencies = 8
	MaxHorizon    = 3660
)

// DefaultParams returns the documented defaults: 91 days, 64 ids for 48 h, 64 complaints, 80 alerts, 8 currencies, no rhythms.
func DefaultParams(c *Calendar) Params {
	return Params{
		KeptDays: MinKeptDays, MaxSeen: 64, SeenFor: 48 * hourMs, MaxComplaints: 64, MaxLifecycles: 80,
		MaxCurrencies: MaxCurrencies, Calendar: c,
	}
}

// Validate names the first parameter that is out of its range.
func (p *Params) Validate() error {
	for _, c := range []struct {
		name          string
		v, low, upper int
	}{
		{"kept days", p.KeptDays, MinKeptDays, MaxKeptDays},
		{"remembered ids", p.MaxSeen, 0, MaxSeen},
		{"complaints", p.MaxComplaints, 1, MaxComplaints},
		{"lifecycles", p.MaxLifecycles, 4, MaxLifecycles},
		{"currencies", p.MaxCurrencies, 1, MaxCurrencies},
		{"horizon", p.Horizon, 0, MaxHorizon},
	} {
		if c.v < c.low || c.v > c.upper {
			return fmt.Errorf("customer record: %s is %d, allowed is %d to %d", c.name, c.v, c.low, c.upper)
		}
	}
	if p.SeenFor < 0 {
		return fmt.Errorf("customer record: ids are remembered for %d ms, allowed is 0 or more", p.SeenFor)
	}
	if p.Calendar == nil {
		return errors.New("customer record: no calendar")
	}
	return nil
}

const (
	hourMs = 3_600_000
	dayMs  = 24 * hourMs
)

// Outcome says what applying an event did. It is a set: an event may be applied and cost another something. Applied alone is
// the empty set.
type Outcome uint32

// The outcomes.
const (
	// Duplicate: an event of this id was applied before; nothing was changed. It stands alone.
	Duplicate Outcome = 1 << iota
	// TooOld: the event, or a part of an aggregate, belongs to a day that has left the windows.
	TooOld
	// SumOverflow: a sum of the windows would overflow; nothing was changed. It stands alone.
	SumOverflow
	// CurrencyOverflow: no room for another currency; the payment is activity, but not in the spend.
	CurrencyOverflow
	// SeenOverflow: an id was forgotten before its time.
	SeenOverflow
	// ComplaintOverflow: the oldest complaint was forgotten to make room.
	ComplaintOverflow
	// ComplaintUnknown: a step of a complaint that is not open; a resolution that never saw its opening is one.
	ComplaintUnknown
	// ComplaintRepeated: a complaint that is open was opened again.
	ComplaintRepeated
	// StaleProfile: a profile older than the one that is stored.
	StaleProfile
	// UnknownZone: the profile names a time zone that is not known; the default zone is used.
	UnknownZone
	// NotForRecords: the event says nothing about the record (acts of people).
	NotForRecords
	// Merged: a profile of a customer who was merged into another; it was left out.
	Merged
	// MergedAgain: a merge that took place before.
	MergedAgain
	// MergeLoop: a merge into somebody who had been merged into this one; the older merge gave way.
	MergeLoop
	// AlertNotOpen: an act on an alert that is over, or that nobody knows.
	AlertNotOpen
	// ActRepeated: an act that says what is so already.
	ActRepeated

	// Applied is the plain outcome.
	Applied Outcome = 0

	numOutcomes = 16
)

var outcomeNames = [numOutcomes]string{
	"duplicate", "too_old", "sum_overflow", "currency_overflow", "seen_overflow", "complaint_overflow", "complaint_unknown",
	"complaint_repeated", "stale_profile", "unknown_zone", "not_for_records", "merged", "merged_again", "merge_loop",
	"alert_not_open", "act_repeated",
}

// OutcomeNames returns the names of the single outcomes for metric labels: name i belongs to bit 1<<i.
func OutcomeNames() []string { return outcomeNames[:] }

// Has reports whether all of want are set.
func (o Outcome) Has(want Outcome) bool { return o&want == want }

// String returns the names of the outcomes, separated by commas, or "applied".
func (o Outcome) String() string {
	s := ""
	for i, n := range outcomeNames {
		if o&(1<<i) == 0 {
			continue
		}
		if s != "" {
			s += ","
		}
		s += n
	}
	if s == "" {
		return "applied"
	}
	return s
}
