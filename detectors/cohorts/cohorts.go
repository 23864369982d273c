// Package cohorts tells when more customers of a cohort begin to leave than chance explains: an account owner who goes and takes his customers along, a region with a
// new competitor, a product that broke, or the whole market.
//
// A cohort is who shares a value of one dimension of the profile: segment, region, product, account owner; and everybody. A leaver is a customer of whom a detector has begun
// to say that he does less or nothing any more. At the end of each day (UTC) each cohort's leavers of the last 7 and of the last 28 days are held against two expectations:
// the cohort's own usual rate, and the rate of all others in the same days. Both are uncertain, so each gives a negative binomial distribution, with a gamma distributed rate
//
//	own     shape K + 1, mean of the rate (K + 1) / (E + 1/r)    K leavers in E customer-days before the window, forgotten with a half-life of HalfLifeDays; r is everybody's usual rate
//	others  shape k + 1, mean of the rate (k + 1) / e            k leavers in e customer-days of the window
//
// where no shape is above MostShape: no rate is taken to be known better than within a fifth, because seasons come and go. The cohort is alerted if so many leavers, or
// more, are too unlikely by both: below FalseAlarms / 365 / cohorts / 2 windows. That is Bonferroni's bound, so in a year there are at most FalseAlarms false ones in all, and
// fewer in truth, because one day's windows are mostly those of the day before. Everybody is held against the own rate alone, less what one cohort has too many: if that
// explains it, it is no matter of everybody.
//
// All of it follows from event time: the same leavers and sizes by day give the same findings.
package cohorts

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"ebb/stream/event"
)

// Config says what is told.
type Config struct {
	// FalseAlarms is how many alerts a year there may be at most, of all cohorts together, while the customers of all are as they always were.
	FalseAlarms float64
	// LeastMembers is how many leavers a cohort must have in the window for an alert.
	LeastMembers int
	// By are the dimensions that make cohorts; everybody is one in any case.
	By []Dimension
	// HoldBack: single alerts about the members are held back while one about the cohort is open.
	HoldBack bool
	// Totals: what all customers spend and move away is watched too.
	Totals bool
	// Intakes: customers who are new are judged by the week and the source that they came from.
	Intakes bool
}

// Dimension is what the members of a cohort share.
type Dimension uint8

// The dimensions. The numbers are stored.
const (
	Everybody Dimension = iota
	Segment
	Region
	Product
	Owner

	NumDimensions = 5
)

var dimensionNames = [NumDimensions]string{"everybody", "segment", "region", "product", "owner"}

// String is the name of the dimension in configuration and alerts.
func (d Dimension) String() string {
	if d < NumDimensions {
		return dimensionNames[d]
	}
	return "unknown"
}

// ParseDimension is the inverse of String; everybody is no dimension that could be asked for.
func ParseDimension(s string) (Dimension, bool) {
	i := slices.Index(dimensionNames[1:], s)
	return Dimension(i + 1), i >= 0
}

// Of is the value that a profile has in a dimension, "" for none.
func (d Dimension) Of(p *event.Profile) string {
	if p == nil {
		return ""
	}
	switch d {
	case Segment:
		return p.Segment
	case Region:
		return p.Region
	case Product:
		return p.Product
	case Owner:
		return p.Owner
	}
	return ""
}

// Key names a cohort. The value of everybody is "".
type Key struct {
	By    Dimension
	Value string
}

// String is such as owner=kim, or everybody.
func (k Key) String() string {
	if k.By == Everybody {
		return k.By.String()
	}
	return k.By.String() + "=" + k.Value
}

// Compare orders keys.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.By, o.By), cmp.Compare(k.Value, o.Value))
}

// The numbers of the test.
const (
	shortWindow  = 7
	window       = 28 // days
	warmUp       = 56 // days of history before the window from which on a cohort is judged
	HalfLifeDays = 180
	MostShape    = 25
	// MaxMembers is how many of the leavers are kept by name, the newest.
	MaxMembers = 50
	// MaxCohorts bounds how many are watched; further ones are not.
	MaxCohorts = 4096
	// recovered is from which probability on so many leavers are nothing unusual any more.
	recovered = 0.01
	// leastRest is how many customers there must be beside a cohort, as a share of it, for others to be a measure: a cohort of nearly all is everybody.
	leastRest = 0.1
)

var decay = math.Exp2(-1.0 / HalfLifeDays)

// Leaver is a customer who begins to leave.
type Leaver struct {
	Day      int32 // since 1970, UTC
	Customer string
	Detector string
	AtRisk   event.Money
	Of       []Key // his cohorts, without everybody
}

// Compare orders leavers.
func (l *Leaver) Compare(o *Leaver) int {
	return cmp.Or(cmp.Compare(l.Day, o.Day), cmp.Compare(l.Customer, o.Customer), cmp.Compare(l.Detector, o.Detector))
}

// Member is a leaver as an alert lists him.
type Member struct {
	Day      int32
	Customer string
	Detector string
	AtRisk   event.Money
}

// count is what came in one day.
type count struct {
	day     int32
	leavers int64
	atRisk  event.Money
}

// cohort is one cohort as of the newest day that is over.
type cohort struct {
	sizes   map[int32]int64 // active customers by partition
	active  int64           // sum of them
	first   int32           // day from which on there were any, 0: there never were
	counts  []count         // of the window, ascending
	members []Member        // of the window, the newest at most
	k, e    float64         // leavers and customer-days before the window
}

func (c *cohort) within(day int32, days int32) (n int64, atRisk event.Money) {
	for _, x := range c.counts {
		if x.day > day-days {
			n, atRisk = n+x.leavers, atRisk+x.atRisk
		}
	}
	return n, atRisk
}

// Fold is what is known of all cohorts.
type Fold struct {
	cfg     Config
	day     int32 // the newest that is over, 0: none is
	begun   int32 // day of the first leaver, 0: there was none
	cohorts map[Key]*cohort
	weeks   []weekly            // ascending
	intakes map[string][]intake // by source, then week
	oldest  int32               // week in which the first customers came, 0: nobody did
}

// NewFold returns a fold of nothing.
func NewFold(cfg Config) *Fold {
	return &Fold{cfg: cfg, cohorts: map[Key]*cohort{}, intakes: map[string][]intake{}}
}

// Day is the newest day that is over, 0 if none is.
func (f *Fold) Day() int32 { return f.day }

func (f *Fold) cohort(k Key) *cohort {
	c := f.cohorts[k]
	if c == nil && len(f.cohorts) < MaxCohorts {
		c = &cohort{sizes: map[int32]int64{}}
		f.cohorts[k] = c
	}
	return c
}

// Size says how many active customers of a cohort a partition has, at the end of the day that is closed next.
func (f *Fold) Size(partition int32, k Key, n int64) {
	c := f.cohort(k)
	if c == nil {
		return
	}
	c.active += n - c.sizes[partition]
	c.sizes[partition] = n
	if n == 0 {
		delete(c.sizes, partition)
	}
}

// Keep drops what a partition told of cohorts other than these: they have nobody there any more.
func (f *Fold) Keep(partition int32, known map[Key]bool) {
	for k, c := range f.cohorts {
		if n, told := c.sizes[partition]; told && !known[k] {
			c.active -= n
			delete(c.sizes, partition)
		}
	}
}

// Forget drops partitions that do not exist.
func (f *Fold) Forget(partitions int32) {
	for _, c := range f.cohorts {
		for p, n := range c.sizes {
			if p >= partitions {
				c.active -= n
				delete(c.sizes, p)
			}
		}
	}
}

// Finding is what a day says of a cohort.
type Finding struct {
	Key
	Day     int32 // that is over
	Firing  bool
	Clear   bool // so many leavers are nothing unusual; neither: it stays as it is
	Days    int32
	Active  int64 // customers
	Leavers int64 // in the last Days days
	AtRisk  event.Money
	// Expected is how many leavers were to be expected by the greater of the two, ByOwn by the cohort's own usual rate, ByOthers by that of all others in these days; the last is
	// negative for everybody.
	Expected, ByOwn, ByOthers float64
	Chance                    float64 // that so many, or more, leave although nothing is wrong
	Limit                     float64 // of Chance, below which it is told
	Since                     int32   // day of the first leaver
	Members                   []Member
}

// Close ends a day: leavers are those of the day, in any order, and the sizes are told. It returns a finding of each cohort that has leavers in the window or is in watch.
func (f *Fold) Close(day int32, leavers []Leaver, watch map[Key]bool) []Finding {
	slices.SortFunc(leavers, func(a, b Leaver) int { return a.Compare(&b) })
	f.age(day)
	for i := range leavers {
		l := &leavers[i]
		if f.begun == 0 {
			f.begun = day
		}
		f.count(f.cohort(Key{}), day, l)
		for _, k := range l.Of {
			f.count(f.cohort(k), day, l)
		}
	}
	f.day = day
	return f.judge(watch)
}

func (f *Fold) count(c *cohort, day int32, l *Leaver) {
	if c == nil {
		return
	}
	if n := len(c.counts); n == 0 || c.counts[n-1].day != day {
		c.counts = append(c.counts, count{day: day})
	}
	x := &c.counts[len(c.counts)-1]
	x.leavers++
	x.atRisk += l.AtRisk
	c.members = append(c.members, Member{day, l.Customer, l.Detector, l.AtRisk})
	if len(c.members) > MaxMembers {
		c.members = slices.Delete(c.members, 0, len(c.members)-MaxMembers)
	}
}

// age moves every cohort to a day: what leaves the window becomes history. Days are counted from the first leaver on: before, nobody could be told.
func (f *Fold) age(day int32) {
	passed := int32(1)
	if f.day != 0 {
		passed = max(1, day-f.day)
	}
	for k, c := range f.cohorts {
		if c.first == 0 && c.active > 0 {
			c.first = day
		}
		for range passed {
			c.k *= decay
			c.e *= decay
		}
		if f.begun != 0 && day-window >= max(f.begun, c.first) && c.first != 0 {
			c.e += float64(c.active) * float64(min(passed, day-window-max(f.begun, c.first)+1))
		}
		gone := 0
		for gone < len(c.counts) && c.counts[gone].day <= day-window {
			c.k += float64(c.counts[gone].leavers)
			gone++
		}
		c.counts = slices.Delete(c.counts, 0, gone)
		c.members = slices.DeleteFunc(c.members, func(m Member) bool { return m.Day <= day-window })
		if c.active == 0 && len(c.counts) == 0 && c.k < 0.01 && c.e < 1 {
			delete(f.cohorts, k)
		}
	}
}

// judge looks at the cohorts that there is something to say of.
func (f *Fold) judge(watch map[Key]bool) (out []Finding) {
	all := f.cohorts[Key{}]
	if all == nil {
		return nil
	}
	n := 0
	for _, c := range f.cohorts {
		if c.active > 0 {
			n++
		}
	}
	limit := f.cfg.FalseAlarms / 365 / float64(max(n, 1)) / 2
	for _, k := range slices.SortedFunc(maps.Keys(f.cohorts), Key.Compare) {
		c := f.cohorts[k]
		if len(c.counts) == 0 && !watch[k] {
			continue
		}
		out = append(out, f.finding(k, c, all, limit))
	}
	for _, k := range slices.SortedFunc(maps.Keys(watch), Key.Compare) {
		if f.cohorts[k] == nil { // nobody is left
			out = append(out, Finding{Key: k, Day: f.day, Clear: true, Days: window, Chance: 1, Limit: limit, ByOthers: -1})
		}
	}
	return out
}

// finding judges one cohort by both windows, and tells of the one that says more.
func (f *Fold) finding(k Key, c, all *cohort, limit float64) Finding {
	var worst Finding
	quiet := true
	for _, days := range [...]int32{shortWindow, window} {
		x := f.test(k, c, all, days)
		if k.By == Everybody && x.Chance < limit {
			x.Chance = tail(x.Leavers-f.excess(all, days), min(all.k+1, MostShape), x.Expected)
		}
		quiet = quiet && x.Chance >= recovered
		if days == shortWindow || x.Chance < worst.Chance {
			worst = x
		}
	}
	worst.Limit = limit
	judged := f.begun != 0 && c.first != 0 && f.day-max(f.begun, c.first) >= warmUp+window
	if k.By != Everybody && !c.part(all) {
		judged = false
	}
	worst.Firing = judged && worst.Chance < limit && worst.Leavers >= int64(f.cfg.LeastMembers)
	worst.Clear = !worst.Firing && (quiet || worst.Leavers == 0)
	worst.Members = slices.DeleteFunc(slices.Clone(c.members), func(m Member) bool { return m.Day <= f.day-worst.Days })
	for _, x := range c.counts {
		if x.day > f.day-worst.Days {
			worst.Since = x.day
			break
		}
	}
	return worst
}

// part reports whether there are enough others beside a cohort to be held against.
func (c *cohort) part(all *cohort) bool {
	return float64(all.active-c.active) >= leastRest*float64(c.active)
}

// excess is how many leavers the cohort that has the most of them beyond its own usual rate has too many.
func (f *Fold) excess(all *cohort, days int32) int64 {
	most := 0.0
	for k, c := range f.cohorts {
		if k.By != Everybody && len(c.counts) != 0 && c.part(all) {
			x := f.test(k, c, all, days)
			most = max(most, float64(x.Leavers)-x.ByOwn)
		}
	}
	return int64(most)
}

// test is how likely the leavers of a window are.
func (f *Fold) test(k Key, c, all *cohort, days int32) Finding {
	x := Finding{Key: k, Day: f.day, Days: days, Active: c.active, ByOthers: -1}
	x.Leavers, x.AtRisk = c.within(f.day, days)
	exposure := float64(max(c.active, x.Leavers)) * float64(days)
	usual := (all.k + 1) / (all.e + float64(max(all.active, 1)))
	own, strength := c.k+1, c.e+1/usual
	x.ByOwn = own / strength * exposure
	x.Chance, x.Expected = tail(x.Leavers, min(own, MostShape), x.ByOwn), x.ByOwn
	if k.By == Everybody {
		return x
	}
	others, _ := all.within(f.day, days)
	rest := float64(max(all.active-c.active, 1)) * float64(days)
	shape := float64(max(others-x.Leavers, 0)) + 1
	x.ByOthers = shape / rest * exposure
	if p := tail(x.Leavers, min(shape, MostShape), x.ByOthers); p > x.Chance {
		x.Chance, x.Expected = p, x.ByOthers
	}
	return x
}

// tail is the probability of k or more by a negative binomial distribution of a mean and a shape: a Poisson distribution whose rate is gamma distributed.
func tail(k int64, shape, mean float64) float64 {
	switch {
	case k <= 0:
		return 1
	case mean <= 0:
		return 0
	}
	q := mean / (shape + mean)
	n := float64(k)
	first, _ := math.Lgamma(shape + n)
	second, _ := math.Lgamma(shape)
	third, _ := math.Lgamma(n + 1)
	term := math.Exp(first - second - third + shape*math.Log1p(-q) + n*math.Log(q))
	if n < mean { // most of it lies above: the sum of what lies below is shorter
		return max(0, 1-below(k, shape, q))
	}
	sum := 0.0
	for term > sum*1e-12 && term > 0 {
		sum += term
		term *= (shape + n) / (n + 1) * q
		n++
	}
	return min(sum, 1)
}

// below is the probability of less than k.
func below(k int64, shape, q float64) float64 {
	term, sum := math.Exp(shape*math.Log1p(-q)), 0.0
	for i := range k {
		sum += term
		term *= (shape + float64(i)) / float64(i+1) * q
	}
	return sum
}
