package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/conn"
	"ebb/stream/event"
	"ebb/stream/partition"
)

// From says where the feeds are read on after an import.
type From string

// The places.
const (
	FromEnd   From = "end"   // what comes from now on
	FromStart From = "start" // all that the topics hold
	FromTime  From = "time"  // the records whose timestamps are not before a time
	FromSame  From = "same"  // the offsets of the export: the topics are those of the export
)

// Positions is where the feeds are read on. Mirrored topics have other offsets than their originals.
type Positions struct {
	From From
	Time time.Time // of FromTime
}

// Imported is what importing an export means.
type Imported struct {
	Exported
	Open    int   `json:"open"`    // open alerts, for the table of open alerts
	Records int64 `json:"records"` // of the feeds, to be read first
	Already bool  `json:"already"` // it was imported before; nothing is to be done
	Changed bool  `json:"changed"` // false: nothing was written
}

// PlanImport checks an export and says what Import would do. It writes nothing.
func (u *Upkeep) PlanImport(ctx context.Context, file io.ReadSeeker, at Positions) (*Imported, error) {
	m, _, _, err := u.planImport(ctx, file, at)
	return m, err
}

// Import writes an exported state into the changelog of this group, which has to be empty, or to hold the very state that was exported. Customers go to the partition that their id has here; the
// feeds are read on where at says; the table of open alerts is written anew. Events that were counted already and come again are known by their ids, as far as those are remembered.
func (u *Upkeep) Import(ctx context.Context, file io.ReadSeeker, at Positions) (*Imported, error) {
	if err := u.take(ctx); err != nil {
		return nil, err
	}
	m, old, starts, err := u.planImport(ctx, file, at)
	if err != nil || m.Already {
		return m, err
	}
	m.Changed = true
	if err := u.mark(ctx, make([]*taskRecord, u.feeds), 0, u.feeds, mark{work: markImport, note: m.ID}); err != nil {
		return m, err
	}
	if err := u.takeIn(ctx, file, m.Partitions); err != nil {
		return m, err
	}
	records := u.transplanted(old, starts, at)
	if err := u.tallied(ctx, records); err != nil {
		return m, err
	}
	for _, r := range records {
		r.mark = mark{note: m.ID}
	}
	return m, u.finish(ctx, records)
}

// planImport looks at everything that Import needs to know: the task records of the export, and where the feeds are read on, by topic.
func (u *Upkeep) planImport(ctx context.Context, file io.ReadSeeker, at Positions) (*Imported, []*taskRecord, map[string]bounds, error) {
	old, m, err := u.inspectExport(file)
	if err != nil {
		return nil, nil, nil, err
	}
	switch {
	case m.Group != u.cfg.Group:
		return nil, nil, nil, fmt.Errorf("the export is of group %q, this is group %q: alerts bear the group in their ids; set `group: %s`", m.Group, u.cfg.Group, m.Group)
	case u.count != u.feeds:
		return nil, nil, nil, fmt.Errorf("%w: changelog %s has %d, the feeds have %d", ErrPartitionCount, u.cfg.Topics.Changelog, u.count, u.feeds)
	case u.cfg.Check == nil && m.Partitions != u.feeds:
		return nil, nil, nil, fmt.Errorf("%w: %d in the export, %d here, and with `partitioner: none` it is not known where customers belong", ErrPartitionCount, m.Partitions, u.feeds)
	case at.From == FromSame && m.Partitions != u.feeds:
		return nil, nil, nil, fmt.Errorf("%w: %d in the export, %d here: these are not the topics of the export; choose other positions", ErrPartitionCount, m.Partitions, u.feeds)
	}
	if m.Already, err = u.vacant(ctx, m.ID); err != nil || m.Already {
		return m, old, nil, err
	}
	starts := map[string]bounds{}
	for _, f := range u.cfg.Feeds {
		b, err := u.importBounds(ctx, f, at, old)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("feed %s: %w", f.Feed, err)
		}
		starts[f.Topic] = b
		for p, from := range b.from {
			m.Records += b.end[p] - from
		}
	}
	if topic := u.cfg.Topics.Reroute; topic != "" {
		ends, err := u.offsets(ctx, topic, conn.Latest)
		if err != nil {
			return nil, nil, nil, err
		}
		starts[topic] = bounds{from: ends, end: ends}
	}
	return m, old, starts, nil
}

// inspectExport reads the file once, to its end, and returns the task records by partition.
func (u *Upkeep) inspectExport(file io.ReadSeeker) ([]*taskRecord, *Imported, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, nil, err
	}
	m := &Imported{}
	byPartition := map[int32]*taskRecord{}
	x, err := readExport(file, func(p int32, b []byte) (err error) {
		byPartition[p], err = decodeTaskRecord(b)
		return err
	}, func(_ int32, id, value []byte) error {
		rec, err := decodeCustomer(string(id), value)
		if err == nil {
			eachTold(rec, func(*customer.Lifecycle) { m.Open++ })
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	m.Exported = *x
	old := make([]*taskRecord, x.Partitions)
	for p, r := range byPartition {
		if p < 0 || p >= x.Partitions {
			return nil, nil, fmt.Errorf("%w: partition %d of %d", ErrExport, p, x.Partitions)
		}
		old[p] = r
	}
	if len(byPartition) == 0 {
		return nil, nil, fmt.Errorf("%w: no task record", ErrExport)
	}
	return old, m, nil
}

// vacant makes sure that nothing is overwritten: there is no state, or what an import of the same export left, or the state that was exported. It tells
// whether the import was done before.
func (u *Upkeep) vacant(ctx context.Context, id string) (already bool, err error) {
	_, err = u.records(ctx, func(p int32, img *image) error {
		r := img.record
		switch {
		case r != nil && r.mark == mark{note: id}:
			already = true
			return nil
		case r == nil && len(img.newest) == 0:
			return nil
		case r != nil && (r.mark == mark{work: markImport, note: id} || r.mark == mark{work: markMoved, note: id}):
			return nil
		}
		return fmt.Errorf("changelog %s holds a state already (partition %d: %d customers); an export is imported into an empty one: name an unused topic in topics.changelog and run `ebb topics create`",
			u.cfg.Topics.Changelog, p, len(img.newest))
	})
	return already, err
}

// importBounds is where a feed is read on.
func (u *Upkeep) importBounds(ctx context.Context, f FeedConfig, at Positions, old []*taskRecord) (b bounds, err error) {
	if b.end, err = u.offsets(ctx, f.Topic, conn.Latest); err != nil {
		return b, err
	}
	switch at.From {
	case FromEnd:
		b.from = b.end
	case FromStart:
		b.from, err = u.offsets(ctx, f.Topic, conn.Earliest)
	case FromTime:
		b.from, err = u.offsets(ctx, f.Topic, conn.At(max(0, at.Time.UnixMilli())))
		for p, from := range b.from {
			if from < 0 { // nothing is as young
				b.from[p] = b.end[p]
			}
		}
	case FromSame:
		b.from, err = u.samePositions(ctx, f, old, b.end)
	default:
		err = fmt.Errorf("positions %q are not known", at.From)
	}
	return b, err
}

// samePositions are those of the export, of partitions that are not in it the start.
func (u *Upkeep) samePositions(ctx context.Context, f FeedConfig, old []*taskRecord, ends map[int32]int64) (map[int32]int64, error) {
	from, err := u.offsets(ctx, f.Topic, conn.Earliest)
	if err != nil {
		return nil, err
	}
	for p, r := range old {
		if r == nil {
			continue
		}
		for part, in := range r.feeds[f.Feed].inputs(int32(p)) {
			if in.position > ends[part] {
				return nil, fmt.Errorf("partition %d of %s ends at %d, and the export was computed up to %d: this is not the topic of the export; choose other positions", part, f.Topic, ends[part], in.position)
			}
			from[part] = in.position
		}
	}
	return from, nil
}

// takeIn writes the customers of an export, and their lines of the table of open alerts.
func (u *Upkeep) takeIn(ctx context.Context, file io.ReadSeeker, partitions int32) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	topics, _, err := u.deps.Cluster.Topics(ctx, u.cfg.Topics.OpenAlerts)
	if err == nil {
		err = topics[u.cfg.Topics.OpenAlerts].Err
	}
	if err != nil {
		return fmt.Errorf("topic %s: %w", u.cfg.Topics.OpenAlerts, err)
	}
	table := int32(len(topics[u.cfg.Topics.OpenAlerts].Partitions))
	env := &detectors.Env{Calendar: customer.NewCalendar(u.cfg.Time.Zone), Rates: u.cfg.Rates}
	s := u.spool(0)
	_, err = readExport(file, nil, func(p int32, id, value []byte) error {
		if u.feeds != partitions {
			p = u.cfg.Check(id, u.feeds)
		}
		rec, err := decodeCustomer(string(id), value)
		if err == nil {
			err = s.changelog(p, id, value)
		}
		if err != nil {
			return err
		}
		eachTold(rec, func(l *customer.Lifecycle) {
			m := u.deps.Policy.OpenAlert(rec, l, env)
			err = errors.Join(err, s.add(u.cfg.Topics.OpenAlerts, partition.Murmur2(m.Key, table), m.Key, m.Value, wireHeaders(m.Headers)))
		})
		return errors.Join(err, s.room(ctx))
	})
	if err != nil {
		return err
	}
	return s.flush(ctx)
}

// eachTold calls f for every open alert that somebody was told of.
func eachTold(r *customer.Record, f func(l *customer.Lifecycle)) {
	for _, list := range [][]customer.Lifecycle{r.Lifecycles, r.Recalled()} {
		for i := range list {
			if !list[i].Unpublished {
				f(&list[i])
			}
		}
	}
}

// transplanted are the task records of an export as those of this cluster.
func (u *Upkeep) transplanted(old []*taskRecord, at map[string]bounds, from Positions) []*taskRecord {
	records := spread(old, u.feeds)
	if len(old) == len(records) { // the customers stay together: each record is its own
		for p, r := range old {
			if r != nil {
				records[p] = r
			}
		}
		if from.From == FromSame && u.stays(old) {
			return records
		}
	}
	for p, r := range records {
		r.cluster, r.partitions, r.mark = u.cluster, u.feeds, mark{}
		r.reroute = rerouteRecord{}
		if topic := u.cfg.Topics.Reroute; topic != "" {
			end := at[topic].end[int32(p)]
			r.reroute = rerouteRecord{topic: topic, position: end, read: end, end: end, marked: true} // perhaps
		}
		var read [event.NumFeeds]bool
		for _, f := range u.cfg.Feeds {
			feed := &r.feeds[f.Feed]
			feed.topic, feed.parts = f.Topic, nil
			if from.From != FromSame {
				feed.gap = 0
			}
			feed.inputRecord = inputRecord{}
			read[f.Feed] = true
		}
		for f := range r.feeds {
			if !read[f] {
				r.feeds[f] = feedRecord{}
			}
		}
	}
	for _, f := range u.cfg.Feeds {
		b := at[f.Topic]
		for part, position := range b.from {
			reader := part % u.feeds
			in := inputRecord{begun: true, position: position, end: b.end[part]}
			if records[reader].quiet {
				in.quietEnd = b.end[part]
			}
			*records[reader].feeds[f.Feed].input(part, reader) = in
		}
	}
	return records
}

// stays is true if the records are of this cluster: the state goes on where it was.
func (u *Upkeep) stays(old []*taskRecord) bool {
	for _, r := range old {
		if r != nil && r.cluster != u.cluster {
			return false
		}
	}
	return true
}
