package partition

import (
	"math/rand/v2"
	"testing"

	"github.com/segmentio/kafka-go"
)

// The hashes are those of the Java client's own test, UtilsTest.testMurmur2.
func TestMurmur2AgreesWithTheJavaClient(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

// The check value of CRC-32 (IEEE 802.3) is 0xcbf43926 for "123456789".
func TestCRC32IsUnsigned(t *testing.T) {
	if got, want := CRC32([]byte("123456789"), 1000), int32(0xcbf43926%1000); got != want {
		t.Errorf("CRC32 = %d, want %d", got, want)
	}
}

func TestPartitionersAgreeWithKafkaGo(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		key := make([]byte, 1+r.IntN(40))
		for i := range key {
			key[i] = byte(r.Uint32())
		}
		n := 1 + r.Int32N(300)
		partitions := make([]int, n)
		for i := range partitions {
			partitions[i] = i
		}
		msg := kafka.Message{Key: key}
		if got, want := Murmur2(key, n), (kafka.Murmur2Balancer{}).Balance(msg, partitions...); int(got) != want {
			t.Fatalf("Murmur2(%x, %d) = %d, want %d", key, n, got, want)
		}
		if got, want := CRC32(key, n), (kafka.CRC32Balancer{}).Balance(msg, partitions...); int(got) != want {
			t.Fatalf("CRC32(%x, %d) = %d, want %d", key, n, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	key := []byte("foobar")
	for name, f := range map[string]Partitioner{NameMurmur2: Murmur2, NameCRC32: CRC32} {
		got, err := Parse(name)
		if err != nil || got(key, 7) != f(key, 7) {
			t.Errorf("Parse(%q) gives another partitioner, error %v", name, err)
		}
	}
	if p, err := Parse(NameNone); p != nil || err != nil {
		t.Errorf(`Parse("none") = %p, %v; want nothing to compare`, p, err)
	}
	if _, err := Parse("fnv"); err == nil {
		t.Error(`Parse("fnv") knows a partitioner that does not exist`)
	}
}

func BenchmarkMurmur2(b *testing.B) {
	key := []byte("c-000042")
	b.ReportAllocs()
	for b.Loop() {
		Murmur2(key, 8)
	}
}
