//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// engine is one process of ebb, or of the peer, seen from outside.
type engine struct {
	cmd    *exec.Cmd
	began  time.Time
	listen string // where ebb serves its metrics
	log    string
	ended  chan struct{}
	usage  *syscall.Rusage
	err    error
	now    func() time.Time
}

// ebbRun is what differs between the processes of ebb.
type ebbRun struct {
	group, dir, prefix string
	client             string // client id; empty: ebb's own
	standbys           int
	session            time.Duration // of the group; 0: ebb's default
	method             string        // of silence and spend_drop; empty: plain
}

// start runs `ebb run` with the bench's configuration.
func (b *bench) start(ctx context.Context, r ebbRun) (*engine, error) {
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, b.ebb, "run", "-c", b.config)
	cmd.Env = append(os.Environ(), "KAFKA_BROKERS="+b.brokers, "BENCH_PREFIX="+r.prefix, "BENCH_GROUP="+r.group, "STATE_DIR="+r.dir, "EBB_LISTEN="+listen,
		"BENCH_CLIENT="+cmp.Or(r.client, "ebb"), "BENCH_SESSION="+cmp.Or(r.session, 10*time.Second).String(),
		"BENCH_STANDBY="+strconv.Itoa(r.standbys), "BENCH_METHOD="+cmp.Or(r.method, "plain"))
	e, err := b.launch(cmd, r.group+r.client)
	if err != nil {
		return nil, err
	}
	e.listen = listen
	return e, nil
}

// launch starts a process whose output goes to a file of the given name.
func (b *bench) launch(cmd *exec.Cmd, name string) (*engine, error) {
	log, err := os.OpenFile(filepath.Join(b.tmp, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	e := &engine{cmd: cmd, log: log.Name(), ended: make(chan struct{}), now: b.now}
	cmd.Stdout, cmd.Stderr = log, log
	e.began = b.now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		e.err = cmd.Wait()
		e.usage, _ = cmd.ProcessState.SysUsage().(*syscall.Rusage)
		close(e.ended)
	}()
	return e, nil
}

// freeAddress is one that nobody listens on at the moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // of this machine; it does not wait
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (e *engine) seconds() float64 { return e.now().Sub(e.began).Seconds() }

// stop sends the signal and waits for the end, 60 s at most.
func (e *engine) stop(sig syscall.Signal) (usage, error) {
	began := e.now()
	if err := e.cmd.Process.Signal(sig); err != nil {
		return usage{}, fmt.Errorf("the process is gone: %w; see %s", err, e.log)
	}
	select {
	case <-e.ended:
	case <-time.After(time.Minute):
		e.kill()
		return usage{}, fmt.Errorf("the process did not end within a minute of %v; see %s", sig, e.log)
	}
	if code := e.cmd.ProcessState.ExitCode(); sig == syscall.SIGTERM && code != 0 && code != 128+int(sig) { // the latter is how a JVM ends
		return usage{}, fmt.Errorf("the process ended with %w on SIGTERM; see %s", e.err, e.log)
	}
	return usage{
		cpu:  tv(e.usage.Utime) + tv(e.usage.Stime),
		rss:  float64(e.usage.Maxrss) / 1024,
		took: e.now().Sub(began).Seconds(),
	}, nil
}

// kill ends the process, if it runs, and waits for its end.
func (e *engine) kill() {
	if e == nil {
		return
	}
	_ = e.cmd.Process.Kill()
	<-e.ended
}

func tv(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }

// usage of a process over its life: CPU seconds of user and system, peak resident MiB, seconds that stopping took.
type usage struct{ cpu, rss, took float64 }

// series is one scrape: the value of each series as it is written.
type series map[string]float64

// sum adds up all series of a name.
func (s series) sum(name string) (total float64) {
	for k, v := range s {
		if k == name || strings.HasPrefix(k, name+"{") {
			total += v
		}
	}
	return total
}

// scrape reads /metrics. Until ebb listens it returns an error that means nothing.
func (e *engine) scrape(ctx context.Context) (series, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.listen+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return parseSeries(resp.Body)
}

// ready asks /-/ready.
func (e *engine) ready(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.listen+"/-/ready", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// parseSeries reads the text format, as far as it is written by one library: NAME{LABELS} VALUE.
func parseSeries(r io.Reader) (series, error) {
	s := series{}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	for lines.Scan() {
		line := lines.Bytes()
		i := bytes.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(string(line[i+1:]), 64); err == nil {
			s[string(line[:i])] = v
		}
	}
	return s, lines.Err()
}

// await scrapes every so often until ok, and fails when the process ends or ctx does.
func (e *engine) await(ctx context.Context, every time.Duration, what string, ok func(series) bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if s, err := e.scrape(ctx); err == nil && ok(s) {
			return nil
		}
		select {
		case <-e.ended:
			return fmt.Errorf("the process ended while waiting until %s: %w; see %s", what, e.err, e.log)
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w; see %s", what, ctx.Err(), e.log)
		case <-tick.C:
		}
	}
}

// cpuOf returns the CPU seconds of a running process so far; 0 if it cannot be read.
func cpuOf(pid int) float64 {
	body, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// the name, which may hold anything, ends at the last parenthesis; utime and stime are the 12th and 13th field after it
	f := strings.Fields(string(body[bytes.LastIndexByte(body, ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100 // USER_HZ, 100 on Linux
}

// residentOf returns the resident MiB of a running process, 0 if they cannot be read.
func residentOf(pid int) float64 {
	body, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(body)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, _ := strconv.ParseFloat(f[1], 64)
			return kib / 1024
		}
	}
	return 0
}

// listener returns the pid of the process that listens on a port of this machine; 0 if it is elsewhere.
func listener(port string) int {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0
	}
	inode := ""
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		body, _ := os.ReadFile(table)
		for line := range strings.Lines(string(body)) {
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", n)) {
				inode = "socket:[" + f[9] + "]"
			}
		}
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == inode {
			pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
			return pid
		}
	}
	return 0
}
