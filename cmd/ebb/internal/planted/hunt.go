package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// hunter looks for the failures that a bug causes.
type hunter struct {
	root    string        // of the tree as it is
	work    string        // for copies and programs
	sound   string        // the simulation of the tree as it is
	limit   time.Duration // CPU time for each bug
	from    uint64        // first seed
	portion int
	nice    int
	tests   bool // what the simulation does not find, the tests of the changed packages may
}

// result is what became of one bug.
type result struct {
	bug    *bug
	caught bool
	seed   uint64
	seeds  uint64
	cpu    time.Duration
	by     string // the first complaint
	test   string // that failed where the simulation found nothing
	doubt  int    // failures that do not come again, or that the sound tree shows with the same seed
}

// copyTree copies what belongs to the tree, and not what git ignores.
func (h *hunter) copyTree(ctx context.Context, to string) error {
	out, err := command(ctx, h.root, "git", "ls-files", "-co", "--exclude-standard", "-z")
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(h.root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			return err
		}
		path := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// build makes the simulation of a tree. Without the path of the tree in it, all copies share what is compiled.
func (h *hunter) build(ctx context.Context, root, program string) error {
	_, err := command(ctx, root, "go", "test", "-trimpath", "-ldflags=-s -w", "-c", "-o", program, "./stream/simulation")
	return err
}

func command(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, nil
}

// prepare builds the simulation of the tree as it is.
func (h *hunter) prepare(ctx context.Context) error {
	h.sound = filepath.Join(h.work, "sound")
	return h.build(ctx, h.root, h.sound)
}

// hunt plants a bug and looks for it.
func (h *hunter) hunt(ctx context.Context, b *bug) (*result, error) {
	dir := filepath.Join(h.work, b.name)
	defer func() { _ = os.RemoveAll(dir) }()
	if err := h.copyTree(ctx, dir); err != nil {
		return nil, fmt.Errorf("copy the tree: %w", err)
	}
	if err := b.plant(dir); err != nil {
		return nil, err
	}
	r := &result{bug: b}
	if h.limit > 0 {
		program := filepath.Join(dir, "simulation.test")
		if err := h.build(ctx, dir, program); err != nil {
			return nil, fmt.Errorf("%s: %w", b.name, err)
		}
		h.simulate(ctx, program, r)
	}
	if h.tests && !r.caught && ctx.Err() == nil {
		if err := h.runTests(ctx, dir, r); err != nil {
			return nil, fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return r, ctx.Err()
}

// simulate runs seed after seed until one fails for the bug's sake.
func (h *hunter) simulate(ctx context.Context, program string, r *result) {
	for seed := h.from; r.cpu < h.limit && ctx.Err() == nil; {
		run := h.run(ctx, program, seed, h.portion)
		r.cpu += run.cpu
		r.seeds += run.seeds
		if !run.failed {
			seed += uint64(h.portion)
			continue
		}
		if h.isTheBugs(ctx, program, run.seed, r) {
			r.caught, r.seed, r.by = true, run.seed, run.complaint
			return
		}
		r.doubt++
		seed = run.seed + 1
	}
}

const (
	// repeats is how often a seed that failed is run again, with the bug and without. Not every run of a seed is the same.
	repeats = 10
	// again is in how many of them it has to fail with the bug. Without it must in none.
	again = 2
)

// isTheBugs says whether a seed that failed does so because of the bug. What it costs to run it again with the bug counts.
func (h *hunter) isTheBugs(ctx context.Context, program string, seed uint64, r *result) bool {
	failed := 0
	for i := 0; i < repeats && failed < again && ctx.Err() == nil; i++ {
		run := h.run(ctx, program, seed, 1)
		r.cpu += run.cpu
		if run.failed {
			failed++
		}
	}
	if failed < again {
		return false
	}
	for range repeats {
		if ctx.Err() != nil || h.run(ctx, h.sound, seed, 1).failed {
			return false
		}
	}
	return true
}

// outcome is what became of some seeds.
type outcome struct {
	failed    bool
	seed      uint64 // that failed
	seeds     uint64
	cpu       time.Duration
	complaint string
}

// patience is how long a portion of seeds, or the tests of a package, may take.
const patience = 5 * time.Minute

var (
	begun     = regexp.MustCompile(`(?m)^=== RUN +TestSimulation/seed_(\d+)$`)
	complains = regexp.MustCompile(`(?m)^ +\w+_test\.go:\d+: (.*)$`)
	panics    = regexp.MustCompile(`(?m)^(panic: .*|fatal error: .*)$`)
)

// run lets a simulation go through n seeds, or up to the first that fails.
func (h *hunter) run(ctx context.Context, program string, from uint64, n int) outcome {
	cmd := exec.CommandContext(ctx, "nice", "-n", strconv.Itoa(h.nice), program, "-test.run", "^TestSimulation$", "-test.v", "-test.failfast", "-test.timeout", patience.String())
	cmd.Dir = filepath.Join(h.root, "stream", "simulation")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", fmt.Sprintf("EBB_SIMULATION_FROM=%d", from), fmt.Sprintf("EBB_SIMULATION_SEEDS=%d", n), "EBB_SIMULATION_FOR=", "EBB_SIMULATION_STEP=")
	out, err := cmd.CombinedOutput()
	o := outcome{failed: err != nil && ctx.Err() == nil}
	if cmd.ProcessState != nil {
		o.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	ran := begun.FindAllSubmatch(out, -1)
	if !o.failed {
		o.seeds = uint64(len(ran))
		return o
	}
	o.seed, o.complaint = from, complaint(out)
	for _, m := range ran {
		seed, _ := strconv.ParseUint(string(m[1]), 10, 64)
		o.seeds++
		if o.seed = seed; bytes.Contains(out, fmt.Appendf(nil, "--- FAIL: TestSimulation/seed_%d ", seed)) {
			break
		}
	}
	return o
}

// complaint is the first thing that is said to be wrong.
func complaint(out []byte) string {
	said := ""
	if m := complains.FindSubmatch(out); m != nil {
		said, _, _ = strings.Cut(string(m[1]), ": ")
	}
	if m := panics.FindSubmatch(out); said == "" && m != nil {
		said = string(m[1])
	}
	const most = 60
	return said[:min(len(said), most)]
}
