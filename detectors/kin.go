package detectors

// Kin is what kind of trouble a detector tells of. Trouble of both kinds at the same time is worse than each.
type Kin uint8

// The kinds.
const (
	// NoKin: its alerts stand for themselves.
	NoKin Kin = iota
	// Leaving: the customer does less than he used to, or nothing.
	Leaving
	// Grievance: he has a reason to.
	Grievance
)

// Opposite reports whether one is Leaving and the other Grievance.
func (k Kin) Opposite(o Kin) bool { return k != NoKin && o != NoKin && k != o }

// related is a detector of a kind. The fixed rules of the method plain are of none: each is told as it stands, so that it can be checked by hand.
type related interface{ Kin() Kin }

// Kin is what kind of trouble the enabled detector of a name tells of.
func (s *Set) Kin(name string) Kin {
	if d, ok := s.Detector(name).(related); ok {
		return d.Kin()
	}
	return NoKin
}

// Leaving reports whether an alert of the enabled detector of a name, by whichever method, tells that the customer does less than he used to, or nothing.
func (s *Set) Leaving(name string) bool {
	switch name {
	case SilenceName, SpendDropName, UsageDropName:
		return true
	}
	return s.Kin(name) == Leaving
}

func (*silenceModel) Kin() Kin        { return Leaving }
func (*drop) Kin() Kin                { return Leaving }
func (*outflow) Kin() Kin             { return Leaving }
func (*complaintUnresolved) Kin() Kin { return Grievance }
func (*friction) Kin() Kin            { return Grievance }
