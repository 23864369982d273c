package stream

import (
	"encoding/hex"
	"log/slog"
	"maps"
	"testing"
	"time"

	"ebb/detectors"
	"ebb/state"
	"ebb/state/customer"
	"ebb/stream/event"
)

// Money at risk counts a customer once, with the greatest of his published alerts, and what goes out takes with it what it
// brought in.
func TestTallyCountsMoneyAtRiskOnce(t *testing.T) {
	r := &customer.Record{Lifecycles: []customer.Lifecycle{
		{Detector: "silence", AtRisk: 300},
		{Detector: "spend_drop", AtRisk: 500},
		{Detector: "complaint_unresolved", Subject: "T-1", AtRisk: 900, Unpublished: true},
	}}
	var sum tally
	sum.in(r)
	var atRisk event.Money
	alerts := int64(0)
	for _, o := range sum.sums() {
		atRisk += o.AtRisk
		alerts += o.Count
	}
	if atRisk != 500 || alerts != 2 {
		t.Errorf("%d alerts with %d at risk, want 2 with 500", alerts, atRisk)
	}
	sum.out(r)
	if left := sum.sums(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// Customers are counted by the stage that follows from their records, the rates and the zone. What was counted by others, or by a version that knew fewer stages, is counted anew when the
// task opens, and what goes out then takes with it what it brought in.
func TestTallyCountsStages(t *testing.T) {
	const start = 20_000 * dayMs
	p := customer.DefaultParams(customer.NewCalendar(nil))
	var table *state.Table
	again := func() { // a table of what is stored of the customers
		before := table
		table = state.NewTable(state.NewMemory(state.NewMemDisk()), state.TableOptions{CacheBytes: 1 << 20, PendingBytes: 1 << 20, Tick: time.Now})
		if before == nil {
			return
		}
		defer before.Close()
		err := before.Scan(func(e *state.Entry) error {
			to, err := table.Get([]byte(e.Record.ID))
			if err != nil {
				return err
			}
			if err := customer.DecodeRecord(customer.AppendRecord(nil, &e.Record), &to.Record); err != nil {
				return err
			}
			table.Changed(to)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	opened := func(rec *taskRecord, rates map[string]string) *task {
		again()
		cfg := &Config{Rates: detectors.MustRates("EUR", rates)}
		k := &task{owner: owner{cfg: cfg, log: slog.New(slog.DiscardHandler)}, rec: rec, table: table}
		k.env.Calendar, k.env.Rates = p.Calendar, cfg.Rates
		if err := k.beginTally(false); err != nil {
			t.Fatal(err)
		}
		return k
	}
	buys := func(k *task, id string, days, less int64) {
		e, err := table.Get([]byte(id))
		if err != nil {
			t.Fatal(err)
		}
		for day := int64(0); day <= days; day += 2 {
			k.rec.tally.out(&e.Record)
			ev := &event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: start + day*dayMs, Amount: 100 * event.MoneyUnit, Currency: event.Currency{'U', 'S', 'D'}}
			if day > less {
				ev.Amount /= 4
			}
			e.Record.Apply(ev, &p)
			k.rec.tally.in(&e.Record)
			table.Changed(e)
		}
	}
	k := opened(&taskRecord{group: "g"}, map[string]string{"USD": "0.9"})
	buys(k, "came-yesterday", 1, 900)
	buys(k, "came-lately", 60, 900)
	buys(k, "always", 200, 900)
	buys(k, "less", 200, 150)
	want := map[string]int64{"warming_up": 1, "new": 1, "growing": 0, "mature": 1, "declining": 1, "lapsed": 0, "blind": 0, "quarantined": 0}
	if got := k.rec.tally.byStage(); !maps.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}

	stored := func(r *taskRecord) *taskRecord {
		r, err := decodeTaskRecord(r.append(nil))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if got := opened(stored(k.rec), map[string]string{"USD": "0.9"}).rec.tally.byStage(); !maps.Equal(got, want) {
		t.Errorf("after it was stored: %v, want %v", got, want)
	}
	// Without a rate, what they spend is not known to have fallen.
	without := map[string]int64{"warming_up": 1, "new": 1, "growing": 0, "mature": 2, "declining": 0, "lapsed": 0, "blind": 0, "quarantined": 0}
	rec := stored(k.rec)
	if got := opened(rec, nil).rec.tally.byStage(); !maps.Equal(got, without) {
		t.Errorf("with other rates: %v, want %v", got, without)
	}
	earlier, err := hex.DecodeString("020167016300000080a0abfef962000112000000000000000500037061791418160a0c00000e000000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	if rec, err = decodeTaskRecord(earlier); err != nil {
		t.Fatal(err)
	}
	if got := rec.tally.byStage(); got != nil {
		t.Errorf("of a version that counted otherwise: %v", got)
	}
	last := opened(rec, nil)
	if got := last.rec.tally.byStage(); !maps.Equal(got, without) {
		t.Errorf("of a version that counted otherwise, counted anew: %v, want %v", got, without)
	}
	err = table.Scan(func(e *state.Entry) error {
		last.rec.tally.out(&e.Record)
		return nil
	})
	if err != nil || last.rec.tally.stages != [numStages]int64{} {
		t.Errorf("left: %v, %v", last.rec.tally.byStage(), err)
	}
}

// A digest of the rates does not depend on the order in which they are given.
func TestStageBasis(t *testing.T) {
	basis := func(zone *time.Location, rates map[string]string) uint64 {
		cfg := &Config{Rates: detectors.MustRates("EUR", rates)}
		cfg.Time.Zone = zone
		return stageBasis(cfg)
	}
	rates := map[string]string{"USD": "0.9", "GBP": "1.2", "CHF": "1.1"}
	same := basis(time.UTC, rates)
	for range 20 {
		if basis(time.UTC, rates) != same {
			t.Fatal("two digests of the same rates differ")
		}
	}
	rates["CHF"] = "1.05"
	if basis(time.UTC, rates) == same || basis(time.FixedZone("X", 3600), map[string]string{"USD": "0.9", "GBP": "1.2", "CHF": "1.1"}) == same {
		t.Error("another rate, or another zone, has the same digest")
	}
}
