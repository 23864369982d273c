package customer

import (
	"testing"

	"ebb/stream/event"
)

// What is remembered is the best tier that was left, and since when, for as long as the customer is below it.
func TestTierFalls(t *testing.T) {
	p := DefaultParams(NewCalendar(nil))
	p.Tiers = []string{"platinum", "gold", "silver", "bronze"}
	for _, c := range []struct {
		name string
		says []string // a profile a day
		from string   // "" for no fall
		at   int64    // day
	}{
		{"the first profile", []string{"silver"}, "", 0},
		{"a step down", []string{"gold", "silver"}, "gold", 1},
		{"past a tier", []string{"platinum", "bronze"}, "platinum", 1},
		{"the same again", []string{"gold", "silver", "silver"}, "gold", 1},
		{"on and on", []string{"platinum", "gold", "silver", "bronze"}, "platinum", 1},
		{"up", []string{"silver", "gold", "platinum"}, "", 0},
		{"below the best two", []string{"silver", "bronze"}, "", 0},
		{"up a little is not back", []string{"platinum", "silver", "gold"}, "platinum", 1},
		{"back, and down again", []string{"platinum", "silver", "platinum", "gold"}, "platinum", 3},
		{"better than before, and down again", []string{"gold", "silver", "platinum", "gold"}, "platinum", 3},
		{"to a tier that is not listed", []string{"gold", "staff"}, "", 0},
		{"from one", []string{"staff", "bronze"}, "", 0},
		{"a profile without a tier", []string{"gold", ""}, "", 0},
	} {
		r := &Record{ID: "c"}
		for day, tier := range c.says {
			at := t0 + int64(day)*dayMs
			r.Apply(&event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: at, Profile: &event.Profile{Tier: tier}}, &p)
			r.Apply(&event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: at - 10*dayMs, Profile: &event.Profile{Tier: "bronze"}}, &p) // stale
		}
		again := &Record{ID: "c"}
		if err := DecodeRecord(AppendRecord(nil, r), again); err != nil {
			t.Fatal(err)
		}
		for _, r := range []*Record{r, again} {
			switch f := r.TierFall(); {
			case (f == nil) != (c.from == ""):
				t.Errorf("%s: %+v", c.name, f)
			case f != nil && (f.From != c.from || f.At != t0+c.at*dayMs):
				t.Errorf("%s: %+v, want from %s on day %d", c.name, f, c.from, c.at)
			}
		}
	}
	r := &Record{ID: "c"}
	says := func(at int64, tier string) {
		r.Apply(&event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: at, Profile: &event.Profile{Tier: tier}}, &p)
	}
	says(t0, "gold")
	says(t0+5, "silver")
	if !r.Rewind() || r.TierFall() == nil {
		t.Error("a rewind forgets who moved down, though the profile of before may be gone")
	}
	says(t0+5, "silver") // all that is left of the topic
	if f := r.TierFall(); f == nil || f.From != "gold" || f.At != t0+5 {
		t.Errorf("after a rewind: %+v", f)
	}
	r = &Record{ID: "c"}
	p.Tiers = nil
	for i, tier := range []string{"gold", "silver"} {
		r.Apply(&event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: t0 + int64(i), Profile: &event.Profile{Tier: tier}}, &p)
	}
	if r.TierFall() != nil {
		t.Error("without a list nobody falls")
	}
}

// A fall goes with the profile that told it.
func TestTierFallsAreJoined(t *testing.T) {
	p := DefaultParams(NewCalendar(nil))
	p.Tiers = []string{"gold", "silver"}
	says := func(tiers ...string) *Record {
		r := &Record{ID: "c"}
		for i, tier := range tiers {
			r.Apply(&event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: t0 + int64(i), Profile: &event.Profile{Tier: tier}}, &p)
		}
		return r
	}
	for _, c := range []struct {
		name      string
		one, into *Record
		want      bool
	}{
		{"into a customer without a profile", says("gold", "silver"), says(), true},
		{"into one with another profile", says("gold", "silver"), says("gold"), false},
		{"into one who fell", says("silver"), says("gold", "silver"), true},
	} {
		c.into.Join(c.one, &p)
		if got := c.into.TierFall() != nil; got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
