package event

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

var update = flag.Bool("update", false, "rewrite the expected events in testdata/mappings")

const (
	examples = "../../docs/examples/mappings"
	dataSets = "../../../shared/data"
)

// exampleDecoders compiles an example and returns its decoders by feed, and the feeds by topic.
func exampleDecoders(t *testing.T, file string) (map[string]*Decoder, map[string]string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Feeds map[string]struct {
			Topic   string   `yaml:"topic"`
			Mapping *Mapping `yaml:"mapping"`
		} `yaml:"feeds"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&c); err != nil {
		t.Fatal(err)
	}
	decoders, topics := map[string]*Decoder{}, map[string]string{}
	for name, f := range c.Feeds {
		feed, ok := ParseFeed(name)
		if !ok || f.Topic == "" || f.Mapping == nil {
			t.Fatalf("feed %q is none, or has no topic or mapping", name)
		}
		decoders[name] = mustDecoder(t, feed, f.Mapping, Limits{})
		topics[f.Topic] = name
	}
	return decoders, topics
}

func exampleFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(examples, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	return files
}

// TestExamples decodes the sample records of testdata/mappings by the example of the same name. A line is a comment, or
// a feed and a record; what becomes of it stands on the next one.
func TestExamples(t *testing.T) {
	for _, file := range exampleFiles(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			decoders, _ := exampleDecoders(t, file)
			golden := filepath.Join("testdata/mappings", name+".txt")
			text, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			used := map[string]bool{}
			for line := range strings.Lines(string(text)) {
				feed, record, _ := strings.Cut(strings.TrimSpace(line), " ")
				if feed == "->" {
					continue
				}
				got.WriteString(line)
				if d := decoders[feed]; d != nil {
					used[feed] = true
					var e Event
					err := d.Decode(Position{Topic: "t"}, nil, []byte(record), &e)
					got.WriteString("  -> " + outcome(&e, err) + "\n")
				} else if feed != "#" && feed != "" {
					t.Errorf("%q is no feed of the example", feed)
				}
			}
			for feed := range decoders {
				if !used[feed] {
					t.Errorf("no sample of the %s feed", feed)
				}
			}
			if got.String() == string(text) {
				return
			}
			if !*update {
				t.Errorf("got\n%s\nwant\n%s", got.String(), text)
			} else if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// sharedData returns the folder of the data sets, or skips the test.
func sharedData(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(dataSets); err != nil {
		if os.Getenv("EBB_REQUIRE_SHARED") == "1" {
			t.Fatalf("EBB_REQUIRE_SHARED=1, but the data sets are missing: %v", err)
		}
		t.Skipf("SKIPPED: the data sets are not there (%s); only the samples in testdata are decoded", dataSets)
	}
	return dataSets
}

// TestDataSets decodes every row of every data set by its example: none may be refused.
func TestDataSets(t *testing.T) {
	root := sharedData(t)
	sets, err := filepath.Glob(filepath.Join(root, "*", "events.csv.gz"))
	if err != nil || len(sets) == 0 {
		t.Fatalf("no data sets in %s: %v", root, err)
	}
	for _, file := range sets {
		name := filepath.Base(filepath.Dir(file))
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			decoders, topics := exampleDecoders(t, filepath.Join(examples, name+".yaml"))
			rows := readRows(t, file)
			accepted, leftOut := 0, map[string]int{}
			for i, row := range rows {
				feed := topics[name+"-"+row.topic]
				if feed == "" {
					t.Fatalf("row %d: the example has no topic %s-%s", i+2, name, row.topic)
				}
				var e Event
				err := decoders[feed].Decode(Position{Topic: row.topic, Offset: int64(i)}, []byte(row.customer), row.record, &e)
				switch {
				case err == nil:
					accepted++
				case errors.Is(err, ErrIgnored):
					leftOut[row.kind]++
				default:
					t.Fatalf("row %d, %s: %v", i+2, row.record, err)
				}
				if odd := e.Notes &^ NoteNoID; err == nil && odd != 0 {
					t.Fatalf("row %d, %s: %s", i+2, row.record, odd)
				}
			}
			t.Logf("%d rows, %d accepted, left out %v", len(rows), accepted, leftOut)
		})
	}
}

type row struct {
	customer, topic, kind string
	record                []byte
}

// readRows makes a record of each row, as a loader does.
func readRows(t *testing.T, file string) []row {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(z)
	r.ReuseRecord = true
	header, err := r.Read()
	if want := []string{"customer_id", "time", "topic", "type", "amount", "extra"}; err != nil || !slices.Equal(header, want) {
		t.Fatalf("columns %q, %v; want %q", header, err, want)
	}
	var rows []row
	for {
		c, err := r.Read()
		if err == io.EOF {
			return rows
		}
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row{strings.Clone(c[0]), strings.Clone(c[2]), strings.Clone(c[3]), rowRecord(t, c)})
	}
}

func rowRecord(t *testing.T, c []string) []byte {
	t.Helper()
	amount, extra := c[4], c[5]
	if amount == "" {
		amount = "null"
	}
	if extra == "" {
		extra = "{}"
	}
	record, err := json.Marshal(map[string]any{
		"customer_id": c[0], "time": c[1], "topic": c[2], "type": c[3],
		"amount": json.RawMessage(amount), "extra": json.RawMessage(extra),
	})
	if err != nil {
		t.Fatal(err)
	}
	return record
}
