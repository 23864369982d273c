package customer

import (
	"slices"

	"ebb/stream/event"
)

// MaxEncoded is the most that a stored record takes, in bytes. The caps of Params keep it.
const MaxEncoded = 256 << 10

// Record is one customer. Times are Unix milliseconds of event time, and 0 means never. It belongs to one goroutine.
//
// The zero value with an ID is a customer of whom nothing is known yet.
type Record struct {
	// ID is the customer's id: the key that the record is stored under, and therefore no part of its stored form.
	// DecodeRecord leaves it as it is.
	ID string

	First        int64 // of the first event of any kind
	Latest       int64 // of the newest event of any kind
	LastActivity int64 // of the newest activity
	Cancelled    int64 // subscription_cancelled, until the customer comes back
	Decided      int64 // event time of the newest alert step

	// Deadline is when the detectors want to be asked again, 0 for never. Armed is the time under which the timers
	// hold the customer; it may be earlier, and the entry is then dropped when it comes up.
	Deadline, Armed int64

	Usage      []UsageDay       // by day
	Spend      []SpendDay       // by day, then currency
	Currencies []event.Currency // what SpendDay.Currency points into; the zero value is the reporting currency
	Seen       []SeenID         // remembered event ids, in the order of arrival
	Complaints []Complaint      // open ones, and closed ones until they are no longer needed
	Lifecycles []Lifecycle      // open alerts

	// Lapsed: long gone and no longer news. Alerts about the customer as a whole start again after new activity only.
	Lapsed bool
	// Quarantined: too many of this customer's records failed inside ebb. Nothing is applied or decided any more.
	Quarantined bool
	// Poison counts records of this customer that failed inside ebb.
	Poison uint8

	rare *rare // what few customers have

	rhythms  *keptRhythms // nil where none are kept
	desk     *desk        // nil for most
	drops    *keptDrops   // nil where none are kept
	fired    *fired       // nil where no alert was told and is over
	bills    *bills       // nil where nothing is owed
	account  *account     // nil where no balance is known
	offers   *Offers      // nil for who never bought under one
	habits   *habits      // nil where no payment names what it is for
	tierFall *TierFall    // nil for who never left one of the best tiers

	tendency tendency // not stored: it follows from the rest
}

// UsageDay is the use of one local day.
type UsageDay struct {
	Day      int32       // local day number
	Count    uint32      // uses; an aggregate counts as one on each of its days
	Quantity event.Money // in 1/10000 of the usage records' unit
}

// SpendDay is the customer's own spending of one local day in one currency.
type SpendDay struct {
	key       uint32 // day<<8 | index into Record.Currencies
	Purchases uint16 // saturates
	Refunds   uint16 // saturates
	Amount    event.Money
}

// Day returns the local day number.
func (d SpendDay) Day() int32 { return int32(d.key >> 8) }

// Currency returns the index into Record.Currencies.
func (d SpendDay) Currency() int { return int(d.key & 0xff) }

// SeenID is a remembered event id.
type SeenID struct {
	Hash   uint64
	Minute uint32 // event time in minutes since 1970
}

// Complaint is the timeline of one complaint.
type Complaint struct {
	ID        string
	Opened    int64 // or last reopened; 0 for a complaint that was resolved without having been opened
	Responded int64 // first response since Opened
	Resolved  int64 // 0 while open
	PausedAt  int64 // start of the pause that lasts, 0 for none
	PausedFor int64 // milliseconds of earlier pauses
	Reopened  uint16
	Priority  event.Priority
	Level     uint8 // escalation level
	// Muted: the complaint was overdue long before the history ended; it is not alerted any more.
	Muted bool

	Case Case
}

// Open reports whether the complaint waits for its resolution.
func (c *Complaint) Open() bool { return c.Opened != 0 && c.Resolved == 0 }

// Lifecycle is one episode of one detector and subject: an open alert. It is kept while the alert is open; a detector sees
// by it that it fires already.
type Lifecycle struct {
	Detector  string
	Subject   string // complaint id, or "" for the customer as a whole
	AlertID   [16]byte
	FiredAt   int64 // event time at which it fired
	Since     int64 // when the condition began
	ChangedAt int64 // event time of the newest step
	Revision  uint32
	Day       int32 // local day that was judged
	Severity  uint8
	Cause     uint8 // the detector's own: which of its conditions fired
	// Unpublished: it fired within the quiet history, or is told within another alert; nobody was told of it by itself.
	Unpublished bool
	Observed    event.Money
	Expected    event.Money
	AtRisk      event.Money
	Work        *Work // what people did about it; nil: nothing
	// Probability is that what the alert foretells comes true, in 1/1000; 0 for one that names none.
	Probability uint16
	// HorizonDays is how far ahead it looks, 0 for as far as is configured.
	HorizonDays uint16
	// Host is the open alert of the same customer within which this one is told; zero: it is told by itself. One that has a host is Unpublished.
	Host [16]byte
	// Cohort is the alert about a cohort of customers within which this one is, or was, held back; nil: it never was.
	Cohort *Cohort
}

// Overflows counts what the caps of the record cost this customer.
type Overflows struct {
	Seen       uint32 // ids forgotten before their time: a repetition of them would count twice
	Complaints uint32 // complaints forgotten while open
	Currencies uint32 // payments that were left out of the spend for want of room for their currency
	Lifecycles uint32 // alerts that could not start
	TooOld     uint32 // events older than the windows
}

// Blind is a stretch of a feed in which records of this customer could not be read.
type Blind struct {
	Since int64 // time of the first unreadable record
	Last  int64 // time of the newest
	Until int64 // time of the first good record after Last, 0 while there is none
}

type rare struct {
	mergedInto string // the customer who goes on, "" for most
	zone       string // own time zone, "" for the default
	nextZone   string // zone from nextFrom on
	nextFrom   int64  // 0 for no change
	profileAt  int64
	profile    event.Profile
	overflows  Overflows
	blind      *[event.NumFeeds]Blind // nil for most
	recalled   []Lifecycle            // nil for almost all
	acts       *acts                  // nil for almost all
}

func (r *Record) rarely() *rare {
	if r.rare == nil {
		r.rare = &rare{}
	}
	return r.rare
}

// Profile returns the customer's profile, or nil if none is known. It must not be changed.
func (r *Record) Profile() *event.Profile {
	if r.rare == nil || r.rare.profileAt == 0 {
		return nil
	}
	return &r.rare.profile
}

// ProfileAt returns the time of the profile, 0 if none is known.
func (r *Record) ProfileAt() int64 {
	if r.rare == nil {
		return 0
	}
	return r.rare.profileAt
}

// CountLifecycleOverflow counts an alert that could not start because too many are open.
func (r *Record) CountLifecycleOverflow() { r.rarely().overflows.Lifecycles++ }

// Overflows returns what the caps of the record cost so far.
func (r *Record) Overflows() Overflows {
	if r.rare == nil {
		return Overflows{}
	}
	return r.rare.overflows
}

// MarkBlind notes that a record of the customer in the feed could not be read, at the given time.
func (r *Record) MarkBlind(f event.Feed, at int64) {
	x := r.rarely()
	if x.blind == nil {
		x.blind = new([event.NumFeeds]Blind)
	}
	b := &x.blind[f]
	if b.Since == 0 || b.Until != 0 && at > b.Until {
		*b = Blind{Since: at, Last: at}
		return
	}
	b.Since, b.Last, b.Until = min(b.Since, at), max(b.Last, at), 0
}

// Blind returns the newest blind stretch of the feed; its Since is 0 if there is none. A stretch that ended is kept for the
// time of the windows' baseline, because money may be missing in it.
func (r *Record) Blind(f event.Feed) Blind {
	if r.rare == nil || r.rare.blind == nil {
		return Blind{}
	}
	return r.rare.blind[f]
}

// IsBlind reports whether the newest record of the customer in any feed could not be read.
func (r *Record) IsBlind() bool {
	if r.rare == nil || r.rare.blind == nil {
		return false
	}
	for i := range r.rare.blind {
		if r.rare.blind[i].Since != 0 && r.rare.blind[i].Until == 0 {
			return true
		}
	}
	return false
}

// sighted ends a blind stretch: a record of the feed was read again. Stretches older than blindKept are dropped.
func (r *Record) sighted(f event.Feed, at int64) {
	if r.rare == nil || r.rare.blind == nil {
		return
	}
	b := &r.rare.blind[f]
	switch {
	case b.Since == 0:
	case b.Until == 0 && at >= b.Last:
		b.Until = at
	case b.Until != 0 && at-b.Until > blindKept:
		*b = Blind{}
	}
}

// blindKept is how long the end of a blind stretch is remembered: longer than any window that a detector looks at.
const blindKept = 91 * dayMs

// Closed reports whether the customer relation has ended: the record was merged into another, or the profile has the status
// closed, merged or erased.
func (r *Record) Closed() bool {
	if r.rare == nil {
		return false
	}
	if r.rare.mergedInto != "" {
		return true
	}
	switch r.rare.profile.Status {
	case StatusClosed, StatusMerged, StatusErased:
		return true
	}
	return false
}

// Profile statuses that end the relation with the customer.
const (
	StatusClosed = "closed"
	StatusMerged = "merged"
	StatusErased = "erased"
)

// Lifecycle returns the index of the open alert of the detector and subject, or -1.
func (r *Record) Lifecycle(detector, subject string) int {
	for i := range r.Lifecycles {
		if l := &r.Lifecycles[i]; l.Detector == detector && l.Subject == subject {
			return i
		}
	}
	return -1
}

// Rewind forgets everything but the alerts that somebody was told of (those that are open, and the times of those that are over), what they foretold and what people
// decided, and that the customer moved down: of a topic of profiles often the newest alone is left. What else is known of the customer is to be computed anew. It reports whether anything is left.
func (r *Record) Rewind() bool {
	told := r.Recalled()
	for i := range r.Lifecycles {
		if l := r.Lifecycles[i]; !l.Unpublished {
			l.Cohort = nil
			told = append(told, l)
		}
	}
	var known *acts
	if r.rare != nil {
		known = r.rare.acts
	}
	*r = Record{ID: r.ID, fired: r.fired, tierFall: r.tierFall}
	if len(told) != 0 || known != nil {
		r.rare = &rare{recalled: told, acts: known}
	}
	return r.rare != nil || r.fired != nil || r.tierFall != nil
}

// Recalled are the alerts that were open, and told, when the record was rewound. They say nothing of the customer as he is known by now; whoever ends the
// quiet history compares. The slice must not be changed.
func (r *Record) Recalled() []Lifecycle {
	if r.rare == nil {
		return nil
	}
	return r.rare.recalled
}

// DropRecalled removes the recalled alert of an index.
func (r *Record) DropRecalled(i int) {
	x := r.rare
	if x.recalled = slices.Delete(x.recalled, i, i+1); len(x.recalled) != 0 {
		return
	}
	x.recalled = nil
	r.dropRare()
}

// dropRare gives the memory of what few customers have back, once nothing of it is left.
func (r *Record) dropRare() {
	x := r.rare
	if x.mergedInto == "" && x.zone == "" && x.nextZone == "" && x.nextFrom == 0 && x.profileAt == 0 && x.blind == nil && x.overflows == (Overflows{}) &&
		x.recalled == nil && x.acts == nil {
		r.rare = nil
	}
}

// HasUnpublished reports whether an alert is open that nobody was told of, by itself or within another, or one is recalled: the end of the quiet history has
// something to say.
func (r *Record) HasUnpublished() bool {
	if len(r.Recalled()) != 0 {
		return true
	}
	for i := range r.Lifecycles {
		if l := &r.Lifecycles[i]; l.Unpublished && !l.Guest() && !l.HeldBack() {
			return true
		}
	}
	return false
}

// Size estimates the memory that the record takes, in bytes, itself and its id included.
func (r *Record) Size() int {
	n := recordBytes + len(r.ID) + (cap(r.Usage)+cap(r.Spend)+cap(r.Seen))*dayBytes + cap(r.Currencies)*3 +
		cap(r.Complaints)*complaintBytes + cap(r.Lifecycles)*lifecycleBytes
	for i := range r.Complaints {
		n += len(r.Complaints[i].ID)
	}
	for i := range r.Lifecycles {
		n += len(r.Lifecycles[i].Subject)
	}
	if x := r.rare; x != nil {
		p := &x.profile
		n += rareBytes + len(x.mergedInto) + len(x.zone) + len(x.nextZone) + len(p.Tier) + len(p.Segment) + len(p.Region) + len(p.Owner) + len(p.Product) +
			len(p.Plan) + len(p.Source) + len(p.Status) + len(p.TimeZone) + len(p.Language) + len(p.Schedule)
		if x.blind != nil {
			n += blindBytes
		}
		n += len(x.recalled) * lifecycleBytes
	}
	return n + r.partsSize()
}

// reset empties the record but keeps its id and the memory of its slices.
func (r *Record) reset() {
	*r = Record{
		ID: r.ID, Usage: r.Usage[:0], Spend: r.Spend[:0], Currencies: r.Currencies[:0], Seen: r.Seen[:0],
		Complaints: r.Complaints[:0], Lifecycles: r.Lifecycles[:0],
	}
}
