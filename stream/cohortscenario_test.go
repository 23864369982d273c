package stream

import (
	flags "flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/state/customer"
	"ebb/stream/event"
)

var update = flags.Bool("update", false, "write what is told into the scenario again")

// TestCohortScenario plays testdata/cohorts.txt, as the second stage of two partitions gets it.
func TestCohortScenario(t *testing.T) {
	const path = "testdata/cohorts.txt"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set, err := detectors.NewSet(detectors.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	policy := alerts.New(alerts.Config{Group: "g", Detectors: set, Currency: event.Currency{'E', 'U', 'R'}})
	cfg := cohorts.Config{FalseAlarms: 0.5, LeastMembers: 5, By: []cohorts.Dimension{cohorts.Owner}, Totals: true}
	s := &cohortScenario{
		t: t, w: newWatching(cfg, policy), day: dayOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()),
		policy: policy, percent: 100, ids: map[string]string{}, sizes: map[string]int64{}, every: map[string]int32{}, due: map[int32][]string{},
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "=>") {
			continue
		}
		s.out.WriteString(line)
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			s.play(line)
		}
	}
	if *update {
		if err := os.WriteFile(path, []byte(s.out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if s.out.String() != string(b) {
		t.Errorf("what is told differs (rewrite with -update, and look at the difference):\n%s", s.out.String())
	}
}

type cohortScenario struct {
	t      *testing.T
	w      *watching
	policy *alerts.Policy
	day    int32
	owners []string
	sizes  map[string]int64
	every  map[string]int32
	due    map[int32][]string
	ids    map[string]string // of alerts, by subject
	n      int
	// percent is what customers spend of the 10.00 a day that they used to.
	percent int
	out     strings.Builder
}

func (s *cohortScenario) play(line string) {
	s.t.Helper()
	var (
		name, date      string
		customers, days int
	)
	read := func(form string, into ...any) bool {
		n, err := fmt.Sscanf(line, form, into...)
		return err == nil && n == len(into)
	}
	switch {
	case read("owner %s %d customers, one leaves every %d days", &name, &customers, &days):
		s.owners, s.sizes[name], s.every[name] = append(s.owners, name), int64(customers), int32(days)
	case read("everybody spends %d percent", &s.percent):
	case read("until %s", &date):
		end, err := time.Parse(time.DateOnly, date)
		if err != nil {
			s.t.Fatal(err)
		}
		for ; s.day < dayOf(end.UnixMilli()); s.day++ {
			s.pass()
		}
	case read("%s loses %d within %d days", &name, &customers, &days):
		for i := range customers {
			day := s.day + int32(i*days/customers)
			s.due[day] = append(s.due[day], name)
		}
	case strings.HasPrefix(line, "act "):
		s.act(strings.Fields(line)[1:])
	default:
		s.t.Fatalf("%q is not understood", line)
	}
}

// act has a person decide about the open alert of a subject, at noon: SUBJECT TYPE [FIELD=VALUE ...]. It goes the way of a fact, and another stage takes over after it.
func (s *cohortScenario) act(f []string) {
	s.t.Helper()
	e := &event.Event{Feed: event.Control, Time: int64(s.day)*dayMs + dayMs/2, Control: &event.Act{AlertID: s.ids[f[0]]}}
	e.Kind = map[string]event.Kind{
		"acknowledge": event.KindAcknowledge, "snooze": event.KindSnooze, "assign": event.KindAssign, "outcome": event.KindOutcome, "reopen": event.KindReopen,
	}[f[1]]
	for _, x := range f[2:] {
		switch name, value, _ := strings.Cut(x, "="); name {
		case "by":
			e.Control.By = value
		case "note":
			e.Control.Note = strings.ReplaceAll(value, "_", " ")
		case "until":
			until, err := time.Parse(time.DateOnly, value)
			if err != nil {
				s.t.Fatal(err)
			}
			e.Control.Until = until.UnixMilli()
		case "outcome":
			e.Control.Result = map[string]event.Result{"saved": event.ResultSaved, "lost": event.ResultLost, "false_alarm": event.ResultFalseAlarm}[value]
		default:
			s.t.Fatalf("%q is not understood", x)
		}
	}
	again, err := decodeAct(appendAct(nil, "g", e))
	if err != nil {
		s.t.Fatal(err)
	}
	step, result := s.w.act(again)
	if step != nil {
		s.print(step)
	}
	if result != customer.Applied {
		fmt.Fprintf(&s.out, "=> nothing: %s\n", result)
	}
	head, err := s.w.head()
	if err == nil {
		err = s.w.decode(head)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// print writes a step.
func (s *cohortScenario) print(step alerts.Wide) {
	m, _ := s.policy.WideMessage(step)
	a, err := alerts.Parse(m.Value)
	if err != nil {
		s.t.Fatal(err)
	}
	s.ids[a.Subject.ID] = a.AlertID
	fmt.Fprintf(&s.out, "=> %s: %s %s %s, %s, revision %d, since %s\n=>   %s\n", a.Time.Format("2006-01-02 15:04"), a.Step, a.Detector, a.Subject.ID, a.Severity, a.Revision, a.Since.Format(time.DateOnly), a.Summary)
	for _, x := range []struct{ name, value string }{
		{"reason", a.Reason}, {"outcome", a.Outcome}, {"by", a.By}, {"acknowledged by", a.AcknowledgedBy}, {"assigned to", a.Assignee}, {"note", a.Note},
	} {
		if x.value != "" {
			fmt.Fprintf(&s.out, "=>   %s: %s\n", x.name, x.value)
		}
	}
	if !a.SnoozedUntil.IsZero() {
		fmt.Fprintf(&s.out, "=>   snoozed until %s\n", a.SnoozedUntil.Format(time.DateOnly))
	}
	fmt.Fprintf(&s.out, "=>   evidence begins %.220s\n", a.Evidence)
}

// pass tells a day in two partitions, and writes what comes of it.
func (s *cohortScenario) pass() {
	facts := [2]cohortsTold{{day: s.day, whole: true}, {day: s.day, whole: true}}
	all := int64(0)
	for _, o := range s.owners {
		facts[0].sizes = append(facts[0].sizes, sizeTold{s.day, cohorts.Key{By: cohorts.Owner, Value: o}, s.sizes[o] / 3})
		facts[1].sizes = append(facts[1].sizes, sizeTold{s.day, cohorts.Key{By: cohorts.Owner, Value: o}, s.sizes[o] - s.sizes[o]/3})
		all += s.sizes[o]
		if s.day%s.every[o] == 0 {
			s.due[s.day] = append(s.due[s.day], o)
		}
	}
	facts[1].sizes = append(facts[1].sizes, sizeTold{s.day, cohorts.Key{}, all})
	for p := range facts { // a little more on some days than on others
		cents := all / 2 * int64(s.percent) * (10 + int64(s.day)%4)
		facts[p].totals = []totalTold{{s.day, cohorts.Totals{event.Money(cents) * event.MoneyUnit / 100}}}
	}
	for _, o := range s.due[s.day] {
		s.n++
		f := &facts[s.n%2]
		f.leavers = append(f.leavers, cohorts.Leaver{
			Day: s.day, Customer: fmt.Sprintf("%s-%d", o, s.n), Detector: "silence", AtRisk: 4_000_000, Of: []cohorts.Key{{By: cohorts.Owner, Value: o}},
		})
	}
	for p := range facts {
		for _, step := range s.w.take(int32(p), &facts[p], 2, int64(s.n), int64(s.day)*dayMs) {
			s.print(step)
		}
	}
}
