//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tools are the programs that take part, built, and the broker they share.
type tools struct {
	options
	peers   string // the copy of the benchmark
	tmp     string // states and logs
	ebb     string // the program under test
	config  string
	gen     string
	brokers string
	lock    *os.File // held while something is timed, so that two measurements never share the machine
}

func prepare(ctx context.Context, o options, log *slog.Logger) (*tools, error) {
	t := &tools{options: o, peers: filepath.Join(o.dir, "bench"), tmp: filepath.Join(o.dir, "tmp")}
	if _, err := os.Stat(filepath.Join(o.shared, "run-peer")); err != nil {
		return nil, fmt.Errorf("the benchmark is not at %s; name its folder with -shared or BENCH_SHARED", o.shared)
	}
	if err := errors.Join(copyNewer(o.shared, t.peers, changes()), os.MkdirAll(t.tmp, 0o755)); err != nil {
		return nil, err
	}
	config, err := filepath.Abs(filepath.Join("docs", "examples", "bench.yaml"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(config); err != nil {
		return nil, fmt.Errorf("run it from the root of the repository: %w", err)
	}
	t.config, t.ebb, t.gen = config, filepath.Join(o.dir, "ebb"), filepath.Join(t.peers, "target", "gen")
	log.Info("building")
	if err := build(ctx, ".", "go", "build", "-trimpath", "-o", t.ebb, "./cmd/ebb"); err != nil {
		return nil, err
	}
	if err := build(ctx, filepath.Join(t.peers, "gen"), "go", "build", "-o", t.gen, "."); err != nil {
		return nil, err
	}
	if o.peer {
		if err := t.buildPeer(ctx); err != nil {
			return nil, err
		}
	}
	if t.brokers, err = t.broker(ctx, log); err != nil {
		return nil, err
	}
	lock := env("BENCH_LOCK", filepath.Join(os.TempDir(), "bench.lock"))
	if t.lock, err = os.OpenFile(lock, os.O_CREATE|os.O_RDWR, 0o666); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *tools) close() { t.lock.Close() }

// alone runs fn while no other measurement runs on this machine. The peer's own script takes the same lock.
func (t *tools) alone(fn func() error) error {
	if err := syscall.Flock(int(t.lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	defer syscall.Flock(int(t.lock.Fd()), syscall.LOCK_UN) //nolint:errcheck // closing the file releases it too
	return fn()
}

func build(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, lastLines(out, 20))
	}
	return nil
}

// buildPeer packages the Kafka Streams job, unless its jar is newer than its sources.
func (t *tools) buildPeer(ctx context.Context) error {
	dir := filepath.Join(t.peers, "kstreams")
	if jar, err := os.Stat(filepath.Join(dir, "target", "kstreams-1.jar")); err == nil {
		if newest, err := newestIn(filepath.Join(dir, "src")); err == nil && jar.ModTime().After(newest) {
			return nil
		}
	}
	return build(ctx, dir, "mvn", "-q", "-B", "package")
}

func newestIn(dir string) (newest time.Time, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		return err
	})
	return newest, err
}

// change is what the bench's copy of a file has otherwise.
type change struct{ from, to string }

// changes are by the path in the benchmark's folder. The broker gets its default for how long an empty group waits for its
// first members; the Kafka Streams job can be told to keep standby copies.
func changes() map[string]change {
	const threads = `p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, prop("threads", "1"));`
	return map[string]change{
		"kafka-up": {"group.initial.rebalance.delay.ms=0\n", ""},
		"kstreams/src/main/java/bench/Bench.java": {threads, threads + ` p.put(StreamsConfig.NUM_STANDBY_REPLICAS_CONFIG, prop("standby", "0"));`},
	}
}

// copyNewer copies what differs, so that what was built from the rest stays valid.
func copyNewer(from, to string, changed map[string]change) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		if d.IsDir() {
			if d.Name() == "target" {
				return filepath.SkipDir
			}
			return os.MkdirAll(dst, 0o755)
		}
		body, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if c, ok := changed[filepath.ToSlash(rel)]; ok {
			if !bytes.Contains(body, []byte(c.from)) {
				return fmt.Errorf("%s holds no %q, which the bench replaces", p, c.from)
			}
			body = bytes.Replace(body, []byte(c.from), []byte(c.to), 1)
		}
		if old, err := os.ReadFile(dst); err == nil && bytes.Equal(old, body) {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(dst, body, info.Mode().Perm()|0o200)
	})
}

// broker is KAFKA_BROKERS, else one that is started (and left running for the next time).
func (t *tools) broker(ctx context.Context, log *slog.Logger) (string, error) {
	if b := os.Getenv("KAFKA_BROKERS"); b != "" {
		return b, nil
	}
	log.Info("starting a broker")
	// its output goes to a file: the broker that it leaves behind would keep a pipe open
	out, err := os.Create(filepath.Join(t.tmp, "kafka-up.out"))
	if err != nil {
		return "", err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, filepath.Join(t.peers, "kafka-up"), filepath.Join(t.tmp, "kafka"))
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("kafka-up: %w; see %s", err, out.Name())
	}
	body, err := os.ReadFile(out.Name())
	return strings.TrimSpace(string(body)), err
}

// generate runs the load generator and decodes the last line that it prints.
func (t *tools) generate(ctx context.Context, into any, args ...string) error {
	cmd := exec.CommandContext(ctx, t.gen, t.genArgs(args)...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return fmt.Errorf("gen %v: %w: %s", args, err, lastLines(exit.Stderr, 3))
		}
		return err
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(lastLines(out, 1), into)
}

func (t *tools) genArgs(args []string) []string {
	return append([]string{"-brokers", t.brokers, "-partitions", strconv.Itoa(t.partitions), "-prefix", t.prefix}, args...)
}

func lastLines(b []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return bytes.Join(lines[max(len(lines)-n, 0):], []byte("\n"))
}
