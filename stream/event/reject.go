package event

import "errors"

// Reason is why a record was refused: a closed list of names, used as metric label and as header of the dead letter.
type Reason string

// The reasons. The first block is found by the Decoder; the second is for those further up the path of a record, so that
// one list holds all.
const (
	ReasonNotJSON             Reason = "not_json"              // not one JSON object
	ReasonTruncated           Reason = "truncated"             // ends in the middle of the object
	ReasonInvalidUTF8         Reason = "invalid_utf8"          // not UTF-8, or an id that is not
	ReasonNullValue           Reason = "null_value"            // a tombstone where the feed defines none
	ReasonRecordTooLarge      Reason = "record_too_large"      // more bytes than Limits.MaxRecordBytes
	ReasonCustomerMissing     Reason = "customer_missing"      // no customer, null or empty
	ReasonCustomerInvalid     Reason = "customer_invalid"      // neither text nor a number
	ReasonCustomerTooLong     Reason = "customer_too_long"     // more than MaxCustomerBytes
	ReasonCustomerKeyMismatch Reason = "customer_key_mismatch" // another customer than the record's key
	ReasonIDTooLong           Reason = "id_too_long"           // complaint or linked id of more than MaxCustomerBytes
	ReasonTypeMissing         Reason = "type_missing"
	ReasonUnknownType         Reason = "unknown_type"
	ReasonTimeMissing         Reason = "time_missing"
	ReasonTimeInvalid         Reason = "time_invalid"
	ReasonTimeWithoutZone     Reason = "time_without_zone"
	ReasonTimeOutOfRange      Reason = "time_out_of_range" // before 1970 or after 9999
	ReasonTimeInFuture        Reason = "time_in_future"    // ahead of the clock by more than Limits.MaxFutureSkew
	ReasonPeriodInvalid       Reason = "period_invalid"    // aggregate without a period, or with one that ends before it starts or is too long
	ReasonAmountMissing       Reason = "amount_missing"
	ReasonAmountInvalid       Reason = "amount_invalid"
	ReasonAmountNegative      Reason = "amount_negative"
	ReasonAmountOverflow      Reason = "amount_overflow" // more than Money holds; also a sum that would be
	ReasonComplaintMissing    Reason = "complaint_missing"
	ReasonAlertMissing        Reason = "alert_missing" // an act on an alert that names none
	ReasonIntoMissing         Reason = "into_missing"  // a merge that does not say into whom
	ReasonUntilMissing        Reason = "until_missing" // a stretch of which nobody says when it ends
	ReasonOutcomeInvalid      Reason = "outcome_invalid"

	ReasonUnsupportedType Reason = "unsupported_type" // an act that this version does not carry out
	ReasonMergedIntoSelf  Reason = "merged_into_self" // a merge of a customer into himself

	ReasonInternalError Reason = "internal_error" // applying it failed: a fault of ebb
	ReasonMisplaced     Reason = "misplaced"      // lies in another partition than the partitioner gives its key
	ReasonQuarantined   Reason = "quarantined"    // its customer is quarantined
)

// Reasons returns all reasons, for metrics that show a zero.
func Reasons() []Reason {
	return []Reason{
		ReasonNotJSON, ReasonTruncated, ReasonInvalidUTF8, ReasonNullValue, ReasonRecordTooLarge, ReasonCustomerMissing,
		ReasonCustomerInvalid, ReasonCustomerTooLong, ReasonCustomerKeyMismatch, ReasonIDTooLong, ReasonTypeMissing,
		ReasonUnknownType, ReasonTimeMissing, ReasonTimeInvalid, ReasonTimeWithoutZone, ReasonTimeOutOfRange,
		ReasonTimeInFuture, ReasonPeriodInvalid, ReasonAmountMissing, ReasonAmountInvalid, ReasonAmountNegative,
		ReasonAmountOverflow, ReasonComplaintMissing, ReasonAlertMissing, ReasonInternalError, ReasonMisplaced,
		ReasonQuarantined, ReasonIntoMissing, ReasonUnsupportedType, ReasonMergedIntoSelf,
		ReasonUntilMissing, ReasonOutcomeInvalid,
	}
}

// ErrIgnored is returned for a record that the mapping says to leave out (a type mapped to "ignore", a tombstone). It
// is counted, and nothing else is done with it.
var ErrIgnored = errors.New("event: ignored by the mapping")

// Reject is the error of a record that goes to the dead-letter topic.
type Reject struct {
	Reason Reason
	// Message says it in words and names the field. It holds no part of the payload.
	Message string
	// Customer is whom the record concerns, as far as that can be told: what it says itself, or its key; else "". He is
	// blind from now on, since his silence may be only that of the record. It is personal data: not for logs.
	Customer string
}

// Error returns reason and message.
func (r *Reject) Error() string { return string(r.Reason) + ": " + r.Message }
