package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// nodes of a Cluster: the least that keeps a quorum, and two replicas in sync, when one is lost.
const nodes = 3

// ClusterOptions shape a cluster of real brokers.
type ClusterOptions struct {
	// Properties are further broker properties, the same for every node. An empty value takes a property out.
	Properties map[string]string
	// Listeners are further plaintext listeners of every broker, beside the one that the helpers and the brokers themselves use.
	// A name has capital letters, digits and underscores.
	Listeners []string
	// Front puts a proxy in front of a further listener of a node (0 to 2), before the brokers start: it listens on the free address
	// public, under which clients are told to reach the listener, and leads to the address listen. Nil: there is none.
	Front func(node int, listener, public, listen string) error
}

// Cluster is three real brokers, each a controller too, that belong to one test. Topics have three replicas, of which two must be in
// sync. Its Broker is the cluster as the helpers see it; its methods are safe for concurrent use.
type Cluster struct {
	*Broker
	members   []*Node
	advertise map[string][]string
}

// Node is one broker of a Cluster.
type Node struct {
	mu     sync.Mutex
	proc   *process
	frozen bool
}

// StartCluster starts three brokers and waits until they serve; they end with the test. Without Java, Maven or Linux the test is
// skipped, or fails if EBB_REQUIRE_KAFKA=1.
func StartCluster(t testing.TB, o ClusterOptions) *Cluster {
	t.Helper()
	in, err := install()
	fatalOrAbsent(t, err)
	template, err := in.clusterTemplate()
	fatalOrAbsent(t, err)
	c := &Cluster{Broker: &Broker{prefix: newPrefix(), replicas: nodes}, advertise: map[string][]string{}}
	t.Cleanup(func() {
		for _, n := range c.members {
			n.Kill()
		}
	})
	if err := c.prepare(t, in, template, o); err != nil {
		t.Fatalf("kafkatest: cluster: %v", err)
	}
	for _, n := range c.members {
		if err := n.Start(); err != nil {
			t.Fatalf("kafkatest: cluster: %v", err)
		}
	}
	if err := c.Await(context.Background()); err != nil {
		t.Fatalf("kafkatest: cluster: %v", err)
	}
	return c
}

// Await waits until every broker serves, all of which must run.
func (c *Cluster) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	for i, n := range c.members {
		n.mu.Lock()
		err := n.proc.await(ctx)
		n.mu.Unlock()
		if err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
	}
	return nil
}

// prepare makes the directories and gives out the ports: every node has to know the others' before the first starts.
func (c *Cluster) prepare(t testing.TB, in *installation, template string, o ClusterOptions) error {
	t.Helper()
	free, err := freePorts(nodes * (2 + 2*len(o.Listeners)))
	if err != nil {
		return err
	}
	next := func() int {
		port := free[0]
		free = free[1:]
		return port
	}
	var voters []string
	for i := range nodes {
		dir, release, err := in.runDirFrom(filepath.Join(template, fmt.Sprint(i+1)))
		if err != nil {
			return err
		}
		t.Cleanup(release)
		p := &process{in: in, dir: dir, ports: ports{plain: next(), controller: next()}}
		c.members = append(c.members, &Node{proc: p})
		c.Addrs = append(c.Addrs, p.addr())
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, p.ports.controller))
	}
	for i, n := range c.members {
		extra := clusterProperties(i+1, strings.Join(voters, ","))
		if err := c.listen(i, n, o, extra, next); err != nil {
			return err
		}
		maps.Copy(extra, o.Properties)
		n.proc.extra = extra
	}
	return nil
}

// listen writes a node's listeners into its properties.
func (c *Cluster) listen(i int, n *Node, o ClusterOptions, extra map[string]string, port func() int) error {
	protocols := "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
	listeners := fmt.Sprintf("PLAINTEXT://%s,CONTROLLER://127.0.0.1:%d", n.proc.addr(), n.proc.ports.controller)
	advertised := "PLAINTEXT://" + n.proc.addr()
	for _, name := range o.Listeners {
		at, public := fmt.Sprintf("127.0.0.1:%d", port()), fmt.Sprintf("127.0.0.1:%d", port())
		if o.Front == nil {
			public = at
		} else if err := o.Front(i, name, public, at); err != nil {
			return err
		}
		protocols += "," + name + ":PLAINTEXT"
		listeners += "," + name + "://" + at
		advertised += "," + name + "://" + public
		c.advertise[name] = append(c.advertise[name], public)
	}
	extra["listeners"], extra["advertised.listeners"], extra["listener.security.protocol.map"] = listeners, advertised, protocols
	return nil
}

// clusterProperties are those of one node that differ from a broker that stands alone.
//
// The time limits are short, so that a killed or frozen node is replaced within seconds: the tests are about what happens then, not about the wait.
func clusterProperties(id int, voters string) map[string]string {
	return map[string]string{
		"node.id":                                  fmt.Sprint(id),
		"controller.quorum.voters":                 voters,
		"controller.quorum.fetch.timeout.ms":       "1500",
		"controller.quorum.election.timeout.ms":    "800",
		"controller.quorum.request.timeout.ms":     "1500",
		"controller.socket.timeout.ms":             "3000",
		"broker.session.timeout.ms":                "3000",
		"replica.socket.timeout.ms":                "3000",
		"replica.lag.time.max.ms":                  "10000",
		"default.replication.factor":               fmt.Sprint(nodes),
		"min.insync.replicas":                      "2",
		"offsets.topic.replication.factor":         fmt.Sprint(nodes),
		"transaction.state.log.replication.factor": fmt.Sprint(nodes),
		"transaction.state.log.min.isr":            "2",
		"auto.create.topics.enable":                "false",

		// the protected listeners are the single broker's
		"sasl.enabled.mechanisms":                               "",
		"listener.name.sasl_ssl.plain.sasl.jaas.config":         "",
		"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": "",
		"ssl.keystore.type":                                     "",
		"ssl.keystore.location":                                 "",
		"ssl.truststore.type":                                   "",
		"ssl.truststore.location":                               "",
		"listener.name.ssl.ssl.client.auth":                     "",
	}
}

// clusterTemplate returns the folder of formatted data directories, 1 to 3, and makes it where it is missing.
func (in *installation) clusterTemplate() (string, error) {
	unlock, err := lockFile(filepath.Join(in.root, "lock"), syscall.LOCK_EX)
	if err != nil {
		return "", fmt.Errorf("lock %s: %w", in.root, err)
	}
	defer unlock()
	dest := filepath.Join(in.root, "cluster")
	if exists(dest) {
		return dest, nil
	}
	tmp, err := os.MkdirTemp(in.root, "cluster-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	uuid, err := in.tool(tmp, "random-uuid")
	if err != nil {
		return "", err
	}
	for id := 1; id <= nodes; id++ {
		dir := filepath.Join(tmp, fmt.Sprint(id))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", err
		}
		// no port of a voter is stored by formatting
		extra := clusterProperties(id, "1@127.0.0.1:1,2@127.0.0.1:2,3@127.0.0.1:3")
		extra["listeners"] = "PLAINTEXT://127.0.0.1:4,CONTROLLER://127.0.0.1:5"
		extra["advertised.listeners"] = "PLAINTEXT://127.0.0.1:4"
		extra["listener.security.protocol.map"] = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
		if err := writeProperties(dir, ports{}, extra); err != nil {
			return "", err
		}
		if _, err := in.tool(dir, "format", "-t", lastLine(uuid), "-c", filepath.Join(dir, "server.properties")); err != nil {
			return "", err
		}
	}
	return dest, os.Rename(tmp, dest)
}

// freePorts returns n ports of the loopback address that nobody listens on. They lie below those that the kernel gives to outgoing
// connections: a server that is killed finds its own free when it comes back.
func freePorts(n int) ([]int, error) {
	const from, to, tries = 15000, 30000, 1000
	var ports []int
	for range tries {
		if len(ports) == n {
			return ports, nil
		}
		port := from + rand.IntN(to-from)
		if slices.Contains(ports, port) {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			ports = append(ports, port)
		}
	}
	return nil, errors.New("no free ports")
}

// Len is the number of brokers.
func (c *Cluster) Len() int { return len(c.members) }

// Node returns broker i, from 0.
func (c *Cluster) Node(i int) *Node { return c.members[i] }

// Listener returns the addresses of a further listener, as clients are told them.
func (c *Cluster) Listener(name string) []string { return c.advertise[name] }

// Kill ends the broker with SIGKILL. Its data stays, and what the kernel holds of it.
func (n *Node) Kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proc.kill()
	n.frozen = false
}

// Start launches a broker that was killed, on its ports and data, and does not wait until it serves.
func (n *Node) Start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc.cmd != nil {
		select {
		case <-n.proc.done:
			n.proc.cmd = nil
		default:
			return nil
		}
	}
	return n.proc.launch()
}

// Freeze stops the broker's execution with SIGSTOP until Thaw.
func (n *Node) Freeze() error { return n.stopped(true) }

// Thaw goes on after Freeze. It is fine if the broker was not frozen.
func (n *Node) Thaw() error { return n.stopped(false) }

func (n *Node) stopped(yes bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen == yes {
		return nil
	}
	sig := syscall.SIGCONT
	if yes {
		sig = syscall.SIGSTOP
	}
	if err := n.proc.signal(sig); err != nil {
		return err
	}
	n.frozen = yes
	return nil
}

// Ended says that the broker was started and has ended without being killed, with the end of its log.
func (n *Node) Ended() (log string, yes bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc.cmd == nil {
		return "", false
	}
	select {
	case <-n.proc.done:
		b, _ := os.ReadFile(filepath.Join(n.proc.dir, "broker.log"))
		return string(tail(b)), true
	default:
		return "", false
	}
}
