package detectors

import (
	"ebb/state/customer"
)

// Somebody who bought only while there was an offer, and lapses when it ends, is no loyal customer who turns away: nothing happened to him, the price did. Nobody
// has to find out what he is angry about, and what he spent under the offer is not what he would spend without one.

// leastOffers is how many purchases under offers say how somebody buys.
const leastOffers = 2

// Bargains names how the customer buys: "offers_only", "offers_mostly" (more than half of his purchases), or "" for all others.
func Bargains(r *customer.Record) string {
	o := r.Offers()
	switch {
	case o == nil || o.Under < leastOffers:
		return ""
	case o.Only():
		return "offers_only"
	case o.Under > o.Plain:
		return "offers_mostly"
	}
	return ""
}

// afterOffer reports whether the customer bought under offers only, and the last of them ended within suspectDays before a time.
func afterOffer(r *customer.Record, at int64) bool {
	o := r.Offers()
	return o != nil && o.Only() && o.Under >= leastOffers && o.Ends != 0 && o.Ends <= at && at-o.Ends <= suspectDays*Day.Ms()
}

// ExplainOffers writes how the customer buys under offers, if he does.
func ExplainOffers(r *customer.Record, to *Object) {
	o := r.Offers()
	if o == nil {
		return
	}
	to.Object("offers", func(to *Object) {
		to.Int("purchases_under_offers", int64(o.Under))
		to.Int("other_purchases", int64(o.Plain))
		to.TextIf("last_offer", o.Last)
		to.TimeIf("ends", o.Ends)
	})
}

// AppendOffers appends the sentence of a customer who lapses when an offer ends, to the summary of a signal that he does less.
func AppendOffers(dst []byte, r *customer.Record, env *Env, sig *Signal) []byte {
	if sig.State != Firing || !doesLess(sig.Detector) || !afterOffer(r, sig.At) {
		return dst
	}
	dst = append(dst, " Bought only under offers, the last of which ended on "...)
	return append(appendDate(dst, int64(env.Calendar.DayOf(r, r.Offers().Ends))), '.')
}

// doesLess reports whether a detector tells of customers who do less than they used to.
func doesLess(detector string) bool {
	switch detector {
	case SilenceName, SpendDropName, UsageDropName, OutflowName:
		return true
	}
	return false
}
