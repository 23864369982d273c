package stream

import (
	"encoding/binary"
	"maps"
	"slices"

	"ebb/alerts"
	"ebb/detectors"
	"ebb/detectors/cohorts"
	"ebb/state"
	"ebb/state/customer"
	"ebb/stream/event"
)

// census is a task's part in what is told of cohorts: how many active customers each of them has at the end of each day (UTC). Like the tally it sums a pure function of
// every record, by taking it out before it changes and putting it back after, and is part of the task record. A change counts for the day of the decision that came
// with it, so that the sizes of a day follow from the events alone, however far the task is when it tells them.
type census struct {
	by    []cohorts.Dimension // that are counted; nil: nothing is
	day   int32               // newest day whose end is told, 0: none is
	sizes map[cohorts.Key]int64
	later map[int32]map[cohorts.Key]int64 // by how much they change in the days behind it
	// totals are what customers did in the days behind it.
	totals map[int32]cohorts.Totals

	today int32  // of the decision that is being made
	was   member // what was taken out and is not put back yet
	away  bool
}

// member is what the census knows a customer by.
type member struct {
	active bool
	values [cohorts.NumDimensions]string
}

// maxCensus bounds the cohorts that a task counts; further ones are not watched.
const maxCensus = 1 << 10

// dayOf is the day (UTC) of an event time.
func dayOf(ms int64) int32 {
	day := ms / dayMs
	if ms < day*dayMs {
		day--
	}
	return int32(day)
}

// counts reports whether a customer is one of those that cohorts are made of: his records can be read, he is known for long enough, and he has not gone.
func counts(r *customer.Record) bool {
	return r.First != 0 && !r.Quarantined && !r.IsBlind() && !r.Lapsed && !r.Closed() && r.Latest-r.First >= detectors.WarmingUpDays*dayMs
}

func (c *census) of(r *customer.Record) (m member) {
	if !counts(r) {
		return m
	}
	m.active = true
	if p := r.Profile(); p != nil {
		for _, d := range c.by {
			m.values[d] = d.Of(p)
		}
	}
	return m
}

// keys are the cohorts of a customer, everybody not among them.
func (c *census) keys(r *customer.Record) (all []cohorts.Key) {
	p := r.Profile()
	for _, d := range c.by {
		if v := d.Of(p); v != "" {
			all = append(all, cohorts.Key{By: d, Value: v})
		}
	}
	return all
}

// out takes a customer out before he changes, and in puts him in after.
func (c *census) out(r *customer.Record) {
	if c.by == nil {
		return
	}
	c.flush()
	c.was, c.away = c.of(r), true
}

func (c *census) in(r *customer.Record) {
	if c.by == nil {
		return
	}
	is := c.of(r)
	if c.away && is == c.was {
		c.away = false
		return
	}
	c.flush()
	c.add(&is, 1)
}

// flush counts a customer out who did not come back.
func (c *census) flush() {
	if c.away {
		c.add(&c.was, -1)
		c.away = false
	}
}

func (c *census) add(m *member, sign int64) {
	if !m.active {
		return
	}
	c.bump(cohorts.Key{}, sign)
	for _, d := range c.by {
		if m.values[d] != "" {
			c.bump(cohorts.Key{By: d, Value: m.values[d]}, sign)
		}
	}
}

// open is the day for which counts what comes with the decision that is being made.
func (c *census) open() int32 { return max(c.today, c.day+1) }

func (c *census) bump(k cohorts.Key, by int64) {
	day := c.open()
	changes := c.later[day]
	if len(c.sizes)+len(changes) >= maxCensus && !c.knows(k) {
		return
	}
	if changes == nil {
		changes = map[cohorts.Key]int64{}
		c.later[day] = changes
	}
	if changes[k] += by; changes[k] == 0 {
		delete(changes, k)
	}
}

// knows reports whether a cohort is counted: at the end of the newest day that is told, or since.
func (c *census) knows(k cohorts.Key) bool {
	if _, counted := c.sizes[k]; counted {
		return true
	}
	for _, changes := range c.later {
		if changes[k] != 0 {
			return true
		}
	}
	return false
}

// anew begins to count the customers of a partition anew, as of the newest day that is told. What was spent since stays.
func (c *census) anew() {
	if c.by == nil {
		return
	}
	c.sizes, c.later = map[cohorts.Key]int64{}, map[int32]map[cohorts.Key]int64{}
	if c.totals == nil {
		c.totals = map[int32]cohorts.Totals{}
	}
}

// counted ends that.
func (c *census) counted() {
	if c.by == nil {
		return
	}
	if all := c.later[c.open()]; all != nil {
		c.sizes = all
	}
	clear(c.later)
}

// begin starts the census of a task that counts these dimensions. It is true if every customer has to be counted anew.
func (c *census) begin(by []cohorts.Dimension, fresh bool) (recount bool) {
	if by == nil {
		*c = census{}
		return false
	}
	recount = !fresh && !slices.Equal(by, c.by)
	if c.sizes == nil || recount {
		*c = census{by: by, day: c.day, sizes: map[cohorts.Key]int64{}, later: map[int32]map[cohorts.Key]int64{}, totals: c.totals}
	}
	if c.totals == nil {
		c.totals = map[int32]cohorts.Totals{}
	}
	return recount
}

// spent adds what a customer did with his money to the totals of its day. What comes more than a week late is left out: it says nothing of the days that are told next.
func (c *census) spent(e *event.Event, rates *detectors.Rates) {
	const late = 7
	day := dayOf(e.Time)
	if day <= c.day-late {
		return
	}
	amount, ok := rates.Convert(e.Currency, e.Amount)
	if !ok || amount == 0 {
		return
	}
	var t cohorts.Totals
	switch e.Kind {
	case event.KindPurchase:
		t[cohorts.Spend] = amount
	case event.KindRefund:
		t[cohorts.Spend] = -amount
	case event.KindWithdrawal, event.KindTransferOut:
		t[cohorts.Outflow] = amount
	default:
		return
	}
	if t[cohorts.Spend] != 0 && !e.IsActivity() {
		return
	}
	day = max(day, c.day+1)
	sum := c.totals[day]
	sum.Add(t)
	c.totals[day] = sum
}

// closeTotals are the totals of the days up to one, which are then told.
func (c *census) closeTotals(day int32) (all []totalTold) {
	for _, d := range slices.Sorted(maps.Keys(c.totals)) {
		if d <= day {
			all = append(all, totalTold{d, c.totals[d]})
			delete(c.totals, d)
		}
	}
	return all
}

// totalTold is what the customers of a partition did with their money in a day.
type totalTold struct {
	day    int32
	totals cohorts.Totals
}

func appendTotals(b []byte, all []totalTold) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, x := range all {
		b = binary.AppendVarint(b, int64(x.day))
		for _, m := range x.totals {
			b = binary.AppendVarint(b, int64(m))
		}
	}
	return b
}

func (d *decoder) totals() (all []totalTold) {
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		x := totalTold{day: int32(d.varint())}
		for i := range x.totals {
			x.totals[i] = event.Money(d.varint())
		}
		all = append(all, x)
	}
	return all
}

// close moves the sizes to the end of a day, and returns those that changed on the way.
func (c *census) close(day int32) (all []sizeTold) {
	c.flush()
	for _, d := range slices.Sorted(maps.Keys(c.later)) {
		if d > day {
			break
		}
		changes := c.later[d]
		for _, k := range slices.SortedFunc(maps.Keys(changes), cohorts.Key.Compare) {
			n := max(0, c.sizes[k]+changes[k])
			if c.sizes[k] = n; n == 0 {
				delete(c.sizes, k)
			}
			all = append(all, sizeTold{d, k, n})
		}
		delete(c.later, d)
	}
	c.day = max(c.day, day)
	return all
}

// whole are all sizes as of the newest day that is told.
func (c *census) whole() (all []sizeTold) {
	for _, k := range slices.SortedFunc(maps.Keys(c.sizes), cohorts.Key.Compare) {
		all = append(all, sizeTold{c.day, k, c.sizes[k]})
	}
	return all
}

func (c *census) append(b []byte) []byte {
	c.flush()
	b = binary.AppendUvarint(b, uint64(len(c.by)))
	if c.by == nil {
		return b
	}
	for _, d := range c.by {
		b = append(b, byte(d))
	}
	b = binary.AppendVarint(b, int64(c.day))
	b = appendSizes(b, c.sizes)
	b = binary.AppendUvarint(b, uint64(len(c.later)))
	for _, d := range slices.Sorted(maps.Keys(c.later)) {
		b = appendSizes(binary.AppendVarint(b, int64(d)), c.later[d])
	}
	all := make([]totalTold, 0, len(c.totals))
	for _, d := range slices.Sorted(maps.Keys(c.totals)) {
		all = append(all, totalTold{d, c.totals[d]})
	}
	return appendTotals(b, all)
}

func appendSizes(b []byte, sizes map[cohorts.Key]int64) []byte {
	b = binary.AppendUvarint(b, uint64(len(sizes)))
	for _, k := range slices.SortedFunc(maps.Keys(sizes), cohorts.Key.Compare) {
		b = binary.AppendVarint(appendKey(b, k), sizes[k])
	}
	return b
}

func appendKey(b []byte, k cohorts.Key) []byte { return appendString(append(b, byte(k.By)), k.Value) }

func (d *decoder) cohort() cohorts.Key {
	k := cohorts.Key{By: cohorts.Dimension(d.byte()), Value: d.str()}
	if d.err == nil && k.By >= cohorts.NumDimensions {
		d.fail("no such dimension")
	}
	return k
}

func (c *census) decode(d *decoder) {
	*c = census{}
	n := d.uvarint()
	if n > cohorts.NumDimensions {
		d.fail("too many dimensions")
		return
	}
	for range n {
		by := cohorts.Dimension(d.byte())
		if by >= cohorts.NumDimensions {
			d.fail("no such dimension")
			return
		}
		c.by = append(c.by, by)
	}
	if n == 0 {
		return
	}
	c.day = int32(d.varint())
	c.sizes, c.later = d.sizes(), map[int32]map[cohorts.Key]int64{}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		day := int32(d.varint())
		c.later[day] = d.sizes()
	}
	c.totals = map[int32]cohorts.Totals{}
	for _, x := range d.totals() {
		c.totals[x.day] = x.totals
	}
}

func (d *decoder) sizes() map[cohorts.Key]int64 {
	all := map[cohorts.Key]int64{}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		k := d.cohort()
		all[k] = d.varint()
	}
	return all
}

// factCohorts is the kind of the facts that tell of cohorts:
//
//	value   version (1 byte), group (text), day (varint): everything of the days up to it is told with this fact, 0: more follows; flags (1 byte: 1 the history is quiet,
//	        2 the sizes of the day are all that there are); sizes: number, then day, cohort, number of active customers; leavers: number, then day, customer (text),
//	        detector (text), money at risk, cohorts; totals: number, then day, spend, outflow; newcomers: number, then day, week, source (text),
//	        whether they are active (1 byte); a cohort is dimension (1 byte) and value (text)
const factCohorts = "cohorts"

// cohortsTold is a fact of cohorts.
type cohortsTold struct {
	group        string
	day          int32
	quiet, whole bool
	sizes        []sizeTold
	leavers      []cohorts.Leaver
	totals       []totalTold
	newcomers    []newcomerTold
}

// sizeTold is how many active customers a cohort has at the end of a day, in one partition.
type sizeTold struct {
	day int32
	key cohorts.Key
	n   int64
}

func (f *cohortsTold) append(b []byte) []byte {
	b = appendString(append(b, factVersion), f.group)
	b = binary.AppendVarint(b, int64(f.day))
	b = append(b, flag(f.quiet)|flag(f.whole)<<1)
	b = binary.AppendUvarint(b, uint64(len(f.sizes)))
	for _, s := range f.sizes {
		b = binary.AppendVarint(appendKey(binary.AppendVarint(b, int64(s.day)), s.key), s.n)
	}
	b = binary.AppendUvarint(b, uint64(len(f.leavers)))
	for i := range f.leavers {
		l := &f.leavers[i]
		b = appendString(appendString(binary.AppendVarint(b, int64(l.Day)), l.Customer), l.Detector)
		b = binary.AppendUvarint(binary.AppendVarint(b, int64(l.AtRisk)), uint64(len(l.Of)))
		for _, k := range l.Of {
			b = appendKey(b, k)
		}
	}
	b = appendTotals(b, f.totals)
	b = binary.AppendUvarint(b, uint64(len(f.newcomers)))
	for i := range f.newcomers {
		x := &f.newcomers[i]
		b = binary.AppendVarint(binary.AppendVarint(b, int64(x.day)), int64(x.Week))
		b = append(appendString(b, x.Source), flag(x.Active))
	}
	return b
}

func decodeCohorts(b []byte) (*cohortsTold, error) {
	d, group, err := openFact(b)
	if err != nil {
		return nil, err
	}
	f := &cohortsTold{group: group, day: int32(d.varint())}
	flags := d.byte()
	f.quiet, f.whole = flags&1 != 0, flags&2 != 0
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		f.sizes = append(f.sizes, sizeTold{int32(d.varint()), d.cohort(), d.varint()})
	}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		l := cohorts.Leaver{Day: int32(d.varint()), Customer: d.str(), Detector: d.str(), AtRisk: event.Money(d.varint())}
		for n := d.uvarint(); n > 0 && d.err == nil; n-- {
			l.Of = append(l.Of, d.cohort())
		}
		f.leavers = append(f.leavers, l)
	}
	f.totals = d.totals()
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		f.newcomers = append(f.newcomers, newcomerTold{int32(d.varint()), cohorts.Newcomer{Week: int32(d.varint()), Source: d.str(), Active: d.byte() == 1}})
	}
	if err := d.closeFact(); err != nil {
		return nil, err
	}
	return f, nil
}

// leaversFact is from how many leavers on a fact is closed.
const leaversFact = 1000

// beginCensus begins to count in a task that opens.
func (t *task) beginCensus(fresh bool) error {
	c := &t.rec.census
	t.headcount = CohortCount{cfg: t.cfg.Cohorts, census: c}
	recount := c.begin(t.headcount.by(), fresh)
	t.rec.tally.census = c
	if !recount {
		return nil
	}
	t.log.Info("customers are counted by cohort anew")
	return t.table.Scan(func(e *state.Entry) error {
		m := c.of(&e.Record)
		c.add(&m, 1)
		return nil
	})
}

// newcomerTold is what became of a customer, as of a day.
type newcomerTold struct {
	day int32
	cohorts.Newcomer
}

// tellCensus tells the days that are over.
func (t *task) tellCensus() {
	f := t.headcount.days(t.timersDone)
	if f == nil {
		return
	}
	f.quiet, t.moved = t.mode() == alerts.Quiet, true
	t.cutNow = t.cutNow || t.holdsBack() && !f.quiet // others wait for it
	t.tellCohorts(f)
}

// tellWaiting tells who begins to leave, and what became of new customers, if there are so many.
func (t *task) tellWaiting(least int) {
	if t.headcount.waits() >= least {
		t.tellCohorts(t.headcount.part())
	}
}

// tellCohorts puts a fact of cohorts into the next cut.
func (t *task) tellCohorts(f *cohortsTold) {
	f.group = t.cfg.Group
	t.outbox.add(t.cfg.Topics.Facts, alerts.Message{Key: factKey(factCohorts, t.partition), Value: f.append(nil)})
}
