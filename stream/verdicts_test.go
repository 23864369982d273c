package stream

import (
	"fmt"
	"reflect"
	"testing"

	"ebb/alerts"
	"ebb/detectors/cohorts"
	"ebb/stream/event"
)

func TestVerdictsAreCountedAndStored(t *testing.T) {
	const day = 24 * hourMs
	var s verdicts
	for _, v := range []struct {
		alerts.Verdict
		tier string
	}{
		{alerts.Verdict{Detector: "silence", Severity: alerts.Warning, Result: alerts.ResultRight, Probability: 830, LeadMs: 46 * day}, "gold"},
		{alerts.Verdict{Detector: "silence", Severity: alerts.Warning, Result: alerts.ResultRight, Probability: 1000, LeadMs: 3 * day}, "gold"},
		{alerts.Verdict{Detector: "silence", Severity: alerts.Warning, Result: alerts.ResultFalseAlarm, Probability: 950, LeadMs: 46 * day}, ""},
		{alerts.Verdict{Detector: "silence", Severity: alerts.Critical, Result: alerts.ResultSaved, Probability: 970, LeadMs: 400 * day}, ""},
		{alerts.Verdict{Detector: "silence", Severity: alerts.Warning, Result: alerts.ResultUnknown, Probability: 850}, ""},
		{alerts.Verdict{Detector: "spend_drop", Severity: alerts.Warning, Result: alerts.ResultWrong}, ""},
	} {
		s.add(v.Verdict, v.tier)
	}
	again := verdicts{}
	d := &decoder{b: s.append(nil)}
	again.decode(d)
	if d.err != nil || len(d.b) != 0 {
		t.Fatal(d.err, len(d.b))
	}
	other := emptyVerdicts()
	other.join(&again)
	for _, got := range []verdicts{s, again, s.copied(), other} {
		sums := got.sums()
		if want := (Precision{3, 4}); sums.Precision()["silence"] != want || sums.Precision()["spend_drop"] != (Precision{0, 1}) {
			t.Errorf("precision is %v, want %v of silence and 0 of 1 of spend_drop", sums.Precision(), want)
		}
		if want := []BucketSum{{"silence", 8, 1, 1, 0.83}, {"silence", 9, 2, 1, 0.975}}; !reflect.DeepEqual(sums.Buckets, want) {
			t.Errorf("buckets are %v, want %v", sums.Buckets, want)
		}
		if len(sums.Results) != 5 || sums.Results[2].Tier != "gold" || sums.Results[2].Count != 2 {
			t.Errorf("results are %v", sums.Results)
		}
		lead := sums.Leads[0]
		if len(sums.Leads) != 1 || lead.Count != 3 || lead.Sum != 449 || lead.Counts[3] != 1 || lead.Counts[45] != 1 || lead.Counts[60] != 2 || lead.Counts[90] != 2 {
			t.Errorf("leads are %v", sums.Leads)
		}
	}
	if want := (verdicts{}); !reflect.DeepEqual(want.copied(), want) {
		t.Error("a copy of nothing is something")
	}
	if d := (&decoder{b: []byte{0xff, 0xff, 0x7f}}); counted(d) != 0 || d.err == nil {
		t.Error("a list of any length is read")
	}
}

// What a partition has counted stays with it when the feeds grow; a new one has counted nothing, so that the sum stays.
func TestVerdictsWhenPartitionsAreAdded(t *testing.T) {
	old := []*taskRecord{{}, nil, {}}
	for i, n := range []int{3, 0, 5} {
		for range n {
			old[i].verdicts.add(alerts.Verdict{Detector: fmt.Sprint(i)}, "")
		}
	}
	whole := emptyVerdicts()
	for _, r := range spread(old, 5) {
		whole.join(&r.verdicts)
	}
	var sum int64
	for _, r := range whole.sums().Results {
		sum += r.Count
	}
	if sum != 8 {
		t.Errorf("%d verdicts after growing, want 8", sum)
	}
}

// Over fewer partitions nothing is lost of what was counted.
func TestSpreadOverFewerPartitions(t *testing.T) {
	var old []*taskRecord
	for p := range 3 {
		r := &taskRecord{group: "g"}
		r.verdicts.add(alerts.Verdict{Detector: "silence", Result: alerts.ResultRight, Probability: 700, LeadMs: dayMs}, "gold")
		r.census.begin([]cohorts.Dimension{cohorts.Everybody}, true)
		r.census.day = int32(20_000 + p)
		r.census.totals[20_005] = cohorts.Totals{cohorts.Spend: 7}
		old = append(old, r)
	}
	whole, spent := emptyVerdicts(), event.Money(0)
	for _, r := range spread(old, 2) {
		whole.join(&r.verdicts)
		spent += r.census.totals[20_005][cohorts.Spend]
	}
	if got := whole.sums(); len(got.Results) != 1 || got.Results[0].Count != 3 || got.Leads[0].Count != 3 {
		t.Errorf("%+v", got)
	}
	if spent != 21 {
		t.Errorf("%d was spent, want 21", spent)
	}
}
