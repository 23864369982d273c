// Package partition computes which partition of a topic a key belongs to, as the usual producers do.
//
// ebb needs it because its feeds must agree on where a customer lies: producers of two languages, with the same key and the same
// number of partitions, put one customer into two. Comparing each record's partition with the configured partitioner finds
// that out at the first record instead of by wrong alerts.
//
// It is pure and does not allocate. Keys of length 0 are keys like any other here; for null keys producers choose at random
// or in turn, so there is nothing to compute.
package partition

import (
	"fmt"
	"hash/crc32"
)

// Partitioner returns the partition, 0 to n-1, of a key in a topic of n partitions. n must be positive.
type Partitioner func(key []byte, n int32) int32

// Names of the partitioners in configuration.
const (
	NameMurmur2 = "murmur2"
	NameCRC32   = "crc32"
	NameNone    = "none"
)

// Parse returns the partitioner of a name; for "none" it is nil: nothing is compared.
func Parse(name string) (Partitioner, error) {
	switch name {
	case NameMurmur2:
		return Murmur2, nil
	case NameCRC32:
		return CRC32, nil
	case NameNone:
		return nil, nil
	default:
		return nil, fmt.Errorf("partition: %q is no partitioner: write %q (Java and its kin), %q (librdkafka and its kin) or %q", name,
			NameMurmur2, NameCRC32, NameNone)
	}
}

// Murmur2 is the default of the Java client for records with a key, and of Kafka Streams, Kafka Connect and franz-go:
// toPositive(murmur2(key)) % n, where toPositive clears the sign bit.
func Murmur2(key []byte, n int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % n
}

// CRC32 is the default of librdkafka ("consistent_random") for records with a key, and so of its bindings for C, C++, Python,
// .NET, Go and PHP: crc32(key) % n, unsigned, with the polynomial of IEEE 802.3.
func CRC32(key []byte, n int32) int32 {
	return int32(crc32.ChecksumIEEE(key) % uint32(n))
}

// murmur2 is Austin Appleby's MurmurHash2 for 32 bits with the seed of org.apache.kafka.common.utils.Utils.murmur2.
func murmur2(key []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := seed ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		k := uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(key[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}
