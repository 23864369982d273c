package alerts

import (
	"encoding/hex"
	"fmt"
	"strings"

	"ebb/detectors"
	"ebb/detectors/cohorts"
)

// CohortDropName is the detector of alerts about a cohort of customers, TotalSpendName and TotalOutflowName those of alerts about what all of them do together.
const (
	CohortDropName   = "cohort_drop"
	TotalSpendName   = "total_spend"
	TotalOutflowName = "total_outflow"
	// PoorIntakeName is that of alerts about customers who came in one week from one source.
	PoorIntakeName = "poor_intake"
)

// Wide is a step of an alert about more than one customer.
type Wide interface {
	// What tells the detector, the severity and the step, for metrics.
	What() (detector string, severity Severity, step StepKind)
	message(p *Policy) (alert, open Message)
}

// WideMessage writes a step about more than one customer as the event of the alert topic and as the record of the table of open alerts, as Message does for a
// customer. It is of no customer: the key is what it is about, such as cohort/owner=kim.
func (p *Policy) WideMessage(x Wide) (alert, open Message) { return x.message(p) }

// WideVersion changes with the meaning of these alerts.
const WideVersion = "1"

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

// What tells the detector, the severity and the step.
func (c *Cohort) What() (detector string, severity Severity, step StepKind) {
	return CohortDropName, c.Severity, c.Step
}

func (c *Cohort) message(p *Policy) (alert, open Message) {
	name := c.Key.String()
	reason := Reason("")
	if c.Step == StepResolved {
		reason = ReasonRecovered
	}
	return p.wide(&wideStep{CohortDropName, name, c.Step, reason, c.Severity, c.Revision, c.At, dayStart(c.Since), c.Opened}, c.Summary(), func(o *detectors.Object) {
		if c.AtRisk != 0 {
			o.Object("money_at_risk", func(o *detectors.Object) {
				o.Money("amount", c.AtRisk)
				o.Text("currency", p.cfg.Currency.String())
			})
		}
		o.Object("evidence", c.explain)
	})
}

// wideStep is what steps about more than one customer have in common.
type wideStep struct {
	detector, subject string
	kind              StepKind
	reason            Reason
	severity          Severity
	revision          uint32
	at, since, opened int64 // ms
}

// wide writes such a step; body writes what is its own.
func (p *Policy) wide(w *wideStep, summary string, body func(o *detectors.Object)) (alert, open Message) {
	key := []byte("cohort/" + w.subject)
	sum := p.alertID("", w.detector, w.subject, w.opened)
	id := hex.AppendEncode(nil, sum[:])
	o := detectors.Begin(make([]byte, 0, 1024))
	head(&o, id, w.revision, w.kind, w.reason, w.detector)
	o.Object("subject", func(o *detectors.Object) {
		o.Text("type", "cohort")
		o.Text("id", w.subject)
	})
	o.Text("severity", w.severity.String())
	o.Text("summary", summary)
	times(&o, w.at, w.since, w.opened)
	body(&o)
	o.Text("detector_version", WideVersion)
	o.TextIf("config_hash", p.cfg.ConfigHash)
	alert = Message{Key: key, Value: o.End(), Headers: p.headers(alertTypes[w.kind], id, w.revision, key, w.at, alertSchema)}
	open = Message{Key: id}
	if w.kind != StepResolved {
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

// Total is a step of an alert about what all customers do together: a week's total is out of its range.
type Total struct {
	cohorts.Weekly
	Kind     StepKind
	Reason   Reason // of a resolved one
	Level    Severity
	Revision uint32 // from 1
	At       int64  // event time of the step: the end of the week that was judged, ms
	Opened   int64  // event time at which it fired, ms
}

// What tells the detector, the severity and the step.
func (t *Total) What() (detector string, severity Severity, step StepKind) {
	return t.detector(), t.Level, t.Kind
}

func (t *Total) detector() string {
	if t.Series == cohorts.Outflow {
		return TotalOutflowName
	}
	return TotalSpendName
}

func (t *Total) message(p *Policy) (alert, open Message) {
	const week = 7
	since := t.Opened - week*detectors.Day.Ms()
	return p.wide(&wideStep{t.detector(), cohorts.Key{}.String(), t.Kind, t.Reason, t.Level, t.Revision, t.At, since, t.Opened}, t.summary(p), func(o *detectors.Object) {
		o.Money("observed", t.Observed)
		o.Money("expected", t.Expected)
		o.Object("evidence", func(o *detectors.Object) {
			o.Date("judged_day", t.Day)
			o.Int("active", t.Active)
			o.Number("change_percent", t.Change, 0)
			o.Number("deviations", t.Deviations, 1)
			o.Int("weeks", int64(t.Weeks))
			o.Text("currency", p.cfg.Currency.String())
		})
	})
}

// summary tells the step in a sentence.
func (t *Total) summary(p *Policy) string {
	what := "spent"
	if t.Series == cohorts.Outflow {
		what = "moved away"
	}
	last := strings.TrimSuffix(string(detectors.AppendTime(nil, dayStart(t.Day))), "T00:00:00.000Z")
	text := fmt.Sprintf("All %d active customers together %s %s %s in the week up to %s; for as many, %s %s are usual.",
		t.Active, what, t.Observed, p.cfg.Currency, last, t.Expected, p.cfg.Currency)
	if t.Reason == ReasonExpired {
		text += " It has stayed so: that is what is usual now."
	}
	return text
}

// Intake is a step of an alert about customers who came from a source: fewer of them stay than of those before.
type Intake struct {
	cohorts.Intake
	Step     StepKind
	Reason   Reason // of a resolved one
	Revision uint32 // from 1
	At       int64  // event time of the step: the end of the day on which the last of them was judged, ms
	Since    int64  // when they began to come, ms
	Opened   int64  // event time at which it fired, ms
}

// What tells the detector, the severity and the step.
func (x *Intake) What() (detector string, severity Severity, step StepKind) {
	return PoorIntakeName, Warning, x.Step
}

func (x *Intake) message(p *Policy) (alert, open Message) {
	return p.wide(&wideStep{PoorIntakeName, "source=" + x.Source, x.Step, x.Reason, Warning, x.Revision, x.At, x.Since, x.Opened}, x.summary(), func(o *detectors.Object) {
		o.Object("evidence", func(o *detectors.Object) {
			o.TextIf("source", x.Source)
			o.Date("judged_day", x.Day)
			if x.Size == 0 {
				return
			}
			o.Date("from", x.From)
			o.Date("to", x.To)
			o.Int("size", x.Size)
			o.Int("active", x.Active)
			o.Int("after_days", cohorts.IntakeDays)
			o.Number("usual_share", x.Share, 3)
			o.Int("earlier", x.Earlier)
			o.Int("weeks", int64(x.Weeks))
			o.Text("chance", significant(x.Chance))
			o.Text("limit", significant(x.Limit))
		})
	})
}

// summary tells the step in a sentence.
func (x *Intake) summary() string {
	who := "customers"
	if x.Source != "" {
		who += " from " + x.Source
	}
	if x.Size == 0 {
		return "No later " + who + " could be judged."
	}
	from := strings.TrimSuffix(string(detectors.AppendTime(nil, dayStart(x.From))), "T00:00:00.000Z")
	return fmt.Sprintf("Of %d %s who came in the week from %s on, %d are still active after %d days; by those before them %s were to be expected.",
		x.Size, who, from, x.Active, cohorts.IntakeDays, expected(x.Share*float64(x.Size)))
}
