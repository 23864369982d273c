package stream_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"ebb/stream"
	"ebb/stream/kafkatest"
)

// regulars are customers who use the product about every three hours between two times (ms).
func regulars(n int, from, to int64) []happening {
	rng := rand.New(rand.NewPCG(uint64(from), 1))
	var all []happening
	for c := range n {
		for at := from + rng.Int64N(10_800_000); at < to; at += 7_200_000 + rng.Int64N(7_200_000) {
			all = append(all, happening{feed: "usage", customer: fmt.Sprintf("c-%03d", c), at: at, kind: "session", id: fmt.Sprintf("u-%d-%d", c, at)})
		}
	}
	return all
}

func (w *world) produceInOrder(events []happening) {
	w.t.Helper()
	all := items(events)
	for i := range all {
		all[i].rec.Partition = w.partitionOf(string(all[i].rec.Key))
	}
	w.produceItems(all)
}

// A feed that falls silent against its rhythm is one operational alert for the instance, also over a restart; nobody is accused
// meanwhile, and afterwards the time is not counted against anybody.
func TestStalledFeed(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 3)
	w.adjust = func(c *stream.Config) { c.Stall.Expected = 15 }
	c := &clock{}
	w.now = c.now
	start := c.ms() - 20*dayMs
	w.produceInOrder(regulars(60, start, c.ms()))
	quits := c.ms()
	r := w.start()
	w.settled(r)
	if ops := w.operations(); len(ops) != 0 {
		t.Fatalf("operational alerts before anything happened: %v", ops)
	}

	c.skip(20 * 24 * time.Hour)
	w.settled(r)
	w.awaitOperations("feed_stalled", "fired")
	if got := r.metric("ebb_feed_stalled", "feed", "usage"); got != 1 {
		t.Errorf("ebb_feed_stalled is %v", got)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = w.start()
	w.settled(r)
	c.skip(24 * time.Hour)
	w.settled(r)
	w.awaitOperations("feed_stalled", "fired")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	// The feed is back after 21 days, without the customer c-000.
	back := c.ms()
	c.skip(12 * 24 * time.Hour)
	events := regulars(60, back, c.ms())
	w.produceInOrder(events[countOf(events, "c-000"):])
	r = w.start()
	w.settled(r)
	w.awaitOperations("feed_stalled", "fired", "resolved")
	if got := r.metric("ebb_feed_stalled", "feed", "usage"); got != 0 {
		t.Errorf("ebb_feed_stalled is %v after the feed came back", got)
	}
	if got := w.steps(c.ms()); len(got) != 0 {
		t.Errorf("12 days of silence and 21 of a stall are an alert: %v", got)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	more := c.ms()
	c.skip(4 * 24 * time.Hour)
	events = regulars(60, more, c.ms())
	w.produceInOrder(events[countOf(events, "c-000"):])
	r = w.start()
	w.settled(r)
	got := w.steps(c.ms())
	if len(got) != 1 || got[0].customer != "c-000" || got[0].detector != "silence" || got[0].at < quits+(21+14)*dayMs-6*3_600_000 || got[0].at > quits+(21+14)*dayMs+6*3_600_000 {
		t.Errorf("steps are %v, want the silence of c-000 when 14 days beside the stall have passed, %s", got, rfc3339(quits+35*dayMs))
	}
	w.sameAlert(w.operations(), "fired", "resolved")
}

func countOf(events []happening, who string) (n int) {
	for n < len(events) && events[n].customer == who {
		n++
	}
	return n
}

// A nightly file of payments beside live usage raises no alert that the file then refutes: silence waits for it, and says the same as if
// everything had come at once.
func TestNightlyPayments(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	w.adjust = func(c *stream.Config) {
		c.Time.MaxFutureSkew = 48 * time.Hour
		for i := range c.Feeds {
			if c.Feeds[i].Topic == w.topic("payments") {
				c.Feeds[i].Completeness = 26 * time.Hour
			}
		}
	}
	c := &clock{}
	const days = 40
	first := time.Now().AddDate(0, 0, -days).Truncate(24 * time.Hour).UnixMilli()
	c.ahead.Store(int64(time.Duration(first+2*3_600_000-time.Now().UnixMilli()) * time.Millisecond))
	w.now, w.tick = c.now, hasty()
	usage, file, all := nightly(first, days)
	r := w.start()
	for d := range days { // first a day's records, then its time: a clock that is ahead of them would see silence
		w.produceInOrder(append(usage[d], file[d]...))
		if d > 0 {
			c.skip(24 * time.Hour)
		}
		w.settled(r)
	}
	c.skip(24 * time.Hour)
	w.settled(r)
	until := c.ms() - 2*dayMs // what is not known so far is not judged
	for _, a := range w.alerts() {
		if a.Reason == "corrected_by_late_data" {
			t.Errorf("%s of %s was refuted: %s", a.Detector, a.Customer, a.Time)
		}
	}
	only := func(steps []step, detector string) (out []step) {
		for _, s := range steps {
			if s.detector == detector {
				out = append(out, s)
			}
		}
		return out
	}
	compareSteps(t, only(w.steps(until), "silence"), lasting(only(reference(all, until), "silence"), 26*3_600_000))
}

// lasting leaves out what was over before anybody could know of it.
func lasting(steps []step, ms int64) (out []step) {
	for _, s := range steps {
		over := slices.ContainsFunc(steps, func(o step) bool {
			return o.customer == s.customer && o.status != s.status && (s.status == "firing" && o.at >= s.at && o.at < s.at+ms || s.status == "resolved" && o.at <= s.at && o.at > s.at-ms)
		})
		if !over {
			out = append(out, s)
		}
	}
	return out
}

// nightly is what comes on each day: usage up to two o'clock at night, and with it the payments of the day before. The buyers pay every 13
// to 15 days and do nothing else, so that a file decides whether two weeks were silent; some leave in the middle.
func nightly(first int64, days int) (usage, file [][]happening, all []happening) {
	rng := rand.New(rand.NewPCG(5, 5))
	usage, file = make([][]happening, days), make([][]happening, days)
	const hour = 3_600_000
	for c := range 30 {
		id := fmt.Sprintf("b-%03d", c)
		for at := first + rng.Int64N(5*dayMs); at < first+int64(days-2)*dayMs; at += 13*dayMs + rng.Int64N(2*dayMs) {
			h := happening{feed: "payments", customer: id, at: at, kind: "purchase", cents: 5000, id: fmt.Sprintf("p-%d-%d", c, at)}
			night := (at-first)/dayMs + 1
			file[night] = append(file[night], h)
			all = append(all, h)
			if c%3 == 0 && rng.IntN(2) == 0 {
				break
			}
		}
	}
	for c := range 10 {
		id := fmt.Sprintf("u-%03d", c)
		for d := range days - 1 {
			at := first + int64(d)*dayMs + rng.Int64N(dayMs)
			h := happening{feed: "usage", customer: id, at: at, kind: "session", id: fmt.Sprintf("s-%d-%d", c, d)}
			next := (at - first + 22*hour) / dayMs
			usage[next] = append(usage[next], h)
			all = append(all, h)
			if d%3 == 0 {
				pay := happening{feed: "payments", customer: id, at: at, kind: "purchase", cents: 2000, id: fmt.Sprintf("q-%d-%d", c, d)}
				if d < days-2 {
					file[d+1] = append(file[d+1], pay)
					all = append(all, pay)
				}
			}
		}
	}
	return usage, file, all
}
