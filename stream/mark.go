package stream

import (
	"errors"
	"fmt"
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
	note string // what the command needs to go on
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
