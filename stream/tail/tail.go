// Package tail reads all partitions of one topic in a plain loop, for whoever is not a task: tools, the console, sinks.
//
// It works on compacted and transactional topics, outlives broker restarts, and takes in partitions that are added to the
// topic. Records come in order within a partition and in no order across them.
//
// It keeps no position: who must not lose or repeat records across restarts stores offsets itself and gives them in
// [Options]. It refuses to jump over records that such a position still expected and that retention has deleted.
package tail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ebb/stream/batch"
	"ebb/stream/conn"
	"ebb/stream/fetch"
)

// From says where reading begins in partitions without an offset of their own.
type From uint8

// The ends of a topic.
const (
	Start From = iota
	End
)

// Options say what to read. Only Topic is required.
type Options struct {
	Topic       string
	From        From
	Offsets     map[int32]int64 // where to begin, by partition; goes before From
	Partitions  []int32         // only these, nil for all; with UntilEnd each is waited for that the brokers do not know yet
	UntilEnd    bool            // stop at the ends as they were when Read was called, instead of waiting for more
	Uncommitted bool            // see records of open and aborted transactions too
}

const (
	bufferBytes = 16 << 20
	// patience is how long a reader that wants to come to an end bears with a cluster that does not answer.
	patience = 30 * time.Second
	// refresh is how often it is looked for new partitions.
	refresh = 30 * time.Second
)

// Record is one record. Its slices are valid until the callback returns.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp int64 // Unix milliseconds
	Key       []byte
	Value     []byte
	Headers   []batch.Header
}

// reader is one call of Read.
type reader struct {
	cluster *conn.Cluster
	o       Options
	fetcher *fetch.Fetcher
	wake    chan struct{}
	parts   map[int32]*part
	fn      func(Record) error
	rec     Record
}

type part struct {
	*fetch.Partition
	end  int64 // with UntilEnd
	done bool
}

// Read calls fn for every record until fn returns an error, which Read returns, until ctx ends (its error), or, with
// UntilEnd, until the ends are reached (nil). A topic that does not exist is conn.ErrTopicMissing. Faults of the network are
// waited out; with UntilEnd for no longer than 30 s without progress.
func Read(ctx context.Context, cluster *conn.Cluster, o Options, fn func(Record) error) error {
	r := &reader{
		cluster: cluster, o: o, wake: make(chan struct{}, 1), parts: map[int32]*part{}, fn: fn,
		rec: Record{Topic: o.Topic},
		fetcher: fetch.New(cluster, fetch.Config{
			Uncommitted: o.Uncommitted, BufferBytes: bufferBytes,
			Now: func() time.Time { return time.Time{} }, // nobody looks at the stamps
		}),
	}
	defer r.close()
	if err := r.begin(ctx); err != nil {
		return fmt.Errorf("read %s: %w", o.Topic, err)
	}
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("read %s: %w", o.Topic, err)
	}
	return nil
}

func (r *reader) close() {
	for _, p := range r.parts {
		p.Close()
	}
	r.fetcher.Close()
}

// begin opens the partitions. With UntilEnd it waits for those that are asked for by number and that not every broker knows yet, because they were
// added a moment ago, and out faults of the network: what is not opened would be taken for read to its end.
func (r *reader) begin(ctx context.Context) error {
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	backoff := conn.Backoff{Min: 50 * time.Millisecond, Max: time.Second}
	for {
		err := r.discover(ctx, r.o.From)
		var none *noTopicError
		if err == nil || !r.o.UntilEnd || errors.As(err, &none) || !conn.Retriable(err) && !errors.Is(err, conn.ErrTopicMissing) {
			return err
		}
		if backoff.Wait(patient) != nil {
			return cmp.Or(ctx.Err(), err)
		}
	}
}

// noTopicError says that there is no such topic, or nothing to be told of it.
type noTopicError struct{ err error }

func (e *noTopicError) Error() string { return e.err.Error() }
func (e *noTopicError) Unwrap() error { return e.err }

// discover opens the partitions that are not open yet.
func (r *reader) discover(ctx context.Context, from From) error {
	topics, _, err := r.cluster.Topics(ctx, r.o.Topic)
	if err != nil {
		return err
	}
	t := topics[r.o.Topic]
	if t.Err != nil {
		return &noTopicError{t.Err}
	}
	for _, p := range r.o.Partitions {
		if !slices.ContainsFunc(t.Partitions, func(q conn.Partition) bool { return q.ID == p }) {
			return fmt.Errorf("partition %d: %w", p, conn.ErrTopicMissing)
		}
	}
	var fresh []int32
	for _, p := range t.Partitions {
		if r.parts[p.ID] == nil && (r.o.Partitions == nil || slices.Contains(r.o.Partitions, p.ID)) {
			fresh = append(fresh, p.ID)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	isolation := conn.ReadCommitted
	if r.o.Uncommitted {
		isolation = conn.ReadUncommitted
	}
	starts, err := r.cluster.Offsets(ctx, r.o.Topic, fresh, conn.Earliest, isolation)
	if err != nil {
		return err
	}
	ends, err := r.cluster.Offsets(ctx, r.o.Topic, fresh, conn.Latest, isolation)
	if err != nil {
		return err
	}
	for _, id := range fresh {
		at, given := r.o.Offsets[id]
		if !given {
			at = starts[id]
			if from == End {
				at = ends[id]
			}
		}
		r.parts[id] = &part{Partition: r.fetcher.Open(r.o.Topic, id, at, r.wake), end: ends[id]}
	}
	return nil
}

func (r *reader) run(ctx context.Context) error {
	idle := time.NewTimer(patience)
	defer idle.Stop()
	look := time.NewTicker(refresh)
	defer look.Stop()
	for {
		some, err := r.drain(ctx)
		if err != nil {
			return err
		}
		if r.o.UntilEnd && r.finished() {
			return nil
		}
		if some {
			idle.Reset(patience)
			continue
		}
		select {
		case <-r.wake:
		case <-idle.C:
			if err := r.trouble(); err != nil && r.o.UntilEnd {
				return err
			}
			idle.Reset(patience)
		case <-look.C:
			if r.o.UntilEnd {
				continue
			}
			// What a look at a broken cluster says, the partitions say better.
			if err := r.discover(ctx, Start); err != nil && ctx.Err() == nil && !conn.Retriable(err) {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drain takes at most one batch from every partition.
func (r *reader) drain(ctx context.Context) (some bool, err error) {
	for _, p := range r.parts {
		if p.done {
			continue
		}
		if ctx.Err() != nil {
			return some, ctx.Err()
		}
		recs, st := p.Poll()
		if recs != nil {
			some = true
			err = r.each(p, recs)
			recs.Release()
		} else if st.Err != nil {
			err = r.stopped(p, st.Err)
		}
		if err != nil {
			return some, err
		}
		if r.o.UntilEnd && st.Delivered >= p.end {
			p.done = true
			p.Close()
		}
	}
	return some, nil
}

func (r *reader) each(p *part, recs *batch.Records) error {
	var b batch.Record
	for recs.Next(&b) {
		if r.o.UntilEnd && b.Offset >= p.end {
			return nil // came after the call
		}
		r.rec.Partition, r.rec.Offset, r.rec.Timestamp = p.ID(), b.Offset, b.Timestamp
		r.rec.Key, r.rec.Value, r.rec.Headers = b.Key, b.Value, r.rec.Headers[:0]
		for h := range b.Headers {
			r.rec.Headers = append(r.rec.Headers, h)
		}
		if err := r.fn(r.rec); err != nil {
			return err
		}
	}
	return nil
}

// stopped: who reads from the start may find that it has moved on meanwhile; nobody expected what is gone.
func (r *reader) stopped(p *part, err error) error {
	var gap *fetch.ErrRetentionGap
	if _, given := r.o.Offsets[p.ID()]; !given && errors.As(err, &gap) {
		p.SeekTo(gap.Start)
		return nil
	}
	return err
}

func (r *reader) finished() bool {
	for _, p := range r.parts {
		if !p.done {
			return false
		}
	}
	return true
}

func (r *reader) trouble() error {
	for _, p := range r.parts {
		if err := p.Status().Trouble; err != nil && !p.done {
			return err
		}
	}
	return nil
}
