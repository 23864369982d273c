package alerts

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"

	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
)

// Severity is how bad an alert is.
type Severity = detectors.Severity

// The severities of alerts.
const (
	Info     = detectors.Info
	Warning  = detectors.Warning
	Critical = detectors.Critical
)

// Reason is why an alert was resolved.
type Reason = detectors.Reason

// Some of the reasons; package detectors lists all.
const (
	ReasonRecovered = detectors.Recovered
	ReasonChurned   = detectors.Churned
	ReasonExpired   = detectors.Expired
)

// defaultLifecycles is MaxLifecycles where it is not said.
const defaultLifecycles = 80

// defaultQuiet is QuietAfterOutcome where it is not said.
const defaultQuiet = 30 * detectors.Day

// StepKind is a step of an alert's life.
type StepKind uint8

// The steps.
const (
	StepFired StepKind = iota + 1
	StepChanged
	StepResolved
	// StepAcknowledged: somebody has taken notice. An alert has one at most.
	StepAcknowledged
	// StepReminded: it still fires, and its snooze has ended or nobody has acknowledged it.
	StepReminded
)

var stepNames = [...]string{"", "fired", "changed", "resolved", "acknowledged", "reminded"}

// String returns the step's name in events and metrics.
func (k StepKind) String() string {
	if int(k) < len(stepNames) {
		return stepNames[k]
	}
	return "unknown"
}

// StepKinds lists the steps, for metric labels.
func StepKinds() []StepKind {
	return []StepKind{StepFired, StepChanged, StepAcknowledged, StepReminded, StepResolved}
}

// Mode says whether steps are published.
type Mode uint8

// The modes.
const (
	// Publish: every step is for subscribers.
	Publish Mode = iota
	// Quiet: history is being read. Alerts begin and end in the record, but nobody is told of those that begin.
	Quiet
)

// Config is what the policy needs to know.
type Config struct {
	// Group is the consumer group: part of every alert's id, and the source of the events.
	Group string
	// Detectors explain their decisions; alerts of detectors that are not in the set are resolved as rule_removed.
	Detectors *detectors.Set
	// Horizon is the time for which money at risk is told.
	Horizon detectors.Duration
	// MaxAlertAge: a condition that began longer before the end of the history, of a customer who was not seen since, is not
	// published on a first start.
	MaxAlertAge detectors.Duration
	// ForgetAfter is how long after its last event a record without open alerts is forgotten.
	ForgetAfter detectors.Duration
	// RemindAfter is how long nobody must have acknowledged an alert for a reminder; 0 for none.
	RemindAfter detectors.Duration
	// QuietAfterOutcome is how long a condition about the customer as a whole is not told again that a person closed with an outcome; 0 is 30 days.
	QuietAfterOutcome detectors.Duration
	// Together: a complaint and a drop of the same customer at the same time are one alert.
	Together bool
	// Currency is the reporting currency.
	Currency event.Currency
	// ConfigHash names the configuration in events; may be empty.
	ConfigHash string
	// MaxLifecycles is how many alerts of one customer may be open; 0 is 80. See customer.MaxLifecycles.
	MaxLifecycles int
}

// Policy decides on the life of alerts. It is immutable and safe for concurrent use.
type Policy struct {
	cfg         Config
	maxAlertAge int64 // ms
	forgetAfter int64 // ms
	remindAfter int64 // ms
	quietAfter  int64 // ms
	horizonDays int64
	source      []byte // ce_source
}

// New returns a policy.
func New(cfg Config) *Policy {
	if cfg.MaxLifecycles == 0 {
		cfg.MaxLifecycles = defaultLifecycles
	}
	if cfg.QuietAfterOutcome == 0 {
		cfg.QuietAfterOutcome = defaultQuiet
	}
	return &Policy{
		cfg: cfg, maxAlertAge: cfg.MaxAlertAge.Ms(), forgetAfter: cfg.ForgetAfter.Ms(),
		remindAfter: cfg.RemindAfter.Ms(), quietAfter: cfg.QuietAfterOutcome.Ms(),
		horizonDays: int64(cfg.Horizon / detectors.Day), source: []byte("/ebb/" + cfg.Group),
	}
}

// Step is one step of an alert's life, to be published with the record that it changed. It is valid until the record changes.
type Step struct {
	Kind     StepKind
	Detector string
	Subject  string
	Reason   Reason // of a resolved one
	At       int64  // event time of the decision
	Severity Severity
	AlertID  [16]byte
	Revision uint32
	FiredAt  int64
	Since    int64
	// Traceparent is passed through to the event, if it is not empty.
	Traceparent string

	// By, Note, Result and LossCause are of the act that led to the step.
	By, Note  string
	Result    event.Result // of one that resolved the alert
	LossCause event.Cause  // as the person said

	signal  detectors.Signal
	work    *customer.Work     // what people did so far; nil: nothing
	episode customer.Lifecycle // of the alert, as of the step
}

// Decide takes what the detectors say of a customer into the lifecycles of his alerts, and appends the steps to publish, in
// the order of their event times. A customer whose profile says that the relation has ended, and alerts of detectors that are
// gone, are resolved whatever the signals say.
func (p *Policy) Decide(r *customer.Record, sigs []detectors.Signal, env *detectors.Env, mode Mode, out []Step) []Step {
	begin := len(out)
	for i := range sigs {
		switch s := &sigs[i]; s.State {
		case detectors.Firing:
			out = p.firing(r, s, env, mode, out)
		case detectors.Clear:
			if at := r.Lifecycle(s.Detector, s.Subject); at >= 0 {
				out = p.resolve(r, at, s, out)
				p.cfg.Detectors.Ended(r, s, env)
			}
		}
	}
	if len(r.Lifecycles) != 0 {
		out = p.sweep(r, env, out)
		out = p.orphans(r, env, mode, out)
		out = p.letGo(r, env, mode, out)
		out = p.remind(r, env.Now, mode, out)
	}
	for i := begin + 1; i < len(out); i++ {
		for j := i; j > begin && out[j].At < out[j-1].At; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	for i := begin; i < len(out); i++ {
		r.Decided = max(r.Decided, out[i].At)
	}
	return out
}

// firing begins an alert, or raises the severity of an open one.
func (p *Policy) firing(r *customer.Record, s *detectors.Signal, env *detectors.Env, mode Mode, out []Step) []Step {
	at := r.Lifecycle(s.Detector, s.Subject)
	if at >= 0 {
		return p.goesOn(r, at, s, out)
	}
	if s.Subject == "" && r.Lapsed || hushed(r, s, env.Now) {
		return out
	}
	if len(r.Lifecycles) >= p.cfg.MaxLifecycles {
		r.CountLifecycleOverflow()
		return out
	}
	fired := r.UnusedTime(s.Detector, s.Subject, s.At)
	r.Lifecycles = append(r.Lifecycles, customer.Lifecycle{
		Detector: s.Detector, Subject: s.Subject, AlertID: p.alertID(r.ID, s.Detector, s.Subject, fired), FiredAt: fired,
		Since: s.Since, ChangedAt: fired, Revision: 1, Severity: uint8(s.Severity), Cause: s.Cause, Day: s.Day,
		Unpublished: mode == Quiet, Observed: s.Observed, Expected: s.Expected, AtRisk: s.AtRisk, Probability: permille(s.Probability),
		HorizonDays: uint16(s.HorizonDays),
	})
	r.Decided = max(r.Decided, fired)
	p.cfg.Detectors.Remember(r, s)
	at = len(r.Lifecycles) - 1
	if k := p.hostFor(r, at, mode); k >= 0 {
		return p.join(r, at, k, env, out)
	}
	if mode == Quiet || p.holdBack(r, at, env) {
		return out
	}
	l := &r.Lifecycles[at]
	p.foretell(r, env, l)
	if due := p.remindAt(l); due != 0 && due <= env.Now { // it is told late: nobody can have acknowledged it before
		p.wake(l, env.Now)
	}
	st := step(StepFired, l, s)
	st.At = fired
	return append(out, st)
}

// goesOn takes over what is new about an open alert. Only a higher severity is a step of its own.
func (p *Policy) goesOn(r *customer.Record, at int, s *detectors.Signal, out []Step) []Step {
	l := &r.Lifecycles[at]
	if uint8(s.Severity) <= l.Severity {
		return out
	}
	s.At = max(s.At, l.ChangedAt) // no step is older than the one before, though what is known late may have happened earlier
	l.Severity, l.Cause, l.Day, l.ChangedAt = uint8(s.Severity), s.Cause, s.Day, s.At
	l.Observed, l.Expected, l.AtRisk, l.Probability = s.Observed, s.Expected, s.AtRisk, permille(s.Probability)
	for _, g := range guestsOf(r, l.AlertID) {
		l.AtRisk = max(l.AtRisk, g.AtRisk)
	}
	switch {
	case l.Guest():
		return p.worse(r, at, out)
	case l.Unpublished:
		return out
	}
	l.Revision++
	st := step(StepChanged, l, s)
	st.signal.AtRisk = l.AtRisk
	return append(out, st)
}

// resolve ends an alert.
func (p *Policy) resolve(r *customer.Record, at int, s *detectors.Signal, out []Step) []Step {
	l := r.Lifecycles[at]
	r.Lifecycles = append(r.Lifecycles[:at], r.Lifecycles[at+1:]...)
	s.At = max(s.At, l.ChangedAt)
	p.cfg.Detectors.Remember(r, s)
	switch {
	case s.Reason == ReasonChurned && l.Subject == "":
		r.Lapsed = true
	case s.Reason == ReasonExpired:
		mute(r, l.Subject)
	}
	if l.Guest() {
		return p.parted(r, &l, s.At, out)
	}
	handOver(r, &l)
	if l.Unpublished && !takeRecalled(r, &l) {
		return out
	}
	r.RememberFired(l.Detector, l.Subject, l.FiredAt)
	l.Revision++
	st := step(StepResolved, &l, s)
	st.Reason = s.Reason
	return append(out, st)
}

// takeRecalled gives an alert that fired again in a rewound history back what was told of it. It is false for one that was not told.
func takeRecalled(r *customer.Record, l *customer.Lifecycle) bool {
	told := r.Recalled()
	for i := range told {
		if told[i].AlertID == l.AlertID {
			l.Revision, l.Severity, l.Unpublished = told[i].Revision, max(l.Severity, told[i].Severity), false
			l.Work = cmp.Or(l.Work, told[i].Work)
			r.DropRecalled(i)
			return true
		}
	}
	return false
}

func mute(r *customer.Record, complaint string) {
	if i := r.Complaint(complaint); i >= 0 {
		r.Complaints[i].Muted = true
	}
}

func step(kind StepKind, l *customer.Lifecycle, s *detectors.Signal) Step {
	st := Step{
		Kind: kind, Detector: l.Detector, Subject: l.Subject, At: s.At, Severity: Severity(l.Severity), AlertID: l.AlertID,
		Revision: l.Revision, FiredAt: l.FiredAt, Since: l.Since, signal: *s, work: l.Work, episode: *l,
	}
	st.signal.Since, st.signal.HorizonDays = l.Since, int(l.HorizonDays)
	return st
}

// sweep resolves what no detector can end any more.
func (p *Policy) sweep(r *customer.Record, env *detectors.Env, out []Step) []Step {
	for i := 0; i < len(r.Lifecycles); {
		l := &r.Lifecycles[i]
		reason := p.swept(r, l)
		if reason == "" {
			i++
			continue
		}
		s := p.held(l)
		s.State, s.Reason, s.At = detectors.Clear, reason, max(env.Now, l.ChangedAt)
		out = p.resolve(r, i, &s, out)
	}
	return out
}

// swept is why an alert ends whatever its detector says, empty if it does not.
func (p *Policy) swept(r *customer.Record, l *customer.Lifecycle) Reason {
	switch {
	case p.cfg.Detectors.Detector(l.Detector) == nil:
		return detectors.RuleRemoved
	case !r.Closed():
		return ""
	case r.MergedInto() != "":
		return detectors.CustomerMerged
	}
	switch r.Profile().Status {
	case customer.StatusMerged:
		return detectors.CustomerMerged
	case customer.StatusErased:
		return detectors.CustomerErased
	}
	return detectors.CustomerClosed
}

// held is the signal that a lifecycle remembers.
func (p *Policy) held(l *customer.Lifecycle) detectors.Signal {
	return detectors.Signal{
		Detector: l.Detector, Subject: l.Subject, State: detectors.Firing, At: l.FiredAt, Since: l.Since,
		Severity: Severity(l.Severity), Cause: l.Cause, Day: l.Day, Observed: l.Observed, Expected: l.Expected, AtRisk: l.AtRisk,
		Probability: float64(l.Probability) / 1000, HorizonDays: int(l.HorizonDays),
	}
}

// PublishHeld ends the quiet history for a customer, at event time env.Now: it appends the fired step of each alert that still
// fires and was kept, with the time at which it fired. What is longer ago than MaxAlertAge (see newsOf) is no news: the alert is
// dropped, and the customer lapsed, or the complaint muted.
//
// After a rewind, an alert that was told before and fires again goes on under its id; the step is only that its severity has risen, or what people did about it
// meanwhile, if there is such. One that does not
// fire any more is resolved.
func (p *Policy) PublishHeld(r *customer.Record, env *detectors.Env, out []Step) []Step {
	env.Excuse(r)
	for i := range r.Lifecycles { // what was told by itself goes on so
		if l := &r.Lifecycles[i]; l.Guest() && recalledFor(r, l) >= 0 {
			l.Host = [16]byte{}
		}
	}
	keep := r.Lifecycles[:0]
	for i := range r.Lifecycles {
		l := r.Lifecycles[i]
		told := -1
		if l.Unpublished {
			told = recalledFor(r, &l)
		}
		switch {
		case !l.Unpublished, l.Guest(), l.HeldBack():
		case told >= 0:
			rehost(r, l.AlertID, r.Recalled()[told].AlertID)
			if st, changed := p.toldAgain(r, &l, &r.Recalled()[told], env.Now); changed {
				out = append(out, st)
			}
			r.DropRecalled(told)
			p.foretell(r, env, &l)
		case p.longPast(r, &l, env.Now):
			continue
		default:
			p.wake(&l, env.Now)
			p.foretell(r, env, &l)
			l.Unpublished = false
			s := p.held(&l)
			st := step(StepFired, &l, &s)
			// The sentence tells what was true when the severity rose last: by then another clock had run out than at first.
			st.signal.At = max(l.FiredAt, l.ChangedAt)
			out = append(out, st)
		}
		keep = append(keep, l)
	}
	clear(r.Lifecycles[len(keep):])
	r.Lifecycles = keep
	out = p.publishGuests(r, env, out)
	out = p.remind(r, env.Now, Publish, out) // of what was told before and goes on: nobody was reminded meanwhile
	for len(r.Recalled()) != 0 {
		l := r.Recalled()[0]
		r.DropRecalled(0)
		out = append(out, p.unfounded(r, &l, env))
	}
	return out
}

// longPast ends an alert that is no news when a quiet history ends.
func (p *Policy) longPast(r *customer.Record, l *customer.Lifecycle, now int64) bool {
	if now-newsOf(r, l) <= p.maxAlertAge {
		return false
	}
	if l.Subject == "" {
		r.Lapsed = true
	} else {
		mute(r, l.Subject)
	}
	return true
}

// recalledFor is the index of the recalled alert of the same detector and subject, -1 if there is none.
func recalledFor(r *customer.Record, l *customer.Lifecycle) int {
	for i := range r.Recalled() {
		if told := &r.Recalled()[i]; told.Detector == l.Detector && told.Subject == l.Subject {
			return i
		}
	}
	return -1
}

// toldAgain gives an alert the id and the revision under which it was told. It returns a step if its severity is higher than what was told, or people acted on it.
func (p *Policy) toldAgain(r *customer.Record, l, told *customer.Lifecycle, now int64) (Step, bool) {
	if told.FiredAt != l.FiredAt { // the id is of that time
		r.RememberFired(told.Detector, told.Subject, told.FiredAt)
	}
	l.AlertID, l.Revision, l.Unpublished = told.AlertID, told.Revision, false
	worked := l.Work != nil && (told.Work == nil || *l.Work != *told.Work)
	l.Work = cmp.Or(l.Work, told.Work)
	if l.Severity <= told.Severity && !worked {
		l.Severity = told.Severity
		return Step{}, false
	}
	l.Severity = max(l.Severity, told.Severity)
	p.wake(l, now)
	l.Revision++
	s := p.held(l)
	s.At = max(l.FiredAt, l.ChangedAt)
	return step(StepChanged, l, &s), true
}

// unfounded resolves an alert that was told and does not fire in the rewound history: as one that what is known by now refutes, or, of a customer or complaint of
// whom nothing is known any more, as expired.
func (p *Policy) unfounded(r *customer.Record, l *customer.Lifecycle, env *detectors.Env) Step {
	reason := p.swept(r, l)
	switch {
	case reason != "":
	case r.First == 0, l.Subject != "" && r.Complaint(l.Subject) < 0:
		reason = ReasonExpired
	default:
		reason = detectors.CorrectedByLateData
	}
	s := p.held(l)
	s.State, s.Reason, s.At = detectors.Clear, reason, max(env.Now, l.ChangedAt)
	l.Revision++
	r.Decided = max(r.Decided, s.At)
	r.RememberFired(l.Detector, l.Subject, l.FiredAt)
	st := step(StepResolved, l, &s)
	st.Reason = reason
	return st
}

// newsOf is the time by which an alert is news: when its condition began, or when the customer was there last, if it is about
// the customer as a whole. A drop in spend begins with its window, longer ago than MaxAlertAge; but somebody who still comes
// is not long gone, and would be alerted at his next purchase anyway.
func newsOf(r *customer.Record, l *customer.Lifecycle) int64 {
	if l.Subject != "" {
		return l.Since
	}
	return max(l.Since, r.LastActivity)
}

// ForgetAt is when the record should be looked at to be forgotten, in event time. What has open alerts, and a profile of whom
// no event was seen yet, is not forgotten; it is looked at ten years later.
func (p *Policy) ForgetAt(r *customer.Record) int64 {
	const later = 3660 * 24 * 3_600_000
	at := p.lastHeard(r) + p.forgetAfter
	if p.needed(r) && at < math.MaxInt64-later {
		return at + later
	}
	return at
}

// Forget reports whether the record is to be forgotten at event time now.
func (p *Policy) Forget(r *customer.Record, now int64) bool {
	return !p.needed(r) && now >= p.lastHeard(r)+p.forgetAfter
}

func (p *Policy) needed(r *customer.Record) bool {
	return len(r.Lifecycles) != 0 || len(r.Recalled()) != 0 || r.Quarantined || r.First == 0 && r.Profile() != nil && !r.Closed()
}

// lastHeard is the time of the newest event or profile. Of a customer of whom a rewind has left nothing else it is when he was alerted.
func (p *Policy) lastHeard(r *customer.Record) int64 {
	at := max(r.Latest, r.ProfileAt())
	if r.First == 0 {
		at = max(at, r.LastFired())
	}
	return at
}

// alertID is the first 16 bytes of SHA-256 over group, customer, detector and subject, each behind its length in four bytes,
// and the event time in milliseconds in eight bytes, all big-endian. No two alerts bear the same: see customer.Record.UnusedTime.
func (p *Policy) alertID(customer, detector, subject string, firedAt int64) [16]byte {
	b := make([]byte, 0, 256)
	for _, part := range [...]string{p.cfg.Group, customer, detector, subject} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(b, uint64(firedAt)))
	return [16]byte(sum[:16])
}
