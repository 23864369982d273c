package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/state/customer"
	"ebb/stream/admin"
	"ebb/stream/conn"
	"ebb/stream/tail"
)

// ErrUndrained says that records of customers who move lie unread in the partitions that they leave.
var ErrUndrained = errors.New("the feeds are not read to their ends")

// Growth is what growing to more partitions means.
type Growth struct {
	From      int32  `json:"from"`           // partitions that the state was built for
	To        int32  `json:"to"`             // partitions of the feeds
	Customers int    `json:"customers"`      // of all partitions
	Moving    int    `json:"moving"`         // of them, who have another partition from now on
	Unread    int64  `json:"unread"`         // records of the feeds that are not applied yet
	Misplaced int64  `json:"misplaced"`      // of them, those that lie in a partition which their customer leaves
	Resumed   bool   `json:"resumed"`        // an earlier run was killed on the way
	Changed   bool   `json:"changed"`        // false: nothing was written
	Feed      string `json:"feed,omitempty"` // the first feed with misplaced records
}

// Needed says whether there is anything to do.
func (g *Growth) Needed() bool { return g.From != g.To || g.Resumed }

// PlanGrowth says what Grow would do. It writes nothing, and may be called while instances run.
func (u *Upkeep) PlanGrowth(ctx context.Context) (*Growth, error) {
	g, _, err := u.planGrowth(ctx)
	return g, err
}

// Grow spreads the state over the partitions that the feeds have by now: the changelog gets as many, each customer moves to the
// partition that the partitioner gives his id, and every partition gets a task record with the clock, the health and the rhythm of those it
// came from.
//
// What the old partitions hold unread of customers who move would be read by tasks that know them no more: Grow refuses with
// ErrUndrained and changes nothing.
func (u *Upkeep) Grow(ctx context.Context) (*Growth, error) {
	if err := u.take(ctx); err != nil {
		return nil, err
	}
	g, records, err := u.planGrowth(ctx)
	if err != nil || !g.Needed() {
		return g, err
	}
	if g.Misplaced > 0 && u.cfg.Topics.Reroute == "" {
		return g, fmt.Errorf("%w: %d records of customers who move lie unread in partitions that they leave, the first of them in %s. Before "+
			"partitions are added, the producers have to pause until ebb has read everything; with a topic for topics.reroute (`ebb topics create`) ebb forwards what is left", ErrUndrained, g.Misplaced, g.Feed)
	}
	g.Changed = true
	if !slices.ContainsFunc(records, func(r *taskRecord) bool { return r != nil }) { // every partition has its first start yet
		return g, u.addPartitions(ctx, g.To)
	}
	m := mark{work: markGrow, note: strconv.Itoa(int(g.To))}
	if err := u.mark(ctx, records[:g.From], 0, g.From, m); err != nil {
		return g, err
	}
	if err := u.addPartitions(ctx, g.To); err != nil {
		return g, err
	}
	u.log.Info("the changelog has its partitions; customers are moved now", "topic", u.cfg.Topics.Changelog, "partitions", g.To, "customers", g.Moving)
	if err := u.mark(ctx, make([]*taskRecord, g.To-g.From), g.From, g.From, m); err != nil {
		return g, err
	}
	for p := range g.To {
		if err := u.moveFrom(ctx, p); err != nil {
			return g, fmt.Errorf("move the customers of partition %d: %w", p, err)
		}
	}
	grown, err := u.grownRecords(ctx, records[:g.From], g.To)
	if err != nil {
		return g, err
	}
	return g, u.finish(ctx, grown)
}

// addPartitions gives the topics that have as many partitions as there are tasks their new ones.
func (u *Upkeep) addPartitions(ctx context.Context, n int32) error {
	for _, topic := range []string{u.cfg.Topics.Changelog, u.cfg.Topics.Reroute} {
		if topic == "" {
			continue
		}
		if err := admin.AddPartitions(ctx, u.deps.Cluster, topic, n); err != nil {
			return err
		}
		u.counts[topic] = n
	}
	u.count = n
	return nil
}

// planGrowth looks at everything that Grow needs to know. The records are those of the changelog's partitions.
func (u *Upkeep) planGrowth(ctx context.Context) (*Growth, []*taskRecord, error) {
	if u.cfg.Check == nil {
		return nil, nil, errors.New("`partitioner` is none: it is not known which partition a customer moves to; set it to what the producers of the feeds use")
	}
	if u.count > u.feeds {
		return nil, nil, fmt.Errorf("%w: changelog %s has %d, the feeds have %d; partitions cannot be taken away. To go on with fewer, export the state and import it into a new changelog",
			ErrPartitionCount, u.cfg.Topics.Changelog, u.count, u.feeds)
	}
	g := &Growth{From: u.feeds, To: u.feeds}
	strays := map[int32][]string{}
	records, err := u.records(ctx, func(p int32, img *image) error {
		g.Customers += len(img.newest)
		for id := range img.newest {
			if u.cfg.Check([]byte(id), u.feeds) != p {
				g.Moving++
				strays[p] = append(strays[p], id)
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	counts, err := u.countsOf(records, g)
	if err != nil {
		return nil, nil, err
	}
	for p, ids := range strays {
		for _, id := range ids {
			if !slices.ContainsFunc(counts, func(n int32) bool { return u.cfg.Check([]byte(id), n) == p }) {
				return nil, nil, fmt.Errorf("partition %d holds a customer who does not belong there by his id: the keys of the feeds are not the customers' ids, or `partitioner` is wrong", p)
			}
		}
	}
	if !g.Needed() {
		return g, records, nil
	}
	return g, records, u.unread(ctx, g, records)
}

// countsOf finds out how many partitions the state was built for, and whether an earlier run was killed. It returns the counts by which
// customers may lie where they are.
func (u *Upkeep) countsOf(records []*taskRecord, g *Growth) ([]int32, error) {
	counts := []int32{u.feeds}
	was := int32(0)
	for p, r := range records {
		if r == nil {
			continue
		}
		switch r.mark.work {
		case "", markGrow:
		default:
			return nil, fmt.Errorf("partition %d: %w", p, r.runnable(u.feeds))
		}
		if r.mark.work == markGrow {
			g.Resumed = true
			n, err := strconv.Atoi(r.mark.note)
			if err != nil {
				return nil, fmt.Errorf("partition %d: mark %q: %w", p, r.mark.note, err)
			}
			counts = append(counts, int32(n))
		}
		made := cmp.Or(r.partitions, u.count) // a record of version 1 does not say
		if was != 0 && made != was {
			return nil, fmt.Errorf("the partitions of %s were built for different counts, %d and %d: tasks ran on part of them; restore the topic, or start a new group", u.cfg.Topics.Changelog, was, made)
		}
		was = made
	}
	if was == 0 { // nothing was ever committed
		was = u.count
	}
	g.From = was
	for p, r := range records {
		if r != nil && !r.begun() { // it was there for its mark only
			records[p] = nil
		}
	}
	return append(counts, was), nil
}

// unread counts the records that the tasks have not applied yet. Where records are forwarded, it need not look at them.
func (u *Upkeep) unread(ctx context.Context, g *Growth, records []*taskRecord) error {
	for _, f := range u.cfg.Feeds {
		starts, err := u.offsets(ctx, f.Topic, conn.Earliest)
		if err != nil {
			return err
		}
		ends, err := u.offsets(ctx, f.Topic, conn.Latest)
		if err != nil {
			return err
		}
		for p, from := range starts {
			if task := p % g.From; records[task] != nil && records[task].feeds[f.Feed].topic == f.Topic {
				if in := records[task].feeds[f.Feed].inputs(task)[p]; in != nil {
					from = max(from, in.position)
				}
			}
			switch {
			case p >= g.From && !f.Reroute: // a new one; its records are where they belong
			case u.cfg.Topics.Reroute != "":
				g.Unread += ends[p] - from
			default:
				if err := u.scan(ctx, g, f.Topic, p, from); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// scan looks for records in one partition of a feed that do not belong there by the new count.
func (u *Upkeep) scan(ctx context.Context, g *Growth, topic string, p int32, from int64) error {
	o := tail.Options{Topic: topic, Partitions: []int32{p}, Offsets: map[int32]int64{p: from}, UntilEnd: true}
	return tail.Read(ctx, u.deps.Cluster, o, func(r tail.Record) error {
		g.Unread++
		if r.Key != nil && u.cfg.Check(r.Key, g.To) != p {
			g.Misplaced++
			g.Feed = cmp.Or(g.Feed, topic)
		}
		return nil
	})
}

// moveFrom moves the customers of a partition who belong elsewhere. A customer is written to his new partition and removed from the old one in one
// transaction.
func (u *Upkeep) moveFrom(ctx context.Context, p int32) error {
	img, err := u.image(ctx, p)
	if err != nil {
		return err
	}
	for id := range img.newest {
		if u.cfg.Check([]byte(id), u.feeds) == p {
			delete(img.newest, id)
		}
	}
	s := u.spool(p)
	err = u.customers(ctx, p, img, func(id string, value []byte) error {
		key := []byte(id)
		if err := errors.Join(s.changelog(u.cfg.Check(key, u.feeds), key, value), s.changelog(p, key, nil)); err != nil {
			return err
		}
		return s.room(ctx)
	})
	if err != nil {
		return err
	}
	return s.flush(ctx)
}

// grownRecords are the task records of n partitions that took over the customers of fewer.
func (u *Upkeep) grownRecords(ctx context.Context, old []*taskRecord, n int32) ([]*taskRecord, error) {
	records := spread(old, n)
	for _, f := range u.cfg.Feeds {
		starts, err := u.offsets(ctx, f.Topic, conn.Earliest)
		if err != nil {
			return nil, err
		}
		for part, start := range starts {
			reader := part % n
			feed := &records[reader].feeds[f.Feed]
			if in := feed.input(part, reader); !in.begun && feed.topic == f.Topic {
				*in = inputRecord{begun: true, position: start, end: start}
			}
		}
	}
	return records, u.tallied(ctx, records)
}

// spread makes the task records of n partitions out of those of fewer, some of which may be nil: nothing was ever committed there. What is known of a feed as a whole
// is known of each part of it; a partition of a feed that no task has read has no input there. Not all may be nil.
func spread(old []*taskRecord, n int32) []*taskRecord {
	whole := union(old, n)
	records := make([]*taskRecord, n)
	for p := range n {
		r := *whole
		records[p] = &r
		var own *taskRecord
		if int(p) < len(old) {
			own = old[p]
		}
		if own != nil { // alerts about the partition itself stay with it, and what it counted
			r.stopped, r.verdicts = own.stopped, own.verdicts
			r.quarantined = cmp.Or(own.quarantined, whole.quarantined)
			r.census.day, r.census.totals = own.census.day, own.census.totals
		}
		r.reroute = spreadReroute(own, whole.clock)
		for f := range r.feeds {
			to := &r.feeds[f]
			to.stalls = slices.Clone(to.stalls)
			to.inputRecord, to.parts, to.gap = inputRecord{}, nil, 0
			if own != nil {
				to.gap = own.feeds[f].gap
			}
		}
	}
	for p, r := range old {
		if r == nil {
			continue
		}
		if int32(p) >= n { // there are fewer now
			records[int32(p)%n].counts(r)
		}
		for f := range r.feeds {
			for part, in := range r.feeds[f].inputs(int32(p)) { // of a feed that is divided among the tasks, most have another reader now
				reader := part % n
				*records[reader].feeds[f].input(part, reader) = *in
			}
		}
	}
	return records
}

// counts takes over what a partition counted that does not exist any more.
func (r *taskRecord) counts(o *taskRecord) {
	sum := emptyVerdicts()
	sum.join(&r.verdicts)
	sum.join(&o.verdicts)
	r.verdicts = sum
	totals := maps.Clone(r.census.totals)
	for day, t := range o.census.totals {
		if totals == nil {
			totals = map[int32]cohorts.Totals{}
		}
		t.Add(totals[day])
		totals[day] = t
	}
	r.census.totals = totals
}

// spreadReroute is how far a task is in the reroute topic. What it promised to forward no more it promised of the customers who were not its own:
// of those who move away since, it knows only that their records before the clock are applied.
func spreadReroute(own *taskRecord, clock int64) rerouteRecord {
	if own == nil {
		return rerouteRecord{}
	}
	r := own.reroute
	r.marked = true // perhaps, of those who come
	r.promised = min(r.promised, clock)
	r.promises = slices.Clone(r.promises)
	for i := range r.promises {
		r.promises[i].promise = min(r.promises[i].promise, clock)
	}
	return r
}

// union is what is known of all partitions together, as one of n parts knows it.
func union(old []*taskRecord, n int32) *taskRecord {
	var whole *taskRecord
	for _, r := range old {
		switch {
		case r == nil:
			continue
		case whole == nil:
			first := *r
			whole = &first
			whole.partitions, whole.mark, whole.tally, whole.verdicts = n, mark{}, tally{}, verdicts{}
			whole.census = census{by: r.census.by, day: r.census.day}
			whole.stopped = 0
			for f := range whole.feeds {
				whole.feeds[f].stalls = slices.Clone(r.feeds[f].stalls)
			}
			continue
		}
		// A customer may come from any of them: nothing is taken for decided that one of them has not reached.
		whole.clock = min(whole.clock, r.clock)
		if r.quarantined != 0 && (whole.quarantined == 0 || r.quarantined < whole.quarantined) {
			whole.quarantined = r.quarantined
		}
		whole.kept, whole.windowsFrom = min(whole.kept, r.kept), max(whole.windowsFrom, r.windowsFrom)
		whole.quiet = whole.quiet || r.quiet
		whole.census.day = max(whole.census.day, r.census.day) // a new partition has nothing to tell of days that were told
		for f := range whole.feeds {
			whole.feeds[f].join(&r.feeds[f])
		}
	}
	for f := range whole.feeds {
		to := &whole.feeds[f]
		to.rhythm = joined(rhythmsOf(old, f), n)
		slices.SortFunc(to.stalls, func(a, b detectors.Interval) int { return cmp.Compare(a.From, b.From) })
		to.stalls = slices.Compact(to.stalls)
		to.stalls = to.stalls[max(0, len(to.stalls)-maxStalls):]
	}
	return whole
}

// join takes over what another partition knows of the health of the same feed. What holds in one of them holds for the customers who come from there.
func (f *feedRecord) join(o *feedRecord) {
	if f.topic == "" {
		*f = *o
		f.stalls = slices.Clone(o.stalls)
		return
	}
	for _, since := range []struct {
		to   *int64
		from int64
	}{{&f.stalled, o.stalled}, {&f.blind, o.blind}} {
		if since.from != 0 && (*since.to == 0 || since.from < *since.to) {
			*since.to = since.from
		}
	}
	f.blindSeverity = max(f.blindSeverity, o.blindSeverity)
	f.stalls = append(f.stalls, o.stalls...)
}

func rhythmsOf(records []*taskRecord, feed int) []*rhythm {
	var out []*rhythm
	for _, r := range records {
		if r != nil {
			out = append(out, &r.feeds[feed].rhythm)
		}
	}
	return out
}

// joined is an n-th part of the rhythm of several partitions together.
func joined(parts []*rhythm, n int32) rhythm {
	var out rhythm
	var rates [weekHours]uint64
	var count uint64
	for _, r := range parts {
		if r.hour == 0 {
			continue
		}
		if out.first == 0 || r.first < out.first {
			out.first = r.first
		}
		switch {
		case r.hour > out.hour:
			out.hour, count = r.hour, uint64(r.count)
		case r.hour == out.hour:
			count += uint64(r.count)
		}
		out.last = max(out.last, r.last)
		for i, x := range r.rate {
			rates[i] += uint64(x)
		}
	}
	for i, x := range rates {
		out.rate[i] = uint32(x / uint64(n))
	}
	out.count = uint32(count / uint64(n))
	return out
}

// decodeCustomer reads the value of a customer in the changelog.
func decodeCustomer(id string, value []byte) (*customer.Record, error) {
	rec := &customer.Record{ID: id}
	if err := customer.DecodeRecord(value, rec); err != nil {
		return nil, fmt.Errorf("stored customer: %w", err) // the id is none of a log's business
	}
	return rec, nil
}
