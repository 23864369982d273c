// Package kafkatest gives tests a Kafka cluster: an embedded one (Fake), the same inside a testing/synctest bubble (Virtual), and a
// real Apache Kafka broker that the test starts itself (Real, Own).
//
// Only tests import it. It knows nothing of ebb's own Kafka code, on purpose: what it produces and reads goes through another client
// library, so that a fault of ebb's encoder or decoder cannot hide itself, and any package of ebb may use it without an import cycle.
//
// # The real broker
//
// Real starts one broker for a test binary at its first call and shares it among the tests of that binary; topics, groups and
// transactional ids get names of their own (Broker.Name). Own starts a broker that belongs to one test, which may kill, freeze and restart it.
// StartCluster does the same with three brokers and replicated topics.
//
// Nothing is left behind: the kernel kills the broker when the test binary dies, however it dies (PR_SET_PDEATHSIG), and its data lies
// in a directory that the next test binary removes if the owner could not. Several test binaries at once have a broker each; sharing one
// between processes would need a reference count that a killed process never gives back.
//
// The jars come through Maven once and stay in a cache directory, together with a formatted data directory and a class-data archive, which
// brings the start to about two seconds.
//
// Environment:
//
//	KAFKA_BROKERS      comma-separated addresses of an existing plaintext broker that Real uses instead of starting one; the topics made there
//	                   are removed after each test
//	EBB_KAFKA_DIR      the cache directory (default: the user's cache directory, then ebb-kafka)
//	EBB_REQUIRE_KAFKA  1: a missing Java or Maven fails the test instead of skipping it
package kafkatest
