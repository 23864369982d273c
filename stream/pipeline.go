package stream

import (
	"bytes"
	"errors"
	"fmt"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/detectors/population"
	"ebb/state"
	"ebb/state/customer"
	"ebb/stream/batch"
	"ebb/stream/event"
	"ebb/stream/fetch"
)

// This file is the journey of a record inside a task: merge, apply, decide, emit. Everything here runs on the task's
// goroutine and touches nothing outside the task but the outbox.

// roundSize bounds the records applied between two looks at timers, cuts and commands.
const roundSize = 1024

// round applies what is buffered, in event-time order, and then runs the timers that this made due. It returns the number
// of records taken and deadlines decided.
func (t *task) round() (int, error) {
	for _, s := range t.sources {
		if s.fetch == nil {
			continue
		}
		before := s.position
		err := s.fill(t.table)
		if s.position != before { // over markers: nothing is applied, but tools would show a lag for ever
			t.moved = true
		}
		if err != nil {
			if err = t.mend(s, err); err != nil {
				return 0, err
			}
		}
	}
	if t.reroute != nil {
		if err := t.receive(); err != nil {
			return 0, err
		}
	}
	taken, err := t.arrivals()
	if err != nil || !t.profilesReady() {
		return taken, err
	}
	t.look()
	if !t.overdue {
		n, err := t.merge()
		taken += n
		if err != nil {
			return taken, err
		}
		t.look()
	}
	t.advance()
	t.judge()
	t.tell()
	n, err := t.timers()
	t.tellEpoch()
	t.tellCensus()
	return taken + n, err
}

// mend goes on behind records that a topic's retention has removed, and names the loss. Other faults of a feed stop the task,
// once what was read before is applied.
func (t *task) mend(s *source, err error) error {
	var gap *fetch.ErrRetentionGap
	var beyond *fetch.ErrBeyondEnd
	var corrupt *batch.CorruptError
	switch {
	case s.n > 0:
		return nil
	case errors.As(err, &gap):
		t.gap(s, gap.Position, gap.Start)
		s.position = gap.Start
		s.fetch.SeekTo(gap.Start)
		return nil
	case errors.As(err, &beyond):
		return &feedError{&BeyondEndError{Group: t.cfg.Group, Topic: s.topic, Partition: s.part, Position: beyond.Position, End: beyond.End}}
	case errors.As(err, &corrupt):
		return &feedError{fmt.Errorf("feed %s, topic %s partition %d: %w; restore the topic from a replica, or give the batch up with kafka-delete-records.sh "+
			"to the offset behind it, then restart: ebb goes on there and counts what was given up as a retention gap", s.feed, s.topic, s.part, err)}
	}
	return &feedError{fmt.Errorf("feed %s, topic %s partition %d: %w", s.feed, s.topic, s.part, err)}
}

// feedError is a feed that cannot be read on. What the task has applied is sound.
type feedError struct{ err error }

func (e *feedError) Error() string { return e.err.Error() }
func (e *feedError) Unwrap() error { return e.err }

// arrivals applies profiles, which never wait for the merge.
func (t *task) arrivals() (int, error) {
	n := 0
	for _, s := range t.profiles {
		for ; s.n > 0 && n < roundSize; n++ {
			if err := t.takeFirst(s); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// profilesReady holds the other feeds at a first start until the profiles are read to their end: tiers, zones and money
// rates of the first decisions depend on them.
func (t *task) profilesReady() bool {
	if t.ready {
		return true
	}
	for _, s := range t.profiles {
		if s.position < s.in.quietEnd {
			return false
		}
	}
	t.ready = true
	return true
}

// look refreshes the view of every merged feed.
func (t *task) look() {
	t.hear()
	for i, s := range t.merged {
		t.views[i] = s.view(t.unreachable(s))
	}
	if t.reroute != nil {
		t.promises()
		t.lookAtLanes()
	}
}

// merge applies records in the order of their event times for as long as the next record of every feed, or its absence, is
// known. Equal times keep the order of mergeOrder.
func (t *task) merge() (int, error) {
	if t.reroute != nil {
		t.reroute.stuck = false
	}
	for _, v := range t.views {
		if !v.known() {
			return 0, nil
		}
	}
	n := 0
	for n < roundSize {
		s, at := t.earliest()
		l, next := t.before(at), at
		if l != nil {
			next = l.time()
		}
		untimed := l == nil && at == 0 // nothing is decided by it
		if (s != nil || l != nil) && !untimed && !t.passes(next) && !t.passesOutOfOrder(next) {
			return n, nil
		}
		if l != nil {
			if waits, err := t.awaitsOthers(&l.held[0].slot, next); waits || err != nil {
				return n, err
			}
			if err := t.takeParcel(l); err != nil {
				return n, err
			}
			n++
			continue
		}
		if s == nil || !t.reroute.passes(at) {
			return n, nil
		}
		if waits, err := t.awaitsOthers(s.first(), at); waits || err != nil {
			return n, err
		}
		if err := t.takeFirst(s); err != nil {
			return n, err
		}
		n++
		if s.n == 0 || t.heavy() { // its next record is not known before it is filled again
			return n, nil
		}
	}
	return n, nil
}

// awaitsOthers reports whether a live record has to wait for other tasks after all: a deadline of its customer that is before it cannot be decided before they have
// promised so much, and would never be once he has come back. Where there is no room for what they forward their promises are not read either.
func (t *task) awaitsOthers(sl *slot, at int64) (bool, error) {
	r := t.reroute
	if r == nil || at <= r.hold || r.bytes >= r.room || !sl.timed() || len(sl.ev.Customer) == 0 {
		return false, nil
	}
	e, ok, err := t.table.Lookup(sl.ev.Customer)
	if !ok || err != nil {
		return false, err
	}
	due := e.Record.Deadline
	if due == 0 || due <= r.hold || due > at-t.cfg.Time.maxOutOfOrderMs() {
		return false, nil
	}
	r.stuck = true
	return true, nil
}

// passesOutOfOrder is passes for a record behind which earlier ones lie: the clock waits for those, and with it what the second stage is told.
func (t *task) passesOutOfOrder(at int64) bool {
	low := t.lowest(at)
	return low < at && t.passes(low)
}

// lowest is the smallest event time among the next buffered records of all feeds, at most the given one.
func (t *task) lowest(at int64) int64 {
	for _, s := range t.merged {
		if s.n > 0 {
			at = min(at, s.lowest())
		}
	}
	return at
}

// before is the lane whose next record goes before those of the feeds, whose earliest is at the given time; nil if there is none, or
// if it has to wait.
func (t *task) before(at int64) *lane {
	r := t.reroute
	if r == nil || len(r.full) == 0 {
		return nil
	}
	l, first := r.earliest()
	switch {
	case first <= at && r.passes(first):
		return l
	case r.bytes < r.room || r.rereads() || r.passes(min(at, first)): // there is room to read again what was held
		return nil
	}
	t.m.rerouteForced.Inc() // there is no room to read what it waits for
	return l
}

// earliest is the feed whose head has the smallest event time, and that time. A record that cannot be applied has no time: it
// is passed as soon as it is at the head of its feed.
func (t *task) earliest() (best *source, at int64) {
	at = never
	for _, s := range t.merged {
		if s.n == 0 {
			continue
		}
		sl := s.first()
		if !sl.timed() {
			return s, 0
		}
		if sl.ev.Time < at {
			best, at = s, sl.ev.Time
		}
	}
	for _, s := range t.controls { // they hold nobody, and wait for nobody who has nothing
		if s.n == 0 {
			continue
		}
		sl := s.first()
		if !sl.timed() {
			return s, 0
		}
		if sl.ev.Time < at && (best != nil || sl.ev.Time <= t.clock) {
			best, at = s, sl.ev.Time
		}
	}
	return best, at
}

// takeFirst takes the first record of a feed.
func (t *task) takeFirst(s *source) error {
	if err := t.take(s, s.first()); err != nil {
		return err
	}
	t.consumed[s.feed]++
	t.moved = true
	s.pop()
	return nil
}

// take applies a record, or passes it to the dead letters.
func (t *task) take(s *source, sl *slot) error {
	t.current.feed, t.current.slot = s, sl
	var err error
	switch {
	case sl.sent: // whatever it is, it is another task's
	case sl.reject != nil:
		err = t.refuse(s, sl)
	case sl.ignored:
		t.m.ignored[s.feed].Inc()
	case len(t.poisoned) != 0 && t.poisoned[poisonOf(s, sl)]:
		sl.reject = &event.Reject{Reason: event.ReasonInternalError, Message: "applying this record failed", Customer: string(sl.ev.Customer)}
		err = t.refuse(s, sl)
	default:
		err = t.apply(s, sl)
	}
	t.current.feed, t.current.slot = nil, nil
	return err
}

// apply changes the customer's record by one event and decides what that means. What was due before the event is
// decided before it, so that the outcome does not depend on how often timers run.
func (t *task) apply(s *source, sl *slot) error {
	ev := &sl.ev
	switch {
	case ev.Feed == event.Control && ev.Kind != event.KindMerge:
		return t.act(s, sl)
	case ev.Kind == event.KindMerge && t.reroute == nil:
		sl.reject = &event.Reject{Reason: event.ReasonUnsupportedType, Message: "customers who are merged move through topics.reroute, which is not set"}
		return t.refuse(s, sl)
	}
	entry, err := t.table.Get(ev.Customer)
	if err != nil {
		return fmt.Errorf("customer of %s offset %d: %w", s.topic, sl.rec.Offset, err)
	}
	rec := &entry.Record
	if rec.Quarantined {
		sl.reject = &event.Reject{Reason: event.ReasonQuarantined, Message: "this customer is quarantined", Customer: string(ev.Customer)}
		return t.refuse(s, sl)
	}
	if rec.MergedInto() != "" {
		return t.passOn(entry, s, sl)
	}
	if ev.Kind == event.KindMerge {
		return t.leave(entry, s, sl)
	}
	t.rec.tally.out(rec)
	reject := t.applyTo(entry, s, sl)
	t.rec.tally.in(rec)
	if reject != nil {
		sl.reject = reject
		return t.refuse(s, sl)
	}
	return nil
}

// applyTo is apply once the customer is found. It returns why the event is refused after all.
func (t *task) applyTo(entry *state.Entry, s *source, sl *slot) *event.Reject {
	ev, rec := &sl.ev, &entry.Record
	var day int32 // of the newcomer, if he is one
	var newcomer cohorts.Newcomer
	if s.feed != event.Customers {
		t.settleBefore(entry, ev.Time)
		t.sampleBefore(rec, ev.Time)
		day, newcomer = t.headcount.Before(rec, ev.Time)
	}
	t.env.Now, t.env.Population = ev.Time, t.population(max(ev.Time, rec.Decided)) // what the record learns of the event depends on it
	outcome := rec.Apply(ev, &t.params)
	if ev.Notes != 0 || outcome != customer.Applied {
		t.m.note(s.feed, ev.Notes, outcome)
	}
	t.table.Changed(entry)
	if outcome.Has(customer.SumOverflow) {
		return &event.Reject{Reason: event.ReasonAmountOverflow, Message: "the customer's sum would be more than can be held", Customer: string(ev.Customer)}
	}
	t.readable(s, sl) // one that came before can be read too
	if outcome.Has(customer.Duplicate) {
		return nil
	}
	t.headcount.Came(day, newcomer)
	t.headcount.Spent(ev, t.cfg.Rates)
	if late := sl.rec.Timestamp - ev.Time; late > t.late[s.feed] {
		t.late[s.feed] = late
	}
	f := &t.feeds[s.feed]
	if f.stalled != 0 && ev.Time > f.stalled {
		t.returns(s, ev.Time)
		f.rhythm.resume(ev.Time)
	}
	f.rhythm.observe(ev.Time)
	t.position = whereOf(s, sl)
	at := ev.Time
	if s.feed == event.Customers { // it did not wait for the merge: what the other feeds hold is known up to the clock only
		at = max(0, t.clock-t.cfg.Time.maxOutOfOrderMs())
	}
	t.decide(entry, max(at, rec.Decided), ev)
	return nil
}

// dueBefore is the time up to which a customer's deadlines are decided before something that happened at a time is applied.
func (t *task) dueBefore(at int64) int64 {
	due := at - t.cfg.Time.maxOutOfOrderMs()
	if t.reroute != nil && at > t.reroute.hold { // a live record does not wait for other tasks, but deadlines do
		due = min(due, t.reroute.hold)
	}
	return due
}

// settleBefore decides what was due of a customer before something that happens to him at a time is applied. Who is forgotten on the way is new again.
func (t *task) settleBefore(e *state.Entry, at int64) {
	if due := t.dueBefore(at); e.Record.Deadline != 0 && e.Record.Deadline <= due {
		t.settle(e, due)
		t.table.Revive(e)
	}
}

// settle decides the deadlines of one customer up to a time, each at its own moment.
func (t *task) settle(e *state.Entry, upTo int64) {
	alerts.Settle(&e.Record, upTo, func(at int64) { t.decide(e, at, nil) })
}

// timers decides the deadlines that the clock has passed, and returns how many it decided. The decision bears the deadline's time. Many may have the
// same, and each changes a record: what waits for a cut is bounded here as in merge, which then waits until they are all decided.
func (t *task) timers() (int, error) {
	t.overdue = true
	for i, s := range t.merged { // what a feed held when the task was closed is not known before it is read again
		if s.seen == 0 && !t.views[i].known() {
			return 0, nil
		}
	}
	if t.reroute.rereads() { // likewise what other tasks had forwarded: who is waited for would be put off, and never be silent if he comes meanwhile
		t.overdue = !t.unanswered(&t.reroute.status) // where nothing comes of that for long, live records go on
		return 0, nil
	}
	limit := t.timerLimit()
	n := 0
	for n < roundSize && !t.heavy() {
		e, at, ok, err := t.table.PopDue(limit)
		if err != nil {
			return n, err
		}
		if !ok {
			t.timersDone, t.overdue = limit, false
			return n, nil
		}
		if e == nil { // many deadlines have moved
			continue
		}
		n++
		t.rec.tally.out(&e.Record)
		t.current.timer = e
		if t.cursed[e.Record.ID] {
			t.quarantine(e, at)
		}
		if t.decide(e, at, nil) {
			t.rec.tally.in(&e.Record)
		}
		t.current.timer = nil
		t.table.Changed(e)
		t.m.timersFired.Inc()
		if t.live {
			t.m.timerLateness.Observe(float64(max(0, t.clock-at)) / 1000)
		}
	}
	return n, nil
}

// decide asks the detectors about one customer at event time at, turns what they say into alert steps, and arms the next
// deadline. It returns false for a customer who is forgotten.
func (t *task) decide(e *state.Entry, at int64, trigger *event.Event) bool {
	rec := &e.Record
	if rec.Quarantined {
		return true
	}
	t.know(at)
	d := t.decider.Decide(rec, &t.env, trigger, t.mode(), t.clock)
	for i := range d.Steps {
		t.emit(rec, &d.Steps[i], trigger)
	}
	for i := range d.Findings {
		t.found(&d.Findings[i])
	}
	t.judged(rec, d.Verdicts)
	if d.Leaves != nil {
		t.headcount.Leaves(rec, d.Leaves)
	}
	if d.Touched {
		t.hold(rec)
	}
	if d.Forget {
		t.table.Forget(e)
		return false
	}
	next := t.sample(rec, at, d.Next, trigger == nil)
	if due := t.headcount.Newcomer(rec, at, trigger == nil); due != 0 {
		next = min(next, due)
	}
	t.tellWaiting(leaversFact)
	t.table.Arm(e, next)
	return true
}

// know says up to where each feed is complete for a decision at event time at.
func (t *task) know(at int64) {
	t.env.Now = at
	t.headcount.At(at)
	t.env.Population, t.env.Misses = t.population(at), nil
	if rates := t.env.Population.Misses(); rates != nil {
		t.env.Misses = rates
	}
	if t.holdsBack() {
		t.env.Cohorts = t.sampling.models.standing.Load()
		t.env.CohortsDay, t.env.CohortsNext = t.judgedDay(at)
	}
	for f := range t.env.KnownUntil {
		t.env.KnownUntil[f] = at // a feed that is not configured hides nothing
	}
	grace := t.cfg.Time.Grace.Milliseconds()
	for i, s := range t.merged {
		f := &t.feeds[s.feed]
		complete := t.views[i].complete(grace)
		if !t.views[i].known() { // nothing is read of it just now: the clock stands where it was when something was
			complete = s.seen
		}
		until := max(0, min(at, complete, t.otherTasks(at))-s.completenessMs)
		if f.stalled != 0 {
			until = min(until, f.stalled)
		}
		if f.blind != 0 {
			until = min(until, f.blind)
		}
		t.env.KnownUntil[s.feed] = min(until, t.env.KnownUntil[s.feed])
	}
}

// found tells what was learnt of a complaint: the second stage, in the cut that notes it, whether its target was met; the metrics where the time of a matter
// went that is over. A history that is read says nothing of today's service.
func (t *task) found(f *detectors.Finding) {
	if f.Outcome != nil && t.sampling.on {
		t.tellLearning(&samplesTold{group: t.cfg.Group, samples: appendString(nil, string(population.AppendOutcome(nil, *f.Outcome)))})
	}
	if f.Cycle != nil && t.live {
		t.m.cycle(f.Cycle, t.rec.tally.knownTier(f.Cycle.Tier))
	}
}

// population is the model in force at an event time, nil if there is none.
func (t *task) population(at int64) *population.Model {
	if !t.sampling.on {
		return nil
	}
	return t.sampling.models.at(at)
}

// otherTasks is the event time up to which everything that other tasks forward has been seen; never where nothing is missing.
func (t *task) otherTasks(at int64) int64 {
	if t.reroute == nil || at <= t.reroute.hold {
		return never
	}
	return t.reroute.hold
}

// emit puts one alert step and its line of the table of open alerts into the outbox of the next cut.
func (t *task) emit(rec *customer.Record, st *alerts.Step, trigger *event.Event) {
	src := event.Position{}
	if trigger != nil {
		src = t.position
	}
	alert, open := t.policy.Message(st, rec, &t.env, src)
	t.outbox.add(t.cfg.Topics.Alerts, alert)
	t.outbox.add(t.cfg.Topics.OpenAlerts, open)
	t.outbox.steps = append(t.outbox.steps, stepSeen{detector: st.Detector, severity: st.Severity, kind: st.Kind, at: st.At, live: t.live && trigger != nil})
	if t.outbox.alertSince.IsZero() {
		t.outbox.alertSince = t.tick()
	}
}

// hold remembers who has alerts that the quiet history keeps unpublished.
func (t *task) hold(rec *customer.Record) {
	if t.rec.quiet && rec.HasUnpublished() {
		t.held[rec.ID] = struct{}{}
	}
}

// refuse sends one record to the dead letters, within the next cut, with its original bytes.
func (t *task) refuse(s *source, sl *slot) error {
	r := sl.reject
	if t.marked[r.Customer] { // who goes on in his place has to know
		switch e, ok, err := t.table.Lookup([]byte(r.Customer)); {
		case err != nil:
			return err
		case !ok || e.Record.MergedInto() == "":
		case t.reroute == nil:
			return noWay(s, sl)
		default:
			t.sendOn(s, sl, e.Record.MergedInto(), t.moment(sl))
			return nil
		}
	}
	at := t.moment(sl)
	t.outbox.add(t.cfg.Topics.DeadLetters, deadLetter(whereOf(s, sl), sl, r))
	t.m.deadLetter(s.feed, r.Reason)
	t.letters[s.feed][r.Reason]++
	t.examples[s.feed][r.Reason] = fmt.Sprintf("partition %d offset %d: %s", whereOf(s, sl).Partition, sl.rec.Offset, r.Message)
	if r.Reason != event.ReasonQuarantined && r.Reason != event.ReasonInternalError && r.Reason != event.ReasonUnsupportedType { // those are no fault of the feed
		t.health[s.feed].reject(at)
	}
	if r.Customer != "" && r.Reason != event.ReasonQuarantined {
		if err := t.blindCustomer(r, s.feed, at); err != nil {
			return err
		}
	}
	return t.judgeDeadLetters(s, sl, at)
}

// readable counts a record that can be read, at the time at which one that cannot would count: where records come late, the ten minutes hold both.
func (t *task) readable(s *source, sl *slot) {
	at := t.clock
	if at == 0 {
		at = t.moment(sl)
	}
	t.health[s.feed].accept(max(sl.ev.Time, at))
}

// moment is the event time at which a record is met that has none itself: that of what is applied next.
func (t *task) moment(sl *slot) int64 {
	low := t.lowest(never)
	switch {
	case low != never:
		return max(t.clock, low)
	case t.clock != 0:
		return t.clock
	}
	return max(sl.rec.Timestamp, 1)
}

// blindCustomer marks the customer that a bad record names: what ebb could not read is not taken for his silence.
func (t *task) blindCustomer(r *event.Reject, f event.Feed, at int64) error {
	e, ok, err := t.table.Lookup([]byte(r.Customer))
	if err == nil && !ok && r.Reason == event.ReasonInternalError { // to be counted, he has to be known
		e, err = t.table.Get([]byte(r.Customer))
		ok = true
	}
	if err != nil || !ok {
		return err
	}
	t.rec.tally.out(&e.Record)
	defer t.rec.tally.in(&e.Record)
	e.Record.MarkBlind(f, at)
	if r.Reason == event.ReasonInternalError {
		if e.Record.Poison++; e.Record.Poison >= maxPoison {
			t.quarantine(e, at)
		}
	}
	t.table.Changed(e)
	return nil
}

// quarantine leaves a customer alone from now on: his records go to the dead letters, and nothing is decided about him.
func (t *task) quarantine(e *state.Entry, at int64) {
	e.Record.Quarantined = true
	if t.rec.quarantined == 0 {
		t.rec.quarantined = max(at, 1)
	}
}

// maxPoison is the number of records that may fail inside ebb before their customer is quarantined.
const maxPoison = 3

// deadLetter is the record as it came, with the reason and where it was, in headers.
func deadLetter(at event.Position, sl *slot, r *event.Reject) alerts.Message {
	m := alerts.Message{Key: bytes.Clone(sl.rec.Key), Value: bytes.Clone(sl.rec.Value), Headers: originalHeaders(sl)}
	add := func(k, v string) { m.Headers = append(m.Headers, alerts.Header{Key: k, Value: []byte(v)}) }
	add("ebb_error_reason", string(r.Reason))
	add("ebb_error_message", r.Message)
	add(headerTopic, at.Topic)
	add(headerPartition, fmt.Sprint(at.Partition))
	add(headerOffset, fmt.Sprint(at.Offset))
	add(headerTimestamp, fmt.Sprint(at.Timestamp))
	return m
}
