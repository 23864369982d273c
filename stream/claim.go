package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"ebb/state"
	"ebb/stream/batch"
	"ebb/stream/fetch"
	"ebb/stream/txn"
)

// Two groups that were given one changelog by mistake do not fence each other: their transactional ids differ. A task record says
// whose a changelog is, but both groups may begin while there is none. So the first thing that a group writes is a claim, in
// partition 0 for all partitions, and nothing else is written before it was read back: the first claim in the log counts, and
// every other group refuses to start. A claim has a key of its own for each group and is written once, so that compaction keeps
// their order.

// claimKey is the changelog key of a group's claim.
func claimKey(group string) string { return "\x00claim/" + group }

// claims is what an instance knows of whose the changelog is. The channel holds one token: whoever has it looks.
type claims struct {
	token chan struct{}
	ours  bool
}

func newClaims() *claims { return &claims{token: make(chan struct{}, 1)} }

// claim makes sure that the changelog is this group's before its first cut. A first start calls it for every partition; one of
// them looks for all. The error wraps ErrForeignChangelog if another group was first.
func (t *task) claim(ctx context.Context) error {
	select {
	case t.claims.token <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.claims.token }()
	if t.claims.ours {
		return nil
	}
	first, err := t.firstOwner(ctx)
	if err == nil && first == nil {
		if err := t.writeClaim(ctx); err != nil {
			return fmt.Errorf("claim of the changelog: %w", err)
		}
		first, err = t.firstOwner(ctx)
	}
	if err != nil {
		return fmt.Errorf("whose the changelog is: %w", err)
	}
	if first == nil {
		return errors.New("the claim that was written to the changelog is not there")
	}
	if _, err := t.checkRecord(0, first); err != nil {
		return err
	}
	t.claims.ours = true
	return nil
}

// firstOwner is the first claim or task record in partition 0 of the changelog, nil if there is none. It reads over connections
// of its own: the partition may be open already, for its task.
func (t *task) firstOwner(ctx context.Context) (first []byte, err error) {
	topic := t.cfg.Topics.Changelog
	start, end, err := t.boundsOf(ctx, topic, 0)
	if err != nil || start == end {
		return nil, err
	}
	own := t.cfg.Fetch
	own.Metrics, own.Pool = nil, nil
	f := fetch.New(t.deps.Cluster, own)
	defer f.Close()
	p := f.Open(topic, 0, start, t.wake)
	defer p.Close()
	err = t.scan(ctx, p, start, end, func(b *batch.Records) (bool, error) {
		first = firstOwnerIn(b)
		return first == nil, nil
	})
	return first, err
}

// firstOwnerIn is the first claim or task record in a batch, nil if there is none.
func firstOwnerIn(b *batch.Records) []byte {
	for i := range b.Len() {
		if rec := b.At(i); len(rec.Key) != 0 && rec.Key[0] == state.Reserved && len(rec.Value) != 0 {
			return bytes.Clone(rec.Value)
		}
	}
	return nil
}

// writeClaim commits a claim of this group.
func (t *task) writeClaim(ctx context.Context) error {
	if !t.awaitLease() { // it may have been taken back during the replay
		return ctx.Err()
	}
	offsets := map[string]map[int32]int64{}
	for _, s := range t.sources {
		if s.fetch != nil { // of a feed that is divided among the tasks this one may read nothing, or several partitions
			setOffset(offsets, txn.TopicPartition{Topic: s.topic, Partition: s.part}, s.position)
		}
	}
	tx := t.newTransaction(t.lease, offsets)
	changelog := txn.TopicPartition{Topic: t.cfg.Topics.Changelog, Partition: 0}
	claim := taskRecord{group: t.cfg.Group, cluster: t.cluster}
	if err := tx.Writer(t.codec).Add(changelog, []byte(claimKey(t.cfg.Group)), claim.append(nil), nil, t.now().UnixMilli()); err != nil {
		return err
	}
	_, err := t.transact(tx, txn.Priority{})
	return err
}
