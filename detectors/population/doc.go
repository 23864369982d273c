// Package population learns from all customers what cannot be known of one: how often they come, how regularly, how many leave after each purchase; and
// from what became of them, how wrong that was. The result is a Model, by which the chance that a customer stops is told from his rhythm alone.
//
// Time runs in epochs of seven days. At the end of the day before an epoch every customer of a sample, chosen by the hash of his id, is told as a Sample.
// A Fold collects the samples of all partitions. Close makes a Model of them, which is in force from the day after the epoch on; in between the one before
// is. So a decision uses nothing that was not known when it was made, and every decision can name the version that it used.
//
// A probability is made of three parts:
//
//   - Three models that need no outcomes: BG/NBD (Fader, Hardie, Lee 2005), and two mixtures of renewal processes with drop-out on a grid (BGNBD, Renewal).
//     The mean of their log-odds is the prior.
//   - Corrections learnt from outcomes. A customer's sample of one horizon ago is an example whose outcome is known by now: ridge logistic regression and
//     boosted trees, both starting from the prior, and weighed by how many outcomes there are.
//   - Recalibration against what came true of earlier predictions: by the week of the year, by tier and segment where enough is known of them, and for those who are overdue, of
//     whom alerts tell.
//
// Invariants kept:
//
//   - The model does not depend on the order of the samples, nor on how customers are shared out over partitions.
//   - A model of an epoch uses no sample of a later one, and no outcome that was not over.
//   - There is no clock, no input or output, and no randomness: where customers or examples are chosen, a hash chooses.
//   - A fold that was stored and read again goes on to the same models, bit for bit, on the same kind of processor.
//
// It refuses to decide: whether a probability is worth an alert is the business of package detectors.
package population
