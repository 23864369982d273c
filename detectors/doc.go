// Package detectors says what is true of a customer: whether he fell silent, spends far less than he used to, or waits on a
// complaint. There is one file for each detector, and a Set of them.
//
// A detector is a pure function of the customer's record and of an Env that holds everything else it may know: the event time
// of the decision, how far each feed is complete, past stalls, the calendar and the rates of currencies. There is no clock,
// no input or output and no randomness. It answers with signals and with the time at which it wants to be asked again.
//
// Invariants kept:
//
//   - A feed's silence is never taken for the customer's: no detector judges beyond the time up to which the feeds it depends
//     on are known, stalled time is not counted against anybody, and unreadable records hold a judgement still.
//   - The time of a decision is the moment at which its condition became true, not the moment at which it was looked at.
//   - Arithmetic is exact: money and thresholds are integers, compared without division.
//   - Nothing is allocated, and little is computed, while nothing fires and nothing is due.
//
// It refuses to remember: whether an alert is open is in the record's lifecycles, which package alerts keeps. It refuses to
// send or to format alerts, but for the evidence and the sentence that only the detector can tell.
package detectors
