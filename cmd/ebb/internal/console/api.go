package console

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// instant is a time that is absent from JSON while it is not known.
type instant struct{ time.Time }

func (t instant) MarshalJSON() ([]byte, error) { return t.UTC().MarshalJSON() }

func moment(t time.Time) *instant {
	if t.IsZero() {
		return nil
	}
	return &instant{t}
}

type alertJSON struct {
	AlertID  string          `json:"alert_id"`
	Revision uint32          `json:"revision"`
	Step     string          `json:"step"`
	Detector string          `json:"detector"`
	Customer string          `json:"customer_id"`
	Tier     string          `json:"tier,omitempty"`
	Segment  string          `json:"segment,omitempty"`
	Region   string          `json:"region,omitempty"`
	Owner    string          `json:"owner,omitempty"`
	Severity string          `json:"severity"`
	Summary  string          `json:"summary"`
	Time     *instant        `json:"time,omitempty"`
	Since    *instant        `json:"since,omitempty"`
	First    *instant        `json:"first_fired_at,omitempty"`
	AtRisk   *amountJSON     `json:"money_at_risk,omitempty"`
	Cause    string          `json:"suspected_cause,omitempty"`
	Acked    string          `json:"acknowledged_by,omitempty"`
	Assignee string          `json:"assignee,omitempty"`
	Snoozed  *instant        `json:"snoozed_until,omitempty"`
	Evidence json.RawMessage `json:"evidence,omitempty"`
}

type amountJSON struct {
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
}

// apiAlerts is the queue for programs: the same filters and orders, from= and limit= (at most 1000). Snoozed alerts are among the others
// unless snoozed=hide or snoozed=only asks for less.
func (c *Console) apiAlerts(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil || n <= 0 {
		n = pageRows
	}
	v := c.o.Book.View(parseFilter(r.URL.Query(), SnoozedShown), c.o.Now(), from(r), min(n, apiRowsMax))
	out := struct {
		Total  int         `json:"total"`
		Open   int         `json:"open"`
		From   int         `json:"from"`
		Loaded bool        `json:"loaded"`
		Alerts []alertJSON `json:"alerts"`
	}{Total: v.Total, Open: v.Open, From: v.From, Loaded: v.Loaded, Alerts: make([]alertJSON, 0, len(v.Rows))}
	for _, a := range v.Rows {
		j := alertJSON{
			AlertID: a.AlertID, Revision: a.Revision, Step: a.Kind, Detector: a.Detector, Customer: a.Customer, Tier: a.Tier,
			Segment: a.Segment, Region: a.Region, Owner: a.Owner, Severity: a.Severity.String(), Summary: a.Summary,
			Cause: a.Cause, Acked: a.AcknowledgedBy, Assignee: a.Assignee, Snoozed: moment(a.Snoozed),
			Time: moment(a.Time), Since: moment(a.Since), First: moment(a.FirstFired), Evidence: a.Evidence,
		}
		if a.HasRisk {
			j.AtRisk = &amountJSON{Amount: a.AtRisk.String(), Currency: a.Currency}
		}
		out.Alerts = append(out.Alerts, j)
	}
	c.json(w, out)
}

type feedJSON struct {
	Name            string           `json:"name"`
	Topic           string           `json:"topic"`
	LagRecords      int64            `json:"lag_records"`
	LagSeconds      float64          `json:"lag_seconds"`
	Rate            float64          `json:"records_per_second"`
	UsualRate       *float64         `json:"usual_records_per_second,omitempty"`
	LatenessSeconds *float64         `json:"lateness_seconds,omitempty"`
	LastEvent       *instant         `json:"last_event,omitempty"`
	StalledSince    *instant         `json:"stalled_since,omitempty"`
	BlindSince      *instant         `json:"blind_since,omitempty"`
	BlindCustomers  int64            `json:"blind_customers"`
	DeadLetters     map[string]int64 `json:"dead_letters"`
}

type taskJSON struct {
	Partition        int32    `json:"partition"`
	State            string   `json:"state"`
	Clock            *instant `json:"clock,omitempty"`
	LastCut          *instant `json:"last_cut,omitempty"`
	RestoreRemaining int64    `json:"restore_remaining_records"`
	Customers        int64    `json:"customers"`
	Error            string   `json:"error,omitempty"`
}

// apiStatus is the state of the engine for programs, with the sums over the queue.
func (c *Console) apiStatus(w http.ResponseWriter, _ *http.Request) {
	st := c.o.Source.Status()
	t := c.o.Book.Totals(c.o.Now())
	out := struct {
		Group     string            `json:"group"`
		Instance  string            `json:"instance"`
		Version   string            `json:"version"`
		Problem   string            `json:"problem,omitempty"`
		LastEvent *instant          `json:"last_event,omitempty"`
		Firing    int               `json:"alerts_firing"`
		ThisWeek  int               `json:"alerts_new_in_7_days"`
		AtRisk    map[string]string `json:"money_at_risk"`
		Customers map[string]int64  `json:"customers"`
		Feeds     []feedJSON        `json:"feeds"`
		Tasks     []taskJSON        `json:"tasks"`
	}{
		Group: st.Group, Instance: st.Instance, Version: st.Version, Problem: st.Problem, LastEvent: moment(st.LastEvent),
		Firing: t.Firing, ThisWeek: t.ThisWeek, AtRisk: map[string]string{}, Customers: st.Customers,
		Feeds: []feedJSON{}, Tasks: []taskJSON{},
	}
	for _, a := range t.AtRisk {
		out.AtRisk[a.Currency] = a.Sum.String()
	}
	for i := range st.Feeds {
		f := &st.Feeds[i]
		j := feedJSON{
			Name: f.Name, Topic: f.Topic, LagRecords: f.LagRecords, LagSeconds: f.LagSeconds, Rate: f.Rate, LastEvent: moment(f.LastEvent),
			StalledSince: moment(f.StalledSince), BlindSince: moment(f.BlindSince), BlindCustomers: f.BlindCustomers, DeadLetters: map[string]int64{},
		}
		if f.UsualRate >= 0 {
			j.UsualRate = &f.UsualRate
		}
		if f.Lateness >= 0 {
			late := f.Lateness.Seconds()
			j.LatenessSeconds = &late
		}
		for _, d := range f.DeadLetters {
			j.DeadLetters[d.Reason] = d.Count
		}
		out.Feeds = append(out.Feeds, j)
	}
	for i := range st.Tasks {
		k := &st.Tasks[i]
		out.Tasks = append(out.Tasks, taskJSON{
			Partition: k.Partition, State: k.State, Clock: moment(k.Clock), LastCut: moment(k.LastCut),
			RestoreRemaining: k.RestoreRemaining, Customers: k.Customers, Error: k.Error,
		})
	}
	c.json(w, out)
}

func (c *Console) json(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		c.o.Log.Error("answer not written", "error", err)
		http.Error(w, "the answer could not be written; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // the reader has gone: nobody to tell
}
