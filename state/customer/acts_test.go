package customer

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ebb/stream/event"
)

// withActs adds what people did to a record.
func withActs(rng *rand.Rand, r *Record) *Record {
	for i := range r.Lifecycles {
		r.Lifecycles[i].Probability, r.Lifecycles[i].HorizonDays = uint16(rng.IntN(3)*400), uint16(rng.IntN(3)*60)
		if rng.IntN(3) != 0 {
			r.Lifecycles[i].Work = &Work{
				AcknowledgedAt: t0 + rng.Int64N(dayMs), AcknowledgedBy: "kim", Assignee: strings.Repeat("l", rng.IntN(MaxActor+1)),
				SnoozedUntil: rng.Int64N(2) * (r.Lifecycles[i].FiredAt + rng.Int64N(dayMs)), RemindedAt: 3, Note: strings.Repeat("ü", rng.IntN(MaxNote/2+1)),
			}
		}
	}
	for i := range rng.IntN(4) {
		r.Close(Closing{
			Detector: []string{"silence", "own"}[i%2], Subject: strings.Repeat("y", i/2), AlertID: [16]byte{byte(i)}, At: t0 + rng.Int64N(dayMs),
			Until: rng.Int64N(2) * (t0 + rng.Int64N(40*dayMs)), Result: event.Result(1 + rng.IntN(3)),
		})
	}
	for i := range rng.IntN(4) {
		r.Predict(Prediction{
			Detector: "spend_drop", AlertID: [16]byte{9, byte(i)}, At: t0 + rng.Int64N(dayMs), Since: t0 - rng.Int64N(dayMs), Due: t0 + rng.Int64N(60*dayMs), Severity: 2,
			Probability: uint16(rng.IntN(1001)), Expected: event.Money(rng.Int64()), Result: event.Result(rng.IntN(4)),
		})
	}
	if rng.IntN(2) == 0 {
		r.Hold(t0+rng.Int64N(dayMs), t0+dayMs+rng.Int64N(dayMs))
	}
	return r
}

func TestActsAreStored(t *testing.T) {
	var into Record
	into.ID = "c-42"
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 5))
		r := withActs(rng, randomRecord(rng))
		if rng.IntN(4) == 0 {
			r.Rewind()
		}
		b := AppendRecord(nil, r)
		if err := DecodeRecord(b, &into); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		same(t, &into, r)
		if again := AppendRecord(nil, &into); !bytes.Equal(again, b) {
			t.Fatalf("seed %d: the stored form is not canonical", seed)
		}
		if seed < 20 {
			for n := range b {
				if err := DecodeRecord(b[:n], &into); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("seed %d: cut at %d of %d: %v", seed, n, len(b), err)
				}
			}
		}
	}
}

// The caps hold, and keep what has to be kept: the closings about the customer as a whole.
func TestActsAreBounded(t *testing.T) {
	r := &Record{}
	r.Close(Closing{Detector: "silence", At: 1})
	for i := range 3 * MaxClosings {
		r.Close(Closing{Detector: "complaint_unresolved", Subject: strings.Repeat("x", i+1), At: 1})
	}
	r.Close(Closing{Detector: "silence", At: 2})
	if n := len(r.Closings()); n != MaxClosings {
		t.Errorf("%d closings, want %d", n, MaxClosings)
	}
	if i := r.Closing("silence", ""); i < 0 || r.Closings()[i].At != 2 {
		t.Errorf("silence is closed at index %d of %+v", i, r.Closings())
	}
	for range MaxPredictions {
		if !r.Predict(Prediction{}) {
			t.Fatal("no room")
		}
	}
	if r.Predict(Prediction{}) {
		t.Error("there is room beyond the cap")
	}
	for len(r.Closings()) != 0 {
		r.DropClosing(0)
	}
	for len(r.Predictions()) != 0 {
		r.DropPrediction(0)
	}
	if r.rare != nil {
		t.Error("nothing is left, but its memory is kept")
	}
}

// Stretches that touch are one; of two apart the later one counts.
func TestHold(t *testing.T) {
	for _, c := range []struct {
		rule        string
		holds       [][2]int64
		from, until int64
	}{
		{"one", [][2]int64{{10, 20}}, 10, 20},
		{"an empty one is none", [][2]int64{{10, 10}}, 0, 0},
		{"longer at its end", [][2]int64{{10, 20}, {15, 30}}, 10, 30},
		{"longer at its begin", [][2]int64{{10, 20}, {5, 10}}, 5, 20},
		{"within", [][2]int64{{10, 20}, {12, 15}}, 10, 20},
		{"a later one", [][2]int64{{10, 20}, {30, 40}}, 30, 40},
		{"an earlier one that is told late", [][2]int64{{30, 40}, {10, 20}}, 30, 40},
	} {
		r := &Record{}
		for _, h := range c.holds {
			r.Hold(h[0], h[1])
		}
		if from, until := r.Held(); from != c.from || until != c.until {
			t.Errorf("%s: %d to %d, want %d to %d", c.rule, from, until, c.from, c.until)
		}
	}
}

// Who is merged takes with him what was decided about him.
func TestJoinActs(t *testing.T) {
	p := testParams()
	r, o := &Record{}, &Record{}
	r.Close(Closing{Detector: "silence", At: 5})
	o.Close(Closing{Detector: "silence", At: 7})
	o.Close(Closing{Detector: "spend_drop", At: 7})
	o.Predict(Prediction{Detector: "silence", Due: 9})
	o.Hold(10, 20)
	r.Join(o, &p)
	if len(r.Closings()) != 2 || r.Closings()[0].At != 5 || len(r.Predictions()) != 1 {
		t.Errorf("closings %v, predictions %v", r.Closings(), r.Predictions())
	}
	if from, until := r.Held(); from != 10 || until != 20 {
		t.Errorf("held from %d to %d", from, until)
	}
	r.ReopenClosing(1, 99)
	if want := []Closing{{Detector: "silence", At: 7}, {Detector: "spend_drop", At: 7}}; !reflect.DeepEqual(o.Closings(), want) {
		t.Errorf("the other has %v, want %v", o.Closings(), want)
	}
}

func TestClip(t *testing.T) {
	for in, want := range map[string]string{"": "", "abcd": "abcd", "abcde": "abcd", "aüüü": "aü", "üüü": "üü"} {
		if got := Clip(in, 4); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// A prediction about a habit keeps its place in the stored form. Of a customer who was merged into another the habits have other places, so nothing can be said of it any more.
func TestPredictionsOfHabits(t *testing.T) {
	r := &Record{ID: "c"}
	want := []Prediction{
		{Detector: "partial_lapse", At: t0, Since: t0 - 5, Due: t0 + 7, Severity: 2, Habit: 3},
		{Detector: "silence", At: t0, Since: t0 - 5, Due: t0 + 7, Severity: 3, Probability: 700},
	}
	for _, p := range want {
		r.Predict(p)
	}
	again := &Record{ID: "c"}
	if err := DecodeRecord(AppendRecord(nil, r), again); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.Predictions(), want) {
		t.Errorf("got %+v", again.Predictions())
	}
	other, p := &Record{ID: "d"}, DefaultParams(NewCalendar(nil))
	other.Join(again, &p)
	if got := other.Predictions(); len(got) != 2 || got[0].Habit <= MaxHabits || got[1].Habit != 0 {
		t.Errorf("joined: %+v", got)
	}
}
