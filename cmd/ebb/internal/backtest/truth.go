package backtest

import (
	"cmp"
	"slices"
	"sort"

	"ebb/detectors"
	"ebb/state/customer"
	"ebb/stream/event"
)

// leastDays is how many active days a customer needs before his silence says anything.
const leastDays = 3

// Truth is what happened: the active days of every customer. What counts as activity is decided for the history as a whole: a
// purchase where payments make more than half of the records, else any event of the customer's own. A history of complaints alone has none:
// that somebody does not complain is no silence.
type Truth struct {
	Purchases bool // activity is a purchase
	None      bool // there is neither use nor money: nothing that could fall silent
	Accounts  int  // customers of whom a balance is known
	EndDay    int32
	FirstDay  int32

	rates  *detectors.Rates
	places map[place]*place
	people map[string]*person
	list   []*person // by id
}

// person is one customer.
type person struct {
	id        string
	index     int32 // into Truth.list
	days      []activeDay
	cum       []event.Money // spend up to and with days[i], in the reporting currency
	cancelled []int64       // when the customer said that he leaves: cancelled a subscription, or ended the relation
	balances  []balance     // of his account, in the order of time, in the reporting currency
	places    []moved       // in the order of time
	tier      string        // of the newest profile
	tierAt    int64
}

// activeDay is a day (UTC) on which the customer did something.
type activeDay struct {
	day         int32
	first, last int64 // event times of the day's first and last activity
	spend       event.Money
	bought      bool
}

func newTruth(rates *detectors.Rates) *Truth {
	return &Truth{rates: rates, people: map[string]*person{}}
}

// observe takes one event in. Events may come in any order.
func (t *Truth) observe(ev *event.Event) {
	p := t.people[string(ev.Customer)]
	if p == nil {
		p = &person{id: string(ev.Customer)}
		t.people[p.id] = p
		t.list = append(t.list, p)
	}
	if ev.Balanced {
		p.balances = append(p.balances, balance{ev.Time, ev.Balance, ev.Currency})
	}
	switch {
	case ev.Profile != nil:
		if ev.Time >= p.tierAt {
			p.tier, p.tierAt = ev.Profile.Tier, ev.Time
		}
		p.places = append(p.places, moved{ev.Time, t.placeOf(ev.Profile)})
		if ev.Profile.Status == customer.StatusClosed {
			p.cancelled = append(p.cancelled, ev.Time)
		}
		return
	case ev.Kind == event.KindSubscriptionCancelled:
		p.cancelled = append(p.cancelled, ev.Time)
		return
	case ev.Feed != event.Complaints && !ev.IsActivity():
		return
	}
	a := activeDay{day: dayOf(ev.Time), first: ev.Time, last: ev.Time}
	amount, known := t.rates.Convert(ev.Currency, ev.Amount)
	switch {
	case ev.Kind == event.KindPurchase:
		a.bought = ev.Amount > 0
		if known {
			a.spend = amount
		}
	case ev.Kind == event.KindRefund && known:
		a.spend = -amount
	}
	if n := len(p.days); n > 0 && p.days[n-1].day == a.day && p.days[n-1].bought == a.bought {
		p.days[n-1].add(&a)
		return
	}
	p.days = append(p.days, a)
}

func (d *activeDay) add(a *activeDay) {
	d.first, d.last = min(d.first, a.first), max(d.last, a.last)
	d.spend, _ = d.spend.Add(a.spend)
	d.bought = d.bought || a.bought
}

func dayOf(ms int64) int32 {
	if ms < 0 {
		return int32((ms - dayMs + 1) / dayMs)
	}
	return int32(ms / dayMs)
}

// close puts everything into order and decides what activity is.
func (t *Truth) close(h *History) {
	records := 0
	for _, n := range h.ByFeed {
		records += n
	}
	purchases := h.Types[event.Payments.String()+"/"+event.KindPurchase.String()]
	t.Purchases = purchases > 0 && 2*h.ByFeed[event.Payments] > records-h.ByFeed[event.Customers]
	t.None = h.ByFeed[event.Usage]+h.ByFeed[event.Payments] == 0
	t.FirstDay, t.EndDay = dayOf(h.From), dayOf(h.To)
	slices.SortFunc(t.list, func(a, b *person) int { return cmp.Compare(a.id, b.id) })
	for i, p := range t.list {
		p.index = int32(i)
		p.close(t.Purchases)
		p.closePlaces()
		if p.closeAccount(t.rates); len(p.balances) != 0 {
			t.Accounts++
		}
	}
}

// close merges the events of a day, and leaves days out that do not count. Money of such days (refunds) goes to the day before.
func (p *person) close(purchases bool) {
	slices.SortStableFunc(p.days, func(a, b activeDay) int {
		return cmp.Or(cmp.Compare(a.day, b.day), -event.CompareBool(a.bought, b.bought))
	})
	slices.Sort(p.cancelled)
	out := p.days[:0]
	for i := range p.days {
		d := p.days[i]
		switch n := len(out); {
		case purchases && !d.bought:
			if n > 0 {
				out[n-1].spend, _ = out[n-1].spend.Add(d.spend)
			}
		case n > 0 && out[n-1].day == d.day:
			out[n-1].add(&d)
		default:
			out = append(out, d)
		}
	}
	p.days = slices.Clip(out)
	p.cum = make([]event.Money, len(p.days))
	sum := event.Money(0)
	for i := range p.days {
		sum, _ = sum.Add(p.days[i].spend)
		p.cum[i] = sum
	}
}

// upTo is the index of the first active day after a day.
func (p *person) upTo(day int32) int {
	return sort.Search(len(p.days), func(i int) bool { return p.days[i].day > day })
}

// spent is what the customer spent on the days (after, to].
func (p *person) spent(after, to int32) event.Money {
	return p.before(p.upTo(to)) - p.before(p.upTo(after))
}

func (p *person) before(i int) event.Money {
	if i == 0 {
		return 0
	}
	return p.cum[i-1]
}

// active reports whether there was activity after a time and not later than another.
func (p *person) active(after, to int64) bool {
	i := sort.Search(len(p.days), func(i int) bool { return p.days[i].last > after })
	return i < len(p.days) && p.days[i].first <= to
}

// cancelledWithin reports whether the customer cancelled after a time and not later than another.
func (p *person) cancelledWithin(after, to int64) bool {
	i := sort.Search(len(p.cancelled), func(i int) bool { return p.cancelled[i] > after })
	return i < len(p.cancelled) && p.cancelled[i] <= to
}
