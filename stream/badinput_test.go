package stream_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
)

// bad is a record that cannot be applied.
type bad struct {
	name, feed string
	value      string // %c is the customer, %t a good time
	null       bool
	reason     event.Reason
	nameless   bool // it does not tell whom it concerns
}

const goodHead = `{"id":"x-%c","customer_id":"%c","time":"%t",`

var badInput = []bad{
	{name: "not JSON", feed: "payments", value: `hello`, reason: event.ReasonNotJSON},
	{name: "truncated", feed: "payments", value: goodHead + `"type":"purch`, reason: event.ReasonTruncated},
	{name: "invalid UTF-8", feed: "payments", value: goodHead + "\"type\":\"purchase\",\"amount\":1,\"product\":\"\xff\"}", reason: event.ReasonInvalidUTF8},
	{name: "null", feed: "payments", null: true, reason: event.ReasonNullValue},
	{name: "customer missing", feed: "payments", value: `{"id":"1","time":"%t","type":"purchase","amount":1}`, reason: event.ReasonCustomerMissing},
	{name: "customer empty", feed: "payments", value: `{"customer_id":"","time":"%t","type":"purchase","amount":1}`, reason: event.ReasonCustomerMissing},
	{name: "customer too long", feed: "payments", value: `{"customer_id":"` + strings.Repeat("x", event.MaxCustomerBytes+1) + `","time":"%t","type":"purchase","amount":1}`, reason: event.ReasonCustomerTooLong, nameless: true},
	{name: "another customer than the key", feed: "payments", value: `{"customer_id":"someone","time":"%t","type":"purchase","amount":1}`, reason: event.ReasonCustomerKeyMismatch},
	{name: "unknown type", feed: "payments", value: goodHead + `"type":"gift","amount":1}`, reason: event.ReasonUnknownType},
	{name: "time missing", feed: "usage", value: `{"customer_id":"%c","type":"session"}`, reason: event.ReasonTimeMissing},
	{name: "time unparsable", feed: "usage", value: `{"customer_id":"%c","type":"session","time":"yesterday"}`, reason: event.ReasonTimeInvalid},
	{name: "time without zone", feed: "usage", value: `{"customer_id":"%c","type":"session","time":"2026-01-05T10:00:00"}`, reason: event.ReasonTimeWithoutZone},
	{name: "year 0", feed: "usage", value: `{"customer_id":"%c","type":"session","time":"0000-01-01T00:00:00Z"}`, reason: event.ReasonTimeOutOfRange},
	{name: "far in the future", feed: "usage", value: `{"customer_id":"%c","type":"session","time":"2999-01-01T00:00:00Z"}`, reason: event.ReasonTimeInFuture},
	{name: "amount missing", feed: "payments", value: goodHead + `"type":"purchase"}`, reason: event.ReasonAmountMissing},
	{name: "amount NaN", feed: "payments", value: goodHead + `"type":"purchase","amount":"NaN"}`, reason: event.ReasonAmountInvalid},
	{name: "amount 1e400", feed: "payments", value: goodHead + `"type":"purchase","amount":1e400}`, reason: event.ReasonAmountOverflow},
	{name: "amount negative", feed: "payments", value: goodHead + `"type":"purchase","amount":-5}`, reason: event.ReasonAmountNegative},
	{name: "overflow of a sum", feed: "payments", value: goodHead + `"type":"purchase","amount":"922337203685477.5807"}`, reason: event.ReasonAmountOverflow},
	{name: "too large", feed: "payments", value: goodHead + `"type":"purchase","amount":1,"product":"` + strings.Repeat("x", 5000) + `"}`, reason: event.ReasonRecordTooLarge},
}

func (b *bad) customer() string { return "bad-" + strings.ReplaceAll(b.name, " ", "-") }

func (b *bad) record(at int64) kafkatest.Record {
	r := kafkatest.Record{Key: []byte(b.customer()), Headers: map[string]string{"case": b.name, "traceparent": "00-1"}}
	if b.nameless {
		r.Key = bytes.Repeat([]byte("x"), event.MaxCustomerBytes+1)
	}
	if !b.null {
		r.Value = []byte(strings.NewReplacer("%c", b.customer(), "%t", rfc3339(at)).Replace(b.value))
	}
	return r
}

// What cannot be applied goes to the dead letters as it came, is counted, and makes whom it names blind; everybody else's alerts are right.
func TestBadInput(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	w.adjust = func(c *stream.Config) { c.MaxRecordBytes = 4096 }
	events, end := history(3, 40)
	all := items(events)
	// Each of the bad ones was last seen 20 days ago, and his bad record came 12 days ago: a silence of 14 days would have begun.
	seen := end - 20*dayMs
	sent := map[string]kafkatest.Record{}
	for i := range badInput {
		b := &badInput[i]
		at := end - 12*dayMs + int64(i)*3_600_000
		first := happening{feed: "payments", customer: b.customer(), at: seen, kind: "purchase", cents: 1000, id: "first-" + b.name}
		all = append(all, items([]happening{first})...)
		if b.name == "overflow of a sum" {
			all = append(all, item{"payments", at - 1000, kafkatest.Record{Key: []byte(b.customer()), Value: []byte(strings.NewReplacer("%c", b.customer(), "%t", rfc3339(at-1000)).Replace(
				`{"id":"big","customer_id":"%c","time":"%t","type":"purchase","amount":"900000000000000"}`))}})
		}
		rec := b.record(at)
		rec.Timestamp = at
		sent[b.name] = rec
		all = append(all, item{b.feed, at, rec})
	}
	w.produceItems(all)
	r := w.start()
	w.settled(r)

	cut := end - 3*3_600_000
	got := slices.DeleteFunc(w.steps(cut), func(s step) bool { return strings.HasPrefix(s.customer, "bad-") })
	compareSteps(t, got, reference(events, cut))
	for _, s := range w.steps(cut) {
		if strings.HasPrefix(s.customer, "bad-") && !strings.Contains(s.customer, "too-long") {
			t.Errorf("alert about a customer of whom a record could not be read: %s", s)
		}
	}

	letters := w.broker.ReadCommitted(t, w.topic("dlq"))
	if len(letters) != len(badInput) {
		t.Errorf("%d dead letters, want %d", len(letters), len(badInput))
	}
	found := map[string]kafkatest.Record{}
	for _, l := range letters {
		found[l.Headers["case"]] = l
	}
	for i := range badInput {
		checkLetter(t, w, r, &badInput[i], sent[badInput[i].name], found[badInput[i].name])
	}
	if got := r.metric("ebb_dead_letters_total"); got != float64(len(badInput)) {
		t.Errorf("%v dead letters are counted, want %d", got, len(badInput))
	}
}

func checkLetter(t *testing.T, w *world, r *running, b *bad, sent, got kafkatest.Record) {
	t.Helper()
	if got.Headers == nil {
		t.Errorf("%s: no dead letter", b.name)
		return
	}
	if !bytes.Equal(got.Key, sent.Key) || !bytes.Equal(got.Value, sent.Value) || (got.Value == nil) != b.null || got.Headers["traceparent"] != "00-1" {
		t.Errorf("%s: not the record as it came: %q %q %v", b.name, got.Key, got.Value, got.Headers)
	}
	if got.Headers["ebb_error_reason"] != string(b.reason) || got.Headers["ebb_error_message"] == "" {
		t.Errorf("%s: reason %s (%s), want %s", b.name, got.Headers["ebb_error_reason"], got.Headers["ebb_error_message"], b.reason)
	}
	offset := ""
	for _, in := range w.broker.ReadCommitted(t, w.topic(b.feed)) {
		if in.Headers["case"] == b.name {
			offset = fmt.Sprint(in.Offset)
		}
	}
	for header, want := range map[string]string{
		"ebb_source_topic": w.topic(b.feed), "ebb_source_partition": "0", "ebb_source_offset": offset, "ebb_source_timestamp": fmt.Sprint(sent.Timestamp),
	} {
		if got.Headers[header] != want {
			t.Errorf("%s: %s is %q, want %q", b.name, header, got.Headers[header], want)
		}
	}
	if r.metric("ebb_dead_letters_total", "feed", b.feed, "reason", string(b.reason)) == 0 {
		t.Errorf("%s: not counted as %s", b.name, b.reason)
	}
}

// What is merely odd is applied and counted.
func TestOddInput(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	now := time.Now().UnixMilli()
	var all []item
	add := func(feed, who, rest string) {
		at := now - 3_600_000 + int64(len(all))*1000
		v := fmt.Sprintf(`{"customer_id":%q,"time":%q,%s}`, who, rfc3339(at), rest)
		all = append(all, item{feed, at, kafkatest.Record{Key: []byte(who), Value: []byte(v)}})
	}
	add("payments", "rounds", `"id":"p1","type":"purchase","currency":"EUR","amount":1.00005`)
	add("payments", "rounds", `"id":"p2","type":"purchase","currency":"EUR","amount":"2.00015"`)
	add("payments", "dollars", `"id":"p3","type":"purchase","currency":"USD","amount":7`)
	add("payments", "repeats", `"id":"p4","type":"purchase","currency":"EUR","amount":5`)
	add("payments", "repeats", `"id":"p4","type":"purchase","currency":"EUR","amount":5`)
	add("payments", "repeats", `"id":"p4","type":"purchase","currency":"EUR","amount":5`)
	add("complaints", "solved", `"id":"k1","type":"resolved","complaint_id":"T-1","priority":"high"`)
	add("complaints", "notes", `"id":"k2","type":"pondered","complaint_id":"T-2"`)
	add("usage", "extra", `"id":"u1","type":"session","quantity":1,"weather":"fine"`)
	w.produceItems(all)
	r := w.start()
	w.caughtUp()

	for _, c := range []struct {
		metric, label, value string
		want                 float64
	}{
		{"ebb_record_notes_total", "note", "rounded", 2},
		{"ebb_record_notes_total", "note", "unknown_type", 1},
		{"ebb_record_notes_total", "note", "unknown_field", 1},
		{"ebb_record_outcomes_total", "outcome", "duplicate", 2},
		{"ebb_record_outcomes_total", "outcome", "complaint_unknown", 1},
		{"ebb_dead_letters_total", "feed", "payments", 0},
		{"ebb_dead_letters_total", "feed", "complaints", 0},
	} {
		if got := r.metric(c.metric, c.label, c.value); got != c.want {
			t.Errorf("%s{%s=%q} is %v, want %v", c.metric, c.label, c.value, got, c.want)
		}
	}
	if got := spend(t, r, "rounds", "EUR"); got != event.Money(30002) { // 1.00005 is 1.0000 and 2.00015 is 2.0002, half to even
		t.Errorf("rounded spend is %s, want 3.0002", got)
	}
	if got := spend(t, r, "dollars", "USD"); got != 7*event.MoneyUnit {
		t.Errorf("spend in dollars is %s, want 7", got)
	}
	if got := spend(t, r, "repeats", "EUR"); got != 5*event.MoneyUnit {
		t.Errorf("spend of a purchase that was sent three times is %s, want 5", got)
	}
	if rec := known(t, r, "extra"); len(rec.Usage) != 1 {
		t.Errorf("the use with an unknown field was not applied: %+v", rec)
	}
}

func known(t *testing.T, r *running, id string) *customer.Record {
	t.Helper()
	rec, err := r.Customer(context.Background(), id)
	if err != nil {
		t.Fatalf("customer %s: %v", id, err)
	}
	return rec
}

func spend(t *testing.T, r *running, id, currency string) event.Money {
	t.Helper()
	rec := known(t, r, id)
	var sum event.Money
	for _, d := range rec.Spend {
		c := rec.Currencies[d.Currency()]
		if c == (event.Currency{}) {
			c = event.Currency{'E', 'U', 'R'}
		}
		if c.String() == currency {
			sum += d.Amount
		}
	}
	return sum
}
