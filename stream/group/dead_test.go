package group

import (
	"testing"

	"github.com/segmentio/kafka-go"
)

// A member that is known to be dead gets nothing, although the coordinator still lists it.
func TestTheDeadGetNothing(t *testing.T) {
	b := &balancer{warm: func() map[int32]int64 { return nil }, joining: func() {}, dead: func() string { return "dead" }, last: claim{generation: -1}}
	members := []kafka.GroupMember{
		{ID: "dead", Topics: []string{"usage"}, UserData: claim{generation: 3, owned: []int32{0, 1}}.encode()},
		{ID: "new", Topics: []string{"usage"}, UserData: claim{generation: -1}.encode()},
	}
	partitions := []kafka.Partition{{Topic: "usage", ID: 0}, {Topic: "usage", ID: 1}, {Topic: "usage", ID: 2}}
	got := b.AssignGroups(members, partitions)
	if len(got["dead"]) != 0 || len(got["new"]["usage"]) != 3 {
		t.Errorf("assigned %v", got)
	}
	if !b.alone() {
		t.Error("the dead count as company")
	}
}
