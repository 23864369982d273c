package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"ebb/stream/conn"
)

// Why a generation ended, as Handler.Revoked is told it. A task that asked for the end with Generation.Rejoin gets its own error back.
var (
	// ErrRebalance: the group is being divided anew, or the coordinator does not answer, or has dropped this member.
	ErrRebalance = errors.New("group: the generation has ended")
	// ErrStopping: the context of Run has ended.
	ErrStopping = errors.New("group: stopping")
	// ErrCaughtUp: a member asks for partitions that it has made itself ready for.
	ErrCaughtUp = errors.New("group: caught up with the partitions that are to come")
)

// errNoPartitions ends a generation in which nothing could be given out.
var errNoPartitions = errors.New("group: the broker knew none of the topics when the partitions were given out")

// ErrNotCopartitioned says that the assignment does not hold the same partitions of every topic: topics of unequal partition counts, or a
// member of another program in the group.
var ErrNotCopartitioned = errors.New("group: the topics are not co-partitioned")

// Handler is the side of the tasks. Its methods are called one at a time.
type Handler interface {
	// Assigned begins a generation: these partitions, no others, are this member's until ctx ends. It must return quickly.
	Assigned(ctx context.Context, g Generation)
	// Revoked ends it. It should return when all commits in flight are finished, and start no others; after Config.Drain the group
	// is joined again all the same, and a commit that is still in flight will be refused by the broker.
	Revoked(g Generation, why error)
}

// Generation is what this member holds between two rebalances.
type Generation struct {
	ID         int32
	MemberID   string
	Partitions []int32 // ascending; also the ids of the tasks
	Copies     []int32 // ascending: partitions of others whose state this member is to follow
	// Coming are those of Copies that this member is to get. Once it has caught up with them it should call Rejoin with ErrCaughtUp.
	Coming []int32

	rejoin chan<- error
}

// Rejoin ends the generation from within, for instance after a fencing error: all partitions are revoked and the group is joined again.
// It returns at once and may be called from any goroutine, also when the generation is over.
func (g Generation) Rejoin(why error) {
	select {
	case g.rejoin <- why:
	default: // one reason is enough
	}
}

// Config of a membership. Cluster, Group and Topics are required; zero durations take their defaults.
type Config struct {
	Cluster *conn.Cluster
	Group   string
	Topics  []string // the feeds that are read by partition
	Others  []string // topics whose partition counts are looked at beside those

	// SessionTimeout is after how much silence the broker gives a member up, 10 s. A longer one stalls the whole group for longer after
	// every crash and every restart of a broker.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long a rebalance waits for its members, 15 s. It must be longer than Drain.
	RebalanceTimeout time.Duration
	// HeartbeatInterval, 500 ms, is the time after which a member learns of a rebalance.
	HeartbeatInterval time.Duration
	// JoinBackoff is the pause after a failed attempt to join, 300 ms.
	JoinBackoff time.Duration
	// Timeout bounds each request to the coordinator, 10 s.
	Timeout time.Duration
	// Drain bounds the wait for Handler.Revoked, 3 s.
	Drain time.Duration
	// MetadataInterval is how often the partition counts are looked at, 15 s.
	MetadataInterval time.Duration

	// PreviousMember is the member id of a predecessor that is surely dead, because this process holds the lock of its state directory.
	PreviousMember string
	// RememberMember stores the member id of each new generation, or "" after leaving the group, for the next PreviousMember. May be nil.
	RememberMember func(id string) error
	// Changelog is the topic of the tasks' state. Assigning a partition of it means to follow it. Empty: there are no copies, and partitions
	// move at once.
	Changelog string
	// Standby is how many members follow each partition beside its owner, as far as there are others.
	Standby int
	// AcceptableLag is how many changelog offsets a member may be behind whoever is furthest with a partition, and still count as ready
	// to take it over, 100,000: what is replayed in a fraction of a second.
	AcceptableLag int64
	// Warm returns how far this member is with the state of each partition that it has something of, as changelog positions. May be nil.
	Warm func() map[int32]int64
	// PartitionsChanged is told of a topic whose partition count is no longer what it was at the start; 0 if it was deleted. May be nil.
	PartitionsChanged func(topic string, was, now int)

	Log     *slog.Logger // default: slog.Default()
	Metrics *Metrics     // may be nil
}

func (c *Config) setDefaults() error {
	if c.Cluster == nil || c.Group == "" || len(c.Topics) == 0 {
		return errors.New("group: cluster, group and topics must be given")
	}
	for _, d := range []struct {
		at    *time.Duration
		value time.Duration
	}{
		{&c.SessionTimeout, 10 * time.Second},
		{&c.RebalanceTimeout, 15 * time.Second},
		{&c.HeartbeatInterval, 500 * time.Millisecond},
		{&c.JoinBackoff, 300 * time.Millisecond},
		{&c.Timeout, 10 * time.Second},
		{&c.Drain, 3 * time.Second},
		{&c.MetadataInterval, 15 * time.Second},
	} {
		if *d.at == 0 {
			*d.at = d.value
		}
	}
	if c.Drain >= c.RebalanceTimeout {
		return fmt.Errorf("group: a drain of %v is not shorter than the rebalance timeout of %v: the group would go on without this member while it still commits", c.Drain, c.RebalanceTimeout)
	}
	if c.HeartbeatInterval*3 > c.SessionTimeout {
		return fmt.Errorf("group: a heartbeat every %v is too rare for a session timeout of %v: at most a third of it", c.HeartbeatInterval, c.SessionTimeout)
	}
	if c.AcceptableLag == 0 {
		c.AcceptableLag = 100_000
	}
	if c.RememberMember == nil {
		c.RememberMember = func(string) error { return nil }
	}
	if c.Warm == nil {
		c.Warm = func() map[int32]int64 { return nil }
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	c.Log = c.Log.With("group", c.Group)
	c.Topics = slices.Clone(c.Topics)
	return nil
}
