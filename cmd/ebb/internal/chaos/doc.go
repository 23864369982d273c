// Package chaos runs ebb as users do, several processes on three real Apache Kafka brokers, breaks everything that can be broken from
// outside, and compares what a read_committed subscriber finds afterwards with an independent computation: nothing lost, nothing twice,
// nothing in another order, nothing by a process that no longer owned the customer.
//
// It holds tests only: `go test` runs a bounded part, `make chaos` as much as is asked for (CHAOS_FLAGS="-faults 500 -seed 7").
//
// A round is one seed: a history and a live load from idempotent producers, 2 to 4 ebb processes with state directories of their own,
// and a fault every one to three seconds, of which several overlap (fault_test.go says which there are). Then the faults end, what is
// left is worked off, and the verdict is found from the input topics as they are read back, not from what the producer meant to write:
//
//   - the alert steps are exactly those that the events demand (oracle_test.go, plain lists, no code of ebb);
//   - the steps of each alert have the revisions 1, 2, 3 ... in the order of the log, and no ce_id appears twice;
//   - the table of open alerts is what the steps leave open;
//   - the dead letters are exactly the unreadable records;
//   - every customer's record in the changelog holds exactly his events: what is lost or counted twice without an alert shows here;
//   - everything a task wrote bears its one producer id with epochs that never go back, and speaks of the task's own customers.
//
// The seed decides load and faults, not the moments at which processes and brokers react: running a seed again repeats the faults, and
// mostly, not surely, the failure. A failure prints the timeline and the command, and leaves logs behind.
//
// What it does not do: torn disks and stopped clocks (that is the simulation's), and faults between the brokers themselves.
package chaos
