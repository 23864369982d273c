package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ebb/stream/kafkatest"
	"ebb/stream/partition"
)

// A process that is stopped in the middle of its work for longer than its session, and goes on after another has taken over, neither
// publishes nor changes anything: what a subscriber sees is what one undisturbed process makes of the same topics.
func TestAStoppedProcessIsFenced(t *testing.T) {
	if testing.Short() {
		t.Skip("the program under test is another process, which -race does not see")
	}
	const partitions = 3
	b := kafkatest.Real(t)
	prefix := b.Name("fenced_")
	feeds := []string{prefix + "usage", prefix + "payments", prefix + "complaints"}
	for _, f := range feeds {
		b.CreateTopic(t, f, partitions, nil)
	}
	end := produceLives(t, b, prefix, partitions)
	config := smallCutsOf(t, 40)
	process := func(group, state string) *instance {
		return start(t, []string{
			"KAFKA_BROKERS=" + strings.Join(b.Addrs, ","), "BENCH_PREFIX=" + prefix, "BENCH_GROUP=" + group, "BENCH_SESSION=6s",
			"EBB_LISTEN=127.0.0.1:0", "STATE_DIR=" + state,
		}, "run", "-c", config)
	}
	dir := t.TempDir()
	group := b.Name("fenced")
	total := lag(t, b, group, feeds...)
	old := process(group, filepath.Join(dir, "old"))
	kafkatest.Eventually(t, "a first commit", func() error { // by far the most is still to be done, however late this is noticed
		if n := lag(t, b, group, feeds...); n == total {
			return fmt.Errorf("all of %d to go", n)
		}
		return nil
	})
	old.signal(t, syscall.SIGSTOP)
	began := time.Now()
	stoppedAt := lag(t, b, group, feeds...)
	successor := process(group, filepath.Join(dir, "successor"))
	caughtUp(t, b, group, feeds...)
	before := b.EndOffsets(t, prefix+"alerts")
	t.Logf("%d of %d records were left when the process was stopped, the other was done after %v", stoppedAt, total, time.Since(began))
	old.signal(t, syscall.SIGCONT)
	kafkatest.Eventually(t, "the old one finds out", func() error {
		if n := strings.Count(old.log.String(), "generation begins"); n < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	if stoppedAt == 0 {
		t.Error("stopped when all was done")
	}
	caughtUp(t, b, group, feeds...)
	if after := b.EndOffsets(t, prefix+"alerts"); !maps.Equal(before, after) {
		t.Errorf("alerts ended at %v when the old one went on, and then at %v", before, after)
	}
	inEpochOrder(t, b, group+"-changelog")
	old.stop(t)
	successor.stop(t)

	calm := b.Name("calm")
	undisturbed := process(calm, filepath.Join(dir, "calm"))
	caughtUp(t, b, calm, feeds...)
	undisturbed.stop(t)
	sameStepsOfGroups(t, b, prefix+"alerts", end.Add(-3*time.Hour), calm, group)
}

// signal sends a signal to the process.
func (in *instance) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := in.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// produceLives writes what hundreds of customers did in the last 60 days, of whom a third stays away in the end.
func produceLives(t *testing.T, b *kafkatest.Broker, prefix string, partitions int32) (end time.Time) {
	t.Helper()
	rng := rand.New(rand.NewPCG(4, 2))
	end = time.Now()
	byTopic := map[string][]kafkatest.Record{}
	for c := range 300 {
		id := fmt.Sprintf("c-%03d", c)
		for h := 60 * 24; h > 0; h -= 1 + rng.IntN(40) {
			if c%3 == 0 && h < 16*24+c {
				break
			}
			at := end.Add(-time.Duration(h)*time.Hour + time.Duration(rng.IntN(3_600_000))*time.Millisecond).UTC()
			feed, rest := "usage", `"type":"session","quantity":1`
			if rng.IntN(3) == 0 {
				feed, rest = "payments", fmt.Sprintf(`"type":"purchase","currency":"EUR","amount":%d`, 1+rng.IntN(40))
			}
			byTopic[prefix+feed] = append(byTopic[prefix+feed], kafkatest.Record{
				Partition: partition.Murmur2([]byte(id), partitions), Key: []byte(id), Timestamp: at.UnixMilli(),
				Value: fmt.Appendf(nil, `{"id":"%s-%d","customer_id":%q,"time":%q,%s}`, id, h, id, at.Format("2006-01-02T15:04:05.000Z"), rest),
			})
		}
	}
	for topic, records := range byTopic {
		slices.SortStableFunc(records, func(x, y kafkatest.Record) int { return int(x.Timestamp - y.Timestamp) })
		b.Produce(t, topic, records...)
	}
	return end
}

// inEpochOrder checks that nothing was committed by a producer after a newer one of the same id had begun to write.
func inEpochOrder(t *testing.T, b *kafkatest.Broker, topic string) {
	t.Helper()
	newest := map[int64]int16{}
	for _, r := range b.ReadCommitted(t, topic) {
		if r.ProducerEpoch < newest[r.ProducerID] {
			t.Errorf("%s partition %d offset %d was written by epoch %d of producer %d, after epoch %d", topic, r.Partition, r.Offset, r.ProducerEpoch, r.ProducerID, newest[r.ProducerID])
		}
		newest[r.ProducerID] = max(newest[r.ProducerID], r.ProducerEpoch)
	}
	if len(newest) == 0 {
		t.Errorf("%s is empty", topic)
	}
}

// sameStepsOfGroups compares what two groups have published on one topic about the time up to a moment.
func sameStepsOfGroups(t *testing.T, b *kafkatest.Broker, topic string, until time.Time, want, got string) {
	t.Helper()
	steps := map[string]map[string]int{want: {}, got: {}}
	ids := map[string]bool{}
	for _, r := range b.ReadCommitted(t, topic) {
		var a struct {
			Detector, Status, Step string
			Customer               string `json:"customer_id"`
			Time                   time.Time
		}
		if err := json.Unmarshal(r.Value, &a); err != nil {
			t.Fatalf("alert %s: %v", r.Value, err)
		}
		if ids[r.Headers["ce_id"]] {
			t.Errorf("alert step %s was published twice", r.Headers["ce_id"])
		}
		ids[r.Headers["ce_id"]] = true
		if a.Time.After(until) {
			continue
		}
		by := steps[strings.TrimPrefix(r.Headers["ce_source"], "/ebb/")]
		if by == nil {
			t.Fatalf("an alert of %s", r.Headers["ce_source"])
		}
		by[fmt.Sprint(a.Time, a.Customer, a.Detector, a.Status, a.Step)]++
	}
	if len(steps[want]) < 30 || !maps.Equal(steps[want], steps[got]) {
		missing := 0
		for s := range steps[want] {
			if steps[got][s] == 0 {
				missing++
			}
		}
		t.Errorf("%d steps of the undisturbed process, %d of the others; %d missing", len(steps[want]), len(steps[got]), missing)
	}
}
