package stream_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/kafkatest"
)

// Customers are counted by the stages that their records tell, whoever is killed on the way, and after the rates and the zone have changed: everybody once.
func TestStagesAreThoseOfTheRecords(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		const customers = 40
		w := newWorld(t, kafkatest.Virtual(t, kafkatest.Options{}), 2)
		zone := time.UTC
		w.group, w.portion = "group", 200
		w.adjust = func(cfg *stream.Config) {
			patient(cfg)
			cfg.Time.Zone = zone
		}
		w.produce(crowd(7, customers, 150, time.Now().AddDate(0, 0, -160).Truncate(24*time.Hour)))
		for range 3 {
			r := w.start()
			w.joined(r) // the embedded broker keeps a member for ever that dies while it joins
			nap(200 * time.Millisecond)
			r.kill()
			w.disk.Crash()
		}
		check := func(name string) {
			r := w.start()
			began := time.Now()
			w.virtuallyCaughtUp()
			within(t, 2*time.Minute, "clocks at now", func() bool { return w.clocksPast(began, []*running{r}) })
			got, want := map[string]int64{}, map[string]int64{}
			for p := range w.parts {
				for stage, n := range r.task(p).Stages {
					got[stage] += n
				}
			}
			env := &detectors.Env{Calendar: customer.NewCalendar(zone), Rates: detectors.MustRates("EUR", nil)}
			for i := range customers {
				rec, err := r.Customer(t.Context(), fmt.Sprintf("c-%03d", i))
				if err != nil {
					t.Fatal(err)
				}
				want[stream.StageOf(rec, env)]++
			}
			maps.DeleteFunc(got, func(_ string, n int64) bool { return n == 0 })
			if !maps.Equal(got, want) || len(want) < 3 {
				t.Errorf("%s: counted %v, the records say %v", name, got, want)
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
		}
		check("killed three times")
		auckland, err := time.LoadLocation("Pacific/Auckland")
		if err != nil {
			t.Fatal(err)
		}
		zone = auckland
		check("with days that begin elsewhere")
	})
}
