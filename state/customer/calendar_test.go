package customer

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestCalendarAgainstTime: days and their starts are those of package time, in zones with all kinds of changes.
func TestCalendarAgainstTime(t *testing.T) {
	for _, name := range []string{
		"UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Havana", "Asia/Kolkata", "Asia/Kathmandu",
		"Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati", "Africa/Casablanca", "America/Nuuk",
	} {
		loc, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		c := NewCalendar(loc)
		rng := rand.New(rand.NewPCG(1, 2))
		var r Record
		for range 3000 {
			ms := rng.Int64N(70 * 365 * dayMs)
			local := time.UnixMilli(ms).In(loc)
			y, m, d := local.Date()
			want := int32(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400)
			if got := c.Day(ms); got != want {
				t.Fatalf("%s %v: day %d, want %d", name, local, got, want)
			}
			start := c.StartOf(&r, want, ms)
			if c.Day(start) != want || c.Day(start-1) >= want {
				t.Fatalf("%s: day %d begins at %v", name, want, time.UnixMilli(start).In(loc))
			}
		}
	}
}

func TestCalendarBefore1970(t *testing.T) {
	ny, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	if d := NewCalendar(ny).Day(0); d != -1 {
		t.Fatalf("1970 began on day %d in New York", d)
	}
	p := testParams()
	p.Calendar = NewCalendar(ny)
	var r Record
	if out := r.Apply(pay(1, 16, 1, "EUR"), &p); out != Applied || r.Spend[0].Day() != 0 {
		t.Fatal(out, r.Spend)
	}
}

func TestUnknownZones(t *testing.T) {
	c := NewCalendar(nil)
	if c.Known("Mars/Olympus") || c.Known("Local") || !c.Known("Europe/Berlin") {
		t.Fatal("only names of the database are zones")
	}
	for i := range 3 * maxZones {
		c.Known(string(rune('a'+i%26)) + string(rune('0'+i/26%10)) + string(rune('A'+i/260)))
	}
	if len(c.zones) > maxZones {
		t.Fatalf("%d zones are cached", len(c.zones))
	}
}

func BenchmarkDay(b *testing.B) {
	for _, name := range []string{"UTC", "Europe/Berlin"} {
		loc, err := time.LoadLocation(name)
		if err != nil {
			b.Fatal(err)
		}
		c := NewCalendar(loc)
		b.Run(name, func(b *testing.B) {
			ms := t0
			for b.Loop() {
				c.Day(ms)
				ms += 1000
			}
		})
	}
}
