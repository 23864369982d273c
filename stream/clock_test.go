package stream

import (
	"encoding/hex"
	"reflect"
	"testing"

	"ebb/detectors"
	"ebb/stream/event"
)

func TestNextClock(t *testing.T) {
	const grace = 1000
	for _, c := range []struct {
		rule  string
		clock int64
		views []view
		want  int64
	}{
		{"while catching up the clock is the smallest head", 0, []view{{buffered: true, head: 50}, {buffered: true, head: 30}}, 30},
		{"it never goes back", 40, []view{{buffered: true, head: 30}}, 40},
		{"a feed of which nothing is known holds it", 10, []view{{buffered: true, head: 50}, {}}, 10},
		{"a feed at its end counts up to when the proving fetch was sent, minus grace", 0, []view{{atEnd: true, provenMs: 5000}, {buffered: true, head: 9000}}, 4000},
		{"an unreachable feed neither holds nor moves it", 0, []view{{out: true}, {buffered: true, head: 70}}, 70},
		{"with every feed unreachable it stands", 33, []view{{out: true}, {out: true}}, 33},
	} {
		if got := nextClock(c.clock, c.views, grace); got != c.want {
			t.Errorf("%s: got %d, want %d", c.rule, got, c.want)
		}
	}
}

func TestRhythmTellsASilentFeedFromAQuietOne(t *testing.T) {
	r := &rhythm{}
	start := int64(1_700_000_000_000) / hourMs * hourMs
	day := 24 * hourMs
	for h := int64(0); h < 14*24; h++ { // 60 an hour by day, nothing by night
		if h%24 < 12 {
			for i := range int64(60) {
				r.observe(start + h*hourMs + i*60_000)
			}
		}
	}
	last := r.last
	if r.silent(last+10*60_000, 15*60_000, 30) {
		t.Error("silent before the least duration")
	}
	if r.silent(last+6*hourMs, 15*60_000, 30) {
		t.Error("a night without arrivals is usual")
	}
	if !r.silent(last+12*hourMs+45*60_000, 15*60_000, 30) {
		t.Error("three quarters of an hour of a usual day without arrivals were not noticed")
	}
	if got := r.expected(start+14*day, start+15*day); got < 700 || got > 740 {
		t.Errorf("expected arrivals of a day: %v, want about 720", got)
	}
	if got := r.expected(start+14*day, start+28*day); got < 14*700 || got > 14*740 {
		t.Errorf("expected arrivals of two weeks: %v", got)
	}
}

func TestRhythmIsNotLearntInLessThanAWeek(t *testing.T) {
	r := &rhythm{}
	start := int64(1_700_000_000_000)
	for i := range int64(6 * 24 * 60) {
		r.observe(start + i*60_000)
	}
	if r.silent(start+30*24*hourMs, 0, 1) {
		t.Error("judged after six days")
	}
}

func TestRatioForgetsAfterTenMinutes(t *testing.T) {
	var r ratio
	t0 := int64(1_700_000_000_000)
	for i := range int64(100) {
		r.accept(t0 + i*1000)
	}
	for i := range int64(50) {
		r.reject(t0 + 100_000 + i*1000)
	}
	if s := r.share(); s < 0.33 || s > 0.34 {
		t.Errorf("share %v, want a third", s)
	}
	if r.firstB != t0+100_000 {
		t.Errorf("first reject at %d", r.firstB-t0)
	}
	r.accept(t0 + 15*60_000)
	if r.share() != 0 || r.firstB != 0 {
		t.Errorf("after ten good minutes share is %v", r.share())
	}
}

func TestTaskRecordRoundTrip(t *testing.T) {
	r := &taskRecord{group: "g", cluster: "c", partitions: 3, mark: mark{work: markGrow, note: "8"}, clock: 1_700_000_000_000, quiet: true, stopped: 7}
	f := &r.feeds[1]
	f.topic, f.position, f.end, f.quietEnd, f.stalled, f.blind = "pay", 10, 12, 11, 5, 6
	for i := range int64(400) {
		f.rhythm.observe(1_700_000_000_000 + i*hourMs)
	}
	b := r.append(nil)
	got, err := decodeTaskRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if got.group != "g" || got.clock != r.clock || !got.quiet || got.stopped != 7 || got.feeds[1].position != 10 || got.partitions != 3 || got.mark != r.mark || got.feeds[1].rhythm != f.rhythm {
		t.Errorf("got %+v", got)
	}
	for n := range b {
		if _, err := decodeTaskRecord(b[:n]); err == nil {
			t.Fatalf("cut to %d of %d bytes: no error", n, len(b))
		}
	}
	b[0] = taskRecordVersion + 1
	if _, err := decodeTaskRecord(b); err == nil {
		t.Error("a newer format was read")
	}
}

// Records as earlier versions wrote them stay readable. Version 1 knows of neither partitions nor marks, version 2 of no rerouting.
func TestOlderTaskRecords(t *testing.T) {
	for version, stored := range map[int]string{
		1: "010167016380a0abfef962000112000000000000000500037061791418160a0c00000e000000000000000000",
		2: "020167016300000080a0abfef962000112000000000000000500037061791418160a0c00000e000000000000000000",
	} {
		b, err := hex.DecodeString(stored)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeTaskRecord(b)
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		if got.group != "g" || got.cluster != "c" || got.clock != 1_700_000_000_000 || !got.quiet || got.quarantined != 9 || got.partitions != 0 {
			t.Errorf("version %d: got %+v", version, got)
		}
		f := got.feeds[1]
		if f.topic != "pay" || !f.begun || f.position != 10 || f.end != 12 || f.quietEnd != 11 || f.stalled != 5 || f.blind != 6 || f.gap != 7 {
			t.Errorf("version %d: feed %+v", version, f)
		}
		if err := got.runnable(8); err != nil {
			t.Errorf("a record that does not say its count is refused: %v", err)
		}
	}
}

// What is forwarded, and how far, survives its stored form.
func TestTaskRecordWithRerouting(t *testing.T) {
	r := &taskRecord{group: "g", cluster: "c"}
	f := &r.feeds[1]
	f.topic, f.inputRecord = "pay", inputRecord{begun: true, position: 10, end: 40, ahead: []span{{12, 14}, {30, 31}}}
	f.parts = []*partRecord{{partition: 5, inputRecord: inputRecord{begun: true, position: 3}}}
	r.reroute = rerouteRecord{
		topic: "reroute", position: 100, read: 140, end: 150, promised: 1_700_000_000_000, gap: 3, marked: true, own: []int64{1_699_999_999_000},
		promises: []promiseRecord{{0, 1_700_000_000_500}, {2, 5}}, lanes: []laneRecord{{laneKey{2, event.Control, noPartition}, 100}, {laneKey{3, event.Usage, 7}, 150}},
	}
	b := r.append(nil)
	got, err := decodeTaskRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.reroute, r.reroute) || !reflect.DeepEqual(got.feeds[1], *f) {
		t.Errorf("got %+v and %+v\nwant %+v and %+v", got.reroute, got.feeds[1], r.reroute, *f)
	}
	for n := range b {
		if _, err := decodeTaskRecord(b[:n]); err == nil {
			t.Fatalf("cut to %d of %d bytes: no error", n, len(b))
		}
	}
}

// What several partitions bring together is shared out; what one of them waits for, all wait for.
func TestSpread(t *testing.T) {
	const hour = int64(480_000)
	record := func(rate, at int64) *taskRecord {
		r := &taskRecord{group: "g", clock: at, tally: tally{tiers: []string{"gold"}}}
		f := &r.feeds[0]
		f.topic, f.inputRecord = "usage", inputRecord{begun: true, position: 7}
		for h := range int64(200) {
			for range rate {
				f.rhythm.observe((hour + h) * hourMs)
			}
		}
		return r
	}
	a, b := record(8, 2000), record(24, 1000)
	b.quiet, b.stopped, b.feeds[0].stalled, b.feeds[0].gap = true, 5, 50, 60
	a.feeds[0].stalls = []detectors.Interval{{From: 4, To: 6}}
	out := spread([]*taskRecord{a, nil, b}, 8)
	for p, r := range out {
		f := &r.feeds[0]
		if r.clock != 1000 || !r.quiet || r.partitions != 8 || f.stalled != 50 || len(f.stalls) != 1 || len(r.tally.tiers) != 0 {
			t.Errorf("partition %d: %+v", p, r)
		}
		if got := f.rhythm.usual((hour + 50) * hourMs); got != 4 {
			t.Errorf("partition %d usually gets %v an hour, want an eighth of 32", p, got)
		}
		if !f.rhythm.learnt() || f.rhythm.last != a.feeds[0].rhythm.last {
			t.Errorf("partition %d: the rhythm is not known", p)
		}
		if known := p == 0 || p == 2; known != f.begun || known && f.position != 7 {
			t.Errorf("partition %d is at %d", p, f.position)
		}
		if (r.stopped != 0) != (p == 2) || (f.gap != 0) != (p == 2) {
			t.Errorf("partition %d: stopped %d, gap %d", p, r.stopped, f.gap)
		}
	}
	out[0].feeds[0].stalls[0].From = 9
	if out[1].feeds[0].stalls[0].From != 4 || a.feeds[0].stalls[0].From != 4 {
		t.Error("partitions share their stalls")
	}
}

// Windows that are made longer are known from where the shorter ones began; made shorter, nothing is unknown, until they are made longer again.
func TestLongerWindows(t *testing.T) {
	const day = 24 * hourMs
	r := &taskRecord{clock: 1000 * day}
	for _, c := range []struct{ days, clock, from int64 }{{91, 1000, 0}, {91, 1010, 0}, {200, 1010, 920}, {200, 1020, 920}, {120, 1300, 920}, {150, 1310, 1191}} {
		r.clock = c.clock * day
		r.keep(int(c.days))
		if r.windowsFrom != c.from*day || r.kept != int32(c.days) {
			t.Errorf("%d days on day %d: known from day %d, want %d", c.days, c.clock, r.windowsFrom/day, c.from)
		}
		again, err := decodeTaskRecord(r.append(nil))
		if err != nil || again.kept != r.kept || again.windowsFrom != r.windowsFrom {
			t.Errorf("read back: %+v, %v", again, err)
		}
	}
}

func FuzzTaskRecord(f *testing.F) {
	f.Add((&taskRecord{group: "g"}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeTaskRecord(b)
		if err != nil {
			return
		}
		if _, err := decodeTaskRecord(r.append(nil)); err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
	})
}
