package stream_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"ebb/stream/kafkatest"
)

// wire is the network of one process, with a plug that can be pulled, and a hook at every request and answer. It works on plaintext
// connections with one request in flight.
type wire struct {
	dial kafkatest.DialFunc

	mu     sync.Mutex
	conns  map[*wired]struct{}
	pulled bool
	frozen chan struct{} // closed by thaw; nil when not frozen
	hook   func(key int16, answered bool) fate
}

// fate is what becomes of a request, or of its answer.
type fate uint8

const (
	passes   fate = iota
	cutOff        // the connection ends here
	pullPlug      // the whole network of the process ends here
)

var errCut = errors.New("cut by a test")

func newWire(dial kafkatest.DialFunc) *wire {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return &wire{dial: dial, conns: map[*wired]struct{}{}}
}

func (w *wire) open(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := w.pass(); err != nil {
		return nil, err
	}
	c, err := w.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	k := &wired{Conn: c, wire: w}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pulled {
		_ = c.Close()
		return nil, cutError("dial")
	}
	w.conns[k] = struct{}{}
	return k, nil
}

// wait returns when the process is not frozen.
func (w *wire) wait() {
	for {
		w.mu.Lock()
		frozen := w.frozen
		w.mu.Unlock()
		if frozen == nil {
			return
		}
		<-frozen
	}
}

// now is the clock of the process: nobody in a frozen process sees the time.
func (w *wire) now() time.Time {
	w.wait()
	return time.Now()
}

// pass waits while the process is frozen.
func (w *wire) pass() error {
	w.wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pulled {
		return cutError("dial")
	}
	return nil
}

// pull ends all connections, for good.
func (w *wire) pull() {
	w.mu.Lock()
	w.pulled = true
	w.mu.Unlock()
	w.cut()
}

// plug undoes pull.
func (w *wire) plug() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pulled = false
}

// cut ends all connections of this moment.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.conns {
		_ = k.Conn.Close()
		delete(w.conns, k)
	}
}

func (w *wire) freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = make(chan struct{})
}

func (w *wire) thaw() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.frozen)
	w.frozen = nil
}

func (w *wire) ask(key int16, answered bool) fate {
	w.mu.Lock()
	hook := w.hook
	w.mu.Unlock()
	if hook == nil {
		return passes
	}
	f := hook(key, answered)
	if f == pullPlug {
		w.pull()
	}
	return f
}

// on sets the hook, which is called with every request before it is sent and with its answer before it is seen.
func (w *wire) on(hook func(key int16, answered bool) fate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hook = hook
}

// slow makes every request take a while, so that in virtual time something can happen meanwhile.
func (w *wire) slow(d time.Duration) {
	w.on(func(_ int16, answered bool) fate {
		if !answered {
			nap(d)
		}
		return passes
	})
}

// wired is a connection that knows where requests begin.
type wired struct {
	net.Conn
	wire *wire
	head []byte // of the request being written
	left int

	mu      sync.Mutex
	waiting bool // for an answer
	key     int16
}

const requestHead = 6 // length and api key

func (c *wired) Write(b []byte) (int, error) {
	if err := c.wire.pass(); err != nil {
		return 0, err
	}
	for rest := b; len(rest) > 0; {
		if c.left > 0 {
			n := min(c.left, len(rest))
			c.left -= n
			rest = rest[n:]
			continue
		}
		n := min(requestHead-len(c.head), len(rest))
		c.head = append(c.head, rest[:n]...)
		rest = rest[n:]
		if len(c.head) < requestHead {
			break
		}
		key := int16(binary.BigEndian.Uint16(c.head[4:]))
		c.left = int(binary.BigEndian.Uint32(c.head)) - 2
		c.head = c.head[:0]
		if c.wire.ask(key, false) != passes {
			_ = c.Close()
			return 0, cutError("write")
		}
		c.mu.Lock()
		c.waiting, c.key = true, key
		c.mu.Unlock()
	}
	return c.Conn.Write(b)
}

func (c *wired) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if perr := c.wire.pass(); perr != nil {
		return 0, perr
	}
	c.mu.Lock()
	first, key := c.waiting && n > 0, c.key
	if first {
		c.waiting = false
	}
	c.mu.Unlock()
	if first && c.wire.ask(key, true) != passes {
		_ = c.Close()
		return 0, io.EOF
	}
	return n, err
}

func (c *wired) Close() error {
	c.wire.mu.Lock()
	delete(c.wire.conns, c)
	c.wire.mu.Unlock()
	return c.Conn.Close()
}

func cutError(op string) error { return &net.OpError{Op: op, Net: "tcp", Err: errCut} }
