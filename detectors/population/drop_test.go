package population

import (
	"math"
	"math/rand/v2"
	"testing"

	"ebb/state/customer"
	"ebb/stream/event"
)

// busy is a crowd that pays every other day or so, more in one half of the year than in the other, and not at all in one week. It calls at for each epoch.
func busy(customers, epochs int, at func(epoch int32, samples []Sample)) {
	const start = 10003
	rng := rand.New(rand.NewPCG(3, 3))
	p := customer.DefaultParams(customer.NewCalendar(nil))
	p.Horizon, p.MaxSeen, p.Drop = 365, 0, &customer.DropParams{}
	all := make([]customer.Record, customers)
	for i := range all {
		all[i].ID = string(rune('a'+i%26)) + string(rune('a'+i/26))
	}
	for e := range epochs {
		for d := range int32(EpochDays) {
			day := start + int32(e*EpochDays) + d
			for i := range all {
				if rng.Float64() < 0.4*activity(day) {
					all[i].Apply(&event.Event{
						Feed: event.Payments, Kind: event.KindPurchase, Time: int64(day)*dayMs + 1, Amount: event.Money(1+rng.IntN(90)) * event.MoneyUnit,
					}, &p)
				}
			}
		}
		epoch := start + int32((e+1)*EpochDays)
		var samples []Sample
		for i := range all {
			if s, ok := SampleOf(&all[i], epoch); ok {
				samples = append(samples, s)
			}
		}
		at(epoch, samples)
	}
}

// holiday is the week in which nobody pays.
const holiday = 10003 + 90*EpochDays

func activity(day int32) float64 {
	if day >= holiday && day < holiday+EpochDays {
		return 0
	}
	return 1 + 0.3*math.Sin(2*math.Pi*float64(day)/365.25)
}

// The index follows the season and a holiday; the population's own threshold comes after half a year, and is higher for fewer false alarms.
func TestWhatDropTestsLearn(t *testing.T) {
	f := NewFold(Config{Horizon: 365})
	worst, known := 0.0, -1
	busy(60, 110, func(epoch int32, samples []Sample) {
		for _, s := range samples {
			f.Observe(s)
		}
		m := f.Close(epoch)
		if m == nil {
			return
		}
		if _, ok := m.DropExcess(event.Payments, 1); ok && known < 0 {
			known = int(epoch-10003) / EpochDays
		}
		if epoch < 10003+40*EpochDays || m.DropEpoch() != epoch {
			return
		}
		// The slow rate is not the mean over all years: what counts is how the weeks compare with one another.
		week, month := m.Elapsed(epoch-7, epoch), m.Elapsed(epoch-56, epoch-7)/7
		truth := 0.0
		for d := epoch - 56; d < epoch-7; d++ {
			truth += activity(d) / 7
		}
		is := 0.0
		for d := epoch - 7; d < epoch; d++ {
			is += activity(d)
		}
		if is == 0 {
			if week > 7*0.35 {
				t.Errorf("the week of the holiday counts as %.1f days", week)
			}
			return
		}
		if epoch < holiday || epoch > holiday+10*EpochDays {
			worst = max(worst, math.Abs(math.Log(week/month*truth/is)))
		}
	})
	t.Logf("the index of a week is wrong by up to %.0f %%; a threshold of its own after %d weeks", 100*worst, known)
	if worst > 0.3 {
		t.Errorf("the index of a week is wrong by %.0f %%", 100*worst)
	}
	if known < 24 || known > 40 {
		t.Errorf("the population sets a threshold after %d weeks", known)
	}
	m := f.Model()
	often, _ := m.DropExcess(event.Payments, 5)
	seldom, ok := m.DropExcess(event.Payments, 0.5)
	if !ok || seldom <= often {
		t.Errorf("5 a year are above %v, one in two years above %v", often, seldom)
	}
	rare, _ := m.DropExcess(event.Payments, 1e-4)
	if rarer, ok := m.DropExcess(event.Payments, 1e-5); !ok || math.Abs(rarer-rare-math.Ln10) > 1e-5 {
		t.Errorf("a factor ten beyond what is known: from %v to %v", rare, rarer)
	}
	if _, ok := m.DropExcess(event.Usage, 5); ok {
		t.Error("nobody uses anything")
	}
	again, err := DecodeModel(AppendModel(nil, m))
	if err != nil || again.Version() != m.Version() || again.Elapsed(holiday-100, holiday+100) != m.Elapsed(holiday-100, holiday+100) {
		t.Errorf("the stored model is another: %v", err)
	}
	stored, err := DecodeFold(Config{Horizon: 365}, f.Chunks())
	if err != nil {
		t.Fatal(err)
	}
	next := f.epoch + EpochDays
	if a, b := f.Close(next), stored.Close(next); a.Version() != b.Version() {
		t.Error("a stored fold goes on to another model")
	}
}

// Days of the population add up, whatever is known of them.
func TestElapsedAddsUp(t *testing.T) {
	m := &Model{drop: dropModel{epoch: 700, now: 0.5, index: []float32{2, 1, 0.5}}}
	if got := m.Elapsed(690, 710); got != 3*1+7*0.5+10*0.5 {
		t.Errorf("%v", got)
	}
	if got := m.Elapsed(600, 679); got != 79 {
		t.Errorf("%v", got)
	}
	for a := int32(670); a < 720; a++ {
		for b := a; b < 720; b += 3 {
			if whole, parts := m.Elapsed(660, 730), m.Elapsed(660, a)+m.Elapsed(a, b)+m.Elapsed(b, 730); math.Abs(whole-parts) > 1e-9 {
				t.Fatalf("%d, %d: %v and %v", a, b, whole, parts)
			}
		}
	}
	if got := (&Model{}).Elapsed(5, 9); got != 4 {
		t.Errorf("of a model that knows nothing: %v", got)
	}
}
