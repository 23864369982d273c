package stream_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ebb/state"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
	"ebb/stream/partition"
	"ebb/stream/txn"
)

// merging is a world with a control feed, in which merges are carried out.
func merging(t *testing.T, b *kafkatest.Broker, parts int32) *world {
	t.Helper()
	w := rerouting(t, b, parts)
	b.CreateTopic(t, w.topic("control"), parts, nil)
	before := w.adjust
	w.adjust = func(cfg *stream.Config) {
		before(cfg)
		cfg.Feeds = append(cfg.Feeds, stream.FeedConfig{Feed: event.Control, Topic: w.topic("control")})
	}
	return w
}

// merge is what a person decided: two ids are one customer.
type merge struct {
	from, into string
	at         int64
}

func (w *world) decide(merges ...merge) {
	w.t.Helper()
	for i, m := range merges {
		w.broker.Produce(w.t, w.topic("control"), kafkatest.Record{
			Partition: w.partitionOf(m.from), Key: []byte(m.from), Timestamp: m.at,
			Value: fmt.Appendf(nil, `{"id":"m-%d-%d","customer_id":%q,"into":%q,"time":%q,"type":"merge","by":"us"}`, m.at, i, m.from, m.into, rfc3339(m.at)),
		})
	}
}

// asOne are the events as they would be, had their producer known of the merges from the beginning.
func asOne(events []happening, merges []merge) []happening {
	into := map[string]string{}
	for _, m := range merges {
		into[m.from] = m.into
	}
	out := slices.Clone(events)
	for i := range out {
		for into[out[i].customer] != "" {
			out[i].customer = into[out[i].customer]
		}
	}
	return out
}

// couples merges every third customer of a crowd into the next, and every ninth of those on into another.
func couples(at int64, n int) []merge {
	var out []merge
	for i := 0; i+2 < n; i += 3 {
		out = append(out, merge{fmt.Sprintf("c-%03d", i), fmt.Sprintf("c-%03d", i+1), at + int64(i)})
		if i%9 == 0 {
			out = append(out, merge{fmt.Sprintf("c-%03d", i+1), fmt.Sprintf("c-%03d", i+2), at + int64(i) + 1000})
		}
	}
	return out
}

// Customers who are merged before anything happens give the same alerts as if their events had borne the other id.
func TestMergedBeforehand(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := merging(t, kafkatest.Virtual(t, kafkatest.Options{}), 3)
		events := settled(7, 40)
		merges := couples(events[0].at-dayMs, 40)
		w.decide(merges...)
		w.produce(events)
		r := w.start()
		w.delivered(r)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		now := time.Now().UnixMilli()
		compareSteps(t, w.steps(now), reference(asOne(events, merges), now))
		w.forwardedOnce()
	})
}

// Whatever step a process dies before, a merge in the middle of two lives gives one record that holds both, and is told once.
func TestMergedInTheMiddle(t *testing.T) {
	long(t)
	events := func() ([]happening, []merge) {
		all := settled(9, 30)
		return all, couples(all[len(all)*2/3].at, 30)
	}
	var want map[string]string
	bubble(t, func(t *testing.T) {
		w := merging(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		all, merges := events()
		w.produce(asOne(all, merges))
		r := w.start()
		w.delivered(r)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		want = windows(t, w.outcome().customers)
	})
	points := append(killPoints(), killPoint{name: "never"})
	var told map[string]string
	for _, at := range slices.Backward(points) {
		t.Run(at.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := merging(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
				all, merges := events()
				w.decide(merges...)
				w.produce(all)
				if at.set != nil {
					for life := range 2 {
						w.diesAt(at.in(life))
						w.disk.Crash()
						if life == 1 {
							w.disk = state.NewMemDisk()
						}
					}
				}
				r := w.start()
				w.delivered(r)
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				o := w.outcome()
				sameEntries(t, "windows of customer", windows(t, o.customers), want)
				if told == nil {
					told = o.alerts
				}
				sameKeys(t, o.alerts, told)
				ended := 0
				for _, a := range w.alerts() {
					if a.Reason == "customer_merged" {
						ended++
					}
				}
				if ended == 0 {
					t.Error("no alert ended with the merge of its customer")
				}
				w.forwardedOnce()
			})
		})
	}
}

// windows are the records of customers as far as they do not depend on when something was decided.
func windows(t *testing.T, customers map[string]string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for id, v := range customers {
		r := customer.Record{ID: id}
		if err := customer.DecodeRecord([]byte(v), &r); err != nil {
			t.Fatalf("customer %s: %v", id, err)
		}
		if r.MergedInto() != "" {
			continue
		}
		slices.SortFunc(r.Seen, func(a, b customer.SeenID) int {
			return int(int64(a.Minute)-int64(b.Minute))*2 + boolInt(a.Hash > b.Hash)
		})
		open := 0
		for _, c := range r.Complaints {
			if c.Open() {
				open++
			}
		}
		out[id] = fmt.Sprint(r.First, r.Latest, r.LastActivity, r.Usage, r.Spend, r.Seen, open)
	}
	return out
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return -1
}

// Merges in a circle leave one customer who holds everything.
func TestMergedInACircle(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := merging(t, kafkatest.Virtual(t, kafkatest.Options{}), 3)
		a, b, c := w.customerOf(0, "a"), w.customerOf(1, "b"), w.customerOf(2, "c")
		now := time.Now().UnixMilli() - 10*dayMs
		var events []happening
		for i, who := range []string{a, b, c, a, b, c} {
			events = append(events, happening{feed: "usage", customer: who, at: now + int64(i)*dayMs, kind: "session", id: fmt.Sprint("u", i)})
		}
		w.produce(events)
		w.decide(merge{a, b, now + 3*dayMs/2}, merge{b, c, now + 5*dayMs/2}, merge{c, a, now + 9*dayMs/2})
		r := w.start()
		w.delivered(r)
		var uses uint32
		live := 0
		for _, who := range []string{a, b, c} {
			rec := known(t, r, who)
			if rec.MergedInto() == "" {
				live++
			}
			for _, u := range rec.Usage {
				uses += u.Count
			}
		}
		if live != 1 || uses != 6 {
			t.Errorf("%d customers hold %d uses, want one with all 6", live, uses)
		}
		if n := r.metric("ebb_record_outcomes_total", "feed", "control", "outcome", "merge_loop"); n != 1 {
			t.Errorf("%v loops are counted", n)
		}
	})
}

// Acts that are not carried out are dead letters with a reason of their own, however many, and so is a merge of somebody into himself.
func TestActsThatAreNotCarriedOut(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := merging(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		at := time.Now().UnixMilli() - 1000
		var records []kafkatest.Record
		for i := range 200 {
			records = append(records, kafkatest.Record{Key: []byte("c"), Timestamp: at, Value: fmt.Appendf(nil, `{"id":"a-%d","customer_id":"c","alert_id":"x","time":%q,"type":"erase"}`, i, rfc3339(at))})
		}
		w.broker.Produce(t, w.topic("control"), records...)
		w.decide(merge{"c", "c", at})
		r := w.start()
		w.delivered(r)
		for reason, want := range map[string]float64{"unsupported_type": 200, "merged_into_self": 1} {
			if got := r.metric("ebb_dead_letters_total", "feed", "control", "reason", reason); got != want {
				t.Errorf("%v dead letters %s, want %v", got, reason, want)
			}
		}
	})
}

// moved is a customer whose records lie in a partition that is new after a growth.
func (w *world) moved(parts int32) string {
	for i := 0; ; i++ {
		if id := fmt.Sprint("moved-", i); partition.Murmur2([]byte(id), parts) >= w.parts {
			return id
		}
	}
}

// Who goes on in the place of another is blind when a record of that other cannot be read, also after the state was spread over more partitions, or moved to another cluster.
func TestMarksOfMergedCustomersMove(t *testing.T) {
	const parts, more = 2, 4
	for _, v := range []struct {
		name string
		move func(t *testing.T, w *world) *world
	}{
		{"grown", func(t *testing.T, w *world) *world {
			w.addPartitions(more)
			w.addTo("control", more)
			if err := w.upkeep(grow); err != nil {
				w.t.Fatal(err)
			}
			return w
		}},
		{"imported", func(t *testing.T, w *world) *world {
			file := w.exports()
			other := merging(t, kafkatest.Virtual(t, kafkatest.Options{}), parts)
			if err := other.upkeep(imports(file, stream.Positions{From: stream.FromEnd})); err != nil {
				w.t.Fatal(err)
			}
			return other
		}},
	} {
		t.Run(v.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := merging(t, kafkatest.Virtual(t, kafkatest.Options{}), parts)
				from, into := w.moved(more), w.customerOf(0, "into")
				at := time.Now().UnixMilli() - 10*dayMs
				w.produce([]happening{
					{feed: "usage", customer: from, at: at, kind: "session", id: "u1"},
					{feed: "usage", customer: into, at: at, kind: "session", id: "u2"},
					{feed: "usage", customer: w.customerOf(1, "other"), at: at, kind: "session", id: "u3"},
				})
				w.decide(merge{from, into, at + dayMs})
				r := w.start()
				w.delivered(r)
				if rec := known(t, r, from); rec.MergedInto() != into {
					t.Fatalf("not merged: %+v", rec)
				}
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				w = v.move(t, w)
				r = w.start()
				w.delivered(r)
				w.broker.Produce(t, w.topic("usage"), kafkatest.Record{Partition: w.partitionOf(from), Key: []byte(from), Value: []byte("{")})
				w.delivered(r)
				nap(time.Second)
				if !known(t, r, into).IsBlind() {
					t.Error("who goes on is not blind")
				}
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// What a task forwarded to itself may be deleted before it has read it: that is a loss like any other, and the clock goes on.
func TestRetentionGapOfWhatATaskForwardedToItself(t *testing.T) {
	for _, live := range []bool{false, true} {
		t.Run(fmt.Sprintf("found while running %v", live), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := merging(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
				at := time.Now().UnixMilli() - 10*dayMs
				w.produce([]happening{
					{feed: "usage", customer: "a", at: at, kind: "session", id: "u1"},
					{feed: "usage", customer: "b", at: at, kind: "session", id: "u2"},
				})
				r := w.start()
				w.delivered(r)
				unread := func() {
					if err := w.broker.Fake.DeleteRecords(w.topic("reroute"), 0, w.broker.EndOffsets(t, w.topic("reroute"))[0]); err != nil {
						t.Fatal(err)
					}
				}
				if live {
					fault := w.silence("reroute")
					w.decide(merge{"a", "b", at + dayMs})
					nap(2 * time.Second)
					unread()
					fault.Remove()
				} else {
					if err := r.stop(); err != nil {
						t.Fatal(err)
					}
					w.decide(merge{"a", "b", at + dayMs})
					w.diesAt(killPoint{"before it is read", false, func(w *world, p *power, _ int) {
						w.step = func(_ int32, s txn.Step) error {
							select {
							case <-p.off:
								return errKilled
							default:
							}
							if s == txn.StepDone && w.underWay() != 0 {
								return p.cut()
							}
							return nil
						}
					}}, 0)
					w.disk.Crash()
					unread()
					r = w.start()
				}
				began := time.Now()
				nap(time.Minute)
				if !w.clocksPast(began, []*running{r}) {
					t.Errorf("the clock stands at %v", r.task(0).Clock)
				}
				w.sameAlert(w.operations("retention_gap"), "fired")
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// A dead letter of somebody who was merged names what is missing where there is no way to who goes on, as any other record of his does.
func TestABadRecordOfAMergedCustomerWithoutAWay(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := merging(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		at := time.Now().UnixMilli() - 10*dayMs
		w.produce([]happening{
			{feed: "usage", customer: "a", at: at, kind: "session", id: "u1"},
			{feed: "usage", customer: "b", at: at, kind: "session", id: "u2"},
		})
		w.decide(merge{"a", "b", at + dayMs})
		r := w.start()
		w.delivered(r)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		w.adjust = smallCuts
		w.broker.Produce(t, w.topic("usage"), kafkatest.Record{Key: []byte("a"), Value: []byte("{")})
		r = w.start()
		nap(time.Minute)
		if s := r.task(0); s.State != "stopped" || !strings.Contains(s.Error, "topics.reroute") {
			t.Errorf("the task is %s: %s", s.State, s.Error)
		}
	})
}
