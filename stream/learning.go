package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"ebb/detectors/population"
	"ebb/stream/batch"
)

// factSamples is the kind of the facts that carry samples of customers (sampling.go):
//
//	value   version (1 byte), group (text), epoch (varint, ms): all samples up to it are told with this fact, 0: more follow;
//	        samples, and outcomes of complaints (text), as package population encodes them
const factSamples = "samples"

// samplesTold is a fact of samples.
type samplesTold struct {
	group   string
	epoch   int64
	samples []byte
}

func (f *samplesTold) append(b []byte) []byte {
	b = appendString(append(b, factVersion), f.group)
	b = binary.AppendVarint(b, f.epoch)
	return appendString(b, string(f.samples))
}

func decodeSamples(b []byte) (*samplesTold, error) {
	d, group, err := openFact(b)
	if err != nil {
		return nil, err
	}
	f := &samplesTold{group: group, epoch: d.varint(), samples: []byte(d.str())}
	if err := d.closeFact(); err != nil {
		return nil, err
	}
	return f, nil
}

// learning folds the samples of all partitions into what is known of the population. An epoch is closed once every partition has told its samples up to
// it; what is learnt is then the same in whatever order they came. It belongs to the second stage.
type learning struct {
	fold   *population.Fold
	closed int64         // newest closed epoch, ms; 0: none
	oldest int64         // of the epochs of which samples have come, ms; 0: none have
	levels levels        // in epochs, ms
	models []int64       // epochs of the models that are kept, ascending, ms
	out    []epochResult // for the next transaction
	// unsaved is the offset of the first fact of samples that the stored fold does not hold, -1 if it holds all.
	unsaved int64
	pieces  pieces // the fold, as it is stored
	cfg     population.Config
}

// epochResult is what closing an epoch gave: an encoded model, empty where there was not enough to learn from, nil where the model is dropped.
type epochResult struct {
	epoch int64
	model []byte
}

// learntPrefix begins the keys under which the fold is stored.
const learntPrefix = "learnt/"

func newLearning(cfg population.Config) *learning {
	return &learning{fold: population.NewFold(cfg), levels: newLevels(learnWithin), unsaved: -1, cfg: cfg, pieces: pieces{prefix: learntPrefix}}
}

// take folds one fact of a partition, written at the given wall clock.
func (l *learning) take(p int32, f *samplesTold, partitions int32, offset, now int64) error {
	if err := l.observe(f); err != nil {
		return err
	}
	if l.unsaved < 0 {
		l.unsaved = offset
	}
	if l.levels.tell(p, f.epoch, l.closed, now) {
		l.close(partitions, now)
	}
	return nil
}

// observe takes in the samples of a fact.
func (l *learning) observe(f *samplesTold) error {
	d := &decoder{b: f.samples}
	for len(d.b) != 0 && d.err == nil {
		b := []byte(d.str())
		if d.err != nil {
			break
		}
		if population.IsOutcome(b) {
			o, err := population.DecodeOutcome(b)
			if err != nil {
				return err
			}
			l.fold.ObserveOutcome(o)
			continue
		}
		s, err := population.DecodeSample(b)
		if err != nil {
			return err
		}
		if epoch := int64(s.Epoch) * dayMs; l.oldest == 0 || epoch < l.oldest {
			l.oldest = epoch
		}
		l.fold.Observe(s) // what is closed stays, though history be told again
	}
	if d.err != nil {
		return fmt.Errorf("samples: %w", d.err)
	}
	return nil
}

// again takes in the samples of a fact that was told before the stage was opened.
func (l *learning) again(rec *batch.Record, group string) error {
	f, err := decodeSamples(rec.Value)
	if err == nil && f.group == group {
		err = l.observe(f)
	}
	return err
}

// learnWithin is for how long the samples of an epoch are waited for: less than tasks wait for its model.
const learnWithin = 90 * time.Second

// close closes the epochs that every partition has told.
func (l *learning) close(partitions int32, now int64) {
	low := l.levels.whole(partitions, l.closed, now)
	if low <= l.closed {
		return
	}
	next := l.closed + epochEvery
	if l.closed == 0 {
		next = low
		if l.oldest != 0 {
			next = min(low, l.oldest)
		}
	}
	for epoch := next; epoch <= low; epoch += epochEvery {
		var encoded []byte
		if m := l.fold.Close(epochDay(epoch)); m != nil {
			encoded = population.AppendModel(nil, m)
		}
		l.keep(epoch, encoded)
		l.closed = epoch
	}
	l.levels.closed(partitions, l.closed, now)
}

// keep notes a model for the next transaction, and drops the oldest beyond those that are kept.
func (l *learning) keep(epoch int64, encoded []byte) {
	l.out = append(l.out, epochResult{epoch, append([]byte{}, encoded...)})
	l.models = append(l.models, epoch)
	for len(l.models) > keptModels {
		l.out = append(l.out, epochResult{l.models[0], nil})
		l.models = l.models[1:]
	}
}

// append encodes what is not stored under keys of its own.
func (l *learning) append(b []byte) []byte {
	b = binary.AppendVarint(b, l.closed)
	b = binary.AppendVarint(b, l.oldest)
	b = binary.AppendVarint(b, l.levels.began)
	b = binary.AppendVarint(b, l.unsaved)
	b = binary.AppendUvarint(b, uint64(len(l.levels.told)))
	for _, p := range slices.Sorted(maps.Keys(l.levels.told)) {
		b = binary.AppendUvarint(b, uint64(p))
		b = binary.AppendVarint(b, l.levels.told[p])
	}
	return b
}

func (l *learning) decode(d *decoder) {
	l.closed, l.oldest, l.levels.began, l.unsaved = d.varint(), d.varint(), d.varint(), d.varint()
	clear(l.levels.told)
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		p := int32(d.uvarint())
		l.levels.told[p] = d.varint()
	}
}

// restored makes the fold of what the changelog held.
func (l *learning) restored() error {
	chunks := l.pieces.restored()
	if chunks == nil {
		return nil
	}
	fold, err := population.DecodeFold(l.cfg, chunks)
	if err != nil {
		return fmt.Errorf("what is learnt of the population: %w", err)
	}
	l.fold = fold
	return nil
}

// write passes on what the next transaction stores, after an epoch was closed: the fold, and models.
func (l *learning) write(add func(key, value []byte) error) error {
	if len(l.out) == 0 {
		return nil
	}
	err := l.pieces.write(l.fold.Chunks(), add)
	l.unsaved = -1
	for _, r := range l.out {
		err = errors.Join(err, add(modelKey(r.epoch), r.model))
	}
	return err
}

// restore takes in a record of the changelog that holds a part of the fold, or a model.
func (l *learning) restore(key string, value []byte) error {
	if strings.HasPrefix(key, learntPrefix) {
		return l.pieces.restore(key, value)
	}
	epoch, err := strconv.ParseInt(strings.TrimPrefix(key, modelPrefix), 10, 64)
	if err != nil {
		return fmt.Errorf("key %q is not ebb's", key)
	}
	i, known := slices.BinarySearch(l.models, epoch)
	switch {
	case value == nil && known:
		l.models = slices.Delete(l.models, i, i+1)
	case value != nil && !known:
		l.models = slices.Insert(l.models, i, epoch)
	}
	return nil
}
