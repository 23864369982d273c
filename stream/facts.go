package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"ebb/alerts"
)

// A fact is what one task tells the second stage (secondstage.go), within a cut. It is a record of the topic `facts`:
//
//	key     KIND/PARTITION, such as conditions/3
//	value   version (1 byte), group (text), then by kind
//
//	conditions: clock of the task (varint, ms), number (uvarint), then for each condition that holds in the partition:
//	            kind, subject (text), since (varint, ms), severity (1 byte), detail (text); text is length (uvarint) and bytes
//
// A fact of kind conditions is the complete set: it replaces what the partition told before, so that none is lost for longer than until
// the next, however it was lost. Facts of kinds that the reader does not know are passed over.

// factConditions is the kind of the facts that carry a report.
const factConditions = "conditions"

// factVersion is the first byte of the value of a fact. Older versions stay readable.
const factVersion = 1

// errNewerFact is returned for a fact of a later format.
var errNewerFact = errors.New("fact was written by a newer ebb; run that version or newer")

// condition identifies what an operational alert is about, such as feed/usage/stalled. It is the alert's key.
type condition struct {
	kind    alerts.OperationalKind
	subject string
}

// holding is a condition that holds in one partition.
type holding struct {
	condition
	since    int64 // event time, ms
	severity alerts.Severity
	detail   string // what exactly, and what mends it; may be empty
}

// report is the complete set of the conditions that hold in a partition.
type report struct {
	group    string
	at       int64 // the task's clock, ms
	holdings []holding
}

// maxDetail bounds the detail of a condition, in bytes, and maxHoldings the conditions of a report.
const (
	maxDetail   = 2 << 10
	maxHoldings = 1 << 10
)

func factKey(kind string, partition int32) []byte {
	return strconv.AppendInt([]byte(kind+"/"), int64(partition), 10)
}

// splitFactKey is the inverse of factKey; ok is false for a key that is not of this form.
func splitFactKey(key []byte) (kind string, partition int32, ok bool) {
	kind, number, ok := strings.Cut(string(key), "/")
	n, err := strconv.ParseUint(number, 10, 31)
	return kind, int32(n), ok && err == nil
}

// appendHoldings encodes a set of conditions.
func appendHoldings(b []byte, all []holding) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	for i := range all {
		s := &all[i]
		b = appendString(b, string(s.kind))
		b = appendString(b, s.subject)
		b = binary.AppendVarint(b, s.since)
		b = append(b, byte(s.severity))
		b = appendString(b, s.detail[:min(len(s.detail), maxDetail)])
	}
	return b
}

func appendReport(b []byte, r *report) []byte {
	b = appendString(append(b, factVersion), r.group)
	return appendHoldings(binary.AppendVarint(b, r.at), r.holdings)
}

// openFact begins to read a fact. Of every kind it is a version (1 byte), the group (text), and what the kind holds.
func openFact(b []byte) (d *decoder, group string, err error) {
	if len(b) == 0 {
		return nil, "", errors.New("fact is empty")
	}
	if b[0] > factVersion {
		return nil, "", fmt.Errorf("format %d: %w", b[0], errNewerFact)
	}
	d = &decoder{b: b[1:]}
	if group = d.str(); d.err != nil {
		return nil, "", fmt.Errorf("fact: %w", d.err)
	}
	return d, group, nil
}

// closeFact ends the reading of a fact. The error is that of what was read, or that more is there.
func (d *decoder) closeFact() error {
	if d.err == nil && len(d.b) != 0 {
		d.fail("bytes left over")
	}
	if d.err != nil {
		return fmt.Errorf("fact: %w", d.err)
	}
	return nil
}

func decodeReport(b []byte) (*report, error) {
	d, group, err := openFact(b)
	if err != nil {
		return nil, err
	}
	r := &report{group: group, at: d.varint()}
	n := d.uvarint()
	if n > maxHoldings {
		d.fail("too many conditions")
	}
	for i := uint64(0); i < n && d.err == nil; i++ {
		s := holding{condition: condition{alerts.OperationalKind(d.str()), d.str()}, since: d.varint()}
		s.severity, s.detail = alerts.Severity(d.byte()), d.str()
		r.holdings = append(r.holdings, s)
	}
	if err := d.closeFact(); err != nil {
		return nil, err
	}
	return r, nil
}

// conditions lists what is wrong in this partition as far as a task record says, and with the disk. detail is what stopped the task, or
// empty.
func (t *task) conditions(r *taskRecord, detail string, all []holding) []holding {
	add := func(kind alerts.OperationalKind, subject string, since int64, severity alerts.Severity, detail string) {
		all = append(all, holding{condition{kind, subject}, since, severity, detail})
	}
	partition := "partition/" + strconv.Itoa(int(t.partition))
	if r.stopped != 0 {
		add(alerts.TaskStopped, partition, r.stopped, alerts.Critical, detail)
	}
	if r.quarantined != 0 {
		add(alerts.CustomerQuarantined, partition, r.quarantined, alerts.Warning, "")
	}
	if t.diskHeld != 0 {
		add(alerts.DiskReserve, "instance/"+t.cfg.Instance, t.diskHeld, alerts.Critical, "")
	}
	if r.reroute.gap != 0 {
		add(alerts.RetentionGap, "feed/"+rerouteName, r.reroute.gap, alerts.Critical, "")
	}
	for _, s := range t.sources {
		if t.byFeed[s.feed] != s { // another partition of the same feed
			continue
		}
		f := &r.feeds[s.feed]
		subject := "feed/" + s.feed.String()
		if f.stalled != 0 {
			add(alerts.FeedStalled, subject, f.stalled, alerts.Critical, "")
		}
		if f.blind != 0 {
			add(alerts.FeedBlind, subject, f.blind, max(alerts.Warning, alerts.Severity(f.blindSeverity)), detail)
		}
		if f.gap != 0 {
			add(alerts.RetentionGap, subject, f.gap, alerts.Critical, "")
		}
	}
	return all
}

// told is what the task has put into its cuts.
type told struct {
	holdings []byte // the encoded set, nil before the first of this life
	at       time.Time
	set      []holding // reused
	next     []byte
}

// tell puts the conditions of the partition into the next cut when they have changed, and that is then due at once. It does so too when the
// task has opened, since whoever folds them believes of a partition what its last owner told; and again after a day, because the topic
// keeps facts for a few days only. Both can wait for other changes for a while.
func (t *task) tell() {
	d := &t.told
	d.set = t.conditions(t.rec, "", d.set[:0])
	d.next = appendHoldings(d.next[:0], d.set)
	now := t.tick()
	changed := !bytes.Equal(d.next, d.holdings)
	if !changed && now.Sub(d.at) < tellAgain {
		return
	}
	t.cutNow = t.cutNow || changed && (d.holdings != nil || len(d.set) != 0)
	t.moved = true
	switch {
	case changed && len(d.set) != 0:
		t.log.Warn("what is wrong in this partition has changed", "now", fmt.Sprint(names(d.set)))
	case changed && d.holdings != nil:
		t.log.Info("nothing is wrong in this partition any more")
	}
	d.holdings, d.at = slices.Clone(d.next), now
	t.outbox.add(t.cfg.Topics.Facts, t.fact(t.clock, d.set))
}

// tellAgain is after how long a partition's conditions are told again although nothing has changed.
const tellAgain = 24 * time.Hour

// names are the keys of conditions, for the log.
func names(all []holding) []string {
	keys := make([]string, len(all))
	for i := range all {
		keys[i] = (&alerts.Operational{Kind: all[i].kind, Subject: all[i].subject}).Key()
	}
	return keys
}

// fact is the record that reports the conditions of this partition as of event time at.
func (t *task) fact(at int64, all []holding) alerts.Message {
	if at == 0 {
		at = t.now().UnixMilli()
	}
	return alerts.Message{Key: factKey(factConditions, t.partition), Value: appendReport(nil, &report{group: t.cfg.Group, at: at, holdings: all})}
}
