//go:build linux

package chaos

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ebb/stream/kafkatest"
)

// The oracle: what must come out, computed from the input topics as they are read back, with plain lists, without windows, timers or any
// code of ebb. It knows the rules of the configuration that a round runs with (config.yaml in this folder) and nothing else.

// said is an event as it stands in a topic.
type said struct {
	feed      string
	partition int32
	offset    int64

	ID, Type, Priority string
	Customer           string    `json:"customer_id"`
	Time               time.Time `json:"time"`
	Amount             float64
	Complaint          string `json:"complaint_id"`
	at                 int64
	cents              int64
}

// step is an alert step in the words of the oracle.
type step struct {
	at                                  int64
	customer, detector, status, subject string
}

func (s step) String() string {
	return strings.Join([]string{time.UnixMilli(s.at).UTC().Format("2006-01-02T15:04:05.000Z"), s.customer, s.detector, s.status, s.subject}, " ")
}

func byStep(a, b step) int {
	return cmp.Or(cmp.Compare(a.customer, b.customer), cmp.Compare(a.at, b.at), cmp.Compare(a.detector, b.detector), cmp.Compare(a.status, b.status), cmp.Compare(a.subject, b.subject))
}

// expected is what must exist after a round.
type expected struct {
	steps   []step
	letters []string // topic/partition/offset of the unreadable records
	days    map[string]map[int32]*account
}

// account is what a customer did on a day.
type account struct {
	uses, purchases, refunds int
	cents                    int64
}

// judge computes what must exist from the records of the feeds. Steps after until are left out.
func judge(records map[string][]kafkatest.Record, until int64) expected {
	e := expected{days: map[string]map[int32]*account{}}
	by := map[string][]said{}
	seen := map[string]bool{}
	for _, feed := range feeds {
		for _, r := range records[feed] {
			s := said{feed: feed, partition: r.Partition, offset: r.Offset}
			if json.Unmarshal(r.Value, &s) != nil {
				e.letters = append(e.letters, fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset))
				continue
			}
			if seen[feed+s.ID] { // what its producer repeats counts once
				continue
			}
			seen[feed+s.ID] = true
			s.at, s.cents = s.Time.UnixMilli(), int64(s.Amount*100+0.5)
			by[s.Customer] = append(by[s.Customer], s)
		}
	}
	for id, all := range by {
		slices.SortStableFunc(all, func(a, b said) int { return cmp.Compare(a.at, b.at) })
		e.steps = append(e.steps, silences(id, all, until)...)
		e.steps = append(e.steps, drops(id, all)...)
		e.steps = append(e.steps, unresolved(id, all, until)...)
		e.days[id] = accounts(all)
	}
	e.steps = slices.DeleteFunc(e.steps, func(s step) bool { return s.at > until })
	slices.SortFunc(e.steps, byStep)
	slices.Sort(e.letters)
	return e
}

func isActivity(e said) bool { return e.feed != "complaints" && e.Type != "charge_failed" }

func silences(id string, all []said, until int64) []step {
	const limit = 14 * dayMs
	var out []step
	var last int64
	for _, e := range all {
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

func drops(id string, all []said) []step {
	var out []step
	spend := map[int64]int64{}
	first := all[0].at / dayMs
	firing := false
	for _, e := range all {
		if !isActivity(e) {
			continue
		}
		d := e.at / dayMs
		switch e.Type {
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
		switch {
		case !firing && d-first >= 28 && base >= 4000 && recent*8 < base:
			firing = true
			out = append(out, step{e.at, id, "spend_drop", "firing", ""})
		case firing && recent*40 >= 7*base:
			firing = false
			out = append(out, step{e.at, id, "spend_drop", "resolved", ""})
		}
	}
	return out
}

func unresolved(id string, all []said, until int64) []step {
	var out []step
	for _, e := range all {
		if e.Type != "opened" {
			continue
		}
		due := e.at + 2*dayMs
		if e.Priority == "critical" {
			due = e.at
		}
		end := int64(-1)
		for _, r := range all {
			if r.Type == "resolved" && r.Complaint == e.Complaint {
				end = r.at
			}
		}
		switch {
		case end >= 0 && due <= end:
			out = append(out, step{due, id, "complaint_unresolved", "firing", e.Complaint}, step{end, id, "complaint_unresolved", "resolved", e.Complaint})
		case end < 0 && due <= until:
			out = append(out, step{due, id, "complaint_unresolved", "firing", e.Complaint})
		}
	}
	return out
}

func accounts(all []said) map[int32]*account {
	days := map[int32]*account{}
	for _, e := range all {
		if !isActivity(e) {
			continue
		}
		d := int32(e.at / dayMs)
		a := days[d]
		if a == nil {
			a = &account{}
			days[d] = a
		}
		switch e.Type {
		case "purchase":
			a.purchases++
			a.cents += e.cents
		case "refund":
			a.refunds++
			a.cents -= e.cents
		default:
			a.uses++
		}
	}
	return days
}

// difference are the steps of one list that the other lacks, both ways; lists are sorted, and repetitions count.
func difference(want, got []step) (missing, extra []step) {
	count := map[step]int{}
	for _, s := range want {
		count[s]++
	}
	for _, s := range got {
		count[s]--
	}
	for _, s := range slices.SortedFunc(maps.Keys(count), byStep) {
		for n := count[s]; n > 0; n-- {
			missing = append(missing, s)
		}
		for n := count[s]; n < 0; n++ {
			extra = append(extra, s)
		}
	}
	return missing, extra
}
