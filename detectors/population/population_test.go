package population

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"ebb/state/customer"
	"ebb/stream/event"
)

// crowd is a population of customers with rates and regularities of their own, of whom a part leaves after each purchase. It returns, by epoch, the samples.
func crowd(seed uint64, customers, epochs int, horizon int) [][]Sample {
	const start = 10003 // divisible by EpochDays
	rng := rand.New(rand.NewPCG(seed, 1))
	p := customer.DefaultParams(customer.NewCalendar(nil))
	p.Horizon, p.MaxSeen = horizon, 0
	type one struct {
		r       *customer.Record
		next    float64
		mean    float64
		regular bool
		amount  int
	}
	all := make([]one, customers)
	for i := range all {
		mean := 3 + rng.ExpFloat64()*15
		all[i] = one{r: &customer.Record{ID: string(rune('a' + i%26))}, next: start + rng.Float64()*60, mean: mean, regular: i%2 == 0, amount: 1 + rng.IntN(90)}
		all[i].r.ID += string(rune('0'+i/26%10)) + string(rune('0'+i/260))
	}
	samples := make([][]Sample, 0, epochs)
	for e := range epochs {
		epoch := int32(start + (e+1)*EpochDays)
		for i := range all {
			c := &all[i]
			for c.next < float64(epoch) {
				c.r.Apply(&event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: int64(c.next * dayMs), Amount: event.Money(c.amount) * event.MoneyUnit}, &p)
				gap := rng.ExpFloat64() * c.mean
				if c.regular {
					gap = c.mean * (.8 + .4*rng.Float64())
				}
				if rng.IntN(25) == 0 {
					gap = 1e6
				}
				c.next += gap
			}
		}
		var at []Sample
		for i := range all {
			if s, ok := SampleOf(all[i].r, epoch); ok {
				at = append(at, s)
			}
		}
		samples = append(samples, at)
	}
	return samples
}

func TestEpochs(t *testing.T) {
	for day, want := range map[int32]int32{14: 14, 15: 14, 20: 14, 21: 21, 0: 0, -1: -7} {
		if got := Epoch(day); got != want {
			t.Errorf("epoch of day %d: %d, want %d", day, got, want)
		}
	}
}

func TestSamplesAreStored(t *testing.T) {
	for _, s := range crowd(1, 50, 20, 60)[19] {
		s.Tier, s.Segment = "gold", "north"
		b := AppendSample(nil, &s)
		got, err := DecodeSample(b)
		if err != nil || got != s {
			t.Fatalf("%+v, %v\nwant %+v", got, err, s)
		}
		for n := range b {
			if _, err := DecodeSample(b[:n]); err == nil {
				t.Fatalf("cut to %d of %d bytes: no error", n, len(b))
			}
		}
		b[0]++
		if _, err := DecodeSample(b); !errors.Is(err, ErrNewerVersion) {
			t.Errorf("%v", err)
		}
	}
}

// The samples may come in any order, and more than once.
func TestOrderOfSamplesDoesNotMatter(t *testing.T) {
	samples := crowd(2, 250, 14, 28)
	a, b := NewFold(Config{Horizon: 28}), NewFold(Config{Horizon: 28})
	rng := rand.New(rand.NewPCG(3, 3))
	for e, at := range samples {
		for _, s := range at {
			a.Observe(s)
		}
		mixed := slices.Concat(at, at[:10])
		if e+1 < len(samples) {
			mixed = append(mixed, samples[e+1][:20]...) // another partition is ahead
		}
		rng.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		for _, s := range mixed {
			b.Observe(s)
		}
		for i := range uint64(10) {
			o := Outcome{Key: uint64(at[0].Epoch)*10 + i, Group: int64(i % 3), Day: at[0].Epoch + int32(i) - 5, Missed: i%2 == 0}
			a.ObserveOutcome(o)
			b.ObserveOutcome(o)
		}
		x, y := a.Close(at[0].Epoch), b.Close(at[0].Epoch)
		if (x == nil) != (y == nil) || x != nil && x.Version() != y.Version() {
			t.Fatalf("epoch %d: %v and %v", e, x, y)
		}
	}
	m := a.Model()
	if m == nil || m.Evidence() == 0 || !m.Purchases() || m.MedianGap() == 0 {
		t.Fatalf("%+v", m)
	}
	if got := m.FittingHorizon(); got != min(3*m.MedianGap(), 366) {
		t.Errorf("a horizon of %d days fits gaps of %d", got, m.MedianGap())
	}
}

func TestModelsAreStored(t *testing.T) {
	f := NewFold(Config{Horizon: 28})
	samples := crowd(4, 200, 14, 28)
	for _, at := range samples {
		for _, s := range at {
			f.Observe(s)
		}
		for i := range uint64(10) {
			f.ObserveOutcome(Outcome{Key: uint64(at[0].Epoch)*10 + i, Group: int64(i % 3), Day: at[0].Epoch - 2, Missed: i%2 == 0})
		}
		f.Close(at[0].Epoch)
	}
	m := f.Model()
	if rate, ok := m.Misses().MissRate(1); !ok || rate < 0.2 || rate > 0.8 {
		t.Errorf("the model says that a group misses %v", rate)
	}
	b := AppendModel(nil, m)
	got, err := DecodeModel(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(AppendModel(nil, got), b) || got.Version() != m.Version() || len(b) > 20_000 {
		t.Errorf("version %s of %d bytes, want %s", got.Version(), len(b), m.Version())
	}
	for _, s := range samples[13] {
		if x, y := m.score(&s.Rhythms.Purchases, Labels{}, s.Epoch, 28), got.score(&s.Rhythms.Purchases, Labels{}, s.Epoch, 28); x != y {
			t.Fatalf("%+v, want %+v", y, x)
		}
	}
	for n := 0; n < len(b); n += 7 {
		if _, err := DecodeModel(b[:n]); err == nil {
			t.Fatalf("cut to %d of %d bytes: no error", n, len(b))
		}
	}
	b[0]++
	if _, err := DecodeModel(b); !errors.Is(err, ErrNewerVersion) {
		t.Errorf("%v", err)
	}
}

// learnt is the model that follows from the samples of some epochs.
func learnt(horizon int, epochs [][]Sample) *Model {
	f := NewFold(Config{Horizon: horizon})
	for _, at := range epochs {
		for _, s := range at {
			f.Observe(s)
		}
		f.Close(at[0].Epoch)
	}
	return f.Model()
}

// Who is silent for longer is less likely to come back, a regular customer sooner than an irregular one.
func TestScoresFollowTheRhythm(t *testing.T) {
	m := learnt(60, crowd(5, 400, 12, 60))
	rhythm := func(gaps ...int) *customer.Rhythm {
		p := customer.DefaultParams(customer.NewCalendar(nil))
		p.Horizon = 60
		r := &customer.Record{}
		day := 12000
		for i := range 20 {
			r.Apply(&event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: int64(day) * dayMs, Amount: event.MoneyUnit}, &p)
			day += gaps[i%len(gaps)]
		}
		return m.Rhythm(r)
	}
	regular, irregular := rhythm(10), rhythm(1, 30, 2, 7)
	prior := func(h *customer.Rhythm, silent int) float64 {
		return m.score(h, Labels{}, int32(h.Last)+int32(silent), 60).Prior
	}
	for silent := 10; silent < 60; silent += 10 {
		if a, b := prior(regular, silent), prior(regular, silent+10); a >= b {
			t.Errorf("%d days of silence: %.3f, then %.3f", silent, a, b)
		}
	}
	if a, b := prior(regular, 30), prior(irregular, 30); a <= b {
		t.Errorf("regular %.3f, irregular %.3f", a, b)
	}
	if s := m.score(regular, Labels{}, int32(regular.Last), 60); s.Days < 3 || s.Days > 7 {
		t.Errorf("%.1f days of purchase within 60 days, at one in ten days and one leaving of 25", s.Days)
	}
}

// Who comes rarely is told a longer horizon, and takes his place among the others by the same as theirs.
func TestEverybodyIsRankedByTheSameHorizon(t *testing.T) {
	m := learnt(28, crowd(4, 200, 14, 28))
	for gap, longer := range map[int32]bool{7: false, 24: true} {
		r := &customer.Record{ID: "x"}
		p := customer.DefaultParams(customer.NewCalendar(nil))
		p.Horizon, p.MaxSeen = 28, 0
		last := int32(19_700)
		for day := last - 6*gap; day <= last; day += gap {
			r.Apply(&event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: int64(day) * dayMs, Amount: event.MoneyUnit}, &p)
		}
		silent := int(gap) + 2
		v := m.Judge(m.Rhythm(r), Labels{}, last+int32(silent), silent)
		if !v.Overdue || (v.Horizon > m.Horizon()) != longer {
			t.Fatalf("every %d days: %+v", gap, v)
		}
		if same := math.Abs(probability(v.Rank)-v.P) < 1e-12; same == longer || probability(v.Rank) < v.P {
			t.Errorf("every %d days: ranked by %.4f, told %.4f within %d days", gap, probability(v.Rank), v.P, v.Horizon)
		}
	}
}

func BenchmarkScore(b *testing.B) {
	samples := crowd(5, 600, 30, 60)
	m, last := learnt(60, samples), samples[len(samples)-1]
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s := &last[i%len(last)]
		m.score(&s.Rhythms.Purchases, Labels{}, s.Epoch, 60)
	}
}

// A fold that was stored in the midst of it goes on to the same models.
func TestFoldsAreStored(t *testing.T) {
	cfg := Config{Horizon: 28, Sample: 150}
	samples := crowd(6, 300, 16, 28)
	a := NewFold(cfg)
	for e, at := range samples {
		for _, s := range at[:len(at)/2] {
			a.Observe(s)
		}
		chunks := a.Chunks()
		slices.Reverse(chunks)
		b, err := DecodeFold(cfg, chunks)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range at[len(at)/2:] {
			a.Observe(s)
			b.Observe(s)
		}
		x, y := a.Close(at[0].Epoch), b.Close(at[0].Epoch)
		if (x == nil) != (y == nil) || x != nil && x.Version() != y.Version() {
			t.Fatalf("epoch %d: another model", e)
		}
		if !slices.EqualFunc(a.Chunks(), b.Chunks(), bytes.Equal) {
			t.Fatalf("epoch %d: another state", e)
		}
	}
	if a.Model().Evidence() == 0 || a.Model().Customers() > 250 {
		t.Errorf("%d customers, evidence %v", a.Model().Customers(), a.Model().Evidence())
	}
	chunks := a.Chunks()
	for i, bad := range [][][]byte{nil, {chunks[0][:len(chunks[0])-1]}, {chunks[0], chunks[0]}, {{}}} {
		if _, err := DecodeFold(cfg, bad); !errors.Is(err, ErrDamaged) {
			t.Errorf("case %d: %v", i, err)
		}
	}
	if f, err := DecodeFold(Config{Horizon: 30}, chunks); err != nil || f.Model() != nil {
		t.Errorf("another horizon: %v", err)
	}
}

// TestASmallBudgetTellsTheLikeliest: a budget of less than one customer, or than those who are lost beyond doubt, still tells the likeliest, and the model can be read.
func TestASmallBudgetTellsTheLikeliest(t *testing.T) {
	f := NewFold(Config{Horizon: 28, Floor: 0.3, Budget: 5})
	passed := 0
	for _, at := range crowd(5, 40, 20, 28) {
		for _, s := range at {
			f.Observe(s)
		}
		m := f.Close(at[0].Epoch)
		if m == nil {
			continue
		}
		if _, err := DecodeModel(AppendModel(nil, m)); err != nil {
			t.Fatalf("epoch %d: %v; the bar is %v", m.Epoch(), err, m.Bar())
		}
		if _, err := DecodeFold(f.cfg, f.Chunks()); err != nil {
			t.Fatalf("epoch %d: %v", m.Epoch(), err)
		}
		for _, step := range f.steps[len(f.steps)-1] {
			if float64(step.to) >= m.Bar() {
				passed++
			}
		}
	}
	if passed == 0 {
		t.Error("nobody was told of in 20 weeks")
	}

	f.steps = [][]step{{{noBar, 13.5}, {2, 13.5}, {noBar, 13.5}, {noBar, 3}}}
	if bar := f.bar(nil); !(bar < 13.5 && bar > 13) {
		t.Errorf("of three who are lost beyond doubt none is told: the bar is %v", bar)
	}
}

// TestRegressionOfWhatIsForetoldAlready: where the label-free models tell almost all outcomes, and a few of them wrongly and surely, the regression fits better than
// nothing does, and stays small.
func TestRegressionOfWhatIsForetoldAlready(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	all := make([]example, 5000)
	for i := range all {
		e := &all[i]
		e.weight = 0.2
		e.prior = -11 + rng.NormFloat64()
		if i%20 == 0 {
			e.prior, e.stopped = 9+rng.NormFloat64(), 1
		}
		for j := range e.linear {
			e.linear[j] = e.prior*float64(j%3) + rng.NormFloat64()
		}
		if i%97 == 0 {
			e.stopped = 1 - e.stopped
		}
	}
	m := fitRidge(all)
	if now, before := m.fits(all), (&ridge{mean: m.mean, scale: m.scale}).fits(all); !(now > before) {
		t.Errorf("it fits worse than nothing: %v, %v", now, before)
	}
	for j, w := range m.weights {
		if !(w > -20 && w < 20) {
			t.Errorf("weight %d is %v", j, w)
		}
	}
}

// TestRegressionOfWhatIsTheSameForAll: where all pay the same price the regression knows nothing of another one, and who pays that is told of as everybody is.
func TestRegressionOfWhatIsTheSameForAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	const price = 11 // the place of a feature
	usual := math.Log(9.99)
	all := make([]example, 3000)
	for i := range all {
		e := &all[i]
		e.weight, e.prior = 0.2, -1+rng.NormFloat64()
		for j := range e.linear {
			e.linear[j] = rng.NormFloat64()
		}
		e.linear[price] = usual
		if rng.Float64() < probability(e.prior+1) {
			e.stopped = 1
		}
	}
	m := fitRidge(all)
	f := all[0].linear
	told := m.correct(&f)
	f[price] = math.Log(19.99)
	if other := m.correct(&f); !(math.Abs(other-told) < 1) {
		t.Errorf("corrected by %v for who pays what all pay, by %v for who pays another price", told, other)
	}
}
