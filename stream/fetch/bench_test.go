//go:build unix

package fetch_test

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"ebb/stream/batch"
	"ebb/stream/fetch"
	"ebb/stream/kafkatest"
)

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFetch reads JSON records of about 135 bytes from a real broker to the end, from all partitions at once. The broker
// is another process: cpu-ns/record is this side's alone.
func BenchmarkFetch(b *testing.B) {
	broker := kafkatest.Real(b)
	const partitions, each = 4, 100_000
	for _, codec := range []struct {
		name  string
		codec kgo.CompressionCodec
	}{{"none", kgo.NoCompression()}, {"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()}} {
		topic := broker.Name("bench-" + codec.name)
		broker.CreateTopic(b, topic, partitions, nil)
		cl := broker.Client(b, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec.codec),
			kgo.ProducerBatchMaxBytes(64<<10), kgo.ProducerLinger(50*time.Millisecond), kgo.MaxBufferedRecords(partitions*each))
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range partitions * each {
			v := fmt.Sprintf(`{"id":"u-%08d","customer_id":"c-%06d","time":"2026-01-05T10:%02d:%02dZ","type":"session","quantity":%d.5,"unit":"minutes"}`,
				rng.IntN(1e8), rng.IntN(200000), rng.IntN(60), rng.IntN(60), rng.IntN(90))
			cl.Produce(b.Context(), &kgo.Record{Topic: topic, Partition: int32(i % partitions), Key: fmt.Appendf(nil, "c-%06d", rng.IntN(200000)), Value: []byte(v)}, nil)
		}
		if err := cl.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		cluster := clusterOf(b, broker)
		b.Run(codec.name, func(b *testing.B) {
			f := fetcherOf(b, cluster, fetch.Config{})
			b.ReportAllocs()
			start := cpu(b)
			records := 0
			for b.Loop() {
				records += readAll(b, f, topic, partitions, each)
			}
			b.ReportMetric(float64(cpu(b)-start)/float64(records), "cpu-ns/record")
			b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func readAll(b *testing.B, f *fetch.Fetcher, topic string, partitions int32, each int) (records int) {
	wake := make(chan struct{}, 1)
	var parts []*fetch.Partition
	for p := range partitions {
		parts = append(parts, f.Open(topic, p, 0, wake))
	}
	sink := 0
	var r batch.Record
	for records < each*int(partitions) {
		some := false
		for _, p := range parts {
			recs, ok := p.Next()
			if !ok {
				continue
			}
			for some = true; recs.Next(&r); records++ {
				sink += len(r.Value)
			}
			recs.Release()
		}
		if !some {
			<-wake
		}
	}
	for _, p := range parts {
		p.Close()
	}
	return records
}
