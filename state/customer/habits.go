package customer

import (
	"unicode/utf8"
	"unsafe"

	"ebb/stream/event"
)

// Habit is what a customer pays for, or is paid, again and again: a category, a product, or what is paid by itself. It has a rhythm of its own.
type Habit struct {
	Kind     HabitKind
	Name     string // at most 40 bytes
	Currency event.Currency
	Rhythm   Rhythm // Spent is what was paid, or came in
}

// HabitKind is what a habit is about.
type HabitKind uint8

// The kinds. The numbers are stored.
const (
	HabitCategory  HabitKind = iota + 1 // of purchases
	HabitProduct                        // of purchases that name no category
	HabitRecurring                      // payments that belong to a series, and name neither
	HabitIncome                         // money that comes in: deposits and transfers, by category

	lastHabit = HabitIncome
)

var habitNames = [...]string{HabitCategory: "category", HabitProduct: "product", HabitRecurring: "recurring", HabitIncome: "income"}

func (k HabitKind) String() string {
	if k == 0 || k > lastHabit {
		return ""
	}
	return habitNames[k]
}

const (
	// MaxHabits is how many habits are kept: the four that count most, and two that may become so.
	MaxHabits = 6
	// maxHabitName is the longest name of a habit, in bytes.
	maxHabitName = 40
	// habitDays is the half-life, in days, of what a habit is worth where there is no room for all.
	habitDays = 90
	// ofHabit is the least number of days after which it is one, and a new name does not take its place.
	ofHabit = 3
)

// habits have fixed places: an alert is about what is at a place.
type habits struct {
	at [MaxHabits]Habit // Kind 0: free
}

// Habits are the customer's, by their places; those without a kind are none. nil where none are kept. They must not be changed.
func (r *Record) Habits() []Habit {
	if r.habits == nil {
		return nil
	}
	return r.habits.at[:]
}

// habitOf is which habit an event belongs to: its kind, 0 for none, and its name in the event's memory.
func habitOf(e *event.Event) (HabitKind, []byte) {
	switch e.Kind {
	case event.KindPurchase, event.KindCharge:
		if e.Amount <= 0 || e.Initiator > event.InitiatorCustomer && !e.Recurring {
			return 0, nil
		}
		switch {
		case len(e.Category) != 0:
			return HabitCategory, clipped(e.Category)
		case len(e.Product) != 0:
			return HabitProduct, clipped(e.Product)
		case e.Recurring:
			return HabitRecurring, nil
		}
	case event.KindDeposit, event.KindTransferIn:
		if e.Amount > 0 && e.Initiator != event.InitiatorBank && (e.Recurring || len(e.Category) != 0) {
			return HabitIncome, clipped(e.Category)
		}
	}
	return 0, nil
}

// clipped is a name, cut without splitting a character.
func clipped(name []byte) []byte {
	if len(name) <= maxHabitName {
		return name
	}
	n := maxHabitName
	for n > 0 && !utf8.RuneStart(name[n]) {
		n--
	}
	return name[:n]
}

// noteHabit takes a payment into the habit that it belongs to. Where there is no room, it takes the place of the one that was worth least lately: of those that are none yet, whatever
// they were worth; of habits, if it alone is worth more.
func (r *Record) noteHabit(e *event.Event, p *Params) {
	kind, name := habitOf(e)
	if kind == 0 {
		return
	}
	if r.habits == nil {
		r.habits = &habits{}
	}
	day := r.localDay(max(e.Time, 1), p)
	x, found := r.habits.find(kind, name, e.Currency, day, e.Amount)
	switch {
	case x == nil:
		return
	case !found:
		*x = Habit{Kind: kind, Name: string(name), Currency: e.Currency}
	}
	x.Rhythm.add(day, e.Amount, habitDays, func() neighbours { return x.Rhythm.beside(day) })
}

// worth is the decayed sum of what was paid, as of a day.
func (h *Habit) worth(day int32) float64 {
	return float64(h.Rhythm.DecayedSpend) * decay(max(float64(day-int32(h.Rhythm.Last)), 0), habitDays)
}

// find is the habit of a name, or the place that is to be taken by one that is not there, nil for none.
func (s *habits) find(kind HabitKind, name []byte, currency event.Currency, day int32, amount event.Money) (x *Habit, found bool) {
	var free, least *Habit
	for i := range s.at {
		x := &s.at[i]
		switch {
		case x.Kind == kind && x.Name == string(name) && x.Currency == currency:
			return x, true
		case x.Kind == 0:
			if free == nil {
				free = x
			}
		case least == nil || x.before(least, day):
			least = x
		}
	}
	switch {
	case free != nil:
		return free, false
	case least.Rhythm.Count >= ofHabit && least.worth(day) >= float64(amount)/float64(event.MoneyUnit):
		return nil, false
	}
	return least, false
}

// before reports whether a habit has to go before another.
func (h *Habit) before(o *Habit, day int32) bool {
	if a, b := h.Rhythm.Count < ofHabit, o.Rhythm.Count < ofHabit; a != b {
		return a
	}
	return h.worth(day) < o.worth(day)
}

// beside says of a late day what a rhythm knows by itself: its last days. Of one between those and the first it takes the gap that it lies in for a usual one.
func (h *Rhythm) beside(day int32) neighbours {
	n := neighbours{before: -1, after: -1}
	last := int32(h.Last)
	days := [...]int32{last, last - int32(h.Gap), last - int32(h.Gap) - int32(h.GapBefore), int32(h.First)}
	if oldest, first := days[2], days[3]; int(h.Count) > len(days) && first < day && day < oldest {
		usual := int32(h.MeanGap() + 0.5)
		before := max(first, day-usual/2)
		return neighbours{before: before, after: min(before+usual, oldest), known: usual < 2}
	}
	for _, d := range days {
		switch {
		case d == day:
			n.known = true
		case d < day:
			n.before = max(n.before, d)
		case n.after < 0 || d < n.after:
			n.after = d
		}
	}
	return n
}

// habitsPart keeps habits in the record.
type habitsPart struct{}

var _ part = habitsPart{}

func (habitsPart) has(r *Record) bool { return r.habits != nil }

// append writes which places are taken, and for each its kind, name, currency and rhythm.
func (habitsPart) append(dst []byte, r *Record) []byte {
	taken := byte(0)
	for i := range r.habits.at {
		if r.habits.at[i].Kind != 0 {
			taken |= 1 << i
		}
	}
	dst = append(dst, taken)
	for i := range r.habits.at {
		h := &r.habits.at[i]
		if h.Kind == 0 {
			continue
		}
		dst = append(appendText(append(dst, byte(h.Kind)), h.Name), h.Currency[:]...)
		dst = h.Rhythm.append(dst)
	}
	return dst
}

func (habitsPart) decode(d *decoder, r *Record) {
	taken := d.byte()
	d.bad = d.bad || taken == 0 || taken>>MaxHabits != 0
	s := &habits{}
	for i := range s.at {
		if taken&(1<<i) == 0 || d.bad {
			continue
		}
		h := &s.at[i]
		h.Kind = HabitKind(d.byte())
		h.Name = d.text()
		if len(d.b)-d.at < len(h.Currency) {
			d.bad = true
			return
		}
		d.at += copy(h.Currency[:], d.b[d.at:])
		d.rhythm(&h.Rhythm)
		d.bad = d.bad || h.Kind == 0 || h.Kind > lastHabit || len(h.Name) > maxHabitName || h.Rhythm.Count == 0
	}
	r.habits = s
}

// join adds the habits of the other, those that are worth most first, as far as there is room.
func (habitsPart) join(r, o *Record, _ *Params) {
	if o.habits == nil {
		return
	}
	if r.habits == nil {
		own := *o.habits
		r.habits = &own
		return
	}
	named := r.namedHabits()
	for i := range o.habits.at {
		if h := &o.habits.at[i]; h.Kind != 0 {
			r.habits.join(h, named)
		}
	}
}

// aboutHabit is the detector whose alerts name the place of a habit as their cause.
const aboutHabit = "partial_lapse"

// namedHabits are the places that an open alert, or what one foretold, is about.
func (r *Record) namedHabits() (named [MaxHabits]bool) {
	name := func(place uint8) {
		if place != 0 && place <= MaxHabits {
			named[place-1] = true
		}
	}
	for i := range r.Lifecycles {
		if l := &r.Lifecycles[i]; l.Detector == aboutHabit {
			name(l.Cause)
		}
	}
	for _, p := range r.Predictions() {
		name(p.Habit)
	}
	return named
}

// join takes in a habit of another customer. Where there is no room it takes the place of the one that was worth least, if that was less, and nothing is said of it.
func (s *habits) join(o *Habit, named [MaxHabits]bool) {
	least := -1
	for i := range s.at {
		x := &s.at[i]
		switch {
		case x.Kind == 0:
			*x = *o
			return
		case x.Kind == o.Kind && x.Name == o.Name && x.Currency == o.Currency:
			x.Rhythm.join(&o.Rhythm, habitDays)
			return
		case named[i]:
		case least < 0 || x.worth(int32(max(x.Rhythm.Last, o.Rhythm.Last))) < s.at[least].worth(int32(max(s.at[least].Rhythm.Last, o.Rhythm.Last))):
			least = i
		}
	}
	if least < 0 {
		return
	}
	x := &s.at[least]
	if day := int32(max(x.Rhythm.Last, o.Rhythm.Last)); o.worth(day) > x.worth(day) {
		*x = *o
	}
}

func (habitsPart) size(r *Record) int {
	n := int(unsafe.Sizeof(habits{}))
	for i := range r.habits.at {
		n += len(r.habits.at[i].Name)
	}
	return n
}
