package alerts_test

import (
	"testing"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/population/populationtest"
	"ebb/state/customer"
	"ebb/stream/event"
)

// An alert of silence is told by the plain rule, because nothing has been learnt yet: no use and no purchase. Then it turns out that purchases count. A use ends that alert all the same.
func TestSilenceToldBeforeAnythingIsLearnt(t *testing.T) {
	cfg := contract()
	cfg.Silence.Method, cfg.Silence.LeastProbability = detectors.Model, 0.35
	p := newPipeline(t, cfg, time.UTC)
	var steps []alerts.StepKind
	p.emit = func(_ *customer.Record, s *alerts.Step, _, _ alerts.Message) {
		if s.Detector == detectors.SilenceName {
			steps = append(steps, s.Kind)
		}
	}
	send := func(day int64, kind event.Kind) {
		p.apply(&event.Event{Feed: kind.Feed(), Kind: kind, Time: t0 + day*dayMs, Customer: []byte("ann"), Amount: 100_000, IDHash: uint64(day) + 1})
	}
	for day := int64(0); day < 30; day += 5 {
		send(day, event.KindPurchase)
	}
	send(27, event.KindUsage)
	p.tick(t0 + 42*dayMs)
	p.env.Population = populationtest.Weekly(*p.set.Population(), int32(t0/dayMs)+42)
	send(45, event.KindUsage)
	if len(steps) != 2 || steps[0] != alerts.StepFired || steps[1] != alerts.StepResolved {
		t.Errorf("%v, want it fired and resolved", steps)
	}
}
