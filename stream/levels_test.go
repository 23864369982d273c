package stream

import (
	"testing"
	"time"
)

// A partition that stands still holds up one step for as long as patience goes, and not every step after it; once it tells something it is waited for again.
func TestLevelsOfAPartitionThatStandsStill(t *testing.T) {
	l := newLevels(time.Minute)
	second, minute := int64(1000), int64(60_000)
	closed, now := int64(0), int64(0)
	step := func(p int32, to int64, want int64) {
		t.Helper()
		if l.tell(p, to, closed, now) {
			if low := l.whole(3, closed, now); low > closed {
				closed = low
				l.closed(3, low, now)
			}
		}
		if closed != want {
			t.Fatalf("at %d s, after partition %d told step %d, all up to %d is closed, want %d", now/second, p, to, closed, want)
		}
		now += second
	}
	step(0, 1, 0)
	step(1, 1, 0)
	step(2, 1, 1)
	step(0, 2, 1) // 2 stands still from here on
	step(1, 2, 1)
	now += minute
	step(0, 3, 2)
	step(1, 3, 3)
	step(0, 4, 3)
	step(1, 4, 4)
	step(2, 0, 4) // a part of a step: it is at work again
	step(0, 5, 4)
	step(1, 5, 4)
	step(2, 5, 5)
	step(2, 6, 5)
	step(1, 6, 5)
	l.forget(2)
	if low := l.whole(2, closed, now); low != 5 {
		t.Errorf("with two partitions, all is told up to %d, want 5", low)
	}
}

// What was told beyond the newest closed step may have been deleted before a take-over could read it again. A partition that is behind then closes nothing.
func TestLevelsThatWereDeleted(t *testing.T) {
	l := newLevels(time.Minute)
	l.told, l.began = map[int32]int64{0: 99, 1: 90}, 1
	const closed = 99
	if !l.tell(1, 91, closed, 3_600_000) {
		t.Fatal("what it tells is nothing new")
	}
	if low := l.whole(2, closed, 3_600_000); low > closed {
		t.Errorf("all is told up to %d, and nobody told more than %d", low, closed)
	}
	if low := l.whole(2, closed, 3_600_000); low > closed {
		t.Errorf("asked again: all is told up to %d", low)
	}
}

// The wait for a step begins with the first that is told of it. Where that was deleted before it could be read again, it begins with the next.
func TestLevelsWaitAnewAfterAGap(t *testing.T) {
	l := newLevels(time.Minute)
	const closed, day = 99, 86_400_000
	l.told, l.began = map[int32]int64{0: 99, 1: 99}, 1 // somebody told 100 then: it is gone
	if l.tell(0, 108, closed, 9*day); l.whole(2, closed, 9*day) > closed {
		t.Error("the first that is told after nine days closes them at once, with the data of one partition")
	}
	if l.tell(1, 107, closed, 9*day+20_000); l.whole(2, closed, 9*day+20_000) != 107 {
		t.Errorf("all have told 107, and what is whole is %d", l.whole(2, closed, 9*day+20_000))
	}
}
