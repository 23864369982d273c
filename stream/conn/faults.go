package conn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// The kinds of fault that callers tell apart; found with errors.Is.
var (
	// ErrUnreachable: no connection to the address, or none that answers.
	ErrUnreachable = errors.New("broker not reachable")
	// ErrAuth: the broker refused the login, or wants one that was not configured.
	ErrAuth = errors.New("login refused")
	// ErrTLSExpected: spoken to in plain text, the port wants TLS.
	ErrTLSExpected = errors.New("the port speaks TLS, the configuration does not")
	// ErrTLSUnexpected: spoken to in TLS, the port is plain text.
	ErrTLSUnexpected = errors.New("the port speaks plain text, the configuration asks for TLS")
	// ErrCertificate: one side does not accept the other's certificate.
	ErrCertificate = errors.New("certificate not accepted")
	// ErrUnauthorized: the login is good, but lacks a right.
	ErrUnauthorized = errors.New("not authorized")
	// ErrUnsupported: the broker and this program share no version of a request.
	ErrUnsupported = errors.New("protocol version not supported")
	// ErrTopicMissing: the topic, or the partition of it, does not exist.
	ErrTopicMissing = errors.New("topic or partition does not exist")
	// ErrNoLeader: the partition has no leader at this moment.
	ErrNoLeader = errors.New("partition has no leader")
	// ErrClosed: the connection or the cluster handle was closed.
	ErrClosed = errors.New("connection closed")
)

// Fault is a failure to get into the cluster: its kind (one of the sentinels above), where it happened, what was seen, and
// what mends it.
type Fault struct {
	Kind error
	Addr string
	Err  error
	Mend string
}

func (f *Fault) Error() string {
	s := fmt.Sprintf("kafka at %s: %v", f.Addr, f.Kind)
	if f.Err != nil {
		s += ": " + f.Err.Error()
	}
	if f.Mend != "" {
		s += " (" + f.Mend + ")"
	}
	return s
}

// Unwrap gives the kind and the cause.
func (f *Fault) Unwrap() []error {
	if f.Err == nil {
		return []error{f.Kind}
	}
	return []error{f.Kind, f.Err}
}

// CodeError turns a Kafka error code into an error; nil for 0. Codes that the package has a kind for wrap it.
func CodeError(code int16) error {
	if code == 0 {
		return nil
	}
	e := kafka.Error(code)
	switch e {
	case kafka.TopicAuthorizationFailed, kafka.GroupAuthorizationFailed, kafka.ClusterAuthorizationFailed,
		kafka.TransactionalIDAuthorizationFailed, kafka.DelegationTokenAuthorizationFailed:
		return &codeError{ErrUnauthorized, e}
	case kafka.UnknownTopicOrPartition:
		return &codeError{ErrTopicMissing, e}
	case kafka.LeaderNotAvailable:
		return &codeError{ErrNoLeader, e}
	case kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState:
		return &codeError{ErrAuth, e}
	case kafka.UnsupportedVersion:
		return &codeError{ErrUnsupported, e}
	}
	return e
}

type codeError struct {
	kind error
	code kafka.Error
}

func (e *codeError) Error() string   { return fmt.Sprintf("%v: %v", e.kind, e.code) }
func (e *codeError) Unwrap() []error { return []error{e.kind, e.code} }

// said is a code together with the broker's own words.
type said struct {
	code kafka.Error
	text string
}

func (e *said) Error() string { return fmt.Sprintf("%s (code %d)", e.text, int(e.code)) }
func (e *said) Unwrap() error { return e.code }

// Code is the Kafka error code within err, 0 if there is none.
func Code(err error) kafka.Error {
	var e kafka.Error
	if errors.As(err, &e) {
		return e
	}
	return 0
}

// Fenced says that another producer or another member has taken over what err's request was about: nothing may be written
// any more by whoever sees it (codes 22, 25, 47, 90).
func Fenced(err error) bool {
	switch Code(err) {
	case kafka.IllegalGeneration, kafka.UnknownMemberId, kafka.InvalidProducerEpoch, kafka.ProducerFenced:
		return true
	}
	return false
}

// Retriable says that the same request may succeed later without anything being mended: network faults, elections,
// coordinators that move or load, and timeouts. Of a produce that failed so, the outcome is unknown: only the same bytes
// with the same sequence may be sent again. The end of the caller's own context is not retriable.
func Retriable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	switch Code(err) {
	case 0:
	case kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.NotLeaderForPartition, kafka.RequestTimedOut,
		kafka.BrokerNotAvailable, kafka.ReplicaNotAvailable, kafka.NetworkException, kafka.GroupLoadInProgress,
		kafka.GroupCoordinatorNotAvailable, kafka.NotCoordinatorForGroup, kafka.NotEnoughReplicas,
		kafka.NotEnoughReplicasAfterAppend, kafka.RebalanceInProgress, kafka.NotController, kafka.ConcurrentTransactions,
		kafka.KafkaStorageError, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch, kafka.OffsetNotAvailable,
		kafka.PreferredLeaderNotAvailable, kafka.UnstableOffsetCommit, kafka.ThrottlingQuotaExceeded,
		kafka.EligibleLeadersNotAvailable, kafka.ListenerNotFound:
		return true
	default:
		return false
	}
	switch {
	case errors.Is(err, ErrAuth), errors.Is(err, ErrUnauthorized), errors.Is(err, ErrTLSExpected),
		errors.Is(err, ErrTLSUnexpected), errors.Is(err, ErrCertificate), errors.Is(err, ErrUnsupported):
		return false
	}
	return IsNetwork(err) || errors.Is(err, ErrUnreachable) || errors.Is(err, ErrNoLeader) ||
		errors.Is(err, protocol.ErrNoLeader) || errors.Is(err, protocol.ErrNoTopic) || errors.Is(err, protocol.ErrNoPartition)
}

// IsNetwork says that err comes from the network and not from a broker's judgement of the request.
func IsNetwork(err error) bool {
	if Code(err) != 0 { // which satisfies net.Error too
		return false
	}
	var ne net.Error
	return errors.As(err, &ne) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) || errors.Is(err, ErrClosed) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Class names err for a metric label; a closed list.
func Class(err error) string {
	switch {
	case err == nil:
		return "none"
	case errors.Is(err, ErrAuth):
		return "login"
	case errors.Is(err, ErrUnauthorized):
		return "rights"
	case errors.Is(err, ErrTLSExpected), errors.Is(err, ErrTLSUnexpected), errors.Is(err, ErrCertificate):
		return "tls"
	case errors.Is(err, ErrUnsupported):
		return "version"
	}
	switch Code(err) {
	case 0:
	case kafka.NotLeaderForPartition, kafka.LeaderNotAvailable, kafka.ReplicaNotAvailable, kafka.FencedLeaderEpoch,
		kafka.UnknownLeaderEpoch, kafka.KafkaStorageError:
		return "leader"
	case kafka.OffsetOutOfRange:
		return "offset"
	case kafka.UnknownTopicOrPartition:
		return "topic"
	default:
		return "broker"
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, ErrTopicMissing):
		return "topic"
	case errors.Is(err, ErrNoLeader):
		return "leader"
	case IsNetwork(err), errors.Is(err, ErrUnreachable):
		return "network"
	}
	return "other"
}

// Classes lists what Class returns for an error.
func Classes() []string {
	return []string{"login", "rights", "tls", "version", "leader", "offset", "topic", "broker", "timeout", "network", "other"}
}

func dialFault(addr string, err error) error {
	mend := "start the broker, or correct its address (brokers); an address that is not configured comes from the cluster (advertised.listeners)"
	var dns *net.DNSError
	if errors.As(err, &dns) {
		mend = "the name does not resolve here; check the broker addresses and the cluster's advertised.listeners"
	}
	return &Fault{Kind: ErrUnreachable, Addr: addr, Err: err, Mend: mend}
}

// certificateFault returns nil if err is not about certificates.
func certificateFault(addr string, err error) error {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		alert     tls.AlertError
		op        *net.OpError
	)
	switch {
	case errors.As(err, &authority):
		return &Fault{Kind: ErrCertificate, Addr: addr, Err: err, Mend: "give the certificate authority that signed the broker's certificate as the TLS ca"}
	case errors.As(err, &host):
		return &Fault{Kind: ErrCertificate, Addr: addr, Err: err, Mend: "use the broker's name as it stands in its certificate, or set the TLS server_name"}
	case errors.As(err, &invalid), errors.As(err, &verify):
		return &Fault{Kind: ErrCertificate, Addr: addr, Err: err, Mend: "the broker's certificate is expired, not yet valid, or not made for servers; check it and this machine's clock"}
	case errors.As(err, &alert), errors.As(err, &op) && op.Op == "remote error":
		return &Fault{Kind: ErrCertificate, Addr: addr, Err: err, Mend: "the broker ended the TLS handshake; where it asks clients for a certificate, set the TLS cert and key, signed by an authority that it trusts"}
	}
	return nil
}

// hungUp says that the other side ended or ignored the conversation without a word.
func hungUp(err error) bool {
	return IsNetwork(err) || strings.Contains(err.Error(), "expecting TLS")
}
