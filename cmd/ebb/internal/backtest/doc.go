// Package backtest is `ebb backtest`: it takes a history through the way that live records take (stream/event decodes,
// state/customer applies, detectors judge, alerts.Decider decides) with the history's own clock, and holds what ebb would have
// said against what happened afterwards.
//
//	rows -> History   read, decoded once for time and customer, divided into shards by customer, sorted
//	     -> Replay    shards in parallel from one moment to the next; deadlines before events, each at its own time
//	     -> Truth     active days of every customer: who left, and when
//	     -> Report    alerts against truth, as JSON and as one page of HTML
//
// It refuses to see the future: an alert knows what the record knew at its time. Only the scoring looks ahead.
//
// The result does not depend on the order of the rows, the number of cores, or the time at which it is made: shards are a fixed number,
// their results are merged in the order of time, customer and alert, and nothing here asks a clock.
//
// Cohorts of customers are counted in every shard as a task counts those of its partition, and watched by what the second stage watches with (stream.CohortWatch). Where alerts are held back within those about
// cohorts, all shards wait for each other when the judgement of a day comes into force, as tasks do that read history.
//
// Every detector is held to what it says itself, by its signals; the steps and lifecycles say whether and when people hear of it: by itself, within another alert, later, or not at all (telling.go). What it says
// counts from then on. A test holds all of it against a group that reads the same history.
//
// It does not do what concerns ebb itself (feeds that stall, tasks, operational alerts), and it carries out no acts of people.
package backtest
