package alerts_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
)

const dayMs = int64(24 * 3_600_000)

var t0 = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC).UnixMilli()

// crowd is a random history in the order of time: customers of all kinds, some of whom leave, buy less, or complain.
func crowd(seed uint64, customers, days int) []event.Event {
	rng := rand.New(rand.NewPCG(seed, 99))
	var out []event.Event
	tickets := 0
	for c := range customers {
		id := []byte(fmt.Sprintf("c-%03d", c))
		perDay := 0.05 + rng.Float64()*1.5
		leaves, stops := days, days
		switch rng.IntN(4) {
		case 0:
			leaves = rng.IntN(days)
		case 1:
			stops = rng.IntN(days)
		}
		pause := rng.IntN(days)
		for d := range days {
			if d >= leaves || d >= pause && d < pause+20 && c%5 == 0 {
				continue
			}
			for rng.Float64() < perDay/(1+perDay) {
				at := t0 + int64(d)*dayMs + rng.Int64N(dayMs)
				e := event.Event{Feed: event.Usage, Kind: event.KindUsage, Time: at, Customer: id, Quantity: event.Money(rng.IntN(90)) * 1000}
				switch k := rng.IntN(10); {
				case k < 4 && d < stops:
					e.Feed, e.Kind, e.Amount, e.Currency = event.Payments, event.KindPurchase, event.Money(500+rng.IntN(5000))*100, event.Currency{'E', 'U', 'R'}
					e.Balance, e.Balanced = event.Money(1+at%100)*100_000, c%2 == 0 // that of half of them is emptied
					if d > days/2 {
						e.Balance = 10_000
					}
				case k == 4:
					e.Feed, e.Kind, e.Amount, e.Currency = event.Payments, event.KindRefund, event.Money(rng.IntN(2000))*100, event.Currency{'E', 'U', 'R'}
				case k == 5:
					e.Feed, e.Kind, e.Attempt = event.Payments, event.KindChargeFailed, uint16(at%3)
					if at%2 == 0 {
						e.NextAttempt = at + 3*dayMs
					}
				case k == 6 && rng.IntN(3) == 0:
					tickets++
					e.Feed, e.Kind, e.ComplaintID = event.Complaints, event.KindOpened, []byte(fmt.Sprintf("T-%d", tickets))
					e.Priority = []event.Priority{event.PriorityNormal, event.PriorityHigh, event.PriorityCritical}[rng.IntN(3)]
					if rng.IntN(10) != 0 {
						end := e
						end.Kind, end.Time = event.KindResolved, at+rng.Int64N(5*dayMs)
						out = append(out, end)
					}
				}
				out = append(out, e)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b event.Event) int { return int(a.Time - b.Time) })
	for i := range out {
		out[i].IDHash = uint64(i+1) * 0x9e3779b97f4a7c15
		if i > 0 && out[i].Time <= out[i-1].Time { // no two at once: the order of those is nobody's promise
			out[i].Time = out[i-1].Time + 1
		}
	}
	return out
}

// collect makes the pipeline write every step as a line.
func collect(p *pipeline) *[]string {
	lines := &[]string{}
	p.emit = func(r *customer.Record, s *alerts.Step, alert, _ alerts.Message) {
		text := string(alert.Value)
		if i := strings.Index(text, `,"triggered_by"`); i >= 0 {
			text = text[:i]
		}
		*lines = append(*lines, fmt.Sprintf("%x/%d %s %s %s %s at %d %s %s", s.AlertID, s.Revision, r.ID, s.Kind, s.Detector, s.Subject, s.At, s.Reason, text))
	}
	return lines
}

// TestMetamorphic: the same events give the same alerts, whenever timers run, however customers are shared out, and whether
// records stay in memory or go through their stored form all the time.
func TestMetamorphic(t *testing.T) {
	rich := detectors.Defaults()
	rich.Silence.Method, rich.SpendDrop.Method = detectors.Plain, detectors.Plain
	rich.Silence.CriticalAfter, rich.Outflow.Enabled = 80*detectors.Day, true
	model := rich
	model.SpendDrop.Method, model.SpendDrop.MinHistoryDays, model.SpendDrop.FalseAlarms = detectors.Model, 30, 10
	for name, cfg := range map[string]detectors.Config{"contract": contract(), "defaults": rich, "model": model} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s %d", name, seed), func(t *testing.T) {
				events := crowd(seed, 25, 150)
				end := events[len(events)-1].Time + 30*dayMs
				result := func(play func(p *pipeline)) []string {
					p := newPipeline(t, cfg, time.UTC)
					p.known = func(at int64) (k [event.NumFeeds]int64) {
						for i := range k {
							k[i] = at
						}
						k[event.Payments] -= 26 * 3_600_000
						return k
					}
					if name == "model" {
						p.together()
					}
					lines := collect(p)
					play(p)
					p.tickAll(end)
					slices.Sort(*lines)
					return *lines
				}
				want := result(func(p *pipeline) {
					for i := range events {
						p.apply(&events[i])
					}
				})
				if len(want) < 50 {
					t.Fatalf("only %d steps: the crowd is too quiet", len(want))
				}
				if together := slices.ContainsFunc(want, func(line string) bool { return strings.Contains(line, `"together"`) }); together != (name == "model") {
					t.Fatalf("alerts that name two things: %v", together)
				}
				for how, play := range map[string]func(p *pipeline){
					"timers after every event": func(p *pipeline) {
						for i := range events {
							p.tick(events[i].Time - 1)
							p.apply(&events[i])
							p.tick(events[i].Time)
						}
					},
					"timers once a day, stored all the time": func(p *pipeline) {
						p.codec = true
						day := int64(0)
						for i := range events {
							if d := events[i].Time / dayMs; d != day {
								p.tick(d * dayMs)
								day = d
							}
							p.apply(&events[i])
						}
					},
					"customer by customer": func(p *pipeline) {
						mine := slices.Clone(events)
						slices.SortStableFunc(mine, func(a, b event.Event) int { return strings.Compare(string(a.Customer), string(b.Customer)) })
						for i := range mine {
							p.apply(&mine[i])
						}
					},
					"every event twice": func(p *pipeline) {
						for i := range events {
							p.apply(&events[i])
							if out := p.apply(&events[i]); out != customer.Duplicate {
								t.Fatal(out)
							}
						}
					},
				} {
					if got := result(play); !slices.Equal(got, want) {
						t.Errorf("%s: %d steps, want %d; %s", how, len(got), len(want), firstDifference(got, want))
					}
				}
			})
		}
	}
}

func firstDifference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return "missing " + want[i]
		case i >= len(want):
			return "extra " + got[i]
		case got[i] != want[i]:
			return "got  " + got[i] + "\nwant " + want[i]
		}
	}
	return ""
}

// TestAgainstNaive computes the alerts of the contract directly from all events of a customer, without records, windows or
// timers, and compares. It stands in for the oracle where that is not at hand.
func TestAgainstNaive(t *testing.T) {
	for seed := range uint64(6) {
		events := crowd(seed+100, 40, 120)
		end := events[len(events)-1].Time
		var got []string
		p := newPipeline(t, contract(), time.UTC)
		p.emit = func(r *customer.Record, s *alerts.Step, _, _ alerts.Message) {
			got = append(got, fmt.Sprint(s.At, r.ID, s.Detector, s.Kind, s.Subject))
		}
		of := map[string][]event.Event{}
		for i := range events {
			p.apply(&events[i])
			of[string(events[i].Customer)] = append(of[string(events[i].Customer)], events[i])
		}
		p.tickAll(end)
		var want []string
		for id, list := range of {
			want = append(want, naive(id, list, end)...)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: %d steps, want %d; %s", seed, len(got), len(want), firstDifference(got, want))
		}
	}
}

// naive is the contract, word for word.
func naive(id string, events []event.Event, end int64) (out []string) {
	say := func(at int64, detector string, kind alerts.StepKind, subject string) {
		out = append(out, fmt.Sprint(at, id, detector, kind, subject))
	}
	first := events[0].Time / dayMs
	last, firing := int64(0), false
	spend := map[int64]event.Money{}
	sum := func(from, to int64) (s event.Money) {
		for d := from; d <= to; d++ {
			s += spend[d]
		}
		return s
	}
	opened, closed, critical := map[string]int64{}, map[string]int64{}, map[string]bool{}
	silent := func(until int64, back bool) {
		if last == 0 || until < last+14*dayMs {
			return
		}
		say(last+14*dayMs, detectors.SilenceName, alerts.StepFired, "")
		if back {
			say(until, detectors.SilenceName, alerts.StepResolved, "")
		}
	}
	for _, e := range events {
		switch k := string(e.ComplaintID); e.Kind {
		case event.KindOpened:
			opened[k], critical[k] = e.Time, e.Priority == event.PriorityCritical
		case event.KindResolved:
			closed[k] = e.Time
		}
		if e.Kind != event.KindUsage && e.Kind != event.KindPurchase && e.Kind != event.KindRefund {
			continue
		}
		silent(e.Time, true)
		last = e.Time
		d := e.Time / dayMs
		switch e.Kind {
		case event.KindPurchase:
			spend[d] += e.Amount
		case event.KindRefund:
			spend[d] -= e.Amount
		}
		recent, base := sum(d-7, d-1), sum(d-35, d-8)
		switch {
		case !firing && d-first >= 28 && base >= 4*10*event.MoneyUnit && recent*8 < base:
			firing = true
			say(e.Time, detectors.SpendDropName, alerts.StepFired, "")
		case firing && recent*40 >= 7*base:
			firing = false
			say(e.Time, detectors.SpendDropName, alerts.StepResolved, "")
		}
	}
	silent(end, false)
	for k, at := range opened {
		if !critical[k] {
			at += 2 * dayMs
		}
		stop, is := closed[k]
		if at > end || is && at > stop {
			continue
		}
		say(at, detectors.ComplaintUnresolvedName, alerts.StepFired, k)
		if is {
			say(stop, detectors.ComplaintUnresolvedName, alerts.StepResolved, k)
		}
	}
	return out
}

// TestLateEventsKeepLifecyclesWhole: with events in any order, every alert still begins with fired of revision 1, ends with
// resolved, and has revisions without gaps; steps never go back behind the firing; records stay within their bound.
func TestLateEventsKeepLifecyclesWhole(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 5))
		events := crowd(seed+200, 20, 150)
		for range 2000 { // some come up to ten days late
			i := rng.IntN(len(events))
			j := min(i+rng.IntN(200), len(events)-1)
			e := events[i]
			copy(events[i:j], events[i+1:j+1])
			events[j] = e
		}
		cfg := detectors.Defaults()
		cfg.Silence.Method, cfg.SpendDrop.Method = detectors.Plain, detectors.Plain
		cfg.Silence.CriticalAfter = 80 * detectors.Day
		together := seed%2 == 1
		if together {
			cfg.SpendDrop.Method, cfg.SpendDrop.MinHistoryDays, cfg.SpendDrop.FalseAlarms = detectors.Model, 30, 10
		}
		p := newPipeline(t, cfg, time.UTC)
		p.outOfOrder = 600_000
		p.codec = true
		guests := 0
		if together {
			p.together()
			p.checks = func(r *customer.Record) {
				for i := range r.Lifecycles {
					l := &r.Lifecycles[i]
					if l.Unpublished != l.Guest() || l.Guest() && r.Host(i) < 0 {
						t.Errorf("%s: %s of %s is told by nobody", r.ID, l.Detector, l.Subject)
					}
					if l.Guest() {
						guests++
					}
				}
			}
		}
		open, ids, corrected := map[[16]byte]uint32{}, map[[16]byte]bool{}, 0
		p.emit = func(r *customer.Record, s *alerts.Step, _, _ alerts.Message) {
			rev, is := open[s.AlertID]
			if is == (s.Kind == alerts.StepFired) || s.Revision != rev+1 || s.At < s.FiredAt || s.Since > s.FiredAt {
				t.Errorf("%s: %s revision %d at %d after %d (fired at %d, since %d)", r.ID, s.Kind, s.Revision, s.At, rev, s.FiredAt, s.Since)
			}
			if s.Kind == alerts.StepFired && ids[s.AlertID] {
				t.Errorf("%s: the id of %s was given before", r.ID, s.Detector)
			}
			ids[s.AlertID], open[s.AlertID] = true, s.Revision
			if s.Reason == detectors.CorrectedByLateData {
				corrected++
			}
			if s.Kind == alerts.StepResolved {
				delete(open, s.AlertID)
			}
		}
		now := int64(0)
		for i := range events {
			now = max(now, events[i].Time)
			p.apply(&events[i])
			if i%20 == 0 {
				p.tickAll(now)
			}
		}
		p.tickAll(now + 900*dayMs)
		if corrected == 0 {
			t.Error("no alert was corrected by late data")
		}
		if together != (guests != 0) {
			t.Errorf("%d times an alert was told within another", guests)
		}
		if len(open) != 0 {
			t.Errorf("%d alerts are open after 900 days", len(open))
		}
		if n := len(p.customers); n != 0 {
			t.Errorf("%d customers are not forgotten after 900 days", n)
		}
	}
}
