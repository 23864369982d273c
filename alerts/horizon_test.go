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

// Who comes every seven weeks is told of for longer than the configured horizon. All steps of the alert name the time that its money at risk is of.
func TestEveryStepNamesTheHorizonOfTheMoney(t *testing.T) {
	cfg := detectors.Defaults()
	cfg.SpendDrop.Enabled, cfg.Silence.LeastProbability, cfg.Silence.BudgetPercent = false, 0.05, 0
	p := newPipeline(t, cfg, time.UTC)
	p.env.Population = populationtest.Weekly(*p.set.Population(), int32(t0/dayMs))
	days := map[string]int{}
	p.emit = func(_ *customer.Record, _ *alerts.Step, m, _ alerts.Message) {
		a, err := alerts.Parse(m.Value)
		if err != nil {
			t.Fatal(err)
		}
		if a.MoneyAtRisk != nil {
			days[a.Step] = a.HorizonDays
		}
	}
	for i := range int64(6) {
		p.apply(&event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: t0 + i*49*dayMs, Customer: []byte("ann"), Amount: 500_000, IDHash: uint64(i) + 1})
	}
	p.tick(t0 + 320*dayMs)
	p.apply(&event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: t0 + 321*dayMs, Customer: []byte("ann"), Amount: 500_000, IDHash: 99})
	if days["fired"] <= 60 || days["resolved"] != days["fired"] {
		t.Errorf("days by step: %v", days)
	}
}
