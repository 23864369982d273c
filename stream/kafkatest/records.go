package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
)

type kgoSASL = sasl.Mechanism

// Record is one record as another client library sees it. A nil Key or Value is a null.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp int64 // milliseconds since 1970; 0 when producing: now
	Key       []byte
	Value     []byte
	Headers   map[string]string

	ProducerID    int64 // of a record that was read; -1: not of an idempotent producer
	ProducerEpoch int16
}

// CreateTopic makes a topic with one replica (three on a Cluster) and waits until its partitions have leaders. configs may be nil. Unless they say otherwise, records
// are kept for ever: retention goes by the records' own times, and those of a history are over.
func (b *Broker) CreateTopic(t testing.TB, topic string, partitions int32, configs map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cl := b.Client(t)
	defer cl.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 10000
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, partitions, max(b.replicas, 1)
	all := map[string]string{"retention.ms": "-1"}
	maps.Copy(all, configs)
	for k, v := range all {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = k, kmsg.StringPtr(v)
		rt.Configs = append(rt.Configs, c)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
		if err != nil && resp.Topics[0].ErrorMessage != nil {
			err = fmt.Errorf("%w: %s", err, *resp.Topics[0].ErrorMessage)
		}
	}
	if err != nil {
		t.Fatalf("kafkatest: create topic %s: %v", topic, err)
	}
	if b.lent {
		t.Cleanup(func() { b.DeleteTopic(t, topic) })
	}
	b.EndOffsets(t, topic)
}

// AlterTopic sets one setting of a topic.
func (b *Broker) AlterTopic(t testing.TB, topic, name, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cl := b.Client(t)
	defer cl.Close()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value, c.Op = name, kmsg.StringPtr(value), kmsg.IncrementalAlterConfigOpSet
	res.Configs = append(res.Configs, c)
	req.Resources = append(req.Resources, res)
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Resources[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("kafkatest: set %s of topic %s: %v", name, topic, err)
	}
}

// DeleteTopic removes a topic. One that does not exist is fine.
func (b *Broker) DeleteTopic(t testing.TB, topic string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cl := b.Client(t)
	defer cl.Close()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 10000
	rt := kmsg.NewDeleteTopicsRequestTopic()
	rt.Topic = kmsg.StringPtr(topic)
	req.Topics, req.TopicNames = append(req.Topics, rt), []string{topic}
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Fatalf("kafkatest: delete topic %s: %v", topic, err)
	}
}

// Produce writes records in order with an idempotent producer, each to the partition it names, and returns them with their offsets.
func (b *Broker) Produce(t testing.TB, topic string, records ...Record) []Record {
	t.Helper()
	cl := b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()))
	defer cl.Close()
	out := make([]*kgo.Record, len(records))
	for i, r := range records {
		out[i] = r.produced(topic)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := cl.ProduceSync(ctx, out...).FirstErr(); err != nil {
		t.Fatalf("kafkatest: produce to %s: %v", topic, err)
	}
	written := make([]Record, len(out))
	for i, r := range out {
		written[i] = consumed(r)
	}
	return written
}

// ReadCommitted returns all records of a topic that a read_committed consumer sees at the moment, by partition and offset.
func (b *Broker) ReadCommitted(t testing.TB, topic string) []Record {
	t.Helper()
	return b.read(t, topic, kgo.ReadCommitted())
}

// ReadAll returns all records of a topic at the moment, aborted ones and those of open transactions included.
func (b *Broker) ReadAll(t testing.TB, topic string) []Record {
	t.Helper()
	return b.read(t, topic, kgo.ReadUncommitted())
}

// EndOffsets returns the high watermark of each partition, and waits until every partition has one.
func (b *Broker) EndOffsets(t testing.TB, topic string) map[int32]int64 {
	t.Helper()
	return b.offsets(t, topic, 0)
}

// StableOffsets returns the last stable offset of each partition: what a read_committed consumer can get to.
func (b *Broker) StableOffsets(t testing.TB, topic string) map[int32]int64 {
	t.Helper()
	return b.offsets(t, topic, 1)
}

// GroupOffsets returns the offsets that a group has committed for a topic. A partition without one, or with one in a transaction that is
// still open or being ended, is absent.
func (b *Broker) GroupOffsets(t testing.TB, group, topic string) map[int32]int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cl := b.Client(t)
	defer cl.Close()
	var out map[int32]int64
	err := Poll(ctx, func() (err error) {
		out, err = groupOffsets(ctx, cl, group, topic)
		return err
	})
	if err != nil {
		t.Fatalf("kafkatest: offsets of group %s: %v", group, err)
	}
	return out
}

func groupOffsets(ctx context.Context, cl *kgo.Client, group, topic string) (map[int32]int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	req.RequireStable = true
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	topics := resp.Topics
	if len(resp.Groups) == 1 {
		if err := kerr.ErrorForCode(resp.Groups[0].ErrorCode); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return nil, err
		}
		topics = nil
		for _, gt := range resp.Groups[0].Topics {
			ot := kmsg.NewOffsetFetchResponseTopic()
			ot.Topic = gt.Topic
			for _, gp := range gt.Partitions {
				op := kmsg.NewOffsetFetchResponseTopicPartition()
				op.Partition, op.Offset, op.ErrorCode = gp.Partition, gp.Offset, gp.ErrorCode
				ot.Partitions = append(ot.Partitions, op)
			}
			topics = append(topics, ot)
		}
	}
	out := map[int32]int64{}
	for _, rt := range topics {
		if rt.Topic != topic {
			continue
		}
		for _, p := range rt.Partitions {
			if p.ErrorCode == 0 && p.Offset >= 0 {
				out[p.Partition] = p.Offset
			}
		}
	}
	return out, nil
}

func (b *Broker) partitions(ctx context.Context, cl *kgo.Client, topic string) ([]int32, error) {
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return nil, err
	}
	var ids []int32
	for _, p := range resp.Topics[0].Partitions {
		if p.Leader < 0 {
			return nil, kerr.LeaderNotAvailable
		}
		ids = append(ids, p.Partition)
	}
	return ids, nil
}

func (b *Broker) offsets(t testing.TB, topic string, isolation int8) map[int32]int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cl := b.Client(t)
	defer cl.Close()
	var out map[int32]int64
	err := Poll(ctx, func() (err error) {
		out, err = b.tryOffsets(ctx, cl, topic, isolation)
		return err
	})
	if err != nil {
		t.Fatalf("kafkatest: offsets of %s: %v", topic, err)
	}
	return out
}

func (b *Broker) tryOffsets(ctx context.Context, cl *kgo.Client, topic string, isolation int8) (map[int32]int64, error) {
	ids, err := b.partitions(ctx, cl, topic)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = isolation
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	for _, id := range ids {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = id, -1
		rt.Partitions = append(rt.Partitions, p)
	}
	req.Topics = append(req.Topics, rt)
	out := map[int32]int64{}
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		for _, tp := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range tp.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return nil, err
				}
				out[p.Partition] = p.Offset
			}
		}
	}
	if len(out) != len(ids) {
		return nil, fmt.Errorf("%d answers for %d partitions", len(out), len(ids))
	}
	return out, nil
}

func (b *Broker) read(t testing.TB, topic string, level kgo.IsolationLevel) []Record {
	t.Helper()
	ends := b.StableOffsets(t, topic)
	if level == kgo.ReadUncommitted() {
		ends = b.EndOffsets(t, topic)
	}
	starts := map[int32]kgo.Offset{}
	left := 0
	for id, end := range ends {
		if end > 0 {
			starts[id] = kgo.NewOffset().AtStart()
			left++
		}
	}
	if left == 0 {
		return nil
	}
	// Control records are kept only to see where a partition has been read to: many a topic ends in one.
	cl := b.Client(t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords())
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	parts := map[int32][]Record{}
	for left > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatalf("kafkatest: read %s: %v with %d partitions not at their end %v", topic, err, left, ends)
		}
		fs.EachRecord(func(r *kgo.Record) {
			end := ends[r.Partition]
			if r.Offset >= end {
				return
			}
			if !r.Attrs.IsControl() {
				parts[r.Partition] = append(parts[r.Partition], consumed(r))
			}
			if r.Offset == end-1 {
				left--
			}
		})
	}
	var out []Record
	for id := int32(0); len(parts) > 0; id++ {
		out = append(out, parts[id]...)
		delete(parts, id)
	}
	return out
}

func (r Record) produced(topic string) *kgo.Record {
	out := &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
	if r.Timestamp != 0 {
		out.Timestamp = unixMilli(r.Timestamp)
	}
	for k, v := range r.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	return out
}

func consumed(r *kgo.Record) Record {
	out := Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value, ProducerID: r.ProducerID, ProducerEpoch: r.ProducerEpoch}
	if len(r.Headers) > 0 {
		out.Headers = map[string]string{}
	}
	for _, h := range r.Headers {
		out.Headers[h.Key] = string(h.Value)
	}
	return out
}
