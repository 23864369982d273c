// Package populationtest makes models of populations for the tests of whatever decides by them. A model is made of a few hundred customers with simple habits,
// by the same fold as any other. It refuses to make models of outcomes: these take a history of their own.
package populationtest

import (
	"strconv"

	"ebb/detectors/population"
	"ebb/state/customer"
	"ebb/stream/event"
)

const dayMs = 24 * 3_600_000

// Weekly is the model of 400 customers who buy about once a week, and of whom one in twenty stops after each purchase, as it is known on a UTC day. No outcome is
// known. It is nil only if cfg makes it impossible.
func Weekly(cfg population.Config, day int32) *population.Model {
	p := customer.DefaultParams(customer.NewCalendar(nil))
	p.Horizon, p.MaxSeen = cfg.Horizon, 0
	fold := population.NewFold(cfg)
	epoch := population.Epoch(day)
	for i := range 400 {
		r := &customer.Record{ID: strconv.Itoa(i)}
		stay := 3 + i*7919%40 // purchases
		for n, at := 0, epoch-300+int32(i%50); n < stay && at < epoch; n++ {
			r.Apply(&event.Event{Feed: event.Payments, Kind: event.KindPurchase, Time: int64(at) * dayMs, Amount: 10 * event.MoneyUnit}, &p)
			at += 5 + int32(i*31+n*17)%5
		}
		if s, ok := population.SampleOf(r, epoch); ok {
			fold.Observe(s)
		}
	}
	return fold.Close(epoch)
}
