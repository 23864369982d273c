package event

// Cause is why a customer leaves, or would have left: one list for what people say and for what ebb suspects. The numbers may be stored; a new one is
// added at the end.
type Cause uint8

// The causes of the contract. CauseNone is a record that names none; CauseUnknown is said by somebody who does not know, and stands for one that is not
// in the list.
const (
	CauseNone Cause = iota
	CausePrice
	CauseCompetitorOffer
	CauseProductQuality
	CauseServiceProcess
	CauseStaff
	CauseBrokenPromise
	CausePaymentFailure
	CauseNeedEnded
	CauseMovedOrDeceased
	CauseBrand
	CauseUnknown
)

var causeNames = []string{
	"", "price", "competitor_offer", "product_quality", "service_process", "staff", "broken_promise", "payment_failure", "need_ended",
	"moved_or_deceased", "brand", "unknown",
}

// String returns the contract's name, or "" for CauseNone.
func (c Cause) String() string { return enumName(causeNames, uint8(c), "cause") }

// ParseCause reads a contract name, in any case of ASCII letters.
func ParseCause(s string) (Cause, bool) {
	i, ok := parseEnum(causeNames, s)
	return Cause(i), ok
}

// CauseNames lists the causes that a record may name.
func CauseNames() []string { return causeNames[1:] }

// Result is what became of an alert, as a person says. The numbers may be stored.
type Result uint8

// The results of the contract. ResultNone is a record that names none.
const (
	ResultNone Result = iota
	ResultSaved
	ResultLost
	ResultFalseAlarm
)

var resultNames = []string{"", "saved", "lost", "false_alarm"}

// String returns the contract's name, or "" for ResultNone.
func (r Result) String() string { return enumName(resultNames, uint8(r), "result") }

// ParseResult reads a contract name, in any case of ASCII letters.
func ParseResult(s string) (Result, bool) {
	i, ok := parseEnum(resultNames, s)
	return Result(i), ok
}

// ResultNames lists the results that a record may name.
func ResultNames() []string { return resultNames[1:] }

// Act is what a record of the control feed says beside its Kind. It owns its memory.
type Act struct {
	AlertID, By, Note string
	Into              string // of KindMerge: the customer who goes on
	Assignee          string // of KindAssign; By where the record names none
	Until             int64  // of KindSnooze and KindMaintenance, Unix milliseconds; 0 = not said
	Result            Result // of KindOutcome
	Cause             Cause  // of KindOutcome; CauseNone = not said
}

// MaxNoteBytes is the length of the longest Act.Note.
const MaxNoteBytes = 4096

func (d *Decoder) control(p *plan, e *Event) *Reject {
	a := &Act{
		AlertID: d.label(&p[fieldAlertID], e), By: d.label(&p[fieldBy], e), Note: d.words(&p[fieldNote], MaxNoteBytes, e), Into: d.label(&p[fieldInto], e),
		Assignee: d.label(&p[fieldAssignee], e), Until: d.date(&p[fieldUntil], e), Cause: d.cause(&p[fieldCause], e),
	}
	e.Control = a
	switch {
	case a.AlertID == "" && e.Kind.needsAlert():
		return refuse(ReasonAlertMissing, "alert_id is missing, null, empty or too long")
	case a.AlertID == "" && e.Kind == KindContacted && len(e.Customer) == 0:
		return refuse(ReasonCustomerMissing, "customer_id is missing, null or empty, and no alert_id is there")
	case a.Into == "" && e.Kind == KindMerge:
		return refuse(ReasonIntoMissing, "into, the customer who goes on, is missing, null, empty or too long")
	case a.Until == 0 && (e.Kind == KindSnooze || e.Kind == KindMaintenance):
		return refuse(ReasonUntilMissing, "until, the end of the stretch, is missing or no time")
	case e.Kind == KindOutcome:
		return d.result(&p[fieldOutcome], a)
	}
	return nil
}

// result reads what became of an alert.
func (d *Decoder) result(s *source, a *Act) *Reject {
	b, _ := d.text(s)
	i, ok := parseEnum(resultNames, b)
	if !ok {
		return refuse(ReasonOutcomeInvalid, "outcome is missing or none of saved, lost and false_alarm")
	}
	a.Result = Result(i)
	return nil
}

// cause reads a cause. One that is not in the list is unknown.
func (d *Decoder) cause(s *source, e *Event) Cause {
	b, st := d.text(s)
	if st == absent {
		return CauseNone
	}
	i, ok := parseEnum(causeNames, b)
	if !ok {
		e.Notes |= NoteInvalidField
		return CauseUnknown
	}
	return Cause(i)
}
