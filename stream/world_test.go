package stream_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"ebb/stream"
	"ebb/stream/kafkatest"
	"ebb/stream/partition"
)

// logbook keeps what an instance logs.
type logbook struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// clock is a wall clock that a test moves on.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time        { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) skip(by time.Duration) { c.ahead.Add(int64(by)) }
func (c *clock) ms() int64             { return c.now().UnixMilli() }
func (c *clock) set(ms int64)          { c.ahead.Store(int64(time.Until(time.UnixMilli(ms)))) }

// hasty is a process clock that runs twenty times as fast: ages and reports come sooner.
func hasty() func() time.Time {
	base := time.Now()
	return func() time.Time { return base.Add(20 * time.Since(base)) }
}

// opStep is an operational step as a subscriber sees it.
type opStep struct {
	AlertID  string `json:"alert_id"`
	Revision int
	Kind     string `json:"detector"`
	Status   string
	Step     string
	Severity string
	Subject  struct{ ID string }
	Since    time.Time
	Evidence struct {
		Detail         string
		Partitions     []int32
		PartitionCount int `json:"partition_count"`
	}
}

func (o opStep) String() string { return o.Kind + " " + o.Subject.ID + " " + o.Step }

// operations are the operational steps so far, of the given kinds or all. They concern no customer, so none of them may lie among the alerts.
func (w *world) operations(kinds ...string) []opStep {
	w.t.Helper()
	var out []opStep
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("operations")) {
		var o opStep
		if err := json.Unmarshal(r.Value, &o); err != nil {
			w.t.Fatalf("operational event %s: %v", r.Value, err)
		}
		if len(kinds) == 0 || slices.Contains(kinds, o.Kind) {
			out = append(out, o)
		}
	}
	return out
}

// awaitOperations waits until the steps of a kind are the wanted ones, and checks that they are one alert.
func (w *world) awaitOperations(kind string, steps ...string) []opStep {
	w.t.Helper()
	var got []opStep
	kafkatest.Eventually(w.t, kind+" "+strings.Join(steps, ", "), func() error {
		got = w.operations(kind)
		if len(got) < len(steps) {
			return fmt.Errorf("so far %v", got)
		}
		return nil
	})
	w.sameAlert(got, steps...)
	return got
}

func (w *world) sameAlert(got []opStep, steps ...string) {
	w.t.Helper()
	var names []string
	for i, o := range got {
		names = append(names, o.Step)
		if o.AlertID != got[0].AlertID {
			w.t.Errorf("%v is of another alert than the first step: %s, %s", o, o.AlertID, got[0].AlertID)
		}
		if i > 0 && o.Revision <= got[i-1].Revision {
			w.t.Errorf("%v has revision %d after %d", o, o.Revision, got[i-1].Revision)
		}
	}
	if !slices.Equal(names, steps) {
		w.t.Errorf("steps are %v, want %v", got, steps)
	}
}

// metric is the sum of the samples of a metric whose labels have the given values: name, value, name, value ...
func (r *running) metric(name string, labels ...string) float64 {
	families, err := r.reg.Gather()
	if err != nil {
		panic(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if hasLabels(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func hasLabels(m *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		ok := slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == labels[i] && l.GetValue() == labels[i+1] })
		if !ok {
			return false
		}
	}
	return true
}

// task is how one partition stands.
func (r *running) task(p int32) stream.TaskStatus {
	for _, s := range r.Status() {
		if s.Partition == p {
			return s
		}
	}
	return stream.TaskStatus{Partition: p}
}

// awaitState waits until a task is in a state.
func (w *world) awaitState(r *running, p int32, state string) stream.TaskStatus {
	w.t.Helper()
	var s stream.TaskStatus
	kafkatest.Eventually(w.t, fmt.Sprintf("partition %d %s", p, state), func() error {
		if s = r.task(p); s.State != state {
			return fmt.Errorf("it is %q, %s", s.State, s.Error)
		}
		return nil
	})
	return s
}

// settled waits until every task is read to the ends of its feeds and its clock stands at the wall clock's time.
func (w *world) settled(r *running) {
	w.t.Helper()
	w.caughtUp()
	since := w.now()
	kafkatest.Eventually(w.t, "clocks at now", func() error {
		for p := range w.parts {
			s := r.task(p)
			if s.State != "running" || s.Clock.Before(since.Add(-2*time.Second)) {
				return fmt.Errorf("partition %d is %s at %v", p, s.State, s.Clock)
			}
		}
		return nil
	})
}

// item is a record of a feed with its place in time.
type item struct {
	feed string
	at   int64
	rec  kafkatest.Record
}

// produceItems writes records in the order of their times, in one partition.
func (w *world) produceItems(items []item) {
	w.t.Helper()
	slices.SortStableFunc(items, func(a, b item) int { return int(min(max(a.at-b.at, -1), 1)) })
	byTopic := map[string][]kafkatest.Record{}
	for _, i := range items {
		i.rec.Timestamp = i.at
		byTopic[w.topic(i.feed)] = append(byTopic[w.topic(i.feed)], i.rec)
	}
	for topic, records := range byTopic {
		w.broker.Produce(w.t, topic, records...)
	}
}

func items(events []happening) []item {
	var out []item
	for _, e := range events {
		out = append(out, item{e.feed, e.at, kafkatest.Record{Key: []byte(e.customer), Value: e.json()}})
	}
	return out
}

func rfc3339(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

func (w *world) partitionOf(id string) int32 { return partition.Murmur2([]byte(id), w.parts) }

// alert is an alert event as a subscriber sees it.
type alert struct {
	AlertID  string `json:"alert_id"`
	Revision int
	Detector string
	Status   string
	Step     string
	Reason   string
	Customer string                        `json:"customer_id"`
	Time     time.Time                     `json:"time"`
	About    struct{ Tier, Region string } `json:"customer"`
}

func (w *world) alerts() []alert {
	w.t.Helper()
	var out []alert
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("alerts")) {
		var a alert
		if err := json.Unmarshal(r.Value, &a); err != nil {
			w.t.Fatalf("alert %s: %v", r.Value, err)
		}
		out = append(out, a)
	}
	return out
}

// long leaves a test out of the pass under the race detector, which takes four to ten times as long: the shorter ones go through the same code.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long under the race detector; the full pass runs it")
	}
}
