package detectors

import (
	"ebb/state/customer"
	"ebb/stream/event"
)

// SpendDropName is the name of the detector of customers that are still active and spend far less than they used to.
const SpendDropName = "spend_drop"

// SpendDropConfig holds the numbers of spend_drop.
//
// By the method model it is a sequential test of each payment against what the customer is used to, how often and how much: it fires once the evidence for a drop is
// such that customers whose spend does not change would give no more than FalseAlarms of them a year, the baseline's mean week reaches MinWeekly, and
// spend since the drop began is at least LeastFallPercent below the usual. It ends when the evidence is gone and recent spend is no further below
// the usual than that.
//
// By the method plain it is looked at when the customer does something. With d the local day of that, the recent window is the RecentDays days
// before d and the baseline the BaselineDays days before those. It fires when the customer is known for at least
// MinHistoryDays, the baseline's mean week reaches MinWeekly, and recent spend a day is below FiresBelowPercent of the
// baseline's; it ends when recent spend a day is at least RecoversAtPercent of it again.
type SpendDropConfig struct {
	Enabled              bool    `yaml:"enabled"`
	Method               string  `yaml:"method" enum:"plain|model"`
	FalseAlarms          float64 `yaml:"false_alarms"`           // 0.01 to 10 per customer and year
	LeastFallPercent     int     `yaml:"least_fall_percent"`     // 10 to 90
	CriticalAtRisk       Amount  `yaml:"critical_at_risk"`       // 0 (never) or more, reporting currency
	RecentDays           int     `yaml:"recent_days"`            // 1 to 60
	BaselineDays         int     `yaml:"baseline_days"`          // 7 to 360; with RecentDays less than the kept days
	MinHistoryDays       int     `yaml:"min_history_days"`       // 0 to 3660
	MinWeekly            Amount  `yaml:"min_weekly"`             // 0 or more, reporting currency a week
	FiresBelowPercent    int     `yaml:"fires_below_percent"`    // 1 to 99
	RecoversAtPercent    int     `yaml:"recovers_at_percent"`    // FiresBelowPercent to 1000
	CriticalBelowPercent int     `yaml:"critical_below_percent"` // 0 (never) to FiresBelowPercent
}

// DefaultSpendDrop returns, for the method model, one false alarm in 67 customer-years, which is one or two a month among 1000 customers, and a fall of 30 %; for
// plain, 35 days against the 55 before and 40 %. The rule that most companies use, 7 days against 28 and 50 %, fires for everybody who does not buy every week: 35 days hold a bill of whoever pays monthly, and
// on the crowd of ebb demo five times as many alerts are right.
func DefaultSpendDrop() SpendDropConfig {
	return SpendDropConfig{
		Enabled: true, Method: Model, FalseAlarms: 0.015, LeastFallPercent: 30, RecentDays: 35, BaselineDays: 55, MinHistoryDays: 70,
		MinWeekly: Amount(10 * event.MoneyUnit), FiresBelowPercent: 40, RecoversAtPercent: 60, CriticalBelowPercent: 15,
	}
}

func (c *SpendDropConfig) validate(f *faults, keptDays int) {
	const at = SpendDropName + "."
	f.method(at+"method", c.Method, Plain, Model)
	f.share(at+"false_alarms", c.FalseAlarms, 0.01, 10)
	f.number(at+"least_fall_percent", c.LeastFallPercent, 10, 90)
	if c.CriticalAtRisk < 0 {
		f.add(at+"critical_at_risk", "is %s; allowed is 0 (never) or more", c.CriticalAtRisk)
	}
	f.number(at+"recent_days", c.RecentDays, 1, 60)
	f.number(at+"baseline_days", c.BaselineDays, 7, 360)
	if c.RecentDays+c.BaselineDays >= keptDays {
		f.add(at+"baseline_days", "%d and %d recent days do not fit into the %d days that are kept; allowed is together at most %d",
			c.BaselineDays, c.RecentDays, keptDays, keptDays-1)
	}
	f.number(at+"min_history_days", c.MinHistoryDays, 0, 3660)
	if c.MinWeekly < 0 {
		f.add(at+"min_weekly", "is %s; allowed is 0 or more", c.MinWeekly)
	}
	f.number(at+"fires_below_percent", c.FiresBelowPercent, 1, 99)
	f.number(at+"recovers_at_percent", c.RecoversAtPercent, c.FiresBelowPercent, 1000)
	f.number(at+"critical_below_percent", c.CriticalBelowPercent, 0, c.FiresBelowPercent)
}

// newSpendDrop makes the detector by its method.
func newSpendDrop(cfg SpendDropConfig, horizon, lapse Duration) Detector {
	if cfg.Method == Plain {
		return newPlainSpendDrop(cfg, horizon, lapse)
	}
	return &drop{
		name: SpendDropName, feed: event.Payments, falseAlarms: cfg.FalseAlarms, least: customer.LeastThreshold(cfg.FalseAlarms), leastFall: float64(cfg.LeastFallPercent) / 100,
		critical: float64(cfg.CriticalBelowPercent) / 100, criticalAtRisk: event.Money(cfg.CriticalAtRisk), minWeekly: event.Money(cfg.MinWeekly),
		minHistory: int32(cfg.MinHistoryDays), horizon: horizon, lapse: lapse.Ms(),
	}
}
