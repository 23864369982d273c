package txn

import (
	"encoding/binary"
	"errors"
	"fmt"

	"ebb/stream/batch"
)

// maxBatch bounds a batch before compression: the default max.message.bytes is 1,048,588. Only a single larger record exceeds it.
const maxBatch = 1_000_000

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

func (tp TopicPartition) String() string { return fmt.Sprintf("%s/%d", tp.Topic, tp.Partition) }

// Transaction is the content of one commit. It may be committed again after ErrReinit, until it succeeds.
type Transaction struct {
	// Group, Generation and MemberID are what the task was lent.
	Group      string
	Generation int32
	MemberID   string
	// Offsets are the input positions (the next offset to read) by topic and partition, at least one.
	Offsets map[string]map[int32]int64
	// Metadata is stored with each offset.
	Metadata string
	// Alone is for a command that works on a group without members: there is no generation to be checked, Generation and MemberID are
	// ignored, and Offsets may be empty. Only the transactional id fences it.
	Alone bool

	encoders *encoders
	parts    []*part
	index    map[TopicPartition]*part
	codec    batch.Codec
	failed   error
	sealed   bool
	size     int
}

// part is what goes to one partition.
type part struct {
	TopicPartition
	encoder *batch.Builder // of the batch being filled, nil if there is none
	batches []encoded
}

// encoded is a finished batch: four bytes of length, as a Produce request has it, and the batch. Producer id, epoch and sequence are put in by Commit.
type encoded struct {
	bytes   []byte
	records int32
}

// encoders are reused between the transactions of one producer: each holds a buffer of up to a batch and a compressor's tables.
type encoders struct{ free []*batch.Builder }

// maxEncoders bounds what is kept: a transaction writes to few partitions, but for a burst of alerts.
const maxEncoders = 8

func (e *encoders) get() *batch.Builder {
	if e == nil || len(e.free) == 0 {
		return new(batch.Builder)
	}
	b := e.free[len(e.free)-1]
	e.free = e.free[:len(e.free)-1]
	return b
}

func (e *encoders) put(b *batch.Builder) {
	if e != nil && len(e.free) < maxEncoders {
		e.free = append(e.free, b)
	}
}

// NewTransaction returns an empty transaction that uses the producer's encoders, and so costs less than a zero Transaction. It is filled by
// the producer's goroutine, or while that does nothing with the producer.
func (p *Producer) NewTransaction() *Transaction { return &Transaction{encoders: &p.encoders} }

// Writer fills a Transaction.
type Writer struct{ tx *Transaction }

// Writer returns the transaction's writer; the codec is batch.None, LZ4 or Zstd. Further calls go on where the last stopped.
func (tx *Transaction) Writer(codec batch.Codec) Writer {
	tx.codec = codec
	if tx.index == nil {
		tx.index = make(map[TopicPartition]*part)
	}
	return Writer{tx}
}

// Add appends a record; nil key and value are null, the timestamp is in Unix milliseconds. The slices are copied. Records of one partition keep
// their order.
func (w Writer) Add(tp TopicPartition, key, value []byte, headers []batch.Header, timestamp int64) error {
	tx := w.tx
	if tx.sealed {
		return errors.New("txn: record added to a transaction that was committed")
	}
	p := tx.index[tp]
	if p == nil {
		p = &part{TopicPartition: tp}
		tx.index[tp] = p
		tx.parts = append(tx.parts, p)
	}
	if p.encoder != nil && p.encoder.Size()+recordSize(key, value, headers) > maxBatch {
		if err := tx.finish(p); err != nil {
			return err
		}
	}
	if p.encoder == nil {
		p.encoder = tx.encoders.get()
		p.encoder.Reset(0, 0, 0, true, tx.codec)
	}
	p.encoder.Append(key, value, headers, timestamp)
	return nil
}

// recordSize is at least what the record needs.
func recordSize(key, value []byte, headers []batch.Header) int {
	const lengths = 40 // length, attributes, deltas, lengths of key and value, number of headers: at most this
	n := lengths + len(key) + len(value)
	for i := range headers {
		n += 20 + len(headers[i].Key) + len(headers[i].Value)
	}
	return n
}

// finish encodes the batch being filled. A fault stays: the transaction cannot be committed.
func (tx *Transaction) finish(p *part) error {
	e := p.encoder
	p.encoder = nil
	defer tx.encoders.put(e)
	b, err := e.Finish()
	if err != nil {
		tx.failed = fmt.Errorf("txn: encode batch for %s: %w", p, err)
		return tx.failed
	}
	framed := make([]byte, 4, 4+len(b))
	binary.BigEndian.PutUint32(framed, uint32(len(b)))
	p.batches = append(p.batches, encoded{bytes: append(framed, b...), records: int32(e.Len())})
	tx.size += len(b)
	return nil
}

// seal encodes what is left, and checks that the transaction may be committed at all.
func (tx *Transaction) seal() error {
	if !tx.sealed {
		tx.sealed = true
		for _, p := range tx.parts {
			if p.encoder == nil {
				continue
			}
			if err := tx.finish(p); err != nil {
				return err
			}
		}
	}
	if tx.failed != nil {
		return tx.failed
	}
	if tx.Alone {
		tx.Generation, tx.MemberID = -1, ""
		return nil
	}
	if tx.Group == "" || tx.MemberID == "" || tx.offsets() == 0 {
		return errors.New("txn: a transaction without group, member id and offsets is refused: nothing in it would tell that the partition is lost")
	}
	return nil
}

func (tx *Transaction) offsets() int {
	n := 0
	for _, parts := range tx.Offsets {
		n += len(parts)
	}
	return n
}

// Size is the encoded size in bytes, as far as batches are finished.
func (tx *Transaction) Size() int { return tx.size }
