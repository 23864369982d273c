package stream

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"ebb/alerts"
	"ebb/detectors/cohorts"
)

// What an earlier version stored of open alerts about many customers is read: they go on, and end, under their ids.
func TestOpenAlertsOfFormat3(t *testing.T) {
	b := binary.AppendVarint(binary.AppendVarint([]byte{3}, -1), 0)
	b = binary.AppendUvarint(b, 1)
	b = binary.AppendVarint(binary.AppendVarint(binary.AppendUvarint(b, 2), 20_000), 19_990)
	b = appendKey(binary.AppendUvarint(b, 1), cohorts.Key{By: cohorts.Owner, Value: "kim"})
	b = binary.AppendVarint(binary.AppendVarint(binary.AppendVarint(b, 1000), 19_980), 12)
	b = binary.AppendUvarint(append(b, byte(alerts.Critical)), 2)
	b = binary.AppendVarint(append(binary.AppendUvarint(b, 1), byte(cohorts.Outflow)), 2000)
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, math.Float64bits(1.5)), math.Float64bits(3))
	b = append(binary.AppendUvarint(binary.AppendUvarint(b, 4), 1), byte(alerts.Warning))
	b = binary.AppendVarint(binary.AppendVarint(appendString(binary.AppendUvarint(b, 1), "web"), 3000), 19_000)
	b = binary.AppendUvarint(b, 1)

	w := newWatching(cohorts.Config{FalseAlarms: 0.5}, nil)
	if err := w.restore(cohortsHead, b); err != nil {
		t.Fatal(err)
	}
	kim, outflow, web := w.open.Cohorts[cohorts.Key{By: cohorts.Owner, Value: "kim"}], w.open.Totals[cohorts.Outflow], w.open.Intakes["web"]
	if w.levels.told[2] != 20_000 || w.quiet[2] != 19_990 || kim == nil || outflow == nil || web == nil {
		t.Fatalf("%+v", w)
	}
	if kim.Opened != 1000 || kim.Since != 19_980 || kim.Leavers != 12 || kim.Severity != alerts.Critical || kim.Revision != 2 {
		t.Errorf("%+v", kim)
	}
	if outflow.Opened != 2000 || outflow.UsualThen != 1.5 || outflow.EachThen != 3 || outflow.Lasted != 4 || outflow.Revision != 1 || outflow.Severity != alerts.Warning {
		t.Errorf("%+v", outflow)
	}
	if web.Opened != 3000 || web.Began != 19_000*dayMs || web.Revision != 1 || web.Severity != alerts.Warning {
		t.Errorf("%+v", web)
	}
	for n := 1; n < len(b); n++ {
		if err := newWatching(cohorts.Config{}, nil).restore(cohortsHead, b[:n]); err == nil {
			t.Errorf("%d of %d bytes were read", n, len(b))
		}
	}
	for _, version := range []byte{0, 1, 2, cohortsFormat + 1} {
		if err := newWatching(cohorts.Config{}, nil).restore(cohortsHead, []byte{version}); err == nil {
			t.Errorf("format %d was read", version)
		}
	}
}

// A task record of version 7 told five stages and no digest of what they were counted by: they are counted anew.
func TestTaskRecordOfVersion7(t *testing.T) {
	r := taskRecord{group: "g", cluster: "c", partitions: 3, clock: 5000, kept: 90}
	r.tally.open = map[tallyKey]tallySum{{detector: "silence", severity: 1, tier: otherTier}: {count: 4, atRisk: 9}}
	r.census.begin([]cohorts.Dimension{cohorts.Everybody}, true)
	r.census.sizes[cohorts.Key{}] = 17
	now := r.append(nil)
	sums := len(r.tally.append(nil))
	at := bytes.Index(now, r.tally.append(nil))
	old := r.tally.append(nil)[len(binary.AppendUvarint(nil, 0))+numStages:] // every stage is 0, one byte
	five := append(make([]byte, 5), old...)
	b := append(append(append([]byte{}, now[:at]...), five...), now[at+sums:]...)
	b[0] = 7
	got, err := decodeTaskRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if got.tally.basis != 0 || got.tally.open[tallyKey{"silence", 1, otherTier}].count != 4 || got.census.sizes[cohorts.Key{}] != 17 || got.clock != 5000 {
		t.Errorf("%+v", got)
	}
}
