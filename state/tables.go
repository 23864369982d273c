package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// checkTables verifies the manifest and the indexes of the tables that Badger is about to open. It opens them in goroutines of its own, where damage
// would end the process. Tables that its manifest does not name are left over from a crash, and it removes them by itself.
func checkTables(dir string, o badger.Options) error {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
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
	for id := range manifest.Tables {
		name := table.NewFilename(id, dir)
		if err := checkTable(name); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCorrupt, filepath.Base(name), err)
		}
	}
	return nil
}

var errTable = errors.New("the end of the table is damaged")

// checkTable verifies the index at the end of a table: index, its length, checksum, its length.
func checkTable(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	end := info.Size()
	part := func() ([]byte, error) { // the part before end, whose length stands behind it
		var size [4]byte
		if end < 4 {
			return nil, errTable
		}
		if _, err := f.ReadAt(size[:], end-4); err != nil {
			return nil, err
		}
		n := int64(binary.BigEndian.Uint32(size[:]))
		if n > end-4 {
			return nil, errTable
		}
		b := make([]byte, n)
		end -= 4 + n
		_, err := f.ReadAt(b, end)
		return b, err
	}
	sum, err := part()
	if err != nil {
		return err
	}
	var checksum pb.Checksum
	if err := proto.Unmarshal(sum, &checksum); err != nil {
		return err
	}
	index, err := part()
	if err != nil {
		return err
	}
	if len(index) == 0 {
		return errTable
	}
	return y.VerifyChecksum(index, &checksum)
}
