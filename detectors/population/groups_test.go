package population

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

func outcomes(rng *rand.Rand, n int) []Outcome {
	list := make([]Outcome, n)
	for i := range list {
		group := rng.Int64N(5) - 1
		list[i] = Outcome{Key: rng.Uint64(), Group: group, Day: 20_006 + rng.Int32N(70), Missed: rng.Float64() < float64(group+1)/5}
	}
	return list
}

// TestGroups: what is learnt does not depend on the order in which outcomes are told, on how often, or on whether the state was stored in between.
func TestGroups(t *testing.T) {
	list := outcomes(rand.New(rand.NewPCG(1, 1)), 3000)
	var want []*MissRates
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 2))
		g := NewGroups()
		var got []*MissRates
		told := 0
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for epoch := int32(20_006); epoch <= 20_076; epoch += EpochDays {
			for _, o := range list {
				if o.Day < epoch && o.Day >= epoch-EpochDays || rng.IntN(20) == 0 && o.Day >= epoch {
					g.Observe(o)
					told++
				}
			}
			b := g.Append(nil)
			again, err := DecodeGroups(b)
			if err != nil || !bytes.Equal(again.Append(nil), b) {
				t.Fatalf("the state is not read back: %v", err)
			}
			g = again
			got = append(got, g.Close(epoch))
		}
		if seed == 0 {
			want = got
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d learns something else", seed)
		}
	}
	m := want[len(want)-1]
	for group, miss := range map[int64]float64{-1: 0, 0: 0.2, 3: 0.8} {
		if rate, ok := m.MissRate(group); !ok || math.Abs(rate-miss) > 0.1 {
			t.Errorf("group %d misses %.2f, want about %.2f", group, rate, miss)
		}
	}
	if rate, ok := m.MissRate(99); !ok || math.Abs(rate-0.4) > 0.1 {
		t.Errorf("a group that nobody knows misses %.2f, want about 0.4 as all", rate)
	}
	if want[0] != nil {
		t.Error("something is said of nothing")
	}
	b := AppendMissRates(nil, m)
	again, err := DecodeMissRates(b)
	if err != nil || !reflect.DeepEqual(again, m) || again.Version() != "outcomes-20076" {
		t.Errorf("%v: %+v", err, again)
	}
	for n := range b {
		if _, err := DecodeMissRates(b[:n]); err == nil {
			t.Fatalf("%d of %d bytes are taken for rates", n, len(b))
		}
	}
}

// TestGroupsShrink: a group with few complaints is taken to be like the others, and old outcomes fade.
func TestGroupsShrink(t *testing.T) {
	g := NewGroups()
	for i := range uint64(100) {
		g.Observe(Outcome{Key: i, Group: 1, Day: 20_005, Missed: i%2 == 0})
	}
	g.Observe(Outcome{Key: 1000, Group: 2, Day: 20_005, Missed: true})
	m := g.Close(20_006)
	all := 51.0 / 101
	if rate, _ := m.MissRate(2); math.Abs(rate-(1+5*all)/6) > 1e-6 {
		t.Errorf("one miss makes a rate of %v", rate)
	}
	if late := g.Close(20_006 + 42); late != nil {
		if rate, _ := late.MissRate(2); math.Abs(rate-all) > 0.1 {
			t.Errorf("an old miss still makes a rate of %v", rate)
		}
	}
	if g.Close(20_006+7*60) != nil || len(g.sums) != 0 {
		t.Errorf("%d groups are remembered after a year", len(g.sums))
	}
}

func TestOutcomeCodec(t *testing.T) {
	for _, o := range outcomes(rand.New(rand.NewPCG(3, 3)), 50) {
		o.Group = int64(o.Key) // any number
		b := AppendOutcome(nil, o)
		if got, err := DecodeOutcome(b); err != nil || got != o {
			t.Fatalf("%v: %+v, want %+v", err, got, o)
		}
		for n := range b {
			if _, err := DecodeOutcome(b[:n]); err == nil {
				t.Fatal("a part is taken for an outcome")
			}
		}
		if b[0] = 0x99; !errors.Is(errOf(DecodeOutcome(b)), ErrNewerVersion) {
			t.Fatal("a newer version is read")
		}
	}
}

func errOf(_ Outcome, err error) error { return err }

func FuzzDecodeGroups(f *testing.F) {
	g := NewGroups()
	for _, o := range outcomes(rand.New(rand.NewPCG(4, 4)), 30) {
		g.Observe(o)
	}
	f.Add(g.Append(nil))
	g.Close(20_041)
	f.Add(g.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := DecodeGroups(b)
		if err != nil {
			return
		}
		g.Close(20_076)
		if _, err := DecodeGroups(g.Append(nil)); err != nil {
			t.Fatal(err)
		}
	})
}
