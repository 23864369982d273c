package stream

import (
	"ebb/alerts"
	"ebb/detectors/population"
	"ebb/state/customer"
)

// sampling is a task's part in what is learnt from the whole group: it tells the second stage what its sampled customers look like at
// each epoch, and decides by the model that comes back.
//
//	deadline at an epoch ──▶ sample of the customer ──▶ facts ──▶ second stage: fold, fit ──▶ its changelog ──▶ models
//	                                                                                              │
//	decisions from a day after the epoch on ◀──────────────────── model of the epoch ◀────────────┘
//
// An epoch is a moment of event time, and so is the moment from which its model is in force: the outcome does not depend on the number of
// tasks, or on when they ran. While history is read, a task therefore waits for the model of an epoch before it goes on beyond the
// day after it. Near the present it does not wait: the model then comes seconds after the epoch, and a late one is no reason to hold
// alerts.
type sampling struct {
	on     bool
	models *models
	epoch  int64  // newest epoch of which the samples of all customers are told, ms; 0 before the first in this life
	due    bool   // the second stage waits for what is told of the epoch
	buffer []byte // encoded samples that are in no fact yet
	wait   waiting
}

const (
	// modelLag is how long after its epoch a model comes into force, ms of event time.
	modelLag = dayMs
	// epochEvery is the time from one epoch to the next, ms of event time.
	epochEvery = population.EpochDays * dayMs
	// samplesFact is from which size on a fact of samples is closed, bytes.
	samplesFact = 128 << 10
)

func newSampling(on bool, m *models) sampling {
	return sampling{on: on, models: m, wait: waitFor("what is learnt from the population")}
}

// epochFor is the epoch whose model is in force at an event time.
func epochFor(at int64) int64 { return epochOf(at - modelLag) }

// epochOf is the newest epoch that is not after an event time; times are in ms.
func epochOf(at int64) int64 {
	return int64(population.Epoch(dayOf(at))) * dayMs
}

// epochDay is an epoch as package population counts.
func epochDay(epoch int64) int32 { return int32(epoch / dayMs) }

// passes reports whether what happened at an event time may be applied or decided: what the second stage has to tell before is there, or is not waited for.
func (t *task) passes(at int64) bool { return t.passesModel(at) && t.passesCohorts(at) }

func (t *task) passesModel(at int64) bool {
	p := &t.sampling
	if !p.on {
		return true
	}
	known := p.models.newest()
	return t.awaits(&p.wait, known, known > 0 && known >= epochFor(at), at, modelLag)
}

// timerLimit is up to when deadlines may be decided: no further than what the second stage has told allows, however far the clock has come in one go.
func (t *task) timerLimit() int64 {
	return t.modelLimit(t.cohortLimit(t.clock - t.cfg.Time.maxOutOfOrderMs()))
}

func (t *task) modelLimit(limit int64) int64 {
	if !t.sampling.on {
		return limit
	}
	allowed := int64(0)
	switch known := t.sampling.models.newest(); known {
	case unread:
	case 0: // up to the first epoch at which somebody is asked for anything, which the second stage has to be told
		if first := t.table.NoneBefore(); first < never-modelLag {
			allowed = max(0, epochOf(first)+modelLag-1)
		} else {
			allowed = limit
		}
	default:
		allowed = known + epochEvery + modelLag - 1
	}
	if limit <= allowed || t.passesModel(allowed+1) {
		return limit
	}
	return allowed
}

// sample tells of a customer what he looks like at an epoch, if the decision is that of an epoch and he is sampled. It returns when he, who is to be looked at
// again at next, is to be for that: of whom nothing but a profile is known there is nothing to tell before his first event, which asks again.
func (t *task) sample(rec *customer.Record, at, next int64, timer bool) int64 {
	p := &t.sampling
	if !p.on {
		return next
	}
	epoch := epochOf(at)
	tells := timer && at == epoch
	if !tells && next <= epoch+epochEvery { // the look before that will ask; a hash of every customer's id at every event costs
		return next
	}
	if !sampled(rec, t.env.Population) {
		return next
	}
	if tells {
		t.takeSample(rec, at)
	}
	return min(next, epoch+epochEvery)
}

// sampled reports whether a customer is one of those from whom a model lets learn.
func sampled(rec *customer.Record, m *population.Model) bool {
	return !rec.Closed() && rec.Rhythms() != nil && m.Sampled(population.Hash(rec.ID))
}

// sampleBefore tells of a customer what he looked like at an epoch, before something that happens so shortly after it is applied that the deadline of the epoch is not decided yet. Without it nobody would be
// in the sample who came in that time: of histories that tell dates only, all who came on the day of an epoch.
func (t *task) sampleBefore(rec *customer.Record, at int64) {
	epoch := epochOf(at)
	if t.sampling.on && rec.Deadline != 0 && rec.Deadline <= epoch && rec.Latest < epoch && sampled(rec, t.population(epoch)) {
		t.takeSample(rec, epoch)
	}
}

// takeSample puts a customer's sample at an epoch into the next fact.
func (t *task) takeSample(rec *customer.Record, epoch int64) {
	p := &t.sampling
	s, ok := population.SampleOf(rec, epochDay(epoch))
	if !ok {
		return
	}
	p.buffer = appendString(p.buffer, string(population.AppendSample(nil, &s)))
	if len(p.buffer) >= samplesFact {
		t.tellSamples(false)
	}
}

// tellEpoch tells that all samples up to an epoch are told, when the deadlines up to it are decided. The facts are then due, because others wait for them.
func (t *task) tellEpoch() {
	p := &t.sampling
	if !p.on || t.timersDone <= 0 {
		return
	}
	epoch := epochOf(t.timersDone)
	if epoch <= p.epoch {
		return
	}
	p.epoch = epoch
	t.tellSamples(true)
	t.moved = true
	p.due = true
}

// tellSamples puts the samples that wait into a fact. done says that no more follow up to the task's epoch.
func (t *task) tellSamples(done bool) {
	p := &t.sampling
	if len(p.buffer) == 0 && !done {
		return
	}
	f := samplesTold{group: t.cfg.Group, samples: p.buffer}
	if done {
		f.epoch = p.epoch
	}
	t.tellLearning(&f)
	p.buffer = p.buffer[:0]
}

// tellLearning puts a fact for package population into the outbox. It may go ahead of the cut: of a customer at an epoch, and of a complaint, one telling counts.
func (t *task) tellLearning(f *samplesTold) {
	t.outbox.addAhead(t.cfg.Topics.Facts, alerts.Message{Key: factKey(factSamples, t.partition), Value: f.append(nil)})
}
