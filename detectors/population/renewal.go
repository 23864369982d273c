package population

import "math"

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
	// coming is, by rate and drop-out, how often a customer comes within the horizon who is one now.
	coming []float64
}

// shape of the time between purchases.
type shape struct {
	k, lnK, lgK float64
	survival    []float64 // Q(k, k e^z) for z on the grid of lnTimes
}

// cell is one rate and shape.
type cell struct {
	perGap float64 // k ln(k rate) - ln Gamma(k)
	decay  float64 // k rate
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
		s := shape{k: k, lnK: math.Log(k), lgK: lgamma(k), survival: make([]float64, numLnTimes)}
		for i := range s.survival {
			s.survival[i] = gammaSurvival(k, k*math.Exp(lnTimesFrom+float64(i)/lnTimesPerUnit))
		}
		m.shapes = append(m.shapes, s)
	}
	m.weights = make([]float64, len(m.rates)*len(m.shapes)*len(drops))
	for i := range m.weights {
		m.weights[i] = 1 / float64(len(m.weights))
	}
	for _, rate := range m.rates {
		for _, q := range drops {
			m.coming = append(m.coming, -math.Expm1(rate*horizon*math.Log1p(-q))/q)
		}
	}
	for _, ln := range m.lnRates {
		for i := range m.shapes {
			s := &m.shapes[i]
			m.cells = append(m.cells, cell{perGap: s.k*(s.lnK+ln) - s.lgK, decay: s.k * math.Exp(ln)})
		}
	}
	return m
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

// at is Q(k, k rate time) for ln = ln(rate time), between the points of the grid by a straight line.
func (s *shape) at(ln float64) float64 {
	z := (ln - lnTimesFrom) * lnTimesPerUnit
	if z <= 0 {
		return s.survival[0]
	}
	i := int(z)
	if i >= numLnTimes-1 {
		return s.survival[numLnTimes-1]
	}
	a, b := s.survival[i], s.survival[i+1]
	return a + (b-a)*(z-float64(i))
}

func lnTime(days float64) float64 { return math.Log(max(days, 1e-3)) }

// maxCells is the number of rates and shapes of the largest mixture.
const maxCells = numRates * 5

// logLikelihoods writes, by rate and shape, the logarithm of the likelihood but for the drop-out, and the chance that a customer who stays is silent for as
// long as he is. The largest logarithm is taken off all.
func (m *Renewal) logLikelihoods(c *history, ll, silent *[maxCells]float64) {
	ln, most := lnTime(c.since), math.Inf(-1)
	for i := range m.cells {
		s := i % len(m.shapes)
		ll[i] = c.x*m.cells[i].perGap + (m.shapes[s].k-1)*c.sumLn - m.cells[i].decay*c.tx
		most = max(most, ll[i])
		silent[i] = m.shapes[s].at(ln + m.lnRates[i/len(m.shapes)])
	}
	for i := range m.cells {
		ll[i] -= most
	}
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
	var ll, silent [maxCells]float64
	for i := range all {
		m.logLikelihoods(&all[i], &ll, &silent)
		stay := stays(all[i].x)
		row := likely[i*n : (i+1)*n]
		for j := range m.cells {
			e := math.Exp(ll[j])
			for d, q := range drops {
				row[j*len(drops)+d] = e * stay[d] * (q + (1-q)*silent[j])
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
}

// outlook is what a mixture says of a customer.
type outlook struct {
	quiet   float64 // chance of no purchase within the horizon
	lnRate  float64 // ln of the mean rate a day
	lnShape float64 // mean ln of the shape
	days    float64 // expected number of days of purchase within the horizon
}

// predict is the outlook of a customer for the next h days.
func (m *Renewal) predict(c *history, h float64) outlook {
	var ll, silent [maxCells]float64
	m.logLikelihoods(c, &ll, &silent)
	stay := stays(c.x)
	ln := lnTime(c.since + h)
	var all, quiet, rate, shape, days float64
	for i := range m.cells {
		if ll[i] < -40 {
			continue
		}
		s, coming := &m.shapes[i%len(m.shapes)], m.coming[i/len(m.shapes)*len(drops):]
		w := m.weights[i*len(drops) : (i+1)*len(drops)]
		gone, here, comes := 0.0, 0.0, 0.0 // left after the last purchase, or still a customer if silent for so long
		for d, q := range drops {
			p := w[d] * stay[d]
			gone += p * q
			here += p * (1 - q)
			comes += p * (1 - q) * coming[d]
		}
		e := math.Exp(ll[i])
		days += e * comes * silent[i]
		mass := e * (gone + here*silent[i])
		all += mass
		quiet += e * (gone + here*s.at(ln+m.lnRates[i/len(m.shapes)]))
		rate += mass * m.rates[i/len(m.shapes)]
		shape += mass * s.lnK
	}
	if all <= 0 {
		return outlook{quiet: 1, lnRate: m.lnRates[0]}
	}
	return outlook{quiet: quiet / all, lnRate: math.Log(rate / all), lnShape: shape / all, days: days / all * h / m.horizon}
}
