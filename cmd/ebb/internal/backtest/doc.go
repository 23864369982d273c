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
// Cohorts of customers are counted in every shard as a task counts those of its partition, and watched by what the second stage watches with (stream.CohortWatch); but each alert is
// told by itself, within a cohort's as beside one, so that every detector is held to what it says.
//
// It does not do what concerns ebb itself (feeds that stall, tasks, operational alerts), and it carries out no acts of people.
package backtest
