package tail_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/stream/conn"
	"ebb/stream/fetch"
	"ebb/stream/kafkatest"
	"ebb/stream/tail"
)

func clusterOf(t testing.TB, b *kafkatest.Broker) *conn.Cluster {
	t.Helper()
	c, err := conn.New(conn.Config{Brokers: b.Addrs, Dial: b.Dial, TLS: b.TLS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func brokers(t *testing.T, run func(t *testing.T, b *kafkatest.Broker)) {
	t.Run("embedded", func(t *testing.T) { run(t, kafkatest.Fake(t, kafkatest.Options{})) })
	t.Run("real", func(t *testing.T) { run(t, kafkatest.Real(t)) })
}

// all reads to the end; values are in order within each partition.
func all(t *testing.T, c *conn.Cluster, o tail.Options) [][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	o.UntilEnd = true
	values := make([][]string, 3)
	err := tail.Read(ctx, c, o, func(r tail.Record) error {
		values[r.Partition] = append(values[r.Partition], string(r.Value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func TestUntilEnd(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		topic := b.Name("until")
		b.CreateTopic(t, topic, 3, nil)
		for i := range 10 {
			b.Produce(t, topic, kafkatest.Record{Partition: int32(i % 2), Value: fmt.Append(nil, i)})
		}
		// The topic ends in an aborted transaction: its end is reached nevertheless.
		cl := b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(b.Name("txn")))
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("aborted")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
			t.Fatal(err)
		}
		c := clusterOf(t, b)
		cases := []struct {
			rule string
			o    tail.Options
			want string
		}{
			{"from the start", tail.Options{}, "[[0 2 4 6 8] [1 3 5 7 9] []]"},
			{"from the end there is nothing", tail.Options{From: tail.End}, "[[] [] []]"},
			{"from offsets, elsewhere from the start", tail.Options{Offsets: map[int32]int64{0: 3}}, "[[6 8] [1 3 5 7 9] []]"},
			{"from offsets, elsewhere from the end", tail.Options{From: tail.End, Offsets: map[int32]int64{1: 4}}, "[[] [9] []]"},
			{"uncommitted", tail.Options{Uncommitted: true}, "[[0 2 4 6 8 aborted] [1 3 5 7 9] []]"},
		}
		for _, k := range cases {
			k.o.Topic = topic
			if got := fmt.Sprint(all(t, c, k.o)); got != k.want {
				t.Errorf("%s: %s, want %s", k.rule, got, k.want)
			}
		}
	})
}

// Every field of a record arrives, and the callback's error ends the reading.
func TestRecord(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	topic := b.Name("record")
	b.CreateTopic(t, topic, 2, nil)
	b.Produce(t, topic, kafkatest.Record{Partition: 1, Timestamp: 1700000000123, Key: []byte("k"), Headers: map[string]string{"ce_type": "x"}})
	enough := errors.New("enough")
	var got string
	err := tail.Read(t.Context(), clusterOf(t, b), tail.Options{Topic: topic}, func(r tail.Record) error {
		got = fmt.Sprintf("%v %d %d %d %s %v %s=%s", r.Topic == topic, r.Partition, r.Offset, r.Timestamp, r.Key, r.Value == nil, r.Headers[0].Key, r.Headers[0].Value)
		return enough
	})
	if !errors.Is(err, enough) || got != "true 1 0 1700000000123 k true ce_type=x" {
		t.Errorf("%v %q", err, got)
	}
}

// A partition that is asked for by number and is not known yet is waited for: it is not empty. One that never comes is missing, and a topic that is missing is at once.
func TestAPartitionThatIsNotKnownYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		topic := b.Name("grown")
		b.CreateTopic(t, topic, 1, nil)
		c := clusterOf(t, b)
		read := func(topic string, p int32) (time.Duration, error) {
			began := time.Now()
			err := tail.Read(t.Context(), c, tail.Options{Topic: topic, Partitions: []int32{p}, UntilEnd: true}, func(tail.Record) error { return nil })
			return time.Since(began), err
		}
		if took, err := read(b.Name("absent"), 0); !errors.Is(err, conn.ErrTopicMissing) || took > time.Second {
			t.Errorf("a topic that is missing: %v after %v", err, took)
		}
		if took, err := read(topic, 1); !errors.Is(err, conn.ErrTopicMissing) || took < 20*time.Second {
			t.Errorf("a partition that never comes: %v after %v", err, took)
		}
		go func() {
			time.Sleep(5 * time.Second)
			addPartitions(t, b, topic, 2)
		}()
		if took, err := read(topic, 1); err != nil || took < 5*time.Second || took > 7*time.Second {
			t.Errorf("one that comes: %v after %v", err, took)
		}
	})
}

// Following a topic: records as they come, also in partitions that are added meanwhile.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		topic := b.Name("follow")
		b.CreateTopic(t, topic, 1, nil)
		b.Produce(t, topic, kafkatest.Record{Value: []byte("old")})
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan string, 10)
		done := make(chan error, 1)
		c := clusterOf(t, b)
		go func() {
			done <- tail.Read(ctx, c, tail.Options{Topic: topic, From: tail.End}, func(r tail.Record) error {
				got <- string(r.Value)
				return nil
			})
		}()
		time.Sleep(time.Hour)
		b.Produce(t, topic, kafkatest.Record{Value: []byte("new")})
		if v := <-got; v != "new" {
			t.Errorf("%q", v)
		}
		addPartitions(t, b, topic, 2)
		b.Produce(t, topic, kafkatest.Record{Partition: 1, Value: []byte("added")})
		start := time.Now()
		if v := <-got; v != "added" || time.Since(start) > time.Minute {
			t.Errorf("%q after %v", v, time.Since(start))
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func addPartitions(t *testing.T, b *kafkatest.Broker, topic string, n int32) {
	t.Helper()
	req := kmsg.NewPtrCreatePartitionsRequest()
	rt := kmsg.NewCreatePartitionsRequestTopic()
	rt.Topic, rt.Count = topic, n
	req.Topics, req.TimeoutMillis = append(req.Topics, rt), 10000
	res, err := req.RequestWith(t.Context(), b.Client(t))
	if err == nil {
		err = kerr.ErrorForCode(res.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestFaults(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		c := clusterOf(t, b)
		never := func(tail.Record) error { return errors.New("a record") }
		err := tail.Read(t.Context(), c, tail.Options{Topic: b.Name("absent")}, never)
		if !errors.Is(err, conn.ErrTopicMissing) {
			t.Errorf("a topic that is not there: %v", err)
		}
		topic := b.Name("short")
		b.CreateTopic(t, topic, 1, nil)
		err = tail.Read(t.Context(), c, tail.Options{Topic: topic, Offsets: map[int32]int64{0: 5}}, never)
		var beyond *fetch.ErrBeyondEnd
		if !errors.As(err, &beyond) || beyond.End != 0 {
			t.Errorf("an offset beyond the end: %v", err)
		}
	})
}

// A broker that restarts does not end the reading.
func TestRestart(t *testing.T) {
	b := kafkatest.Own(t, nil)
	topic := b.Name("restart")
	b.CreateTopic(t, topic, 2, nil)
	got := make(chan string, 10)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- tail.Read(ctx, clusterOf(t, b), tail.Options{Topic: topic}, func(r tail.Record) error {
			got <- string(r.Value)
			return nil
		})
	}()
	var values []string
	next := func() {
		select {
		case v := <-got:
			values = append(values, v)
		case err := <-done:
			t.Fatal(err)
		}
	}
	b.Produce(t, topic, kafkatest.Record{Value: []byte("before")})
	next()
	b.Terminate(t)
	b.Restart(t)
	b.Produce(t, topic, kafkatest.Record{Partition: 0, Value: []byte("after")}, kafkatest.Record{Partition: 1, Value: []byte("after")})
	next()
	next()
	if slices.Sort(values); strings.Join(values, " ") != "after after before" {
		t.Error(values)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
