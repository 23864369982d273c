package stream

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"ebb/alerts"
)

// reportOf is what a partition reports at a time: conditions as kind@since, critical if in capitals.
func reportOf(at int64, conditions ...string) *report {
	r := &report{group: "ebb", at: at}
	for _, c := range conditions {
		kind, since, _ := strings.Cut(c, "@")
		h := holding{condition: condition{alerts.OperationalKind(strings.ToLower(kind)), "feed/usage"}, severity: alerts.Warning}
		fmt.Sscan(since, &h.since)
		if kind == strings.ToUpper(kind) {
			h.severity, h.detail = alerts.Critical, "why "+since
		}
		r.holdings = append(r.holdings, h)
	}
	return r
}

func sentences(steps []*alerts.Operational) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "%s %s/%d %s at %d since %d %v %s; ", s.Kind, s.Step, s.Revision, s.Severity, s.At, s.Since, s.Partitions, s.Detail)
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// Each line is a report and the steps that follow from it.
func TestReportsOfManyPartitionsAreOneAlert(t *testing.T) {
	o := newOperations()
	for i, c := range []struct {
		partition int32
		report    *report
		complete  bool
		want      string
	}{
		{1, reportOf(100, "stalled@90"), false, "stalled fired/1 warning at 100 since 90 [1] "},
		{1, reportOf(101, "stalled@90"), false, ""},                                                         // again
		{1, reportOf(102), false, ""},                                                                       // another may yet say the same
		{0, reportOf(50, "stalled@40"), false, ""},                                                          // it does
		{2, reportOf(103, "STALLED@80"), true, "stalled changed/2 critical at 103 since 40 [0 1 2] why 80"}, // worse
		{2, reportOf(104, "stalled@80"), true, ""},                                                          // better again: no step
		{0, reportOf(60, "blind@55"), true, "blind fired/1 warning at 60 since 55 [0] "},
		{2, reportOf(105), true, "stalled resolved/3 critical at 105 since 40 [0 1 2] why 80"},
		{1, reportOf(106, "stalled@90"), true, "stalled fired/1 warning at 106 since 90 [1] "},
		{1, reportOf(107, "blind@70"), true, "stalled resolved/2 warning at 107 since 90 [1] "},
		{0, reportOf(70), true, ""},
		{1, reportOf(65), true, "blind resolved/2 warning at 65 since 55 [0 1] "},
	} {
		if got := sentences(o.apply(c.partition, c.report, c.complete)); got != c.want {
			t.Errorf("report %d: %q, want %q", i, got, c.want)
		}
	}
	if len(o.alerts) != 0 {
		t.Errorf("left: %v", o.alerts)
	}
}

// What a partition that was taken away reported is over; others may still report it.
func TestForgottenPartition(t *testing.T) {
	o := newOperations()
	o.apply(0, reportOf(100, "stalled@90"), true)
	o.apply(7, reportOf(100, "stalled@90", "blind@95"), true)
	if got := sentences(o.forget(7)); got != "blind resolved/2 warning at 100 since 95 [7] " {
		t.Error(got)
	}
}

// An alert that is resolved and comes back, be it at the same time and since the same moment, is another alert.
func TestNoTwoAlertsHaveTheSameID(t *testing.T) {
	o := newOperations()
	ids := map[int64]bool{}
	for range 3 {
		steps := append(o.apply(0, reportOf(100, "stalled@90"), true), o.apply(0, reportOf(100), true)...)
		if len(steps) != 2 || steps[0].Opened != steps[1].Opened || ids[steps[0].Opened] {
			t.Errorf("opened %d and %d", steps[0].Opened, steps[1].Opened)
		}
		ids[steps[0].Opened] = true
	}
}

// Whoever takes over at any report goes on exactly as the one before would have.
func TestTheFoldGoesOnAfterARestart(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		undisturbed, restarted := newOperations(), newOperations()
		for at := range int64(100) {
			var conditions []string
			for _, kind := range []string{"stalled", "blind", "gap"} {
				switch rng.IntN(4) {
				case 0:
					conditions = append(conditions, fmt.Sprintf("%s@%d", kind, at-rng.Int64N(10)))
				case 1:
					conditions = append(conditions, fmt.Sprintf("%s@%d", strings.ToUpper(kind), at))
				}
			}
			p, r, complete := rng.Int32N(3), reportOf(at, conditions...), rng.IntN(5) != 0
			want, got := sentences(undisturbed.apply(p, r, complete)), sentences(restarted.apply(p, r, complete))
			if got != want {
				t.Fatalf("seed %d, report %d: %q, want %q", seed, at, got, want)
			}
			again := newOperations()
			d := &decoder{b: restarted.append(nil)}
			again.decode(d)
			if d.err != nil || len(d.b) != 0 {
				t.Fatalf("seed %d: %v, %d bytes left over", seed, d.err, len(d.b))
			}
			for p, r := range restarted.reports {
				stored, err := decodeReport(appendReport(nil, r))
				if err != nil {
					t.Fatal(err)
				}
				again.reports[p] = stored
			}
			restarted = again
		}
	}
}

func TestFactsAreReadBack(t *testing.T) {
	for _, r := range []*report{reportOf(5), reportOf(1_800_000_000_000, "stalled@-3", "BLIND@1799999999999")} {
		got, err := decodeReport(appendReport(nil, r))
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v, %v, want %+v", got, err, r)
		}
	}
	long := reportOf(5, "BLIND@4")
	long.holdings[0].detail = strings.Repeat("x", 1<<20)
	if got, err := decodeReport(appendReport(nil, long)); err != nil || len(got.holdings[0].detail) != maxDetail {
		t.Errorf("a detail of a megabyte: %v", err)
	}
	for key, want := range map[string]string{"conditions/3": "conditions 3 true", "cohorts/0": "cohorts 0 true", "conditions/": "conditions 0 false", "x": "x 0 false", "a/-1": "a 0 false"} {
		kind, p, ok := splitFactKey([]byte(key))
		if got := fmt.Sprint(kind, " ", p, " ", ok); got != want {
			t.Errorf("key %q is %s, want %s", key, got, want)
		}
	}
}

func FuzzReport(f *testing.F) {
	f.Add(appendReport(nil, reportOf(7, "stalled@3", "BLIND@4")))
	f.Add([]byte{factVersion + 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeReport(b)
		if err != nil {
			return
		}
		again, err := decodeReport(appendReport(nil, r))
		if err != nil || len(again.holdings) != len(r.holdings) || again.at != r.at {
			t.Errorf("%+v is read back as %+v, %v", r, again, err)
		}
	})
}
