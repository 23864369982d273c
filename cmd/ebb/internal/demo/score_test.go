package demo

import (
	"fmt"
	"testing"
	"time"

	"ebb/cmd/ebb/internal/console"
	"ebb/cmd/ebb/internal/simulate"
)

var live = time.Date(2026, 1, 12, 0, 0, 0, 0, time.UTC)

func day(n int) time.Time { return live.AddDate(0, 0, n) }

func leaver(begins, left int) simulate.Truth {
	return simulate.Truth{Customer: "c", Shape: simulate.Leak, Begins: day(begins), Left: day(left), Weekly: 700}
}

func TestScoringRule(t *testing.T) {
	stays := simulate.Truth{Customer: "c"}
	cancelled := leaver(10, 10)
	cancelled.Shape = simulate.Cancelled
	for _, tc := range []struct {
		rule  string
		truth simulate.Truth
		fired []int // days; -1000 for one resolved before the live part
		want  string
	}{
		{"an alert after he left finds him", leaver(10, 10), []int{24}, "found 1 missed 0 pending 0 right 1 false 0 ahead 46"},
		{"an alert while he is leaving finds him earlier", leaver(0, 40), []int{20}, "found 1 missed 0 pending 0 right 1 false 0 ahead 80"},
		{"up to seven days before it could be seen is no accident", leaver(20, 30), []int{13}, "found 1 missed 0 pending 0 right 1 false 0 ahead 77"},
		{"earlier than that it is a false alarm, though he leaves later", leaver(20, 30), []int{12}, "found 0 missed 1 pending 0 right 0 false 1 ahead 0"},
		{"an alert about one who stays is a false alarm", stays, []int{5, 50}, "found 0 missed 0 pending 0 right 0 false 2 ahead 0"},
		{"a customer is found once, at his first right alert", leaver(10, 10), []int{24, 30}, "found 1 missed 0 pending 0 right 2 false 0 ahead 46"},
		{"a false alarm and a right one count both", leaver(30, 40), []int{1, 45}, "found 1 missed 0 pending 0 right 1 false 1 ahead 55"},
		{"no alert three weeks after he left: missed", leaver(30, 38), nil, "found 0 missed 1 pending 0 right 0 false 0 ahead 0"},
		{"no alert two weeks after: too early to say", leaver(40, 46), nil, "found 0 missed 0 pending 1 right 0 false 0 ahead 0"},
		{"leaving and not gone: too early to say", leaver(50, 90), nil, "found 0 missed 0 pending 1 right 0 false 0 ahead 0"},
		{"who leaves in the future is nobody's yet", leaver(70, 90), nil, "found 0 missed 0 pending 0 right 0 false 0 ahead 0"},
		{"who left long before the live part does not count", leaver(-60, -22), nil, "found 0 missed 0 pending 0 right 0 false 0 ahead 0"},
		{"who left shortly before it does", leaver(-20, -20), []int{-6}, "found 1 missed 0 pending 0 right 1 false 0 ahead 46"},
		{"an alert that was over before the live part does not count", leaver(-20, -20), []int{-1000}, "found 0 missed 1 pending 0 right 0 false 0 ahead 0"},
		{"who cancels need not be found, and an alert about him is neither right nor wrong", cancelled, []int{24}, "found 0 missed 0 pending 0 right 0 false 0 ahead 0"},
		{"before he cancels it is a false alarm", cancelled, []int{1}, "found 0 missed 0 pending 0 right 0 false 1 ahead 0"},
	} {
		l := newLedger(live)
		for i, at := range tc.fired {
			id := fmt.Sprint(i)
			if at == -1000 {
				l.fire(id, episode{customer: "c", detector: "d", fired: day(-10)})
				l.resolve(id, day(-5))
				continue
			}
			l.fire(id, episode{customer: "c", detector: "d", fired: day(at)})
			l.fire(id, episode{customer: "c", detector: "d", fired: day(at)}) // a repeated step changes nothing
		}
		s, leavers := l.score(day(60), []simulate.Truth{tc.truth, {Customer: "another"}})
		got := fmt.Sprintf("found %d missed %d pending %d right %d false %d ahead %.0f", s.Found, s.Missed, s.Pending, s.Right, s.FalseAlarms, s.DaysAhead)
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.rule, got, tc.want)
		}
		if leavers != s.Found+s.Missed+s.Pending || s.Alerts != s.Right+s.FalseAlarms {
			t.Errorf("%s: %d leavers, %d alerts do not add up: %+v", tc.rule, leavers, s.Alerts, s)
		}
		if want := int64(s.Found) * 700 * 60 / 7; s.MoneyFound != want {
			t.Errorf("%s: money found %d, want %d", tc.rule, s.MoneyFound, want)
		}
	}
}

func TestTheUsualRule(t *testing.T) {
	type spend struct {
		day   int
		cents int64
	}
	even := func(to int) (s []spend) {
		for d := 0; d < to; d += 7 {
			s = append(s, spend{d + 3, 700})
		}
		return s
	}
	for _, tc := range []struct {
		rule   string
		spends []spend
		want   string
	}{
		{"somebody even is left alone", even(90), ""},
		{"who stops is alerted when his week is below half: seven days after", even(49), "fired 53"},
		{"no alert before he has 35 days behind him, and none for ever after", even(14), "fired 39 over 46"},
		{"who comes back is over, and stops again", append(even(49), spend{60, 700}), "fired 53 over 61 fired 68"},
		{"a refund lowers the spend", append(even(63), spend{60, -500}), "fired 61"},
	} {
		var got string
		note := func(what string) func(string, time.Time) {
			return func(_ string, at time.Time) { got += fmt.Sprintf(" %s %d", what, int(at.Sub(live)/oneDay)) }
		}
		u := newUsualRule(live, note("fired"), note("over"))
		for _, s := range tc.spends {
			at := day(s.day).Add(12 * time.Hour)
			u.see(&simulate.Event{Feed: simulate.Payments, Key: "c", Time: at, At: at, Spend: s.cents})
		}
		u.until(day(72))
		if len(got) > 0 {
			got = got[1:]
		}
		if tc.rule == "somebody even is left alone" {
			u.until(day(92))
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.rule, got, tc.want)
		}
	}
}

func TestTheUsualRuleTakesLateEventsWhileTheirDayIsInTheWindows(t *testing.T) {
	u := newUsualRule(live, func(string, time.Time) {}, func(string, time.Time) {})
	see := func(at, arrives int) {
		u.see(&simulate.Event{Feed: simulate.Payments, Key: "c", Time: day(at), At: day(arrives), Spend: 100})
	}
	see(0, 0)
	see(38, 40)
	see(3, 40)
	if c := u.customers["c"]; c.spend[38%36] != 100 || c.spend[3] != 0 {
		t.Errorf("day 38 has %d, day 3 %d", c.spend[38%36], c.spend[3])
	}
}

func TestTheUsualRuleForgets(t *testing.T) {
	u := newUsualRule(live, func(string, time.Time) {}, func(string, time.Time) {})
	u.see(&simulate.Event{Feed: simulate.Payments, Key: "c", Time: day(0), At: day(0), Spend: 100})
	u.until(day(200))
	if len(u.customers) != 0 {
		t.Error("somebody long gone is still remembered")
	}
}

func TestStepsAreCheckedForGapsAndRepeats(t *testing.T) {
	l := newStepLog()
	for _, s := range []struct {
		id       string
		revision uint32
		resolved bool
	}{{"a", 1, false}, {"a", 2, true}, {"b", 1, false}, {"b", 1, false}, {"a", 2, true}, {"b", 4, true}, {"c", 2, false}} {
		l.see(&console.Step{AlertID: s.id, Revision: s.revision, Resolved: s.resolved})
	}
	if l.total != 5 || l.twice != 2 || l.missing != 3 {
		t.Errorf("%d steps, %d twice, %d missing; want 5, 2, 3", l.total, l.twice, l.missing)
	}
}

func TestQuantileOfLatencies(t *testing.T) {
	l := newStepLog()
	if l.quantile(0.99) != 0 {
		t.Error("of none it is to be 0")
	}
	for i := range 1000 {
		l.measured(time.Duration(999-i) * time.Millisecond)
	}
	if got := l.quantile(0.99); got != 990*time.Millisecond {
		t.Errorf("p99 of 0 to 999 ms is %s", got)
	}
}

// Of a feed that stays stopped only so much is kept back: what comes then comes through.
func TestWhatIsWithheldIsBounded(t *testing.T) {
	d := &Demo{}
	d.acts.feed.stopped = true
	e := simulate.Event{Feed: simulate.Usage}
	for range withheldMax {
		d.withhold(&e)
	}
	if f := &d.acts.feed; d.withhold(&e) || len(f.withheld) != withheldMax || !f.overflow {
		t.Errorf("%d events are withheld, overflow %v", len(f.withheld), f.overflow)
	}
}
