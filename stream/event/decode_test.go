package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
)

// ms is an instant as an event has it.
func ms(t *testing.T, s string) int64 {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMilli()
}

func mustDecoder(t testing.TB, f Feed, m *Mapping, lim Limits) *Decoder {
	t.Helper()
	d, err := NewDecoder(f, m, lim)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// show writes an event for people: only what is set, slices as text.
func show(e *Event) string {
	v := reflect.ValueOf(*e)
	var out []string
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		if f.IsZero() && name != "Feed" || name == "IDHash" {
			continue
		}
		switch x := f.Interface().(type) {
		case []byte:
			out = append(out, fmt.Sprintf("%s=%s", name, x))
		case int64:
			out = append(out, fmt.Sprintf("%s=%s", name, time.UnixMilli(x).UTC().Format(time.RFC3339Nano)))
		case *Profile:
			out = append(out, fmt.Sprintf("%s=%+v", name, *x))
		case *Act:
			out = append(out, fmt.Sprintf("%s=%+v", name, *x))
		default:
			out = append(out, fmt.Sprintf("%s=%v", name, x))
		}
	}
	return strings.Join(out, " ")
}

func TestDecodeContract(t *testing.T) {
	for _, c := range []struct {
		rule, record, want string
		feed               Feed
	}{
		{
			rule: "a use of the product", feed: Usage, record: usageRecord,
			want: "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z ID=u-17 Customer=c-000042 Quantity=12.50",
		},
		{
			rule: "usage types are free text, and may be missing", feed: Usage,
			record: `{"id":"u","customer_id":"c","time":"2026-01-05T10:00:00+01:00","outcome":"dropped"}`,
			want:   "Feed=usage Kind=usage Time=2026-01-05T09:00:00Z ID=u Customer=c Outcome=dropped",
		},
		{
			rule: "a total over a period", feed: Usage,
			record: `{"id":"u","customer_id":"c","time":"2026-02-01T00:00:00Z","aggregate":true,"quantity":310,"period_start":"2026-01-01T00:00:00Z","period_end":"2026-02-01T00:00:00Z"}`,
			want:   "Feed=usage Kind=usage Time=2026-02-01T00:00:00Z ID=u Customer=c Quantity=310.00 Aggregate=true PeriodStart=2026-01-01T00:00:00Z PeriodEnd=2026-02-01T00:00:00Z",
		},
		{
			rule: "a quantity that cannot be read is noted: the use still happened", feed: Usage,
			record: `{"id":"u","customer_id":"c","time":"2026-01-05T10:00:00Z","quantity":"lots"}`,
			want:   "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z ID=u Customer=c Notes=invalid_field",
		},
		{
			rule: "a purchase", feed: Payments, record: paymentRecord,
			want: "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z ID=p-17 Customer=c-000042 Amount=49.90 Currency=EUR",
		},
		{
			rule: "an amount as text with an exponent, a currency in lower case, a payment by the bank", feed: Payments,
			record: `{"id":"p","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"charge","amount":"4.99e1","currency":"usd","initiator":"bank"}`,
			want:   "Feed=payments Kind=charge Time=2026-01-05T10:00:00Z ID=p Customer=c Amount=49.90 Currency=USD Initiator=bank",
		},
		{
			rule: "more than four decimals are rounded half to even and noted", feed: Payments,
			record: `{"id":"p","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"purchase","amount":0.12345}`,
			want:   "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z ID=p Customer=c Amount=0.1234 Notes=rounded",
		},
		{
			rule: "another currency is never refused, nor is something that is none", feed: Payments,
			record: `{"id":"p","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"purchase","amount":1,"currency":"gold"}`,
			want:   "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z ID=p Customer=c Amount=1.00 Currency=XXX Notes=unknown_currency",
		},
		{
			rule: "a failed charge needs no amount", feed: Payments,
			record: `{"id":"p","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"charge_failed","failure_code":"x","attempt":2,"next_attempt_at":null}`,
			want:   "Feed=payments Kind=charge_failed Time=2026-01-05T10:00:00Z ID=p Customer=c Attempt=2 FailureCode=x",
		},
		{
			rule: "a payment that will be tried again", feed: Payments,
			record: `{"id":"p","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"charge_failed","recurring":true,"attempt":"1","next_attempt_at":"2026-01-08T10:00:00Z"}`,
			want:   "Feed=payments Kind=charge_failed Time=2026-01-05T10:00:00Z ID=p Customer=c Recurring=true Attempt=1 NextAttempt=2026-01-08T10:00:00Z",
		},
		{
			rule: "what a payment is for", feed: Payments,
			record: `{"id":"p","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"purchase","amount":1,"product":"espresso","category":"coffee"}`,
			want:   "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z ID=p Customer=c Amount=1.00 Product=espresso Category=coffee",
		},
		{
			rule: "an invoice that is due on a day", feed: Payments,
			record: `{"id":"p","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"invoice_issued","amount":120,"due":"2026-02-04"}`,
			want:   "Feed=payments Kind=invoice_issued Time=2026-01-05T10:00:00Z ID=p Customer=c Amount=120.00 Due=2026-02-04T00:00:00Z",
		},
		{
			rule: "a purchase under an offer, from an account that is overdrawn by it", feed: Payments,
			record: `{"id":"p","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"purchase","amount":9,"promotion":{"id":"jan","ends_at":"2026-02-01","terms":[1]},"balance_after":-3.5}`,
			want:   "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z ID=p Customer=c Amount=9.00 Promotion=jan PromotionEnds=2026-02-01T00:00:00Z Balance=-3.50 Balanced=true",
		},
		{
			rule: "details of a payment that cannot be read are noted, and the payment counts", feed: Payments,
			record: `{"id":"p","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"purchase","amount":9,"attempt":-1,"next_attempt_at":"soon","balance_after":"much"}`,
			want:   "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z ID=p Customer=c Amount=9.00 Notes=invalid_field",
		},
		{
			rule: "an attempt is a whole number below 65536", feed: Payments,
			record: `{"id":"p","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"purchase","amount":9,"attempt":65536,"promotion":"jan","due":"soon"}`,
			want:   "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z ID=p Customer=c Amount=9.00 Notes=invalid_field",
		},
		{
			rule: "a balance may be negative: it is a level, not a payment", feed: Payments,
			record: `{"id":"p","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"balance","amount":-812.5}`,
			want:   "Feed=payments Kind=balance Time=2026-01-05T10:00:00Z ID=p Customer=c Amount=-812.50 Balance=-812.50 Balanced=true",
		},
		{
			rule: "an opened complaint", feed: Complaints, record: complaintRecord,
			want: "Feed=complaints Kind=opened Time=2026-01-05T10:00:00Z ID=k-17 Customer=c-000042 ComplaintID=T-9 Priority=high",
		},
		{
			rule: "everything of a complaint", feed: Complaints,
			record: `{"id":"k","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"escalated","complaint_id":9,"priority":"CRITICAL","level":3,"actor":"customer","due":"2026-01-06T10:00:00Z","linked_id":"T-8","category":"bill","group":"desk 1","score":4.5}`,
			want:   "Feed=complaints Kind=escalated Time=2026-01-05T10:00:00Z ID=k Customer=c ComplaintID=9 Priority=critical Level=3 Actor=customer Due=2026-01-06T10:00:00Z LinkedID=T-8 Category=bill Group=desk 1 Score=4.50 Scored=true",
		},
		{
			rule: "an opened complaint without a priority is normal, a later step without one leaves it as it is", feed: Complaints,
			record: `{"id":"k","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"responded","complaint_id":"T-9"}`,
			want:   "Feed=complaints Kind=responded Time=2026-01-05T10:00:00Z ID=k Customer=c ComplaintID=T-9",
		},
		{
			rule: "an unknown priority is normal and noted", feed: Complaints,
			record: `{"id":"k","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"opened","complaint_id":"T-9","priority":"P1"}`,
			want:   "Feed=complaints Kind=opened Time=2026-01-05T10:00:00Z ID=k Customer=c ComplaintID=T-9 Priority=normal Notes=unknown_priority",
		},
		{
			rule: "an unknown type of complaint is a note", feed: Complaints,
			record: `{"id":"k","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"pondered","complaint_id":"T-9","level":-1,"due":"soon","actor":{}}`,
			want:   "Feed=complaints Kind=note Time=2026-01-05T10:00:00Z ID=k Customer=c ComplaintID=T-9 Notes=unknown_type,unknown_actor,invalid_field",
		},
		{
			rule: "a profile", feed: Customers,
			record: `{"id":"x","customer_id":"c","time":"2026-01-05T10:00:00Z","tier":"gold","segment":"smb","region":"eu","owner":"kim","product":"pro","plan":"y","source":"web","status":"active","time_zone":"Europe/Berlin","language":"de","since":"2020-02-29","contract_end":"2026-12-31T23:00:00Z","committed_spend":"1200.50","margin":0.3,"schedule":"9-17"}`,
			want: "Feed=customers Kind=profile Time=2026-01-05T10:00:00Z ID=x Customer=c Profile={Tier:gold Segment:smb Region:eu Owner:kim Product:pro Plan:y Source:web Status:active " +
				"TimeZone:Europe/Berlin Language:de Schedule:9-17 Since:1582934400000 ContractEnd:1798758000000 CommittedSpend:1200.50 Margin:0.30}",
		},
		{
			rule: "what cannot be read of a profile is noted and taken as absent", feed: Customers,
			record: `{"customer_id":"c","time":"2026-01-05T10:00:00Z","tier":["gold"],"owner":"` + strings.Repeat("x", 257) + `","since":"1969-12-31","contract_end":{},"margin":"a third","type":"x"}`,
			want: "Feed=customers Kind=profile Time=2026-01-05T10:00:00Z Customer=c Profile={Tier: Segment: Region: Owner: Product: Plan: Source: Status: " +
				"TimeZone: Language: Schedule: Since:0 ContractEnd:0 CommittedSpend:0.00 Margin:0.00} Notes=invalid_field,no_id",
		},
		{
			rule: "an aggregate that is neither true nor false is none; a negative quantity is none either", feed: Usage,
			record: `{"id":"u","customer_id":"c","time":"2026-02-01T00:00:00Z","aggregate":"perhaps","period_start":3,"quantity":-1}`,
			want:   "Feed=usage Kind=usage Time=2026-02-01T00:00:00Z ID=u Customer=c Notes=invalid_field",
		},
		{
			rule: "an act on an alert", feed: Control,
			record: `{"id":"x","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"acknowledge","alert_id":"a1","by":"kim","note":"called"}`,
			want:   "Feed=control Kind=acknowledge Time=2026-01-05T10:00:00Z ID=x Customer=c Control={AlertID:a1 By:kim Note:called Into: Assignee: Until:0 Result: Cause:}",
		},
		{
			rule: "what became of an alert, and why", feed: Control,
			record: `{"id":"x","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"outcome","alert_id":"a1","outcome":"false_alarm","cause":"Moved_or_deceased"}`,
			want:   "Feed=control Kind=outcome Time=2026-01-05T10:00:00Z ID=x Customer=c Control={AlertID:a1 By: Note: Into: Assignee: Until:0 Result:false_alarm Cause:moved_or_deceased}",
		},
		{
			rule: "a cause that is not in the list is noted and unknown", feed: Control,
			record: `{"id":"x","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"outcome","alert_id":"a1","outcome":"lost","cause":"weather"}`,
			want:   "Feed=control Kind=outcome Time=2026-01-05T10:00:00Z ID=x Customer=c Control={AlertID:a1 By: Note: Into: Assignee: Until:0 Result:lost Cause:unknown} Notes=invalid_field",
		},
		{
			rule: "a snooze ends at a time, or with the begin of a day", feed: Control,
			record: `{"id":"x","customer_id":"c","time":"2026-01-05T10:00:00Z","type":"snooze","alert_id":"a1","until":"2026-02-01"}`,
			want:   "Feed=control Kind=snooze Time=2026-01-05T10:00:00Z ID=x Customer=c Control={AlertID:a1 By: Note: Into: Assignee: Until:1769904000000 Result: Cause:}",
		},
		{
			rule: "maintenance concerns no customer", feed: Control,
			record: `{"id":"x","time":"2026-01-05T10:00:00Z","type":"maintenance","until":"2026-01-05T10:00:01Z"}`,
			want:   "Feed=control Kind=maintenance Time=2026-01-05T10:00:00Z ID=x Control={AlertID: By: Note: Into: Assignee: Until:1767607201000 Result: Cause:}",
		},
		{
			rule: "a total in numbers and text", feed: Usage,
			record: `{"id":"u","customer_id":"c","time":"2026-02-01T00:00:00Z","aggregate":1,"quantity":"3.00005","period_start":"2026-01-01T00:00:00+01:00","period_end":"2026-01-02T00:00:00+01:00"}`,
			want:   "Feed=usage Kind=usage Time=2026-02-01T00:00:00Z ID=u Customer=c Quantity=3.00 Aggregate=true PeriodStart=2025-12-31T23:00:00Z PeriodEnd=2026-01-01T23:00:00Z Notes=rounded",
		},
		{
			rule: "unknown fields are noted, at the top level, and ignored", feed: Usage,
			record: `{"id":"u","customer_id":"c","time":"2026-01-05T10:00:00Z","unit":{"customer_id":"x","id":[{"id":1}]},"extra":[true,false,null,-0.5e-3,"\u00e4"]}`,
			want:   "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z ID=u Customer=c Notes=unknown_field",
		},
		{
			rule: "of repeated names the last one counts, also when it is null", feed: Payments,
			record: `{"id":"p","customer_id":"a","time":"2026-01-05T10:00:00Z","type":"refund","type":"purchase","amount":1,"amount":2,"currency":"EUR","currency":null,"customer_id":"c"}`,
			want:   "Feed=payments Kind=purchase Time=2026-01-05T10:00:00Z ID=p Customer=c Amount=2.00",
		},
		{
			rule: "escapes in values and names", feed: Usage,
			record: `{"\u0069d":"u\u002d\n","customer_id":"\ud83d\ude00\"\\\/\b\f\r\t\ud800","time":"2026-01-05T10:00:00\u005a"}`,
			want:   "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z ID=u-\n Customer=😀\"\\/\b\f\r\t\ufffd",
		},
		{
			rule: "white space anywhere", feed: Usage,
			record: "\r\n\t {  \"id\" :\t\"u\" ,\n\"customer_id\"\r: \"c\",\"time\": \"2026-01-05T10:00:00Z\" , \"unit\" : [ 1 , { } , [ ] ] } \n",
			want:   "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z ID=u Customer=c",
		},
		{
			rule: "letters beyond ASCII", feed: Usage,
			record: `{"id":"ü-1","customer_id":"Größe ✓","time":"2026-01-05T10:00:00Z","unit":"日本語のテキスト"}`,
			want:   "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z ID=ü-1 Customer=Größe ✓",
		},
		{
			rule: "a customer id that is a number is the text of that number", feed: Usage,
			record: `{"id":17,"customer_id":42,"time":"2026-01-05T10:00:00Z"}`,
			want:   "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z ID=17 Customer=42",
		},
		{
			rule: "without an id the position stands in", feed: Usage,
			record: `{"id":"","customer_id":"c","time":"2026-01-05T10:00:00Z"}`,
			want:   "Feed=usage Kind=usage Time=2026-01-05T10:00:00Z Customer=c Notes=no_id",
		},
	} {
		t.Run(c.rule, func(t *testing.T) {
			d := mustDecoder(t, c.feed, nil, Limits{})
			for range 2 { // the second time the order of names is known
				var e Event
				if err := d.Decode(Position{Topic: "t", Offset: 7}, nil, []byte(c.record), &e); err != nil {
					t.Fatal(err)
				}
				if got := show(&e); got != c.want {
					t.Fatalf("got  %s\nwant %s", got, c.want)
				}
			}
		})
	}
}

// with returns the usage record with one field replaced by raw JSON.
func with(name, raw string) string {
	fields := []string{"id", `"u-1"`, "customer_id", `"c-42"`, "time", `"2026-01-05T10:00:00Z"`, "type", `"session"`}
	return build(fields, name, raw)
}

// pay returns a payment with one field replaced by raw JSON.
func pay(kind, name, raw string) string {
	fields := []string{"id", `"p-1"`, "customer_id", `"c-42"`, "time", `"2026-01-05T10:00:00Z"`, "type", `"` + kind + `"`, "amount", "1"}
	return build(fields, name, raw)
}

func build(fields []string, name, raw string) string {
	var b strings.Builder
	sep := "{"
	for i := 0; i < len(fields); i += 2 {
		value := fields[i+1]
		if fields[i] == name {
			value = raw
		}
		if value == "" {
			continue
		}
		fmt.Fprintf(&b, "%s%q:%s", sep, fields[i], value)
		sep = ","
	}
	return b.String() + "}"
}

func TestRejects(t *testing.T) {
	const nobody = ""
	now := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	lim := Limits{MaxRecordBytes: 4096, MaxFutureSkew: time.Hour, Now: func() time.Time { return now }}
	usable := with("", "")
	for _, c := range []struct {
		rule   string
		feed   Feed
		record string
		reason Reason
		hint   string
	}{
		{"not JSON", Usage, `customer c-42 called`, ReasonNotJSON, nobody},
		{"nothing at all", Usage, ``, ReasonNotJSON, nobody},
		{"JSON, but no object", Usage, `["c-42"]`, ReasonNotJSON, nobody},
		{"the word null is no tombstone", Usage, `null`, ReasonNotJSON, nobody},
		{"something behind the object", Usage, usable + `}`, ReasonNotJSON, "c-42"},
		{"two objects", Usage, usable + usable, ReasonNotJSON, "c-42"},
		{"a comma too many", Usage, `{"customer_id":"c-42",}`, ReasonNotJSON, "c-42"},
		{"a name without quotes", Usage, `{"customer_id":"c-42",id:1}`, ReasonNotJSON, "c-42"},
		{"a control character in a string", Usage, "{\"customer_id\":\"c-42\",\"id\":\"a\nb\"}", ReasonNotJSON, "c-42"},
		{"a leading zero", Usage, with("customer_id", "042"), ReasonNotJSON, nobody},
		{"NaN is not JSON", Payments, pay("purchase", "amount", "NaN"), ReasonNotJSON, "c-42"},
		{"an unknown escape", Usage, `{"customer_id":"c-42","id":"\x41"}`, ReasonNotJSON, "c-42"},
		{"too deep", Usage, `{"customer_id":"c-42","a":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`, ReasonNotJSON, "c-42"},
		{"truncated in the middle of a string", Usage, usable[:len(usable)-4], ReasonTruncated, "c-42"},
		{"truncated before the last brace", Usage, usable[:len(usable)-1], ReasonTruncated, "c-42"},
		{"truncated before the customer is known", Usage, `{"id":"u-1","customer_id":"c-4`, ReasonTruncated, nobody},
		{"invalid UTF-8 in a field that nobody reads", Usage, with("type", "\"\xff\""), ReasonInvalidUTF8, "c-42"},
		{"invalid UTF-8 in the customer", Usage, with("customer_id", "\"c\xc3\""), ReasonInvalidUTF8, nobody},
		{"invalid UTF-8 outside strings", Usage, usable[:len(usable)-1] + "\xff}", ReasonInvalidUTF8, "c-42"},
		{"half an encoded surrogate", Usage, with("type", "\"\xed\xa0\x80\""), ReasonInvalidUTF8, "c-42"},
		{"larger than the limit", Usage, with("type", `"`+strings.Repeat("x", 4096)+`"`), ReasonRecordTooLarge, nobody},

		{"customer missing", Usage, with("customer_id", ""), ReasonCustomerMissing, nobody},
		{"customer null", Usage, with("customer_id", "null"), ReasonCustomerMissing, nobody},
		{"customer empty", Usage, with("customer_id", `""`), ReasonCustomerMissing, nobody},
		{"customer is an object", Usage, with("customer_id", `{"id":1}`), ReasonCustomerInvalid, nobody},
		{"customer is a boolean", Usage, with("customer_id", `true`), ReasonCustomerInvalid, nobody},
		{"customer too long", Usage, with("customer_id", `"`+strings.Repeat("c", MaxCustomerBytes+1)+`"`), ReasonCustomerTooLong, nobody},

		{"a type that the contract does not know", Payments, pay("donation", "", ""), ReasonUnknownType, "c-42"},
		{"type missing", Payments, pay("purchase", "type", ""), ReasonTypeMissing, "c-42"},
		{"type null", Payments, pay("purchase", "type", "null"), ReasonTypeMissing, "c-42"},
		{"type is an array", Payments, pay("purchase", "type", `["purchase"]`), ReasonUnknownType, "c-42"},
		{"a complaint's type missing", Complaints, with("type", ""), ReasonTypeMissing, "c-42"},
		{"a type of another feed", Payments, pay("opened", "", ""), ReasonUnknownType, "c-42"},

		{"time missing", Usage, with("time", ""), ReasonTimeMissing, "c-42"},
		{"time null", Usage, with("time", "null"), ReasonTimeMissing, "c-42"},
		{"time empty", Usage, with("time", `""`), ReasonTimeMissing, "c-42"},
		{"time unparsable", Usage, with("time", `"yesterday"`), ReasonTimeInvalid, "c-42"},
		{"time a number, which only a mapping reads", Usage, with("time", `1767607200`), ReasonTimeInvalid, "c-42"},
		{"time an object", Usage, with("time", `{}`), ReasonTimeInvalid, "c-42"},
		{"no such day", Usage, with("time", `"2025-02-29T10:00:00Z"`), ReasonTimeInvalid, "c-42"},
		{"time without zone", Usage, with("time", `"2026-01-05T10:00:00"`), ReasonTimeWithoutZone, "c-42"},
		{"time with milliseconds without zone", Usage, with("time", `"2026-01-05T10:00:00.123"`), ReasonTimeWithoutZone, "c-42"},
		{"year 0", Usage, with("time", `"0000-01-01T00:00:00Z"`), ReasonTimeOutOfRange, "c-42"},
		{"Go's zero time", Usage, with("time", `"0001-01-01T00:00:00Z"`), ReasonTimeOutOfRange, "c-42"},
		{"before 1970 by its zone", Usage, with("time", `"1970-01-01T00:30:00+01:00"`), ReasonTimeOutOfRange, "c-42"},
		{"after 9999 by its zone", Usage, with("time", `"9999-12-31T23:30:00-01:00"`), ReasonTimeOutOfRange, "c-42"},
		{"far in the future", Usage, with("time", `"2026-01-05T13:00:01Z"`), ReasonTimeInFuture, "c-42"},

		{"an aggregate without a period", Usage, `{"customer_id":"c-42","time":"2026-01-05T10:00:00Z","aggregate":true}`, ReasonPeriodInvalid, "c-42"},
		{"a period that ends before it starts", Usage, `{"customer_id":"c-42","time":"2026-01-05T10:00:00Z","aggregate":true,"period_start":"2026-01-02T00:00:00Z","period_end":"2026-01-01T00:00:00Z"}`, ReasonPeriodInvalid, "c-42"},
		{"a period of a thousand years", Usage, `{"customer_id":"c-42","time":"2026-01-05T10:00:00Z","aggregate":true,"period_start":"2026-01-02T00:00:00Z","period_end":"3026-01-01T00:00:00Z"}`, ReasonPeriodInvalid, "c-42"},

		{"amount missing", Payments, pay("purchase", "amount", ""), ReasonAmountMissing, "c-42"},
		{"amount null", Payments, pay("purchase", "amount", "null"), ReasonAmountMissing, "c-42"},
		{"amount empty", Payments, pay("refund", "amount", `""`), ReasonAmountMissing, "c-42"},
		{"amount NaN as text", Payments, pay("purchase", "amount", `"NaN"`), ReasonAmountInvalid, "c-42"},
		{"amount an object", Payments, pay("purchase", "amount", `{"value":1}`), ReasonAmountInvalid, "c-42"},
		{"amount a boolean", Payments, pay("purchase", "amount", `true`), ReasonAmountInvalid, "c-42"},
		{"amount 1e400", Payments, pay("purchase", "amount", `1e400`), ReasonAmountOverflow, "c-42"},
		{"amount beyond what Money holds", Payments, pay("purchase", "amount", `922337203685477.5808`), ReasonAmountOverflow, "c-42"},
		{"a negative purchase", Payments, pay("purchase", "amount", `-1`), ReasonAmountNegative, "c-42"},
		{"a negative refund", Payments, pay("refund", "amount", `"-0.0001"`), ReasonAmountNegative, "c-42"},
		{"an amount that cannot be read, where none is needed", Payments, pay("charge_failed", "amount", `"x"`), ReasonAmountInvalid, "c-42"},

		{"a complaint without an id", Complaints, with("type", `"opened"`), ReasonComplaintMissing, "c-42"},
		{"a complaint id too long", Complaints, `{"customer_id":"c-42","time":"2026-01-05T10:00:00Z","type":"opened","complaint_id":"` + strings.Repeat("T", 257) + `"}`, ReasonIDTooLong, "c-42"},
		{"a linked id too long", Complaints, `{"customer_id":"c-42","time":"2026-01-05T10:00:00Z","type":"opened","complaint_id":"T","linked_id":"` + strings.Repeat("T", 257) + `"}`, ReasonIDTooLong, "c-42"},
		{"an act on no alert", Control, with("type", `"snooze"`), ReasonAlertMissing, "c-42"},
		{"a snooze that never ends", Control, with("type", `"snooze","alert_id":"a1"`), ReasonUntilMissing, "c-42"},
		{"a maintenance until some day", Control, with("type", `"maintenance","until":"some day"`), ReasonUntilMissing, "c-42"},
		{"an outcome that is none", Control, with("type", `"outcome","alert_id":"a1"`), ReasonOutcomeInvalid, "c-42"},
		{"an outcome of a use", Control, with("type", `"outcome","alert_id":"a1","outcome":"ok"`), ReasonOutcomeInvalid, "c-42"},
		{"an unknown act", Control, with("type", `"shout"`), ReasonUnknownType, "c-42"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			d := mustDecoder(t, c.feed, nil, lim)
			value := []byte(c.record)
			var e Event
			err := d.Decode(Position{Topic: "t"}, nil, value, &e)
			checkReject(t, err, c.reason, c.hint)
			if !bytes.Equal(value, []byte(c.record)) {
				t.Error("the record's bytes were changed, which the dead letter needs")
			}
			if err := d.Decode(Position{Topic: "t"}, nil, []byte(usable), &e); c.feed == Usage && err != nil {
				t.Errorf("the record after it is refused: %v", err)
			}
		})
	}
}

func checkReject(t *testing.T, err error, reason Reason, hint string) {
	t.Helper()
	var r *Reject
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a Reject with %s", err, reason)
	}
	if r.Reason != reason {
		t.Errorf("reason %s (%s), want %s", r.Reason, r.Message, reason)
	}
	if !slices.Contains(Reasons(), r.Reason) {
		t.Errorf("%s is not in the closed list", r.Reason)
	}
	if r.Message == "" || strings.Contains(r.Message, "c-42") {
		t.Errorf("message %q is empty or holds the payload", r.Message)
	}
	if r.Customer != hint {
		t.Errorf("customer %q, want %q", r.Customer, hint)
	}
}

func TestNullValue(t *testing.T) {
	for _, c := range []struct {
		rule   string
		feed   Feed
		m      *Mapping
		reason Reason // "" = ignored
	}{
		{"a null value is refused where no tombstones are defined", Usage, nil, ReasonNullValue},
		{"unless the mapping defines them", Payments, &Mapping{Tombstone: "ignore"}, ""},
		{"a profile topic is compacted: its tombstones are left out", Customers, nil, ""},
		{"unless the mapping says otherwise", Customers, &Mapping{Tombstone: "reject"}, ReasonNullValue},
	} {
		t.Run(c.rule, func(t *testing.T) {
			var e Event
			err := mustDecoder(t, c.feed, c.m, Limits{}).Decode(Position{}, []byte("c-42"), nil, &e)
			if c.reason != "" {
				checkReject(t, err, c.reason, "c-42")
			} else if !errors.Is(err, ErrIgnored) {
				t.Errorf("got %v, want ErrIgnored", err)
			}
		})
	}
}

func TestKey(t *testing.T) {
	named, nameless := with("", ""), with("customer_id", "")
	for _, c := range []struct {
		rule, mode, record string
		key                []byte
		want               string // customer, or
		reason             Reason
		hint               string
	}{
		{rule: "the key is the customer", record: named, key: []byte("c-42"), want: "c-42"},
		{rule: "a null key says nothing", record: named, want: "c-42"},
		{rule: "an empty key is another customer's", record: named, key: []byte{}, reason: ReasonCustomerKeyMismatch, hint: "c-42"},
		{rule: "another key is refused; it says in whose partition the record lies", record: named, key: []byte("c-43"), reason: ReasonCustomerKeyMismatch, hint: "c-43"},
		{rule: "a key that is not looked at", mode: "ignore", record: named, key: []byte("order-7"), want: "c-42"},
		{rule: "the key does not stand in by default, but says whom it concerns", record: nameless, key: []byte("c-42"), reason: ReasonCustomerMissing, hint: "c-42"},
		{rule: "the key stands in", mode: "customer", record: nameless, key: []byte("c-42"), want: "c-42"},
		{rule: "also then the value must agree", mode: "customer", record: named, key: []byte("c-43"), reason: ReasonCustomerKeyMismatch, hint: "c-43"},
		{rule: "neither key nor value", mode: "customer", record: nameless, reason: ReasonCustomerMissing},
		{rule: "a key that stands in must be UTF-8", mode: "customer", record: nameless, key: []byte("\xff"), reason: ReasonInvalidUTF8},
		{rule: "a key that stands in must not be too long", mode: "customer", record: nameless, key: bytes.Repeat([]byte("c"), 257), reason: ReasonCustomerTooLong},
		{rule: "an ignored key is no hint", mode: "ignore", record: nameless, key: []byte("order-7"), reason: ReasonCustomerMissing},
	} {
		t.Run(c.rule, func(t *testing.T) {
			var e Event
			err := mustDecoder(t, Usage, &Mapping{Key: c.mode}, Limits{}).Decode(Position{}, c.key, []byte(c.record), &e)
			if c.reason != "" {
				checkReject(t, err, c.reason, c.hint)
				return
			}
			if err != nil || string(e.Customer) != c.want {
				t.Errorf("customer %q, error %v; want %q", e.Customer, err, c.want)
			}
		})
	}
}

func TestFutureIsJudgedAgainstTheClockAsItGoes(t *testing.T) {
	now := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	asked := 0
	d := mustDecoder(t, Usage, nil, Limits{MaxFutureSkew: time.Hour, Now: func() time.Time { asked++; return now }})
	decode := func(at string, pos Position) error {
		var e Event
		return d.Decode(pos, nil, []byte(with("time", `"`+at+`"`)), &e)
	}
	refused := func(err error) bool {
		var r *Reject
		return errors.As(err, &r) && r.Reason == ReasonTimeInFuture
	}
	if err := decode("2026-01-05T13:00:00Z", Position{}); err != nil {
		t.Errorf("an hour ahead, which is allowed: %v", err)
	}
	for range 100 {
		if err := decode("2026-01-05T12:59:00Z", Position{}); err != nil {
			t.Error(err)
		}
	}
	if asked != 1 {
		t.Errorf("the clock was asked %d times for records that its first answer allows", asked)
	}
	if err := decode("2026-01-05T13:00:01Z", Position{}); !refused(err) {
		t.Errorf("more than an hour ahead: %v", err)
	}
	now = now.Add(time.Second)
	if err := decode("2026-01-05T13:00:01Z", Position{}); err != nil {
		t.Errorf("an hour ahead, a second later: %v", err)
	}
	broker := Position{BrokerTime: true, Timestamp: ms(t, "2026-01-01T00:00:00Z")}
	if err := decode("2026-01-01T01:00:00Z", broker); err != nil {
		t.Errorf("an hour ahead of the broker's time: %v", err)
	}
	if err := decode("2026-01-01T01:00:01Z", broker); !refused(err) {
		t.Errorf("more than an hour ahead of the broker's time: %v", err)
	}
}

func TestIDHash(t *testing.T) {
	usage, payments := mustDecoder(t, Usage, nil, Limits{}), mustDecoder(t, Payments, nil, Limits{})
	hash := func(d *Decoder, record string, pos Position) uint64 {
		var e Event
		if err := d.Decode(pos, nil, []byte(record), &e); err != nil {
			t.Fatal(err)
		}
		return e.IDHash
	}
	pos := Position{Topic: "t", Partition: 3, Offset: 17}
	if got, want := hash(usage, with("id", `"x"`), pos), xxhash.Sum64String("\x00x"); got != want {
		t.Errorf("hash %x, want xxhash64 of the feed's byte and the id, %x", got, want)
	}
	if hash(usage, with("id", `"x"`), pos) == hash(payments, pay("purchase", "id", `"x"`), pos) {
		t.Error("the same id in two feeds is the same event")
	}
	if got, want := hash(usage, with("id", ""), pos), xxhash.Sum64String("\x00t/3/17"); got != want {
		t.Errorf("hash %x of a record without an id, want that of its position, %x", got, want)
	}
}

func TestTextOfEarlierEventsStays(t *testing.T) {
	d := mustDecoder(t, Usage, nil, Limits{})
	var events []Event
	for i := range 5000 {
		var e Event
		if err := d.Decode(Position{}, nil, []byte(with("customer_id", fmt.Sprintf(`"c\u002d%d"`, i))), &e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	for i, e := range events {
		if want := fmt.Sprintf("c-%d", i); string(e.Customer) != want {
			t.Fatalf("customer %q of an earlier event, want %q", e.Customer, want)
		}
	}
}

func TestIsActivity(t *testing.T) {
	for _, c := range []struct {
		rule string
		e    Event
		want bool
	}{
		{"a use", Event{Kind: KindUsage}, true},
		{"a purchase", Event{Kind: KindPurchase}, true},
		{"a refund", Event{Kind: KindRefund, Initiator: InitiatorCustomer}, true},
		{"a failed charge", Event{Kind: KindChargeFailed}, false},
		{"a purchase that the company started", Event{Kind: KindPurchase, Initiator: InitiatorCompany}, false},
		{"interest credited by the bank", Event{Kind: KindUsage, Initiator: InitiatorBank}, false},
		{"a complaint", Event{Kind: KindOpened}, false},
	} {
		if got := c.e.IsActivity(); got != c.want {
			t.Errorf("%s: %v, want %v", c.rule, got, c.want)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	for _, c := range []struct {
		rule   string
		feed   Feed
		m      *Mapping
		record string
	}{
		{"usage", Usage, nil, usageRecord},
		{"payment", Payments, nil, paymentRecord},
		{"complaint", Complaints, nil, complaintRecord},
		{"no id", Usage, nil, with("id", "")},
		{"mapped", Payments, mappedPayments(), mappedRecord},
		{"escaped, on average", Usage, nil, with("customer_id", `"c\u002d42"`)},
		{"a layout", Usage, &Mapping{Time: TimeForm{Format: "02.01.2006 15:04", Zone: "Europe/Berlin"}}, with("time", `"05.01.2026 10:00"`)},
		{"joined types", Complaints, &Mapping{
			Fields: map[string]Field{
				"customer_id": {Paths: []string{"customer_id"}}, "time": {Paths: []string{"time"}},
				"type": {Paths: []string{"type"}, And: []string{"id"}},
			},
			Types: map[string]TypeRule{"session/u-1": {Type: "inquiry"}},
		}, with("", "")},
	} {
		t.Run(c.rule, func(t *testing.T) {
			d := mustDecoder(t, c.feed, c.m, Limits{})
			value := []byte(c.record)
			var e Event
			if n := testing.AllocsPerRun(1000, func() {
				if err := d.Decode(Position{Topic: "t"}, nil, value, &e); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%v allocations a record", n)
			}
		})
	}
}

// TestFeedNames keeps the tables of names, kinds and fields in step.
func TestFeedNames(t *testing.T) {
	for f := range Feed(NumFeeds) {
		if back, ok := ParseFeed(f.String()); back != f || !ok {
			t.Errorf("feed %d is written %q and read as %v", f, f, back)
		}
		for _, k := range Kinds(f) {
			if k.Feed() != f {
				t.Errorf("%s is of the feed %s, not %s", k, k.Feed(), f)
			}
		}
	}
	for f, name := range fieldNames {
		if name == "" {
			t.Errorf("field %d has no name", f)
		}
	}
	if n := len(strings.Split(Notes(1<<numNotes-1).String(), ",")); n != numNotes || len(NoteNames()) != n {
		t.Errorf("%d notes are named, want %d", n, numNotes)
	}
	for _, f := range []func(string) (uint8, bool){
		func(s string) (uint8, bool) { v, ok := ParsePriority(s); return uint8(v), ok },
		func(s string) (uint8, bool) { v, ok := ParseOutcome(s); return uint8(v), ok },
		func(s string) (uint8, bool) { v, ok := ParseInitiator(s); return uint8(v), ok },
		func(s string) (uint8, bool) { v, ok := ParseActor(s); return uint8(v), ok },
	} {
		if v, ok := f(""); v != 0 || ok {
			t.Error("the empty name is a value")
		}
	}
	if p, ok := ParsePriority("Urgent"); p != PriorityUrgent || !ok || p.String() != "urgent" {
		t.Errorf("Urgent is read as %v", p)
	}
}

// oddZone is what package time reads although RFC 3339 has no such hour and minute.
var oddZone = regexp.MustCompile(`(24:..|:60)$`)

func TestParseRFC3339AgreesWithPackageTime(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 200_000 {
		at := time.UnixMilli(r.Int64N(maxTime))
		zone := time.FixedZone("", (r.IntN(47)-23)*3600+r.IntN(4)*900)
		layout := []string{time.RFC3339, time.RFC3339Nano, "2006-01-02T15:04:05.000Z07:00", "2006-01-02T15:04:05.000000000Z07:00"}[r.IntN(4)]
		text := at.In(zone).Format(layout)
		want, err := time.Parse(time.RFC3339, text)
		if err != nil || want.UnixMilli() < 0 || len(text) > 35 || want.Year() > 9999 {
			continue
		}
		got, reason := parseRFC3339([]byte(text))
		if reason != "" || got != want.UnixMilli() {
			t.Fatalf("%s = %d, %q; want %d", text, got, reason, want.UnixMilli())
		}
		// One changed byte: whatever is still a time is the same one to both.
		broken := []byte(text)
		broken[r.IntN(len(broken))] = "0123456789:-+.TZ x"[r.IntN(18)]
		ours, reason := parseRFC3339(broken)
		theirs, err := time.Parse(time.RFC3339, string(broken))
		if oddZone.Match(broken) {
			continue
		}
		if err == nil && theirs.UnixMilli() >= minTime && theirs.UnixMilli() < maxTime {
			if reason != "" || ours != theirs.UnixMilli() {
				t.Fatalf("%s = %d, %q; want %d", broken, ours, reason, theirs.UnixMilli())
			}
		} else if reason == "" && broken[10] != ' ' && string(broken[17:19]) != "60" {
			t.Fatalf("%s = %d, which package time refuses: %v", broken, ours, err)
		}
	}
}

func TestCurrency(t *testing.T) {
	for _, c := range []struct {
		code     string
		decimals int
		ok       bool
	}{
		{"EUR", 2, true},
		{"jpy", 0, true},
		{"Kwd", 3, true},
		{"CLF", 4, true},
		{"EURO", 2, false},
		{"E1R", 2, false},
		{"", 2, false},
	} {
		got, ok := ParseCurrency(c.code)
		if ok != c.ok || got.Decimals() != c.decimals || ok && got.String() != strings.ToUpper(c.code) {
			t.Errorf("%q = %s, %v, with %d decimals", c.code, got, ok, got.Decimals())
		}
	}
	if s := (Currency{}).String(); s != "" {
		t.Errorf("no currency is %q", s)
	}
}

func TestLeapSecondIsTheNextMinute(t *testing.T) {
	got, reason := parseRFC3339([]byte("2016-12-31T23:59:60Z"))
	if want := ms(t, "2017-01-01T00:00:00Z"); got != want || reason != "" {
		t.Errorf("%d, %q; want %d", got, reason, want)
	}
}

// TestDecodeAgreesWithEncodingJSON writes random records by encoding/json, in random order and with random white space,
// repeated names and escapes, and compares.
func TestDecodeAgreesWithEncodingJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	d := mustDecoder(t, Payments, nil, Limits{})
	for range 30_000 {
		record := randomPayment(r)
		var want map[string]any
		if err := json.Unmarshal(record, &want); err != nil {
			t.Fatalf("%s: %v", record, err)
		}
		var e Event
		if err := d.Decode(Position{Topic: "t"}, nil, record, &e); err != nil {
			t.Fatalf("%s: %v", record, err)
		}
		if string(e.Customer) != want["customer_id"] || string(e.ID) != want["id"] || e.Kind.String() != want["type"] {
			t.Fatalf("%s: %s", record, show(&e))
		}
		if m, _, err := ParseMoney(fmt.Sprint(want["amount"])); m != e.Amount || err != nil {
			t.Fatalf("%s: amount %s, want %v", record, e.Amount, want["amount"])
		}
	}
}

func randomPayment(r *rand.Rand) []byte {
	letters := []rune("abc-\"\\/\n\u0001é😀\u2028<&")
	word := func() string {
		w := make([]rune, 1+r.IntN(12))
		for i := range w {
			w[i] = letters[r.IntN(len(letters))]
		}
		return string(w)
	}
	text := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			panic(err)
		}
		return string(b)
	}
	fields := map[string]func() string{
		"id":          func() string { return text(word()) },
		"customer_id": func() string { return text(word()) },
		"time":        func() string { return text("2026-01-05T10:00:00Z") },
		"type":        func() string { return text(Kinds(Payments)[r.IntN(4)].String()) },
		"amount":      func() string { return fmt.Sprintf("%d.%02d", r.IntN(1000), r.IntN(100)) },
		"product":     func() string { return text(word()) },
		"promotion":   func() string { return `{"id":[1,{"customer_id":` + text(word()) + `},[]],"x":-1.5E+3}` },
	}
	names := slices.Collect(maps.Keys(fields))
	slices.Sort(names)
	names = append(names, names[r.IntN(len(names))], names[r.IntN(len(names))], word())
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	blank := func() string { return strings.Repeat([]string{" ", "\t", "\n", "\r\n"}[r.IntN(4)], r.IntN(3)) }
	var b strings.Builder
	b.WriteString(blank() + "{")
	for i, name := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		value := "null"
		if f := fields[name]; f != nil {
			value = f()
		}
		b.WriteString(blank() + text(name) + blank() + ":" + blank() + value + blank())
	}
	return []byte(b.String() + "}" + blank())
}

// TestEveryPrefixIsTruncated cuts a record everywhere.
func TestEveryPrefixIsTruncated(t *testing.T) {
	d := mustDecoder(t, Complaints, nil, Limits{})
	record := `{"id":"k","customer_id":"c","time":"2026-01-05T10:00:00Z","x":[tru` + `e,false,null,-1.5e+3,{"a":"é\u00e9\n"}],"type":"opened","complaint_id":"T"}`
	for n := 1; n < len(record); n++ {
		var e Event
		err := d.Decode(Position{}, nil, []byte(record[:n]), &e)
		var r *Reject
		if !errors.As(err, &r) || r.Reason != ReasonTruncated {
			t.Errorf("%q: %v, want %s", record[:n], err, ReasonTruncated)
		}
	}
}
