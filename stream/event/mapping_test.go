package event

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// readMapping reads a mapping as the configuration does: strictly.
func readMapping(t *testing.T, text string) *Mapping {
	t.Helper()
	m := &Mapping{}
	if err := yaml.NewDecoder(strings.NewReader(text), yaml.Strict()).Decode(m); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return m
}

const mapPayments = `
fields:
  customer_id: user.id
  time: at
  type: what
  amount: sum
  currency: cur
`

func TestMapping(t *testing.T) {
	for _, c := range []struct {
		rule, mapping, record string
		feed                  Feed
		want                  string // show(event), or a Reason, or "ignored"
	}{
		{
			rule: "nested names, minor units, epoch seconds", feed: Payments,
			mapping: mapPayments + "types: {paid: purchase}\ntime: {format: epoch_s}\namount: {minor_units: true}",
			record:  `{"user":{"id":"c"},"at":1767607200,"what":"paid","sum":4990,"cur":"eur"}`,
			want:    "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z Customer=c Amount=49.90 Currency=EUR Notes=no_id",
		},
		{
			rule: "the minor unit is that of the currency", feed: Payments,
			mapping: mapPayments + "amount: {minor_units: true}",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"purchase","sum":"4990","cur":"JPY"}`,
			want:    "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z Customer=c Amount=4990.00 Currency=JPY Notes=no_id",
		},
		{
			rule: "unless the mapping says otherwise, by currency", feed: Payments,
			mapping: mapPayments + "amount: {minor_units: true, decimals: 3, decimals_by_currency: {isk: 2}}",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"purchase","sum":4990,"cur":"ISK"}`,
			want:    "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z Customer=c Amount=49.90 Currency=ISK Notes=no_id",
		},
		{
			rule: "a comma before the decimals", feed: Payments,
			mapping: mapPayments + "decimal_comma: true",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"purchase","sum":"1.234,56","cur":"EUR"}`,
			want:    "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z Customer=c Amount=1234.56 Currency=EUR Notes=no_id",
		},
		{
			rule: "is one of texts: a number of JSON has its point before the decimals", feed: Payments,
			mapping: mapPayments + "decimal_comma: true",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"purchase","sum":1.234,"cur":"EUR"}`,
			want:    "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z Customer=c Amount=1.234 Currency=EUR Notes=no_id",
		},
		{
			rule: "and a text with a point there is refused", feed: Payments,
			mapping: mapPayments + "decimal_comma: true",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"purchase","sum":"10.84","cur":"EUR"}`,
			want:    string(ReasonAmountInvalid),
		},
		{
			rule: "as is a comma without it", feed: Payments,
			mapping: mapPayments,
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"purchase","sum":"10,84","cur":"EUR"}`,
			want:    string(ReasonAmountInvalid),
		},
		{
			rule: "it holds for what is taken off and for balances", feed: Payments,
			mapping: strings.Replace(mapPayments, "amount: sum", "amount: {path: sum, minus: off}\n  balance_after: left", 1) + "decimal_comma: true",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"purchase","sum":"12,5","off":"0,75","left":"-1 000,25","cur":"EUR"}`,
			want:    "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z Customer=c Amount=11.75 Currency=EUR Balance=-1000.25 Balanced=true Notes=no_id",
		},
		{
			rule: "and for quantities", feed: Usage,
			mapping: "decimal_comma: true",
			record:  `{"customer_id":"c","time":"2026-01-05T10:00:00Z","type":"session","quantity":"12,5"}`,
			want:    "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z Customer=c Quantity=12.50 Notes=no_id",
		},
		{
			rule: "or for all", feed: Payments,
			mapping: mapPayments + "amount: {minor_units: true, decimals: 8}",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"purchase","sum":123456789,"cur":"BTC"}`,
			want:    "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z Customer=c Amount=1.2346 Currency=BTC Notes=rounded,no_id",
		},
		{
			rule: "signed: a negative purchase is a refund", feed: Payments,
			mapping: mapPayments + "amount: {signed: true}",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"purchase","sum":-12.5}`,
			want:    "Feed=payments Kind=refund Time=2026-01-05T10:00:00Z Customer=c Amount=12.50 Notes=no_id",
		},
		{
			rule: "signed: a refund booked as a negative amount", feed: Payments,
			mapping: mapPayments + "amount: {signed: true}",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"refund","sum":-12.5}`,
			want:    "Feed=payments Kind=refund Time=2026-01-05T10:00:00Z Customer=c Amount=12.50 Notes=no_id",
		},
		{
			rule: "signed: other kinds stay positive", feed: Payments,
			mapping: mapPayments + "amount: {signed: true}",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"deposit","sum":-12.5}`,
			want:    string(ReasonAmountNegative),
		},
		{
			rule: "types: the contract's own names stay known beside the table", feed: Payments,
			mapping: mapPayments + "types: {paid: purchase}",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"purchase","sum":1}`,
			want:    "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z Customer=c Amount=1.00 Notes=no_id",
		},
		{
			rule: "types: what the table does not list is refused", feed: Payments,
			mapping: mapPayments + "types: {paid: purchase}",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"gifted","sum":1}`,
			want:    string(ReasonUnknownType),
		},
		{
			rule: "types: * ignore leaves out the rest, though it has no customer", feed: Payments,
			mapping: mapPayments + `types: {paid: purchase, "*": ignore}`,
			record:  `{"what":"purchase"}`,
			want:    "ignored",
		},
		{
			rule: "types: fields that are read elsewhere for one type, and a difference of amounts", feed: Payments,
			mapping: mapPayments + "types: {returned: {type: refund, amount: {path: back.total, minus: back.before}}}",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"returned","sum":9,"back":{"total":"5.00","before":1.25}}`,
			want:    "Feed=payments Kind=refund Time=2026-01-05T10:00:00Z Customer=c Amount=3.75 Notes=no_id",
		},
		{
			rule: "what is taken off may be absent", feed: Payments,
			mapping: mapPayments + "types: {returned: {type: refund, amount: {path: back.total, minus: back.before}}}",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"returned","sum":9,"back":{"total":"5.00"}}`,
			want:    "Feed=payments Kind=refund Time=2026-01-05T10:00:00Z Customer=c Amount=5.00 Notes=no_id",
		},
		{
			rule: "what is taken off must be a number", feed: Payments,
			mapping: mapPayments + "types: {returned: {type: refund, amount: {path: back.total, minus: back.before}}}",
			record:  `{"user":{"id":"c"},"at":"2026-01-05T10:00:00Z","what":"returned","back":{"total":"5.00","before":[]}}`,
			want:    string(ReasonAmountInvalid),
		},
		{
			rule: "the first path that has a value", feed: Usage,
			mapping: "fields: {customer_id: [account, user.id], time: at, quantity: [n, m]}",
			record:  `{"account":null,"user":{"id":7},"at":"2026-01-05T10:00:00Z","n":"","m":2}`,
			want:    "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z Customer=7 Quantity=2.00 Notes=no_id",
		},
		{
			rule: "constants", feed: Payments,
			mapping: "fields: {customer_id: c, time: t, type: {const: purchase}, amount: {const: 9.99}, currency: {const: CHF}, initiator: {const: bank}}",
			record:  `{"c":"c","t":"2026-01-05T10:00:00Z"}`,
			want:    "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z Customer=c Amount=9.99 Currency=CHF Initiator=bank Notes=no_id",
		},
		{
			rule: "a name with a dot", feed: Usage,
			mapping: `fields: {customer_id: 'user\.id', time: 'a\\b'}`,
			record:  `{"user.id":"c","a\\b":"2026-01-05T10:00:00Z"}`,
			want:    "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z Customer=c Notes=no_id",
		},
		{
			rule: "a name with a quote, a backslash and a letter beyond ASCII", feed: Usage,
			mapping: `fields: {customer_id: 'ü"\b', time: t}`,
			record:  `{"\u00fc\"\\b":"c","t":"2026-01-05T10:00:00Z"}`,
			want:    "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z Customer=c Notes=no_id",
		},
		{
			rule: "an object that comes twice: the last one counts, with all it has and has not", feed: Usage,
			mapping: "fields: {customer_id: d.c, time: d.t, quantity: d.e.q}",
			record:  `{"d":{"c":"a","t":"2026-01-05T10:00:00Z","e":{"q":1}},"d":{"c":"b","t":"2026-01-06T10:00:00Z"}}`,
			want:    "Feed=usage Kind=usage Time=2026-01-06T10:00:00Z Customer=b Notes=no_id",
		},
		{
			rule: "an object that is no longer one", feed: Usage,
			mapping: "fields: {customer_id: d.c, time: t}",
			record:  `{"d":{"c":"a"},"t":"2026-01-05T10:00:00Z","d":[{"c":"a"}]}`,
			want:    string(ReasonCustomerMissing),
		},
		{
			rule: "paths do not reach into arrays, nor through null", feed: Usage,
			mapping: "fields: {customer_id: d.c, time: t, quantity: q.n}",
			record:  `{"d":{"c":"a"},"t":"2026-01-05T10:00:00Z","q":null}`,
			want:    "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z Customer=a Notes=no_id",
		},
		{
			rule: "tables of values", feed: Complaints,
			mapping: "fields: {customer_id: c, time: t, type: k, complaint_id: n, priority: p, actor: a}\npriorities: {\"1\": critical, P2: urgent}\nactors: {staff: agent}",
			record:  `{"c":"c","t":"2026-01-05T10:00:00Z","k":"opened","n":5,"p":1,"a":"staff"}`,
			want:    "Feed=complaints Kind=opened Time=2026-01-05T10:00:00Z Customer=c ComplaintID=5 Priority=critical Actor=agent Notes=no_id",
		},
		{
			rule: "tables of outcomes and initiators; a value that is not listed is the contract's own", feed: Usage,
			mapping: "fields: {customer_id: c, time: t, outcome: o, initiator: i}\noutcomes: {\"1\": abandoned}\ninitiators: {\"true\": bank}",
			record:  `{"c":"c","t":"2026-01-05T10:00:00Z","o":"failed","i":true}`,
			want:    "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z Customer=c Outcome=failed Initiator=bank Notes=no_id",
		},
		{
			rule: "a type with a second value", feed: Complaints,
			mapping: "fields: {customer_id: c, time: t, type: {path: k, and: [s.now, by]}, complaint_id: n}\ntypes: {status/solved: resolved, status/solved/robot: closed, status: note}",
			record:  `{"c":"c","t":"2026-01-05T10:00:00Z","k":"status","s":{"now":"solved"},"n":5}`,
			want:    "Feed=complaints Kind=resolved Time=2026-01-05T10:00:00Z Customer=c ComplaintID=5 Notes=no_id",
		},
		{
			rule: "a type whose second value is not listed", feed: Complaints,
			mapping: "fields: {customer_id: c, time: t, type: {path: k, and: [s.now, by]}, complaint_id: n}\ntypes: {status/solved: resolved, status/solved/robot: closed, status: paused}",
			record:  `{"c":"c","t":"2026-01-05T10:00:00Z","k":"status","s":{"now":"pending"},"by":false,"n":5}`,
			want:    "Feed=complaints Kind=paused Time=2026-01-05T10:00:00Z Customer=c ComplaintID=5 Notes=no_id",
		},
		{
			rule: "a usage type may carry an outcome", feed: Usage,
			mapping: "types: {dropped_calls: {type: usage, outcome: {const: dropped}}, retention_calls: ignore}",
			record:  `{"customer_id":"c","time":"2026-01-05T10:00:00Z","type":"dropped_calls"}`,
			want:    "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z Customer=c Outcome=dropped Notes=no_id",
		},
		{
			rule: "a usage type that is ignored", feed: Usage,
			mapping: "types: {dropped_calls: {type: usage, outcome: {const: dropped}}, retention_calls: ignore}",
			record:  `{"customer_id":"c","time":"2026-01-05T10:00:00Z","type":"retention_calls"}`,
			want:    "ignored",
		},
		{
			rule: "without fields the record has the contract's own names; epochs are rounded to the millisecond", feed: Payments,
			mapping: "types: {sale: purchase}\ntime: {format: epoch_ms}",
			record:  `{"id":"p","customer_id":"c","time":"1767607200123.9","type":"sale","amount":1}`,
			want:    "Feed=payments Kind=purchase Time=2026-01-05T10:00:00.124Z ID=p Customer=c Amount=1.00",
		},
		{
			rule: "a layout with a zone beside it, in summer", feed: Usage,
			mapping: "time: {format: '02.01.2006 15:04:05', zone: Europe/Berlin}",
			record:  `{"id":"u","customer_id":"c","time":"05.07.2026 12:00:00"}`,
			want:    "Feed=usage Kind=usage Time=2026-07-05T10:00:00Z ID=u Customer=c",
		},
		{
			rule: "a layout with its own zone", feed: Usage,
			mapping: "time: {format: '2006-01-02 15:04:05 -0700'}",
			record:  `{"id":"u","customer_id":"c","time":"2026-01-05 12:00:00 +0200"}`,
			want:    "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z ID=u Customer=c",
		},
		{
			rule: "a layout that the record does not have", feed: Usage,
			mapping: "time: {format: '2006-01-02', zone: UTC}",
			record:  `{"id":"u","customer_id":"c","time":"2026-01-05T10:00:00Z"}`,
			want:    string(ReasonTimeInvalid),
		},
		{
			rule: "RFC 3339 without a zone, where the mapping names one", feed: Usage,
			mapping: "time: {zone: America/New_York}",
			record:  `{"id":"u","customer_id":"c","time":"2026-01-05T10:00:00.5"}`,
			want:    "Feed=usage Kind=usage Time=2026-01-05T15:00:00.5Z ID=u Customer=c",
		},
		{
			rule: "an epoch that is none", feed: Usage, mapping: "time: {format: epoch_s}",
			record: `{"customer_id":"c","time":"2026-01-05T10:00:00Z"}`, want: string(ReasonTimeInvalid),
		},
		{
			rule: "milliseconds taken for seconds are out of range", feed: Usage, mapping: "time: {format: epoch_s}",
			record: `{"customer_id":"c","time":1767607200000}`, want: string(ReasonTimeOutOfRange),
		},
		{
			rule: "an epoch too large to count", feed: Usage, mapping: "time: {format: epoch_s}",
			record: `{"customer_id":"c","time":1e300}`, want: string(ReasonTimeOutOfRange),
		},
		{
			rule: "a missing time falls back to the record's timestamp", feed: Usage, mapping: "time: {missing: record_timestamp}",
			record: `{"id":"u","customer_id":"c"}`,
			want:   "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z ID=u Customer=c",
		},
		{
			rule: "a time that cannot be read does not", feed: Usage, mapping: "time: {missing: record_timestamp}",
			record: `{"id":"u","customer_id":"c","time":"soon"}`, want: string(ReasonTimeInvalid),
		},
		{
			rule: "CloudEvents in structured mode, id and time of the envelope", feed: Payments, mapping: "cloudevents: true",
			record: `{"specversion":"1.0","id":"e-1","source":"/shop","type":"com.shop.paid","time":"2026-01-05T10:00:00Z","data":{"customer_id":"c","type":"purchase","amount":1}}`,
			want:   "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z ID=e-1 Customer=c Amount=1.00",
		},
		{
			rule: "CloudEvents: what the data says goes before the envelope", feed: Payments, mapping: "cloudevents: true",
			record: `{"id":"e-1","data":{"id":"p-1","time":"2026-01-05T11:00:00Z","customer_id":"c","type":"purchase","amount":1,"novel":1},"time":"2026-01-05T10:00:00Z","novel":1}`,
			want:   "Feed=payments Kind=purchase Time=2026-01-05T11:00:00Z ID=p-1 Customer=c Amount=1.00 Notes=unknown_field",
		},
		{
			rule: "CloudEvents: attributes by name", feed: Payments,
			mapping: "cloudevents: true\nfields: {id: 'ce:id', customer_id: 'ce:subject', time: 'ce:time', type: 'ce:type', amount: total}\ntypes: {com.shop.paid: purchase}",
			record:  `{"id":"e-1","subject":"c","type":"com.shop.paid","time":"2026-01-05T10:00:00Z","data":{"total":"1.5"}}`,
			want:    "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z ID=e-1 Customer=c Amount=1.50",
		},
		{
			rule: "CloudEvents without data", feed: Payments, mapping: "cloudevents: true",
			record: `{"id":"e-1","type":"com.shop.paid","time":"2026-01-05T10:00:00Z","data_base64":"e30="}`, want: string(ReasonTypeMissing),
		},
	} {
		t.Run(c.rule, func(t *testing.T) {
			d := mustDecoder(t, c.feed, readMapping(t, c.mapping), Limits{})
			for range 2 {
				var e Event
				err := d.Decode(Position{Topic: "t", Timestamp: ms(t, "2026-01-05T10:00:00Z")}, nil, []byte(c.record), &e)
				if got := outcome(&e, err); got != c.want {
					t.Fatalf("got  %s\nwant %s", got, c.want)
				}
			}
		})
	}
}

// outcome writes what became of a record.
func outcome(e *Event, err error) string {
	var r *Reject
	switch {
	case err == nil:
		return show(e)
	case errors.Is(err, ErrIgnored):
		return "ignored"
	case errors.As(err, &r):
		return string(r.Reason)
	default:
		return err.Error()
	}
}

func TestLastTypeDoesNotStick(t *testing.T) {
	d := mustDecoder(t, Complaints, nil, Limits{})
	// The rule of the last type is kept for the next record: it must not outlive that type.
	for _, c := range []struct{ kind, want string }{{"opened", "opened"}, {"resolved", "resolved"}, {"x", "note"}, {"opened", "opened"}, {"x", "note"}, {"x", "note"}} {
		var e Event
		if err := d.Decode(Position{}, nil, []byte(`{"customer_id":"c","time":"2026-01-05T10:00:00Z","complaint_id":"T","type":"`+c.kind+`"}`), &e); err != nil || e.Kind.String() != c.want {
			t.Errorf("%s is a %s, %v; want %s", c.kind, e.Kind, err, c.want)
		}
	}
}

func TestMappingFaults(t *testing.T) {
	for _, c := range []struct {
		rule, mapping string
		feed          Feed
		want          []string // path: part of the message
	}{
		{"a mapping of nothing is the contract", "{}", Usage, nil},
		{"fields without the core", "fields: {amount: a}", Payments, []string{
			"fields: customer_id: missing", "fields: time: missing", "fields: type: missing",
		}},
		{"the core may come from key and timestamp, usage needs no type", "fields: {quantity: q}\nkey: customer\ntime: {missing: record_timestamp}", Usage, nil},
		{"a field that the feed does not have", "fields: {customer_id: c, time: t, amount: a, colour: b}", Usage, []string{
			"fields: amount: the usage feed has no such field; it reads id, customer_id", "fields: colour: the usage feed",
		}},
		{"paths that are none", "fields: {customer_id: a..b, time: '', id: '.x', quantity: 'ce:type'}", Usage, []string{
			`fields: customer_id: "a..b" is not a path`, `fields: id: ".x"`, `fields: quantity: "ce:type" is an attribute`, `fields: time: "" is not a path`,
		}},
		{"and and minus where they mean nothing", "fields: {customer_id: {path: c, and: d}, time: {path: t, minus: u}}", Usage, []string{
			`fields: customer_id: "and" is only for type`, `fields: time: "minus" is only for amount`,
		}},
		{"an empty constant", "fields: {customer_id: c, time: t, outcome: {const: ''}}", Usage, []string{"fields: outcome: an empty constant"}},
		{"types that the contract does not have", "types: {paid: bought, x: opened, '*': drop}", Payments, []string{
			`types: *: "drop" is no type of the payments feed: write purchase, charge`, `types: paid: "bought"`, `types: x: "opened"`,
		}},
		{"a type's own fields are checked too", "types: {paid: {type: purchase, amount: a.., colour: b, customer_id: c}}", Payments, []string{
			`types: paid: amount: "a.." is not a path`, "types: paid: colour: the payments feed", "types: paid: customer_id: customer_id is the same for all types",
		}},
		{"profiles have no types", "types: {x: profile}", Customers, []string{"types: records of the customers feed have no type"}},
		{"values that the contract does not have", "priorities: {P1: top}\noutcomes: {x: good}\ninitiators: {y: me}\nactors: {z: robot}", Complaints, []string{
			`priorities: P1: "top" is not one of low, normal`, `outcomes: x: "good"`, `initiators: y: "me"`, `actors: z: "robot"`,
		}},
		{"modes", "key: other\ntombstone: delete\ntime: {missing: now}", Usage, []string{
			`key: write "check", "customer" or "ignore"`, `tombstone: write`, `time: missing: write`,
		}},
		{"a layout without a zone", "time: {format: '2006-01-02 15:04'}", Usage, []string{"time: format: the layout has no zone"}},
		{"a layout without a date", "time: {format: '15:04', zone: UTC}", Usage, []string{"time: format: \"15:04\" does not hold a whole date"}},
		{"a layout in another notation", "time: {format: '%Y-%m-%d', zone: UTC}", Usage, []string{"time: format: \"%Y-%m-%d\" does not hold a whole date"}},
		{"a layout with an abbreviated zone", "time: {format: '2006-01-02 15:04 MST'}", Usage, []string{"time: format: abbreviations of zones are ambiguous"}},
		{"an unknown zone", "time: {zone: Europe/Atlantis}", Usage, []string{`time: zone: "Europe/Atlantis" is no IANA time zone`}},
		{"this machine's zone is no zone", "time: {zone: Local}", Usage, []string{`time: zone: "Local"`}},
		{"amounts where there are none", "amount: {signed: true}", Usage, []string{"amount: only the payments feed has amounts"}},
		{"decimals", "amount: {decimals: 13, decimals_by_currency: {EURO: 2, JPY: -1}}", Payments, []string{
			"amount: decimals are those of minor units", "amount: decimals: write a number from 0 to 12",
			"amount: decimals_by_currency: EURO: not a currency code", "amount: decimals_by_currency: JPY: write a number",
		}},
		{"too many paths", "fields: {customer_id: c, time: t, quantity: [" + strings.Join(letters(80), ", ") + "]}", Usage, []string{
			"fields: quantity: this path and those after it are too many",
		}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			_, err := NewDecoder(c.feed, readMapping(t, c.mapping), Limits{})
			var got []error
			if j, ok := err.(interface{ Unwrap() []error }); ok {
				got = j.Unwrap()
			}
			for _, e := range got {
				var m *MappingError
				i := slices.IndexFunc(c.want, func(w string) bool { return strings.HasPrefix(e.Error(), w) })
				if !errors.As(e, &m) || i < 0 {
					t.Errorf("an unexpected fault: %v", e)
					continue
				}
				c.want = slices.Delete(slices.Clone(c.want), i, i+1)
			}
			if len(c.want) > 0 {
				t.Errorf("not said: %q, only %v", c.want, err)
			}
		})
	}
}

func letters(n int) []string {
	var out []string
	for i := range n {
		out = append(out, "p"+string(rune('a'+i/26))+string(rune('a'+i%26)))
	}
	return out
}

func TestMappingSyntaxFaults(t *testing.T) {
	for _, c := range []struct{ rule, mapping string }{
		{"an unknown key", "felds: {}"},
		{"an unknown key of a field", "fields: {id: {pth: x}}"},
		{"a constant beside a path", "fields: {id: {const: x, path: y}}"},
		{"a constant that is no scalar", "fields: {id: {const: [x]}}"},
		{"a path that is no scalar", "fields: {id: {path: {a: b}}}"},
		{"a list of lists", "fields: {id: [[a]]}"},
		{"no path", "fields: {id: {and: x}}"},
		{"a type without a type", "types: {x: {amount: y}}"},
		{"a list of types", "types: {x: [opened, closed]}"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if err := yaml.NewDecoder(strings.NewReader(c.mapping), yaml.Strict()).Decode(&Mapping{}); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestMappingIsWrittenAsItIsRead(t *testing.T) {
	text := `cloudevents: true
key: ignore
fields:
  amount:
    path:
    - a
    - b
    minus: c
  customer_id: user.id
  time:
  - t1
  - t2
  type:
    path: k
    and:
    - s
  currency:
    const: EUR
types:
  "*": ignore
  paid: purchase
  returned:
    amount: back
    type: refund
time:
  format: epoch_s
amount:
  minor_units: true
  decimals: 0
`
	m := readMapping(t, text)
	out, err := yaml.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	again, err := yaml.Marshal(readMapping(t, string(out)))
	if err != nil || !bytes.Equal(out, again) {
		t.Errorf("written\n%s\nand again\n%s\n%v", out, again, err)
	}
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if !strings.Contains(string(out), strings.Trim(strings.TrimSpace(line), `"-* `)) {
			t.Errorf("%q is lost in\n%s", line, out)
		}
	}
	mustDecoder(t, Payments, m, Limits{})
}

// TestLearnedOrderIsStrict: a name that has to be written with escapes must not be accepted without them once the order
// of the record's names is known.
func TestLearnedOrderIsStrict(t *testing.T) {
	d := mustDecoder(t, Usage, readMapping(t, `fields: {customer_id: 'a"b', time: 'c\\d'}`), Limits{})
	var e Event
	for range 2 {
		if err := d.Decode(Position{}, nil, []byte(`{"a\"b":"c","c\\d":"2026-01-05T10:00:00Z"}`), &e); err != nil {
			t.Fatal(err)
		}
	}
	var r *Reject
	if err := d.Decode(Position{}, nil, []byte(`{"a"b":"c","c\\d":"2026-01-05T10:00:00Z"}`), &e); !errors.As(err, &r) || r.Reason != ReasonNotJSON {
		t.Errorf("a bare quote in a name: %v", err)
	}
	if err := d.Decode(Position{}, nil, []byte(`{"a\"b":"c","c\d":"2026-01-05T10:00:00Z"}`), &e); !errors.As(err, &r) || r.Reason != ReasonNotJSON {
		t.Errorf("a bare backslash in a name: %v", err)
	}
}

// Who reads a reject knows what he wrote, but not what was wanted: the message says it, in the terms of the mapping that holds.
func TestRejectsSayWhichFormIsWanted(t *testing.T) {
	const fields = "fields: {customer_id: c, time: t, type: {const: purchase}, amount: a}\n"
	for _, c := range []struct {
		name, mapping, time, amount string
		want                        []string
		not                         string
	}{
		{"a point for the decimals", "time: {zone: UTC}", "2026-01-05T10:00:00Z", "1.867,25", []string{"such as 1234.50", "set decimal_comma: true"}, ""},
		{"a comma, and a point is there", "decimal_comma: true", "2026-01-05T10:00:00Z", "1867.25", []string{"such as 1.234,50", "without a sign of the currency"}, "set decimal_comma"},
		{"a comma, and a currency is there", "decimal_comma: true", "2026-01-05T10:00:00Z", "1.867,25 €", []string{"such as 1.234,50", "without a sign of the currency"}, "set decimal_comma"},
		{"RFC 3339", "", "05.01.2026", "1", []string{"RFC 3339, such as 2026-01-31T14:30:00Z", "mapping.time.format"}, ""},
		{"RFC 3339 with a zone", "", "2026-01-05T10:00:00", "1", []string{"no zone", "mapping.time.zone"}, ""},
		{"a layout", `time: {format: "02.01.2006", zone: UTC}`, "2026-01-05T10:00:00Z", "1", []string{`"02.01.2006"`, "mapping.time.format"}, ""},
		{"seconds", "time: {format: epoch_s}", "2026-01-05T10:00:00Z", "1", []string{"count of seconds", "mapping.time.format"}, ""},
		{"milliseconds", "time: {format: epoch_ms}", "2026-01-05T10:00:00Z", "1", []string{"count of milliseconds", "mapping.time.format"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := mustDecoder(t, Payments, readMapping(t, fields+c.mapping), Limits{})
			var e Event
			var r *Reject
			err := d.Decode(Position{}, nil, []byte(`{"c":"k","t":"`+c.time+`","a":"`+c.amount+`"}`), &e)
			if !errors.As(err, &r) {
				t.Fatalf("got %v, want a Reject", err)
			}
			for _, want := range c.want {
				if !strings.Contains(r.Message, want) {
					t.Errorf("%q is not said: %s", want, r.Message)
				}
			}
			if strings.Contains(r.Message, c.time) || strings.Contains(r.Message, c.amount) && len(c.amount) > 1 || c.not != "" && strings.Contains(r.Message, c.not) {
				t.Errorf("said is %s", r.Message)
			}
		})
	}
}
