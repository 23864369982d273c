//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// disk is a small file system of its own for the state directory of one instance, which a fault fills up.
type disk struct{ dir string }

const (
	diskSize = 320 << 20
	ballast  = "ballast" // the file that fills the disk
)

// mountDisk makes it in an empty folder. It needs the right to mount, which root has.
func mountDisk(dir string) (*disk, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("mounting a file system needs root")
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize)); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	return &disk{dir: dir}, nil
}

func (d *disk) unmount() { _ = syscall.Unmount(d.dir, syscall.MNT_DETACH) }

// fill leaves so many bytes free.
func (d *disk) fill(leave int64) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &s); err != nil {
		return err
	}
	free := int64(s.Bavail)*s.Bsize - leave
	if free <= 0 {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(d.dir, ballast), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return syscall.Fallocate(int(f.Fd()), 0, 0, free)
}

// free gives the room back.
func (d *disk) free() error {
	err := os.Remove(filepath.Join(d.dir, ballast))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
