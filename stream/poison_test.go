package stream_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
	"ebb/stream/kafkatest"
)

// faulty is a detector with a bug: it panics for some events.
type faulty struct {
	when func(r *customer.Record, env *detectors.Env, trigger *event.Event) bool
}

func (faulty) Name() string    { return "faulty" }
func (faulty) Version() string { return "1" }

func (f faulty) Evaluate(r *customer.Record, env *detectors.Env, trigger *event.Event, out []detectors.Signal) ([]detectors.Signal, int64) {
	if f.when(r, env, trigger) {
		panic("a detector with a bug")
	}
	return out, 0
}

func (faulty) Explain(*customer.Record, *detectors.Env, *detectors.Signal, *detectors.Object) {}

func (faulty) Summarize(b []byte, _ *customer.Record, _ *detectors.Env, _ *detectors.Signal) []byte {
	return b
}

// add puts a detector into a set, which has no door for that.
func add(set *detectors.Set, d detectors.Detector) {
	list := (*[]detectors.Detector)(unsafe.Pointer(reflect.ValueOf(set).Elem().FieldByName("list").UnsafeAddr()))
	*list = append(*list, d)
}

// A record on which ebb itself fails is a dead letter, and all others are applied exactly once. After three, their customer is
// quarantined with one operational alert.
func TestPoisonedRecords(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 2)
	events, end := history(17, 50)
	now := time.Now().UnixMilli()
	for i := range 5 {
		who := fmt.Sprintf("c-%03d", i)
		if i > 1 {
			who = w.customerOf(w.partitionOf("c-000"), "cursed")
		}
		events = append(events, happening{feed: "complaints", customer: who, at: now + int64(i), kind: "rated", ticket: "P", id: fmt.Sprintf("poison-%d", i)})
	}
	cursed := events[len(events)-1].customer
	events = append(events, happening{feed: "usage", customer: cursed, at: now + 100, kind: "session", id: "after"})
	bug := faulty{func(_ *customer.Record, _ *detectors.Env, trigger *event.Event) bool {
		return trigger != nil && trigger.Feed == event.Complaints && trigger.Kind == event.KindRated
	}}
	w.set = func(s *detectors.Set) { add(s, bug) }
	w.produce(events)
	r := w.start()
	w.caughtUp()

	letters := w.broker.ReadCommitted(t, w.topic("dlq"))
	reasons := map[string]int{}
	for _, l := range letters {
		reasons[l.Headers["ebb_error_reason"]+" "+string(l.Key)]++
	}
	for what, want := range map[string]int{"internal_error c-000": 1, "internal_error c-001": 1, "internal_error " + cursed: 3, "quarantined " + cursed: 1} {
		if reasons[what] != want {
			t.Errorf("%d dead letters %s, want %d: %v", reasons[what], what, want, reasons)
		}
	}
	if len(letters) != 6 {
		t.Errorf("%d dead letters, want 6", len(letters))
	}
	if !known(t, r, cursed).Quarantined || known(t, r, "c-000").Quarantined {
		t.Error("the wrong customer is quarantined")
	}
	w.awaitOperations("customer_quarantined", "fired")
	for p := range w.parts {
		w.awaitState(r, p, "running")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	cut := end - 3*3_600_000
	compareSteps(t, w.steps(cut), reference(events[:len(events)-6], cut))

	// Nothing of it is forgotten over a restart.
	w.set = nil
	w.produce([]happening{{feed: "usage", customer: cursed, at: now + 200, kind: "session", id: "later"}})
	w.start()
	w.caughtUp()
	if n := len(w.broker.ReadCommitted(t, w.topic("dlq"))); n != 7 {
		t.Errorf("%d dead letters after a record of the quarantined customer, want 7", n)
	}
	w.sameAlert(w.operations("customer_quarantined"), "fired")
}

// A deadline on which ebb fails quarantines its customer; the task and everybody else go on.
func TestPoisonedTimer(t *testing.T) {
	w := newWorld(t, kafkatest.Fake(t, kafkatest.Options{}), 1)
	now := time.Now().UnixMilli()
	var events []happening
	for i := range 10 {
		events = append(events, happening{feed: "usage", customer: fmt.Sprintf("c-%03d", i), at: now - 20*dayMs + int64(i), kind: "session", id: fmt.Sprint(i)})
	}
	w.set = func(s *detectors.Set) {
		add(s, faulty{func(r *customer.Record, _ *detectors.Env, trigger *event.Event) bool {
			return trigger == nil && r.ID == "c-004"
		}})
	}
	w.produce(events)
	r := w.start()
	w.settled(r)
	w.awaitOperations("customer_quarantined", "fired")
	w.settled(r)
	fired := map[string]int{}
	for _, a := range w.alerts() {
		fired[a.Customer]++
	}
	if len(fired) != 9 || fired["c-004"] != 0 {
		t.Errorf("alerts of %v, want one of each but c-004", fired)
	}
	for who, n := range fired {
		if n != 1 {
			t.Errorf("%d alerts of %s", n, who)
		}
	}
	if strings.Contains(r.task(0).Error, "panic") || r.task(0).State != "running" {
		t.Errorf("the task is %+v", r.task(0))
	}
}

// cursedWorld is one with a customer on whom ebb fails, and who belongs into the second partition as soon as there are two.
func cursedWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 1)
	w.group, w.adjust = "group", patient
	at := time.Now().UnixMilli() - 3*dayMs
	w.parts = 2
	cursed := w.customerOf(1, "cursed")
	w.parts = 1
	var events []happening
	for i := range int64(5) {
		events = append(events, happening{feed: "usage", customer: cursed, at: at + i, kind: "session", id: fmt.Sprint(i)},
			happening{feed: "usage", customer: "other", at: at + i, kind: "session", id: fmt.Sprint("o", i)})
	}
	w.set = func(s *detectors.Set) {
		add(s, faulty{func(r *customer.Record, _ *detectors.Env, _ *event.Event) bool { return r.ID == cursed }})
	}
	w.produce(events)
	w.livesOn()
	w.sameAlert(w.operations("customer_quarantined"), "fired")
	return w
}

// What a newer version mends is over once the state is computed anew by it.
func TestAQuarantineEndsWithARewind(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := cursedWorld(t)
		w.set = nil
		if err := w.upkeep(rewindTo(time.Now().Add(-4 * 24 * time.Hour))); err != nil {
			t.Fatal(err)
		}
		w.livesOn()
		w.sameAlert(w.operations("customer_quarantined"), "fired", "resolved")
	})
}

// After a growth a quarantined customer is told of where he is.
func TestAQuarantineMovesWithItsCustomer(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := cursedWorld(t)
		w.addPartitions(2)
		if err := w.upkeep(grow); err != nil {
			t.Fatal(err)
		}
		w.livesOn()
		var about []string
		for _, o := range w.operations("customer_quarantined") {
			about = append(about, o.Subject.ID+" "+o.Step)
		}
		slices.Sort(about)
		if want := []string{"0 fired", "0 resolved", "1 fired"}; !slices.Equal(about, want) {
			t.Errorf("%v, want %v", about, want)
		}
	})
}
