package customer

import (
	"math"
	"time"
	_ "time/tzdata" // the days of a customer must not depend on what the machine has installed
)

// Calendar turns times into local day numbers: days since 1970-01-01 on the calendar of a time zone, daylight saving
// included. Customers have a zone of their own (profile) or the default one. It caches, so it belongs to one goroutine.
type Calendar struct {
	zone  *zone
	zones map[string]*zone // nil values are unknown zones
}

// maxZones bounds the cache of zones; there are about 600 names in the tz database.
const maxZones = 1024

// zone is a time zone with the offset of the range that was asked last.
type zone struct {
	loc      *time.Location
	from, to int64 // the range [from, to) in ms, in which offset holds
	offset   int64 // local time minus UTC, ms
}

// NewCalendar returns a calendar whose default zone is loc; nil is UTC.
func NewCalendar(loc *time.Location) *Calendar {
	if loc == nil {
		loc = time.UTC
	}
	return &Calendar{zone: newZone(loc), zones: make(map[string]*zone)}
}

func newZone(loc *time.Location) *zone {
	z := &zone{loc: loc}
	if loc == time.UTC {
		z.from, z.to = math.MinInt64, math.MaxInt64
	}
	return z
}

// Known reports whether the zone of the name exists.
func (c *Calendar) Known(name string) bool { return c.named(name) != nil }

// Day returns the day number of a time in the default zone.
func (c *Calendar) Day(ms int64) int32 { return c.zone.day(ms) }

// DayOf returns the day number of a time for a customer.
func (c *Calendar) DayOf(r *Record, ms int64) int32 { return c.of(r, ms).day(ms) }

// StartOf returns the first millisecond of a customer's local day, in the zone that holds for him at time near.
func (c *Calendar) StartOf(r *Record, day int32, near int64) int64 { return c.of(r, near).start(day) }

// of is the zone that holds for a customer at a time.
func (c *Calendar) of(r *Record, ms int64) *zone {
	x := r.rare
	if x == nil {
		return c.zone
	}
	name := x.zone
	if x.nextFrom != 0 && ms >= x.nextFrom {
		name = x.nextZone
	}
	if name == "" {
		return c.zone
	}
	if z := c.named(name); z != nil {
		return z
	}
	return c.zone // a zone that has left the database since it was stored
}

func (c *Calendar) named(name string) *zone {
	if z, ok := c.zones[name]; ok {
		return z
	}
	if len(c.zones) >= maxZones {
		clear(c.zones)
	}
	var z *zone
	// "Local" would make the days depend on the machine.
	if loc, err := time.LoadLocation(name); err == nil && name != "Local" {
		z = newZone(loc)
	}
	c.zones[name] = z
	return z
}

func (z *zone) day(ms int64) int32 {
	if ms < z.from || ms >= z.to {
		z.seek(ms)
	}
	ms += z.offset
	if ms < 0 {
		return int32((ms - dayMs + 1) / dayMs)
	}
	return int32(ms / dayMs)
}

// seek caches the offset range around a time.
func (z *zone) seek(ms int64) {
	t := time.UnixMilli(ms).In(z.loc)
	_, offset := t.Zone()
	from, to := t.ZoneBounds()
	z.offset, z.from, z.to = int64(offset)*1000, math.MinInt64, math.MaxInt64
	if !from.IsZero() {
		z.from = from.UnixMilli()
	}
	if !to.IsZero() {
		z.to = to.UnixMilli()
	}
}

// start is the first millisecond of a local day. Where midnight is skipped the day begins after the gap; where it comes
// twice, with the first.
func (z *zone) start(day int32) int64 {
	ms := int64(day) * dayMs
	if z.from == math.MinInt64 && z.to == math.MaxInt64 {
		return ms - z.offset
	}
	// Look for the first time whose day is the wanted one: no zone is more than 26 h off, and the day grows with time
	// except for an hour or so that is repeated within one day.
	low, high := ms-26*hourMs, ms+26*hourMs
	for low < high {
		if mid := low + (high-low)/2; z.day(mid) >= day {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}
