package population

import (
	"github.com/cespare/xxhash/v2"

	"ebb/state/customer"
)

// EpochDays is the time from one epoch to the next, in days.
const EpochDays = 7

// Epoch is the newest epoch that is not after a UTC day number: epochs are named by their day, which EpochDays divides.
func Epoch(day int32) int32 { return day - ((day%EpochDays)+EpochDays)%EpochDays }

// InForceFrom is the first UTC day on which the model of an epoch is used.
func InForceFrom(epoch int32) int32 { return epoch + 1 }

// Hash is what stands for a customer's id in the samples: 64 bits of xxhash64.
func Hash(id string) uint64 { return xxhash.Sum64String(id) }

// maxLabel is the length in bytes that is kept of a tier or segment.
const maxLabel = 64

// Sample is what the population learns from one customer at one epoch: him as he was at the end of the day before.
type Sample struct {
	Customer uint64 // Hash of his id
	Epoch    int32
	Rhythms  customer.Rhythms
	Tier     string // at most 64 bytes
	Segment  string // at most 64 bytes
	Drop     DropSample
}

// SampleOf is the sample of a customer, false for one of whom no rhythm is known.
func SampleOf(r *customer.Record, epoch int32) (Sample, bool) {
	h := r.Rhythms()
	if h == nil || h.Activity.Count == 0 {
		return Sample{}, false
	}
	s := Sample{Customer: Hash(r.ID), Epoch: epoch, Rhythms: *h, Drop: dropSampleOf(r, epoch)}
	of := LabelsOf(r)
	s.Tier, s.Segment = of.Tier, of.Segment
	return s, true
}

func label(s string) string { return s[:min(len(s), maxLabel)] }

const sampleVersion = 1

// AppendSample appends the stored form: the version, the customer in eight bytes little-endian, the epoch, tier and segment each behind its length, what is for the drop
// tests, and the rhythms. Numbers are varints.
func AppendSample(dst []byte, s *Sample) []byte {
	w := writer{append(dst, sampleVersion)}
	w.uint64(s.Customer)
	w.varint(int64(s.Epoch))
	w.text(s.Tier)
	w.text(s.Segment)
	s.Drop.append(&w)
	return customer.AppendRhythms(w.b, &s.Rhythms)
}

// DecodeSample reads what AppendSample wrote, all of b. The error is ErrDamaged or ErrNewerVersion.
func DecodeSample(b []byte) (Sample, error) {
	r := reader{b: b}
	if v := r.byte(); v > sampleVersion {
		return Sample{}, ErrNewerVersion
	} else if v == 0 {
		return Sample{}, ErrDamaged
	}
	s := Sample{Customer: r.uint64(), Epoch: r.epoch(), Tier: r.text(), Segment: r.text(), Drop: readDropSample(&r), Rhythms: r.rhythms()}
	if r.bad || len(r.b) != 0 {
		return Sample{}, ErrDamaged
	}
	return s, nil
}
