package alerts_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/detectors/hours"
	"ebb/detectors/population/populationtest"
	"ebb/state/customer"
	"ebb/stream/event"
)

var update = flag.Bool("update", false, "write the steps into the scenario scripts again")

// TestScenarios runs the scripts in testdata. A script is lines of events and times, each followed by the alert steps it leads
// to, on lines that begin with "=>"; -update writes those again. See README.txt there for the commands.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.script"))
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".script"), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(b))
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(b); got != want {
				t.Errorf("steps differ (rewrite with -update, and look at the difference):\n%s", difference(got, want))
			}
		})
	}
}

// difference shows the first line that differs, with what stands before it.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			at := func(s []string) string {
				if i < len(s) {
					return s[i]
				}
				return "(end)"
			}
			return fmt.Sprintf("line %d, after\n%s\ngot  %s\nwant %s", i+1, strings.Join(g[max(0, i-3):min(i, len(g))], "\n"), at(g), at(w))
		}
	}
	return ""
}

// script is a running scenario.
type script struct {
	t        *testing.T
	schema   *schema
	cfg      detectors.Config
	loc      *time.Location
	p        *pipeline // made by the first event or time
	setup    []func(*pipeline)
	behind   [event.NumFeeds]int64 // completeness
	until    [event.NumFeeds]int64 // 0 = no limit
	evidence bool
	envelope bool
	verdicts bool
	open     map[string]string // table of open alerts: id -> last step
	ids      map[string]string // of the newest alert of each customer, detector and subject
	misses   missRates
	out      strings.Builder
	n        uint64
}

func runScript(t *testing.T, text string) string {
	t.Helper()
	s := &script{t: t, schema: readSchema(t, alerts.AlertSchema), misses: missRates{}, cfg: contract(), loc: time.UTC, open: map[string]string{}, ids: map[string]string{}}
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if strings.HasPrefix(line, "=>") {
			continue
		}
		s.out.WriteString(line + "\n")
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := s.command(line); err != nil {
			t.Fatalf("line %d, %q: %v", i+1, line, err)
		}
	}
	s.checkOpen()
	return s.out.String()
}

// command runs one line.
func (s *script) command(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "config":
		if s.p != nil {
			return fmt.Errorf("the configuration stands before the first event")
		}
		return yaml.Unmarshal([]byte(rest), &s.cfg)
	case "defaults":
		s.cfg = detectors.Defaults()
		return nil
	case "remind-after":
		d, err := detectors.ParseDuration(rest)
		s.setup = append(s.setup, func(p *pipeline) { p.remindAfter(d) })
		return err
	case "together":
		s.setup = append(s.setup, (*pipeline).together)
		return nil
	case "tiers":
		s.cfg.Tiers = strings.Fields(rest)
		return nil
	case "zone":
		loc, err := time.LoadLocation(rest)
		s.loc = loc
		return err
	case "show":
		s.evidence, s.envelope, s.verdicts = strings.Contains(rest, "evidence"), strings.Contains(rest, "envelope"), strings.Contains(rest, "verdicts")
		return nil
	case "out-of-order":
		d, err := detectors.ParseDuration(rest)
		s.setup = append(s.setup, func(p *pipeline) { p.outOfOrder = d.Ms() })
		return err
	case "population": // population weekly DATE
		at, err := time.Parse("weekly 2006-01-02", rest)
		s.setup = append(s.setup, func(p *pipeline) {
			p.env.Population = populationtest.Weekly(*p.set.Population(), int32(at.Unix()/86400))
		})
		return err
	case "quiet":
		s.setup = append(s.setup, func(p *pipeline) { p.mode = alerts.Quiet })
		return nil
	case "every": // every 1d x35 TIME ...
		return s.every(rest)
	case "completeness", "known":
		return s.knowledge(word, rest)
	case "calendar": // calendar NAME ZONE DAYS HOURS, DAYS HOURS ...
		return s.calendar(rest)
	case "misses": // misses GROUP SHARE
		group, share, _ := strings.Cut(rest, " ")
		v, err := strconv.ParseFloat(share, 64)
		s.misses[customer.Hash([]byte(group))] = v
		return err
	case "rule-removed":
		cfg := s.cfg
		switch rest {
		case "silence":
			cfg.Silence.Enabled = false
		default:
			return fmt.Errorf("no such rule")
		}
		next := newPipeline(s.t, cfg, s.loc)
		s.p.set, s.p.policy = next.set, next.policy
		return nil
	}
	at, rest, err := s.moment(line)
	if err != nil {
		return err
	}
	return s.timed(at, strings.Fields(rest))
}

// calendar makes a calendar with German holidays that the configuration may name.
func (s *script) calendar(rest string) error {
	name, rest, _ := strings.Cut(rest, " ")
	zone, week, _ := strings.Cut(rest, " ")
	c, err := hours.New(name, hours.Config{Zone: zone, Hours: strings.Split(week, ", "), Holidays: []string{"DE"}}, "", nil)
	if s.cfg.Calendars == nil {
		s.cfg.Calendars = map[string]*hours.Calendar{}
	}
	s.cfg.Calendars[name] = c
	return err
}

// missRates are what a script says of its groups.
type missRates map[int64]float64

func (m missRates) MissRate(group int64) (float64, bool) {
	v, ok := m[group]
	return v, ok
}

func (m missRates) Version() string { return "script" }

// moment reads "2026-01-05 10:00" or "2026-01-05 10:00:30" in the script's zone.
func (s *script) moment(line string) (int64, string, error) {
	f := strings.SplitN(line, " ", 3)
	if len(f) < 3 {
		return 0, "", fmt.Errorf("a time and a command are wanted")
	}
	layout := "2006-01-02 15:04:05"
	at, err := time.ParseInLocation(layout[:10+1+len(f[1])], f[0]+" "+f[1], s.loc)
	return at.UnixMilli(), f[2], err
}

func (s *script) every(rest string) error {
	f := strings.SplitN(rest, " ", 3)
	d, err := detectors.ParseDuration(f[0])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimPrefix(f[1], "x"))
	if err != nil {
		return err
	}
	at, what, err := s.moment(f[2])
	if err != nil {
		return err
	}
	for i := range int64(n) {
		if err := s.timed(at+i*d.Ms(), strings.Fields(what)); err != nil {
			return err
		}
	}
	return nil
}

// knowledge sets how complete a feed is: "completeness payments 26h", "known usage 2026-01-20 00:00 .", "known usage off".
func (s *script) knowledge(word, rest string) error {
	name, value, _ := strings.Cut(rest, " ")
	feed, ok := event.ParseFeed(name)
	if !ok {
		return fmt.Errorf("no feed %q", name)
	}
	if word == "completeness" {
		d, err := detectors.ParseDuration(value)
		s.behind[feed] = d.Ms()
		return err
	}
	if value == "off" {
		s.until[feed] = 0
		return nil
	}
	at, _, err := s.moment(value + " .")
	s.until[feed] = at
	return err
}

func (s *script) start() {
	if s.p != nil {
		return
	}
	s.p = newPipeline(s.t, s.cfg, s.loc)
	s.p.codec = true
	if len(s.misses) != 0 {
		s.p.env.Misses = s.misses
	}
	for _, f := range s.setup {
		f(s.p)
	}
	s.p.emit = s.step
	s.p.judged = func(r *customer.Record, v alerts.Verdict) {
		if s.verdicts {
			fmt.Fprintf(&s.out, "=> judged at %s: %s of %s was %s, lead %s\n", time.UnixMilli(s.p.env.Now).In(s.loc).Format("2006-01-02 15:04"), v.Detector, r.ID, v.Result, detectors.Duration(v.LeadMs*1e6))
		}
	}
	s.p.known = func(at int64) (k [event.NumFeeds]int64) {
		for i := range k {
			k[i] = at - s.behind[i]
			if s.until[i] != 0 {
				k[i] = min(k[i], s.until[i])
			}
		}
		return k
	}
}

// timed runs a command that happens at a time.
func (s *script) timed(at int64, f []string) error {
	s.start()
	switch f[0] {
	case "tick":
		s.p.tick(at)
		return nil
	case "publish":
		s.p.endQuiet(at)
		return nil
	case "cohort": // cohort owner=NAME opens | ends
		return s.cohort(at, f[1], f[2] == "opens")
	case "stall": // stall FEED DURATION
		feed, ok := event.ParseFeed(f[1])
		d, err := detectors.ParseDuration(f[2])
		if !ok || err != nil {
			return fmt.Errorf("stall FEED DURATION is wanted: %w", err)
		}
		s.p.env.Stalls = append(s.p.env.Stalls, detectors.Interval{Feed: feed, From: at, To: at + d.Ms()})
		return nil
	}
	if len(f) > 2 && f[1] == "unreadable" {
		feed, ok := event.ParseFeed(f[2])
		if !ok {
			return fmt.Errorf("no feed %q", f[2])
		}
		s.p.record(f[0]).MarkBlind(feed, at)
		return nil
	}
	e, err := s.event(at, f[0], f[1:])
	if err != nil {
		return err
	}
	s.p.src = event.Position{Topic: e.Feed.String(), Partition: 3, Offset: int64(s.n)}
	apply := s.p.apply
	if e.Feed == event.Control {
		apply = s.p.act
	}
	if out := apply(e); out != customer.Applied {
		s.out.WriteString("=> outcome: " + out.String() + "\n")
	}
	return nil
}

// cohort begins or ends an alert about a cohort: with the judgement of the day before.
func (s *script) cohort(at int64, name string, opens bool) error {
	by, value, _ := strings.Cut(name, "=")
	d, ok := cohorts.ParseDimension(by)
	if !ok && by != cohorts.Everybody.String() {
		return fmt.Errorf("no such dimension")
	}
	k, day := cohorts.Key{By: d, Value: value}, int32(at/detectors.Day.Ms()-1)
	next := cohorts.Standing{Day: day}
	if old := s.p.env.Cohorts; old != nil {
		next.Spans = slices.Clone(old.Spans)
	}
	if opens {
		next.Spans = append(next.Spans, cohorts.Span{Key: k, Opened: at, From: day})
	}
	for i := range next.Spans {
		if x := &next.Spans[i]; !opens && x.Key == k {
			x.Until = day
		}
	}
	s.p.env.Cohorts = &next
	return nil
}

// words of the scripts for the kinds of events.
var kinds = map[string]event.Kind{
	"use": event.KindUsage, "buy": event.KindPurchase, "refund": event.KindRefund, "charge": event.KindCharge,
	"charge_failed": event.KindChargeFailed, "invoice": event.KindInvoiceIssued, "invoice_overdue": event.KindInvoiceOverdue, "expiring": event.KindPaymentMethodExpiring,
	"deposit": event.KindDeposit, "withdrawal": event.KindWithdrawal, "transfer_in": event.KindTransferIn, "transfer_out": event.KindTransferOut, "balance": event.KindBalance,
	"cancel": event.KindSubscriptionCancelled, "subscribe": event.KindSubscriptionStarted, "profile": event.KindProfile,
	"opened": event.KindOpened, "responded": event.KindResponded, "resolved": event.KindResolved, "reopened": event.KindReopened,
	"paused": event.KindPaused, "resumed": event.KindResumed, "escalated": event.KindEscalated, "merged": event.KindMerged,
	"inquiry": event.KindInquiry, "replied": event.KindCustomerReplied, "promised": event.KindPromised, "assigned": event.KindAssigned,
	"reassigned": event.KindReassigned, "rated": event.KindRated, "contact_failed": event.KindContactFailed,
	"acknowledge": event.KindAcknowledge, "assign": event.KindAssign, "unassign": event.KindUnassign, "snooze": event.KindSnooze,
	"unsnooze": event.KindUnsnooze, "contacted": event.KindContacted, "outcome": event.KindOutcome, "reopen": event.KindReopen,
	"maintenance": event.KindMaintenance,
}

func (s *script) event(at int64, who string, f []string) (*event.Event, error) {
	s.n++
	kind, ok := kinds[f[0]]
	if !ok {
		return nil, fmt.Errorf("no such command: %s", f[0])
	}
	e := &event.Event{Feed: kind.Feed(), Kind: kind, Time: at, Customer: []byte(who), IDHash: s.n * 0x9e3779b97f4a7c15}
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	var err error
	switch e.Feed {
	case event.Usage:
		if arg(1) != "" {
			e.Quantity, _, err = event.ParseMoney(arg(1))
		}
		e.Outcome, _ = event.ParseOutcome(arg(2))
	case event.Payments:
		if arg(1) != "" {
			e.Amount, _, err = event.ParseMoney(arg(1))
		}
		e.Currency, _ = event.ParseCurrency(arg(2))
		for i := 3; i < len(f) && err == nil; i++ {
			err = s.paymentField(e, f[i])
		}
	case event.Complaints:
		e.ComplaintID, e.Priority = []byte(arg(1)), event.PriorityNormal
		for i := 2; i < len(f) && err == nil; i++ {
			err = s.complaintField(e, f[i])
		}
	case event.Control:
		for _, word := range f[1:] {
			if id, is := strings.CutPrefix(word, "id="); is {
				e.IDHash, err = strconv.ParseUint(id, 10, 64)
			}
		}
		if err == nil {
			e.Control, err = s.control(who, f[1:])
		}
	case event.Customers:
		e.Profile = &event.Profile{}
		for _, kv := range f[1:] {
			k, v, _ := strings.Cut(kv, "=")
			switch k {
			case "tier":
				e.Profile.Tier = v
			case "segment":
				e.Profile.Segment = v
			case "owner":
				e.Profile.Owner = v
			case "status":
				e.Profile.Status = v
			case "zone":
				e.Profile.TimeZone = v
			case "schedule":
				e.Profile.Schedule = v
			default:
				return nil, fmt.Errorf("no such field: %s", k)
			}
		}
	}
	return e, err
}

// control reads what a person does: "silence by=kim", "complaint_unresolved/T-9 until=2026-02-01", "outcome=lost".
func (s *script) control(who string, f []string) (*event.Act, error) {
	a := &event.Act{}
	for _, word := range f {
		k, v, is := strings.Cut(word, "=")
		ok, err := true, error(nil)
		switch {
		case !is:
			a.AlertID, ok = s.ids[who+" "+k]
		case k == "by":
			a.By = v
		case k == "note":
			a.Note = strings.ReplaceAll(v, "_", " ")
		case k == "assignee":
			a.Assignee = v
		case k == "id": // read before
		case k == "outcome":
			a.Result, ok = event.ParseResult(v)
		case k == "cause":
			a.Cause, ok = event.ParseCause(v)
		case k == "until":
			var at time.Time
			at, err = time.ParseInLocation(time.DateOnly, v, s.loc)
			a.Until = at.UnixMilli()
		default:
			ok = false
		}
		if !ok || err != nil {
			return nil, fmt.Errorf("%s: %w", word, err)
		}
	}
	return a, nil
}

// paymentField reads a field as NAME=VALUE, or recurring.
func (s *script) paymentField(e *event.Event, word string) error {
	k, v, _ := strings.Cut(word, "=")
	var err error
	date := func() int64 {
		at, fault := time.ParseInLocation(time.DateOnly, v, s.loc)
		err = fault
		return at.UnixMilli()
	}
	switch k {
	case "recurring":
		e.Recurring = true
	case "attempt":
		var n uint64
		n, err = strconv.ParseUint(v, 10, 16)
		e.Attempt = uint16(n)
	case "next":
		e.NextAttempt = date()
	case "due":
		e.Due = date()
	case "code":
		e.FailureCode = []byte(v)
	case "category":
		e.Category = []byte(v)
	case "product":
		e.Product = []byte(v)
	case "offer":
		e.Promotion = []byte(v)
	case "ends":
		e.PromotionEnds = date()
	case "balance":
		e.Balance, _, err = event.ParseMoney(v)
		e.Balanced = true
	case "by":
		e.Initiator, _ = event.ParseInitiator(v)
	default:
		err = fmt.Errorf("no such field: %s", word)
	}
	return err
}

// complaintField reads a priority, or a field as NAME=VALUE; due is a time without the space: 2026-01-05T10:00.
func (s *script) complaintField(e *event.Event, word string) error {
	k, v, _ := strings.Cut(word, "=")
	var err error
	switch k {
	case "group":
		e.Group = []byte(v)
	case "category":
		e.Category = []byte(v)
	case "level":
		var n uint64
		n, err = strconv.ParseUint(v, 10, 8)
		e.Level = uint8(n)
	case "score":
		e.Score, _, err = event.ParseMoney(v)
		e.Scored = true
	case "due":
		var at time.Time
		at, err = time.ParseInLocation("2006-01-02T15:04", v, s.loc)
		e.Due = at.UnixMilli()
	default:
		p, ok := event.ParsePriority(word)
		if e.Priority = p; !ok {
			err = fmt.Errorf("no such field: %s", word)
		}
	}
	return err
}

// step writes an alert step, as a subscriber reads it.
func (s *script) step(_ *customer.Record, st *alerts.Step, m, open alerts.Message) {
	s.schema.conforms(s.t, m.Value)
	s.schema.conforms(s.t, open.Value)
	a, err := alerts.Parse(m.Value)
	if err != nil {
		s.t.Fatalf("%v: %s", err, m.Value)
	}
	w := &s.out
	fmt.Fprintf(w, "=> %s %s", a.Step, a.Detector)
	if a.Subject != nil {
		fmt.Fprintf(w, " of %s", a.Subject.ID)
	}
	fmt.Fprintf(w, ", %s", a.CustomerID)
	if a.Reason != "" {
		fmt.Fprintf(w, ", %s", a.Reason)
	}
	const layout = "2006-01-02 15:04:05.999"
	fmt.Fprintf(w, ", %s, revision %d, at %s, since %s", a.Severity, a.Revision, a.Time.In(s.loc).Format(layout), a.Since.In(s.loc).Format(layout))
	if a.Step != "fired" {
		fmt.Fprintf(w, ", fired %s", a.FirstFiredAt.In(s.loc).Format(layout))
	}
	if a.SuspectedCause != "" && a.Step != "resolved" && (a.SuspectedCause == "payment_failure" || a.SuspectedCause == "price") {
		fmt.Fprintf(w, ", suspected cause %s", a.SuspectedCause)
	}
	if a.Customer != nil && a.Customer.Buys != "" {
		fmt.Fprintf(w, ", buys %s", a.Customer.Buys)
	}
	if a.MoneyAtRisk != nil {
		fmt.Fprintf(w, ", %s %s at risk", a.MoneyAtRisk.Amount, a.MoneyAtRisk.Currency)
	}
	if a.MoneyLostSoFar != nil {
		fmt.Fprintf(w, ", %s %s lost so far", a.MoneyLostSoFar.Amount, a.MoneyLostSoFar.Currency)
	}
	s.people(a)
	for _, g := range a.Together {
		fmt.Fprintf(w, ", with %s %s", g.Severity, g.Detector)
		if g.Subject != nil {
			fmt.Fprintf(w, " of %s", g.Subject.ID)
		}
	}
	fmt.Fprintf(w, "\n=>   %s\n", a.Summary)
	if s.evidence {
		fmt.Fprintf(w, "=>   %s\n", a.Evidence)
	}
	if s.envelope {
		fmt.Fprintf(w, "=>   key %s\n", m.Key)
		for _, h := range m.Headers {
			fmt.Fprintf(w, "=>   %s: %s\n", h.Key, h.Value)
		}
		fmt.Fprintf(w, "=>   %s\n", m.Value)
	}
	s.follow(a, open)
}

// people tells who did what about an alert.
func (s *script) people(a *alerts.Alert) {
	for _, f := range []struct{ name, text string }{
		{"outcome", a.Outcome},
		{"cause", a.Cause},
		{"by", a.By},
		{"acknowledged by", a.AcknowledgedBy},
		{"assignee", a.Assignee},
		{"contacted by", a.ContactedBy},
		{"note", a.Note},
	} {
		if f.text != "" {
			fmt.Fprintf(&s.out, ", %s %s", f.name, f.text)
		}
	}
	for _, f := range []struct {
		name string
		at   time.Time
	}{{"acknowledged", a.AcknowledgedAt}, {"contacted", a.ContactedAt}, {"snoozed until", a.SnoozedUntil}} {
		if !f.at.IsZero() {
			fmt.Fprintf(&s.out, ", %s %s", f.name, f.at.In(s.loc).Format("2006-01-02 15:04"))
		}
	}
}

// follow keeps the table of open alerts as a subscriber would, and checks the life of each alert.
func (s *script) follow(a *alerts.Alert, open alerts.Message) {
	key := a.CustomerID + " " + a.Detector
	if a.Subject != nil {
		key += "/" + a.Subject.ID
	}
	s.ids[key] = a.AlertID
	if string(open.Key) != a.AlertID {
		s.t.Errorf("the table's key is %s, the alert's id %s", open.Key, a.AlertID)
	}
	before, is := s.open[a.AlertID]
	if is == (a.Step == "fired") || a.Step == "fired" && a.Revision != 1 {
		s.t.Errorf("%s of revision %d follows %q", a.Step, a.Revision, before)
	}
	if (a.Step == "resolved") != (open.Value == nil) || a.Firing() != (open.Value != nil) {
		s.t.Errorf("%s is %q in the table", a.Step, open.Value)
	}
	if open.Value == nil {
		delete(s.open, a.AlertID)
		return
	}
	s.open[a.AlertID] = string(open.Value)
}

// checkOpen compares the table of open alerts with the lifecycles of the records.
func (s *script) checkOpen() {
	var want, got []string
	for _, r := range s.p.customers {
		for i := range r.Lifecycles {
			if l := &r.Lifecycles[i]; !l.Unpublished {
				want = append(want, fmt.Sprintf("%x/%d", l.AlertID, l.Revision))
			}
		}
	}
	for id, v := range s.open {
		var a alerts.Alert
		if err := json.Unmarshal([]byte(v), &a); err != nil {
			s.t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s/%d", id, a.Revision))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		s.t.Errorf("the table of open alerts has %v, the records %v", got, want)
	}
}
