package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// checkTables verifies the manifest and every block of the tables that Badger is about to open. Badger would open them in goroutines of its own,
// where some damage ends the process. Tables that its manifest does not name are left over from a crash, and it removes them by itself.
func checkTables(dir string, o badger.Options) error {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return checkEmpty(dir)
	}
	if err != nil {
		return err
	}
	manifest, whole, err := badger.ReplayManifestFile(f, o.ExternalMagicVersion, o)
	info, missing := f.Stat()
	if err = errors.Join(err, missing, f.Close()); err != nil {
		return err
	}
	if whole < info.Size() { // Badger would go on with the tables that it can read of, and delete the others
		return fmt.Errorf("%w: %s is cut off", ErrCorrupt, badger.ManifestFilename)
	}
	var c tableChecker
	for id := range manifest.Tables {
		name := table.NewFilename(id, dir)
		if err := c.check(name); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCorrupt, filepath.Base(name), err)
		}
	}
	return nil
}

// checkEmpty says whether a directory without a manifest holds nothing else either. Badger would begin a new manifest, delete every table, and
// keep what its log has: the position of a store whose customers are gone.
func checkEmpty(dir string) error {
	files, err := named(dir, func(name string) bool { return slices.Contains([]string{".sst", ".mem"}, filepath.Ext(name)) })
	if err != nil {
		return err
	}
	if len(files) != 0 {
		return fmt.Errorf("%w: %s is missing, and %s is there", ErrCorrupt, badger.ManifestFilename, filepath.Base(files[0]))
	}
	return nil
}

var errTable = errors.New("the table is damaged")

// tableChecker verifies tables, one after another in one buffer.
type tableChecker struct{ buf []byte }

func (c *tableChecker) check(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c.buf = slices.Grow(c.buf[:0], int(info.Size()))[:info.Size()]
	if _, err := io.ReadFull(f, c.buf); err != nil {
		return err
	}
	return checkTable(c.buf)
}

// checkTable verifies a table without compression: blocks, then their index, its length, its checksum, and the length of that.
func checkTable(b []byte) error {
	rest, sum, ok := cutPart(b)
	if !ok {
		return errTable
	}
	_, index, ok := cutPart(rest)
	if !ok || len(index) == 0 {
		return errTable
	}
	if err := verify(index, sum); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	blocks := fb.GetRootAsTableIndex(index, 0)
	for i := range blocks.OffsetsLength() {
		var at fb.BlockOffset
		blocks.Offsets(&at, i)
		from, to := int64(at.Offset()), int64(at.Offset())+int64(at.Len())
		if to > int64(len(b)) {
			return errTable
		}
		data, sum, ok := cutPart(b[from:to])
		if !ok {
			return errTable
		}
		if err := verify(data, sum); err != nil {
			return fmt.Errorf("block at %d: %w", from, err)
		}
	}
	return nil
}

// cutPart takes the last part off, whose length stands behind it in four bytes.
func cutPart(b []byte) (before, part []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	end := len(b) - 4
	n := binary.BigEndian.Uint32(b[end:])
	if int64(n) > int64(end) {
		return nil, nil, false
	}
	return b[:end-int(n)], b[end-int(n) : end], true
}

func verify(data, sum []byte) error {
	var checksum pb.Checksum
	if err := proto.Unmarshal(sum, &checksum); err != nil {
		return err
	}
	return y.VerifyChecksum(data, &checksum)
}
