package backtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/cespare/xxhash/v2"

	"ebb/detectors"
	"ebb/stream"
	"ebb/stream/event"
)

const (
	dayMs = 24 * 3_600_000
	// shards is how many parts the customers are divided into. It is a constant, so that the result does not depend on the cores.
	shards = 32
	// namedBadRows is how many bad rows are told one by one; all are counted.
	namedBadRows = 20
	// leastBadRows is from how many bad rows on their share is judged before the end.
	leastBadRows = 1000
)

// ErrNoEvents says that there was nothing to replay.
var ErrNoEvents = errors.New("the history holds no events")

// InputOptions say what is read and what is borne.
type InputOptions struct {
	Files []string // paths; "-" is Stdin
	Stdin io.Reader
	// Topic reads the topic of a feed from its start to its end, where the history is in Kafka; nil: it is in Files.
	Topic func(ctx context.Context, f stream.FeedConfig, take func(TopicRecord) error) error
	// From and Until are the event times of the first event that is used and the first that is not, ms; 0 for no bound.
	From, Until int64
	Feeds       []stream.FeedConfig
	Rates       *detectors.Rates
	// MaxRecordBytes is the largest record; 0 is the event package's default.
	MaxRecordBytes int
	// StopAtBadRow ends with the first bad row.
	StopAtBadRow bool
	// MaxBadShare is the share of bad rows above which the history is refused, 0 to 1.
	MaxBadShare float64
	// MaxBytes bounds what is held in memory; a larger history is refused.
	MaxBytes int64
	Progress *Progress
}

// TopicRecord is a record of a topic. Its slices are valid until take returns.
type TopicRecord struct {
	Partition  int32
	Offset     int64
	Timestamp  int64 // ms
	Key, Value []byte
}

// History is what was read: events by shard in the order of their times, and what they make true of every customer.
type History struct {
	From, To  int64 // event time of the first and the last event, ms
	Events    int
	Outside   int                 // events before From or from Until on
	Ignored   int                 // rows that the mapping leaves out
	Acts      int                 // acts of people, which are not carried out
	ByFeed    [event.NumFeeds]int // events
	Types     map[string]int      // how each kind of the contract was met
	Notes     int                 // complaint records of a type that nobody knows, taken as notes
	Thousands *ThousandsReport    // amounts in tables whose points may stand between thousands, nil for none
	Bad       int                 // bad rows
	BadBy     map[string]int      // by reason
	BadRows   []BadRow            // the first of them
	Truth     *Truth
	shards    [shards][]entry
	bytes     int64
}

// entry is one record as it came, with what is needed to put it in order.
type entry struct {
	time  int64
	feed  event.Feed
	key   []byte // nil in a file
	value []byte
}

// entryBytes is what an entry takes beside its key and value.
const entryBytes = 72

// feedOrder is the order of events of equal times: profiles first, because they hold from their time on, then as the task merges.
var feedOrder = [event.NumFeeds]int{event.Customers: 0, event.Usage: 1, event.Payments: 2, event.Complaints: 3, event.Control: 4}

// Read reads a history.
func Read(ctx context.Context, o *InputOptions) (*History, error) {
	l, err := newLoader(ctx, o)
	if err != nil {
		return nil, err
	}
	for _, name := range o.Files {
		if err := l.file(name); err != nil {
			return nil, err
		}
	}
	if o.Topic != nil {
		for _, f := range o.Feeds {
			if err := l.topic(f); err != nil {
				return nil, err
			}
		}
	}
	return l.done()
}

// topic reads the topic of a feed. Rows that cannot be used are named by their partition and offset.
func (l *loader) topic(f stream.FeedConfig) error {
	l.o.Progress.Begin("reading topic "+f.Topic, 0)
	defer l.o.Progress.End()
	return l.o.Topic(l.ctx, f, func(r TopicRecord) error {
		l.o.Progress.Add(int64(len(r.Value)))
		at := event.Position{Topic: f.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp}
		return l.take(at, fmt.Sprintf("%s/%d", f.Topic, r.Partition), f.Feed, bytes.Clone(r.Key), bytes.Clone(r.Value))
	})
}

type loader struct {
	ctx       context.Context
	o         *InputOptions
	names     *feedNames
	thousands *thousands
	decoders  [event.NumFeeds]*event.Decoder
	h         *History
	rows      int
	ev        event.Event
}

func newLoader(ctx context.Context, o *InputOptions) (*loader, error) {
	l := &loader{ctx: ctx, o: o, names: newFeedNames(o.Feeds), thousands: newThousands(o.Feeds), h: &History{Types: map[string]int{}, BadBy: map[string]int{}, Truth: newTruth(o.Rates)}}
	var err error
	l.decoders, err = decoders(o.Feeds, o.MaxRecordBytes)
	return l, err
}

func decoders(feeds []stream.FeedConfig, maxBytes int) (all [event.NumFeeds]*event.Decoder, err error) {
	for _, f := range feeds {
		if all[f.Feed], err = event.NewDecoder(f.Feed, f.Mapping, event.Limits{MaxRecordBytes: maxBytes}); err != nil {
			return all, fmt.Errorf("mapping of feed %s: %w", f.Feed, err)
		}
	}
	return all, nil
}

func (l *loader) file(name string) error {
	in, size := l.o.Stdin, int64(0)
	label := "standard input"
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("events: %w", err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil {
			size = info.Size()
		}
		in, label = f, name
	}
	l.o.Progress.Begin("reading "+label, size)
	r := rows{file: label, feeds: l.names, take: l.row(label), bad: l.bad, thousands: l.thousands}
	err := r.read(&meter{in, l.o.Progress})
	l.o.Progress.End()
	return err
}

// meter tells the progress how much was read.
type meter struct {
	r io.Reader
	p *Progress
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.p.Add(int64(n))
	return n, err
}

func (l *loader) bad(b BadRow) error {
	if l.o.StopAtBadRow {
		return &b
	}
	h := l.h
	if h.Bad++; h.Bad <= namedBadRows {
		h.BadRows = append(h.BadRows, b)
	}
	h.BadBy[b.Reason]++
	if l.rows++; h.Bad >= leastBadRows {
		return l.judge()
	}
	return l.ctx.Err()
}

// judge refuses a history of which too much cannot be read: what is left would be judged as if customers had been silent.
func (l *loader) judge() error {
	if share := float64(l.h.Bad) / float64(max(1, l.rows)); share > l.o.MaxBadShare {
		return fmt.Errorf("%d of %d rows cannot be used (%.1f %%), more than the %.1f %% that are borne; the first: %w",
			l.h.Bad, l.rows, 100*share, 100*l.o.MaxBadShare, &l.h.BadRows[0])
	}
	return nil
}

// row takes the rows of a file.
func (l *loader) row(file string) func(int, event.Feed, []byte) error {
	return func(line int, f event.Feed, value []byte) error {
		return l.take(event.Position{Topic: file, Offset: int64(line), Timestamp: -1}, file, f, nil, value)
	}
}

// take decodes a record for its time and customer and keeps it.
func (l *loader) take(at event.Position, file string, f event.Feed, key, value []byte) error {
	h := l.h
	if f == event.Control { // not carried out, so what they say does not matter
		h.Acts++
		return l.count()
	}
	err := l.decoders[f].Decode(at, key, value, &l.ev)
	var reject *event.Reject
	switch {
	case errors.Is(err, event.ErrIgnored):
		h.Ignored++
	case errors.As(err, &reject):
		return l.bad(BadRow{file, int(at.Offset), string(reject.Reason), reject.Message})
	case err != nil:
		return fmt.Errorf("%s:%d: %w", file, at.Offset, err)
	case l.ev.Time < l.o.From || l.o.Until != 0 && l.ev.Time >= l.o.Until:
		h.Outside++
	default:
		l.keep(f, key, value)
	}
	return l.count()
}

// count counts a row, and now and then looks whether to go on.
func (l *loader) count() error {
	h := l.h
	if l.rows++; l.rows%4096 == 0 {
		if h.bytes > l.o.MaxBytes {
			return fmt.Errorf("the history takes more than the %.1f MB of memory that are allowed: allow more, or divide it by customers", float64(l.o.MaxBytes)/1e6)
		}
		return l.ctx.Err()
	}
	return nil
}

func (l *loader) keep(f event.Feed, key, value []byte) {
	h, ev := l.h, &l.ev
	at := max(ev.Time, 1)
	if h.Events++; h.Events == 1 || at < h.From {
		h.From = at
	}
	h.To = max(h.To, at)
	h.ByFeed[f]++
	h.Types[f.String()+"/"+ev.Kind.String()]++
	if ev.Notes&event.NoteUnknownType != 0 {
		h.Notes++
	}
	h.bytes += int64(len(key)+len(value)) + entryBytes
	s := xxhash.Sum64(ev.Customer) % shards
	h.shards[s] = append(h.shards[s], entry{time: ev.Time, feed: f, key: key, value: value})
	h.Truth.observe(ev)
}

// done puts the events into order.
func (l *loader) done() (*History, error) {
	h := l.h
	if h.Bad > 0 {
		if err := l.judge(); err != nil {
			return nil, err
		}
	}
	if h.Events == 0 {
		return nil, ErrNoEvents
	}
	for i := range h.shards {
		slices.SortFunc(h.shards[i], func(a, b entry) int {
			return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(feedOrder[a.feed], feedOrder[b.feed]), bytes.Compare(a.value, b.value), bytes.Compare(a.key, b.key))
		})
	}
	h.Thousands = l.thousands.report()
	h.Truth.close(h)
	return h, nil
}

func feedName(f int) string { return event.Feed(f).String() }
