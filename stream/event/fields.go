package event

// field is a field of the contract.
type field uint8

const (
	fieldID field = iota
	fieldCustomer
	fieldTime
	fieldType
	fieldInitiator

	fieldQuantity
	fieldOutcome
	fieldAggregate
	fieldPeriodStart
	fieldPeriodEnd

	fieldAmount
	fieldCurrency
	fieldRecurring
	fieldAttempt
	fieldNextAttempt
	fieldFailureCode
	fieldPromotion
	fieldPromotionEnds
	fieldBalance

	fieldComplaintID
	fieldPriority
	fieldLevel
	fieldActor
	fieldDue
	fieldLinkedID
	fieldCategory
	fieldGroup
	fieldScore

	fieldTier
	fieldSegment
	fieldRegion
	fieldOwner
	fieldProduct
	fieldPlan
	fieldSource
	fieldStatus
	fieldTimeZone
	fieldLanguage
	fieldSince
	fieldContractEnd
	fieldCommittedSpend
	fieldMargin
	fieldSchedule

	fieldAlertID
	fieldBy
	fieldNote
	fieldInto
	fieldCause
	fieldUntil
	fieldAssignee

	numFields
)

var fieldNames = [numFields]string{
	"id", "customer_id", "time", "type", "initiator",
	"quantity", "outcome", "aggregate", "period_start", "period_end",
	"amount", "currency", "recurring", "attempt", "next_attempt_at", "failure_code", "promotion_id", "promotion_ends_at", "balance_after",
	"complaint_id", "priority", "level", "actor", "due", "linked_id", "category", "group", "score",
	"tier", "segment", "region", "owner", "product", "plan", "source", "status", "time_zone", "language", "since",
	"contract_end", "committed_spend", "margin", "schedule",
	"alert_id", "by", "note", "into", "cause", "until", "assignee",
}

// feedFields holds the fields that each feed reads.
var feedFields = [NumFeeds][]field{
	Usage: {
		fieldID, fieldCustomer, fieldTime, fieldType, fieldQuantity, fieldOutcome, fieldAggregate, fieldPeriodStart,
		fieldPeriodEnd, fieldInitiator,
	},
	Payments: {
		fieldID, fieldCustomer, fieldTime, fieldType, fieldAmount, fieldCurrency, fieldInitiator, fieldRecurring, fieldAttempt, fieldNextAttempt,
		fieldFailureCode, fieldDue, fieldPromotion, fieldPromotionEnds, fieldBalance, fieldProduct, fieldCategory,
	},
	Complaints: {
		fieldID, fieldCustomer, fieldTime, fieldType, fieldComplaintID, fieldPriority, fieldLevel, fieldActor, fieldDue,
		fieldLinkedID, fieldCategory, fieldGroup, fieldScore,
	},
	Customers: {
		fieldID, fieldCustomer, fieldTime, fieldTier, fieldSegment, fieldRegion, fieldOwner, fieldProduct, fieldPlan,
		fieldSource, fieldStatus, fieldTimeZone, fieldLanguage, fieldSince, fieldContractEnd, fieldCommittedSpend,
		fieldMargin, fieldSchedule,
	},
	Control: {fieldID, fieldCustomer, fieldTime, fieldType, fieldAlertID, fieldBy, fieldNote, fieldInto, fieldOutcome, fieldCause, fieldUntil, fieldAssignee},
}

// contractPaths holds where the contract has the fields that do not lie under their own name.
var contractPaths = map[field]string{fieldPromotion: "promotion.id", fieldPromotionEnds: "promotion.ends_at"}

// unreadFields holds what the contract has beside: known, so that they are not counted as unknown fields.
var unreadFields = [NumFeeds][]string{
	Usage:      {"unit", "product"},
	Complaints: {"channel", "agent", "subject"},
	Customers:  {"type"},
}

// reads reports whether a feed reads a field.
func (f Feed) reads(want field) bool {
	for _, x := range feedFields[f] {
		if x == want {
			return true
		}
	}
	return false
}

// FieldNames returns the names that Mapping.Fields may have for a feed, in the contract's order.
func FieldNames(f Feed) []string {
	var out []string
	for _, x := range feedFields[f] {
		out = append(out, fieldNames[x])
	}
	return out
}

// needsAmount reports whether an event of this kind says nothing without an amount.
func (k Kind) needsAmount() bool {
	switch k {
	case KindPurchase, KindCharge, KindRefund, KindChargeback, KindTopUp, KindDeposit, KindWithdrawal, KindTransferIn,
		KindTransferOut, KindBalance:
		return true
	default:
		return false
	}
}

// needsComplaint reports whether an event of this kind says nothing without a complaint.
func (k Kind) needsComplaint() bool {
	switch k {
	case KindInquiry, KindNote, KindContactFailed, KindRated:
		return false
	default:
		return k.Feed() == Complaints
	}
}

// ofNobody reports whether a record may name no customer: it is about everybody, or about an alert of many customers.
func (k Kind) ofNobody() bool { return k == KindMaintenance || k.needsAlert() || k == KindContacted }

// needsAlert reports whether an act of this kind is on an alert.
func (k Kind) needsAlert() bool {
	switch k {
	case KindAcknowledge, KindAssign, KindUnassign, KindSnooze, KindUnsnooze, KindOutcome, KindReopen:
		return true
	default:
		return false
	}
}
