package customer

import (
	"math"
	"sync"
)

// Drop is a sequential test of whether a customer has begun to spend less, or to use less: a mixture Shiryaev-Roberts statistic
// over nine sizes of drop, of how often, of how much, or of both (Shiryaev 1963, Roberts 1966, Pollak 1985; mixtures: Shin,
// Ramdas and Rinaldo, E-detectors). One observation is a local day with a payment: the days since the one before it, and what was
// paid. Gaps and amounts are gamma-distributed around the customer's own means, which are known as well as he is: a young
// baseline cannot shout. A payment of many times the usual one enters the baseline at three times, a gap at four times.
//
// The zero value knows nothing. Everything is kept in a form that is stored as it is, so that a record that was stored
// and read again decides as one that was not.
type Drop struct {
	odds     [drops]int16 // ln R of each size of drop, in 1/oddsUnit
	weight   float32      // discounted number of gaps
	gaps     float32      // discounted sum of gaps, days
	gaps2    float32      // of their squares
	amounts  float32      // of amounts, currency units
	amounts2 float32
	last     uint16 // local day of the newest payment that was taken in, 0 for none
	fired    uint16 // local day on which an alert began last, 0 for never
	peak     int16  // highest statistic of the block of days that last lies in, in 1/oddsUnit
	peaked   int16  // of the block before it
}

const (
	drops    = 9
	oddsUnit = 1024.0

	// oddsLeast stands for R = 0. oddsMost is more than any threshold, and not so much that it takes long to come down from there.
	oddsLeast, oddsMost = -20.0, 13.0

	// dropMemory discounts what is older: the baseline is made of about so many payments.
	dropMemory = 60.0
	// dropReady is the weight from which on the test runs: three gaps.
	dropReady = 2.9
	// Pseudo-payments that shrink the shapes, and the squared coefficients of variation they are shrunk towards.
	gapWeight, amountWeight = 4.0, 1.0
	gapSpread, amountSpread = 1.0, 0.5
	shapeLeast, shapeMost   = 0.3, 30.0
	// What enters the baseline at most, in usual gaps and payments.
	gapCap, amountCap = 4.0, 3.0
	// dropStep bounds what one payment says, in ln.
	dropStep = 20.0

	// A gap of so many days, and of so many usual gaps, is an absence: whoever comes back after it begins anew.
	absentDays, absentGaps = 60, 6
)

// dropSizes are the sizes of drop: what becomes of the rate and of the amount, and the logarithms.
var dropSizes = func() (s [drops]struct{ rate, amount, lnRate, lnAmount float64 }) {
	for i, d := range [...]float64{0.7, 0.5, 0.2} {
		both := math.Sqrt(d)
		for j, size := range [...][2]float64{{d, 1}, {1, d}, {both, both}} {
			z := &s[3*i+j]
			z.rate, z.amount, z.lnRate, z.lnAmount = size[0], size[1], math.Log(size[0]), math.Log(size[1])
		}
	}
	return s
}()

// dropBase is what a customer is used to.
type dropBase struct {
	gapShape, amountShape float64 // shapes of the gamma distributions
	a, b                  float64 // of the gamma distribution of the rate
	p, q                  float64 // of that of the inverse scale of amounts
}

func (d *Drop) base() dropBase {
	w := float64(d.weight)
	k := shapeOf(w, float64(d.gaps), float64(d.gaps2), gapSpread, gapWeight)
	s := shapeOf(w, float64(d.amounts), float64(d.amounts2), amountSpread, amountWeight)
	return dropBase{gapShape: k, amountShape: s, a: 0.5 + k*w, b: k * float64(d.gaps), p: 0.5 + s*w, q: s * float64(d.amounts)}
}

// shapeOf is the shape of a gamma distribution, 1/cv^2, from discounted sums, shrunk.
func shapeOf(w, sum, squares, prior, weight float64) float64 {
	if w <= 0 || sum <= 0 {
		return 1 / prior
	}
	mean := sum / w
	cv2 := max(squares/w/(mean*mean)-1, 0)
	if w > 1.5 {
		cv2 *= w / max(w-1, 0.5)
	}
	return min(max((w+weight)/(cv2*w+prior*weight), shapeLeast), shapeMost)
}

// Take adds a payment of an amount above 0, so many days after the one before it. Of an amount of 0 only the time counts.
func (d *Drop) Take(gap, amount float64) {
	w := float64(d.weight)
	if amount <= 0 {
		if w == 0 {
			return
		}
		amount = float64(d.amounts) / w
	}
	switch {
	case !d.Ready():
	case d.Absent(gap):
		d.Restart()
	default:
		d.weigh(gap, amount)
	}
	if w >= 2 {
		gap = min(gap, gapCap*float64(d.gaps)/w)
		amount = min(amount, amountCap*float64(d.amounts)/w)
	}
	const keep = 1 - 1/dropMemory
	d.weight = float32(w*keep + 1)
	d.gaps = float32(float64(d.gaps)*keep + gap)
	d.gaps2 = float32(float64(d.gaps2)*keep + gap*gap)
	d.amounts = float32(float64(d.amounts)*keep + amount)
	d.amounts2 = float32(float64(d.amounts2)*keep + amount*amount)
	if d.Ready() && w < dropReady {
		d.Restart()
		d.peak, d.peaked = oddsLeast*oddsUnit, oddsLeast*oddsUnit
	}
}

// weigh updates the odds of each size of drop by one payment: R = (1+R) L.
func (d *Drop) weigh(gap, amount float64) {
	x, t := d.base(), ratios()
	for i := range dropSizes {
		d.odds[i] = odds(t.sums[uint16(d.odds[i])] + clamp(x.says(i, gap, amount), -dropStep, dropStep))
	}
}

// says is ln L, L the ratio of the predictive densities of gap and amount with and without a size of drop.
func (x *dropBase) says(size int, gap, amount float64) float64 {
	z := &dropSizes[size]
	l := 0.0
	if z.rate != 1 {
		kg := x.gapShape * gap
		l -= x.a*z.lnRate + (x.a+x.gapShape)*math.Log((x.b/z.rate+kg)/(x.b+kg))
	}
	if z.amount != 1 {
		sa := x.amountShape * amount
		l += x.p*z.lnAmount - (x.p+x.amountShape)*math.Log((z.amount*x.q+sa)/(x.q+sa))
	}
	return l
}

// odds rounds half away from zero, as math.Round does, which is slower.
func odds(ln float64) int16 {
	v := clamp(ln, oddsLeast, oddsMost) * oddsUnit
	whole := int16(v)
	switch rest := v - float64(whole); {
	case rest >= 0.5:
		whole++
	case rest <= -0.5:
		whole--
	}
	return whole
}

func clamp(v, low, high float64) float64 {
	if v < low {
		return low
	}
	if v > high {
		return high
	}
	return v
}

// ratioTables hold what is computed of a size's odds, by their bits: R, and ln(1 + R).
type ratioTables struct{ ratios, sums [1 << 16]float64 }

// ratios are worked out once: every payment needs nine of them, and again for what is not settled yet.
var ratios = sync.OnceValue(func() *ratioTables {
	t := &ratioTables{}
	for v := math.MinInt16; v <= math.MaxInt16; v++ {
		r := 0.0
		if v > oddsLeast*oddsUnit {
			r = math.Exp(float64(v) / oddsUnit)
		}
		t.ratios[uint16(v)], t.sums[uint16(v)] = r, math.Log1p(r)
	}
	return t
})

// ratio is R of a size of drop.
func (t *ratioTables) ratio(d *Drop, i int) float64 { return t.ratios[uint16(d.odds[i])] }

// Restart forgets the evidence, not the baseline.
func (d *Drop) Restart() {
	for i := range d.odds {
		d.odds[i] = oddsLeast * oddsUnit
	}
}

// Absent reports whether so many days without a payment are no drop any more but an absence.
func (d *Drop) Absent(days float64) bool { return days >= absentDays && days >= absentGaps*d.Gap() }

// Ready reports whether there were payments enough to compare with.
func (d *Drop) Ready() bool { return d.weight >= dropReady }

// Statistic is the natural logarithm of the mean of R, the evidence for a drop as of the newest payment.
func (d *Drop) Statistic() float64 {
	sum, t := 0.0, ratios()
	for i := range d.odds {
		sum += t.ratio(d, i)
	}
	return max(math.Log(sum/drops), oddsLeast)
}

// Silent is what the statistic is after so many days without a payment: with each size of drop, staying away for so long is more
// likely by the ratio of the gamma survival functions.
func (d *Drop) Silent(days float64) float64 {
	if !d.Ready() || days <= 0 {
		return d.Statistic()
	}
	sum := 0.0
	for _, r := range d.silent(days) {
		sum += r
	}
	return max(math.Log(sum/drops), oddsLeast)
}

// silent is R of each size of drop after so many days without a payment.
func (d *Drop) silent(days float64) (all [drops]float64) {
	x, t := d.base(), ratios()
	tail := gammaTailOf(x.gapShape)
	usual := min(x.gapShape*x.a/x.b*days, 50)
	none := math.Log(tail.above(usual) + 1e-22)
	for i := range dropSizes {
		z := &dropSizes[i]
		all[i] = t.ratio(d, i)
		if z.rate != 1 {
			l := math.Log(tail.above(usual*z.rate)+1e-22) - none
			all[i] = (1 + all[i]) * math.Exp(min(max(min(l, -x.a*z.lnRate), 0), 30))
		}
	}
	return all
}

// priced is the size of drop for which the evidence is strongest after so many days without a payment.
func (d *Drop) priced(days float64) int {
	best, ratios := 0, d.silent(days)
	for i, r := range ratios {
		if r > ratios[best] {
			best = i
		}
	}
	return best
}

// Excess is how far the statistic is above the threshold of one false alarm a year, after so many days without a payment.
func (d *Drop) Excess(days float64) float64 { return d.Silent(days) - d.Threshold(1) }

// Threshold is what the statistic has to reach for no more than so many false alarms per customer and year, above 0. It is fitted to simulated
// customers of 1 to 30 payments a month: more looks a month need more, so do amounts that vary a lot; who pays regularly, the same every time, needs less.
func (d *Drop) Threshold(perYear float64) float64 {
	x := d.base()
	gap := max(d.Gap(), 1)
	// Gaps are whole days: of who pays nearly every day they vary little, without his being regular.
	regular := between(math.Log(x.gapShape)+math.Log(1.01-1/(gap+0.5)), 0.25, 1)
	t := 4.25 + 0.28*math.Log(30.44/gap) - math.Log(perYear)
	lnAmount := math.Log(x.amountShape)
	t += 1.1 * between(-lnAmount, -0.45, 0.05)
	return t - regular*(1.2+0.8*between(lnAmount, 1.8, 2.5))
}

// LeastThreshold is a lower bound of Threshold, whoever the customer is. It costs nothing to compare with.
func LeastThreshold(perYear float64) float64 {
	const longest = 1 << 16 // days, no test sees a longer gap
	return 4.25 + 0.28*math.Log(30.44/longest) - (1.2 + 0.8) - math.Log(perYear)
}

// Quiet is a lower bound of the number of days without a payment before the statistic can reach a threshold, DropNever if it never does. It is close
// for who pays irregularly, and costs little.
func (d *Drop) Quiet(threshold float64) float64 {
	if !d.Ready() {
		return DropNever
	}
	x := d.base()
	sum, t := 0.0, ratios()
	for i := range d.odds {
		sum += 1 + t.ratio(d, i)
	}
	// Each R is multiplied by no more than 1/Q(k, k lambda u): it takes a silence that is as unlikely as that.
	need := threshold - math.Log(sum/drops)
	if need <= 0 {
		return 0
	}
	return unlikely().days(x.gapShape, need) * x.b / x.a
}

// DropNever is more days than anybody waits.
const DropNever = 1e6

// tails holds, for shapes of the gamma distribution and steps of unlikeliness, after how many usual gaps of silence it is reached.
type tails [tailShapes][tailSteps]float64

const (
	tailShapes, tailSteps = 24, 64
	tailStep              = 0.5 // in -ln Q
)

func tailShape(i int) float64 {
	return shapeLeast * math.Pow(shapeMost/shapeLeast, float64(i)/(tailShapes-1))
}

var unlikely = sync.OnceValue(func() *tails {
	t := &tails{}
	for i := range t {
		k := tailShape(i)
		gaps := 0.0
		for j := range t[i] {
			for gaps < 200 && -math.Log(gammaTail(k, k*(gaps+0.02))) < float64(j)*tailStep {
				gaps += 0.02 + gaps/50
			}
			t[i][j] = gaps
		}
	}
	return t
})

// days is a lower bound of the number of usual gaps after which a silence has the probability e^-need.
func (t *tails) days(shape, need float64) float64 {
	i := int(math.Log(shape/shapeLeast) / math.Log(shapeMost/shapeLeast) * (tailShapes - 1))
	i = min(max(i, 0), tailShapes-2)
	j := min(int(need/tailStep), tailSteps-1)
	return min(t[i][j], t[i+1][j])
}

// onset is the index of the first of some observations from which on they speak for a drop, in the order of time: of the size of drop for which the evidence is
// strongest, the index from which on the likelihood ratios multiply to the most. It is len(gaps) if only the silence after them does.
func (d *Drop) onset(gaps, amounts []float64, silent float64) int {
	best := 0
	for i := range d.odds {
		if d.odds[i] > d.odds[best] {
			best = i
		}
	}
	if silent > 0 {
		best = d.priced(silent)
	}
	x := d.base()
	sum, most, at := 0.0, 0.0, len(gaps)
	for i := len(gaps) - 1; i >= 0; i-- {
		if sum += x.says(best, gaps[i], amounts[i]); sum > most {
			most, at = sum, i
		}
	}
	return at
}

// between is 0 up to low, 1 from high on, and linear between.
func between(v, low, high float64) float64 { return min(max((v-low)/(high-low), 0), 1) }

// Gap is the usual number of days between two payments, 0 while it is unknown.
func (d *Drop) Gap() float64 { return mean(d.gaps, d.weight) }

// Amount is what is usually paid on a day with payments, in currency units, 0 while it is unknown.
func (d *Drop) Amount() float64 { return mean(d.amounts, d.weight) }

func mean(sum, weight float32) float64 {
	if weight == 0 {
		return 0
	}
	return float64(sum) / float64(weight)
}

// gammaTail is above for a single number.
func gammaTail(a, x float64) float64 { return gammaTailOf(a).above(x) }

// tailOf is a gamma distribution of scale 1.
type tailOf struct{ shape, lnGamma float64 }

func gammaTailOf(shape float64) tailOf {
	lg, _ := math.Lgamma(shape)
	return tailOf{shape, lg}
}

// above is the probability that a number is above x: the regularised upper incomplete gamma function Q(a, x) for a above 0. Its relative error is below 1e-10.
func (t tailOf) above(x float64) float64 {
	if x <= 0 {
		return 1
	}
	a := t.shape
	front := math.Exp(a*math.Log(x) - x - t.lnGamma)
	if x < a+1 { // series of the lower function
		term := 1 / a
		sum := term
		for n := 1; n < 500 && term > sum*1e-13; n++ {
			term *= x / (a + float64(n))
			sum += term
		}
		return max(1-front*sum, 0)
	}
	// Continued fraction by Lentz' method.
	const tiny = 1e-300
	b := x + 1 - a
	c, f := 1/tiny, 1/b
	h := f
	for n := 1; n < 500; n++ {
		an := -float64(n) * (float64(n) - a)
		b += 2
		f = an*f + b
		if math.Abs(f) < tiny {
			f = tiny
		}
		if c = b + an/c; math.Abs(c) < tiny {
			c = tiny
		}
		f = 1 / f
		step := f * c
		h *= step
		if math.Abs(step-1) < 1e-12 {
			break
		}
	}
	return front * h
}
