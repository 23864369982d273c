package backtest

import "ebb/stream/event"

// Format is the version of the report's JSON. It changes when a member changes its meaning or goes.
const Format = 1

// Report is what a backtest found. Members that are not known are absent, never zero. Shares are 0 to 1, amounts are in the reporting
// currency, days are of 24 hours.
type Report struct {
	Format      int           `json:"format"`
	History     HistoryReport `json:"history"`
	Config      string        `json:"config,omitempty"` // hash of the configuration
	HorizonDays int           `json:"horizon_days"`
	Currency    string        `json:"currency"`
	// JudgedFrom is the first day whose alerts and departures are judged: before, ebb is learning.
	JudgedFrom string `json:"judged_from"`
	// Activity is what ends a silence: "purchase", or "any event" where payments do not make more than half of the records, or "none" in
	// a history of complaints alone.
	Activity string `json:"activity"`
	// Tiers says where tiers come from: "profile", or "thirds by spend", "thirds by activity".
	Tiers string `json:"tiers"`
	// ActiveMonths are the months of customers with at least three active days, up to one horizon after the last: what rates are told by.
	ActiveMonths float64        `json:"active_customer_months"`
	Lapses       LapseReport    `json:"lapses"`
	Methods      []MethodReport `json:"methods"`
	Migration    *Migration     `json:"migration,omitempty"` // absent where hardly anybody spends, or the history is too short
	Model        *ModelReport   `json:"model,omitempty"`     // absent while too few customers are known, or none of the rules uses it
	Outflow      *OutflowReport `json:"outflow,omitempty"`   // absent where no record names a balance
	Cohorts      *CohortReport  `json:"cohorts,omitempty"`   // absent where the configuration switches them off
}

// HistoryReport is what was read.
type HistoryReport struct {
	From      string         `json:"from"` // date, UTC
	To        string         `json:"to"`
	Events    int            `json:"events"`
	Customers int            `json:"customers"`
	Feeds     map[string]int `json:"feeds"`
	Types     map[string]int `json:"types"`                                // events by feed and type of the contract
	Notes     int            `json:"complaints_of_unknown_type,omitempty"` // taken as notes
	// Thousands are amounts that may have been read a thousand times too small; absent where none look so.
	Thousands *ThousandsReport `json:"amounts_like_thousands,omitempty"`
	Ignored   int              `json:"ignored,omitempty"`
	Outside   int              `json:"outside_of_time,omitempty"` // events before --from, or from --until on
	Acts      int              `json:"acts_not_carried_out,omitempty"`
	Duplicate int              `json:"duplicates,omitempty"`
	Refused   int              `json:"refused,omitempty"`
	Bad       int              `json:"bad_rows"`
	BadBy     map[string]int   `json:"bad_rows_by_reason,omitempty"`
	BadRows   []BadRow         `json:"first_bad_rows,omitempty"`
}

// ThousandsReport is about amounts of tables whose points were read as those before decimals, and look throughout as if they stood between thousands.
type ThousandsReport struct {
	Columns []string `json:"columns"`
	Amounts int      `json:"amounts"`
	Like    int      `json:"with_three_digits_behind_a_point"` // of them; the others have no point
	Example string   `json:"example"`                          // one of them, as it stands there
}

// LapseReport is who left, by the history itself.
type LapseReport struct {
	Lapses int `json:"lapses"` // silences of a horizon or more, after at least three active days
	Stated int `json:"stated"` // of them with a cancelled subscription: said, so that no alert is due
	// Customers who left, once or more often, and Returned, departures after which there was activity again.
	Customers int         `json:"customers"`
	Returned  int         `json:"returned"`
	Money     event.Money `json:"-"`
	Spend     string      `json:"spend"` // of the horizon before the last activity, of those who did not say so
}

// Learning is how alerts did while ebb was learning.
type Learning struct {
	Alerts  int `json:"alerts"`
	FewDays int `json:"of_customers_with_few_days,omitempty"` // of those that count there
	Right   int `json:"right"`
	Wrong   int `json:"wrong"`
	Lapses  int `json:"lapses"`
	Found   int `json:"found"`
}

// MethodReport is what one set of rules would have done.
type MethodReport struct {
	Name      string            `json:"name"`
	Detectors []DetectorReport  `json:"detectors"`
	Weeks     []Week            `json:"weeks"`
	Rules     map[string]string `json:"rules,omitempty"` // method by detector
}

// HeldBack is what became of alerts that nobody was told of while one about a cohort of the customer was open, since ebb is not only learning.
type HeldBack struct {
	Alerts    int `json:"alerts"`
	ToldLater int `json:"told_later"` // of them, when the cohort's alert was over: they count with the others, from that time on
	Right     int `json:"right"`      // of all that were held back
	Wrong     int `json:"wrong"`
	Undecided int `json:"undecided"`
}

// Week is how many alerts were told in the seven days from a date on.
type Week struct {
	From   string         `json:"from"`
	Alerts map[string]int `json:"alerts"`
}

// DetectorReport is how one detector did.
type DetectorReport struct {
	Detector string `json:"detector"`
	Score
	Tiers []TierReport `json:"by_tier,omitempty"`
}

// TierReport is how a detector did with one tier.
type TierReport struct {
	Tier         string  `json:"tier"`
	ActiveMonths float64 `json:"active_customer_months"`
	Score
}

// Score is how alerts did.
type Score struct {
	// Alerts are those that were told by themselves, Together those that were told within another alert of the customer only. The verdicts and the recall count both.
	Alerts      int      `json:"alerts"`
	Together    int      `json:"told_within_another,omitempty"`
	PerWeek     float64  `json:"per_week"`
	PerThousand *float64 `json:"per_1000_customer_months,omitempty"`

	// FewDays are alerts of customers with less than three active days: nothing can be said of their rhythm, so they are not judged.
	FewDays   int      `json:"of_customers_with_few_days,omitempty"`
	Right     *int     `json:"right,omitempty"`
	Wrong     *int     `json:"wrong,omitempty"`
	Undecided *int     `json:"undecided,omitempty"` // the horizon is not over at the end of the history, or there is nothing to compare with
	Precision *float64 `json:"precision,omitempty"`
	// RightOrLess counts alerts as right, too, whose customer spent less than half of before in the horizon after.
	RightOrLess *float64 `json:"precision_or_half_spend,omitempty"`
	LeadDays    *float64 `json:"median_lead_days,omitempty"`

	// Lapses are departures for silence, and accounts that ran down for outflow.
	Lapses *int `json:"lapses,omitempty"`
	Found  *int `json:"found,omitempty"`
	// Missed is why the others were not found, of the first method and of silence only: by what kept it nearest to an alert.
	Missed       map[string]int `json:"missed_by_reason,omitempty"`
	Recall       *float64       `json:"recall,omitempty"`
	MoneyLost    string         `json:"spend_of_lapses,omitempty"`   // what those who left spent in the horizon before
	MoneyFound   string         `json:"spend_found,omitempty"`       // of those who were alerted in time
	BalanceLost  string         `json:"balance_of_lapses,omitempty"` // what was usual on the accounts that ran down
	BalanceFound string         `json:"balance_found,omitempty"`     // on those that were alerted in time

	// Learning is what is left out of the verdicts and of the recall above: alerts, and departures, before JudgedFrom.
	Learning *Learning `json:"while_learning,omitempty"`
	// HeldBack are alerts that count only as far, and from when on, they were told; absent where there are none.
	HeldBack *HeldBack `json:"held_back,omitempty"`

	Resolved       int      `json:"resolved"`
	Warnings       int      `json:"warnings,omitempty"`       // complaint alerts that began as info, before the breach
	WarningsRight  int      `json:"warnings_right,omitempty"` // of them, the breach came
	Unwarned       int      `json:"unwarned,omitempty"`       // complaint alerts that began with the breach
	ComplaintHours *float64 `json:"median_hours_to_end,omitempty"`
}

// ModelReport is how good the probabilities were, whatever the rules made of them. They are looked at every LookDays days, for every customer with at
// least three active days who is silent for less than the horizon, and judged where the horizon after is over within the history.
type ModelReport struct {
	From     string   `json:"from"` // first day on which there was a model; before, ebb is warming up
	LookDays int      `json:"look_days"`
	Looks    int      `json:"looks"`
	BaseRate float64  `json:"base_rate"` // share of looks after which nothing came for a horizon
	AP       *float64 `json:"average_precision,omitempty"`
	Brier    float64  `json:"brier"`
	Skill    *float64 `json:"brier_skill,omitempty"` // over always telling the base rate
	ECE      float64  `json:"calibration_error"`
	// MedianGap is the median of the customers' newest gaps in the newest model, in days, and FittingDays, where the horizon is shorter than that, how long it should be at least.
	MedianGap   int `json:"median_gap_days"`
	FittingDays int `json:"fitting_horizon_days,omitempty"`
	// Calibration holds ten bins of as many looks each, by rising probability.
	Calibration []Bin `json:"calibration"`
	// High are the looks at which the probability was high enough for an alert, by what was told: from 35 %, 50 %, 65 % and 80 % on, as far as there are any.
	High []Bin `json:"calibration_from_35_percent,omitempty"`
	// Thresholds are what alerts at fixed probabilities would have been: the first look in a silence at which the customer is overdue by his own
	// rhythm and the probability reaches the threshold.
	Thresholds []Threshold `json:"thresholds"`
}

// CohortReport is what was told of more than one customer, by the rules as they are configured.
type CohortReport struct {
	// Values is how many values each dimension has that makes cohorts; of one without, nothing can be told but of everybody.
	Values    map[string]int `json:"values"`
	Detectors map[string]int `json:"alerts_by_detector"`
	Alerts    []WideAlert    `json:"alerts,omitempty"` // in the order of time
	// Departures are those that were not stated and did not fall into the time of learning, and Within those of them at which an alert about a cohort of the customer was open before the
	// horizon was over. LeadDays is from that alert to the end of the horizon.
	Departures int      `json:"departures"`
	Within     int      `json:"departures_within"`
	LeadDays   *float64 `json:"median_lead_days,omitempty"`
	// AlertsWithin are the alerts about single customers that fired while one about a cohort of theirs was open. With HoldBack they are not told before that is over: of those that were HeldBack
	// for it, ToldLater were told then, and the others had ended or are not told at the end of the history.
	AlertsWithin int  `json:"single_alerts_within"`
	HoldBack     bool `json:"hold_back"`
	HeldBack     int  `json:"single_alerts_held_back"`
	ToldLater    int  `json:"told_later"`
	// Right, Wrong and Undecided are what cohort_drop foretold of the customers of alerts that were held back for it, since ebb is not only learning: of each what his own alert would have. They
	// are absent where nothing is held back.
	Right     *int     `json:"right,omitempty"`
	Wrong     *int     `json:"wrong,omitempty"`
	Undecided *int     `json:"undecided,omitempty"`
	Precision *float64 `json:"precision,omitempty"`
}

// WideAlert is one alert about more than one customer.
type WideAlert struct {
	Detector string `json:"detector"`
	Subject  string `json:"subject"`
	Severity string `json:"severity"`
	Fired    string `json:"fired"` // times in RFC 3339
	Since    string `json:"since"`
	Resolved string `json:"resolved,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Summary  string `json:"summary"`
	AtRisk   string `json:"at_risk,omitempty"`
	// Members says what became of the customers of the cohort, absent for alerts that are not about one.
	Members *Members `json:"members,omitempty"`
}

// Members are the customers of a cohort while an alert about it was open.
type Members struct {
	Alerts    int `json:"alerts"` // about single ones, from when the cohort's condition began
	Right     int `json:"right"`
	Wrong     int `json:"wrong"`
	Undecided int `json:"undecided"`
	// Departures are those, stated or not, of customers who belonged to the cohort, with the alert open before the horizon was over.
	Departures int `json:"departures"`
}

// OutflowReport is what the balances say of the customers' accounts.
type OutflowReport struct {
	Accounts int `json:"accounts"`         // customers of whom a balance is known
	RanDown  int `json:"ran_down"`         // accounts that were as good as empty for longer than the horizon
	Stated   int `json:"stated,omitempty"` // of them, of customers who said that they leave
	LookDays int `json:"look_days,omitempty"`
	// Thresholds are what alerts at other falls would have been, the other conditions as they are configured; absent where outflow is switched off.
	Thresholds []FallThreshold `json:"thresholds,omitempty"`
}

// FallThreshold is what one fall of the balance below the usual would have cost and found.
type FallThreshold struct {
	FellPercent int `json:"fell_percent"`
	Cost
}

// Bin is one part of the calibration curve.
type Bin struct {
	Looks   int     `json:"looks"`
	Told    float64 `json:"told"`    // mean probability
	Stopped float64 `json:"stopped"` // share that nothing came of
}

// Threshold is what one fixed probability would have cost and found.
type Threshold struct {
	Probability float64 `json:"probability"`
	Cost
}

// Cost is what alerts at one threshold would have been, since ebb is not only learning.
type Cost struct {
	Alerts      int      `json:"alerts"`
	PerThousand *float64 `json:"per_1000_customer_months,omitempty"`
	Precision   *float64 `json:"precision,omitempty"`
	Recall      *float64 `json:"recall,omitempty"`
	LeadDays    *float64 `json:"median_lead_days,omitempty"`
}
