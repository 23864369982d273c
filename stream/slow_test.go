package stream_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ebb/state"
	"ebb/stream"
	"ebb/stream/fetch"
	"ebb/stream/kafkatest"
)

// strait is a network on which all connections of the process share a bandwidth.
type strait struct {
	dial  kafkatest.DialFunc
	bytes int64 // a second

	mu   sync.Mutex
	free time.Time // from when on the next byte comes through
}

func (s *strait) open(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := s.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return straitConn{c, s}, nil
}

func (s *strait) pass(n int) {
	s.mu.Lock()
	now := time.Now()
	if s.free.Before(now) {
		s.free = now
	}
	s.free = s.free.Add(time.Duration(int64(n) * int64(time.Second) / s.bytes))
	wait := s.free.Sub(now)
	s.mu.Unlock()
	nap(wait)
}

type straitConn struct {
	net.Conn
	s *strait
}

func (c straitConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:min(len(b), 4<<10)])
	c.s.pass(n)
	return n, err
}

// impatient are the settings of the membership that ebb has by default.
func impatient(cfg *stream.Config) {
	cfg.Fetch.MaxWait = 10 * time.Second
	cfg.Cut.Timeout = time.Minute
	cfg.Membership = stream.GroupConfig{Session: 10 * time.Second, Rebalance: 15 * time.Second, Heartbeat: 3 * time.Second, Drain: 3 * time.Second}
}

// With a broker that takes its time the membership holds, nothing is called stalled, what is buffered stays within its bound, and
// every deadline is decided at its own time, as it is with a fast one.
func TestSlowBroker(t *testing.T) {
	long(t)
	for name, slow := range map[string]func(w *world) kafkatest.DialFunc{
		"answers take 2 s": func(w *world) kafkatest.DialFunc {
			n := newWire(w.broker.Dial)
			n.slow(2 * time.Second)
			return n.open
		},
		"20 KB/s": func(w *world) kafkatest.DialFunc { return (&strait{dial: w.broker.Dial, bytes: 20_000}).open },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				events, end := lives(7, 30)
				w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{Brokers: 3}), 2)
				w.portion = 25
				done := w.live(events)
				w.dial = slow(w)
				reg := prometheus.NewRegistry()
				const buffer = 64 << 10
				w.adjust = func(cfg *stream.Config) {
					impatient(cfg)
					cfg.Fetch.BufferBytes, cfg.Fetch.PartitionMaxBytes, cfg.Fetch.MaxBytes = buffer, 16<<10, 32<<10
					cfg.Fetch.Metrics = fetch.NewMetrics(reg)
				}
				r := w.start()
				most := 0.0
				for time.Now().UnixMilli() < end {
					nap(10 * time.Second)
					most = max(most, (&running{reg: reg}).metric("ebb_fetch_buffer_bytes"))
				}
				<-done
				w.judged(events, end, r)
				nap(time.Minute) // for who still waits for the network
				if n := r.log.count("generation begins"); n != 1 {
					t.Errorf("%d generations, want one", n)
				}
				if ops := w.operations(); len(ops) != 0 {
					t.Errorf("operational alerts: %v", ops)
				}
				if most > buffer+32<<10 || most == 0 { // an answer may be larger than what was asked for by a batch of each partition
					t.Errorf("at most %v bytes were buffered, the bound is %d", most, buffer)
				}
			})
		})
	}
}

// slowDisk is a state directory whose writes take a while.
type slowDisk struct {
	stream.Directory
	wait func()
}

func (d slowDisk) Task(p int32) (s state.Store, aside, err error) {
	s, aside, err = d.Directory.Task(p)
	return slowStore{s, d.wait}, aside, err
}

type slowStore struct {
	state.Store
	wait func()
}

func (s slowStore) Write(b *state.Batch) error {
	s.wait()
	return s.Store.Write(b)
}

// While the disk is slow, what waits for it is bounded, the membership holds and the alerts are right.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	long(t)
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		const (
			pending, cut = 64 << 10, 16 << 10
			// Twice the budget, and then what has been applied by the time it is used up: the cut under way and the next one. Each may be
			// twice as large as cuts are meant to be, because it waited for the one before, and its buffer half empty.
			bound = 2*pending + 2*2*2*cut
		)
		var writes atomic.Int64
		w.dir = slowDisk{memory{w}, func() { writes.Add(1); nap(2 * time.Second) }}
		w.adjust = func(c *stream.Config) {
			impatient(c)
			c.Cache, c.Pending, c.FlushAge = 256<<10, pending, 20*time.Millisecond
			c.Cut.MaxBytes, c.Cut.MaxEvents = cut, 200
		}
		w.portion = 100
		rng := rand.New(rand.NewPCG(1, 1))
		now := time.Now().UnixMilli()
		var events []happening
		for c := range 5000 {
			for k := range 2 {
				events = append(events, happening{feed: "usage", customer: fmt.Sprintf("c-%05d", c), at: now - dayMs - rng.Int64N(60*dayMs), kind: "session", id: fmt.Sprintf("%d-%d", c, k)})
			}
		}
		slices.SortStableFunc(events, func(a, b happening) int { return int(min(max(a.at-b.at, -1), 1)) })
		w.produce(events)
		r := w.start()
		most := 0.0
		for w.lag() > 0 {
			nap(500 * time.Millisecond)
			most = max(most, r.metric("ebb_state_pending_bytes"))
		}
		if most > bound || most < pending {
			t.Errorf("at most %v bytes waited for the disk, the bound is %d", most, bound)
		}
		w.ended(r)
		if customers := r.metric("ebb_state_flushed_customers_total"); customers*80 < 2*bound { // an entry takes as much beside its value
			t.Errorf("%v customers were written: too few to tell whether anything is bounded", customers)
		}
		if writes.Load() < 5 {
			t.Errorf("%d writes: the disk was not put to the test", writes.Load())
		}
		if n := r.log.count("generation begins"); n != 1 {
			t.Errorf("%d generations, want one", n)
		}
		end := now - dayMs - 3*3_600_000
		compareSteps(t, w.steps(end), reference(events, end))
	})
}

// ended waits until the deadlines up to now are decided, and stops the instance.
func (w *world) ended(r *running) {
	w.t.Helper()
	nap(time.Minute)
	if err := r.stop(); err != nil {
		w.t.Error(err)
	}
}

// A write that hangs for minutes holds up no alert.
func TestAlertsGoOnWhileTheDiskHangs(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		hang, hanging := make(chan struct{}), make(chan struct{})
		var once sync.Once
		w.dir = slowDisk{memory{w}, func() {
			once.Do(func() {
				close(hanging)
				<-hang
			})
		}}
		w.adjust = func(c *stream.Config) { impatient(c); c.FlushAge, c.Stall.Expected = time.Second, 1e9 }
		events, _ := history(3, 20)
		w.produce(events)
		r := w.start()
		defer func() {
			close(hang) // a process that is killed does not wait for its disk, but this one is no process
			r.kill()
		}()
		<-hanging
		w.virtuallyCaughtUp()
		for range 5 {
			due := time.Now().Add(10*time.Second).UnixMilli() - (48 * time.Hour).Milliseconds()
			before := len(w.steps(time.Now().UnixMilli()))
			w.produce([]happening{{feed: "complaints", customer: "waits", at: due, kind: "opened", id: fmt.Sprint("k-", due), ticket: fmt.Sprint("T-", due), priority: "high"}})
			nap(time.Minute)
			if now := len(w.steps(time.Now().UnixMilli())); now <= before {
				t.Fatal("no alert while the disk hangs")
			}
		}
	})
}

// A partition with four fifths of the traffic and a backlog of minutes does not delay what comes to the others.
func TestABusyPartitionDelaysNoOther(t *testing.T) {
	t.Parallel()
	long(t)
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 4)
		w.dial = (&strait{dial: w.broker.Dial, bytes: 100_000}).open
		w.adjust = func(c *stream.Config) {
			impatient(c)
			c.Fetch.BufferBytes, c.Fetch.ReservedBytes, c.Fetch.PartitionMaxBytes, c.Fetch.MaxBytes = 256<<10, 8<<10, 32<<10, 64<<10
		}
		w.portion = 40
		busy := func(p int32, n int) {
			_, events := uses(w, p, n)
			w.produce(events)
		}
		busy(0, 40_000)
		r := w.start()
		w.joined(r)
		for round := range 3 {
			for p := int32(1); p < 4; p++ {
				busy(p, 50)
			}
			began := time.Now()
			behind := func(p int32) int64 {
				return w.broker.EndOffsets(t, w.topic("usage"))[p] - max(0, w.broker.GroupOffsets(t, w.group, w.topic("usage"))[p])
			}
			for behind(1)+behind(2)+behind(3) > 0 {
				nap(100 * time.Millisecond)
				if took := time.Since(began); took > 30*time.Second {
					t.Fatalf("round %d: the others are %d, %d and %d behind after %v", round, behind(1), behind(2), behind(3), took)
				}
			}
			t.Logf("round %d: %v, the busy partition is %d behind", round, time.Since(began), behind(0))
			if behind(0) == 0 {
				t.Fatal("the busy partition has no backlog: nothing is tested")
			}
		}
		r.kill()
	})
}
