package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is how the records of a batch are compressed, numbered as on the wire.
type Codec uint8

// The codecs of Kafka.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

// String is the codec's name as in a producer's compression.type.
func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// ParseCodec is the codec of that name.
func ParseCodec(name string) (Codec, error) {
	for c := None; c <= Zstd; c++ {
		if c.String() == name {
			return c, nil
		}
	}
	return None, fmt.Errorf("unknown compression %q (want none, gzip, snappy, lz4 or zstd)", name)
}

// expander holds decompressors for reuse. Content checksums of their own are not verified: the batch's CRC covers them.
type expander struct {
	zstd  *zstd.Decoder
	gzip  *gzip.Reader
	src   bytes.Reader
	ratio int // last decompressed size by compressed size, rounded up
}

var errBomb = errors.New("decompresses to more than the limit")

// expand decompresses src into a pooled buffer.
func (p *Pool) expand(codec Codec, src []byte) (*Buffer, error) {
	x, _ := p.expanders.Get().(*expander)
	if x == nil {
		x = &expander{ratio: 4}
	}
	defer p.expanders.Put(x)
	var (
		buf *Buffer
		err error
	)
	switch codec {
	case Zstd:
		buf, err = x.expandZstd(p, src)
	case LZ4:
		buf, err = x.expandLZ4(p, src)
	case Snappy:
		buf, err = x.expandSnappy(p, src)
	case Gzip:
		buf, err = x.expandGzip(p, src)
	default:
		return nil, fmt.Errorf("unknown %v", codec)
	}
	if err == nil && len(buf.B) > p.maxDecoded {
		err = errBomb
	}
	if err != nil {
		if buf != nil {
			buf.Release()
		}
		return nil, fmt.Errorf("%v: %w", codec, err)
	}
	if len(src) > 0 {
		x.ratio = min(max(len(buf.B)/len(src)+1, 2), 64)
	}
	return buf, nil
}

// guess is a buffer of length 0 that probably holds what src decompresses to.
func (x *expander) guess(p *Pool, src []byte) *Buffer {
	b := p.Get(min(len(src)*x.ratio, p.maxDecoded))
	b.B = b.B[:0]
	return b
}

func (x *expander) expandZstd(p *Pool, src []byte) (*Buffer, error) {
	if x.zstd == nil {
		// The decoder bounds the window by the same number, and writers that stream declare the window of their level (up
		// to 128 MB) and not of their data; it costs nothing here.
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(max(p.maxDecoded, 128<<20))), zstd.IgnoreChecksum(true))
		if err != nil {
			return nil, err
		}
		x.zstd = d
	}
	var buf *Buffer
	var h zstd.Header
	if h.Decode(src) == nil && h.HasFCS && h.FrameContentSize <= uint64(p.maxDecoded) {
		const over = 16 // the decoder likes a little more than it needs
		buf = p.Get(int(h.FrameContentSize) + over)
		buf.B = buf.B[:0]
	} else {
		buf = x.guess(p, src)
	}
	out, err := x.zstd.DecodeAll(src, buf.B)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		err = errBomb
	}
	if err == nil {
		buf.B = out
	}
	return buf, err
}

func (x *expander) expandGzip(p *Pool, src []byte) (*Buffer, error) {
	x.src.Reset(src)
	defer x.src.Reset(nil)
	if x.gzip == nil {
		z, err := gzip.NewReader(&x.src)
		if err != nil {
			return nil, err
		}
		x.gzip = z
	} else if err := x.gzip.Reset(&x.src); err != nil {
		return nil, err
	}
	buf := x.guess(p, src)
	for {
		buf = p.grow(buf, 1<<9)
		n, err := x.gzip.Read(buf.B[len(buf.B):cap(buf.B)])
		buf.B = buf.B[:len(buf.B)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err == nil && len(buf.B) > p.maxDecoded {
			err = errBomb
		}
		if err != nil {
			return buf, err
		}
	}
}

// expandSnappy reads both a plain snappy block (librdkafka, Go) and the framing of snappy-java.
func (x *expander) expandSnappy(p *Pool, src []byte) (*Buffer, error) {
	buf := p.Get(0)
	if !bytes.HasPrefix(src, []byte("\x82SNAPPY\x00")) {
		return snappyBlock(p, buf, src)
	}
	const header = 16
	if len(src) < header {
		return buf, errCut
	}
	for src = src[header:]; len(src) > 0; {
		if len(src) < 4 {
			return buf, errCut
		}
		n := int64(binary.BigEndian.Uint32(src))
		if src = src[4:]; n > int64(len(src)) {
			return buf, errCut
		}
		var err error
		if buf, err = snappyBlock(p, buf, src[:n]); err != nil {
			return buf, err
		}
		src = src[n:]
	}
	return buf, nil
}

func snappyBlock(p *Pool, buf *Buffer, src []byte) (*Buffer, error) {
	n, err := s2.DecodedLen(src)
	if err != nil {
		return buf, err
	}
	if n > p.maxDecoded-len(buf.B) {
		return buf, errBomb
	}
	buf = p.grow(buf, n)
	at := len(buf.B)
	out, err := s2.Decode(buf.B[at:at+n:cap(buf.B)], src)
	if err != nil {
		return buf, err
	}
	buf.B = buf.B[:at+len(out)]
	return buf, nil
}

// The LZ4 frame format (lz4_Frame_format.md 1.6.1). Taken apart here, because the library's reader copies every block once
// more and hashes what the batch's CRC has covered.
const (
	lz4Magic     = 0x184D2204
	lz4Skippable = 0x184D2A50 // the low four bits are free
	lz4Stored    = 1 << 31
	lz4Window    = 64 << 10
)

func (x *expander) expandLZ4(p *Pool, src []byte) (*Buffer, error) {
	buf := x.guess(p, src)
	for len(src) > 0 {
		if len(src) < 4 {
			return buf, errCut
		}
		var err error
		magic := binary.LittleEndian.Uint32(src)
		switch src = src[4:]; {
		case magic == lz4Magic:
			buf, src, err = lz4Frame(p, buf, src)
		case magic&^0xf == lz4Skippable:
			if len(src) < 4 || int64(binary.LittleEndian.Uint32(src)) > int64(len(src)-4) {
				err = errCut
				break
			}
			src = src[4+binary.LittleEndian.Uint32(src):]
		default:
			err = fmt.Errorf("no frame but %08x", magic)
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// lz4Frame decompresses one frame behind its magic number and gives what follows it.
func lz4Frame(p *Pool, buf *Buffer, src []byte) (*Buffer, []byte, error) {
	if len(src) < 3 {
		return buf, src, errCut
	}
	flags, descriptor := src[0], src[1]
	if flags>>6 != 1 {
		return buf, src, fmt.Errorf("frame version %d", flags>>6)
	}
	header, trailer, sum := 3, 0, 0
	if flags&0x08 != 0 {
		header += 8 // content size: not believed, not needed
	}
	if flags&0x01 != 0 {
		return buf, src, errors.New("frame needs a dictionary")
	}
	if flags&0x04 != 0 {
		trailer = 4
	}
	if flags&0x10 != 0 {
		sum = 4
	}
	class := descriptor >> 4 & 7
	if class < 4 {
		return buf, src, fmt.Errorf("block size class %d", class)
	}
	block := 1 << (8 + 2*class) // 64 KB, 256 KB, 1 MB, 4 MB
	linked := flags&0x20 == 0
	if len(src) < header {
		return buf, src, errCut
	}
	start := len(buf.B)
	for src = src[header:]; ; {
		if len(src) < 4 {
			return buf, src, errCut
		}
		word := binary.LittleEndian.Uint32(src)
		src = src[4:]
		if word == 0 {
			if len(src) < trailer {
				return buf, src, errCut
			}
			return buf, src[trailer:], nil
		}
		n := int(word &^ lz4Stored)
		if n > len(src)-sum {
			return buf, src, errCut
		}
		var err error
		if buf, err = lz4Block(p, buf, src[:n], word&lz4Stored != 0, linked, start, block); err != nil {
			return buf, src, err
		}
		if len(buf.B) > p.maxDecoded {
			return buf, src, errBomb
		}
		src = src[n+sum:]
	}
}

func lz4Block(p *Pool, buf *Buffer, src []byte, stored, linked bool, start, block int) (*Buffer, error) {
	if stored {
		buf = p.grow(buf, len(src))
		buf.B = append(buf.B, src...)
		return buf, nil
	}
	// Most blocks do not fill their class; so try the room there is before the class's bound.
	for _, room := range [2]int{cap(buf.B) - len(buf.B), block} {
		if room > block {
			room = block
		}
		buf = p.grow(buf, room)
		at := len(buf.B)
		var dict []byte
		if linked {
			dict = buf.B[max(start, at-lz4Window):at]
		}
		n, err := lz4.UncompressBlockWithDict(src, buf.B[at:at+room], dict)
		if err == nil {
			buf.B = buf.B[:at+n]
			return buf, nil
		}
		if room == block {
			return buf, err
		}
	}
	return buf, nil
}
