package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ebb/state/customer"
	"ebb/stream/conn"
	"ebb/stream/event"
)

// Rewinding is what rewinding to a time means.
type Rewinding struct {
	To        time.Time `json:"to"`
	Customers int       `json:"customers"` // whose state is computed anew
	Open      int       `json:"open"`      // open alerts that were told, and are compared with the new ones at the end
	Older     int       `json:"older"`     // of them, those that fired before the time: what founded them may not be read again
	Records   int64     `json:"records"`   // of the feeds, to be applied again
	Changed   bool      `json:"changed"`   // false: nothing was written
}

// PlanRewind says what Rewind would do. It writes nothing, and may be called while instances run.
func (u *Upkeep) PlanRewind(ctx context.Context, to time.Time) (*Rewinding, error) {
	w, _, _, err := u.planRewind(ctx, to)
	return w, err
}

// Rewind lets the state be computed anew from the records of the feeds whose timestamps are not before a time: every customer is forgotten, but for the alerts
// that are open and were told, and every task begins there as at a first start, with a quiet history up to the ends that the feeds have now. A feed of profiles is read from its beginning.
//
// At the end of the quiet history each task compares: an alert that was told and fires again goes on as it was; one that does not is resolved; one that is new is told, if it is news. Nothing
// is published twice.
func (u *Upkeep) Rewind(ctx context.Context, to time.Time) (*Rewinding, error) {
	if err := u.take(ctx); err != nil {
		return nil, err
	}
	w, records, starts, err := u.planRewind(ctx, to)
	if err != nil {
		return nil, err
	}
	w.Changed = true
	for p, r := range records {
		if r == nil {
			continue
		}
		if err := u.mark(ctx, []*taskRecord{r}, int32(p), r.partitions, mark{work: markRewind, note: to.UTC().Format(time.RFC3339)}); err != nil {
			return w, err
		}
	}
	for p, r := range records {
		if r == nil {
			continue
		}
		if err := u.forget(ctx, int32(p)); err != nil {
			return w, fmt.Errorf("partition %d: %w", p, err)
		}
		u.rewound(int32(p), r, starts)
	}
	return w, u.finish(ctx, records)
}

// bounds are where the partitions of a topic are read from, and where they end.
type bounds struct{ from, end map[int32]int64 }

// planRewind looks at everything that Rewind needs to know. The records are those of the partitions that have a state; the bounds are by topic.
func (u *Upkeep) planRewind(ctx context.Context, to time.Time) (*Rewinding, []*taskRecord, map[string]bounds, error) {
	w := &Rewinding{To: to.UTC()}
	records, err := u.records(ctx, func(p int32, img *image) error {
		w.Customers += len(img.newest)
		return u.customers(ctx, p, img, func(id string, value []byte) error {
			rec, err := decodeCustomer(id, value)
			if err != nil {
				return err
			}
			w.count(rec)
			return nil
		})
	})
	if err != nil {
		return nil, nil, nil, err
	}
	begun := 0
	for p, r := range records {
		if r == nil || !r.begun() {
			records[p] = nil
			continue
		}
		begun++
		plain := *r
		if plain.mark.work == markRewind {
			plain.mark = mark{}
		}
		if err := plain.runnable(u.feeds); err != nil {
			return nil, nil, nil, fmt.Errorf("partition %d: %w", p, err)
		}
	}
	if begun == 0 {
		return nil, nil, nil, errors.New("there is no state yet, so there is nothing to rewind: the first start reads the feeds from their beginning")
	}
	starts := map[string]bounds{}
	for _, f := range u.cfg.Feeds {
		b, err := u.boundsAt(ctx, f, to)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("feed %s: %w", f.Feed, err)
		}
		starts[f.Topic] = b
		for p, from := range b.from {
			w.Records += b.end[p] - from
		}
	}
	if topic := u.cfg.Topics.Reroute; topic != "" {
		ends, err := u.offsets(ctx, topic, conn.Latest)
		if err != nil {
			return nil, nil, nil, err
		}
		starts[topic] = bounds{from: ends, end: ends}
	}
	return w, records, starts, nil
}

func (w *Rewinding) count(rec *customer.Record) {
	for _, list := range [][]customer.Lifecycle{rec.Lifecycles, rec.Recalled()} {
		for i := range list {
			if list[i].Unpublished {
				continue
			}
			w.Open++
			if list[i].FiredAt < w.To.UnixMilli() {
				w.Older++
			}
		}
	}
}

// boundsAt are the offsets of the first records of a feed that are not older than a time, or of the first of all for profiles.
func (u *Upkeep) boundsAt(ctx context.Context, f FeedConfig, to time.Time) (b bounds, err error) {
	if b.end, err = u.offsets(ctx, f.Topic, conn.Latest); err != nil {
		return b, err
	}
	if f.Feed == event.Customers {
		b.from, err = u.offsets(ctx, f.Topic, conn.Earliest)
		return b, err
	}
	if b.from, err = u.offsets(ctx, f.Topic, conn.At(max(0, to.UnixMilli()))); err != nil {
		return b, err
	}
	for p, from := range b.from {
		if from < 0 { // nothing is as young
			b.from[p] = b.end[p]
		}
	}
	return b, nil
}

// forget removes the customers of a partition, but for what is kept of alerts that were told.
func (u *Upkeep) forget(ctx context.Context, p int32) error {
	img, err := u.image(ctx, p)
	if err != nil {
		return err
	}
	s := u.spool(p)
	err = u.customers(ctx, p, img, func(id string, value []byte) error {
		rec, err := decodeCustomer(id, value)
		if err != nil {
			return err
		}
		var left []byte
		if rec.Rewind() {
			if len(rec.Recalled()) == 0 { // the end of the quiet history does not look at him
				rec.Deadline = u.deps.Policy.ForgetAt(rec)
				rec.Armed = rec.Deadline
			}
			left = customer.AppendRecord(nil, rec)
		}
		if err := s.changelog(p, []byte(id), left); err != nil {
			return err
		}
		return s.room(ctx)
	})
	if err != nil {
		return err
	}
	return s.flush(ctx)
}

// rewound makes a task record that of a first start at other positions. What is known of the feeds' health stays: it is not in their records.
func (u *Upkeep) rewound(p int32, r *taskRecord, at map[string]bounds) {
	r.mark, r.clock, r.quiet, r.tally, r.census, r.partitions = mark{}, 0, true, tally{}, census{}, u.feeds
	r.kept, r.windowsFrom, r.quarantined = 0, 0, 0
	for f := range r.feeds {
		feed := &r.feeds[f]
		b, ok := at[feed.topic]
		if !ok {
			continue
		}
		feed.rhythm = rhythm{}
		for part, in := range feed.inputs(p) {
			*in = inputRecord{begun: true, position: b.from[part], end: b.end[part], quietEnd: b.end[part]}
		}
	}
	if b, ok := at[r.reroute.topic]; ok {
		r.reroute = rerouteRecord{topic: r.reroute.topic, position: b.end[p], read: b.end[p], end: b.end[p], gap: r.reroute.gap}
	}
}
