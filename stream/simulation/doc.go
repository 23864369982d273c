// Package simulation runs whole groups of ebb against an embedded broker in virtual time, breaks everything that can break around
// them, and compares what they leave behind with what the input topics say must be there. It holds tests only.
//
// A seed decides everything: how many partitions, brokers and instances there are and how they are configured, what the customers
// do, and which faults happen when. See docs/testing.md for how to run many seeds, and how to run one again.
//
//	plan       what a seed decides                   crowd   the customers and what they do
//	world      broker, topics, instances, a run      storm   the faults that come by the clock
//	instance   one process: its lives, disk, clock   line    the network of one life, with its faults
//	fault      their kinds, and the timeline         phone   the harness's own way to the brokers
//	oracle     what must exist, by naive means       check   the comparison
//
// The oracle uses no code of ebb but the decoders of what ebb stores: it keeps lists of events, and counts.
package simulation
