package webhook

import (
	"maps"
	"sync"
)

// progress follows which records are done. Records are read in order and done in any order; what may be saved for a
// partition is the offset below which all are done.
type progress struct {
	mu         sync.Mutex
	partitions map[int32]*queue
	next       map[int32]int64
	changed    bool
}

// queue is what was read of a partition and is not below its next offset yet, in order of offsets.
type queue []mark

type mark struct {
	offset int64
	done   bool
}

func newProgress() *progress {
	return &progress{partitions: map[int32]*queue{}, next: map[int32]int64{}}
}

func (p *progress) begin(from map[int32]int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(p.next, from)
}

// read must be called in order of offsets within a partition.
func (p *progress) read(partition int32, offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.partitions[partition]
	if q == nil {
		q = &queue{}
		p.partitions[partition] = q
	}
	*q = append(*q, mark{offset: offset})
}

func (p *progress) done(partition int32, offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.partitions[partition]
	for i := range *q {
		if (*q)[i].offset == offset {
			(*q)[i].done = true
			break
		}
	}
	n := 0
	for n < len(*q) && (*q)[n].done {
		p.next[partition] = (*q)[n].offset + 1
		n++
	}
	if n > 0 {
		*q = append((*q)[:0], (*q)[n:]...)
		p.changed = true
	}
}

// snapshot returns the offsets to save, and whether they moved since the last snapshot.
func (p *progress) snapshot() (next map[int32]int64, changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed, p.changed = p.changed, false
	return maps.Clone(p.next), changed
}

// unsaved says that the last snapshot did not reach its place.
func (p *progress) unsaved() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed = true
}
