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

// Suspect names what most likely drives a customer away whom an alert is about, by what went wrong for him in the sixty days before: a promise that was not kept, a complaint that is
// open or was made, or uses that failed. It is a hint of where to ask, not a finding; CauseNone where nothing is known. Of several the one that people forgive least is named. subject is
// the complaint that the alert is about, "" for the customer as a whole.
func Suspect(r *customer.Record, env *Env, subject string, at int64) event.Cause {
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
	}
	return event.CauseNone
}
