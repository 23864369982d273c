package txn

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
	"github.com/segmentio/kafka-go/protocol/txnoffsetcommit"

	"ebb/stream/conn"
)

// maxIdle bounds the connections kept open to one broker: two for each of four transactions in flight.
const maxIdle = 8

// Pool holds connections for the producers of one instance: one request at a time on each. Safe for concurrent use.
type Pool struct {
	cluster *conn.Cluster

	mu     sync.Mutex
	idle   map[string][]*conn.Conn
	closed bool
}

// NewPool makes an empty pool.
func NewPool(cluster *conn.Cluster) *Pool {
	return &Pool{cluster: cluster, idle: make(map[string][]*conn.Conn)}
}

// Close closes the idle connections; those in use are closed when they come back.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for addr, conns := range p.idle {
		for _, c := range conns {
			_ = c.Close()
		}
		delete(p.idle, addr)
	}
}

// ask sends one request to a broker, over an idle connection if there is one.
func (p *Pool) ask(ctx context.Context, addr string, req protocol.Message) (protocol.Message, error) {
	var m protocol.Message
	err := p.use(ctx, addr, func(c *conn.Conn) (err error) {
		m, err = c.RoundTrip(ctx, req)
		return err
	})
	return m, err
}

func (p *Pool) use(ctx context.Context, addr string, f func(*conn.Conn) error) error {
	c, err := p.get(ctx, addr)
	if err != nil {
		return err
	}
	defer p.put(addr, c)
	return f(c)
}

func (p *Pool) get(ctx context.Context, addr string) (*conn.Conn, error) {
	p.mu.Lock()
	conns := p.idle[addr]
	for len(conns) > 0 {
		c := conns[len(conns)-1]
		conns = conns[:len(conns)-1]
		p.idle[addr] = conns
		if !c.Closed() {
			p.mu.Unlock()
			return c, nil
		}
	}
	p.mu.Unlock()
	return p.cluster.Open(ctx, addr)
}

func (p *Pool) put(addr string, c *conn.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Closed() {
		// What ended this one has most likely ended those that lie idle: a broker that restarted, or that closes what was quiet for long. Tried one
		// after another, with a pause that grows, they would hold up a transaction for seconds.
		for _, idle := range p.idle[addr] {
			_ = idle.Close()
		}
		delete(p.idle, addr)
		return
	}
	if p.closed || len(p.idle[addr]) >= maxIdle {
		_ = c.Close()
		return
	}
	p.idle[addr] = append(p.idle[addr], c)
}

// The key types of FindCoordinator.
const (
	groupKey       int8 = 0
	transactionKey int8 = 1
)

// coordinator asks the cluster who coordinates a group or a transactional id.
func (p *Pool) coordinator(ctx context.Context, kind int8, key string) (addr string, err error) {
	m, err := p.cluster.RoundTripAny(ctx, &findcoordinator.Request{Key: key, KeyType: kind}) // those that are configured may be gone while the others go on
	if err != nil {
		return "", fmt.Errorf("find coordinator: %w", err)
	}
	r := m.(*findcoordinator.Response)
	if err := answerMessage(r.ErrorCode, r.ErrorMessage); err != nil {
		return "", fmt.Errorf("find coordinator: %w", err)
	}
	return net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port))), nil
}

// lookup remembers one coordinator. Used by one goroutine at a time.
type lookup struct {
	kind int8
	key  string
	addr string
}

func (l *lookup) find(ctx context.Context, p *Pool) (string, error) {
	if l.addr != "" {
		return l.addr, nil
	}
	addr, err := p.coordinator(ctx, l.kind, l.key)
	if err == nil {
		l.addr = addr
	}
	return addr, err
}

// ask sends a request to the coordinator. After a fault, or an answer that says so, it is looked for anew.
func (l *lookup) ask(ctx context.Context, p *Pool, req protocol.Message) (protocol.Message, error) {
	addr, err := l.find(ctx, p)
	if err != nil {
		return nil, err
	}
	m, err := p.ask(ctx, addr, req)
	if err != nil {
		l.forget()
	}
	return m, err
}

// generations is the version from which on TxnOffsetCommit tells generation and member id, of Kafka 2.5. In an older one kafka-go leaves them out
// without a word, and the broker takes the commit of a former owner.
const generations = 3

// commitOffsets sends a TxnOffsetCommit, not to a broker that would not be told the generation.
func (l *lookup) commitOffsets(ctx context.Context, p *Pool, req *txnoffsetcommit.Request) (m protocol.Message, err error) {
	addr, err := l.find(ctx, p)
	if err != nil {
		return nil, err
	}
	err = p.use(ctx, addr, func(c *conn.Conn) (err error) {
		if v, ok := c.Version(protocol.TxnOffsetCommit); ok && v < generations && req.GenerationID >= 0 {
			return &conn.Fault{
				Kind: conn.ErrUnsupported, Addr: addr, Err: fmt.Errorf("version %d of TxnOffsetCommit does not tell the generation, so that nothing would fence an instance that has lost the partition", v),
				Mend: "Kafka 2.5 to 4.x is supported",
			}
		}
		m, err = c.RoundTrip(ctx, req)
		return err
	})
	if err != nil {
		l.forget()
	}
	return m, err
}

func (l *lookup) forget() { l.addr = "" }

// heartbeat sends a heartbeat of version 0 for a member. kafka-go's own message cannot be used: from version 1 on it takes two bytes of the
// throttle time for the error code, which is then always 0.
func (l *lookup) heartbeat(ctx context.Context, p *Pool, generation int32, member string) (code int16, err error) {
	addr, err := l.find(ctx, p)
	if err != nil {
		return 0, err
	}
	body := appendString(nil, l.key)
	body = binary.BigEndian.AppendUint32(body, uint32(generation))
	body = appendString(body, member)
	err = p.use(ctx, addr, func(c *conn.Conn) error {
		return c.Exchange(ctx, protocol.Heartbeat, 0, body, func(a *conn.Answer) error {
			code = a.Int16()
			return a.Err()
		})
	})
	if err != nil {
		l.forget()
	}
	return code, err
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}
