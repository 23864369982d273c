package kafkatest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// patience bounds every helper's wait for the cluster.
const patience = 60 * time.Second

// DialFunc opens a connection to a broker's address.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Login is a SASL user. Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
type Login struct {
	Mechanism string
	Username  string
	Password  string
}

// Broker is a cluster as a test sees it. The address, dialer, TLS and login are those that a client under test should use.
type Broker struct {
	// Addrs are the bootstrap addresses, host:port.
	Addrs []string
	// Dial is nil where the plain net.Dialer does.
	Dial DialFunc
	// TLS is nil for a plaintext listener.
	TLS *tls.Config
	// Login is nil for a listener without SASL.
	Login *Login
	// Fake is the embedded cluster behind Fake and Virtual, for its faults and controls; nil for a real broker.
	Fake *kfake.Cluster
	// Secure lists the other listeners of a real broker; nil for Fake, Virtual and KAFKA_BROKERS.
	Secure *Secure

	prefix string
	proc   *process
	// replicas of the topics that CreateTopic makes, 1 if zero.
	replicas int16
	// lent says that the cluster is somebody else's: what a test makes there, it removes.
	lent bool
	// admin is how the helpers reach the cluster, where that differs from the fields above.
	admin *Broker
}

// newPrefix returns a name that no other test run uses.
func newPrefix() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	return "t" + hex.EncodeToString(b[:])
}

// Name returns a topic, group or transactional id that belongs to this test alone.
func (b *Broker) Name(s string) string { return b.prefix + "-" + s }

// forTest returns a copy whose names are the test's own.
func (b *Broker) forTest() *Broker {
	c := *b
	c.prefix = newPrefix()
	return &c
}

// Client returns a client of the other library for what the helpers do not offer. It is closed with the test.
func (b *Broker) Client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	if b.admin != nil {
		b = b.admin
	}
	base := []kgo.Opt{
		kgo.SeedBrokers(b.Addrs...),
		kgo.MetadataMinAge(20 * time.Millisecond),
		kgo.RetryTimeout(patience),
		kgo.DisableClientMetrics(),
		kgo.WithDecompressor(decompressor{kgo.DefaultDecompressor()}),
	}
	if b.TLS != nil {
		base = append(base, kgo.DialTLSConfig(b.TLS))
	}
	if b.Dial != nil {
		base = append(base, kgo.Dialer(b.Dial))
	}
	if l := b.Login; l != nil {
		base = append(base, kgo.SASL(l.mechanism(t)))
	}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		t.Fatalf("kafkatest: client: %v", err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func (l *Login) mechanism(t testing.TB) kgoSASL {
	switch strings.ToUpper(l.Mechanism) {
	case "PLAIN":
		return plain.Auth{User: l.Username, Pass: l.Password}.AsMechanism()
	case "SCRAM-SHA-256":
		return scram.Auth{User: l.Username, Pass: l.Password}.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		return scram.Auth{User: l.Username, Pass: l.Password}.AsSha512Mechanism()
	}
	t.Fatalf("kafkatest: unknown SASL mechanism %q", l.Mechanism)
	return nil
}

// decompressor keeps no zstd decoder: the library's own are closed by a finalizer, which ends the process if they were made inside
// a synctest bubble ("close of synctest channel from outside bubble").
type decompressor struct{ kgo.Decompressor }

// Decompress implements kgo.Decompressor.
func (d decompressor) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec != kgo.CodecZstd {
		return d.Decompressor.Decompress(src, codec)
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return z.DecodeAll(src, nil)
}
