//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// wide are the topics with many customers.
func (b *bench) wide() topics { return topics{b.prefix + "wide_", b.partitions} }

// finer are the same customers in eight times as many partitions.
func (b *bench) finer() topics { return topics{b.prefix + "finer_", 8 * b.partitions} }

// fill makes the topics with many customers: four events of each, within twelve days, so that nobody is silent yet.
func (b *bench) fill(ctx context.Context, res *result) error {
	return b.alone(func() error { return b.fillTopics(ctx, b.wide(), &res.Wide) })
}

func (b *bench) fillTopics(ctx context.Context, t topics, into *loaded) error {
	return b.generate(ctx, into, "-prefix", t.prefix, "-partitions", fmt.Sprint(t.partitions), "-days", "12",
		"-events", fmt.Sprint(4*b.many), "-customers", fmt.Sprint(b.many))
}

// onEach runs a part for ebb, then for Kafka Streams.
func (b *bench) onEach(part func(context.Context, *result, side) error) func(context.Context, *result) error {
	return func(ctx context.Context, res *result) error {
		if b.own {
			if err := part(ctx, res, ebbSide{}); err != nil {
				return err
			}
		}
		if !b.peer {
			return nil
		}
		return part(ctx, res, streamsSide{})
	}
}

// restarts ends the only instance under live load and starts it again at once, with and without its local state.
func (b *bench) restarts(ctx context.Context, res *result, s side) error {
	return b.alone(func() error {
		f := b.newFleet(s, b.wide(), 0)
		defer f.close()
		if err := f.start(ctx, 0); err != nil {
			return err
		}
		if err := f.drain(ctx); err != nil {
			return err
		}
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			for _, wiped := range []bool{false, true} {
				r, err := f.restart(ctx, sig, wiped)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name(), caseName(sig, wiped), err)
				}
				res.Restart.put(caseName(sig, wiped), s, r)
				b.log.Info("restart", "side", s.name(), "case", caseName(sig, wiped), "first_alert_s", r.First, "all_partitions_s", r.All, "worst_gap_ms", r.Gap,
					"missing", r.Missing, "duplicates", r.Duplicates, "changelog_records", r.Changelog)
			}
		}
		return nil
	})
}

func (f *fleet) restart(ctx context.Context, sig syscall.Signal, wiped bool) (*restarted, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	r := &restarted{}
	p, err := f.probe(ctx, f.topics)
	if err != nil {
		return nil, err
	}
	if err := p.settle(ctx, time.Time{}, 5*time.Second, time.Minute); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	disturbed := f.now()
	again := func() (time.Time, error) {
		u, err := f.stop(0, sig)
		if err != nil {
			return time.Time{}, err
		}
		r.Stop = u.took
		if wiped {
			if err := f.wipe(0); err != nil {
				return time.Time{}, err
			}
		}
		if err := f.start(ctx, 0); err != nil {
			return time.Time{}, err
		}
		return f.runs[0].began, p.settle(ctx, f.runs[0].began, 3*time.Second, 5*time.Minute)
	}
	started, err := again()
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	all, d, err := p.finish(ctx)
	if err != nil {
		return nil, err
	}
	gap, _ := worst(since(all, disturbed), f.partitions)
	r.delivery, r.Gap = d, ms(gap)
	first := firstSince(all, f.partitions, started)
	r.First, r.All = slices.Min(first).Seconds(), slices.Max(first).Seconds()
	if wiped {
		r.Changelog, err = f.count(ctx, f.side.changelog(f.group))
	}
	return r, errors.Join(err, r.check())
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// failover has three instances under live load, without and with standby copies, and kills one, stops one cleanly, and starts
// all of them anew one after the other.
func (b *bench) failover(ctx context.Context, res *result, s side) error {
	for _, standbys := range []int{0, 1} {
		err := b.alone(func() error {
			f := b.newFleet(s, b.wide(), standbys)
			defer f.close()
			return f.failovers(ctx, res)
		})
		if err != nil {
			return fmt.Errorf("%s, %d standby copies: %w", s.name(), standbys, err)
		}
	}
	return nil
}

func (f *fleet) failovers(ctx context.Context, res *result) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	defer cancel()
	for i := range f.runs {
		if err := f.start(ctx, i); err != nil {
			return err
		}
	}
	if err := f.drain(ctx); err != nil {
		return err
	}
	for i, c := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"kill -9 of one of three", func(ctx context.Context) error { return f.lose(ctx, syscall.SIGKILL) }},
		{"clean leave of one of three", func(ctx context.Context) error { return f.lose(ctx, syscall.SIGTERM) }},
		{"rolling deploy of three", f.roll},
	} {
		if i > 0 {
			if err := f.side.complete(ctx, f); err != nil {
				return err
			}
		}
		o, err := f.disturb(ctx, c.do)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		name := fmt.Sprintf("%s, %d standby", c.name, f.standbys)
		res.Failover.put(name, f.side, o)
		f.log.Info("failover", "side", f.side.name(), "case", name, "served_again_s", o.Served, "worst_gap_ms", o.Gap, "partitions", o.Disturbed, "missing", o.Missing, "duplicates", o.Duplicates)
	}
	return nil
}

// disturb measures what live load sees of a disturbance of three instances that share the partitions evenly.
func (f *fleet) disturb(ctx context.Context, do func(context.Context) error) (*outage, error) {
	if err := f.balance(ctx); err != nil {
		return nil, err
	}
	p, err := f.probe(ctx, f.topics)
	if err != nil {
		return nil, err
	}
	if err := p.settle(ctx, time.Time{}, 5*time.Second, 3*time.Minute); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	began := f.now()
	if err := do(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	if err := p.settle(ctx, f.now(), 3*time.Second, 5*time.Minute); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	all, d, err := p.finish(ctx)
	if err != nil {
		return nil, err
	}
	gap, disturbed := worst(since(all, began), f.partitions)
	return &outage{delivery: d, Served: slices.Max(firstSince(all, f.partitions, began)).Seconds(), Gap: ms(gap), Disturbed: disturbed}, d.check()
}

// lose ends the instance with the most partitions.
func (f *fleet) lose(ctx context.Context, sig syscall.Signal) error {
	i, err := f.victim(ctx)
	if err != nil {
		return err
	}
	_, err = f.stop(i, sig)
	f.runs[i] = nil
	return err
}

// roll starts every instance anew, each when the one before it says that it is ready.
func (f *fleet) roll(ctx context.Context) error {
	for i := range f.runs {
		if _, err := f.stop(i, syscall.SIGTERM); err != nil {
			return err
		}
		if err := f.start(ctx, i); err != nil {
			return err
		}
		if err := f.side.ready(ctx, f.runs[i]); err != nil {
			return err
		}
	}
	return nil
}

// memory compares what ebb resides in with the same customers in eight times as many partitions.
func (b *bench) memory(ctx context.Context, res *result) error {
	return b.alone(func() error {
		if err := b.fillTopics(ctx, b.finer(), &loaded{}); err != nil {
			return err
		}
		for _, t := range []topics{b.wide(), b.finer()} {
			m, err := b.footprint(ctx, t)
			if err != nil {
				return fmt.Errorf("%d partitions: %w", t.partitions, err)
			}
			res.Memory = append(res.Memory, m)
			b.log.Info("memory", "partitions", m.Partitions, "drained_mib", m.Drained, "drain_peak_mib", m.DrainPeak, "live_mib", m.Live)
		}
		return b.generate(ctx, nil, "-prefix", b.finer().prefix, "-delete")
	})
}

func (b *bench) footprint(ctx context.Context, t topics) (*footprint, error) {
	f := b.newFleet(ebbSide{}, t, 0)
	defer f.close()
	m := &footprint{Partitions: t.partitions}
	if err := f.start(ctx, 0); err != nil {
		return nil, err
	}
	if err := f.drain(ctx); err != nil {
		return nil, err
	}
	m.Drained = residentOf(f.runs[0].cmd.Process.Pid)
	u, err := f.stop(0, syscall.SIGTERM)
	if err != nil {
		return nil, err
	}
	m.DrainPeak = u.rss
	if err := f.start(ctx, 0); err != nil {
		return nil, err
	}
	p, err := f.probe(ctx, t)
	if err != nil {
		return nil, err
	}
	if err := p.settle(ctx, time.Time{}, 20*time.Second, 3*time.Minute); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	m.Live = residentOf(f.runs[0].cmd.Process.Pid)
	_, d, err := p.finish(ctx)
	return m, errors.Join(err, d.check())
}
