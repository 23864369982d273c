package alerts_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
)

// TestAlertID: ids are a contract. They depend on group, customer, detector, subject and the time of firing, and on nothing
// else: not on the configuration, and not on where the event lay.
func TestAlertID(t *testing.T) {
	fire := func(group, who, hash string, offset int64) (id string, step alerts.Step) {
		set, err := detectors.NewSet(contract())
		if err != nil {
			t.Fatal(err)
		}
		p := alerts.New(alerts.Config{Group: group, Detectors: set, ConfigHash: hash, Currency: event.Currency{'E', 'U', 'R'}})
		env := &detectors.Env{Now: t0, Calendar: customer.NewCalendar(nil), Rates: detectors.MustRates("EUR", nil)}
		r := &customer.Record{ID: who, First: t0, Latest: t0, LastActivity: t0}
		steps := p.Decide(r, []detectors.Signal{{Detector: "silence", State: detectors.Firing, At: t0, Since: t0, Severity: alerts.Warning}}, env, alerts.Publish, nil)
		m, _ := p.Message(&steps[0], r, env, event.Position{Topic: "usage", Partition: int32(offset), Offset: offset})
		a, err := alerts.Parse(m.Value)
		if err != nil {
			t.Fatal(err)
		}
		return a.AlertID, steps[0]
	}
	id, step := fire("ebb", "c-1", "a", 1)
	if again, _ := fire("ebb", "c-1", "b", 2); again != id {
		t.Error("the id depends on configuration or position")
	}
	if other, _ := fire("ebb2", "c-1", "a", 1); other == id {
		t.Error("the id does not depend on the group")
	}
	if other, _ := fire("ebb", "c-2", "a", 1); other == id {
		t.Error("the id does not depend on the customer")
	}
	h := sha256.New()
	for _, s := range []string{"ebb", "c-1", "silence", ""} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		h.Write([]byte(s))
	}
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(t0)))
	if want := hex.EncodeToString(h.Sum(nil)[:16]); id != want || hex.EncodeToString(step.AlertID[:]) != want {
		t.Errorf("id %s, want %s", id, want)
	}
}

// TestSeverityGrowsOnly: an alert does not flap around a threshold.
func TestSeverityGrowsOnly(t *testing.T) {
	set, err := detectors.NewSet(contract())
	if err != nil {
		t.Fatal(err)
	}
	p := alerts.New(alerts.Config{Group: "g", Detectors: set})
	env := &detectors.Env{Now: t0}
	r := &customer.Record{ID: "c"}
	var kinds []string
	for i, s := range []detectors.Severity{alerts.Warning, alerts.Warning, alerts.Critical, alerts.Warning, alerts.Critical, alerts.Info} {
		sig := detectors.Signal{Detector: "silence", State: detectors.Firing, At: t0 + int64(i), Severity: s}
		for _, st := range p.Decide(r, []detectors.Signal{sig}, env, alerts.Publish, nil) {
			kinds = append(kinds, fmt.Sprintf("%d %s %s %d", i, st.Kind, st.Severity, st.Revision))
		}
	}
	if got := strings.Join(kinds, ", "); got != "0 fired warning 1, 2 changed critical 2" {
		t.Error(got)
	}
	hold := detectors.Signal{Detector: "silence", State: detectors.Hold, At: t0}
	if st := p.Decide(r, []detectors.Signal{hold}, env, alerts.Publish, nil); len(st) != 0 || len(r.Lifecycles) != 1 {
		t.Error("hold changes nothing")
	}
	unknown := detectors.Signal{Detector: "silence", Subject: "T-1", State: detectors.Clear, At: t0}
	if st := p.Decide(r, []detectors.Signal{unknown}, env, alerts.Publish, nil); len(st) != 0 {
		t.Error("the end of what never began is nothing")
	}
}

// TestLifecycleCap: an alert that does not fit is counted, not lost without a word.
func TestLifecycleCap(t *testing.T) {
	set, err := detectors.NewSet(contract())
	if err != nil {
		t.Fatal(err)
	}
	p := alerts.New(alerts.Config{Group: "g", Detectors: set, MaxLifecycles: 4})
	r := &customer.Record{ID: "c"}
	var sigs []detectors.Signal
	for i := range 6 {
		sigs = append(sigs, detectors.Signal{Detector: "complaint_unresolved", Subject: fmt.Sprint("T-", i), State: detectors.Firing, At: t0, Severity: alerts.Warning})
	}
	if st := p.Decide(r, sigs, &detectors.Env{Now: t0}, alerts.Publish, nil); len(st) != 4 || r.Overflows().Lifecycles != 2 {
		t.Errorf("%d steps, %d counted", len(st), r.Overflows().Lifecycles)
	}
}

func TestForget(t *testing.T) {
	set, err := detectors.NewSet(contract())
	if err != nil {
		t.Fatal(err)
	}
	p := alerts.New(alerts.Config{Group: "g", Detectors: set, ForgetAfter: 800 * detectors.Day})
	params := customer.DefaultParams(customer.NewCalendar(nil))
	r := &customer.Record{ID: "c"}
	r.Apply(&event.Event{Feed: event.Usage, Kind: event.KindUsage, Time: t0, IDHash: 1}, &params)
	at := t0 + 800*dayMs
	if p.ForgetAt(r) != at || p.Forget(r, at-1) || !p.Forget(r, at) {
		t.Error("a record is forgotten 800 days after its last event")
	}
	r.Lifecycles = []customer.Lifecycle{{Detector: "silence"}}
	if p.Forget(r, at) || p.ForgetAt(r) <= at {
		t.Error("a record with an open alert is not")
	}
	q := &customer.Record{ID: "c"}
	q.Apply(&event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: t0, Profile: &event.Profile{Tier: "gold"}}, &params)
	if p.Forget(q, at) || p.ForgetAt(q) <= at {
		t.Error("a profile of whom no event was seen yet is kept: the history may begin with him")
	}
	q.Apply(&event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: t0, Profile: &event.Profile{Status: customer.StatusClosed}}, &params)
	if !p.Forget(q, at) {
		t.Error("a closed one is not")
	}
}

// TestOperational: what concerns no customer has the same envelope, and its key says what it is about.
func TestOperational(t *testing.T) {
	set, err := detectors.NewSet(contract())
	if err != nil {
		t.Fatal(err)
	}
	p := alerts.New(alerts.Config{Group: "ebb", Detectors: set, ConfigHash: "c0ffee"})
	ids := map[string]bool{}
	sch := readSchema(t, alerts.OperationalSchema)
	for _, kind := range alerts.OperationalKinds() {
		for _, step := range alerts.StepKinds() {
			op := &alerts.Operational{Kind: kind, Subject: "feed/usage", Step: step, Severity: alerts.Critical, Revision: uint32(step), At: t0 + 5, Opened: t0 + 1, Since: t0, Partitions: []int32{0, 7}, Detail: `say "why"`}
			m := p.OperationalMessage(op)
			sch.conforms(t, m.Value)
			a, err := alerts.Parse(m.Value)
			if err != nil {
				t.Fatal(err)
			}
			headers := map[string]string{}
			for _, h := range m.Headers {
				headers[h.Key] = string(h.Value)
			}
			if string(m.Key) != op.Key() || headers["ce_subject"] != op.Key() || headers["ce_type"] != "io.ebb.operational."+step.String()+".v1" ||
				headers["ce_id"] != fmt.Sprintf("%s/%d", a.AlertID, step) || headers["ce_source"] != "/ebb/ebb" || headers["ce_dataschema"] != alerts.OperationalSchema {
				t.Errorf("%s %s: key %s, headers %v", kind, step, m.Key, headers)
			}
			if a.CustomerID != "" || a.Customer != nil || a.Detector != string(kind) || a.Subject.Type != "feed" || a.Subject.ID != "usage" ||
				a.Firing() != (step != alerts.StepResolved) || a.Summary == "" || strings.Contains(a.Summary, "%") || !a.Time.Equal(time.UnixMilli(t0+5)) ||
				string(a.Evidence) != `{"detail":"say \"why\"","partition_count":2,"partitions":[0,7]}` {
				t.Errorf("%s %s: %s", kind, step, m.Value)
			}
			ids[a.AlertID] = true
		}
	}
	if len(ids) != len(alerts.OperationalKinds()) {
		t.Errorf("%d ids for %d alerts", len(ids), len(alerts.OperationalKinds()))
	}
	if key := (&alerts.Operational{Kind: alerts.FeedStalled, Subject: "feed/usage"}).Key(); key != "feed/usage/stalled" {
		t.Error(key)
	}
}

// TestMessageOfHostileTexts: whatever ids and profiles hold, the event is valid JSON and says the same.
func TestMessageOfHostileTexts(t *testing.T) {
	cfg := contract()
	p := newPipeline(t, cfg, time.UTC)
	hostile := "x\"},\n\x01{\\\u2028</script>\xf0\x9f\x98\x80"
	var got *alerts.Alert
	p.emit = func(_ *customer.Record, _ *alerts.Step, m, _ alerts.Message) {
		if !json.Valid(m.Value) {
			t.Fatalf("%s", m.Value)
		}
		var err error
		if got, err = alerts.Parse(m.Value); err != nil {
			t.Fatal(err)
		}
	}
	p.apply(&event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: t0, Customer: []byte(hostile), Profile: &event.Profile{Owner: hostile}})
	p.apply(&event.Event{
		Feed: event.Complaints, Kind: event.KindOpened, Time: t0, Customer: []byte(hostile), IDHash: 1, ComplaintID: []byte(hostile), Priority: event.PriorityCritical,
	})
	if got == nil || got.CustomerID != hostile || got.Subject.ID != hostile || got.Customer.Owner != hostile {
		t.Fatalf("%+v", got)
	}
}

func TestParse(t *testing.T) {
	for _, bad := range []string{"", "{", "{}", `{"alert_id":"x"}`, `{"alert_id":5,"step":"fired"}`, "null"} {
		if a, err := alerts.Parse([]byte(bad)); err == nil {
			t.Errorf("%q was read as %+v", bad, a)
		}
	}
	a, err := alerts.Parse([]byte(`{"alert_id":"x","step":"reminded","status":"firing","later_field":{"a":1},"reason":"new_reason"}`))
	if err != nil || a.Reason != "new_reason" || a.Step != "reminded" {
		t.Errorf("what is new is tolerated: %+v, %v", a, err)
	}
}

// TestTraceparent: it is passed through.
func TestTraceparent(t *testing.T) {
	p := newPipeline(t, contract(), time.UTC)
	r := &customer.Record{ID: "c", First: t0, Latest: t0, LastActivity: t0}
	steps := p.policy.Decide(r, []detectors.Signal{{Detector: "silence", State: detectors.Firing, At: t0, Severity: alerts.Warning}}, &p.env, alerts.Publish, nil)
	steps[0].Traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	m, open := p.policy.Message(&steps[0], r, &p.env, event.Position{})
	if h := m.Headers[len(m.Headers)-1]; h.Key != "traceparent" || string(h.Value) != steps[0].Traceparent {
		t.Errorf("%v", h)
	}
	if string(open.Value) != string(m.Value) {
		t.Error("the table holds the last step")
	}
}

func BenchmarkDecideAndMessage(b *testing.B) {
	p := newPipeline(b, contract(), time.UTC)
	events := crowd(1, 1, 60)
	for i := range events {
		p.apply(&events[i])
	}
	r := p.customers[string(events[0].Customer)]
	sig := []detectors.Signal{{Detector: "silence", State: detectors.Firing, At: t0, Severity: alerts.Warning, AtRisk: 5}}
	p.env.Now = events[len(events)-1].Time
	b.ReportAllocs()
	for b.Loop() {
		r.Lifecycles = r.Lifecycles[:0]
		p.steps = p.policy.Decide(r, sig, &p.env, alerts.Publish, p.steps[:0])
		p.policy.Message(&p.steps[0], r, &p.env, event.Position{Topic: "usage"})
	}
}

// BenchmarkPipeline is a task without Kafka and without a store: apply, evaluate, decide.
func BenchmarkPipeline(b *testing.B) {
	events := crowd(3, 400, 60)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		p := newPipeline(b, contract(), time.UTC)
		for i := range events {
			p.apply(&events[i])
		}
		n += len(events)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}

// TestNoTwoAlertsBearTheSameID: what was due at a time, was taken back, and is due again at the same time is another alert.
func TestNoTwoAlertsBearTheSameID(t *testing.T) {
	set, err := detectors.NewSet(contract())
	if err != nil {
		t.Fatal(err)
	}
	p := alerts.New(alerts.Config{Group: "g", Detectors: set, MaxAlertAge: 30 * detectors.Day})
	r := &customer.Record{ID: "c", First: t0, Latest: t0}
	revisions := map[[16]byte]uint32{}
	over := map[[16]byte]bool{}
	told := 0
	say := func(mode alerts.Mode, state detectors.State, subject string, at int64) {
		s := detectors.Signal{Detector: "complaint_unresolved", Subject: subject, State: state, At: at, Since: t0, Severity: alerts.Warning, Reason: detectors.CorrectedByLateData}
		for _, st := range p.Decide(r, []detectors.Signal{s}, &detectors.Env{Now: at}, mode, nil) {
			told++
			if st.Revision != revisions[st.AlertID]+1 || over[st.AlertID] || st.At < st.FiredAt {
				t.Errorf("%v of %s at %d with revision %d after %d", st.Kind, st.Subject, st.At, st.Revision, revisions[st.AlertID])
			}
			revisions[st.AlertID], over[st.AlertID] = st.Revision, st.Kind == alerts.StepResolved
		}
		b := customer.AppendRecord(nil, r)
		if err := customer.DecodeRecord(b, r); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		say(alerts.Publish, detectors.Firing, "T-1", t0)
		say(alerts.Publish, detectors.Firing, "T-2", t0)
		say(alerts.Publish, detectors.Clear, "T-1", t0+5)
		say(alerts.Publish, detectors.Clear, "T-2", t0+5)
	}
	if told != 12 || len(revisions) != 6 {
		t.Errorf("%d steps of %d alerts, want 12 of 6", told, len(revisions))
	}
	// After a rewind the history brings about what was told before, and it still fires.
	say(alerts.Publish, detectors.Firing, "T-3", t0)
	r.Rewind()
	say(alerts.Quiet, detectors.Firing, "T-1", t0)
	say(alerts.Quiet, detectors.Firing, "T-3", t0+1) // it was told with an id of t0
	for _, st := range p.PublishHeld(r, &detectors.Env{Now: t0 + 10}, nil) {
		if st.Revision != revisions[st.AlertID]+1 {
			t.Errorf("%v of %s with revision %d after %d", st.Kind, st.Subject, st.Revision, revisions[st.AlertID])
		}
		revisions[st.AlertID] = st.Revision
	}
	say(alerts.Publish, detectors.Clear, "T-3", t0+12)
	say(alerts.Publish, detectors.Firing, "T-3", t0)
	if len(revisions) != 9 {
		t.Errorf("%d alerts, want 9", len(revisions))
	}
}

// TestWhatRanOutIsNotDecidedByAnEarlyEvent: a record that comes out of order, by no more than is borne, finds the deadline that it keeps undecided, though another event
// of the customer came before it.
func TestWhatRanOutIsNotDecidedByAnEarlyEvent(t *testing.T) {
	set, err := detectors.NewSet(contract())
	if err != nil {
		t.Fatal(err)
	}
	const tolerated = 600_000
	params := customer.DefaultParams(customer.NewCalendar(nil))
	for _, solved := range []bool{true, false} {
		d := alerts.Decider{Detectors: set, Policy: alerts.New(alerts.Config{Group: "g", Detectors: set, ForgetAfter: 800 * detectors.Day}), OutOfOrder: tolerated}
		r := &customer.Record{ID: "c"}
		env := &detectors.Env{Calendar: params.Calendar, Rates: detectors.MustRates("EUR", nil)}
		at := func(now int64, trigger *event.Event) alerts.Decision {
			if trigger != nil {
				r.Apply(trigger, &params)
			}
			env.Now = now
			for f := range env.KnownUntil {
				env.KnownUntil[f] = now
			}
			return d.Decide(r, env, trigger, alerts.Publish, now)
		}
		complaint := event.Event{Feed: event.Complaints, Kind: event.KindOpened, Time: t0, ComplaintID: []byte("T-1"), Priority: event.PriorityHigh, IDHash: 1}
		due := at(t0, &complaint).Next
		if due <= t0+tolerated {
			t.Fatalf("due %d ms after its opening", due-t0)
		}
		use := event.Event{Feed: event.Usage, Kind: event.KindUsage, Time: due + tolerated - 1, IDHash: 2}
		got := at(use.Time, &use)
		if len(got.Steps) != 0 || got.Next != due {
			t.Fatalf("an event that comes soon after decides it: %+v", got)
		}
		if solved {
			end := complaint
			end.Kind, end.Time, end.IDHash = event.KindResolved, due-1, 3
			if got = at(use.Time, &end); len(got.Steps) != 0 {
				t.Errorf("solved in time, and alerted: %+v", got.Steps)
			}
			continue
		}
		if got = at(due, nil); len(got.Steps) != 1 || got.Steps[0].At != due {
			t.Errorf("at its own time: %+v", got)
		}
	}
}
