package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ebb/stream/event"
)

// Severity orders alerts; the page shows it as a shape and a colour.
type Severity uint8

// The severities, mildest first.
const (
	Info Severity = iota
	Warning
	Critical
)

func (s Severity) String() string {
	switch s {
	case Critical:
		return "critical"
	case Warning:
		return "warning"
	}
	return "info"
}

// parseSeverity takes what it does not know for info: a subscriber bears what is new.
func parseSeverity(s string) Severity {
	switch s {
	case "critical":
		return Critical
	case "warning":
		return Warning
	}
	return Info
}

// Step is one step of an alert's life, as the alert topic has it. Zero times and empty strings were absent.
type Step struct {
	AlertID  string
	Revision uint32
	Resolved bool
	// Kind is fired, changed, acknowledged, reminded or resolved; others may come.
	Kind     string
	Reason   string
	Detector string
	// SubjectType and SubjectID name what the alert is about within the customer, such as a complaint.
	SubjectType, SubjectID string
	// Customer is empty for an operational alert.
	Customer                                      string
	Tier, Segment, Region, Owner, Product, Source string
	Severity                                      Severity
	Summary                                       string
	Time, Since, FirstFired                       time.Time
	Observed, Expected                            string
	Probability                                   float64 // negative: not given
	HorizonDays                                   int
	// AtRisk is the money at risk; HasRisk says whether it was given.
	AtRisk   event.Money
	HasRisk  bool
	Currency string
	// Evidence is the JSON object as it stands in the event.
	Evidence        json.RawMessage
	DetectorVersion string
	ConfigHash      string
}

// ErrNotAStep is returned by ParseStep for a value that is no step of an alert.
var ErrNotAStep = errors.New("no step of an alert")

// ParseStep reads the data object of an alert event. Unknown members are ignored.
func ParseStep(value []byte) (*Step, error) {
	var d struct {
		AlertID  string                                                         `json:"alert_id"`
		Revision uint32                                                         `json:"revision"`
		Status   string                                                         `json:"status"`
		Step     string                                                         `json:"step"`
		Reason   string                                                         `json:"reason"`
		Detector string                                                         `json:"detector"`
		Kind     string                                                         `json:"kind"`
		Subject  struct{ Type, ID string }                                      `json:"subject"`
		ID       string                                                         `json:"customer_id"`
		Customer struct{ Tier, Segment, Region, Owner, Product, Source string } `json:"customer"`
		Severity string                                                         `json:"severity"`
		Summary  string                                                         `json:"summary"`
		Time     time.Time                                                      `json:"time"`
		Since    time.Time                                                      `json:"since"`
		First    time.Time                                                      `json:"first_fired_at"`
		Observed text                                                           `json:"observed"`
		Expected text                                                           `json:"expected"`
		P        *float64                                                       `json:"probability"`
		Horizon  int                                                            `json:"horizon_days"`
		AtRisk   *struct {
			Amount   text   `json:"amount"`
			Currency string `json:"currency"`
		} `json:"money_at_risk"`
		Evidence json.RawMessage `json:"evidence"`
		Version  string          `json:"detector_version"`
		Config   string          `json:"config_hash"`
	}
	if err := json.Unmarshal(value, &d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotAStep, err)
	}
	if d.AlertID == "" {
		return nil, fmt.Errorf("%w: alert_id is missing", ErrNotAStep)
	}
	s := &Step{
		AlertID: d.AlertID, Revision: d.Revision, Resolved: d.Status == "resolved", Kind: d.Step, Reason: d.Reason,
		Detector: d.Detector, SubjectType: d.Subject.Type, SubjectID: d.Subject.ID, Customer: d.ID,
		Tier: d.Customer.Tier, Segment: d.Customer.Segment, Region: d.Customer.Region, Owner: d.Customer.Owner,
		Product: d.Customer.Product, Source: d.Customer.Source,
		Severity: parseSeverity(d.Severity), Summary: d.Summary, Time: d.Time, Since: d.Since, FirstFired: d.First,
		Observed: string(d.Observed), Expected: string(d.Expected), Probability: -1, HorizonDays: d.Horizon,
		Evidence: d.Evidence, DetectorVersion: d.Version, ConfigHash: d.Config,
	}
	if s.Detector == "" {
		s.Detector = d.Kind
	}
	if d.P != nil {
		s.Probability = *d.P
	}
	if d.AtRisk != nil {
		if m, _, err := event.ParseMoney(string(d.AtRisk.Amount)); err == nil {
			s.AtRisk, s.HasRisk, s.Currency = m, true, d.AtRisk.Currency
		}
	}
	if s.FirstFired.IsZero() {
		s.FirstFired = s.Time
	}
	return s, nil
}

// text takes a JSON string or number for what it looks like.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*t = text(s)
		return nil
	}
	if string(b) != "null" {
		*t = text(b)
	}
	return nil
}
