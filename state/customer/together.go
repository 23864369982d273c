package customer

// An alert may be told within another of the same customer instead of by itself. Which is which is kept with the alerts that are open.

// Host returns the index of the open alert within which the one of index i is told, -1 if there is none: it is told by itself, or what it was told within is over.
func (r *Record) Host(i int) int {
	l := &r.Lifecycles[i]
	if !l.Guest() {
		return -1
	}
	for k := range r.Lifecycles {
		if k != i && r.Lifecycles[k].AlertID == l.Host {
			return k
		}
	}
	return -1
}

// Guest reports whether the alert is told within another.
func (l *Lifecycle) Guest() bool { return l.Host != [16]byte{} }

// togetherPart keeps within which other alert an open alert is told.
//
//	n, then for each such alert: index in Lifecycles, 16 bytes of the other's id
type togetherPart struct{}

func guests(r *Record) int {
	n := 0
	for i := range r.Lifecycles {
		if r.Lifecycles[i].Guest() {
			n++
		}
	}
	return n
}

func (togetherPart) has(r *Record) bool { return guests(r) != 0 }

func (togetherPart) append(dst []byte, r *Record) []byte {
	dst = appendUvarint(dst, uint64(guests(r)))
	for i := range r.Lifecycles {
		if l := &r.Lifecycles[i]; l.Guest() {
			dst = append(appendUvarint(dst, uint64(i)), l.Host[:]...)
		}
	}
	return dst
}

func (togetherPart) decode(d *decoder, r *Record) {
	n, next := d.count(d.uvarint(), 17), uint64(0)
	d.bad = d.bad || n == 0
	for range n {
		i, host := d.uvarint(), d.id()
		if d.bad = d.bad || i < next || i >= uint64(len(r.Lifecycles)) || host == [16]byte{}; d.bad {
			return
		}
		r.Lifecycles[i].Host, next = host, i+1
	}
}

// join leaves both as they are: the alerts of who is merged are over by then.
func (togetherPart) join(*Record, *Record, *Params) {}

// size is nothing: the alerts are counted whole.
func (togetherPart) size(*Record) int { return 0 }
