package stream_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/state"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/conn"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
	"ebb/stream/txn"
)

// addPartitions is what the operator does to the feeds.
func (w *world) addPartitions(n int32) {
	w.t.Helper()
	for _, f := range feedNames {
		w.addTo(f, n)
	}
	w.parts = n
}

func (w *world) addTo(name string, n int32) {
	w.t.Helper()
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis = 10000
	rt := kmsg.NewCreatePartitionsRequestTopic()
	rt.Topic, rt.Count = w.topic(name), n
	req.Topics = append(req.Topics, rt)
	cl := w.broker.Client(w.t)
	defer cl.Close()
	resp, err := req.RequestWith(context.Background(), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	kafkatest.Eventually(w.t, "the new partitions of "+name, func() error {
		if has := len(w.broker.EndOffsets(w.t, w.topic(name))); has != int(n) {
			return fmt.Errorf("%d partitions", has)
		}
		return nil
	})
}

// upkeep calls f with the upkeep of the world's group.
func (w *world) upkeep(f func(ctx context.Context, u *stream.Upkeep) error) error {
	w.t.Helper()
	cluster, err := conn.New(conn.Config{Brokers: w.broker.Addrs, Dial: w.dial})
	if err != nil {
		w.t.Fatal(err)
	}
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	log := slog.New(slog.NewTextHandler(w.t.Output(), nil))
	rules := contract()
	if w.rules != nil {
		w.rules(&rules)
	}
	set, err := detectors.NewSet(rules)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := w.config()
	policy := alerts.New(alerts.Config{Group: w.group, Detectors: set, Horizon: rules.Horizon, Currency: cfg.Rates.Currency()})
	u, err := stream.NewUpkeep(ctx, cfg, stream.Deps{Cluster: cluster, Now: w.now, Log: log, Detectors: set, Policy: policy, TxnStep: w.step})
	if err != nil {
		return err
	}
	defer u.Close()
	return f(ctx, u)
}

func grow(ctx context.Context, u *stream.Upkeep) error {
	_, err := u.Grow(ctx)
	return err
}

// halves is a history whose second half is still to come.
func halves(seed uint64, n int) (before, after []happening) {
	all := settled(seed, n)
	at := len(all) * 2 / 3
	return all[:at], all[at:]
}

// patient makes small cuts, and no feed stall.
func patient(cfg *stream.Config) {
	smallCuts(cfg)
	cfg.Stall.Expected = 1e9
}

// Growing in the middle of a history changes no alert, although the command is killed at each of its steps, one after the other.
func TestGrow(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 3)
		w.group, w.adjust = "group", patient
		ck := &clock{}
		w.now = ck.now
		before, after := halves(31, 40)
		w.produce(before)
		ck.set(before[len(before)-1].at)
		w.livesOn()
		w.addPartitions(8)
		w.plans(t, 3, 8)
		deaths := w.killedAtEachStep(grow, 10)
		if deaths < 40 {
			t.Errorf("killed %d times only", deaths)
		}
		w.produce(after)
		until := after[len(after)-1].at
		ck.set(until + dayMs)
		w.livesOn()
		compareSteps(t, w.steps(until), reference(append(before, after...), until))
		w.inTheirPartitions()
	})
}

// plans checks what growing would mean.
func (w *world) plans(t *testing.T, from, to int32) {
	t.Helper()
	err := w.upkeep(func(ctx context.Context, u *stream.Upkeep) error {
		g, err := u.PlanGrowth(ctx)
		if err == nil && (g.From != from || g.To != to || g.Moving == 0 || g.Moving >= g.Customers || g.Changed || !g.Needed()) {
			t.Errorf("planned %+v", g)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// killedAtEachStep runs a command again and again; each run dies one step of a transaction later than the one before, until one gets to the end. After about
// so many deaths each instances are started, which have to refuse; not after a death at the end of a transaction, because the work may have been done with it. It returns
// the number of deaths.
func (w *world) killedAtEachStep(command func(context.Context, *stream.Upkeep) error, start int) int {
	w.t.Helper()
	defer func() { w.step = nil }()
	refused := 0
	for deaths := 0; ; deaths++ {
		left, marked := deaths, false
		var last txn.Step
		var mu sync.Mutex // some steps are taken side by side
		w.step = func(_ int32, s txn.Step) error {
			mu.Lock()
			defer mu.Unlock()
			if left--; left < 0 {
				last = s
				return errKilled
			}
			marked = marked || s == txn.StepDone
			return nil
		}
		err := w.upkeep(command)
		w.step = nil
		switch {
		case err == nil:
			return deaths
		case !errors.Is(err, errKilled):
			w.t.Fatalf("death %d: %v", deaths, err)
		case marked && last != txn.StepDone && deaths/start > refused:
			refused = deaths / start
			w.refusesToRun()
		}
	}
}

// refusesToRun checks that no task computes with a half-grown state.
func (w *world) refusesToRun() {
	w.t.Helper()
	before := w.broker.EndOffsets(w.t, w.topic("alerts"))
	r := w.start()
	kafkatest.Eventually(w.t, "tasks that refuse", func() error {
		select {
		case err := <-r.done:
			r.done <- err
			if err == nil {
				return errors.New("it ended without an error")
			}
			return nil
		default:
		}
		stopped := 0
		for p := range w.parts {
			if r.task(p).State == "stopped" {
				stopped++
			}
		}
		if stopped == 0 {
			return fmt.Errorf("%+v", r.Status())
		}
		return nil
	})
	r.kill()
	if after := w.broker.EndOffsets(w.t, w.topic("alerts")); fmt.Sprint(after) != fmt.Sprint(before) {
		w.t.Errorf("alerts were published: %v, before %v", after, before)
	}
}

// inTheirPartitions checks that every customer lies in one partition of the changelog, his own.
func (w *world) inTheirPartitions() {
	w.t.Helper()
	type place struct {
		id string
		p  int32
	}
	here := map[place]bool{}
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("changelog")) {
		if at := (place{string(r.Key), r.Partition}); r.Value == nil {
			delete(here, at)
		} else if r.Key[0] != 0 {
			here[at] = true
		}
	}
	for at := range here {
		if want := w.partitionOf(at.id); at.p != want {
			w.t.Errorf("%s lies in partition %d, want %d", at.id, at.p, want)
		}
	}
	if len(here) == 0 {
		w.t.Error("no customer at all")
	}
}

// The command waits for the group to be empty, and refuses while an instance runs; it refuses to leave records behind whose customers move, as long as it has
// changed nothing.
func TestGrowRefuses(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 3)
		w.group, w.adjust = "group", patient
		before, after := halves(31, 20)
		w.produce(before)
		r := w.start()
		w.caughtUp()
		if err := w.upkeep(grow); !errors.Is(err, stream.ErrMembers) {
			t.Errorf("beside a running instance: %v", err)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		w.produce(after)
		w.addPartitions(8)
		written := w.broker.EndOffsets(t, w.topic("changelog"))
		if err := w.upkeep(grow); !errors.Is(err, stream.ErrUndrained) {
			t.Errorf("with unread records: %v", err)
		}
		if now := w.broker.EndOffsets(t, w.topic("changelog")); fmt.Sprint(now) != fmt.Sprint(written) {
			t.Errorf("the changelog ends at %v, before at %v", now, written)
		}
	})
}

// An instance that is started while the command works takes the partition over, and the command ends without harm; so does an instance that the command
// finds at work although the group looked empty.
func TestGrowMeetsAnInstance(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 3)
		w.group, w.adjust = "group", patient
		events, _ := halves(31, 20)
		w.produce(events)
		w.livesOn()
		w.addPartitions(8)
		var r *running
		commits := 0
		w.step = func(_ int32, s txn.Step) error { // what is written before the last transaction commits no offsets: one step after the other
			if s == txn.StepEnd {
				commits++
			}
			if s == txn.StepAddPartitions && commits == 9 && r == nil { // marked, and about to move
				w.step = nil
				r = w.start()
				kafkatest.Eventually(t, "an instance that stops", func() error {
					if s := r.task(1); s.State != "stopped" {
						return fmt.Errorf("partition 1 is %s", s.State)
					}
					return nil
				})
			}
			return nil
		}
		if err := w.upkeep(grow); !errors.Is(err, stream.ErrInterfered) {
			t.Errorf("a command that was overtaken ended with %v", err)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if err := w.upkeep(grow); err != nil {
			t.Fatal(err)
		}
		w.livesOn()
		w.inTheirPartitions()
	})
}

// forgetMember ends the session of the instance that stopped last, so that the test need not wait for it.
func (w *world) forgetMember() {
	w.t.Helper()
	cl := w.broker.Client(w.t)
	defer cl.Close()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = w.group, *w.member.Load()
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID = req.MemberID
	req.Members = append(req.Members, m)
	if _, err := req.RequestWith(context.Background(), cl); err != nil {
		w.t.Fatal(err)
	}
}

// Where records are forwarded, growing does not wait for the feeds to be read: what lies in a partition that its customer leaves is forwarded. Half of a feed
// that is divided among the tasks changes its reader.
func TestGrowWithUnreadRecords(t *testing.T) {
	t.Parallel()
	long(t)
	bubble(t, func(t *testing.T) {
		w := rerouting(t, kafkatest.Virtual(t, kafkatest.Options{}), 3)
		w.adjust = func(cfg *stream.Config) {
			patient(cfg)
			w.reroutes(cfg)
			cfg.Time.MaxOutOfOrder = time.Hour
		}
		ck := &clock{}
		w.now = ck.now
		before, rest := halves(35, 40)
		middle, after := rest[:len(rest)/2], rest[len(rest)/2:]
		w.produce(before)
		ck.set(before[len(before)-1].at)
		w.livesOn()
		w.produce(middle)
		w.addPartitions(8)
		w.produce(after)
		if deaths := w.killedAtEachStep(grow, 20); deaths < 40 {
			t.Errorf("killed %d times only", deaths)
		}
		until := after[len(after)-1].at
		ck.set(until + dayMs)
		r := w.start()
		w.delivered(r)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		compareSteps(t, w.steps(until), reference(append(before, rest...), until))
		w.inTheirPartitions()
		w.countedOnce(append(before, rest...))
	})
}

// countedOnce checks that every use and every purchase is in the windows of its customer once.
func (w *world) countedOnce(events []happening) {
	w.t.Helper()
	want := map[string]int{}
	for _, e := range events {
		if e.feed == "usage" || e.kind == "purchase" || e.kind == "refund" {
			want[e.customer]++
		}
	}
	got := map[string]int{}
	for _, r := range w.broker.ReadCommitted(w.t, w.topic("changelog")) {
		if r.Value == nil || r.Key[0] == 0 || w.partitionOf(string(r.Key)) != r.Partition {
			continue
		}
		var rec customer.Record
		if err := customer.DecodeRecord(r.Value, &rec); err != nil {
			w.t.Fatal(err)
		}
		n := 0
		for i := range rec.Usage {
			n += int(rec.Usage[i].Count)
		}
		for i := range rec.Spend {
			n += int(rec.Spend[i].Purchases) + int(rec.Spend[i].Refunds)
		}
		got[string(r.Key)] = n
	}
	if !maps.Equal(got, want) {
		w.t.Errorf("uses and purchases in the windows: %v, want %v", got, want)
	}
}

// Partitions that were added to the changelog by hand have no state, and their customers do: no task starts on them.
func TestChangelogGrownByHand(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 3)
		w.group, w.adjust = "group", patient
		before, after := halves(36, 20)
		w.produce(before)
		w.livesOn()
		w.addPartitions(8)
		w.addTo("changelog", 8)
		w.produce(after)
		written := w.broker.EndOffsets(t, w.topic("changelog"))
		r := w.start()
		for p := range w.parts {
			if s := w.awaitState(r, p, "stopped"); !strings.Contains(s.Error, "ebb state grow") {
				t.Errorf("partition %d says %s", p, s.Error)
			}
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if now := w.broker.EndOffsets(t, w.topic("changelog")); fmt.Sprint(now) != fmt.Sprint(written) {
			t.Errorf("the changelog ends at %v, before at %v", now, written)
		}
	})
}

func TestGrowOnARealBroker(t *testing.T) {
	long(t)
	w := newWorld(t, kafkatest.Real(t), 3)
	w.adjust = patient
	ck := &clock{}
	w.now = ck.now
	before, after := halves(33, 60)
	w.produce(before)
	ck.set(before[len(before)-1].at)
	w.livesOn()
	w.forgetMember()
	w.addPartitions(8)
	if err := w.upkeep(grow); err != nil {
		t.Fatal(err)
	}
	w.produce(after)
	until := after[len(after)-1].at
	ck.ahead.Store(0)
	w.disk = state.NewMemDisk()
	w.livesOn()
	compareSteps(t, w.steps(until), reference(append(before, after...), until))
	w.inTheirPartitions()
}

// What was counted of cohorts goes on over a growth: what was spent before it on the same day is told, and how many customers there are from the next day on.
func TestCohortsAreCountedOverAGrowth(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		const customers = 60
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 3)
		w.group = "group"
		w.adjust = func(cfg *stream.Config) {
			patient(cfg)
			cfg.Cohorts = &cohorts.Config{FalseAlarms: 0.5, LeastMembers: 5, Totals: true}
		}
		ck := &clock{}
		w.now = ck.now
		noon := time.Now().Truncate(24*time.Hour).UnixMilli() + dayMs/2
		purchases := func(at int64) (all []happening) {
			for c := range customers {
				id := fmt.Sprintf("c-%02d", c)
				all = append(all, happening{feed: "payments", customer: id, at: at + int64(c), kind: "purchase", cents: 100, id: fmt.Sprint(id, at)})
			}
			return all
		}
		ck.set(noon - 100*dayMs)
		w.produce(purchases(noon - 100*dayMs - 1000))
		w.livesOn()
		for day := range int64(2) {
			ck.set(noon - (1-day)*dayMs)
			w.produce(purchases(noon - (1-day)*dayMs - 1000))
			w.livesOn()
		}
		before := w.cohortsTold()
		w.addPartitions(8)
		if err := w.upkeep(grow); err != nil {
			t.Fatal(err)
		}
		r := w.start()
		w.settled(r)
		ck.set(noon + dayMs)
		w.settled(r)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		told := w.cohortsTold()
		spent, active := int64(0), map[int32]int64{}
		for i, x := range told {
			if spent += x.Spent; i >= len(before) && x.Whole && x.Day == dayOf(noon) {
				active[x.Partition] = x.Active
			}
		}
		all := int64(0)
		for _, n := range active {
			all += n
		}
		if spent != 3*customers*int64(event.MoneyUnit) {
			t.Errorf("%v was told to be spent, want %v", event.Money(spent), 3*customers*event.MoneyUnit)
		}
		if all != customers || len(active) != 8 {
			t.Errorf("%d active customers are told by %d partitions, want %d by 8", all, len(active), customers)
		}
	})
}

func dayOf(ms int64) int32 { return int32(ms / dayMs) }

// cohortsTold is what all tasks have told of cohorts.
func (w *world) cohortsTold() (all []stream.CohortsTold) {
	w.t.Helper()
	for _, f := range w.broker.ReadCommitted(w.t, w.topic("facts")) {
		if x, ok := stream.CohortsFact(f.Key, f.Value); ok {
			all = append(all, x)
		}
	}
	return all
}
