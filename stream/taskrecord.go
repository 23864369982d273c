package stream

import (
	"encoding/binary"
	"errors"
	"fmt"

	"ebb/detectors"
	"ebb/stream/event"
)

// taskRecordVersion is the first byte of an encoded task record. Older versions stay readable.
const taskRecordVersion = 8

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
	// quarantined is the event time since when there are quarantined customers, ms; 0 when there are none.
	quarantined int64
	kept        int32 // days that the windows of the customers hold; 0 in a record of an earlier version
	// windowsFrom is the event time since which they hold all of them, ms: not 0 once they were made longer.
	windowsFrom int64
	tally       tally
	verdicts    verdicts
	feeds       [event.NumFeeds]feedRecord
	reroute     rerouteRecord
	census      census
}

// keep notes how many days the windows hold from now on. Longer ones are filled day by day, or by a rewind: what had left them before is not known.
func (r *taskRecord) keep(days int) {
	was := int64(r.kept)
	r.kept = int32(days)
	if was != 0 && int64(days) > was {
		r.windowsFrom = max(r.windowsFrom, r.clock-(was-1)*dayMs)
	}
}

// rerouteRecord is how far the reroute topic is applied.
type rerouteRecord struct {
	topic    string  // empty: none
	position int64   // everything before it is applied
	read     int64   // what lies before it is applied, but for the lanes that say otherwise
	end      int64   // high watermark when the cut was made
	promised int64   // event time up to which this task has promised to forward nothing more, ms
	gap      int64   // event time at which it was found that records had been deleted before they were read, ms; 0 when none, or long ago
	marked   bool    // customers of this task were merged into others, perhaps
	own      []int64 // times of what this task forwarded to itself and has not applied yet, ms
	promises []promiseRecord
	lanes    []laneRecord
}

// promiseRecord is the event time before which a task has forwarded everything, ms.
type promiseRecord struct {
	from    int32
	promise int64
}

// laneRecord is how far a lane is applied that is not at read.
type laneRecord struct {
	laneKey
	next int64 // its records before this offset are applied
}

// maxOwn bounds what is decoded of what a task forwarded to itself: it waits for that before it goes on.
const maxOwn = 1 << 24

// maxLanes bounds the tasks that forward: partitions of a topic.
const maxLanes = 1 << 17

// feedRecord is the part of one feed.
type feedRecord struct {
	topic string
	inputRecord
	parts   []*partRecord // the other partitions of a feed that is divided among the tasks
	rhythm  rhythm
	stalled int64 // event time of the last arrival before the present stall, ms; 0 when live
	blind   int64 // event time since when the feed cannot be trusted, ms; 0 when it can
	gap     int64 // event time at which it was found that records had been deleted before they were read, ms; 0 when none, or long ago
	// blindSeverity is that of the blindness, as an alerts.Severity; 0: the least.
	blindSeverity int64
	stalls        []detectors.Interval
}

// inputRecord is how far a partition of a feed is read.
type inputRecord struct {
	begun    bool   // there is something to say
	position int64  // next offset to apply
	end      int64  // high watermark when the cut was made: an end below the position means a recreated topic
	quietEnd int64  // end offset of the feed at the first start: history up to here is quiet
	ahead    []span // offsets from the position on that are forwarded to other tasks already
}

// partRecord is the part of one partition of a feed that is divided among the tasks.
type partRecord struct {
	partition int32
	inputRecord
}

// inputs are all partitions of the feed that a task reads, with its own number.
func (f *feedRecord) inputs(own int32) map[int32]*inputRecord {
	all := make(map[int32]*inputRecord, 1+len(f.parts))
	if f.begun {
		all[own] = &f.inputRecord
	}
	for i := range f.parts {
		all[f.parts[i].partition] = &f.parts[i].inputRecord
	}
	return all
}

// maxAhead bounds the runs of forwarded offsets that are decoded: a lookahead holds no more, but for what two lives leave.
const maxAhead = 1 << 16

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
	b = binary.AppendUvarint(b, uint64(r.kept))
	b = binary.AppendVarint(b, r.windowsFrom)
	b = r.tally.append(b)
	b = r.verdicts.append(b)
	b = binary.AppendUvarint(b, uint64(len(r.feeds)))
	for i := range r.feeds {
		b = r.feeds[i].append(b)
	}
	return r.census.append(r.reroute.append(b))
}

func (r *rerouteRecord) append(b []byte) []byte {
	b = appendString(b, r.topic)
	if r.topic == "" {
		return b
	}
	for _, v := range []int64{r.position, r.read, r.end, r.promised, r.gap} {
		b = binary.AppendVarint(b, v)
	}
	b = append(b, flag(r.marked))
	b = binary.AppendUvarint(b, uint64(len(r.own)))
	for _, at := range r.own {
		b = binary.AppendVarint(b, at-r.promised)
	}
	b = binary.AppendUvarint(b, uint64(len(r.promises)))
	for _, p := range r.promises {
		b = binary.AppendVarint(b, int64(p.from))
		b = binary.AppendVarint(b, p.promise-r.promised)
	}
	b = binary.AppendUvarint(b, uint64(len(r.lanes)))
	for _, l := range r.lanes {
		b = binary.AppendVarint(b, int64(l.from))
		b = append(b, byte(l.feed))
		b = binary.AppendVarint(b, int64(l.part))
		b = binary.AppendVarint(b, l.next-r.position)
	}
	return b
}

func (r *rerouteRecord) decode(d *decoder) {
	if r.topic = d.str(); r.topic == "" {
		return
	}
	for _, p := range []*int64{&r.position, &r.read, &r.end, &r.promised, &r.gap} {
		*p = d.varint()
	}
	r.marked = d.uvarint() == 1
	n := d.uvarint()
	if n > maxOwn {
		d.fail("too many forwarded records")
		return
	}
	for range n {
		r.own = append(r.own, r.promised+d.varint())
	}
	if n = d.uvarint(); n > maxLanes {
		d.fail("too many promises")
		return
	}
	for range n {
		r.promises = append(r.promises, promiseRecord{from: int32(d.varint()), promise: r.promised + d.varint()})
	}
	if n = d.uvarint(); n > maxLanes*event.NumFeeds {
		d.fail("too many lanes")
		return
	}
	for range n {
		k := laneKey{from: int32(d.varint()), feed: event.Feed(d.uvarint()), part: int32(d.varint())}
		r.lanes = append(r.lanes, laneRecord{k, r.position + d.varint()})
	}
}

func (r *inputRecord) append(b []byte) []byte {
	b = append(b, flag(r.begun))
	for _, v := range []int64{r.position, r.end, r.quietEnd} {
		b = binary.AppendVarint(b, v)
	}
	b = binary.AppendUvarint(b, uint64(len(r.ahead)))
	at := r.position
	for _, s := range r.ahead {
		b = binary.AppendVarint(b, s.from-at)
		b = binary.AppendVarint(b, s.to-s.from)
		at = s.to
	}
	return b
}

func (r *inputRecord) decode(d *decoder, version byte) {
	r.begun = version < 3 || d.uvarint() == 1
	r.position, r.end, r.quietEnd = d.varint(), d.varint(), d.varint()
	if version < 3 {
		return
	}
	n := d.uvarint()
	if n > maxAhead {
		d.fail("too many runs of forwarded records")
		return
	}
	at := r.position
	for range n {
		from := at + d.varint()
		at = from + d.varint()
		r.ahead = append(r.ahead, span{from, at})
	}
}

func (f *feedRecord) append(b []byte) []byte {
	b = appendString(b, f.topic)
	if f.topic == "" {
		return b
	}
	b = f.inputRecord.append(b)
	b = binary.AppendUvarint(b, uint64(len(f.parts)))
	for i := range f.parts {
		b = binary.AppendVarint(b, int64(f.parts[i].partition))
		b = f.parts[i].inputRecord.append(b)
	}
	for _, v := range []int64{f.stalled, f.blind, 0, 0, f.gap, f.blindSeverity} { // two places are free
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
	version := b[0]
	d := &decoder{b: b[1:]}
	r := &taskRecord{group: d.str(), cluster: d.str()}
	if b[0] >= 2 {
		r.partitions, r.mark = int32(d.uvarint()), mark{work: d.str(), note: d.str()}
	}
	r.clock, r.stopped = d.varint(), d.varint()
	r.quiet = d.uvarint() == 1
	r.quarantined = d.varint()
	if version >= 4 {
		r.kept, r.windowsFrom = int32(d.uvarint()), d.varint()
	}
	r.tally.decode(d, version)
	if version >= 5 {
		r.verdicts.decode(d)
	}
	n := d.uvarint()
	if n > uint64(len(r.feeds)) {
		d.fail("too many feeds")
		n = 0
	}
	for i := range r.feeds[:n] {
		r.feeds[i].decode(d, event.Feed(i), version)
	}
	if version >= 3 {
		r.reroute.decode(d)
	}
	if version >= 7 {
		r.census.decode(d)
	}
	if d.err == nil && len(d.b) != 0 {
		d.fail("bytes left over")
	}
	if d.err != nil {
		return r, fmt.Errorf("task record: %w", d.err)
	}
	return r, nil
}

func (f *feedRecord) decode(d *decoder, feed event.Feed, version byte) {
	f.topic = d.str()
	if f.topic == "" {
		return
	}
	f.inputRecord.decode(d, version)
	if version >= 3 {
		f.decodeParts(d, version)
	}
	var free int64
	for _, p := range []*int64{&f.stalled, &f.blind, &free, &free, &f.gap, &f.blindSeverity} {
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

func (f *feedRecord) decodeParts(d *decoder, version byte) {
	n := d.uvarint()
	if n > maxLanes {
		d.fail("too many partitions")
		return
	}
	for range n {
		p := &partRecord{partition: int32(d.varint())}
		p.inputRecord.decode(d, version)
		f.parts = append(f.parts, p)
	}
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}
