package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"ebb/cmd/ebb/internal/config"
	"ebb/cmd/ebb/internal/console"
	"ebb/stream/conn"
	"ebb/stream/fetch"
	"ebb/stream/tail"
)

// Page is everything that an instance serves over HTTP: the console, the metrics, the health checks and, on request, the
// profiles. It lives longer than an engine: the demo exchanges engines under it.
type Page struct {
	server   *http.Server
	listener net.Listener
	console  *console.Console
	book     *console.Book
	source   *source
	gatherer atomic.Pointer[Gatherer]
	log      *slog.Logger
}

// NewPage listens at once, so that a busy port is known before anything else starts. It returns nil if the configuration
// wants no listener.
func NewPage(ctx context.Context, cfg *config.Config, src *source, o Outside) (*Page, error) {
	if cfg.HTTP.Listen == "" {
		return nil, nil
	}
	l, err := listen(ctx, cfg.HTTP.Listen)
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w; choose another address or stop what listens there", err)
	}
	p, err := newPage(cfg, l, src, console.NewBook(), nil, o)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return p, nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", addr)
}

func newPage(cfg *config.Config, l net.Listener, src *source, book *console.Book, demo console.Demo, o Outside) (*Page, error) {
	p := &Page{listener: l, book: book, source: src, log: o.Log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", p.metrics)
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /-/ready", p.ready)
	if cfg.HTTP.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	}
	if cfg.HTTP.Console {
		set, err := detectorSet(cfg)
		if err != nil {
			return nil, err
		}
		p.console = console.New(console.Options{
			Source: src, Book: p.book, Demo: demo, Rules: rules(cfg, set), Now: o.Now, Tick: o.Tick, Currency: cfg.Money.Currency, Log: o.Log,
		})
		mux.Handle("/", p.console)
	}
	p.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	if p.console != nil {
		p.server.RegisterOnShutdown(p.console.Close)
	}
	return p, nil
}

// Addr is where the page listens.
func (p *Page) Addr() string { return p.listener.Addr().String() }

// Show has the page speak of an engine, nil for none, and of its metrics.
func (p *Page) Show(e *Engine, g Gatherer) {
	p.source.engine.Store(e)
	if g != nil {
		p.gatherer.Store(&g)
	}
}

// Run serves until ctx ends.
func (p *Page) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- p.server.Serve(p.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("http server: %w", err)
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := p.server.Shutdown(bound)
	if errors.Is(err, context.DeadlineExceeded) {
		err = p.server.Close()
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// ready is 200 once every assigned partition is at work, else 503 with what is missing.
func (p *Page) ready(w http.ResponseWriter, _ *http.Request) {
	e := p.source.engine.Load()
	if e == nil {
		http.Error(w, "the engine is not running", http.StatusServiceUnavailable)
		return
	}
	tasks := e.Status()
	if !e.Member() {
		http.Error(w, "not yet a member of the group", http.StatusServiceUnavailable)
		return
	}
	var missing []string
	for _, t := range tasks {
		if t.State == "running" && t.Waiting == "" {
			continue
		}
		msg := fmt.Sprintf("partition %d is %s", t.Partition, t.State)
		if t.Waiting != "" {
			msg += ", and waits for " + t.Waiting
		}
		if t.Replay > 0 {
			msg += fmt.Sprintf(", %d of %d changelog records replayed", t.Replay-t.Remaining, t.Replay)
		}
		if t.Error != "" {
			msg += ": " + t.Error
		}
		missing = append(missing, msg)
	}
	if len(missing) > 0 {
		http.Error(w, strings.Join(missing, "\n"), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintf(w, "ok: %d partitions\n", len(tasks))
	if second := e.SecondStage(); second != nil && second.Error != "" { // the customers are watched all the same
		fmt.Fprintf(w, "the second stage, which publishes operational alerts, is %s: %s\n", second.State, second.Error)
	}
}

// historyShown is how far back the page reads the alert topic at its start: what was resolved lately, and found this week.
const historyShown = 30 * 24 * time.Hour

// Follow feeds the page from the alert topics, as any subscriber would see them, until ctx ends: first the table of open
// alerts, then the steps of the last weeks and all that come. observe, which may be nil, is told of every step of the alert topic.
func (p *Page) Follow(ctx context.Context, cfg *config.Config, cluster *conn.Cluster, now func() time.Time, observe func(*console.Step)) error {
	ends, err := offsetsAt(ctx, cluster, cfg.Topics.Operations, conn.Latest)
	if err != nil {
		return err
	}
	from, err := offsetsAt(ctx, cluster, cfg.Topics.Alerts, conn.At(now().Add(-historyShown).UnixMilli()))
	if err != nil {
		return err
	}
	open := map[string]*console.Step{}
	err = tail.Read(ctx, cluster, tail.Options{Topic: cfg.Topics.OpenAlerts, From: tail.Start, UntilEnd: true}, func(r tail.Record) error {
		if len(r.Value) == 0 {
			delete(open, string(r.Key))
			return nil
		}
		if s := p.parse(&r); s != nil {
			open[string(r.Key)] = s
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", cfg.Topics.OpenAlerts, err)
	}
	for _, s := range open {
		p.book.Apply(s)
	}
	p.book.Loaded()
	failed := make(chan error, 2)
	follow := func(topic string, from map[int32]int64, observe func(*console.Step)) {
		failed <- followTopic(ctx, cluster, topic, from, p.applying(observe))
	}
	go follow(cfg.Topics.Alerts, from, observe)
	go follow(cfg.Topics.Operations, back(ends, operationsShown), nil)
	return errors.Join(<-failed, <-failed)
}

// followTopic reads a topic from offsets on. Where its retention has deleted what lay there, it goes on at what is left: what is shown is not less for it.
func followTopic(ctx context.Context, cluster *conn.Cluster, topic string, from map[int32]int64, fn func(tail.Record) error) error {
	for {
		err := tail.Read(ctx, cluster, tail.Options{Topic: topic, Offsets: from}, func(r tail.Record) error {
			from[r.Partition] = r.Offset + 1
			return fn(r)
		})
		var gap *fetch.ErrRetentionGap
		if !errors.As(err, &gap) {
			return err
		}
		starts, err := offsetsAt(ctx, cluster, topic, conn.Earliest)
		if err != nil {
			return err
		}
		for part, start := range starts {
			from[part] = max(from[part], start)
		}
	}
}

// operationsShown is how many operational steps a partition the page reads back at its start.
const operationsShown = 1000

func (p *Page) applying(observe func(*console.Step)) func(tail.Record) error {
	return func(r tail.Record) error {
		s := p.parse(&r)
		if s == nil {
			return nil
		}
		p.book.Apply(s)
		if observe != nil {
			observe(s)
		}
		return nil
	}
}

// parse reads a step. A record that is none is logged by its position and left out: the page shows what can be shown.
func (p *Page) parse(r *tail.Record) *console.Step {
	s, err := console.ParseStep(r.Value)
	if err != nil {
		p.log.Warn("a record of an alert topic cannot be read", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset)
		return nil
	}
	return s
}

func offsetsAt(ctx context.Context, cluster *conn.Cluster, topic string, at conn.At) (map[int32]int64, error) {
	topics, _, err := cluster.Topics(ctx, topic)
	if err == nil {
		err = topics[topic].Err
	}
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", topic, err)
	}
	var ids []int32
	for _, part := range topics[topic].Partitions {
		ids = append(ids, part.ID)
	}
	slices.Sort(ids)
	found, err := cluster.Offsets(ctx, topic, ids, at, conn.ReadCommitted)
	if err != nil {
		return nil, fmt.Errorf("offsets of %s: %w", topic, err)
	}
	ends, err := cluster.Offsets(ctx, topic, ids, conn.Latest, conn.ReadCommitted)
	if err != nil {
		return nil, fmt.Errorf("offsets of %s: %w", topic, err)
	}
	for p, o := range found {
		if o < 0 { // nothing as late as that
			found[p] = ends[p]
		}
	}
	return found, nil
}

func back(ends map[int32]int64, n int64) map[int32]int64 {
	for p, end := range ends {
		ends[p] = max(0, end-n)
	}
	return ends
}
