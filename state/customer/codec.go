package customer

import (
	"encoding/binary"
	"errors"
	"math"

	"ebb/stream/event"
)

// The stored form. A record with parts (see part) has version 3, else one that was merged into another version 2, and all others version 1; each is the
// one before with one thing more at its end. Numbers are varints, signed ones zigzag; times are differences to one told before.
//
//	version      1 byte
//	flags        which of the parts below are there
//	First, Latest-First, [Armed-Latest]            EncodedDeadline reads up to here
//	[Deadline-Latest] [LastActivity-Latest] [Cancelled-Latest] [Decided-Latest] [Poison]
//	base day     relative to the UTC day of First
//	usage        5*n + decimals, then for each day: day since the one before << 1 | (count is 1), [count], quantity
//	currencies   n, then 3 bytes each
//	spend        5*n + decimals, then for each: day since the one before << 1 | (one purchase), [purchases, refunds], [currency], amount
//	seen ids     n, then for each: 8 bytes of hash, minutes before Latest
//	[complaints] [lifecycles] [rare] [merged into]
//	[parts       a bit set, then the body of each, lowest bit first]
//
// "decimals" is how many powers of ten all amounts of the list have in common, 0 to 4: most money has two decimals out of four.
const (
	codecVersion       = 3 // the newest
	codecVersionMerged = 2
	codecVersionCommon = 1
)

// Errors of DecodeRecord.
var (
	// ErrNewerVersion: the record was written by a newer ebb.
	ErrNewerVersion = errors.New("customer record was written by a newer version of ebb")
	// ErrCorrupt: the bytes are no record.
	ErrCorrupt = errors.New("customer record is damaged")
)

const (
	flagArmed         = 1 << iota
	flagDeadline      // told on its own
	flagDeadlineArmed // the same as Armed
	flagLastActivity
	flagLapsed
	flagQuarantined
	flagComplaints
	flagLifecycles
	flagRare
	flagCancelled
	flagDecided
	flagPoison
	flagMerged
	flagParts

	allFlags = flagParts<<1 - 1
)

// AppendRecord appends the stored form. The same record always gives the same bytes.
func AppendRecord(dst []byte, r *Record) []byte {
	version, flags, parts := byte(codecVersionCommon), r.flags(), r.partBits()
	switch {
	case parts != 0:
		version, flags = codecVersion, flags|flagParts
	case flags&flagMerged != 0:
		version = codecVersionMerged
	}
	dst = append(dst, version)
	dst = appendUvarint(dst, flags)
	dst = appendUvarint(dst, uint64(r.First))
	dst = appendVarint(dst, r.Latest-r.First)
	dst = appendTime(dst, r.Armed, r.Latest)
	if r.Deadline != r.Armed {
		dst = appendTime(dst, r.Deadline, r.Latest)
	}
	dst = appendTime(dst, r.LastActivity, r.Latest)
	dst = appendTime(dst, r.Cancelled, r.Latest)
	dst = appendTime(dst, r.Decided, r.Latest)
	if r.Poison != 0 {
		dst = append(dst, r.Poison)
	}
	dst = appendUsage(dst, r.Usage, dayOfFirst(r.First))
	dst = appendUvarint(dst, uint64(len(r.Currencies)))
	for i := range r.Currencies {
		dst = append(dst, r.Currencies[i][:]...)
	}
	dst = appendSpend(dst, r.Spend, dayOfFirst(r.First), len(r.Currencies) > 1)
	dst = appendUvarint(dst, uint64(len(r.Seen)))
	latest := int64(minute(r.Latest))
	for i := range r.Seen {
		dst = binary.LittleEndian.AppendUint64(dst, r.Seen[i].Hash)
		dst = appendVarint(dst, latest-int64(r.Seen[i].Minute))
	}
	if len(r.Complaints) != 0 {
		dst = appendComplaints(dst, r)
	}
	if len(r.Lifecycles)+len(r.Recalled()) != 0 {
		dst = appendLifecycles(dst, r)
	}
	if r.rare != nil {
		dst = appendRare(dst, r.rare)
	}
	if into := r.MergedInto(); into != "" {
		dst = appendText(dst, into)
	}
	if parts != 0 {
		dst = appendParts(dst, r, parts)
	}
	return dst
}

func (r *Record) flags() uint64 {
	f := uint64(0)
	set := func(is bool, flag uint64) {
		if is {
			f |= flag
		}
	}
	set(r.Armed != 0, flagArmed)
	set(r.Deadline != 0 && r.Deadline != r.Armed, flagDeadline)
	set(r.Deadline != 0 && r.Deadline == r.Armed, flagDeadlineArmed)
	set(r.LastActivity != 0, flagLastActivity)
	set(r.Lapsed, flagLapsed)
	set(r.Quarantined, flagQuarantined)
	set(len(r.Complaints) != 0, flagComplaints)
	set(len(r.Lifecycles)+len(r.Recalled()) != 0, flagLifecycles)
	set(r.rare != nil, flagRare)
	set(r.Cancelled != 0, flagCancelled)
	set(r.Decided != 0, flagDecided)
	set(r.Poison != 0, flagPoison)
	set(r.MergedInto() != "", flagMerged)
	return f
}

// appendTime writes a time that a flag says is there.
func appendTime(dst []byte, t, base int64) []byte {
	if t == 0 {
		return dst
	}
	return appendVarint(dst, t-base)
}

func dayOfFirst(first int64) int64 { return first / dayMs }

func appendUsage(dst []byte, days []UsageDay, base int64) []byte {
	d := 4
	for i := range days {
		d = decimals(d, days[i].Quantity)
	}
	dst = appendUvarint(dst, uint64(len(days)*5+d))
	for i := range days {
		u := &days[i]
		if i == 0 {
			dst = appendVarint(dst, int64(u.Day)-base)
			base = int64(u.Day)
		}
		head := uint64(int64(u.Day)-base) << 1
		base = int64(u.Day)
		if u.Count == 1 {
			dst = appendUvarint(dst, head|1)
		} else {
			dst = appendUvarint(dst, head)
			dst = appendUvarint(dst, uint64(u.Count))
		}
		dst = appendVarint(dst, unscaled(u.Quantity, d))
	}
	return dst
}

func appendSpend(dst []byte, days []SpendDay, base int64, several bool) []byte {
	d := 4
	for i := range days {
		d = decimals(d, days[i].Amount)
	}
	dst = appendUvarint(dst, uint64(len(days)*5+d))
	for i := range days {
		s := &days[i]
		day := int64(s.Day())
		if i == 0 {
			dst = appendVarint(dst, day-base)
			base = day
		}
		head := uint64(day-base) << 1
		base = day
		if s.Purchases == 1 && s.Refunds == 0 {
			dst = appendUvarint(dst, head|1)
		} else {
			dst = appendUvarint(dst, head)
			dst = appendUvarint(dst, uint64(s.Purchases))
			dst = appendUvarint(dst, uint64(s.Refunds))
		}
		if several {
			dst = append(dst, byte(s.Currency()))
		}
		dst = appendVarint(dst, unscaled(s.Amount, d))
	}
	return dst
}

var tens = [5]int64{1, 10, 100, 1000, 10000}

// decimals is how many of the powers of ten up to the d-th divide the amount. It is written out, as is unscaled, because
// division by a constant is ten times faster.
func decimals(d int, m event.Money) int {
	switch {
	case d == 4 && m%10000 == 0:
		return 4
	case d >= 3 && m%1000 == 0:
		return 3
	case d >= 2 && m%100 == 0:
		return 2
	case d >= 1 && m%10 == 0:
		return 1
	}
	return 0
}

// unscaled is an amount without the powers of ten that its list has in common.
func unscaled(m event.Money, d int) int64 {
	switch d {
	case 4:
		return int64(m / 10000)
	case 3:
		return int64(m / 1000)
	case 2:
		return int64(m / 100)
	case 1:
		return int64(m / 10)
	}
	return int64(m)
}

// appendUvarint is binary.AppendUvarint with the shortest numbers, which are most, inlined.
func appendUvarint(dst []byte, v uint64) []byte {
	if v < 0x80 {
		return append(dst, byte(v))
	}
	return binary.AppendUvarint(dst, v)
}

func appendVarint(dst []byte, v int64) []byte { return appendUvarint(dst, uint64(v<<1)^uint64(v>>63)) }

func appendComplaints(dst []byte, r *Record) []byte {
	dst = appendUvarint(dst, uint64(len(r.Complaints)))
	for i := range r.Complaints {
		c := &r.Complaints[i]
		dst = appendText(dst, c.ID)
		dst = appendVarint(dst, c.Opened)
		dst = appendVarint(dst, nonzero(c.Responded, c.Opened))
		dst = appendVarint(dst, nonzero(c.Resolved, c.Opened))
		dst = appendVarint(dst, nonzero(c.PausedAt, c.Opened))
		dst = appendVarint(dst, c.PausedFor)
		dst = appendUvarint(dst, uint64(c.Reopened))
		muted := byte(0)
		if c.Muted {
			muted = 0x80
		}
		dst = append(dst, byte(c.Priority)|muted, c.Level)
	}
	return dst
}

// nonzero writes a time after base as a difference from 1 on, and 0 as 0. Times before base are told as negative differences.
func nonzero(t, base int64) int64 {
	switch {
	case t == 0:
		return 0
	case t >= base:
		return t - base + 1
	default:
		return t - base
	}
}

func fromNonzero(d, base int64) int64 {
	switch {
	case d == 0:
		return 0
	case d > 0:
		return base + d - 1
	default:
		return base + d
	}
}

func appendLifecycles(dst []byte, r *Record) []byte {
	recalled := r.Recalled()
	dst = appendUvarint(dst, uint64(len(r.Lifecycles)+len(recalled)))
	dst = appendAlerts(dst, r.Lifecycles, 0)
	return appendAlerts(dst, recalled, lifecycleRecalled)
}

// What is said of a lifecycle in one byte.
const (
	lifecycleUnpublished = 1 << iota
	lifecycleRecalled
)

func appendAlerts(dst []byte, list []Lifecycle, flags byte) []byte {
	for i := range list {
		l := &list[i]
		dst = appendText(dst, l.Detector)
		dst = appendText(dst, l.Subject)
		dst = append(dst, l.AlertID[:]...)
		dst = appendVarint(dst, l.FiredAt)
		dst = appendVarint(dst, l.Since-l.FiredAt)
		dst = appendVarint(dst, l.ChangedAt-l.FiredAt)
		dst = appendUvarint(dst, uint64(l.Revision))
		told := flags
		if l.Unpublished {
			told |= lifecycleUnpublished
		}
		dst = append(dst, l.Severity, l.Cause, told)
		dst = appendVarint(dst, int64(l.Day))
		dst = appendVarint(dst, int64(l.Observed))
		dst = appendVarint(dst, int64(l.Expected))
		dst = appendVarint(dst, int64(l.AtRisk))
	}
	return dst
}

func appendRare(dst []byte, x *rare) []byte {
	dst = appendText(dst, x.zone)
	dst = appendText(dst, x.nextZone)
	dst = appendVarint(dst, x.nextFrom)
	dst = appendVarint(dst, x.profileAt)
	if x.profileAt != 0 {
		p := x.profile
		for _, s := range profileTexts(&p) {
			dst = appendText(dst, *s)
		}
		for _, v := range [...]int64{p.Since, p.ContractEnd, int64(p.CommittedSpend), int64(p.Margin)} {
			dst = appendVarint(dst, v)
		}
	}
	o := &x.overflows
	for _, v := range [...]uint32{o.Seen, o.Complaints, o.Currencies, o.Lifecycles, o.TooOld} {
		dst = appendUvarint(dst, uint64(v))
	}
	if x.blind == nil {
		return append(dst, 0)
	}
	dst = append(dst, byte(len(x.blind)))
	for i := range x.blind {
		b := &x.blind[i]
		dst = appendVarint(dst, b.Since)
		dst = appendVarint(dst, nonzero(b.Last, b.Since))
		dst = appendVarint(dst, nonzero(b.Until, b.Since))
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	dst = appendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// EncodedDeadline reads the time under which a stored record is armed, without decoding the rest; 0 for never, and for what
// is no record.
func EncodedDeadline(b []byte) int64 {
	d, flags, err := begin(b)
	if err != nil {
		return 0
	}
	latest := int64(d.uvarint())
	latest += d.varint()
	armed := d.time(flags&flagArmed, latest)
	if d.bad {
		return 0
	}
	return armed
}

// DecodeRecord reads a stored record into r, whose slices are used again and whose ID stays. The error is
// ErrNewerVersion or ErrCorrupt; r is then empty.
func DecodeRecord(b []byte, r *Record) error {
	d, flags, err := begin(b)
	r.reset()
	if err != nil {
		return err
	}
	r.Lapsed, r.Quarantined = flags&flagLapsed != 0, flags&flagQuarantined != 0
	r.First = int64(d.uvarint())
	r.Latest = r.First + d.varint()
	r.Armed = d.time(flags&flagArmed, r.Latest)
	r.Deadline = d.time(flags&flagDeadline, r.Latest)
	if flags&flagDeadlineArmed != 0 {
		r.Deadline = r.Armed
	}
	r.LastActivity = d.time(flags&flagLastActivity, r.Latest)
	r.Cancelled = d.time(flags&flagCancelled, r.Latest)
	r.Decided = d.time(flags&flagDecided, r.Latest)
	if flags&flagPoison != 0 {
		r.Poison = d.byte()
	}
	d.usage(r)
	d.currencies(r)
	d.spend(r)
	d.seen(r)
	if flags&flagComplaints != 0 {
		d.complaints(r)
	}
	var recalled []Lifecycle
	if flags&flagLifecycles != 0 {
		recalled = d.lifecycles(r)
	}
	if flags&flagRare != 0 {
		r.rare = d.rare()
	}
	if len(recalled) != 0 {
		r.rarely().recalled = recalled
	}
	if flags&flagMerged != 0 {
		r.rarely().mergedInto = d.text()
		d.bad = d.bad || r.rare.mergedInto == ""
	}
	if flags&flagParts != 0 && d.parts(r) {
		r.reset()
		return ErrNewerVersion
	}
	if d.bad || d.at != len(d.b) {
		r.reset()
		return ErrCorrupt
	}
	return nil
}

func begin(b []byte) (decoder, uint64, error) {
	if len(b) == 0 || b[0] == 0 {
		return decoder{}, 0, ErrCorrupt
	}
	if b[0] > codecVersion {
		return decoder{}, 0, ErrNewerVersion
	}
	d := decoder{b: b, at: 1}
	flags := d.uvarint()
	if flags > allFlags {
		d.bad = true
	}
	return d, flags, nil
}

// decoder reads numbers; once something is wrong it reads zeros.
type decoder struct {
	b   []byte
	at  int
	bad bool
}

func (d *decoder) uvarint() uint64 {
	if d.at < len(d.b) && d.b[d.at] < 0x80 {
		d.at++
		return uint64(d.b[d.at-1])
	}
	return d.longUvarint()
}

func (d *decoder) longUvarint() uint64 {
	v, n := binary.Uvarint(d.b[min(d.at, len(d.b)):])
	if n <= 0 {
		d.bad, d.at = true, len(d.b)
		return 0
	}
	d.at += n
	return v
}

func (d *decoder) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (d *decoder) byte() byte {
	if d.at >= len(d.b) {
		d.bad = true
		return 0
	}
	d.at++
	return d.b[d.at-1]
}

// time reads a time relative to base where the flag is set.
func (d *decoder) time(flag uint64, base int64) int64 {
	if flag == 0 {
		return 0
	}
	return base + d.varint()
}

// count reads the length of a list whose elements take at least size bytes each.
func (d *decoder) count(n uint64, size int) int {
	if n > uint64(len(d.b)-d.at)/uint64(size) {
		d.bad, d.at = true, len(d.b)
		return 0
	}
	return int(n)
}

func (d *decoder) text() string {
	n := d.uvarint()
	if n > uint64(len(d.b)-d.at) {
		d.bad, d.at = true, len(d.b)
		return ""
	}
	s := d.b[d.at : d.at+int(n)]
	d.at += int(n)
	return string(s)
}

// money reads an amount in units of 10^decimals.
func (d *decoder) money(decimals uint64) event.Money {
	v := d.varint()
	if decimals == 0 {
		return event.Money(v)
	}
	if l := largest[decimals]; v > l || v < -l {
		d.bad = true
		return 0
	}
	return event.Money(v * tens[decimals])
}

// largest is what an amount in units of a power of ten may be.
var largest = [5]int64{math.MaxInt64, math.MaxInt64 / 10, math.MaxInt64 / 100, math.MaxInt64 / 1000, math.MaxInt64 / 10000}

// day reads a step from one day to the next; the first of a list is relative to base.
func (d *decoder) day(first bool, base int64) (int64, bool) {
	if first {
		base += d.varint()
	}
	head := d.uvarint()
	day := base + int64(head>>1)
	if head>>1 > maxDay || day < -maxDay || day > maxDay {
		d.bad = true
		return 0, false
	}
	return day, head&1 != 0
}

// maxDay is the newest day that a SpendDay holds; day 0 is the oldest.
const maxDay = 1<<24 - 1

func (d *decoder) usage(r *Record) {
	head := d.uvarint()
	unit, n := head%5, d.count(head/5, 2)
	r.Usage = sized(r.Usage, n)
	day := dayOfFirst(r.First)
	for i := range n {
		var one bool
		before := day
		day, one = d.day(i == 0, day)
		u := UsageDay{Day: int32(day), Count: 1}
		if !one {
			c := d.uvarint()
			d.bad = d.bad || c > math.MaxUint32
			u.Count = uint32(c)
		}
		u.Quantity = d.money(unit)
		if d.bad || i > 0 && day <= before {
			d.bad = true
			return
		}
		r.Usage = append(r.Usage, u)
	}
}

func (d *decoder) currencies(r *Record) {
	n := d.count(d.uvarint(), 3)
	if n > MaxCurrencies {
		d.bad = true
		return
	}
	r.Currencies = sized(r.Currencies, n)
	for range n {
		r.Currencies = append(r.Currencies, event.Currency(d.b[d.at:d.at+3]))
		d.at += 3
	}
}

func (d *decoder) spend(r *Record) {
	head := d.uvarint()
	unit, n := head%5, d.count(head/5, 2)
	r.Spend = sized(r.Spend, n)
	day := dayOfFirst(r.First)
	for i := range n {
		var one bool
		day, one = d.day(i == 0, day)
		s := SpendDay{Purchases: 1}
		if !one {
			purchases, refunds := d.uvarint(), d.uvarint()
			d.bad = d.bad || purchases > math.MaxUint16 || refunds > math.MaxUint16
			s.Purchases, s.Refunds = uint16(purchases), uint16(refunds)
		}
		cur := byte(0)
		if len(r.Currencies) > 1 {
			cur = d.byte()
		}
		s.key = uint32(day)<<8 | uint32(cur)
		s.Amount = d.money(unit)
		if d.bad || day < 0 || int(cur) >= len(r.Currencies) || i > 0 && s.key <= r.Spend[i-1].key {
			d.bad = true
			return
		}
		r.Spend = append(r.Spend, s)
	}
}

func (d *decoder) seen(r *Record) {
	n := d.count(d.uvarint(), 9)
	r.Seen = sized(r.Seen, n)
	latest := int64(minute(r.Latest))
	for range n {
		if len(d.b)-d.at < 9 {
			d.bad = true
			return
		}
		h := binary.LittleEndian.Uint64(d.b[d.at:])
		d.at += 8
		m := latest - d.varint()
		d.bad = d.bad || m < 0 || m > math.MaxUint32
		r.Seen = append(r.Seen, SeenID{Hash: h, Minute: uint32(m)})
	}
}

func (d *decoder) complaints(r *Record) {
	n := d.count(d.uvarint(), 9)
	r.Complaints = sized(r.Complaints, n)
	for range n {
		c := Complaint{ID: d.text(), Opened: d.varint()}
		c.Responded = fromNonzero(d.varint(), c.Opened)
		c.Resolved = fromNonzero(d.varint(), c.Opened)
		c.PausedAt = fromNonzero(d.varint(), c.Opened)
		c.PausedFor = d.varint()
		reopened := d.uvarint()
		d.bad = d.bad || reopened > math.MaxUint16
		c.Reopened = uint16(reopened)
		p := d.byte()
		c.Priority, c.Muted = event.Priority(p&0x7f), p&0x80 != 0
		c.Level = d.byte()
		if d.bad {
			return
		}
		r.Complaints = append(r.Complaints, c)
	}
}

// lifecycles returns those that are recalled.
func (d *decoder) lifecycles(r *Record) (recalled []Lifecycle) {
	n := d.count(d.uvarint(), 28)
	r.Lifecycles = sized(r.Lifecycles, n)
	for range n {
		l := Lifecycle{Detector: intern(d.text()), Subject: d.text()}
		if len(d.b)-d.at < len(l.AlertID) {
			d.bad = true
			return nil
		}
		d.at += copy(l.AlertID[:], d.b[d.at:])
		l.FiredAt = d.varint()
		l.Since = l.FiredAt + d.varint()
		l.ChangedAt = l.FiredAt + d.varint()
		revision := d.uvarint()
		d.bad = d.bad || revision > math.MaxUint32
		l.Revision = uint32(revision)
		l.Severity, l.Cause = d.byte(), d.byte()
		told := d.byte()
		d.bad = d.bad || told > lifecycleUnpublished|lifecycleRecalled
		l.Unpublished = told&lifecycleUnpublished != 0
		day := d.varint()
		d.bad = d.bad || day > maxDay || day < -maxDay
		l.Day = int32(day)
		l.Observed, l.Expected, l.AtRisk = d.money(0), d.money(0), d.money(0)
		switch {
		case d.bad:
			return nil
		case told&lifecycleRecalled != 0:
			recalled = append(recalled, l)
		default:
			r.Lifecycles = append(r.Lifecycles, l)
		}
	}
	return recalled
}

func (d *decoder) rare() *rare {
	x := &rare{zone: d.text(), nextZone: d.text(), nextFrom: d.varint(), profileAt: d.varint()}
	if x.profileAt != 0 {
		p := &x.profile
		for _, s := range profileTexts(p) {
			*s = d.text()
		}
		p.Since, p.ContractEnd = d.varint(), d.varint()
		p.CommittedSpend, p.Margin = event.Money(d.varint()), event.Money(d.varint())
	}
	o := &x.overflows
	for _, v := range [...]*uint32{&o.Seen, &o.Complaints, &o.Currencies, &o.Lifecycles, &o.TooOld} {
		n := d.uvarint()
		d.bad = d.bad || n > math.MaxUint32
		*v = uint32(n)
	}
	n := int(d.byte())
	if n > event.NumFeeds {
		d.bad = true
	}
	for i := 0; i < n && !d.bad; i++ {
		if x.blind == nil {
			x.blind = new([event.NumFeeds]Blind)
		}
		b := Blind{Since: d.varint()}
		b.Last = fromNonzero(d.varint(), b.Since)
		b.Until = fromNonzero(d.varint(), b.Since)
		x.blind[i] = b
	}
	return x
}

// sized is an empty slice for n elements, in the memory of s if it is large enough. A little room is left for growth.
func sized[T any](s []T, n int) []T {
	if cap(s) >= n {
		return s[:0]
	}
	return make([]T, 0, n+1)
}

// intern gives the names of the plain detectors without memory of their own.
func intern(s string) string {
	for _, name := range [...]string{"spend_drop", "usage_drop", "silence", "complaint_unresolved", "friction", "payment_trouble", "outflow", "partial_lapse", "tier_drop"} {
		if s == name {
			return name
		}
	}
	return s
}
