// Package post writes single records, for tools.
//
// A record is acknowledged by all replicas in sync when Record returns, and is written at least once: a write of which the answer was lost is repeated, so
// whoever reads it has to know a repetition by an id in the record. It refuses to batch and to be part of a transaction; for that there is package txn.
package post

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"ebb/stream/conn"
)

// pause is between two attempts.
const pause = 200 * time.Millisecond

// Record writes one record with a timestamp, and tries again until ctx ends as long as the cluster's answer is one that passes: no leader, too few replicas,
// no answer at all. A topic or partition that does not exist is conn.ErrTopicMissing, one that may not be written to is conn.ErrUnauthorized.
func Record(ctx context.Context, cluster *conn.Cluster, topic string, partition int32, key, value []byte, at time.Time) error {
	for {
		err := once(ctx, cluster, topic, partition, key, value, at)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, kafka.UnknownTopicOrPartition):
			err = conn.ErrTopicMissing
		case errors.Is(err, kafka.TopicAuthorizationFailed):
			err = conn.ErrUnauthorized
		case ctx.Err() == nil && passes(err):
			if wait(ctx) {
				continue
			}
		}
		return fmt.Errorf("write to %s partition %d: %w", topic, partition, err)
	}
}

func once(ctx context.Context, cluster *conn.Cluster, topic string, partition int32, key, value []byte, at time.Time) error {
	res, err := cluster.Client().Produce(ctx, &kafka.ProduceRequest{
		Topic: topic, Partition: int(partition), RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(kafka.Record{Time: at, Key: kafka.NewBytes(key), Value: kafka.NewBytes(value)}),
	})
	if err != nil {
		return err
	}
	return res.Error
}

// passes reports whether an error may be gone at the next attempt: everything but a broker's final word.
func passes(err error) bool {
	var code kafka.Error
	return !errors.As(err, &code) || code.Temporary()
}

func wait(ctx context.Context) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
