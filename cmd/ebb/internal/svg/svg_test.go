package svg_test

import (
	"math"
	"testing"

	"ebb/cmd/ebb/internal/svg"
)

func TestF1(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 1: "1", 1.04: "1", 1.05: "1.1", -2.5: "-2.5", 10: "10", 100.96: "101"} {
		if got := svg.F1(x); got != want {
			t.Errorf("F1(%v) = %s, want %s", x, got, want)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", -100: "-100", 1234567: "1,234,567", math.MinInt64: "-9,223,372,036,854,775,808"} {
		if got := svg.Thousands(n); got != want {
			t.Errorf("Thousands(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestStepIsRoundAndReaches(t *testing.T) {
	for _, top := range []float64{0.003, 1, 7, 99, 100, 12345} {
		step := svg.Step(top, 5)
		if step*5 < top*(1-1e-12) || step*5 > top*5 {
			t.Errorf("Step(%v, 5) = %v", top, step)
		}
	}
	if got := svg.Step(0, 5); got != 1 {
		t.Errorf("Step(0, 5) = %v, want 1", got)
	}
}

func TestTitleIsEscaped(t *testing.T) {
	if got := svg.Title(`<a&"b">`); got != "<title>&lt;a&amp;&#34;b&#34;&gt;</title>" {
		t.Errorf("got %s", got)
	}
}
