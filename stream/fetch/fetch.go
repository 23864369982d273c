package fetch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ebb/stream/batch"
	"ebb/stream/conn"
)

// Config bounds a Fetcher. The zero value of every field but Now gives its default.
type Config struct {
	MaxWait           time.Duration // how long a broker may hold a long poll; default 500 ms
	MinBytes          int32         // what it waits for; default 1: the first record
	MaxBytes          int32         // of one answer; default 8 MB. A single larger batch comes nevertheless
	PartitionMaxBytes int32         // of one partition in one answer; default 1 MB. Half of it waiting unread is a full buffer
	BufferBytes       int           // over all partitions, before decompression and while handed out; default 64 MB
	ReservedBytes     int           // of these, a partition's own; default 256 KB, less when half of BufferBytes does not suffice
	Uncommitted       bool          // see records of open and aborted transactions too

	Now     func() time.Time // wall clock that stamps answers; required
	Pool    *batch.Pool      // default: an own one
	Metrics *Metrics         // nil: none
	Logger  *slog.Logger     // nil: none
	Rand    func() float64   // in [0,1), jitter; nil: math/rand/v2
}

const (
	bulkWait = 10 * time.Millisecond // what the bulk connection waits when all it asks for turns out to be at the end
	grace    = 10 * time.Second      // beyond the wait, and between two pieces of an answer, until a request counts as lost
	piece    = 256 << 10
	longest  = 10 * time.Minute // for an answer that comes on
	// statusInterval spaces the signals that only say "still nothing": under load every answer shows that of most partitions.
	statusInterval = 10 * time.Millisecond
	lookupTimeout  = 10 * time.Second
	// missingAnswers in a row, over some seconds of backoff, make a topic missing: a broker that has just started may not yet
	// know what exists.
	missingAnswers = 8
)

func (c Config) withDefaults() Config {
	def := func(v *int32, d int32) {
		if *v <= 0 {
			*v = d
		}
	}
	if c.MaxWait <= 0 {
		c.MaxWait = 500 * time.Millisecond
	}
	def(&c.MinBytes, 1)
	def(&c.MaxBytes, 8<<20)
	def(&c.PartitionMaxBytes, 1<<20)
	if c.BufferBytes <= 0 {
		c.BufferBytes = 64 << 20
	}
	if c.ReservedBytes <= 0 {
		c.ReservedBytes = 256 << 10
	}
	if c.Pool == nil {
		c.Pool = batch.NewPool(0)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Fetcher reads the partitions that were opened on it. Safe for concurrent use.
type Fetcher struct {
	cluster *conn.Cluster
	cfg     Config
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	news    chan struct{} // something for the leader lookup

	mu       sync.Mutex // short sections only, never held across I/O or decompression
	parts    []*Partition
	orphaned int // bytes still held by consumers of closed partitions
	brokers  map[int32]*broker
	lookup   conn.Backoff
	cooling  bool // the last metadata request failed a moment ago
}

// New makes a Fetcher; it connects when the first partition is opened.
func New(cluster *conn.Cluster, cfg Config) *Fetcher {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Fetcher{
		cluster: cluster, cfg: cfg.withDefaults(), ctx: ctx, cancel: cancel, news: make(chan struct{}, 1),
		brokers: map[int32]*broker{},
	}
	f.lookup = f.backoff()
	f.wg.Add(1)
	go f.place()
	return f
}

func (f *Fetcher) backoff() conn.Backoff {
	return conn.Backoff{Min: 20 * time.Millisecond, Max: time.Second, Rand: f.cfg.Rand}
}

// Close ends all requests and connections and waits for them. Records that were handed out stay valid.
func (f *Fetcher) Close() {
	f.cancel()
	f.wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.parts {
		p.drop()
	}
}

// Open begins to read a partition at offset. A fetcher reads a partition once at a time: an answer is told from another by its partition. wake should be buffered by one; it is signalled, never blocked on, whenever
// Poll may have something new to say, and may be shared by any partitions with the same consumer.
func (f *Fetcher) Open(topic string, partition int32, offset int64, wake chan<- struct{}) *Partition {
	p := &Partition{
		f: f, topic: topic, id: partition, wake: wake, position: offset, delivered: offset,
		doubted: -1, highWatermark: -1, lastStable: -1, logStart: -1, retry: f.backoff(),
	}
	p.release = p.released
	f.mu.Lock()
	f.parts = append(f.parts, p)
	f.cfg.Metrics.partitions(+1)
	f.mu.Unlock()
	signal(f.news)
	return p
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// reserve is each partition's own share of the buffer. f.mu is held.
func (f *Fetcher) reserve() int {
	return max(min(f.cfg.ReservedBytes, f.cfg.BufferBytes/2/max(len(f.parts), 1)), 4<<10)
}

// spare is what is left of the buffer beyond all reservations. f.mu is held.
func (f *Fetcher) spare() int {
	own := f.reserve()
	spare := f.cfg.BufferBytes - own*len(f.parts) - f.orphaned
	for _, p := range f.parts {
		spare -= max(p.used-own, 0)
	}
	return max(spare, 0)
}

// charge accounts for n bytes that p holds more. f.mu is held.
func (f *Fetcher) charge(p *Partition, n int) {
	f.cfg.Metrics.buffered(n)
	if p.state == closed {
		f.orphaned += n
		return
	}
	p.used += n
	if n >= 0 {
		return
	}
	for _, b := range f.brokers {
		if b.blocked {
			b.blocked = false
			b.kick()
		}
	}
}

// later runs do, with f.mu held, after d; not after Close.
func (f *Fetcher) later(d time.Duration, do func()) {
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			f.mu.Lock()
			defer f.mu.Unlock()
			do()
		case <-f.ctx.Done():
		}
	}()
}

// place finds a broker for every partition that has none, and the truth about offsets that a broker does not have.
func (f *Fetcher) place() {
	defer f.wg.Done()
	for {
		select {
		case <-f.news:
		case <-f.ctx.Done():
			f.mu.Lock()
			for _, b := range f.brokers {
				b.retire()
			}
			f.mu.Unlock()
			return
		}
		f.findLeaders()
		f.findOffsets()
	}
}

func (f *Fetcher) inState(s state) []*Partition {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cooling {
		return nil
	}
	var found []*Partition
	for _, p := range f.parts {
		if p.state == s && !p.waiting {
			found = append(found, p)
		}
	}
	return found
}

func (f *Fetcher) findLeaders() {
	homeless := f.inState(unplaced)
	if len(homeless) == 0 {
		return
	}
	var ask []string
	for _, p := range homeless {
		if _, ok := f.cluster.KnownLeader(p.topic, p.id); !ok && !slices.Contains(ask, p.topic) {
			ask = append(ask, p.topic)
		}
	}
	var topics map[string]conn.Topic
	var err error
	if len(ask) > 0 {
		ctx, cancel := context.WithTimeout(f.ctx, lookupTimeout)
		topics, _, err = f.cluster.Topics(ctx, ask...)
		cancel()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.lookupFailed(homeless, err)
		return
	}
	f.lookup.Reset()
	for _, p := range homeless {
		if p.state != unplaced {
			continue
		}
		if b, ok := f.cluster.KnownLeader(p.topic, p.id); ok {
			f.broker(b).take(p)
			continue
		}
		p.fail(leaderError(topics[p.topic], p))
	}
}

// leaderError says why the answer names no leader of p.
func leaderError(t conn.Topic, p *Partition) error {
	if t.Err != nil {
		return t.Err
	}
	for _, x := range t.Partitions {
		if x.ID == p.id {
			return conn.ErrNoLeader
		}
	}
	return conn.ErrTopicMissing
}

// lookupFailed: nobody answers; all wait together. f.mu is held.
func (f *Fetcher) lookupFailed(parts []*Partition, err error) {
	if f.ctx.Err() != nil {
		return
	}
	f.cfg.Metrics.failed(err)
	for _, p := range parts {
		p.trouble = err
		signal(p.wake)
	}
	f.cooling = true
	f.later(f.lookup.Next(), func() {
		f.cooling = false
		signal(f.news)
	})
}

func (f *Fetcher) findOffsets() {
	for _, p := range f.inState(astray) {
		ctx, cancel := context.WithTimeout(f.ctx, lookupTimeout)
		start, end, err := f.ends(ctx, p)
		cancel()
		f.mu.Lock()
		if p.state == astray {
			p.found(start, end, err)
		}
		f.mu.Unlock()
	}
}

// ends asks for a partition's first and end offset.
func (f *Fetcher) ends(ctx context.Context, p *Partition) (start, end int64, err error) {
	ids := []int32{p.id}
	first, err := f.cluster.Offsets(ctx, p.topic, ids, conn.Earliest, conn.ReadUncommitted)
	if err != nil {
		return 0, 0, err
	}
	last, err := f.cluster.Offsets(ctx, p.topic, ids, conn.Latest, conn.ReadUncommitted)
	return first[p.id], last[p.id], err
}

// broker is the running pair of connections to b. f.mu is held.
func (f *Fetcher) broker(b conn.Broker) *broker {
	old := f.brokers[b.ID]
	if old != nil && old.addr == b.Addr {
		return old
	}
	if old != nil {
		old.retire()
	}
	n := &broker{f: f, id: b.ID, addr: b.Addr, backoff: f.backoff()}
	n.ctx, n.cancel = context.WithCancel(f.ctx)
	n.tail = newLink(n, true)
	n.bulk = newLink(n, false)
	n.tail.other, n.bulk.other = n.bulk, n.tail
	f.brokers[b.ID] = n
	if f.ctx.Err() != nil {
		return n
	}
	f.wg.Add(2)
	go n.tail.run()
	go n.bulk.run()
	return n
}

// broker is one member of the cluster that leads partitions. The fields behind cancel are guarded by Fetcher.mu.
type broker struct {
	f          *Fetcher
	id         int32
	addr       string
	tail, bulk *link
	ctx        context.Context
	cancel     context.CancelFunc

	queue   []*Partition // in the order in which they are asked for: who got data goes to the end
	blocked bool         // somebody was left out for want of room
	cooling bool         // could not be reached a moment ago
	down    bool         // could not be reached since it was last
	retired bool
	backoff conn.Backoff
}

func (b *broker) take(p *Partition) {
	p.state, p.broker = placed, b
	b.queue = append(b.queue, p)
	b.kick()
}

func (b *broker) drop(p *Partition) {
	if i := slices.Index(b.queue, p); i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
	}
}

func (b *broker) kick() {
	signal(b.bulk.news)
	signal(b.tail.news)
}

// retire ends the connections; what was placed here is looked up again.
func (b *broker) retire() {
	if b.retired {
		return
	}
	b.retired = true
	b.cancel()
	for _, p := range slices.Clone(b.queue) {
		p.unplace()
	}
	signal(b.f.news)
}

// lost: the broker cannot be reached. Everybody who is not in a request on the other connection asks again who leads, after
// one common delay, so that a restart of a broker with many partitions is not met with as many attempts.
func (b *broker) lost(err error) {
	if b.retired || b.f.ctx.Err() != nil {
		return
	}
	if !b.down {
		b.f.cfg.Logger.Warn("broker lost", "broker", b.id, "addr", b.addr, "err", err)
		b.down = true
	}
	var mine []*Partition
	for _, p := range slices.Clone(b.queue) {
		if p.flight != nil {
			continue
		}
		b.f.cluster.Invalidate(p.topic)
		p.unplace()
		p.trouble, p.waiting = err, true
		signal(p.wake)
		mine = append(mine, p)
	}
	if b.cooling && len(mine) == 0 {
		return
	}
	b.cooling = true
	b.f.later(b.backoff.Next(), func() {
		b.cooling = false
		for _, p := range mine {
			p.waiting = false
		}
		b.kick()
		signal(b.f.news)
	})
}

// found: the broker has answered.
func (b *broker) found() {
	b.backoff.Reset()
	if b.down {
		b.f.cfg.Logger.Info("broker back", "broker", b.id, "addr", b.addr)
		b.down = false
	}
}

// ErrRetentionGap is the sticky error of a partition whose position the broker has deleted.
type ErrRetentionGap struct {
	Position int64 // where reading stood
	Start    int64 // the first offset that is left
}

func (e *ErrRetentionGap) Error() string {
	return fmt.Sprintf("retention gap: offsets %d to %d were deleted before they were read", e.Position, e.Start-1)
}

// ErrBeyondEnd is the sticky error of a partition that ends before the position: it was truncated, or deleted and recreated.
type ErrBeyondEnd struct {
	Position int64 // where reading stood
	End      int64 // the end offset now
}

func (e *ErrBeyondEnd) Error() string {
	return fmt.Sprintf("position %d is beyond the end %d: the topic was truncated or recreated", e.Position, e.End)
}

var errClosed = errors.New("partition closed")
