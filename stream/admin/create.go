package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"ebb/stream/conn"
)

// Create makes those of ebb's own topics that do not exist, and the topic of the control feed, waits until they can be written to, those too that
// another instance makes at the same moment, and checks everything. It answers the names of the topics it made. At least one feed must exist, and
// those that do must agree on their partition count, since it is the changelog's too.
func Create(ctx context.Context, c *conn.Cluster, spec Spec) (created []string, problems []Problem, err error) {
	s, err := look(ctx, c, &spec)
	if err != nil {
		return nil, nil, err
	}
	k := &checker{spec: &spec, seen: s, bootstrap: strings.Join(c.Brokers(), ","), creating: true}
	var missing []string
	for _, o := range slices.Concat(spec.own(), spec.control()) {
		if errors.Is(s.topics[o.topic].err, conn.ErrTopicMissing) {
			missing = append(missing, o.topic)
		}
	}
	feeds := s.feedPartitions(&spec)
	if feeds == 0 && len(missing) > 0 {
		k.add(
			Error, "topics of ebb's own", "were not created ("+strings.Join(missing, ", ")+"): how many partitions they need is not known before the feeds exist and agree",
			"mend the feeds first",
		)
		rest, err := check(ctx, c, &spec, true)
		return nil, append(rest, k.problems...), err
	}
	for _, o := range slices.Concat(spec.own(), spec.control()) {
		if !slices.Contains(missing, o.topic) {
			continue
		}
		made, err := k.create(ctx, c, o, feeds)
		if err != nil {
			return created, k.problems, err
		}
		if made {
			created = append(created, o.topic)
		}
	}
	if k.problems != nil {
		return created, k.problems, nil
	}
	if err := settle(ctx, c, missing); err != nil {
		return created, nil, err
	}
	problems, err = check(ctx, c, &spec, true)
	return created, problems, err
}

// create makes one topic; what the cluster refuses for a reason that somebody can mend becomes a problem.
func (k *checker) create(ctx context.Context, c *conn.Cluster, o own, feeds int) (bool, error) {
	t := kafka.TopicConfig{
		Topic:             o.topic,
		NumPartitions:     k.spec.partitions(o, feeds),
		ReplicationFactor: k.spec.ReplicationFactor,
		ConfigEntries:     append(k.spec.settings(o), tuning(o)...),
	}
	if t.ReplicationFactor == 0 {
		t.ReplicationFactor = -1
	}
	err := send(ctx, c, t)
	if len(tuning(o)) > 0 && (errors.Is(err, kafka.InvalidConfiguration) || errors.Is(err, kafka.PolicyViolation)) {
		t.ConfigEntries = k.spec.settings(o)
		err = send(ctx, c, t)
	}
	where := "topic " + o.topic
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, kafka.TopicAlreadyExists):
		return false, nil // Another instance was faster.
	case denied(err):
		k.add(Error, where, "the login lacks the right to create it", k.acl("--operation Create --topic "+o.topic))
	case errors.Is(err, kafka.InvalidReplicationFactor):
		k.add(
			Error, where, fmt.Sprintf("cannot have %d replicas on a cluster of %d brokers", t.ReplicationFactor, k.seen.brokers),
			"set topics.replication_factor to at most the number of brokers",
		)
	case errors.Is(err, kafka.PolicyViolation), errors.Is(err, kafka.InvalidConfiguration):
		k.add(Error, where, "the cluster does not allow it: "+err.Error(), "have the cluster's administrators run "+k.command(t))
	default:
		return false, fmt.Errorf("create topic %s: %w", o.topic, err)
	}
	return false, nil
}

// command is what creates the topic by hand.
func (k *checker) command(t kafka.TopicConfig) string {
	s := fmt.Sprintf("kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions %d", k.bootstrap, t.Topic, t.NumPartitions)
	if t.ReplicationFactor > 0 {
		s += fmt.Sprintf(" --replication-factor %d", t.ReplicationFactor)
	}
	for _, e := range t.ConfigEntries {
		s += " --config " + e.ConfigName + "=" + e.ConfigValue
	}
	return s
}

func send(ctx context.Context, c *conn.Cluster, t kafka.TopicConfig) error {
	r, err := c.Client().CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{t}})
	if err != nil {
		return err
	}
	return r.Errors[t.Topic]
}

// settle waits until every partition of the new topics has a leader, and every broker knows so, for at most ten seconds: whoever is asked
// next must not answer that a topic does not exist.
func settle(ctx context.Context, c *conn.Cluster, names []string) error {
	if len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		topics, _, err := c.Topics(ctx, names...)
		if err == nil && allLed(topics, names) && knownEverywhere(ctx, c, names) {
			return nil
		}
		t := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("wait for the new topics: %w", ctx.Err())
		case <-t.C:
		}
	}
}

// knownEverywhere asks every broker. One that does not answer is not asked for anything else either.
func knownEverywhere(ctx context.Context, c *conn.Cluster, names []string) bool {
	return !slices.ContainsFunc(c.Members(), func(b conn.Broker) bool {
		topics, err := c.TopicsAt(ctx, b.Addr, names...)
		return err == nil && !allLed(topics, names)
	})
}

func allLed(topics map[string]conn.Topic, names []string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return !led(topics[n]) })
}

func led(t conn.Topic) bool {
	return t.Err == nil && len(t.Partitions) > 0 &&
		!slices.ContainsFunc(t.Partitions, func(p conn.Partition) bool { return p.LeaderID < 0 })
}
