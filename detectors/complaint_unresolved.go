package detectors

import (
	"strconv"

	"ebb/detectors/hours"
	"ebb/state/customer"
	"ebb/stream/event"
)

// ComplaintUnresolvedName is the name of the detector of complaints that are left lying.
const ComplaintUnresolvedName = "complaint_unresolved"

// ComplaintUnresolvedConfig holds the numbers of complaint_unresolved.
//
// It fires for each complaint when the first of its targets has passed: FirstResponse since the opening without a response, NextReply since the customer
// wrote again without an answer, Resolution without an end, the time by which something was promised; Inquiry for a question that nobody answered. A target
// of 0s fires at once, and "off" never. A pause stops the clock of the resolution. Before a target has passed it warns. The alert ends with the complaint, a
// warning when its danger is over, both as expired.
type ComplaintUnresolvedConfig struct {
	Enabled       bool    `yaml:"enabled"`
	FirstResponse Targets `yaml:"first_response"`
	// Within what time somebody has to answer when the customer has written again.
	NextReply  Targets `yaml:"next_reply"`
	Resolution Targets `yaml:"resolution"`
	// Within what time an inquiry has to be answered that is no complaint.
	Inquiry Target `yaml:"inquiry"`
	// Time limits of their own for a priority, a tier, or both; the most specific wins.
	Targets []TargetRule `yaml:"targets"`
	// Name of the calendar whose hours count where neither a rule nor the customer's schedule names one. Left out: around the clock.
	Calendar string `yaml:"calendar"`
	// A response stops the clock of the resolution until the customer writes again.
	RespondedWaits bool         `yaml:"responded_waits"`
	Warn           WarnConfig   `yaml:"warn"`
	Severe         SevereConfig `yaml:"severe"`
	// Score from which on a customer who rated a complaint is content with it, on the source's own scale.
	ContentFrom Amount   `yaml:"content_from"`
	ExpireAfter Duration `yaml:"expire_after"` // 1d to 3660d: so long after its opening nobody will resolve it any more
}

// WarnConfig says when a complaint is warned of whose target has not passed yet.
type WarnConfig struct {
	// Share of a target after which there is a warning in any case, 0 to 1. 0: never.
	Late float64 `yaml:"late"`
	// Share of the time for the resolution after which there is one already if the complaint's group is likely to miss it, 0 to 1. 0: never.
	Early float64 `yaml:"early"`
	// How likely it must be, 0 to 1: of the early warnings at least so many are right in the long run.
	Right float64 `yaml:"right"`
}

// SevereConfig says what makes a complaint critical beside its priority.
type SevereConfig struct {
	// From which level on it is critical, and alerted at once: 1 is told to staff, 2 to others, 3 to a third party such as a regulator or the press. 0: none.
	Level int `yaml:"level"`
	// How often it must have been passed on for a missed target to be critical. 0: does not matter.
	Reassigned int `yaml:"reassigned"`
	// The same for how often it was opened again.
	Reopened int `yaml:"reopened"`
	// So soon after the end of another complaint of the same customer and category it counts as the same trouble again, for which a missed
	// target is critical. 0s: never.
	RepeatWithin Duration `yaml:"repeat_within"`
	// A broken promise is critical if another to the same customer was broken within this time before. 0s: never.
	BrokenWithin Duration `yaml:"broken_within"`
}

// Targets are the time limits by priority.
type Targets struct {
	Low      Target `yaml:"low"`
	Normal   Target `yaml:"normal"`
	High     Target `yaml:"high"`
	Urgent   Target `yaml:"urgent"`
	Critical Target `yaml:"critical"`
}

// AllPriorities returns the same target for every priority.
func AllPriorities(t Target) Targets {
	return Targets{Low: t, Normal: t, High: t, Urgent: t, Critical: t}
}

// DefaultComplaintUnresolved returns the usual targets of a service desk.
func DefaultComplaintUnresolved() ComplaintUnresolvedConfig {
	response := Targets{
		Low: Within(48 * Hour), Normal: Within(24 * Hour), High: Within(8 * Hour), Urgent: Within(4 * Hour), Critical: Within(Hour),
	}
	return ComplaintUnresolvedConfig{
		Enabled:       true,
		FirstResponse: response,
		NextReply:     response,
		Resolution: Targets{
			Low: Within(14 * Day), Normal: Within(7 * Day), High: Within(3 * Day), Urgent: Within(2 * Day), Critical: Within(Day),
		},
		Inquiry:     Within(48 * Hour),
		Warn:        WarnConfig{Late: 0.8, Early: 0.25, Right: 0.8},
		Severe:      SevereConfig{Level: 3, Reassigned: 3, Reopened: 2, RepeatWithin: 14 * Day, BrokenWithin: 90 * Day},
		ContentFrom: Amount(4 * event.MoneyUnit),
		ExpireAfter: 365 * Day,
	}
}

func (c *ComplaintUnresolvedConfig) validate(f *faults, calendars map[string]*hours.Calendar, tiers []string) {
	const at = ComplaintUnresolvedName + "."
	f.duration(at+"expire_after", c.ExpireAfter, Day, 3660*Day)
	c.validateTargets(f, calendars, tiers)
	f.share(at+"warn.late", c.Warn.Late, 0, 1)
	f.share(at+"warn.early", c.Warn.Early, 0, 1)
	f.share(at+"warn.right", c.Warn.Right, 0, 1)
	if w := c.Warn; w.Early != 0 && w.Late != 0 && w.Early > w.Late {
		f.add(at+"warn.early", "is %v; allowed is at most warn.late, %v", w.Early, w.Late)
	}
	f.number(at+"severe.level", c.Severe.Level, 0, 255)
	f.number(at+"severe.reassigned", c.Severe.Reassigned, 0, 255)
	f.number(at+"severe.reopened", c.Severe.Reopened, 0, 1000)
	f.duration(at+"severe.repeat_within", c.Severe.RepeatWithin, 0, 366*Day)
	f.duration(at+"severe.broken_within", c.Severe.BrokenWithin, 0, 366*Day)
}

// Which clock ran out: the cause of a signal. The numbers are stored.
const (
	causeFirstResponse uint8 = iota + 1
	causeResolution
	causeNextReply
	causePromise
	causeInquiry
	causeLevel // no clock: it has been taken to others
)

var clockNames = [...]string{
	causeFirstResponse: "first_response", causeResolution: "resolution", causeNextReply: "next_reply", causePromise: "promise", causeInquiry: "inquiry",
	causeLevel: "level",
}

type complaintUnresolved struct {
	cfg       ComplaintUnresolvedConfig
	rules     []targetRule // the most specific last
	calendars map[string]*hours.Calendar
	expire    int64
	horizon   Duration
}

func newComplaintUnresolved(cfg ComplaintUnresolvedConfig, calendars map[string]*hours.Calendar, horizon Duration) *complaintUnresolved {
	return &complaintUnresolved{cfg: cfg, rules: rulesOf(cfg.Targets), calendars: calendars, expire: cfg.ExpireAfter.Ms(), horizon: horizon}
}

var _ Detector = (*complaintUnresolved)(nil)

func (*complaintUnresolved) Name() string    { return ComplaintUnresolvedName }
func (*complaintUnresolved) Version() string { return "2" }

// Evaluate judges each complaint by its own clocks.
func (d *complaintUnresolved) Evaluate(r *customer.Record, env *Env, trigger *event.Event, out []Signal) ([]Signal, int64) {
	next := int64(0)
	for i := range r.Complaints {
		c := &r.Complaints[i]
		var at int64
		if open := r.Lifecycle(ComplaintUnresolvedName, c.ID); open >= 0 {
			out, at = d.goesOn(r, c, env, trigger, &r.Lifecycles[open], out)
		} else if c.Open() && !c.Muted {
			out, at = d.begins(r, c, env, out)
		}
		next = earlier(next, at)
		if over := c.Resolved + customer.SatisfiedAfter; c.Resolved != 0 && c.Opened != 0 && !c.Case.Told && over > env.Now { // else it is found out with this decision
			next = earlier(next, over)
		}
	}
	for i := range r.Lifecycles {
		// The complaint was dropped to make room for newer ones.
		if l := &r.Lifecycles[i]; l.Detector == ComplaintUnresolvedName && r.Complaint(l.Subject) < 0 {
			s := d.clear(l, Expired, max(env.Now, l.FiredAt))
			out = append(out, s)
		}
	}
	return out, next
}

// state is how a complaint stands.
type state struct {
	at       int64 // when the worst that has happened happened
	cause    uint8 // 0: nothing has
	severity Severity
	hold     int64 // of what would have happened by now, if all were known that was: when the first did; 0 for nothing
	next     int64 // when the next will happen, 0 for never
}

// worse takes in what has happened. Of two as bad the earlier counts.
func (s *state) worse(at int64, cause uint8, severity Severity) {
	if severity > s.severity || severity == s.severity && at < s.at {
		s.at, s.cause, s.severity = at, cause, severity
	}
}

// stand judges a complaint at a time, from what is known up to another. early says whether an early warning counts; nil for never.
func (d *complaintUnresolved) stand(r *customer.Record, c *customer.Complaint, now, known int64, early func(at int64) bool) state {
	var k clocks
	d.clocksOf(r, c, now, &k)
	s := state{}
	// happened reports whether a moment has come, and is known to have.
	happened := func(at int64) bool {
		switch {
		case at == noMoment:
			return false
		case at > now:
			s.next = earlier(s.next, at)
			return false
		case at > known && at > c.Opened: // the record that ends the wait may not have been seen; what is due at once waits for nothing
			s.hold = earlier(s.hold, at)
			return false
		}
		return true
	}
	if l := d.cfg.Severe.Level; l != 0 && int(c.Level) >= l {
		s.worse(now, causeLevel, Critical)
	}
	for _, x := range k.all() {
		switch {
		case happened(x.due):
			s.worse(x.due, x.cause, d.severity(r, c, x.cause, x.due))
		case x.late < x.due && happened(x.late):
			s.worse(x.late, x.cause, Info)
		case early != nil && x.early < x.late && happened(x.early) && early(x.early):
			s.worse(x.early, x.cause, Info)
		}
	}
	return s
}

// begins judges an open complaint that is not alerted.
func (d *complaintUnresolved) begins(r *customer.Record, c *customer.Complaint, env *Env, out []Signal) ([]Signal, int64) {
	known := env.KnownUntil[event.Complaints]
	s := d.stand(r, c, env.Now, known, d.weigh(c, env))
	switch {
	case s.cause == 0 && s.hold != 0:
		return append(out, Signal{Detector: ComplaintUnresolvedName, Subject: c.ID, State: Hold, At: s.hold}), env.again(s.hold, known)
	case s.cause == 0:
		return out, s.next
	}
	day := env.Calendar.DayOf(r, s.at)
	out = append(out, Signal{
		Detector: ComplaintUnresolvedName, Subject: c.ID, State: Firing, At: s.at, Since: c.Opened, Cause: s.cause, Day: day,
		Severity: s.severity, AtRisk: baselineOf(r, env.Rates, day, d.horizon),
	})
	return out, earlier(d.again(&s, env, known), c.Opened+d.expire)
}

// again is when to look again at a complaint that stands so: when the next clock runs out, or when it may be known of one that has.
func (d *complaintUnresolved) again(s *state, env *Env, known int64) int64 {
	if s.hold == 0 {
		return s.next
	}
	return earlier(s.next, env.again(s.hold, known))
}

// weigh says whether a complaint whose early moment has come is to be warned of. It is asked once; nil where it was asked, or cannot be answered.
func (d *complaintUnresolved) weigh(c *customer.Complaint, env *Env) func(at int64) bool {
	if c.Case.Weighed || c.Case.Inquiry || env.Misses == nil || d.cfg.Warn.Early == 0 {
		return nil
	}
	return func(at int64) bool {
		rate, ok := env.Misses.MissRate(c.GroupAtTime(at))
		return ok && rate >= d.cfg.Warn.Right
	}
}

// goesOn judges a complaint whose alert is open.
func (d *complaintUnresolved) goesOn(r *customer.Record, c *customer.Complaint, env *Env, trigger *event.Event, l *customer.Lifecycle, out []Signal) ([]Signal, int64) {
	late := func(t int64) Reason {
		if t < l.FiredAt {
			return CorrectedByLateData
		}
		return ComplaintResolved
	}
	now := max(env.Now, l.FiredAt)
	known := env.KnownUntil[event.Complaints]
	expires := max(c.Opened+d.expire, l.FiredAt)
	// What was warned of early stays warned of.
	warned := func(at int64) bool { return l.Cause == causeResolution && at <= l.FiredAt }
	switch {
	case c.Resolved != 0:
		return append(out, d.clear(l, late(c.Resolved), now)), 0
	case l.Cause == causeInquiry && !c.Case.Inquiry:
		return append(out, d.clear(l, Recovered, now)), d.anew(r, c, env, known)
	case c.Opened > l.FiredAt: // reopened: the alert was of the clock before
		return append(out, d.clear(l, ComplaintResolved, now)), d.anew(r, c, env, known)
	case d.refutable(c, l, trigger) && d.stand(r, c, l.FiredAt, l.FiredAt, warned).cause == 0:
		return append(out, d.clear(l, CorrectedByLateData, now)), d.anew(r, c, env, known)
	case env.Now >= expires:
		return append(out, d.clear(l, Expired, expires)), 0
	}
	st := d.stand(r, c, env.Now, known, warned)
	if st.cause == 0 && st.hold == 0 && d.onlyWarned(r, c, env.Now, l, warned) {
		return append(out, d.clear(l, Recovered, now)), st.next
	}
	s := Signal{
		Detector: ComplaintUnresolvedName, Subject: l.Subject, State: Firing, At: env.Now, Since: l.Since, Cause: l.Cause,
		Severity: Severity(l.Severity), AtRisk: l.AtRisk, Day: env.Calendar.Day(l.FiredAt),
	}
	if st.severity > s.Severity {
		s.Cause, s.At, s.Severity = st.cause, max(st.at, l.ChangedAt), st.severity
	}
	return append(out, s), earlier(d.again(&st, env, known), c.Opened+d.expire)
}

// onlyWarned reports whether an alert is a warning still. Its severity need not say so: it is higher where something else is, or was, told within the alert.
func (d *complaintUnresolved) onlyWarned(r *customer.Record, c *customer.Complaint, now int64, l *customer.Lifecycle, warned func(at int64) bool) bool {
	if Severity(l.Severity) == Info {
		return true
	}
	stood := func(at int64) Severity { return d.stand(r, c, at, at, warned).severity }
	if l.Cause == causeLevel || stood(l.FiredAt) != Info {
		return false
	}
	for _, s := range c.Case.Steps { // a target that has passed was missed, also if somebody did at last what it was for
		if s.At > l.FiredAt && s.At <= now && stood(s.At-1) > Info {
			return false
		}
	}
	return true
}

// anew is when to look again at a complaint that is open though its alert ends: at once where something else has happened already, which the next alert tells.
func (d *complaintUnresolved) anew(r *customer.Record, c *customer.Complaint, env *Env, known int64) int64 {
	s := d.stand(r, c, env.Now, known, d.weigh(c, env))
	if s.cause != 0 {
		return env.Now
	}
	return d.again(&s, env, known)
}

// refutable reports whether what happened before the alert is known otherwise than when it fired.
func (d *complaintUnresolved) refutable(c *customer.Complaint, l *customer.Lifecycle, trigger *event.Event) bool {
	if c.Responded != 0 && c.Responded < l.FiredAt && (l.Cause == causeFirstResponse || l.Cause == causeInquiry) {
		return true
	}
	return trigger != nil && trigger.Feed == event.Complaints && trigger.Time < l.FiredAt && string(trigger.ComplaintID) == c.ID && l.Cause != causeLevel
}

func (d *complaintUnresolved) clear(l *customer.Lifecycle, why Reason, at int64) Signal {
	return Signal{
		Detector: ComplaintUnresolvedName, Subject: l.Subject, State: Clear, Reason: why, At: at, Since: l.Since, Cause: l.Cause,
		AtRisk: l.AtRisk,
	}
}

// severity of a target that has passed: of what is urgent, or unresolved though of high priority, it is critical, and of what has gone wrong before.
func (d *complaintUnresolved) severity(r *customer.Record, c *customer.Complaint, cause uint8, at int64) Severity {
	x := &d.cfg.Severe
	switch {
	case c.Priority >= event.PriorityUrgent, c.Priority == event.PriorityHigh && cause == causeResolution:
		return Critical
	case cause == causePromise && x.BrokenWithin != 0 && r.BrokenPromises(at-x.BrokenWithin.Ms(), at) > 1:
		return Critical
	case x.Reassigned != 0 && int(c.Case.Reassigned) >= x.Reassigned, x.Reopened != 0 && int(c.Reopened) >= x.Reopened, d.repeated(c):
		return Critical
	}
	return Warning
}

// repeated reports whether the complaint is the same trouble again.
func (d *complaintUnresolved) repeated(c *customer.Complaint) bool {
	return c.Case.Before != 0 && c.Opened-c.Case.Before <= d.cfg.Severe.RepeatWithin.Ms()
}

// Explain writes the complaint's timeline and its targets.
func (d *complaintUnresolved) Explain(r *customer.Record, env *Env, sig *Signal, to *Object) {
	to.Text("complaint_id", sig.Subject)
	i := r.Complaint(sig.Subject)
	if i < 0 {
		to.TimeIf("opened", sig.Since)
		return
	}
	c := &r.Complaints[i]
	to.Text("priority", c.Priority.String())
	to.TimeIf("opened", c.Opened)
	to.TimeIf("responded", c.Responded)
	to.TimeIf("resolved", c.Resolved)
	if sig.Cause != 0 {
		to.Text("clock", clockNames[sig.Cause])
	}
	d.explainClocks(r, c, env, sig, to)
	if c.PausedFor != 0 {
		to.Duration("paused_for", c.PausedFor)
	}
	to.TimeIf("paused_since", c.PausedAt)
	if c.Reopened != 0 {
		to.Int("reopened", int64(c.Reopened))
	}
	if c.Level != 0 {
		to.Int("level", int64(c.Level))
	}
	if c.Case.Reassigned != 0 {
		to.Int("reassigned", int64(c.Case.Reassigned))
	}
	if d.repeated(c) {
		to.Time("same_trouble_ended", c.Case.Before)
	}
	to.TextIf("group", c.Case.Group)
	d.explainCycle(r, c, sig.At, to)
	if sig.State == Firing && sig.AtRisk != 0 {
		day := sig.Day
		_, spent := spendOf(r, env.Rates, day-baselineDays+1, day-baselineDays+1, day+1)
		to.Money("baseline", spent)
		to.Int("baseline_days", baselineDays)
		explainRates(r, env.Rates, to)
	}
}

// explainClocks writes the targets, and what a warning is about.
func (d *complaintUnresolved) explainClocks(r *customer.Record, c *customer.Complaint, env *Env, sig *Signal, to *Object) {
	t := d.targetsOf(r, c)
	for _, x := range [...]struct {
		name string
		limit
	}{{"first_response_target", t.first}, {"next_reply_target", t.next}, {"resolution_target", t.resolution}} {
		if x.on && (x.name != "next_reply_target" || sig.Cause == causeNextReply) {
			to.Duration(x.name, x.ms)
		}
	}
	to.TextIf("calendar", t.calendar.Name())
	var k clocks
	d.clocksOf(r, c, sig.At, &k)
	for _, x := range k.all() {
		if x.cause != sig.Cause || x.due == noMoment || sig.State != Firing {
			continue
		}
		if x.cause == causePromise {
			to.Time("promised", x.start)
		}
		if sig.At < x.due || x.cause == causePromise || c.Case.Due != 0 || t.calendar != nil {
			to.Time("due", x.due)
		}
		if early := x.early <= sig.At && sig.At < x.late; early && env.Misses != nil {
			if rate, ok := env.Misses.MissRate(c.GroupAtTime(x.early)); ok {
				to.Number("miss_rate", rate, 4)
				to.TextIf("miss_rate_of", env.Misses.Version())
			}
		}
		return
	}
}

// Summarize tells what the complaint waits for.
func (d *complaintUnresolved) Summarize(dst []byte, r *customer.Record, _ *Env, sig *Signal) []byte {
	i := r.Complaint(sig.Subject)
	priority := ""
	if i >= 0 && r.Complaints[i].Priority != event.PriorityNone {
		priority = r.Complaints[i].Priority.String() + " "
	}
	what := "Complaint "
	if sig.Cause == causeInquiry {
		what, priority = "Inquiry ", ""
	}
	dst = append(append(dst, what...), sig.Subject...)
	if sig.State == Firing {
		return d.summarizeFiring(dst, r, i, priority, sig)
	}
	switch sig.Reason {
	case CorrectedByLateData:
		return append(dst, " was dealt with in time: a record that came late shows it."...)
	case Expired:
		return append(dst, " was never resolved; it is no longer followed."...)
	case Recovered:
		return append(dst, " is on its way again: what was warned of was done."...)
	}
	end := " was resolved after "
	if sig.Cause == causeInquiry {
		end = " was answered after "
	}
	return append(appendSpan(append(dst, end...), sig.At-sig.Since), '.')
}

// What a complaint waits for, by clock.
var waitsFor = [...]string{
	causeFirstResponse: "for a first response", causeResolution: "for its resolution", causeNextReply: "for an answer", causeInquiry: "for an answer",
}

// summarizeFiring tells what is the matter with the complaint of an index, -1 if it is not known any more.
func (d *complaintUnresolved) summarizeFiring(dst []byte, r *customer.Record, i int, priority string, sig *Signal) []byte {
	if priority != "" {
		dst = append(append(append(dst, " of "...), priority...), "priority"...)
	}
	var k clocks
	at := clock{start: sig.Since, due: sig.At}
	if i >= 0 {
		d.clocksOf(r, &r.Complaints[i], sig.At, &k)
	}
	for _, x := range k.all() {
		if x.cause == sig.Cause && x.due != noMoment {
			at = x
			break
		}
	}
	switch {
	case sig.Cause == causeLevel:
		return append(strconv.AppendInt(append(dst, " has been taken to level "...), int64(r.Complaints[max(i, 0)].Level), 10), '.')
	case sig.Severity == Info && sig.Cause == causePromise:
		return append(appendSpan(append(dst, " was promised something that is due in "...), at.due-sig.At), '.')
	case sig.Severity == Info && sig.At < at.late:
		return append(appendSpan(append(dst, " will probably not be resolved in the "...), at.due-sig.At), " that are left: its group misses most that are open so long."...)
	case sig.Severity == Info:
		dst = append(append(append(dst, " waits "...), waitsFor[sig.Cause]...), ", which is due in "...)
		return append(appendSpan(dst, at.due-sig.At), '.')
	case sig.Cause == causePromise:
		return append(appendSpan(append(dst, " was promised something that did not happen in "...), at.due-at.start), '.')
	case sig.At == sig.Since:
		return append(dst, " was opened."...)
	}
	since := sig.Since
	if sig.Cause == causeNextReply {
		since = at.start
	}
	dst = appendSpan(append(dst, " has waited "...), sig.At-since)
	return append(append(append(dst, ' '), waitsFor[sig.Cause]...), '.')
}
