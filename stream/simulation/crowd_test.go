package simulation

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"ebb/stream/partition"
)

// item is a record of a feed and the event time at which it is written.
type item struct {
	due   int64
	feed  string
	part  int32
	key   []byte
	value []byte
}

// happening is one event of a customer.
type happening struct {
	feed     string
	customer string
	at       int64
	kind     string
	cents    int64
	ticket   string
	priority string
	delay    int64 // ms by which it is written later than it happened, so that nobody may notice
}

func (h *happening) json(id string) []byte {
	head := fmt.Sprintf(`{"id":%q,"customer_id":%q,"time":%q,"type":%q`, id, h.customer, time.UnixMilli(h.at).UTC().Format("2006-01-02T15:04:05.000Z"), h.kind)
	switch h.feed {
	case "usage":
		return []byte(head + fmt.Sprintf(`,"quantity":%d.%02d,"unit":"minutes"}`, h.cents/100, h.cents%100))
	case "payments":
		return []byte(head + fmt.Sprintf(`,"amount":%d.%02d,"currency":"EUR"}`, h.cents/100, h.cents%100))
	default:
		return []byte(head + fmt.Sprintf(`,"complaint_id":%q,"priority":%q}`, h.ticket, h.priority))
	}
}

// crowd is everything that is written to the feeds, in the order of its writing, from start to end.
func (p *plan) crowd(start, end int64, count func(fault)) []item {
	rng := rand.New(rand.NewPCG(p.seed, 2))
	var all []happening
	for c := range p.customers {
		all = append(all, p.life(rng, fmt.Sprintf("c-%02d", c), start, end)...)
	}
	origin := end - p.lived()
	all = slices.DeleteFunc(all, func(h happening) bool { return h.at > origin-p.lull && h.at <= origin })
	slices.SortStableFunc(all, func(a, b happening) int { return cmp.Compare(a.at, b.at) })
	var items []item
	for i := range all {
		items = append(items, p.items(rng, &all[i], fmt.Sprintf("%c-%d", all[i].feed[0], i), end, count)...)
	}
	slices.SortStableFunc(items, func(a, b item) int { return cmp.Compare(a.due, b.due) })
	return items
}

// items are the records of an event: usually one.
func (p *plan) items(rng *rand.Rand, h *happening, id string, end int64, count func(fault)) []item {
	it := item{due: h.at, feed: h.feed, part: partition.Murmur2([]byte(h.customer), p.parts), key: []byte(h.customer), value: h.json(id)}
	if rng.Float64() < p.late {
		late := p.rules.silence / 2
		if p.mixed() != 0 && rng.IntN(2) == 0 {
			late = p.mixed()
		}
		it.due = min(h.at+1+rng.Int64N(late), end)
		count(belated)
	}
	switch {
	case it.due != h.at:
	case h.delay != 0:
		it.due = min(h.at+h.delay, end)
		count(belated)
	case p.mingled != 0 && rng.Float64() < p.mingled: // nobody may notice
		it.due = min(h.at+1+rng.Int64N(p.mixed()-1), end)
		count(belated)
	}
	if rng.Float64() < p.astray {
		it.part = rng.Int32N(p.parts)
		count(misplaced)
	}
	out := []item{it}
	if rng.Float64() < p.dups && it.due == h.at { // who is told late and again may be told after his id is forgotten
		again := it
		again.due += rng.Int64N(40 * hourMs)
		if again.due <= end {
			out = append(out, again)
			count(duplicated)
		}
	}
	if rng.Float64() < p.bad {
		out = append(out, p.spoilt(rng, it))
		count(unreadable)
	}
	return out
}

// spoilt is a record that cannot be used.
func (p *plan) spoilt(rng *rand.Rand, it item) item {
	it.due++
	it.part = partition.Murmur2(it.key, p.parts)
	switch rng.IntN(5) {
	case 0:
		it.key, it.value, it.part = nil, []byte(`{"id":"x",`), rng.Int32N(p.parts)
	case 1:
		it.key, it.value, it.part = nil, nil, rng.Int32N(p.parts)
	case 2: // of a customer of whom nothing is known
		it.key, it.value = []byte("ghost"), []byte(`not JSON`)
		it.part = partition.Murmur2(it.key, p.parts)
	case 3: // this one hides something of a customer
		it.value = []byte(strings.Replace(string(it.value), `"time":"2`, `"time":"yesterday 2`, 1))
	default:
		it.value = it.value[:len(it.value)-1]
	}
	return it
}

// life is what one customer does. No two of his events have the same time.
func (p *plan) life(rng *rand.Rand, id string, start, end int64) []happening {
	r := &p.rules
	mean := float64(r.silence) * (0.16 + 0.2*rng.Float64())
	quits, stopsPaying := end, end
	switch rng.IntN(4) {
	case 0:
		quits = start + rng.Int64N(end-start)
	case 1:
		stopsPaying = start + (end-start)/2 + rng.Int64N((end-start)/2)
	}
	amount := int64(800 + rng.IntN(6000))
	used := map[int64]bool{}
	unique := func(at int64) int64 {
		for used[at] {
			at++
		}
		used[at] = true
		return at
	}
	live := end - p.lived()
	brink, apart := int64(0), int64(0) // after an event at this time the silence is due while faults happen, and ends so long after that event
	if p.edgy {
		apart = r.silence
		if p.mixed() != 0 && rng.IntN(2) == 0 { // it is told before it ends
			apart += p.mixed() + rng.Int64N(2*p.mixed())
		}
		if brink = live + rng.Int64N(end-live) - apart; p.coda > 0 && rng.IntN(2) == 0 {
			brink = end - rng.Int64N(p.coda.Milliseconds()*p.scale/2) - apart
		}
	}
	delay := int64(0)
	var h []happening
	for at := start + rng.Int64N(2*int64(mean)); at < min(quits, end); {
		e := happening{feed: "usage", customer: id, at: unique(at), kind: "session", cents: rng.Int64N(10000), delay: delay}
		delay = 0
		if roll := rng.IntN(100); roll < 40 && at < stopsPaying {
			e.feed, e.kind, e.cents = "payments", "purchase", amount/2+rng.Int64N(amount)
			switch {
			case roll < 3:
				e.kind = "charge_failed"
			case roll < 6:
				e.kind = "refund"
			}
		}
		h = append(h, e)
		if rng.IntN(12) == 0 {
			h = append(h, p.complaint(rng, id, fmt.Sprintf("T-%s-%d", id, len(h)), unique, at, end)...)
		}
		gap := rng.ExpFloat64() * mean
		if rng.IntN(14) == 0 { // gone for good, it seems
			gap = float64(r.silence) * (1 + 0.6*rng.Float64())
		}
		if p.edgy && rng.IntN(5) == 0 { // the silence was just due, or would have been
			gap = float64(r.silence + p.beside(rng))
		}
		switch next := at + 1 + int64(gap); {
		case at == brink:
			near := p.scale * pick[int64](rng, 2000, 10_000)
			at += apart + rng.Int64N(2*near) - near
			if p.mingled != 0 && rng.IntN(2) == 0 {
				delay = 1 + rng.Int64N(p.mixed()-1)
			}
		case at < brink && next > brink:
			at = brink
		default:
			at = next
		}
	}
	return h
}

// beside is a little before or after a deadline, ms.
func (p *plan) beside(rng *rand.Rand) int64 {
	return pick(rng, 1, max(p.mixed(), 1000)) * (rng.Int64N(4001) - 2000) / 1000
}

func (p *plan) complaint(rng *rand.Rand, id, ticket string, unique func(int64) int64, at, end int64) []happening {
	prio := pick(rng, "normal", "high", "critical")
	opened := unique(at + 1 + rng.Int64N(p.rules.complaint))
	if opened >= end {
		return nil
	}
	h := []happening{{feed: "complaints", customer: id, at: opened, kind: "opened", ticket: ticket, priority: prio}}
	after := 1 + rng.Int64N(2*p.rules.complaint)
	if p.edgy && rng.IntN(2) == 0 {
		after = p.rules.complaint + p.beside(rng)
	}
	if resolved := unique(opened + after); rng.IntN(8) > 0 && resolved < end {
		h = append(h, happening{feed: "complaints", customer: id, at: resolved, kind: "resolved", ticket: ticket, priority: prio})
	}
	return h
}
