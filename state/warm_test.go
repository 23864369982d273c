package state

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"ebb/state/customer"
	"ebb/stream/event"
)

// BenchmarkApplyCold applies events to random customers of 200,000, as they come (cold) and after Warm has read ahead.
func BenchmarkApplyCold(b *testing.B) {
	const customers = 200_000
	t := NewTable(NewMemory(NewMemDisk()), TableOptions{CacheBytes: 1 << 30})
	p := customer.DefaultParams(customer.NewCalendar(time.UTC))
	ids := make([][]byte, customers)
	at := int64(1_700_000_000_000)
	rng := rand.New(rand.NewPCG(1, 2))
	ev := event.Event{Feed: event.Usage, Kind: event.KindUsage, Quantity: 10_000}
	apply := func(id []byte, n int) {
		e, err := t.Get(id)
		if err != nil {
			b.Fatal(err)
		}
		ev.Customer, ev.IDHash, ev.Time = id, uint64(n)+1, at+int64(n)*250
		e.Record.Apply(&ev, &p)
		t.Changed(e)
	}
	n := 0
	for i := range ids {
		ids[i] = fmt.Appendf(nil, "c-%06d", i)
	}
	for range 20 {
		for i := range ids {
			apply(ids[i], n)
			n += 5
		}
	}
	order := make([][]byte, 1<<20)
	for i := range order {
		order[i] = ids[rng.IntN(customers)]
	}
	b.Run("cold", func(b *testing.B) {
		for i := range b.N {
			apply(order[i%len(order)], n)
			n++
		}
	})
	b.Run("warm", func(b *testing.B) {
		var batch [WarmBatch][]byte
		var sum uint64
		for i := 0; i < b.N; i += WarmBatch {
			for j := range batch {
				batch[j] = order[(i+j)%len(order)]
			}
			sum += t.Warm(&batch, WarmBatch)
			for j := range batch {
				apply(batch[j], n)
				n++
			}
		}
		_ = sum
	})
}
