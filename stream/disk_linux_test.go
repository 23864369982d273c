package stream_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"ebb/state"
	"ebb/stream"
	"ebb/stream/kafkatest"
)

// disk is a small file system of its own with the state directory of a world.
type disk struct {
	path    string
	ballast string
	dir     *state.Dir
}

const (
	diskBytes   = 96 << 20
	diskReserve = 24 << 20
)

func smallDisk(t *testing.T, w *world) *disk {
	t.Helper()
	d := &disk{path: t.TempDir()}
	d.ballast = filepath.Join(d.path, "ballast")
	if err := syscall.Mount("ebb-test", d.path, "tmpfs", 0, fmt.Sprintf("size=%d", diskBytes)); err != nil {
		t.Skipf("a disk of its own cannot be mounted: %v", err)
	}
	t.Cleanup(func() { // after the engines have ended, which were started later
		if err := errors.Join(d.dir.Close(), syscall.Unmount(d.path, 0)); err != nil {
			t.Error(err)
		}
	})
	var err error
	d.dir, err = state.OpenDir(filepath.Join(d.path, "state"), state.DirOptions{
		Cluster: "c", Group: w.group, Now: time.Now, Store: state.Options{MemtableBytes: 2 << 20, ReserveBytes: diskReserve},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.dir = d.dir
	return d
}

// fill takes all room but so many bytes.
func (d *disk) fill(t *testing.T, but int64) {
	t.Helper()
	free, err := d.dir.FreeBytes()
	if err == nil && free > but {
		err = os.WriteFile(d.ballast, make([]byte, free-but), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (d *disk) empty(t *testing.T) {
	t.Helper()
	if err := os.Remove(d.ballast); err != nil {
		t.Fatal(err)
	}
}

// While the disk is full nothing is written to it, that is said, the alerts go on, and once there is room the local copy catches up:
// in the middle of the work, at a start, and in the middle of a restore.
func TestFullDisk(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	d := smallDisk(t, w)
	w.adjust = func(c *stream.Config) {
		c.FlushAge = 50 * time.Millisecond
		c.Restore.Memory = 64 << 10
		c.Stall.Expected = 1e9
	}
	w.tick = hasty()
	events, end := history(43, 150)
	half := len(events) / 2
	c := &clock{}
	w.now = c.now
	w.produceAtOnce(c, events[:half])
	r := w.start()
	w.caughtUp()

	d.fill(t, diskReserve/2)
	w.produceAtOnce(c, events[half:])
	w.awaitOperations("disk_reserve", "fired")
	w.caughtUp()
	store := filepath.Join(d.path, "state", "partition-0")
	before := r.metric("ebb_state_flushed_customers_total")
	_, more := uses(w, 0, 5)
	w.produce(more)
	w.caughtUp()
	if after := r.metric("ebb_state_flushed_customers_total"); after != before {
		t.Errorf("%v customers were written to the local copy while the disk was full", after-before)
	}
	d.empty(t)
	w.awaitOperations("disk_reserve", "fired", "resolved")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	for name, room := range map[string]int64{"at a start": 1 << 20, "in the middle of a restore": diskReserve - 4<<20} {
		t.Run(name, func(t *testing.T) {
			if err := os.RemoveAll(store); err != nil {
				t.Fatal(err)
			}
			d.fill(t, room)
			r := w.start()
			kafkatest.Eventually(t, "it is said", func() error {
				if r.log.count("no room for the local state") == 0 {
					return errors.New("not yet")
				}
				return nil
			})
			if s := r.task(0); s.State == "running" || s.State == "stopped" {
				t.Errorf("the task is %s", s.State)
			}
			d.empty(t)
			w.settled(r)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
	cut := end - 3*3_600_000
	compareSteps(t, w.steps(cut), reference(events, cut))
}
