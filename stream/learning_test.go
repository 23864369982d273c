package stream_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"ebb/detectors"
	"ebb/detectors/population"
	"ebb/stream"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
)

// learns has the group learn what its customers are like.
func learns(cfg *stream.Config) {
	smallCuts(cfg)
	cfg.Customer.Horizon = 21
	cfg.Population = &population.Config{Horizon: 21}
}

// models are what was learnt, by epoch, as a subscriber of the changelog sees it.
func (w *world) models() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("facts-changelog")) {
		if epoch, ok := strings.CutPrefix(string(r.Key), "model/"); ok && r.Value != nil {
			all[epoch] = string(r.Value)
		}
	}
	return all
}

// What is learnt of the population is the same however the customers are spread over partitions and instances, and whoever dies on the way; and so are the
// alerts, whose decisions wait for it while history is read.
func TestWhatIsLearntDependsOnTheEventsAlone(t *testing.T) {
	t.Parallel()
	long(t)
	bubble(t, func(t *testing.T) {
		events := settled(7, 60)
		now := time.Now().UnixMilli()
		var want map[string]string
		for _, v := range []struct {
			name                      string
			parts                     int32
			portion, instances, kills int
		}{
			{name: "one partition", parts: 1, instances: 1},
			{name: "three partitions", parts: 3, portion: 30, instances: 1},
			{name: "two instances", parts: 4, portion: 30, instances: 2},
			{name: "killed", parts: 3, portion: 30, instances: 2, kills: 4},
		} {
			w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), v.parts)
			w.group, w.adjust, w.portion = "group", learns, v.portion
			w.rules = func(c *detectors.Config) { // outcomes of complaints are told; no group is so bad that it is warned of early
				c.ComplaintUnresolved.Warn = detectors.WarnConfig{Early: 0.25, Right: 1}
			}
			w.produce(events)
			first, others := w.start(), []*running(nil)
			for range v.instances - 1 {
				others = append(others, w.twin().start())
			}
			for range v.kills {
				nap(300 * time.Millisecond)
				first.kill()
				w.disk.Crash()
				first = w.start()
			}
			w.virtuallyCaughtUp()
			for _, r := range append(others, first) {
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			}
			compareSteps(t, w.steps(now), reference(events, now))
			got := w.models()
			learnt := 0
			for _, m := range got {
				if m != "" {
					learnt++
				}
			}
			if learnt < 5 {
				t.Fatalf("%s: %d models were learnt", v.name, learnt)
			}
			if want == nil {
				want = got
				newest, err := population.DecodeModel([]byte(got[slices.Max(slices.Collect(maps.Keys(got)))]))
				if err != nil || newest.Misses() == nil {
					t.Fatalf("nothing is learnt of the outcomes of complaints: %v", err)
				}
			}
			if !maps.Equal(got, want) {
				for _, epoch := range slices.Sorted(maps.Keys(want)) {
					if got[epoch] != want[epoch] {
						t.Errorf("%s: epoch %s is another model (%d bytes, %d)", v.name, epoch, len(got[epoch]), len(want[epoch]))
					}
				}
				t.Fatalf("%s: %d epochs, want %d", v.name, len(got), len(want))
			}
		}
	})
}

// A history that tells dates only has everything at the beginning of the day. Who comes on the day on which samples are taken is sampled all the same, as he was before.
func TestWhoComesAtAnEpochIsSampled(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		const customers, weeks = 40, 12
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.group, w.adjust = "group", func(cfg *stream.Config) {
			learns(cfg)
			cfg.Time.MaxOutOfOrder = 10 * time.Minute // deadlines run so far behind
		}
		newest := population.Epoch(int32(time.Now().UnixMilli() / dayMs))
		var events []happening
		for week := range int32(weeks) {
			for c := range customers {
				at := int64(newest-population.EpochDays*(weeks-1-week)) * dayMs
				events = append(events, happening{feed: "payments", customer: fmt.Sprintf("c-%02d", c), at: at, kind: "purchase", cents: 2000, id: fmt.Sprintf("%d-%d", week, c)})
			}
		}
		w.produce(events)
		r := w.start()
		w.virtuallyCaughtUp()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		got := w.models()
		for week := range int32(weeks - 2) { // before that nobody had come twice
			m, err := population.DecodeModel([]byte(got[fmt.Sprint(int64(newest-population.EpochDays*week)*dayMs)]))
			if err != nil || m.Customers() != customers {
				t.Fatalf("%d weeks before the newest epoch: %+v, %v; want a model of %d customers", week, m, err, customers)
			}
		}
	})
}

// Profiles come before anything that happens: they call for no decisions, and the history that follows is read on as fast as models come.
func TestProfilesAloneAreNotAskedFor(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		w.broker.CreateTopic(t, w.topic("customers"), 2, map[string]string{"cleanup.policy": "compact"})
		w.adjust = func(cfg *stream.Config) {
			learns(cfg)
			cfg.Feeds = append(cfg.Feeds, stream.FeedConfig{Feed: event.Customers, Topic: w.topic("customers")})
		}
		events := settled(8, 40)
		now := time.Now().UnixMilli()
		var profiles []kafkatest.Record
		for i := range 300 { // most of them never do anything
			id := fmt.Sprintf("c-%05d", i)
			profiles = append(profiles, kafkatest.Record{
				Partition: w.partitionOf(id), Key: []byte(id), Timestamp: now,
				Value: fmt.Appendf(nil, `{"id":"f-%d","customer_id":%q,"time":%q,"tier":"gold"}`, i, id, time.UnixMilli(now).UTC().Format(time.RFC3339)),
			})
		}
		w.broker.Produce(t, w.topic("customers"), profiles...)
		w.produce(events)
		r := w.start()
		nap(time.Minute)
		if n := w.lag(); n != 0 {
			t.Errorf("%d records to go after a minute", n)
		}
		// A customer is asked for once a week of the history, and when something of his runs out.
		if fired, most := r.metric("ebb_timers_fired_total"), float64(60*len(events)); fired > most {
			t.Errorf("%v deadlines were decided for %d events", fired, len(events))
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		compareSteps(t, w.steps(now), reference(events, now))
	})
}

// A history that is read in one go is decided as it was while it happened, with what was known of the population at each time, however far the clock jumps at
// its end: the last events lie weeks back there.
func TestHistoryIsDecidedAsItHappened(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		now := time.Now().UnixMilli()
		rng := rand.New(rand.NewPCG(9, 1))
		var events []happening
		for c := range 60 {
			id, gap := fmt.Sprintf("c-%02d", c), 2+rng.Float64()*6
			last := now - 31*dayMs
			if c%3 == 0 {
				last -= rng.Int64N(120 * dayMs)
			}
			for at := now - 200*dayMs; at < last; at += int64(gap * (0.5 + rng.Float64()) * float64(dayMs)) {
				events = append(events, happening{feed: "payments", customer: id, at: at, kind: "purchase", cents: 1000, id: fmt.Sprintf("%s-%d", id, at)})
			}
		}
		slices.SortStableFunc(events, func(a, b happening) int { return cmp.Compare(a.at, b.at) })
		read := func(parts int32, live bool) ([]step, int) {
			w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), parts)
			ck := &clock{}
			w.now = ck.now
			w.adjust = func(cfg *stream.Config) { learns(cfg); cfg.Stall.Expected = 1e9 }
			w.rules = func(c *detectors.Config) { c.Silence.Method, c.Silence.BudgetPercent = detectors.Model, 0 }
			if !live {
				ck.set(now)
				w.produce(events)
			} else {
				ck.set(events[0].at)
			}
			r := w.start()
			w.joined(r)
			if live {
				for _, e := range events {
					for day := ck.ms() + dayMs; day < e.at; day += dayMs {
						ck.set(day)
						nap(time.Second)
					}
					ck.set(e.at)
					w.produce([]happening{e})
					nap(200 * time.Millisecond)
				}
				for ck.ms() < now {
					ck.skip(12 * time.Hour)
					nap(time.Second)
				}
			}
			nap(time.Minute)
			known := len(w.models())
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			return w.steps(now - dayMs), known
		}
		want, _ := read(1, false)
		fired := 0
		for _, s := range want {
			if s.detector == "silence" && s.at > events[len(events)-1].at {
				fired++
			}
		}
		if fired < 20 {
			t.Fatalf("%d fell silent after the last event: nothing is put to the test", fired)
		}
		got, _ := read(3, false)
		compareSteps(t, got, want)
		got, _ = read(2, true)
		compareSteps(t, got, want)
	})
}

// A model that cannot be read keeps nobody waiting, nor the next ones from coming into force.
func TestModelThatCannotBeRead(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.adjust, w.group = learns, "group"
		w.produce(settled(7, 60))
		r := w.start()
		w.virtuallyCaughtUp()
		nap(time.Minute)
		w.stopAll(r)
		before := slices.Max(slices.Collect(maps.Keys(w.models())))
		w.broker.Produce(t, w.topic("facts-changelog"), kafkatest.Record{Key: []byte("model/" + before), Value: []byte("\xffnot a model"), Timestamp: time.Now().UnixMilli()})
		r = w.start()
		w.joined(r)
		nap(10 * time.Second)
		if n := r.metric("ebb_model_epoch_timestamp_seconds"); fmt.Sprintf("%.0f000", n) != before {
			t.Errorf("the newest epoch that is known is %.0f, though it is %s ms of which there is a model that cannot be read", n, before)
		}
		if n := r.log.count("a model of the population cannot be read"); n == 0 {
			t.Error("nothing says so")
		}
		w.stopAll(r)
	})
}

// While history is read, the second stage is told of every epoch, and no cut is taken for that. Whoever takes over from the last cut tells the same again, to nobody's
// surprise.
func TestEpochsAreToldAheadOfCuts(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		const parts, told = 2, 5
		events := settled(7, 60)
		now := time.Now().UnixMilli()
		run := func(killed bool) map[string]string {
			w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), parts)
			w.group, w.adjust = "group", func(cfg *stream.Config) {
				learns(cfg)
				cfg.Cut.MaxEvents, cfg.Cut.MaxAge, cfg.Cut.Linger = 1_000_000, 20*time.Second, 20*time.Second
			}
			w.produce(events)
			r := w.start()
			for len(w.models()) < told {
				nap(10 * time.Millisecond)
			}
			cuts := 0
			for _, rec := range w.broker.ReadCommitted(t, w.topic("changelog")) {
				if string(rec.Key) == stream.TaskKey {
					cuts++
				}
			}
			if cuts > 2*parts { // what a task tells first goes with a cut, as what it has to say of itself may
				t.Errorf("%d cuts for %d models of %d partitions", cuts, told, parts)
			}
			if killed {
				r.kill()
				w.disk.Crash()
				r = w.start()
			}
			w.virtuallyCaughtUp()
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			compareSteps(t, w.steps(now), reference(events, now))
			return w.models()
		}
		if want, got := run(false), run(true); !maps.Equal(got, want) {
			t.Errorf("what is learnt is not the same when history is told again: %d models, want %d", len(got), len(want))
		}
	})
}

// Records that cannot be applied have no time: where a feed begins with many of them nothing is known of what lies behind, and the clock does not go on.
func TestBadRecordsAtTheBeginningOfAHistory(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
		w.group = "group"
		w.adjust = func(cfg *stream.Config) {
			learns(cfg)
			cfg.Letters.BlindMin, cfg.Letters.StopMin = 1e9, 1e9
		}
		events := slices.DeleteFunc(settled(3, 30), func(h happening) bool { return h.feed != "usage" })
		w.broker.Produce(t, w.topic("usage"), unreadables("c", 400)...)
		w.produce(events)
		r := w.start()
		w.virtuallyCaughtUp()
		if n := r.metric("ebb_models_missed_total"); n != 0 {
			t.Errorf("%v times the second stage was waited for in vain", n)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		now := time.Now().UnixMilli()
		compareSteps(t, w.steps(now), reference(events, now))
	})
}
