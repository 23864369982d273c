package stream

import (
	"time"

	"ebb/alerts"
)

// waiting is how a task waits for what the second stage tells, before it reads history on. Near the present it does not wait: what is told then comes seconds after
// the event time at which it is due, and is in force only later; a late one is no reason to hold alerts.
type waiting struct {
	what string // in words
	// held is when the task began to wait for something newer than had, zero while it does not. said is when it last told of it.
	held, said time.Time
	had        int64
	// vain is the newest that was known when something was waited for in vain: until another comes, none is waited for; -1 if none was.
	vain int64
}

// patience bounds how long history waits, in the time of the process: somebody's task may stand still for a fault that only a person can mend.
const patience = 2 * time.Minute

func waitFor(what string) waiting { return waiting{what: what, vain: -1} }

// newJudging waits for the judgement of cohorts.
func newJudging() waiting { return waitFor("the cohorts of customers to be judged") }

// awaits reports whether the task may go on beyond an event time: known, the newest that the second stage has told, is enough for it, or it is not waited for. What is
// told counts from a lag after the event time at which it is due, ms.
func (t *task) awaits(w *waiting, known int64, enough bool, at, lag int64) bool {
	switch {
	case enough:
		w.held = time.Time{}
		return true
	case known == w.vain, known != unread && at > t.now().UnixMilli()-lag:
		return true
	}
	now := t.tick()
	if w.held.IsZero() || w.had != known {
		w.held, w.had, w.said = now, known, now
	}
	if now.Sub(w.held) < patience {
		if now.Sub(w.said) >= progressEvery {
			w.said = now
			t.log.Info("waiting for the second stage before history is read on", "for", w.what, "at", time.UnixMilli(at).UTC())
		}
		return false
	}
	t.log.Warn("the second stage does not tell what is waited for; going on with what was known before, because some partition or the second stage stands still",
		"for", w.what, "at", time.UnixMilli(at).UTC(), "waited", patience)
	t.m.modelsMissed.Inc()
	w.vain, w.held = known, time.Time{}
	return true
}

// waitsFor is what the task has been waiting for, for a while; empty: for nothing.
func (t *task) waitsFor() string {
	for _, w := range []*waiting{&t.sampling.wait, &t.judging} {
		if !w.held.IsZero() && t.tick().Sub(w.held) >= progressEvery {
			return w.what
		}
	}
	return ""
}

// cohortLag is how long after the end of a day the judgement of its cohorts comes into force, beyond what may be out of order, ms of event time: by then every
// partition has told the day, if it reads the present.
const cohortLag = hourMs

// JudgedDay is the day whose judgement of cohorts is in force at an event time, and the event time from which the next one is, ms. outOfOrder is by how much events may
// come out of order, ms.
func JudgedDay(at, outOfOrder int64) (day int32, next int64) {
	lag := outOfOrder + cohortLag
	today := dayOf(at - lag)
	return today - 1, int64(today+1)*dayMs + lag
}

func (t *task) judgedDay(at int64) (day int32, next int64) {
	return JudgedDay(at, t.cfg.Time.maxOutOfOrderMs())
}

// holdsBack reports whether alerts are held back within those about cohorts.
func (t *task) holdsBack() bool { return t.cfg.Cohorts != nil && t.cfg.Cohorts.HoldBack }

// passesCohorts is passes for the judgement of cohorts. In a quiet history nobody is told anything, so nothing is held back.
func (t *task) passesCohorts(at int64) bool {
	if !t.holdsBack() || t.mode() == alerts.Quiet {
		return true
	}
	known := t.sampling.models.judged()
	day, _ := t.judgedDay(at)
	return t.awaits(&t.judging, known, known > 0 && known >= int64(day), at, t.cfg.Time.maxOutOfOrderMs()+cohortLag)
}

// cohortLimit is up to when deadlines may be decided, as far as cohorts are concerned.
func (t *task) cohortLimit(limit int64) int64 {
	if !t.holdsBack() || t.mode() == alerts.Quiet {
		return limit
	}
	allowed := int64(0)
	switch known := t.sampling.models.judged(); known {
	case unread:
	case 0: // up to the first: by that the second stage is told the day before
		allowed = min(limit, max(0, t.table.NoneBefore()-1))
	default:
		allowed = (known+2)*dayMs + t.cfg.Time.maxOutOfOrderMs() + cohortLag - 1
	}
	if limit <= allowed || t.passesCohorts(allowed+1) {
		return limit
	}
	return allowed
}
