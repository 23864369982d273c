package simulation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/state"
	"ebb/stream"
	"ebb/stream/conn"
	"ebb/stream/txn"
)

// instance is one process and what starts it again when it is gone: a machine with a disk, a clock, and a supervisor.
type instance struct {
	w      *world
	id     int
	disk   *state.MemDisk
	path   string // of a real disk, empty where it is in memory
	disks  int    // that were lost
	deaths chan death
	halt   chan bool // told to stop; true: and to come back
	done   chan struct{}
	left   bool // told to stop for good; of the storm's goroutine

	mu      sync.Mutex
	line    *line
	engine  *stream.Engine
	skew    time.Duration // of its wall clock, in event time
	lives   int
	running bool
}

// death is the end of a life.
type death struct {
	line *line
	kind fault
	why  string
}

var errKilled = errors.New("killed by the simulation")

func newInstance(w *world, id int) *instance {
	in := &instance{w: w, id: id, deaths: make(chan death, 16), halt: make(chan bool), done: make(chan struct{})}
	in.disk = in.newDisk()
	if w.plan.class == onDisk {
		in.path = w.t.TempDir()
	}
	return in
}

// die kills the process at once: nothing of it gets out any more.
func (in *instance) die(l *line, kind fault, why string) {
	if l.isDead() {
		return
	}
	l.pull()
	select {
	case in.deaths <- death{l, kind, why}:
	default:
	}
}

// kill is die from outside.
func (in *instance) kill() {
	in.mu.Lock()
	l, running := in.line, in.running
	in.mu.Unlock()
	if running {
		in.die(l, killed, "")
	}
}

func (in *instance) current() (*line, *stream.Engine, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.line, in.engine, in.running
}

// now is the wall clock of the machine: nobody in a frozen process sees the time.
func (in *instance) now(l *line) time.Time {
	l.wait()
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.w.clock().Add(in.skew)
}

// setClock puts the wall clock of the machine beside the true time.
func (in *instance) setClock(beside time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.skew = beside
}

// tell has the supervisor stop the process, for good or to start it again.
func (in *instance) tell(back bool) {
	select {
	case in.halt <- back:
	case <-in.done:
	}
}

// supervise lives one life after the other until it is told to stop.
func (in *instance) supervise() {
	defer close(in.done)
	for {
		again, pause := in.live()
		if !again {
			return
		}
		select {
		case <-time.After(pause):
		case back := <-in.halt:
			if !back {
				return
			}
		}
	}
}

// live is one life. It returns whether there is to be another, and after how long.
func (in *instance) live() (again bool, pause time.Duration) {
	in.mu.Lock()
	in.lives++
	life := in.lives
	in.mu.Unlock()
	rng := chance(in.w.plan.seed, uint64(in.id), uint64(life), 77)
	l := newLine(in.w, in, life)
	dir, err := in.mount()
	if err != nil {
		in.w.t.Errorf("state directory of instance %d: %v", in.id, err)
		return false, 0
	}
	defer dir.Close()
	engine, cluster, err := in.make(l, rng, dir)
	if err != nil {
		in.w.t.Errorf("instance %d: %v", in.id, err)
		return false, 0
	}
	in.disk.CrashIn(-1, false) // what was planned for the life before
	born, after := in.w.stormy.Load(), in.w.stormed.Load()
	if wt := &in.w.plan.weather; born && rng.Float64() < wt.writes {
		n, synced := 1+rng.IntN(12), rng.IntN(2) == 0
		in.disk.CrashIn(n, synced)
		in.disk.WhenCrashed(func() { in.die(l, killedAtWrite, fmt.Sprintf("at write %d, synced %v", n, synced)) })
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	in.mu.Lock()
	in.line, in.engine, in.running = l, engine, true
	in.mu.Unlock()
	defer func() {
		in.mu.Lock()
		in.running, in.engine = false, nil
		in.mu.Unlock()
		cluster.Close()
		l.pull()
	}()
	for {
		select {
		case back := <-in.halt:
			cancel()
			<-ended // told to stop before it had begun, it may say that it could not begin
			return back, time.Duration(rng.IntN(3000)) * time.Millisecond
		case err := <-ended: // a supervisor starts it again
			if !born && (after || !in.w.stormed.Load()) { // a storm may begin right after it was born, and be over before it gives up
				in.w.t.Errorf("instance %d ended by itself: %v", in.id, err)
			}
			return true, time.Second
		case d := <-in.deaths:
			if d.line != l {
				continue
			}
			engine.Kill()
			cancel()
			<-ended
			in.disk.Crash()
			in.w.tell(d.kind, "instance %d.%d %s", in.id, life, d.why)
			if rng.IntN(4) == 0 {
				in.lose()
				in.w.tell(diskLost, "of instance %d", in.id)
			}
			return true, time.Duration(rng.ExpFloat64() * float64(2*time.Second))
		}
	}
}

// directory is where an instance keeps its local copies.
type directory interface {
	stream.Directory
	Close() error
}

// memory is a directory on the disk in memory.
type memory struct{ *state.MemDisk }

func (memory) Close() error { return nil }

// mount opens the directory for a life.
func (in *instance) mount() (directory, error) {
	if in.path == "" {
		return memory{in.disk}, nil
	}
	return state.OpenDir(filepath.Join(in.path, strconv.Itoa(in.disks)), state.DirOptions{Cluster: "c", Group: group, Now: time.Now})
}

// lose gives the machine an empty disk.
func (in *instance) lose() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.disk = in.newDisk()
	in.disks++
}

func (in *instance) make(l *line, rng *rand.Rand, dir stream.Directory) (*stream.Engine, *conn.Cluster, error) {
	w := in.w
	uniform := func() float64 { return 0.5 }
	cluster, err := conn.New(conn.Config{Brokers: w.broker.Addrs, Dial: l.open, Rand: uniform})
	if err != nil {
		return nil, nil, err
	}
	rules := w.plan.rules.config()
	set, err := detectors.NewSet(rules)
	if err != nil {
		return nil, nil, err
	}
	cfg := w.plan.cfg
	cfg.Instance = fmt.Sprintf("instance-%d", in.id)
	cfg.Identity = cfg.Instance
	now := func() time.Time { return in.now(l) }
	log := slog.New(slog.NewTextHandler(w.book, &slog.HandlerOptions{Level: slog.LevelInfo})).With("life", fmt.Sprintf("%d.%d", in.id, l.life))
	cfg.Fetch.Now, cfg.Fetch.Logger, cfg.Fetch.Rand = now, log, uniform
	policy := alerts.New(alerts.Config{
		Group: group, Detectors: set, Horizon: rules.Horizon, MaxAlertAge: 30 * detectors.Day, ForgetAfter: detectors.Duration(w.plan.rules.forget/hourMs) * detectors.Hour, Currency: cfg.Rates.Currency(),
	})
	reg := prometheus.NewRegistry()
	engine, err := stream.New(cfg, stream.Deps{
		Cluster: cluster, Now: now, Tick: func() time.Time { l.wait(); return time.Now() }, Rand: rng, Log: log, Registry: reg,
		State: dir, StateMetrics: state.NewMetrics(reg), Detectors: set, Policy: policy,
		TxnStep: func(p int32, s txn.Step) error { return in.step(l, p, s) },
	})
	return engine, cluster, err
}

// anyStep is what all steps of transactions are counted under, beside the kinds of requests.
const anyStep = 999

// last is the step at which a life ends that is to be a short one; 0 for any other. So a start is cut off again and again, while it still works off what was
// there.
func (in *instance) last(l *line) int {
	rng := chance(in.w.plan.seed, uint64(in.id), uint64(l.life), 84)
	if rng.Float64() >= in.w.plan.weather.infants {
		return 0
	}
	return 1 + rng.IntN(60)
}

// step is what happens before a step of a transaction.
func (in *instance) step(l *line, p int32, s txn.Step) error {
	l.wait()
	if l.isDead() {
		return errKilled
	}
	if !in.w.stormy.Load() {
		return nil
	}
	key := 1000 + 10*int16(p) + int16(s)
	n := l.next(key)
	if l.next(anyStep) == in.last(l) {
		in.die(l, killedAtStep, fmt.Sprintf("before %v of partition %d, young", s, p))
		return errKilled
	}
	rng := chance(in.w.plan.seed, uint64(in.id), uint64(l.life), uint64(key), uint64(n))
	share, longest := in.w.plan.weather.steps, 20*time.Second
	if in.w.plan.weather.rivals && s != txn.StepDone {
		share, longest = 0.15, min(longest, in.w.plan.cfg.Cut.Timeout)
	}
	if rng.Float64() >= share {
		return nil
	}
	long := time.Duration(rng.Int64N(int64(longest)))
	what := fmt.Sprintf("instance %d.%d before %v of partition %d%s", in.id, l.life, s, p, after(long))
	kind := rng.IntN(3)
	if in.w.plan.weather.rivals && rng.IntN(4) != 0 {
		kind = 2
	}
	switch kind {
	case 0:
		in.die(l, killedAtStep, fmt.Sprintf("before %v of partition %d", s, p))
		return errKilled
	case 1:
		in.w.tell(frozenAtStep, "%s", what)
		l.freeze()
		in.w.wg.Go(func() {
			nap(long)
			l.thaw()
		})
		l.wait()
	default:
		in.w.tell(stalledAtStep, "%s", what)
		select {
		case <-time.After(long):
		case <-in.w.calmed:
		}
	}
	if l.isDead() {
		return errKilled
	}
	return nil
}
