package backtest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// A hundred customers in each of two periods of 100 days: who moves, who goes, who comes.
func TestMigration(t *testing.T) {
	var list []told
	for i := range 100 {
		// From 1 a time to 100 a time; in the second period the largest two buy for 1, and the smallest ten not at all.
		one := told{fmt.Sprint("c", i), every(0, 99, 10), int64(i + 1)}
		list = append(list, one)
		switch {
		case i >= 98:
			list = append(list, told{one.customer, []int32{150, 199}, 1})
		case i >= 10:
			list = append(list, told{one.customer, every(100, 199, 10), one.amount})
		}
	}
	list = append(list, told{"new", []int32{120}, 5000}, told{"still small", []int32{199}, 1})
	h := historyOf(t, 199, list...)
	m := h.Truth.migration()
	if m == nil || m.Days != 100 || m.Least["top"] != "1000.00" || m.Least["large"] != "960.00" || m.Least["middle"] != "810.00" {
		t.Fatalf("%+v", m)
	}
	got := map[string]string{}
	for _, x := range m.Moves {
		got[x.From+" "+x.To] = fmt.Sprintf("%d %s %s", x.Customers, x.Before, x.After)
	}
	want := map[string]string{
		"top small": "1 1000.00 2.00", "large small": "1 990.00 2.00", "large large": "3 2910.00 2910.00", "middle middle": "15 13200.00 13200.00",
		"small small": "70 31850.00 31850.00", "small none": "10 550.00 0.00", "new top": "1 0.00 5000.00", "new small": "1 0.00 1.00",
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %q, want %q", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("moves %v", got)
	}
	var b bytes.Buffer
	m.text(&b)
	if out := b.String(); !strings.Contains(out, "large\t0\t3\t0\t1\t0\t3900.00\t2912.00\n") {
		t.Errorf("%s", out)
	}
	if short := historyOf(t, 40, list[:1]...).Truth.migration(); short != nil {
		t.Errorf("of 41 days: %+v", short)
	}
}
