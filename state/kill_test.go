package state

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ebb/state/customer"
)

const (
	killCustomers = 3000
	killPerCut    = 40
)

// cutContent are the customers of a cut: any process can compute them.
func cutContent(cut int64) []int {
	rng := rand.New(rand.NewPCG(uint64(cut), 7))
	ids := make([]int, killPerCut)
	for i := range ids {
		ids[i] = rng.IntN(killCustomers)
	}
	return ids
}

func killID(i int) string { return "customer-" + strconv.Itoa(i) }

// child makes one cut after the other until it is killed, and says on stdout to where the store is
// written. It goes on from the store's position, with the cuts as their own changelog.
func child(dir string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	d, err := OpenDir(dir, DirOptions{Cluster: "c", Group: "g", Store: Options{MemtableBytes: 2 << 20}, Now: time.Now})
	if err != nil {
		return fail(err)
	}
	s, aside, err := d.Task(0)
	if err = errors.Join(err, aside); err != nil {
		return fail(err)
	}
	position, err := s.Position()
	if err != nil {
		return fail(err)
	}
	tab := NewTable(s, TableOptions{CacheBytes: 400_000, PendingBytes: 30_000})
	told := position
	for cut := position + 1; ; cut++ {
		for _, i := range cutContent(cut) {
			e, err := tab.Get([]byte(killID(i)))
			if err != nil {
				return fail(err)
			}
			bump(e, cut)
			tab.Arm(e, year2026+cut*HourMillis/100)
			tab.Changed(e)
		}
		tab.Commit(tab.BeginCut(), cut, []byte(strconv.FormatInt(cut, 10)))
		if err := tab.Maintain(time.Now()); err != nil {
			return fail(err)
		}
		if tab.Pressure() == PressureStore {
			if err := tab.landed(<-tab.flushed); err != nil {
				return fail(err)
			}
		}
		if tab.flushing == nil {
			if position, err = s.Position(); err != nil {
				return fail(err)
			}
		}
		if position > told {
			told = position
			fmt.Println(told)
		}
	}
}

// After kill -9 the local copy is as far as was said at least, and whatever its position promises is in it.
func TestKillNine(t *testing.T) {
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 4 {
		cmd := reexec(t, dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		told := int64(0)
		lines := bufio.NewScanner(out)
		for n := 5 + rng.IntN(30); n > 0 && lines.Scan(); n-- {
			told, err = strconv.ParseInt(strings.TrimSpace(lines.Text()), 10, 64)
			must(t, err)
		}
		must(t, cmd.Process.Kill())
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("round %d: the child ended by itself: %v", round, err)
		}
		checkKilled(t, dir, told)
	}
}

func checkKilled(t *testing.T, dir string, told int64) {
	t.Helper()
	s, err := OpenBadger(filepath.Join(dir, "partition-0"), Options{MemtableBytes: 2 << 20})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	position, err := s.Position()
	must(t, err)
	if position < told || told == 0 {
		t.Fatalf("position %d, but %d was acknowledged", position, told)
	}
	if task, _ := s.Meta(MetaTask); string(task) != strconv.FormatInt(position, 10) {
		t.Errorf("task record of cut %q at position %d", task, position)
	}
	armed := map[string]bool{}
	_, err = s.Due(0, 1<<30, func(at int64, id []byte) error {
		armed[fmt.Sprint(at, string(id))] = true
		return nil
	})
	must(t, err)
	want := map[int]int64{}
	for cut := int64(1); cut <= position; cut++ {
		for _, i := range cutContent(cut) {
			want[i] = cut
		}
	}
	var r customer.Record
	for i, cut := range want {
		v, err := s.Get(nil, []byte(killID(i)))
		if err != nil {
			t.Fatalf("customer %d of cut %d at position %d: %v", i, cut, position, err)
		}
		must(t, customer.DecodeRecord(v, &r))
		if content(&r) < cut {
			t.Errorf("customer %d is as of cut %d, but the position %d says %d", i, content(&r), position, cut)
		}
		if r.Armed == 0 || !armed[fmt.Sprint(r.Armed, killID(i))] {
			t.Errorf("customer %d is armed at %d without a timer entry", i, r.Armed)
		}
	}
}
