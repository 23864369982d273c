package stream_test

import (
	"testing"
	"time"

	"ebb/state"
	"ebb/stream"
	"ebb/stream/kafkatest"
)

// TestAWipedInstanceFindsItsPredecessor: who was killed holds the group up until its session ends, a minute here and longer
// than the test waits. The successor has lost its state directory and knows the predecessor from the committed offsets.
func TestAWipedInstanceFindsItsPredecessor(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 2)
	w.adjust = func(c *stream.Config) {
		c.Identity = "this-instance"
		c.Membership.Session, c.Membership.Rebalance = time.Minute, time.Minute
	}
	events, _ := history(3, 30)
	half := len(events) / 2
	w.produce(events[:half])
	r := w.start()
	w.caughtUp()
	r.kill()
	w.member, w.disk = noMember(), state.NewMemDisk()
	w.produce(events[half:])
	r = w.start()
	w.caughtUp()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}
