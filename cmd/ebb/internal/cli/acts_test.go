package cli_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"ebb/alerts"
	"ebb/cmd/ebb/internal/app"
	"ebb/cmd/ebb/internal/cli"
	"ebb/cmd/ebb/internal/config"
	"ebb/stream/kafkatest"
)

// desk is an ebb at work with one silent customer's alert open, and the program that people use beside it.
type desk struct {
	*program
	t     *testing.T
	b     *kafkatest.Broker
	alert string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	b := kafkatest.Fake(t, kafkatest.Options{})
	d := &desk{program: onBroker(b), t: t, b: b}
	for _, feed := range []string{"usage", "control"} {
		b.CreateTopic(t, b.Name(feed), 2, nil)
	}
	d.files["ebb.yaml"] = "group: " + b.Name("ebb") + "\nbrokers: [" + strings.Join(b.Addrs, ", ") + "]\n" +
		"feeds: {usage: {topic: " + b.Name("usage") + "}, control: {topic: " + b.Name("control") + "}}\n" +
		"topics: {create: true, replication_factor: 1, alerts: " + b.Name("alerts") + ", open_alerts: " + b.Name("open") + ", operations: " + b.Name("ops") + "}\n" +
		"detectors: {silence: {method: plain}, spend_drop: {method: plain}}\n" +
		"http: {listen: \"\"}\ntime: {grace: 20ms}\nstate: {dir: " + t.TempDir() + "}\n"
	at := time.Now().Add(-15 * 24 * time.Hour)
	b.Produce(t, b.Name("usage"), kafkatest.Record{
		Partition: 1, Key: []byte("c-1"), Timestamp: at.UnixMilli(),
		Value: fmt.Appendf(nil, `{"id":"u-1","customer_id":"c-1","time":%q,"type":"session"}`, at.UTC().Format(time.RFC3339)),
	})
	return d
}

// starts lets ebb run until the test ends, and waits for the alert.
func (d *desk) starts() {
	d.t.Helper()
	service := newProgram()
	service.files = maps.Clone(d.files)
	service.deps.Run = func(ctx context.Context, cfg *config.Config, _ *slog.Logger) error {
		o := outside(slog.New(slog.NewTextHandler(io.Discard, nil)))
		o.Dial = d.b.Dial
		return app.Run(ctx, cfg, "test", o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	go func() { done <- service.run(ctx, "run") }()
	d.t.Cleanup(func() {
		cancel()
		if code := <-done; code != cli.Done {
			d.t.Errorf("ebb run: exit code %d: %s", code, service.errOut.String())
		}
	})
	kafkatest.Eventually(d.t, "the alert", func() error {
		if d.run(context.Background(), "alerts", "tail", "--from-start", "--until-end", "-o", "json"); d.out.Len() == 0 {
			return fmt.Errorf("there is none: %s", d.errOut.String())
		}
		a, err := alerts.Parse(d.out.Bytes())
		if err == nil {
			d.alert = a.AlertID
		}
		return err
	})
}

// does runs a command and compares its exit code and what it printed.
func (d *desk) does(code int, stdout, stderr string, args ...string) {
	d.t.Helper()
	if got := d.run(context.Background(), append([]string{"alerts"}, args...)...); got != code {
		d.t.Fatalf("%v: exit code %d, want %d: %s", args, got, code, d.errOut.String())
	}
	compare(d.t, "stdout", d.out.String(), stdout)
	compare(d.t, "stderr", d.errOut.String(), stderr)
}

// A working day: each command waits for the step that it led to and prints it, and says what it is that cannot be done.
func TestWorkingAnAlert(t *testing.T) {
	d := newDesk(t)
	d.starts()
	d.env["USER"] = "kim"
	short := d.alert[:8]
	d.does(cli.Done, "fired  silence  c-1", "", "show", short)
	d.does(cli.Failed, "", "no alert has an id that begins with ffffffffffff", "ack", "ffffffffffff")
	d.does(cli.Failed, "", "is assigned to nobody", "unassign", short)
	d.does(cli.Done, `"step":"acknowledged"`, "", "ack", short, "--note", "will call", "-o", "json")
	d.does(cli.Failed, "", "was acknowledged by kim at ", "ack", short)
	d.does(cli.Done, "changed by ben  silence  c-1", "", "assign", strings.ToUpper(short), "--to", "lee", "--by", "ben")
	d.does(cli.Wrong, "", "say for how long with --for, or until when with --until", "snooze", short)
	d.does(cli.Wrong, "", "--until 2020-01-01 is over", "snooze", short, "--until", "2020-01-01")
	d.does(cli.Done, `"snoozed_until":"`, "", "snooze", short, "--for", "3d", "-o", "json")
	d.does(cli.Done, "\n  assigned to lee\n  snoozed until ", "", "show", short)
	d.does(cli.Wrong, "", "say what became of it with --result: saved, lost, false_alarm", "outcome", short)
	d.does(cli.Wrong, "", "use price or competitor_offer", "outcome", short, "--result", "lost", "--cause", "weather")
	d.does(cli.Done, "resolved (closed_by_outcome) by kim  silence  c-1  Closed: it was a false alarm, says kim; cause: need ended.", "", "outcome", short, "--result", "false_alarm", "--cause", "need_ended")
	d.does(cli.Failed, "", "is over: closed_by_outcome", "snooze", short, "--for", "1d")
	d.does(cli.Failed, "", "was closed as false_alarm", "outcome", short, "--result", "saved")
	d.does(cli.Done, `"outcome":"false_alarm"`, "", "show", short, "-o", "json")
	d.does(cli.Done, "fired  silence  c-1", "", "reopen", short)
	d.does(cli.Done, "written: reopen of alert "+d.alert, "nothing fired anew within 1s", "reopen", short, "--timeout", "1s")
}

// Where nobody carries an act out, the command says so when its patience is over; where none can be written, it says what is missing.
func TestActsThatNobodyCarriesOut(t *testing.T) {
	d := newDesk(t)
	for _, topic := range []string{"alerts", "open"} {
		d.b.CreateTopic(t, d.b.Name(topic), 1, nil)
	}
	a := strings.Replace(fired, `"a1"`, `"00000000000000000000000000000001"`, 1)
	d.b.Produce(t, d.b.Name("open"), kafkatest.Record{Key: []byte("00000000000000000000000000000001"), Value: []byte(a)})
	d.does(cli.Failed, "", "no step came of it within 1s", "ack", "00000000", "--timeout", "1s")
	d.does(cli.Done, `"type":"acknowledge"`, "", "ack", "00000000", "--wait=false", "-o", "json")
	if n := len(d.b.ReadCommitted(t, d.b.Name("control"))); n != 2 {
		t.Errorf("%d acts are written, want 2", n)
	}
	for change, want := range map[string]string{
		"control: {topic: nowhere}": "topic nowhere: ",
		"control: {topic: " + d.b.Name("control") + ", mapping: {fields: {customer_id: who, time: at, type: what}}}": "has a mapping",
	} {
		text := d.files["ebb.yaml"]
		d.files["ebb.yaml"] = strings.Replace(text, "control: {topic: "+d.b.Name("control")+"}", change, 1)
		d.does(cli.Failed, "", want, "ack", "00000000")
		d.files["ebb.yaml"] = text
	}
	d.files["ebb.yaml"] = strings.Replace(d.files["ebb.yaml"], ", control: {topic: "+d.b.Name("control")+"}", "", 1)
	d.does(cli.Failed, "", "set feeds.control", "ack", "00000000")
	d.files["ebb.yaml"] = strings.Replace(newDesk(t).files["ebb.yaml"], "group:", "partitioner: none\ngroup:", 1)
	d.does(cli.Failed, "", "partitioner is none", "ack", "00000000")
}
