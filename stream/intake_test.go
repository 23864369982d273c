package stream

import (
	"strings"
	"testing"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/stream/event"
)

// kept is the changelog of the second stage, and the facts behind it.
type kept struct {
	cfg    cohorts.Config
	w      *watching
	stored map[string][]byte
	facts  []*cohortsTold
	steps  []string
}

// tell folds a fact of a partition and stores what follows, and every so often another stage takes over: from what is stored, and the facts from there on.
func (k *kept) tell(t *testing.T, p int32, f *cohortsTold, policy *alerts.Policy) {
	t.Helper()
	offset := int64(len(k.facts))
	again, err := decodeCohorts(f.append(nil))
	if err != nil {
		t.Fatal(err)
	}
	k.facts = append(k.facts, again)
	for _, step := range k.w.take(p, again, 2, offset, 1+offset) {
		m, _ := policy.WideMessage(step)
		a, err := alerts.Parse(m.Value)
		if err != nil {
			t.Fatal(err)
		}
		k.steps = append(k.steps, a.Time.Format("2006-01-02 ")+a.Step+" "+a.Detector+" "+a.Subject.ID+" "+a.Reason+": "+a.Summary)
	}
	if err := k.w.write(func(key, value []byte) error { k.stored[string(key)] = value; return nil }); err != nil {
		t.Fatal(err)
	}
	k.w.written()
	if offset%5 != 0 {
		return
	}
	w := newWatching(k.cfg, policy)
	for key, value := range k.stored {
		if err := w.restore(key, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.restored(2); err != nil {
		t.Fatal(err)
	}
	for i := w.stored; i >= 0 && i <= offset; i++ {
		w.observe(int32(i%2), k.facts[i], i)
	}
	k.w = w
}

// A campaign that brings customers who do not stay is told, once, and is over with the next week that is as always; so is the total of what all spend. Whoever takes over on the way tells the same.
func TestWhatIsOpenOutlivesATakeOver(t *testing.T) {
	set, err := detectors.NewSet(detectors.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	policy := alerts.New(alerts.Config{Group: "g", Detectors: set, Currency: event.Currency{'E', 'U', 'R'}})
	cfg := cohorts.Config{FalseAlarms: 0.5, LeastMembers: 5, Totals: true, Intakes: true}
	k := &kept{cfg: cfg, w: newWatching(cfg, policy), stored: map[string][]byte{}}
	const first, poor, dear = 20_000, 300, 420
	for day := range int32(560) {
		at := first + day
		for p := range int32(2) {
			f := &cohortsTold{day: at, sizes: []sizeTold{{at, cohorts.Key{}, 50}}}
			spend := event.Money(50 * 10 * event.MoneyUnit)
			if day >= dear {
				spend /= 2
			}
			f.totals = []totalTold{{at, cohorts.Totals{spend}}}
			came := at - cohorts.IntakeDays
			for i := range int32(3) {
				active := (at+i)%4 != 0
				if cohorts.IntakeWeek(came) == cohorts.IntakeWeek(first+poor) {
					active = (at+i)%6 == 0
				}
				f.newcomers = append(f.newcomers, newcomerTold{at, cohorts.Newcomer{Week: cohorts.IntakeWeek(came), Source: "ads", Active: active}})
			}
			k.tell(t, p, f, policy)
		}
	}
	want := []string{
		"fired poor_intake source=ads : Of 42 customers from ads who came in the week from", "resolved poor_intake source=ads recovered: Of 42 customers from ads",
		"fired total_spend everybody : All 100 active customers together spent", "resolved total_spend everybody expired: All 100 active customers",
	}
	if len(k.steps) != len(want) {
		t.Fatalf("%d steps:\n%s", len(k.steps), strings.Join(k.steps, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(k.steps[i][len("2006-01-02 "):], want[i]) {
			t.Errorf("step %d is %q, want %q", i, k.steps[i], want[i])
		}
	}
	t.Log(strings.Join(k.steps, "\n"))
}
