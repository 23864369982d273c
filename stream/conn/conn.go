package conn

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
)

const (
	readBuffer = 64 << 10
	// maxAnswer bounds what a broken or hostile broker can make this process allocate for one answer. Fetch answers are
	// bounded by their requests, plus one batch that is larger than the bound.
	maxAnswer = 512 << 20
)

// past is a deadline that has gone by: it ends a blocked read or write at once.
func past() time.Time { return time.Unix(1, 0) }

// Conn is one connection to one broker, logged in, with the versions of all requests agreed. One request at a time; calls
// from several goroutines at once are refused. After an error that leaves the stream in an unknown place the connection is
// closed and every further call returns ErrClosed.
type Conn struct {
	nc       net.Conn
	br       *bufio.Reader
	addr     string
	clientID string
	versions map[protocol.ApiKey]int16
	timeout  time.Duration // where the context has no deadline
	corr     int32
	busy     atomic.Bool
	closed   atomic.Bool
	head     []byte
}

// Addr is the address as it was dialled.
func (c *Conn) Addr() string { return c.addr }

// Version is the version in which requests of this kind are sent, false if broker and program share none.
func (c *Conn) Version(key protocol.ApiKey) (int16, bool) {
	v, ok := c.versions[key]
	return v, ok
}

// Close may be called from anywhere, also to end a call in progress.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	return c.nc.Close()
}

// Closed says that the connection is of no more use.
func (c *Conn) Closed() bool { return c.closed.Load() }

// RoundTrip sends req and waits for its answer, until the deadline of ctx or, where it has none, the cluster's request
// timeout. Error codes within the answer are the caller's to look at. nil is answered for requests that have no answer.
func (c *Conn) RoundTrip(ctx context.Context, req protocol.Message) (protocol.Message, error) {
	version, ok := c.versions[req.ApiKey()]
	if !ok && c.versions != nil {
		return nil, &Fault{
			Kind: ErrUnsupported, Addr: c.addr, Err: fmt.Errorf("no common version of %v", req.ApiKey()),
			Mend: "Kafka 2.5 to 4.x is supported",
		}
	}
	if p, ok := req.(protocol.PreparedMessage); ok {
		p.Prepare(version)
	}
	var res protocol.Message
	err := c.during(ctx, func() error {
		if raw, ok := req.(protocol.RawExchanger); ok && raw.Required(c.versions) {
			var err error
			res, err = raw.RawExchange(struct {
				io.Reader
				io.Writer
			}{c.br, c.nc})
			return err
		}
		c.corr++
		if err := protocol.WriteRequest(c.nc, version, c.corr, c.clientID, req); err != nil {
			return err
		}
		if x, ok := req.(interface{ HasResponse() bool }); ok && !x.HasResponse() {
			return nil
		}
		if err := c.plausible(); err != nil {
			return err
		}
		corr, m, err := protocol.ReadResponse(c.br, req.ApiKey(), version)
		if err == nil && corr != c.corr {
			err = fmt.Errorf("answer to request %d instead of %d", corr, c.corr)
		}
		res = m
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%v to %s: %w", req.ApiKey(), c.addr, err)
	}
	return res, nil
}

// plausible looks at the size of the answer that is coming: kafka-go panics on a negative one.
func (c *Conn) plausible() error {
	b, err := c.br.Peek(4)
	if err != nil {
		if err == io.EOF && len(b) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if size := int32(binary.BigEndian.Uint32(b)); size < 4 || size > maxAnswer {
		return fmt.Errorf("answer of %d bytes", size)
	}
	return nil
}

// Exchange sends a request whose body the caller has encoded (non-flexible header version 1) and hands the answer's body,
// behind the correlation id, to read, which must not keep the Answer. It is for the few requests that are worth an own
// encoding. What read leaves is skipped; an error of read closes the connection.
func (c *Conn) Exchange(ctx context.Context, key protocol.ApiKey, version int16, body []byte, read func(*Answer) error) error {
	err := c.during(ctx, func() error {
		c.corr++
		h := append(c.head[:0], 0, 0, 0, 0)
		h = binary.BigEndian.AppendUint16(h, uint16(key))
		h = binary.BigEndian.AppendUint16(h, uint16(version))
		h = binary.BigEndian.AppendUint32(h, uint32(c.corr))
		h = binary.BigEndian.AppendUint16(h, uint16(len(c.clientID)))
		h = append(append(h, c.clientID...), body...)
		binary.BigEndian.PutUint32(h, uint32(len(h)-4))
		c.head = h
		if _, err := c.nc.Write(h); err != nil {
			return err
		}
		a := &Answer{r: c.br, left: 8}
		size := a.Int32()
		corr := a.Int32()
		switch {
		case a.err != nil:
			return a.err
		case size < 4 || size > maxAnswer:
			return fmt.Errorf("answer of %d bytes", size)
		case corr != c.corr:
			return fmt.Errorf("answer to request %d instead of %d", corr, c.corr)
		}
		a.left = int(size) - 4
		if err := read(a); err != nil {
			return err
		}
		if a.err != nil {
			return a.err
		}
		_, err := c.br.Discard(a.left)
		return err
	})
	if err != nil {
		return fmt.Errorf("%v to %s: %w", key, c.addr, err)
	}
	return nil
}

// during runs one exchange under the deadline and the cancellation of ctx. Any error closes the connection: what is left in
// the stream belongs to an answer that nobody waits for.
func (c *Conn) during(ctx context.Context, exchange func() error) error {
	if !c.busy.CompareAndSwap(false, true) {
		return errors.New("connection used by two callers at once")
	}
	defer c.busy.Store(false)
	if c.closed.Load() {
		return ErrClosed
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	if err := c.nc.SetDeadline(deadline); err != nil {
		c.Close()
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.nc.SetDeadline(past()) })
	err := exchange()
	if !stop() && err == nil {
		// The context ended while the answer came: AfterFunc may yet spoil the deadline of the next exchange.
		c.Close()
		return nil
	}
	if err != nil {
		c.Close()
		if ctx.Err() != nil {
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
	}
	return err
}

// Answer reads the body of an answer in order. After an error every read gives zero values; Err tells.
type Answer struct {
	r    *bufio.Reader
	left int
	err  error
}

// Err is the first error met.
func (a *Answer) Err() error { return a.err }

// Left is how many bytes of the answer are still to be read.
func (a *Answer) Left() int { return a.left }

func (a *Answer) take(n int) []byte {
	if a.err != nil {
		return nil
	}
	if n > a.left {
		a.err = fmt.Errorf("answer ends early: %d bytes wanted, %d left", n, a.left)
		return nil
	}
	b, err := a.r.Peek(n)
	if err != nil {
		a.err = err
		return nil
	}
	a.left -= n
	_, a.err = a.r.Discard(n) // what was peeked at is there
	return b
}

// Int16 reads two bytes.
func (a *Answer) Int16() int16 {
	if b := a.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

// Int32 reads four bytes.
func (a *Answer) Int32() int32 {
	if b := a.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

// Int64 reads eight bytes.
func (a *Answer) Int64() int64 {
	if b := a.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// ShortBytes reads a string with a two-byte length; the bytes are valid until the next read.
func (a *Answer) ShortBytes() []byte {
	n := a.Int16()
	if n <= 0 {
		return nil
	}
	return a.take(int(n))
}

// Full fills b.
func (a *Answer) Full(b []byte) {
	if a.err != nil {
		return
	}
	if len(b) > a.left {
		a.err = fmt.Errorf("answer ends early: %d bytes wanted, %d left", len(b), a.left)
		return
	}
	a.left -= len(b)
	_, a.err = io.ReadFull(a.r, b)
}

// Open connects to the broker at addr: TLS, agreement on versions, login. The whole of it takes at most the cluster's dial
// timeout. Failures are Faults.
func (c *Cluster) Open(ctx context.Context, addr string) (*Conn, error) {
	if c.ctx.Err() != nil {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	stop := context.AfterFunc(c.ctx, cancel)
	defer stop()

	nc, err := c.cfg.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, dialFault(addr, err)
	}
	if c.cfg.TLS != nil {
		secure, err := c.handshake(ctx, nc, addr)
		if err != nil {
			nc.Close()
			return nil, err
		}
		nc = secure
	}
	k := &Conn{
		nc: nc, br: bufio.NewReaderSize(nc, readBuffer), addr: addr, clientID: c.cfg.ClientID,
		timeout: c.cfg.RequestTimeout,
	}
	if err := c.greet(ctx, k); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// half gives an attempt half of the time that is left, so that the cause of its failure can be looked for in the other.
func half(ctx context.Context, whole time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, whole/2)
}

func (c *Cluster) handshake(ctx context.Context, nc net.Conn, addr string) (net.Conn, error) {
	t := tls.Client(nc, c.tlsFor(addr))
	hctx, cancel := half(ctx, c.cfg.DialTimeout)
	defer cancel()
	err := t.HandshakeContext(hctx)
	if err == nil {
		return t, nil
	}
	plain := &Fault{
		Kind: ErrTLSUnexpected, Addr: addr, Err: err,
		Mend: "remove tls from the configuration, or use the port of the cluster's TLS listener",
	}
	var header tls.RecordHeaderError
	if errors.As(err, &header) {
		return nil, plain
	}
	if f := certificateFault(addr, err); f != nil {
		return nil, f
	}
	if hungUp(err) && c.speaksPlain(ctx, addr) {
		return nil, plain
	}
	return nil, &Fault{Kind: ErrUnreachable, Addr: addr, Err: fmt.Errorf("TLS handshake: %w", err), Mend: "the broker gave no answer; is this its TLS port?"}
}

func (c *Cluster) tlsFor(addr string) *tls.Config {
	t := c.cfg.TLS
	if t == nil {
		t = &tls.Config{}
	}
	if t.ServerName != "" {
		return t
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	t = t.Clone()
	t.ServerName = host
	return t
}

// speaksPlain asks the port for its versions in plain text.
func (c *Cluster) speaksPlain(ctx context.Context, addr string) bool {
	nc, err := c.cfg.Dial(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	k := &Conn{nc: nc, br: bufio.NewReaderSize(nc, readBuffer), addr: addr, clientID: c.cfg.ClientID, timeout: c.cfg.DialTimeout}
	defer k.Close()
	_, err = k.RoundTrip(ctx, &apiversions.Request{})
	return err == nil
}

// speaksTLS begins a handshake, whose outcome does not matter as long as the other side takes part in it.
func (c *Cluster) speaksTLS(ctx context.Context, addr string) bool {
	nc, err := c.cfg.Dial(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer nc.Close()
	// Nothing is sent over this connection: it is only asked whether the port answers in TLS at all.
	t := tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // see above
	err = t.HandshakeContext(ctx)
	return err == nil || certificateFault(addr, err) != nil
}

// greet agrees on versions and logs in.
func (c *Cluster) greet(ctx context.Context, k *Conn) error {
	actx, cancel := half(ctx, c.cfg.DialTimeout)
	defer cancel()
	m, err := k.RoundTrip(actx, &apiversions.Request{})
	if err != nil {
		return c.greetFault(ctx, k.addr, err)
	}
	r := m.(*apiversions.Response)
	if err := CodeError(r.ErrorCode); err != nil {
		return &Fault{Kind: ErrUnsupported, Addr: k.addr, Err: err, Mend: "Kafka 2.5 to 4.x is supported"}
	}
	k.versions = agree(r.ApiKeys)
	if c.mechanism == nil {
		return nil
	}
	return c.login(ctx, k)
}

// agree picks the highest version that both sides know. kafka-go's own choice ignores the broker's minimum.
func agree(keys []apiversions.ApiKeyResponse) map[protocol.ApiKey]int16 {
	versions := make(map[protocol.ApiKey]int16, len(keys))
	for _, b := range keys {
		key := protocol.ApiKey(b.ApiKey)
		v := min(key.MaxVersion(), b.MaxVersion)
		if v >= key.MinVersion() && v >= b.MinVersion {
			versions[key] = v
		}
	}
	return versions
}

func (c *Cluster) greetFault(ctx context.Context, addr string, err error) error {
	if c.cfg.TLS == nil && hungUp(err) && c.speaksTLS(ctx, addr) {
		return &Fault{Kind: ErrTLSExpected, Addr: addr, Err: err, Mend: "add tls to the configuration, or use the port of a plain-text listener"}
	}
	if f := certificateFault(addr, err); f != nil {
		return f
	}
	return &Fault{Kind: ErrUnreachable, Addr: addr, Err: err, Mend: "the port is open but does not answer like a Kafka broker"}
}

func (c *Cluster) login(ctx context.Context, k *Conn) error {
	refused := func(err error, mend string) error {
		return &Fault{Kind: ErrAuth, Addr: k.addr, Err: err, Mend: mend}
	}
	m, err := k.RoundTrip(ctx, &saslhandshake.Request{Mechanism: c.mechanism.Name()})
	if err != nil {
		return c.loginFault(k.addr, err)
	}
	hs := m.(*saslhandshake.Response)
	switch code := kafka.Error(hs.ErrorCode); code {
	case 0:
	case kafka.IllegalSASLState:
		return refused(code, "this listener takes no login; remove sasl from the configuration or use the port of a SASL listener")
	default:
		return refused(code, fmt.Sprintf("mechanism %s is not offered here, but %v", c.mechanism.Name(), hs.Mechanisms))
	}
	host, port, _ := net.SplitHostPort(k.addr)
	n, _ := strconv.Atoi(port)
	session, say, err := c.mechanism.Start(sasl.WithMetadata(ctx, &sasl.Metadata{Host: host, Port: n}))
	if err != nil {
		return refused(err, "check the user name and password")
	}
	for done := false; !done; {
		m, err := k.RoundTrip(ctx, &saslauthenticate.Request{AuthBytes: say})
		if err != nil {
			return c.loginFault(k.addr, err)
		}
		r := m.(*saslauthenticate.Response)
		if r.ErrorCode != 0 {
			return refused(&said{kafka.Error(r.ErrorCode), r.ErrorMessage}, "check the user name and password; SCRAM users must be created on the cluster for this mechanism")
		}
		if done, say, err = session.Next(ctx, r.AuthBytes); err != nil {
			return refused(err, "check the user name and password")
		}
	}
	return nil
}

// loginFault tells a broker that hangs up on a login from one that is gone.
func (c *Cluster) loginFault(addr string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Fault{Kind: ErrAuth, Addr: addr, Err: err, Mend: "the broker hung up during the login; check mechanism, user name and password"}
	}
	return &Fault{Kind: ErrUnreachable, Addr: addr, Err: fmt.Errorf("login: %w", err)}
}
