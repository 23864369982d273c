package detectors

import (
	"testing"

	"ebb/state/customer"
	"ebb/stream/event"
)

// What was foretold of a habit is held against its rhythm, which tells its last three days: where these do not say whether one lay within the horizon, nor whose days they are, it is not known.
func TestMissedHabits(t *testing.T) {
	const day = 86_400_000
	p := customer.DefaultParams(customer.NewCalendar(nil))
	p.Habits = true
	env := &Env{Calendar: p.Calendar, Rates: MustRates("EUR", nil)}
	env.Now = 3000 * day
	for f := range env.KnownUntil {
		env.KnownUntil[f] = env.Now
	}
	s := mustSet(t)
	for _, c := range []struct {
		name  string
		days  []int64 // on which it was paid after the 1070th; it fired on the 1100th, and the horizon ends on the 1160th
		place uint8
		want  Verdict
	}{
		{"never again", nil, 1, Right},
		{"a record came late: it was paid before", []int64{1090}, 1, Right},
		{"on the day of the alert", []int64{1100}, 1, Wrong},
		{"within the horizon", []int64{1130}, 1, Wrong},
		{"on its last day", []int64{1160}, 1, Wrong},
		{"a day later", []int64{1161}, 1, Right},
		{"within it, and again", []int64{1159, 1162}, 1, Wrong},
		{"twice behind it", []int64{1161, 1170}, 1, Right},
		{"within it, and twice behind it", []int64{1150, 1161, 1170}, 1, Wrong},
		{"too often behind it to know", []int64{1150, 1161, 1170, 1180}, 1, Unknown},
		{"another habit took its place", nil, 2, Unknown},
		{"there is no such place", nil, 7, Unknown},
		{"no place is named", nil, 0, Unknown},
	} {
		r := &customer.Record{ID: "c"}
		pays := func(day int64, category string) {
			r.Apply(&event.Event{
				Feed: event.Payments, Kind: event.KindPurchase, Time: day*86_400_000 + 5, Amount: event.MoneyUnit, Category: []byte(category),
			}, &p)
		}
		for d := int64(1000); d <= 1070; d += 10 {
			pays(d, "coffee")
		}
		pays(1095, "tea")
		for _, d := range c.days {
			pays(d, "coffee")
		}
		x := customer.Prediction{Detector: PartialLapseName, At: 1100 * day, Since: 1070 * day, Due: 1160 * day, Habit: c.place}
		if got := s.Judge(r, env, &x); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
