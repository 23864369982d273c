package stream_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ebb/state"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/kafkatest"
	"ebb/stream/txn"
)

// outcome is all that a run leaves behind, as a read_committed subscriber sees it.
type outcome struct {
	alerts    map[string]string // id of the step -> data
	open      map[string]string // alert id -> last step
	customers map[string]string // changelog key -> last value
	letters   []string
}

// outcome reads what a run left behind. A step that was published twice fails the test.
func (w *world) outcome() outcome {
	w.t.Helper()
	o := outcome{alerts: map[string]string{}, open: map[string]string{}, customers: map[string]string{}}
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("alerts")) {
		id := r.Headers["ce_id"]
		if _, twice := o.alerts[id]; twice || id == "" {
			w.t.Errorf("alert step %q was published twice", id)
		}
		o.alerts[id] = w.anonymous(r.Value)
	}
	last := func(topic string, into map[string]string) {
		for _, r := range w.broker.ReadCommitted(w.t, w.topic(topic)) {
			if into[string(r.Key)] = w.anonymous(r.Value); r.Value == nil {
				delete(into, string(r.Key))
			}
		}
	}
	last("open", o.open)
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("changelog")) {
		if o.customers[string(r.Key)] = w.anonymous(disarmed(r.Value)); r.Value == nil {
			delete(o.customers, string(r.Key))
		}
	}
	maps.DeleteFunc(o.customers, func(k, _ string) bool { return k[0] == 0 })
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("dlq")) {
		o.letters = append(o.letters, fmt.Sprint(r.Headers["ebb_source_topic"], r.Headers["ebb_source_offset"]))
	}
	slices.Sort(o.letters)
	return o
}

// disarmed is the record of a customer without the time at which the timers come back to him: no later than his deadline, it depends on which older time they had
// not come to yet when the deadline moved. What is no such record stays as it is.
func disarmed(value []byte) []byte {
	var r customer.Record
	if customer.DecodeRecord(value, &r) != nil {
		return value
	}
	r.Armed = r.Deadline
	return customer.AppendRecord(nil, &r)
}

// anonymous is a value without the name that topics have in this run only.
func (w *world) anonymous(value []byte) string {
	return strings.ReplaceAll(string(value), w.topic(""), "")
}

// equals compares with an undisturbed run.
func (o outcome) equals(t testing.TB, want outcome) {
	t.Helper()
	sameEntries(t, "alert step", o.alerts, want.alerts)
	sameEntries(t, "open alert", o.open, want.open)
	sameEntries(t, "customer", o.customers, want.customers)
	if len(o.letters) != len(want.letters) {
		t.Errorf("%d dead letters, want %d", len(o.letters), len(want.letters))
	}
}

func sameEntries(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	missing, extra, other, shown := 0, 0, 0, 0
	show := func(format string, args ...any) {
		if shown++; shown < 6 {
			t.Logf(format, args...)
		}
	}
	for k, v := range want {
		g, ok := got[k]
		switch {
		case !ok:
			missing++
			show("missing %s %q: %q", what, k, excerpt(v, 0))
		case g != v:
			other++
			at := firstDifference(g, v)
			show("%s %q differs at byte %d: got %q, want %q", what, k, at, excerpt(g, at), excerpt(v, at))
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			extra++
			show("extra %s %q: %q", what, k, excerpt(v, 0))
		}
	}
	if missing+extra+other != 0 || len(want) == 0 {
		t.Errorf("%d of kind %s wanted: %d missing, %d extra, %d different", len(want), what, missing, extra, other)
	}
}

func firstDifference(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func excerpt(s string, at int) string { return s[max(0, at-40):min(len(s), at+300)] }

// power is what keeps a process alive: its network and its transactions end when it goes.
type power struct {
	wire *wire
	once sync.Once
	off  chan struct{}
}

var errKilled = errors.New("killed by a test")

func newPower(w *world) *power {
	p := &power{wire: newWire(w.broker.Dial), off: make(chan struct{})}
	w.dial = p.wire.open
	w.step = nil
	return p
}

func (p *power) cut() error {
	p.once.Do(func() {
		p.wire.pull()
		close(p.off)
	})
	return errKilled
}

// killPoint is a moment in the life of a transaction.
type killPoint struct {
	name string
	once bool
	// set arranges that the process dies when the moment has come for the n-th time.
	set func(w *world, p *power, n int)
}

// in is what ends the given life. A task initialises but once a life, and there should be something that it has to end.
func (k killPoint) in(life int) (killPoint, int) {
	switch {
	case !k.once:
		return k, 3 + 2*life
	case life == 0:
		return beforeStep(txn.StepEnd), 3
	default:
		return k, 2
	}
}

func counter(n int) func() bool {
	var mu sync.Mutex
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		n--
		return n == 0
	}
}

func beforeStep(s txn.Step) killPoint {
	return killPoint{"before " + s.String(), s == txn.StepInit, func(w *world, p *power, n int) {
		now := counter(n)
		w.step = func(task int32, at txn.Step) error {
			select {
			case <-p.off:
				return errKilled
			default:
			}
			if task != stream.SecondStage && at == s && now() {
				return p.cut()
			}
			return nil
		}
	}}
}

func unanswered(name string, key int16) killPoint {
	return killPoint{name + " carried out, its answer not seen", key == kafkatest.KeyInitProducerID, func(_ *world, p *power, n int) {
		now := counter(n)
		p.wire.on(func(k int16, answered bool) fate {
			if k == key && answered && now() {
				_ = p.cut()
				return pullPlug
			}
			return passes
		})
	}}
}

// killPoints are the steps of a transaction, each before it and after it.
func killPoints() []killPoint {
	return []killPoint{
		beforeStep(txn.StepInit), unanswered("InitProducerId", kafkatest.KeyInitProducerID),
		beforeStep(txn.StepAddPartitions), unanswered("AddPartitionsToTxn", kafkatest.KeyAddPartitionsToTxn),
		beforeStep(txn.StepProduce), unanswered("Produce", kafkatest.KeyProduce),
		beforeStep(txn.StepAddOffsets), unanswered("AddOffsetsToTxn", kafkatest.KeyAddOffsetsToTxn),
		beforeStep(txn.StepCommitOffsets), unanswered("TxnOffsetCommit", kafkatest.KeyTxnOffsetCommit),
		beforeStep(txn.StepEnd), unanswered("EndTxn", kafkatest.KeyEndTxn),
		beforeStep(txn.StepDone), // committed, and nothing of it in the local copy
	}
}

// smallCuts makes many transactions out of few events, and a local copy that is seldom far behind.
func smallCuts(cfg *stream.Config) {
	cfg.Cut.MaxEvents = 60
	cfg.FlushAge = 20 * time.Millisecond
	// The bound of a whole answer stays: where that ends an answer, the embedded broker forgets to say what was aborted.
	cfg.Fetch.PartitionMaxBytes = 2 << 10
}

// diesAt runs one life until the moment, then takes the power away.
func (w *world) diesAt(at killPoint, n int) {
	w.t.Helper()
	p := newPower(w)
	at.set(w, p, n)
	r := w.start()
	select {
	case <-p.off:
	case <-time.After(time.Minute):
		w.t.Fatalf("the moment %q did not come", at.name)
	}
	r.kill()
	w.dial, w.step = w.broker.Dial, nil
}

// livesOn runs to the end of the feeds, until the deadlines up to now are decided too, and stops cleanly.
func (w *world) livesOn() {
	w.t.Helper()
	r := w.start()
	w.settled(r)
	if err := r.stop(); err != nil {
		w.t.Fatal(err)
	}
}

// nap sleeps inside a bubble, where it takes no time. It stands beside bubble, so that nobody sleeps elsewhere.
func nap(d time.Duration) { time.Sleep(d) }

// bubble runs f in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) { //nolint:thelper // f is the test
	t.Helper()
	synctest.Test(t, f)
}

// settled is a crowd whose life ended an hour before now, so that no deadline falls into the test.
func settled(seed uint64, n int) []happening {
	start := time.Now().AddDate(0, 0, -60).Truncate(24 * time.Hour).Add(-time.Hour)
	return crowd(seed, n, 60, start)
}

func TestKilledAtEveryStepOfATransaction(t *testing.T) {
	long(t)
	const seed, customers, parts = 11, 30, 2
	var want outcome
	var wantSteps []step
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), parts)
		w.group, w.adjust, w.portion = "group", smallCuts, 25
		events := settled(seed, customers)
		w.produce(events)
		w.livesOn()
		want = w.outcome()
		wantSteps = reference(events, time.Now().UnixMilli())
		compareSteps(t, w.steps(time.Now().UnixMilli()), wantSteps)
	})
	for _, at := range killPoints() {
		for _, wiped := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, wiped %v", at.name, wiped), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), parts)
					w.group, w.adjust, w.portion = "group", smallCuts, 25
					w.produce(settled(seed, customers))
					for life := range 2 {
						w.diesAt(at.in(life))
						if w.lag() == 0 {
							t.Error("died when all was done")
						}
						w.disk.Crash()
						if wiped {
							w.disk = state.NewMemDisk()
						}
					}
					w.livesOn()
					w.outcome().equals(t, want)
					compareSteps(t, w.steps(time.Now().UnixMilli()), wantSteps)
				})
			})
		}
	}
}

func TestKilledAtStepsOfATransactionOnARealBroker(t *testing.T) {
	long(t)
	const customers, parts = 30, 2
	events := settled(12, customers)
	calm := newWorld(t, kafkatest.Real(t), parts)
	calm.adjust, calm.portion = smallCuts, 100
	calm.produce(events)
	calm.livesOn()
	want, now := calm.outcome(), time.Now().UnixMilli()
	for _, at := range []killPoint{
		unanswered("InitProducerId", kafkatest.KeyInitProducerID), beforeStep(txn.StepEnd), unanswered("EndTxn", kafkatest.KeyEndTxn),
	} {
		t.Run(at.name, func(t *testing.T) {
			w := newWorld(t, kafkatest.Real(t), parts)
			w.group, w.member = calm.group, calm.member // ids of alerts contain the group
			w.adjust, w.portion = smallCuts, 100
			w.produce(events)
			for life := range 2 {
				w.diesAt(at.in(life))
				w.disk.Crash()
				if life == 1 {
					w.disk = state.NewMemDisk()
				}
			}
			w.livesOn()
			w.outcome().equals(t, want)
			compareSteps(t, w.steps(now), reference(events, now))
			calm.member = w.member
		})
	}
}

// The local copy may be cut off at any of its own writes: what it has is then less than what is committed, and never more.
func TestTheLocalCopyIsCutOffWhileItIsWritten(t *testing.T) {
	long(t)
	want := calm(t)
	for n := 1; n <= 3; n++ {
		for _, synced := range []bool{false, true} {
			t.Run(fmt.Sprintf("at write %d, synced %v", n, synced), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w, events := faultWorld(t)
					for range 2 {
						p := newPower(w)
						p.wire.slow(10 * time.Millisecond)
						w.disk.CrashIn(n, synced)
						r := w.start()
						for !w.disk.Crashed() && w.lag() > 0 {
							time.Sleep(20 * time.Millisecond)
						}
						_ = p.cut()
						r.kill()
						w.disk.Crash()
					}
					w.dial, w.step = w.broker.Dial, nil
					w.ends(want, events, w.start())
				})
			})
		}
	}
}

// watchedDir notes where the local copies stood when they were opened.
type watchedDir struct {
	*state.Dir
	mu        sync.Mutex
	positions []int64
	stores    []state.Store
}

// written returns once some copy has been written to.
func (d *watchedDir) written(t testing.TB) {
	kafkatest.Eventually(t, "a write behind the cuts", func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, s := range d.stores {
			if at, err := s.Position(); err == nil && at > 0 {
				return nil
			}
		}
		return errors.New("not yet")
	})
}

func (d *watchedDir) Task(p int32) (state.Store, error, error) {
	s, aside, err := d.Dir.Task(p)
	if err == nil {
		at, perr := s.Position()
		err = perr
		d.mu.Lock()
		d.positions, d.stores = append(d.positions, at), append(d.stores, s)
		d.mu.Unlock()
	}
	return s, aside, err
}

func TestBadgerIsReusedAfterAKill(t *testing.T) {
	const parts = 2
	events := settled(faultSeed, faultCustomers)
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), parts)
	w.adjust, w.portion = smallCuts, 25
	w.produce(events)
	path := t.TempDir()
	open := func() *watchedDir {
		d, err := state.OpenDir(path, state.DirOptions{Cluster: "c", Group: w.group, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		return &watchedDir{Dir: d}
	}
	first := open()
	w.dir = first
	p := newPower(w)
	now := counter(8)
	w.step = func(_ int32, at txn.Step) error {
		if at == txn.StepEnd && now() {
			first.written(t)
			return p.cut()
		}
		return nil
	}
	r := w.start()
	<-p.off
	r.kill()
	w.dial, w.step = w.broker.Dial, nil
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := open()
	t.Cleanup(func() { _ = second.Close() })
	w.dir = second
	w.livesOn()
	end := time.Now().UnixMilli()
	compareSteps(t, w.steps(end), reference(events, end))
	for _, at := range first.positions {
		if at != 0 {
			t.Errorf("a new copy stands at %d", at)
		}
	}
	reused := 0
	for _, at := range second.positions {
		if at > 0 {
			reused++
		}
	}
	if reused == 0 {
		t.Errorf("the copies stood at %v: none was reused", second.positions)
	}
}
