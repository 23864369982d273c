package stream

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"ebb/alerts"
)

// operations folds what the tasks of the group report into one operational alert each: a feed that stalls on 64 partitions is one
// alert. It fires when the first partition reports, changes when the severity rises, and is resolved when no partition reports it any more.
// A partition that is between two owners has its last report standing, so that nothing is resolved by a rebalance.
//
// The steps follow from the sequence of the reports alone, one after the other, and from no clock: whoever folds the same reports again
// makes the same steps with the same ids.
type operations struct {
	reports map[int32]*report // by partition
	alerts  map[condition]*operationalAlert
	last    int64 // the greatest opened so far
}

// operationalAlert is the open alert about a condition.
type operationalAlert struct {
	opened     int64 // event time at which it fired, ms, moved on where needed so that no two alerts have the same: part of the id
	since      int64 // the earliest that any partition told, ms
	at         int64 // event time of the last step, ms
	severity   alerts.Severity
	revision   uint32
	detail     string
	partitions []int32 // that have reported it, ascending
}

func newOperations() *operations {
	return &operations{reports: map[int32]*report{}, alerts: map[condition]*operationalAlert{}}
}

// apply takes the report of a partition in place of its last one and returns the steps that follow. While the reports are not complete,
// because some partition has never told anything, nothing is resolved: that partition may yet say the same.
func (o *operations) apply(partition int32, r *report, complete bool) (steps []*alerts.Operational) {
	o.reports[partition] = r
	for i := range r.holdings {
		if step := o.stand(partition, r.at, &r.holdings[i]); step != nil {
			steps = append(steps, step)
		}
	}
	if !complete {
		return steps
	}
	return append(steps, o.over(r.at)...)
}

// forget drops the report of a partition that does not exist any more.
func (o *operations) forget(partition int32) []*alerts.Operational {
	at := o.reports[partition].at
	delete(o.reports, partition)
	return o.over(at)
}

// stand notes that a condition holds in a partition and returns the step to publish, nil when nothing changed.
func (o *operations) stand(partition int32, at int64, s *holding) *alerts.Operational {
	a := o.alerts[s.condition]
	kind := alerts.StepChanged
	if a == nil {
		kind = alerts.StepFired
		o.last = max(at, o.last+1)
		a = &operationalAlert{opened: o.last, since: s.since}
		o.alerts[s.condition] = a
	}
	a.since = min(a.since, s.since)
	if i, known := slices.BinarySearch(a.partitions, partition); !known {
		a.partitions = slices.Insert(a.partitions, i, partition)
	}
	if s.detail != "" {
		a.detail = s.detail
	}
	if s.severity <= a.severity && kind == alerts.StepChanged {
		return nil
	}
	a.severity = max(a.severity, s.severity)
	return a.step(s.condition, kind, at)
}

// over resolves the alerts that no partition reports any more, in the order of their keys.
func (o *operations) over(at int64) (steps []*alerts.Operational) {
	gone := maps.Clone(o.alerts)
	for _, r := range o.reports {
		for i := range r.holdings {
			delete(gone, r.holdings[i].condition)
		}
	}
	for _, c := range slices.SortedFunc(maps.Keys(gone), condition.compare) {
		step := gone[c].step(c, alerts.StepResolved, at)
		step.Reason = alerts.ReasonRecovered
		steps = append(steps, step)
		delete(o.alerts, c)
	}
	return steps
}

func (c condition) compare(d condition) int {
	if n := strings.Compare(c.subject, d.subject); n != 0 {
		return n
	}
	return strings.Compare(string(c.kind), string(d.kind))
}

// step is the next step of an alert. Its time does not go back, although the clocks of the partitions differ.
func (a *operationalAlert) step(c condition, kind alerts.StepKind, at int64) *alerts.Operational {
	a.at = max(a.at, at)
	a.revision++
	return &alerts.Operational{
		Kind: c.kind, Subject: c.subject, Step: kind, Severity: a.severity, Revision: a.revision,
		At: a.at, Opened: a.opened, Since: a.since, Detail: a.detail, Partitions: slices.Clone(a.partitions),
	}
}

// append encodes the open alerts; the reports are stored one by one.
func (o *operations) append(b []byte) []byte {
	b = binary.AppendVarint(b, o.last)
	b = binary.AppendUvarint(b, uint64(len(o.alerts)))
	for _, c := range slices.SortedFunc(maps.Keys(o.alerts), condition.compare) {
		a := o.alerts[c]
		b = appendString(b, string(c.kind))
		b = appendString(b, c.subject)
		for _, v := range []int64{a.opened, a.since, a.at} {
			b = binary.AppendVarint(b, v)
		}
		b = append(b, byte(a.severity))
		b = binary.AppendUvarint(b, uint64(a.revision))
		b = appendString(b, a.detail)
		b = binary.AppendUvarint(b, uint64(len(a.partitions)))
		for _, p := range a.partitions {
			b = binary.AppendUvarint(b, uint64(p))
		}
	}
	return b
}

func (o *operations) decode(d *decoder) {
	o.last = d.varint()
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		c := condition{alerts.OperationalKind(d.str()), d.str()}
		a := &operationalAlert{opened: d.varint(), since: d.varint(), at: d.varint(), severity: alerts.Severity(d.byte())}
		a.revision, a.detail = uint32(d.uvarint()), d.str()
		for n := d.uvarint(); n > 0 && d.err == nil; n-- {
			a.partitions = append(a.partitions, int32(d.uvarint()))
		}
		o.alerts[c] = a
	}
}

// firing is how many alerts are open, by kind; all known kinds are in it.
func (o *operations) firing() map[alerts.OperationalKind]int {
	n := map[alerts.OperationalKind]int{}
	for _, k := range alerts.OperationalKinds() {
		n[k] = 0
	}
	for c := range o.alerts {
		n[c.kind]++
	}
	return n
}
