package stream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ebb/state"
	"ebb/stream/kafkatest"
)

// What stands in the changelog and cannot be decoded stops its partition with the place and the mend, before anything is written over it;
// the other partition goes on. Once it is mended, so does this one.
func TestUndecodableChangelog(t *testing.T) {
	const taskRecord = "\x00task"
	for _, c := range []struct {
		name, key string // no key: a customer of the partition
		value     []byte
		mend      string
	}{
		{"customer of a newer version", "", []byte{99, 1, 2, 3}, "run that version or a newer one"},
		{"damaged customer", "", []byte{1, 0xff, 0xff, 0xff}, "restore the topic"},
		{"task record of a newer version", taskRecord, []byte{99, 1, 2, 3}, "run that version or newer"},
		{"damaged task record", taskRecord, []byte{1, 0xff, 0xff, 0xff}, "restore the topic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := applied(t, 2)
			changelog := w.topic("changelog")
			at := w.broker.EndOffsets(t, changelog)[0]
			if c.key == "" {
				c.key = w.customerOf(0, "c")
			}
			good := w.last(changelog, 0, c.key)
			w.broker.Produce(t, changelog, kafkatest.Record{Key: []byte(c.key), Value: c.value})
			r := w.start()
			s := w.awaitState(r, 0, "stopped")
			for _, part := range []string{changelog, "partition 0", fmt.Sprintf("offset %d", at), c.mend} {
				if !strings.Contains(s.Error, part) {
					t.Errorf("the error does not tell %q: %s", part, s.Error)
				}
			}
			w.othersGoOn(r, 1)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			if end := w.broker.EndOffsets(t, changelog)[0]; end != at+1 {
				t.Errorf("%d records were written behind what cannot be read", end-at-1)
			}

			w.broker.Produce(t, changelog, kafkatest.Record{Key: []byte(c.key), Value: good})
			r = w.start()
			w.settled(r)
		})
	}
}

// last is the newest value of a key, nil if there is none.
func (w *world) last(topic string, p int32, key string) (value []byte) {
	w.t.Helper()
	for _, r := range w.broker.ReadCommitted(w.t, topic) {
		if r.Partition == p && string(r.Key) == key {
			value = r.Value
		}
	}
	return value
}

// othersGoOn checks that a partition is still served.
func (w *world) othersGoOn(r *running, p int32) {
	w.t.Helper()
	who, events := uses(w, p, 3)
	w.produce(events)
	kafkatest.Eventually(w.t, "the other partition goes on", func() error {
		rec, err := r.Customer(context.Background(), who)
		switch {
		case err != nil:
			return err
		case len(rec.Usage) == 0:
			return errors.New("not yet")
		}
		return nil
	})
}

// The same in the local copy, whose changelog is sound: nothing is made up in place of what cannot be read. A damaged copy is rebuilt at once, one of
// a newer version once it is removed.
func TestUndecodableLocalState(t *testing.T) {
	for name, value := range map[string][]byte{"newer version": {99, 1, 2, 3}, "damaged": {1, 0xff, 0xff, 0xff}} {
		t.Run(name, func(t *testing.T) {
			w, _ := applied(t, 2)
			who, events := uses(w, 0, 3)
			w.produce(events)
			r := w.start()
			w.settled(r)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			store, _, err := w.disk.Task(0)
			if err != nil {
				t.Fatal(err)
			}
			var b state.Batch
			b.Set(who, value)
			if err := errors.Join(store.Write(&b), store.Close()); err != nil {
				t.Fatal(err)
			}
			before := w.last(w.topic("changelog"), 0, who)
			r = w.start()
			w.settled(r)
			_, more := uses(w, 0, 2)
			w.produce(more)
			if name == "damaged" { // it is set aside, and rebuilt while the process goes on
				kafkatest.Eventually(t, "the events are applied after all", func() error {
					if n := r.metric("ebb_state_set_aside_total"); n != 1 {
						return fmt.Errorf("%v copies set aside", n)
					}
					rec, err := r.Customer(context.Background(), who)
					if err != nil || len(rec.Usage) == 0 || rec.Usage[0].Count != 5 {
						return fmt.Errorf("not yet: %v", err)
					}
					return nil
				})
				w.othersGoOn(r, 1)
				return
			}
			s := w.awaitState(r, 0, "stopped")
			for _, part := range []string{w.topic("usage"), "offset ", "a customer in the local state"} {
				if !strings.Contains(s.Error, part) {
					t.Errorf("the error does not tell %q: %s", part, s.Error)
				}
			}
			w.othersGoOn(r, 1)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			if string(w.last(w.topic("changelog"), 0, who)) != string(before) {
				t.Error("the customer who cannot be read was written over")
			}
			w.disk = state.NewMemDisk()
			r = w.start()
			w.settled(r)
			if n := known(t, r, who).Usage[0].Count; n != 5 {
				t.Errorf("%d uses, want 5", n)
			}
		})
	}
}

// A record that cannot be read and that a later one replaces harms nobody.
func TestUndecodableAndReplaced(t *testing.T) {
	w, _ := applied(t, 1)
	who := w.customerOf(0, "c-000")
	var good []byte
	for _, r := range w.broker.ReadCommitted(t, w.topic("changelog")) {
		if len(r.Key) > 0 && r.Key[0] != 0 && r.Value != nil {
			who, good = string(r.Key), r.Value
		}
	}
	w.broker.Produce(t, w.topic("changelog"), kafkatest.Record{Key: []byte(who), Value: []byte{99}}, kafkatest.Record{Key: []byte(who), Value: good})
	r := w.start()
	w.settled(r)
	if rec := known(t, r, who); rec.Latest == 0 || time.UnixMilli(rec.Latest).After(time.Now()) {
		t.Errorf("the customer is %+v", rec)
	}
}
