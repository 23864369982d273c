package state

import (
	"hash/maphash"

	"ebb/state/customer"
)

// WarmBatch is the number of customers that Table.Warm takes at a time.
const WarmBatch = 16

// Warm reads what an event of each of these customers is about to read, so that it is in the processor's cache by then.
//
// Every event touches memory that is in no cache, line after line, each found through the one before: index slot, entry,
// windows. For one customer these misses follow one another; for sixteen at once the processor waits for all of them
// together. The result means nothing; it is there so that the reads are.
func (t *Table) Warm(ids *[WarmBatch][]byte, n int) (sum uint64) {
	entries, sum := t.warmEntries(ids, n)
	for i := range n {
		if e := entries[i]; e != nil {
			sum += uint64(len(e.Record.Usage)) + uint64(e.Record.Latest) + uint64(len(e.Record.Seen)) + uint64(len(e.Record.Lifecycles))
		}
	}
	for i := range n {
		if e := entries[i]; e != nil {
			sum += customer.Touch(&e.Record)
		}
	}
	return sum
}

// warmDue is Warm for customers whose timers are about to come up: of most the deadline has moved, and nothing else is read.
func (t *Table) warmDue(due []timer) (sum uint64) {
	var ids [WarmBatch][]byte
	for i := range due {
		ids[i] = unsafeBytes(due[i].id)
	}
	entries, sum := t.warmEntries(&ids, len(due))
	for i := range due {
		if e := entries[i]; e != nil && e.Record.Deadline <= due[i].at {
			sum += customer.Touch(&e.Record)
		}
	}
	return sum
}

// warmEntries reads the entries' first lines. An entry that is not where its hash points to is left out.
func (t *Table) warmEntries(ids *[WarmBatch][]byte, n int) (entries [WarmBatch]*Entry, sum uint64) {
	var slots [WarmBatch]*indexSlot
	x := t.entries
	mask := uint64(len(x.slots) - 1)
	for i := range n {
		slots[i] = &x.slots[maphash.Bytes(x.seed, ids[i])&mask]
	}
	for i := range n {
		sum += slots[i].hash
	}
	for i := range n {
		if e := slots[i].e; e != nil {
			entries[i] = e
			sum += uint64(e.idLen)
		}
	}
	return entries, sum
}
