// Package customer holds what is known of one customer: the Record, with its windows by local day, its open complaints,
// the lifecycles of its alerts and its next deadline, and the codec of its stored form.
//
// It is pure: a Record changes only by the events that are applied to it and by what the policy notes in it. There is no
// clock, no input or output, and no randomness, so that replaying the same events from the same stored record gives the
// same record, byte for byte.
//
// Invariants kept:
//
//   - An event changes the windows once: ids repeated within the time that ids are remembered are refused as Duplicate.
//   - An event counts on the local day it belongs to, however late it comes, unless that day has left the windows; then it
//     is reported as TooOld, and changes nothing but the time since when the customer is known.
//   - Only what the customer started himself is activity or spend: a use, a purchase or a refund. What the company or the
//     bank started, and a charge that failed, are neither.
//   - Money is exact. A sum that would overflow refuses its event (SumOverflow) and leaves the record as it was.
//   - Nothing grows without bound: windows, currencies, remembered ids, complaints and lifecycles are capped, every cap has a
//     named count of what it cost (Overflows), and the stored form is at most MaxEncoded bytes.
//   - The stored form is canonical and versioned. A version that is too new is told apart from damage, and no input makes
//     the decoder panic or allocate more than its length justifies.
//
// It refuses to judge: whether a silence or a drop means anything is the business of package detectors.
package customer
