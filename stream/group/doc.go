// Package group is an instance's membership in the consumer group: which partitions are its tasks' now, and under which generation and
// member id they may commit.
//
// It stands on kafka-go's ConsumerGroup (the classic, eager protocol) and adds what that lacks:
//
//   - A balancer of its own. Partition p of every feed goes to one member, because a task reads all feeds of one partition. See below.
//   - A dead member does not stall the group. Everybody waits for a member id whose process is gone until its session ends. The id of the last
//     generation is remembered, here and in the state directory, and the coordinator is told to drop it, shortly after joining anew. Not before:
//     that would empty the group and cost the broker's initial rebalance delay.
//   - On a stop, the only member exits without leaving, so that a restart finds the group as it was; with others there it leaves, so that
//     they do not wait for it.
//   - Partition counts are watched by plain metadata requests. kafka-go's own watch may create a deleted topic again.
//
// # Who gets what
//
// With each JoinGroup a member tells the leader, in the user data of its subscription, its last generation, what it owned then, and how
// far it is with the state of every partition that it has something of, as changelog positions: of its tasks, of the copies that it
// follows, of the directories that lie there from before. Whoever is furthest with a partition marks its end. A member is ready for
// a partition when it is no more than AcceptableLag behind that: where there is little state, everybody is.
//
//  1. A partition stays with its owner; of several who claim it, with the one of the highest generation.
//  2. One without an owner goes to a member that is ready, even beyond its share; of several to one with room, then to the freshest copy,
//     then to the one with least to do. If nobody is ready the same order decides who restores it.
//  3. A member with more than its share gives partitions to members with less that are ready for them. If none is, it keeps
//     them, and a member with room is told to follow them. When it has caught up with all that are to come, or with some for a while, it
//     asks for them by ending the generation. So a partition does not move for balance's sake alone before its state has.
//  4. Each partition is followed by Standby further members, those with the freshest copies first.
//
// The answer has to come back within an assignment of the classic protocol, which kafka-go reduces to partitions of topics that the member
// subscribes to. So members subscribe to the changelog as well, and a partition of it in an assignment means: follow this one. One
// that is named twice is to come to the member. A member that does not subscribe to the changelog, of an older version, is
// given partitions at once.
//
// Invariants kept here: there is at most one generation at a time; Assigned is called only after the Revoked of the generation before has
// returned; partitions are handed out in ascending order. What is not promised is that nobody else owns them: a process that was frozen,
// or that drains for longer than the rebalance timeout, has an overlap with its successor. That is what transactions with
// generation and member id are for (package txn).
//
// It refuses to hand out the offsets that the group stores: they are read before a predecessor is fenced.
package group
