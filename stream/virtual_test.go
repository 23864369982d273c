package stream_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// seeds runs f in virtual time with n seeds, or with as many as EBB_SIMULATION_SEEDS says, beginning at EBB_SIMULATION_FROM.
func seeds(t *testing.T, n int, f func(t *testing.T, seed uint64)) { //nolint:thelper // f is the test
	t.Helper()
	from := number(t, "EBB_SIMULATION_FROM", 1)
	for seed := from; seed < from+number(t, "EBB_SIMULATION_SEEDS", uint64(n)); seed++ {
		ok := t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { f(t, seed) })
		})
		if !ok {
			t.Logf("again: EBB_SIMULATION_FROM=%d EBB_SIMULATION_SEEDS=1 go test ./stream -run '^%s$'", seed, t.Name())
		}
	}
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
