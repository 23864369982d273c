package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// topic is an alert topic in memory: a log for each partition.
type topic struct {
	mu    sync.Mutex
	logs  map[int32][]Record
	grown chan struct{}
}

func newTopic(partitions int32) *topic {
	t := &topic{logs: map[int32][]Record{}, grown: make(chan struct{})}
	for p := range partitions {
		t.logs[p] = nil
	}
	return t
}

func (t *topic) add(partition int32, alert string, revision int) Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := fmt.Sprintf("%s/%d", alert, revision)
	r := Record{
		Partition: partition, Offset: int64(len(t.logs[partition])), Key: []byte("c-1"), Value: []byte(`{"alert_id":"` + alert + `"}`),
		Headers: []Header{{"ce_id", []byte(id)}, {"ce_type", []byte("io.ebb.alert.fired.v1")}, {"ce_subject", []byte("zoë 1")}, {"content-type", []byte("application/json")}, {"other", []byte("x")}},
	}
	t.logs[partition] = append(t.logs[partition], r)
	close(t.grown)
	t.grown = make(chan struct{})
	return r
}

func (t *topic) Ends(context.Context) (map[int32]int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ends := map[int32]int64{}
	for p, log := range t.logs {
		ends[p] = int64(len(log))
	}
	return ends, nil
}

func (t *topic) Read(ctx context.Context, from map[int32]int64, fn func(Record) error) error {
	next := maps.Clone(from)
	for {
		t.mu.Lock()
		var batch []Record
		for p, log := range t.logs {
			batch = append(batch, log[next[p]:]...)
			next[p] = int64(len(log))
		}
		grown := t.grown
		t.mu.Unlock()
		for _, r := range batch {
			if err := fn(r); err != nil {
				return err
			}
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// place keeps positions in memory that can be made to fail.
type place struct {
	mu    sync.Mutex
	next  map[int32]int64
	fails int // so many calls fail
	saves int
}

func (o *place) call() error {
	if o.fails > 0 {
		o.fails--
		return errors.New("coordinator not available")
	}
	return nil
}

func (o *place) Load(context.Context) (map[int32]int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.next), o.call()
}

func (o *place) Save(_ context.Context, next map[int32]int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.call(); err != nil {
		return err
	}
	o.saves++
	o.next = maps.Clone(next)
	return nil
}

func (o *place) saved() map[int32]int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.next)
}

func (o *place) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.saves
}

// receiver answers without a network: inside a synctest bubble time is virtual.
type receiver struct {
	mu     sync.Mutex
	answer func(id string, attempt int) (status int, header http.Header, err error)
	tries  map[string]int
	got    []string // ids, as accepted
	at     []time.Time
	hold   time.Duration // each request takes so long
	open   int
	most   int // requests at once
}

func newReceiver(answer func(id string, attempt int) (int, http.Header, error)) *receiver {
	if answer == nil {
		answer = func(string, int) (int, http.Header, error) { return 204, nil, nil }
	}
	return &receiver{answer: answer, tries: map[string]int{}}
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	id := req.Header.Get(idHeader)
	r.mu.Lock()
	r.open++
	r.most = max(r.most, r.open)
	r.tries[id]++
	n := r.tries[id]
	r.at = append(r.at, time.Now())
	r.mu.Unlock()
	defer func() { r.mu.Lock(); r.open--; r.mu.Unlock() }()
	if r.hold > 0 && !wait(req.Context(), r.hold) {
		return nil, req.Context().Err()
	}
	status, header, err := r.answer(id, n)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	if status/100 == 2 {
		r.got = append(r.got, id)
	}
	r.mu.Unlock()
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader("")), Request: req}, nil
}

func (r *receiver) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

type fixture struct {
	topic *topic
	keep  *place
	recv  *receiver
	log   *strings.Builder
	reg   *prometheus.Registry
	sink  *Sink
	stop  context.CancelFunc
	ended chan error
}

var configured = Config{Name: "crm", URL: "http://crm.example/hooks?token=hush"}

func start(t *testing.T, tp *topic, keep *place, recv *receiver, cfg Config) *fixture {
	t.Helper()
	f := &fixture{topic: tp, keep: keep, recv: recv, log: &strings.Builder{}, reg: prometheus.NewPedanticRegistry(), ended: make(chan error, 1)}
	sink, err := New(cfg, Deps{
		Source: tp, Offsets: keep, Transport: recv, Now: time.Now, Jitter: func() float64 { return 1 },
		Log: slog.New(slog.NewTextHandler(f.log, nil)), Metrics: NewMetrics(f.reg),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.sink = sink
	ctx, stop := context.WithCancel(t.Context())
	f.stop = stop
	go func() { f.ended <- sink.Run(ctx) }()
	return f
}

// end stops the sink and waits for it.
func (f *fixture) end(t *testing.T) {
	t.Helper()
	f.stop()
	if err := <-f.ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func atStart(partitions int32) *place {
	o := &place{next: map[int32]int64{}}
	for p := range partitions {
		o.next[p] = 0
	}
	return o
}

func TestDeliversInOrderAndKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tp := newTopic(2)
		for rev := 1; rev <= 20; rev++ {
			tp.add(0, "a", rev)
			tp.add(1, "b", rev)
		}
		f := start(t, tp, atStart(2), newReceiver(nil), configured)
		time.Sleep(2 * time.Second)
		if want := (map[int32]int64{0: 20, 1: 20}); !maps.Equal(f.keep.saved(), want) {
			t.Errorf("a second after delivery the position is saved: got %v, want %v", f.keep.saved(), want)
		}
		f.end(t)
		for _, alert := range []string{"a", "b"} {
			assertOrder(t, f.recv.ids(), alert, 20)
		}

		// a second sink goes on where the first one stopped
		tp.add(0, "a", 21)
		f = start(t, tp, f.keep, newReceiver(nil), configured)
		time.Sleep(2 * time.Second)
		f.end(t)
		if got := f.recv.ids(); !slices.Equal(got, []string{"a/21"}) {
			t.Errorf("after a restart: got %v, want a/21 alone", got)
		}
	})
}

// assertOrder checks that the steps of an alert came each once and in order.
func assertOrder(t *testing.T, ids []string, alert string, n int) {
	t.Helper()
	var got, want []string
	for _, id := range ids {
		if strings.HasPrefix(id, alert+"/") {
			got = append(got, id)
		}
	}
	for rev := 1; rev <= n; rev++ {
		want = append(want, fmt.Sprintf("%s/%d", alert, rev))
	}
	if !slices.Equal(got, want) {
		t.Errorf("steps of alert %s: got %v, want %v", alert, got, want)
	}
}

func TestANewWebhookBeginsAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tp := newTopic(1)
		tp.add(0, "old", 1)
		f := start(t, tp, &place{}, newReceiver(nil), configured)
		synctest.Wait()
		if want := (map[int32]int64{0: 1}); !maps.Equal(f.keep.saved(), want) {
			t.Errorf("its first position is saved at once: got %v, want %v", f.keep.saved(), want)
		}
		f.end(t)
		tp.add(0, "new", 1) // while it is stopped
		f = start(t, tp, f.keep, newReceiver(nil), configured)
		time.Sleep(2 * time.Second)
		f.end(t)
		if got := f.recv.ids(); !slices.Equal(got, []string{"new/1"}) {
			t.Errorf("got %v, want new/1 alone", got)
		}
	})
}

func TestAnswers(t *testing.T) {
	status := func(codes ...int) func(string, int) (int, http.Header, error) {
		return func(_ string, n int) (int, http.Header, error) {
			return codes[min(n, len(codes))-1], nil, nil
		}
	}
	tests := map[string]struct {
		rule     string
		answer   func(string, int) (int, http.Header, error)
		tries    int
		accepted bool
		metrics  string // delivered, failed, refused
		log      string
	}{
		"accepted":       {"2xx is delivered", status(200), 1, true, "1 0 0", ""},
		"500":            {"a failing receiver is asked again", status(500, 503, 200), 3, true, "1 2 0", "webhook fails; it is tried again"},
		"429":            {"a busy receiver is asked again", status(429, 429, 429, 429, 429, 429, 429, 202), 8, true, "1 7 0", "delivers again"},
		"timeout status": {"408 and 425 are asked again", status(408, 425, 408, 425, 408, 425, 204), 7, true, "1 6 0", ""},
		"400":            {"a record that is refused five times is left behind", status(400), 5, false, "0 4 1", "partition=0 offset=0 attempts=5 answer=\"HTTP 400\""},
		"redirect":       {"a redirect is not followed, it is a refusal", status(301), 5, false, "0 4 1", "HTTP 301"},
		"mended":         {"a refusal that ends before the fifth is delivered", status(404, 404, 404, 404, 200), 5, true, "1 4 0", ""},
		"network": {
			"a receiver that is away is asked again",
			func(_ string, n int) (int, http.Header, error) {
				if n < 10 {
					return 0, nil, errors.New("connection refused")
				}
				return 200, nil, nil
			}, 10, true, "1 9 0", "connection refused",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tp := newTopic(1)
				tp.add(0, "a", 1)
				f := start(t, tp, atStart(1), newReceiver(tt.answer), configured)
				time.Sleep(time.Hour)
				f.end(t)
				if f.recv.tries["a/1"] != tt.tries || (len(f.recv.ids()) == 1) != tt.accepted {
					t.Errorf("%s: %d tries, accepted %v; want %d, %v", tt.rule, f.recv.tries["a/1"], f.recv.ids(), tt.tries, tt.accepted)
				}
				if got := f.keep.saved()[0]; got != 1 {
					t.Errorf("%s: position %d, want 1", tt.rule, got)
				}
				m := f.sink.metrics
				got := fmt.Sprint(testutil.ToFloat64(m.delivered), testutil.ToFloat64(m.failed), testutil.ToFloat64(m.refused))
				if got != tt.metrics {
					t.Errorf("%s: delivered, failed, refused are %s, want %s", tt.rule, got, tt.metrics)
				}
				if !strings.Contains(f.log.String(), tt.log) {
					t.Errorf("%s: the log lacks %q:\n%s", tt.rule, tt.log, f.log)
				}
				if strings.Contains(f.log.String(), "hush") || strings.Contains(f.log.String(), "alert_id") {
					t.Errorf("the log holds a secret or a payload:\n%s", f.log)
				}
			})
		})
	}
}

func TestBackoffAndRetryAfter(t *testing.T) {
	gaps := func(t *testing.T, answer func(string, int) (int, http.Header, error)) []time.Duration {
		tp := newTopic(1)
		tp.add(0, "a", 1)
		f := start(t, tp, atStart(1), newReceiver(answer), configured)
		time.Sleep(3 * time.Hour)
		f.end(t)
		var d []time.Duration
		for i := 1; i < len(f.recv.at); i++ {
			d = append(d, f.recv.at[i].Sub(f.recv.at[i-1]))
		}
		return d
	}
	synctest.Test(t, func(t *testing.T) {
		got := gaps(t, func(_ string, n int) (int, http.Header, error) {
			if n <= 9 {
				return 503, nil, nil
			}
			return 200, nil, nil
		})
		want := []time.Duration{500e6, 1e9, 2e9, 4e9, 8e9, 16e9, 32e9, 60e9, 60e9}
		if !slices.Equal(got, want) {
			t.Errorf("the bound doubles up to a minute: got %v, want %v", got, want)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		got := gaps(t, func(_ string, n int) (int, http.Header, error) {
			h := http.Header{}
			switch n {
			case 1:
				h.Set("Retry-After", "120")
			case 2:
				h.Set("Retry-After", time.Now().Add(30*time.Second).UTC().Format(http.TimeFormat))
			case 3:
				h.Set("Retry-After", "86400") // more than is honoured
			case 4:
				h.Set("Retry-After", "soon")
			default:
				return 200, nil, nil
			}
			return 429, h, nil
		})
		want := []time.Duration{2 * time.Minute, 30 * time.Second, time.Hour, 4 * time.Second}
		if !slices.Equal(got, want) {
			t.Errorf("Retry-After as seconds and as a date, at most an hour: got %v, want %v", got, want)
		}
	})
}

func TestOneBadAlertDoesNotHoldTheOthersOrThePlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tp := newTopic(1)
		tp.add(0, "bad", 1)
		for i := range 40 {
			tp.add(0, fmt.Sprintf("a%d", i), 1)
		}
		recv := newReceiver(func(id string, _ int) (int, http.Header, error) {
			if strings.HasPrefix(id, "bad/") {
				return 500, nil, nil
			}
			return 200, nil, nil
		})
		f := start(t, tp, atStart(1), recv, configured)
		time.Sleep(10 * time.Minute)
		if n := len(recv.ids()); n < 20 {
			t.Errorf("other lanes go on: %d of 40 delivered", n)
		}
		if got := f.keep.saved()[0]; got != 0 {
			t.Errorf("the position stays below what is not done: got %d, want 0", got)
		}
		f.end(t)

		// what was behind it is delivered again: at least once
		f = start(t, tp, f.keep, newReceiver(nil), configured)
		time.Sleep(2 * time.Second)
		f.end(t)
		if n := len(f.recv.ids()); n != 41 {
			t.Errorf("after a restart %d were delivered, want 41", n)
		}
	})
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tp := newTopic(4)
		for i := range 2000 {
			tp.add(int32(i%4), fmt.Sprintf("a%d", i), 1)
		}
		recv := newReceiver(nil)
		recv.hold = 50 * time.Millisecond
		cfg := configured
		cfg.InFlight = 3
		f := start(t, tp, atStart(4), recv, cfg)
		time.Sleep(time.Second)
		if got := testutil.ToFloat64(f.sink.metrics.pending); got > 3*64 {
			t.Errorf("%v records wait in memory, the most is %d", got, 3*64)
		}
		time.Sleep(time.Minute)
		f.end(t)
		if recv.most > 3 {
			t.Errorf("%d requests at once, the most is 3", recv.most)
		}
		if n := len(recv.ids()); n != 2000 {
			t.Errorf("%d delivered, want 2000", n)
		}
	})
}

func TestStopLetsRequestsEnd(t *testing.T) {
	for _, tt := range []struct {
		rule string
		hold time.Duration
		took time.Duration
		next int64
	}{
		{"a request that ends soon is waited for", 2 * time.Second, time.Second, 1},
		{"one that does not end soon is cut off and made again", 8 * time.Second, 3 * time.Second, 0},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tp := newTopic(1)
				tp.add(0, "a", 1)
				tp.add(0, "a", 2)
				recv := newReceiver(nil)
				recv.hold = tt.hold
				f := start(t, tp, atStart(1), recv, configured)
				time.Sleep(time.Second)
				before := time.Now()
				f.end(t)
				if took := time.Since(before); took != tt.took {
					t.Errorf("stopping took %v, want %v", took, tt.took)
				}
				if got := f.keep.saved()[0]; got != tt.next {
					t.Errorf("position %d, want %d", got, tt.next)
				}
			})
		})
	}
}

func TestPositionsThatCannotBeKeptAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tp := newTopic(1)
		keep := atStart(1)
		keep.fails = 3 // loading
		f := start(t, tp, keep, newReceiver(nil), configured)
		time.Sleep(time.Minute)
		keep.mu.Lock()
		keep.fails = 2 // saving
		keep.mu.Unlock()
		tp.add(0, "a", 1)
		time.Sleep(5 * time.Second)
		if got := keep.saved()[0]; got != 1 {
			t.Errorf("position %d, want 1", got)
		}
		before := keep.count()
		time.Sleep(time.Hour + time.Second)
		if n := keep.count() - before; n != 1 {
			t.Errorf("an idle hour saved %d times, want once: brokers forget idle groups", n)
		}
		f.end(t)
		if n := len(f.recv.ids()); n != 1 {
			t.Errorf("delivered %d times, want once", n)
		}
	})
}

// TestHandOver: of two instances the one whose turn it is delivers, and goes on where the other stopped.
func TestHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tp, keep, owner := newTopic(1), atStart(1), &atomic.Int32{}
		var recvs []*receiver
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for i := range int32(2) {
			recv := newReceiver(nil)
			recvs = append(recvs, recv)
			sink, err := New(configured, Deps{
				Source: tp, Offsets: keep, Transport: recv, Now: time.Now, Jitter: func() float64 { return 1 },
				Mine: func() bool { return owner.Load() == i },
				Log:  slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()),
			})
			if err != nil {
				t.Fatal(err)
			}
			running.Go(func() {
				if err := sink.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		for round := range 6 {
			owner.Store(int32(round % 2))
			time.Sleep(5 * time.Second)
			tp.add(0, "a", round+1)
			time.Sleep(5 * time.Second)
		}
		stop()
		running.Wait()
		if got := recvs[0].ids(); !slices.Equal(got, []string{"a/1", "a/3", "a/5"}) {
			t.Errorf("the first instance delivered %v", got)
		}
		if got := recvs[1].ids(); !slices.Equal(got, []string{"a/2", "a/4", "a/6"}) {
			t.Errorf("the second instance delivered %v", got)
		}
	})
}

// TestRandomTrouble: whatever the receiver answers and whenever the sink is stopped, every step arrives, those of one alert in
// order of their first arrival.
func TestRandomTrouble(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			rnd, answers := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
			var mu sync.Mutex // of answers: requests come at once
			recv := newReceiver(func(string, int) (int, http.Header, error) {
				mu.Lock()
				defer mu.Unlock()
				return []int{200, 200, 200, 500, 429}[answers.IntN(5)], nil, nil
			})
			tp := newTopic(3)
			keep := atStart(3)
			const alerts, steps = 12, 8
			for range 6 {
				f := start(t, tp, keep, recv, configured)
				for range 4 {
					time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
					addSteps(tp, rnd, alerts, steps)
				}
				f.end(t)
			}
			f := start(t, tp, keep, recv, configured)
			for a := range alerts {
				for s := tp.steps(a); s < steps; s++ {
					tp.add(int32(a%3), fmt.Sprintf("a%d", a), s+1)
				}
			}
			time.Sleep(time.Hour)
			f.end(t)
			first := firstArrivals(recv.ids())
			for a := range alerts {
				assertOrder(t, first, fmt.Sprintf("a%d", a), steps)
			}
		})
	}
}

func addSteps(tp *topic, rnd *rand.Rand, alerts, most int) {
	for range rnd.IntN(10) {
		a := rnd.IntN(alerts)
		if n := tp.steps(a); n < most {
			tp.add(int32(a%3), fmt.Sprintf("a%d", a), n+1)
		}
	}
}

// steps counts an alert's steps on the topic.
func (t *topic) steps(alert int) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	prefix := fmt.Sprintf("a%d/", alert)
	for _, r := range t.logs[int32(alert%3)] {
		if strings.HasPrefix(r.header("ce_id"), prefix) {
			n++
		}
	}
	return n
}

func firstArrivals(ids []string) (first []string) {
	seen := map[string]bool{}
	for _, id := range ids {
		if !seen[id] {
			first = append(first, id)
		}
		seen[id] = true
	}
	return first
}

// TestOverHTTP: what a real server receives, byte for byte.
func TestOverHTTP(t *testing.T) {
	var got *http.Request
	var body []byte
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
		close(done)
	}))
	defer srv.Close()
	tp := newTopic(1)
	rec := tp.add(0, "a", 1)
	now := time.Unix(1767607200, 0)
	sink, err := New(Config{Name: "crm", URL: srv.URL + "/hook", Secrets: []string{"new", "old"}, Headers: map[string]string{"Authorization": "Bearer x", "User-Agent": "crm-bridge"}},
		Deps{
			Source: tp, Offsets: atStart(1), Transport: http.DefaultTransport, Now: func() time.Time { return now },
			Jitter: rand.Float64, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()),
		})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- sink.Run(ctx) }()
	<-done
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodPost || got.URL.Path != "/hook" || string(body) != string(rec.Value) {
		t.Errorf("got %s %s %q", got.Method, got.URL.Path, body)
	}
	for name, want := range map[string]string{
		"Ce-Id": "a/1", "Ebb-Event-Id": "a/1", "Ce-Type": "io.ebb.alert.fired.v1", "Ce-Subject": "zo%C3%AB%201",
		"Content-Type": "application/json", "Authorization": "Bearer x", "User-Agent": "crm-bridge", "Other": "",
	} {
		if got.Header.Get(name) != want {
			t.Errorf("header %s is %q, want %q", name, got.Header.Get(name), want)
		}
	}
	mac := func(secret string) string {
		h := hmac.New(sha256.New, []byte(secret))
		h.Write([]byte("1767607200." + string(body)))
		return hex.EncodeToString(h.Sum(nil))
	}
	if want := "t=1767607200,v1=" + mac("new") + ",v1=" + mac("old"); got.Header.Get("Ebb-Signature") != want {
		t.Errorf("signature %q, want %q", got.Header.Get("Ebb-Signature"), want)
	}
}

func TestConfigFaultsAllAtOnce(t *testing.T) {
	err := Config{
		Name: "a b", URL: "ftp://x", Secrets: []string{""}, Headers: map[string]string{"ce-id": "1"}, InFlight: 1000, MaxAttempts: -1,
		Timeout: -1, MinBackoff: time.Hour, MaxBackoff: time.Second, MaxRetryAfter: -1,
	}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{"name", "url", "secrets[0]", "headers", "in_flight", "max_attempts", "timeout", "max_backoff", "max_retry_after"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in: %v", field, err)
		}
	}
	if err := configured.Defaults().Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
}

func TestMetricNames(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	NewMetrics(reg).of("crm")
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}
