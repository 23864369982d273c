package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream"
	"ebb/stream/event"
	"ebb/stream/fetch"
	"ebb/stream/partition"
)

const (
	hourMs = int64(3_600_000)
	dayMs  = 24 * hourMs
)

var feeds = []string{"usage", "payments", "complaints"}

// rules are the numbers of the detectors, as the oracle wants them.
type rules struct {
	silence   int64 // ms
	complaint int64 // ms, but for critical ones, which fire at once
	recent    int64 // days
	base      int64
	history   int64
	minWeekly int64 // cents
}

var (
	// slow are the rules of the contract, quick those of customers whose fortnight is half a day.
	slow  = rules{silence: 14 * dayMs, complaint: 2 * dayMs, recent: 7, base: 28, history: 28, minWeekly: 1000}
	quick = rules{silence: 12 * hourMs, complaint: 3 * hourMs, recent: 1, base: 7, history: 7, minWeekly: 1000}
)

func (r rules) config() detectors.Config {
	c := detectors.Defaults()
	c.Silence.After, c.Silence.GapMultiple = detectors.Duration(r.silence/hourMs)*detectors.Hour, 0
	c.SpendDrop.RecentDays, c.SpendDrop.BaselineDays, c.SpendDrop.MinHistoryDays = int(r.recent), int(r.base), int(r.history)
	c.SpendDrop.FiresBelowPercent, c.SpendDrop.RecoversAtPercent, c.SpendDrop.CriticalBelowPercent = 50, 70, 20
	c.SpendDrop.MinWeekly = detectors.Amount(r.minWeekly * int64(event.MoneyUnit) / 100)
	within := detectors.Within(detectors.Duration(r.complaint/hourMs) * detectors.Hour)
	c.ComplaintUnresolved.FirstResponse = detectors.Targets{}
	c.ComplaintUnresolved.Resolution = detectors.Targets{Low: within, Normal: within, High: within, Urgent: within, Critical: detectors.Within(0)}
	return c
}

// plan is what a seed decides before anything runs.
type plan struct {
	seed      uint64
	parts     int32
	brokers   int
	instances int
	rules     rules
	scale     int64 // event time runs so much faster than the process
	customers int
	history   int64         // ms of event time before the start
	storm     time.Duration // process time in which faults happen
	// blur is how far one feed may be read ahead of another in ms of event time, while faults happen: what ends so soon after it began to be
	// due may be told or not.
	blur int64
	dups float64 // shares of records that come twice, late, or cannot be read
	late float64
	bad  float64

	weather weather
	cfg     stream.Config
}

// pick is one of several values.
func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

func newPlan(seed uint64) *plan {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := &plan{
		seed: seed, parts: pick[int32](rng, 1, 1, 2, 2, 3, 4, 6), brokers: pick(rng, 1, 1, 2, 3), instances: pick(rng, 1, 1, 1, 2, 2, 2, 3, 4),
		rules: pick(rng, slow, quick, quick), customers: 3 + rng.IntN(8), storm: time.Duration(10+rng.IntN(50)) * time.Second,
		dups: pick(rng, 0, 0.05, 0.3), late: pick(rng, 0, 0, 0, 0.01), bad: pick(rng, 0, 0, 0.01, 0.05),
	}
	p.weather = newWeather(rng)
	if p.rules == slow {
		p.history = int64(40+rng.IntN(30)) * dayMs
		p.scale = pick[int64](rng, 1, 60, 600)
	} else {
		p.history = int64(8+rng.IntN(4)) * dayMs
		p.scale = pick[int64](rng, 1, 20, 60)
	}
	p.cfg = p.config(rng)
	if rng.IntN(30) == 0 {
		p.linger(rng)
	}
	p.blur = p.scale*time.Minute.Milliseconds() + p.cfg.Time.Grace.Milliseconds() + mostBehind.Milliseconds()
	return p
}

// linger makes a plan one of hours, in which things happen seldom.
func (p *plan) linger(rng *rand.Rand) {
	p.storm = time.Duration(10+rng.IntN(40)) * time.Minute
	p.weather.pause *= 30
	p.weather.share /= 4
	p.cfg.Fetch.MaxWait = time.Duration(2+rng.IntN(6)) * time.Second
	p.cfg.Membership.Heartbeat = 2 * time.Second
	p.cfg.Cut.MaxAge = time.Second
}

func (p *plan) String() string {
	name := "quick"
	if p.rules == slow {
		name = "slow"
	}
	return fmt.Sprintf("%d partitions, %d brokers, %d instances, %d customers, %s rules, clock x%d, %v of %v",
		p.parts, p.brokers, p.instances, p.customers, name, p.scale, p.storm, p.weather)
}

func (p *plan) config(rng *rand.Rand) stream.Config {
	ms := func(of ...int) time.Duration { return time.Duration(pick(rng, of...)) * time.Millisecond }
	cfg := stream.Config{
		Group: group, Check: partition.Murmur2, Customer: customer.DefaultParams(nil), Rates: detectors.MustRates("EUR", nil),
		Topics: stream.Topics{Alerts: "alerts", OpenAlerts: "open", Operations: "operations", Changelog: "changelog", DeadLetters: "dlq"},
		// Feeds that cannot be reached, or stand still, are stretches that are not counted against anybody: which they are depends on the faults.
		Time:    stream.TimeConfig{Zone: time.UTC, MaxFutureSkew: 1000 * time.Hour, Grace: time.Minute, FeedUnreachableAfter: 100000 * time.Hour},
		Stall:   stream.StallConfig{After: 100000 * time.Hour, Expected: 1e12},
		Letters: stream.LetterConfig{BlindRatio: 1, BlindMin: 1 << 60, StopRatio: 2, StopMin: 1 << 60},
		Cut: stream.CutConfig{
			MaxBytes: pick[int64](rng, 4<<10, 64<<10, 1<<20), MaxEvents: pick(rng, 5, 20, 60, 300), MaxAge: ms(50, 200, 1000), Linger: ms(0, 0, 20),
			InFlight: pick(rng, 1, 4), Timeout: time.Duration(pick(rng, 5, 10, 60)) * time.Second, Codec: pick(rng, "none", "none", "lz4"),
		},
		Fetch: fetch.Config{MaxWait: ms(50, 500, 2000), PartitionMaxBytes: pick[int32](rng, 2<<10, 8<<10, 1<<20), BufferBytes: 8 << 20},
		Membership: stream.GroupConfig{
			Session: time.Duration(pick(rng, 6, 10)) * time.Second, Rebalance: time.Duration(pick(rng, 3, 6, 10)) * time.Second,
			Heartbeat: ms(100, 500, 1000), Drain: ms(500, 2000), Standby: pick(rng, 0, 0, 1, 2), AcceptableLag: pick[int64](rng, 1, 50, 0),
		},
		Cache: pick[int64](rng, 4<<10, 32<<10, 1<<20), FlushAge: ms(10, 50, 500),
	}
	for i, f := range feeds {
		cfg.Feeds = append(cfg.Feeds, stream.FeedConfig{Feed: event.Feed(i), Topic: f})
	}
	return cfg
}

const group = "group"
