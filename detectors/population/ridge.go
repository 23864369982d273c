package population

import "math"

// ridge is a logistic regression that corrects given log-odds: standardised features, a penalty on their weights.
type ridge struct {
	mean, scale [numLinear]float64
	weights     [numLinear + 1]float64 // the first is the intercept
}

const (
	ridgePenalty     = 10.0
	interceptPenalty = 0.5
	ridgeSteps       = 8
	ridgeHalvings    = 12
	// leastSpread is the deviation of a feature below which it is the same for all, but for rounding: nothing is learnt of it. Taken for a spread, rounding would make
	// the first other value, such as another price, a thousand million deviations.
	leastSpread = 1e-6
)

// fitRidge learns from examples in ridgeSteps of Newton's method, starting from their own log-odds. Of outcomes that are foretold well already the curvature says
// next to nothing, and a whole step may end far beyond the best: a step that makes things worse is halved until it does not.
func fitRidge(all []example) *ridge {
	const n = numLinear + 1
	m := &ridge{}
	for i := range all {
		for j, v := range all[i].linear {
			m.mean[j] += v / float64(len(all))
		}
	}
	for i := range all {
		for j, v := range all[i].linear {
			m.scale[j] += (v - m.mean[j]) * (v - m.mean[j]) / float64(len(all))
		}
	}
	for j := range m.scale {
		if spread := math.Sqrt(m.scale[j]); spread > leastSpread {
			m.scale[j] = 1 / (spread + 1e-9)
		} else {
			m.scale[j] = 0
		}
	}
	before := m.fits(all)
	for range ridgeSteps {
		var hessian [n][n]float64
		var gradient [n]float64
		for j := range n {
			penalty := ridgePenalty
			if j == 0 {
				penalty = interceptPenalty
			}
			hessian[j][j] = penalty
			gradient[j] = -penalty * m.weights[j]
		}
		for i := range all {
			e := &all[i]
			z := m.standard(&e.linear)
			p := probability(e.prior + m.dot(&z))
			residual, curve := e.weight*(e.stopped-p), e.weight*p*(1-p)
			for j := range n {
				gradient[j] += residual * z[j]
				for k := 0; k <= j; k++ {
					hessian[j][k] += curve * z[j] * z[k]
				}
			}
		}
		step, ok := solve(&hessian, gradient)
		if !ok {
			return m
		}
		if before, ok = m.walk(&step, all, before); !ok {
			return m
		}
	}
	return m
}

// walk goes a step, or as much of it as does not fit worse than before, and returns how well that fits; false if there is no such part.
func (m *ridge) walk(step *[numLinear + 1]float64, all []example, before float64) (float64, bool) {
	const rounding = 1e-9
	from := m.weights
	for part, i := 1.0, 0; i <= ridgeHalvings; part, i = part/2, i+1 {
		for j := range step {
			m.weights[j] = from[j] + part*step[j]
		}
		if now := m.fits(all); now >= before-rounding*math.Abs(before) {
			return now, true
		}
	}
	m.weights = from
	return before, false
}

// fits is what is made as large as possible: the logarithm of the likelihood of the outcomes, less the penalty on the weights.
func (m *ridge) fits(all []example) float64 {
	sum := -interceptPenalty / 2 * m.weights[0] * m.weights[0]
	for _, w := range m.weights[1:] {
		sum -= ridgePenalty / 2 * w * w
	}
	for i := range all {
		e := &all[i]
		z := m.standard(&e.linear)
		odds := e.prior + m.dot(&z)
		if e.stopped != 0 {
			odds = -odds
		}
		sum -= e.weight * (math.Log1p(math.Exp(-math.Abs(odds))) + max(odds, 0)) // ln(1+e^odds)
	}
	return sum
}

func (m *ridge) standard(f *[numLinear]float64) (z [numLinear + 1]float64) {
	z[0] = 1
	for j, v := range f {
		z[j+1] = (v - m.mean[j]) * m.scale[j]
	}
	return z
}

func (m *ridge) dot(z *[numLinear + 1]float64) float64 {
	sum := 0.0
	for j, w := range m.weights {
		sum += w * z[j]
	}
	return sum
}

// correct is what is to be added to the prior.
func (m *ridge) correct(f *[numLinear]float64) float64 {
	z := m.standard(f)
	return m.dot(&z)
}

// solve solves a system with a symmetric positive definite matrix, of which the lower half is given, by Cholesky's method. It is false if it is not one.
func solve(a *[numLinear + 1][numLinear + 1]float64, b [numLinear + 1]float64) ([numLinear + 1]float64, bool) {
	n := len(b)
	for j := range n {
		for k := 0; k <= j; k++ {
			sum := a[j][k]
			for i := range k {
				sum -= a[j][i] * a[k][i]
			}
			if j == k {
				if sum <= 0 {
					return b, false
				}
				a[j][j] = math.Sqrt(sum)
			} else {
				a[j][k] = sum / a[k][k]
			}
		}
	}
	for j := range n {
		for k := range j {
			b[j] -= a[j][k] * b[k]
		}
		b[j] /= a[j][j]
	}
	for j := n - 1; j >= 0; j-- {
		for k := j + 1; k < n; k++ {
			b[j] -= a[k][j] * b[k]
		}
		b[j] /= a[j][j]
	}
	return b, true
}
