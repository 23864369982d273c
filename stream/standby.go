package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"ebb/state"
	"ebb/stream/conn"
	"ebb/stream/group"
)

// follower keeps the local copy of a partition that another instance owns: it reads what is committed of the changelog and writes it
// to the store of that partition here. It has no producer and no part in any transaction, so that nobody can take it for an owner.
//
// When the partition is assigned to this instance the follower ends, and the task opens the store and replays what is missing: a few
// seconds of changes.
type follower struct {
	partition int32
	e         *Engine
	log       *slog.Logger
	ctx       context.Context // ends when the copy is not wanted any more
	cancel    context.CancelFunc
	done      chan struct{}
	wake      chan struct{}

	at   atomic.Int64 // changelog position up to which a task that opens the copy need not read
	lag  atomic.Int64 // changelog offsets to its end, -1 while not known
	near atomic.Bool  // it has caught up once, and that is on disk
}

const (
	// copyAge is how long changes wait until they are written to a copy: what a take-over has to read again.
	copyAge = 5 * time.Second
	// copyTouch is how often a copy is written although nothing has changed, so that its age tells when it was current.
	copyTouch = time.Hour
	// copyLook is how often a copy without news looks at its age.
	copyLook = time.Second
)

func (e *Engine) newFollower(p int32) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{
		partition: p, e: e, log: e.log.With("partition", p), ctx: ctx, cancel: cancel,
		done: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	f.lag.Store(-1)
	return f
}

// run follows until the copy is not wanted any more. After a fault it begins anew where the store stands.
func (f *follower) run() {
	defer close(f.done)
	wait := firstRetry
	for f.ctx.Err() == nil {
		began := f.e.deps.Tick()
		err := f.follow()
		if f.ctx.Err() != nil {
			return
		}
		if f.e.deps.Tick().Sub(began) > time.Minute {
			wait = firstRetry
		}
		if !errors.Is(err, state.ErrCorrupt) || !setAside(f.e.deps.State, f.partition, err, f.e.m, f.log) {
			f.log.Warn("the standby copy cannot follow the changelog; trying on", "err", err)
		}
		_ = hold(f.ctx, wait)
		wait = min(2*wait, slowestRetry)
	}
}

// follow opens the store and keeps it up to date.
func (f *follower) follow() (err error) {
	store, aside, err := f.e.deps.State.Task(f.partition)
	if err != nil {
		return fmt.Errorf("local state of partition %d: %w", f.partition, err)
	}
	defer func() {
		if closing := store.Close(); err == nil {
			err = closing
		}
	}()
	if aside != nil {
		f.e.m.setAside.Inc()
		f.log.Warn("local state did not open and was set aside; it is rebuilt from the changelog", "err", aside)
	}
	from, err := f.place(store)
	if err != nil {
		return err
	}
	f.at.Store(from)
	f.log.Info("following the changelog for a standby copy", "from", from)
	r := state.NewRestorer(store)
	r.Slots, r.MemoryBytes = f.e.slots, f.e.restoreShare()
	return f.read(r, from)
}

// place is where the copy goes on in the changelog.
func (f *follower) place(store state.Store) (int64, error) {
	topic, ids := f.e.cfg.Topics.Changelog, []int32{f.partition}
	start, err := f.e.deps.Cluster.Offsets(f.ctx, topic, ids, conn.Earliest, conn.ReadUncommitted)
	if err != nil {
		return 0, fmt.Errorf("changelog: %w", err)
	}
	end, err := f.e.deps.Cluster.Offsets(f.ctx, topic, ids, conn.Latest, conn.ReadUncommitted)
	if err != nil {
		return 0, fmt.Errorf("changelog: %w", err)
	}
	from, err := store.Position()
	if err != nil {
		return 0, fmt.Errorf("position of the local state: %w", err)
	}
	if from > end[f.partition] {
		return 0, fmt.Errorf("%w: the local state is at offset %d, %s partition %d ends at %d", ErrForeignChangelog, from, topic, f.partition, end[f.partition])
	}
	return max(from, start[f.partition]), nil
}

func (f *follower) read(r *state.Restorer, from int64) error {
	p := f.e.fetcher.Open(f.e.cfg.Topics.Changelog, f.partition, from, f.wake)
	defer p.Close()
	saved, at := f.e.deps.Tick(), from
	heard, current := saved, false
	for pos := from; ; {
		b, st := p.Poll()
		if b != nil {
			n, size := b.Len(), 0
			var err error
			for i := 0; i < n && err == nil; i++ {
				rec := b.At(i)
				size += len(rec.Key) + len(rec.Value)
				err = r.Apply(rec.Key, rec.Value, rec.Offset)
			}
			pos = b.NextOffset()
			b.Release()
			if err != nil {
				return err
			}
			f.e.m.restored.Add(float64(n))
			if err := hold(f.ctx, f.e.throttle.take(size)); err != nil {
				return err
			}
		} else {
			if st.Err != nil {
				return st.Err
			}
			pos = max(pos, st.Delivered)
		}
		if st.HighWatermark >= 0 {
			f.lag.Store(max(0, st.HighWatermark-pos))
		}
		now := f.e.deps.Tick()
		if st.Trouble == nil {
			heard = now
		} else if now.Sub(heard) > copyTouch { // whether the copy may still be used is asked when it is opened
			return fmt.Errorf("the changelog gave no answer for %s: %w", copyTouch, st.Trouble)
		}
		switch age := now.Sub(saved); {
		case !current && st.HighWatermark >= 0 && f.lag.Load() <= f.e.acceptableLag():
			// From here on a take-over reads little, so all before has to be on disk.
			if err := r.Finish(pos); err != nil {
				return err
			}
			f.near.Store(true)
			f.at.Store(pos)
			saved, at, current = now, pos, true
		case age >= copyTouch && st.AtEnd && st.Trouble == nil, age >= copyAge && pos > at && f.near.Load(), age >= checkpointEvery && pos > at:
			if err := r.Checkpoint(pos); err != nil {
				return err
			}
			saved, at = now, pos
		}
		if f.near.Load() {
			f.at.Store(pos)
		}
		if b == nil {
			if err := f.await(); err != nil {
				return err
			}
		}
	}
}

// await sleeps until there is news from the fetcher, or it is time to look at the age.
func (f *follower) await() error {
	timer := time.NewTimer(copyLook)
	defer timer.Stop()
	select {
	case <-f.ctx.Done():
		return f.ctx.Err()
	case <-f.wake:
	case <-timer.C:
	}
	return nil
}

// endAll ends followers at the same time, and waits until their stores are closed.
func endAll(all []*follower) {
	for _, f := range all {
		f.cancel()
	}
	for _, f := range all {
		<-f.done
	}
}

// acceptableLag is how far behind a copy may be and still take over at once.
func (e *Engine) acceptableLag() int64 {
	if n := e.cfg.Membership.AcceptableLag; n > 0 {
		return n
	}
	return 100_000
}

// restoreShare is the part of the memory for restores that falls to one copy.
func (e *Engine) restoreShare() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cfg.Restore.Memory / int64(max(1, len(e.tasks)+len(e.followers)))
}

// unwanted takes the followers out that a generation does not ask for, those of partitions that come to this instance among them.
// Call with the engine locked.
func (e *Engine) unwanted(g *group.Generation) (gone []*follower) {
	for p, f := range e.followers {
		if !slices.Contains(g.Copies, p) {
			gone = append(gone, f)
			delete(e.followers, p)
			e.m.standbyLag.DeleteLabelValues(partitionLabel(p))
		}
	}
	return gone
}

// follow begins the copies of a generation that are not followed yet. Call with the engine locked.
func (e *Engine) follow(g *group.Generation) {
	for _, p := range g.Copies {
		if e.followers[p] == nil && e.tasks[p] == nil {
			f := e.newFollower(p)
			e.followers[p] = f
			go f.run()
		}
	}
	e.m.standbys.Set(float64(len(e.followers)))
	e.generation = g
	select {
	case e.copying <- struct{}{}:
	default:
	}
}

// mindCopies shows how far the copies are, and asks for the partitions that are to come to this instance once it is ready for them.
func (e *Engine) mindCopies(ctx context.Context) {
	ask := asking{tick: e.deps.Tick}
	for e.awaitCopies(ctx) {
		e.mu.Lock()
		g := e.generation
		ready := 0
		for p, f := range e.followers {
			if lag := f.lag.Load(); lag >= 0 {
				e.m.standbyLag.WithLabelValues(partitionLabel(p)).Set(float64(lag))
			}
			if g != nil && f.near.Load() && f.lag.Load() <= e.acceptableLag() && slices.Contains(g.Coming, p) {
				ready++
			}
		}
		e.mu.Unlock()
		if g != nil && ask.due(ready, len(g.Coming)) {
			e.log.Info("caught up with partitions that are to come here; asking for them", "partitions", ready)
			g.Rejoin(group.ErrCaughtUp)
		}
	}
}

// awaitCopies waits for a moment, or for as long as there are no copies. It returns false when ctx has ended.
func (e *Engine) awaitCopies(ctx context.Context) bool {
	e.mu.Lock()
	n := len(e.followers)
	e.mu.Unlock()
	if n > 0 {
		return hold(ctx, copyLook/2) == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-e.copying:
		return true
	}
}

// asking decides when to ask for the partitions that are to come. Each time holds up the whole group for a moment, so that it is done
// when all are ready, or some have been for a while; and more and more rarely when it does not help.
type asking struct {
	tick  func() time.Time
	since time.Time // when the first was ready
	next  time.Time // not before
	pause time.Duration
}

const (
	// askAnyway is how long those that are ready wait for the others.
	askAnyway = 15 * time.Second
	// askAgain and askRarely bound the pause after asking.
	askAgain, askRarely = 10 * time.Second, 5 * time.Minute
)

func (a *asking) due(ready, coming int) bool {
	now := a.tick()
	if coming == 0 {
		a.pause, a.next = 0, time.Time{}
	}
	if ready == 0 {
		a.since = time.Time{}
		return false
	}
	if a.since.IsZero() {
		a.since = now
	}
	if now.Before(a.next) || ready < coming && now.Sub(a.since) < askAnyway {
		return false
	}
	a.pause = min(max(2*a.pause, askAgain), askRarely)
	a.next, a.since = now.Add(a.pause), time.Time{}
	return true
}
