package group

import (
	"cmp"
	"slices"

	"github.com/segmentio/kafka-go"
)

// rules say how partitions are given out.
type rules struct {
	copies  string // topic that stands for the local copies, empty: none are assigned
	standby int    // copies of each partition beside its task
	lag     int64  // changelog offsets that a copy may be behind and still take over at once
}

// candidate is a member while its share is worked out.
type candidate struct {
	kafka.GroupMember
	claim  claim
	parts  []int32
	quota  int
	coming []int32 // partitions that it copies in order to get them
	copies []int32 // partitions that it copies in case
}

func (c *candidate) full() bool { return len(c.parts) >= c.quota }

// room is how many more partitions it should get, those that are on their way not counted again.
func (c *candidate) room() int { return c.quota - len(c.parts) - len(c.coming) }

// division is one assignment in the making.
type division struct {
	rules
	all   []*candidate
	ids   []int32
	end   map[int32]int64 // the furthest that anybody is with a partition
	owner map[int32]*candidate
}

// assign gives each partition id, of all topics at once, to one member, and its copies to others; see the package documentation.
// The result depends on the arguments only, not on their order.
func assign(members []kafka.GroupMember, partitions []kafka.Partition, r rules) kafka.GroupMemberAssignments {
	ids, topics := partitionIDs(partitions, r.copies)
	d := &division{rules: r, all: candidates(members), ids: ids, end: map[int32]int64{}, owner: map[int32]*candidate{}}
	for _, c := range d.all {
		for id, at := range c.claim.warm {
			d.end[id] = max(d.end[id], at)
		}
	}
	if len(d.all) == 0 {
		return kafka.GroupMemberAssignments{}
	}
	free := d.keep()
	d.setQuotas()
	d.give(free)
	d.balance()
	d.giveCopies()

	out := make(kafka.GroupMemberAssignments, len(d.all))
	for _, c := range d.all {
		out[c.ID] = c.assignment(topics, r.copies)
	}
	return out
}

// assignment is what the member is told: the same partitions of every feed, and of the topic of the copies those that it is to
// follow. One that it is to get as soon as it has caught up is named twice.
func (c *candidate) assignment(topics map[int32][]string, copies string) map[string][]int {
	slices.Sort(c.parts)
	mine := make(map[string][]int)
	for _, id := range c.parts {
		for _, topic := range topics[id] {
			if slices.Contains(c.Topics, topic) {
				mine[topic] = append(mine[topic], int(id))
			}
		}
	}
	if !c.follows(copies) {
		return mine
	}
	follow := slices.Concat(c.copies, c.coming, c.coming)
	slices.Sort(follow)
	for _, id := range follow {
		mine[copies] = append(mine[copies], int(id))
	}
	return mine
}

// follows says whether the member understands the topic of the copies.
func (c *candidate) follows(copies string) bool {
	return copies != "" && slices.Contains(c.Topics, copies)
}

func partitionIDs(partitions []kafka.Partition, copies string) (ids []int32, topics map[int32][]string) {
	topics = make(map[int32][]string)
	for _, p := range partitions {
		if p.Topic == copies {
			continue
		}
		id := int32(p.ID)
		if _, ok := topics[id]; !ok {
			ids = append(ids, id)
		}
		topics[id] = append(topics[id], p.Topic)
	}
	slices.Sort(ids)
	return ids, topics
}

// candidates sorts the members and reads their claims. One that cannot be read, of a newer version perhaps, claims nothing.
func candidates(members []kafka.GroupMember) []*candidate {
	all := make([]*candidate, len(members))
	for i, m := range members {
		c, _ := decodeClaim(m.UserData)
		all[i] = &candidate{GroupMember: m, claim: c}
	}
	slices.SortFunc(all, func(a, b *candidate) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// ready says that a member would be at work with a partition soon: its copy is nearly as far as anybody is.
func (d *division) ready(c *candidate, id int32) bool { return d.end[id]-c.claim.warm[id] <= d.lag }

func (d *division) hand(c *candidate, id int32) {
	if from := d.owner[id]; from != nil {
		from.parts = slices.DeleteFunc(from.parts, func(p int32) bool { return p == id })
	}
	d.owner[id] = c
	c.parts = append(c.parts, id)
}

// keep gives each partition to its owner of the highest generation, and returns those without any.
func (d *division) keep() (free []int32) {
	for _, id := range d.ids {
		var owner *candidate
		for _, c := range d.all {
			if slices.Contains(c.claim.owned, id) && (owner == nil || c.claim.generation > owner.claim.generation) {
				owner = c
			}
		}
		if owner == nil {
			free = append(free, id)
			continue
		}
		d.hand(owner, id)
	}
	return free
}

// setQuotas bounds each member's share. Where the division leaves a remainder, those with the most get the one more: fewest moves.
func (d *division) setQuotas() {
	order := slices.Clone(d.all)
	slices.SortStableFunc(order, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(len(b.parts), len(a.parts)), cmp.Compare(len(b.claim.warm), len(a.claim.warm)))
	})
	for i, c := range order {
		c.quota = len(d.ids) / len(d.all)
		if i < len(d.ids)%len(d.all) {
			c.quota++
		}
	}
}

// give finds members for partitions that nobody serves: first for those of which there is a copy.
func (d *division) give(free []int32) {
	var cold []int32
	for _, id := range free {
		if d.end[id] == 0 && !slices.ContainsFunc(d.all, func(c *candidate) bool { _, warm := c.claim.warm[id]; return warm }) {
			cold = append(cold, id)
			continue
		}
		d.hand(d.best(id), id)
	}
	for _, id := range cold {
		d.hand(d.best(id), id)
	}
}

// best is the member that serves a partition soonest; of several, one with room for it, with the freshest copy, with the least to do.
// A member that is ready gets more than its share rather than that customers wait for a restore: the balance comes afterwards.
func (d *division) best(id int32) *candidate {
	return slices.MinFunc(d.all, func(a, b *candidate) int {
		return cmp.Or(
			falseFirst(!d.ready(a, id), !d.ready(b, id)),
			falseFirst(a.full(), b.full()),
			cmp.Compare(b.claim.warm[id], a.claim.warm[id]),
			cmp.Compare(len(a.parts), len(b.parts)),
		)
	})
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// move is a way to even out the shares.
type move struct {
	id   int32
	from *candidate
	to   *candidate
}

// balance moves partitions from members with more than their share to members with less that are ready for them. One
// that nobody is ready for stays where it is, and a member with room begins to copy it.
func (d *division) balance() {
	for {
		m, ok := d.bestMove(func(m move) bool {
			return !m.to.full() && (d.ready(m.to, m.id) || !m.to.follows(d.copies)) // who cannot copy can only be given it
		})
		if !ok {
			break
		}
		d.hand(m.to, m.id)
	}
	for _, c := range d.all {
		for surplus := len(c.parts) - c.quota; surplus > 0; surplus-- {
			m, ok := d.bestMove(func(m move) bool {
				return m.from == c && m.to.room() > 0 && m.to.follows(d.copies) && !d.promised(m.id)
			})
			if !ok {
				break
			}
			m.to.coming = append(m.to.coming, m.id)
		}
	}
}

// promised says that a partition is on its way to a member already.
func (d *division) promised(id int32) bool {
	return slices.ContainsFunc(d.all, func(c *candidate) bool { return slices.Contains(c.coming, id) })
}

// bestMove is the possible move to the freshest copy; of several the one to the member with least, of the highest partition.
func (d *division) bestMove(possible func(move) bool) (best move, ok bool) {
	for _, from := range d.all {
		if len(from.parts) <= from.quota {
			continue
		}
		for _, id := range from.parts {
			for _, to := range d.all {
				m := move{id, from, to}
				if to == from || !possible(m) || ok && !d.before(m, best) {
					continue
				}
				best, ok = m, true
			}
		}
	}
	return best, ok
}

func (d *division) before(a, b move) bool {
	return cmp.Or(
		cmp.Compare(b.to.claim.warm[b.id], a.to.claim.warm[a.id]),
		cmp.Compare(len(a.to.parts)+len(a.to.coming), len(b.to.parts)+len(b.to.coming)),
		cmp.Compare(b.id, a.id),
	) < 0
}

// giveCopies picks the standby copies: where there is a copy already, the freshest first, within an even share.
func (d *division) giveCopies() {
	var able []*candidate
	for _, c := range d.all {
		if c.follows(d.copies) {
			able = append(able, c)
		}
	}
	n := min(d.standby, len(d.all)-1)
	if n <= 0 || len(able) == 0 {
		return
	}
	share := (len(d.ids)*n + len(able) - 1) / len(able)
	for range n {
		for _, id := range d.ids {
			free := slices.DeleteFunc(slices.Clone(able), func(c *candidate) bool {
				return d.owner[id] == c || slices.Contains(c.copies, id) || slices.Contains(c.coming, id)
			})
			if len(free) == 0 {
				continue
			}
			to := slices.MinFunc(free, func(a, b *candidate) int {
				return cmp.Or(
					falseFirst(len(a.copies) >= share, len(b.copies) >= share),
					cmp.Compare(b.claim.warm[id], a.claim.warm[id]),
					cmp.Compare(len(a.copies)+len(a.parts), len(b.copies)+len(b.parts)),
				)
			})
			to.copies = append(to.copies, id)
		}
	}
}
