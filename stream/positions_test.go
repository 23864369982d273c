package stream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"ebb/stream"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
	"ebb/stream/partition"
)

// applied is a world whose history is applied and whose engine is stopped.
func applied(t *testing.T, parts int32) (*world, []happening) {
	t.Helper()
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), parts)
	events, _ := history(23, 30)
	w.produce(events)
	r := w.start()
	w.caughtUp()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	return w, events
}

func uses(w *world, p int32, n int) (who string, out []happening) {
	who = w.customerOf(p, "late")
	at := time.Now().UnixMilli()
	for i := range n {
		out = append(out, happening{feed: "usage", customer: who, at: at + int64(i), kind: "session", id: fmt.Sprintf("%s-%d-%d", who, at, i)})
	}
	return who, out
}

// Records that retention deleted before they were read are a named and counted loss with an operational alert; the task goes on behind them.
func TestRetentionGap(t *testing.T) {
	for _, live := range []bool{false, true} {
		t.Run(fmt.Sprintf("found while running %v", live), func(t *testing.T) {
			w, _ := applied(t, 2)
			c := &clock{}
			w.now = c.now
			w.adjust = func(cfg *stream.Config) { cfg.Stall.Expected = 1e9 }
			who, lost := uses(w, 1, 10)
			var r *running
			if live {
				// The broker gives nothing of the partition until its records are deleted.
				r = w.start()
				w.settled(r)
				stop := w.refuseFetches()
				w.produce(lost)
				w.deleteUpTo("usage", 1, 7)
				stop()
			} else {
				w.produce(lost)
				w.deleteUpTo("usage", 1, 7)
				r = w.start()
			}
			w.settled(r)
			w.awaitOperations("retention_gap", "fired")
			if got := r.metric("ebb_retention_gap_records_total", "feed", "usage"); got != 7 {
				t.Errorf("%v records are counted as lost, want 7", got)
			}
			if n := known(t, r, who).Usage[0].Count; n != 3 {
				t.Errorf("%d uses are applied, want the 3 that were left", n)
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			r = w.start()
			w.settled(r)
			w.sameAlert(w.operations(), "fired")
			c.skip(25 * time.Hour)
			w.settled(r)
			w.awaitOperations("retention_gap", "fired", "resolved")
		})
	}
}

// deleteUpTo deletes n records behind the group's position.
func (w *world) deleteUpTo(feed string, p int32, n int64) {
	w.t.Helper()
	at := w.broker.GroupOffsets(w.t, w.group, w.topic(feed))[p]
	if err := w.broker.Fake.DeleteRecords(w.topic(feed), p, at+n); err != nil {
		w.t.Fatal(err)
	}
}

// refuseFetches lets the broker answer no fetch until stop is called.
func (w *world) refuseFetches() (stop func()) {
	w.t.Helper()
	var done atomic.Bool
	var refused atomic.Int64
	w.broker.Fake.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		if done.Load() {
			return nil, nil, false
		}
		w.broker.Fake.KeepControl()
		refused.Add(1)
		return nil, errors.New("no answer"), true
	})
	kafkatest.Eventually(w.t, "no fetch left that began before", func() error {
		if refused.Load() < 6 {
			return errors.New("not yet")
		}
		return nil
	})
	return func() { done.Store(true) }
}

// A topic that was created again ends before the position of the state: the task stops and names what mends it.
func TestRecreatedTopic(t *testing.T) {
	w, _ := applied(t, 2)
	w.broker.DeleteTopic(t, w.topic("usage"))
	w.broker.CreateTopic(t, w.topic("usage"), 2, nil)
	r := w.start()
	for p := range w.parts {
		s := w.awaitState(r, p, "stopped")
		for _, part := range []string{w.topic("usage"), "created again", "kafka-consumer-groups.sh", w.group, "ebb topics create"} {
			if !strings.Contains(s.Error, part) {
				t.Errorf("the error does not tell %q: %s", part, s.Error)
			}
		}
	}
	for _, o := range w.operations() {
		if o.Kind != "task_stopped" {
			t.Errorf("%v", o)
		}
	}
	kafkatest.Eventually(t, "both stops are told", func() error {
		if n := len(w.operations("task_stopped")); n != 2 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}

// Offsets of the group that a tool has changed: the task stops, changes nothing, and names the command that mends it.
func TestResetOffsets(t *testing.T) {
	long(t)
	w, _ := applied(t, 1)
	right := w.broker.GroupOffsets(t, w.group, w.topic("usage"))[0]
	w.setOffset(w.topic("usage"), 0, 3)
	r := w.start()
	s := w.awaitState(r, 0, "stopped")
	for _, part := range []string{"reset the group's offsets", "kafka-consumer-groups.sh", "--to-offset " + fmt.Sprint(right), "--topic " + w.topic("usage") + ":0"} {
		if !strings.Contains(s.Error, part) {
			t.Errorf("the error does not tell %q: %s", part, s.Error)
		}
	}
	w.awaitOperations("task_stopped", "fired")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if at := w.broker.GroupOffsets(t, w.group, w.topic("usage"))[0]; at != 3 {
		t.Errorf("the offset was changed to %d", at)
	}
	w.setOffset(w.topic("usage"), 0, right)
	r = w.start()
	w.settled(r)
	w.awaitOperations("task_stopped", "fired", "resolved")
}

// setOffset does what kafka-consumer-groups.sh --reset-offsets does.
func (w *world) setOffset(topic string, p int32, offset int64) {
	w.t.Helper()
	cl := w.broker.Client(w.t, kgo.MaxVersions(kversion.V3_0_0()))
	kafkatest.Eventually(w.t, "offsets set", func() error {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation = w.group, -1
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = topic
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = p, offset
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(context.Background(), cl)
		if err != nil {
			return err
		}
		if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
			return fmt.Errorf("error code %d", code)
		}
		return nil
	})
}

// A local copy that is ahead of the changelog belongs to another one.
func TestForeignLocalState(t *testing.T) {
	w, _ := applied(t, 1)
	w.broker.DeleteTopic(t, w.topic("changelog"))
	w.broker.CreateTopic(t, w.topic("changelog"), 1, map[string]string{"cleanup.policy": "compact"})
	r := w.start()
	s := w.awaitState(r, 0, "stopped")
	if !strings.Contains(s.Error, "remove the state directory") {
		t.Errorf("the error does not tell what mends it: %s", s.Error)
	}
}

// What the topics must be is checked before anything is done, with errors that name the fault and the mend.
func TestWrongTopics(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(w *world)
		want   []string
	}{
		{"missing feed", func(w *world) { w.broker.DeleteTopic(w.t, w.topic("payments")) }, []string{"payments", "ebb topics check"}},
		{"missing alert topic", func(w *world) { w.broker.DeleteTopic(w.t, w.topic("alerts")) }, []string{"alerts", "ebb topics create"}},
		{"feeds with different counts", func(w *world) {
			w.broker.DeleteTopic(w.t, w.topic("payments"))
			w.broker.CreateTopic(w.t, w.topic("payments"), 5, nil)
		}, []string{"payments has 5", "usage has 2", "recreate"}},
		{"changelog with another count", func(w *world) {
			w.broker.DeleteTopic(w.t, w.topic("changelog"))
			w.broker.CreateTopic(w.t, w.topic("changelog"), 3, map[string]string{"cleanup.policy": "compact"})
		}, []string{"changelog", "has 3", "ebb state grow"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 2)
			c.change(w)
			r := w.start()
			err := <-r.done
			r.done <- err
			if err == nil {
				t.Fatal("Run returned nil")
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not tell %q: %v", part, err)
				}
			}
		})
	}
}

// A record in another partition than its key's stops its task with the cause, after what lay before it; the others go on.
func TestMisplacedRecord(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 2)
	who, good := uses(w, 0, 5)
	w.produce(good)
	stray := w.customerOf(1, "stray")
	h := happening{feed: "usage", customer: stray, at: time.Now().UnixMilli(), kind: "session", id: "s"}
	w.broker.Produce(t, w.topic("usage"), kafkatest.Record{Partition: 0, Key: []byte(stray), Value: h.json()})
	_, behind := uses(w, 0, 2)
	w.produce(behind)
	other, elsewhere := uses(w, 1, 4)
	w.produce(elsewhere)

	r := w.start()
	s := w.awaitState(r, 0, "stopped")
	for _, part := range []string{w.topic("usage"), "partition 0 offset 5", "partition 1", "partitioner", "crc32"} {
		if !strings.Contains(s.Error, part) {
			t.Errorf("the error does not tell %q: %s", part, s.Error)
		}
	}
	w.awaitOperations("task_stopped", "fired")
	kafkatest.Eventually(t, "the other partition goes on", func() error {
		rec, err := r.Customer(context.Background(), other)
		if err != nil {
			return err
		}
		if rec.Usage[0].Count != 4 {
			return fmt.Errorf("%d uses", rec.Usage[0].Count)
		}
		return nil
	})
	if at := w.broker.GroupOffsets(t, w.group, w.topic("usage"))[0]; at != 5 {
		t.Errorf("the task stopped at offset %d, want 5", at)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.adjust = func(c *stream.Config) { c.Check = nil }
	r = w.start()
	w.settled(r)
	for id, want := range map[string]uint32{who: 7, stray: 1} {
		if rec, err := r.Customer(context.Background(), id); err != nil || rec.Usage[0].Count != want {
			t.Errorf("%s has %+v (%v), want %d uses", id, rec, err, want)
		}
	}
	w.awaitOperations("task_stopped", "fired", "resolved")
}

// Profiles are read to their end before anything else at a first start, also one that is killed: tiers stand on the very first alerts, and days
// are those of the customer's own zone.
func TestProfiles(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 2)
	w.broker.CreateTopic(t, w.topic("customers"), 2, map[string]string{"cleanup.policy": "compact"})
	w.adjust = func(c *stream.Config) {
		c.Feeds = append(c.Feeds, stream.FeedConfig{Feed: event.Customers, Topic: w.topic("customers")})
		c.Cut.MaxEvents = 20
	}
	now := time.Now().UnixMilli()
	day := now/dayMs*dayMs - 3*dayMs
	var events []happening
	var profiles []kafkatest.Record
	for i := range 400 {
		who := fmt.Sprintf("c-%03d", i)
		events = append(events, happening{feed: "usage", customer: who, at: day - 60*dayMs + int64(i), kind: "session", id: "old-" + who})
		events = append(events, happening{feed: "usage", customer: who, at: day + 13*3_600_000, kind: "session", id: "new-" + who})
		v := fmt.Sprintf(`{"id":"k-%d","customer_id":%q,"time":%q,"tier":"tier-%d","region":"north","time_zone":"Pacific/Auckland"}`, i, who, rfc3339(now-1000), i%3)
		profiles = append(profiles, kafkatest.Record{Partition: partition.Murmur2([]byte(who), 2), Key: []byte(who), Value: []byte(v), Timestamp: now})
	}
	w.produceInOrder(events)
	w.broker.Produce(t, w.topic("customers"), profiles...)
	r := w.start()
	kafkatest.Eventually(t, "some profiles applied", func() error {
		sum := int64(0)
		for _, o := range w.broker.GroupOffsets(t, w.group, w.topic("customers")) {
			sum += o
		}
		if sum == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	r.kill()
	w.disk.Crash()
	r = w.start()
	w.settled(r)
	alerts := w.alerts()
	if len(alerts) != 800 {
		t.Errorf("%d alert steps, want a silence and its end of each of 400", len(alerts))
	}
	for _, a := range alerts {
		var i int
		if _, err := fmt.Sscanf(a.Customer, "c-%d", &i); err != nil || a.About.Tier != fmt.Sprintf("tier-%d", i%3) || a.About.Region != "north" {
			t.Errorf("the alert of %s is of %+v", a.Customer, a.About)
		}
	}
	zone, err := time.LoadLocation("Pacific/Auckland")
	if err != nil {
		t.Fatal(err)
	}
	rec := known(t, r, "c-007")
	local := time.UnixMilli(day + 13*3_600_000).In(zone)
	want := int32(time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, time.UTC).Unix() / 86400)
	if got := rec.Usage[len(rec.Usage)-1].Day; got != want {
		t.Errorf("the last use counts for day %d, want %d: the day in Auckland", got, want)
	}
}
