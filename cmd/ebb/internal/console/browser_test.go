package console

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Browsers that will do, in the order of preference.
func browser(t *testing.T) string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no Chromium found: the pages were not looked at in a browser")
	return ""
}

// Pages are loaded in a real browser at three widths; set EBB_SCREENSHOTS to a directory to keep the pictures.
func TestPagesInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser takes its time")
	}
	chromium := browser(t)
	w := newWorld(t, 1200, 20)
	keep := os.Getenv("EBB_SCREENSHOTS")
	if keep == "" {
		keep = t.TempDir()
	}
	row := w.book.View(Filter{Detector: "silence"}, 0, 1).Rows[0]
	plain, demo := httptest.NewServer(w.console(false)), httptest.NewServer(w.console(true))
	t.Cleanup(func() { plain.CloseClientConnections(); plain.Close(); demo.CloseClientConnections(); demo.Close() })
	for _, width := range []int{1440, 1024, 390} {
		for name, url := range map[string]string{
			"queue": plain.URL + "/", "customer": demo.URL + customerURL(row.Customer), "demo": demo.URL + "/",
			"detectors": plain.URL + "/detectors", "feeds": plain.URL + "/feeds",
		} {
			if width == 1024 && (name == "detectors" || name == "feeds") {
				continue
			}
			t.Run(fmt.Sprintf("%s-%d", name, width), func(t *testing.T) {
				look(t, chromium, url, filepath.Join(keep, fmt.Sprintf("%s-%d.png", name, width)), width)
			})
		}
	}
}

// consoleLine is a complaint of the page in the browser's log.
var consoleLine = regexp.MustCompile(`CONSOLE[:(].*`)

func look(t *testing.T, chromium, url, file string, width int) {
	t.Helper()
	height := 900
	if width < 500 {
		height = 1400
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-dev-shm-usage", "--hide-scrollbars", "--enable-logging=stderr", "--v=0",
		"--user-data-dir="+t.TempDir(), fmt.Sprintf("--window-size=%d,%d", width, height),
		"--screenshot="+file, url)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range consoleLine.FindAllString(string(out), -1) {
		t.Errorf("the page complains: %s", line)
	}
	if st, err := os.Stat(file); err != nil || st.Size() < 5000 {
		t.Errorf("no picture: %v\n%s", err, out)
	}
	if strings.Contains(string(out), "Refused to") {
		t.Errorf("the content security policy was violated:\n%s", out)
	}
}
