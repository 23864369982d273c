//go:build linux

package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseSeries(t *testing.T) {
	s, err := parseSeries(strings.NewReader(`# HELP ebb_records_consumed_total Records.
# TYPE ebb_records_consumed_total counter
ebb_records_consumed_total{feed="usage"} 12
ebb_records_consumed_total{feed="a name, with } and blanks"} 3
ebb_records_consumed_total_more 100
ebb_up 1e+06

`))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.sum("ebb_records_consumed_total"); got != 15 {
		t.Errorf("the sum over all labels, and of no longer name: got %v, want 15", got)
	}
	if got := s.sum("ebb_up"); got != 1e6 {
		t.Errorf("a series without labels: got %v, want 1e6", got)
	}
	if got := s.sum("absent"); got != 0 {
		t.Errorf("an absent series: got %v, want 0", got)
	}
}

func TestTakePeer(t *testing.T) {
	var r result
	for part, out := range map[string]string{
		"drain":   `{"date":"2026-11-21","heap":"3g","drain":{"eos, 1 thread":{"events":5,"seconds":39.1,"events_per_s":128000,"cpu_s_per_million":9.0,"peak_rss_mib":1797,"changelog":{"states":{"bytes":1}},"alerts":50583}}}`,
		"latency": `{"latency":{"eos, default":{"p50_ms":85.6,"p99_ms":178,"missing":0,"duplicates":0,"sent":300000,"rss_mib":1156}}}`,
	} {
		if err := r.takePeer(part, []byte(out)); err != nil {
			t.Fatal(err)
		}
	}
	if d := r.Drain.Peer; d == nil || d.CPUPerMillion != 9 || d.PerSecond != 128000 || d.Alerts != 50583 || r.Drain.PeerCase != "eos, 1 thread" {
		t.Errorf("drain: %+v, case %q", d, r.Drain.PeerCase)
	}
	if l := r.Latency.Peer; l == nil || l.P50 != 85.6 || l.Sent != 300000 {
		t.Errorf("latency: %+v", l)
	}
	if err := r.takePeer("drain", []byte(`{"drain":{"a":{},"b":{}}}`)); err == nil {
		t.Error("two cases were taken for one")
	}
}

func TestTable(t *testing.T) {
	r := result{Events: 5_000_000, Customers: 200_000, Partitions: 8, CPUs: 2, Go: "go1.26", Rate: 5000, Date: "2026-11-21 10:00:00"}
	r.Drain.Ebb = &drained{CPUPerMillion: 1.5, PerSecond: 500_000, PeakRSS: 300, Alerts: 50000}
	r.Drain.Peer = &drained{CPUPerMillion: 9, PerSecond: 125_000, PeakRSS: 1800, Alerts: 50000}
	r.Drain.PeerCase = "eos"
	for _, c := range []struct {
		wiped bool
		side  side
		what  *restarted
	}{
		{false, ebbSide{}, &restarted{First: 1, All: 1.5}},
		{true, ebbSide{}, &restarted{First: 2, All: 3.5, Gap: 2500, Changelog: 1_000_000}},
		{true, streamsSide{}, &restarted{First: 8, All: 10, Gap: 12500, Changelog: 1_000_000}},
	} {
		r.Restart.put(caseName(syscall.SIGKILL, c.wiped), c.side, c.what)
	}
	r.Failover.put("kill -9 of one of three, 1 standby", ebbSide{}, &outage{Served: 10.5, Gap: 10400, Disturbed: 3})
	r.Failover.put("kill -9 of one of three, 1 standby", streamsSide{}, &outage{Served: 21, Gap: 20800, Disturbed: 3})
	r.Memory = append(r.Memory, &footprint{Partitions: 64, Live: 512})
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| drain, CPU-s per million events | 1.50 | 9.00 | 6.0 x |",
		"| drain, thousand events/s | 500 | 125 | 4.0 x |",
		"| drain, alert steps | 50000 | 50000 | - |",
		"| restart (SIGKILL, state kept), first alert s | 1.00 | - | - |",
		"| restart (SIGKILL, state wiped), first alert s | 2.00 | 8.00 | 4.0 x |",
		"a second, start of the process included | 286 | 100 | 2.9 x |",
		"the same, less the start with state kept | 500 | - | - |",
		"| kill -9 of one of three, 1 standby: all served again after s | 10.50 | 21.00 | 2.0 x |",
		"| 64 partitions, RSS MiB live | 512 | - | - |",
		"Kafka Streams, drain: eos",
	} {
		if !strings.Contains(squeeze(out.String()), squeeze(want)) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

// squeeze makes every run of blanks one.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestARunWithWrongAlertsHasNoFigures(t *testing.T) {
	for _, d := range []delivery{{Missing: 1}, {Duplicates: 1}} {
		if d.check() == nil {
			t.Errorf("%+v was accepted", d)
		}
	}
	if err := (delivery{}).check(); err != nil {
		t.Error(err)
	}
}

func TestCopyNewerLeavesWhatIsTheSame(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	write := func(name, body string) {
		t.Helper()
		p := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(body), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	write("run", "1")
	write("src/a", "1")
	write("target/built", "1")
	if err := copyNewer(from, to, nil); err != nil {
		t.Fatal(err)
	}
	old := time.Unix(1e9, 0)
	if err := os.Chtimes(filepath.Join(to, "run"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(from, "src/a")); err != nil {
		t.Fatal(err)
	}
	write("src/a", "2")
	if err := copyNewer(from, to, nil); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(to, "run")); err != nil || !st.ModTime().Equal(old) {
		t.Errorf("the same file was written again: %v %v", st, err)
	}
	if body, err := os.ReadFile(filepath.Join(to, "src/a")); err != nil || string(body) != "2" {
		t.Errorf("a file that differs: %q %v, want 2", body, err)
	}
	if _, err := os.Stat(filepath.Join(to, "target")); !os.IsNotExist(err) {
		t.Errorf("what was built there is not copied: %v", err)
	}
}

func TestListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if got := listener(port); got != os.Getpid() {
		t.Errorf("got pid %d, want our own, %d", got, os.Getpid())
	}
	if cpuOf(os.Getpid()) < 0 || cpuOf(-1) != 0 {
		t.Error("CPU seconds: want none of a process that is not there")
	}
}

func TestParts(t *testing.T) {
	if _, err := parse([]string{"drian"}); err == nil || !strings.Contains(err.Error(), "drian") {
		t.Errorf("a part that is none: got %v", err)
	}
	o, err := parse([]string{"-events", "50000", "drain"})
	if err != nil || o.customers != 2000 || len(o.parts) != 1 {
		t.Errorf("got %+v, %v; want 2000 customers and one part", o, err)
	}
}

func TestCopyChangesWhatItIsToldTo(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "job"), []byte("a b c"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := copyNewer(from, to, map[string]change{"job": {"b", "b2"}}); err != nil {
		t.Fatal(err)
	}
	if body, _ := os.ReadFile(filepath.Join(to, "job")); string(body) != "a b2 c" {
		t.Errorf("got %q", body)
	}
	if err := copyNewer(from, to, map[string]change{"job": {"x", "y"}}); err == nil {
		t.Error("a file that lacks what is to be changed was copied")
	}
}
