package cli_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"ebb/cmd/ebb/internal/cli"
	"ebb/stream/kafkatest"
)

// stepOf is a step of an alert as it lies on the topic.
func stepOf(id string, revision int, step string) kafkatest.Record {
	status := "firing"
	if step == "resolved" {
		status = "resolved"
	}
	return kafkatest.Record{
		Key: []byte("c-" + id), Headers: map[string]string{"ce_id": fmt.Sprintf("%s/%d", id, revision)},
		Value: fmt.Appendf(nil, `{"alert_id":%q,"revision":%d,"status":%q,"step":%q,"detector":"silence","customer_id":"c-%s","severity":"warning","time":"2026-01-0%dT10:00:00Z","first_fired_at":"2026-01-01T10:00:00Z"}`,
			id, revision, status, step, id, revision),
	}
}

func TestAlertsAreVerified(t *testing.T) {
	sound := []kafkatest.Record{stepOf("a", 1, "fired"), stepOf("b", 1, "fired"), stepOf("a", 2, "changed"), stepOf("b", 2, "resolved"), stepOf("a", 3, "acknowledged")}
	table := []kafkatest.Record{stepOf("a", 3, "acknowledged")}
	for i := range table {
		table[i].Key = []byte("a")
	}
	without := func(i int) []kafkatest.Record {
		return append(append([]kafkatest.Record{}, sound[:i]...), sound[i+1:]...)
	}
	wrongID := stepOf("c", 1, "resolved")
	wrongID.Headers["ce_id"] = "c/7"
	cases := []struct {
		rule  string
		steps []kafkatest.Record
		table []kafkatest.Record
		wants string // of the only fault; empty: none
	}{
		{"all is there", sound, table, ""},
		{"nothing at all", nil, nil, ""},
		{"a step in between is missing", without(2), table, "alert a: revision 1 is followed by 3"},
		{"the first step is missing", without(1), table, "alert b: it begins with revision 2"},
		{"a step is there twice", append(sound[:3:3], append([]kafkatest.Record{stepOf("a", 2, "changed")}, sound[3:]...)...), table, "alert a: revision 2 is there more than once"},
		{"steps in the wrong order", []kafkatest.Record{sound[0], sound[4], sound[2]}, table, "alert a: revision 2 comes after revision 3"},
		{"a step after the end", append(sound[:5:5], stepOf("b", 3, "changed")), append(table[:1:1], kafkatest.Record{Key: []byte("b"), Value: stepOf("b", 3, "changed").Value}), "alert b: revision 3 follows its resolution, revision 2"},
		{"an open alert that the table does not have", sound, nil, "alert a: its newest step, revision 3, fires, and the table of open alerts does not have it"},
		{"a resolved one that it has", sound, append(table[:1:1], kafkatest.Record{Key: []byte("b"), Value: stepOf("b", 1, "fired").Value}), "alert b: it is resolved, and the table of open alerts has it with revision 1"},
		{"an older step in the table", sound, []kafkatest.Record{{Key: []byte("a"), Value: stepOf("a", 2, "changed").Value}}, "alert a: its newest step is revision 3, and the table of open alerts has it with revision 2"},
		{"an open one of which there is no step", sound, append(table[:1:1], kafkatest.Record{Key: []byte("d"), Value: stepOf("d", 1, "fired").Value}), "alert d: the table of open alerts has it with revision 1, and the topic has no step of it"},
		{"a removed entry counts as none", sound, append(table[:1:1], kafkatest.Record{Key: []byte("b"), Value: stepOf("b", 1, "fired").Value}, kafkatest.Record{Key: []byte("b")}), ""},
		{"an event id that is not the step's", append(sound[:5:5], wrongID), table, "alert c: the ce_id of revision 1 is c/7"},
	}
	for _, tc := range cases {
		t.Run(tc.rule, func(t *testing.T) {
			b := kafkatest.Fake(t, kafkatest.Options{})
			p := onBroker(b)
			for name, records := range map[string][]kafkatest.Record{"alerts": tc.steps, "open": tc.table} {
				b.CreateTopic(t, b.Name(name), 1, nil)
				if len(records) > 0 {
					b.Produce(t, b.Name(name), records...)
				}
			}
			code := p.run(t.Context(), "alerts", "verify")
			lines := strings.Split(strings.TrimSpace(p.out.String()), "\n")
			switch {
			case tc.wants == "" && (code != cli.Done || len(lines) != 1 || !strings.HasSuffix(lines[0], ": every step is there, once")):
				t.Errorf("exit code %d: %s%s", code, p.out.String(), p.errOut.String())
			case tc.wants != "" && (code != cli.Failed || len(lines) != 2 || !strings.HasPrefix(lines[0], tc.wants)):
				t.Errorf("exit code %d: %s\nwant %s", code, p.out.String(), tc.wants)
			}
		})
	}
}

// TestOldAlertsAreVerifiedAsFarAsTheyGo: what retention took, or what was imported with a state, is no fault.
func TestOldAlertsAreVerifiedAsFarAsTheyGo(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	p := onBroker(b)
	b.CreateTopic(t, b.Name("alerts"), 1, nil)
	b.CreateTopic(t, b.Name("open"), 1, nil)
	b.Produce(t, b.Name("alerts"), stepOf("a", 2, "changed"), kafkatest.Record{Key: []byte("x"), Value: []byte("not json")})
	b.Produce(t, b.Name("open"), kafkatest.Record{Key: []byte("a"), Value: stepOf("a", 2, "changed").Value}, kafkatest.Record{Key: []byte("b"), Value: stepOf("b", 4, "changed").Value})
	code := p.run(t.Context(), "alerts", "verify", "-o", "json")
	var got map[string]any
	if err := json.Unmarshal(p.out.Bytes(), &got); err != nil || code != cli.Done {
		t.Fatalf("exit code %d: %s, %v", code, p.out.String(), err)
	}
	for k, want := range map[string]any{"ok": true, "steps": 1.0, "alerts": 1.0, "open": 2.0, "begun_before_the_topic": 2.0, "other_records": 1.0} {
		if got[k] != want {
			t.Errorf("%s is %v, want %v", k, got[k], want)
		}
	}
}
