package alerts_test

import (
	"slices"
	"testing"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
)

// Two customers pay every fourth day, miss two months, and pay again; both use the product all the time. Of the first it is known that his card failed: he is told as
// such, and neither then nor later as one who spends less.
func TestOwedTimeIsNoDrop(t *testing.T) {
	cfg := detectors.Defaults()
	cfg.Silence.Enabled = false
	p := newPipeline(t, cfg, time.UTC)
	told := map[string][]string{}
	p.emit = func(r *customer.Record, s *alerts.Step, _, _ alerts.Message) {
		if s.Kind == alerts.StepFired {
			told[r.ID] = append(told[r.ID], s.Detector)
		}
	}
	const fails, pays, days = 300, 360, 480
	id := uint64(0)
	for day := range int64(days) {
		for _, who := range []string{"card", "less"} {
			at := t0 + day*dayMs + 9*3_600_000
			send := func(e event.Event) {
				id++
				e.Time, e.Customer, e.IDHash, e.Feed = at+int64(id%60_000), []byte(who), id*0x9e3779b97f4a7c15, e.Kind.Feed()
				p.apply(&e)
			}
			if day%3 == 0 {
				send(event.Event{Kind: event.KindUsage})
			}
			amount := event.Money(490_000 + 10_000*(day%5))
			switch {
			case day%4 != 0:
			case day < fails || day >= pays:
				send(event.Event{Kind: event.KindPurchase, Amount: amount, Recurring: true})
			case who == "card":
				send(event.Event{Kind: event.KindChargeFailed, Amount: amount, Recurring: true, Attempt: uint16(1 + (day-fails)/4)})
			}
		}
	}
	p.tickAll(t0 + days*dayMs)
	for who, want := range map[string][]string{"card": {detectors.PaymentTroubleName}, "less": {detectors.SpendDropName}} {
		if !slices.Equal(told[who], want) {
			t.Errorf("%s is told as %v, want %v", who, told[who], want)
		}
	}
}
