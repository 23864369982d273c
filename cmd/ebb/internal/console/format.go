package console

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"ebb/cmd/ebb/internal/svg"
	"ebb/stream/event"
)

// money writes an amount with two decimals and its thousands apart: 1,234.50. It rounds half away from zero.
func money(m event.Money) string {
	sign := ""
	if m < 0 {
		sign = "−"
		m = -m
	}
	cents := (int64(m) + 50) / 100
	return sign + svg.Thousands(cents/100) + fmt.Sprintf(".%02d", cents%100)
}

// roughMoney leaves the cents out from 1000 on, for places with little room.
func roughMoney(m event.Money) string {
	if m >= 1000*event.MoneyUnit || m <= -1000*event.MoneyUnit {
		s := money(m)
		return s[:len(s)-3]
	}
	return money(m)
}

func count[T ~int | ~int64 | ~uint64](n T) string { return svg.Thousands(int64(n)) }

// plural writes a count with its noun: 1 alert, 2 alerts.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// span of time in one or two words: 45 s, 12 min, 5 h, 3 d.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < time.Second:
		return strconv.Itoa(int(d.Milliseconds())) + " ms"
	case d < 90*time.Second:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < 90*time.Minute:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + " d"
}

func seconds(s float64) string { return short(time.Duration(s * float64(time.Second))) }

// perSecond is a rate with as many digits as mean anything; a slow one is told by the hour or by the day.
func perSecond(r float64) string {
	switch {
	case r < 0:
		return "–"
	case r == 0:
		return "0"
	case r*3600 < 1:
		return strconv.FormatFloat(r*86400, 'f', 1, 64) + " a day"
	case r < 0.1:
		return strconv.FormatFloat(r*3600, 'f', 0, 64) + " an hour"
	case r < 10:
		return strconv.FormatFloat(r, 'f', 1, 64)
	}
	return svg.Thousands(int64(math.Round(r)))
}

func percent(p float64) string { return strconv.Itoa(int(math.Round(p*100))) + " %" }

// stamp is an instant in full, in UTC; the page's script turns it into the viewer's zone.
func stamp(t time.Time) string { return t.UTC().Format("2 Jan 2006 15:04:05 UTC") }

// when writes an instant relative to now, with the absolute one on hover.
func when(t, now time.Time) template.HTML {
	if t.IsZero() {
		return `<span class="unknown">–</span>`
	}
	text := short(now.Sub(t)) + " ago"
	if t.After(now.Add(time.Second)) {
		text = "in " + short(t.Sub(now))
	}
	return timeTag(t, "rel", text)
}

// clock writes an instant absolutely.
func clock(t time.Time) template.HTML {
	if t.IsZero() {
		return `<span class="unknown">–</span>`
	}
	return timeTag(t, "abs", t.UTC().Format("2 Jan 2006 15:04"))
}

// lasting writes for how long something has been going on.
func lasting(t, now time.Time) template.HTML {
	if t.IsZero() {
		return `<span class="unknown">–</span>`
	}
	return timeTag(t, "rel", short(now.Sub(t)))
}

func timeTag(t time.Time, class, text string) template.HTML {
	return template.HTML(fmt.Sprintf(`<time class="%s" datetime="%s" title="%s">%s</time>`, // #nosec: all parts are made here
		class, t.UTC().Format(time.RFC3339), stamp(t), text))
}

func day(d Date) string { return d.Time().Format("2 Jan") }

func dayYear(d Date) string { return d.Time().Format("2 Jan 2006") }

// words turns a name of the contract into words: complaint_resolved, complaint resolved.
func words(s string) string { return strings.ReplaceAll(s, "_", " ") }

func amounts(sums []Amount) string {
	if len(sums) == 0 {
		return "–"
	}
	parts := make([]string, len(sums))
	for i, s := range sums {
		parts[i] = strings.TrimSpace(roughMoney(s.Sum) + " " + s.Currency)
	}
	return strings.Join(parts, " + ")
}
