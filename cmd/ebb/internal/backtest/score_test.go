package backtest

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/stream/event"
)

const testHorizon = 30

// told is a history of purchases: customer, days, amount.
type told struct {
	customer string
	days     []int32
	amount   int64
}

func historyOf(t *testing.T, until int32, list ...told) *History {
	t.Helper()
	h := &History{Types: map[string]int{}, Truth: newTruth(detectors.MustRates("EUR", nil)), From: math.MaxInt64, To: int64(until)*dayMs + 1}
	for _, c := range list {
		for _, day := range c.days {
			at := int64(day)*dayMs + 1
			h.From = min(h.From, at)
			h.Events++
			h.ByFeed[event.Payments]++
			h.Types["payments/purchase"]++
			h.Truth.observe(&event.Event{Feed: event.Payments, Kind: event.KindPurchase, Customer: []byte(c.customer), Time: at, Amount: event.Money(c.amount) * event.MoneyUnit})
		}
	}
	h.Truth.close(h)
	return h
}

func every(from, to, step int32) (days []int32) {
	for d := from; d <= to; d += step {
		days = append(days, d)
	}
	return days
}

func fires(customer, detector string, day int32) *Alert {
	at := int64(day)*dayMs + 2
	return &Alert{Customer: customer, Detector: detector, At: at, Told: at, Alone: at, Since: int64(day-5) * dayMs, Severity: alerts.Warning, Highest: alerts.Warning}
}

func TestDepartures(t *testing.T) {
	h := historyOf(
		t, 300,
		told{"stays", every(0, 300, 10), 10},
		told{"leaves on day 100", every(0, 100, 10), 10},
		told{"pauses for 31 days, comes back", append(every(0, 100, 10), every(131, 300, 10)...), 10},
		told{"pauses for 30 days", append(every(0, 100, 10), every(130, 300, 10)...), 10},
		told{"has two days only", []int32{0, 10}, 10},
		told{"was there last 29 days before the end", every(0, 271, 1), 10},
		told{"was there last 30 days before the end", every(0, 270, 1), 10},
	)
	s := newScorer(h, testHorizon, 0)
	got := map[string]int32{}
	for _, l := range s.lapses {
		got[l.p.id] = l.last.day
	}
	want := map[string]int32{"leaves on day 100": 100, "pauses for 31 days, comes back": 100, "was there last 30 days before the end": 270}
	if len(got) != len(want) || len(s.lapses) != len(want) {
		t.Errorf("departures %v, want %v", got, want)
	}
	for who, day := range want {
		if got[who] != day {
			t.Errorf("%s: departure on day %d, want %d", who, got[who], day)
		}
	}
}

func TestSilenceAlertsAreJudged(t *testing.T) {
	h := historyOf(
		t, 300,
		told{"gone", every(0, 100, 10), 30},
		told{"back", append(every(0, 100, 10), 140, 150, 300), 10},
		told{"new", []int32{0, 200}, 10},
	)
	s := newScorer(h, testHorizon, 0)
	s.from = 0
	for name, c := range map[string]struct {
		alert                               *Alert
		right, wrong, undecided, few, found int
	}{
		"nothing came":                        {fires("gone", "silence", 120), 1, 0, 0, 0, 1},
		"on the last day that counts":         {fires("gone", "silence", 129), 1, 0, 0, 0, 1},
		"too late for the departure":          {fires("gone", "silence", 131), 1, 0, 0, 0, 0},
		"before the last activity":            {fires("gone", "silence", 95), 0, 1, 0, 0, 0},
		"came back within the horizon":        {fires("back", "silence", 115), 0, 1, 0, 0, 1},
		"came back after it":                  {fires("back", "silence", 109), 1, 0, 0, 0, 1},
		"the horizon ends behind the history": {fires("gone", "silence", 271), 0, 0, 1, 0, 0},
		"of whom too little is known":         {fires("new", "silence", 220), 0, 0, 0, 1, 0},
	} {
		r := s.detector("silence", []*Alert{c.alert})
		if *r.Right != c.right || *r.Wrong != c.wrong || *r.Undecided != c.undecided || r.FewDays != c.few || *r.Found != c.found {
			t.Errorf("%s: right %d, wrong %d, undecided %d, few days %d, found %d; want %+v", name, *r.Right, *r.Wrong, *r.Undecided, r.FewDays, *r.Found, c)
		}
	}
	r := s.detector("silence", []*Alert{fires("gone", "silence", 120)})
	if *r.Lapses != 3 || *r.Recall != 0.3333 || *r.LeadDays != 10 {
		t.Errorf("%d departures, recall %v, lead %v; want 3, a third, 10 days", *r.Lapses, *r.Recall, *r.LeadDays)
	}
	// Three purchases of 30 in the horizon up to day 100, and of the other twice 10 in (70, 100] and (120, 150].
	if r.MoneyFound != "90.00" || r.MoneyLost != "140.00" {
		t.Errorf("found %s of %s", r.MoneyFound, r.MoneyLost)
	}
}

// What is told within another alert counts as if it had been told by itself, but for the number of alerts; what is told late counts from then on, and what is not told, or when its horizon is over,
// not at all.
func TestAlertsCountFromWhenTheyAreTold(t *testing.T) {
	s := newScorer(historyOf(t, 300, told{"gone", every(0, 100, 10), 30}), testHorizon, 0)
	s.from = 0
	by := func(toldOn int32, alone bool) *Alert {
		a := fires("gone", "silence", 110)
		a.Told, a.Alone = int64(toldOn)*dayMs, 0
		if alone {
			a.Alone = a.Told
		} else if toldOn != 0 {
			a.Within = detectors.ComplaintUnresolvedName
			return a
		}
		a.HeldFor = &cohorts.Key{By: cohorts.Owner, Value: "kim"}
		return a
	}
	for name, c := range map[string]struct {
		alert                          *Alert
		alerts, together, right, found int
		lead                           float64
		held                           *HeldBack
	}{
		"at once":                          {fires("gone", "silence", 110), 1, 0, 1, 1, 20, nil},
		"within another":                   {by(115, false), 0, 1, 1, 1, 15, nil},
		"late":                             {by(125, true), 1, 0, 1, 1, 5, &HeldBack{Alerts: 1, ToldLater: 1, Right: 1}},
		"after the horizon of the silence": {by(135, true), 1, 0, 1, 0, 0, &HeldBack{Alerts: 1, ToldLater: 1, Right: 1}},
		"after the horizon of the alert":   {by(141, true), 1, 0, 0, 0, 0, &HeldBack{Alerts: 1, ToldLater: 1, Right: 1}},
		"not":                              {by(0, false), 0, 0, 0, 0, 0, &HeldBack{Alerts: 1, Right: 1}},
	} {
		r := s.detector("silence", []*Alert{c.alert})
		lead := 0.0
		if r.LeadDays != nil {
			lead = *r.LeadDays
		}
		if r.Alerts != c.alerts || r.Together != c.together || *r.Right != c.right || *r.Found != c.found || lead != c.lead || !reflect.DeepEqual(r.HeldBack, c.held) {
			t.Errorf("%s: %+v, lead %v, held back %+v; want %+v", name, r.Score, lead, r.HeldBack, c)
		}
		if word := s.word(c.alert); (word == "held_back") != (c.right == 0) {
			t.Errorf("%s: %s", name, word)
		}
	}
}

// Of who is told apart because ebb is learning, nothing counts in the verdicts.
func TestTheTimeOfLearningIsToldApart(t *testing.T) {
	h := historyOf(t, 400, told{"early", every(0, 100, 10), 10}, told{"late", every(0, 200, 10), 10})
	s := newScorer(h, testHorizon, 0)
	if got := dayOf(s.from); got != 120 {
		t.Fatalf("judged from day %d, want 120", got)
	}
	r := s.detector("silence", []*Alert{fires("early", "silence", 115), fires("late", "silence", 150), fires("late", "silence", 215)})
	if got, want := r.notJudged(), "not judged: 1 raised while ebb was learning (alerts, a week and per 1,000 count them)"; got != want {
		t.Errorf("said is %q, want %q", got, want)
	}
	if *r.Right != 1 || *r.Wrong != 1 || *r.Lapses != 1 || *r.Found != 1 || r.Alerts != 3 || *r.Learning != (Learning{Alerts: 1, Right: 1, Lapses: 1, Found: 1}) {
		t.Errorf("%+v, learning %+v", r.Score, r.Learning)
	}
	if got := dayOf(newScorer(historyOf(t, 100, told{"a", []int32{0, 100}, 1}), testHorizon, 0).from); got != 30 {
		t.Errorf("a short history is judged from day %d, want 30", got)
	}
}

// The line under the table and its columns add up to the alerts: one that ebb raised while it was learning, of a customer with few days, counts once.
func TestWhatIsNotJudgedAddsUp(t *testing.T) {
	h := historyOf(t, 400, told{"few", []int32{0}, 10}, told{"fewer", []int32{170}, 10}, told{"late", every(0, 200, 10), 10})
	r := newScorer(h, testHorizon, 0).detector("silence", []*Alert{
		fires("few", "silence", 60), fires("late", "silence", 100), fires("late", "silence", 150), fires("fewer", "silence", 180), fires("late", "silence", 215), fires("late", "silence", 390),
	})
	if got, want := r.notJudged(), "not judged: 2 raised while ebb was learning and 1 of customers with less than three active days (alerts, a week and per 1,000 count them)"; got != want {
		t.Errorf("said is %q, want %q", got, want)
	}
	if *r.Right != 1 || *r.Wrong != 1 || *r.Undecided != 1 || r.Alerts != 6 || r.FewDays != 2 || r.Learning.FewDays != 1 {
		t.Errorf("%+v, learning %+v", r.Score, r.Learning)
	}
	r.Detector = "friction"
	if got := r.notJudged(); got != "" {
		t.Errorf("of a detector that does not predict: %q", got)
	}
}

// An alert that foretells a longer time than the configured horizon is held against that.
func TestAnAlertIsJudgedByItsOwnHorizon(t *testing.T) {
	s := newScorer(historyOf(t, 400, told{"a", append(every(0, 150, 10), 220, 400), 10}), testHorizon, 0)
	a := fires("a", "silence", 180)
	if v, _ := s.silence(a, s.t.people["a"]); v != right {
		t.Errorf("by the configured horizon: %d, want right", v)
	}
	a.Horizon = 50
	if v, _ := s.silence(a, s.t.people["a"]); v != wrong {
		t.Errorf("by its own horizon: %d, want wrong", v)
	}
}

func TestACancelledSubscriptionIsADepartureThatWasStated(t *testing.T) {
	h := historyOf(t, 300, told{"a", every(0, 100, 10), 10})
	h.Truth.people["a"].cancelled = []int64{110 * dayMs}
	s := newScorer(h, testHorizon, 0)
	s.from = 0
	if r := s.lapseReport(); r.Lapses != 1 || r.Stated != 1 {
		t.Errorf("%+v", r)
	}
	if r := s.detector("silence", nil); *r.Lapses != 0 || r.Recall != nil {
		t.Errorf("%d departures to be found, want none", *r.Lapses)
	}
}

func TestSpendDropsAreJudged(t *testing.T) {
	var fell []told
	fell = append(fell, told{"fell", every(0, 100, 5), 10}, told{"fell", every(110, 300, 20), 2}, told{"kept", every(0, 300, 5), 10}, told{"young", every(90, 300, 5), 10})
	s := newScorer(historyOf(t, 300, fell...), testHorizon, 0)
	for name, c := range map[string]struct {
		alert *Alert
		want  verdict
	}{
		"stayed below half":                   {fires("fell", "spend_drop", 120), right},
		"went on as before":                   {fires("kept", "spend_drop", 120), wrong},
		"nothing to compare with":             {fires("young", "spend_drop", 100), undecided},
		"the horizon ends behind the history": {fires("fell", "spend_drop", 280), undecided},
	} {
		if got := s.drop(c.alert, s.t.people[c.alert.Customer]); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestTiers(t *testing.T) {
	h := historyOf(t, 300, told{"small", every(0, 300, 10), 1}, told{"middle", every(0, 300, 10), 10}, told{"large", every(0, 300, 10), 100})
	g := newTiering(h.Truth, testHorizon, 0)
	for i, name := range []string{"small", "middle", "large"} {
		if got := g.of(h.Truth.people[name], 200); got != i || g.names[i] != name {
			t.Errorf("%s is tier %d", name, got)
		}
	}
	// Forty looks from day 21 to day 294, a week each, at each of them.
	if want := 3 * 40 * 7 / daysPerMonth; math.Abs(g.activeMonths()-want) > 1e-9 || g.source != "thirds by spend" {
		t.Errorf("%v active months by %s, want about %v", g.activeMonths(), g.source, want)
	}
	for _, p := range h.Truth.list {
		p.tier = map[string]string{"small": "silver", "large": "gold"}[p.id]
	}
	g = newTiering(h.Truth, testHorizon, 0)
	if g.source != "profile" || len(g.names) != 3 || g.names[0] != "silver" || g.names[1] != "none" || g.names[2] != "gold" {
		t.Errorf("tiers %v by %s", g.names, g.source)
	}
}

func TestProbabilitiesAreJudged(t *testing.T) {
	list := []judged{{0.1, false}, {0.2, false}, {0.2, true}, {0.5, false}, {0.9, true}}
	// From above: one of one, one of two (the step of 0.5 finds none), two of four at the step of 0.2.
	if got, want := *averagePrecision(list, 2), round(0.5*1+0.5*2.0/4, 4); got != want {
		t.Errorf("average precision %v, want %v", got, want)
	}
	score, skill := brier(list, 0.4)
	if want := (.01 + .04 + .64 + .25 + .01) / 5; math.Abs(score-want) > 1e-9 || math.Abs(*skill-(1-want/.24)) > 1e-4 {
		t.Errorf("Brier %v, skill %v", score, *skill)
	}
	var twenty []judged
	for i := range 20 {
		twenty = append(twenty, judged{float64(i/2) / 10, i%2 == 0})
	}
	bins, ece := calibrate(twenty)
	if len(bins) != 10 || bins[3] != (Bin{2, 0.3, 0.5}) || ece != 0.25 {
		t.Errorf("bins %v, error %v", bins, ece)
	}
	if averagePrecision(list[:1], 0) != nil {
		t.Error("an average precision without anybody who stopped")
	}
}

func TestScoresAreCSV(t *testing.T) {
	var b bytes.Buffer
	if err := WriteScores(&b, []Row{{Customer: `a,"b"`, Day: 19723, PStop: 0.25, Expected: 80}}); err != nil {
		t.Fatal(err)
	}
	if want := "customer_id,at,p_stop,expected_value,value_at_risk\n\"a,\"\"b\"\"\",2024-01-01,0.250000,80.00,20.00\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestAShortHorizonIsPointedOut(t *testing.T) {
	r := &Report{HorizonDays: 60, Model: &ModelReport{MedianGap: 21, FittingDays: 63}}
	if got, want := r.HorizonHint(), "for 21 days or more as a rule: a horizon of three times that, 63 days, suits them better than one of 60"; !strings.Contains(got, want) {
		t.Errorf("%q, want %q in it", got, want)
	}
	r.Model = &ModelReport{MedianGap: 150, FittingDays: 366}
	if got, want := r.HorizonHint(), "for 150 days or more as a rule: the longest horizon that can be configured, 366 days,"; !strings.Contains(got, want) {
		t.Errorf("%q, want %q in it", got, want)
	}
	for _, m := range []*ModelReport{nil, {MedianGap: 20}} {
		r.Model = m
		if got := r.HorizonHint(); got != "" {
			t.Errorf("%q of %+v", got, m)
		}
	}
}
