package stream_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// The naive reference: what the alerts of the contract are, computed from all events of a customer at once with plain
// lists, no windows, no timers, no code of the product.

const dayMs = int64(86_400_000)

// happening is one event of the test crowd.
type happening struct {
	feed     string // usage, payments, complaints
	customer string
	at       int64
	kind     string
	cents    int64
	id       string
	ticket   string
	priority string
}

func (h happening) json() []byte {
	at := time.UnixMilli(h.at).UTC().Format("2006-01-02T15:04:05.000Z")
	head := fmt.Sprintf(`{"id":%q,"customer_id":%q,"time":%q,"type":%q`, h.id, h.customer, at, h.kind)
	switch h.feed {
	case "usage":
		return []byte(head + `,"quantity":12.5,"unit":"minutes"}`)
	case "payments":
		return []byte(head + fmt.Sprintf(`,"amount":%d.%02d,"currency":"EUR"}`, h.cents/100, h.cents%100))
	default:
		return []byte(head + fmt.Sprintf(`,"complaint_id":%q,"priority":%q,"subject":"late"}`, h.ticket, h.priority))
	}
}

// crowd makes the history of n customers over days from start, in the order of time. It is deterministic.
func crowd(seed uint64, n, days int, start time.Time) []happening {
	rng := rand.New(rand.NewPCG(seed, 1))
	var all []happening
	for c := range n {
		all = append(all, life(rng, fmt.Sprintf("c-%03d", c), days, start.UnixMilli())...)
	}
	slices.SortStableFunc(all, func(a, b happening) int { return int(min(max(a.at-b.at, -1), 1)) })
	for i := range all {
		all[i].id = fmt.Sprintf("%c-%d", all[i].feed[0], i)
	}
	return all
}

func life(rng *rand.Rand, id string, days int, start int64) []happening {
	quits, stopsPaying := days, days
	switch rng.IntN(4) {
	case 0:
		quits = 15 + rng.IntN(days-15)
	case 1:
		stopsPaying = 35 + rng.IntN(days-35)
	}
	rate := 0.15 + rng.Float64()
	amount := int64(500 + rng.IntN(6000))
	var h []happening
	for d := range min(quits, days) {
		at := func() int64 { return start + int64(d)*dayMs + rng.Int64N(dayMs) }
		if rng.Float64() < rate {
			h = append(h, happening{feed: "usage", customer: id, at: at(), kind: "session"})
		}
		if rng.Float64() < rate/2 && d < stopsPaying {
			kind := "purchase"
			if p := rng.IntN(20); p == 0 {
				kind = "refund"
			} else if p == 1 {
				kind = "charge_failed"
			}
			h = append(h, happening{feed: "payments", customer: id, at: at(), kind: kind, cents: amount/2 + rng.Int64N(amount)})
		}
		if rng.IntN(40) == 0 {
			ticket := fmt.Sprintf("T-%s-%d", id, d)
			prio := []string{"normal", "high", "critical"}[rng.IntN(3)]
			opened := at()
			h = append(h, happening{feed: "complaints", customer: id, at: opened, kind: "opened", ticket: ticket, priority: prio})
			if wait := rng.Int64N(4 * dayMs); rng.IntN(10) > 0 && opened+wait < start+int64(days)*dayMs {
				h = append(h, happening{feed: "complaints", customer: id, at: opened + wait, kind: "resolved", ticket: ticket, priority: prio})
			}
		}
	}
	return h
}

// step is an alert step in the words of the contract.
type step struct {
	at                                  int64
	customer, detector, status, subject string
}

func (s step) String() string {
	return strings.Join([]string{time.UnixMilli(s.at).UTC().Format(time.RFC3339), s.customer, s.detector, s.status, s.subject}, " ")
}

// reference computes the steps up to and including the time until.
func reference(events []happening, until int64) []step {
	by := map[string][]happening{}
	for _, e := range events {
		by[e.customer] = append(by[e.customer], e)
	}
	var out []step
	for id, evs := range by {
		out = append(out, silences(id, evs, until)...)
		out = append(out, drops(id, evs)...)
		out = append(out, unresolved(id, evs, until)...)
	}
	out = slices.DeleteFunc(out, func(s step) bool { return s.at > until })
	slices.SortFunc(out, func(a, b step) int { return strings.Compare(a.String(), b.String()) })
	return out
}

func isActivity(e happening) bool { return e.feed != "complaints" && e.kind != "charge_failed" }

func silences(id string, evs []happening, until int64) []step {
	var out []step
	var last int64
	limit := 14 * dayMs
	for _, e := range evs {
		if !isActivity(e) {
			continue
		}
		if last != 0 && e.at >= last+limit {
			out = append(out, step{last + limit, id, "silence", "firing", ""}, step{e.at, id, "silence", "resolved", ""})
		}
		last = e.at
	}
	if last != 0 && until >= last+limit {
		out = append(out, step{last + limit, id, "silence", "firing", ""})
	}
	return out
}

func drops(id string, evs []happening) []step {
	var out []step
	spend := map[int64]int64{}
	first := evs[0].at / dayMs
	firing := false
	for _, e := range evs {
		if !isActivity(e) {
			continue
		}
		d := e.at / dayMs
		switch e.kind {
		case "purchase":
			spend[d] += e.cents
		case "refund":
			spend[d] -= e.cents
		}
		var recent, base int64
		for k := int64(1); k <= 7; k++ {
			recent += spend[d-k]
		}
		for k := int64(8); k <= 35; k++ {
			base += spend[d-k]
		}
		if !firing && d-first >= 28 && base >= 4000 && recent*8 < base {
			firing = true
			out = append(out, step{e.at, id, "spend_drop", "firing", ""})
		} else if firing && recent*40 >= 7*base {
			firing = false
			out = append(out, step{e.at, id, "spend_drop", "resolved", ""})
		}
	}
	return out
}

func unresolved(id string, evs []happening, until int64) []step {
	var out []step
	for _, e := range evs {
		if e.kind != "opened" {
			continue
		}
		due := e.at + 2*dayMs
		if e.priority == "critical" {
			due = e.at
		}
		end := int64(-1)
		for _, r := range evs {
			if r.kind == "resolved" && r.ticket == e.ticket {
				end = r.at
			}
		}
		switch {
		case end >= 0 && due <= end:
			out = append(out, step{due, id, "complaint_unresolved", "firing", e.ticket}, step{end, id, "complaint_unresolved", "resolved", e.ticket})
		case end < 0 && due <= until:
			out = append(out, step{due, id, "complaint_unresolved", "firing", e.ticket})
		}
	}
	return out
}
