package stream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/state"
	"ebb/stream"
	"ebb/stream/group"
	"ebb/stream/kafkatest"
)

// gate is a network that can be cut for one side.
type gate struct {
	mu    sync.Mutex
	shut  bool
	conns []net.Conn
}

func (g *gate) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("no route to host")}
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err == nil {
		g.conns = append(g.conns, c)
	}
	return c, err
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	for _, c := range g.conns {
		_ = c.Close()
	}
	g.conns = nil
}

// While the cluster is away ebb waits and says so. Even if that takes a month, nobody is accused of a silence, no feed is called stalled, and
// what came meanwhile is applied as if it had come in time.
func TestClusterAwayForAMonth(t *testing.T) {
	g := &gate{}
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 3)
	w.dial = g.dial
	events, end := history(29, 60)
	half := len(events) / 2
	c := &clock{}
	c.set(events[half-1].at)
	w.now = c.now
	w.adjust = func(cfg *stream.Config) { cfg.Stall.Expected = 10 }
	w.produce(events[:half])
	r := w.start()
	w.settled(r)
	g.set(true)
	w.produce(events[half:])
	kafkatest.Eventually(t, "the broker is missed", func() error { // an answer that was under way would have come a month after it was asked for
		if r.log.count("broker lost") == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	c.set(end)
	kafkatest.Eventually(t, "the outage is said", func() error {
		if r.log.count("gives no answer") == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	g.set(false)
	w.settled(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if ops := w.operations(); len(ops) != 0 {
		t.Errorf("operational alerts of an outage that concerned no feed: %v", ops)
	}
	cut := end - 3*3_600_000
	compareSteps(t, w.steps(cut), reference(events, cut))
}

// A broker that is killed or frozen in the middle costs time and nothing else.
func TestBrokerAway(t *testing.T) {
	long(t)
	b := kafkatest.Own(t, nil)
	w := newWorld(t, b, 3)
	w.adjust = func(c *stream.Config) {
		c.Time.FeedUnreachableAfter = 2 * time.Second
		c.Cut.MaxEvents = 50
	}
	events, end := history(31, 100)
	w.produce(events)
	total := w.lag()
	r := w.start()
	for k, outage := range []func(){
		func() {
			b.Kill(t)
			b.Restart(t)
		},
		func() {
			b.Freeze(t)
			began := time.Now()
			kafkatest.Eventually(t, "longer than a feed may be away", func() error {
				if time.Since(began) < 4*time.Second {
					return errors.New("not yet")
				}
				return nil
			})
			b.Thaw(t)
		},
	} {
		kafkatest.Eventually(t, "some progress", func() error {
			if n := w.lag(); n > total*int64(2-k)/3 {
				return fmt.Errorf("%d of %d to go", n, total)
			}
			return nil
		})
		outage()
	}
	w.settled(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if ops := w.operations(); len(ops) != 0 {
		t.Errorf("operational alerts of an outage that concerned no feed: %v", ops)
	}
	cut := end - 3*3_600_000
	compareSteps(t, w.steps(cut), reference(events, cut))
}

// A feed that cannot be read while others can holds them only for so long; then it is stalled until it can be read again.
func TestFeedAway(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	w.adjust = func(c *stream.Config) {
		c.Time.FeedUnreachableAfter, c.Stall.Expected = time.Second, 1e9
	}
	events, _ := history(31, 20)
	w.produce(events)
	c := &clock{}
	w.now = c.now
	r := w.start()
	w.settled(r)
	before := len(w.steps(c.ms()))
	fault := w.broker.Fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: w.topic("usage"), Err: kerr.NotLeaderForPartition, Count: -1})
	w.awaitOperations("feed_stalled", "fired")
	now := c.ms()
	var unseen, paid []happening
	for i := range 20 {
		who := fmt.Sprintf("c-%03d", i)
		unseen = append(unseen, happening{feed: "usage", customer: who, at: now + int64(i), kind: "session", id: "away-" + who})
		paid = append(paid, happening{feed: "payments", customer: who, at: now + int64(i), kind: "charge_failed", cents: 1, id: "paid-" + who})
	}
	w.produce(append(unseen, paid...))
	kafkatest.Eventually(t, "the other feeds go on", func() error {
		if o, e := w.broker.GroupOffsets(t, w.group, w.topic("payments"))[0], w.broker.EndOffsets(t, w.topic("payments"))[0]; o != e {
			return fmt.Errorf("%d of %d", o, e)
		}
		return nil
	})
	c.skip(13 * 24 * time.Hour)
	kafkatest.Eventually(t, "the clock goes on", func() error {
		if at := r.task(0).Clock; at.UnixMilli() < c.ms()-60_000 {
			return fmt.Errorf("it stands at %v", at)
		}
		return nil
	})
	fault.Remove()
	w.settled(r)
	w.awaitOperations("feed_stalled", "fired", "resolved")
	for _, s := range w.steps(c.ms())[before:] {
		if s.detector == "silence" && s.status == "firing" {
			t.Errorf("accused of a silence that was the feed's: %s", s)
		}
	}
	if len(w.operations()) != 2 {
		t.Errorf("operational alerts are %v", w.operations())
	}
}

// A clean end takes what is under way with it, within ten seconds, and the next start has nothing to do again.
func TestCleanEnd(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 3)
	w.adjust = func(c *stream.Config) { c.Cut.MaxAge, c.Cut.MaxEvents = time.Hour, 1_000_000 }
	events, end := history(37, 60)
	w.produce(events)
	r := w.start()
	kafkatest.Eventually(t, "everything is applied and nothing committed", func() error {
		sum := 0.0
		for _, f := range feedNames {
			sum += r.metric("ebb_records_consumed_total", "feed", f)
		}
		if sum < float64(len(events)) {
			return fmt.Errorf("%v of %d", sum, len(events))
		}
		return nil
	})
	began := time.Now()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the end took %v", took)
	}
	if n := w.lag(); n != 0 {
		t.Errorf("%d records were applied and not committed", n)
	}
	cut := end - 3*3_600_000
	compareSteps(t, w.steps(cut), reference(events, cut))
}

// second is another instance of the same group, with a disk of its own.
func (w *world) second() *world {
	o := *w
	o.disk, o.member = state.NewMemDisk(), noMember()
	return &o
}

// produceAtOnce lets time pass up to the last of the events, and shows them all together: who reads either sees none of them and knows that
// there is more to come, or sees all.
func (w *world) produceAtOnce(c *clock, events []happening) {
	w.t.Helper()
	cl := w.broker.Client(w.t, kgo.TransactionalID(w.broker.Name("producer")), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	err := cl.BeginTransaction()
	var records []*kgo.Record
	for _, e := range events {
		records = append(records, &kgo.Record{
			Topic: w.topic(e.feed), Partition: w.partitionOf(e.customer), Key: []byte(e.customer), Value: e.json(), Timestamp: time.UnixMilli(e.at),
		})
	}
	ctx := context.Background()
	err = errors.Join(err, cl.ProduceSync(ctx, records...).FirstErr())
	c.set(events[len(events)-1].at + 1000)
	kafkatest.Eventually(w.t, "fetches that were sent before are answered", func() error {
		if c.ms() < events[len(events)-1].at+1400 {
			return errors.New("not yet")
		}
		return nil
	})
	if err = errors.Join(err, cl.EndTransaction(ctx, kgo.TryCommit)); err != nil {
		w.t.Fatalf("produce: %v", err)
	}
}

// A second instance that joins takes partitions over and gives them back when it leaves: nothing is lost or doubled, and the tasks that stay
// are not opened again.
func TestTwoInstances(t *testing.T) {
	for name, broker := range map[string]func(testing.TB) *kafkatest.Broker{
		"embedded": func(t testing.TB) *kafkatest.Broker { return kafkatest.Fake(t, kafkatest.Options{}) },
		"real":     kafkatest.Real,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, broker(t), 4)
			events, end := history(41, 80)
			third := len(events) / 3
			c := &clock{}
			w.now = c.now
			w.adjust = func(cfg *stream.Config) { cfg.Stall.Expected = 1e9 }
			w.produceAtOnce(c, events[:third])
			a := w.start()
			w.caughtUp()
			opened := a.log.count("task is open")
			if opened != 4 {
				t.Errorf("%d tasks were opened, want 4", opened)
			}

			b := w.second().start()
			owned := func(r *running) (n int) {
				for p := range w.parts {
					if r.Owns(p) && r.task(p).State == "running" {
						n++
					}
				}
				return n
			}
			kafkatest.Eventually(t, "two partitions each", func() error {
				if owned(a) != 2 || owned(b) != 2 {
					return fmt.Errorf("%d and %d", owned(a), owned(b))
				}
				return nil
			})
			w.produceAtOnce(c, events[third:2*third])
			w.caughtUp()
			if n := a.log.count("task is open"); n != opened {
				t.Errorf("%d tasks that stayed were opened again", n-opened)
			}

			if err := b.stop(); err != nil {
				t.Fatal(err)
			}
			w.produceAtOnce(c, events[2*third:])
			kafkatest.Eventually(t, "all partitions with the first", func() error {
				if n := owned(a); n != 4 {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
			w.settled(a)
			if n := a.log.count("task is open"); n != opened+2 {
				t.Errorf("%d tasks were opened after the second instance had left, want its 2", n-opened)
			}
			if err := a.stop(); err != nil {
				t.Fatal(err)
			}
			cut := end - 3*3_600_000
			compareSteps(t, w.steps(cut), reference(events, cut))
			for _, r := range []*running{a, b} {
				if n := r.log.count("level=ERROR"); n != 0 {
					t.Errorf("%d errors were logged", n)
				}
			}
		})
	}
}

// Whoever leaves hands its partitions over when its last cuts are committed, and not only when its disk has them too.
func TestALeaverKeepsNobodyWaitingForItsDisk(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 2)
	w.adjust = func(c *stream.Config) { c.Stall.Expected, c.FlushAge = 1e9, time.Hour }
	a := w.start()
	leaver := w.second()
	var disk sync.RWMutex
	leaver.dir = slowDisk{leaver.directory(), func() { disk.RLock(); defer disk.RUnlock() }}
	b := leaver.start()
	kafkatest.Eventually(t, "a partition each", func() error {
		for p := range w.parts {
			if s := b.task(p).State; b.Owns(p) && s == "running" && a.Owns(1-p) {
				return nil
			}
		}
		return errors.New("not yet")
	})
	disk.Lock()
	release := sync.OnceFunc(disk.Unlock)
	t.Cleanup(release) // before the instances are stopped
	now := time.Now().UnixMilli()
	w.produce([]happening{
		{feed: "usage", customer: w.customerOf(0, "c"), at: now, kind: "session", id: "u-1"},
		{feed: "usage", customer: w.customerOf(1, "c"), at: now, kind: "session", id: "u-2"},
	})
	w.caughtUp()
	stopped := make(chan error, 1)
	go func() { stopped <- b.stop() }()
	kafkatest.Eventually(t, "both partitions with the other", func() error {
		for p := range w.parts {
			if !a.Owns(p) || a.task(p).State != "running" {
				return fmt.Errorf("partition %d is not there", p)
			}
		}
		return nil
	})
	select {
	case err := <-stopped:
		t.Fatalf("the leaver ended before its disk had taken anything: %v", err)
	default:
	}
	release()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if n := b.log.count("the last cut did not succeed") + b.log.count("not caught up") + b.log.count("level=ERROR"); n != 0 {
		t.Errorf("%d warnings and errors of the leaver", n)
	}
}

// stickyDisk is a state directory in which the copy of one partition does not close before it is let go.
type stickyDisk struct {
	stream.Directory
	partition int32
	wait      func()
}

func (d stickyDisk) Task(p int32) (s state.Store, aside, err error) {
	s, aside, err = d.Directory.Task(p)
	if p == d.partition {
		s = stickyStore{s, d.wait}
	}
	return s, aside, err
}

type stickyStore struct {
	state.Store
	wait func()
}

func (s stickyStore) Close() error {
	s.wait()
	return s.Store.Close()
}

// Nobody serves a partition that comes until it is open here, while one that went has an owner elsewhere: it may take its time.
func TestWhatComesIsOpenedBeforeWhatWentIsClosed(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 2)
	w.adjust = func(c *stream.Config) { c.Stall.Expected = 1e9 }
	letGo := make(chan struct{})
	release := sync.OnceFunc(func() { close(letGo) })
	w.dir = stickyDisk{memory{w}, 0, func() { <-letGo }}
	r := w.start()
	t.Cleanup(release) // before the instance is stopped
	w.awaitState(r, 0, "running")
	w.awaitState(r, 1, "running")
	generation := func(id int32, partitions ...int32) group.Generation {
		return group.Generation{ID: id, MemberID: *w.member.Load(), Partitions: partitions}
	}
	r.Assigned(t.Context(), generation(2, 0))
	w.awaitState(r, 0, "running")
	divided := make(chan struct{})
	go func() {
		defer close(divided)
		r.Assigned(t.Context(), generation(3, 1))
	}()
	w.awaitState(r, 1, "running")
	select {
	case <-divided:
		t.Error("the partition that went was not waited for")
	default:
	}
	release()
	<-divided
	if r.Owns(0) {
		t.Error("the partition that went is still there")
	}
}

// More customers than fit into memory: the alerts are the same, and what is kept stays near its bound.
func TestMoreCustomersThanFit(t *testing.T) {
	long(t)
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	const bound = 256 << 10
	w.adjust = func(c *stream.Config) {
		c.Cache, c.Pending, c.FlushAge = bound, bound, 20*time.Millisecond
		c.Cut.MaxBytes, c.Cut.MaxEvents = 16<<10, 200
	}
	rng := rand.New(rand.NewPCG(1, 1))
	now := time.Now().UnixMilli()
	var events []happening
	const customers = 16_000
	for c := range customers {
		for k := range 3 {
			events = append(events, happening{feed: "usage", customer: fmt.Sprintf("c-%05d", c), at: now - rng.Int64N(60*dayMs), kind: "session", id: fmt.Sprintf("%d-%d", c, k)})
		}
	}
	slices.SortStableFunc(events, func(a, b happening) int { return int(min(max(a.at-b.at, -1), 1)) })
	w.produce(events)
	r := w.start()
	cut := now - 3*3_600_000
	want := reference(events, cut)
	most := 0.0
	kafkatest.Eventually(t, "all alerts", func() error {
		most = max(most, r.metric("ebb_state_cache_bytes"))
		if n := w.lag(); n != 0 {
			return fmt.Errorf("%d records to go", n)
		}
		if n := int(r.metric("ebb_alert_steps_total")); n < len(want) {
			return fmt.Errorf("%d of %d alert steps", n, len(want))
		}
		return nil
	})
	w.settled(r)
	all := r.metric("ebb_customers")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// The records and deadlines of a few rounds lie on top of the cache, until their cuts are committed and written.
	if most > bound+4<<20 || most < bound/2 {
		t.Errorf("at most %v bytes of customers were kept, the bound is %d", most, bound)
	}
	if n := r.metric("ebb_state_evictions_total"); all != customers || n < customers {
		t.Errorf("%v customers, %v evictions: the cache was not put to the test", all, n)
	}
	compareSteps(t, w.steps(cut), want)
}

func TestToldToStopBeforeABrokerAnswered(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		asked := make(chan struct{}, 100)
		w.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			asked <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		r := w.start()
		<-asked
		if err := r.stop(); err != nil {
			t.Errorf("told to stop while no broker answered, Run returns %v: a clean end", err)
		}
	})
}
