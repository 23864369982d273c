package population

import (
	"math"
	"sync/atomic"
)

// Renewal is a mixture of renewal processes with drop-out, on a grid of rates, shapes and drop-out probabilities: the time between purchases is gamma
// distributed with shape k, that is the more regular the larger k is, and the customer leaves after a purchase with probability q. The weights of the grid
// are learnt from histories alone, by EM (Laird 1978). It is a discrete relative of Pareto/GGG (Platzer and Reutterer 2016) and BG/CNBD-k (BTYDplus).
type Renewal struct {
	horizon float64 // days
	shapes  []shape
	rates   []float64 // a day
	lnRates []float64
	// weights of the cells by rate, shape and drop-out, the last fastest. They add up to 1.
	weights []float64
	cells   []cell // by rate and shape
	tabled  *[tabledGaps]atomic.Pointer[[maxCells]stayed]
}

// stayed is what predict needs of a cell for a number of gaps: the chances, weight included, of having left after the last purchase and of being a customer
// still, and of the latter how often they come within the horizon.
type stayed struct{ left, here, come float64 }

// tabledGaps is for how many numbers of gaps that is kept once it was needed: nearly all customers have fewer.
const tabledGaps = 96

// shape of the time between purchases.
type shape struct {
	k, lnK, lgK float64
	survival    *[numLnTimes]float64 // Q(k, k e^z) for z on the grid of lnTimes
}

// cell is one rate and shape.
type cell struct {
	perGap float64 // k ln(k rate) - ln Gamma(k)
	decay  float64 // k rate
	// What predict needs of the weights, by drop-out: of those who left after the last purchase, of those who did not, and of these times how often they come
	// within the horizon.
	left, stay, come [len(drops)]float64
}

// drops are the chances to leave after a purchase.
var drops = [...]float64{.003, .03, .08, .18, .4, .7}

const (
	numRates = 14

	// lnTimes is the grid on which survival is kept: ln(rate x time) from lnTimesFrom in numLnTimes-1 steps of 1/lnTimesPerUnit.
	lnTimesFrom    = -7.0
	lnTimesPerUnit = 20.0
	numLnTimes     = 241
)

// regular returns the shapes of a mixture that tells regular customers from irregular ones, and memoryless the one of a mixture that does not.
func regular() []float64    { return []float64{.5, 1, 2, 5, 15} }
func memoryless() []float64 { return []float64{1} }

// newRenewal returns a mixture with equal weights for a horizon in days.
func newRenewal(horizon float64, ks []float64) *Renewal {
	m := &Renewal{horizon: horizon}
	from, to := math.Log(1/(12*horizon)), math.Log(max(.9, 2/horizon))
	for i := range numRates {
		ln := from + (to-from)*float64(i)/(numRates-1)
		m.lnRates = append(m.lnRates, ln)
		m.rates = append(m.rates, math.Exp(ln))
	}
	for _, k := range ks {
		s := shape{k: k, lnK: math.Log(k), lgK: lgamma(k), survival: new([numLnTimes]float64)}
		for i := range s.survival {
			s.survival[i] = gammaSurvival(k, k*math.Exp(lnTimesFrom+float64(i)/lnTimesPerUnit))
		}
		m.shapes = append(m.shapes, s)
	}
	m.weights = make([]float64, len(m.rates)*len(m.shapes)*len(drops))
	for i := range m.weights {
		m.weights[i] = 1 / float64(len(m.weights))
	}
	for _, ln := range m.lnRates {
		for i := range m.shapes {
			s := &m.shapes[i]
			m.cells = append(m.cells, cell{perGap: s.k*(s.lnK+ln) - s.lgK, decay: s.k * math.Exp(ln)})
		}
	}
	m.prepare()
	return m
}

// prepare takes the weights into the cells. It must be called when they have changed.
func (m *Renewal) prepare() {
	for i := range m.cells {
		c, rate := &m.cells[i], m.rates[i/len(m.shapes)]
		for d, q := range drops {
			w := m.weights[i*len(drops)+d]
			c.left[d], c.stay[d] = w*q, w*(1-q)
			c.come[d] = c.stay[d] * -math.Expm1(rate*m.horizon*math.Log1p(-q)) / q
		}
	}
	m.tabled = new([tabledGaps]atomic.Pointer[[maxCells]stayed])
}

// stayed is what became of customers with a number of gaps, by cell. It must not be changed.
func (m *Renewal) stayed(gaps float64) *[maxCells]stayed {
	i := int(gaps)
	kept := i < tabledGaps && float64(i) == gaps
	if kept {
		if all := m.tabled[i].Load(); all != nil {
			return all
		}
	}
	own, stay := new([maxCells]stayed), stays(gaps)
	for j := range m.cells {
		cell, s := &m.cells[j], &own[j]
		for d, p := range stay {
			s.left += p * cell.left[d]
			s.here += p * cell.stay[d]
			s.come += p * cell.come[d]
		}
	}
	if kept {
		m.tabled[i].Store(own)
	}
	return own
}

// gammaSurvival is the regularised upper incomplete gamma function Q(k, x) for k = 1/2 or a whole number.
func gammaSurvival(k, x float64) float64 {
	if k == 0.5 {
		return math.Erfc(math.Sqrt(x))
	}
	term, sum := 1.0, 1.0
	for i := 1.0; i < k; i++ {
		term *= x / i
		sum += term
	}
	return math.Exp(-x) * sum
}

// place is a point on the grid of survival: between i and i+1, so far from i.
type place struct {
	i   int
	far float64
}

// placeOf ln(rate time).
func placeOf(ln float64) place {
	z := (ln - lnTimesFrom) * lnTimesPerUnit
	switch i := int(z); {
	case z <= 0:
		return place{}
	case i >= numLnTimes-1:
		return place{numLnTimes - 2, 1}
	default:
		return place{i, z - float64(i)}
	}
}

// at is Q(k, k rate time), between the points of the grid by a straight line.
func (s *shape) at(p place) float64 {
	a, b := s.survival[p.i], s.survival[p.i+1]
	return a + (b-a)*p.far
}

func lnTime(days float64) float64 { return math.Log(max(days, 1e-3)) }

// maxShapes and maxCells are the number of shapes, and of rates and shapes, of the largest mixture.
const (
	maxShapes = 5
	maxCells  = numRates * maxShapes
)

// logLikelihoods writes, by rate and shape, the logarithm of the likelihood but for the drop-out, and returns the largest.
func (m *Renewal) logLikelihoods(c *history, ll *[maxCells]float64) float64 {
	var irregular [maxShapes]float64
	for j := range m.shapes {
		irregular[j] = (m.shapes[j].k - 1) * c.sumLn
	}
	most, i := math.Inf(-1), 0
	for range m.lnRates {
		for j := range m.shapes {
			cell := &m.cells[i]
			l := c.x*cell.perGap + irregular[j] - cell.decay*c.tx
			if ll[i] = l; l > most {
				most = l
			}
			i++
		}
	}
	return most
}

// stays is, by drop-out, the chance of having stayed after each of x purchases.
func stays(x float64) (p [len(drops)]float64) {
	for i, q := range drops {
		p[i] = math.Exp(x * math.Log1p(-q))
	}
	return p
}

// fit learns the weights from histories, in so many rounds of EM. Prior mass of three customers is spread evenly.
func (m *Renewal) fit(all []history, rounds int) {
	const mass = 3.0
	n := len(m.weights)
	likely := make([]float64, len(all)*n) // by customer, then cell
	var ll [maxCells]float64
	for i := range all {
		most := m.logLikelihoods(&all[i], &ll)
		stay, ln := stays(all[i].x), lnTime(all[i].since)
		row := likely[i*n : (i+1)*n]
		for j := range m.cells {
			e := math.Exp(ll[j] - most)
			silent := m.shapes[j%len(m.shapes)].at(placeOf(ln + m.lnRates[j/len(m.shapes)]))
			for d, q := range drops {
				row[j*len(drops)+d] = e * stay[d] * (q + (1-q)*silent)
			}
		}
	}
	sum := make([]float64, n)
	for range rounds {
		clear(sum)
		for i := range all {
			row := likely[i*n : (i+1)*n]
			total := 0.0
			for j, l := range row {
				total += l * m.weights[j]
			}
			if total <= 0 {
				continue
			}
			inverse := 1 / total
			for j, l := range row {
				sum[j] += l * m.weights[j] * inverse
			}
		}
		for j := range sum {
			m.weights[j] = (sum[j] + mass/float64(n)) / (float64(len(all)) + mass)
		}
	}
	m.prepare()
}

// outlook is what a mixture says of a customer.
type outlook struct {
	quiet   float64 // chance of no purchase within the horizon
	lnRate  float64 // ln of the mean rate a day
	lnShape float64 // mean ln of the shape
	days    float64 // expected number of days of purchase within the horizon
}

// negligible is the logarithm of a likelihood, relative to the largest, that is left out.
const negligible = -25

// outlookAt are the logarithms of the silence so far, and of that at the end of the horizon.
type outlookAt struct{ now, then float64 }

// predict is the outlook of a customer for the next h days, whose logarithms are told.
func (m *Renewal) predict(c *history, h float64, ln outlookAt) outlook {
	var ll [maxCells]float64
	most := m.logLikelihoods(c, &ll)
	became := m.stayed(c.x)
	i := -1
	var all, quiet, rate, shape, days float64
	for r, lnRate := range m.lnRates {
		var now, then place
		placed := false
		for j := range m.shapes {
			i++
			l := ll[i] - most
			if l < negligible { // most are
				continue
			}
			if !placed {
				now, then, placed = placeOf(ln.now+lnRate), placeOf(ln.then+lnRate), true
			}
			s, c := &m.shapes[j], &became[i] // left after the last purchase, or here still if silent for so long
			e, silent := math.Exp(l), s.at(now)
			mass := e * (c.left + c.here*silent)
			all += mass
			quiet += e * (c.left + c.here*s.at(then))
			days += e * c.come * silent
			rate += mass * m.rates[r]
			shape += mass * s.lnK
		}
	}
	if all <= 0 {
		return outlook{quiet: 1, lnRate: m.lnRates[0]}
	}
	return outlook{quiet: quiet / all, lnRate: math.Log(rate / all), lnShape: shape / all, days: days / all * h / m.horizon}
}
