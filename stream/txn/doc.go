// Package txn commits the cuts of a task: one Kafka transaction each, over own connections to the brokers.
//
// A Producer belongs to one task and one transactional id. Its Commit goes through these steps, in this order:
//
//	AddPartitionsToTxn      to the transaction coordinator: opens the transaction
//	Produce                 to the leaders: one batch of every partition in the first request, further batches one request after another
//	AddOffsetsToTxn         to the transaction coordinator, beside the Produce
//	TxnOffsetCommit         to the group coordinator, with generation and member id, beside the Produce
//	EndTxn                  commit, if every answer before was 0, else abort
//
// Invariants kept here:
//
//  1. Nothing is sent before the whole content is encoded.
//  2. Every transaction commits offsets under the task's generation and member id, so that an owner who lost its partition cannot commit, even
//     if it was the last to initialise the transactional id. A Transaction without them is refused, and so is a broker that cannot be told them.
//  3. EndTxn(commit) is sent only if every answer within the transaction was 0. The broker does not refuse it otherwise: measured.
//  4. An EndTxn whose outcome is unknown is repeated until it is answered. Failing that the outcome is reported as unknown, never guessed.
//  5. What is sent again within a transaction are the same bytes with the same sequence numbers, which the broker recognises.
//  6. After a Commit that failed nothing is sent under the same producer epoch: Init comes first. It fences what may still be on
//     its way of the failed one.
//
// Errors say what the task has to do; see ErrFenced, ErrReinit, ErrUnknownOutcome, ErrRefused. A Commit that fails with any of them but
// ErrUnknownOutcome has left nothing visible.
//
// It refuses to retry beyond the transaction's timeout, and to initialise again on behalf of a task that may have lost its partition.
package txn
