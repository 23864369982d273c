package alerts_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"ebb/alerts"
	"ebb/state/customer"
	"ebb/stream/event"
)

// sharedBench is the folder of the independent oracle, beside the repository.
const sharedBench = "../../shared/bench"

// TestOracle runs a generated history and compares every alert with an independent batch computation.
func TestOracle(t *testing.T) {
	gen := oracleTools(t)
	for _, seed := range []string{"1", "7"} {
		t.Run("seed "+seed, func(t *testing.T) {
			dir := t.TempDir()
			history, got := filepath.Join(dir, "events.ndjson"), filepath.Join(dir, "alerts.ndjson")
			run(t, gen, "-dump", history, "-events", "40000", "-customers", "2000", "-seed", seed, "-start", "2026-01-05T00:00:00Z")
			replay(t, history, got)
			var res struct {
				Expected, Got  map[string]int
				Missing, Extra int
				Examples       []string
			}
			out := run(t, "python3", filepath.Join(sharedBench, "oracle.py"), history, got)
			if err := json.Unmarshal(out, &res); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Logf("expected %v", res.Expected)
			if len(res.Expected) != 6 {
				t.Errorf("the history has %d kinds of steps; all 6 are wanted: %v", len(res.Expected), res.Expected)
			}
			if res.Missing != 0 || res.Extra != 0 {
				t.Errorf("missing %d, extra %d: %v\ngot %v", res.Missing, res.Extra, res.Examples, res.Got)
			}
		})
	}
}

// oracleTools builds the generator in a folder of its own, and returns its path.
func oracleTools(t *testing.T) string {
	t.Helper()
	absent := t.Skipf
	if os.Getenv("EBB_REQUIRE_SHARED") == "1" {
		absent = t.Fatalf
	}
	files, _ := filepath.Glob(filepath.Join(sharedBench, "gen", "*"))
	if len(files) == 0 {
		absent("the oracle is not beside the repository (%s): alerts are not compared with it", sharedBench)
	}
	if _, err := exec.LookPath("python3"); err != nil {
		absent("no python3: alerts are not compared with the oracle")
	}
	dir := t.TempDir()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gen := filepath.Join(dir, "gen")
	cmd := exec.Command("go", "build", "-o", gen, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		absent("the generator of histories does not build here: %v\n%s", err, out)
	}
	return gen
}

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, errs.Bytes())
	}
	return out
}

// replay runs a history of one JSON object a line and writes the data objects of the alerts.
func replay(t *testing.T, history, to string) {
	t.Helper()
	f, err := os.Open(history)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out bytes.Buffer
	p := newPipeline(t, contract(), time.UTC)
	p.emit = func(_ *customer.Record, _ *alerts.Step, alert, _ alerts.Message) {
		out.Write(alert.Value)
		out.WriteByte('\n')
	}
	var decoders [event.NumFeeds]*event.Decoder
	for i := range decoders {
		if decoders[i], err = event.NewDecoder(event.Feed(i), nil, event.Limits{}); err != nil {
			t.Fatal(err)
		}
	}
	var ev event.Event
	last := int64(0)
	lines := bufio.NewScanner(f)
	for n := int64(0); lines.Scan(); n++ {
		var line struct {
			Topic string
			Event json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		feed, ok := event.ParseFeed(line.Topic)
		if !ok {
			t.Fatal(line.Topic)
		}
		p.src = event.Position{Topic: line.Topic, Offset: n, Timestamp: last}
		if err := decoders[feed].Decode(p.src, nil, line.Event, &ev); err != nil {
			t.Fatalf("line %s: %v", strconv.FormatInt(n, 10), err)
		}
		if ev.Time < last {
			t.Fatalf("the history is not in the order of time at line %d", n)
		}
		last = ev.Time
		p.apply(&ev)
	}
	p.tickAll(last)
	if err := os.WriteFile(to, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
