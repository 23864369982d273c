package stream

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ebb/detectors/cohorts"
	"ebb/detectors/population"
	"ebb/stream/conn"
	"ebb/stream/tail"
)

// models are what the second stage tells in its changelog of all customers together: what is known of the population, one model for each epoch, and which alerts
// about cohorts are open. One reader serves all tasks of the instance. What is told is immutable and shared.
type models struct {
	e   *Engine
	all atomic.Pointer[[]epochModel] // ascending; nil before what was there at the start has been read
	// standing is nil likewise.
	standing atomic.Pointer[cohorts.Standing]
	warned   bool // of a horizon that is too short; belongs to the reader
}

// shared is what a reader of the changelog has come to know.
type shared struct {
	models   []epochModel
	standing *cohorts.Standing
}

// epochModel is what was learnt up to an epoch. The model is nil where there was not enough to learn from.
type epochModel struct {
	epoch int64 // ms
	model *population.Model
}

// modelPrefix begins the keys of models in the changelog of the second stage; what follows is the epoch in ms.
const modelPrefix = "model/"

// keptModels is how many models are kept for those who still read history: a year and more.
const keptModels = 64

func modelKey(epoch int64) []byte { return strconv.AppendInt([]byte(modelPrefix), epoch, 10) }

// unread is the newest epoch as long as it is not known what was learnt before the start.
const unread = -2

// newest is the newest epoch of which is known what was learnt, ms; 0 while nothing was learnt, or unread.
func (m *models) newest() int64 {
	all := m.all.Load()
	switch {
	case all == nil:
		return unread
	case len(*all) == 0:
		return 0
	}
	return (*all)[len(*all)-1].epoch
}

// at is the model that is in force at an event time, nil if there is none.
func (m *models) at(ms int64) *population.Model {
	all := m.all.Load()
	if all == nil {
		return nil
	}
	want := epochFor(ms)
	for i := len(*all) - 1; i >= 0; i-- {
		if k := &(*all)[i]; k.epoch <= want {
			return k.model
		}
	}
	return nil
}

// run reads until ctx ends. What cannot be read is tried again: tasks that read history wait for it for a while, others go on with what they have.
func (m *models) run(ctx context.Context) {
	wait := firstRetry
	for ctx.Err() == nil {
		err := m.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		m.e.log.Warn("what is learnt from the population cannot be read; trying on", "topic", m.e.cfg.Topics.FactsChangelog, "err", err)
		_ = hold(ctx, wait)
		wait = min(2*wait, slowestRetry)
	}
}

// follow reads the changelog to its end, and then on. It has a fetcher of its own: the second stage reads the same partition when it is opened here.
func (m *models) follow(ctx context.Context) error {
	cluster, topic := m.e.deps.Cluster, m.e.cfg.Topics.FactsChangelog
	end, err := cluster.Offsets(ctx, topic, []int32{0}, conn.Latest, conn.ReadCommitted)
	if err != nil {
		return err
	}
	all := shared{models: []epochModel{}, standing: &cohorts.Standing{}} // what an earlier attempt read stays in force until this one has got as far
	read := func(r tail.Record) error {
		if err := m.take(&all, r.Key, r.Value); err != nil {
			return fmt.Errorf("offset %d: %w", r.Offset, err)
		}
		return nil
	}
	o := tail.Options{Topic: topic, Partitions: []int32{0}, UntilEnd: true}
	if err := tail.Read(ctx, cluster, o, read); err != nil {
		return err
	}
	m.tell(&all)
	o.UntilEnd, o.Offsets = false, end
	return tail.Read(ctx, cluster, o, func(r tail.Record) error {
		err := read(r)
		if err == nil {
			m.tell(&all)
		}
		return err
	})
}

// tell puts what is known into force.
func (m *models) tell(all *shared) {
	old := m.all.Load()
	known := old != nil && slices.Equal(*old, all.models)
	if known && m.standing.Load() == all.standing {
		return
	}
	if !known {
		models := slices.Clone(all.models)
		m.all.Store(&models)
		m.e.m.modelEpoch.Set(float64(m.newest()) / 1000)
		m.measure()
	}
	m.standing.Store(all.standing)
	m.e.wakeAll()
}

// measure tells how often customers come, and warns once where the horizon is too short for them.
func (m *models) measure() {
	all := *m.all.Load()
	if len(all) == 0 || all[len(all)-1].model == nil {
		return
	}
	model := all[len(all)-1].model
	m.e.m.modelGap.Set(float64(model.MedianGap()))
	if fits := model.FittingHorizon(); fits > model.Horizon() && !m.warned {
		m.warned = true
		m.e.log.Warn("alerts.horizon is short for how often these customers come: three of their usual gaps suit them better",
			"horizon_days", model.Horizon(), "median_gap_days", model.MedianGap(), "fitting_days", fits)
	}
}

// judged is the newest day of which is known which alerts about cohorts were open at its end; 0 while none was judged, or unread.
func (m *models) judged() int64 {
	s := m.standing.Load()
	if s == nil {
		return unread
	}
	return int64(s.Day)
}

// take takes one record of the changelog in; most are none of its business. What cannot be read leaves in force what was before it.
func (m *models) take(all *shared, key, value []byte) (err error) {
	if number, ok := strings.CutPrefix(string(key), modelPrefix); ok {
		all.models, err = m.takeModel(all.models, number, value)
		return err
	}
	if string(key) != standingKey {
		return nil
	}
	s, err := decodeStanding(value)
	if err != nil {
		m.e.log.Warn("which alerts about cohorts are open cannot be read; those known before stay in force", "err", err)
		return nil
	}
	all.standing = s
	return nil
}

// takeModel takes in a model of the epoch of a number.
func (m *models) takeModel(all []epochModel, number string, value []byte) ([]epochModel, error) {
	epoch, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return all, fmt.Errorf("key %q is not ebb's", modelPrefix+number)
	}
	i, known := slices.BinarySearchFunc(all, epoch, func(k epochModel, epoch int64) int { return int(k.epoch/epochEvery - epoch/epochEvery) })
	if value == nil {
		if known {
			all = slices.Delete(all, i, i+1)
		}
		return all, nil
	}
	k := epochModel{epoch: epoch}
	if len(value) != 0 {
		if k.model, err = population.DecodeModel(value); err != nil {
			m.e.log.Warn("a model of the population cannot be read; the one before it stays in force", "epoch", time.UnixMilli(epoch).UTC(), "err", err)
			if i > 0 {
				k.model = all[i-1].model
			}
		}
	}
	if known {
		all[i] = k
	} else {
		all = slices.Insert(all, i, k)
	}
	return all, nil
}

// wakeAll lets every task look for news.
func (e *Engine) wakeAll() {
	for _, t := range e.all() {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}
