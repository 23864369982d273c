package stream_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"ebb/stream"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
)

// unreadables are records of a customer that are no JSON.
func unreadables(who string, n int) (all []kafkatest.Record) {
	for range n {
		all = append(all, kafkatest.Record{Key: []byte(who), Value: []byte("hello")})
	}
	return all
}

// Records that came before can be read, so a stretch of a feed that is sent once more is no worse than it was at first.
func TestRepeatedRecordsCanBeRead(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.group = "group"
		at := time.Now().UnixMilli() - 60_000
		var events []happening
		for i := range 2000 {
			events = append(events, happening{feed: "usage", customer: fmt.Sprintf("c-%02d", i%50), at: at + int64(i), kind: "session", id: fmt.Sprint(i)})
		}
		w.produce(events)
		r := w.start()
		w.virtuallyCaughtUp()
		nap(20 * time.Minute)
		for again := range slices.Chunk(events, 100) {
			w.produce(again)
			w.broker.Produce(t, w.topic("usage"), unreadables("c-00", 8)...)
		}
		w.virtuallyCaughtUp()
		if s := r.task(0); s.State != "running" {
			t.Errorf("the task is %s: %s", s.State, s.Error)
		}
		if n := r.metric("ebb_record_outcomes_total", "outcome", "duplicate"); n != 2000 {
			t.Errorf("%v records were known, want 2000", n)
		}
	})
}

// Records that come late can be read: a few among them that cannot are no worse than among others.
func TestLateRecordsCanBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.group = "group"
		n := 0
		use := func(many int, at int64) {
			var events []happening
			for range many {
				n++
				events = append(events, happening{feed: "usage", customer: fmt.Sprintf("c-%02d", n%50), at: at + int64(n), kind: "session", id: fmt.Sprint(n)})
			}
			w.produce(events)
		}
		use(50, time.Now().UnixMilli()-60_000)
		r := w.start()
		w.virtuallyCaughtUp()
		nap(time.Hour)
		use(2000, time.Now().UnixMilli()-2*3_600_000)
		w.virtuallyCaughtUp()
		w.broker.Produce(t, w.topic("usage"), unreadables("c-00", 110)...)
		nap(time.Minute)
		if s := r.task(0); s.State != "running" {
			t.Errorf("one in twenty cannot be read, and the task is %s: %s", s.State, s.Error)
		}
	})
}

// What is wrong with a feed of profiles, or with what people do, is over once its records can be read again; and what can be read of it counts.
func TestBlindBesideTheMerge(t *testing.T) {
	for _, feed := range []event.Feed{event.Customers, event.Control} {
		t.Run(feed.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
				w.group = "group"
				w.broker.CreateTopic(t, w.topic("more"), 1, nil)
				w.adjust = func(cfg *stream.Config) {
					cfg.Feeds = append(cfg.Feeds, stream.FeedConfig{Feed: feed, Topic: w.topic("more")})
				}
				n := 0
				good := func(many int) {
					var all []kafkatest.Record
					for range many {
						n++
						all = append(all, kafkatest.Record{Key: []byte("c"), Value: fmt.Appendf(nil, `{"id":"m-%d","customer_id":"c","time":%q,"tier":"gold","type":"acknowledge","alert_id":"%032d"}`, n, rfc3339(time.Now().UnixMilli()), n)})
					}
					w.broker.Produce(t, w.topic("more"), all...)
					nap(5 * time.Second)
				}
				w.produce([]happening{{feed: "usage", customer: "c", at: time.Now().UnixMilli() - 1000, kind: "session", id: "u"}})
				r := w.start()
				w.virtuallyCaughtUp()
				good(1000)
				w.broker.Produce(t, w.topic("more"), unreadables("c", 110)...)
				nap(5 * time.Second)
				if s := r.task(0); s.State != "running" {
					t.Fatalf("a tenth cannot be read, and the task is %s: %s", s.State, s.Error)
				}
				w.sameAlert(w.operations("feed_blind"), "fired")
				nap(20 * time.Minute)
				good(20)
				w.sameAlert(w.operations("feed_blind"), "fired", "resolved")
			})
		})
	}
}
