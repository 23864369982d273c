package txn_test

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"ebb/stream/batch"
	"ebb/stream/kafkatest"
	"ebb/stream/txn"
)

// BenchmarkCommit measures one transaction on a real broker: a hundred changelog records of 113 bytes, an alert in each of two partitions, offsets.
// gap is the pause between two commits: without one, the markers of each hold up the next. Reported are the median and the 99th percentile
// of Commit, and the CPU time of this process a commit, encoding included.
func BenchmarkCommit(b *testing.B) {
	for _, gap := range []time.Duration{0, 20 * time.Millisecond} {
		b.Run(fmt.Sprint("gap=", gap), func(b *testing.B) {
			w := newBenchWorld(b)
			value := make([]byte, 113)
			var took []time.Duration
			before := cpu(b)
			for b.Loop() {
				tx := w.p.NewTransaction()
				tx.Group, tx.Generation, tx.MemberID = w.group, w.g.ID, w.g.MemberID
				tx.Offsets = map[string]map[int32]int64{w.feed: {0: int64(len(took))}}
				wr := tx.Writer(batch.LZ4)
				for i := range 100 {
					_ = wr.Add(txn.TopicPartition{Topic: w.changelog}, fmt.Append(nil, "customer-", i), value, nil, 0)
				}
				for i := range int32(2) {
					_ = wr.Add(txn.TopicPartition{Topic: w.alerts, Partition: i}, []byte("customer"), make([]byte, 700), nil, 0)
				}
				began := time.Now()
				if _, err := w.p.Commit(b.Context(), tx); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
				if gap > 0 {
					timer := time.NewTimer(gap)
					<-timer.C
				}
			}
			used := cpu(b) - before
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(used.Microseconds())/1000/float64(len(took)), "cpu-ms/commit")
		})
	}
}

func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type benchWorld struct {
	*world
	p *txn.Producer
	g generation
}

func newBenchWorld(b *testing.B) *benchWorld {
	b.Helper()
	w := newWorld(b, kafkatest.Real(b))
	w.direct(b)
	g := w.join(b).next(b)
	p := txn.New(w.cluster, txn.Config{TransactionalID: w.Name("bench")})
	b.Cleanup(p.Close)
	if err := p.Init(b.Context()); err != nil {
		b.Fatal(err)
	}
	return &benchWorld{world: w, p: p, g: generation{g.ID, g.MemberID}}
}

type generation struct {
	ID       int32
	MemberID string
}
