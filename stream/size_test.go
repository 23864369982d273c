package stream_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"ebb/stream"
	"ebb/stream/kafkatest"
)

// sized is a use whose record has exactly n bytes, which do not compress.
func sized(who string, at int64, n int) kafkatest.Record {
	head := fmt.Sprintf(`{"id":"s-%d","customer_id":%q,"time":%q,"type":"session","note":"`, n, who, rfc3339(at))
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	var b strings.Builder
	b.WriteString(head)
	for b.Len() < n-2 {
		b.WriteByte(letters[rng.IntN(len(letters))])
	}
	b.WriteString(`"}`)
	return kafkatest.Record{Key: []byte(who), Value: []byte(b.String()), Timestamp: at}
}

// A record of the largest size is applied, one of a byte more is a dead letter.
func TestRecordAtTheSizeLimit(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	const most = 20_000
	w.adjust = func(c *stream.Config) { c.MaxRecordBytes = most }
	at := time.Now().UnixMilli() - 1000
	w.broker.Produce(t, w.topic("usage"), sized("fits", at, most), sized("over", at, most+1))
	r := w.start()
	w.caughtUp()
	if n := known(t, r, "fits").Usage[0].Count; n != 1 {
		t.Errorf("%d uses of the record at the limit", n)
	}
	letters := w.broker.ReadCommitted(t, w.topic("dlq"))
	if len(letters) != 1 || string(letters[0].Key) != "over" || letters[0].Headers["ebb_error_reason"] != "record_too_large" || len(letters[0].Value) != most+1 {
		t.Errorf("dead letters are %d, want the one above the limit, whole", len(letters))
	}
}

// A dead letter that its topic does not take goes without the value, and what else is in its cut is whole.
func TestDeadLetterTooLargeForItsTopic(t *testing.T) {
	for name, broker := range map[string]func(testing.TB) *kafkatest.Broker{
		"embedded": func(t testing.TB) *kafkatest.Broker { return kafkatest.Fake(t, kafkatest.Options{}) },
		"real":     kafkatest.Real,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, broker(t), 1)
			w.adjust = func(c *stream.Config) { c.MaxRecordBytes = 4000; c.Letters.StopMin = 1000 }
			w.broker.DeleteTopic(t, w.topic("dlq"))
			w.broker.CreateTopic(t, w.topic("dlq"), 1, map[string]string{"max.message.bytes": "30000"})
			at := time.Now().UnixMilli() - 1000
			sizes := []int{5_000, 900_000, 6_000, 100_000, 7_000}
			for _, n := range sizes {
				w.broker.Produce(t, w.topic("usage"), sized("c", at, n))
			}
			_, good := uses(w, 0, 3)
			w.produce(good)
			r := w.start()
			w.caughtUp()
			letters := w.broker.ReadCommitted(t, w.topic("dlq"))
			if len(letters) != len(sizes) {
				t.Fatalf("%d dead letters, want %d", len(letters), len(sizes))
			}
			for i, n := range sizes {
				l, omitted := letters[i], n > 30_000
				switch {
				case l.Headers["ebb_source_offset"] != fmt.Sprint(i):
					t.Errorf("dead letter %d is of offset %s", i, l.Headers["ebb_source_offset"])
				case omitted && (l.Value != nil || l.Headers["ebb_error_value_bytes"] != fmt.Sprint(n)):
					t.Errorf("the dead letter of %d bytes has %d, and says %q", n, len(l.Value), l.Headers["ebb_error_value_bytes"])
				case !omitted && (len(l.Value) != n || l.Headers["ebb_error_value_bytes"] != ""):
					t.Errorf("the dead letter of %d bytes has %d, and says %q", n, len(l.Value), l.Headers["ebb_error_value_bytes"])
				}
			}
			if r.log.count("go without the value") == 0 {
				t.Error("nothing is said of it")
			}
		})
	}
}

// A changelog that does not take the records stops the task with what mends it, and once it is mended everything is applied.
func TestChangelogRefusesTheSize(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	w.broker.DeleteTopic(t, w.topic("changelog"))
	w.broker.CreateTopic(t, w.topic("changelog"), 1, map[string]string{"cleanup.policy": "compact", "max.message.bytes": "700"})
	events, end := history(19, 40)
	w.produce(events)
	r := w.start()
	s := w.awaitState(r, 0, "stopped")
	for _, part := range []string{w.topic("changelog"), "raise max.message.bytes"} {
		if !strings.Contains(s.Error, part) {
			t.Errorf("the error does not tell %q: %s", part, s.Error)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.broker.AlterTopic(t, w.topic("changelog"), "max.message.bytes", "1048588")
	r = w.start()
	w.settled(r)
	cut := end - 3*3_600_000
	compareSteps(t, w.steps(cut), reference(events, cut))
}
