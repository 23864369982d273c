package stream_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/stream"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
	"ebb/stream/txn"
)

// watched is a world of customers with account owners. One of these leaves, and a third of his customers with him; of the others somebody leaves now and then.
func watched(t *testing.T, parts int32) (w *world, events []happening) {
	const customers, days, owners = 120, 190, 4
	w = newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), parts)
	w.group = "group"
	w.broker.CreateTopic(t, w.topic("customers"), parts, map[string]string{"cleanup.policy": "compact"})
	w.adjust = func(cfg *stream.Config) {
		smallCuts(cfg)
		cfg.Feeds = append(cfg.Feeds, stream.FeedConfig{Feed: event.Customers, Topic: w.topic("customers")})
		cfg.Cohorts = &cohorts.Config{FalseAlarms: 0.5, LeastMembers: 5, By: []cohorts.Dimension{cohorts.Owner, cohorts.Region}, HoldBack: true, Totals: true}
	}
	w.rules = func(c *detectors.Config) { c.SpendDrop.Enabled = false }
	rng := rand.New(rand.NewPCG(3, 1))
	begin := time.Now().Truncate(24*time.Hour).UnixMilli() - days*dayMs
	var profiles []kafkatest.Record
	for c := range customers {
		id, last := fmt.Sprintf("c-%03d", c), int64(days)
		switch {
		case c%owners == 1 && c%3 == 0: // kim's
			last = 130 + rng.Int64N(5)
		case c%owners == 1 && c%9 == 1: // and more of them, when that is known
			last = 142 + rng.Int64N(5)
		case rng.IntN(6) == 0:
			last = 10 + rng.Int64N(180)
		}
		profiles = append(profiles, kafkatest.Record{
			Partition: w.partitionOf(id), Key: []byte(id), Timestamp: begin - dayMs,
			Value: fmt.Appendf(nil, `{"id":"f-%d","customer_id":%q,"time":%q,"owner":%q,"region":"r-%d"}`, c, id, time.UnixMilli(begin-dayMs).UTC().Format(time.RFC3339),
				[]string{"lee", "kim", "mia", "ola"}[c%owners], c%2),
		})
		for at := begin + rng.Int64N(5*dayMs); at < begin+last*dayMs; at += dayMs + rng.Int64N(6*dayMs) {
			if rng.IntN(3) != 0 {
				events = append(events, happening{feed: "usage", customer: id, at: at, kind: "session", id: fmt.Sprintf("%s-%d", id, at)})
				continue
			}
			cents := 2000 + rng.Int64N(500)
			if at > begin+(days-16)*dayMs { // in the end they spend far less
				cents /= 8
			}
			events = append(events, happening{feed: "payments", customer: id, at: at, kind: "purchase", cents: cents, id: fmt.Sprintf("%s-%d", id, at)})
		}
	}
	slices.SortFunc(events, func(a, b happening) int { return strings.Compare(fmt.Sprint(a.at, a.id), fmt.Sprint(b.at, b.id)) })
	w.broker.Produce(t, w.topic("customers"), profiles...)
	return w, events
}

// cohortSteps are the steps about cohorts, as they were published, and the table of those that are open.
func (w *world) cohortSteps() (steps []string, all []*alerts.Alert) {
	w.t.Helper()
	open := map[string]string{}
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("alerts")) {
		a, err := alerts.Parse(r.Value)
		if err != nil {
			w.t.Fatal(err)
		}
		if a.CustomerID != "" {
			continue
		}
		steps, all = append(steps, string(r.Key)+" "+string(r.Value)), append(all, a)
		if open[a.AlertID] = string(r.Value); !a.Firing() {
			delete(open, a.AlertID)
		}
	}
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("open")) {
		if want, is := open[string(r.Key)]; is && string(r.Value) == want {
			delete(open, string(r.Key))
		}
	}
	if len(open) != 0 {
		w.t.Errorf("not in the table of open alerts: %v", open)
	}
	return steps, all
}

// ofTheStage is the moment before a step of a transaction of the second stage.
func ofTheStage(s txn.Step) killPoint {
	return killPoint{"stage before " + s.String(), false, func(w *world, p *power, n int) {
		now := counter(n)
		w.step = func(task int32, at txn.Step) error {
			select {
			case <-p.off:
				return errKilled
			default:
			}
			if task == stream.SecondStage && at == s && now() {
				return p.cut()
			}
			return nil
		}
	}}
}

// The owner's customers are one alert, the same however they are spread over partitions and instances, and whoever dies on the way.
func TestCohortsDependOnTheEventsAlone(t *testing.T) {
	t.Parallel()
	long(t)
	bubble(t, func(t *testing.T) {
		var want []string
		var single []step
		for _, v := range []struct {
			name                      string
			parts                     int32
			portion, instances, kills int
		}{
			{name: "one partition", parts: 1, instances: 1},
			{name: "three partitions", parts: 3, portion: 100, instances: 1},
			{name: "two instances", parts: 4, portion: 100, instances: 2},
			{name: "killed", parts: 3, portion: 100, instances: 1, kills: 8},
		} {
			w, events := watched(t, v.parts)
			w.portion = v.portion
			w.produce(events)
			for i := range v.kills {
				at := []txn.Step{txn.StepProduce, txn.StepEnd, txn.StepDone}[i%3]
				point := beforeStep(at)
				if i%2 == 0 {
					point = ofTheStage(at)
				}
				w.diesAt(point, 2)
				if w.lag() == 0 {
					t.Error("died when all was done")
				}
				w.disk.Crash()
			}
			first, others := w.start(), []*running(nil)
			for range v.instances - 1 {
				others = append(others, w.twin().start())
			}
			w.virtuallyCaughtUp()
			nap(5 * time.Second) // the second stage has read what was told last
			for _, r := range append(others, first) {
				if n := r.metric("ebb_models_missed_total"); n != 0 {
					t.Errorf("%s: waited %v times in vain", v.name, n)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			}
			got, all := w.cohortSteps()
			if want == nil {
				want = got
				for _, s := range got {
					t.Log(s)
				}
				owners(t, all)
				single = w.steps(math.MaxInt64)
				w.heldBack(all[0])
			}
			compareSteps(t, w.steps(math.MaxInt64), single)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %s\nwant %s", v.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	})
}

// heldBack checks that nobody is told while the alert about his cohort is open, and who still leaves is told at its end with what it was held back for.
func (w *world) heldBack(cohort *alerts.Alert) {
	w.t.Helper()
	owner, ended, told, held := map[string]string{}, time.Time{}, 0, 0
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("customers")) {
		var p struct {
			Customer string `json:"customer_id"`
			Owner    string
		}
		if err := json.Unmarshal(r.Value, &p); err != nil {
			w.t.Fatal(err)
		}
		owner[p.Customer] = p.Owner
	}
	_, all := w.cohortSteps()
	for _, a := range all {
		if a.AlertID == cohort.AlertID && !a.Firing() {
			ended = a.Time
		}
	}
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("alerts")) {
		a, err := alerts.Parse(r.Value)
		if err != nil || a.CustomerID == "" || a.Step != "fired" || owner[a.CustomerID] != "kim" {
			continue
		}
		in := a.FirstFiredAt.After(cohort.Time.Add(90*time.Minute)) && a.FirstFiredAt.Before(ended) // from when on its judgement is in force
		switch {
		case in && a.Time.Before(ended):
			w.t.Errorf("%s was told on %s, while the alert about kim's customers was open from %s to %s", a.CustomerID, a.Time, cohort.Time, ended)
		case in && (a.HeldBackFor == nil || a.HeldBackFor.AlertID != cohort.AlertID || a.HeldBackFor.ID != "owner=kim"):
			w.t.Errorf("%s was held back, and told for %+v", a.CustomerID, a.HeldBackFor)
		case in:
			held++
		default:
			told++
		}
	}
	if told < 5 || held < 2 {
		w.t.Errorf("%d of kim's customers were told at once, %d were held back", told, held)
	}
}

// owners checks that the alerts are that of kim's customers, and that all spend less in the end, and nothing else.
func owners(t *testing.T, all []*alerts.Alert) {
	t.Helper()
	if n := len(all) - 1; n < 0 || all[n].Detector != alerts.TotalSpendName || all[n].Step != "fired" || all[n].Severity != "critical" {
		t.Fatalf("the last of %d steps tells of no total", len(all))
	}
	all = all[:len(all)-1]
	if len(all) < 2 || all[0].Step != "fired" || all[len(all)-1].Step != "resolved" {
		t.Fatalf("%d steps", len(all))
	}
	for _, a := range all {
		if a.Subject.Type != "cohort" || a.Subject.ID != "owner=kim" || a.CustomerID != "" || a.AlertID != all[0].AlertID {
			t.Errorf("%+v", a)
		}
	}
	var e struct {
		Dimension, Value string
		Active, Leavers  int
		Members          []struct {
			Customer string `json:"customer_id"`
			Detector string
		}
	}
	if err := json.Unmarshal(all[0].Evidence, &e); err != nil {
		t.Fatal(err)
	}
	if e.Dimension != "owner" || e.Value != "kim" || e.Active < 20 || e.Active > 30 || e.Leavers < 5 || len(e.Members) != e.Leavers {
		t.Errorf("%+v", e)
	}
	for _, m := range e.Members {
		if m.Detector != "silence" || m.Customer == "" {
			t.Errorf("member %+v", m)
		}
	}
}

// Who is responsible for an alert about many customers acts on it as on any other: the record names no customer, may lie in any partition, and the second stage carries it out.
func TestActOnAnAlertOfManyCustomers(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w, events := watched(t, 2)
		w.broker.CreateTopic(t, w.topic("control"), 2, nil)
		adjust := w.adjust
		w.adjust = func(cfg *stream.Config) {
			adjust(cfg)
			cfg.Feeds = append(cfg.Feeds, stream.FeedConfig{Feed: event.Control, Topic: w.topic("control")})
		}
		w.produce(events)
		r := w.start()
		w.virtuallyCaughtUp()
		nap(5 * time.Second)
		_, all := w.cohortSteps()
		open := all[len(all)-1]
		act := func(partition int32, more string) {
			w.broker.Produce(t, w.topic("control"), kafkatest.Record{
				Partition: partition,
				Value:     fmt.Appendf(nil, `{"id":"a-%d","alert_id":%q,"time":%q,"by":"ann",%s}`, partition, open.AlertID, time.Now().UTC().Format(time.RFC3339), more),
			})
			nap(5 * time.Second)
		}
		act(1, `"type":"acknowledge"`)
		act(0, `"type":"outcome","outcome":"false_alarm"`)
		act(1, `"type":"contacted"`) // it is over
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		_, now := w.cohortSteps()
		var got []string
		for _, a := range now[len(all):] {
			got = append(got, fmt.Sprintf("%s %s %s %s %s %d", a.Step, a.Reason, a.Outcome, a.By, a.AcknowledgedBy, a.Revision))
			if a.AlertID != open.AlertID || len(a.Evidence) == 0 || string(a.Evidence) != string(open.Evidence) {
				t.Errorf("%+v", a)
			}
		}
		if want := []string{"acknowledged   ann ann 2", "resolved closed_by_outcome false_alarm ann ann 3"}; !slices.Equal(got, want) {
			t.Errorf("%q\nwant %q", got, want)
		}
	})
}

// What became of a new customer is told of everybody, also of who comes within max_out_of_order after the moment: where records bear dates without times, all who come on that day.
func TestNewcomersWhoComeWhenTheyAreLookedAt(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		const customers, days = 12, 80
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.group = "group"
		w.broker.CreateTopic(t, w.topic("customers"), 1, nil)
		w.adjust = func(cfg *stream.Config) {
			smallCuts(cfg)
			cfg.Time.MaxOutOfOrder = 10 * time.Minute
			cfg.Feeds = append(cfg.Feeds, stream.FeedConfig{Feed: event.Customers, Topic: w.topic("customers")})
			cfg.Cohorts = &cohorts.Config{FalseAlarms: 0.5, LeastMembers: 5, Intakes: true}
		}
		begin := time.Now().Truncate(24*time.Hour).UnixMilli() - days*dayMs
		var profiles []kafkatest.Record
		var events []happening
		for c := range customers {
			id := fmt.Sprintf("c-%03d", c)
			profiles = append(profiles, kafkatest.Record{
				Key: []byte(id), Timestamp: begin,
				Value: fmt.Appendf(nil, `{"id":"f-%d","customer_id":%q,"time":%q,"source":"from-the-web"}`, c, id, rfc3339(begin)),
			})
		}
		for d := range int64(days) {
			for c := range customers {
				at := begin + d*dayMs + int64(c%3)*60_000 // a third on the dot
				events = append(events, happening{feed: "usage", customer: fmt.Sprintf("c-%03d", c), at: at, kind: "session", id: fmt.Sprintf("u-%d-%d", d, c)})
			}
		}
		slices.SortStableFunc(events, func(a, b happening) int { return int(a.at - b.at) })
		w.broker.Produce(t, w.topic("customers"), profiles...)
		w.produce(events)
		r := w.start()
		w.virtuallyCaughtUp()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		told := 0
		for _, f := range w.broker.ReadCommitted(t, w.topic("facts")) {
			if string(f.Key) == "cohorts/0" {
				told += strings.Count(string(f.Value), "from-the-web")
			}
		}
		if told != customers {
			t.Errorf("what became of them is told of %d of %d new customers", told, customers)
		}
	})
}
