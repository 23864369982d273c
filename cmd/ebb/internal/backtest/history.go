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
	Feeds []stream.FeedConfig
	Rates *detectors.Rates
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

// History is what was read: events by shard in the order of their times, and what they make true of every customer.
type History struct {
	From, To int64 // event time of the first and the last event, ms
	Events   int
	Ignored  int                 // rows that the mapping leaves out
	Acts     int                 // acts of people, which are not carried out
	ByFeed   [event.NumFeeds]int // events
	Types    map[string]int      // how each kind of the contract was met
	Bad      int                 // bad rows
	BadBy    map[string]int      // by reason
	BadRows  []BadRow            // the first of them
	Truth    *Truth
	shards   [shards][]entry
	bytes    int64
}

// entry is one record as it came, with what is needed to put it in order.
type entry struct {
	time  int64
	feed  event.Feed
	value []byte
}

// entryBytes is what an entry takes beside its value.
const entryBytes = 48

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
	return l.done()
}

type loader struct {
	ctx      context.Context
	o        *InputOptions
	names    *feedNames
	decoders [event.NumFeeds]*event.Decoder
	h        *History
	rows     int
	ev       event.Event
}

func newLoader(ctx context.Context, o *InputOptions) (*loader, error) {
	l := &loader{ctx: ctx, o: o, names: newFeedNames(o.Feeds), h: &History{Types: map[string]int{}, BadBy: map[string]int{}, Truth: newTruth(o.Rates)}}
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
	r := rows{file: label, feeds: l.names, take: l.take(label), bad: l.bad}
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

// take decodes a record for its time and customer and keeps it.
func (l *loader) take(file string) func(int, event.Feed, []byte) error {
	return func(line int, f event.Feed, value []byte) error {
		h := l.h
		err := l.decoders[f].Decode(event.Position{Topic: file, Offset: int64(line), Timestamp: -1}, nil, value, &l.ev)
		var reject *event.Reject
		switch {
		case errors.Is(err, event.ErrIgnored):
			h.Ignored++
		case errors.As(err, &reject):
			return l.bad(BadRow{file, line, string(reject.Reason), reject.Message})
		case err != nil:
			return fmt.Errorf("%s:%d: %w", file, line, err)
		case f == event.Control:
			h.Acts++
		default:
			l.keep(f, value)
		}
		if l.rows++; l.rows%4096 == 0 {
			if h.bytes > l.o.MaxBytes {
				return fmt.Errorf("the history takes more than the %.1f MB of memory that are allowed: allow more, or divide it by customers", float64(l.o.MaxBytes)/1e6)
			}
			return l.ctx.Err()
		}
		return nil
	}
}

func (l *loader) keep(f event.Feed, value []byte) {
	h, ev := l.h, &l.ev
	at := max(ev.Time, 1)
	if h.Events++; h.Events == 1 || at < h.From {
		h.From = at
	}
	h.To = max(h.To, at)
	h.ByFeed[f]++
	h.Types[f.String()+"/"+ev.Kind.String()]++
	h.bytes += int64(len(value)) + entryBytes
	s := xxhash.Sum64(ev.Customer) % shards
	h.shards[s] = append(h.shards[s], entry{time: ev.Time, feed: f, value: value})
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
			return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(feedOrder[a.feed], feedOrder[b.feed]), bytes.Compare(a.value, b.value))
		})
	}
	h.Truth.close(h)
	return h, nil
}

func feedName(f int) string { return event.Feed(f).String() }
