package backtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ebb/alerts"
	"ebb/cmd/ebb/internal/app"
	"ebb/cmd/ebb/internal/backtest"
	"ebb/cmd/ebb/internal/cli"
	"ebb/cmd/ebb/internal/config"
	"ebb/stream/kafkatest"
)

// complains adds complaints to a history: of customers who come back and who do not, some are answered, some are left lying. Some customers spend far less from a day on.
func complains(begin time.Time) []string {
	const days = 300.0
	rng := rand.New(rand.NewPCG(5, 6))
	rows := backtest.Story{Begin: begin}
	complaint := func(id string, day, resolved float64) {
		n := len(rows.Lines)
		rows.Add("complaints", id, day, fmt.Sprintf(`"type":"opened","complaint_id":"T-%d","priority":"high"`, n))
		if resolved != 0 {
			rows.Add("complaints", id, day+resolved, fmt.Sprintf(`"type":"resolved","complaint_id":"T-%d"`, n))
		}
	}
	for i := range 40 {
		id, falls := fmt.Sprintf("less-%02d", i), 120+rng.Float64()*100
		for day := rng.Float64(); day < days; day += 1 + 2*rng.Float64() {
			amount := 40 + rng.IntN(20)
			if day > falls && i%2 == 0 {
				amount /= 8
			}
			rows.Add("payments", id, day, fmt.Sprintf(`"type":"purchase","currency":"EUR","amount":%d`, amount))
		}
		complaint(id, falls+rng.Float64()*40, float64(i%3)*30)
		complaint(id, 20+rng.Float64()*200, 0.5+9*rng.Float64())
	}
	for _, owner := range []string{"kim", "lee", "max"} {
		for i := range 20 {
			complaint(fmt.Sprintf("%s-%02d", owner, i), 190+rng.Float64()*40, float64(i%2)*20)
		}
	}
	return rows.Lines
}

// Where a complaint and a drop come together, and where an owner's customers leave at once, a backtest tells what a group tells that reads the same topics, step by step: what is told by itself
// or within another alert, what is held back, when, and as how severe. The rules are those of the model; how many instances there are, and who dies on the way, makes no difference.
func TestAGroupTellsTheSameSteps(t *testing.T) {
	if testing.Short() {
		t.Skip("reads the same history three times")
	}
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		begin := time.Now().AddDate(0, 0, -301)
		rows := append(backtest.AnOwnerLeaves(begin, false), complains(begin)...)
		rows = slices.DeleteFunc(rows, func(row string) bool { return strings.Contains(row, `"new-`) && !strings.Contains(row, `0","time"`) }) // a tenth of the new ones will do
		_, last := produce(t, b, rows)
		alone := configured(t, b, "alone")
		want := written(t, alone, rows, b)
		for kind, least := range map[string]int{"alone": 200, "within": 30, "told later": 2, "untold": 5, "silence": 40, "spend_drop": 10, "complaint_unresolved": 50} {
			if want.kinds[kind] < least {
				t.Fatalf("the history shows too little: %v", want.kinds)
			}
		}
		l := live(t, b, alone, 0)
		kafkatest.Eventually(t, "what the backtest tells", func() error { return want.differ(published(t, b, "alone", last)) })
		if err := l.stop(); err != nil {
			t.Error(err)
		}

		paths := []string{configured(t, b, "mortal"), configured(t, b, "mortal")}
		rng, lives := rand.New(rand.NewPCG(3, 4)), make([]*life, len(paths))
		mortal := func() int64 { return 1 + rng.Int64N(l.wire.sent.Load()/(2*deaths)) }
		for i, path := range paths {
			lives[i] = live(t, b, path, mortal())
		}
		for i := range deaths {
			i %= len(lives)
			<-lives[i].wire.dead
			if want.differ(published(t, b, "mortal", last)) == nil {
				t.Fatal("nothing was left to tell when somebody died")
			}
			_ = lives[i].stop()
			time.Sleep(time.Duration(rng.IntN(15_000)) * time.Millisecond) // the others notice, or it is back before
			lives[i] = live(t, b, paths[i], mortal())
		}
		for i := range lives {
			<-lives[i].wire.dead
			_ = lives[i].stop()
			lives[i] = live(t, b, paths[i], 0)
		}
		kafkatest.Eventually(t, "what the backtest tells, whoever died", func() error { return want.differ(published(t, b, "mortal", last)) })
		for _, l := range lives {
			if err := l.stop(); err != nil {
				t.Error(err)
			}
		}
	})
}

// deaths is how often an instance dies while a history is told.
const deaths = 8

// configured is the configuration of an instance of a group that reads the topics of produce, with the rules of the model.
func configured(t *testing.T, b *kafkatest.Broker, group string) string {
	t.Helper()
	return write(t, "ebb.yaml", fmt.Sprintf(`
group: %[1]s
brokers: [%[2]q]
feeds: {payments: {topic: %[3]s}, complaints: {topic: %[4]s}, customers: {topic: %[5]s}}
topics: {create: true, replication_factor: 1, alerts: %[1]s-alerts, open_alerts: %[1]s-open, operations: %[1]s-ops}
detectors: {silence: {budget_percent: 0}}
cohorts: {by: [region, owner]}
alerts: {horizon: 30d}
history: publish
stall: {expected_records: 1000000}
state: {dir: %[6]q}
http: {listen: ""}
`, b.Name(group), b.Addrs[0], b.Name("payments"), b.Name("complaints"), b.Name("customers"), t.TempDir()))
}

// life is one life of an instance.
type life struct {
	cancel context.CancelFunc
	done   chan error
	wire   *wire
}

// live starts an instance, that is parted from the brokers after so many writes on its connections; 0: it is not.
func live(t *testing.T, b *kafkatest.Broker, path string, writes int64) *life {
	t.Helper()
	cfg, err := config.Load(path, config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l := &life{cancel: cancel, done: make(chan error, 1), wire: &wire{dial: b.Dial, most: writes, dead: make(chan struct{})}}
	go func() {
		l.done <- app.Run(ctx, cfg, "test", app.Outside{Now: time.Now, Tick: time.Now, Rand: rand.New(rand.NewPCG(1, 2)), Log: slog.New(slog.DiscardHandler), Dial: l.wire.Dial})
	}()
	return l
}

func (l *life) stop() error {
	l.cancel()
	return <-l.done
}

// wire are the connections of one life.
type wire struct {
	dial kafkatest.DialFunc
	most int64
	sent atomic.Int64  // writes
	dead chan struct{} // closed when no connection is left, nor is to be had

	mu    sync.Mutex
	conns []net.Conn
}

func (w *wire) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := w.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, c)
	return &strand{c, w}, nil
}

func (w *wire) cut() {
	close(w.dead)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
}

// strand is one connection of a wire.
type strand struct {
	net.Conn
	wire *wire
}

func (s *strand) Write(b []byte) (int, error) {
	switch n, most := s.wire.sent.Add(1), s.wire.most; {
	case most == 0 || n < most:
		return s.Conn.Write(b)
	case n == most:
		s.wire.cut()
	}
	_ = s.Conn.Close()
	return 0, net.ErrClosed
}

// telling is how one alert was told: when first, within which other one or held back for which, as what, how often anew, until when. Times are in RFC 3339.
type telling struct {
	told, within, severity, resolved, changes string
	alone                                     bool // the group told it by itself
}

// tellings are alerts by detector, customer, subject, and when they fired.
type tellings struct {
	all   map[string]telling
	kinds map[string]int // how many of a kind there are
}

func (x *tellings) differ(got map[string]telling) error {
	var all []string
	for name, w := range x.all {
		g, told := got[name]
		if !g.alone { // how one ends that is told within others is not told
			w.resolved = ""
		}
		w.alone = g.alone
		if g != w {
			all = append(all, fmt.Sprintf("%s: the backtest says %+v, the group (%t) %+v", name, w, told, g))
		}
	}
	for name, g := range got {
		if _, wanted := x.all[name]; !wanted {
			all = append(all, fmt.Sprintf("%s: the group alone says %+v", name, g))
		}
	}
	if all == nil {
		return nil
	}
	slices.Sort(all)
	return fmt.Errorf("%d of %d differ:\n%s", len(all), len(x.all), strings.Join(all, "\n"))
}

// written is what ebb backtest --alerts writes about single customers, of a history in a file. Who was told nothing is counted only.
func written(t *testing.T, path string, rows []string, b *kafkatest.Broker) tellings {
	t.Helper()
	text := strings.Join(rows, "\n")
	for _, topic := range []string{"payments", "complaints", "customers"} {
		text = strings.ReplaceAll(text, fmt.Sprintf(`"topic":"%s"`, topic), fmt.Sprintf(`"topic":"%s"`, b.Name(topic)))
	}
	file := filepath.Join(t.TempDir(), "alerts.csv")
	o := cli.BacktestOptions{Config: path, Events: []string{"-"}, Stdin: strings.NewReader(text), Alerts: file, JSON: true, StopAtBad: true, MaxMemory: 1 << 30}
	var report strings.Builder
	if err := app.Backtest(t.Context(), o, cli.Streams{Stdout: &report, Stderr: io.Discard}); err != nil {
		t.Fatal(err)
	}
	head, lines := table(t, file)
	out := tellings{map[string]telling{}, map[string]int{}}
	for _, row := range lines {
		x := map[string]string{}
		for i, name := range head {
			x[name] = row[i]
		}
		switch {
		case x["customer_id"] == "" || x["verdict"] == "missed":
			continue
		case x["told"] == "":
			out.kinds["untold"]++
			continue
		case strings.HasPrefix(x["within"], "cohort_drop"):
			out.kinds["told later"]++
		case x["within"] != "":
			out.kinds["within"]++
		}
		out.kinds[x["detector"]]++
		out.all[fmt.Sprint(x["detector"], " ", x["customer_id"], " ", x["subject"], " ", x["fired"])] = telling{told: x["told"], within: x["within"], severity: x["severity"], resolved: x["resolved"], changes: x["changes"]}
	}
	var r backtest.Report
	if err := json.Unmarshal([]byte(report.String()), &r); err != nil {
		t.Fatal(err)
	}
	for _, d := range r.Methods[0].Detectors {
		out.kinds["alone"] += d.Alerts
		out.kinds["told"] += d.Alerts + d.Together
	}
	if out.kinds["told"] != len(out.all) {
		t.Errorf("the report counts %v, the table has %d that were told", out.kinds, len(out.all))
	}
	return out
}

// published is what a group told about single customers up to a time, in its topic of alerts.
func published(t *testing.T, b *kafkatest.Broker, group string, until time.Time) map[string]telling {
	t.Helper()
	out := map[string]telling{}
	changes := map[string]int{}
	revisions := map[string]uint32{}
	for _, r := range b.ReadCommitted(t, b.Name(group)+"-alerts") {
		a, err := alerts.Parse(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		if revisions[a.AlertID]++; revisions[a.AlertID] != a.Revision {
			t.Fatalf("alert %s: revision %d is the %dth of its steps", a.AlertID, a.Revision, revisions[a.AlertID])
		}
		if a.CustomerID == "" || a.Time.After(until) {
			continue
		}
		at := a.Time.Truncate(time.Second).Format(time.RFC3339)
		name := func(detector string, s *alerts.Subject, fired time.Time) string {
			about := ""
			if s != nil {
				about = s.ID
			}
			return fmt.Sprint(detector, " ", a.CustomerID, " ", about, " ", fired.Truncate(time.Second).Format(time.RFC3339))
		}
		for _, g := range a.Together {
			k := name(g.Detector, g.Subject, g.FirstFiredAt)
			if _, told := out[k]; !told {
				out[k] = telling{told: at, within: a.Detector, severity: g.Severity, changes: "0"}
			}
		}
		k := name(a.Detector, a.Subject, a.FirstFiredAt)
		x := out[k]
		switch a.Step {
		case "fired":
			if x.told == "" {
				x.told = at
			}
			if a.HeldBackFor != nil {
				x.within = "cohort_drop " + a.HeldBackFor.ID
			}
			x.severity, x.alone = a.Severity, true
		case "changed":
			changes[k]++
		case "resolved":
			x.resolved = at
		}
		x.changes = fmt.Sprint(changes[k])
		out[k] = x
	}
	return out
}
