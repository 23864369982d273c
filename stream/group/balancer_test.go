package group

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go"
)

var feeds = []string{"usage", "payments", "complaints"}

// alike are rules under which all copies are as good as any.
var alike = rules{lag: 1 << 40}

func partitionsOf(n int, topics ...string) []kafka.Partition {
	var out []kafka.Partition
	for _, t := range topics {
		for id := range n {
			out = append(out, kafka.Partition{Topic: t, ID: id})
		}
	}
	return out
}

func memberOf(id string, c claim) kafka.GroupMember {
	return kafka.GroupMember{ID: id, Topics: feeds, UserData: c.encode()}
}

// shares renders an assignment as "A:0,1 B:2", and fails where a member's topics differ.
func shares(t *testing.T, got kafka.GroupMemberAssignments) string {
	t.Helper()
	var out []string
	for id, topics := range got {
		first := topics[feeds[0]]
		for _, f := range feeds {
			if !slices.Equal(topics[f], first) {
				t.Errorf("member %s has %v of %s, but %v of %s", id, first, feeds[0], topics[f], f)
			}
		}
		out = append(out, id+":"+strings.Trim(strings.ReplaceAll(fmt.Sprint(first), " ", ","), "[]"))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestAssign(t *testing.T) {
	for _, c := range []struct {
		rule       string
		partitions int
		members    map[string]claim
		want       string
	}{
		{"new members share evenly", 4, map[string]claim{"A": {generation: -1}, "B": {generation: -1}}, "A:0,2 B:1,3"},
		{"a remainder goes to the first", 5, map[string]claim{"A": {generation: -1}, "B": {generation: -1}}, "A:0,2,4 B:1,3"},
		{"the only member has all", 3, map[string]claim{"A": {generation: -1}}, "A:0,1,2"},
		{"more members than partitions: some have none", 1, map[string]claim{"A": {generation: -1}, "B": {generation: -1}}, "A:0 B:"},
		{
			"partitions stay with their owners", 4,
			map[string]claim{"A": {generation: 7, owned: []int32{1, 3}}, "B": {generation: 7, owned: []int32{0, 2}}},
			"A:1,3 B:0,2",
		},
		{
			"the higher generation wins a claim: an evicted member comes back with what it once had", 4,
			map[string]claim{"A": {generation: 1, owned: []int32{0, 1, 2, 3}}, "B": {generation: 2, owned: []int32{0, 1, 2, 3}}},
			"A:2,3 B:0,1",
		},
		{
			"a joining member takes no more than its share", 6,
			map[string]claim{"A": {generation: 3, owned: []int32{0, 1, 2, 3, 4, 5}}, "B": {generation: -1}},
			"A:0,1,2 B:3,4,5",
		},
		{
			"with a remainder, those who have most keep one more", 5,
			map[string]claim{"A": {generation: 3, owned: []int32{0, 1}}, "B": {generation: 3, owned: []int32{2, 3, 4}}},
			"A:0,1 B:2,3,4",
		},
		{
			"a fifth member is not left without any", 12,
			map[string]claim{
				"A": {generation: 3, owned: []int32{0, 1, 2}}, "B": {generation: 3, owned: []int32{3, 4, 5}},
				"C": {generation: 3, owned: []int32{6, 7, 8}}, "D": {generation: 3, owned: []int32{9, 10, 11}}, "E": {generation: -1},
			},
			"A:0,1,2 B:3,4,5 C:6,7 D:9,10 E:8,11",
		},
		{
			"a leaver's partitions are spread, nothing else moves", 6,
			map[string]claim{"A": {generation: 3, owned: []int32{0, 1}}, "C": {generation: 3, owned: []int32{4, 5}}},
			"A:0,1,2 C:3,4,5",
		},
		{
			"what has to move goes to the freshest copy", 4,
			map[string]claim{
				"A": {generation: -1, warm: map[int32]int64{0: 5, 3: 50}},
				"B": {generation: -1, warm: map[int32]int64{0: 9, 3: 10}},
			},
			"A:1,3 B:0,2",
		},
		{
			"a restarted member gets back those it has copies of", 4,
			map[string]claim{
				"A": {generation: 3, owned: []int32{0, 1, 2, 3}},
				"B": {generation: -1, warm: map[int32]int64{0: 100, 2: 100}},
			},
			"A:1,3 B:0,2",
		},
		{
			"an owner beats a copy", 2,
			map[string]claim{"A": {generation: 3, owned: []int32{0}}, "B": {generation: 3, owned: []int32{1}, warm: map[int32]int64{0: 99}}},
			"A:0 B:1",
		},
		{
			"a claim to a partition that is no more is nothing", 2,
			map[string]claim{"A": {generation: 3, owned: []int32{0, 1, 8, 9}}, "B": {generation: -1}},
			"A:0 B:1",
		},
	} {
		var members []kafka.GroupMember
		for id, cl := range c.members {
			members = append(members, memberOf(id, cl))
		}
		if got := shares(t, assign(members, partitionsOf(c.partitions, feeds...), alike)); got != c.want {
			t.Errorf("%s: %s, want %s", c.rule, got, c.want)
		}
	}
}

func TestAssignOtherMembers(t *testing.T) {
	newer := kafka.GroupMember{ID: "N", Topics: feeds, UserData: []byte{99, 1, 2, 3}}
	old := memberOf("A", claim{generation: 4, owned: []int32{0, 1}})
	if got := shares(t, assign([]kafka.GroupMember{newer, old}, partitionsOf(2, feeds...), alike)); got != "A:0 N:1" {
		t.Errorf("a claim of unknown form counts as none: %s, want A:0 N:1", got)
	}
	fewer := kafka.GroupMember{ID: "F", Topics: feeds[:1], UserData: claim{generation: 4, owned: []int32{0}}.encode()}
	got := assign([]kafka.GroupMember{fewer, memberOf("M", claim{generation: 4, owned: []int32{1}})}, partitionsOf(2, feeds...), alike)
	if fmt.Sprint(got["F"]) != "map[usage:[0]]" {
		t.Errorf("a member gets only topics that it reads: %v", got["F"])
	}
}

// TestAssignProperties: any claims whatsoever lead to a complete, even assignment that does not depend on the order of the arguments;
// and when a member joins or leaves an even group, no partition moves between two that stay.
func TestAssignProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		n, m := r.IntN(20), 1+r.IntN(6)
		var members []kafka.GroupMember
		for i := range m {
			c := claim{generation: int32(r.IntN(4)) - 1, warm: map[int32]int64{}}
			for id := range int32(n + 2) {
				if r.IntN(3) == 0 {
					c.owned = append(c.owned, id)
				}
				if r.IntN(3) == 0 {
					c.warm[id] = r.Int64N(100)
				}
			}
			members = append(members, memberOf(fmt.Sprint("m", i), c))
		}
		parts := partitionsOf(n, feeds...)
		first := assign(members, parts, alike)
		text := shares(t, first)
		r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		if again := shares(t, assign(members, parts, alike)); again != text {
			t.Fatalf("depends on the order: %s, then %s", text, again)
		}
		checkEven(t, first, n, m)
		settled := rejoin(first, 9)
		joined := assign(append(slices.Clone(settled), memberOf("zz", claim{generation: -1})), parts, alike)
		checkEven(t, joined, n, m+1)
		for _, mem := range settled {
			for _, id := range joined[mem.ID][feeds[0]] {
				if !slices.Contains(first[mem.ID][feeds[0]], id) {
					t.Fatalf("a join moved partition %d to %s, which stayed: %s then %s", id, mem.ID, text, shares(t, joined))
				}
			}
		}
		back := assign(rejoin(joined, 10)[:len(joined)-1], parts, alike) // zz, the last, leaves
		for _, mem := range settled {
			for _, id := range joined[mem.ID][feeds[0]] {
				if !slices.Contains(back[mem.ID][feeds[0]], id) {
					t.Fatalf("a leave took partition %d from %s", id, mem.ID)
				}
			}
		}
	}
}

func rejoin(a kafka.GroupMemberAssignments, generation int32) []kafka.GroupMember {
	var out []kafka.GroupMember
	for id, topics := range a {
		c := claim{generation: generation}
		for _, p := range topics[feeds[0]] {
			c.owned = append(c.owned, int32(p))
		}
		out = append(out, memberOf(id, c))
	}
	slices.SortFunc(out, func(a, b kafka.GroupMember) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func checkEven(t *testing.T, a kafka.GroupMemberAssignments, n, m int) {
	t.Helper()
	seen := map[int]bool{}
	for id, topics := range a {
		p := topics[feeds[0]]
		if len(p) < n/m || len(p) > (n+m-1)/m {
			t.Fatalf("%s has %d of %d partitions among %d members", id, len(p), n, m)
		}
		for _, x := range p {
			if seen[x] {
				t.Fatalf("partition %d has two owners", x)
			}
			seen[x] = true
		}
	}
	if len(seen) != n {
		t.Fatalf("%d of %d partitions assigned", len(seen), n)
	}
}

func FuzzDecodeClaim(f *testing.F) {
	f.Add(claim{generation: -1}.encode())
	f.Add(claim{generation: 1 << 30, owned: []int32{0, 5}, warm: map[int32]int64{3: 1 << 40, 9: -1}}.encode())
	f.Add([]byte{1, 0, 255, 255, 255, 255, 15})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeClaim(b)
		if err != nil {
			return
		}
		again, err := decodeClaim(c.encode())
		if err != nil || again.generation != c.generation || !slices.Equal(again.owned, c.owned) || len(again.warm) != len(c.warm) {
			t.Errorf("%v became %v (%v)", c, again, err)
		}
	})
}
