package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// Options are the size and the time of a crowd. The zero value of a field takes the default.
type Options struct {
	// Customers is how many are alive at any time; default 3000.
	Customers int
	// HistoryDays is how many days lie before the live part; default 120.
	HistoryDays int
	// Start is the first day of the history, cut to midnight UTC. It has no default: the package does not ask for the time.
	Start time.Time
	// Currency of all amounts; default EUR.
	Currency string
}

// pastKept is how many of the customers who left long ago are remembered with their truth.
const pastKept = 20_000

// Crowd is the simulated crowd. It is not safe for concurrent use.
type Crowd struct {
	seed    uint64
	o       Options
	start   int64 // ms
	habits  []habit
	tiers   []tier
	owners  []string
	regions []string

	segments []string

	exitOwner int
	exitDay   float64

	customers []*customer
	named     int // ids given so far
	ids       map[string]int
	past      []Truth // ring of those who left and were replaced
	pastAt    int
	pastIDs   map[string]int

	day     int // next day to be lived
	pending map[int][]record
	today   []record
	next    int
	seq     uint64
	serial  uint64 // of complaints
	late    uint64 // of late payments
}

// New makes a crowd. It panics if Start is missing: there is no sensible default for it.
func New(seed uint64, o Options) *Crowd {
	if o.Start.IsZero() {
		panic("simulate: Options.Start is missing")
	}
	if o.Customers <= 0 {
		o.Customers = 3000
	}
	if o.HistoryDays <= 0 {
		o.HistoryDays = 120
	}
	if o.Currency == "" {
		o.Currency = "EUR"
	}
	o.Start = o.Start.UTC().Truncate(24 * time.Hour)
	c := &Crowd{
		seed: seed, o: o, start: o.Start.UnixMilli(),
		habits: habits(), tiers: tiers(), owners: owners(), regions: regions(), segments: segments(),
		ids: make(map[string]int, o.Customers), pastIDs: map[string]int{}, pending: map[int][]record{},
	}
	rng := rand.New(rand.NewPCG(seed, 0x6f776e6572))
	c.exitOwner = rng.IntN(len(c.owners))
	c.exitDay = float64(o.HistoryDays) + 8 + 6*rng.Float64()
	c.customers = make([]*customer, o.Customers)
	for i := range c.customers {
		// Most have been there for a long time; the others join in the course of the history.
		joined := -float64(rng.IntN(700))
		if rng.Float64() < 0.12 {
			joined = float64(o.HistoryDays) * rng.Float64()
		}
		c.join(i, joined)
	}
	return c
}

func (c *Crowd) join(slot int, joined float64) {
	p := c.newCustomer(c.named, joined)
	c.named++
	c.customers[slot] = p
	c.ids[p.id] = slot
}

func customerID(n int) string {
	s := strconv.Itoa(n + 1)
	return "c-" + "000000"[min(len(s), 6):] + s
}

// Start is the first instant of the history.
func (c *Crowd) Start() time.Time { return c.o.Start }

// LiveStart is the end of the history and the beginning of the live part.
func (c *Crowd) LiveStart() time.Time { return c.o.Start.AddDate(0, 0, c.o.HistoryDays) }

// Currency is the currency of all amounts.
func (c *Crowd) Currency() string { return c.o.Currency }

// Exit tells which account owner leaves the company, and when.
func (c *Crowd) Exit() (owner string, at time.Time) {
	return c.owners[c.exitOwner], c.instant(c.exitDay)
}

// History hands out everything that arrives before LiveStart, in the order of arrival.
func (c *Crowd) History(emit func(Event) error) error { return c.Until(c.LiveStart(), emit) }

// Until hands out everything that arrives before t and was not handed out yet, in the order of arrival. If emit fails, Until
// returns its error; the next call begins with the same event.
func (c *Crowd) Until(t time.Time, emit func(Event) error) error {
	end := t.UnixMilli()
	for {
		for ; c.next < len(c.today); c.next++ {
			r := &c.today[c.next]
			if r.at >= end {
				return nil
			}
			if err := emit(r.event()); err != nil {
				return err
			}
			*r = record{}
		}
		if c.ms(float64(c.day)) >= end {
			return nil
		}
		c.live()
	}
}

// Truth tells what is true of the customers alive now and of those who left lately.
func (c *Crowd) Truth() []Truth {
	all := make([]Truth, 0, len(c.past)+len(c.customers))
	all = append(all, c.past...)
	for _, p := range c.customers {
		all = append(all, c.truth(p))
	}
	return all
}

// TruthOf tells what is true of one customer; false if the crowd does not know him, or no longer.
func (c *Crowd) TruthOf(id string) (Truth, bool) {
	if slot, ok := c.ids[id]; ok {
		return c.truth(c.customers[slot]), true
	}
	if i, ok := c.pastIDs[id]; ok {
		return c.past[i], true
	}
	return Truth{}, false
}

func (c *Crowd) truth(p *customer) Truth {
	t := Truth{
		Customer: p.id, Habit: c.habits[p.habit].name, Joined: c.instant(p.joined), Weekly: p.weekly(),
		Shape: p.shape, Begins: c.instant(p.begins), Left: c.instant(p.left),
	}
	switch {
	case p.traveller:
		t.Case = "traveller"
	case p.bigBill:
		t.Case = "big_bill"
	}
	return t
}

// forget replaces one who left long ago by somebody new.
func (c *Crowd) forget(slot int) {
	p := c.customers[slot]
	delete(c.ids, p.id)
	t := c.truth(p)
	if len(c.past) < pastKept {
		c.pastIDs[p.id] = len(c.past)
		c.past = append(c.past, t)
	} else {
		delete(c.pastIDs, c.past[c.pastAt].Customer)
		c.past[c.pastAt] = t
		c.pastIDs[p.id] = c.pastAt
		c.pastAt = (c.pastAt + 1) % pastKept
	}
	c.join(slot, float64(c.day)+c.customers[slot].rng.Float64())
}

func (c *Crowd) ms(day float64) int64 { return c.start + int64(math.Round(day*86_400_000)) }

func (c *Crowd) instant(day float64) time.Time { return time.UnixMilli(c.ms(day)).UTC() }

// date is the calendar day of a day number.
func (c *Crowd) date(day int) time.Time { return c.o.Start.AddDate(0, 0, day) }

// Outages lists the times in which a feed brings nothing, up to t.
func (c *Crowd) Outages(t time.Time) []Outage {
	var out []Outage
	for n := 0; ; n++ {
		from, lost := c.outage(n)
		o := Outage{Feed: Usage, From: c.instant(float64(from)), To: c.instant(float64(from + outageDays)), Lost: lost}
		if !o.From.Before(t) {
			return out
		}
		out = append(out, o)
	}
}

const (
	outageDays  = 2
	outageEvery = 90
)

// outage is the first day of the nth outage. The first lies in the history and its events are lost; the later ones are in the live
// part, and what happened in them arrives afterwards.
func (c *Crowd) outage(n int) (from int, lost bool) {
	if n == 0 {
		return c.o.HistoryDays * 2 / 3, true
	}
	return c.o.HistoryDays + 24 + (n-1)*outageEvery, false
}

// inOutage says whether the usage feed brings nothing on a day, when it is back, and whether the day's events are lost.
func (c *Crowd) inOutage(day int) (back int, lost, out bool) {
	n := 0
	if live := day - c.o.HistoryDays; live >= 24 {
		n = 1 + (live-24)/outageEvery
	}
	from, lost := c.outage(n)
	return from + outageDays, lost, from <= day && day < from+outageDays
}

// holiday is the share of their usual activity that people keep on a date.
func holiday(d time.Time) (use, buy float64) {
	switch m, day := d.Month(), d.Day(); {
	case m == time.December && day >= 20, m == time.January && day <= 2:
		return 0.6, 0.5
	case m == time.February && day >= 14 && day <= 22:
		return 0.8, 0.7
	case m == time.April && day <= 8:
		return 0.75, 0.65
	case m == time.August && day <= 20:
		return 0.7, 0.7
	}
	return 1, 1
}

// weekday is the share of activity by day of the week; its mean over the week is about 1.
func weekday(d time.Time, segment int) float64 {
	weekend := d.Weekday() == time.Saturday || d.Weekday() == time.Sunday
	if segment == 2 { // business
		if weekend {
			return 0.35
		}
		return 1.26
	}
	if weekend {
		return 1.2
	}
	return 0.92
}

// lateBatch says whether the payments of a region and day come a day late.
func (c *Crowd) lateBatch(day, region int) bool {
	return rand.New(rand.NewPCG(c.seed^0x6c617465, uint64(day)<<8|uint64(region))).Float64() < 0.02
}

// live lives one day: everything that customers do in it goes to the day in which it arrives.
func (c *Crowd) live() {
	day := c.day
	c.day++
	date := c.date(day)
	use, buy := holiday(date)
	late := make([]bool, len(c.regions))
	for r := range late {
		late[r] = c.lateBatch(day, r)
	}
	d := dayOf{day: day, date: date, use: use, buy: buy, late: late}
	for slot, p := range c.customers {
		if float64(day) > p.left+daysGone && (p.shape != Elsewhere || float64(day) > p.left+daysLooking+15) {
			c.forget(slot)
			p = c.customers[slot]
		}
		if p.joined < float64(day+1) {
			c.liveCustomer(p, &d)
		}
	}
	c.today, c.next = c.pending[day], 0
	delete(c.pending, day)
	slices.SortFunc(c.today, func(a, b record) int { return before(&a, &b) })
}

// dayOf is what is the same for all customers on one day.
type dayOf struct {
	day      int
	date     time.Time
	use, buy float64
	late     []bool
}

func (c *Crowd) liveCustomer(p *customer, d *dayOf) {
	from := float64(d.day)
	if !p.profiled {
		p.profiled = true
		c.profile(p, math.Max(p.joined, 0), p.owner)
	}
	if p.owner == c.exitOwner && !p.followed && from >= c.exitDay+7 {
		// Somebody else takes over, a week after the account owner has gone.
		p.followed = true
		p.owner = (p.owner + 1 + p.rng.IntN(len(c.owners)-1)) % len(c.owners)
		c.profile(p, from+hour(p.rng), p.owner)
	}
	if p.traveller && from > p.tripTo {
		p.nextTrip(from + 30)
	}
	c.sessions(p, d)
	c.purchases(p, d)
	c.complaints(p, d)
	if p.shape == Cancelled && int(p.left) == d.day {
		c.put(Payments, p, p.left, p.left, 0, c.object(p, "p", p.left).str("type", "subscription_cancelled").str("initiator", "customer"))
	}
}

func (c *Crowd) sessions(p *customer, d *dayOf) {
	for range poisson(p.rng, p.visits*d.use*weekday(d.date, p.segment)) {
		t := float64(d.day) + hour(p.rng)
		use, _, _ := p.presence(t)
		minutes := 10 + int64(p.rng.ExpFloat64()*180)
		if p.rng.Float64() >= use || t < p.joined {
			continue
		}
		outcome := "ok"
		if p.rng.Float64() < 0.02 {
			outcome = "failed"
		}
		at := t
		if back, lost, out := c.inOutage(d.day); out {
			if lost {
				continue
			}
			at = float64(back) + 0.08*p.rng.Float64()
		}
		c.put(Usage, p, t, at, 0, c.object(p, "u", t).str("type", "session").tenths("quantity", minutes).
			str("unit", "minutes").str("outcome", outcome))
	}
}

func (c *Crowd) purchases(p *customer, d *dayOf) {
	h := &c.habits[p.habit]
	for p.nextBuy < float64(d.day+1) {
		if p.habit != monthly && p.rng.Float64() >= math.Min(1, weekday(d.date, p.segment)) {
			p.nextBuy = float64(d.day+1) + p.rng.Float64() // not today: people put an errand off, they do not drop it
			return
		}
		t := math.Max(p.nextBuy, float64(d.day))
		p.nextBuy += p.gap(h)
		if p.habit == monthly {
			t = math.Floor(t) + 0.2 + 0.05*p.rng.Float64()
		} else {
			t = math.Floor(t) + hour(p.rng)
		}
		_, buy, factor := p.presence(t)
		chance := p.rng.Float64()
		amount := math.Max(100, p.basket*factor*math.Exp(0.25*p.rng.NormFloat64()-0.03))
		switch p.habit {
		case monthly:
			amount = p.basket * (0.95 + 0.1*p.rng.Float64())
			if p.shape != Leak && p.shape != Followed && t < p.left && buy > 0 {
				buy = 1 // a bill is paid in the holidays too
			}
		default:
			buy *= d.buy
		}
		if chance >= buy || t < p.joined {
			continue
		}
		if p.habit != monthly && p.rng.Float64() < 0.0012 {
			amount *= 5 + 5*p.rng.Float64()
			p.bigBill = true
		}
		c.pay(p, d, t, int64(amount))
	}
}

// pay is one purchase, with all that may happen to it: a card that fails, a return, a batch that comes late.
func (c *Crowd) pay(p *customer, d *dayOf, t float64, amount int64) {
	if p.shape == Card && t >= math.Floor(p.begins) {
		tries := [...]float64{0, 3, 7, 11}
		for i, wait := range tries {
			next := 0.0
			if i+1 < len(tries) {
				next = t + tries[i+1]
			}
			c.chargeFailed(p, t+wait, amount, i+1, next)
		}
		return
	}
	attempt := 1
	if p.habit == monthly && p.rng.Float64() < 0.04 {
		again := t + 1 + 3*p.rng.Float64()
		c.chargeFailed(p, t, amount, 1, again)
		t = again
		attempt = 2
		if t >= p.left {
			return
		}
	}
	at := t + 0.0005*p.rng.Float64()
	if d.late[p.region] {
		at = math.Max(at, float64(d.day)+1.42+0.01*p.rng.Float64())
	}
	o := c.object(p, "p", t).str("type", "purchase").cents("amount", amount).str("currency", c.o.Currency).
		str("category", c.habits[p.habit].category)
	if p.habit == monthly {
		o = o.raw("recurring", "true").num("attempt", int64(attempt))
	}
	c.put(Payments, p, t, at, amount, o)
	if p.rng.Float64() < 0.025 {
		back := t + 1 + 11*p.rng.Float64()
		part := amount
		if p.rng.Float64() < 0.5 {
			part = max(100, amount/3)
		}
		if back < p.left {
			c.put(Payments, p, back, back, -part, c.object(p, "p", back).str("type", "refund").cents("amount", part).
				str("currency", c.o.Currency).str("initiator", "customer"))
		}
	}
}

// chargeFailed is a failed attempt; next is when another one is announced, 0 for none.
func (c *Crowd) chargeFailed(p *customer, t float64, amount int64, attempt int, next float64) {
	o := c.object(p, "p", t).str("type", "charge_failed").cents("amount", amount).str("currency", c.o.Currency).str("initiator", "company").
		raw("recurring", "true").num("attempt", int64(attempt)).str("failure_code", "card_declined")
	if next != 0 {
		o = o.time("next_attempt_at", c.ms(next))
	}
	c.put(Payments, p, t, t, 0, o)
}

func (c *Crowd) complaints(p *customer, d *dayOf) {
	if p.shape == Unanswered && !p.complain && int(p.begins) <= d.day {
		p.complain = true
		id := c.complaintID()
		c.opened(p, id, math.Max(p.begins, float64(d.day)), p.rng)
		return
	}
	if p.rng.Float64() >= complaintRate {
		return
	}
	t := float64(d.day) + hour(p.rng)
	if use, buy, _ := p.presence(t); use+buy == 0 || t < p.joined {
		return
	}
	c.complaint(p, t)
}

func (c *Crowd) complaintID() string {
	c.serial++
	return "T-" + strconv.FormatUint(c.serial, 10)
}

// opened opens a complaint and returns the usual days to its first answer: the more urgent, the sooner somebody looks.
func (c *Crowd) opened(p *customer, id string, t float64, rng *rand.Rand) (answer float64) {
	level := rng.IntN(7)
	priority := []string{"low", "normal", "normal", "normal", "high", "high", "urgent"}[level]
	answer = []float64{0.35, 0.2, 0.2, 0.2, 0.09, 0.09, 0.04}[level]
	category := []string{"delivery", "billing", "quality", "app", "service"}[rng.IntN(5)]
	channel := []string{"phone", "mail", "chat"}[rng.IntN(3)]
	c.put(Complaints, p, t, t, 0, c.object(p, "k", t).str("type", "opened").str("complaint_id", id).str("priority", priority).
		num("level", 1).str("channel", channel).str("category", category).str("actor", "customer"))
	return answer
}

// complaint is one that is dealt with, most of them in time: a first answer, perhaps a word back, a resolution. One in twenty lies for
// days, one in fifty for ever.
func (c *Crowd) complaint(p *customer, t float64) {
	rng, id := p.rng, c.complaintID()
	usual := c.opened(p, id, t, rng)
	fate := rng.Float64()
	if fate < 0.02 {
		return
	}
	answer := t + usual*math.Exp(0.6*rng.NormFloat64())
	if fate < 0.07 {
		answer = t + 3 + 5*rng.Float64()
	}
	step := func(t float64, kind, actor string) {
		c.put(Complaints, p, t, t, 0, c.object(p, "k", t).str("type", kind).str("complaint_id", id).str("actor", actor))
	}
	step(answer, "responded", "agent")
	if rng.Float64() < 0.3 {
		answer += 0.1 + 0.3*rng.Float64()
		step(answer, "customer_replied", "customer")
		answer += 0.1 + 0.3*rng.Float64()
		step(answer, "responded", "agent")
	}
	step(answer+0.1+0.5*math.Exp(0.6*rng.NormFloat64()), "resolved", "agent")
}

func (c *Crowd) profile(p *customer, t float64, owner int) {
	o := c.object(p, "c", t).str("tier", c.tiers[p.tier].name).str("segment", c.segments[p.segment]).
		str("region", c.regions[p.region]).str("product", c.habits[p.habit].category).
		str("since", c.instant(p.joined).Format(time.DateOnly))
	if owner >= 0 {
		o = o.str("owner", c.owners[owner])
	}
	if p.zone != "" {
		o = o.str("time_zone", p.zone)
	}
	c.put(Customers, p, t, t, 0, o)
}

// object begins an event with what all events have.
func (c *Crowd) object(p *customer, prefix string, t float64) object {
	return newObject(192).str("id", fmt.Sprintf("%s-%s-%d", prefix, p.id[2:], c.seq)).str("customer_id", p.id).time("time", c.ms(t))
}

// put sends an event on its way. What arrives before the day that is being lived, because it was planned late, arrives at its
// beginning.
func (c *Crowd) put(feed Feed, p *customer, t, at float64, spend int64, o object) {
	day := int(math.Floor(at))
	if day < c.day-1 {
		day = c.day - 1
		at = math.Max(at, float64(day))
	}
	c.pending[day] = append(c.pending[day], record{
		feed: feed, key: p.id, value: o.end(), time: c.ms(t), at: c.ms(at), seq: c.seq, spend: spend,
	})
	c.seq++
}
