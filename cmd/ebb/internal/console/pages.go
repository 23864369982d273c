package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ebb/detectors"
	"ebb/stream/event"
)

// page is what every page has: the line of state, the sentences about what is wrong, and in the demo its panel.
type page struct {
	Nav, Title string
	Version    string
	Now        time.Time
	Status     Status
	Bar        []barItem
	Banners    []banner
	Demo       *DemoState
	Here       string // the page's own address, for forms to come back to
}

type barItem struct {
	Number  string
	Words   string
	Class   string
	Hover   string
	At      template.HTML // in place of Number
	Address string
}

// banner is one amber line: a sentence, and what it means for the list below.
type banner struct {
	Class, Text string
	Since       time.Time
}

type messagePage struct {
	page
	Heading, Text string
}

func (c *Console) page(nav, title string) page {
	now := c.o.Now()
	st := c.o.Source.Status()
	p := page{Nav: nav, Title: title, Version: c.version, Now: now, Status: st, Here: "/"}
	p.Bar = c.bar(&st, now)
	p.Banners = c.banners(&st)
	if c.o.Demo != nil {
		d := c.o.Demo.State()
		p.Demo = &d
	}
	return p
}

func (c *Console) bar(st *Status, now time.Time) []barItem {
	t := c.o.Book.Totals(now)
	risk := amounts(t.AtRisk)
	if t.Firing == 0 {
		risk = strings.TrimSpace("0 " + c.o.Currency)
	}
	items := []barItem{
		{Number: count(t.Firing), Words: "alerts firing", Hover: plural(t.Customers, "customer", "customers"), Address: "/"},
		{Number: risk, Words: "at risk", Hover: "Each customer once, with the greatest of his alerts"},
		{Number: count(t.ThisWeek), Words: "new in 7 days", Hover: "Alerts that fired first in the last seven days of event time, open or over"},
	}
	live, stalled, blind := 0, 0, 0
	var lag int64
	behind := 0.0
	for i := range st.Feeds {
		f := &st.Feeds[i]
		switch {
		case !f.StalledSince.IsZero():
			stalled++
		case !f.BlindSince.IsZero():
			blind++
		default:
			live++
		}
		lag += f.LagRecords
		behind = max(behind, f.LagSeconds)
	}
	feeds := barItem{Number: count(live), Words: "feeds live", Address: "/feeds"}
	if live == 1 {
		feeds.Words = "feed live"
	}
	if stalled > 0 {
		feeds.Words += fmt.Sprintf(", %d stalled", stalled)
		feeds.Class = "warn"
	}
	if blind > 0 {
		feeds.Words += fmt.Sprintf(", %d blind", blind)
		feeds.Class = "warn"
	}
	items = append(items, feeds,
		barItem{Number: count(lag), Words: "records behind", Hover: "at most " + seconds(behind), Address: "/feeds"},
		barItem{At: clock(st.LastEvent), Words: "last event"})
	return items
}

// banners says what is wrong, worst first, each with what it means for the list.
func (c *Console) banners(st *Status) []banner {
	var out []banner
	if st.Problem != "" {
		text := st.Problem
		if !st.AsOf.IsZero() {
			text = "As of " + st.AsOf.UTC().Format("15:04:05 UTC") + ": " + text
		}
		out = append(out, banner{Class: "bad", Text: text + " The list below stands as it was."})
	}
	if st.Mute != "" {
		out = append(out, banner{Class: "bad", Text: "Operational alerts are not published: " + sentence(st.Mute)})
	}
	restoring, behind := 0, 0
	for i := range st.Tasks {
		switch t := &st.Tasks[i]; t.State {
		case TaskStopped:
			out = append(out, banner{Class: "bad", Text: fmt.Sprintf("Partition %d is stopped: %s Its customers are not watched.", t.Partition, sentence(t.Error))})
		case TaskRestoring:
			restoring++
		case TaskCatchingUp:
			behind++
		}
	}
	shown := map[string]bool{}
	for i := range st.Feeds {
		f := &st.Feeds[i]
		if !f.StalledSince.IsZero() {
			shown["feed_stalled/"+f.Name] = true
			out = append(out, banner{Class: "warn", Since: f.StalledSince, Text: "The " + f.Name + " feed brings nothing. " + heldBy(f.Name)})
		}
		if !f.BlindSince.IsZero() {
			shown["feed_blind/"+f.Name] = true
			out = append(out, banner{Class: "warn", Since: f.BlindSince, Text: "Too many records of the " + f.Name + " feed cannot be read. " +
				"Its customers are not judged by what is not seen; the dead letters say what is wrong with the records."})
		}
	}
	for _, op := range c.o.Book.Operational() {
		if !shown[op.Detector+"/"+strings.TrimPrefix(op.SubjectID, "feed/")] {
			out = append(out, banner{Class: "warn", Since: op.Since, Text: op.Summary})
		}
	}
	if restoring > 0 {
		out = append(out, banner{Class: "note", Text: plural(restoring, "partition is", "partitions are") + " being restored; alerts of their customers stand as they were."})
	}
	if behind > 0 {
		out = append(out, banner{Class: "note", Text: plural(behind, "partition is", "partitions are") + " catching up; what was decided meanwhile is published when they are through."})
	}
	return out
}

// heldBy says which rules wait for a feed that stands still.
func heldBy(feed string) string {
	switch feed {
	case event.Usage.String():
		return "Nobody is called silent for it: silence waits until it is back, and what it listed below stands as it was."
	case event.Payments.String():
		return "Nobody is accused for it: silence and spend drop wait until it is back, and what they listed below stands as it was."
	case event.Complaints.String():
		return "Complaints wait until it is back, and what is listed below about them stands as it was."
	}
	return "What is told of the customers may be old; no rule waits for it."
}

func sentence(s string) string {
	if s == "" {
		return "the log says why."
	}
	if strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

// Queue.

type queuePage struct {
	page
	Filter  Filter
	Selects []selectBox
	Rows    rows
}

// SnoozedInAddress is what the page's address says of snoozed alerts, empty if nothing.
func (p queuePage) SnoozedInAddress() string { return p.Filter.query().Get("snoozed") }

type selectBox struct {
	Name, Label, Value string
	Options            []Facet
}

type rows struct {
	View
	Items     []row
	More      string // address of the rest, empty when all is shown
	Back      string
	Filtered  bool
	Clear     string
	Filter    Filter
	Orders    []choice // how the list can be sorted
	Wait      string   // what is being waited for, while there is nothing to list yet
	Customers int
}

// choice is one of several addresses of a list.
type choice struct {
	Words, Address string
	Current        bool
}

// WithSnoozed is the address of the same list, from its begin on, with snoozed alerts treated as named: show, hide or only.
func (r rows) WithSnoozed(how string) string {
	f := r.Filter
	f.Snoozed = parseSnoozed(how, f.Snoozed)
	return queueURL(&f, 0)
}

// First is the place of the first row, counted from 1.
func (r rows) First() int { return r.From + 1 }

// End is the place of the last row, counted from 1.
func (r rows) End() int { return r.From + len(r.Items) }

type row struct {
	*Alert
	Spark template.HTML
	Truth *Truth
	Now   time.Time
	URL   string
}

func (c *Console) queuePage(w http.ResponseWriter, r *http.Request) {
	f := parseFilter(r.URL.Query(), SnoozedHidden)
	p := queuePage{page: c.page("queue", "Queue"), Filter: f}
	p.Here = r.URL.RequestURI()
	facets := c.o.Book.Facets(f.Snoozed, p.Now)
	for _, name := range facetNames() {
		s := selectBox{Name: name, Label: name, Value: f.value(name), Options: facets[name]}
		known := slices.ContainsFunc(s.Options, func(o Facet) bool { return o.Value == s.Value })
		if s.Value != "" && !known {
			s.Options = append(s.Options, Facet{Value: s.Value})
		}
		if len(s.Options) > 0 {
			p.Selects = append(p.Selects, s)
		}
	}
	p.Rows = c.rows(r.Context(), f, from(r), pageRows, &p.page)
	c.render(w, http.StatusOK, "queue.html", p)
}

func from(r *http.Request) int {
	n, err := strconv.Atoi(r.URL.Query().Get("from"))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// rowsFragment is a window of the list alone, for the script.
func (c *Console) rowsFragment(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil || n <= 0 {
		n = pageRows
	}
	p := c.page("queue", "")
	view := c.rows(r.Context(), parseFilter(r.URL.Query(), SnoozedHidden), from(r), min(n, pageRowsMax), &p)
	c.render(w, http.StatusOK, "rows.html", view)
}

func (c *Console) rows(ctx context.Context, f Filter, from, n int, p *page) rows {
	manner := f.manner()
	v := rows{View: c.o.Book.View(f, p.Now, from, n), Filtered: f.active(), Filter: f, Clear: queueURL(&manner, 0)}
	for _, o := range []choice{{Words: "money at risk", Address: string(ByRisk)}, {Words: "newest", Address: string(Newest)}} {
		other := f
		other.Order = Order(o.Address)
		v.Orders = append(v.Orders, choice{Words: o.Words, Address: queueURL(&other, 0), Current: other.Order == f.Order})
	}
	for _, n := range p.Status.Customers {
		v.Customers += int(n)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, a := range v.Rows {
		it := row{Alert: a, Now: p.Now, URL: customerURL(a.Customer)}
		it.Spark = c.spark(ctx, a, p.Now)
		it.Truth = c.truth(p, a.Customer)
		v.Items = append(v.Items, it)
	}
	if end := from + len(v.Rows); end < v.Total && len(v.Rows) > 0 {
		v.More = queueURL(&f, end)
	}
	if from > 0 {
		v.Back = queueURL(&f, max(0, from-pageRows))
	}
	if p.Demo != nil && p.Demo.Phase != PhaseLive && p.Demo.Phase != PhaseEnded {
		v.Wait = phaseText(p.Demo)
	}
	return v
}

// queueURL is the address of a filtered queue from a place on.
func queueURL(f *Filter, from int) string {
	q := f.query()
	if from > 0 {
		q.Set("from", strconv.Itoa(from))
	}
	if len(q) == 0 {
		return "/"
	}
	return "/?" + q.Encode()
}

func phaseText(d *DemoState) string {
	switch d.Phase {
	case PhaseFilling:
		return "Writing the history of the simulated customers: " + percent(d.Progress)
	case PhaseReading:
		return "The engine reads the history: " + percent(d.Progress)
	}
	return ""
}

// truth is what the simulation knows of a customer, if this is a demo and it is to be shown.
func (c *Console) truth(p *page, customer string) *Truth {
	if p.Demo == nil || !p.Demo.ShowTruth {
		return nil
	}
	t, ok := c.o.Demo.Truth(customer)
	if !ok {
		return nil
	}
	return &t
}

// Customer.

type customerPage struct {
	page
	ID       string
	Customer *Customer
	Missing  string // why there is no picture
	Open     []why
	Past     []*Alert
	Truth    *Truth
	By       string
	// The picture for three widths; the style sheet shows one of them.
	Wide, Mid, Narrow template.HTML
	Spans             []span
	Last              Date
	ByWeek, ByDay     string
	// Around is the alert whose weeks are shown, nil for the latest ones; Latest is the address of these.
	Around *Alert
	Latest string
	// Gone says what of the picture is not kept any more, empty if all of it is.
	Gone string
}

// AroundURL is the address of the page with the weeks around one of its alerts.
func (p customerPage) AroundURL(a *Alert) string { return pictureURL(p.ID, p.By, a.AlertID) }

// Elsewhere reports whether the picture does not show how an alert began.
func (p customerPage) Elsewhere(a *Alert) bool {
	return a != p.Around && (p.Around != nil || outOfSight(a, p.Now, weeksShown))
}

// why is an open alert with the rule behind it.
type why struct {
	*Alert
	Rule     *Rule
	Evidence string
	Facts    []Threshold
}

func (c *Console) customerPage(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if id == "" {
		id = r.URL.Query().Get("id")
	}
	p := customerPage{page: c.page("customer", id), ID: id, By: "week"}
	p.Here = r.URL.RequestURI()
	if r.URL.Query().Get("by") == "day" {
		p.By = "day"
	}
	open, past := c.o.Book.Of(id)
	for _, a := range open {
		p.Open = append(p.Open, c.why(a))
	}
	p.Past = past
	around := r.URL.Query().Get("around")
	p.Around = aroundOf(around, open, past, p.Now)
	p.ByWeek, p.ByDay, p.Latest = pictureURL(id, "week", around), pictureURL(id, "day", around), pictureURL(id, p.By, latest)
	p.Truth = c.truth(&p.page, id)
	ctx, cancel := context.WithTimeout(r.Context(), customerTimeout)
	defer cancel()
	v, err := c.o.Source.Customer(ctx, id)
	status := http.StatusOK
	switch {
	case err == nil:
		p.Customer = v
		c.draw(&p)
	case errors.Is(err, ErrNotHere):
		p.Missing = "Another instance of the group holds this customer, so the picture is on its page. The alerts are the same everywhere."
	case errors.Is(err, ErrUnknown):
		p.Missing = "No event of this customer has been seen, or so long ago that the record was forgotten."
		if len(open)+len(past) == 0 {
			status = http.StatusNotFound
		}
	default:
		status = http.StatusServiceUnavailable
		p.Missing = "The engine did not answer in time. The alerts below come from the alert topic and stand as they were; reload to try again."
	}
	c.render(w, status, "customer.html", p)
}

// latest asks in an address for the latest weeks, whatever fires.
const latest = "latest"

// pictureURL is the address of a customer's page with the picture by week or by day, around an alert, or as the page thinks best if that is empty.
func pictureURL(id, by, around string) string {
	q := url.Values{"by": {by}}
	if around != "" {
		q.Set("around", around)
	}
	u := customerURL(id)
	if strings.Contains(u, "?") {
		return u + "&" + q.Encode()
	}
	return u + "?" + q.Encode()
}

// aroundOf is the alert whose weeks the picture is to show: the one that is asked for, else the newest open one if it is so old that the latest weeks do not
// show how it began; nil for the latest weeks.
func aroundOf(asked string, open, past []*Alert, now time.Time) *Alert {
	if asked == latest {
		return nil
	}
	for _, a := range slices.Concat(open, past) {
		if a.AlertID == asked {
			return a
		}
	}
	if len(open) == 0 {
		return nil
	}
	if a := slices.MinFunc(open, byNewest); outOfSight(a, now, weeksShown) {
		return a
	}
	return nil
}

func (c *Console) why(a *Alert) why {
	w := why{Alert: a, Evidence: indent(a.Evidence)}
	for i := range c.o.Rules {
		if c.o.Rules[i].Detector == a.Detector {
			w.Rule = &c.o.Rules[i]
		}
	}
	fact := func(name, value string) {
		if value != "" {
			w.Facts = append(w.Facts, Threshold{Name: name, Value: value})
		}
	}
	fact("observed", a.Observed)
	fact("expected", a.Expected)
	if a.HasRisk {
		fact("money at risk", money(a.AtRisk)+" "+a.Currency)
	}
	fact("lost so far", a.Lost)
	if a.HorizonDays > 0 {
		fact("horizon", plural(a.HorizonDays, "day", "days"))
	}
	if a.Probability >= 0 {
		fact("probability", percent(a.Probability))
	}
	if a.SubjectID != "" {
		fact(words(a.SubjectType), a.SubjectID)
	}
	fact("worked", workText(a, c.o.Now()))
	fact("contacted by", a.ContactedBy)
	fact("note", a.Note)
	fact("detector version", a.DetectorVersion)
	fact("configuration", a.ConfigHash)
	fact("alert id", a.AlertID)
	return w
}

const (
	weeksShown = 13
	wideChart  = 1310
	midChart   = 930
	smallChart = 358
)

func (c *Console) draw(p *customerPage) {
	v, zone := p.Customer, zoneOf(p.Customer)
	end := lastFullDay(v, p.Now)
	var since time.Time
	n := weeksShown
	if a := p.Around; a != nil {
		v, p.Last, n, p.Gone = around(v, a, end, weeksShown)
		since = a.Since
		if p.Last == 0 { // what is there can still be shown
			p.Around, n = nil, weeksShown
		}
	}
	if p.Around == nil {
		p.Last = end
		for _, a := range p.Open {
			if since.IsZero() || a.Since.Before(since) {
				since = a.Since
			}
		}
	}
	if p.Truth != nil && p.Truth.Leaves && p.Truth.Begins.Before(p.Now) && (since.IsZero() || p.Truth.Begins.Before(since)) {
		since = p.Truth.Begins
	}
	d := pictureData{currency: v.Currency, zone: zone, now: p.Now, unit: p.By}
	if p.By == "day" {
		first, to := p.Last-Date(7*n)+1, p.Last
		if p.Last == end { // the day that is not over yet
			first, to = max(first, v.Window), dateOf(p.Now, zone)
		}
		d.spans = days(v, first, to)
		if n := len(d.spans); n > 0 {
			d.spans[n-1].Partial = p.Last == end
		}
	} else {
		d.spans = weeks(v, p.Last, n, since)
	}
	d.show(v.Complaints, c.marks(p))
	p.Spans = d.spans
	p.Wide, p.Mid, p.Narrow = picture(&d, wideChart), picture(&d, midChart), picture(&d, smallChart)
}

func (c *Console) marks(p *customerPage) []mark {
	var out []mark
	add := func(at time.Time, class, label, hover string) {
		if !at.IsZero() {
			out = append(out, mark{at: at, class: class, label: label, hover: hover + ", " + stamp(at)})
		}
	}
	for _, a := range p.Open {
		add(a.FirstFired, "fired", words(a.Detector), words(a.Detector)+" fired")
		for _, s := range a.Steps {
			if s.Kind != "fired" {
				add(s.Time, "step", words(s.Kind), words(a.Detector)+" "+words(s.Kind))
			}
		}
	}
	for i, a := range p.Past {
		if i >= 5 && a != p.Around {
			continue
		}
		add(a.FirstFired, "past", words(a.Detector), words(a.Detector)+" fired")
		add(a.Time, "resolved", words(a.Reason), words(a.Detector)+" resolved: "+words(a.Reason))
	}
	if t := p.Truth; t != nil && t.Leaves && t.Left.Before(p.Now.Add(24*time.Hour)) {
		add(t.Left, "truth", "truly left", "Truly left ("+words(t.Shape)+")")
	}
	slices.SortStableFunc(out, func(x, y mark) int { return x.at.Compare(y.at) })
	return out
}

// Detectors.

type detectorsPage struct {
	page
	Lines []detectorLine
}

type detectorLine struct {
	DetectorTotals
	Rule      *Rule
	Truth     *DetectorScore
	Precision Precision
}

// enoughOutcomes is how many alerts must be judged for a percentage to say something.
const enoughOutcomes = 100

// Enough reports whether a percentage can be shown.
func (l detectorLine) Enough() bool { return l.Precision.Judged >= enoughOutcomes }

func (c *Console) detectorsPage(w http.ResponseWriter, r *http.Request) {
	p := detectorsPage{page: c.page("detectors", "Detectors")}
	p.Here = r.URL.RequestURI()
	totals := c.o.Book.Totals(p.Now)
	seen := map[string]bool{}
	add := func(name string, rule *Rule) {
		if seen[name] {
			return
		}
		seen[name] = true
		line := detectorLine{DetectorTotals: DetectorTotals{Detector: name}, Rule: rule, Precision: p.Status.Precision[name]}
		for i := range totals.ByDetector {
			if totals.ByDetector[i].Detector == name {
				line.DetectorTotals = totals.ByDetector[i]
			}
		}
		if p.Demo != nil && p.Demo.ShowTruth {
			for i := range p.Demo.Ebb.ByDetector {
				if p.Demo.Ebb.ByDetector[i].Detector == name {
					line.Truth = &p.Demo.Ebb.ByDetector[i]
				}
			}
		}
		p.Lines = append(p.Lines, line)
	}
	for i := range c.o.Rules {
		add(c.o.Rules[i].Detector, &c.o.Rules[i])
	}
	for i := range totals.ByDetector {
		add(totals.ByDetector[i].Detector, nil)
	}
	c.render(w, http.StatusOK, "detectors.html", p)
}

// Feeds and engine.

type feedsPage struct {
	page
	Stages []Facet
}

func (c *Console) feedsPage(w http.ResponseWriter, r *http.Request) {
	p := feedsPage{page: c.page("feeds", "Feeds and engine")}
	p.Here = r.URL.RequestURI()
	for name, n := range p.Status.Customers {
		p.Stages = append(p.Stages, Facet{Value: name, Count: int(n)})
	}
	lifeOrder := detectors.StageNames() // behind those that say nothing of it
	slices.SortFunc(p.Stages, func(x, y Facet) int {
		return cmp.Or(cmp.Compare(slices.Index(lifeOrder, x.Value), slices.Index(lifeOrder, y.Value)), strings.Compare(x.Value, y.Value))
	})
	c.render(w, http.StatusOK, "feeds.html", p)
}
