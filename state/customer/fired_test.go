package customer

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// However often and in whatever order alerts fire and end, none is given a time that one of the same had, and it is the first such time for
// as long as not more alerts have been than are remembered.
func TestNoTimeIsUsedTwice(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 12))
		r := &Record{ID: "c", First: t0, Latest: t0}
		used := map[string]bool{}
		for n := range 200 {
			subject := fmt.Sprint("T-", rng.IntN(2))
			at := t0 + rng.Int64N(1+rng.Int64N(60))
			want := at
			for used[fmt.Sprint(subject, want)] {
				want++
			}
			got := r.UnusedTime("d", subject, at)
			if used[fmt.Sprint(subject, got)] || got < at || n < maxFired && got != want {
				t.Fatalf("seed %d, alert %d: %s at %d, asked for was %d, the first free time is %d", seed, n, subject, got, at, want)
			}
			used[fmt.Sprint(subject, got)] = true
			r.RememberFired("d", subject, got)
			if rng.IntN(3) == 0 {
				b := AppendRecord(nil, r)
				if err := DecodeRecord(b, r); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n := len(r.fired.list); n != maxFired || !slices.IsSortedFunc(r.fired.list, firing.compare) {
			t.Errorf("seed %d: %d are remembered", seed, n)
		}
	}
}

// The order in which alerts end does not matter.
func TestWhatFiredIsASet(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	var a, b Record
	order := rng.Perm(100)
	for i := range 100 {
		a.RememberFired("d", fmt.Sprint(i%7), int64(1000+i*13%50))
	}
	for _, i := range order {
		b.RememberFired("d", fmt.Sprint(i%7), int64(1000+i*13%50))
	}
	if a.fired.floor != b.fired.floor || !slices.Equal(a.fired.list, b.fired.list) {
		t.Errorf("%+v and %+v", a.fired, b.fired)
	}
}

// A rewind keeps the times, and a stored form that cannot be is damage.
func TestFiredIsKept(t *testing.T) {
	r := &Record{ID: "c", First: t0, Latest: t0}
	if r.Rewind() || r.LastFired() != 0 {
		t.Error("of nothing something is left")
	}
	r.First, r.Latest = t0, t0
	r.RememberFired("silence", "", t0)
	r.RememberFired("silence", "", t0+5)
	if !r.Rewind() || r.First != 0 || r.UnusedTime("silence", "", t0) != t0+1 || r.UnusedTime("silence", "x", t0) != t0 || r.LastFired() != t0+5 {
		t.Errorf("after a rewind: %+v", r.fired)
	}
	other := &Record{ID: "o", First: t0, Latest: t0}
	p := testParams()
	other.Join(r, &p)
	if other.fired != nil {
		t.Error("the name of an alert names the customer too: another's are none of his")
	}
	for what, f := range map[string]*fired{
		"empty": {}, "unordered": {list: []firing{{5, 2}, {5, 1}}}, "twice the same": {list: []firing{{5, 2}, {5, 2}}},
		"beyond the end of time": {floor: math.MaxInt64, list: []firing{{math.MinInt64, 1}}}, "too many": {list: slices.Repeat([]firing{{at: 1}}, maxFired+1)},
	} {
		var into Record
		if err := DecodeRecord(AppendRecord(nil, &Record{First: t0, Latest: t0, fired: f}), &into); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
