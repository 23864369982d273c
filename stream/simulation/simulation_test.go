package simulation

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// nap sleeps inside a bubble, where it takes no time.
func nap(d time.Duration) { time.Sleep(d) }

// TestSimulation runs a few seeds, or those that the environment names: EBB_SIMULATION_SEEDS of them from EBB_SIMULATION_FROM on, every
// EBB_SIMULATION_STEP-th, or as many as fit into EBB_SIMULATION_FOR.
func TestSimulation(t *testing.T) {
	few := uint64(30)
	if testing.Short() {
		few = 3
	}
	from, step, n := number(t, "EBB_SIMULATION_FROM", 1), number(t, "EBB_SIMULATION_STEP", 1), number(t, "EBB_SIMULATION_SEEDS", few)
	var within time.Duration
	if s := os.Getenv("EBB_SIMULATION_FOR"); s != "" {
		var err error
		if within, err = time.ParseDuration(s); err != nil {
			t.Fatalf("EBB_SIMULATION_FOR: %v", err)
		}
		n = math.MaxInt64
	}
	var total totals
	began := time.Now()
	total.began, total.spent = began, cpu()
	told := began
	for seed := from; total.seeds < n && (within == 0 || time.Since(began) < within); seed += step {
		total.seeds++
		ok := t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, seed, &total) })
		})
		if !ok {
			total.failed = append(total.failed, seed)
		}
		if time.Since(told) > 5*time.Minute { // of hours one wants to know how they go
			told = time.Now()
			fmt.Println(&total)
		}
	}
	fmt.Println(&total) // also without -v
	if len(total.failed) != 0 {
		t.Logf("failed: %d", total.failed)
	}
}

// totals are what all seeds add up to.
type totals struct {
	seeds          uint64
	failed         []uint64
	faults, wanted int
	by             [numFaults]int
	process, event time.Duration
	began          time.Time
	spent          time.Duration // processor time before the first seed
}

// cpu is the processor time that this process has had.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (x *totals) String() string {
	s := fmt.Sprintf("%d seeds, %d failed, %d faults, %d alert steps, %.1f virtual hours with %.0f hours of event time (", x.seeds, len(x.failed), x.faults, x.wanted, x.process.Hours(), x.event.Hours())
	for k := fault(1); k < numFaults; k++ {
		s += fmt.Sprintf("%s %d, ", k, x.by[k])
	}
	took := cpu() - x.spent
	return strings.TrimSuffix(s, ", ") + fmt.Sprintf(") in %v with %v of processor time: %.0f seeds and %.0f faults a minute of it",
		time.Since(x.began).Round(time.Second), took.Round(time.Second), float64(x.seeds)/took.Minutes(), float64(x.faults)/took.Minutes())
}

func simulate(t *testing.T, seed uint64, total *totals) { //nolint:thelper // it is the test
	p := newPlan(seed)
	w := newWorld(t, p)
	defer w.phone.close()
	w.run()
	w.check()
	for k, n := range w.faults {
		total.by[k] += n
		total.faults += n
	}
	total.wanted += w.wanted
	total.process += time.Since(w.began)
	total.event += time.Since(w.began) * time.Duration(p.scale)
	if t.Failed() {
		t.Logf("seed %d: %v", seed, p)
		t.Logf("timeline, in the time of the process:\n%s", w.timetable())
		t.Logf("log:\n%s", w.book.b.String())
		t.Logf("again: EBB_SIMULATION_FROM=%d EBB_SIMULATION_SEEDS=1 go test ./stream/simulation -run Simulation -cpu 1 -v", seed)
	}
}
