package stream_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ebb/state"
	"ebb/stream"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
)

// staffed is a world with a control feed and no way to move customers.
func staffed(t *testing.T, b *kafkatest.Broker, parts int32) *world {
	t.Helper()
	w := newWorld(t, b, parts)
	b.CreateTopic(t, w.topic("control"), parts, nil)
	w.adjust = func(cfg *stream.Config) {
		cfg.Feeds = append(cfg.Feeds, stream.FeedConfig{Feed: event.Control, Topic: w.topic("control")})
	}
	return w
}

// deed is what somebody does about an alert.
type deed struct {
	id, customer, alert, kind, more string
}

func (w *world) work(at int64, deeds ...deed) {
	w.t.Helper()
	for _, d := range deeds {
		w.broker.Produce(w.t, w.topic("control"), kafkatest.Record{
			Partition: w.partitionOf(d.customer), Key: []byte(d.customer), Timestamp: at,
			Value: fmt.Appendf(nil, `{"id":%q,"customer_id":%q,"alert_id":%q,"time":%q,"type":%q,"by":"kim"%s}`, d.id, d.customer, d.alert, rfc3339(at), d.kind, d.more),
		})
	}
}

// carriedOut waits in virtual time until the feeds and what people did are read, and all deadlines until now are decided.
func (w *world) carriedOut(r *running) {
	w.t.Helper()
	began := time.Now()
	for range 240 {
		nap(500 * time.Millisecond)
		behind := w.lag()
		committed := w.broker.GroupOffsets(w.t, w.group, w.topic("control"))
		for p, end := range w.broker.EndOffsets(w.t, w.topic("control")) {
			behind += end - max(0, committed[p])
		}
		if behind == 0 && w.clocksPast(began, []*running{r}) {
			return
		}
	}
	w.t.Fatal("not everything is read after two minutes")
}

// silent are uses of n customers, fifteen days ago: too few for the feed to have a rhythm that it could fall out of.
func silent(n int) []happening {
	var all []happening
	at := time.Now().Add(-15 * 24 * time.Hour).UnixMilli()
	for i := range n {
		all = append(all, happening{feed: "usage", customer: fmt.Sprintf("c-%02d", i), at: at + int64(i), kind: "session", id: fmt.Sprintf("u-%d", i)})
	}
	return all
}

// lives are the steps of each customer's alert, in the order of their revisions; a gap or a repetition fails the test.
func (w *world) lives() map[string]string {
	w.t.Helper()
	byCustomer := map[string][]alert{}
	for _, a := range w.alerts() {
		byCustomer[a.Customer] = append(byCustomer[a.Customer], a)
	}
	out := map[string]string{}
	for who, steps := range byCustomer {
		slices.SortFunc(steps, func(a, b alert) int { return a.Revision - b.Revision })
		var words []string
		for i, a := range steps {
			if a.Revision != i+1 {
				w.t.Errorf("%s: revision %d in place %d", who, a.Revision, i+1)
			}
			words = append(words, strings.TrimSpace(a.Step+" "+a.Reason))
		}
		out[who] = strings.Join(words, ", ")
	}
	return out
}

// deeds are acts on the open alert of every customer, each written twice, and one on an alert of somebody whom nobody knows.
func (w *world) deeds() ([]deed, map[string]string) {
	w.t.Helper()
	var all []deed
	want := map[string]string{}
	for i, a := range w.alerts() {
		one := func(kind, more string) {
			d := deed{fmt.Sprintf("a-%d-%s", i, kind), a.Customer, a.AlertID, kind, more}
			all = append(all, d, d)
		}
		want[a.Customer] = "fired"
		one("acknowledge", "")
		want[a.Customer] += ", acknowledged"
		switch i % 3 {
		case 0:
			one("outcome", `,"outcome":"false_alarm","cause":"need_ended"`)
			want[a.Customer] += ", resolved closed_by_outcome"
		case 1:
			one("assign", `,"assignee":"lee"`)
			one("contacted", "")
			want[a.Customer] += ", changed, changed"
		}
	}
	return append(all, deed{"x", "nobody", strings.Repeat("0", 32), "acknowledge", ""}), want
}

// What people do is told once and in order, whatever step the process dies before.
func TestActsAreCarriedOutOnce(t *testing.T) {
	points := append(killPoints(), killPoint{name: "never"})
	if testing.Short() {
		points = points[len(points)-3:]
	}
	for _, at := range points {
		t.Run(at.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := staffed(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
				w.produce(silent(9))
				r := w.start()
				w.carriedOut(r)
				deeds, want := w.deeds()
				if len(want) != 9 {
					t.Fatalf("%d customers have alerts, want 9", len(want))
				}
				if at.set != nil {
					if err := r.stop(); err != nil {
						t.Fatal(err)
					}
				}
				w.work(time.Now().UnixMilli(), deeds...)
				if at.set != nil {
					w.diesAt(at, 1)
					w.disk.Crash()
					r = w.start()
				}
				w.carriedOut(r)
				sameKeys(t, w.lives(), want)
				if got := w.lives(); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("got  %v\nwant %v", got, want)
				}
				if at.set == nil {
					counted := map[string]float64{"duplicate": float64(len(deeds)-1) / 2, "alert_not_open": 1}
					for outcome, n := range counted {
						if got := r.metric("ebb_record_outcomes_total", "feed", "control", "outcome", outcome); got != n {
							t.Errorf("%v records are counted as %s, want %v", got, outcome, n)
						}
					}
				}
				// Who comes back ends his alert, and one that was closed stays closed: no step follows.
				var back []happening
				for who := range want {
					back = append(back, happening{feed: "usage", customer: who, at: time.Now().UnixMilli(), kind: "session", id: "back-" + who})
				}
				w.produce(back)
				w.carriedOut(r)
				for who, life := range w.lives() {
					if !strings.HasSuffix(life, "closed_by_outcome") && life != want[who]+", resolved recovered" || strings.HasSuffix(want[who], "closed_by_outcome") && life != want[who] {
						t.Errorf("%s: %s", who, life)
					}
				}
				for _, s := range r.Status() {
					for _, f := range s.Feeds {
						if f.Feed == event.Control && f.LastEvent.IsZero() {
							t.Errorf("partition %d does not know when somebody acted last", s.Partition)
						}
					}
				}
				if open := len(w.outcome().open); open != 0 {
					t.Errorf("%d alerts are open at the end", open)
				}
			})
		})
	}
}

// A snooze ends by itself, and what still holds is told again; nothing has to arrive for that.
func TestASnoozeEnds(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := staffed(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.produce(silent(1))
		r := w.start()
		w.carriedOut(r)
		a := w.alerts()[0]
		w.work(time.Now().UnixMilli(), deed{"s", a.Customer, a.AlertID, "snooze", fmt.Sprintf(`,"until":%q`, rfc3339(time.Now().Add(time.Hour).UnixMilli()))})
		nap(30 * time.Minute)
		w.carriedOut(r)
		if got := w.lives()[a.Customer]; got != "fired, changed" {
			t.Errorf("half an hour later: %s", got)
		}
		nap(31 * time.Minute)
		w.carriedOut(r)
		if got := w.lives()[a.Customer]; got != "fired, changed, reminded" {
			t.Errorf("an hour later: %s", got)
		}
	})
}

// What became of alerts counts once, whatever step the process dies before, and is there again after the local copy is lost.
func TestVerdictsCountOnce(t *testing.T) {
	points := append(killPoints(), killPoint{name: "never"})
	if testing.Short() {
		points = points[len(points)-3:]
	}
	for _, at := range points {
		t.Run(at.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
				w.adjust = func(cfg *stream.Config) {
					smallCuts(cfg)
					cfg.Cut.MaxEvents, cfg.Stall.Expected = 3, 1e6 // nothing comes for months
				}
				var all []happening
				gone := time.Now().Add(-80 * 24 * time.Hour).UnixMilli()
				for i := range 12 {
					who := fmt.Sprintf("c-%02d", i)
					all = append(all, happening{feed: "usage", customer: who, at: gone + int64(i)*1000, kind: "session", id: "u-" + who})
					if i%3 == 0 { // the alert comes 14 days later and looks 60 days ahead
						all = append(all, happening{feed: "usage", customer: who, at: gone + 20*dayMs + int64(i)*1000, kind: "session", id: "v-" + who})
					}
				}
				slices.SortFunc(all, func(a, b happening) int { return int(a.at - b.at) })
				w.produce(all)
				if at.set != nil {
					w.diesAt(at, 2)
					w.disk.Crash()
				}
				r := w.start()
				kafkatest.Eventually(t, "all read", func() error {
					nap(500 * time.Millisecond)
					if n := w.lag(); n != 0 || !w.clocksPast(time.Now().Add(-2*time.Second), []*running{r}) {
						return fmt.Errorf("%d to go", n)
					}
					return nil
				})
				nap(2 * time.Second) // for the snapshot that metrics show
				check := func(r *running) {
					for result, want := range map[string]float64{"right": 8, "wrong": 4, "unknown": 0} {
						if got := r.metric("ebb_alert_outcomes_total", "detector", "silence", "result", result); got != want {
							t.Errorf("%v alerts were %s, want %v", got, result, want)
						}
					}
				}
				check(r)
				if at.set != nil {
					return
				}
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				w.disk = state.NewMemDisk()
				r = w.start()
				w.settled(r)
				nap(2 * time.Second)
				check(r)
			})
		})
	}
}
