package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/cmd/ebb/internal/console"
	"ebb/cmd/ebb/internal/simulate"
)

// recorder is a producer and an engine at once: it takes what is produced, and says whether the clock was ever ahead of it.
type recorder struct {
	mu      sync.Mutex
	d       *Demo
	log     []string
	topics  map[string]int
	latest  time.Time
	ahead   time.Duration // how far an event's arrival was ahead of the shown clock at most, in the live part
	behind  time.Duration // by how much the clock was ahead of an event that was still to come
	unsent  int
	failure error
}

func (r *recorder) Produce(_ context.Context, topic string, key, value []byte, at time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure != nil {
		return r.failure
	}
	r.topics[topic]++
	r.unsent++
	if at.After(r.latest) {
		r.latest = at
	}
	if now := r.d.Now(); at.After(r.d.live) {
		r.ahead = max(r.ahead, at.Sub(now))
		r.behind = max(r.behind, now.Sub(at))
	}
	return nil
}

// count is how many records were written to the topic of a feed.
func (r *recorder) count(feed string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.topics["t-"+feed]
}

func (r *recorder) seen() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.log, " ")
}

func (r *recorder) Flush(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unsent = 0
	return r.failure
}

func (r *recorder) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, s)
}

func (r *recorder) Start(context.Context) error { r.note("start"); return nil }
func (r *recorder) Kill()                       { r.note("kill") }
func (r *recorder) Stop(context.Context) error  { r.note("stop"); return nil }
func (r *recorder) Behind() (int64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(r.unsent), true
}

func newDemo(t *testing.T, o Options) (*Demo, *recorder) {
	t.Helper()
	r := &recorder{topics: map[string]int{}}
	o.Crowd = simulate.New(3, simulate.Options{Customers: 300, HistoryDays: 60, Start: time.Date(2025, 11, 1, 0, 0, 0, 0, time.UTC)})
	o.Producer, o.Engine, o.Book, o.Tick = r, r, console.NewBook(), time.Now
	o.Topics = map[simulate.Feed]string{}
	for _, f := range simulate.Feeds() {
		o.Topics[f] = "t-" + string(f)
	}
	d := New(o)
	r.d = d
	return d, r
}

func TestADayPassesInASecondAndEventsComeBeforeTheirTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := newDemo(t, Options{For: 10*time.Second + 100*time.Millisecond})
		if err := d.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := r.seen(); got != "start stop" {
			t.Errorf("the engine saw %s", got)
		}
		if passed := d.Now().Sub(d.live); passed < 9*oneDay || passed > 11*oneDay {
			t.Errorf("%s of simulated time passed in ten seconds", passed)
		}
		if r.ahead > MaxStep {
			t.Errorf("an event was %s ahead of the clock", r.ahead)
		}
		if r.behind > 0 {
			t.Errorf("the clock was %s ahead of an event that was still to come", r.behind)
		}
		for _, f := range simulate.Feeds() {
			if r.count(string(f)) == 0 {
				t.Errorf("nothing was written to the %s feed", f)
			}
		}
		s := d.Summary()
		if s.SimulatedDays < 9 || s.Customers < 300 || s.TrueLeavers == 0 || s.Found != 0 || s.Usual.Alerts == 0 {
			t.Errorf("summary %+v", s)
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"alerts", "customers", "true_leavers", "found", "false_alarms", "precision", "median_lead_days", "money_at_risk", "money_found", "p99_alert_ms"} {
			if !strings.Contains(string(b), `"`+name+`":`) {
				t.Errorf("the summary lacks %s: %s", name, b)
			}
		}
		if st := d.State(); st.Phase != console.PhaseEnded || len(st.Days) < 9 || len(st.Acts) != 3 {
			t.Errorf("state %+v", st)
		}
	})
}

// during runs a demo in the background and does something in its live part.
func during(t *testing.T, do func(d *Demo, r *recorder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d, r := newDemo(t, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		let(3 * time.Second)
		do(d, r)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// let lets virtual time pass.
func let(d time.Duration) {
	t := time.NewTimer(d)
	<-t.C
	synctest.Wait()
}

func (d *Demo) did(name string) console.Act {
	for _, a := range d.State().Acts {
		if a.Name == name {
			return a
		}
	}
	return console.Act{}
}

func fired(id string, revision uint32, customer, detector string, since, at time.Time) *console.Step {
	return &console.Step{AlertID: id, Revision: revision, Kind: "fired", Detector: detector, Customer: customer, Since: since, Time: at, FirstFired: at}
}

func TestStoppingTheFeedWithholdsItsEvents(t *testing.T) {
	during(t, func(d *Demo, r *recorder) {
		if err := d.Act("feed", ""); err != nil {
			t.Fatal(err)
		}
		let(200 * time.Millisecond)
		before, paid := r.count("usage"), r.count("payments")
		let(3 * time.Second)
		if r.count("usage") != before || r.count("payments") == paid {
			t.Errorf("usage went from %d to %d, payments from %d to %d", before, r.count("usage"), paid, r.count("payments"))
		}
		if a := d.did("feed"); !a.Active || a.Good || !strings.Contains(a.Did, "no line yet") {
			t.Errorf("%+v", a)
		}
		d.o.Book.Apply(&console.Step{AlertID: "op", Revision: 1, Detector: "feed_stalled", SubjectID: "usage"})
		let(200 * time.Millisecond)
		if a := d.did("feed"); !a.Good || !strings.Contains(a.Did, "the line came after") {
			t.Errorf("%+v", a)
		}
		// One customer who used something meanwhile is called silent, one who did not is too.
		var there string
		d.mu.Lock()
		for _, e := range d.acts.feed.withheld {
			there = e.Key
		}
		stopped := d.acts.feed.at
		d.mu.Unlock()
		now := d.Now()
		d.Observe(fired("x", 1, there, "silence", stopped.Add(-14*oneDay), now))
		d.Observe(fired("y", 1, "nobody", "silence", stopped.Add(-14*oneDay), now))
		if err := d.Act("feed", ""); err != nil {
			t.Fatal(err)
		}
		let(200 * time.Millisecond)
		if a := d.did("feed"); a.Good || a.Active || !strings.Contains(a.Did, "1 customer called silent who were there") {
			t.Errorf("%+v", a)
		}
		if r.count("usage") <= before {
			t.Error("what was withheld was to be sent")
		}
	})
}

func TestTheEngineIsKilledAndComesBack(t *testing.T) {
	during(t, func(d *Demo, r *recorder) {
		now := d.Now()
		d.Observe(fired("a", 1, "c", "silence", now, now))
		if err := d.Act("kill", ""); err != nil {
			t.Fatal(err)
		}
		let(time.Second)
		if got := r.seen(); got != "start kill start" {
			t.Errorf("the engine saw %s", got)
		}
		d.Observe(fired("b", 1, "c", "spend_drop", now, now))
		if a := d.did("kill"); !a.Good || !strings.Contains(a.Did, "1 step read since: 0 twice, 0 missing") {
			t.Errorf("%+v", a)
		}
		d.Observe(fired("b", 1, "c", "spend_drop", now, now))
		if a := d.did("kill"); a.Good || !strings.Contains(a.Did, "1 twice, 0 missing") {
			t.Errorf("a repeated step is to be shown: %+v", a)
		}
	})
}

func TestALatePaymentWithdrawsAnAlert(t *testing.T) {
	during(t, func(d *Demo, r *recorder) {
		if err := d.Act("late", ""); err == nil || !strings.Contains(err.Error(), "no silence alert is open") {
			t.Errorf("without an alert: %v", err)
		}
		var who string
		d.mu.Lock()
		for id, tr := range d.truths {
			if tr.Left.After(d.clock.now().AddDate(1, 0, 0)) {
				who = id
				break
			}
		}
		d.mu.Unlock()
		now := d.Now()
		s := fired("a", 1, who, "silence", now.Add(-15*oneDay), now.Add(-oneDay))
		d.o.Book.Apply(s)
		d.Observe(s)
		paid := r.count("payments")
		if err := d.Act("late", ""); err != nil {
			t.Fatal(err)
		}
		if r.count("payments") <= paid {
			t.Error("no payment was sent")
		}
		if a := d.did("late"); a.Good || !strings.Contains(a.Did, "stands so far") {
			t.Errorf("%+v", a)
		}
		over := *s
		over.Revision, over.Resolved, over.Kind, over.Reason = 2, true, "resolved", "corrected_by_late_data"
		d.Observe(&over)
		if a := d.did("late"); !a.Good || !strings.Contains(a.Did, "withdrawn") {
			t.Errorf("%+v", a)
		}
	})
}

func TestSpeedAndTruthAndWhatIsNoButton(t *testing.T) {
	during(t, func(d *Demo, _ *recorder) {
		if err := d.Act("speed", "0"); err != nil {
			t.Fatal(err)
		}
		let(50 * time.Millisecond)
		at := d.Now()
		let(2 * time.Second)
		if !d.Now().Equal(at) {
			t.Error("the clock runs at speed 0")
		}
		if err := d.Act("speed", "3"); err != nil {
			t.Fatal(err)
		}
		let(2 * time.Second)
		if passed := d.Now().Sub(at); passed < 5*oneDay || passed > 7*oneDay {
			t.Errorf("%s in two seconds at three days a second", passed)
		}
		for _, bad := range [][2]string{{"speed", "-1"}, {"speed", "fast"}, {"speed", "1e9"}, {"speed", "NaN"}, {"nothing", ""}} {
			if d.Act(bad[0], bad[1]) == nil {
				t.Errorf("%v was done", bad)
			}
		}
		if err := d.Act("truth", "off"); err != nil || d.State().ShowTruth {
			t.Error("the truth is still shown")
		}
	})
}

func TestABrokerThatFailsEndsTheDemo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := newDemo(t, Options{})
		r.failure = errors.New("disk full")
		if err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "write the history: disk full") {
			t.Errorf("the demo ended with %v", err)
		}
	})
}

func TestBeforeTheTimeRunsNoButtonIsPressed(t *testing.T) {
	d, _ := newDemo(t, Options{})
	if err := d.Act("kill", ""); err == nil {
		t.Error("pressed")
	}
	for _, a := range d.State().Acts {
		if a.Disabled == "" {
			t.Errorf("%s can be pressed", a.Name)
		}
	}
}

func TestLatencyIsMeasuredFromTheSimulatedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock(live, 1, time.Now)
		for i := range 5000 {
			c.show(live.Add(time.Duration(i) * time.Minute))
			let(time.Millisecond)
		}
		if d, ok := c.ago(live.Add(4990*time.Minute - 30*time.Second)); !ok || d != 10*time.Millisecond {
			t.Errorf("%s, %v", d, ok)
		}
		if _, ok := c.ago(live.Add(time.Minute)); ok {
			t.Error("too long ago to be remembered")
		}
		if _, ok := c.ago(live.Add(6000 * time.Minute)); ok {
			t.Error("not yet")
		}
	})
}

func TestTheEmbeddedBroker(t *testing.T) {
	ctx := t.Context()
	b, err := StartBroker(ctx, []Topic{{Name: "in", Partitions: 3, Configs: map[string]string{"retention.ms": "604800000"}}, {Name: "table", Partitions: 1, Configs: map[string]string{"cleanup.policy": "compact"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	old := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	const n = 500
	for i := range n {
		if err := b.Produce(ctx, "in", fmt.Appendf(nil, "c-%d", i%17), []byte("v"), old); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.ConsumeTopics("in"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	req := kmsg.NewPtrDescribeConfigsRequest()
	about := kmsg.NewDescribeConfigsRequestResource()
	about.ResourceType, about.ResourceName = kmsg.ConfigResourceTypeTopic, "in"
	req.Resources = append(req.Resources, about)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range resp.Resources[0].Configs {
		if c.Name == "retention.ms" && (c.Value == nil || *c.Value != "-1") {
			t.Errorf("old records would be deleted: retention.ms is %v", c.Value)
		}
	}
	where := map[string]int32{}
	for got := 0; got < n; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			got++
			if p, ok := where[string(r.Key)]; ok && p != r.Partition {
				t.Errorf("%s is in two partitions", r.Key)
			}
			where[string(r.Key)] = r.Partition
			if !r.Timestamp.Equal(old) {
				t.Errorf("timestamp %s", r.Timestamp)
			}
		})
	}
	if err := b.Produce(ctx, "nowhere", nil, []byte("v"), old); err == nil {
		err = b.Flush(ctx)
		if err == nil {
			t.Error("a record for a topic that is not there was taken")
		}
	}
}
