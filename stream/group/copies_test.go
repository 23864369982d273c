package group

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go"
)

var readers = append(slices.Clone(feeds), "changelog")

func readerOf(id string, c claim) kafka.GroupMember {
	return kafka.GroupMember{ID: id, Topics: readers, UserData: c.encode()}
}

// told renders an assignment as "A:0,1+2!3": the partitions, those to follow, and of these those that are to come.
func told(t *testing.T, got kafka.GroupMemberAssignments) string {
	t.Helper()
	var out []string
	for id, topics := range got {
		parts := topics[feeds[0]]
		for _, f := range feeds {
			if !slices.Equal(topics[f], parts) {
				t.Errorf("member %s has %v of %s, but %v of %s", id, parts, feeds[0], topics[f], f)
			}
		}
		var assigned []kafka.PartitionAssignment
		for _, p := range topics["changelog"] {
			assigned = append(assigned, kafka.PartitionAssignment{ID: p})
		}
		all, coming := copies(assigned, nil)
		text := id + ":" + list(parts)
		for _, p := range all {
			if slices.Contains(coming, p) {
				text += fmt.Sprint("!", p)
			} else {
				text += fmt.Sprint("+", p)
			}
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func list(parts []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(parts), " ", ","), "[]")
}

func TestAssignCopies(t *testing.T) {
	at := func(position int64, parts ...int32) map[int32]int64 {
		m := map[int32]int64{}
		for _, p := range parts {
			m[p] = position
		}
		return m
	}
	for _, c := range []struct {
		rule       string
		partitions int
		standby    int
		members    map[string]claim
		want       string
	}{
		{
			"where there is little state a new member has its share at once", 4, 0,
			map[string]claim{"A": {generation: 3, owned: []int32{0, 1, 2, 3}, warm: at(90, 0, 1, 2, 3)}, "B": {generation: -1}},
			"A:0,1 B:2,3",
		},
		{
			"a new member copies what it is to get", 4, 0,
			map[string]claim{"A": {generation: 3, owned: []int32{0, 1, 2, 3}, warm: at(9000, 0, 1, 2, 3)}, "B": {generation: -1}},
			"A:0,1,2,3 B:!2!3",
		},
		{
			"what it has caught up with it gets, the rest it goes on copying", 4, 0,
			map[string]claim{"A": {generation: 3, owned: []int32{0, 1, 2, 3}, warm: at(9000, 0, 1, 2, 3)}, "B": {generation: 3, warm: map[int32]int64{2: 8950, 3: 4000}}},
			"A:0,1,3 B:2!3",
		},
		{
			"a partition is not promised to two", 4, 0,
			map[string]claim{"A": {generation: 3, owned: []int32{0, 1, 2, 3}, warm: at(9000, 0, 1, 2, 3)}, "B": {generation: -1}, "C": {generation: -1}},
			"A:0,1,2,3 B:!3 C:!2",
		},
		{
			"the copies of a dead member's partitions take over, beyond their share", 4, 0,
			map[string]claim{"A": {generation: 3, owned: []int32{0}, warm: at(9000, 0, 1, 2, 3)}, "B": {generation: -1}},
			"A:0,1,2,3 B:!2!3",
		},
		{
			"without a ready one the freshest restores, within its share", 2, 0,
			map[string]claim{"A": {generation: -1, warm: map[int32]int64{0: 5000, 1: 9000}}, "B": {generation: -1, warm: at(6000, 0, 1)}},
			"A:1 B:0",
		},
		{
			"a restarted member with its directories gets its partitions back", 4, 0,
			map[string]claim{"A": {generation: 3, owned: []int32{0, 1}, warm: at(9000, 0, 1)}, "B": {generation: -1, warm: at(8000, 2, 3)}},
			"A:0,1 B:2,3",
		},
		{
			"each partition has a copy elsewhere", 4, 1,
			map[string]claim{"A": {generation: 3, owned: []int32{0, 1}, warm: at(9000, 0, 1)}, "B": {generation: 3, owned: []int32{2, 3}, warm: at(9000, 2, 3)}},
			"A:0,1+2+3 B:2,3+0+1",
		},
		{
			"the only member copies nothing", 2, 1,
			map[string]claim{"A": {generation: 3, owned: []int32{0, 1}, warm: at(9000, 0, 1)}},
			"A:0,1",
		},
		{
			"what is to come does not count as a standby copy", 3, 1,
			map[string]claim{
				"A": {generation: 3, owned: []int32{0, 1, 2}, warm: at(9000, 0, 1, 2)}, "B": {generation: -1}, "C": {generation: 3, warm: at(4000, 0)},
			},
			"A:0,1,2 B:+0!2 C:!0+1+2",
		},
	} {
		var members []kafka.GroupMember
		for id, cl := range c.members {
			members = append(members, readerOf(id, cl))
		}
		got := told(t, assign(members, partitionsOf(c.partitions, readers...), rules{copies: "changelog", standby: c.standby, lag: 100}))
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.rule, got, c.want)
		}
	}
}

// Whatever the members claim: each partition has one owner, nobody copies what it owns or one partition twice over, as many copies as can be
// are given out, and nothing moves from an owner but to a member that is ready. When followers catch up and ask, the shares become even.
func TestAssignCopiesProperties(t *testing.T) {
	const lag = 100
	r := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		n, m, standby := 1+r.IntN(16), 1+r.IntN(5), r.IntN(3)
		parts, rule := partitionsOf(n, readers...), rules{copies: "changelog", standby: standby, lag: lag}
		claims := map[string]claim{}
		for i := range m {
			c := claim{generation: int32(r.IntN(4)) - 1, warm: map[int32]int64{}}
			for id := range int32(n) {
				if r.IntN(3) == 0 {
					c.owned = append(c.owned, id)
				}
				if r.IntN(3) == 0 {
					c.warm[id] = r.Int64N(1000)
				}
			}
			claims[fmt.Sprint("m", i)] = c
		}
		for round := range int32(4) {
			var members []kafka.GroupMember
			for id, c := range claims {
				members = append(members, readerOf(id, c))
			}
			got := assign(members, parts, rule)
			text := told(t, got)
			slices.Reverse(members)
			if again := told(t, assign(members, parts, rule)); again != text {
				t.Fatalf("depends on the order: %s, then %s", text, again)
			}
			if round > 0 {
				checkMoves(t, claims, got, lag)
			}
			checkCopies(t, got, n, min(standby, m-1))
			if round == 3 {
				checkEven(t, got, n, m)
			}
			for id, topics := range got { // everybody does what it is told, and catches up
				c := claim{generation: round + 10, warm: map[int32]int64{}}
				for _, p := range slices.Concat(topics[feeds[0]], topics["changelog"]) {
					c.warm[int32(p)] = 2000
				}
				for _, p := range topics[feeds[0]] {
					c.owned = append(c.owned, int32(p))
				}
				claims[id] = c
			}
		}
	}
}

func checkMoves(t *testing.T, claims map[string]claim, got kafka.GroupMemberAssignments, lag int64) {
	t.Helper()
	for id, topics := range got {
		for _, p := range topics[feeds[0]] {
			c := claims[id]
			if !slices.Contains(c.owned, int32(p)) && 2000-c.warm[int32(p)] > lag {
				t.Fatalf("%s got partition %d, of which it is at %d", id, p, c.warm[int32(p)])
			}
		}
	}
}

func checkCopies(t *testing.T, got kafka.GroupMemberAssignments, n, standby int) {
	t.Helper()
	owners, total := map[int]int{}, map[int]int{}
	for id, topics := range got {
		for _, p := range topics[feeds[0]] {
			owners[p]++
			if slices.Contains(topics["changelog"], p) {
				t.Fatalf("%s owns partition %d and copies it", id, p)
			}
		}
		for _, p := range slices.Compact(slices.Clone(topics["changelog"])) {
			total[p]++
		}
	}
	for p := range n {
		if owners[p] != 1 {
			t.Fatalf("partition %d has %d owners", p, owners[p])
		}
		if total[p] < standby {
			t.Fatalf("partition %d has %d copies, want %d", p, total[p], standby)
		}
	}
}
