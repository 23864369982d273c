package stream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// ErrExport says that a file is no whole export of a state.
var ErrExport = errors.New("not a whole export of ebb's state")

// The form of an export:
//
//	"EBBSTATE" version
//	frames: length (uvarint), kind (1 byte), content
//	    h  header, JSON: ExportHeader
//	    t  task record: partition (uvarint), record
//	    c  customer: partition (uvarint), length of the id (uvarint), id, record
//	    e  end, JSON: how many there are of each
//	SHA-256 of everything before
const (
	exportMagic   = "EBBSTATE"
	exportVersion = 1

	frameHeader   = 'h'
	frameTask     = 't'
	frameCustomer = 'c'
	frameEnd      = 'e'

	// maxFrame bounds what is read of a damaged file: a record is far smaller.
	maxFrame = 16 << 20
)

// ExportHeader says what an export holds.
type ExportHeader struct {
	ID         string    `json:"id"` // of this export, random
	Group      string    `json:"group"`
	Cluster    string    `json:"cluster"`
	Partitions int32     `json:"partitions"`
	Exported   time.Time `json:"exported"`
}

// Exported is what an export consists of.
type Exported struct {
	ExportHeader
	Customers int `json:"customers"`
	Tasks     int `json:"tasks"` // partitions that have a state
}

// exportWriter writes an export.
type exportWriter struct {
	w   *bufio.Writer
	sum hash.Hash
	buf []byte
}

func newExportWriter(w io.Writer) *exportWriter {
	sum := sha256.New()
	e := &exportWriter{w: bufio.NewWriterSize(io.MultiWriter(w, sum), 1<<20), sum: sum}
	_, _ = e.w.WriteString(exportMagic) // a bufio.Writer keeps its error until Flush
	_ = e.w.WriteByte(exportVersion)
	return e
}

func (e *exportWriter) frame(kind byte, parts ...[]byte) error {
	n := 1
	for _, p := range parts {
		n += len(p)
	}
	e.buf = append(binary.AppendUvarint(e.buf[:0], uint64(n)), kind)
	for _, p := range parts {
		e.buf = append(e.buf, p...)
	}
	_, err := e.w.Write(e.buf)
	return err
}

func (e *exportWriter) json(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return e.frame(kind, b)
}

// close writes the sum. w is the writer below, which the sum is not part of.
func (e *exportWriter) close(w io.Writer) error {
	if err := e.w.Flush(); err != nil {
		return err
	}
	_, err := w.Write(e.sum.Sum(nil))
	return err
}

// Export writes the state of all tasks to w. keep is called when everything is written, and has to make it durable; after that the state is marked as moved, so
// that nobody runs on it by accident while it lives on elsewhere.
func (u *Upkeep) Export(ctx context.Context, w io.Writer, keep func() error) (*Exported, error) {
	if err := u.take(ctx); err != nil {
		return nil, err
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	x := &Exported{ExportHeader: ExportHeader{
		ID: hex.EncodeToString(id[:]), Group: u.cfg.Group, Cluster: u.cluster, Partitions: u.count, Exported: u.deps.Now().UTC().Truncate(time.Second),
	}}
	e := newExportWriter(w)
	if err := e.json(frameHeader, x.ExportHeader); err != nil {
		return nil, err
	}
	records, err := u.records(ctx, func(p int32, img *image) error { return u.export(ctx, e, x, p, img) })
	if err == nil && x.Tasks == 0 {
		err = errors.New("there is no state yet, so there is nothing to export")
	}
	if err == nil {
		err = e.json(frameEnd, [2]int{x.Tasks, x.Customers})
	}
	if err == nil {
		err = e.close(w)
	}
	if err == nil {
		err = keep()
	}
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r != nil {
			r.mark = mark{work: markMoved, note: x.ID}
		}
	}
	return x, u.finish(ctx, records)
}

// export writes one partition.
func (u *Upkeep) export(ctx context.Context, e *exportWriter, x *Exported, p int32, img *image) error {
	r := img.record
	if r == nil || !r.begun() {
		if len(img.newest) != 0 {
			return fmt.Errorf("partition %d holds customers and no task record", p)
		}
		return nil
	}
	plain := *r
	if plain.mark.work == markMoved { // once more
		plain.mark = mark{}
	}
	if err := plain.runnable(u.count); err != nil {
		return fmt.Errorf("partition %d: %w", p, err)
	}
	x.Tasks++
	part := binary.AppendUvarint(nil, uint64(p))
	if err := e.frame(frameTask, part, plain.append(nil)); err != nil {
		return err
	}
	return u.customers(ctx, p, img, func(id string, value []byte) error {
		x.Customers++
		return e.frame(frameCustomer, part, binary.AppendUvarint(nil, uint64(len(id))), []byte(id), value)
	})
}

// exportReader takes an export apart.
type exportReader struct {
	r   *bufio.Reader
	sum hash.Hash
	buf []byte
}

// readExport passes the content of an export to the functions, either of which may be nil, and checks that it is whole. What they get is valid during the
// call; that the sum is right is known only at the end.
func readExport(r io.Reader, task func(p int32, record []byte) error, customer func(p int32, id, value []byte) error) (*Exported, error) {
	e := &exportReader{r: bufio.NewReaderSize(r, 1<<20), sum: sha256.New()}
	head := make([]byte, len(exportMagic)+1)
	if _, err := io.ReadFull(e.r, head); err != nil || string(head[:len(exportMagic)]) != exportMagic {
		return nil, fmt.Errorf("%w: it does not begin like one", ErrExport)
	}
	if v := head[len(exportMagic)]; v > exportVersion {
		return nil, fmt.Errorf("the export has format %d: it was written by a newer ebb; run that version or newer", v)
	}
	e.sum.Write(head)
	x := &Exported{}
	for {
		kind, content, err := e.next()
		if err != nil {
			return nil, err
		}
		switch kind {
		case frameHeader:
			err = json.Unmarshal(content, &x.ExportHeader)
		case frameTask:
			x.Tasks++
			err = e.task(content, task)
		case frameCustomer:
			x.Customers++
			err = e.customer(content, customer)
		case frameEnd:
			return x, e.end(content, x)
		default:
			err = fmt.Errorf("%w: unknown part %q", ErrExport, kind)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (e *exportReader) next() (kind byte, content []byte, err error) {
	n, err := binary.ReadUvarint(e.r)
	if err != nil || n == 0 || n > maxFrame {
		return 0, nil, fmt.Errorf("%w: it is cut off, or damaged", ErrExport)
	}
	if uint64(cap(e.buf)) < n {
		e.buf = make([]byte, n)
	}
	e.buf = e.buf[:n]
	if _, err := io.ReadFull(e.r, e.buf); err != nil {
		return 0, nil, fmt.Errorf("%w: it is cut off", ErrExport)
	}
	e.sum.Write(binary.AppendUvarint(nil, n))
	e.sum.Write(e.buf)
	return e.buf[0], e.buf[1:], nil
}

func (e *exportReader) task(b []byte, f func(int32, []byte) error) error {
	p, b, ok := cutNumber(b)
	if !ok {
		return fmt.Errorf("%w: a task record is damaged", ErrExport)
	}
	if f == nil {
		return nil
	}
	return f(int32(p), b)
}

func (e *exportReader) customer(b []byte, f func(p int32, id, value []byte) error) error {
	p, b, ok := cutNumber(b)
	n, b, okToo := cutNumber(b)
	if !ok || !okToo || n == 0 || n > uint64(len(b)) {
		return fmt.Errorf("%w: a customer is damaged", ErrExport)
	}
	if f == nil {
		return nil
	}
	return f(int32(p), b[:n], b[n:])
}

func cutNumber(b []byte) (uint64, []byte, bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// end compares what was read with what was written.
func (e *exportReader) end(content []byte, x *Exported) error {
	var counts [2]int
	if err := json.Unmarshal(content, &counts); err != nil || counts != [2]int{x.Tasks, x.Customers} {
		return fmt.Errorf("%w: parts are missing", ErrExport)
	}
	want := e.sum.Sum(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(e.r, got); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("%w: the checksum does not fit", ErrExport)
	}
	if _, err := e.r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows its end", ErrExport)
	}
	return nil
}
