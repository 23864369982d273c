package hours

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func calendar(t *testing.T, cfg Config, fileName, file string) *Calendar {
	t.Helper()
	var content []byte
	if fileName != "" {
		content = []byte(file)
	}
	c, err := New("test", cfg, fileName, content)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func clock(t *testing.T, zone, s string) int64 {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	x, err := time.ParseInLocation("2006-01-02 15:04", s, loc)
	if err != nil {
		t.Fatal(err)
	}
	return x.UnixMilli()
}

const hour = 3_600_000

func TestWorkingTime(t *testing.T) {
	office := Config{Zone: "Europe/Berlin", Hours: []string{"mon-fri 09:00-12:00", "mon-thu 13:00-17:00"}}
	with := func(change func(*Config)) Config {
		c := office
		change(&c)
		return c
	}
	const holidays = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n" +
		"BEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Outing\r\nDTSTART;VALUE=DATE:20260112\r\nDTEND;VALUE=DATE:20260114\r\nEND:VEVENT\r\n" +
		"BEGIN:VEVENT\r\nUID:2\r\nSUMMARY:Inventory\r\nDTSTART;VALUE=DATE:20250115\r\nRRULE:FREQ=YEARLY\r\nEXDATE;VALUE=DATE:20270115\r\nEND:VEVENT\r\n" +
		"BEGIN:VEVENT\r\nUID:3\r\nSTATUS:CANCELLED\r\nDTSTART;VALUE=DATE:20260116\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
	for _, c := range []struct {
		rule       string
		cfg        Config
		name, file string
		from, to   string
		want       int64 // hours
	}{
		{"a week of the office", office, "", "", "2026-01-12 00:00", "2026-01-19 00:00", 4*7 + 3},
		{"parts of two days, the break left out", office, "", "", "2026-01-12 11:00", "2026-01-13 10:00", 1 + 4 + 1},
		{"the night and the weekend are none", office, "", "", "2026-01-16 12:00", "2026-01-19 09:00", 0},
		{"backwards is none", office, "", "", "2026-01-13 12:00", "2026-01-12 09:00", 0},
		{"Epiphany is one in Bavaria", with(func(c *Config) { c.Holidays = []string{"de-by"} }), "", "", "2026-01-06 00:00", "2026-01-07 00:00", 0},
		{"and none in the rest of Germany", with(func(c *Config) { c.Holidays = []string{"DE"} }), "", "", "2026-01-06 00:00", "2026-01-07 00:00", 7},
		{"a holiday in lieu of one on a Saturday", Config{Holidays: []string{"US"}}, "", "", "2026-07-03 00:00", "2026-07-04 00:00", 0},
		{"closed once", with(func(c *Config) { c.Closed = []string{"2026-01-13"} }), "", "", "2026-01-12 00:00", "2026-01-15 00:00", 14},
		{"closed every year", with(func(c *Config) { c.Closed = []string{"01-13"} }), "", "", "2027-01-13 00:00", "2027-01-14 00:00", 0},
		{"an extra Saturday, in two parts", with(func(c *Config) { c.Extra = []string{"2026-01-17 14:00-15:00", "2026-01-17 09:00-11:00"} }), "", "", "2026-01-17 00:00", "2026-01-18 00:00", 3},
		{"extra hours win over a holiday", with(func(c *Config) { c.Closed, c.Extra = []string{"2026-01-13"}, []string{"2026-01-13 10:00-11:00"} }), "", "", "2026-01-13 00:00", "2026-01-14 00:00", 1},
		{"a list: closed, and hours of its own", office, "days.csv", "date,hours,name\n2026-01-13,,Outing\n# a comment\n2026-01-17, 09:00-11:00\n", "2026-01-12 00:00", "2026-01-19 00:00", 3*7 + 3 + 2},
		{"a calendar file: two days, and one every year", office, "days.ics", holidays, "2026-01-12 00:00", "2026-01-17 00:00", 7 + 3},
		{"a recurrence that is left out once", office, "days.ics", holidays, "2027-01-15 00:00", "2027-01-16 00:00", 3},
		{"around the clock, less a night of 23 hours", Config{Zone: "Europe/Berlin"}, "", "", "2026-03-29 00:00", "2026-03-30 00:00", 23},
		{"a shift through the hour that comes twice", Config{Zone: "Europe/Berlin", Hours: []string{"sun 00:00-06:00"}}, "", "", "2026-10-25 00:00", "2026-10-26 00:00", 7},
	} {
		t.Run(c.rule, func(t *testing.T) {
			cal := calendar(t, c.cfg, c.name, c.file)
			zone := c.cfg.Zone
			if zone == "" {
				zone = "UTC"
			}
			if got := cal.Between(clock(t, zone, c.from), clock(t, zone, c.to)); got != c.want*hour {
				t.Errorf("%s hours, want %d", time.Duration(got)*time.Millisecond, c.want)
			}
		})
	}
}

func TestAdd(t *testing.T) {
	const zone = "Europe/Berlin"
	c := calendar(t, Config{Zone: zone, Hours: []string{"mon-fri 09:00-17:00"}, Holidays: []string{"DE"}}, "", "")
	for _, x := range []struct {
		from  string
		hours int64
		want  string
	}{
		{"2026-01-12 10:00", 0, "2026-01-12 10:00"},
		{"2026-01-12 10:00", 7, "2026-01-12 17:00"},
		{"2026-01-12 10:00", 8, "2026-01-13 10:00"},
		{"2026-01-16 16:00", 2, "2026-01-19 10:00"}, // over the weekend
		{"2026-04-02 16:00", 2, "2026-04-07 10:00"}, // over Easter
		{"2026-01-17 03:00", 1, "2026-01-19 10:00"},
	} {
		if got := c.Add(clock(t, zone, x.from), x.hours*hour); got != clock(t, zone, x.want) {
			t.Errorf("%s and %d hours of work: %s, want %s", x.from, x.hours, time.UnixMilli(got).In(c.loc), x.want)
		}
	}
	var none *Calendar
	if none.Add(5, 7) != 12 || none.Between(5, 12) != 7 || none.Add(math.MaxInt64-1, 7) != math.MaxInt64 || none.Name() != "" {
		t.Error("without a calendar every hour is one")
	}
}

// TestAddAndBetween: the time that Add finds is the first by which Between has counted as much.
func TestAddAndBetween(t *testing.T) {
	cal := calendar(t, Config{
		Zone: "America/Santiago", Hours: []string{"mon-fri 00:00-02:00", "mon-sat 08:30-24:00"}, Holidays: []string{"BR"}, Closed: []string{"02-29"},
	}, "", "")
	rng := rand.New(rand.NewPCG(1, 2))
	start := clock(t, "UTC", "2024-01-01 00:00")
	for range 2000 {
		from := start + rng.Int64N(3*365*24*hour)
		work := 1 + rng.Int64N(200*hour)
		to := cal.Add(from, work)
		if got := cal.Between(from, to); got != work {
			t.Fatalf("from %d Add of %d gives %d, between which there are %d", from, work, to, got)
		}
		if got := cal.Between(from, to-1); got != work-1 {
			t.Fatalf("from %d Add of %d gives %d, but it is not the first", from, work, to)
		}
	}
}

func TestFaults(t *testing.T) {
	event := func(body string) string {
		return "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Fair\r\n" + body + "END:VEVENT\r\nEND:VCALENDAR\r\n"
	}
	for _, c := range []struct {
		rule        string
		cfg         Config
		name, file  string
		field, says string
	}{
		{"an unknown zone", Config{Zone: "Europe/Berln"}, "", "", "zone", "IANA name"},
		{"the machine's own zone", Config{Zone: "Local"}, "", "", "zone", "IANA name"},
		{"an unknown day", Config{Hours: []string{"mon-fri 09:00-17:00", "today 09:00-17:00"}}, "", "", "hours[1]", "sun, mon"},
		{"hours that end before they begin", Config{Hours: []string{"mon 17:00-09:00"}}, "", "", "hours[0]", "mon-fri 09:00-17:00"},
		{"hours that overlap", Config{Hours: []string{"mon-fri 09:00-17:00", "fri 16:00-18:00"}}, "", "", "hours[1]", "overlaps other hours of fri"},
		{"an unknown holiday calendar", Config{Holidays: []string{"DE", "XX"}}, "", "", "holidays[1]", "AR, AT, AU-ACT"},
		{"a day that is none", Config{Closed: []string{"2026-02-30"}}, "", "", "closed[0]", "2026-12-24"},
		{"an extra day without hours", Config{Extra: []string{"2026-02-28"}}, "", "", "extra[0]", "09:00-17:00"},
		{"extra hours that overlap", Config{Extra: []string{"2026-02-28 09:00-12:00", "2026-02-28 11:00-12:00"}}, "", "", "extra", "2026-02-28"},
		{"no working time at all", Config{Hours: []string{"mon 09:00-10:00"}, Closed: everyDay()}, "", "", "", "no working time"},
		{"a list with a broken line", Config{}, "d.csv", "2026-01-01\n2026-13-01\n", "file", "line 2"},
		{"a list with broken hours", Config{}, "d.csv", "2026-01-01,25:00-26:00\n", "file", "line 1"},
		{"a file that is no calendar", Config{}, "d.ics", "hello", "file", "not an iCalendar file"},
		{"an event of some hours", Config{}, "d.ics", event("DTSTART:20260112T090000Z\r\n"), "file", `"Fair": DTSTART is "20260112T090000Z"; only events that last whole days`},
		{"an event without a date", Config{}, "d.ics", event(""), "file", "no DTSTART"},
		{"a rule that cannot be read", Config{}, "d.ics", event("DTSTART;VALUE=DATE:20260112\r\nRRULE:FREQ=SOMETIMES\r\n"), "file", "recurrence"},
		{"a rule without end by the second", Config{}, "d.ics", event("DTSTART;VALUE=DATE:20260112\r\nRRULE:FREQ=SECONDLY\r\n"), "file", "more often than daily"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			var content []byte
			if c.name != "" {
				content = []byte(c.file)
			}
			_, err := New("x", c.cfg, c.name, content)
			var f *FieldError
			if !errors.As(err, &f) || f.Field != c.field || !strings.Contains(f.Message, c.says) {
				t.Errorf("%v, want a fault of %q that says %q", err, c.field, c.says)
			}
		})
	}
}

func everyDay() []string {
	var days []string
	for d := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC); d.Year() == 2000; d = d.AddDate(0, 0, 1) {
		days = append(days, d.Format("01-02"))
	}
	return days
}

func BenchmarkAdd(b *testing.B) {
	c, err := New("x", Config{Zone: "Europe/Berlin", Hours: []string{"mon-fri 09:00-17:00"}, Holidays: []string{"DE"}}, "", nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c.Add(1_768_000_000_000, 40*hour) // a working week
	}
}
