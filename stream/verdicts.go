package stream

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"ebb/alerts"
	"ebb/state/customer"
)

// calibrationBuckets divide foretold probabilities: bucket i holds those from i/10 up to, but for the last, (i+1)/10.
const calibrationBuckets = 10

// leadBounds are the upper bounds of the lead times that are told apart, in days.
var leadBounds = [...]float64{3, 7, 14, 21, 30, 45, 60, 90}

// verdicts count what became of alerts, from the first on. They are part of the task record, so each prediction counts once whatever is killed, and what a
// partition has counted goes with it.
type verdicts struct {
	results map[verdictKey]int64
	buckets map[bucketKey]bucketSum
	leads   map[string]leadSum // by detector
}

// verdictKey is what precision is told by.
type verdictKey struct {
	detector string
	severity uint8
	tier     string // one of those that the tally tells apart
	result   alerts.Result
}

// bucketKey is what calibration is told by.
type bucketKey struct {
	detector string
	bucket   uint8
}

// bucketSum is how many were foretold with such a probability, what these probabilities sum to in 1/1000, and how many came true.
type bucketSum struct{ foretold, sum, came int64 }

// leadSum is a histogram of the lead times of founded alerts.
type leadSum struct {
	counts [len(leadBounds) + 1]int64 // each bound by itself, and what is beyond
	sumMs  int64
}

// judged counts what became of a customer's predictions.
func (t *task) judged(rec *customer.Record, all []alerts.Verdict) {
	if len(all) == 0 {
		return
	}
	tier := t.rec.tally.tierName(t.rec.tally.tier(rec))
	for _, v := range all {
		t.rec.verdicts.add(v, tier)
	}
	t.moved = true
}

func (s *verdicts) add(v alerts.Verdict, tier string) {
	if s.results == nil {
		*s = emptyVerdicts()
	}
	s.results[verdictKey{v.Detector, uint8(v.Severity), tier, v.Result}]++
	if came, known := v.Result.Came(); known && v.Probability != 0 {
		k := bucketKey{v.Detector, min(uint8(v.Probability/(1000/calibrationBuckets)), calibrationBuckets-1)}
		b := s.buckets[k]
		b.foretold, b.sum = b.foretold+1, b.sum+int64(v.Probability)
		if came {
			b.came++
		}
		s.buckets[k] = b
	}
	if founded, known := v.Result.Founded(); known && founded {
		l := s.leads[v.Detector]
		i, _ := slices.BinarySearch(leadBounds[:], float64(v.LeadMs)/float64(dayMs))
		l.counts[i]++
		l.sumMs += v.LeadMs
		s.leads[v.Detector] = l
	}
}

func (s *verdicts) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(s.results)))
	for k, n := range s.results {
		b = appendString(b, k.detector)
		b = append(b, k.severity, byte(k.result))
		b = appendString(b, k.tier)
		b = binary.AppendVarint(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(s.buckets)))
	for k, n := range s.buckets {
		b = append(appendString(b, k.detector), k.bucket)
		for _, v := range [...]int64{n.foretold, n.sum, n.came} {
			b = binary.AppendVarint(b, v)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(s.leads)))
	for detector, l := range s.leads {
		b = appendString(b, detector)
		for _, n := range l.counts {
			b = binary.AppendVarint(b, n)
		}
		b = binary.AppendVarint(b, l.sumMs)
	}
	return b
}

func (s *verdicts) decode(d *decoder) {
	*s = emptyVerdicts()
	for range counted(d) {
		k := verdictKey{detector: d.str(), severity: d.byte(), result: alerts.Result(d.byte()), tier: d.str()}
		s.results[k] = d.varint()
	}
	for range counted(d) {
		k := bucketKey{detector: d.str(), bucket: d.byte()}
		s.buckets[k] = bucketSum{d.varint(), d.varint(), d.varint()}
	}
	for range counted(d) {
		detector, l := d.str(), leadSum{}
		for i := range l.counts {
			l.counts[i] = d.varint()
		}
		l.sumMs = d.varint()
		s.leads[detector] = l
	}
}

// counted reads the length of a list.
func counted(d *decoder) uint64 {
	n := d.uvarint()
	if n > maxTallies {
		d.fail("too many verdicts")
		return 0
	}
	return n
}

// ResultSum is how many predictions came to a result.
type ResultSum struct {
	Detector string
	Severity alerts.Severity
	Tier     string
	Result   alerts.Result
	Count    int64
}

// BucketSum is how the predictions of a range of probabilities came out.
type BucketSum struct {
	Detector string
	Bucket   int     // from Bucket/10 up to (Bucket+1)/10
	Foretold int64   // predictions of which it is known what came
	Came     int64   // that came true
	Mean     float64 // of the probabilities foretold
}

// LeadSum is a histogram of the lead times of founded alerts.
type LeadSum struct {
	Detector string
	Counts   map[float64]uint64 // how many within each bound, in days, cumulative
	Count    uint64
	Sum      float64 // days
}

// Verdicts is what became of alerts, in an order that is always the same.
type Verdicts struct {
	Results []ResultSum
	Buckets []BucketSum
	Leads   []LeadSum
}

// sums lists what was counted.
func (s *verdicts) sums() Verdicts {
	var out Verdicts
	for k, n := range s.results {
		out.Results = append(out.Results, ResultSum{k.detector, alerts.Severity(k.severity), k.tier, k.result, n})
	}
	for k, b := range s.buckets {
		out.Buckets = append(out.Buckets, BucketSum{k.detector, int(k.bucket), b.foretold, b.came, float64(b.sum) / 1000 / float64(max(b.foretold, 1))})
	}
	for detector, l := range s.leads {
		sum := LeadSum{Detector: detector, Counts: map[float64]uint64{}, Sum: float64(l.sumMs) / float64(dayMs)}
		for i, n := range l.counts {
			sum.Count += uint64(n)
			if i < len(leadBounds) {
				sum.Counts[leadBounds[i]] = sum.Count
			}
		}
		out.Leads = append(out.Leads, sum)
	}
	slices.SortFunc(out.Results, func(a, b ResultSum) int {
		return cmp.Or(cmp.Compare(a.Detector, b.Detector), cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.Result, b.Result))
	})
	slices.SortFunc(out.Buckets, func(a, b BucketSum) int {
		return cmp.Or(cmp.Compare(a.Detector, b.Detector), cmp.Compare(a.Bucket, b.Bucket))
	})
	slices.SortFunc(out.Leads, func(a, b LeadSum) int { return cmp.Compare(a.Detector, b.Detector) })
	return out
}

// VerdictsOf adds what several tasks counted.
func VerdictsOf(tasks []TaskStatus) Verdicts {
	whole := emptyVerdicts()
	for i := range tasks {
		whole.join(&tasks[i].verdicts)
	}
	return whole.sums()
}

func emptyVerdicts() verdicts {
	return verdicts{map[verdictKey]int64{}, map[bucketKey]bucketSum{}, map[string]leadSum{}}
}

func (s *verdicts) join(o *verdicts) {
	for k, n := range o.results {
		s.results[k] += n
	}
	for k, n := range o.buckets {
		b := s.buckets[k]
		s.buckets[k] = bucketSum{b.foretold + n.foretold, b.sum + n.sum, b.came + n.came}
	}
	for k, n := range o.leads {
		l := s.leads[k]
		for i := range n.counts {
			l.counts[i] += n.counts[i]
		}
		l.sumMs += n.sumMs
		s.leads[k] = l
	}
}

// copied is what was counted so far, for others to read.
func (s *verdicts) copied() verdicts {
	if len(s.results) == 0 {
		return verdicts{}
	}
	return verdicts{maps.Clone(s.results), maps.Clone(s.buckets), maps.Clone(s.leads)}
}

// Precision is how many of a detector's judged alerts were worth their while.
type Precision struct{ Founded, Judged int64 }

// Precision is told by detector, for those of which anything is judged.
func (v Verdicts) Precision() map[string]Precision {
	out := map[string]Precision{}
	for _, r := range v.Results {
		founded, known := r.Result.Founded()
		if !known {
			continue
		}
		p := out[r.Detector]
		if p.Judged += r.Count; founded {
			p.Founded += r.Count
		}
		out[r.Detector] = p
	}
	return out
}
