package population

import (
	"cmp"
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ebb/state/customer"
	"ebb/stream/event"
)

const dayMs = 24 * 3_600_000

// line is an event of a history.
type line struct {
	customer int
	event    event.Event
}

// history of a population: events by time, and the names of the customers that they are numbered by.
type histories struct {
	name  string
	names []string
	lines []line
}

// load reads one of the histories that lie beside the repository.
func load(t testing.TB, name string) *histories {
	t.Helper()
	file := filepath.Join("..", "..", "..", "shared", "data", name, "events.csv.gz")
	f, err := os.Open(file)
	if err != nil {
		if os.Getenv("EBB_REQUIRE_SHARED") == "1" {
			t.Fatalf("EBB_REQUIRE_SHARED=1, but the data sets are missing: %v", err)
		}
		t.Skipf("SKIPPED: the shared data sets are not there: %v", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(z)
	r.ReuseRecord = true
	h := &histories{name: name}
	number := map[string]int{}
	for first := true; ; first = false {
		row, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if first {
			continue
		}
		c, ok := number[row[0]]
		if !ok {
			c = len(h.names)
			h.names = append(h.names, strings.Clone(row[0]))
			number[h.names[c]] = c
		}
		at, err := time.Parse(time.RFC3339, row[1])
		if err != nil {
			t.Fatal(err)
		}
		e := event.Event{Time: at.UnixMilli(), Feed: event.Usage, Kind: event.KindUsage}
		amount := 1.0
		if row[4] != "" {
			if amount, err = strconv.ParseFloat(row[4], 64); err != nil {
				t.Fatal(err)
			}
		}
		switch row[2] {
		case "payment":
			e.Feed, e.Kind, e.Amount = event.Payments, event.KindPurchase, event.Money(math.Round(amount*float64(event.MoneyUnit)))
			if strings.Contains(row[5], `"by_bank":1`) {
				e.Initiator = event.InitiatorBank
			}
			if amount <= 0 {
				e.Kind, e.Amount = event.KindInvoiceIssued, 0
			}
		case "complaint":
			e.Feed, e.Kind = event.Complaints, event.KindOpened
		default:
			e.Quantity = event.Money(math.Round(max(amount, 0) * float64(event.MoneyUnit)))
		}
		h.lines = append(h.lines, line{c, e})
	}
	slices.SortStableFunc(h.lines, func(a, b line) int { return cmp.Compare(a.event.Time, b.event.Time) })
	return h
}

func (h *histories) first() int32 { return int32(h.lines[0].event.Time / dayMs) }
func (h *histories) last() int32  { return int32(h.lines[len(h.lines)-1].event.Time / dayMs) }

// replay applies a history day by day, closes the epochs, and calls end at the end of each day with the model in force by then.
func (h *histories) replay(cfg Config, end func(day int32, m *Model, all []*customer.Record)) *Fold {
	p := customer.DefaultParams(customer.NewCalendar(nil))
	p.Horizon, p.MaxSeen = cfg.Horizon, 0
	all := make([]*customer.Record, len(h.names))
	for i, name := range h.names {
		all[i] = &customer.Record{ID: name}
	}
	fold := NewFold(cfg)
	at := 0
	for day := h.first(); day <= h.last(); day++ {
		if day == Epoch(day) {
			for _, r := range all {
				if s, ok := SampleOf(r, day); ok && fold.Model().Sampled(s.Customer) {
					fold.Observe(s)
				}
			}
			fold.Close(day)
		}
		for at < len(h.lines) && h.lines[at].event.Time < (int64(day)+1)*dayMs {
			all[h.lines[at].customer].Apply(&h.lines[at].event, &p)
			at++
		}
		end(day, fold.Model(), all)
	}
	return fold
}

// row is a decision: what was said of a customer, and what came of it.
type row struct {
	customer     int
	n            int
	score, prior float64
	stopped      bool
}

// cut is a day on which customers are ranked.
type cut struct {
	day  int32
	rows []row
	// cold: no outcome of an earlier one was known.
	cold bool
}

// buys are the days of every customer on which he did what counts.
func (h *histories) buys() [][]int32 {
	payments := 0
	for i := range h.lines {
		if h.lines[i].event.Feed == event.Payments {
			payments++
		}
	}
	days := make([][]int32, len(h.names))
	for i := range h.lines {
		l := &h.lines[i]
		if 2*payments > len(h.lines) && (l.event.Kind != event.KindPurchase || l.event.Initiator == event.InitiatorBank) {
			continue
		}
		if d := int32(l.event.Time / dayMs); len(days[l.customer]) == 0 || days[l.customer][len(days[l.customer])-1] != d {
			days[l.customer] = append(days[l.customer], d)
		}
	}
	return days
}

// rank replays a history and ranks customers on eight days, those of ../shared/eval/rank.py: who came on three days or more, the last one less than a horizon
// ago, by the chance that he does not come within the horizon. What is to be done at the end of every other day is done by also.
func (h *histories) rank(cfg Config, also func(day int32, m *Model, all []*customer.Record)) []cut {
	days := h.buys()
	first, last := h.last(), h.first()
	for _, d := range days {
		if len(d) > 0 {
			first, last = min(first, d[0]), max(last, d[len(d)-1])
		}
	}
	horizon := int32(cfg.Horizon)
	start, end := first+max(horizon, 90), last-horizon
	on := map[int32]bool{}
	for i := range int32(8) {
		on[start+int32(int64(i)*int64(end-start)/7)] = true
	}
	var cuts []cut
	h.replay(cfg, func(day int32, m *Model, all []*customer.Record) {
		also(day, m, all)
		if !on[day] {
			return
		}
		c := cut{day: day}
		stopped := 0
		for i, d := range days {
			n, _ := slices.BinarySearch(d, day+1)
			if n < 3 || day-d[n-1] >= horizon {
				continue
			}
			r := row{customer: i, n: n, stopped: n == len(d) || d[n] > day+horizon}
			if m != nil {
				s, _ := m.Score(all[i], day, 0)
				r.score, r.prior = s.PStop, s.Prior
			}
			if r.stopped {
				stopped++
			}
			c.rows = append(c.rows, r)
		}
		if len(c.rows) < 20 || stopped == 0 || stopped == len(c.rows) {
			return
		}
		c.cold = len(cuts) == 0 || cuts[0].day+horizon > day
		cuts = append(cuts, c)
	})
	return cuts
}

// quality of a ranking.
type quality struct{ base, ap, auc, ece, brier, skill float64 }

func judge(rows []row, by func(*row) float64) quality {
	var q quality
	s := slices.Clone(rows)
	slices.SortStableFunc(s, func(a, b row) int { return cmp.Compare(by(&b), by(&a)) })
	n, positives := float64(len(s)), 0.0
	for i := range s {
		if s[i].stopped {
			positives++
		}
		d := by(&s[i]) - truth(&s[i])
		q.brier += d * d / n
	}
	tp, fp, ranks := 0.0, 0.0, 0.0
	for i := 0; i < len(s); {
		j, up := i, 0.0
		for j < len(s) && by(&s[j]) == by(&s[i]) {
			up += truth(&s[j])
			j++
		}
		down := float64(j-i) - up
		ranks += down * (tp + up/2)
		tp, fp = tp+up, fp+down
		q.ap += up / positives * tp / (tp + fp)
		i = j
	}
	q.auc = ranks / (positives * (n - positives))
	q.base = positives / n
	q.skill = 1 - q.brier/(q.base*(1-q.base))
	slices.Reverse(s)
	for b := range 10 {
		sum := 0.0
		for _, r := range s[b*len(s)/10 : (b+1)*len(s)/10] {
			sum += by(&r) - truth(&r)
		}
		q.ece += math.Abs(sum) / n
	}
	return q
}

func truth(r *row) float64 {
	if r.stopped {
		return 1
	}
	return 0
}

func mean(cuts []cut, by func(*row) float64) quality {
	var all quality
	n := 0.0
	for _, c := range cuts {
		if !c.cold {
			n++
		}
	}
	for _, c := range cuts {
		if c.cold {
			continue
		}
		q := judge(c.rows, by)
		all.base += q.base / n
		all.ap += q.ap / n
		all.auc += q.auc / n
		all.ece += q.ece / n
		all.brier += q.brier / n
		all.skill += q.skill / n
	}
	return all
}

func byScore(r *row) float64 { return r.score }
func byPrior(r *row) float64 { return r.prior }

// TestRank holds the ranking against what is known of the histories: bounds a little below what is reached, for the model and for what it knows without outcomes. What
// takes long runs only if EBB_LONG is set. SCORES names a folder to write the scores to, as rank.py reads them.
func TestRank(t *testing.T) {
	for _, s := range []struct {
		name             string
		horizon          int
		ap, prior, error float64
		long             bool
	}{
		{"cdnow", 90, .620, .605, .055, false},
		{"ev_charging", 30, .600, .600, .12, false},
		{"essec_purchases", 365, .490, .460, .11, true},
	} {
		t.Run(s.name, func(t *testing.T) {
			if testing.Short() || s.long && os.Getenv("EBB_LONG") == "" {
				t.Skip("takes long: runs without -short, essec_purchases with EBB_LONG=1")
			}
			h := load(t, s.name)
			silences := &silences{h: h, days: h.buys(), horizon: int32(s.horizon)}
			cuts := h.rank(Config{Horizon: s.horizon}, silences.look)
			var pooled []row
			for _, c := range cuts {
				q := judge(c.rows, byScore)
				t.Logf("day %d, no outcome known %v: %d rows, %+.3v", c.day, c.cold, len(c.rows), q)
				if c.cold {
					continue
				}
				pooled = append(pooled, c.rows...)
				if q.ece > s.error {
					t.Errorf("day %d: calibration error %.3f, want at most %.3f", c.day, q.ece, s.error)
				}
			}
			all, prior, together := mean(cuts, byScore), mean(cuts, byPrior), judge(pooled, byScore)
			t.Logf("mean %+.4v\nwithout outcomes %+.4v\npooled %+.4v", all, prior, together)
			if all.ap < s.ap || prior.ap < s.prior {
				t.Errorf("average precision %.3f, without outcomes %.3f, want at least %.3f and %.3f", all.ap, prior.ap, s.ap, s.prior)
			}
			if s.name == "cdnow" { // of the others too few are overdue for a curve, or the looks take too long
				silences.hold(t, []point{{recall: .13, precision: .64}, {recall: .40, precision: .585}})
			}
			if dir := os.Getenv("SCORES"); dir != "" {
				write(t, filepath.Join(dir, s.name+".csv"), h, cuts)
			}
		})
	}
}

// silences are what was said of those who were overdue, looked at every week.
type silences struct {
	h       *histories
	days    [][]int32
	horizon int32
	looks   []silenceLook // by day
}

// silenceLook is what was said of a customer at the end of a day.
type silenceLook struct {
	customer  int
	last, day int32
	rank      float64
}

func (s *silences) from() int32  { return s.h.first() + 2*s.horizon }
func (s *silences) until() int32 { return s.h.last() - s.horizon }

func (s *silences) look(day int32, m *Model, all []*customer.Record) {
	if m == nil || (day-s.from())%7 != 0 || day < s.from() || day > s.until() {
		return
	}
	for i, r := range all {
		h := m.Rhythm(r)
		if h == nil {
			continue
		}
		if v := m.Judge(h, Labels{}, day, int(day)-int(h.Last)); v.Overdue {
			s.looks = append(s.looks, silenceLook{i, int32(h.Last), day, v.Rank})
		}
	}
}

// silence is one of a customer's, by the day on which it began.
type silence struct {
	customer int
	last     int32
}

// point is one of the curve of alerts.
type point struct{ recall, precision float64 }

// at is what alerts at the first look in a silence would have been at which a rank is reached, counted as ../shared/eval/online.py does: right if he does not come within the
// horizon after it; found if that was told while the silence was within the horizon, of those that can be told in all that time.
func (s *silences) at(rank float64) point {
	told := map[silence]bool{}
	right, found, all := 0, 0, 0
	for _, l := range s.looks {
		of := silence{l.customer, l.last}
		if l.rank < rank || told[of] {
			continue
		}
		told[of] = true
		if next := s.next(of); next == 0 || next > l.day+s.horizon {
			right++
		}
	}
	for c, days := range s.days {
		for i, day := range days {
			of := silence{c, day}
			if next := s.next(of); i+1 < LeastDays || day < s.from() || day > s.until()-s.horizon || next != 0 && next <= day+s.horizon {
				continue
			}
			if all++; told[of] {
				found++
			}
		}
	}
	return point{float64(found) / float64(max(all, 1)), float64(right) / float64(max(len(told), 1))}
}

// next is the first day after a silence, 0 if there is none.
func (s *silences) next(of silence) int32 {
	days := s.days[of.customer]
	if i, _ := slices.BinarySearch(days, of.last+1); i < len(days) {
		return days[i]
	}
	return 0
}

// hold fails where the precision at a recall is lower than wanted. The points are in the order of their recall.
func (s *silences) hold(t *testing.T, want []point) {
	t.Helper()
	const step = 0.05
	for rank := 2.0; rank > -2 && len(want) != 0; rank -= step {
		got := s.at(rank)
		if got.recall < want[0].recall {
			continue
		}
		t.Logf("alerts of who is overdue: precision %.3f at a recall of %.3f", got.precision, got.recall)
		if got.precision < want[0].precision {
			t.Errorf("precision %.3f at a recall of %.3f, want at least %.3f at %.2f", got.precision, got.recall, want[0].precision, want[0].recall)
		}
		want = want[1:]
	}
	if len(want) != 0 {
		t.Errorf("a recall of %.2f is not reached", want[0].recall)
	}
}

func write(t *testing.T, file string, h *histories, cuts []cut) {
	t.Helper()
	var b strings.Builder
	b.WriteString("customer_id,at,p_stop\n")
	for _, c := range cuts {
		for _, r := range c.rows {
			fmt.Fprintf(&b, "%s,%s,%.6f\n", h.names[r.customer], time.UnixMilli(int64(c.day)*dayMs).UTC().Format("2006-01-02"), r.score)
		}
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}
