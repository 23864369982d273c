package stream_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ebb/detectors"
	"ebb/stream"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
	"ebb/stream/partition"
)

// flipper damages what a broker sends where it contains a mark, as a bad disk would.
type flipper struct{ on atomic.Bool }

const mark = "MARK0F4Q"

func (f *flipper) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return flipping{c, f}, nil
}

type flipping struct {
	net.Conn
	f *flipper
}

func (c flipping) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if i := strings.Index(string(p[:n]), mark); i >= 0 && c.f.on.Load() {
		p[i] = 'm'
	}
	return n, err
}

// customerOf is a customer whose records lie in a partition.
func (w *world) customerOf(p int32, name string) string {
	for i := 0; ; i++ {
		if id := fmt.Sprintf("%s-%d", name, i); partition.Murmur2([]byte(id), w.parts) == p {
			return id
		}
	}
}

// corrupted is a world with two partitions, of which the first has a corrupt batch behind the history, and a good record behind that.
func corrupted(t *testing.T) (w *world, f *flipper, events []happening, end int64) {
	f = &flipper{}
	f.on.Store(true)
	w = newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 2)
	w.dial = f.dial
	events, end = history(5, 60)
	w.produce(events)
	late := time.Now().UnixMilli()
	h := happening{feed: "usage", customer: w.customerOf(0, "marked"), at: late, kind: mark, id: "m-1"}
	w.produce([]happening{h})
	h.id, h.kind = "m-2", "session"
	w.produce([]happening{h})
	return w, f, events, end
}

// A corrupt batch stops its partition with the cause and one operational alert; the other partitions go on, and once it is mended the
// task goes on where it stopped.
func TestCorruptBatch(t *testing.T) {
	w, f, events, end := corrupted(t)
	r := w.start()
	s := w.awaitState(r, 0, "stopped")
	for _, part := range []string{"corrupt", w.topic("usage"), "partition 0", "offset", "kafka-delete-records.sh"} {
		if !strings.Contains(s.Error, part) {
			t.Errorf("the error does not tell %q: %s", part, s.Error)
		}
	}
	fired := w.awaitOperations("task_stopped", "fired")
	if fired[0].Subject.ID != "0" || !strings.Contains(fired[0].Evidence.Detail, "corrupt") {
		t.Errorf("%+v does not tell which partition stopped and why", fired[0])
	}
	kafkatest.Eventually(t, "the other partition at its end", func() error {
		if o, e := w.broker.GroupOffsets(t, w.group, w.topic("usage"))[1], w.broker.EndOffsets(t, w.topic("usage"))[1]; o != e {
			return fmt.Errorf("%d of %d", o, e)
		}
		return nil
	})
	if r.metric("ebb_task_stopped", "partition", "0") != 1 || r.metric("ebb_task_stopped", "partition", "1") != 0 {
		t.Error("ebb_task_stopped does not show which task stopped")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	again := w.start() // it is still corrupt
	w.awaitState(again, 0, "stopped")
	if err := again.stop(); err != nil {
		t.Fatal(err)
	}
	w.sameAlert(w.operations("task_stopped"), "fired")

	f.on.Store(false)
	mended := w.start()
	w.settled(mended)
	w.awaitOperations("task_stopped", "fired", "resolved")
	cut := end - 3*3_600_000
	compareSteps(t, w.steps(cut), reference(events, cut))
	if rec := known(t, mended, w.customerOf(0, "marked")); rec.Usage[0].Count != 2 {
		t.Errorf("%d uses, want both", rec.Usage[0].Count)
	}
}

// A corrupt batch that nobody can mend is given up by deleting it: what lay before it is applied, what is deleted is counted as a loss.
func TestCorruptBatchGivenUp(t *testing.T) {
	w, _, events, end := corrupted(t)
	r := w.start()
	w.awaitState(r, 0, "stopped")
	w.awaitOperations("task_stopped", "fired")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	last := w.broker.EndOffsets(t, w.topic("usage"))[0] - 1
	if at := w.broker.GroupOffsets(t, w.group, w.topic("usage"))[0]; at != last-1 {
		t.Errorf("the task stopped at %d, the corrupt batch is at %d: what lies between would be lost with it", at, last-1)
	}
	if err := w.broker.Fake.DeleteRecords(w.topic("usage"), 0, last); err != nil {
		t.Fatal(err)
	}
	r = w.start()
	w.settled(r)
	w.awaitOperations("task_stopped", "fired", "resolved")
	w.awaitOperations("retention_gap", "fired")
	if got := r.metric("ebb_retention_gap_records_total", "feed", "usage"); got != 1 {
		t.Errorf("%v records are counted as lost, want 1", got)
	}
	cut := end - 3*3_600_000
	compareSteps(t, w.steps(cut), reference(events, cut))
}

// renamed is a use in a form that the feed does not have (yet): its time has another name.
func renamed(w *world, n int, at int64) []item {
	var out []item
	for i := range n {
		who := fmt.Sprintf("c-%03d", i%40)
		v := fmt.Sprintf(`{"id":"r-%d","customer_id":%q,"ts":%q,"type":"session"}`, i, who, rfc3339(at+int64(i)))
		out = append(out, item{"usage", at + int64(i), kafkatest.Record{
			Partition: partition.Murmur2([]byte(who), w.parts), Key: []byte(who), Value: []byte(v),
		}})
	}
	return out
}

func cautious(c *stream.Config) {
	c.Letters = stream.LetterConfig{BlindRatio: 0.01, BlindMin: 5, StopRatio: 0.2, StopMin: 30}
}

// A feed whose schema changes at noon raises one operational alert for the instance and none about a customer; its tasks stop instead of
// draining the topic, and go on once the mapping fits.
func TestSchemaChange(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 3)
	w.adjust = func(c *stream.Config) {
		cautious(c)
		c.Stall.Expected = 1e9 // not what is tested
	}
	c := &clock{}
	w.now = c.now
	events, _ := history(11, 40)
	w.produce(events)
	r := w.start()
	w.settled(r)
	about := func() (n int) { // what the feed has a say in
		for _, a := range w.alerts() {
			if a.Detector != detectors.ComplaintUnresolvedName {
				n++
			}
		}
		return n
	}
	before := about()

	w.produceItems(renamed(w, 400, c.ms()))
	for p := range w.parts {
		s := w.awaitState(r, p, "stopped")
		if !strings.Contains(s.Error, w.topic("usage")) || !strings.Contains(s.Error, string(event.ReasonTimeMissing)) {
			t.Errorf("the error tells neither feed nor reason: %s", s.Error)
		}
	}
	w.awaitCritical("feed_blind")
	c.skip(20 * 24 * time.Hour) // by now everybody would be silent
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	fired := w.awaitCritical("feed_blind")
	w.sameAlert(w.operations(), fired...)
	if letters := len(w.broker.ReadCommitted(t, w.topic("dlq"))); letters > 3*60 {
		t.Errorf("%d dead letters: the topic is drained into them", letters)
	}

	again := w.start() // nothing is mended
	for p := range w.parts {
		w.awaitState(again, p, "stopped")
	}
	if err := again.stop(); err != nil {
		t.Fatal(err)
	}
	if after := about(); after != before {
		t.Errorf("%d alert steps about customers of an unreadable feed", after-before)
	}

	w.adjust = func(cfg *stream.Config) {
		cautious(cfg)
		cfg.Stall.Expected = 1e9
		cfg.Feeds[0].Mapping = &event.Mapping{Fields: map[string]event.Field{
			"id": {Paths: []string{"id"}}, "customer_id": {Paths: []string{"customer_id"}}, "time": {Paths: []string{"time", "ts"}}, "type": {Paths: []string{"type"}},
		}}
	}
	mended := w.start()
	w.settled(mended)
	ops := w.awaitResolved("feed_blind")
	for _, o := range ops {
		if o.Kind != "feed_blind" {
			t.Errorf("%v: one alert is enough", o)
		}
	}
}

// awaitCritical waits until an alert of a kind is critical, from the beginning or since a change, and returns the names of its steps.
func (w *world) awaitCritical(kind string) (steps []string) {
	w.t.Helper()
	kafkatest.Eventually(w.t, kind+" critical", func() error {
		ops := w.operations(kind)
		if len(ops) == 0 || ops[len(ops)-1].Severity != "critical" {
			return fmt.Errorf("so far %v", ops)
		}
		steps = []string{"fired", "changed"}[:len(ops)]
		return nil
	})
	return steps
}

// awaitResolved waits until the last step of a kind is its resolution, and checks that all steps are of one alert.
func (w *world) awaitResolved(kind string) []opStep {
	w.t.Helper()
	var ops []opStep
	kafkatest.Eventually(w.t, kind+" resolved", func() error {
		ops = w.operations()
		for _, o := range ops {
			if o.Kind == kind && o.Step == "resolved" {
				return nil
			}
		}
		return fmt.Errorf("so far %v", ops)
	})
	ids, resolved := map[string]bool{}, 0
	for _, o := range w.operations(kind) {
		ids[o.AlertID] = true
		if o.Step == "resolved" {
			resolved++
		}
	}
	if len(ids) != 1 || resolved != 1 {
		w.t.Errorf("%d alerts, %d resolutions: %v", len(ids), resolved, ops)
	}
	return ops
}

// A twentieth that cannot be read stops nothing, but makes the feed's customers blind until it can be read again.
func TestBlindFeed(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 3)
	w.adjust = func(c *stream.Config) {
		cautious(c)
		c.Stall.Expected = 1e9 // not what is tested
	}
	c := &clock{}
	w.now = c.now
	events, _ := history(13, 40)
	w.produce(events)
	r := w.start()
	w.settled(r)
	before := len(w.steps(c.ms()))
	mix := renamed(w, 60, c.ms())
	for i := range 800 {
		h := happening{feed: "usage", customer: fmt.Sprintf("c-%03d", i%40), at: c.ms() + int64(i), kind: "session", id: fmt.Sprintf("g-%d", i)}
		rec := items([]happening{h})
		rec[0].rec.Partition = partition.Murmur2([]byte(h.customer), w.parts)
		mix = append(mix, rec...)
	}
	w.produceItems(mix)
	w.settled(r)
	w.awaitOperations("feed_blind", "fired")
	for _, s := range w.steps(c.ms()) {
		if s.at > c.ms()-60_000 && s.detector == "silence" && s.status == "firing" {
			t.Errorf("fired while the feed is blind: %s", s)
		}
	}
	after := len(w.steps(c.ms()))

	c.skip(20 * 24 * time.Hour) // nobody was heard of since, and nobody can tell why
	w.settled(r)
	if got := w.steps(c.ms()); len(got) != after {
		t.Errorf("%d steps while nothing could be judged (%d before the fault)", len(got)-after, before)
	}
	good := happening{feed: "usage", at: c.ms(), kind: "session"}
	var back []happening
	for i := range 40 {
		good.customer, good.id = fmt.Sprintf("c-%03d", i), fmt.Sprintf("b-%d", i)
		back = append(back, good)
	}
	w.produce(back)
	w.settled(r)
	w.awaitOperations("feed_blind", "fired", "resolved")
}

// What is given up by deleting it has to be named right, also where a task reads several partitions of a feed.
func TestCorruptBatchOfADividedFeed(t *testing.T) {
	f := &flipper{}
	f.on.Store(true)
	w := rerouting(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	w.group = w.broker.Name("group")
	w.dial = f.dial
	w.rekeyed(2)
	w.place = func(happening) int32 { return 1 }
	w.produce([]happening{{feed: "payments", customer: "a", at: time.Now().UnixMilli(), kind: mark, id: "m-1"}})
	r := w.start()
	s := w.awaitState(r, 0, "stopped")
	if !strings.Contains(s.Error, w.topic("payments")+" partition 1") || strings.Contains(s.Error, "partition 0") {
		t.Errorf("the error names another partition: %s", s.Error)
	}
}
