package fetch

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"

	"ebb/stream/batch"
	"ebb/stream/conn"
)

type state uint8

const (
	unplaced state = iota // leader not known
	placed                // in a broker's queue
	astray                // the broker does not have the position
	halted                // sticky error
	closed
)

// Partition is one open partition. Its methods are for one goroutine, its consumer's; records that were handed out may be
// released anywhere.
type Partition struct {
	f       *Fetcher
	topic   string
	id      int32
	wake    chan<- struct{}
	release func(bytes int) // p.released, made once
	reader  batch.Reader    // the consumer's
	reading int             // bytes of the answer in the reader

	// Guarded by Fetcher.mu.
	state    state
	waiting  bool   // for the end of a delay
	epoch    uint64 // grows with SeekTo and Close; an answer to an older request is dropped
	broker   *broker
	flight   *link // whose request is out
	position int64 // next to fetch
	answers  []answer
	queued   int // bytes in answers
	used     int // bytes in answers, in the reader, handed out, and reserved for the request that is out
	retry    conn.Backoff
	missing  int // answers in a row that said that the topic does not exist
	broken   bool
	doubted  int64 // where a batch was found damaged and asked for once more; -1: nowhere

	known                               bool // answered since SeekTo
	highWatermark, lastStable, logStart int64
	delivered                           int64
	answered, atEndSent                 time.Time
	told                                time.Time // atEndSent when the consumer was last woken
	err, trouble                        error
}

// answer is what one fetch brought.
type answer struct {
	buf     *batch.Buffer
	from    int64
	size    int
	aborted []batch.Aborted
}

// Status is what is known of a partition at one moment.
type Status struct {
	HighWatermark int64 // offset after the last replicated record; -1 until the first answer
	LastStable    int64 // offset of the first record of an open transaction, or the high watermark
	LogStart      int64 // first offset that the broker has; -1 where it is too old to say
	Position      int64 // next offset to fetch
	Delivered     int64 // everything before it was handed out by Poll, or is a marker, aborted or compacted away

	// AtEnd: everything up to the high watermark was fetched. With nil records from the same Poll also handed out.
	AtEnd bool
	// AtEndSent is when the last request was sent whose answer showed position = high watermark. Zero if there was none.
	AtEndSent time.Time
	// Answered is when the broker last answered without an error. Zero if it has not.
	Answered time.Time
	// Err is why reading stopped, until SeekTo: *ErrRetentionGap, *ErrBeyondEnd, batch.ErrCorrupt, conn.ErrTopicMissing,
	// conn.ErrUnauthorized.
	Err error
	// Trouble is why there is no answer at present although it is still tried; nil after the next answer.
	Trouble error
}

// Lag is the number of offsets between what was handed out and the high watermark; 0 before the first answer.
func (s Status) Lag() int64 { return max(s.HighWatermark-s.Delivered, 0) }

// Topic is the name of the topic.
func (p *Partition) Topic() string { return p.topic }

// ID is the number of the partition in the topic.
func (p *Partition) ID() int32 { return p.id }

// Next gives the next batch, without waiting. It belongs to the caller until Release; until then it counts as buffered.
func (p *Partition) Next() (*batch.Records, bool) {
	recs, _ := p.Poll()
	return recs, recs != nil
}

// Status is what is known at this moment. To tell silence from records not yet handed out, use Poll.
func (p *Partition) Status() Status {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	return p.status()
}

// Poll gives the next batch, as Next does, and the status at the same moment. A sticky error is in it only once everything
// that was fetched before has been handed out.
func (p *Partition) Poll() (*batch.Records, Status) {
	for {
		recs, err := p.reader.Next()
		p.f.mu.Lock()
		if p.state == closed {
			p.f.mu.Unlock()
			return nil, Status{Err: errClosed, HighWatermark: -1, LastStable: -1, LogStart: -1}
		}
		switch {
		case recs != nil:
			recs.OnRelease(p.release)
			p.f.charge(p, recs.Size())
			p.delivered = p.reader.Position()
		case err != io.EOF:
			at := p.reader.Position()
			if p.doubted != at { // it may have been damaged on its way, or in memory: what is read twice alike is so
				p.doubted = at
				p.f.cfg.Metrics.failed(err)
				p.f.cfg.Logger.Warn("damaged batch, reading it again", "topic", p.topic, "partition", p.id, "offset", at, "err", err)
				p.seek(at)
				p.f.mu.Unlock()
				continue
			}
			p.position, p.delivered = at, at
			p.halt(err)
			p.discard()
		default:
			if p.reading > 0 {
				p.f.charge(p, -p.reading)
				p.reading = 0
				p.delivered = p.reader.Position()
			}
			if p.open() {
				p.f.mu.Unlock()
				continue
			}
		}
		s := p.status()
		if recs != nil {
			s.Err = nil // what was fetched before the error comes before it
		}
		p.f.mu.Unlock()
		return recs, s
	}
}

// open hands the next answer to the reader; false if there is none. f.mu is held.
func (p *Partition) open() bool {
	if len(p.answers) == 0 {
		return false
	}
	a := p.answers[0]
	p.answers = slices.Delete(p.answers, 0, 1)
	p.queued -= a.size
	p.reading = a.size
	p.reader.Reset(p.f.cfg.Pool, a.buf, a.from, !p.f.cfg.Uncommitted, a.aborted)
	if p.broker != nil {
		p.broker.kick() // its buffer may just have ceased to be full
	}
	return true
}

func (p *Partition) status() Status {
	return Status{
		HighWatermark: p.highWatermark, LastStable: p.lastStable, LogStart: p.logStart, Position: p.position,
		Delivered: p.delivered, AtEnd: p.atEnd(), AtEndSent: p.atEndSent, Answered: p.answered, Err: p.err, Trouble: p.trouble,
	}
}

func (p *Partition) atEnd() bool {
	// A watermark below the position is that of a leader which has just been elected and does not yet know its own.
	return p.known && p.err == nil && !p.broken && p.position == p.highWatermark
}

// behind: the broker has, as far as is known, something that may be read now.
func (p *Partition) behind() bool {
	if p.f.cfg.Uncommitted {
		return !p.known || p.position < p.highWatermark
	}
	return !p.known || p.position < p.lastStable
}

// released is called with what a consumer gave back.
func (p *Partition) released(n int) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.f.charge(p, -n)
}

// SeekTo goes on at offset, dropping what was fetched and any sticky error.
func (p *Partition) SeekTo(offset int64) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if p.state != closed {
		p.seek(offset)
	}
}

// seek is SeekTo. f.mu is held.
func (p *Partition) seek(offset int64) {
	p.discard()
	p.epoch++
	p.flight = nil
	p.position, p.delivered = offset, offset
	p.err, p.known, p.broken, p.missing = nil, false, false, 0
	p.atEndSent, p.told = time.Time{}, time.Time{}
	if p.state == astray || p.state == halted {
		p.unplace()
		signal(p.f.news)
	}
	if p.broker != nil {
		p.broker.kick()
	}
}

// Close stops reading. Records that were handed out stay valid until released.
func (p *Partition) Close() {
	f := p.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.state == closed {
		return
	}
	p.unplace()
	p.discard()
	p.epoch++
	p.flight = nil
	f.parts = slices.DeleteFunc(f.parts, func(q *Partition) bool { return q == p })
	f.orphaned += p.used
	p.used = 0
	p.state = closed
	f.cfg.Metrics.partitions(-1)
}

// discard drops everything fetched and not handed out.
func (p *Partition) discard() {
	p.drop()
	p.f.charge(p, -p.reading)
	p.reading = 0
	p.reader.Close()
}

// drop drops the answers that the reader has not begun.
func (p *Partition) drop() {
	for _, a := range p.answers {
		a.buf.Release()
	}
	p.answers = p.answers[:0]
	p.f.charge(p, -p.queued)
	p.queued = 0
}

// unplace takes the partition from its broker; its leader is looked up again.
func (p *Partition) unplace() {
	if p.broker != nil {
		p.broker.drop(p)
		p.broker = nil
	}
	p.state = unplaced
}

func (p *Partition) halt(err error) {
	if p.broker != nil {
		p.broker.drop(p)
		p.broker = nil
	}
	p.state = halted
	p.epoch++ // whatever a request that is out brings
	p.flight = nil
	p.err = fmt.Errorf("%s partition %d: %w", p.topic, p.id, err)
	p.f.cfg.Metrics.failed(err)
	p.f.cfg.Logger.Error("partition stopped", "topic", p.topic, "partition", p.id, "offset", p.position, "err", err)
	signal(p.wake)
}

// fail is called with what kept the partition from being read.
func (p *Partition) fail(err error) {
	p.trouble = err
	switch {
	case errors.Is(err, conn.ErrUnauthorized):
		p.halt(err)
		return
	case errors.Is(err, conn.ErrTopicMissing) && p.state == unplaced:
		// Only what metadata says counts: a fetch says the same of a leader that has moved away.
		if p.missing++; p.missing >= missingAnswers {
			p.halt(err)
			return
		}
	case conn.Code(err) == kafka.OffsetOutOfRange:
		p.unplace()
		p.state = astray
		signal(p.f.news)
		return
	case conn.Code(err) == kafka.InvalidMessage:
		p.halt(&batch.CorruptError{Offset: p.position, Err: err})
		return
	}
	p.f.cfg.Metrics.failed(err)
	p.f.cluster.Invalidate(p.topic)
	p.unplace()
	p.delay()
	signal(p.wake)
}

// delay holds the partition back until its next attempt.
func (p *Partition) delay() {
	p.waiting = true
	p.f.later(p.retry.Next(), func() {
		p.waiting = false
		signal(p.f.news)
	})
}

// found is called with the ends of a partition whose position the broker did not have.
func (p *Partition) found(start, end int64, err error) {
	switch {
	case errors.Is(err, conn.ErrUnauthorized):
		p.halt(err)
	case err != nil:
		p.trouble = err
		p.f.cfg.Metrics.failed(err)
		p.delay()
		signal(p.wake)
	case p.position < start:
		p.logStart, p.highWatermark = start, end
		p.halt(&ErrRetentionGap{Position: p.position, Start: start})
	case p.position > end:
		p.logStart, p.highWatermark = start, end
		p.halt(&ErrBeyondEnd{Position: p.position, End: end})
	default: // the broker was behind its followers for a moment, or was not the leader
		p.f.cluster.Invalidate(p.topic)
		p.unplace()
		p.delay()
	}
}
