package customer

import (
	"unsafe"

	"ebb/stream/event"
)

// What the structures take, for Size.
const (
	recordBytes    = int(unsafe.Sizeof(Record{}))
	complaintBytes = int(unsafe.Sizeof(Complaint{}))
	lifecycleBytes = int(unsafe.Sizeof(Lifecycle{}))
	cohortBytes    = int(unsafe.Sizeof(Cohort{}))
	stepBytes      = int(unsafe.Sizeof(Step{}))
	deskBytes      = int(unsafe.Sizeof(desk{}))
	endedBytes     = int(unsafe.Sizeof(ended{}))
	troubleBytes   = int(unsafe.Sizeof(Trouble{}))
	rareBytes      = int(unsafe.Sizeof(rare{}))
	blindBytes     = int(unsafe.Sizeof(Blind{})) * event.NumFeeds

	// dayBytes is what a UsageDay, a SpendDay and a SeenID take: the most of a record is made of them.
	dayBytes = 16
)

var (
	_ [dayBytes]struct{} = [unsafe.Sizeof(UsageDay{})]struct{}{}
	_ [dayBytes]struct{} = [unsafe.Sizeof(SpendDay{})]struct{}{}
	_ [dayBytes]struct{} = [unsafe.Sizeof(SeenID{})]struct{}{}
)
