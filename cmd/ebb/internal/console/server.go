package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static/ebb.css static/ebb.js static/icon.svg
var staticFiles embed.FS

// Options are what the page is made of.
type Options struct {
	// Source and Book are required.
	Source Source
	Book   *Book
	// Demo is nil under `ebb run`.
	Demo Demo
	// Rules describe the detectors, in the order in which they are shown.
	Rules []Rule
	// Now is the wall clock of event time, simulated in the demo. Required.
	Now func() time.Time
	// Tick is the clock of the process, for the deadline of writes to a viewer who does not read; nil sets none.
	Tick func() time.Time
	// Currency is the reporting currency, for the sum of no alerts.
	Currency string
	// Log takes what goes wrong while a page is written; nil discards it.
	Log *slog.Logger
}

// Console serves the page.
type Console struct {
	o       Options
	mux     *http.ServeMux
	pages   *template.Template
	assets  map[string]asset
	version string // of the assets, so that browsers may keep them for ever
	sparks  sparkCache
	viewers chan struct{} // one token for each open live stream
	closing context.Context
	close   context.CancelFunc
}

type asset struct {
	body []byte
	kind string
}

// Bounds of a page.
const (
	pageRows    = 100
	pageRowsMax = 1000
	apiRowsMax  = 1000
	viewersMax  = 128
	// askTimeout bounds how long a page waits for the engine's answers about customers.
	askTimeout = 400 * time.Millisecond
	// customerTimeout bounds it for the page of one customer, which is about nothing else.
	customerTimeout = 2 * time.Second
)

// New returns the page's handler. It panics if Source, Book or Now is missing, or if its own templates do not parse: both are
// faults of the program, not of its user.
func New(o Options) *Console {
	if o.Source == nil || o.Book == nil || o.Now == nil {
		panic("console: Source, Book and Now are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Console{o: o, mux: http.NewServeMux(), viewers: make(chan struct{}, viewersMax), assets: map[string]asset{}}
	c.closing, c.close = context.WithCancel(context.Background())
	c.loadAssets()
	c.pages = template.Must(template.New("").Funcs(c.functions()).ParseFS(templateFiles, "templates/*.html"))
	c.routes()
	return c
}

// Close ends the live streams, so that a server can shut down: http.Server.Shutdown waits for them otherwise. Hand it to
// RegisterOnShutdown.
func (c *Console) Close() { c.close() }

func (c *Console) loadAssets() {
	sum := sha256.New()
	for name, kind := range map[string]string{
		"ebb.css": "text/css; charset=utf-8", "ebb.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		body, err := fs.ReadFile(staticFiles, "static/"+name)
		if err != nil {
			panic(err)
		}
		c.assets[name] = asset{body: body, kind: kind}
	}
	for _, name := range []string{"ebb.css", "ebb.js", "icon.svg"} {
		sum.Write(c.assets[name].body)
	}
	c.version = hex.EncodeToString(sum.Sum(nil)[:6])
}

func (c *Console) routes() {
	c.mux.HandleFunc("GET /{$}", c.queuePage)
	c.mux.HandleFunc("GET /rows", c.rowsFragment)
	c.mux.HandleFunc("GET /customers/{id}", c.customerPage)
	c.mux.HandleFunc("GET /customers", c.customerPage)
	c.mux.HandleFunc("GET /detectors", c.detectorsPage)
	c.mux.HandleFunc("GET /feeds", c.feedsPage)
	c.mux.HandleFunc("GET /events", c.events)
	c.mux.HandleFunc("GET /api/alerts", c.apiAlerts)
	c.mux.HandleFunc("GET /api/status", c.apiStatus)
	c.mux.HandleFunc("GET /static/{name}", c.static)
	if c.o.Demo != nil {
		// Only the page itself may press the demo's buttons, not another site that the browser has open.
		c.mux.Handle("POST /demo/{act}", http.NewCrossOriginProtection().Handler(http.HandlerFunc(c.act)))
	}
	c.mux.HandleFunc("GET /", c.notFound)
}

// policy allows what the page consists of, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP serves the page.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	c.mux.ServeHTTP(w, r)
}

func (c *Console) static(w http.ResponseWriter, r *http.Request) {
	a, ok := c.assets[r.PathValue("name")]
	if !ok {
		c.notFound(w, r)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	if r.URL.Query().Get("v") == c.version {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_, _ = w.Write(a.body) // the reader has gone: nobody to tell
}

// render writes a page. It is written to memory first, so that a fault in a template is an error and not half a page.
func (c *Console) render(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := c.pages.ExecuteTemplate(&b, name, data); err != nil {
		c.o.Log.Error("page not written", "page", name, "error", err)
		http.Error(w, "This page could not be written; the log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the reader has gone: nobody to tell
}

func (c *Console) fragment(name string, data any) (string, error) {
	var b bytes.Buffer
	err := c.pages.ExecuteTemplate(&b, name, data)
	return b.String(), err
}

func (c *Console) notFound(w http.ResponseWriter, r *http.Request) {
	c.render(w, http.StatusNotFound, "message.html", messagePage{
		page: c.page("", "Not found"), Heading: "There is no such page",
		Text: "The address leads nowhere. The queue is where the open alerts are.",
	})
}

// customerURL is the address of a customer's page. The two ids that a path cannot hold go into the query.
func customerURL(id string) string {
	if id == "." || id == ".." || id == "" {
		return "/customers?id=" + url.QueryEscape(id)
	}
	return "/customers/" + url.PathEscape(id)
}

// sparkCache keeps the rows' little pictures for a day of event time: what they show ends with the day before.
type sparkCache struct {
	mu    sync.Mutex
	date  Date
	known map[string]template.HTML
}

const sparksKept = 4000

func (s *sparkCache) get(date Date, key string) (template.HTML, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.date != date {
		s.date, s.known = date, nil
	}
	h, ok := s.known[key]
	return h, ok
}

func (s *sparkCache) put(date Date, key string, h template.HTML) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.date != date {
		return
	}
	if s.known == nil || len(s.known) >= sparksKept {
		s.known = map[string]template.HTML{}
	}
	s.known[key] = h
}

const sparkWeeks = 12

// spark is the little picture of one row: the latest weeks, or those around an alert of long ago. A customer whose picture cannot be had now has a word in its place.
func (c *Console) spark(ctx context.Context, a *Alert, now time.Time) template.HTML {
	date := dateOf(now, time.UTC)
	key := a.AlertID + "/" + a.Kind
	if h, ok := c.sparks.get(date, key); ok {
		return h
	}
	v, err := c.o.Source.Customer(ctx, a.Customer)
	switch {
	case errors.Is(err, ErrNotHere):
		return `<span class="spark none">on another instance</span>`
	case errors.Is(err, ErrUnknown):
		return `<span class="spark none">not known</span>`
	case err != nil:
		return `<span class="spark none">not read yet</span>`
	}
	last := lastFullDay(v, now)
	if outOfSight(a, now, sparkWeeks) {
		if with, then, _, _ := around(v, a, last, sparkWeeks); then != 0 {
			v, last = with, then
		}
	}
	h := spark(weeks(v, last, sparkWeeks, a.Since))
	c.sparks.put(date, key, h)
	return h
}

// lastFullDay is the last day of the customer's calendar that is over and of which all is known.
func lastFullDay(v *Customer, now time.Time) Date {
	end := now
	if !v.KnownUntil.IsZero() && v.KnownUntil.Before(end) {
		end = v.KnownUntil
	}
	return dateOf(end, zoneOf(v)) - 1
}

// act presses a button of the demo and goes back to where it was pressed.
func (c *Console) act(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "The form could not be read.", http.StatusBadRequest)
		return
	}
	if err := c.o.Demo.Act(r.PathValue("act"), r.PostForm.Get("value")); err != nil {
		c.render(w, http.StatusConflict, "message.html", messagePage{
			page: c.page("queue", "Not done"), Heading: "That could not be done", Text: err.Error(),
		})
		return
	}
	if r.Header.Get("X-Ebb-Live") != "" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	back := r.PostForm.Get("back")
	if !strings.HasPrefix(back, "/") || strings.HasPrefix(back, "//") || strings.Contains(back, "\\") {
		back = "/"
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
}
