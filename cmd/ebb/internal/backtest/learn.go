package backtest

import (
	"cmp"
	"context"
	"slices"

	"ebb/detectors/population"
	"ebb/state/customer"
	"ebb/stream/event"
)

// inForce is something learnt, and from when on decisions use it.
type inForce[T any] struct {
	from int64 // event time, ms
	what *T
}

// learnt is all that was learnt of a population over a history, the oldest first.
type learnt struct {
	models []inForce[population.Model]
	misses []inForce[population.MissRates] // how often groups miss their targets
}

// inForceAt is what is in force at an event time, nil while there is nothing.
func inForceAt[T any](all []inForce[T], ms int64) *T {
	for _, x := range slices.Backward(all) {
		if x.from <= ms {
			return x.what
		}
	}
	return nil
}

func (l *learnt) model(ms int64) *population.Model { return inForceAt(l.models, ms) }

func (l *learnt) missRates(ms int64) *population.MissRates { return inForceAt(l.misses, ms) }

// look is what a model said of a customer at the end of a day.
type look struct {
	person int32 // index into Truth.list
	day    int32
	p      float32
	alert  float32 // the probability that an alert would name, 0 if he is not overdue by his own mean gap
}

// Row is a customer scored at a date.
type Row struct {
	Customer string
	Day      int32 // the day (UTC) at whose end he is scored
	PStop    float64
	Expected float64 // spend in the horizon at his own pace, in the units of his amounts
}

// lookEvery is how many epochs lie between two looks at all customers: at least twelve looks a horizon, but none between epochs.
func lookEvery(horizonDays int) int32 {
	return max(1, int32(horizonDays)/(12*population.EpochDays))
}

// learn takes the samples and the outcomes of complaints of an epoch from all shards and closes it. What is learnt is in force from the day after on.
func (r *replay) learn(ctx context.Context, epoch int32) error {
	from := int64(population.InForceFrom(epoch)) * dayMs
	for _, s := range r.shards {
		for _, o := range s.outcomes {
			r.groups.Observe(o)
		}
		s.outcomes = s.outcomes[:0]
	}
	if rates := r.groups.Close(epoch); rates != nil {
		r.learnt.misses = append(r.learnt.misses, inForce[population.MissRates]{from, rates})
	}
	if !r.task.Model {
		return nil
	}
	current := r.fold.Model()
	if err := r.each(ctx, func(s *shard) error {
		s.sample(epoch, current)
		return nil
	}); err != nil {
		return err
	}
	for _, s := range r.shards {
		for _, sample := range s.samples {
			r.fold.Observe(sample)
		}
	}
	if m := r.fold.Close(epoch); m != nil && m != current {
		r.learnt.models = append(r.learnt.models, inForce[population.Model]{from, m})
	}
	return nil
}

func (s *shard) sample(epoch int32, current *population.Model) {
	s.samples = s.samples[:0]
	for _, c := range s.list {
		if c.rec.Closed() || !current.Sampled(c.hash) {
			continue
		}
		if sample, ok := population.SampleOf(&c.rec, epoch); ok {
			s.samples = append(s.samples, sample)
		}
	}
}

// lookAt notes what the model says of all customers with a rhythm who are not gone, at the end of a day.
func (s *shard) lookAt(day int32, m *population.Model, horizon int) {
	for _, c := range s.list {
		h := m.Rhythm(&c.rec)
		if h == nil || h.Count < leastDays {
			continue
		}
		local := s.env.Calendar.DayOf(&c.rec, int64(day+1)*dayMs-1)
		since := local - int32(h.Last)
		if since >= int32(horizon) {
			continue
		}
		if score, ok := m.Score(&c.rec, local, horizon); ok {
			l := look{person: c.person, day: day, p: float32(score.PStop)}
			if v := m.Judge(h, population.LabelsOf(&c.rec), local, int(since)); v.Overdue {
				l.alert = float32(v.P)
			}
			s.looks = append(s.looks, l)
		}
	}
}

// score tells of every customer who ever did something that counts, at the end of a day.
func (s *shard) score(day int32, m *population.Model, horizon int) {
	for _, c := range s.list {
		h := m.Rhythm(&c.rec)
		if h == nil {
			continue
		}
		local := s.env.Calendar.DayOf(&c.rec, int64(day+1)*dayMs-1)
		if score, ok := m.Score(&c.rec, local, horizon); ok {
			s.rows = append(s.rows, Row{Customer: c.rec.ID, Day: day, PStop: score.PStop, Expected: expectedValue(h, m, horizon)})
		}
	}
}

// expectedValue is what a customer spends in the horizon if he goes on as he did: his mean amount, as often as his mean gap, or that of the
// population if he came only once, fits into it.
func expectedValue(h *customer.Rhythm, m *population.Model, horizon int) float64 {
	gap := h.MeanGap()
	if gap == 0 {
		gap = float64(m.MedianGap())
	}
	times := 1.0
	if gap > 0 {
		times = max(1, float64(horizon)/gap)
	}
	return max(0, float64(h.Spent)/float64(event.MoneyUnit)) / float64(h.Count) * times
}

// gather merges what the shards noted, in an order that does not depend on them.
func (r *replay) gather(out *Outcome) {
	for _, s := range r.shards {
		out.looks = append(out.looks, s.looks...)
		out.falls = append(out.falls, s.falls...)
		out.Rows = append(out.Rows, s.rows...)
	}
	slices.SortFunc(out.looks, func(a, b look) int { return cmp.Or(cmp.Compare(a.person, b.person), cmp.Compare(a.day, b.day)) })
	slices.SortFunc(out.falls, func(a, b fall) int { return cmp.Or(cmp.Compare(a.person, b.person), cmp.Compare(a.day, b.day)) })
	slices.SortFunc(out.Rows, func(a, b Row) int { return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Customer, b.Customer)) })
	out.learnt = r.learnt
}
