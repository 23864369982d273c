package alerts

import (
	"encoding/hex"
	"fmt"
	"strings"

	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/state/customer"
	"ebb/stream/event"
)

// CohortDropName is the detector of alerts about a cohort of customers, TotalSpendName and TotalOutflowName those of alerts about what all of them do together.
const (
	CohortDropName   = detectors.CohortDropName
	TotalSpendName   = "total_spend"
	TotalOutflowName = "total_outflow"
	// PoorIntakeName is that of alerts about customers who came in one week from one source.
	PoorIntakeName = "poor_intake"
)

// Wide is an alert about more than one customer, as of its newest step.
type Wide interface {
	// What tells the detector, the severity and the step, for metrics.
	What() (detector string, severity Severity, step StepKind)
	// Common is what all such alerts have.
	Common() *WideStep
	// Subject is whom it is about, such as owner=kim.
	Subject() string
	// Copy is the alert as it is now, for who publishes it while it goes on.
	Copy() Wide
	message(p *Policy) (alert, open Message)
}

// WideStep is what alerts about more than one customer have in common.
type WideStep struct {
	Step     StepKind
	Reason   Reason // of a resolved one
	Severity Severity
	Revision uint32        // from 1; 0: nobody has been told of it
	At       int64         // event time of the step, such as the end of the day that was judged, ms
	Opened   int64         // event time at which it fired, ms
	Work     customer.Work // what people did about it
	// By, Note, Result and LossCause are of the act that led to the step.
	By, Note  string
	Result    event.Result // of one that resolved the alert
	LossCause event.Cause
}

// Common returns itself, for the alerts that it is a part of.
func (s *WideStep) Common() *WideStep { return s }

// Next makes the alert's next step, at an event time, ms.
func (s *WideStep) Next(kind StepKind, reason Reason, at int64) {
	*s = WideStep{Step: kind, Reason: reason, Severity: s.Severity, Revision: s.Revision + 1, At: max(at, s.At), Opened: s.Opened, Work: s.Work}
}

// WideMessage writes a step about more than one customer as the event of the alert topic and as the record of the table of open alerts, as Message does for a
// customer. It is of no customer: the key is what it is about, such as cohort/owner=kim.
func (p *Policy) WideMessage(x Wide) (alert, open Message) { return x.message(p) }

// WideID is the id of an alert about more than one customer.
func (p *Policy) WideID(x Wide) [16]byte {
	detector, _, _ := x.What()
	return p.alertID("", detector, x.Subject(), x.Common().Opened)
}

// ActWide carries out what a person decided about an alert that is open, as its next step. The result is customer.Applied, or ActRepeated for an act that says what is so already: it
// changes nothing. until is not 0 for an outcome, which ends the alert: up to that event time its condition is not told again, ms.
func (p *Policy) ActWide(x Wide, e *event.Event) (until int64, result customer.Outcome) {
	s, a := x.Common(), e.Control
	at := max(e.Time, s.At)
	if e.Kind == event.KindOutcome {
		s.Next(StepResolved, detectors.ClosedByOutcome, at)
		s.Result, s.LossCause, until = a.Result, a.Cause, at+p.quietAfter
	} else {
		w := s.Work
		kind, changed := work(&w, e.Kind, a, at)
		if !changed {
			return 0, customer.ActRepeated
		}
		s.Work = w
		s.Next(kind, "", at)
	}
	s.By, s.Note = customer.Clip(a.By, customer.MaxActor), customer.Clip(a.Note, customer.MaxNote)
	if s.Note != "" {
		s.Work.Note = s.Note
	}
	return until, customer.Applied
}

// RemindWide makes the reminder the next step of an alert that is open, if one is due by an event time, ms.
func (p *Policy) RemindWide(x Wide, now int64) bool {
	s := x.Common()
	due := p.remindWhen(&s.Work, s.Opened)
	if due == 0 || now < due {
		return false
	}
	s.Work.SnoozedUntil, s.Work.RemindedAt = 0, due
	s.Next(StepReminded, "", due)
	return true
}

// WideVersion changes with the meaning of these alerts.
const WideVersion = "1"

// Cohort is an alert about a cohort of customers: more of them begin to leave than chance explains.
type Cohort struct {
	WideStep
	cohorts.Finding         // as it was told last
	FalseAlarms     float64 // stated for all cohorts together, a year
	// HoldsBack: while it is open, what tells of one of its customers that he leaves is held back. It stands for that, and is held to it.
	HoldsBack bool
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

// Copy is the alert as it is now.
func (c *Cohort) Copy() Wide { x := *c; return &x }

// Subject is the cohort.
func (c *Cohort) Subject() string { return c.Key.String() }

func (c *Cohort) message(p *Policy) (alert, open Message) {
	text, foretells := c.Summary(), c.HoldsBack && c.Step != StepResolved
	if foretells {
		text += fmt.Sprintf(" Who of them begins to leave while this is open is not alerted by himself; whether he did leave is checked after %d days.", p.horizonDays)
	}
	return p.wide(c, dayStart(c.Since), text, func(o *detectors.Object) {
		if foretells {
			o.Int("horizon_days", p.horizonDays)
		}
		if c.AtRisk != 0 {
			o.Object("money_at_risk", func(o *detectors.Object) {
				o.Money("amount", c.AtRisk)
				o.Text("currency", p.cfg.Currency.String())
			})
		}
		o.Object("evidence", c.explain)
	})
}

// wide writes a step; body writes what is its own.
func (p *Policy) wide(x Wide, since int64, summary string, body func(o *detectors.Object)) (alert, open Message) {
	s := x.Common()
	detector, _, _ := x.What()
	key := []byte("cohort/" + x.Subject())
	sum := p.WideID(x)
	id := hex.AppendEncode(nil, sum[:])
	act := &Step{By: s.By, Note: s.Note, Result: s.Result, LossCause: s.LossCause, work: &s.Work}
	o := detectors.Begin(make([]byte, 0, 1024))
	head(&o, id, s.Revision, s.Step, s.Reason, detector)
	o.Object("subject", func(o *detectors.Object) {
		o.Text("type", "cohort")
		o.Text("id", x.Subject())
	})
	o.Text("severity", s.Severity.String())
	if s.Reason == detectors.ClosedByOutcome {
		summary = strings.Replace(string(closedAs(nil, act)), "customer is", "customers are", 1)
	}
	o.Text("summary", summary)
	times(&o, s.At, since, s.Opened)
	people(&o, act)
	body(&o)
	o.Text("detector_version", WideVersion)
	o.TextIf("config_hash", p.cfg.ConfigHash)
	alert = Message{Key: key, Value: o.End(), Headers: p.headers(alertTypes[s.Step], id, s.Revision, key, s.At, alertSchema)}
	open = Message{Key: id}
	if s.Step != StepResolved {
		open.Value, open.Headers = alert.Value, alert.Headers
	}
	return alert, open
}

func dayStart(day int32) int64 { return int64(day) * detectors.Day.Ms() }

// explain writes the numbers that made the decision, and who they are.
func (c *Cohort) explain(o *detectors.Object) {
	o.Text("dimension", c.Key.By.String())
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

// Total is an alert about what all customers do together: a week's total is out of its range.
type Total struct {
	WideStep
	cohorts.Weekly // as it was told last
}

// What tells the detector, the severity and the step.
func (t *Total) What() (detector string, severity Severity, step StepKind) {
	return t.detector(), t.Severity, t.Step
}

// Copy is the alert as it is now.
func (t *Total) Copy() Wide { x := *t; return &x }

// Subject is everybody.
func (t *Total) Subject() string { return cohorts.Key{}.String() }

func (t *Total) detector() string {
	if t.Series == cohorts.Outflow {
		return TotalOutflowName
	}
	return TotalSpendName
}

func (t *Total) message(p *Policy) (alert, open Message) {
	const week = 7
	since := t.Opened - week*detectors.Day.Ms()
	return p.wide(t, since, t.summary(p), func(o *detectors.Object) {
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

// Intake is an alert about customers who came from a source: fewer of them stay than of those before.
type Intake struct {
	WideStep
	cohorts.Intake       // as it was told last
	Began          int64 // when they began to come, ms
}

// What tells the detector, the severity and the step.
func (x *Intake) What() (detector string, severity Severity, step StepKind) {
	return PoorIntakeName, x.Severity, x.Step
}

// Copy is the alert as it is now.
func (x *Intake) Copy() Wide { y := *x; return &y }

// Subject is the source.
func (x *Intake) Subject() string { return "source=" + x.Source }

func (x *Intake) message(p *Policy) (alert, open Message) {
	return p.wide(x, x.Began, x.summary(), func(o *detectors.Object) {
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
