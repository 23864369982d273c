package stream

import (
	"errors"
	"iter"

	"ebb/state"
	"ebb/stream/batch"
	"ebb/stream/event"
	"ebb/stream/fetch"
	"ebb/stream/partition"
)

// lookahead is the number of decoded records that a feed keeps before the merge. One wrong timestamp among them does not
// move the clock, because the clock follows their smallest.
const lookahead = 256

// slot is one decoded record on its way to the merge. Its event aliases the record batch, which is released when its
// last slot has been applied.
type slot struct {
	ev      event.Event
	rec     batch.Record
	next    int64          // position of the feed once this slot is applied
	reject  *event.Reject  // set: the record goes to the dead letters
	ignored bool           // set: the mapping says that this record is none of ebb's business
	sent    bool           // set: another task's, and forwarded to it
	last    *batch.Records // set on the last slot of a batch: released with it
	origin  *origin        // set: it came through the reroute topic
}

// timed says whether the slot holds an event, whose time counts.
func (sl *slot) timed() bool { return sl.reject == nil && !sl.ignored && !sl.sent }

// source reads one feed of one task: it takes fetched batches, decodes ahead into a ring, and knows how far the feed is
// read. It belongs to the task's goroutine.
type source struct {
	feed           event.Feed
	topic          string
	part           int32
	fetch          *fetch.Partition
	dec            *event.Decoder
	check          partition.Partitioner               // nil when the partitioning of the keys is not checked
	count          int32                               // number of tasks
	home           int32                               // the task's own number
	rekeyed        bool                                // the customer, not the key, says whose the record is
	in             *inputRecord                        // how far it is read, in the task record
	send           func(s *source, sl *slot, to int32) // forwards a record to another task; nil: nothing is forwarded
	completenessMs int64                               // the last stretch of the feed that is not yet known

	ring []slot // grows to room slots while so many are decoded: most tasks at the end of their feeds never hold a handful
	room int
	head int
	n    int

	cur      *batch.Records // being decoded
	at       int            // next record of it
	status   fetch.Status
	drained  bool  // the newest status came without records: what it says of the end holds for what was handed out
	fault    error // why nothing behind the ring can be decoded
	position int64 // next offset to apply
	warmth   uint64
	ahead    []span // offsets behind the position that an earlier life has forwarded
	front    front
	seen     int64 // event time up to which all of the feed was seen when the clock moved last, ms; 0 before anything is known of it in this life
}

// first is the slot that the merge would take next. Valid only while n > 0.
func (s *source) first() *slot { return &s.ring[s.head] }

// nth is the slot with k others before it. Valid while k is below the length of the ring.
func (s *source) nth(k int) *slot {
	i := s.head + k
	if i >= len(s.ring) {
		i -= len(s.ring)
	}
	return &s.ring[i]
}

// decoded yields the decoded slots in their order.
func (s *source) decoded() iter.Seq[*slot] {
	return func(yield func(*slot) bool) {
		for k := range s.n {
			if !yield(s.nth(k)) {
				return
			}
		}
	}
}

// smallestRing is the number of slots that a feed begins with.
const smallestRing = 16

// grow makes room behind the last slot of a full ring.
func (s *source) grow() {
	ring := make([]slot, min(max(2*len(s.ring), smallestRing), s.room))
	n := copy(ring, s.ring[s.head:])
	copy(ring[n:], s.ring[:s.head])
	s.ring, s.head = ring, 0
}

// pop drops the first slot after it was applied and moves the position behind it.
func (s *source) pop() {
	sl := &s.ring[s.head]
	s.position = sl.next
	if sl.last != nil {
		sl.last.Release()
		sl.last = nil
	}
	s.head++
	if s.head == len(s.ring) {
		s.head = 0
	}
	s.n--
}

// fill decodes until the ring is full or nothing is fetched. Its error is why the feed cannot be read on; what lies in the ring
// is sound.
func (s *source) fill(table *state.Table) error {
	var warm [state.WarmBatch][]byte
	warmed := 0
	for s.n < s.room {
		if s.fault != nil {
			return s.fault
		}
		if s.cur == nil {
			s.cur, s.status = s.fetch.Poll()
			s.drained = s.cur == nil
			s.at = 0
			if s.cur == nil {
				if s.n == 0 { // markers and aborted records at the end
					s.position = max(s.position, s.status.Delivered)
				}
				return s.status.Err
			}
		}
		if s.at == s.cur.Len() {
			s.close(s.cur)
			s.cur = nil
			continue
		}
		if s.n == len(s.ring) {
			s.grow()
		}
		sl := s.nth(s.n)
		sl.rec = s.cur.At(s.at)
		s.at++
		if err := s.decode(sl); err != nil {
			s.fault = err
			return err
		}
		s.n++
		if sl.timed() {
			warm[warmed] = sl.ev.Customer
			if warmed++; warmed == state.WarmBatch {
				s.warmth += table.Warm(&warm, warmed)
				warmed = 0
			}
		}
	}
	return nil
}

// close ends a batch that is decoded: what it spans beyond its records (compacted offsets) is passed with its last record,
// and its memory lives as long as a slot points into it.
func (s *source) close(b *batch.Records) {
	if s.n == 0 { // all of them are applied
		s.position = b.NextOffset()
		b.Release()
		return
	}
	last := s.nth(s.n - 1)
	last.next = b.NextOffset()
	last.last = b
}

func (s *source) decode(sl *slot) error {
	sl.reject, sl.ignored, sl.sent, sl.last = nil, false, false, nil
	sl.next = sl.rec.Offset + 1
	key := sl.rec.Key
	if s.check != nil && !s.rekeyed && s.send == nil && key != nil && s.check(key, s.count) != s.part {
		return &MisplacedError{Topic: s.topic, Partition: s.part, Offset: sl.rec.Offset, Want: s.check(key, s.count)}
	}
	if err := decodeInto(s.dec, s.whereabouts(sl), sl); err != nil {
		return err
	}
	if s.send == nil {
		return nil
	}
	if sl.reject == nil && !sl.ignored {
		s.front.saw(sl.ev.Time)
	}
	if to, known := s.owner(sl); known && to != s.home && !sl.ignored && !tooLarge(sl) {
		sl.sent = true
		if !contains(s.ahead, sl.rec.Offset) {
			s.send(s, sl, to)
		}
	}
	return nil
}

// tooLarge is true for a record that would not fit through the reroute topic: it is refused where it lies.
func tooLarge(sl *slot) bool {
	return sl.reject != nil && sl.reject.Reason == event.ReasonRecordTooLarge
}

// owner is the task that a decoded record belongs to, as far as that can be told.
func (s *source) owner(sl *slot) (to int32, known bool) {
	key := sl.rec.Key
	if s.rekeyed {
		if key = sl.ev.Customer; sl.reject != nil {
			key = []byte(sl.reject.Customer)
		}
	}
	if len(key) == 0 && (s.rekeyed || key == nil) {
		return 0, false
	}
	return s.check(key, s.count), true
}

// whereabouts is where the record of a slot lies in the feed.
func (s *source) whereabouts(sl *slot) event.Position {
	return event.Position{Topic: s.topic, Partition: s.part, Offset: sl.rec.Offset, Timestamp: sl.rec.Timestamp, BrokerTime: sl.rec.LogAppend}
}

// decodeInto decodes the record of a slot. The error is none of the record's own.
func decodeInto(dec *event.Decoder, pos event.Position, sl *slot) error {
	err := dec.Decode(pos, sl.rec.Key, sl.rec.Value, &sl.ev)
	switch {
	case err == nil:
	case errors.Is(err, event.ErrIgnored):
		sl.ignored = true
	case errors.As(err, &sl.reject):
	default:
		return err
	}
	return nil
}

// view says what the clock has to know of the feed.
func (s *source) view(out bool) view {
	if s.fetch == nil { // all of it lies in other tasks' partitions: the lanes speak for it
		return view{absent: true}
	}
	v := view{buffered: s.n > 0, out: out}
	if v.buffered {
		v.head = s.lowest()
	} else {
		v.atEnd = s.drained && s.status.AtEnd
		v.provenMs = s.status.AtEndSent.UnixMilli()
	}
	return v
}

// lowest is the smallest event time in the ring. Rejected and ignored records have none that could be trusted.
func (s *source) lowest() int64 {
	low := never
	for sl := range s.decoded() {
		if sl.timed() && sl.ev.Time < low {
			low = sl.ev.Time
		}
	}
	return low
}

// behind is the number of offsets between what is applied and the end of the feed.
func (s *source) behind() int64 { return max(0, s.status.HighWatermark-s.position) }
