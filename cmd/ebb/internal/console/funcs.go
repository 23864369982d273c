package console

import (
	"bytes"
	"encoding/json"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"ebb/cmd/ebb/internal/svg"
	"ebb/stream/event"
)

// functions are what the templates may call.
func (c *Console) functions() template.FuncMap {
	return template.FuncMap{
		"amounts":     amounts,
		"asOf":        asOf,
		"clock":       clock,
		"count":       func(n int) string { return count(n) },
		"count64":     func(n int64) string { return count(n) },
		"customerURL": customerURL,
		"day":         day,
		"date":        func(t time.Time) string { return t.UTC().Format("2 Jan 2006") },
		"lasting":     lasting,
		"mark":        markOf,
		"money":       money,
		"cents":       func(n int64) string { return svg.Thousands(n / 100) },
		"percent":     percent,
		"perDay":      func(r float64) string { return count(int64(math.Round(r * 86400))) },
		"perSecond":   perSecond,
		"plural":      plural,
		"rough":       roughMoney,
		"seconds":     seconds,
		"sev":         severityIcon,
		"sevs":        severityIcons,
		"short":       short,
		"step":        stepText,
		"work":        workText,
		"when":        when,
		"tells":       tells,
		"words":       words,
		"add":         func(a, b int) int { return a + b },
		"share": func(part, whole int) string {
			if whole == 0 {
				return "–"
			}
			return percent(float64(part) / float64(whole))
		},
		"side": func(d *DemoState, usual bool) scoreSide {
			s := scoreSide{State: d, Score: d.Ebb, Usual: usual, Growth: growths(d, usual)}
			if usual {
				s.Score = d.Usual
			}
			return s
		},
		"speed": speedText,
	}
}

// tells is what a feed tells of, in a few words.
func tells(feed string) string {
	switch feed {
	case event.Usage.String():
		return "what customers use"
	case event.Payments.String():
		return "what they pay and owe"
	case event.Complaints.String():
		return "what they complain of"
	case event.Customers.String():
		return "who they are"
	case event.Control.String():
		return "what people do about alerts"
	}
	return ""
}

// severityIcon shows a severity by shape as well as by colour: a diamond, a triangle, a ring.
func severityIcon(s Severity) template.HTML {
	shape := `<circle cx="8" cy="8" r="4.6"/>`
	switch s {
	case Critical:
		shape = `<path d="M8 .8 15.2 8 8 15.2 .8 8Z"/>`
	case Warning:
		shape = `<path d="M8 1.8 15 14H1Z"/>`
	}
	name := s.String()
	return template.HTML(`<svg class="sev ` + name + `" viewBox="0 0 16 16" width="14" height="14" role="img"><title>` + name + `</title>` + shape + `</svg>`)
}

type severityCount struct {
	Severity Severity
	Count    int
}

func severityIcons(n [3]int) []severityCount {
	return []severityCount{{Critical, n[Critical]}, {Warning, n[Warning]}, {Info, n[Info]}}
}

// stepText is where an alert stands, in the word that the filter has for it. How old it is stands beside it.
func stepText(a *Alert) string { return words(a.Kind) }

// asOf is the date that stands beside an alert's sentence: the day of AsOf. The sentence tells how things stood then, and is not rewritten
// as time goes on. A sentence that is less than 24 hours old needs no date, and asOf returns the empty string for it.
func asOf(a *Alert, now time.Time) template.HTML {
	if a.AsOf.IsZero() || now.Sub(a.AsOf) < 24*time.Hour {
		return ""
	}
	return timeTag(a.AsOf, "day", a.AsOf.UTC().Format("2 Jan"))
}

// workText is what people did about an alert so far, in a few words; empty if nobody did anything. A snooze that is over by event time
// now says nothing any more.
func workText(a *Alert, now time.Time) string {
	var parts []string
	if !a.Acknowledged.IsZero() {
		parts = append(parts, strings.TrimSuffix("acknowledged by "+a.AcknowledgedBy, " by "))
	}
	if a.Assignee != "" {
		parts = append(parts, "with "+a.Assignee)
	}
	if a.SnoozedAt(now) {
		parts = append(parts, "snoozed until "+a.Snoozed.UTC().Format("2 Jan 2006"))
	}
	return strings.Join(parts, ", ")
}

// markOf is the mark of a truth: whether the customer has left, is leaving, or stays as far as now can tell.
func markOf(t *Truth, now time.Time) string {
	switch {
	case t == nil:
		return ""
	case t.Leaves && !t.Left.After(now):
		return "left"
	case t.Leaves && !t.Begins.After(now):
		return "leaving"
	}
	return "stays"
}

func indent(raw json.RawMessage) string {
	var b bytes.Buffer
	if len(raw) == 0 || json.Indent(&b, raw, "", "  ") != nil {
		return string(raw)
	}
	return b.String()
}

func speedText(s float64) string {
	switch s {
	case 0:
		return "pause"
	case 0.25:
		return "¼"
	}
	return strconv.FormatFloat(s, 'f', -1, 64)
}

// scoreSide is one of the two columns of the demo's score.
type scoreSide struct {
	State  *DemoState
	Score  Score
	Usual  bool
	Growth growthPair
}

// growthPair are the demo's two small multiples: found against those who left, and false alarms, for one of the two rules.
type growthPair struct {
	Found, False template.HTML
}

func growths(d *DemoState, usual bool) growthPair {
	n := len(d.Days)
	found, wrong, leavers, top := make([]int, n), make([]int, n), make([]int, n), make([]int, n)
	for i := range d.Days {
		k := &d.Days[i]
		found[i], wrong[i], leavers[i] = k.Found, k.FalseAlarms, k.Leavers
		if usual {
			found[i], wrong[i] = k.UsualFound, k.UsualFalse
		}
		// Both pictures of false alarms have the scale of the worse, so that they can be compared by eye.
		top[i] = max(k.FalseAlarms, k.UsualFalse)
	}
	return growthPair{
		Found: growth(found, leavers, "Found, day by day; the dashed line is all who left"),
		False: growth(wrong, top, "False alarms, day by day; the dashed line is the worse of the two rules"),
	}
}
