package customer

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// world is a simulated crowd of customers whose spend does not change, but for the fall that a test gives them.
type world struct {
	perMonth float64
	kind     string  // "irregular", "regular" or "calendar"
	cv       float64 // of the amounts
	big      float64 // chance of a bill eight times as high
	season   float64 // swing of the rate over the year
	heavy    bool    // log-normal amounts

	from   int     // day of the fall, 0 for none
	left   float64 // what is left of the spend behind it
	how    string  // "both", "rate" or "amount"
	leak   float64 // of what is left each month, instead of left
	payday bool    // nearly all of the month's payments in the ten days from the 25th on
}

func (w *world) fall(day int) (rate, amount float64) {
	if w.from == 0 || day < w.from {
		return 1, 1
	}
	left := w.left
	if w.leak != 0 {
		left = math.Pow(1-w.leak, float64(day-w.from)/30.44)
	}
	switch w.how {
	case "rate":
		return left, 1
	case "amount":
		return 1, left
	}
	return math.Sqrt(left), math.Sqrt(left)
}

// play simulates a customer: it tells what was paid on each day.
func (w *world) play(g *rand.Rand, days int, day func(day int, amount float64)) {
	rho := w.perMonth / 30.44
	if w.kind == "irregular" {
		rho *= math.Exp(0.3*g.NormFloat64() - 0.045)
	}
	mean := math.Exp(3.5 + 0.8*g.NormFloat64())
	shape := 1 / (w.cv * w.cv)
	bill, wait := 1+g.IntN(27), -1
	next := g.Float64() / rho
	for t := range days {
		rate, part := w.fall(t)
		n := 0
		switch w.kind {
		case "irregular":
			r := rho * rate * (1 + w.season*math.Sin(2*math.Pi*float64(t)/365.25))
			if w.payday {
				if dom := time.Unix(int64(t)*86400, 0).UTC().Day(); dom >= 25 || dom <= 4 {
					r *= 2.5
				} else {
					r *= 0.25
				}
			}
			n = poisson(g, r)
		case "regular":
			for next < float64(t+1) {
				n = 1
				next = max(next+gammaOf(g, 6)/(6*rho*rate), float64(t+1))
			}
		case "calendar":
			if time.Unix(int64(t+18628)*86400, 0).UTC().Day() == bill {
				wait = g.IntN(4)
			}
			if wait == 0 {
				n = 1
			}
			wait--
		}
		sum := 0.0
		for range n {
			a := gammaOf(g, shape) / shape
			if w.heavy {
				sd := math.Sqrt(math.Log(1 + w.cv*w.cv))
				a = math.Exp(sd*g.NormFloat64() - sd*sd/2)
			}
			if g.Float64() < w.big {
				a *= 8
			}
			sum += a * mean * part
		}
		day(t, sum)
	}
}

func poisson(g *rand.Rand, mean float64) int {
	n, p, limit := 0, 1.0, math.Exp(-mean)
	for {
		if p *= g.Float64(); p <= limit {
			return n
		}
		n++
	}
}

// gammaOf draws from a gamma distribution of scale 1 (Marsaglia and Tsang 2000).
func gammaOf(g *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return gammaOf(g, shape+1) * math.Pow(g.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := g.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(g.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

// watch runs the test over a customer and calls alarm on each day on which it would tell. The time without payments is priced every third day.
func (w *world) watch(g *rand.Rand, days, warm int, alarm func(day int)) {
	d := &Drop{}
	last, armed, at := -1, true, -1000
	w.play(g, days, func(t int, amount float64) {
		if amount > 0 {
			if last >= 0 {
				d.Take(float64(t-last), amount)
			}
			last = t
		}
		if !d.Ready() || amount == 0 && t%3 != 0 {
			return
		}
		over := d.Silent(float64(t-last)) > d.Threshold(target)
		switch {
		case t >= warm && over && armed:
			alarm(t)
			armed, at = false, t
		case !over && t-at >= 30:
			armed = true
		}
	})
}

// target is the false alarms per customer-year that the simulated test may raise.
const target = 0.1

func (w *world) falseAlarms(n, days, warm int) float64 {
	g := rand.New(rand.NewPCG(1, 7))
	alarms := 0
	for range n {
		w.watch(g, days, warm, func(int) { alarms++ })
	}
	return float64(alarms) / (float64(n*(days-warm)) / 365.25)
}

// delay is the median of the days until a fall on day 500 is noticed, 365 for those that are not within a year.
func (w world) delay(n int, how string, left, leak float64) int {
	g := rand.New(rand.NewPCG(2, 7))
	w.from, w.how, w.left, w.leak = 500, how, left, leak
	delays := make([]int, n)
	for i := range delays {
		first := 365
		w.watch(g, w.from+366, w.from, func(day int) { first = min(first, day-w.from) })
		delays[i] = first
	}
	slices.Sort(delays)
	return delays[n/2]
}

// TestDropSimulated measures the test on customers whose spend does not change, and on ones whose spend falls. The crowds are small, so that the bounds have a
// margin: the figures in the log are good for a fifth.
func TestDropSimulated(t *testing.T) {
	const n, days, warm = 120, 800, 200
	for _, c := range []struct {
		world
		how       string
		left      float64
		leak      float64
		mostDelay int
	}{
		{world: world{perMonth: 30, kind: "irregular", cv: 0.7}, how: "both", left: 0.2, mostDelay: 24},
		{world: world{perMonth: 12, kind: "irregular", cv: 0.7}, how: "both", left: 0.2, mostDelay: 50},
		{world: world{perMonth: 12, kind: "irregular", cv: 0.7}, how: "amount", left: 0.2, mostDelay: 21},
		{world: world{perMonth: 1, kind: "calendar", cv: 0.2}, how: "amount", left: 0.2, mostDelay: 21},
		{world: world{perMonth: 1, kind: "calendar", cv: 0.05}, how: "amount", left: 0.5, mostDelay: 60},
		{world: world{perMonth: 30, kind: "irregular", cv: 0.7}, how: "both", left: 1, leak: 0.15, mostDelay: 200},
		{world: world{perMonth: 12, kind: "irregular", cv: 0.7, payday: true}, how: "amount", left: 0.2, mostDelay: 24},
		{world: world{perMonth: 12, kind: "irregular", cv: 1.5, heavy: true}, how: "amount", left: 0.2, mostDelay: 60},
		{world: world{perMonth: 4, kind: "regular", cv: 0.7}, how: "both", left: 0.2, mostDelay: 75},
		{world: world{perMonth: 4, kind: "irregular", cv: 0.7, big: 0.02}, how: "amount", left: 0.2, mostDelay: 75},
		{world: world{perMonth: 1, kind: "irregular", cv: 0.7}, how: "both", left: 0.2, mostDelay: 365},
	} {
		w := c.world
		fa := w.falseAlarms(n, days, warm)
		delay := w.delay(n/2, c.how, c.left, c.leak)
		t.Logf("%+v: %.3f false alarms a customer-year; %d d to notice (left %.1f, leak %.2f a month, by %s)", w, fa, delay, c.left, c.leak, c.how)
		if fa > 0.17 {
			t.Errorf("%+v: %.3f false alarms a customer-year; the target is %.1f", w, fa, target)
		}
		if delay > c.mostDelay {
			t.Errorf("%+v: %d days to notice a fall by %s to %.1f (leak %.2f a month); at most %d", w, delay, c.how, c.left, c.leak, c.mostDelay)
		}
	}
}
