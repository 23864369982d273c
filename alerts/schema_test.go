package alerts_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"testing"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/state/customer"
	"ebb/stream/event"
)

// schema is the part of JSON Schema that the schemas of this package use.
type schema struct {
	ID          string `json:"$id"`
	Ref         string `json:"$ref"`
	Type        string
	Format      string
	Pattern     string
	Enum        []string
	Minimum     *float64
	Maximum     *float64
	Required    []string
	Properties  map[string]*schema
	Items       *schema
	Defs        map[string]*schema `json:"$defs"`
	Title       string
	Description string
	Draft       string `json:"$schema"`
}

func readSchema(t *testing.T, name string) *schema {
	t.Helper()
	s := &schema{}
	if err := json.Unmarshal(alerts.SchemaFile(name), s); err != nil || s.ID != name {
		t.Fatalf("the schema %s: %v", name, err)
	}
	return s
}

// check appends what is wrong with a value. A member that the schema does not name is wrong too: it allows others to be added, but then it has to name them.
func (s *schema) check(root *schema, at string, value any, out []string) []string {
	if s.Ref != "" {
		def := root.Defs[s.Ref[len("#/$defs/"):]]
		if def == nil {
			return append(out, at+": "+s.Ref+" is not defined")
		}
		return def.check(root, at, value, out)
	}
	wrong := func(format string, args ...any) { out = append(out, at+": "+fmt.Sprintf(format, args...)) }
	switch v := value.(type) {
	case string:
		_, err := time.Parse(time.RFC3339, v)
		switch {
		case s.Type != "string":
			wrong("is a text, not %s", s.Type)
		case s.Enum != nil && !slices.Contains(s.Enum, v):
			wrong("%q is none of %v", v, s.Enum)
		case s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v):
			wrong("%q does not match %s", v, s.Pattern)
		case s.Format == "date-time" && err != nil:
			wrong("%v", err)
		}
	case float64:
		switch {
		case s.Type == "integer" && v != float64(int64(v)), s.Type != "integer" && s.Type != "number":
			wrong("%v is not %s", v, s.Type)
		case s.Minimum != nil && v < *s.Minimum, s.Maximum != nil && v > *s.Maximum:
			wrong("%v is out of range", v)
		}
	case []any:
		if s.Type != "array" {
			wrong("is a list, not %s", s.Type)
			break
		}
		for i, item := range v {
			out = s.Items.check(root, fmt.Sprintf("%s[%d]", at, i), item, out)
		}
	case map[string]any:
		if s.Type != "object" {
			wrong("is an object, not %s", s.Type)
			break
		}
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				wrong("lacks %s", name)
			}
		}
		if s.Properties == nil {
			break
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if p := s.Properties[name]; p != nil {
				out = p.check(root, at+"."+name, v[name], out)
			} else {
				wrong("has %s, which the schema does not name", name)
			}
		}
	default:
		wrong("%T is in no event", v)
	}
	return out
}

// conforms fails the test for a value that is not as its schema says. A tombstone is.
func (s *schema) conforms(t *testing.T, value []byte) {
	t.Helper()
	if value == nil {
		return
	}
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range s.check(s, "event", v, nil) {
		t.Errorf("%s: %s\n%s", s.ID, wrong, value)
	}
}

// A checker that finds nothing would prove nothing.
func TestTheSchemaRefusesWhatIsNoAlert(t *testing.T) {
	s := readSchema(t, alerts.AlertSchema)
	const sound = `"alert_id":"0123456789abcdef0123456789abcdef","revision":1,"status":"firing","step":"fired","detector":"silence","severity":"info","summary":"x",` +
		`"time":"2026-01-05T10:00:00Z","first_fired_at":"2026-01-05T10:00:00Z","evidence":{"a":null}`
	for value, want := range map[string]int{
		"{" + sound + "}":                                  0,
		"{" + sound + `,"new":1}`:                          1,
		"{" + sound + `,"money_at_risk":{"amount":"1"}}`:   1,
		"{" + sound + `,"observed":"1e5"}`:                 1,
		"{" + sound + `,"observed":7}`:                     1,
		"{" + sound + `,"horizon_days":1.5}`:               1,
		"{" + sound + `,"probability":1.5}`:                1,
		"{" + sound + `,"since":"yesterday"}`:              1,
		"{" + sound + `,"together":[{"severity":"dire"}]}`: 3,
		"{" + sound + `,"customer":[]}`:                    1,
		"{" + sound + `,"outcome":"won"}`:                  1,
		`{}`:                                               len(s.Required),
		`[]`:                                               1,
	} {
		var v any
		if err := json.Unmarshal([]byte(value), &v); err != nil {
			t.Fatal(err)
		}
		if got := s.check(s, "event", v, nil); len(got) != want {
			t.Errorf("%s: %q, want %d faults", value, got, want)
		}
	}
	if alerts.SchemaFile("urn:ebb:schema:other:v1") != nil {
		t.Error("there is a schema of a name that nothing bears")
	}
}

func TestAlertsAboutManyCustomersConform(t *testing.T) {
	set, err := detectors.NewSet(contract())
	if err != nil {
		t.Fatal(err)
	}
	p := alerts.New(alerts.Config{Group: "ebb", Detectors: set, ConfigHash: "c0ffee"})
	s := readSchema(t, alerts.AlertSchema)
	step := alerts.WideStep{Severity: alerts.Critical, Revision: 1, At: t0 + 5, Opened: t0, By: "kim", Note: "seen", Work: customer.Work{AcknowledgedAt: t0 + 3, AcknowledgedBy: "kim", SnoozedUntil: t0 + 9}}
	for _, x := range []alerts.Wide{
		&alerts.Cohort{WideStep: step, Finding: cohorts.Finding{
			Key: cohorts.Key{By: cohorts.Owner, Value: "kim"}, Day: 20000, Days: 7, Active: 90, Leavers: 9, AtRisk: 5 * event.MoneyUnit, ByOwn: 1, ByOthers: 2, Chance: 1e-6, Limit: 1e-5,
			Since: 19995, Members: []cohorts.Member{{Day: 19999, Customer: "c-1", Detector: "silence", AtRisk: event.MoneyUnit}},
		}, FalseAlarms: 0.5},
		&alerts.Total{WideStep: step},
		&alerts.Intake{WideStep: step, Began: t0 - 9},
	} {
		for _, kind := range alerts.StepKinds() {
			c := x.Copy()
			c.Common().Next(kind, "", t0+6)
			alert, open := p.WideMessage(c)
			s.conforms(t, alert.Value)
			s.conforms(t, open.Value)
		}
	}
}
