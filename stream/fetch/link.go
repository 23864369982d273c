package fetch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go/protocol"

	"ebb/stream/batch"
	"ebb/stream/conn"
)

// link is one of the two connections to a broker.
type link struct {
	b     *broker
	poll  bool  // the tail connection
	other *link // its sister
	news  chan struct{}
	long  bool // a full-length poll is out; guarded by Fetcher.mu

	// The loop's own.
	conn    *conn.Conn
	asked   []ask
	body    []byte
	results []result
	silence *time.Timer // ends a request of which nothing is heard
}

// ask is one partition in a request.
type ask struct {
	p     *Partition
	epoch uint64
	from  int64
	grant int
}

// result is one partition in an answer.
type result struct {
	code                                int16
	highWatermark, lastStable, logStart int64
	buf                                 *batch.Buffer
	next                                int64
	broken                              bool
	aborted                             []batch.Aborted
	seen                                bool // in the answer
	news                                bool // brought records
}

func newLink(b *broker, poll bool) *link {
	return &link{b: b, poll: poll, news: make(chan struct{}, 1)}
}

// run asks and delivers until the broker is retired.
func (l *link) run() {
	defer l.b.f.wg.Done()
	defer l.hangUp()
	ctx := l.b.ctx
	for ctx.Err() == nil {
		if wait, some := l.plan(); some {
			l.settle(l.fetch(ctx, wait))
			continue
		}
		select {
		case <-l.news:
		case <-ctx.Done():
		}
	}
}

func (l *link) hangUp() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// plan picks the partitions of the next request, reserves the room for its answer, and says how long the broker may wait.
func (l *link) plan() (wait time.Duration, some bool) {
	f := l.b.f
	f.mu.Lock()
	defer f.mu.Unlock()
	l.asked = l.asked[:0]
	l.long = false
	if l.b.cooling || l.b.retired {
		return 0, false
	}
	own, spare := f.reserve(), f.spare()
	short := !l.poll
	total := 0
	for _, p := range l.b.queue {
		// More than one answer holds would reserve room for nothing; whoever is left out stands first in the queue next time.
		if !l.poll && total >= int(f.cfg.MaxBytes) {
			break
		}
		if p.flight != nil {
			// It will be free in a moment, and its place is in the poll.
			short = short || !p.behind()
			continue
		}
		if p.broken || !l.serves(p) {
			continue
		}
		grant, fits := l.room(p, own, spare)
		if !fits {
			l.b.blocked = true
			continue
		}
		spare -= max(p.used+grant-own, 0) - max(p.used-own, 0)
		total += grant
		f.charge(p, grant)
		p.flight = l
		l.asked = append(l.asked, ask{p: p, epoch: p.epoch, from: p.position, grant: grant})
	}
	if len(l.asked) == 0 {
		return 0, false
	}
	if l.poll && !short {
		l.long = true
		return f.cfg.MaxWait, true
	}
	return bulkWait, true
}

// serves says whether p is this connection's to ask for: those behind are the bulk's, those at the end the tail's, unless a
// long poll is out that p is not part of.
func (l *link) serves(p *Partition) bool {
	if l.poll {
		return !p.behind()
	}
	return p.behind() || l.other.long
}

// room is how many bytes p may be answered, and whether that is worth a request.
func (l *link) room(p *Partition, own, spare int) (int, bool) {
	most := int(l.b.f.cfg.PartitionMaxBytes)
	if p.queued >= max(most/2, 1) {
		return 0, false
	}
	if !p.behind() {
		most = min(most, max(own, 1)) // a trickle needs no more, and the poll holds it for long
	}
	room := max(own-p.used, 0) + spare
	return min(most, room), room > 0 && room >= min(own/2, most)
}

// fetch sends the planned request and reads its answer into l.results, one for each that was asked.
func (l *link) fetch(ctx context.Context, wait time.Duration) (sent time.Time, err error) {
	f := l.b.f
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	l.silence = time.AfterFunc(wait+grace, func() { giveUp(context.DeadlineExceeded) })
	defer l.silence.Stop()
	for {
		fresh := l.conn == nil || l.conn.Closed()
		if fresh {
			if l.conn, err = f.cluster.Open(ctx, l.b.addr); err != nil {
				l.conn = nil
				return sent, err
			}
		}
		version, ok := l.conn.Version(protocol.Fetch)
		if !ok || version < 4 {
			l.hangUp()
			return sent, &conn.Fault{Kind: conn.ErrUnsupported, Addr: l.b.addr, Err: fmt.Errorf("fetch version %d", version), Mend: "Kafka 2.5 to 4.x is supported"}
		}
		l.encode(version, wait)
		l.forget()
		sent = f.cfg.Now()
		err = l.conn.Exchange(ctx, protocol.Fetch, version, l.body, func(a *conn.Answer) error { return l.decode(a, version) })
		if err == nil {
			f.cfg.Metrics.requested(l.poll)
			return sent, nil
		}
		l.hangUp()
		l.forget()
		if fresh || ctx.Err() != nil {
			return sent, err
		}
		// The broker may have closed a connection that lay idle; a fresh one tells.
	}
}

// forget drops the results of an answer that nobody will take.
func (l *link) forget() {
	for i := range l.results {
		if b := l.results[i].buf; b != nil {
			b.Release()
		}
		l.results[i] = result{aborted: l.results[i].aborted[:0]}
	}
	for len(l.results) < len(l.asked) {
		l.results = append(l.results, result{})
	}
}

// encode writes a Fetch request, versions 4 to 11, without a fetch session.
func (l *link) encode(version int16, wait time.Duration) {
	f := l.b.f
	b := l.body[:0]
	b = binary.BigEndian.AppendUint32(b, ^uint32(0)) // replica: a consumer
	b = binary.BigEndian.AppendUint32(b, uint32(wait.Milliseconds()))
	b = binary.BigEndian.AppendUint32(b, uint32(f.cfg.MinBytes))
	b = binary.BigEndian.AppendUint32(b, uint32(f.cfg.MaxBytes))
	if f.cfg.Uncommitted {
		b = append(b, byte(conn.ReadUncommitted))
	} else {
		b = append(b, byte(conn.ReadCommitted))
	}
	if version >= 7 {
		b = binary.BigEndian.AppendUint32(b, 0)          // session
		b = binary.BigEndian.AppendUint32(b, ^uint32(0)) // epoch: no session
	}
	topicsAt := len(b)
	b = append(b, 0, 0, 0, 0)
	var topics, parts uint32
	var partsAt int
	for i := range l.asked {
		a := &l.asked[i]
		if i == 0 || a.p.topic != l.asked[i-1].p.topic {
			topics++
			b = binary.BigEndian.AppendUint16(b, uint16(len(a.p.topic)))
			b = append(b, a.p.topic...)
			partsAt, parts = len(b), 0
			b = append(b, 0, 0, 0, 0)
		}
		parts++
		binary.BigEndian.PutUint32(b[partsAt:], parts)
		b = binary.BigEndian.AppendUint32(b, uint32(a.p.id))
		if version >= 9 {
			b = binary.BigEndian.AppendUint32(b, ^uint32(0)) // leader epoch: unknown
		}
		b = binary.BigEndian.AppendUint64(b, uint64(a.from))
		if version >= 5 {
			b = binary.BigEndian.AppendUint64(b, ^uint64(0)) // log start: a follower's business
		}
		b = binary.BigEndian.AppendUint32(b, uint32(a.grant))
	}
	binary.BigEndian.PutUint32(b[topicsAt:], topics)
	if version >= 7 {
		b = binary.BigEndian.AppendUint32(b, 0) // forgotten topics
	}
	if version >= 11 {
		b = binary.BigEndian.AppendUint16(b, 0) // rack
	}
	l.body = b
}

// decode reads a Fetch answer. Its records go straight from the socket into one pooled buffer for each partition, so that a
// slow consumer of one does not hold the memory of all.
func (l *link) decode(a *conn.Answer, version int16) error {
	a.Int32() // throttle time
	if version >= 7 {
		code := a.Int16()
		a.Int32() // session
		if err := conn.CodeError(code); err != nil {
			return fmt.Errorf("fetch refused: %w", err)
		}
	}
	at := 0
	for topics := a.Int32(); topics > 0 && a.Err() == nil; topics-- {
		topic := l.topic(a.ShortBytes())
		for parts := a.Int32(); parts > 0 && a.Err() == nil; parts-- {
			id := a.Int32()
			at = l.find(at, topic, id)
			if at < 0 {
				return fmt.Errorf("answer about partition %d of %q, which was not asked for", id, topic)
			}
			if err := l.decodeOne(a, version, &l.asked[at], &l.results[at]); err != nil {
				return err
			}
		}
	}
	return a.Err()
}

// topic is the name of an asked topic, without allocating it anew; empty if it was not asked for.
func (l *link) topic(name []byte) string {
	for i := range l.asked {
		if t := l.asked[i].p.topic; t == string(name) {
			return t
		}
	}
	return ""
}

// find is the index of a partition in the request; answers come in the order of asking.
func (l *link) find(from int, topic string, id int32) int {
	for i := range l.asked {
		j := (from + i) % len(l.asked)
		if p := l.asked[j].p; p.id == id && p.topic == topic {
			return j
		}
	}
	return -1
}

func (l *link) decodeOne(a *conn.Answer, version int16, q *ask, r *result) error {
	if r.seen {
		return errors.New("two answers about one partition")
	}
	r.seen = true
	r.code = a.Int16()
	r.highWatermark, r.lastStable, r.logStart = a.Int64(), a.Int64(), -1
	if version >= 5 {
		r.logStart = a.Int64()
	}
	for n := a.Int32(); n > 0 && a.Err() == nil; n-- {
		r.aborted = append(r.aborted, batch.Aborted{ProducerID: a.Int64(), FirstOffset: a.Int64()})
	}
	if version >= 11 {
		a.Int32() // preferred replica: none without a rack
	}
	n := int(a.Int32())
	r.next = q.from
	if n <= 0 || a.Err() != nil {
		return a.Err()
	}
	if n > a.Left() {
		return fmt.Errorf("%d bytes of records in an answer of %d", n, a.Left())
	}
	r.buf = l.b.f.cfg.Pool.Get(n)
	for b := r.buf.B; len(b) > 0 && a.Err() == nil; {
		k := min(len(b), piece)
		a.Full(b[:k])
		b = b[k:]
		l.silence.Reset(grace) // an answer of megabytes over a slow line is not lost while it comes on
	}
	if a.Err() != nil {
		return a.Err()
	}
	l.b.f.cfg.Metrics.received(n)
	whole, next, err := batch.Scan(r.buf.B, q.from)
	r.next, r.broken = next, err != nil
	if whole == 0 && err == nil { // the beginning of a batch that did not fit
		r.buf.Release()
		r.buf = nil
	}
	return nil
}

// settle hands out what came, or says why nothing came.
func (l *link) settle(sent time.Time, err error) {
	f := l.b.f
	now := f.cfg.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	l.long = false
	for i := range l.asked {
		a := &l.asked[i]
		f.charge(a.p, -a.grant)
		if a.p.epoch == a.epoch {
			a.p.flight = nil
		}
	}
	if err != nil {
		f.cfg.Metrics.failed(err)
		l.b.lost(err)
	} else {
		l.b.found()
		for i := range l.asked {
			l.deliver(&l.asked[i], &l.results[i], sent, now)
		}
		for i := range l.asked { // only now, so that who wakes sees all that the answer says
			l.tell(l.asked[i].p, &l.results[i])
		}
	}
	l.forget()
	signal(l.other.news)
}

// deliver brings one partition up to date.
func (l *link) deliver(a *ask, r *result, sent, now time.Time) {
	p := a.p
	if p.epoch != a.epoch || !r.seen {
		return
	}
	if err := conn.CodeError(r.code); err != nil {
		p.fail(err)
		return
	}
	p.known, p.answered, p.trouble, p.missing = true, now, nil, 0
	p.retry.Reset()
	p.highWatermark, p.lastStable, p.logStart = r.highWatermark, r.lastStable, r.logStart
	if r.lastStable < 0 {
		p.lastStable = r.highWatermark
	}
	if r.buf != nil {
		n := answer{buf: r.buf, from: a.from, size: cap(r.buf.B), aborted: append([]batch.Aborted(nil), r.aborted...)}
		r.buf = nil
		p.f.charge(p, n.size)
		p.queued += n.size
		p.answers = append(p.answers, n)
		p.position, p.broken = r.next, r.broken
		if p.broker != nil { // to the end of the queue
			p.broker.drop(p)
			p.broker.queue = append(p.broker.queue, p)
		}
		r.news = true
	}
	if p.atEnd() {
		p.atEndSent = sent
	}
}

// tell wakes the consumer: at once for records, at intervals for their continued absence.
func (l *link) tell(p *Partition, r *result) {
	if !r.seen || p.state == closed {
		return
	}
	if r.news || p.atEndSent.Sub(p.told) >= statusInterval {
		p.told = p.atEndSent
		signal(p.wake)
	}
}
