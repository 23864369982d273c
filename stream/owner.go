package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"ebb/stream/batch"
	"ebb/stream/conn"
	"ebb/stream/fetch"
	"ebb/stream/group"
	"ebb/stream/partition"
	"ebb/stream/txn"
)

// owner is what whoever writes for a part of the group has in common: a transactional id of its own, the right to commit that a
// generation of the group lends it, and a life that begins anew from durable state after a fault. It outlives generations: between
// two of them it may work, but not commit.
//
// What stands below "owned" is touched by its one goroutine only.
type owner struct {
	partition    int32 // of the topics that it reads
	cfg          *Config
	deps         *Deps
	cluster      string
	partitionsOf map[string]int32
	fetcher      *fetch.Fetcher
	scheduler    *txn.Scheduler
	producer     *txn.Producer
	codec        batch.Codec
	log          *slog.Logger
	now, tick    func() time.Time
	remaining    func(offsets int64)                      // told how much of the changelog is still to be replayed
	replayed     func(at int64, records, bytes int) error // told what read has passed on; may be nil

	ctx      context.Context // ends when the owner is closed
	cancel   context.CancelFunc
	leased   atomic.Pointer[group.Generation]
	opened   atomic.Bool // the loop runs: commands are heard at once
	fault    chan error  // from outside: stop
	commands chan func()
	wake     chan struct{}
	done     chan struct{}

	// owned
	lease   *group.Generation
	refused *group.Generation // of the last transaction that failed
}

// work is what an owner does with its right.
type work interface {
	serve() error                    // one life: open, then loop until a fault or the end
	shut()                           // gives back what one life held
	recoverable(err error) bool      // whether another life can mend it; says it once
	stop(err error)                  // stands still for a fault that somebody has to mend, until the owner is closed
	publish(state string, err error) // shows how it stands
}

// run works until the owner is closed. A fault that another attempt can mend leads to a new life from durable state; any other
// stops the work, with the partition kept.
func (o *owner) run(w work) {
	defer close(o.done)
	defer o.cancel()
	wait := firstRetry
	for o.ctx.Err() == nil {
		w.publish("waiting", nil)
		if !o.awaitLease() {
			return
		}
		began := o.tick()
		err := w.serve()
		w.shut()
		if o.ctx.Err() != nil {
			return
		}
		if o.tick().Sub(began) > time.Minute {
			wait = firstRetry
		}
		if !w.recoverable(err) {
			w.stop(err)
			return
		}
		o.pause(wait)
		wait = min(2*wait, slowestRetry)
	}
}

const (
	firstRetry   = 100 * time.Millisecond
	slowestRetry = 10 * time.Second
)

// recoverable decides what a fault of the network or of the group means, and says it once.
func (o *owner) recoverable(err error) bool {
	switch {
	case errors.Is(err, txn.ErrFenced):
		o.log.Warn("another owner has taken this partition, or the group moved on; joining again", "err", err)
		o.giveUpLease(err)
		return true
	case errors.Is(err, txn.ErrUnknownOutcome), errors.Is(err, txn.ErrReinit), conn.Retriable(err):
		o.log.Warn("task starts again from its last cut", "err", err)
		return true
	}
	return false
}

// giveUpLease ends the generation under which the owner was refused, unless the group has gone on to another already.
func (o *owner) giveUpLease(why error) {
	refused := o.refused
	if refused == nil { // at the opening
		refused = o.lease
	}
	if refused != nil && o.leased.CompareAndSwap(refused, nil) {
		refused.Rejoin(why)
	}
}

// stand waits until the owner is closed. It calls tell, with a generation, until that returns true.
func (o *owner) stand(tell func() bool) {
	pause := firstRetry
	for told := false; ; pause = min(2*pause, slowestRetry) {
		if o.lease = o.leased.Load(); !told && o.lease != nil {
			told = tell()
		}
		wait := time.NewTimer(pause)
		select {
		case <-o.ctx.Done():
		case <-o.wake:
		case <-wait.C:
		case f := <-o.commands:
			f()
		}
		wait.Stop()
		if o.ctx.Err() != nil {
			return
		}
	}
}

// awaitLease waits until a generation lends the right to commit.
func (o *owner) awaitLease() bool {
	for {
		if o.lease = o.leased.Load(); o.lease != nil {
			return true
		}
		if err := o.await(o.ctx); err != nil {
			return false
		}
	}
}

// await sleeps until there is news from the fetcher, a command, or a short time has passed.
func (o *owner) await(ctx context.Context) error {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-o.wake:
	case f := <-o.commands:
		f()
	case <-timer.C:
	}
	return nil
}

// idle bounds the sleep of an owner that nothing wakes: wall-clock timers and ages are looked at so often.
const idle = 100 * time.Millisecond

func (o *owner) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-o.ctx.Done():
	case <-timer.C:
	}
}

// close ends the owner without another commit.
func (o *owner) close() {
	o.cancel()
	<-o.done
}

// do runs f on the owner's goroutine. It returns false when ctx ended first.
func (o *owner) do(ctx context.Context, f func()) bool {
	ran := make(chan struct{})
	select {
	case o.commands <- func() { f(); close(ran) }:
	case <-ctx.Done():
		return false
	case <-o.done:
		return false
	}
	select {
	case <-ran:
		return true
	case <-o.done:
		return false
	}
}

// lend gives the right to commit in a generation.
func (o *owner) lend(g *group.Generation) {
	o.leased.Store(g)
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// newTransaction is an empty transaction under a lease. Every one commits offsets with the generation and member id, so that whoever
// lost the partition cannot write.
func (o *owner) newTransaction(lease *group.Generation, offsets map[string]map[int32]int64) *txn.Transaction {
	tx := o.producer.NewTransaction()
	tx.Group, tx.Generation, tx.MemberID, tx.Offsets = o.cfg.Group, lease.ID, lease.MemberID, offsets
	tx.Metadata = memberNote(o.cfg.Identity, lease)
	return tx
}

// send adds a record for others to a transaction: to the partition of its key, dead letters to that from which they come, and what is
// forwarded to the task that it is for.
func (o *owner) send(w txn.Writer, m *message, nowMs int64) error {
	n, ok := o.partitionsOf[m.topic]
	if !ok {
		return fmt.Errorf("topic %s is not known", m.topic)
	}
	p := o.partition % n
	switch m.topic {
	case o.cfg.Topics.DeadLetters:
	case o.cfg.Topics.Reroute:
		p = m.partition
	default:
		p = partition.Murmur2(m.Key, n)
	}
	return w.Add(txn.TopicPartition{Topic: m.topic, Partition: p}, m.Key, m.Value, wireHeaders(m.Headers), nowMs)
}

// transact commits a transaction when it is its turn among those of the instance.
func (o *owner) transact(tx *txn.Transaction, priority txn.Priority) (txn.Result, error) {
	release, err := o.scheduler.Acquire(o.ctx, priority)
	if err != nil {
		return txn.Result{}, err
	}
	defer release()
	for try := 0; ; try++ {
		res, err := o.producer.Commit(o.ctx, tx)
		if err == nil || !errors.Is(err, txn.ErrReinit) || try == maxReinit {
			return res, err
		}
		o.log.Warn("transaction was aborted by the broker, initialising again", "err", err)
		if err := o.producer.Init(o.ctx); err != nil {
			return res, err
		}
	}
}

// maxReinit bounds how often one transaction is sent again under a new producer epoch.
const maxReinit = 3

// read passes the committed records of the owner's partition of a compacted topic in [from, end) to f, waiting while an open transaction holds
// them back.
func (o *owner) read(ctx context.Context, topic string, from, end int64, f func(*batch.Record) error) error {
	if from >= end {
		return nil
	}
	p := o.fetcher.Open(topic, o.partition, from, o.wake)
	defer p.Close()
	return o.scan(ctx, p, from, end, func(b *batch.Records) (bool, error) {
		n, size := b.Len(), 0
		for i := range n {
			rec := b.At(i)
			if rec.Offset >= end { // what was fetched goes further
				break
			}
			size += len(rec.Key) + len(rec.Value)
			if err := f(&rec); err != nil {
				return false, err
			}
		}
		pos := min(b.NextOffset(), end)
		o.remaining(end - pos)
		if o.replayed == nil {
			return true, nil
		}
		return true, o.replayed(pos, n, size)
	})
}

// scan passes the committed batches of a compacted topic in [from, end) to f until it wants no more, waiting while an open transaction holds them back. Where the
// beginning has been cleaned away since it was asked for, it goes on where the log begins now: nothing that still holds is before that.
func (o *owner) scan(ctx context.Context, p *fetch.Partition, from, end int64, f func(*batch.Records) (more bool, err error)) error {
	for pos := from; pos < end; {
		b, st := p.Poll()
		if b != nil {
			more, err := f(b)
			pos = b.NextOffset()
			b.Release()
			if !more || err != nil {
				return err
			}
			continue
		}
		var cleaned *fetch.ErrRetentionGap
		switch pos = max(pos, st.Delivered); {
		case errors.As(st.Err, &cleaned):
			pos = cleaned.Start
			p.SeekTo(pos)
		case st.Err != nil:
			return st.Err
		case pos < end:
			if err := o.await(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// bounds are the first offset of the owner's partition of a topic and the one behind its last record.
func (o *owner) bounds(ctx context.Context, topic string) (start, end int64, err error) {
	return o.boundsOf(ctx, topic, o.partition)
}

// boundsOf is bounds for any partition.
func (o *owner) boundsOf(ctx context.Context, topic string, partition int32) (start, end int64, err error) {
	ids := []int32{partition}
	first, err := o.deps.Cluster.Offsets(ctx, topic, ids, conn.Earliest, conn.ReadUncommitted)
	if err != nil {
		return 0, 0, err
	}
	last, err := o.deps.Cluster.Offsets(ctx, topic, ids, conn.Latest, conn.ReadUncommitted)
	if err != nil {
		return 0, 0, err
	}
	return first[partition], last[partition], nil
}
