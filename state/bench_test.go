package state

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"ebb/state/customer"
)

// benchTable is a table of n typical customers, all in memory.
func benchTable(b *testing.B, n int) (*Table, [][]byte) {
	b.Helper()
	tab := NewTable(NewMemory(NewMemDisk()), TableOptions{CacheBytes: 4 << 30, PendingBytes: 4 << 30, FlushAge: 24 * time.Hour})
	b.Cleanup(tab.Close)
	ids := make([][]byte, n)
	for i := range ids {
		ids[i] = []byte(fmt.Sprintf("c-%06d", i))
		e, err := tab.Get(ids[i])
		must(b, err)
		fill(&e.Record, i)
		tab.Arm(e, year2026+int64(i%400)*HourMillis)
		tab.Changed(e)
	}
	tab.Commit(tab.BeginCut(), int64(n), nil)
	rand.New(rand.NewPCG(1, 1)).Shuffle(n, func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return tab, ids
}

// fill gives a record the shape of a typical customer: thirty active days.
func fill(r *customer.Record, i int) {
	r.First, r.Latest, r.LastActivity = year2026, year2026+60*24*HourMillis, year2026+60*24*HourMillis
	for d := range 30 {
		r.Usage = append(r.Usage, customer.UsageDay{Day: int32(20454 + 2*d), Count: uint32(1 + i%3), Quantity: 125_000})
	}
}

func BenchmarkGetChanged(b *testing.B) {
	tab, ids := benchTable(b, 200_000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e, err := tab.Get(ids[i])
		if err != nil {
			b.Fatal(err)
		}
		e.Record.Latest++
		tab.Changed(e)
		if i++; i == len(ids) {
			i = 0
		}
	}
}

func BenchmarkArmLater(b *testing.B) {
	tab, ids := benchTable(b, 200_000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e, err := tab.Get(ids[i%len(ids)])
		if err != nil {
			b.Fatal(err)
		}
		tab.Arm(e, year2026+int64(400+i)*HourMillis)
		tab.Changed(e)
		i++
	}
}

// BenchmarkCut is one customer's share in BeginCut and Commit.
func BenchmarkCut(b *testing.B) {
	tab, ids := benchTable(b, 100_000)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		b.StopTimer()
		for i := 0; i < 20_000 && i < b.N-n; i++ {
			e, err := tab.Get(ids[(n+i)%len(ids)])
			must(b, err)
			tab.Changed(e)
		}
		b.StartTimer()
		c := tab.BeginCut()
		n += c.Len()
		tab.Commit(c, int64(n), nil)
	}
	b.ReportMetric(float64(tab.pending.bytes)/float64(len(tab.pending.ops)), "bytes/customer")
}

// BenchmarkFlushBadger is one customer's share in writing behind to Badger, timers included.
func BenchmarkFlushBadger(b *testing.B) {
	s, err := OpenBadger(b.TempDir(), Options{})
	must(b, err)
	defer s.Close()
	value := make([]byte, 113)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		batch := &Batch{}
		for i := 0; i < 25_000 && n < b.N; i++ {
			id := fmt.Sprintf("c-%06d", rand.IntN(200_000))
			batch.Set(id, value)
			batch.Arm(year2026+int64(n%400)*HourMillis, id)
			n++
		}
		batch.SetPosition(int64(n))
		must(b, s.Write(batch))
	}
}

// BenchmarkLoadBadger is a customer that is not in memory.
func BenchmarkLoadBadger(b *testing.B) {
	s, err := OpenBadger(b.TempDir(), Options{})
	must(b, err)
	defer s.Close()
	var r customer.Record
	fill(&r, 1)
	value := customer.AppendRecord(nil, &r)
	batch := &Batch{}
	ids := make([][]byte, 100_000)
	for i := range ids {
		ids[i] = []byte(fmt.Sprintf("c-%06d", i))
		batch.Set(string(ids[i]), value)
	}
	must(b, s.Write(batch))
	tab := NewTable(s, TableOptions{CacheBytes: 4 << 20})
	defer tab.Close()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := tab.Get(ids[rand.IntN(len(ids))]); err != nil {
			b.Fatal(err)
		}
		if i++; i%64 == 0 {
			must(b, tab.Maintain(time.Time{}))
		}
	}
}

// BenchmarkRestore is the changelog of a million customers, each with two records, into an empty directory: records/s until the
// table answers, and how long the local store then takes to catch up behind it. What goes over the network is not in it.
//
//	go test ./state -run '^$' -bench Restore -benchtime 1x
func BenchmarkRestore(b *testing.B) {
	const customers, records = 1_000_000, 2_000_000
	for _, memory := range []int64{512 << 20, 32 << 20} {
		b.Run(fmt.Sprintf("memory=%dMiB", memory>>20), func(b *testing.B) {
			var r customer.Record
			fill(&r, 1)
			r.Armed = r.Latest + HourMillis
			value := customer.AppendRecord(nil, &r)
			var read, caughtUp time.Duration
			for b.Loop() {
				b.StopTimer()
				s, err := OpenBadger(b.TempDir(), Options{})
				must(b, err)
				b.StartTimer()
				began := time.Now()
				restorer := NewRestorer(s)
				restorer.MemoryBytes = memory
				var key []byte
				for n := range records {
					key = fmt.Appendf(key[:0], "customer-%07d", n*7919%customers)
					must(b, restorer.Apply(key, value, int64(n)))
				}
				restored, err := restorer.Keep(records)
				must(b, err)
				tab := NewTable(s, TableOptions{Restored: restored})
				if _, ok, err := tab.Lookup([]byte("customer-0000042")); err != nil || !ok {
					b.Fatal("the customer is not there", err)
				}
				read += time.Since(began)
				b.StopTimer()
				began = time.Now()
				must(b, tab.Drain(b.Context()))
				caughtUp += time.Since(began)
				tab.Close()
				must(b, s.Close())
				b.StartTimer()
			}
			n := float64(b.N)
			b.ReportMetric(records*n/read.Seconds(), "records/s")
			b.ReportMetric(caughtUp.Seconds()/n, "behind-s")
		})
	}
}

// BenchmarkReopen is a start with the local copy of a million customers: until the first of them is read and the first deadline is looked for.
//
//	go test ./state -run '^$' -bench Reopen -benchtime 3x
func BenchmarkReopen(b *testing.B) {
	const customers = 1_000_000
	dir := b.TempDir()
	s, err := OpenBadger(dir, Options{})
	must(b, err)
	restorer := NewRestorer(s)
	restorer.MemoryBytes = 1 << 30
	var r customer.Record
	fill(&r, 1)
	for n := range int64(customers) {
		r.Armed = r.Latest + n%400*HourMillis
		must(b, restorer.Apply(fmt.Appendf(nil, "customer-%07d", n), customer.AppendRecord(nil, &r), n))
	}
	must(b, restorer.Finish(customers))
	must(b, s.Close())
	for b.Loop() {
		s, err := OpenBadger(dir, Options{})
		must(b, err)
		if p, err := s.Position(); p != customers {
			b.Fatal(p, err)
		}
		tab := NewTable(s, TableOptions{})
		if _, ok, err := tab.Lookup([]byte("customer-0000042")); err != nil || !ok {
			b.Fatal("the customer is not there", err)
		}
		if _, _, _, err := tab.PopDue(r.Latest); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		tab.Close()
		must(b, s.Close())
		b.StartTimer()
	}
}

// BenchmarkTimers is a deadline that comes up and is armed again.
func BenchmarkTimers(b *testing.B) {
	tab, _ := benchTable(b, 25_000)
	tab.BeginCut()
	now := int64(year2026)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; {
		e, at, ok, err := tab.PopDue(now)
		if err != nil {
			b.Fatal(err)
		}
		if !ok {
			now += HourMillis / 10
			continue
		}
		tab.Arm(e, at+14*24*HourMillis)
		i++
	}
}

// BenchmarkCatchUp is the state's share in an event while 60 days of 25 000 customers are replayed as fast as
// possible: lookup, a new deadline 14 days on, timers that come up, cuts of 1 MB, and Badger at the end.
func BenchmarkCatchUp(b *testing.B) {
	s, err := OpenBadger(b.TempDir(), Options{})
	must(b, err)
	defer s.Close()
	tab := NewTable(s, TableOptions{CacheBytes: 64 << 20})
	defer tab.Close()
	ids := make([][]byte, 25_000)
	for i := range ids {
		ids[i] = []byte(fmt.Sprintf("c-%06d", i))
	}
	const days = 60 * 24 * HourMillis
	rng := rand.New(rand.NewPCG(1, 1))
	fired, next := 0, int64(0)
	cut := func() {
		c := tab.BeginCut()
		next += int64(c.Len()) + 1
		tab.Commit(c, next, nil)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		now := year2026 + int64(float64(i%625_000)/625_000*days)
		for {
			e, _, ok, err := tab.PopDue(now)
			if err != nil {
				b.Fatal(err)
			}
			if !ok {
				break
			}
			fired++
			tab.Arm(e, 0)
		}
		e, err := tab.Get(ids[rng.IntN(len(ids))])
		if err != nil {
			b.Fatal(err)
		}
		e.Record.First, e.Record.Latest = year2026, now
		tab.Arm(e, now+14*24*HourMillis)
		tab.Changed(e)
		if _, bytes := tab.Dirty(); bytes >= 1<<20 {
			cut()
		}
		if i%512 == 0 {
			must(b, tab.Maintain(time.Time{}.Add(time.Duration(i)*time.Microsecond)))
		}
	}
	cut()
	must(b, tab.Drain(b.Context()))
	b.ReportMetric(float64(fired)/float64(b.N), "fired/op")
}
