package stream

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"ebb/alerts"
	"ebb/detectors/cohorts"
	"ebb/state/customer"
	"ebb/stream/batch"
	"ebb/stream/event"
)

// watching is the part of the second stage that watches cohorts of customers. A day is judged once every partition has told everything of it, so the alerts are the same in
// whatever order that came and wherever the customers lie. What is told of days that are not over yet is kept in memory only: after a take-over it is read again, from
// the oldest fact that holds anything of it.
type watching struct {
	cfg    cohorts.Config
	fold   *cohorts.Fold
	levels levels                // in days
	quiet  map[int32]int32       // newest day of which a partition told in its quiet history
	days   map[int32]*cohortsDay // that are told in part and not closed
	ahead  []aheadFact           // facts that hold something of such days, or tell that they are over, in the order of their offsets
	policy *alerts.Policy
	open   wides
	stored int64            // offset of the first fact that has to be read again, as it is stored; -1: none
	told   cohorts.Standing // which alerts about cohorts the tasks hold others back for
	pieces pieces           // the fold, as it is stored
	closed bool             // a day was closed since it was stored
	ends   bool             // a person closed an alert about a cohort since: the next day is told that it is over, by whoever judges it
	moved  bool             // something else changed since
}

// cohortsDay is what was told of a day.
type cohortsDay struct {
	leavers []cohorts.Leaver
	sizes   []partSize
	whole   []int32 // partitions that told all their sizes
	totals  cohorts.Totals
	came    []cohorts.Newcomer
}

type partSize struct {
	partition int32
	sizeTold
}

// aheadFact is a fact with something of the days up to one.
type aheadFact struct {
	offset int64
	day    int32
}

// wides are the open alerts about more than one customer, as they were told last (with revision 0: they began in the quiet history, and nobody was told), and those that a person closed. As a
// whole they are stored by gob, which keeps numbers exactly and lets fields come and go: they are few, and written once a day.
type wides struct {
	Cohorts map[cohorts.Key]*alerts.Cohort
	Totals  map[cohorts.Series]*openTotal
	Intakes map[string]*alerts.Intake // by source
	Closed  []closedWide              // in the order in which they were closed
}

// openTotal is an open alert about a total.
type openTotal struct {
	alerts.Total
	UsualThen, EachThen float64 // for each active customer, when it fired: what was to be expected, and what came
	Lasted              int     // weeks since then
}

// closedWide is an alert that a person closed with an outcome: the condition is not told again for a while.
type closedWide struct {
	Detector, Subject string
	ID                [16]byte
	Until             int64 // event time, ms
}

// intakeOpen is for how long such an alert is open at most, ms.
const intakeOpen = 8 * 7 * dayMs

// standingKept is for how long it is kept that an alert about a cohort was open, for tasks that are behind, in days.
const standingKept = 28

// totalWeeks is after how many weeks a total that stays as it is is no alert any more: it is what is usual by then.
const totalWeeks = 8

// Keys in the changelog of the second stage.
const (
	cohortsHead    = "cohorts/head"
	cohortsPrefix  = "cohorts/"
	standingKey    = "cohorts/standing" // read by every instance (models.go)
	standingFormat = 1
	cohortsFormat  = 4 // of the head; 3 is still read
)

func newWatching(cfg cohorts.Config, policy *alerts.Policy) *watching {
	return &watching{
		cfg: cfg, policy: policy, fold: cohorts.NewFold(cfg), levels: newLevels(completeWithin), quiet: map[int32]int32{}, days: map[int32]*cohortsDay{},
		open: newWides(), stored: -1, pieces: pieces{prefix: cohortsPrefix},
	}
}

func newWides() wides {
	return wides{Cohorts: map[cohorts.Key]*alerts.Cohort{}, Totals: map[cohorts.Series]*openTotal{}, Intakes: map[string]*alerts.Intake{}}
}

func (w *watching) day(d int32) *cohortsDay {
	x := w.days[d]
	if x == nil {
		x = &cohortsDay{}
		w.days[d] = x
	}
	return x
}

// observe takes in a fact of a partition. What was told before, in a history that was told again, is passed over.
func (w *watching) observe(p int32, f *cohortsTold, offset int64) {
	told := int32(w.levels.told[p])
	known := max(told, w.fold.Day())
	last := f.day
	for i := range f.leavers {
		if l := &f.leavers[i]; l.Day > known {
			x := w.day(l.Day)
			x.leavers, last = append(x.leavers, *l), max(last, l.Day)
		}
	}
	for i := range f.newcomers {
		if n := &f.newcomers[i]; n.day > known {
			x := w.day(n.day)
			x.came, last = append(x.came, n.Newcomer), max(last, n.day)
		}
	}
	if f.day > known {
		for _, s := range f.sizes {
			if s.day > known {
				x := w.day(s.day)
				x.sizes = append(x.sizes, partSize{p, s})
			}
		}
		for _, s := range f.totals {
			if s.day > known {
				w.day(s.day).totals.Add(s.totals)
			}
		}
		if f.whole {
			x := w.day(f.day)
			x.whole = append(x.whole, p)
		}
	}
	if f.quiet && f.day > told {
		w.quiet[p] = max(w.quiet[p], f.day)
	}
	if last > known {
		w.ahead = append(w.ahead, aheadFact{offset, last})
	}
	w.moved = true
}

// take folds one fact of a partition, written at the given wall clock, and returns the steps that follow.
func (w *watching) take(p int32, f *cohortsTold, partitions int32, offset, now int64) []alerts.Wide {
	w.observe(p, f, offset)
	if !w.levels.tell(p, int64(f.day), int64(w.fold.Day()), now) {
		return nil
	}
	return w.close(partitions, now)
}

// close closes the days that every partition has told.
func (w *watching) close(partitions int32, now int64) (steps []alerts.Wide) {
	closed := w.fold.Day()
	low := int32(min(w.levels.whole(partitions, int64(closed), now), math.MaxInt32))
	if low <= closed {
		return nil
	}
	next := closed + 1
	if closed == 0 {
		next = low
		for d := range w.days {
			next = min(next, d)
		}
	}
	for d := next; d <= low; d++ {
		steps = append(steps, w.judge(d)...)
	}
	w.ahead = slices.DeleteFunc(w.ahead, func(a aheadFact) bool { return a.day <= low })
	w.told.Day, w.closed = low, true
	w.told.Spans = slices.DeleteFunc(w.told.Spans, func(x cohorts.Span) bool { return x.Until != 0 && low-x.Until > standingKept })
	w.levels.closed(partitions, int64(low), now)
	return steps
}

// judge closes one day.
func (w *watching) judge(d int32) (steps []alerts.Wide) {
	x := w.days[d]
	if x == nil {
		x = &cohortsDay{}
	}
	delete(w.days, d)
	known := map[int32]map[cohorts.Key]bool{}
	for _, p := range x.whole {
		known[p] = map[cohorts.Key]bool{}
	}
	slices.SortStableFunc(x.sizes, func(a, b partSize) int { return cmp.Or(a.key.Compare(b.key), cmp.Compare(a.partition, b.partition)) })
	for _, s := range x.sizes {
		w.fold.Size(s.partition, s.key, s.n)
		if known[s.partition] != nil {
			known[s.partition][s.key] = true
		}
	}
	for _, p := range slices.Sorted(maps.Keys(known)) {
		w.fold.Keep(p, known[p])
	}
	quiet := false
	for _, day := range w.quiet {
		quiet = quiet || day >= d
	}
	watch := map[cohorts.Key]bool{}
	for k := range w.open.Cohorts {
		watch[k] = true
	}
	for _, finding := range w.fold.Close(d, x.leavers, watch) {
		if step := w.live(&finding, quiet); step != nil {
			steps = append(steps, step)
		}
	}
	if w.cfg.Totals {
		for _, week := range w.fold.CloseTotals(x.totals) {
			if step := w.weekly(&week, quiet); step != nil {
				steps = append(steps, step)
			}
		}
	}
	if w.cfg.Intakes {
		for _, intake := range w.fold.CloseIntakes(x.came) {
			if step := w.intake(&intake, quiet); step != nil {
				steps = append(steps, step)
			}
		}
		steps = append(steps, w.oldIntakes(d)...)
	}
	return append(steps, w.remind(int64(d+1)*dayMs)...)
}

// intake takes what is said of an intake into the life of its source's alert, and returns the step to publish, nil if there is none.
func (w *watching) intake(x *cohorts.Intake, quiet bool) alerts.Wide {
	at := int64(x.Day+1) * dayMs
	a := w.open.Intakes[x.Source]
	kind, reason := alerts.StepChanged, alerts.Reason("")
	switch {
	case a == nil:
		a = &alerts.Intake{WideStep: alerts.WideStep{Opened: at, Severity: alerts.Warning}, Intake: cohorts.Intake{Source: x.Source}, Began: int64(x.From) * dayMs}
		if !x.Firing || w.hushed(a, at) {
			return nil
		}
		w.open.Intakes[x.Source] = a
	case x.Clear:
		delete(w.open.Intakes, x.Source)
		kind, reason = alerts.StepResolved, alerts.ReasonRecovered
		if a.Revision == 0 {
			return nil
		}
	case !x.Firing:
		return nil
	}
	if kind != alerts.StepResolved && quiet {
		return nil
	}
	if a.Revision == 0 {
		kind = alerts.StepFired
	}
	a.Intake = *x
	return w.next(a, kind, reason, at)
}

// oldIntakes resolves alerts about intakes that nothing followed which could be judged.
func (w *watching) oldIntakes(day int32) (steps []alerts.Wide) {
	for _, source := range slices.Sorted(maps.Keys(w.open.Intakes)) {
		a, at := w.open.Intakes[source], int64(day+1)*dayMs
		if at-a.Opened < intakeOpen {
			continue
		}
		delete(w.open.Intakes, source)
		if a.Revision != 0 {
			a.Intake = cohorts.Intake{Source: source, Day: day}
			steps = append(steps, w.next(a, alerts.StepResolved, alerts.ReasonExpired, at))
		}
	}
	return steps
}

// next makes the next step of an open alert, and returns it. Reminders of one that is told first now count from now.
func (w *watching) next(x alerts.Wide, kind alerts.StepKind, reason alerts.Reason, at int64) alerts.Wide {
	s := x.Common()
	if s.Next(kind, reason, at); kind == alerts.StepFired {
		s.Work.RemindedAt = at
	}
	return x.Copy()
}

// all are the open alerts that somebody was told of, in an order of their own.
func (w *watching) all() (list []alerts.Wide) {
	add := func(x alerts.Wide) {
		if x.Common().Revision != 0 {
			list = append(list, x)
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(w.open.Cohorts), cohorts.Key.Compare) {
		add(w.open.Cohorts[k])
	}
	for _, s := range slices.Sorted(maps.Keys(w.open.Totals)) {
		add(w.open.Totals[s])
	}
	for _, source := range slices.Sorted(maps.Keys(w.open.Intakes)) {
		add(w.open.Intakes[source])
	}
	return list
}

// remind makes the reminders that are due by an event time, ms.
func (w *watching) remind(now int64) (steps []alerts.Wide) {
	for _, x := range w.all() {
		if w.policy.RemindWide(x, now) {
			steps = append(steps, x.Copy())
		}
	}
	return steps
}

// act carries out what a person decided about an alert. The step is nil where it leads to none.
func (w *watching) act(e *event.Event) (step alerts.Wide, result customer.Outcome) {
	id, _ := alerts.ParseID(e.Control.AlertID)
	if e.Kind == event.KindReopen {
		for i := range w.open.Closed {
			if w.open.Closed[i].ID == id {
				w.open.Closed, w.moved = slices.Delete(w.open.Closed, i, i+1), true
				return nil, customer.Applied
			}
		}
		return nil, customer.AlertNotOpen
	}
	for _, x := range w.all() {
		if w.policy.WideID(x) != id {
			continue
		}
		until, result := w.policy.ActWide(x, e)
		if result != customer.Applied {
			return nil, result
		}
		w.moved = true
		if until != 0 {
			w.closeBy(x, id, until)
		}
		return x.Copy(), result
	}
	return nil, customer.AlertNotOpen
}

// closeBy forgets an open alert that a person closed. Who was held back within it is told once the next day is judged.
func (w *watching) closeBy(x alerts.Wide, id [16]byte, until int64) {
	detector, _, _ := x.What()
	w.open.Closed = append(w.open.Closed, closedWide{detector, x.Subject(), id, until})
	switch a := x.(type) {
	case *alerts.Cohort:
		delete(w.open.Cohorts, a.Key)
		w.ended(a.Key, a.Opened, w.fold.Day()+1)
		w.ends = true
	case *openTotal:
		delete(w.open.Totals, a.Series)
	case *alerts.Intake:
		delete(w.open.Intakes, a.Source)
	}
}

// hushed reports whether an alert that would begin at an event time is one that a person closed a short while ago, ms.
func (w *watching) hushed(x alerts.Wide, at int64) bool {
	w.open.Closed = slices.DeleteFunc(w.open.Closed, func(c closedWide) bool { return c.Until <= at })
	detector, _, _ := x.What()
	return slices.ContainsFunc(w.open.Closed, func(c closedWide) bool { return c.Detector == detector && c.Subject == x.Subject() })
}

// weekly takes the end of a week into the life of the alert about a total, and returns the step to publish, nil if there is none.
func (w *watching) weekly(x *cohorts.Weekly, quiet bool) alerts.Wide {
	at := int64(x.Day+1) * dayMs
	a := w.open.Totals[x.Series]
	kind, reason := alerts.StepFired, alerts.Reason("")
	if a == nil {
		a = &openTotal{UsualThen: x.Usual, EachThen: x.Each}
		a.Opened, a.Severity, a.Series = at, severityOfTotal(x), x.Series
		if !x.Firing || w.hushed(a, at) {
			return nil
		}
		w.open.Totals[x.Series] = a
	} else {
		a.Lasted++
		switch middle := (a.UsualThen + a.EachThen) / 2; {
		case x.Series == cohorts.Spend && x.Each > middle, x.Series == cohorts.Outflow && x.Each < middle:
			kind, reason = alerts.StepResolved, alerts.ReasonRecovered
		case a.Lasted >= totalWeeks:
			kind, reason = alerts.StepResolved, alerts.ReasonExpired
		case a.Revision != 0:
			return nil
		}
	}
	if kind == alerts.StepResolved {
		delete(w.open.Totals, x.Series)
		if a.Revision == 0 {
			return nil
		}
	} else if quiet {
		return nil
	}
	a.Weekly = *x
	return w.next(a, kind, reason, at)
}

// severityOfTotal is critical where half of the spend is gone, or twice as much as ever is moved away.
func severityOfTotal(x *cohorts.Weekly) alerts.Severity {
	if x.Series == cohorts.Spend && x.Change <= -50 || x.Series == cohorts.Outflow && x.Change >= 100 {
		return alerts.Critical
	}
	return alerts.Warning
}

// live takes a finding into the life of the cohort's alert, and returns the step to publish, nil if there is none.
func (w *watching) live(f *cohorts.Finding, quiet bool) alerts.Wide {
	at := int64(f.Day+1) * dayMs
	a := w.open.Cohorts[f.Key]
	if a == nil {
		a = &alerts.Cohort{WideStep: alerts.WideStep{Opened: at}, Finding: cohorts.Finding{Key: f.Key, Since: f.Since}, FalseAlarms: w.cfg.FalseAlarms}
		if !f.Firing || w.hushed(a, at) {
			return nil
		}
		w.open.Cohorts[f.Key] = a
	}
	severity := max(a.Severity, severityOf(f))
	kind, reason := alerts.StepChanged, alerts.Reason("")
	switch {
	case f.Clear:
		delete(w.open.Cohorts, f.Key)
		kind, reason = alerts.StepResolved, alerts.ReasonRecovered
		if a.Revision == 0 {
			return nil
		}
		w.ended(f.Key, a.Opened, f.Day)
	case a.Revision == 0:
		kind = alerts.StepFired
		if quiet || !f.Firing {
			return nil
		}
		w.told.Spans = append(w.told.Spans, cohorts.Span{Key: f.Key, Opened: a.Opened, From: f.Day})
	case severity == a.Severity && f.Leavers < 2*a.Leavers:
		return nil
	}
	since := a.Since
	a.Severity, a.Finding, a.HoldsBack = severity, *f, w.cfg.HoldBack
	a.Since = since
	return w.next(a, kind, reason, at)
}

// ended notes that an alert about a cohort ended with the judgement of a day.
func (w *watching) ended(k cohorts.Key, opened int64, day int32) {
	for i := range w.told.Spans {
		if x := &w.told.Spans[i]; x.Key == k && x.Opened == opened {
			x.Until = day
		}
	}
}

// severityOf is critical where a fifth of the customers leave, or everybody is concerned.
func severityOf(f *cohorts.Finding) alerts.Severity {
	if f.By == cohorts.Everybody || 5*f.Leavers >= f.Active {
		return alerts.Critical
	}
	return alerts.Warning
}

// write passes on what the next transaction stores: the fold, if a day was closed, and where facts have to be read again from.
func (w *watching) write(add func(key, value []byte) error) error {
	if !w.moved && !w.closed {
		return nil
	}
	var err error
	if w.closed {
		err = w.pieces.write(w.fold.Chunks(), add)
	}
	if w.closed || w.ends {
		err = errors.Join(err, add([]byte(standingKey), appendStanding(nil, &w.told)))
	}
	w.stored = -1
	if len(w.ahead) != 0 {
		w.stored = w.ahead[0].offset
	}
	head, wrong := w.head()
	if err = errors.Join(err, wrong); err != nil {
		return err
	}
	return add([]byte(cohortsHead), head)
}

// written notes that it is stored.
func (w *watching) written() { w.moved, w.closed, w.ends = false, false, false }

// head encodes what is not in the fold: levels and quiet days as they were when the newest day was closed (what came since is read again), and the open alerts.
func (w *watching) head() ([]byte, error) {
	closed := w.fold.Day()
	b := binary.AppendVarint([]byte{cohortsFormat}, w.stored)
	b = binary.AppendVarint(b, w.levels.began)
	b = binary.AppendUvarint(b, uint64(len(w.levels.told)))
	for _, p := range slices.Sorted(maps.Keys(w.levels.told)) {
		b = binary.AppendVarint(binary.AppendUvarint(b, uint64(p)), min(w.levels.told[p], int64(closed)))
		b = binary.AppendVarint(b, int64(min(w.quiet[p], closed)))
	}
	var open bytes.Buffer
	if err := gob.NewEncoder(&open).Encode(&w.open); err != nil {
		return nil, fmt.Errorf("open alerts about many customers: %w", err)
	}
	return append(b, open.Bytes()...), nil
}

// restore takes in a record of the changelog under a key that begins with cohortsPrefix.
func (w *watching) restore(key string, value []byte) error {
	switch key {
	case standingKey:
		told, err := decodeStanding(value)
		if err == nil {
			w.told = *told
		}
		return err
	case cohortsHead:
		return w.decode(value)
	}
	return w.pieces.restore(key, value)
}

func (w *watching) decode(value []byte) error {
	if len(value) == 0 || value[0] < 3 || value[0] > cohortsFormat {
		return fmt.Errorf("what is known of cohorts: %w", errNewerFact)
	}
	d := &decoder{b: value[1:]}
	w.stored, w.levels.began = d.varint(), d.varint()
	clear(w.levels.told)
	clear(w.quiet)
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		p := int32(d.uvarint())
		w.levels.told[p], w.quiet[p] = d.varint(), int32(d.varint())
	}
	if d.err != nil {
		return fmt.Errorf("what is known of cohorts: %w", d.err)
	}
	w.open = newWides()
	if value[0] < cohortsFormat {
		return w.decodeOpen(d)
	}
	if err := gob.NewDecoder(bytes.NewReader(d.b)).Decode(&w.open); err != nil {
		return fmt.Errorf("open alerts about many customers: %w", err)
	}
	return nil
}

// decodeOpen reads the open alerts of format 3, which did not hold what was told last: until the next step there is nothing else to tell of them.
func (w *watching) decodeOpen(d *decoder) error {
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		k := d.cohort()
		a := &alerts.Cohort{FalseAlarms: w.cfg.FalseAlarms}
		a.Opened, a.Finding = d.varint(), cohorts.Finding{Key: k, Since: int32(d.varint()), Leavers: d.varint()}
		a.Severity, a.Revision = alerts.Severity(d.byte()), uint32(d.uvarint())
		w.open.Cohorts[k] = a
	}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		a := &openTotal{}
		a.Series, a.Opened, a.UsualThen, a.EachThen = cohorts.Series(d.byte()), d.varint(), d.float(), d.float()
		a.Lasted, a.Revision, a.Severity = int(d.uvarint()), uint32(d.uvarint()), alerts.Severity(d.byte())
		w.open.Totals[a.Series] = a
	}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		a := &alerts.Intake{WideStep: alerts.WideStep{Severity: alerts.Warning}, Intake: cohorts.Intake{Source: d.str()}}
		a.Opened, a.Began, a.Revision = d.varint(), d.varint()*dayMs, uint32(d.uvarint())
		w.open.Intakes[a.Source] = a
	}
	if d.err == nil && len(d.b) != 0 {
		d.fail("bytes left over")
	}
	if d.err != nil {
		return fmt.Errorf("open alerts about many customers: %w", d.err)
	}
	return nil
}

// float reads a number of eight bytes.
func (d *decoder) float() float64 {
	if d.err == nil && len(d.b) < 8 {
		d.fail("number is cut off")
	}
	if d.err != nil {
		return 0
	}
	v := math.Float64frombits(binary.BigEndian.Uint64(d.b))
	d.b = d.b[8:]
	return v
}

// appendStanding encodes which alerts about cohorts are open:
//
//	version (1 byte), newest judged day, number of alerts; of each cohort, event time at which it fired (ms), first day, last day
func appendStanding(b []byte, s *cohorts.Standing) []byte {
	b = binary.AppendVarint(append(b, standingFormat), int64(s.Day))
	b = binary.AppendUvarint(b, uint64(len(s.Spans)))
	for i := range s.Spans {
		x := &s.Spans[i]
		b = binary.AppendVarint(appendKey(b, x.Key), x.Opened)
		b = binary.AppendVarint(binary.AppendVarint(b, int64(x.From)), int64(x.Until))
	}
	return b
}

func decodeStanding(b []byte) (*cohorts.Standing, error) {
	if len(b) == 0 || b[0] > standingFormat {
		return nil, fmt.Errorf("open alerts about cohorts: %w", errNewerFact)
	}
	d := &decoder{b: b[1:]}
	s := &cohorts.Standing{Day: int32(d.varint())}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		s.Spans = append(s.Spans, cohorts.Span{Key: d.cohort(), Opened: d.varint(), From: int32(d.varint()), Until: int32(d.varint())})
	}
	if d.err != nil {
		return nil, fmt.Errorf("open alerts about cohorts: %w", d.err)
	}
	return s, nil
}

// restored makes the fold of what the changelog held, without partitions that do not exist any more.
func (w *watching) restored(partitions int32) error {
	if chunks := w.pieces.restored(); chunks != nil {
		fold, err := cohorts.DecodeFold(w.cfg, chunks)
		if err != nil {
			return err
		}
		w.fold = fold
	}
	w.fold.Forget(partitions)
	w.levels.forget(partitions)
	maps.DeleteFunc(w.quiet, func(p, _ int32) bool { return p >= partitions })
	return nil
}

// again reads a fact that was taken in before the stage was opened.
func (w *watching) again(rec *batch.Record, p int32, group string) error {
	f, err := decodeCohorts(rec.Value)
	if err == nil && f.group == group {
		w.observe(p, f, rec.Offset)
		w.levels.tell(p, int64(f.day), int64(w.fold.Day()), rec.Timestamp)
	}
	return err
}
