package webhook

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"time"

	"ebb/stream/batch"
	"ebb/stream/conn"
	"ebb/stream/fetch"
	"ebb/stream/tail"
)

// Topic is the alert topic as one webhook reads it.
type Topic struct {
	cluster *conn.Cluster
	topic   string
	webhook string
	metrics *Metrics
	log     *slog.Logger
}

var _ Source = (*Topic)(nil)

// NewTopic returns the Source of the named webhook. It connects to nothing yet.
func NewTopic(cluster *conn.Cluster, topic, webhook string, metrics *Metrics, log *slog.Logger) *Topic {
	return &Topic{cluster: cluster, topic: topic, webhook: webhook, metrics: metrics, log: log}
}

// Ends returns the end offset of every partition, open transactions left out.
func (t *Topic) Ends(ctx context.Context) (map[int32]int64, error) {
	return t.offsets(ctx, conn.Latest)
}

func (t *Topic) offsets(ctx context.Context, at conn.At) (map[int32]int64, error) {
	topics, _, err := t.cluster.Topics(ctx, t.topic)
	if err != nil {
		return nil, err
	}
	if err := topics[t.topic].Err; err != nil {
		return nil, err
	}
	var ids []int32
	for _, p := range topics[t.topic].Partitions {
		ids = append(ids, p.ID)
	}
	return t.cluster.Offsets(ctx, t.topic, ids, at, conn.ReadCommitted)
}

// Read is part of Source. Records that the topic's retention deleted before they were read are counted and logged; reading
// goes on behind them, for nothing can bring them back. A topic that was made anew is read from its start. Every other fault,
// missing rights and a missing topic among them, is logged and tried again: somebody may mend it.
func (t *Topic) Read(ctx context.Context, from map[int32]int64, fn func(Record) error) error {
	next := maps.Clone(from)
	wait := conn.Backoff{Max: time.Minute}
	for {
		err := tail.Read(ctx, t.cluster, tail.Options{Topic: t.topic, Offsets: next}, func(r tail.Record) error {
			if err := fn(recordOf(r)); err != nil {
				return err
			}
			next[r.Partition] = r.Offset + 1
			wait.Reset()
			return nil
		})
		var gap *fetch.ErrRetentionGap
		var beyond *fetch.ErrBeyondEnd
		if errors.As(err, &gap) || errors.As(err, &beyond) {
			err = t.clamp(ctx, next)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			t.log.Warn("webhook cannot read the alert topic; it is tried again", "webhook", t.webhook, "error", err)
		}
		if err := wait.Wait(ctx); err != nil {
			return err
		}
	}
}

// clamp moves positions that the topic does not have to its start.
func (t *Topic) clamp(ctx context.Context, next map[int32]int64) error {
	starts, err := t.offsets(ctx, conn.Earliest)
	if err != nil {
		return err
	}
	ends, err := t.offsets(ctx, conn.Latest)
	if err != nil {
		return err
	}
	for p, at := range next {
		switch start := starts[p]; {
		case at < start:
			t.metrics.lost.WithLabelValues(t.webhook).Add(float64(start - at))
			t.log.Error("alert steps were deleted from the topic before the webhook got them", "webhook", t.webhook, "partition", p, "offsets", start-at)
			next[p] = start
		case at > ends[p]:
			t.log.Warn("the alert topic was made anew; the webhook begins at its start", "webhook", t.webhook, "partition", p)
			next[p] = start
		}
	}
	return nil
}

// recordOf copies: the reader's buffers are used again.
func recordOf(r tail.Record) Record {
	c := Record{Partition: r.Partition, Offset: r.Offset, Key: clone(r.Key), Value: clone(r.Value), Headers: make([]Header, 0, len(r.Headers))}
	for _, h := range r.Headers {
		c.Headers = append(c.Headers, headerOf(h))
	}
	return c
}

func headerOf(h batch.Header) Header { return Header{Key: h.Key, Value: clone(h.Value)} }

func clone(b []byte) []byte { return append([]byte(nil), b...) }
