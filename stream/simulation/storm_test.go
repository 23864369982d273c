package simulation

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/stream"
)

// This file is what goes wrong by the clock, at machines and at brokers.

// storm lets things go wrong until it is over.
func (w *world) storm() {
	rng := rand.New(rand.NewPCG(w.plan.seed, 4))
	w.stormed.Store(true)
	w.stormy.Store(true)
	over := time.Now().Add(w.plan.storm)
	var wg sync.WaitGroup
	w.fillDisks(&wg)
	if late := w.plan.latecomer; late > 0 {
		nap(late)
		w.tell(joined, "instance %d, which was missing", w.join().id)
	}
	for {
		pause := time.Duration(rng.ExpFloat64() * float64(w.plan.weather.pause))
		if time.Until(over) < pause {
			break
		}
		nap(pause)
		w.strike(rng, &wg)
	}
	nap(time.Until(over))
	wg.Wait()
	w.calm()
}

// calm ends all faults that last.
func (w *world) calm() {
	w.stormy.Store(false)
	close(w.calmed)
	w.mu.Lock()
	for _, h := range w.errors {
		w.faults[brokerError] += h.Hits()
		h.Remove()
	}
	w.mu.Unlock()
	for _, in := range w.instances {
		in.setClock(0)
		if l, _, running := in.current(); running {
			l.parted(false)
			l.thaw()
		}
	}
}

// strike is one fault by the clock.
func (w *world) strike(rng *rand.Rand, wg *sync.WaitGroup) {
	in := w.instances[rng.IntN(len(w.instances))]
	l, _, running := in.current()
	long := time.Duration(rng.ExpFloat64() * float64(5*time.Second))
	name := ""
	if l != nil {
		name = fmt.Sprintf("instance %d.%d", in.id, l.life)
	}
	switch rng.IntN(12) {
	case 0, 1, 2, 3:
		w.cluster(rng, wg)
		return
	case 4:
		w.members(rng)
		return
	}
	if !running {
		return
	}
	switch rng.IntN(10) {
	case 0, 1:
		in.kill()
	case 2:
		w.tell(restarted, "%s", name)
		in.tell(true)
	case 3:
		w.tell(connectionsCut, "of %s", name)
		l.cut()
	case 4, 5:
		w.tell(parted, "%s%s", name, after(long))
		l.parted(true)
		wg.Go(func() {
			nap(long)
			l.parted(false)
		})
	case 6, 7, 8:
		w.tell(frozen, "%s%s", name, after(long))
		l.freeze()
		wg.Go(func() {
			nap(long)
			l.thaw()
		})
	default:
		// Forward by less than the grace of the task clock. What is written while a clock is behind comes from its future.
		skew := time.Duration(rng.Int64N(int64(w.plan.cfg.Time.Grace)))
		if rng.IntN(2) == 0 {
			skew = -time.Duration(rng.Int64N(int64(mostBehind)))
		}
		w.tell(clockStepped, "of %s to %v beside the true time", name, skew)
		in.setClock(skew)
	}
}

// members lets an instance join or leave, or restarts all, one after the other.
func (w *world) members(rng *rand.Rand) {
	var running []*instance
	for _, in := range w.instances {
		if _, _, ok := in.current(); ok && !in.left {
			running = append(running, in)
		}
	}
	switch rng.IntN(3) {
	case 0:
		if len(w.instances) < 6 {
			in := w.join()
			w.tell(joined, "instance %d", in.id)
		}
	case 1:
		if len(running) > 1 {
			in := running[rng.IntN(len(running))]
			w.tell(left, "instance %d", in.id)
			in.left = true
			in.tell(false)
		}
	default:
		for _, in := range running {
			w.tell(restarted, "instance %d, all in turn", in.id)
			in.tell(true)
			nap(time.Duration(rng.IntN(2000)) * time.Millisecond)
		}
	}
}

// mostBehind is how far a clock may be behind, in event time.
const mostBehind = 20 * time.Minute

// cluster is one fault of the brokers.
func (w *world) cluster(rng *rand.Rand, wg *sync.WaitGroup) {
	f := w.broker.Fake
	switch rng.IntN(8) {
	case 0, 1:
		topic := pick(rng, "usage", "payments", "complaints", "changelog", "changelog", "alerts", "open", "dlq")
		if w.plan.reroute && rng.IntN(3) == 0 {
			topic = "reroute"
		}
		part, node := int32(0), rng.Int32N(int32(w.plan.brokers))
		if topic != "dlq" && topic != "alerts" && topic != "open" {
			part = rng.Int32N(w.plan.parts)
		}
		if err := f.MoveTopicPartition(topic, part, node); err == nil { // else the node is gone
			w.tell(leaderMoved, "%s/%d to %d", topic, part, node)
		}
	case 2:
		w.tell(coordinatorMoved, "all of them")
		f.RehashCoordinators()
	case 3:
		if w.compactable() && w.hear() {
			w.tell(compacted, "all compacted topics")
			f.Compact()
		}
	case 4:
		if w.plan.brokers > 1 && !w.absent {
			w.leave(rng, wg)
		}
	default:
		for range w.plan.weather.errors {
			w.refuse(rng)
		}
	}
}

// hear notes which quiet histories have ended: of the task records that say so the last one may be left by a compaction. It returns false if it cannot
// read them.
func (w *world) hear() bool {
	for p := range w.plan.parts {
		if _, ok := w.spoke[p]; ok || !w.plan.cfg.Quiet {
			continue
		}
		all, err := w.phone.log("changelog", p)
		if err != nil {
			return false
		}
		written := map[int64][]byte{}
		for _, r := range all {
			if !r.Attrs.IsControl() {
				if string(r.Key) == stream.TaskKey {
					written[r.ProducerID] = r.Value
				}
				continue
			}
			at, err := stream.ReadTaskRecord(written[r.ProducerID])
			if isCommit(r) && err == nil && !at.Quiet {
				w.spoke[p] = at.Clock
				break
			}
			delete(written, r.ProducerID)
		}
	}
	return true
}

// compactable says whether the embedded broker would compact as a real one does. What an open transaction wrote it takes for newer than what
// was committed, so that both are gone when it is aborted. And where nothing is left of a producer it removes the markers of his aborted
// transactions, but goes on to tell readers of them: they would then leave out what he commits later.
func (w *world) compactable() bool {
	for topic, parts := range map[string]int32{"changelog": w.plan.parts, "open": 3, "facts-changelog": 1} {
		for p := range parts {
			if info := w.broker.Fake.PartitionInfo(topic, p); info.LastStableOffset < info.HighWatermark {
				return false
			}
			aborted, left, pending := map[int64]bool{}, map[int64]bool{}, map[int64]bool{}
			all, err := w.phone.log(topic, p)
			if err != nil { // some fault of the storm's
				return false
			}
			for _, r := range all {
				switch {
				case !r.Attrs.IsControl():
					pending[r.ProducerID] = true
					continue
				case isCommit(r):
					left[r.ProducerID] = left[r.ProducerID] || pending[r.ProducerID]
				default:
					aborted[r.ProducerID] = true
				}
				pending[r.ProducerID] = false
			}
			for id := range aborted {
				if !left[id] {
					return false
				}
			}
		}
	}
	return true
}

// leave takes a broker away for a while. It comes back at another address.
func (w *world) leave(rng *rand.Rand, wg *sync.WaitGroup) {
	f := w.broker.Fake
	node := rng.Int32N(int32(w.plan.brokers))
	away := time.Duration(rng.ExpFloat64() * float64(4*time.Second))
	w.tell(brokerGone, "%d%s", node, after(away))
	if err := f.RemoveNode(node); err != nil {
		w.t.Errorf("remove broker %d: %v", node, err)
		return
	}
	w.absent = true
	for _, in := range w.instances {
		if l, _, running := in.current(); running {
			l.cut() // those to other brokers too
		}
	}
	wg.Go(func() {
		nap(away)
		_, port, err := f.AddNode(node, 0)
		if err != nil {
			w.t.Errorf("broker %d back: %v", node, err)
		}
		w.phone.moved(node, fmt.Sprintf("127.0.0.1:%d", port))
	})
}

// refuse lets the next requests of a kind be answered with an error that a broker can give there.
func (w *world) refuse(rng *rand.Rand) {
	r := refusals[rng.IntN(len(refusals))]
	if w.plan.weather.fatal && rng.IntN(4) == 0 {
		r = fatalities[rng.IntN(len(fatalities))]
	}
	fault := kfake.Fault{Keys: []kmsg.Key{r.key}, Err: pick(rng, r.errs...), Count: 1 + rng.IntN(3)}
	if r.key == kmsg.Produce { // the feeds are written by others
		fault.When = func(req kmsg.Request) bool { return req.(*kmsg.ProduceRequest).TransactionID != nil }
	}
	w.mu.Lock()
	w.errors = append(w.errors, w.broker.Fake.Fault(fault))
	w.timeline = append(w.timeline, entry{at: time.Since(w.began), kind: brokerError, what: fmt.Sprintf("%v to the next %d of %s", fault.Err, fault.Count, r.key.Name())})
	w.mu.Unlock()
}

// refusal is what a broker may answer to a kind of request.
type refusal struct {
	key  kmsg.Key
	errs []*kerr.Error
}

// refusals are what brokers answer, though they need not be asked twice.
var refusals = []refusal{
	{kmsg.Produce, []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut, kerr.KafkaStorageError, kerr.UnknownTopicOrPartition, kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.CorruptMessage}},
	{kmsg.Fetch, []*kerr.Error{kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.UnknownTopicOrPartition, kerr.UnknownLeaderEpoch, kerr.FencedLeaderEpoch, kerr.OffsetNotAvailable, kerr.UnknownServerError}},
	{kmsg.ListOffsets, []*kerr.Error{kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.OffsetNotAvailable, kerr.KafkaStorageError, kerr.UnknownTopicOrPartition}},
	{kmsg.Metadata, []*kerr.Error{kerr.LeaderNotAvailable, kerr.UnknownTopicOrPartition}},
	{kmsg.FindCoordinator, []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress}},
	{kmsg.JoinGroup, []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.UnknownMemberID, kerr.RebalanceInProgress}},
	{kmsg.SyncGroup, []*kerr.Error{kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.UnknownMemberID, kerr.RebalanceInProgress, kerr.IllegalGeneration}},
	{kmsg.Heartbeat, []*kerr.Error{kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.UnknownMemberID, kerr.RebalanceInProgress, kerr.IllegalGeneration}},
	{kmsg.OffsetFetch, []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.UnstableOffsetCommit}},
	{kmsg.InitProducerID, []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.ConcurrentTransactions}},
	{kmsg.AddPartitionsToTxn, []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping, kerr.ProducerFenced}},
	{kmsg.AddOffsetsToTxn, []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.ConcurrentTransactions, kerr.InvalidTxnState, kerr.ProducerFenced}},
	{kmsg.TxnOffsetCommit, []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.RequestTimedOut, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.InvalidProducerEpoch, kerr.UnknownTopicOrPartition}},
	{kmsg.EndTxn, []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.ConcurrentTransactions, kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping, kerr.ProducerFenced}},
}

// fatalities are answers that no retry mends.
var fatalities = []refusal{
	{kmsg.Produce, []*kerr.Error{kerr.TopicAuthorizationFailed, kerr.InvalidRecord}},
	{kmsg.Fetch, []*kerr.Error{kerr.TopicAuthorizationFailed}},
	{kmsg.JoinGroup, []*kerr.Error{kerr.GroupAuthorizationFailed}},
	{kmsg.InitProducerID, []*kerr.Error{kerr.TransactionalIDAuthorizationFailed, kerr.ClusterAuthorizationFailed}},
	{kmsg.TxnOffsetCommit, []*kerr.Error{kerr.GroupAuthorizationFailed}},
	{kmsg.AddPartitionsToTxn, []*kerr.Error{kerr.TopicAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed}},
	{kmsg.EndTxn, []*kerr.Error{kerr.TransactionalIDAuthorizationFailed}},
}
