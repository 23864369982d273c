package group

import (
	"context"
	"errors"
	"slices"

	"ebb/stream/conn"
)

// watchLoop looks at the partition counts, and reports each change once. A restarting broker answers for a moment as if there were no
// topics, so that a topic counts as deleted only when it is missing twice in a row.
func (m *member) watchLoop(ctx context.Context) {
	known := make(map[string]int)
	missing := make(map[string]bool)
	names := slices.Concat(m.cfg.Topics, m.cfg.Others)
	for {
		topics, _, err := m.cfg.Cluster.Topics(ctx, names...)
		if err != nil {
			m.cfg.Log.Debug("metadata could not be read", "err", err)
			topics = nil
		}
		for name, topic := range topics {
			gone := errors.Is(topic.Err, conn.ErrTopicMissing)
			if topic.Err != nil && (!gone || !missing[name]) {
				missing[name] = gone
				continue
			}
			missing[name] = gone
			now := len(topic.Partitions)
			was, seen := known[name]
			known[name] = now
			if seen && was != now {
				m.cfg.PartitionsChanged(name, was, now)
			}
		}
		if !sleep(ctx, m.cfg.MetadataInterval) {
			return
		}
	}
}
