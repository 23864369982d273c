package alerts

import (
	"cmp"
	"encoding/hex"
	"strconv"
	"strings"

	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
)

// Message is a record for a topic. A nil Value is a tombstone.
type Message struct {
	Key, Value []byte
	Headers    []Header
}

// Header is a record header.
type Header struct {
	Key   string
	Value []byte
}

// Schemas of the data objects, as ce_dataschema names them.
const (
	AlertSchema       = "urn:ebb:schema:alert:v1"
	OperationalSchema = "urn:ebb:schema:operational:v1"
)

// Message writes a step as the event of the alert topic, and as the record of the table of open alerts: the same data under
// the alert's id, or a tombstone when it was resolved. src is where the event that triggered the decision lies; its Topic is
// empty for a timer.
func (p *Policy) Message(s *Step, r *customer.Record, env *detectors.Env, src event.Position) (alert, open Message) {
	id := hex.AppendEncode(nil, s.AlertID[:])
	d := p.cfg.Detectors.Detector(s.Detector)
	o := detectors.Begin(make([]byte, 0, 1024))
	head(&o, id, s.Revision, s.Kind, s.Reason, s.Detector)
	about(&o, s.Subject)
	o.Text("customer_id", r.ID)
	o.Object("customer", func(o *detectors.Object) { profile(o, r, env, s.At) })
	o.Text("severity", s.Severity.String())
	o.TextWith("summary", func(dst []byte) []byte { return whyLate(p.also(summarize(dst, s, d, r, env), s, r, env), s) })
	times(&o, s.At, s.Since, s.FiredAt)
	people(&o, s)
	if s.signal.Observed != 0 || s.signal.Expected != 0 {
		o.Money("observed", s.signal.Observed)
		o.Money("expected", s.signal.Expected)
	}
	if s.signal.Probability != 0 {
		o.Number("probability", s.signal.Probability, 3)
	}
	if s.signal.Probability != 0 || s.signal.AtRisk != 0 {
		o.Int("horizon_days", cmp.Or(int64(s.signal.HorizonDays), p.horizonDays))
	}
	if s.signal.AtRisk != 0 {
		o.Object("money_at_risk", func(o *detectors.Object) {
			o.Money("amount", s.signal.AtRisk)
			o.Text("currency", p.cfg.Currency.String())
		})
	}
	if lost := p.cfg.Detectors.Lost(r, env, &s.episode, s.At); lost != 0 && s.Reason != detectors.CorrectedByLateData {
		o.Object("money_lost_so_far", func(o *detectors.Object) {
			o.Money("amount", lost)
			o.Text("currency", p.cfg.Currency.String())
		})
	}
	if s.Kind != StepResolved {
		o.TextIf("suspected_cause", detectors.Suspect(r, env, s.Subject, s.At).String())
	}
	o.Object("evidence", func(o *detectors.Object) {
		if d != nil {
			d.Explain(r, env, &s.signal, o)
		}
		if s.Subject == "" {
			detectors.ExplainOffers(r, o)
		}
		source(o, src)
	})
	if d != nil {
		o.Text("detector_version", d.Version())
	}
	p.guests(&o, s, r, env)
	p.cohort(&o, s.episode.Cohort)
	o.TextIf("config_hash", p.cfg.ConfigHash)
	value := o.End()

	key := []byte(r.ID)
	alert = Message{Key: key, Value: value, Headers: p.headers(alertTypes[s.Kind], id, s.Revision, key, s.At, alertSchema)}
	if s.Traceparent != "" {
		alert.Headers = append(alert.Headers, Header{"traceparent", []byte(s.Traceparent)})
	}
	open = Message{Key: id}
	if s.Kind != StepResolved {
		open.Value, open.Headers = value, alert.Headers
	}
	return alert, open
}

// about writes which complaint an alert is about, if it is about one.
func about(o *detectors.Object, complaint string) {
	if complaint == "" {
		return
	}
	o.Object("subject", func(o *detectors.Object) {
		o.Text("type", "complaint")
		o.Text("id", complaint)
	})
}

// summarize appends the detector's sentence, or that of a reason that is none of its own.
func summarize(dst []byte, s *Step, d detectors.Detector, r *customer.Record, env *detectors.Env) []byte {
	switch {
	case s.Reason == detectors.CustomerClosed:
		return append(dst, "The customer relation has ended."...)
	case s.Reason == detectors.CustomerMerged:
		return append(dst, "The customer was merged into another."...)
	case s.Reason == detectors.ClosedByOutcome:
		return closedAs(dst, s)
	case s.Reason == detectors.CustomerErased:
		return append(dst, "The customer was erased."...)
	case s.Reason == detectors.Expired && s.Subject == "" && r.First == 0:
		return append(dst, "Nothing is known of the customer since the time that the history was rewound to."...)
	case d == nil || s.Reason == detectors.RuleRemoved:
		dst = append(dst, "The rule "...)
		return append(append(dst, s.Detector...), " is no longer configured."...)
	}
	return detectors.AppendOffers(d.Summarize(dst, r, env, &s.signal), r, env, &s.signal)
}

// resultWords tell in a sentence what a person said became of an alert.
var resultWords = [...]string{
	event.ResultSaved: "Closed: the customer is saved", event.ResultLost: "Closed: the customer is lost", event.ResultFalseAlarm: "Closed: it was a false alarm",
}

// closedAs appends who closed the alert, as what, and why.
func closedAs(dst []byte, s *Step) []byte {
	dst = append(dst, resultWords[s.Result]...)
	if s.By != "" {
		dst = append(append(dst, ", says "...), s.By...)
	}
	if s.LossCause != event.CauseNone {
		dst = append(append(dst, "; cause: "...), strings.ReplaceAll(s.LossCause.String(), "_", " ")...)
	}
	return append(dst, '.')
}

// people writes who did what about the alert.
func people(o *detectors.Object, s *Step) {
	o.TextIf("outcome", s.Result.String())
	o.TextIf("cause", s.LossCause.String())
	o.TextIf("by", s.By)
	note := s.Note
	if w := s.work; w != nil {
		o.TextIf("acknowledged_by", w.AcknowledgedBy)
		o.TimeIf("acknowledged_at", w.AcknowledgedAt)
		o.TextIf("assignee", w.Assignee)
		o.TextIf("contacted_by", w.ContactedBy)
		o.TimeIf("contacted_at", w.ContactedAt)
		o.TimeIf("snoozed_until", w.SnoozedUntil)
		note = cmp.Or(note, w.Note)
	}
	o.TextIf("note", note)
}

// head writes what every step begins with.
func head(o *detectors.Object, id []byte, revision uint32, kind StepKind, reason Reason, detector string) {
	o.Text("alert_id", string(id))
	o.Int("revision", int64(revision))
	if kind == StepResolved {
		o.Text("status", "resolved")
	} else {
		o.Text("status", "firing")
	}
	o.Text("step", kind.String())
	o.TextIf("reason", string(reason))
	o.Text("detector", detector)
}

func times(o *detectors.Object, at, since, firedAt int64) {
	o.Time("time", at)
	o.TimeIf("since", since)
	o.Time("first_fired_at", firedAt)
}

// profile writes what is known of the customer besides his id.
func profile(o *detectors.Object, r *customer.Record, env *detectors.Env, at int64) {
	if p := r.Profile(); p != nil {
		o.TextIf("tier", p.Tier)
		o.TextIf("segment", p.Segment)
		o.TextIf("region", p.Region)
		o.TextIf("owner", p.Owner)
		o.TextIf("product", p.Product)
		o.TextIf("plan", p.Plan)
		o.TextIf("source", p.Source)
	}
	o.TextIf("buys", detectors.Bargains(r))
	o.Text("stage", detectors.StageOf(r, env, at).String())
}

// source writes where the triggering event lies.
func source(o *detectors.Object, src event.Position) {
	if src.Topic == "" {
		return
	}
	o.Object("triggered_by", func(o *detectors.Object) {
		o.Text("topic", src.Topic)
		o.Int("partition", int64(src.Partition))
		o.Int("offset", src.Offset)
	})
}

// Header values that are always the same. Nobody writes into them.
var (
	specVersion       = []byte("1.0")
	contentType       = []byte("application/json")
	alertSchema       = []byte(AlertSchema)
	operationalSchema = []byte(OperationalSchema)
	alertTypes        = types("io.ebb.alert.")
	operationalTypes  = types("io.ebb.operational.")
)

func types(prefix string) (t [len(stepNames)][]byte) {
	for _, k := range StepKinds() {
		t[k] = []byte(prefix + k.String() + ".v1")
	}
	return t
}

// headers are the CloudEvents attributes in binary mode, with room for one more.
func (p *Policy) headers(kind []byte, id []byte, revision uint32, subject []byte, at int64, schema []byte) []Header {
	b := make([]byte, 0, 72)
	b = append(append(b, id...), '/')
	b = strconv.AppendUint(b, uint64(revision), 10)
	n := len(b)
	b = detectors.AppendTime(b, at)
	return append(
		make([]Header, 0, 9),
		Header{"ce_specversion", specVersion},
		Header{"ce_id", b[:n:n]},
		Header{"ce_source", p.source},
		Header{"ce_type", kind},
		Header{"ce_subject", subject},
		Header{"ce_time", b[n:]},
		Header{"ce_dataschema", schema},
		Header{"content-type", contentType},
	)
}

// OpenAlert writes the record of the table of open alerts for an alert that was told, as its customer is known now: for a table that has to be written anew.
func (p *Policy) OpenAlert(r *customer.Record, l *customer.Lifecycle, env *detectors.Env) Message {
	p.cfg.Detectors.Know(env)
	s := p.held(l)
	s.At = max(l.FiredAt, l.ChangedAt)
	kind := StepFired
	switch {
	case l.Work != nil && l.Work.AcknowledgedAt == l.ChangedAt:
		kind = StepAcknowledged
	case l.Revision > 1:
		kind = StepChanged
	}
	st := step(kind, l, &s)
	_, open := p.Message(&st, r, env, event.Position{})
	return open
}
