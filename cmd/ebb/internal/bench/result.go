//go:build linux

package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// result is everything that was measured. The names of the JSON members are those of the peer's script, so that both sides
// are read by one type.
type result struct {
	Date       string        `json:"date"`
	CPUs       int           `json:"cpus"`
	Go         string        `json:"go"`
	Events     int           `json:"events"`
	Customers  int           `json:"customers"`
	Partitions int           `json:"partitions"`
	Rate       int           `json:"live_events_per_s"`
	Load       loaded        `json:"load"`
	Drain      pair[drained] `json:"drain"`
	Latency    pair[lively]  `json:"latency"`

	Many     int              `json:"many_customers"` // of what follows
	Session  float64          `json:"session_timeout_s"`
	Delay    string           `json:"broker_group_initial_rebalance_delay_ms"`
	Wide     loaded           `json:"fill"`
	Restart  cases[restarted] `json:"restart"`
	Failover cases[outage]    `json:"failover"`
	Memory   []*footprint     `json:"memory,omitempty"`
	Methods  []*methodDrained `json:"methods,omitempty"`
}

// methodDrained is one drain by one method of silence and spend_drop.
type methodDrained struct {
	Method string `json:"method"`
	drained
}

// cases are the cases of a part in the order in which they ran, each of both sides.
type cases[T any] []*sided[T]

type sided[T any] struct {
	Case string `json:"case"`
	Ebb  *T     `json:"ebb,omitempty"`
	Peer *T     `json:"peer,omitempty"`
}

// put keeps what was measured of one side.
func (c *cases[T]) put(name string, s side, what *T) {
	i := slices.IndexFunc(*c, func(have *sided[T]) bool { return have.Case == name })
	if i < 0 {
		i = len(*c)
		*c = append(*c, &sided[T]{Case: name})
	}
	if s == (ebbSide{}) {
		(*c)[i].Ebb = what
	} else {
		(*c)[i].Peer = what
	}
}

// of returns the case of a name, an empty one if it did not run.
func (c cases[T]) of(name string) *sided[T] {
	for _, have := range c {
		if have.Case == name {
			return have
		}
	}
	return &sided[T]{Case: name}
}

// pair is a part of ebb and of one case of the peer; nil what did not run.
type pair[T any] struct {
	Ebb      *T     `json:"ebb,omitempty"`
	Peer     *T     `json:"peer,omitempty"`
	PeerCase string `json:"peer_case,omitempty"`
}

type loaded struct {
	Events  int64   `json:"events"`
	Bytes   int64   `json:"raw_bytes"`
	Seconds float64 `json:"seconds"`
	Start   string  `json:"start"`
	End     string  `json:"end"`
}

// drained is one drain from empty state. Seconds count from the start of the process to the last record applied; CPU is that
// of the whole process, its clean end included.
type drained struct {
	Events              int64   `json:"events"`
	Seconds             float64 `json:"seconds"`
	LagZero             float64 `json:"lag_zero_s,omitempty"` // until the group's committed offsets are at the end
	SecondsClosed       float64 `json:"seconds_closed"`
	StopSeconds         float64 `json:"stop_s,omitempty"`
	PerSecond           float64 `json:"events_per_s"`
	SteadyPerSecond     float64 `json:"steady_events_per_s"` // without the first fifth
	CPU                 float64 `json:"cpu_s"`
	CPUPerMillion       float64 `json:"cpu_s_per_million"`
	SteadyCPUPerMillion float64 `json:"steady_cpu_s_per_million"`
	BrokerCPUPerMillion float64 `json:"broker_cpu_s_per_million"`
	PeakRSS             float64 `json:"peak_rss_mib"`
	StateBytes          int64   `json:"state_dir_bytes"`
	Alerts              int64   `json:"alerts"`
}

// lively is one run of live load, latency from an event's time to its alert's arrival at a read_committed subscriber.
type lively struct {
	delivery
	Sent                float64 `json:"sent"`
	Samples             int64   `json:"samples"`
	P50                 float64 `json:"p50_ms"`
	P99                 float64 `json:"p99_ms"`
	P999                float64 `json:"p999_ms"`
	Max                 float64 `json:"max_ms"`
	CPUPerMillion       float64 `json:"cpu_s_per_million"`
	BrokerCPUPerMillion float64 `json:"broker_cpu_s_per_million"`
	RSS                 float64 `json:"rss_mib"`
}

// delivery is what has to be 0 in every run.
type delivery struct {
	Missing    int64 `json:"missing"`
	Duplicates int64 `json:"duplicates"`
}

func (d delivery) check() error {
	if d.Missing != 0 || d.Duplicates != 0 {
		return fmt.Errorf("%d alerts are missing, %d stand twice: no figures of this run are worth anything", d.Missing, d.Duplicates)
	}
	return nil
}

// restarted is one restart of the only instance under live load; seconds from the start of the new process.
type restarted struct {
	delivery
	Stop      float64 `json:"stop_s"`
	First     float64 `json:"first_alert_s"`               // until the first alert arrives for a complaint opened since
	All       float64 `json:"all_partitions_s"`            // until each partition has had one
	Gap       float64 `json:"worst_alert_gap_ms"`          // the longest that an alert took
	Changelog int64   `json:"changelog_records,omitempty"` // that had to be read; 0 where the state was kept
}

// outage is what live load sees of a disturbance of three instances.
type outage struct {
	delivery
	Served    float64 `json:"served_again_s"` // from the disturbance until each partition has had an alert for a complaint opened since
	Gap       float64 `json:"worst_alert_gap_ms"`
	Disturbed int     `json:"partitions_disturbed"` // that had an alert which took longer than a second
}

// footprint is what one instance of ebb resides in, MiB.
type footprint struct {
	Partitions int     `json:"partitions"`
	Drained    float64 `json:"drained_mib"`
	DrainPeak  float64 `json:"drain_peak_mib"`
	Live       float64 `json:"live_mib"` // started anew on what it had, after at least 20 s of live load
}

// caseName is what a way to restart is called.
func caseName(sig syscall.Signal, wiped bool) string {
	name := map[syscall.Signal]string{syscall.SIGTERM: "SIGTERM", syscall.SIGKILL: "SIGKILL"}[sig]
	if wiped {
		return name + ", state wiped"
	}
	return name + ", state kept"
}

func newResult(b *bench) *result {
	return &result{
		Date: b.now().UTC().Format(time.DateTime), CPUs: runtime.NumCPU(), Go: runtime.Version(),
		Events: b.events, Customers: b.customers, Partitions: b.partitions, Rate: b.rate,
		Many: b.many, Session: b.session.Seconds(), Delay: b.delay,
	}
}

// measured says whether there is anything to show.
func (r *result) measured() bool {
	return r.Drain != (pair[drained]{}) || r.Latency != (pair[lively]{}) || len(r.Restart) > 0 || len(r.Failover) > 0 || len(r.Memory) > 0 || len(r.Methods) > 0
}

// print writes the table, in Markdown. The last column is how many times less (or, for events/s, more) ebb needs: above 1 it is ahead.
func (r *result) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%s UTC, %d CPUs, %s, %d partitions. Drain and latency: %d events of %d customers. Restart, failover and memory: %d customers; session timeout %g s, group.initial.rebalance.delay.ms %s.\n\n",
		r.Date, r.CPUs, r.Go, r.Partitions, r.Events, r.Customers, r.Many, r.Session, r.Delay)
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprint(t, "|\t| ebb\t| Kafka Streams\t| ebb is ahead by\t|\n|---\t|---\t|---\t|---\t|\n")
	if r.Drain != (pair[drained]{}) {
		r.drainRows(t)
	}
	if r.Latency != (pair[lively]{}) {
		r.latencyRows(t)
	}
	r.restartRows(t)
	r.failoverRows(t)
	r.memoryRows(t)
	r.methodRows(t)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range []struct{ part, name string }{{"drain", r.Drain.PeerCase}, {"latency", r.Latency.PeerCase}} {
		if c.name != "" {
			fmt.Fprintf(w, "\nKafka Streams, %s: %s\n", c.part, c.name)
		}
	}
	return nil
}

func (r *result) drainRows(t io.Writer) {
	e, p := orZero(r.Drain.Ebb), orZero(r.Drain.Peer)
	row(t, "drain, CPU-s per million events", "%.2f", e.CPUPerMillion, p.CPUPerMillion, less)
	row(t, "drain, steady CPU-s per million", "%.2f", e.SteadyCPUPerMillion, p.SteadyCPUPerMillion, less)
	row(t, "drain, thousand events/s", "%.0f", e.PerSecond/1e3, p.PerSecond/1e3, more)
	row(t, "drain, steady thousand events/s", "%.0f", e.SteadyPerSecond/1e3, p.SteadyPerSecond/1e3, more)
	row(t, "drain, s from start to closed", "%.1f", e.SecondsClosed, p.SecondsClosed, less)
	row(t, "drain, broker CPU-s per million", "%.2f", e.BrokerCPUPerMillion, p.BrokerCPUPerMillion, less)
	row(t, "drain, peak RSS MiB", "%.0f", e.PeakRSS, p.PeakRSS, less)
	row(t, "drain, state dir MB", "%.0f", float64(e.StateBytes)/1e6, float64(p.StateBytes)/1e6, less)
	row(t, "drain, alert steps", "%.0f", float64(e.Alerts), float64(p.Alerts), neither)
}

func (r *result) latencyRows(t io.Writer) {
	e, p := orZero(r.Latency.Ebb), orZero(r.Latency.Peer)
	for _, q := range []struct {
		name string
		e, p float64
	}{{"p50", e.P50, p.P50}, {"p99", e.P99, p.P99}, {"p99.9", e.P999, p.P999}, {"max", e.Max, p.Max}} {
		row(t, fmt.Sprintf("live at %d/s, event to alert %s ms", r.Rate, q.name), "%.1f", q.e, q.p, less)
	}
	row(t, "live, CPU-s per million events", "%.1f", e.CPUPerMillion, p.CPUPerMillion, less)
	row(t, "live, RSS MiB", "%.0f", e.RSS, p.RSS, less)
}

func (r *result) restartRows(t io.Writer) {
	for _, c := range r.Restart {
		e, p := orZero(c.Ebb), orZero(c.Peer)
		name := "restart (" + c.Case + "), "
		row(t, name+"first alert s", "%.2f", e.First, p.First, less)
		row(t, name+"all partitions s", "%.2f", e.All, p.All, less)
		row(t, name+"worst alert gap ms", "%.0f", e.Gap, p.Gap, less)
		if e.Changelog+p.Changelog > 0 {
			row(t, name+"thousand changelog records", "%.0f", float64(e.Changelog)/1e3, float64(p.Changelog)/1e3, neither)
			row(t, name+"thousand of them a second, start of the process included", "%.0f", perSecond(e, &restarted{}), perSecond(p, &restarted{}), more)
			kept := r.Restart.of(strings.Replace(c.Case, "wiped", "kept", 1))
			row(t, name+"the same, less the start with state kept", "%.0f", perSecond(e, kept.Ebb), perSecond(p, kept.Peer), more)
		}
	}
}

// perSecond is at how many thousand records a second the changelog was read, from the start of the process to work in all
// partitions, less what a start takes that need not read it. 0 if that is not known.
func perSecond(wiped, kept *restarted) float64 {
	if kept == nil || wiped.All <= kept.All {
		return 0
	}
	return float64(wiped.Changelog) / (wiped.All - kept.All) / 1e3
}

func (r *result) failoverRows(t io.Writer) {
	for _, c := range r.Failover {
		e, p := orZero(c.Ebb), orZero(c.Peer)
		if !strings.HasPrefix(c.Case, "rolling") { // which goes on while some are served again
			row(t, c.Case+": all served again after s", "%.2f", e.Served, p.Served, less)
		}
		row(t, c.Case+": worst alert gap ms", "%.0f", e.Gap, p.Gap, less)
		row(t, c.Case+": partitions whose alerts took over 1 s", "%.0f", float64(e.Disturbed), float64(p.Disturbed), neither)
	}
}

func (r *result) memoryRows(t io.Writer) {
	for _, m := range r.Memory {
		row(t, fmt.Sprintf("%d partitions, RSS MiB live", m.Partitions), "%.0f", m.Live, 0, neither)
		row(t, fmt.Sprintf("%d partitions, RSS MiB drained", m.Partitions), "%.0f", m.Drained, 0, neither)
		row(t, fmt.Sprintf("%d partitions, peak RSS MiB of the drain", m.Partitions), "%.0f", m.DrainPeak, 0, neither)
	}
}

// methodRows have a column of their own meaning: ebb by the plain rules beside ebb by the model.
func (r *result) methodRows(t io.Writer) {
	if len(r.Methods) == 0 {
		return
	}
	least := map[string]*drained{}
	for _, m := range r.Methods {
		if have := least[m.Method]; have == nil || m.CPU < have.CPU {
			least[m.Method] = &m.drained
		}
	}
	plain, model := orZero(least["plain"]), orZero(least["model"])
	fmt.Fprint(t, "| **ebb by the model, beside ebb by the plain rules**\t| model\t| plain\t| model needs\t|\n")
	for _, l := range []struct {
		name         string
		model, plain float64
	}{
		{"drain, CPU-s per million events", model.CPUPerMillion, plain.CPUPerMillion},
		{"drain, s from start to closed", model.SecondsClosed, plain.SecondsClosed},
		{"drain, peak RSS MiB", model.PeakRSS, plain.PeakRSS},
		{"drain, state dir MB", float64(model.StateBytes) / 1e6, float64(plain.StateBytes) / 1e6},
		{"drain, alert steps", float64(model.Alerts), float64(plain.Alerts)},
	} {
		fmt.Fprintf(t, "| %s\t| %.2f\t| %.2f\t| %.2f x\t|\n", l.name, l.model, l.plain, l.model/max(l.plain, 1e-9))
	}
}

func orZero[T any](p *T) *T {
	if p == nil {
		p = new(T)
	}
	return p
}

// better says which way a figure is good.
type better uint8

const (
	less better = iota
	more
	neither
)

// row writes a line; a figure of 0 was not measured.
func row(w io.Writer, name, format string, ebb, peer float64, good better) {
	show := func(v float64) string {
		if v == 0 {
			return "-"
		}
		return fmt.Sprintf(format, v)
	}
	ratio := "-"
	switch {
	case ebb == 0 || peer == 0 || good == neither:
	case good == less:
		ratio = fmt.Sprintf("%.1f x", peer/ebb)
	case good == more:
		ratio = fmt.Sprintf("%.1f x", ebb/peer)
	}
	fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t|\n", name, show(ebb), show(peer), ratio)
}
