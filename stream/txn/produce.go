package txn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"

	"ebb/stream/batch"
	"ebb/stream/conn"
)

// acksAll asks for the acknowledgement of all in-sync replicas; a transactional produce takes nothing less.
const acksAll = -1

// stamp puts producer and sequence numbers into all batches.
func (p *Producer) stamp(tx *Transaction) {
	for _, part := range tx.parts {
		seq := p.sequence[part.TopicPartition]
		for _, b := range part.batches {
			batch.Stamp(b.bytes[4:], p.id, p.epoch, seq)
			seq = nextSequence(seq, b.records)
		}
	}
}

// topics are the names of the topics written to, in order of first appearance.
func (tx *Transaction) topics() []string {
	var names []string
	for _, p := range tx.parts {
		if !slices.Contains(names, p.Topic) {
			names = append(names, p.Topic)
		}
	}
	return names
}

// produce sends the content: the first batch of every partition in one request to each leader, then the second of every partition that
// has one, and so on. Two requests at once to one broker, for partitions that it has not yet verified to be of the transaction, would be
// answered with code 19.
func (r *run) produce(ctx context.Context) error {
	if err := r.step(StepProduce); err != nil {
		return err
	}
	for round := 0; ; round++ {
		var todo []*part
		for _, part := range r.tx.parts {
			if round < len(part.batches) {
				todo = append(todo, part)
			}
		}
		if len(todo) == 0 {
			return nil
		}
		err := r.attempt(ctx, StepProduce, "", func(ctx context.Context) (err error) {
			todo, err = r.send(ctx, todo, round)
			return err
		})
		if err != nil {
			return err
		}
	}
}

// send produces one batch of each partition, and returns those whose batch was not taken, with the gravest reason.
func (r *run) send(ctx context.Context, todo []*part, round int) (left []*part, err error) {
	byLeader := make(map[string][]*part)
	for _, part := range todo {
		leader, lerr := r.p.cluster.Leader(ctx, part.Topic, part.Partition)
		if lerr != nil {
			return todo, fmt.Errorf("leader of %s: %w", part, lerr)
		}
		byLeader[leader.Addr] = append(byLeader[leader.Addr], part)
	}
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	one := func(addr string, parts []*part) {
		offsets, failed := r.sendTo(ctx, addr, parts, round)
		mu.Lock()
		defer mu.Unlock()
		for _, part := range parts {
			if base, ok := offsets[part.TopicPartition]; ok {
				r.next[part.TopicPartition] = base + int64(part.batches[round].records)
				continue
			}
			left = append(left, part)
		}
		err = graver(err, failed)
	}
	for addr, parts := range byLeader {
		if len(byLeader) == 1 {
			one(addr, parts) // spares a goroutine's wake-up
			break
		}
		wg.Go(func() { one(addr, parts) })
	}
	wg.Wait()
	return left, err
}

// graver prefers the error that no retry mends.
func graver(a, b error) error {
	if a == nil || b != nil && errors.Is(classify(a), errRetry) && !errors.Is(classify(b), errRetry) {
		return b
	}
	return a
}

// sendTo produces to one broker, and returns the base offset of each batch that was taken.
func (r *run) sendTo(ctx context.Context, addr string, parts []*part, round int) (map[TopicPartition]int64, error) {
	m, err := r.p.pool.ask(ctx, addr, r.produceRequest(parts, round))
	if err != nil {
		for _, part := range parts {
			r.p.cluster.Invalidate(part.Topic) // its leader may be another by now
		}
		return nil, err
	}
	offsets := make(map[TopicPartition]int64, len(parts))
	for _, t := range m.(*produce.Response).Topics {
		for _, x := range t.Partitions {
			if e := answerMessage(x.ErrorCode, x.ErrorMessage); e != nil {
				r.p.learn(t.Topic, e)
				err = graver(err, fmt.Errorf("%s/%d: %w", t.Topic, x.Partition, e))
				continue
			}
			offsets[TopicPartition{t.Topic, x.Partition}] = x.BaseOffset
		}
	}
	if err == nil && len(offsets) != len(parts) {
		err = fmt.Errorf("%w: %d answers for %d partitions", kafka.Unknown, len(offsets), len(parts))
	}
	return offsets, err
}

// learn forgets a leader that says it is none.
func (p *Producer) learn(topic string, err error) {
	switch conn.Code(err) {
	case kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.NotLeaderForPartition, kafka.KafkaStorageError, kafka.FencedLeaderEpoch,
		kafka.UnknownLeaderEpoch:
		p.cluster.Invalidate(topic)
	}
}

func (r *run) produceRequest(parts []*part, round int) *rawproduce.Request {
	req := &rawproduce.Request{TransactionalID: r.p.cfg.TransactionalID, Acks: acksAll, Timeout: millis(r.p.cfg.RequestTimeout * 4 / 5)}
	for _, part := range parts {
		at := slices.IndexFunc(req.Topics, func(t rawproduce.RequestTopic) bool { return t.Topic == part.Topic })
		if at < 0 {
			at = len(req.Topics)
			req.Topics = append(req.Topics, rawproduce.RequestTopic{Topic: part.Topic})
		}
		req.Topics[at].Partitions = append(req.Topics[at].Partitions, rawproduce.RequestPartition{
			Partition: part.Partition, RecordSet: protocol.RawRecordSet{Reader: bytes.NewReader(part.batches[round].bytes)},
		})
	}
	return req
}
