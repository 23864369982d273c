package console

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ebb/stream/event"
)

// tab is a page in a real browser, driven by the DevTools protocol over a pipe.
type tab struct {
	t       *testing.T
	out     *os.File
	in      *bufio.Reader
	session string
	calls   int
	// watchdog ends the browser when no command has been sent for that long.
	watchdog *time.Timer
	// complaints are exceptions, console errors, refused resources and violations of the policy.
	complaints []string
}

const hangs = 60 * time.Second

// openTab starts a browser; the test is skipped where there is none.
func openTab(t *testing.T) *tab {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes its time")
	}
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium found: the pages were not looked at in a browser")
	}
	fromUs, toBrowser, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromBrowser, toUs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
		"--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir())
	cmd.ExtraFiles = []*os.File{fromUs, toUs}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fromUs.Close()
	toUs.Close()
	// No single command takes half a minute: a browser that hangs is ended, and the read that waits for it fails.
	watchdog := time.AfterFunc(hangs, func() { cmd.Process.Kill() })
	b := &tab{t: t, out: toBrowser, in: bufio.NewReaderSize(fromBrowser, 1<<20), watchdog: watchdog}
	t.Cleanup(func() {
		b.send("Browser.close", nil)
		watchdog.Stop()
		end := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		end.Stop()
		toBrowser.Close()
		fromBrowser.Close()
	})
	target := b.call("Target.createTarget", map[string]any{"url": "about:blank"})
	b.session = b.call("Target.attachToTarget", map[string]any{"targetId": target["targetId"], "flatten": true})["sessionId"].(string)
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.call(domain+".enable", nil)
	}
	return b
}

func (b *tab) send(method string, params any) int {
	b.calls++
	msg := map[string]any{"id": b.calls, "method": method}
	if params != nil {
		msg["params"] = params
	}
	if b.session != "" && !strings.HasPrefix(method, "Browser.") {
		msg["sessionId"] = b.session
	}
	raw, err := json.Marshal(msg)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.out.Write(append(raw, 0)); err != nil {
		b.t.Fatal(err)
	}
	return b.calls
}

// call sends a command and returns its answer; what the page complains of meanwhile is kept.
func (b *tab) call(method string, params any) map[string]any {
	b.t.Helper()
	b.watchdog.Reset(hangs)
	id := b.send(method, params)
	for {
		raw, err := b.in.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: the browser is gone: %v", method, err)
		}
		var msg struct {
			ID     int
			Method string
			Params json.RawMessage
			Result map[string]any
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(raw[:len(raw)-1], &msg); err != nil {
			b.t.Fatal(err)
		}
		switch {
		case msg.ID == id && msg.Error != nil:
			b.t.Fatalf("%s: %s", method, msg.Error.Message)
		case msg.ID == id:
			return msg.Result
		case msg.Method == "Runtime.exceptionThrown", msg.Method == "Log.entryAdded" && strings.Contains(string(msg.Params), `"level":"error"`):
			b.complaints = append(b.complaints, string(msg.Params))
		}
	}
}

// eval runs script in the page, waits for its promise, and returns its value.
func (b *tab) eval(script string) any {
	b.t.Helper()
	r := b.call("Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true})
	if e := r["exceptionDetails"]; e != nil {
		b.t.Fatalf("%s: %v", script, e)
	}
	return r["result"].(map[string]any)["value"]
}

// wait waits until the condition holds in the page.
func (b *tab) wait(condition string) {
	b.t.Helper()
	ok := b.eval(`new Promise((done) => { const end = Date.now() + 10000;
		const look = () => { let is = false; try { is = !!(` + condition + `); } catch {} if (is || Date.now() > end) done(is); else setTimeout(look, 20); }; look(); })`)
	if ok != true {
		b.t.Fatalf("it never was so that %s", condition)
	}
}

func (b *tab) size(width, height int) {
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})
}

// visit loads a page and waits until it is live.
func (b *tab) visit(url string) {
	b.t.Helper()
	b.eval(`window.old = true`)
	b.call("Page.navigate", map[string]any{"url": url})
	b.wait(`!window.old && document.readyState === "complete" && document.documentElement.classList.contains("scripted") && !document.getElementById("live").hidden`)
}

// key presses a key, as a person would.
func (b *tab) key(key string) {
	text := key
	if len(key) > 1 {
		text = ""
	}
	if key == "Enter" {
		text = "\r"
	}
	b.call("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": key, "text": text})
	b.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key})
}

func (b *tab) clean(what string) {
	b.t.Helper()
	for _, c := range b.complaints {
		b.t.Errorf("%s: the page complains: %s", what, c)
	}
	b.complaints = nil
}

// The pages are loaded in a real browser at three widths; EBB_SCREENSHOTS names a directory to keep pictures of them in.
func TestPagesInABrowser(t *testing.T) {
	b := openTab(t)
	w := newWorld(t, 1200, 20)
	w.status.Feeds = append(w.status.Feeds, Feed{Name: "control", Topic: "demo-control", UsualRate: -1, Lateness: -1})
	keep := os.Getenv("EBB_SCREENSHOTS")
	row := w.book.View(Filter{Detector: "silence"}, noon, 0, 1).Rows[0]
	w.old(t, "silence", 20, 300, "")
	for _, a := range w.book.View(Filter{Detector: "spend_drop"}, noon, 0, 3).Rows {
		s := *a.Step
		s.Revision, s.Kind, s.Snoozed = s.Revision+1, "changed", w.now.AddDate(0, 0, 5)
		w.book.Apply(&s)
	}
	plain, demo := httptest.NewServer(w.console(false)), httptest.NewServer(w.console(true))
	t.Cleanup(func() { plain.CloseClientConnections(); plain.Close(); demo.CloseClientConnections(); demo.Close() })
	for _, width := range []int{1440, 1024, 390} {
		for name, url := range map[string]string{
			"queue": plain.URL + "/", "snoozed": plain.URL + "/?order=newest&snoozed=only", "old": plain.URL + "/customers/c-old", "customer": demo.URL + customerURL(row.Customer), "days": demo.URL + customerURL(row.Customer) + "?by=day",
			"demo": demo.URL + "/", "detectors": plain.URL + "/detectors", "feeds": plain.URL + "/feeds", "demo-feeds": demo.URL + "/feeds",
		} {
			what := fmt.Sprintf("%s-%d", name, width)
			b.size(width, 900)
			b.visit(url)
			b.clean(what)
			if wide := b.eval(`document.documentElement.scrollWidth`); wide != float64(width) {
				t.Errorf("%s: the page is %v wide and has to be scrolled sideways", what, wide)
			}
			if n := b.eval(`[...document.querySelectorAll("svg.picture")].filter((p) => p.getClientRects().length > 0).length`); (name == "customer" || name == "days" || name == "old") && n != 1.0 {
				t.Errorf("%s: %v pictures are shown, want the one for the width", what, n)
			}
			for _, scheme := range []string{"dark", "light"} { // light last, for the next page
				b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}})
				if keep == "" {
					continue
				}
				shot := b.call("Page.captureScreenshot", map[string]any{"format": "png"})["data"].(string)
				var png []byte
				if err := json.Unmarshal([]byte(`"`+shot+`"`), &png); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(keep, what+"-"+scheme+".png"), png, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestTheQueueUnderSomebodysHands(t *testing.T) {
	b := openTab(t)
	w := tiny(t)
	for i := range 5 {
		w.add(t, fmt.Sprintf("c-%d", i), "gold", "ann", "silence", "critical", event.Money(500-i)*event.MoneyUnit, "Nothing for 15 days.")
	}
	srv := httptest.NewServer(w.console(false))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	b.size(1440, 900)
	b.visit(srv.URL + "/")
	const rows = `[...document.querySelectorAll("li.row a.open")].map((a) => a.textContent).join(" ")`
	const at = `document.querySelector("li.row.at a.open")?.textContent`

	// Nobody is at work in the list: what is new slides in where it belongs.
	w.add(t, "c-new", "gold", "ann", "silence", "critical", 900*event.MoneyUnit, "Nothing for 14 days.")
	b.wait(rows + ` === "c-new c-0 c-1 c-2 c-3 c-4"`)

	// A row is selected: it stays where it is, and new ones wait behind the button.
	b.key("j")
	b.key("j")
	b.key("j")
	b.key("k")
	if got := b.eval(at); got != "c-0" {
		t.Errorf("j j j k selects %v", got)
	}
	w.add(t, "c-top", "gold", "ann", "silence", "critical", 990*event.MoneyUnit, "Nothing for 14 days.")
	w.add(t, "c-too", "gold", "ann", "silence", "critical", 980*event.MoneyUnit, "Nothing for 14 days.")
	b.wait(`!document.getElementById("news").hidden && document.getElementById("news").textContent === "2 new"`)
	if got := b.eval(rows); got != "c-new c-0 c-1 c-2 c-3 c-4" {
		t.Errorf("the rows have moved: %v", got)
	}

	// One leaves: it stays in its place, with its reason.
	open, _ := w.book.Of("c-2")
	gone := *open[0].Step
	gone.Revision, gone.Resolved, gone.Kind, gone.Reason = 2, true, "resolved", "recovered"
	w.book.Apply(&gone)
	b.wait(`document.querySelector("li.row.gone")?.textContent.includes("recovered")`)
	b.wait(`document.getElementById("news").textContent === "2 new, 1 over"`)
	b.key("n")
	b.wait(rows + ` === "c-top c-too c-new c-0 c-1 c-3 c-4"`)

	// Search by the slash, leave it by Escape; the filter is in the address.
	b.key("/")
	b.wait(`document.activeElement.matches("input[type=search]")`)
	b.key("c")
	b.key("Escape")
	b.wait(`!document.activeElement.matches("input")`)
	b.key("?")
	b.wait(`!document.getElementById("help").hidden`)
	b.key("Escape")
	b.wait(`document.getElementById("help").hidden`)

	// Somebody snoozes one: it leaves the list, which counts it. The newest first, by a click.
	open, _ = w.book.Of("c-4")
	late := *open[0].Step
	late.Revision, late.Kind, late.Snoozed = 2, "changed", w.now.AddDate(0, 0, 5)
	w.book.Apply(&late)
	b.wait(`document.querySelector(".manner").textContent.includes("1 snoozed one is hidden")`)
	b.wait(rows + ` === "c-top c-too c-new c-0 c-1 c-3"`)
	open, _ = w.book.Of("c-3")
	latest := *open[0].Step
	latest.Revision, latest.FirstFired = 2, w.now
	w.book.Apply(&latest)
	b.visit(b.eval(`document.querySelector('.manner a[href*="newest"]').href`).(string))
	if got := b.eval(rows); got != "c-3 c-top c-too c-new c-0 c-1" {
		t.Errorf("the newest first: %v", got)
	}
	b.visit(srv.URL + "/")

	// Enter opens the customer who is selected.
	b.key("j")
	b.key("Enter")
	b.wait(`location.pathname === "/customers/c-top"`)
	b.clean("the queue")
}

func TestThePageSaysWhenTheEngineDoesNotAnswer(t *testing.T) {
	b := openTab(t)
	w := tiny(t)
	w.add(t, "c-1", "gold", "ann", "silence", "critical", 1, "Nothing for 15 days.")
	c := w.console(false)
	srv := httptest.NewServer(c)
	b.visit(srv.URL + "/")
	if hidden := b.eval(`document.getElementById("stale").hidden`); hidden != true {
		t.Error("the page is called stale while it is live")
	}
	c.Close()
	srv.CloseClientConnections()
	srv.Close()
	b.wait(`!document.getElementById("stale").hidden && document.getElementById("stale").textContent.includes("does not answer")`)
	if n := b.eval(`document.querySelectorAll("li.row").length`); n != 1.0 {
		t.Errorf("%v rows are left of the list", n)
	}
}
