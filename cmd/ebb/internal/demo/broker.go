package demo

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Topic is a topic that the embedded broker is to have.
type Topic struct {
	Name       string
	Partitions int32
	// Configs are Kafka's, such as cleanup.policy. What they say of retention does not hold: nothing is deleted for its age, because the records bear simulated times,
	// which the broker would take for old.
	Configs map[string]string
}

// Broker is an embedded Kafka broker in this process, with a producer for the crowd's events. What it holds lies in memory;
// topics are bounded by retention.bytes, compacted ones are compacted twice a minute.
type Broker struct {
	cluster *kfake.Cluster
	client  *kgo.Client

	mu     sync.Mutex
	failed error
}

var _ Producer = (*Broker)(nil)

// FeedBytes is how much of a topic's partition the embedded broker keeps: some years of the crowd's events.
const FeedBytes = "33554432"

// StartBroker starts a broker on a free port of the loopback interface and makes the topics.
func StartBroker(ctx context.Context, topics []Topic) (*Broker, error) {
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1), kfake.ClusterID("ebb-demo"),
		kfake.BrokerConfigs(map[string]string{"log.retention.ms": "-1", "log.cleaner.backoff.ms": "30000"}),
	)
	if err != nil {
		return nil, fmt.Errorf("start the embedded broker: %w", err)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(cluster.ListenAddrs()...),
		kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(20_000),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
	)
	if err != nil {
		cluster.Close()
		return nil, fmt.Errorf("connect to the embedded broker: %w", err)
	}
	cluster.ControlKey(int16(kmsg.CreateTopics), keep(cluster))
	b := &Broker{cluster: cluster, client: client}
	if err := b.create(ctx, topics); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// keep has every topic that anybody makes keep its records, up to FeedBytes, however old they are: the embedded broker knows no LogAppendTime, and by their simulated
// times all of them may be past their retention.
func keep(cluster *kfake.Cluster) func(kmsg.Request) (kmsg.Response, error, bool) {
	return func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req, ok := r.(*kmsg.CreateTopicsRequest)
		if !ok {
			return nil, nil, false
		}
		forever, most := "-1", FeedBytes
		for i := range req.Topics {
			t := &req.Topics[i]
			t.Configs = slices.DeleteFunc(t.Configs, func(c kmsg.CreateTopicsRequestTopicConfig) bool {
				return c.Name == "retention.ms" || c.Name == "retention.bytes"
			})
			for name, value := range map[string]*string{"retention.ms": &forever, "retention.bytes": &most} {
				c := kmsg.NewCreateTopicsRequestTopicConfig()
				c.Name, c.Value = name, value
				t.Configs = append(t.Configs, c)
			}
		}
		return nil, nil, false
	}
}

func (b *Broker) create(ctx context.Context, topics []Topic) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	for _, t := range topics {
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = t.Name, t.Partitions, 1
		for k, v := range t.Configs {
			c := kmsg.NewCreateTopicsRequestTopicConfig()
			c.Name, c.Value = k, &v
			rt.Configs = append(rt.Configs, c)
		}
		req.Topics = append(req.Topics, rt)
	}
	resp, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return fmt.Errorf("create topics on the embedded broker: %w", err)
	}
	for i := range resp.Topics {
		if err := kerr.ErrorForCode(resp.Topics[i].ErrorCode); err != nil {
			return fmt.Errorf("create topic %s on the embedded broker: %w", resp.Topics[i].Topic, err)
		}
	}
	return nil
}

// Addrs are the broker's addresses, host and port.
func (b *Broker) Addrs() []string { return b.cluster.ListenAddrs() }

// Produce writes a record, partitioned by its key as Java's producer does. It waits when too much is in flight.
func (b *Broker) Produce(ctx context.Context, topic string, key, value []byte, t time.Time) error {
	if err := b.failure(); err != nil {
		return err
	}
	b.client.Produce(ctx, &kgo.Record{Topic: topic, Key: key, Value: value, Timestamp: t}, b.done)
	return nil
}

func (b *Broker) done(_ *kgo.Record, err error) {
	if err == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil {
		b.failed = err
	}
}

func (b *Broker) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

// Flush waits until all records are acknowledged and returns the first failure there was.
func (b *Broker) Flush(ctx context.Context) error {
	if err := b.client.Flush(ctx); err != nil {
		return err
	}
	return b.failure()
}

// Close ends the producer and the broker. What the broker held is gone.
func (b *Broker) Close() {
	b.client.Close()
	b.cluster.Close()
}
