package config

import (
	"math"
	"testing"
	"testing/quick"
)

func TestSizes(t *testing.T) {
	good := map[string]Bytes{
		"0": 0, "17": 17, "17B": 17, "256KB": 256_000, "64MB": 64e6, "1.5GB": 1.5e9, "1 GiB": 1 << 30, "64KiB": 65536, "2TB": 2e12, "1TiB": 1 << 40,
	}
	for s, want := range good {
		if got, err := ParseBytes(s); err != nil || got != want {
			t.Errorf("%q: got %v, %v", s, int64(got), err)
		}
	}
	for _, s := range []string{"", "MB", "-1MB", "1.5B", "1e3", "1MBB", "64 megabytes", "99999999TB", "1..5GB", "0x10", "1/2KB"} {
		if got, err := ParseBytes(s); err == nil {
			t.Errorf("%q is read as %v", s, got)
		}
	}
}

func TestASizeIsReadAsItIsShown(t *testing.T) {
	err := quick.Check(func(n int64) bool {
		b := Bytes(n & math.MaxInt64)
		got, err := ParseBytes(b.String())
		return err == nil && got == b
	}, nil)
	if err != nil {
		t.Error(err)
	}
	for n, want := range map[Bytes]string{256e6: "256MB", 1 << 20: "1MiB", 1536: "1536B", 1e3: "1KB", 0: "0B"} {
		if n.String() != want {
			t.Errorf("%d is shown as %s", int64(n), n)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"usage", "payments", "complaints", "max_out_of_order"}
	for word, want := range map[string]string{
		"usgae": "usage", "payment": "payments", "Usage": "usage", "max_out_off_order": "max_out_of_order", "zzz": "", "x": "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("%s: suggests %q", word, got)
		}
	}
}
