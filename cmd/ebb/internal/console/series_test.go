package console

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"ebb/stream/event"
)

// shopper spends the given amounts, in whole units, in consecutive weeks that end with day 999.
func shopper(first Date, units ...int64) *Customer {
	c := &Customer{ID: "c", Currency: "EUR", Window: first, First: first.Time()}
	for i, u := range units {
		if u != 0 {
			c.Days = append(c.Days, Day{Date: Date(999 - 7*(len(units)-1-i)), Spend: event.Money(u) * event.MoneyUnit, Purchases: 1})
		}
	}
	return c
}

func TestTheExpectedRange(t *testing.T) {
	for _, tc := range []struct {
		rule   string
		c      *Customer
		freeze Date
		want   string // low, mean and high of the last week
	}{
		{"even weeks: a tenth of the mean to either side", shopper(0, 50, 50, 50, 50, 50, 50, 50, 50), 0, "45.00 50.00 55.00"},
		{"the mean is that of the four weeks before, the week itself is not in it", shopper(0, 10, 10, 10, 10, 40, 40, 40, 40, 0), 0, "10.35 40.00 69.65"},
		{"weeks before the first event are not known, and too few are no ground", shopper(985, 50, 50), 0, "none"},
		{"nothing spent: no range", shopper(0, 0, 0, 0, 0, 0), 0, "none"},
		{"from the beginning of an alert on the range stays", shopper(937, 50, 50, 50, 50, 50, 50, 0, 0, 0), 985, "45.00 50.00 55.00"},
	} {
		var freeze time.Time
		if tc.freeze != 0 {
			freeze = tc.freeze.Time()
		}
		ws := weeks(tc.c, 999, 12, freeze)
		last := ws[len(ws)-1]
		got := "none"
		if last.Band {
			got = money(last.Low) + " " + money(last.Mean) + " " + money(last.High)
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.rule, got, tc.want)
		}
	}
}

func TestWeeksAddUpTheirDays(t *testing.T) {
	c := &Customer{Window: 900, Days: []Day{
		{Date: 986, Spend: 10, Usage: 1}, {Date: 992, Spend: 20, Purchases: 1}, {Date: 993, Spend: 40, Refunds: 1}, {Date: 999, Spend: 80, Usage: 2}, {Date: 1000, Spend: 160},
	}}
	ws := weeks(c, 999, 12, time.Time{})
	if a, b := ws[10], ws[11]; a.Spend != 30 || a.Usage != 1 || b.Spend != 120 || b.Refunds != 1 || b.From != 993 || b.To != 999 {
		t.Errorf("weeks %+v and %+v", a, b)
	}
	ds := days(c, 990, 1000)
	if len(ds) != 11 || ds[2].Spend != 20 || ds[10].Spend != 160 {
		t.Errorf("days %+v", ds)
	}
}

func TestADayIsThatOfTheCustomersZone(t *testing.T) {
	at := time.Date(2026, 3, 29, 23, 30, 0, 0, time.UTC)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones on this machine")
	}
	if utc, there := dateOf(at, time.UTC), dateOf(at, berlin); there != utc+1 {
		t.Errorf("half past eleven at night in UTC is day %d, in Berlin %d", utc, there)
	}
	if d := dateOf(time.Date(1969, 12, 31, 23, 0, 0, 0, time.UTC), time.UTC); d != -1 {
		t.Errorf("the day before the first is %d", d)
	}
}

func TestPicturesHoldNoInlineStyleAndEscapeTheirText(t *testing.T) {
	c := shopper(0, 50, 40, 60, 50, 50, 50, 0, 0)
	d := pictureData{
		spans: weeks(c, 999, weeksShown, time.Time{}), currency: "<E>", zone: time.UTC, now: Date(1000).Time(), unit: "week",
		complaints: []Complaint{{ID: `"><script>`, Priority: "high", Opened: Date(980).Time()}},
		marks:      []mark{{at: Date(990).Time(), class: "fired", label: "<b>", hover: `"<i>`}, {at: Date(990).Time(), class: "truth", label: "truly left"}},
	}
	for _, width := range []float64{wideChart, midChart, smallChart} {
		got := string(picture(&d, width))
		for _, bad := range []string{"style=", "<script>", "<b>", "<i>", "<E>", "NaN", "Inf"} {
			if strings.Contains(got, bad) {
				t.Errorf("width %g: the picture contains %q", width, bad)
			}
		}
		if !strings.Contains(got, "truly left") || strings.Count(got, `class="slot"`) != weeksShown {
			t.Errorf("width %g: %s", width, got)
		}
	}
	for _, empty := range []*Customer{{}, {Window: 999, First: Date(999).Time()}} {
		d := pictureData{spans: weeks(empty, 999, weeksShown, time.Time{}), zone: time.UTC, now: Date(1000).Time(), unit: "week"}
		if got := string(picture(&d, wideChart)); strings.Contains(got, "NaN") || !strings.Contains(got, "</svg>") {
			t.Errorf("a customer without events: %s", got)
		}
		if got := string(spark(d.spans)); !strings.Contains(got, "no spend seen") {
			t.Errorf("the small picture of a customer without events: %s", got)
		}
	}
}

func TestNumbersAreWrittenForPeople(t *testing.T) {
	for m, want := range map[event.Money]string{
		0: "0.00", 412_000: "41.20", 12_345_678: "1,234.57", -5_000: "−0.50", 9_999_950_000: "999,995.00", 50: "0.01", 49: "0.00",
	} {
		if got := money(m); got != want {
			t.Errorf("money(%d) = %s, want %s", m, got, want)
		}
	}
	if got := roughMoney(12_345_678); got != "1,234" {
		t.Errorf("rough %s", got)
	}
	for r, want := range map[float64]string{-1: "–", 0: "0", 0.00018: "15.6 a day", 0.042: "151 an hour", 1.25: "1.2", 1246.4: "1,246"} {
		if got := perSecond(r); got != want {
			t.Errorf("perSecond(%g) = %s, want %s", r, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 4 * time.Millisecond: "4 ms", 45 * time.Second: "45 s", 5 * time.Minute: "5 min", 5 * time.Hour: "5 h", 50 * time.Hour: "2 d",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%s) = %s, want %s", d, got, want)
		}
	}
}

// old is a customer who spent 10.00 a week until he fell silent, and the alert about it, weeksAgo ago.
func (w *world) old(t *testing.T, detector string, weeksAgo int, kept Date, evidence string) *Step {
	t.Helper()
	today := dateOf(w.now, time.UTC)
	since := today - Date(7*weeksAgo) - 14
	c := &Customer{ID: "c-old", Currency: "EUR", Window: today - kept + 1, First: w.now.AddDate(-2, 0, 0), LastActivity: since.Time()}
	for d := since; d >= c.Window; d -= 7 {
		c.Days = append([]Day{{Date: d, Spend: 10 * event.MoneyUnit, Purchases: 1, Usage: 3}}, c.Days...)
	}
	w.customers[c.ID] = c
	o := w.object(c, detector, "", "critical", since.Time(), (since + 14).Time(), 500*event.MoneyUnit, "Nothing for 14 days.")
	if evidence != "" {
		o["evidence"] = json.RawMessage(evidence)
	}
	return w.send(t, o)
}

func TestThePictureOfAnOldAlertShowsItsWeeks(t *testing.T) {
	shown := func(body string) (weeks, spent int) {
		table := body[strings.Index(body, "<tbody>"):]
		table = table[:strings.Index(table, "</tbody>")]
		return strings.Count(table, "<tr>"), strings.Count(table, `<td class="r">10.00</td>`)
	}
	t.Run("kept", func(t *testing.T) {
		w := tiny(t)
		s := w.old(t, "silence", 20, 300, "")
		c := w.console(false)
		body := get(t, c, "/customers/c-old").Body.String()
		if n, spent := shown(body); n != weeksShown || spent < weeksBefore {
			t.Errorf("%d weeks are shown, %d of them with spend", n, spent)
		}
		for _, want := range []string{"around the alert of", `<a href="/customers/c-old?around=latest&amp;by=week">show the latest</a>`, ">silence</text>"} {
			if !strings.Contains(body, want) {
				t.Errorf("the page lacks %s", want)
			}
		}
		body = get(t, c, "/customers/c-old?around=latest").Body.String()
		if n, spent := shown(body); n != weeksShown || spent != 0 || !strings.Contains(body, `<a href="/customers/c-old?around=`+s.AlertID+`&amp;by=week">its weeks</a>`) {
			t.Errorf("the latest %d weeks have %d with spend, or no way back", n, spent)
		}
		if days := get(t, c, "/customers/c-old?by=day").Body.String(); strings.Contains(days, "not over yet") || !strings.Contains(days, "around the alert of") {
			t.Error("the days around the alert reach to today")
		}
		if row := get(t, c, "/").Body.String(); !strings.Contains(row, "12 weeks to 22 Sep") {
			t.Error("the row's picture does not show the weeks around the alert")
		}
	})
	t.Run("not kept", func(t *testing.T) {
		w := tiny(t)
		w.old(t, "silence", 20, 91, "")
		body := get(t, w.console(false), "/customers/c-old").Body.String()
		if n, _ := shown(body); n != weeksShown || strings.Contains(body, "around the alert of") || !strings.Contains(body, "not kept any more") {
			t.Error("days that are gone are not told of")
		}
	})
	t.Run("in the evidence", func(t *testing.T) {
		w := tiny(t)
		amounts := strings.Repeat(`"10.00","0","0","0","0","0","0",`, 9) + `"0"`
		w.old(t, "spend_drop", 20, 91, `{"series_from":"2025-06-24","series":[`+amounts+`]}`)
		body := get(t, w.console(false), "/customers/c-old").Body.String()
		if n, spent := shown(body); n != weeksShown || spent != 9 || !strings.Contains(body, "only the spend until 26 Aug 2025 is known") {
			t.Errorf("%d of %d weeks are drawn from the evidence", spent, n)
		}
	})
	t.Run("past", func(t *testing.T) {
		w := tiny(t)
		s := *w.old(t, "silence", 20, 300, "")
		s.Revision, s.Resolved, s.Kind, s.Reason, s.Time = 2, true, "resolved", "recovered", s.Time.AddDate(0, 0, 9)
		w.book.Apply(&s)
		c := w.console(false)
		body := get(t, c, "/customers/c-old").Body.String()
		link := `<a href="/customers/c-old?around=` + s.AlertID + `&amp;by=week">`
		if _, spent := shown(body); spent != 0 || !strings.Contains(body, link) {
			t.Errorf("%d weeks with spend of late, or no way to a past alert's weeks", spent)
		}
		body = get(t, c, "/customers/c-old?around="+s.AlertID).Body.String()
		if _, spent := shown(body); spent < weeksBefore || !strings.Contains(body, ">recovered</text>") {
			t.Errorf("%d weeks with spend around a past alert", spent)
		}
	})
}
