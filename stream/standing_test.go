package stream

import (
	"encoding/hex"
	"testing"

	"ebb/alerts"
	"ebb/detectors/cohorts"
	"ebb/stream/event"
)

// stored is what a changelog holds of what is watched.
type stored map[string][]byte

func (s stored) write(t *testing.T, w *watching) {
	t.Helper()
	err := w.write(func(key, value []byte) error { s[string(key)] = value; return nil })
	if err != nil {
		t.Fatal(err)
	}
	w.written()
}

func (s stored) restore(t *testing.T, cfg cohorts.Config, p *alerts.Policy) *watching {
	t.Helper()
	w := newWatching(cfg, p)
	for key, value := range s {
		if value == nil {
			continue
		}
		if err := w.restore(key, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.restored(1); err != nil {
		t.Fatal(err)
	}
	return w
}

// Whose alert about a cohort is closed by a person holds nobody back from the next day on, though the second stage moves to another instance meanwhile.
func TestAClosedCohortHoldsNobodyBackAfterATakeOver(t *testing.T) {
	cfg := cohorts.Config{FalseAlarms: 0.5, LeastMembers: 5, By: []cohorts.Dimension{cohorts.Owner}, HoldBack: true}
	policy := alerts.New(alerts.Config{Group: "g"})
	w, changelog := newWatching(cfg, policy), stored{}
	kim := cohorts.Key{By: cohorts.Owner, Value: "kim"}
	w.take(0, &cohortsTold{day: 20_000}, 1, 0, 1)
	w.live(&cohorts.Finding{Key: kim, Day: 20_000, Since: 19_990, Firing: true, Leavers: 9, Active: 30}, false)
	changelog.write(t, w)

	w = changelog.restore(t, cfg, policy)
	open := w.open.Cohorts[kim]
	if open == nil || len(w.told.Spans) != 1 || w.told.Spans[0].Until != 0 {
		t.Fatalf("the alert is not open: %+v", w.told)
	}
	id := policy.WideID(open)
	_, result := w.act(&event.Event{Feed: event.Control, Kind: event.KindOutcome, Time: 20_001*dayMs + 1, Control: &event.Act{AlertID: hex.EncodeToString(id[:]), Result: event.ResultFalseAlarm}})
	if w.open.Cohorts[kim] != nil {
		t.Fatalf("it was not closed: %v", result)
	}
	changelog.write(t, w)

	w = changelog.restore(t, cfg, policy)
	w.take(0, &cohortsTold{day: 20_001}, 1, 1, 2)
	if w.told.Open(kim, open.Opened, 20_001) {
		t.Errorf("alerts are held back for it still: %+v", w.told)
	}
}
