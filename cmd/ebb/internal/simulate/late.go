package simulate

import (
	"strconv"
	"time"
)

// LatePayment is a purchase of a customer that happened at t and arrives at now: what a till sends that was offline. Its amount is
// his usual one; false if the crowd does not know him, or no longer. It is not part of the crowd's own history.
func (c *Crowd) LatePayment(customer string, t, now time.Time) (Event, bool) {
	slot, ok := c.ids[customer]
	if !ok {
		return Event{}, false
	}
	p := c.customers[slot]
	amount := int64(p.basket)
	ms := t.UnixMilli()
	c.late++
	o := newObject(192).str("id", "late-"+strconv.FormatUint(c.late, 10)).str("customer_id", p.id).time("time", ms).str("type", "purchase").
		cents("amount", amount).str("currency", c.o.Currency).str("category", c.habits[p.habit].category)
	return Event{Feed: Payments, Key: p.id, Value: o.end(), Time: t, At: now, Spend: amount}, true
}
