package backtest_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ebb/alerts"
	"ebb/cmd/ebb/internal/backtest"
	"ebb/stream/kafkatest"
	"ebb/stream/partition"
)

// What a backtest tells, of each customer and of many, is what a group tells that reads the same topics.
func TestAGroupTellsTheSame(t *testing.T) {
	if testing.Short() {
		t.Skip("reads the same history twice")
	}
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		now := time.Now()
		rows := backtest.AnOwnerLeaves(now.AddDate(0, 0, -301), false)
		last, _ := produce(t, b, rows)
		_, out := backtest.Replayed(t, backtest.PlainOnly(t), rows, 1)
		want := lives{}
		for _, w := range out.Wide {
			want.add(w.Detector, w.Subject, w.At, w.ResolvedAt, last)
		}
		for _, a := range out.Alerts {
			want.add(a.Detector, a.Customer, a.At, a.ResolvedAt, last)
		}
		if len(out.Wide) < 4 || len(want) < 50 {
			t.Fatalf("the backtest tells %v", want)
		}
		path := write(t, "ebb.yaml", fmt.Sprintf(`
group: %[1]s
brokers: [%[2]q]
feeds: {payments: {topic: %[3]s}, customers: {topic: %[4]s}}
topics: {create: true, replication_factor: 1, alerts: %[5]s, open_alerts: %[6]s, operations: %[7]s}
detectors: {silence: {method: plain}, spend_drop: {enabled: false}}
cohorts: {by: [region, owner], hold_back: false}
alerts: {horizon: 30d}
history: publish
stall: {expected_records: 1000000}
state: {dir: %[8]q}
http: {listen: ""}
`, b.Name("ebb"), b.Addrs[0], b.Name("payments"), b.Name("customers"), b.Name("alerts"), b.Name("open"), b.Name("ops"), t.TempDir()))

		l := live(t, b, path, 0)
		kafkatest.Eventually(t, "what the backtest tells", func() error {
			return want.differ(told(t, b, last))
		})
		if err := l.stop(); err != nil {
			t.Error(err)
		}
	})
}

// produce produces the rows of a history. It returns the beginning of the day of its last event, where what a backtest judges of many ends, and the time of that event.
func produce(t *testing.T, b *kafkatest.Broker, rows []string) (day, last time.Time) {
	t.Helper()
	const parts = 3
	topics := map[string][]kafkatest.Record{}
	for _, row := range rows {
		var r struct {
			Topic      string
			CustomerID string `json:"customer_id"`
			Time       time.Time
		}
		if err := json.Unmarshal([]byte(row), &r); err != nil {
			t.Fatal(err)
		}
		if r.Time.After(last) {
			last = r.Time
		}
		key := []byte(r.CustomerID)
		topics[r.Topic] = append(topics[r.Topic], kafkatest.Record{Partition: partition.Murmur2(key, parts), Key: key, Timestamp: r.Time.UnixMilli(), Value: []byte(row)})
	}
	for topic, records := range topics {
		slices.SortStableFunc(records, func(a, b kafkatest.Record) int { return int(a.Timestamp - b.Timestamp) })
		b.CreateTopic(t, b.Name(topic), parts, nil)
		b.Produce(t, b.Name(topic), records...)
	}
	return last.Truncate(24 * time.Hour), last
}

// lives are alerts by what they are, about whom, and when they fired; with when they were resolved, 0 for open ones. Times are in ms.
type lives map[string]int64

// add takes an alert in. What happens from the end on is left out.
func (l lives) add(detector, about string, fired, resolved int64, end time.Time) {
	if fired >= end.UnixMilli() {
		return
	}
	if resolved >= end.UnixMilli() {
		resolved = 0
	}
	l[fmt.Sprint(detector, " of ", about, " from ", time.UnixMilli(fired).UTC())] = resolved
}

// differ names what one holds and the other does not.
func (l lives) differ(got lives) error {
	var all []string
	for name, until := range l {
		if other, told := got[name]; !told || other != until {
			all = append(all, fmt.Sprint(name, " until ", until, ": the group says ", told, ", until ", other))
		}
	}
	for name := range got {
		if _, wanted := l[name]; !wanted {
			all = append(all, name+": the group alone")
		}
	}
	if all == nil {
		return nil
	}
	slices.Sort(all)
	return fmt.Errorf("%d differ:\n%s", len(all), strings.Join(all, "\n"))
}

// told are the alerts of a group's topic.
func told(t *testing.T, b *kafkatest.Broker, end time.Time) lives {
	t.Helper()
	out := lives{}
	for _, r := range b.ReadCommitted(t, b.Name("alerts")) {
		a, err := alerts.Parse(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		about, resolved := a.CustomerID, int64(0)
		if about == "" {
			about = a.Subject.ID
		}
		if !a.Firing() {
			resolved = a.Time.UnixMilli()
		}
		out.add(a.Detector, about, a.FirstFiredAt.UnixMilli(), resolved, end)
	}
	return out
}
