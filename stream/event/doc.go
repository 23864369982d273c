// Package event turns the bytes of an input record into an Event, or says why it cannot.
//
// It is the leaf that every other package stands on: the vocabulary of the five feeds (Feed, Kind, Money, Currency,
// Priority, ...) and one Decoder for a feed, which reads the contract's own JSON form or, through a Mapping compiled
// once, a company's own records.
//
// Invariants kept:
//
//   - A record is decoded, ignored because the mapping says so, or refused with a Reason out of a closed list. Nothing
//     is guessed: a value that cannot be read exactly is refused where the decision of a detector depends on it, and
//     counted in Notes where it does not.
//   - Money is exact: a decimal text becomes a 64-bit integer of 1/10000 unit without passing through a float. More
//     than four decimals are rounded half to even, and noted.
//   - The whole record is checked, not only the fields that are read: what encoding/json refuses is refused, invalid
//     UTF-8 (which encoding/json replaces) is refused too. Of repeated keys the last one counts.
//   - Decoding is a pure function of record, key, position, mapping and limits, except for one question to the wall
//     clock: whether a time lies too far in the future.
//   - No allocation for a record in the steady state. Slices of an Event alias the record's bytes, or, for text that was
//     written with escapes, memory that is never overwritten.
//   - A Reject's message never holds any part of the payload, so that it may be logged and shown. The customer that a
//     refused record names stands apart from the message.
//
// It refuses to do anything that needs more than one record: it does not know customers, windows, order or repeated
// ids, and it reads no topic.
package event
