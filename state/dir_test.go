package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func dirOptions() DirOptions {
	return DirOptions{
		Cluster: "cluster-1", Group: "ebb", Store: Options{MemtableBytes: 2 << 20},
		Now: func() time.Time { return time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC) },
	}
}

func openDir(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := OpenDir(path, dirOptions())
	must(t, err)
	return d
}

func wantMessage(t *testing.T, err, sentinel error, parts ...string) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Fatalf("error %v, want %v", err, sentinel)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("message %q does not say %q", err, p)
		}
	}
}

func TestADirectoryInUseIsRefused(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	_, err := OpenDir(path, dirOptions())
	wantMessage(t, err, ErrLocked, path, "process "+strconv.Itoa(os.Getpid()), "state.dir")
	must(t, d.Close())
	must(t, openDir(t, path).Close())
}

func TestAForeignDirectoryIsRefused(t *testing.T) {
	path := t.TempDir()
	must(t, openDir(t, path).Close())
	o := dirOptions()
	o.Cluster = "cluster-2"
	_, err := OpenDir(path, o)
	wantMessage(t, err, ErrForeign, path, `"cluster-1"`, `"cluster-2"`, "rebuilt from the changelog")
	o = dirOptions()
	o.Group = "other"
	_, err = OpenDir(path, o)
	wantMessage(t, err, ErrForeign, `"ebb"`, `"other"`, "state.dir")
	for _, content := range []string{`{"format":9,"cluster":"cluster-1","group":"ebb"}`, `{"for`} {
		must(t, os.WriteFile(filepath.Join(path, identityName), []byte(content), 0o600))
		_, err = OpenDir(path, dirOptions())
		wantMessage(t, err, ErrForeign, path)
	}
	must(t, os.Remove(filepath.Join(path, identityName)))
	must(t, openDir(t, path).Close()) // a refusal does not keep the lock
}

func TestAnUnwritableDirectoryIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	_, err := OpenDir(filepath.Join(file, "state"), dirOptions())
	wantMessage(t, err, ErrUnwritable, file, "state.dir")
	if os.Getuid() == 0 {
		t.Log("rights do not bind root: only a path through a file was tried")
		return
	}
	path := t.TempDir()
	must(t, os.Chmod(path, 0o500))
	_, err = OpenDir(path, dirOptions())
	wantMessage(t, err, ErrUnwritable, path, "right")
}

func TestTheMemberIDIsRemembered(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	if d.MemberID() != "" {
		t.Errorf("a new directory remembers %q", d.MemberID())
	}
	must(t, d.RememberMember("m-1"))
	must(t, d.RememberMember("m-2"))
	must(t, d.Close())
	d = openDir(t, path)
	defer d.Close()
	if d.MemberID() != "m-2" {
		t.Errorf("remembers %q", d.MemberID())
	}
}

func writeOne(t *testing.T, s Store, position int64) {
	t.Helper()
	b := &Batch{}
	b.Set("a", []byte("v"))
	b.SetPosition(position)
	must(t, s.Write(b))
}

func TestTasksHaveStoresOfTheirOwn(t *testing.T) {
	d := openDir(t, t.TempDir())
	defer d.Close()
	for p := range int32(3) {
		s, aside, err := d.Task(10 - p)
		must(t, err)
		must(t, aside)
		writeOne(t, s, int64(p)+1)
		must(t, s.Close())
	}
	tasks, err := d.Tasks()
	must(t, err)
	if want := []int32{8, 9, 10}; !slices.Equal(tasks, want) {
		t.Errorf("tasks %v, want %v", tasks, want)
	}
	s, _, err := d.Task(9)
	must(t, err)
	if p, _ := s.Position(); p != 2 {
		t.Errorf("position %d", p)
	}
	must(t, s.Close())
	must(t, d.Remove(9))
	if tasks, _ := d.Tasks(); !slices.Equal(tasks, []int32{8, 10}) {
		t.Errorf("after Remove: %v", tasks)
	}
}

// A copy that does not open costs a restore, nothing else.
func TestADamagedStoreIsSetAside(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	defer d.Close()
	for round := range 2 {
		s, _, err := d.Task(3)
		must(t, err)
		writeOne(t, s, 5)
		must(t, s.Close())
		must(t, os.WriteFile(filepath.Join(path, "partition-3", "MANIFEST"), []byte("rubbish that is no manifest"), 0o600))
		s, aside, err := d.Task(3)
		must(t, err)
		to := filepath.Join(path, "partition-3.damaged-20260105T100000Z")
		if aside == nil || !strings.Contains(aside.Error(), to) {
			t.Fatalf("round %d: set aside: %v", round, aside)
		}
		if _, err := os.Stat(to); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if p, err := s.Position(); p != 0 || err != nil {
			t.Errorf("round %d: the new store is at %d, %v", round, p, err)
		}
		must(t, s.Close())
	}
	if kept, _ := filepath.Glob(filepath.Join(path, "*"+damagedSuffix+"*")); len(kept) != 1 {
		t.Errorf("one damaged copy is kept, not %q", kept)
	}
}

// What a directory is called changes none of that.
func TestADirectoryMayHaveBracketsInItsName(t *testing.T) {
	for _, name := range []string{"ebb[prod]", "ebb[", "*"} {
		path := filepath.Join(t.TempDir(), name)
		o, now := dirOptions(), dirOptions().Now()
		o.Now = func() time.Time {
			now = now.Add(time.Second)
			return now
		}
		d, err := OpenDir(path, o)
		must(t, err)
		for range 2 {
			s, _, err := d.Task(3)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			writeOne(t, s, 5)
			must(t, s.Close())
			must(t, os.Remove(filepath.Join(path, "partition-3", "MANIFEST")))
			s, aside, err := d.Task(3)
			must(t, err)
			if aside == nil {
				t.Errorf("%s: a store without its manifest was used", name)
			}
			must(t, s.Close())
			must(t, d.SetAside(3, io.ErrUnexpectedEOF))
		}
		damaged := 0
		kept, err := os.ReadDir(path)
		must(t, err)
		for _, f := range kept {
			if strings.Contains(f.Name(), damagedSuffix) {
				damaged++
			}
		}
		if damaged != 1 {
			t.Errorf("%s: %d damaged copies are kept, want 1", name, damaged)
		}
		must(t, d.Close())
	}
}

// Customers who were forgotten while a copy lay idle must not come back.
func TestAnOldStoreIsNotUsed(t *testing.T) {
	now := dirOptions().Now()
	o := dirOptions()
	o.Now = func() time.Time { return now }
	d, err := OpenDir(t.TempDir(), o)
	must(t, err)
	defer d.Close()
	for _, c := range []struct {
		idle  time.Duration
		reuse bool
	}{{time.Hour, true}, {83 * time.Hour, true}, {85 * time.Hour, false}, {time.Hour, true}} {
		s, _, err := d.Task(0)
		must(t, err)
		writeOne(t, s, 5)
		must(t, s.Close())
		now = now.Add(c.idle)
		s, aside, err := d.Task(0)
		must(t, err)
		p, err := s.Position()
		must(t, err)
		if (p == 5) != c.reuse || errors.Is(aside, ErrOld) == c.reuse {
			t.Errorf("idle for %v: position %d, %v", c.idle, p, aside)
		}
		must(t, s.Close())
	}
}

// A copy that is restored in part, again and again, is as old as it was when it began: the tombstones of those who were forgotten may be gone before it comes to them.
func TestACopyThatNeverCameToTheEndIsNotUsed(t *testing.T) {
	now := dirOptions().Now()
	o := dirOptions()
	o.Now = func() time.Time { return now }
	d, err := OpenDir(t.TempDir(), o)
	must(t, err)
	defer d.Close()
	restore := func(offset int64, to func(r *Restorer) error) (aside error) {
		t.Helper()
		now = now.Add(60 * time.Hour)
		s, aside, err := d.Task(0)
		must(t, err)
		r := NewRestorer(s)
		must(t, r.Apply(fmt.Appendf(nil, "c-%d", offset), encodedRecord(1), offset))
		must(t, to(r))
		must(t, r.wait())
		must(t, s.Close())
		return aside
	}
	part := func(r *Restorer) error { return r.Checkpoint(0) }
	if aside := restore(3, part); aside != nil {
		t.Fatal(aside)
	}
	if aside := restore(4, part); aside != nil {
		t.Fatal(aside)
	}
	if aside := restore(5, part); !errors.Is(aside, ErrOld) {
		t.Errorf("a copy that was begun 120 h ago and never came to the end is used: %v", aside)
	}
	for i := range int64(3) {
		if aside := restore(6+i, func(r *Restorer) error { return r.Finish(7 + i) }); aside != nil {
			t.Errorf("a copy that was at the end 60 h ago is not used: %v", aside)
		}
	}
}

func TestAStoreThatEndsTheProcessIsSetAside(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	defer d.Close()
	s, _, err := d.Task(0)
	must(t, err)
	writeOne(t, s, 5)
	must(t, s.Close())
	attempt := filepath.Join(path, "partition-0"+attemptSuffix)
	for killed := 1; killed <= 3; killed++ {
		must(t, os.WriteFile(attempt, make([]byte, killed), 0o600)) // what a process leaves that dies at opening
		s, aside, err := d.Task(0)
		must(t, err)
		if gone := aside != nil; gone != (killed >= maxAttempts) {
			t.Errorf("killed %d times: set aside: %v", killed, aside)
		}
		if _, err := os.Stat(attempt); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("killed %d times: the attempt is still counted: %v", killed, err)
		}
		must(t, s.Close())
		if killed >= maxAttempts {
			return
		}
	}
}

// Openings that ended with the process say nothing of a store that was removed since.
func TestAStoreThatWasRemovedIsOpenedAnew(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	defer d.Close()
	must(t, os.WriteFile(filepath.Join(path, "partition-0"+attemptSuffix), make([]byte, maxAttempts), 0o600))
	s, aside, err := d.Task(0)
	if err != nil || aside != nil {
		t.Fatalf("%v, set aside: %v", err, aside)
	}
	must(t, s.Close())
}

func TestWantOfRoomIsNoDamage(t *testing.T) {
	path := t.TempDir()
	o := dirOptions()
	free := int64(10 << 30)
	o.Store.ReserveBytes, o.Store.Free = 1<<30, func(string) (int64, error) { return free, nil }
	d, err := OpenDir(path, o)
	must(t, err)
	defer d.Close()
	s, _, err := d.Task(0)
	must(t, err)
	writeOne(t, s, 5)
	must(t, s.Close())
	free = 1
	for range 4 {
		if _, aside, err := d.Task(0); aside != nil || !errors.Is(err, ErrDiskReserve) {
			t.Fatalf("set aside %v, error %v", aside, err)
		}
	}
	free = 10 << 30
	s, aside, err := d.Task(0)
	must(t, errors.Join(err, aside))
	defer s.Close()
	if p, _ := s.Position(); p != 5 {
		t.Errorf("position %d", p)
	}
}

func TestAStoreThatIsOpenIsNotSetAside(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	defer d.Close()
	s, _, err := d.Task(0)
	must(t, err)
	writeOne(t, s, 5)
	for range 4 {
		if _, aside, err := d.Task(0); aside != nil || !errors.Is(err, ErrLocked) {
			t.Fatalf("set aside %v, error %v", aside, err)
		}
	}
	writeOne(t, s, 6)
	must(t, s.Close())
}

// A store that does not open for a reason that hits an empty one too is put back.
func TestAGoodStoreIsPutBack(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	defer d.Close()
	s, _, err := d.Task(0)
	must(t, err)
	writeOne(t, s, 5)
	must(t, s.Close())
	good := d.o.Store
	d.o.Store.Free = func(string) (int64, error) { return 0, errors.New("unheard of") }
	d.o.Store.ReserveBytes = 1
	for range 2 {
		if _, aside, err := d.Task(0); aside != nil || err == nil {
			t.Fatalf("set aside %v, error %v", aside, err)
		}
	}
	d.o.Store = good
	s, aside, err := d.Task(0)
	must(t, errors.Join(err, aside))
	defer s.Close()
	if p, _ := s.Position(); p != 5 {
		t.Errorf("position %d", p)
	}
	if left, _ := filepath.Glob(filepath.Join(path, "*"+damagedSuffix+"*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestOnlyTheFilesCanBeDamaged(t *testing.T) {
	for _, err := range []error{errors.New("while opening: too many open files"), syscall.ENOSPC, syscall.EMFILE, &fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}} {
		if !environmental(err) {
			t.Errorf("%v would set a good store aside", err)
		}
	}
	if environmental(ErrCorrupt) || environmental(syscall.EIO) {
		t.Error("a store that cannot be read stays")
	}
}

func TestFreeBytes(t *testing.T) {
	if n, err := FreeBytes(t.TempDir()); n <= 0 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := FreeBytes(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing directory has free space")
	}
}

// TestMain runs the child process of the kill tests when told so.
func TestMain(m *testing.M) {
	if dir := os.Getenv("EBB_STATE_CHILD"); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

// reexec starts this test binary as the child that works in a directory.
func reexec(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "EBB_STATE_CHILD="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}
