package detectors

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/quick"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"ebb/state/customer"
	"ebb/stream/event"
)

var t0 = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC).UnixMilli()

const dayMs = int64(24 * 3_600_000)

func TestDurations(t *testing.T) {
	for _, c := range []struct {
		text string
		want Duration
		back string
	}{
		{"14d", 14 * Day, "14d"},
		{"48h", 2 * Day, "2d"},
		{"90m", Hour + Hour/2, "1h30m"},
		{"1d12h", Day + 12*Hour, "1d12h"},
		{"2w", 14 * Day, "14d"},
		{"1w2d3h", 9*Day + 3*Hour, "9d3h"},
		{"0s", 0, "0s"},
		{"30s", Hour / 120, "30s"},
		{"250ms", Hour / 14400, "250ms"},
		{"-5m", -Hour / 12, "-5m0s"},
	} {
		d, err := ParseDuration(c.text)
		if err != nil || d != c.want || d.String() != c.back {
			t.Errorf("%q: %v (%s), %v", c.text, d, d, err)
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Errorf("%q does not read back: %v, %v", d.String(), again, err)
		}
	}
	for _, bad := range []string{"", "14", "d", "1.5d", "14 d", "1h1d", "99999999999d", "1d-3h", "fortnight", "4000000000w"} {
		if d, err := ParseDuration(bad); err == nil {
			t.Errorf("%q was read as %v", bad, d)
		}
	}
}

func TestTargets(t *testing.T) {
	for text, want := range map[string]Target{"off": 0, "never": 0, "0s": Within(0), "48h": Within(2 * Day)} {
		var got Target
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if ms, on := Within(0).Limit(); ms != 0 || !on {
		t.Error("0s is at once, not off")
	}
	if _, on := Target(0).Limit(); on {
		t.Error("the zero value is off")
	}
	for _, bad := range []string{"-1h", "20000d", "soon"} {
		var got Target
		if got.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

// TestConfigYAML: configuration is read over the defaults, and what is printed reads back.
func TestConfigYAML(t *testing.T) {
	c := Defaults()
	text := "spend_drop: {min_weekly: 12.50}\nsilence: {after: 21d, gap_multiple: 2.5}\ncomplaint_unresolved: {resolution: {critical: 0s, low: off}}\n"
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	want.SpendDrop.MinWeekly = 125000
	want.Silence.After, want.Silence.GapMultiple = 21*Day, 2.5
	want.ComplaintUnresolved.Resolution.Critical, want.ComplaintUnresolved.Resolution.Low = Within(0), 0
	if !reflect.DeepEqual(c, want) {
		t.Fatalf("got %+v", c)
	}
	printed, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	again := Defaults()
	err = yaml.Unmarshal(printed, &again)
	if again.ComplaintUnresolved.Targets = nil; err != nil || !reflect.DeepEqual(again, want) {
		t.Fatalf("%v\n%s\n%+v", err, printed, again)
	}
}

// TestValidate: every number that is out of its range is named, all at once.
func TestValidate(t *testing.T) {
	good := Defaults()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*Config){
		"spend_drop.recent_days":                       func(c *Config) { c.SpendDrop.RecentDays = 0 },
		"spend_drop.baseline_days":                     func(c *Config) { c.SpendDrop.BaselineDays = 84 },
		"spend_drop.min_history_days":                  func(c *Config) { c.SpendDrop.MinHistoryDays = -1 },
		"spend_drop.min_weekly":                        func(c *Config) { c.SpendDrop.MinWeekly = -1 },
		"spend_drop.fires_below_percent":               func(c *Config) { c.SpendDrop.FiresBelowPercent = 100 },
		"spend_drop.recovers_at_percent":               func(c *Config) { c.SpendDrop.RecoversAtPercent = 39 },
		"spend_drop.critical_below_percent":            func(c *Config) { c.SpendDrop.CriticalBelowPercent = 51 },
		"silence.after":                                func(c *Config) { c.Silence.After = 0 },
		"silence.gap_multiple":                         func(c *Config) { c.Silence.GapMultiple = math.NaN() },
		"silence.min_gaps":                             func(c *Config) { c.Silence.MinGaps = 0 },
		"silence.min_after":                            func(c *Config) { c.Silence.MinAfter = 1 },
		"silence.max_after":                            func(c *Config) { c.Silence.MaxAfter = Day },
		"silence.critical_after":                       func(c *Config) { c.Silence.CriticalAfter = Day },
		"complaint_unresolved.expire_after":            func(c *Config) { c.ComplaintUnresolved.ExpireAfter = 0 },
		"complaint_unresolved.resolution.low":          func(c *Config) { c.ComplaintUnresolved.Resolution.Low = Within(365 * Day) },
		"complaint_unresolved.first_response.critical": func(c *Config) { c.ComplaintUnresolved.FirstResponse.Critical = Within(400 * Day) },
		"horizon":     func(c *Config) { c.Horizon = 0 },
		"lapse_after": func(c *Config) { c.LapseAfter = 70 * Day },
	} {
		c := Defaults()
		spoil(&c)
		err := c.Validate()
		var f *FieldError
		if !errors.As(err, &f) || !strings.Contains(err.Error(), field+": ") || !strings.Contains(err.Error(), "allowed is ") {
			t.Errorf("%s: %v", field, err)
		}
		if _, err := NewSet(c); err == nil {
			t.Errorf("%s: a set was made", field)
		}
	}
	bad := Defaults()
	bad.SpendDrop.RecentDays, bad.Silence.After, bad.Horizon = 0, 0, 0
	if n := strings.Count(bad.Validate().Error(), "allowed is"); n < 3 {
		t.Errorf("%d of 3 faults: %v", n, bad.Validate())
	}
}

func TestSetHoldsWhatIsEnabled(t *testing.T) {
	c := Defaults()
	c.Silence.Enabled = false
	s, err := NewSet(c)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Names(), " "); got != "spend_drop complaint_unresolved friction payment_trouble" {
		t.Error(got)
	}
	if s.Detector(SilenceName) != nil || s.Detector(SpendDropName) == nil {
		t.Error("only enabled detectors are in the set")
	}
	if got := strings.Join(Names(), " "); got != "spend_drop usage_drop silence complaint_unresolved friction payment_trouble outflow partial_lapse tier_drop" {
		t.Error(got)
	}
}

func TestRates(t *testing.T) {
	r, err := NewRates("eur", map[string]string{"USD": "0.92", "JPY": "0.0061", "GBP": "1.1500"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cur  string
		m    event.Money
		want event.Money
		ok   bool
	}{
		{"EUR", 412000, 412000, true},
		{"", 412000, 412000, true},
		{"USD", 1, 1, true},
		{"USD", 100000, 92000, true},
		{"USD", -25, -23, true},
		{"JPY", 10000, 61, true},
		{"GBP", 10, 12, true}, // 11.5 rounds to even
		{"GBP", 30, 34, true}, // 34.5 rounds to even
		{"GBP", math.MaxInt64, math.MaxInt64, true},
		{"HUF", 10000, 0, false},
	} {
		cur, _ := event.ParseCurrency(c.cur)
		if got, ok := r.Convert(cur, c.m); got != c.want || ok != c.ok {
			t.Errorf("%v %s: %v, %v; want %v", c.m, c.cur, got, ok, c.want)
		}
	}
	for _, bad := range []map[string]string{
		{"USD": ""}, {"USD": "0"}, {"USD": "-1"}, {"USD": "1e3"}, {"USD": "0.0000000001"}, {"USD": "1234567890"}, {"DOLLAR": "1"}, {"EUR": "2"}, {"USD": "."},
	} {
		if _, err := NewRates("EUR", bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	if _, err := NewRates("euro", map[string]string{"USD": "x"}); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("both faults are wanted: %v", err)
	}
	if got := MustRates("JPY", nil).round(1234567); got != 1230000 {
		t.Errorf("yen have no decimals: %v", got)
	}
}

// TestLessIsExact compares products with math/big.
func TestLessIsExact(t *testing.T) {
	check := func(a, b int64, ka, kb uint32) bool {
		x := new(big.Int).Mul(big.NewInt(a), big.NewInt(int64(ka)))
		y := new(big.Int).Mul(big.NewInt(b), big.NewInt(int64(kb)))
		return less(event.Money(a), int64(ka), event.Money(b), int64(kb)) == (x.Cmp(y) < 0)
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 20000}); err != nil {
		t.Error(err)
	}
	for _, a := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1 << 31, 1<<31 - 1, -1 << 31} {
		for _, b := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1 << 31} {
			for _, ka := range []uint32{0, 1, 7, math.MaxUint32} {
				for _, kb := range []uint32{0, 1, 28, math.MaxUint32} {
					if !check(a, b, ka, kb) {
						t.Errorf("%d*%d < %d*%d", a, ka, b, kb)
					}
				}
			}
		}
	}
}

// TestStallsAgainstNaive: overlapping stalls of several feeds, in any order, against counting minute by minute.
func TestStallsAgainstNaive(t *testing.T) {
	const minute = 60_000
	rng := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		env := Env{}
		var still [1000]bool
		for range rng.IntN(8) {
			from := rng.IntN(800)
			to := from + rng.IntN(150)
			feed := event.Feed(rng.IntN(3))
			env.Stalls = append(env.Stalls, Interval{feed, int64(from) * minute, int64(to) * minute})
			for i := from; i < to && feed != event.Complaints; i++ {
				still[i] = true
			}
		}
		from, limit := rng.IntN(400), rng.IntN(200)+1
		at, left := from, limit
		for left > 0 {
			if at >= len(still) || !still[at] {
				left--
			}
			at++
		}
		if got := env.afterStalls(int64(from)*minute, int64(limit)*minute, event.Usage, event.Payments); got != int64(at)*minute {
			t.Fatalf("%v: %d minutes after %d is %d, want %d", env.Stalls, limit, from, got/minute, at)
		}
		sum := 0
		for i := from; i < from+limit; i++ {
			if still[i] {
				sum++
			}
		}
		if got := env.stalledWithin(int64(from)*minute, int64(from+limit)*minute, event.Usage, event.Payments); got != int64(sum)*minute {
			t.Fatalf("%v: %d minutes still, want %d", env.Stalls, got/minute, sum)
		}
	}
}

func TestUsualGap(t *testing.T) {
	p := customer.DefaultParams(customer.NewCalendar(nil))
	for _, c := range []struct {
		rule      string
		days      []int64
		gap, gaps int
	}{
		{"nobody has a gap who came once", []int64{3}, 0, 0},
		{"two days have one", []int64{3, 10}, 7, 1},
		{"the middle one of three", []int64{0, 1, 31, 41}, 10, 3},
		{"of two middle ones the longer", []int64{0, 1, 11}, 10, 2},
		{"twice a day is one day", []int64{0, 0, 2, 2, 4, 4}, 2, 2},
	} {
		var r customer.Record
		for i, d := range c.days {
			e := event.Event{Feed: event.Usage, Kind: event.KindUsage, Time: t0 + d*dayMs, IDHash: uint64(i + 1)}
			if i%2 == 1 { // purchases are days of activity too
				e.Feed, e.Kind = event.Payments, event.KindPurchase
			}
			r.Apply(&e, &p)
		}
		if gap, gaps := usualGap(&r); gap != c.gap || gaps != c.gaps {
			t.Errorf("%s: %d of %d, want %d of %d", c.rule, gap, gaps, c.gap, c.gaps)
		}
	}
}

// FuzzObject: whatever is written is valid JSON, and valid text comes back as it was.
func FuzzObject(f *testing.F) {
	f.Add("plain", int64(0))
	f.Add("quo\"te\\ \n\t\x00\x1f", int64(-5))
	f.Add("é 漢 \xff\xc3", int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, s string, n int64) {
		o := Begin(nil)
		o.Text("a", s)
		o.TextIf("b", s)
		o.Int("n", n)
		o.Money("m", event.Money(n))
		o.Object("in", func(o *Object) {
			o.Moneys("list", []event.Money{1, event.Money(n)})
			o.Bool("t", true)
		})
		b := o.End()
		var got struct{ A string }
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		if utf8.ValidString(s) && got.A != s || !utf8.Valid(b) {
			t.Fatalf("%q came back as %q", s, got.A)
		}
	})
}

func TestWords(t *testing.T) {
	for ms, want := range map[int64]string{
		14 * dayMs: "14 days", dayMs: "1 day", 2*dayMs + 5*3_600_000: "2 days 5 hours", 90 * 60_000: "1 hour 30 minutes",
		45 * 60_000: "45 minutes", 1000: "1 second", 0: "0 seconds",
	} {
		if got := string(appendSpan(nil, ms)); got != want {
			t.Errorf("%d ms: %q, want %q", ms, got, want)
		}
	}
	for days, want := range map[int64]string{1: "day for 1 day", 7: "week for 1 week", 10: "10 days for 10 days", 14: "2 weeks for 2 weeks"} {
		if got := string(appendCount(append(appendDays(nil, days), " for "...), days)); got != want {
			t.Errorf("%d days: %q, want %q", days, got, want)
		}
	}
}

// regular is a customer of whom nothing is to be said: 60 days of use and some purchases.
func regular(p *customer.Params) (*customer.Record, int64) {
	r := &customer.Record{ID: "c-1"}
	at := t0
	for i := range int64(60) {
		at = t0 + i*dayMs
		r.Apply(&event.Event{Feed: event.Usage, Kind: event.KindUsage, Time: at, IDHash: uint64(2*i + 1), Quantity: 125000}, p)
		if i%4 == 0 {
			r.Apply(&event.Event{
				Feed: event.Payments, Kind: event.KindPurchase, Time: at, IDHash: uint64(2*i + 2), Amount: 499000, Currency: event.Currency{'E', 'U', 'R'},
			}, p)
		}
	}
	return r, at
}

func regularEnv(p *customer.Params, at int64) *Env {
	env := &Env{Now: at, Calendar: p.Calendar, Rates: MustRates("EUR", nil)}
	for i := range env.KnownUntil {
		env.KnownUntil[i] = at
	}
	return env
}

func TestCommonCaseDoesNotAllocate(t *testing.T) {
	set, err := NewSet(Defaults())
	if err != nil {
		t.Fatal(err)
	}
	p := customer.DefaultParams(customer.NewCalendar(nil))
	r, at := regular(&p)
	env := regularEnv(&p, at)
	e := event.Event{Feed: event.Usage, Kind: event.KindUsage, Time: at}
	out := make([]Signal, 0, 4)
	var next int64
	if n := testing.AllocsPerRun(200, func() { out, next = set.Evaluate(r, env, &e, out[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if len(out) != 0 || next != at+14*dayMs {
		t.Errorf("signals %v, next %v", out, next-at)
	}
}

// TestEvaluateChangesNothing: detectors are pure.
func TestEvaluateChangesNothing(t *testing.T) {
	set, err := NewSet(Defaults())
	if err != nil {
		t.Fatal(err)
	}
	p := customer.DefaultParams(customer.NewCalendar(nil))
	r, at := regular(&p)
	r.Apply(&event.Event{Feed: event.Complaints, Kind: event.KindOpened, Time: at, IDHash: 999, ComplaintID: []byte("T-1"), Priority: event.PriorityHigh}, &p)
	before := customer.AppendRecord(nil, r)
	for _, now := range []int64{at, at + dayMs, at + 30*dayMs, at + 300*dayMs} {
		env := regularEnv(&p, now)
		a, nextA := set.Evaluate(r, env, nil, nil)
		b, nextB := set.Evaluate(r, env, nil, nil)
		if nextA != nextB || len(a) != len(b) {
			t.Error("asked twice, answered differently")
		}
		for i := range a {
			o := Begin(nil)
			set.Detector(a[i].Detector).Explain(r, env, &a[i], &o)
			if !json.Valid(o.End()) {
				t.Errorf("evidence of %s: %s", a[i].Detector, o.b)
			}
		}
		if !bytes.Equal(before, customer.AppendRecord(nil, r)) {
			t.Fatal("the record has changed")
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	p := customer.DefaultParams(customer.NewCalendar(nil))
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		trigger event.Kind
		loc     *time.Location
	}{
		{"use", event.KindUsage, nil},
		{"use, zone", event.KindUsage, berlin},
		{"timer", event.KindNone, nil},
		{"failed charge", event.KindChargeFailed, nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			set, err := NewSet(Defaults())
			if err != nil {
				b.Fatal(err)
			}
			p.Calendar = customer.NewCalendar(c.loc)
			r, at := regular(&p)
			env := regularEnv(&p, at)
			trigger := &event.Event{Feed: c.trigger.Feed(), Kind: c.trigger, Time: at}
			if c.trigger == event.KindNone {
				trigger = nil
			}
			out := make([]Signal, 0, 4)
			b.ReportAllocs()
			for b.Loop() {
				out, _ = set.Evaluate(r, env, trigger, out[:0])
			}
		})
	}
}

// TestAppendTime compares dates and times with package time.
func TestAppendTime(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 20000 {
		ms := rng.Int64N(253_402_300_800_000+62_135_596_800_000) - 62_135_596_800_000 // years 1 to 9999
		if got, want := string(AppendTime(nil, ms)), time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Fatalf("%d: %s, want %s", ms, got, want)
		}
	}
}

// TestJudgedDay: the day that spend is judged for is as old as the payments that are missing.
func TestJudgedDay(t *testing.T) {
	p := customer.DefaultParams(customer.NewCalendar(nil))
	r, at := regular(&p) // noon
	d := newPlainSpendDrop(DefaultSpendDrop(), 60*Day, 180*Day)
	for _, c := range []struct {
		rule  string
		known int64
		days  int32
	}{
		{"all is known", at, 0},
		{"more than all", at + dayMs, 0},
		{"the grace of the clock", at - 59_999, 0},
		{"the morning is missing", at - dayMs/2, 0},
		{"a millisecond of yesterday is missing", at - dayMs/2 - 1, 1},
		{"the feed has stood still for a week", at - 7*dayMs, 7},
	} {
		env := regularEnv(&p, at)
		env.KnownUntil[event.Payments] = c.known
		if got := p.Calendar.Day(at) - d.judgedDay(r, env); got != c.days {
			t.Errorf("%s: %d days back, want %d", c.rule, got, c.days)
		}
	}
	env := regularEnv(&p, at)
	env.KnownUntil[event.Payments] = math.MinInt64
	if day := d.judgedDay(r, env); day > 0 {
		t.Errorf("nothing is known: day %d", day)
	}
	out, next := newSilence(DefaultSilence(), 60*Day, 180*Day).Evaluate(r, regularEnvUnknown(&p, at+100*dayMs), nil, nil)
	if len(out) != 1 || out[0].State != Hold || next <= at+100*dayMs || next > at+101*dayMs {
		t.Errorf("silence of which nothing is known: %+v, again after %d ms", out, next-at-100*dayMs)
	}
}

func regularEnvUnknown(p *customer.Params, at int64) *Env {
	env := regularEnv(p, at)
	for i := range env.KnownUntil {
		env.KnownUntil[i] = math.MinInt64
	}
	return env
}

// When it is found out that a matter is over for the customer, he is looked at next for something else: a deadline that has come is taken for
// one that cannot be decided yet, and holds up the others.
func TestNextLookAfterAMatterIsOver(t *testing.T) {
	cfg := Defaults()
	cfg.Silence.Enabled, cfg.SpendDrop.Enabled = false, false
	cfg.LapseAfter, cfg.Horizon, cfg.KeptDays = 180*Day, 60*Day, 91
	set, err := NewSet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := customer.DefaultParams(customer.NewCalendar(nil))
	r := &customer.Record{ID: "c"}
	for i, kind := range []event.Kind{event.KindOpened, event.KindResolved} {
		r.Apply(&event.Event{Feed: event.Complaints, Customer: []byte("c"), ComplaintID: []byte("T"), Kind: kind, Time: t0 + int64(i)*1000, IDHash: uint64(i + 1)}, &p)
	}
	over := t0 + 1000 + customer.SatisfiedAfter
	env := &Env{Now: over - 1, Calendar: p.Calendar, Rates: MustRates("EUR", nil)}
	if _, next := set.Evaluate(r, env, nil, nil); next != over {
		t.Errorf("before it is over the next look is at %d, want %d", next, over)
	}
	env.Now = over
	if _, next := set.Evaluate(r, env, nil, nil); next != 0 {
		t.Errorf("when it is over the next look is at %d, want none", next)
	}
	if found := set.Settle(r, env, nil); len(found) != 1 || found[0].Cycle == nil {
		t.Errorf("found are %+v", found)
	}
}
