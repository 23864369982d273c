package app

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// demoFolders are the folders of demos: what is in them is of use to nobody once the demo that made it is over.
const demoFolders = "ebb-demo-*"

// ownerFile is locked for as long as the demo lives that made the folder around it. The lock ends with the process, however that ends.
const ownerFile = "owner"

// demoFolder is a demo's own folder.
type demoFolder struct {
	path string
	lock *os.File
}

// openDemoFolder makes a folder below root that clearDemos leaves alone until remove, or the end of the process.
func openDemoFolder(root string) (*demoFolder, error) {
	path, err := os.MkdirTemp(root, demoFolders)
	if err != nil {
		return nil, err
	}
	// Under its name the file is locked from the first moment on.
	unnamed := filepath.Join(path, "."+ownerFile)
	f, err := os.OpenFile(unnamed, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = os.Rename(unnamed, filepath.Join(path, ownerFile))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.RemoveAll(path))
	}
	return &demoFolder{path: path, lock: f}, nil
}

// remove ends the folder with all that is in it.
func (d *demoFolder) remove() error {
	return errors.Join(os.RemoveAll(d.path), d.lock.Close())
}

// clearDemos removes the folders below root whose demos were killed, and returns how many. What has no owner's file, or one that is locked or that this user may not
// write, is left alone.
func clearDemos(root string) int {
	paths, err := filepath.Glob(filepath.Join(root, demoFolders))
	if err != nil {
		return 0
	}
	n := 0
	for _, path := range paths {
		if clearDemo(path) {
			n++
		}
	}
	return n
}

func clearDemo(path string) bool {
	if info, err := os.Lstat(path); err != nil || !info.IsDir() {
		return false
	}
	f, err := os.OpenFile(filepath.Join(path, ownerFile), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	return os.RemoveAll(path) == nil
}
