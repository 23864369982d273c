package console

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"ebb/stream/event"
)

var noon = time.Date(2026, 1, 12, 12, 0, 0, 0, time.UTC)

func step(id int, revision uint32, risk int64) *Step {
	return &Step{
		AlertID: fmt.Sprintf("a%06d", id), Revision: revision, Kind: "fired", Detector: "silence", Customer: fmt.Sprintf("c-%d", id/2),
		Severity: Severity(id % 3), Time: noon, FirstFired: noon.Add(-time.Duration(id) * time.Hour), AtRisk: event.Money(risk), HasRisk: risk >= 0, Currency: "EUR",
	}
}

func resolved(id int, revision uint32, reason string) *Step {
	s := step(id, revision, 0)
	s.Kind, s.Resolved, s.Reason = "resolved", true, reason
	return s
}

// The queue equals what sorting all open alerts anew would give, whatever steps come in whatever order, repeated or not.
func TestTheQueueIsThatOfANaiveSort(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	b := NewBook()
	naive := map[string]*Step{}
	done := map[string]uint32{}
	for i := range 20_000 {
		id, rev := rng.IntN(400), uint32(1+rng.IntN(6))
		s := step(id, rev, int64(rng.IntN(50))-1)
		if rng.IntN(4) == 0 {
			s = resolved(id, rev, "recovered")
		}
		b.Apply(s)
		old := naive[s.AlertID]
		switch {
		case old != nil && old.Revision >= rev, old == nil && done[s.AlertID] >= rev:
		case s.Resolved:
			delete(naive, s.AlertID)
			done[s.AlertID] = rev
		default:
			naive[s.AlertID] = s
		}
		if i%97 != 0 {
			continue
		}
		var want []*Alert
		for _, s := range naive {
			want = append(want, &Alert{Step: s})
		}
		slices.SortFunc(want, byRisk)
		v := b.View(Filter{}, noon, 0, 1000)
		if v.Total != len(want) || len(v.Rows) != len(want) {
			t.Fatalf("after %d steps: %d open, %d rows; want %d", i, v.Total, len(v.Rows), len(want))
		}
		for j, a := range v.Rows {
			if a.Step != want[j].Step {
				t.Fatalf("after %d steps: place %d is %s revision %d, want %s revision %d", i, j, a.AlertID, a.Revision, want[j].AlertID, want[j].Revision)
			}
		}
		slices.SortFunc(want, byNewest)
		for j, a := range b.View(Filter{Order: Newest}, noon, 0, 1000).Rows {
			if a.Step != want[j].Step {
				t.Fatalf("after %d steps: place %d of the newest is %s revision %d, want %s revision %d", i, j, a.AlertID, a.Revision, want[j].AlertID, want[j].Revision)
			}
		}
	}
}

// Under a page that nobody looks at, alerts come and go for years: what is over must not stay.
func TestABookThatNobodyReadsDoesNotGrow(t *testing.T) {
	b := NewBook()
	for i := range 3 * mergeAfter {
		b.Apply(step(i, 1, 5))
		b.Apply(resolved(i, 2, "recovered"))
	}
	if n := len(b.added); n > mergeAfter {
		t.Errorf("%d changes wait for a reader, at most %d may", n, mergeAfter)
	}
	for i := range 3 * mergeAfter {
		b.Apply(step(1, uint32(3+i), 5))
	}
	if n := len(b.added); n > mergeAfter+1 {
		t.Errorf("%d changes of one alert wait for a reader", n)
	}
	if v := b.View(Filter{}, noon, 0, 9); v.Total != 1 {
		t.Errorf("%d are open, want 1", v.Total)
	}
}

func TestSnoozedAlertsAreHiddenAndCounted(t *testing.T) {
	b := NewBook()
	for id := range 5 {
		s := step(id, 1, int64(id))
		if id < 2 {
			s.Snoozed = noon.Add(time.Duration(id+1) * time.Hour)
		}
		b.Apply(s)
	}
	for _, c := range []struct {
		how            Snoozed
		now            time.Time
		total, snoozed int
		critical       int
	}{
		{SnoozedHidden, noon, 3, 2, 1},
		{SnoozedOnly, noon, 2, 2, 0},
		{SnoozedShown, noon, 5, 2, 1},
		{SnoozedHidden, noon.Add(time.Hour), 4, 1, 1}, // the first snooze has just ended
		{SnoozedHidden, noon.Add(2 * time.Hour), 5, 0, 1},
	} {
		v := b.View(Filter{Snoozed: c.how}, c.now, 0, 9)
		if v.Total != c.total || len(v.Rows) != c.total || v.Snoozed != c.snoozed || v.Open != 5 {
			t.Errorf("%q at %s: %+v", c.how, c.now, v)
		}
		n := 0
		for _, f := range b.Facets(c.how, c.now)["severity"] {
			if f.Value == "critical" {
				n = f.Count
			}
		}
		if n != c.critical {
			t.Errorf("%q at %s: %d critical ones to choose, want %d", c.how, c.now, n, c.critical)
		}
	}
}

func TestMostMoneyAtRiskComesFirstAndWhatIsNotKnownLast(t *testing.T) {
	b := NewBook()
	b.Apply(step(1, 1, 100))
	b.Apply(step(2, 1, -1))
	b.Apply(step(3, 1, 900))
	b.Apply(step(4, 1, 0))
	var got []string
	for _, a := range b.View(Filter{}, noon, 0, 9).Rows {
		got = append(got, a.AlertID)
	}
	if want := []string{"a000003", "a000001", "a000004", "a000002"}; !slices.Equal(got, want) {
		t.Errorf("queue %v, want %v", got, want)
	}
}

func TestAHundredThousandAlertsAreCountedExactly(t *testing.T) {
	b := NewBook()
	const n = 100_000
	for i := range n {
		b.Apply(step(i, 1, int64(i)*1000))
	}
	b.Apply(resolved(77, 2, "recovered"))
	v := b.View(Filter{}, noon, 50_000, 100)
	if v.Open != n-1 || v.Total != n-1 || len(v.Rows) != 100 {
		t.Fatalf("open %d, total %d, %d rows", v.Open, v.Total, len(v.Rows))
	}
	f := Filter{Severity: "critical"}
	if v = b.View(f, noon, 0, 10); v.Total != n/3-1 {
		t.Errorf("%d critical ones, want %d", v.Total, n/3-1)
	}
	if tot := b.Totals(noon); tot.Firing != n-1 || tot.BySeverity[0]+tot.BySeverity[1]+tot.BySeverity[2] != n-1 || tot.Customers != n/2 {
		t.Errorf("totals %+v", tot)
	}
}

func TestOpenAndPastAlertsOfACustomer(t *testing.T) {
	b := NewBook()
	b.Apply(step(10, 1, 5)) // both of customer c-5
	b.Apply(step(11, 1, 9))
	changed := step(11, 2, 12)
	changed.Kind = "changed"
	b.Apply(changed)
	open, past := b.Of("c-5")
	if len(open) != 2 || open[0].AlertID != "a000011" || len(open[0].Steps) != 2 || len(past) != 0 {
		t.Fatalf("open %v, past %v", open, past)
	}
	b.Apply(resolved(11, 3, "corrected_by_late_data"))
	open, past = b.Of("c-5")
	if len(open) != 1 || len(past) != 1 || past[0].Reason != "corrected_by_late_data" || len(past[0].Steps) != 3 {
		t.Fatalf("open %v, past %v", open, past)
	}
	if b.Apply(step(11, 2, 12)) {
		t.Error("an old step of a resolved alert opened it again")
	}
	if left, _ := b.Departures(0); len(left) != 1 || left[0].Reason != "corrected_by_late_data" {
		t.Errorf("departures %v", left)
	}
}

func TestWhatIsOverIsForgottenInTurn(t *testing.T) {
	b := NewBook()
	for i := range closedKept + 100 {
		b.Apply(step(i, 1, 1))
		b.Apply(resolved(i, 2, "recovered"))
	}
	if len(b.closed) != closedKept || len(b.open) != 0 || len(b.by) != 0 {
		t.Errorf("%d closed, %d open, %d customers", len(b.closed), len(b.open), len(b.by))
	}
	if _, past := b.Of("c-0"); len(past) != 0 {
		t.Error("the oldest was to be forgotten")
	}
	n := 0
	for _, p := range b.past {
		n += len(p)
	}
	if n != closedKept {
		t.Errorf("%d remembered by customer, want %d", n, closedKept)
	}
	if left, mark := b.Departures(0); len(left) != departKept || mark != closedKept+100 {
		t.Errorf("%d departures, mark %d", len(left), mark)
	}
}

func TestStepsOfOneAlertAreBounded(t *testing.T) {
	b := NewBook()
	for rev := range uint32(100) {
		b.Apply(step(1, rev+1, int64(rev)))
	}
	open, _ := b.Of("c-0")
	if n := len(open[0].Steps); n != stepsKept || open[0].Steps[n-1].Revision != 100 {
		t.Errorf("%d steps, the last is revision %d", n, open[0].Steps[n-1].Revision)
	}
}

func TestOperationalAlertsStandApart(t *testing.T) {
	b := NewBook()
	op := &Step{AlertID: "op", Revision: 1, Kind: "fired", Detector: "feed_stalled", SubjectID: "usage", Severity: Critical}
	b.Apply(op)
	if v := b.View(Filter{}, noon, 0, 9); v.Open != 0 || len(b.Operational()) != 1 {
		t.Errorf("%d in the queue, %d operational", v.Open, len(b.Operational()))
	}
	b.Apply(&Step{AlertID: "op", Revision: 2, Resolved: true})
	if len(b.Operational()) != 0 {
		t.Error("a resolved one stays")
	}
}

func TestAChangeIsTold(t *testing.T) {
	b := NewBook()
	before, next := b.Changes()
	b.Apply(step(1, 1, 1))
	select {
	case <-next:
	default:
		t.Error("nobody was told")
	}
	after, next := b.Changes()
	if after == before {
		t.Error("the version stays")
	}
	if b.Apply(step(1, 1, 1)) {
		t.Error("a repeated step is no news")
	}
	select {
	case <-next:
		t.Error("a repeated step was told")
	default:
	}
}

func TestThisWeekIsTheWeekOfEventTime(t *testing.T) {
	b := NewBook()
	b.Apply(step(1, 1, 1))   // an hour ago
	b.Apply(step(200, 1, 1)) // 200 hours ago
	b.Apply(step(3, 1, 1))
	b.Apply(resolved(3, 2, "recovered"))
	if n := b.Totals(noon).ThisWeek; n != 2 {
		t.Errorf("%d new in the week, want 2", n)
	}
	if n := b.Totals(noon.AddDate(0, 0, 30)).ThisWeek; n != 0 {
		t.Errorf("%d new in a week a month later, want 0", n)
	}
}

func BenchmarkViewAfterAStep(b *testing.B) {
	book := NewBook()
	for i := range 100_000 {
		book.Apply(step(i, 1, int64(i)*1000))
	}
	rev := uint32(1)
	for b.Loop() {
		rev++
		book.Apply(step(5, rev, int64(rev)))
		book.View(Filter{Tier: "gold"}, noon, 0, 100)
	}
}

// What a customer spends can be lost only once: in each sum he counts with the greatest of the alerts that it is about.
func TestMoneyAtRiskCountsACustomerOnce(t *testing.T) {
	b := NewBook()
	for _, c := range []struct {
		id       int
		customer string
		detector string
		risk     int64
	}{
		{1, "c-1", "silence", 300},
		{2, "c-1", "spend_drop", 500},
		{3, "c-2", "complaint_unresolved", 70}, // two complaints of one customer, the same money
		{4, "c-2", "complaint_unresolved", 70},
		{5, "c-2", "silence", -1}, // not known
		{6, "c-3", "silence", 9},
	} {
		s := step(c.id, 1, c.risk)
		s.Customer, s.Detector = c.customer, c.detector
		b.Apply(s)
	}
	totals := b.Totals(noon)
	got := fmt.Sprint(totals.AtRisk)
	for _, d := range totals.ByDetector {
		got += fmt.Sprint(" ", d.Detector, d.AtRisk)
	}
	if want := fmt.Sprint([]Amount{{579, "EUR"}}, " complaint_unresolved", []Amount{{70, "EUR"}}, " silence", []Amount{{309, "EUR"}}, " spend_drop", []Amount{{500, "EUR"}}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
