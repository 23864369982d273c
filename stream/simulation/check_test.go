package simulation

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"ebb/alerts"
	"ebb/state/customer"
	"ebb/stream"
)

// complain fails the seed, and says why a few times for each kind of fault.
func (w *world) complain(kind, format string, args ...any) {
	w.t.Helper()
	if w.complaints == nil {
		w.complaints = map[string]int{}
	}
	if w.complaints[kind]++; w.complaints[kind] <= 5 {
		w.t.Errorf(kind+": "+format, args...)
	}
}

// log is all that lies in a partition.
func (w *world) log(topic string, part int32) []*kgo.Record {
	all, err := w.phone.log(topic, part)
	if err != nil {
		w.t.Errorf("read %s/%d: %v", topic, part, err)
	}
	return all
}

// committed is what a read_committed reader sees of a partition of a topic that ebb writes. Nothing may lie there that belongs to no
// transaction, and no producer may write after a younger one; once all processes have ended, none may be left open. All owners of a changelog are one producer: under another nobody would end
// what they left open, or keep them from writing.
func (w *world) committed(topic string, part int32) []*kgo.Record {
	all := w.log(topic, part)
	open := map[int64][]*kgo.Record{}
	epochs := map[int64]int16{}
	owner := int64(0)
	var out []*kgo.Record
	for _, r := range all {
		switch {
		case r.Attrs.IsControl():
			if isCommit(r) {
				out = append(out, open[r.ProducerID]...)
			}
			delete(open, r.ProducerID)
		case !r.Attrs.IsTransactional():
			w.complain("outside of transactions", "%s/%d offset %d, key %q", topic, part, r.Offset, r.Key)
			out = append(out, r)
		default:
			if topic == "changelog" && r.ProducerEpoch < epochs[r.ProducerID] {
				w.complain("written by a former owner", "%s/%d offset %d has epoch %d after %d", topic, part, r.Offset, r.ProducerEpoch, epochs[r.ProducerID])
			}
			if string(r.Key) == stream.TaskKey {
				if owner != 0 && owner != r.ProducerID {
					w.complain("written by several producers", "%s/%d offset %d by %d after %d", topic, part, r.Offset, r.ProducerID, owner)
				}
				owner = r.ProducerID
			}
			epochs[r.ProducerID] = r.ProducerEpoch
			open[r.ProducerID] = append(open[r.ProducerID], r)
		}
	}
	if w.ended {
		for id, left := range open {
			w.complain("left open", "%s/%d: a transaction of producer %d with %d records", topic, part, id, len(left))
		}
	}
	slices.SortFunc(out, func(a, b *kgo.Record) int { return int(a.Offset - b.Offset) })
	return out
}

// isCommit says of a control record whether it commits.
func isCommit(r *kgo.Record) bool { return binary.BigEndian.Uint16(r.Key[2:]) == 1 }

// check compares all that the run left with the truth of the feeds.
func (w *world) check() {
	tr := &truth{people: map[string]*person{}, seen: map[string]bool{}, mixed: w.plan.mixed()}
	for _, f := range feeds {
		for p := range w.plan.parts {
			tr.read(f, w.log(f, p))
		}
	}
	tr.sort()
	w.checkPositions()
	for _, p := range tr.people {
		p.lives(w.frame(), w.stopped)
	}
	w.checkChangelog(tr)
	w.checkAlerts(tr)
	w.checkLetters(tr)
	w.checkOperations()
	for _, d := range w.disks {
		if n := d.Overlaps(); n != 0 {
			w.complain("local copy opened twice", "%d times", n)
		}
	}
}

func (w *world) frame() *frame {
	return &frame{rules: &w.plan.rules, origin: w.origin, blur: w.plan.blur, mixed: w.plan.mixed(), until: w.end, spoke: w.spoke, parts: w.plan.parts, forwards: w.plan.reroute}
}

// told is an alert step as a subscriber reads it.
type told struct {
	ID       string `json:"alert_id"`
	Revision int
	Detector string
	Status   string
	Step     string
	Customer string `json:"customer_id"`
	Time     time.Time
	Subject  struct{ ID string }
	value    []byte
}

func (w *world) checkAlerts(tr *truth) {
	last := map[string]told{}
	got := map[step]int{}
	for p := range int32(3) {
		for _, r := range w.committed("alerts", p) {
			a := told{value: r.Value}
			if err := json.Unmarshal(r.Value, &a); err != nil {
				w.complain("unreadable alert", "%s: %v", r.Value, err)
				continue
			}
			before := last[a.ID]
			switch {
			case a.Revision <= before.Revision:
				w.complain("doubled or out of order", "%s revision %d after %d (%s of %s)", a.ID, a.Revision, before.Revision, a.Step, a.Customer)
			case a.Revision != before.Revision+1:
				w.complain("gap in the revisions", "%s revision %d after %d (%s of %s)", a.ID, a.Revision, before.Revision, a.Step, a.Customer)
			case before.Step == "resolved":
				w.complain("step of a dead alert", "%s %s", a.ID, a.Step)
			}
			last[a.ID] = a
			got[step{a.Time.UnixMilli(), a.Customer, a.Detector, a.Step, a.Subject.ID}]++
		}
	}
	w.compareSteps(tr, got)
	w.checkOpen(last)
}

// checkOperations: operational alerts are told once and in order too, only of what has happened, and none stays open when it is over.
func (w *world) checkOperations() {
	last := map[string]told{}
	for _, r := range w.committed("operations", 0) {
		a := told{value: r.Value}
		if err := json.Unmarshal(r.Value, &a); err != nil {
			w.complain("unreadable operational alert", "%s: %v", r.Value, err)
			continue
		}
		before := last[a.ID]
		if a.Revision <= before.Revision || before.Step == "resolved" {
			w.complain("operational alert", "%s: %s with revision %d after %s with %d", a.Detector, a.Step, a.Revision, before.Step, before.Revision)
		}
		last[a.ID] = a
		switch kind := alerts.OperationalKind(a.Detector); {
		case kind == alerts.DiskReserve && w.faults[diskFull] != 0, kind == alerts.TaskStopped && (w.plan.weather.fatal || w.faults[offsetsReset] != 0):
		default:
			w.complain("operational alert", "of nothing: %s", r.Value)
		}
	}
	for _, a := range last {
		if a.Step != "resolved" {
			w.complain("operational alert", "still open: %s", a.value)
		}
	}
}

// find takes one step out of those that were told.
func find(got map[step]int, s step, slack int64) bool {
	if got[s] > 0 {
		got[s]--
		return true
	}
	if slack == 0 {
		return false
	}
	for g, n := range got {
		if d := g.at - s.at; n > 0 && g.customer == s.customer && g.detector == s.detector && g.kind == s.kind && g.subject == s.subject && d > 0 && d <= slack {
			got[g]--
			return true
		}
	}
	return false
}

// findAny is find at any of some times.
func findAny(got map[step]int, s step, times []int64) bool {
	for _, at := range times {
		if s.at = at; find(got, s, 0) {
			return true
		}
	}
	return false
}

func (w *world) compareSteps(tr *truth, got map[step]int) {
	for _, p := range tr.people {
		if p.murky {
			continue
		}
		all, _ := p.episodes(w.frame())
		for i := range all {
			w.compareEpisode(&all[i], got)
		}
	}
	for s, n := range got {
		p := tr.people[s.customer]
		if p == nil {
			w.complain("step of nobody", "%s", s)
			continue
		}
		if n == 0 || p.murky || s.at > w.end {
			continue
		}
		if _, unsure := p.episodes(w.frame()); s.detector != "spend_drop" || s.at < unsure {
			w.complain("extra step", "%s, %d times", s, n)
		}
	}
}

func (w *world) compareEpisode(e *episode, got map[step]int) {
	for i, s := range e.steps() {
		w.wanted++
		if find(got, s, e.slack) || s.kind == "resolved" && (find(got, s, e.late) || findAny(got, s, e.instead)) {
			continue
		}
		if i == 0 && e.maybe {
			return
		}
		w.complain("missing step", "%s; told were %v", s, instead(got, s))
	}
}

// instead are the steps that are not accounted for and could be a missing one.
func instead(got map[step]int, s step) []step {
	var out []step
	for g, n := range got {
		if n > 0 && g.customer == s.customer && g.detector == s.detector {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return out
}

// checkOpen: the table of open alerts is what the steps add up to.
func (w *world) checkOpen(last map[string]told) {
	table := map[string][]byte{}
	for p := range int32(3) {
		for _, r := range w.committed("open", p) {
			if table[string(r.Key)] = r.Value; r.Value == nil {
				delete(table, string(r.Key))
			}
		}
	}
	for id, a := range last {
		if a.Status == "resolved" {
			continue
		}
		if !bytes.Equal(table[id], a.value) {
			w.complain("table of open alerts", "%s (%s of %s) is %q there", id, a.Detector, a.Customer, table[id])
		}
		delete(table, id)
	}
	for id := range table {
		w.complain("table of open alerts", "%s is there and not open", id)
	}
}

func (w *world) checkLetters(tr *truth) {
	got := map[string]*kgo.Record{}
	for _, r := range w.committed("dlq", 0) {
		from := ""
		for _, h := range r.Headers {
			switch h.Key {
			case "ebb_source_topic", "ebb_source_partition", "ebb_source_offset":
				from += "/" + string(h.Value)
			}
		}
		if got[from] != nil {
			w.complain("dead letter doubled", "%s", from)
		}
		got[from] = r
	}
	for _, l := range tr.letters {
		from := fmt.Sprintf("/%s/%d/%d", l.topic, l.part, l.offset)
		r := got[from]
		switch {
		case r == nil:
			w.complain("dead letter missing", "%s", from)
		case !bytes.Equal(r.Key, l.record.Key) || !bytes.Equal(r.Value, l.record.Value):
			w.complain("dead letter changed", "%s", from)
		}
		delete(got, from)
	}
	for from := range got {
		w.complain("dead letter of a good record", "%s", from)
	}
}

// checkPositions: the task records never go back, and end where the feeds and the group's offsets end.
func (w *world) checkPositions() {
	committed, err := w.phone.committed()
	if err != nil {
		w.t.Errorf("committed offsets: %v", err)
	}
	for p := range w.plan.parts {
		at := stream.TaskRecord{Quiet: w.plan.cfg.Quiet}
		for _, r := range w.committed("changelog", p) {
			if string(r.Key) == stream.TaskKey {
				at = w.follow(p, at, r)
			}
		}
		for _, f := range feeds {
			end := w.broker.Fake.PartitionInfo(f, p).HighWatermark
			if at.Positions[f] != end || committed[f][p] != end {
				w.complain("positions", "%s/%d ends at %d, the task record says %d, the group %d", f, p, end, at.Positions[f], committed[f][p])
			}
		}
		if at.Quiet {
			w.complain("quiet", "the history of partition %d has no end", p)
		}
	}
}

// follow goes on from one task record to the next.
func (w *world) follow(p int32, at stream.TaskRecord, r *kgo.Record) stream.TaskRecord {
	next, err := stream.ReadTaskRecord(r.Value)
	if err != nil {
		w.complain("task record", "%d offset %d: %v", p, r.Offset, err)
		return at
	}
	for topic, o := range next.Positions {
		if o < at.Positions[topic] {
			w.complain("went back", "%s/%d from %d to %d", topic, p, at.Positions[topic], o)
		}
	}
	if next.Clock < at.Clock {
		w.complain("went back", "clock of partition %d from %d to %d", p, at.Clock, next.Clock)
	}
	switch {
	case next.Quiet && !at.Quiet:
		w.complain("went back", "partition %d to its quiet history", p)
	case at.Quiet && !next.Quiet:
		if _, heard := w.spoke[p]; !heard {
			w.spoke[p] = next.Clock
		}
	}
	return next
}

// checkChangelog compares the records of all customers.
func (w *world) checkChangelog(tr *truth) {
	known := map[string]bool{}
	for p := range w.plan.parts {
		records := map[string][]byte{}
		for _, r := range w.committed("changelog", p) {
			if r.Key[0] != 0 { // else it is ebb's own
				records[string(r.Key)] = r.Value
			}
		}
		for id, value := range records {
			if value == nil {
				continue
			}
			known[id] = true
			w.checkRecord(tr.people[id], id, value)
		}
	}
	for id, p := range tr.people {
		if !known[id] && !p.gone && !p.perhaps {
			w.complain("customer missing", "%s is not in the changelog", id)
		}
	}
}

// checkRecord compares the record of a customer field by field.
func (w *world) checkRecord(p *person, id string, value []byte) {
	rec := customer.Record{ID: id}
	if err := customer.DecodeRecord(value, &rec); err != nil {
		w.complain("customer record", "%s: %v", id, err)
		return
	}
	if p == nil {
		w.complain("customer of nobody", "%s", id)
		return
	}
	if p.gone {
		w.complain("not forgotten", "%s", id)
		return
	}
	if p.murky && p.perhaps {
		return
	}
	got, want := portrait(&rec), p.portrait(&w.plan.rules)
	if unsure := p.reappeared(); len(unsure) > 0 {
		got = slices.DeleteFunc(got, func(line string) bool {
			return slices.ContainsFunc(unsure, func(t string) bool { return strings.HasPrefix(line, openLine(t)) })
		})
	}
	if !slices.Equal(got, want) {
		w.complain("customer record", "%s:\n%s", id, difference(got, want))
	}
	if p.murky {
		return
	}
	w.checkLifecycles(p, &rec)
}

// checkLifecycles compares the open alerts of a record with the episodes that have no end. Those that end by themselves between what is asked for and the
// end of the processes may be open or not.
func (w *world) checkLifecycles(p *person, rec *customer.Record) {
	all, unsure := p.episodes(w.frame())
	later := w.frame()
	later.until = w.stopped
	ends := map[step]bool{}
	passed, _ := p.episodes(later)
	for i := range passed {
		ends[passed[i].steps()[0]] = passed[i].resolved != 0
	}
	open := map[string]int64{}
	for i := range rec.Lifecycles {
		if l := &rec.Lifecycles[i]; l.FiredAt <= w.end && (l.Detector != "spend_drop" || unsure == math.MaxInt64) {
			open[l.Detector+" "+l.Subject] = l.FiredAt
		}
	}
	for i := range all {
		e := &all[i]
		if e.resolved != 0 || e.detector == "spend_drop" && unsure != math.MaxInt64 {
			continue
		}
		about := e.detector + " " + e.subject
		if ends[e.steps()[0]] {
			delete(open, about)
			continue
		}
		if at, ok := open[about]; !ok || at < e.fired || at > e.fired+e.slack {
			w.complain("open alerts of a record", "%s: %s fired at %d, the record says %d", p.id, about, e.fired, at)
		}
		delete(open, about)
	}
	for about, at := range open {
		w.complain("open alerts of a record", "%s: %s since %d, which is not due", p.id, about, at)
	}
}

// portrait is what a record says, in the words of person.portrait.
func portrait(rec *customer.Record) []string {
	lines := []string{fmt.Sprintf("first %d latest %d active %d", rec.First, rec.Latest, rec.LastActivity)}
	for _, u := range rec.Usage {
		lines = append(lines, fmt.Sprintf("day %d: %d uses of %d", u.Day, u.Count, u.Quantity))
	}
	for _, s := range rec.Spend {
		lines = append(lines, fmt.Sprintf("day %d: %d purchases %d refunds of %d", s.Day(), s.Purchases, s.Refunds, s.Amount))
	}
	for i := range rec.Complaints {
		if c := &rec.Complaints[i]; c.Open() {
			lines = append(lines, fmt.Sprint(openLine(c.ID), c.Opened))
		}
	}
	slices.Sort(lines)
	return lines
}

// difference are the lines that only one of two has.
func difference(got, want []string) string {
	var b strings.Builder
	for _, x := range got {
		if !slices.Contains(want, x) {
			fmt.Fprintf(&b, "  has   %s\n", x)
		}
	}
	for _, x := range want {
		if !slices.Contains(got, x) {
			fmt.Fprintf(&b, "  wants %s\n", x)
		}
	}
	return b.String()
}
