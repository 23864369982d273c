package stream

import "testing"

// A ring that has turned keeps the order of what lies in it when it grows, and stops growing at its room.
func TestRingGrowsInOrder(t *testing.T) {
	const room = 3*smallestRing + 1
	s := &source{room: room}
	next := int64(0)
	push := func() {
		if s.n == len(s.ring) {
			s.grow()
		}
		s.nth(s.n).next = next
		s.n++
		next++
	}
	for range smallestRing {
		push()
	}
	for range smallestRing / 2 {
		s.pop()
	}
	for s.n < room {
		push()
		want := s.position
		for sl := range s.decoded() {
			if sl.next != want+1 {
				t.Fatalf("%d slots: got position %d behind %d", s.n, sl.next, want)
			}
			want = sl.next
		}
		if want != next-1 {
			t.Fatalf("%d slots end at %d, want %d", s.n, want, next-1)
		}
	}
	if len(s.ring) != room {
		t.Errorf("the ring has %d slots, want its room of %d", len(s.ring), room)
	}
}
