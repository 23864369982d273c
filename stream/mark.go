package stream

import (
	"context"
	"errors"
	"fmt"

	"ebb/stream/conn"
	"ebb/stream/tail"
)

// Errors of a state that no task may run on.
var (
	// ErrMarked says that a command has the state in its hands, or that it was given away.
	ErrMarked = errors.New("state is not to be run on")
	// ErrOtherCount says that the feeds do not have the number of partitions that the state was built for.
	ErrOtherCount = errors.New("state was built for another number of partitions")
)

// mark is what a command leaves in the task records before it changes anything else, and takes away with its last
// transaction: whatever it is killed between, no task computes with half of the state.
type mark struct {
	work string // markGrow and the like; empty: no mark
	note string // what the command needs to go on; without work: the id of the export that the state was imported from
}

// The works that mark a state.
const (
	markGrow   = "grow"   // note: the new number of partitions
	markRewind = "rewind" // note: the time
	markImport = "import" // note: the id of the export
	markMoved  = "moved"  // note: the id of the export, the time
)

// runnable says whether a task may run on the state in a topic of so many partitions.
func (r *taskRecord) runnable(partitions int32) error {
	switch r.mark.work {
	case "":
	case markMoved:
		return fmt.Errorf("%w: it was exported to be moved to another cluster (export %s). If it shall go on here after all, import it here again: `ebb state import FILE --positions same`", ErrMarked, r.mark.note)
	default:
		return fmt.Errorf("%w: `ebb state %s` has begun and not ended; run it again, it goes on where it stopped", ErrMarked, r.mark.work)
	}
	if r.partitions != 0 && r.partitions != partitions {
		return fmt.Errorf("%w: for %d, and the feeds have %d; `ebb state grow` spreads it over more", ErrOtherCount, r.partitions, partitions)
	}
	return nil
}

// begun says that a task has committed to the partition. A record that is there for its mark only names no feed.
func (r *taskRecord) begun() bool {
	for f := range r.feeds {
		if r.feeds[f].topic != "" {
			return true
		}
	}
	return false
}

// sameCount is asked where a partition has no state: it may never have had any, or its customers' state may lie in other partitions, because partitions were
// added. A task record of any other partition tells. Each cut ends with one, so that it is found at the end of the changelog.
func (t *task) sameCount(ctx context.Context) error {
	const tailOffsets = 64
	topic := t.cfg.Topics.Changelog
	ids := make([]int32, t.partitions)
	for p := range ids {
		ids[p] = int32(p)
	}
	starts, err := t.deps.Cluster.Offsets(ctx, topic, ids, conn.Earliest, conn.ReadUncommitted)
	if err != nil {
		return fmt.Errorf("changelog: %w", err)
	}
	ends, err := t.deps.Cluster.Offsets(ctx, topic, ids, conn.Latest, conn.ReadCommitted)
	if err != nil {
		return fmt.Errorf("changelog: %w", err)
	}
	for p, end := range ends {
		if end <= starts[p] || p == t.partition {
			continue
		}
		var last []byte
		o := tail.Options{Topic: topic, Partitions: []int32{p}, Offsets: map[int32]int64{p: max(starts[p], end-tailOffsets)}, UntilEnd: true}
		err := tail.Read(ctx, t.deps.Cluster, o, func(r tail.Record) error {
			if string(r.Key) == taskKey {
				last = append(last[:0], r.Value...)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("task record of partition %d: %w", p, err)
		}
		if len(last) == 0 {
			continue
		}
		r, err := decodeTaskRecord(last)
		if err == nil {
			err = r.runnable(t.partitions)
		}
		if err != nil {
			return fmt.Errorf("this partition has no state, and that of partition %d of %s says: %w", p, topic, err)
		}
		return nil
	}
	return nil
}
