package conn_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"ebb/stream/conn"
	"ebb/stream/kafkatest"
)

func config(b *kafkatest.Broker) conn.Config {
	cfg := conn.Config{Brokers: b.Addrs, Dial: b.Dial, TLS: b.TLS, DialTimeout: 4 * time.Second}
	if l := b.Login; l != nil {
		cfg.SASL = &conn.SASL{Mechanism: strings.ToLower(l.Mechanism), Username: l.Username, Password: l.Password}
	}
	return cfg
}

func open(t *testing.T, cfg conn.Config) *conn.Cluster {
	t.Helper()
	c, err := conn.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// brokers are the kinds that a test runs on.
func brokers(t *testing.T, run func(t *testing.T, b *kafkatest.Broker)) {
	t.Run("embedded", func(t *testing.T) { run(t, kafkatest.Fake(t, kafkatest.Options{})) })
	t.Run("real", func(t *testing.T) { run(t, kafkatest.Real(t)) })
}

// secured is the protected listener of each kind of broker, and its plain one.
func secured(t *testing.T, mechanism string, run func(t *testing.T, secure, plain *kafkatest.Broker)) {
	login := &kafkatest.Login{Mechanism: mechanism, Username: "ebb", Password: "secret"}
	t.Run("embedded "+mechanism, func(t *testing.T) {
		run(t, kafkatest.Fake(t, kafkatest.Options{TLS: true, Login: login}), kafkatest.Fake(t, kafkatest.Options{}))
	})
	t.Run("real "+mechanism, func(t *testing.T) {
		b := kafkatest.Real(t)
		run(t, b.SASL(t, mechanism), b)
	})
}

// Every way not to get in is told apart, at start, by kind and with its mend.
func TestCheck(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-512"} {
		secured(t, mechanism, func(t *testing.T, secure, plain *kafkatest.Broker) {
			free, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			free.Close()
			cases := []struct {
				rule   string
				change func(c *conn.Config)
				want   error
				mend   string
			}{
				{"all is well", func(c *conn.Config) {}, nil, ""},
				{"wrong password", func(c *conn.Config) {
					c.SASL = &conn.SASL{Mechanism: c.SASL.Mechanism, Username: c.SASL.Username, Password: "wrong"}
				}, conn.ErrAuth, "password"},
				{"unknown user", func(c *conn.Config) {
					c.SASL = &conn.SASL{Mechanism: c.SASL.Mechanism, Username: "nobody", Password: "wrong"}
				}, conn.ErrAuth, "user name"},
				{"login wanted, none given", func(c *conn.Config) { c.SASL = nil }, conn.ErrAuth, "add sasl"},
				{"plain text to a TLS port", func(c *conn.Config) { c.TLS = nil }, conn.ErrTLSExpected, "add tls"},
				{"unknown authority", func(c *conn.Config) { c.TLS = &tls.Config{RootCAs: x509.NewCertPool()} }, conn.ErrCertificate, "ca"},
				{"another host's certificate", func(c *conn.Config) { c.TLS = c.TLS.Clone(); c.TLS.ServerName = "kafka.example.org" }, conn.ErrCertificate, "server_name"},
				{"TLS to a plain port", func(c *conn.Config) { c.Brokers = plain.Addrs }, conn.ErrTLSUnexpected, "remove tls"},
				{"nobody there", func(c *conn.Config) { c.Brokers = []string{free.Addr().String()} }, conn.ErrUnreachable, "start the broker"},
				{"no such host", func(c *conn.Config) { c.Brokers = []string{"kafka.invalid:9092"} }, conn.ErrUnreachable, "resolve"},
				{"one address of two is dead", func(c *conn.Config) { c.Brokers = append([]string{free.Addr().String()}, c.Brokers...) }, nil, ""},
				{"one dead, one that refuses: the refusal is told", func(c *conn.Config) {
					c.Brokers = append([]string{free.Addr().String()}, c.Brokers...)
					c.SASL = &conn.SASL{Mechanism: c.SASL.Mechanism, Username: c.SASL.Username, Password: "wrong"}
				}, conn.ErrAuth, "password"},
			}
			for _, c := range cases {
				cfg := config(secure)
				c.change(&cfg)
				err := open(t, cfg).Check(t.Context())
				if c.want == nil {
					if err != nil {
						t.Errorf("%s: %v", c.rule, err)
					}
					continue
				}
				var f *conn.Fault
				if !errors.Is(err, c.want) || !errors.As(err, &f) || !strings.Contains(f.Mend, c.mend) {
					t.Errorf("%s: %v", c.rule, err)
				}
				if strings.Contains(fmt.Sprint(err), "secret") {
					t.Errorf("%s: the password is in the message: %v", c.rule, err)
				}
				if want := c.want == conn.ErrUnreachable; conn.Retriable(err) != want {
					t.Errorf("%s: retriable %v: %v", c.rule, !want, err)
				}
			}
		})
	}
}

// A login at a listener that takes none, and a mechanism that is not offered.
func TestLoginMismatch(t *testing.T) {
	b := kafkatest.Real(t)
	cfg := config(b)
	cfg.SASL = &conn.SASL{Mechanism: "plain", Username: "u", Password: "p"}
	if err := open(t, cfg).Check(t.Context()); !errors.Is(err, conn.ErrAuth) || !strings.Contains(err.Error(), "takes no login") {
		t.Errorf("login without need: %v", err)
	}
	cfg = config(b.SASL(t, "PLAIN"))
	cfg.SASL.Mechanism = "scram-sha-256"
	if err := open(t, cfg).Check(t.Context()); !errors.Is(err, conn.ErrAuth) {
		t.Errorf("mechanism or user not known there: %v", err)
	}
}

// A listener that asks for a client certificate says so to who has none.
func TestMutualTLS(t *testing.T) {
	b := kafkatest.Real(t).Mutual(t)
	if err := open(t, config(b)).Check(t.Context()); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	cfg := config(b)
	cfg.TLS = cfg.TLS.Clone()
	cfg.TLS.Certificates = nil
	err := open(t, cfg).Check(t.Context())
	if !errors.Is(err, conn.ErrCertificate) || !strings.Contains(err.Error(), "cert and key") {
		t.Errorf("without one: %v", err)
	}
}

// A user without rights on a topic is told so, and not that the topic is missing.
func TestRights(t *testing.T) {
	b := kafkatest.Real(t)
	topic := b.Name("secret")
	b.CreateTopic(t, topic, 1, nil)
	c := open(t, config(b.Limited(t, "SCRAM-SHA-512")))
	topics, _, err := c.Topics(t.Context(), topic)
	if err != nil || !errors.Is(topics[topic].Err, conn.ErrUnauthorized) {
		t.Errorf("%v %v", topics, err)
	}
	if _, err := c.Leader(t.Context(), topic, 0); !errors.Is(err, conn.ErrUnauthorized) || conn.Retriable(err) {
		t.Errorf("%v", err)
	}
}

// The cluster advertises an address that cannot be reached from here.
func TestAdvertisedElsewhere(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	cfg := config(b)
	cfg.Brokers = []string{"bootstrap.example.org:9092"}
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != cfg.Brokers[0] {
			return nil, errors.New("no route to host")
		}
		var d net.Dialer
		return d.DialContext(ctx, network, b.Addrs[0])
	}
	err := open(t, cfg).Check(t.Context())
	if !errors.Is(err, conn.ErrUnreachable) || !strings.Contains(err.Error(), "advertised.listeners") {
		t.Errorf("%v", err)
	}
}

func TestTopics(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		topic, absent := b.Name("topics"), b.Name("absent")
		b.CreateTopic(t, topic, 12, nil)
		c := open(t, config(b))
		topics, id, err := c.Topics(t.Context(), topic, absent)
		if err != nil || id == "" {
			t.Fatalf("cluster %q: %v", id, err)
		}
		var ids []int32
		for _, p := range topics[topic].Partitions {
			ids = append(ids, p.ID)
		}
		if want := []int32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}; !slices.Equal(ids, want) {
			t.Errorf("partitions %v", ids)
		}
		if err := topics[absent].Err; !errors.Is(err, conn.ErrTopicMissing) || !conn.Retriable(err) {
			t.Errorf("absent topic: %v", err)
		}
		if all, _, err := c.Topics(t.Context()); err != nil || len(all) == 0 || all[topic].Err != nil {
			t.Errorf("all topics: %v %v", len(all), err)
		} else if _, ok := all[absent]; ok {
			t.Error("asking for a topic created it")
		}
		if _, err := c.Leader(t.Context(), topic, 12); !errors.Is(err, conn.ErrTopicMissing) {
			t.Errorf("partition that does not exist: %v", err)
		}
		leader, err := c.Leader(t.Context(), topic, 3)
		if err != nil || leader.Addr == "" {
			t.Errorf("%v %v", leader, err)
		}
	})
}

func TestOffsets(t *testing.T) {
	brokers(t, func(t *testing.T, b *kafkatest.Broker) {
		topic := b.Name("offsets")
		b.CreateTopic(t, topic, 3, nil)
		base := time.Now().UnixMilli()
		for i := range int64(5) {
			b.Produce(t, topic, kafkatest.Record{Partition: 1, Value: []byte("v"), Timestamp: base + i*1000})
		}
		c := open(t, config(b))
		for at, want := range map[conn.At]map[int32]int64{
			conn.Earliest: {0: 0, 1: 0, 2: 0}, conn.Latest: {0: 0, 1: 5, 2: 0}, conn.At(base + 2500): {0: -1, 1: 3, 2: -1},
		} {
			got, err := c.Offsets(t.Context(), topic, []int32{0, 1, 2}, at, conn.ReadCommitted)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("at %d: %v %v, want %v", at, got, err, want)
			}
		}
		if _, err := c.Offsets(t.Context(), b.Name("absent"), []int32{0}, conn.Latest, conn.ReadCommitted); !errors.Is(err, conn.ErrTopicMissing) {
			t.Errorf("%v", err)
		}
	})
}

// A partition that the answer leaves out is not one that is empty.
func TestOffsetsLeftOut(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	topic := b.Name("offsets")
	b.CreateTopic(t, topic, 2, nil)
	b.Produce(t, topic, kafkatest.Record{Partition: 1, Value: []byte("v")})
	b.Fake.ControlKey(int16(kmsg.ListOffsets), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.Fake.KeepControl()
		req := r.(*kmsg.ListOffsetsRequest)
		res := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		part := kmsg.NewListOffsetsResponseTopicPartition()
		part.Partition, part.Offset = 0, 0
		res.Topics = append(res.Topics, kmsg.ListOffsetsResponseTopic{Topic: topic, Partitions: []kmsg.ListOffsetsResponseTopicPartition{part}})
		return res, nil, true
	})
	if got, err := open(t, config(b)).Offsets(t.Context(), topic, []int32{0, 1}, conn.Latest, conn.ReadCommitted); !conn.Retriable(err) {
		t.Errorf("%v %v: of partition 1 nothing was said", got, err)
	}
}

// The leader of a partition moved: the old answer is given until it is known to be wrong, offsets find the new one themselves.
func TestLeaderMoves(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{Brokers: 3})
	topic := b.Name("moves")
	b.CreateTopic(t, topic, 1, nil)
	c := open(t, config(b))
	for node := range int32(3) {
		if err := b.Fake.MoveTopicPartition(topic, 0, node); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Offsets(t.Context(), topic, []int32{0}, conn.Latest, conn.ReadCommitted); err != nil {
			t.Errorf("offsets after the move: %v", err)
		}
		c.Invalidate(topic)
		if l, err := c.Leader(t.Context(), topic, 0); err != nil || l.ID != node {
			t.Errorf("leader %v %v, want %d", l, err, node)
		}
	}
}

// The broker's minimum counts too: a broker that has dropped the versions we know is named as such.
func TestVersions(t *testing.T) {
	old := kversion.V0_8_0()
	b := kafkatest.Fake(t, kafkatest.Options{Kfake: []kfake.Opt{kfake.MaxVersions(old)}})
	k, err := open(t, config(b)).Open(t.Context(), b.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	_, err = k.RoundTrip(t.Context(), &findcoordinator.Request{Key: "g"})
	if !errors.Is(err, conn.ErrUnsupported) || !strings.Contains(err.Error(), "FindCoordinator") {
		t.Errorf("%v", err)
	}
	k, err = open(t, config(kafkatest.Fake(t, kafkatest.Options{}))).Open(t.Context(), b.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if v, ok := k.Version(protocol.Metadata); !ok || v > 8 {
		t.Errorf("metadata version %d %v", v, ok)
	}
}

// gate lets reads through until it is shut.
type gate struct {
	net.Conn
	shut *atomic.Bool
}

func (g gate) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	for g.shut.Load() && err == nil { // drop what the broker says
		n, err = g.Conn.Read(b)
	}
	return n, err
}

// A connection whose answer did not come in time is closed, at the deadline, and says so afterwards.
func TestDeadlineAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{})
		var shut atomic.Bool
		cfg := config(b)
		cfg.RequestTimeout = 7 * time.Second
		cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := b.Dial(ctx, network, addr)
			return gate{c, &shut}, err
		}
		c := open(t, cfg)
		ask := func(ctx context.Context) (time.Duration, error) {
			shut.Store(false)
			k, err := c.Open(ctx, b.Addrs[0])
			if err != nil {
				t.Fatal(err)
			}
			shut.Store(true)
			start := time.Now()
			_, err = k.RoundTrip(ctx, &metadata.Request{TopicNames: []string{}})
			d := time.Since(start)
			if _, again := k.RoundTrip(context.Background(), &metadata.Request{}); !errors.Is(again, conn.ErrClosed) || !k.Closed() {
				t.Errorf("a broken connection is used again: %v", again)
			}
			return d, err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		if d, err := ask(ctx); d != 3*time.Second || !conn.Retriable(err) || conn.Class(err) != "timeout" {
			t.Errorf("own deadline: %v %v", d, err)
		}
		cancel()
		if d, err := ask(t.Context()); d != 7*time.Second || !conn.Retriable(err) {
			t.Errorf("default timeout: %v %v", d, err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if d, err := ask(ctx); d != time.Second || !errors.Is(err, context.Canceled) || conn.Retriable(err) {
			t.Errorf("cancelled: %v %v", d, err)
		}
		// The shared connection mends itself: it was closed by an error, the next call opens another.
		shut.Store(false)
		for range 2 {
			if _, _, err := c.Topics(t.Context()); err != nil {
				t.Errorf("%v", err)
			}
		}
	})
}

// A broker that hangs leaves time for asking another.
func TestFrozenBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kafkatest.Virtual(t, kafkatest.Options{Brokers: 3})
		topic := b.Name("known")
		b.CreateTopic(t, topic, 1, nil)
		for _, frozen := range b.Addrs {
			var shut atomic.Bool
			shut.Store(true)
			cfg := config(b)
			cfg.DialTimeout, cfg.Rand = 0, func() float64 { return 0 }
			cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				nc, err := b.Dial(ctx, network, addr)
				if addr == frozen {
					nc = gate{nc, &shut}
				}
				return nc, err
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if _, _, err := open(t, cfg).Topics(ctx, topic); err != nil {
				t.Errorf("%s frozen: %v", frozen, err)
			}
			cancel()
		}
	})
}

// The shared connection was closed by the broker while it lay idle: the call after that does not fail.
func TestIdleConnectionClosed(t *testing.T) {
	b := kafkatest.Fake(t, kafkatest.Options{})
	var last net.Conn
	cfg := config(b)
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		last = c
		return c, err
	}
	c := open(t, cfg)
	for range 3 {
		if _, _, err := c.Topics(t.Context()); err != nil {
			t.Fatal(err)
		}
		last.Close()
	}
	c.Close()
	if _, _, err := c.Topics(t.Context()); !errors.Is(err, conn.ErrClosed) {
		t.Errorf("closed cluster: %v", err)
	}
}

func TestConfig(t *testing.T) {
	for rule, cfg := range map[string]conn.Config{
		"no brokers":           {},
		"address without port": {Brokers: []string{"kafka"}},
		"unknown mechanism":    {Brokers: []string{"k:1"}, SASL: &conn.SASL{Mechanism: "gssapi"}},
	} {
		if _, err := conn.New(cfg); err == nil {
			t.Errorf("%s: accepted", rule)
		}
	}
}

// Which errors say what; codes are Kafka's.
func TestClassification(t *testing.T) {
	cases := []struct {
		err               error
		retriable, fenced bool
		class             string
	}{
		{nil, false, false, "none"},
		{conn.CodeError(6), true, false, "leader"},
		{conn.CodeError(5), true, false, "leader"},
		{conn.CodeError(3), true, false, "topic"},
		{conn.CodeError(1), false, false, "offset"},
		{conn.CodeError(7), true, false, "broker"},
		{conn.CodeError(14), true, false, "broker"},
		{conn.CodeError(16), true, false, "broker"},
		{conn.CodeError(51), true, false, "broker"},
		{conn.CodeError(19), true, false, "broker"},
		{conn.CodeError(10), false, false, "broker"},
		{conn.CodeError(87), false, false, "broker"},
		{conn.CodeError(22), false, true, "broker"},
		{conn.CodeError(25), false, true, "broker"},
		{conn.CodeError(47), false, true, "broker"},
		{conn.CodeError(90), false, true, "broker"},
		{conn.CodeError(29), false, false, "rights"},
		{conn.CodeError(58), false, false, "login"},
		{fmt.Errorf("wrapped: %w", conn.CodeError(6)), true, false, "leader"},
		{io.EOF, true, false, "network"},
		{fmt.Errorf("read: %w", io.ErrUnexpectedEOF), true, false, "network"},
		{context.DeadlineExceeded, true, false, "timeout"},
		{context.Canceled, false, false, "other"},
		{errors.New("strange"), false, false, "other"},
		{&conn.Fault{Kind: conn.ErrAuth, Err: io.EOF}, false, false, "login"},
		{&conn.Fault{Kind: conn.ErrUnreachable, Err: io.EOF}, true, false, "network"},
		{&conn.Fault{Kind: conn.ErrTLSExpected, Err: io.EOF}, false, false, "tls"},
		{kafka.Error(-1), false, false, "broker"},
	}
	for _, c := range cases {
		if got := conn.Retriable(c.err); got != c.retriable {
			t.Errorf("%v: retriable %v", c.err, got)
		}
		if got := conn.Fenced(c.err); got != c.fenced {
			t.Errorf("%v: fenced %v", c.err, got)
		}
		got := conn.Class(c.err)
		if got != c.class {
			t.Errorf("%v: class %s, want %s", c.err, got, c.class)
		}
		if c.err != nil && !slices.Contains(conn.Classes(), got) {
			t.Errorf("class %s is not in the list", got)
		}
	}
	if conn.CodeError(0) != nil {
		t.Error("code 0 is an error")
	}
}

// Delays double from the least to the most, half of each is chance, and Reset begins anew.
func TestBackoff(t *testing.T) {
	b := conn.Backoff{Min: 100 * time.Millisecond, Max: time.Second, Rand: func() float64 { return 0.5 }}
	var got []time.Duration
	for range 6 {
		got = append(got, b.Next())
	}
	b.Reset()
	got = append(got, b.Next())
	if s := fmt.Sprint(got); s != "[75ms 150ms 300ms 600ms 750ms 750ms 75ms]" {
		t.Fatal(s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		b := conn.Backoff{Rand: func() float64 { return 0 }}
		if err := b.Wait(t.Context()); err != nil || time.Since(start) != 25*time.Millisecond {
			t.Error(err, time.Since(start))
		}
	})
}

// An answer that claims more than it holds is an error and not an allocation.
func TestAnswerBounds(t *testing.T) {
	for _, c := range []struct {
		rule string
		say  []byte
	}{
		{"a size beyond reason", []byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1}},
		{"a negative size", []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1}},
		{"an HTTP server", []byte("HTTP/1.1 400 Bad Request\r\n\r\n")},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				k, err := ln.Accept()
				if err != nil {
					return
				}
				io.CopyN(io.Discard, k, 10)
				io.Copy(k, bytes.NewReader(c.say))
				k.Close()
			}
		}()
		cfg := conn.Config{Brokers: []string{ln.Addr().String()}, DialTimeout: 2 * time.Second}
		if err := open(t, cfg).Check(t.Context()); !errors.Is(err, conn.ErrUnreachable) {
			t.Errorf("%s: %v", c.rule, err)
		}
		ln.Close()
	}
}
