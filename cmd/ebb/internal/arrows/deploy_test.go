package arrows

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDeployedMetricsExist: rules and dashboard ask for metrics that the program has, so that a renamed one does not leave an alert
// behind that never fires.
func TestDeployedMetricsExist(t *testing.T) {
	known := map[string]bool{}
	for _, s := range sources(t) {
		if s.name != "metrics.go" {
			continue
		}
		body := read(t, s.path())
		for _, m := range regexp.MustCompile(`"(ebb_[a-z0-9_]+)"`).FindAllSubmatch(body, -1) {
			known[string(m[1])] = true
		}
	}
	asked := regexp.MustCompile(`\bebb_[a-z0-9_]+`)
	for _, name := range deployed(t) {
		for _, m := range asked.FindAllString(string(read(t, name)), -1) {
			base := m
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				base = strings.TrimSuffix(base, suffix)
			}
			if !known[m] && !known[base] {
				t.Errorf("%s asks for %s, which no metrics.go defines", name, m)
			}
		}
	}
}

// TestEveryAlertHasRunbookAndTest: whoever is woken finds what to do, and somebody saw the rule fire and hold still.
func TestEveryAlertHasRunbookAndTest(t *testing.T) {
	rules := string(read(t, "deploy/prometheus/rules/ebb.yaml"))
	cases := string(read(t, "deploy/prometheus/tests/ebb.yaml"))
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1)
	if len(alerts) == 0 {
		t.Fatal("no alert was found")
	}
	for _, m := range alerts {
		alert := m[1]
		runbook := "docs/runbooks/" + dashed(alert) + ".md"
		if !strings.Contains(rules, "runbook_url: "+runbook) {
			t.Errorf("%s does not name %s", alert, runbook)
			continue
		}
		body := string(read(t, runbook))
		for _, part := range []string{"# " + alert, "**Means**", "**Customers see**", "**Check**", "**Mend**"} {
			if !strings.Contains(body, part) {
				t.Errorf("%s lacks %s", runbook, part)
			}
		}
		firing, quiet := 0, 0
		for _, c := range strings.Split(cases, "alertname: "+alert+"\n")[1:] {
			if strings.HasPrefix(strings.TrimSpace(c), "exp_alerts: []") {
				quiet++
			} else {
				firing++
			}
		}
		if firing == 0 || quiet == 0 {
			t.Errorf("%s is tested %d times firing and %d times quiet; want both", alert, firing, quiet)
		}
	}
}

// dashed makes EbbFeedStalled ebb-feed-stalled.
func dashed(s string) string {
	return strings.ToLower(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(s, "$1-$2"))
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func deployed(t *testing.T) []string {
	t.Helper()
	names := []string{"deploy/grafana/ebb.json"}
	for _, dir := range []string{"deploy/prometheus/rules", "docs/runbooks"} {
		entries, err := os.ReadDir(filepath.Join(root, filepath.FromSlash(dir)))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, dir+"/"+e.Name())
		}
	}
	return names
}

// TestLinksInDocs: a link to a file of the repository leads somewhere.
func TestLinksInDocs(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	for _, name := range tracked(t) {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		body, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			continue // deleted, not committed yet
		}
		for _, m := range link.FindAllSubmatchIndex(body, -1) {
			to := string(body[m[2]:m[3]])
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), to)); err != nil {
				t.Errorf("%s:%d: nothing is at %s", name, 1+bytes.Count(body[:m[0]], []byte("\n")), to)
			}
		}
	}
}

// TestEveryMetricIsDocumented: who meets a metric finds what it counts, and the table names none that is gone.
func TestEveryMetricIsDocumented(t *testing.T) {
	table := string(read(t, "docs/metrics.md"))
	known := map[string]bool{}
	for _, s := range sources(t) {
		if s.name != "metrics.go" {
			continue
		}
		for _, m := range regexp.MustCompile(`"(ebb_[a-z0-9_]+)"`).FindAllSubmatch(read(t, s.path()), -1) {
			name := string(m[1])
			if known[name] = true; !strings.Contains(table, "| `"+name+"` |") {
				t.Errorf("docs/metrics.md does not name %s of %s", name, s.path())
			}
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(ebb_[a-z0-9_]+)` \\|").FindAllStringSubmatch(table, -1) {
		if !known[m[1]] {
			t.Errorf("docs/metrics.md names %s, which no metrics.go defines", m[1])
		}
	}
}
