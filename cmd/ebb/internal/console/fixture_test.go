package console

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"ebb/cmd/ebb/internal/simulate"
	"ebb/stream/event"
)

// world is a simulated crowd as the page sees it, with alerts made by two rules of thumb that belong to this test alone.
type world struct {
	crowd     *simulate.Crowd
	now       time.Time
	customers map[string]*Customer
	book      *Book
	status    Status
	serial    int
	demo      *fakeDemo
	failed    error // of Source.Customer
}

func (w *world) Status() Status { return w.status }

func (w *world) Customer(_ context.Context, id string) (*Customer, error) {
	if w.failed != nil {
		return nil, w.failed
	}
	c := w.customers[id]
	if c == nil {
		return nil, ErrUnknown
	}
	return c, nil
}

type record struct {
	Type        string    `json:"type"`
	ComplaintID string    `json:"complaint_id"`
	Priority    string    `json:"priority"`
	Tier        string    `json:"tier"`
	Segment     string    `json:"segment"`
	Region      string    `json:"region"`
	Owner       string    `json:"owner"`
	Product     string    `json:"product"`
	Zone        string    `json:"time_zone"`
	Time        time.Time `json:"time"`
}

func newWorld(t testing.TB, customers, liveDays int) *world {
	t.Helper()
	w := &world{
		crowd:     simulate.New(1, simulate.Options{Customers: customers, Start: time.Date(2025, 9, 14, 0, 0, 0, 0, time.UTC)}),
		customers: map[string]*Customer{}, book: NewBook(),
	}
	w.now = w.crowd.LiveStart().AddDate(0, 0, liveDays).Add(14*time.Hour + 3*time.Minute)
	if err := w.crowd.Until(w.now, func(e simulate.Event) error { return w.apply(&e) }); err != nil {
		t.Fatal(err)
	}
	for _, c := range w.customers {
		slices.SortFunc(c.Days, func(a, b Day) int { return int(a.Date - b.Date) })
	}
	w.alert(t)
	w.status = Status{
		Group: "ebb-demo", Instance: "a1", AsOf: w.now, LastEvent: w.now.Add(-2 * time.Minute), Partitions: 4,
		Customers: map[string]int64{"mature": int64(len(w.customers)) - 19, "declining": 7, "warming_up": 12},
	}
	for _, f := range simulate.Feeds() {
		w.status.Feeds = append(w.status.Feeds, Feed{
			Name: string(f), Topic: "demo-" + string(f), LagRecords: 3, LagSeconds: 0.2, Rate: 17.3, UsualRate: 16, Lateness: 3 * time.Minute,
			LastEvent: w.now.Add(-2 * time.Minute),
		})
	}
	for p := range int32(4) {
		w.status.Tasks = append(w.status.Tasks, Task{
			Partition: p, State: TaskLive, Clock: w.now.Add(-time.Minute), LastCut: w.now.Add(-3 * time.Minute), Customers: int64(customers / 4),
		})
	}
	w.book.Loaded()
	w.demo = &fakeDemo{w: w}
	return w
}

func (w *world) apply(e *simulate.Event) error {
	var r record
	if err := json.Unmarshal(e.Value, &r); err != nil {
		return err
	}
	c := w.customers[e.Key]
	if c == nil {
		c = &Customer{ID: e.Key, Currency: "EUR", Stage: "mature", First: e.Time, Window: dateOf(w.now, time.UTC) - 120}
		w.customers[e.Key] = c
	}
	switch e.Feed {
	case simulate.Customers:
		c.Tier, c.Segment, c.Region, c.Owner, c.Product, c.Zone = r.Tier, r.Segment, r.Region, r.Owner, r.Product, r.Zone
		return nil
	case simulate.Complaints:
		w.complaint(c, &r)
		return nil
	}
	date := dateOf(e.Time, zoneOf(c))
	i := slices.IndexFunc(c.Days, func(d Day) bool { return d.Date == date })
	if i < 0 {
		i = len(c.Days)
		c.Days = append(c.Days, Day{Date: date})
	}
	d := &c.Days[i]
	switch {
	case e.Feed == simulate.Usage:
		d.Usage++
	case r.Type == "purchase":
		d.Purchases++
	case r.Type == "refund":
		d.Refunds++
	default:
		return nil
	}
	d.Spend += event.Money(e.Spend * 100)
	if e.Time.After(c.LastActivity) {
		c.LastActivity = e.Time
	}
	return nil
}

func (w *world) complaint(c *Customer, r *record) {
	if r.Type == "opened" {
		c.Complaints = append(c.Complaints, Complaint{ID: r.ComplaintID, Priority: r.Priority, Opened: r.Time})
		return
	}
	for i := range c.Complaints {
		k := &c.Complaints[i]
		switch {
		case k.ID != r.ComplaintID:
		case r.Type == "responded" && k.Responded.IsZero():
			k.Responded = r.Time
		case r.Type == "resolved" && k.Resolved.IsZero():
			k.Resolved = r.Time
		}
	}
}

// alert makes alerts of everybody silent for two weeks, of weeks far below the range, and of complaints that wait.
func (w *world) alert(t testing.TB) {
	for _, id := range slices.Sorted(func(yield func(string) bool) {
		for id := range w.customers {
			if !yield(id) {
				return
			}
		}
	}) {
		c := w.customers[id]
		ws := weeks(c, lastFullDay(c, w.now), 12, time.Time{})
		last := ws[len(ws)-1]
		var mean event.Money
		for _, s := range ws {
			mean = max(mean, s.Mean)
		}
		switch silent := w.now.Sub(c.LastActivity); {
		case c.LastActivity.IsZero():
		case silent > 14*24*time.Hour && silent < 40*24*time.Hour:
			w.fire(t, c, "silence", "", "critical", c.LastActivity, c.LastActivity.AddDate(0, 0, 14), mean*8,
				fmt.Sprintf("Nothing for %d days; was active every 4 days.", int(silent.Hours()/24)))
		case last.Band && last.Spend*5 < last.Low:
			w.fire(t, c, "spend_drop", "", "warning", last.From.Time(), w.now.Add(-30*time.Hour), last.Mean*6,
				fmt.Sprintf("Spent %s a week for 3 months, %s in the last week.", money(last.Mean), money(last.Spend)))
		}
		for _, k := range c.Complaints {
			if k.Resolved.IsZero() && w.now.Sub(k.Opened) > 48*time.Hour && w.now.Sub(k.Opened) < 30*24*time.Hour {
				w.fire(t, c, "complaint_unresolved", k.ID, "info", k.Opened, k.Opened.AddDate(0, 0, 2), 0, "Complaint "+k.ID+" has waited for an answer since "+day(dateOf(k.Opened, time.UTC))+".")
			}
		}
	}
}

// object is a data object of an alert event, in the form of the contract.
type object map[string]any

func (w *world) object(c *Customer, detector, subject, severity string, since, fired time.Time, risk event.Money, summary string) object {
	w.serial++
	o := object{
		"alert_id": fmt.Sprintf("%032x", w.serial), "revision": 1, "status": "firing", "step": "fired", "detector": detector,
		"customer_id": c.ID, "customer": map[string]string{"tier": c.Tier, "segment": c.Segment, "region": c.Region, "owner": c.Owner},
		"severity": severity, "summary": summary, "time": fired, "since": since, "first_fired_at": fired,
		"evidence": map[string]any{"last_activity": c.LastActivity, "recent_7d": "6.00", "weekly_mean": "41.20"},
	}
	if risk > 0 {
		o["money_at_risk"] = map[string]string{"amount": risk.String(), "currency": "EUR"}
		o["observed"], o["expected"] = "6.00", "41.20"
	}
	if subject != "" {
		o["subject"] = map[string]string{"type": "complaint", "id": subject}
	}
	return o
}

func (w *world) fire(t testing.TB, c *Customer, detector, subject, severity string, since, fired time.Time, risk event.Money, summary string) *Step {
	return w.send(t, w.object(c, detector, subject, severity, since, fired, risk, summary))
}

func (w *world) send(t testing.TB, o object) *Step {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseStep(b)
	if err != nil {
		t.Fatal(err)
	}
	w.book.Apply(s)
	return s
}

func (w *world) console(demo bool) *Console {
	o := Options{
		Source: w, Book: w.book, Now: func() time.Time { return w.now }, Currency: "EUR",
		Rules: []Rule{
			{
				Detector: "silence", Version: "1", Sentence: "Fires when nothing was bought or used for 14 days.", Next: "Call before the weekend.",
				Thresholds: []Threshold{{"after", "14 d"}, {"gap multiple", "3"}},
			},
			{Detector: "spend_drop", Version: "1", Sentence: "Fires when the last 7 days brought less than half of the mean week before.", Thresholds: []Threshold{{"fires below", "50 %"}}},
			{Detector: "complaint_unresolved", Version: "1", Sentence: "Fires when a complaint waits too long for its answer or its resolution."},
		},
	}
	if demo {
		o.Demo = w.demo
	}
	return New(o)
}

// fakeDemo is a demo that stands still.
type fakeDemo struct {
	w       *world
	pressed []string
	hidden  bool
}

func (d *fakeDemo) State() DemoState {
	s := DemoState{
		Seed: 1, Phase: PhaseLive, Progress: 1, Start: d.w.crowd.Start(), LiveStart: d.w.crowd.LiveStart(), Now: d.w.now, Speed: 1,
		Speeds: []float64{0, 0.25, 1, 3}, ShowTruth: !d.hidden, Leavers: 131, HorizonDays: 60, Currency: "EUR", UsualRule: "7 against 28", Config: "/tmp/ebb-demo-1/ebb.yaml",
		Ebb:   Score{Alerts: 180, Found: 96, Missed: 12, Pending: 23, Right: 110, FalseAlarms: 70, DaysAhead: 43, MoneyFound: 1234567, ByDetector: []DetectorScore{{"silence", 90, 60, 30}}},
		Usual: Score{Alerts: 2310, Found: 104, Missed: 9, Right: 190, FalseAlarms: 2120, DaysAhead: 49, MoneyFound: 1324567},
		Acts: []Act{
			{Name: "feed", Label: "Stop the usage feed", Should: "Should give one line about a stalled feed, and accuse no customer of silence."},
			{Name: "kill", Label: "Kill the engine", Should: "Should come back by itself: no alert step lost, none twice.", Did: "Back and caught up after 0.8 s. 12 steps read since: 0 twice, 0 missing.", Good: true},
			{Name: "late", Label: "Send a late payment", Should: "Should withdraw a silence alert that the payment refutes.", Did: "c-000017: a payment of 9 Jan has been sent; the alert stands so far."},
		},
	}
	for i := range 40 {
		s.Days = append(s.Days, ScoreDay{Leavers: 60 + 2*i, Found: 30 + 2*i, FalseAlarms: 2 * i, UsualFound: 40 + 2*i, UsualFalse: 900 + 40*i})
	}
	return s
}

func (d *fakeDemo) Act(name, value string) error {
	if name == "nothing" {
		return fmt.Errorf("there is no button %q", name)
	}
	d.pressed = append(d.pressed, name+"="+value)
	return nil
}

func (d *fakeDemo) Truth(id string) (Truth, bool) {
	t, ok := d.w.crowd.TruthOf(id)
	return Truth{Leaves: t.Leaves(), Shape: string(t.Shape), Begins: t.Begins, Left: t.Left, Habit: t.Habit, Case: t.Case}, ok
}
