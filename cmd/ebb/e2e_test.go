package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ebb/stream/kafkatest"
)

// The tests in this file run the program itself, as a process, on a real broker: they kill it and compare what a
// read_committed subscriber sees with an independent computation.

var program struct {
	once sync.Once
	path string
	err  error
}

// ebb builds the program once for all tests of this file.
func ebb(t *testing.T) string {
	t.Helper()
	program.once.Do(func() {
		dir, err := os.MkdirTemp("", "ebb-e2e")
		if err != nil {
			program.err = err
			return
		}
		program.path = filepath.Join(dir, "ebb")
		out, err := exec.Command("go", "build", "-o", program.path, ".").CombinedOutput()
		if err != nil {
			program.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return program.path
}

func TestMain(m *testing.M) {
	code := m.Run()
	if program.path != "" {
		os.RemoveAll(filepath.Dir(program.path))
	}
	os.Exit(code)
}

// oracle is the bench's generator and its independent computation, from the shared folder beside the project.
type oracle struct{ gen, py string }

func sharedOracle(t *testing.T) oracle {
	t.Helper()
	bench, err := filepath.Abs("../../../shared/bench")
	if err != nil {
		t.Fatal(err)
	}
	missing := func(what string) {
		if os.Getenv("EBB_REQUIRE_SHARED") == "1" {
			t.Fatalf("%s is missing and EBB_REQUIRE_SHARED=1", what)
		}
		t.Skipf("%s is not here: the alerts are compared with the in-memory reference only", what)
	}
	if _, err := os.Stat(bench); err != nil {
		missing("the shared bench folder")
	}
	if _, err := exec.LookPath("python3"); err != nil {
		missing("python3")
	}
	dir := t.TempDir()
	if out, err := exec.Command("cp", "-r", filepath.Join(bench, "gen"), dir).CombinedOutput(); err != nil {
		t.Fatalf("copy the generator: %v\n%s", err, out)
	}
	if out, err := exec.Command("chmod", "-R", "u+w", dir).CombinedOutput(); err != nil {
		t.Fatalf("copy the generator: %v\n%s", err, out)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "generate"), ".")
	build.Dir = filepath.Join(dir, "gen")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the generator: %v\n%s", err, out)
	}
	return oracle{gen: filepath.Join(dir, "generate"), py: filepath.Join(bench, "oracle.py")}
}

func (o oracle) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(o.gen, args...).CombinedOutput(); err != nil {
		t.Fatalf("generator %v: %v\n%s", args, err, out)
	}
}

// instance is one ebb process.
type instance struct {
	cmd *exec.Cmd
	log *logbook
}

// logbook takes what a process logs.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, env []string, args ...string) *instance {
	t.Helper()
	in := &instance{cmd: exec.Command(ebb(t), args...), log: &logbook{}}
	in.cmd.Env = append(os.Environ(), env...)
	in.cmd.Stderr = in.log
	if err := in.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.cmd.Process.Kill()
		in.cmd.Wait()
		if t.Failed() {
			t.Logf("log of %v:\n%s", args, tail(in.log.String(), 6000))
		}
	})
	return in
}

func tail(s string, n int) string {
	if len(s) > n {
		return "... " + s[len(s)-n:]
	}
	return s
}

// kill is kill -9.
func (in *instance) kill() {
	in.cmd.Process.Kill()
	in.cmd.Wait()
}

// stop is SIGTERM, which must end in 10 s with exit code 0.
func (in *instance) stop(t *testing.T) {
	t.Helper()
	in.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- in.cmd.Wait() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("after SIGTERM: %v", err)
		}
	case <-ctx.Done():
		t.Error("SIGTERM was not obeyed within 10 s")
	}
}

// lag is the number of records between the group's committed offsets and the ends of the feeds.
func lag(t *testing.T, b *kafkatest.Broker, group string, topics ...string) int64 {
	t.Helper()
	var sum int64
	for _, topic := range topics {
		committed := b.GroupOffsets(t, group, topic)
		for p, end := range b.EndOffsets(t, topic) {
			sum += end - max(0, committed[p])
		}
	}
	return sum
}

func caughtUp(t *testing.T, b *kafkatest.Broker, group string, topics ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	err := kafkatest.Poll(ctx, func() error {
		if n := lag(t, b, group, topics...); n != 0 {
			return fmt.Errorf("%d records to go", n)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("catching up: %v", err)
	}
}

// TestAlertsEqualTheOracle runs the bench's contract on generated topics and compares every alert step with the independent
// computation: undisturbed and killed with -9 again and again, on one, three and eight partitions.
func TestAlertsEqualTheOracle(t *testing.T) {
	if testing.Short() {
		t.Skip("the program under test is another process, which -race does not see")
	}
	b := kafkatest.Real(t)
	o := sharedOracle(t)
	dir := t.TempDir()
	for _, c := range []struct {
		partitions, kills int
	}{{1, 0}, {3, 3}, {8, 6}} {
		t.Run(fmt.Sprintf("%d partitions, killed %d times", c.partitions, c.kills), func(t *testing.T) {
			prefix := b.Name(fmt.Sprintf("p%d_", c.partitions))
			start60 := time.Now().UTC().AddDate(0, 0, -60).Truncate(time.Minute).Format(time.RFC3339)
			seed := fmt.Sprint(rand.Uint64N(1e6))
			t.Logf("seed %s, start %s", seed, start60)
			common := []string{
				"-brokers", strings.Join(b.Addrs, ","), "-prefix", prefix, "-partitions", fmt.Sprint(c.partitions), "-start", start60,
				"-events", "200000", "-customers", "8000", "-seed", seed,
			}
			o.run(t, common...)
			events := filepath.Join(dir, fmt.Sprintf("events%d.ndjson", c.partitions))
			o.run(t, append(common, "-dump", events)...)

			group := b.Name(fmt.Sprintf("g%d", c.partitions))
			env := []string{
				"KAFKA_BROKERS=" + strings.Join(b.Addrs, ","), "BENCH_PREFIX=" + prefix, "BENCH_GROUP=" + group,
				"STATE_DIR=" + filepath.Join(dir, fmt.Sprintf("state%d", c.partitions)), "EBB_HTTP_LISTEN=127.0.0.1:0",
			}
			topics := []string{prefix + "usage", prefix + "payments", prefix + "complaints"}
			config := smallCuts(t)
			killAtProgress(t, b, group, topics, env, config, c.kills)
			in := start(t, env, "run", "-c", config)
			caughtUp(t, b, group, topics...)
			in.stop(t)

			alerts := filepath.Join(dir, fmt.Sprintf("alerts%d.ndjson", c.partitions))
			o.run(t, "-brokers", strings.Join(b.Addrs, ","), "-prefix", prefix, "-alerts", alerts)
			compare(t, o, events, alerts)
		})
	}
}

// smallCuts is the bench's configuration with a cut every few thousand records, so that a kill lands between many of them.
func smallCuts(t *testing.T) string {
	t.Helper()
	return smallCutsOf(t, 2000)
}

func smallCutsOf(t *testing.T, events int) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/examples/bench.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ebb.yaml")
	if err := os.WriteFile(path, fmt.Appendf(b, "\ncut: {max_events: %d}\n", events), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// killAtProgress starts the program and kills it with -9 at random moments while it works through the history, each time
// after it has committed something.
func killAtProgress(t *testing.T, b *kafkatest.Broker, group string, topics []string, env []string, config string, kills int) {
	t.Helper()
	for k := range kills {
		before := lag(t, b, group, topics...)
		part := before / int64(kills-k+1) * rand.Int64N(100) / 100
		in := start(t, env, "run", "-c", config)
		kafkatest.Eventually(t, "progress to kill", func() error {
			if n := lag(t, b, group, topics...); n >= before-part && n > 0 {
				return fmt.Errorf("%d of %d records to go", n, before)
			}
			return nil
		})
		in.kill()
		t.Logf("killed at lag %d", lag(t, b, group, topics...))
	}
}

func compare(t *testing.T, o oracle, events, alerts string) {
	t.Helper()
	out, err := exec.Command("python3", o.py, events, alerts).CombinedOutput()
	if err != nil {
		t.Fatalf("oracle: %v\n%s", err, out)
	}
	var r struct {
		Expected map[string]int
		Missing  int
		Extra    int
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("oracle: %v\n%s", err, out)
	}
	n := 0
	for _, x := range r.Expected {
		n += x
	}
	if r.Missing != 0 || r.Extra != 0 || n == 0 {
		t.Errorf("expected %d alert steps: missing %d, extra %d\n%s", n, r.Missing, r.Extra, out)
	}
	t.Logf("%d alert steps, missing %d, extra %d", n, r.Missing, r.Extra)
}
