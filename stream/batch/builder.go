package batch

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// NoProducer is the producer id of a batch that is neither idempotent nor transactional.
const NoProducer int64 = -1

// Builder writes one batch at a time. The zero value is ready for Reset. Not safe for concurrent use.
type Builder struct {
	raw   []byte // header and records
	out   []byte // the same, compressed
	codec Codec
	count int32
	first int64
	most  int64
	attrs uint16

	lz4   *lz4.Writer
	sink  bytes.Buffer
	probe []byte
	zstd  *zstd.Encoder
}

// Reset begins a batch of a producer (NoProducer for none; epoch and sequence are then -1) whose first record has sequence
// number sequence. The codec is None, LZ4 or Zstd. A batch from Finish becomes invalid.
func (b *Builder) Reset(producerID int64, epoch int16, sequence int32, transactional bool, codec Codec) {
	if producerID == NoProducer {
		epoch, sequence = -1, -1
	}
	if cap(b.raw) < headerSize {
		b.raw = make([]byte, headerSize, 4<<10)
	}
	b.raw = b.raw[:headerSize]
	clear(b.raw)
	b.codec, b.count, b.attrs = codec, 0, 0
	if transactional {
		b.attrs = attrTransactional
	}
	b.first, b.most = 0, 0
	stamp(b.raw, producerID, epoch, sequence)
}

func stamp(b []byte, producerID int64, epoch int16, sequence int32) {
	binary.BigEndian.PutUint64(b[atProducer:], uint64(producerID))
	binary.BigEndian.PutUint16(b[atEpoch:], uint16(epoch))
	binary.BigEndian.PutUint32(b[atSequence:], uint32(sequence))
}

// Append adds a record; nil key and value are null. The timestamp is in Unix milliseconds. The slices are copied.
func (b *Builder) Append(key, value []byte, headers []Header, timestamp int64) {
	if b.count == 0 {
		b.first, b.most = timestamp, timestamp
	}
	b.most = max(b.most, timestamp)
	delta, offset := timestamp-b.first, int64(b.count)
	size := 1 + varintLen(delta) + varintLen(offset) + bytesLen(key) + bytesLen(value) + varintLen(int64(len(headers)))
	for i := range headers {
		size += varintLen(int64(len(headers[i].Key))) + len(headers[i].Key) + bytesLen(headers[i].Value)
	}
	p := binary.AppendVarint(b.raw, int64(size))
	p = append(p, 0)
	p = binary.AppendVarint(p, delta)
	p = binary.AppendVarint(p, offset)
	p = appendBytes(p, key)
	p = appendBytes(p, value)
	p = binary.AppendVarint(p, int64(len(headers)))
	for i := range headers {
		p = binary.AppendVarint(p, int64(len(headers[i].Key)))
		p = append(p, headers[i].Key...)
		p = appendBytes(p, headers[i].Value)
	}
	b.raw = p
	b.count++
}

func appendBytes(p, b []byte) []byte {
	if b == nil {
		return append(p, 1) // -1
	}
	return append(binary.AppendVarint(p, int64(len(b))), b...)
}

func bytesLen(b []byte) int {
	if b == nil {
		return 1
	}
	return varintLen(int64(len(b))) + len(b)
}

func varintLen(v int64) int {
	u := uint64(v<<1) ^ uint64(v>>63)
	n := 1
	for ; u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

// Len is the number of records.
func (b *Builder) Len() int { return int(b.count) }

// Size is the batch's size in bytes before compression, header included: brokers judge it after compression, which never
// makes it larger.
func (b *Builder) Size() int { return len(b.raw) }

// Finish completes the batch and gives its bytes, valid until the next Reset. An empty batch is nil: brokers refuse it.
func (b *Builder) Finish() ([]byte, error) {
	if b.count == 0 {
		return nil, nil
	}
	out, attrs := b.raw, b.attrs
	packed, err := b.compress()
	if err != nil {
		return nil, fmt.Errorf("compress batch: %w", err)
	}
	if packed != nil && len(packed) < len(b.raw) {
		out, attrs = packed, attrs|uint16(b.codec)
	}
	binary.BigEndian.PutUint32(out[atLength:], uint32(len(out)-lengthFrom))
	binary.BigEndian.PutUint32(out[12:], ^uint32(0)) // leader epoch: the broker's
	out[atMagic] = 2
	binary.BigEndian.PutUint16(out[atAttrs:], attrs)
	binary.BigEndian.PutUint32(out[atLastDelta:], uint32(b.count-1))
	binary.BigEndian.PutUint64(out[atBaseTime:], uint64(b.first))
	binary.BigEndian.PutUint64(out[atMaxTime:], uint64(b.most))
	binary.BigEndian.PutUint32(out[atCount:], uint32(b.count))
	seal(out)
	return out, nil
}

func seal(b []byte) { binary.BigEndian.PutUint32(b[atCRC:], checksum(b[atAttrs:])) }

// compress gives header and compressed records, nil without a codec.
func (b *Builder) compress() ([]byte, error) {
	switch b.codec {
	case None:
		return nil, nil
	case LZ4:
		if !b.compressible() {
			return nil, nil
		}
		b.sink.Reset()
		b.sink.Write(b.raw[:headerSize])
		if b.lz4 == nil {
			b.lz4 = lz4.NewWriter(&b.sink)
			// No content checksum: the batch's CRC covers it.
			if err := b.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false)); err != nil {
				return nil, err
			}
		} else {
			b.lz4.Reset(&b.sink)
		}
		if _, err := b.lz4.Write(b.raw[headerSize:]); err != nil {
			return nil, err
		}
		if err := b.lz4.Close(); err != nil {
			return nil, err
		}
		return b.sink.Bytes(), nil
	case Zstd:
		if b.zstd == nil {
			z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
				zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
			if err != nil {
				return nil, err
			}
			b.zstd = z
		}
		b.out = b.zstd.EncodeAll(b.raw[headerSize:], append(b.out[:0], b.raw[:headerSize]...))
		return b.out, nil
	}
	return nil, fmt.Errorf("batches are not written with %v", b.codec)
}

const (
	// probed is how much of a batch is compressed to see whether it is worth it for all, and leastSaved the share of that which has to go.
	probed     = 64 << 10
	leastSaved = 1.0 / 8
)

// compressible reports whether LZ4 makes a batch smaller by much, as its beginning says. Customers' records are hashes and floating-point numbers for the most part:
// of a cut full of them a twentieth goes, for as much time as it took to encode them. A small batch is not worth the question.
func (b *Builder) compressible() bool {
	records := b.raw[headerSize:]
	if len(records) < 2*probed {
		return true
	}
	if b.probe == nil {
		b.probe = make([]byte, lz4.CompressBlockBound(probed))
	}
	n, err := lz4.CompressBlock(records[:probed], b.probe, nil)
	return err == nil && n != 0 && float64(n) <= (1-leastSaved)*probed
}

// Stamp puts another producer id, epoch and first sequence number into a finished batch, whose records stay as they are:
// the same content, sent under a new producer epoch.
func Stamp(finished []byte, producerID int64, epoch int16, sequence int32) {
	stamp(finished, producerID, epoch, sequence)
	seal(finished)
}
