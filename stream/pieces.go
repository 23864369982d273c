package stream

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// pieces keeps in a changelog what is too large for one record of it: in pieces, under a prefix and their numbers from 0 on.
type pieces struct {
	prefix string
	stored int            // how many the changelog holds
	read   map[int][]byte // those that a restore has met
}

// write passes on the pieces, and tombstones for those that there are no more.
func (p *pieces) write(all [][]byte, add func(key, value []byte) error) (err error) {
	for i := range max(len(all), p.stored) {
		var value []byte
		if i < len(all) {
			value = all[i]
		}
		err = errors.Join(err, add(strconv.AppendInt([]byte(p.prefix), int64(i), 10), value))
	}
	p.stored = len(all)
	return err
}

// restore takes in a record of the changelog whose key begins with the prefix.
func (p *pieces) restore(key string, value []byte) error {
	i, err := strconv.Atoi(strings.TrimPrefix(key, p.prefix))
	switch {
	case err != nil:
		return fmt.Errorf("key %q is not ebb's", key)
	case value == nil:
		delete(p.read, i)
	case p.read == nil:
		p.read = map[int][]byte{i: bytes.Clone(value)}
	default:
		p.read[i] = bytes.Clone(value)
	}
	return nil
}

// restored are the pieces that the changelog holds, in their order, none if nothing was ever stored.
func (p *pieces) restored() (all [][]byte) {
	for _, i := range slices.Sorted(maps.Keys(p.read)) {
		all = append(all, p.read[i])
	}
	p.stored, p.read = len(all), nil
	return all
}
