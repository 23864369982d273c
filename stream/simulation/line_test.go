package simulation

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fate is what becomes of one request and its answer.
type fate struct {
	kind  fault
	delay time.Duration
	usual time.Duration // that is no fault
}

var errCut = errors.New("cut by the simulation")

// line is the network of one life of an instance: it carries requests one by one to the brokers, and answers back, and may do so
// late, not at all, or twice as far as it seems. It is also where a process is stopped in time.
type line struct {
	w    *world
	in   *instance
	life int

	mu     sync.Mutex
	wires  map[*wire]struct{}
	counts map[int16]int
	dead   bool          // the process is gone
	split  bool          // nothing gets through, and nobody is told
	frozen chan struct{} // closed by thaw; nil when time goes on
}

func newLine(w *world, in *instance, life int) *line {
	return &line{w: w, in: in, life: life, wires: map[*wire]struct{}{}, counts: map[int16]int{}}
}

// wait returns when the process is not frozen.
func (l *line) wait() {
	for {
		l.mu.Lock()
		frozen := l.frozen
		l.mu.Unlock()
		if frozen == nil {
			return
		}
		<-frozen
	}
}

func (l *line) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen == nil && !l.dead {
		l.frozen = make(chan struct{})
	}
}

func (l *line) thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen != nil {
		close(l.frozen)
		l.frozen = nil
	}
}

func (l *line) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// pull ends the life of the process, as far as others can see it.
func (l *line) pull() {
	l.mu.Lock()
	l.dead = true
	l.mu.Unlock()
	l.thaw()
	l.cut()
}

// cut ends all connections of this moment.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.wires {
		_ = k.client.Close()
		delete(l.wires, k)
	}
}

// cutDead ends the connections over which nothing comes any more.
func (l *line) cutDead() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.wires {
		if k.isDeaf() {
			_ = k.client.Close()
			delete(l.wires, k)
		}
	}
}

// parted lets nothing through from now on, or everything again. What was on its way is lost.
func (l *line) parted(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.split = yes
	if yes {
		for k := range l.wires {
			k.deafen()
		}
	}
}

func (l *line) open(ctx context.Context, network, addr string) (net.Conn, error) {
	l.wait()
	l.mu.Lock()
	dead, split := l.dead, l.split
	l.mu.Unlock()
	switch {
	case dead:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errCut}
	case split:
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	}
	server, err := l.w.broker.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	k := &wire{line: l, client: far, server: server, fates: make(chan fate, 64), answered: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		_, _, _ = near.Close(), far.Close(), server.Close()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errCut}
	}
	l.wires[k] = struct{}{}
	l.w.wg.Go(k.up)
	l.w.wg.Go(k.down)
	return near, nil
}

// next is the ordinal number of a request of a kind in this life.
func (l *line) next(key int16) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[key]++
	return l.counts[key]
}

// wire is one connection. up reads the client's requests, down the broker's answers; a client's write returns when up has taken it, like
// one into the kernel's buffer.
type wire struct {
	line           *line
	client, server net.Conn
	fates          chan fate // of the requests that were sent on, in order

	answered chan struct{} // signalled when a request that was sent on is no longer waited for

	mu      sync.Mutex
	deaf    bool
	waiting int // requests that were sent on and have no answer yet
}

func (k *wire) deafen() {
	k.mu.Lock()
	k.deaf = true
	k.mu.Unlock()
}

func (k *wire) isDeaf() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.deaf
}

func (k *wire) up() {
	defer close(k.fates)
	for {
		frame, err := readFrame(k.client)
		if err != nil {
			k.linger()
			return
		}
		k.line.wait() // a frozen process sends nothing
		if k.isDeaf() {
			continue
		}
		key := int16(binary.BigEndian.Uint16(frame[4:]))
		f := k.line.w.fateOf(k.line, key)
		if !k.carry(frame, key, f) {
			return
		}
	}
}

// linger keeps the broker from seeing that the client is gone until what it was asked is answered. A real broker does not care; the
// embedded one never gives up a member of a group whose connection ended while it waited to join.
func (k *wire) linger() {
	k.deafen()
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	for k.asked(0) > 0 {
		select {
		case <-k.answered:
			continue
		case <-timer.C:
		}
		break
	}
	_ = k.server.Close()
}

// asked counts requests that wait for their answers.
func (k *wire) asked(more int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting += more
	return k.waiting
}

// carry takes one request to the broker. It returns false when the connection is over.
func (k *wire) carry(frame []byte, key int16, f fate) bool {
	l := k.line
	if f.usual > 0 {
		nap(f.usual)
	}
	switch f.kind {
	case slowRequest:
		nap(f.delay)
	case lostRequest:
		k.hangUp()
		return true // up ends with the client's connection
	case vanishedRequest:
		k.deafen()
		return true
	case lateRequest: // the client gives it up, or dies, and it comes all the same
		k.deafen()
		nap(f.delay)
	case killedBefore:
		l.in.die(l, f.kind, kmsg.NameForKey(key))
	}
	if key == int16(kmsg.JoinGroup) {
		nap(time.Until(time.Unix(0, l.w.joins.Load())))
	}
	if l.isDead() && f.kind != lateRequest {
		k.hangUp()
		return true
	}
	k.fates <- f
	k.asked(+1)
	if _, err := k.server.Write(frame); err != nil {
		_ = k.client.Close()
	}
	return true
}

func (k *wire) hangUp() {
	k.line.mu.Lock()
	delete(k.line.wires, k)
	k.line.mu.Unlock()
	_ = k.client.Close()
}

func (k *wire) down() {
	defer k.hangUp()
	for {
		frame, err := readFrame(k.server)
		if err != nil {
			return
		}
		f, ok := <-k.fates
		if !ok {
			return
		}
		k.asked(-1)
		select {
		case k.answered <- struct{}{}:
		default:
		}
		switch f.kind {
		case slowAnswer:
			nap(f.delay)
		case lostAnswer:
			k.hangUp()
		case vanishedAnswer:
			k.deafen()
		case killedAfter:
			k.line.in.die(k.line, f.kind, "")
		}
		if k.isDeaf() || f.kind == lateRequest {
			continue
		}
		k.line.wait()
		_, _ = k.client.Write(frame)
	}
}
