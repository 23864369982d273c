package backtest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/event"
)

// plainOnly are the rules of silence by fixed limits, and cohorts by account owner.
func plainOnly(t *testing.T) *Rules {
	t.Helper()
	cfg := detectors.Defaults()
	cfg.Horizon = testHorizon * detectors.Day
	cfg.Silence.Method, cfg.SpendDrop.Enabled = detectors.Plain, false
	set, err := detectors.NewSet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	feeds := []stream.FeedConfig{{Feed: event.Payments, Topic: "payments"}, {Feed: event.Customers, Topic: "customers"}}
	return &Rules{
		Detectors: set, Feeds: feeds, Customer: customer.DefaultParams(nil), Rates: detectors.MustRates("EUR", nil), Zone: time.UTC, MaxOutOfOrder: 60_000,
		Policy:  alerts.New(alerts.Config{Group: "g", Detectors: set, Horizon: cfg.Horizon, ForgetAfter: 800 * detectors.Day, Currency: event.Currency{'E', 'U', 'R'}}),
		Cohorts: &cohorts.Config{FalseAlarms: 0.5, LeastMembers: 5, By: []cohorts.Dimension{cohorts.Region, cohorts.Owner}, Totals: true, Intakes: true},
	}
}

// story is a history as it is made up, in JSON lines.
type story struct {
	Begin time.Time
	Lines []string
}

// Add tells what happens to a customer so many days after the begin. more are the fields of its kind.
func (s *story) Add(topic, customer string, day float64, more string) {
	at := s.Begin.Add(time.Duration(day * 24 * float64(time.Hour))).Format(time.RFC3339)
	s.Lines = append(s.Lines, fmt.Sprintf(`{"topic":"%s","id":"%s-%d","customer_id":"%s","time":"%s",%s}`, topic, topic, len(s.Lines), customer, at, more))
}

// anOwnerLeaves is a history of six account owners with twenty customers each, who buy every four days or so. Now and then somebody leaves; from day 200 on most of kim's customers do, who
// may get another owner on day 240. Every week ten new customers come from ads, of whom those of the last months do not stay. All spend a quarter from day 270 on.
func anOwnerLeaves(begin time.Time, reassigned bool) []string {
	const days = 300.0
	rng := rand.New(rand.NewPCG(3, 4))
	rows := story{Begin: begin}
	buys := func(id string, from, until float64) {
		for day := from; day < until; day += 2 + 4*rng.Float64() {
			amount := 20 + rng.IntN(20)
			if day >= 270 {
				amount /= 4
			}
			rows.Add("payments", id, day, fmt.Sprintf(`"type":"purchase","currency":"EUR","amount":%d`, amount))
		}
	}
	for o, owner := range []string{"kim", "lee", "max", "noa", "pat", "sam"} {
		for i := range 20 {
			id, until := fmt.Sprintf("%s-%02d", owner, i), days
			rows.Add("customers", id, 0, fmt.Sprintf(`"owner":"%s"`, owner))
			switch {
			case i < 4:
				until = float64(30 + 70*i + 11*o)
			case owner == "kim" && i < 18:
				until = 200 + float64(i)/2
				if reassigned {
					rows.Add("customers", id, 240, `"owner":"lee"`)
				}
			}
			buys(id, 3*rng.Float64(), until)
		}
	}
	for week := range 36 {
		for i := range 10 {
			id, day, until := fmt.Sprintf("new-%02d-%d", week, i), float64(7*week)+rng.Float64(), days
			if rng.IntN(10) < 2 || week >= 30 {
				until = day + 10
			}
			rows.Add("customers", id, day, `"source":"ads"`)
			buys(id, day, until)
		}
	}
	return rows.Lines
}

// replayed is a history in JSON lines, replayed on so many cores, which wait for each other at the ends of some days.
func replayed(t *testing.T, rules *Rules, rows []string, cores int, days ...int32) (*History, *Outcome) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
	h, err := Read(context.Background(), &InputOptions{
		Files: []string{"-"}, Stdin: strings.NewReader(strings.Join(rows, "\n")), Feeds: rules.Feeds, Rates: rules.Rates, StopAtBadRow: true, MaxBytes: 1 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := Run(context.Background(), h, rules, &Task{Horizon: testHorizon, Learn: true, ScoreAt: days})
	if err != nil {
		t.Fatal(err)
	}
	return h, out
}

// What happens to the customers of an owner, to new customers and to all together is told once each, and held against those who left; the same however many cores there are.
func TestAlertsAboutManyCustomers(t *testing.T) {
	rules, rows := plainOnly(t), anOwnerLeaves(time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC), true)
	h, out := replayed(t, rules, rows, 1)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	if _, again := replayed(t, rules, rows, 4, 19_790, 19_791, 19_900, 19_940); !reflect.DeepEqual(again.Wide, out.Wide) || !reflect.DeepEqual(again.Alerts, out.Alerts) {
		t.Errorf("another order of rows and more cores tell %+v, want %+v", again.Wide, out.Wide)
	}
	s := newScorer(h, testHorizon, 0)
	r := s.cohortsReport(rules.Cohorts, out, rules.Detectors.Leaving)
	if want := map[string]int{"owner": 6, "region": 0}; !maps.Equal(r.Values, want) {
		t.Errorf("values %v, want %v", r.Values, want)
	}
	if want := map[string]int{"cohort_drop": 2, "poor_intake": 1, "total_spend": 1, "total_outflow": 0}; !maps.Equal(r.Detectors, want) {
		t.Errorf("alerts %v, want %v", r.Detectors, want)
	}
	kim := r.Alerts[0]
	if kim.Subject != "owner=kim" || kim.Severity != "critical" || kim.Fired != "2024-08-05T00:00:00Z" || kim.Resolved == "" || !strings.Contains(kim.Summary, "of the account owner kim") {
		t.Errorf("%+v", kim)
	}
	// Fourteen left together. One more of kim's had left before, within the horizon.
	if want := (Members{Alerts: 14, Right: 14, Departures: 15}); *kim.Members != want {
		t.Errorf("members %+v, want %+v", *kim.Members, want)
	}
	if r.Departures != 107 || r.Within != 54 || r.AlertsWithin != 25 || r.LeadDays == nil || *r.LeadDays != 16 {
		t.Errorf("%d of %d departures, %d alerts, lead %v", r.Within, r.Departures, r.AlertsWithin, r.LeadDays)
	}
	if got := r.Alerts[len(r.Alerts)-1]; got.Members != nil || got.Resolved != "" || got.Subject != "source=ads" {
		t.Errorf("%+v", got)
	}
}

// While an alert about an owner's customers is open, what tells of one of them that he leaves is held back: it counts from when it is told, or not at all. That is the same however many cores there are,
// and wherever they wait for each other.
func TestHeldBackIsReplayed(t *testing.T) {
	rules, rows := plainOnly(t), anOwnerLeaves(time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC), false)
	_, free := replayed(t, rules, rows, 1)
	rules.Cohorts.HoldBack = true
	h, out := replayed(t, rules, rows, 1)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	if _, again := replayed(t, rules, rows, 4, 19_790, 19_791, 19_900, 19_940); !reflect.DeepEqual(again.Alerts, out.Alerts) {
		t.Error("another order of rows and more cores tell something else")
	}
	for i := range out.Wide { // it says that others are held back
		if w := &out.Wide[i]; i < len(free.Wide) {
			w.Summary, _, _ = strings.Cut(w.Summary, " Who of them begins to leave while this is open is not alerted by himself; whether he did leave is checked after 30 days.")
		}
	}
	if !reflect.DeepEqual(out.Wide, free.Wide) || len(out.Alerts) != len(free.Alerts) {
		t.Fatalf("%d and %d alerts: what is held back changes what there is to be told", len(out.Alerts), len(free.Alerts))
	}
	ended := func(a *Alert) int64 { // the alert that a was held back for
		for i := range out.Wide {
			if w := &out.Wide[i]; w.Detector == alerts.CohortDropName && w.Key == *a.HeldFor && w.open(a.At, a.At) {
				return w.ResolvedAt
			}
		}
		t.Fatalf("%+v is held back for nothing", a)
		return 0
	}
	held, later := 0, 0
	for i := range out.Alerts {
		a, b := &out.Alerts[i], &free.Alerts[i]
		switch {
		case a.ID != b.ID || b.Told != b.At || b.HeldFor != nil:
			t.Errorf("without holding back %+v", b)
		case a.HeldFor == nil && (a.Told != a.At || a.Alone != a.At):
			t.Errorf("%+v is told late", a)
		case a.HeldFor == nil:
			continue
		case a.Told != 0 && (a.Told < ended(a) || a.Told > ended(a)+2*3_600_000):
			t.Errorf("%+v is not told when the alert about the cohort ends", a)
		case a.Told != 0:
			later++
		}
		held++
	}
	s := newScorer(h, testHorizon, 0)
	r, d := s.cohortsReport(rules.Cohorts, out, rules.Detectors.Leaving), s.detector(detectors.SilenceName, pointers(out.Alerts))
	if held < 20 || later < 20 || r.HeldBack != held || r.ToldLater != later || d.HeldBack.Alerts != held || d.HeldBack.ToldLater != later {
		t.Errorf("%d held back, %d told later; the report says %d, %d, and of silence %+v", held, later, r.HeldBack, r.ToldLater, d.HeldBack)
	}
	if *r.Right != d.HeldBack.Right || *r.Wrong != 0 || *r.Precision != 1 {
		t.Errorf("cohort_drop stood for %d who left and %d who did not, of %+v", *r.Right, *r.Wrong, d.HeldBack)
	}
	if before := s.detector(detectors.SilenceName, pointers(free.Alerts)); *before.Found <= *d.Found || before.Alerts != d.Alerts+held-later || *before.LeadDays < *d.LeadDays {
		t.Errorf("with holding back %d departures are found by %d alerts, %v days before; without it %d by %d, %v days", *d.Found, d.Alerts, *d.LeadDays, *before.Found, before.Alerts, *before.LeadDays)
	}
}

func pointers(list []Alert) (all []*Alert) {
	for i := range list {
		all = append(all, &list[i])
	}
	return all
}

// Alerts about many customers stand in the order of time among the others, and name what they are about instead of a customer.
func TestAlertsAboutManyCustomersAreRows(t *testing.T) {
	at := func(day int64) int64 { return day * dayMs }
	d := &Detail{
		JudgedFrom: at(15),
		Alerts: []Judged{{Alert: &Alert{Customer: "a", Detector: "complaint_unresolved", Subject: "T-1,2", At: at(10), Since: at(9), Told: at(11), Within: "silence"}}, {Alert: &Alert{
			Customer: "b", Detector: "silence", At: at(20), Since: at(5), Told: at(31), Alone: at(31), ToldAs: alerts.Critical, Changes: 1, HeldFor: &cohorts.Key{By: cohorts.Owner, Value: "kim"},
		}}},
		Wide: []Wide{
			{Detector: "cohort_drop", Subject: "owner=kim", Severity: "critical", At: at(12), Since: at(8), ResolvedAt: at(30), AtRisk: 12 * event.MoneyUnit, Changes: 2},
			{Detector: "total_spend", Subject: "everybody", Severity: "warning", At: at(25), Since: at(18)},
		},
	}
	var b bytes.Buffer
	if err := WriteAlerts(&b, d, "EUR"); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	for i, want := range []string{
		"customer_id,detector,severity,fired,resolved,probability,at_risk,currency,verdict,lead_days,since,learning,subject,told,within,changes,reason",
		`a,complaint_unresolved,none,1970-01-11T00:00:00Z,,,,EUR,,,1970-01-10T00:00:00Z,false,"T-1,2",1970-01-12T00:00:00Z,silence,0,`,
		",cohort_drop,critical,1970-01-13T00:00:00Z,1970-01-31T00:00:00Z,,12.00,EUR,,,1970-01-09T00:00:00Z,true,owner=kim,1970-01-13T00:00:00Z,,2,",
		"b,silence,critical,1970-01-21T00:00:00Z,,,,EUR,,,1970-01-06T00:00:00Z,false,,1970-02-01T00:00:00Z,cohort_drop owner=kim,1,",
		",total_spend,warning,1970-01-26T00:00:00Z,,,,EUR,,,1970-01-19T00:00:00Z,false,everybody,1970-01-26T00:00:00Z,,0,",
		"",
	} {
		if lines[i] != want {
			t.Errorf("line %d is %s\nwant %s", i, lines[i], want)
		}
	}
}

// A customer belongs where the profile of the time puts him, and before the first one where that does.
func TestPlaces(t *testing.T) {
	truth := newTruth(detectors.MustRates("EUR", nil))
	for _, x := range []struct {
		at    int64
		owner string
	}{{30, "lee"}, {10, "kim"}, {20, "kim"}, {40, "kim"}} {
		truth.observe(&event.Event{Feed: event.Customers, Customer: []byte("a"), Time: x.at, Profile: &event.Profile{Owner: x.owner}})
	}
	p := truth.people["a"]
	p.closePlaces()
	for at, want := range map[int64]string{0: "kim", 10: "kim", 29: "kim", 30: "lee", 39: "lee", 40: "kim", 99: "kim"} {
		if got := p.placeAt(at)[cohorts.Owner]; got != want {
			t.Errorf("at %d: %q, want %q", at, got, want)
		}
	}
	if len(p.places) != 3 || truth.values(cohorts.Owner) != 2 || truth.values(cohorts.Region) != 0 {
		t.Errorf("%d places, %d owners", len(p.places), truth.values(cohorts.Owner))
	}
}

// The report says which cohorts there were to be watched.
func TestWatchedCohorts(t *testing.T) {
	for want, c := range map[string]CohortReport{
		"No cohort of customers could be watched but all of them together; no record names the region or owner of a customer. Nothing was to be told.": {
			Values: map[string]int{"region": 0, "owner": 0},
		},
		"The customers of 1 segment, 3 products and 12 owners were watched, and all of them together; no record names the region of a customer.": {
			Values: map[string]int{"owner": 12, "segment": 1, "product": 3, "region": 0}, Detectors: map[string]int{"cohort_drop": 1},
		},
		"No cohort of customers could be watched but all of them together.": {Detectors: map[string]int{"total_spend": 1}},
	} {
		if got := (&Report{Cohorts: &c}).WatchedCohorts(); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// What customers and their records are called cannot steer the terminal on which a report is read, nor move the columns of its table.
func TestNamesInTheTextCannotSteerATerminal(t *testing.T) {
	r := Report{
		Methods: []MethodReport{{Name: "as configured", Detectors: []DetectorReport{{
			Detector: detectors.SilenceName, Score: Score{Alerts: 1}, Tiers: []TierReport{{Tier: "go\x1b[2Jld\tx\ny"}},
		}}}},
		Cohorts: &CohortReport{Alerts: []WideAlert{{Detector: alerts.CohortDropName, Fired: "2026-01-05T00:00:00Z", Summary: "Of owner=\x1b]0;kim\a 9 left.\n"}}},
	}
	var b bytes.Buffer
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\a") || strings.Count(b.String(), "\ufffd") != 6 {
		t.Errorf("%q", b.String())
	}
}
