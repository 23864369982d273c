package alerts_test

import (
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
)

// A snooze ends, or a reminder is due, while the history is read again: the alert still fires, and that is told, and from then on again.
func TestRemindersThatAreDueInARewind(t *testing.T) {
	for name, c := range map[string]struct {
		snooze bool
		remind detectors.Duration
		want   []alerts.StepKind
	}{
		"snoozed":        {snooze: true, want: []alerts.StepKind{alerts.StepFired, alerts.StepChanged, alerts.StepReminded}},
		"unacknowledged": {remind: 3 * detectors.Day, want: []alerts.StepKind{alerts.StepFired, alerts.StepReminded, alerts.StepReminded, alerts.StepReminded}},
	} {
		p := newPipeline(t, contract(), time.UTC)
		p.remindAfter(c.remind)
		var steps []alerts.StepKind
		id := ""
		p.emit = func(_ *customer.Record, s *alerts.Step, _, _ alerts.Message) {
			steps, id = append(steps, s.Kind), hex.EncodeToString(s.AlertID[:])
		}
		use := &event.Event{Feed: event.Usage, Kind: event.KindUsage, Time: t0, Customer: []byte("ann"), IDHash: 1}
		p.apply(use)
		p.tick(t0 + 15*dayMs)
		if c.snooze {
			p.act(&event.Event{
				Feed: event.Control, Kind: event.KindSnooze, Time: t0 + 15*dayMs, Customer: []byte("ann"), IDHash: 2,
				Control: &event.Act{AlertID: id, By: "kim", Until: t0 + 20*dayMs},
			})
		}
		p.record("ann").Rewind()
		p.mode = alerts.Quiet
		p.apply(use)
		p.tick(t0 + 21*dayMs)
		p.endQuiet(t0 + 21*dayMs)
		p.tick(t0 + 28*dayMs)
		if !slices.Equal(steps, c.want) {
			t.Errorf("%s: %v, want %v", name, steps, c.want)
		}
	}
}
