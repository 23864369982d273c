package event

import "fmt"

// Feed is the role of an input topic.
type Feed uint8

// The feeds. Usage, Payments and Complaints are required; Customers (profiles) and Control (acts of people) are optional.
const (
	Usage Feed = iota
	Payments
	Complaints
	Customers
	Control

	// NumFeeds is the number of feeds; a Feed is an index below it.
	NumFeeds = 5
)

var feedNames = [NumFeeds]string{"usage", "payments", "complaints", "customers", "control"}

// String returns the feed's name in configuration, metrics and messages.
func (f Feed) String() string {
	if int(f) < len(feedNames) {
		return feedNames[f]
	}
	return fmt.Sprintf("feed(%d)", uint8(f))
}

// ParseFeed returns the feed of a name as String writes it.
func ParseFeed(name string) (Feed, bool) {
	for i, n := range feedNames {
		if n == name {
			return Feed(i), true
		}
	}
	return 0, false
}

// Kind is what happened: the contract's types of all feeds in one enumeration. The numbers may be stored; a new kind
// is added at the end of its feed's block, which is why the blocks have gaps.
type Kind uint8

// KindNone is no kind; no decoded event has it.
const KindNone Kind = 0

// KindUsage is every type of the usage feed: usage types are free text.
const KindUsage Kind = 1

// Kinds of the payments feed.
const (
	KindPurchase Kind = iota + 16
	KindCharge
	KindRefund
	KindChargeback
	KindChargeFailed
	KindInvoiceIssued
	KindInvoiceOverdue
	KindPaymentMethodExpiring
	KindTopUp
	KindDeposit
	KindWithdrawal
	KindTransferIn
	KindTransferOut
	KindBalance
	KindSubscriptionStarted
	KindSubscriptionChanged
	KindSubscriptionPaused
	KindSubscriptionCancelled
	KindTrialEnded
)

// Kinds of the complaints feed. An unknown type is a KindNote, with NoteUnknownType.
const (
	KindInquiry Kind = iota + 64
	KindOpened
	KindAssigned
	KindResponded
	KindCustomerReplied
	KindNote
	KindPromised
	KindPaused
	KindResumed
	KindReassigned
	KindEscalated
	KindDeescalated
	KindContactFailed
	KindResolved
	KindRated
	KindClosed
	KindReopened
	KindMerged
)

// KindProfile is every record of the customers feed.
const KindProfile Kind = 112

// Kinds of the control feed.
const (
	KindAcknowledge Kind = iota + 128
	KindAssign
	KindUnassign
	KindSnooze
	KindUnsnooze
	KindContacted
	KindOutcome
	KindReopen
	KindMaintenance
	KindMerge
	KindErase
)

// kindNames holds the type names of the contract, by kind.
var kindNames = [256]string{
	KindUsage: "usage",

	KindPurchase: "purchase", KindCharge: "charge", KindRefund: "refund", KindChargeback: "chargeback",
	KindChargeFailed: "charge_failed", KindInvoiceIssued: "invoice_issued", KindInvoiceOverdue: "invoice_overdue",
	KindPaymentMethodExpiring: "payment_method_expiring", KindTopUp: "top_up", KindDeposit: "deposit",
	KindWithdrawal: "withdrawal", KindTransferIn: "transfer_in", KindTransferOut: "transfer_out", KindBalance: "balance",
	KindSubscriptionStarted: "subscription_started", KindSubscriptionChanged: "subscription_changed",
	KindSubscriptionPaused: "subscription_paused", KindSubscriptionCancelled: "subscription_cancelled",
	KindTrialEnded: "trial_ended",

	KindInquiry: "inquiry", KindOpened: "opened", KindAssigned: "assigned", KindResponded: "responded",
	KindCustomerReplied: "customer_replied", KindNote: "note", KindPromised: "promised", KindPaused: "paused",
	KindResumed: "resumed", KindReassigned: "reassigned", KindEscalated: "escalated", KindDeescalated: "deescalated",
	KindContactFailed: "contact_failed", KindResolved: "resolved", KindRated: "rated", KindClosed: "closed",
	KindReopened: "reopened", KindMerged: "merged",

	KindProfile: "profile",

	KindAcknowledge: "acknowledge", KindAssign: "assign", KindUnassign: "unassign", KindSnooze: "snooze",
	KindUnsnooze: "unsnooze", KindContacted: "contacted", KindOutcome: "outcome", KindReopen: "reopen",
	KindMaintenance: "maintenance", KindMerge: "merge", KindErase: "erase",
}

// String returns the contract's type name; for KindUsage "usage" and for KindProfile "profile".
func (k Kind) String() string {
	if n := kindNames[k]; n != "" {
		return n
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Feed returns the feed whose records have this kind.
func (k Kind) Feed() Feed {
	switch {
	case k < KindPurchase:
		return Usage
	case k < KindInquiry:
		return Payments
	case k < KindProfile:
		return Complaints
	case k < KindAcknowledge:
		return Customers
	default:
		return Control
	}
}

// Kinds returns the kinds of a feed, in the contract's order.
func Kinds(f Feed) []Kind {
	var out []Kind
	for i, n := range kindNames {
		if k := Kind(i); n != "" && k.Feed() == f {
			out = append(out, k)
		}
	}
	return out
}

// Priority is how urgent a complaint is. Priorities compare by <.
type Priority uint8

// The priorities of the contract. PriorityNone is a record that names none; the decoder gives complaints that name
// none, or an unknown one, PriorityNormal.
const (
	PriorityNone Priority = iota
	PriorityLow
	PriorityNormal
	PriorityHigh
	PriorityUrgent
	PriorityCritical
)

var priorityNames = []string{"", "low", "normal", "high", "urgent", "critical"}

// String returns the contract's name, or "" for PriorityNone.
func (p Priority) String() string { return enumName(priorityNames, uint8(p), "priority") }

// ParsePriority reads a contract name, in any case of ASCII letters.
func ParsePriority(s string) (Priority, bool) {
	i, ok := parseEnum(priorityNames, s)
	return Priority(i), ok
}

// Outcome is how a use of the product went.
type Outcome uint8

// The outcomes of the contract; OutcomeNone is a record that names none.
const (
	OutcomeNone Outcome = iota
	OutcomeOK
	OutcomeFailed
	OutcomeDropped
	OutcomeBusy
	OutcomeBlocked
	OutcomeDegraded
	OutcomeAbandoned
)

var outcomeNames = []string{"", "ok", "failed", "dropped", "busy", "blocked", "degraded", "abandoned"}

// String returns the contract's name, or "" for OutcomeNone.
func (o Outcome) String() string { return enumName(outcomeNames, uint8(o), "outcome") }

// ParseOutcome reads a contract name, in any case of ASCII letters.
func ParseOutcome(s string) (Outcome, bool) {
	i, ok := parseEnum(outcomeNames, s)
	return Outcome(i), ok
}

// Initiator is who started a payment or a use.
type Initiator uint8

// The initiators of the contract. InitiatorNone is a record that names none, which counts as the customer's own doing.
const (
	InitiatorNone Initiator = iota
	InitiatorCustomer
	InitiatorCompany
	InitiatorBank
)

var initiatorNames = []string{"", "customer", "company", "bank"}

// String returns the contract's name, or "" for InitiatorNone.
func (i Initiator) String() string { return enumName(initiatorNames, uint8(i), "initiator") }

// ParseInitiator reads a contract name, in any case of ASCII letters.
func ParseInitiator(s string) (Initiator, bool) {
	i, ok := parseEnum(initiatorNames, s)
	return Initiator(i), ok
}

// Actor is who acted on a complaint.
type Actor uint8

// The actors of the contract; ActorNone is a record that names none.
const (
	ActorNone Actor = iota
	ActorCustomer
	ActorAgent
	ActorSystem
)

var actorNames = []string{"", "customer", "agent", "system"}

// String returns the contract's name, or "" for ActorNone.
func (a Actor) String() string { return enumName(actorNames, uint8(a), "actor") }

// ParseActor reads a contract name, in any case of ASCII letters.
func ParseActor(s string) (Actor, bool) {
	i, ok := parseEnum(actorNames, s)
	return Actor(i), ok
}

func enumName(names []string, i uint8, what string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%s(%d)", what, i)
}

// parseEnum finds a name of an enumeration; the empty name stands for "none" and is not found.
func parseEnum[T string | []byte](names []string, s T) (uint8, bool) {
	for i, n := range names {
		if len(s) == len(n) && len(n) > 0 && equalFold(s, n) {
			return uint8(i), true
		}
	}
	return 0, false
}

// equalFold compares s with a lower-case ASCII name of the same length.
func equalFold[T string | []byte](s T, name string) bool {
	for i := range len(name) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// Notes are oddities of an accepted record. Each is counted; none changes whether the record is applied.
type Notes uint16

// The oddities.
const (
	// NoteRounded: an amount or quantity had more than four decimals and was rounded half to even.
	NoteRounded Notes = 1 << iota
	// NoteUnknownType: a complaint of an unknown type, taken as a note.
	NoteUnknownType
	// NoteUnknownPriority: a priority that neither the contract nor the mapping knows, taken as normal.
	NoteUnknownPriority
	// NoteUnknownOutcome, NoteUnknownInitiator, NoteUnknownActor: a value that neither the contract nor the mapping
	// knows, taken as absent.
	NoteUnknownOutcome
	NoteUnknownInitiator
	NoteUnknownActor
	// NoteUnknownCurrency: something that is not a three-letter code, taken as NoCurrency (XXX).
	NoteUnknownCurrency
	// NoteUnknownField: the record has top-level fields that the contract does not know (never for a mapped feed).
	NoteUnknownField
	// NoteInvalidField: an optional field could not be read and was taken as absent.
	NoteInvalidField
	// NoteNoID: the record names no id; topic, partition and offset stand in.
	NoteNoID

	numNotes = 10
)

var noteNames = [numNotes]string{
	"rounded", "unknown_type", "unknown_priority", "unknown_outcome", "unknown_initiator", "unknown_actor",
	"unknown_currency", "unknown_field", "invalid_field", "no_id",
}

// NoteNames returns the names of all notes, for metric labels: name i belongs to bit 1<<i.
func NoteNames() []string { return noteNames[:] }

// Has reports whether all of want are set.
func (n Notes) Has(want Notes) bool { return n&want == want }

// String returns the names of the set bits, separated by commas.
func (n Notes) String() string {
	s := ""
	for i, name := range noteNames {
		if n&(1<<i) == 0 {
			continue
		}
		if s != "" {
			s += ","
		}
		s += name
	}
	return s
}

// Event is one decoded record. Times are Unix milliseconds of event time. Slices alias the record's bytes and are valid
// until its buffer is released. A field that the record does not name has its zero value.
type Event struct {
	Feed     Feed
	Kind     Kind
	Time     int64
	ID       []byte // nil where the record has none: IDHash then stands for its position
	Customer []byte // 1 to MaxCustomerBytes bytes of valid UTF-8; empty only for KindMaintenance
	IDHash   uint64 // xxhash64 of the feed's byte and ID (or topic/partition/offset): the same for a repeated record

	// Usage.
	Quantity    Money // in 1/10000 of the record's own unit, never negative
	Outcome     Outcome
	Aggregate   bool  // Quantity is a total over [PeriodStart, PeriodEnd), to be spread over its days
	PeriodStart int64 // set only with Aggregate; before PeriodEnd, by at most MaxPeriod
	PeriodEnd   int64

	// Payments.
	Amount    Money    // never negative, except for KindBalance
	Currency  Currency // zero where the record names none: the reporting currency
	Initiator Initiator
	Recurring bool // one of a series, such as a subscription's
	// Attempt is which attempt at this payment it was, from 1 on, 0 = not said; NextAttempt is when the next one is announced, 0 = none is.
	Attempt       uint16
	NextAttempt   int64
	Product       []byte // what was paid for
	FailureCode   []byte // why it failed, in the words of who tried
	Promotion     []byte // id of the offer under which it was bought
	PromotionEnds int64  // when that offer ends, 0 = not said
	Balance       Money  // what is on the account after it, may be negative; only with Balanced
	Balanced      bool

	// Complaints.
	ComplaintID []byte
	Priority    Priority
	Level       uint8 // escalation: 1 told to staff, 2 to others, 3 to a third party; 0 not said
	Actor       Actor
	Due         int64 // 0 = not said; of an invoice: until when it is to be paid
	LinkedID    []byte
	Category    []byte // of payments too
	Group       []byte // of the people who deal with it
	Score       Money  // how content the customer is, on the source's own scale, in 1/10000; only with Scored
	Scored      bool

	Profile *Profile // customers feed only
	Control *Act     // control feed only

	Notes Notes
}

// IsActivity reports whether the event is the customer's own doing in the sense of the detectors: a use, a purchase or a
// refund that he started himself. A failed charge, an invoice or what the company or the bank started is none.
func (e *Event) IsActivity() bool {
	if e.Initiator > InitiatorCustomer {
		return false
	}
	return e.Kind == KindUsage || e.Kind == KindPurchase || e.Kind == KindRefund
}

// Profile is what a record of the customers feed says. It owns its memory. A record replaces the profile before it: an
// empty field is one that the customer no longer has.
type Profile struct {
	Tier, Segment, Region, Owner, Product, Plan, Source, Status string
	TimeZone                                                    string // IANA name, not checked here
	Language                                                    string
	Schedule                                                    string
	Since, ContractEnd                                          int64 // Unix milliseconds, 0 = not said
	CommittedSpend                                              Money
	Margin                                                      Money // a share: 0.3 is 3000
}

// Position is where a record lies.
type Position struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp int64 // the record's own, Unix milliseconds; negative = none
	// BrokerTime: the timestamp was set by the broker (LogAppendTime). A time too far in the future is then judged
	// against it, else against the wall clock.
	BrokerTime bool
}

// MaxCustomerBytes is the length of the longest customer id, complaint id and linked id.
const MaxCustomerBytes = 256

// MaxPeriod is the longest period of an aggregate in milliseconds: a leap year and a day.
const MaxPeriod = 367 * 24 * 3600 * 1000
