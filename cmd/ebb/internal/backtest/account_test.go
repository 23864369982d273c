package backtest

import (
	"testing"

	"ebb/detectors"
	"ebb/stream/event"
)

// weekly are balances of a customer, one on the Monday of each week from day 4 on.
type weekly struct {
	customer string
	amounts  []int64
}

func accountsOf(t *testing.T, list ...weekly) *scorer {
	t.Helper()
	h := &History{Types: map[string]int{}, Truth: newTruth(detectors.MustRates("EUR", nil)), From: 4 * dayMs}
	for _, c := range list {
		for i := range c.amounts { // the newest first: the order of the rows does not matter
			week := len(c.amounts) - 1 - i
			at := int64(4+7*week)*dayMs + 3
			h.To = max(h.To, at)
			h.Events++
			h.ByFeed[event.Payments]++
			h.Truth.observe(&event.Event{
				Feed: event.Payments, Kind: event.KindBalance, Customer: []byte(c.customer), Time: at, Currency: event.Currency{'E', 'U', 'R'},
				Balance: event.Money(c.amounts[week]) * event.MoneyUnit, Balanced: true,
			})
		}
	}
	h.Truth.close(h)
	s := newScorer(h, testHorizon, 100*event.MoneyUnit)
	s.from = 0
	return s
}

// held is a balance for a number of weeks, and then others.
func held(amount int64, weeks int, then ...int64) (all []int64) {
	for range weeks {
		all = append(all, amount)
	}
	return append(all, then...)
}

func TestAccountsThatRanDown(t *testing.T) {
	low := held(5, 6)
	s := accountsOf(
		t,
		weekly{"stays", held(1000, 30)},
		weekly{"runs down at once", append(held(1000, 20), held(5, 10)...)},
		weekly{"runs down by and by", append(held(1000, 20, 800, 600, 400, 200), low...)},
		weekly{"is low for four weeks", append(held(1000, 20, 5, 5, 5, 5), held(900, 6)...)},
		weekly{"keeps a fifth", append(held(1000, 20), held(200, 10)...)},
		weekly{"is too small", append(held(80, 20), held(1, 10)...)},
		weekly{"is too new", append(held(1000, 7), held(5, 23)...)},
		weekly{"overdraws", append(held(1000, 20), held(-400, 10)...)},
	)
	want := map[string]int32{"runs down at once": 4 + 7*20, "runs down by and by": 4 + 7*24, "overdraws": 4 + 7*20}
	if len(s.drains) != len(want) || s.t.Accounts != 8 {
		t.Errorf("%d accounts of %d, want %d of 8", len(s.drains), s.t.Accounts, len(want))
	}
	for i := range s.drains {
		if d := &s.drains[i]; want[d.p.id] != dayOf(d.from) {
			t.Errorf("%s: from day %d, want %d", d.p.id, dayOf(d.from), want[d.p.id])
		}
	}
}

func TestOutflowAlertsAreJudged(t *testing.T) {
	list := []weekly{
		{"gone", append(held(1000, 20), held(5, 10)...)},
		{"back", append(held(1000, 20, 5, 5, 5, 5, 5), held(500, 5)...)},
		{"half", append(held(1000, 20, 5, 5, 5, 5, 5), held(499, 5)...)},
	}
	const day = 4 + 7*21
	for name, c := range map[string]struct {
		customer                       string
		day, resolved                  int32
		right, wrong, undecided, found int
	}{
		"stayed low":                          {"gone", day, 0, 1, 0, 0, 1},
		"before it was empty":                 {"gone", day - 14, 0, 1, 0, 0, 1},
		"before it was empty, but over":       {"gone", day - 14, day - 10, 1, 0, 0, 0},
		"too late":                            {"gone", day + 25, 0, 1, 0, 0, 0},
		"half of it is back":                  {"back", day + 7, 0, 0, 1, 0, 1},
		"less than half of it is back":        {"half", day + 7, 0, 1, 0, 0, 1},
		"the horizon ends behind the history": {"gone", day + 50, 0, 0, 0, 1, 0},
	} {
		s := accountsOf(t, list...)
		a := fires(c.customer, detectors.OutflowName, c.day)
		a.Expected, a.ResolvedAt = 1000*event.MoneyUnit, int64(c.resolved)*dayMs
		a.At = min(a.At, s.h.To)
		r := s.detector(detectors.OutflowName, []*Alert{a})
		if *r.Right != c.right || *r.Wrong != c.wrong || *r.Undecided != c.undecided || *r.Found != c.found || r.FewDays != 0 {
			t.Errorf("%s: right %d, wrong %d, undecided %d, found %d; want %+v", name, *r.Right, *r.Wrong, *r.Undecided, *r.Found, c)
		}
	}
}

// The account of somebody who says that he leaves is not missed, and an alert about it is right whatever became of the balance.
func TestAnAccountThatIsClosedWasStated(t *testing.T) {
	s := accountsOf(t, weekly{"a", append(held(1000, 20), held(5, 10)...)}, weekly{"b", held(1000, 30)})
	for _, p := range s.t.list {
		p.cancelled = []int64{(4 + 7*22) * dayMs}
	}
	s.drains = nil
	s.findDrains(0)
	b := fires("b", detectors.OutflowName, 4+7*21)
	b.Expected = 1000 * event.MoneyUnit
	r := s.detector(detectors.OutflowName, []*Alert{b})
	if *r.Right != 1 || *r.Lapses != 0 || len(s.drains) != 1 || s.outflows(&Outcome{}).Stated != 1 {
		t.Errorf("%+v, %+v", r.Score, s.drains)
	}
}

// At a fall one alert stands until half of what was usual is back, and a deeper fall raises no more of them.
func TestAlertsAtOtherFalls(t *testing.T) {
	s := accountsOf(t, weekly{"a", append(held(1000, 20, 300, 50, 50, 600, 50, 50), held(50, 4)...)})
	var looks []fall
	for i, percent := range []float64{70, 95, 95, 60, 95, 95} {
		looks = append(looks, fall{day: int32(4 + 7*(20+i) + 1), percent: percent, usual: 1000 * event.MoneyUnit})
	}
	for percent, want := range map[int]int{50: 2, 70: 2, 80: 2, 96: 0} {
		if got := s.alertsAt(percent, looks); len(got) != want {
			t.Errorf("at %d %%: %d alerts, want %d", percent, len(got), want)
		}
	}
	if r := s.outflows(&Outcome{falls: looks}); len(r.Thresholds) != len(fallPercents) || r.RanDown != 1 {
		t.Errorf("%+v", r)
	}
}
