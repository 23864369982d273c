package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ebb/stream/kafkatest"
)

// TestPrometheusReadsTheMetrics has a real Prometheus, with the rules that are shipped, scrape a running ebb: what the rules
// ask for is there, and when ebb dies the first of them notices.
func TestPrometheusReadsTheMetrics(t *testing.T) {
	if testing.Short() {
		t.Skip("the program under test is another process, which -race does not see")
	}
	prometheus, err := exec.LookPath("prometheus")
	if err != nil {
		if os.Getenv("EBB_REQUIRE_KAFKA") == "1" {
			t.Fatal("prometheus is not installed and EBB_REQUIRE_KAFKA=1")
		}
		t.Skip("prometheus is not installed")
	}
	page, demo := startDemo(t)
	rules, err := filepath.Abs("../../deploy/prometheus/rules/ebb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n"+
		"  - job_name: ebb\n    static_configs: [{targets: [%q]}]\n", rules, page)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	p := exec.Command(prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill(); p.Wait() })

	for _, q := range []string{
		`ebb_build_info == 1`, `sum(ebb_records_consumed_total) > 100000`, `sum(ebb_customers{stage="active"}) > 100`, `sum(ebb_active_customers) - sum(ebb_customers{stage="active"}) == 0`, `sum(ebb_alerts_firing) > 0`,
		`ebb_feed_stalled{feed="usage"} >= 0`, `sum(ebb_dead_letters_total) == 0`, `sum(ebb_transactions_total{result="committed"}) > 0`,
	} {
		kafkatest.Eventually(t, q, func() error { return holds(addr, q) })
	}
	demo.kill()
	kafkatest.Eventually(t, "EbbDown", func() error { return holds(addr, `ALERTS{alertname="EbbDown"}`) })
}

// startDemo runs the demo on a free port and returns where its page is.
func startDemo(t *testing.T) (addr string, in *instance) {
	t.Helper()
	cmd := exec.Command(ebb(t), "demo", "--no-browser", "--listen", "127.0.0.1:0")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in = &instance{cmd: cmd}
	t.Cleanup(in.kill)
	page := regexp.MustCompile(`http://(\S+)`)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if m := page.FindStringSubmatch(lines.Text()); m != nil {
			go func() {
				for lines.Scan() { // or it would block once the pipe is full
				}
			}()
			return m[1], in
		}
	}
	t.Fatal("the demo did not say where its page is")
	return "", nil
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// holds asks Prometheus whether a query has a result.
func holds(addr, query string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/api/v1/query?query="+url.QueryEscape(query), nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var answer struct {
		Data struct{ Result []json.RawMessage }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return err
	}
	if len(answer.Data.Result) == 0 {
		return errors.New("no result for " + strings.TrimSpace(query))
	}
	return nil
}
