package cohorts_test

import (
	"testing"

	"ebb/detectors/cohorts"
	"ebb/stream/event"
)

// Which alert a customer is within follows from the days between its first telling and its end, and from whose customer he is.
func TestStanding(t *testing.T) {
	kim, north := cohorts.Key{By: cohorts.Owner, Value: "kim"}, cohorts.Key{By: cohorts.Region, Value: "north"}
	s := &cohorts.Standing{Day: 30, Spans: []cohorts.Span{
		{Key: kim, Opened: 1000, From: 10, Until: 20},
		{Key: north, Opened: 500, From: 15},
		{Key: cohorts.Key{}, Opened: 2000, From: 25},
	}}
	for _, c := range []struct {
		day     int32
		profile *event.Profile
		want    string
	}{
		{9, &event.Profile{Owner: "kim"}, ""},
		{10, &event.Profile{Owner: "kim"}, "owner=kim"},
		{19, &event.Profile{Owner: "kim"}, "owner=kim"},
		{20, &event.Profile{Owner: "kim"}, ""},
		{16, &event.Profile{Owner: "kim", Region: "north"}, "region=north"}, // it fired first
		{16, &event.Profile{Owner: "lee", Region: "south"}, ""},
		{16, nil, ""},
		{26, nil, "everybody"},
	} {
		got := ""
		if x := s.Within(c.profile, c.day); x != nil {
			got = x.Key.String()
			if !s.Open(x.Key, x.Opened, c.day) || s.Open(x.Key, x.Opened+1, c.day) {
				t.Errorf("day %d: what %v is within is not the one that is open", c.day, c.profile)
			}
		}
		if got != c.want {
			t.Errorf("day %d, %v: within %q, want %q", c.day, c.profile, got, c.want)
		}
	}
	if s.Open(kim, 1000, 20) {
		t.Error("an alert is open on the day that ended it")
	}
	if none := (*cohorts.Standing)(nil); none.Within(nil, 1) != nil || none.Open(kim, 1000, 15) {
		t.Error("where nothing is known something stands")
	}
}
