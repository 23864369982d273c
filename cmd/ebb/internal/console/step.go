package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ebb/alerts"
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
	// AsOf is as of when the sentence tells: Time, or when the youngest of what is told within the alert fired, if that is later.
	AsOf               time.Time
	Observed, Expected string
	Probability        float64 // negative: not given
	HorizonDays        int
	// AtRisk is the money at risk; HasRisk says whether it was given.
	AtRisk   event.Money
	HasRisk  bool
	Currency string
	// Lost is the money lost so far with its currency, empty where it is not known.
	Lost string
	// Cause is what is suspected to drive the customer away, HeldFor the alert about a cohort within which this one was held back, such as owner=kim; empty: none.
	Cause, HeldFor string
	// By is who did what this step tells, empty where nobody did.
	By string
	// What people did about it so far; empty and zero for what nobody did.
	AcknowledgedBy, Assignee, ContactedBy, Note string
	Acknowledged, Contacted, Snoozed            time.Time
	// Evidence is the JSON object as it stands in the event.
	Evidence        json.RawMessage
	DetectorVersion string
	ConfigHash      string
}

// ErrNotAStep is returned by ParseStep for a value that is no step of an alert.
var ErrNotAStep = errors.New("no step of an alert")

// ParseStep reads the data object of an alert event or of an operational event. What is new in it is borne, as any subscriber has
// to: unknown members, steps and reasons; a severity that is not known counts as info.
func ParseStep(value []byte) (*Step, error) {
	a, err := alerts.Parse(value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotAStep, err)
	}
	s := &Step{
		AlertID: a.AlertID, Revision: a.Revision, Resolved: a.Status == "resolved", Kind: a.Step, Reason: a.Reason,
		Detector: a.Detector, Customer: a.CustomerID, Severity: parseSeverity(a.Severity), Summary: a.Summary,
		Time: a.Time, Since: a.Since, FirstFired: a.FirstFiredAt, Observed: a.Observed, Expected: a.Expected,
		Probability: -1, HorizonDays: a.HorizonDays, Evidence: a.Evidence, DetectorVersion: a.DetectorVersion, ConfigHash: a.ConfigHash,
		AcknowledgedBy: a.AcknowledgedBy, Assignee: a.Assignee, ContactedBy: a.ContactedBy, Note: a.Note,
		Cause: a.SuspectedCause, By: a.By, Acknowledged: a.AcknowledgedAt, Contacted: a.ContactedAt, Snoozed: a.SnoozedUntil,
	}
	if a.HeldBackFor != nil {
		s.HeldFor = a.HeldBackFor.ID
	}
	if a.Subject != nil {
		s.SubjectType, s.SubjectID = a.Subject.Type, a.Subject.ID
	}
	if c := a.Customer; c != nil {
		s.Tier, s.Segment, s.Region, s.Owner, s.Product, s.Source = c.Tier, c.Segment, c.Region, c.Owner, c.Product, c.Source
	}
	if a.Probability != nil {
		s.Probability = *a.Probability
	}
	if a.MoneyAtRisk != nil {
		// An amount that cannot be read is not known; the alert is worth showing without it.
		if m, _, err := event.ParseMoney(a.MoneyAtRisk.Amount); err == nil {
			s.AtRisk, s.HasRisk, s.Currency = m, true, a.MoneyAtRisk.Currency
		}
	}
	if lost := a.MoneyLostSoFar; lost != nil {
		if m, _, err := event.ParseMoney(lost.Amount); err == nil {
			s.Lost = money(m) + " " + lost.Currency
		}
	}
	if s.FirstFired.IsZero() {
		s.FirstFired = s.Time
	}
	s.AsOf = s.Time
	for i := range a.Together {
		if at := a.Together[i].FirstFiredAt; at.After(s.AsOf) {
			s.AsOf = at
		}
	}
	return s, nil
}
