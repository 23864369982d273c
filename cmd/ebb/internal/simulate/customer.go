package simulate

import (
	"math"
	"math/rand/v2"
)

// habit is how a customer buys and uses.
type habit struct {
	name  string
	share float64
	// gap is the range of the mean number of days between purchases; order makes gaps the more even the higher it is
	// (they are the sum of that many exponential waits), 0 makes them lognormal: mostly short, sometimes very long.
	gap   [2]float64
	order int
	// basket is the range of the usual amount in cents before the tier's factor.
	basket [2]float64
	// sessions is the range of usage events a day.
	sessions [2]float64
	category string
}

// habits are the ways of buying. Shares add up to 1.
func habits() []habit {
	return []habit{
		{name: "weekly", share: 0.57, gap: [2]float64{3.5, 7.5}, order: 8, basket: [2]float64{1200, 6000}, sessions: [2]float64{0.25, 0.8}, category: "basket"},
		{name: "monthly", share: 0.14, gap: [2]float64{28, 31}, order: 0, basket: [2]float64{2400, 9900}, sessions: [2]float64{0.2, 0.6}, category: "bill"},
		{name: "prepaid", share: 0.16, gap: [2]float64{8, 16}, order: 10, basket: [2]float64{1000, 3000}, sessions: [2]float64{0.7, 1.5}, category: "credit"},
		{name: "irregular", share: 0.10, gap: [2]float64{12, 26}, order: 0, basket: [2]float64{3000, 12000}, sessions: [2]float64{0.08, 0.2}, category: "order"},
		{name: "seasonal", share: 0.03, gap: [2]float64{3, 6}, order: 3, basket: [2]float64{1500, 4500}, sessions: [2]float64{0.3, 0.7}, category: "season"},
	}
}

const (
	weekly = iota
	monthly
	prepaid
	irregular
	seasonal
)

// tier is a customer's standing: what share of the crowd has it, and how much more such a customer spends.
type tier struct {
	name   string
	share  float64
	factor float64
	owned  bool
}

func tiers() []tier {
	return []tier{
		{name: "gold", share: 0.07, factor: 4, owned: true},
		{name: "silver", share: 0.28, factor: 1.8, owned: true},
		{name: "bronze", share: 0.65, factor: 1},
	}
}

func owners() []string {
	return []string{"a.okafor", "b.lindqvist", "c.moreau", "d.haddad", "e.novak", "f.tanaka", "g.rossi", "h.adeyemi"}
}

func segments() []string { return []string{"household", "student", "business", "family"} }

func regions() []string { return []string{"north", "south", "east", "west", "online"} }

// customer is one member of the crowd. Times are days since the crowd's start, as fractions.
type customer struct {
	rng *rand.Rand
	id  string

	habit, tier             int
	segment, region, owner  int // owner -1: nobody
	zone                    string
	joined                  float64
	gapMean, basket, visits float64

	nextBuy float64
	// season is the cycle of a seasonal buyer in days, seasonOn how many of them he is there, seasonAt its phase.
	season, seasonOn, seasonAt float64
	// bill is the cycle of a monthly bill, firstBill its phase.
	bill, firstBill float64
	// trip is the time a traveller is away.
	traveller          bool
	tripFrom, tripTo   float64
	bigBill            bool
	shape              Shape
	begins, left       float64
	followed           bool
	profiled, complain bool
}

// Rates of what happens to anybody, a day.
const (
	leaveHazard   = 0.0011
	complaintRate = 0.0025
	daysGone      = 45 // after which a new customer takes the place of one who left
	daysLooking   = 60 // for which one who buys elsewhere still looks around
)

func pick(rng *rand.Rand, shares func(i int) float64, n int) int {
	u := rng.Float64()
	for i := range n {
		if u -= shares(i); u < 0 {
			return i
		}
	}
	return n - 1
}

func within(rng *rand.Rand, r [2]float64) float64 { return r[0] + (r[1]-r[0])*rng.Float64() }

// newCustomer invents a customer who joins at the given day.
func (c *Crowd) newCustomer(n int, joined float64) *customer {
	rng := rand.New(rand.NewPCG(c.seed, 0x63726f77_64000000^uint64(n)))
	p := &customer{rng: rng, id: customerID(n), joined: joined, owner: -1}
	hs, ts := c.habits, c.tiers
	p.habit = pick(rng, func(i int) float64 { return hs[i].share }, len(hs))
	p.tier = pick(rng, func(i int) float64 { return ts[i].share }, len(ts))
	p.segment = rng.IntN(len(c.segments))
	p.region = rng.IntN(len(c.regions))
	if ts[p.tier].owned {
		p.owner = rng.IntN(len(c.owners))
	}
	switch u := rng.Float64(); {
	case u < 0.10:
		p.zone = "Europe/Berlin"
	case u < 0.15:
		p.zone = "America/New_York"
	}
	h := hs[p.habit]
	p.gapMean = within(rng, h.gap)
	p.basket = within(rng, h.basket) * ts[p.tier].factor
	p.visits = within(rng, h.sessions)
	p.nextBuy = math.Max(joined, 0) + p.gapMean*rng.Float64()
	switch p.habit {
	case seasonal:
		p.season = 60 + 20*rng.Float64()
		p.seasonOn = 24 + 16*rng.Float64()
		p.seasonAt = p.season * rng.Float64()
	case monthly:
		p.bill = []float64{28, 30, 30.4375, 31}[rng.IntN(4)]
		p.firstBill = math.Max(joined, 0) + p.bill*rng.Float64()
		p.nextBuy = p.firstBill
	}
	if rng.Float64() < 0.05 {
		p.traveller = true
		p.nextTrip(math.Max(joined, 0))
	}
	p.planLeaving(c)
	return p
}

// nextTrip plans the next absence after day t.
func (p *customer) nextTrip(t float64) {
	p.tripFrom = t + 15 + 90*p.rng.ExpFloat64()
	p.tripTo = p.tripFrom + 15 + 17*p.rng.Float64()
}

// planLeaving draws when the customer leaves, and how. The plan never changes afterwards, save that an account owner may take
// the customer along earlier.
func (p *customer) planLeaving(c *Crowd) {
	rng := p.rng
	earliest := math.Max(p.joined+30, 5)
	at := earliest + rng.ExpFloat64()/leaveHazard
	shape := Cliff
	switch u := rng.Float64(); {
	case u < 0.26:
	case u < 0.50:
		shape = Leak
	case u < 0.66:
		shape = Silent
	case u < 0.78:
		shape = Elsewhere
	case u < 0.88:
		shape = Unanswered
	case u < 0.94:
		shape = Card
	default:
		shape = Cancelled
	}
	switch {
	case shape == Card && p.habit != monthly:
		shape = Cliff
	case shape == Cliff && p.habit == monthly:
		shape = Card
	}
	if p.owner == c.exitOwner && rng.Float64() < 0.45 {
		if t := c.exitDay + 3 + 22*rng.Float64(); t < at && t > earliest {
			p.leaveAs(Followed, t)
			return
		}
	}
	p.leaveAs(shape, at)
}

// leaveAs fixes the plan: begins is when the leaving can first be seen.
func (p *customer) leaveAs(shape Shape, at float64) {
	rng := p.rng
	p.shape, p.left, p.begins = shape, at, at
	lead := 0.0
	switch shape {
	case Leak:
		lead = 35 + 35*rng.Float64()
	case Silent:
		lead = 14 + 16*rng.Float64()
	case Unanswered:
		lead = 6 + 14*rng.Float64()
	case Followed:
		lead = 10 * rng.Float64()
	case Card:
		// The leaving begins with the bill whose card fails, and ends with the last attempt.
		p.begins = p.firstBill + math.Ceil((at-p.firstBill)/p.bill)*p.bill
		p.left = p.begins + 12
		return
	}
	if p.begins = at - lead; p.begins < p.joined+3 {
		p.begins, p.left = p.joined+3, p.joined+3+lead
	}
}

// presence says how much of his usual self the customer is at day t: factors for usage, for purchases and for their amount.
func (p *customer) presence(t float64) (use, buy, amount float64) {
	use, buy, amount = 1, 1, 1
	if p.tripFrom <= t && t < p.tripTo {
		return 0, 0, 1
	}
	if p.habit == seasonal && math.Mod(t+p.seasonAt+10*p.season, p.season) > p.seasonOn {
		use, buy = 0.04, 0
	}
	if t < p.begins {
		return use, buy, amount
	}
	if t >= p.left {
		if p.shape == Elsewhere && t < p.left+daysLooking {
			return use * 0.35, 0, 1
		}
		return 0, 0, 1
	}
	progress := (t - p.begins) / math.Max(p.left-p.begins, 0.01)
	switch p.shape {
	case Leak:
		f := math.Exp(-2.2 * progress)
		return use * f, buy * math.Sqrt(f), amount * math.Sqrt(f)
	case Silent:
		return use * math.Max(0, 1-4*progress), buy * 0.8, amount
	case Followed:
		return use * (1 - 0.7*progress), buy * (1 - 0.7*progress), amount
	}
	return use, buy, amount
}

// gap draws the days to the next purchase.
func (p *customer) gap(h *habit) float64 {
	if p.habit == monthly {
		return p.bill
	}
	if h.order == 0 {
		const sigma = 0.8
		return p.gapMean * math.Exp(sigma*p.rng.NormFloat64()-sigma*sigma/2)
	}
	sum := 0.0
	for range h.order {
		sum += p.rng.ExpFloat64()
	}
	return math.Max(0.3, p.gapMean*sum/float64(h.order))
}

// weekly is what he spends a week by habit, in cents.
func (p *customer) weekly() int64 {
	w := p.basket * 7 / p.gapMean
	if p.habit == seasonal {
		w *= p.seasonOn / p.season
	}
	return int64(w)
}

// poisson draws from a Poisson law of a small mean.
func poisson(rng *rand.Rand, mean float64) int {
	if mean <= 0 {
		return 0
	}
	limit, prod, n := math.Exp(-mean), rng.Float64(), 0
	for prod > limit && n < 50 {
		prod *= rng.Float64()
		n++
	}
	return n
}

// hour draws a time of the day as a fraction: mostly between seven in the morning and eleven at night, sometimes at any hour.
func hour(rng *rand.Rand) float64 {
	if rng.Float64() < 0.06 {
		return rng.Float64()
	}
	return (7 + 16*(rng.Float64()+rng.Float64())/2) / 24
}
