// Package state keeps the customers of a task: decoded in memory while they are
// hot, encoded in a local store when they are not, and in the changelog for good.
//
// # The three copies of a customer
//
//	Table      decoded records, one goroutine, no locks. Changes are marked here.
//	  | BeginCut: every changed record is encoded at once
//	changelog  the durable truth, written by the task within the transaction of the cut
//	  | Commit: the encoded records wait, the newest of a customer only
//	Store      written behind by a flusher goroutine, the changelog position last
//
// # Invariants
//
//  1. The store's position is never ahead of its content: whatever is killed, every
//     committed change below Position is in the store. Content may be ahead of the
//     position; since records are absolute, replaying from Position repairs that.
//  2. Nothing uncommitted is ever written to the store.
//  3. A record leaves memory only when its newest form can be read again: it is neither
//     changed since the last cut nor part of a cut whose outcome is not known.
//  4. A customer whose stored record is armed at time A has an entry (A, id) in the
//     store's timer bucket of that hour, or in memory. Entries may be stale or
//     repeated, the record decides; they are never missing.
//  5. A store can be thrown away at any time: it costs time, never data. A directory that
//     does not open, or turns out to be damaged while it is read, is set aside and said so,
//     not repaired. Manifest, indexes and blocks are verified at each opening, because
//     Badger answers "no such key" where it cannot read a block.
//  6. Memory is bounded: cache, values that wait for the store and timers each have a
//     budget; Table.Pressure says when the task has to cut or wait.
//
// # Restoring
//
//	Restorer   the newest value of each customer in a compact image; beyond its budget to the store on the way
//	  | Keep
//	overlay    what a Table reads through while the image is not in the store yet
//	  | the first flush: sorted tables in bulk into an empty store, transactions otherwise
//	Store
//
// The bulk write throws away what lies in the store, and gives it a position only at its end: a crash on the way
// leaves a store that begins at the beginning again.
//
// # What it refuses to do
//
// The package does not decide when a cut is due, does not talk to Kafka, and knows nothing
// of detectors. It does not write to a disk whose free space is below the reserve (a full disk
// kills the process inside Badger's memory maps), it does not open a directory that another
// process holds or that belongs to another cluster or group, and it does not read a clock.
//
// # On disk
//
//	DIR/LOCK                      locked while a process lives, holds its pid
//	DIR/ebb.json                  identity: format, cluster, group, last member id
//	DIR/partition-3/              Badger, one directory a task
//	DIR/partition-3/ebb-position  changelog position, a hint for who has not opened the store
//	DIR/partition-3.damaged-TIME/ one that did not open; at most one is kept per partition
//
// Keys in Badger:
//
//	c<customer id>                      the encoded customer record
//	t<hour, 8 bytes><unique, 8 bytes>   a piece of a timer bucket: (ms within the hour, id) pairs
//	m<name>                             small values: position, task record, ...
//
// Timer entries are packed, many to a key, because a key costs Badger about as much as
// applying ten events does, and a customer is armed again every few days.
package state
