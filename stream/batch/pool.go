package batch

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

const (
	smallest = 12 // 4 KB
	largest  = 27 // 128 MB; larger buffers are left to the garbage collector

	// DefaultMaxDecoded bounds one batch after decompression. Brokers accept about 1 MB compressed by default, so this
	// leaves room for ratios of 64.
	DefaultMaxDecoded = 64 << 20
)

// Pool keeps buffers, decompressors and record indexes for reuse. It is a value of its owner and not a global, because what
// was made within a testing/synctest bubble must not come to light outside of it. Safe for concurrent use.
type Pool struct {
	maxDecoded int
	buffers    [largest - smallest + 1]sync.Pool
	expanders  sync.Pool
	records    sync.Pool
}

// NewPool makes a pool whose batches may decompress to at most maxDecoded bytes (0: DefaultMaxDecoded).
func NewPool(maxDecoded int) *Pool {
	if maxDecoded <= 0 {
		maxDecoded = DefaultMaxDecoded
	}
	return &Pool{maxDecoded: maxDecoded}
}

// Buffer is a counted reference to pooled bytes.
type Buffer struct {
	B    []byte
	pool *Pool
	refs atomic.Int32
}

// Get gives a buffer of n bytes of unspecified content, with one reference.
func (p *Pool) Get(n int) *Buffer {
	class := max(bits.Len(uint(max(n, 1)-1)), smallest)
	var b *Buffer
	if class <= largest {
		b, _ = p.buffers[class-smallest].Get().(*Buffer)
	}
	if b == nil {
		size := n
		if class <= largest {
			size = 1 << class
		}
		b = &Buffer{B: make([]byte, size), pool: p}
	}
	b.B = b.B[:n]
	b.refs.Store(1)
	return b
}

// Wrap gives bytes that do not come from a pool the form of a Buffer.
func Wrap(b []byte) *Buffer {
	w := &Buffer{B: b}
	w.refs.Store(1)
	return w
}

// Retain adds a reference.
func (b *Buffer) Retain() { b.refs.Add(1) }

// Release drops a reference; with the last one the bytes go back to the pool.
func (b *Buffer) Release() {
	n := b.refs.Add(-1)
	if n < 0 {
		panic("batch: buffer released more often than retained")
	}
	if n > 0 || b.pool == nil {
		return
	}
	// By capacity, rounded down: a decompressor may have put larger bytes in place of those that it was given.
	class := bits.Len(uint(cap(b.B))) - 1
	if class >= smallest && class <= largest {
		b.pool.buffers[class-smallest].Put(b)
	}
}

// grow gives a buffer with the content of b and room for at least n more bytes, in place of b.
func (p *Pool) grow(b *Buffer, n int) *Buffer {
	if cap(b.B)-len(b.B) >= n {
		return b
	}
	wide := p.Get(max(2*cap(b.B), len(b.B)+n))
	wide.B = wide.B[:copy(wide.B, b.B)]
	b.Release()
	return wide
}
