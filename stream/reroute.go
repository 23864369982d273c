package stream

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"ebb/alerts"
	"ebb/stream/batch"
	"ebb/stream/event"
	"ebb/stream/fetch"
)

// This file is the way of records to the task that they belong to, through the topic `reroute`: as many partitions as there
// are tasks, partition p is read by task p.
//
//	task s: decode ──not mine──▶ outbox ──cut──▶ reroute/p ──▶ task p: lane of s ──merge by event time──▶ apply
//	        promise ─────────────outbox ──cut──▶ reroute/p
//
// A record is forwarded when its source decodes it, which runs ahead of what the source applies, and within a cut. The task
// record holds which of the records behind the position are forwarded already, so that each is forwarded once. What is
// not mine is always a question of the present number of tasks: after a growth of the feeds, records that lie in their old
// partition are forwarded like any other that is misplaced, and so is one that was on its way meanwhile.
//
// The target keeps a lane for each partition of a feed from which something came: a queue, in the order of that partition. The lanes
// are merged with the feeds by event time. A promise says that its task has forwarded everything before a time; while
// catching up, no record is applied that is later than the promise of another task. Promises are made by what is decoded, not by
// what is applied, and the task with the earliest record of all can always go on; so tasks that wait for each other come
// forward by a whole lookahead with every exchange. A task within max_out_of_order of the wall clock waits for nobody with its
// records, but for those of customers with a deadline that lies before them and is not decided; its deadlines wait for the promises, which are in time if they are less than max_out_of_order old.
//
// How far the topic is read is one offset for each lane: records are taken out of the order of the offsets, but never out
// of the order of their lane.

// RerouteConfig bounds the traffic between tasks.
type RerouteConfig struct {
	// Interval is the least time between two promises of a live task, in event time. While others catch up on them they come more often.
	Interval time.Duration
	// Buffer is how many bytes of records the tasks of an instance hold together that wait for their turn. When the part of a task is full
	// and nothing else can go on, the earliest is applied before its turn, and counted. 0: 64 MB.
	Buffer int64
}

func (c RerouteConfig) intervalMs() int64 { return max(c.Interval, time.Millisecond).Milliseconds() }

// rerouteName is what the reroute topic is called where feeds have their names.
const rerouteName = "reroute"

// reroutedLookahead is how many times as far a feed is decoded ahead where records are forwarded: with every exchange of promises
// tasks come forward by so much.
const reroutedLookahead = 4

// span is a run of offsets [from, to).
type span struct{ from, to int64 }

func contains(spans []span, offset int64) bool {
	for _, s := range spans {
		if offset >= s.from && offset < s.to {
			return true
		}
	}
	return false
}

// extend adds one offset behind the others.
func extend(spans []span, offset int64) []span {
	if n := len(spans); n != 0 && spans[n-1].to == offset {
		spans[n-1].to++
		return spans
	}
	return append(spans, span{offset, offset + 1})
}

// forwarded are the offsets behind the position of a feed that need not be forwarded again.
func (s *source) forwarded() []span {
	var out []span
	for sl := range s.decoded() {
		if sl.sent {
			out = extend(out, sl.rec.Offset)
		}
	}
	next := s.position
	if s.n != 0 {
		next = s.nth(s.n-1).rec.Offset + 1
	}
	for _, a := range s.ahead { // what an earlier life had decoded and this one has not yet
		if a.to > next {
			out = append(out, span{max(a.from, next), a.to})
		}
	}
	return out
}

// front is how far a feed is decoded, in event time: the smallest of the latest decoded records, so that one wrong timestamp moves
// nothing.
type front struct {
	latest [64]int64
	n      int
}

func (f *front) saw(t int64) {
	f.latest[f.n%len(f.latest)] = t
	f.n++
}

func (f *front) reached() int64 {
	if f.n == 0 {
		return 0
	}
	return slices.Min(f.latest[:min(f.n, len(f.latest))])
}

// origin is where a rerouted record lay.
type origin struct {
	topic   string
	part    int32
	headers []alerts.Header
}

// whereOf is where the record of a slot lies, or lay before it was forwarded.
func whereOf(s *source, sl *slot) event.Position {
	p := s.whereabouts(sl)
	if sl.origin != nil {
		p.Topic, p.Partition = sl.origin.topic, sl.origin.part
	}
	return p
}

// parcel is one forwarded record that waits for its turn.
type parcel struct {
	slot
	feed *source // of the same role here; nil if this task reads none
	at   int64   // offset in the reroute topic
	size int64
	as   string // the customer to whom it counts, where another goes on in place of its own

	joins bool     // it is what is known of a customer who was merged
	path  []string // through whose records that came
}

// lane is what one task forwards out of one partition of a feed.
type lane struct {
	laneKey
	held []*parcel
	next int64 // records of the lane before this offset are applied
}

type laneKey struct {
	from int32
	feed event.Feed
	part int32
}

func (k laneKey) compare(o laneKey) int {
	return cmp.Or(cmp.Compare(k.from, o.from), cmp.Compare(k.feed, o.feed), cmp.Compare(k.part, o.part))
}

// sender is another task that may forward to this one.
type sender struct {
	from    int32
	promise int64 // event time before which it has forwarded everything, ms; 0 when nothing is known
	moved   int64 // reading of waited when the promise moved last
	out     bool  // it gave no promise for too long
}

// time is the event time of the next record of a lane; one that cannot be applied, or does not wait for the merge, has none.
func (l *lane) time() int64 {
	p := l.held[0]
	if !p.timed() || p.ev.Feed == event.Customers {
		return 0
	}
	return p.ev.Time
}

// first is the event time of the first record of a lane that has one; never if none has.
func (l *lane) first() int64 {
	if l.feed == event.Customers {
		return never
	}
	for _, p := range l.held {
		if p.timed() {
			return p.ev.Time
		}
	}
	return never
}

// reroute is the reading end of the reroute topic in one task, and the promises that the task gives.
type reroute struct {
	topic   string
	fetch   *fetch.Partition
	status  fetch.Status
	senders []*sender // by task
	lanes   map[laneKey]*lane
	full    []*lane // those that hold something
	bytes   int64
	room    int64 // for them
	read    int64 // next offset to read
	settled int64 // an earlier life had read so far: what lies before it is applied, but for the lanes that say otherwise
	ended   bool  // the last look found the end of the partition

	// hold and clock bound what may be applied, and how far the clock may go: see lookAtLanes.
	hold, clock int64
	liveFrom    int64
	waited      int64 // time spent at the end of the partition with promises missing, ms
	looked      int64 // wall clock of the last look, ms

	own []int64 // times of what this task forwarded to itself and has not applied yet

	promise  int64 // of this task, ms of event time
	promised int64 // the last one in a cut
	sentAt   int64 // wall clock of it, ms
	decoded  int   // records decoded since
	stuck    bool  // records wait for promises of others
}

func (r *reroute) lane(k laneKey) *lane {
	l := r.lanes[k]
	if l == nil {
		l = &lane{laneKey: k, next: r.settled}
		r.lanes[k] = l
	}
	return l
}

// sender is the task of a number; nil for one that does not exist now.
func (r *reroute) sender(from int32) *sender {
	i, ok := slices.BinarySearchFunc(r.senders, from, func(s *sender, f int32) int { return cmp.Compare(s.from, f) })
	if !ok {
		return nil
	}
	return r.senders[i]
}

// newReroute takes the topic up where the task record says, or at its start.
func (t *task) newReroute(rec *rerouteRecord) *reroute {
	r := &reroute{
		topic: rec.topic, read: rec.position, settled: rec.read, hold: never, clock: never, promise: rec.promised, promised: rec.promised,
		lanes: map[laneKey]*lane{}, own: slices.Clone(rec.own),
	}
	for p := range t.partitions {
		if p != t.partition {
			r.senders = append(r.senders, &sender{from: p})
		}
	}
	for _, p := range rec.promises {
		if s := r.sender(p.from); s != nil {
			s.promise = p.promise
		}
	}
	for _, l := range rec.lanes {
		r.lane(l.laneKey).next = l.next
	}
	r.room = cmp.Or(t.cfg.Reroute.Buffer, defaultRoom)
	if t.lease != nil {
		r.room = max(1, r.room/int64(max(1, len(t.lease.Partitions))))
	}
	return r
}

// position is the offset before which everything is applied.
func (r *reroute) position() int64 {
	pos := r.read
	for _, l := range r.full {
		pos = min(pos, l.held[0].at)
	}
	return pos
}

// record writes into the task record how far the lanes are applied.
func (r *reroute) record(rec *rerouteRecord) {
	rec.position, rec.read, rec.end, rec.promised = r.position(), max(r.read, r.settled), r.status.HighWatermark, r.promised
	rec.own = append(rec.own[:0], r.own...)
	rec.promises, rec.lanes = rec.promises[:0], rec.lanes[:0]
	for _, s := range r.senders {
		if s.promise != 0 {
			rec.promises = append(rec.promises, promiseRecord{s.from, s.promise})
		}
	}
	for _, l := range r.lanes {
		next := max(l.next, r.read)
		if len(l.held) != 0 {
			next = l.held[0].at
		}
		if next != rec.read {
			rec.lanes = append(rec.lanes, laneRecord{l.laneKey, next})
		}
	}
	slices.SortFunc(rec.lanes, func(a, b laneRecord) int { return a.compare(b.laneKey) })
}

const defaultRoom = 64_000_000

// receive takes in what other tasks forwarded, until the end of the topic or of the room for it. For what an earlier life held there was room.
func (t *task) receive() error {
	r := t.reroute
	for r.bytes < r.room || r.read < r.settled {
		b, st := r.fetch.Poll()
		r.status, r.ended = st, b == nil && st.AtEnd
		if b == nil {
			r.read = max(r.read, st.Delivered)
			return t.mendReroute(st.Err)
		}
		for i := range b.Len() {
			rec := b.At(i)
			t.accept(&rec)
		}
		r.read = b.NextOffset()
		b.Release()
	}
	r.ended = false
	return nil
}

// mendReroute goes on behind records that retention has removed, and names the loss. Other faults stop the task.
func (t *task) mendReroute(err error) error {
	r := t.reroute
	var gap *fetch.ErrRetentionGap
	var beyond *fetch.ErrBeyondEnd
	switch {
	case err == nil:
		return nil
	case errors.As(err, &gap):
		t.rerouteGap(gap.Position, gap.Start)
		r.own = r.own[:min(r.heldOwn(t.partition), len(r.own))] // what was deleted is not waited for
		r.read = gap.Start
		r.fetch.SeekTo(gap.Start)
		return nil
	case errors.As(err, &beyond):
		return &feedError{&BeyondEndError{Group: t.cfg.Group, Topic: r.topic, Partition: t.partition, Position: beyond.Position, End: beyond.End}}
	}
	return &feedError{fmt.Errorf("records that other tasks forwarded, topic %s partition %d: %w", r.topic, t.partition, err)}
}

// heldOwn is how much of what a task forwarded to itself is held.
func (r *reroute) heldOwn(own int32) (n int) {
	for _, l := range r.full {
		if l.from == own {
			n += len(l.held)
		}
	}
	return n
}

// accept puts one record of the topic into its lane.
func (t *task) accept(rec *batch.Record) {
	env := openEnvelope(rec)
	r := t.reroute
	if s := r.sender(env.task); s != nil && env.promise > s.promise {
		s.promise, s.moved, s.out = env.promise, r.waited, false
	}
	if env.kind == parcelPromise {
		return
	}
	l := r.lane(env.lane())
	if rec.Offset < l.next {
		return // applied in an earlier life
	}
	p := t.unpack(rec, env)
	if len(l.held) == 0 {
		r.full = append(r.full, l)
	}
	l.held = append(l.held, p)
	r.bytes += p.size
}

// unpack makes a record of its own out of one of the topic, and decodes it like its feed.
func (t *task) unpack(rec *batch.Record, env envelope) *parcel {
	p := &parcel{at: rec.Offset, size: int64(len(rec.Key)+len(rec.Value)) + parcelBytes}
	p.rec = batch.Record{Offset: env.at.Offset, Timestamp: env.at.Timestamp, LogAppend: env.at.BrokerTime, Key: bytes.Clone(rec.Key), Value: bytes.Clone(rec.Value)}
	p.origin = &origin{topic: env.at.Topic, part: env.at.Partition, headers: env.headers}
	for _, h := range env.headers {
		p.size += int64(len(h.Key) + len(h.Value))
	}
	if env.kind != parcelUnknown {
		p.feed = t.byFeed[env.feed]
	}
	if p.feed == nil {
		p.feed = t.sources[0]
		p.reject = &event.Reject{Reason: event.ReasonMisplaced, Message: "this record of the reroute topic is of a feed that is not read, or not ebb's"}
		return p
	}
	if env.kind == parcelCustomer {
		p.joins, p.path, p.as = true, env.path, string(p.rec.Key)
		p.ev = event.Event{Feed: event.Control, Kind: event.KindMerge, Time: env.time, Customer: p.rec.Key}
		return p
	}
	p.as = env.as
	defer p.rename()
	if err := decodeInto(p.feed.dec, env.at, &p.slot); err != nil {
		p.reject = &event.Reject{Reason: event.ReasonInternalError, Message: "decoding this record failed"}
	}
	return p
}

// parcelBytes is about what a parcel takes beside its content.
const parcelBytes = 640

// shift drops the first record of a lane.
func (t *task) shift(l *lane) {
	r := t.reroute
	p := l.held[0]
	r.bytes -= p.size
	l.next = p.at + 1
	if l.from == t.partition && len(r.own) != 0 {
		r.own = r.own[1:]
		t.lookAtLanes()
	}
	t.moved = true
	l.held[0] = nil
	if l.held = l.held[1:]; len(l.held) == 0 {
		l.held = nil
		r.full = slices.DeleteFunc(r.full, func(x *lane) bool { return x == l })
	}
}

// earliest is the lane whose next record is the earliest of all that are held, nil if none is.
func (r *reroute) earliest() (l *lane, at int64) {
	at = never
	for _, x := range r.full {
		if tm := x.time(); l == nil || tm < at || tm == at && x.compare(l.laneKey) < 0 {
			l, at = x, tm
		}
	}
	return l, at
}

// lookAtLanes finds out what may be applied: hold is the least promise of the tasks that are not live; clock is the same for
// deadlines, and the time of the next record of each lane.
func (t *task) lookAtLanes() {
	r := t.reroute
	wall := t.now().UnixMilli()
	outOfOrder := t.cfg.Time.maxOutOfOrderMs()
	r.liveFrom = wall - max(outOfOrder, 2*t.cfg.Reroute.intervalMs())
	r.wait(wall, t.cfg.Time.FeedUnreachableAfter.Milliseconds())
	r.hold, r.clock = never, never
	for _, l := range r.full {
		r.clock = min(r.clock, l.first())
	}
	for _, at := range r.own {
		r.clock = min(r.clock, at)
		if at < r.liveFrom {
			r.hold = min(r.hold, at)
		}
	}
	for _, s := range r.senders {
		if s.out {
			continue
		}
		if s.promise < r.liveFrom {
			r.hold = min(r.hold, s.promise)
		}
		if s.promise < wall-outOfOrder {
			r.clock = min(r.clock, s.promise)
			t.missing(s)
		}
	}
	if r.rereads() { // the promises were given to an earlier life
		r.hold = 0
		if !t.unanswered(&r.status) { // a live record too: what is earlier may lie there, and a deadline between them
			r.liveFrom = never
		}
	}
	if !r.ended { // what lies behind is not known
		r.clock = min(r.clock, max(t.clock, 1))
	}
}

// rereads is true while what an earlier life held is not all here again.
func (r *reroute) rereads() bool { return r != nil && r.read < r.settled }

// wait counts the time in which a promise could have come: at the end of the topic, and in small portions, so that a
// paused process does not count.
func (r *reroute) wait(wall, enough int64) {
	if r.ended && r.status.Trouble == nil && r.looked != 0 {
		r.waited += max(0, min(wall-r.looked, enough/4))
	}
	r.looked = wall
}

// missing gives a task up that holds others back and has not come forward for too long. Its later records count as late.
func (t *task) missing(s *sender) {
	r := t.reroute
	if s.moved == 0 {
		s.moved = max(r.waited, 1)
	}
	if r.waited-s.moved <= t.cfg.Time.FeedUnreachableAfter.Milliseconds() {
		return
	}
	s.out = true
	t.m.rerouteMissed.Inc()
	t.log.Warn("a task forwards nothing and gives no sign; its later records count as late", "task", s.from, "promise", time.UnixMilli(s.promise).UTC())
}

// passes says whether a record of this event time need not wait for other tasks.
func (r *reroute) passes(at int64) bool {
	if r == nil || at <= r.hold || at >= r.liveFrom {
		return true
	}
	r.stuck = true
	return false
}

// promises brings up to date what this task can promise: event time before which all that it forwards is decoded.
func (t *task) promises() {
	r := t.reroute
	low, first := never, never
	for i, s := range t.merged {
		v := t.views[i]
		if v.out || v.absent {
			continue
		}
		head, timed := s.nextTime()
		if timed {
			first = min(first, head)
		}
		if s.drained && s.status.AtEnd {
			low = min(low, s.status.AtEndSent.UnixMilli()-t.cfg.Time.Grace.Milliseconds())
			continue
		}
		low = min(low, s.front.reached())
		if !timed { // what comes next is not decoded
			first = min(first, s.front.reached())
		}
	}
	if low == never {
		return
	}
	if first != never {
		low = max(low, first)
	}
	low = min(low, t.toMove())
	r.promise = max(r.promise, low)
}

// nextTime is the event time of the first decoded record that has one.
func (s *source) nextTime() (at int64, ok bool) {
	for sl := range s.decoded() {
		if sl.timed() {
			return sl.ev.Time, true
		}
	}
	return 0, false
}

// promiseDue says how long it takes until the promise of this task should be given, as far as it has moved at all.
func (t *task) promiseDue() (in time.Duration, ok bool) {
	r := t.reroute
	if r == nil || t.partitions == 1 || r.promise <= r.promised {
		return 0, false
	}
	wall, interval := t.now().UnixMilli(), t.cfg.Reroute.intervalMs()
	if r.promised >= wall-max(t.cfg.Time.maxOutOfOrderMs()/2, interval) {
		return 0, false // nobody waits for it
	}
	if r.stuck || r.decoded >= lookahead {
		return 0, true
	}
	pace := interval
	if r.promise < r.liveFrom {
		pace = max(1, interval/catchingUp)
	}
	return time.Duration(max(0, r.sentAt+pace-wall)) * time.Millisecond, true
}

// catchingUp is how many times as often promises are given while catching up.
const catchingUp = 20

// give puts the promise of this task into a cut, for every other task.
func (t *task) give() {
	r := t.reroute
	in, ok := t.promiseDue()
	if !ok || in > 0 && !t.cutNow {
		return
	}
	r.promised, r.sentAt, r.decoded, r.stuck = r.promise, t.now().UnixMilli(), 0, false
	m := promiseMessage(t.partition, r.promised)
	for p := range t.partitions {
		if p != t.partition {
			t.outbox.messages = append(t.outbox.messages, message{topic: r.topic, partition: p, Message: m})
		}
	}
}

// forward puts a record of a feed into the next cut, to the task that it belongs to.
func (t *task) forward(s *source, sl *slot, to int32) { t.forwardAs(s, sl, to, "") }

// forwardAs is forward of a record that counts to another customer than it names; empty: to the one that it names.
func (t *task) forwardAs(s *source, sl *slot, to int32, as string) {
	kind := parcelRecord
	if as != "" {
		kind = parcelRecordAs
	}
	m := alerts.Message{Key: bytes.Clone(sl.rec.Key), Value: bytes.Clone(sl.rec.Value), Headers: originalHeaders(sl)}
	m.Headers = appendEnvelope(m.Headers, envelope{kind: kind, task: t.partition, feed: s.feed, at: whereOf(s, sl), as: as})
	t.outbox.addTo(t.cfg.Topics.Reroute, to, m)
	t.m.rerouted[s.feed].Inc()
	t.moved = true
	if t.live && t.outbox.forwardSince.IsZero() {
		t.outbox.forwardSince = t.tick()
	}
}

// forwardLinger is how long a live record that was forwarded waits for others.
const forwardLinger = 20 * time.Millisecond

// takeParcel applies the next record of a lane, forwards it on if it belongs elsewhere by now, or passes it to the dead letters.
func (t *task) takeParcel(l *lane) error {
	p := l.held[0]
	s, sl := p.feed, &p.slot
	if p.joins {
		t.current.feed, t.current.slot = s, sl
		err := t.join(p)
		t.current.feed, t.current.slot = nil, nil
		if err != nil {
			return err
		}
		t.shift(l)
		return nil
	}
	if !sl.ignored {
		if to, known := t.ownerOf(s, p); known && to != t.partition {
			t.forwardAs(s, sl, to, p.as)
			t.shift(l)
			return nil
		}
	}
	if err := t.take(s, sl); err != nil {
		return err
	}
	t.shift(l)
	return nil
}

// ownerOf is the task that a record of the reroute topic belongs to.
func (t *task) ownerOf(s *source, p *parcel) (int32, bool) {
	sl := &p.slot
	if p.as != "" {
		return t.cfg.Check([]byte(p.as), t.partitions), true
	}
	if sl.reject != nil && sl.reject.Reason == event.ReasonMisplaced {
		return 0, false
	}
	return s.owner(sl)
}

func originalHeaders(sl *slot) []alerts.Header {
	if sl.origin != nil {
		return slices.Clone(sl.origin.headers)
	}
	var out []alerts.Header
	for h := range sl.rec.Headers {
		out = append(out, alerts.Header{Key: h.Key, Value: bytes.Clone(h.Value)})
	}
	return out
}

// What a record of the reroute topic is.
const (
	parcelUnknown  = ""
	parcelRecord   = "record"
	parcelPromise  = "promise"
	parcelRecordAs = "record_as" // a record that counts to another customer than it names
	parcelCustomer = "customer"  // what is known of a customer who was merged
)

// envelope is what the last headers of a record of the reroute topic say. They stand behind the record's own, which may have
// the same names.
type envelope struct {
	kind    string
	task    int32 // that wrote it
	feed    event.Feed
	at      event.Position
	promise int64
	as      string          // of parcelRecordAs
	path    []string        // of parcelCustomer
	time    int64           // of parcelCustomer: event time of the merge, ms
	headers []alerts.Header // the record's own
}

// lane is the lane of what the envelope holds. All that follows from merges is one lane of its task: what is known of a customer comes
// before what he did later.
func (e *envelope) lane() laneKey {
	if e.kind == parcelRecordAs || e.kind == parcelCustomer {
		return laneKey{e.task, event.Control, noPartition}
	}
	return laneKey{e.task, e.feed, e.at.Partition}
}

// Names of the headers, in their order; the last one says what it is.
const (
	headerFeed      = "ebb_source_feed"
	headerTopic     = "ebb_source_topic"
	headerPartition = "ebb_source_partition"
	headerOffset    = "ebb_source_offset"
	headerTimestamp = "ebb_source_timestamp"
	headerTimeOf    = "ebb_source_timestamp_type"
	headerPromise   = "ebb_reroute_promise"
	headerAs        = "ebb_reroute_customer"
	headerPath      = "ebb_reroute_path"
	headerTime      = "ebb_reroute_time"
	headerTask      = "ebb_reroute_task"
	headerKind      = "ebb_reroute"
)

const (
	timeOfBroker   = "LogAppendTime"
	timeOfProducer = "CreateTime"
)

func appendEnvelope(hs []alerts.Header, e envelope) []alerts.Header {
	number := func(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
	timeOf := timeOfProducer
	if e.at.BrokerTime {
		timeOf = timeOfBroker
	}
	switch e.kind {
	case parcelRecordAs:
		hs = append(hs, alerts.Header{Key: headerAs, Value: []byte(e.as)})
	case parcelCustomer:
		path, _ := json.Marshal(e.path) // texts always encode
		hs = append(hs, alerts.Header{Key: headerPath, Value: path}, alerts.Header{Key: headerTime, Value: number(e.time)})
	}
	return append(hs,
		alerts.Header{Key: headerFeed, Value: []byte(e.feed.String())},
		alerts.Header{Key: headerTopic, Value: []byte(e.at.Topic)},
		alerts.Header{Key: headerPartition, Value: number(int64(e.at.Partition))},
		alerts.Header{Key: headerOffset, Value: number(e.at.Offset)},
		alerts.Header{Key: headerTimestamp, Value: number(e.at.Timestamp)},
		alerts.Header{Key: headerTimeOf, Value: []byte(timeOf)},
		alerts.Header{Key: headerTask, Value: number(int64(e.task))},
		alerts.Header{Key: headerKind, Value: []byte(e.kind)},
	)
}

// envelopeHeaders is how many headers a forwarded record has beside its own.
const envelopeHeaders = 8

func promiseMessage(from int32, promise int64) alerts.Message {
	return alerts.Message{Headers: []alerts.Header{
		{Key: headerPromise, Value: strconv.AppendInt(nil, promise, 10)},
		{Key: headerTask, Value: strconv.AppendInt(nil, int64(from), 10)},
		{Key: headerKind, Value: []byte(parcelPromise)},
	}}
}

// openEnvelope reads the headers. What is none of ebb's has no kind and the task -1.
func openEnvelope(rec *batch.Record) envelope {
	var all []alerts.Header
	for h := range rec.Headers {
		all = append(all, alerts.Header{Key: h.Key, Value: h.Value})
	}
	e := envelope{task: -1}
	n := len(all)
	if n < 3 || all[n-1].Key != headerKind || all[n-2].Key != headerTask {
		return e
	}
	r := headerReader{}
	task := int32(r.number(all[n-2]))
	switch kind := string(all[n-1].Value); {
	case kind == parcelPromise && all[n-3].Key == headerPromise:
		e.promise = r.number(all[n-3])
		e.kind = kind
	case extraHeaders(kind) >= 0 && n >= envelopeHeaders+extraHeaders(kind):
		own := all[n-envelopeHeaders:]
		for i, name := range [...]string{headerFeed, headerTopic, headerPartition, headerOffset, headerTimestamp, headerTimeOf} {
			r.bad = r.bad || own[i].Key != name
		}
		feed, ok := event.ParseFeed(string(own[0].Value))
		r.bad = r.bad || !ok
		e.feed = feed
		e.at = event.Position{
			Topic: string(own[1].Value), Partition: int32(r.number(own[2])), Offset: r.number(own[3]), Timestamp: r.number(own[4]),
			BrokerTime: string(own[5].Value) == timeOfBroker,
		}
		n -= envelopeHeaders
		switch kind {
		case parcelRecordAs:
			n--
			r.bad = r.bad || all[n].Key != headerAs || len(all[n].Value) == 0
			e.as = string(all[n].Value)
		case parcelCustomer:
			n -= 2
			r.bad = r.bad || all[n].Key != headerPath || json.Unmarshal(all[n].Value, &e.path) != nil || len(e.path) == 0 || all[n+1].Key != headerTime
			e.time = r.number(all[n+1])
		}
		for _, h := range all[:n] {
			e.headers = append(e.headers, alerts.Header{Key: h.Key, Value: bytes.Clone(h.Value)})
		}
		e.kind = kind
	}
	if r.bad || e.kind == parcelUnknown || task < 0 {
		return envelope{task: -1}
	}
	e.task = task
	return e
}

// extraHeaders is how many headers a kind has beside those that all have; -1 for what is none.
func extraHeaders(kind string) int {
	switch kind {
	case parcelRecord:
		return 0
	case parcelRecordAs:
		return 1
	case parcelCustomer:
		return 2
	}
	return -1
}

type headerReader struct{ bad bool }

func (r *headerReader) number(h alerts.Header) int64 {
	n, err := strconv.ParseInt(string(h.Value), 10, 64)
	r.bad = r.bad || err != nil
	return n
}
