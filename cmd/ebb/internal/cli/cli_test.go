package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"ebb/cmd/ebb/internal/app"
	"ebb/cmd/ebb/internal/cli"
	"ebb/cmd/ebb/internal/config"
	"ebb/stream"
	"ebb/stream/conn"
	"ebb/stream/kafkatest"
)

// program is the command tree with everything it touches in memory.
type program struct {
	deps        cli.Deps
	out, errOut bytes.Buffer
	files       map[string]string
	env         map[string]string
}

func newProgram() *program {
	p := &program{files: map[string]string{}, env: map[string]string{}}
	p.deps = cli.Deps{
		Streams: cli.Streams{Stdout: &p.out, Stderr: &p.errOut},
		Config: config.Source{
			Env: func(name string) (string, bool) { v, ok := p.env[name]; return v, ok },
			ReadFile: func(name string) ([]byte, error) {
				if text, ok := p.files[name]; ok {
					return []byte(text), nil
				}
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
			},
		},
		Now:  time.Now,
		Run:  func(context.Context, *config.Config, *slog.Logger) error { return nil },
		Demo: func(context.Context, cli.DemoOptions, cli.Streams) error { return nil },
		Upkeep: func(ctx context.Context, cfg *config.Config, cluster *conn.Cluster, log *slog.Logger) (*stream.Upkeep, error) {
			return app.NewUpkeep(ctx, cfg, cluster, outside(log))
		},
		Version: cli.Version{Version: "v1.2.3", Commit: "0123456789abcdef", Time: "2026-01-05T10:00:00Z", Go: "go1.26"},
	}
	p.files["ebb.yaml"] = "group: ebb\nbrokers: [127.0.0.1:1]\nfeeds: {usage: {topic: usage}}\n"
	return p
}

func outside(log *slog.Logger) app.Outside {
	return app.Outside{Now: time.Now, Tick: time.Now, Rand: rand.New(rand.NewPCG(1, 2)), Log: log}
}

func (p *program) run(ctx context.Context, args ...string) int {
	p.out.Reset()
	p.errOut.Reset()
	return cli.New(p.deps).Execute(ctx, args)
}

func TestExitCodesAndStreams(t *testing.T) {
	cases := []struct {
		rule   string
		args   []string
		change func(p *program)
		code   int
		stdout string // contained; "" means empty
		stderr string
	}{
		{"the version is a result", []string{"version"}, nil, cli.Done, "ebb v1.2.3 (0123456789ab, 2026-01-05T10:00:00Z) go1.26\n", ""},
		{"the version for programs", []string{"version", "--output", "json"}, nil, cli.Done, `{"version":"v1.2.3","commit":"0123456789abcdef"`, ""},
		{"help is a result", []string{"--help"}, nil, cli.Done, "ebb demo ", ""},
		{"without arguments there is help", nil, nil, cli.Done, "Usage:", ""},
		{"an unknown command is wrong usage", []string{"frobnicate"}, nil, cli.Wrong, "", `unknown command "frobnicate"`},
		{"a mistyped command is suggested", []string{"vers"}, nil, cli.Wrong, "", "version"},
		{"an unknown flag is wrong usage", []string{"run", "--frobnicate"}, nil, cli.Wrong, "", "unknown flag: --frobnicate; see ebb run --help"},
		{"an argument too many is wrong usage", []string{"run", "ebb.yaml"}, nil, cli.Wrong, "", "ebb run --help"},
		{"a wrong word for a flag is wrong usage", []string{"version", "-o", "xml"}, nil, cli.Wrong, "", "use text or json"},
		{"a wrong duration is wrong usage", []string{"demo", "--for", "10"}, nil, cli.Wrong, "", "is no duration"},
		{"a negative duration is wrong usage", []string{"demo", "--for", "-1s"}, nil, cli.Wrong, "", "use a positive duration"},
		{"a group without a command says which there are", []string{"topics"}, nil, cli.Wrong, "", "ebb topics needs a command: check, create"},
		{"a flag before the command of a group", []string{"alerts", "-c", "ebb.yaml"}, nil, cli.Wrong, "", "ebb alerts needs a command before its flags: ack, assign"},
		{"a wrong command of a group is wrong usage", []string{"topics", "delete"}, nil, cli.Wrong, "", `unknown command "delete" for "ebb topics"`},
		{"the schema of alerts", []string{"alerts", "schema"}, nil, cli.Done, `"$id": "urn:ebb:schema:alert:v1"`, ""},
		{"the schema of operational alerts", []string{"alerts", "schema", "--operational"}, nil, cli.Done, `"$id": "urn:ebb:schema:operational:v1"`, ""},
		{"a good configuration", []string{"config", "check"}, nil, cli.Done, "ebb.yaml: ok\n", ""},
		{"a good configuration, for programs", []string{"config", "check", "-o", "json"}, nil, cli.Done, `{"ok":true,"faults":[]}`, ""},
		{
			"faults are the result of a check",
			[]string{"config", "check"},
			func(p *program) { p.files["ebb.yaml"] += "grop: x\n" },
			cli.Wrong, "ebb.yaml:4:1: grop: unknown key; did you mean group?\n", "",
		},
		{
			"faults for programs",
			[]string{"config", "check", "-o", "json"},
			func(p *program) { p.files["ebb.yaml"] += "grop: x\n" },
			cli.Wrong, `{"ok":false,"faults":[{"file":"ebb.yaml","line":4,"column":1,"path":"grop","what":"unknown key","mend":"did you mean group?"}]}`, "",
		},
		{
			"faults keep everything else from starting",
			[]string{"run"},
			func(p *program) { p.files["ebb.yaml"] += "grop: x\n" },
			cli.Wrong, "", "ebb.yaml:4:1: grop: unknown key; did you mean group?\n",
		},
		{"a missing configuration", []string{"run", "-c", "nowhere.yaml"}, nil, cli.Wrong, "", "nowhere.yaml: does not exist; name the configuration file with -c FILE\n"},
		{"the configuration in force", []string{"config", "print"}, nil, cli.Done, "max_out_of_order: 10m\n", ""},
		{"the schema", []string{"config", "schema"}, nil, cli.Done, `"$schema": "https://json-schema.org/draft/2020-12/schema"`, ""},
		{"a clean stop", []string{"run"}, nil, cli.Done, "", ""},
		{
			"a failure at run time",
			[]string{"run"},
			func(p *program) {
				p.deps.Run = func(context.Context, *config.Config, *slog.Logger) error { return errors.New("out of luck; try again") }
			},
			cli.Failed, "", "ebb: out of luck; try again\n",
		},
		{
			"a broker that is not there",
			[]string{"topics", "check"},
			nil,
			cli.Failed, "", "ebb: kafka at 127.0.0.1:1: broker not reachable: ",
		},
	}
	for _, tc := range cases {
		t.Run(tc.rule, func(t *testing.T) {
			p := newProgram()
			if tc.change != nil {
				tc.change(p)
			}
			if code := p.run(t.Context(), tc.args...); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			compare(t, "stdout", p.out.String(), tc.stdout)
			compare(t, "stderr", p.errOut.String(), tc.stderr)
		})
	}
}

func compare(t *testing.T, name, got, want string) {
	t.Helper()
	if want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("%s: got %q, want %q", name, got, want)
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	for _, args := range []string{
		"", "run", "demo", "config", "config check", "config print", "config schema", "topics", "topics check", "topics create", "alerts",
		"alerts tail", "alerts show", "alerts ack", "alerts assign", "alerts unassign", "alerts contacted", "alerts snooze", "alerts unsnooze", "alerts outcome", "alerts reopen", "alerts verify", "alerts schema",
		"dlq", "dlq list", "state", "state show", "state grow", "state rewind", "state export", "state import", "version",
	} {
		p := newProgram()
		if code := p.run(t.Context(), append(strings.Fields(args), "--help")...); code != cli.Done {
			t.Errorf("%q: exit code %d", args, code)
		}
		if !strings.Contains(p.out.String(), "Examples:\n  ") {
			t.Errorf("%q has no example:\n%s", args, p.out.String())
		}
		for line := range strings.SplitSeq(p.out.String(), "\n") {
			if len(line) > 110 {
				t.Errorf("%q: line too long for a terminal: %s", args, line)
			}
		}
	}
}

func TestRunGetsConfigurationAndLogger(t *testing.T) {
	p := newProgram()
	p.env["LEVEL"] = "warn"
	p.files["ebb.yaml"] += "log: {level: \"${LEVEL}\", format: json}\n"
	p.deps.Run = func(_ context.Context, c *config.Config, log *slog.Logger) error {
		if c.Group != "ebb" || c.Topics.Changelog != "ebb-changelog" {
			t.Errorf("configuration: %+v", c)
		}
		log.Info("not shown")
		log.Warn("shown")
		return nil
	}
	if code := p.run(t.Context(), "run"); code != cli.Done {
		t.Errorf("exit code %d: %s", code, p.errOut.String())
	}
	if got := p.errOut.String(); strings.Contains(got, "not shown") || !strings.Contains(got, `"msg":"shown"`) {
		t.Errorf("log: %s", got)
	}
}

func TestDemoGetsItsFlags(t *testing.T) {
	p := newProgram()
	var got cli.DemoOptions
	p.deps.Demo = func(_ context.Context, o cli.DemoOptions, _ cli.Streams) error {
		got = o
		return nil
	}
	p.run(t.Context(), "demo", "--for", "30s", "--seed", "7", "--listen", ":0", "--no-browser", "--print-config", "--output", "json")
	want := cli.DemoOptions{For: 30 * time.Second, Seed: 7, Listen: ":0", NoBrowser: true, PrintConfig: true, JSON: true}
	if got != want {
		t.Errorf("got %+v", got)
	}
	p.run(t.Context(), "demo")
	if want := (cli.DemoOptions{Seed: 1, Listen: "127.0.0.1:9464"}); got != want {
		t.Errorf("got %+v", got)
	}
}

func TestWithoutAnEngineThereIsNoCommandForIt(t *testing.T) {
	p := newProgram()
	p.deps.Run, p.deps.Demo = nil, nil
	if code := p.run(t.Context(), "run"); code != cli.Wrong {
		t.Errorf("exit code %d", code)
	}
}

// onBroker is a program whose configuration names the broker's topics.
func onBroker(b *kafkatest.Broker) *program {
	p := newProgram()
	p.deps.Dial = b.Dial
	p.files["ebb.yaml"] = "group: " + b.Name("ebb") + "\nbrokers: [\"${B}\"]\nfeeds: {usage: {topic: " + b.Name("usage") + "}}\n" +
		"topics: {replication_factor: 1, alerts: " + b.Name("alerts") + ", open_alerts: " + b.Name("open") + ", operations: " + b.Name("ops") + "}\n"
	p.env["B"] = strings.Join(b.Addrs, ",")
	return p
}

func TestTopicsAreCheckedAndCreated(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	b.CreateTopic(t, b.Name("usage"), 3, nil)
	p := onBroker(b)
	if code := p.run(t.Context(), "topics", "check"); code != cli.Failed {
		t.Errorf("exit code %d", code)
	}
	compare(t, "stdout", p.out.String(), "error: topic "+b.Name("alerts")+": does not exist; ebb topics create -c ebb.yaml, or set topics.create: true")
	compare(t, "stderr", p.errOut.String(), "")
	if code := p.run(t.Context(), "topics", "create"); code != cli.Done {
		t.Errorf("exit code %d: %s%s", code, p.out.String(), p.errOut.String())
	}
	compare(t, "stdout", p.out.String(), "created: topic "+b.Name("alerts")+"\n")
	if code := p.run(t.Context(), "topics", "check", "-o", "json"); code != cli.Done || p.out.String() != "{\"ok\":true,\"problems\":[]}\n" {
		t.Errorf("exit code %d: %s", code, p.out.String())
	}
}

const (
	fired = `{"alert_id":"a1","revision":1,"status":"firing","step":"fired","detector":"spend_drop","customer_id":"c-42","severity":"warning",` +
		`"summary":"Spent 41.20 a week.","time":"2026-01-05T10:00:00Z","money_at_risk":{"amount":"412.50","currency":"EUR"}}`
	resolved = `{"alert_id":"a1","revision":2,"status":"resolved","step":"resolved","reason":"recovered","detector":"spend_drop","customer_id":"c-42",` +
		`"severity":"warning","time":"2026-01-06T10:00:00Z"}`
	nasty = `{"alert_id":"a2","step":"fired","detector":"silence","customer_id":"c\u001b[31m<&>","severity":"info","time":"2026-01-07T10:00:00Z"}`
)

func TestAlertsTail(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	b.CreateTopic(t, b.Name("alerts"), 1, nil)
	p := onBroker(b)
	b.Produce(
		t, b.Name("alerts"),
		kafkatest.Record{Key: []byte("c-42"), Value: []byte(fired)},
		kafkatest.Record{Key: []byte("c-42"), Value: []byte("not json")},
		kafkatest.Record{Key: []byte("c-42"), Value: []byte(resolved)},
		kafkatest.Record{Key: []byte("c"), Value: []byte(nasty)},
	)
	if code := p.run(t.Context(), "alerts", "tail", "--from-start", "--until-end", "--output", "json"); code != cli.Done {
		t.Errorf("exit code %d: %s", code, p.errOut.String())
	}
	if want := fired + "\n" + resolved + "\n" + nasty + "\n"; p.out.String() != want {
		t.Errorf("got\n%swant\n%s", p.out.String(), want)
	}
	compare(t, "stderr", p.errOut.String(), "partition 0 offset 1 was left out: alert event: ")
	p.run(t.Context(), "alerts", "tail", "--from-start", "--until-end")
	want := "2026-01-05T10:00:00Z  warning   a1  fired  spend_drop  c-42  412.50 EUR  Spent 41.20 a week.\n" +
		"2026-01-06T10:00:00Z  warning   a1  resolved (recovered)  spend_drop  c-42\n" +
		"2026-01-07T10:00:00Z  info      a2  fired  silence  c\uFFFD[31m<&>\n"
	if p.out.String() != want {
		t.Errorf("got\n%swant\n%s", p.out.String(), want)
	}
	if code := p.run(t.Context(), "alerts", "tail", "--until-end"); code != cli.Done || p.out.Len() != 0 {
		t.Errorf("from the end there is nothing: %d %s", code, p.out.String())
	}
	b.CreateTopic(t, b.Name("ops"), 1, nil)
	b.Produce(t, b.Name("ops"), kafkatest.Record{Key: []byte("usage"), Value: []byte(`{"alert_id":"b1","revision":1,"status":"firing","step":"fired","detector":"feed_stalled",` +
		`"subject":{"type":"feed","id":"usage"},"severity":"critical","summary":"No record since 10:00.","time":"2026-01-05T12:00:00Z"}`)})
	p.run(t.Context(), "alerts", "tail", "--operational", "--from-start", "--until-end")
	if want := "2026-01-05T12:00:00Z  critical  b1  fired  feed_stalled  usage  No record since 10:00.\n"; p.out.String() != want {
		t.Errorf("got\n%swant\n%s", p.out.String(), want)
	}
}

// writerFunc is a writer that tells of every write.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestTailWaitsForMoreUntilItIsStopped(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	b.CreateTopic(t, b.Name("alerts"), 2, nil)
	b.Produce(t, b.Name("alerts"), kafkatest.Record{Key: []byte("a"), Value: []byte(fired)})
	p := onBroker(b)
	lines := make(chan string, 10)
	p.deps.Stdout = writerFunc(func(line []byte) (int, error) {
		lines <- string(line)
		return len(line), nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- p.run(ctx, "alerts", "tail", "--from-start", "-o", "json") }()
	if got := <-lines; got != fired+"\n" {
		t.Errorf("got %s", got)
	}
	b.Produce(t, b.Name("alerts"), kafkatest.Record{Key: []byte("b"), Value: []byte(resolved)})
	if got := <-lines; got != resolved+"\n" {
		t.Errorf("got %s", got)
	}
	cancel()
	if got := <-code; got != cli.Done {
		t.Errorf("stopped by the user: exit code %d", got)
	}
}

func TestAMissingTopicNamesTheCommandThatCreatesIt(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	p := onBroker(b)
	if code := p.run(t.Context(), "alerts", "tail"); code != cli.Failed {
		t.Errorf("exit code %d", code)
	}
	compare(t, "stderr", p.errOut.String(), "topic "+b.Name("alerts")+" does not exist; ebb topics create -c ebb.yaml\n")
}

func TestDeadLettersAreListedWithoutTheirContent(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	p := onBroker(b)
	dlq := b.Name("ebb") + "-dlq"
	b.CreateTopic(t, dlq, 1, nil)
	p.run(t.Context(), "dlq", "list")
	compare(t, "stdout", p.out.String(), "")
	compare(t, "stderr", p.errOut.String(), "there are no dead letters\n")
	origin := func(reason string, offset string) map[string]string {
		return map[string]string{
			"ebb_error_reason":     reason,
			"ebb_error_message":    "at byte 3",
			"ebb_source_topic":     "usage",
			"ebb_source_partition": "2",
			"ebb_source_offset":    offset,
			"ebb_source_timestamp": "1767607200000",
			"trace":                "t\xff",
		}
	}
	b.Produce(
		t, dlq,
		kafkatest.Record{Key: []byte("c-42"), Value: []byte(`{"secret <b>`), Headers: origin("truncated", "17")},
		kafkatest.Record{Key: nil, Value: []byte("\xff\x00"), Headers: origin("invalid_utf8", "18")},
	)
	if code := p.run(t.Context(), "dlq", "list"); code != cli.Done {
		t.Errorf("exit code %d: %s", code, p.errOut.String())
	}
	want := "2026-01-05T10:00:00Z  usage/2/17  truncated  at byte 3\n2026-01-05T10:00:00Z  usage/2/18  invalid_utf8  at byte 3\n"
	if p.out.String() != want {
		t.Errorf("got\n%swant\n%s", p.out.String(), want)
	}
	p.run(t.Context(), "dlq", "list", "-o", "json")
	if strings.Contains(p.out.String(), "secret") || strings.Contains(p.out.String(), "c-42") {
		t.Errorf("content is shown without being asked for: %s", p.out.String())
	}
	first, _, _ := strings.Cut(p.out.String(), "\n")
	want = `{"reason":"truncated","message":"at byte 3","source":{"topic":"usage","partition":2,"offset":17,"time":"2026-01-05T10:00:00Z"},` +
		`"partition":0,"offset":0,"key_bytes":4,"value_bytes":12}`
	if first != want {
		t.Errorf("got\n%s\nwant\n%s", first, want)
	}
	p.run(t.Context(), "dlq", "list", "-o", "json", "--show-payload")
	for _, s := range []string{`"key":"c-42","value":"{\"secret <b>"`, `"key":null,"value":{"base64":"/wA="}`, `"headers":{"trace":"t` + "\uFFFD" + `"}`} {
		compare(t, "stdout", p.out.String(), s)
	}
	dec := json.NewDecoder(&p.out)
	for dec.More() {
		var v map[string]any
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
	}
	p.run(t.Context(), "dlq", "list", "--show-payload")
	compare(t, "stdout", p.out.String(), `at byte 3  c-42  {"secret <b>`)
}

func TestALoginThatIsRefusedIsNamed(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{Login: &kafkatest.Login{Mechanism: "SCRAM-SHA-512", Username: "ebb", Password: "right"}})
	p := onBroker(b)
	p.files["ebb.yaml"] += "security: {sasl: {mechanism: scram-sha-512, username: ebb, password: \"${PW}\"}}\n"
	p.env["PW"] = "wrong"
	if code := p.run(t.Context(), "topics", "check"); code != cli.Failed {
		t.Errorf("exit code %d", code)
	}
	compare(t, "stderr", p.errOut.String(), "login refused")
	p.env["PW"] = "right"
	b.CreateTopic(t, b.Name("usage"), 1, nil)
	if code := p.run(t.Context(), "topics", "create"); code != cli.Done {
		t.Errorf("exit code %d: %s%s", code, p.out.String(), p.errOut.String())
	}
}

func TestSecurityOnARealBroker(t *testing.T) {
	b := kafkatest.Real(t)
	if b.Secure == nil {
		t.Skip("the broker of KAFKA_BROKERS has no protected listeners that the test knows of")
	}
	b.CreateTopic(t, b.Name("usage"), 1, nil)
	login := b.SASL(t, "SCRAM-SHA-512").Login
	sasl := func(mechanism, password string) string {
		return "sasl: {mechanism: " + mechanism + ", username: " + login.Username + ", password: " + password + "}"
	}
	ca := "tls: {enabled: true, ca_file: " + b.Secure.CAFile + "}"
	cases := []struct {
		rule     string
		addr     string
		security string
		code     int
		stderr   string
	}{
		{"SCRAM over TLS", b.Secure.SASLAddr, ca + ", " + sasl("scram-sha-512", login.Password), cli.Done, ""},
		{"PLAIN over TLS", b.Secure.SASLAddr, ca + ", " + sasl("plain", login.Password), cli.Done, ""},
		{
			"a certificate of one's own", b.Secure.MutualAddr,
			"tls: {enabled: true, ca_file: " + b.Secure.CAFile + ", cert_file: " + b.Secure.CertFile + ", key_file: " + b.Secure.KeyFile + "}",
			cli.Done, "",
		},
		{"no certificate where one is asked for", b.Secure.MutualAddr, ca, cli.Failed, "certificate"},
		{"a wrong password", b.Secure.SASLAddr, ca + ", " + sasl("scram-sha-512", "wrong"), cli.Failed, "login refused"},
		{"no login where one is asked for", b.Secure.SASLAddr, ca, cli.Failed, "login refused"},
		{"plain text against a TLS port", b.Secure.SASLAddr, sasl("plain", login.Password), cli.Failed, "the port speaks TLS, the configuration does not"},
		{"TLS against a plain port", b.Addrs[0], ca, cli.Failed, "the port speaks plain text, the configuration asks for TLS"},
		{"an authority that is not known", b.Secure.SASLAddr, "tls: {enabled: true}, " + sasl("plain", login.Password), cli.Failed, "certificate not accepted"},
	}
	for _, tc := range cases {
		t.Run(tc.rule, func(t *testing.T) {
			p := onBroker(b)
			p.deps.Config.ReadFile = func(name string) ([]byte, error) {
				if text, ok := p.files[name]; ok {
					return []byte(text), nil
				}
				return os.ReadFile(name)
			}
			p.env["B"] = tc.addr
			p.files["ebb.yaml"] += "security: {" + tc.security + "}\n"
			if code := p.run(t.Context(), "topics", "create"); code != tc.code {
				t.Errorf("exit code %d: %s%s", code, p.out.String(), p.errOut.String())
			}
			compare(t, "stderr", p.errOut.String(), tc.stderr)
		})
	}
}

// Only the headers that ebb writes say why and where from. One of the producer's own that is called nearly so is one of his.
func TestADeadLettersOwnHeadersAreTold(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	p := onBroker(b)
	dlq := b.Name("ebb") + "-dlq"
	b.CreateTopic(t, dlq, 1, nil)
	b.Produce(t, dlq, kafkatest.Record{Value: []byte("{"), Headers: map[string]string{"ebb_error_reason": "truncated", "ebb_source_topic": "usage", "source_topic": "crm", "ebb_source_feed": "x"}})
	p.run(t.Context(), "dlq", "list", "-o", "json", "--show-payload")
	for _, s := range []string{`"source":{"topic":"usage"`, `"source_topic":"crm"`, `"ebb_source_feed":"x"`} {
		compare(t, "stdout", p.out.String(), s)
	}
}

// An address that is none is wrong usage, which is told before anything starts.
func TestTheDemosAddressIsChecked(t *testing.T) {
	p := newProgram()
	for addr, want := range map[string]int{"9464": cli.Wrong, "127.0.0.1:http": cli.Wrong, "127.0.0.1:70000": cli.Wrong, "127.0.0.1:0": cli.Done, ":9464": cli.Done} {
		if code := p.run(t.Context(), "demo", "--listen", addr); code != want {
			t.Errorf("--listen %s: exit code %d, want %d: %s", addr, code, want, p.errOut.String())
		}
	}
}
