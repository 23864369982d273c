//go:build linux

package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/stream/kafkatest"
)

var (
	faultsFlag    = flag.Int("faults", 25, "how many faults in all")
	perRoundFlag  = flag.Int("per-round", 100, "how many faults between two verdicts")
	forFlag       = flag.Duration("for", 0, "end after this time, if that comes before the last fault; 0: no bound")
	seedFlag      = flag.Uint64("seed", 0, "seed of the first round; 0: any")
	instancesFlag = flag.Int("instances", 3, "how many ebb processes run, 2 to 4; one more joins and leaves")
	rateFlag      = flag.Float64("rate", 200, "live events a second")
	customersFlag = flag.Int("customers", 700, "how many customers")
	keepFlag      = flag.String("keep", "", "folder for the logs; default: a temporary one, removed after a success")
)

const partitions = 6

// TestChaos breaks processes, brokers, connections and disks, and compares what is left with what must be.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("the programs under test are other processes, which -race does not see")
	}
	bin := build(t)
	net := newNetwork()
	slots := min(max(*instancesFlag, 2), 4) + 1
	var listeners []string
	for i := range slots {
		listeners = append(listeners, listener(i))
	}
	cluster := kafkatest.StartCluster(t, kafkatest.ClusterOptions{
		Listeners: listeners,
		Front: func(node int, name, public, listen string) error {
			return net.add(link{slices.Index(listeners, name), node}, public, listen)
		},
	})
	t.Cleanup(net.close)
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1_000_000) + 1
	}
	ends := time.Time{}
	if *forFlag > 0 {
		ends = time.Now().Add(*forFlag)
	}
	sum := tally{}
	for left := *faultsFlag; left > 0 && (ends.IsZero() || time.Now().Before(ends)); seed++ {
		n := min(left, *perRoundFlag)
		left -= n
		ok := t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			r := newRound(t, seed, n, cluster, net, bin, slots)
			r.ends = ends
			r.run()
			sum.add(r)
		})
		if !ok {
			break
		}
	}
	t.Log(sum.String())
}

func listener(slot int) string { return fmt.Sprintf("EBB%d", slot) }

// build compiles the program of this tree.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "ebb")
	if out, err := exec.Command("go", "build", "-o", bin, "../..").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// tally adds up rounds.
type tally struct {
	rounds, steps int
	events        int64
	kinds         map[string]int
}

func (s *tally) add(r *round) {
	if s.kinds == nil {
		s.kinds = map[string]int{}
	}
	s.rounds++
	s.steps += r.steps
	s.events += r.producer.acked.Load()
	for k, n := range r.kinds {
		s.kinds[k] += n
	}
}

func (s *tally) String() string {
	n := 0
	var b strings.Builder
	for _, f := range faultKinds() {
		n += s.kinds[f.kind]
		fmt.Fprintf(&b, "%5d %s\n", s.kinds[f.kind], f.kind)
	}
	return fmt.Sprintf("%d faults in %d rounds, %d events, %d alert steps compared\n%s", n, s.rounds, s.events, s.steps, b.String())
}

// round is one seed: a load, processes, faults, a verdict.
type round struct {
	t         *testing.T
	seed      uint64
	rng       *rand.Rand // of the faults; the schedule's goroutine only
	faults    int
	ends      time.Time // no fault begins after it; zero: no bound
	cluster   *kafkatest.Cluster
	net       *network
	slots     []*slot
	base      int // slots that run from the beginning and at the end
	prefix    string
	dir       string
	producer  *producer
	load      *load
	began     time.Time
	kinds     map[string]int
	steps     int
	healing   chan struct{} // closed when the faults end
	watched   chan struct{} // closed when nobody watches the processes any more
	endings   sync.WaitGroup
	watch     sync.WaitGroup
	once      sync.Once
	mu        sync.Mutex
	timeline  []string
	gone      []bool // brokers that a fault has taken away
	filled    []bool // disks
	deadly    []bool // slots that may die by themselves
	slowStops []string
	deaths    int
}

func newRound(t *testing.T, seed uint64, faults int, cluster *kafkatest.Cluster, net *network, bin string, slots int) *round {
	t.Helper()
	r := &round{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), faults: faults, cluster: cluster, net: net, base: slots - 1,
		prefix: cluster.Name(fmt.Sprintf("s%d-", seed)), kinds: map[string]int{}, healing: make(chan struct{}), watched: make(chan struct{}),
		gone: make([]bool, cluster.Len()), filled: make([]bool, slots), deadly: make([]bool, slots), began: time.Now(),
	}
	r.dir = *keepFlag
	if r.dir == "" {
		dir, err := os.MkdirTemp("", "ebb-chaos-")
		if err != nil {
			t.Fatal(err)
		}
		r.dir = dir
	}
	r.dir = filepath.Join(r.dir, fmt.Sprintf("seed-%d", seed))
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	config, err := filepath.Abs("testdata/ebb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i := range slots {
		r.slots = append(r.slots, r.newSlot(i, bin, config))
	}
	return r
}

func (r *round) newSlot(i int, bin, config string) *slot {
	s := &slot{id: i, bin: bin, config: config, dir: filepath.Join(r.dir, fmt.Sprintf("state%d", i)), log: filepath.Join(r.dir, fmt.Sprintf("ebb%d.log", i))}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	s.env = []string{
		"CHAOS_PREFIX=" + r.prefix, fmt.Sprintf("CHAOS_STANDBY=%d", r.seed%2), "CHAOS_BROKERS=" + strings.Join(r.cluster.Listener(listener(i)), ","), "CHAOS_NAME=" + s.String(), "CHAOS_STATE=" + s.dir,
	}
	if r.misplaces() {
		s.env = append(s.env, "CHAOS_REROUTE="+r.topic("reroute"))
	}
	if i < 2 {
		d, err := mountDisk(s.dir)
		if err != nil {
			r.note("no full disks: %v", err)
			return s
		}
		s.disk = d
		r.t.Cleanup(d.unmount)
	}
	return s
}

func (r *round) topic(name string) string { return r.prefix + name }

// misplaces says that some records of this round lie in a partition that is not their customer's. Every second seed keeps standby
// copies, every second pair of seeds misplaces: four neighbours are all combinations.
func (r *round) misplaces() bool { return r.seed/2%2 == 1 }

// note puts a line into the timeline.
func (r *round) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timeline = append(r.timeline, fmt.Sprintf("%7.2f s  %s", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...)))
}

// count is how many instances run, or do not.
func (r *round) count(running bool) int {
	n := 0
	for _, s := range r.slots {
		if s.running() == running {
			n++
		}
	}
	return n
}

// stopped takes note of an answer to SIGTERM.
func (r *round) stopped(s *slot, took time.Duration, err error) {
	if err == nil {
		return
	}
	if errors.Is(err, errGone) { // who joins for a while is not watched
		r.note("%v has ended by itself: %s", s, strings.TrimSpace(s.lastLines(1)))
		return
	}
	r.mu.Lock()
	died := r.deadly[s.id]
	if !died {
		r.slowStops = append(r.slowStops, err.Error())
	}
	r.mu.Unlock()
	r.note("%v (after %v)", err, took.Round(time.Millisecond))
}

// spacing is the mean time between two faults.
const spacing = 1600 * time.Millisecond

func (r *round) run() {
	defer r.report()
	span := time.Duration(r.faults) * spacing
	near := min(20*time.Second, span/2)
	if span > 2*time.Minute {
		near = 45 * time.Second
	}
	for _, f := range feeds {
		r.cluster.CreateTopic(r.t, r.topic(f), partitions, nil)
	}
	r.makeTopics()
	r.load = newLoad(r.seed, *customersFlag, time.Now().Add(2*time.Second), span, near, *rateFlag)
	p, err := newProducer(r.cluster.Addrs, r.seed, r.load.begin, r.topic)
	if err != nil {
		r.t.Fatal(err)
	}
	defer p.client.Close()
	p.misplaces = r.misplaces()
	r.producer = p
	p.send(r.load.history)
	p.send(r.load.stampEarly(time.Now().UnixMilli()))
	r.flush()
	r.note("the history is written, %d events; standby copies: %d, misplaced records: %t", p.acked.Load(), r.seed%2, r.misplaces())
	r.startAll()

	stop := make(chan struct{})
	var last int64
	var playing sync.WaitGroup
	playing.Go(func() { last = p.play(r.load, stop) })
	r.schedule()
	r.heal()
	close(stop)
	playing.Wait()
	r.flush()
	r.note("the load has ended: %d events, acknowledged up to %v after their times", p.acked.Load(), time.Duration(p.latest.Load())*time.Millisecond)
	r.judge(last)
}

func (r *round) flush() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	if err := r.producer.flush(ctx); err != nil {
		r.t.Fatalf("load: %v", err)
	}
}

// makeTopics has ebb make its own topics, as an operator would.
func (r *round) makeTopics() {
	r.t.Helper()
	s := r.slots[0]
	cmd := exec.Command(s.bin, "topics", "create", "-c", s.config)
	cmd.Env = append(os.Environ(), s.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("ebb topics create: %v\n%s", err, out)
	}
}

// startAll starts the processes and has them watched.
func (r *round) startAll() {
	r.t.Helper()
	r.watch.Go(r.watchDeaths)
	r.t.Cleanup(func() {
		r.unwatch()
		for _, s := range r.slots {
			s.kill()
		}
	})
	for _, s := range r.slots[:r.base] {
		if err := s.start(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// unwatch ends the watch: a process that ends from now on stays ended.
func (r *round) unwatch() {
	r.once.Do(func() { close(r.watched) })
	r.watch.Wait()
}

func (r *round) metadata(topics ...string) (*kmsg.MetadataResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	return req.RequestWith(ctx, r.producer.client)
}

// watchDeaths is what a service manager does: a process that ended by itself is started again. So are brokers.
func (r *round) watchDeaths() {
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-r.watched:
			return
		case <-tick.C:
		}
		for _, s := range r.slots {
			r.watchSlot(s)
		}
		for i := range r.cluster.Len() {
			if _, ended := r.cluster.Node(i).Ended(); ended {
				r.note("broker%d has ended by itself and is started again", i)
				_ = r.cluster.Node(i).Start()
			}
		}
	}
}

// watchSlot starts a process again that ended while no fault was at work on its slot.
func (r *round) watchSlot(s *slot) {
	if ended, _ := s.exit(); !ended || s.id >= r.base || !s.take(false) {
		return
	}
	defer s.release()
	_, err := s.exit()
	r.mu.Lock()
	r.deaths++
	r.mu.Unlock()
	r.note("%v has ended by itself (%v) and is started again: %s", s, err, strings.TrimSpace(s.lastLines(1)))
	if err := s.start(); err != nil {
		r.note("%v: %v", s, err)
	}
}

// schedule begins the faults, one every one to three seconds or so.
func (r *round) schedule() {
	var bag []fault
	for _, f := range faultKinds() {
		for range f.weight {
			bag = append(bag, f)
		}
	}
	for n := 0; n < r.faults && (r.ends.IsZero() || time.Now().Before(r.ends)); {
		r.wait(between(r.rng, spacing/3, spacing*5/3))
		f := bag[r.rng.IntN(len(bag))]
		what, end, err := f.begin(r)
		if errors.Is(err, errSkip) {
			continue
		}
		n++
		r.kinds[f.kind]++
		r.note("fault %d: %s: %s", n, f.kind, what)
		if err != nil {
			r.note("fault %d: %v", n, err)
		}
		if end.do == nil {
			continue
		}
		r.endings.Go(func() {
			timer := time.NewTimer(end.after)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.healing:
			}
			if what := end.do(); what != "" {
				r.note("  end of fault %d: %s", n, what)
			}
		})
	}
}

func (r *round) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// heal ends all faults, and leaves the brokers and the processes of the beginning running.
func (r *round) heal() {
	r.t.Helper()
	r.note("the faults end")
	close(r.healing)
	r.endings.Wait()
	if err := r.cluster.Await(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	r.note("all brokers serve")
	for _, s := range r.slots[:r.base] {
		if err := s.start(); err != nil {
			r.t.Error(err)
		}
	}
}

// moveLeaders changes the order of the replicas of some partitions, and has the first of them elected.
func (r *round) moveLeaders() (string, ending, error) {
	names := []string{r.topic("usage"), r.topic("payments"), r.topic("complaints"), r.topic("alerts"), r.topic("ebb-changelog"), "__consumer_offsets", "__transaction_state"}
	name := names[r.rng.IntN(len(names))]
	shift := 1 + r.rng.IntN(2)
	return name, ending{0, func() string {
		if err := r.rotate(name, shift); err != nil {
			return fmt.Sprintf("%s: %v", name, err)
		}
		return ""
	}}, nil
}

func (r *round) rotate(topic string, by int) error {
	m, err := r.metadata(topic)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	alter := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	alter.TimeoutMillis = 5000
	at := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	at.Topic = topic
	elect := kmsg.NewPtrElectLeadersRequest()
	elect.TimeoutMillis = 5000
	et := kmsg.NewElectLeadersRequestTopic()
	et.Topic = topic
	for _, p := range m.Topics[0].Partitions {
		ap := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
		ap.Partition = p.Partition
		n := len(p.Replicas)
		for i := range n {
			ap.Replicas = append(ap.Replicas, p.Replicas[(i+by)%n])
		}
		at.Partitions = append(at.Partitions, ap)
		et.Partitions = append(et.Partitions, p.Partition)
	}
	alter.Topics = append(alter.Topics, at)
	elect.Topics = append(elect.Topics, et)
	ar, err := alter.RequestWith(ctx, r.producer.client)
	if err == nil {
		err = kerr.ErrorForCode(ar.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("reassign: %w", err)
	}
	er, err := elect.RequestWith(ctx, r.producer.client)
	if err == nil {
		err = kerr.ErrorForCode(er.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("elect: %w", err)
	}
	return nil
}
