package population

import (
	"math"

	"ebb/state/customer"
)

// The probability of who is overdue is corrected by what became of those who were overdue. They are few among all, so that what is learnt of all is learnt of the others; and
// they are those who get alerts. Above all, who comes often and stays away for several of his gaps returns more often than any renewal process lets expect: people travel.

// lateEvidence is the weight of the rarer outcome at which the correction counts by half: as little beside gateEvidence as its weights are few.
const lateEvidence = 20.0

// overdueFeatures are the log-odds that are corrected, how much is known of the customer, and by how much he is overdue.
func overdueFeatures(told float64, h *customer.Rhythm, silent int) (f [numLinear]float64) {
	f[0] = told
	f[1] = math.Log(float64(h.Count))
	f[2] = math.Log(float64(max(silent, 1)) / max(h.MeanGap(), 1))
	return f
}

// overdue reports whether a customer who has been silent for some days is judged.
func (m *Model) overdue(h *customer.Rhythm, silent int) bool {
	return overdueWithin(m.horizon, h, silent)
}

func overdueWithin(horizon int, h *customer.Rhythm, silent int) bool {
	return h.Count >= LeastDays && silent >= Patience(h) && silent < horizon
}

// learnOverdue teaches the model what became of those whom an earlier one judged when they were overdue, in comparison with what it said of them.
func (f *Fold) learnOverdue(m *Model) {
	var all []example
	overlap := f.overlap()
	var stopped, weight float64
	count := 0
	for i := range f.matured {
		s := &f.matured[i]
		silent := int(s.day) - int(s.rhythm.Last)
		if !s.judged || !overdueWithin(f.cfg.Horizon, &s.rhythm, silent) {
			continue
		}
		e := example{prior: float64(s.told), weight: overlap * f.fade(s), linear: overdueFeatures(float64(s.told), &s.rhythm, silent)}
		if s.stopped(int32(f.cfg.Horizon)) {
			e.stopped = 1
			count++
		}
		stopped += e.stopped * e.weight
		weight += e.weight
		all = append(all, e)
	}
	if min(count, len(all)-count) < leastOutcomes {
		return
	}
	rarer := min(stopped, weight-stopped)
	m.late, m.lateGate = fitRidge(all), rarer/(rarer+lateEvidence)
}

// corrected are the log-odds of a customer who is overdue, given those of anybody.
func (m *Model) corrected(told float64, h *customer.Rhythm, silent int) float64 {
	if m.late == nil {
		return told
	}
	f := overdueFeatures(told, h, silent)
	return told + m.lateGate*m.late.correct(&f)
}
