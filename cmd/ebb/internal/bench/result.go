//go:build linux

package main

import (
	"fmt"
	"io"
	"runtime"
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
	Restart    struct {
		Ebb  map[string]*restarted `json:"ebb,omitempty"`
		Peer map[string]*restarted `json:"peer,omitempty"`
	} `json:"restart"`
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

// restarted is one restart under live load; seconds from the start of the new process.
type restarted struct {
	delivery
	Stop  float64 `json:"stop_s"`
	First float64 `json:"first_record_s"`     // until the first new event is applied
	Live  float64 `json:"all_partitions_s"`   // until every partition is at work
	Gap   float64 `json:"worst_alert_gap_ms"` // the longest that an alert took
}

func newResult(b *bench) *result {
	return &result{
		Date: b.now().UTC().Format(time.DateTime), CPUs: runtime.NumCPU(), Go: runtime.Version(),
		Events: b.events, Customers: b.customers, Partitions: b.partitions, Rate: b.rate,
	}
}

// measured says whether there is anything to show.
func (r *result) measured() bool {
	return r.Drain.Ebb != nil || r.Latency.Ebb != nil || len(r.Restart.Ebb) > 0
}

// print writes the table. The last column is how many times less (or, for events/s, more) ebb needs: above 1 it is ahead.
func (r *result) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%d events of %d customers, %d partitions, %d CPUs, %s, %s UTC\n\n", r.Events, r.Customers, r.Partitions, r.CPUs, r.Go, r.Date)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\tebb\tKafka Streams\tebb is ahead by\t\n")
	if r.Drain.Ebb != nil {
		r.drainRows(t)
	}
	if r.Latency.Ebb != nil {
		r.latencyRows(t)
	}
	r.restartRows(t)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range []struct{ part, name string }{{"drain", r.Drain.PeerCase}, {"latency", r.Latency.PeerCase}} {
		if c.name != "" {
			fmt.Fprintf(w, "Kafka Streams, %s: %s\n", c.part, c.name)
		}
	}
	return nil
}

func (r *result) drainRows(t io.Writer) {
	e, p := r.Drain.Ebb, orZero(r.Drain.Peer)
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
	e, p := r.Latency.Ebb, orZero(r.Latency.Peer)
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
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for _, wiped := range []bool{false, true} {
			name := caseName(sig, wiped)
			e := r.Restart.Ebb[name]
			if e == nil {
				continue
			}
			p := orZero(r.Restart.Peer[name])
			short := strings.ReplaceAll(name, "state dir ", "state ")
			row(t, "restart ("+short+"), first event s", "%.2f", e.First, p.First, less)
			row(t, "restart ("+short+"), worst alert gap ms", "%.0f", e.Gap, p.Gap, less)
		}
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
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\n", name, show(ebb), show(peer), ratio)
}
