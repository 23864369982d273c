package stream

import (
	"errors"
	"testing"
	"time"

	"ebb/stream/event"
)

// What other tasks promised to an earlier life holds as soon as what that life had read and not applied is here again, and there is room
// for it: a record of the feeds that is applied before would go before forwarded ones that are earlier.
func TestPromisesToAnEarlierLife(t *testing.T) {
	wall := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	k := &task{partitions: 2}
	k.cfg, k.now = &Config{Reroute: RerouteConfig{Interval: time.Second, Buffer: 1}}, func() time.Time { return wall }
	r := k.newReroute(&rerouteRecord{topic: "reroute", position: 3, read: 9, promises: []promiseRecord{{from: 1, promise: 1000}}})
	k.reroute = r
	live := wall.UnixMilli()
	for r.read = 3; r.read < 9; r.read++ {
		if k.lookAtLanes(); r.passes(1) || r.passes(live) || r.clock > 1 {
			t.Fatalf("read up to %d of 9, a record may be applied, and the clock go to %d", r.read, r.clock)
		}
		k.overdue = false
		if n, err := k.timers(); n != 0 || err != nil || !k.overdue { // there is no table to ask
			t.Fatalf("read up to %d of 9, %d deadlines are decided (%v), which would be put off", r.read, n, err)
		}
	}
	r.read, k.cfg.Time.FeedUnreachableAfter = 8, 30*time.Second
	for after, passes := range map[time.Duration]bool{0: false, 30 * time.Second: false, 31 * time.Second: true} {
		r.status.Trouble, r.status.Answered = errors.New("no broker"), wall.Add(-after)
		if k.lookAtLanes(); r.passes(live) != passes || r.passes(1) {
			t.Errorf("%v after the last answer, a live record passes: %v", after, !passes)
		}
		if n, err := k.timers(); n != 0 || err != nil || k.overdue == passes { // no record is merged while deadlines are overdue
			t.Errorf("%v after the last answer, %d deadlines are decided (%v), and records wait for those that are not: %v", after, n, err, k.overdue)
		}
	}
	r.read, r.status.Trouble, r.ended = 9, nil, true
	if k.lookAtLanes(); !r.passes(live) {
		t.Error("all is here again, and a live record waits")
	}
	if k.lookAtLanes(); !r.passes(1000) || r.passes(1001) {
		t.Errorf("up to the promise, 1000, records may be applied, not up to %d", r.hold)
	}
}

// A forwarded record that has no time does not hide the one behind it from the clock.
func TestTheClockWaitsBehindForwardedRecordsWithoutATime(t *testing.T) {
	wall := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	k := &task{partitions: 2}
	k.cfg, k.now = &Config{Reroute: RerouteConfig{Interval: time.Second}}, func() time.Time { return wall }
	r := k.newReroute(&rerouteRecord{topic: "reroute", promises: []promiseRecord{{from: 1, promise: wall.UnixMilli()}}})
	k.reroute, r.ended = r, true
	l := r.lane(laneKey{from: 1, feed: event.Usage})
	bad, good := &parcel{}, &parcel{}
	bad.reject, good.ev.Time = &event.Reject{}, 1000
	l.held, r.full = []*parcel{bad, good}, []*lane{l}
	if k.lookAtLanes(); r.clock != 1000 {
		t.Errorf("the clock may go to %d, and a record of 1000 is to come", r.clock)
	}
	if at := l.time(); at != 0 {
		t.Errorf("what has no time is to be applied at %d", at)
	}
}
