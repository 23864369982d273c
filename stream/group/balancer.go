package group

import (
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
	warm       map[int32]int64 // partition -> changelog position of its local copy, or of its task
}

// balancer makes the assignment if this member is elected leader, and carries its claim. kafka-go calls it from a goroutine of its own.
type balancer struct {
	rules   rules
	warm    func() map[int32]int64
	joining func()        // called just before a JoinGroup is sent
	dead    func() string // member id that is surely dead, "" if none

	mu      sync.Mutex
	last    claim
	members int  // of the last assignment made here, 0 if none was
	blank   bool // that had nothing to give out
}

var _ kafka.GroupBalancer = (*balancer)(nil)

// ProtocolName implements kafka.GroupBalancer.
func (b *balancer) ProtocolName() string { return protocolName }

// UserData implements kafka.GroupBalancer.
func (b *balancer) UserData() ([]byte, error) {
	b.joining()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.members, b.blank = 0, false
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
	b.members, b.blank = len(members), len(partitions) == 0
	b.mu.Unlock()
	return assign(members, partitions, b.rules)
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

// blankly says that this member made the last assignment, and knew of no partition. A broker that has just been started answers for a moment
// as if there were no topics; kafka-go takes that for a topic that is still to be made, and leaves it to others to join again then.
func (b *balancer) blankly() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.blank
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
