// Package stream is the engine: it joins the consumer group, owns a task for each partition, and takes every record from
// the feeds to the alerts that follow from it, exactly once.
//
// Read in call order: Engine.Run joins the group; Engine.Assigned opens tasks; task.run opens its partition (task.open:
// fence, replay, positions) and loops over task.step; task.round is the journey of a record (pipeline.go); task.startCut and
// task.commit make it durable (cut.go).
//
//	feeds ──fetch──▶ source (decode ahead) ──merge by event time──▶ apply ──▶ decide ──▶ outbox
//	                                                                  │                    │
//	                                       changed customers ◀────────┘                    │
//	                                               └──────────────▶ cut: ONE transaction ◀─┘
//	                                                                  │
//	                                                 committed ──▶ Badger, written behind
//
// What concerns more than one customer is a second stage: tasks tell facts within their cuts, and one elected member of the group folds
// them, by the rules of a task, into the operational alerts of the group (facts.go, secondstage.go, operations.go), and into what is learnt of its customers
// (sampling.go, learning.go, models.go): samples of an epoch of event time go there, and the model that is fitted to them comes back to every task. Alerts about cohorts of
// customers, and about what all of them do together, follow from what the tasks tell of each day (census.go, cohorts.go).
//
// Invariants that this package keeps:
//
//  1. A cut is complete: all customers changed since the last one, all alert steps, all dead letters, the task record and
//     the input positions, in one transaction. There are no partial commits, so a replay from a cut is exact. Only what is told of a sample
//     may go ahead of a cut (task.startTelling): it changes nothing here, and the second stage knows what it is told again.
//  2. A task starts from its changelog, never from the group's offsets: those were read before the predecessor was fenced.
//     If the two disagree at a start, somebody changed them, and the task stops.
//  3. Nothing is read before InitProducerID has ended the predecessor's transaction, and every transaction carries the
//     generation and member id; so whoever lost the partition cannot write.
//  4. A fault drops the task's memory and begins again at the last cut. Nothing is repaired in place.
//  5. The state of a task belongs to one goroutine. Other goroutines see copies (Status, Customer), or own what they were
//     given (a cut, on its way).
//  6. The wall clock moves the task clock only up to the moment when the last fetch that showed the end of every feed was
//     sent. A paused process or an absent broker is not a customer's silence.
//
// Beside its tasks an instance may follow the changelogs of partitions that others own (standby.go). A follower writes a local copy and
// nothing else. When its partition comes here, it ends, and the task replays what is missing in the copy.
//
// It refuses to skip: a record is applied, or a dead letter, or a counted loss; what cannot be decided that way stops the
// task with the reason and the mend.
package stream
