package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"ebb/cmd/ebb/internal/simulate"
	"ebb/stream/event"
)

// tiny is a world with a handful of customers and no alerts but those that a test makes.
func tiny(t *testing.T) *world {
	t.Helper()
	w := &world{now: noon, customers: map[string]*Customer{}, book: NewBook()}
	w.book.Loaded()
	w.status = Status{Group: "g", AsOf: noon, LastEvent: noon, Customers: map[string]int64{"mature": 3012}}
	return w
}

func (w *world) add(t *testing.T, id, tier, owner, detector, severity string, risk event.Money, summary string) *Step {
	t.Helper()
	c := w.customers[id]
	if c == nil {
		c = &Customer{ID: id, Tier: tier, Owner: owner, Segment: "household", Currency: "EUR", Window: dateOf(w.now, time.UTC) - 90, First: w.now.AddDate(-1, 0, 0), LastActivity: w.now.AddDate(0, 0, -15)}
		w.customers[id] = c
	}
	return w.fire(t, c, detector, "", severity, w.now.AddDate(0, 0, -15), w.now.AddDate(0, 0, -1), risk, summary)
}

func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	return rec
}

var rowID = regexp.MustCompile(`class="open" href="([^"]*)"`)

func rowsIn(body string) []string {
	var out []string
	for _, m := range rowID.FindAllStringSubmatch(body, -1) {
		out = append(out, m[1])
	}
	return out
}

func TestFiltersAreInTheAddress(t *testing.T) {
	w := tiny(t)
	w.add(t, "c-1", "gold", "ann", "silence", "critical", 300*event.MoneyUnit, "Nothing for 15 days.")
	w.add(t, "c-2", "silver", "bob", "spend_drop", "warning", 200*event.MoneyUnit, "Spent 41.20 a week, 6.00 last week.")
	w.add(t, "c-3", "gold", "bob", "spend_drop", "info", 100*event.MoneyUnit, "Spent 10.00 a week, 1.00 last week.")
	c := w.console(false)
	for query, want := range map[string]string{
		"":                               "/customers/c-1 /customers/c-2 /customers/c-3",
		"?tier=gold":                     "/customers/c-1 /customers/c-3",
		"?owner=bob&detector=spend_drop": "/customers/c-2 /customers/c-3",
		"?severity=info":                 "/customers/c-3",
		"?q=41.20":                       "/customers/c-2",
		"?q=C-3":                         "/customers/c-3",
		"?q=nobody":                      "",
		"?step=fired&segment=household":  "/customers/c-1 /customers/c-2 /customers/c-3",
		"?region=north":                  "",
		"?from=2":                        "/customers/c-3",
		"?from=-5":                       "/customers/c-1 /customers/c-2 /customers/c-3",
	} {
		rec := get(t, c, "/"+query)
		if got := strings.Join(rowsIn(rec.Body.String()), " "); rec.Code != 200 || got != want {
			t.Errorf("%q: %d, rows %q, want %q", query, rec.Code, got, want)
		}
	}
	body := get(t, c, "/?tier=gold").Body.String()
	for _, want := range []string{`<option value="gold" selected>`, "2 of 3 alerts", `<option value="bob">bob (2)`} {
		if !strings.Contains(body, want) {
			t.Errorf("the filtered page lacks %q", want)
		}
	}
}

func TestTheNewestCanStandFirst(t *testing.T) {
	w := tiny(t)
	for i, hours := range []int{30, 2, 100} {
		s := w.add(t, fmt.Sprintf("c-%d", i), "gold", "ann", "silence", "critical", event.Money(900-i)*event.MoneyUnit, "Nothing for 15 days.")
		s.FirstFired = w.now.Add(-time.Duration(hours) * time.Hour)
		s.Revision = 2
		w.book.Apply(s)
	}
	c := w.console(false)
	for query, want := range map[string]string{"": "0 1 2", "?order=newest": "1 0 2", "?order=newest&from=1": "0 2", "?order=oldest": "0 1 2"} {
		body := get(t, c, "/"+query).Body.String()
		if got := strings.ReplaceAll(strings.Join(rowsIn(body), " "), "/customers/c-", ""); got != want {
			t.Errorf("%q: rows %s, want %s", query, got, want)
		}
	}
	body := get(t, c, "/?order=newest&tier=gold").Body.String()
	for _, want := range []string{`<a href="/?order=newest&amp;tier=gold" aria-current="true">newest</a>`, `<a href="/?tier=gold">money at risk</a>`, `<input type="hidden" name="order" value="newest">`, `<a class="clear" href="/?order=newest">`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if api := get(t, c, "/api/alerts?order=newest&limit=1").Body.String(); !strings.Contains(api, `"customer_id":"c-1"`) {
		t.Errorf("the newest of the API: %s", api)
	}
}

func TestSnoozedAlertsAreNotInTheWay(t *testing.T) {
	w := tiny(t)
	w.add(t, "c-1", "gold", "ann", "silence", "critical", 300*event.MoneyUnit, "Nothing for 15 days.")
	s := w.add(t, "c-2", "gold", "ann", "silence", "critical", 900*event.MoneyUnit, "Nothing for 15 days.")
	s.Snoozed, s.Revision = w.now.AddDate(0, 0, 3), 2
	w.book.Apply(s)
	c := w.console(false)
	for query, want := range map[string]string{
		"":                        "/customers/c-1",
		"?snoozed=show":           "/customers/c-2 /customers/c-1",
		"?snoozed=only":           "/customers/c-2",
		"?snoozed=only&tier=gold": "/customers/c-2",
		"?snoozed=nonsense":       "/customers/c-1",
	} {
		if got := strings.Join(rowsIn(get(t, c, "/"+query).Body.String()), " "); got != want {
			t.Errorf("%q: rows %q, want %q", query, got, want)
		}
	}
	for query, want := range map[string]string{
		"":                         `1 snoozed one is hidden: <a href="/?snoozed=show">show</a>`,
		"?tier=gold":               `1 snoozed one is hidden: <a href="/?snoozed=show&amp;tier=gold">show</a>`,
		"?snoozed=show":            `<a href="/?snoozed=only">only these</a>`,
		"?snoozed=only":            `snoozed until 15 Jan 2026`,
		"?q=c-2":                   `1 alert is snoozed, and nothing else matches.`,
		"?snoozed=only&tier=tin":   `None of 2 open alerts matches.`,
		"?snoozed=only&order=risk": `<input type="hidden" name="snoozed" value="only">`,
	} {
		if body := get(t, c, "/"+query).Body.String(); !strings.Contains(body, want) {
			t.Errorf("%q: the page lacks %q", query, want)
		}
	}
	for query, want := range map[string]string{"": `"total":2`, "?snoozed=hide": `"total":1`} {
		if body := get(t, c, "/api/alerts"+query).Body.String(); !strings.Contains(body, want) {
			t.Errorf("the API with %q lacks %s: %s", query, want, body)
		}
	}
	w.now = w.now.AddDate(0, 0, 3) // the snooze has ended
	if got := rowsIn(get(t, c, "/").Body.String()); len(got) != 2 {
		t.Errorf("rows after the snooze: %v", got)
	}
}

// A sentence tells how things stood when the step was made. Read days later it must say so.
func TestASentenceSaysAsOfWhen(t *testing.T) {
	w := tiny(t)
	w.add(t, "c-1", "gold", "ann", "silence", "critical", 1, "Nothing for 15 days.")
	c := w.console(false)
	w.now = w.now.Add(-time.Second) // told less than a day ago
	if body := get(t, c, "/").Body.String(); strings.Contains(body, "as of") {
		t.Error("a sentence of today says as of when it is")
	}
	w.now = w.now.AddDate(0, 0, 7)
	if body := get(t, c, "/").Body.String(); !strings.Contains(body, `as of <time class="day" datetime="2026-01-11T12:00:00Z"`) {
		t.Error("a sentence of a week ago does not say as of when it is")
	}
	if body := get(t, c, "/customers/c-1").Body.String(); !strings.Contains(body, `as of <time class="abs" datetime="2026-01-11T12:00:00Z"`) {
		t.Error("the customer's page does not say as of when its sentence is")
	}
	// What is told within it may be younger than the step: the end of a quiet history tells a complaint with the time at which it fired.
	o := w.object(w.customers["c-1"], "complaint_unresolved", "T-1", "critical", noon.AddDate(0, 0, -9), noon.AddDate(0, 0, -5), 0, "Complaint T-1 waits. At the same time: nothing for 15 days.")
	o["together"] = []object{{"detector": "silence", "severity": "warning", "first_fired_at": noon.AddDate(0, 0, -2), "summary": "Nothing for 15 days."}}
	w.send(t, o)
	if body := get(t, c, "/").Body.String(); !strings.Contains(body, `as of <time class="day" datetime="2026-01-10T12:00:00Z"`) {
		t.Error("a sentence is called older than what it tells")
	}
}

func TestTheCountIsExactAndRowsComeAsNeeded(t *testing.T) {
	w := tiny(t)
	for i := range 2500 {
		w.book.Apply(step(i, 1, int64(i)*int64(event.MoneyUnit)))
	}
	body := get(t, w.console(false), "/").Body.String()
	if n := len(rowsIn(body)); n != pageRows || !strings.Contains(body, "2,500 alerts, 1 to 100 shown") {
		t.Errorf("%d rows rendered", n)
	}
	body = get(t, w.console(false), "/?from=2400").Body.String()
	if n := len(rowsIn(body)); n != 100 || strings.Contains(body, `rel="next"`) || !strings.Contains(body, `rel="prev"`) {
		t.Errorf("the last page has %d rows", n)
	}
	body = get(t, w.console(false), "/rows?from=200&limit=99999").Body.String()
	if n := len(rowsIn(body)); n != pageRowsMax {
		t.Errorf("a window of %d rows", n)
	}
}

func TestOtherPeoplesTextIsEscaped(t *testing.T) {
	w := tiny(t)
	evil := `c/../<script>alert(1)</script>"'&?#%`
	s := w.add(t, evil, `<i>gold</i>`, `"onmouseover="x`, "silence", "critical", 1, `</span><script>alert(2)</script>`)
	s.Evidence = json.RawMessage(`{"x":"</pre><script>alert(3)</script>"}`)
	w.customers[evil].Complaints = []Complaint{{ID: "<script>alert(4)</script>", Priority: "<b>", Opened: noon.AddDate(0, 0, -3)}}
	c := w.console(false)
	queue := get(t, c, "/").Body.String()
	links := rowsIn(queue)
	if len(links) != 1 {
		t.Fatalf("rows %v", links)
	}
	if strings.ContainsAny(links[0], `<>"' `) || strings.Count(links[0], "/") != 2 || strings.Contains(links[0], "?") {
		t.Errorf("the customer's address is %s", links[0])
	}
	customer := get(t, c, html.UnescapeString(links[0]))
	if customer.Code != 200 || !strings.Contains(customer.Body.String(), "&lt;script&gt;alert(1)") {
		t.Errorf("the customer's page: %d", customer.Code)
	}
	for name, body := range map[string]string{
		"queue": queue, "customer": customer.Body.String(), "search": get(t, c, "/?q="+url.QueryEscape(`"><script>alert(5)</script>`)).Body.String(),
		"facet": get(t, c, "/?tier="+url.QueryEscape(`"><script>alert(6)</script>`)).Body.String(), "missing": get(t, c, "/customers/"+url.PathEscape("<script>alert(7)</script>")).Body.String(),
	} {
		if strings.Contains(body, "<script>alert") || strings.Contains(body, `="x"`) || strings.Contains(body, "<i>gold") {
			t.Errorf("the %s page has somebody's text as markup", name)
		}
	}
}

func TestEveryIDHasAnAddress(t *testing.T) {
	w := tiny(t)
	for _, id := range []string{".", "..", "a/b", "a//b", "ü ñ", "%2e%2e", "?x=1", "#", "a;b", "+", `a\b`} {
		w.add(t, id, "", "", "silence", "info", 1, "x")
		u := customerURL(id)
		rec := get(t, w.console(false), u)
		if rec.Code != 200 || !strings.Contains(rec.Body.String(), "12 weeks") && !strings.Contains(rec.Body.String(), "spend a week") {
			t.Errorf("%q at %s: %d", id, u, rec.Code)
		}
	}
}

func TestThePolicyIsStrictOnEveryAnswer(t *testing.T) {
	w := tiny(t)
	w.add(t, "c-1", "gold", "ann", "silence", "critical", 1, "x")
	w.demo = &fakeDemo{w: newWorld(t, 50, 1)}
	c := w.console(true)
	inline := regexp.MustCompile(`(?i)<script(?:>| [^>]*[^r]>)[^<]|\sstyle=|\son[a-z]+="|javascript:|https?://`)
	for _, path := range []string{"/", "/rows", "/customers/c-1", "/customers/c-1?by=day", "/detectors", "/feeds", "/api/alerts", "/api/status", "/nowhere", "/static/ebb.css", "/static/nothing"} {
		rec := get(t, c, path)
		h := rec.Header()
		if h.Get("Content-Security-Policy") != policy || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", path, h.Get("Content-Security-Policy"))
		}
		if h.Get("Referrer-Policy") != "no-referrer" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, h)
		}
		if strings.HasPrefix(h.Get("Content-Type"), "text/html") {
			if m := inline.FindString(rec.Body.String()); m != "" {
				t.Errorf("%s: the policy would refuse %q", path, m)
			}
		}
	}
	if rec := get(t, c, "/nowhere"); rec.Code != http.StatusNotFound {
		t.Errorf("a page that is not there: %d", rec.Code)
	}
	if cc := get(t, c, "/static/ebb.js?v="+c.version).Header().Get("Cache-Control"); !strings.Contains(cc, "immutable") {
		t.Errorf("an asset of this build is cached: %q", cc)
	}
}

func TestStatesAreSaid(t *testing.T) {
	for _, tc := range []struct {
		rule string
		do   func(w *world)
		path string
		want []string
		code int
	}{
		{"an empty queue says who is watched", func(*world) {}, "/", []string{"Nothing fires.", "3,012 customers are watched", "<b>0 EUR</b>"}, 200},
		{"a queue that is still being read is not called empty", func(w *world) { w.book = NewBook() }, "/", []string{"Reading the table of open alerts"}, 200},
		{
			"a stalled feed is one amber line that says what it means", func(w *world) {
				w.status.Feeds = []Feed{{Name: "usage", StalledSince: noon.Add(-26 * time.Hour), Lateness: -1, UsualRate: -1}, {Name: "payments"}}
			}, "/",
			[]string{"The usage feed brings nothing.", "26 h", "1 stalled", "silence waits until"},
			200,
		},
		{"a blind feed too", func(w *world) { w.status.Feeds = []Feed{{Name: "payments", BlindSince: noon}} }, "/", []string{"cannot be read", "1 blind"}, 200},
		{
			"a stopped task is said with its cause", func(w *world) { w.status.Tasks = []Task{{Partition: 3, State: TaskStopped, Error: "a corrupt batch"}} }, "/feeds",
			[]string{"Partition 3 is stopped: a corrupt batch.", "not watched"},
			200,
		},
		{
			"operational alerts that are not published", func(w *world) { w.status.Mute = "a damaged fact" }, "/",
			[]string{"Operational alerts are not published: a damaged fact."},
			200,
		},
		{
			"an engine that does not answer", func(w *world) { w.status.Problem = "The engine does not answer." }, "/",
			[]string{"As of 12:00:00 UTC: The engine does not answer.", "stands as it was"},
			200,
		},
		{
			"a customer of another instance has his alerts, no picture", func(w *world) { w.failed = ErrNotHere }, "/customers/c-1",
			[]string{"Another instance of the group holds this customer", "Nothing for 15 days."},
			200,
		},
		{"a customer whom nobody knows", func(w *world) { w.failed = ErrUnknown }, "/customers/c-9", []string{"No event of this customer"}, 404},
		{"an engine too slow", func(w *world) { w.failed = errors.New("deadline") }, "/customers/c-1", []string{"did not answer in time", "Nothing for 15 days."}, 503},
		{"restoring", func(w *world) { w.status.Tasks = []Task{{State: TaskRestoring, RestoreRemaining: 1234567}} }, "/feeds", []string{"1 partition is being restored", "1,234,567"}, 200},
		{"no outcomes: no percentage", func(*world) {}, "/detectors", []string{"Not enough outcomes yet: 0 of 100"}, 200},
		{"too few outcomes: their number", func(w *world) {
			w.status.Precision = map[string]Precision{"silence": {Right: 10, Judged: 12}}
		}, "/detectors", []string{"Not enough outcomes yet: 12 of 100"}, 200},
		{"enough outcomes: how many were right", func(w *world) {
			w.status.Precision = map[string]Precision{"silence": {Right: 90, Judged: 120}}
		}, "/detectors", []string{"<b>75 %</b> of 120 alerts"}, 200},
		{"what is not known is not zero", func(w *world) { w.status.Feeds = []Feed{{Name: "usage", UsualRate: -1, Lateness: -1}} }, "/feeds", []string{`<td class="r">0</td><td class="r">–</td><td class="r">0</td>`, `<td class="r">–</td><td><span class="unknown">`}, 200},
		{"dead letters have their reason and an example", func(w *world) {
			w.status.Feeds = []Feed{{Name: "usage", DeadLetters: []DeadLetters{{Reason: "time_missing", Count: 17, Example: "usage/3 offset 44"}}}}
		}, "/feeds", []string{"<b>17</b> to dead letters: time missing", "usage/3 offset 44"}, 200},
	} {
		w := tiny(t)
		if strings.Contains(tc.path, "c-1") {
			w.add(t, "c-1", "gold", "ann", "silence", "critical", 1, "Nothing for 15 days.")
		}
		tc.do(w)
		rec := get(t, w.console(false), tc.path)
		if rec.Code != tc.code {
			t.Errorf("%s: %d, want %d", tc.rule, rec.Code, tc.code)
		}
		for _, want := range tc.want {
			if !strings.Contains(rec.Body.String(), want) {
				t.Errorf("%s: the page lacks %q:\n%s", tc.rule, want, rec.Body.String())
			}
		}
	}
}

// The command that the page of a demo names works as it stands there.
func TestThePageOfADemoNamesItsConfiguration(t *testing.T) {
	w := tiny(t)
	w.crowd = simulate.New(1, simulate.Options{Customers: 1, Start: noon.AddDate(0, -4, 0)})
	w.demo = &fakeDemo{w: w}
	s := w.add(t, "c-1", "gold", "ann", "silence", "critical", 1, "Nothing for 15 days.")
	for demo, want := range map[bool]string{false: "ebb alerts ack " + s.AlertID + "</code>", true: "ebb alerts ack " + s.AlertID + " -c /tmp/ebb-demo-1/ebb.yaml</code>"} {
		if body := get(t, w.console(demo), "/customers/c-1").Body.String(); !strings.Contains(body, want) {
			t.Errorf("demo %t: the page lacks %s", demo, want)
		}
	}
}

// In the demo a day goes by in a second: rates are told by the simulated day, and the page says whose time all of it is.
func TestFeedsOfADemoAreToldInItsTime(t *testing.T) {
	w := tiny(t)
	w.crowd = simulate.New(1, simulate.Options{Customers: 1, Start: noon.AddDate(0, -4, 0)})
	w.demo = &fakeDemo{w: w}
	w.status.Feeds = []Feed{{Name: "usage", Rate: 0.02, UsualRate: 0.5, LastEvent: noon}, {Name: "control", UsualRate: -1}}
	life, demo := get(t, w.console(false), "/feeds").Body.String(), get(t, w.console(true), "/feeds").Body.String()
	for _, c := range []struct {
		text       string
		life, demo bool
	}{
		{"what people do about alerts", true, true},

		{"72 an hour", true, false},
		{">usual<", true, false},
		{`<td class="r">1,728</td>`, false, true},
		{"by the simulated day", false, true},
		{"goes on by 1 day a second", false, true},
	} {
		if strings.Contains(life, c.text) != c.life || strings.Contains(demo, c.text) != c.demo {
			t.Errorf("%q: in life %t, in the demo %t, want %t, %t", c.text, !c.life, !c.demo, c.life, c.demo)
		}
	}
}

func TestWhatPeopleDidIsShown(t *testing.T) {
	w := tiny(t)
	w.send(t, object{
		"alert_id": "a1", "revision": 3, "status": "firing", "step": "changed", "detector": "silence", "customer_id": "c-1", "severity": "warning", "summary": "Nothing for 15 days.",
		"time": noon, "since": noon, "acknowledged_by": "kim", "acknowledged_at": noon, "assignee": "lee<b>", "snoozed_until": "2026-02-02T00:00:00Z", "note": "will call", "by": "ann",
		"suspected_cause": "broken_promise", "held_back_for": object{"id": "owner=max", "alert_id": "b1"},
	})
	const did = "acknowledged by kim, with lee&lt;b&gt;, snoozed until 2 Feb 2026"
	if body := get(t, w.console(false), "/?snoozed=show").Body.String(); !strings.Contains(body, did) {
		t.Errorf("the queue lacks %q:\n%s", did, body)
	}
	body := get(t, w.console(false), "/customers/c-1").Body.String()
	for _, want := range []string{did, "will call", "changed by ann", "suspected cause: <b>broken promise</b>", "was held back for owner=max", "ebb alerts ack a1"} {
		if n := strings.Count(body, want); n != 1 {
			t.Errorf("the customer's page tells %q %d times:\n%s", want, n, body)
		}
	}
}

func TestAnOperationalAlertIsALine(t *testing.T) {
	w := tiny(t)
	w.send(t, object{
		"alert_id": "op1", "revision": 1, "status": "firing", "step": "fired", "detector": "retention_gap", "subject": map[string]string{"type": "feed", "id": "usage"},
		"severity": "critical", "summary": "Records of the feed usage were deleted by the broker before ebb had read them.", "time": noon, "since": noon,
	})
	if body := get(t, w.console(false), "/").Body.String(); strings.Count(body, "were deleted by the broker") != 1 || !strings.Contains(body, "Nothing fires.") {
		t.Error("the operational alert is to be one line, and no row")
	}
}

func TestTheRunPageKnowsNothingOfTheDemo(t *testing.T) {
	w := newWorld(t, 100, 5)
	for _, path := range []string{"/", "/customers/c-000001", "/detectors"} {
		if body := get(t, w.console(false), path).Body.String(); strings.Contains(body, "truly") || strings.Contains(body, "demo,") || strings.Contains(body, "usual rule") {
			t.Errorf("%s speaks of the simulation", path)
		}
	}
	rec := httptest.NewRecorder()
	w.console(false).ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/demo/kill", nil))
	if rec.Code/100 != 4 {
		t.Errorf("a button of the demo answers %d under run", rec.Code)
	}
}

func TestTheDemosButtons(t *testing.T) {
	w := newWorld(t, 100, 5)
	c := w.console(true)
	post := func(path, origin string, form url.Values) *httptest.ResponseRecorder {
		req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		rec := httptest.NewRecorder()
		c.ServeHTTP(rec, req)
		return rec
	}
	if rec := post("/demo/kill", "http://example.com", url.Values{"back": {"/?tier=gold"}}); rec.Code != http.StatusSeeOther || rec.Header().Get("Location") != "/?tier=gold" {
		t.Errorf("a press answers %d, to %q", rec.Code, rec.Header().Get("Location"))
	}
	for _, back := range []string{"https://elsewhere.example/", "//elsewhere.example", `/\elsewhere.example`, "x"} {
		if rec := post("/demo/kill", "", url.Values{"back": {back}}); rec.Header().Get("Location") != "/" {
			t.Errorf("back=%s leads to %q", back, rec.Header().Get("Location"))
		}
	}
	presses := len(w.demo.pressed)
	if rec := post("/demo/kill", "https://elsewhere.example", nil); rec.Code != http.StatusForbidden || len(w.demo.pressed) != presses {
		t.Errorf("another site's press answers %d", rec.Code)
	}
	if rec := post("/demo/nothing", "", nil); rec.Code != http.StatusConflict || !strings.Contains(rec.Body.String(), "there is no button") {
		t.Errorf("a button that is not there answers %d", rec.Code)
	}
	body := get(t, c, "/").Body.String()
	for _, want := range []string{"the usual rule", "Stop the usage feed", "0 twice, 0 missing", "seed 1"} {
		if !strings.Contains(body, want) {
			t.Errorf("the demo's page lacks %q", want)
		}
	}
	if !strings.Contains(body, "truly left") && !strings.Contains(body, "stays") {
		t.Error("the truth is to be shown")
	}
	w.demo.hidden = true
	if body = get(t, c, "/").Body.String(); strings.Contains(body, `class="truth`) {
		t.Error("the truth is to be hidden")
	}
}

func TestTheStreamTellsWhatHasChanged(t *testing.T) {
	w := tiny(t)
	w.add(t, "c-1", "gold", "ann", "silence", "critical", 300, "x")
	c := w.console(false)
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	t.Cleanup(c.Close)
	resp, err := http.Get(srv.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Fatalf("content type %q", ct)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	next := func(event string) string {
		for lines.Scan() {
			if lines.Text() == "event: "+event {
				lines.Scan()
				return strings.TrimPrefix(lines.Text(), "data: ")
			}
		}
		t.Fatalf("the stream ended before %s: %v", event, lines.Err())
		return ""
	}
	next("hello")
	if parts := next("parts"); !strings.Contains(parts, `"bar"`) || !strings.Contains(parts, "alerts firing") {
		t.Errorf("parts %s", parts)
	}
	open, _ := w.book.Of("c-1")
	gone := *open[0].Step
	gone.Revision, gone.Resolved, gone.Kind, gone.Reason = 2, true, "resolved", "corrected_by_late_data"
	w.book.Apply(&gone)
	var news queueNews
	if err := json.Unmarshal([]byte(next("queue")), &news); err != nil {
		t.Fatal(err)
	}
	if news.Open != 0 || len(news.Left) != 1 || news.Left[0].Reason != "corrected by late data" {
		t.Errorf("news %+v", news)
	}
	c.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("the stream did not end in order: %v", err)
	}
}

func TestTooManyViewersAreTurnedAway(t *testing.T) {
	c := tiny(t).console(false)
	for range viewersMax {
		c.viewers <- struct{}{}
	}
	if rec := get(t, c, "/events"); rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") == "" {
		t.Errorf("answer %d", rec.Code)
	}
}

func TestTheQueueForPrograms(t *testing.T) {
	w := tiny(t)
	w.add(t, "c-1", "gold", "ann", "silence", "critical", 4_125_000, "Nothing for 15 days.")
	w.add(t, "c-2", "", "", "spend_drop", "warning", 0, "x")
	var got struct {
		Total, Open int
		Alerts      []map[string]any
	}
	rec := get(t, w.console(false), "/api/alerts?detector=silence")
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Total != 1 || got.Open != 2 || got.Alerts[0]["customer_id"] != "c-1" || fmt.Sprint(got.Alerts[0]["money_at_risk"]) != "map[amount:412.50 currency:EUR]" {
		t.Errorf("%s", rec.Body)
	}
	rec = get(t, w.console(false), "/api/alerts?detector=spend_drop")
	if strings.Contains(rec.Body.String(), "money_at_risk") || strings.Contains(rec.Body.String(), `"tier"`) {
		t.Errorf("what is not known is to be absent: %s", rec.Body)
	}
	var st map[string]any
	if err := json.Unmarshal(get(t, w.console(false), "/api/status").Body.Bytes(), &st); err != nil || st["alerts_firing"] != 2.0 || st["group"] != "g" {
		t.Errorf("status %v, %v", st, err)
	}
}

func TestStepsAreReadTolerantly(t *testing.T) {
	s, err := ParseStep([]byte(`{"alert_id":"a","revision":3,"status":"firing","step":"reminded","detector":"new_one","customer_id":"c","severity":"catastrophic",
		"summary":"s","time":"2026-01-05T10:00:00Z","money_at_risk":{"amount":"no number","currency":"EUR"},"novel":{"x":[1]}}`))
	if err != nil || s.Severity != Info || s.HasRisk || s.Kind != "reminded" || s.Probability >= 0 || !s.FirstFired.Equal(s.Time) {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = ParseStep([]byte(`{"alert_id":"a","revision":1,"step":"fired","customer_id":"c","time":"2026-01-05T10:00:00Z","money_lost_so_far":{"amount":"1234.50","currency":"EUR"}}`))
	if err != nil || s.Lost != "1,234.50 EUR" {
		t.Errorf("lost so far %q, %v", s.Lost, err)
	}
	for _, bad := range []string{"", "null", "[]", "{}", `{"revision":1}`, `{"alert_id":3}`, "{\"alert_id\":\"a\"", "\xff"} {
		if _, err := ParseStep([]byte(bad)); !errors.Is(err, ErrNotAStep) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseStep(f *testing.F) {
	f.Add([]byte(`{"alert_id":"a","step":"fired","revision":1,"customer_id":"c","money_at_risk":{"amount":"1.5","currency":"EUR"},"time":"2026-01-05T10:00:00Z"}`))
	f.Add([]byte(`{"alert_id":"a","step":"resolved","status":"resolved","evidence":{"a":1}}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		s, err := ParseStep(value)
		if err != nil {
			return
		}
		b := NewBook()
		b.Apply(s)
		b.View(Filter{Text: "x"}, noon, 0, 10)
		b.Totals(noon)
	})
}

// Whoever asks for the head of the live stream alone has it at once: it would take a viewer's place, and its connection, until he goes away.
func TestTheHeadOfTheStreamEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	rec := httptest.NewRecorder()
	tiny(t).console(false).ServeHTTP(rec, httptest.NewRequestWithContext(ctx, http.MethodHead, "/events", nil))
	if ctx.Err() != nil || rec.Code != http.StatusOK || rec.Header().Get("Content-Type") != "text/event-stream" {
		t.Errorf("%v, answer %d, %v", ctx.Err(), rec.Code, rec.Header())
	}
}

// A long text to look for is cut between signs: half of one would be found nowhere.
func TestALongTextIsCutBetweenSigns(t *testing.T) {
	w := tiny(t)
	text := "a" + strings.Repeat("ü", textMax)
	w.add(t, "c-1", "", "", "silence", "info", 1, text)
	if rows := rowsIn(get(t, w.console(false), "/?q="+url.QueryEscape(text)).Body.String()); len(rows) != 1 {
		t.Errorf("%d rows, want 1", len(rows))
	}
}
