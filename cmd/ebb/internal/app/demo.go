package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"ebb/cmd/ebb/internal/cli"
	"ebb/cmd/ebb/internal/config"
	"ebb/cmd/ebb/internal/console"
	"ebb/cmd/ebb/internal/demo"
	"ebb/cmd/ebb/internal/simulate"
	"ebb/stream/conn"
	"ebb/stream/tail"
)

// startConfig is what the demo is made of, and what somebody begins with on brokers of his own.
const startConfig = `group: %s
brokers: [%q]
state: {dir: %q, disk_reserve: %s}
feeds:
  usage: {topic: usage}
  payments: {topic: payments}
  complaints: {topic: complaints}
  customers: {topic: customers}
  control: {topic: %s}
topics: {create: true}
http: {listen: %q}
`

// demoPace is what the demo changes of the defaults. A simulated day passes in a second, so what compares with event time is
// longer than in life, and what is of the process is shorter. The crowd sleeps eight hours: a stall after 12 would be one that
// a machine busy for a sixth of a second invents.
const demoPace = `stall: {after: 24h, expected_records: 60}
cut: {max_age: 500ms}
fetch: {max_wait: 50ms}
log: {level: warn}
`

const demoPartitions = 4

// Acts of people come from another terminal and bear the time of life. They are written to actsTopic, moved to the simulated time, and go on to the topic that the
// engine reads.
const (
	actsTopic    = "acts"
	controlTopic = "control"
)

// demoStart is where the crowd's history begins. It is always the same: a seed that gave another crowd tomorrow would repeat nothing.
func demoStart() time.Time { return time.Date(2025, time.July, 21, 0, 0, 0, 0, time.UTC) }

// Demo is `ebb demo`: an embedded broker, a simulated crowd, and the same graph as Run.
func Demo(ctx context.Context, opt cli.DemoOptions, out cli.Streams, version string, o Outside) error {
	if opt.PrintConfig {
		cfg, err := loadStart(opt.Listen)
		if err != nil {
			return err
		}
		return cfg.Print(out.Stdout)
	}
	if n := clearDemos(os.TempDir()); n > 0 {
		fmt.Fprintf(out.Stderr, "removed what %d killed demos had left in %s\n", n, os.TempDir())
	}
	folder, err := openDemoFolder(os.TempDir())
	if err != nil {
		return fmt.Errorf("folder for the local state: %w", err)
	}
	dir := folder.path
	defer func() {
		if err := folder.remove(); err != nil {
			fmt.Fprintf(out.Stderr, "the demo's folder stays: %v\n", err)
		}
	}()
	o.Log = slog.New(slog.NewTextHandler(out.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	l, err := listenNext(ctx, opt.Listen, out)
	if err != nil {
		return err
	}
	broker, err := demo.StartBroker(ctx, demoTopics())
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer broker.Close()
	listen := l.Addr().String()
	cfg, err := loadDemo(broker.Addrs()[0], filepath.Join(dir, "state"), listen)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	beside := filepath.Join(dir, "ebb.yaml")
	if err := os.WriteFile(beside, []byte(demoText(broker.Addrs()[0], filepath.Join(dir, "state"), listen, actsTopic)), 0o600); err != nil {
		return errors.Join(fmt.Errorf("configuration for other terminals: %w", err), l.Close())
	}
	welcome(out, broker.Addrs()[0], beside, listen, opt)
	return runDemo(ctx, opt, out, version, o, cfg, broker, l, beside)
}

func runDemo(ctx context.Context, opt cli.DemoOptions, out cli.Streams, version string, o Outside, cfg *config.Config, broker *demo.Broker, l net.Listener, config string) error {
	cluster, err := conn.New(cfg.Connection())
	if err != nil {
		return err
	}
	defer cluster.Close()
	book := console.NewBook()
	engine := &demoEngine{cfg: cfg, version: version}
	d := demo.New(demo.Options{
		Seed: opt.Seed, Crowd: simulate.New(opt.Seed, simulate.Options{Start: demoStart()}), Producer: broker, Engine: engine, Book: book, For: opt.For, Tick: o.Tick, Config: config,
		Topics: map[simulate.Feed]string{
			simulate.Usage: cfg.Feeds.Usage.Topic, simulate.Payments: cfg.Feeds.Payments.Topic,
			simulate.Complaints: cfg.Feeds.Complaints.Topic, simulate.Customers: cfg.Feeds.Customers.Topic,
		},
	})
	o.Now = d.Now
	engine.outside = o
	src, err := newSource(cfg, version, o)
	if err != nil {
		return err
	}
	if err := prepareTopics(ctx, cfg, cluster, o.Log); err != nil {
		return err
	}
	page, err := newPage(cfg, l, src, book, d, o)
	if err != nil {
		return err
	}
	engine.page = page
	var beside group
	beside.ctx, beside.cancel = context.WithCancel(context.WithoutCancel(ctx))
	beside.start("page", o.Log, page.Run)
	beside.start("page's view of the alerts", o.Log, func(ctx context.Context) error {
		return page.Follow(ctx, cfg, cluster, d.Now, d.Observe)
	})
	beside.start("acts from other terminals", o.Log, func(ctx context.Context) error { return relayActs(ctx, cluster, broker, d, o) })
	if !opt.NoBrowser {
		openBrowser(ctx, "http://"+l.Addr().String())
	}
	err = d.Run(ctx)
	beside.stop()
	return errors.Join(err, summarize(out, d.Summary(), opt.JSON))
}

// loadDemo reads the demo's configuration the way every configuration is read.
func loadDemo(broker, dir, listen string) (*config.Config, error) {
	return loadText(demoText(broker, dir, listen, controlTopic))
}

func demoText(broker, dir, listen, control string) string {
	return fmt.Sprintf(startConfig, "ebb-demo", broker, dir, "64MB", control, listen) + demoPace
}

// relayActs hands on what people did, in the simulated time.
func relayActs(ctx context.Context, cluster *conn.Cluster, to demo.Producer, d *demo.Demo, o Outside) error {
	return tail.Read(ctx, cluster, tail.Options{Topic: actsTopic}, func(r tail.Record) error {
		now := d.Now()
		act, err := demo.Redate(r.Value, time.UnixMilli(r.Timestamp), now)
		if err != nil {
			o.Log.Warn("a record of the topic for acts was left out", "topic", actsTopic, "err", err)
			return nil
		}
		return to.Produce(ctx, controlTopic, bytes.Clone(r.Key), act, now)
	})
}

// loadStart is the configuration to begin with: the demo's topics, and the defaults of life.
func loadStart(listen string) (*config.Config, error) {
	return loadText(fmt.Sprintf(startConfig, "ebb", "127.0.0.1:9092", "./ebb-state", "1GB", controlTopic, listen))
}

func loadText(text string) (*config.Config, error) {
	return config.Load("demo.yaml", config.Source{ReadFile: func(string) ([]byte, error) { return []byte(text), nil }})
}

func demoTopics() []demo.Topic {
	var all []demo.Topic
	names := []string{controlTopic, actsTopic}
	for _, f := range simulate.Feeds() {
		names = append(names, string(f))
	}
	for _, name := range names {
		all = append(all, demo.Topic{Name: name, Partitions: demoPartitions})
	}
	return all
}

// listenNext listens on addr, or, if its port is busy, on the next free one after it.
func listenNext(ctx context.Context, addr string, out cli.Streams) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w (want host:port)", addr, err)
	}
	first, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: the port is not a number", addr)
	}
	for p := first; ; p++ {
		l, err := listen(ctx, net.JoinHostPort(host, strconv.Itoa(p)))
		if err == nil {
			if p != first {
				fmt.Fprintf(out.Stderr, "port %d is busy, so the page is on port %d\n", first, p)
			}
			return l, nil
		}
		if p-first == 100 || first == 0 {
			return nil, fmt.Errorf("no free port from %s on: %w", addr, err)
		}
	}
}

func welcome(out cli.Streams, broker, file, addr string, opt cli.DemoOptions) {
	fmt.Fprintf(out.Stderr, `ebb demo: simulated customers on an embedded broker, one simulated day a second

  page     http://%s
  broker   %s
  stop     Ctrl-C
  seed     %d (--seed %d repeats this crowd)

It reads 120 days of history first, and learns from them. On the 24th day after that, and every 90 days
then, the usage feed brings nothing for two days: ebb warns of the feed, and accuses no customer.

in another terminal, while it runs:
  ebb alerts tail -c %[5]s
  ebb alerts ack ID -c %[5]s --note 'will call'

next:
  ebb demo --print-config > ebb.yaml    a configuration to start from; put your brokers and topics in
  ebb config check -c ebb.yaml          everything that is wrong with it, at once
  ebb run -c ebb.yaml                   the same on your own topics

`, addr, broker, opt.Seed, opt.Seed, file)
}

func summarize(out cli.Streams, s demo.Summary, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	_, err := fmt.Fprintf(out.Stdout, `%d simulated days, %d customers, %d left without saying so
               found  missed  false alarms  precision  days ahead
ebb            %5d  %6d  %12d  %9.2f  %10.1f
usual rule     %5d  %6d  %12d  %9.2f  %10.1f
open alerts are about %s %s; who was found would have spent %s %s in 60 days; alerts visible within %.1f ms (99 of 100)
`, s.SimulatedDays, s.Customers, s.TrueLeavers,
		s.Found, s.Missed, s.FalseAlarms, s.Precision, s.MedianLeadDays,
		s.Usual.Found, s.Usual.Missed, s.Usual.FalseAlarms, s.Usual.Precision, s.Usual.MedianLeadDays,
		s.MoneyAtRisk, s.Currency, s.MoneyFound, s.Currency, s.P99AlertMs)
	return err
}

// openBrowser tries; a machine without one has the address on the terminal.
func openBrowser(ctx context.Context, url string) {
	name := "xdg-open"
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name = "explorer"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, url)
	if cmd.Start() == nil {
		go cmd.Wait() //nolint:errcheck // whether a browser opened is for its user to see
	}
}

// demoEngine is the engine in the demo's hands: it can be killed and started again on what it left.
type demoEngine struct {
	cfg     *config.Config
	version string
	outside Outside
	page    *Page

	mu   sync.Mutex
	life *demoLife
}

// demoLife is one life of the engine, from Start to Kill or Stop.
type demoLife struct {
	engine  *Engine
	cluster *conn.Cluster
	cancel  context.CancelFunc
	done    chan error
}

var _ demo.Engine = (*demoEngine)(nil)

// Start implements demo.Engine.
func (e *demoEngine) Start(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.life != nil {
		return errors.New("the engine is running already")
	}
	cluster, err := conn.New(e.cfg.Connection())
	if err != nil {
		return err
	}
	reg, err := newRegistry(e.version)
	if err != nil {
		return err
	}
	engine, err := NewEngine(ctx, e.cfg, cluster, reg, e.outside)
	if err != nil {
		cluster.Close()
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &demoLife{engine: engine, cluster: cluster, cancel: cancel, done: make(chan error, 1)}
	go func() { l.done <- engine.Run(run) }()
	e.life = l
	e.page.Show(engine, reg)
	return nil
}

// Kill implements demo.Engine.
func (e *demoEngine) Kill() {
	if l := e.take(); l != nil {
		l.engine.Kill()
		if err := l.end(); err != nil {
			e.outside.Log.Warn("after the engine was killed", "err", err)
		}
	}
}

// Stop implements demo.Engine.
func (e *demoEngine) Stop(context.Context) error {
	if l := e.take(); l != nil {
		return l.end()
	}
	return nil
}

func (e *demoEngine) take() *demoLife {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.life
	e.life = nil
	if l != nil {
		e.page.Show(nil, nil)
	}
	return l
}

func (l *demoLife) end() error {
	l.cancel()
	err := <-l.done
	l.cluster.Close()
	return errors.Join(err, l.engine.Close())
}

// Behind implements demo.Engine.
func (e *demoEngine) Behind() (int64, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.life == nil {
		return 0, false
	}
	tasks := e.life.engine.Status()
	if len(tasks) < demoPartitions {
		return 0, false
	}
	var n int64
	for _, t := range tasks {
		if t.State != "running" || !t.Looked {
			return 0, false
		}
		for i := range t.Feeds {
			n += t.Feeds[i].Lag
		}
		if t.Quiet && n == 0 {
			n = 1 // what the history left open is still to be published
		}
	}
	return n, true
}
