package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/addoffsetstotxn"
	"github.com/segmentio/kafka-go/protocol/addpartitionstotxn"
	"github.com/segmentio/kafka-go/protocol/endtxn"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/txnoffsetcommit"

	"ebb/stream/conn"
)

// Config of a Producer. TransactionalID is required.
type Config struct {
	// TransactionalID must be the same for every owner of the task, and no other task's.
	TransactionalID string
	// Timeout, 60 s, is after how long the broker aborts a transaction that is not ended. It bounds all retries within one.
	Timeout time.Duration
	// RequestTimeout bounds one request, 25 s: a dying follower holds an acks=all produce for about 10 s.
	RequestTimeout time.Duration
	// Grace, 3 s, is how long an abort, or a commit that was asked for, is still pursued after the caller's context has ended.
	Grace time.Duration
	// Pool is shared by the producers of an instance. nil: a pool of its own, which Close closes.
	Pool *Pool
	Log  *slog.Logger // default: slog.Default()
	// Step is a seam for tests: it is called before each step of a transaction, and by two goroutines at once for the steps that run beside
	// each other. An error of it ends Init or Commit at once as if the process had died there: nothing more is sent.
	Step func(Step) error
}

// Producer commits the transactions of one task. One goroutine at a time.
type Producer struct {
	cfg     Config
	cluster *conn.Cluster
	pool    *Pool
	ownPool bool
	log     *slog.Logger

	encoders encoders

	transactions lookup // coordinator of the transactional id
	groups       lookup // coordinator of the group

	ready    bool // initialised, and no Commit has failed since
	id       int64
	epoch    int16
	sequence map[TopicPartition]int32 // next, by partition, in this epoch
	// suspect is the transaction whose failure asked for another Init, under the same generation; nil if there is none.
	suspect *Transaction
}

// New makes a producer. It does not connect.
func New(cluster *conn.Cluster, cfg Config) *Producer {
	for _, d := range []struct {
		at    *time.Duration
		value time.Duration
	}{{&cfg.Timeout, 60 * time.Second}, {&cfg.RequestTimeout, 25 * time.Second}, {&cfg.Grace, 3 * time.Second}} {
		if *d.at <= 0 {
			*d.at = d.value
		}
	}
	p := &Producer{cfg: cfg, cluster: cluster, pool: cfg.Pool, log: cfg.Log}
	if p.pool == nil {
		p.pool, p.ownPool = NewPool(cluster), true
	}
	if p.log == nil {
		p.log = slog.Default()
	}
	if p.cfg.Step == nil {
		p.cfg.Step = func(Step) error { return nil }
	}
	p.transactions = lookup{kind: transactionKey, key: cfg.TransactionalID}
	p.groups = lookup{kind: groupKey}
	return p
}

// Close closes connections that are the producer's own. An open transaction is left to its timeout, or to the next owner.
func (p *Producer) Close() {
	if p.ownPool {
		p.pool.Close()
	}
}

// Init takes the transactional id over: every earlier owner is fenced, and the transaction it may have left open is ended, before Init
// returns. It retries until it succeeds, ctx ends, or the broker refuses for good (ErrRefused).
//
// After a Commit with ErrReinit or ErrRefused it first asks whether the generation of that commit is still current, and returns ErrFenced if not: a former owner
// that initialises late would fence its successor.
func (p *Producer) Init(ctx context.Context) error {
	p.ready = false
	if err := p.cfg.Step(StepInit); err != nil {
		return err
	}
	suspect := p.suspect
	p.suspect = nil
	if suspect != nil {
		if err := p.checkMember(ctx, suspect); err != nil {
			return err
		}
	}
	run, done := p.newRun(ctx, nil)
	defer done()
	err := run.attempt(ctx, StepInit, p.cfg.TransactionalID, func(ctx context.Context) error {
		m, err := p.transactions.ask(ctx, p.pool, &initproducerid.Request{
			TransactionalID: p.cfg.TransactionalID, TransactionTimeoutMs: millis(p.cfg.Timeout), ProducerID: -1, ProducerEpoch: -1,
		})
		if err != nil {
			return err
		}
		r := m.(*initproducerid.Response)
		if err := p.transactions.judge(answer(r.ErrorCode)); err != nil {
			return err
		}
		p.id, p.epoch = r.ProducerID, r.ProducerEpoch
		return nil
	})
	if err != nil {
		return err
	}
	p.ready = true
	p.sequence = make(map[TopicPartition]int32)
	p.log.Debug("transactional id initialised", "transactional_id", p.cfg.TransactionalID, "producer_id", p.id, "epoch", p.epoch)
	return nil
}

// checkMember sends a heartbeat in the name of the transaction's member.
func (p *Producer) checkMember(ctx context.Context, tx *Transaction) error {
	p.groups.of(tx.Group)
	run, done := p.newRun(ctx, tx)
	defer done()
	return run.attempt(ctx, StepInit, tx.Group, func(ctx context.Context) error {
		code, err := p.groups.heartbeat(ctx, p.pool, tx.Generation, tx.MemberID)
		if err != nil {
			return err
		}
		err = p.groups.judge(answer(code))
		if errors.Is(err, kafka.RebalanceInProgress) {
			return nil // still a member, and of this generation
		}
		return err
	})
}

// Result of a commit.
type Result struct {
	// Next is the offset behind the last record that the transaction wrote to each partition. The commit marker comes there.
	Next map[TopicPartition]int64
}

// Commit makes the whole of tx visible at once, or nothing of it. See the sentinels of this package for its errors; after any of them Init has to
// come first. When ctx ends before the commit is asked for, the transaction is aborted.
func (p *Producer) Commit(ctx context.Context, tx *Transaction) (Result, error) {
	if err := tx.seal(); err != nil {
		return Result{}, err
	}
	if !p.ready {
		return Result{}, &Error{Step: StepAddPartitions, Kind: ErrReinit, Err: errors.New("the producer is not initialised")}
	}
	if ctx.Err() != nil {
		return Result{}, &Error{Step: StepAddPartitions, Err: ctx.Err()} // nothing was sent: the producer stays as it is
	}
	p.groups.of(tx.Group)
	p.stamp(tx)
	run, done := p.newRun(ctx, tx)
	defer done()
	run.next = make(map[TopicPartition]int64, len(tx.parts))
	err := run.commit(ctx)
	if err != nil {
		p.ready = false
		if (errors.Is(err, ErrReinit) || errors.Is(err, ErrRefused)) && !tx.Alone {
			p.suspect = tx
		}
		return Result{}, err
	}
	p.advance(tx)
	return Result{Next: run.next}, nil
}

// nextSequence is after n records. Sequence numbers are not negative and wrap.
func nextSequence(s int32, n int32) int32 { return int32((int64(s) + int64(n)) & math.MaxInt32) }

func (p *Producer) advance(tx *Transaction) {
	for _, part := range tx.parts {
		for _, b := range part.batches {
			p.sequence[part.TopicPartition] = nextSequence(p.sequence[part.TopicPartition], b.records)
		}
	}
}

func millis(d time.Duration) int32 { return int32(min(d.Milliseconds(), math.MaxInt32)) }

// of sets whose coordinator is looked for.
func (l *lookup) of(key string) {
	if l.key != key {
		l.key, l.addr = key, ""
	}
}

// judge forgets the coordinator if its answer says that it is not the one.
func (l *lookup) judge(err error) error {
	switch conn.Code(err) {
	case kafka.GroupCoordinatorNotAvailable, kafka.NotCoordinatorForGroup, kafka.TransactionCoordinatorFenced:
		l.forget()
	}
	return err
}

// addPartitions opens the transaction.
func (r *run) addPartitions(ctx context.Context) error {
	if len(r.tx.parts) == 0 {
		return nil // AddOffsetsToTxn opens it
	}
	p := r.p
	req := &addpartitionstotxn.Request{TransactionalID: p.cfg.TransactionalID, ProducerID: p.id, ProducerEpoch: p.epoch}
	for _, name := range r.tx.topics() {
		t := addpartitionstotxn.RequestTopic{Name: name}
		for _, part := range r.tx.parts {
			if part.Topic == name {
				t.Partitions = append(t.Partitions, part.Partition)
			}
		}
		req.Topics = append(req.Topics, t)
	}
	return r.attempt(ctx, StepAddPartitions, "", func(ctx context.Context) error {
		m, err := p.transactions.ask(ctx, p.pool, req)
		if err != nil {
			return err
		}
		var first error
		for _, t := range m.(*addpartitionstotxn.Response).Results {
			for _, x := range t.Results {
				// 55 says only that another partition of the request was refused.
				if err := answer(x.ErrorCode); err != nil && (first == nil || conn.Code(first) == operationNotAttempted) {
					first = fmt.Errorf("%s/%d: %w", t.Name, x.PartitionIndex, err)
				}
			}
		}
		return p.transactions.judge(first)
	})
}

// operationNotAttempted is code 55 as AddPartitionsToTxn uses it.
const operationNotAttempted = kafka.BrokerAuthorizationFailed

// commitOffsets adds the group to the transaction and commits the offsets within it.
func (r *run) commitOffsets(ctx context.Context) error {
	p, tx := r.p, r.tx
	if tx.Alone && tx.offsets() == 0 {
		return nil
	}
	if err := r.step(StepAddOffsets); err != nil {
		return err
	}
	err := r.attempt(ctx, StepAddOffsets, tx.Group, func(ctx context.Context) error {
		m, err := p.transactions.ask(ctx, p.pool, &addoffsetstotxn.Request{
			TransactionalID: p.cfg.TransactionalID, ProducerID: p.id, ProducerEpoch: p.epoch, GroupID: tx.Group,
		})
		if err != nil {
			return err
		}
		return p.transactions.judge(answer(m.(*addoffsetstotxn.Response).ErrorCode))
	})
	if err != nil {
		return err
	}
	if err := r.step(StepCommitOffsets); err != nil {
		return err
	}
	req := r.offsetsRequest()
	return r.attempt(ctx, StepCommitOffsets, tx.Group, func(ctx context.Context) error {
		m, err := p.groups.commitOffsets(ctx, p.pool, req)
		if err != nil {
			return err
		}
		answers := 0
		for _, t := range m.(*txnoffsetcommit.Response).Topics {
			for _, x := range t.Partitions {
				answers++
				if err := answer(x.ErrorCode); err != nil {
					return p.groups.judge(fmt.Errorf("%s/%d: %w", t.Name, x.Partition, err))
				}
			}
		}
		if want := tx.offsets(); answers != want {
			return fmt.Errorf("%w: %d answers for %d offsets", kafka.Unknown, answers, want)
		}
		return nil
	})
}

func (r *run) offsetsRequest() *txnoffsetcommit.Request {
	p, tx := r.p, r.tx
	req := &txnoffsetcommit.Request{
		TransactionalID: p.cfg.TransactionalID, GroupID: tx.Group, ProducerID: p.id, ProducerEpoch: p.epoch,
		GenerationID: tx.Generation, MemberID: tx.MemberID,
	}
	for topic, parts := range tx.Offsets {
		t := txnoffsetcommit.RequestTopic{Name: topic}
		for id, offset := range parts {
			t.Partitions = append(t.Partitions, txnoffsetcommit.RequestPartition{
				Partition: id, CommittedOffset: offset, CommittedLeaderEpoch: -1, CommittedMetadata: tx.Metadata,
			})
		}
		req.Topics = append(req.Topics, t)
	}
	return req
}

// endOnce sends EndTxn once.
func (r *run) endOnce(ctx context.Context, commit bool) error {
	p := r.p
	m, err := p.transactions.ask(ctx, p.pool, &endtxn.Request{
		TransactionalID: p.cfg.TransactionalID, ProducerID: p.id, ProducerEpoch: p.epoch, Committed: commit,
	})
	if err != nil {
		return err
	}
	return p.transactions.judge(answer(m.(*endtxn.Response).ErrorCode))
}
