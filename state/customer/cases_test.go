package customer

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"ebb/stream/event"
)

// TestCourse: the course of a complaint is the same in whatever order its steps arrive.
func TestCourse(t *testing.T) {
	const h = hourMs
	step := func(at int64, kind event.Kind, change func(*event.Event)) *event.Event {
		e := complain(t0+at*h, kind, "T-1", event.PriorityNone)
		if change != nil {
			change(e)
		}
		return e
	}
	group := func(name string) func(*event.Event) { return func(e *event.Event) { e.Group = []byte(name) } }
	steps := []*event.Event{
		step(2, event.KindAssigned, group("desk")), step(3, event.KindPaused, nil), step(4, event.KindCustomerReplied, nil), step(5, event.KindResumed, nil),
		step(6, event.KindReassigned, group("lab")), step(7, event.KindResponded, nil), step(8, event.KindPaused, nil),
		step(9, event.KindPromised, func(e *event.Event) { e.Due = t0 + 12*h }), step(10, event.KindResumed, nil), step(11, event.KindReassigned, group("desk")),
		step(30, event.KindResolved, nil), step(31, event.KindClosed, nil), step(40, event.KindRated, func(e *event.Event) { e.Score, e.Scored = 4*event.MoneyUnit, true }),
	}
	var want Complaint
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := testParams()
		var r Record
		r.Apply(step(1, event.KindOpened, group("desk")), &p)
		if seed != 0 {
			rng.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		}
		for _, e := range steps {
			e.IDHash = hash()
			r.Apply(e, &p)
		}
		got := r.Complaints[0]
		got.Case.Steps = append([]Step(nil), got.Case.Steps...)
		if seed == 0 {
			want = got
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d:\ngot  %+v\nwant %+v", seed, got, want)
		}
	}
	if want.Responded != t0+7*h || want.PausedFor != 4*h || want.Resolved != t0+30*h || want.Case.Group != "desk" || want.Case.Reassigned != 2 {
		t.Errorf("%+v", want)
	}
	for at, name := range map[int64]string{2: "desk", 6: "lab", 10: "lab", 11: "desk", 50: "desk"} {
		if got := want.GroupAtTime(t0 + at*h); got != Hash([]byte(name)) {
			t.Errorf("hour %d: another group than %s", at, name)
		}
	}
	if got := want.Promises(nil); len(got) != 1 || got[0] != (Promise{At: t0 + 9*h, Due: t0 + 12*h}) {
		t.Errorf("promises %+v", got)
	}
	if score, at := want.Rated(); score != 4*event.MoneyUnit || at != t0+40*h {
		t.Errorf("rated %v at %d", score, at)
	}
}

func TestPromises(t *testing.T) {
	const h = hourMs
	opened, promised := Step{At: 0, Kind: StepOpened}, func(at, due int64) Step { return Step{At: at * h, Arg: due * h, Kind: StepPromised} }
	for _, c := range []struct {
		rule  string
		steps []Step
		want  []Promise
	}{
		{"not kept", []Step{opened, promised(1, 5)}, []Promise{{At: h, Due: 5 * h}}},
		{"kept by an answer", []Step{opened, promised(1, 5), {At: 5 * h, Kind: StepAnswered}}, []Promise{{At: h, Due: 5 * h, Kept: 5 * h}}},
		{"an answer after it was due does not keep it", []Step{opened, promised(1, 5), {At: 6 * h, Kind: StepAnswered}}, []Promise{{At: h, Due: 5 * h}}},
		{"kept by the end", []Step{opened, promised(1, 5), {At: 2 * h, Kind: StepResolved}}, []Promise{{At: h, Due: 5 * h, Kept: 2 * h}}},
		{"replaced by another before it was due", []Step{opened, promised(1, 5), promised(4, 9)}, []Promise{{At: 4 * h, Due: 9 * h}}},
		{"not replaced by one that came too late", []Step{opened, promised(1, 5), promised(6, 9)}, []Promise{{At: h, Due: 5 * h}, {At: 6 * h, Due: 9 * h}}},
	} {
		k := Complaint{Case: Case{Steps: c.steps}}
		if got := k.Promises(nil); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.rule, got, c.want)
		}
	}
}

// TestDesk: broken promises and the ends of a category outlive their complaints.
func TestDesk(t *testing.T) {
	p := testParams()
	var r Record
	for i := range int64(12) {
		at := t0 + i*10*dayMs
		id := fmt.Sprint("T-", i)
		open := complain(at, event.KindOpened, id, event.PriorityNormal)
		open.Category = []byte("bill")
		promise := complain(at+hourMs, event.KindPromised, id, event.PriorityNone)
		promise.Due = at + 2*hourMs
		r.Apply(open, &p)
		r.Apply(promise, &p)
		r.Apply(complain(at+dayMs, event.KindResolved, id, event.PriorityNone), &p)
		before := int64(0)
		if i > 0 {
			before = at - 9*dayMs
		}
		if k := r.Complaint(id); r.Complaints[k].Case.Before != before {
			t.Errorf("complaint %d: the one before ended at %d, want %d", i, r.Complaints[k].Case.Before, before)
		}
	}
	if len(r.Complaints) != 1 || len(r.desk.broken) != maxBroken || len(r.desk.ends) != maxEnds {
		t.Errorf("%d complaints, %+v", len(r.Complaints), r.desk)
	}
	now := t0 + 110*dayMs + dayMs
	if got := r.BrokenPromises(now-25*dayMs, now); got != 3 {
		t.Errorf("%d broken promises in 25 days, want 3", got)
	}
}

// TestMaxSteps: what is left out for want of room changes neither the opening nor how long the complaint was paused.
func TestMaxSteps(t *testing.T) {
	p := testParams()
	var r Record
	r.Apply(complain(t0, event.KindOpened, "T-1", event.PriorityNormal), &p)
	for i := range int64(200) {
		at := t0 + (1+i)*hourMs
		r.Apply(complain(at, []event.Kind{event.KindPaused, event.KindResumed}[i%2], "T-1", event.PriorityNone), &p)
		r.Apply(complain(at+1, event.KindResponded, "T-1", event.PriorityNone), &p)
	}
	c := &r.Complaints[0]
	if len(c.Case.Steps) > MaxSteps || !c.Case.Short || c.Case.Steps[0] != (Step{At: t0, Kind: StepOpened}) || c.PausedFor != 100*hourMs {
		t.Errorf("%d steps, the first %+v, paused for %d hours", len(c.Case.Steps), c.Case.Steps[0], c.PausedFor/hourMs)
	}
	for i := range 100 {
		id := fmt.Sprint("T-", 2+i)
		for j := range int64(20) {
			r.Apply(complain(t0+j*hourMs, []event.Kind{event.KindOpened, event.KindCustomerReplied}[min(j, 1)], id, event.PriorityNormal), &p)
		}
	}
	all := 0
	for i := range r.Complaints {
		all += len(r.Complaints[i].Case.Steps)
	}
	if all > MaxAllSteps {
		t.Errorf("%d steps in all", all)
	}
}

// TestMaxStepsKeepWhatTheClocksNeed: nor does it change when the first answer was, and since when the customer waits for one.
func TestMaxStepsKeepWhatTheClocksNeed(t *testing.T) {
	p := testParams()
	var r Record
	r.Apply(complain(t0, event.KindOpened, "T-1", event.PriorityNormal), &p)
	for i := range int64(60) {
		at := t0 + (1+i)*hourMs
		r.Apply(complain(at, event.KindResponded, "T-1", event.PriorityNone), &p)
		r.Apply(complain(at+1, event.KindCustomerReplied, "T-1", event.PriorityNone), &p)
	}
	c := &r.Complaints[0]
	if c.Responded != t0+hourMs {
		t.Errorf("answered first %d hours after the opening, want 1", (c.Responded-t0)/hourMs)
	}
	since := Step{At: t0 + 60*hourMs + 1, Kind: StepReplied}
	for i := range int64(60) {
		r.Apply(complain(t0+(61+i)*hourMs, event.KindCustomerReplied, "T-1", event.PriorityNone), &p)
	}
	if c.Responded != t0+hourMs || !slices.Contains(c.Case.Steps, since) {
		t.Errorf("answered first after %d hours; waits for an answer since %+v", (c.Responded-t0)/hourMs, c.Case.Steps[1])
	}
	r.Apply(complain(t0+200*hourMs, event.KindResolved, "T-1", event.PriorityNone), &p)
	r.Apply(complain(t0+201*hourMs, event.KindReopened, "T-1", event.PriorityNone), &p)
	if c.Responded != 0 {
		t.Errorf("opened again it is answered already, at %d", c.Responded)
	}
}

// TestMaxStepsOfPauses: nor how long the complaint was paused, where pauses are told more than once, and after a reopening.
func TestMaxStepsOfPauses(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 6))
		p := testParams()
		var r Record
		r.Apply(complain(t0, event.KindOpened, "T-1", event.PriorityNormal), &p)
		at, since, sum := int64(t0), int64(0), int64(0)
		for i := range 150 {
			at += 1 + rng.Int64N(hourMs)
			kind := event.KindPaused + event.Kind(rng.IntN(2))
			if rng.IntN(40) == 0 {
				r.Apply(complain(at, event.KindResolved, "T-1", event.PriorityNone), &p)
				at++
				kind, since, sum = event.KindReopened, 0, 0
			}
			r.Apply(complain(at, kind, "T-1", event.PriorityNone), &p)
			switch {
			case kind == event.KindPaused && since == 0:
				since = at
			case kind == event.KindResumed && since != 0:
				since, sum = 0, sum+at-since
			}
			if c := &r.Complaints[0]; c.PausedFor != sum || c.PausedAt != since {
				t.Fatalf("seed %d step %d: paused for %d since %d, want %d and %d; %+v", seed, i, c.PausedFor, c.PausedAt, sum, since, c.Case.Steps)
			}
		}
	}
}

// TestStoredBeforeSteps: a complaint of an older record goes on with the pauses that it had.
func TestStoredBeforeSteps(t *testing.T) {
	p := testParams()
	r := Record{Complaints: []Complaint{{ID: "T-1", Opened: t0, Responded: t0 + 9*hourMs, PausedAt: t0 + 8*hourMs, PausedFor: 3 * hourMs, Reopened: 1}}}
	r.Apply(complain(t0+10*hourMs, event.KindResumed, "T-1", event.PriorityNone), &p)
	c := &r.Complaints[0]
	if c.PausedFor != 5*hourMs || c.PausedAt != 0 || c.Responded != t0+9*hourMs || c.Case.Steps[0].Kind != StepReopened {
		t.Errorf("%+v", c)
	}
}

// TestTrouble: days of trouble add up in any order, and old ones are dropped.
func TestTrouble(t *testing.T) {
	p := testParams()
	day := func(at int64) int32 { return p.Calendar.Day(at) }
	failed := func(at int64, how event.Outcome) *event.Event {
		e := use(at, 1)
		e.Outcome = how
		return e
	}
	var list []*event.Event
	for i := range int64(100) {
		list = append(list, failed(t0+i*dayMs, event.OutcomeDropped), failed(t0+i*dayMs+hourMs, event.OutcomeOK))
	}
	list = append(
		list, failed(t0+99*dayMs, event.OutcomeBusy), complain(t0+99*dayMs, event.KindContactFailed, "", 0), complain(t0+50*dayMs, event.KindOpened, "T-1", 0),
		complain(t0+50*dayMs, event.KindReopened, "T-2", 0),
	)
	var want []Trouble
	for seed := range uint64(20) {
		var r Record
		if seed != 0 {
			rng := rand.New(rand.NewPCG(seed, 2))
			rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		}
		r.Apply(failed(t0+99*dayMs, event.OutcomeAbandoned), &p) // the windows are where they will be
		for _, e := range list {
			e.IDHash = hash()
			r.Apply(e, &p)
		}
		if seed == 0 {
			want = append(want, r.Troubles()...)
		}
		if !reflect.DeepEqual(r.Troubles(), want) {
			t.Fatalf("seed %d: %+v\nwant %+v", seed, r.Troubles(), want)
		}
	}
	last := want[len(want)-1]
	if len(want) != 91 || want[0].Day != day(t0+9*dayMs) || last.Uses() != 3 || last.Unreached != 1 || want[41].Complaints != 2 || want[41].Uses() != 1 {
		t.Errorf("%d days from %d, the last %+v, that of the complaints %+v", len(want), want[0].Day, last, want[41])
	}
}
