package group

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"
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
	resp, err := m.cfg.Cluster.Client().LeaveGroup(ctx, &kafka.LeaveGroupRequest{
		GroupID: m.cfg.Group, Members: []kafka.LeaveGroupRequestMember{{ID: id}},
	})
	if err != nil {
		return err
	}
	err = resp.Error
	for _, member := range resp.Members {
		err = errors.Join(err, member.Error)
	}
	if errors.Is(err, kafka.UnknownMemberId) {
		return nil
	}
	return err
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
