package kafkatest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Secure describes the protected listeners of a real broker.
type Secure struct {
	// SASLAddr is a listener with TLS and SASL (PLAIN and SCRAM-SHA-512), MutualAddr one with TLS that demands a client certificate.
	SASLAddr, MutualAddr string
	// CAFile, CertFile and KeyFile are PEM files: the authority, and a client's certificate and key for MutualAddr.
	CAFile, CertFile, KeyFile string
}

// Authority trusts the broker's certificate.
func (s *Secure) Authority(t testing.TB) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatalf("kafkatest: %v", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// SASL returns the broker as a client with the given mechanism (PLAIN or SCRAM-SHA-512) sees it, logged in as a super user.
func (b *Broker) SASL(t testing.TB, mechanism string) *Broker {
	t.Helper()
	return b.secured(t, superLogin(mechanism))
}

// Limited is SASL for a user who may log in and has no rights. The helpers of the returned Broker act as a super user nevertheless.
func (b *Broker) Limited(t testing.TB, mechanism string) *Broker {
	t.Helper()
	c := b.secured(t, limitedLogin(mechanism))
	c.admin = b
	return c
}

func (b *Broker) secured(t testing.TB, l *Login) *Broker {
	t.Helper()
	s := b.needSecure(t)
	c := *b
	c.Addrs, c.TLS, c.Login = []string{s.SASLAddr}, s.Authority(t), l
	return &c
}

// Mutual returns the broker as a client with a certificate sees it.
func (b *Broker) Mutual(t testing.TB) *Broker {
	t.Helper()
	s := b.needSecure(t)
	cert, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
	if err != nil {
		t.Fatalf("kafkatest: %v", err)
	}
	c := *b
	c.Addrs, c.TLS = []string{s.MutualAddr}, s.Authority(t)
	c.TLS.Certificates = []tls.Certificate{cert}
	return &c
}

func (b *Broker) needSecure(t testing.TB) *Secure {
	t.Helper()
	if b.Secure == nil {
		t.Skip("the cluster of KAFKA_BROKERS has no protected listeners that the tests know of")
	}
	return b.Secure
}

// shared is the broker of this test binary. It is state of the process by its nature: the process owns the JVM.
var shared struct {
	once sync.Once
	b    *Broker
	err  error
	// release holds the lock file open: unreachable, it would be closed by the garbage collector, and the broker's directory swept away.
	release func()
}

// Real returns the test binary's real broker, with names of the test's own. Without Java, Maven or Linux, and without KAFKA_BROKERS, the
// test is skipped, or fails if EBB_REQUIRE_KAFKA=1.
func Real(t testing.TB) *Broker {
	t.Helper()
	if addrs := os.Getenv("KAFKA_BROKERS"); addrs != "" {
		return &Broker{Addrs: strings.Split(addrs, ","), prefix: newPrefix(), lent: true}
	}
	shared.once.Do(func() { shared.b, shared.release, shared.err = startReal(nil) })
	fatalOrAbsent(t, shared.err)
	return shared.b.forTest()
}

// Own starts a real broker for one test, with broker properties of its own (may be nil). The test may kill, freeze, stop and restart it.
func Own(t testing.TB, properties map[string]string) *Broker {
	t.Helper()
	b, release, err := startReal(properties)
	fatalOrAbsent(t, err)
	t.Cleanup(func() {
		b.proc.kill()
		release()
	})
	return b
}

func startReal(properties map[string]string) (*Broker, func(), error) {
	in, err := install()
	if err != nil {
		return nil, nil, err
	}
	dir, release, err := in.runDir()
	if err != nil {
		return nil, nil, err
	}
	p := &process{in: in, dir: dir, extra: properties}
	if err := p.start(); err != nil {
		release()
		return nil, nil, err
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	return &Broker{
		Addrs: []string{p.addr()}, prefix: newPrefix(), proc: p,
		Secure: &Secure{
			SASLAddr: fmt.Sprintf("127.0.0.1:%d", p.ports.sasl), MutualAddr: fmt.Sprintf("127.0.0.1:%d", p.ports.mtls),
			CAFile: file("ca.crt"), CertFile: file("client.crt"), KeyFile: file("client.key"),
		},
	}, release, nil
}

// Kill ends an own broker with SIGKILL.
func (b *Broker) Kill(t testing.TB) {
	t.Helper()
	b.own(t).kill()
}

// Terminate ends an own broker cleanly.
func (b *Broker) Terminate(t testing.TB) {
	t.Helper()
	if err := b.own(t).terminate(); err != nil {
		t.Fatalf("kafkatest: %v", err)
	}
}

// Restart starts an own broker that was ended, on its old ports and data, and waits until it serves.
func (b *Broker) Restart(t testing.TB) {
	t.Helper()
	if err := b.own(t).restart(); err != nil {
		t.Fatalf("kafkatest: %v", err)
	}
}

// Freeze stops an own broker's execution with SIGSTOP until Thaw.
func (b *Broker) Freeze(t testing.TB) {
	t.Helper()
	b.send(t, syscall.SIGSTOP)
}

// Thaw goes on after Freeze.
func (b *Broker) Thaw(t testing.TB) {
	t.Helper()
	b.send(t, syscall.SIGCONT)
}

func (b *Broker) send(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := b.own(t).signal(s); err != nil {
		t.Fatalf("kafkatest: %v", err)
	}
}

func (b *Broker) own(t testing.TB) *process {
	t.Helper()
	if b.proc == nil || b.proc == sharedProcess() {
		t.Fatal("kafkatest: only a broker of Own may be killed, frozen or restarted")
	}
	return b.proc
}

func sharedProcess() *process {
	if shared.b == nil {
		return nil
	}
	return shared.b.proc
}

func fatalOrAbsent(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errMissing):
		absent(t, err.Error())
	default:
		t.Fatalf("kafkatest: %v", err)
	}
}

func absent(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("EBB_REQUIRE_KAFKA") == "1" {
		t.Fatalf("kafkatest: %s, and EBB_REQUIRE_KAFKA=1", why)
	}
	t.Skipf("real broker needed: %s", why)
}
