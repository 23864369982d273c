package group

import (
	"context"
	"errors"
	"net"
	"sync"
)

// gate is the way to the network for kafka-go's group, which can neither be interrupted while it waits for an answer, nor be closed
// without leaving the group.
type gate struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu     sync.Mutex
	closed bool
	conns  map[*gated]struct{}
}

var errGateShut = errors.New("group: stopping, no new connections")

func (g *gate) open(ctx context.Context, network, addr string) (net.Conn, error) {
	if g.isShut() {
		return nil, errGateShut
	}
	c, err := g.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	k := &gated{Conn: c, gate: g}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		_ = c.Close()
		return nil, errGateShut
	}
	if g.conns == nil {
		g.conns = make(map[*gated]struct{})
	}
	g.conns[k] = struct{}{}
	return k, nil
}

func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// shut refuses new connections; those that are open stay so.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// hangUp closes all connections.
func (g *gate) hangUp() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k := range g.conns {
		_ = k.Conn.Close()
	}
}

// gated is a connection that its gate knows of.
type gated struct {
	net.Conn
	gate *gate
}

func (k *gated) Close() error {
	k.gate.mu.Lock()
	delete(k.gate.conns, k)
	k.gate.mu.Unlock()
	return k.Conn.Close()
}
