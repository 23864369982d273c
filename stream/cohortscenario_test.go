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
	s := &cohortScenario{
		t: t, w: newWatching(cohorts.Config{FalseAlarms: 0.5, LeastMembers: 5, By: []cohorts.Dimension{cohorts.Owner}, Totals: true}), day: dayOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()),
		policy: alerts.New(alerts.Config{Group: "g", Detectors: set, Currency: event.Currency{'E', 'U', 'R'}}), percent: 100, sizes: map[string]int64{}, every: map[string]int32{}, due: map[int32][]string{},
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
	default:
		s.t.Fatalf("%q is not understood", line)
	}
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
			m, _ := s.policy.WideMessage(step)
			a, err := alerts.Parse(m.Value)
			if err != nil {
				s.t.Fatal(err)
			}
			fmt.Fprintf(&s.out, "=> %s: %s %s %s, %s, revision %d, since %s\n=>   %s\n", a.Time.Format("2006-01-02 15:04"), a.Step, a.Detector, a.Subject.ID, a.Severity, a.Revision, a.Since.Format(time.DateOnly), a.Summary)
			fmt.Fprintf(&s.out, "=>   evidence begins %.220s\n", a.Evidence)
		}
	}
}
