package stream

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ebb/detectors/population"
	"ebb/stream/conn"
	"ebb/stream/tail"
)

// models are what is known of the population, one model for each epoch, as the second stage tells it in its changelog. One reader serves all
// tasks of the instance. Models are immutable and shared.
type models struct {
	e   *Engine
	all atomic.Pointer[[]epochModel] // ascending; nil before what was there at the start has been read
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
	all := []epochModel{} // what an earlier attempt read stays in force until this one has got as far
	read := func(r tail.Record) (err error) {
		if all, err = m.take(all, r.Key, r.Value); err != nil {
			err = fmt.Errorf("offset %d: %w", r.Offset, err)
		}
		return err
	}
	o := tail.Options{Topic: topic, Partitions: []int32{0}, UntilEnd: true}
	if err := tail.Read(ctx, cluster, o, read); err != nil {
		return err
	}
	m.tell(all)
	o.UntilEnd, o.Offsets = false, end
	return tail.Read(ctx, cluster, o, func(r tail.Record) error {
		err := read(r)
		if err == nil {
			m.tell(all)
		}
		return err
	})
}

// tell puts models into force.
func (m *models) tell(all []epochModel) {
	if old := m.all.Load(); old != nil && slices.Equal(*old, all) {
		return
	}
	all = slices.Clone(all)
	m.all.Store(&all)
	m.e.m.modelEpoch.Set(float64(m.newest()) / 1000)
	m.e.wakeAll()
}

// take takes one record of the changelog in; most are none of its business. Where a model cannot be read the one before it stays in force.
func (m *models) take(all []epochModel, key, value []byte) ([]epochModel, error) {
	number, ok := strings.CutPrefix(string(key), modelPrefix)
	if !ok {
		return all, nil
	}
	epoch, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return all, fmt.Errorf("key %q is not ebb's", key)
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
