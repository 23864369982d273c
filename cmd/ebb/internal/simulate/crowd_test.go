package simulate

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func start() time.Time { return time.Date(2025, 9, 14, 0, 0, 0, 0, time.UTC) }

func small(seed uint64) *Crowd { return New(seed, Options{Customers: 400, Start: start()}) }

func collect(t *testing.T, c *Crowd, until ...time.Time) []Event {
	t.Helper()
	var out []Event
	for _, at := range until {
		if err := c.Until(at, func(e Event) error { out = append(out, e); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func digest(events []Event) string {
	h := sha256.New()
	for _, e := range events {
		fmt.Fprintln(h, e.Feed, e.Key, string(e.Value), e.Time.UnixMilli(), e.At.UnixMilli(), e.Spend)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

func TestSameSeedGivesTheSameEventsHoweverTimeIsCut(t *testing.T) {
	end := start().AddDate(0, 0, 170)
	whole := collect(t, small(7), end)
	var cuts []time.Time
	for at := start(); at.Before(end); at = at.Add(37*time.Hour + 11*time.Minute) {
		cuts = append(cuts, at)
	}
	pieces := collect(t, small(7), append(cuts, end)...)
	if a, b := digest(whole), digest(pieces); a != b {
		t.Errorf("one call gives %s (%d events), many give %s (%d events)", a, len(whole), b, len(pieces))
	}
	if other := collect(t, small(8), end); digest(other) == digest(whole) {
		t.Error("another seed gives the same events")
	}
}

func TestEventsComeInTheOrderOfArrivalAndOnlyThoseBeforeTheEnd(t *testing.T) {
	c := small(1)
	end := c.LiveStart().AddDate(0, 0, 40)
	last := time.Time{}
	late, withheld := 0, 0
	for _, e := range collect(t, c, end) {
		if e.At.Before(last) {
			t.Fatalf("%s arrives at %s, after one of %s", e.Value, e.At, last)
		}
		if e.At.Before(e.Time) || !e.At.Before(end) {
			t.Fatalf("%s happened at %s, arrives at %s, asked until %s", e.Value, e.Time, e.At, end)
		}
		last = e.At
		if wait := e.At.Sub(e.Time); wait > 6*time.Hour {
			switch e.Feed {
			case Payments:
				late++
			case Usage:
				withheld++
			default:
				t.Fatalf("a %s event waits %s", e.Feed, wait)
			}
		}
	}
	if late == 0 || withheld == 0 {
		t.Errorf("%d payments in late batches and %d withheld usage events: both were to be there", late, withheld)
	}
}

func TestAnEventThatIsRefusedComesAgain(t *testing.T) {
	c := small(3)
	all := collect(t, small(3), c.LiveStart())
	full := errors.New("full")
	var got []Event
	for tries := 0; len(got) < len(all); {
		err := c.Until(c.LiveStart(), func(e Event) error {
			if len(got)%100 == 99 && tries%2 == 0 {
				tries++
				return full
			}
			got = append(got, e)
			tries = 0
			return nil
		})
		if err != nil && !errors.Is(err, full) {
			t.Fatal(err)
		}
	}
	if digest(got) != digest(all) {
		t.Error("events were lost or repeated around a refusal")
	}
}

func TestEveryEventIsInTheContractForm(t *testing.T) {
	types := map[Feed]map[string]int{Usage: {}, Payments: {}, Complaints: {}, Customers: {}}
	c := small(2)
	ids := map[string]bool{}
	for _, e := range collect(t, c, c.LiveStart().AddDate(0, 0, 60)) {
		var v struct {
			ID         string      `json:"id"`
			CustomerID string      `json:"customer_id"`
			Time       time.Time   `json:"time"`
			Type       string      `json:"type"`
			Amount     json.Number `json:"amount"`
			Currency   string      `json:"currency"`
		}
		if err := json.Unmarshal(e.Value, &v); err != nil {
			t.Fatalf("%s: %v", e.Value, err)
		}
		if v.CustomerID != e.Key || !v.Time.Equal(e.Time) || v.ID == "" || ids[v.ID] {
			t.Fatalf("%s under key %s at %s (id seen before: %v)", e.Value, e.Key, e.Time, ids[v.ID])
		}
		ids[v.ID] = true
		types[e.Feed][v.Type]++
		if (e.Spend != 0) != (v.Type == "purchase" || v.Type == "refund") {
			t.Fatalf("%s: spend %d", e.Value, e.Spend)
		}
		if e.Spend != 0 && v.Currency != "EUR" {
			t.Fatalf("%s: currency %q", e.Value, v.Currency)
		}
	}
	for feed, want := range map[Feed][]string{
		Usage:      {"session"},
		Payments:   {"purchase", "refund", "charge_failed", "subscription_cancelled"},
		Complaints: {"opened", "responded", "customer_replied", "resolved"},
		Customers:  {""},
	} {
		for _, k := range want {
			if types[feed][k] == 0 {
				t.Errorf("no %s event of type %q in %v", feed, k, types[feed])
			}
		}
	}
}

// Nobody leaves traces after he left, save that one who buys elsewhere still looks around; and nobody who stays is gone for ever.
func TestTruthIsTrue(t *testing.T) {
	c := New(5, Options{Customers: 1500, Start: start()})
	end := c.LiveStart().AddDate(0, 0, 60)
	last := map[string]map[Feed]time.Time{}
	for _, e := range collect(t, c, end) {
		if last[e.Key] == nil {
			last[e.Key] = map[Feed]time.Time{}
		}
		if e.Time.After(last[e.Key][e.Feed]) {
			last[e.Key][e.Feed] = e.Time
		}
	}
	shapes, cases, habits := map[Shape]int{}, map[string]int{}, map[string]int{}
	for _, tr := range c.Truth() {
		cases[tr.Case]++
		habits[tr.Habit]++
		if tr.Left.After(end) {
			continue
		}
		shapes[tr.Shape]++
		if tr.Begins.After(tr.Left) {
			t.Errorf("%s begins to leave at %s and is gone at %s", tr.Customer, tr.Begins, tr.Left)
		}
		if p := last[tr.Customer][Payments]; p.After(tr.Left) {
			t.Errorf("%s (%s) left at %s and has a payment at %s", tr.Customer, tr.Shape, tr.Left, p)
		}
		if u := last[tr.Customer][Usage]; u.After(tr.Left) && tr.Shape != Elsewhere {
			t.Errorf("%s (%s) left at %s and has usage at %s", tr.Customer, tr.Shape, tr.Left, u)
		}
	}
	for _, s := range []Shape{Cliff, Leak, Silent, Elsewhere, Unanswered, Card, Followed, Cancelled} {
		if shapes[s] == 0 {
			t.Errorf("nobody left as %s: %v", s, shapes)
		}
	}
	for _, k := range []string{"traveller", "big_bill"} {
		if cases[k] == 0 {
			t.Errorf("no %s: %v", k, cases)
		}
	}
	if len(habits) != 5 {
		t.Errorf("habits: %v", habits)
	}
	if len(c.customers) != 1500 || len(c.ids) != 1500 {
		t.Errorf("%d customers, %d ids: the crowd is to keep its size", len(c.customers), len(c.ids))
	}
}

func TestMonthlyBillsAreTwentyEightToThirtyOneDaysApart(t *testing.T) {
	c := small(4)
	habit := map[string]Truth{}
	for _, tr := range c.Truth() {
		habit[tr.Customer] = tr
	}
	bills := map[string][]time.Time{}
	for _, e := range collect(t, c, c.LiveStart()) {
		if tr := habit[e.Key]; e.Spend > 0 && tr.Habit == "monthly" && tr.Case == "" && !strings.Contains(string(e.Value), `"attempt":2`) {
			bills[e.Key] = append(bills[e.Key], e.Time)
		}
	}
	gaps := map[int]int{}
	for _, ts := range bills {
		for i := 1; i < len(ts); i++ {
			gaps[int(ts[i].Sub(ts[i-1]).Hours()/24+0.5)]++
		}
	}
	near, far := 0, 0
	for g, n := range gaps {
		if g >= 28 && g <= 31 {
			near += n
		} else {
			far += n // the bill between failed or was paid at the second attempt
		}
	}
	if near == 0 || far > near/5 {
		t.Errorf("gaps between bills in days: %v", gaps)
	}
}

func TestTheUsageFeedIsSilentInAnOutage(t *testing.T) {
	c := small(6)
	end := c.LiveStart().AddDate(0, 0, 40)
	outages := c.Outages(end)
	if len(outages) != 2 || !outages[0].Lost || outages[1].Lost {
		t.Fatalf("outages: %+v", outages)
	}
	for _, e := range collect(t, c, end) {
		for _, o := range outages {
			if e.Feed == o.Feed && !e.At.Before(o.From) && e.At.Before(o.To) {
				t.Fatalf("usage arrives at %s, within the outage from %s to %s", e.At, o.From, o.To)
			}
			if e.Feed == o.Feed && o.Lost && !e.Time.Before(o.From) && e.Time.Before(o.To) {
				t.Fatalf("usage of %s arrives though it was lost", e.Time)
			}
		}
	}
}

func TestTheAccountOwnersCustomersFollow(t *testing.T) {
	c := New(9, Options{Customers: 1500, Start: start()})
	_, at := c.Exit()
	if at.Before(c.LiveStart()) {
		t.Fatalf("the account owner leaves at %s, before the live part", at)
	}
	n := 0
	for _, tr := range c.Truth() {
		if tr.Shape == Followed {
			n++
			if tr.Left.Before(at) || tr.Left.After(at.AddDate(0, 0, 40)) {
				t.Errorf("%s follows at %s, the owner left at %s", tr.Customer, tr.Left, at)
			}
		}
	}
	if n < 10 {
		t.Errorf("%d customers follow their account owner", n)
	}
}

func TestTheCrowdForgetsWhoLeftLongAgo(t *testing.T) {
	c := New(1, Options{Customers: 50, HistoryDays: 10, Start: start()})
	n := 0
	if err := c.Until(start().AddDate(8, 0, 0), func(Event) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(c.customers) != 50 || len(c.ids) != 50 || len(c.pending) > 40 {
		t.Errorf("%d customers, %d ids, %d days pending after eight years", len(c.customers), len(c.ids), len(c.pending))
	}
	if len(c.past) < 50 || len(c.past) != len(c.pastIDs) {
		t.Errorf("%d past customers, %d of them by id", len(c.past), len(c.pastIDs))
	}
	old := c.past[0]
	if tr, ok := c.TruthOf(old.Customer); !ok || tr != old {
		t.Errorf("truth of %s: %+v, %v", old.Customer, tr, ok)
	}
	if _, ok := c.TruthOf("nobody"); ok {
		t.Error("the crowd knows nobody")
	}
}

// The simulator must not know how it is judged.
func TestNothingOfEbbIsImported(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			if path == "ebb" || strings.HasPrefix(path, "ebb/") || strings.Contains(strings.Split(path, "/")[0], ".") {
				t.Errorf("%s imports %s: the crowd may use the standard library only", name, path)
			}
		}
	}
}

func BenchmarkHistory(b *testing.B) {
	for b.Loop() {
		n, bytes := 0, 0
		c := New(1, Options{Start: start()})
		if err := c.History(func(e Event) error { n++; bytes += len(e.Value); return nil }); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n), "events")
		b.ReportMetric(float64(bytes), "bytes")
	}
}
