package stream

import (
	"testing"

	"ebb/state/customer"
	"ebb/stream/event"
)

// Money at risk counts a customer once, with the greatest of his published alerts, and what goes out takes with it what it
// brought in.
func TestTallyCountsMoneyAtRiskOnce(t *testing.T) {
	r := &customer.Record{Lifecycles: []customer.Lifecycle{
		{Detector: "silence", AtRisk: 300},
		{Detector: "spend_drop", AtRisk: 500},
		{Detector: "complaint_unresolved", Subject: "T-1", AtRisk: 900, Unpublished: true},
	}}
	var sum tally
	sum.in(r)
	var atRisk event.Money
	alerts := int64(0)
	for _, o := range sum.sums() {
		atRisk += o.AtRisk
		alerts += o.Count
	}
	if atRisk != 500 || alerts != 2 {
		t.Errorf("%d alerts with %d at risk, want 2 with 500", alerts, atRisk)
	}
	sum.out(r)
	if left := sum.sums(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
