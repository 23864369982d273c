package group

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/segmentio/kafka-go"
)

// protocolName is how members of one group recognise each other's balancer. Another name is another, incompatible group.
const protocolName = "ebb-copartition"

// claim is what a member tells the leader of itself when it joins.
type claim struct {
	generation int32           // the last one it took part in, -1 if none
	owned      []int32         // what it was assigned then, ascending
	warm       map[int32]int64 // partition -> changelog position of the local copy
}

// balancer makes the assignment if this member is elected leader, and carries its claim. kafka-go calls it from a goroutine of its own.
type balancer struct {
	warm    func() map[int32]int64
	joining func()        // called just before a JoinGroup is sent
	dead    func() string // member id that is surely dead, "" if none

	mu      sync.Mutex
	last    claim
	members int // of the last assignment made here, 0 if none was
}

var _ kafka.GroupBalancer = (*balancer)(nil)

// ProtocolName implements kafka.GroupBalancer.
func (b *balancer) ProtocolName() string { return protocolName }

// UserData implements kafka.GroupBalancer.
func (b *balancer) UserData() ([]byte, error) {
	b.joining()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.members = 0
	c := b.last
	c.warm = b.warm()
	return c.encode(), nil
}

// AssignGroups implements kafka.GroupBalancer.
func (b *balancer) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	// A dead predecessor that is put out just as the rebalance completes may still be in the list; what it got nobody would serve.
	if dead := b.dead(); dead != "" {
		members = slices.DeleteFunc(slices.Clone(members), func(m kafka.GroupMember) bool { return m.ID == dead })
	}
	b.mu.Lock()
	b.members = len(members)
	b.mu.Unlock()
	return assign(members, partitions)
}

// assigned notes the outcome of a rebalance, for the next claim.
func (b *balancer) assigned(generation int32, partitions []int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = claim{generation: generation, owned: partitions}
}

// alone says that this member made the last assignment, for itself only.
func (b *balancer) alone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.members == 1
}

const claimVersion = 1

// encode writes: version, generation, number of owned partitions, these, number of warm ones, partition and position of each. All varints.
func (c claim) encode() []byte {
	b := []byte{claimVersion}
	b = binary.AppendVarint(b, int64(c.generation))
	b = binary.AppendUvarint(b, uint64(len(c.owned)))
	for _, p := range c.owned {
		b = binary.AppendUvarint(b, uint64(p))
	}
	warm := make([]int32, 0, len(c.warm))
	for p := range c.warm {
		warm = append(warm, p)
	}
	slices.Sort(warm)
	b = binary.AppendUvarint(b, uint64(len(warm)))
	for _, p := range warm {
		b = binary.AppendUvarint(b, uint64(p))
		b = binary.AppendVarint(b, c.warm[p])
	}
	return b
}

var errClaim = errors.New("group: claim of unknown form")

// decodeClaim reads what encode wrote.
func decodeClaim(b []byte) (claim, error) {
	c := claim{generation: -1}
	if len(b) == 0 || b[0] != claimVersion {
		return c, errClaim
	}
	r := varints{b: b[1:]}
	c.generation = int32(r.signed())
	for n := r.count(); n > 0; n-- {
		c.owned = append(c.owned, int32(r.unsigned()))
	}
	n := r.count()
	c.warm = make(map[int32]int64, n)
	for ; n > 0; n-- {
		p := int32(r.unsigned())
		c.warm[p] = r.signed()
	}
	if r.bad {
		return claim{generation: -1}, errClaim
	}
	return c, nil
}

// varints reads a sequence; after a fault everything is zero.
type varints struct {
	b   []byte
	bad bool
}

func (r *varints) unsigned() uint64 {
	v, n := binary.Uvarint(r.b)
	return v & uint64(r.step(n))
}

func (r *varints) signed() int64 {
	v, n := binary.Varint(r.b)
	return v & r.step(n)
}

// step moves on, and returns a mask that is zero after a fault.
func (r *varints) step(n int) int64 {
	if n <= 0 || r.bad {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return -1
}

// count reads a length. No element is shorter than a byte, so that a length beyond what is left is a fault.
func (r *varints) count() int {
	n := r.unsigned()
	if n > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(n)
}

// candidate is a member while its share is worked out.
type candidate struct {
	kafka.GroupMember
	claim claim
	parts []int32
	quota int
}

func (c *candidate) full() bool { return len(c.parts) >= c.quota }

// assign gives each partition id, of all topics at once, to one member. The result depends on its arguments only, not on their order.
//
// Each member gets the mean number of partitions, rounded down or up. Within that bound: a partition stays with the member that
// owned it in the highest generation; one that has to move goes where a local copy of its state lies, the freshest first; what is left fills the
// members up evenly. Members that must give some up give those first that another member with room has a copy of.
func assign(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	ids, topics := partitionIDs(partitions)
	all := candidates(members)
	free := takeOwned(all, ids)
	setQuotas(all, len(ids))
	free = append(free, releaseSurplus(all)...)
	slices.Sort(free)
	free = giveWarm(all, free)
	giveRest(all, free)

	out := make(kafka.GroupMemberAssignments, len(all))
	for _, c := range all {
		slices.Sort(c.parts)
		mine := make(map[string][]int)
		for _, id := range c.parts {
			for _, topic := range topics[id] {
				if slices.Contains(c.Topics, topic) {
					mine[topic] = append(mine[topic], int(id))
				}
			}
		}
		out[c.ID] = mine
	}
	return out
}

func partitionIDs(partitions []kafka.Partition) (ids []int32, topics map[int32][]string) {
	topics = make(map[int32][]string)
	for _, p := range partitions {
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

// takeOwned gives each partition to its owner of the highest generation, and returns those without any.
func takeOwned(all []*candidate, ids []int32) (free []int32) {
	for _, id := range ids {
		var owner *candidate
		for _, c := range all {
			if slices.Contains(c.claim.owned, id) && (owner == nil || c.claim.generation > owner.claim.generation) {
				owner = c
			}
		}
		if owner == nil {
			free = append(free, id)
			continue
		}
		owner.parts = append(owner.parts, id)
	}
	return free
}

// setQuotas bounds each member's share. Where the division leaves a remainder, those with the most get the one more: fewest moves.
func setQuotas(all []*candidate, n int) {
	if len(all) == 0 {
		return
	}
	order := slices.Clone(all)
	slices.SortStableFunc(order, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(len(b.parts), len(a.parts)), cmp.Compare(len(b.claim.warm), len(a.claim.warm)))
	})
	for i, c := range order {
		c.quota = n / len(all)
		if i < n%len(all) {
			c.quota++
		}
	}
}

func releaseSurplus(all []*candidate) (free []int32) {
	for _, c := range all {
		surplus := len(c.parts) - c.quota
		if surplus <= 0 {
			continue
		}
		slices.SortStableFunc(c.parts, func(a, b int32) int {
			return cmp.Or(cmp.Compare(freshest(all, c, a), freshest(all, c, b)), cmp.Compare(a, b))
		})
		keep := len(c.parts) - surplus
		free = append(free, c.parts[keep:]...)
		c.parts = c.parts[:keep]
	}
	return free
}

// freshest is the position of the best copy of a partition at members with room, other than its owner; -1 if there is none.
func freshest(all []*candidate, owner *candidate, id int32) int64 {
	best := int64(-1)
	for _, c := range all {
		if c == owner || c.full() {
			continue
		}
		if at, ok := c.claim.warm[id]; ok {
			best = max(best, at)
		}
	}
	return best
}

func giveWarm(all []*candidate, free []int32) (left []int32) {
	for _, id := range free {
		var best *candidate
		for _, c := range all {
			at, ok := c.claim.warm[id]
			if ok && !c.full() && (best == nil || at > best.claim.warm[id]) {
				best = c
			}
		}
		if best == nil {
			left = append(left, id)
			continue
		}
		best.parts = append(best.parts, id)
	}
	return left
}

func giveRest(all []*candidate, free []int32) {
	for _, id := range free {
		var least *candidate
		for _, c := range all {
			if !c.full() && (least == nil || len(c.parts) < len(least.parts)) {
				least = c
			}
		}
		if least != nil {
			least.parts = append(least.parts, id)
		}
	}
}
