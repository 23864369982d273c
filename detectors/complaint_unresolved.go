package detectors

import (
	"ebb/state/customer"
	"ebb/stream/event"
)

// ComplaintUnresolvedName is the name of the detector of complaints that are left lying.
const ComplaintUnresolvedName = "complaint_unresolved"

// ComplaintUnresolvedConfig holds the numbers of complaint_unresolved.
//
// It fires for each complaint when the first of its targets has passed since the opening: FirstResponse without a response,
// Resolution without an end. A target of 0s fires at once, and "off" never. A pause stops the clock of the resolution. The
// alert ends with the complaint, or as expired.
type ComplaintUnresolvedConfig struct {
	Enabled       bool     `yaml:"enabled"`
	FirstResponse Targets  `yaml:"first_response"`
	Resolution    Targets  `yaml:"resolution"`
	ExpireAfter   Duration `yaml:"expire_after"` // 1d to 3660d: so long after its opening nobody will resolve it any more
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

// of is the target of a priority in milliseconds, and false if it is off.
func (t *Targets) of(p event.Priority) (int64, bool) {
	switch p {
	case event.PriorityLow:
		return t.Low.Limit()
	case event.PriorityHigh:
		return t.High.Limit()
	case event.PriorityUrgent:
		return t.Urgent.Limit()
	case event.PriorityCritical:
		return t.Critical.Limit()
	default:
		return t.Normal.Limit()
	}
}

// DefaultComplaintUnresolved returns the usual targets of a service desk.
func DefaultComplaintUnresolved() ComplaintUnresolvedConfig {
	return ComplaintUnresolvedConfig{
		Enabled: true,
		FirstResponse: Targets{
			Low: Within(48 * Hour), Normal: Within(24 * Hour), High: Within(8 * Hour), Urgent: Within(4 * Hour), Critical: Within(Hour),
		},
		Resolution: Targets{
			Low: Within(14 * Day), Normal: Within(7 * Day), High: Within(3 * Day), Urgent: Within(2 * Day), Critical: Within(Day),
		},
		ExpireAfter: 365 * Day,
	}
}

func (c *ComplaintUnresolvedConfig) validate(f *faults) {
	const at = ComplaintUnresolvedName + "."
	f.duration(at+"expire_after", c.ExpireAfter, Day, 3660*Day)
	for _, clock := range []struct {
		name string
		t    *Targets
	}{{"first_response", &c.FirstResponse}, {"resolution", &c.Resolution}} {
		for p := event.PriorityLow; p <= event.PriorityCritical; p++ {
			if ms, on := clock.t.of(p); on && ms >= c.ExpireAfter.Ms() {
				f.add(at+clock.name+"."+p.String(), "is %s; allowed is less than expire_after, %s", millis(ms), c.ExpireAfter)
			}
		}
	}
}

// Which clock ran out: the cause of a signal.
const (
	causeFirstResponse uint8 = iota + 1
	causeResolution
)

var clockNames = [...]string{causeFirstResponse: "first_response", causeResolution: "resolution"}

type complaintUnresolved struct {
	cfg     ComplaintUnresolvedConfig
	expire  int64
	horizon Duration
}

func newComplaintUnresolved(cfg ComplaintUnresolvedConfig, horizon Duration) *complaintUnresolved {
	return &complaintUnresolved{cfg: cfg, expire: cfg.ExpireAfter.Ms(), horizon: horizon}
}

var _ Detector = (*complaintUnresolved)(nil)

func (*complaintUnresolved) Name() string    { return ComplaintUnresolvedName }
func (*complaintUnresolved) Version() string { return "1" }

// Evaluate judges each complaint by its own clocks.
func (d *complaintUnresolved) Evaluate(r *customer.Record, env *Env, _ *event.Event, out []Signal) ([]Signal, int64) {
	next := int64(0)
	for i := range r.Complaints {
		c := &r.Complaints[i]
		var at int64
		if open := r.Lifecycle(ComplaintUnresolvedName, c.ID); open >= 0 {
			out, at = d.goesOn(c, env, &r.Lifecycles[open], out)
		} else if c.Open() && !c.Muted && !c.Case.Inquiry {
			out, at = d.begins(r, c, env, out)
		}
		next = earlier(next, at)
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

// begins judges an open complaint that is not alerted.
func (d *complaintUnresolved) begins(r *customer.Record, c *customer.Complaint, env *Env, out []Signal) ([]Signal, int64) {
	due, cause := d.due(c)
	if due == 0 || env.Now < due {
		return out, due
	}
	// The record that ends the wait may not have been seen. What is due at once waits for nothing.
	if known := env.KnownUntil[event.Complaints]; known < due && due > c.Opened {
		return append(out, Signal{Detector: ComplaintUnresolvedName, Subject: c.ID, State: Hold, At: due}), env.again(due, known)
	}
	day := env.Calendar.DayOf(r, due)
	s := Signal{
		Detector: ComplaintUnresolvedName, Subject: c.ID, State: Firing, At: due, Since: c.Opened, Cause: cause, Day: day,
		Severity: d.severity(c, cause), AtRisk: baselineOf(r, env.Rates, day, d.horizon),
	}
	return append(out, s), d.next(c, env.Now)
}

// due is when the first of the clocks that still run ran or will run out, and which; 0 for never.
func (d *complaintUnresolved) due(c *customer.Complaint) (int64, uint8) {
	due, cause := d.resolutionDue(c), causeResolution
	if ms, on := d.cfg.FirstResponse.of(c.Priority); on && c.Responded == 0 {
		if at := c.Opened + ms; due == 0 || at < due {
			due, cause = at, causeFirstResponse
		}
	}
	return due, cause
}

// resolutionDue is when the complaint should be resolved, 0 for never or while it is paused.
func (d *complaintUnresolved) resolutionDue(c *customer.Complaint) int64 {
	ms, on := d.cfg.Resolution.of(c.Priority)
	if !on || c.PausedAt != 0 {
		return 0
	}
	return c.Opened + ms + c.PausedFor
}

// next is when an open alert changes by itself: the second clock runs out, or it expires.
func (d *complaintUnresolved) next(c *customer.Complaint, now int64) int64 {
	at := c.Opened + d.expire
	if due := d.resolutionDue(c); due > now {
		at = min(at, due)
	}
	return at
}

// goesOn judges a complaint whose alert is open.
func (d *complaintUnresolved) goesOn(c *customer.Complaint, env *Env, l *customer.Lifecycle, out []Signal) ([]Signal, int64) {
	late := func(t int64) Reason {
		if t < l.FiredAt {
			return CorrectedByLateData
		}
		return ComplaintResolved
	}
	expires := max(c.Opened+d.expire, l.FiredAt)
	switch {
	case c.Resolved != 0:
		return append(out, d.clear(l, late(c.Resolved), max(env.Now, l.FiredAt))), 0
	case l.Cause == causeFirstResponse && c.Responded != 0 && c.Responded < l.FiredAt:
		due, _ := d.due(c)
		return append(out, d.clear(l, CorrectedByLateData, max(env.Now, l.FiredAt))), due
	case c.Opened > l.FiredAt: // reopened: the alert was of the clock before
		due, _ := d.due(c)
		return append(out, d.clear(l, ComplaintResolved, max(env.Now, l.FiredAt))), due
	case env.Now >= expires:
		return append(out, d.clear(l, Expired, expires)), 0
	}
	s := Signal{
		Detector: ComplaintUnresolvedName, Subject: l.Subject, State: Firing, At: env.Now, Since: l.Since, Cause: l.Cause,
		Severity: d.severity(c, l.Cause), AtRisk: l.AtRisk, Day: env.Calendar.Day(l.FiredAt),
	}
	if due := d.resolutionDue(c); due != 0 && due <= env.Now && env.KnownUntil[event.Complaints] >= due {
		s.Cause, s.At = causeResolution, max(due, l.ChangedAt)
		s.Severity = d.severity(c, causeResolution)
	}
	return append(out, s), d.next(c, env.Now)
}

func (d *complaintUnresolved) clear(l *customer.Lifecycle, why Reason, at int64) Signal {
	return Signal{
		Detector: ComplaintUnresolvedName, Subject: l.Subject, State: Clear, Reason: why, At: at, Since: l.Since, Cause: l.Cause,
		AtRisk: l.AtRisk,
	}
}

// severity: what is urgent, or unresolved though of high priority, is critical.
func (d *complaintUnresolved) severity(c *customer.Complaint, cause uint8) Severity {
	if c.Priority >= event.PriorityUrgent || c.Priority == event.PriorityHigh && cause == causeResolution {
		return Critical
	}
	return Warning
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
	if ms, on := d.cfg.FirstResponse.of(c.Priority); on {
		to.Duration("first_response_target", ms)
	}
	if ms, on := d.cfg.Resolution.of(c.Priority); on {
		to.Duration("resolution_target", ms)
	}
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
	if sig.State == Firing && sig.AtRisk != 0 {
		day := sig.Day
		_, spent := spendOf(r, env.Rates, day-baselineDays+1, day-baselineDays+1, day+1)
		to.Money("baseline", spent)
		to.Int("baseline_days", baselineDays)
		explainRates(r, env.Rates, to)
	}
}

// Summarize tells what the complaint waits for.
func (d *complaintUnresolved) Summarize(dst []byte, r *customer.Record, _ *Env, sig *Signal) []byte {
	i := r.Complaint(sig.Subject)
	priority := ""
	if i >= 0 && r.Complaints[i].Priority != event.PriorityNone {
		priority = r.Complaints[i].Priority.String() + " "
	}
	dst = append(dst, "Complaint "...)
	dst = append(dst, sig.Subject...)
	switch {
	case sig.State == Firing && sig.At == sig.Since:
		dst = append(dst, " of "...)
		dst = append(dst, priority...)
		return append(dst, "priority was opened."...)
	case sig.State == Firing:
		dst = append(dst, " of "...)
		dst = append(dst, priority...)
		dst = append(dst, "priority has waited "...)
		dst = appendSpan(dst, sig.At-sig.Since)
		if sig.Cause == causeFirstResponse {
			return append(dst, " for a first response."...)
		}
		return append(dst, " for its resolution."...)
	case sig.Reason == CorrectedByLateData:
		return append(dst, " was dealt with in time: a record that came late shows it."...)
	case sig.Reason == Expired:
		return append(dst, " was never resolved; it is no longer followed."...)
	default:
		dst = append(dst, " was resolved after "...)
		return append(appendSpan(dst, sig.At-sig.Since), '.')
	}
}
