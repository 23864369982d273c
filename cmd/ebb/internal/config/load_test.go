package config_test

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ebb/cmd/ebb/internal/config"
	"ebb/detectors"
	"ebb/stream/event"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// essentials is the smallest configuration.
const essentials = `group: ebb
brokers: [127.0.0.1:9092]
feeds: {usage: {topic: usage}}
`

// source is a file system of named texts and an environment.
func source(files, env map[string]string) config.Source {
	return config.Source{
		Env: func(name string) (string, bool) {
			v, ok := env[name]
			return v, ok
		},
		ReadFile: func(name string) ([]byte, error) {
			if text, ok := files[name]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
	}
}

func load(t *testing.T, text string, env map[string]string) *config.Config {
	t.Helper()
	c, err := config.Load("ebb.yaml", source(map[string]string{"ebb.yaml": text}, env))
	if err != nil {
		t.Fatalf("load:\n%v", err)
	}
	return c
}

// golden compares got with a file, or rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	is, was := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(is), len(was)) {
		if line(is, i) != line(was, i) {
			t.Errorf("%s differs in line %d (rewrite with -update)\n got: %s\nwant: %s", name, i+1, line(is, i), line(was, i))
			return
		}
	}
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

func TestEveryFaultIsReportedAtOnceWithPositionAndMend(t *testing.T) {
	files, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".yaml"), func(t *testing.T) {
			src := config.Source{Env: source(nil, nil).Env, ReadFile: os.ReadFile}
			_, err := config.Load(name, src)
			var faults config.Faults
			if !errors.As(err, &faults) {
				t.Fatalf("want faults, got %v", err)
			}
			for _, f := range faults {
				if f.What == "" || f.Mend == "" {
					t.Errorf("does not say what is wrong and what to do: %+v", f)
				}
			}
			golden(t, strings.TrimSuffix(name, ".yaml")+".txt", err.Error()+"\n")
		})
	}
}

func TestOnlyGroupBrokersAndFeedsAreNeeded(t *testing.T) {
	c := load(t, essentials, nil)
	if c.Topics.Changelog != "ebb-changelog" || c.Topics.DeadLetters != "ebb-dlq" || c.Topics.Alerts != "churn-alerts" {
		t.Errorf("topic names: %+v", c.Topics)
	}
	if c.Time.MaxOutOfOrder.Std() != 10*time.Minute || c.State.KeptDays != 91 || c.History != "quiet" {
		t.Errorf("defaults: %+v", c)
	}
	read := c.Feeds.Read()
	if len(read) != 1 || read[0].Role != event.Usage || read[0].Topic != "usage" {
		t.Errorf("feeds read: %+v", read)
	}
	k := c.Connection()
	if k.TLS != nil || k.SASL != nil || k.ClientID != "ebb" || len(k.Brokers) != 1 {
		t.Errorf("connection: %+v", k)
	}
}

func TestAMissingFileIsAFaultThatSaysWhatToDo(t *testing.T) {
	_, err := config.Load("nowhere.yaml", source(nil, nil))
	if err == nil || err.Error() != "nowhere.yaml: does not exist; name the configuration file with -c FILE" {
		t.Errorf("got %v", err)
	}
}

func TestReferencesToTheEnvironment(t *testing.T) {
	cases := []struct {
		rule string
		text string
		env  map[string]string
		want func(c *config.Config) any
		is   any
	}{
		{
			"a variable stands for a whole value",
			"client_id: ${WHO}",
			map[string]string{"WHO": "ebb-7"},
			func(c *config.Config) any { return c.ClientID }, "ebb-7",
		},
		{
			"a variable stands for a part of one",
			"client_id: ebb-${WHO}-x",
			map[string]string{"WHO": "7"},
			func(c *config.Config) any { return c.ClientID }, "ebb-7-x",
		},
		{
			"the default holds where the variable is not set",
			"client_id: ${WHO:-nobody}", nil,
			func(c *config.Config) any { return c.ClientID }, "nobody",
		},
		{
			"the default holds where the variable is empty",
			"client_id: ${WHO:-nobody}",
			map[string]string{"WHO": ""},
			func(c *config.Config) any { return c.ClientID }, "nobody",
		},
		{
			"a default may be empty",
			"client_id: x${WHO:-}", nil,
			func(c *config.Config) any { return c.ClientID }, "x",
		},
		{
			"numbers, sizes, durations and switches may come from the environment",
			"state: {kept_days: \"${DAYS}\"}",
			map[string]string{"DAYS": "120"},
			func(c *config.Config) any { return c.State.KeptDays }, 120,
		},
		{
			"a switch from the environment",
			"http: {pprof: \"${P}\"}",
			map[string]string{"P": "true"},
			func(c *config.Config) any { return c.HTTP.PProf }, true,
		},
		{
			"$${ is a plain ${, a lone dollar stays",
			"client_id: a$b$${WHO}$", nil,
			func(c *config.Config) any { return c.ClientID }, "a$b${WHO}$",
		},
		{
			"what a variable holds is not expanded again",
			"client_id: ${WHO}",
			map[string]string{"WHO": "${HOME}"},
			func(c *config.Config) any { return c.ClientID }, "${HOME}",
		},
		{
			"a literal block is expanded too",
			"client_id: |-\n  ${WHO}",
			map[string]string{"WHO": "x"},
			func(c *config.Config) any { return c.ClientID }, "x",
		},
	}
	for _, tc := range cases {
		t.Run(tc.rule, func(t *testing.T) {
			if got := tc.want(load(t, essentials+tc.text+"\n", tc.env)); got != tc.is {
				t.Errorf("got %v, want %v", got, tc.is)
			}
		})
	}
}

func TestOneVariableMayNameSeveralBrokers(t *testing.T) {
	for _, text := range []string{"${B}", "[\"${B}\"]", "\n  - ${B}", "\"${B}\""} {
		c := load(t, "group: ebb\nfeeds: {usage: {topic: u}}\nbrokers: "+text+"\n", map[string]string{"B": "a:1, b:2"})
		if strings.Join(c.Brokers, "|") != "a:1|b:2" {
			t.Errorf("%s: got %v", text, c.Brokers)
		}
	}
}

func TestSecretsComeFromFilesBesideTheConfiguration(t *testing.T) {
	text := essentials + `
security: {sasl: {mechanism: scram-sha-512, username: ebb, password_file: secrets/kafka}}
webhooks: [{name: crm, url: "https://crm.example.com", secret_file: /run/secrets/crm}]
`
	c, err := config.Load("/etc/ebb/ebb.yaml", source(map[string]string{
		"/etc/ebb/ebb.yaml":      text,
		"/etc/ebb/secrets/kafka": "p4ss word$\r\n",
		"/run/secrets/crm":       "key\n",
	}, nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Connection().SASL.Password; got != "p4ss word$" {
		t.Errorf("password %q", got)
	}
	if got := c.Webhooks[0].Secret.Value(); got != "key" {
		t.Errorf("webhook secret %q", got)
	}
	if c.Webhooks[0].Timeout.Std() != 10*time.Second {
		t.Errorf("a listed webhook has the defaults: %v", c.Webhooks[0].Timeout)
	}
}

func TestCalendarsAreReadWithTheFile(t *testing.T) {
	text := essentials + `
calendars:
  desk: {zone: Europe/Berlin, hours: ["mon-fri 09:00-17:00"], holidays: [DE], file: days.csv}
detectors:
  complaint_unresolved:
    calendar: desk
    targets: [{tier: gold, priority: high, first_response: 1h, resolution: off}]
`
	read := func(days string) *config.Config {
		c, err := config.Load("conf/ebb.yaml", source(map[string]string{"conf/ebb.yaml": text, "conf/days.csv": days}, nil))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := read("2026-01-13\n")
	from := time.Date(2026, 1, 12, 0, 0, 0, 0, time.UTC).UnixMilli()
	if got := c.Detectors.Calendars["desk"].Between(from, from+7*24*3_600_000); got != 4*8*3_600_000 {
		t.Errorf("a week with a holiday in it has %d ms", got)
	}
	rule := c.Detectors.ComplaintUnresolved.Targets[0]
	if ms, on := rule.FirstResponse.Limit(); ms != 3_600_000 || !on || rule.NextReply != nil {
		t.Errorf("%+v", rule)
	}
	if _, on := rule.Resolution.Limit(); on {
		t.Error("off is off")
	}
	if c.Hash() == read("2026-01-14\n").Hash() {
		t.Error("what the file holds decides")
	}
}

// The order of the tiers is one list for all that asks for it, and it decides.
func TestTiersAreShared(t *testing.T) {
	c := load(t, essentials+"tiers: [gold, silver]\n", nil)
	if !slices.Equal(c.Detectors.Tiers, []string{"gold", "silver"}) {
		t.Errorf("got %v", c.Detectors.Tiers)
	}
	if c.Hash() == load(t, essentials+"tiers: [silver, gold]\n", nil).Hash() {
		t.Error("their order decides")
	}
	set, err := detectors.NewSet(c.Detectors)
	if err != nil || set.Detector(detectors.TierDropName) == nil {
		t.Errorf("tier_drop is not on: %v", err)
	}
	if set, err = detectors.NewSet(load(t, essentials, nil).Detectors); err != nil || set.Detector(detectors.TierDropName) != nil {
		t.Errorf("without the list tier_drop is on: %v", err)
	}
}

func TestAnchorsAndMergeKeys(t *testing.T) {
	c := load(t, `
group: ebb
brokers: &b [127.0.0.1:9092]
feeds:
  usage: &feed {topic: usage, completeness: 26h}
  payments: {<<: *feed, topic: payments}
`, nil)
	if c.Feeds.Payments.Topic != "payments" || c.Feeds.Payments.Completeness != c.Feeds.Usage.Completeness {
		t.Errorf("got %+v", c.Feeds)
	}
}

func TestAnEmptyValueKeepsTheDefault(t *testing.T) {
	c := load(t, essentials+"client_id:\nstate:\n", nil)
	if c.ClientID != "ebb" || c.State.Dir != "./ebb-state" {
		t.Errorf("got %q %q", c.ClientID, c.State.Dir)
	}
}

func TestTextStaysAsItIsWritten(t *testing.T) {
	c := load(t, "group: 1.10\nbrokers: [h:1]\nfeeds: {usage: {topic: 0123}}\nclient_id: no\n", nil)
	if c.Group != "1.10" || c.Feeds.Usage.Topic != "0123" || c.ClientID != "no" {
		t.Errorf("got %q %q %q", c.Group, c.Feeds.Usage.Topic, c.ClientID)
	}
}

func TestAMappingIsReadWithTheFile(t *testing.T) {
	c := load(t, `
group: ebb
brokers: [127.0.0.1:9092]
feeds:
  payments:
    topic: ${T}
    mapping:
      fields: {customer_id: data.object.customer, time: created, amount: data.object.amount, type: type, currency: {const: "${CUR}"}, id: [id, data.id]}
      types: {charge.succeeded: charge, "*": ignore}
      time: {format: epoch_s}
      amount: {minor_units: true, decimals: 2}
`, map[string]string{"T": "stripe", "CUR": "EUR"})
	m := c.Feeds.Payments.Mapping
	if m == nil || m.Types["charge.succeeded"].Type != "charge" || m.Time.Format != "epoch_s" || *m.Amount.Decimals != 2 ||
		*m.Fields["currency"].Const != "EUR" || len(m.Fields["id"].Paths) != 2 {
		t.Errorf("mapping: %+v", m)
	}
}

func TestTheHashNamesWhatDecidesAlerts(t *testing.T) {
	base := load(t, essentials, nil).Hash()
	if len(base) != 64 {
		t.Fatalf("hash %q", base)
	}
	same := []string{
		"state: {dir: /elsewhere, cache: 1GB}", "http: {listen: \"\"}", "log: {level: debug}", "client_id: other",
		"topics: {alerts: other}", "cut: {max_age: 1s}", "security: {sasl: {mechanism: plain, username: a, password: b}}",
	}
	for _, text := range same {
		if load(t, essentials+text+"\n", nil).Hash() != base {
			t.Errorf("%s: changes the hash", text)
		}
	}
	other := []string{"time: {zone: Europe/Berlin}", "alerts: {horizon: 30d}", "money: {rates: {USD: 0.9}}", "stall: {after: 1h}"}
	for _, text := range other {
		if load(t, essentials+text+"\n", nil).Hash() == base {
			t.Errorf("%s: does not change the hash", text)
		}
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/faults/*.yaml")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add(essentials)
	f.Add("a: &a [*a]")
	f.Add("group: &a {<<: *a}")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := config.Load("ebb.yaml", source(map[string]string{"ebb.yaml": text}, nil))
		if (c == nil) == (err == nil) {
			t.Fatal("neither a configuration nor faults")
		}
		if c != nil && !strings.Contains(text, "_file") {
			printed := text2(t, c)
			again, err := config.Load("ebb.yaml", source(map[string]string{"ebb.yaml": printed}, nil))
			if err != nil {
				t.Fatalf("what was printed cannot be read:\n%v\n%s", err, printed)
			}
			if again.Hash() != c.Hash() {
				t.Fatalf("what was printed is read as something else:\n%s", printed)
			}
		}
	})
}
