package simulation

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/stream/kafkatest"
)

// phone is the harness's own way to the brokers: no retries, no goroutines, and none of the faults.
type phone struct {
	broker *kafkatest.Broker
	mu     sync.Mutex
	conns  map[int32]net.Conn
	form   *kmsg.RequestFormatter
	corr   int32
	addrs  map[int32]string
}

func newPhone(b *kafkatest.Broker) *phone {
	p := &phone{broker: b, conns: map[int32]net.Conn{}, form: kmsg.NewRequestFormatter(kmsg.FormatterClientID("harness")), addrs: map[int32]string{}}
	for i, addr := range b.Addrs {
		p.addrs[int32(i)] = addr
	}
	return p
}

// moved says that a broker has come back at another address.
func (p *phone) moved(node int32, addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addrs[node] = addr
	if c := p.conns[node]; c != nil {
		_ = c.Close()
		delete(p.conns, node)
	}
}

func (p *phone) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
}

// ask sends one request to a node and waits for its answer.
func (p *phone) ask(node int32, req kmsg.Request) (kmsg.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.conns[node]
	if c == nil {
		var err error
		if c, err = p.broker.Dial(context.Background(), "tcp", p.addrs[node]); err != nil {
			return nil, err
		}
		p.conns[node] = c
	}
	p.corr++
	if _, err := c.Write(p.form.AppendRequest(nil, req, p.corr)); err != nil {
		return nil, err
	}
	body, err := readFrame(c)
	if err != nil {
		return nil, err
	}
	body = body[8:] // size and correlation id
	resp := req.ResponseKind()
	if resp.IsFlexible() && resp.Key() != 18 {
		body = body[1:]
	}
	return resp, resp.ReadFrom(body)
}

// readFrame reads one request or answer, its size included.
func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 64<<20 { // a client that tries whether the broker speaks TLS
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	b := make([]byte, 4+n)
	copy(b, size[:])
	_, err := io.ReadFull(r, b[4:])
	return b, err
}

// produce writes records of one partition in one batch. Their timestamps are the times at which they are due.
func (p *phone) produce(topic string, part int32, items []item) error {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 7, -1, 10000
	rt, rp := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	rt.Topic, rp.Partition, rp.Records = topic, part, encode(items)
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := p.ask(p.broker.Fake.LeaderFor(topic, part), req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
}

func encode(items []item) []byte {
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: int32(len(items) - 1), FirstTimestamp: items[0].due, MaxTimestamp: items[len(items)-1].due,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(len(items)),
	}
	for i, it := range items {
		r := kmsg.Record{TimestampDelta64: it.due - items[0].due, OffsetDelta: int32(i), Key: it.key, Value: it.value}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		b.Records = r.AppendTo(b.Records)
	}
	out := b.AppendTo(nil)
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-12))
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], crc32.MakeTable(crc32.Castagnoli)))
	return out
}

// log is everything that lies in a partition: records of all transactions, and their markers.
func (p *phone) log(topic string, part int32) ([]*kgo.Record, error) {
	info := p.broker.Fake.PartitionInfo(topic, part)
	end := info.HighWatermark
	var all []*kgo.Record
	for at := info.LogStartOffset; at < end; {
		req := kmsg.NewPtrFetchRequest()
		req.Version, req.MaxBytes, req.SessionEpoch = 11, 64<<20, -1
		ft, fp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
		ft.Topic, fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes = topic, part, at, 64<<20
		ft.Partitions = append(ft.Partitions, fp)
		req.Topics = append(req.Topics, ft)
		resp, err := p.ask(p.broker.Fake.LeaderFor(topic, part), req)
		if err != nil {
			return nil, err
		}
		rp := &resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
			return nil, err
		}
		got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
			KeepControlRecords: true, Offset: at, IsolationLevel: kgo.ReadUncommitted(), Topic: topic, Partition: part,
		}, rp, kgo.DefaultDecompressor(), nil)
		if got.Err != nil {
			return nil, got.Err
		}
		if next <= at {
			return nil, fmt.Errorf("%s/%d: nothing at %d of %d", topic, part, at, end)
		}
		all, at = append(all, got.Records...), next
	}
	return all, nil
}

// committed are the offsets of the group.
func (p *phone) committed() (map[string]map[int32]int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Group, req.RequireStable = 7, group, true
	resp, err := p.ask(p.broker.Fake.CoordinatorFor(group), req)
	if err != nil {
		return nil, err
	}
	r := resp.(*kmsg.OffsetFetchResponse)
	if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
		return nil, err
	}
	out := map[string]map[int32]int64{}
	for _, t := range r.Topics {
		out[t.Topic] = map[int32]int64{}
		for _, x := range t.Partitions {
			if err := kerr.ErrorForCode(x.ErrorCode); err != nil {
				return nil, err
			}
			out[t.Topic][x.Partition] = x.Offset
		}
	}
	return out, nil
}

// reset sets an offset of the group from outside, as kafka-consumer-groups.sh does. The broker refuses it while the group has members.
func (p *phone) reset(topic string, part int32, offset int64) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 7, group, -1
	rt, rp := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	rt.Topic, rp.Partition, rp.Offset = topic, part, offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := p.ask(p.broker.Fake.CoordinatorFor(group), req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode)
}
