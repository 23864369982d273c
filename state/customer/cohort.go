package customer

// An alert may be told within one about a cohort of customers to whom this one belongs: it is held back as long as that is open. Afterwards it says what it was within.

// Cohort names an alert about a cohort of customers.
type Cohort struct {
	By     uint8  // the dimension, as package cohorts numbers them
	Value  string // of that dimension
	Opened int64  // event time at which that alert fired, ms
}

// HeldBack reports whether the alert is held back because one about a cohort is open.
func (l *Lifecycle) HeldBack() bool { return l.Cohort != nil && l.Unpublished && !l.Guest() }

// cohortPart keeps within which alerts about cohorts open alerts are, or were, held back.
//
//	n, then for each such alert: index in Lifecycles, dimension (1 byte), value, time
type cohortPart struct{}

func (cohortPart) count(r *Record) int {
	n := 0
	for i := range r.Lifecycles {
		if r.Lifecycles[i].Cohort != nil {
			n++
		}
	}
	return n
}

func (p cohortPart) has(r *Record) bool { return p.count(r) != 0 }

func (p cohortPart) append(dst []byte, r *Record) []byte {
	dst = appendUvarint(dst, uint64(p.count(r)))
	for i := range r.Lifecycles {
		if c := r.Lifecycles[i].Cohort; c != nil {
			dst = appendVarint(appendText(append(appendUvarint(dst, uint64(i)), c.By), c.Value), c.Opened)
		}
	}
	return dst
}

func (cohortPart) decode(d *decoder, r *Record) {
	n, next := d.count(d.uvarint(), 4), uint64(0)
	d.bad = d.bad || n == 0
	for range n {
		i := d.uvarint()
		c := &Cohort{By: d.byte(), Value: d.text(), Opened: d.varint()}
		if d.bad = d.bad || i < next || i >= uint64(len(r.Lifecycles)); d.bad {
			return
		}
		r.Lifecycles[i].Cohort, next = c, i+1
	}
}

// join leaves both as they are: the alerts of who is merged are over by then.
func (cohortPart) join(*Record, *Record, *Params) {}

func (p cohortPart) size(r *Record) int {
	n := 0
	for i := range r.Lifecycles {
		if c := r.Lifecycles[i].Cohort; c != nil {
			n += cohortBytes + len(c.Value)
		}
	}
	return n
}
