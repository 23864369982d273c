package event

import (
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// Limits bounds what a Decoder accepts.
type Limits struct {
	// MaxRecordBytes is the size of the largest value; 0 is DefaultMaxRecordBytes. At most 1 GiB.
	MaxRecordBytes int
	// MaxFutureSkew is how far an event time may lie ahead of the wall clock, or of the record's timestamp where the broker
	// set it.
	MaxFutureSkew time.Duration
	// Now is the wall clock. It is asked only for a record that lies ahead of its last answer. nil: times are not compared
	// with the wall clock.
	Now func() time.Time
}

// DefaultMaxRecordBytes is the default of Limits.MaxRecordBytes.
const DefaultMaxRecordBytes = 1 << 20

const maxRecordBytes = 1 << 30

type keyMode uint8

const (
	keyChecked keyMode = iota
	keyCustomer
	keyIgnored
)

type timeFormat uint8

const (
	timeRFC3339 timeFormat = iota
	timeEpochS
	timeEpochMS
	timeLayout
)

// Decoder reads the records of one feed. It is not safe for concurrent use: each task has its own for each feed.
type Decoder struct {
	scanner
	feed Feed
	root node
	base plan

	key              keyMode
	ignoreTombstones bool

	rules    map[string]*rule
	other    *rule // for types that are not in rules; nil = unknown_type
	lastType string
	last     *rule // the rule of lastType: most records of a feed have the same type as the one before

	priorities map[string]Priority
	outcomes   map[string]Outcome
	initiators map[string]Initiator
	actors     map[string]Actor

	timeFormat        timeFormat
	layout            string
	zone              *time.Location // of times that name none; nil = refused
	timestampFallback bool

	decimalComma bool
	digits       []byte // scratch: the number that was read last, with a point

	signed     bool
	minorUnits bool
	decimals   int // of minor units; -1 = those of the currency
	decimalsOf map[Currency]int

	maxBytes int
	maxSkew  int64
	now      func() time.Time
	horizon  int64 // the last answer of now + maxSkew

	typeKey []byte // scratch
	hashed  []byte // scratch: feed byte and id
	arena   []byte // unescaped text; only appended to, so that what was given out stays
}

func newDecoder(feed Feed, lim Limits) *Decoder {
	d := &Decoder{
		feed: feed, rules: map[string]*rule{}, now: lim.Now, maxSkew: lim.MaxFutureSkew.Milliseconds(), maxBytes: lim.MaxRecordBytes,
		horizon: math.MinInt64, hashed: []byte{byte(feed)},
	}
	if d.maxBytes <= 0 {
		d.maxBytes = DefaultMaxRecordBytes
	}
	d.maxBytes = min(d.maxBytes, maxRecordBytes)
	for f := range d.base {
		d.base[f].minus = -1
	}
	return d
}

// Decode reads one record into e, whose content is lost. The error is nil, ErrIgnored, or a *Reject; unless it is nil, e
// is not to be used. value nil is a tombstone; key nil is a record without a key.
func (d *Decoder) Decode(pos Position, key, value []byte, e *Event) error {
	*e = Event{Feed: d.feed}
	d.found, d.buf = 0, value
	r := d.decode(&pos, key, value, e)
	switch {
	case r == nil:
		return nil
	case r.Reason == reasonIgnored:
		return ErrIgnored
	default:
		r.Customer = d.hint(key)
		return r
	}
}

// reasonIgnored is the reason of ErrIgnored inside the decoder.
const reasonIgnored Reason = ""

func refuse(reason Reason, message string) *Reject { return &Reject{Reason: reason, Message: message} }

// ignored is shared: nothing is ever written to it.
var ignored = &Reject{Reason: reasonIgnored}

// decode is the order in which a record is judged: bytes, JSON, type (an ignored one needs nothing else), customer, time,
// and what its feed has beside.
func (d *Decoder) decode(pos *Position, key, value []byte, e *Event) *Reject {
	switch {
	case value == nil && d.ignoreTombstones:
		return ignored
	case value == nil:
		return refuse(ReasonNullValue, "the value is null, and this feed defines no tombstones")
	case len(value) > d.maxBytes:
		return refuse(ReasonRecordTooLarge, fmt.Sprintf("the value has %d bytes, more than the limit of %d", len(value), d.maxBytes))
	}
	if f := d.scan(value, &d.root); f != faultNone {
		return d.syntax(f)
	}
	if d.high && !utf8.Valid(value) {
		return refuse(ReasonInvalidUTF8, "the value is not valid UTF-8")
	}
	if d.unknown {
		e.Notes |= NoteUnknownField
	}
	ru, r := d.rule()
	if r != nil {
		return r
	}
	if ru.ignore {
		return ignored
	}
	e.Kind = ru.kind
	e.Notes |= ru.notes
	p := ru.plan
	if r := d.customer(p, key, e); r != nil {
		return r
	}
	if r := d.time(p, pos, e); r != nil {
		return r
	}
	d.id(p, pos, e)
	switch d.feed {
	case Usage:
		return d.usage(p, e)
	case Payments:
		return d.payment(p, e)
	case Complaints:
		return d.complaint(p, e)
	case Customers:
		return d.profile(p, e)
	default:
		return d.control(p, e)
	}
}

// syntax names a fault of the scanner.
func (d *Decoder) syntax(f fault) *Reject {
	if f == faultEnd {
		return refuse(ReasonTruncated, "the JSON object ends too early")
	}
	if !utf8.Valid(d.buf) {
		return refuse(ReasonInvalidUTF8, "the value is not valid UTF-8")
	}
	switch f {
	case faultRoot:
		return refuse(ReasonNotJSON, "the value is not a JSON object")
	case faultDepth:
		return refuse(ReasonNotJSON, "the value is nested deeper than "+strconv.Itoa(maxDepth))
	default:
		return refuse(ReasonNotJSON, "the value is not JSON")
	}
}

// state of a field's value.
type state uint8

const (
	absent state = iota
	present
	invalid // an object or array where a scalar is wanted
)

// text returns a field's value as text: that of a string, or a number or boolean as it is written. null and the empty
// string are absent. It is split so that the many fields that a record does not have cost no call.
func (d *Decoder) text(s *source) ([]byte, state) {
	if d.found&s.mask == 0 {
		return s.constant, s.otherwise
	}
	return d.first(s)
}

// first returns the first value of a field's slots.
func (d *Decoder) first(s *source) ([]byte, state) {
	for _, slot := range s.slots {
		if b, st := d.slot(slot); st != absent {
			return b, st
		}
	}
	return nil, absent
}

func (d *Decoder) slot(slot int8) ([]byte, state) {
	v := &d.spans[slot&(maxSlots-1)]
	switch {
	case d.found&(1<<slot) == 0 || v.kind == valueNull:
		return nil, absent
	case v.kind == valueComposite:
		return nil, invalid
	case v.kind == valueString && v.start == v.end:
		return nil, absent
	}
	b := d.buf[v.start:v.end:v.end]
	if v.escaped {
		b = d.unescaped(b)
	}
	return b, present
}

// decimal is text for a decimal number, in the form that parseDecimal reads.
func (d *Decoder) decimal(s *source) ([]byte, state) {
	if !d.decimalComma || d.found&s.mask == 0 {
		return d.text(s)
	}
	for _, slot := range s.slots {
		if b, st := d.decimalSlot(slot); st != absent {
			return b, st
		}
	}
	return nil, absent
}

func (d *Decoder) decimalSlot(slot int8) ([]byte, state) {
	b, st := d.slot(slot)
	if st != present || !d.decimalComma || d.spans[slot&(maxSlots-1)].kind != valueString {
		return b, st
	}
	var ok bool
	if d.digits, ok = appendPointed(d.digits[:0], b); !ok {
		return nil, invalid
	}
	return d.digits, present
}

const arenaBytes = 4096

func (d *Decoder) unescaped(b []byte) []byte {
	if cap(d.arena)-len(d.arena) < len(b) { // never longer unescaped than escaped
		d.arena = make([]byte, 0, max(arenaBytes, len(b)))
	}
	start := len(d.arena)
	d.arena = unescape(d.arena, b)
	return d.arena[start:len(d.arena):len(d.arena)]
}

// rule finds what to do with the record's type.
func (d *Decoder) rule() (*rule, *Reject) {
	if len(d.rules) == 0 {
		return d.other, nil // usage and customers without a types table
	}
	s := &d.base[fieldType]
	b, st := d.text(s)
	if st == invalid {
		return nil, refuse(ReasonUnknownType, "type is an object or an array")
	}
	if st == absent && d.feed != Usage {
		return nil, refuse(ReasonTypeMissing, "type is missing, null or empty")
	}
	if len(s.and) > 0 {
		if r := d.rules[string(d.joined(b, s.and))]; r != nil {
			return r, nil
		}
	}
	if d.last != nil && string(b) == d.lastType {
		return d.last, nil
	}
	r := d.rules[string(b)]
	if r == nil {
		r = d.other
	}
	if r == nil {
		return nil, refuse(ReasonUnknownType, "neither the contract nor the mapping knows the type")
	}
	if r != d.other {
		d.last, d.lastType = r, string(b)
	}
	return r, nil
}

// joined returns the type with the values of and behind it.
func (d *Decoder) joined(b []byte, and []int8) []byte {
	d.typeKey = append(d.typeKey[:0], b...)
	for _, slot := range and {
		if v, st := d.slot(slot); st == present {
			d.typeKey = append(d.typeKey, '/')
			d.typeKey = append(d.typeKey, v...)
		}
	}
	return d.typeKey
}

// customer reads the customer id and compares it with the key.
func (d *Decoder) customer(p *plan, key []byte, e *Event) *Reject {
	b, st := d.text(&p[fieldCustomer])
	checked := d.key != keyIgnored && key != nil
	switch {
	case st == invalid || st == present && d.isBool(&p[fieldCustomer], b):
		return refuse(ReasonCustomerInvalid, "customer_id is neither text nor a number")
	case st == absent && d.key == keyCustomer && len(key) > 0:
		if !utf8.Valid(key) {
			return refuse(ReasonInvalidUTF8, "the key, which is the customer id, is not valid UTF-8")
		}
		b = key
	case st == absent && e.Kind.ofNobody():
		return nil
	case st == absent:
		return refuse(ReasonCustomerMissing, "customer_id is missing, null or empty")
	case checked && string(b) != string(key):
		return refuse(ReasonCustomerKeyMismatch, "customer_id differs from the record's key")
	}
	if len(b) > MaxCustomerBytes {
		return refuse(ReasonCustomerTooLong, fmt.Sprintf("customer_id has %d bytes, more than %d", len(b), MaxCustomerBytes))
	}
	e.Customer = b
	return nil
}

// isBool reports whether the text b of a field was written as true or false, without quotes.
func (d *Decoder) isBool(s *source, b []byte) bool {
	if string(b) != "true" && string(b) != "false" {
		return false
	}
	for _, slot := range s.slots {
		if _, st := d.slot(slot); st == present {
			return d.spans[slot].kind == valueBool
		}
	}
	return false // a constant
}

// hint returns whom a refused record concerns, as far as that can be told. The key is believed before the value: it says
// in whose partition the record lies.
func (d *Decoder) hint(key []byte) string {
	if d.key != keyIgnored && isCustomer(key) {
		return string(key)
	}
	s := &d.base[fieldCustomer]
	b, st := d.text(s)
	if st != present || d.isBool(s, b) || !isCustomer(b) {
		return ""
	}
	return string(b)
}

func isCustomer(b []byte) bool { return len(b) > 0 && len(b) <= MaxCustomerBytes && utf8.Valid(b) }

// id reads the id and hashes it; the position stands in for a missing one.
func (d *Decoder) id(p *plan, pos *Position, e *Event) {
	b, st := d.text(&p[fieldID])
	d.hashed = d.hashed[:1]
	if st == present {
		e.ID = b
		d.hashed = append(d.hashed, b...)
	} else {
		e.Notes |= NoteNoID
		d.hashed = append(d.hashed, pos.Topic...)
		d.hashed = append(d.hashed, '/')
		d.hashed = strconv.AppendInt(d.hashed, int64(pos.Partition), 10)
		d.hashed = append(d.hashed, '/')
		d.hashed = strconv.AppendInt(d.hashed, pos.Offset, 10)
	}
	e.IDHash = xxhash.Sum64(d.hashed)
}

// time reads the event time.
func (d *Decoder) time(p *plan, pos *Position, e *Event) *Reject {
	b, st := d.text(&p[fieldTime])
	var reason Reason
	switch {
	case st == invalid:
		reason = ReasonTimeInvalid
	case st == present:
		e.Time, reason = d.moment(b)
	case d.timestampFallback && pos.Timestamp >= 0:
		e.Time, reason = inRange(pos.Timestamp)
	default:
		reason = ReasonTimeMissing
	}
	if reason != "" {
		return refuse(reason, d.timeMessage(reason))
	}
	if d.inFuture(e.Time, pos) {
		return refuse(ReasonTimeInFuture, "time lies too far ahead of the clock")
	}
	return nil
}

// timeMessage says what is wrong with a time, and what it is by the configuration that another form would have to be told to.
func (d *Decoder) timeMessage(reason Reason) string {
	switch reason {
	case ReasonTimeMissing:
		return "time is missing, null or empty"
	case ReasonTimeWithoutZone:
		return "time has no zone, such as Z or +01:00; mapping.time.zone of the feed says which one holds then"
	case ReasonTimeOutOfRange:
		return "time is before the year 1970 or after 9999"
	}
	switch d.timeFormat {
	case timeEpochS:
		return "time is not a count of seconds since 1970, as mapping.time.format of the feed says (epoch_s)"
	case timeEpochMS:
		return "time is not a count of milliseconds since 1970, as mapping.time.format of the feed says (epoch_ms)"
	case timeLayout:
		return "time is not written as " + strconv.Quote(d.layout) + ", the layout that mapping.time.format of the feed names"
	}
	return "time is not in the form of RFC 3339, such as 2026-01-31T14:30:00Z; mapping.time.format of the feed names another form"
}

func (d *Decoder) inFuture(ms int64, pos *Position) bool {
	if pos.BrokerTime {
		return ms > pos.Timestamp+d.maxSkew
	}
	if d.now == nil || ms <= d.horizon {
		return false
	}
	d.horizon = d.now().UnixMilli() + d.maxSkew
	return ms > d.horizon
}

// moment reads a time in the form of the feed.
func (d *Decoder) moment(b []byte) (int64, Reason) {
	switch d.timeFormat {
	case timeEpochS:
		return epoch(b, 3)
	case timeEpochMS:
		return epoch(b, 0)
	case timeLayout:
		return d.laidOut(b)
	}
	ms, reason := parseRFC3339(b)
	if reason == ReasonTimeWithoutZone && d.zone != nil {
		return inRange(inZone(time.UnixMilli(ms).UTC(), d.zone))
	}
	return ms, reason
}

// epoch reads a count of seconds (scale 3) or milliseconds (scale 0).
func epoch(b []byte, scale int) (int64, Reason) {
	ms, _, err := parseDecimal(b, scale)
	switch err {
	case nil:
		return inRange(ms)
	case ErrMoneyOverflow:
		return 0, ReasonTimeOutOfRange
	default:
		return 0, ReasonTimeInvalid
	}
}

// laidOut reads a time in the feed's layout. The string shares the record's bytes, since time.Parse takes a string and
// keeps none of it.
func (d *Decoder) laidOut(b []byte) (int64, Reason) {
	loc := d.zone
	if loc == nil {
		loc = time.UTC
	}
	t, err := time.ParseInLocation(d.layout, unsafe.String(unsafe.SliceData(b), len(b)), loc)
	if err != nil {
		return 0, ReasonTimeInvalid
	}
	return inRange(t.UnixMilli())
}

// inZone returns when the clocks of a zone show the date and time of t.
func inZone(t time.Time, loc *time.Location) int64 {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	return time.Date(year, month, day, hour, minute, second, t.Nanosecond(), loc).UnixMilli()
}

// enum reads a field of an enumeration; unknown is noted.
func enum[T ~uint8](d *Decoder, s *source, table map[string]T, names []string, unknown Notes, e *Event) T {
	b, st := d.text(s)
	if st == absent {
		return 0
	}
	if st == present {
		if table != nil {
			if v, ok := table[string(b)]; ok {
				return v
			}
		}
		if i, ok := parseEnum(names, b); ok {
			return T(i)
		}
	}
	e.Notes |= unknown
	return 0
}

func (d *Decoder) usage(p *plan, e *Event) *Reject {
	e.Quantity = d.optionalMoney(&p[fieldQuantity], e)
	if e.Quantity < 0 {
		e.Quantity = 0
		e.Notes |= NoteInvalidField
	}
	e.Outcome = enum(d, &p[fieldOutcome], d.outcomes, outcomeNames, NoteUnknownOutcome, e)
	e.Initiator = enum(d, &p[fieldInitiator], d.initiators, initiatorNames, NoteUnknownInitiator, e)
	if e.Aggregate = d.flag(&p[fieldAggregate], e); !e.Aggregate {
		return nil
	}
	var ok, endOK bool
	e.PeriodStart, ok = d.optionalTime(&p[fieldPeriodStart])
	e.PeriodEnd, endOK = d.optionalTime(&p[fieldPeriodEnd])
	length := e.PeriodEnd - e.PeriodStart
	if !ok || !endOK || length <= 0 || length > MaxPeriod {
		return refuse(ReasonPeriodInvalid, "an aggregate needs period_start and period_end after it, at most a year apart")
	}
	return nil
}

func (d *Decoder) payment(p *plan, e *Event) *Reject {
	b, st := d.text(&p[fieldCurrency])
	if st != absent {
		var ok bool
		if e.Currency, ok = parseCurrency(b); !ok {
			e.Currency = NoCurrency
			e.Notes |= NoteUnknownCurrency
		}
	}
	e.Initiator = enum(d, &p[fieldInitiator], d.initiators, initiatorNames, NoteUnknownInitiator, e)
	if r := d.amount(&p[fieldAmount], e); r != nil {
		return r
	}
	d.paymentDetails(p, e)
	return nil
}

// paymentDetails reads what a payment may tell beside its amount.
func (d *Decoder) paymentDetails(p *plan, e *Event) {
	e.Recurring = d.flag(&p[fieldRecurring], e)
	e.Attempt = uint16(d.number(&p[fieldAttempt], math.MaxUint16, e))
	e.NextAttempt, e.Due = d.timeOrNote(&p[fieldNextAttempt], e), d.date(&p[fieldDue], e)
	e.Category, e.Product = d.name(&p[fieldCategory], e), d.name(&p[fieldProduct], e)
	e.FailureCode, e.Promotion = d.name(&p[fieldFailureCode], e), d.name(&p[fieldPromotion], e)
	e.PromotionEnds = d.date(&p[fieldPromotionEnds], e)
	e.Balance, e.Balanced = d.balance(&p[fieldBalance], e)
	if e.Kind == KindBalance && !e.Balanced {
		e.Balance, e.Balanced = e.Amount, true
	}
}

// balance reads what is on the account, written as amounts are, but of either sign.
func (d *Decoder) balance(s *source, e *Event) (Money, bool) {
	b, st := d.decimal(s)
	if st == absent {
		return 0, false
	}
	scale := MoneyScale
	if d.minorUnits {
		scale -= d.minorDecimals(e.Currency)
	}
	v, reason := d.parseAmount(b, st, scale, e)
	if reason != "" {
		e.Notes |= NoteInvalidField
		return 0, false
	}
	return v, true
}

// amount reads the amount of a payment.
func (d *Decoder) amount(s *source, e *Event) *Reject {
	b, st := d.decimal(s)
	if st == absent {
		if e.Kind.needsAmount() {
			return refuse(ReasonAmountMissing, "amount is missing, null or empty")
		}
		return nil
	}
	scale := MoneyScale
	if d.minorUnits {
		scale -= d.minorDecimals(e.Currency)
	}
	amount, reason := d.parseAmount(b, st, scale, e)
	if reason == "" && s.minus >= 0 {
		if b, st := d.decimalSlot(s.minus); st != absent {
			var minus Money
			minus, reason = d.parseAmount(b, st, scale, e)
			var ok bool
			if amount, ok = amount.Add(-minus); !ok {
				reason = ReasonAmountOverflow
			}
		}
	}
	if reason == "" {
		e.Amount, reason = d.sign(amount, e)
	}
	if reason != "" {
		return refuse(reason, d.amountMessage(reason))
	}
	return nil
}

// amountMessage says what is wrong with an amount.
func (d *Decoder) amountMessage(reason Reason) string {
	switch {
	case reason == ReasonAmountOverflow:
		return "amount is too large"
	case reason == ReasonAmountNegative:
		return "amount is negative, which the feed's mapping does not allow for this type"
	case d.decimalComma:
		return "amount is not a decimal number such as 1.234,50, without a sign of the currency, as decimal_comma: true in the feed's mapping wants it"
	}
	return "amount is not a decimal number such as 1234.50, without a sign of the currency; for 1.234,50 set decimal_comma: true in the feed's mapping"
}

func (d *Decoder) parseAmount(b []byte, st state, scale int, e *Event) (Money, Reason) {
	if st == invalid {
		return 0, ReasonAmountInvalid
	}
	v, rounded, err := parseDecimal(b, scale)
	switch err {
	case nil:
	case ErrMoneyOverflow:
		return 0, ReasonAmountOverflow
	default:
		return 0, ReasonAmountInvalid
	}
	if rounded {
		e.Notes |= NoteRounded
	}
	return Money(v), ""
}

// sign applies the rule for negative amounts; it may make a purchase a refund.
func (d *Decoder) sign(amount Money, e *Event) (Money, Reason) {
	if amount >= 0 || e.Kind == KindBalance {
		return amount, ""
	}
	if !d.signed {
		return 0, ReasonAmountNegative
	}
	switch e.Kind {
	case KindPurchase, KindCharge:
		e.Kind = KindRefund
	case KindRefund, KindChargeback:
	default:
		return 0, ReasonAmountNegative
	}
	return -amount, ""
}

// minorDecimals returns how many decimals an amount in minor units has.
func (d *Decoder) minorDecimals(c Currency) int {
	if n, ok := d.decimalsOf[c]; ok {
		return n
	}
	if d.decimals >= 0 {
		return d.decimals
	}
	return c.Decimals()
}

func (d *Decoder) complaint(p *plan, e *Event) *Reject {
	b, st := d.text(&p[fieldComplaintID])
	switch {
	case st != present && e.Kind.needsComplaint():
		return refuse(ReasonComplaintMissing, "complaint_id is missing, null, empty or neither text nor a number")
	case len(b) > MaxCustomerBytes:
		return refuse(ReasonIDTooLong, fmt.Sprintf("complaint_id has %d bytes, more than %d", len(b), MaxCustomerBytes))
	}
	e.ComplaintID = b
	if e.LinkedID, _ = d.text(&p[fieldLinkedID]); len(e.LinkedID) > MaxCustomerBytes {
		return refuse(ReasonIDTooLong, fmt.Sprintf("linked_id has %d bytes, more than %d", len(e.LinkedID), MaxCustomerBytes))
	}
	e.Priority = enum(d, &p[fieldPriority], d.priorities, priorityNames, NoteUnknownPriority, e)
	if e.Priority == PriorityNone && e.Kind == KindOpened {
		e.Priority = PriorityNormal
	}
	e.Actor = enum(d, &p[fieldActor], d.actors, actorNames, NoteUnknownActor, e)
	e.Level = uint8(d.number(&p[fieldLevel], math.MaxUint8, e))
	e.Due = d.timeOrNote(&p[fieldDue], e)
	e.Category, e.Group = d.name(&p[fieldCategory], e), d.name(&p[fieldGroup], e)
	e.Score, e.Scored = d.score(&p[fieldScore], e)
	return nil
}

// name reads the name of something, as long as an id may be; one that is longer is taken as absent.
func (d *Decoder) name(s *source, e *Event) []byte {
	b, st := d.text(s)
	if st == invalid || len(b) > MaxCustomerBytes {
		e.Notes |= NoteInvalidField
		return nil
	}
	return b
}

// score reads a number that may be absent.
func (d *Decoder) score(s *source, e *Event) (Money, bool) {
	b, st := d.decimal(s)
	if st == absent {
		return 0, false
	}
	v, rounded, err := parseDecimal(b, MoneyScale)
	if st == invalid || err != nil {
		e.Notes |= NoteInvalidField
		return 0, false
	}
	if rounded {
		e.Notes |= NoteRounded
	}
	return Money(v), true
}

// number reads a whole number from 0 to a largest one; another is taken as absent.
func (d *Decoder) number(s *source, most int64, e *Event) int64 {
	b, st := d.text(s)
	if st == absent {
		return 0
	}
	v, rounded, err := parseDecimal(b, 0)
	if st == invalid || err != nil || rounded || v < 0 || v > most {
		e.Notes |= NoteInvalidField
		return 0
	}
	return v
}

func (d *Decoder) profile(p *plan, e *Event) *Reject {
	e.Profile = &Profile{
		Tier: d.label(&p[fieldTier], e), Segment: d.label(&p[fieldSegment], e), Region: d.label(&p[fieldRegion], e),
		Owner: d.label(&p[fieldOwner], e), Product: d.label(&p[fieldProduct], e), Plan: d.label(&p[fieldPlan], e),
		Source: d.label(&p[fieldSource], e), Status: d.label(&p[fieldStatus], e), TimeZone: d.label(&p[fieldTimeZone], e),
		Language: d.label(&p[fieldLanguage], e), Schedule: d.label(&p[fieldSchedule], e),
		Since: d.date(&p[fieldSince], e), ContractEnd: d.date(&p[fieldContractEnd], e),
		CommittedSpend: d.optionalMoney(&p[fieldCommittedSpend], e), Margin: d.optionalMoney(&p[fieldMargin], e),
	}
	return nil
}

// label reads a short text as long as an id may be.
func (d *Decoder) label(s *source, e *Event) string { return d.words(s, MaxCustomerBytes, e) }

func (d *Decoder) words(s *source, longest int, e *Event) string {
	b, st := d.text(s)
	if st == invalid || len(b) > longest {
		e.Notes |= NoteInvalidField
		return ""
	}
	return string(b)
}

// flag reads true or false, also as text or 1 and 0.
func (d *Decoder) flag(s *source, e *Event) bool {
	b, st := d.text(s)
	switch {
	case st == absent || string(b) == "false" || string(b) == "0":
		return false
	case string(b) == "true" || string(b) == "1":
		return true
	}
	e.Notes |= NoteInvalidField
	return false
}

// optionalMoney reads a decimal that may be absent.
func (d *Decoder) optionalMoney(s *source, e *Event) Money {
	b, st := d.decimal(s)
	if st == absent {
		return 0
	}
	v, rounded, err := parseDecimal(b, MoneyScale)
	if st == invalid || err != nil {
		e.Notes |= NoteInvalidField
		return 0
	}
	if rounded {
		e.Notes |= NoteRounded
	}
	return Money(v)
}

// optionalTime reads a time that may be absent: 0, true.
func (d *Decoder) optionalTime(s *source) (int64, bool) {
	b, st := d.text(s)
	if st == absent {
		return 0, true
	}
	if st == invalid {
		return 0, false
	}
	ms, reason := d.moment(b)
	return ms, reason == ""
}

// timeOrNote reads a time that may be absent; one that cannot be read is taken as absent.
func (d *Decoder) timeOrNote(s *source, e *Event) int64 {
	ms, ok := d.optionalTime(s)
	if !ok {
		e.Notes |= NoteInvalidField
		return 0
	}
	return ms
}

// date reads a time or a date alone, which is its midnight in the feed's zone, else in UTC.
func (d *Decoder) date(s *source, e *Event) int64 {
	if ms, ok := d.optionalTime(s); ok {
		return ms
	}
	b, _ := d.text(s)
	t, err := time.Parse(time.DateOnly, string(b))
	if err == nil {
		if d.zone != nil {
			t = time.UnixMilli(inZone(t, d.zone))
		}
		if ms, reason := inRange(t.UnixMilli()); reason == "" {
			return ms
		}
	}
	e.Notes |= NoteInvalidField
	return 0
}
