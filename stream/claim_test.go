package stream_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"ebb/state"
	"ebb/stream"
	"ebb/stream/kafkatest"
	"ebb/stream/txn"
)

// otherGroup is an instance of another group that was given the same topics, but for its own facts.
func (w *world) otherGroup(name string) *world {
	w.t.Helper()
	v := w.twin()
	v.group = name
	v.facts = "facts-" + name
	w.broker.CreateTopic(w.t, w.topic(v.facts), 1, nil)
	w.broker.CreateTopic(w.t, w.topic(v.facts+"-changelog"), 1, map[string]string{"cleanup.policy": "compact"})
	return v
}

// end waits until an instance ends by itself.
func (r *running) end() error {
	err := <-r.done
	r.done <- err
	return err
}

// A changelog that another group has written is refused before anything is written to it, and the instance ends.
func TestForeignChangelog(t *testing.T) {
	w, _ := applied(t, 2)
	before := fmt.Sprint(w.broker.EndOffsets(t, w.topic("changelog")), w.broker.EndOffsets(t, w.topic("alerts")))
	r := w.otherGroup(w.broker.Name("other")).start()
	err := r.end()
	if !errors.Is(err, stream.ErrForeignChangelog) {
		t.Fatalf("the instance ended with %v", err)
	}
	for _, part := range []string{w.topic("changelog"), w.group, w.broker.Name("other"), "give every group its own changelog"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not tell %q: %v", part, err)
		}
	}
	if after := fmt.Sprint(w.broker.EndOffsets(t, w.topic("changelog")), w.broker.EndOffsets(t, w.topic("alerts"))); after != before {
		t.Errorf("changelog and alerts ended at %v, and after the other group came at %v", before, after)
	}
}

// Two groups begin at the same moment on one changelog that is still empty: one of them goes on, and the other has published nothing.
func TestTwoGroupsClaimAnEmptyChangelog(t *testing.T) {
	winners := map[string]int{}
	seeds(t, 6, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 5))
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.adjust, w.portion = smallCuts, 25
		events := settled(seed, 20)
		w.produce(events)
		worlds := map[string]*world{"one": w.otherGroup("one"), "two": w.otherGroup("two")}
		running := map[string]*running{}
		for name, v := range worlds {
			pauses := [2]time.Duration{}
			for i := range pauses {
				pauses[i] = time.Duration(rng.IntN(30)) * time.Millisecond
			}
			v.step = func(p int32, _ txn.Step) error {
				if p != stream.SecondStage {
					nap(pauses[p])
				}
				return nil
			}
			running[name] = v.start()
		}
		var winner, loser string
		for range 600 {
			nap(100 * time.Millisecond)
			for name, other := range map[string]string{"one": "two", "two": "one"} {
				select {
				case err := <-running[name].done:
					running[name].done <- err
					if !errors.Is(err, stream.ErrForeignChangelog) {
						t.Fatalf("group %s ended with %v", name, err)
					}
					winner, loser = other, name
				default:
				}
			}
			if loser != "" {
				break
			}
		}
		if loser == "" {
			t.Fatal("neither group was refused")
		}
		winners[winner]++
		v := worlds[winner]
		v.virtuallyCaughtUp()
		if err := running[winner].stop(); err != nil {
			t.Errorf("the group that was first: %v", err)
		}
		now := time.Now().UnixMilli()
		compareSteps(t, w.steps(now), reference(events, now))
		for _, r := range w.broker.ReadCommitted(t, w.topic("alerts")) {
			if r.Headers["ce_source"] != "/ebb/"+winner {
				t.Errorf("an alert of %s, while %s was first", r.Headers["ce_source"], winner)
			}
		}
		// The order of the claims outlives the instances: the first goes on, and the other is refused again.
		w.broker.Fake.Compact()
		again := v.start()
		w.joined(again)
		nap(5 * time.Second)
		if err := again.stop(); err != nil {
			t.Errorf("the group that was first, at its next start: %v", err)
		}
		worlds[loser].disk = state.NewMemDisk()
		if err := worlds[loser].start().end(); !errors.Is(err, stream.ErrForeignChangelog) {
			t.Errorf("the other group ended with %v at its next start", err)
		}
	})
	if len(winners) != 2 {
		t.Logf("first were %v", winners)
	}
}

// A group that claimed its changelog and was killed before its first cut goes on, although another group has claimed it since.
func TestKilledBetweenClaimAndFirstCut(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.adjust = smallCuts
		p := newPower(w)
		ends := counter(2)
		w.step = func(_ int32, s txn.Step) error {
			if s == txn.StepEnd && ends() {
				return p.cut()
			}
			return nil
		}
		events := settled(3, 20)
		w.produce(events)
		r := w.start()
		<-p.off
		r.kill()
		w.dial, w.step = w.broker.Dial, nil
		nap(time.Minute)
		if err := w.otherGroup("other").start().end(); !errors.Is(err, stream.ErrForeignChangelog) {
			t.Errorf("the other group ended with %v", err)
		}
		w.livesOn()
		now := time.Now().UnixMilli()
		compareSteps(t, w.steps(now), reference(events, now))
	})
}

// A changelog whose beginning is cleaned away after its bounds were asked for, and before it is read, is read from where it begins then: at a first start, which looks whose it is, and
// at one that replays it.
func TestCleanedWhileItIsRead(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.adjust = smallCuts
		for range 2 { // what an earlier group of the name left: the older of the two goes
			w.broker.Produce(t, w.topic("changelog"), kafkatest.Record{Key: []byte("\x00gone"), Value: []byte{}})
		}
		var f kafkatest.Faults
		w.dial = f.Dial(w.broker.Dial)
		compact := func() { w.broker.Fake.Compact() }
		events := settled(3, 20)
		w.produce(events)
		f.Before(kafkatest.KeyFetch, compact)
		r := w.start()
		w.settled(r)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		w.disk = state.NewMemDisk()
		f.Before(kafkatest.KeyFetch, compact)
		w.settled(w.start())
		now := time.Now().UnixMilli()
		compareSteps(t, w.steps(now), reference(events, now))
	})
}
