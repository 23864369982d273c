package customer

import (
	"testing"

	"ebb/stream/event"
)

// under is a purchase under an offer that ends on a day, or under none where that is 0.
func under(day int64, offer string, ends int64) *event.Event {
	e := pay(t0+day*dayMs, event.KindPurchase, 5, "EUR")
	if offer != "" {
		e.Promotion = []byte(offer)
	}
	if ends != 0 {
		e.PromotionEnds = t0 + ends*dayMs
	}
	return e
}

func TestOffers(t *testing.T) {
	p := testParams()
	for _, c := range []struct {
		rule  string
		bills []*event.Event
		want  Offers
	}{
		{"only under offers; the one that ends last counts", []*event.Event{under(1, "a", 30), under(2, "b", 20)}, Offers{2, 0, t0 + 30*dayMs, "a"}},
		{"what was bought before counts", []*event.Event{under(1, "", 0), under(2, "", 0), under(2, "a", 20)}, Offers{1, 2, t0 + 20*dayMs, "a"}},
		{"what is bought later does", []*event.Event{under(1, "a", 20), under(40, "", 0)}, Offers{1, 1, t0 + 20*dayMs, "a"}},
		{"an offer without an end", []*event.Event{under(1, "a", 0)}, Offers{1, 0, 0, "a"}},
		{"an end without a name", []*event.Event{under(1, "", 9)}, Offers{1, 0, t0 + 9*dayMs, ""}},
	} {
		r := &Record{}
		for _, e := range c.bills {
			r.Apply(e, &p)
		}
		if got := r.Offers(); got == nil || *got != c.want {
			t.Errorf("%s: %+v, want %+v", c.rule, got, c.want)
		}
	}
	r := &Record{}
	refund := under(1, "a", 20)
	refund.Kind = event.KindRefund
	company := under(1, "a", 20)
	company.Initiator = event.InitiatorCompany
	for _, e := range []*event.Event{under(1, "", 0), refund, company} {
		r.Apply(e, &p)
	}
	if r.Offers() != nil {
		t.Errorf("no purchase of his own under an offer: %+v", r.Offers())
	}
}

// Of two who turn out to be one, one may never have bought under an offer.
func TestJoinOffers(t *testing.T) {
	p := testParams()
	a, b, c := &Record{}, &Record{}, &Record{}
	a.Apply(under(1, "", 0), &p)
	b.Apply(under(2, "b", 20), &p)
	c.Apply(under(3, "c", 30), &p)
	a.Join(b, &p)
	if got := *a.Offers(); got != (Offers{1, 1, t0 + 20*dayMs, "b"}) || a.Offers() == b.Offers() {
		t.Errorf("%+v", got)
	}
	a.Join(c, &p)
	if got := *a.Offers(); got != (Offers{2, 1, t0 + 30*dayMs, "c"}) {
		t.Errorf("%+v", got)
	}
	plain := &Record{}
	plain.Apply(under(4, "", 0), &p)
	c.Join(plain, &p)
	if got := *c.Offers(); got != (Offers{1, 1, t0 + 30*dayMs, "c"}) {
		t.Errorf("%+v", got)
	}
}
