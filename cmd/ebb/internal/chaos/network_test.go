//go:build linux

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// network is a proxy between every instance and every broker: each instance has a listener of its own on each broker, which the
// broker advertises under the proxy's address. So one instance can be cut off while the others, and the brokers among each other, are not.
type network struct {
	server *toxiproxy.ApiServer
	mu     sync.Mutex
	links  map[link]*toxiproxy.Proxy
	next   int
}

// link is the way between one instance and one broker.
type link struct{ slot, node int }

func (l link) String() string { return fmt.Sprintf("ebb%d-broker%d", l.slot, l.node) }

func newNetwork() *network {
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics know no other logger
	return &network{
		server: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()),
		links:  map[link]*toxiproxy.Proxy{},
	}
}

// add puts a proxy at an address, before a listener of a broker.
func (n *network) add(l link, public, upstream string) error {
	p := toxiproxy.NewProxy(n.server, l.String(), public, upstream)
	n.mu.Lock()
	n.links[l] = p
	n.mu.Unlock()
	return p.Start()
}

func (n *network) proxy(l link) *toxiproxy.Proxy {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[l]
}

// poison puts a toxic on a link, in both directions unless one is named, and returns what takes it off again. A half-open connection is
// closed when its toxic is taken off: what it swallowed is gone.
func (n *network) poison(l link, kind, direction string, attributes map[string]int) (heal func(), err error) {
	p := n.proxy(l)
	directions := []string{"upstream", "downstream"}
	if direction != "" {
		directions = []string{direction}
	}
	var names []string
	heal = func() {
		for _, name := range names {
			_ = p.Toxics.RemoveToxic(context.Background(), name)
		}
	}
	for _, d := range directions {
		n.mu.Lock()
		n.next++
		name := fmt.Sprintf("%s-%d", kind, n.next)
		n.mu.Unlock()
		body, err := json.Marshal(map[string]any{"name": name, "type": kind, "stream": d, "toxicity": 1, "attributes": attributes})
		if err != nil {
			return heal, err
		}
		if _, err := p.Toxics.AddToxicJson(bytes.NewReader(body)); err != nil {
			return heal, err
		}
		names = append(names, name)
	}
	return heal, nil
}

// down cuts all connections of a link and refuses new ones until up.
func (n *network) down(l link) { n.proxy(l).Stop() }

func (n *network) up(l link) error {
	p := n.proxy(l)
	p.Lock()
	enabled := p.Enabled
	p.Unlock()
	if enabled {
		return nil
	}
	return p.Start()
}

func (n *network) close() {
	for _, p := range n.links {
		p.Stop()
	}
}
