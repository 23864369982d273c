// Package batch reads and writes Kafka record batches of format version 2, the one that all brokers since 0.11 store.
//
// kafka-go's decoders lose what a reader of compacted or transactional topics needs: they advance by the last record instead
// of by the batch's last offset, deliver aborted records, and one of them never looks at the checksum. So here:
//
//   - The CRC-32C of every batch is checked before anything in it is believed, and every record's structure before the first
//     is handed out: a batch is delivered whole or is a [CorruptError] with its offset.
//   - The position after a batch comes from its lastOffsetDelta: over compacted tails, empty batches and markers too.
//   - Control records and, where asked for, records of aborted transactions are left out.
//   - A batch cut off at the end of a fetch answer is not an error; it comes with the next answer.
//   - Memory is bounded: what a batch says of its own size is never believed beyond the pool's limit.
//   - Reading allocates nothing in the steady state: buffers, decompressors and record indexes are pooled.
//
// It refuses formats 0 and 1 (brokers and producers of before 2017) with a clear error instead of guessing.
package batch
