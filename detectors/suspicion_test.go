package detectors

import (
	"testing"
	"time"

	"ebb/state/customer"
	"ebb/stream/event"
)

func TestSuspect(t *testing.T) {
	const day = 24 * 3_600_000
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli()
	failed := func(ago int64) event.Event {
		return event.Event{Feed: event.Usage, Kind: event.KindUsage, Time: at - ago*day, Outcome: event.OutcomeFailed}
	}
	step := func(kind event.Kind, ago int64, due int64) event.Event {
		return event.Event{Feed: event.Complaints, Kind: kind, Time: at - ago*day, ComplaintID: []byte("T-1"), Priority: event.PriorityNormal, Due: due}
	}
	charge := func(kind event.Kind, ago int64) event.Event {
		return event.Event{Feed: event.Payments, Kind: kind, Time: at - ago*day, Attempt: 1, Amount: 5}
	}
	offered := func(ago, endedAgo int64) event.Event {
		e := event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: at - ago*day, Amount: 5}
		if endedAgo != 0 {
			e.Promotion, e.PromotionEnds = []byte("offer"), at-endedAgo*day
		}
		return e
	}
	for _, c := range []struct {
		rule    string
		events  []event.Event
		subject string
		want    event.Cause
	}{
		{"nothing went wrong", []event.Event{{Feed: event.Usage, Kind: event.KindUsage, Time: at - day}}, "", event.CauseNone},
		{"two failures may happen", []event.Event{failed(3), failed(2)}, "", event.CauseNone},
		{"three tell", []event.Event{failed(4), failed(3), failed(2)}, "", event.CauseProductQuality},
		{"three long ago do not", []event.Event{failed(64), failed(63), failed(62)}, "", event.CauseNone},
		{"a complaint, though it was resolved", []event.Event{failed(4), failed(3), failed(2), step(event.KindOpened, 10, 0), step(event.KindResolved, 9, 0)}, "", event.CauseServiceProcess},
		{"a complaint that has been open for long", []event.Event{step(event.KindOpened, 85, 0)}, "", event.CauseServiceProcess},
		{"the complaint itself", []event.Event{step(event.KindOpened, 10, 0)}, "T-1", event.CauseServiceProcess},
		{"a promise that was not kept", []event.Event{step(event.KindOpened, 10, 0), step(event.KindPromised, 9, at-5*day)}, "", event.CauseBrokenPromise},
		{"a payment that fails", []event.Event{step(event.KindOpened, 10, 0), charge(event.KindChargeFailed, 5)}, "", event.CausePaymentFailure},
		{"the complaint all the same", []event.Event{step(event.KindOpened, 10, 0), charge(event.KindChargeFailed, 5)}, "T-1", event.CauseServiceProcess},
		{"a payment that was made up for", []event.Event{charge(event.KindChargeFailed, 5), charge(event.KindCharge, 4)}, "", event.CauseNone},
		{"one that nobody waits for any more", []event.Event{charge(event.KindChargeFailed, 100)}, "", event.CausePaymentFailure},
		{"one that nobody waits for for long", []event.Event{charge(event.KindChargeFailed, 200)}, "", event.CauseNone},
		{"the last of his offers has ended", []event.Event{offered(80, 70), offered(40, 30)}, "", event.CausePrice},
		{"it ended long ago", []event.Event{offered(90, 70), offered(80, 70)}, "", event.CauseNone},
		{"it lasts", []event.Event{offered(80, 70), offered(40, -10)}, "", event.CauseNone},
		{"he bought without an offer too", []event.Event{offered(80, 70), offered(45, 0), offered(40, 30)}, "", event.CauseNone},
		{"one purchase says nothing", []event.Event{offered(40, 30)}, "", event.CauseNone},
		{"what went wrong goes before the price", []event.Event{offered(80, 70), offered(40, 30), failed(4), failed(3), failed(2)}, "", event.CauseProductQuality},
	} {
		cal := customer.NewCalendar(time.UTC)
		p := customer.DefaultParams(cal)
		p.Bills = true
		r := &customer.Record{ID: "c"}
		for i := range c.events {
			c.events[i].IDHash = uint64(i) + 1
			r.Apply(&c.events[i], &p)
		}
		if got := Suspect(r, &Env{Now: at, Calendar: cal, giveUp: 90 * day}, c.subject, at); got != c.want {
			t.Errorf("%s: %v, want %v", c.rule, got, c.want)
		}
	}
}
