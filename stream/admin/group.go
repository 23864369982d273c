package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/describegroups"

	"ebb/stream/conn"
)

// Member is an instance that is a member of a consumer group.
type Member struct {
	ID     string `json:"id"`
	Client string `json:"client"` // client id
	Host   string `json:"host"`   // as the broker sees it
}

// String names the member for people.
func (m Member) String() string { return m.Client + " on " + m.Host }

// Members asks who is in a group. A process that was killed is a member until its session ends.
func Members(ctx context.Context, c *conn.Cluster, group string) ([]Member, error) {
	addr, err := coordinator(ctx, c, group, 0)
	if err != nil {
		return nil, fmt.Errorf("find the coordinator of group %s: %w", group, err)
	}
	m, err := c.RoundTrip(ctx, addr, &describegroups.Request{Groups: []string{group}})
	if err != nil {
		return nil, fmt.Errorf("describe group %s: %w", group, err)
	}
	var members []Member
	for _, g := range m.(*describegroups.Response).Groups {
		if err := conn.CodeError(g.ErrorCode); err != nil && !errors.Is(err, kafka.GroupIdNotFound) {
			return nil, fmt.Errorf("describe group %s: %w", group, err)
		}
		for _, x := range g.Members {
			members = append(members, Member{ID: x.MemberID, Client: x.ClientID, Host: x.ClientHost})
		}
	}
	return members, nil
}

// AddPartitions raises the partition count of a topic and waits until the new partitions have leaders. A topic that has as many
// already is left as it is; one that has more is an error.
func AddPartitions(ctx context.Context, c *conn.Cluster, topic string, count int32) error {
	topics, _, err := c.Topics(ctx, topic)
	if err == nil {
		err = topics[topic].Err
	}
	if err != nil {
		return fmt.Errorf("topic %s: %w", topic, err)
	}
	switch has := int32(len(topics[topic].Partitions)); {
	case has == count:
		return settleAt(ctx, c, topic, count)
	case has > count:
		return fmt.Errorf("topic %s has %d partitions already, more than %d; partitions cannot be taken away", topic, has, count)
	}
	r, err := c.Client().CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: count}}})
	if err == nil {
		err = r.Errors[topic]
	}
	if denied(err) {
		return fmt.Errorf("topic %s: the login lacks the right to add partitions; grant Alter on the topic, or have the cluster's administrators run kafka-topics.sh --alter --topic %s --partitions %d: %w",
			topic, topic, count, err)
	}
	if err != nil {
		return fmt.Errorf("add partitions to topic %s: %w", topic, err)
	}
	return settleAt(ctx, c, topic, count)
}

// settleAt waits until every broker knows so many partitions of a topic, each with a leader, for at most ten seconds.
func settleAt(ctx context.Context, c *conn.Cluster, topic string, count int32) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	backoff := conn.Backoff{Min: 20 * time.Millisecond, Max: time.Second}
	for {
		topics, _, err := c.Topics(ctx, topic)
		if err == nil && grown(topics[topic], count) && !slices.ContainsFunc(c.Members(), func(b conn.Broker) bool {
			at, err := c.TopicsAt(ctx, b.Addr, topic)
			return err == nil && !grown(at[topic], count) // one that does not answer is not asked for anything else either
		}) {
			return nil
		}
		if werr := backoff.Wait(ctx); werr != nil {
			return fmt.Errorf("wait for the partitions of %s: %w", topic, errors.Join(err, werr))
		}
	}
}

func grown(t conn.Topic, count int32) bool { return int32(len(t.Partitions)) == count && led(t) }
