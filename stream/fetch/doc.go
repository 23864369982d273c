// Package fetch reads many partitions of a Kafka cluster with few requests, and hands out their record batches one by one.
//
// Per broker there are two connections. The tail connection long-polls the partitions that have been read to their end; the
// bulk connection serves those that are behind, whose answers come at once. On one connection alone either the ones behind
// would wait for the long poll, or the ones at the end would be polled without rest. A partition that comes to its end while
// a long poll is out is polled by the bulk connection until the tail one can take it in.
//
//	leader lookup --> bulk --(position = readable end)--> tail --(more than one answer could hold)--> bulk
//	      ^-------------- errors, moved leaders, lost connections ---------------------------------------'
//
// What is kept here:
//
//   - Nothing is skipped silently. A partition whose position the broker no longer has, whose topic is gone, or whose next
//     batch is corrupt stops with a sticky error in its [Status] and stays there until SeekTo.
//   - At its end is who stands at the high watermark. A hanging transaction of a producer, which holds the last stable
//     offset below it, does not count as silence.
//   - [Partition.Poll] gives records and status from one moment: nil records and AtEnd together mean that the broker had no
//     record unseen when the request was sent, at AtEndSent.
//   - Memory is bounded. Every request reserves the room for its answer before it is sent; each partition has a room of its
//     own that no other can take, so that one hot or one held-back partition never starves the rest.
//   - Decompression happens in the goroutine that calls Poll and not on the connections, so that it spreads over the tasks.
//
// It refuses to decide what an error means for the reader: whether a retention gap is jumped over or a task stops is up to
// whoever calls SeekTo.
package fetch
