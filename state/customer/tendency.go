package customer

// tendency remembers where the windows before a day say that the customer is heading, so that it is not reckoned again for each event of that day.
type tendency struct {
	day   int32
	known bool
	is    uint8
}

// Tendency is what KeepTendency was told last of a local day. It is false if that may not be true any more, because something was added to another day since.
func (r *Record) Tendency(day int32) (is uint8, known bool) {
	return r.tendency.is, r.tendency.known && r.tendency.day == day
}

// KeepTendency remembers something that follows from the windows before a local day, from when the customer came, and from his zone.
func (r *Record) KeepTendency(day int32, is uint8) {
	r.tendency = tendency{day: day, known: true, is: is}
}

// forgetTendency is called before a day of the windows changes.
func (r *Record) forgetTendency(day int32) {
	if day != r.tendency.day {
		r.tendency = tendency{}
	}
}
