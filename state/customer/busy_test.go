package customer

import (
	"strconv"
	"testing"

	"ebb/stream/event"
)

// A customer with a million events an hour: his record is as small at the end as after the first few thousand, everything that had to be
// forgotten is counted, and an event costs no memory.
func TestAMillionEventsAnHour(t *testing.T) {
	p := testParams()
	var r Record
	n := 1_000_000
	if testing.Short() {
		n = 100_000
	}
	size := 0
	forgotten := 0
	apply := func(i int) {
		at := t0 + int64(i)*hourMs/int64(n)
		var e *event.Event
		switch i % 10 {
		case 0:
			e = pay(at, event.KindPurchase, 10_000, [4]string{"EUR", "USD", "GBP", "CHF"}[i/10%4])
		case 1:
			e = complain(at, event.KindOpened, "T-"+strconv.Itoa(i), event.PriorityHigh)
		default:
			e = use(at, 1)
		}
		e.IDHash = uint64(i) + 1
		if r.Apply(e, &p).Has(ComplaintOverflow) {
			forgotten++
		}
	}
	for i := range n {
		apply(i)
		if i == 5000 {
			size = len(AppendRecord(nil, &r))
		}
	}
	end := len(AppendRecord(nil, &r))
	if end > MaxEncoded || end > size+size/4 {
		t.Errorf("the record has %d bytes after %d events and had %d after 5000", end, n, size)
	}
	var count uint32
	for _, u := range r.Usage {
		count += u.Count
	}
	if want := uint32(n / 10 * 8); count != want {
		t.Errorf("%d uses are counted, want %d", count, want)
	}
	if got := int(r.Overflows().Complaints); got != forgotten || got != n/10-len(r.Complaints) {
		t.Errorf("%d complaints are counted as forgotten, %d were told, %d are left of %d", got, forgotten, len(r.Complaints), n/10)
	}
	if len(r.Seen) != p.MaxSeen || int(r.Overflows().Seen) != n-p.MaxSeen {
		t.Errorf("%d ids are remembered, %d are counted as forgotten, of %d", len(r.Seen), r.Overflows().Seen, n)
	}
	e := use(t0+hourMs, 1)
	i := uint64(n)
	if a := testing.AllocsPerRun(1000, func() { i++; e.IDHash = i; r.Apply(e, &p) }); a != 0 {
		t.Errorf("%v allocations for an event", a)
	}
}
