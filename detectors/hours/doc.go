// Package hours tells working time: how much of a stretch of time people were at work, and when so much work will have been
// done. A calendar is made of weekly hours in a time zone, of days on which nobody works, and of days with hours of their own.
//
// Public holidays come from github.com/rickar/cal, calendar files are read with github.com/arran4/golang-ical, and what recurs
// in them is expanded by github.com/teambition/rrule-go. All of it happens once, in New: a Calendar is a table, immutable and safe for
// concurrent use, and the same on every machine.
package hours
