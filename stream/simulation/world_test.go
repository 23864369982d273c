package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"ebb/state"
	"ebb/stream/kafkatest"
)

// world is the cluster, the instances and what happened to them.
type world struct {
	t       *testing.T
	plan    *plan
	broker  *kafkatest.Broker
	phone   *phone
	book    *book
	items   []item
	end     int64 // event time of the last record
	wg      sync.WaitGroup
	stormy  atomic.Bool   // the faults come
	stormed atomic.Bool   // they have begun, or are over
	calmed  chan struct{} // closed when no faults happen any more
	leapt   atomic.Int64  // how far the event time has leapt ahead, ms
	joins   atomic.Int64  // no JoinGroup gets through before this time, in ns
	began   time.Time     // process time
	origin  int64         // event time of began

	instances []*instance // of the storm's goroutine, and after it of the test's

	mu       sync.Mutex
	disks    []*state.MemDisk // all that there ever were
	timeline []entry
	faults   [numFaults]int
	errors   []*kfake.FaultHandle

	complaints map[string]int
	wanted     int
	ended      bool            // all processes have
	stopped    int64           // when the instances were stopped, in event time
	absent     bool            // a broker has been away; of the storm's goroutine
	spoke      map[int32]int64 // when the quiet history of a partition ended, in event time
}

// book keeps the log of all instances.
type book struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *book) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() < 1<<20 {
		l.b.Write(p)
	}
	return len(p), nil
}

// clock is the true event time.
func (w *world) clock() time.Time {
	return time.UnixMilli(w.origin + w.leapt.Load()).Add(time.Duration(w.plan.scale) * time.Since(w.began))
}

// until waits for a moment of event time.
func (w *world) until(ms int64) {
	if d := time.UnixMilli(ms).Sub(w.clock()); d > 0 {
		nap(d/time.Duration(w.plan.scale) + time.Nanosecond)
	}
}

func newWorld(t *testing.T, p *plan) *world {
	t.Helper()
	b := kafkatest.Virtual(t, kafkatest.Options{Brokers: p.brokers})
	w := &world{t: t, plan: p, broker: b, phone: newPhone(b), book: &book{}, began: time.Now(), calmed: make(chan struct{})}
	if p.cfg.Quiet {
		w.spoke = map[int32]int64{}
	}
	// Days of customers begin where the world does not.
	w.origin = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixMilli() + int64(p.seed%977)*89_123
	compact := map[string]string{"cleanup.policy": "compact", "retention.ms": "-1"}
	keep := map[string]string{"retention.ms": "-1"}
	changelog := compact
	if p.cfg.Quiet { // the end of the quiet history is read from it
		changelog = keep
	}
	for _, x := range []struct {
		name    string
		parts   int32
		configs map[string]string
	}{
		{"usage", p.parts, keep},
		{"payments", p.parts, keep},
		{"complaints", p.parts, keep},
		{"alerts", 3, keep},
		{"open", 3, compact},
		{"operations", 1, keep},
		{"changelog", p.parts, changelog},
		{"dlq", 1, keep},
		{"facts", 1, keep},
		{"facts-changelog", 1, compact},
	} {
		if err := b.Fake.CreateTopic(x.name, x.parts, x.configs); err != nil {
			t.Fatal(err)
		}
	}
	if p.reroute {
		if err := b.Fake.CreateTopic("reroute", p.parts, keep); err != nil {
			t.Fatal(err)
		}
	}
	w.end = w.origin + p.lived()
	w.items = p.crowd(w.origin-p.history, w.end, func(f fault) { w.faults[f]++ })
	return w
}

// past writes what lies before the start, and returns the rest.
func (w *world) past() []item {
	n, _ := slices.BinarySearchFunc(w.items, w.origin+1, func(it item, at int64) int { return int(min(max(it.due-at, -1), 1)) })
	type place struct {
		feed string
		part int32
	}
	by := map[place][]item{}
	for _, it := range w.items[:n] {
		by[place{it.feed, it.part}] = append(by[place{it.feed, it.part}], it)
	}
	rng := rand.New(rand.NewPCG(w.plan.seed, 3))
	portion := pick(rng, 10, 100, 1000)
	for _, f := range feeds {
		for part := range w.plan.parts {
			for some := range slices.Chunk(by[place{f, part}], portion) {
				w.write(some)
			}
		}
	}
	return w.items[n:]
}

func (w *world) write(items []item) {
	for try := 0; ; try++ {
		err := w.phone.produce(items[0].feed, items[0].part, items)
		if err == nil {
			return
		}
		if try == 100 {
			w.t.Errorf("produce: %v", err)
			return
		}
		nap(time.Millisecond) // a leader moved between the question and the request
	}
}

// happen writes every record when it is due.
func (w *world) happen(items []item) {
	for _, it := range items {
		w.until(it.due)
		w.write([]item{it})
	}
}

// join starts another instance.
func (w *world) join() *instance {
	in := newInstance(w, len(w.instances))
	w.instances = append(w.instances, in)
	go in.supervise()
	return in
}

// run is one seed.
func (w *world) run() {
	live := w.past()
	first := w.plan.instances
	if w.plan.latecomer > 0 {
		first-- // the storm brings the last one
	}
	for range first {
		w.join()
	}
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		w.happen(live)
	}()
	over := make(chan struct{})
	w.wg.Go(func() { w.tend(over) })
	w.storm()
	<-fed
	w.settle()
	w.aftermath()
	w.meddle()
	close(over)
	w.stopped = w.clock().UnixMilli() + w.plan.cfg.Time.Grace.Milliseconds()
	w.stop()
	w.wg.Wait()
	w.ended = true
}

// tend helps the embedded broker out of a rebalance that it cannot end by itself: it miscounts who has joined, when somebody leaves who
// waits for his assignment, and then begins its timeout anew with everybody who joins. So nobody joins for as long as that takes.
func (w *world) tend(over chan struct{}) {
	since := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		limit := w.plan.cfg.Membership.Rebalance
		if g := w.broker.Fake.GroupInfo(group); g == nil || g.State != "PreparingRebalance" {
			since = time.Now()
		} else if time.Since(since) > 2*limit+10*time.Second {
			since = time.Now()
			w.joins.Store(time.Now().Add(limit + time.Second).UnixNano())
		}
	}
}

// putOff is by how much a deadline is put off that a record asked for before all feeds were known up to it, ms: as far as they are behind, which is long where a clock was.
func (w *world) putOff() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.faults[clockStepped] > 0 {
		return 15 * 60_000
	}
	return 60_000
}

// settle waits until all is done that is due by the end.
func (w *world) settle() {
	if !slices.ContainsFunc(w.instances, func(in *instance) bool { return !in.left }) {
		w.join() // all have left
	}
	w.until(w.end + w.plan.mixed() + 2*w.plan.cfg.Time.Grace.Milliseconds() + w.putOff())
	var why error
	for range 1200 {
		if why = w.unsettled(); why == nil {
			return
		}
		nap(500 * time.Millisecond)
	}
	w.t.Errorf("not caught up ten minutes after the last fault: %v", why)
}

// aftermath lets a long time pass in which nothing happens, in most seeds after all processes were started again: a deadline that
// somebody has lost on the way does not come up then.
func (w *world) aftermath() {
	rng := chance(w.plan.seed, 81)
	r := &w.plan.rules
	far := pick(rng, 0, r.complaint, r.silence, r.silence+r.silence/2, 5*r.silence)
	again := rng.IntN(3)
	for _, in := range w.instances {
		switch _, _, running := in.current(); {
		case in.left || !running:
		case again == 1:
			w.tell(restarted, "instance %d, in the aftermath", in.id)
			in.tell(true)
		case again == 2:
			in.kill()
		}
	}
	if far == 0 && again == 0 {
		w.rest()
		return
	}
	w.leapt.Add(far)
	w.end += far
	w.settle()
	w.rest()
}

// rest waits until the group has been at rest for a while, so that whatever was decided is written too.
func (w *world) rest() {
	for range 60 {
		before := w.broker.Fake.GroupInfo(group)
		for _, in := range w.instances { // a cut may wait on one for as long as a transaction may take
			if l, _, running := in.current(); running {
				l.cutDead()
			}
		}
		nap(10 * time.Second)
		after := w.broker.Fake.GroupInfo(group)
		if before != nil && after != nil && before.State == "Stable" && after.State == "Stable" && before.Epoch == after.Epoch {
			break
		}
	}
	w.settle()
}

// stop ends all processes for good.
func (w *world) stop() {
	for _, in := range w.instances {
		in.tell(false)
	}
	for _, in := range w.instances {
		<-in.done
		in.left = true
	}
}

// meddle has somebody set an offset of the group back, in one seed of eight, while nobody runs. The task must refuse to run, until it is
// put where the task record says.
func (w *world) meddle() {
	rng := chance(w.plan.seed, 83)
	if rng.IntN(8) != 0 {
		return
	}
	feed, part := feeds[rng.IntN(len(feeds))], rng.Int32N(w.plan.parts)
	end := w.broker.Fake.PartitionInfo(feed, part).HighWatermark
	if end == 0 {
		return
	}
	w.stop()
	back := rng.Int64N(end)
	w.tell(offsetsReset, "%s/%d from %d to %d", feed, part, end, back)
	w.reset(feed, part, back)
	in := w.join()
	if !w.refuses(in, part) {
		w.complain("offsets that were reset", "%s/%d at %d instead of %d is not refused", feed, part, back, end)
	}
	w.stop()
	w.reset(feed, part, end)
	w.join()
	w.settle()
	w.rest()
}

// reset sets an offset of the group once its members are gone.
func (w *world) reset(feed string, part int32, offset int64) {
	var err error
	for range 120 {
		if err = w.phone.reset(feed, part, offset); err == nil {
			return
		}
		nap(500 * time.Millisecond)
	}
	w.t.Errorf("set the offset of %s/%d: %v", feed, part, err)
}

// refuses waits until an instance has stopped the work on a partition.
func (w *world) refuses(in *instance, part int32) bool {
	for range 240 {
		nap(500 * time.Millisecond)
		_, engine, ok := in.current()
		if !ok {
			continue
		}
		for _, s := range engine.Status() {
			if s.Partition == part && s.State == "stopped" {
				return true
			}
		}
	}
	return false
}

// halted says what is stopped on an instance. Where the weather stops something for good, somebody has mended it by now, and starts the instance again.
func (w *world) halted(in *instance) (err error) {
	_, engine, ok := in.current()
	if !ok {
		return nil
	}
	if s := engine.SecondStage(); s != nil && s.State == "stopped" {
		err = fmt.Errorf("the second stage is stopped on instance %d: %s", in.id, s.Error)
	}
	for _, s := range engine.Status() {
		if s.State == "stopped" {
			err = fmt.Errorf("partition %d is stopped on instance %d: %s", s.Partition, in.id, s.Error)
		}
	}
	if err != nil && w.plan.weather.fatal {
		in.tell(true)
	}
	return err
}

// unsettled says what is still to be done.
func (w *world) unsettled() error {
	for _, in := range w.instances { // first of all: the others may wait for what is stopped
		if err := w.halted(in); err != nil {
			return err
		}
	}
	running := map[int32]bool{}
	firing := 0
	for _, in := range w.instances {
		_, engine, ok := in.current()
		if !ok {
			continue
		}
		if s := engine.SecondStage(); s != nil {
			firing = s.Firing
		}
		for _, s := range engine.Status() {
			switch {
			case s.State == "running" && s.Quiet:
				return fmt.Errorf("partition %d applies its history quietly", s.Partition)
			case s.State == "running" && s.Clock.UnixMilli() > w.end+w.plan.mixed():
				running[s.Partition] = true
			}
		}
	}
	if len(running) != int(w.plan.parts) {
		return fmt.Errorf("%d of %d partitions are run and past the end", len(running), w.plan.parts)
	}
	if firing != 0 {
		return fmt.Errorf("%d operational alerts are open", firing)
	}
	committed, err := w.phone.committed()
	if err != nil {
		return err
	}
	for _, f := range feeds {
		for p := range w.plan.parts {
			if end := w.broker.Fake.PartitionInfo(f, p).HighWatermark; committed[f][p] != end {
				return fmt.Errorf("%s/%d is committed up to %d of %d", f, p, committed[f][p], end)
			}
		}
	}
	return w.underWay(committed)
}

// underWay says what was forwarded and has not arrived.
func (w *world) underWay(committed map[string]map[int32]int64) error {
	if !w.plan.reroute {
		return nil
	}
	for p := range w.plan.parts {
		for _, r := range w.committed("reroute", p) {
			promise := slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "ebb_reroute" && string(h.Value) == "promise" })
			if !promise && r.Offset >= committed["reroute"][p] {
				return fmt.Errorf("offset %d of reroute/%d is under way, %d is committed", r.Offset, p, committed["reroute"][p])
			}
		}
	}
	return nil
}
