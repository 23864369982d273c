package state

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
)

// MemDisk is a disk in memory with a crash model, for simulated runs: what was written but
// not synced is lost in a crash, every transaction is synced before the next begins, and the
// process that was writing never learns how far it got. Safe for concurrent use.
type MemDisk struct {
	mu      sync.Mutex
	stores  map[int32]*memFile
	member  string
	life    int // counts the crashes; an engine of an earlier life is dead
	left    int // transactions until the crash; negative: none is planned
	synced  bool
	crashed bool
	dies    func() // told of the planned crash; nil: nobody
	keys    int    // of one transaction
	wait    func() // called before each transaction; nil: it takes no time
	full    bool
	open    map[int32]int // stores of this life, by partition
	twice   int
}

// memFile is what survives of one task's store.
type memFile struct {
	data map[string][]byte
	keys []string // sorted; rebuilt when a key comes or goes
}

// NewMemDisk returns an empty disk.
func NewMemDisk() *MemDisk {
	return &MemDisk{stores: map[int32]*memFile{}, left: -1, keys: txnKeys, open: map[int32]int{}}
}

// NewMemory opens the store of partition 0 on a disk in memory.
func NewMemory(disk *MemDisk) Store {
	s, _, err := disk.Task(0)
	if err != nil {
		panic("state: memory store: " + err.Error()) // only its own entries can be wrong
	}
	return s
}

// Task opens the store of a task, which holds what was synced before. Nothing is ever set aside.
func (d *MemDisk) Task(partition int32) (s Store, aside, err error) {
	d.mu.Lock()
	if d.stores[partition] == nil {
		d.stores[partition] = &memFile{data: map[string][]byte{}}
	}
	e := &memEngine{disk: d, partition: partition, life: d.life}
	if d.open[partition]++; d.open[partition] > 1 {
		d.twice++
	}
	d.mu.Unlock()
	s, err = openStore(e, nil)
	return s, nil, err
}

// SetAside empties the store of a task.
func (d *MemDisk) SetAside(partition int32, _ error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.stores, partition)
	return nil
}

// Overlaps is how often a store was opened while another of the same partition was open in the same life. Badger would refuse it; here both
// may write, each over the other's values.
func (d *MemDisk) Overlaps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.twice
}

// MemberID is the group member id that was remembered last.
func (d *MemDisk) MemberID() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.member
}

// RememberMember keeps the group member id of the process.
func (d *MemDisk) RememberMember(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.member = id
	return nil
}

// Tasks are the partitions of which a copy exists, in order.
func (d *MemDisk) Tasks() ([]int32, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.stores)), nil
}

// Positions are the changelog positions of the copies, 0 for one that holds nothing.
func (d *MemDisk) Positions() (map[int32]int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := make(map[int32]int64, len(d.stores))
	for p, f := range d.stores {
		at[p] = 0
		if b := f.data[string(prefixMeta)+metaPosition]; len(b) == 8 {
			at[p] = int64(binary.BigEndian.Uint64(b))
		}
	}
	return at, nil
}

// Shape makes a disk of another kind: a transaction holds so many keys at most, from 1 to 1000, and before each one wait is called, which
// may take its time; nil is none.
func (d *MemDisk) Shape(keys int, wait func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys, d.wait = min(max(keys, 1), txnKeys), wait
}

// Fill says that the disk is down to its reserve, or not any more.
func (d *MemDisk) Fill(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// Crash ends the life of every open store: its calls return ErrClosed from now on. Stores opened
// afterwards see what was synced.
func (d *MemDisk) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crash()
}

func (d *MemDisk) crash() {
	d.life++
	clear(d.open)
	d.left = -1
	d.crashed = true
	d.dies = nil
}

// CrashIn plans a crash at the n-th transaction from now (1 is the next one): when it is written but
// not synced, so that it is lost, or right after it was synced but before
// the writer hears of it.
func (d *MemDisk) CrashIn(n int, synced bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.synced, d.crashed = n, synced, false
}

// WhenCrashed has f called, once, at the moment of the planned crash and before the writer hears of it, so that the rest of the
// process can end with its disk. f must not use the disk.
func (d *MemDisk) WhenCrashed(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dies = f
}

// Crashed says whether the planned crash has happened.
func (d *MemDisk) Crashed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.crashed
}

type memEngine struct {
	disk      *MemDisk
	partition int32
	life      int
	closed    bool
}

var _ engine = (*memEngine)(nil)

// file returns the live content; call with the disk locked.
func (e *memEngine) file() (*memFile, error) {
	if e.closed || e.life != e.disk.life {
		return nil, ErrClosed
	}
	return e.disk.stores[e.partition], nil
}

func (e *memEngine) get(dst, key []byte) ([]byte, error) {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	f, err := e.file()
	if err != nil {
		return dst, err
	}
	v, ok := f.data[string(key)]
	if !ok {
		return dst, ErrNotFound
	}
	return append(dst, v...), nil
}

func (e *memEngine) scan(prefix, from []byte, values bool, fn func(key, value []byte) error) error {
	e.disk.mu.Lock()
	f, err := e.file()
	if err != nil {
		e.disk.mu.Unlock()
		return err
	}
	var found []op // a snapshot, as in Badger; fn may call the store
	keys := f.sorted()
	for i := sort.SearchStrings(keys, string(from)); i < len(keys) && strings.HasPrefix(keys[i], string(prefix)); i++ {
		found = append(found, op{[]byte(keys[i]), f.data[keys[i]]})
	}
	e.disk.mu.Unlock()
	for _, o := range found {
		if !values {
			o.value = nil
		}
		if err := fn(o.key, o.value); err != nil {
			return err
		}
	}
	return nil
}

func (f *memFile) sorted() []string {
	if f.keys == nil {
		f.keys = slices.Sorted(maps.Keys(f.data))
	}
	return f.keys
}

func (e *memEngine) commit(ops []op) error {
	e.disk.mu.Lock()
	wait := e.disk.wait
	e.disk.mu.Unlock()
	if wait != nil {
		wait()
	}
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	f, err := e.file()
	if err != nil {
		return err
	}
	d := e.disk
	if d.left > 0 {
		d.left--
	}
	if d.left == 0 {
		if d.synced {
			f.apply(ops)
		}
		if d.dies != nil {
			d.dies()
		}
		d.crash()
		return ErrClosed
	}
	f.apply(ops)
	return nil
}

// bulk writes in portions, so that a crash may come between any two.
func (e *memEngine) bulk(each func(add func(key, value []byte) error) error) error {
	if err := e.wipe(); err != nil {
		return err
	}
	var ops []op
	last := ""
	err := each(func(key, value []byte) error {
		if string(key) <= last {
			return fmt.Errorf("%w: key %q after %q", ErrCorrupt, key, last)
		}
		last = string(key)
		ops = append(ops, op{slices.Clone(key), slices.Clone(value)})
		if most, _ := e.limits(); len(ops) < most {
			return nil
		}
		err := e.commit(ops)
		ops = ops[:0]
		return err
	})
	if err != nil {
		return err
	}
	return e.commit(ops)
}

func (e *memEngine) wipe() error {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	f, err := e.file()
	if err != nil {
		return err
	}
	clear(f.data)
	f.keys = nil
	return nil
}

func (f *memFile) apply(ops []op) {
	for _, o := range ops {
		_, had := f.data[string(o.key)]
		if o.value == nil {
			delete(f.data, string(o.key))
		} else {
			f.data[string(o.key)] = slices.Clone(o.value)
		}
		if had != (o.value != nil) {
			f.keys = nil
		}
	}
}

func (e *memEngine) note(int64) {} // MemDisk.Positions reads the store itself

func (e *memEngine) limits() (int, int64) {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	return e.disk.keys, 1 << 20
}

func (e *memEngine) room() error {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	if e.disk.full {
		return ErrDiskReserve
	}
	return nil
}

func (e *memEngine) size() int64 {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	var n int64
	for k, v := range e.disk.stores[e.partition].data {
		n += int64(len(k) + len(v))
	}
	return n
}

func (e *memEngine) close() error {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	if !e.closed && e.life == e.disk.life {
		e.disk.open[e.partition]--
	}
	e.closed = true
	return nil
}
