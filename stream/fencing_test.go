package stream_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"ebb/stream"
	"ebb/stream/conn"
	"ebb/stream/kafkatest"
	"ebb/stream/txn"
)

// The ways to lose a partition in the middle of a transaction, on a real broker; virtual time has many more of each.
func TestFencedOnARealBroker(t *testing.T) {
	long(t)
	for name, lose := range map[string]func(t *testing.T, w *world) func(p int32){
		// A former owner takes the transactional id, late.
		"an old owner initialises late": func(t *testing.T, w *world) func(p int32) {
			cluster, err := conn.New(conn.Config{Brokers: w.broker.Addrs})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cluster.Close)
			return func(p int32) {
				old := txn.New(cluster, txn.Config{TransactionalID: fmt.Sprintf("%s-%d", w.group, p)})
				defer old.Close()
				if err := old.Init(context.Background()); err != nil {
					t.Errorf("the old owner: %v", err)
				}
			}
		},
		// The transaction is held until the broker has ended it.
		"the transaction expires": func(t *testing.T, w *world) func(p int32) {
			adjust := w.adjust
			w.adjust = func(c *stream.Config) {
				adjust(c)
				c.Cut.Timeout = 2 * time.Second
			}
			return func(p int32) {
				changelog := w.topic("changelog")
				kafkatest.Eventually(t, "the broker ends the transaction", func() error {
					stable, end := w.broker.StableOffsets(t, changelog), w.broker.EndOffsets(t, changelog)
					if !maps.Equal(stable, end) {
						return fmt.Errorf("stable up to %v of %v", stable, end)
					}
					return nil
				})
			}
		},
		// The transaction is held until somebody else has partitions.
		"a rebalance": func(t *testing.T, w *world) func(p int32) {
			return func(int32) {
				second := w.twin().start()
				kafkatest.Eventually(t, "the second has joined", func() error {
					if !second.Member() {
						return fmt.Errorf("not yet")
					}
					return nil
				})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, kafkatest.Real(t), faultParts)
			w.adjust, w.portion = smallCuts, 100
			events := settled(faultSeed, faultCustomers)
			w.produce(events)
			lost := lose(t, w)
			came := make(chan struct{})
			now := counter(6)
			w.step = func(p int32, at txn.Step) error {
				if at == txn.StepEnd && now() {
					close(came)
					lost(p)
				}
				return nil
			}
			r := w.start()
			<-came
			w.caughtUp()
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			end := time.Now().UnixMilli()
			compareSteps(t, w.steps(end), reference(events, end))
		})
	}
}
