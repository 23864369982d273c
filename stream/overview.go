package stream

import (
	"context"
	"time"

	"ebb/stream/admin"
	"ebb/stream/conn"
)

// StateOverview is what the changelog of a group holds.
type StateOverview struct {
	Group               string           `json:"group"`
	Cluster             string           `json:"cluster"`
	FeedPartitions      int32            `json:"feed_partitions"`
	ChangelogPartitions int32            `json:"changelog_partitions"`
	Members             []admin.Member   `json:"members"` // instances that run
	Customers           int              `json:"customers"`
	OpenAlerts          int64            `json:"open_alerts"`
	Stages              map[string]int64 `json:"stages,omitempty"`  // of all partitions that tell them
	Refusal             string           `json:"refusal,omitempty"` // why no task would start on it
	Partitions          []StatePartition `json:"partitions"`
}

// StatePartition is what one partition of it holds.
type StatePartition struct {
	Partition  int32     `json:"partition"`
	Begun      bool      `json:"begun"` // false: no task ever committed there
	Customers  int       `json:"customers"`
	OpenAlerts int64     `json:"open_alerts"`
	Clock      time.Time `json:"clock,omitzero"` // event time up to which it is applied
	Unread     int64     `json:"unread"`         // offsets of the feeds between the position and the end
	Quiet      bool      `json:"quiet"`          // history is applied without publishing
	// Stages are the customers of whom an event is known, by stage; nil where a version that did not count them so committed last.
	Stages map[string]int64 `json:"stages,omitempty"`
}

// Show reads what the changelog holds. It writes nothing, and may be called while instances run.
func (u *Upkeep) Show(ctx context.Context) (*StateOverview, error) {
	members, err := u.Members(ctx)
	if err != nil {
		return nil, err
	}
	o := &StateOverview{
		Group: u.cfg.Group, Cluster: u.cluster, FeedPartitions: u.feeds, ChangelogPartitions: u.count, Members: append([]admin.Member{}, members...),
	}
	records, err := u.records(ctx, func(p int32, img *image) error {
		at := StatePartition{Partition: p, Customers: len(img.newest)}
		if r := img.record; r != nil && r.begun() {
			at.Begun, at.Clock, at.Quiet, at.Stages = true, time.UnixMilli(r.clock).UTC(), r.quiet, r.tally.byStage()
			for name, n := range at.Stages {
				if o.Stages == nil {
					o.Stages = map[string]int64{}
				}
				o.Stages[name] += n
			}
			for _, s := range r.tally.open {
				at.OpenAlerts += s.count
			}
		}
		o.Customers += at.Customers
		o.OpenAlerts += at.OpenAlerts
		o.Partitions = append(o.Partitions, at)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r == nil {
			continue
		}
		if err := r.runnable(u.feeds); err != nil && o.Refusal == "" {
			o.Refusal = err.Error()
		}
	}
	return o, u.lag(ctx, o, records)
}

func (u *Upkeep) lag(ctx context.Context, o *StateOverview, records []*taskRecord) error {
	for _, f := range u.cfg.Feeds {
		ends, err := u.offsets(ctx, f.Topic, conn.Latest)
		if err != nil {
			return err
		}
		for p, r := range records {
			if r == nil || r.feeds[f.Feed].topic != f.Topic {
				continue
			}
			for part, in := range r.feeds[f.Feed].inputs(int32(p)) {
				o.Partitions[p].Unread += max(0, ends[part]-in.position)
			}
		}
	}
	return nil
}
