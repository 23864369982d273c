package group_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/stream/conn"
	"ebb/stream/group"
	"ebb/stream/kafkatest"
)

// event is one call of a Handler.
type event struct {
	who      string
	assigned bool
	gen      group.Generation
	why      error
	at       time.Time
}

func (e event) String() string {
	if e.assigned {
		return fmt.Sprintf("%s+%v", e.who, e.gen.Partitions)
	}
	return fmt.Sprintf("%s-(%v)", e.who, e.why)
}

// journal records what all members of a test see, in order.
type journal struct {
	mu     sync.Mutex
	events []event
	now    map[string]group.Generation // what each member holds
	news   chan struct{}
}

func newJournal() *journal {
	return &journal{now: map[string]group.Generation{}, news: make(chan struct{})}
}

func (j *journal) add(e event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.at = time.Now()
	j.events = append(j.events, e)
	if e.assigned {
		j.now[e.who] = e.gen
	} else {
		delete(j.now, e.who)
	}
	close(j.news)
	j.news = make(chan struct{})
}

// await waits until cond holds of what the members hold, and returns that.
func (j *journal) await(t *testing.T, what string, cond func(held map[string][]int32) bool) map[string]group.Generation {
	t.Helper()
	timer := time.NewTimer(60 * time.Second)
	defer timer.Stop()
	for {
		j.mu.Lock()
		held, gens := map[string][]int32{}, map[string]group.Generation{}
		for who, g := range j.now {
			held[who], gens[who] = g.Partitions, g
		}
		news := j.news
		j.mu.Unlock()
		if cond(held) {
			return gens
		}
		select {
		case <-news:
		case <-timer.C:
			t.Fatalf("never saw: %s; held %v after %v", what, held, j.list())
		}
	}
}

func (j *journal) list() []event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.events)
}

// handler of one member. drain, if set, runs in Revoked.
type handler struct {
	who   string
	j     *journal
	drain func(group.Generation)
}

func (h *handler) Assigned(_ context.Context, g group.Generation) {
	h.j.add(event{who: h.who, assigned: true, gen: g})
}

func (h *handler) Revoked(g group.Generation, why error) {
	if h.drain != nil {
		h.drain(g)
	}
	h.j.add(event{who: h.who, gen: g, why: why})
}

// member is a running Run.
type member struct {
	cancel context.CancelFunc
	done   chan error
	mu     sync.Mutex
	stored []string // what RememberMember was told
}

func (m *member) stop(t *testing.T) {
	t.Helper()
	m.cancel()
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case err := <-m.done:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-timer.C:
		t.Fatal("Run did not return within 10 s of its context's end")
	}
}

func (m *member) remembered() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.stored) == 0 {
		return ""
	}
	return m.stored[len(m.stored)-1]
}

func cluster(t *testing.T, b *kafkatest.Broker, dial kafkatest.DialFunc) *conn.Cluster {
	t.Helper()
	if dial == nil {
		dial = b.Dial
	}
	c, err := conn.New(conn.Config{Brokers: b.Addrs, Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func start(t *testing.T, b *kafkatest.Broker, h *handler, change func(*group.Config)) *member {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{cancel: cancel, done: make(chan error, 1)}
	cfg := group.Config{
		Cluster: cluster(t, b, nil), Group: b.Name("g"), Topics: []string{b.Name("usage"), b.Name("payments")},
		Log: slog.New(slog.DiscardHandler),
		RememberMember: func(id string) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.stored = append(m.stored, id)
			return nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		m.done <- group.Run(ctx, cfg, h)
	}()
	t.Cleanup(func() { cancel(); <-finished })
	return m
}

func topics(t *testing.T, b *kafkatest.Broker) {
	t.Helper()
	b.CreateTopic(t, b.Name("usage"), 6, nil)
	b.CreateTopic(t, b.Name("payments"), 6, nil)
}

func holds(want map[string]int) func(map[string][]int32) bool {
	return func(held map[string][]int32) bool {
		if len(held) != len(want) {
			return false
		}
		seen := map[int32]bool{}
		for who, n := range want {
			if len(held[who]) != n {
				return false
			}
			for _, p := range held[who] {
				if seen[p] {
					return false
				}
				seen[p] = true
			}
		}
		return true
	}
}

// everywhere runs a test on the embedded broker in virtual time and on a real one.
func everywhere(t *testing.T, f func(t *testing.T, b *kafkatest.Broker)) {
	t.Run("virtual", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, kafkatest.Virtual(t, kafkatest.Options{})) })
	})
	t.Run("real", func(t *testing.T) { f(t, kafkatest.Real(t)) })
}

func TestJoinStickAndLeave(t *testing.T) {
	everywhere(t, func(t *testing.T, b *kafkatest.Broker) {
		topics(t, b)
		j := newJournal()
		a := start(t, b, &handler{who: "A", j: j}, nil)
		first := j.await(t, "A has all", holds(map[string]int{"A": 6}))
		if got := a.remembered(); got != first["A"].MemberID || got == "" {
			t.Errorf("remembered %q, the member is %q", got, first["A"].MemberID)
		}
		start(t, b, &handler{who: "B", j: j}, nil)
		both := j.await(t, "A and B share", holds(map[string]int{"A": 3, "B": 3}))
		for range 3 { // others come and go
			c := start(t, b, &handler{who: "C", j: j}, nil)
			j.await(t, "three share", holds(map[string]int{"A": 2, "B": 2, "C": 2}))
			c.stop(t)
			if got := c.remembered(); got != "" {
				t.Errorf("C has left and is still remembered as %q", got)
			}
			again := j.await(t, "two share again", holds(map[string]int{"A": 3, "B": 3}))
			for _, who := range []string{"A", "B"} {
				moved := 0
				for _, p := range again[who].Partitions {
					if !slices.Contains(both[who].Partitions, p) {
						moved++
					}
				}
				if moved > 1 {
					t.Errorf("%s had %v and has %v", who, both[who].Partitions, again[who].Partitions)
				}
			}
			both = again
		}
		a.stop(t)
		j.await(t, "B has all", holds(map[string]int{"B": 6}))
	})
}

// TestOnlyMemberStays: it does not leave on a stop, keeps its id remembered, and a successor that buries it has a generation soon,
// long before the session of the dead id ends.
func TestOnlyMemberStays(t *testing.T) {
	everywhere(t, func(t *testing.T, b *kafkatest.Broker) {
		topics(t, b)
		j := newJournal()
		a := start(t, b, &handler{who: "A", j: j}, nil)
		j.await(t, "A has all", holds(map[string]int{"A": 6}))
		a.stop(t)
		old := a.remembered()
		if old == "" {
			t.Fatal("the only member has left the group")
		}
		began := time.Now()
		start(t, b, &handler{who: "A2", j: j}, func(c *group.Config) { c.PreviousMember = old })
		j.await(t, "A2 has all", holds(map[string]int{"A2": 6}))
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the successor waited %v for its dead predecessor", took)
		}
	})
}

func TestRejoinEndsTheGeneration(t *testing.T) {
	everywhere(t, func(t *testing.T, b *kafkatest.Broker) {
		topics(t, b)
		j := newJournal()
		start(t, b, &handler{who: "A", j: j}, nil)
		first := j.await(t, "A has all", holds(map[string]int{"A": 6}))["A"]
		fenced := errors.New("fenced")
		first.Rejoin(fenced)
		j.await(t, "A has all in a new generation", func(held map[string][]int32) bool {
			return len(held["A"]) == 6 && len(j.list()) == 3
		})
		events := j.list()
		if !errors.Is(events[1].why, fenced) {
			t.Errorf("revoked because of %v, want the task's reason", events[1].why)
		}
		if events[2].gen.ID <= first.ID {
			t.Errorf("generation %d after %d", events[2].gen.ID, first.ID)
		}
		first.Rejoin(fenced) // of a generation that is over: nothing
	})
}

// TestDrain: a rebalance waits for the commits in flight, and the new owner begins only after that.
// TestTopicsUnknownForAMoment: a broker that has just come up knows no topics yet. Whoever gives the partitions out then has nothing to give, and does it
// again.
func TestTopicsUnknownForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		topics(t, b)
		f := b.Fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.UnknownTopicOrPartition, Count: 1000})
		j := newJournal()
		start(t, b, &handler{who: "A", j: j}, nil)
		start(t, b, &handler{who: "B", j: j}, nil)
		j.await(t, "a generation without partitions", func(held map[string][]int32) bool {
			return len(j.list()) > 4 && len(held["A"])+len(held["B"]) == 0
		})
		f.Remove()
		j.await(t, "A and B share", holds(map[string]int{"A": 3, "B": 3}))
	})
}

func TestDrain(t *testing.T) {
	everywhere(t, func(t *testing.T, b *kafkatest.Broker) {
		topics(t, b)
		j := newJournal()
		busy := make(chan struct{})
		start(t, b, &handler{who: "A", j: j, drain: func(group.Generation) { <-busy }}, nil)
		j.await(t, "A has all", holds(map[string]int{"A": 6}))
		start(t, b, &handler{who: "B", j: j}, nil)
		timer := time.AfterFunc(1500*time.Millisecond, func() { close(busy) })
		defer timer.Stop()
		j.await(t, "A and B share", holds(map[string]int{"A": 3, "B": 3}))
		events := j.list()
		if events[1].who != "A" || events[1].assigned {
			t.Errorf("B had a generation before A had drained: %v", events)
		}
	})
}

// TestDrainTooLong: a handler that does not give back is left behind, and no generation is assigned to it before it has.
func TestDrainTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		topics(t, b)
		j := newJournal()
		busy := make(chan struct{})
		start(t, b, &handler{who: "A", j: j, drain: func(group.Generation) { <-busy }}, nil)
		j.await(t, "A has all", holds(map[string]int{"A": 6}))
		start(t, b, &handler{who: "B", j: j}, nil)
		j.await(t, "B begins while A hangs", func(held map[string][]int32) bool { return len(held["B"]) == 3 && len(held["A"]) == 6 })
		close(busy)
		j.await(t, "A goes on once it has given back", func(held map[string][]int32) bool { return len(held["A"]) == 3 })
		events := j.list()
		for i, e := range events {
			if i > 0 && e.who == "A" && e.assigned && !slices.ContainsFunc(events[:i], func(x event) bool { return x.who == "A" && !x.assigned }) {
				t.Errorf("A was assigned a generation before it had given the last one back: %v", events)
			}
		}
	})
}

// TestLongMembership: hours pass without a generation ending for no reason.
func TestLongMembership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		topics(t, b)
		j := newJournal()
		start(t, b, &handler{who: "A", j: j}, nil)
		start(t, b, &handler{who: "B", j: j}, nil)
		j.await(t, "A and B share", holds(map[string]int{"A": 3, "B": 3}))
		before := len(j.list())
		time.Sleep(time.Hour)
		if after := j.list(); len(after) != before {
			t.Errorf("in an hour of peace: %v", after[before:])
		}
	})
}

func TestPartitionsChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		topics(t, b)
		j := newJournal()
		changes := make(chan string, 10)
		start(t, b, &handler{who: "A", j: j}, func(c *group.Config) {
			c.PartitionsChanged = func(topic string, was, now int) { changes <- fmt.Sprint(topic, " ", was, " ", now) }
		})
		j.await(t, "A has all", holds(map[string]int{"A": 6}))
		b.DeleteTopic(t, b.Name("usage"))
		if got, want := <-changes, b.Name("usage")+" 6 0"; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
		time.Sleep(10 * time.Minute)
		if len(changes) != 0 {
			t.Errorf("told again: %q", <-changes)
		}
		if got := b.Client(t); got == nil {
			t.Fatal("no client")
		}
	})
}

func TestUnequalTopicsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		b.CreateTopic(t, b.Name("usage"), 4, nil)
		b.CreateTopic(t, b.Name("payments"), 3, nil)
		err := group.Run(t.Context(), group.Config{
			Cluster: cluster(t, b, nil), Group: b.Name("g"), Topics: []string{b.Name("usage"), b.Name("payments")}, Log: slog.New(slog.DiscardHandler),
		}, &handler{who: "A", j: newJournal()})
		if !errors.Is(err, group.ErrNotCopartitioned) {
			t.Errorf("Run: %v, want ErrNotCopartitioned", err)
		}
	})
}

func TestConfigFaults(t *testing.T) {
	for _, c := range []struct {
		rule   string
		change func(*group.Config)
	}{
		{"a group name is needed", func(c *group.Config) { c.Group = "" }},
		{"topics are needed", func(c *group.Config) { c.Topics = nil }},
		{"the drain must fit into the rebalance", func(c *group.Config) { c.Drain, c.RebalanceTimeout = 5*time.Second, 5*time.Second }},
		{"three heartbeats must fit into a session", func(c *group.Config) { c.HeartbeatInterval = 4 * time.Second }},
	} {
		cl, err := conn.New(conn.Config{Brokers: []string{"127.0.0.1:1"}})
		if err != nil {
			t.Fatal(err)
		}
		cfg := group.Config{Cluster: cl, Group: "g", Topics: []string{"t"}}
		c.change(&cfg)
		if err := group.Run(t.Context(), cfg, &handler{}); err == nil {
			t.Errorf("%s: no error", c.rule)
		}
		cl.Close()
	}
}

// TestBrokerRestart: after an outage the members find each other again, soon after the broker is back: the ids they had are buried.
func TestBrokerRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts a broker")
	}
	b := kafkatest.Own(t, nil)
	topics(t, b)
	j := newJournal()
	a := start(t, b, &handler{who: "A", j: j}, nil)
	start(t, b, &handler{who: "B", j: j}, nil)
	j.await(t, "A and B share", holds(map[string]int{"A": 3, "B": 3}))
	b.Kill(t)
	j.await(t, "both have lost their generation", func(held map[string][]int32) bool { return len(held) == 0 })
	b.Restart(t)
	back := time.Now()
	j.await(t, "A and B share again", holds(map[string]int{"A": 3, "B": 3}))
	t.Logf("both are back %v after the broker", time.Since(back))
	a.stop(t)
}

// TestStopDuringOutage: a stop while the broker is gone does not take longer than any other.
func TestStopDuringOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a broker")
	}
	b := kafkatest.Own(t, nil)
	topics(t, b)
	j := newJournal()
	a := start(t, b, &handler{who: "A", j: j}, nil)
	j.await(t, "A has all", holds(map[string]int{"A": 6}))
	b.Freeze(t)
	began := time.Now()
	a.stop(t)
	t.Logf("stopped within %v on a frozen broker", time.Since(began))
	b.Thaw(t)
}

// A member that joins with nothing is told to follow what it is to get, and gets it when it asks. Copies survive the way through the broker.
func TestCopiesAreAssigned(t *testing.T) {
	everywhere(t, func(t *testing.T, b *kafkatest.Broker) {
		topics(t, b)
		b.CreateTopic(t, b.Name("changelog"), 6, nil)
		j := newJournal()
		far := map[int32]int64{0: 1e6, 1: 1e6, 2: 1e6, 3: 1e6, 4: 1e6, 5: 1e6}
		with := func(warm func() map[int32]int64) func(*group.Config) {
			return func(c *group.Config) { c.Changelog, c.Standby, c.Warm = b.Name("changelog"), 1, warm }
		}
		start(t, b, &handler{who: "A", j: j}, with(func() map[int32]int64 { return far }))
		j.await(t, "A has all", holds(map[string]int{"A": 6}))
		var ready atomic.Bool
		start(t, b, &handler{who: "B", j: j}, with(func() map[int32]int64 {
			if ready.Load() {
				return far
			}
			return nil
		}))
		now := j.await(t, "both are in", func(held map[string][]int32) bool { return len(held) == 2 && len(held["A"]) == 6 })
		if g := now["B"]; len(g.Copies) != 6 || len(g.Coming) != 3 || len(now["A"].Copies) != 0 {
			t.Errorf("B is told to follow %v, of which %v are to come; A %v", g.Copies, g.Coming, now["A"].Copies)
		}
		ready.Store(true)
		now["B"].Rejoin(group.ErrCaughtUp)
		both := j.await(t, "A and B share", holds(map[string]int{"A": 3, "B": 3}))
		if !slices.Equal(both["A"].Copies, both["B"].Partitions) || !slices.Equal(both["B"].Copies, both["A"].Partitions) || len(both["B"].Coming) != 0 {
			t.Errorf("A has %v and follows %v, B has %v and follows %v, %v to come",
				both["A"].Partitions, both["A"].Copies, both["B"].Partitions, both["B"].Copies, both["B"].Coming)
		}
	})
}
