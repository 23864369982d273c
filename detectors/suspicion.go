package detectors

import (
	"ebb/state/customer"
	"ebb/stream/event"
)

// What counts for a suspicion: trouble of the last suspectDays, and so many uses that failed.
const (
	suspectDays  = 60
	failuresTell = 3
)

// Suspect names what most likely drives a customer away whom an alert is about, by what went wrong for him in the sixty days before: a payment that failed and was not made up for, a
// promise that was not kept, a complaint that is open or was made, or uses that failed; and where nothing did, that the last offer has ended of somebody who bought
// under offers only. It is a hint of where to ask, not a finding; CauseNone where nothing is known. Of several the one that people forgive least is named. subject is
// the complaint that the alert is about, "" for the customer as a whole.
func Suspect(r *customer.Record, env *Env, subject string, at int64) event.Cause {
	if subject == "" && unpaid(r, env, at) {
		return event.CausePaymentFailure
	}
	if r.BrokenPromises(at-suspectDays*Day.Ms(), at) != 0 {
		return event.CauseBrokenPromise
	}
	if subject != "" {
		return event.CauseServiceProcess
	}
	for i := range r.Complaints {
		if c := &r.Complaints[i]; c.Open() && c.Opened <= at {
			return event.CauseServiceProcess
		}
	}
	failed, complaints := 0, 0
	from, to := env.Calendar.DayOf(r, at)-suspectDays, env.Calendar.DayOf(r, at)
	days := r.Troubles()
	for i := range days {
		if t := &days[i]; t.Day > from && t.Day <= to {
			failed, complaints = failed+t.Uses(), complaints+int(t.Complaints)
		}
	}
	switch {
	case complaints != 0:
		return event.CauseServiceProcess
	case failed >= failuresTell:
		return event.CauseProductQuality
	case afterOffer(r, at):
		return event.CausePrice
	}
	return event.CauseNone
}

// unpaid reports whether the customer owed something at a time, or does not any more because nobody waited for longer.
func unpaid(r *customer.Record, env *Env, at int64) bool {
	if env.giveUp == 0 {
		return false
	}
	b, _ := r.Billing(env.giveUp)
	for _, x := range b.Owed {
		if x.From <= at && (at < x.To || b.Paid < x.To && at < x.To+suspectDays*Day.Ms()) {
			return true
		}
	}
	return false
}
