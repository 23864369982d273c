package state

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"ebb/state/customer"
)

// Errors of the store and of the state directory.
var (
	// ErrNotFound says that the store holds no such customer or value.
	ErrNotFound = errors.New("state: not found")
	// ErrDiskReserve says that the disk's free space is below the reserve, so that
	// nothing was written. The same batch may be written later.
	ErrDiskReserve = errors.New("state: free disk space is below the reserve")
	// ErrClosed says that the store or the table was closed.
	ErrClosed = errors.New("state: closed")
	// ErrCorrupt says that the store's own entries cannot be read. The store has to be
	// set aside and restored from the changelog.
	ErrCorrupt = errors.New("state: local store is damaged")
)

// HourMillis is the width of a timer bucket in milliseconds of event time.
const HourMillis = 3_600_000

// NoHour is later than every timer bucket.
const NoHour = math.MaxInt64

// Hour is the number of the timer bucket that holds t, in hours since 1970. Times before
// 1970 share bucket 0.
func Hour(t int64) int64 {
	return max(t, 0) / HourMillis
}

// Store is the local copy of one task's changelog.
//
// One goroutine owns a store; only Write may be called by a second one, the flusher, while
// the owner reads. Get, Meta, Due and Scan see whole transactions of a concurrent Write, but
// perhaps not all of them.
type Store interface {
	// Get appends the record of a customer to dst, or returns ErrNotFound.
	Get(dst, id []byte) ([]byte, error)
	// Write applies a batch: in several transactions if it is large, each durable
	// when the next begins, the position in the last one. After an error part of the
	// batch may be there; writing the same batch, or a newer one, again is safe.
	Write(b *Batch) error
	// Position is the offset of the changelog from which to replay: every committed
	// change below it is in the store. It is 0 for an empty store.
	Position() (int64, error)
	// Meta returns a small named value, nil when there is none.
	Meta(name string) ([]byte, error)
	// Due calls fn for the timer entries of the buckets from hour on, in the order of the
	// hours, whole buckets until at least limit entries were seen. It returns
	// the first bucket that was not looked at, NoHour when there is none.
	// Entries may be stale or repeated. The id is valid during the call.
	Due(hour int64, limit int, fn func(at int64, id []byte) error) (next int64, err error)
	// Scan calls fn for every customer, in no order that can be relied on. Both slices are valid
	// during the call. An error of fn ends the scan and is returned.
	Scan(fn func(id, value []byte) error) error
	// Written is the wall-clock time of the newest Write that set the position, zero when unknown. Those of a restore that has not come to the end of the changelog do not count, but for
	// the first one of an empty store.
	Written() (time.Time, error)
	// Size is the approximate size on disk in bytes.
	Size() int64
	// Close waits for a Write to end at its next transaction and closes the store.
	Close() error
}

// Timer says that a customer wants to be looked at at a time (Unix ms, event time).
type Timer struct {
	At int64
	ID string
}

// Batch is a set of changes for Store.Write. A customer may be named once. The zero value is
// empty and ready for use. The slices given to it must not change until Write returned.
type Batch struct {
	customers []customerOp
	timers    []Timer
	meta      []metaOp
	dropBelow int64 // timer buckets before this hour are removed
	position  int64 // counts if moved
	moved     bool
	behind    bool            // the position is one that a restore has come to, and not the end
	arms      bool            // the values say themselves when they are armed
	quit      <-chan struct{} // closed: stop at the next transaction; may be nil
}

type customerOp struct {
	id    string
	value []byte // nil: delete
}

type metaOp struct {
	name  string
	value []byte
}

// Set stores the record of a customer; a nil value removes the customer.
func (b *Batch) Set(id string, value []byte) {
	b.customers = append(b.customers, customerOp{id, value})
}

// Arm adds a timer entry.
func (b *Batch) Arm(at int64, id string) { b.timers = append(b.timers, Timer{at, id}) }

// DropDue removes the timer buckets before an hour as they were before the batch.
func (b *Batch) DropDue(below int64) { b.dropBelow = max(b.dropBelow, below) }

// SetMeta stores a small named value with the position.
func (b *Batch) SetMeta(name string, value []byte) { b.meta = append(b.meta, metaOp{name, value}) }

// SetPosition says that with this batch the store holds every change below the offset.
func (b *Batch) SetPosition(next int64) { b.position, b.moved = next, true }

// Len is the number of customers and timer entries in the batch.
func (b *Batch) Len() int { return len(b.customers) + len(b.timers) }

// Empty says that writing the batch would change nothing.
func (b *Batch) Empty() bool {
	return b.Len() == 0 && len(b.meta) == 0 && b.dropBelow == 0 && !b.moved
}

// engine is an ordered key-value store with durable transactions: Badger, or memory with
// a crash model. It is what lets the crash tests run the very code that Badger runs under.
type engine interface {
	get(dst, key []byte) ([]byte, error) // ErrNotFound
	// scan goes through the keys with the prefix, from a key on, in order.
	scan(prefix, from []byte, values bool, fn func(key, value []byte) error) error
	// commit writes one transaction and returns when it is durable.
	commit(ops []op) error
	// bulk replaces the whole content by what each adds, in the order of the keys. After an error, or a crash,
	// part of it may be there. Nothing may be read meanwhile.
	bulk(each func(add func(key, value []byte) error) error) error
	// limits of one transaction.
	limits() (keys int, bytes int64)
	// note leaves the position where it can be read without opening the store. It is a hint, and may be lost.
	note(position int64)
	// room says ErrDiskReserve when nothing may be written.
	room() error
	size() int64
	close() error
}

// op is one change of a transaction; a nil value deletes the key.
type op struct{ key, value []byte }

// Key prefixes and names of the small values that the store keeps itself.
const (
	prefixCustomer = 'c'
	prefixTimer    = 't'
	prefixMeta     = 'm'

	// MetaTask is the name under which the last task record is kept.
	MetaTask = "task"

	metaPosition = "position"
	metaEpoch    = "epoch"
	metaFloor    = "timer-floor"
	metaWritten  = "written"

	// txnKeys is the number of keys of a transaction: large enough to share its sync, small
	// enough to go into a memtable beside others and not to hold up a reader.
	txnKeys = 1000
	// chunkBytes bounds one piece of a timer bucket.
	chunkBytes = 16 << 10
)

// localStore is the one Store: key layout, cutting into transactions, position last.
type localStore struct {
	db    engine
	floor atomic.Int64 // no bucket lies before this hour
	stop  atomic.Bool  // Close was called
	now   func() time.Time

	writing turn   // had by Write and fill; guards what follows
	highest int64  // what the floor in the engine may be: more than floor where a write did not end
	epoch   uint32 // counts the openings that wrote timers: makes the keys of pieces unique
	piece   uint32 // next piece of this opening
	begun   bool   // the epoch is in the store
	ops     []op
	arena   []byte
}

// turn is had by one goroutine at a time, like a mutex. Who waits for it waits on a channel: a write may take seconds, and in a synctest bubble,
// where only those who wait on channels and timers count as waiting, time would stand still for as long as somebody waits for a mutex.
type turn chan struct{}

func newTurn() turn  { return make(turn, 1) }
func (t turn) take() { t <- struct{}{} }
func (t turn) give() { <-t }

// openStore prepares an engine that was just opened.
func openStore(db engine, now func() time.Time) (*localStore, error) {
	s := &localStore{db: db, now: now, writing: newTurn()}
	epoch, err := s.number(metaEpoch)
	if err != nil {
		return nil, err
	}
	floor, err := s.number(metaFloor)
	if err != nil {
		return nil, err
	}
	s.floor.Store(floor)
	s.highest = floor
	s.epoch = uint32(epoch + 1)
	return s, nil
}

// number reads a small value that is a number, 0 when it is not there.
func (s *localStore) number(name string) (int64, error) {
	v, err := s.Meta(name)
	switch {
	case err != nil:
		return 0, err
	case v == nil:
		return 0, nil
	case len(v) != 8:
		return 0, fmt.Errorf("%w: value %q has %d bytes instead of 8", ErrCorrupt, name, len(v))
	}
	return int64(binary.BigEndian.Uint64(v)), nil
}

func (s *localStore) Get(dst, id []byte) ([]byte, error) {
	var buf [64]byte
	key := append(append(buf[:0], prefixCustomer), id...)
	return s.db.get(dst, key)
}

func (s *localStore) Meta(name string) ([]byte, error) {
	v, err := s.db.get(nil, append([]byte{prefixMeta}, name...))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return v, err
}

func (s *localStore) Position() (int64, error) { return s.number(metaPosition) }
func (s *localStore) Size() int64              { return s.db.size() }

func (s *localStore) Written() (time.Time, error) {
	ms, err := s.number(metaWritten)
	if err != nil || ms == 0 {
		return time.Time{}, err
	}
	return time.UnixMilli(ms), nil
}

func (s *localStore) Close() error {
	if s.stop.Swap(true) {
		return nil
	}
	s.writing.take()
	defer s.writing.give()
	return s.db.close()
}

func (s *localStore) Scan(fn func(id, value []byte) error) error {
	prefix := []byte{prefixCustomer}
	return s.db.scan(prefix, prefix, true, func(key, value []byte) error {
		return fn(key[1:], value)
	})
}

// errEnough ends a scan early; it never leaves the package.
var errEnough = errors.New("enough")

func (s *localStore) Due(hour int64, limit int, fn func(at int64, id []byte) error) (int64, error) {
	next, seen, last := int64(NoHour), 0, int64(-1)
	err := s.db.scan([]byte{prefixTimer}, timerKey(nil, max(hour, s.floor.Load()), 0), true, func(key, value []byte) error {
		if len(key) != 17 {
			return fmt.Errorf("%w: timer key of %d bytes", ErrCorrupt, len(key))
		}
		h := int64(binary.BigEndian.Uint64(key[1:]))
		if h != last && seen >= limit {
			next = h
			return errEnough
		}
		last = h
		return eachTimer(h, value, func(at int64, id []byte) error {
			seen++
			return fn(at, id)
		})
	})
	if err != nil && !errors.Is(err, errEnough) {
		return 0, err
	}
	return next, nil
}

// Write cuts the batch into transactions in an order in which each may be the last one:
// a floor that goes down before the timer entries that it would hide, these before the records that rely on them, records before the buckets whose
// entries they replace are dropped, a floor that goes up and the position at the end.
func (s *localStore) Write(b *Batch) error {
	if b.Empty() {
		return nil
	}
	s.writing.take()
	defer s.writing.give()
	if s.stop.Load() {
		return ErrClosed
	}
	s.ops, s.arena = s.ops[:0], s.arena[:0]
	defer func() { clear(s.ops) }() // do not keep the values of the batch alive
	old, err := s.bucketsBelow(b.dropBelow)
	if err != nil {
		return err
	}
	if b.arms {
		if err := s.armValues(b); err != nil {
			return err
		}
	}
	before := s.floor.Load()
	lowest := b.lowest(before)
	if lowest < s.highest {
		s.add(prefixMeta, metaFloor, number8(lowest))
		s.floor.Store(lowest) // whatever becomes of the rest: what is written again then may not tell of it
	}
	s.addTimers(b.timers)
	for _, c := range b.customers {
		s.add(prefixCustomer, c.id, c.value)
	}
	for _, key := range old {
		s.ops = append(s.ops, op{key: key})
	}
	floor := b.lowest(max(before, b.dropBelow))
	if floor != lowest {
		s.add(prefixMeta, metaFloor, number8(floor))
		s.highest = max(s.highest, floor)
	}
	s.addMeta(b)
	if err := s.commitAll(b.quit); err != nil {
		return err
	}
	s.begun = s.begun || len(b.timers) > 0
	s.highest = floor
	s.floor.Store(floor)
	if b.moved {
		s.db.note(b.position)
	}
	return nil
}

// armValues adds the timer entries of values that are armed at another time than the stored ones. For the others the entry is
// there; who follows a changelog would else gather one more with every change of a customer.
func (s *localStore) armValues(b *Batch) error {
	var buf []byte
	for _, c := range b.customers {
		if c.value == nil {
			continue
		}
		at := customer.EncodedDeadline(c.value)
		if at == 0 {
			continue
		}
		old, err := s.Get(buf[:0], unsafeBytes(c.id))
		if err == nil && customer.EncodedDeadline(old) == at {
			continue
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		buf = old[:0]
		b.Arm(at, c.id)
	}
	return nil
}

// lowest is the first of an hour and those of the batch's timer entries.
func (b *Batch) lowest(hour int64) int64 {
	for i := range b.timers {
		hour = min(hour, Hour(b.timers[i].At))
	}
	return hour
}

// hasWritten reports whether it is known how old the store is.
func (s *localStore) hasWritten() bool {
	at, err := s.Written()
	return err != nil || !at.IsZero()
}

func (s *localStore) addMeta(b *Batch) {
	for _, m := range b.meta {
		s.add(prefixMeta, m.name, m.value)
	}
	if b.moved && s.now != nil && !(b.behind && s.hasWritten()) {
		s.add(prefixMeta, metaWritten, number8(s.now().UnixMilli()))
	}
	if b.moved {
		s.add(prefixMeta, metaPosition, number8(b.position))
	}
}

func number8(n int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(n))
}

func (s *localStore) add(prefix byte, name string, value []byte) {
	s.ops = append(s.ops, op{s.bytes(prefix, name), value})
}

// bytes puts prefix and name into the arena. A full arena is left to the keys that lie
// in it and another one begun.
func (s *localStore) bytes(prefix byte, name string) []byte {
	n := len(name) + 1
	if cap(s.arena)-len(s.arena) < n {
		s.arena = make([]byte, 0, max(64<<10, n))
	}
	from := len(s.arena)
	s.arena = append(append(s.arena, prefix), name...)
	return s.arena[from:len(s.arena):len(s.arena)]
}

// addTimers packs the entries into pieces of their buckets. The epoch goes before the first
// piece of an opening, and again until a batch was written as a whole: after a crash in the middle of one the next opening must not
// write over pieces that are there already.
func (s *localStore) addTimers(timers []Timer) {
	if len(timers) > 0 && !s.begun {
		s.add(prefixMeta, metaEpoch, number8(int64(s.epoch)))
	}
	slices.SortFunc(timers, func(a, b Timer) int { return cmp.Compare(a.At, b.At) })
	for i := 0; i < len(timers); {
		hour := Hour(timers[i].At)
		var value []byte
		for ; i < len(timers) && Hour(timers[i].At) == hour && len(value) < chunkBytes; i++ {
			value = appendTimer(value, hour, timers[i])
		}
		unique := uint64(s.epoch)<<32 | uint64(s.piece)
		s.piece++
		s.ops = append(s.ops, op{timerKey(nil, hour, unique), value})
	}
}

// bucketsBelow lists the keys of the buckets before an hour.
func (s *localStore) bucketsBelow(hour int64) ([][]byte, error) {
	floor := s.floor.Load()
	if hour <= floor {
		return nil, nil
	}
	var keys [][]byte
	end := timerKey(nil, hour, 0)
	err := s.db.scan([]byte{prefixTimer}, timerKey(nil, floor, 0), false, func(key, _ []byte) error {
		if string(key) >= string(end) {
			return errEnough
		}
		keys = append(keys, slices.Clone(key))
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return keys, nil
}

// commitAll writes s.ops in order, as many a transaction as fit. The small values, the
// position among them, end up in the last one because they are last.
func (s *localStore) commitAll(quit <-chan struct{}) error {
	maxKeys, maxBytes := s.db.limits()
	maxKeys = min(maxKeys, txnKeys)
	rest := s.ops
	for len(rest) > 0 {
		if s.stop.Load() || closed(quit) {
			return ErrClosed
		}
		if err := s.db.room(); err != nil {
			return err
		}
		n, size := 0, int64(0)
		for n < len(rest) && n < maxKeys {
			size += int64(len(rest[n].key) + len(rest[n].value) + opOverhead)
			if n > 0 && size > maxBytes {
				break
			}
			n++
		}
		if err := s.db.commit(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// opOverhead is what Badger counts for a key in a transaction beside its bytes.
const opOverhead = 16

func timerKey(dst []byte, hour int64, unique uint64) []byte {
	dst = append(dst, prefixTimer)
	dst = binary.BigEndian.AppendUint64(dst, uint64(hour))
	return binary.BigEndian.AppendUint64(dst, unique)
}

func appendTimer(dst []byte, hour int64, t Timer) []byte {
	dst = binary.AppendUvarint(dst, uint64(max(t.At, 0)-hour*HourMillis))
	dst = binary.AppendUvarint(dst, uint64(len(t.ID)))
	return append(dst, t.ID...)
}

func eachTimer(hour int64, b []byte, fn func(at int64, id []byte) error) error {
	for len(b) > 0 {
		ms, n := binary.Uvarint(b)
		if n <= 0 || ms >= HourMillis {
			return fmt.Errorf("%w: timer bucket %d", ErrCorrupt, hour)
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return fmt.Errorf("%w: timer bucket %d", ErrCorrupt, hour)
		}
		id := b[n : n+int(size)]
		b = b[n+int(size):]
		if err := fn(hour*HourMillis+int64(ms), id); err != nil {
			return err
		}
	}
	return nil
}
