package customer

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"

	"ebb/stream/event"
)

// StepKind is what happened to a complaint.
type StepKind uint8

// The steps of a complaint that its clocks are made of. The numbers are stored.
const (
	StepAsked      StepKind = iota + 1 // the customer inquired
	StepOpened                         // it became a complaint
	StepReopened                       // it was opened again after its end
	StepAssigned                       // a group took it; Arg is the group's hash
	StepReassigned                     // it was passed on; Arg is the hash of the group that got it, 0 for one that is not named
	StepPaused                         // from now on it waits for the customer
	StepResumed                        // it does not wait for him any more
	StepReplied                        // the customer wrote
	StepAnswered                       // staff answered
	StepPromised                       // staff promised something; Arg is until when
	StepResolved                       // it ended
	StepRated                          // the customer rated it; Arg is the score in 1/10000

	lastStep = StepRated
)

// Step is one step of a complaint.
type Step struct {
	At   int64 // ms
	Arg  int64
	Kind StepKind
}

// Pending reports whether it says that a complaint was opened again whose end is not known: until that comes, nothing follows from it.
func (s Step) Pending(c *Complaint) bool { return s.Kind == StepReopened && s.At > c.Opened }

func (s Step) compare(o Step) int {
	return cmp.Or(cmp.Compare(s.At, o.At), cmp.Compare(s.Kind, o.Kind), cmp.Compare(s.Arg, o.Arg))
}

// Case is what is known of a complaint beside its times.
type Case struct {
	// Steps are in the order of their times, whatever the order of their arrival, so that what comes late changes everything that follows from it.
	// At most MaxSteps, and MaxAllSteps of all complaints.
	Steps []Step
	// Group is the name of the group that has the complaint since GroupAt, "" where none was named.
	Group   string
	GroupAt int64
	// Category is the hash of what the complaint is about, 0 where that was not said. Before is when the customer's last complaint
	// of the same category ended before this one was opened, 0 for none that is remembered.
	Category uint32
	Before   int64
	// Due is until when the complaint is to be resolved, as its source said; 0 where it said nothing.
	Due int64
	// Reassigned counts how often it was passed on. It saturates.
	Reassigned uint8
	// Inquiry: it is a question still, nobody complained.
	Inquiry bool
	// Short: steps were left out for want of room.
	Short bool

	// What the detectors noted, so that it is noted once.

	// Weighed: it was decided whether to warn early.
	Weighed bool
	// Judged: whether its target was met has been told to the population.
	Judged bool
	// Told: how long its whole cycle took has been told.
	Told bool
}

// Bounds of the steps that are kept.
const (
	MaxSteps    = 24
	MaxAllSteps = 512
)

// SatisfiedAfter is how long a complaint must have stayed resolved for its cycle to have ended, in milliseconds. So long it is kept.
const SatisfiedAfter = 7 * dayMs

// maxGroup is the longest name of a group that is kept, in bytes.
const maxGroup = 32

// argBits is the length of an argument of a step that is not a time.
const argBits = 41

// Hash is what stands for a group or a category: of texts that differ it differs, for all practical purposes. It is never 0.
func Hash(name []byte) int64 { return int64(xxhash.Sum64(name)>>(64-argBits) | 1) }

// Rated returns the newest score that the customer gave, in 1/10000, and when; at is 0 if he gave none.
func (c *Complaint) Rated() (score event.Money, at int64) {
	for i := len(c.Case.Steps) - 1; i >= 0; i-- {
		if s := &c.Case.Steps[i]; s.Kind == StepRated {
			return event.Money(s.Arg), s.At
		}
	}
	return 0, 0
}

// GroupAtTime is the hash of the group that had the complaint at a time, 0 where none was named.
func (c *Complaint) GroupAtTime(at int64) int64 {
	group := int64(0)
	for i := range c.Case.Steps {
		switch s := &c.Case.Steps[i]; {
		case s.At > at:
			return group
		case s.Kind == StepAssigned || s.Kind == StepReassigned:
			group = s.Arg
		}
	}
	return group
}

// Promise is something that was promised to a customer.
type Promise struct {
	At, Due int64
	Kept    int64 // when it was answered or resolved, not after Due; 0 for never
}

// Promises returns what was promised in the course of a complaint, appended to out. A promise that was replaced by another before it
// was due is left out.
func (c *Complaint) Promises(out []Promise) []Promise {
	steps := c.Case.Steps
	for i := range steps {
		if steps[i].Kind != StepPromised {
			continue
		}
		p := Promise{At: steps[i].At, Due: steps[i].Arg}
		replaced := false
		for _, s := range steps[i+1:] {
			if s.At > p.Due {
				break
			}
			switch s.Kind {
			case StepAnswered, StepResolved:
				if p.Kept == 0 {
					p.Kept = s.At
				}
			case StepPromised:
				replaced = replaced || p.Kept == 0
			}
		}
		if !replaced {
			out = append(out, p)
		}
	}
	return out
}

// desk is what is remembered of complaints that are no longer kept, and of the days on which the customer had trouble.
type desk struct {
	days   []Trouble // by day
	broken []int64   // when promises were due that were not kept, ascending
	ends   []ended   // when complaints of a category ended, ascending
}

type ended struct {
	at       int64
	category uint32
}

// maxBroken and maxEnds bound the desk: the newest are kept.
const (
	maxBroken = 8
	maxEnds   = 8
)

// BrokenPromises counts the promises to the customer that were due in (from, to] and were not kept, in whatever complaint.
func (r *Record) BrokenPromises(from, to int64) int {
	n := 0
	count := func(due int64) {
		if due > from && due <= to {
			n++
		}
	}
	if r.desk != nil {
		for _, due := range r.desk.broken {
			count(due)
		}
	}
	var buf [MaxSteps]Promise
	for i := range r.Complaints {
		for _, p := range r.Complaints[i].Promises(buf[:0]) {
			if p.Kept == 0 {
				count(p.Due)
			}
		}
	}
	return n
}

// retire remembers what outlives a complaint that is about to be dropped.
func (r *Record) retire(c *Complaint) {
	var buf [MaxSteps]Promise
	for _, p := range c.Promises(buf[:0]) {
		if p.Kept == 0 && p.Due <= max(c.Resolved, r.Latest) {
			d := r.desked()
			d.broken = newest(d.broken, p.Due, cmp.Compare[int64], maxBroken)
		}
	}
	if c.Resolved != 0 && c.Case.Category != 0 {
		d := r.desked()
		d.ends = newest(d.ends, ended{c.Resolved, c.Case.Category}, ended.compare, maxEnds)
	}
}

func (r *Record) desked() *desk {
	if r.desk == nil {
		r.desk = &desk{}
	}
	return r.desk
}

func (e ended) compare(o ended) int {
	return cmp.Or(cmp.Compare(e.at, o.at), cmp.Compare(e.category, o.category))
}

// newest inserts into an ascending list, of which the last n are kept. What is in it already is not inserted again.
func newest[T any](list []T, v T, compare func(a, b T) int, n int) []T {
	i, found := slices.BinarySearchFunc(list, v, compare)
	if found {
		return list
	}
	list = slices.Insert(list, i, v)
	return slices.Delete(list, 0, max(0, len(list)-n))
}

// endedBefore is when the customer's last complaint of a category ended before a time, 0 for none.
func (r *Record) endedBefore(category uint32, at int64) int64 {
	last := int64(0)
	if r.desk != nil {
		for _, e := range r.desk.ends {
			if e.category == category && e.at < at {
				last = max(last, e.at)
			}
		}
	}
	for i := range r.Complaints {
		if c := &r.Complaints[i]; c.Case.Category == category && c.Resolved < at {
			last = max(last, c.Resolved)
		}
	}
	return last
}

// log takes a step into a complaint's course.
func (r *Record) log(c *Complaint, s Step) {
	c.begin()
	if !c.insert(s) {
		return
	}
	if s.Kind == StepReassigned {
		c.Case.Reassigned += min(1, ^uint8(0)-c.Case.Reassigned)
	}
	if len(c.Case.Steps) > MaxSteps {
		c.shorten()
	}
	all, longest := 0, c
	for i := range r.Complaints {
		n := len(r.Complaints[i].Case.Steps)
		if all += n; n > len(longest.Case.Steps) {
			longest = &r.Complaints[i]
		}
	}
	if all > MaxAllSteps {
		longest.shorten()
	}
}

func (c *Complaint) insert(s Step) bool {
	i, found := slices.BinarySearchFunc(c.Case.Steps, s, Step.compare)
	if found {
		return false
	}
	if len(c.Case.Steps) == cap(c.Case.Steps) {
		c.Case.Steps = grownBy(c.Case.Steps, 3)
	}
	c.Case.Steps = slices.Insert(c.Case.Steps, i, s)
	return true
}

// begin writes the first steps of a complaint that has none: of one to which nothing happened yet since its opening, or that was stored before steps
// were kept. Of the pauses of the latter only the sum is known: they are taken as one right after the opening.
func (c *Complaint) begin() {
	if len(c.Case.Steps) != 0 || c.Opened == 0 {
		return
	}
	first := StepOpened
	switch {
	case c.Case.Inquiry:
		first = StepAsked
	case c.Reopened != 0:
		first = StepReopened
	}
	c.insert(Step{At: c.Opened, Kind: first})
	if c.PausedFor != 0 {
		c.insert(Step{At: c.Opened, Kind: StepPaused})
		c.insert(Step{At: c.Opened + c.PausedFor, Kind: StepResumed})
	}
	if c.PausedAt != 0 {
		c.insert(Step{At: c.PausedAt, Kind: StepPaused})
	}
	if c.Responded != 0 {
		c.insert(Step{At: c.Responded, Kind: StepAnswered})
	}
	if c.Resolved != 0 {
		c.insert(Step{At: c.Resolved, Kind: StepResolved})
	}
}

// FirstSteps are the steps that stand for those of a complaint that has none: see Case.Steps.
func (c *Complaint) FirstSteps() []Step {
	x := *c
	x.begin()
	return x.Case.Steps
}

// shorten drops the oldest step that the clocks can do without, but for the first, and for the words of a customer who waits for an answer since. Where there are
// only pauses the first two become one as long as both; one that is told again, or is over with a reopening, says nothing.
func (c *Complaint) shorten() {
	c.Case.Short = true
	steps := c.Case.Steps
	waits := c.waiting()
	var pauses []int // begun, ended, begun, and so on
	if steps[0].Kind == StepPaused {
		pauses = append(pauses, 0)
	}
	for i := 1; i < len(steps)-1; i++ {
		switch kind := steps[i].Kind; kind {
		case StepPaused, StepResumed:
			if paused := len(pauses)%2 == 1; paused == (kind == StepPaused) {
				c.Case.Steps = slices.Delete(steps, i, i+1)
				return
			}
			pauses = append(pauses, i)
		case StepReopened:
			if steps[i].Pending(c) {
				continue
			}
			if n := len(pauses); n > 0 && pauses[n-1] > 0 {
				c.Case.Steps = slices.Delete(steps, pauses[n-1], pauses[n-1]+1)
				return
			}
			pauses = nil
		case StepOpened, StepPromised:
		default:
			if i == waits {
				continue
			}
			c.Case.Steps = slices.Delete(steps, i, i+1)
			return
		}
	}
	if len(pauses) < 4 {
		i := 1
		if i == waits {
			i++
		}
		c.Case.Steps = slices.Delete(steps, i, i+1)
		return
	}
	steps[pauses[1]].At += steps[pauses[3]].At - steps[pauses[2]].At
	steps = slices.Delete(steps, pauses[3], pauses[3]+1)
	c.Case.Steps = slices.Delete(steps, pauses[2], pauses[2]+1)
	slices.SortFunc(c.Case.Steps, Step.compare)
}

// waiting is the index of the step with which the customer first wrote since the last answer, -1 if nobody has to answer.
func (c *Complaint) waiting() int {
	at := -1
	for i := range c.Case.Steps {
		s := &c.Case.Steps[i]
		if s.Pending(c) {
			continue
		}
		switch s.Kind {
		case StepAnswered, StepResolved, StepReopened, StepOpened:
			at = -1
		case StepReplied:
			if at < 0 {
				at = i
			}
		}
	}
	return at
}

// settle computes from the steps what follows from them: the first response, and the pauses. A response that was left out for want of room stays the first.
func (c *Complaint) settle() {
	if len(c.Case.Steps) == 0 {
		return
	}
	known := c.Responded
	c.Responded, c.PausedAt, c.PausedFor = 0, 0, 0
	for i := range c.Case.Steps {
		s := &c.Case.Steps[i]
		if c.Resolved != 0 && s.At > c.Resolved {
			break
		}
		if s.Pending(c) {
			continue
		}
		at := max(s.At, c.Opened)
		switch s.Kind {
		case StepAnswered:
			if c.Responded == 0 && s.At >= c.Opened {
				c.Responded = s.At
			}
		case StepPaused:
			if c.PausedAt == 0 {
				c.PausedAt = at
			}
		case StepReopened: // whatever lasted ended with the complaint
			c.PausedAt, c.PausedFor = 0, 0
		case StepResumed, StepResolved:
			if c.PausedAt != 0 {
				c.PausedFor += max(0, at-c.PausedAt)
				c.PausedAt = 0
			}
		}
	}
	if c.Case.Short && known >= c.Opened && (c.Resolved == 0 || known <= c.Resolved) {
		c.Responded = earlier(c.Responded, known)
	}
}

// join folds the case of the same complaint, as another record knows it, into this one.
func (c *Complaint) join(o *Complaint) {
	x, y := &c.Case, &o.Case
	if len(y.Steps) != 0 {
		c.begin()
	}
	for _, s := range y.Steps {
		c.insert(s)
	}
	for len(x.Steps) > MaxSteps {
		c.shorten()
	}
	if y.GroupAt > x.GroupAt {
		x.Group, x.GroupAt = y.Group, y.GroupAt
	}
	x.Category, x.Before, x.Due = max(x.Category, y.Category), max(x.Before, y.Before), max(x.Due, y.Due)
	x.Reassigned = max(x.Reassigned, y.Reassigned)
	x.Inquiry, x.Short = x.Inquiry && y.Inquiry, x.Short || y.Short
	x.Weighed, x.Judged, x.Told = x.Weighed || y.Weighed, x.Judged || y.Judged, x.Told || y.Told
}

// fitSteps drops steps until all complaints together have as many as allowed.
func (r *Record) fitSteps() {
	for {
		all, longest := 0, -1
		for i := range r.Complaints {
			n := len(r.Complaints[i].Case.Steps)
			if all += n; longest < 0 || n > len(r.Complaints[longest].Case.Steps) {
				longest = i
			}
		}
		if all <= MaxAllSteps {
			return
		}
		r.Complaints[longest].shorten()
	}
}

// casesPart is the stored form of the cases and the desk.
type casesPart struct{}

const (
	caseInquiry = 1 << iota
	caseShort
	caseWeighed
	caseJudged
	caseTold
	caseGroup
	caseCategory
	caseDue
	caseReassigned

	allCaseFlags = caseReassigned<<1 - 1
)

func (c *Case) flags() uint64 {
	f := uint64(0)
	for i, is := range [...]bool{
		c.Inquiry, c.Short, c.Weighed, c.Judged, c.Told, c.GroupAt != 0 || c.Group != "", c.Category != 0 || c.Before != 0, c.Due != 0, c.Reassigned != 0,
	} {
		if is {
			f |= 1 << i
		}
	}
	return f
}

func (casesPart) has(r *Record) bool {
	if r.desk != nil {
		return true
	}
	for i := range r.Complaints {
		if c := &r.Complaints[i].Case; len(c.Steps) != 0 || c.flags() != 0 {
			return true
		}
	}
	return false
}

func (casesPart) append(dst []byte, r *Record) []byte {
	for i := range r.Complaints {
		dst = appendCase(dst, &r.Complaints[i])
	}
	d := r.desk
	if d == nil {
		d = &desk{}
	}
	dst = appendUvarint(dst, uint64(len(d.broken)))
	for _, due := range d.broken {
		dst = appendVarint(dst, due)
	}
	dst = appendUvarint(dst, uint64(len(d.ends)))
	for _, e := range d.ends {
		dst = appendUvarint(appendVarint(dst, e.at), uint64(e.category))
	}
	return appendTrouble(dst, d.days)
}

func appendCase(dst []byte, k *Complaint) []byte {
	c := &k.Case
	dst = appendUvarint(dst, c.flags())
	if c.GroupAt != 0 || c.Group != "" {
		dst = appendVarint(appendText(dst, c.Group), c.GroupAt)
	}
	if c.Category != 0 || c.Before != 0 {
		dst = appendVarint(appendUvarint(dst, uint64(c.Category)), c.Before)
	}
	if c.Due != 0 {
		dst = appendVarint(dst, c.Due)
	}
	if c.Reassigned != 0 {
		dst = append(dst, c.Reassigned)
	}
	dst = appendUvarint(dst, uint64(len(c.Steps)))
	at := k.Opened
	for _, s := range c.Steps {
		dst = appendVarint(append(dst, byte(s.Kind)), s.At-at)
		at = s.At
		switch s.Kind {
		case StepPromised:
			dst = appendVarint(dst, s.Arg-s.At)
		case StepAssigned, StepReassigned, StepRated:
			dst = appendVarint(dst, s.Arg)
		}
	}
	return dst
}

func (casesPart) decode(d *decoder, r *Record) {
	for i := range r.Complaints {
		d.caseOf(&r.Complaints[i])
	}
	if n := d.count(d.uvarint(), 1); n != 0 {
		r.desked().broken = d.times(min(n, maxBroken+1), maxBroken)
	}
	n := d.count(d.uvarint(), 2)
	d.bad = d.bad || n > maxEnds
	for i := 0; i < n && !d.bad; i++ {
		e := ended{at: d.varint()}
		category := d.uvarint()
		x := r.desked()
		d.bad = d.bad || category > 1<<32-1 || i > 0 && x.ends[i-1].compare(ended{e.at, uint32(category)}) >= 0
		e.category = uint32(category)
		x.ends = append(x.ends, e)
	}
	if n := d.count(d.uvarint(), 2); n != 0 {
		d.trouble(r.desked(), n)
	}
}

// times reads n ascending times, of which there may be as many as most.
func (d *decoder) times(n, most int) []int64 {
	d.bad = d.bad || n > most
	var list []int64
	for i := 0; i < n && !d.bad; i++ {
		list = append(list, d.varint())
		d.bad = d.bad || i > 0 && list[i] <= list[i-1]
	}
	return list
}

func (d *decoder) caseOf(k *Complaint) {
	c := &k.Case
	f := d.uvarint()
	d.bad = d.bad || f > allCaseFlags
	for i, to := range [...]*bool{&c.Inquiry, &c.Short, &c.Weighed, &c.Judged, &c.Told} {
		*to = f&(1<<i) != 0
	}
	if f&caseGroup != 0 {
		c.Group, c.GroupAt = d.text(), d.varint()
	}
	if f&caseCategory != 0 {
		category := d.uvarint()
		d.bad = d.bad || category > 1<<32-1
		c.Category, c.Before = uint32(category), d.varint()
	}
	if f&caseDue != 0 {
		c.Due = d.varint()
	}
	if f&caseReassigned != 0 {
		c.Reassigned = d.byte()
	}
	n := d.count(d.uvarint(), 2)
	d.bad = d.bad || n > MaxSteps
	if n == 0 || d.bad {
		return
	}
	c.Steps = make([]Step, 0, n+1)
	at := k.Opened
	for range n {
		s := Step{Kind: StepKind(d.byte()), At: at + d.varint()}
		switch at = s.At; s.Kind {
		case StepPromised:
			s.Arg = s.At + d.varint()
		case StepAssigned, StepReassigned, StepRated:
			s.Arg = d.varint()
		}
		d.bad = d.bad || s.Kind == 0 || s.Kind > lastStep || len(c.Steps) > 0 && c.Steps[len(c.Steps)-1].compare(s) >= 0
		if d.bad {
			return
		}
		c.Steps = append(c.Steps, s)
	}
}

// join takes over what the other's desk remembers; the cases were joined with their complaints.
func (casesPart) join(r, o *Record, _ *Params) {
	r.fitSteps()
	if o.desk == nil {
		return
	}
	d := r.desked()
	for _, due := range o.desk.broken {
		d.broken = newest(d.broken, due, cmp.Compare[int64], maxBroken)
	}
	for _, e := range o.desk.ends {
		d.ends = newest(d.ends, e, ended.compare, maxEnds)
	}
	for i := range o.desk.days {
		d.addTrouble(&o.desk.days[i])
	}
}

func (casesPart) size(r *Record) int {
	n := 0
	for i := range r.Complaints {
		n += cap(r.Complaints[i].Case.Steps)*stepBytes + len(r.Complaints[i].Case.Group)
	}
	if r.desk != nil {
		n += deskBytes + cap(r.desk.broken)*8 + cap(r.desk.ends)*endedBytes + cap(r.desk.days)*troubleBytes
	}
	return n
}
