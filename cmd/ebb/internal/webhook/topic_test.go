package webhook

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/stream/conn"
	"ebb/stream/kafkatest"
	"ebb/stream/offsets"
)

func TestOnTheEmbeddedBroker(t *testing.T) { onBroker(t, kafkatest.Fake(t, kafkatest.Options{})) }

func TestOnARealBroker(t *testing.T) { onBroker(t, kafkatest.Real(t)) }

// onBroker: from the topic to a server, over a restart of the sink, with positions in the broker.
func onBroker(t *testing.T, b *kafkatest.Broker) {
	cluster, err := conn.New(conn.Config{Brokers: b.Addrs, Dial: b.Dial})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	topic := b.Name("churn-alerts")
	b.CreateTopic(t, topic, 2, nil)
	produce := func(id string) {
		b.Produce(t, topic, kafkatest.Record{
			Key: []byte("c-1"), Value: []byte(`{"id":"` + id + `"}`),
			Headers: map[string]string{"ce_id": id, "content-type": "application/json"},
		})
	}
	produce("before/1")

	got := make(chan string, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r.Header.Get("Ce-Id")
	}))
	defer srv.Close()

	metrics := NewMetrics(prometheus.NewRegistry())
	keep := offsets.New(cluster, b.Name("ebb-webhook-crm"), topic)
	run := func(begun func()) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		log := slog.New(slog.DiscardHandler)
		sink, err := New(Config{Name: "crm", URL: srv.URL}, Deps{
			Source: NewTopic(cluster, topic, "crm", metrics, log), Offsets: keep, Transport: http.DefaultTransport,
			Now: time.Now, Jitter: func() float64 { return 0.5 }, Log: log, Metrics: metrics,
		})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- sink.Run(ctx) }()
		begun()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	expect := func(rule string, want ...string) {
		t.Helper()
		var ids []string
		for range want {
			select {
			case id := <-got:
				ids = append(ids, id)
			case <-time.After(20 * time.Second):
				t.Fatalf("%s: got %v, want %v", rule, ids, want)
			}
		}
		if !slices.Equal(ids, want) {
			t.Errorf("%s: got %v, want %v", rule, ids, want)
		}
	}

	// its first position is in the broker before anything is delivered
	stop := run(func() { await(t, func() bool { n, err := keep.Load(t.Context()); return err == nil && len(n) == 2 }) })
	produce("a/1")
	produce("a/2")
	expect("a new webhook begins at the end", "a/1", "a/2")
	stop()
	produce("a/3")
	stop = run(func() {})
	expect("after a restart it goes on", "a/3")
	stop()

	// a position that the topic no longer has
	deleteRecords(t, b, topic)
	produce("b/1")
	if err := keep.Save(t.Context(), map[int32]int64{0: 0, 1: 0}); err != nil {
		t.Fatal(err)
	}
	stop = run(func() {})
	expect("behind a gap it goes on at what is left", "b/1")
	stop()
	if lost := testutil.ToFloat64(metrics.lost.WithLabelValues("crm")); lost != 4 {
		t.Errorf("lost: counted %v, want 4", lost)
	}
	select {
	case id := <-got:
		t.Errorf("%s was delivered too", id)
	default:
	}
}

// deleteRecords does what retention does: the partition's start moves to its end.
func deleteRecords(t *testing.T, b *kafkatest.Broker, topic string) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Partition, rp.Offset = 0, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics, req.TimeoutMillis = append(req.Topics, rt), 10_000
	for _, shard := range b.Client(t).RequestSharded(t.Context(), req) {
		if shard.Err != nil {
			t.Fatal(shard.Err)
		}
	}
}

// await waits for a condition that others bring about.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	end := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("waited 20 s in vain")
		}
	}
}
