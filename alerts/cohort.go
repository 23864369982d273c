package alerts

import (
	"encoding/hex"
	"fmt"
	"strings"

	"ebb/detectors"
	"ebb/detectors/cohorts"
)

// CohortDropName is the detector of alerts about a cohort of customers.
const CohortDropName = "cohort_drop"

// cohortDropVersion changes with the meaning of these alerts.
const cohortDropVersion = "1"

// Cohort is a step of an alert about a cohort of customers: more of them begin to leave than chance explains.
type Cohort struct {
	cohorts.Finding
	Step        StepKind
	Severity    Severity
	Revision    uint32  // from 1
	At          int64   // event time of the step: the end of the day that was judged, ms
	Opened      int64   // event time at which it fired, ms
	FalseAlarms float64 // stated for all cohorts together, a year
}

// cohortOf says in words whose customers they are.
func cohortOf(k cohorts.Key) string {
	switch k.By {
	case cohorts.Everybody:
		return "customers"
	case cohorts.Owner:
		return "customers of the account owner " + k.Value
	}
	return "customers of the " + k.By.String() + " " + k.Value
}

// Summary tells the step in a sentence.
func (c *Cohort) Summary() string {
	who := cohortOf(c.Key)
	if c.Step == StepResolved {
		return fmt.Sprintf("No more %s leave than usual: %d began to in the last %d days.", who, c.Leavers, c.Days)
	}
	return fmt.Sprintf("%d of %d %s have begun to leave within %d days; %s were to be expected.", c.Leavers, max(c.Active, c.Leavers), who, c.Days, expected(c.Expected))
}

// expected is a number of customers to a person.
func expected(n float64) string {
	if n < 9.95 {
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.0f", n)
}

// CohortMessage writes a step about a cohort as the event of the alert topic and as the record of the table of open alerts, as Message does for a customer. It
// names no customer as its subject: the key is what it is about, such as cohort/owner=kim.
func (p *Policy) CohortMessage(c *Cohort) (alert, open Message) {
	name := c.Key.String()
	key := []byte("cohort/" + name)
	sum := p.alertID("", CohortDropName, name, c.Opened)
	id := hex.AppendEncode(nil, sum[:])
	reason := Reason("")
	if c.Step == StepResolved {
		reason = ReasonRecovered
	}
	o := detectors.Begin(make([]byte, 0, 1024))
	head(&o, id, c.Revision, c.Step, reason, CohortDropName)
	o.Object("subject", func(o *detectors.Object) {
		o.Text("type", "cohort")
		o.Text("id", name)
	})
	o.Text("severity", c.Severity.String())
	o.Text("summary", c.Summary())
	times(&o, c.At, dayStart(c.Since), c.Opened)
	if c.AtRisk != 0 {
		o.Object("money_at_risk", func(o *detectors.Object) {
			o.Money("amount", c.AtRisk)
			o.Text("currency", p.cfg.Currency.String())
		})
	}
	o.Object("evidence", c.explain)
	o.Text("detector_version", cohortDropVersion)
	o.TextIf("config_hash", p.cfg.ConfigHash)
	alert = Message{Key: key, Value: o.End(), Headers: p.headers(alertTypes[c.Step], id, c.Revision, key, c.At, alertSchema)}
	open = Message{Key: id}
	if c.Step != StepResolved {
		open.Value, open.Headers = alert.Value, alert.Headers
	}
	return alert, open
}

func dayStart(day int32) int64 { return int64(day) * detectors.Day.Ms() }

// explain writes the numbers that made the decision, and who they are.
func (c *Cohort) explain(o *detectors.Object) {
	o.Text("dimension", c.By.String())
	o.TextIf("value", c.Value)
	o.Date("judged_day", c.Day)
	o.Int("days", int64(c.Days))
	o.Int("active", c.Active)
	o.Int("leavers", c.Leavers)
	o.Number("expected_by_own_rate", c.ByOwn, 2)
	if c.ByOthers >= 0 {
		o.Number("expected_by_others", c.ByOthers, 2)
	}
	o.Text("chance", significant(c.Chance))
	o.Text("limit", significant(c.Limit))
	o.Number("false_alarms_a_year", c.FalseAlarms, 3)
	o.Objects("members", len(c.Members), func(i int, o *detectors.Object) {
		m := &c.Members[i]
		o.Text("customer_id", m.Customer)
		o.Date("day", m.Day)
		o.Text("detector", m.Detector)
		if m.AtRisk != 0 {
			o.Money("money_at_risk", m.AtRisk)
		}
	})
}

// significant writes a small probability with two digits.
func significant(p float64) string { return strings.Replace(fmt.Sprintf("%.1e", p), "e-0", "e-", 1) }
