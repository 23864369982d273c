// Package alerts turns what detectors say into the life of alerts: it fires, changes and resolves them, names them, and writes
// them as events.
//
// An alert is one episode of one detector for one customer and subject. Its lifecycle stands in the customer's record, so
// that it is part of the same cut as the step that was published. Policy.Decide is a pure function of record, signals and
// environment; it changes nothing but the record.
//
// Invariants kept:
//
//   - An alert's id is made of the group, the customer, the detector, the subject and the event time at which it fired, and a
//     step's id of that and the revision: whoever computes the same decision again gets the same ids.
//   - The steps of an alert begin with fired and end with resolved; revisions count from 1 without gaps. Severity grows within
//     an episode and never falls, so that nothing flaps around a threshold.
//   - Nobody is told of the end of an alert of whose begin nobody was told (quiet history).
//   - A field that is not known is absent from the event, never zero.
//
// It refuses to judge customers (package detectors) and to send anything (package stream).
package alerts
