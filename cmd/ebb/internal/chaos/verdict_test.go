//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"ebb/state/customer"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
	"ebb/stream/partition"
)

// written is one record of ebb's topics with what the broker knows of its writer.
type written struct {
	kafkatest.Record
	producer int64
	epoch    int16
	txn      bool
	control  bool
}

// verdict collects what is wrong with a round.
type verdict struct {
	faults []string
	total  map[string]int // by kind
	steps  int            // compared
}

func (v *verdict) add(kind, format string, args ...any) {
	if v.total == nil {
		v.total = map[string]int{}
	}
	if v.total[kind]++; v.total[kind] <= 5 {
		v.faults = append(v.faults, kind+": "+fmt.Sprintf(format, args...))
	}
}

func (v *verdict) String() string {
	if len(v.faults) == 0 {
		return "nothing lost, nothing twice"
	}
	var b strings.Builder
	for kind, n := range v.total {
		fmt.Fprintf(&b, "%d times %s\n", n, kind)
	}
	return b.String() + strings.Join(v.faults, "\n")
}

// alert is an alert event as a subscriber sees it.
type alert struct {
	AlertID  string `json:"alert_id"`
	Revision int
	Detector string
	Status   string
	Step     string
	Customer string    `json:"customer_id"`
	Time     time.Time `json:"time"`
	Subject  struct{ ID string }
	Evidence struct {
		Complaint string `json:"complaint_id"`
	}
}

func (a *alert) step() step {
	return step{a.Time.UnixMilli(), a.Customer, a.Detector, a.Status, a.Evidence.Complaint}
}

// stepsOf reads the alert steps that the oracle knows, sorted.
func stepsOf(records []kafkatest.Record, until int64) ([]step, error) {
	var out []step
	for _, r := range records {
		var a alert
		if err := json.Unmarshal(r.Value, &a); err != nil {
			return nil, fmt.Errorf("alert %s: %w", r.Value, err)
		}
		if (a.Step == "fired" || a.Step == "resolved") && a.Time.UnixMilli() <= until {
			out = append(out, a.step())
		}
	}
	slices.SortFunc(out, byStep)
	return out, nil
}

// compareSteps holds the published steps against the oracle's.
func (v *verdict) compareSteps(want []step, records []kafkatest.Record, until int64) {
	got, err := stepsOf(records, until)
	if err != nil {
		v.add("unreadable alert", "%v", err)
		return
	}
	v.steps = len(want)
	if len(want) == 0 {
		v.add("empty run", "no alert step was expected: the load is too small to show anything")
	}
	missing, extra := difference(want, got)
	for _, s := range missing {
		v.add("lost", "%v", s)
	}
	for _, s := range extra {
		kind := "extra"
		if _, found := slices.BinarySearchFunc(want, s, byStep); found {
			kind = "doubled"
		}
		v.add(kind, "%v", s)
	}
}

// compareOrder checks the steps of each alert against each other, and the table of open alerts against them.
func (v *verdict) compareOrder(records, open []kafkatest.Record) {
	ids := map[string]bool{}
	last := map[string]alert{}
	for _, r := range records {
		id := r.Headers["ce_id"]
		if ids[id] || id == "" {
			v.add("ce_id twice", "%q at %s/%d/%d", id, r.Topic, r.Partition, r.Offset)
		}
		ids[id] = true
		var a alert
		if json.Unmarshal(r.Value, &a) != nil {
			continue // compareSteps has said so
		}
		before, known := last[a.AlertID]
		switch {
		case a.Revision != before.Revision+1:
			v.add("order", "alert %s of %s: revision %d after %d", a.AlertID, a.Customer, a.Revision, before.Revision)
		case known == (a.Step == "fired"):
			v.add("order", "alert %s of %s: step %s with revision %d", a.AlertID, a.Customer, a.Step, a.Revision)
		case before.Status == "resolved":
			v.add("order", "alert %s of %s: step %s after it was resolved", a.AlertID, a.Customer, a.Step)
		}
		last[a.AlertID] = a
	}
	table := map[string]alert{}
	for _, r := range open {
		if r.Value == nil {
			delete(table, string(r.Key))
			continue
		}
		var a alert
		if err := json.Unmarshal(r.Value, &a); err != nil {
			v.add("table of open alerts", "%s: %v", r.Value, err)
		}
		table[string(r.Key)] = a
	}
	for id, a := range last {
		have, there := table[id]
		switch {
		case a.Status == "firing" && have != a:
			v.add("table of open alerts", "alert %s is open with revision %d, the table has %d", id, a.Revision, have.Revision)
		case a.Status != "firing" && there:
			v.add("table of open alerts", "alert %s is resolved, and in the table", id)
		}
		delete(table, id)
	}
	for id := range table {
		v.add("table of open alerts", "%s is no alert of the log", id)
	}
}

// compareLetters: each unreadable record is a dead letter once.
func (v *verdict) compareLetters(want []string, records []kafkatest.Record) {
	count := map[string]int{}
	for _, w := range want {
		count[w]++
	}
	for _, r := range records {
		count[fmt.Sprintf("%s/%s/%s", r.Headers["ebb_source_topic"], r.Headers["ebb_source_partition"], r.Headers["ebb_source_offset"])]--
	}
	for at, n := range count {
		if n > 0 {
			v.add("dead letter lost", "%s", at)
		}
		if n < 0 {
			v.add("dead letter extra or doubled", "%s", at)
		}
	}
}

// compareCustomers holds the records of the changelog against what each customer did.
func (v *verdict) compareCustomers(want map[string]map[int32]*account, changelog []kafkatest.Record) {
	values := map[string][]byte{}
	for _, r := range changelog {
		if len(r.Key) > 0 && r.Key[0] != 0 {
			values[string(r.Key)] = r.Value
		}
	}
	for id, days := range want {
		value := values[id]
		delete(values, id)
		if value == nil {
			v.add("customer lost", "%s", id)
			continue
		}
		var rec customer.Record
		if err := customer.DecodeRecord(value, &rec); err != nil {
			v.add("customer undecodable", "%s: %v", id, err)
			continue
		}
		v.compareCustomer(id, days, &rec)
	}
	for id, value := range values {
		if value != nil {
			v.add("customer extra", "%s", id)
		}
	}
}

func (v *verdict) compareCustomer(id string, days map[int32]*account, rec *customer.Record) {
	got := map[int32]*account{}
	at := func(day int32) *account {
		if got[day] == nil {
			got[day] = &account{}
		}
		return got[day]
	}
	for _, u := range rec.Usage {
		at(u.Day).uses = int(u.Count)
	}
	for _, s := range rec.Spend {
		a := at(s.Day())
		a.purchases, a.refunds, a.cents = int(s.Purchases), int(s.Refunds), int64(s.Amount/(event.MoneyUnit/100))
	}
	for day, want := range days {
		want.purchases, want.refunds = min(want.purchases, math.MaxUint16), min(want.refunds, math.MaxUint16)
		if have := at(day); *have != *want {
			v.add("customer's record", "%s, day %d: has %+v, must have %+v", id, day, *have, *want)
		}
		delete(got, day)
	}
	for day, have := range got {
		if *have != (account{}) {
			v.add("customer's record", "%s, day %d: has %+v, nothing happened", id, day, *have)
		}
	}
}

// claimed begins the keys by which a group makes the changelog its own, before there is any task.
const claimed = "\x00claim/"

// owners tells which task each producer id is, from the changelog: partition p of it is written by the task p alone.
func (v *verdict) owners(changelog []written) map[int64]int32 {
	owner := map[int64]int32{}
	passed := map[int32][]int64{} // producer ids of a partition, in the order of their first record
	for i := range changelog {
		w := &changelog[i]
		if w.control || strings.HasPrefix(string(w.Key), claimed) {
			continue
		}
		if !w.txn {
			v.add("written outside a transaction", "%s/%d/%d", w.Topic, w.Partition, w.Offset)
		}
		if p, known := owner[w.producer]; known && p != w.Partition {
			v.add("written by a non-owner", "producer id %d of task %d wrote %s/%d/%d", w.producer, p, w.Topic, w.Partition, w.Offset)
			continue
		}
		owner[w.producer] = w.Partition
		ids := passed[w.Partition]
		switch i := slices.Index(ids, w.producer); {
		case i < 0:
			passed[w.Partition] = append(ids, w.producer)
		case i != len(ids)-1:
			v.add("written by a non-owner", "%s/%d/%d: producer id %d wrote after its successor %d", w.Topic, w.Partition, w.Offset, w.producer, ids[len(ids)-1])
		}
	}
	return owner
}

// compareEpochs: in each partition the epochs of a producer id never go back. A record of an older epoch would be that of an owner who
// had been fenced.
func (v *verdict) compareEpochs(records []written) {
	type place struct {
		partition int32
		producer  int64
	}
	newest := map[place]int16{}
	for i := range records {
		w := &records[i]
		at := place{w.Partition, w.producer}
		if w.epoch < newest[at] {
			v.add("written by a non-owner", "%s/%d/%d: epoch %d of producer id %d after %d", w.Topic, w.Partition, w.Offset, w.epoch, w.producer, newest[at])
		}
		newest[at] = max(newest[at], w.epoch)
	}
}

// compareOwners: every alert is of the task that owns the customer.
func (v *verdict) compareOwners(owner map[int64]int32, alerts []written, partitions int32) {
	for i := range alerts {
		w := &alerts[i]
		if w.control {
			continue
		}
		task, known := owner[w.producer]
		if want := partition.Murmur2(w.Key, partitions); !known || task != want || !w.txn {
			v.add("written by a non-owner", "%s/%d/%d: an alert of customer %s, of task %d, by producer id %d (task %d, known %t, in a transaction %t)",
				w.Topic, w.Partition, w.Offset, w.Key, want, w.producer, task, known, w.txn)
		}
	}
}

// readRaw reads a topic to its end with the writers of its records, those of aborted transactions included, by partition and offset.
func readRaw(ctx context.Context, addrs []string, topic string, ends map[int32]int64) ([]written, error) {
	starts := map[int32]kgo.Offset{}
	left := 0
	for p, end := range ends {
		if end > 0 {
			starts[p] = kgo.NewOffset().AtStart()
			left++
		}
	}
	if left == 0 {
		return nil, nil
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.KeepControlRecords(), kgo.DisableClientMetrics(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}), kgo.FetchIsolationLevel(kgo.ReadUncommitted()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var out []written
	for left > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			return nil, fmt.Errorf("read %s: %w with %d partitions not at their end", topic, err, left)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if r.Offset >= ends[r.Partition] {
				return
			}
			out = append(out, written{
				Record:   kafkatest.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key},
				producer: r.ProducerID, epoch: r.ProducerEpoch, txn: r.Attrs.IsTransactional(), control: r.Attrs.IsControl(),
			})
			if r.Offset == ends[r.Partition]-1 {
				left--
			}
		})
	}
	slices.SortStableFunc(out, func(a, b written) int {
		if a.Partition != b.Partition {
			return int(a.Partition - b.Partition)
		}
		return int(min(max(a.Offset-b.Offset, -1), 1))
	})
	return out, nil
}
