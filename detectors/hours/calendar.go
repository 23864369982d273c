package hours

import (
	"math"
	"time"
	_ "time/tzdata" // working hours must not depend on what the machine has installed
)

// The years whose holidays and recurring days are known. In others the weekly hours hold on every day.
const (
	firstYear = 1990
	lastYear  = 2100
)

// lookAhead bounds the search for working time, in days: within it there is some, or there is none at all.
const lookAhead = 20_000

// Calendar is when people work. A nil Calendar is around the clock. Times are Unix milliseconds.
type Calendar struct {
	name string
	loc  *time.Location
	week [7][]span
	days map[int32][]span // by day number: hours in place of the week's, none on a holiday
}

// span is [from, to) in minutes of the local day, 0 to 1440.
type span struct{ from, to int }

// Name is the calendar's name in the configuration, "" for a nil one.
func (c *Calendar) Name() string {
	if c == nil {
		return ""
	}
	return c.name
}

// Between is how many milliseconds of [from, to) are working time; 0 where to is not after from.
func (c *Calendar) Between(from, to int64) int64 {
	if to <= from {
		return 0
	}
	if c == nil {
		return to - from
	}
	sum := int64(0)
	for d := c.date(from); ; d = d.next() {
		start, end := c.bounds(d)
		if start >= to {
			return sum
		}
		for _, s := range c.hours(d) {
			a, b := c.at(d, s.from, start, end), c.at(d, s.to, start, end)
			sum += max(0, min(b, to)-max(a, from))
		}
	}
}

// Add is the earliest time by which ms milliseconds of working time have passed since from; from itself for none. Where there
// is not so much working time in the next fifty years it is the largest time.
func (c *Calendar) Add(from, ms int64) int64 {
	if ms <= 0 {
		return from
	}
	if c == nil {
		if from > math.MaxInt64-ms {
			return math.MaxInt64
		}
		return from + ms
	}
	d := c.date(from)
	for range lookAhead {
		start, end := c.bounds(d)
		for _, s := range c.hours(d) {
			a, b := max(c.at(d, s.from, start, end), from), c.at(d, s.to, start, end)
			if b-a >= ms {
				return a + ms
			}
			ms -= max(0, b-a)
		}
		d = d.next()
	}
	return math.MaxInt64
}

// date is a day of the Gregorian calendar.
type date struct {
	year  int
	month time.Month
	day   int
}

func (c *Calendar) date(ms int64) date {
	y, m, d := time.UnixMilli(ms).In(c.loc).Date()
	return date{y, m, d}
}

func (d date) next() date {
	y, m, n := time.Date(d.year, d.month, d.day+1, 12, 0, 0, 0, time.UTC).Date()
	return date{y, m, n}
}

func (d date) weekday() time.Weekday {
	return time.Date(d.year, d.month, d.day, 12, 0, 0, 0, time.UTC).Weekday()
}

// number is the day number: days since 1970-01-01.
func (d date) number() int32 {
	return int32(time.Date(d.year, d.month, d.day, 12, 0, 0, 0, time.UTC).Unix() / 86_400)
}

func (c *Calendar) hours(d date) []span {
	if s, own := c.days[d.number()]; own {
		return s
	}
	return c.week[d.weekday()]
}

// bounds is the first millisecond of a local day, and that of the next.
func (c *Calendar) bounds(d date) (start, end int64) {
	return c.midnight(d), c.midnight(d.next())
}

// midnight is when a local day begins. Where the clock skips midnight it is the first time that the clock shows on that day.
func (c *Calendar) midnight(d date) int64 {
	t := time.Date(d.year, d.month, d.day, 0, 0, 0, 0, c.loc)
	if t.Day() != d.day { // the time before the gap
		_, t = t.ZoneBounds()
	}
	return t.UnixMilli()
}

// at is when the clock of a day shows a minute of it; 0 and 1440 are the day's bounds. A minute that the clock skips is the one after
// the gap, of one that comes twice it is the first.
func (c *Calendar) at(d date, minute int, start, end int64) int64 {
	switch minute {
	case 0:
		return start
	case 1440:
		return end
	}
	return min(max(time.Date(d.year, d.month, d.day, 0, minute, 0, 0, c.loc).UnixMilli(), start), end)
}
