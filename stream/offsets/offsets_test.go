package offsets_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"ebb/stream/conn"
	"ebb/stream/kafkatest"
	"ebb/stream/offsets"
)

func TestFake(t *testing.T) { exercise(t, kafkatest.Fake(t, kafkatest.Options{})) }

func TestReal(t *testing.T) { exercise(t, kafkatest.Real(t)) }

func exercise(t *testing.T, b *kafkatest.Broker) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cluster, err := conn.New(conn.Config{Brokers: b.Addrs, Dial: b.Dial})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	topic := b.Name("alerts")
	b.CreateTopic(t, topic, 3, nil)
	g := offsets.New(cluster, b.Name("ebb-webhook-crm"), topic)

	assert := func(rule string, want map[int32]int64) {
		t.Helper()
		got, err := g.Load(ctx)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: got %v, %v; want %v", rule, got, err, want)
		}
	}
	save := func(next map[int32]int64) {
		t.Helper()
		if err := patiently(ctx, func() error { return g.Save(ctx, next) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := patiently(ctx, func() error { _, err := g.Load(ctx); return err }); err != nil {
		t.Fatal(err)
	}
	assert("nothing was saved", map[int32]int64{})
	save(map[int32]int64{0: 5, 2: 0})
	assert("what was saved, and a partition without a position is absent", map[int32]int64{0: 5, 2: 0})
	save(map[int32]int64{1: 7})
	assert("partitions that are not named keep theirs", map[int32]int64{0: 5, 1: 7, 2: 0})
	save(nil)
	assert("nothing to save is no request", map[int32]int64{0: 5, 1: 7, 2: 0})

	if _, err := offsets.New(cluster, "g", b.Name("absent")).Load(ctx); !errors.Is(err, conn.ErrTopicMissing) {
		t.Errorf("a missing topic: got %v, want %v", err, conn.ErrTopicMissing)
	}
}

// patiently repeats fn while a new cluster makes its offsets topic.
func patiently(ctx context.Context, fn func() error) error {
	var wait conn.Backoff
	for {
		err := fn()
		if err == nil || !conn.Retriable(err) || wait.Wait(ctx) != nil {
			return err
		}
	}
}
