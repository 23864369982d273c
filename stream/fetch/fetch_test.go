package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/stream/batch"
	"ebb/stream/conn"
	"ebb/stream/fetch"
	"ebb/stream/kafkatest"
)

const patience = 30 * time.Second

// clusterOf is a handle on a test's broker; change may alter its configuration.
func clusterOf(t testing.TB, b *kafkatest.Broker, change ...func(*conn.Config)) *conn.Cluster {
	t.Helper()
	cfg := conn.Config{Brokers: b.Addrs, Dial: b.Dial, TLS: b.TLS}
	if l := b.Login; l != nil {
		cfg.SASL = &conn.SASL{Mechanism: strings.ToLower(l.Mechanism), Username: l.Username, Password: l.Password}
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := conn.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func fetcherOf(t testing.TB, c *conn.Cluster, cfg fetch.Config) *fetch.Fetcher {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := fetch.New(c, cfg)
	t.Cleanup(f.Close)
	return f
}

// consumer reads one partition in the goroutine of the test.
type consumer struct {
	*fetch.Partition
	wake   chan struct{}
	values []string
	status fetch.Status
}

func open(t testing.TB, f *fetch.Fetcher, topic string, partition int32, offset int64) *consumer {
	wake := make(chan struct{}, 1)
	c := &consumer{Partition: f.Open(topic, partition, offset, wake), wake: wake}
	t.Cleanup(c.Close)
	return c
}

// poll takes what there is.
func (c *consumer) poll() (some bool) {
	for {
		recs, st := c.Poll()
		c.status = st
		if recs == nil {
			return some
		}
		some = true
		var r batch.Record
		for recs.Next(&r) {
			c.values = append(c.values, string(r.Value))
		}
		recs.Release()
	}
}

// until consumes, woken only by the partition, until done.
func (c *consumer) until(t testing.TB, what string, done func() bool) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for c.poll(); !done(); c.poll() {
		select {
		case <-c.wake:
		case <-limit.C:
			t.Fatalf("%s: waited %v; %d values, status %+v", what, patience, len(c.values), c.status)
		}
	}
}

func (c *consumer) atEnd() bool   { return c.status.AtEnd }
func (c *consumer) stopped() bool { return c.status.Err != nil }

func record(partition int32, value string) kafkatest.Record {
	return kafkatest.Record{Partition: partition, Key: []byte("k"), Value: []byte(value)}
}

func produce(t testing.TB, b *kafkatest.Broker, topic string, partition int32, values ...string) {
	t.Helper()
	rs := make([]kafkatest.Record, len(values))
	for i, v := range values {
		rs[i] = record(partition, v)
	}
	b.Produce(t, topic, rs...)
}

func numbered(prefix string, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return s
}

// brokers are the kinds that a test runs on.
func brokers(t *testing.T, run func(t *testing.T, b *kafkatest.Broker)) {
	t.Run("embedded", func(t *testing.T) { run(t, kafkatest.Fake(t, kafkatest.Options{})) })
	t.Run("real", func(t *testing.T) { run(t, kafkatest.Real(t)) })
}

// Whatever another client's producer compresses with, everything arrives as it was sent, from many partitions at once.
func TestCodecs(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		topic := b.Name("codecs")
		codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
		b.CreateTopic(t, topic, int32(len(codecs)), nil)
		want := make([][]*kgo.Record, len(codecs))
		for p, codec := range codecs {
			cl := b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec))
			for i := range 2000 {
				r := &kgo.Record{Topic: topic, Partition: int32(p), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i%7)), Key: []byte(fmt.Sprint("k", i)), Value: []byte(strings.Repeat(fmt.Sprint(i, " "), i%50))}
				switch i % 10 {
				case 3:
					r.Key = nil
				case 4:
					r.Value = nil
				case 5:
					r.Key, r.Value = []byte{}, []byte{}
				case 6:
					r.Headers = []kgo.RecordHeader{{Key: "h", Value: []byte("v")}, {Key: "n"}}
				}
				want[p] = append(want[p], r)
			}
			if err := cl.ProduceSync(t.Context(), want[p]...).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		f := fetcherOf(t, clusterOf(t, b), fetch.Config{})
		wake := make(chan struct{}, 1)
		var parts []*fetch.Partition
		for p := range codecs {
			parts = append(parts, f.Open(topic, int32(p), 0, wake))
		}
		at := make([]int, len(codecs))
		for left := 2000 * len(codecs); left > 0; {
			select {
			case <-wake:
			case <-time.After(patience):
				t.Fatalf("%d records missing, at %v", left, at)
			}
			for p, part := range parts {
				for {
					recs, ok := part.Next()
					if !ok {
						break
					}
					for i := range recs.Len() {
						same(t, want[p][at[p]], int64(at[p]), recs.At(i))
						at[p]++
						left--
					}
					recs.Release()
				}
			}
		}
	})
}

func same(t *testing.T, w *kgo.Record, offset int64, g batch.Record) {
	t.Helper()
	var headers []kgo.RecordHeader
	for h := range g.Headers {
		headers = append(headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	if g.Offset != offset || g.Timestamp != w.Timestamp.UnixMilli() ||
		!bytes.Equal(g.Key, w.Key) || (g.Key == nil) != (w.Key == nil) ||
		!bytes.Equal(g.Value, w.Value) || (g.Value == nil) != (w.Value == nil) ||
		fmt.Sprint(headers) != fmt.Sprint(w.Headers) {
		t.Fatalf("offset %d: got %q=%q %v at %d, want %q=%q %v", offset, g.Key, g.Value, headers, g.Timestamp, w.Key, w.Value, w.Headers)
	}
}

// transact writes values within one transaction.
func transact(t *testing.T, b *kafkatest.Broker, topic string, commit bool, values ...string) {
	t.Helper()
	cl := b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(b.Name("txn")))
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	send(t, cl, topic, values...)
	if err := cl.EndTransaction(t.Context(), kgo.TransactionEndTry(commit)); err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, cl *kgo.Client, topic string, values ...string) {
	t.Helper()
	for _, v := range values {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte("t"), Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// Who reads committed never sees aborted records or markers, and comes to the end over them.
func TestTransactions(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		topic := b.Name("transactions")
		b.CreateTopic(t, topic, 1, nil)
		transact(t, b, topic, true, "a", "b")
		produce(t, b, topic, 0, "plain")
		transact(t, b, topic, false, "x", "y", "z")
		transact(t, b, topic, true, "c")
		transact(t, b, topic, false, "w")
		cluster := clusterOf(t, b)
		for from, want := range map[int64]string{0: "a b plain c", 5: "c", 6: "c"} {
			c := open(t, fetcherOf(t, cluster, fetch.Config{}), topic, 0, from)
			c.until(t, "committed", c.atEnd)
			if got := strings.Join(c.values, " "); got != want {
				t.Errorf("from %d: %q, want %q", from, got, want)
			}
			if s := c.status; s.Delivered != s.HighWatermark || s.Lag() != 0 || s.Position != 12 {
				t.Errorf("from %d: did not come to the end: %+v", from, s)
			}
		}
		c := open(t, fetcherOf(t, cluster, fetch.Config{Uncommitted: true}), topic, 0, 0)
		c.until(t, "uncommitted", c.atEnd)
		if got := strings.Join(c.values, " "); got != "a b plain x y z c w" {
			t.Errorf("uncommitted: %q", got)
		}
	})
}

// A hanging transaction is not silence: behind it there may be records, so the partition is not at its end.
func TestOpenTransactionIsNotTheEnd(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		topic := b.Name("open")
		b.CreateTopic(t, topic, 1, nil)
		produce(t, b, topic, 0, "before")
		cl := b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(b.Name("hangs")))
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		send(t, cl, topic, "inside")
		produce(t, b, topic, 0, "behind")

		metrics := fetch.NewMetrics(prometheus.NewRegistry())
		c := open(t, fetcherOf(t, clusterOf(t, b), fetch.Config{MaxWait: 50 * time.Millisecond, Metrics: metrics}), topic, 0, 0)
		c.until(t, "the high watermark", func() bool { return c.status.HighWatermark == 3 })
		if c.status.AtEnd || !c.status.AtEndSent.IsZero() || c.status.LastStable != 1 {
			t.Errorf("at the end before an open transaction: %+v", c.status)
		}
		if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		c.until(t, "the end", c.atEnd)
		if got := strings.Join(c.values, " "); got != "before inside behind" {
			t.Errorf("%q", got)
		}
	})
}

// Partitions follow their leaders around the cluster, and nothing is lost or doubled.
func TestLeaderMoves(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{Brokers: 3})
	topic := b.Name("moves")
	b.CreateTopic(t, topic, 2, nil)
	f := fetcherOf(t, clusterOf(t, b), fetch.Config{})
	parts := []*consumer{open(t, f, topic, 0, 0), open(t, f, topic, 1, 0)}
	var want []string
	for round := range 6 {
		for p := range int32(2) {
			if err := b.Fake.MoveTopicPartition(topic, p, int32(round+int(p))%3); err != nil {
				t.Fatal(err)
			}
		}
		more := numbered(fmt.Sprint("round", round), 50)
		want = append(want, more...)
		for p, c := range parts {
			produce(t, b, topic, int32(p), more...)
			c.until(t, "all of the round", func() bool { return len(c.values) >= len(want) })
		}
	}
	for p, c := range parts {
		if !slices.Equal(c.values, want) {
			t.Errorf("partition %d: %d values, want %d in order", p, len(c.values), len(want))
		}
	}
}

// flipper changes a byte of the first "good" that comes from the network, while it is on.
type flipper struct{ on atomic.Bool }

type flipConn struct {
	net.Conn
	f *flipper
}

func (f *flipper) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return flipConn{c, f}, nil
}

func (c flipConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if i := bytes.Index(b[:n], []byte("good")); i >= 0 && c.f.on.Load() {
		b[i] = 'f'
	}
	return n, err
}

// A corrupt batch stops the partition with its offset; what stands before it arrives, nothing is skipped, SeekTo goes on.
func TestCorruptBatch(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	topic := b.Name("corrupt")
	b.CreateTopic(t, topic, 2, nil)
	produce(t, b, topic, 0, "fine", "fine")
	b.Produce(t, topic, record(0, "good"))
	produce(t, b, topic, 0, "later")
	produce(t, b, topic, 1, "other")
	flip := &flipper{}
	flip.on.Store(true)
	f := fetcherOf(t, clusterOf(t, b, func(c *conn.Config) { c.Dial = flip.dial }), fetch.Config{})
	c, other := open(t, f, topic, 0, 0), open(t, f, topic, 1, 0)
	c.until(t, "the error", c.stopped)
	var corrupt *batch.CorruptError
	if !errors.Is(c.status.Err, batch.ErrCorrupt) || !errors.As(c.status.Err, &corrupt) || corrupt.Offset != 2 {
		t.Errorf("%v", c.status.Err)
	}
	if got := strings.Join(c.values, " "); got != "fine fine" || c.status.Position != 2 || c.status.AtEnd {
		t.Errorf("got %q, %+v", got, c.status)
	}
	other.until(t, "the partition beside it", other.atEnd)
	c.poll()
	if !c.stopped() {
		t.Error("the error does not stay")
	}
	flip.on.Store(false)
	c.SeekTo(2)
	c.until(t, "the rest", c.atEnd)
	if got := strings.Join(c.values, " "); got != "fine fine good later" {
		t.Errorf("%q", got)
	}
}

// A batch that was damaged on its way, and not where it is stored, is read again: nobody is to give it up.
func TestDamagedOnItsWay(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	topic := b.Name("damaged")
	b.CreateTopic(t, topic, 1, nil)
	produce(t, b, topic, 0, "fine", "fine")
	b.Produce(t, topic, record(0, "good"))
	flip := &flipper{}
	flip.on.Store(true)
	f := fetcherOf(t, clusterOf(t, b, func(c *conn.Config) { c.Dial = flip.dial }), fetch.Config{})
	c := open(t, f, topic, 0, 0)
	for c.Status().HighWatermark != 3 { // the damaged answer is there, and not looked at
		<-c.wake
	}
	flip.on.Store(false)
	c.until(t, "the end", func() bool { return c.atEnd() || c.stopped() })
	if got := strings.Join(c.values, " "); got != "fine fine good" || c.status.Err != nil {
		t.Errorf("got %q, %+v", got, c.status)
	}
}

// Positions that the broker no longer has, or never had, stop the partition and say what there is.
func TestOutOfRange(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		topic := b.Name("range")
		b.CreateTopic(t, topic, 2, nil)
		produce(t, b, topic, 0, numbered("v", 10)...)
		produce(t, b, topic, 1, numbered("w", 10)...)
		deleteBefore(t, b, topic, 0, 4)
		f := fetcherOf(t, clusterOf(t, b), fetch.Config{})

		c := open(t, f, topic, 0, 1)
		c.until(t, "the gap", c.stopped)
		var gap *fetch.ErrRetentionGap
		if !errors.As(c.status.Err, &gap) || *gap != (fetch.ErrRetentionGap{Position: 1, Start: 4}) {
			t.Errorf("%v", c.status.Err)
		}
		c.SeekTo(gap.Start)
		c.until(t, "the end", c.atEnd)
		if len(c.values) != 6 || c.values[0] != "v-4" || c.status.LogStart != 4 {
			t.Errorf("%v %+v", c.values, c.status)
		}

		c = open(t, f, topic, 1, 11)
		c.until(t, "the end that lies before", c.stopped)
		var beyond *fetch.ErrBeyondEnd
		if !errors.As(c.status.Err, &beyond) || *beyond != (fetch.ErrBeyondEnd{Position: 11, End: 10}) {
			t.Errorf("%v", c.status.Err)
		}
	})
}

func deleteBefore(t *testing.T, b *kafkatest.Broker, topic string, partition int32, offset int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rt.Topic, rp.Partition, rp.Offset = topic, partition, offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics, req.TimeoutMillis = append(req.Topics, rt), 10000
	res := b.Client(t).RequestSharded(t.Context(), req)
	for _, s := range res {
		if s.Err != nil {
			t.Fatal(s.Err)
		}
		for _, rt := range s.Resp.(*kmsg.DeleteRecordsResponse).Topics {
			for _, rp := range rt.Partitions {
				if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// A topic that is not there is said to be missing, but only after a while; one that is deleted under way too.
func TestTopicMissing(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		f := fetcherOf(t, clusterOf(t, b), fetch.Config{MaxWait: 100 * time.Millisecond})
		absent := open(t, f, b.Name("absent"), 0, 0)
		topic := b.Name("deleted")
		b.CreateTopic(t, topic, 1, nil)
		produce(t, b, topic, 0, "v")
		c := open(t, f, topic, 0, 0)
		c.until(t, "the end", c.atEnd)
		b.DeleteTopic(t, topic)
		for _, c := range []*consumer{absent, c} {
			c.until(t, "the error", c.stopped)
			if !errors.Is(c.status.Err, conn.ErrTopicMissing) {
				t.Errorf("%v", c.status.Err)
			}
		}
	})
}

// What was fetched before a partition stopped is handed out before the error.
func TestErrorComesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		topic := b.Name("last")
		b.CreateTopic(t, topic, 1, nil)
		c := open(t, fetcherOf(t, clusterOf(t, b), fetch.Config{}), topic, 0, 0)
		c.until(t, "the end", c.atEnd)
		for i := range 3 {
			produce(t, b, topic, 0, fmt.Sprint(i))
			<-c.wake // and not polled
		}
		b.DeleteTopic(t, topic)
		for c.Status().Err == nil {
			<-c.wake
		}
		var got []string
		for {
			recs, st := c.Poll()
			if recs == nil {
				if !errors.Is(st.Err, conn.ErrTopicMissing) {
					t.Errorf("%v", st.Err)
				}
				break
			}
			if st.Err != nil {
				t.Errorf("error together with records: %v", st.Err)
			}
			got = append(got, string(recs.At(0).Value))
			recs.Release()
		}
		if fmt.Sprint(got) != "[0 1 2]" {
			t.Errorf("%v", got)
		}
	})
}

// One partition that nobody consumes holds no more than its share, and does not keep others from being read.
func TestBackPressure(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		topic := b.Name("pressure")
		b.CreateTopic(t, topic, 3, nil)
		rng := rand.NewChaCha8([32]byte{1})
		for p := range int32(3) {
			for range 20 {
				var rs []kafkatest.Record
				for range 100 {
					r := record(p, "")
					r.Value = make([]byte, 1000) // that no codec makes smaller
					rng.Read(r.Value)
					rs = append(rs, r)
				}
				b.Produce(t, topic, rs...)
			}
		}
		reg := prometheus.NewRegistry()
		const budget = 1 << 20
		f := fetcherOf(t, clusterOf(t, b), fetch.Config{
			BufferBytes: budget, ReservedBytes: 64 << 10, PartitionMaxBytes: 256 << 10, MaxBytes: 256 << 10, Metrics: fetch.NewMetrics(reg),
		})
		held, read := open(t, f, topic, 0, 0), open(t, f, topic, 1, 0)
		var first *batch.Records
		for first == nil {
			<-held.wake
			first, _ = held.Next()
		}
		read.until(t, "the partition that is consumed", read.atEnd)
		if len(read.values) != 2000 {
			t.Errorf("%d values", len(read.values))
		}
		s := held.Status()
		if s.AtEnd || s.Position == 0 || s.Position > 1000 {
			t.Errorf("the partition that is not consumed was fetched to %d of 2000", s.Position)
		}
		if got := testutil.ToFloat64(gauge(t, reg)); got > budget {
			t.Errorf("%v bytes buffered, %d allowed", got, budget)
		}
		// A partition closed with records still handed out is accounted for until they are back.
		late := open(t, f, topic, 2, 0)
		late.until(t, "a third one", late.atEnd)
		first.Release()
		held.until(t, "the one that was held back", held.atEnd)
		if len(held.values)+first.Len() < 1900 {
			t.Errorf("%d values", len(held.values))
		}
		for _, c := range []*consumer{held, read, late} {
			c.Close()
		}
		kafkatest.Eventually(t, "all memory to come back", func() error {
			if got := testutil.ToFloat64(gauge(t, reg)); got != 0 {
				return fmt.Errorf("%v bytes still accounted for", got)
			}
			return nil
		})
	})
}

// gauge is the buffer gauge of a registry.
func gauge(t *testing.T, reg *prometheus.Registry) prometheus.Collector {
	t.Helper()
	ms, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "g"})
	for _, m := range ms {
		if m.GetName() == "ebb_fetch_buffer_bytes" {
			g.Set(m.GetMetric()[0].GetGauge().GetValue())
		}
	}
	return g
}

// A single batch larger than every bound still arrives.
func TestBatchLargerThanBounds(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		topic := b.Name("large")
		b.CreateTopic(t, topic, 2, nil)
		produce(t, b, topic, 0, strings.Repeat("x", 900<<10), "small")
		produce(t, b, topic, 1, strings.Repeat("y", 900<<10), "small")
		f := fetcherOf(t, clusterOf(t, b), fetch.Config{BufferBytes: 64 << 10, ReservedBytes: 8 << 10, PartitionMaxBytes: 16 << 10, MaxBytes: 32 << 10})
		for p := range int32(2) {
			c := open(t, f, topic, p, 0)
			c.until(t, "the end", c.atEnd)
			if len(c.values) != 2 || len(c.values[0]) != 900<<10 {
				t.Errorf("partition %d: %d values", p, len(c.values))
			}
		}
	})
}

// In virtual time: three idle hours cost few requests; AtEndSent follows the clock within a poll; a new record arrives at the
// moment it is written, in every partition, also right after one has come to its end.
func TestIdleAndLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{Brokers: 2})
		topic := b.Name("idle")
		b.CreateTopic(t, topic, 8, nil)
		cl := b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		put := func(p int32, v string) {
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Partition: p, Value: []byte(v)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		reg := prometheus.NewRegistry()
		f := fetcherOf(t, clusterOf(t, b), fetch.Config{Metrics: fetch.NewMetrics(reg)})
		var parts []*consumer
		for p := range int32(8) {
			put(p, "old")
			parts = append(parts, open(t, f, topic, p, 0))
		}
		for _, c := range parts {
			c.until(t, "the end", c.atEnd)
		}
		time.Sleep(3 * time.Hour)
		for p, c := range parts {
			c.poll()
			if age := time.Since(c.status.AtEndSent); age > time.Second || !c.status.AtEnd {
				t.Errorf("partition %d: at the end %v ago", p, age)
			}
		}
		n := requests(t, reg)
		if perSecond := n / (3 * 3600); perSecond > 5 { // 2 brokers, 2 polls a second each
			t.Errorf("%v requests a second when idle", perSecond)
		}
		for round := range 20 {
			time.Sleep(time.Duration(round*37) * time.Millisecond)
			p := int32(round*3) % 8
			start := time.Now()
			put(p, "new")
			c := parts[p]
			before := len(c.values)
			c.until(t, "the new record", func() bool { return len(c.values) > before })
			if d := time.Since(start); d > 5*time.Millisecond {
				t.Errorf("round %d: a record took %v", round, d)
			}
		}
		// A partition that is opened while everything is long-polled is read at once.
		late := open(t, f, topic, 3, 0)
		start := time.Now()
		late.until(t, "the late one", late.atEnd)
		if d := time.Since(start); d > 20*time.Millisecond {
			t.Errorf("a new partition waited %v", d)
		}
		start = time.Now()
		before := len(late.values)
		put(3, "newest")
		late.until(t, "a record right after the end", func() bool { return len(late.values) > before })
		if d := time.Since(start); d > 10*time.Millisecond {
			t.Errorf("a record right after the end took %v", d)
		}
	})
}

func requests(t *testing.T, reg *prometheus.Registry) float64 {
	t.Helper()
	return sum(t, reg, "ebb_fetch_requests_total")
}

// sum adds up the children of a counter.
func sum(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	ms, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var n float64
	for _, m := range ms {
		if m.GetName() == name {
			for _, x := range m.GetMetric() {
				n += x.GetCounter().GetValue()
			}
		}
	}
	return n
}

// mute drops what a broker says while it is on, as if the broker were frozen.
type mute struct {
	net.Conn
	on *atomic.Bool
}

func (m mute) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	for m.on.Load() && err == nil {
		n, err = m.Conn.Read(b)
	}
	return n, err
}

// In virtual time: a broker that goes silent proves nothing, is given up after the wait and ten seconds, and is found again
// when it speaks.
func TestSilentBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		topic := b.Name("silent")
		b.CreateTopic(t, topic, 1, nil)
		var silent atomic.Bool
		cluster := clusterOf(t, b, func(c *conn.Config) {
			c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				k, err := b.Dial(ctx, network, addr)
				return mute{k, &silent}, err
			}
		})
		reg := prometheus.NewRegistry()
		c := open(t, fetcherOf(t, cluster, fetch.Config{Metrics: fetch.NewMetrics(reg)}), topic, 0, 0)
		c.until(t, "the end", c.atEnd)
		time.Sleep(time.Minute)
		silent.Store(true)
		start := time.Now()
		c.until(t, "trouble", func() bool { return c.status.Trouble != nil })
		if d := time.Since(start); d > 11*time.Second {
			t.Errorf("given up after %v", d)
		}
		if c.status.AtEndSent.After(start) || c.status.Answered.After(start) || c.status.Err != nil {
			t.Errorf("%v after it went silent: %+v", time.Since(start), c.status)
		}
		time.Sleep(5 * time.Minute)
		if n := failures(t, reg); n > 200 {
			t.Errorf("%v failures in five minutes: that is no backing off", n)
		}
		c.poll()
		if c.status.AtEndSent.After(start) {
			t.Errorf("silence proves the end: %+v", c.status)
		}
		produce(t, b, topic, 0, "meanwhile")
		silent.Store(false)
		start = time.Now()
		c.until(t, "the record", func() bool { return len(c.values) == 1 })
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("found again after %v", d)
		}
	})
}

// thin is a connection over a slow line.
type thin struct {
	net.Conn
	perSecond int
}

func (c thin) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:min(len(b), c.perSecond/10)])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.perSecond))
	return n, err
}

// In virtual time: an answer that takes longer to arrive than a silent broker is waited for is taken as long as it comes on.
func TestSlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		topic := b.Name("slow")
		b.CreateTopic(t, topic, 8, nil)
		for p := range int32(8) {
			noise := make([]byte, 800<<10)
			for i := range noise {
				noise[i] = byte(rand.Uint32())
			}
			produce(t, b, topic, p, string(noise))
		}
		cluster := clusterOf(t, b, func(c *conn.Config) {
			c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				k, err := b.Dial(ctx, network, addr)
				return thin{k, 400 << 10}, err
			}
		})
		f := fetcherOf(t, cluster, fetch.Config{})
		var parts []*consumer
		for p := range int32(8) {
			parts = append(parts, open(t, f, topic, p, 0))
		}
		for p, c := range parts {
			c.until(t, fmt.Sprintf("the record of partition %d", p), func() bool { return len(c.values) == 1 })
		}
	})
}

// In virtual time, where processors and networks take none: what a record waits is what the two connections make it wait for
// each other. At a thousand records a second over twelve partitions that is nothing.
func TestNoWaitingUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{Brokers: 2})
		topic := b.Name("load")
		const partitions, records = 12, 3000
		b.CreateTopic(t, topic, partitions, nil)
		f := fetcherOf(t, clusterOf(t, b), fetch.Config{})
		wake := make(chan struct{}, 1)
		var parts []*fetch.Partition
		for p := range int32(partitions) {
			parts = append(parts, f.Open(topic, p, 0, wake))
		}
		cl := b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
		rng := rand.New(rand.NewPCG(1, 2))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range records {
				cl.Produce(t.Context(), &kgo.Record{Topic: topic, Partition: int32(rng.IntN(partitions)), Timestamp: time.Now()}, nil)
				time.Sleep(time.Millisecond)
			}
		}()
		var worst time.Duration
		for got := 0; got < records; {
			<-wake
			for _, p := range parts {
				for recs, ok := p.Next(); ok; recs, ok = p.Next() {
					for i := range recs.Len() {
						worst = max(worst, time.Since(time.UnixMilli(recs.At(i).Timestamp)))
						got++
					}
					recs.Release()
				}
			}
		}
		<-done
		if worst > time.Millisecond {
			t.Errorf("a record waited %v", worst)
		}
	})
}

func failures(t *testing.T, reg *prometheus.Registry) float64 {
	return sum(t, reg, "ebb_fetch_errors_total")
}

// Nil records together with AtEnd mean that nothing was unseen when AtEndSent was: a record acknowledged before a moment is
// handed out before AtEndSent passes that moment.
func TestAtEndIsProof(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		topic := b.Name("proof")
		b.CreateTopic(t, topic, 1, nil)
		c := open(t, fetcherOf(t, clusterOf(t, b), fetch.Config{MaxWait: 5 * time.Millisecond}), topic, 0, 0)
		for i := range 200 {
			produce(t, b, topic, 0, fmt.Sprint(i))
			acknowledged := time.Now()
			c.until(t, "proof", func() bool { return c.status.AtEnd && c.status.AtEndSent.After(acknowledged) })
			if len(c.values) != i+1 {
				t.Fatalf("at the end after record %d with %d values", i, len(c.values))
			}
			if i > 20 && testing.Short() {
				break
			}
		}
	})
}

// SeekTo drops what was fetched; Close in the middle of everything is safe.
func TestSeekAndClose(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	topic := b.Name("seek")
	b.CreateTopic(t, topic, 1, nil)
	produce(t, b, topic, 0, numbered("v", 100)...)
	f := fetcherOf(t, clusterOf(t, b), fetch.Config{})
	c := open(t, f, topic, 0, 0)
	c.until(t, "the end", c.atEnd)
	for _, from := range []int64{90, 10, 99, 0} {
		c.SeekTo(from)
		c.values = nil
		c.until(t, "the end again", c.atEnd)
		if len(c.values) != 100-int(from) || c.values[0] != fmt.Sprint("v-", from) {
			t.Errorf("from %d: %d values", from, len(c.values))
		}
	}
	c.SeekTo(0)
	c.Close()
	if recs, st := c.Poll(); recs != nil || st.Err == nil {
		t.Error("a closed partition speaks")
	}
	c.Close()
	f.Close()
}

// The broker is gone and comes back: reading goes on where it stood, trouble is said meanwhile.
func TestBrokerRestarts(t *testing.T) {
	b := kafkatest.Own(t, nil)
	topic := b.Name("restart")
	b.CreateTopic(t, topic, 4, nil)
	f := fetcherOf(t, clusterOf(t, b), fetch.Config{})
	var parts []*consumer
	for p := range int32(4) {
		produce(t, b, topic, p, "before")
		parts = append(parts, open(t, f, topic, p, 0))
		parts[p].until(t, "the end", parts[p].atEnd)
	}
	b.Terminate(t)
	proved := parts[0].Status().AtEndSent
	for _, c := range parts {
		c.until(t, "trouble", func() bool { return c.status.Trouble != nil })
	}
	if got := parts[0].Status().AtEndSent; got.Sub(proved) > time.Second {
		t.Errorf("the end was proved %v into the outage", got.Sub(proved))
	}
	b.Restart(t)
	for p, c := range parts {
		produce(t, b, topic, int32(p), "after")
		c.until(t, "the record after", func() bool { return len(c.values) == 2 })
		if got := strings.Join(c.values, " "); got != "before after" || c.status.Trouble != nil || c.status.Err != nil {
			t.Errorf("%q %+v", got, c.status)
		}
	}
}

// A log that the broker has cleaned, with batches cut short and batches left empty, is read to its end.
func TestCompacted(t *testing.T) {
	b := kafkatest.Own(t, map[string]string{"log.cleaner.backoff.ms": "200", "log.segment.delete.delay.ms": "100"})
	topic := b.Name("compacted")
	b.CreateTopic(t, topic, 1, map[string]string{
		"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.001", "segment.ms": "300", "min.compaction.lag.ms": "0", "delete.retention.ms": "0",
	})
	// The same keys over and over, from idempotent producers that are gone: the cleaner leaves their last batches empty.
	for round := range 12 {
		var rs []kafkatest.Record
		for i := range 40 {
			rs = append(rs, kafkatest.Record{Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "%d", round)})
		}
		b.Produce(t, topic, rs...)
		transact(t, b, topic, round%2 == 0, fmt.Sprint("txn", round))
		kafkatest.Eventually(t, "a segment of its own", pause(150*time.Millisecond))
	}
	first := func() (int, *consumer) {
		c := open(t, fetcherOf(t, clusterOf(t, b), fetch.Config{}), topic, 0, 0)
		c.until(t, "the end", c.atEnd)
		return len(c.values), c
	}
	kafkatest.Eventually(t, "the cleaner", func() error {
		b.Produce(t, topic, kafkatest.Record{Key: []byte("roll"), Value: []byte("x")})
		if n, _ := first(); n > 150 {
			return fmt.Errorf("still %d records", n)
		}
		return nil
	})
	_, c := first()
	want := b.ReadCommitted(t, topic)
	var values []string
	for _, r := range want {
		values = append(values, string(r.Value))
	}
	// The cleaner may go on between the two readings: what is left must agree at the end at least.
	if !slices.Equal(c.values[len(c.values)-40:], values[len(values)-40:]) {
		t.Errorf("got %v\nwant %v", c.values, values)
	}
	if c.status.Delivered != c.status.HighWatermark {
		t.Errorf("%+v", c.status)
	}
}

// pause is a condition that becomes true after d.
func pause(d time.Duration) func() error {
	due := time.Now().Add(d)
	return func() error {
		if time.Now().Before(due) {
			return errors.New("not yet")
		}
		return nil
	}
}
