package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// damages are what happens to files.
var damages = map[string]func(b []byte) []byte{
	"cut off in the middle": func(b []byte) []byte { return b[:len(b)/2] },
	"empty":                 func([]byte) []byte { return nil },
	"a bit flipped":         func(b []byte) []byte { return flipped(b, len(b)/2) },
	"a bit flipped at the beginning": func(b []byte) []byte {
		return flipped(b, min(40, len(b)-1))
	},
	"zeros in the middle": func(b []byte) []byte {
		c := bytes.Clone(b)
		clear(c[len(c)/3 : len(c)/2])
		return c
	},
	"rubbish":                  func(b []byte) []byte { return bytes.Repeat([]byte("rubbish "), len(b)/8+1) },
	"rubbish at the beginning": func(b []byte) []byte { return overwritten(b, 10) },
	"rubbish in the middle":    func(b []byte) []byte { return overwritten(b, len(b)/2) },
	"removed":                  nil,
}

func flipped(b []byte, i int) []byte {
	c := bytes.Clone(b)
	if len(c) > 0 {
		c[i] ^= 0x10
	}
	return c
}

// overwritten has more than a block of rubbish in it: the end of a block, which says how it is to be read, is hit surely.
func overwritten(b []byte, at int) []byte {
	c := bytes.Clone(b)
	copy(c[min(at, len(c)):], bytes.Repeat([]byte("\xf3rubbish"), 1000))
	return c
}

// Whatever file of a store is damaged in whatever way: the store is set aside when it is opened, or says so when it is read, or what it
// has is right up to the position that it tells. It never tells something wrong, and never ends the process.
func TestDamagedFilesAreNoticed(t *testing.T) {
	const customers = 3000
	good := t.TempDir()
	s, err := OpenBadger(good, Options{MemtableBytes: minMemtable})
	must(t, err)
	must(t, restoredOf(t, s, 0, customers, customers).writeTo(s, nil))
	must(t, s.Close())
	s, err = OpenBadger(good, Options{MemtableBytes: minMemtable})
	must(t, err)
	b := &Batch{} // in the log, not in a table yet
	for i := range int64(500) {
		b.Set(fmt.Sprintf("c-%05d", i), encodedRecord(i))
	}
	b.SetPosition(customers + 1)
	must(t, s.Write(b))
	crashed := t.TempDir()
	copyDir(t, good, crashed)
	must(t, s.Close())

	files, err := os.ReadDir(crashed)
	must(t, err)
	kinds := map[string]bool{}
	for _, f := range files {
		if f.Name() == "LOCK" || f.Name() == positionName {
			continue
		}
		kinds[filepath.Ext(f.Name())] = true
		for what, damage := range damages {
			t.Run(f.Name()+" "+what, func(t *testing.T) {
				t.Parallel()
				path := t.TempDir()
				d := openDir(t, path)
				defer d.Close()
				copyDir(t, crashed, filepath.Join(path, "partition-0"))
				name := filepath.Join(path, "partition-0", f.Name())
				content, err := os.ReadFile(name)
				must(t, err)
				if must(t, os.Remove(name)); damage != nil {
					must(t, os.WriteFile(name, damage(content), 0o600))
				}
				openDamaged(t, d, customers)
			})
		}
	}
	for _, kind := range []string{".sst", ".mem", ".vlog", ""} {
		if !kinds[kind] {
			t.Errorf("no file of kind %q was damaged: %v", kind, files)
		}
	}
}

func openDamaged(t *testing.T, d *Dir, customers int64) {
	t.Helper()
	for range 3 {
		s, aside, err := d.Task(0)
		must(t, err)
		position, err := s.Position()
		if err == nil && aside == nil && position >= customers {
			err = s.Scan(func(id, value []byte) error {
				var i int64
				if _, e := fmt.Sscanf(string(id), "c-%d", &i); e != nil || !bytes.Equal(value, encodedRecord(i)) {
					t.Errorf("%q has a value of %d bytes that was never written", id, len(value))
				}
				return nil
			})
			for i := int64(0); i < customers && err == nil; i++ {
				if _, err = s.Get(nil, fmt.Appendf(nil, "c-%05d", i)); errors.Is(err, ErrNotFound) {
					t.Errorf("at position %d customer %d is missing", position, i)
				}
			}
		}
		must(t, s.Close())
		if err == nil {
			return
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("damage is told as %v", err)
		}
		must(t, d.SetAside(0, err))
	}
	t.Error("damaged again and again")
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.CopyFS(to, os.DirFS(from)))
}

// What was set aside goes when the room is needed to build the copy anew.
func TestWhatWasSetAsideMakesRoom(t *testing.T) {
	path := t.TempDir()
	o := dirOptions()
	free := int64(1 << 40)
	o.Store.ReserveBytes = 1 << 30
	o.Store.Free = func(string) (int64, error) {
		if kept, _ := filepath.Glob(filepath.Join(path, "*"+damagedSuffix+"*")); len(kept) == 0 {
			return 1 << 40, nil
		}
		return free, nil
	}
	d, err := OpenDir(path, o)
	must(t, err)
	defer d.Close()
	s, _, err := d.Task(0)
	must(t, err)
	must(t, s.Close())
	must(t, d.SetAside(0, io.ErrUnexpectedEOF))
	free = 1 << 10
	s, aside, err := d.Task(0)
	if err != nil || aside != nil {
		t.Fatalf("with no room but that of a damaged copy: %v, %v", aside, err)
	}
	must(t, s.Close())
	kept, err := os.ReadDir(path)
	must(t, err)
	for _, f := range kept {
		if strings.Contains(f.Name(), damagedSuffix) {
			t.Errorf("%s is kept on a full disk", f.Name())
		}
	}
}
