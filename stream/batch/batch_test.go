package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/compress"
)

// a record as tests speak of it
type row struct {
	Offset    int64
	Timestamp int64
	Key       string // "<null>" for null
	Value     string
	Headers   string
}

func text(b []byte) string {
	if b == nil {
		return "<null>"
	}
	return string(b)
}

func bytesOf(s string) []byte {
	if s == "<null>" {
		return nil
	}
	return []byte(s)
}

func rowOf(r Record) row {
	var h strings.Builder
	for x := range r.Headers {
		fmt.Fprintf(&h, "%s=%s;", x.Key, text(x.Value))
	}
	return row{r.Offset, r.Timestamp, text(r.Key), text(r.Value), h.String()}
}

// readAll drains an answer; rows are in order of delivery.
func readAll(t testing.TB, raw []byte, from int64, committed bool, aborted ...Aborted) (rows []row, next int64, err error) {
	t.Helper()
	var r Reader
	r.Reset(NewPool(0), Wrap(raw), from, committed, aborted)
	for {
		recs, err := r.Next()
		if err == io.EOF {
			return rows, r.Position(), nil
		}
		if err != nil {
			return rows, r.Position(), err
		}
		for i := range recs.Len() {
			rows = append(rows, rowOf(recs.At(i)))
		}
		recs.Release()
	}
}

func at(b []byte, base int64) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint64(b, uint64(base))
	return b
}

func build(t testing.TB, base int64, codec Codec, rows ...row) []byte {
	t.Helper()
	var b Builder
	b.Reset(NoProducer, 0, 0, false, codec)
	return finish(t, &b, base, rows)
}

func finish(t testing.TB, b *Builder, base int64, rows []row) []byte {
	t.Helper()
	for _, r := range rows {
		var hs []Header
		for h := range strings.SplitSeq(strings.TrimSuffix(r.Headers, ";"), ";") {
			if k, v, ok := strings.Cut(h, "="); ok {
				hs = append(hs, Header{Key: k, Value: bytesOf(v)})
			}
		}
		b.Append(bytesOf(r.Key), bytesOf(r.Value), hs, r.Timestamp)
	}
	out, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return at(out, base)
}

// rewrite changes a batch's header and corrects its checksum.
func rewrite(b []byte, change func(b []byte)) []byte {
	b = bytes.Clone(b)
	change(b)
	seal(b)
	return b
}

var sample = []row{
	{5, 1000, "a", "one", ""},
	{6, 1003, "<null>", "", "h=1;g=<null>;"},
	{7, 990, "", "<null>", ""},
	{8, 5_000_000_000_000, "b", strings.Repeat("long ", 1000), "trace=" + strings.Repeat("x", 300) + ";"},
}

// What is written is read back: null and empty apart, negative time deltas, headers, every codec that is written.
func TestRoundTrip(t *testing.T) {
	for _, codec := range []Codec{None, LZ4, Zstd} {
		got, next, err := readAll(t, build(t, 5, codec, sample...), 0, false)
		if err != nil || next != 9 || fmt.Sprint(got) != fmt.Sprint(sample) {
			t.Errorf("%v: next %d, %v\n got %.300v\nwant %.300v", codec, next, err, got, sample)
		}
	}
}

// LZ4 is left out where it would save next to nothing: in a large batch of noise, not in a small one, nor in one of text.
func TestNoiseIsNotCompressed(t *testing.T) {
	noise := make([]byte, 4*probed)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	for i := range noise { // a twentieth may go
		if i%100 < 10 {
			noise[i] = 0
		}
	}
	for _, c := range []struct {
		name, value string
		codec       Codec
	}{
		{"much noise", string(noise), None},
		{"some noise", string(noise[:probed]), LZ4},
		{"text", strings.Repeat("a sentence of no importance; ", 4*probed/29), LZ4},
	} {
		rows := []row{{0, 1, "k", c.value, ""}}
		raw := build(t, 0, LZ4, rows...)
		if codec := Codec(binary.BigEndian.Uint16(raw[atAttrs:]) & 7); codec != c.codec {
			t.Errorf("%s: written with %v, want %v", c.name, codec, c.codec)
		}
		if got, _, err := readAll(t, raw, 0, false); err != nil || fmt.Sprint(got) != fmt.Sprint(rows) {
			t.Errorf("%s: not read back: %v", c.name, err)
		}
	}
}

// recompress gives the batch's records as another client's compressor writes them.
func recompress(t testing.TB, plain []byte, codec compress.Compression) []byte {
	var out bytes.Buffer
	out.Write(plain[:headerSize])
	w := codec.Codec().NewWriter(&out)
	if _, err := w.Write(plain[headerSize:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return rewrite(out.Bytes(), func(b []byte) {
		binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-lengthFrom))
		binary.BigEndian.PutUint16(b[atAttrs:], binary.BigEndian.Uint16(b[atAttrs:])|uint16(codec))
	})
}

// All codecs of Kafka are read, in sizes from one record to several compressor blocks.
func TestCodecs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 10, 3000} {
		rows := make([]row, n)
		for i := range rows {
			rows[i] = row{int64(i), int64(i), fmt.Sprint("customer-", rng.IntN(500)), strings.Repeat(fmt.Sprint(rng.IntN(1e6)), 1+rng.IntN(40)), ""}
		}
		plain := build(t, 0, None, rows...)
		for _, codec := range []compress.Compression{compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd} {
			got, next, err := readAll(t, recompress(t, plain, codec), 0, false)
			if err != nil || next != int64(n) || fmt.Sprint(got) != fmt.Sprint(rows) {
				t.Errorf("%d records, %v: next %d, %v, equal %v", n, codec, next, err, fmt.Sprint(got) == fmt.Sprint(rows))
			}
		}
	}
}

func marker(producer int64, kind uint16) func(b []byte) {
	return func(b []byte) {
		binary.BigEndian.PutUint16(b[atAttrs:], attrTransactional|attrControl)
		binary.BigEndian.PutUint64(b[atProducer:], uint64(producer))
	}
}

func control(t testing.TB, base, producer int64, kind uint16) []byte {
	key := string([]byte{0, 0, 0, byte(kind)})
	return rewrite(build(t, base, None, row{base, 1, key, "\x00\x00\x00\x00\x00\x00", ""}), marker(producer, kind))
}

func transactional(t testing.TB, base, producer int64, values ...string) []byte {
	var b Builder
	b.Reset(producer, 0, 0, true, None)
	rows := make([]row, len(values))
	for i, v := range values {
		rows[i] = row{base + int64(i), 1, "k", v, ""}
	}
	return finish(t, &b, base, rows)
}

func values(rows []row) string {
	var s []string
	for _, r := range rows {
		s = append(s, r.Value)
	}
	return strings.Join(s, " ")
}

func TestAnswers(t *testing.T) {
	const abort, commit = 0, 1
	one := func(base int64, v string) []byte { return build(t, base, None, row{base, 1, "k", v, ""}) }
	empty := rewrite(one(10, "gone"), func(b []byte) {
		binary.BigEndian.PutUint32(b[atLastDelta:], 4)
		binary.BigEndian.PutUint32(b[atCount:], 0)
	})
	empty = rewrite(empty[:headerSize], func(b []byte) { binary.BigEndian.PutUint32(b[atLength:], headerSize-lengthFrom) })
	tail := rewrite(one(20, "kept"), func(b []byte) { binary.BigEndian.PutUint32(b[atLastDelta:], 9) })
	cases := []struct {
		rule      string
		raw       [][]byte
		from      int64
		committed bool
		aborted   []Aborted
		want      string
		next      int64
	}{
		{"nothing in, nothing out", nil, 7, false, nil, "", 7},
		{"records before the offset asked for are left out", [][]byte{build(t, 5, None, sample[0], sample[0], sample[0])}, 6, false, nil, "one one", 8},
		{"a batch wholly before the offset is passed over", [][]byte{one(3, "old"), one(4, "new")}, 4, false, nil, "new", 5},
		{"a retained empty batch moves the position", [][]byte{empty}, 10, false, nil, "", 15},
		{"a compacted tail moves the position", [][]byte{tail}, 20, false, nil, "kept", 30},
		{"a batch whose kept records are all before the offset moves the position", [][]byte{tail}, 25, false, nil, "", 30},
		{"a cut-off batch is left for the next answer", [][]byte{one(0, "a"), one(1, "b")[:65]}, 0, false, nil, "a", 1},
		{"less than a header is left for the next answer", [][]byte{one(0, "a"), one(1, "b")[:9]}, 0, false, nil, "a", 1},
		{"markers are not records", [][]byte{transactional(t, 0, 7, "a"), control(t, 1, 7, commit)}, 0, true, nil, "a", 2},
		{
			"aborted records are left out, up to the marker and of that producer only",
			[][]byte{transactional(t, 0, 7, "x"), transactional(t, 1, 8, "y"), control(t, 2, 7, abort), transactional(t, 3, 7, "z"), control(t, 4, 7, commit), control(t, 5, 8, commit)},
			0, true,
			[]Aborted{{7, 0}},
			"y z", 6,
		},
		{
			"two aborted transactions of one producer, listed out of order",
			[][]byte{transactional(t, 0, 7, "a", "b"), control(t, 2, 7, abort), transactional(t, 3, 7, "c"), control(t, 4, 7, commit), transactional(t, 5, 7, "d"), control(t, 6, 7, abort)},
			0, true,
			[]Aborted{{7, 5}, {7, 0}},
			"c", 7,
		},
		{"a transaction that began before the answer", [][]byte{transactional(t, 10, 7, "a"), control(t, 11, 7, abort)}, 10, true, []Aborted{{7, 2}}, "", 12},
		{"who reads uncommitted sees aborted records", [][]byte{transactional(t, 0, 7, "a"), control(t, 1, 7, abort)}, 0, false, []Aborted{{7, 0}}, "a", 2},
		{"plain records between aborted ones stay", [][]byte{transactional(t, 0, 7, "a"), one(1, "plain"), control(t, 2, 7, abort)}, 0, true, []Aborted{{7, 0}}, "plain", 3},
	}
	for _, c := range cases {
		raw := bytes.Join(c.raw, nil)
		got, next, err := readAll(t, raw, c.from, c.committed, c.aborted...)
		if err != nil || values(got) != c.want || next != c.next {
			t.Errorf("%s: got %q next %d %v, want %q next %d", c.rule, values(got), next, err, c.want, c.next)
		}
		if _, next, err := Scan(raw, c.from); err != nil || next != c.next {
			t.Errorf("%s: Scan gives next %d %v, want %d", c.rule, next, err, c.next)
		}
	}
}

func TestCorruption(t *testing.T) {
	good := build(t, 5, None, sample...)
	zipped := build(t, 5, Zstd, sample...)
	cases := []struct {
		rule string
		bad  []byte
		want error
	}{
		{"one flipped bit in a value", func() []byte { b := bytes.Clone(good); b[100] ^= 4; return b }(), ErrCorrupt},
		{"one flipped bit in compressed records", func() []byte { b := bytes.Clone(zipped); b[len(b)-3] ^= 4; return b }(), ErrCorrupt},
		{"good checksum over a broken compressor stream", rewrite(zipped, func(b []byte) { b[headerSize] ^= 0xff }), ErrCorrupt},
		{"more records than there are", rewrite(good, func(b []byte) {
			binary.BigEndian.PutUint32(b[atCount:], 5)
			binary.BigEndian.PutUint32(b[atLastDelta:], 9)
		}), ErrCorrupt},
		{"fewer records than there are", rewrite(good, func(b []byte) { binary.BigEndian.PutUint32(b[atCount:], 3) }), ErrCorrupt},
		{"more records than offsets", rewrite(good, func(b []byte) { binary.BigEndian.PutUint32(b[atLastDelta:], 1) }), ErrCorrupt},
		{"a record beyond the batch's last offset", rewrite(good[:], func(b []byte) {
			binary.BigEndian.PutUint32(b[atLastDelta:], 3)
			b[headerSize+3] = 20 // offset delta of the first record: 10
		}), ErrCorrupt},
		{"a negative length", rewrite(good, func(b []byte) { binary.BigEndian.PutUint32(b[atLength:], 1<<31) }), ErrCorrupt},
		{"message format 1", rewrite(good, func(b []byte) { b[atMagic] = 1 }), ErrFormat},
		{"message format 3", rewrite(good, func(b []byte) { b[atMagic] = 3 }), ErrCorrupt},
		{"an unknown codec", rewrite(good, func(b []byte) { b[atAttrs+1] |= 7 }), ErrCorrupt},
	}
	for _, c := range cases {
		before := build(t, 4, None, row{4, 1, "k", "before", ""})
		got, next, err := readAll(t, append(before, c.bad...), 4, true)
		var corrupt *CorruptError
		if !errors.Is(err, c.want) || !errors.As(err, &corrupt) || corrupt.Offset != 5 {
			t.Errorf("%s: %v", c.rule, err)
		}
		if values(got) != "before" || next != 5 {
			t.Errorf("%s: the batch before it gave %q, next %d", c.rule, values(got), next)
		}
	}
}

// A batch of a few kilobytes that says or turns out to be gigabytes is refused within the pool's limit.
func TestBombs(t *testing.T) {
	plain := build(t, 0, None, row{0, 0, "k", strings.Repeat("\x00", 8<<20), ""})
	for _, codec := range []compress.Compression{compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd} {
		b := recompress(t, plain, codec)
		var r Reader
		r.Reset(NewPool(1<<20), Wrap(b), 0, false, nil)
		if _, err := r.Next(); !errors.Is(err, errBomb) {
			t.Errorf("%v of %d bytes: %v", codec, len(b), err)
		}
	}
}

// LogAppendTime: all records bear the broker's time.
func TestLogAppendTime(t *testing.T) {
	b := rewrite(build(t, 5, None, sample...), func(b []byte) {
		b[atAttrs+1] |= attrLogAppend
		binary.BigEndian.PutUint64(b[atMaxTime:], 777)
	})
	got, _, err := readAll(t, b, 0, false)
	if err != nil || got[0].Timestamp != 777 || got[3].Timestamp != 777 {
		t.Errorf("%v %v", got, err)
	}
}

// Stamp changes who sends a batch and nothing else.
func TestStamp(t *testing.T) {
	var b Builder
	b.Reset(7, 3, 100, true, LZ4)
	b.Append([]byte("k"), []byte("v"), nil, 5)
	out, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	Stamp(out, 9, 4, 0)
	if int64At(out, atProducer) != 9 || binary.BigEndian.Uint16(out[atEpoch:]) != 4 || int32At(out, atSequence) != 0 {
		t.Error("producer not replaced")
	}
	if got, _, err := readAll(t, out, 0, true); err != nil || values(got) != "v" {
		t.Error(got, err)
	}
}

// An empty batch is never sent.
func TestEmptyBatch(t *testing.T) {
	var b Builder
	b.Reset(NoProducer, 0, 0, false, Zstd)
	if out, err := b.Finish(); out != nil || err != nil {
		t.Error(out, err)
	}
}

// Reading makes no garbage once the pool is warm.
func TestNoAllocation(t *testing.T) {
	if raceDetector {
		t.Skip("pools do not keep under the race detector")
	}
	for _, codec := range []Codec{None, LZ4, Zstd} {
		raw := benchBatch(t, codec, 64<<10)
		pool := NewPool(0)
		var r Reader
		n := testing.AllocsPerRun(50, func() {
			buf := pool.Get(len(raw))
			copy(buf.B, raw)
			r.Reset(pool, buf, 0, true, nil)
			for {
				recs, err := r.Next()
				if err != nil {
					break
				}
				recs.Release()
			}
		})
		if n > 1 { // the garbage collector may empty the pool in between
			t.Errorf("%v: %v allocations a batch", codec, n)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, codec := range []Codec{None, LZ4, Zstd} {
		f.Add(build(f, 5, codec, sample...), int64(0), true)
	}
	plain := build(f, 0, None, sample...)
	for _, codec := range []compress.Compression{compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd} {
		f.Add(recompress(f, plain, codec), int64(2), false)
	}
	f.Add(append(transactional(f, 0, 7, "a"), control(f, 1, 7, 0)...), int64(0), true)
	f.Add(control(f, 1, 7, 0)[:80], int64(0), true)
	f.Fuzz(func(t *testing.T, raw []byte, from int64, committed bool) {
		// The checksum is made right, so that what stands behind it is reached.
		if size, err := frame(raw, from); err == nil && size > 0 {
			raw = bytes.Clone(raw)
			seal(raw[:size])
		}
		pool := NewPool(1 << 20)
		var r Reader
		r.Reset(pool, Wrap(raw), from, committed, []Aborted{{7, 0}})
		before := from
		for {
			recs, err := r.Next()
			if err != nil {
				break
			}
			if recs.Len() == 0 {
				t.Fatal("records without a record")
			}
			for i := range recs.Len() {
				rec := recs.At(i)
				if rec.Offset < before || rec.Offset >= recs.NextOffset() {
					t.Fatalf("offset %d outside of [%d,%d)", rec.Offset, before, recs.NextOffset())
				}
				before = rec.Offset + 1
				for h := range rec.Headers {
					_ = h
				}
			}
			if recs.Size() > 1<<20 && recs.Size() > len(raw) {
				t.Fatalf("%d bytes", recs.Size())
			}
			recs.Release()
		}
		_, next, _ := Scan(raw, from)
		if r.Position() > next && next >= from {
			t.Fatalf("reader stands at %d, scan ended at %d", r.Position(), next)
		}
	})
}

func benchBatch(t testing.TB, codec Codec, size int) []byte {
	var b Builder
	b.Reset(NoProducer, 0, 0, false, codec)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := 0; b.Size() < size; i++ {
		v := fmt.Sprintf(`{"id":"u-%08d","customer_id":"c-%06d","time":"2026-01-05T10:%02d:%02dZ","type":"session","quantity":%d.5,"unit":"minutes"}`,
			rng.IntN(1e8), rng.IntN(200000), rng.IntN(60), rng.IntN(60), rng.IntN(90))
		b.Append(fmt.Appendf(nil, "c-%06d", rng.IntN(200000)), []byte(v), nil, 1_700_000_000_000+int64(i))
	}
	out, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(out)
}

func BenchmarkReader(b *testing.B) {
	for _, codec := range []Codec{None, LZ4, Zstd} {
		for _, size := range []int{16 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%v/%dKB", codec, size>>10), func(b *testing.B) {
				raw := benchBatch(b, codec, size)
				pool := NewPool(0)
				var r Reader
				var rec Record
				records, sink := 0, 0
				b.ReportAllocs()
				for b.Loop() {
					buf := pool.Get(len(raw))
					copy(buf.B, raw)
					r.Reset(pool, buf, 0, true, nil)
					for {
						recs, err := r.Next()
						if err != nil {
							break
						}
						for recs.Next(&rec) {
							sink += len(rec.Key) + len(rec.Value)
						}
						records += recs.Len()
						recs.Release()
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(records), "ns/record")
				b.ReportMetric(float64(len(raw))/float64(records/b.N), "wireB/record")
			})
		}
	}
}

func BenchmarkBuilder(b *testing.B) {
	for _, codec := range []Codec{None, LZ4, Zstd} {
		b.Run(codec.String(), func(b *testing.B) {
			var w Builder
			value := bytes.Repeat([]byte("0123456789"), 30)
			b.ReportAllocs()
			records := 0
			for b.Loop() {
				w.Reset(7, 0, 0, true, codec)
				for range 100 {
					w.Append([]byte("customer-17"), value, nil, 5)
				}
				if _, err := w.Finish(); err != nil {
					b.Fatal(err)
				}
				records += 100
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(records), "ns/record")
		})
	}
}
