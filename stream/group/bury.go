package group

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"

	"ebb/stream/conn"
)

// signalJoin is called by the balancer when kafka-go is about to send a JoinGroup.
func (m *member) signalJoin() {
	m.pending.Store(true)
	select {
	case m.joining <- struct{}{}:
	default:
	}
}

// buryLoop tells the coordinator to drop this member's dead predecessor, whenever a JoinGroup may be waiting for it.
func (m *member) buryLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.joining:
			m.bury(ctx)
		}
	}
}

// bury tries until the coordinator knows the dead id no more, or the join has succeeded or failed without it. It does nothing while no
// JoinGroup is pending: dropping the last member of a group before its successor is there empties the group.
func (m *member) bury(ctx context.Context) {
	for {
		if !sleep(ctx, m.cfg.JoinBackoff) {
			return
		}
		dead := m.stale.Load()
		if *dead == "" || !m.pending.Load() {
			return
		}
		err := m.leave(ctx, *dead)
		if err == nil {
			m.stale.CompareAndSwap(dead, new(string))
			m.cfg.Log.Info("the dead predecessor was removed from the group", "member", *dead)
			return
		}
		m.cfg.Log.Debug("the dead predecessor could not be removed from the group yet", "member", *dead, "err", err)
	}
}

// leave takes a member id out of the group. That the coordinator does not know it is success.
func (m *member) leave(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	addr, err := m.coordinator(ctx)
	if err != nil {
		return err
	}
	c, err := m.cfg.Cluster.Open(ctx, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	code, err := leaveGroup(ctx, c, m.cfg.Group, id)
	if err != nil || code == int16(kafka.UnknownMemberId) {
		return err
	}
	return conn.CodeError(code)
}

// leaveGroup sends a LeaveGroup of version 0. kafka-go's own message cannot be used: from version 1 on it takes two bytes of the throttle time
// for the error code, which is then always 0.
func leaveGroup(ctx context.Context, c *conn.Conn, group, member string) (code int16, err error) {
	var body []byte
	for _, s := range []string{group, member} {
		body = append(binary.BigEndian.AppendUint16(body, uint16(len(s))), s...)
	}
	err = c.Exchange(ctx, protocol.LeaveGroup, 0, body, func(a *conn.Answer) error {
		code = a.Int16()
		return a.Err()
	})
	return code, err
}

// coordinator asks the cluster who coordinates the group.
func (m *member) coordinator(ctx context.Context) (addr string, err error) {
	for _, broker := range m.cfg.Cluster.Brokers() {
		var answer protocol.Message
		answer, err = m.cfg.Cluster.RoundTrip(ctx, broker, &findcoordinator.Request{Key: m.cfg.Group})
		if err != nil {
			continue
		}
		r := answer.(*findcoordinator.Response)
		return net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port))), conn.CodeError(r.ErrorCode)
	}
	return "", fmt.Errorf("find coordinator: %w", err)
}

// sleep waits for d, and says whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
