package app

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"ebb/alerts"
	"ebb/cmd/ebb/internal/config"
	"ebb/cmd/ebb/internal/console"
	"ebb/detectors"
	"ebb/detectors/cohorts"
)

// rules puts the configured detectors into the words of the page, with the versions that their alerts bear.
func rules(cfg *config.Config, set *detectors.Set) []console.Rule {
	all := customerRules(cfg)
	for i := range all {
		all[i].Version = set.Detector(all[i].Detector).Version()
	}
	return append(all, cohortRules(&cfg.Cohorts)...)
}

// customerRules are those about single customers.
func customerRules(cfg *config.Config) []console.Rule {
	var all []console.Rule
	currency := cfg.Money.Currency
	if d := cfg.Detectors.SpendDrop; d.Enabled && d.Method == detectors.Model {
		all = append(all, spendDropRule(d, currency))
	} else if d.Enabled {
		all = append(all, console.Rule{
			Detector: detectors.SpendDropName,
			Sentence: fmt.Sprintf("A customer who is still active spent less than %d %% of his usual in the last %d days; usual is the mean of the %d days before, at least %s %s a week.",
				d.FiresBelowPercent, d.RecentDays, d.BaselineDays, d.MinWeekly, currency),
			Thresholds: []console.Threshold{
				{Name: "recent window", Value: days(d.RecentDays)},
				{Name: "baseline", Value: days(d.BaselineDays)},
				{Name: "known for at least", Value: days(d.MinHistoryDays)},
				{Name: "least usual spend a week", Value: d.MinWeekly.String() + " " + currency},
				{Name: "fires below", Value: percent(d.FiresBelowPercent)},
				{Name: "recovers at", Value: percent(d.RecoversAtPercent)},
				{Name: "critical below", Value: percent(d.CriticalBelowPercent)},
			},
		})
	}
	if d := cfg.Detectors.UsageDrop; d.Enabled {
		all = append(all, console.Rule{
			Detector: detectors.UsageDropName,
			Sentence: fmt.Sprintf("A customer still uses the product, at least %d %% less than is usual for him, by evidence that customers whose usage does not change would give %v times a year.",
				d.LeastFallPercent, d.FalseAlarms),
			Thresholds: []console.Threshold{
				{Name: "false alarms a customer and year", Value: strconv.FormatFloat(d.FalseAlarms, 'f', -1, 64)},
				{Name: "least fall", Value: percent(d.LeastFallPercent)},
				{Name: "known for at least", Value: days(d.MinHistoryDays)},
			},
		})
	}
	switch d := cfg.Detectors.Silence; {
	case d.Enabled && d.Method == detectors.Model:
		all = append(all, silenceModelRule(d, detectors.Duration(cfg.Alerts.Horizon.Std())))
	case d.Enabled:
		all = append(all, silenceRule(d))
	}
	if d := cfg.Detectors.ComplaintUnresolved; d.Enabled {
		all = append(all, console.Rule{
			Detector:   detectors.ComplaintUnresolvedName,
			Sentence:   "A complaint was not answered, or not resolved, within the time for its priority, a promise was not kept, or an inquiry got no answer.",
			Thresholds: complaintThresholds(&d),
		})
	}
	if d := cfg.Detectors.Friction; d.Enabled {
		all = append(all, console.Rule{
			Detector: detectors.FrictionName,
			Sentence: fmt.Sprintf("In the last %d days far more of a customer's uses failed than he is used to, small grievances added up, or he does not complain any more though things go wrong.", d.RecentDays),
			Thresholds: []console.Threshold{
				{Name: "uses that failed, at least", Value: strconv.Itoa(d.MinFailures)},
				{Name: "false alarms a customer and year", Value: strconv.FormatFloat(d.FalseAlarms, 'f', -1, 64)},
				{Name: "points of grievance", Value: strconv.FormatFloat(d.Grievances, 'f', -1, 64)},
			},
		})
	}
	if d := cfg.Detectors.PaymentTrouble; d.Enabled {
		all = append(all, console.Rule{
			Detector: detectors.PaymentTroubleName,
			Sentence: fmt.Sprintf("A payment failed and nothing was paid for %s after the last announced try, or an invoice is overdue for %s.", spelled(d.Wait), spelled(d.OverdueAfter)),
			Thresholds: []console.Threshold{
				{Name: "after a failure", Value: spelled(d.Wait)},
				{Name: "after the date of an invoice", Value: spelled(d.OverdueAfter)},
				{Name: "critical after the date of an invoice", Value: spelled(d.CriticalOverdue)},
				{Name: "nobody waits any more after", Value: spelled(d.ExpireAfter)},
			},
		})
	}
	if d := cfg.Detectors.Outflow; d.Enabled {
		all = append(all, console.Rule{
			Detector: detectors.OutflowName,
			Sentence: fmt.Sprintf("The balance stayed %d %% below the usual for %d weeks, and less than %d %% of the usual deposits came in.", d.FellPercent, d.RecentWeeks, d.DepositsBelowPercent),
			Thresholds: []console.Threshold{
				{Name: "recent weeks", Value: strconv.Itoa(d.RecentWeeks)},
				{Name: "baseline weeks", Value: strconv.Itoa(d.BaselineWeeks)},
				{Name: "fell by", Value: percent(d.FellPercent)},
				{Name: "deposits below", Value: percent(d.DepositsBelowPercent)},
				{Name: "least usual balance", Value: d.MinBalance.String() + " " + currency},
			},
		})
	}
	if d := cfg.Detectors.PartialLapse; d.Enabled {
		all = append(all, console.Rule{
			Detector: detectors.PartialLapseName,
			Sentence: "The customer goes on, but one of the four largest things that he pays for, or is paid, is overdue by its own rhythm.",
			Thresholds: []console.Threshold{
				{Name: "false alarms each and year", Value: strconv.FormatFloat(d.FalseAlarms, 'g', -1, 64)},
				{Name: "least repeats", Value: strconv.Itoa(d.LeastRepeats)},
				{Name: "least share of the spend", Value: percent(d.LeastSharePercent)},
			},
		})
	}
	if d := cfg.Detectors.TierDrop; d.Enabled && len(cfg.Tiers) != 0 {
		all = append(all, console.Rule{
			Detector: detectors.TierDropName, Version: "1",
			Sentence:   fmt.Sprintf("A customer who was in one of the best two of the tiers %s has been in a lower one for %s.", strings.Join(cfg.Tiers, ", "), spelled(d.Wait)),
			Thresholds: []console.Threshold{{Name: "in the lower tier for", Value: spelled(d.Wait)}},
		})
	}
	return all
}

func spendDropRule(d detectors.SpendDropConfig, currency string) console.Rule {
	return console.Rule{
		Detector: detectors.SpendDropName,
		Sentence: fmt.Sprintf("A customer who is still active spends at least %d %% less than is usual for him, by evidence that customers whose spend does not change would give %v times a year.",
			d.LeastFallPercent, d.FalseAlarms),
		Thresholds: []console.Threshold{
			{Name: "false alarms a customer and year", Value: strconv.FormatFloat(d.FalseAlarms, 'f', -1, 64)},
			{Name: "least fall", Value: percent(d.LeastFallPercent)},
			{Name: "known for at least", Value: days(d.MinHistoryDays)},
			{Name: "least usual spend a week", Value: d.MinWeekly.String() + " " + currency},
			{Name: "critical below", Value: percent(d.CriticalBelowPercent)},
		},
	}
}

// cohortRules are those about more than one customer.
func cohortRules(c *config.Cohorts) []console.Rule {
	if !c.Enabled {
		return nil
	}
	alarms := console.Threshold{Name: "false alarms a year", Value: strconv.FormatFloat(c.FalseAlarms, 'f', -1, 64)}
	who := "all customers"
	if len(c.By) != 0 {
		who = "those who share a " + strings.Join(c.By, ", ") + ", or of all"
	}
	held := ""
	if c.HoldBack {
		held = " Single alerts about them are held back while it is open: whether these customers leave is what it is judged by."
	}
	all := []console.Rule{{
		Detector: alerts.CohortDropName, Version: alerts.WideVersion,
		Sentence:   fmt.Sprintf("More customers of %s have begun to leave within 7 or 28 days than their own usual rate, and that of all others, explain.%s", who, held),
		Thresholds: []console.Threshold{alarms, {Name: "customers at least", Value: strconv.Itoa(c.LeastMembers)}},
	}}
	if c.Totals {
		all = append(all, console.Rule{
			Detector: alerts.TotalSpendName, Version: alerts.WideVersion,
			Sentence: "All customers together spent far less in a week than is usual for as many, although they are still there.",
		}, console.Rule{
			Detector: alerts.TotalOutflowName, Version: alerts.WideVersion,
			Sentence: "All customers together moved far more money away in a week than is usual for as many.",
		})
	}
	if c.Intakes {
		all = append(all, console.Rule{
			Detector: alerts.PoorIntakeName, Version: alerts.WideVersion,
			Sentence:   fmt.Sprintf("Of the customers who came in one week from one source, fewer than of those before are still active after %d days.", cohorts.IntakeDays),
			Thresholds: []console.Threshold{alarms},
		})
	}
	return all
}

func silenceModelRule(d detectors.SilenceConfig, horizon detectors.Duration) console.Rule {
	r := console.Rule{
		Detector: detectors.SilenceName,
		Sentence: fmt.Sprintf("A customer is overdue by his own rhythm, and by what is learnt of all customers he does nothing for another %s with a probability of at least %s. Until enough is learnt: nothing for %s.",
			spelled(horizon), percent(int(math.Round(100*d.LeastProbability))), spelled(d.After)),
		Thresholds: []console.Threshold{{Name: "least probability", Value: percent(int(math.Round(100 * d.LeastProbability)))}},
	}
	if d.BudgetPercent != 0 {
		r.Thresholds = append(r.Thresholds, console.Threshold{Name: "told in a month, of the active customers", Value: strconv.FormatFloat(d.BudgetPercent, 'f', -1, 64) + " %, the likeliest"})
	}
	return r
}

func silenceRule(d detectors.SilenceConfig) console.Rule {
	r := console.Rule{
		Detector:   detectors.SilenceName,
		Sentence:   fmt.Sprintf("A customer did not use or buy anything for %s.", spelled(d.After)),
		Thresholds: []console.Threshold{{Name: "silent for", Value: spelled(d.After)}},
	}
	if d.GapMultiple == 0 {
		return r
	}
	multiple := strconv.FormatFloat(d.GapMultiple, 'f', -1, 64)
	r.Sentence = fmt.Sprintf("A customer did not use or buy anything for %s times his usual gap, at least %s and at most %s; for %s where too few gaps are known.",
		multiple, spelled(d.MinAfter), spelled(d.MaxAfter), spelled(d.After))
	r.Thresholds = append(r.Thresholds,
		console.Threshold{Name: "times the usual gap", Value: multiple}, console.Threshold{Name: "gaps needed", Value: strconv.Itoa(d.MinGaps)},
		console.Threshold{Name: "at least", Value: spelled(d.MinAfter)}, console.Threshold{Name: "at most", Value: spelled(d.MaxAfter)})
	return r
}

func complaintThresholds(d *detectors.ComplaintUnresolvedConfig) []console.Threshold {
	all := slices.Concat(targets("first response", d.FirstResponse), targets("next reply", d.NextReply), targets("resolution", d.Resolution))
	if _, on := d.Inquiry.Limit(); on {
		all = append(all, console.Threshold{Name: "inquiry", Value: d.Inquiry.String()})
	}
	if n := len(d.Targets); n != 0 {
		all = append(all, console.Threshold{Name: "targets of their own", Value: strconv.Itoa(n)})
	}
	if d.Warn.Late != 0 {
		all = append(all, console.Threshold{Name: "warns at", Value: percent(int(math.Round(100 * d.Warn.Late)))})
	}
	return all
}

func targets(what string, t detectors.Targets) []console.Threshold {
	var all []console.Threshold
	for _, p := range []struct {
		name   string
		target detectors.Target
	}{{"critical", t.Critical}, {"urgent", t.Urgent}, {"high", t.High}, {"normal", t.Normal}, {"low", t.Low}} {
		if _, on := p.target.Limit(); on {
			all = append(all, console.Threshold{Name: what + ", " + p.name, Value: p.target.String()})
		}
	}
	return all
}

func days(n int) string    { return strconv.Itoa(n) + " days" }
func percent(n int) string { return strconv.Itoa(n) + " %" }

// spelled is a duration in words: 60 days, 2 days 12 hours.
func spelled(d detectors.Duration) string {
	rest := time.Duration(d)
	var parts []string
	for _, u := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		n := rest / u.length
		rest %= u.length
		switch {
		case n == 1:
			parts = append(parts, "1 "+u.name)
		case n != 0:
			parts = append(parts, strconv.FormatInt(int64(n), 10)+" "+u.name+"s")
		}
	}
	if parts == nil {
		return "no time"
	}
	return strings.Join(parts, " ")
}
