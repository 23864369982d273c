package population

import "math"

// BGNBD is the BG/NBD model of Fader, Hardie and Lee, "Counting Your Customers the Easy Way", Marketing Science 2005: customers buy at a rate that is gamma
// distributed over them (shape R, rate Alpha in days), and each leaves after a purchase with a probability that is beta distributed (A, B).
type BGNBD struct {
	R, Alpha, A, B float64
}

// history is what the label-free models know of a customer on a day, times in days.
type history struct {
	x     float64 // gaps: days of purchase less one
	tx    float64 // from the first to the last day
	t     float64 // from the first day to today
	since float64 // from the last day to today
	sumLn float64 // sum of ln(gap)
}

// fitBGNBD finds the parameters by maximum likelihood with a slight penalty, from warm where it is not zero. Times are scaled so that the longest is 10.
func fitBGNBD(all []history, warm BGNBD) BGNBD {
	longest := 0.0
	for i := range all {
		longest = max(longest, all[i].t)
	}
	scale := 10 / longest
	nll := func(p []float64) float64 {
		m := bgParams(p)
		sum := m.logLikelihood(all, scale)
		penalty := 0.0
		for _, v := range p {
			penalty += v * v
		}
		return -sum/float64(len(all)) + 1e-4*penalty
	}
	var best []float64
	if warm != (BGNBD{}) {
		best, _ = minimize(nll, []float64{math.Log(warm.R), math.Log(warm.Alpha * scale), math.Log(warm.A), math.Log(warm.B)}, 200)
	} else {
		a, fa := minimize(nll, []float64{0, 0, 0, 0}, 1500)
		b, fb := minimize(nll, []float64{-1, 1, 0, 1}, 1500)
		if best = a; fb < fa {
			best = b
		}
	}
	m := bgParams(best)
	m.Alpha /= scale
	return m
}

func bgParams(p []float64) BGNBD {
	e := func(v float64) float64 { return math.Exp(min(max(v, -8), 8)) }
	return BGNBD{e(p[0]), e(p[1]), e(p[2]), e(p[3])}
}

// logLikelihood is the sum over all customers, equation 6 of the paper, with times multiplied by scale.
func (m BGNBD) logLikelihood(all []history, scale float64) float64 {
	lgR, lgAB, lgB := lgamma(m.R), lgamma(m.A+m.B), lgamma(m.B)
	lnAlpha, lnA := math.Log(m.Alpha), math.Log(m.A)
	// What depends on the number of gaps alone is the same for many customers.
	type gapTerms struct {
		known      bool
		head, left float64
	}
	most, longest := 0.0, 0.0
	for i := range all {
		most, longest = max(most, all[i].x), max(longest, all[i].t)
	}
	byGaps := make([]gapTerms, int(most)+1)
	// So is the logarithm of a time, which is in whole days; 0 is not known yet.
	byDays := make([]float64, int(longest)+1)
	lnTime := func(days float64) float64 {
		ln := &byDays[int(days)]
		if *ln == 0 {
			*ln = math.Log(m.Alpha + days*scale)
		}
		return *ln
	}
	sum := 0.0
	for i := range all {
		c := &all[i]
		g := &byGaps[int(c.x)]
		if !g.known {
			g.known = true
			g.head = lgamma(m.R+c.x) - lgR + m.R*lnAlpha + lgAB + lgamma(m.B+c.x) - lgB - lgamma(m.A+m.B+c.x)
			if c.x > 0 {
				g.left = lnA - math.Log(m.B+c.x-1)
			}
		}
		tail := -(m.R + c.x) * lnTime(c.t)
		if c.x > 0 {
			tail = logAddExp(tail, g.left-(m.R+c.x)*lnTime(c.tx))
		}
		sum += g.head + tail
	}
	return sum
}

// predict is the chance that the customer has left, and that he does not buy in the next h days.
func (m BGNBD) predict(c *history, h float64) (left, quiet float64) {
	alive, n := 1.0, m.R+c.x
	if c.x > 0 {
		alive = 1 / (1 + m.A/(m.B+c.x-1)*math.Exp(n*math.Log((m.Alpha+c.t)/(m.Alpha+c.tx))))
	}
	none := math.Exp(n * math.Log((m.Alpha+c.t)/(m.Alpha+c.t+h)))
	return 1 - alive, 1 - alive*(1-none)
}

func lgamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}

func logAddExp(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	return a + math.Log1p(math.Exp(b-a))
}

// minimize is the simplex method of Nelder and Mead 1965 with the usual coefficients, until the simplex is small or after so many steps. It returns the best
// point and its value.
func minimize(f func([]float64) float64, start []float64, steps int) ([]float64, float64) {
	const tolerance = 1e-4
	n := len(start)
	points, values := make([][]float64, n+1), make([]float64, n+1)
	for i := range points {
		p := append([]float64(nil), start...)
		if i > 0 {
			if p[i-1] *= 1.05; p[i-1] == 0 {
				p[i-1] = 0.00025
			}
		}
		points[i], values[i] = p, f(p)
	}
	center := make([]float64, n)
	move := func(by float64) ([]float64, float64) { // from the worst point through the centre of the others
		p := make([]float64, n)
		for j := range p {
			p[j] = center[j] + by*(points[n][j]-center[j])
		}
		return p, f(p)
	}
	replace := func(p []float64, v float64) { points[n], values[n] = p, v }
	for range steps {
		sortSimplex(points, values)
		if spread(points) <= tolerance && values[n]-values[0] <= tolerance {
			break
		}
		for j := range center {
			center[j] = 0
			for i := range n {
				center[j] += points[i][j] / float64(n)
			}
		}
		p, v := move(-1)
		switch {
		case v < values[0]:
			if q, w := move(-2); w < v {
				p, v = q, w
			}
			replace(p, v)
			continue
		case v < values[n-1]:
			replace(p, v)
			continue
		case v < values[n]:
			if q, w := move(-0.5); w <= v {
				replace(q, w)
				continue
			}
		default:
			if q, w := move(0.5); w < values[n] {
				replace(q, w)
				continue
			}
		}
		for i := 1; i <= n; i++ {
			for j := range points[i] {
				points[i][j] = points[0][j] + 0.5*(points[i][j]-points[0][j])
			}
			values[i] = f(points[i])
		}
	}
	sortSimplex(points, values)
	return points[0], values[0]
}

func sortSimplex(points [][]float64, values []float64) {
	for i := 1; i < len(points); i++ {
		for j := i; j > 0 && values[j] < values[j-1]; j-- {
			points[j], points[j-1] = points[j-1], points[j]
			values[j], values[j-1] = values[j-1], values[j]
		}
	}
}

func spread(points [][]float64) float64 {
	d := 0.0
	for _, p := range points[1:] {
		for j := range p {
			d = max(d, math.Abs(p[j]-points[0][j]))
		}
	}
	return d
}
