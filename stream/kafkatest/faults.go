package kafkatest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
)

// Kafka's api keys, for Faults.
const (
	KeyProduce            int16 = 0
	KeyFetch              int16 = 1
	KeyInitProducerID     int16 = 22
	KeyAddPartitionsToTxn int16 = 24
	KeyAddOffsetsToTxn    int16 = 25
	KeyEndTxn             int16 = 26
	KeyTxnOffsetCommit    int16 = 28
)

// Faults breaks connections at chosen requests. It works on plaintext connections with one request in flight. The zero value breaks none;
// safe for concurrent use.
type Faults struct {
	mu     sync.Mutex
	lose   map[int16]int
	refuse map[int16]int
	seen   map[int16]int
	before map[int16]func()
}

var errFault = errors.New("connection cut by a test")

// LoseAnswers lets the next n requests of the kind be carried out, and cuts the connection instead of their answers.
func (f *Faults) LoseAnswers(key int16, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	put(&f.lose, key, n)
}

// LoseRequests cuts the connection before the next n requests of the kind are sent.
func (f *Faults) LoseRequests(key int16, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	put(&f.refuse, key, n)
}

// Before has something done before the next request of the kind is sent, once.
func (f *Faults) Before(key int16, do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.before == nil {
		f.before = make(map[int16]func())
	}
	f.before[key] = do
}

// Seen is how many requests of the kind were begun.
func (f *Faults) Seen(key int16) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[key]
}

func put(m *map[int16]int, key int16, n int) {
	if *m == nil {
		*m = make(map[int16]int)
	}
	(*m)[key] = n
}

// begin says what happens to a request.
func (f *Faults) begin(key int16) (lose, refuse bool) {
	f.mu.Lock()
	if do := f.before[key]; do != nil {
		delete(f.before, key)
		f.mu.Unlock()
		do()
		f.mu.Lock()
	}
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = make(map[int16]int)
	}
	f.seen[key]++
	if f.refuse[key] > 0 {
		f.refuse[key]--
		return false, true
	}
	if f.lose[key] > 0 {
		f.lose[key]--
		return true, false
	}
	return false, false
}

// Dial wraps a dialer; nil is the plain net.Dialer.
func (f *Faults) Dial(dial DialFunc) DialFunc {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &faulty{Conn: c, faults: f}, nil
	}
}

// faulty is a connection that knows where requests begin.
type faulty struct {
	net.Conn
	faults *Faults

	head []byte // of the request being written, as far as it is known
	left int    // of the request being written, once the head is complete

	mu   sync.Mutex
	lose bool // the answer to the request in flight
}

// headSize covers a request's length and api key.
const headSize = 6

func (c *faulty) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		if c.left > 0 {
			n := min(c.left, len(rest))
			c.left -= n
			rest = rest[n:]
			continue
		}
		n := min(headSize-len(c.head), len(rest))
		c.head = append(c.head, rest[:n]...)
		rest = rest[n:]
		if len(c.head) < headSize {
			break
		}
		lose, refuse := c.faults.begin(int16(binary.BigEndian.Uint16(c.head[4:])))
		if refuse {
			_ = c.Conn.Close()
			return 0, errFaultOn("write")
		}
		c.mu.Lock()
		c.lose = lose
		c.mu.Unlock()
		c.left = int(binary.BigEndian.Uint32(c.head)) - 2
		c.head = c.head[:0]
	}
	return c.Conn.Write(b)
}

func (c *faulty) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	lose := c.lose
	c.mu.Unlock()
	if n > 0 && lose {
		_ = c.Conn.Close()
		return 0, io.EOF
	}
	return n, err
}

func errFaultOn(op string) error { return &net.OpError{Op: op, Net: "tcp", Err: errFault} }
