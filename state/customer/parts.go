package customer

// A part is a piece of a record that a customer may be without. To add one, give Record a field, write a file with a type that has these methods, and add a
// line to the table of parts. What a customer is without costs nothing, and records of older versions are read as being without it.
type part interface {
	// has reports whether the record has the part.
	has(r *Record) bool
	// append writes the stored form of a part that is there; the same content always gives the same bytes.
	append(dst []byte, r *Record) []byte
	// decode reads what append wrote into a record without the part, and sets d.bad if it cannot be that. All that stands before the parts is known by then.
	decode(d *decoder, r *Record)
	// join folds the part of o into that of r, of which one may be missing, as Record.Join does. The windows are joined by then. o is not changed, and
	// shares no memory with r afterwards.
	join(r, o *Record, p *Params)
	// size estimates the memory that a part which is there takes, in bytes.
	size(r *Record) int
}

// parts are the parts of a record. The index is the part's bit in the stored form: a number is never given to another part, and a part that is not written
// any more keeps its line and is still read.
var parts = [...]part{
	0:  rhythmsPart{},
	1:  dropsPart{},
	2:  actsPart{},
	3:  casesPart{},
	4:  firedPart{},
	5:  togetherPart{},
	6:  billsPart{},
	7:  accountPart{},
	8:  offersPart{},
	9:  habitsPart{},
	10: cohortPart{},
	11: tierPart{},
}

// partBits says which parts a record has.
func (r *Record) partBits() uint64 {
	bits := uint64(0)
	for i, x := range parts {
		if x.has(r) {
			bits |= 1 << i
		}
	}
	return bits
}

// appendParts writes which parts follow, and their bodies in the order of their bits.
func appendParts(dst []byte, r *Record, bits uint64) []byte {
	dst = appendUvarint(dst, bits)
	for i, x := range parts {
		if bits&(1<<i) != 0 {
			dst = x.append(dst, r)
		}
	}
	return dst
}

// parts reads what appendParts wrote. It is true for a part that this version does not know.
func (d *decoder) parts(r *Record) (newer bool) {
	bits := d.uvarint()
	if bits>>len(parts) != 0 {
		return !d.bad
	}
	d.bad = d.bad || bits == 0
	for i, x := range parts {
		if bits&(1<<i) != 0 && !d.bad {
			x.decode(d, r)
		}
	}
	return false
}

func (r *Record) joinParts(o *Record, p *Params) {
	for _, x := range parts {
		if x.has(r) || x.has(o) {
			x.join(r, o, p)
		}
	}
}

func (r *Record) partsSize() int {
	n := 0
	for _, x := range parts {
		if x.has(r) {
			n += x.size(r)
		}
	}
	return n
}
