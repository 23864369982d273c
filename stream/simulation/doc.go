// Package simulation runs whole groups of ebb against an embedded broker in virtual time, breaks everything that can break around
// them, and compares what they leave behind with what the input topics say must be there. It holds tests only.
//
// A seed decides everything: how many partitions, brokers and instances there are and how they are configured, what the customers
// do, and which faults happen when. See docs/testing.md for how to run many seeds, and how to run one again.
//
//	plan      what a seed decides                     line      the network of one instance, with its faults
//	crowd     the customers and what they do          instance  one process: its lives, its disk, its clock
//	world     broker, topics, instances, timeline     weather   the faults that come by the clock
//	oracle    what must exist, by naive means         check     the comparison
//
// The oracle uses no code of ebb but the decoders of what ebb stores: it keeps lists of events, and counts.
package simulation
