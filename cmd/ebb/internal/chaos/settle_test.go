//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"ebb/stream/kafkatest"
)

// settlePatience bounds how long ebb may take, after the last fault, to work off what is left.
const settlePatience = 2 * time.Minute

// judge waits until everything is worked off, stops all processes, and finds the verdict. Steps after the last event are not looked at.
func (r *round) judge(until int64) {
	r.t.Helper()
	records := map[string][]kafkatest.Record{}
	for _, f := range feeds {
		records[f] = r.cluster.ReadCommitted(r.t, r.topic(f))
	}
	want := judge(records, until)
	began := time.Now()
	worked := r.settle(want, until)
	r.note("worked off after %v", time.Since(began).Round(time.Millisecond))
	r.unwatch()
	for _, s := range r.slots {
		if !s.running() {
			continue
		}
		if worked != nil { // what it waits for stands in its log then
			if err := s.signal(syscall.SIGQUIT); err != nil {
				r.t.Error(err)
			}
			continue
		}
		if _, err := s.stop(); err != nil {
			r.t.Error(err)
		}
	}
	v := &verdict{}
	if worked != nil {
		v.add("not worked off", "%v", worked)
	}
	r.compare(v, want, until)
	r.steps = v.steps
	if len(v.faults) != 0 {
		r.t.Error(v.String())
	}
	for _, s := range r.slots {
		if what := s.crashed(); what != "" && !r.deadly[s.id] {
			r.t.Errorf("%v crashed:\n%s", s, what)
		}
	}
	for _, what := range r.slowStops {
		r.t.Errorf("stop: %s", what)
	}
}

// settle waits until every record is consumed, every expected step is there, and nothing is wrong any more.
func (r *round) settle(want expected, until int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), settlePatience)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		err := r.unsettled(want, until)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func (r *round) unsettled(want expected, until int64) error {
	if n := r.lag(); n != 0 {
		return fmt.Errorf("%d records are not consumed", n)
	}
	got, err := stepsOf(r.cluster.ReadCommitted(r.t, r.topic("alerts")), until)
	if err != nil {
		return err
	}
	if missing, _ := difference(want.steps, got); len(missing) != 0 {
		return fmt.Errorf("%d steps are missing, %v", len(missing), missing[0])
	}
	v := &verdict{} // what was forwarded is counted where it is read, and not where it is applied
	if v.compareCustomers(want.days, r.cluster.ReadCommitted(r.t, r.topic("ebb-changelog"))); len(v.faults) != 0 {
		return errors.New(v.faults[0])
	}
	return r.operations()
}

// lag is the number of records between the group's committed offsets and the ends of the feeds.
func (r *round) lag() (sum int64) {
	for _, f := range feeds {
		committed := r.cluster.GroupOffsets(r.t, r.topic("ebb"), r.topic(f))
		for p, end := range r.cluster.EndOffsets(r.t, r.topic(f)) {
			sum += end - max(0, committed[p])
		}
	}
	return sum
}

func (r *round) compare(v *verdict, want expected, until int64) {
	r.t.Helper()
	alerts := r.cluster.ReadCommitted(r.t, r.topic("alerts"))
	v.compareSteps(want.steps, alerts, until)
	v.compareOrder(alerts, r.cluster.ReadCommitted(r.t, r.topic("open")))
	v.compareLetters(want.letters, r.cluster.ReadCommitted(r.t, r.topic("ebb-dlq")))
	v.compareCustomers(want.days, r.cluster.ReadCommitted(r.t, r.topic("ebb-changelog")))
	raw := map[string][]written{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	topics := []string{"ebb-changelog", "alerts", "open", "ebb-dlq"}
	if r.misplaces() {
		topics = append(topics, "reroute")
	}
	for _, name := range topics {
		all, err := readRaw(ctx, r.cluster.Addrs, r.topic(name), r.cluster.EndOffsets(r.t, r.topic(name)))
		if err != nil {
			r.t.Fatal(err)
		}
		raw[name] = all
		v.compareEpochs(all)
	}
	v.compareOwners(v.owners(raw["ebb-changelog"]), raw["alerts"], partitions)
}

// operations is what ebb says of itself and has not taken back: something that it did not get over.
func (r *round) operations() error {
	open := map[string]string{}
	for _, rec := range r.cluster.ReadCommitted(r.t, r.topic("operations")) {
		var a struct{ Detector, Status, Summary string }
		if err := json.Unmarshal(rec.Value, &a); err != nil {
			return fmt.Errorf("operational alert %s: %w", rec.Value, err)
		}
		if open[string(rec.Key)] = a.Detector + ": " + a.Summary; a.Status == "resolved" {
			delete(open, string(rec.Key))
		}
	}
	for _, what := range open {
		return fmt.Errorf("an operational alert is open: %s", what)
	}
	return nil
}

// report prints what has to be known of a round, and keeps the logs of one that failed.
func (r *round) report() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, k := range r.kinds {
		n += k
	}
	r.t.Logf("seed %d: %d faults in %v, %d alert steps compared; %d times a process ended by itself and was started again",
		r.seed, n, time.Since(r.began).Round(time.Second), r.steps, r.deaths)
	if err := os.WriteFile(filepath.Join(r.dir, "timeline"), []byte(strings.Join(r.timeline, "\n")+"\n"), 0o644); err != nil {
		r.t.Error(err)
	}
	if !r.t.Failed() {
		if *keepFlag == "" {
			r.t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(r.dir)) })
		}
		return
	}
	r.t.Logf("timeline:\n%s", strings.Join(r.timeline, "\n"))
	for _, s := range r.slots {
		r.t.Logf("end of the log of %v:\n%s", s, s.lastLines(15))
	}
	r.t.Logf("logs and timeline are in %s\nagain: make chaos CHAOS_FLAGS='-seed %d -faults %d -per-round %d -instances %d -rate %g -customers %d'",
		r.dir, r.seed, r.faults, r.faults, *instancesFlag, *rateFlag, *customersFlag)
}

// stampEarly are the events of the very beginning, as of now.
func (l *load) stampEarly(now int64) []happening {
	out := slices.Clone(l.early)
	for i := range out {
		out[i].at = now
		l.name(&out[i])
		l.last[out[i].customer] = now
	}
	return out
}
