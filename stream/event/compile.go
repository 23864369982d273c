package event

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// source is where a field's value comes from: the first of its slots that has one, or a constant.
type source struct {
	mask      uint64 // the set of slots
	slots     []int8
	constant  []byte // nil = none; only without slots
	otherwise state  // present with a constant, else absent
	minus     int8   // -1 = none
	and       []int8
}

// add appends a slot.
func (s *source) add(slot int8) {
	s.slots = append(s.slots, slot)
	s.mask |= 1 << slot
}

// plan is where all fields come from.
type plan [numFields]source

// rule is what the decoder does with a type.
type rule struct {
	kind   Kind
	ignore bool
	notes  Notes
	plan   *plan
}

// compiler builds a Decoder and gathers the faults of its mapping.
type compiler struct {
	feed   Feed
	d      *Decoder
	prefix []string        // where paths start
	slots  map[string]int8 // by path
	full   bool            // more paths than slots, which was said
	faults []error
}

func (c *compiler) fault(message string, path ...string) {
	c.faults = append(c.faults, &MappingError{Path: slices.Clone(path), Message: message})
}

// NewDecoder compiles a feed's mapping; nil is the contract's own form. The error joins a *MappingError for every fault.
func NewDecoder(feed Feed, m *Mapping, lim Limits) (*Decoder, error) {
	if int(feed) >= NumFeeds {
		return nil, fmt.Errorf("event: no such feed: %d", uint8(feed))
	}
	if m == nil {
		m = &Mapping{}
	}
	c := &compiler{feed: feed, d: newDecoder(feed, lim), slots: map[string]int8{}}
	c.compile(m)
	if err := errors.Join(c.faults...); err != nil {
		return nil, err
	}
	c.d.root.close()
	return c.d, nil
}

func (c *compiler) compile(m *Mapping) {
	if m.CloudEvents {
		c.prefix = []string{"data"}
	}
	c.modes(m)
	if len(m.Fields) > 0 {
		c.fields(m)
	} else {
		c.contract(m.CloudEvents)
	}
	c.types(m)
	c.d.priorities = enumTable(c, "priorities", m.Priorities, priorityNames, func(i uint8) Priority { return Priority(i) })
	c.d.outcomes = enumTable(c, "outcomes", m.Outcomes, outcomeNames, func(i uint8) Outcome { return Outcome(i) })
	c.d.initiators = enumTable(c, "initiators", m.Initiators, initiatorNames, func(i uint8) Initiator { return Initiator(i) })
	c.d.actors = enumTable(c, "actors", m.Actors, actorNames, func(i uint8) Actor { return Actor(i) })
	c.timeForm(m.Time)
	if c.d.decimalComma = m.DecimalComma; m.DecimalComma && c.feed == Control {
		c.fault("the control feed has no decimal numbers", "decimal_comma")
	}
	c.amountForm(m.Amount)
}

func (c *compiler) modes(m *Mapping) {
	switch m.Key {
	case "", "check":
		c.d.key = keyChecked
	case "customer":
		c.d.key = keyCustomer
	case "ignore":
		c.d.key = keyIgnored
	default:
		c.fault(`write "check", "customer" or "ignore"`, "key")
	}
	switch m.Tombstone {
	case "":
		c.d.ignoreTombstones = c.feed == Customers
	case "reject":
	case "ignore":
		c.d.ignoreTombstones = true
	default:
		c.fault(`write "reject" or "ignore"`, "tombstone")
	}
}

// contract compiles the contract's own field names.
func (c *compiler) contract(cloudEvents bool) {
	for _, f := range feedFields[c.feed] {
		path, nested := contractPaths[f]
		if !nested {
			path = fieldNames[f]
		}
		c.d.base[f].add(c.slot(path))
	}
	at := &c.d.root
	if cloudEvents {
		at = at.child("data").inner
		for _, f := range []field{fieldID, fieldTime} {
			c.d.base[f].add(c.slot("ce:" + fieldNames[f]))
		}
	}
	for _, name := range unreadFields[c.feed] {
		at.child(name)
	}
	at.strict = true
}

// fields compiles Mapping.Fields and checks that nothing is missing.
func (c *compiler) fields(m *Mapping) {
	c.overlay(&c.d.base, m.Fields, "fields")
	c.require(fieldCustomer, m.Key != "customer", `say where the customer id lies, or "key: customer"`)
	c.require(fieldTime, m.Time.Missing != "record_timestamp", `say where the time lies, or "missing: record_timestamp" under "time"`)
	c.require(fieldType, c.feed == Payments || c.feed == Complaints || c.feed == Control, `say where the type lies, or {const: TYPE}`)
}

func (c *compiler) require(f field, needed bool, message string) {
	if s := &c.d.base[f]; needed && len(s.slots) == 0 && s.constant == nil {
		c.fault("missing: "+message, "fields", fieldNames[f])
	}
}

// overlay compiles fields into a plan.
func (c *compiler) overlay(p *plan, fields map[string]Field, path ...string) {
	for _, name := range sortedKeys(fields) {
		at := append(slices.Clone(path), name)
		i := slices.Index(fieldNames[:], name)
		if i < 0 || !c.feed.reads(field(i)) {
			c.fault(fmt.Sprintf("the %s feed has no such field; it reads %s", c.feed, strings.Join(FieldNames(c.feed), ", ")), at...)
			continue
		}
		p[i] = c.source(field(i), fields[name], at)
	}
}

// source compiles one field.
func (c *compiler) source(f field, spec Field, at []string) source {
	s := source{minus: -1}
	if spec.Const != nil {
		if *spec.Const == "" {
			c.fault("an empty constant: leave the field out", at...)
		}
		s.constant, s.otherwise = []byte(*spec.Const), present
		return s
	}
	if len(spec.Paths) == 0 {
		c.fault("no path", at...)
	}
	for _, p := range spec.Paths {
		s.add(c.checkedSlot(p, at))
	}
	for _, p := range spec.And {
		s.and = append(s.and, c.checkedSlot(p, at))
	}
	if len(spec.And) > 0 && f != fieldType {
		c.fault(`"and" is only for type`, at...)
	}
	if spec.Minus != "" {
		s.minus = c.checkedSlot(spec.Minus, at)
		if f != fieldAmount {
			c.fault(`"minus" is only for amount`, at...)
		}
	}
	return s
}

func (c *compiler) checkedSlot(path string, at []string) int8 {
	names := splitPath(strings.TrimPrefix(path, "ce:"))
	switch {
	case slices.Contains(names, ""):
		c.fault(fmt.Sprintf("%q is not a path: write names separated by dots, such as data.customer", path), at...)
		return 0
	case strings.HasPrefix(path, "ce:") && c.prefix == nil:
		c.fault(fmt.Sprintf(`%q is an attribute of a CloudEvent: add "cloudevents: true"`, path), at...)
		return 0
	case len(c.slots) == maxSlots && !c.known(path):
		if !c.full {
			c.fault(fmt.Sprintf("this path and those after it are too many: a feed reads at most %d different ones", maxSlots), at...)
		}
		c.full = true
		return 0
	}
	return c.slot(path)
}

func (c *compiler) known(path string) bool {
	_, ok := c.slots[path]
	return ok
}

// slot returns the slot of a path, new if the path is.
func (c *compiler) slot(path string) int8 {
	if i, ok := c.slots[path]; ok {
		return i
	}
	names := append(slices.Clone(c.prefix), splitPath(path)...)
	if attribute, ok := strings.CutPrefix(path, "ce:"); ok {
		names = splitPath(attribute)
	}
	n := &c.d.root
	for _, name := range names[:len(names)-1] {
		e := n.child(name)
		if e.inner == nil {
			e.inner = &node{}
		}
		n = e.inner
	}
	i := int8(len(c.slots))
	if e := n.child(names[len(names)-1]); e.slot < 0 {
		e.slot = i
	} else {
		i = e.slot // the same place under another name, such as "ce:data.id"
	}
	c.slots[path] = i
	return i
}

// types compiles Mapping.Types and the contract's own names.
func (c *compiler) types(m *Mapping) {
	d := c.d
	kinds := Kinds(c.feed)
	_, star := m.Types["*"]
	switch {
	case c.feed == Customers && len(m.Types) > 0:
		c.fault("records of the customers feed have no type", "types")
	case c.feed == Usage || c.feed == Customers:
		d.other = &rule{kind: kinds[0], plan: &d.base}
	case c.feed == Complaints:
		d.other = &rule{kind: KindNote, notes: NoteUnknownType, plan: &d.base}
	}
	if !star && c.feed != Usage && c.feed != Customers {
		for _, k := range kinds {
			d.rules[k.String()] = &rule{kind: k, plan: &d.base}
		}
	}
	for _, name := range sortedKeys(m.Types) {
		r := c.rule(m.Types[name], "types", name)
		if name == "*" {
			d.other = r
		} else {
			d.rules[name] = r
		}
	}
}

func (c *compiler) rule(t TypeRule, at ...string) *rule {
	r := &rule{plan: &c.d.base}
	if len(t.Fields) > 0 {
		p := c.d.base
		c.overlay(&p, t.Fields, at...)
		r.plan = &p
		for _, f := range []field{fieldID, fieldCustomer, fieldType} {
			if _, ok := t.Fields[fieldNames[f]]; ok {
				c.fault(fmt.Sprintf("%s is the same for all types", fieldNames[f]), append(at, fieldNames[f])...)
			}
		}
	}
	if t.Type == "ignore" {
		r.ignore = true
		return r
	}
	var names []string
	for _, k := range Kinds(c.feed) {
		if k.String() == t.Type {
			r.kind = k
			return r
		}
		names = append(names, k.String())
	}
	c.fault(fmt.Sprintf("%q is no type of the %s feed: write %s, or ignore", t.Type, c.feed, strings.Join(names, ", ")), at...)
	return r
}

// enumTable compiles a table of values; nil for none.
func enumTable[T any](c *compiler, key string, table map[string]string, names []string, of func(uint8) T) map[string]T {
	if len(table) == 0 {
		return nil
	}
	out := make(map[string]T, len(table))
	for _, from := range sortedKeys(table) {
		i, ok := parseEnum(names, table[from])
		if !ok {
			c.fault(fmt.Sprintf("%q is not one of %s", table[from], strings.Join(names[1:], ", ")), key, from)
			continue
		}
		out[from] = of(i)
	}
	return out
}

func (c *compiler) timeForm(t TimeForm) {
	d := c.d
	if t.Zone != "" {
		loc, err := time.LoadLocation(t.Zone)
		if err != nil || t.Zone == "Local" {
			c.fault(fmt.Sprintf("%q is no IANA time zone: write one such as Europe/Berlin or UTC", t.Zone), "time", "zone")
		}
		d.zone = loc
	}
	switch t.Format {
	case "", "rfc3339":
		d.timeFormat = timeRFC3339
	case "epoch_s":
		d.timeFormat = timeEpochS
	case "epoch_ms":
		d.timeFormat = timeEpochMS
	default:
		d.timeFormat, d.layout = timeLayout, t.Format
		if message := layoutFault(t.Format, t.Zone); message != "" {
			c.fault(message, "time", "format")
		}
	}
	switch t.Missing {
	case "", "reject":
	case "record_timestamp":
		d.timestampFallback = true
	default:
		c.fault(`write "reject" or "record_timestamp"`, "time", "missing")
	}
}

// layoutFault says what is wrong with a layout, by writing and reading a date with it.
func layoutFault(layout, zone string) string {
	if strings.Contains(layout, "MST") {
		return "abbreviations of zones are ambiguous: leave MST out and set zone, or use Z07:00 or -0700"
	}
	east, west := time.FixedZone("", 5*3600+1800), time.FixedZone("", -8*3600)
	at := time.Date(2013, 12, 11, 22, 19, 18, 0, east)
	text := at.Format(layout)
	back, err := time.ParseInLocation(layout, text, east)
	if err != nil || back.Year() != at.Year() || back.YearDay() != at.YearDay() {
		return fmt.Sprintf(`%q does not hold a whole date: write "rfc3339", "epoch_s", "epoch_ms" or a layout of the Go package time, such as "2006-01-02 15:04:05"`, layout)
	}
	if zone == "" && text == time.Date(2013, 12, 11, 22, 19, 18, 0, west).Format(layout) {
		return "the layout has no zone: set zone beside it, such as Europe/Berlin or UTC"
	}
	return ""
}

// maxDecimals bounds the decimals of a minor unit; 8 are in use (satoshi).
const maxDecimals = 12

func (c *compiler) amountForm(a AmountForm) {
	d := c.d
	if (a.MinorUnits || a.Signed || a.Decimals != nil || a.DecimalsByCurrency != nil) && c.feed != Payments {
		c.fault("only the payments feed has amounts", "amount")
	}
	d.signed, d.minorUnits, d.decimals = a.Signed, a.MinorUnits, -1
	if (a.Decimals != nil || a.DecimalsByCurrency != nil) && !a.MinorUnits {
		c.fault("decimals are those of minor units: add minor_units: true", "amount")
	}
	if a.Decimals != nil {
		d.decimals = c.checkDecimals(*a.Decimals, "amount", "decimals")
	}
	for _, code := range sortedKeys(a.DecimalsByCurrency) {
		cur, ok := ParseCurrency(code)
		if !ok {
			c.fault("not a currency code of three letters", "amount", "decimals_by_currency", code)
		}
		if d.decimalsOf == nil {
			d.decimalsOf = map[Currency]int{}
		}
		d.decimalsOf[cur] = c.checkDecimals(a.DecimalsByCurrency[code], "amount", "decimals_by_currency", code)
	}
}

func (c *compiler) checkDecimals(n int, at ...string) int {
	if n < 0 || n > maxDecimals {
		c.fault(fmt.Sprintf("write a number from 0 to %d", maxDecimals), at...)
	}
	return n
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
