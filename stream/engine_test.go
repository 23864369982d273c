package stream_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/state"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/conn"
	"ebb/stream/event"
	"ebb/stream/fetch"
	"ebb/stream/kafkatest"
	"ebb/stream/partition"
	"ebb/stream/txn"
)

// world is one cluster with the topics of one group, and the disk of one instance.
type world struct {
	t      testing.TB
	broker *kafkatest.Broker
	parts  int32
	group  string
	disk   *state.MemDisk
	member *atomic.Pointer[string] // what the state directory remembers
	adjust func(*stream.Config)
	rules  func(*detectors.Config)
	set    func(*detectors.Set)
	dial   kafkatest.DialFunc
	now    func() time.Time
	tick   func() time.Time
	dir    stream.Directory                        // in place of the disk in memory
	step   func(partition int32, s txn.Step) error // seam of the transactions
	// portion is how many records of a topic are produced at a time, 0 all: what is fetched at once follows from it.
	portion int
	facts   string                   // name of the topic
	place   func(h happening) int32  // the partition of an event, nil: as its customer's id says
	key     func(h happening) []byte // the key of an event, nil: its customer's id
}

var feedNames = []string{"usage", "payments", "complaints"}

func newWorld(t testing.TB, b *kafkatest.Broker, parts int32) *world {
	t.Helper()
	w := &world{t: t, broker: b, parts: parts, group: b.Name("group"), disk: state.NewMemDisk(), dial: b.Dial, now: time.Now, tick: time.Now, member: noMember(), facts: "facts"}
	compact := map[string]string{"cleanup.policy": "compact"}
	for _, f := range feedNames {
		b.CreateTopic(t, w.topic(f), parts, nil)
	}
	b.CreateTopic(t, w.topic("alerts"), 3, nil)
	b.CreateTopic(t, w.topic("open"), 3, compact)
	b.CreateTopic(t, w.topic("operations"), 1, nil)
	b.CreateTopic(t, w.topic("changelog"), parts, compact)
	b.CreateTopic(t, w.topic("dlq"), 1, nil)
	b.CreateTopic(t, w.topic("facts"), 1, nil)
	b.CreateTopic(t, w.topic("facts-changelog"), 1, compact)
	return w
}

func (w *world) topic(name string) string { return w.broker.Name(name) }

// noMember is the memory of a directory that nobody used yet.
func noMember() *atomic.Pointer[string] {
	var p atomic.Pointer[string]
	p.Store(new(string))
	return &p
}

// contract are the rules of the bench's contract.
func contract() detectors.Config {
	c := detectors.Defaults()
	c.Silence.Method, c.SpendDrop.Method = detectors.Plain, detectors.Plain
	c.Silence.After, c.Silence.GapMultiple = 14*detectors.Day, 0
	c.SpendDrop.RecentDays, c.SpendDrop.BaselineDays, c.SpendDrop.MinHistoryDays = 7, 28, 28
	c.SpendDrop.FiresBelowPercent, c.SpendDrop.RecoversAtPercent, c.SpendDrop.CriticalBelowPercent = 50, 70, 20
	two := detectors.Within(48 * detectors.Hour)
	c.ComplaintUnresolved.FirstResponse, c.ComplaintUnresolved.Warn = detectors.Targets{}, detectors.WarnConfig{}
	c.Friction.Enabled, c.PaymentTrouble.Enabled = false, false
	c.ComplaintUnresolved.Resolution = detectors.Targets{Low: two, Normal: two, High: two, Urgent: two, Critical: detectors.Within(0)}
	return c
}

func (w *world) config() stream.Config {
	cfg := stream.Config{
		Group: w.group, Check: partition.Murmur2, Customer: customer.DefaultParams(nil), Rates: detectors.MustRates("EUR", nil),
		Topics: stream.Topics{
			Alerts: w.topic("alerts"), OpenAlerts: w.topic("open"), Operations: w.topic("operations"), Changelog: w.topic("changelog"), DeadLetters: w.topic("dlq"),
			Facts: w.topic(w.facts), FactsChangelog: w.topic(w.facts + "-changelog"),
		},
		Time:    stream.TimeConfig{Zone: time.UTC, MaxFutureSkew: time.Hour, Grace: time.Second, FeedUnreachableAfter: 30 * time.Second},
		Stall:   stream.StallConfig{After: 15 * time.Minute, Expected: 30},
		Letters: stream.LetterConfig{BlindRatio: 0.01, BlindMin: 10, StopRatio: 0.2, StopMin: 100},
		Cut:     stream.CutConfig{MaxBytes: 1 << 20, MaxEvents: 100, MaxAge: 200 * time.Millisecond, InFlight: 4, Timeout: 10 * time.Second, Codec: "lz4"},
		Fetch:   fetch.Config{MaxWait: 50 * time.Millisecond, BufferBytes: 8 << 20},
		Membership: stream.GroupConfig{
			Session: 6 * time.Second, Rebalance: 6 * time.Second, Heartbeat: 100 * time.Millisecond, Drain: 2 * time.Second,
		},
		Cache: 1 << 20,
	}
	for i, f := range feedNames {
		cfg.Feeds = append(cfg.Feeds, stream.FeedConfig{Feed: event.Feed(i), Topic: w.topic(f)})
	}
	if w.adjust != nil {
		w.adjust(&cfg)
	}
	return cfg
}

// memory is a state directory without a disk.
type memory struct{ w *world }

func (m memory) Task(p int32) (state.Store, error, error) {
	return m.w.disk.Task(p)
}
func (m memory) MemberID() string                    { return *m.w.member.Load() }
func (m memory) RememberMember(id string) error      { m.w.member.Store(&id); return nil }
func (m memory) Tasks() ([]int32, error)             { return m.w.disk.Tasks() }
func (m memory) SetAside(p int32, cause error) error { return m.w.disk.SetAside(p, cause) }
func (m memory) Positions() (map[int32]int64, error) {
	return m.w.disk.Positions()
}

func (w *world) directory() stream.Directory {
	if w.dir != nil {
		return w.dir
	}
	return memory{w}
}

// running is an engine at work.
type running struct {
	*stream.Engine
	cancel context.CancelFunc
	done   chan error
	reg    *prometheus.Registry
	log    *logbook
}

func (w *world) start() *running {
	w.t.Helper()
	settings := conn.Config{Brokers: w.broker.Addrs, TLS: w.broker.TLS, Dial: w.dial}
	if l := w.broker.Login; l != nil {
		settings.SASL = &conn.SASL{Mechanism: strings.ToLower(l.Mechanism), Username: l.Username, Password: l.Password}
	}
	cluster, err := conn.New(settings)
	if err != nil {
		w.t.Fatal(err)
	}
	rules := contract()
	if w.rules != nil {
		w.rules(&rules)
	}
	set, err := detectors.NewSet(rules)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.set != nil {
		w.set(set)
	}
	cfg := w.config()
	cfg.Fetch.Now = w.now
	book := &logbook{}
	log := slog.New(slog.NewTextHandler(io.MultiWriter(w.t.Output(), book), &slog.HandlerOptions{Level: slog.LevelInfo}))
	cfg.Fetch.Logger = log
	policy := alerts.New(alerts.Config{
		Group: w.group, Detectors: set, Horizon: rules.Horizon, MaxAlertAge: 30 * detectors.Day, ForgetAfter: 800 * detectors.Day, Currency: cfg.Rates.Currency(),
	})
	r := &running{reg: prometheus.NewRegistry(), done: make(chan error, 1), log: book}
	r.Engine, err = stream.New(cfg, stream.Deps{
		Cluster: cluster, Now: w.now, Tick: w.tick, Rand: rand.New(rand.NewPCG(1, 2)), Log: log, Registry: r.reg,
		State: w.directory(), StateMetrics: state.NewMetrics(r.reg), Detectors: set, Policy: policy, TxnStep: w.step,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		r.done <- r.Run(ctx)
		cluster.Close()
	}()
	w.t.Cleanup(func() { r.stop() })
	return r
}

// stop is SIGTERM.
func (r *running) stop() error {
	r.cancel()
	err := <-r.done
	r.done <- err
	return err
}

// kill is kill -9, as far as that can be had inside one process: nothing is committed, nothing flushed, nobody told.
func (r *running) kill() {
	r.Kill()
	_ = r.stop()
}

func (w *world) produce(events []happening) {
	w.t.Helper()
	byTopic := map[string][]kafkatest.Record{}
	for _, e := range events {
		topic := w.topic(e.feed)
		p, key := partition.Murmur2([]byte(e.customer), w.parts), []byte(e.customer)
		if w.key != nil {
			key = w.key(e)
		}
		if w.place != nil {
			p = w.place(e)
		}
		byTopic[topic] = append(byTopic[topic], kafkatest.Record{
			Partition: p, Key: key, Value: e.json(), Timestamp: e.at,
		})
	}
	for topic, records := range byTopic {
		if w.portion == 0 {
			w.broker.Produce(w.t, topic, records...)
			continue
		}
		for part := range slices.Chunk(records, w.portion) {
			w.broker.Produce(w.t, topic, part...)
		}
	}
}

// lag is the distance between the committed offsets and the ends of the feeds.
func (w *world) lag() int64 {
	var sum int64
	for _, f := range feedNames {
		committed := w.broker.GroupOffsets(w.t, w.group, w.topic(f))
		for p, end := range w.broker.EndOffsets(w.t, w.topic(f)) {
			sum += end - max(0, committed[p])
		}
	}
	return sum
}

func (w *world) caughtUp() {
	w.t.Helper()
	kafkatest.Eventually(w.t, "lag 0", func() error {
		if n := w.lag(); n != 0 {
			return fmt.Errorf("%d records to go", n)
		}
		return nil
	})
}

// steps are the alert steps that a read_committed subscriber sees, in the words of the contract. A repeated id fails the test.
func (w *world) steps(until int64) []step {
	w.t.Helper()
	var out []step
	ids := map[string]bool{}
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("alerts")) {
		var a struct {
			AlertID  string    `json:"alert_id"`
			Revision int       `json:"revision"`
			Detector string    `json:"detector"`
			Status   string    `json:"status"`
			Step     string    `json:"step"`
			Customer string    `json:"customer_id"`
			Time     time.Time `json:"time"`
			Subject  struct{ ID string }
		}
		if err := json.Unmarshal(r.Value, &a); err != nil {
			w.t.Fatalf("alert %s: %v", r.Value, err)
		}
		id := fmt.Sprintf("%s/%d", a.AlertID, a.Revision)
		if ids[id] {
			w.t.Errorf("alert step %s was published twice", id)
		}
		ids[id] = true
		if a.Step == "changed" || a.Time.UnixMilli() > until {
			continue
		}
		out = append(out, step{a.Time.UnixMilli(), a.Customer, a.Detector, a.Status, a.Subject.ID})
	}
	slices.SortFunc(out, func(a, b step) int { return strings.Compare(a.String(), b.String()) })
	return out
}

func compareSteps(t testing.TB, got, want []step) {
	t.Helper()
	has := map[step]int{}
	for _, s := range got {
		has[s]++
	}
	missing, shown := 0, 0
	for _, s := range want {
		if has[s]--; has[s] < 0 {
			missing++
			if shown++; shown < 6 {
				t.Logf("missing: %s", s)
			}
		}
	}
	extra := 0
	for s, n := range has {
		for ; n > 0; n-- {
			extra++
			if shown++; shown < 12 {
				t.Logf("extra: %s", s)
			}
		}
	}
	if missing+extra != 0 || len(want) == 0 {
		t.Errorf("%d steps wanted, %d missing, %d extra", len(want), missing, extra)
	}
}

// history is a crowd whose sixty days end now.
func history(seed uint64, n int) (events []happening, end int64) {
	start := time.Now().AddDate(0, 0, -60).Truncate(time.Minute)
	events = crowd(seed, n, 60, start)
	return events, events[len(events)-1].at
}

func TestAlertsEqualTheReference(t *testing.T) {
	for name, broker := range map[string]func(testing.TB) *kafkatest.Broker{
		"embedded": func(t testing.TB) *kafkatest.Broker { return kafkatest.Fake(t, kafkatest.Options{}) },
		"real":     kafkatest.Real,
		"SASL_SSL": func(t testing.TB) *kafkatest.Broker { return kafkatest.Real(t).SASL(t, "SCRAM-SHA-512") },
	} {
		t.Run(name, func(t *testing.T) {
			for _, parts := range []int32{1, 3} {
				t.Run(fmt.Sprintf("%d partitions", parts), func(t *testing.T) {
					w := newWorld(t, broker(t), parts)
					events, end := history(uint64(parts), 80)
					w.produce(events)
					r := w.start()
					w.caughtUp()
					if err := r.stop(); err != nil {
						t.Fatal(err)
					}
					cut := end - 3*3_600_000
					compareSteps(t, w.steps(cut), reference(events, cut))
				})
			}
		})
	}
}
