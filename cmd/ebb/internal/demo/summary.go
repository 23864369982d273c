package demo

import (
	"encoding/json"
	"fmt"
	"math"

	"ebb/stream/event"
)

// Summary is what the demo prints at its end.
type Summary struct {
	Seed           uint64      `json:"seed"`
	SimulatedDays  int         `json:"simulated_days"`
	Alerts         int         `json:"alerts"`
	Customers      int         `json:"customers"`
	TrueLeavers    int         `json:"true_leavers"`
	Found          int         `json:"found"`
	Missed         int         `json:"missed"`
	FalseAlarms    int         `json:"false_alarms"`
	Precision      float64     `json:"precision"`
	MedianLeadDays float64     `json:"median_lead_days"`
	MoneyAtRisk    json.Number `json:"money_at_risk"`
	MoneyFound     json.Number `json:"money_found"`
	Currency       string      `json:"currency"`
	P99AlertMs     float64     `json:"p99_alert_ms"`
	Usual          UsualScore  `json:"usual_rule"`
}

// UsualScore is what the usual rule would have done on the same events.
type UsualScore struct {
	Alerts         int         `json:"alerts"`
	Found          int         `json:"found"`
	Missed         int         `json:"missed"`
	FalseAlarms    int         `json:"false_alarms"`
	Precision      float64     `json:"precision"`
	MedianLeadDays float64     `json:"median_lead_days"`
	MoneyFound     json.Number `json:"money_found"`
}

// Summary is the state of the score as of the latest simulated day. Money at risk is that of the alerts open now.
func (d *Demo) Summary() Summary {
	totals := d.o.Book.Totals(d.Now())
	var risk event.Money
	for _, a := range totals.AtRisk {
		if a.Currency == d.o.Crowd.Currency() {
			risk += a.Sum
		}
	}
	now := d.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	e, u := &d.ebbScore, &d.naiveScore
	return Summary{
		Seed: d.o.Seed, SimulatedDays: int(now.Sub(d.live) / oneDay), Alerts: e.Alerts, Customers: len(d.truths), TrueLeavers: d.leavers,
		Found: e.Found, Missed: e.Missed, FalseAlarms: e.FalseAlarms, Precision: precision(e.Right, e.Alerts),
		MedianLeadDays: round(e.DaysAhead, 1), MoneyAtRisk: json.Number(risk.String()), MoneyFound: cents(e.MoneyFound),
		Currency: d.o.Crowd.Currency(), P99AlertMs: round(float64(d.steps.quantile(0.99).Microseconds())/1000, 1),
		Usual: UsualScore{
			Alerts: u.Alerts, Found: u.Found, Missed: u.Missed, FalseAlarms: u.FalseAlarms, Precision: precision(u.Right, u.Alerts),
			MedianLeadDays: round(u.DaysAhead, 1), MoneyFound: cents(u.MoneyFound),
		},
	}
}

func precision(right, all int) float64 {
	if all == 0 {
		return 0
	}
	return round(float64(right)/float64(all), 4)
}

func round(v float64, digits int) float64 {
	p := math.Pow(10, float64(digits))
	return math.Round(v*p) / p
}

func cents(n int64) json.Number { return json.Number(fmt.Sprintf("%d.%02d", n/100, n%100)) }
