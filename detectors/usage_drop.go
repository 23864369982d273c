package detectors

import (
	"ebb/state/customer"
	"ebb/stream/event"
)

// UsageDropName is the name of the detector of customers that still use the product, and far less than they used to.
const UsageDropName = "usage_drop"

// UsageDropConfig holds the numbers of usage_drop: the test of spend_drop by the method model, on how often a customer uses the product and how much. What
// counts on a day is the quantity, and the number of uses where they have none.
//
// It is off unless it is asked for: how much people use something varies with their work and their holidays far more than what they pay, and alerts for it are rarely
// worth a call. It costs about 50 bytes a customer.
type UsageDropConfig struct {
	Enabled              bool    `yaml:"enabled"`
	FalseAlarms          float64 `yaml:"false_alarms"`           // 0.01 to 10 per customer and year
	LeastFallPercent     int     `yaml:"least_fall_percent"`     // 10 to 90
	MinHistoryDays       int     `yaml:"min_history_days"`       // 0 to 3660
	CriticalBelowPercent int     `yaml:"critical_below_percent"` // 0 (never) to 90: what is left of the usual
}

// DefaultUsageDrop returns the numbers of spend_drop, and a fall by half.
func DefaultUsageDrop() UsageDropConfig {
	d := DefaultSpendDrop()
	return UsageDropConfig{FalseAlarms: d.FalseAlarms, LeastFallPercent: 50, MinHistoryDays: d.MinHistoryDays}
}

func (c *UsageDropConfig) validate(f *faults) {
	const at = UsageDropName + "."
	f.share(at+"false_alarms", c.FalseAlarms, 0.01, 10)
	f.number(at+"least_fall_percent", c.LeastFallPercent, 10, 90)
	f.number(at+"min_history_days", c.MinHistoryDays, 0, 3660)
	f.number(at+"critical_below_percent", c.CriticalBelowPercent, 0, 90)
}

func newUsageDrop(cfg UsageDropConfig, horizon, lapse Duration) Detector {
	return &drop{
		name: UsageDropName, feed: event.Usage, falseAlarms: cfg.FalseAlarms, least: customer.LeastThreshold(cfg.FalseAlarms), leastFall: float64(cfg.LeastFallPercent) / 100,
		critical: float64(cfg.CriticalBelowPercent) / 100, minHistory: int32(cfg.MinHistoryDays), horizon: horizon, lapse: lapse.Ms(),
	}
}
