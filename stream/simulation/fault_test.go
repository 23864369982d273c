package simulation

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fault is a kind of thing that goes wrong.
type fault uint8

const (
	// On the way of one request.
	slowRequest     fault = iota + 1 // it takes its time
	slowAnswer                       // the same for its answer
	lostRequest                      // the connection ends before it is sent
	lostAnswer                       // it is carried out, and the connection ends before its answer
	vanishedRequest                  // it disappears, and the connection stays, dead
	vanishedAnswer                   // it is carried out, and its answer disappears in the same way
	lateRequest                      // it disappears, and is carried out much later
	killedBefore                     // the process dies before it
	killedAfter                      // the process dies after it was carried out
	brokerError                      // the broker answers with an error
	// At a step of a transaction, or a write to the local copy.
	killedAtStep
	frozenAtStep  // the process stands still between two requests of a transaction
	stalledAtStep // the transaction does, and the process goes on
	killedAtWrite
	// By the clock.
	killed
	restarted
	connectionsCut
	parted
	frozen
	leaderMoved
	coordinatorMoved
	brokerGone
	compacted
	clockStepped
	diskLost
	diskFull
	joined
	left
	offsetsReset
	// In the load.
	duplicated
	belated
	unreadable
	misplaced

	numFaults
)

var faultNames = [numFaults]string{
	"none", "request delayed", "answer delayed", "request lost", "answer lost", "request vanished", "answer vanished", "request late", "killed before a request",
	"killed before an answer", "broker error", "killed at a step", "frozen at a step", "stalled at a step", "killed at a write", "killed", "restarted", "connections cut", "parted from the brokers", "frozen",
	"leader moved", "coordinator moved", "broker gone", "log compacted", "clock stepped", "disk lost", "disk full", "instance joined", "instance left", "offsets reset", "duplicate record", "late record", "unreadable record", "misplaced record",
}

func (f fault) String() string { return faultNames[f] }

// weather is how much goes wrong.
type weather struct {
	share   float64       // of the requests
	kills   float64       // of the faults on the way of a request
	steps   float64       // of the steps of a transaction
	writes  float64       // of the lives that end at a write to disk
	infants float64       // of the lives that end at one of the first steps of their transactions
	errors  int           // outstanding broker errors at a time
	fatal   bool          // some of which stop a task, or the process, until somebody starts it again
	pause   time.Duration // between two faults by the clock
	latency time.Duration // of every request, at most
	longest time.Duration // of a delay
	worse   int16         // a kind of request that fares worse than others, -1: none
	rivals  bool          // transactions are slow on their way, and take-overs slow to begin: two owners meet
}

func newWeather(rng *rand.Rand) weather {
	return weather{
		share: pick(rng, 0, 0.1, 0.2, 0.4, 0.5), kills: pick(rng, 0, 0.01, 0.05), steps: pick(rng, 0, 0.005, 0.02),
		latency: pick(rng, 0, 2*time.Millisecond, 50*time.Millisecond, 500*time.Millisecond), writes: pick(rng, 0, 0.3),
		errors: pick(rng, 0, 2, 5), fatal: rng.IntN(8) == 0, pause: pick(rng, 400*time.Millisecond, time.Second, 5*time.Second), longest: pick(rng, 20*time.Millisecond, time.Second, 8*time.Second), worse: -1,
	}
}

func (w weather) String() string {
	s := fmt.Sprintf("weather: %.0f %% of the requests, %.1f %% of the steps, %d broker errors, every %v something by the clock, latency %v", 100*w.share, 100*w.steps, w.errors, w.pause, w.latency)
	if w.rivals {
		s += ", rivals"
	}
	if w.worse >= 0 {
		s += ", worst for " + kmsg.NameForKey(w.worse)
	}
	return s
}

// worst are the requests of which one kind may fare worse: those whose fate decides who may write, and what was written.
var worst = []kmsg.Key{kmsg.EndTxn, kmsg.EndTxn, kmsg.Produce, kmsg.TxnOffsetCommit, kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.Fetch, kmsg.Heartbeat}

// worseShare is the share of these requests that meet with something.
const worseShare = 0.4

// chance is a random source that depends on nothing but what it is asked for: so what befalls the third EndTxn of the second life of an
// instance does not depend on which goroutine came first.
func chance(parts ...uint64) *rand.Rand {
	h := uint64(14695981039346656037)
	for _, p := range parts {
		h = (h ^ p) * 1099511628211
		h ^= h >> 29
	}
	return rand.New(rand.NewPCG(h, h>>7))
}

// fateOf decides about one request.
func (w *world) fateOf(l *line, key int16) fate {
	n := l.next(key)
	if !w.stormy.Load() {
		return fate{}
	}
	wt := &w.plan.weather
	rng := chance(w.plan.seed, uint64(l.in.id), uint64(l.life), uint64(key), uint64(n))
	usual := time.Duration(0)
	if wt.latency > 0 {
		usual = time.Duration(rng.Int64N(int64(wt.latency)))
	}
	share := wt.share
	if key == wt.worse {
		share = max(share, worseShare)
	}
	if rng.Float64() >= share {
		return fate{usual: usual}
	}
	f := fate{usual: usual, delay: time.Duration(rng.Int64N(int64(wt.longest)))}
	if rng.Float64() < wt.kills {
		f.kind = pick(rng, killedBefore, killedAfter)
		return f // told where it happens
	}
	f.kind = pick(rng, slowRequest, slowRequest, slowAnswer, slowAnswer, slowAnswer, lostRequest, lostRequest, lostAnswer, lostAnswer, lostAnswer, vanishedRequest, vanishedAnswer, lateRequest)
	switch f.kind {
	case lateRequest:
		f.delay = time.Duration(rng.Int64N(int64(20 * time.Second)))
	case slowRequest, slowAnswer:
	default:
		f.delay = 0
	}
	w.tell(f.kind, "instance %d.%d, %s %d%s", l.in.id, l.life, kmsg.NameForKey(key), n, after(f.delay))
	return f
}

func after(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf(", %v", d.Round(time.Millisecond))
}

// entry is a line of the timeline.
type entry struct {
	at   time.Duration
	kind fault
	what string
}

// tell writes a fault into the timeline.
func (w *world) tell(kind fault, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults[kind]++
	w.timeline = append(w.timeline, entry{at: time.Since(w.began), kind: kind, what: fmt.Sprintf(format, args...)})
}

func (w *world) timetable() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, e := range w.timeline {
		fmt.Fprintf(&b, "%10.3fs  %-26s %s\n", e.at.Seconds(), e.kind, e.what)
	}
	return b.String()
}
