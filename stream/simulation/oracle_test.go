package simulation

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"ebb/stream/partition"
)

// The oracle: what must exist, computed from what lies in the feeds, with plain lists and no code of ebb.

// fact is one event as the oracle reads it.
type fact struct {
	feed, customer, id, kind string
	at                       int64
	amount                   int64 // in 1/10000
	ticket, priority         string
	offset                   int64
}

func (f *fact) activity() bool { return f.feed != "complaints" && f.kind != "charge_failed" }

// person is a customer and all that happened to him, in the order of time.
type person struct {
	id    string
	facts []fact
	// murky: records of his could not be read, or came late. When he is alerted depends on when it is noticed; that each of his
	// events counts once does not.
	murky bool
	// gone: he is forgotten by the end; perhaps: he may be. What was before he was forgotten are earlier lives.
	gone, perhaps bool
	earlier       []*person
}

// letter is a record that cannot be used.
type letter struct {
	topic  string
	part   int32
	offset int64
	record *kgo.Record
}

// truth is what the feeds say.
type truth struct {
	mixed   int64 // how far records may be out of order without an alert changing, ms
	people  map[string]*person
	letters []letter
	seen    map[string]bool // customer and id of what was read
}

// read takes in one feed's partition, in the order of its offsets.
func (tr *truth) read(feed string, records []*kgo.Record) {
	for _, r := range records {
		f, who, ok := parse(feed, r)
		if !ok {
			tr.letters = append(tr.letters, letter{feed, r.Partition, r.Offset, r})
			if p := tr.people[who]; p != nil {
				p.murky = true
			}
			continue
		}
		if tr.seen[f.customer+"/"+f.id] { // told again
			continue
		}
		tr.seen[f.customer+"/"+f.id] = true
		p := tr.people[f.customer]
		if p == nil {
			p = &person{id: f.customer}
			tr.people[f.customer] = p
		}
		p.murky = p.murky || r.Timestamp.UnixMilli() > f.at+tr.mixed
		p.facts = append(p.facts, f)
	}
}

func (tr *truth) sort() {
	for _, p := range tr.people {
		slices.SortFunc(p.facts, func(a, b fact) int {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(slices.Index(feeds, a.feed), slices.Index(feeds, b.feed)), cmp.Compare(a.offset, b.offset))
		})
	}
}

// parse reads a record, or says whom it hides something of.
func parse(feed string, r *kgo.Record) (f fact, who string, ok bool) {
	var x struct {
		ID        string
		Customer  string `json:"customer_id"`
		Time      string
		Type      string
		Quantity  json.Number
		Amount    json.Number
		Complaint string `json:"complaint_id"`
		Priority  string
	}
	who = string(r.Key)
	if err := json.Unmarshal(r.Value, &x); err != nil {
		return fact{}, who, false
	}
	at, err := time.Parse(time.RFC3339Nano, x.Time)
	if err != nil || x.Customer == "" {
		return fact{}, who, false
	}
	f = fact{feed: feed, customer: x.Customer, id: x.ID, kind: x.Type, at: at.UnixMilli(), ticket: x.Complaint, priority: x.Priority, offset: r.Offset}
	if n := cmp.Or(x.Quantity, x.Amount); n != "" {
		v, good := new(big.Rat).SetString(n.String())
		if !good {
			return fact{}, who, false
		}
		f.amount = v.Mul(v, big.NewRat(10000, 1)).Num().Int64()
	}
	return f, who, true
}

// step is an alert step in the words of the contract.
type step struct {
	at                                int64
	customer, detector, kind, subject string
}

func (s step) String() string {
	return strings.Join([]string{time.UnixMilli(s.at).UTC().Format("2006-01-02T15:04:05.000"), s.customer, s.detector, s.kind, s.subject}, " ")
}

// episode is the life of an alert.
type episode struct {
	customer, detector, subject string
	opened                      int64 // of a complaint
	fired, changed, resolved    int64 // 0: not
	// maybe: told or not, but as a whole. It ended so soon after it was due that it depends on what was read first.
	maybe bool
	// Its steps may lie this much later, because it depends on what was read first which event made them.
	slack int64
	// It may as well have been resolved at one of these times, or so much later.
	instead []int64
	late    int64
}

// steps are the steps of an episode, in their order.
func (e *episode) steps() []step {
	out := []step{{e.fired, e.customer, e.detector, "fired", e.subject}}
	if e.changed != 0 {
		out = append(out, step{e.changed, e.customer, e.detector, "changed", e.subject})
	}
	if e.resolved != 0 {
		out = append(out, step{e.resolved, e.customer, e.detector, "resolved", e.subject})
	}
	return out
}

// frame is what the oracle has to know of a run besides the feeds.
type frame struct {
	rules  *rules
	origin int64 // up to here everything was in the feeds from the start
	blur   int64 // how far one feed may have been read ahead of another after that
	mixed  int64 // how far records may be out of order
	until  int64 // what was due later is not asked for
	// spoke is when the quiet history of a partition ended, in event time; nil: there was none.
	spoke map[int32]int64
	parts int32
	// forwards: what lies in the wrong partition is forwarded.
	forwards bool
}

// unsure is how far apart two times must lie for their order to be certain.
func (f *frame) unsure(at int64) int64 {
	if at > f.origin-f.blur {
		return f.blur + f.mixed
	}
	return f.mixed
}

// lives divides what a customer did by the times at which he was forgotten in between. Of the last life it says whether it is over.
func (p *person) lives(f *frame, stopped int64) {
	rest := p.facts
	for i := 1; i <= len(rest); i++ {
		life := person{id: p.id, facts: rest[:i]}
		next := stopped
		if i < len(rest) {
			next = rest[i].at
		}
		end, sure := life.end(f, next)
		switch {
		case end > next:
		case i < len(rest) && (!sure || next-end < f.unsure(next)):
			p.murky, p.perhaps = true, true // back at the moment at which he was forgotten, or perhaps after it
		case i < len(rest):
			p.earlier = append(p.earlier, &life)
			rest, i = rest[i:], 0
		case sure && end <= f.until:
			p.gone = true
		default:
			p.perhaps = true
		}
	}
	p.facts = rest
}

// end is when a customer is forgotten who does nothing more, if that is before a time. It is not sure if a drop in spending was open when it became unsure which there are: it may keep
// him, or be over.
func (p *person) end(f *frame, before int64) (at int64, sure bool) {
	latest := int64(0)
	for i := range p.facts {
		latest = max(latest, p.facts[i].at)
	}
	end := latest + f.rules.forget
	if end > before {
		return end, true
	}
	whole := *f
	whole.until = before
	all, unsure := p.of(&whole)
	all, _ = p.hushed(&whole, all, math.MaxInt64) // what was no news at the end of a quiet history keeps nobody
	sure = true
	for _, e := range all {
		switch {
		case e.resolved != 0:
			end = max(end, e.resolved)
		case e.detector == "spend_drop" && unsure != math.MaxInt64:
			sure = false
		default: // an open alert keeps him
			return math.MaxInt64, true
		}
	}
	return end, sure
}

// episodes are all alerts of a customer. Of drops in spending they hold those up to the second result: what comes later depends on
// which feed was read first.
func (p *person) episodes(f *frame) (all []episode, unsure int64) {
	unsure = math.MaxInt64
	for _, life := range append(p.earlier, p) {
		some, doubt := life.of(f)
		if all = append(all, some...); doubt != math.MaxInt64 {
			unsure = min(unsure, doubt)
		}
	}
	return p.hushed(f, all, unsure)
}

// of are the alerts of one life.
func (p *person) of(f *frame) (all []episode, unsure int64) {
	all = slices.Concat(p.silences(f), p.unresolved(f))
	for i := range all {
		e := &all[i]
		e.maybe = e.resolved != 0 && e.resolved-e.fired < f.unsure(e.fired)
	}
	drops, unsure := p.drops(f)
	return append(all, drops...), unsure
}

// hushed leaves out what a quiet history keeps back: what was over before it ended, and what was no news any more.
func (p *person) hushed(f *frame, all []episode, unsure int64) ([]episode, int64) {
	if f.spoke == nil {
		return all, unsure
	}
	end := f.spoke[partition.Murmur2([]byte(p.id), f.parts)]
	seen := int64(0)
	for i := range p.facts {
		if x := &p.facts[i]; x.activity() && x.at <= end {
			seen = max(seen, x.at)
		}
	}
	near := func(at int64) bool { return at != 0 && max(at-end, end-at) <= f.blur+f.mixed }
	out := all[:0]
	for _, e := range all {
		news := seen
		if e.subject != "" {
			news = e.opened
		}
		switch {
		case near(e.fired), near(e.resolved), near(e.changed):
			if e.detector == "spend_drop" {
				unsure = min(unsure, e.fired)
			}
			e.maybe = true
		case e.fired > end:
		case e.resolved == 0 && end > f.until: // it may have been given up after what is asked for, and before the history ended
			e.maybe = true
		case e.resolved != 0 && e.resolved < end:
			continue
		case e.detector == "spend_drop" && e.resolved == 0 && unsure <= end+f.blur: // it may have been over by then
			e.maybe = true
			if e.changed < end {
				e.changed = 0
			}
		case end-news > maxAlertAge:
			if e.detector == "spend_drop" { // what he does next is judged as if nothing had been
				unsure = min(unsure, end)
			}
			continue
		case e.changed != 0 && e.changed < end:
			e.changed = 0
		}
		out = append(out, e)
	}
	return slices.DeleteFunc(out, func(e episode) bool { return e.detector == "spend_drop" && e.fired >= unsure }), unsure
}

// maxAlertAge is how old what began in a quiet history may be to be told, ms.
const maxAlertAge = 30 * dayMs

func (p *person) silences(f *frame) []episode {
	var out []episode
	var last int64
	ahead := f.mixed
	if f.forwards { // a live record does not wait for what others forward, which comes late where one of them is held up
		ahead = dayMs
	}
	for i := range p.facts {
		x := &p.facts[i]
		if !x.activity() {
			continue
		}
		if due := last + f.rules.silence; last != 0 && x.at >= due {
			e := episode{customer: p.id, detector: "silence", fired: due, resolved: p.over(f, x.at, last+f.rules.lapse)}
			e.late = f.mixed                  // no step of a customer is earlier than the one before, such as that which the end of the history told
			for _, y := range p.facts[i+1:] { // read before it, though it was later
				if y.activity() && y.at-x.at < ahead {
					e.instead = append(e.instead, y.at)
				}
			}
			out = append(out, e)
		}
		last = x.at
	}
	if due := last + f.rules.silence; last != 0 && due <= f.until {
		out = append(out, episode{customer: p.id, detector: "silence", fired: due, resolved: by(f, last+f.rules.lapse)})
	}
	return out
}

// over is when an alert ended: when something happened, or when it was given up before. So close together that it depends on what was
// read first, the customer is murky.
func (p *person) over(f *frame, happened, givenUp int64) int64 {
	if max(happened-givenUp, givenUp-happened) < f.unsure(givenUp) {
		p.murky = true
	}
	return min(happened, givenUp)
}

// by is a time if it is not later than what is asked for, else 0.
func by(f *frame, at int64) int64 {
	if at > f.until {
		return 0
	}
	return at
}

func (p *person) unresolved(f *frame) []episode {
	var out []episode
	for i := range p.facts {
		x := &p.facts[i]
		if x.kind != "opened" || x.feed != "complaints" {
			continue
		}
		e := episode{customer: p.id, detector: "complaint_unresolved", subject: x.ticket, opened: x.at, fired: x.at + f.rules.complaint}
		if x.priority == "critical" {
			e.fired = x.at
		}
		for j := range p.facts {
			if y := &p.facts[j]; y.kind == "resolved" && y.feed == "complaints" && y.ticket == x.ticket {
				e.resolved = y.at
			}
		}
		if e.fired > f.until || e.resolved != 0 && e.resolved < e.fired {
			continue
		}
		if expires := x.at + f.rules.expire; e.resolved != 0 {
			e.resolved, e.late = p.over(f, e.resolved, expires), f.mixed // no step of a customer is earlier than the one before
		} else {
			e.resolved = by(f, expires)
		}
		out = append(out, e)
	}
	return out
}

// verdict is what a drop in spending looks like on a day.
type verdict struct{ fires, critical, recovered bool }

func (p *person) drops(f *frame) (out []episode, unsure int64) {
	r := f.rules
	spend := map[int64]int64{}
	judge := func(d int64) verdict {
		var recent, base int64
		for k := int64(1); k <= r.recent+r.base; k++ {
			if k <= r.recent {
				recent += spend[d-k]
			} else {
				base += spend[d-k]
			}
		}
		below := func(percent int64) bool { return recent*r.base*100 < base*percent*r.recent }
		return verdict{
			fires:    d-r.day(p.facts[0].at) >= r.history && base*7 >= r.minWeekly*100*r.base && below(50),
			critical: below(20), recovered: !below(70),
		}
	}
	var e *episode
	critical := false
	last := int64(0)
	for i := range p.facts {
		x := &p.facts[i]
		if !x.activity() {
			continue
		}
		if gone := last + r.lapse; e != nil && x.at >= gone-f.unsure(gone) {
			if e.resolved = p.over(f, x.at, gone); e.resolved == gone {
				e = nil
			} else {
				e.resolved = 0
			}
		}
		last = x.at
		d := r.day(x.at)
		switch x.kind {
		case "purchase":
			spend[d] += x.amount
		case "refund":
			spend[d] -= x.amount
		}
		if len(spend) == 0 {
			continue
		}
		v := judge(d)
		if r.since(x.at) < f.unsure(x.at) && v != judge(d-1) {
			return out, x.at // payments of the day before may have been unread
		}
		slack := f.unsure(x.at)
		if f.forwards && v != judge(d-1) { // what others forward of the day before may be unread for as long as one of them is held up
			slack = dayMs
		}
		switch {
		case e == nil && v.fires:
			out = append(out, episode{customer: p.id, detector: "spend_drop", fired: x.at, slack: slack})
			e, critical = &out[len(out)-1], v.critical
		case e != nil && v.recovered:
			e.resolved, e.slack, e = x.at, max(e.slack, slack), nil
		case e != nil && !critical && v.critical:
			e.changed, e.slack, critical = x.at, max(e.slack, slack), true
		}
	}
	if e != nil {
		e.resolved = by(f, last+r.lapse)
	}
	return out, math.MaxInt64
}

// keptDays is how many days of a customer are kept, his newest one included.
const keptDays = 91

// portrait is what the record of a customer must say, in words.
func (p *person) portrait(r *rules) []string {
	type day struct{ count, quantity, purchases, refunds, amount int64 }
	days := map[int64]*day{}
	of := func(at int64) *day {
		d := r.day(at)
		if days[d] == nil {
			days[d] = &day{}
		}
		return days[d]
	}
	first, latest, active := p.facts[0].at, int64(0), int64(0)
	open := map[string]int64{}
	for i := range p.facts {
		f := &p.facts[i]
		first, latest = min(first, f.at), max(latest, f.at)
		if f.activity() {
			active = max(active, f.at)
		}
		switch f.kind {
		case "session":
			of(f.at).count++
			of(f.at).quantity += f.amount
		case "purchase":
			of(f.at).purchases++
			of(f.at).amount += f.amount
		case "refund":
			of(f.at).refunds++
			of(f.at).amount -= f.amount
		case "opened":
			open[f.ticket] = f.at
		case "resolved":
			delete(open, f.ticket)
		}
	}
	lines := []string{fmt.Sprintf("first %d latest %d active %d", first, latest, active)}
	newest := int64(0)
	for d := range days {
		newest = max(newest, d)
	}
	for d, x := range days {
		if d <= newest-keptDays {
			continue
		}
		if x.count != 0 {
			lines = append(lines, fmt.Sprintf("day %d: %d uses of %d", d, x.count, x.quantity))
		}
		if x.purchases+x.refunds != 0 {
			lines = append(lines, fmt.Sprintf("day %d: %d purchases %d refunds of %d", d, x.purchases, x.refunds, x.amount))
		}
	}
	for id, at := range open {
		lines = append(lines, fmt.Sprint(openLine(id), at))
	}
	slices.Sort(lines)
	return lines
}

func openLine(ticket string) string { return "complaint " + ticket + " open since " }

// resolvedKept is how long a complaint is remembered after its resolution.
const resolvedKept = 7 * 24 * hourMs

// reappeared are the complaints that may be forgotten as resolved before their opening comes: it lies behind the resolution in the topic, and something
// of the customer happened long after that.
func (p *person) reappeared() []string {
	var out []string
	latest := int64(0)
	for i := range p.facts {
		latest = max(latest, p.facts[i].at)
	}
	resolved := map[string]*fact{}
	for i := range p.facts {
		if f := &p.facts[i]; f.kind == "resolved" {
			resolved[f.ticket] = f
		}
	}
	for i := range p.facts {
		f := &p.facts[i]
		if f.kind != "opened" {
			continue
		}
		if end := resolved[f.ticket]; end != nil && end.offset < f.offset && latest-end.at >= resolvedKept {
			out = append(out, f.ticket)
		}
	}
	return out
}
