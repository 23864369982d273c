package customer

import (
	"math"
	"slices"
	"unicode/utf8"

	"ebb/stream/event"
)

// Work is what people did about an open alert. A Work is not changed once a lifecycle points to it: who acts puts a changed copy in its place, so that a
// step that is about to be published keeps its own.
type Work struct {
	AcknowledgedAt int64  // 0: nobody did
	AcknowledgedBy string // at most MaxActor bytes, as all names
	Assignee       string
	ContactedAt    int64 // when somebody last spoke with the customer about it
	ContactedBy    string
	SnoozedUntil   int64
	RemindedAt     int64  // when the newest reminder was due
	Note           string // the newest, at most MaxNote bytes
}

// Closing is an alert that a person closed with an outcome. It is remembered so that what the person knew already is not told again.
type Closing struct {
	Detector, Subject string
	AlertID           [16]byte
	At                int64 // when it was closed
	Until             int64 // from then on the same condition is told again; 0 for never
	Result            event.Result
}

// Prediction is what an alert foretold, until it is known whether it was right.
type Prediction struct {
	Detector    string
	AlertID     [16]byte
	At          int64        // when it fired
	Since       int64        // when its condition had begun
	Due         int64        // when the horizon has passed
	Severity    uint8        // at which it fired
	Probability uint16       // in 1/1000; 0 for an alert that told none
	Expected    event.Money  // what the customer would spend from At to Due by the habit that he had before Since, in the reporting currency; 0 where it does not matter
	Result      event.Result // what a person said of it; it counts instead of what is computed
	// Habit is the place of the habit that it is about, from 1 on; 0 for one about the customer as a whole.
	Habit uint8
}

// predictsHabit marks the stored severity of a prediction about a habit, whose place follows.
const predictsHabit = 0x80

// nowhere is a place that no habit has.
const nowhere = MaxHabits + 1

// Limits of what is remembered of people's acts. They keep a stored record below MaxEncoded.
const (
	MaxActor       = 48
	MaxNote        = 160
	MaxClosings    = 16
	MaxPredictions = 16
)

// acts is what people decided about a customer, and what ebb foretold of him. Few have any.
type acts struct {
	closings    []Closing
	predictions []Prediction
	heldFrom    int64 // maintenance: what the customer does not do from here
	heldUntil   int64 // to there is not counted against him
}

// Clip returns a text, cut to at most the given bytes without splitting a character.
func Clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

func (r *Record) acts() *acts {
	x := r.rarely()
	if x.acts == nil {
		x.acts = &acts{}
	}
	return x.acts
}

// hasActs reports whether anything of acts is there.
func (r *Record) hasActs() bool { return r.rare != nil && r.rare.acts != nil }

// Closings are the alerts that people closed and that are remembered. The slice must not be changed.
func (r *Record) Closings() []Closing {
	if !r.hasActs() {
		return nil
	}
	return r.rare.acts.closings
}

// Closing returns the index of the closing of the detector and subject, or -1.
func (r *Record) Closing(detector, subject string) int {
	return slices.IndexFunc(r.Closings(), func(c Closing) bool { return c.Detector == detector && c.Subject == subject })
}

// Close remembers an alert that was closed, in place of an earlier one of the same detector and subject. Where there is no room the oldest about a complaint
// goes, else the oldest.
func (r *Record) Close(c Closing) {
	if i := r.Closing(c.Detector, c.Subject); i >= 0 {
		r.DropClosing(i)
	}
	a := r.acts()
	if len(a.closings) >= MaxClosings {
		i := slices.IndexFunc(a.closings, func(c Closing) bool { return c.Subject != "" })
		a.closings = slices.Delete(a.closings, max(i, 0), max(i, 0)+1)
	}
	a.closings = append(a.closings, c)
}

// DropClosing forgets the closing of an index.
func (r *Record) DropClosing(i int) {
	a := r.rare.acts
	a.closings = slices.Delete(a.closings, i, i+1)
	r.dropActs()
}

// ReopenClosing lets the condition of a closed alert be told again from a time on.
func (r *Record) ReopenClosing(i int, at int64) { r.rare.acts.closings[i].Until = at }

// Predictions are those that are not judged yet. The slice must not be changed.
func (r *Record) Predictions() []Prediction {
	if !r.hasActs() {
		return nil
	}
	return r.rare.acts.predictions
}

// Predict remembers what is to be judged later. It is false where there is no room: this one will not be judged.
func (r *Record) Predict(p Prediction) bool {
	if len(r.Predictions()) >= MaxPredictions {
		return false
	}
	a := r.acts()
	a.predictions = append(a.predictions, p)
	return true
}

// DropPrediction forgets the prediction of an index.
func (r *Record) DropPrediction(i int) {
	a := r.rare.acts
	a.predictions = slices.Delete(a.predictions, i, i+1)
	r.dropActs()
}

// SettlePrediction notes what a person said of an alert's prediction. It is false if the alert has none that waits.
func (r *Record) SettlePrediction(alert [16]byte, result event.Result) bool {
	for i, p := range r.Predictions() {
		if p.AlertID == alert {
			r.rare.acts.predictions[i].Result = result
			return true
		}
	}
	return false
}

// Held is the stretch in which the customer's silence and drop do not count, [from, until); 0, 0 for none.
func (r *Record) Held() (from, until int64) {
	if !r.hasActs() {
		return 0, 0
	}
	return r.rare.acts.heldFrom, r.rare.acts.heldUntil
}

// Hold excuses a stretch. One that touches the stretch that is known makes it longer; of two apart the later one stays. It is false if nothing changed.
func (r *Record) Hold(from, until int64) bool {
	known, end := r.Held()
	switch {
	case until <= from:
		return false
	case end == 0 || from > end:
	case until < known: // it is over, and a later one is known
		return false
	default:
		from, until = min(from, known), max(until, end)
	}
	if from == known && until == end {
		return false
	}
	a := r.acts()
	a.heldFrom, a.heldUntil = from, until
	return true
}

// dropActs gives the memory back once nothing is left.
func (r *Record) dropActs() {
	if a := r.rare.acts; len(a.closings)+len(a.predictions) == 0 && a.heldUntil == 0 {
		r.rare.acts = nil
		r.dropRare()
	}
}

// Act says whether an act of this id was taken before, and remembers it. It changes nothing else.
func (r *Record) Act(e *event.Event, p *Params) Outcome {
	if r.seen(e.IDHash) {
		return Duplicate
	}
	return r.remember(e.IDHash, max(e.Time, 1), p)
}

// The stored form of the part:
//
//	alerts       n, then for each: index in Lifecycles, or in Recalled behind those, << 1 | (there is work), probability, days of the horizon, [times of the work, relative to
//	             FiredAt, and texts]
//	closings     n, then for each: detector, subject, 16 bytes of id, At, Until-At or 0, result
//	predictions  n, then for each: detector, 16 bytes of id, At, At-Since, Due-At, severity, probability, expected, result
//	held         from, until-from
type actsPart struct{}

func (actsPart) has(r *Record) bool {
	return r.hasActs() || slices.ContainsFunc(r.Lifecycles, marked) || slices.ContainsFunc(r.Recalled(), marked)
}

func (actsPart) decode(d *decoder, r *Record) { d.acts(r) }

// marked reports whether the part has something to say of an alert.
func marked(l Lifecycle) bool { return l.Work != nil || l.Probability != 0 || l.HorizonDays != 0 }

// alert is the open alert of an index that runs on behind Lifecycles into those that are recalled.
func (r *Record) alert(i int) *Lifecycle {
	if i < len(r.Lifecycles) {
		return &r.Lifecycles[i]
	}
	return &r.Recalled()[i-len(r.Lifecycles)]
}

func (actsPart) append(dst []byte, r *Record) []byte {
	all := len(r.Lifecycles) + len(r.Recalled())
	n := 0
	for i := range all {
		if marked(*r.alert(i)) {
			n++
		}
	}
	dst = appendUvarint(dst, uint64(n))
	for i := range all {
		l := r.alert(i)
		if !marked(*l) {
			continue
		}
		head := uint64(i) << 1
		if l.Work != nil {
			head |= 1
		}
		dst = appendUvarint(appendUvarint(appendUvarint(dst, head), uint64(l.Probability)), uint64(l.HorizonDays))
		if l.Work != nil {
			dst = l.Work.append(dst, l.FiredAt)
		}
	}
	a := &acts{}
	if r.hasActs() {
		a = r.rare.acts
	}
	dst = appendUvarint(dst, uint64(len(a.closings)))
	for i := range a.closings {
		c := &a.closings[i]
		dst = appendText(appendText(dst, c.Detector), c.Subject)
		dst = append(dst, c.AlertID[:]...)
		dst = appendVarint(appendVarint(dst, c.At), nonzero(c.Until, c.At))
		dst = append(dst, byte(c.Result))
	}
	dst = appendUvarint(dst, uint64(len(a.predictions)))
	for i := range a.predictions {
		p := &a.predictions[i]
		dst = append(appendText(dst, p.Detector), p.AlertID[:]...)
		dst = appendVarint(appendVarint(appendVarint(dst, p.At), p.At-p.Since), p.Due-p.At)
		if p.Habit != 0 {
			dst = append(dst, p.Severity|predictsHabit, p.Habit)
		} else {
			dst = append(dst, p.Severity)
		}
		dst = appendUvarint(dst, uint64(p.Probability))
		dst = append(appendVarint(dst, int64(p.Expected)), byte(p.Result))
	}
	return appendVarint(appendVarint(dst, a.heldFrom), a.heldUntil-a.heldFrom)
}

func (w *Work) times() [4]*int64 {
	return [...]*int64{&w.AcknowledgedAt, &w.ContactedAt, &w.SnoozedUntil, &w.RemindedAt}
}

func (w *Work) texts() [4]*string {
	return [...]*string{&w.AcknowledgedBy, &w.Assignee, &w.ContactedBy, &w.Note}
}

func (w *Work) append(dst []byte, fired int64) []byte {
	for _, t := range w.times() {
		dst = appendVarint(dst, nonzero(*t, fired))
	}
	for _, s := range w.texts() {
		dst = appendText(dst, *s)
	}
	return dst
}

func (d *decoder) work(fired int64) *Work {
	w := &Work{}
	for _, t := range w.times() {
		*t = fromNonzero(d.varint(), fired)
	}
	for _, s := range w.texts() {
		*s = d.text()
	}
	return w
}

func (d *decoder) acts(r *Record) {
	all := uint64(len(r.Lifecycles) + len(r.Recalled()))
	for range d.count(d.uvarint(), 3) {
		head := d.uvarint()
		if head>>1 >= all {
			d.bad = true
			return
		}
		l := r.alert(int(head >> 1))
		l.Probability, l.HorizonDays = d.short(), d.short()
		if head&1 != 0 {
			l.Work = d.work(l.FiredAt)
		}
	}
	a := &acts{}
	for range d.count(d.uvarint(), 21) {
		c := Closing{Detector: intern(d.text()), Subject: d.text(), AlertID: d.id(), At: d.varint()}
		c.Until, c.Result = fromNonzero(d.varint(), c.At), event.Result(d.byte())
		a.closings = append(a.closings, c)
	}
	for range d.count(d.uvarint(), 24) {
		p := Prediction{Detector: intern(d.text()), AlertID: d.id(), At: d.varint()}
		p.Since = p.At - d.varint()
		p.Due, p.Severity = p.At+d.varint(), d.byte()
		if p.Severity&predictsHabit != 0 {
			p.Severity, p.Habit = p.Severity&^predictsHabit, d.byte()
			d.bad = d.bad || p.Habit == 0
		}
		p.Probability = d.short()
		p.Expected, p.Result = event.Money(d.varint()), event.Result(d.byte())
		a.predictions = append(a.predictions, p)
	}
	a.heldFrom = d.varint()
	a.heldUntil = a.heldFrom + d.varint()
	if !d.bad && len(a.closings)+len(a.predictions) != 0 || a.heldUntil != 0 {
		r.rarely().acts = a
	}
}

// short reads a small number.
func (d *decoder) short() uint16 {
	v := d.uvarint()
	d.bad = d.bad || v > math.MaxUint16
	return uint16(v)
}

// id reads an alert's id.
func (d *decoder) id() (id [16]byte) {
	if len(d.b)-d.at < len(id) {
		d.bad, d.at = true, len(d.b)
		return id
	}
	d.at += copy(id[:], d.b[d.at:])
	return id
}

// join takes over what was decided and foretold of the other; his alerts are resolved by then. The customers are one person, so a stretch in which one
// of the two is excused excuses both.
func (actsPart) join(r, o *Record, _ *Params) {
	for _, c := range o.Closings() {
		if r.Closing(c.Detector, c.Subject) < 0 {
			r.Close(c)
		}
	}
	for _, p := range o.Predictions() {
		if p.Habit != 0 {
			p.Habit = nowhere // his habits have got other places
		}
		r.Predict(p)
	}
	from, until := o.Held()
	r.Hold(from, until)
}

func (actsPart) size(r *Record) int {
	const work, closing, prediction = 144, 72, 80
	n := 0
	for i := range len(r.Lifecycles) + len(r.Recalled()) {
		if w := r.alert(i).Work; w != nil {
			n += work
			for _, s := range w.texts() {
				n += len(*s)
			}
		}
	}
	if !r.hasActs() {
		return n
	}
	n += 64 + cap(r.rare.acts.closings)*closing + cap(r.rare.acts.predictions)*prediction
	for i := range r.Closings() {
		n += len(r.Closings()[i].Subject)
	}
	return n
}
