package state

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"
)

// Options are those of one task's store. The budgets are per store: an instance divides its own
// by the number of tasks.
type Options struct {
	// MemtableBytes is the size of one of Badger's two write buffers, from 2 MiB to
	// 64 MiB; 0 is 8 MiB. Smaller buffers write more to the disk. A customer
	// record must fit in 15 % of it.
	MemtableBytes int64
	// ReserveBytes is the free disk space below which nothing is written; 0 turns the
	// check off.
	ReserveBytes int64
	// Free says how many bytes are free on the disk of a directory; nil is FreeBytes.
	Free func(dir string) (int64, error)
	// Now is the wall clock that Store.Written tells; nil leaves it unknown.
	Now func() time.Time
	// Log takes Badger's warnings and errors; nil drops them.
	Log *slog.Logger
}

// Bounds of Options.MemtableBytes.
const (
	minMemtable     = 2 << 20
	defaultMemtable = 8 << 20
	maxMemtable     = 64 << 20
)

func (o *Options) setDefaults() {
	if o.MemtableBytes == 0 {
		o.MemtableBytes = defaultMemtable
	}
	o.MemtableBytes = min(max(o.MemtableBytes, minMemtable), maxMemtable)
	if o.Free == nil {
		o.Free = FreeBytes
	}
}

// OpenBadger opens or creates the store in a directory. The error wraps ErrDiskReserve when the
// disk has less room than opening needs.
//
// Badger is opened with SyncWrites: DB.Sync is no barrier there, it leaves buffers that were
// rotated away unsynced. Values stay in the LSM tree, so the value log needs no garbage
// collection, and blocks are read through the memory map, so there is no block cache.
func OpenBadger(dir string, o Options) (Store, error) {
	o.setDefaults()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, unwritable(dir, err)
	}
	if err := notInUse(dir); err != nil {
		return nil, err
	}
	if err := roomToOpen(dir, &o); err != nil {
		return nil, err
	}
	db, err := openBadgerDB(badgerOptions(dir, &o))
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	s, err := openStore(&badgerEngine{db: db, dir: dir, o: o}, o.Now)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", dir, err), db.Close())
	}
	return s, nil
}

// notInUse says ErrLocked when the store is open already, here or in another process. Badger would say so
// too, but in words that cannot be told from damage.
func notInUse(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return unwritable(dir, err)
	}
	held, err := lockFile(f)
	if held {
		err = fmt.Errorf("%w: store %s is open already", ErrLocked, dir)
	}
	return errors.Join(err, f.Close())
}

// openBadgerDB turns a panic over damaged files into an error.
func openBadgerDB(o badger.Options) (db *badger.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: Badger panicked: %v", ErrCorrupt, r)
		}
	}()
	if err := checkTables(o.Dir, o); err != nil {
		return nil, err
	}
	return badger.Open(o)
}

func badgerOptions(dir string, o *Options) badger.Options {
	b := badger.DefaultOptions(dir).
		WithLogger(nil).
		WithSyncWrites(true).
		WithMemTableSize(o.MemtableBytes).
		// The tables of the lowest level are 32 times as large, and each is built in memory: with many tasks they have to be small.
		WithBaseTableSize(min(max(o.MemtableBytes/8, 256<<10), 2<<20)).
		WithNumMemtables(2).
		WithNumCompactors(2).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0). // used by Badger for encrypted tables only
		WithValueThreshold(min(512<<10, o.MemtableBytes*14/100)).
		WithValueLogFileSize(16 << 20).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		// checkTables has verified every table before Badger opens it: where a block cannot be read later, Badger says that there is no such
		// key, and its own verification ends the process over some.
		WithChecksumVerificationMode(options.NoVerification).
		WithMetricsEnabled(false)
	if o.Log != nil {
		b = b.WithLogger(badgerLog{o.Log})
	}
	return b
}

// roomToOpen refuses to open where recovery could fill the disk: it may write out two
// buffers and begin a third. It asks for less than the reserve, so that a task can
// go on reading while the reserve is in force.
func roomToOpen(dir string, o *Options) error {
	if o.ReserveBytes == 0 {
		return nil
	}
	need := min(o.ReserveBytes, 4*o.MemtableBytes)
	free, err := o.Free(dir)
	if err != nil {
		return fmt.Errorf("open store %s: %w", dir, err)
	}
	if free < need {
		return fmt.Errorf("open store %s: %w: %d MB free, %d MB needed to open", dir, ErrDiskReserve, free>>20, need>>20)
	}
	return nil
}

type badgerEngine struct {
	db  *badger.DB
	dir string
	o   Options
}

var _ engine = (*badgerEngine)(nil)

func (e *badgerEngine) get(dst, key []byte) (_ []byte, err error) {
	defer reading(&err, new(bool))()
	txn := e.db.NewTransaction(false)
	defer txn.Discard()
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return dst, ErrNotFound
	}
	if err != nil {
		return dst, unread(err)
	}
	err = item.Value(func(v []byte) error {
		dst = append(dst, v...)
		return nil
	})
	if err != nil {
		return dst, unread(err)
	}
	return dst, nil
}

// reading makes damaged files an error: Badger panics over some, and one that was cut off faults where it is mapped into memory.
// What panics while outside is set is not the store's.
func reading(err *error, outside *bool) func() {
	was := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(was)
		if *outside {
			return
		}
		if r := recover(); r != nil {
			*err = fmt.Errorf("read store: %w: Badger panicked: %v", ErrCorrupt, r)
		}
	}
}

// unread says what an error of reading means: the files are not what was written, unless it is the machine's fault.
func unread(err error) error {
	if environmental(err) || errors.Is(err, badger.ErrDBClosed) {
		return fmt.Errorf("read store: %w", err)
	}
	return fmt.Errorf("read store: %w: %w", ErrCorrupt, err)
}

func (e *badgerEngine) scan(prefix, from []byte, values bool, fn func(key, value []byte) error) error {
	var mine error // of fn, which is none of the store's
	var outside bool
	err := e.walk(prefix, from, values, &outside, func(key, value []byte) error {
		outside = true
		mine = fn(key, value)
		outside = false
		return mine
	})
	if err == nil || mine != nil {
		return mine
	}
	return unread(err)
}

func (e *badgerEngine) walk(prefix, from []byte, values bool, outside *bool, fn func(key, value []byte) error) (err error) {
	defer reading(&err, outside)()
	txn := e.db.NewTransaction(false)
	defer txn.Discard()
	// Values lie beside the keys; prefetching them in goroutines costs a third of the speed.
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Seek(from); it.Valid(); it.Next() {
		item := it.Item()
		var err error
		if values {
			err = item.Value(func(v []byte) error { return fn(item.Key(), v) })
		} else {
			err = fn(item.Key(), nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *badgerEngine) commit(ops []op) error {
	txn := e.db.NewTransaction(true)
	defer txn.Discard()
	for _, o := range ops {
		var err error
		if o.value == nil {
			err = txn.Delete(o.key)
		} else {
			err = txn.Set(o.key, o.value)
		}
		if err != nil {
			return fmt.Errorf("write store: %w", err)
		}
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("write store: %w", err)
	}
	return nil
}

// bulkStream is the size at which keys are handed to Badger's writer of sorted tables.
const bulkStream = 1 << 20

// bulk builds Badger's tables directly at the lowest level: nothing passes through buffers or compactions.
func (e *badgerEngine) bulk(each func(add func(key, value []byte) error) error) error {
	w := e.db.NewStreamWriter()
	if err := w.Prepare(); err != nil {
		w.Cancel()
		return fmt.Errorf("write store: %w", err)
	}
	buf := z.NewBuffer(bulkStream+bulkStream/4, "ebb")
	defer func() { _ = buf.Release() }()
	send := func() error {
		err := w.Write(buf)
		buf.Reset()
		return err
	}
	kv := pb.KV{Version: 1, StreamId: 1}
	err := each(func(key, value []byte) error {
		kv.Key, kv.Value = key, value
		badger.KVToBuffer(&kv, buf)
		if buf.LenNoPadding() < bulkStream {
			return nil
		}
		return send()
	})
	if err == nil {
		err = send()
	}
	if err != nil {
		w.Cancel()
		return fmt.Errorf("write store: %w", err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write store: %w", err)
	}
	return nil
}

// limits stays below what Badger accepts (it counts a few bytes more for a key than we do).
func (e *badgerEngine) limits() (int, int64) {
	return int(e.db.MaxBatchCount() * 9 / 10), e.db.MaxBatchSize() * 9 / 10
}

// room is asked before each transaction: a full disk is no error in Badger but the end of
// the process, by a signal from its memory maps.
func (e *badgerEngine) room() error {
	if e.o.ReserveBytes == 0 {
		return nil
	}
	free, err := e.o.Free(e.dir)
	if err != nil {
		return fmt.Errorf("write store: %w", err)
	}
	if free < e.o.ReserveBytes {
		return fmt.Errorf("write store: %w: %d MB free, %d MB reserved", ErrDiskReserve, free>>20, e.o.ReserveBytes>>20)
	}
	return nil
}

// positionName is a file beside Badger's own.
const positionName = "ebb-position"

func (e *badgerEngine) note(position int64) {
	name := filepath.Join(e.dir, positionName)
	if err := os.WriteFile(name, []byte(strconv.FormatInt(position, 10)+"\n"), 0o640); err != nil && e.o.Log != nil {
		e.o.Log.Debug("the position of a local copy could not be noted", "err", err)
	}
}

func (e *badgerEngine) size() int64 {
	lsm, vlog := e.db.Size()
	return lsm + vlog
}

func (e *badgerEngine) close() error {
	if err := e.db.Close(); err != nil {
		return fmt.Errorf("close store %s: %w", e.dir, err)
	}
	return nil
}

// badgerLog passes Badger's warnings and errors on; the rest is chatter.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(format string, args ...any) {
	l.log.Error("badger", "message", fmt.Sprintf(format, args...))
}

func (l badgerLog) Warningf(format string, args ...any) {
	l.log.Warn("badger", "message", fmt.Sprintf(format, args...))
}
func (l badgerLog) Infof(string, ...any)  {}
func (l badgerLog) Debugf(string, ...any) {}
