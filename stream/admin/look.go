package admin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/describeconfigs"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"ebb/stream/conn"
)

// right is a Kafka ACL operation, by its number in the protocol.
type right uint

const (
	read            right = 3
	write           right = 4
	describe        right = 8
	describeConfigs right = 10
)

func (r right) String() string {
	switch r {
	case read:
		return "Read"
	case write:
		return "Write"
	case describeConfigs:
		return "DescribeConfigs"
	default:
		return "Describe"
	}
}

// rights is the set of operations that the login may do on something, as the broker tells it.
type rights int32

// known is false where the broker is too old to tell.
func (r rights) known() bool { return r != 0 && r != math.MinInt32 }

func (r rights) has(x right) bool { return !r.known() || r&(1<<x) != 0 }

// found is what the cluster says of one topic.
type found struct {
	err        error // nil: it exists and may be seen
	partitions []partition
	rights     rights
	settings   map[string]string // nil where they may not be read
}

type partition struct {
	id               int32
	leader           int32
	replicas, insync int
}

func (f *found) exists() bool { return f.err == nil }

// number is a setting as a number; ok is false if it is not known.
func (f *found) number(name string) (int64, bool) {
	n, err := strconv.ParseInt(f.settings[name], 10, 64)
	return n, err == nil
}

// seen is the part of the cluster that a Spec is about.
type seen struct {
	brokers int
	topics  map[string]*found
	others  []string // names of all topics that the login may see
}

func look(ctx context.Context, c *conn.Cluster, spec *Spec) (*seen, error) {
	var names []string
	for _, f := range spec.Feeds {
		names = append(names, f.Topic)
	}
	for _, o := range spec.own() {
		names = append(names, o.topic)
	}
	s := &seen{topics: map[string]*found{}}
	if err := s.metadata(ctx, c, names); err != nil {
		return nil, err
	}
	if err := s.configs(ctx, c); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(names, func(n string) bool { return !s.topics[n].exists() }) {
		s.others = allTopics(ctx, c)
	}
	return s, nil
}

// ask sends req to one of the configured brokers that answers.
func ask(ctx context.Context, c *conn.Cluster, req protocol.Message) (protocol.Message, error) {
	var first error
	for _, addr := range c.Brokers() {
		m, err := c.RoundTrip(ctx, addr, req)
		if err == nil {
			return m, nil
		}
		if first == nil || errors.Is(first, conn.ErrUnreachable) {
			first = err
		}
	}
	return nil, first
}

func (s *seen) metadata(ctx context.Context, c *conn.Cluster, names []string) error {
	m, err := ask(ctx, c, &metadata.Request{TopicNames: names, IncludeTopicAuthorizedOperations: true})
	if err != nil {
		return fmt.Errorf("ask for topics: %w", err)
	}
	r := m.(*metadata.Response)
	s.brokers = len(r.Brokers)
	for _, t := range r.Topics {
		f := &found{err: conn.CodeError(t.ErrorCode), rights: rights(t.TopicAuthorizedOperations)}
		for _, p := range t.Partitions {
			f.partitions = append(f.partitions, partition{p.PartitionIndex, p.LeaderID, len(p.ReplicaNodes), len(p.IsrNodes)})
		}
		slices.SortFunc(f.partitions, func(a, b partition) int { return int(a.id - b.id) })
		s.topics[t.Name] = f
	}
	for _, n := range names {
		if s.topics[n] == nil {
			s.topics[n] = &found{err: conn.ErrTopicMissing}
		}
	}
	return nil
}

const resourceTopic = int8(2)

func (s *seen) configs(ctx context.Context, c *conn.Cluster) error {
	req := &describeconfigs.Request{}
	for name, f := range s.topics {
		if f.exists() {
			req.Resources = append(req.Resources, describeconfigs.RequestResource{ResourceType: resourceTopic, ResourceName: name})
		}
	}
	if len(req.Resources) == 0 {
		return nil
	}
	m, err := ask(ctx, c, req)
	if err != nil {
		return fmt.Errorf("ask for topic settings: %w", err)
	}
	for _, r := range m.(*describeconfigs.Response).Resources {
		f := s.topics[r.ResourceName]
		if f == nil || r.ErrorCode != 0 {
			continue
		}
		f.settings = map[string]string{}
		for _, e := range r.ConfigEntries {
			f.settings[e.ConfigName] = e.ConfigValue
		}
	}
	return nil
}

// allTopics is only for suggestions, so that failing to get them is no fault.
func allTopics(ctx context.Context, c *conn.Cluster) []string {
	m, err := ask(ctx, c, &metadata.Request{})
	if err != nil {
		return nil
	}
	var names []string
	for _, t := range m.(*metadata.Response).Topics {
		if !t.IsInternal && t.ErrorCode == 0 {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	return names
}

// denied says that err is about a missing right.
func denied(err error) bool {
	return errors.Is(err, conn.ErrUnauthorized) || errors.Is(err, kafka.TopicAuthorizationFailed) ||
		errors.Is(err, kafka.ClusterAuthorizationFailed)
}
