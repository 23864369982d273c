// Package simulate invents a crowd of customers for the demo: people who shop by the week, pay bills by the month, buy when
// they feel like it, travel, complain, return goods, and some who leave. It writes down what they do as events of the four
// feeds, in the form that ebb reads, and it knows the truth: who leaves, when, and in which way.
//
// It is made to be hard to judge, not easy. Beside leavers of eight shapes there are monthly bills 28 to 31 days apart,
// holiday dips, single bills of many times the usual amount, travellers who come back, seasonal and irregular buyers,
// refunds, cards that fail and then work, batches of payments that arrive a day late, two days in which the usage feed
// brings nothing, and an account owner whose customers follow him out of the door.
//
// Invariants:
//
//   - The crowd knows nothing of how it is watched: the package imports nothing of ebb and shares no constant with it. A
//     test keeps it so. A detector that does well here does so by what it sees in the topics.
//   - The same seed and options give the same events, byte for byte, however the time is cut into calls of Until.
//   - Events are handed out in the order in which they arrive. An event that arrives late bears the earlier time at which it
//     happened.
//   - Memory is bounded: the number of customers alive stays the same (who left is replaced after a while), and of those who
//     left only the latest are remembered.
//
// Times are simulated times; the package never asks for the real one.
package simulate
