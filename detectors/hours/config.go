package hours

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	ics "github.com/arran4/golang-ical"
	"github.com/teambition/rrule-go"
)

// Config is a calendar as it is configured.
type Config struct {
	// IANA zone in which the hours are meant. Left out: UTC.
	Zone string `yaml:"zone"`
	// Weekly hours, each as days and times: mon-fri 09:00-17:00, or sat 10:00-14:00. Several of one day add up. Left out: around
	// the clock on all days that are not closed.
	Hours []string `yaml:"hours"`
	// Public holidays, by country and, where they differ, region: DE, DE-BY, US, AU-NSW. Nobody works on them.
	Holidays []string `yaml:"holidays"`
	// Days on which nobody works beside: 2026-12-24, or 12-24 for every year.
	Closed []string `yaml:"closed"`
	// Days with hours of their own, whatever else is said of them: 2026-12-19 09:00-13:00.
	Extra []string `yaml:"extra"`
}

// FieldError is a value that is not allowed. Field is its path below the calendar's configuration; "" for the calendar as a whole, and
// File where the content of the calendar file is meant.
type FieldError struct {
	Field, Message string
}

// File is the Field of faults in the content of a calendar file.
const File = "file"

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// New makes a calendar. file is the content of a calendar file, nil for none: iCalendar if its name ends in .ics, else CSV. The error joins
// a *FieldError for every fault.
//
// Of an iCalendar file every event that lasts whole days closes them, as often as it recurs; events that are cancelled are left out.
// A line of a CSV file is a date and, behind a comma, the day's hours as 09:00-13:00 or nothing for a day on which nobody works; a third
// column may hold a name. A first line that begins with "date" is a heading.
func New(name string, cfg Config, fileName string, file []byte) (*Calendar, error) {
	b := builder{c: &Calendar{name: name, loc: time.UTC, days: map[int32][]span{}}}
	b.zone(cfg.Zone)
	b.week(cfg.Hours)
	b.holidays(cfg.Holidays)
	b.closed(cfg.Closed)
	switch {
	case file == nil:
	case strings.HasSuffix(strings.ToLower(fileName), ".ics"):
		b.iCalendar(file)
	default:
		b.table(file)
	}
	for i, s := range cfg.Extra {
		field := fmt.Sprintf("extra[%d]", i)
		day, rest, _ := strings.Cut(s, " ")
		if d, err := time.Parse(time.DateOnly, day); err != nil {
			b.fault(field, "%q is not a date with hours; write it as 2026-12-19 09:00-13:00", s)
		} else if sp, err := parseSpan(strings.TrimSpace(rest)); err != nil {
			b.fault(field, "%s", err)
		} else {
			b.extra = append(b.extra, dated{dayOf(d), sp})
		}
	}
	b.addExtra()
	if len(b.faults) == 0 && b.c.Between(yearStart(2025), yearStart(2027)) == 0 {
		b.fault("", "has no working time at all; name hours, as in mon-fri 09:00-17:00")
	}
	if err := errors.Join(b.faults...); err != nil {
		return nil, err
	}
	return b.c, nil
}

func yearStart(y int) int64 { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() }

type builder struct {
	c      *Calendar
	faults []error
	extra  []dated
}

type dated struct {
	day  int32
	span span
}

func (b *builder) fault(field, format string, args ...any) {
	b.faults = append(b.faults, &FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
}

func (b *builder) zone(name string) {
	if name == "" {
		return
	}
	loc, err := time.LoadLocation(name)
	if err != nil || name == "Local" { // "Local" would make the hours depend on the machine
		b.fault("zone", "%q is not a time zone; use an IANA name such as UTC or Europe/Berlin", name)
		return
	}
	b.c.loc = loc
}

var weekdays = [7]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (b *builder) week(lines []string) {
	if len(lines) == 0 {
		for i := range b.c.week {
			b.c.week[i] = []span{{0, 1440}}
		}
	}
	for i, line := range lines {
		field := fmt.Sprintf("hours[%d]", i)
		days, times, _ := strings.Cut(strings.TrimSpace(line), " ")
		s, err := parseSpan(strings.TrimSpace(times))
		from, to, ok := parseDays(days)
		if !ok || err != nil {
			b.fault(field, "%q is not a day or range of days with times; write it as mon-fri 09:00-17:00, the days as %s", line, strings.Join(weekdays[:], ", "))
			continue
		}
		for d := from; ; d = (d + 1) % 7 {
			if b.c.week[d], ok = insert(b.c.week[d], s); !ok {
				b.fault(field, "%q overlaps other hours of %s; leave one out", line, weekdays[d])
			}
			if d == to {
				break
			}
		}
	}
}

func parseDays(s string) (from, to int, ok bool) {
	a, z, ranged := strings.Cut(strings.ToLower(s), "-")
	if !ranged {
		z = a
	}
	from, to = slices.Index(weekdays[:], a), slices.Index(weekdays[:], z)
	return from, to, from >= 0 && to >= 0
}

// parseSpan reads "09:00-17:30"; 24:00 is the end of the day.
func parseSpan(s string) (span, error) {
	a, z, ok := strings.Cut(s, "-")
	from, ok1 := parseMinute(a)
	to, ok2 := parseMinute(z)
	if !ok || !ok1 || !ok2 || from >= to {
		return span{}, fmt.Errorf("%q is not a time of day and a later one; write them as 09:00-17:00, the end of the day as 24:00", s)
	}
	return span{from, to}, nil
}

func parseMinute(s string) (int, bool) {
	h, m, ok := strings.Cut(strings.TrimSpace(s), ":")
	hour, err1 := strconv.ParseUint(h, 10, 8)
	minute, err2 := strconv.ParseUint(m, 10, 8)
	v := int(hour)*60 + int(minute)
	return v, ok && err1 == nil && err2 == nil && minute < 60 && v <= 1440
}

// insert keeps the spans of a day in order; it is false for one that overlaps another.
func insert(list []span, s span) ([]span, bool) {
	i, _ := slices.BinarySearchFunc(list, s, func(a, b span) int { return a.from - b.from })
	if i > 0 && list[i-1].to > s.from || i < len(list) && list[i].from < s.to {
		return list, false
	}
	return slices.Insert(slices.Clip(list), i, s), true
}

// Holidays lists the names that Config.Holidays may have, sorted.
func Holidays() []string { return slices.Sorted(maps.Keys(holidayTable())) }

func (b *builder) holidays(names []string) {
	table := holidayTable()
	for i, name := range names {
		list, ok := table[strings.ToUpper(name)]
		if !ok {
			b.fault(fmt.Sprintf("holidays[%d]", i), "%q is not a holiday calendar; use one of %s, or a calendar file", name, strings.Join(Holidays(), ", "))
			continue
		}
		for _, h := range list {
			for y := firstYear; y <= lastYear; y++ {
				actual, observed := h.Calc(y)
				for _, t := range [...]time.Time{actual, observed} {
					if !t.IsZero() {
						// The library's days begin at midnight of the machine's zone, which may not have one.
						b.c.days[dayOf(t.Add(12*time.Hour))] = nil
					}
				}
			}
		}
	}
}

// dayOf is the number of the day that a time shows in its own zone.
func dayOf(t time.Time) int32 {
	y, m, d := t.Date()
	return date{y, m, d}.number()
}

func (b *builder) closed(days []string) {
	for i, s := range days {
		if t, err := time.Parse(time.DateOnly, s); err == nil {
			b.c.days[dayOf(t)] = nil
			continue
		}
		t, err := time.Parse("2006-01-02", "2000-"+s) // a leap year: 02-29 is a day
		if err != nil {
			b.fault(fmt.Sprintf("closed[%d]", i), "%q is not a day; write it as 2026-12-24, or as 12-24 for every year", s)
			continue
		}
		for y := firstYear; y <= lastYear; y++ {
			if d := time.Date(y, t.Month(), t.Day(), 0, 0, 0, 0, time.UTC); d.Day() == t.Day() {
				b.c.days[dayOf(d)] = nil
			}
		}
	}
}

// addExtra replaces the hours of days that have their own.
func (b *builder) addExtra() {
	own := map[int32][]span{}
	for _, x := range b.extra {
		list, ok := insert(own[x.day], x.span)
		if !ok {
			t := time.Unix(int64(x.day)*86_400, 0).UTC()
			b.fault("extra", "%s has hours that overlap; leave one out", t.Format(time.DateOnly))
		}
		own[x.day] = list
	}
	maps.Copy(b.c.days, own)
}

// table reads a CSV file.
func (b *builder) table(file []byte) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(file, []byte("\ufeff"))))
	r.FieldsPerRecord, r.Comment, r.TrimLeadingSpace = -1, '#', true
	for first := true; ; first = false {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			b.fault(File, "is not CSV: %s", err)
			return
		}
		line, _ := r.FieldPos(0)
		if first && strings.EqualFold(row[0], "date") {
			continue
		}
		d, err := time.Parse(time.DateOnly, strings.TrimSpace(row[0]))
		if err != nil {
			b.fault(File, "line %d: %q is not a date; write it as 2026-12-24", line, row[0])
			continue
		}
		if len(row) < 2 || strings.TrimSpace(row[1]) == "" {
			b.c.days[dayOf(d)] = nil
			continue
		}
		s, err := parseSpan(strings.TrimSpace(row[1]))
		if err != nil {
			b.fault(File, "line %d: %s", line, err)
			continue
		}
		b.extra = append(b.extra, dated{dayOf(d), s})
	}
}

// iCalendar reads an iCalendar file (RFC 5545).
func (b *builder) iCalendar(file []byte) {
	cal, err := ics.ParseCalendar(bytes.NewReader(file))
	if err != nil {
		b.fault(File, "is not an iCalendar file: %s", err)
		return
	}
	for _, e := range cal.Events() {
		if s := e.GetProperty(ics.ComponentPropertyStatus); s != nil && s.Value == string(ics.ObjectStatusCancelled) {
			continue
		}
		if err := b.event(e); err != nil {
			title := "an event without a title"
			if s := e.GetProperty(ics.ComponentPropertySummary); s != nil {
				title = strconv.Quote(s.Value)
			}
			b.fault(File, "%s: %s", title, err)
		}
	}
}

// mostDays is how many days in a row an event may last.
const mostDays = 366

// event closes the days of an event, as often as it recurs.
func (b *builder) event(e *ics.VEvent) error {
	start, err := dateProperty(e, ics.ComponentPropertyDtStart)
	if err != nil {
		return err
	}
	length := int32(1)
	if e.GetProperty(ics.ComponentPropertyDtEnd) != nil {
		end, err := dateProperty(e, ics.ComponentPropertyDtEnd)
		if err != nil {
			return err
		}
		length = max(1, dayOf(end)-dayOf(start))
	}
	if length > mostDays {
		return fmt.Errorf("it lasts %d days; at most %d are read", length, mostDays)
	}
	begins, err := recurrences(e, start)
	for _, t := range begins {
		for i := range length {
			b.c.days[dayOf(t)+i] = nil
		}
	}
	return err
}

// dateProperty reads a property that is a date without a time.
func dateProperty(e *ics.VEvent, p ics.ComponentProperty) (time.Time, error) {
	v := e.GetProperty(p)
	if v == nil {
		return time.Time{}, fmt.Errorf("it has no %s", p)
	}
	t, err := time.Parse("20060102", v.Value)
	if err != nil {
		return t, fmt.Errorf("%s is %q; only events that last whole days are read, as 20261224", p, v.Value)
	}
	return t, nil
}

// recurrences are the days on which an event begins.
func recurrences(e *ics.VEvent, start time.Time) ([]time.Time, error) {
	rule := e.GetProperty(ics.ComponentPropertyRrule)
	if rule == nil {
		return []time.Time{start}, nil
	}
	opt, err := rrule.StrToROption(rule.Value)
	if err != nil {
		return nil, fmt.Errorf("its rule of recurrence cannot be read: %w", err)
	}
	if opt.Freq > rrule.DAILY { // the finer, the larger
		return nil, errors.New("it recurs more often than daily; only days are read")
	}
	opt.Dtstart = start
	r, err := rrule.NewRRule(*opt)
	if err != nil {
		return nil, fmt.Errorf("its rule of recurrence cannot be read: %w", err)
	}
	set := rrule.Set{}
	set.RRule(r)
	for _, x := range e.GetProperties(ics.ComponentPropertyExdate) {
		for v := range strings.SplitSeq(x.Value, ",") {
			t, err := time.Parse("20060102", v)
			if err != nil {
				return nil, fmt.Errorf("EXDATE is %q; write a date, as 20261224", v)
			}
			set.ExDate(t)
		}
	}
	return set.Between(start, time.Date(lastYear, 12, 31, 0, 0, 0, 0, time.UTC), true), nil
}
