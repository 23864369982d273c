package stream

import (
	"context"
	"fmt"
	"strings"

	"ebb/stream/group"
	"ebb/stream/offsets"
)

// A process that was killed stays a member of its group until its session ends, and holds everybody up. Its successor can
// remove it, if it knows its member id: from the state directory, or, where that is lost, from the note that every cut leaves
// with the committed offsets.

// memberNote is what a cut leaves: who the instance is, and as whom it committed.
func memberNote(identity string, g *group.Generation) string {
	if identity == "" {
		return ""
	}
	return fmt.Sprintf("%s %d %s", identity, g.ID, g.MemberID)
}

// predecessor is the member id of the process that this one follows, "" if there is none or it cannot be told. Should the
// note speak of a process that is alive after all, it is put out and joins again: nothing is lost by a mistake but time.
func (e *Engine) predecessor(ctx context.Context) string {
	if id := e.deps.State.MemberID(); id != "" || e.cfg.Identity == "" {
		return id
	}
	notes, err := offsets.New(e.deps.Cluster, e.cfg.Group, e.cfg.Feeds[0].Topic).Metadata(ctx)
	if err != nil {
		e.log.Warn("the predecessor of this instance cannot be told; the group may wait for its session to end", "err", err)
		return ""
	}
	newest, member := -1, ""
	for _, note := range notes {
		rest, ours := strings.CutPrefix(note, e.cfg.Identity+" ")
		var generation int
		var id string
		if n, err := fmt.Sscan(rest, &generation, &id); !ours || n != 2 || err != nil {
			continue
		}
		if generation > newest {
			newest, member = generation, id
		}
	}
	return member
}
