//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"ebb/stream/conn"
	"ebb/stream/offsets"
)

// bench is one run of all parts.
type bench struct {
	*tools
	cluster *conn.Cluster
	log     *slog.Logger
	now     func() time.Time
	delay   string // the broker's group.initial.rebalance.delay.ms

	group, state string // of the drained ebb, which latency goes on with
}

var feeds = []string{"usage", "payments", "complaints"}

func (b *bench) run(ctx context.Context) (*result, error) {
	res := newResult(b)
	defer b.clean()
	steps := []struct {
		part string
		fn   func(context.Context, *result) error
	}{
		{"load", b.load},
		{"drain", b.ours(b.drain)},
		{"drain", b.peerPart("drain", b.peerDrain)},
		{"latency", b.ours(b.latency)},
		{"latency", b.peerPart("latency", b.peerLatency)},
		{"fill", b.fill},
		{"restart", b.onEach(b.restarts)},
		{"failover", b.onEach(b.failover)},
		{"memory", b.ours(b.memory)},
		{"model", b.ours(b.model)},
		{"micro", func(ctx context.Context, _ *result) error { return micro(ctx, os.Stdout) }},
	}
	for _, s := range steps {
		if !slices.Contains(b.parts, s.part) {
			continue
		}
		b.log.Info("part", "name", s.part)
		if err := s.fn(ctx, res); err != nil {
			return res, fmt.Errorf("%s: %w", s.part, err)
		}
	}
	return res, nil
}

// ours is a part that only ebb has a hand in.
func (b *bench) ours(part func(context.Context, *result) error) func(context.Context, *result) error {
	return func(ctx context.Context, res *result) error {
		if !b.own {
			return nil
		}
		return part(ctx, res)
	}
}

// load fills the topics anew.
func (b *bench) load(ctx context.Context, res *result) error {
	return b.alone(func() error {
		return b.generate(ctx, &res.Load, "-events", fmt.Sprint(b.events), "-customers", fmt.Sprint(b.customers))
	})
}

// drain reads the topics from empty state to lag 0, and stops cleanly.
func (b *bench) drain(ctx context.Context, res *result) error {
	if err := b.generate(ctx, nil, "-reset-alerts"); err != nil {
		return err
	}
	b.group = fmt.Sprintf("ebb_bench_%d", b.now().Unix())
	b.state = filepath.Join(b.tmp, "state-"+b.group)
	ends, total, err := b.ends(ctx, b.prefix)
	if err != nil {
		return err
	}
	return b.alone(func() error {
		d, err := b.drainOnce(ctx, ebbRun{group: b.group, dir: b.state, prefix: b.prefix}, ends, float64(total))
		if err == nil {
			res.Drain.Ebb = d
			b.log.Info("drained", "events", total, "seconds", d.Seconds, "cpu_s_per_million", d.CPUPerMillion, "peak_rss_mib", d.PeakRSS, "alerts", d.Alerts)
		}
		return err
	})
}

// model drains the same topics by the plain rules and by the model of the population, in turns, so that what else the machine does meets both.
func (b *bench) model(ctx context.Context, res *result) error {
	ends, total, err := b.ends(ctx, b.prefix)
	if err != nil {
		return err
	}
	return b.alone(func() error {
		for i := range methodRounds {
			for _, method := range []string{"plain", "model"} {
				group := fmt.Sprintf("ebb_bench_%s_%d", method, b.now().Unix())
				d, err := b.drainBy(ctx, ebbRun{group: group, dir: filepath.Join(b.tmp, "state-"+group), prefix: b.prefix, method: method}, ends, float64(total))
				if err != nil {
					return fmt.Errorf("%s: %w", method, err)
				}
				b.log.Info("drained", "round", i+1, "method", method, "seconds", d.Seconds, "cpu_s_per_million", d.CPUPerMillion, "peak_rss_mib", d.PeakRSS, "alerts", d.Alerts)
				res.Methods = append(res.Methods, &methodDrained{method, *d})
			}
		}
		return nil
	})
}

// methodRounds is how often each method drains.
const methodRounds = 2

func (b *bench) drainBy(ctx context.Context, r ebbRun, ends positions, total float64) (*drained, error) {
	if err := b.generate(ctx, nil, "-reset-alerts"); err != nil {
		return nil, err
	}
	defer b.forget(r.group, r.dir)
	return b.drainOnce(ctx, r, ends, total)
}

func (b *bench) drainOnce(ctx context.Context, r ebbRun, ends positions, total float64) (*drained, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	broker := b.brokerCPU()
	e, err := b.start(ctx, r)
	if err != nil {
		return nil, err
	}
	d := &drained{Events: int64(total)}
	var warm struct{ events, at, cpu float64 }
	err = e.await(ctx, 250*time.Millisecond, "every record is consumed", func(s series) bool {
		n := s.sum("ebb_records_consumed_total")
		if warm.at == 0 && n >= total/5 {
			warm.events, warm.at, warm.cpu = n, e.seconds(), cpuOf(e.cmd.Process.Pid)
		}
		d.Alerts = int64(s.sum("ebb_alert_steps_total"))
		return n >= total
	})
	if err != nil {
		return nil, err
	}
	d.Seconds = e.seconds()
	if d.Seconds > warm.at {
		d.SteadyPerSecond = (total - warm.events) / (d.Seconds - warm.at)
		d.SteadyCPUPerMillion = (cpuOf(e.cmd.Process.Pid) - warm.cpu) / (total - warm.events) * 1e6
	}
	if err := b.awaitCommitted(ctx, e, r.group, ends); err != nil {
		return nil, err
	}
	d.LagZero = e.seconds()
	if s, err := e.scrape(ctx); err == nil {
		d.Alerts = int64(s.sum("ebb_alert_steps_total"))
	}
	u, err := e.stop(syscall.SIGTERM)
	if err != nil {
		return nil, err
	}
	d.PerSecond = total / d.Seconds
	d.SecondsClosed = e.seconds()
	d.StopSeconds, d.CPU, d.PeakRSS = u.took, u.cpu, u.rss
	d.CPUPerMillion = u.cpu / total * 1e6
	d.BrokerCPUPerMillion = (b.brokerCPU() - broker) / total * 1e6
	d.StateBytes = diskUse(r.dir)
	return d, nil
}

// positions are offsets by topic and partition.
type positions map[string]map[int32]int64

// ends returns the end offsets of the feeds of a prefix and how many records they hold.
func (b *bench) ends(ctx context.Context, prefix string) (ends positions, total int64, err error) {
	ends = positions{}
	for _, feed := range feeds {
		end, n, err := b.endsOf(ctx, prefix+feed)
		if err != nil {
			return nil, 0, err
		}
		ends[prefix+feed] = end
		total += n
	}
	return ends, total, nil
}

// endsOf returns the end offsets of a topic and how many offsets lie before them.
func (b *bench) endsOf(ctx context.Context, topic string) (ends map[int32]int64, total int64, err error) {
	found, _, err := b.cluster.Topics(ctx, topic)
	if err == nil {
		err = found[topic].Err
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w; the parts load and fill make the topics", topic, err)
	}
	var ids []int32
	for _, p := range found[topic].Partitions {
		ids = append(ids, p.ID)
	}
	ends, err = b.cluster.Offsets(ctx, topic, ids, conn.Latest, conn.ReadUncommitted)
	if err != nil {
		return nil, 0, err
	}
	starts, err := b.cluster.Offsets(ctx, topic, ids, conn.Earliest, conn.ReadUncommitted)
	if err != nil {
		return nil, 0, err
	}
	for p, end := range ends {
		total += end - starts[p]
	}
	return ends, total, nil
}

// awaitCommitted waits until the group has committed every record below the given ends: lag 0 as any Kafka tool sees it.
func (b *bench) awaitCommitted(ctx context.Context, e *engine, group string, ends positions) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		lag, err := b.lag(ctx, group, ends)
		if err == nil && lag == 0 {
			return nil
		}
		select {
		case <-e.ended:
			return fmt.Errorf("the process ended at lag %d: %w; see %s", lag, e.err, e.log)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("lag stays at %d: %w; see %s", lag, ctx.Err(), e.log), err)
		case <-tick.C:
		}
	}
}

func (b *bench) lag(ctx context.Context, group string, ends positions) (lag int64, err error) {
	for topic, end := range ends {
		done, err := offsets.New(b.cluster, group, topic).Load(ctx)
		if err != nil {
			return 0, err
		}
		for p, o := range end {
			lag += o - done[p]
		}
	}
	return lag, nil
}

// latency plays live load and has the generator measure how long alerts take.
func (b *bench) latency(ctx context.Context, res *result) error {
	return b.alone(func() error {
		e, err := b.caughtUp(ctx)
		if err != nil {
			return err
		}
		rate, secs := fmt.Sprint(b.rate), fmt.Sprint(b.seconds)
		if err := b.generate(ctx, nil, b.live("-rate", rate, "-seconds", "8", "-warm", "0", "-settle", "60s")...); err != nil {
			return err
		}
		cpu, broker := cpuOf(e.cmd.Process.Pid), b.brokerCPU()
		l := &lively{}
		if err := b.generate(ctx, l, b.live("-rate", rate, "-seconds", secs)...); err != nil {
			return err
		}
		l.CPUPerMillion = (cpuOf(e.cmd.Process.Pid) - cpu) / l.Sent * 1e6
		l.BrokerCPUPerMillion = (b.brokerCPU() - broker) / l.Sent * 1e6
		u, err := e.stop(syscall.SIGTERM)
		if err != nil {
			return err
		}
		l.RSS = u.rss
		res.Latency.Ebb = l
		b.log.Info("latency", "p50_ms", l.P50, "p99_ms", l.P99, "missing", l.Missing, "duplicates", l.Duplicates)
		return l.check()
	})
}

func (b *bench) live(args ...string) []string {
	return append([]string{"-customers", fmt.Sprint(b.customers), "-measure"}, args...)
}

// caughtUp starts ebb on the drained state and waits until it is live and everything it found is committed: alerts of an earlier
// load must not be counted with the next one's.
func (b *bench) caughtUp(ctx context.Context) (*engine, error) {
	if b.group == "" {
		return nil, errors.New("the part drain has to run before it")
	}
	e, err := b.start(ctx, ebbRun{group: b.group, dir: b.state, prefix: b.prefix})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := b.awaitLive(ctx, e); err != nil {
		return nil, err
	}
	ends, _, err := b.ends(ctx, b.prefix)
	if err != nil {
		return nil, err
	}
	return e, b.awaitCommitted(ctx, e, b.group, ends)
}

// onTheirWay is how many records of a partition may wait at the end of a topic that is being written.
const onTheirWay = 20

// awaitLive waits until ebb calls itself ready and every partition of every feed is read to its end.
func (b *bench) awaitLive(ctx context.Context, e *engine) error {
	return e.await(ctx, 10*time.Millisecond, "every partition is read to its end", func(s series) bool {
		if !e.ready(ctx) {
			return false
		}
		n := 0
		for k, v := range s {
			if strings.HasPrefix(k, "ebb_consumer_lag_records{") {
				n++
				if v > onTheirWay {
					return false
				}
			}
		}
		return n >= b.partitions*len(feeds) && s.sum("ebb_restore_remaining_records") == 0
	})
}

func (b *bench) brokerCPU() float64 {
	_, port, err := net.SplitHostPort(strings.Split(b.brokers, ",")[0])
	if err != nil {
		return 0
	}
	return cpuOf(listener(port))
}

// clean removes ebb's state and internal topics.
func (b *bench) clean() {
	if b.group == "" || b.keep {
		return
	}
	b.forget(b.group, b.state)
}

// forget removes the state and the internal topics of a group.
func (b *bench) forget(group, dir string) {
	if err := os.RemoveAll(dir); err != nil {
		b.log.Warn("the state stays", "error", err)
	}
	// the prefix that is given last counts
	if err := b.generate(context.Background(), nil, "-prefix", group+"-", "-delete"); err != nil {
		b.log.Warn("the internal topics stay", "error", err)
	}
}

func diskUse(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		var st syscall.Stat_t
		if err == nil && syscall.Lstat(p, &st) == nil {
			n += st.Blocks * 512
		}
		return nil
	})
	return n
}
