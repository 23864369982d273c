package alerts_test

import (
	"testing"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
)

// A customer uses the product shortly after the moment at which his complaint is to be warned of early: so shortly that the moment is decided at its own time, after that. The warning is
// told all the same.
func TestEarlyWarningShortlyBeforeAnEvent(t *testing.T) {
	cfg := contract()
	cfg.ComplaintUnresolved.Resolution = detectors.AllPriorities(detectors.Within(10 * detectors.Day))
	cfg.ComplaintUnresolved.Warn = detectors.WarnConfig{Early: 0.25, Late: 0.8, Right: 0.8}
	p := newPipeline(t, cfg, time.UTC)
	d := alerts.Decider{Detectors: p.set, Policy: p.policy, OutOfOrder: 600_000}
	env := &p.env
	env.Misses = missRates{customer.Hash([]byte("lab")): 0.9}
	r := &customer.Record{ID: "ann"}
	var told []string
	decide := func(at int64, trigger *event.Event) int64 {
		p.know(at)
		x := d.Decide(r, env, trigger, alerts.Publish, at)
		for i := range x.Steps {
			s := &x.Steps[i]
			told = append(told, s.Kind.String()+" "+s.Severity.String()+" "+time.UnixMilli(s.At).UTC().Format(time.DateTime))
		}
		r.Deadline = x.Next
		return x.Next
	}
	apply := func(e event.Event) {
		e.Customer, e.Feed = []byte("ann"), e.Kind.Feed()
		r.Apply(&e, &p.params)
		decide(e.Time, &e)
	}
	early := t0 + 10*dayMs/4
	apply(event.Event{Kind: event.KindOpened, Time: t0, IDHash: 1, ComplaintID: []byte("T-1"), Priority: event.PriorityNormal, Group: []byte("lab")})
	apply(event.Event{Kind: event.KindUsage, Time: early + 300_000, IDHash: 2})
	alerts.Settle(r, early+600_000, func(at int64) { decide(at, nil) })
	if want := "fired info " + time.UnixMilli(early).UTC().Format(time.DateTime); len(told) != 1 || told[0] != want {
		t.Errorf("told %q, want %q", told, want)
	}
}
