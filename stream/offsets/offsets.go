// Package offsets keeps the positions of a reader that is not a member of a
// group: a sink that tails a topic by itself and wants to go on where it
// stopped, or a tool that asks how far a group has come.
//
// Positions are committed offsets of a consumer group, where every Kafka tool
// shows them and counts the lag. Brokers forget them some time after the last
// commit of a group without members (offsets.retention.minutes, 7 days by
// default), so whoever keeps them has to save from time to time although
// nothing moved. A task's own positions are no business of this package: they
// stand in its changelog and are committed within its transactions.
package offsets

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"

	"ebb/stream/conn"
)

// Group is the positions of one group in one topic.
type Group struct {
	cluster *conn.Cluster
	group   string
	topic   string
}

// New connects to nothing; Load and Save do.
func New(cluster *conn.Cluster, group, topic string) *Group {
	return &Group{cluster: cluster, group: group, topic: topic}
}

// Load returns the committed offset of every partition that has one: the offset of the next record to be read.
func (g *Group) Load(ctx context.Context) (map[int32]int64, error) {
	found, err := g.fetch(ctx)
	if err != nil {
		return nil, err
	}
	next := map[int32]int64{}
	for _, p := range found {
		next[int32(p.Partition)] = p.CommittedOffset
	}
	return next, nil
}

// Metadata returns what was stored with the committed offsets.
func (g *Group) Metadata(ctx context.Context) (map[int32]string, error) {
	found, err := g.fetch(ctx)
	if err != nil {
		return nil, err
	}
	notes := map[int32]string{}
	for _, p := range found {
		notes[int32(p.Partition)] = p.Metadata
	}
	return notes, nil
}

// fetch returns the partitions that have a committed offset.
func (g *Group) fetch(ctx context.Context) ([]kafka.OffsetFetchPartition, error) {
	topics, _, err := g.cluster.Topics(ctx, g.topic)
	if err != nil {
		return nil, g.fault("loading", err)
	}
	topic := topics[g.topic]
	if topic.Err != nil {
		return nil, g.fault("loading", topic.Err)
	}
	ids := make([]int, len(topic.Partitions))
	for i, p := range topic.Partitions {
		ids[i] = int(p.ID)
	}
	resp, err := g.cluster.Client().OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: g.group, Topics: map[string][]int{g.topic: ids}})
	if err == nil {
		err = resp.Error
	}
	if errors.Is(err, kafka.GroupIdNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, g.fault("loading", err)
	}
	var found []kafka.OffsetFetchPartition
	for _, p := range resp.Topics[g.topic] {
		if p.Error != nil {
			return nil, g.fault("loading", p.Error)
		}
		if p.CommittedOffset >= 0 {
			found = append(found, p)
		}
	}
	return found, nil
}

// Save commits the offsets. It fails while the group has members: their positions are theirs to commit.
func (g *Group) Save(ctx context.Context, next map[int32]int64) error {
	if len(next) == 0 {
		return nil
	}
	commits := make([]kafka.OffsetCommit, 0, len(next))
	for p, o := range next {
		commits = append(commits, kafka.OffsetCommit{Partition: int(p), Offset: o})
	}
	resp, err := g.cluster.Client().OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		GroupID: g.group, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{g.topic: commits},
	})
	if err != nil {
		return g.fault("saving", err)
	}
	var faults []error
	for _, p := range resp.Topics[g.topic] {
		if p.Error != nil {
			faults = append(faults, fmt.Errorf("partition %d: %w", p.Partition, p.Error))
		}
	}
	if len(faults) > 0 {
		return g.fault("saving", errors.Join(faults...))
	}
	return nil
}

func (g *Group) fault(what string, err error) error {
	return fmt.Errorf("%s the offsets of group %s in topic %s: %w", what, g.group, g.topic, err)
}
