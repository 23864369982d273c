package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/detectors/population"
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
	lapse     int64 // ms without activity until a customer counts as gone
	expire    int64 // ms until a complaint is no longer followed
	forget    int64 // ms until a customer is forgotten
	zone      int64 // ms by which days begin earlier than in UTC
}

// day is the local day of a time.
func (r *rules) day(at int64) int64 { return (at + r.zone) / dayMs }

// since is how long the local day has lasted.
func (r *rules) since(at int64) int64 { return (at + r.zone) % dayMs }

// vary lets customers be given up sooner, and days begin elsewhere.
func (r rules) vary(rng *rand.Rand) rules {
	r.lapse, r.expire, r.forget = 180*dayMs, 365*dayMs, 800*dayMs
	r.zone = pick(rng, 0, 0, 11*hourMs/2, -8*hourMs)
	if rng.IntN(3) == 0 {
		r.lapse = 3 * r.silence
	}
	if rng.IntN(3) == 0 {
		r.expire = 16 * r.complaint
	}
	if r.lapse < 180*dayMs && rng.IntN(2) == 0 {
		r.forget = 2 * r.lapse
	}
	return r
}

var (
	// slow are the rules of the contract, quick those of customers whose fortnight is half a day.
	slow  = rules{silence: 14 * dayMs, complaint: 2 * dayMs, recent: 7, base: 28, history: 28, minWeekly: 1000}
	quick = rules{silence: 12 * hourMs, complaint: 3 * hourMs, recent: 1, base: 7, history: 7, minWeekly: 1000}
)

func (r rules) config() detectors.Config {
	c := detectors.Defaults()
	c.Silence.Method, c.SpendDrop.Method = detectors.Plain, detectors.Plain
	c.Silence.After, c.Silence.GapMultiple = detectors.Duration(r.silence/hourMs)*detectors.Hour, 0
	c.SpendDrop.RecentDays, c.SpendDrop.BaselineDays, c.SpendDrop.MinHistoryDays = int(r.recent), int(r.base), int(r.history)
	c.SpendDrop.FiresBelowPercent, c.SpendDrop.RecoversAtPercent, c.SpendDrop.CriticalBelowPercent = 50, 70, 20
	c.SpendDrop.MinWeekly = detectors.Amount(r.minWeekly * int64(event.MoneyUnit) / 100)
	within := detectors.Within(detectors.Duration(r.complaint/hourMs) * detectors.Hour)
	c.LapseAfter = detectors.Duration(r.lapse/hourMs) * detectors.Hour
	c.ComplaintUnresolved.ExpireAfter = detectors.Duration(r.expire/hourMs) * detectors.Hour
	c.ComplaintUnresolved.FirstResponse, c.ComplaintUnresolved.NextReply = detectors.Targets{}, detectors.Targets{}
	c.ComplaintUnresolved.Inquiry = 0
	c.Friction.Enabled, c.PaymentTrouble.Enabled = false, false
	c.ComplaintUnresolved.Warn, c.ComplaintUnresolved.Severe = detectors.WarnConfig{}, detectors.SevereConfig{}
	c.ComplaintUnresolved.Resolution = detectors.Targets{Low: within, Normal: within, High: within, Urgent: within, Critical: detectors.Within(0)}
	return c
}

// class is a kind of seed: most are small, because a fault in a small world is as good as one in a large world.
type class uint8

const (
	tiny   class = iota
	medium       // several of everything
	long         // hours, in which things happen seldom
	onDisk       // a small one with Badger in place of the disk in memory
)

func (c class) String() string { return [...]string{"tiny", "medium", "long", "on disk"}[c] }

// plan is what a seed decides before anything runs.
type plan struct {
	seed      uint64
	class     class
	parts     int32
	brokers   int
	instances int
	rules     rules
	scale     int64 // event time runs so much faster than the process
	customers int
	history   int64         // ms of event time before the start
	storm     time.Duration // process time in which faults happen
	coda      time.Duration // and for which customers go on after it
	// blur is how far one feed may be read ahead of another in ms of event time, while faults happen: what ends so soon after it began to be
	// due may be told or not.
	blur int64
	dups float64 // shares of records that come twice, late, or cannot be read
	late float64
	bad  float64
	// mingled is the share of the records that come late, but by no more than is borne.
	mingled float64
	// edgy customers do much just before or after a deadline.
	edgy bool
	// lull is for how long before the start nothing has happened, ms of event time: all that was due meanwhile is due at once.
	lull int64
	// latecomer is when the last instance comes, process time; 0: it is there from the start.
	latecomer time.Duration
	// sluggish disks hang for seconds.
	sluggish bool
	// astray is the share of the records that lie in another partition than their customer's; with reroute they are forwarded.
	astray  float64
	reroute bool

	weather weather
	cfg     stream.Config
}

// pick is one of several values.
func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

func newPlan(seed uint64) *plan {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := &plan{
		seed: seed, rules: quick, history: int64(8+rng.IntN(3)) * dayMs, scale: pick[int64](rng, 1, 20, 60),
		dups: pick(rng, 0, 0.05, 0.3), late: pick(rng, 0, 0, 0, 0.01), bad: pick(rng, 0, 0, 0.01, 0.05), weather: newWeather(rng),
	}
	switch roll := rng.IntN(100); {
	case roll < 60:
		p.class = tiny
	case roll < 97:
		p.class = medium
	case roll < 99:
		p.class = long
	default:
		p.class = onDisk
	}
	switch p.class {
	case tiny, onDisk:
		p.parts, p.brokers, p.instances, p.customers = pick[int32](rng, 1, 1, 2), pick(rng, 1, 1, 1, 2), pick(rng, 1, 2, 2), 1+rng.IntN(4)
		p.storm = time.Duration(4+rng.IntN(12)) * time.Second
		p.weather.pause /= 4
	case medium, long:
		p.parts, p.brokers, p.instances, p.customers = pick[int32](rng, 1, 2, 2, 3, 4, 6), pick(rng, 1, 1, 2, 3), pick(rng, 1, 2, 2, 3, 4), 3+rng.IntN(8)
		p.storm = time.Duration(10+rng.IntN(40)) * time.Second
		if rng.IntN(3) == 0 {
			p.rules, p.history, p.scale = slow, int64(40+rng.IntN(30))*dayMs, pick[int64](rng, 1, 60, 600)
		}
	}
	p.rules = p.rules.vary(rng)
	if p.rules.forget < 800*dayMs { // what is told late of somebody who is forgotten begins another life of his
		p.late, p.bad = 0, 0
	}
	p.cfg = p.config(rng)
	if p.class == long {
		p.linger(rng)
	}
	// A clock is ahead by less than the grace.
	p.cfg.Time.Grace = time.Duration(2*p.scale) * time.Second
	if p.parts > 1 && rng.IntN(3) == 0 {
		p.reroute, p.astray = true, pick(rng, 0, 0.05, 0.3)
		p.cfg.Topics.Reroute = "reroute"
		p.cfg.Reroute = stream.RerouteConfig{Interval: p.cfg.Time.Grace / 4}
		p.cfg.Time.MaxOutOfOrder = 8 * p.cfg.Time.Grace // promises are behind by the grace
	}
	p.vary()
	p.blur = p.scale*time.Minute.Milliseconds() + p.cfg.Time.Grace.Milliseconds() + mostBehind.Milliseconds()
	return p
}

// vary decides what some seeds have besides.
func (p *plan) vary() {
	if p.seed%3 == 0 { // what the group learns of its customers changes no plain rule; its samples, facts and models travel all the same, and history waits for them
		p.cfg.Customer.Horizon = 21
		p.cfg.Population = &population.Config{Horizon: 21}
	}
	if p.seed%5 == 0 { // likewise what is told of cohorts, as long as no cohort has so many members: sizes, leavers and judgements travel, and history waits for them
		p.cfg.Cohorts = &cohorts.Config{FalseAlarms: 0.5, LeastMembers: 1 << 30, By: []cohorts.Dimension{cohorts.Owner}, HoldBack: true}
	}
	rng := chance(p.seed, 82)
	if rng.IntN(3) == 0 {
		p.weather.worse = int16(worst[rng.IntN(len(worst))])
	}
	p.weather.rivals = rng.IntN(8) == 0 && p.instances > 1
	p.edgy = rng.IntN(2) == 0
	if p.mixed() != 0 && p.rules.forget >= 800*dayMs {
		p.mingled = pick(rng, 0, 0.05, 0.3)
	}
	if p.mingled != 0 { // what comes out of order matters to those who stand at the end of the feeds, and few do in a storm
		p.coda = 30 * time.Second
	}
	if rng.IntN(4) == 0 {
		p.weather.infants = 0.5
	}
	if p.cfg.Quiet && rng.IntN(2) == 0 {
		p.lull = p.history / pick[int64](rng, 2, 4)
	}
	if p.cfg.Membership.Standby > 0 && p.instances > 1 {
		p.sluggish = rng.IntN(2) == 0
		if rng.IntN(3) == 0 {
			p.latecomer = time.Duration(1+rng.IntN(3000)) * time.Millisecond
		}
	}
}

// linger makes a plan one of hours.
func (p *plan) linger(rng *rand.Rand) {
	p.storm = time.Duration(10+rng.IntN(50)) * time.Minute
	p.weather.pause *= 30
	p.weather.share /= 4
	p.cfg.Fetch.MaxWait = time.Duration(2+rng.IntN(6)) * time.Second
	p.cfg.Membership.Heartbeat = 2 * time.Second
	p.cfg.Cut.MaxAge = time.Second
}

// lived is how much event time the customers have from the start on, ms.
func (p *plan) lived() int64 { return (p.storm + p.coda).Milliseconds() * p.scale }

// mixed is how far records may lie out of the order of time without an alert changing, ms.
func (p *plan) mixed() int64 { return p.cfg.Time.MaxOutOfOrder.Milliseconds() }

func (p *plan) String() string {
	name := "quick"
	if p.rules.silence == slow.silence {
		name = "slow"
	}
	if p.rules.forget < 800*dayMs {
		name = "forgetful " + name
	}
	return fmt.Sprintf("%v: %d partitions, %d brokers, %d instances with %d standby copies, %d customers, %s rules, clock x%d, out of order %v, quiet %v, %.0f %% astray, %v of %v",
		p.class, p.parts, p.brokers, p.instances, p.cfg.Membership.Standby, p.customers, name, p.scale, p.cfg.Time.MaxOutOfOrder, p.cfg.Quiet, 100*p.astray, p.storm, p.weather)
}

func (p *plan) config(rng *rand.Rand) stream.Config {
	ms := func(of ...int) time.Duration { return time.Duration(pick(rng, of...)) * time.Millisecond }
	cfg := stream.Config{
		Group: group, Quiet: rng.IntN(4) == 0, Check: partition.Murmur2, Customer: customer.DefaultParams(nil), Rates: detectors.MustRates("EUR", nil),
		Topics: stream.Topics{Alerts: "alerts", OpenAlerts: "open", Operations: "operations", Changelog: "changelog", DeadLetters: "dlq", Facts: "facts", FactsChangelog: "facts-changelog"},
		// Feeds that cannot be reached, or stand still, are stretches that are not counted against anybody: which they are depends on the faults.
		Time:    stream.TimeConfig{Zone: time.FixedZone("here", int(p.rules.zone/1000)), MaxFutureSkew: 1000 * time.Hour, FeedUnreachableAfter: 100000 * time.Hour, MaxOutOfOrder: pick(rng, 0, 0, 10*time.Minute)},
		Stall:   stream.StallConfig{After: 100000 * time.Hour, Expected: 1e12},
		Letters: stream.LetterConfig{BlindRatio: 1, BlindMin: 1 << 60, StopRatio: 2, StopMin: 1 << 60},
		Cut: stream.CutConfig{
			MaxBytes: pick[int64](rng, 4<<10, 64<<10, 1<<20), MaxEvents: pick(rng, 5, 20, 60, 300), MaxAge: ms(50, 200, 1000), Linger: ms(0, 0, 20),
			InFlight: pick(rng, 1, 4), Timeout: time.Duration(pick(rng, 5, 10, 60)) * time.Second, Codec: pick(rng, "none", "none", "lz4"),
		},
		Fetch: fetch.Config{MaxWait: ms(100, 500, 1000), PartitionMaxBytes: pick[int32](rng, 2<<10, 8<<10, 1<<20), BufferBytes: 8 << 20},
		Membership: stream.GroupConfig{
			Session: time.Duration(pick(rng, 6, 10)) * time.Second, Rebalance: time.Duration(pick(rng, 3, 6, 10)) * time.Second,
			Heartbeat: ms(300, 500, 1000), Drain: ms(500, 2000), Standby: pick(rng, 0, 0, 1, 2), AcceptableLag: pick[int64](rng, 1, 50, 0),
		},
		Cache: pick[int64](rng, 4<<10, 32<<10, 1<<20), FlushAge: ms(10, 50, 500),
	}
	if cfg.Quiet { // what a history has kept back is told in one cut, so that it ends at one moment; of several cuts some may lie days before it
		cfg.Cut.MaxBytes = max(cfg.Cut.MaxBytes, 64<<10)
	}
	for i, f := range feeds {
		cfg.Feeds = append(cfg.Feeds, stream.FeedConfig{Feed: event.Feed(i), Topic: f})
	}
	return cfg
}

const group = "group"
