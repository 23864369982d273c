package stream

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"testing"

	"ebb/detectors/cohorts"
	"ebb/state/customer"
	"ebb/stream/event"
)

// The census is the count of who is there at the end of a day, however records were taken out and put back, and however often it was stored on the way.
func TestCensus(t *testing.T) {
	const start = 1_700_000_000_000 / dayMs * dayMs
	by := []cohorts.Dimension{cohorts.Everybody, cohorts.Segment, cohorts.Region, cohorts.Product, cohorts.Owner}
	rng := rand.New(rand.NewPCG(1, 1))
	p := customer.DefaultParams(customer.NewCalendar(nil))
	c := &census{}
	if c.begin(by, true) {
		t.Fatal("a fresh task has nobody to count")
	}
	records := map[string]*customer.Record{}
	told := map[cohorts.Key]int64{}
	for day := range int64(60) {
		for range 30 {
			id := fmt.Sprintf("c-%02d", rng.IntN(40))
			at := start + day*dayMs + rng.Int64N(dayMs)
			r := records[id]
			if r == nil {
				r = &customer.Record{ID: id}
				records[id] = r
			}
			c.today = dayOf(at)
			c.out(r)
			switch rng.IntN(6) {
			case 0:
				r.Apply(&event.Event{Feed: event.Customers, Kind: event.KindProfile, Time: at, IDHash: rng.Uint64(), Profile: &event.Profile{
					Owner: []string{"", "kim", "lee"}[rng.IntN(3)], Region: []string{"", "north"}[rng.IntN(2)], Status: []string{"", "", "", "closed"}[rng.IntN(4)],
				}}, &p)
			case 1:
				r.Lapsed = !r.Lapsed
			case 2:
				if rng.IntN(5) == 0 { // forgotten
					delete(records, id)
					continue
				}
			default:
				r.Apply(&event.Event{Feed: event.Usage, Kind: event.KindUsage, Time: at, IDHash: rng.Uint64()}, &p)
			}
			c.in(r)
		}
		if day%3 == 0 {
			again, d := &census{}, &decoder{b: c.append(nil)}
			again.decode(d)
			if d.err != nil || len(d.b) != 0 {
				t.Fatal(d.err, len(d.b))
			}
			again.today = c.today
			if c = again; c.begin(by, false) {
				t.Fatal("what was counted is to be counted anew")
			}
		}
		if day%4 != 1 { // some days are told together
			continue
		}
		for _, s := range c.close(dayOf(start + day*dayMs)) {
			told[s.key] = s.n
		}
		want := map[cohorts.Key]int64{}
		for _, r := range records {
			if !counts(r) {
				continue
			}
			want[cohorts.Key{}]++
			for _, k := range c.keys(r) {
				want[k]++
			}
		}
		maps.DeleteFunc(told, func(_ cohorts.Key, n int64) bool { return n == 0 })
		whole := map[cohorts.Key]int64{}
		for _, s := range c.whole() {
			whole[s.key] = s.n
		}
		if !maps.Equal(told, want) || !maps.Equal(whole, want) {
			t.Fatalf("day %d: told %v, whole %v, want %v", day, told, whole, want)
		}
	}
	if told[cohorts.Key{}] < 10 {
		t.Errorf("hardly anybody was there: %v", told)
	}
	if !c.begin(by[:2], false) || len(c.sizes) != 0 {
		t.Error("other dimensions were not counted anew")
	}
	if c.begin(nil, false) || c.by != nil {
		t.Error("none is counted where nothing is watched")
	}
}

// What is told of cohorts is read as it was told.
func TestCohortFacts(t *testing.T) {
	kim := cohorts.Key{By: cohorts.Owner, Value: "kim"}
	f := &cohortsTold{
		group: "g", day: 20_000, quiet: true, whole: true, sizes: []sizeTold{{19_999, cohorts.Key{}, 7}, {20_000, kim, 0}},
		leavers:   []cohorts.Leaver{{Day: 20_000, Customer: "c-1", Detector: "silence", AtRisk: 12, Of: []cohorts.Key{kim}}, {Day: 19_998, Customer: "c-2", Detector: "spend_drop"}},
		newcomers: []newcomerTold{{20_000, cohorts.Newcomer{Week: 2_800, Source: "ads", Active: true}}, {20_000, cohorts.Newcomer{Week: 2_801}}},
		totals:    []totalTold{{19_999, cohorts.Totals{5, 6}}, {20_000, cohorts.Totals{-7}}},
	}
	b := f.append(nil)
	got, err := decodeCohorts(b)
	if err != nil || !reflect.DeepEqual(got, f) {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range b {
		if _, err := decodeCohorts(b[:n]); err == nil {
			t.Errorf("%d of %d bytes were taken for the whole", n, len(b))
		}
	}
	if _, err := decodeCohorts([]byte{factVersion + 1}); err == nil {
		t.Error("a newer fact was read")
	}
}

// A cohort that is counted since a day that is not told yet is counted out as well, though there is no room for another by then.
func TestCensusAtItsCap(t *testing.T) {
	c := &census{}
	c.begin([]cohorts.Dimension{cohorts.Owner}, true)
	for i := range maxCensus - 1 {
		c.sizes[cohorts.Key{By: cohorts.Owner, Value: fmt.Sprint(i)}] = 1
	}
	kim, lee := cohorts.Key{By: cohorts.Owner, Value: "kim"}, cohorts.Key{By: cohorts.Owner, Value: "lee"}
	c.today = 20_000
	c.bump(kim, 1)
	c.today++
	c.bump(lee, 1)
	c.bump(kim, -1)
	c.close(c.today)
	if n, lees := c.sizes[kim], c.sizes[lee]; n != 0 || lees > 1 {
		t.Errorf("kim has %d customers, and lee %d", n, lees)
	}
}
