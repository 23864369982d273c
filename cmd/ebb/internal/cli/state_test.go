package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/cmd/ebb/internal/app"
	"ebb/cmd/ebb/internal/cli"
	"ebb/cmd/ebb/internal/config"
	"ebb/stream"
	"ebb/stream/kafkatest"
	"ebb/stream/partition"
)

// stateful is a program whose group runs for a while on a cluster in virtual time. Its deadlines wait for no judgement of cohorts: they are decided once all is read.
type stateful struct {
	*program
	t *testing.T
	b *kafkatest.Broker
}

func newStateful(t *testing.T, b *kafkatest.Broker, parts int32) *stateful {
	t.Helper()
	b.CreateTopic(t, b.Name("usage"), parts, nil)
	s := &stateful{onBroker(b), t, b}
	s.files["ebb.yaml"] += fmt.Sprintf("state: {dir: %q}\nhttp: {listen: \"\"}\ndetectors: {silence: {method: plain}}\nhistory: publish\ncohorts: {hold_back: false}\nstall: {expected_records: 1000000}\n", t.TempDir())
	s.succeeds("topics", "create")
	return s
}

// succeeds runs a command that has to end with code 0.
func (s *stateful) succeeds(args ...string) string {
	s.t.Helper()
	if code := s.run(context.Background(), args...); code != cli.Done {
		s.t.Fatalf("%v: exit code %d: %s%s", args, code, s.out.String(), s.errOut.String())
	}
	return s.out.String()
}

// uses produces a use of each of n customers.
func (s *stateful) uses(n int, parts int32, at time.Time) {
	s.t.Helper()
	var records []kafkatest.Record
	for i := range n {
		key := fmt.Appendf(nil, "c-%d", i)
		records = append(records, kafkatest.Record{
			Partition: partition.Murmur2(key, parts), Key: key, Timestamp: at.UnixMilli(),
			Value: fmt.Appendf(nil, `{"id":"u-%d-%d","customer_id":%q,"time":%q,"type":"session"}`, i, at.UnixMilli(), key, at.UTC().Format(time.RFC3339)),
		})
	}
	s.b.Produce(s.t, s.b.Name("usage"), records...)
}

// runs lets ebb read its feed to the end, and stops it.
func (s *stateful) runs() {
	s.t.Helper()
	s.deps.Run = func(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
		o := outside(log)
		o.Dial = s.b.Dial
		return app.Run(ctx, cfg, "test", o)
	}
	beside := &stateful{onBroker(s.b), s.t, s.b} // a program writes what it says into one place
	beside.files = s.files
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int)
	go func() { code <- s.run(ctx, "run") }()
	kafkatest.Eventually(s.t, "everything read", func() error {
		done := s.b.GroupOffsets(s.t, s.b.Name("ebb"), s.b.Name("usage"))
		for p, end := range s.b.EndOffsets(s.t, s.b.Name("usage")) {
			if done[p] != end {
				return fmt.Errorf("partition %d is at %d of %d", p, done[p], end)
			}
		}
		for _, p := range beside.shows().Partitions {
			if p.Quiet {
				return fmt.Errorf("partition %d is quiet", p.Partition)
			}
		}
		return nil
	})
	cancel()
	if c := <-code; c != cli.Done {
		s.t.Fatalf("run: exit code %d: %s", c, s.errOut.String())
	}
}

func (s *stateful) addPartitions(topic string, n int32) {
	s.t.Helper()
	cl := s.b.Client(s.t)
	defer cl.Close()
	req := kmsg.NewPtrCreatePartitionsRequest()
	rt := kmsg.NewCreatePartitionsRequestTopic()
	rt.Topic, rt.Count = topic, n
	req.Topics = append(req.Topics, rt)
	if _, err := req.RequestWith(context.Background(), cl); err != nil {
		s.t.Fatal(err)
	}
	s.b.EndOffsets(s.t, topic)
}

func (s *stateful) shows() stream.StateOverview {
	s.t.Helper()
	var o stream.StateOverview
	if err := json.Unmarshal([]byte(s.succeeds("state", "show", "-o", "json")), &o); err != nil {
		s.t.Fatal(err)
	}
	return o
}

func TestStateGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		s := newStateful(t, b, 2)
		now := time.Now()
		s.uses(30, 2, now.Add(-time.Hour))
		s.runs()
		compare(t, "nothing to do", s.succeeds("state", "grow", "--yes"), "as many as the feeds have; there is nothing to do")
		s.addPartitions(b.Name("usage"), 5)

		if code := s.run(t.Context(), "topics", "check"); code != cli.Failed {
			t.Errorf("topics check: exit code %d", code)
		}
		compare(t, "topics check", s.out.String(), "has 2 partitions, the feeds have 5; stop all instances and run ebb state grow -c ebb.yaml")
		if code := s.run(t.Context(), "run"); code != cli.Failed {
			t.Errorf("run: exit code %d", code)
		}
		plan := s.succeeds("state", "grow")
		compare(t, "plan", plan, "from 2 to 5 partitions: ")
		compare(t, "plan", plan, " of 30 customers move\n"+unchangedWords)
		if n := s.shows().ChangelogPartitions; n != 2 {
			t.Errorf("without --yes the changelog got %d partitions", n)
		}
		compare(t, "done", s.succeeds("state", "grow", "--yes"), "done: 5 partitions instead of 2; ")
		if shown := s.succeeds("state", "show"); !strings.Contains(shown, "\nby stage: 30 warming up, 0 new, 0 growing, 0 mature, 0 declining, 0 lapsed, 0 blind, 0 quarantined\n") {
			t.Error(shown)
		}

		s.uses(30, 5, now)
		s.runs()
		o := s.shows()
		if o.Customers != 30 || len(o.Partitions) != 5 || o.Refusal != "" || o.Stages["warming_up"] != 30 {
			t.Errorf("%+v", o)
		}
		for _, p := range o.Partitions {
			if p.Customers == 0 || p.Unread != 0 || !p.Begun {
				t.Errorf("%+v", p)
			}
		}
	})
}

func TestStateIsRewound(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector; TestStateGrows goes through the same code")
	}
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		s := newStateful(t, b, 2)
		now := time.Now()
		s.uses(30, 2, now.Add(-30*24*time.Hour)) // all of them are silent by now
		s.uses(10, 2, now.Add(-time.Hour))
		s.runs()
		if o := s.shows(); o.OpenAlerts != 20 {
			t.Fatalf("%+v", o)
		}
		if code := s.run(t.Context(), "state", "rewind"); code != cli.Wrong {
			t.Errorf("without --to: exit code %d", code)
		}
		if code := s.run(t.Context(), "state", "rewind", "--to", "yesterday"); code != cli.Wrong {
			t.Errorf("--to yesterday: exit code %d", code)
		}
		to := now.Add(-2 * 24 * time.Hour).Format(time.RFC3339)
		plan := s.succeeds("state", "rewind", "--to", to)
		compare(t, "plan", plan, "30 customers are forgotten and 10 records read again\n20 open alerts are remembered\n")
		compare(t, "plan", plan, unchangedWords)
		to = now.Add(-60 * 24 * time.Hour).Format(time.DateOnly)
		compare(t, "done", s.succeeds("state", "rewind", "--to", to, "--yes"), "40 records\n20 open alerts are remembered\n")
		steps := len(b.ReadCommitted(t, b.Name("alerts")))
		s.runs()
		if o := s.shows(); o.OpenAlerts != 20 || o.Customers != 30 || o.Partitions[0].Quiet || o.Partitions[1].Quiet {
			t.Errorf("%+v", o)
		}
		if n := len(b.ReadCommitted(t, b.Name("alerts"))); n != steps {
			t.Errorf("%d alert steps were published by the rewind", n-steps)
		}
	})
}

const unchangedWords = "nothing was changed; run it again with --yes to do it\n"

func TestStateMoves(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector; TestStateGrows goes through the same code")
	}
	synctest.Test(t, func(t *testing.T) {
		old := newStateful(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		now := time.Now()
		old.uses(30, 2, now.Add(-30*24*time.Hour))
		old.uses(10, 2, now.Add(-time.Hour))
		old.runs()
		name := filepath.Join(t.TempDir(), "customers.ebbstate")
		compare(t, "plan", old.succeeds("state", "export", name), unchangedWords)
		if _, err := os.Stat(name); err == nil {
			t.Error("without --yes the file was written")
		}
		compare(t, "done", old.succeeds("state", "export", name, "--yes"), "done: 30 customers of 2 partitions are in "+name)
		if code := old.run(t.Context(), "state", "export", name, "--yes"); code != cli.Failed {
			t.Errorf("over an existing file: exit code %d", code)
		}
		compare(t, "show", old.succeeds("state", "show"), "no task starts: state is not to be run on: it was exported")

		s := newStateful(t, kafkatest.Virtual(t, kafkatest.Options{}), 3)
		s.files["ebb.yaml"] = strings.Replace(s.files["ebb.yaml"], "group: "+s.b.Name("ebb"), "group: "+old.b.Name("ebb"), 1)
		s.succeeds("topics", "create")
		if code := s.run(t.Context(), "state", "import", name, "--positions", "middle"); code != cli.Wrong {
			t.Errorf("--positions middle: exit code %d", code)
		}
		at := "time=" + now.Add(-24*time.Hour).Format(time.RFC3339)
		compare(t, "plan", s.succeeds("state", "import", name, "--positions", at), "30 customers, 20 open alerts\n")
		compare(t, "done", s.succeeds("state", "import", name, "--positions", at, "--yes"), "done: the next start goes on with it")
		compare(t, "again", s.succeeds("state", "import", name, "--positions", at, "--yes"), "it was imported before")
		if o := s.shows(); o.Customers != 30 || o.OpenAlerts != 20 || len(o.Partitions) != 3 || o.Refusal != "" {
			t.Errorf("%+v", o)
		}
		if n := len(s.b.ReadCommitted(t, s.b.Name("open"))); n != 20 {
			t.Errorf("the table of open alerts holds %d", n)
		}
	})
}
