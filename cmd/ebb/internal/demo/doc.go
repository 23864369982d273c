// Package demo runs the demo: a simulated crowd writes its events to an embedded broker, one simulated day a second, the engine
// that `ebb run` runs reads them, and a scoreboard sets its alerts against the truth that only the simulation knows.
//
// The order of things: the history of the crowd is produced as fast as the broker takes it, the engine is started on it, and
// when it has read the history the simulated clock begins to run. The engine's wall clock is Demo.Now. It steps, by at most 45
// simulated minutes: the events of a step are acknowledged by the broker before the clock shows its end, so that the engine never
// believes a time to be over whose events are not there yet.
//
// # How alerts are scored
//
// The same way for ebb and for the usual rule ("the last 7 days against the 28 before them, −50 %", looked at once a day), which
// is computed here from the same events in twenty naive lines. Counted are alerts that fired in the live part, and those
// that were open when it began and had fired at most 21 days before: who left earlier than that is old news at a first start.
//
//   - An alert is right if its customer leaves, and it fired no earlier than 7 days before his leaving could first be seen
//     (Truth.Begins). Any other is a false alarm: also one about somebody who leaves in a far future for another reason.
//   - A customer is found if at least one right alert names him. Somebody who left more than 21 days ago without one is missed; in
//     between it is too early to say. Customers count from 21 days before the live part on.
//   - Leavers are all who have begun to leave, whether they are gone already or not: found, missed, and too early to say.
//   - Who cancels announces it himself: alerts about him from then on are neither right nor wrong, and he need not be found.
//   - Days ahead: the day on which 60 days without a purchase would have shown him as lost, minus the day of his first right
//     alert. Median over the found ones.
//   - Money found: what the found ones spend by habit, over 60 days.
//
// The latency of an alert is measured in the time of the process, from the moment at which the simulated clock reached the time
// that the alert's step bears until the step has been read from the alert topic. It is not measured while the engine comes back from a
// kill, nor where records came late on purpose: such a step bears a time at which ebb could not know of it.
//
// Complaint alerts are scored like the others, though they state a fact about the complaint rather than about the customer's
// leaving. Being strict here costs precision; the score by detector shows where.
//
// Nothing in this package decides anything for the engine, and the engine knows nothing of it but a clock and a broker.
package demo
