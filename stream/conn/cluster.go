package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// SASL is a login.
type SASL struct {
	Mechanism string // plain, scram-sha-256 or scram-sha-512
	Username  string
	Password  string
}

// Config says how to reach a cluster. Only Brokers is required.
type Config struct {
	Brokers  []string    // host:port, any few of the cluster's brokers
	ClientID string      // what the broker's logs and quotas call this program; default ebb
	TLS      *tls.Config // nil: plain text. An empty ServerName becomes each broker's host
	SASL     *SASL       // nil: no login

	Dial           func(ctx context.Context, network, addr string) (net.Conn, error) // nil: net.Dialer
	DialTimeout    time.Duration                                                     // connect, TLS, versions and login together; default 10 s
	RequestTimeout time.Duration                                                     // where a call's context has no deadline; default 30 s: a dying follower stalls a produce for 10 s
	Rand           func() float64                                                    // in [0,1), spreads clients over brokers; nil: math/rand/v2
}

func (c Config) withDefaults() (Config, error) {
	if len(c.Brokers) == 0 {
		return c, errors.New("no Kafka brokers given")
	}
	for _, b := range c.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			return c, fmt.Errorf("broker address %q: %w (want host:port)", b, err)
		}
	}
	if c.ClientID == "" {
		c.ClientID = "ebb"
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	if c.DialTimeout <= 0 {
		c.DialTimeout = 10 * time.Second
	}
	if c.RequestTimeout <= 0 {
		c.RequestTimeout = 30 * time.Second
	}
	if c.Rand == nil {
		c.Rand = rand.Float64
	}
	return c, nil
}

func (s *SASL) mechanism() (sasl.Mechanism, error) {
	if s == nil {
		return nil, nil
	}
	switch s.Mechanism {
	case "plain":
		return plain.Mechanism{Username: s.Username, Password: s.Password}, nil
	case "scram-sha-256":
		return scram.Mechanism(scram.SHA256, s.Username, s.Password)
	case "scram-sha-512":
		return scram.Mechanism(scram.SHA512, s.Username, s.Password)
	}
	return nil, fmt.Errorf("unknown SASL mechanism %q (want plain, scram-sha-256 or scram-sha-512)", s.Mechanism)
}

// Cluster is a handle on one Kafka cluster; safe for concurrent use. Making one does not connect.
type Cluster struct {
	cfg       Config
	mechanism sasl.Mechanism
	ctx       context.Context
	cancel    context.CancelFunc
	transport *kafka.Transport

	mu      sync.Mutex          // short sections only, never held across I/O
	brokers []Broker            // as of the last metadata
	topics  map[string]Topic    // leaders as of the last metadata, until invalidated
	control map[string]*control // by address
}

// control is the connection for rare requests to one broker. The slot is a channel, not a mutex, because it is held while
// waiting for the network.
type control struct {
	slot chan struct{}
	conn *Conn
}

// Broker is one member of the cluster, at the address that it advertises.
type Broker struct {
	ID   int32
	Addr string
}

// Partition is what metadata says of one partition. LeaderID is -1 while there is none.
type Partition struct {
	ID       int32
	LeaderID int32
	Replicas int
	Err      error
}

// Topic is what metadata says of one topic: its partitions ordered by id, or why there are none (ErrTopicMissing,
// ErrUnauthorized, ...).
type Topic struct {
	Name       string
	Partitions []Partition
	Err        error
}

// New checks the configuration and makes a handle.
func New(cfg Config) (*Cluster, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	mechanism, err := cfg.SASL.mechanism()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Cluster{
		cfg: cfg, mechanism: mechanism, ctx: ctx, cancel: cancel,
		transport: &kafka.Transport{
			// Once used it asks for the metadata of all topics at this interval for good, which in a large cluster is much.
			// What has to follow a moved leader quickly does not go this way.
			Dial: cfg.Dial, DialTimeout: cfg.DialTimeout, MetadataTTL: 5 * time.Second, ClientID: cfg.ClientID,
			TLS: cfg.TLS, SASL: mechanism, Context: ctx,
		},
		topics: map[string]Topic{}, control: map[string]*control{},
	}, nil
}

// Close ends all shared connections. Connections from Open are their owners' to close.
func (c *Cluster) Close() {
	c.cancel()
	c.transport.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.control {
		select {
		case k.slot <- struct{}{}:
			if k.conn != nil {
				k.conn.Close()
			}
		default: // in use: its user closes it, because the cluster's context has ended
		}
	}
}

// Client is kafka-go's client over the one shared transport, with a timeout of 30 s a call. For administration; its Fetch
// must not be used on compacted or transactional topics.
func (c *Cluster) Client() *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(c.cfg.Brokers...), Timeout: 30 * time.Second, Transport: c.transport}
}

// Dialer is kafka-go's dialer, for its ConsumerGroup.
func (c *Cluster) Dialer() *kafka.Dialer {
	return &kafka.Dialer{
		ClientID: c.cfg.ClientID, DialFunc: c.cfg.Dial, Timeout: c.cfg.DialTimeout, TLS: c.cfg.TLS, SASLMechanism: c.mechanism,
	}
}

// Brokers are the configured addresses.
func (c *Cluster) Brokers() []string { return slices.Clone(c.cfg.Brokers) }

// Check finds out, once, whether the cluster can be used: address, TLS, login, the first request, and that at least one of
// the addresses that the cluster advertises can be reached from here. The error is a Fault.
func (c *Cluster) Check(ctx context.Context) error {
	var worst error
	for _, addr := range c.cfg.Brokers {
		err := c.checkOne(ctx, addr)
		if err == nil {
			return nil
		}
		// That one address of several is dead says less than that another refuses the login.
		if worst == nil || errors.Is(worst, ErrUnreachable) && !errors.Is(err, ErrUnreachable) {
			worst = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return worst
}

func (c *Cluster) checkOne(ctx context.Context, addr string) error {
	k, err := c.Open(ctx, addr)
	if err != nil {
		return err
	}
	defer k.Close()
	m, err := k.RoundTrip(ctx, &metadata.Request{TopicNames: []string{}})
	if err != nil {
		return c.firstRequestFault(addr, err)
	}
	brokers := brokersOf(m.(*metadata.Response))
	if len(brokers) == 0 {
		return &Fault{Kind: ErrUnreachable, Addr: addr, Err: errors.New("the cluster names no broker"), Mend: "it may be starting; try again"}
	}
	for _, b := range brokers {
		if b.Addr == addr {
			return nil
		}
	}
	var last error
	for _, b := range brokers {
		advertised, err := c.Open(ctx, b.Addr)
		if err == nil {
			advertised.Close()
			return nil
		}
		last = err
	}
	return &Fault{
		Kind: ErrUnreachable, Addr: addr, Err: fmt.Errorf("none of the addresses that the cluster advertises can be used: %w", last),
		Mend: "correct advertised.listeners on the brokers, or the name resolution and network here",
	}
}

// firstRequestFault: a broker that wants a login and gets none accepts the connection, tells its versions, and hangs up on
// the first real request; one that wants a client certificate may say so only then.
func (c *Cluster) firstRequestFault(addr string, err error) error {
	if f := certificateFault(addr, err); f != nil {
		return f
	}
	hung := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || IsNetwork(err) && !errors.Is(err, context.DeadlineExceeded)
	if c.mechanism == nil && hung {
		return &Fault{Kind: ErrAuth, Addr: addr, Err: err, Mend: "the broker hung up on the first request: it most likely wants a login; add sasl to the configuration"}
	}
	return &Fault{Kind: ErrUnreachable, Addr: addr, Err: err}
}

// RoundTrip sends a rare request to the broker at addr over a shared connection, which stays open for the next one.
func (c *Cluster) RoundTrip(ctx context.Context, addr string, req protocol.Message) (protocol.Message, error) {
	k, err := c.acquire(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer func() { <-k.slot }()
	if k.conn != nil && !k.conn.Closed() {
		m, err := k.conn.RoundTrip(ctx, req)
		// A connection that lay idle may have been closed by the broker long ago; that says nothing of now.
		if err == nil || ctx.Err() != nil || !hungUp(err) || errors.Is(err, ErrUnsupported) {
			return m, err
		}
	}
	if k.conn, err = c.Open(ctx, addr); err != nil {
		return nil, err
	}
	m, err := k.conn.RoundTrip(ctx, req)
	if c.ctx.Err() != nil {
		k.conn.Close()
	}
	return m, err
}

func (c *Cluster) acquire(ctx context.Context, addr string) (*control, error) {
	if c.ctx.Err() != nil {
		return nil, ErrClosed
	}
	c.mu.Lock()
	k := c.control[addr]
	if k == nil {
		k = &control{slot: make(chan struct{}, 1)}
		c.control[addr] = k
	}
	c.mu.Unlock()
	select {
	case k.slot <- struct{}{}:
		return k, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.ctx.Done():
		return nil, ErrClosed
	}
}

// RoundTripAny sends a rare request that every broker answers alike to the brokers last known, then to the configured ones, in random order, until
// one answers.
func (c *Cluster) RoundTripAny(ctx context.Context, req protocol.Message) (protocol.Message, error) {
	var worst error
	candidates := c.candidates()
	for i, addr := range candidates {
		attempt, cancel := ctx, context.CancelFunc(func() {})
		if i+1 < len(candidates) { // one that hangs leaves time for the others
			attempt, cancel = half(ctx, c.cfg.DialTimeout)
		}
		m, err := c.RoundTrip(attempt, addr, req)
		cancel()
		if err == nil {
			return m, nil
		}
		if worst == nil || errors.Is(worst, ErrUnreachable) && !errors.Is(err, ErrUnreachable) {
			worst = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, worst
}

func (c *Cluster) candidates() []string {
	c.mu.Lock()
	known := make([]string, 0, len(c.brokers))
	for _, b := range c.brokers {
		known = append(known, b.Addr)
	}
	c.mu.Unlock()
	configured := slices.Clone(c.cfg.Brokers)
	c.shuffle(known)
	c.shuffle(configured)
	for _, a := range configured {
		if !slices.Contains(known, a) {
			known = append(known, a)
		}
	}
	return known
}

func (c *Cluster) shuffle(a []string) {
	for i := len(a) - 1; i > 0; i-- {
		j := int(c.cfg.Rand() * float64(i+1))
		a[i], a[j] = a[j], a[i]
	}
}

// Topics asks the cluster for the named topics, or for all when none is named, and answers the cluster's id too. Topics
// that do not exist are in the answer with ErrTopicMissing; they are never created by being asked for.
func (c *Cluster) Topics(ctx context.Context, names ...string) (map[string]Topic, string, error) {
	m, err := c.RoundTripAny(ctx, &metadata.Request{TopicNames: names})
	if err != nil {
		return nil, "", fmt.Errorf("metadata: %w", err)
	}
	r := m.(*metadata.Response)
	topics := topicsOf(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.brokers = brokersOf(r)
	for name, t := range topics {
		if t.Err == nil {
			c.topics[name] = t
		} else {
			delete(c.topics, name)
		}
	}
	return topics, r.ClusterID, nil
}

// Members are the brokers that the cluster named when it was last asked for topics.
func (c *Cluster) Members() []Broker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.brokers)
}

// TopicsAt is what one broker knows of the named topics. A topic that was made a moment ago is not known to every broker yet.
func (c *Cluster) TopicsAt(ctx context.Context, addr string, names ...string) (map[string]Topic, error) {
	m, err := c.RoundTrip(ctx, addr, &metadata.Request{TopicNames: names})
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return topicsOf(m.(*metadata.Response)), nil
}

func topicsOf(r *metadata.Response) map[string]Topic {
	topics := make(map[string]Topic, len(r.Topics))
	for i := range r.Topics {
		t := topicOf(&r.Topics[i])
		topics[t.Name] = t
	}
	return topics
}

func brokersOf(r *metadata.Response) []Broker {
	brokers := make([]Broker, len(r.Brokers))
	for i, b := range r.Brokers {
		brokers[i] = Broker{ID: b.NodeID, Addr: net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))}
	}
	return brokers
}

func topicOf(t *metadata.ResponseTopic) Topic {
	topic := Topic{Name: t.Name, Err: CodeError(t.ErrorCode), Partitions: make([]Partition, len(t.Partitions))}
	for i, p := range t.Partitions {
		topic.Partitions[i] = Partition{ID: p.PartitionIndex, LeaderID: p.LeaderID, Replicas: len(p.ReplicaNodes), Err: CodeError(p.ErrorCode)}
	}
	slices.SortFunc(topic.Partitions, func(a, b Partition) int { return int(a.ID) - int(b.ID) })
	return topic
}

// Leader is the broker that leads the partition, from what was last learnt or, after Invalidate, from the cluster. It is
// ErrTopicMissing, ErrNoLeader or ErrUnauthorized when the cluster says so, a Fault when no broker answers.
func (c *Cluster) Leader(ctx context.Context, topic string, partition int32) (Broker, error) {
	if b, ok := c.KnownLeader(topic, partition); ok {
		return b, nil
	}
	topics, _, err := c.Topics(ctx, topic)
	if err != nil {
		return Broker{}, err
	}
	if err := topics[topic].Err; err != nil {
		return Broker{}, fmt.Errorf("topic %s: %w", topic, err)
	}
	if b, ok := c.KnownLeader(topic, partition); ok {
		return b, nil
	}
	for _, p := range topics[topic].Partitions {
		if p.ID == partition {
			return Broker{}, fmt.Errorf("topic %s partition %d: %w", topic, partition, ErrNoLeader)
		}
	}
	return Broker{}, fmt.Errorf("topic %s partition %d: %w", topic, partition, ErrTopicMissing)
}

// KnownLeader is the partition's leader as of the last metadata, without asking.
func (c *Cluster) KnownLeader(topic string, partition int32) (Broker, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.topics[topic].Partitions {
		if p.ID != partition || p.LeaderID < 0 {
			continue
		}
		for _, b := range c.brokers {
			if b.ID == p.LeaderID {
				return b, true
			}
		}
	}
	return Broker{}, false
}

// Invalidate forgets who leads the topic's partitions; called after an answer or an error that shows it to be wrong.
func (c *Cluster) Invalidate(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.topics, topic)
}

// At says which offset of a partition is asked for: Earliest, Latest, or the first one of a record with at least that
// timestamp (Unix milliseconds).
type At int64

// The two ends of a partition.
const (
	Latest   At = -1
	Earliest At = -2
)

// Isolation is what a reader gets to see.
type Isolation int8

// Reading uncommitted goes up to the high watermark, reading committed up to the last stable offset.
const (
	ReadUncommitted Isolation = 0
	ReadCommitted   Isolation = 1
)

// Offsets asks the leaders of the partitions. Where a timestamp was asked for and no later record exists the offset is -1.
// Leaders that moved are looked up again once.
func (c *Cluster) Offsets(ctx context.Context, topic string, partitions []int32, at At, isolation Isolation) (map[int32]int64, error) {
	offsets := make(map[int32]int64, len(partitions))
	todo := partitions
	for attempt := 0; ; attempt++ {
		failed, err := c.offsetsOnce(ctx, topic, todo, at, isolation, offsets)
		if err == nil {
			return offsets, nil
		}
		if attempt > 0 || !Retriable(err) || ctx.Err() != nil {
			return nil, fmt.Errorf("offsets of %s: %w", topic, err)
		}
		c.Invalidate(topic)
		todo = failed
	}
}

func (c *Cluster) offsetsOnce(ctx context.Context, topic string, partitions []int32, at At, isolation Isolation, out map[int32]int64) (failed []int32, first error) {
	fail := func(ids []int32, err error) {
		failed = append(failed, ids...)
		if first == nil {
			first = err
		}
	}
	byLeader := map[string][]int32{}
	for _, p := range partitions {
		b, err := c.Leader(ctx, topic, p)
		if err != nil {
			fail([]int32{p}, err)
			continue
		}
		byLeader[b.Addr] = append(byLeader[b.Addr], p)
	}
	for addr, ids := range byLeader {
		if err := c.offsetsFrom(ctx, addr, topic, ids, at, isolation, out, fail); err != nil {
			fail(ids, err)
		}
	}
	return failed, first
}

func (c *Cluster) offsetsFrom(ctx context.Context, addr, topic string, ids []int32, at At, isolation Isolation, out map[int32]int64, fail func([]int32, error)) error {
	req := &listoffsets.Request{ReplicaID: -1, IsolationLevel: int8(isolation), Topics: []listoffsets.RequestTopic{{Topic: topic}}}
	for _, p := range ids {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, listoffsets.RequestPartition{Partition: p, CurrentLeaderEpoch: -1, Timestamp: int64(at)})
	}
	m, err := c.RoundTrip(ctx, addr, req)
	if err != nil {
		return err
	}
	answered := make(map[int32]bool, len(ids))
	for _, t := range m.(*listoffsets.Response).Topics {
		for _, p := range t.Partitions {
			answered[p.Partition] = true
			if err := CodeError(p.ErrorCode); err != nil {
				fail([]int32{p.Partition}, fmt.Errorf("partition %d: %w", p.Partition, err))
				continue
			}
			out[p.Partition] = p.Offset
		}
	}
	for _, p := range ids { // one that is left out is not one that is empty
		if !answered[p] {
			fail([]int32{p}, fmt.Errorf("partition %d is not in the answer: %w", p, io.ErrUnexpectedEOF))
		}
	}
	return nil
}
