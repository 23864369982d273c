// Package webhook delivers alert steps by HTTP POST, beside the alert topic.
//
// The topic is the source and the memory: a sink tails it read_committed, posts
// each record, and keeps the position up to which everything is done. What it
// keeps:
//
//  1. At least once. A position is saved only when every record below it was
//     delivered or given up for good. After a crash the records since the last
//     save (about a second's worth) are posted again; their id header is the
//     same, so a receiver can drop them.
//  2. Order per alert. The steps of one alert go one after another, each when
//     the one before it is done. Steps of different alerts overtake each other.
//  3. Bounds. At most Config.InFlight requests are under way, at most 64 times
//     as many records wait in memory; then reading stops until the receiver
//     catches up.
//
// A receiver that is away, slow (time-out, 408, 425, 429) or failing (5xx) is
// asked again for as long as it takes, with exponential backoff and full
// jitter, and not before the Retry-After it names. One that refuses a record
// (any other answer outside of 2xx, redirects among them) is asked
// Config.MaxAttempts times; then the record is counted, logged by its position
// and left behind. It is not lost: it stands on the topic.
//
// It refuses to filter, to reshape and to batch: a receiver that wants another
// form reads the topic. It does not follow redirects, for a signed body goes
// where it was meant to go.
//
// Of several instances one delivers at a time, by Deps.Mine: the one that owns
// the group's partition 0, say. While a hand-over is under way two may deliver
// the same record, which is what at least once allows.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config is one webhook. Zero values of the optional fields mean the default in brackets.
type Config struct {
	Name          string            // part of the consumer group's name and metric label: letters, digits, dot, dash, underscore
	URL           string            // http or https
	Secrets       []string          // each signs every request; more than one while a receiver changes over; none: unsigned
	Headers       map[string]string // sent along, for a receiver's own authorization
	Timeout       time.Duration     // of one request, from dialling to the end of the answer [10 s]
	InFlight      int               // requests under way at once, 1 to 256 [8]
	MaxAttempts   int               // attempts at a record that the receiver refuses, from 1 [5]
	MinBackoff    time.Duration     // bound of the first wait between attempts [500 ms]
	MaxBackoff    time.Duration     // bound of the longest wait [1 min]
	MaxRetryAfter time.Duration     // longest Retry-After that is honoured [1 h]
}

// Defaults fills the optional fields that are zero.
func (c Config) Defaults() Config {
	setDefault(&c.Timeout, 10*time.Second)
	setDefault(&c.InFlight, 8)
	setDefault(&c.MaxAttempts, 5)
	setDefault(&c.MinBackoff, 500*time.Millisecond)
	setDefault(&c.MaxBackoff, time.Minute)
	setDefault(&c.MaxRetryAfter, time.Hour)
	return c
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

var validName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Validate returns every fault at once, each naming its field.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !validName.MatchString(c.Name) {
		fault("name %q: want 1 to 64 letters, digits, dots, dashes or underscores", c.Name)
	}
	if u, err := url.Parse(c.URL); err != nil {
		fault("url: not a URL") // the error repeats the URL, which may hold a secret
	} else if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		fault("url: want http://HOST/... or https://HOST/...")
	}
	for i, s := range c.Secrets {
		if s == "" {
			fault("secrets[%d]: empty", i)
		}
	}
	for name := range c.Headers {
		if Reserved(name) {
			fault("headers: %s is set by ebb itself", name)
		}
	}
	if c.InFlight < 1 || c.InFlight > 256 {
		fault("in_flight %d: want 1 to 256", c.InFlight)
	}
	if c.MaxAttempts < 1 {
		fault("max_attempts %d: want at least 1", c.MaxAttempts)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"timeout", c.Timeout}, {"min_backoff", c.MinBackoff}, {"max_backoff", c.MaxBackoff}, {"max_retry_after", c.MaxRetryAfter}} {
		if d.value <= 0 {
			fault("%s %v: want more than 0", d.name, d.value)
		}
	}
	if c.MaxBackoff < c.MinBackoff {
		fault("max_backoff %v: want at least min_backoff, %v", c.MaxBackoff, c.MinBackoff)
	}
	return errors.Join(faults...)
}

// Record is one alert step as it stands on the topic.
type Record struct {
	Partition int32
	Offset    int64
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Header is one header of a Record.
type Header struct {
	Key   string
	Value []byte
}

// Source reads the alert topic, committed records only, each partition in order.
type Source interface {
	// Ends returns the end offset of every partition: where a webhook that is new begins.
	Ends(ctx context.Context) (map[int32]int64, error)
	// Read calls fn for every record from the given offsets on (from the start of a partition that is not among them),
	// one at a time, outlives outages of the brokers, and returns when ctx ends or with an error that waiting does not
	// mend. fn may keep the record.
	Read(ctx context.Context, from map[int32]int64, fn func(Record) error) error
}

// Offsets keeps how far a webhook has come: by partition, the offset of the first record that is not done.
type Offsets interface {
	Load(ctx context.Context) (map[int32]int64, error) // empty when nothing was saved
	Save(ctx context.Context, next map[int32]int64) error
}

// Deps is what a Sink is given by the program.
type Deps struct {
	Source    Source
	Offsets   Offsets
	Transport http.RoundTripper // of the requests
	Now       func() time.Time  // the wall clock: it dates signatures, nothing else
	Jitter    func() float64    // uniform in [0, 1); called by several goroutines at once
	Mine      func() bool       // whether it is this instance that delivers, asked every second; nil: always
	Log       *slog.Logger
	Metrics   *Metrics
}

const (
	askEvery    = time.Second
	saveEvery   = time.Second
	renewEvery  = time.Hour       // saved again although unchanged: brokers forget the offsets of an idle group
	drainWithin = 3 * time.Second // for requests under way when the sink is stopped
)

// Sink is one webhook at work.
type Sink struct {
	cfg     Config
	deps    Deps
	client  *http.Client
	metrics *children
	failing atomic.Bool // the receiver's last answer: for logging the change only
}

// tenure is the time in which a Sink delivers: from when it becomes this instance's to do, to when it no longer is.
type tenure struct {
	*Sink
	progress *progress
	window   chan struct{} // one token for each record read and not done
	lanes    []chan Record
}

// New returns a sink of a configuration, defaults filled in.
func New(cfg Config, deps Deps) (*Sink, error) {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("webhook %s: %w", cfg.Name, err)
	}
	if deps.Mine == nil {
		deps.Mine = func() bool { return true }
	}
	s := &Sink{cfg: cfg, deps: deps, metrics: deps.Metrics.of(cfg.Name)}
	s.client = &http.Client{
		Transport:     deps.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, nil
}

// Run delivers until ctx ends, then lets the requests under way end (3 s at most), saves the position and returns nil.
// It returns an error only for what waiting does not mend.
func (s *Sink) Run(ctx context.Context) error {
	for s.await(ctx, true) {
		term, end := context.WithCancel(ctx)
		go func() {
			s.await(term, false)
			end()
		}()
		err := s.newTenure().run(term)
		end()
		if err != nil {
			return err
		}
	}
	return nil
}

// await returns true as soon as Mine answers so, and false when ctx ends first.
func (s *Sink) await(ctx context.Context, mine bool) bool {
	for s.deps.Mine() != mine {
		if !wait(ctx, askEvery) {
			return false
		}
	}
	return ctx.Err() == nil
}

func (s *Sink) newTenure() *tenure {
	return &tenure{
		Sink: s, progress: newProgress(),
		window: make(chan struct{}, 64*s.cfg.InFlight), lanes: make([]chan Record, s.cfg.InFlight),
	}
}

func (s *tenure) run(ctx context.Context) error {
	from, err := s.begin(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	requests, end := lingering(ctx, drainWithin)
	defer end()
	ctx, stop := context.WithCancel(ctx)
	defer stop()

	var lanes, saver sync.WaitGroup
	for i := range s.lanes {
		s.lanes[i] = make(chan Record, cap(s.window))
		lanes.Go(func() { s.lane(ctx, requests, s.lanes[i]) })
	}
	saver.Go(func() { s.saveRegularly(ctx) })

	err = s.deps.Source.Read(ctx, from, func(r Record) error { return s.take(ctx, r) })
	ended := ctx.Err() != nil
	stop()
	for _, lane := range s.lanes {
		close(lane)
	}
	lanes.Wait()
	saver.Wait()
	s.saveLast(ctx)
	if err != nil && !ended {
		return fmt.Errorf("webhook %s: reading the alert topic: %w", s.cfg.Name, err)
	}
	return nil
}

// lingering returns a context that ends a while after ctx does.
func lingering(ctx context.Context, while time.Duration) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(while, cancel) })
	return late, cancel
}

// begin says where to go on. A webhook that is new begins at the end of the topic: what was raised before it was
// configured is no news to its receiver. That position is saved at once, so that a stop before the first alert loses none.
func (s *tenure) begin(ctx context.Context) (from map[int32]int64, err error) {
	err = s.patiently(ctx, "loading the position", func() error {
		if from, err = s.deps.Offsets.Load(ctx); err != nil || len(from) > 0 {
			return err
		}
		if from, err = s.deps.Source.Ends(ctx); err != nil {
			return err
		}
		return s.deps.Offsets.Save(ctx, from)
	})
	if err == nil {
		s.progress.begin(from)
	}
	return from, err
}

// patiently repeats fn until it succeeds or ctx ends.
func (s *Sink) patiently(ctx context.Context, what string, fn func() error) error {
	for attempt := 1; ; attempt++ {
		err := fn()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.deps.Log.Warn("webhook waits", "webhook", s.cfg.Name, "what", what, "error", err)
		if !wait(ctx, s.backoff(attempt)) {
			return ctx.Err()
		}
	}
}

// take hands a record to the lane of its alert. It blocks while the window is full: that is the back-pressure.
func (s *tenure) take(ctx context.Context, r Record) error {
	select {
	case s.window <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.progress.read(r.Partition, r.Offset)
	s.metrics.pending.Inc()
	s.lanes[s.laneOf(&r)] <- r // never blocks: a lane holds a whole window
	return nil
}

// laneOf keeps the steps of one alert in one lane.
func (s *tenure) laneOf(r *Record) int {
	h := fnv.New32a()
	h.Write([]byte(alertOf(r)))
	return int(h.Sum32() % uint32(len(s.lanes)))
}

// alertOf is what order is kept for: the alert of "alert/revision", else the record's key.
func alertOf(r *Record) string {
	if alert, _, ok := strings.Cut(r.header("ce_id"), "/"); ok {
		return alert
	}
	return string(r.Key)
}

func (r *Record) header(key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// lane delivers its records one after another until ctx ends. What it leaves then is read again at the next start.
func (s *tenure) lane(ctx, requests context.Context, records <-chan Record) {
	for r := range records {
		if ctx.Err() == nil && s.deliver(ctx, requests, &r) {
			s.progress.done(r.Partition, r.Offset)
		}
		s.metrics.pending.Dec()
		<-s.window
	}
}

// deliver posts one record until it is delivered or given up for good, and reports whether it is done. False means that
// ctx ended first.
func (s *tenure) deliver(ctx, requests context.Context, r *Record) bool {
	refusals := 0
	for attempt := 1; ; attempt++ {
		a := s.post(requests, r)
		if a.verdict == accepted {
			s.metrics.delivered.Inc()
			if s.failing.Swap(false) {
				s.deps.Log.Info("webhook delivers again", "webhook", s.cfg.Name)
			}
			return true
		}
		if a.verdict == refused {
			if refusals++; refusals >= s.cfg.MaxAttempts {
				s.metrics.refused.Inc()
				s.deps.Log.Error("webhook refused an alert step; it stays on the topic", "webhook", s.cfg.Name,
					"partition", r.Partition, "offset", r.Offset, "attempts", refusals, "answer", a.why)
				return true
			}
		}
		s.metrics.failed.Inc()
		if !s.failing.Swap(true) && ctx.Err() == nil {
			s.deps.Log.Warn("webhook fails; it is tried again", "webhook", s.cfg.Name, "answer", a.why)
		}
		if !wait(ctx, max(s.backoff(attempt), min(a.retryAfter, s.cfg.MaxRetryAfter))) {
			return false
		}
	}
}

// backoff is a uniform share of a bound that doubles with each attempt ("full jitter").
func (s *Sink) backoff(attempt int) time.Duration {
	bound := s.cfg.MinBackoff
	for range attempt - 1 {
		if bound *= 2; bound >= s.cfg.MaxBackoff {
			break
		}
	}
	return time.Duration(s.deps.Jitter() * float64(min(bound, s.cfg.MaxBackoff)))
}

// wait returns false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *tenure) saveRegularly(ctx context.Context) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	idle := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		next, changed := s.progress.snapshot()
		if idle += saveEvery; !changed && idle < renewEvery {
			continue
		}
		if err := s.deps.Offsets.Save(ctx, next); err != nil {
			s.progress.unsaved()
			if ctx.Err() == nil {
				s.deps.Log.Warn("webhook cannot save its position; it is tried again", "webhook", s.cfg.Name, "error", err)
			}
			continue
		}
		idle = 0
	}
}

// saveLast saves what the end of the lanes has left. Should it fail, records are delivered twice, none is lost.
func (s *tenure) saveLast(ctx context.Context) {
	next, changed := s.progress.snapshot()
	if !changed {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
	defer cancel()
	if err := s.deps.Offsets.Save(ctx, next); err != nil {
		s.deps.Log.Warn("webhook could not save its last position; the last alerts will be delivered again", "webhook", s.cfg.Name, "error", err)
	}
}
