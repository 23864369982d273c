package kafkatest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Options shape an embedded cluster.
type Options struct {
	// Brokers is the number of nodes, 1 if zero.
	Brokers int
	// TLS makes the listeners speak TLS with a certificate made for the test.
	TLS bool
	// Login makes the listeners ask for this user.
	Login *Login
	// Kfake are further options of the embedded broker.
	Kfake []kfake.Opt
}

// Fake starts an embedded cluster on loopback ports. It ends with the test.
func Fake(t testing.TB, o Options) *Broker {
	t.Helper()
	return startFake(t, o, nil)
}

// Virtual starts an embedded cluster on an in-memory network. Called inside a testing/synctest bubble, everything on it runs in
// virtual time; clients must use Broker.Dial.
func Virtual(t testing.TB, o Options) *Broker {
	t.Helper()
	return startFake(t, o, newNetwork())
}

func startFake(t testing.TB, o Options, n *network) *Broker {
	t.Helper()
	b := &Broker{prefix: newPrefix(), Login: o.Login}
	opts := []kfake.Opt{kfake.NumBrokers(max(o.Brokers, 1))}
	if o.TLS {
		ca := newAuthority(t)
		opts = append(opts, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.issue(t, "localhost")}, MinVersion: tls.VersionTLS12}))
		b.TLS = ca.client()
	}
	if l := o.Login; l != nil {
		opts = append(opts, kfake.EnableSASL(), kfake.Superuser(l.Mechanism, l.Username, l.Password))
	}
	if n != nil {
		opts = append(opts, kfake.ListenFn(n.listen))
		b.Dial = n.dial
	}
	c, err := kfake.NewCluster(append(opts, o.Kfake...)...)
	if err != nil {
		t.Fatalf("kafkatest: embedded cluster: %v", err)
	}
	t.Cleanup(c.Close)
	b.Addrs, b.Fake = c.ListenAddrs(), c
	return b
}

// network is an in-memory replacement of TCP: net.Pipe connections between listeners and dialers, told apart by address.
// A goroutine that waits on a pipe is durably blocked in the sense of testing/synctest; one that waits on a socket is not.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	next      int
}

func newNetwork() *network { return &network{listeners: map[string]*listener{}, next: 9000} }

func (n *network) listen(_, _ string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	a := address(fmt.Sprintf("127.0.0.1:%d", n.next))
	l := &listener{net: n, addr: a, accept: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[string(a)] = l
	return l, nil
}

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connection refused: nobody listens on %s", addr)}
	}
	client, server := net.Pipe()
	select {
	case l.accept <- endpoint{server, l.addr, "127.0.0.1:1"}:
		return endpoint{client, "127.0.0.1:1", l.addr}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

type listener struct {
	net    *network
	addr   address
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		delete(l.net.listeners, string(l.addr))
		l.net.mu.Unlock()
	})
	return nil
}

func (l *listener) Addr() net.Addr { return l.addr }

type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

// endpoint is one end of a pipe with the addresses of a TCP connection: clients parse them.
type endpoint struct {
	net.Conn
	local, remote address
}

func (e endpoint) LocalAddr() net.Addr  { return e.local }
func (e endpoint) RemoteAddr() net.Addr { return e.remote }
