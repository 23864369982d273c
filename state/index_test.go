package state

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// The index is a map: random additions and removals, ids of any length, many of them in a row of slots.
func TestIndexAgainstAMap(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		x, want := newIndex(), map[string]*Entry{}
		for range 5000 {
			n := rng.IntN(300)
			id := fmt.Sprint(n) + strings.Repeat("x", n%40)
			if got := x.get([]byte(id)); got != want[id] {
				t.Fatalf("%s: found %v, want %v", id, got, want[id])
			}
			switch e := want[id]; {
			case e == nil:
				e = &Entry{}
				e.name(id)
				x.add(e)
				want[id] = e
			case rng.IntN(3) > 0:
				x.remove(e)
				delete(want, id)
			}
		}
		if x.n != len(want) {
			t.Fatalf("%d entries, want %d", x.n, len(want))
		}
		for id, e := range want {
			if x.get([]byte(id)) != e {
				t.Fatalf("%s is lost", id)
			}
		}
	}
}
