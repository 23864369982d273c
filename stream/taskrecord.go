package stream

import (
	"encoding/binary"
	"errors"
	"fmt"

	"ebb/detectors"
	"ebb/stream/event"
)

// taskRecordVersion is the first byte of an encoded task record. Older versions stay readable.
const taskRecordVersion = 2

// errNewerRecord is returned for a task record of a later format.
var errNewerRecord = errors.New("task record was written by a newer ebb; run that version or newer")

// taskRecord is what is true of a task as a whole. It is part of every cut, under a reserved key of the changelog, so that
// one replay restores customers, input positions, clock and health together.
type taskRecord struct {
	group   string
	cluster string
	// partitions is the count of the feeds that the state was built for; 0 in a record of version 1.
	partitions int32
	mark       mark  // not zero: no task may run on this state
	clock      int64 // task clock, ms of event time
	stopped    int64 // event time at which the task stopped for a fault, ms; 0 when it runs
	quiet      bool  // history is applied without publishing
	// quarantined is since when the alert about quarantined customers counts, ms; 0 when there is none.
	quarantined int64
	tally       tally
	feeds       [event.NumFeeds]feedRecord
}

// feedRecord is the part of one feed.
type feedRecord struct {
	topic    string
	position int64 // next offset to apply
	end      int64 // high watermark when the cut was made: an end below the position means a recreated topic
	quietEnd int64 // end offset of the feed at the first start: history up to here is quiet
	rhythm   rhythm
	stalled  int64 // event time of the last arrival before the present stall, ms; 0 when live
	blind    int64 // event time since when the feed cannot be trusted, ms; 0 when it can
	// Since when the operational alerts count, which other partitions may have begun earlier; gap is that of records
	// that were deleted before they were read. 0: no alert.
	stallAlert, blindAlert, gap int64
	blindSeverity               int64 // of the alert, as far as this task raised it
	stalls                      []detectors.Interval
}

// maxStalls bounds the remembered stalls of a feed; the oldest go first.
const maxStalls = 16

func (r *taskRecord) append(b []byte) []byte {
	b = append(b, taskRecordVersion)
	b = appendString(b, r.group)
	b = appendString(b, r.cluster)
	b = binary.AppendUvarint(b, uint64(r.partitions))
	b = appendString(b, r.mark.work)
	b = appendString(b, r.mark.note)
	b = binary.AppendVarint(b, r.clock)
	b = binary.AppendVarint(b, r.stopped)
	b = append(b, flag(r.quiet))
	b = binary.AppendVarint(b, r.quarantined)
	b = r.tally.append(b)
	b = binary.AppendUvarint(b, uint64(len(r.feeds)))
	for i := range r.feeds {
		b = r.feeds[i].append(b)
	}
	return b
}

func (f *feedRecord) append(b []byte) []byte {
	b = appendString(b, f.topic)
	if f.topic == "" {
		return b
	}
	for _, v := range []int64{f.position, f.end, f.quietEnd, f.stalled, f.blind, f.stallAlert, f.blindAlert, f.gap, f.blindSeverity} {
		b = binary.AppendVarint(b, v)
	}
	b = binary.AppendUvarint(b, uint64(len(f.stalls)))
	for _, s := range f.stalls {
		b = binary.AppendVarint(b, s.From)
		b = binary.AppendVarint(b, s.To-s.From)
	}
	return f.rhythm.append(b)
}

func decodeTaskRecord(b []byte) (*taskRecord, error) {
	if len(b) == 0 {
		return nil, errors.New("task record is empty")
	}
	if b[0] > taskRecordVersion {
		return nil, fmt.Errorf("format %d: %w", b[0], errNewerRecord)
	}
	d := &decoder{b: b[1:]}
	r := &taskRecord{group: d.str(), cluster: d.str()}
	if b[0] >= 2 {
		r.partitions, r.mark = int32(d.uvarint()), mark{work: d.str(), note: d.str()}
	}
	r.clock, r.stopped = d.varint(), d.varint()
	r.quiet = d.uvarint() == 1
	r.quarantined = d.varint()
	r.tally.decode(d)
	n := d.uvarint()
	if n > uint64(len(r.feeds)) {
		d.fail("too many feeds")
		n = 0
	}
	for i := range r.feeds[:n] {
		r.feeds[i].decode(d, event.Feed(i))
	}
	if d.err == nil && len(d.b) != 0 {
		d.fail("bytes left over")
	}
	return r, d.err
}

func (f *feedRecord) decode(d *decoder, feed event.Feed) {
	f.topic = d.str()
	if f.topic == "" {
		return
	}
	for _, p := range []*int64{&f.position, &f.end, &f.quietEnd, &f.stalled, &f.blind, &f.stallAlert, &f.blindAlert, &f.gap, &f.blindSeverity} {
		*p = d.varint()
	}
	n := d.uvarint()
	if n > maxStalls {
		d.fail("too many stalls")
		return
	}
	for range n {
		from := d.varint()
		f.stalls = append(f.stalls, detectors.Interval{Feed: feed, From: from, To: from + d.varint()})
	}
	f.rhythm.decode(d)
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}
