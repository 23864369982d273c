package stream_test

import (
	"fmt"
	"testing"
	"time"

	"ebb/detectors"
	"ebb/stream"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
)

// A profile does not wait for the other feeds, but an alert about it comes at its own time, once, whoever is restarted in between and whether the history is rewound.
func TestTierDrop(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.group = "group"
		now := time.Now().Truncate(time.Hour)
		w.now = func() time.Time { return now }
		w.broker.CreateTopic(t, w.topic("customers"), 2, map[string]string{"cleanup.policy": "compact"})
		w.adjust = func(c *stream.Config) {
			patient(c)
			c.Feeds = append(c.Feeds, stream.FeedConfig{Feed: event.Customers, Topic: w.topic("customers")})
		}
		w.rules = func(c *detectors.Config) { c.Tiers, c.SpendDrop.Enabled = []string{"gold", "silver", "bronze"}, false }
		start := now.UnixMilli()
		at := func(day int64) int64 { return start + day*dayMs }
		says := func(day int64, tier string) {
			v := fmt.Sprintf(`{"id":"k-%d","customer_id":"c-0","time":%q,"tier":%q}`, day, rfc3339(at(day)), tier)
			w.broker.Produce(t, w.topic("customers"), kafkatest.Record{Partition: w.partitionOf("c-0"), Key: []byte("c-0"), Value: []byte(v), Timestamp: at(day)})
		}
		until := func(day int64) {
			now = time.UnixMilli(at(day))
			w.livesOn()
		}
		uses := func(from, to int64) {
			var all []happening
			for day := from; day < to; day++ {
				all = append(all, happening{feed: "usage", customer: "c-0", at: at(day), kind: "session", id: fmt.Sprintf("u-%d", day)})
			}
			w.produceInOrder(all)
		}
		says(0, "gold")
		uses(0, 20)
		until(20)
		says(20, "bronze")
		until(21)
		until(22)
		if all := w.alerts(); len(all) != 0 {
			t.Fatalf("before three days have passed: %v", all)
		}
		uses(22, 30)
		until(30)
		all := w.alerts()
		if len(all) != 1 || all[0].Detector != detectors.TierDropName || all[0].Step != "fired" || all[0].Time.UnixMilli() != at(23) || all[0].About.Tier != "bronze" {
			t.Fatalf("got %+v, want one on day 23", all)
		}
		if err := w.upkeep(rewindTo(time.UnixMilli(at(-1)))); err != nil {
			t.Fatal(err)
		}
		now = time.UnixMilli(at(31))
		w.runsUntilLoud()
		if again := w.alerts(); len(again) != 1 {
			t.Errorf("after a rewind: %+v", again)
		}
		says(32, "gold")
		until(33)
		if all = w.alerts(); len(all) != 2 || all[1].AlertID != all[0].AlertID || all[1].Reason != "recovered" || all[1].Time.UnixMilli() != at(32) {
			t.Errorf("when he is back: %+v", all)
		}
	})
}
