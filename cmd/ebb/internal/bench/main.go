//go:build linux

// Command bench runs ebb and the same job on Kafka Streams one after the other
// on the same broker and the same topics, and prints their figures side by
// side: events per second, CPU, memory, the latency of alerts under live load,
// and for how long customers go unserved after a restart, a kill, a clean leave
// and a rolling deploy.
//
// The load generator and the Kafka Streams job are those of the benchmark that
// stands beside the repository; they are copied to a folder of their own and
// built there. ebb runs as a user runs it: the built program, with
// docs/examples/bench.yaml, measured from outside by the kernel's accounting,
// its /metrics and the offsets that its group has committed. Nothing is
// measured inside of ebb, and no figure is a pass or a failure. It refuses to
// report a run in which an alert is missing or stands twice.
//
// Usage: bench [flags] [part ...], where a part is load, drain, latency, fill,
// restart, failover, memory, model or micro (default: all).
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"ebb/stream/conn"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags; each has an environment variable too, so that `make bench` needs none.
type options struct {
	events, customers, partitions int
	rate, seconds                 int
	shared, dir, prefix, json     string
	own, peer, keep               bool
	peerDrain, peerLatency        string
	many                          int
	session                       time.Duration
	peerHeap                      string
	parts                         []string
}

var allParts = []string{"load", "drain", "latency", "fill", "restart", "failover", "memory", "model", "micro"}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.IntVar(&o.events, "events", envInt("BENCH_EVENTS", 5_000_000), "events of the history (BENCH_EVENTS)")
	fs.IntVar(&o.customers, "customers", envInt("BENCH_CUSTOMERS", 0), "customers; 0: a 25th of the events (BENCH_CUSTOMERS)")
	fs.IntVar(&o.partitions, "partitions", 8, "partitions of each topic")
	fs.IntVar(&o.rate, "rate", 5000, "live events a second for the latency")
	fs.IntVar(&o.seconds, "seconds", 60, "seconds of live load for the latency, the first 10 of which do not count")
	fs.StringVar(&o.shared, "shared", env("BENCH_SHARED", filepath.Join("..", "shared", "bench")), "folder of the benchmark (BENCH_SHARED)")
	fs.StringVar(&o.dir, "dir", env("BENCH_DIR", filepath.Join(os.TempDir(), "ebb-bench")), "work folder, kept for the next run (BENCH_DIR)")
	fs.StringVar(&o.prefix, "prefix", "ebb_bench_", "prefix of the topics, which are made anew by the part load")
	fs.StringVar(&o.json, "json", "bench-result.json", "file for the figures")
	fs.BoolVar(&o.own, "ebb", env("BENCH_EBB", "1") == "1", "run ebb (BENCH_EBB=0: do not)")
	fs.BoolVar(&o.peer, "peer", env("BENCH_PEER", "1") == "1", "run Kafka Streams too (BENCH_PEER=0: do not)")
	fs.BoolVar(&o.keep, "keep", false, "keep ebb's state and topics at the end")
	fs.StringVar(&o.peerDrain, "peer-drain", "eos, 1 thread, commit 10 s, transaction timeout 60 s", "case of the Kafka Streams job for the drain: its best exactly-once mode")
	fs.StringVar(&o.peerLatency, "peer-latency", "eos, default (commit 100 ms)", "case of the Kafka Streams job for the latency")
	fs.IntVar(&o.many, "many", envInt("BENCH_MANY", 1_000_000), "customers of the parts fill, restart, failover and memory, with four events each (BENCH_MANY)")
	fs.DurationVar(&o.session, "session", 10*time.Second, "session timeout of the group in the part failover, of both sides")
	fs.StringVar(&o.peerHeap, "peer-heap", "2g", "heap of each Kafka Streams process in the parts restart and failover")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if o.customers == 0 {
		o.customers = max(o.events/25, 1)
	}
	o.parts = fs.Args()
	if len(o.parts) == 0 {
		o.parts = allParts
	}
	for _, p := range o.parts {
		if !slices.Contains(allParts, p) {
			return o, fmt.Errorf("no part %q; the parts are %v", p, allParts)
		}
	}
	return o, nil
}

func env(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}

func envInt(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: shortTime}))
	tools, err := prepare(ctx, o, log)
	if err != nil {
		return err
	}
	defer tools.close()
	cluster, err := conn.New(conn.Config{Brokers: []string{tools.brokers}, ClientID: "ebb-bench"})
	if err != nil {
		return err
	}
	defer cluster.Close()
	b := &bench{tools: tools, cluster: cluster, log: log, now: time.Now}
	if b.delay, err = brokerSetting(ctx, tools.brokers, "group.initial.rebalance.delay.ms"); err != nil {
		return err
	}
	res, err := b.run(ctx)
	if res.measured() {
		err = joined(err, res.print(os.Stdout), keepJSON(o.json, res))
	}
	return err
}

func joined(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func keepJSON(file string, res *result) error {
	if file == "" {
		return nil
	}
	body, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(body, '\n'), 0o644)
}

func shortTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.String(slog.TimeKey, a.Value.Time().Format(time.TimeOnly))
	}
	return a
}

// micro runs the Go benchmarks of what a record passes: decoding, batches, the customer record, the detectors.
func micro(ctx context.Context, w io.Writer) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchmem", "-benchtime", "0.5s",
		"./stream/event", "./stream/batch", "./state/customer", "./state", "./detectors", "./alerts")
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	return cmd.Run()
}
