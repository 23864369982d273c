package app

import (
	"os"
	"path/filepath"
	"testing"
)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestFoldersOfKilledDemosAreRemovedAndNoOthers(t *testing.T) {
	root := t.TempDir()
	open := func() *demoFolder {
		t.Helper()
		d, err := openDemoFolder(root)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(d.path, "state", "0"), 0o700); err != nil {
			t.Fatal(err)
		}
		return d
	}
	alive, killed, over := open(), open(), open()
	killed.lock.Close() // as the end of its process does
	if err := over.remove(); err != nil || exists(over.path) {
		t.Errorf("a demo that is over left its folder: %v", err)
	}
	elsewhere := filepath.Join(t.TempDir(), "precious")
	foreign := filepath.Join(root, "ebb-demo-of-somebody-else")
	link := filepath.Join(root, "ebb-demo-link")
	other := filepath.Join(root, "ebb-state")
	for _, dir := range []string{elsewhere, foreign, other} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{elsewhere, other} { // these have an owner's file that nobody holds
		if err := os.WriteFile(filepath.Join(dir, ownerFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	if n := clearDemos(root); n != 1 || exists(killed.path) {
		t.Errorf("%d folders were removed, want the one of the killed demo", n)
	}
	for _, path := range []string{alive.path, filepath.Join(alive.path, "state"), foreign, link, elsewhere, filepath.Join(elsewhere, ownerFile), other} {
		if !exists(path) {
			t.Errorf("%s is gone", path)
		}
	}
	if n := clearDemos(root); n != 0 {
		t.Errorf("%d more were removed the second time", n)
	}
	if err := alive.remove(); err != nil {
		t.Error(err)
	}
}
