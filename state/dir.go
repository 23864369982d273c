package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Errors of OpenDir. Their messages say what to do.
var (
	// ErrLocked says that another process uses the state directory.
	ErrLocked = errors.New("state directory is in use")
	// ErrForeign says that the directory belongs to another cluster or group, or was written in a
	// format that this version does not know.
	ErrForeign = errors.New("state directory is foreign")
	// ErrOld says that a store was not written for so long that customers who were forgotten meanwhile may
	// be in it.
	ErrOld = errors.New("local state is too old")
	// ErrUnwritable says that the directory cannot be created or written.
	ErrUnwritable = errors.New("state directory cannot be written")
)

// dirFormat is the version of the layout below a state directory.
const dirFormat = 1

// DirOptions say whose state directory it is, and how its stores are opened.
type DirOptions struct {
	Cluster string // id of the Kafka cluster
	Group   string // consumer group
	Store   Options
	// Tasks is how many tasks the instance may come to own; 0 is 8. The memory of the stores' write
	// buffers is divided by it unless Store says how large they are.
	Tasks int
	// MaxAge is the age at which a store is thrown away and restored as a whole; 0 is 84 hours. It has to be
	// well below the changelog's delete.retention.ms (7 days as ebb sets it): the tombstones of
	// customers who were forgotten since disappear after that, and they would come back.
	MaxAge  time.Duration
	Now     func() time.Time // wall clock
	Metrics *Metrics         // may be nil
	Log     *slog.Logger     // for the stores' warnings; may be nil
}

// memtableBudget is the memory of all stores' write buffers; each store has up to three of its size.
const memtableBudget = 64 << 20

func (d *Dir) setDefaults() {
	o := &d.o
	if o.Tasks <= 0 {
		o.Tasks = 8
	}
	if o.MaxAge == 0 {
		o.MaxAge = 84 * time.Hour
	}
	if o.Store.MemtableBytes == 0 {
		o.Store.MemtableBytes = min(int64(memtableBudget/o.Tasks), 2*defaultMemtable)
	}
	if o.Store.Now == nil {
		o.Store.Now = o.Now
	}
	if o.Store.Log == nil {
		o.Store.Log = o.Log
	}
	o.Store.setDefaults()
}

// Dir is the state directory of one instance: a lock, an identity, and a store for every task. Safe
// for concurrent use.
type Dir struct {
	path   string
	o      DirOptions
	lock   *os.File
	forget func() // takes the metrics back; may be nil

	mu sync.Mutex
	id identity
}

// identity is the content of ebb.json.
type identity struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster"`
	Group   string `json:"group"`
	Member  string `json:"member,omitempty"` // group member id of the process that was here last
}

const (
	lockName     = "LOCK"
	identityName = "ebb.json"
)

// OpenDir creates or opens and locks a state directory. The error wraps ErrLocked, ErrForeign or
// ErrUnwritable.
func OpenDir(path string, o DirOptions) (*Dir, error) {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, unwritable(path, err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, o: o, lock: lock}
	if err := d.identify(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	d.setDefaults()
	if _, err := d.FreeBytes(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if m := d.o.Metrics; m != nil {
		d.forget = m.watchDisk(d.FreeBytes, d.o.Store.ReserveBytes)
	}
	return d, nil
}

func unwritable(path string, err error) error {
	return fmt.Errorf("%w: %s: %w; give the user that runs ebb the right to write there, or set another directory (state.dir)", ErrUnwritable, path, err)
}

// lockDir takes the lock and leaves the pid in it for the next one who wants it.
func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, unwritable(path, err)
	}
	held, err := lockFile(f)
	if held {
		pid := make([]byte, 32)
		n, _ := f.Read(pid)
		err = fmt.Errorf("%w: %s is locked by process %s; stop that process, or give this instance a directory of its own (state.dir)",
			ErrLocked, path, strings.TrimSpace(string(pid[:n])))
	} else if err == nil {
		err = writePid(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func writePid(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return unwritable(f.Name(), err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return unwritable(f.Name(), err)
	}
	return nil
}

// identify checks or writes whose directory it is.
func (d *Dir) identify() error {
	name := filepath.Join(d.path, identityName)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		d.id = identity{Format: dirFormat, Cluster: d.o.Cluster, Group: d.o.Group}
		return d.save()
	}
	if err != nil {
		return unwritable(d.path, err)
	}
	const mend = "set another directory (state.dir), or remove this one: it is rebuilt from the changelog"
	if err := json.Unmarshal(b, &d.id); err != nil {
		return fmt.Errorf("%w: %s cannot be read (%w); %s", ErrForeign, name, err, mend)
	}
	switch {
	case d.id.Format != dirFormat:
		return fmt.Errorf("%w: %s has format %d, this version of ebb knows %d; run the version that wrote it, or %s", ErrForeign, d.path, d.id.Format, dirFormat, mend)
	case d.id.Cluster != d.o.Cluster:
		return fmt.Errorf("%w: %s belongs to Kafka cluster %q, this is %q; %s", ErrForeign, d.path, d.id.Cluster, d.o.Cluster, mend)
	case d.id.Group != d.o.Group:
		return fmt.Errorf("%w: %s belongs to group %q, this is %q; %s", ErrForeign, d.path, d.id.Group, d.o.Group, mend)
	}
	return nil
}

// save replaces the identity file as a whole.
func (d *Dir) save() error {
	b, err := json.MarshalIndent(d.id, "", "  ")
	if err != nil {
		return fmt.Errorf("identity of %s: %w", d.path, err)
	}
	if err := replaceFile(filepath.Join(d.path, identityName), append(b, '\n')); err != nil {
		return unwritable(d.path, err)
	}
	return nil
}

// replaceFile writes a file so that after a crash it is the old or the new one.
func replaceFile(name string, b []byte) error {
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// MemberID is the group member id that the process before this one had, "" if there was none. It is
// surely dead: the directory was locked by it and is locked by us.
func (d *Dir) MemberID() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.id.Member
}

// RememberMember stores the group member id of this process.
func (d *Dir) RememberMember(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.id.Member == id {
		return nil
	}
	d.id.Member = id
	return d.save()
}

// FreeBytes is the free space on the disk of the directory.
func (d *Dir) FreeBytes() (int64, error) { return d.o.Store.Free(d.path) }

// Tasks are the partitions of which a local copy exists, in order.
func (d *Dir) Tasks() ([]int32, error) {
	list, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	var tasks []int32
	for _, e := range list {
		name, ok := strings.CutPrefix(e.Name(), taskPrefix)
		if n, err := strconv.ParseInt(name, 10, 32); ok && err == nil && e.IsDir() {
			tasks = append(tasks, int32(n))
		}
	}
	slices.Sort(tasks)
	return tasks, nil
}

// Positions are the changelog positions of the local copies, as far as is known without opening them: 0 where it is not.
func (d *Dir) Positions() (map[int32]int64, error) {
	tasks, err := d.Tasks()
	if err != nil {
		return nil, err
	}
	at := make(map[int32]int64, len(tasks))
	for _, p := range tasks {
		at[p] = 0
		b, err := os.ReadFile(filepath.Join(d.path, taskPrefix+strconv.Itoa(int(p)), positionName))
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && n > 0 {
			at[p] = n
		}
	}
	return at, nil
}

const (
	taskPrefix    = "partition-"
	damagedSuffix = ".damaged-"
	// attemptSuffix marks an opening that has not ended: Badger ends the process over some
	// damages, and so does a disk that runs full, before anybody could set the directory aside.
	attemptSuffix = ".opening"
	// maxAttempts is how many openings in a row may end with the process. One is nothing
	// unusual: any kill does it.
	maxAttempts = 2
)

// Task opens the store of a task, a new one if there is none. A store that does not open or is too old is set aside
// and an empty one returned; aside then says why and where it is. Where the disk is short of room, what was set aside
// before is deleted. The error is for what setting aside would not mend, a disk without room or without rights for example.
func (d *Dir) Task(partition int32) (s Store, aside, err error) {
	s, aside, err = d.open(partition)
	if !errors.Is(err, ErrDiskReserve) {
		return s, aside, err
	}
	if some, e := d.makeRoom(); e != nil || !some {
		return nil, nil, errors.Join(err, e)
	}
	return d.open(partition)
}

// open is Task with the room that there is.
func (d *Dir) open(partition int32) (s Store, aside, err error) {
	path := filepath.Join(d.path, taskPrefix+strconv.Itoa(int(partition)))
	attempts, err := countAttempt(path + attemptSuffix)
	if err != nil {
		return nil, nil, unwritable(d.path, err)
	}
	var cause error
	if _, err := os.Stat(path); attempts > maxAttempts && err == nil { // else there is nothing to set aside
		cause = fmt.Errorf("%w: the process ended %d times while opening it", ErrCorrupt, maxAttempts)
	} else {
		s, cause = OpenBadger(path, d.o.Store)
	}
	if cause == nil {
		s, cause = d.refuseOld(s)
	}
	if cause != nil {
		if environmental(cause) {
			return nil, nil, errors.Join(cause, os.Remove(path+attemptSuffix))
		}
		if s, aside, err = d.replace(path, cause); err != nil {
			return nil, nil, errors.Join(err, os.Remove(path+attemptSuffix))
		}
	}
	if err := os.Remove(path + attemptSuffix); err != nil {
		return nil, aside, errors.Join(unwritable(d.path, err), s.Close())
	}
	return s, aside, nil
}

// replace sets a store aside and opens an empty one. If that does not open either, the cause was
// none of the store's, and it is put back.
func (d *Dir) replace(path string, cause error) (s Store, aside, err error) {
	to := path + damagedSuffix + d.o.Now().UTC().Format("20060102T150405Z")
	if err := os.RemoveAll(to); err != nil {
		return nil, nil, fmt.Errorf("set aside %s: %w", path, errors.Join(cause, err))
	}
	if err := os.Rename(path, to); err != nil {
		return nil, nil, fmt.Errorf("set aside %s: %w", path, errors.Join(cause, err))
	}
	s, err = OpenBadger(path, d.o.Store)
	if err != nil {
		return nil, nil, errors.Join(cause, err, os.RemoveAll(path), os.Rename(to, path))
	}
	if err := keepOnly(path, to); err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return s, fmt.Errorf("%s set aside as %s: %w", path, to, cause), nil
}

// SetAside moves the store of a task, which must not be open, out of the way: reading it has shown that it is damaged.
func (d *Dir) SetAside(partition int32, cause error) error {
	path := filepath.Join(d.path, taskPrefix+strconv.Itoa(int(partition)))
	to := path + damagedSuffix + d.o.Now().UTC().Format("20060102T150405Z")
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("set aside %s: %w", path, errors.Join(cause, err))
	}
	if err := os.Rename(path, to); err != nil {
		return fmt.Errorf("set aside %s: %w", path, errors.Join(cause, err))
	}
	return keepOnly(path, to)
}

// makeRoom removes the damaged copies that were kept for whoever wants to look at them. It says whether there were any.
func (d *Dir) makeRoom() (bool, error) {
	damaged, err := named(d.path, func(name string) bool {
		return strings.HasPrefix(name, taskPrefix) && strings.Contains(name, damagedSuffix)
	})
	if err != nil {
		return false, fmt.Errorf("state directory: %w", err)
	}
	for _, path := range damaged {
		if err := os.RemoveAll(path); err != nil {
			return false, fmt.Errorf("state directory: %w", err)
		}
	}
	return len(damaged) > 0, nil
}

// named lists what is in a directory under a name that is wanted. filepath.Glob would take brackets in the name of the directory itself for a pattern.
func named(dir string, wanted func(name string) bool) (paths []string, err error) {
	list, err := os.ReadDir(dir)
	for _, e := range list {
		if wanted(e.Name()) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, err
}

// keepOnly removes what was set aside of a partition before.
func keepOnly(path, keep string) error {
	old, err := named(filepath.Dir(path), func(name string) bool { return strings.HasPrefix(name, filepath.Base(path)+damagedSuffix) })
	if err != nil {
		return fmt.Errorf("set aside %s: %w", path, err)
	}
	for _, o := range old {
		if o == keep {
			continue
		}
		if err := os.RemoveAll(o); err != nil {
			return fmt.Errorf("set aside %s: %w", path, err)
		}
	}
	return nil
}

// refuseOld closes a store that was not written for too long.
func (d *Dir) refuseOld(s Store) (Store, error) {
	written, err := s.Written()
	if err == nil && !written.IsZero() && d.o.Now().Sub(written) > d.o.MaxAge {
		err = fmt.Errorf("%w: last written %s ago", ErrOld, d.o.Now().Sub(written).Round(time.Hour))
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// countAttempt counts in a file how many openings in a row have not ended, this one included.
func countAttempt(name string) (int, error) {
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	n := len(b) + 1
	return n, os.WriteFile(name, make([]byte, n), 0o640)
}

// environmental says that an error comes from the machine and not from the files. Badger passes most
// causes on as text only, so the text is looked at as well; what is missed here, replace puts right.
func environmental(err error) bool {
	for _, e := range []error{ErrDiskReserve, ErrLocked, ErrUnwritable, fs.ErrPermission} {
		if errors.Is(err, e) {
			return true
		}
	}
	for _, e := range []syscall.Errno{
		syscall.EACCES, syscall.EPERM, syscall.ENOSPC, syscall.EDQUOT,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EROFS,
	} {
		if errors.Is(err, e) || strings.Contains(err.Error(), e.Error()) {
			return true
		}
	}
	return false
}

// Remove deletes the local copy of a task, which must not be open.
func (d *Dir) Remove(partition int32) error {
	if err := os.RemoveAll(filepath.Join(d.path, taskPrefix+strconv.Itoa(int(partition)))); err != nil {
		return fmt.Errorf("remove local state: %w", err)
	}
	return nil
}

// Close gives the directory free. The stores must be closed before.
func (d *Dir) Close() error {
	if d.forget != nil {
		d.forget()
	}
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}
