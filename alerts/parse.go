package alerts

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Alert is the data object of an alert event or of an operational event, as subscribers read it. What was absent has its zero
// value; unknown fields, steps and reasons are tolerated.
type Alert struct {
	AlertID         string          `json:"alert_id"`
	Revision        uint32          `json:"revision"`
	Status          string          `json:"status"` // firing or resolved
	Step            string          `json:"step"`   // fired, changed, acknowledged, reminded, resolved
	Reason          string          `json:"reason,omitempty"`
	Outcome         string          `json:"outcome,omitempty"` // saved, lost, false_alarm
	Cause           string          `json:"cause,omitempty"`
	By              string          `json:"by,omitempty"`
	AcknowledgedBy  string          `json:"acknowledged_by,omitempty"`
	AcknowledgedAt  time.Time       `json:"acknowledged_at,omitzero"`
	Assignee        string          `json:"assignee,omitempty"`
	ContactedBy     string          `json:"contacted_by,omitempty"`
	ContactedAt     time.Time       `json:"contacted_at,omitzero"`
	SnoozedUntil    time.Time       `json:"snoozed_until,omitzero"`
	Note            string          `json:"note,omitempty"`
	Detector        string          `json:"detector"`
	Subject         *Subject        `json:"subject,omitempty"`
	CustomerID      string          `json:"customer_id,omitempty"`
	Customer        *About          `json:"customer,omitempty"`
	Severity        string          `json:"severity"`
	Summary         string          `json:"summary"`
	Time            time.Time       `json:"time"`
	Since           time.Time       `json:"since,omitzero"`
	FirstFiredAt    time.Time       `json:"first_fired_at,omitzero"`
	Observed        string          `json:"observed,omitempty"`
	Expected        string          `json:"expected,omitempty"`
	Probability     *float64        `json:"probability,omitempty"`
	HorizonDays     int             `json:"horizon_days,omitempty"`
	MoneyAtRisk     *Amount         `json:"money_at_risk,omitempty"`
	MoneyLostSoFar  *Amount         `json:"money_lost_so_far,omitempty"`
	SuspectedCause  string          `json:"suspected_cause,omitempty"`
	Evidence        json.RawMessage `json:"evidence,omitempty"`
	Together        []Guest         `json:"together,omitempty"`
	HeldBackFor     *HeldBackFor    `json:"held_back_for,omitempty"`
	DetectorVersion string          `json:"detector_version,omitempty"`
	ConfigHash      string          `json:"config_hash,omitempty"`
}

// Subject is what an alert is about within the customer, or what an operational alert is about.
type Subject struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// About is what the event says of the customer.
type About struct {
	Tier    string `json:"tier,omitempty"`
	Segment string `json:"segment,omitempty"`
	Region  string `json:"region,omitempty"`
	Owner   string `json:"owner,omitempty"`
	Product string `json:"product,omitempty"`
	Plan    string `json:"plan,omitempty"`
	Source  string `json:"source,omitempty"`
	Buys    string `json:"buys,omitempty"`
	Stage   string `json:"stage,omitempty"`
}

// Guest is another alert that is told within one.
type Guest struct {
	Detector        string          `json:"detector"`
	Subject         *Subject        `json:"subject,omitempty"`
	Severity        string          `json:"severity"`
	Since           time.Time       `json:"since,omitzero"`
	FirstFiredAt    time.Time       `json:"first_fired_at"`
	Probability     *float64        `json:"probability,omitempty"`
	Summary         string          `json:"summary,omitempty"`
	Evidence        json.RawMessage `json:"evidence,omitempty"`
	DetectorVersion string          `json:"detector_version,omitempty"`
}

// HeldBackFor names the alert about a cohort of customers within which an alert was held back.
type HeldBackFor struct {
	ID      string `json:"id"` // its subject, such as owner=kim
	AlertID string `json:"alert_id"`
}

// Amount is money with its currency. The amount is an exact decimal number.
type Amount struct {
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
}

// Firing reports whether the alert is open after this step.
func (a *Alert) Firing() bool { return a.Status == "firing" }

// Parse reads a data object.
func Parse(b []byte) (*Alert, error) {
	a := &Alert{}
	if err := json.Unmarshal(b, a); err != nil {
		return nil, fmt.Errorf("alert event: %w", err)
	}
	if a.AlertID == "" || a.Step == "" {
		return nil, errors.New("alert event: alert_id or step is missing")
	}
	return a, nil
}
