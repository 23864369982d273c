package arrows

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ebb/alerts"
	"ebb/stream/event"
)

// TestRecordsAreDocumented: whoever writes to the feeds or reads the alerts finds each name that ebb reads or writes in
// docs/records.md.
func TestRecordsAreDocumented(t *testing.T) {
	body, err := os.ReadFile(filepath.Join(root, "docs", "records.md"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range []event.Feed{event.Usage, event.Payments, event.Complaints, event.Customers} {
		names = append(names, event.FieldNames(f)...)
		for _, k := range event.Kinds(f) {
			if k != event.KindUsage && k != event.KindProfile { // no names of types
				names = append(names, k.String())
			}
		}
	}
	for _, k := range alerts.OperationalKinds() {
		names = append(names, string(k))
	}
	for _, k := range alerts.StepKinds() {
		names = append(names, k.String())
	}
	names = append(names, inSources(t, `\b(?:o|to)\.(?:[A-Z]\w*)\("(\w+[a-z])"`, "alerts/*.go", "detectors/*.go")...)
	names = append(names, inSources(t, `\bReason = "(\w+)"`, "stream/event/reject.go", "detectors/detectors.go")...)
	names = append(names, inSources(t, `\badd\("(ebb_\w+)"`, "stream/pipeline.go")...)
	if len(names) < 150 {
		t.Fatalf("only %d names were found: are the sources written otherwise now?", len(names))
	}
	for _, name := range names {
		if !strings.Contains(string(body), "`"+name+"`") && !strings.Contains(string(body), "`evidence."+name+"`") &&
			!strings.Contains(string(body), `"`+name+`":`) {
			t.Errorf("docs/records.md does not tell of %s", name)
		}
	}
}

// inSources returns what the first group of a pattern matches in files that are no tests.
func inSources(t *testing.T, pattern string, globs ...string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var out []string
	for _, glob := range globs {
		files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(glob)))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range re.FindAllSubmatch(body, -1) {
				out = append(out, string(m[1]))
			}
		}
	}
	return out
}
