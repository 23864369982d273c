// Package group is an instance's membership in the consumer group: which partitions are its tasks' now, and under which generation and
// member id they may commit.
//
// It stands on kafka-go's ConsumerGroup (the classic, eager protocol) and adds what that lacks:
//
//   - A balancer of its own. Partition p of every feed goes to one member, because a task reads all feeds of one partition. It goes to the
//     member that has it already, else to the one whose local copy of the state is freshest, else to the one with least to do.
//   - A dead member does not stall the group. Everybody waits for a member id whose process is gone until its session ends. The id of the last
//     generation is remembered, here and in the state directory, and the coordinator is told to drop it, shortly after joining anew. Not before:
//     that would empty the group and cost the broker's initial rebalance delay.
//   - On a stop, the only member exits without leaving, so that a restart finds the group as it was; with others there it leaves, so that
//     they do not wait for it.
//   - Partition counts are watched by plain metadata requests. kafka-go's own watch may create a deleted topic again.
//
// Invariants kept here: there is at most one generation at a time; Assigned is called only after the Revoked of the generation before has
// returned; partitions are handed out in ascending order. What is not promised is that nobody else owns them: a process that was frozen,
// or that drains for longer than the rebalance timeout, has an overlap with its successor. That is what transactions with
// generation and member id are for (package txn).
//
// It refuses to hand out the offsets that the group stores: they are read before a predecessor is fenced.
package group
