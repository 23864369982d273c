package txn

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"

	"ebb/stream/conn"
)

// What a failed Commit or Init means for the task. Found with errors.Is.
var (
	// ErrFenced: another owner has this transactional id, or the group has gone on without this member (codes 22, 25, 27, 47, 82, 90). The task drops
	// what it has in memory and ends the generation; it initialises again only if the next assignment gives it the partition. A transaction that
	// timed out looks the same.
	ErrFenced = errors.New("fenced by another owner or generation")
	// ErrReinit: the transaction was aborted, or never came about. After Init, under the same generation, the same Transaction may be
	// committed again.
	ErrReinit = errors.New("transaction aborted; initialise again")
	// ErrUnknownOutcome: the commit was asked for and never answered. Only durable state tells whether it happened: the task reopens from it.
	ErrUnknownOutcome = errors.New("outcome of the commit unknown")
	// ErrRefused: the broker will refuse the same content for ever: too large, or a right or setting is missing.
	ErrRefused = errors.New("refused by the broker")
)

// Step is a request of a transaction.
type Step uint8

// The steps, in their order. Done is after the last answer.
const (
	StepInit Step = iota
	StepAddPartitions
	StepProduce
	StepAddOffsets
	StepCommitOffsets
	StepEnd
	StepDone
)

// String names the request.
func (s Step) String() string {
	switch s {
	case StepInit:
		return "InitProducerId"
	case StepAddPartitions:
		return "AddPartitionsToTxn"
	case StepProduce:
		return "Produce"
	case StepAddOffsets:
		return "AddOffsetsToTxn"
	case StepCommitOffsets:
		return "TxnOffsetCommit"
	case StepEnd:
		return "EndTxn"
	case StepDone:
		return "done"
	}
	return "unknown step"
}

// Error is a step that failed for good.
type Error struct {
	Step Step
	// Target is the topic/partition, group or transactional id that was refused, "" if the whole request failed.
	Target string
	// Kind is one of the sentinels of this package, or nil where the caller's context ended.
	Kind error
	// Err is the broker's answer or the network's fault.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	s := "txn: " + e.Step.String()
	if e.Target != "" {
		s += " " + e.Target
	}
	if e.Kind != nil {
		s += ": " + e.Kind.Error()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if m := mend(e.Err); m != "" {
		s += "; " + m
	}
	return s
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	var out []error
	for _, err := range []error{e.Kind, e.Err} {
		if err != nil {
			out = append(out, err)
		}
	}
	return out
}

// TooLarge says that a broker will never take this content, for the size of a record or batch.
func TooLarge(err error) bool {
	code := conn.Code(err)
	return errors.Is(err, ErrRefused) && (code == kafka.MessageSizeTooLarge || code == kafka.RecordListTooLarge)
}

// mend says what helps against an answer that no retry helps against.
func mend(err error) string {
	switch conn.Code(err) {
	case kafka.MessageSizeTooLarge, kafka.RecordListTooLarge:
		return "raise max.message.bytes of the topic to at least 1 MiB plus the largest record"
	case kafka.TopicAuthorizationFailed:
		return "grant Write and Describe on the topic"
	case kafka.GroupAuthorizationFailed:
		return "grant Read on the group"
	case kafka.TransactionalIDAuthorizationFailed:
		return "grant Write and Describe on the transactional id"
	case kafka.ClusterAuthorizationFailed:
		return "grant IdempotentWrite on the cluster"
	case kafka.InvalidTransactionTimeout:
		return "the transaction timeout is longer than the broker's transaction.max.timeout.ms"
	case kafka.InvalidRecord:
		return "the broker's settings of the topic do not take such records (a compacted topic takes no record without a key)"
	case kafka.InvalidTimestamp:
		return "a record's time lies too far from the broker's clock: message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic"
	case kafka.UnknownTopicOrPartition:
		return "create the topic (ebb topics create), or correct its name or number of partitions"
	case kafka.PolicyViolation:
		return "a policy of the broker forbids it"
	}
	return ""
}

// errRetry is the kind of an answer after which the same request is sent again.
var errRetry = errors.New("retry")

// classify says what an answer within a transaction means. nil for success.
func classify(err error) error {
	if err == nil {
		return nil
	}
	switch conn.Code(err) {
	case 0:
	case kafka.InvalidProducerEpoch, kafka.ProducerFenced, kafka.IllegalGeneration, kafka.UnknownMemberId, kafka.FencedInstanceID, kafka.GroupIdNotFound,
		kafka.RebalanceInProgress:
		return ErrFenced
	case kafka.InvalidProducerIDMapping, kafka.UnknownProducerId, kafka.InvalidTransactionState, kafka.OutOfOrderSequenceNumber,
		kafka.DuplicateSequenceNumber, transactionAbortable,
		kafka.Unknown: // an accident within the broker, which says nothing of the content
		return ErrReinit
	case kafka.InvalidMessage, kafka.TransactionCoordinatorFenced: // damaged on its way; a coordinator that is no longer one
		return errRetry
	default:
		if conn.Retriable(err) {
			return errRetry
		}
		return ErrRefused
	}
	switch {
	case errors.Is(err, context.Canceled), conn.Retriable(err):
		return errRetry // the loop looks at the context itself
	}
	return ErrRefused
}

// transactionAbortable is code 120 of newer brokers, which kafka-go does not name.
const transactionAbortable kafka.Error = 120

// answer turns an error code into an error, nil for 0.
func answer(code int16) error {
	if code == 0 {
		return nil
	}
	return conn.CodeError(code)
}

// answerMessage adds the broker's words.
func answerMessage(code int16, message string) error {
	err := answer(code)
	if err != nil && message != "" {
		return fmt.Errorf("%w (%s)", err, message)
	}
	return err
}
