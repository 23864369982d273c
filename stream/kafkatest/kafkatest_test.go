package kafkatest_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"ebb/stream/kafkatest"
)

// roundTrip writes and reads through whatever cluster b is.
func roundTrip(t *testing.T, b *kafkatest.Broker) {
	t.Helper()
	topic := b.Name("round")
	b.CreateTopic(t, topic, 3, map[string]string{"cleanup.policy": "compact"})
	b.Produce(t, topic,
		kafkatest.Record{Partition: 2, Key: []byte("k"), Value: []byte("v"), Headers: map[string]string{"h": "1"}, Timestamp: 1700000000000},
		kafkatest.Record{Partition: 0, Key: []byte("gone")},
		kafkatest.Record{Partition: 2, Key: []byte("k"), Value: []byte("w")})
	var got []string
	for _, r := range b.ReadCommitted(t, topic) {
		got = append(got, fmt.Sprintf("%d/%d %s=%s null=%t", r.Partition, r.Offset, r.Key, r.Value, r.Value == nil))
	}
	want := []string{"0/0 gone= null=true", "2/0 k=v null=false", "2/1 k=w null=false"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("read %q, want %q", got, want)
	}
	if ends := b.EndOffsets(t, topic); len(ends) != 3 || ends[2] != 2 {
		t.Errorf("end offsets %v, want 3 partitions and 2 records in partition 2", ends)
	}
}

func TestFake(t *testing.T) { roundTrip(t, kafkatest.Fake(t, kafkatest.Options{Brokers: 3})) }

func TestFakeSecured(t *testing.T) {
	roundTrip(t, kafkatest.Fake(t, kafkatest.Options{TLS: true, Login: &kafkatest.Login{Mechanism: "SCRAM-SHA-512", Username: "u", Password: "p"}}))
}

func TestVirtual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		roundTrip(t, kafkatest.Virtual(t, kafkatest.Options{Brokers: 2}))
	})
}

func TestReal(t *testing.T) {
	b := kafkatest.Real(t)
	t.Run("plaintext", func(t *testing.T) { roundTrip(t, b) })
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) { s := b.SASL(t, mechanism); roundTripNamed(t, s, "sasl-"+mechanism) })
	}
	t.Run("mutual TLS", func(t *testing.T) { roundTripNamed(t, b.Mutual(t), "mtls") })
}

func roundTripNamed(t *testing.T, b *kafkatest.Broker, name string) {
	t.Helper()
	topic := b.Name(name)
	b.CreateTopic(t, topic, 1, nil)
	b.Produce(t, topic, kafkatest.Record{Value: []byte("v")})
	if got := b.ReadCommitted(t, topic); len(got) != 1 {
		t.Errorf("read %d records, want 1", len(got))
	}
}

func TestOwnSurvivesKillAndRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a broker twice")
	}
	b := kafkatest.Own(t, nil)
	roundTrip(t, b)
	b.Kill(t)
	b.Restart(t)
	if got := b.ReadCommitted(t, b.Name("round")); len(got) != 3 {
		t.Errorf("after a kill and a restart %d records, want 3", len(got))
	}
	b.Freeze(t)
	b.Thaw(t)
	b.Terminate(t)
	b.Restart(t)
	roundTripNamed(t, b, "again")
}
