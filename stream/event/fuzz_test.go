package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// seeds are records near the edges of each rule.
func seeds() []string {
	return []string{
		usageRecord, paymentRecord, complaintRecord, mappedRecord, with("id", ""), detailedPayment, pay("refund", "amount", `"1e-5"`), "", "null", "{}", "[]",
		`{"a":1}{`, "{\"a\":\"\xff\"}", `{"a":"\ud800\udc00\ud800"}`, `{"a":01}`, `{"a":-}`, `{"a":1.}`, `{"a":1e}`, `{"a":tru}`, `{"a":"\q"}`,
		`{"a":[[[[{"b":[]}]]]],"customer_id":{"x":{}}}`, `{"customer_id":"c","customer_id":null}`, " {\t\"a\"\r:\n1 } ",
		`{"data":{"customer_id":"c","time":"2026-01-05T10:00:00Z"},"data":1}`, "{\"\u2028\":\"é\\u0000\"}",
		`{"a":[1;2]}`, `{"a":[1`, `{"a":[`, `{"a":truth}`, `{"a":nule}`, `{"a":"\u12g4"}`, `{"a"}`, `{"a" 1}`, `{"":1}`, `{"a\u0062":1}`, `{"a":1 "b":2}`,
	}
}

// FuzzScan: the scanner accepts what encoding/json accepts, as far as it is an object and not nested too deep.
func FuzzScan(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	d := mustDecoder(f, Payments, mappedPayments(), Limits{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got := d.scan(b, &d.root)
		trimmed := bytes.TrimLeft(b, " \t\r\n")
		want := json.Valid(b) && len(trimmed) > 0 && trimmed[0] == '{'
		if want != (got == faultNone) && got != faultDepth {
			t.Errorf("fault %d, but encoding/json says %v", got, want)
		}
		if got == faultNone && d.high != hasHigh(b) {
			t.Errorf("bytes beyond ASCII: %v, want %v", d.high, hasHigh(b))
		}
	})
}

func hasHigh(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return true
		}
	}
	return false
}

// FuzzDecode: no record, key or mapping makes the decoder panic, and what it accepts keeps what Event promises.
func FuzzDecode(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte("c-000042"), []byte(s))
		f.Add([]byte(nil), []byte(s))
	}
	var all []*Decoder
	for feed := range Feed(NumFeeds) {
		all = append(all, mustDecoder(f, feed, nil, Limits{}), mustDecoder(f, feed, &Mapping{CloudEvents: true, Key: "customer"}, Limits{}))
	}
	loose := mappedPayments()
	loose.Key, loose.Time.Missing, loose.Amount.Signed, loose.DecimalComma = "ignore", "record_timestamp", true, true
	all = append(all, mustDecoder(f, Payments, mappedPayments(), Limits{}), mustDecoder(f, Payments, loose, Limits{}))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		before := bytes.Clone(value)
		for _, d := range all {
			var e Event
			err := d.Decode(Position{Topic: "t", Timestamp: 1}, key, value, &e)
			var r *Reject
			switch {
			case err == nil:
				checkPromises(t, d, &e, key, value)
			case errors.As(err, &r):
				if r.Customer != "" && !isCustomer([]byte(r.Customer)) {
					t.Errorf("the hint %q is no customer", r.Customer)
				}
			case !errors.Is(err, ErrIgnored):
				t.Errorf("an error that is neither: %v", err)
			}
		}
		if !bytes.Equal(before, value) {
			t.Error("the record's bytes were changed")
		}
	})
}

func checkPromises(t *testing.T, d *Decoder, e *Event, key, value []byte) {
	if !json.Valid(value) || !utf8.Valid(value) {
		t.Error("accepted, but it is not JSON in UTF-8")
	}
	if e.Feed != d.feed || e.Kind.Feed() != d.feed {
		t.Errorf("feed %s, kind %s", e.Feed, e.Kind)
	}
	if !isCustomer(e.Customer) && e.Kind != KindMaintenance {
		t.Errorf("customer %q", e.Customer)
	}
	if d.key != keyIgnored && key != nil && e.Customer != nil && !bytes.Equal(key, e.Customer) {
		t.Errorf("customer %q in a record of %q", e.Customer, key)
	}
	if e.Time < minTime || e.Time >= maxTime {
		t.Errorf("time %d", e.Time)
	}
	if e.Amount < 0 && e.Kind != KindBalance || e.Quantity < 0 {
		t.Errorf("amount %s, quantity %s", e.Amount, e.Quantity)
	}
	if length := e.PeriodEnd - e.PeriodStart; e.Aggregate && (length <= 0 || length > MaxPeriod) {
		t.Errorf("a period of %d ms", length)
	}
	if details := e.Attempt != 0 || e.NextAttempt != 0 || e.Recurring || e.Balanced || e.Promotion != nil; details && e.Feed != Payments {
		t.Error("details of a payment in another feed")
	}
	if len(e.FailureCode) > MaxCustomerBytes || len(e.Promotion) > MaxCustomerBytes {
		t.Error("a name that is too long")
	}
	if e.Kind.needsComplaint() && len(e.ComplaintID) == 0 || len(e.ComplaintID) > MaxCustomerBytes {
		t.Errorf("complaint %q of a %s", e.ComplaintID, e.Kind)
	}
	if (e.Profile != nil) != (e.Feed == Customers) || (e.Control != nil) != (e.Feed == Control) {
		t.Error("a profile or an act in the wrong feed, or none in its own")
	}
}

// FuzzMoney: never a panic, and what is read is written back the same.
// grouped writes a whole number with something between thousands.
func grouped(whole, gap string) string {
	digits, sign := strings.TrimPrefix(whole, "-"), ""
	if digits != whole {
		sign = "-"
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + gap + digits[i:]
	}
	return sign + digits
}

func FuzzMoney(f *testing.F) {
	for _, s := range []string{"49.90", "-4.99e1", "1e400", "0.00005", "922337203685477.58075", "1e-400", "+.5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, _, err := ParseMoney(s)
		if err != nil {
			return
		}
		if back, rounded, err := ParseMoney(m.String()); back != m || rounded || err != nil {
			t.Errorf("%q = %d, written %s, read %d, %v", s, int64(m), m, back, err)
		}
		for _, gap := range []string{"", ".", "\u00a0"} { // as others write it
			whole, decimals, _ := strings.Cut(m.String(), ".")
			foreign := grouped(whole, gap) + "," + decimals
			pointed, ok := appendPointed(nil, []byte(foreign))
			if back, _, err := ParseMoney(string(pointed)); !ok || back != m || err != nil {
				t.Errorf("%s, written %s, read %s, %v, %v", m, foreign, back, ok, err)
			}
		}
	})
}
