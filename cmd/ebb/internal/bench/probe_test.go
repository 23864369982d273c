//go:build linux

package main

import (
	"testing"
	"time"
)

// ask is a complaint of a partition, opened and answered so many ms after the beginning; not answered if answered is 0.
func ask(partition int32, opened, answered int) question {
	q := question{partition: partition, opened: at(opened)}
	if answered > 0 {
		q.seen = at(answered)
	}
	return q
}

func at(ms int) time.Time {
	return time.Unix(1_700_000_000, 0).Add(time.Duration(ms) * time.Millisecond)
}

func TestFiredFor(t *testing.T) {
	for value, want := range map[string]string{
		`{"detector":"complaint","state":"firing","evidence":{"complaint_id":"T-1","priority":"critical"}}`: "T-1",
		`{"status":"firing","step":"fired","evidence":{"complaint_id":"T-2","priority":"critical"}}`:        "T-2",
		`{"status":"firing","step":"changed","evidence":{"complaint_id":"T-2","priority":"critical"}}`:      "",
		`{"status":"resolved","step":"resolved","evidence":{"complaint_id":"T-2","priority":"critical"}}`:   "",
		`{"detector":"complaint","state":"firing","evidence":{"complaint_id":"T-1","priority":"normal"}}`:   "",
		`{"detector":"silence","state":"firing","evidence":{"last_activity":"2026-01-05T10:00:00Z"}}`:       "",
		`not JSON`: "",
	} {
		if got := firedFor([]byte(value)); got != want {
			t.Errorf("%s: got %q, want %q", value, got, want)
		}
	}
}

func TestOutageOfOnePartition(t *testing.T) {
	all := []question{
		ask(0, 0, 20), ask(1, 10, 30),
		ask(1, 900, 5000),  // asked before the disturbance, answered late
		ask(0, 1100, 1120), // untouched
		ask(1, 1200, 5010), ask(0, 4000, 4020), ask(1, 5000, 5020),
	}
	first := firstSince(all, 2, at(1000))
	if first[0] != 120*time.Millisecond || first[1] != 4010*time.Millisecond {
		t.Errorf("first alerts of complaints opened since: got %v, want 120 ms and 4.01 s", first)
	}
	if got := since(all, at(1950)); len(got) != 4 {
		t.Errorf("%d questions count for a disturbance at 1.95 s, want the 4 opened at most a second before it", len(got))
	}
	if gap, disturbed := worst(all, 2); gap != 4100*time.Millisecond || disturbed != 1 {
		t.Errorf("got a gap of %v in %d partitions, want 4.1 s in one", gap, disturbed)
	}
}

func TestCalm(t *testing.T) {
	steady := func(from, to int, partitions ...int32) (all []question) {
		for ms := from; ms < to; ms += 100 {
			for _, p := range partitions {
				all = append(all, ask(p, ms, ms+20))
			}
		}
		return all
	}
	for _, c := range []struct {
		name string
		all  []question
		want bool
	}{
		{"both answered for three seconds", steady(0, 3000, 0, 1), true},
		{"one was never asked", steady(0, 3000, 0), false},
		{"one began a second ago", append(steady(0, 3000, 0), steady(2000, 3000, 1)...), false},
		{"one does not answer", append(steady(0, 3000, 0, 1), ask(1, 1500, 0)), false},
		{"one has just been asked", append(steady(0, 3000, 0, 1), ask(1, 2950, 0)), true},
		{"one answered late a second ago", append(steady(0, 1000, 0, 1), append([]question{ask(1, 500, 2000)}, steady(2000, 3000, 0, 1)...)...), false},
	} {
		if got := calm(c.all, 2, at(3000), 2500*time.Millisecond); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestUntil(t *testing.T) {
	if got := until([]question{ask(0, 1, 2), ask(0, 5, 6), ask(0, 9, 10)}, at(5)); len(got) != 2 {
		t.Errorf("got %d questions, want the two opened by then", len(got))
	}
}

func TestEven(t *testing.T) {
	for _, c := range []struct {
		name  string
		owned map[string][]int32
		want  bool
	}{
		{"3, 3 and 2", map[string][]int32{"i1": {0, 1, 2}, "i2": {3, 4, 5}, "i3": {6, 7}}, true},
		{"4, 2 and 2", map[string][]int32{"i1": {0, 1, 2, 3}, "i2": {4, 5}, "i3": {6, 7}}, false},
		{"two instances", map[string][]int32{"i1": {0, 1, 2, 3}, "i2": {4, 5, 6, 7}}, false},
		{"one partition without an owner", map[string][]int32{"i1": {0, 1, 2}, "i2": {3, 4}, "i3": {6, 7}}, false},
	} {
		if got := even(c.owned, 8); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
