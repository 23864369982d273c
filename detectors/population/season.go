package population

import "math"

// season is what the log-odds are corrected by for the week of the year. Customers who come once a year for Christmas are an example: shortly after it their
// silence means less than at any other time, and no other feature tells.
type season [seasonWeeks]float64

const (
	seasonWeeks   = 52
	seasonWidth   = 2.0  // weeks: how far outcomes of other weeks count, as the deviation of a normal density
	seasonPenalty = 10.0 // evidence, as that of outcomes of even odds at a quarter each, at which the correction is halved
)

// weekOf the year that a day lies in, 0 to 51. The year is 365.25 days long, and begins with one of 1970.
func weekOf(day int32) int {
	const year = 365.25
	in := math.Mod(float64(day), year)
	if in < 0 {
		in += year
	}
	return int(in / year * seasonWeeks)
}

// fitSeason learns from what is left of examples when everything else is taken into account: residual is the outcome less the probability. One year says
// nothing of the season, because what was special about its weeks may have been the year: a week counts by the share y/(y+1) for y years before the newest.
func fitSeason(all []example, days []int32, p []float64) *season {
	var residual, curve [seasonWeeks]float64
	years := [seasonWeeks]map[int]bool{}
	for i := range all {
		w, e := weekOf(days[i]), &all[i]
		residual[w] += e.weight * (e.stopped - p[i])
		curve[w] += e.weight * p[i] * (1 - p[i])
		if years[w] == nil {
			years[w] = map[int]bool{}
		}
		years[w][int(float64(days[i])/365.25)] = true
	}
	var s season
	for w := range s {
		r, c := 0.0, 0.0
		for o := range residual {
			far := math.Abs(float64(w - o))
			far = min(far, seasonWeeks-far) / seasonWidth
			k := math.Exp(-far * far / 2)
			r += k * residual[o]
			c += k * curve[o]
		}
		y := float64(max(len(years[w])-1, 0))
		s[w] = r / (c + seasonPenalty) * y / (y + 1)
	}
	return &s
}
